"""The tasks: what was given comes back as it was, what was asked for comes, and the guards hold."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref
from dataclasses import replace
from itertools import groupby, zip_longest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import COMPOSERS, played
from music_generator.engine.engine import Engine
from music_generator.engine.noise import NoiseSource
from music_generator.engine.reference import Reference
from music_generator.errors import BundleError, InputError
from music_generator.generation import (
    Generated,
    SamplingOptions,
    Span,
    Writer,
    bridge,
    compose,
    continue_from,
    generate,
    generate_many,
    infill,
    lead_in,
    to_bridge,
    to_compose,
    to_continue,
    to_infill,
    to_lead_in,
    variations,
)
from music_generator.generation.writer import BatchWriter
from music_generator.model.bundle import open_bundle
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, UNA_CORDA, Array, Performance
from music_generator.music.tempo_map import TempoMap
from music_generator.music.tokens import (
    DURATION_BINS,
    END,
    KEYS,
    NUM_KEYS,
    RESUME,
    TICKS_PER_SECOND,
    TOKEN_DTYPE,
    decode,
)

SOME = SamplingOptions(seed=5)
WITHIN = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    return Engine(open_bundle(tiny_bundle))


@pytest.fixture(scope="module")
def by_numpy(tiny_bundle: Path) -> Engine:
    """The same, computed by NumPy."""
    return Engine(tiny_bundle, backend="numpy")


def scale(seconds: float, first: float = 0.0) -> Performance:
    """Two notes a second, up and down, with a pedal."""
    onsets = np.arange(first, seconds, 0.5)
    notes = [(float(t), 0.45, 60 + (0, 2, 4, 5, 7, 5, 4, 2)[i % 8]) for i, t in enumerate(onsets)]
    return played(*notes, pedals=((first + 0.3, 1.7, SUSTAIN),))


def test_all_tasks_are_there(engine):
    for made in (
        compose(engine, 5, SOME),
        continue_from(engine, scale(4), 5, SOME),
        lead_in(engine, scale(4), 5, SOME),
        infill(engine, scale(8), 2, 6, SOME),
        bridge(engine, scale(4), scale(4), 5, SOME),
    ):
        assert made.tokens > 0
        assert made.seed == 5
        assert made.seconds_taken > 0
        assert made.tokens_per_second == pytest.approx(made.tokens / made.seconds_taken)
        onsets = [*made.written.notes["onset"], *made.written.pedals["onset"]]
        assert len(onsets) == made.tokens
        assert all(made.start <= onset < made.end for onset in onsets)


# --- seeds


def tasks_with(engine: Engine, seed: int | None) -> list[Generated]:
    options = SamplingOptions(seed=seed)
    return [
        compose(engine, 20, options),
        continue_from(engine, scale(4), 20, options),
        infill(engine, scale(30), 5.005, 25.1, options),
    ]


def test_the_same_seed_gives_the_same_bytes(engine):
    for one, other in zip(tasks_with(engine, 11), tasks_with(engine, 11), strict=True):
        assert write_midi(one.performance) == write_midi(other.performance)
        assert one.performance == other.performance


def test_another_seed_gives_other_music(engine):
    for one, other in zip(tasks_with(engine, 11), tasks_with(engine, 12), strict=True):
        assert one.written != other.written


def test_without_a_seed_one_is_found_that_gives_it_again(engine):
    made = compose(engine, 10)
    assert compose(engine, 10, SamplingOptions(seed=made.seed)).performance == made.performance
    assert compose(engine, 10).seed != made.seed


def test_variations_follow_one_another_and_each_can_be_had_alone(engine):
    options = variations(SamplingOptions(temperature=0.9, seed=40), 3)
    assert [each.seed for each in options] == [40, 41, 42]
    assert {each.temperature for each in options} == {0.9}
    third = compose(engine, 10, options[2])
    assert compose(engine, 10, SamplingOptions(temperature=0.9, seed=42)).performance == third.performance
    unseeded = variations(SamplingOptions(), 2)
    assert unseeded[0].seed is not None
    assert unseeded[1].seed == unseeded[0].seed + 1


@pytest.mark.parametrize("count", [0, -1])
def test_variations_must_be_positive(count):
    with pytest.raises(InputError, match="`variations` must be at least 1"):
        variations(SOME, count)


# --- what lies outside a gap


TEMPO_MAPS = (
    TempoMap(),
    TempoMap(384, ((0, 500_000), (777, 612_345), (3001, 250_001)), ((0, 3, 4),)),
    TempoMap(96, ((0, 631_579), (50, 1_000_003), (411, 333_333))),
)


@st.composite
def pieces(draw: st.DrawFn) -> tuple[Performance, float, float]:
    """A piece as it comes from a file, of few keys, with held notes and pedals; and a gap in it."""
    seed, tempo_map = draw(st.integers(0, 10_000)), draw(st.sampled_from(TEMPO_MAPS))
    rng = np.random.default_rng(seed)
    notes, presses = np.empty(60, NOTE_DTYPE), np.empty(12, PEDAL_DTYPE)
    for events, key, low, high in ((notes, "pitch", 21, 109), (presses, "pedal", SUSTAIN, UNA_CORDA + 1)):
        events["onset"] = rng.uniform(0, 12, len(events))
        events["duration"] = rng.lognormal(-0.5, 1.5, len(events))
        events[key] = rng.integers(low, high, len(events))
    notes["velocity"], presses["depth"] = rng.integers(1, 128, 60), rng.integers(64, 128, 12)
    few = rng.random(60) < 0.5
    notes["pitch"][few] = rng.integers(60, 64, few.sum())
    piece = read_midi(write_midi(Performance(notes, presses, tempo_map))).performance
    kind = draw(st.sampled_from(["inside", "from the start", "to the end", "at events"]))
    start, end = sorted(rng.uniform(0, 12, 2))
    if kind == "from the start":
        start = 0.0
    elif kind == "to the end":
        end = piece.end + 1
    elif kind == "at events":
        start, end = sorted(rng.choice(np.unique(piece.notes["onset"]), 2, replace=False))
    return piece, float(start), float(end)


def outside(piece: Performance, start: float, end: float) -> Performance:
    before, after = piece.between(0, start), piece.between(end)
    return replace(
        piece,
        notes=np.concatenate([before.notes, after.notes]),
        pedals=np.concatenate([before.pedals, after.pedals]),
    )


def events(performance: Performance, events: str) -> set[tuple[int, ...]]:
    """Each event's start and end tick, key and force."""
    array, on = getattr(performance, events), performance.tempo_map
    starts, ends = (on.seconds_to_ticks(times) for times in (array["onset"], array["onset"] + array["duration"]))
    columns = (starts, ends, *(array[name] for name in array.dtype.names[2:]))
    return {tuple(int(value) for value in row) for row in zip(*columns, strict=True)}


