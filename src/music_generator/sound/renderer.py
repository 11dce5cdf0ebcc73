"""Render a performance on the grand piano, or with a SoundFont: into memory, or block by block into a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.files import replacing
from music_generator.music.performance import Performance
from music_generator.sound.files import BITS, check_length, encode, subtype_of
from music_generator.sound.fluidsynth import FluidSynth
from music_generator.sound.grand import Grand
from music_generator.sound.waveform import PEAK, Sound, peak_of

Array = NDArray[Any]

SAMPLE_RATES = (11_025, 96_000)  # Hz: the lowest with room for the top key, the highest that FluidSynth accepts
NORMALISE = ("peak", "none")
GRAND = "Salamander grand piano"


@dataclass(frozen=True)
class SoundOptions:
    """How a performance is rendered.

    Attributes:
        sample_rate: 11025 to 96000 Hz.
        normalise: "peak" makes the peak 0.89 of full scale; "none" leaves the piano's own level, so that a velocity is
            as loud in each piece.
        gain: A factor instead of it, such as that of another span of the same piece.
        soundfont: A .sf2 or .sf3 file to play with FluidSynth; None for the grand piano.
        bits: Of a sample in a WAV or FLAC file, 16 or 24.

    With "none" or a `gain` the factor is reduced where the peak would exceed 0.89.

    Raises:
        InputError: A value is out of its range, or the SoundFont does not exist.
    """

    sample_rate: int = 44_100
    normalise: str = "peak"
    gain: float | None = None
    soundfont: Path | None = None
    bits: int = 16

    def __post_init__(self) -> None:
        if not SAMPLE_RATES[0] <= self.sample_rate <= SAMPLE_RATES[1]:
            text = f"`sample_rate` must be {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]} Hz, not {self.sample_rate}"
            raise InputError(text)
        if self.normalise not in NORMALISE:
            raise InputError(f"`normalise` must be one of {', '.join(NORMALISE)}, not {self.normalise!r}")
        if self.gain is not None and not 0 < self.gain < np.inf:
            raise InputError(f"`gain` must be above 0, not {self.gain}")
        if self.bits not in BITS:
            raise InputError(f"`bits` must be 16 or 24, not {self.bits}")
        if self.soundfont is not None and not Path(self.soundfont).is_file():
            raise InputError(f"the SoundFont {self.soundfont} does not exist; name a .sf2 or .sf3 file")

    def factor(self, peak: float) -> float:
        """Return by what a sound with a peak is multiplied; for silence `gain`, or 1."""
        wanted = self.gain or 1.0
        if not peak > 0:
            return wanted
        return PEAK / peak if self.gain is None and self.normalise == "peak" else min(wanted, PEAK / peak)


def _player(performance: Performance, options: SoundOptions) -> tuple[Grand | FluidSynth, str]:
    """Return what plays, and its name for the user."""
    if options.soundfont is None:
        return Grand(performance, options.sample_rate), GRAND
    soundfont = Path(options.soundfont)
    return FluidSynth(performance, options.sample_rate, soundfont), f"FluidSynth with {soundfont.name}"


def render(performance: Performance, options: SoundOptions | None = None) -> Sound:
    """Render a performance into memory; it takes 0.35 MB a second. The sound ends when the last string is silent.

    Args:
        performance: The performance.
        options: How; None for the defaults.

    Raises:
        InputError: FluidSynth cannot read the SoundFont.
        MissingDependencyError: A library is missing: soundfile's, or FluidSynth for a SoundFont.
    """
    options = options or SoundOptions()
    player, name = _player(performance, options)
    samples = np.empty((player.frames, 2), np.float32)
    done = 0
    for block in player.blocks():
        samples[done : done + block.shape[1]] = block.T
        done += block.shape[1]
    factor = options.factor(peak_of(samples))
    samples *= np.float32(factor)
    return Sound(samples, options.sample_rate, name, factor)


@dataclass(frozen=True)
class Rendered:
    """A sound file that was written.

    Attributes:
        engine: The name of the piano that played, for the user.
        seconds: The length of the sound.
        gain: The factor by which the piano's output was multiplied.
    """

    engine: str
    seconds: float
    gain: float


def render_file(performance: Performance, path: str | Path, options: SoundOptions | None = None) -> Rendered:
    """Render a performance into a sound file, in as little memory for an hour as for a minute.

    Until its peak is known, the sound lies in a file beside it: 21 MB for a minute.

    Args:
        performance: The performance.
        path: The file; the suffix is its format: .wav, .flac, .ogg or .mp3.
        options: How; None for the defaults.

    Raises:
        InputError: The suffix is another one, the format does not have this number of bits, FluidSynth cannot read the
            SoundFont, or the file cannot be written; no part of it remains.
        MissingDependencyError: A library is missing: soundfile's, or FluidSynth for a SoundFont.
    """
    options, path = options or SoundOptions(), Path(path)
    subtype_of(path, options.bits)
    player, name = _player(performance, options)
    check_length(path, player.frames, options.sample_rate, options.bits)
    with replacing(path) as beside, tempfile.TemporaryFile(dir=path.parent) as scratch:
        peak = 0.0
        for block in player.blocks():
            loudest = peak_of(block)
            peak = max(peak, loudest)
            if loudest > 0:
                scratch.write(np.ascontiguousarray(block.T).data)
            else:  # a hole takes no room on the disk
                scratch.seek(8 * block.shape[1], os.SEEK_CUR)
        scratch.truncate()
        factor = options.factor(peak)
        scratch.seek(0)
        encode(beside, _scaled(scratch, factor, options.sample_rate), options.sample_rate, options.bits)
    return Rendered(name, player.frames / options.sample_rate, factor)


def _scaled(scratch: Any, factor: float, frames: int) -> Iterator[Array]:
    """Yield what was written to a file in blocks of `frames`, times a factor."""
    while data := scratch.read(frames * 8):
        yield np.frombuffer(data, np.float32).reshape(-1, 2) * np.float32(factor)
