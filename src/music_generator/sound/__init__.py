"""Render performances as sound: a recorded grand piano, SoundFonts by FluidSynth, and sound files."""

from music_generator.sound.files import BITS, FORMATS, write_audio
from music_generator.sound.grand import steady_gain
from music_generator.sound.renderer import NORMALISE, Rendered, SoundOptions, render, render_file
from music_generator.sound.samples import SAMPLES, read_index
from music_generator.sound.waveform import Sound

__all__ = [
    "BITS", "FORMATS", "NORMALISE", "SAMPLES", "Rendered", "Sound", "SoundOptions", "read_index", "render",
    "render_file", "steady_gain", "write_audio",
]  # fmt: skip
