"""The runtime graphs equal the network they come from, step by step; bundles say what is wrong."""

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

from conftest import nucleus  # noqa: E402
from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.engine.engine import PLACES, Engine, backwards  # noqa: E402
from music_generator.errors import BundleError, InputError  # noqa: E402
from music_generator.model.bundle import Bundle, graph_file, open_bundle, write_bundle  # noqa: E402
from music_generator.model.config import CLASSES, FIELDS, MASKED, NO_FUTURE, NONE_AHEAD, ModelConfig  # noqa: E402
from music_generator.model.export import bundle_network, load_network  # noqa: E402
from music_generator.model.network import (  # noqa: E402
    Batch,
    Network,
    last_events,
    next_events,
    recency_roll,
)
from music_generator.model.step import Step, input_ranges  # noqa: E402
from music_generator.music.features import Distributions, distributions  # noqa: E402
from music_generator.music.tokens import DURATION_BINS, END, NUM_KEYS, RESUME, SHIFT_BINS, Array  # noqa: E402
from music_generator.training.release import shown_music  # noqa: E402
from music_generator.training.windows import Window, even_gaps, to_batch  # noqa: E402

T = 24
GRAPHS = ("past", "future", "open", "joined")
BOTH = ("int8", "float32")


@pytest.fixture(scope="session")
def windows(tiny_corpus: Corpus) -> list[Window]:
    """Four windows of two pieces."""
    some = [Window(tiny_corpus.piece_rows(0)[i * T : (i + 1) * T], i % 3, i == 0, False) for i in range(3)]
    return [*some, Window(tiny_corpus.piece_rows(1)[-T:], 1, False, True)]


@pytest.fixture(scope="session")
def batch(windows: list[Window]) -> Batch:
    """The windows in gaps of five tokens."""
    return to_batch(windows, T, even_gaps(windows, T, 5))


def alone(batch: Batch) -> Batch:
    """The same without any future."""
    return replace(batch, resume=torch.full_like(batch.resume, T))


def session(bundle: Bundle, name: str, precision: str) -> Any:
    return onnxruntime.InferenceSession(str(bundle.graph(name, precision)), providers=["CPUExecutionProvider"])


def run(graph: Any, inputs: dict[str, Any]) -> dict[str, Array]:
    given = {each.name for each in graph.get_inputs()}
    assert given == set(inputs)
    names = [each.name for each in graph.get_outputs()]
    return dict(zip(names, graph.run(names, {k: np.asarray(v) for k, v in inputs.items()}), strict=True))


# --- the network, step by step


def past_inputs(config: ModelConfig, batch: Batch) -> dict[str, Array]:
    """What the graph is given so that it reads what `Network.read_past` does: time first, ticks as float32."""
    pad = torch.nn.functional.pad
    fields = {name: pad(getattr(batch, name), (1, 0)) for name in FIELDS}
    fields["key"][:, 0] = batch.start
    struck, released = last_events(batch.key, batch.onset, batch.held, batch.present)
    inputs = {name: value.T.numpy() for name, value in fields.items()}
    inputs |= {"struck": struck.float().transpose(0, 1).numpy(), "released": released.float().transpose(0, 1).numpy()}
    inputs |= {"now": pad(batch.onset, (1, 0)).float().T.numpy(), "composer": batch.composer.numpy()}
    rows = config.state_rows(config.forward_layers)
    return inputs | {"state": np.zeros((rows, len(batch.key), config.forward_size), np.float32)}


@torch.no_grad()
def contexts(network: Network, batch: Batch) -> Array:
    """Before each token and after the last, the context of no future and the join's part of it: (T + 1, N, C)."""
    context = network.read_past(batch)[0].transpose(0, 1)
    if network.config.direction == "both":
        size = network.config.head_size
        alone = context + network.time_to_go.weight[NO_FUTURE]
        context = torch.cat([alone, context @ network.join_in.weight[:, :size].T], -1)
    return context.numpy()


