"""Writing for the page: a request as a span between a past and a future, whose events are sent as they are drawn.

This is a thin layer over `generation.Writer`: the result is that of `generation`'s own functions, and a test compares
them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.generation import (
    SamplingOptions,
    Span,
    to_bridge,
    to_compose,
    to_continue,
    to_infill,
    to_lead_in,
    variations,
)
from music_generator.generation.keep import NAMES, Keep, read_keep, those
from music_generator.generation.span import strikes, without_notes
from music_generator.generation.tasks import JOIN_SECONDS, PIECE_SECONDS
from music_generator.generation.writer import BatchWriter, Writer
from music_generator.music.midi_parts import tracks_of_choice
from music_generator.music.performance import LOWEST_PITCH, Performance
from music_generator.music.tokens import KEYS, NUM_KEYS, TICKS_PER_SECOND
from music_generator.studio.options import StudioOptions
from music_generator.studio.schema import (
    Json,
    events_to_json,
    facts_to_json,
    get_flag,
    get_integer,
    get_number,
    get_seed,
    get_span,
    get_text,
    notes_from_json,
    piece_from_json,
)

Array = NDArray[Any]
TASKS = ("compose", "continue", "lead-in", "infill", "bridge")
_BEFORE_A_FUTURE = ("lead-in", "bridge")
_AFTER_A_PAST = ("continue", "infill", "bridge")
_AT_AN_END = ("compose", "continue")


@dataclass(frozen=True)
class WriteRequest:
    """A request to write new music.

    Attributes:
        task: One of `TASKS`.
        piece: The piece to work on; not needed to compose.
        second: The piece that a bridge leads to.
        options: The sampling options of the first variation.
        count: The number of variations.
        start: Seconds at which a gap begins or from which the piece is continued.
        end: Seconds at which a gap ends.
        seconds: The length of the new music, or None for the default of the task.
        keep: The notes of a gap that stay: a name of `keep.NAMES`, or notes of the piece (n,); None keeps none.
        recall: A passage before the new music, from second to second, that it shall come back to.
        open_end: Stop at the length instead of ending the piece there.
        name: The name of the piece's file, without .mid.
        second_name: The name of the second piece's file, without .mid.
    """

    task: str
    piece: Performance
    second: Performance
    options: SamplingOptions
    count: int
    start: float | None = None
    end: float | None = None
    seconds: float | None = None
    keep: str | Array | None = None
    recall: tuple[float, float] | None = None
    open_end: bool = False
    name: str = "piece"
    second_name: str = "second"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"`task` must be one of {', '.join(TASKS)}, not {self.task!r}")
        if self.task != "compose" and not len(self.piece):
            raise InputError(f"to {self.task}, the piece must have notes")
        if self.task == "bridge" and not len(self.second):
            raise InputError("to bridge, a second piece must have notes")
        if self.task == "infill" and (self.start is None or self.end is None):
            raise InputError("to infill, select a span: `from` and `to` are missing")
        if self.keep is not None and self.task != "infill":
            raise InputError(f"`keep` goes with infill alone, not with {self.task}")
        if self.recall is not None and self.task not in _AFTER_A_PAST:
            raise InputError(f"to {self.task}, nothing comes before the new music: leave `recall` out")
        if self.open_end and self.task not in _AT_AN_END:
            raise InputError(f"`open_end` goes with {' and '.join(_AT_AN_END)} alone, not with {self.task}")

    @property
    def length(self) -> float:
        """Seconds of new music, for all tasks but infill."""
        if self.seconds is not None:
            return self.seconds
        return JOIN_SECONDS if self.task in _BEFORE_A_FUTURE else PIECE_SECONDS


def read_write_request(json: Json, limits: StudioOptions) -> WriteRequest:
    """Return the request of a JSON object. Raises `InputError` if a field is missing or out of range."""

    def piece(name: str) -> Performance:
        value = json.get(name)
        return Performance() if value is None else piece_from_json(value, name, limits.max_events)

    count = get_integer(json, "variations")
    count = limits.variations if count is None else count
    if not 1 <= count <= limits.max_variations:
        raise InputError(f"`variations` must be 1 to {limits.max_variations}, not {count}")
    return WriteRequest(
        task=get_text(json, "task") or "",
        piece=piece("piece"),
        second=piece("second"),
        options=_sampling_options(json, count),
        count=count,
        start=get_number(json, "from"),
        end=get_number(json, "to"),
        seconds=_length(json, limits),
        keep=_keep(json, limits),
        recall=get_span(json, "recall"),
        open_end=get_flag(json, "open_end"),
        name=get_text(json, "name") or "piece",
        second_name=get_text(json, "second_name") or "second",
    )


def _length(json: Json, limits: StudioOptions) -> float | None:
    seconds, most = get_number(json, "seconds"), limits.max_written_seconds
    if seconds is not None and not 0 < seconds <= most:
        raise InputError(
            f"`seconds` must be above 0 and at most {most:,g} seconds, not {seconds:,g}; the command line writes more"
        )
    return seconds


def _keep(json: Json, limits: StudioOptions) -> str | Array | None:
    value = json.get("keep")
    if value is None or isinstance(value, str):
        return get_text(json, "keep")
    if not isinstance(value, list):
        raise InputError(f"`keep` must be one of {', '.join(NAMES)}, or a list of notes of the piece")
    return notes_from_json(value, "keep", limits.max_events)


def _sampling_options(json: Json, count: int) -> SamplingOptions:
    numbers = ("temperature", "top_p", "density", "loudness", "returns")
    given: dict[str, Any] = {name: get_number(json, name) for name in numbers}
    given |= {"seed": get_seed(json, count), "composer": get_text(json, "composer")}
    return SamplingOptions(**{name: value for name, value in given.items() if value is not None})


def plan(request: WriteRequest, limits: StudioOptions) -> Span:
    """Return the span to write. Raises `InputError` if it does not fit the piece or is too long."""
    span = replace(_SPANS[request.task](request), recall=request.recall)
    seconds = span.end - span.start
    if not 0 <= span.start < span.end:
        raise InputError(
            f"the span to write must begin at 0 or later and end after it begins: {span.start:g} to {span.end:g} s"
        )
    if seconds > limits.max_written_seconds:
        raise InputError(
            f"the studio writes up to {limits.max_written_seconds:g} s at a time, not {seconds:g} s; "
            "the command line writes more"
        )
    return span


def _infill_span(request: WriteRequest) -> Span:
    assert request.start is not None
    assert request.end is not None
    keep = None if request.keep is None else _keep_function(request.keep, request.piece)
    return to_infill(request.piece, request.start, request.end, keep=keep)


def _keep_function(keep: str | Array, piece: Performance) -> Keep:
    if isinstance(keep, str):
        return read_keep(keep)
    for note in keep[~np.isin(strikes(keep), strikes(piece.notes))][:1]:
        raise InputError(f"`keep` has a note that is not in the piece: pitch {note['pitch']} at {note['onset']:g} s")
    return those(keep)


_SPANS: dict[str, Callable[[WriteRequest], Span]] = {
    "compose": lambda request: to_compose(request.length, open_end=request.open_end),
    "continue": lambda request: to_continue(
        request.piece, request.length, start=request.start, open_end=request.open_end
    ),
    "lead-in": lambda request: to_lead_in(request.piece, request.length),
    "infill": _infill_span,
    "bridge": lambda request: to_bridge(request.piece, request.second, request.length),
}


def _future_shift(request: WriteRequest, span: Span) -> float:
    """Return by how many seconds the future is shifted."""
    if request.task not in _BEFORE_A_FUTURE:
        return 0.0
    future = request.piece if request.task == "lead-in" else request.second
    return _first_onset(span.future) - _first_onset(future)


def _first_onset(piece: Performance) -> float:
    return float(min(events["onset"].min(initial=np.inf) for events in (piece.notes, piece.pedals)))


# --- writing -----------------------------------------------------------------------------------------------------


@dataclass
class _Variation:
    """A variation while it is written; `kept` are the places of the span's kept notes, which are no new ones."""

    number: int
    tick: int
    kept: frozenset[int]
    rows: list[list[int]] = field(default_factory=list)

    def add(self, row: list[int]) -> Json:
        """Add a token row and return its event in seconds, nothing for a kept note."""
        shift, key, velocity, duration = row
        self.rows.append(row)
        self.tick += shift
        if self.tick * NUM_KEYS + key in self.kept:
            return {}
        seconds = self.tick / TICKS_PER_SECOND, duration / TICKS_PER_SECOND
        if key < KEYS:
            return {"notes": [(*seconds, key + LOWEST_PITCH, velocity)], "pedals": []}
        return {"notes": [], "pedals": [(*seconds, key - KEYS, velocity)]}


