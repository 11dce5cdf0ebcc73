"""The engine: what it reads is what it would have written itself, and what does not fit is said so."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from some_slots import FIXED, arrays_of, copied, fill_slot, force, some_slots

from music_generator.data.corpus import Corpus
from music_generator.engine import engine as engines
from music_generator.engine import kernel
from music_generator.engine.engine import BACKENDS, MAX_CONTEXT, Engine
from music_generator.engine.memory import Memories
from music_generator.engine.noise import GUMBEL_QUANTILES, NOISE_BLOCK_TOKENS, UNIFORMS, NoiseSource
from music_generator.engine.reference import Reference
from music_generator.engine.rules import SpanState
from music_generator.engine.slots import ALL_CLASSES, CLASS_SLICES, Drawing, PastState, Slots
from music_generator.errors import BundleError, InputError
from music_generator.generation import SamplingOptions, compose, infill
from music_generator.model.bundle import FACTS_FILE, PRETRAINED, Bundle, open_bundle, runtime_file
from music_generator.model.config import CUT, EDGE_OF_PIECE, FIELDS, NO_ONSET
from music_generator.model.pack import PRECISIONS
from music_generator.music.tokens import DURATION_BINS, SHIFT_BINS, TOKEN_DTYPE, VELOCITY_BINS, Array, decode


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module", params=PRECISIONS)
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Engine:
    """One of each precision."""
    return Engine(bundle, precision=request.param)


@pytest.fixture(scope="module")
def exact(bundle: Bundle) -> Engine:
    return Engine(bundle, precision="float32")


@pytest.fixture(scope="module")
def rows(tiny_corpus: Corpus) -> Array:
    """About four hundred tokens with pedals, rests and repeated keys."""
    return tiny_corpus.piece_rows(0).astype(TOKEN_DTYPE)


def advance(engine: Engine, slots: Slots, slot: int, rows: Array) -> None:
    """Step through tokens, whatever the logits are."""
    for row in rows:
        force(slots, slot, tuple(row))
        engine.backend.step(slots, slot, 1, True)
        slots.span["now"][slot] += row["shift"]


def assert_same(one: PastState, other: PastState) -> None:
    """Compare to the bit."""
    for name, value in vars(one).items():
        if isinstance(value, Memories):
            assert_same_memory(value, getattr(other, name))
        else:
            np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def assert_same_memory(one: Memories, other: Memories, slot: int = 0, its: int = 0) -> None:
    """Compare what two memories have taken in, wherever in their rings it stands."""
    entries, others = one.entries(slot), other.entries(its)
    for name in ("fingerprints", "events"):
        np.testing.assert_array_equal(getattr(entries, name), getattr(others, name), err_msg=name)
    np.testing.assert_array_equal(one.pending[slot], other.pending[its])
    for name in ("last_key", "last_note", "low", "below", "below_two"):
        assert one.state[slot][name] == other.state[its][name], name


# --- reading


@pytest.mark.parametrize("has_future", [False, True])
@pytest.mark.parametrize("read", [0, 1, 7, 150])
def test_reading_equals_stepping_token_by_token(engine: Engine, rows: Array, read: int, has_future: bool) -> None:
    """To the bit: a slot that has stepped through tokens, and one that they had been read for."""
    at_once, begun = engine.read_past(rows[:200], 2), engine.read_past(rows[:read], 2)
    future = engine.read_future(rows[200:240], at_once.now + int(rows["shift"][200]), 2) if has_future else None
    slots, other = (engine.slots(1, scored=True) for _ in range(2))
    slots.attach(0, begun, future)
    advance(engine, slots, 0, rows[read:200])
    other.attach(0, at_once, future)
    for each in (slots, other):
        force(each, 0, tuple(rows[200]))
        engine.backend.step(each, 0, 1, False)
    one, wanted = copied(slots), copied(other)
    for name in ("states", "context", "last_onset", "last_release", "composer", "drawn", "logits"):
        np.testing.assert_array_equal(one[name], wanted[name], err_msg=name)
    assert slots.span["now"] == other.span["now"] == at_once.now


def test_reading_counts_from_the_first_tick(engine: Engine, rows: Array) -> None:
    """To the bit: what is read does not depend on when it was."""
    early, late = engine.read_past(rows[:50]), engine.read_past(rows[:50], 0, 1000)
    assert late.now == early.now + 1000
    for name in ("last_onset", "last_release"):
        wanted = np.where(getattr(early, name) > -NO_ONSET, getattr(early, name) + 1000, -NO_ONSET)
        np.testing.assert_array_equal(getattr(late, name), wanted)
    np.testing.assert_array_equal(late.context, early.context)
    np.testing.assert_array_equal(late.states, early.states)


def test_only_the_last_tokens_are_read(exact: Engine, rows: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MAX_CONTEXT", 64)
    other = rows.copy()
    other["velocity"][:-64] = 1
    other["duration"][:-64] = 1
    assert_same(exact.read_past(rows), exact.read_past(other))
    other["velocity"][-64] = 1
    assert not np.allclose(exact.read_past(rows).context, exact.read_past(other).context, atol=1e-7)


def test_as_many_tokens_are_read_as_promised(exact: Engine, rows: Array) -> None:
    """Some more than `MAX_CONTEXT` change nothing but that the past is cut, and the keys that are known."""
    long = np.resize(rows, MAX_CONTEXT + 5)
    last = long[-MAX_CONTEXT:]
    first_tick = int(long["shift"][:5].sum())
    read = exact.read_past(long)
    assert read.recent_keys[MAX_CONTEXT:][:5].tolist() == long["key"][4::-1].tolist()
    read.recent_keys[MAX_CONTEXT:] = -1
    assert_same(read, exact.read_past(last, 0, first_tick, cut=True))
    future = exact.read_future(long, 9)
    np.testing.assert_array_equal(future.context, exact.read_futures(long[:MAX_CONTEXT], cut=True)[0].context)
    assert (future.next_onset[future.next_onset < NO_ONSET] <= 9 + long["shift"][1:MAX_CONTEXT].sum()).all()


def test_a_cut_past_is_told_from_a_beginning(exact: Engine, rows: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = exact.read_past(rows[1:21]), exact.read_past(rows[1:21], cut=True)
    assert not np.allclose(whole.context, cut.context, atol=1e-7)
    monkeypatch.setattr(engines, "MAX_CONTEXT", 20)
    np.testing.assert_array_equal(exact.read_past(rows[:21]).context, cut.context)


def test_no_past_is_a_beginning(engine: Engine) -> None:
    read = engine.read_past(np.empty(0, TOKEN_DTYPE), 0, 30)
    assert (read.now, read.last_key) == (30, -1)
    assert (read.last_onset == -NO_ONSET).all()
    assert (read.last_release == -NO_ONSET).all()
    assert read.states.any()  # that the piece begins has been read


def test_what_the_past_is(engine: Engine, rows: Array) -> None:
    """When each key was struck and released last; a key struck again is released when its last event is."""
    read = engine.read_past(rows[:60], 1, 70)
    onsets = (70 + np.cumsum(rows["shift"][:60], dtype=np.int64)).tolist()
    last = {key: (onset, onset + held) for key, onset, held in zip(
        rows["key"][:60].tolist(), onsets, rows["duration"][:60].tolist(), strict=True
    )}  # fmt: skip
    found = zip(read.last_onset.tolist(), read.last_release.tolist(), strict=True)
    assert {key: times for key, times in enumerate(found) if times[0] > -NO_ONSET} == last
    assert (read.now, read.last_key, read.composer) == (onsets[-1], rows["key"][59], 1)
    assert read.context.shape == (engine.config.context_size,)
    assert read.states.shape == (engine.config.state_rows(engine.config.forward_layers), engine.config.forward_size)


def test_only_the_first_tokens_of_the_future_are_read(
    exact: Engine, rows: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "MAX_CONTEXT", 16)
    read, other = exact.read_future(rows[:100], 500), rows[:100].copy()
    other["key"][16:] = 3
    np.testing.assert_array_equal(read.context, exact.read_future(other, 500).context)
    assert read.tick == 500
    np.testing.assert_array_equal(read.context, exact.read_futures(rows[:16], cut=True)[0].context)
    assert not np.allclose(read.context, exact.read_future(rows[:16], 500).context, atol=1e-7)  # not the piece's end
    other["key"][0] += 1
    assert not np.allclose(read.context, exact.read_future(other, 500).context, atol=1e-7)


def test_the_shift_before_the_future_is_not_read(engine: Engine, rows: Array) -> None:
    other = rows[:20].copy()
    other["shift"][0] = 700
    one, same = engine.read_future(rows[:20], 9), engine.read_future(other, 9)
    np.testing.assert_array_equal(one.context, same.context)
    np.testing.assert_array_equal(one.next_onset, same.next_onset)


def test_the_composer_and_the_future_are_read(exact: Engine, rows: Array) -> None:
    assert not np.allclose(exact.read_past(rows[:9], 1).context, exact.read_past(rows[:9], 2).context)
    assert not np.allclose(exact.read_future(rows[:9], 0, 1).context, exact.read_future(rows[:9], 0, 2).context)
    assert not np.allclose(exact.read_future(rows[:9], 0).context, exact.read_future(rows[:8], 0).context)


def test_what_the_future_is(engine: Engine, rows: Array) -> None:
    """Its first tick, and when each key comes next, counted from the tick that its first token is at."""
    future = engine.read_future(rows[5:60], 700)
    onsets = 700 + np.cumsum(rows["shift"][6:60], dtype=np.int64)
    following = {int(rows["key"][5]): 700}
    for key, onset in zip(rows["key"][6:60].tolist(), onsets.tolist(), strict=True):
        following.setdefault(key, onset)
    assert future.tick == 700
    assert {key: int(tick) for key, tick in enumerate(future.next_onset) if tick < NO_ONSET} == following
    assert future.context.shape == (2 * engine.config.head_size,)


def test_futures_are_each_a_future(engine: Engine, rows: Array) -> None:
    """To the bit; the ticks of `read_futures` count from tick 0 before the first shift."""
    some = rows[40:70]
    onsets = np.cumsum(some["shift"], dtype=np.int64).tolist()
    for place, future in enumerate(engine.read_futures(some, 1)):
        alone = engine.read_future(some[place:], onsets[place], 1)
        np.testing.assert_array_equal(future.context, alone.context)
        np.testing.assert_array_equal(future.next_onset, alone.next_onset)
        assert future.tick == alone.tick == onsets[place]


def test_reading_backwards_by_hand(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backward stack is given: the tokens from the last on, their times counted back from the last onset."""
    engine, given = Engine(bundle, backend="numpy"), []

    def watched(_self: Reference, tokens: Array, composer: int, *, backward: bool, every: bool = False) -> tuple:
        given.append((tokens, composer, backward))
        return np.zeros((1, 1)), np.zeros((len(tokens) if every else 1, engine.config.context_size))

    monkeypatch.setattr(Reference, "encode", watched)
    rows = np.array([(50, 40, 64, 10), (3, 44, 20, 300), (0, 47, 127, 1), (200, 40, 1, 25)], TOKEN_DTYPE)
    engine.read_futures(rows, 2)
    ((tokens, composer, backward),) = given
    assert (composer, backward, tokens.shape, tokens.dtype) == (2, True, (5, 6), np.int32)
    assert tokens[:, 1].tolist() == [EDGE_OF_PIECE, 40, 47, 44, 40]
    # the time from each token to the one after it; what is before the first token is not read
    assert tokens[:, 0].tolist() == SHIFT_BINS.index(np.array([0, 0, 200, 0, 3])).tolist()
    assert tokens[:, 2].tolist() == [0, *VELOCITY_BINS.index(rows["velocity"][::-1]).tolist()]
    assert tokens[:, 3].tolist() == [0, *DURATION_BINS.index(rows["duration"][::-1]).tolist()]
    assert tokens[:, 4].tolist() == [0, 0, 200, 200, 203]
    engine.read_futures(rows, cut=True)
    assert given[1][0][0, 1] == CUT
    engine.read_future(rows[:1], 0)
    assert given[2][0][:, 0].tolist() == [0, 0]