@torch.no_grad()
def states(network: Network, batch: Batch) -> Array:
    """The forward stack's states after what is before each token, and after the last: (T + 1, S, N, H)."""
    struck, released = last_events(batch.key, batch.onset, batch.held, batch.present)
    now = torch.nn.functional.pad(batch.onset, (1, 0))
    fields = {name: torch.nn.functional.pad(getattr(batch, name), (1, 0)) for name in FIELDS}
    fields["key"][:, 0] = batch.start
    x = network.forward_input(fields, batch.composer[:, None], recency_roll(struck, released, now))
    found: list[list[Array]] = [[] for _ in range(T + 1)]
    for layer in network.forward_stack.layers:
        state, above = None, []
        for t in range(T + 1):
            out, state = layer(x[:, t : t + 1], state)
            above.append(out)
            found[t] += [each[0].numpy() for each in (state if isinstance(state, tuple) else (state,))]
        x = torch.cat(above, 1)
    return np.stack([np.stack(each) for each in found])


@torch.no_grad()
def said(network: Network, batch: Batch) -> Array:
    """Of the future from each token on, its part of the context, and of the join: (T, N, C)."""
    future = network.read_future(batch).transpose(0, 1)
    size = network.config.head_size
    joined = future @ network.join_in.weight[:, size : 2 * size].T + network.join_in.bias
    return torch.cat([future, joined], -1).numpy()


def step_inputs(network: Network, batch: Batch, t: int, before: dict[str, Array], *, future: bool) -> dict[str, Array]:
    """What makes a step take token t of every window; `before`: what the step before, or `past`, left."""
    n = len(batch.key)
    struck, released = (value[:, t].float().numpy() for value in strokes(batch))
    noise = np.zeros((n, sum(CLASSES.values())), np.float32)
    for name in FIELDS:
        noise[np.arange(n), PLACES[name].start + getattr(batch, name)[:, t].numpy()] = 1e9
    now = (batch.onset[:, t - 1] if t else torch.zeros(n)).numpy()
    shift = batch.onset[:, t].numpy() - now
    duration = batch.duration[:, t].numpy()
    place = (batch.held[:, t].numpy() - DURATION_BINS.edges[duration] + 0.5) / DURATION_BINS.widths[duration]
    inputs = {
        "context": before["context_after"],
        "ticks": np.stack([now, shift, shift, np.full(n, -1), np.zeros(n), place], 1).astype(np.float32),
        "strokes": np.concatenate([struck, released, released - 1], 1),
        "barred": np.zeros((n, NUM_KEYS), np.float32),
        "composer": batch.composer.numpy(),
        "noise": noise,
        "coldness": np.ones((n, 1), np.float32),
        "top_p": np.ones((n, 1), np.float32),
    }
    rows = network.config.state_rows(network.config.forward_layers)
    inputs |= {f"state_{i}": before[f"state_{i}_after"] for i in range(rows)}
    if future:
        resume = batch.resume[:, t].clamp(max=T - 1)
        at = torch.arange(n)
        following = next_events(batch.key, batch.onset, batch.present)[at, resume]
        inputs |= {"said": said(network, batch)[resume, at], "resume": batch.onset[at, resume][:, None].float().numpy()}
        inputs["strokes"] = np.concatenate([inputs["strokes"], following.float().numpy()], 1)
    return inputs


def strokes(batch: Batch) -> tuple[Any, Any]:
    return last_events(batch.key, batch.onset, batch.held, batch.present)


def begin(network: Network, bundle: Bundle, precision: str, batch: Batch, *, future: bool) -> dict[str, Array]:
    """What `past` leaves before the first token, named as a step leaves it."""
    inputs = past_inputs(network.config, batch)
    first = {name: value if name in ("composer", "state") else value[:1] for name, value in inputs.items()}
    left = run(session(bundle, "past", precision), first)
    size = network.config.head_size * (2 if future else 1)
    left_states = {f"state_{i}_after": each for i, each in enumerate(left["state_after"])}
    return {"context_after": left["context"][:, :size]} | left_states


