"""Measure how much music copies from its training set, compared with how much humans copy from each other.

A piece is the sequence of its notes in order of onset, a chord's (each within 30 ms of the one before) from the lowest
up. The sequence is compared by its intervals, so a copy is found in any key and at any tempo. For each note, the
longest run of notes from it on that occurs anywhere in the training set is measured, exactly. Common figures (scales,
trills, repeated chords) occur everywhere, so held-out pieces that humans played are measured, too: music copies too
much where its runs are longer than theirs (after Yin, Reuben, Stepney & Collins 2022, "Measuring when a music
generation algorithm copies too much", SN Computer Science 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.data.corpus import Corpus, Piece
from music_generator.evaluation.report import Copying, Place
from music_generator.music.tokens import KEYS, TICKS_PER_SECOND

Array = NDArray[Any]

CHORD_TICKS = 3  # between two notes of a chord, at most
WINDOW_NOTES = (8, 16, 32)
PERCENTILE = 95
CURVE_NOTES = 40  # the longest run of the curve

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of Fibonacci hashing
_FOLD = np.uint64(29)
_MARKS = 22  # bits of a hash that the marks tell apart


@dataclass(frozen=True)
class Lines:
    """The N notes of several pieces in order, end to end.

    Attributes:
        steps: (N,) int16, semitones to the next note.
        room: (N,) int32, the number of notes that follow in the same piece.
        piece: (N,) int32, the index of the piece.
        tick: (N,) int64, onset from the first piece's start.
        sources: The pieces, where they are of a corpus.
    """

    steps: Array
    room: Array
    piece: Array
    tick: Array
    sources: tuple[Piece, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)


def lines(rows: Array, lengths: Sequence[int] | Array) -> Lines:
    """Return the lines of pieces.

    Args:
        rows: `TOKEN_DTYPE` or `STORED_DTYPE`, of all pieces end to end.
        lengths: The number of rows of each piece.
    """
    is_note = rows["key"] < KEYS
    piece = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[is_note]
    tick = np.cumsum(rows["shift"], dtype=np.int64)[is_note]
    key = rows["key"][is_note].astype(np.int64)
    starts = np.diff(piece, prepend=-1) != 0
    apart = starts | (np.diff(tick, prepend=0) > CHORD_TICKS)
    order = np.argsort(np.cumsum(apart) * 128 + key)  # chords do not cross pieces, so `piece` keeps its order
    steps = np.diff(key[order], append=0).astype(np.int16)
    ends = np.append(np.flatnonzero(starts)[1:], len(piece)) if len(piece) else np.empty(0, np.int64)
    last = np.repeat(ends, np.diff(ends, prepend=0)) - 1
    return Lines(steps, (last - np.arange(len(piece))).astype(np.int32), piece, tick[order])


def lines_of(pieces: Sequence[Array]) -> Lines:
    """Return the lines of pieces' token rows."""
    return lines(np.concatenate(pieces), [len(rows) for rows in pieces])


def training_lines(corpus: Corpus) -> Lines:
    """Return the lines of a corpus's train split."""
    chosen = corpus.split("train")
    keep = np.zeros(len(corpus.rows), bool)
    for i in chosen:
        keep[corpus.offsets[i] : corpus.offsets[i + 1]] = True
    sources = tuple(corpus.pieces[i] for i in chosen)
    return replace(lines(np.asarray(corpus.rows)[keep], [piece.rows for piece in sources]), sources=sources)


@dataclass
class _Grams:
    """Places of lines from which a longer gram may still match, and the hashes of their grams.

    A gram is the steps from a place on.
    """

    line: Lines
    places: Array
    hashes: Array

    def lengthen(self, length: int) -> None:
        """Lengthen each gram to `length` steps; drop the places whose piece has fewer left."""
        self.keep(self.line.room[self.places] >= length)
        step = self.line.steps[self.places + (length - 1)].astype(np.uint64)
        self.hashes = (self.hashes + step + np.uint64(1)) * _MULTIPLIER
        self.hashes ^= self.hashes >> _FOLD

    def keep(self, some: Array) -> None:
        self.places, self.hashes = self.places[some], self.hashes[some]


def _all_grams(line: Lines) -> _Grams:
    return _Grams(line, np.arange(len(line)), np.zeros(len(line), np.uint64))


