"""The use of what is told: what came long before, notes that are kept, and what was learnt by heart.

All nats are the engine's, per event, on a grid of 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from music_generator.data.corpus import Corpus
from music_generator.data.windows import SEGMENT_TOKENS, segments, windows_from
from music_generator.engine.engine import Engine
from music_generator.evaluation.report import ContextUse, KeptMelody, LongContext
from music_generator.generation.scoring import Scores, score_around, score_passages
from music_generator.model.config import FIELDS
from music_generator.music.tokens import Window
from music_generator.music.voices import highest_tokens

BATCH_WINDOWS = 16
LONG_TOKENS = 2048  # of a piece from its beginning on; the second half of them is compared with
EARLY_TOKENS = 512  # the first ones
KEPT_TOKENS = 512  # of a passage whose melody is kept

Progress = Callable[[int, int], None]


def evaluate_context(
    engine: Engine, corpus: Corpus, split: str, count: int, progress: Progress | None = None
) -> ContextUse:
    """Measure what a model makes of its context.

    Args:
        engine: The model.
        corpus: A prepared corpus.
        split: The held-out split.
        count: Pieces, passages and segments to measure, at most, of each.
        progress: Called with how much is done and all.
    """
    progress = progress or (lambda *_: None)
    long_context = _long_context(engine, corpus, split, count)
    progress(1, 3)
    kept_melody = _kept_melody(engine, corpus, split, count) if engine.config.direction == "both" else None
    progress(2, 3)
    train = _segment_nats(engine, corpus, "train", count)
    held_out = _segment_nats(engine, corpus, split, count)
    progress(3, 3)
    assert held_out is not None
    return ContextUse(long_context, kept_melody, train, held_out)


def _long_context(engine: Engine, corpus: Corpus, split: str, count: int) -> LongContext | None:
    """Return the nats of early and late events of the same pieces, given all before; None if none is long enough."""
    windows = windows_from(corpus, split, LONG_TOKENS, count)
    if not windows:
        return None
    nats = np.concatenate([each.nats.sum(2) for each in _scored(engine, windows)])
    late, early = nats[:, LONG_TOKENS // 2 :], nats[:, :EARLY_TOKENS]
    return LongContext(len(windows), float(early.mean()), float(late.mean()))


def _kept_melody(engine: Engine, corpus: Corpus, split: str, count: int) -> KeptMelody:
    """Return the nats of the events around a kept melody, with and without it."""
    windows = segments(corpus, split, KEPT_TOKENS, count)
    total = {"with": np.zeros(len(FIELDS)), "without": np.zeros(len(FIELDS))}
    events = 0
    for first in range(0, len(windows), BATCH_WINDOWS):
        some = windows[first : first + BATCH_WINDOWS]
        around = score_around(engine, some, [highest_tokens(window.rows) for window in some]).nats
        counted = np.isfinite(around).all(2)
        total["with"] += around[counted].sum(0)
        total["without"] += score_passages(engine, some).nats[counted].sum(0)
        events += int(counted.sum())
    return KeptMelody(events, *(float(total[name].sum() / max(events, 1)) for name in ("without", "with")))


def _segment_nats(engine: Engine, corpus: Corpus, split: str, count: int) -> float | None:
    """Return the nats per event of segments of a split, of no tag, given the past; None if there are none."""
    if not any(corpus.pieces[i].tag is None for i in corpus.split(split)):
        return None
    windows = segments(corpus, split, SEGMENT_TOKENS, count, tagged=False)
    nats = np.concatenate([each.nats.sum(2).ravel() for each in _scored(engine, windows)])
    return float(np.nanmean(nats))


def _scored(engine: Engine, windows: Sequence[Window]) -> list[Scores]:
    starts = range(0, len(windows), BATCH_WINDOWS)
    return [score_passages(engine, windows[first : first + BATCH_WINDOWS]) for first in starts]
