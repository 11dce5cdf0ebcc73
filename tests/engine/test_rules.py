"""The rules of writing, each by hand; together they always leave something to play, and the kernel has the same."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from some_slots import fill_slot, some_tensors

from music_generator.engine import kernel
from music_generator.engine.kernel import Kernel
from music_generator.engine.reference import Reference
from music_generator.engine.rules import (
    DONE,
    HABITUATION_LAGS,
    INVALID,
    LAGS,
    LEAST_MATCH_LAG,
    MATCH_TOKENS,
    SHIFT_REACH,
    SPAN_DTYPE,
    WRITING,
    Constraints,
    Habituation,
    SpanState,
    accept,
    begin_at_span_start,
    come_before_kept_note,
    constrain,
    count_key,
    end_before_span_end,
    keep_keys_in_order,
    keep_repeats_short,
    keep_rests_short,
    repeats_at_end,
    returning_key,
    sharpened_times,
    tiredness,
    too_high,
    wait_for_a_key,
)
from music_generator.engine.slots import CLASS_SLICES, Slots
from music_generator.errors import InputError
from music_generator.model.config import NO_ONSET, ModelConfig
from music_generator.model.pack import LinearShape
from music_generator.music.tokens import END, KEYS, NUM_KEYS, RESUME, SHIFT_BINS, Array

NOW = 1000
SPAN = SpanState(NOW, 40, NOW, NOW + 500, NOW, NOW + 500, 400)
"""At tick 1000, after a note on key 40; 5 s to be written, a note at least every 4 s."""


def free() -> Constraints:
    """No key has been struck."""
    return Constraints(np.full(NUM_KEYS, -NO_ONSET, np.int32))


# --- each rule


@pytest.mark.parametrize(("start", "earliest"), [(900, 0), (1000, 0), (1001, 1), (1300, 300)])
def test_nothing_begins_before_the_span(start: int, earliest: int) -> None:
    constraints = free()
    begin_at_span_start(replace(SPAN, start=start), constraints)
    assert (constraints.earliest, constraints.latest) == (earliest, NO_ONSET)


@pytest.mark.parametrize(
    ("end", "has_future", "latest"),
    [(1500, True, 499), (1001, True, 0), (1500, False, NO_ONSET), (1000, True, -1)],
)
def test_a_gap_ends_before_its_end(end: int, has_future: bool, latest: int) -> None:
    """Without a future a shift past the end ends the writing."""
    constraints = free()
    end_before_span_end(replace(SPAN, end=end), has_future, constraints)
    assert constraints.latest == latest
    constraints.latest = 7
    end_before_span_end(replace(SPAN, end=end), has_future, constraints)
    assert constraints.latest == min(7, latest)


@pytest.mark.parametrize(
    ("last_note", "longest_rest", "latest", "is_due"),
    [
        (1000, 400, 399, False),  # a pedal may come up to one tick before the note
        (800, 400, 199, False),
        (602, 400, 1, False),
        (601, 400, 1, True),
        (600, 400, 1, True),
        (100, 400, 1, True),  # too late: as soon as may be
        (1000, 1, 1, True),
        (1000, NO_ONSET, NO_ONSET - 1, False),
    ],
)
def test_rests_are_short(last_note: int, longest_rest: int, latest: int, is_due: bool) -> None:
    constraints, span = free(), replace(SPAN, last_note=last_note, longest_rest=longest_rest)
    assert keep_rests_short(span, False, constraints) == is_due
    assert constraints.latest == latest
    assert not constraints.may_resume


@pytest.mark.parametrize(
    ("last_note", "next_note", "end", "may_resume", "latest", "is_due"),
    [
        (1000, 1400, 1400, True, 399, False),  # the future's first note comes in time
        (1000, 1401, 1401, False, 399, False),  # one tick too late: another note first
        (1000, 1900, 1500, False, 399, False),
        (900, 1400, 1400, False, 299, False),
        (1000, 1401, 1300, False, 298, False),  # and that within the span
        (1000, 1401, 1002, False, 1, True),
        (1000, 1401, 1001, False, 1, True),
        (700, 1050, 1050, True, 99, False),
        (600, 1001, 1001, False, 1, True),
    ],
)
def test_a_gap_ends_when_the_rest_to_the_future_is_short(
    last_note: int, next_note: int, end: int, may_resume: bool, latest: int, is_due: bool
) -> None:
    constraints, span = free(), replace(SPAN, last_note=last_note, next_note=next_note, end=end)
    assert keep_rests_short(span, True, constraints) == is_due
    assert (constraints.may_resume, constraints.latest) == (may_resume, latest)


@pytest.mark.parametrize("last_key", [-1, 0, 40, NUM_KEYS - 1])
def test_keys_rise_within_a_tick(last_key: int) -> None:
    constraints = free()
    constraints.free_from[:2] = NOW + 50  # held for longer
    keep_keys_in_order(replace(SPAN, last_key=last_key), constraints)
    wanted = free().free_from
    wanted[: last_key + 1] = NOW + 1
    wanted[:2] = NOW + 50
    np.testing.assert_array_equal(constraints.free_from, wanted)


@pytest.mark.parametrize(
    ("changes", "blocked"),
    [
        ({"repeated_key": 40, "repeats": 7, "longest_repeat": 8}, False),
        ({"repeated_key": 40, "repeats": 8, "longest_repeat": 8}, True),
        ({"repeated_key": 40, "repeats": 20, "longest_repeat": 8}, True),
        ({"repeated_key": 40, "repeats": 1, "longest_repeat": 1}, True),
        # over the joint with the future
        ({"repeated_key": 40, "repeats": 4, "longest_repeat": 8, "future_key": 40, "future_repeats": 3}, False),
        ({"repeated_key": 40, "repeats": 5, "longest_repeat": 8, "future_key": 40, "future_repeats": 3}, True),
        ({"repeated_key": 40, "repeats": 5, "longest_repeat": 8, "future_key": 41, "future_repeats": 3}, False),
        # the future's own repeats are as long as may be: it cannot be helped
        ({"repeated_key": 40, "repeats": 5, "longest_repeat": 8, "future_key": 40, "future_repeats": 8}, False),
        ({"repeated_key": -1, "repeats": 0, "longest_repeat": 1}, False),
        ({"repeated_key": -1, "repeats": 0, "longest_repeat": 1, "future_key": -1, "future_repeats": 0}, False),
    ],
)
def test_repeats_are_short(changes: dict[str, int], blocked: bool) -> None:
    constraints = free()
    keep_repeats_short(replace(SPAN, **changes), constraints)
    wanted = free().free_from
    if blocked:
        wanted[40] = NO_ONSET
    np.testing.assert_array_equal(constraints.free_from, wanted)


@pytest.mark.parametrize(
    ("free_from", "earliest", "latest", "wanted"),
    [
        ([-NO_ONSET, 2000], 0, 100, (0, 100)),
        ([1030, 2000], 0, 100, (30, 100)),
        ([1030, 2000], 50, 100, (50, 100)),
        ([1300, 2000], 0, 100, (300, 300)),  # past the latest if need be
        ([-NO_ONSET, 2000], 40, 7, (40, 40)),  # nothing begins before the span
        ([NO_ONSET, NO_ONSET], 0, 100, (NO_ONSET - NOW, NO_ONSET - NOW)),
    ],
)
def test_the_shift_waits_for_a_key(free_from: list[int], earliest: int, latest: int, wanted: tuple[int, int]) -> None:
    constraints = Constraints(np.resize(np.array(free_from, np.int32), NUM_KEYS), earliest, latest)
    wait_for_a_key(SPAN, constraints)
    assert (constraints.earliest, constraints.latest) == wanted


@pytest.mark.parametrize(
    ("kept_key", "free_key", "earliest", "latest", "wanted"),
    [
        (-1, None, 0, 499, (499, False)),  # there is none
        (41, None, 0, 499, (498, False)),  # all below are held: not in its tick
        (41, 40, 0, 499, (499, False)),  # a lower one is free
        (41, 41, 0, 499, (498, False)),  # only its own is
        (41, 60, 0, 499, (498, False)),
        (0, None, 0, 499, (498, False)),  # nothing is lower than the lowest
        (0, None, 499, 499, (498, True)),  # nothing may come any more: the gap is over
        (41, 40, 499, 499, (499, False)),
        (0, None, 900, 900, (498, True)),
    ],
)
def test_only_lower_keys_come_in_the_tick_of_a_kept_note(
    kept_key: int, free_key: int | None, earliest: int, latest: int, wanted: tuple[int, bool]
) -> None:
    """It is struck at tick 1499, and the gap before it ends at 1500."""
    constraints = Constraints(np.full(NUM_KEYS, 1500), earliest, latest)
    if free_key is not None:
        constraints.free_from[free_key] = 1499
    come_before_kept_note(replace(SPAN, kept_key=kept_key), constraints)
    assert (constraints.latest, constraints.may_resume) == wanted


def test_keys_that_are_too_high_in_the_tick_of_a_kept_note() -> None:
    span = replace(SPAN, kept_key=41)
    assert [too_high(span, onset) for onset in (1000, 1498, 1499)] == [NUM_KEYS, NUM_KEYS, 41]
    assert too_high(SPAN, 1499) == NUM_KEYS


def test_nothing_comes_between_kept_notes_a_semitone_apart() -> None:
    """The lower one has been taken at 1000; the upper one comes in the same tick."""
    span = replace(SPAN, last_key=60, end=NOW + 1, next_note=NOW, kept_key=61)
    found = constrain(span, free().free_from, True)
    assert found.latest < found.earliest
    assert found.may_resume
    wider = constrain(replace(span, kept_key=62), free().free_from, True)
    assert (wider.earliest, wider.latest) == (0, 0)
    assert np.flatnonzero(wider.free_from <= NOW)[0] == 61


def test_all_rules_together() -> None:
    """Held keys wait, keys rise; the gap may end; what the caller has given is not changed."""
    last_release = np.full(NUM_KEYS, -NO_ONSET, np.int32)
    last_release[60] = NOW + 90
    given_ = last_release.copy()
    span = replace(SPAN, next_note=1400, end=1400, repeated_key=70, repeats=8, longest_repeat=8)
    found = constrain(span, last_release, True)
    assert (found.earliest, found.latest, found.may_resume) == (0, 399, True)
    wanted = np.full(NUM_KEYS, -NO_ONSET)
    wanted[:41], wanted[60], wanted[70] = NOW + 1, NOW + 90, NO_ONSET
    np.testing.assert_array_equal(found.free_from, wanted)
    np.testing.assert_array_equal(last_release, given_)


@pytest.mark.parametrize("last_note", [601, 602])
def test_no_pedal_comes_when_a_note_is_due(last_note: int) -> None:
    found = constrain(replace(SPAN, last_note=last_note, last_key=-1), free().free_from, False)
    assert (found.free_from[KEYS:] == (NO_ONSET if last_note == 601 else -NO_ONSET)).all()
    assert (found.free_from[:KEYS] == -NO_ONSET).all()


# --- taking a token


def taken(span: SpanState, *token: int) -> tuple[bool, SpanState]:
    span = replace(span)
    return accept(span, *token), span


def test_a_note_is_taken() -> None:
    span = replace(SPAN, repeated_key=60, repeats=2, notes_left=3)
    for key, repeats in ((60, 3), (61, 1)):
        is_token, found = taken(span, 10, key, 30, 5)
        assert is_token
        assert found == replace(
            span, now=1030, last_key=key, last_note=1030, repeated_key=key, repeats=repeats, notes_left=2, place=1
        )


def test_a_pedal_is_no_note() -> None:
    is_token, found = taken(replace(SPAN, repeated_key=60, repeats=2, notes_left=1), 10, KEYS, 30, 5)
    assert is_token
    assert found == replace(SPAN, repeated_key=60, repeats=2, notes_left=1, now=1030, last_key=KEYS, place=1)


def test_the_last_note_that_is_wanted_ends_the_writing() -> None:
    is_token, found = taken(replace(SPAN, notes_left=1), 10, 60, 30, 5)
    assert is_token
    assert (found.done, found.notes_left, found.now) == (DONE, 0, 1030)


@pytest.mark.parametrize(("class_", "shift"), [(RESUME, 3), (END, 3), (RESUME, 0), (10, 500), (10, 501)])
def test_what_ends_the_writing_is_not_taken(class_: int, shift: int) -> None:
    """To resume, whatever else is drawn, to end, or an onset at the span's end or later."""
    is_token, found = taken(SPAN, class_, 60 if shift else 40, shift, 5)
    assert not is_token
    assert found == replace(SPAN, done=DONE, place=1)
    assert taken(SPAN, 10, 60, 499, 5)[0]