def test_reading_forwards_by_hand(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, given = Engine(bundle, backend="numpy"), []

    def watched(_self: Reference, tokens: Array, _composer: int, *, backward: bool, every: bool = False) -> tuple:
        given.append((tokens, backward, every))
        return np.zeros((1, 1)), np.zeros((1, 1))

    monkeypatch.setattr(Reference, "encode", watched)
    rows = np.array([(50, 40, 64, 10), (3, 44, 20, 300), (0, 47, 127, 1)], TOKEN_DTYPE)
    engine.read_past(rows, 2, 7)
    ((tokens, backward, every),) = given
    assert not backward
    assert not every
    assert tokens[0].tolist() == [0, EDGE_OF_PIECE, 0, 0, 7, 7]  # the time before the first shift
    assert tokens[:, 1].tolist() == [EDGE_OF_PIECE, 40, 44, 47]
    assert tokens[:, 0].tolist() == [0, *SHIFT_BINS.index(rows["shift"]).tolist()]
    assert tokens[1:, 4].tolist() == [57, 60, 60]
    assert tokens[1:, 5].tolist() == [67, 360, 61]


# --- slots


def test_a_step_without_commit_leaves_the_slots_where_they_are(engine: Engine) -> None:
    """The same draw again and again, and the step that follows is that of slots that were not looked at."""
    slots, other = (some_slots(engine, 2, has_future=False) for _ in range(2))
    engine.backend.step(slots, 0, 2, False)
    first = copied(slots)
    for _ in range(3):
        engine.backend.step(slots, 0, 2, False)
        for name, value in copied(slots).items():
            np.testing.assert_array_equal(value, first[name], err_msg=name)
    for turn in range(3):
        engine.backend.step(slots, 0, 2, False)
        for each in (slots, other):
            engine.backend.step(each, 0, 2, True)
            each.span["place"] = turn
        for name, value in copied(slots).items():
            np.testing.assert_array_equal(value, copied(other)[name], err_msg=name)


def test_arrays_of_the_slots_stay_in_place(engine: Engine, rows: Array) -> None:
    """The kernel keeps their addresses."""
    slots = some_slots(engine, 3, has_future=True)

    def places() -> dict[str, int]:
        return {name: value.ctypes.data for name, value in arrays_of(slots).items()}

    before = places()
    past = engine.read_past(rows[:9])
    slots.attach(1, past, engine.read_future(rows[9:20], past.now + 30))
    slots.move(2, 0)
    fill_slot(slots, 2, 8)
    for _ in range(4):
        engine.backend.step(slots, 0, 3, True)
        engine.backend.write(slots, 3, 2)
    assert places() == before


@pytest.mark.parametrize("has_future", [False, True])
def test_a_slot_that_is_moved_goes_on_as_it_would_have(engine: Engine, has_future: bool) -> None:
    """After some steps, to the place of another one; from then on the first slots alone are stepped."""
    found = []
    for moved in (False, True):
        slots = some_slots(engine, 16, has_future=has_future)
        for _ in range(3):
            engine.backend.step(slots, 0, 16, True)
            slots.span["place"] += 1
        slot, count = 11, 16
        if moved:
            slots.move(slot, 2)
            slot, count = 2, 3
        for _ in range(4):
            engine.backend.step(slots, 0, count, True)
            slots.span["place"] += 1
        found.append({name: value[slot] for name, value in copied(slots).items()})
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)


