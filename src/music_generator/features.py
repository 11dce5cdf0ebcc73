"""What can be counted in a performance: the distributions of pitch, step, duration and velocity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.performance import HIGHEST_PITCH, LOWEST_PITCH, Performance

Array = NDArray[Any]

# bin edges: pitch in MIDI numbers, step (time since the previous onset) and duration in seconds, velocity in MIDI units
EDGES: dict[str, Array] = {
    "pitch": np.arange(LOWEST_PITCH, HIGHEST_PITCH + 2) - 0.5,
    "step": np.arange(0.0, 1.0001, 0.02),
    "duration": np.arange(0.0, 2.0001, 0.04),
    "velocity": np.arange(0, 129, 4) - 0.5,
}


@dataclass(frozen=True)
class Distributions:
    """Counts of each of the `EDGES` bins; values beyond the last edge are counted in the last bin."""

    counts: dict[str, Array]

    def shares(self, name: str) -> Array:
        """The share of all notes in each bin; zeros where there are no notes."""
        counts = self.counts[name]
        shares: Array = counts / max(counts.sum(), 1)
        return shares

    def to_json(self) -> dict[str, list[int]]:
        """Plain lists, for a JSON file; the inverse of `from_json`."""
        return {name: [int(c) for c in counts] for name, counts in self.counts.items()}

    @classmethod
    def from_json(cls, data: dict[str, list[int]]) -> Distributions:
        """The inverse of `to_json`."""
        return cls({name: np.asarray(data[name], np.int64) for name in EDGES})


def distributions(performances: Iterable[Performance]) -> Distributions:
    """Histograms over all notes of all `performances`; a piece's first note has no step."""
    counts = {name: np.zeros(len(edges) - 1, np.int64) for name, edges in EDGES.items()}
    for performance in performances:
        notes = performance.notes
        values = {
            "pitch": notes["pitch"],
            "step": np.diff(notes["onset"]),
            "duration": notes["duration"],
            "velocity": notes["velocity"],
        }
        for name, edges in EDGES.items():
            counts[name] += np.histogram(np.minimum(values[name], edges[-1]), edges)[0]
    return Distributions(counts)
