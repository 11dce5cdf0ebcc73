"""The runtime graphs equal the network they come from; drawing follows the distributions; bundles say what is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="graphs are made with torch, of the extra `train`")
pytest.importorskip("onnx", reason="graphs are made with onnx, of the extra `train`")
onnxruntime = pytest.importorskip("onnxruntime")

from music_generator.corpus import Corpus  # noqa: E402
from music_generator.errors import BundleError, InputError  # noqa: E402
from music_generator.features import Distributions, distributions  # noqa: E402
from music_generator.generation.engine import Engine  # noqa: E402
from music_generator.model.bundle import GRAPH_FILES, Bundle, open_bundle, write_bundle  # noqa: E402
from music_generator.model.config import FIELDS, MASKED, NONE_AHEAD, ModelConfig  # noqa: E402
from music_generator.model.export import bundle_network, draw, load_network, state_rows  # noqa: E402
from music_generator.model.network import CLASSES, Batch, Network, last_strokes  # noqa: E402
from music_generator.tokens import (  # noqa: E402
    DURATION_BINS,
    END,
    KEYS,
    RESUME,
    SHIFT_BINS,
    STROKES,
    VELOCITY_BINS,
    Array,
)
from music_generator.training.windows import Window, even_gaps, to_batch  # noqa: E402

T = 24
KINDS = ["lstm-both", "gru-both", "rnn-both", "lstm-forward"]


@pytest.fixture(scope="session", params=KINDS)
def exported(
    request: pytest.FixtureRequest, tiny_network: Network, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Network, Bundle]:
    """A network and its bundle, of each cell and direction."""
    cell, direction = request.param.split("-")
    if (cell, direction) == ("lstm", "both"):
        return tiny_network, open_bundle(tiny_bundle)
    torch.manual_seed(2)
    network = Network(replace(tiny_network.config, cell=cell, direction=direction)).eval()
    folder = tmp_path_factory.mktemp("bundle") / request.param
    return network, bundle_network(network, folder, {}, distributions([]), precisions=("int8", "float32"))


@pytest.fixture(scope="session")
def batch(tiny_corpus: Corpus) -> Batch:
    """Four windows of two pieces, in gaps of five tokens."""
    windows = [Window(tiny_corpus.piece_rows(0)[i * T : (i + 1) * T], i % 3, i == 0, False) for i in range(3)]
    windows.append(Window(tiny_corpus.piece_rows(1)[-T:], 1, False, True))
    return to_batch(windows, T, even_gaps(windows, T, 5))


def run(bundle: Bundle, name: str, precision: str, inputs: dict[str, Any]) -> list[Array]:
    path = bundle.graph(name, precision)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arrays = {key: np.asarray(value) for key, value in inputs.items()}
    return session.run(None, {i.name: arrays[i.name] for i in session.get_inputs()})


def past_inputs(config: ModelConfig, batch: Batch) -> dict[str, Array]:
    """What the graph is given so that it reads what `Network.read_past` does: time first, ticks as float32."""
    pad = torch.nn.functional.pad
    fields = {name: pad(getattr(batch, name), (1, 0)) for name in FIELDS}
    fields["key"][:, 0] = batch.start
    struck, released = last_strokes(batch.key, batch.onset, batch.held, batch.present)
    inputs = {name: value.T.numpy() for name, value in fields.items()}
    inputs |= {"struck": struck.float().transpose(0, 1).numpy(), "released": released.float().transpose(0, 1).numpy()}
    inputs |= {"now": pad(batch.onset, (1, 0)).float().T.numpy(), "composer": batch.composer.numpy()}
    state = np.zeros((state_rows(config, config.forward_layers), len(batch.key), config.forward_size), np.float32)
    return inputs | {"state": state}


def draw_inputs(context: Array, future: Array | None = None) -> dict[str, Array]:
    """Of N streams at tick 1000, nothing held, nothing limited, no future."""
    n = len(context)
    return {
        "context": context,
        "future": np.zeros_like(context) if future is None else future,
        "to_go": np.full(n, -1),
        "struck": np.full((n, STROKES), -1e6, np.float32),
        "released": np.full((n, STROKES), -1e6, np.float32),
        "now": np.full(n, 1000, np.float32),
        "last_key": np.full(n, -1),
        "earliest": np.zeros(n, np.int64),
        "latest": np.full(n, int(SHIFT_BINS.edges[-1]) - 1),
        "shift_bias": np.zeros((n, CLASSES["shift"]), np.float32),
        "key_bias": np.zeros((n, STROKES), np.float32),
        "uniforms": np.random.default_rng(0).random((n, 7), np.float32),
        "temperature": np.ones(4, np.float32),
        "top_p": np.ones(4, np.float32),
        "given": np.full((n, 4), -1),
    }


def run_draw(bundle: Bundle, precision: str, inputs: dict[str, Array]) -> list[Array]:
    """Bins, values as whole numbers, and the log-probabilities of the bins under the graph's logits."""
    to_go = np.where(inputs["to_go"] < 0, NONE_AHEAD, inputs["to_go"])
    columns = [inputs["now"], to_go, inputs["last_key"], inputs["earliest"], inputs["latest"]]
    packed = inputs | {"ticks": np.stack(columns, 1).astype(np.float32)}
    packed |= {name: inputs[name][None] for name in ("temperature", "top_p")}
    bins, values, *logits = run(bundle, "draw", precision, packed)
    assert np.array_equal(values, np.rint(values))
    scores = [
        torch.from_numpy(some).log_softmax(-1).gather(1, torch.from_numpy(bins[:, i : i + 1])).numpy()
        for i, some in enumerate(logits)
    ]
    return [bins, values.astype(np.int64), np.concatenate(scores, 1)]


