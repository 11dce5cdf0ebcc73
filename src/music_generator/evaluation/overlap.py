"""Compare two sets of performances feature by feature: mgeval's method, on one common grid.

For each feature, the distances within a reference set are compared with the distances from the reference to another set
(Yang & Lerch 2020, "On the evaluation of generative models in music", Neural Computing and Applications 32, sec. 3.3).
If both sets are alike, both distances have the same density: an overlap of 1, a divergence of 0. For the divergence,
mgeval evaluates the two densities on two different grids; here there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

GRID_POINTS = 512
TAILS = 4.0  # bandwidths that the grid reaches beyond the samples
MIN_BANDWIDTH = 1e-3  # of the span of all samples: for a feature that hardly varies
CHUNK_SAMPLES = 4096  # whose kernels are added at once


@dataclass(frozen=True)
class Overlap:
    """Two densities on one grid: `area` = ∫ min(p, q), 0 to 1; `divergence` = KL(p ‖ q) = ∫ p log(p / q) in nats."""

    area: float
    divergence: float
    grid: Array
    reference: Array  # p
    other: Array  # q


def distances_within(values: Array) -> Array:
    """Return the Euclidean distances of all pairs of the rows of (N, values): (N (N - 1) / 2,)."""
    rows, columns = np.triu_indices(len(values), 1)
    return np.asarray(np.sqrt(((values[rows] - values[columns]) ** 2).sum(1)))


def distances_between(a: Array, b: Array) -> Array:
    """Return the Euclidean distances of each row of (N, values) from each row of (M, values): (N M,)."""
    squares = np.zeros((len(a), len(b)))
    for i in range(a.shape[1]):  # one column at a time, so that memory does not grow with them
        squares += (a[:, i, None] - b[None, :, i]) ** 2
    return np.sqrt(squares).ravel()


def bandwidth(samples: Array, span: float) -> float:
    """Return Scott's bandwidth, n^(-1/5) standard deviations (Scott 1992), but at least a share of `span`."""
    return max(float(samples.std() * len(samples) ** -0.2), MIN_BANDWIDTH * span, 1e-9)


def density(samples: Array, grid: Array, width: float) -> Array:
    """Return a Gaussian kernel density estimate on an even grid; its integral over the grid is 1."""
    total = np.zeros(len(grid))
    for first in range(0, len(samples), CHUNK_SAMPLES):
        total += np.exp(-0.5 * ((grid[:, None] - samples[None, first : first + CHUNK_SAMPLES]) / width) ** 2).sum(1)
    area = total.sum() * (grid[1] - grid[0])
    return np.asarray(total / area)


def overlap(reference: Array, other: Array) -> Overlap:
    """Return the overlap of the densities of two samples (N,) and (M,); neither may be empty."""
    low, high = (float(pick([pick(reference), pick(other)])) for pick in (np.min, np.max))
    span = high - low
    widths = [bandwidth(samples, span) for samples in (reference, other)]
    # at least two points a kernel, so that a narrow one is not missed
    points = int(np.clip(2 * (span + 2 * TAILS * max(widths)) / min(widths), GRID_POINTS, 16 * GRID_POINTS))
    grid = np.linspace(low - TAILS * max(widths), high + TAILS * max(widths), points)
    p, q = (density(samples, grid, width) for samples, width in zip((reference, other), widths, strict=True))
    step = grid[1] - grid[0]
    tiny = 1e-12 / step  # where a density is 0 in the machine, the divergence stays finite
    divergence = float((p * np.log((p + tiny) / (q + tiny))).sum() * step)
    return Overlap(float(np.minimum(p, q).sum() * step), max(divergence, 0.0), grid, p, q)


def compare(reference: dict[str, Array], other: dict[str, Array]) -> dict[str, Overlap]:
    """Return each feature's overlap of the distances within `reference` and those from it to `other`.

    Performances without a feature, such as those without any pedal, are compared by their share alone: distances would
    call them like the others. So the area is that of the performances which have the feature, times the lower share of
    them, plus the lower share of those which have it not. Where too few have it, the divergence is nan.

    Both are what `features.performance_features` returns: the reference of at least 2 performances, the other of 1.
    """
    assert len(next(iter(reference.values()))) >= 2
    return {name: _compare_feature(values, other[name]) for name, values in reference.items()}


def _compare_feature(reference: Array, other: Array) -> Overlap:
    has, other_has = reference.any(1), other.any(1)
    absent = min(1 - has.mean(), 1 - other_has.mean())
    if has.sum() < 2 or not other_has.any():
        whole = overlap(distances_within(reference), distances_between(reference, other))
        return replace(whole, area=float(absent), divergence=np.nan)
    present = reference[has]
    found = overlap(distances_within(present), distances_between(present, other[other_has]))
    return replace(found, area=float(min(has.mean(), other_has.mean()) * found.area + absent))


def mean_area(overlaps: dict[str, Overlap]) -> float:
    """Return the mean overlap area of all features."""
    return float(np.mean([each.area for each in overlaps.values()]))
