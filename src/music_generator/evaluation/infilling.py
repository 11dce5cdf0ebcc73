"""Gaps in held-out pieces, heard from both sides: what a model fills in against the truth, blindness and silence.

Of each gap the features of what is in it are compared with the truth's, and it is asked how well the true future
follows: nats of its first tokens given the past and what was filled in, under the runtime graphs without a future.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.engine import Engine
from music_generator.evaluation.overlap import Overlap, compare, mean_area
from music_generator.evaluation.samples import excerpt, last_onset
from music_generator.generation import SamplingOptions, Span, generate_many, variations
from music_generator.generation.scoring import Passage, score_passages
from music_generator.model.config import FIELDS
from music_generator.music.features import performance_features
from music_generator.music.performance import Performance, join
from music_generator.music.tokens import TICKS_PER_SECOND, encode

Array = NDArray[Any]

GAP_SECONDS = (2.0, 4.0, 8.0)
MARGIN_SECONDS = 10.0  # of music before and after a gap, at least
FUTURE_TOKENS = 32  # scored
PAST_TOKENS = 256  # heard before the gap when they are
BATCH = 64  # gaps and passages side by side
WAYS = ("truth", "infill", "blind", "empty")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Gap:
    """A gap in a piece, in seconds on the grid of 10 ms."""

    piece: Performance
    start: float
    end: float

    @property
    def truth(self) -> Performance:
        """What is in it."""
        return excerpt(self.piece, self.start, self.end - self.start)


def choose_gaps(pieces: Sequence[Performance], count: int, seconds: float, rng: np.random.Generator) -> list[Gap]:
    """`count` gaps with notes in them, of the pieces in turn, not near their ends; none if all are too short."""
    needed = 2 * MARGIN_SECONDS + seconds
    pieces = [piece for piece in pieces if last_onset(piece) >= needed]
    gaps: list[Gap] = []
    for i in range(4 * count if pieces else 0):
        piece = pieces[i % len(pieces)]
        latest = int((last_onset(piece) - needed) * TICKS_PER_SECOND)
        start = MARGIN_SECONDS + int(rng.integers(latest + 1)) / TICKS_PER_SECOND
        gap = Gap(piece, start, start + seconds)
        if len(gap.truth) and len(piece.between(0, start)):
            gaps.append(gap)
        if len(gaps) == count:
            break
    return gaps


def fill(engine: Engine, gaps: Sequence[Gap], way: str, options: SamplingOptions) -> list[Performance]:
    """The pieces, their gaps filled in one of `WAYS`: as they were, by the model with or without the future, or not."""
    if way == "truth":
        return [gap.piece for gap in gaps]
    sides = [(gap.piece.between(0, gap.start), gap.piece.between(gap.end)) for gap in gaps]
    if way == "empty":
        return [join(list(both)) for both in sides]
    assert way in ("infill", "blind")
    spans = [
        Span(past, future if way == "infill" else Performance(), gap.start, gap.end)
        for (past, future), gap in zip(sides, gaps, strict=True)
    ]
    made = generate_many(engine, zip(spans, variations(options, len(gaps)), strict=True), size=BATCH)
    if way == "infill":
        return [each.performance for each in made]
    return [
        join([each.performance.between(0, gap.end), future])
        for each, (_, future), gap in zip(made, sides, gaps, strict=True)
    ]


def future_passage(filled: Performance, gap: Gap) -> tuple[Passage, int]:
    """The tokens to score, with those before them, and how many they are."""
    rows = encode(filled)
    onset = np.cumsum(rows["shift"], dtype=np.int64)
    before, after = (int(np.searchsorted(onset, round(at * TICKS_PER_SECOND))) for at in (gap.start, gap.end))
    first, stop = max(0, before - PAST_TOKENS), min(after + FUTURE_TOKENS, len(rows))
    return Passage(rows[first:stop], first == 0, stop == len(rows)), stop - after


def future_nats(engine: Engine, filled: Sequence[Performance], gaps: Sequence[Gap]) -> Array:
    """Of each gap the mean nats of a token of the true future's first ones: (gaps, 4) in the order of `FIELDS`."""
    passages = [future_passage(performance, gap) for performance, gap in zip(filled, gaps, strict=True)]
    found = np.empty((len(gaps), len(FIELDS)))
    for first in range(0, len(gaps), BATCH):
        some = passages[first : first + BATCH]
        nats = score_passages(engine, [passage for passage, _ in some]).nats
        for b, (passage, count) in enumerate(some):
            stop = len(passage.rows)
            found[first + b] = nats[b, stop - count : stop].mean(0)
    return found