def test_a_slot_that_is_used_again_is_as_new(engine: Engine, rows: Array) -> None:
    past = engine.read_past(rows[:30], 1)
    future = engine.read_future(rows[40:60], past.now + 100)
    fresh, used = engine.slots(2, fixed=FIXED), some_slots(engine, 2, has_future=True)
    engine.backend.step(used, 0, 2, True)
    for slots in (fresh, used):
        slots.attach(1, past, future)
        slots.begin(1, replace_span(slots, 1), NoiseSource(3, 1.0), Drawing(1.0, 0.9))
        engine.backend.step(slots, 1, 1, True)
    for name, value in copied(fresh).items():
        if not name.startswith("memory."):  # in which entries that are not used may say anything
            np.testing.assert_array_equal(value[1], copied(used)[name][1], err_msg=name)
    assert_same_memory(fresh.memory, used.memory, 1, 1)
    assert fresh.memory.state[1] == used.memory.state[1]
    assert fresh.memory.state[1]["fixed_to"] == 20


def replace_span(slots: Slots, slot: int) -> SpanState:
    return SpanState(*slots.span[slot].tolist())


def test_slots_hear_their_future(exact: Engine, rows: Array) -> None:
    """What it says, how long it is until then, when each key comes, what stands in memory: each changes the logits."""
    past = exact.read_past(rows[:30])
    future = exact.read_future(rows[40:60], past.now + 100)
    sooner = future.next_onset.copy()
    sooner[sooner < NO_ONSET] -= 20
    futures = [
        future,
        exact.read_future(rows[70:90], past.now + 100),
        replace(future, tick=future.tick + 50),
        replace(future, next_onset=sooner),
        replace(future, entries=None),
    ]
    slots = exact.slots(5, scored=True)
    for slot, each in enumerate(futures):
        slots.attach(slot, past, each)
        force(slots, slot, (0, 30, 0, 1))
    exact.backend.step(slots, 0, 5, True)
    for slot, fields in ((1, FIELDS), (2, FIELDS), (3, ("key",)), (4, FIELDS)):
        for name in fields:
            one, other = slots.logits[[0, slot], CLASS_SLICES[name]]
            assert not np.allclose(one, other, atol=1e-6), f"{name}, slot {slot}"
    np.testing.assert_array_equal(*slots.logits[[0, 3], CLASS_SLICES["shift"]])