@pytest.mark.parametrize(
    "token",
    [
        (0, 60, -1, 5),  # time runs backwards
        (0, 40, 0, 5),  # the same key again in this tick
        (0, 39, 0, 5),
        (0, -1, 0, 5),
        (0, 60, 3, -1),
    ],
)
def test_what_is_no_token_is_told(token: tuple[int, ...]) -> None:
    is_token, found = taken(SPAN, *token)
    assert not is_token
    assert found == replace(SPAN, done=INVALID, place=1)
    assert found.done != WRITING


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [([], (-1, 0)), ([5], (5, 1)), ([5, 5, 5], (5, 3)), ([5, 6, 5, 5], (5, 2)), ([5, 5, 6], (6, 1))],
)
def test_repeats_at_the_end(keys: list[int], wanted: tuple[int, int]) -> None:
    assert repeats_at_end(np.array(keys, np.uint8)) == wanted


# --- habituation


def counted(keys: Array, options: Habituation) -> tuple[Array, Array, Array]:
    recent_keys, lag_counts = np.full(LAGS, -1, np.int32), np.zeros(HABITUATION_LAGS, np.float32)
    match_lengths = np.zeros(LAGS, np.int32)
    for key in keys.tolist():
        count_key(recent_keys, lag_counts, match_lengths, key, np.float32(options.keep))
    return recent_keys, lag_counts, match_lengths


