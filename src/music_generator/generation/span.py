"""The span to write, between a past and a future, and the options of drawing tokens."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.slots import Drawing
from music_generator.errors import InputError
from music_generator.music.performance import Performance, join
from music_generator.music.tokens import TICKS_PER_SECOND, TOKEN_DTYPE, decode

Array = NDArray[Any]

LOWEST_TEMPERATURE = 0.01


@dataclass(frozen=True)
class SamplingOptions:
    """The options of drawing tokens.

    Attributes:
        temperature: of every field of a token.
        top_p: of key and velocity. Shift and duration are drawn from their whole distribution: their long values are
            rare and weigh much, and without them music grows denser and denser.
        seed: None takes a new one each time.
        composer: a name or a part of one.
        longest_rest_seconds: between the onsets of two notes, unless past and future are farther apart.
        longest_repeat: how often one pitch may come in a row.
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

    @property
    def drawing(self) -> Drawing:
        """The options as the engine takes them."""
        return Drawing(self.temperature, self.top_p)


def variations(options: SamplingOptions, count: int) -> list[SamplingOptions]:
    """Return `count` options that differ in their seeds, which follow one another."""
    if count < 1:
        raise InputError(f"`variations` must be at least 1, not {count}")
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 31)
    return [replace(options, seed=seed + i) for i in range(count)]


@dataclass(frozen=True)
class Span:
    """The music to write: events whose onsets lie in [`start`, `end`) seconds, between a past and a future.

    All times are on one time line. With `notes`, the span ends with the last of that many notes.
    """

    past: Performance
    future: Performance
    start: float
    end: float
    notes: int | None = None

    def filled(self, rows: Sequence[Sequence[int]], first_tick: int) -> Performance:
        """Return the whole piece.

        Args:
            rows: the tokens that a `Writer` gave. An event still held when the future strikes its key ends there; one
                that would have no time to sound is left out.
            first_tick: the writer's.
        """
        tempo_map = self.past.tempo_map if len(onsets(self.past)) else self.future.tempo_map
        tokens = np.empty(len(rows), TOKEN_DTYPE)
        for name, column in zip(TOKEN_DTYPE.names or (), np.array(rows, np.int64).reshape(-1, 4).T, strict=True):
            tokens[name] = column
        written = decode(tokens, first_tick, tempo_map)
        if not len(self.past) and not len(self.future):
            return written
        return replace(join([self.past, _clear_of(written, self.future), self.future]), tempo_map=tempo_map)


def onsets(performance: Performance) -> Array:
    """Return the onsets of all events, notes and pedals, in seconds: (n,)."""
    return np.concatenate([performance.notes["onset"], performance.pedals["onset"]])


def _clear_of(written: Performance, future: Performance) -> Performance:
    """Return what was written without events that the future's next one on their key leaves no time to sound."""
    fitted = []
    for events, after, key in ((written.notes, future.notes, "pitch"), (written.pedals, future.pedals, "pedal")):
        first = np.full(128, np.inf)
        np.minimum.at(first, after[key], after["onset"])
        fitted.append(events[first[events[key]] - events["onset"] > 0.5 / TICKS_PER_SECOND])
    return replace(written, notes=fitted[0], pedals=fitted[1])