# --- noise


def drawn_noise(seed: int, blocks: int, temperature: float = 1.0) -> tuple[Array, Array]:
    """The noise (tokens, classes) and the uniform numbers (tokens, 3) of some blocks."""
    source, noise, uniforms = NoiseSource(seed, temperature), [], []
    for _ in range(blocks):
        one, other = (
            np.empty((NOISE_BLOCK_TOKENS, ALL_CLASSES), np.float32),
            np.empty((NOISE_BLOCK_TOKENS, UNIFORMS), np.float32),
        )
        source.fill(one, other)
        noise.append(one)
        uniforms.append(other)
    return np.concatenate(noise), np.concatenate(uniforms)


def test_noise_depends_on_the_seed_and_the_tokens_number_alone() -> None:
    (noise, uniforms), (again, uniforms_again) = drawn_noise(7, 4), drawn_noise(7, 4)
    np.testing.assert_array_equal(noise, again)
    np.testing.assert_array_equal(uniforms, uniforms_again)
    assert len({row.tobytes() for row in noise}) == 4 * NOISE_BLOCK_TOKENS
    assert not np.array_equal(noise, drawn_noise(8, 4)[0])
    colder, same = drawn_noise(7, 4, 0.25)
    np.testing.assert_allclose(colder, 0.25 * noise, rtol=1e-6)
    np.testing.assert_array_equal(same, uniforms)


