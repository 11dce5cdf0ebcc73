"""The tasks: compose, continue, lead in, infill, bridge. All are one: to write a `Span`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.generation.keep import Keep, everything
from music_generator.generation.span import SamplingOptions, Span, held_over, onsets, without_notes
from music_generator.generation.writer import BatchWriter, Writer
from music_generator.music.joining import delayed, followed_by, note_onsets
from music_generator.music.performance import LONGEST_SECONDS, Performance
from music_generator.music.tokens import TICKS_PER_SECOND
from music_generator.music.voices import CHORD_SECONDS

PIECE_SECONDS, JOIN_SECONDS = 60.0, 8.0  # default lengths of new music: without and with a future
BATCH = 64  # pieces written at a time
TOKENS = 32  # of each that are written in one call


@dataclass(frozen=True)
class Generated:
    """A piece with what the model wrote.

    Attributes:
        performance: the whole piece.
        start: the onsets of what was written lie in [`start`, `end`), in seconds.
        end: see `start`.
        seed: gives the same music again.
        tokens: how many were written.
        seconds_taken: of computing, to read and to write; a share of it for pieces that were written side by side.
        kept: the notes of the span that stayed.
    """

    performance: Performance
    start: float
    end: float
    seed: int
    tokens: int
    seconds_taken: float
    kept: Performance = field(default_factory=Performance)

    @property
    def tokens_per_second(self) -> float:
        """Tokens written in a second of computing."""
        return self.tokens / max(self.seconds_taken, 1e-9)

    @property
    def written(self) -> Performance:
        """The music that the model wrote, without past, future and kept notes."""
        return without_notes(self.performance.between(self.start, self.end), self.kept.notes)


def compose(
    engine: Engine,
    seconds: float = PIECE_SECONDS,
    options: SamplingOptions | None = None,
    *,
    notes: int | None = None,
    open_end: bool = False,
) -> Generated:
    """Write a piece from nothing.

    Args:
        engine: the model.
        seconds: its length, up to the last onset.
        options: how tokens are drawn.
        notes: end after this many notes, if they come before `seconds` are over.
        open_end: stop at the length instead of ending the piece there.
    """
    return generate(engine, to_compose(seconds, notes=notes, open_end=open_end), options)


def to_compose(seconds: float = PIECE_SECONDS, *, notes: int | None = None, open_end: bool = False) -> Span:
    """Return the span of `compose`."""
    length = _length("seconds", seconds)
    return Span(Performance(), Performance(), 0.0, length, notes, closes=not open_end and notes is None)


def continue_from(
    engine: Engine,
    primer: Performance,
    seconds: float = PIECE_SECONDS,
    options: SamplingOptions | None = None,
    *,
    start: float | None = None,
    notes: int | None = None,
    open_end: bool = False,
    recall: tuple[float, float] | None = None,
) -> Generated:
    """Write on after a primer.

    Args:
        engine: the model.
        primer: what comes before.
        seconds: how much is written.
        options: how tokens are drawn.
        start: the second of the primer from which is written; after its last onset if None.
        notes: end after this many notes, if they come before `seconds` are over.
        open_end: stop at the length instead of ending the piece there.
        recall: a passage of the primer, from second to second, that the music shall come back to.
    """
    span = to_continue(primer, seconds, start=start, notes=notes, open_end=open_end, recall=recall)
    return generate(engine, span, options)


def to_continue(
    primer: Performance,
    seconds: float = PIECE_SECONDS,
    *,
    start: float | None = None,
    notes: int | None = None,
    open_end: bool = False,
    recall: tuple[float, float] | None = None,
) -> Span:
    """Return the span of `continue_from`."""
    _need_notes(primer, "the primer")
    if start is None:
        start = _after(primer)
    elif not 0 <= start <= max(primer.end, _after(primer)):
        raise InputError(f"`from` must be 0 to {primer.end:.2f}, the seconds of the primer, not {start:g}")
    primer = primer.between(0, start)
    _need_notes(primer, f"the primer before {start} s")
    end = start + _length("seconds", seconds)
    return Span(primer, Performance(), start, end, notes, closes=not open_end and notes is None, recall=recall)


def lead_in(
    engine: Engine, passage: Performance, seconds: float = JOIN_SECONDS, options: SamplingOptions | None = None
) -> Generated:
    """Write `seconds` of music that lead into a passage, which begins where they end."""
    return generate(engine, to_lead_in(passage, seconds), options)


def to_lead_in(passage: Performance, seconds: float = JOIN_SECONDS) -> Span:
    """Return the span of `lead_in`; silence at the beginning of the passage's file is a part of it."""
    _need_notes(passage, "the passage")
    wait = _length("seconds", seconds) - _first_onset(passage)
    if wait > 0:
        passage = delayed(passage, wait)
    end = _first_onset(passage)
    return Span(Performance(), passage, max(end - seconds, 0.0), end)