def longest_runs(music: Lines, training: Lines) -> Array:
    """Return the length of the longest run from each note on that occurs, in any key, in the training set.

    Grams grow by one step at a time. A place is dropped, in both, when its gram does not occur in the other; 64-bit
    hashes stand for the grams.

    Returns:
        (N,) int64, in notes, at least 1.
    """
    runs = np.ones(len(music), np.int64)
    ours, theirs = _all_grams(music), _all_grams(training)
    length = 0
    while len(ours.places) and len(theirs.places):
        length += 1
        ours.lengthen(length)
        theirs.lengthen(length)
        marks = np.zeros(1 << _MARKS, bool)
        marks[ours.hashes >> np.uint64(64 - _MARKS)] = True
        theirs.keep(marks[theirs.hashes >> np.uint64(64 - _MARKS)])
        ours.keep(_is_in(ours.hashes, np.sort(theirs.hashes)))
        runs[ours.places] = length + 1
    return runs


def _is_in(values: Array, ordered: Array) -> Array:
    """Return which of the values are among the ordered ones."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[at] == values)


def find_run(steps: Array, training: Lines) -> int:
    """Return the first place in the training set where these steps (semitones) occur; -1 if there is none."""
    places = np.flatnonzero(training.room >= len(steps))
    for i, step in enumerate(steps):
        places = places[training.steps[places + i] == step]
    return int(places[0]) if len(places) else -1


def best_matches(runs: Array, room: Array, window: int) -> Array:
    """Return the longest run, in notes, within each window of `window` notes; `runs` and `room` are of each note."""
    first = np.flatnonzero(room >= window - 1)
    best = np.zeros(len(first), np.int64)
    for i in range(window):
        best = np.maximum(best, np.minimum(runs[first + i], window - i))
    return best


def share_found(runs: Array, room: Array) -> Array:
    """Return the share of runs of n notes that occur in the training set, n = 1 … `CURVE_NOTES`; nan without runs."""
    shares = np.full(CURVE_NOTES, np.nan)
    for n in range(1, CURVE_NOTES + 1):
        long_enough = room >= n - 1
        if long_enough.any():
            shares[n - 1] = float((runs[long_enough] >= n).mean())
    return shares


def copying(pieces: Sequence[Array], training: Lines) -> Copying:
    """Measure how much of music is in the training set.

    Args:
        pieces: Token rows of each piece; there must be notes.
        training: The training set.
    """
    music = lines_of(pieces)
    runs = longest_runs(music, training)
    at = int(np.argmax(runs))
    longest = int(runs[at])
    best = {n: best_matches(runs, music.room, n) for n in WINDOW_NOTES if (music.room >= n - 1).any()}
    return Copying(
        notes=len(music),
        percentile_95_of_runs=_percentile(runs),
        percentile_95_of_best_match={n: _percentile(matches) for n, matches in best.items()},
        windows_found_whole={n: float((matches == n).mean()) for n, matches in best.items()},
        longest_run=longest,
        longest_run_in_piece=int(music.piece[at]),
        longest_run_from=_place(training, music.steps[at : at + longest - 1]) if longest > 1 else None,
        share_of_runs_found=share_found(runs, music.room).tolist(),
    )


def _place(training: Lines, steps: Array) -> Place | None:
    """Return the first place of some steps in the training set, if its pieces are known."""
    place = find_run(steps, training)
    if place < 0 or not training.sources:
        return None
    piece = int(training.piece[place])
    first = int(np.searchsorted(training.piece, piece))
    source = training.sources[piece]
    seconds = float(training.tick[place] - training.tick[first]) / TICKS_PER_SECOND
    return Place(source.composer, source.title, source.path, round(seconds, 2))


def _percentile(values: Array) -> float:
    return float(np.percentile(values, PERCENTILE, method="inverted_cdf"))


def copies_no_more(music: Copying, control: Copying) -> bool:
    """Return whether the 95th percentiles, of runs and of each window's best match, are at most the control's."""
    ours, theirs = music.percentile_95_of_best_match, control.percentile_95_of_best_match
    return music.percentile_95_of_runs <= control.percentile_95_of_runs and all(
        ours[n] <= theirs[n] for n in ours.keys() & theirs.keys()
    )
