"""The outer voices of piano music: which notes a listener hears as the melody, and which as the bass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.tokens import KEYS, TICKS_PER_SECOND

Array = NDArray[Any]

CHORD_SECONDS = 0.05  # notes that begin within this time of one another are one chord
CHORD_NOTES = 12  # of a chord, at most


def highest(onset_seconds: Array, pitch: Array) -> Array:
    """Return which notes have no higher one in their chord: (n,) bool, given onsets in order and pitches (n,)."""
    best = np.ones(len(pitch), bool)
    pitch = np.asarray(pitch, np.int64)
    for apart in range(1, CHORD_NOTES):
        together = onset_seconds[apart:] - onset_seconds[:-apart] <= CHORD_SECONDS + 1e-9
        best[apart:] &= ~(together & (pitch[:-apart] > pitch[apart:]))
        best[:-apart] &= ~(together & (pitch[apart:] > pitch[:-apart]))
    return best


def lowest(onset_seconds: Array, pitch: Array) -> Array:
    """Return which notes have no lower one in their chord: (n,) bool, given onsets in order and pitches (n,)."""
    return highest(onset_seconds, -np.asarray(pitch, np.int64))


def highest_tokens(rows: Array) -> Array:
    """Return which token rows (T,) are notes with no higher one in their chord: (T,) bool."""
    return _of_tokens(rows, highest)


def lowest_tokens(rows: Array) -> Array:
    """Return which token rows (T,) are notes with no lower one in their chord: (T,) bool."""
    return _of_tokens(rows, lowest)


def _of_tokens(rows: Array, voice: Callable[[Array, Array], Array]) -> Array:
    note = rows["key"] < KEYS
    onset = np.cumsum(rows["shift"], dtype=np.int64) / TICKS_PER_SECOND
    found = np.zeros(len(rows), bool)
    found[note] = voice(onset[note], rows["key"][note])
    return found