def test_recent_keys_and_how_often_each_lag_repeated() -> None:
    recent_keys, lag_counts, _ = counted(np.array([5, 7, 5, 7, 5]), Habituation(window=2))
    assert recent_keys[:6].tolist() == [5, 7, 5, 7, 5, -1]
    assert lag_counts[:5].tolist() == [0, 1 + 0.5 + 0.25, 0, 1, 0]
    assert not lag_counts[5:].any()


def test_the_key_that_a_lag_says_next_becomes_less_likely() -> None:
    """By nats for each count above the limit; of several lags the most counts."""
    recent_keys, lag_counts = np.full(LAGS, -1, np.int32), np.zeros(HABITUATION_LAGS, np.float32)
    recent_keys[:4], lag_counts[[0, 1, 3, 9]] = (60, 62, 64, 62), (24, 26, 34, 90)
    found = tiredness(recent_keys, lag_counts, np.float32(24), np.float32(0.5))
    assert np.flatnonzero(found).tolist() == [62]  # lag 10 says nothing: there is no event
    assert found[62] == 5
    assert not tiredness(recent_keys, lag_counts, np.float32(90), np.float32(0.5)).any()
    assert not tiredness(recent_keys, lag_counts, np.float32(24), np.float32(0)).any()


@pytest.mark.parametrize("period", [1, 2, 3, 7])
def test_a_circle_tires(period: int) -> None:
    """Whatever the figure is, its next key loses more and more nats, and no other; what does not repeat loses none."""
    options, lost = Habituation(), []
    for count in (15, 100, 700):
        recent_keys, lag_counts, _ = counted(np.arange(count) % period, options)
        taken = tiredness(recent_keys, lag_counts, np.float32(options.above), np.float32(options.nats))
        lost.append(float(taken[count % period]))
        assert np.flatnonzero(taken).tolist() == ([count % period] if lost[-1] else [])
    assert 0 == lost[0] < 2 < lost[1] < lost[2]
    recent_keys, lag_counts, _ = counted(np.random.default_rng(1).integers(0, KEYS, 700), options)
    assert not tiredness(recent_keys, lag_counts, np.float32(options.above), np.float32(options.nats)).any()


