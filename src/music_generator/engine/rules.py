"""The rules of writing: what the next token may be, and how a drawn one changes the state of the span.

This is their specification and what the NumPy reference runs; `rules.c` and `write.c` mirror them function by function.
Times are ticks of 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.checks import check_types
from music_generator.engine.mathf import exponential, logarithm
from music_generator.errors import InputError
from music_generator.model.config import LEAST_CHANCE, NO_ONSET
from music_generator.music.tokens import KEYS, NUM_KEYS, RESUME

Array = NDArray[Any]

WRITING, DONE, INVALID = range(3)
MOST_NATS = 100.0  # of `Habituation`
LAGS = 1024  # tokens, the longest distance at which a match is seen
HABITUATION_LAGS = 256  # tokens, the longest distance at which habituation sees a repetition
MATCH_TOKENS = 4  # from this length on, a match makes what came next there likelier
LEAST_MATCH_LAG = 25  # tokens from an event to what it matches, at least: figures go on by themselves
SHIFT_REACH = 4  # classes to either side of a time, with which its probability is compared
f32 = np.float32


@dataclass
class SpanState:
    """The progress of writing a span; the fields and their order are those of `SpanState` in kernel.h.

    Attributes:
        now, last_key: onset and key of the last token.
        start, end: the span; onsets lie in [start, end).
        last_note: onset of the last note, pedals not counted.
        next_note: onset of the future's first note, or the end of the span.
        longest_rest: ticks between the onsets of two notes.
        repeated_key, repeats: the key of the last note, and how often it came in a row; -1 and 0 before the first.
        future_key, future_repeats: the same of the future's first notes.
        longest_repeat: how often one key may come in a row.
        notes_left: how many more notes are wanted; -1 for any number.
        kept_key: key of the kept note with which the span ends, at `end` - 1; -1 if it ends otherwise.
        done: `WRITING`, `DONE`, or `INVALID` if the model produced an invalid token.
        place: how many tokens of the slot's noise have been used.
    """

    now: int
    last_key: int
    start: int
    end: int
    last_note: int
    next_note: int
    longest_rest: int
    repeated_key: int = -1
    repeats: int = 0
    future_key: int = -1
    future_repeats: int = 0
    longest_repeat: int = NO_ONSET
    notes_left: int = -1
    kept_key: int = -1
    done: int = WRITING
    place: int = 0

    @property
    def repeat_limit(self) -> int:
        """The number of times that the last key may come in a row, less those with which the future begins."""
        joins = self.repeated_key == self.future_key and self.future_repeats < self.longest_repeat
        return self.longest_repeat - self.future_repeats if joins else self.longest_repeat


SPAN_DTYPE = np.dtype([(field.name, np.int32) for field in fields(SpanState)])


@dataclass
class Constraints:
    """The limits of the next token.

    Attributes:
        free_from: the first tick at which each key may be struck, (K,); `NO_ONSET` for never.
        earliest, latest: the shift, in ticks.
        may_resume: the gap may end here.
    """

    free_from: Array
    earliest: int = 0
    latest: int = NO_ONSET
    may_resume: bool = False


def constrain(span: SpanState, last_release: Array, has_future: bool) -> Constraints:
    """Return the constraints of the next token; `last_release` (K,) ticks."""
    constraints = Constraints(np.array(last_release))
    begin_at_span_start(span, constraints)
    note_is_due = keep_rests_short(span, has_future, constraints)
    end_before_span_end(span, has_future, constraints)
    keep_keys_in_order(span, constraints)
    keep_repeats_short(span, constraints)
    if note_is_due:
        constraints.free_from[KEYS:] = NO_ONSET
    wait_for_a_key(span, constraints)
    come_before_kept_note(span, constraints)
    return constraints


def begin_at_span_start(span: SpanState, constraints: Constraints) -> None:
    """Let nothing begin before the span does."""
    constraints.earliest = max(0, span.start - span.now)


def end_before_span_end(span: SpanState, has_future: bool, constraints: Constraints) -> None:
    """Let a gap's tokens begin before its end. Without a future, a shift past the end ends the writing."""
    if has_future:
        constraints.latest = min(constraints.latest, span.end - 1 - span.now)


def keep_rests_short(span: SpanState, has_future: bool, constraints: Constraints) -> bool:
    """Limit the time between two notes; return whether a note, and no pedal, is due now.

    A gap may not end while the rest up to the future's first note would be too long. A pedal may come up to one tick
    before a note is due.
    """
    due = span.last_note + span.longest_rest - span.now
    unfinished = has_future and span.now + due < span.next_note
    if unfinished:
        due = min(due, span.end - 1 - span.now)
    constraints.may_resume = has_future and not unfinished
    constraints.latest = min(constraints.latest, max(1, due - 1))
    return due <= 1


def keep_keys_in_order(span: SpanState, constraints: Constraints) -> None:
    """Within one tick, let keys rise: that is the order of tokens."""
    order = constraints.free_from[: span.last_key + 1]
    np.maximum(order, span.now + 1, out=order)


def keep_repeats_short(span: SpanState, constraints: Constraints) -> None:
    """Limit how often one key comes in a row, over the joint with the future too."""
    if span.repeats >= span.repeat_limit:
        constraints.free_from[span.repeated_key] = NO_ONSET


def come_before_kept_note(span: SpanState, constraints: Constraints) -> None:
    """Let only lower keys be struck in the tick of the kept note, or none if none is free; the gap may then be over."""
    if span.kept_key < 0 or (constraints.free_from[: span.kept_key] < span.end).any():
        return
    constraints.latest = min(constraints.latest, span.end - 2 - span.now)
    constraints.may_resume = constraints.may_resume or constraints.latest < constraints.earliest


