"""The span to write, between a past and a future, and the options of drawing tokens."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.checks import check_types
from music_generator.engine.rules import Habituation
from music_generator.engine.slots import Drawing
from music_generator.errors import InputError
from music_generator.music.performance import LONGEST_SECONDS, Performance, join
from music_generator.music.splice_pedals import first_messages
from music_generator.music.ticks import within_ticks
from music_generator.music.tokens import (
    NUM_KEYS,
    TICKS_PER_SECOND,
    TOKEN_DTYPE,
    decode,
    density_class,
    encode,
    loudness_class,
)

Array = NDArray[Any]

LOWEST_TEMPERATURE = 0.01
MOST_NOTES_PER_SECOND = 100
MOST_RETURNS = 5  # of `SamplingOptions.returns`
PEDAL_TAIL_SECONDS = 1.0  # that a written pedal may outlast a span with a future
FINAL_PEDAL_SECONDS = 3.0  # that it may outlast the last note of a piece
NULL_PER_RETURN = 0.04  # share that one of them takes off the memory's score of nothing
MATCH_NATS_PER_RETURN = 1.0  # that one of them adds to the logit of the key with which a match goes on


@dataclass(frozen=True)
class SamplingOptions:
    """The options of drawing tokens.

    Attributes:
        temperature: of every field of a token.
        top_p: of the key. The others are drawn from all classes: long shifts and durations are rare and weigh much, and
            without them music grows denser and denser; velocities would become too even.
        seed: None takes a new one each time.
        composer: a name or a part of one.
        longest_rest_seconds: between the onsets of two notes, unless past and future are farther apart.
        longest_repeat: how often one pitch may come in a row.
        density: notes a second that are asked for; as the model likes if None.
        loudness: mean velocity that is asked for, 1 to 127; as the model likes if None.
        returns: how readily the music comes back to what was there: 0 as the model has learnt it, more or less of it
            above or below.
        habituation: what ends figures that would never end.
    """

    temperature: float = 1.0
    top_p: float = 0.92
    seed: int | None = None
    composer: str | None = None
    longest_rest_seconds: float = 4.0
    longest_repeat: int = 8
    density: float | None = None
    loudness: float | None = None
    returns: float = 1.0
    habituation: Habituation = field(default_factory=Habituation)

    def __post_init__(self) -> None:
        check_types(self)
        if not LOWEST_TEMPERATURE <= self.temperature <= 10:
            raise InputError(
                f"`temperature` must be {LOWEST_TEMPERATURE} to 10, not {self.temperature}: near 0 the likeliest note "
                "is taken every time, and a recurrent model then repeats itself endlessly; try 0.8 for calmer music"
            )
        if not 0 < self.top_p <= 1:
            raise InputError(f"`top_p` must be above 0 and at most 1, not {self.top_p}")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise InputError(f"`seed` must be 0 to {(1 << 63) - 1}, not {self.seed}")
        if not self.longest_rest_seconds > 0:
            raise InputError(f"`longest_rest_seconds` must be above 0, not {self.longest_rest_seconds}")
        if self.longest_repeat < 1:
            raise InputError(f"`longest_repeat` must be at least 1, not {self.longest_repeat}")

        if self.density is not None and not 0 < self.density <= MOST_NOTES_PER_SECOND:
            raise InputError(
                f"`density` must be above 0 and at most {MOST_NOTES_PER_SECOND} notes a second, not {self.density}"
            )
        if self.loudness is not None and not 1 <= self.loudness <= 127:
            raise InputError(f"`loudness` must be 1 to 127, a mean velocity, not {self.loudness}")
        if not -MOST_RETURNS <= self.returns <= MOST_RETURNS:
            raise InputError(f"`returns` must be {-MOST_RETURNS} to {MOST_RETURNS}, not {self.returns}")

    @property
    def drawing(self) -> Drawing:
        """The options as the engine takes them."""
        return Drawing(
            self.temperature,
            self.top_p,
            density=0 if self.density is None else density_class(self.density),
            loudness=0 if self.loudness is None else loudness_class(self.loudness),
            null_factor=1 - NULL_PER_RETURN * self.returns,
            match_nats=MATCH_NATS_PER_RETURN * self.returns,
            habituation=self.habituation,
        )


def variations(options: SamplingOptions, count: int) -> list[SamplingOptions]:
    """Return `count` options that differ in their seeds, which follow one another."""
    if count < 1:
        raise InputError(f"`variations` must be at least 1, not {count}")
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 31)
    return [replace(options, seed=seed + i) for i in range(count)]


@dataclass(frozen=True)
class Span:
    """The music to write: events whose onsets lie in [`start`, `end`) seconds, between a past and a future.

    All times are on one time line.

    Attributes:
        past: what comes before.
        future: what comes after.
        start: where the span begins, in seconds.
        end: where it ends, in seconds.
        notes: the span ends with the last of that many notes.
        kept: notes of the span that stay; the others are written around them.
        closes: the piece ends with the span, where there is no future.
        recall: a passage of the past, from second to second, that the music shall come back to.
    """

    past: Performance
    future: Performance
    start: float
    end: float
    notes: int | None = None
    kept: Performance = field(default_factory=Performance)
    closes: bool = False
    recall: tuple[float, float] | None = None

    def filled(self, rows: Sequence[Sequence[int]], first_tick: int) -> Performance:
        """Return the whole piece.

        Args:
            rows: the tokens that a `Writer` gave. An event still held when a kept note or the future strikes its key
                ends there; one that would have no time to sound is left out.
            first_tick: the writer's.
        """
        whose = next((part for part in (self.past, self.future) if part.source or len(onsets(part))), self.past)
        tempo_map, source = whose.tempo_map, whose.source
        tokens = np.empty(len(rows), TOKEN_DTYPE)
        for name, column in zip(TOKEN_DTYPE.names or (), np.array(rows, np.int64).reshape(-1, 4).T, strict=True):
            tokens[name] = column
        written = decode(self._without_kept(tokens, first_tick), 0, tempo_map)
        if source is None and not len(self.past) and not len(self.future) and not len(self.kept):
            return self._with_pedals_ended(written)
        if source is not None:
            end = self.end if len(onsets(self.future)) else LONGEST_SECONDS  # what the file has there is gone
            written = _until(first_messages(source, tempo_map, end), within_ticks(written, self.start, self.end))
            source = source.with_rewritten(self.start, end)
        written = _clear_of(_cut_by(written, self.kept), self.future)
        again = Performance(pedals=self._pedals_after(written))
        into = Performance(tempo_map=tempo_map, source=source)
        return self._with_pedals_ended(join([into, self.past, written, self.kept, again, self.future]))

    def _without_kept(self, tokens: Array, first_tick: int) -> Array:
        """Return the tokens with shifts from tick 0, without those of the kept notes: these come back as they were."""
        onset = first_tick + np.cumsum(tokens["shift"], dtype=np.int64)
        written = ~np.isin(onset * NUM_KEYS + tokens["key"], self.kept_places)
        tokens = tokens[written]
        tokens["shift"] = np.diff(onset[written], prepend=0)
        return tokens

    @cached_property
    def kept_places(self) -> Array:
        """The places of the kept notes among the tokens, tick · `NUM_KEYS` + key: (n,) int64."""
        kept = encode(self.kept)
        return np.asarray(np.cumsum(kept["shift"], dtype=np.int64) * NUM_KEYS + kept["key"])

    def _pedals_after(self, written: Performance) -> Array:
        """Return the presses of the past that last into the future, from there on, where a written one came between."""
        if not len(self.future):
            return self.past.pedals[:0]
        held = held_over(self.past.pedals, self.end)
        return held[np.isin(held["pedal"], written.pedals["pedal"])]

    def _with_pedals_ended(self, whole: Performance) -> Performance:
        """Let the written pedals end with the piece, or the span: what follows it is not theirs to colour."""
        if not len(whole.notes) or not len(whole.pedals):
            return whole
        last = float((whole.notes["onset"] + whole.notes["duration"]).max())
        has_future = bool(len(onsets(self.future)))
        end = min(last, self.end) + PEDAL_TAIL_SECONDS if has_future else last + FINAL_PEDAL_SECONDS
        pedals = whole.pedals.copy()
        written = (pedals["onset"] >= self.start) & (pedals["onset"] < self.end)
        pedals["duration"][written] = np.minimum(pedals["duration"], end - pedals["onset"])[written]
        return whole.with_pedals(pedals[pedals["duration"] > 0])


def onsets(performance: Performance) -> Array:
    """Return the onsets of all events, notes and pedals, in seconds: (n,)."""
    return np.concatenate([performance.notes["onset"], performance.pedals["onset"]])


def strikes(notes: Array) -> Array:
    """Return onset and pitch of each note as one number: complex128 of shape (notes,)."""
    return np.asarray(notes["onset"] + 1j * notes["pitch"])


def without_notes(performance: Performance, notes: Array) -> Performance:
    """Return a performance without the notes that begin when and on the key that one of `notes` does."""
    return replace(performance, notes=performance.notes[~np.isin(strikes(performance.notes), strikes(notes))])


def held_over(pedals: Array, second: float) -> Array:
    """Return what is left of pedal presses from a second on: of those that begin before it and last longer."""
    held = pedals[(pedals["onset"] < second) & (pedals["onset"] + pedals["duration"] > second + 1 / TICKS_PER_SECOND)]
    held["duration"] -= second - held["onset"]
    held["onset"] = second
    return np.asarray(held)


def _cut_by(written: Performance, kept: Performance) -> Performance:
    """Return what was written, its notes ending where a kept note strikes their key."""
    notes = written.notes.copy()
    for pitch in np.unique(kept.notes["pitch"]):
        strikes = np.append(np.sort(kept.notes["onset"][kept.notes["pitch"] == pitch]), np.inf)
        mine = np.flatnonzero(notes["pitch"] == pitch)
        following = strikes[np.searchsorted(strikes, notes["onset"][mine])]
        notes["duration"][mine] = np.minimum(notes["duration"][mine], following - notes["onset"][mine])
    return replace(written, notes=notes[notes["duration"] > 0.5 / TICKS_PER_SECOND])


def _until(seconds: Array, written: Performance) -> Performance:
    """Return what was written, its pedals let go at a second for each pedal (3,)."""
    pedals = written.pedals.copy()
    pedals["duration"] = np.minimum(pedals["duration"], seconds[pedals["pedal"]] - pedals["onset"])
    return replace(written, pedals=pedals)


def _clear_of(written: Performance, future: Performance) -> Performance:
    """Return what was written without events that the future's next one on their key leaves no time to sound."""
    fitted = []
    for events, after, key in ((written.notes, future.notes, "pitch"), (written.pedals, future.pedals, "pedal")):
        first = np.full(128, np.inf)
        np.minimum.at(first, after[key], after["onset"])
        fitted.append(events[first[events[key]] - events["onset"] > 0.5 / TICKS_PER_SECOND])
    return replace(written, notes=fitted[0], pedals=fitted[1])
