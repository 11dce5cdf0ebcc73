"""Writing a span token by token, one piece or many side by side."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.engine import MAX_CONTEXT, Engine
from music_generator.engine.memory import Entries
from music_generator.engine.noise import NoiseSource
from music_generator.engine.rules import DONE, INVALID, WRITING, SpanState, repeats_at_end
from music_generator.engine.slots import FutureContext, PastState, Slots
from music_generator.errors import BundleError, InputError
from music_generator.generation.span import SamplingOptions, Span, onsets, variations
from music_generator.model.config import NO_ONSET, ModelConfig
from music_generator.music.performance import LONGEST_SECONDS, LOWEST_PITCH, Performance
from music_generator.music.tokens import KEYS, TICKS_PER_SECOND, TOKEN_DTYPE, bin_rows, encode

Array = NDArray[Any]

FARTHEST_FUTURE_SECONDS = 30.0  # that the model has been trained to write towards
MAX_RECALLED = 512  # tokens of a passage to come back to
RECALL_BONUS = 4.0  # added to its score: nats of attention


class Writer:
    """The tokens (`TOKEN_DTYPE` tuples) that fill a span, each yielded as soon as it is drawn; iterate over it once.

    The first token's shift counts from `first_tick`. Memory does not grow with what is written. Several may write side
    by side: see `BatchWriter`.
    """

    def __init__(self, engine: Engine, span: Span, options: SamplingOptions) -> None:
        """Read the past and the future of a span.

        Args:
            engine: the model.
            span: what is to be written.
            options: how tokens are drawn.

        Raises:
            InputError: the span does not fit its past and future, the composer is not known, or the model cannot do
                what is asked for.
        """
        check_request(engine.config, span, options)
        self.engine = engine
        (self.options,) = variations(options, 1)
        composer = engine.composer(options.composer)
        past, future = encode(span.past), encode(span.future)
        self._past: PastState = engine.read_past(past, composer)
        _hold_past_keys(self._past, span.past)
        self.first_tick = self._past.now
        self.state = _begin(span, self.options, self._past, past, future)
        self._gaps = _plan_gaps(engine, span, self.state, future, composer)
        self._recalled = _recalled(engine, span, past)
        self._next_gap = 0
        self._future_repeats = self.state.future_key, self.state.future_repeats
        self._begin_gap()

    @property
    def done(self) -> bool:
        """True when nothing more will be written."""
        return self.state.done != WRITING and (self._next_gap == len(self._gaps) or not self._goes_on)

    @property
    def _goes_on(self) -> bool:
        """Whether a gap that is done may be followed by another one."""
        return self.state.done == DONE and self.state.notes_left != 0

    def _begin_gap(self) -> None:
        """Let the state be that of the next gap's beginning."""
        gap = self._gaps[self._next_gap]
        self._next_gap += 1
        self.state.done, self.state.end, self.state.kept_key = WRITING, gap.end, gap.kept_key
        self.state.next_note = gap.next_note
        if self._next_gap < len(self._gaps):  # what the future begins with matters only before it
            self.state.future_key, self.state.future_repeats = -1, 0
        else:
            self.state.future_key, self.state.future_repeats = self._future_repeats

    @property
    def now(self) -> int:
        """The tick of the last token."""
        return self.state.now

    def with_seed(self, seed: int | None) -> Writer:
        """Return a writer of the same span with another seed (None: a new one), before any token has been written.

        Past and future are not read again.
        """
        assert self.now == self.first_tick
        other = copy.copy(self)
        (other.options,) = variations(replace(self.options, seed=seed), 1)
        other.state = copy.copy(self.state)
        return other

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        batch = BatchWriter(self.engine, 1)
        batch.add(self)
        while not self.done:
            for _, rows in batch.step():
                yield from map(tuple, rows)

    def attach(self, slots: Slots, slot: int) -> NoiseSource:
        """Begin to write in a slot; return its noise."""
        noise = NoiseSource(self.options.seed, self.options.temperature)
        slots.attach(slot, self._past)
        slots.begin(slot, self.state, noise, self.options.drawing)
        self._set_future(slots, slot)
        return noise

    def _set_future(self, slots: Slots, slot: int) -> None:
        """Give the slot the present gap's future, and the passage to come back to."""
        future = self._gaps[self._next_gap - 1].future
        slots.set_future(slot, future)
        if self._recalled is None:
            return
        if future is None or future.entries is None:
            slots.memory.set_fixed(slot, self._recalled)
        else:
            slots.memory.set_fixed(slot, future.entries.followed_by(self._recalled), future.first)

    def go_on(self, slots: Slots, slot: int) -> list[list[int]]:
        """Take the kept note with which the present gap ends into the slot, and begin the next one there.

        Returns:
            The kept note as a row, or none.
        """
        kept = self._gaps[self._next_gap - 1].kept
        rows = []
        if kept is not None:
            rows = [self._take(slots, slot, kept)]
        self._begin_gap()
        slots.span[slot] = astuple(self.state)
        self._set_future(slots, slot)
        return rows

    def _take(self, slots: Slots, slot: int, kept: _Kept) -> list[int]:
        """Take a kept note into a slot; return it as a row."""
        state, key = self.state, kept.key
        shift = kept.onset - state.now
        row = np.array((shift, key, kept.velocity, kept.duration), TOKEN_DTYPE)
        forced = np.zeros_like(slots.drawn)
        forced[slot] = *(int(each) for each in bin_rows(row).values()), shift, kept.duration
        slots.span[slot] = astuple(state)
        self.engine.backend.step(slots, slot, 1, True, forced)
        slots.last_release[slot, key] = kept.release
        slots.count_key(slot, key)
        state.now, state.last_key, state.last_note = kept.onset, key, kept.onset
        state.repeats = state.repeats + 1 if key == state.repeated_key else 1
        state.repeated_key = key
        return [shift, key, kept.velocity, kept.duration]


