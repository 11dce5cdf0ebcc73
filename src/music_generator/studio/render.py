"""Sound and pictures of a piece as the bytes of files, by the same functions as the command line's."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from music_generator.errors import InputError
from music_generator.music.performance import Performance


@dataclass(frozen=True)
class Heard:
    """A sound file's bytes; `seconds` long; `engine` says what made it, `gain` how it was scaled."""

    data: bytes
    seconds: float
    engine: str
    gain: float


def span_of(piece: Performance, start: float, end: float) -> Performance:
    """What is played from `start` to `end` seconds: strokes that begin there, pedals that are down, from time 0.

    A stroke that begins in the span keeps its whole length, so that two spans in a row sound as one when the second
    begins while the first still rings.
    """
    notes, pedals = piece.notes, piece.pedals
    notes = notes[(notes["onset"] >= start) & (notes["onset"] < end)].copy()
    ends = pedals["onset"] + pedals["duration"]
    down = (pedals["onset"] < end) & (ends > start)
    pedals, ends = pedals[down].copy(), ends[down]
    notes["onset"] -= start
    pedals["onset"] = np.maximum(pedals["onset"] - start, 0)
    pedals["duration"] = np.maximum(ends - start - pedals["onset"], 1e-3)
    return replace(piece, notes=notes, pedals=pedals)


def sound(
    piece: Performance, form: str, soundfont: Path | None, gain: float | None = None
) -> Generator[Heard, None, None]:
    """A job of one step: the piece as a sound file. `gain` is what an earlier span was scaled by, to be as loud."""
    from music_generator.sound import FORMATS, render, write_audio

    if form not in FORMATS:
        raise InputError(f"`format` must be one of {', '.join(FORMATS)}, not {form!r}")
    made = render(piece, soundfont=soundfont, gain=gain)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound.{form}"
        write_audio(path, made)
        yield Heard(path.read_bytes(), made.seconds, made.engine, made.gain)


def picture(piece: Performance, generated: tuple[float, float] | None, title: str) -> Generator[bytes, None, None]:
    """A job of one step: the piano roll as a PNG; the span that the model wrote is told apart."""
    from music_generator import plots

    figure: Any = plots.piano_roll(piece, generated=generated, title=title)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roll.png"
        plots.save(figure, path)
        yield path.read_bytes()