# --- the graphs equal the network


def test_past_over_a_sequence(exported: tuple[Network, Bundle], batch: Batch) -> None:
    network, bundle = exported
    with torch.no_grad():
        expected = network.read_past(batch)[0].transpose(0, 1).numpy()
    inputs = past_inputs(network.config, batch)
    np.testing.assert_allclose(run(bundle, "past", "float32", inputs)[0], expected, atol=1e-5)
    rough = run(bundle, "past", "int8", inputs)[0]
    assert np.abs(rough - expected).mean() < 0.05
    assert np.corrcoef(rough.ravel(), expected.ravel())[0, 1] > 0.99


def test_past_step_by_step(exported: tuple[Network, Bundle], batch: Batch) -> None:
    network, bundle = exported
    with torch.no_grad():
        expected = network.read_past(batch)[0].transpose(0, 1).numpy()
    inputs = past_inputs(network.config, batch)
    session = onnxruntime.InferenceSession(str(bundle.graph("past", "float32")), providers=["CPUExecutionProvider"])
    state = inputs["state"]
    for t in range(T + 1):
        step = {name: value[t : t + 1] for name, value in inputs.items() if name not in ("composer", "state")}
        context, state = session.run(None, {**step, "composer": inputs["composer"], "state": state})
        np.testing.assert_allclose(context[0], expected[t], atol=1e-5)


