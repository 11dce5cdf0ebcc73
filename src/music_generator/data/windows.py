"""How training windows are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

from music_generator.errors import InputError
from music_generator.music.tokens import KEYS


@dataclass(frozen=True)
class WindowOptions:
    """How windows are drawn. Lengths in tokens; `future_share` of the gaps are given their future."""

    batch: int = 32
    length: int = 256
    future_share: float = 0.75
    shortest_gap: int = 2
    longest_gap: int = 64
    transpose: int = 6
    stretch: tuple[float, ...] = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
    unknown_composer_share: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "stretch", tuple(self.stretch))
        if self.batch < 1 or self.length < 2:
            raise InputError(f"`batch` ({self.batch}) must be at least 1 and `length` ({self.length}) at least 2")
        if not 0 <= self.future_share <= 1 or not 0 <= self.unknown_composer_share <= 1:
            raise InputError("`future_share` and `unknown_composer_share` must be 0 to 1")
        if not 0 <= self.transpose < KEYS or not all(0 < factor < math.inf for factor in self.stretch):
            raise InputError(f"`transpose` must be 0 to {KEYS - 1} and each factor of `stretch` above 0")
        if not 1 <= self.shortest_gap <= self.longest_gap:
            raise InputError(f"`shortest_gap` ({self.shortest_gap}) must be 1 to `longest_gap` ({self.longest_gap})")
