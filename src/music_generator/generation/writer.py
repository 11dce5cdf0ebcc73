"""Writing a span token by token: what the next one may be, and what follows from the one that was drawn."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.engine import Ahead, Dice, Engine, Lanes, Stream
from music_generator.errors import BundleError, InputError
from music_generator.generation.span import LONGEST_SECONDS, Row, SamplingOptions, Span, onsets, variations
from music_generator.music.performance import LOWEST_PITCH, Performance
from music_generator.music.tokens import KEYS, NUM_KEYS, RESUME, TICKS_PER_SECOND, VELOCITY_BINS, encode

Array = NDArray[Any]

_SOFTEST = VELOCITY_BINS.edges.tolist()  # velocity of each class
_VELOCITIES = int(VELOCITY_BINS.widths[0])  # in a class
_NOT, _NEVER = np.float32(-1e9), np.float32(1e9)  # as noise: no such class; as a tick: no such key


class Writer:
    """The token rows (`TOKEN_DTYPE` tuples) that fill a span, to be iterated over once, each yielded as it is drawn.

    The first row's shift counts from `first_tick`. Memory does not grow with what is written. Several may write side
    by side: `Writers`.
    """

    def __init__(
        self,
        engine: Engine,
        past: Performance,
        future: Performance,
        start: float,
        end: float,
        options: SamplingOptions,
        notes: int | None = None,
    ) -> None:
        _check_span(past, future, start, end)
        if notes is not None and notes < 1:
            raise InputError(f"`notes` must be at least 1, not {notes}")
        self.engine, self.notes_left, self.done = engine, notes, False
        (self.options,) = variations(options, 1)
        composer = engine.composer(options.composer)
        rows = encode(past)
        self._stream: Stream = engine.read_past(rows, composer)
        self.first_tick = self.now = self._stream.now
        self.last_key = self._stream.last_key
        self._keep_held(past)
        self.start_tick = max(_tick_from(start), self.first_tick)
        self.end_tick = _tick_from(end)
        is_note = np.flatnonzero(rows["key"] < KEYS)
        onsets = np.cumsum(rows["shift"], dtype=np.int64)
        self.last_note_tick = int(onsets[is_note[-1]]) if len(is_note) else self.start_tick
        self.repeated, self.times = _repeats(rows["key"][is_note])
        longest = min(options.longest_rest_seconds, LONGEST_SECONDS)
        self.rest_ticks = max(1, int(longest * TICKS_PER_SECOND + 1e-6))
        self._look_ahead(encode(future), composer)

    @classmethod
    def of(cls, engine: Engine, span: Span, options: SamplingOptions) -> Writer:
        """The writer of a span."""
        return cls(engine, span.past, span.future, span.start, span.end, options, span.notes)

    def again(self, seed: int | None) -> Writer:
        """One of the same span with another seed (None: a new one), before any token is written: nothing is read."""
        assert self.now == self.first_tick
        other = copy.copy(self)
        (other.options,) = variations(replace(self.options, seed=seed), 1)
        return other

    def _keep_held(self, past: Performance) -> None:
        """No key is struck while the past holds it: to the fraction of a tick, and however long ago it was struck."""
        for events, key, first in ((past.notes, "pitch", -LOWEST_PITCH), (past.pedals, "pedal", KEYS)):
            onset, duration = events["onset"], events["duration"]
            ticks = np.ceil((onset + duration) * TICKS_PER_SECOND - 1e-6)
            ticks += ticks / TICKS_PER_SECOND - onset < duration
            np.maximum.at(self._stream.released, events[key] + first, ticks.astype(np.float32))

    def _look_ahead(self, rows: Array, composer: int) -> None:
        """Read the future, and take up what it asks of the last note before it: to come in time, and to be another."""
        self.ahead: Ahead | None = None
        self.first_repeated, self.first_times = -1, 0
        self.next_note_tick = self.end_tick
        if not len(rows):
            return
        self.ahead = self.engine.read_future(rows, int(rows["shift"][0]), composer)
        is_note = np.flatnonzero(rows["key"] < KEYS)
        if len(is_note):
            self.first_repeated, self.first_times = _repeats(rows["key"][is_note][::-1])
            tick = int(rows["shift"][: is_note[0] + 1].sum(dtype=np.int64))
            if tick - self.rest_ticks < self.end_tick:  # else the rest after the span is too long by itself
                self.next_note_tick = tick

    def __iter__(self) -> Iterator[Row]:
        desk = Writers(self.engine, 1, joined=self.ahead is not None)
        desk.add(self)
        while not self.done:
            for _, rows in desk.step():
                yield from rows

    def enter(self, lanes: Lanes, lane: int) -> None:
        """Begin to write in a lane."""
        options = self.options
        lanes.put(lane, self._stream, self.ahead, options.temperature, options.top_p)
        self.dice = Dice(options.seed, options.temperature)
        self._no_pedals, self._no_key, self._most = False, -1, self._most_repeats()
        self.sit(lanes, lane)
        lanes.plans[lane] = (
            self.now, self.last_key, self.start_tick, self.end_tick, self.last_note_tick, self.next_note_tick,
            self.rest_ticks, self.repeated, self.times, self.first_repeated, self.first_times, options.longest_repeat,
            -1 if self.notes_left is None else self.notes_left, self._no_pedals, self._no_key, self.done,
            len(self.dice.noise), 0, self.dice.noise.ctypes.data, self.dice.chances.ctypes.data,
        )  # fmt: skip

    def sit(self, lanes: Lanes, lane: int) -> None:
        """Go on in a lane that what is written has been moved to."""
        self._noise, self._barred = lanes.noise[lane], lanes.barred[lane]

    def prepare(self) -> tuple[float, ...]:
        """Tell the lane what the next token may be; its `ticks`."""
        now = self.now
        room = self.end_tick - 1 - now
        due = self.last_note_tick + self.rest_ticks - now  # in how many ticks there must be another note
        unfinished = self.ahead is not None and now + due < self.next_note_tick
        if unfinished and due > room:
            due = room
        no_pedals, no_key = due <= 1, self.repeated if self.times >= self._most else -1
        if no_pedals != self._no_pedals or no_key != self._no_key:
            self._bar(no_pedals, no_key)
        latest = max(1, due - 1)  # a pedal may come up to one tick before
        if self.ahead is not None and latest > room:
            latest = room
        noise, (one, other, self._velocity_chance) = self.dice.roll()
        self._noise[:] = noise
        if unfinished:
            self._noise[RESUME] = _NOT
        return now, max(0, self.start_tick - now), latest, self.last_key, one, other

    def _bar(self, no_pedals: bool, no_key: int) -> None:
        """Say which keys may not be struck, however long they have been free."""
        self._no_pedals, self._no_key = no_pedals, no_key
        self._barred[:] = 0
        if no_pedals:
            self._barred[KEYS:] = _NEVER
        if no_key >= 0:
            self._barred[no_key] = _NEVER

    def take(self, shift: int, key: int, velocity: int, waited: float, held: float) -> Row | None:
        """The token of the classes drawn and the ticks waited and held; None if it is the future's turn."""
        now = self.now + int(waited)
        if not 0 <= key < NUM_KEYS or now < self.now or (now == self.now and key <= self.last_key):
            raise ValueError(f"key {key} after {waited} ticks")  # with such, writing might never end
        if shift >= RESUME or now >= self.end_tick:
            self.done = True
            return None
        self.now, self.last_key = now, key
        self._remember(key)
        return int(waited), key, max(1, _SOFTEST[velocity] + int(self._velocity_chance * _VELOCITIES)), int(held)

    def _remember(self, key: int) -> None:
        if key >= KEYS:
            return
        self.last_note_tick = self.now
        if key == self.repeated:
            self.times += 1
        else:
            self.repeated, self.times = key, 1
            self._most = self._most_repeats()
        if self.notes_left is not None:
            self.notes_left -= 1
            self.done = self.notes_left == 0

    def _most_repeats(self) -> int:
        """How often the last pitch may come in a row, with what the future adds to it."""
        most, added = self.options.longest_repeat, self.first_times
        return most - added if self.repeated == self.first_repeated and added < most else most