@WITHIN
@given(pieces(), st.integers(0, 100))
def test_what_lies_outside_a_gap_comes_back_untouched(engine, drawn, seed):
    piece, start, end = drawn
    made = infill(engine, piece, start, end, SamplingOptions(seed=seed))
    kept = outside(made.performance, start, end)
    expected = outside(piece, start, end)
    assert kept.between(0, start) == expected.between(0, start)  # to the exact float
    assert kept.between(end).notes.tolist() == expected.between(end).notes.tolist()
    later = kept.between(np.nextafter(end, np.inf))  # a pedal that was held over the end is held from there on
    assert later == expected.between(np.nextafter(end, np.inf))
    assert made.performance.tempo_map == piece.tempo_map
    again = read_midi(write_midi(made.performance)).performance
    for kind in ("notes", "pedals"):  # and to the tick of the file
        before, after = events(kept, kind), events(again, kind)
        assert before <= after
        assert len(after) == len(getattr(made.performance, kind))
    for array in (made.written.notes, made.written.pedals):
        assert (array["onset"] >= start).all()
        assert (array["onset"] < end).all()
    for name in ("notes", "pedals"):
        assert len(getattr(made.written, name)) + len(getattr(kept, name)) == len(getattr(made.performance, name))


@WITHIN
@given(pieces(), st.integers(0, 100))
def test_no_key_is_struck_while_the_past_holds_it(engine, drawn, seed):
    piece, start, end = drawn
    made = infill(engine, piece, start, end, SamplingOptions(seed=seed))
    for events, key in (("notes", "pitch"), ("pedals", "pedal")):
        past = getattr(piece.between(0, start), events)
        for event in getattr(made.written, events):
            mine = past[past[key] == event[key]]
            assert (mine["onset"] + mine["duration"] <= event["onset"] + 1e-9).all()


def test_all_that_is_held_leaves_nothing_to_strike(engine):
    keys = [(0.1, 30.0, pitch) for pitch in range(21, 109)]
    piece = played(*keys, pedals=tuple((0.1, 30.0, pedal) for pedal in range(3)))
    made = infill(engine, piece, 1, 20, SOME)
    assert made.performance == piece
    one_free = Performance(piece.notes[piece.notes["pitch"] != 60], piece.pedals)
    made = infill(engine, one_free, 1, 20, SOME)
    assert set(made.written.notes["pitch"]) == {60}
    assert not len(made.written.pedals)


