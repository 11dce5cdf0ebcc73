"""Performances compared with held-out humans, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from music_generator import plots
from music_generator.evaluation.overlap import Overlap, compare, mean_area
from music_generator.evaluation.report import Comparison, FeatureOverlap
from music_generator.evaluation.samples import Sample, human_excerpts
from music_generator.music.features import performance_features
from music_generator.music.performance import Performance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]


@dataclass(frozen=True)
class Compared:
    """A comparison and, unless it was skipped, the overlaps by feature that its figure draws."""

    comparison: Comparison
    human: dict[str, Overlap]
    generated: dict[str, Overlap]


def compare_sample(
    sample: Sample, reference: Sequence[Performance], others: Sequence[Performance], start: float, seconds: float
) -> Compared:
    """Compare a sample and the other half of the held-out pieces with the reference half.

    Args:
        sample: Performances, of which the first `seconds` are compared; a shorter one is counted by its own length.
        reference: Whole held-out pieces.
        others: More of them.
        start: Second from which excerpts of the pieces start.
        seconds: Length of the excerpts.
    """
    first, second = (human_excerpts(half, start, seconds) for half in (reference, others))
    lengths = sample.lengths(seconds)
    shorter = sum(length < seconds for length in lengths)
    facts = Comparison(len(sample), seconds, shorter, sample.left_out, len(first), len(second), start, {})
    if len(first) < 2 or not second:
        reason = (
            f"the halves of the held-out pieces have {len(first)} and {len(second)} excerpts that last until second "
            f"{start + seconds:g}, and must have at least 2 and 1; hold out more pieces, or compare less music with "
            "`--seconds`"
        )
        return Compared(replace(facts, skipped=reason), {}, {})
    there, theirs = (performance_features(some, seconds) for some in (first, second))
    ours = performance_features(sample.excerpts(seconds), lengths)
    human, generated = compare(there, theirs), compare(there, ours)
    comparison = replace(
        facts,
        features={name: _feature(human[name], generated[name], theirs[name], ours[name]) for name in there},
        mean_overlap=mean_area(generated),
        human_mean_overlap=mean_area(human),
        lowest=min(generated, key=lambda name: generated[name].area),
    )
    return Compared(comparison, human, generated)


def _feature(human: Overlap, generated: Overlap, theirs: Array, ours: Array) -> FeatureOverlap:
    one_number = ours.shape[1] == 1
    return FeatureOverlap(
        overlap=generated.area,
        human_overlap=human.area,
        divergence=generated.divergence,
        human_divergence=human.divergence,
        mean=float(np.mean(ours)) if one_number else None,
        human_mean=float(np.mean(theirs)) if one_number else None,
    )


def draw_overlaps(kind: str, compared: Compared) -> Figure:
    """Draw the densities of distances, one panel a feature."""
    panels = {}
    for name, human in compared.human.items():
        ours = compared.generated[name]
        panels[f"{name.replace('_', ' ')}: {ours.area:.2f}, humans {human.area:.2f}"] = {
            "reference": (human.grid, human.reference),
            "human": (human.grid, human.other),
            "generated": (ours.grid, ours.other),
        }
    title = f"{kind}: distances within the reference, and from it to other humans and to the generated music"
    return plots.overlaps(panels, title)