def write(engine: Engine, request: WriteRequest, span: Span) -> Generator[Json, None, None]:
    """Yield the messages of a writing job: `begin`, then `events` of all variations, and a `variation` as each ends.

    `begin` has the tempo map and the file of the whole piece, and the notes of the span that are kept. A `variation`
    has all its new events as they fit between past, kept notes and future: those of its `events` messages, without
    the ones that what follows leaves no time to sound, and pedals that end with the piece.
    """
    each, unsaid = variations(request.options, request.count), no_command(request)
    yield {
        "type": "begin",
        "start": span.start,
        "end": span.end,
        "future_shift": _future_shift(request, span),
        **facts_to_json(span.filled([], 0)),
        "seeds": [options.seed for options in each],
        "commands": [None if unsaid else command(request, options) for options in each],
        "no_command": unsaid,
        "kept": span.kept.notes.tolist(),
    }
    first, kept = Writer(engine, span, each[0]), frozenset(span.kept_places.tolist())
    written = {first.with_seed(options.seed): _Variation(i, first.first_tick, kept) for i, options in enumerate(each)}
    writers = BatchWriter(engine, len(each))
    for writer in written:
        writers.add(writer)
    while len(writers):
        for writer, rows in writers.step():
            variation = written[writer]
            for event in filter(None, map(variation.add, rows)):
                yield {"type": "events", "variation": variation.number} | event
            if writer.done:
                events = span.filled(variation.rows, first.first_tick).between(span.start, span.end)
                events = without_notes(events, span.kept.notes)
                yield {"type": "variation", "variation": variation.number, "seed": writer.options.seed} | (
                    events_to_json(events)
                )


