"""Gaps in held-out pieces: what a model fills in, compared with the truth, with no look ahead and with silence.

The features of each filling are compared with the truth's. And a filling is judged by what follows: the nats of the
true future's first tokens, given the past and the filling, by the engine without a future.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.engine import Engine
from music_generator.evaluation.overlap import compare, mean_area
from music_generator.evaluation.report import GapFilling, GapLength
from music_generator.evaluation.samples import excerpt, last_onset
from music_generator.generation import SamplingOptions, Span, generate_many, variations
from music_generator.generation.scoring import score_passages
from music_generator.model.config import FIELDS
from music_generator.music.features import performance_features
from music_generator.music.performance import Performance, join
from music_generator.music.tokens import TICKS_PER_SECOND, Window, encode

Array = NDArray[Any]

GAP_SECONDS = (2.0, 4.0, 8.0, 12.0, 20.0)
MARGIN_SECONDS = 10.0  # of music before and after a gap, at least
FUTURE_TOKENS = 32  # scored
PAST_TOKENS = 256  # before the gap, at most, that the score is given
BATCH_GAPS = 64
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
        """The music of the piece in the gap; its time starts with the gap."""
        return excerpt(self.piece, self.start, self.end - self.start)


def choose_gaps(pieces: Sequence[Performance], count: int, seconds: float, rng: np.random.Generator) -> list[Gap]:
    """Choose `count` gaps with notes in them, from the pieces in turn, away from their ends.

    Pieces that are too short are left out, so there may be fewer gaps, or none.
    """
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
    """Return the pieces with their gaps filled in one way.

    Args:
        engine: The model.
        gaps: One gap a piece.
        way: `truth`, the piece as it is; `infill`, by the model with the future; `blind`, by the model without it;
            `empty`, nothing.
        options: Of the first gap; the seeds of the next ones follow.
    """
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
    generated = generate_many(engine, zip(spans, variations(options, len(gaps)), strict=True), size=BATCH_GAPS)
    if way == "infill":
        return [each.performance for each in generated]
    return [
        join([each.performance.between(0, gap.end), future])
        for each, (_, future), gap in zip(generated, sides, gaps, strict=True)
    ]


def future_window(filled: Performance, gap: Gap) -> tuple[Window, int]:
    """Return a window that ends with the tokens to score, and their number."""
    rows = encode(filled)
    onset = np.cumsum(rows["shift"], dtype=np.int64)
    before, after = (int(np.searchsorted(onset, round(at * TICKS_PER_SECOND))) for at in (gap.start, gap.end))
    first, stop = max(0, before - PAST_TOKENS), min(after + FUTURE_TOKENS, len(rows))
    return Window(rows[first:stop], first == 0, stop == len(rows)), stop - after


def future_nats(engine: Engine, filled: Sequence[Performance], gaps: Sequence[Gap]) -> Array:
    """Return the mean nats per token of the first tokens after each gap: (gaps, 4) in the order of `FIELDS`."""
    windows = [future_window(performance, gap) for performance, gap in zip(filled, gaps, strict=True)]
    means = np.empty((len(gaps), len(FIELDS)))
    for first in range(0, len(gaps), BATCH_GAPS):
        some = windows[first : first + BATCH_GAPS]
        nats = score_passages(engine, [window for window, _ in some]).nats
        for b, (window, count) in enumerate(some):
            stop = len(window.rows)
            means[first + b] = nats[b, stop - count : stop].mean(0)
    return means


def relative_distances(truth: dict[str, Array], filled: dict[str, Array]) -> dict[str, float]:
    """Return each feature's mean distance of a filling from its gap's truth, divided by that between gaps' truths.

    0 is the truth itself; 1 is no nearer to it than the music of another gap.

    Args:
        truth: (gaps, values) by feature.
        filled: Of the same gaps.
    """
    distances = {}
    for name, values in truth.items():
        apart = np.sqrt(((values[:, None] - values[None]) ** 2).sum(-1))
        others = apart.sum() / max(len(values) * (len(values) - 1), 1)
        own = float(np.sqrt(((values - filled[name]) ** 2).sum(-1)).mean())
        distances[name] = own / others if others > 0 else 0.0
    return distances


def longest_silence(music: Performance, seconds: float) -> float:
    """Return the longest time without an onset in the first `seconds`, those at their start and end included."""
    onsets = np.concatenate([[0.0], music.between(0.0, seconds).notes["onset"], [seconds]])
    return float(np.diff(onsets).max())


def evaluate_gaps(
    engine: Engine,
    reference: Sequence[Performance],
    pieces: Sequence[Performance],
    *,
    count: int,
    options: SamplingOptions,
    progress: Progress | None = None,
) -> dict[str, GapLength]:
    """Fill gaps of each length in each way and compare.

    Args:
        engine: The model.
        reference: Held-out pieces whose music, in gaps of the same lengths, the overlaps refer to.
        pieces: Held-out pieces whose gaps are filled.
        count: Gaps of each length.
        options: How the model generates; the seed also decides the gaps.
        progress: Called with the number of fillings done and of all.

    Returns:
        By gap length in seconds (`2` …). A length for which all pieces are too short is left out.
    """
    lengths: dict[str, GapLength] = {}
    ways = [way for way in WAYS if way != "infill" or engine.config.direction == "both"]
    for step, seconds in enumerate(GAP_SECONDS):
        rng = np.random.default_rng([options.seed or 0, step])
        others, gaps = (choose_gaps(some, count, seconds, rng) for some in (reference, pieces))
        if len(others) < 2 or not gaps:
            continue
        inside = _GapMusic(seconds, gaps, performance_features([gap.truth for gap in others], seconds))
        fillings: dict[str, GapFilling] = {}
        truth_nats = np.empty(0)
        for w, way in enumerate(ways):
            filled = fill(engine, gaps, way, options)
            if progress:
                progress(step * len(ways) + w + 1, len(GAP_SECONDS) * len(ways))
            nats = future_nats(engine, filled, gaps)
            truth_nats = nats.sum(1) if way == "truth" else truth_nats
            fillings[way] = inside.measured(filled, nats, truth_nats, compared=way != "empty")
        lengths[f"{seconds:g}"] = GapLength(len(gaps), len(others), fillings)
    return lengths


@dataclass(frozen=True)
class _GapMusic:
    """Gaps of one length, and the features of human music in other gaps."""

    seconds: float
    gaps: Sequence[Gap]
    reference: dict[str, Array]

    @cached_property
    def truth(self) -> dict[str, Array]:
        return performance_features([gap.truth for gap in self.gaps], self.seconds)

    def measured(self, filled: Sequence[Performance], nats: Array, truth_nats: Array, *, compared: bool) -> GapFilling:
        """Measure the gaps filled in one way.

        Args:
            filled: The pieces.
            nats: Of the true future by field, (gaps, 4).
            truth_nats: Of the true future in total, after the true filling, (gaps,).
            compared: Compare the features with the truth's, too.
        """
        inside = [excerpt(each, gap.start, self.seconds) for each, gap in zip(filled, self.gaps, strict=True)]
        fields = {name: float(nats[:, i].mean()) for i, name in enumerate(FIELDS)}
        above = nats.sum(1) - truth_nats
        filling = GapFilling(
            future_nats={"total": float(nats.sum(1).mean()), **fields},
            above_truth=float(above.mean()),
            above_truth_error=float(above.std() / np.sqrt(len(above))),
            notes=float(np.median([len(music) / len(gap.truth) for music, gap in zip(inside, self.gaps, strict=True)])),
            longest_silence=float(np.median([longest_silence(music, self.seconds) for music in inside])),
        )
        return self._compared(filling, inside) if compared else filling

    def _compared(self, filling: GapFilling, inside: Sequence[Performance]) -> GapFilling:
        """Return the filling with the overlaps and distances of its features."""
        features = performance_features(inside, self.seconds)
        overlaps, distances = compare(self.reference, features), relative_distances(self.truth, features)
        return replace(
            filling,
            overlap=mean_area(overlaps),
            overlaps={name: each.area for name, each in overlaps.items()},
            distance=float(np.mean(list(distances.values()))),
            distances=distances,
        )
