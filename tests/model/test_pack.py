"""Packed weights: ranges that hold all inputs, whole numbers that 16 bits hold, tensors of the right type and shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch", reason="weights are those of the network, of the extra `train`")

from conftest import KINDS, rounded  # noqa: E402
from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.errors import BundleError  # noqa: E402
from music_generator.model.config import MEMORY_HEADS, TIME_TO_GO_EDGES, VALUE  # noqa: E402
from music_generator.model.export import input_ranges  # noqa: E402
from music_generator.model.network import Network  # noqa: E402
from music_generator.model.pack import (  # noqa: E402
    LEVELS,
    PRECISIONS,
    LinearShape,
    Table,
    check_packed,
    constants,
    layout,
    pack,
    quantize_weights,
    tensors_of,
)
from music_generator.music.tokens import (  # noqa: E402
    DURATION_BINS,
    SHIFT_BINS,
    VELOCITY_BINS,
    Array,
    Window,
)
from music_generator.training.batches import to_batch  # noqa: E402
from music_generator.training.release import shown_music  # noqa: E402

# --- ranges


OF_MEMORY = {"memory.values", "memory.gate"}
RANGED = {f"heads.{name}.{part}" for name in ("shift", "key", "velocity", "duration") for part in ("hidden", "out")}


@pytest.mark.parametrize("name", ["heads.key.out", "heads.duration.hidden", "fuse", "memory.values", "memory.gate"])
def test_ranges_hold_all_inputs_of_the_maps(tiny_network: Network, tiny_corpus: Corpus, name: str) -> None:
    """The very smallest and largest input of each map of heads and of `fuse`, on the music that is shown."""
    music = shown_music(tiny_corpus)
    ranges = input_ranges(tiny_network, music)
    assert set(ranges) == RANGED | {"fuse"} | OF_MEMORY
    seen: list[torch.Tensor] = []
    layer = tiny_network.get_submodule({"fuse": "fuse_out", "memory.values": "memory.to_context"}.get(name, name))
    read = slice(MEMORY_HEADS * VALUE if name == "memory.values" else None)
    hook = layer.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][..., read]))
    with torch.no_grad():
        reading = tiny_network.read(music)
        tiny_network.without_future(reading)
        tiny_network.with_future(reading)
    hook.remove()
    assert ranges[name] == (min(float(each.min()) for each in seen), max(float(each.max()) for each in seen))
    assert ranges == input_ranges(tiny_network, music)
    assert not any(module._forward_pre_hooks for module in tiny_network.modules())


def test_ranges_are_found_in_music_without_any_future(tiny_network: Network, tiny_corpus: Corpus) -> None:
    """No gap is resumed at: the head of shift is asked for no decision; one window of one token is enough."""
    for rows in (tiny_corpus.piece_rows(0)[:30], tiny_corpus.piece_rows(0)[:1]):
        ranges = input_ranges(tiny_network, to_batch([Window(rows, True, True)], 30))
        assert set(ranges) == RANGED | {"fuse"} | OF_MEMORY
        assert all(np.isfinite(each).all() and each[0] < each[1] for each in ranges.values())


def test_ranges_of_a_forward_network_and_what_it_was_doing(tiny_network: Network, tiny_corpus: Corpus) -> None:
    torch.manual_seed(0)
    network = Network(replace(tiny_network.config, direction="forward", memory=0, dropout=0.5)).train()
    music = shown_music(tiny_corpus)
    ranges = input_ranges(network, music)
    assert set(ranges) == RANGED
    assert network.training
    assert ranges == input_ranges(network, music)  # without dropout


def test_shown_music_is_of_the_train_split_with_and_without_a_future(tiny_corpus: Corpus) -> None:
    music = shown_music(tiny_corpus)
    assert music.key.shape[0] == 16
    has_future = music.resume < music.key.shape[1]
    assert has_future[music.present].any()
    assert not has_future[music.present].all()
    assert not music.composer.any()
    again = shown_music(tiny_corpus)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(music).items())
    only = replace(tiny_corpus, pieces=tiny_corpus.pieces[:5])
    assert torch.equal(shown_music(only).key, music.key)


# --- weights in 8 bits


def sums_of_one_sign(whole: Array) -> Array:
    """The larger of the sums of the positive and of the negative weights in each pair of inputs, (pairs, O)."""
    padded = np.pad(whole.astype(int), ((0, len(whole) % 2), (0, 0))).reshape(-1, 2, whole.shape[1])
    return np.maximum(padded.clip(min=0).sum(1), -padded.clip(max=0).sum(1))


@pytest.mark.parametrize("parts", [(333,), (332, 1), (61, 272), (1, 332), (17, 16, 300)])
def test_pairs_of_weights_stay_within_16_bits_and_scales_are_no_larger_than_need_be(parts: tuple[int, ...]) -> None:
    """A pair lies within a part: each part begins at an even place, whatever is before it."""
    weight = np.random.default_rng(5).normal(size=(333, 50))
    weight[:, 7] = 0
    whole, scale = quantize_weights(weight, parts)
    split = np.cumsum(parts)[:-1]
    sums = np.concatenate([sums_of_one_sign(part) for part in np.split(whole, split)])
    assert whole.dtype == np.int8
    assert sums.max() <= 128
    assert sums.max() * LEVELS <= 2**15 - 1
    reached = (sums.max(0) >= 127) | (np.abs(whole).max(0) == 127)
    assert reached.tolist() == [column != 7 for column in range(50)]
    exact = np.concatenate([sums_of_one_sign_exact(part) for part in np.split(weight / scale, split)])
    tight = np.maximum(exact.max(0) / 128, np.abs(weight / scale).max(0) / 127)
    np.testing.assert_allclose(tight, [float(column != 7) for column in range(50)])
    np.testing.assert_allclose(whole * scale, weight, atol=scale.max() / 2 + 1e-12)


def sums_of_one_sign_exact(weight: Array) -> Array:
    padded = np.pad(weight, ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    return np.asarray(np.maximum(padded.clip(min=0).sum(1), -padded.clip(max=0).sum(1)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(arrays(np.float64, (6, 3), elements=st.integers(-256, 256).map(lambda x: x / 2)))
def test_pairs_of_any_weights_stay_within_16_bits(weight: Array) -> None:
    """Of halves, which are rounded to even: two that are rounded up may not come to one more than they may."""
    whole, _ = quantize_weights(weight, (6,))
    assert sums_of_one_sign(whole).max() <= 128
    assert np.abs(whole.astype(int)).max() <= 127


# --- tensors


def packed(network: Network, corpus: Corpus, precision: str) -> dict[str, Array]:
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    ranges = input_ranges(network, shown_music(corpus)) if precision == "int8" else None
    return pack(weights, network.config, ranges)


@pytest.fixture(scope="module", params=PRECISIONS)
def some(request: pytest.FixtureRequest, tiny_network: Network, tiny_corpus: Corpus) -> tuple[str, dict[str, Array]]:
    """A precision and the tensors of a small model; not to be changed."""
    return request.param, packed(rounded(tiny_network), tiny_corpus, request.param)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_layout_has_the_tensors_that_are_packed(
    tiny_network: Network, tiny_corpus: Corpus, kind: str, precision: str
) -> None:
    torch.manual_seed(3)
    config = replace(tiny_network.config, **KINDS[kind])
    tensors = packed(Network(config).eval(), tiny_corpus, precision)
    wanted = {
        name: (shape, np.dtype(dtype)) for part in layout(config) for name, shape, dtype in tensors_of(part, precision)
    }
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} == wanted
    found = check_packed(tensors, config, precision, "made")
    assert list(found) == list(wanted)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, tensors[name])
        assert tensor.flags.c_contiguous
        assert tensor.dtype in (np.int8, np.float32)  # tables of float16 come as float32


def test_packed_weights_are_the_folded_ones(tiny_network: Network, tiny_corpus: Corpus) -> None:
    """In 8 bits to half a step of float32's; biases are the same, tables those of float16."""
    network = rounded(tiny_network)
    whole, exact = (packed(network, tiny_corpus, precision) for precision in PRECISIONS)
    for part in layout(network.config):
        for name, _, _ in tensors_of(part, "float32"):
            if not name.endswith(".weight"):
                np.testing.assert_array_equal(whole[name], exact[name].astype(whole[name].dtype))
        if isinstance(part, LinearShape):
            levels, zero_point = whole[f"{part.name}.input"]
            scale = whole[f"{part.name}.scale"] * levels
            difference = np.abs(whole[f"{part.name}.weight"] * scale - exact[f"{part.name}.weight"])
            assert (difference <= 0.501 * scale + 1e-7).all(), part.name
            assert zero_point == round(float(zero_point))
            assert 0 <= zero_point <= LEVELS