def test_future(exported: tuple[Network, Bundle], batch: Batch) -> None:
    """At each resume token r: the future is read from the end of the window back to r, and no further."""
    network, bundle = exported
    if network.config.direction == "forward":
        assert not any("future" in name for name in bundle.files)
        return
    with torch.no_grad():
        said = network.read_future(batch).numpy()
    for r in (0, 1, 7, T - 1):
        back = range(T - 1, r - 1, -1)
        inputs: dict[str, Array] = {}
        for name in FIELDS:
            values = getattr(batch, name).numpy()
            column = [values[:, t + 1] if t < T - 1 else np.zeros(4, np.int64) for t in back]
            first = batch.stop.numpy() if name == "key" else np.zeros(4, np.int64)
            inputs[name] = np.stack([first, *(column if name == "shift" else [values[:, t] for t in back])])
        onset = batch.onset.numpy()
        age = np.full((len(back) + 1, 4, STROKES), 1e6, np.float32)
        last = np.full((4, STROKES), -(10.0**6))
        for i, t in enumerate(back, 1):
            ahead = onset[:, -1] - onset[:, t]
            last[np.arange(4), batch.key[:, t].numpy()] = ahead
            age[i] = ahead[:, None] - last
        inputs |= {"age": age, "composer": batch.composer.numpy()}
        (found,) = run(bundle, "future", "float32", inputs)
        np.testing.assert_allclose(found, said[:, r], atol=1e-5)
        (rough,) = run(bundle, "future", "int8", inputs)
        assert np.abs(rough - said[:, r]).mean() < 0.05


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("with_future", [True, False], ids=["future", "none"])
def test_draw_scores_as_the_network(
    exported: tuple[Network, Bundle], batch: Batch, with_future: bool, precision: str
) -> None:
    network, bundle = exported
    both = network.config.direction == "both"
    if not with_future:
        batch = replace(batch, resume=torch.full_like(batch.resume, T))
    with torch.no_grad():
        logits, resumed, _ = network.logits(batch)
        said = network.read_future(batch) if both else torch.zeros(4, T, network.config.head_size)
    context = run(bundle, "past", precision, past_inputs(network.config, batch))[0][:-1].transpose(1, 0, 2)
    resume = batch.resume.clamp(max=T - 1)
    heard = said.gather(1, resume[..., None].expand(-1, -1, said.shape[-1])) * (batch.resume < T)[..., None]
    before = torch.nn.functional.pad(batch.onset, (1, 0))[:, :-1]
    to_go = torch.where((batch.resume < T) & both, batch.onset.gather(1, resume) - before, -1)
    shift = batch.onset - before
    struck, released = (value[:, :-1].float().flatten(0, 1) for value in strokes(batch))
    inputs = draw_inputs(context.reshape(4 * T, -1), heard.flatten(0, 1).numpy())
    bins = torch.stack([getattr(batch, name) for name in FIELDS], -1).flatten(0, 1).numpy()
    inputs |= {"to_go": to_go.flatten().numpy(), "struck": struck.numpy(), "released": released.numpy()}
    inputs |= {"now": before.flatten().float().numpy(), "given": bins}
    inputs |= {"earliest": shift.flatten().numpy(), "latest": shift.flatten().numpy()}
    found, values, scores = run_draw(bundle, precision, inputs)
    assert np.array_equal(found, bins)
    assert np.array_equal(values[:, 0], shift.flatten().numpy())
    assert np.array_equal(values[:, 1], bins[:, 1])
    for i, name in enumerate(FIELDS):
        expected = logits[name].log_softmax(-1).gather(-1, getattr(batch, name)[..., None]).flatten().numpy()
        if precision == "float32":
            np.testing.assert_allclose(scores[:, i], expected, atol=1e-4)
        else:
            assert np.abs(scores[:, i] - expected).mean() < 0.1
    if with_future and both:
        # the decision to resume, at the last gap token's context, is scored as training counts it
        rows, gap_ends = network._gap_ends(batch)
        at = rows * T + gap_ends
        again = {name: value[at.numpy()] if len(value) == 4 * T else value for name, value in inputs.items()}
        again["future"] = said[rows, gap_ends].numpy()
        again["to_go"] = shift.flatten()[at].numpy()
        again["given"] = np.where(np.arange(4) == 0, RESUME, again["given"])
        scores = run_draw(bundle, precision, again)[2]
        expected = resumed.log_softmax(-1)[:, RESUME].numpy()
        assert np.abs(scores[:, 0] - expected).max() < (1e-4 if precision == "float32" else 0.5)


def strokes(batch: Batch) -> tuple[Any, Any]:
    return last_strokes(batch.key, batch.onset, batch.held, batch.present)


# --- drawing


def frequencies(logits: list[float], temperature: float = 1.0, top_p: float = 1.0, n: int = 20_000) -> Array:
    """How often each class is drawn by numbers that are evenly spread: exact to 1 / n."""
    uniform = (torch.arange(n) + 0.5) / n
    rows = torch.tensor(logits).expand(n, -1)
    drawn = draw(rows, uniform[:, None], torch.tensor(temperature), torch.tensor(top_p))[:, 0]
    return np.bincount(drawn.numpy(), minlength=len(logits)) / n


def softmax(logits: list[float], temperature: float = 1.0) -> Array:
    weights = np.exp(np.array(logits) / temperature)
    return weights / weights.sum()