def test_a_pedal_held_for_thousands_of_notes_is_not_pressed_again(engine, monkeypatch):
    monkeypatch.setattr("music_generator.engine.engine.MAX_CONTEXT", 8)
    piece = scale(30)
    piece = Performance(piece.notes, np.array([(0.1, 99.0, SUSTAIN, 90), (0.1, 99.0, UNA_CORDA, 90)], PEDAL_DTYPE))
    for seed in range(5):
        made = continue_from(engine, piece, 40, SamplingOptions(seed=seed))
        assert set(made.written.pedals["pedal"]) <= {1}
        assert made.performance.between(0, made.start) == piece


def test_pedals_before_the_first_note_are_kept(engine):
    piece = played((3.0, 1.0, 60), (9.0, 1.0, 62), pedals=((0.5, 1.0, SUSTAIN), (10.0, 1.0, SUSTAIN)))
    made = infill(engine, piece, 2.0, 5.0, SOME)
    assert outside(made.performance, 2.0, 5.0) == outside(piece, 2.0, 5.0)
    assert len(made.performance.between(0, 2).pedals) == 1


def test_a_gap_at_the_start_and_to_the_end(engine):
    piece = scale(10)
    first = infill(engine, piece, 0, 5, SOME)
    assert first.performance.between(5) == piece.between(5)
    last = infill(engine, piece, 5, 10, SOME)
    assert last.performance.between(0, 5) == piece.between(0, 5)
    assert last.written.notes["onset"].max() < 10
    whole = infill(engine, piece, 0, 10, SOME)
    assert whole.written == whole.performance


# --- joints


@pytest.mark.parametrize("seconds", [0.1, 0.30000000000000004, 3.7, 8.0])
@pytest.mark.parametrize("first", [0.0, 0.1, 2.7])
def test_a_passage_begins_at_the_promised_second(engine, seconds, first):
    passage = scale(first + 4, first)
    made = lead_in(engine, passage, seconds, SOME)
    after = made.performance.between(made.end)
    assert after.notes["onset"][0] == made.end
    assert made.end - made.start == pytest.approx(seconds, abs=1e-4)  # a tempo is in whole microseconds
    assert made.end == pytest.approx(max(seconds, first), abs=1e-4)
    np.testing.assert_allclose(after.notes["onset"] - made.end, passage.notes["onset"] - first, atol=1e-9)
    np.testing.assert_allclose(after.notes["duration"], passage.notes["duration"], atol=1e-9)
    np.testing.assert_allclose(after.pedals["onset"] - made.end, passage.pedals["onset"] - first, atol=1e-9)
    assert len(made.written) + len(passage) == len(made.performance)


def test_a_bridge_joins_two_pieces(engine):
    before, after = scale(5), scale(9, 1.3)
    made = bridge(engine, before, after, 3.3, SOME)
    assert made.start == pytest.approx(4.5 + 0.01)
    assert made.end == pytest.approx(made.start + 3.3, abs=1e-3)
    past = made.performance.between(0, made.start)
    assert past.notes[["onset", "pitch", "velocity"]].tolist() == before.notes[["onset", "pitch", "velocity"]].tolist()
    rest = made.performance.between(made.end)
    assert rest.notes["onset"][0] == made.end
    np.testing.assert_allclose(np.diff(rest.notes["onset"]), np.diff(after.notes["onset"]), atol=1e-9)
    np.testing.assert_array_equal(rest.notes[["pitch", "velocity"]], after.notes[["pitch", "velocity"]])


def test_a_continuation_keeps_its_primer(engine):
    primer = read_midi(write_midi(replace(scale(6), tempo_map=TEMPO_MAPS[1]))).performance
    made = continue_from(engine, primer, 10, SOME)
    assert made.performance.between(0, made.start) == primer
    cut = continue_from(engine, primer, 10, SOME, start=3.3)
    assert cut.performance.between(0, 3.3) == primer.between(0, 3.3)
    assert (cut.start, cut.end) == (3.3, 13.3)
    assert cut.performance.tempo_map == primer.tempo_map


def test_a_primer_is_not_continued_from_after_its_end(engine):
    with pytest.raises(InputError, match=r"`from` must be 0 to 2\.00, the seconds of the primer, not 100"):
        continue_from(engine, scale(2), 5, start=100)


def test_a_pedal_long_after_the_primer_is_no_part_of_it(engine):
    tap = np.array([(32.0, 0.2, SUSTAIN, 127)], PEDAL_DTYPE)
    made = continue_from(engine, replace(scale(2), pedals=tap), 5, SOME)
    assert made.start == pytest.approx(1.51)
    assert not (made.performance.pedals["onset"] == 32.0).any()


# --- guards


def longest_run(performance: Performance) -> int:
    return max((len(list(group)) for _, group in groupby(performance.notes["pitch"])), default=0)


