"""Windows of a corpus as batches: sampled and augmented for training, in order for validation; and their gaps.

What a step sees depends only on the seed and the step's number, so that a resumed run sees what it would have seen.
Each window has random numbers of its own, so that a process makes its share of a batch without making the others'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from music_generator.data.corpus import STORED_DTYPE, Corpus
from music_generator.errors import CorpusError, InputError
from music_generator.model.config import CUT, EDGE_OF_PIECE
from music_generator.model.network import Batch
from music_generator.music.tokens import DURATION_BINS, KEYS, SHIFT_BINS, VELOCITY_BINS
from music_generator.parallel import WHOLE, Shard

Array = NDArray[Any]

EDGE_SHARE = 1 / 32  # of the windows begin with the piece, as many end with it: chance alone would show few


@dataclass(frozen=True)
class WindowOptions:
    """How windows are drawn. Lengths in tokens; `future_share` of the gaps are given their future."""

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
            raise InputError("`future_share` and `unknown_composer_share` must be 0 to 1")
        if not 0 <= self.transpose < KEYS or not all(0 < factor < math.inf for factor in self.stretch):
            raise InputError(f"`transpose` must be 0 to {KEYS - 1} and each factor of `stretch` above 0")
        if not 1 <= self.shortest_gap <= self.longest_gap:
            raise InputError(f"`shortest_gap` ({self.shortest_gap}) must be 1 to `longest_gap` ({self.longest_gap})")


@dataclass(frozen=True)
class Window:
    """A stretch of one piece: its rows, and whether it begins and ends with the piece."""

    rows: Array
    composer: int
    begins: bool
    ends: bool


@dataclass(frozen=True)
class Pool:
    """The pieces of a corpus that windows are drawn from: `pieces` are their indices (P,)."""

    corpus: Corpus
    pieces: Array

    @cached_property
    def rows(self) -> Array:
        """How many rows each piece has: (P,) int64."""
        return np.asarray(np.diff(self.corpus.offsets)[self.pieces])

    @cached_property
    def ends(self) -> Array:
        """The number of rows of all pieces up to each: (P,) int64."""
        return np.cumsum(self.rows)

    def choose(self, count: int, rng: np.random.Generator) -> Array:
        """Places in `pieces`, each piece in proportion to its rows: (count,)."""
        return np.searchsorted(self.ends, rng.integers(self.ends[-1], size=count), side="right")


@dataclass(frozen=True)
class Sampled:
    """A shard of a batch: its windows, their gaps as `sampled_gaps` gives them, and how many `tokens` the batch has."""

    windows: list[Window]
    resume: Array
    tokens: int


def sample_windows(
    pool: Pool, known: dict[str, int], options: WindowOptions, seed: Sequence[int], shard: Shard = WHOLE
) -> Sampled:
    """A shard of the `options.batch` windows of a seed (such as run and step), augmented and cut into gaps.

    `known`: the class of each composer. Which windows a batch has does not depend on the shards.
    """
    chosen = pool.choose(options.batch, np.random.default_rng(seed))
    windows, resume = [], []
    for number in shard.of(range(options.batch)):
        rng = np.random.default_rng([*seed, number + 1])  # a 0 at the end would change nothing
        window = _sample_window(pool.corpus, int(pool.pieces[chosen[number]]), known, options, rng)
        windows.append(window)
        resume.append(sampled_gaps([window], options.length, options, rng))
    tokens = int(np.minimum(pool.rows[chosen], options.length).sum())
    return Sampled(windows, np.concatenate(resume), tokens)


def _sample_window(
    corpus: Corpus, piece: int, known: dict[str, int], options: WindowOptions, rng: np.random.Generator
) -> Window:
    first, total = corpus.offsets[piece], corpus.pieces[piece].rows
    last_start = max(0, total - options.length)
    place = rng.random()
    if place < EDGE_SHARE:
        start = 0
    elif place > 1 - EDGE_SHARE:
        start = last_start
    else:
        start = int(rng.integers(last_start + 1))
    stop = min(start + options.length, total)
    rows = np.array(corpus.rows[first + start : first + stop])
    if start == 0:
        rows["shift"][0] = 0
    composer = known.get(corpus.pieces[piece].composer or "", 0)
    if rng.random() < options.unknown_composer_share:
        composer = 0
    return Window(_augmented(rows, options, rng), composer, start == 0, stop == total)


def _augmented(rows: Array, options: WindowOptions, rng: np.random.Generator) -> Array:
    """Transposed as far as the piano reaches, and stretched in time."""
    keys = rows["key"][rows["key"] < KEYS]
    if len(keys) and options.transpose:
        low, high = max(-options.transpose, -int(keys.min())), min(options.transpose, KEYS - 1 - int(keys.max()))
        rows["key"][rows["key"] < KEYS] = keys.astype(np.int64) + rng.integers(low, high + 1)
    stretch = float(rng.choice(options.stretch)) if options.stretch else 1.0
    if stretch != 1.0:
        onset = np.cumsum(rows["shift"], dtype=np.int64)
        end = np.rint((onset + rows["duration"]) * stretch).astype(np.int64)
        onset = np.rint(onset * stretch).astype(np.int64)
        rows["shift"] = np.minimum(np.diff(onset, prepend=0), np.iinfo(np.uint16).max)
        rows["duration"] = np.clip(end - onset, 1, np.iinfo(np.uint16).max)
        order = np.lexsort((rows["key"], onset))  # events of two ticks that became one: again by key
        rows[["key", "velocity", "duration"]] = rows[["key", "velocity", "duration"]][order]
    return rows


def segments(corpus: Corpus, split: str, length: int, limit: int | None = None) -> list[Window]:
    """Every piece of a split cut into consecutive windows of `length` rows; the composer is not told.

    `limit`: this many of them, evenly spread, in place of all. Raises `CorpusError` if the split is empty.
    """
    pieces = np.asarray(corpus.split(split), np.int64)
    counts = -(-np.diff(corpus.offsets)[pieces] // length)
    ends = np.cumsum(counts)
    total = int(counts.sum())
    if not total:
        raise CorpusError(corpus.folder, f"its {split} split is empty")
    chosen = np.arange(total) if limit is None or limit >= total else np.linspace(0, total - 1, limit).astype(int)
    windows = []
    for number, place in zip(chosen, np.searchsorted(ends, chosen, side="right"), strict=True):
        rows = corpus.piece_rows(int(pieces[place]))
        start = int(number - (ends[place] - counts[place])) * length
        stop = min(start + length, len(rows))
        windows.append(Window(rows[start:stop], 0, start == 0, stop == len(rows)))
    return windows


def sampled_gaps(windows: list[Window], length: int, options: WindowOptions, rng: np.random.Generator) -> Array:
    """Windows cut into gaps of log-uniform length: (B, length) the token each token's gap resumes at, or `length`."""
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


