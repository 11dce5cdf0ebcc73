"""Does the music copy its training set, more than humans copy each other?

A piece is taken as the line of its notes in order, those struck together (within 30 ms of the one before) from the
lowest up, and the line as its intervals: so a copy is found in any key and at any tempo. At each note the longest run
of notes that stands somewhere in the training set is measured, exactly and with all its occurrences. Common figures
(scales, trills, repeated chords) occur everywhere, so the same is measured for held-out pieces that humans played:
music copies too much where its runs are longer than theirs (after Yin, Reuben, Stepney & Collins 2022, "Measuring when
a music generation algorithm copies too much", SN Computer Science 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.data.corpus import Corpus
from music_generator.music.tokens import KEYS, TICKS_PER_SECOND

Array = NDArray[Any]

TOGETHER_TICKS = 3
WINDOWS = (8, 16, 32)  # notes
PERCENTILE = 95
LONGEST_SHOWN = 40  # notes, of the curve

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of Fibonacci hashing
_FOLD = np.uint64(29)
_MARKS = 22  # bits of a hash that the marks tell apart


@dataclass(frozen=True)
class Lines:
    """The notes of several pieces in order, end to end.

    `steps`: semitones to the next note; `room`: how many notes of the same piece follow; `piece`, `tick`: where it is.
    """

    steps: Array  # (N,) int16
    room: Array  # (N,) int32
    piece: Array  # (N,) int32
    tick: Array  # (N,) int64 from the first piece's start

    def __len__(self) -> int:
        return len(self.steps)


def lines(rows: Array, lengths: Sequence[int] | Array) -> Lines:
    """The lines of token rows (`TOKEN_DTYPE` or `STORED_DTYPE`) of pieces end to end, of so many rows each."""
    is_note = rows["key"] < KEYS
    piece = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[is_note]
    tick = np.cumsum(rows["shift"], dtype=np.int64)[is_note]
    key = rows["key"][is_note].astype(np.int64)
    starts = np.diff(piece, prepend=-1) != 0
    apart = starts | (np.diff(tick, prepend=0) > TOGETHER_TICKS)
    order = np.argsort(np.cumsum(apart) * 128 + key)  # chords do not cross pieces, so `piece` keeps its order
    steps = np.diff(key[order], append=0).astype(np.int16)
    ends = np.append(np.flatnonzero(starts)[1:], len(piece)) if len(piece) else np.empty(0, np.int64)
    last = np.repeat(ends, np.diff(ends, prepend=0)) - 1
    return Lines(steps, (last - np.arange(len(piece))).astype(np.int32), piece, tick[order])


def lines_of(pieces: Sequence[Array]) -> Lines:
    """The lines of several pieces' token rows."""
    return lines(np.concatenate(pieces), [len(rows) for rows in pieces])


def training_lines(corpus: Corpus) -> Lines:
    """The lines of the train split."""
    chosen = corpus.split("train")
    keep = np.zeros(len(corpus.rows), bool)
    for i in chosen:
        keep[corpus.offsets[i] : corpus.offsets[i + 1]] = True
    return lines(np.asarray(corpus.rows)[keep], [corpus.pieces[i].rows for i in chosen])


@dataclass
class _Grams:
    """The places of a line whose next `length` steps are still sought, and the hash of those steps."""

    line: Lines
    places: Array
    hashes: Array

    def lengthen(self, length: int) -> None:
        """Take in one step more, where the piece has one."""
        self.keep(self.line.room[self.places] >= length)
        step = self.line.steps[self.places + (length - 1)].astype(np.uint64)
        self.hashes = (self.hashes + step + np.uint64(1)) * _MULTIPLIER
        self.hashes ^= self.hashes >> _FOLD

    def keep(self, some: Array) -> None:
        self.places, self.hashes = self.places[some], self.hashes[some]


def _all_grams(line: Lines) -> _Grams:
    return _Grams(line, np.arange(len(line)), np.zeros(len(line), np.uint64))


