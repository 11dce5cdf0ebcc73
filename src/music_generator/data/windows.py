"""Windows of a corpus and the gaps they are cut into, in NumPy: training and evaluation share them.

Training draws windows at random and augments them; the likelihood protocol takes consecutive segments. What a training
step gets depends only on the seed and the step's number, so a resumed run gets the same. Each window has a random
generator of its own, so a process can make its share of a batch without making the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.data.corpus import Corpus
from music_generator.errors import CorpusError, InputError
from music_generator.music.tokens import KEYS, Window
from music_generator.parallel import WHOLE, Shard

Array = NDArray[Any]

SEGMENT_TOKENS = 512  # of the likelihood protocol, as are
GAP_TOKENS = (4, 16, 64)

EDGE_SHARE = 1 / 32  # of the windows start with their piece, and as many end with it: by chance few would


@dataclass(frozen=True)
class WindowOptions:
    """The options of drawing training windows.

    Attributes:
        batch: Windows a step.
        length: Tokens a window.
        future_share: Share of the gaps whose future the network gets, 0 to 1.
        shortest_gap: Tokens.
        longest_gap: Tokens.
        transpose: Semitones up or down, at most.
        stretch: Factors of time, one of which is drawn for each window.
        unknown_composer_share: Share of the windows whose composer the network does not get, 0 to 1.

    Raises:
        InputError: A value is out of range.
    """

    batch: int = 32
    length: int = 256
    future_share: float = 0.75
    shortest_gap: int = 2
    longest_gap: int = 64
    transpose: int = 6
    stretch: tuple[float, ...] = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
    unknown_composer_share: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "stretch", tuple(self.stretch))
        if self.batch < 1 or self.length < 2:
            raise InputError(f"`batch` ({self.batch}) must be at least 1 and `length` ({self.length}) at least 2")
        if not 0 <= self.future_share <= 1 or not 0 <= self.unknown_composer_share <= 1:
            raise InputError(
                f"`future_share` ({self.future_share}) and `unknown_composer_share` ({self.unknown_composer_share}) "
                "must be 0 to 1"
            )
        if not 0 <= self.transpose < KEYS:
            raise InputError(f"`transpose` must be 0 to {KEYS - 1}, not {self.transpose}")
        if not all(0 < factor < math.inf for factor in self.stretch):
            raise InputError(f"each factor of `stretch` must be above 0, not {self.stretch}")
        if not 1 <= self.shortest_gap <= self.longest_gap:
            raise InputError(f"`shortest_gap` ({self.shortest_gap}) must be 1 to `longest_gap` ({self.longest_gap})")


@dataclass(frozen=True)
class Pool:
    """The pieces of a corpus that windows are drawn from: `pieces` are their indices (P,)."""

    corpus: Corpus
    pieces: Array

    @cached_property
    def rows(self) -> Array:
        """The number of rows of each piece: (P,) int64."""
        return np.asarray(np.diff(self.corpus.offsets)[self.pieces])

    @cached_property
    def ends(self) -> Array:
        """The number of rows of all pieces up to and including each: (P,) int64."""
        return np.cumsum(self.rows)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw positions in `pieces`, each piece in proportion to its rows: (count,)."""
        return np.searchsorted(self.ends, rng.integers(self.ends[-1], size=count), side="right")


@dataclass(frozen=True)
class Sampled:
    """A shard of a batch: its windows, their gaps as `sample_gaps` returns them, and the whole batch's `tokens`."""

    windows: list[Window]
    resume: Array
    tokens: int


def sample_windows(
    pool: Pool, composers: dict[str, int], options: WindowOptions, seed: Sequence[int], shard: Shard = WHOLE
) -> Sampled:
    """Draw a shard of a batch of windows, augment them and cut them into gaps.

    Args:
        pool: The pieces to draw from.
        composers: Class of each known composer, from 1.
        options: How to draw; `options.batch` is the size of the whole batch.
        seed: Such as the run's seed and the step. It alone decides the windows of the whole batch.
        shard: The part of the batch to return.
    """
    drawn = pool.draw(options.batch, np.random.default_rng(seed))
    windows, resume = [], []
    for number in shard.of(range(options.batch)):
        rng = np.random.default_rng([*seed, number + 1])  # NumPy ignores a 0 at the end of a seed
        window = _sample_window(pool.corpus, int(pool.pieces[drawn[number]]), composers, options, rng)
        windows.append(window)
        resume.append(sample_gaps([window], options.length, options, rng))
    tokens = int(np.minimum(pool.rows[drawn], options.length).sum())
    return Sampled(windows, np.concatenate(resume), tokens)


