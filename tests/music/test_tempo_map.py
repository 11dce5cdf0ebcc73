"""Tempo maps: ticks to seconds and back, refined, refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_generator.errors import InputError
from music_generator.music.tempo_map import TempoMap


@st.composite
def tempo_maps(draw: st.DrawFn) -> TempoMap:
    """Several tempi between 30 and 300 quarters a minute."""
    ticks = sorted(draw(st.sets(st.integers(1, 100_000), max_size=5)))
    tempos = [draw(st.integers(200_000, 2_000_000)) for _ in range(len(ticks) + 1)]
    resolution = draw(st.sampled_from([1, 24, 96, 384, 480, 500, 15_360, 32_767]))
    return TempoMap(resolution, tuple(zip([0, *ticks], tempos, strict=True)), ((0, 3, 4), (7, 6, 8)))


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
