"""A stereo waveform, and its division into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PEAK = 0.89  # of full scale: 1 dB of headroom


@dataclass(frozen=True, eq=False)
class Sound:
    """A stereo waveform.

    Attributes:
        samples: float32 of shape (frames, 2), within -1 to 1.
        sample_rate: In Hz.
        engine: The name of the synthesiser that made it, for the user.
        gain: The factor by which the synthesiser's output was multiplied.
    """

    samples: Array
    sample_rate: int
    engine: str
    gain: float = 1.0

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.samples) / self.sample_rate


def blocks(frames: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` frames that cover all `frames`."""
    return (slice(start, min(start + size, frames)) for start in range(0, frames, size))


def normalise(mix: Array, gain: float | None) -> float:
    """Scale a waveform in place by `gain`, or by less where its peak would exceed `PEAK`.

    Args:
        mix: float32 of shape (2, frames).
        gain: The factor; None for the one that makes the peak `PEAK`.

    Returns:
        The factor used; for silence `gain`, or 1.
    """
    parts = list(blocks(mix.shape[1], 1 << 16))
    peak = max((float(np.abs(mix[:, part]).max()) for part in parts), default=0.0)
    if not peak > 0:
        return 1.0 if gain is None else gain
    scale = PEAK / peak if gain is None else min(gain, PEAK / peak)
    for part in parts:
        mix[:, part] *= scale
    return scale