class BatchWriter:
    """Writers side by side, at most `size` of them.

    They use the first slots; when one leaves, the last one moves to its slot, so a step costs only what is written.
    """

    def __init__(self, engine: Engine, size: int) -> None:
        self._engine, self._size = engine, size
        self._slots: Slots | None = None  # made when first used: the weights take time to load
        self._writers: list[Writer] = []
        self._noise: list[NoiseSource] = []
        self.clock = 0.0  # seconds of computing that were one writer's share, since the beginning

    def __len__(self) -> int:
        return len(self._writers)

    def add(self, writer: Writer) -> None:
        """Let a writer write from the next step on."""
        if self._slots is None:
            self._slots = self._engine.slots(self._size)
        self._noise.append(writer.attach(self._slots, len(self)))
        self._writers.append(writer)

    def step(self, most: int = 1) -> list[tuple[Writer, list[list[int]]]]:
        """Write up to `most` tokens of each writer; those that are done then have left.

        Returns:
            Each writer and its tokens. One that is done, or whose noise is used up, ends the step for all.

        Raises:
            BundleError: the model produced an invalid token, as a damaged one may.
        """
        assert self._slots is not None
        begun, writers, slots = time.perf_counter(), list(self._writers), self._slots
        parts = self._engine.backend.write(slots, len(writers), most)
        written = [rows for part in parts for rows in part.swapaxes(0, 1).tolist()]
        states = slots.span[: len(writers)].tolist()
        for slot, (writer, rows, state) in enumerate(zip(writers, written, states, strict=True)):
            writer.state = SpanState(*state)
            while writer.state.done and rows and rows[-1][1] < 0:
                rows.pop()
            if writer.state.done == INVALID:
                raise _invalid_token(writer)
            if writer.state.place == slots.block:
                self._noise[slot].fill(slots.noise[slot], slots.uniforms[slot])
                slots.span["place"][slot] = writer.state.place = 0
            while writer.state.done and not writer.done:
                rows += writer.go_on(slots, slot)
        for slot in reversed(range(len(writers))):
            if writers[slot].done:
                self._remove(slot)
        self.clock += (time.perf_counter() - begun) / len(writers)
        return list(zip(writers, written, strict=True))

    def _remove(self, slot: int) -> None:
        last, noise = self._writers.pop(), self._noise.pop()
        if slot < len(self):
            assert self._slots is not None
            self._slots.move(len(self), slot)
            self._writers[slot], self._noise[slot] = last, noise


@dataclass(frozen=True)
class _Gap:
    """A part of a span that is written in one go.

    Attributes:
        end: its onsets lie before this tick.
        next_note: the tick of the first note after it, or the end.
        future: what comes then, or None.
        kept: the kept note with which it ends: onset, key, velocity and duration; None if it ends otherwise.
    """

    end: int
    next_note: int
    future: FutureContext | None
    kept: _Kept | None = None

    @property
    def kept_key(self) -> int:
        """The key of the kept note, -1 if there is none."""
        return -1 if self.kept is None else self.kept.key


