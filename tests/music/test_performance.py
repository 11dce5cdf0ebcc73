"""Performances and tempo maps: what always holds of them, whatever they are made from."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_generator.errors import InputError
from music_generator.music.performance import (
    HIGHEST_PITCH,
    LOWEST_PITCH,
    NOTE_DTYPE,
    PEDAL_DTYPE,
    SOSTENUTO,
    SUSTAIN,
    UNA_CORDA,
    Array,
    Performance,
    join,
)
from music_generator.music.tempo_map import TempoMap

Event = tuple[float, float, int, int]


def notes(*events: Event) -> Array:
    """Notes as (onset, duration, pitch, velocity)."""
    return np.array(list(events), NOTE_DTYPE)


def pedals(*events: Event) -> Array:
    """Presses as (onset, duration, pedal, depth)."""
    return np.array(list(events), PEDAL_DTYPE)


def events(low: int, high: int) -> st.SearchStrategy[list[Event]]:
    """Events on few keys and a coarse grid, so that many meet; and some between. Halved seconds add up exactly."""
    times = st.integers(0, 20).map(lambda n: n / 8) | st.integers(0, 2048).map(lambda n: n / 1024)
    durations = st.integers(1, 20).map(lambda n: n / 8) | st.integers(1, 2048).map(lambda n: n / 1024)
    return st.lists(st.tuples(times, durations, st.integers(low, high), st.integers(1, 127)), max_size=20)


@st.composite
def performances(draw: st.DrawFn) -> Performance:
    return Performance(notes(*draw(events(60, 62))), pedals(*draw(events(SUSTAIN, UNA_CORDA))))


@st.composite
def tempo_maps(draw: st.DrawFn) -> TempoMap:
    """Several tempi between 30 and 300 quarters a minute."""
    ticks = sorted(draw(st.sets(st.integers(1, 100_000), max_size=5)))
    tempos = [draw(st.integers(200_000, 2_000_000)) for _ in range(len(ticks) + 1)]
    resolution = draw(st.sampled_from([1, 24, 96, 384, 480, 500, 15_360, 32_767]))
    return TempoMap(resolution, tuple(zip([0, *ticks], tempos, strict=True)), ((0, 3, 4), (7, 6, 8)))


# --- a performance


@settings(max_examples=60, deadline=None)
@given(events(60, 62), events(SUSTAIN, UNA_CORDA))
def test_invariants(note_events: list[Event], pedal_events: list[Event]) -> None:
    performance = Performance(notes(*note_events), pedals(*pedal_events))
    for given_events, held, key in (
        (note_events, performance.notes, "pitch"),
        (pedal_events, performance.pedals, "pedal"),
    ):
        assert held[key].tolist() == [k for _, k in sorted(zip(held["onset"], held[key], strict=True))]
        assert np.all(np.diff(held["onset"]) >= 0)
        assert {(s[0], s[2]) for s in given_events} == set(zip(held["onset"], held[key], strict=True))
        assert (held["duration"] > 0).all()
        for one in np.unique(held[key]):
            mine = held[held[key] == one]
            assert np.all(np.diff(mine["onset"]) > 0)
            assert np.all(mine["duration"][:-1] <= np.diff(mine["onset"]))
    assert Performance(performance.notes, performance.pedals) == performance


def test_a_event_ends_where_its_key_is_struck_again() -> None:
    performance = Performance(
        notes((1.0, 1.0, 60, 70), (0.0, 5.0, 60, 64), (0.5, 5.0, 61, 64)),
        pedals((0.0, 9.0, SUSTAIN, 100), (1.0, 1.0, SOSTENUTO, 100), (2.0, 1.0, SUSTAIN, 90)),
    )
    assert performance.notes.tolist() == [(0.0, 1.0, 60, 64), (0.5, 5.0, 61, 64), (1.0, 1.0, 60, 70)]
    assert performance.pedals["duration"].tolist() == [2.0, 1.0, 1.0]
    assert len(performance) == 3
    assert performance.end == 5.5


def test_of_two_events_at_once_the_longer_stays() -> None:
    performance = Performance(notes((1.0, 0.5, 60, 70), (1.0, 2.0, 60, 64), (1.0, 1.0, 60, 90)))
    assert performance.notes.tolist() == [(1.0, 2.0, 60, 64)]


def test_arrays_are_read_only_copies() -> None:
    mine = notes((0.0, 1.0, 60, 64))
    performance = Performance(mine, pedals((0.0, 1.0, SUSTAIN, 64)))
    for array in (performance.notes, performance.pedals):
        with pytest.raises(ValueError, match="read-only"):
            array["onset"] = 1.0
    mine["pitch"] = 61
    assert performance.notes["pitch"].tolist() == [60]


def test_empty_performance() -> None:
    performance = Performance()
    assert len(performance) == 0
    assert performance.end == 0.0
    assert performance == Performance(notes(), pedals())
    assert performance.shifted(1.0).transposed(3).between(0.0) == performance


def test_pedals_count_for_the_end_and_for_equality() -> None:
    performance = Performance(notes((0.0, 1.0, 60, 64)), pedals((0.5, 2.0, SUSTAIN, 64)))
    assert performance.end == 2.5
    assert performance != Performance(performance.notes)
    assert performance != "a performance"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"notes": notes((-0.1, 1.0, 60, 64))}, "onsets must be at least 0 and durations above 0 seconds"),
        ({"notes": notes((0.0, 0.0, 60, 64))}, "onsets must be at least 0 and durations above 0 seconds"),
        ({"notes": notes((float("nan"), 1.0, 60, 64))}, "onsets and durations must be finite numbers of seconds"),
        ({"notes": notes((0.0, float("inf"), 60, 64))}, "onsets and durations must be finite numbers of seconds"),
        ({"notes": notes((0.0, 1.0, 20, 64))}, "`pitch` must be 21 to 108"),
        ({"notes": notes((0.0, 1.0, 109, 64))}, "`pitch` must be 21 to 108"),
        ({"notes": notes((0.0, 1.0, 60, 0))}, "`velocity` must be 1 to 127"),
        ({"notes": notes((0.0, 1.0, 60, 128))}, "`velocity` must be 1 to 127"),
        ({"pedals": pedals((0.0, 1.0, 3, 64))}, "`pedal` must be 0 to 2"),
        ({"pedals": pedals((0.0, 1.0, SUSTAIN, 0))}, "`depth` must be 1 to 127"),
        ({"notes": notes((0.0, 1.0, 60, 64))[None]}, "must be one-dimensional arrays, not of shape (1, 1)"),
    ],
)
def test_what_a_performance_refuses(made: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Performance(**made)


@settings(max_examples=40, deadline=None)
@given(performances(), st.floats(0, 2), st.floats(0, 2))
def test_between_takes_onsets_from_start_up_to_end(performance: Performance, start: float, end: float) -> None:
    part = performance.between(start, end)
    for whole, taken in ((performance.notes, part.notes), (performance.pedals, part.pedals)):
        assert taken.tolist() == [event for event in whole.tolist() if start <= event[0] < end]
    assert part.tempo_map is performance.tempo_map


@settings(max_examples=40, deadline=None)
@given(performances(), st.floats(0, 2))
def test_between_and_join_are_inverses(performance: Performance, cut: float) -> None:
    assert join([performance.between(0, cut), performance.between(cut)]) == performance


@settings(max_examples=40, deadline=None)
@given(performances(), st.integers(0, 5))
def test_shifted_there_and_back(performance: Performance, seconds: int) -> None:
    later = performance.shifted(seconds)
    assert later.shifted(-seconds) == performance
    assert later.end == (performance.end + seconds if performance.end else 0.0)


def test_shifted_before_the_start_is_refused() -> None:
    with pytest.raises(InputError, match="onsets must be at least 0"):
        Performance(notes((1.0, 1.0, 60, 64))).shifted(-1.5)


def test_transposed_leaves_out_what_is_off_the_piano() -> None:
    performance = Performance(
        notes((0.0, 1.0, LOWEST_PITCH, 64), (0.0, 1.0, 60, 65), (0.0, 1.0, HIGHEST_PITCH, 66)),
        pedals((0.0, 1.0, SUSTAIN, 64)),
    )
    assert performance.transposed(0) == performance
    assert performance.transposed(12).notes[["pitch", "velocity"]].tolist() == [(33, 64), (72, 65)]
    assert performance.transposed(-12).notes[["pitch", "velocity"]].tolist() == [(48, 65), (96, 66)]
    assert performance.transposed(12).pedals.tolist() == performance.pedals.tolist()
    assert len(performance.transposed(100_000)) == 0


def test_join_takes_the_first_tempo_map_and_ends_held_events() -> None:
    slow = TempoMap(tempos=((0, 1_000_000),))
    first = Performance(notes((0.0, 3.0, 60, 64)), tempo_map=slow)
    joined = join([first, Performance(notes((2.0, 1.0, 60, 65)))])
    assert joined.notes.tolist() == [(0.0, 2.0, 60, 64), (2.0, 1.0, 60, 65)]
    assert joined.tempo_map is slow
    assert join([]) == Performance()


# --- a tempo map


@settings(max_examples=60, deadline=None)
@given(tempo_maps(), st.lists(st.integers(0, 200_000), min_size=1, max_size=20))
def test_ticks_and_seconds_are_inverses(tempo_map: TempoMap, ticks: list[int]) -> None:
    changes = [tick for tick, _ in tempo_map.tempos]
    asked = np.array([*ticks, *changes])
    seconds = tempo_map.ticks_to_seconds(asked)
    assert tempo_map.seconds_to_ticks(seconds).tolist() == asked.tolist()
    assert np.all(np.diff(tempo_map.ticks_to_seconds(np.unique(asked))) > 0)


def test_seconds_follow_the_tempo_changes() -> None:
    tempo_map = TempoMap(100, ((0, 500_000), (200, 1_000_000), (300, 250_000)))
    assert tempo_map.ticks_to_seconds(np.array([0, 100, 200, 250, 300, 700])).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]
    assert tempo_map.seconds_to_ticks(np.array([0.0, 0.502, 0.503, 1.5, 3.0])).tolist() == [0, 100, 101, 250, 700]


@settings(max_examples=60, deadline=None)
@given(tempo_maps(), st.integers(0, 200_000))
def test_refined_keeps_the_time_of_every_tick(tempo_map: TempoMap, tick: int) -> None:
    fine = tempo_map.refined()
    factor, rest = divmod(fine.ticks_per_quarter, tempo_map.ticks_per_quarter)
    assert rest == 0
    ticks = np.array([tick])
    assert fine.ticks_to_seconds(ticks * factor) == pytest.approx(tempo_map.ticks_to_seconds(ticks), abs=1e-9)
    assert fine.time_signatures == tuple((at * factor, top, bottom) for at, top, bottom in tempo_map.time_signatures)
    longest = max(tempo for _, tempo in fine.tempos) / (1e6 * fine.ticks_per_quarter)
    assert longest <= 0.001 + 1e-12 or 2 * fine.ticks_per_quarter > 32767 - tempo_map.ticks_per_quarter
    assert fine.refined() == fine


def test_a_fine_map_is_not_refined() -> None:
    tempo_map = TempoMap()
    assert tempo_map.refined() is tempo_map
    assert TempoMap(384).refined() == TempoMap(768)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"ticks_per_quarter": 0}, "`ticks_per_quarter` must be 1 to 32767, not 0"),
        ({"ticks_per_quarter": 32768}, "`ticks_per_quarter` must be 1 to 32767, not 32768"),
        ({"tempos": ()}, "`tempos` must begin at tick 0 and rise strictly"),
        ({"tempos": ((1, 500_000),)}, "`tempos` must begin at tick 0 and rise strictly"),
        ({"tempos": ((0, 500_000), (0, 400_000))}, "`tempos` must begin at tick 0 and rise strictly"),
        ({"tempos": ((0, 0),)}, "a tempo must be 1 to 16777215 microseconds per quarter note"),
        ({"tempos": ((0, 1 << 24),)}, "a tempo must be 1 to 16777215 microseconds per quarter note"),
        ({"time_signatures": ((-1, 3, 4),)}, "`time_signatures` must begin at tick 0 or later and rise strictly"),
        ({"time_signatures": ((5, 3, 4), (5, 4, 4))}, "`time_signatures` must begin at tick 0 or later and rise"),
        ({"time_signatures": ((0, 0, 4),)}, "a time signature must be 1 to 255 over 1, 2, 4, 8, 16, 32 or 64"),
        ({"time_signatures": ((0, 3, 5),)}, "a time signature must be 1 to 255 over 1, 2, 4, 8, 16, 32 or 64"),
    ],
)
def test_what_a_tempo_map_refuses(made: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        TempoMap(**made)