# --- times


def bump(centre: float, width: float) -> Array:
    return np.asarray(-0.5 * ((np.arange(110) - centre) / width) ** 2, np.float32)


def chances_of(logits: Array) -> Array:
    chances = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(chances / chances.sum())


def test_the_peaks_of_the_times_become_narrower_and_keep_their_shares() -> None:
    """Two beats that may come next, seven times as far apart as a neighbourhood reaches: 80 % and 20 %."""
    before = np.logaddexp(bump(30, 2) + np.log(0.8), bump(30 + 7 * SHIFT_REACH, 2) + np.log(0.2)).astype(np.float32)
    found = sharpened_times(before)
    assert found.dtype == np.float32
    was, now = chances_of(before), chances_of(found)
    share = now[: 30 + 3 * SHIFT_REACH].sum()
    assert share == pytest.approx(0.8, abs=0.005)
    spread_before, spread = (each[:45] @ (np.arange(45) - 30.0) ** 2 / each[:45].sum() for each in (was, now))
    assert spread < 0.7 * spread_before
    assert was[30] < now[30]
    assert now @ np.arange(110) == pytest.approx(was @ np.arange(110), abs=0.2)


def test_times_without_a_peak_stay() -> None:
    """The more alike those nearby are, the less is changed; and what has no chance gets next to none."""
    flat = sharpened_times(np.full(110, 3.5, np.float32))
    inside = slice(2 * SHIFT_REACH, -2 * SHIFT_REACH)
    assert np.ptp(flat[inside]) < 1e-5
    wide = bump(55, 25)
    assert np.abs(chances_of(sharpened_times(wide)) / chances_of(wide) - 1)[inside].max() < 0.05
    alone = np.full(110, -1e4, np.float32)
    alone[17] = 0
    assert chances_of(sharpened_times(alone))[17] > 1 - 1e-6