def longest_rest(onsets: Array, start: float, end: float) -> float:
    return float(np.diff([start, *onsets, end]).max())


@pytest.mark.parametrize("seed", range(8))
def test_no_long_rest_and_no_long_run(engine, seed):
    options = SamplingOptions(seed=seed, longest_rest_seconds=0.5, longest_repeat=2)
    made = compose(engine, 40, options)
    assert longest_run(made.performance) <= 2
    assert longest_rest(made.written.notes["onset"], 0, 40) <= 0.5 + 1e-9
    primer = played((0.0, 0.4, 60), (0.5, 0.4, 60))
    made = continue_from(engine, primer, 20, options)
    assert longest_run(made.performance) <= 2
    assert longest_rest(made.performance.notes["onset"], 0, made.end) <= 0.5 + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_the_default_guards(engine, seed):
    made = compose(engine, 60, SamplingOptions(seed=seed, temperature=0.2 + seed / 10))
    assert longest_run(made.performance) <= 8
    assert longest_rest(made.written.notes["onset"], 0, 60) <= 4 + 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_the_guards_look_into_the_future(engine, seed):
    passage = played(*[(0.5 * i, 0.4, 60) for i in range(5)], (4.0, 1.0, 70))
    options = SamplingOptions(seed=seed, longest_rest_seconds=2.0, longest_repeat=6)
    made = lead_in(engine, passage, 15, options)
    assert longest_run(made.performance) <= 6
    assert longest_rest(made.performance.between(0, 15.1).notes["onset"], 0, 15) <= 2 + 1e-9
    pedal_first = replace(passage.shifted(1.9), pedals=np.array([(0.0, 1.0, SUSTAIN, 90)], PEDAL_DTYPE))
    made = lead_in(engine, pedal_first, 15, options)  # its first note comes 1.9 s after the joint
    assert longest_rest(made.performance.between(0, 17).notes["onset"], 0, 16.9) <= 2 + 1e-9


def test_a_primers_own_run_and_rest_may_be_longer(engine):
    primer = played(*[(0.2 * i, 0.1, 60) for i in range(20)], (30.0, 0.1, 60))
    made = continue_from(engine, primer, 10, SOME)
    assert made.performance.between(0, made.start) == primer
    assert made.written.notes["pitch"][0] != 60


@pytest.mark.parametrize("notes", [1, 2, 37])
def test_a_number_of_notes(engine, notes):
    for made in (compose(engine, 500, SOME, notes=notes), continue_from(engine, scale(4), 500, SOME, notes=notes)):
        assert len(made.written) == notes
        assert made.end < 500
        assert len(made.performance.between(made.end)) == 0
    assert compose(engine, 500, SOME, notes=notes).performance.end <= compose(engine, 500, SOME).performance.end


# --- many at a time


def mixed(count: int) -> list[tuple[Span, SamplingOptions]]:
    """Tasks of all kinds and lengths in turn, each with a seed and options of its own."""
    spans = [
        to_compose(6),
        to_infill(scale(12), 3.005, 7.1),
        to_continue(scale(4), 5),
        to_compose(500, notes=9),
        to_lead_in(scale(3), 4),
        to_bridge(scale(3), scale(3), 2.5),
        to_infill(scale(12), 0, 1.5),
    ]
    options = [
        SamplingOptions(
            seed=i, temperature=0.7 + 0.1 * (i % 5), top_p=(1.0, 0.95, 0.6)[i % 3], composer=COMPOSERS[i % 2]
        )
        for i in range(count)
    ]
    return [(spans[i % len(spans)], each) for i, each in enumerate(options)]


def as_bytes(made: Generated) -> bytes:
    return write_midi(made.performance)


@pytest.fixture(scope="module")
def each_alone(engine: Engine) -> list[Generated]:
    return [generate(engine, span, options) for span, options in mixed(16)]


@pytest.mark.parametrize("size", [None, 1, 3, 8, 64])
def test_many_are_each_as_if_alone_and_in_the_order_asked_for(engine, each_alone, size):
    found = list(generate_many(engine, mixed(16), size=size))
    assert [made.seed for made in found] == list(range(16))
    for made, alone in zip(found, each_alone, strict=True):
        assert as_bytes(made) == as_bytes(alone)
        assert made.performance == alone.performance
        assert (made.start, made.end, made.tokens) == (alone.start, alone.end, alone.tokens)
        assert made.seconds_taken > 0


