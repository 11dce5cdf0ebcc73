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
from music_generator.generation.engine import MASKED, Ahead, Drawn, Engine, Limits, Stream, empty_rows
from music_generator.model.config import FIELDS
from music_generator.performance import Performance, join
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
    """How to draw. Temperature and top-p hold for every field of a token: shift, key, velocity, duration.

    `seed` None takes a new one each time. `longest_rest_seconds` without a note's onset and `longest_repeat` strokes of
    one pitch in a row are not exceeded, unless what is given does.
    """

    temperature: float = 1.0
    top_p: float = 0.98
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
        if not 0 < self.top_p <= 1:
            raise InputError(f"`top_p` must be above 0 and at most 1, not {self.top_p}")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise InputError(f"`seed` must be 0 to {(1 << 63) - 1}, not {self.seed}")
        if not self.longest_rest_seconds > 0 or self.longest_repeat < 1:
            raise InputError("`longest_rest_seconds` must be above 0 and `longest_repeat` at least 1")


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
    if start is not None:
        if start < 0:
            raise InputError(f"`from` must be at least 0 seconds, not {start}")
        primer = primer.between(0, start)
    _need_notes(primer, "the primer" if start is None else f"the primer before {start} s")
    start = _after(primer) if start is None else start
    return generate(
        engine, past=primer, start=start, end=start + _length("seconds", seconds), options=options, notes=notes
    )


def lead_in(
    engine: Engine, passage: Performance, seconds: float = JOIN_SECONDS, options: SamplingOptions | None = None
) -> Generated:
    """`seconds` of new music, then `passage`, which begins where the new music ends."""
    _need_notes(passage, "the passage")
    future = passage.shifted(_length("seconds", seconds) - _first_onset(passage))
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
    return generate(engine, past=before, future=after.shifted(end - _first_onset(after)), start=start, end=end,
                    options=options)  # fmt: skip


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
    empty. Both come back as they went in, except that a stroke of theirs held when its
    key is struck again ends there. Raises `InputError` if something does not fit.
    """
    (options,) = variations(options or SamplingOptions(), 1)
    if notes is not None and notes < 1:
        raise InputError(f"`notes` must be at least 1, not {notes}")
    past, future = past or Performance(), future or Performance()
    begun = time.perf_counter()
    writer = Writer(engine, past, future, start, end, options, notes)
    rows = list(writer)
    first_tick = writer.first_tick
    written = decode(np.array(rows, TOKEN_DTYPE) if rows else empty_rows(), first_tick)
    given = past if len(past) or not len(future) else replace(future, notes=future.notes[:0], pedals=future.pedals[:0])
    whole = join([given, _beside(written, past), future])
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
        assert options.seed is not None
        self.engine, self.options, self.notes_left = engine, options, notes
        composer = engine.composer(options.composer)
        rows = encode(past)
        self.stream: Stream = engine.read_past(rows, composer)
        self.first_tick = self.stream.now
        self.ahead: Ahead | None = None
        if len(future.notes) or len(future.pedals):
            ahead_rows = encode(future)
            self.ahead = engine.read_future(ahead_rows, int(ahead_rows["shift"][0]), composer)
        self.start_tick = max(int(np.ceil(start * TICKS_PER_SECOND - 1e-6)), self.first_tick)
        self.end_tick = int(np.ceil(end * TICKS_PER_SECOND - 1e-6))
        is_note = np.flatnonzero(rows["key"] < KEYS)
        onsets = np.cumsum(rows["shift"], dtype=np.int64)
        self.last_note_tick = max(int(onsets[is_note[-1]]), 0) if len(is_note) else self.start_tick
        self.repeated, self.times = _repeats(rows["key"][is_note])
        self.rest_ticks = max(1, round(options.longest_rest_seconds * TICKS_PER_SECOND))
        self.temperature = np.full(len(FIELDS), options.temperature, np.float32)
        self.top_p = np.full(len(FIELDS), options.top_p, np.float32)

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
        now = self.stream.now
        earliest, room = max(0, self.start_tick - now), self.end_tick - 1 - now
        if earliest > room:
            return None
        rest = max(1, self.last_note_tick + self.rest_ticks - now)
        latest = max(earliest, min(room if self.ahead else _FAR, rest, _FAR))
        bias = np.zeros((1, SHIFT_CLASSES), np.float32)
        bias[0, : len(_FIRST)][(latest < _FIRST) | (earliest > _LAST)] = MASKED
        bias[0, END] = MASKED
        if rest <= room:  # to resume now would leave too long a rest
            bias[0, RESUME] = MASKED
        key_bias = np.zeros((1, STROKES), np.float32)
        if self.times >= self.options.longest_repeat:
            key_bias[0, self.repeated] = MASKED
        return Limits(earliest, latest, bias, key_bias)

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


def _beside(written: Performance, past: Performance) -> Performance:
    """What was written, later by the part of a tick that a key of the past is still held."""
    fitted = []
    for strokes, before, key in ((written.notes, past.notes, "pitch"), (written.pedals, past.pedals, "pedal")):
        strokes = strokes.copy()
        ends = np.zeros(128)
        np.maximum.at(ends, before[key], before["onset"] + before["duration"])
        late = np.clip(ends[strokes[key]] - strokes["onset"], 0, None)
        kept = late < strokes["duration"]
        strokes, late = strokes[kept], late[kept]
        strokes["onset"] += late
        strokes["duration"] -= late
        fitted.append(strokes)
    return replace(written, notes=fitted[0], pedals=fitted[1])


def _need_notes(performance: Performance, what: str) -> None:
    if not len(performance):
        raise InputError(f"{what} has no notes")


def _length(name: str, seconds: float) -> float:
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InputError(f"`{name}` must be above 0 and at most {LONGEST_SECONDS:.0f}, not {seconds}")
    return seconds


def _onsets(performance: Performance) -> Array:
    return np.concatenate([performance.notes["onset"], performance.pedals["onset"]])


def _first_onset(performance: Performance) -> float:
    return float(_onsets(performance).min())


def _after(performance: Performance) -> float:
    """One tick after the last onset: what is written from there on is never taken for what was given."""
    return float(_onsets(performance).max()) + 1 / TICKS_PER_SECOND
