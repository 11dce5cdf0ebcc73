"""Events on ticks: the notes and presses of a file in seconds, and those of a performance on the file's ticks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MidiError
from music_generator.music.midi_tables import selected
from music_generator.music.performance import HIGHEST_PITCH, LONGEST_SECONDS, LOWEST_PITCH, Performance
from music_generator.music.tempo_map import TempoMap

Array = NDArray[Any]

LAST_TICK = (1 << 31) - 1  # programs count in int32

TICKS = np.dtype([("start", "i8"), ("end", "i8"), ("key", "i2"), ("force", "i2")])
"""A note or a press in ticks: pitch and velocity, or pedal and depth."""


def on_piano(notes: Array) -> Array:
    """Return the notes on the piano's keys, of a table with pitches."""
    return selected(notes, (notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH))


def in_seconds(table: Array, dtype: np.dtype[Any], tempo_map: TempoMap, path: Any = None) -> Array:
    """Return a table of notes or presses of a file as events of a performance, by onset and key.

    Args:
        table: `midi_tables.NOTES` or `midi_tables.PRESSES`: (n,).
        dtype: `NOTE_DTYPE` or `PEDAL_DTYPE`.
        tempo_map: That of the file.
        path: Where the file comes from, for errors.

    Raises:
        MidiError: It lasts over 24 hours.
    """
    _, _, key, force = dtype.names or ()
    order = np.argsort(table["start"] * 128 + table[key], kind="stable")
    events = np.empty(len(table), dtype)
    events["onset"] = _seconds(path, table["start"][order], tempo_map)
    events["duration"] = _seconds(path, table["end"][order], tempo_map) - events["onset"]
    events[key], events[force] = table[key][order], table[force][order]
    return events


def _seconds(path: Any, ticks: Array, tempo_map: TempoMap) -> Array:
    seconds = tempo_map.ticks_to_seconds(ticks)
    if len(seconds) and not seconds.max() < LONGEST_SECONDS:
        raise MidiError(path, "it lasts longer than 24 hours, which no performance does")
    return seconds


def on_ticks(events: Array, tempo_map: TempoMap) -> Array:
    """Return events of a performance as `TICKS`, by key and start; the inverse of `in_seconds`.

    An event lasts at least one tick and ends where its key is struck again. Of events of one key that fall on one tick
    the longest stays.

    Args:
        events: `NOTE_DTYPE` or `PEDAL_DTYPE`, by onset: (n,).
        tempo_map: The ticks.

    Raises:
        InputError: An event ends after more ticks than MIDI can count.
    """
    _, _, key, force = events.dtype.names or ()
    start = tempo_map.seconds_to_ticks(events["onset"])
    end = np.maximum(tempo_map.seconds_to_ticks(events["onset"] + events["duration"]), start + 1)
    order = np.argsort(events[key], kind="stable")
    found = np.empty(len(events), TICKS)
    for name, values in zip(TICKS.names or (), (start, end, events[key], events[force]), strict=True):
        found[name] = values[order]
    again = _is_struck_again(found)
    if (again & (found["start"][1:] == found["start"][:-1])).any():
        found = found[np.lexsort((-found["end"], found["start"], found["key"]))]
        found = found[np.append(True, ~(_is_struck_again(found) & (found["start"][1:] == found["start"][:-1])))]
        again = _is_struck_again(found)
    found["end"][:-1][again] = np.minimum(found["end"][:-1], found["start"][1:])[again]
    check_countable(found["end"])
    return found


def _is_struck_again(events: Array) -> Array:
    """Return whether the next event is of the same key, of each event but the last."""
    return np.asarray(events["key"][1:] == events["key"][:-1])


def check_countable(ticks: Array) -> None:
    """Check that ticks can be counted.

    Raises:
        InputError: They cannot.
    """
    if ticks.max(initial=0) > LAST_TICK:
        raise InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`")


def places(ticks: Array, keys: Array) -> Array:
    """Return a number for each key and tick; those of `TICKS` rise."""
    return np.asarray((np.asarray(keys, np.int64) << 32) + ticks)


def tick_from(seconds: float, tempo_map: TempoMap) -> int:
    """Return the first tick at or after a second."""
    tick = int(tempo_map.seconds_to_ticks(np.array(seconds)))
    return tick + bool(tempo_map.ticks_to_seconds(np.array(tick)) < seconds - 1e-9)


def within_ticks(performance: Performance, start: float, end: float) -> Performance:
    """Return a performance whose onsets are nearest to ticks of its tempo map in [`start`, `end`) seconds.

    On another tick an event could take the place of one of the music around. None is left if no tick lies there.
    """
    tempo_map, moved = performance.tempo_map, []
    low, high = tick_from(start, tempo_map), tick_from(end, tempo_map) - 1
    for events in (performance.notes, performance.pedals):
        events = events[: len(events) * (low <= high)].copy()
        ticks = tempo_map.seconds_to_ticks(events["onset"])
        outside = (ticks < low) | (ticks > high)
        events["onset"][outside] = tempo_map.ticks_to_seconds(np.clip(ticks, low, high))[outside]
        moved.append(events)
    return replace(performance, notes=moved[0], pedals=moved[1])
