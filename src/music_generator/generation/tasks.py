"""What can be asked for: compose, continue, lead in, infill, bridge. All are one task: to write a `Span`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.generation.span import LONGEST_SECONDS, Row, SamplingOptions, Span, onsets
from music_generator.generation.writer import Writer, Writers
from music_generator.music.performance import Performance
from music_generator.music.tokens import TICKS_PER_SECOND

PIECE_SECONDS, JOIN_SECONDS = 60.0, 8.0  # of new music, where no length is asked for: into the open, into a future
BATCH = 64  # pieces written at a time
TOKENS = 32  # of each that are written before it is looked who is done


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
    """`piece` with the events that begin in [`start`, `end`) seconds written anew; all others as they are."""
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

    Past and future come back as they went in, except that a event of the past held when the future strikes its key
    ends there. Raises `InputError` if something does not fit.
    """
    if size is None:
        spans = list(spans)
        size = max(1, min(BATCH, len(spans)))
    if size < 1:
        raise InputError(f"`size` must be at least 1, not {size}")
    coming, alike = enumerate(spans), _Alike(engine)
    desks = [Writers(engine, size, joined=joined) for joined in (False, True)]
    busy: dict[Writer, _Writing] = {}
    done: dict[int, Generated] = {}
    following = 0
    while True:
        while len(busy) < size and (entry := next(coming, None)):
            begun = time.perf_counter()
            number, (span, options) = entry
            writer = alike.writer(span, options)
            desk = desks[writer.ahead is not None]
            desk.add(writer)
            busy[writer] = _Writing(number, span, time.perf_counter() - begun - desk.clock)
        if not busy:
            return
        for desk in filter(len, desks):
            for writer, rows in desk.step(TOKENS):
                busy[writer].rows += rows
                if writer.done:
                    writing = busy.pop(writer)
                    done[writing.number] = writing.result(writer, desk.clock)
        while following in done:
            yield done.pop(following)
            following += 1


class _Alike:
    """Writers of spans; what is asked for again with another seed is not read again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: tuple[Span, SamplingOptions, Writer] | None = None

    def writer(self, span: Span, options: SamplingOptions) -> Writer:
        but_for_seed = replace(options, seed=None)
        if self._last is None or self._last[0] is not span or self._last[1] != but_for_seed:
            self._last = span, but_for_seed, Writer.of(self._engine, span, options)
        return self._last[2].again(options.seed)


@dataclass
class _Writing:
    """A span that is being written; `seconds` of reading it, less what the clock of those beside it showed then."""

    number: int
    span: Span
    seconds: float
    rows: list[Row] = field(default_factory=list)

    def result(self, writer: Writer, clock: float) -> Generated:
        begun = time.perf_counter()
        end = self.span.end
        if writer.notes_left == 0:
            end = min(end, (writer.now + 1) / TICKS_PER_SECOND)
        whole = self.span.filled(self.rows, writer.first_tick)
        seed = writer.options.seed
        assert seed is not None
        taken = self.seconds + clock + time.perf_counter() - begun
        return Generated(whole, self.span.start, end, seed, len(self.rows), taken)


def _need_notes(performance: Performance, what: str) -> None:
    if not len(performance):
        raise InputError(f"{what} has no notes")


def _length(name: str, seconds: float) -> float:
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InputError(f"`{name}` must be above 0 and at most {LONGEST_SECONDS:.0f}, not {seconds}")
    return seconds


def _begun_at(passage: Performance, seconds: float) -> Performance:
    """The passage with its first event at exactly `seconds`, or all of it later."""
    return passage.shifted(-float(onsets(passage).min())).shifted(seconds)


def _after(performance: Performance) -> float:
    """One tick after the last onset: what is written from there on is never taken for what was given."""
    return float(onsets(performance).max()) + 1 / TICKS_PER_SECOND