def even_gaps(windows: list[Window], length: int, gap: int) -> Array:
    """Each window cut into gaps of `gap` tokens; a gap that reaches its window's end has no future."""
    stop = (np.arange(length) // gap + 1) * gap
    totals = np.asarray([len(window.rows) for window in windows])
    return np.where(stop[None] < totals[:, None], stop[None], length).astype(np.int64)


def to_batch(windows: list[Window], length: int, resume: Array) -> Batch:
    """Windows padded to `length` and put into bins; `resume` as the gap functions give it."""
    rows = np.zeros((len(windows), length), STORED_DTYPE)
    rows["duration"] = 1
    totals = np.asarray([len(window.rows) for window in windows])
    for i, window in enumerate(windows):
        rows[i, : totals[i]] = window.rows
    ends = np.asarray([window.ends for window in windows])
    edge = np.where([window.begins for window in windows], EDGE_OF_PIECE, CUT)
    arrays = {
        "shift": SHIFT_BINS.index(rows["shift"]),
        "key": rows["key"],
        "velocity": VELOCITY_BINS.index(rows["velocity"]),
        "duration": DURATION_BINS.index(rows["duration"]),
        "onset": np.cumsum(rows["shift"], axis=1, dtype=np.int64),
        "held": rows["duration"],
        "start": edge,
        "stop": np.where(ends, EDGE_OF_PIECE, CUT),
        "composer": [window.composer for window in windows],
        "resume": resume,
    }
    tensors = {name: torch.as_tensor(np.asarray(value).astype(np.int64)) for name, value in arrays.items()}
    present = torch.as_tensor(np.arange(length) < totals[:, None])
    return Batch(**tensors, present=present, ends=torch.as_tensor(ends))
