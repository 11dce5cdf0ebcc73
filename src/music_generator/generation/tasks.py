"""What can be asked for: compose, continue, lead in, infill, bridge. All are one task: to write a `Span`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.generation.engine import Ahead, Dice, Engine, Lanes, Stream
from music_generator.performance import LOWEST_PITCH, Performance, join
from music_generator.tokens import (
    KEYS,
    RESUME,
    TICKS_PER_SECOND,
    TOKEN_DTYPE,
    VELOCITY_BINS,
    decode,
    encode,
)

Array = NDArray[Any]

LONGEST_SECONDS = 24 * 3600.0
PIECE_SECONDS, JOIN_SECONDS = 60.0, 8.0  # of new music, where no length is asked for: into the open, into a future
LOWEST_TEMPERATURE = 0.01
BATCH = 64  # pieces written at a time
_SOFTEST = VELOCITY_BINS.edges.tolist()  # velocity of each class
_VELOCITIES = int(VELOCITY_BINS.widths[0])  # in a class
_NOT, _NEVER = np.float32(-1e9), np.float32(1e9)  # as noise: no such class; as a tick: no such key


@dataclass(frozen=True)
class SamplingOptions:
    """How to draw. Temperature holds for every field of a token, top-p for key and velocity alone.

    Shift and duration are not cut: their long ends are rare and weigh much, and without them music grows ever denser.
    `seed` None takes a new one each time. `longest_rest_seconds` without a note's onset and `longest_repeat` strokes of
    one pitch in a row are not exceeded, unless what is given does.
    """

    temperature: float = 0.97
    top_p: float = 0.92
    seed: int | None = None
    composer: str | None = None
    longest_rest_seconds: float = 4.0
    longest_repeat: int = 8

    def __post_init__(self) -> None:
        if not LOWEST_TEMPERATURE <= self.temperature <= 10:
            raise InputError(
                f"`temperature` must be {LOWEST_TEMPERATURE} to 10, not {self.temperature}: near 0 the likeliest note "
                "is taken every time, and a recurrent model then repeats itself for ever; try 0.8 for calmer music"
            )
        if not 0 < self.top_p <= 1:
            raise InputError(f"`top_p` must be above 0 and at most 1, not {self.top_p}")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise InputError(f"`seed` must be 0 to {(1 << 63) - 1}, not {self.seed}")
        if not self.longest_rest_seconds > 0:
            raise InputError(f"`longest_rest_seconds` must be above 0, not {self.longest_rest_seconds}")
        if self.longest_repeat < 1:
            raise InputError(f"`longest_repeat` must be at least 1, not {self.longest_repeat}")


@dataclass(frozen=True)
class Span:
    """What is to be written: the strokes whose onsets lie in [`start`, `end`) seconds, between a past and a future.

    All on one time line. After `notes` notes the span ends with the last of them.
    """

    past: Performance
    future: Performance
    start: float
    end: float
    notes: int | None = None

    def filled(self, rows: list[tuple[int, int, int, int]], first_tick: int) -> Performance:
        """The whole piece with the rows of a `Writer`: ended where the future strikes their keys, or left out."""
        written = decode(np.array(rows, TOKEN_DTYPE), first_tick)
        tempo_map = self.past.tempo_map if len(_onsets(self.past)) else self.future.tempo_map
        return replace(join([self.past, _clear_of(written, self.future), self.future]), tempo_map=tempo_map)


@dataclass(frozen=True)
class Generated:
    """A piece with what the model wrote: onsets in [`start`, `end`) seconds.

    `seconds_taken` counts reading and writing; of pieces written side by side, each has its share.
    """

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
    return generate(engine, to_compose(seconds, notes=notes), options)


def to_compose(seconds: float = PIECE_SECONDS, *, notes: int | None = None) -> Span:
    """The span of `compose`."""
    return Span(Performance(), Performance(), 0.0, _length("seconds", seconds), notes)


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
    return generate(engine, to_continue(primer, seconds, start=start, notes=notes), options)


def to_continue(
    primer: Performance, seconds: float = PIECE_SECONDS, *, start: float | None = None, notes: int | None = None
) -> Span:
    """The span of `continue_from`."""
    _need_notes(primer, "the primer")
    if start is None:
        start = _after(primer)
    else:
        if not 0 <= start <= LONGEST_SECONDS:
            raise InputError(f"`from` must be 0 to {LONGEST_SECONDS:.0f} seconds, not {start}")
        primer = primer.between(0, start)
        _need_notes(primer, f"the primer before {start} s")
    return Span(primer, Performance(), start, start + _length("seconds", seconds), notes)


def lead_in(
    engine: Engine, passage: Performance, seconds: float = JOIN_SECONDS, options: SamplingOptions | None = None
) -> Generated:
    """`seconds` of new music, then `passage`, which begins where the new music ends."""
    return generate(engine, to_lead_in(passage, seconds), options)


def to_lead_in(passage: Performance, seconds: float = JOIN_SECONDS) -> Span:
    """The span of `lead_in`."""
    _need_notes(passage, "the passage")
    return Span(Performance(), _begun_at(passage, _length("seconds", seconds)), 0.0, seconds)


def infill(
    engine: Engine, piece: Performance, start: float, end: float, options: SamplingOptions | None = None
) -> Generated:
    """`piece` with the strokes that begin in [`start`, `end`) seconds written anew; all others as they are."""
    return generate(engine, to_infill(piece, start, end), options)


def to_infill(piece: Performance, start: float, end: float) -> Span:
    """The span of `infill`."""
    _need_notes(piece, "the piece")
    if not 0 <= start < end:
        raise InputError(
            f"a gap must begin at 0 or later and end after it begins: `from` is {start} s, `to` is {end} s"
        )
    if start >= piece.end:
        raise InputError(f"the gap from {start} s lies outside the piece, which ends at {piece.end:.2f} s")
    return Span(piece.between(0, start), piece.between(end), start, end)


def bridge(
    engine: Engine,
    before: Performance,
    after: Performance,
    seconds: float = JOIN_SECONDS,
    options: SamplingOptions | None = None,
) -> Generated:
    """`before`, `seconds` of new music after its last onset, then `after`."""
    return generate(engine, to_bridge(before, after, seconds), options)


def to_bridge(before: Performance, after: Performance, seconds: float = JOIN_SECONDS) -> Span:
    """The span of `bridge`."""
    _need_notes(before, "the first piece")
    _need_notes(after, "the second piece")
    start = _after(before)
    end = start + _length("seconds", seconds)
    return Span(before, _begun_at(after, end), start, end)


def variations(options: SamplingOptions, count: int) -> list[SamplingOptions]:
    """`count` options that differ in their seed alone, so that each variation can be had again by its own seed."""
    if count < 1:
        raise InputError(f"`variations` must be at least 1, not {count}")
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 31)
    return [replace(options, seed=seed + i) for i in range(count)]


def generate(engine: Engine, span: Span, options: SamplingOptions | None = None) -> Generated:
    """Write a span. Its past and its future come back as they went in, but for what `generate_many` says.

    Raises `InputError` if something does not fit.
    """
    (made,) = generate_many(engine, [(span, options or SamplingOptions())])
    return made


def generate_many(
    engine: Engine, spans: Iterable[tuple[Span, SamplingOptions]], *, size: int | None = None
) -> Iterator[Generated]:
    """Write many spans, `size` at a time in one call of the network; they come in order, each as if it were alone.

    Past and future come back as they went in, except that a stroke of the past held when the future strikes its key
    ends there. Raises `InputError` if something does not fit.
    """
    if size is None:
        spans = list(spans)
        size = max(1, min(BATCH, len(spans)))
    if size < 1:
        raise InputError(f"`size` must be at least 1, not {size}")
    coming = enumerate(spans)
    pools = {joined: _Pool(engine, size, joined=joined) for joined in (False, True)}
    done: dict[int, Generated] = {}
    following = 0
    while True:
        while sum(len(pool.busy) for pool in pools.values()) < size and (entry := next(coming, None)):
            begun = time.perf_counter()
            number, (span, options) = entry
            writer = Writer.of(engine, span, *variations(options, 1))
            pools[writer.ahead is not None].add(_Writing(number, span, writer), begun)
        busy = [pool for pool in pools.values() if pool.busy]
        if not busy:
            return
        for pool in busy:
            done |= {writing.number: writing.result() for writing in pool.step()}
        while following in done:
            yield done.pop(following)
            following += 1


@dataclass
class _Writing:
    """A span that is being written, and the seconds of computing that were its share."""

    number: int
    span: Span
    writer: Writer
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)

    def result(self) -> Generated:
        begun = time.perf_counter()
        writer, span, end = self.writer, self.span, self.span.end
        if writer.notes_left == 0:
            end = min(end, (writer.now + 1) / TICKS_PER_SECOND)
        whole = span.filled(self.rows, writer.first_tick)
        seed = writer.options.seed
        assert seed is not None
        taken = self.seconds + time.perf_counter() - begun
        return Generated(whole, span.start, end, seed, len(self.rows), taken)


class _Pool:
    """Spans that are written in the first lanes of one graph."""

    def __init__(self, engine: Engine, size: int, *, joined: bool) -> None:
        self._engine, self._size, self._joined = engine, size, joined
        self._lanes: Lanes | None = None  # made when first used: loading a graph takes time
        self.busy: list[_Writing] = []  # by lane
        self._clock = 0.0  # seconds of computing that one lane's share was, since the beginning

    def add(self, writing: _Writing, begun: float) -> None:
        """Give it a lane; it was `begun` to be read at that `time.perf_counter`."""
        self._lanes = self._lanes or Lanes(self._engine, self._size, joined=self._joined)
        writing.writer.enter(self._lanes, len(self.busy))
        self.busy.append(writing)
        writing.seconds = time.perf_counter() - begun - self._clock

    def step(self) -> list[_Writing]:
        """Write a token of each; those that are finished leave."""
        assert self._lanes is not None
        begun, busy = time.perf_counter(), len(self.busy)
        rows = write_tokens(self._lanes, [writing.writer for writing in self.busy])
        left = []
        for lane in reversed(range(busy)):
            row, writing = rows[lane], self.busy[lane]
            if row is not None:
                writing.rows.append(row)
            if row is None or writing.writer.notes_left == 0:
                left.append(self._leave(lane))
        self._clock += (time.perf_counter() - begun) / busy
        for writing in left:
            writing.seconds += self._clock
        return left

    def _leave(self, lane: int) -> _Writing:
        """Take a writing out; the one in the last lane takes its place."""
        leaving, last = self.busy[lane], self.busy.pop()
        if last is not leaving:
            assert self._lanes is not None
            self._lanes.move(len(self.busy), lane)
            last.writer.sit(self._lanes, lane)
            self.busy[lane] = last
        return leaving


Row = tuple[int, int, int, int]  # a token, as `TOKEN_DTYPE`


def write_tokens(lanes: Lanes, writers: Sequence[Writer]) -> list[Row | None]:
    """One more token of each writer, which sit in the first lanes; None where it is the future's turn, or the end."""
    lanes.ticks[: len(writers)] = [writer.prepare() for writer in writers]
    lanes.step(len(writers))
    drawn = zip(*(values.tolist() for values in lanes.drawn), strict=True)
    return [writer.take(*token) for writer, token in zip(writers, drawn, strict=False)]


