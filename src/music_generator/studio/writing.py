"""New music stroke by stroke: what is asked as a span between a past and a future, written while the page watches.

A thin layer over `generation.Writer`: what comes out whole is what `generation`'s own functions give (a test compares
them), but every stroke is there as soon as it is drawn.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, fields, replace

import numpy as np

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
from music_generator.generation.tasks import JOIN_SECONDS, PIECE_SECONDS
from music_generator.generation.writer import BatchWriter, Writer
from music_generator.music.performance import LOWEST_PITCH, Performance
from music_generator.music.tokens import KEYS, TICKS_PER_SECOND
from music_generator.studio.options import StudioOptions
from music_generator.studio.schema import Json, number, piece_from_json, strokes_to_json, text, whole

TASKS = ("compose", "continue", "lead-in", "infill", "bridge")
_INTO_A_FUTURE = ("lead-in", "bridge")


@dataclass(frozen=True)
class Asked:
    """What the page asks for; `start` and `end` bound a gap, `start` alone is where to continue from (seconds)."""

    task: str
    piece: Performance
    second: Performance
    options: SamplingOptions
    count: int
    start: float | None = None
    end: float | None = None
    seconds: float | None = None
    name: str = "piece"
    second_name: str = "second"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"`task` must be one of {', '.join(TASKS)}, not {self.task!r}")
        for what, given in (("piece", self.piece), ("second", self.second)):
            needed = self.task != "compose" if what == "piece" else self.task == "bridge"
            if needed and not len(given):
                raise InputError(f"to {self.task}, {'the' if what == 'piece' else 'a second'} piece must have notes")
        if self.task == "infill" and (self.start is None or self.end is None):
            raise InputError("to infill, select a span: `from` and `to` are missing")

    @property
    def length(self) -> float:
        """Seconds of new music, for all tasks but to infill."""
        if self.seconds is not None:
            return self.seconds
        return JOIN_SECONDS if self.task in _INTO_A_FUTURE else PIECE_SECONDS


def read_asked(given: Json, limits: StudioOptions) -> Asked:
    """A request of the page. Raises `InputError` where something is missing, out of range or too much."""
    options = {"temperature": number(given, "temperature"), "top_p": number(given, "top_p")}
    options |= {"seed": whole(given, "seed"), "composer": text(given, "composer")}  # type: ignore[dict-item]
    count = whole(given, "variations")
    count = limits.variations if count is None else count
    if not 1 <= count <= limits.most_variations:
        raise InputError(f"`variations` must be 1 to {limits.most_variations}, not {count}")
    pieces = {
        name: piece_from_json(given[name], name, limits.most_strokes) if given.get(name) is not None else Performance()
        for name in ("piece", "second")
    }
    return Asked(
        task=text(given, "task") or "",
        options=replace(SamplingOptions(), **{name: value for name, value in options.items() if value is not None}),  # type: ignore[arg-type]
        count=count,
        start=number(given, "from"),
        end=number(given, "to"),
        seconds=number(given, "seconds"),
        name=text(given, "name") or "piece",
        second_name=text(given, "second_name") or "second",
        **pieces,
    )


def plan(asked: Asked, limits: StudioOptions) -> Span:
    """The span that a request comes to. Raises `InputError` if it does not fit the piece or is too long."""
    span = _PLANS[asked.task](asked)
    if not 0 <= span.start < span.end:
        raise InputError(
            f"the span to write must begin at 0 or later and end after it begins: {span.start:g} to {span.end:g} s"
        )
    if span.end - span.start > limits.longest_written:
        raise InputError(
            f"the studio writes up to {limits.longest_written:g} s at a time, not {span.end - span.start:g} s; "
            "the command line writes more"
        )
    return span


def _plan_infill(asked: Asked) -> Span:
    assert asked.start is not None
    assert asked.end is not None
    return to_infill(asked.piece, asked.start, asked.end)


_PLANS: dict[str, Callable[[Asked], Span]] = {
    "compose": lambda asked: to_compose(asked.length),
    "continue": lambda asked: to_continue(asked.piece, asked.length, start=asked.start),
    "lead-in": lambda asked: to_lead_in(asked.piece, asked.length),
    "infill": _plan_infill,
    "bridge": lambda asked: to_bridge(asked.piece, asked.second, asked.length),
}


def _future_shift(asked: Asked, span: Span) -> float:
    """By how many seconds the future was moved."""
    if asked.task not in _INTO_A_FUTURE:
        return 0.0
    return _first_onset(span.future) - _first_onset(asked.piece if asked.task == "lead-in" else asked.second)


def _first_onset(piece: Performance) -> float:
    return float(min(strokes["onset"].min(initial=np.inf) for strokes in (piece.notes, piece.pedals)))


# --- writing -----------------------------------------------------------------------------------------------------


@dataclass
class _Line:
    """One variation while it is written."""

    number: int
    tick: int
    rows: list[list[int]] = field(default_factory=list)

    def take(self, row: list[int]) -> Json:
        """The row as a stroke in seconds."""
        shift, key, velocity, duration = row
        self.rows.append(row)
        self.tick += shift
        seconds = self.tick / TICKS_PER_SECOND, duration / TICKS_PER_SECOND
        if key < KEYS:
            return {"notes": [(*seconds, key + LOWEST_PITCH, velocity)], "pedals": []}
        return {"notes": [], "pedals": [(*seconds, key - KEYS, velocity)]}


def write(engine: Engine, asked: Asked, span: Span) -> Generator[Json, None, None]:
    """The events of a job: `begin`, then of all variations side by side `strokes`, and at the end of each `variation`.

    A `variation` has all its strokes as they fit between past and future; those that came before are the same but for
    strokes that the future leaves no time to sound.
    """
    each = variations(asked.options, asked.count)
    seeds = [options.seed for options in each]
    yield {
        "event": "begin",
        "start": span.start,
        "end": span.end,
        "future_shift": _future_shift(asked, span),
        "seeds": seeds,
        "commands": [command(asked, options) for options in each],
    }
    first = Writer(engine, span, each[0])
    lines = {first.with_seed(options.seed): _Line(i, first.first_tick) for i, options in enumerate(each)}
    writers = BatchWriter(engine, len(each), has_future=first.future is not None)
    for writer in lines:
        writers.add(writer)
    while len(writers):
        for writer, rows in writers.step():
            line = lines[writer]
            for row in rows:
                yield {"event": "strokes", "variation": line.number} | line.take(row)
            if writer.done:
                written = span.filled(line.rows, first.first_tick).between(span.start, span.end)
                facts = {"event": "variation", "variation": line.number, "seed": writer.options.seed}
                yield facts | strokes_to_json(written)


def command(asked: Asked, options: SamplingOptions) -> str:
    """The command line that writes the same from the same piece, saved as a MIDI file of its name."""
    piece, second = (shlex.quote(f"{name}.mid") for name in (asked.name, asked.second_name))
    length = f"--seconds {asked.length:g}"
    words = {
        "compose": f"generate {length}",
        "continue": f"generate --primer {piece} {length}",
        "lead-in": f"generate --future {piece} {length}",
        "bridge": f"generate --primer {piece} --future {second} {length}",
        "infill": f"infill {piece} --from {asked.start!r} --to {asked.end!r}",
    }[asked.task]
    if asked.task == "continue" and asked.start is not None:
        words += f" --from {asked.start!r}"
    default = SamplingOptions()
    for each in fields(SamplingOptions):
        value = getattr(options, each.name)
        if value != getattr(default, each.name):
            words += f" --{each.name.replace('_', '-')} {shlex.quote(str(value))}"
    return f"music-generator {words}"