# --- matches


def returning(keys: Array) -> tuple[int, int]:
    """The key that should come next, and the length of the longest match that is far enough."""
    recent_keys, _, match_lengths = counted(keys, Habituation())
    return returning_key(recent_keys, match_lengths), int(match_lengths[LEAST_MATCH_LAG - 1 :].max())


def test_a_match_says_what_came_next() -> None:
    theme, between = np.arange(8), np.arange(40, 40 + 2 * LEAST_MATCH_LAG)
    for heard in range(9):
        expected = heard if heard >= MATCH_TOKENS else -1
        wanted = int(between[0]) if heard == 8 else expected
        assert returning(np.concatenate([theme, between, theme[:heard]])) == (wanted, heard)


def test_the_longest_match_counts_and_of_several_the_latest() -> None:
    gap = np.arange(40, 40 + LEAST_MATCH_LAG)
    long, short = [1, 2, 3, 4, 5, 6, 30], [9, 3, 4, 5, 6, 31]
    assert returning(np.concatenate([long, gap, short, gap, [1, 2, 3, 4, 5, 6]])) == (30, 6)
    assert returning(np.concatenate([long, gap, short, gap, [2, 3, 4, 5, 6]])) == (30, 5)
    assert returning(np.concatenate([long, gap, short, gap, [3, 4, 5, 6]])) == (31, 4)


@pytest.mark.parametrize("period", [1, 3, LEAST_MATCH_LAG - 1, LEAST_MATCH_LAG])
def test_a_figure_of_few_tokens_is_no_match(period: int) -> None:
    """But its repetition farther back is: it is heard at every multiple of its length."""
    keys = np.arange(period + MATCH_TOKENS) % period
    assert returning(keys) == ((MATCH_TOKENS % period, MATCH_TOKENS) if period == LEAST_MATCH_LAG else (-1, 0))


def test_a_match_reaches_back_as_far_as_the_keys_that_are_kept() -> None:
    theme = np.arange(MATCH_TOKENS)
    for between, found in ((LAGS - MATCH_TOKENS, 50), (LAGS - MATCH_TOKENS + 1, -1)):
        rest = np.full(between, 50)
        rest[1::2] = 51
        assert returning(np.concatenate([theme, rest, theme]))[0] == found


