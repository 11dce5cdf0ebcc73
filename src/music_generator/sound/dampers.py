"""The time at which each string is damped, from the keys and the three pedals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import SOSTENUTO, SUSTAIN, UNA_CORDA, Performance

Array = NDArray[Any]

LOWEST_UNDAMPED = 90  # from F#6 upwards a piano has no dampers


def _sustained(onsets: Array, ends: Array, presses: Array) -> Array:
    """Move `ends` to the end of the press that covers them, if it began after `onsets`; all in seconds, (notes,)."""
    if not len(presses):
        return ends
    i = np.searchsorted(presses["onset"], ends, side="right") - 1
    press = presses[np.maximum(i, 0)]
    lifted = press["onset"] + press["duration"]
    return np.where((i >= 0) & (press["onset"] >= onsets) & (ends < lifted), lifted, ends)


def damper_times(performance: Performance) -> Array:
    """Return the second at which each note is damped: key and pedals released, or the key struck again.

    Returns:
        float64 of shape (notes,); infinite for the highest keys, which have no dampers.
    """
    notes, pedals = performance.notes, performance.pedals
    sustain, sostenuto = (pedals[pedals["pedal"] == pedal] for pedal in (SUSTAIN, SOSTENUTO))
    before_all = np.full(len(notes), -np.inf)
    ends = _sustained(before_all, notes["onset"] + notes["duration"], sustain)
    ends = _sustained(notes["onset"], ends, sostenuto)  # holds only the notes that sound when it is pressed
    ends = np.where(notes["pitch"] >= LOWEST_UNDAMPED, np.inf, _sustained(before_all, ends, sustain))
    order = np.lexsort((notes["onset"], notes["pitch"]))
    pitch, onset = notes["pitch"][order], notes["onset"][order]
    again = np.where(np.diff(pitch, append=-1) == 0, np.append(onset[1:], np.inf), np.inf)
    ends[order] = np.minimum(ends[order], again)
    return ends


def played_una_corda(performance: Performance) -> Array:
    """Return whether each note begins while the una corda pedal is down, bool of shape (notes,)."""
    onsets, pedals = performance.notes["onset"], performance.pedals
    before_all = np.full(len(onsets), -np.inf)
    return np.asarray(_sustained(before_all, onsets, pedals[pedals["pedal"] == UNA_CORDA]) > onsets)