def test_noise_is_gumbel_and_uniform() -> None:
    """Of 128 tokens: mean 0.5772, variance π² / 6, and the share below 0 is exp(-1)."""
    noise, uniforms = drawn_noise(3, 4)
    assert noise.mean() == pytest.approx(0.5772, abs=0.03)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.06)
    assert (noise < 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    assert uniforms.shape == (4 * NOISE_BLOCK_TOKENS, 3)
    assert 0 <= uniforms.min() < 0.1
    assert 0.9 < uniforms.max() < 1


def test_quantiles_of_noise_are_those_of_the_library() -> None:
    """Made by sums and products alone, because libraries' logarithms differ in the last digit."""
    wanted = -np.log(-np.log((np.arange(1 << 16) + 0.5) / (1 << 16)))
    np.testing.assert_allclose(GUMBEL_QUANTILES, wanted, rtol=2e-7, atol=1e-7)
    assert (np.diff(GUMBEL_QUANTILES) > 0).all()


# --- what an engine is made with


def test_without_arguments_it_is_the_bundled_model() -> None:
    engine = Engine()
    assert engine.bundle.folder == PRETRAINED
    assert engine.precision == "int8"
    assert engine.backend_name == ("numpy" if kernel.vectors() is None else "kernel")


@pytest.mark.parametrize("form", [str, Path, open_bundle])
def test_it_takes_a_folder_or_a_bundle(tiny_bundle: Path, form: type) -> None:
    engine = Engine(form(tiny_bundle))
    assert engine.bundle.folder == tiny_bundle
    assert compose(engine, 1, SamplingOptions(seed=1)).tokens


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_by_name(bundle: Bundle, backend: str) -> None:
    if backend == "kernel" and kernel.vectors() is None:
        pytest.skip("no kernel was built here")
    engine = Engine(bundle, backend=backend)
    assert engine.backend_name == backend
    assert isinstance(engine.backend, {"kernel": kernel.Kernel, "numpy": Reference}[backend])


@pytest.mark.parametrize("backend", ["onnx", "", "Kernel"])
def test_an_unknown_backend_is_refused(bundle: Bundle, backend: str) -> None:
    with pytest.raises(InputError, match=f"`backend` must be kernel or numpy, not {backend!r}"):
        Engine(bundle, backend=backend)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(bundle: Bundle, threads: int) -> None:
    with pytest.raises(InputError, match=f"`threads` must be at least 1, not {threads}"):
        Engine(bundle, threads=threads)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_closed_and_may_still_be_used(bundle: Bundle, backend: str) -> None:
    """With one thread; to close it twice, or before its first use, does no harm."""
    if backend == "kernel" and kernel.vectors() is None:
        pytest.skip("no kernel was built here")
    wanted = compose(Engine(bundle, backend="numpy"), 1, SamplingOptions(seed=1)).performance
    with Engine(bundle, threads=3, backend=backend) as engine:
        assert compose(engine, 1, SamplingOptions(seed=1)).performance == wanted
    engine.close()
    assert compose(engine, 1, SamplingOptions(seed=1)).performance == wanted
    unused = Engine(bundle, threads=2, backend=backend)
    unused.close()
    assert compose(unused, 1, SamplingOptions(seed=1)).performance == wanted


def test_threads_end_when_it_is_closed(bundle: Bundle) -> None:
    before = set(threading.enumerate())
    with Engine(bundle, threads=3) as engine:
        slots = some_slots(engine, 40, has_future=False)
        engine.backend.step(slots, 0, 40, True)
        begun = len(set(threading.enumerate()) - before)
        assert begun == 0 if engine.backend_name == "numpy" else begun in (1, 2)  # one may do two shares
    assert set(threading.enumerate()) - before == set()


def test_an_engine_is_used_from_several_threads_at_once(bundle: Bundle, rows: Array) -> None:
    """Each gets what it would have got alone, however they fall in each other's way."""
    piece = decode(rows[:120])
    asked = [(compose, 6.0), (infill, piece, 2.0, 5.0)] * 4

    def make(engine: Engine, number: int) -> object:
        task, *arguments = asked[number]
        return task(engine, *arguments, SamplingOptions(seed=number)).performance  # type: ignore[operator]

    alone = [make(Engine(bundle), number) for number in range(len(asked))]
    with Engine(bundle, threads=2) as engine, ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(lambda number: make(engine, number), range(len(asked)))) == alone


