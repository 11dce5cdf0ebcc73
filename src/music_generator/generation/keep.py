"""Which notes of a span stay when the others are rewritten around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.generation.span import strikes
from music_generator.music.voices import highest, lowest

Array = NDArray[Any]
Keep = Callable[[Array], Array]  # of a span's notes (n,): which of them stay, (n,) bool


def everything(notes: Array) -> Array:
    """Keep all notes (n,) `NOTE_DTYPE`."""
    return np.ones(len(notes), bool)


def melody(notes: Array) -> Array:
    """Keep the highest note of each chord."""
    return highest(notes["onset"], notes["pitch"])


def bass(notes: Array) -> Array:
    """Keep the lowest note of each chord."""
    return lowest(notes["onset"], notes["pitch"])


def those(notes: Array) -> Keep:
    """Return the function that keeps each note that begins when and on the key that one of `notes` does."""
    wanted = strikes(notes)
    return lambda gap: np.isin(strikes(gap), wanted)


KEEP: dict[str, Keep] = {"all": everything, "melody": melody, "bass": bass}
_LIMITS: dict[str, Callable[[Array, int], Array]] = {
    "softer": lambda notes, limit: notes["velocity"] < limit,
    "louder": lambda notes, limit: notes["velocity"] > limit,
    "below": lambda notes, limit: notes["pitch"] < limit,
    "above": lambda notes, limit: notes["pitch"] > limit,
}
NAMES = (*KEEP, *(f"{name}:N" for name in _LIMITS))


def read_keep(text: str) -> Keep:
    """Return the function that a name such as `melody` or `softer:60` stands for.

    Velocities limit `softer` and `louder`, MIDI pitches `below` and `above`.

    Raises:
        InputError: there is no such name, or its number is not one from 0 to 127.
    """
    name, _, number = text.partition(":")
    if text in KEEP:
        return KEEP[text]
    if name not in _LIMITS or not number.isdecimal() or len(number) > 3 or int(number) > 127:
        raise InputError(f"`keep` must be one of {', '.join(NAMES)}, N being 0 to 127, not {text!r}")
    rule, limit = _LIMITS[name], int(number)
    return lambda notes: rule(notes, limit)
