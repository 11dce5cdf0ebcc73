"""The step of generation in torch, as it is exported: folded parts equal the network's, draws follow distributions."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="graphs are made with torch, of the extra `train`")
pytest.importorskip("onnx", reason="graphs are made with onnx, of the extra `train`")
onnxruntime = pytest.importorskip("onnxruntime")

from conftest import nucleus  # noqa: E402
from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.model.config import MASKED, NONE_AHEAD  # noqa: E402
from music_generator.model.network import CELL_CLASSES, Network, recency_roll, soon  # noqa: E402
from music_generator.model.step import Product, Rolls, cell_step, draw, gates, input_ranges, of_rolls, whole_weights  # noqa: E402
from music_generator.music.tokens import NUM_KEYS, Array  # noqa: E402
from music_generator.training.release import shown_music  # noqa: E402
from music_generator.training.windows import Window, to_batch  # noqa: E402


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- ranges


RANGED = {f"heads.{name}.{part}" for name in ("shift", "key", "velocity", "duration") for part in ("hidden", "out")}


def test_ranges_hold_all_inputs_of_the_matrices(tiny_network: Network, tiny_corpus: Corpus) -> None:
    """Of each matrix of heads and join the very smallest and largest input, on the music that is shown."""
    music = shown_music(tiny_corpus)
    ranges = input_ranges(tiny_network, music)
    assert set(ranges) == RANGED | {"join_out"}
    seen: list[torch.Tensor] = []
    layer = tiny_network.heads["key"].out
    hook = layer.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        tiny_network.logits(music)
    hook.remove()
    assert ranges["heads.key.out"] == (float(seen[0].min()), float(seen[0].max()))
    assert ranges == input_ranges(tiny_network, music)
    assert not any(module._forward_pre_hooks for module in tiny_network.modules())


def test_ranges_are_found_in_music_without_any_future(tiny_network: Network, tiny_corpus: Corpus) -> None:
    """No gap is resumed at: the head of shift is asked for no decision; one window of one token is enough."""
    for rows in (tiny_corpus.piece_rows(0)[:30], tiny_corpus.piece_rows(0)[:1]):
        windows = [Window(rows, 0, True, True)]
        alone = to_batch(windows, 30, np.full((1, 30), 30))
        ranges = input_ranges(tiny_network, alone)
        assert set(ranges) == RANGED | {"join_out"}
        assert all(np.isfinite(each).all() and each[0] < each[1] for each in ranges.values())


def test_ranges_of_a_forward_network_and_what_it_was_doing(tiny_network: Network, tiny_corpus: Corpus) -> None:
    torch.manual_seed(0)
    network = Network(replace(tiny_network.config, direction="forward", dropout=0.5)).train()
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


# --- products in 8 bits


def as_graph(module: torch.nn.Module, x: torch.Tensor, path: Path) -> Array:
    """What ONNX Runtime makes of a module of one input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x[:2],), str(path), input_names=["x"], output_names=["y"], opset_version=17, dynamo=False,
            dynamic_axes={"x": {0: "N"}, "y": {0: "N"}}, custom_opsets={"com.microsoft": 1},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize("inputs", [(-1.0, 1.0), (-0.2, 3.0), (0.0, 0.5), (-2.0, 0.0)])
def test_a_product_in_8_bits_is_what_the_runtime_computes(tmp_path: Path, inputs: tuple[float, float]) -> None:
    """Past the range too, where inputs are cut; with weights as large as can be, whose sums must not overflow."""
    weight, bias = numbers(30, 201), numbers(30, seed=1)
    weight[0] = 1.0
    weight[1, ::2] = -1.0
    weight[2] = 0.0
    weight[3] = -1.0
    weight[4, 1::4] = 0.01
    product = Product(weight, bias, inputs)
    low, high = inputs
    x = low + (high - low) * torch.rand(50, 201, generator=torch.Generator().manual_seed(2))
    x[0], x[1], x[2] = high, low, 5 * high + 1
    found = as_graph(product, x, tmp_path / "product.onnx")
    np.testing.assert_allclose(found, product(x).numpy(), rtol=1e-5, atol=1e-5)
    # near the exact product: half a step of each input and weight, and their errors add as chance has it
    exact = x.clamp(low, high) @ weight.T + bias
    _, scale = whole_weights(weight.T)
    spread = 0.5 * (high - low) / 255 * weight.norm(dim=1) + 0.5 * scale * x[3:].norm(dim=1).max()
    assert ((torch.from_numpy(found) - exact)[3:].abs() <= 4 * spread).all()
    assert torch.equal(torch.from_numpy(found)[:, 2], bias[2].expand(50))


