"""The use of what is told: what came long before, notes that are kept, and what was learnt by heart.

All nats are the engine's, per event, on a grid of 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

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

Array = NDArray[np.float64]
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
    steps = (_long_context, _kept_melody, _learnt)
    found = []
    for done, step in enumerate(steps):
        if progress:
            progress(done, len(steps))
        found.append(step(engine, corpus, split, count))
    if progress:
        progress(len(steps), len(steps))
    long_context, kept_melody, (train, held_out) = found
    return ContextUse(long_context, kept_melody, train, held_out)


def _long_context(engine: Engine, corpus: Corpus, split: str, count: int) -> LongContext | None:
    """Return the nats of late and early events of the same pieces, given all before; None if no piece is long enough."""
    windows = windows_from(corpus, split, LONG_TOKENS, count)
    if not windows:
        return None
    nats = np.concatenate([scores.nats.sum(2) for scores in _batches(windows, lambda some: score_passages(engine, some))])
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


def _learnt(engine: Engine, corpus: Corpus, split: str, count: int) -> tuple[float | None, float]:
    """Return the nats of as many training segments, of no tag, and of held-out ones."""
    means = []
    for name in ("train", split):
        if not any(corpus.pieces[i].tag is None for i in corpus.split(name)):
            means.append(None)
            continue
        windows = segments(corpus, name, SEGMENT_TOKENS, count, tagged=False)
        scored = _batches(windows, lambda some: score_passages(engine, some))
        nats = np.concatenate([each.nats.sum(2)[np.isfinite(each.nats).all(2)] for each in scored])
        means.append(float(nats.mean()))
    train, held_out = means
    assert held_out is not None
    return train, held_out


def _batches(windows: Sequence[Window], score: Callable[[Sequence[Window]], Scores]) -> list[Scores]:
    return [score(windows[first : first + BATCH_WINDOWS]) for first in range(0, len(windows), BATCH_WINDOWS)]
