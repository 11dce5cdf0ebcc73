"""FluidSynth: play a performance with a SoundFont of the user's own."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MissingDependencyError, how_to_install
from music_generator.music.midi_tables import PEDAL_CONTROLLERS, PRESSED
from music_generator.music.performance import Performance

Array = NDArray[Any]

RING_SECONDS = 2.0  # after the last key is released
LONGEST_RING_SECONDS = 15.0  # of what a pedal holds after the last key is released


def require_fluidsynth() -> Any:
    """Return the module fluidsynth. Raises `MissingDependencyError` if the package or its library is missing."""
    try:
        import fluidsynth
    except (ImportError, OSError, AttributeError) as error:  # AttributeError: the library is too old
        raise MissingDependencyError(
            f"a SoundFont needs FluidSynth: {how_to_install('audio')}, and install its library "
            "(`apt install libfluidsynth3`, `brew install fluid-synth`), or leave the SoundFont out: the grand piano "
            "needs neither"
        ) from error
    return fluidsynth


class FluidSynth:
    """A performance on the piano of a SoundFont (bank 0, program 0), block by block.

    Attributes:
        frames: Length of the sound.
    """

    def __init__(self, performance: Performance, sample_rate: int, soundfont: Path) -> None:
        self.module = require_fluidsynth()
        self.performance, self.sample_rate, self.soundfont = performance, sample_rate, soundfont
        notes = performance.notes
        last = float((notes["onset"] + notes["duration"]).max()) if len(notes) else 0.0
        held = min(performance.end, last + LONGEST_RING_SECONDS)
        self.frames = round((held + RING_SECONDS) * sample_rate)

    def blocks(self) -> Iterator[Array]:
        """Yield the sound in blocks of at most a second, float32 of shape (2, frames).

        Raises:
            InputError: FluidSynth cannot read the SoundFont.
        """
        synth = self.module.Synth(gain=0.3, samplerate=float(self.sample_rate))
        try:
            bank = synth.sfload(str(self.soundfont))
            if bank < 0:
                text = f"FluidSynth cannot read the SoundFont {self.soundfont}; name another .sf2 or .sf3 file"
                raise InputError(text)
            synth.program_select(0, bank, 0, 0)
            yield from self._run(synth)
        finally:
            synth.delete()

    def _events(self) -> list[tuple[int, int, str, int, int]]:
        """Return (frame, rank, method of the synth, number, value), sorted: in one frame ends before beginnings."""
        events, rate = [], self.sample_rate
        for onset, duration, pitch, velocity in self.performance.notes.tolist():
            events.append((round(onset * rate), 3, "noteon", pitch, velocity))
            events.append((round((onset + duration) * rate), 0, "noteoff", pitch, 0))
        for onset, duration, pedal, depth in self.performance.pedals.tolist():
            controller = PEDAL_CONTROLLERS[pedal]
            events.append((round(onset * rate), 2, "cc", controller, max(depth, PRESSED)))
            events.append((round((onset + duration) * rate), 1, "cc", controller, 0))
        return sorted(event for event in events if event[0] < self.frames)

    def _run(self, synth: Any) -> Iterator[Array]:
        done = 0
        for frame, _, method, number, value in [*self._events(), (self.frames, 0, "", 0, 0)]:
            while done < frame:
                step = min(frame - done, self.sample_rate)
                yield self._next(synth, step)
                done += step
            if method:
                getattr(synth, method)(*((0, number) if method == "noteoff" else (0, number, value)))

    def _next(self, synth: Any, frames: int) -> Array:
        """Return the next frames as floats: the package's own way has 16 bits, which hiss when they are amplified."""
        block = np.zeros((2, frames), np.float32)
        left, right = (side.ctypes.data_as(ctypes.c_void_p) for side in block)
        write = self.module._fl.fluid_synth_write_float
        write(ctypes.c_void_p(synth.synth), frames, left, 0, 1, right, 0, 1)
        return block
