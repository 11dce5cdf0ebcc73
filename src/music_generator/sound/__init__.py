"""Render performances as sound: FluidSynth if it is installed, a built-in piano everywhere, and sound files."""

from music_generator.sound.files import FORMATS, write_audio
from music_generator.sound.fluidsynth import find_soundfont, fluidsynth_available
from music_generator.sound.renderer import render
from music_generator.sound.waveform import Sound

__all__ = ["FORMATS", "Sound", "find_soundfont", "fluidsynth_available", "render", "write_audio"]
