"""Writing a span token by token, one piece or many side by side."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.engine import Engine
from music_generator.engine.noise import NoiseSource
from music_generator.engine.rules import INVALID, WRITING, SpanState, repeats_at_end
from music_generator.engine.slots import FutureContext, PastState, Slots
from music_generator.errors import BundleError, InputError
from music_generator.generation.span import SamplingOptions, Span, onsets, variations
from music_generator.model.config import NO_ONSET
from music_generator.music.performance import LONGEST_SECONDS, LOWEST_PITCH, Performance
from music_generator.music.tokens import KEYS, TICKS_PER_SECOND, encode

Array = NDArray[Any]


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
            InputError: the span does not fit its past and future, or the composer is not known.
        """
        _check_span(span)
        self.engine = engine
        (self.options,) = variations(options, 1)
        composer = engine.composer(options.composer)
        past, future = encode(span.past), encode(span.future)
        self._past: PastState = engine.read_past(past, composer)
        _hold_past_keys(self._past, span.past)
        self.future: FutureContext | None = None
        if len(future):
            self.future = engine.read_future(future, int(future["shift"][0]), composer)
        self.first_tick = self._past.now
        self.state = _begin(span, self.options, self._past, past, future)

    @property
    def done(self) -> bool:
        """True when nothing more will be written."""
        return self.state.done != WRITING

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
        batch = BatchWriter(self.engine, 1, has_future=self.future is not None)
        batch.add(self)
        while not self.done:
            for _, rows in batch.step():
                yield from map(tuple, rows)

    def attach(self, slots: Slots, slot: int) -> NoiseSource:
        """Begin to write in a slot; return its noise."""
        noise = NoiseSource(self.options.seed, self.options.temperature)
        slots.attach(slot, self._past, self.future)
        slots.begin(slot, self.state, noise, self.options.drawing)
        return noise


class BatchWriter:
    """Writers side by side, at most `size` of them, all with a future or all without.

    They use the first slots; when one leaves, the last one moves to its slot, so a step costs only what is written.
    """

    def __init__(self, engine: Engine, size: int, *, has_future: bool) -> None:
        self._engine, self._size, self._has_future = engine, size, has_future
        self._slots: Slots | None = None  # made when first used: the weights take time to load
        self._writers: list[Writer] = []
        self._noise: list[NoiseSource] = []
        self.clock = 0.0  # seconds of computing that were one writer's share, since the beginning

    def __len__(self) -> int:
        return len(self._writers)

    def add(self, writer: Writer) -> None:
        """Let a writer write from the next step on."""
        if self._slots is None:
            self._slots = self._engine.slots(self._size, has_future=self._has_future)
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
            while writer.done and rows and rows[-1][1] < 0:
                rows.pop()
            if writer.state.done == INVALID:
                raise _invalid_token(writer)
            if writer.state.place == slots.block:
                self._noise[slot].fill(slots.noise[slot], slots.uniforms[slot])
                slots.span["place"][slot] = 0
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
        onset, duration = events["onset"], events["duration"]
        ticks = np.ceil((onset + duration) * TICKS_PER_SECOND - 1e-6)
        ticks += ticks / TICKS_PER_SECOND - onset < duration
        np.maximum.at(read.last_release, events[key] + first, ticks.astype(np.int32))


def _check_span(span: Span) -> None:
    start, end = span.start, span.end
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