@dataclass(frozen=True)
class _Kept:
    """A kept note as a token, in ticks; `release` is the first tick at which its key may be struck again."""

    onset: int
    key: int
    velocity: int
    duration: int
    release: int


def _plan_gaps(engine: Engine, span: Span, state: SpanState, future: Array, composer: int) -> list[_Gap]:
    """Return the gaps that a span is written in: up to each kept note, and the rest.

    A future that is farther than in training is not told yet, so a long gap is two.
    """
    kept = encode(span.kept)
    notes = _kept_notes(span.kept, kept)
    contexts = _kept_futures(engine, kept, future, composer) if notes else []
    wanted = [_Gap(note.onset + 1, note.onset, each, note) for note, each in zip(notes, contexts, strict=False)]
    last: FutureContext | None = None
    if len(future):
        last = contexts[-1] if notes else engine.read_future(future, int(future["shift"][0]), composer)
    elif engine.config.direction == "both" and (span.closes or notes):
        last = engine.read_end(state.end - 1, composer)
    wanted.append(_Gap(state.end, state.next_note, last))
    return _split_long(wanted, max(state.now, state.start))


def _split_long(wanted: list[_Gap], begin: int) -> list[_Gap]:
    """Return the gaps with long ones as two, the first of them without a future."""
    far, gaps = int(FARTHEST_FUTURE_SECONDS * TICKS_PER_SECOND), list[_Gap]()
    for gap in wanted:
        if gap.future is not None and gap.end - begin > far:
            gaps.append(_Gap(gap.end - far, gap.end - far, None))
        gaps.append(gap)
        begin = gap.end
    return gaps


def _kept_notes(kept: Performance, rows: Array) -> list[_Kept]:
    """Return kept notes as tokens, in the order of their `rows`."""
    last_release = dict[tuple[int, int], int]()
    onsets = np.rint(kept.notes["onset"] * TICKS_PER_SECOND).astype(np.int64).tolist()
    keys = (kept.notes["pitch"] - LOWEST_PITCH).tolist()
    for onset, key, release in zip(onsets, keys, _release_ticks(kept.notes).tolist(), strict=True):
        last_release[onset, key] = max(release, last_release.get((onset, key), release))
    notes, onset = [], 0
    for shift, key, velocity, duration in rows.tolist():
        onset += shift
        release = max(last_release[onset, key], onset + duration)
        notes.append(_Kept(onset, key, velocity, duration, release))
    return notes


def _kept_futures(engine: Engine, kept: Array, future: Array, composer: int) -> list[FutureContext]:
    """Return what comes from each kept note on, and from the end of the span on if there is a future."""
    after = future[:MAX_CONTEXT].copy()
    if len(after):
        after["shift"][0] -= kept["shift"].sum(dtype=np.int64)
    rows = np.concatenate([kept, after])
    futures = engine.read_futures(rows, composer, cut=len(future) > MAX_CONTEXT, thinned=len(kept))
    return futures[: len(kept) + (len(after) > 0)]


def _recalled(engine: Engine, span: Span, past: Array) -> Entries | None:
    """Return the passage that the music shall come back to, as entries of a memory."""
    if span.recall is None:
        return None
    first, last = (seconds * TICKS_PER_SECOND for seconds in span.recall)
    onsets = np.cumsum(past["shift"], dtype=np.int64)
    low, high = np.searchsorted(onsets, [first, last]).tolist()
    if low == high:
        raise InputError(f"the passage to come back to, from {span.recall[0]} to {span.recall[1]} s, has no notes")
    return engine.recalled(past, low, min(high, low + MAX_RECALLED), RECALL_BONUS)


def _invalid_token(writer: Writer) -> BundleError:
    seconds = writer.now / TICKS_PER_SECOND
    return BundleError(
        f"{writer.engine.bundle.folder}: the model produced an invalid token after {seconds:.2f} s; the bundle is "
        "damaged or from another version"
    )