LOGITS = [0.5, 2.0, -1.0, 1.0, 0.0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_tempered_distribution(temperature: float) -> None:
    np.testing.assert_allclose(frequencies(LOGITS, temperature), softmax(LOGITS, temperature), atol=1e-3)


def test_frequencies_with_chance_numbers() -> None:
    """Pearson's chi-square of 50,000 draws, 4 degrees of freedom: 99.99 % lie below 23.5."""
    n, chances = 50_000, softmax(LOGITS)
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0))
    one = torch.tensor(1.0)
    counts = np.bincount(
        draw(torch.tensor(LOGITS).expand(n, -1), uniform[:, None], one, one)[:, 0].numpy(), minlength=5
    )
    assert ((counts - n * chances) ** 2 / (n * chances)).sum() < 23.5


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.7, 0.9, 0.99])
def test_top_p_keeps_the_fewest_classes(top_p: float) -> None:
    chances = softmax(LOGITS)
    order = np.argsort(-chances)
    kept = order[: np.searchsorted(np.cumsum(chances[order]), top_p) + 1]
    expected = np.zeros(5)
    expected[kept] = chances[kept] / chances[kept].sum()
    np.testing.assert_allclose(frequencies(LOGITS, top_p=top_p), expected, atol=1e-3)


def test_a_tiny_top_p_or_temperature_draws_the_likeliest() -> None:
    assert frequencies(LOGITS, top_p=1e-6)[1] == 1
    assert frequencies(LOGITS, temperature=1e-2)[1] == 1


