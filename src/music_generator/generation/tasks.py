"""What can be asked for: compose, continue, lead in, infill, bridge. All are one task, `generate`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.generation.engine import Ahead, Drawn, Engine, Limits, Stream
from music_generator.model.config import FIELDS, MASKED
from music_generator.performance import LOWEST_PITCH, Performance, join
from music_generator.tokens import (
    END,
    KEYS,
    RESUME,
    SHIFT_BINS,
    SHIFT_CLASSES,
    STROKES,
    TICKS_PER_SECOND,
    TOKEN_DTYPE,
    decode,
    encode,
)

Array = NDArray[Any]

LONGEST_SECONDS = 24 * 3600.0
PIECE_SECONDS, JOIN_SECONDS = 60.0, 8.0  # of new music, where no length is asked for: into the open, into a future
_FIRST, _LAST = SHIFT_BINS.edges[:-1], SHIFT_BINS.edges[1:] - 1
_FAR = int(_LAST[-1])


@dataclass(frozen=True)
class SamplingOptions:
    """How to draw. Temperature holds for every field of a token, top-p for key and velocity.

    Shift and duration have a top-p of their own: cutting their long ends, which are rare and weigh much, makes music
    that grows ever denser.
    `seed` None takes a new one each time. `longest_rest_seconds` without a note's onset and `longest_repeat` strokes of
    one pitch in a row are not exceeded, unless what is given does.
    """

    temperature: float = 1.0
    top_p: float = 0.95
    time_top_p: float = 1.0
    seed: int | None = None
    composer: str | None = None
    longest_rest_seconds: float = 4.0
    longest_repeat: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= 10:
            raise InputError(
                f"`temperature` must be above 0 and at most 10, not {self.temperature}: near 0 the likeliest note is "
                "taken every time, and a recurrent model then repeats itself for ever; try 0.8 for calmer music"
            )
        for name in ("top_p", "time_top_p"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be above 0 and at most 1, not {getattr(self, name)}")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise InputError(f"`seed` must be 0 to {(1 << 63) - 1}, not {self.seed}")
        if not self.longest_rest_seconds > 0:
            raise InputError(f"`longest_rest_seconds` must be above 0, not {self.longest_rest_seconds}")
        if self.longest_repeat < 1:
            raise InputError(f"`longest_repeat` must be at least 1, not {self.longest_repeat}")


@dataclass(frozen=True)
class Generated:
    """A piece with what the model wrote: onsets in [`start`, `end`) seconds. Speed counts reading and writing."""

    performance: Performance
    start: float
    end: float
    seed: int
    tokens: int
    seconds_taken: float

    @property
    def tokens_per_second(self) -> float:
        """Tokens written in a second of computing."""
        return self.tokens / max(self.seconds_taken, 1e-9)

    @property
    def written(self) -> Performance:
        """Only what the model wrote."""
        return self.performance.between(self.start, self.end)


def compose(
    engine: Engine, seconds: float = PIECE_SECONDS, options: SamplingOptions | None = None, *, notes: int | None = None
) -> Generated:
    """A piece from nothing, of `seconds` (or of `notes` notes, if they come first)."""
    return generate(engine, start=0.0, end=_length("seconds", seconds), options=options, notes=notes)


def continue_from(
    engine: Engine,
    primer: Performance,
    seconds: float = PIECE_SECONDS,
    options: SamplingOptions | None = None,
    *,
    start: float | None = None,
    notes: int | None = None,
) -> Generated:
    """`primer`, then `seconds` (or `notes` notes) more, after its last onset or, if given, from `start` seconds."""
    _need_notes(primer, "the primer")
    if start is None:
        start = _after(primer)
    else:
        if not 0 <= start <= LONGEST_SECONDS:
            raise InputError(f"`from` must be 0 to {LONGEST_SECONDS:.0f} seconds, not {start}")
        primer = primer.between(0, start)
        _need_notes(primer, f"the primer before {start} s")
    return generate(
        engine, past=primer, start=start, end=start + _length("seconds", seconds), options=options, notes=notes
    )


def lead_in(
    engine: Engine, passage: Performance, seconds: float = JOIN_SECONDS, options: SamplingOptions | None = None
) -> Generated:
    """`seconds` of new music, then `passage`, which begins where the new music ends."""
    _need_notes(passage, "the passage")
    future = _begun_at(passage, _length("seconds", seconds))
    return generate(engine, future=future, start=0.0, end=seconds, options=options)


def infill(
    engine: Engine, piece: Performance, start: float, end: float, options: SamplingOptions | None = None
) -> Generated:
    """`piece` with the strokes that begin in [`start`, `end`) seconds written anew; all others as they are."""
    _need_notes(piece, "the piece")
    if not 0 <= start < end:
        raise InputError(
            f"a gap must begin at 0 or later and end after it begins: `from` is {start} s, `to` is {end} s"
        )
    if start >= piece.end:
        raise InputError(f"the gap from {start} s lies outside the piece, which ends at {piece.end:.2f} s")
    return generate(
        engine, past=piece.between(0, start), future=piece.between(end), start=start, end=end, options=options
    )


def bridge(
    engine: Engine,
    before: Performance,
    after: Performance,
    seconds: float = JOIN_SECONDS,
    options: SamplingOptions | None = None,
) -> Generated:
    """`before`, `seconds` of new music after its last onset, then `after`."""
    _need_notes(before, "the first piece")
    _need_notes(after, "the second piece")
    start = _after(before)
    end = start + _length("seconds", seconds)
    return generate(engine, past=before, future=_begun_at(after, end), start=start, end=end, options=options)


def variations(options: SamplingOptions, count: int) -> list[SamplingOptions]:
    """`count` options that differ in their seed alone, so that each variation can be had again by its own seed."""
    if count < 1:
        raise InputError(f"`variations` must be at least 1, not {count}")
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 31)
    return [replace(options, seed=seed + i) for i in range(count)]


def generate(
    engine: Engine,
    *,
    past: Performance | None = None,
    future: Performance | None = None,
    start: float,
    end: float,
    options: SamplingOptions | None = None,
    notes: int | None = None,
) -> Generated:
    """Write the strokes whose onsets lie in [`start`, `end`) seconds, between a past and a future on one time line.

    `past` holds strokes that begin before `start`, `future` such that begin at `end` or later; either may be missing or
    empty. Both come back as they went in, except that a stroke of the past held when the future strikes its key ends
    there. After `notes` notes the span ends with the last of them.

    Raises `InputError` if something does not fit.
    """
    (options,) = variations(options or SamplingOptions(), 1)
    # `or` would take one of pedals alone for none
    past, future = (Performance() if given is None else given for given in (past, future))
    begun = time.perf_counter()
    writer = Writer(engine, past, future, start, end, options, notes)
    rows = list(writer)
    written = decode(np.array(rows, TOKEN_DTYPE), writer.first_tick)
    if writer.notes_left == 0:
        end = min(end, (writer.stream.now + 1) / TICKS_PER_SECOND)
    tempo_map = past.tempo_map if len(_onsets(past)) else future.tempo_map
    whole = replace(join([past, _clear_of(written, future), future]), tempo_map=tempo_map)
    taken = time.perf_counter() - begun
    assert options.seed is not None
    return Generated(whole, start, end, options.seed, len(rows), taken)


class Writer:
    """An iterator over the token rows (`TOKEN_DTYPE` tuples) that fill a span, each yielded as it is drawn.

    The first row's shift counts from `first_tick`. Memory does not grow with what is written.
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
        self.engine, self.notes_left = engine, notes
        (self.options,) = variations(options, 1)
        composer = engine.composer(options.composer)
        rows = encode(past)
        self.stream: Stream = engine.read_past(rows, composer)
        self.first_tick = self.stream.now
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
        self.temperature = np.full((1, len(FIELDS)), options.temperature, np.float32)
        shares = [options.time_top_p if name in ("shift", "duration") else options.top_p for name in FIELDS]
        self.top_p = np.array([shares], np.float32)

    def _keep_held(self, past: Performance) -> None:
        """No key is struck while the past holds it: to the fraction of a tick, and however long ago it was struck."""
        for strokes, key, first in ((past.notes, "pitch", -LOWEST_PITCH), (past.pedals, "pedal", KEYS)):
            onset, duration = strokes["onset"], strokes["duration"]
            ticks = np.ceil((onset + duration) * TICKS_PER_SECOND - 1e-6)
            ticks += ticks / TICKS_PER_SECOND - onset < duration
            np.maximum.at(self.stream.released[0], strokes[key] + first, ticks.astype(np.float32))

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

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        rng = np.random.default_rng(self.options.seed)
        while self.notes_left != 0:
            limits = self._limits()
            if limits is None:
                return
            uniforms = rng.random((1, 7), np.float32)
            drawn = self.engine.draw(self.stream, self.ahead, limits, uniforms, self.temperature, self.top_p)
            if drawn.shift_class >= RESUME or self.stream.now + drawn.shift >= self.end_tick:
                return
            self.engine.advance(self.stream, drawn)
            self._remember(drawn)
            yield drawn.shift, drawn.key, drawn.velocity, drawn.duration

    def _limits(self) -> Limits | None:
        """What may come next; None if nothing may but the future."""
        now, room = self.stream.now, self.end_tick - 1 - self.stream.now
        due = self.last_note_tick + self.rest_ticks - now  # in how many ticks there must be another note
        unfinished = self.ahead is not None and now + due < self.next_note_tick
        if unfinished:
            due = min(due, room)
        key_bias = np.zeros((1, STROKES), np.float32)
        if due <= 1:  # a pedal may come up to one tick before
            key_bias[0, KEYS:] = MASKED
        if self.times >= self._most_repeats():
            key_bias[0, self.repeated] = MASKED
        earliest = max(0, self.start_tick - now, self._free_in(key_bias))
        if earliest > room:
            return None
        latest = max(earliest, min(room if self.ahead else _FAR, max(1, due - 1), _FAR))
        bias = np.zeros((1, SHIFT_CLASSES), np.float32)
        bias[0, : len(_FIRST)][(latest < _FIRST) | (min(earliest, _FAR) > _LAST)] = MASKED
        bias[0, END] = MASKED
        if unfinished:
            bias[0, RESUME] = MASKED
        return Limits(earliest, latest, bias, key_bias)

    def _most_repeats(self) -> int:
        """How often the last pitch may come in a row, with what the future adds to it."""
        most, added = self.options.longest_repeat, self.first_times
        return most - added if self.repeated == self.first_repeated and added < most else most

    def _free_in(self, key_bias: Array) -> int:
        """In how many ticks some key can be struck: it is not held, and of one tick's strokes the keys rise."""
        ticks = np.maximum(self.stream.released[0] - self.stream.now, 0)
        ticks[: self.stream.last_key + 1] = np.maximum(ticks[: self.stream.last_key + 1], 1)
        return int(ticks[key_bias[0] == 0].min())

    def _remember(self, drawn: Drawn) -> None:
        if drawn.key >= KEYS:
            return
        self.last_note_tick = self.stream.now
        self.times = self.times + 1 if drawn.key == self.repeated else 1
        self.repeated = drawn.key
        if self.notes_left is not None:
            self.notes_left -= 1


