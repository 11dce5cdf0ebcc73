"""The random numbers of generation: the same for a seed on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.model.config import CLASSES

Array = NDArray[Any]

NOISE_BLOCK_TOKENS = 32  # random numbers are drawn for that many at a time
UNIFORMS = 3  # a token: for the values in the bins of shift, duration and velocity
_CLASSES = sum(CLASSES.values())


def _logarithm(x: Array) -> Array:
    """Return ln x in float64 by sums and products alone, because libraries' logarithms differ in the last digit.

    x = m 2^e with m in [√½, √2); ln m = 2 artanh((m - 1) / (m + 1)), whose series is cut at the 25th power.
    """
    mantissa, exponent = np.frexp(x)
    small = mantissa < np.sqrt(0.5)
    mantissa, exponent = np.where(small, mantissa * 2, mantissa), exponent - small
    t = (mantissa - 1) / (mantissa + 1)
    series = np.zeros_like(t)
    for power in range(25, 0, -2):
        series = series * (t * t) + 1 / power
    return np.asarray(2 * t * series + exponent * 0.6931471805599453)


# Gumbel noise is looked up by 16 random bits, four times as fast as logarithms. Each of the 65,536 quantiles is equally
# likely, so classes of a probability below some 1e-5 come less often than they should.
GUMBEL_QUANTILES = (-_logarithm(-_logarithm((np.arange(1 << 16) + 0.5) / (1 << 16)))).astype(np.float32)


class NoiseSource:
    """A source of the random numbers of one piece; they depend on the seed and on the number of the token alone."""

    def __init__(self, seed: int | None, temperature: float) -> None:
        """Begin with a seed.

        Args:
            seed: None takes another one each time.
            temperature: of all fields.
        """
        self._bits = np.random.PCG64(seed)
        self._temperature = np.float32(temperature)

    def fill(self, noise: Array, uniforms: Array) -> None:
        """Draw the random numbers of the next `NOISE_BLOCK_TOKENS` tokens.

        Args:
            noise: becomes Gumbel noise times the temperature, float32 of shape (`NOISE_BLOCK_TOKENS`,
                classes of all fields).
            uniforms: become numbers in [0, 1), (`NOISE_BLOCK_TOKENS`, `UNIFORMS`) float32.
        """
        wanted = NOISE_BLOCK_TOKENS * (_CLASSES + UNIFORMS)
        bits = self._bits.random_raw(-(-wanted // 4)).view(np.uint16)
        GUMBEL_QUANTILES.take(bits[: noise.size], out=noise.reshape(-1), mode="wrap")
        noise *= self._temperature
        uniforms[:] = bits[noise.size : wanted].reshape(NOISE_BLOCK_TOKENS, UNIFORMS)
        uniforms /= 1 << 16