@pytest.mark.parametrize("order", ["backwards", "apart", "shuffled"])
def test_in_any_company_a_piece_is_the_same(engine, each_alone, order):
    """Others before, beside and after it; a few alone; on an engine that has done other things."""
    pieces = mixed(16)
    chosen = {
        "backwards": list(range(16))[::-1],
        "apart": [2, 9, 4],
        "shuffled": np.random.default_rng(1).permutation(16).tolist(),
    }[order]
    strangers = [(span, replace(options, seed=900 + i)) for i, (span, options) in enumerate(mixed(4))]
    asked = [strangers[0], *(pieces[i] for i in chosen), *strangers[1:]]
    found = list(generate_many(engine, asked, size=3))[1:-3]
    assert [as_bytes(made) for made in found] == [as_bytes(each_alone[i]) for i in chosen]


def test_another_engine_gives_the_same_bytes(tiny_bundle, each_alone):
    found = generate_many(Engine(open_bundle(tiny_bundle)), mixed(4), size=2)
    assert [as_bytes(made) for made in found] == [as_bytes(each_alone[i]) for i in range(4)]


def test_spans_are_asked_for_as_they_are_needed(engine):
    """From a source without an end: no more are taken than there are slots, and what is done is given at once."""
    taken = []

    def source():
        for i in range(10**9):
            taken.append(i)
            yield to_compose(1 + i % 3), SamplingOptions(seed=i)

    coming = generate_many(engine, source(), size=3)
    assert taken == []
    for done in range(5):
        assert next(coming).seed == done
        assert len(taken) <= done + 1 + 3 + 2
    coming.close()


def test_none_asked_for_are_none(engine):
    assert list(generate_many(engine, [])) == []
    assert list(generate_many(engine, iter([]), size=4)) == []


def test_what_does_not_fit_among_many_is_refused(engine):
    asked = [(to_compose(1), SOME), (Span(scale(4), Performance(), 2, 5), SOME)]
    with pytest.raises(InputError, match="the past must begin before the span to write, at 2 s"):
        list(generate_many(engine, asked))


def test_each_task_is_its_span(engine):
    piece = scale(8)
    for span, made in (
        (to_compose(5), compose(engine, 5, SOME)),
        (to_compose(50, notes=7), compose(engine, 50, SOME, notes=7)),
        (to_continue(piece, 5, start=3.0), continue_from(engine, piece, 5, SOME, start=3.0)),
        (to_continue(piece, 50, notes=7), continue_from(engine, piece, 50, SOME, notes=7)),
        (to_lead_in(piece, 5), lead_in(engine, piece, 5, SOME)),
        (to_infill(piece, 2, 5), infill(engine, piece, 2, 5, SOME)),
        (to_bridge(piece, piece, 5), bridge(engine, piece, piece, 5, SOME)),
    ):
        assert generate(engine, span, SOME).performance == made.performance
        assert made.start == span.start
        assert made.end == (span.end if span.notes is None else made.end)


# --- streaming


def writer_of(engine: Engine, span: Span, seed: int = 5) -> Writer:
    return Writer(engine, span, SamplingOptions(seed=seed))


def events_of(performance: Performance) -> list[tuple[float | int, ...]]:
    """Onset, key and force of each event; how long they are held is cut where the future strikes the key."""
    return [
        (float(onset), int(key), int(force))
        for array in (performance.notes, performance.pedals)
        for onset, _, key, force in array.tolist()
    ]


@pytest.mark.parametrize("kind", range(7))
def test_rows_as_they_are_drawn_are_the_whole_piece(engine, kind):
    span, options = mixed(7)[kind]
    rows = list(Writer(engine, span, options))
    made = generate(engine, span, options)
    assert len(rows) == made.tokens
    writer = Writer(engine, span, options)
    written = decode(np.array(rows, TOKEN_DTYPE), writer.first_tick)
    assert written == made.written if not len(span.future) else events_of(written) == events_of(made.written)
    assert len(written) > 0


def test_the_first_row_comes_before_the_rest_is_written(engine):
    writer = writer_of(engine, to_compose(80_000))  # its end is not known of for long
    rows = iter(writer)
    first = []
    for _ in range(20):
        first.append(next(rows))
        assert writer.now == sum(row[0] for row in first)
    assert writer.now < 80_000_00 / 2
    assert first == list(writer_of(engine, to_compose(90)))[:20]


def test_a_writer_can_be_dropped_at_any_time(engine):
    """Nothing it did stays with the engine; what it had written is gone with it."""
    whole = list(writer_of(engine, to_compose(30)))
    for count in (0, 1, 7):
        writer = writer_of(engine, to_compose(30))
        rows = iter(writer)
        assert [next(rows) for _ in range(count)] == whole[:count]
        gone = weakref.ref(writer)
        rows.close()
        del writer, rows
        gc.collect()
        assert gone() is None
    assert list(writer_of(engine, to_compose(30))) == whole