class Writers:
    """Writers that write side by side, at most `size` of them, all with a future (`joined`) or all without.

    They sit in the first lanes of one graph; a place that one leaves is taken by the last, so that a call costs what
    is written in it.
    """

    def __init__(self, engine: Engine, size: int, *, joined: bool) -> None:
        self._engine, self._size, self._joined = engine, size, joined
        self._lanes: Lanes | None = None  # made when first used: loading a graph takes time
        self._by_lane: list[Writer] = []
        self.clock = 0.0  # seconds of computing that one writer's share was, since the beginning

    def __len__(self) -> int:
        return len(self._by_lane)

    def add(self, writer: Writer) -> None:
        """Let it write from the next step on."""
        self._lanes = self._lanes or Lanes(self._engine, self._size, joined=self._joined)
        writer.enter(self._lanes, len(self))
        self._by_lane.append(writer)

    def step(self, most: int = 1) -> list[tuple[Writer, list[Row]]]:
        """Up to so many more tokens of each writer, or until it is `done`; those that are have left.

        Raises `BundleError` if a model, of a stranger's bundle, draws what is no token.
        """
        assert self._lanes is not None
        begun, writers = time.perf_counter(), list(self._by_lane)
        parts = self._lanes.write(len(writers), most)
        written = _step_by_step(self._lanes, writers, most) if parts is None else self._follow(parts)
        for lane in reversed(range(len(writers))):
            if writers[lane].done:
                self._leave(lane)
        self.clock += (time.perf_counter() - begun) / len(writers)
        return list(zip(writers, written, strict=True))

    def _follow(self, parts: list[Array]) -> list[list[Row]]:
        """What each writer has written, of `Lanes.write`, and where it is now."""
        assert self._lanes is not None
        plans, written = self._lanes.plans[: len(self)], [rows for part in parts for rows in part.T.tolist()]
        states = (plans[name].tolist() for name in ("now", "notes_left", "done", "place", "block"))
        for writer, mine, (now, notes_left, done, place, block) in zip(
            self._by_lane, written, zip(*states, strict=True), strict=True
        ):
            writer.now, writer.done = now, bool(done)
            if writer.notes_left is not None:
                writer.notes_left = notes_left
            if done > 1:
                raise _no_token(writer, f"after tick {now}")
            while done and mine and mine[-1][1] < 0:
                mine.pop()
            if place == block:
                writer.dice.refill()
        plans["place"] %= plans["block"]
        return written

    def _leave(self, lane: int) -> None:
        last = self._by_lane.pop()
        if lane < len(self):
            assert self._lanes is not None
            self._lanes.move(len(self), lane)
            last.sit(self._lanes, lane)
            self._by_lane[lane] = last