def test_pairs_of_weights_stay_within_16_bits_and_scales_are_no_larger_than_need_be() -> None:
    weight = numbers(333, 50, seed=5)
    weight[:, 7] = 0
    whole, scale = whole_weights(weight)
    pairs = torch.cat([whole.int(), torch.zeros(1, 50, dtype=torch.int32)]).reshape(-1, 2, 50)
    sums = torch.maximum(pairs.clamp(min=0).sum(1), -pairs.clamp(max=0).sum(1))
    assert whole.dtype == torch.int8
    assert int(sums.max()) * 255 <= 2**15 - 1
    reached = (sums.amax(0) >= 126) | (whole.abs().amax(0) == 127)
    assert reached.tolist() == [column != 7 for column in range(50)]
    torch.testing.assert_close(whole * scale, weight, atol=float(scale.max()) / 2 + 1e-6, rtol=0)


def test_a_product_in_8_bits_is_the_same_for_any_number_of_rows(tmp_path: Path) -> None:
    product, x = Product(numbers(40, 33), numbers(40), (-1.0, 1.0)), numbers(37, 33, seed=3)
    as_graph(product, x, tmp_path / "product.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "product.onnx"), providers=["CPUExecutionProvider"])
    (together,) = session.run(None, {"x": x.numpy()})
    for size in (1, 2, 3, 16):
        for first in range(0, 37, size):
            (some,) = session.run(None, {"x": x.numpy()[first : first + size]})
            assert np.array_equal(some, together[first : first + size])


def test_a_product_in_float_is_the_linear_map() -> None:
    layer, x = torch.nn.Linear(7, 5), numbers(3, 7)
    torch.testing.assert_close(Product(layer.weight, layer.bias, None)(x), layer(x))


# --- cells


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gates_and_cell_step_are_the_layer(cell: str) -> None:
    torch.manual_seed(4)
    layer, n, per_layer = CELL_CLASSES[cell](6, 5, batch_first=True), 3, 2 if cell == "lstm" else 1
    inputs, state_weight, bias = gates(layer, cell)
    mine = [numbers(n, 5, seed=10 + i).tanh() for i in range(per_layer)]
    theirs = [each[None] for each in mine]
    for t in range(4):
        x = numbers(n, 6, seed=20 + t)
        with torch.no_grad():
            _, left = layer(x[:, None], tuple(theirs) if cell == "lstm" else theirs[0])
        theirs = list(left) if cell == "lstm" else [left]
        mine = cell_step(cell, 5, x @ inputs.T + mine[0] @ state_weight.T + bias, mine)
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other[0])


# --- rolls


