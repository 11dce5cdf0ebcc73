"""The tempo map of a MIDI file: from its ticks to seconds and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError

__all__ = ["TempoMap"]

Array = NDArray[Any]

BEAT_UNITS = (1, 2, 4, 8, 16, 32, 64)  # the lower number of a time signature
LARGEST_RESOLUTION = 32_767  # ticks per quarter note: 15 bits of a MIDI header


@dataclass(frozen=True)
class TempoMap:
    """The resolution, tempo changes and time signatures of a MIDI file.

    A performance keeps the map of the file it was read from, so that it is written on the same ticks and bars.

    Attributes:
        ticks_per_quarter: Ticks per quarter note, 1 to 32767. With the defaults a tick lasts 1 ms.
        tempos: (tick, microseconds per quarter note) of each tempo change, the first one at tick 0.
        time_signatures: (tick, numerator, denominator) of each time signature.

    Raises:
        InputError: A value is out of its range, or the ticks do not rise strictly.
    """

    ticks_per_quarter: int = 500
    tempos: tuple[tuple[int, int], ...] = ((0, 500_000),)
    time_signatures: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.ticks_per_quarter <= LARGEST_RESOLUTION:
            raise InputError(f"`ticks_per_quarter` must be 1 to {LARGEST_RESOLUTION}, not {self.ticks_per_quarter}")
        ticks = [tick for tick, _ in self.tempos]
        if not ticks or ticks[0] != 0 or any(b <= a for a, b in pairwise(ticks)):
            raise InputError("`tempos` must begin at tick 0 and rise strictly")
        if any(not 0 < tempo < 1 << 24 for _, tempo in self.tempos):
            raise InputError("a tempo must be 1 to 16777215 microseconds per quarter note")
        ticks = [tick for tick, _, _ in self.time_signatures]
        if any(tick < 0 for tick in ticks) or any(b <= a for a, b in pairwise(ticks)):
            raise InputError("`time_signatures` must begin at tick 0 or later and rise strictly")
        if any(not 0 < top < 256 or bottom not in BEAT_UNITS for _, top, bottom in self.time_signatures):
            raise InputError("a time signature must be 1 to 255 over 1, 2, 4, 8, 16, 32 or 64")

    @cached_property
    def _changes(self) -> tuple[Array, Array, Array]:
        """Tick, second and seconds per tick at each tempo change."""
        ticks = np.array([tick for tick, _ in self.tempos], np.float64)
        rates = np.array([tempo for _, tempo in self.tempos], np.float64) / (1e6 * self.ticks_per_quarter)
        seconds = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * rates[:-1])])
        return ticks, seconds, rates

    def ticks_to_seconds(self, ticks: Array) -> Array:
        """Return the second of each tick, float64 of the same shape; the inverse of `seconds_to_ticks`."""
        starts, seconds, rates = self._changes
        if len(starts) == 1:
            return np.asarray(ticks * rates[0])
        i = np.searchsorted(starts, ticks, side="right") - 1
        return np.asarray(seconds[i] + (ticks - starts[i]) * rates[i])

    def seconds_to_ticks(self, seconds: Array) -> Array:
        """Return the tick nearest to each second, int64 of the same shape; the inverse of `ticks_to_seconds`."""
        return np.rint(self.seconds_to_fractional_ticks(seconds)).astype(np.int64)

    def seconds_to_fractional_ticks(self, seconds: Array) -> Array:
        """Return the time of each second in ticks, float64 of the same shape."""
        ticks, starts, rates = self._changes
        i = np.searchsorted(starts, seconds, side="right") - 1
        return np.asarray(ticks[i] + (seconds - starts[i]) / rates[i])

    def refined(self, seconds_per_tick: float = 0.001) -> TempoMap:
        """Divide the ticks by a whole number so that each lasts at most `seconds_per_tick`, where MIDI allows it."""
        coarsest = max(tempo for _, tempo in self.tempos) / (1e6 * self.ticks_per_quarter)
        factor = min(int(np.ceil(coarsest / seconds_per_tick - 1e-9)), LARGEST_RESOLUTION // self.ticks_per_quarter)
        if factor <= 1:
            return self
        return TempoMap(
            self.ticks_per_quarter * factor,
            tuple((tick * factor, tempo) for tick, tempo in self.tempos),
            tuple((tick * factor, top, bottom) for tick, top, bottom in self.time_signatures),
        )
