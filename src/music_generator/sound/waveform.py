"""A stereo waveform, and its division into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

PEAK = 0.89  # of full scale: 1 dB of headroom


@dataclass(frozen=True, eq=False)
class Sound:
    """A stereo waveform.

    Attributes:
        samples: float32 of shape (frames, 2), within -1 to 1.
        sample_rate: In Hz.
        engine: The name of the piano that made it, for the user.
        gain: The factor by which the piano's output was multiplied.
    """

    samples: Array
    sample_rate: int
    engine: str
    gain: float = 1.0

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.samples) / self.sample_rate


def slices(frames: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` frames that cover all `frames`."""
    return (slice(start, min(start + size, frames)) for start in range(0, frames, size))


def peak_of(samples: Array) -> float:
    """Return the largest absolute value, 0 of no samples."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0
