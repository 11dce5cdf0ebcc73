"""`Performance` ⇄ token rows, one row per key or pedal event, on a grid of 10 ms; and the bins the model sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import (
    HIGHEST_PITCH,
    LOWEST_PITCH,
    NOTE_DTYPE,
    PEDAL_DTYPE,
    Performance,
    TempoMap,
)

__all__ = [
    "DURATION_BINS",
    "SHIFT_BINS",
    "TICKS_PER_SECOND",
    "TOKEN_DTYPE",
    "VELOCITY_BINS",
    "Bins",
    "decode",
    "encode",
]

Array = NDArray[Any]

TICKS_PER_SECOND = 100
KEYS = HIGHEST_PITCH - LOWEST_PITCH + 1  # 88 piano keys, then
NUM_KEYS = KEYS + 3  # sustain, sostenuto, una corda: pressing a pedal is a event like any other

TOKEN_DTYPE = np.dtype([("shift", "i4"), ("key", "u1"), ("velocity", "u1"), ("duration", "i4")])
"""A row. shift: ticks since the previous row's onset (the first row's: since 0); duration: ticks the key is held, at
least 1; key: 0-87 piano keys from A0, 88-90 pedals; velocity: 1-127, of a pedal its depth."""


def encode(performance: Performance) -> Array:
    """The performance as token rows (`TOKEN_DTYPE`) in order of onset, then key; the inverse of `decode`.

    Onsets and ends are rounded to ticks of 10 ms. Of events of one key that fall on one tick the longest stays.
    """
    keys = np.concatenate([performance.notes["pitch"] - LOWEST_PITCH, performance.pedals["pedal"] + KEYS])
    force = np.concatenate([performance.notes["velocity"], performance.pedals["depth"]])
    start = np.concatenate([performance.notes["onset"], performance.pedals["onset"]])
    length = np.concatenate([performance.notes["duration"], performance.pedals["duration"]])
    onset = np.rint(start * TICKS_PER_SECOND).astype(np.int64)
    duration = np.maximum(np.rint((start + length) * TICKS_PER_SECOND).astype(np.int64) - onset, 1)
    order = np.lexsort((-duration, keys, onset))
    onset, keys, force, duration = onset[order], keys[order], force[order], duration[order]
    single = (np.diff(onset, prepend=-1) != 0) | (np.diff(keys, prepend=-1) != 0)
    rows = np.empty(int(single.sum()), TOKEN_DTYPE)
    rows["shift"] = np.diff(onset[single], prepend=0)
    rows["key"], rows["velocity"], rows["duration"] = keys[single], force[single], duration[single]
    return rows


def decode(rows: Array, start_tick: int = 0, tempo_map: TempoMap | None = None) -> Performance:
    """The performance of token rows whose first shift counts from `start_tick`; the inverse of `encode`.

    Times come back as whole ticks of 10 ms, except that a event still held when its key is struck again ends there.
    """
    onset = (start_tick + np.cumsum(rows["shift"], dtype=np.int64)) / TICKS_PER_SECOND
    duration = rows["duration"] / TICKS_PER_SECOND
    is_note = rows["key"] < KEYS
    notes = np.empty(int(is_note.sum()), NOTE_DTYPE)
    pedals = np.empty(len(rows) - len(notes), PEDAL_DTYPE)
    for events, mine, key, force, first in (
        (notes, is_note, "pitch", "velocity", -LOWEST_PITCH),
        (pedals, ~is_note, "pedal", "depth", KEYS),
    ):
        events["onset"], events["duration"] = onset[mine], duration[mine]
        events[key], events[force] = rows["key"][mine].astype(np.int64) - first, rows["velocity"][mine]
    return Performance(notes, pedals, tempo_map or TempoMap())


@dataclass(frozen=True, eq=False)
class Bins:
    """Whole numbers in bins: `edges[i]` is the first value of bin i, the last edge is past the last bin.

    Values past the last bin are counted as its last value.
    """

    edges: Array

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def widths(self) -> Array:
        """How many values fall into each bin."""
        return np.diff(self.edges)

    def index(self, values: Array) -> Array:
        """The bin of each value, as int64."""
        return np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, len(self) - 1)


@dataclass(frozen=True)
class Window:
    """Consecutive token rows of one piece.

    Attributes:
        rows: (T,) `TOKEN_DTYPE`, or as a corpus stores it; the first shift counts from the window's start.
        begins: The piece begins with it.
        ends: The piece ends with it.
        composer: Class of the composer; 0 is unknown.
    """

    rows: Array
    begins: bool
    ends: bool
    composer: int = 0


def bin_rows(rows: Array) -> dict[str, Array]:
    """Return the class of each field of token rows (..., T): by name, int64 of the same shape."""
    return {
        "shift": SHIFT_BINS.index(rows["shift"]),
        "key": rows["key"].astype(np.int64),
        "velocity": VELOCITY_BINS.index(rows["velocity"]),
        "duration": DURATION_BINS.index(rows["duration"]),
    }


def _geometric(first: int, ratio: float, last: int) -> Bins:
    """One bin per value while a step by `ratio` is less than one value, then bins that grow by it, up to `last`."""
    edges = [first]
    while edges[-1] <= last:
        edges.append(max(edges[-1] + 1, round(edges[-1] * ratio)))
    return Bins(np.asarray(edges, np.int64))


SHIFT_BINS = _geometric(0, 1.07, 20 * TICKS_PER_SECOND)
DURATION_BINS = _geometric(1, 1.07, 60 * TICKS_PER_SECOND)
VELOCITY_BINS = Bins(np.arange(0, 129, 4))

# classes of the shift head after the bins
RESUME = len(SHIFT_BINS)  # the gap is finished: the next token is the first one of the future
END = RESUME + 1  # the piece is over
SHIFT_CLASSES = END + 1