# --- the graphs equal the network


def test_past_over_a_sequence_and_step_by_step(exported: tuple[Network, Bundle], batch: Batch) -> None:
    network, bundle = exported
    expected = contexts(network, batch)
    inputs = past_inputs(network.config, batch)
    graph = session(bundle, "past", "float32")
    np.testing.assert_allclose(run(graph, inputs)["context"], expected[-1], atol=1e-5)
    state, expected_states = inputs["state"], states(network, batch)
    for t in range(T + 1):
        step = {name: value[t : t + 1] for name, value in inputs.items() if name not in ("composer", "state")}
        found = run(graph, {**step, "composer": inputs["composer"], "state": state})
        state = found["state_after"]
        np.testing.assert_allclose(found["context"], expected[t], atol=1e-5)
        np.testing.assert_allclose(state, expected_states[t], atol=1e-5)
    rough_graph, rough = session(bundle, "past", "int8"), []
    for t in range(T + 1):
        part = {name: value if name in ("composer", "state") else value[: t + 1] for name, value in inputs.items()}
        rough.append(run(rough_graph, part)["context"])
    assert np.abs(np.stack(rough) - expected).mean() < 0.05
    assert np.corrcoef(np.stack(rough).ravel(), expected.ravel())[0, 1] > (
        0.99 if network.config.forward_layers > 1 else 0.98
    )


def test_future(exported: tuple[Network, Bundle], batch: Batch, windows: list[Window]) -> None:
    """At each resume token r: the future is read from the end of the window back to r, and no further."""
    network, bundle = exported
    if network.config.direction == "forward":
        assert not any("future" in name or "joined" in name for name in bundle.files)
        return
    expected = said(network, batch)
    for i, window in enumerate(windows):
        inputs = backwards(window.rows, window.composer, cut=not window.ends)
        found = run(session(bundle, "future", "float32"), inputs)["said"]
        np.testing.assert_allclose(found[:0:-1, 0], expected[:, i], atol=1e-5)
        later = run(
            session(bundle, "future", "float32"), backwards(window.rows[7:], window.composer, cut=not window.ends)
        )
        np.testing.assert_allclose(later["said"][-1, 0], expected[7, i], atol=1e-5)
        rough = run(session(bundle, "future", "int8"), inputs)["said"]
        assert np.abs(rough - found).mean() < 0.05


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("future", [False, True], ids=["open", "joined"])
def test_steps_equal_the_network(exported: tuple[Network, Bundle], batch: Batch, future: bool, precision: str) -> None:
    """Each step's classes, ticks, logits, context, states; in 8 bits logits to 0.03 and states to 0.05 in the mean."""
    network, bundle = exported
    if future and network.config.direction == "forward":
        return
    batch = batch if future else alone(batch)
    with torch.no_grad():
        logits, _, _ = network.logits(batch)
    expected_context, expected_states = contexts(network, batch), states(network, batch)
    graph = session(bundle, "joined" if future else "open", precision)
    left = begin(network, bundle, precision, batch, future=future)
    exact, off = precision == "float32", []
    for t in range(T):
        left = run(graph, step_inputs(network, batch, t, left, future=future))
        shift = batch.onset[:, t] - (batch.onset[:, t - 1] if t else 0)
        assert np.array_equal(left["waited"][:, 0], shift.numpy())
        assert np.array_equal(left["held"][:, 0], batch.held[:, t].numpy())
        counted = (batch.resume[:, t] < T).numpy() == future
        for name in FIELDS:
            assert np.array_equal(left[name], getattr(batch, name)[:, t].numpy())
            expected = logits[name][:, t].numpy()[counted]
            difference = np.where(expected > MASKED, left[f"{name}_logits"][counted] - expected, 0)
            if exact:
                np.testing.assert_allclose(difference, 0, atol=1e-4)
            off += [np.abs(difference).mean()] if counted.any() else []
        size = left["context_after"].shape[1]
        for found, wanted in (
            (left["context_after"], expected_context[t + 1][:, :size]),
            *((left[f"state_{i}_after"], rows) for i, rows in enumerate(expected_states[t + 1])),
        ):
            if exact:
                np.testing.assert_allclose(found, wanted, atol=2e-5)
            else:
                assert np.abs(found - wanted).mean() < 0.05
    assert np.max(off) < (1e-5 if exact else 0.03)  # steps of weights are up to twice 1 / 127