def longest_runs(music: Lines, training: Lines) -> Array:
    """At each note of `music`: how many notes from it on stand, in any key, in the training set; at least 1.

    Longer and longer grams are sought; a place is given up, in both, when its gram is not found in the other (64-bit
    hashes stand for the grams).
    """
    runs = np.ones(len(music), np.int64)
    sought, there = _all_grams(music), _all_grams(training)
    length = 0
    while len(sought.places) and len(there.places):
        length += 1
        sought.lengthen(length)
        there.lengthen(length)
        marks = np.zeros(1 << _MARKS, bool)
        marks[sought.hashes >> np.uint64(64 - _MARKS)] = True
        there.keep(marks[there.hashes >> np.uint64(64 - _MARKS)])
        sought.keep(_found(sought.hashes, np.sort(there.hashes)))
        runs[sought.places] = length + 1
    return runs


def _found(values: Array, ordered: Array) -> Array:
    """Which of `values` are among the `ordered` ones."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[at] == values)


def find_run(steps: Array, training: Lines) -> int:
    """The first place in the training set where these steps (semitones) stand; -1 if there is none."""
    places = np.flatnonzero(training.room >= len(steps))
    for i, step in enumerate(steps):
        places = places[training.steps[places + i] == step]
    return int(places[0]) if len(places) else -1


def best_matches(runs: Array, room: Array, window: int) -> Array:
    """Of each window of so many notes: the longest run within it that stands in the training set, in notes."""
    first = np.flatnonzero(room >= window - 1)
    best = np.zeros(len(first), np.int64)
    for i in range(window):
        best = np.maximum(best, np.minimum(runs[first + i], window - i))
    return best


def share_found(runs: Array, room: Array) -> Array:
    """The share of all runs of n notes that stand in the training set, n = 1 … `LONGEST_SHOWN`; nan without any."""
    shares = np.full(LONGEST_SHOWN, np.nan)
    for n in range(1, LONGEST_SHOWN + 1):
        long_enough = room >= n - 1
        if long_enough.any():
            shares[n - 1] = float((runs[long_enough] >= n).mean())
    return shares


@dataclass(frozen=True)
class Copying:
    """How much one set of music has of the training set. `percentiles`: of each window's best match, in notes."""

    notes: int
    percentile_run: float
    percentiles: dict[int, float]
    whole: dict[int, float]  # the share of windows found as a whole
    longest: int
    longest_piece: int  # which of the set's pieces
    longest_from: int  # and where in the training lines
    shares: Array


def copying(pieces: Sequence[Array], training: Lines) -> Copying:
    """The copying of music as token rows, one array a piece; there must be some notes."""
    music = lines_of(pieces)
    runs = longest_runs(music, training)
    at = int(np.argmax(runs))
    long_enough = {n: best_matches(runs, music.room, n) for n in WINDOWS if (music.room >= n - 1).any()}
    return Copying(
        notes=len(music),
        percentile_run=_percentile(runs),
        percentiles={n: _percentile(best) for n, best in long_enough.items()},
        whole={n: float((best == n).mean()) for n, best in long_enough.items()},
        longest=int(runs[at]),
        longest_piece=int(music.piece[at]),
        longest_from=find_run(music.steps[at : at + int(runs[at]) - 1], training),
        shares=share_found(runs, music.room),
    )


def _percentile(values: Array) -> float:
    return float(np.percentile(values, PERCENTILE, method="inverted_cdf"))


def copies_no_more(music: Copying, control: Copying) -> bool:
    """Whether the 95th percentiles, of the runs and of each window's best match, are at or below the control's."""
    common = music.percentiles.keys() & control.percentiles.keys()
    return music.percentile_run <= control.percentile_run and all(
        music.percentiles[n] <= control.percentiles[n] for n in common
    )


def place_in_training(corpus: Corpus, training: Lines, place: int) -> dict[str, Any]:
    """The piece and the second of a place in the training lines."""
    piece = int(training.piece[place])
    first = int(np.searchsorted(training.piece, piece))
    facts = corpus.pieces[corpus.split("train")[piece]]
    seconds = float(training.tick[place] - training.tick[first]) / TICKS_PER_SECOND
    return {"composer": facts.composer, "title": facts.title, "path": facts.path, "seconds": round(seconds, 2)}
