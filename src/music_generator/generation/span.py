"""What is to be written, between what past and what future, and how it is drawn."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.music.performance import LONGEST_SECONDS as LONGEST_SECONDS
from music_generator.music.performance import Performance, join
from music_generator.music.tokens import TICKS_PER_SECOND, TOKEN_DTYPE, decode

Array = NDArray[Any]
Row = tuple[int, int, int, int]  # a token, as `TOKEN_DTYPE`

LOWEST_TEMPERATURE = 0.01


@dataclass(frozen=True)
class SamplingOptions:
    """How to draw. Temperature holds for every field of a token, top-p for key and velocity alone.

    Shift and duration are not cut: their long ends are rare and weigh much, and without them music grows ever denser.
    `seed` None takes a new one each time. `longest_rest_seconds` without a note's onset and `longest_repeat` events of
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


def variations(options: SamplingOptions, count: int) -> list[SamplingOptions]:
    """`count` options that differ in their seed alone, so that each variation can be had again by its own seed."""
    if count < 1:
        raise InputError(f"`variations` must be at least 1, not {count}")
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 31)
    return [replace(options, seed=seed + i) for i in range(count)]


@dataclass(frozen=True)
class Span:
    """What is to be written: the events whose onsets lie in [`start`, `end`) seconds, between a past and a future.

    All on one time line. After `notes` notes the span ends with the last of them.
    """

    past: Performance
    future: Performance
    start: float
    end: float
    notes: int | None = None

    def filled(self, rows: list[Row], first_tick: int) -> Performance:
        """The whole piece with the rows of a `Writer`: ended where the future strikes their keys, or left out."""
        tempo_map = self.past.tempo_map if len(onsets(self.past)) else self.future.tempo_map
        written = decode(np.array(rows, TOKEN_DTYPE), first_tick, tempo_map)
        if not len(self.past) and not len(self.future):
            return written
        return replace(join([self.past, _clear_of(written, self.future), self.future]), tempo_map=tempo_map)


def onsets(performance: Performance) -> Array:
    """The onsets of all events in seconds, notes and pedals: (n,)."""
    return np.concatenate([performance.notes["onset"], performance.pedals["onset"]])


def _clear_of(written: Performance, future: Performance) -> Performance:
    """What was written, without events that the future's next one on their key would leave no time to sound."""
    fitted = []
    for events, after, key in ((written.notes, future.notes, "pitch"), (written.pedals, future.pedals, "pedal")):
        first = np.full(128, np.inf)
        np.minimum.at(first, after[key], after["onset"])
        fitted.append(events[first[events[key]] - events["onset"] > 0.5 / TICKS_PER_SECOND])
    return replace(written, notes=fitted[0], pedals=fitted[1])
