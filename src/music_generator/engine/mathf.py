"""Elementwise functions in float32, the same bits on every machine: those of mathf.h, operation by operation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.model.config import RECENCY_TICKS, RELEASE_TICKS

Array = NDArray[Any]
f32 = np.float32

MIN_EXPONENT = f32(-80)


def round_even(x: Array) -> Array:
    """Round to the nearest whole number, halves to even; |x| < 2^22."""
    return (x + f32(12582912)) - f32(12582912)


def exponential(x: Array) -> Array:
    """Return e^x by Cody & Waite's reduction and the polynomial of Cephes' expf (S. L. Moshier)."""
    x = np.minimum(np.maximum(x, f32(-87)), f32(88))
    n = round_even(x * f32(1.44269504088896341))
    x -= n * f32(0.693359375)
    x -= n * f32(-2.12194440e-4)
    y = x * f32(1.9875691500e-4)
    for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1):
        y += f32(term)
        y *= x
    y += f32(5.0000001201e-1)
    y *= x * x
    y += x
    y += f32(1)
    y *= ((n.astype(np.int32) + 127) << 23).view(f32)
    return np.asarray(y)


def fades(scale_ticks: int) -> Array:
    """Return e^(-ticks / scale_ticks) for whole ticks from 0 on, until it stays at its smallest."""
    rate = f32(1) / f32(scale_ticks)
    ticks = np.arange(int(-MIN_EXPONENT) * scale_ticks + 2).astype(f32)
    return exponential(np.minimum(np.maximum(-ticks * rate, MIN_EXPONENT), f32(0)))


FADES = {scale_ticks: fades(scale_ticks) for scale_ticks in (RECENCY_TICKS, RELEASE_TICKS)}


def fade(ticks: Array, scale_ticks: int) -> Array:
    """Return e^(ticks / scale_ticks) for whole ticks at or below 0."""
    table = FADES[scale_ticks]
    return np.asarray(table[np.clip(-ticks, 0, len(table) - 1)])


def sigmoid_of(exponentials: Array) -> Array:
    """Return 1 / (1 + e^-x), given e^-x."""
    return f32(1) / (f32(1) + exponentials)


def tanh_of(exponentials: Array) -> Array:
    """Return the hyperbolic tangent of x, given e^-2x."""
    return f32(2) / (f32(1) + exponentials) - f32(1)


def gelu(x: Array) -> Array:
    """Return x Φ(x); erf by Abramowitz & Stegun 7.1.26."""
    z = f32(0.70710678118654752) * np.abs(x)
    t = f32(1) / (f32(1) + f32(0.3275911) * z)
    tail = t * f32(1.061405429)
    for term in (-1.453152027, 1.421413741, -0.284496736):
        tail += f32(term)
        tail *= t
    tail += f32(0.254829592)
    tail *= t
    tail *= f32(0.5)
    tail *= exponential(-z * z)
    return np.asarray(x * np.where(x < 0, tail, f32(1) - tail))


def sequential_sum(x: Array) -> Array:
    """Return the sum of all numbers, added one after another."""
    return np.asarray(np.add.accumulate(x)[-1])


def logarithm(x: Array) -> Array:
    """Return the natural logarithm of normal positive numbers by the polynomial of Cephes' logf (S. L. Moshier)."""
    bits = x.view(np.int32)
    exponent = ((bits >> 23) - 126).astype(f32)
    x = ((bits & 0x007FFFFF) | 0x3F000000).view(f32)  # in [0.5, 1)
    small = x < f32(0.707106781186547524)
    exponent = exponent - small.astype(f32)
    x = np.where(small, x + x, x) - f32(1)
    z = x * x
    y = x * f32(7.0376836292e-2)
    for term in (
        -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
        -2.4999993993e-1,
    ):  # fmt: skip
        y += f32(term)
        y *= x
    y += f32(3.3333331174e-1)
    y *= x
    y *= z
    y += exponent * f32(-2.12194440e-4)
    y -= f32(0.5) * z
    y += x
    return np.asarray(y + exponent * f32(0.693359375))
