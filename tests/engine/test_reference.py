"""The NumPy reference in float32 is the network, token by token, with and without a future; in 8 bits it is close."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference is compared with the network, of the extra `train`")

from some_slots import copied  # noqa: E402

from conftest import COMPOSERS, rounded  # noqa: E402
from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.data.windows import Gaps, even_gaps  # noqa: E402
from music_generator.engine import reference  # noqa: E402
from music_generator.engine.engine import Engine  # noqa: E402
from music_generator.engine.memory import DURATION, KEY, SHIFT, VELOCITY, Memories  # noqa: E402
from music_generator.engine.slots import CLASS_SLICES, FutureContext, Slots  # noqa: E402
from music_generator.model.bundle import Bundle  # noqa: E402
from music_generator.model.config import FIELDS, GROUP_HEADS, MASKED, MEMORY_HEADS, NO_ONSET  # noqa: E402
from music_generator.model.network import Batch, Network, key_recency, last_events, next_onsets  # noqa: E402
from music_generator.model.pack import LinearShape, quantize_weights  # noqa: E402
from music_generator.music.tokens import (  # noqa: E402
    DENSITIES,
    KEYS,
    LOUDNESSES,
    NUM_KEYS,
    RESUME,
    TOKEN_DTYPE,
    Array,
    Window,
)
from music_generator.training.batches import to_batch  # noqa: E402

T, GAP = 48, 5
PRECISIONS = ("int8", "float32")


@pytest.fixture(scope="module")
def windows(tiny_corpus: Corpus) -> list[Window]:
    """Four windows of two pieces."""
    some = [Window(tiny_corpus.piece_rows(0)[i * T : (i + 1) * T], i == 0, False, i % 3) for i in range(3)]
    return [*some, Window(tiny_corpus.piece_rows(1)[-T:], False, True, 1)]


@pytest.fixture(scope="module")
def batch(windows: list[Window]) -> Batch:
    """The windows in gaps of five tokens."""
    return to_batch(windows, T, even_gaps(windows, T, GAP))


def told(gaps: Gaps) -> Gaps:
    """Each gap told its density, its loudness, both or neither."""
    gap = np.where(gaps.resume > T, 9, gaps.resume)
    return replace(gaps, density=gap % DENSITIES * (gap % 2), loudness=gap % LOUDNESSES * (gap % 3 > 0))


def some_gaps(kind: str, windows: list[Window]) -> Gaps:
    """Gaps without a future; of five tokens; up to the piece's end; or around kept notes."""
    count = len(windows)
    if kind == "without":
        return told(Gaps.none(count, T))
    if kind == "with":
        return told(even_gaps(windows, T, GAP))
    gaps, rng = Gaps.none(count, T), np.random.default_rng(4)
    for row, window in enumerate(windows):
        if kind == "end":
            gaps.add(row, 0, T // 2)
            if window.ends:
                gaps.add(row, T // 2, T)
            continue
        stop = T - 9 * row
        kept = (rng.random(stop) < 0.4) & (window.rows["key"][:stop] < KEYS)
        if row == 1:  # all that is kept is given before the future
            kept[:] = window.rows["key"][:stop] < KEYS
        gaps.kept[row, :stop], gaps.thinned[row] = kept, stop
        ends = [*np.flatnonzero(kept).tolist(), *([stop] if stop < T else [])]
        for start, end in pairwise([0, *ends]):  # a kept note itself lies in the gap after it
            gaps.add(row, start, end)
    return told(gaps)


@torch.no_grad()
def past_contexts(network: Network, batch: Batch) -> Array:
    """Before each token and after the last, the context and its part of the fuse layer's input: (T + 1, B, C)."""
    context = network.read(batch).context.transpose(0, 1)
    if network.config.direction == "both":
        context = torch.cat([context, context @ network.fuse_in.weight[:, : network.config.head_size].T], -1)
    return np.asarray(context)


@torch.no_grad()
def future_contexts(network: Network, batch: Batch) -> Array:
    """The same of the future from each token on and after all: (T + 1, B, C)."""
    future = network.read_future(batch).transpose(0, 1)
    size = network.config.head_size
    fused = future @ network.fuse_in.weight[:, size : 2 * size].T + network.fuse_in.bias
    return np.asarray(torch.cat([future, fused], -1))


@torch.no_grad()
def states(network: Network, batch: Batch) -> Array:
    """The forward stack's states before each token and after the last: (T + 1, B, R, H)."""
    last_onset, last_release = last_events(batch.key, batch.onset, batch.held, batch.present)
    now = torch.nn.functional.pad(batch.onset, (1, 0))
    fields = {name: torch.nn.functional.pad(getattr(batch, name), (1, 0)) for name in FIELDS}
    fields["key"][:, 0] = batch.start
    x = network.forward_input(fields, batch.composer[:, None], key_recency(last_onset, last_release, now))
    found: list[list[Array]] = [[] for _ in range(T + 1)]
    for layer in network.forward_stack.layers:
        state, above = None, []
        for t in range(T + 1):
            out, state = layer(x[:, t : t + 1], state)
            above.append(out)
            found[t] += [each[0].numpy() for each in (state if isinstance(state, tuple) else (state,))]
        x = torch.cat(above, 1)
    return np.stack([np.stack(each, 1) for each in found])


def begun(engine: Engine, windows: list[Window]) -> Slots:
    """Slots before the first token of each window."""
    slots = engine.slots(len(windows), scored=True, fixed=T)
    for b, window in enumerate(windows):
        slots.attach(b, engine.read_past(window.rows[:0], window.composer, cut=not window.begins))
    return slots


def futures_of(engine: Engine, window: Window, gaps: Gaps, row: int) -> dict[int, FutureContext | None]:
    """The future from each token on at which a gap ends, as `Batch.resume` names it."""
    thinned = int(gaps.thinned[row])
    place = np.flatnonzero(np.append(gaps.kept[row, :thinned], np.ones(T - thinned, bool)))
    onsets = np.cumsum(window.rows["shift"], dtype=np.int64)
    rows = window.rows[place].astype(TOKEN_DTYPE)
    rows["shift"] = np.diff(onsets[place], prepend=0)
    first = int((place < thinned).sum())
    read = engine.read_futures(rows, window.composer, cut=not window.ends, thinned=first)
    ended = engine.read_end(int(onsets[-1]), window.composer)
    return {**dict(zip(place.tolist(), read, strict=True)), T: ended, T + 1: None}


def force(slots: Slots, batch: Batch, t: int) -> None:
    classes = [getattr(batch, name)[:, t] for name in FIELDS]
    shift = batch.onset[:, t] - (batch.onset[:, t - 1] if t else 0)
    assert slots.forced is not None
    slots.forced[:] = torch.stack([*classes, shift, batch.held[:, t]], 1).numpy()


def backend_of(bundle: Bundle, precision: str) -> Engine:
    return Engine(bundle, precision=precision, backend="numpy")


# --- reading


def test_reading_the_past(exported: tuple[Network, Bundle], batch: Batch, windows: list[Window]) -> None:
    """After some tokens: the states and the context, and what each key did last. Stepping shows it after each."""
    network, bundle = exported
    wanted, wanted_states = past_contexts(network, batch), states(network, batch)
    last_onset, last_release = (each.numpy() for each in last_events(batch.key, batch.onset, batch.held, batch.present))
    exact, rough = (backend_of(bundle, precision) for precision in ("float32", "int8"))
    found, near = [], []
    for b, window in enumerate(windows):
        for t in (0, 1, 2, 3, 12, T):
            read = exact.read_past(window.rows[:t], window.composer, cut=not window.begins)
            np.testing.assert_allclose(read.context, wanted[t, b], atol=2e-5)
            np.testing.assert_allclose(read.states, wanted_states[t, b], atol=2e-5)
            for mine, its in ((read.last_onset, last_onset[b, t]), (read.last_release, last_release[b, t])):
                np.testing.assert_array_equal(np.where(mine == -NO_ONSET, -(10**6), mine), its)
            assert read.now == (batch.onset[b, t - 1] if t else 0)
            near.append(rough.read_past(window.rows[:t], window.composer, cut=not window.begins).context)
            found.append(wanted[t, b])
    assert np.abs(np.array(near) - found).mean() < 0.05
    limit = 0.99 if network.config.forward_layers > 1 else 0.98
    assert np.corrcoef(np.ravel(near), np.ravel(found))[0, 1] > limit


def test_reading_futures(exported: tuple[Network, Bundle], batch: Batch, windows: list[Window]) -> None:
    """At each token: the future is read from the end of the window back to it, and no further."""
    network, bundle = exported
    if network.config.direction == "forward":
        assert not hasattr(network, "future")  # test_engine.py: a future is refused
        return
    wanted = future_contexts(network, batch)
    onsets = next_onsets(batch.key, batch.onset, batch.present).numpy()
    exact, rough = (backend_of(bundle, precision) for precision in ("float32", "int8"))
    for b, window in enumerate(windows):
        futures = exact.read_futures(window.rows, window.composer, cut=not window.ends)
        assert len(futures) == T
        for t, future in enumerate(futures):
            np.testing.assert_allclose(future.context, wanted[t, b], atol=2e-5)
            np.testing.assert_array_equal(future.next_onset, onsets[b, t])
            assert future.tick == batch.onset[b, t]
        near = np.array(
            [each.context for each in rough.read_futures(window.rows, window.composer, cut=not window.ends)]
        )
        assert np.abs(near - wanted[:T, b]).mean() < 0.05


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_future_is_that_of_all_futures(tiny_bundle: str, windows: list[Window], precision: str) -> None:
    """To the bit: reading stops at the first token; only the last window's future ends with its piece."""
    engine = Engine(tiny_bundle, precision=precision, backend="numpy")
    window = windows[-1]
    all_of_them = engine.read_futures(window.rows, window.composer)
    for t in (0, 7, T - 1):
        tick = all_of_them[t].tick
        one = engine.read_future(window.rows[t:], tick, window.composer)
        np.testing.assert_array_equal(one.context, all_of_them[t].context)
        np.testing.assert_array_equal(one.next_onset, all_of_them[t].next_onset)
        assert one.tick == tick


# --- steps


@torch.no_grad()
def network_logits(network: Network, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Of each token's fields, as its gap has a future or not, and of the shift at each gap's end."""
    logits, _ = network.without_future(network.read(batch))
    if network.config.direction == "forward":
        return logits, torch.empty(0, RESUME + 1)
    given, resumed = network.with_future(network.read(batch))
    has = batch.has_future[..., None]
    return {name: torch.where(has, given[name], logits[name]) for name in logits}, resumed


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["without", "with", "end", "kept"])
def test_steps_equal_the_network(
    exported: tuple[Network, Bundle], windows: list[Window], kind: str, precision: str
) -> None:
    """Logits to 1e-4, contexts and states to 2e-5; in 8 bits logits to 0.03 and states to 0.05 in the mean."""
    network, bundle = exported
    if kind != "without" and network.config.direction == "forward":
        return
    gaps = some_gaps(kind, windows)
    batch = to_batch(windows, T, gaps)
    wanted, resumed = network_logits(network, batch)
    contexts, wanted_states = past_contexts(network, batch), states(network, batch)
    engine = backend_of(bundle, precision)
    slots = begun(engine, windows)
    futures = [futures_of(engine, window, gaps, b) for b, window in enumerate(windows)] if kind != "without" else []
    exact, off = precision == "float32", []
    ends, decisions = batch.gap_ends.numpy(), {}
    slots.density[:], slots.loudness[:] = gaps.density[:, 0], gaps.loudness[:, 0]
    for b in np.flatnonzero(ends[:, 0]).tolist():
        slots.set_future(b, futures[b][0])
    for t in range(T + 1):
        if ends[:, t].any():  # the gap before this token ends here
            before = copied(slots)
            engine.backend.step(slots, 0, slots.size, False)
            decisions |= {(b, t): slots.logits[b, RESUME].copy() for b in np.flatnonzero(ends[:, t]).tolist()}
            for name, value in copied(slots).items():
                if name not in ("drawn", "logits"):
                    np.testing.assert_array_equal(value, before[name], err_msg=name)
        if t == T:
            break
        force(slots, batch, t)
        slots.density[:], slots.loudness[:] = gaps.density[:, t], gaps.loudness[:, t]
        for b, each in enumerate(futures):
            slots.set_future(b, each[int(gaps.resume[b, t])])
        engine.backend.step(slots, 0, slots.size, True)
        np.testing.assert_array_equal(slots.drawn, slots.forced)
        for name in FIELDS:
            expected = wanted[name][:, t].numpy()
            difference = np.where(expected > MASKED, slots.logits[:, CLASS_SLICES[name]] - expected, 0)
            if exact:
                np.testing.assert_allclose(difference, 0, atol=1e-4, err_msg=f"{name} {t}")
            off.append(np.abs(difference).mean())
        for found, expected in ((slots.context, contexts[t + 1]), (slots.states, wanted_states[t + 1])):
            if exact:
                np.testing.assert_allclose(found, expected, atol=2e-5)
            else:
                assert np.abs(found - expected).mean() < 0.05
        slots.span["now"] += slots.drawn[:, 4]
    assert np.mean(off) < (1e-5 if exact else 0.03)  # steps of weights are up to twice 1 / 127
    places = list(zip(*(each.tolist() for each in ends.nonzero()), strict=True))  # in the order of window, gap
    assert len(places) == ends.sum() == len(resumed)
    assert (kind == "without") == (not places)
    difference = np.array([decisions[place] for place in places]) - resumed[:, RESUME].numpy()
    if exact:
        np.testing.assert_allclose(difference, 0, atol=1e-4)
    elif places:
        assert np.abs(difference).mean() < 0.05


def test_what_is_told_counts(exported: tuple[Network, Bundle], windows: list[Window]) -> None:
    """Density and loudness change every field; a network that is not steered has no such inputs."""
    network, bundle = exported
    engine = backend_of(bundle, "float32")
    slots = begun(engine, windows[:1] * 3)
    slots.density[1], slots.loudness[2] = 3, 5
    force(slots, to_batch(windows[:1] * 3, T), 0)
    engine.backend.step(slots, 0, 3, False)
    for slot in (1, 2):
        for name in FIELDS:
            one, other = slots.logits[[0, slot], CLASS_SLICES[name]]
            assert np.allclose(one, other, atol=1e-5) == (not network.config.steered), name


# --- the memory


def remembered_by(network: Network, batch: Batch) -> Any:
    with torch.no_grad():
        return network.memory.remember(batch.fields, batch.onset)


@pytest.mark.parametrize("count", [1, 5, 63, 64, 65, 200])
def test_the_ring_holds_the_last_events(
    tiny_bundle: Path, tiny_network: Network, tiny_corpus: Corpus, count: int
) -> None:
    """As the network stores them, in their order, also when the ring has wrapped around; 64 events."""
    rows = tiny_corpus.piece_rows(0)[:count]
    engine = Engine(tiny_bundle, precision="float32", backend="numpy")
    memory = engine.read_past(rows).memory
    batch = to_batch([Window(rows, True, True)], count)
    wanted = remembered_by(rounded(tiny_network), batch)
    entries = memory.entries(0)
    assert len(entries) == min(count, 64)
    np.testing.assert_allclose(entries.fingerprints, wanted.stored[0, :, -64:].numpy(), atol=1e-5)
    for column, name in ((SHIFT, "shift"), (KEY, "key"), (VELOCITY, "velocity"), (DURATION, "duration")):
        np.testing.assert_array_equal(entries.events[:, column], getattr(batch, name)[0, -64:])
    assert memory.state["written"][0] == count
    assert memory.state["below"][0] == wanted.below[0, -1]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("count", [0, 1, 40, 150])
def test_what_is_recalled_is_what_the_network_recalls(
    tiny_bundle: Path, tiny_network: Network, tiny_corpus: Corpus, count: int, precision: str
) -> None:
    """Of the events that the ring holds: on which keys the groups' heads point, and how sure they are."""
    rows = tiny_corpus.piece_rows(0)[: max(count, 1)]
    engine = Engine(tiny_bundle, precision=precision, backend="numpy")
    network = rounded(tiny_network)
    memory = engine.read_past(rows[:count]).memory
    wanted = remembered_by(network, to_batch([Window(rows, True, True)], len(rows)))
    place = torch.arange(len(rows))
    now = torch.arange(len(rows) + 1)[:, None]
    with torch.no_grad():
        recalled = network.memory.recall(wanted, ((place < now) & (place >= now - 64))[None])
    found = engine.backend.memory.recall(memory, 0, 1, np.ones(1, np.float32))
    atol = 1e-5 if precision == "float32" else 0.02
    np.testing.assert_allclose(found.rolls[0, -GROUP_HEADS:], recalled.pointed[0, count].numpy(), atol=atol)
    assert found.taken.shape == (1, MEMORY_HEADS)
    assert (found.taken > 0).all() == (count > 0)
    for head in (0, 1, MEMORY_HEADS - 2):  # what is not laid loses nothing
        np.testing.assert_allclose(found.rolls[0, head].sum(), found.taken[0, head], atol=1e-5)


def test_the_score_of_nothing_says_how_much_returns(tiny_bundle: Path, tiny_corpus: Corpus) -> None:
    engine = Engine(tiny_bundle, precision="float32", backend="numpy")
    memory = engine.read_past(tiny_corpus.piece_rows(0)[:60]).memory
    taken = [
        engine.backend.memory.recall(memory, 0, 1, np.array([factor], np.float32)).taken for factor in (0.5, 1.0, 2.0)
    ]
    assert (taken[0] > taken[1]).all()
    assert (taken[1] > taken[2]).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fixed_entries_count_as_those_of_the_ring_and_bonuses_add_to_their_score(
    tiny_bundle: Path, tiny_corpus: Corpus, precision: str
) -> None:
    """All that was read, once in the ring and once as fixed entries; then only some, with a bonus."""
    engine = Engine(tiny_bundle, precision=precision, backend="numpy")
    whole = engine.read_past(tiny_corpus.piece_rows(0)[:60]).memory
    one, factor = np.ones(1, np.float32), engine.backend.memory
    memories = Memories(engine.config, 1, precision, fixed=70)
    memories.copy(0, whole, 0)
    memories.state["written"] = 0  # the ring is not used
    memories.set_fixed(0, whole.entries(0))
    wanted, found = factor.recall(whole, 0, 1, one), factor.recall(memories, 0, 1, one)
    for name in ("values", "rolls", "taken"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-5, err_msg=name)
    memories.set_fixed(0, whole.entries(0), 60)
    assert not factor.recall(memories, 0, 1, one).taken.any()
    taken = []
    for bonus in (0.0, 2.0, 4.0):
        memories.set_fixed(0, whole.entries(0).part(10, 30, bonus))
        taken.append(factor.recall(memories, 0, 1, one).taken)
    assert (taken[0] < taken[1]).all()
    assert (taken[1] < taken[2]).all()
    odds = [each / (1 - each) for each in taken]  # a bonus is nats of attention
    np.testing.assert_allclose(odds[1] / odds[0], np.exp(2), rtol=1e-3 if precision == "float32" else 0.2)


# --- parts


def events_at(now: int, seed: int = 0) -> tuple[Array, Array]:
    """When each key was struck and released, of four slots; some never."""
    rng = np.random.default_rng(seed)
    last_onset = now - rng.integers(0, 300, (4, NUM_KEYS))
    last_release = last_onset + rng.integers(1, 400, (4, NUM_KEYS))
    never = rng.random((4, NUM_KEYS)) < 0.3
    last_onset[never], last_release[never] = -NO_ONSET, -NO_ONSET
    return last_onset.astype(np.int32), last_release.astype(np.int32)


@pytest.mark.parametrize("now", [0, 1000, 8_640_000])
def test_key_recency_is_the_networks(now: int) -> None:
    last_onset, last_release = events_at(now)
    ticks = np.full(4, now, np.int32)
    found = reference.key_recency(last_onset, last_release, ticks)
    expected = key_recency(*(torch.tensor(each, dtype=torch.int64) for each in (last_onset, last_release, ticks)))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert found.min() >= 0  # what its fixed scale holds
    assert found.max() <= 1


def test_the_logarithm_is_that_of_numpy() -> None:
    """Of all that a probability may be, down to the least: to two units of the last digit."""
    x = np.concatenate([np.geomspace(1e-9, 2, 200_001), [1.0, 0.5, 0.70710677, 0.7071068, 1e-9]]).astype(np.float32)
    found = reference.logarithm(x.copy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log(x.astype(np.float64)), rtol=2.5e-7, atol=1e-7)
    assert found[np.flatnonzero(x == 1)[0]] == 0


@pytest.mark.parametrize("name", ["exponential", "sigmoid", "tanh", "gelu"])
def test_elementwise_functions(name: str) -> None:
    """To 1e-6, of the value where that is above 1: as exact as float32 is, and erf by its formula."""
    x = np.concatenate([np.linspace(-30, 30, 100_001), [0.0, -0.0, 1e-30, -1e-30]]).astype(np.float32)
    torch_form = {"exponential": torch.exp, "gelu": torch.nn.functional.gelu}.get(name) or getattr(torch, name)
    wanted = torch_form(torch.tensor(x, dtype=torch.float64)).numpy()
    found = {
        "exponential": lambda: reference.exponential(x),
        "sigmoid": lambda: reference.sigmoid_of(reference.exponential(-x)),
        "tanh": lambda: reference.tanh_of(reference.exponential(np.float32(-2) * x)),
        "gelu": lambda: reference.gelu(x),
    }[name]()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [-1e9, -200.0, -87.5, 87.5, 200.0, 1e9])
def test_elementwise_functions_far_out(value: float) -> None:
    """Finite, and at their limits."""
    x = np.array([value], np.float32)
    with np.errstate(over="ignore"):
        assert np.isfinite(reference.exponential(x)).all()
        sigmoid = reference.sigmoid_of(reference.exponential(-x))
        tanh = reference.tanh_of(reference.exponential(np.float32(-2) * x))
        assert sigmoid[0] == pytest.approx(float(value > 0), abs=1e-6)
        assert tanh[0] == pytest.approx(np.sign(value), abs=1e-6)
        assert reference.gelu(x)[0] == pytest.approx(max(value, 0), abs=1e-6)


@pytest.mark.parametrize("inputs", [(-1.0, 1.0), (-0.2, 3.0), (0.0, 0.5), (-2.0, 0.0)])
def test_a_map_in_8_bits_is_near_the_exact_one(inputs: tuple[float, float]) -> None:
    """Inputs past the range are cut; of any number of rows each row is the same, and zeros give the bias."""
    rng = np.random.default_rng(1)
    (low, high), weight, bias = inputs, rng.normal(size=(201, 30)), rng.normal(size=30).astype(np.float32)
    weight[:, 0], weight[:, 2], weight[:, 3] = 1.0, 0.0, -1.0
    weight[::2, 1], weight[1::4, 4] = -1.0, 0.01
    whole, scale = quantize_weights(weight, (201,))
    step = (high - low) / 255
    shape = LinearShape("map", (201,), 30)
    tensors = {
        "map.weight": whole,
        "map.bias": bias,
        "map.scale": (scale * step).astype(np.float32),
        "map.input": np.array([1 / step, round(-low / step)], np.float32),
    }
    linear = reference.Linear(tensors, shape, "int8")
    x = rng.uniform(low, high, (50, 201)).astype(np.float32)
    x[0], x[1], x[2] = high, low, 5 * high + 1
    found = linear(x)
    np.testing.assert_allclose(found[2], linear(np.full((1, 201), high, np.float32))[0], rtol=1e-6)
    # near the exact product: half a step of each input and weight, and their errors add as chance has it
    exact = x.clip(low, high) @ weight + bias
    spread = 0.5 * step * np.linalg.norm(weight, axis=0) + 0.5 * scale * np.linalg.norm(x[3:], axis=1).max()
    assert (np.abs(found - exact)[3:] <= 4 * spread).all()
    np.testing.assert_array_equal(found[:, 2], np.full(50, bias[2]))
    for first in range(0, 50, 7):
        np.testing.assert_array_equal(linear(x[first : first + 7]), found[first : first + 7])


def test_a_map_in_float32_is_the_linear_map() -> None:
    rng = np.random.default_rng(2)
    weight, bias, x = (rng.normal(size=shape).astype(np.float32) for shape in ((7, 5), (5,), (3, 7)))
    linear = reference.Linear({"map.weight": weight, "map.bias": bias}, LinearShape("map", (7,), 5), "float32")
    np.testing.assert_allclose(linear(x), x @ weight + bias, rtol=1e-6)


def test_values_lie_in_their_bins() -> None:
    """The first value of a bin for 0, its last for what is just below 1; classes past the bins are the last bin."""
    for field, bins in reference.BINS.items():
        for place in range(len(bins)):
            first, end = bins.edges[place : place + 2]
            assert reference.value_in_bin(field, place, 0.0) == first
            assert reference.value_in_bin(field, place, np.nextafter(np.float32(1), np.float32(0))) == end - 1
        assert reference.value_in_bin(field, len(bins) + 1, 0.0) == bins.edges[-2]


def test_the_composers_are_told_apart(tiny_bundle: str, tiny_corpus: Corpus) -> None:
    engine = Engine(tiny_bundle, precision="float32", backend="numpy")
    rows = tiny_corpus.piece_rows(0)[:9]
    contexts = [engine.read_past(rows, composer).context for composer in range(1 + len(COMPOSERS))]
    assert not any(np.allclose(contexts[i], contexts[j], atol=1e-4) for i, j in ((0, 1), (0, 2), (1, 2)))