def _sample_window(
    corpus: Corpus, piece: int, composers: dict[str, int], options: WindowOptions, rng: np.random.Generator
) -> Window:
    total = corpus.pieces[piece].rows
    last_start = max(0, total - options.length)
    edge = rng.random()
    if edge < EDGE_SHARE:
        start = 0
    elif edge > 1 - EDGE_SHARE:
        start = last_start
    else:
        start = int(rng.integers(last_start + 1))
    stop = min(start + options.length, total)
    composer = composers.get(corpus.pieces[piece].composer or "", 0)
    if rng.random() < options.unknown_composer_share:
        composer = 0
    window = _cut(corpus, piece, start, stop, composer)
    return replace(window, rows=_stretched(_transposed(window.rows, options, rng), options, rng))


def _cut(corpus: Corpus, piece: int, start: int, stop: int, composer: int = 0) -> Window:
    """Copy rows `start` to `stop` of a piece, whose first shift is 0."""
    first, total = int(corpus.offsets[piece]), corpus.pieces[piece].rows
    rows = np.array(corpus.rows[first + start : first + stop])
    if start == 0:
        rows["shift"][:1] = 0
    return Window(rows, start == 0, stop == total, composer)


def _transposed(rows: Array, options: WindowOptions, rng: np.random.Generator) -> Array:
    """Transpose the notes by a random interval that keeps them on the piano; pedals stay."""
    keys = rows["key"][rows["key"] < KEYS]
    if len(keys) and options.transpose:
        low, high = max(-options.transpose, -int(keys.min())), min(options.transpose, KEYS - 1 - int(keys.max()))
        rows["key"][rows["key"] < KEYS] = keys.astype(np.int64) + rng.integers(low, high + 1)
    return rows


def _stretched(rows: Array, options: WindowOptions, rng: np.random.Generator) -> Array:
    """Multiply all times by a random factor of `options.stretch`."""
    stretch = float(rng.choice(options.stretch)) if options.stretch else 1.0
    if stretch == 1.0:
        return rows
    onset = np.cumsum(rows["shift"], dtype=np.int64)
    end = np.rint((onset + rows["duration"]) * stretch).astype(np.int64)
    onset = np.rint(onset * stretch).astype(np.int64)
    rows["shift"] = np.minimum(np.diff(onset, prepend=0), np.iinfo(np.uint16).max)
    rows["duration"] = np.clip(end - onset, 1, np.iinfo(np.uint16).max)
    order = np.lexsort((rows["key"], onset))  # where two ticks became one, the order is by key again
    rows[["key", "velocity", "duration"]] = rows[["key", "velocity", "duration"]][order]
    return rows


def segments(corpus: Corpus, split: str, length: int = SEGMENT_TOKENS, limit: int | None = None) -> list[Window]:
    """Cut every piece of a split into consecutive windows of `length` rows, without composers.

    Args:
        corpus: A prepared corpus.
        split: The name of one of its splits.
        length: Tokens a segment; a piece's last one may be shorter.
        limit: Return this many of them, evenly spread, instead of all.

    Raises:
        CorpusError: The split is empty.
    """
    pieces = np.asarray(corpus.split(split), np.int64)
    counts = -(-np.diff(corpus.offsets)[pieces] // length)
    ends = np.cumsum(counts)
    total = int(counts.sum())
    if not total:
        raise CorpusError(corpus.folder, f"its {split} split is empty")
    numbers = np.arange(total) if limit is None or limit >= total else np.linspace(0, total - 1, limit).astype(int)
    windows = []
    for number, i in zip(numbers, np.searchsorted(ends, numbers, side="right"), strict=True):
        piece, start = int(pieces[i]), int(number - (ends[i] - counts[i])) * length
        windows.append(_cut(corpus, piece, start, min(start + length, corpus.pieces[piece].rows)))
    return windows


def sample_gaps(windows: list[Window], length: int, options: WindowOptions, rng: np.random.Generator) -> Array:
    """Cut B windows into gaps of log-uniform length.

    Returns:
        (B, length) int64: for each token, the first token after its gap; `length` where the gap has no future.
    """
    resume = np.full((len(windows), length), length, np.int64)
    low, high = np.log(options.shortest_gap), np.log(options.longest_gap + 1)
    for row, window in enumerate(windows):
        start, total = 0, len(window.rows)
        while start < total:
            stop = start + int(np.exp(rng.uniform(low, high)))
            if stop < total and rng.random() < options.future_share:
                resume[row, start:stop] = stop
            start = stop
    return resume


def even_gaps(windows: Sequence[Window], length: int, gap: int) -> Array:
    """Cut B windows into gaps of `gap` tokens; a gap that reaches its window's end has no future.

    Returns:
        (B, length) int64, as `sample_gaps` returns it.
    """
    stop = (np.arange(length) // gap + 1) * gap
    totals = np.asarray([len(window.rows) for window in windows])
    return np.where(stop[None] < totals[:, None], stop[None], length).astype(np.int64)
