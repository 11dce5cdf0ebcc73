"""Resampling by a fixed ratio."""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST_CENTS_OFF = 1.1  # of the fraction that stands for a ratio: a semitone is then 18/17
HALF_TAPS = 16  # input frames on each side of an output frame
CUTOFF = 0.95  # of the lower of the two Nyquist frequencies
SMALL_PRODUCT = 1 << 18  # multiplications up to which OpenBLAS uses one thread


def nearest_fraction(ratio: float) -> tuple[int, int]:
    """Return the fraction p/q with the smallest q within `MOST_CENTS_OFF` of `ratio`."""
    q = 1
    while round(ratio * q) == 0 or abs(1200 * log2(round(ratio * q) / q / ratio)) > MOST_CENTS_OFF:
        q += 1
    return round(ratio * q), q


class Resampler:
    """Reads `ratio` input frames for each output frame, with a windowed sinc.

    A block of q output frames is made of p input frames and the first ones of the next p, those the filter reaches:
    all blocks are two matrix products (polyphase filter; Smith, Digital Audio Resampling,
    https://ccrma.stanford.edu/~jos/resample/).

    Attributes:
        step: Input frames per output frame, as it is.
    """

    def __init__(self, ratio: float) -> None:
        p, q = nearest_fraction(ratio)
        self.step = p / q
        self.half = int(np.ceil(HALF_TAPS * max(1.0, self.step)))
        times = -(-2 * self.half // p)  # p is at least the filter's length
        self.p, self.q = p * times, q * times
        cutoff = CUTOFF * min(1.0, 1 / self.step)
        # input frame i of a block, at i - half + 1, for output frame j of it, at j * step
        away = np.arange(self.p + 2 * self.half)[:, None] - self.half + 1 - np.arange(self.q) * self.step
        window = np.where(np.abs(away) < self.half, np.cos(0.5 * np.pi * away / self.half) ** 2, 0)
        self.filters = (cutoff * np.sinc(cutoff * away) * window).astype(np.float32)

    def needed(self, frames: int) -> int:
        """Return how many input frames `frames` output frames take."""
        return int(np.ceil(frames * self.step)) + self.half

    def __call__(self, samples: Array, frames: int) -> Array:
        """Resample samples of shape (channels, n), followed by silence, to float32 of shape (channels, `frames`)."""
        blocks = -(-frames // self.q)
        padded = np.zeros((len(samples), (blocks + 1) * self.p), np.float32)
        samples = samples[:, : padded.shape[1] - self.half + 1]
        padded[:, self.half - 1 : self.half - 1 + samples.shape[1]] = samples
        if self.step == 1:
            return padded[:, self.half - 1 : self.half - 1 + frames]
        made = np.empty((len(samples), blocks, self.q), np.float32)
        for channel, out in zip(padded, made, strict=True):
            self._filter(channel, out)
        return made.reshape(len(samples), -1)[:, :frames]

    def _filter(self, padded: Array, out: Array) -> None:
        """Fill `out`, of shape (blocks, q), by products so small that OpenBLAS uses one thread for each.

        With several threads beside another busy process, a product took forty times as long.
        """
        own, next_ = padded[: -self.p].reshape(-1, self.p), padded[self.p :].reshape(-1, self.p)[:, : 2 * self.half]
        rows = max(1, SMALL_PRODUCT // (self.p * self.q))
        for first in range(0, len(out), rows):
            part = slice(first, first + rows)
            np.matmul(own[part], self.filters[: self.p], out=out[part])
            out[part] += next_[part] @ self.filters[self.p :]