# --- composers


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (None, 0),
        ("Alban Berg", 1),
        ("alban BERG", 1),
        ("chopin", 2),
        ("Frédéric Chopin", 2),
        ("frederic chopin", 2),
        ("Fre\u0301de\u0301ric", 2),  # accents as signs of their own
        ("  Chopin ", 2),
    ],
)
def test_composers_by_name_or_part(exact: Engine, name: str | None, index: int) -> None:
    assert exact.composer(name) == index


@pytest.mark.parametrize(
    ("name", "nearest"), [("Shopin", "Frédéric Chopin"), ("Albam Burg", "Alban Berg"), ("qqq", "Alban Berg"), ("", "")]
)
def test_an_unknown_composer_is_refused_with_the_nearest(exact: Engine, name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"unknown composer {name!r}; the model knows, nearest first: .*{nearest}"):
        exact.composer(name)


def engine_of(bundle: Bundle, composers: tuple[str, ...]) -> Engine:
    return Engine(replace(bundle, config=replace(bundle.config, composers=composers)))


def test_a_part_of_several_names_is_the_one_who_wrote_alone(bundle: Bundle) -> None:
    engine = engine_of(
        bundle, ("Bach", "Charles Gounod / Franz Liszt", "Franz Liszt", "J. C. Bach", "J. S. Bach / Busoni")
    )
    assert engine.composer("liszt") == 3
    assert engine.composer("gounod") == 2
    assert engine.composer("bach") == 1  # the whole name
    with pytest.raises(InputError, match=r"composer 'a' may be Bach, Franz Liszt, J\. C\. Bach; say which"):
        engine.composer("a")