def relative_distances(truth: dict[str, Array], filled: dict[str, Array]) -> dict[str, float]:
    """Each feature's mean distance of a filling from its own gap's truth, as a part of that of other gaps' truths.

    0: as the truth; 1: no nearer to it than another gap's music is.
    """
    found = {}
    for name, values in truth.items():
        apart = np.sqrt(((values[:, None] - values[None]) ** 2).sum(-1))
        others = apart.sum() / max(len(values) * (len(values) - 1), 1)
        own = float(np.sqrt(((values - filled[name]) ** 2).sum(-1)).mean())
        found[name] = own / others if others > 0 else 0.0
    return found


def evaluate_gaps(
    engine: Engine,
    reference: Sequence[Performance],
    pieces: Sequence[Performance],
    *,
    count: int,
    options: SamplingOptions,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """By gap length ("2" …): how many gaps, and each way's features and nats of the future.

    The overlap is that of the gaps in `pieces` with the true music of as many gaps in `reference`. A length for which
    no piece is long enough is left out.
    """
    found: dict[str, Any] = {}
    ways = [way for way in WAYS if way != "infill" or engine.config.direction == "both"]
    for step, seconds in enumerate(GAP_SECONDS):
        rng = np.random.default_rng([options.seed or 0, step])
        others, gaps = (choose_gaps(some, count, seconds, rng) for some in (reference, pieces))
        if len(others) < 2 or not gaps:
            continue
        there = performance_features([gap.truth for gap in others], seconds)
        truth = performance_features([gap.truth for gap in gaps], seconds)
        rows: dict[str, Any] = {}
        of_truth = np.empty(0)
        for w, way in enumerate(ways):
            filled = fill(engine, gaps, way, options)
            if progress:
                progress(step * len(ways) + w + 1, len(GAP_SECONDS) * len(ways))
            nats = future_nats(engine, filled, gaps)
            of_truth = nats.sum(1) if way == "truth" else of_truth
            rows[way] = _nats_row(nats, of_truth)
            if way != "empty":
                inside = [excerpt(each, gap.start, seconds) for each, gap in zip(filled, gaps, strict=True)]
                rows[way] |= _feature_row(there, truth, performance_features(inside, seconds))
        found[f"{seconds:g}"] = {"gaps": len(gaps), "reference_gaps": len(others), "ways": rows}
    return found


def _nats_row(nats: Array, of_truth: Array) -> dict[str, Any]:
    """Means over the gaps; how far above the truth's, gap by gap, with the standard error of that difference."""
    fields = {name: float(nats[:, i].mean()) for i, name in enumerate(FIELDS)}
    above = nats.sum(1) - of_truth
    return {
        "future_nats": {"total": float(nats.sum(1).mean()), **fields},
        "above_truth": float(above.mean()),
        "above_truth_error": float(above.std() / np.sqrt(len(above))),
    }


def _feature_row(there: dict[str, Array], truth: dict[str, Array], inside: dict[str, Array]) -> dict[str, Any]:
    overlaps: dict[str, Overlap] = compare(there, inside)
    distances = relative_distances(truth, inside)
    return {
        "overlap": mean_area(overlaps),
        "overlaps": {name: each.area for name, each in overlaps.items()},
        "distance": float(np.mean(list(distances.values()))),
        "distances": distances,
    }