class Writer:
    """The token rows (`TOKEN_DTYPE` tuples) that fill a span, to be iterated over once, each yielded as it is drawn.

    The first row's shift counts from `first_tick`. Memory does not grow with what is written. In place of iterating,
    several writers may `enter` lanes and `write_tokens` together, as long as `notes_left` is not 0.
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

    def _keep_held(self, past: Performance) -> None:
        """No key is struck while the past holds it: to the fraction of a tick, and however long ago it was struck."""
        for strokes, key, first in ((past.notes, "pitch", -LOWEST_PITCH), (past.pedals, "pedal", KEYS)):
            onset, duration = strokes["onset"], strokes["duration"]
            ticks = np.ceil((onset + duration) * TICKS_PER_SECOND - 1e-6)
            ticks += ticks / TICKS_PER_SECOND - onset < duration
            np.maximum.at(self._stream.released, strokes[key] + first, ticks.astype(np.float32))

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
        lanes = Lanes(self.engine, 1, joined=self.ahead is not None)
        self.enter(lanes, 0)
        alone = [self]
        while self.notes_left != 0:
            (row,) = write_tokens(lanes, alone)
            if row is None:
                return
            yield row

    def enter(self, lanes: Lanes, lane: int) -> None:
        """Begin to write in a lane."""
        options = self.options
        lanes.put(lane, self._stream, self.ahead, options.temperature, options.top_p)
        self._dice = Dice(options.seed, options.temperature)
        self._no_pedals, self._no_key, self._most = False, -1, self._most_repeats()
        self.sit(lanes, lane)

    def sit(self, lanes: Lanes, lane: int) -> None:
        """Go on in a lane that what is written has been moved to."""
        self._lanes, self._lane, self._noise, self._barred = lanes, lane, lanes.noise[lane], lanes.barred[lane]

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
        noise, (one, other, self._velocity_chance) = self._dice.roll()
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
        if shift >= RESUME or now >= self.end_tick:
            return None
        self.now, self.last_key = now, key
        self._lanes.strike(self._lane, key, now, now + held)
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

    def _most_repeats(self) -> int:
        """How often the last pitch may come in a row, with what the future adds to it."""
        most, added = self.options.longest_repeat, self.first_times
        return most - added if self.repeated == self.first_repeated and added < most else most


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
