"""The outer voices of piano music: which notes a listener hears as the melody, and which as the bass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