@pytest.mark.parametrize(
    "changes", [{"above": -1.0}, {"nats": -0.1}, {"nats": 101}, {"window": 0.5}, {"window": np.nan}]
)
def test_habituation_out_of_range_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="`habituation` must have `above` of at least 0, `nats` of 0 to 100 and"):
        Habituation(**changes)


# --- whatever the state is

MOST = 8_640_000  # ticks of a day
TICKS = st.integers(0, MOST)
ANY = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@st.composite
def spans(draw: st.DrawFn) -> SpanState:
    """Any state that a span may come to, and some that none does: rests too long, repeats too many."""
    now = draw(TICKS)
    end = now + draw(st.one_of(st.integers(1, 20), st.integers(1, 5000)))
    repeated_key = draw(st.integers(-1, KEYS - 1))
    last_note = draw(st.one_of(st.integers(max(0, now - 500), now), TICKS))
    due = max(1, now - last_note + draw(st.integers(0, 4)))
    return SpanState(
        now=now,
        last_key=draw(st.integers(-1, NUM_KEYS - 1)),
        start=draw(st.one_of(st.integers(max(0, now - 10), end - 1), st.integers(0, end - 1))),
        end=end,
        last_note=last_note,
        next_note=end + draw(st.one_of(st.integers(0, 4), st.integers(0, 1000))),
        longest_rest=draw(st.one_of(st.just(due), st.integers(1, 500), st.integers(1, MOST))),
        repeated_key=repeated_key,
        repeats=draw(st.integers(1, 12)) if repeated_key >= 0 else 0,
        future_key=draw(st.one_of(st.just(repeated_key), st.integers(-1, KEYS - 1))),
        future_repeats=draw(st.integers(0, 12)),
        longest_repeat=draw(st.one_of(st.integers(1, 9), st.just(NO_ONSET))),
        notes_left=draw(st.sampled_from([-1, 1, 2, NO_ONSET])),
        kept_key=draw(st.one_of(st.just(-1), st.sampled_from([0, 1, KEYS - 1]), st.integers(0, KEYS - 1))),
    )