def drawn_inputs(network: Network, n: int, *, future: bool, seed: int = 0) -> dict[str, Array]:
    """Of N streams at tick 1000, no key barred, some held: Gumbel noise, any states, strokes in whole ticks."""
    rng, config = np.random.default_rng(seed), network.config
    width = config.head_size * (2 if future else 1)
    last = float(SHIFT_BINS.edges[-1] - 1)
    columns = [np.full(n, each) for each in (1000.0, 0.0, last, -1.0)]
    struck = 1000 - rng.integers(0, 300, (n, NUM_KEYS))
    released = struck + rng.integers(1, 200, (n, NUM_KEYS))
    inputs = {
        "context": rng.normal(0, 1, (n, width)),
        "ticks": np.concatenate([np.stack(columns, 1), rng.random((n, 2), np.float32)], 1),
        "strokes": np.concatenate([struck, released, released - 1], 1),
        "barred": np.zeros((n, NUM_KEYS)),
        "noise": -np.log(rng.standard_exponential((n, sum(CLASSES.values())))),
        "coldness": np.ones((n, 1)),
        "top_p": np.ones((n, 1)),
    }
    if future:
        following = 1000 + rng.integers(0, 300, (n, NUM_KEYS))
        following[rng.random((n, NUM_KEYS)) < 0.5] = int(NONE_AHEAD)
        inputs |= {"said": rng.normal(0, 1, (n, width)), "resume": 1000 + rng.integers(1, 300, (n, 1))}
        inputs["strokes"] = np.concatenate([inputs["strokes"], following], 1)
    for i in range(config.state_rows(config.forward_layers)):
        inputs[f"state_{i}"] = np.tanh(rng.normal(0, 0.5, (n, config.forward_size)))
    inputs = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
    return inputs | {"composer": rng.integers(0, 1 + len(config.composers), n)}


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("future", [False, True], ids=["open", "joined"])
def test_a_graph_computes_what_its_torch_form_does(
    exported: tuple[Network, Bundle], tiny_corpus: Corpus, future: bool, precision: str
) -> None:
    """Where a number is on the edge of a step of 8 bits, a rounding may tip it; in a few streams in a hundred."""
    network, bundle = exported
    if future and network.config.direction == "forward":
        return
    ranges = input_ranges(network, shown_music(tiny_corpus)) if precision == "int8" else None
    step = Step(network, future=future, ranges=ranges).eval()
    graph = session(bundle, "joined" if future else "open", precision)
    inputs = drawn_inputs(network, 200, future=future)
    found = run(graph, inputs)
    order = [each.name for each in graph.get_inputs()]
    with torch.no_grad():
        expected = step(*(torch.from_numpy(inputs[name]) for name in order))
    same = np.ones(200, bool)
    for (name, values), wanted in zip(found.items(), expected, strict=True):
        assert values.shape == tuple(wanted.shape), name
        near = np.abs(values - wanted.numpy()) <= 1e-4
        same &= near.reshape(200, -1).all(1)
    assert same.mean() >= (1 if precision == "float32" else 0.8)


@pytest.mark.parametrize("future", [False, True], ids=["open", "joined"])
def test_in_8_bits_a_stream_is_the_same_in_any_company(exported: tuple[Network, Bundle], future: bool) -> None:
    """All that a step leaves, bit for bit: alone, and at any place among any number of others."""
    network, bundle = exported
    if future and network.config.direction == "forward":
        return
    graph = session(bundle, "joined" if future else "open", "int8")
    inputs = drawn_inputs(network, 70, future=future)
    together = run(graph, inputs)
    for size in (1, 2, 3, 8, 64):
        for first in range(0, 70, size):
            some = run(graph, {name: value[first : first + size] for name, value in inputs.items()})
            for name, values in some.items():
                assert np.array_equal(values, together[name][first : first + size]), name