def test_memory_does_not_grow_with_what_is_written(engine):
    rows = iter(writer_of(engine, to_compose(80_000)))
    for _ in range(200):
        next(rows)
    tracemalloc.start()
    try:
        used = []
        for _ in range(3):
            for _ in range(400):
                next(rows)
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert used[-1] - used[0] < 16_000  # 800 rows would be 80 kB, a line of noise for each of them a megabyte


def test_two_writers_at_once_do_not_disturb_each_other(engine):
    one, other = (list(writer_of(engine, to_compose(20), seed)) for seed in (1, 2))
    first, second = (iter(writer_of(engine, to_compose(20), seed)) for seed in (1, 2))
    found: tuple[list, list] = ([], [])
    for a, b in zip_longest(first, second):
        found[0].append(a)
        found[1].append(b)
    assert [row for row in found[0] if row] == one
    assert [row for row in found[1] if row] == other


# --- what a token may be


@pytest.mark.parametrize("seed", range(10))
def test_what_is_drawn_may_be(engine, seed):
    """Keys are free when they are struck, and rise within a tick; onsets lie in the span; all is in range."""
    span, options = mixed(7)[seed % 7]
    wild = replace(options, seed=seed, temperature=3.0, top_p=1.0)
    writer = Writer(engine, span, wild)
    tick, last = writer.first_tick, -1
    released = dict.fromkeys(range(NUM_KEYS), 0)
    for events, key, first in ((span.past.notes, "pitch", -21), (span.past.pedals, "pedal", KEYS)):
        for event in events:
            end = float(event["onset"] + event["duration"])
            mine = int(event[key]) + first
            released[mine] = max(released[mine], end * TICKS_PER_SECOND)
    count = 0
    for count, (shift, key, velocity, duration) in enumerate(writer, 1):
        assert shift >= 0
        assert count == 1 or shift > 0 or key > last
        tick, last = tick + shift, key
        assert span.start - 1e-9 <= tick / TICKS_PER_SECOND < span.end
        assert 0 <= key < NUM_KEYS
        assert 1 <= velocity <= 127
        assert 1 <= duration < DURATION_BINS.edges[-1]
        assert released[key] <= tick + 1e-6
        released[key] = tick + duration
    assert count > 0


@pytest.mark.parametrize("future", [False, True])
def test_no_end_and_no_resuming_where_there_is_nothing_to_resume(engine, by_numpy, future, monkeypatch):
    """With noise that would have them win, resuming comes with a future alone, and the end never."""
    drawn = []
    fill, draw = NoiseSource.fill, Reference._draw_tokens

    def biased(source, noise, uniforms):
        fill(source, noise, uniforms)
        noise[:, [RESUME, END]] = 1e3  # beyond what noise gives, at any temperature

    def watched(reference, slots, first, count, forced):
        found = draw(reference, slots, first, count, forced)
        drawn.extend(slots.drawn[first : first + count, 0].tolist())
        return found

    monkeypatch.setattr(NoiseSource, "fill", biased)
    monkeypatch.setattr(Reference, "_draw_tokens", watched)
    span = to_lead_in(scale(3), 12) if future else to_compose(12, open_end=True)
    made = generate(by_numpy, span, SOME)
    monkeypatch.setattr(Reference, "_draw_tokens", draw)
    assert generate(engine, span, SOME).performance == made.performance
    assert END not in drawn
    assert drawn.count(RESUME) == future
    if future:  # as soon as the guards let it: the passage is never more than the longest rest away
        assert drawn[-1] == RESUME
        assert 12 - made.written.notes["onset"][-1] <= 4
    else:
        assert made.written.notes["onset"][-1] > 8


@pytest.mark.parametrize(
    ("column", "value"),
    [(1, -1), (1, 3), (4, -5), (4, -(1 << 31)), (5, -1), (5, -(1 << 31))],
    ids=["no key", "one key again and again", "back in time", "far back", "no length", "far less"],
)
def test_a_model_that_draws_what_is_no_token_is_refused_and_does_not_run_for_ever(by_numpy, column, value, monkeypatch):
    """As a stranger's might: nothing hangs, and no traceback is shown."""
    draw = Reference._draw_tokens

    def hostile(reference, slots, first, count, forced):
        found = draw(reference, slots, first, count, forced)
        if column == 1:
            slots.drawn[:, 4] = 0  # in the same tick
        slots.drawn[:, column] = value
        return found

    monkeypatch.setattr(Reference, "_draw_tokens", hostile)
    with pytest.raises(BundleError) as caught:
        compose(by_numpy, 60, SOME)
    assert "the model produced an invalid token after 0.00 s; the bundle is damaged or from another" in str(
        caught.value
    )
    assert str(caught.value).startswith(str(by_numpy.bundle.folder))
    assert "\n" not in str(caught.value)


