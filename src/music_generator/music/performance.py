"""A piano performance: notes and pedal presses in seconds. What every module outside the model takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError

__all__ = [
    "HIGHEST_PITCH",
    "LOWEST_PITCH",
    "NOTE_DTYPE",
    "PEDAL_DTYPE",
    "PEDAL_NAMES",
    "SOSTENUTO",
    "SUSTAIN",
    "UNA_CORDA",
    "Performance",
    "TempoMap",
    "join",
]

LOWEST_PITCH = 21
"""A0, the first of the piano's 88 keys as MIDI numbers."""
HIGHEST_PITCH = 108
"""C8, the last of them."""

SUSTAIN = 0
SOSTENUTO = 1
UNA_CORDA = 2
PEDAL_NAMES = ("sustain", "sostenuto", "una corda")
NOTE_VALUES = (1, 2, 4, 8, 16, 32, 64)  # below the line of a time signature

NOTE_DTYPE = np.dtype([("onset", "f8"), ("duration", "f8"), ("pitch", "i2"), ("velocity", "i2")])
"""A note: onset and duration in seconds; pitch and velocity as in MIDI (velocity 1-127)."""
PEDAL_DTYPE = np.dtype([("onset", "f8"), ("duration", "f8"), ("pedal", "i2"), ("depth", "i2")])
"""A press: `SUSTAIN`, `SOSTENUTO` or `UNA_CORDA`; depth is the controller's largest value while pressed (1-127)."""

Array = NDArray[Any]