def no_command(request: WriteRequest) -> str | None:
    """Return why no command line writes the same, or None if one does."""
    if request.keep is not None and not isinstance(request.keep, str):
        return "the command line keeps notes by a rule such as `melody`, not single ones"
    if request.recall is not None and request.task == "infill":
        return "the command line comes back to a passage when it continues or bridges, not when it infills"
    if not _tracks(request):
        return "no track of the command line names the parts that are read"
    return None


def _tracks(request: WriteRequest) -> list[str | None]:
    """Return each track of the command line that is the parts that are read of all files; None is its default."""
    pieces = {"compose": [], "bridge": [request.piece, request.second]}.get(request.task, [request.piece])
    named = [tracks_of_choice(each.source.all_parts, each.source.parts) for each in pieces if each.source]
    return [track for track in named[0] if all(track in others for others in named)] if named else [None]


def command(request: WriteRequest, options: SamplingOptions) -> str:
    """Return the command line that writes the same from the same piece, saved as a MIDI file of its name."""
    piece, second = (shlex.quote(f"{name}.mid") for name in (request.name, request.second_name))
    length = f"--seconds {request.length:g}"
    words = {
        "compose": f"generate {length}",
        "continue": f"generate --primer {piece} {length}",
        "lead-in": f"generate --future {piece} {length}",
        "bridge": f"generate --primer {piece} --future {second} {length}",
        "infill": f"infill {piece} --from {request.start!r} --to {request.end!r}",
    }[request.task]
    if request.task == "continue" and request.start is not None:
        words += f" --from {request.start!r}"
    if isinstance(request.keep, str):
        words += f" --keep {shlex.quote(request.keep)}"
    if request.recall is not None:
        words += " --recall " + "-".join(np.format_float_positional(second, trim="-") for second in request.recall)
    if request.open_end:
        words += " --open-end"
    if track := _tracks(request)[0]:
        words += f" --track {shlex.quote(track)}"
    default = SamplingOptions()
    for each in fields(SamplingOptions):
        value = getattr(options, each.name)
        if value != getattr(default, each.name):
            words += f" --{each.name.replace('_', '-')} {shlex.quote(str(value))}"
    return f"music-generator {words}"
