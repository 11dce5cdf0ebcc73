"""Kept notes come back exactly, whatever is written around them; pieces end; the music returns to a passage."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import made_performance, played
from music_generator.engine.engine import Engine
from music_generator.engine.slots import Slots
from music_generator.errors import InputError
from music_generator.generation import SamplingOptions, Span, compose, continue_from, generate, generate_many
from music_generator.generation.keep import KEEP, NAMES, bass, everything, melody, read_keep
from music_generator.generation.span import FINAL_PEDAL_SECONDS, PEDAL_TAIL_SECONDS
from music_generator.generation.tasks import accompany, infill, to_accompany, to_compose, to_continue, to_infill
from music_generator.generation.writer import FARTHEST_FUTURE_SECONDS, RECALL_BONUS, BatchWriter, Writer
from music_generator.model.config import NO_ONSET
from music_generator.music.performance import (
    HIGHEST_PITCH,
    LOWEST_PITCH,
    NOTE_DTYPE,
    SUSTAIN,
    Array,
    Performance,
)
from music_generator.music.tokens import TICKS_PER_SECOND, encode

PIECE = made_performance(3, 60)
SOME = SamplingOptions(seed=5)
MANY = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    return Engine(tiny_bundle)


@pytest.fixture(scope="module")
def by_numpy(tiny_bundle: Path) -> Engine:
    return Engine(tiny_bundle, backend="numpy")


def counted(notes: Array) -> Counter[tuple[float, ...]]:
    return Counter(map(tuple, notes.tolist()))


def assert_holds(whole: Performance, kept: Performance) -> None:
    """Check that notes and pedals are there, to the bit, as often as they are in `kept`."""
    assert not counted(kept.notes) - counted(whole.notes)
    assert not counted(kept.pedals) - counted(whole.pedals)


# --- which notes


def test_names_of_what_is_kept() -> None:
    notes = played((0, 1, 60), (0.01, 1, 64), (0.02, 1, 67), (1, 1, 50)).notes
    notes = notes.copy()
    notes["velocity"] = [10, 60, 61, 127]
    wanted = {
        "all": [1, 1, 1, 1], "melody": [0, 0, 1, 1], "bass": [1, 0, 0, 1], "softer:61": [1, 1, 0, 0],
        "louder:60": [0, 0, 1, 1], "below:60": [0, 0, 0, 1], "above:60": [0, 1, 1, 0], "above:127": [0, 0, 0, 0],
    }  # fmt: skip
    for name, which in wanted.items():
        np.testing.assert_array_equal(read_keep(name)(notes), np.array(which, bool), err_msg=name)
    assert NAMES == ("all", "melody", "bass", "softer:N", "louder:N", "below:N", "above:N")
    assert {"all": everything, "melody": melody, "bass": bass} == KEEP


@pytest.mark.parametrize(
    "name", ["", "tenor", "softer", "softer:", "softer:128", "softer:-1", "below:1.5", "all:3", "N"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"`keep` must be one of all, melody, bass, softer:N, .* not"):
        read_keep(name)


# --- they come back


@pytest.mark.parametrize("name", ["all", "melody", "bass", "above:70", "softer:70"])
@pytest.mark.parametrize("seed", range(3))
def test_kept_notes_of_a_gap_come_back(engine: Engine, name: str, seed: int) -> None:
    keep, (start, end) = read_keep(name), (2.005, 7.1)
    made = infill(engine, PIECE, start, end, SamplingOptions(seed=seed), keep=keep)
    inside = PIECE.between(start, end).notes
    assert_holds(made.performance, Performance(inside[keep(inside)]))
    for outside in (PIECE.between(0, start), PIECE.between(end)):
        assert not counted(outside.notes[outside.notes["onset"] >= end]) - counted(made.performance.notes)
    assert counted(made.performance.between(end).notes) == counted(PIECE.between(end).notes)
    assert len(made.written.notes) > keep(inside).sum()  # and something is written around them


def test_music_is_written_around_a_melody(engine: Engine) -> None:
    """From the beginning to the last of its notes; pedals and other notes of the piece are left out."""
    made = accompany(engine, PIECE, SOME, keep=melody)
    kept = PIECE.notes[melody(PIECE.notes)]
    assert_holds(made.performance, Performance(kept))
    assert len(made.performance.notes) > len(kept)
    assert not counted(made.performance.pedals) & counted(PIECE.pedals)
    assert made.performance.notes["onset"].max() < kept["onset"].max() + 0.051
    assert made.start == 0


@st.composite
def melodies(draw: st.DrawFn) -> Performance:
    """Any notes: chords of neighbours, keys struck again at once, off the grid, the lowest and the highest key."""
    onsets = st.one_of(st.sampled_from([0.0, 1.0, 1.004, 1.005, 1.006, 1.0149, 2.5]), st.floats(0, 4))
    pitches = st.one_of(
        st.sampled_from([LOWEST_PITCH, 60, 61, 62, HIGHEST_PITCH]), st.integers(LOWEST_PITCH, HIGHEST_PITCH)
    )
    durations = st.one_of(st.sampled_from([0.001, 0.005, 0.0149, 3.0]), st.floats(0.001, 5))
    notes = draw(st.lists(st.tuples(onsets, durations, pitches, st.integers(1, 127)), min_size=1, max_size=12))
    return Performance(np.array(notes, NOTE_DTYPE))


@MANY
@given(melodies(), st.integers(0, 1000), st.booleans())
def test_any_kept_notes_come_back_exactly(engine: Engine, kept: Performance, seed: int, within: bool) -> None:
    """With and without past and future, wild and calm, in seconds to the bit."""
    past = future = Performance()
    if within:  # keys and pedals that the past holds for long; a future that strikes the same keys
        kept = kept.shifted(5.0)
        past = played((0.0, 4.99, 60), (3.0, 1.5, 61), (4.2, 9.0, 40), pedals=((1.0, 30.0, SUSTAIN),))
        future = played((10.0, 1.0, 60), (10.0, 1.0, 61))
        notes = kept.notes.copy()
        notes["duration"] = np.minimum(notes["duration"], 10.0 - notes["onset"])
        kept = Performance(notes)
    end = 10.0 if within else float(kept.notes["onset"].max()) + 0.05
    span = Span(past, future, 5.0 if within else 0.0, end, kept=kept, closes=not within)
    options = SamplingOptions(seed=seed, temperature=1.5 if seed % 2 else 0.9, longest_rest_seconds=0.4)
    made = generate(engine, span, options)
    assert_holds(made.performance, kept)
    assert_holds(made.performance, future)
    assert (
        counted(made.performance.between(0, span.start).notes) == counted(past.notes)
        or (kept.notes["pitch"] == 40).any()
    )


@pytest.mark.parametrize("pitches", [(60, 61), (21, 22, 23), (107, 108), (21, 108), (60, 62, 64)])
def test_kept_notes_of_one_tick_stand_beside_one_another(engine: Engine, pitches: tuple[int, ...]) -> None:
    """At the beginning, later, and again and again; nothing of the same tick takes their place."""
    kept = played(*((onset, 0.1, pitch) for onset in (0.0, 0.5, 0.6, 3.0) for pitch in pitches))
    for seed in range(4):
        writer = Writer(engine, to_accompany(kept), SamplingOptions(seed=seed))
        rows = list(writer)
        ticks = np.cumsum([row[0] for row in rows])
        found = [(tick, key) for tick, (_, key, _, _) in zip(ticks.tolist(), rows, strict=True)]
        assert found == sorted(set(found))
        assert {(round(100 * onset), pitch - LOWEST_PITCH) for onset, _, pitch, _ in kept.notes.tolist()} <= set(found)


def test_a_token_that_ends_a_gap_leaves_no_trace(tiny_bundle: Path) -> None:
    """A slot that drew that the gap ends, and was given the kept note, is one that was given that note at once."""
    for backend in ("kernel", "numpy"):
        engine = Engine(tiny_bundle, backend=backend)
        kept = played((0.0, 0.4, 21), (0.3, 0.2, 70))  # nothing fits before the first: its gap ends at once
        writer = Writer(engine, to_accompany(kept), SOME)
        slots, other = engine.slots(1), engine.slots(1)
        writer.attach(slots, 0)
        (rows,) = engine.backend.write(slots, 1, 1)
        assert rows[0, 0, 1] == -1
        again = Writer(engine, to_accompany(kept), SOME)
        again.attach(other, 0)
        for each, its in ((writer, slots), (again, other)):
            assert each.go_on(its, 0) == [[0, 0, 64, 40]]
        counted = ("recent_keys", "lag_counts", "match_lengths")
        for name in ("states", "context", "last_onset", "last_release", "has_future", *counted):
            np.testing.assert_array_equal(getattr(slots, name), getattr(other, name), err_msg=name)
        assert slots.memory.state[0] == other.memory.state[0]
        np.testing.assert_array_equal(slots.memory.pending, other.memory.pending)
        np.testing.assert_array_equal(slots.memory.events, other.memory.events)
        assert slots.last_onset[0, 0] == 0
        assert slots.recent_keys[0, 0] == 0


def test_a_kept_note_is_heard(engine: Engine) -> None:
    """What is written before it differs with it: it is a future; and so does what comes after."""
    before, after = [], []
    for pitch in (30, 90):
        rows = list(Writer(engine, to_accompany(played((2.0, 0.5, pitch), (4.0, 0.5, 60))), SOME))
        place = [key for _, key, _, _ in rows].index(pitch - LOWEST_PITCH)
        before.append(rows[:place])
        after.append(rows[place + 1 :])
    assert before[0] != before[1]
    assert after[0] != after[1]


def test_keys_of_a_kept_note_are_held_until_it_ends_to_the_fraction_of_a_tick(engine: Engine) -> None:
    span = to_accompany(played((0.5, 1.0049, 60), (3.0, 0.1, 60)))
    writer = Writer(engine, span, SOME)
    slots = engine.slots(1)
    writer.attach(slots, 0)
    writer.state.now = 40
    writer.go_on(slots, 0)
    assert slots.last_release[0, 60 - LOWEST_PITCH] == 151


def test_far_from_a_kept_note_it_is_not_told_yet(engine: Engine) -> None:
    """A gap of 70 s before a kept note, and one of 50 s after it, are two each."""
    far = FARTHEST_FUTURE_SECONDS
    kept = played((70.0, 0.1, 60), (71.0, 0.1, 60))
    span = Span(Performance(), played((121.0, 1.0, 50)), 0.0, 121.0, kept=kept)
    ends = [(gap.end, gap.future is not None) for gap in Writer(engine, span, SOME)._gaps]
    assert ends == [
        (7001 - far * 100, False), (7001, True), (7101, True), (12100 - far * 100, False), (12100, True),
    ]  # fmt: skip
    made = generate(engine, span, SOME)
    assert_holds(made.performance, kept)
    assert (np.diff(np.sort(made.performance.notes["onset"])) <= 4.02).all()


def test_notes_do_not_go_with_kept_ones(engine: Engine) -> None:
    span = to_accompany(played((1.0, 0.5, 60)))
    with pytest.raises(InputError, match="`notes` does not go with kept notes: give the span's end"):
        Writer(engine, replace(span, notes=3), SOME)
    for onset in (0.5, 2.0):
        with pytest.raises(InputError, match=r"kept notes must begin in the span to write, from 1\.0 to 2\.0 s"):
            Writer(engine, Span(Performance(), Performance(), 1.0, 2.0, kept=played((onset, 1.0, 60))), SOME)
    with pytest.raises(InputError, match=r"what is kept of the gap from 2\.0 to 3\.0 s has no notes"):
        infill(engine, PIECE, 2.0, 3.0, SOME, keep=read_keep("above:127"))
    with pytest.raises(InputError, match="what is kept of the piece has no notes"):
        accompany(engine, PIECE, SOME, keep=read_keep("below:0"))


# --- alone, in company, by both backends


def asked() -> list[tuple[Span, SamplingOptions]]:
    told = SamplingOptions(seed=3, density=12.0, loudness=40.0, returns=3.0)
    return [
        (to_infill(PIECE, 1.5, 4.0, keep=melody), SOME),
        (to_accompany(PIECE.between(0, 3), keep=bass), replace(told, density=None)),
        (to_compose(2), told),
        (to_compose(2, open_end=True), replace(told, loudness=None)),
        (to_continue(PIECE, 2, recall=(1.0, 4.0)), replace(SOME, returns=-5)),
        (Span(PIECE.between(0, 3), PIECE.between(6), 3.0, 6.0, recall=(0.5, 2.0)), SOME),
        (to_infill(PIECE, 3.0, 60.0), SOME),
    ]


def test_each_is_the_same_alone_in_a_batch_and_by_numpy(engine: Engine, by_numpy: Engine) -> None:
    alone = [generate(engine, span, options).performance for span, options in asked()]
    for size in (1, 3, 7):
        assert [made.performance for made in generate_many(engine, asked(), size=size)] == alone
    assert [made.performance for made in generate_many(by_numpy, asked(), size=7)] == alone
    assert [made.performance for made in generate_many(engine, asked()[::-1], size=2)] == alone[::-1]
    for number, (span, options) in enumerate(asked()):
        writer = Writer(engine, span, options)
        assert span.filled([list(row) for row in writer], writer.first_tick) == alone[number]


@pytest.mark.parametrize(
    "changes", [{"density": 3.0}, {"density": 30.0}, {"loudness": 30.0}, {"loudness": 100.0}, {"returns": 5.0}]
)
def test_what_is_told_changes_the_music(engine: Engine, changes: dict[str, float]) -> None:
    plain = compose(engine, 8, SOME).performance
    assert compose(engine, 8, replace(SOME, **changes)).performance != plain


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("density", 0, "`density` must be above 0 and at most 100 notes a second, not 0"),
        ("density", float("nan"), "`density` must be above 0"),
        ("density", 101, "not 101"),
        ("loudness", 0, "`loudness` must be 1 to 127, a mean velocity, not 0"),
        ("loudness", 128, "not 128"),
        ("returns", 6, "`returns` must be -5 to 5, not 6"),
        ("returns", float("nan"), "`returns` must be -5 to 5, not nan"),
    ],
)
def test_what_is_told_out_of_range_is_refused(name: str, value: float, text: str) -> None:
    with pytest.raises(InputError, match=text):
        SamplingOptions(**{name: value})


# --- pieces that end


@pytest.mark.parametrize("seconds", [0.05, 3.0, 29.9, 45.0])
def test_a_piece_ends_before_its_length(engine: Engine, seconds: float) -> None:
    made = compose(engine, seconds, SOME)
    assert made.performance.notes["onset"].max(initial=0) < seconds
    closing, opened = (Writer(engine, to_compose(seconds, open_end=each), SOME)._gaps for each in (False, True))
    assert [gap.future is not None for gap in opened] == [False]
    assert [gap.future is not None for gap in closing] == [False] * (seconds > FARTHEST_FUTURE_SECONDS) + [True]
    assert closing[-1].future.tick == round(seconds * TICKS_PER_SECOND) - 1
    assert (closing[-1].future.next_onset == NO_ONSET).all()


def test_the_end_of_a_piece_is_heard(engine: Engine) -> None:
    assert list(Writer(engine, to_compose(3), SOME)) != list(Writer(engine, to_compose(3, open_end=True), SOME))
    primer = PIECE.between(0, 4)
    assert to_continue(primer, 3).closes
    assert not to_continue(primer, 3, open_end=True).closes
    assert not to_continue(primer, 3, notes=4).closes
    assert to_infill(PIECE, 3.0, 99.0).closes
    assert not to_infill(PIECE, 3.0, 4.0).closes


def test_pedals_end_with_the_piece() -> None:
    """Those that were written, and before a future with their span; not those of the past."""
    past = played((0.0, 1.0, 60), pedals=((0.5, 50.0, SUSTAIN),))
    rows = encode(played((1.0, 0.5, 62), (2.0, 1.0, 64), pedals=((1.5, 60.0, 1), (2.5, 60.0, 2), (9.0, 1.0, 1))))
    span = Span(past, Performance(), 1.0, 10.0, closes=True)
    whole = span.filled([list(row) for row in rows.tolist()], 0)
    end = 3.0 + FINAL_PEDAL_SECONDS
    found = {int(pedal): (onset, onset + duration) for onset, duration, pedal, _ in whole.pedals.tolist()}
    assert found == {SUSTAIN: (0.5, 50.5), 1: (1.5, end), 2: (2.5, end)}
    later = played((20.0, 5.0, 60), pedals=((19.0, 70.0, SUSTAIN),))
    before = replace(span, future=later, closes=False).filled([list(row) for row in rows.tolist()], 0)
    ends = {int(pedal): onset + duration for onset, duration, pedal, _ in before.pedals.tolist()}
    assert ends == {SUSTAIN: 89.0, 1: 10.0, 2: 10.0 + PEDAL_TAIL_SECONDS}


def test_a_whole_piece_by_hand() -> None:
    """Rows of kept notes are replaced by these as they are; what they strike ends there; the rest is decoded."""
    kept = played((1.2043, 0.5, 60), (1.2043, 0.3, 61))
    span = Span(Performance(), Performance(), 0.0, 3.0, kept=kept)
    rows = [[100, 60 - 21, 70, 50], [20, 60 - 21, 64, 50], [0, 61 - 21, 64, 30], [1, 62 - 21, 70, 10]]
    whole = span.filled(rows, 0)
    assert [(round(onset, 4), round(duration, 4), pitch) for onset, duration, pitch, _ in whole.notes.tolist()] == [
        (1.0, 0.2043, 60), (1.2043, 0.5, 60), (1.2043, 0.3, 61), (1.21, 0.1, 62),
    ]  # fmt: skip
    assert_holds(whole, kept)


# --- a passage to come back to


def fixed_of(engine: Engine, span: Span) -> tuple[Slots, Writer]:
    writer, slots = Writer(engine, span, SOME), engine.slots(1)
    writer.attach(slots, 0)
    return slots, writer


def test_a_passage_stands_in_the_memory_with_its_bonus(engine: Engine) -> None:
    rows = encode(PIECE)
    onsets = np.cumsum(rows["shift"])
    inside = (onsets >= 100) & (onsets < 400)
    slots, _ = fixed_of(engine, to_continue(PIECE, 2, recall=(1.0, 4.0)))
    memory = slots.memory
    assert memory.state[0]["fixed_from"] == 0
    assert memory.state[0]["fixed_to"] == inside.sum() > 5
    assert (memory.bonus[0, : inside.sum()] == RECALL_BONUS).all()
    np.testing.assert_array_equal(memory.events[0, : inside.sum(), 4], rows["key"][inside])


def test_a_passage_stands_beside_the_future(engine: Engine) -> None:
    past, future = PIECE.between(0, 4), made_performance(9, 40).shifted(6.0)
    span = Span(past, future, 4.0, 6.0, recall=(0.5, 2.0))
    plain, _ = fixed_of(engine, replace(span, recall=None))
    slots, writer = fixed_of(engine, span)
    (before, after), state = (each.memory.state[0] for each in (plain, slots)), slots.memory.state[0]
    count = len(encode(future))
    assert before["fixed_to"] == count
    assert after["fixed_to"] - count == len(encode(past.between(0.495, 1.995)))
    assert before["fixed_from"] == after["fixed_from"] > 8
    assert not slots.memory.bonus[0, :count].any()
    assert (slots.memory.bonus[0, count : state["fixed_to"]] == RECALL_BONUS).all()
    np.testing.assert_array_equal(slots.memory.events[0, :count, 4], encode(future)["key"])
    assert generate(engine, span, SOME).performance != generate(engine, replace(span, recall=None), SOME).performance
    assert writer.first_tick < 400


@pytest.mark.parametrize(
    ("recall", "text"),
    [
        ((3.0, 2.0), "must lie before the music that is written, .* not from 3 to 2 s"),
        ((-1.0, 2.0), "not from -1 to 2 s"),
        ((1.0, 99.0), "must lie before the music that is written"),
        ((float("nan"), 2.0), "must lie before the music that is written"),
        ((0.1, 0.2), r"the passage to come back to, from 0\.1 to 0\.2 s, has no notes"),
    ],
)
def test_a_passage_that_does_not_fit_is_refused(engine: Engine, recall: tuple[float, float], text: str) -> None:
    with pytest.raises(InputError, match=text):
        continue_from(engine, PIECE, 2, SOME, recall=recall)


# --- models that cannot


def test_what_a_model_cannot_do_is_said(exported: tuple[object, object]) -> None:
    """In one line; what it can do, it does, of every direction, with and without a memory."""
    _, bundle = exported
    engine, config = Engine(bundle), bundle.config
    refused = {
        "cannot keep notes; use one trained with `both`": (to_accompany(PIECE), SOME, config.direction == "both"),
        "has no memory and cannot come back": (to_continue(PIECE, 1, recall=(1.0, 3.0)), SOME, config.memory > 0),
        "cannot be told a density": (to_compose(1), replace(SOME, density=5.0), config.steered),
        "cannot be told a loudness": (to_compose(1), replace(SOME, loudness=5.0), config.steered),
    }
    for text, (span, options, can) in refused.items():
        if can:
            assert generate(engine, span, options).performance.end > 0
            continue
        with pytest.raises(InputError, match=text) as caught:
            generate(engine, span, options)
        assert "\n" not in str(caught.value)
    for span in (to_compose(2), to_compose(2, open_end=True), to_compose(40), to_continue(PIECE, 2)):
        assert len(generate(engine, span, SOME).performance)


def test_a_batch_of_writers_with_kept_notes(engine: Engine) -> None:
    """Tokens come in order, kept notes among them, however few a step writes."""
    spans = [to_accompany(PIECE.between(0, 4), keep=melody), to_compose(3), to_infill(PIECE, 2, 5, keep=bass)]
    for most in (1, 5):
        batch, writers = BatchWriter(engine, 3), [Writer(engine, span, SOME) for span in spans]
        rows: dict[int, list[tuple[int, ...]]] = {id(writer): [] for writer in writers}
        for writer in writers:
            batch.add(writer)
        while len(batch):
            for writer, written in batch.step(most):
                rows[id(writer)] += map(tuple, written)
        for writer, span in zip(writers, spans, strict=True):
            assert rows[id(writer)] == list(Writer(engine, span, SOME))