def test_a_model_that_is_refused_leaves_the_others_as_they_were(engine, by_numpy, monkeypatch):
    """An engine may be used again after it."""
    wanted, draw = compose(engine, 3, SOME).performance, Reference._draw_tokens

    def hostile(reference, slots, *arguments):
        found = draw(reference, slots, *arguments)
        slots.drawn.fill(-1)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Reference, "_draw_tokens", hostile)
        with pytest.raises(BundleError, match="the model produced an invalid token"):
            compose(by_numpy, 3, SOME)
    assert compose(by_numpy, 3, SOME).performance == wanted


# --- the reference writes the same


def test_numpy_writes_the_same_music(engine, by_numpy):
    """All tasks and guards, to the bit."""
    asked = mixed(7)
    few = {"longest_rest_seconds": 0.3, "longest_repeat": 2, "temperature": 1.5, "top_p": 0.6}
    asked += [
        (to_continue(scale(4), 2, notes=7), SamplingOptions(seed=8)),
        (to_compose(2), SamplingOptions(seed=9, **few)),
    ]
    asked += [(to_lead_in(scale(3), 2), SamplingOptions(seed=10, **few))]
    for one, other in zip(generate_many(engine, asked), generate_many(by_numpy, asked), strict=True):
        assert one.performance == other.performance
        assert (one.tokens, one.end, one.seed) == (other.tokens, other.end, other.seed)


# --- writers


def test_a_writer_with_another_seed_is_the_one_of_that_seed(engine):
    """Past and future are read once; what one writes changes nothing for the others."""
    span = to_infill(scale(12), 3.0, 6.0)
    first = writer_of(engine, span, 1)
    others = [first.with_seed(seed) for seed in (2, 3)]
    assert [writer.options.seed for writer in (first, *others)] == [1, 2, 3]
    rows = [list(writer) for writer in (others[0], first, others[1])]
    assert rows == [list(writer_of(engine, span, seed)) for seed in (2, 1, 3)]
    fresh = writer_of(engine, span, 1)
    assert fresh.with_seed(None).options.seed != fresh.with_seed(None).options.seed


def test_a_writer_has_a_seed_that_gives_it_again(engine):
    writer = Writer(engine, to_compose(3), SamplingOptions())
    seed = writer.options.seed
    assert list(writer) == list(writer_of(engine, to_compose(3), seed))


def test_a_batch_writes_each_as_alone(engine):
    """Writers come and go while others write; those that are done have left."""
    batch = BatchWriter(engine, 3)
    writers = [writer_of(engine, to_compose(2 + seed % 3), seed) for seed in range(5)]
    waiting, rows = list(writers), {id(writer): [] for writer in writers}
    while waiting or len(batch):
        if waiting and len(batch) < 3:
            batch.add(waiting.pop(0))
        for writer, written in batch.step(2):
            rows[id(writer)] += map(tuple, written)
    assert all(writer.done for writer in writers)
    assert batch.clock > 0
    for seed, writer in enumerate(writers):
        assert rows[id(writer)] == list(writer_of(engine, to_compose(2 + seed % 3), seed))


def test_the_state_of_a_writer_says_how_far_it_has_come(engine):
    writer = Writer(engine, to_compose(30, notes=10), SOME)
    assert (writer.done, writer.now, writer.state.notes_left) == (False, writer.first_tick, 10)
    notes, tick = 0, writer.first_tick
    for shift, key, _, _ in writer:
        notes, tick = notes + (key < KEYS), tick + shift
        assert (writer.now, writer.state.last_key, writer.state.notes_left) == (tick, key, 10 - notes)
        assert writer.done == (notes == 10)
    assert writer.done


# --- what does not fit


NAN, DAY = float("nan"), 24 * 3600.0


@pytest.mark.parametrize("temperature", [0, -1, 1e-300, NAN, 11, float("inf")])
def test_temperatures_out_of_range_are_refused_with_the_reason(temperature):
    with pytest.raises(InputError, match=r"`temperature` must be 0\.01 to 10, .* repeats itself endlessly; try 0\.8"):
        SamplingOptions(temperature=temperature)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("top_p", 0), ("top_p", 1.1), ("top_p", NAN), ("seed", -1), ("seed", 1 << 63),
        ("longest_rest_seconds", 0), ("longest_rest_seconds", NAN), ("longest_repeat", 0),
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(InputError, match=f"`{option}` must be"):
        SamplingOptions(**{option: value})


def test_a_rest_without_limit_can_be_asked_for(engine):
    assert compose(engine, 5, SamplingOptions(seed=1, longest_rest_seconds=float("inf"))).end == 5