def test_what_is_masked_is_never_drawn() -> None:
    """Not even by the largest number below 1, when the sums of the chances are rounded."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 91, generator=random)
    masked = torch.rand(logits.shape, generator=random) < 0.5
    uniform = torch.full((len(logits),), float(np.nextafter(np.float32(1), np.float32(0))))
    for top_p in (1.0, 0.999999):
        drawn = draw(logits.masked_fill(masked, MASKED), uniform[:, None], torch.tensor(1.0), torch.tensor(top_p))
        assert not masked.gather(1, drawn).any()


@pytest.fixture(scope="module")
def contexts(tiny_network: Network) -> Array:
    return np.random.default_rng(1).normal(0, 1, (600, tiny_network.config.head_size)).astype(np.float32)


def test_values_lie_in_their_bins(tiny_bundle: Path, contexts: Array) -> None:
    bins, values, scores = run_draw(open_bundle(tiny_bundle), "float32", draw_inputs(contexts))
    assert (scores < 0).all()
    assert (bins[:, 1] == values[:, 1]).all()
    playing = bins[:, 0] < len(SHIFT_BINS)
    for i, grid in ((0, SHIFT_BINS), (2, VELOCITY_BINS), (3, DURATION_BINS)):
        some = playing if i == 0 else np.full(len(bins), True)
        assert (np.maximum(grid.edges[bins[some, i]], i == 2) <= values[some, i]).all()
        assert (values[some, i] < grid.edges[bins[some, i] + 1]).all()
    assert values[:, 2].min() >= 1
    assert values[:, 2].max() <= 127
    assert len(np.unique(values[:, 1])) > 60


def test_a_wide_bin_is_filled_evenly(tiny_bundle: Path, contexts: Array) -> None:
    inputs = draw_inputs(np.repeat(contexts[:1], 4000, 0))
    last = len(DURATION_BINS) - 1
    inputs["given"] = np.tile([0, 40, 5, last], (4000, 1))
    inputs["uniforms"][:, 6] = (np.arange(4000) + 0.5) / 4000
    values = run_draw(open_bundle(tiny_bundle), "float32", inputs)[1]
    first, end = DURATION_BINS.edges[last], DURATION_BINS.edges[last + 1]
    assert set(values[:, 3]) == set(range(first, end))
    assert np.ptp(np.bincount(values[:, 3] - first)) <= 1


def test_earliest_and_latest_are_kept(tiny_bundle: Path, contexts: Array) -> None:
    rng = np.random.default_rng(3)
    inputs = draw_inputs(contexts)
    inputs["earliest"] = rng.integers(0, 100, len(contexts))
    inputs["latest"] = inputs["earliest"] + rng.integers(0, 30, len(contexts))
    values = run_draw(open_bundle(tiny_bundle), "float32", inputs)[1]
    assert (inputs["earliest"] <= values[:, 0]).all()
    assert (values[:, 0] <= inputs["latest"]).all()
    assert len(np.unique(values[:, 0])) > 50


def test_resume_and_end_have_their_places(tiny_bundle: Path, contexts: Array) -> None:
    inputs = draw_inputs(contexts)
    inputs["to_go"][::2] = np.random.default_rng(4).integers(0, 200, len(contexts) // 2)
    inputs["shift_bias"][:, [RESUME, END]] = 3
    inputs["latest"] = np.where(inputs["to_go"] < 0, inputs["latest"], inputs["to_go"])
    bins, values, _ = run_draw(open_bundle(tiny_bundle), "float32", inputs)
    ahead = inputs["to_go"] >= 0
    assert set(bins[ahead, 0]) >= {RESUME}
    assert set(bins[~ahead, 0]) >= {END}
    assert END not in bins[ahead, 0]
    assert RESUME not in bins[~ahead, 0]
    playing = bins[:, 0] < len(SHIFT_BINS)
    assert (SHIFT_BINS.edges[bins[ahead & playing, 0]] <= inputs["to_go"][ahead & playing]).all()
    assert (values[ahead, 0] <= inputs["to_go"][ahead]).all()


def test_keys_still_held_are_not_struck(tiny_bundle: Path, contexts: Array) -> None:
    rng = np.random.default_rng(5)
    inputs = draw_inputs(contexts)
    inputs["released"] = (1000 + rng.integers(-50, 100, inputs["released"].shape)).astype(np.float32)
    inputs["struck"][:] = 900
    values = run_draw(open_bundle(tiny_bundle), "float32", inputs)[1]
    struck_at = 1000 + values[:, 0]
    assert (inputs["released"][np.arange(len(values)), values[:, 1]] <= struck_at).all()
    late = (inputs["released"] > struck_at[:, None]).mean()
    assert late > 0.1  # chance alone would have struck many of them


def test_keys_of_one_tick_come_in_order(tiny_bundle: Path, contexts: Array) -> None:
    inputs = draw_inputs(contexts)
    inputs["last_key"] = np.random.default_rng(6).integers(-1, STROKES - 1, len(contexts))
    inputs["latest"][::2] = 0
    values = run_draw(open_bundle(tiny_bundle), "float32", inputs)[1]
    same = values[:, 0] == 0
    assert same[::2].all()
    assert (values[same, 1] > inputs["last_key"][same]).all()
    assert (values[~same, 1] <= inputs["last_key"][~same]).any()
    assert (values[:, 1] >= KEYS).any()


def test_biases_and_each_fields_own_temperature(tiny_bundle: Path, contexts: Array) -> None:
    """A bias rules a class out; a temperature near 0 of one field makes that one the likeliest, and no other."""
    inputs = draw_inputs(np.repeat(contexts[:1], 600, 0))
    inputs["temperature"] = np.array([1, 1, 1e-5, 1], np.float32)
    inputs["key_bias"][:, 10:] = MASKED
    inputs["given"][:, 0] = 5
    bins, values, _ = run_draw(open_bundle(tiny_bundle), "float32", inputs)
    assert values[:, 1].max() < 10
    for key in range(10):
        assert len(np.unique(bins[bins[:, 1] == key, 2])) <= 1
    assert len(np.unique(bins[:, 1])) > 5
    assert len(np.unique(bins[:, 3])) > 20


def test_the_engine_runs_every_kind(exported: tuple[Network, Bundle], tiny_corpus: Corpus) -> None:
    network, bundle = exported
    rows = tiny_corpus.piece_rows(0)[:40]
    for precision in bundle.precisions:
        stream = Engine(bundle, precision=precision).read_past(rows)
        assert np.isfinite(stream.context).all()
        assert stream.state.shape[0] == state_rows(network.config, 2)


# --- bundles


def test_weights_come_back_as_float16(exported: tuple[Network, Bundle]) -> None:
    network, bundle = exported
    again = load_network(bundle).state_dict()
    assert again.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(again[name], value.half().float())


def test_what_a_bundle_says_comes_back(tiny_network: Network, tmp_path: Path) -> None:
    reference = Distributions({name: np.arange(len(c)) for name, c in distributions([]).counts.items()})
    provenance = {"data": "Études", "steps": 3}
    folder = tmp_path / "new" / "bundle"
    bundle = bundle_network(tiny_network, folder, provenance, reference, texts={"README.md": "# Études\n"})
    assert (bundle.config, bundle.provenance, bundle.precisions) == (tiny_network.config, provenance, ("int8",))
    assert all(np.array_equal(bundle.reference.counts[name], reference.counts[name]) for name in reference.counts)
    files = {"weights.safetensors", *GRAPH_FILES["int8"].values()}
    assert set(bundle.files) == files  # those that are loaded; the card may be edited
    assert {path.name for path in folder.iterdir()} == files | {"README.md", "bundle.json"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
    with pytest.raises(BundleError, match="it has no float32 graphs; it has int8"):
        bundle.graph("past", "float32")


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change_facts(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((folder / "bundle.json").read_text("utf-8"))
    change(facts)
    (folder / "bundle.json").write_text(json.dumps(facts), "utf-8")


def leave_out(folder: Path) -> None:
    (folder / "past.int8.onnx").unlink()


def cut_off(folder: Path) -> None:
    path = folder / "past.int8.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_byte(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (leave_out, r"past\.int8\.onnx is missing from the bundle; get or train it anew"),
        (cut_off, r"past\.int8\.onnx is not the file that bundle\.json describes"),
        (flip_a_byte, r"weights\.safetensors is not the file that bundle\.json describes"),
        (lambda f: (f / "bundle.json").unlink(), r"no model bundle \(bundle\.json is missing\)"),
        (lambda f: (f / "bundle.json").write_text("{"), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe"), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_text("[1]"), r"bundle\.json is damaged"),
        (lambda f: change_facts(f, lambda facts: facts.update(format=2)), "its format is 2, this version reads 1"),
        (lambda f: change_facts(f, lambda facts: facts.pop("config")), r"bundle\.json is damaged"),
        (lambda f: change_facts(f, lambda facts: facts["config"].update(cell="x")), "`cell` must be one of"),
        (lambda f: change_facts(f, lambda facts: facts["config"].update(more=1)), r"bundle\.json is damaged"),
        (lambda f: change_facts(f, lambda facts: facts["reference"].pop("pitch")), r"bundle\.json is damaged"),
        (lambda f: change_facts(f, lambda facts: facts.update(files=["past"])), r"bundle\.json is damaged"),
    ],
)
def test_a_damaged_bundle_is_told(copied: Path, damage: Callable[[Path], Any], text: str) -> None:
    damage(copied)
    with pytest.raises(BundleError, match=text):
        open_bundle(copied)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "inner/file"])
def test_a_file_outside_the_bundle_is_refused(copied: Path, name: str) -> None:
    (copied.parent / "outside").write_text("x")
    manifest = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    change_facts(copied, lambda facts: facts["files"].update({name: manifest}))
    with pytest.raises(BundleError, match=r"bundle\.json names a file outside the bundle"):
        open_bundle(copied)


def test_no_such_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: no model bundle \(bundle\.json is missing\)"):
        open_bundle(tmp_path / "nowhere")


def test_weights_of_other_sizes(copied: Path) -> None:
    change_facts(copied, lambda facts: facts["config"].update(forward_size=20))
    with pytest.raises(BundleError, match=r"weights\.safetensors does not fit its configuration: size mismatch"):
        load_network(open_bundle(copied))


def small(folder: Path, write: Callable[[Path], None] | None = None) -> Bundle:
    def one_file(beside: Path) -> None:
        (beside / "file.onnx").write_text("x")

    return write_bundle(folder, ModelConfig(), {}, distributions([]), write or one_file)


def test_only_a_bundle_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(InputError, match=f"{name}: exists and is not a model bundle; name another folder"):
            small(tmp_path / name)
    assert (tmp_path / "full" / "keep.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert small(tmp_path / "empty").files == ("file.onnx",)
    assert small(tmp_path / "empty").files == ("file.onnx",)  # a bundle, by now
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_what_cannot_be_written_leaves_the_old_bundle(tmp_path: Path) -> None:
    small(tmp_path / "bundle")

    def full_disk(beside: Path) -> None:
        (beside / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*bundle: No space left on device"):
        small(tmp_path / "bundle", full_disk)
    assert open_bundle(tmp_path / "bundle").files == ("file.onnx",)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    with pytest.raises(InputError, match=r"cannot write .*bundle/file.onnx/inside"):
        small(tmp_path / "bundle" / "file.onnx" / "inside")