@st.composite
def releases(draw: st.DrawFn, now: int) -> Array:
    """Of each key: never struck, released before, now, soon or late; or all held."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    kinds = np.stack(
        [
            np.full(NUM_KEYS, -NO_ONSET),
            now - rng.integers(0, 100, NUM_KEYS),
            now + rng.integers(0, 3, NUM_KEYS),
            now + rng.integers(0, 6000, NUM_KEYS),
            np.full(NUM_KEYS, now + 60_000),
        ]
    )
    shares = draw(st.sampled_from([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0.2] * 5, [0, 0, 0.1, 0, 0.9], [0, 0, 0, 1, 0]]))
    return kinds[rng.choice(5, NUM_KEYS, p=shares), np.arange(NUM_KEYS)].astype(np.int32)


@ANY
@given(st.data(), spans(), st.booleans())
def test_something_may_always_be_played(data: st.DataObject, span: SpanState, has_future: bool) -> None:
    """The limits cross only if the gap is over; a key is free at the earliest onset; rules hold unless a key waits"""
    span = span if has_future else replace(span, kept_key=-1)
    last_release = data.draw(releases(span.now))
    found = constrain(span, last_release, has_future)
    assert found.earliest >= 0
    if found.latest < found.earliest:
        assert span.kept_key >= 0
        assert found.may_resume
        return
    assert (found.free_from <= span.now + found.earliest).any()
    assert found.earliest >= span.start - span.now
    assert (found.free_from >= last_release).all()
    assert (found.free_from[: span.last_key + 1] > span.now).all()
    if span.repeats >= span.repeat_limit:
        assert found.free_from[span.repeated_key] == NO_ONSET
    assert has_future or not found.may_resume
    waits = found.earliest == found.latest
    if has_future and not waits:
        assert span.now + found.latest < span.end
    if not waits:
        assert found.latest <= max(1, span.last_note + span.longest_rest - span.now - 1)
    if found.may_resume:
        assert span.next_note - span.last_note <= span.longest_rest


CONFIG = ModelConfig(
    forward_layers=1, forward_size=3, backward_layers=1, backward_size=2, input_size=2, head_size=4, memory=32
)
SIZE = 4


@cache
def backends() -> tuple[Kernel, Reference]:
    """Both, of a model that draws anything."""

    def weight(part: LinearShape) -> Array:
        rng = np.random.default_rng(part.outputs)
        return rng.integers(-64, 65, (sum(part.inputs), part.outputs)).astype(np.int8)

    tensors = some_tensors(CONFIG, "int8", weight)
    return (
        Kernel(CONFIG, "int8", tensors),
        Reference(CONFIG, "int8", tensors),
    )


@pytest.mark.skipif(kernel.vectors() is None, reason="no kernel was built here")
@settings(ANY, max_examples=60)
@given(st.data(), st.lists(st.booleans(), min_size=SIZE, max_size=SIZE), st.integers(0, 1000))
def test_the_kernel_has_the_same_rules(data: st.DataObject, has_future: list[bool], seed: int) -> None:
    """From any state both write the same tokens and come to the same states, and break no rule."""
    begun = [data.draw(spans()) for _ in range(SIZE)]
    begun = [span if has else replace(span, kept_key=-1) for span, has in zip(begun, has_future, strict=True)]
    held = [data.draw(releases(span.now)) for span in begun]
    favoured = data.draw(
        st.lists(st.sampled_from(["", "pedals", "repeat", "now", "resume"]), min_size=SIZE, max_size=SIZE)
    )
    found = []
    for backend in backends():
        slots = Slots(CONFIG, SIZE, "int8", fixed=32)
        for slot, (span, last_release) in enumerate(zip(begun, held, strict=True)):
            fill_slot(slots, slot, seed + slot)
            slots.has_future[slot] = has_future[slot]
            slots.last_release[slot], slots.last_onset[slot] = last_release, np.minimum(last_release, span.now) - 1
            slots.next_onset[slot] = span.next_note + np.arange(NUM_KEYS)
            slots.resume_tick[slot] = span.end
            slots.span[slot] = astuple(span)
            favour(slots.noise[slot], favoured[slot], span)
        rows = np.concatenate(backend.write(slots, SIZE, 4), 1)
        found.append((np.where(rows[..., 1:2] < 0, -1, rows), slots.span.copy(), slots.last_release.copy()))
    (rows, states, last_release), (its_rows, its_states, its_last_release) = found
    np.testing.assert_array_equal(rows, its_rows)
    np.testing.assert_array_equal(last_release, its_last_release)
    assert states.dtype == SPAN_DTYPE
    np.testing.assert_array_equal(states, its_states)
    assert (states["done"] != INVALID).all()
    for slot, (span, release) in enumerate(zip(begun, held, strict=True)):
        check_written(rows[:, slot], span, release)


@pytest.mark.skipif(kernel.vectors() is None, reason="no kernel was built here")
@pytest.mark.parametrize("width", [1, 2, 9])
def test_a_wide_bin_does_not_let_a_token_into_the_tick_of_a_kept_note(width: int) -> None:
    """The lowest key is kept at the span's beginning: the gap is over, though a bin holds both limits."""
    bin_ = int(np.flatnonzero(SHIFT_BINS.widths > width)[0])
    onset = NOW + int(SHIFT_BINS.edges[bin_]) + width
    span = replace(SPAN, start=onset, end=onset + 1, next_note=onset, kept_key=0)
    for backend in backends():
        slots = Slots(CONFIG, 1, "int8")
        fill_slot(slots, 0, 1)
        slots.has_future[0], slots.span[0] = 1, astuple(span)
        slots.noise[0, 0, CLASS_SLICES["shift"].start + bin_] += 50
        (rows,) = backend.write(slots, 1, 1)
        assert slots.drawn[0, 0] == RESUME
        assert rows[0, 0, 1] == -1
        assert slots.span["done"][0] == DONE


FAVOURED = ("", "pedals", "repeat", "now", "late", "resume", "soft")