def test_scales_of_the_memory_are_float32_in_every_precision(
    some: tuple[str, dict[str, Array]], tiny_network: Network
) -> None:
    _, tensors = some
    exact = [part.name for part in layout(tiny_network.config) if isinstance(part, Table) and part.exact]
    assert exact == ["memory.scales"]
    assert tensors["memory.scales"].dtype == np.float32
    memory = tiny_network.memory
    scale = memory.log_scale.detach().exp()
    np.testing.assert_allclose(tensors["memory.scales"], torch.stack([scale, memory.null.detach() * scale]), rtol=1e-3)


def test_what_is_packed_does_not_depend_on_the_machine(tiny_network: Network, tiny_corpus: Corpus) -> None:
    """The same weights and ranges, the same bytes."""
    network = rounded(tiny_network)
    one, other = (packed(network, tiny_corpus, "int8") for _ in range(2))
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


WEIGHT, BIAS, TABLE = "heads.key.hidden.weight", "context.bias", "forward.composer"
Change = Callable[[dict[str, Array]], object]


def put(name: str, change: Callable[[Array], Array]) -> Change:
    return lambda tensors: tensors.update({name: change(tensors[name])})


def spoil(name: str, value: float) -> Change:
    def change(tensors: dict[str, Array]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name].flat[-1] = value

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop(WEIGHT), f"tensor '{WEIGHT}' must be TYPE of 14×14, but is missing"),
        (lambda t: t.pop(TABLE), f"tensor '{TABLE}' must be OF_TABLE of 3×64, but is missing"),
        (put(WEIGHT, lambda x: x[:, :-1]), f"tensor '{WEIGHT}' must be TYPE of 14×14, but is TYPE of 14×13"),
        (put(TABLE, lambda x: x[:-1]), f"tensor '{TABLE}' must be OF_TABLE of 3×64, but is OF_TABLE of 2×64"),
        (put(BIAS, lambda x: x[:0]), f"tensor '{BIAS}' must be float32 of 28, but is float32 of 0"),
        (put(BIAS, lambda x: x[:1].reshape(())), f"'{BIAS}' must be float32 of 28, but is float32 of one number"),
        (put(WEIGHT, lambda x: x.astype(np.uint8)), f"tensor '{WEIGHT}' must be TYPE of 14×14, but is uint8 of 14×14"),
        (put(TABLE, lambda x: x.astype(np.float64)), f"'{TABLE}' must be OF_TABLE of 3×64, but is float64 of 3×64"),
        (put(BIAS, lambda x: x.astype(np.float64)), f"tensor '{BIAS}' must be float32 of 28, but is float64 of 28"),
        (lambda t: t.update(stranger=np.zeros(3)), "tensor 'stranger' is not one of this model's"),
        (lambda t: t.update({f"{BIAS}2": t[BIAS]}), f"tensor '{BIAS}2' is not one of this model's"),
        (spoil(BIAS, np.nan), f"tensor '{BIAS}' holds NaN or infinity"),
        (spoil(TABLE, np.inf), f"tensor '{TABLE}' holds NaN or infinity"),
        (spoil("heads.shift.out.bias", -np.inf), "tensor 'heads.shift.out.bias' holds NaN or infinity"),
        (lambda t: t.pop("memory.scales"), "tensor 'memory.scales' must be float32 of 2×6, but is missing"),
        (spoil("memory.scales", np.nan), "tensor 'memory.scales' holds NaN or infinity"),
        (put("memory.scales", lambda x: x.astype(np.float16)), "must be float32 of 2×6, but is float16 of 2×6"),
        (put("memory.scales", lambda x: x[:, :5]), "'memory.scales' must be float32 of 2×6, but is float32 of 2×5"),
        (lambda t: t.pop("memory.group_keys_wait"), "tensor 'memory.group_keys_wait' must be OF_TABLE of 89×384, but"),
        (put("memory.event_keys", lambda x: x[:92]), "'memory.event_keys' must be OF_TABLE of 93×1024, but is"),
        (put("memory.values.weight", lambda x: x[:-1]), "'memory.values.weight' must be TYPE of 384×28, but is"),
        (lambda t: t.pop("memory.keys.bias"), "tensor 'memory.keys.bias' must be float32 of 42, but is missing"),
        (spoil("density", np.inf), "tensor 'density' holds NaN or infinity"),
        (put("loudness", lambda x: x[1:]), "tensor 'loudness' must be OF_TABLE of 9×28, but is OF_TABLE of 8×28"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named(
    some: tuple[str, dict[str, Array]], tiny_network: Network, change: Change, text: str
) -> None:
    """In one line: the compiled code trusts what comes to it."""
    precision, tensors = some
    tensors = dict(tensors)
    change(tensors)
    with pytest.raises(BundleError) as caught:
        check_packed(tensors, tiny_network.config, precision, "folder/file")
    text = text.replace("TYPE", precision).replace("OF_TABLE", {"int8": "float16"}.get(precision, "float32"))
    assert text in str(caught.value)
    assert str(caught.value).startswith("folder/file: ")
    assert str(caught.value).endswith("; get or train the model again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["heads.key.out.scale", "fuse.input"])
def test_scales_must_be_finite(tiny_network: Network, tiny_corpus: Corpus, name: str) -> None:
    tensors = packed(rounded(tiny_network), tiny_corpus, "int8")
    tensors[name][0] = np.nan
    with pytest.raises(BundleError, match=f"tensor '{name}' holds NaN or infinity"):
        check_packed(tensors, tiny_network.config, "int8", "file")


def test_a_model_of_another_precision_or_size_is_refused(
    some: tuple[str, dict[str, Array]], tiny_network: Network
) -> None:
    precision, tensors = some
    other = {"int8": "float32", "float32": "int8"}[precision]
    with pytest.raises(BundleError, match=r"tensor .* is not one of this model's|tensor .* must be"):
        check_packed(tensors, tiny_network.config, other, "file")
    sizes = {"head_size": 15}, {"forward_layers": 1}, {"cell": "rnn"}, {"direction": "forward"}
    for change in (*sizes, {"memory": 0}, {"steered": False}):
        with pytest.raises(BundleError, match=r"tensor .* is not one of this model's|tensor .* must be"):
            check_packed(tensors, replace(tiny_network.config, **change), precision, "file")


def test_bins_are_those_of_the_tokens() -> None:
    *values, edges = constants()
    bins = SHIFT_BINS, VELOCITY_BINS, DURATION_BINS
    wanted = [each for field in bins for each in (field.edges[:-1], field.widths)]
    assert len(values) == len(wanted)
    for found, each in zip(values, wanted, strict=True):
        np.testing.assert_array_equal(found, each)
    np.testing.assert_array_equal(edges, TIME_TO_GO_EDGES)
    assert all(each.dtype == np.int32 for each in constants())


@pytest.mark.parametrize("values", [(3e38, 3e38), (100, 256), (100, -1), (100, 0.5), (0, 3), (-2, 3)])
def test_the_scale_of_inputs_must_be_one(
    tiny_network: Network, tiny_corpus: Corpus, values: tuple[float, float]
) -> None:
    tensors = packed(rounded(tiny_network), tiny_corpus, "int8")
    tensors["fuse.input"] = np.array(values, np.float32)
    with pytest.raises(BundleError, match=r"file: tensor 'fuse\.input' must be a number above 0 and a whole number"):
        check_packed(tensors, tiny_network.config, "int8", "file")