def _begin(span: Span, options: SamplingOptions, read: PastState, past: Array, future: Array) -> SpanState:
    """Return the state of a span before its first token, given the tokens of past and future."""
    is_note = past["key"] < KEYS
    note_onsets = np.cumsum(past["shift"], dtype=np.int64)[is_note]
    start, end = max(_first_tick_from(span.start), read.now), _first_tick_from(span.end)
    longest_rest = int(min(options.longest_rest_seconds, LONGEST_SECONDS) * TICKS_PER_SECOND + 1e-6)
    state = SpanState(
        now=read.now,
        last_key=read.last_key,
        start=start,
        end=end,
        last_note=int(note_onsets[-1]) if len(note_onsets) else start,
        next_note=end,
        longest_rest=max(1, longest_rest),
        longest_repeat=min(options.longest_repeat, NO_ONSET),
        notes_left=-1 if span.notes is None else min(span.notes, NO_ONSET),
    )
    state.repeated_key, state.repeats = repeats_at_end(past["key"][is_note])
    next_notes = np.flatnonzero(future["key"] < KEYS)
    if len(next_notes):
        state.future_key, state.future_repeats = repeats_at_end(future["key"][next_notes][::-1])
        tick = int(future["shift"][: next_notes[0] + 1].sum(dtype=np.int64))
        if tick - state.longest_rest < end:  # else the rest after the span is too long by itself
            state.next_note = tick
    return state


def _hold_past_keys(read: PastState, past: Performance) -> None:
    """Keep keys from being struck while the past holds them, to the fraction of a tick, however old the onset is."""
    for events, key, first in ((past.notes, "pitch", -LOWEST_PITCH), (past.pedals, "pedal", KEYS)):
        np.maximum.at(read.last_release, events[key] + first, _release_ticks(events))


def _release_ticks(events: Array) -> Array:
    """Return the first tick at or after the release of each event: (n,) int32."""
    onset, duration = events["onset"], events["duration"]
    ticks = np.ceil((onset + duration) * TICKS_PER_SECOND - 1e-6)
    ticks += ticks / TICKS_PER_SECOND - onset < duration
    return np.asarray(ticks.astype(np.int32))


def check_request(config: ModelConfig, span: Span, options: SamplingOptions) -> None:
    """Check that a span fits its past and future, and that a model can do what is asked for.

    Raises:
        InputError: it does not fit, or the model cannot do it.
    """
    _check_span(span)
    _check_model(config, span, options)


def _check_model(config: ModelConfig, span: Span, options: SamplingOptions) -> None:
    """Check that a model can do what is asked for."""
    if len(span.kept) and config.direction != "both":
        raise InputError("this model has no backward stack and cannot keep notes; use one trained with `both`")
    if span.recall is not None and not config.memory:
        raise InputError(
            "this model has no memory and cannot come back to a passage; use another, or leave `recall` out"
        )
    if options.returns != SamplingOptions.returns and not config.memory:
        raise InputError("this model has no memory and returns to nothing; use another, or leave `returns` out")
    for name in ("density", "loudness"):
        if getattr(options, name) is not None and not config.steered:
            raise InputError(f"this model cannot be told a {name}; use another, or leave `{name}` out")


def _check_span(span: Span) -> None:
    start, end = span.start, span.end
    if span.recall is not None and not 0 <= span.recall[0] < span.recall[1] <= start:
        raise InputError(
            f"the passage to come back to must lie before the music that is written, which begins at {start:g} s, not "
            f"from {span.recall[0]:g} to {span.recall[1]:g} s"
        )
    if len(span.kept) and not ((span.kept.notes["onset"] >= start) & (span.kept.notes["onset"] < end)).all():
        raise InputError(f"kept notes must begin in the span to write, from {start} to {end} s")
    if len(span.kept) and span.notes is not None:
        raise InputError("`notes` does not go with kept notes: give the span's end")
    if not 0 <= start < end:
        raise InputError(f"the span to write must begin at 0 or later and end after it begins: {start} to {end} s")
    if end > LONGEST_SECONDS:
        raise InputError(f"the span to write must end within {LONGEST_SECONDS / 3600:.0f} hours, not at {end} s")
    if not (onsets(span.past) < start).all():
        raise InputError(f"the past must begin before the span to write, at {start} s")
    if not (onsets(span.future) >= end).all():
        raise InputError(f"the future must not begin before the end of the span to write, at {end} s")
    if span.notes is not None and span.notes < 1:
        raise InputError(f"`notes` must be at least 1, not {span.notes}")


def _first_tick_from(seconds: float) -> int:
    """Return the first tick at or after `seconds`."""
    tick = int(np.ceil(seconds * TICKS_PER_SECOND - 1e-6))
    return tick + (tick / TICKS_PER_SECOND < seconds)