def span_at_a_limit(rng: np.random.Generator) -> SpanState:
    """A state one tick or one note away from what a rule forbids, before, at or past it."""
    key, near = int(rng.integers(KEYS)), (lambda: int(rng.integers(-2, 4)))
    last_note, longest_repeat = NOW - int(rng.integers(0, 40)), int(rng.integers(1, 6))
    end = NOW + int(rng.choice([1, 2, 3, 10, 60]))
    longest_rest = max(1, int(rng.choice([NOW - last_note, NOW - last_note + 10, end - last_note])) + near())
    return SpanState(
        now=NOW,
        last_key=int(rng.choice([-1, key - 1, key, NUM_KEYS - 2])),
        start=min(end - 1, NOW + near()),
        end=end,
        last_note=last_note,
        next_note=max(end, last_note + longest_rest + near()),
        longest_rest=longest_rest,
        repeated_key=key,
        repeats=int(rng.integers(1, 7)),
        future_key=int(rng.choice([key, key, 3])),
        future_repeats=max(0, longest_repeat + near() - 2),
        longest_repeat=longest_repeat,
        notes_left=int(rng.choice([-1, 1, 2])),
        kept_key=int(rng.choice([-1, -1, 0, key, key + 1, KEYS - 1])),
    )


@pytest.mark.skipif(kernel.vectors() is None, reason="no kernel was built here")
@pytest.mark.parametrize("has_future", [False, True])
def test_the_kernel_has_the_same_rules_near_every_limit(has_future: bool) -> None:
    """Two tokens of each of many states, with noise that favours what a rule may forbid."""
    size, rng, found = 900, np.random.default_rng(8), []
    begun = [span_at_a_limit(rng) for _ in range(size)]
    begun = begun if has_future else [replace(span, kept_key=-1) for span in begun]
    for backend in backends():
        slots = Slots(CONFIG, size, "int8")
        for slot, span in enumerate(begun):
            fill_slot(slots, slot, slot)
            slots.has_future[slot] = has_future
            slots.last_release[slot] = np.where(slots.last_release[slot] % 4 == 0, NOW + slot % 7, -NO_ONSET)
            slots.top_p[slot] = 1
            slots.span[slot] = astuple(span)
            favour(slots.noise[slot], FAVOURED[slot % len(FAVOURED)], span)
        rows = np.concatenate(backend.write(slots, size, 2), 1)
        found.append((np.where(rows[..., 1:2] < 0, -1, rows), slots.span.copy()))
    (rows, states), (its_rows, its_states) = found
    np.testing.assert_array_equal(rows, its_rows)
    np.testing.assert_array_equal(states, its_states)
    assert set(np.unique(states["done"])) == {WRITING, DONE}
    assert (rows[..., 2] == 1).any()


def favour(noise: Array, what: str, span: SpanState) -> None:
    """Make likelier what the rules may forbid."""
    keys = noise[:, CLASS_SLICES["key"]]
    if what == "pedals":
        keys[:, KEYS:] += 50
    elif what == "repeat":
        keys[:, [span.repeated_key, span.future_key, span.last_key]] += 50
    elif what == "now":
        noise[:, CLASS_SLICES["shift"].start : CLASS_SLICES["shift"].start + 2] += 50
    elif what == "late":
        noise[:, CLASS_SLICES["shift"]] += 50 * np.arange(CLASS_SLICES["shift"].stop)
    elif what == "resume":
        noise[:, CLASS_SLICES["shift"].start + RESUME] += 50
    elif what == "soft":
        noise[:, CLASS_SLICES["velocity"].start] += 50


def check_written(rows: Array, span: SpanState, last_release: Array) -> None:
    """Keys are free when they are struck and rise within a tick, up to a kept note's; onsets lie in the span."""
    now, last_key, release = span.now, span.last_key, last_release.copy()
    for shift, key, velocity, duration in rows[rows[:, 1] >= 0].tolist():
        assert shift > 0 or (shift == 0 and key > last_key)
        now, last_key = now + shift, key
        assert span.start <= now < span.end
        assert release[key] <= now
        assert now < span.end - 1 or span.kept_key < 0 or key < span.kept_key
        assert 1 <= velocity <= 127
        assert duration >= 1
        release[key] = now + duration
