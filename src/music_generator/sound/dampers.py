"""When and how fast each string is damped, from the keys and the three pedals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import SOSTENUTO, SUSTAIN, UNA_CORDA, Performance

Array = NDArray[Any]

LOWEST_UNDAMPED = 90  # from F#6 upwards a piano has no dampers
NO_LIFT, FULL_LIFT = 30, 95  # depth of the sustain pedal up to which the dampers rest, and from which they are clear


def contact(depth: Array) -> Array:
    """Return how firmly the dampers touch the strings at a depth of the sustain pedal: 1 at rest, 0 clear of them."""
    lift = np.clip((depth - NO_LIFT) / (FULL_LIFT - NO_LIFT), 0, 1)
    return np.asarray((1 - lift) ** 3)


class Dampers:
    """The contact of all dampers whose keys are up, over time.

    Attributes:
        times: Seconds at which the sustain pedal moves, ascending; the first is minus a long time.
        contact: The contact from each of these times on.
    """

    def __init__(self, performance: Performance) -> None:
        presses = performance.pedals[performance.pedals["pedal"] == SUSTAIN]
        moves = np.stack([presses["onset"], presses["onset"] + presses["duration"]], axis=1).ravel()
        touch = np.stack([contact(presses["depth"]), np.ones(len(presses))], axis=1).ravel()
        self.times = np.concatenate([[-1.0], moves])
        self.contact = np.concatenate([[1.0], touch])
        touched = np.concatenate([[0.0], np.cumsum(self.contact[:-1] * np.diff(self.times))])
        # lists: a thousand notes ask for single times, at which they are ten times as fast as arrays
        self._moves: list[float] = self.times.tolist()
        self._rows = list(zip(touched.tolist(), self.contact.tolist(), strict=True))

    def at(self, seconds: Array) -> Array:
        """Return the contact at times."""
        return self.contact[np.searchsorted(self.times, seconds, side="right") - 1]

    def touched(self, second: float) -> float:
        """Return the integral of the contact up to a second: seconds of full contact."""
        i = bisect_right(self._moves, second) - 1
        touched, touch = self._rows[i]
        return float(touched + touch * (second - self._moves[i]))

    def moves_between(self, start: float, end: float) -> list[float]:
        """Return the times between `start` and `end` at which the pedal moves."""
        return self._moves[bisect_left(self._moves, start) : bisect_left(self._moves, end)]


def _held(starts: Array, ends: Array, presses: Array) -> Array:
    """Move `ends` to the end of the press that covers them, if it began after `starts`; all in seconds, (notes,)."""
    if not len(presses):
        return ends
    i = np.searchsorted(presses["onset"], ends, side="right") - 1
    press = presses[np.maximum(i, 0)]
    lifted = press["onset"] + press["duration"]
    return np.where((i >= 0) & (press["onset"] >= starts) & (ends < lifted), lifted, ends)


def key_ups(performance: Performance) -> Array:
    """Return the second from which each note's damper follows the sustain pedal: its key is up, sostenuto too.

    Sostenuto holds the dampers that are up when it is pressed, by their key or by the sustain pedal.

    Returns:
        float64 of shape (notes,); infinite for the highest keys, which have no dampers.
    """
    notes, pedals = performance.notes, performance.pedals
    sustain, sostenuto = (pedals[pedals["pedal"] == pedal] for pedal in (SUSTAIN, SOSTENUTO))
    ends = notes["onset"] + notes["duration"]
    free = _held(np.full(len(notes), -np.inf), ends, sustain)
    caught = _held(notes["onset"], free, sostenuto)
    return np.where(notes["pitch"] >= LOWEST_UNDAMPED, np.inf, np.where(caught > free, caught, ends))


def struck_again(performance: Performance) -> Array:
    """Return the second at which each note's key is struck again, infinite if it is not; float64 of shape (notes,)."""
    pitch, onset = performance.notes["pitch"], performance.notes["onset"]
    order = np.lexsort((onset, pitch))
    again = np.full(len(onset), np.inf)
    same = np.diff(pitch[order]) == 0
    again[order[:-1][same]] = onset[order[1:][same]]
    return again


def played_una_corda(performance: Performance) -> Array:
    """Return whether each note begins while the una corda pedal is down, bool of shape (notes,)."""
    onsets, pedals = performance.notes["onset"], performance.pedals
    before_all = np.full(len(onsets), -np.inf)
    return np.asarray(_held(before_all, onsets, pedals[pedals["pedal"] == UNA_CORDA]) > onsets)
