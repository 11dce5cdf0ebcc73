"""Statistics of performances: histograms over all their notes, and features of each performance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import HIGHEST_PITCH, LOWEST_PITCH, SUSTAIN, Performance

__all__ = ["FEATURES", "Distributions", "distributions", "performance_features"]

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
    """Histograms of pitch, step, duration and velocity; values past the last edge fall into the last bin.

    Attributes:
        counts: int64 of shape (bins,) under each name of `EDGES`.
    """

    counts: dict[str, Array]

    def shares(self, name: str) -> Array:
        """Return the share of the notes in each bin, float64 of shape (bins,); zeros if there are no notes."""
        counts = self.counts[name]
        shares: Array = counts / max(counts.sum(), 1)
        return shares

    def to_json(self) -> dict[str, list[int]]:
        """Return plain lists for a JSON file; the inverse of `from_json`."""
        return {name: [int(c) for c in counts] for name, counts in self.counts.items()}

    @classmethod
    def from_json(cls, data: dict[str, list[int]]) -> Distributions:
        """Read what `to_json` returned.

        Raises:
            KeyError: A name of `EDGES` is missing.
            ValueError: A name does not have one count for each bin.
        """
        counts = {name: np.asarray(data[name], np.int64) for name in EDGES}
        if wrong := [name for name, edges in EDGES.items() if counts[name].shape != (len(edges) - 1,)]:
            raise ValueError(f"not one count for each bin of {', '.join(wrong)}")
        return cls(counts)


def distributions(performances: Iterable[Performance]) -> Distributions:
    """Count all notes of all `performances`; the first note of a piece has no step."""
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


# --- features of one performance that need no bar lines, after mgeval (Yang & Lerch 2020, Neural Computing and
# Applications 32, sec. 3.2). Each function takes the performance and the seconds of music it covers; without notes it
# returns zeros.

LENGTH_EDGES = np.concatenate([[0.0], np.geomspace(0.05, 3.2, 13), [np.inf]])  # seconds; two bins an octave


def _share(counts: Array) -> Array:
    """Divide counts or weights by their sum; zeros stay zeros."""
    total = counts.sum()
    shares: Array = counts / total if total > 0 else counts.astype(np.float64)
    return shares


def _covered_seconds(onset: Array, end: Array) -> float:
    """Return the time in which at least one of the events lasts; they are sorted by onset."""
    if not len(onset):
        return 0.0
    before = np.concatenate([[-np.inf], np.maximum.accumulate(end)[:-1]])
    return float(np.maximum(end - np.maximum(onset, before), 0.0).sum())


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else 0.0


def _pitch_count(performance: Performance, _seconds: float) -> float:
    return float(len(np.unique(performance.notes["pitch"])))


def _pitch_classes(performance: Performance, _seconds: float) -> Array:
    notes = performance.notes
    return _share(np.bincount(notes["pitch"] % 12, notes["duration"], 12))


def _pitch_class_transitions(performance: Performance, _seconds: float) -> Array:
    classes = performance.notes["pitch"].astype(np.int64) % 12
    return _share(np.bincount(12 * classes[:-1] + classes[1:], minlength=144))


def _pitch_range(performance: Performance, _seconds: float) -> float:
    return float(np.ptp(performance.notes["pitch"])) if len(performance) else 0.0


def _mean_interval(performance: Performance, _seconds: float) -> float:
    return _mean(np.abs(np.diff(performance.notes["pitch"].astype(np.float64))))


def _mean_inter_onset(performance: Performance, _seconds: float) -> float:
    return _mean(np.diff(performance.notes["onset"]))


def _note_lengths(performance: Performance, _seconds: float) -> Array:
    return _share(np.histogram(performance.notes["duration"], LENGTH_EDGES)[0])


def _velocities(performance: Performance, _seconds: float) -> Array:
    return _share(np.histogram(performance.notes["velocity"], EDGES["velocity"])[0])


def _polyphony(performance: Performance, _seconds: float) -> float:
    notes = performance.notes
    covered = _covered_seconds(notes["onset"], notes["onset"] + notes["duration"])
    return float(notes["duration"].sum() / covered) if covered else 0.0


def _notes_per_second(performance: Performance, seconds: float) -> float:
    return len(performance) / seconds


def _sustain_share(performance: Performance, seconds: float) -> float:
    pedals = performance.pedals[performance.pedals["pedal"] == SUSTAIN]
    return _covered_seconds(pedals["onset"], np.minimum(pedals["onset"] + pedals["duration"], seconds)) / seconds


FEATURES: dict[str, Callable[[Performance, float], float | Array]] = {
    "pitch_count": _pitch_count,  # different keys struck
    "pitch_classes": _pitch_classes,  # 12, each note weighted by its duration
    "pitch_class_transitions": _pitch_class_transitions,  # 12 × 12, from each note to the next
    "pitch_range": _pitch_range,  # semitones from the lowest to the highest
    "mean_interval": _mean_interval,  # semitones from each note to the next, up or down
    "mean_inter_onset": _mean_inter_onset,  # seconds from each note to the next, 0 within a chord
    "note_lengths": _note_lengths,  # the bins of `LENGTH_EDGES`
    "velocities": _velocities,  # 32 bins
    "polyphony": _polyphony,  # mean number of keys down while any is down
    "notes_per_second": _notes_per_second,
    "sustain_share": _sustain_share,  # of the time covered
}


def performance_features(performances: Sequence[Performance], seconds: float | Sequence[float]) -> dict[str, Array]:
    """Compute each of `FEATURES` for each performance.

    Args:
        performances: The performances.
        seconds: The length of the music from its time 0, rests at its ends included: one number for all performances,
            or one for each.

    Returns:
        float64 of shape (performances, values) under each feature's name.
    """
    lengths = np.broadcast_to(np.asarray(seconds, np.float64), len(performances)).tolist()
    return {
        name: np.array([np.atleast_1d(feature(*each)) for each in zip(performances, lengths, strict=True)], np.float64)
        for name, feature in FEATURES.items()
    }