def too_high(span: SpanState, onset: int) -> int:
    """Return the lowest key that may not be struck at a tick because a kept note comes first; `NUM_KEYS` if all may."""
    return span.kept_key if span.kept_key >= 0 and onset == span.end - 1 else NUM_KEYS


def wait_for_a_key(span: SpanState, constraints: Constraints) -> None:
    """Let no held key be struck: wait until one is free, if need be past `latest`."""
    soonest = int(constraints.free_from.min())
    constraints.earliest = max(constraints.earliest, soonest - span.now)
    constraints.latest = max(constraints.latest, constraints.earliest)


@dataclass(frozen=True)
class Habituation:
    """The habituation to figures, so that nothing goes in circles without end.

    For each lag it is counted, fading, how often a key was the one that many tokens before.

    Attributes:
        above: the count from which on the key that a lag says next is made less likely.
        nats: taken off its logit for each count above.
        window: tokens in which a count fades by e.
    """

    above: float = 16.0
    nats: float = 0.15
    window: float = 64.0

    def __post_init__(self) -> None:
        check_types(self)
        if not (self.above >= 0 and 0 <= self.nats <= MOST_NATS and self.window >= 1):
            raise InputError(
                f"`habituation` must have `above` of at least 0, `nats` of 0 to {MOST_NATS:g} and `window` of at least "
                f"1, not {self.above}, {self.nats} and {self.window}"
            )

    @property
    def keep(self) -> float:
        """The share of a count that is left after a token."""
        return 1 - 1 / self.window


def count_key(recent_keys: Array, lag_counts: Array, match_lengths: Array, key: int, keep: np.float32) -> None:
    """Count a token's key at all lags and make it the latest of the recent ones; all arrays are changed in place.

    Args:
        recent_keys: the keys of the last tokens, the latest first; -1 where there is none, (LAGS,).
        lag_counts: how often the key was the one that many tokens before, fading, (HABITUATION_LAGS,).
        match_lengths: how many of the last tokens in a row had the key that came that many tokens before, (LAGS,).
        key: of the token.
        keep: what is left of a count.
    """
    same = recent_keys == key
    lag_counts *= keep
    lag_counts += same[:HABITUATION_LAGS]
    match_lengths[:] = np.where(same, match_lengths + 1, 0)
    recent_keys[1:], recent_keys[0] = recent_keys[:-1].copy(), key


def returning_key(recent_keys: Array, match_lengths: Array) -> int:
    """Return the key that came next where the longest match is, the latest of several; -1 if none is long enough.

    What a model writes returns less surely than music by people, in which it finds the way on as often as they do: its
    returns are not exact, so that those places differ which all fit. The longest match decides between them.
    """
    far = match_lengths[LEAST_MATCH_LAG - 1 :]
    found = int(far.argmax())
    return int(recent_keys[LEAST_MATCH_LAG - 1 + found]) if far[found] >= MATCH_TOKENS else -1


def sharpened_times(logits: Array) -> Array:
    """Return the logits of the times from one group to the next, with each peak of their distribution made narrower.

    Notes are a little early or late by every shift that is drawn, and the pulse wavers by all of them together. So each
    probability p becomes p · p / q, where q is that of its neighbourhood, and then each neighbourhood is given back the
    share that it had: how long or short the times are stays, since long ones are rare and weigh much.

    Args:
        logits: of the classes of times after those within a group, float32 of any length (T,).
    """
    most = logits.max()
    chances = np.maximum(exponential(logits - most), f32(LEAST_CHANCE))
    squares = chances * chances
    sharp = squares / _of_neighbourhood(squares / _of_neighbourhood(chances))
    return np.asarray(logarithm(sharp) + most)


def _of_neighbourhood(chances: Array) -> Array:
    """Return the sum of each value and its neighbours, the nearer with the greater weight."""
    padded, sums = np.pad(chances, SHIFT_REACH), np.zeros_like(chances)
    for i in range(2 * SHIFT_REACH + 1):  # in this order, as the kernel adds
        sums += f32(SHIFT_REACH + 1 - abs(i - SHIFT_REACH)) * padded[i : i + len(chances)]
    return sums


def tiredness(recent_keys: Array, lag_counts: Array, above: np.float32, nats: np.float32) -> Array:
    """Return what habituation takes off the logit of each key: (K,)."""
    taken = np.zeros(NUM_KEYS, f32)
    over = np.flatnonzero((lag_counts > above) & (recent_keys[:HABITUATION_LAGS] >= 0))
    np.maximum.at(taken, recent_keys[over], (lag_counts[over] - above) * nats)
    return taken


def accept(span: SpanState, shift_class: int, key: int, shift_ticks: int, duration_ticks: int) -> bool:
    """Take a drawn token into the state of the span; return whether it is one, or the writing is done instead."""
    now = span.now + shift_ticks
    span.place += 1
    if shift_class >= RESUME:
        span.done = DONE
        return False
    if now < span.now or (now == span.now and key <= span.last_key) or duration_ticks < 0:
        span.done = INVALID  # with such tokens, writing might never end
        return False
    if now >= span.end:
        span.done = DONE
        return False
    span.now, span.last_key = now, key
    if key < KEYS:
        span.last_note = now
        span.repeats = span.repeats + 1 if key == span.repeated_key else 1
        span.repeated_key = key
        if span.notes_left > 0:
            span.notes_left -= 1
            span.done = DONE if span.notes_left == 0 else span.done
    return True


def repeats_at_end(keys: Array) -> tuple[int, int]:
    """Return the last of some keys and how often it came in a row; (-1, 0) if there are none."""
    if not len(keys):
        return -1, 0
    other = np.flatnonzero(keys != keys[-1])
    return int(keys[-1]), len(keys) - (int(other[-1]) + 1 if len(other) else 0)