def _repeats(keys: Array) -> tuple[int, int]:
    """The last key, and how many times in a row it came."""
    if not len(keys):
        return -1, 0
    other = np.flatnonzero(keys != keys[-1])
    return int(keys[-1]), len(keys) - (int(other[-1]) + 1 if len(other) else 0)


def _clear_of(written: Performance, future: Performance) -> Performance:
    """What was written, without strokes that the future's next one on their key would leave no time to sound."""
    fitted = []
    for strokes, after, key in ((written.notes, future.notes, "pitch"), (written.pedals, future.pedals, "pedal")):
        first = np.full(128, np.inf)
        np.minimum.at(first, after[key], after["onset"])
        fitted.append(strokes[first[strokes[key]] - strokes["onset"] > 0.5 / TICKS_PER_SECOND])
    return replace(written, notes=fitted[0], pedals=fitted[1])


def _check_span(past: Performance, future: Performance, start: float, end: float) -> None:
    if not 0 <= start < end:
        raise InputError(f"the span to write must begin at 0 or later and end after it begins: {start} to {end} s")
    if end > LONGEST_SECONDS:
        raise InputError(f"the span to write must end within {LONGEST_SECONDS / 3600:.0f} hours, not at {end} s")
    if not (_onsets(past) < start).all():
        raise InputError(f"what is before must begin before the span to write, at {start} s")
    if not (_onsets(future) >= end).all():
        raise InputError(f"what is after must not begin before the end of the span to write, at {end} s")


def _tick_from(seconds: float) -> int:
    """The first tick at or after `seconds`."""
    tick = int(np.ceil(seconds * TICKS_PER_SECOND - 1e-6))
    return tick + (tick / TICKS_PER_SECOND < seconds)


def _need_notes(performance: Performance, what: str) -> None:
    if not len(performance):
        raise InputError(f"{what} has no notes")


def _length(name: str, seconds: float) -> float:
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InputError(f"`{name}` must be above 0 and at most {LONGEST_SECONDS:.0f}, not {seconds}")
    return seconds


def _onsets(performance: Performance) -> Array:
    return np.concatenate([performance.notes["onset"], performance.pedals["onset"]])


def _begun_at(passage: Performance, seconds: float) -> Performance:
    """The passage with its first stroke at exactly `seconds`, or all of it later."""
    return passage.shifted(-float(_onsets(passage).min())).shifted(seconds)


def _after(performance: Performance) -> float:
    """One tick after the last onset: what is written from there on is never taken for what was given."""
    return float(_onsets(performance).max()) + 1 / TICKS_PER_SECOND