# --- drawing: the graph's draws follow the logits it gives, and what is forbidden does not come


def repeated(inputs: dict[str, Array], n: int, **changes: Any) -> dict[str, Array]:
    """The first stream N times, each with noise and chances of its own; arrays in `changes` take the place of some."""
    fresh = np.random.default_rng(9)
    again = {name: np.repeat(value[:1], n, 0) for name, value in inputs.items()}
    again["noise"] = -np.log(fresh.standard_exponential((n, inputs["noise"].shape[1]), np.float32))
    again["ticks"][:, 4:] = fresh.random((n, 2), np.float32)
    return again | changes


def chi_square(classes: Array, chances: Array) -> tuple[float, int]:
    """Pearson's, classes of few expected draws taken together, and its degrees of freedom."""
    expected, found = len(classes) * chances, np.bincount(classes, minlength=len(chances)).astype(float)
    few = expected < 10
    expected, found = (np.append(each[~few], each[few].sum()) for each in (expected, found))
    kept = expected > 0
    assert not found[~kept].any()
    return float(((found - expected)[kept] ** 2 / expected[kept]).sum()), int(kept.sum()) - 1


def softmax(logits: Array) -> Array:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def possible(inputs: dict[str, Array], found: dict[str, Array], name: str) -> Array:
    """Which classes of a field the first stream may draw: no end, resuming with a future alone, no key that is held."""
    may = np.ones(CLASSES[name], bool)
    if name == "shift":
        may[END] = False
        may[RESUME] = "resume" in inputs
    if name == "key":
        may = inputs["strokes"][0, NUM_KEYS : 2 * NUM_KEYS] <= 1000 + found["waited"][0]
    return may


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("future", [False, True], ids=["open", "joined"])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.7, 0.8), (1.0, 0.3), (1.0, 1e-6)])
def test_draws_follow_the_logits(
    tiny_network: Network, tiny_bundle: Path, future: bool, precision: str, temperature: float, top_p: float
) -> None:
    """8,000 draws of one stream; a field is drawn given those before it, which are forced. Top-p: key and velocity."""
    n = 8000
    graph = session(open_bundle(tiny_bundle), "joined" if future else "open", precision)
    inputs = repeated(drawn_inputs(tiny_network, 1, future=future, seed=3), n)
    inputs["noise"] *= temperature
    inputs["coldness"][:], inputs["top_p"][:] = 1 / temperature, top_p
    inputs["ticks"][:, 4] = 0.5  # one value of a wide bin: the key hears how late it is
    given = [12, 40, 9]
    for i, name in enumerate(FIELDS):
        found = run(graph, inputs)
        logits = found[f"{name}_logits"]
        assert (logits == logits[0]).all()
        chances = softmax(np.where(possible(inputs, found, name), logits[0], -np.inf) / temperature)
        if name in ("key", "velocity"):
            chances = nucleus(chances, top_p)
        statistic, freedom = chi_square(found[name], chances)
        assert statistic < freedom + 5 * (2 * freedom) ** 0.5 + 1  # five standard deviations
        if i < len(given):
            inputs["noise"][:, PLACES[name]] = 0
            inputs["noise"][:, PLACES[name].start + given[i]] = 1e9


def test_values_lie_in_their_bins(tiny_network: Network, tiny_bundle: Path) -> None:
    found = run(session(open_bundle(tiny_bundle), "open", "float32"), drawn_inputs(tiny_network, 2000, future=False))
    playing = found["shift"] < len(SHIFT_BINS)
    for bins, classes, values in (
        (SHIFT_BINS, found["shift"][playing], found["waited"][playing, 0]),
        (DURATION_BINS, found["duration"], found["held"][:, 0]),
    ):
        assert np.array_equal(values, np.rint(values))
        assert np.array_equal(bins.index(values), classes)
    assert len(np.unique(found["key"])) > 60