def test_a_model_without_composers_says_so(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="the model knows, nearest first: none"):
        engine_of(bundle, ()).composer("Chopin")


# --- bundles that do not fit


def changed(bundle: Bundle, folder: Path, **config: object) -> Path:
    """A copy of a bundle with another configuration."""
    shutil.copytree(bundle.folder, folder)
    facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
    facts["config"] |= config
    (folder / FACTS_FILE).write_text(json.dumps(facts), "utf-8")
    return folder


def without(folder: Path, *names: str) -> Path:
    """The same bundle without some files, as if made so."""
    facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
    for name in names:
        (folder / name).unlink()
        del facts["files"][name]
    (folder / FACTS_FILE).write_text(json.dumps(facts), "utf-8")
    return folder


def test_int8_is_the_first_choice(bundle: Bundle, tmp_path: Path) -> None:
    assert Engine(bundle).precision == "int8"
    exact_only = without(changed(bundle, tmp_path / "b"), runtime_file("int8"))
    assert Engine(exact_only).precision == "float32"


def test_a_missing_precision_is_named(bundle: Bundle, tmp_path: Path) -> None:
    folder = without(changed(bundle, tmp_path / "b"), runtime_file("float32"))
    for precision in ("float32", "int4"):
        with pytest.raises(BundleError, match=f"no {precision} runtime; it has int8"):
            Engine(open_bundle(folder), precision=precision)


def test_a_bundle_without_runtime_files_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    folder = without(changed(bundle, tmp_path / "b"), *map(runtime_file, PRECISIONS))
    with pytest.raises(BundleError, match="it has no runtime file; get or train the model again"):
        Engine(folder)


def test_weights_are_loaded_when_they_are_first_used(bundle: Bundle, tmp_path: Path) -> None:
    """What an engine says of itself costs nothing; a damaged file is told by whoever needs it."""
    folder = changed(bundle, tmp_path / "b")
    path = folder / runtime_file("int8")
    path.write_bytes(bytes(path.stat().st_size))
    engine = Engine(folder)
    assert engine.composer("chopin") == 2
    with pytest.raises(BundleError, match=r"runtime\.int8\.safetensors is not the file") as caught:
        engine.read_past(np.empty(0, TOKEN_DTYPE))
    assert "\n" not in str(caught.value)
    assert Engine(folder, precision="float32").read_past(np.empty(0, TOKEN_DTYPE)).states.any()


def test_a_model_without_backward_stack_refuses_a_future(exported: tuple[object, Bundle], rows: Array) -> None:
    _, bundle = exported
    engine = Engine(bundle)
    if bundle.config.direction == "both":
        assert engine.read_future(rows[:3], 0).context.any()
        return
    for ask in (lambda: engine.read_future(rows[:3], 0), lambda: engine.read_futures(rows[:3])):
        with pytest.raises(InputError, match="no backward stack and cannot read a future; use one trained with `both`"):
            ask()
