"""Encode a `Performance` as token rows on a grid of 10 ms, decode them, and the bins of the model's classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import HIGHEST_PITCH, LOWEST_PITCH, NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.tempo_map import TempoMap

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
KEYS = HIGHEST_PITCH - LOWEST_PITCH + 1  # the piano's 88
NUM_KEYS = KEYS + 3  # with sustain, sostenuto and una corda: a pedal press is an event like a note

TOKEN_DTYPE = np.dtype([("shift", "i4"), ("key", "u1"), ("velocity", "u1"), ("duration", "i4")])
"""One event. shift: ticks since the previous row's onset, in the first row since tick 0; key: 0-87 for the piano's keys
from A0, 88-90 for the pedals; velocity: 1-127, for a pedal its depth; duration: ticks until the release, at least 1."""


def encode(performance: Performance) -> Array:
    """Return the token rows of a performance; the inverse of `decode`.

    Onsets and ends are rounded to ticks of 10 ms. Of events of one key that fall on one tick the longest stays.

    Returns:
        `TOKEN_DTYPE` of shape (events,), in order of onset, then key.
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
    """Return the performance of token rows; the inverse of `encode`.

    Times are whole ticks of 10 ms. An event ends where its key is struck again.

    Args:
        rows: `TOKEN_DTYPE` of shape (events,).
        start_tick: The tick from which the first row's shift counts.
        tempo_map: The tempo map of the result; the default one if None.
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
    """Bins of whole numbers; values past the last bin fall into the last bin.

    Attributes:
        edges: int64 of shape (bins + 1,): the first value of each bin, and the first value past the last bin.
    """

    edges: Array

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def widths(self) -> Array:
        """The number of values in each bin, of shape (bins,)."""
        return np.diff(self.edges)

    def index(self, values: Array) -> Array:
        """Return the bin of each value, int64 of the same shape."""
        return np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, len(self) - 1)


@dataclass(frozen=True)
class Window:
    """Consecutive token rows of one piece.

    Attributes:
        rows: (T,) `TOKEN_DTYPE`, or as a corpus stores it; the first shift counts from the window's start.
        begins: The piece begins with it.
        ends: The piece ends with it.
        composer: Class of the composer; 0 is unknown.
        plain: Neither its velocities nor its pedals are a pianist's.
    """

    rows: Array
    begins: bool
    ends: bool
    composer: int = 0
    plain: bool = False


def bin_rows(rows: Array) -> dict[str, Array]:
    """Return the class of each field of token rows (..., T): by name, int64 of the same shape."""
    return {
        "shift": SHIFT_BINS.index(rows["shift"]),
        "key": rows["key"].astype(np.int64),
        "velocity": VELOCITY_BINS.index(rows["velocity"]),
        "duration": DURATION_BINS.index(rows["duration"]),
    }


def _geometric(first: int, ratio: float, last: int) -> Bins:
    """Return one bin per value where a step by `ratio` is less than one value, then bins that grow by it, to `last`."""
    edges = [first]
    while edges[-1] <= last:
        edges.append(max(edges[-1] + 1, round(edges[-1] * ratio)))
    return Bins(np.asarray(edges, np.int64))


SHIFT_BINS = _geometric(0, 1.07, 20 * TICKS_PER_SECOND)
DURATION_BINS = _geometric(1, 1.07, 60 * TICKS_PER_SECOND)
VELOCITY_BINS = Bins(np.arange(0, 129, 4))

# what a passage may be told of itself: classes from 1, 0 if it is not told
DENSITY_EDGES = (4.0, 6.5, 8.5, 10.5, 12.5, 15.0, 18.5)  # notes a second; octiles of MAESTRO's passages of 1 to 30 s
LOUDNESS_EDGES = (45.0, 52.0, 58.0, 63.0, 67.0, 71.5, 77.0)  # mean velocity, likewise
DENSITIES, LOUDNESSES = len(DENSITY_EDGES) + 2, len(LOUDNESS_EDGES) + 2


def density_class(notes_per_second: float) -> int:
    """Return the class of a density, from 1."""
    return 1 + int(np.searchsorted(DENSITY_EDGES, notes_per_second, side="right"))


def loudness_class(velocity: float) -> int:
    """Return the class of a mean velocity, from 1."""
    return 1 + int(np.searchsorted(LOUDNESS_EDGES, velocity, side="right"))


# the classes of the shift head after its bins
RESUME = len(SHIFT_BINS)  # the gap ends: the next token is the first one of the future
END = RESUME + 1  # the piece ends
SHIFT_CLASSES = END + 1