def _step_by_step(lanes: Lanes, writers: Sequence[Writer], most: int) -> list[list[Row]]:
    """What `Lanes.write` does, where it cannot."""
    written: list[list[Row]] = [[] for _ in writers]
    for _ in range(most):
        lanes.ticks[: len(writers)] = [writer.prepare() for writer in writers]
        lanes.step(len(writers))
        drawn = zip(*(values.tolist() for values in lanes.drawn), strict=True)
        for writer, rows, token in zip(writers, written, drawn, strict=False):
            try:
                row = writer.take(*token)
            except (IndexError, OverflowError, ValueError) as error:
                raise _no_token(writer, error) from error
            if row is not None:
                rows.append(row)
        if any(writer.done for writer in writers):
            break
    return written


def _no_token(writer: Writer, why: object) -> BundleError:
    return BundleError(f"{writer.engine.bundle.folder}: its model drew what is no token ({why})")


def _repeats(keys: Array) -> tuple[int, int]:
    """The last key, and how many times in a row it came."""
    if not len(keys):
        return -1, 0
    other = np.flatnonzero(keys != keys[-1])
    return int(keys[-1]), len(keys) - (int(other[-1]) + 1 if len(other) else 0)


def _check_span(past: Performance, future: Performance, start: float, end: float) -> None:
    if not 0 <= start < end:
        raise InputError(f"the span to write must begin at 0 or later and end after it begins: {start} to {end} s")
    if end > LONGEST_SECONDS:
        raise InputError(f"the span to write must end within {LONGEST_SECONDS / 3600:.0f} hours, not at {end} s")
    if not (onsets(past) < start).all():
        raise InputError(f"what is before must begin before the span to write, at {start} s")
    if not (onsets(future) >= end).all():
        raise InputError(f"what is after must not begin before the end of the span to write, at {end} s")


def _tick_from(seconds: float) -> int:
    """The first tick at or after `seconds`."""
    tick = int(np.ceil(seconds * TICKS_PER_SECOND - 1e-6))
    return tick + (tick / TICKS_PER_SECOND < seconds)