def infill(
    engine: Engine,
    piece: Performance,
    start: float,
    end: float,
    options: SamplingOptions | None = None,
    *,
    keep: Keep | None = None,
) -> Generated:
    """Replace the events of a piece whose onsets lie in [`start`, `end`) seconds; all others stay as they are.

    Args:
        engine: the model.
        piece: the music.
        start: the second at which the gap begins.
        end: the second before which it ends.
        options: how tokens are drawn.
        keep: says of each note of the gap whether it stays, given the gap's notes (n,); such as `keep.melody`.
    """
    return generate(engine, to_infill(piece, start, end, keep=keep), options)


def to_infill(piece: Performance, start: float, end: float, *, keep: Keep | None = None) -> Span:
    """Return the span of `infill`."""
    _need_notes(piece, "the piece")
    if not 0 <= start < end:
        raise InputError(
            f"a gap must begin at 0 or later and end after it begins: `from` is {start} s, `to` is {end} s"
        )
    if start >= piece.end:
        raise InputError(f"the gap from {start} s lies outside the piece, which ends at {piece.end:.2f} s")
    past, future = piece.between(0, start), piece.between(end)
    if len(future):
        held = held_over(piece.between(start, end).pedals, end)
        future = replace(future, pedals=np.concatenate([held, future.pedals]))
    kept = Performance()
    if keep is not None:
        notes = piece.between(start, end).notes
        kept = Performance(notes[keep(notes)])
        _need_notes(kept, f"what is kept of the gap from {start} to {end} s")
    return Span(past, future, start, end, kept=kept, closes=not len(future))


def accompany(
    engine: Engine, piece: Performance, options: SamplingOptions | None = None, *, keep: Keep = everything
) -> Generated:
    """Write music around notes that are kept, such as a melody, from their beginning to their end.

    Args:
        engine: the model.
        piece: holds the notes; its pedals and the notes that `keep` does not keep are left out.
        options: how tokens are drawn.
        keep: see `infill`; all notes by default.
    """
    return generate(engine, to_accompany(piece, keep=keep), options)


def to_accompany(piece: Performance, *, keep: Keep = everything) -> Span:
    """Return the span of `accompany`."""
    _need_notes(piece, "the piece")
    kept = Performance(piece.notes[keep(piece.notes)])
    _need_notes(kept, "what is kept of the piece")
    none = Performance(tempo_map=piece.tempo_map, source=piece.source)
    end = float(kept.notes["onset"].max()) + CHORD_SECONDS
    return Span(none, Performance(), 0.0, end, kept=kept, closes=True)


def bridge(
    engine: Engine,
    before: Performance,
    after: Performance,
    seconds: float = JOIN_SECONDS,
    options: SamplingOptions | None = None,
) -> Generated:
    """Write `seconds` of music between two pieces, after the last onset of the first."""
    return generate(engine, to_bridge(before, after, seconds), options)


def to_bridge(before: Performance, after: Performance, seconds: float = JOIN_SECONDS) -> Span:
    """Return the span of `bridge`."""
    _need_notes(before, "the first piece")
    _need_notes(after, "the second piece")
    start = _after(before)
    begin = start + max(_length("seconds", seconds) - _first_onset(after), 0.0)
    before, after = followed_by(before.between(0, start), after, begin)
    return Span(before, after, _after(before), float(onsets(after).min()))


