"""The size of a run, worked out before its first step, and options that suit a small corpus. No torch."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.data.corpus import Corpus
from music_generator.training.options import TrainingOptions

MIN_STEPS = 64  # in fewer steps even a trained model hardly changes
MIN_BATCH = 4  # windows: with fewer, the gradient is mostly chance
GAPS_PER_WINDOW = 4  # a window holds this many of the longest gaps, as with the default options


def train_rows(corpus: Corpus) -> NDArray[Any]:
    """Return the number of rows of each piece of the train split: (P,) int64."""
    return np.asarray([corpus.pieces[i].rows for i in corpus.split("train")], np.int64)


def tokens_per_step(corpus: Corpus, options: TrainingOptions) -> float:
    """Return the mean number of tokens of a batch: fewer than `batch * length` where pieces are shorter than windows.

    A piece is drawn in proportion to its rows.
    """
    rows = train_rows(corpus)
    window = (rows * np.minimum(rows, options.windows.length)).sum() / max(1, rows.sum())
    return float(options.windows.batch * window)


def total_steps(corpus: Corpus, options: TrainingOptions) -> int:
    """Return the number of steps of a run."""
    if options.steps is not None:
        return options.steps
    rows = int(train_rows(corpus).sum())
    return max(1, math.ceil(options.epochs * rows / max(1.0, tokens_per_step(corpus, options))))


def fit_to_corpus(
    corpus: Corpus, options: TrainingOptions, given: Collection[str], processes: int = 1
) -> tuple[TrainingOptions, list[str]]:
    """Choose options that suit a small corpus, among those that the user did not give.

    - Windows are no longer than the longest piece, and gaps no longer than a quarter of a window.
    - A step has fewer windows, so that the run has at least `MIN_STEPS` steps over the same tokens.
    - If that is not enough, the run is `MIN_STEPS` steps long, in place of its `epochs`.

    Args:
        corpus: A prepared corpus.
        options: The options so far.
        given: The names of the options that the user gave; they stay.
        processes: The number of processes, which `batch` stays a multiple of.

    Returns:
        The options, unchanged for a larger corpus, and one line for each choice.
    """
    options, lines = _fit_windows(corpus, options, given)
    if options.steps is not None or not len(train_rows(corpus)):
        return options, lines
    before = total_steps(corpus, options)
    if "batch" not in given:
        options = _fit_batch(corpus, options, processes)
    if "epochs" not in given and total_steps(corpus, options) < MIN_STEPS:
        options = replace(options, steps=MIN_STEPS)
    steps = total_steps(corpus, options)
    if steps != before:
        lines.append(f"{options.windows.batch} windows a step, which makes {steps} steps instead of {before}")
    return options, lines


def _fit_windows(corpus: Corpus, options: TrainingOptions, given: Collection[str]) -> tuple[TrainingOptions, list[str]]:
    windows, longest = options.windows, int(train_rows(corpus).max(initial=0))
    if "length" in given or not longest or longest >= windows.length:
        return options, []
    length, gap = max(2, longest), windows.longest_gap
    if "longest_gap" not in given:
        gap = max(windows.shortest_gap, min(gap, length // GAPS_PER_WINDOW))
    line = f"windows of {length} tokens with gaps of up to {gap}, as the longest piece has {longest} tokens"
    return replace(options, windows=replace(windows, length=length, longest_gap=gap)), [line]


def _fit_batch(corpus: Corpus, options: TrainingOptions, processes: int) -> TrainingOptions:
    while total_steps(corpus, options) < MIN_STEPS:
        half = options.windows.batch // 2
        if half < MIN_BATCH or half % processes:
            break
        options = replace(options, windows=replace(options.windows, batch=half))
    return options