@pytest.mark.parametrize("seconds", [0, -1, NAN, DAY + 1, float("inf")])
def test_lengths_out_of_range_are_refused(engine, seconds):
    for ask in (
        lambda: compose(engine, seconds),
        lambda: continue_from(engine, scale(2), seconds),
        lambda: lead_in(engine, scale(2), seconds),
        lambda: bridge(engine, scale(2), scale(2), seconds),
    ):
        with pytest.raises(InputError, match="`seconds` must be above 0 and at most 86400"):
            ask()


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (5.0, 5.0, "must begin at 0 or later and end after"),
        (6.0, 5.0, "`from` is 6.0 s, `to` is 5.0 s"),
        (-1.0, 5.0, "must begin at 0 or later"),
        (NAN, 5.0, "must begin at 0 or later"),
        (1.0, NAN, "must begin at 0 or later"),
        (100.0, 105.0, r"the gap from 100.0 s lies outside the piece, which ends at 9\.95 s"),
        (float("inf"), float("inf"), "must begin at 0 or later"),
        (1.0, float("inf"), "must end within 24 hours"),
    ],
)
def test_gaps_that_do_not_fit_are_refused(engine, start, end, message):
    with pytest.raises(InputError, match=message):
        infill(engine, scale(10), start, end)


@pytest.mark.parametrize("start", [-1.0, NAN, DAY + 1, float("inf")])
def test_a_start_that_does_not_fit_is_refused(engine, start):
    with pytest.raises(InputError, match=r"`from` must be 0 to 3\.95"):
        continue_from(engine, scale(4), start=start)


def test_music_beyond_a_day_is_refused_before_it_is_written(engine):
    with pytest.raises(InputError, match="must end within 24 hours"):
        continue_from(engine, scale(10), DAY - 5)


def test_notes_are_needed(engine):
    pedal_only, notes = played(pedals=((0.0, 1.0, SUSTAIN),)), scale(4)
    for ask, what in (
        (lambda: continue_from(engine, pedal_only), "the primer"),
        (lambda: continue_from(engine, scale(4, 2.0), start=1.0), "the primer before 1.0 s"),
        (lambda: lead_in(engine, pedal_only), "the passage"),
        (lambda: infill(engine, pedal_only, 0, 1), "the piece"),
        (lambda: bridge(engine, pedal_only, notes), "the first piece"),
        (lambda: bridge(engine, notes, pedal_only), "the second piece"),
    ):
        with pytest.raises(InputError, match=f"{what} has no notes"):
            ask()


def test_no_notes_cannot_be_asked_for(engine):
    with pytest.raises(InputError, match="`notes` must be at least 1, not 0"):
        compose(engine, 5, notes=0)


def test_events_on_the_wrong_side_are_refused(engine):
    with pytest.raises(InputError, match="the past must begin before the span to write, at 2 s"):
        generate(engine, Span(scale(4), Performance(), 2, 5))
    with pytest.raises(InputError, match="the future must not begin before the end of the span to write, at 2 s"):
        generate(engine, Span(Performance(), scale(4), 0, 2))
    with pytest.raises(InputError, match="the span to write"):
        generate(engine, Span(Performance(), Performance(), 3, 2))


def test_an_unknown_composer_is_refused(engine):
    with pytest.raises(InputError, match="unknown composer 'Shopin'; the model knows, nearest first: Frédéric Chopin"):
        compose(engine, 5, SamplingOptions(composer="Shopin"))


# --- without torch


BLOCKED = 'import sys; sys.modules.update(dict.fromkeys(["torch", "accelerate", "onnx", "onnxruntime"]))'


def run_python(code, folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", [None, "numpy"])
def test_generation_needs_no_torch(tiny_bundle, tmp_path, backend):
    """Nor any other runtime: NumPy and the package's own library."""
    code = f"""
{BLOCKED}
from music_generator.engine.engine import Engine
from music_generator.generation import SamplingOptions, compose
from music_generator.generation.scoring import score
engine = Engine({str(tiny_bundle)!r}, backend={backend!r})
made = compose(engine, 2, SamplingOptions(seed=1))
assert made.tokens
assert score(made.performance, engine).nats.sum() > 0
assert not any(name.split(".")[0].startswith(("torch", "onnx")) for name, module in sys.modules.items() if module)
"""
    run_python(code, tmp_path)


@pytest.mark.slow
def test_the_command_needs_no_torch(tiny_bundle, tmp_path):
    code = f"""
{BLOCKED}
from music_generator.cli import main as cli
sys.argv = ["music-generator", "generate", "--seconds", "3", "--model", {str(tiny_bundle)!r}, "--out", "."]
cli.main()
"""
    run_python(code, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".mid", ".wav", ".png"}