@pytest.mark.parametrize("name", ["shift", "duration"])
def test_a_wide_bin_is_filled_evenly(tiny_network: Network, tiny_bundle: Path, name: str) -> None:
    bins, n = {"shift": SHIFT_BINS, "duration": DURATION_BINS}[name], 4000
    inputs = repeated(drawn_inputs(tiny_network, 1, future=False), n)
    last = len(bins) - 1
    inputs["noise"][:, PLACES[name].start + last] = 1e9
    inputs["ticks"][:, 4 if name == "shift" else 5] = (np.arange(n) + 0.5) / n
    found = run(session(open_bundle(tiny_bundle), "open", "float32"), inputs)
    values = found["waited" if name == "shift" else "held"][:, 0].astype(np.int64)
    first, end = bins.edges[last], bins.edges[last + 1]
    assert set(values) == set(range(first, end))
    assert np.ptp(np.bincount(values - first)) <= 1
    inputs["ticks"][:, 4:] = np.nextafter(np.float32(1), np.float32(0))
    found = run(session(open_bundle(tiny_bundle), "open", "float32"), inputs)
    assert (found["waited" if name == "shift" else "held"] == end - 1).all()


@pytest.mark.parametrize("precision", BOTH)
def test_earliest_and_latest_are_kept(tiny_network: Network, tiny_bundle: Path, precision: str) -> None:
    rng, n = np.random.default_rng(3), 600
    inputs = drawn_inputs(tiny_network, n, future=True)
    earliest = rng.integers(0, 100, n)
    latest = earliest + rng.integers(0, 30, n)
    inputs["ticks"][:, 1], inputs["ticks"][:, 2] = earliest, latest
    waited = run(session(open_bundle(tiny_bundle), "joined", precision), inputs)["waited"][:, 0]
    assert (earliest <= waited).all()
    assert (waited <= latest).all()
    assert len(np.unique(waited)) > 50


