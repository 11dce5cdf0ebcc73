"""Sound files and pictures of a piece, made by the same functions as the command line's."""

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
class RenderedAudio:
    """A sound file.

    Attributes:
        data: The bytes of the file.
        seconds: Its length.
        engine: The name of the sound engine.
    """

    data: bytes
    seconds: float
    engine: str


def excerpt(piece: Performance, start: float, end: float) -> Performance:
    """Return the events from `start` to `end` seconds, shifted to begin at 0, with the pedals that are already down.

    A note that begins in the span keeps its whole length, so that it fades out while the next span begins.
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


def render_sound(
    piece: Performance, file_format: str, soundfont: Path | None, gain: float | None = None
) -> Generator[RenderedAudio, None, None]:
    """Render a piece as a sound file, as a job of one step.

    Args:
        piece: The piece.
        file_format: One of `sound.FORMATS`.
        soundfont: The SoundFont for FluidSynth, or None for the grand piano.
        gain: The gain of the whole piece, of a span; None scales by the peak.

    Raises:
        InputError: The format is unknown.
    """
    from music_generator.sound import FORMATS, SoundOptions, render_file

    if file_format not in FORMATS:
        raise InputError(f"`format` must be one of {', '.join(FORMATS)}, not {file_format!r}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound.{file_format}"
        rendered = render_file(piece, path, SoundOptions(soundfont=soundfont, gain=gain))
        yield RenderedAudio(path.read_bytes(), rendered.seconds, rendered.engine)


def render_picture(
    piece: Performance, generated: tuple[float, float] | None, title: str
) -> Generator[bytes, None, None]:
    """Draw the piano roll of a piece as a PNG, as a job of one step; the `generated` span has its own colour."""
    from music_generator import plots

    figure: Any = plots.piano_roll(piece, generated=generated, title=title)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roll.png"
        plots.save(figure, path)
        yield path.read_bytes()
