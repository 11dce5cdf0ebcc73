"""A piano performance: notes and pedal presses in seconds. Every module outside the model takes and returns it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.music.midi_parts import MidiSource
from music_generator.music.tempo_map import TempoMap

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
    "join",
]

LOWEST_PITCH = 21
"""A0, the lowest of the piano's 88 keys, as a MIDI number."""
HIGHEST_PITCH = 108
"""C8, the highest key."""
LONGEST_SECONDS = 24 * 3600.0
"""The longest performance that is read, written or generated."""

SUSTAIN = 0
SOSTENUTO = 1
UNA_CORDA = 2
PEDAL_NAMES = ("sustain", "sostenuto", "una corda")

NOTE_DTYPE = np.dtype([("onset", "f8"), ("duration", "f8"), ("pitch", "i2"), ("velocity", "i2")])
"""A note: onset and duration in seconds; pitch and velocity as in MIDI (velocity 1-127)."""
PEDAL_DTYPE = np.dtype([("onset", "f8"), ("duration", "f8"), ("pedal", "i2"), ("depth", "i2")])
"""A pedal press: `SUSTAIN`, `SOSTENUTO` or `UNA_CORDA`; depth: the controller's largest value in it (1-127)."""

Array = NDArray[Any]


def _without_overlaps(events: Array, key: str) -> Array:
    """Sort events by onset, then key, and end each one where its key is struck again.

    Of two events of one key with the same onset the longer stays.
    """
    onset, keys = np.ascontiguousarray(events["onset"]), events[key]
    is_next = onset[1:] > onset[:-1]
    if not is_next.all() and not (is_next | ((onset[1:] == onset[:-1]) & (keys[1:] > keys[:-1]))).all():
        events = events[np.lexsort((-events["duration"], keys, onset))]
    order, room = _rooms(events, key)
    if (room == 0).any():
        events = np.delete(events, order[1:][room == 0])
        order, room = _rooms(events, key)
    overlong = np.flatnonzero(events["duration"][order[:-1]] > room)
    events["duration"][order[overlong]] = room[overlong]
    return events


def _rooms(events: Array, key: str) -> tuple[Array, Array]:
    """Return the order by key, then onset, the longest first, and the seconds from each event to the next of its key.

    The seconds are infinite where none follows; the last event of the order is left out.
    """
    keys = np.ascontiguousarray(events[key])
    order = np.argsort(keys, kind="stable")
    onset, keys = events["onset"][order], keys[order]
    room = onset[1:] - onset[:-1]
    room[keys[1:] != keys[:-1]] = np.inf
    return order, room


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
    return _without_overlaps(events, key)


def _checked_pedals(pedals: Array) -> Array:
    return _checked(pedals, PEDAL_DTYPE, "pedal", (SUSTAIN, UNA_CORDA), "depth")


@dataclass(frozen=True, eq=False)
class Performance:
    """Notes and pedal presses of one piece, in seconds from its start.

    Both arrays become sorted by onset, then pitch or pedal, and read-only. A key or pedal never sounds twice at once:
    an event ends where its key is struck again.

    Attributes:
        notes: `NOTE_DTYPE` of shape (notes,).
        pedals: `PEDAL_DTYPE` of shape (presses,).
        tempo_map: The ticks on which `write_midi` writes it.
        source: The file that it was read from, into which `write_midi` writes it; None for a new one.

    Raises:
        InputError: A value is out of its range.
    """

    notes: Array = field(default_factory=lambda: np.empty(0, NOTE_DTYPE))
    pedals: Array = field(default_factory=lambda: np.empty(0, PEDAL_DTYPE))
    tempo_map: TempoMap = field(default_factory=TempoMap)
    source: MidiSource | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._set(notes=_checked(self.notes, NOTE_DTYPE, "pitch", (LOWEST_PITCH, HIGHEST_PITCH), "velocity"))
        self._set(pedals=_checked_pedals(self.pedals))

    def _set(self, **arrays: Array) -> Performance:
        """Let checked events be those of the performance, while it is made; return it."""
        for name, events in arrays.items():
            events.flags.writeable = False
            object.__setattr__(self, name, events)
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Performance):
            return NotImplemented
        return np.array_equal(self.notes, other.notes) and np.array_equal(self.pedals, other.pedals)

    def __len__(self) -> int:
        """Return the number of notes."""
        return len(self.notes)

    @property
    def end(self) -> float:
        """The second at which the last key or pedal is released; 0.0 if there are no events."""
        ends = (events["onset"] + events["duration"] for events in (self.notes, self.pedals))
        return max((float(end.max()) for end in ends if len(end)), default=0.0)

    def between(self, start: float, end: float = np.inf) -> Performance:
        """Return the events whose onset lies in [`start`, `end`) seconds, at their times."""
        notes, pedals = (s[(s["onset"] >= start) & (s["onset"] < end)] for s in (self.notes, self.pedals))
        return copy(self)._set(notes=notes, pedals=pedals)

    def with_pedals(self, pedals: Array) -> Performance:
        """Return the same notes with other pedal presses, `PEDAL_DTYPE` of shape (presses,).

        Raises:
            InputError: A value is out of its range.
        """
        return copy(self)._set(pedals=_checked_pedals(pedals))

    def shifted(self, seconds: float) -> Performance:
        """Return the same events `seconds` later, or earlier if negative.

        Raises:
            InputError: An event would begin before second 0.
        """
        notes, pedals = self.notes.copy(), self.pedals.copy()
        notes["onset"] += seconds
        pedals["onset"] += seconds
        return replace(self, notes=notes, pedals=pedals)

    def transposed(self, semitones: int) -> Performance:
        """Return the performance `semitones` higher, without the notes that would leave the piano's keys."""
        pitch = self.notes["pitch"].astype(np.int64) + semitones
        on_piano = (pitch >= LOWEST_PITCH) & (pitch <= HIGHEST_PITCH)
        notes = self.notes[on_piano]
        notes["pitch"] = pitch[on_piano]
        return replace(self, notes=notes)


def join(parts: Sequence[Performance]) -> Performance:
    """Return all events of `parts` at their times as one performance, with the first part's tempo map and source."""
    if not parts:
        return Performance()
    notes = np.concatenate([part.notes for part in parts])
    pedals = np.concatenate([part.pedals for part in parts])
    return replace(parts[0], notes=notes, pedals=pedals)