@dataclass(frozen=True)
class TempoMap:
    """How seconds lie on a MIDI file's ticks: resolution, tempo changes, time signatures.

    `tempos` are (tick, microseconds per quarter note), the first one at tick 0; `time_signatures`
    are (tick, numerator, denominator). A performance read from a file keeps that file's map, so that
    what is written lies on the same ticks and bars as what was read.
    """

    ticks_per_quarter: int = 500  # with 120 quarters a minute: 1 tick = 1 ms
    tempos: tuple[tuple[int, int], ...] = ((0, 500_000),)
    time_signatures: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.ticks_per_quarter <= 32767:
            raise InputError(f"`ticks_per_quarter` must be 1 to 32767, not {self.ticks_per_quarter}")
        ticks = [tick for tick, _ in self.tempos]
        if not ticks or ticks[0] != 0 or any(b <= a for a, b in pairwise(ticks)):
            raise InputError("`tempos` must begin at tick 0 and rise strictly")
        if any(not 0 < tempo < 1 << 24 for _, tempo in self.tempos):
            raise InputError("a tempo must be 1 to 16777215 microseconds per quarter note")
        ticks = [tick for tick, _, _ in self.time_signatures]
        if any(tick < 0 for tick in ticks) or any(b <= a for a, b in pairwise(ticks)):
            raise InputError("`time_signatures` must begin at tick 0 or later and rise strictly")
        if any(not 0 < top < 256 or bottom not in NOTE_VALUES for _, top, bottom in self.time_signatures):
            raise InputError("a time signature must be 1 to 255 over 1, 2, 4, 8, 16, 32 or 64")

    @cached_property
    def _knots(self) -> tuple[Array, Array, Array]:
        """Tick, second and seconds per tick at each tempo change."""
        ticks = np.array([tick for tick, _ in self.tempos], np.float64)
        rates = np.array([tempo for _, tempo in self.tempos], np.float64) / (1e6 * self.ticks_per_quarter)
        seconds = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * rates[:-1])])
        return ticks, seconds, rates

    def ticks_to_seconds(self, ticks: Array) -> Array:
        """Seconds of each tick; the inverse of `seconds_to_ticks`."""
        knots, seconds, rates = self._knots
        i = np.searchsorted(knots, ticks, side="right") - 1
        return np.asarray(seconds[i] + (ticks - knots[i]) * rates[i])

    def seconds_to_ticks(self, seconds: Array) -> Array:
        """The nearest tick of each second, as int64; the inverse of `ticks_to_seconds`."""
        knots, starts, rates = self._knots
        i = np.searchsorted(starts, seconds, side="right") - 1
        return np.rint(knots[i] + (seconds - starts[i]) / rates[i]).astype(np.int64)

    def refined(self, seconds_per_tick: float = 0.001) -> TempoMap:
        """The same map on whole fractions of its ticks, each at most `seconds_per_tick` long where MIDI allows."""
        coarsest = max(tempo for _, tempo in self.tempos) / (1e6 * self.ticks_per_quarter)
        factor = min(int(np.ceil(coarsest / seconds_per_tick - 1e-9)), 32767 // self.ticks_per_quarter)
        if factor <= 1:
            return self
        return TempoMap(
            self.ticks_per_quarter * factor,
            tuple((tick * factor, tempo) for tick, tempo in self.tempos),
            tuple((tick * factor, top, bottom) for tick, top, bottom in self.time_signatures),
        )


def _released_before_struck_again(events: Array, key: str) -> Array:
    """Events by onset, then key; one still held when its key is struck again ends there.

    Of two events of one key at once the longer stays.
    """
    by_key = events[np.lexsort((-events["duration"], events["onset"], events[key]))]
    twice = (np.diff(by_key[key], prepend=-1) == 0) & (np.diff(by_key["onset"], prepend=-1.0) == 0)
    by_key = by_key[~twice]
    room = np.where(np.diff(by_key[key]) == 0, np.diff(by_key["onset"]), np.inf)
    overlong = np.flatnonzero(by_key["duration"][:-1] > room)
    by_key["duration"][overlong] = room[overlong]
    by_onset: Array = by_key[np.lexsort((by_key[key], by_key["onset"]))]
    return by_onset


def _checked(events: Array, dtype: np.dtype[Any], key: str, keys: tuple[int, int], force: str) -> Array:
    events = np.array(events, dtype=dtype)
    if events.ndim != 1:
        raise InputError(f"notes and pedals must be one-dimensional arrays, not of shape {events.shape}")
    if not len(events):
        return events
    if not (np.isfinite(events["onset"]).all() and np.isfinite(events["duration"]).all()):
        raise InputError("onsets and durations must be finite numbers of seconds")
    if events["onset"].min() < 0 or events["duration"].min() <= 0:
        raise InputError("onsets must be at least 0 and durations above 0 seconds")
    for name, low, high in ((key, *keys), (force, 1, 127)):
        if events[name].min() < low or events[name].max() > high:
            raise InputError(f"`{name}` must be {low} to {high}")
    return _released_before_struck_again(events, key)


def _no_notes() -> Array:
    return np.empty(0, NOTE_DTYPE)


def _no_pedals() -> Array:
    return np.empty(0, PEDAL_DTYPE)


@dataclass(frozen=True, eq=False)
class Performance:
    """Notes (`NOTE_DTYPE`) and pedal presses (`PEDAL_DTYPE`) of one piece, in seconds from its start.

    Both arrays come out sorted by onset, then pitch or pedal; a key or pedal never sounds twice at once:
    a event still held when its key is struck again ends there. The arrays are read-only.

    Raises `InputError` if a value is out of its range.
    """

    notes: Array = field(default_factory=_no_notes)
    pedals: Array = field(default_factory=_no_pedals)
    tempo_map: TempoMap = TempoMap()

    def __post_init__(self) -> None:
        notes = _checked(self.notes, NOTE_DTYPE, "pitch", (LOWEST_PITCH, HIGHEST_PITCH), "velocity")
        pedals = _checked(self.pedals, PEDAL_DTYPE, "pedal", (SUSTAIN, UNA_CORDA), "depth")
        for name, events in (("notes", notes), ("pedals", pedals)):
            events.flags.writeable = False
            object.__setattr__(self, name, events)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Performance):
            return NotImplemented
        return np.array_equal(self.notes, other.notes) and np.array_equal(self.pedals, other.pedals)

    def __len__(self) -> int:
        """The number of notes."""
        return len(self.notes)

    @property
    def end(self) -> float:
        """The second at which the last key or pedal is released; 0.0 if there is none."""
        ends = (s["onset"] + s["duration"] for s in (self.notes, self.pedals))
        return max((float(end.max()) for end in ends if len(end)), default=0.0)

    def between(self, start: float, end: float = np.inf) -> Performance:
        """The events whose onset lies in [start, end) seconds, where they are."""
        notes, pedals = (s[(s["onset"] >= start) & (s["onset"] < end)] for s in (self.notes, self.pedals))
        return replace(self, notes=notes, pedals=pedals)

    def shifted(self, seconds: float) -> Performance:
        """The same events `seconds` later (earlier if negative; none may begin before 0)."""
        notes, pedals = self.notes.copy(), self.pedals.copy()
        notes["onset"] += seconds
        pedals["onset"] += seconds
        return replace(self, notes=notes, pedals=pedals)

    def transposed(self, semitones: int) -> Performance:
        """The same performance `semitones` higher; notes that would leave the piano are left out."""
        pitch = self.notes["pitch"].astype(np.int64) + semitones
        on_piano = (pitch >= LOWEST_PITCH) & (pitch <= HIGHEST_PITCH)
        notes = self.notes[on_piano]
        notes["pitch"] = pitch[on_piano]
        return replace(self, notes=notes)


def join(parts: Sequence[Performance]) -> Performance:
    """All events of `parts` on one time line, on the first part's tempo map."""
    if not parts:
        return Performance()
    notes = np.concatenate([part.notes for part in parts])
    pedals = np.concatenate([part.pedals for part in parts])
    return replace(parts[0], notes=notes, pedals=pedals)
