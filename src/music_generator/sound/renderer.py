"""Render a performance with the synthesiser that is available."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from music_generator.errors import InputError
from music_generator.music.performance import Performance
from music_generator.sound import fluidsynth, synthesiser
from music_generator.sound.waveform import Sound, normalise

ENGINES = ("auto", "fluidsynth", "builtin")
SAMPLE_RATES = (11_025, 96_000)  # Hz: the lowest with room for the top key, the highest that FluidSynth accepts
TAIL_SECONDS = 2.0  # after the last key or pedal is released


def render(
    performance: Performance,
    *,
    sample_rate: int = 44_100,
    engine: str = "auto",
    soundfont: str | Path | None = None,
    gain: float | None = None,
) -> Sound:
    """Render a performance with its pedals; the sound is two seconds longer than the performance.

    Args:
        performance: The performance.
        sample_rate: 11025 to 96000 Hz.
        engine: "fluidsynth", "builtin" (the built-in synthesiser) or "auto": FluidSynth if its library and a SoundFont
            are installed or `soundfont` is given, else the built-in synthesiser.
        soundfont: A .sf2 or .sf3 file; None for the best one found.
        gain: The factor of the volume, such as that of another span of the same piece; reduced where the peak would
            exceed 0.89 of full scale. None for the factor that makes the peak 0.89.

    Raises:
        InputError: An argument is out of its range, or the SoundFont cannot be read.
        MissingDependencyError: FluidSynth is required and not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"`engine` must be one of {', '.join(ENGINES)}, not {engine!r}")
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        raise InputError(f"`sample_rate` must be {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]} Hz, not {sample_rate}")
    if gain is not None and not gain > 0:
        raise InputError(f"`gain` must be above 0, not {gain}")
    if engine == "builtin" and soundfont is not None:
        raise InputError('`soundfont` is only for FluidSynth: leave it out, or choose the `engine` "fluidsynth"')
    mix = np.zeros((2, round((performance.end + TAIL_SECONDS) * sample_rate)), np.float32)
    if engine == "fluidsynth" or soundfont is not None or (engine == "auto" and fluidsynth.is_ready()):
        found = fluidsynth.require_soundfont(soundfont)
        fluidsynth.play(performance, sample_rate, found, mix)
        name = f"FluidSynth with {found.name}"
    else:
        synthesiser.play(performance, sample_rate, mix)
        name = "built-in synthesiser"
    return Sound(mix.T, sample_rate, name, normalise(mix, gain))
