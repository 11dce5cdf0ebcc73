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

from music_generator.checks import check_types
from music_generator.data.corpus import Corpus, Piece
from music_generator.errors import CorpusError, InputError
from music_generator.music.tokens import KEYS, TICKS_PER_SECOND, Window, density_class, loudness_class
from music_generator.music.voices import highest_tokens, lowest_tokens
from music_generator.parallel import WHOLE, Shard

Array = NDArray[Any]

SEGMENT_TOKENS = 512  # of the likelihood protocol, as are
GAP_TOKENS = (4, 16, 64)

BEGIN_SHARE, END_SHARE = 1 / 32, 1 / 10  # of the windows begin or end with their piece: by chance few would
SHORTEST_TOLD_TICKS = TICKS_PER_SECOND  # of a gap that is told its density and loudness
KEPT_SHARES = (0.1, 0.5)  # of the notes, where they are kept at random
PARTING_KEYS = (30, 60)  # registers part at one of these keys, the last left out: about where hands do


@dataclass(frozen=True)
class WindowOptions:
    """The options of drawing training windows.

    Attributes:
        batch: Windows a step.
        length: Tokens a window.
        future_share: Share of the gaps whose future the network gets, 0 to 1.
        shortest_gap: Tokens.
        longest_gap: Tokens.
        timed_share: Share of the windows whose gaps are cut by time, 0 to 1.
        gap_seconds: The shortest and the longest of those gaps.
        kept_share: Share of the windows in which some events are kept and the rest is written around them, 0 to 1.
        told_share: Share of the gaps that are told their density, and of those that are told their loudness, 0 to 1.
        transpose: Semitones up or down, at most.
        stretch: Factors of time, one of which is drawn for each window.
        unknown_composer_share: Share of the windows whose composer the network does not get, 0 to 1.
        apart: Tags of music that is learnt under its tag: the network gets the tag as composer, always, and learns
            neither velocities nor pedals from it.

    Raises:
        InputError: A value is out of range.
    """

    batch: int = 8
    length: int = 1024
    future_share: float = 0.75
    shortest_gap: int = 2
    longest_gap: int = 64
    timed_share: float = 0.5
    gap_seconds: tuple[float, float] = (0.25, 30.0)
    kept_share: float = 0.15
    told_share: float = 0.5
    transpose: int = 6
    stretch: tuple[float, ...] = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
    unknown_composer_share: float = 0.5
    apart: tuple[str, ...] = ("rolls",)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("stretch", "gap_seconds", "apart"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.batch < 1 or self.length < 2:
            raise InputError(f"`batch` ({self.batch}) must be at least 1 and `length` ({self.length}) at least 2")
        for name in ("future_share", "timed_share", "kept_share", "told_share", "unknown_composer_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.transpose < KEYS:
            raise InputError(f"`transpose` must be 0 to {KEYS - 1}, not {self.transpose}")
        if not all(0 < factor < math.inf for factor in self.stretch):
            raise InputError(f"each factor of `stretch` must be above 0, not {self.stretch}")
        if not 1 <= self.shortest_gap <= self.longest_gap:
            raise InputError(f"`shortest_gap` ({self.shortest_gap}) must be 1 to `longest_gap` ({self.longest_gap})")
        if len(self.gap_seconds) != 2 or not 0 < self.gap_seconds[0] <= self.gap_seconds[1] < math.inf:
            raise InputError(f"`gap_seconds` must be two numbers above 0, the shorter first, not {self.gap_seconds}")


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
class Gaps:
    """The gaps that B windows are cut into, padded to T tokens.

    Attributes:
        resume: (B, T) int64, the first token after the gap that token t lies in. The number of the window's tokens
            stands for the end of the piece, T + 1 for no future.
        ends: (B, T + 1) bool, a gap that has a future ends before this token.
        kept: (B, T) bool, the token is given, as a future, to the gaps before it.
        thinned: (B,) int64, the future holds all tokens from this one on, and before it only those that are kept.
        density, loudness: (B, T) int64, classes of the notes a second and of the mean velocity that the gap of token t
            is told, 0 if it is not.
    """

    resume: Array
    ends: Array
    kept: Array
    thinned: Array
    density: Array
    loudness: Array

    @classmethod
    def none(cls, count: int, length: int) -> Gaps:
        """Return the gaps of `count` windows, padded to `length` tokens, without a future, kept or told ones."""
        shape = (count, length)
        return cls(
            resume=np.full(shape, length + 1, np.int64),
            ends=np.zeros((count, length + 1), bool),
            kept=np.zeros(shape, bool),
            thinned=np.zeros(count, np.int64),
            density=np.zeros(shape, np.int64),
            loudness=np.zeros(shape, np.int64),
        )

    def add(self, row: int, start: int, stop: int) -> None:
        """Let the tokens of window `row` from `start` to `stop` be a gap whose future is what comes from `stop` on."""
        self.resume[row, start:stop] = stop
        self.ends[row, stop] = True


@dataclass(frozen=True)
class Sampled:
    """A shard of a batch: its windows, their gaps, and the number of tokens of the whole batch."""

    windows: list[Window]
    gaps: Gaps
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
    windows, gaps = [], []
    for number in shard.of(range(options.batch)):
        rng = np.random.default_rng([*seed, number + 1])  # NumPy ignores a 0 at the end of a seed
        window = _sample_window(pool.corpus, int(pool.pieces[drawn[number]]), composers, options, rng)
        windows.append(window)
        gaps.append(sample_gaps(window, options, rng))
    tokens = int(np.minimum(pool.rows[drawn], options.length).sum())
    return Sampled(windows, _concatenated(gaps), tokens)


def _concatenated(gaps: Sequence[Gaps]) -> Gaps:
    return Gaps(**{name: np.concatenate([getattr(each, name) for each in gaps]) for name in vars(gaps[0])})


def composer_names(corpus: Corpus, apart: Sequence[str]) -> tuple[str, ...]:
    """Return the composers of the train split, sorted; a tag in `apart` stands for the composers of its pieces."""
    pieces = (piece for piece in corpus.pieces if piece.split == "train")
    return tuple(sorted({name for piece in pieces if (name := _composer(piece, apart))}))


def _composer(piece: Piece, apart: Sequence[str]) -> str | None:
    return piece.tag if piece.tag in apart else piece.composer


def _sample_window(
    corpus: Corpus, piece: int, composers: dict[str, int], options: WindowOptions, rng: np.random.Generator
) -> Window:
    facts = corpus.pieces[piece]
    last_start = max(0, facts.rows - options.length)
    edge = rng.random()
    if edge < BEGIN_SHARE:
        start = 0
    elif edge > 1 - END_SHARE:
        start = last_start
    else:
        start = int(rng.integers(last_start + 1))
    stop = min(start + options.length, facts.rows)
    plain = facts.tag in options.apart
    composer = composers.get(_composer(facts, options.apart) or "", 0)
    if not plain and rng.random() < options.unknown_composer_share:
        composer = 0
    window = replace(_cut(corpus, piece, start, stop, composer), plain=plain)
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


def segments(
    corpus: Corpus, split: str, length: int = SEGMENT_TOKENS, limit: int | None = None, *, tagged: bool = True
) -> list[Window]:
    """Cut every piece of a split into consecutive windows of `length` rows, without composers.

    Args:
        corpus: A prepared corpus.
        split: The name of one of its splits.
        length: Tokens a segment; a piece's last one may be shorter.
        limit: Return this many of them, evenly spread, instead of all.
        tagged: Take the music of folders that were added, too.

    Raises:
        CorpusError: The split is empty.
    """
    pieces = np.asarray([i for i in corpus.split(split) if tagged or corpus.pieces[i].tag is None], np.int64)
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


def windows_from(corpus: Corpus, split: str, length: int, limit: int) -> list[Window]:
    """Return the first `length` rows of the pieces of a split that are that long: at most `limit`, evenly spread."""
    long = [i for i in corpus.split(split) if corpus.pieces[i].rows >= length]
    some = long if len(long) <= limit else [long[i] for i in np.linspace(0, len(long) - 1, limit).astype(int)]
    return [_cut(corpus, piece, 0, length) for piece in some]


def sample_gaps(window: Window, options: WindowOptions, rng: np.random.Generator) -> Gaps:
    """Cut a window into gaps of log-uniform length, by tokens or by time; in some windows some notes are kept.

    Where notes are kept, a gap lies between each two of them, and what comes after them is cut as usual.

    Returns:
        Gaps of one window, padded to `options.length` tokens.
    """
    total, length = len(window.rows), options.length
    gaps = Gaps.none(1, length)
    onsets = np.cumsum(window.rows["shift"], dtype=np.int64)
    start = 0
    if rng.random() < options.kept_share:
        start = _keep_some(window.rows, gaps, rng)
        _tell(window.rows, onsets, gaps, 0, start, options, rng)
    timed = rng.random() < options.timed_share
    while start < total:
        stop = min(_gap_end(start, onsets, timed, options, rng), total)
        if (stop < total or window.ends) and rng.random() < options.future_share:
            gaps.add(0, start, stop)
        _tell(window.rows, onsets, gaps, start, stop, options, rng)
        start = stop
    return gaps


def _gap_end(start: int, onsets: Array, timed: bool, options: WindowOptions, rng: np.random.Generator) -> int:
    """Return the first token after a gap of random length."""
    if timed:
        low, high = np.log(options.gap_seconds)
        ticks = np.exp(rng.uniform(low, high)) * TICKS_PER_SECOND
        return max(start + 1, int(np.searchsorted(onsets, onsets[start] + ticks)))
    low, high = np.log(options.shortest_gap), np.log(options.longest_gap + 1)
    return start + int(np.exp(rng.uniform(low, high)))


def _melody(rows: Array, _: np.random.Generator) -> Array:
    return highest_tokens(rows)


def _bass(rows: Array, _: np.random.Generator) -> Array:
    return lowest_tokens(rows)


def _at_random(rows: Array, rng: np.random.Generator) -> Array:
    return np.asarray(rng.random(len(rows)) < rng.uniform(*KEPT_SHARES))


def _register(rows: Array, rng: np.random.Generator) -> Array:
    parting = rng.integers(*PARTING_KEYS)
    return np.asarray((rows["key"] >= parting) == (rng.random() < 0.5))


KEEP = (_melody, _bass, _at_random, _register)


def _keep_some(rows: Array, gaps: Gaps, rng: np.random.Generator) -> int:
    """Keep some of the first notes of window 0, as a musician would; return the first token that is not thinned."""
    total = len(rows)
    stop = int(rng.integers(max(1, total // 4), total + 1))
    kept = KEEP[int(rng.integers(len(KEEP)))](rows[:stop], rng)
    kept &= rows["key"][:stop] < KEYS
    gaps.kept[0, :stop], gaps.thinned[0] = kept, stop
    ends = np.append(np.flatnonzero(kept), stop)
    if stop == total:  # what follows the window is not known: what comes after the last kept note has no future
        ends = ends[:-1]
    gaps.ends[0, ends] = True
    first = np.searchsorted(ends, np.arange(stop), side="right")
    gaps.resume[0, :stop] = np.append(ends, gaps.resume.shape[1] + 1)[first]
    return stop


def _tell(
    rows: Array, onsets: Array, gaps: Gaps, start: int, stop: int, options: WindowOptions, rng: np.random.Generator
) -> None:
    """Tell the tokens from `start` to `stop` of window 0 their density and loudness, or one of them, or none."""
    told = rng.random(2) < options.told_share
    ticks = onsets[min(stop, len(rows) - 1)] - onsets[start] if stop > start else 0
    notes = rows[start:stop]["key"] < KEYS
    if ticks < SHORTEST_TOLD_TICKS or not notes.any():
        return
    if told[0]:
        gaps.density[0, start:stop] = density_class(float(notes.sum()) / float(ticks) * TICKS_PER_SECOND)
    if told[1]:
        gaps.loudness[0, start:stop] = loudness_class(float(rows[start:stop]["velocity"][notes].mean()))


def even_gaps(windows: Sequence[Window], length: int, gap: int) -> Gaps:
    """Cut B windows into gaps of `gap` tokens; a gap that reaches its window's end has no future."""
    gaps = Gaps.none(len(windows), length)
    for row, window in enumerate(windows):
        for stop in range(gap, len(window.rows), gap):
            gaps.add(row, stop - gap, stop)
    return gaps