def events_at(now: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of four streams: when each key was struck and released, in whole ticks, and when it comes; some never."""
    rng = np.random.default_rng(seed)
    struck = now - rng.integers(0, 300, (4, NUM_KEYS))
    released = struck + rng.integers(1, 400, (4, NUM_KEYS))
    following = now + rng.integers(0, 500, (4, NUM_KEYS))
    never = rng.random((4, NUM_KEYS)) < 0.3
    struck[never], released[never], following[never] = -(10**6), -(10**6), NONE_AHEAD
    return tuple(torch.tensor(each, dtype=torch.float32) for each in (struck, released, following))  # type: ignore[return-value]


@pytest.mark.parametrize("future", [True, False])
def test_rolls_mapped_are_the_networks_roll_mapped(future: bool) -> None:
    weight = numbers(6, 3 * NUM_KEYS)
    folded, bias = of_rolls(weight)
    for now in (0.0, 1000.0, 8_000_000.0):
        struck, released, following = events_at(now)
        then = torch.full((4, 1), now)
        strokes = [struck, released, released - 1, *([following] if future else [])]
        roll, ahead = Rolls(future=future)(torch.cat(strokes, 1), then)
        expected = recency_roll(struck, released, then[:, 0]) @ weight.T
        torch.testing.assert_close(roll @ folded.T + bias, expected, atol=1e-4, rtol=1e-5)
        assert roll.min() >= 0  # what its fixed scale holds
        assert roll.max() <= 1
        assert (ahead is None) == (not future)
        if ahead is not None:
            torch.testing.assert_close(ahead, soon(following - then))


def test_a_event_in_the_roll_is_the_roll_after_the_event() -> None:
    now, rolls = 500.0, Rolls(future=False)
    struck, released, _ = events_at(now)
    then, rows = torch.full((4, 1), now), torch.arange(4)
    key, held = torch.tensor([3, 90, 0, 44]), torch.tensor([[1.0], [80.0], [6000.0], [7.0]])
    released[rows, key] = now - 1  # a key that is struck was free
    before, _ = rolls(torch.cat([struck, released, released - 1], 1), then)
    struck[rows, key], released[rows, key] = now, now + held[:, 0]
    after, _ = rolls(torch.cat([struck, released, released - 1], 1), then)
    torch.testing.assert_close(rolls.struck(before, key[:, None].float(), held), after)


# --- drawing


LOGITS = [0.5, 2.0, -1.0, 1.0, 0.0]
DRAWS = 40_000


def gumbel(*shape: int, seed: int = 0) -> torch.Tensor:
    chances = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -(-chances.clamp(min=1e-300).log()).log().float()


def counts(logits: list[float], temperature: float = 1.0, top_p: float = 1.0, seed: int = 0) -> Array:
    """How often each class is drawn by `DRAWS` streams."""
    rows = torch.tensor(logits).expand(DRAWS, -1)
    noise = temperature * gumbel(DRAWS, len(logits), seed=seed)
    column = torch.ones(DRAWS, 1)
    drawn = draw(rows, len(logits), noise, column / temperature, column * top_p)
    return np.bincount(drawn.numpy(), minlength=len(logits))


def softmax(logits: list[float], temperature: float = 1.0) -> Array:
    weights = np.exp(np.array(logits) / temperature)
    return weights / weights.sum()


def chi_square(found: Array, chances: Array) -> float:
    """Pearson's; what has no chance must not have been drawn."""
    assert not found[chances == 0].any()
    expected = found.sum() * chances[chances > 0]
    return float(((found[chances > 0] - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_draws_follow_the_tempered_distribution(temperature: float) -> None:
    """4 degrees of freedom: 99.99 % lie below 23.5."""
    assert chi_square(counts(LOGITS, temperature), softmax(LOGITS, temperature)) < 23.5


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.7, 0.9, 0.99])
def test_top_p_keeps_the_fewest_classes_of_the_tempered_distribution(top_p: float, temperature: float) -> None:
    found = counts(LOGITS, temperature, top_p)
    assert chi_square(found, nucleus(softmax(LOGITS, temperature), top_p)) < 23.5


def test_a_tiny_top_p_or_temperature_draws_the_likeliest() -> None:
    assert counts(LOGITS, top_p=1e-6)[1] == DRAWS
    assert counts(LOGITS, temperature=1e-3)[1] == DRAWS


def test_each_row_has_its_own_temperature_and_top_p() -> None:
    rows = torch.tensor(LOGITS).expand(4000, -1)
    temperature = torch.tensor([[1.0], [1e-3], [10.0], [1.0]]).repeat(1000, 1)
    top_p = torch.tensor([[1.0], [1.0], [1.0], [1e-3]]).repeat(1000, 1)
    drawn = draw(rows, 5, temperature * gumbel(4000, 5), 1 / temperature, top_p).reshape(1000, 4)
    assert (drawn[:, [1, 3]] == 1).all()
    for column, chances in ((0, softmax(LOGITS)), (2, softmax(LOGITS, 10.0))):
        assert chi_square(np.bincount(drawn[:, column], minlength=5), chances) < 23.5


@pytest.mark.parametrize("top_p", [1.0, 0.999999, 0.5])
def test_what_is_masked_is_never_drawn(top_p: float) -> None:
    """At the highest temperature, with noise as large as it can be, and if all but one class are masked."""
    logits = numbers(20_000, 91)
    masked = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    masked[:91] = ~torch.eye(91, dtype=torch.bool)
    noise = 10 * gumbel(20_000, 91).clamp(max=70)
    noise[masked] = 700
    column = torch.ones(20_000, 1)
    drawn = draw(logits.masked_fill(masked, MASKED), 91, noise, column / 10, column * top_p)
    assert not masked.gather(1, drawn[:, None]).any()
    assert drawn[:91].tolist() == list(range(91))


def test_noise_can_force_a_class_that_top_p_leaves_out() -> None:
    noise = torch.zeros(3, 5)
    noise[torch.arange(3), [2, 4, 1]] = 1e9
    column = torch.ones(3, 1)
    assert draw(torch.tensor(LOGITS).expand(3, -1), 5, noise, column, 0.1 * column).tolist() == [2, 4, 1]