def generate(engine: Engine, span: Span, options: SamplingOptions | None = None) -> Generated:
    """Write a span; its past and its future come back as `generate_many` says.

    Raises:
        InputError: the span does not fit its past and future.
    """
    (made,) = generate_many(engine, [(span, options or SamplingOptions())])
    return made


def generate_many(
    engine: Engine, spans: Iterable[tuple[Span, SamplingOptions]], *, size: int | None = None
) -> Iterator[Generated]:
    """Write many spans, `size` at a time; yield them in order, each the same as if it were alone.

    Past and future come back as they went in, except that an event of the past that is still held when the future
    strikes its key ends there.

    Raises:
        InputError: a span does not fit its past and future.
    """
    if size is None:
        spans = list(spans)
        size = max(1, min(BATCH, len(spans)))
    if size < 1:
        raise InputError(f"`size` must be at least 1, not {size}")
    numbered, readers = enumerate(spans), _Reader(engine)
    batch = BatchWriter(engine, size)
    busy: dict[Writer, _Writing] = {}
    finished: dict[int, Generated] = {}
    following = 0
    while True:
        while len(busy) < size and (entry := next(numbered, None)):
            begun = time.perf_counter()
            number, (span, options) = entry
            writer = readers.writer(span, options)
            batch.add(writer)
            busy[writer] = _Writing(number, span, time.perf_counter() - begun - batch.clock)
        if not busy:
            return
        for writer, rows in batch.step(TOKENS):
            busy[writer].rows += rows
            if writer.done:
                writing = busy.pop(writer)
                finished[writing.number] = writing.result(writer, batch.clock)
        while following in finished:
            yield finished.pop(following)
            following += 1


class _Reader:
    """Makes writers; a span that is asked for again with another seed is not read again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: tuple[Span, SamplingOptions, Writer] | None = None

    def writer(self, span: Span, options: SamplingOptions) -> Writer:
        without_seed = replace(options, seed=None)
        if self._last is None or self._last[0] is not span or self._last[1] != without_seed:
            self._last = span, without_seed, Writer(self._engine, span, options)
        return self._last[2].with_seed(options.seed)


@dataclass
class _Writing:
    """A span that is being written; `seconds`: of reading it, less the batch's clock when it began."""

    number: int
    span: Span
    seconds: float
    rows: list[list[int]] = field(default_factory=list)

    def result(self, writer: Writer, clock: float) -> Generated:
        begun = time.perf_counter()
        end = self.span.end
        whole = self.span.filled(self.rows, writer.first_tick)
        if writer.state.notes_left == 0:
            end = min(end, onsets(whole).max() + 1 / TICKS_PER_SECOND)
        seed = writer.options.seed
        assert seed is not None
        taken = self.seconds + clock + time.perf_counter() - begun
        return Generated(whole, self.span.start, end, seed, len(self.rows), taken, self.span.kept)


def _need_notes(performance: Performance, what: str) -> None:
    if not len(performance):
        raise InputError(f"{what} has no notes")


def _length(name: str, seconds: float) -> float:
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InputError(f"`{name}` must be above 0 and at most {LONGEST_SECONDS:.0f}, not {seconds}")
    return seconds


def _first_onset(piece: Performance) -> float:
    """Return the second at which the first note of a piece's file begins, or a pedal of the piece before it."""
    return float(min(onsets(piece).min(), note_onsets(piece).min()))


def _after(piece: Performance) -> float:
    """Return one tick after the last onset, so that no written event begins with a given one.

    A pedal that is pressed when no note sounds any more does not count.
    """
    notes, pedals = piece.notes, piece.pedals["onset"]
    sounding = pedals[pedals <= (notes["onset"] + notes["duration"]).max()]
    return float(max(notes["onset"].max(), sounding.max(initial=0.0))) + 1 / TICKS_PER_SECOND
