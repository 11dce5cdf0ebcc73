"""Performances: their invariants, and what they refuse."""

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


def test_an_event_ends_where_its_key_is_struck_again() -> None:
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
