"""Structure of music: whether anything returns, how steady the pulse is, how music repeats itself, how it ends.

Overlaps of local statistics see none of it. Each measure is of one performance; the last functions compare a sample
with held-out humans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from music_generator.evaluation.originality import lines_of
from music_generator.evaluation.overlap import overlap
from music_generator.evaluation.report import (
    EndingFeature,
    Endings,
    LeftOut,
    MatchLength,
    MusicStructure,
    Skipped,
    Spread,
    StructureComparison,
)
from music_generator.evaluation.samples import Sample, human_excerpts, last_onset
from music_generator.music.performance import SUSTAIN, Performance
from music_generator.music.tokens import KEYS, NUM_KEYS, TICKS_PER_SECOND, encode

Array = NDArray[Any]

RUN_NOTES = (6, 8, 12)
CIRCLING_NOTES = 8  # the length of run by which a piece goes in circles
CIRCLING_SHARE = 0.6  # if more of its notes return
RETURN_SECONDS = 5.0  # from the start of a run to that of its return, at least

PULSE_SMOOTHING_TICKS = 9
PULSE_BLOCK_SECONDS = 10.0
PULSE_HOP_SECONDS = 5.0
PULSE_LAG_SECONDS = (0.2, 2.0)

CHAIN_EVENTS = 1200  # at the start of a piece: with more of them behind it, an event has longer matches
MATCH_LENGTHS = (1, 2, 3, 4, 5, 7, 9, 13, 21, 41)  # the shortest of each class

ENDING_SECONDS = 4.0
MIN_SHARE = 0.9  # of the excerpt's length that music must last: less music returns less


def returning_runs(performance: Performance, notes: int = 8) -> float:
    """Return the share of the notes that lie in a returning run.

    The line of a piece is its notes in order, those of a chord (within 30 ms) from the lowest up. A run of `notes`
    notes of it returns if the same intervals, so in any key, occur at least 5 s earlier, and no interval belongs to
    both runs.

    Args:
        performance: An excerpt; returns are looked for in it alone.
        notes: The length of a run, at least 2.

    Returns:
        0 to 1; 0 if there are fewer notes than a run has.
    """
    line = lines_of([encode(performance)])
    length = notes - 1  # in intervals
    if len(line) < notes:
        return 0.0
    runs = sliding_window_view(line.steps[:-1], length)
    _, first, group = np.unique(runs, axis=0, return_index=True, return_inverse=True)
    start, earliest = np.arange(len(runs)), first[group.ravel()]
    later = line.tick[start] - line.tick[earliest]
    returns = (later >= RETURN_SECONDS * TICKS_PER_SECOND) & (start - earliest >= length)
    in_a_run = np.convolve(returns, np.ones(notes))
    return float((in_a_run > 0).mean())


def pulse(performance: Performance) -> float:
    """Return how clearly the music has a pulse: the highest autocorrelation of its onsets at 0.2 to 2 s.

    The onset curve counts the notes in each 10 ms and is smoothed by a Hann window of 90 ms. It is cut into blocks of
    10 s, one every 5 s, whose means are subtracted; the autocorrelation is relative to that at lag 0. The highest value
    of each block is taken, and their mean returned.

    Returns:
        Up to 1; nan if no whole block has notes.
    """
    rows = encode(performance)
    onset = np.cumsum(rows["shift"], dtype=np.int64)[rows["key"] < KEYS]
    size, hop = (int(seconds * TICKS_PER_SECOND) for seconds in (PULSE_BLOCK_SECONDS, PULSE_HOP_SECONDS))
    if not len(onset) or onset[-1] - onset[0] < size:
        return float("nan")
    window = np.hanning(PULSE_SMOOTHING_TICKS)
    curve = np.convolve(np.bincount(onset - onset[0]), window / window.sum(), "same")
    blocks = sliding_window_view(curve, size)[::hop]
    blocks = blocks - blocks.mean(1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(blocks, 2 * size)) ** 2  # padded with zeros, so that nothing wraps around
    correlation = np.fft.irfft(spectrum)[(blocks**2).sum(1) > 0]
    shortest, longest = (round(seconds * TICKS_PER_SECOND) for seconds in PULSE_LAG_SECONDS)
    highest = correlation[:, shortest : longest + 1].max(1) / correlation[:, 0]
    return float(highest.mean()) if len(highest) else float("nan")


@dataclass(frozen=True)
class Chain:
    """How music repeats itself, by the length of match: int64 of shape (10,), as in `MATCH_LENGTHS`.

    Attributes:
        events: Events that follow a match of such a length.
        continued: Those of them that go on as the earlier place did.
    """

    events: Array
    continued: Array


def chain(performance: Performance) -> Chain:
    """Count how often music that repeats itself goes on repeating.

    An event's match is the longest sequence of events that ends right before it and has occurred before, by their keys;
    pedals count as keys, and the two places may overlap. Of several earlier places the latest counts. The event
    continues the match if it has the key that came next there. Events without a match are not counted, nor those after
    the first 1,200 of the piece. Matches are looked for up to 41 events, so a longer one counts as one of 41.
    """
    keys = encode(performance)["key"][:CHAIN_EVENTS].astype(np.int64)
    length, place = _longest_matches(keys)
    at = np.flatnonzero(length)
    kind = np.searchsorted(MATCH_LENGTHS, length[at], side="right") - 1
    continued = keys[place[at]] == keys[at]
    counts = (np.bincount(some, minlength=len(MATCH_LENGTHS)) for some in (kind, kind[continued]))
    return Chain(*counts)


def _longest_matches(keys: Array) -> tuple[Array, Array]:
    """Return the length of each event's match, 0 if there is none, and the event that came next at its earlier place.

    Sequences are compared by their ranks: that of a longer one comes from its first key and the rank of the rest.
    """
    length, place = np.zeros((2, len(keys)), np.int64)
    rank = np.zeros(len(keys) + 1, np.int64)  # of the sequence of n events before each event, and before the end
    for n in range(1, min(MATCH_LENGTHS[-1], len(keys) - 1) + 1):
        # before the event n + i stand the events i … i + n - 1; the first event of a piece has none before it
        _, rank = np.unique(rank[1:] * NUM_KEYS + keys[: len(rank) - 1], return_inverse=True)
        previous = _previous_equal(rank[:-1])
        found = np.flatnonzero(previous >= 0)
        if not len(found):
            break
        length[n + found], place[n + found] = n, n + previous[found]
    return length, place


def _previous_equal(values: Array) -> Array:
    """Return the place of the nearest equal value before each one, or -1."""
    order = np.argsort(values, kind="stable")
    equal = np.diff(values[order]) == 0
    previous: Array = np.full(len(values), -1)
    previous[order[1:][equal]] = order[:-1][equal]
    return previous


# --- endings: of a piece that has a note


def _last_sound(performance: Performance) -> float:
    """Return the seconds from the last onset until all keys are released, and the sustain pedal if it is down then."""
    notes, sustain = performance.notes, performance.pedals[performance.pedals["pedal"] == SUSTAIN]
    released = (notes["onset"] + notes["duration"]).max()
    lifted = (sustain["onset"] + sustain["duration"])[sustain["onset"] <= released]
    return float(max(released, lifted.max(initial=0.0)) - notes["onset"][-1])


def _last_notes(performance: Performance) -> Array:
    """Return the notes of the last 4 s up to the last onset."""
    last: Array = performance.notes[performance.notes["onset"] > last_onset(performance) - ENDING_SECONDS]
    return last


def _last_notes_per_second(performance: Performance) -> float:
    onset = performance.notes["onset"]
    seconds = max(float(onset[-1] - onset[0]), ENDING_SECONDS)
    return (len(_last_notes(performance)) / ENDING_SECONDS) / (len(onset) / seconds)


def _last_loudness(performance: Performance) -> float:
    return float(_last_notes(performance)["velocity"].mean() / performance.notes["velocity"].mean())


ENDINGS: dict[str, Callable[[Performance], float]] = {
    "last_sound": _last_sound,
    "notes_per_second": _last_notes_per_second,  # of the last 4 s, divided by the piece's
    "loudness": _last_loudness,  # mean velocity of the last 4 s, divided by the piece's
}


def ending_features(pieces: Sequence[Performance]) -> dict[str, Array]:
    """Compute each of `ENDINGS` for each whole piece: float64 of shape (pieces,) by name, all above 0."""
    return {name: np.array([measure(piece) for piece in pieces]) for name, measure in ENDINGS.items()}


# --- a sample compared with humans


def spread(values: Array) -> Spread:
    """Return mean, median and percentiles of values; there must be one at least."""
    return Spread(float(values.mean()), *(float(value) for value in np.percentile(values, (50, 5, 95))))


def music_structure(pieces: Sequence[Performance]) -> MusicStructure:
    """Measure excerpts of the same length; there must be one at least."""
    returning = {notes: np.array([returning_runs(piece, notes) for piece in pieces]) for notes in RUN_NOTES}
    pulses = np.array([pulse(piece) for piece in pieces])
    known = pulses[~np.isnan(pulses)]
    return MusicStructure(
        pieces=len(pieces),
        returning_runs={notes: spread(shares) for notes, shares in returning.items()},
        circling=float((returning[CIRCLING_NOTES] > CIRCLING_SHARE).mean()),
        pulse=spread(known) if len(known) else None,
        chain=_match_lengths([chain(piece) for piece in pieces]),
    )


def _match_lengths(chains: Sequence[Chain]) -> list[MatchLength]:
    events, continued = (sum(getattr(each, name) for each in chains) for name in ("events", "continued"))
    longest = [length - 1 for length in MATCH_LENGTHS[1:]] + [None]
    return [
        MatchLength(low, high, int(n), float(n / max(events.sum(), 1)), float(m / n) if n else None)
        for low, high, n, m in zip(MATCH_LENGTHS, longest, events, continued, strict=True)
    ]


def compare_structure(
    sample: Sample, pieces: Sequence[Performance], start: float, seconds: float
) -> StructureComparison | Skipped:
    """Measure the first `seconds` of a sample's pieces and the same of held-out pieces.

    Args:
        sample: Pieces; those that last less than nine tenths of `seconds` are left out.
        pieces: Whole held-out pieces.
        start: Second from which excerpts of the held-out pieces start.
        seconds: Length of the excerpts.
    """
    human, shortest = human_excerpts(pieces, start, seconds), MIN_SHARE * seconds
    lengths = [last_onset(each) for each in sample.performances]
    generated = [each for each, at in zip(sample.excerpts(seconds), lengths, strict=True) if at >= shortest]
    if not human:
        return Skipped(f"no held-out piece lasts until second {start + seconds:g}; `--seconds` compares less music")
    if not generated:
        last = f"the last note of all is at {max(lengths):.1f} s"
        return Skipped(
            f"none of the {len(sample)} performances lasts {shortest:g} s: {last}; `--seconds` compares less music"
        )
    left_out = tuple(
        LeftOut(name, f"its last note is at {at:.1f} s, before {shortest:g} s")
        for name, at in zip(sample.names, lengths, strict=True) if at < shortest
    )  # fmt: skip
    return StructureComparison(start, seconds, left_out, music_structure(human), music_structure(generated))


def compare_endings(
    sample: Sample, reference: Sequence[Performance], others: Sequence[Performance]
) -> Endings | Skipped:
    """Compare the ends of a sample's pieces, and of the other half of the held-out pieces, with the reference half's.

    The overlap area is that of the densities of the features themselves: distances between pieces would hide that all
    pieces of a sample end alike. The scale is logarithmic, since all features are above 0 and some are rarely large.
    """
    sets = [[piece for piece in some if len(piece)] for some in (reference, others, sample.performances)]
    if not all(sets):
        return Skipped("each half of the held-out pieces must have one with notes, and so must what is measured")
    there, theirs, ours = (ending_features(some) for some in sets)
    features = {
        name: EndingFeature(
            overlap=overlap(np.log2(there[name]), np.log2(ours[name])).area,
            human_overlap=overlap(np.log2(there[name]), np.log2(theirs[name])).area,
            generated=spread(ours[name]),
            human=spread(theirs[name]),
        )
        for name in ENDINGS
    }
    return Endings(
        reference=len(sets[0]),
        human=len(sets[1]),
        performances=len(sets[2]),
        features=features,
        mean_overlap=float(np.mean([each.overlap for each in features.values()])),
        human_mean_overlap=float(np.mean([each.human_overlap for each in features.values()])),
    )