@pytest.mark.parametrize("top_p", [1.0, 0.5])
@pytest.mark.parametrize("precision", BOTH)
def test_keys_that_are_not_free_yet_are_not_struck(
    tiny_network: Network, tiny_bundle: Path, precision: str, top_p: float
) -> None:
    """Held ones, barred ones, those at or below the last one in its tick; all but one may be."""
    rng, n = np.random.default_rng(5), 600
    inputs = drawn_inputs(tiny_network, n, future=False)
    free = (1000 + rng.integers(-50, 300, (n, NUM_KEYS))).astype(np.float32)
    free[:, 17] = 0
    free[::2] = 1e9
    free[::2, 40] = 1000  # one alone
    inputs["strokes"][:, NUM_KEYS:] = np.concatenate([free, free - 1], 1)
    inputs["barred"][:, 60:] = free[:, 60:]
    inputs["strokes"][:, NUM_KEYS + 60 : 2 * NUM_KEYS] = 0
    inputs["ticks"][1::2, 3] = rng.integers(-1, NUM_KEYS, n // 2)
    inputs["top_p"][:] = top_p
    inputs["noise"] *= 10
    inputs["coldness"][:] = 0.1
    found = run(session(open_bundle(tiny_bundle), "open", precision), inputs)
    struck_at = 1000 + found["waited"][:, 0]
    assert (free[np.arange(n), found["key"]] <= struck_at).all()
    assert ((found["waited"][:, 0] > 0) | (found["key"] > inputs["ticks"][:, 3])).all()
    assert (found["key"][::2] == 40).all()
    assert (free > struck_at[:, None])[1::2].mean() > 0.1  # chance alone would have struck many of them


@pytest.mark.parametrize("precision", BOTH)
def test_the_shift_waits_until_a_key_is_free(tiny_network: Network, tiny_bundle: Path, precision: str) -> None:
    """Past the latest if it must be, and past the last bin."""
    inputs = drawn_inputs(tiny_network, 300, future=False)
    inputs["barred"][:] = 9000
    inputs["barred"][:, 5] = 1000 + np.arange(300) * 20
    inputs["strokes"][:, NUM_KEYS + 5] = 0
    inputs["ticks"][:, 2] = 30
    found = run(session(open_bundle(tiny_bundle), "open", precision), inputs)
    assert (found["key"] == 5).all()
    assert np.array_equal(found["waited"][3:, 0], np.arange(3, 300) * 20)
    assert (found["waited"][:2, 0] <= 30).all()
    inputs["ticks"][:, 3] = 5  # the same key again: not in this tick
    inputs["barred"][:, 5] = 0
    found = run(session(open_bundle(tiny_bundle), "open", precision), inputs)
    assert (found["key"] == 5).all()
    assert (found["waited"] >= 1).all()


# --- the engine


def test_the_engine_runs_every_kind(exported: tuple[Network, Bundle], tiny_corpus: Corpus) -> None:
    network, bundle = exported
    rows = tiny_corpus.piece_rows(0)[:40]
    for precision in bundle.precisions:
        stream = Engine(bundle, precision=precision).read_past(rows)
        assert np.isfinite(stream.context).all()
        assert len(stream.states) == network.config.state_rows(network.config.forward_layers)
        width = network.config.head_size * (2 if network.config.direction == "both" else 1)
        assert stream.context.shape == (width,)


# --- bundles


def test_weights_come_back_as_float16(exported: tuple[Network, Bundle]) -> None:
    network, bundle = exported
    again = load_network(bundle).state_dict()
    assert again.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(again[name], value.half().float())


def test_what_a_bundle_says_comes_back(tiny_network: Network, tiny_corpus: Corpus, tmp_path: Path) -> None:
    reference = Distributions({name: np.arange(len(c)) for name, c in distributions([]).counts.items()})
    provenance = {"data": "Études", "steps": 3}
    folder = tmp_path / "new" / "bundle"
    texts = {"README.md": "# Études\n"}
    bundle = bundle_network(tiny_network, folder, provenance, reference, shown_music(tiny_corpus), texts=texts)
    assert (bundle.config, bundle.provenance, bundle.precisions) == (tiny_network.config, provenance, ("int8",))
    assert all(np.array_equal(bundle.reference.counts[name], reference.counts[name]) for name in reference.counts)
    files = {"weights.safetensors", *(graph_file(name, "int8") for name in GRAPHS)}
    assert set(bundle.files) == files  # those that are loaded; the card may be edited
    assert {path.name for path in folder.iterdir()} == files | {"README.md", "bundle.json"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
    assert {bundle.graph(name, "int8").name for name in GRAPHS} == files - {"weights.safetensors"}
    for name in GRAPHS:
        with pytest.raises(BundleError, match="it has no float32 graphs; it has int8"):
            bundle.graph(name, "float32")


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change_facts(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((folder / "bundle.json").read_text("utf-8"))
    change(facts)
    (folder / "bundle.json").write_text(json.dumps(facts), "utf-8")


def leave_out(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut_off(folder: Path) -> None:
    path = folder / "open.int8.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_byte(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        *(
            (leave_out(f"{name}.int8.onnx"), rf"{name}\.int8\.onnx is missing from the bundle; get or train it anew")
            for name in GRAPHS
        ),
        (cut_off, r"open\.int8\.onnx is not the file that bundle\.json describes"),
        (flip_a_byte, r"weights\.safetensors is not the file that bundle\.json describes"),
        (lambda f: (f / "bundle.json").unlink(), r"no model bundle \(bundle\.json is missing\)"),
        (lambda f: (f / "bundle.json").write_text("{"), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe"), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_text("[1]"), r"bundle\.json is damaged"),
        (
            lambda f: change_facts(f, lambda facts: facts.update(format=1)),
            "its format is 1, this version reads 2; a run makes",
        ),
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
