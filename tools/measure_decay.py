"""Measure how fast the grand piano's tones decay, beside the recordings they are made of.

    python tools/measure_decay.py node_modules/@audio-samples

It needs the same npm packages as make_samples.py. Each key is struck with the pedal down. The recording is that of the
nearest key, its times shortened by the pitch it is played at, its two channels made equally loud, as those of the
samples are; between two layers its times are interpolated. Both are heard above half of the first partial: below it the
recordings have the room's rumble and the mains' hum, only 30 dB below a soft tone of the treble. The level is the power
over 0.25 s (with a shorter window, beats decide), below its own maximum.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from make_samples import LAYERS, Tone, above, balanced, onset_frame, read_layer
from numpy.typing import NDArray

from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, Performance
from music_generator.sound import SoundOptions, render

Array = NDArray[Any]

KEYS = (28, 64, 88)
VELOCITIES = (30, 45, 54, 63, 76, 89, 102, 115)
FALLS = (10, 20, 30, 40)  # decibels
WINDOW_SECONDS, HOP_SECONDS = 0.25, 0.01


def hertz_of(key: int) -> float:
    """Return the pitch of a key in equal temperament."""
    return float(440 * 2 ** ((key - 69) / 12))


def fall_seconds(samples: Array, rate: int, key: int) -> Array:
    """Return the seconds from the loudest moment to each of `FALLS`, nan where it is not reached."""
    kept = above(samples, rate, hertz_of(key) / 2)
    window, hop = int(WINDOW_SECONDS * rate), int(HOP_SECONDS * rate)
    sums = np.concatenate([[0.0], np.cumsum((kept**2).sum(axis=1))])
    power = (sums[window::hop] - sums[:-window:hop]) / window
    levels = 10 * np.log10(np.maximum(power, 1e-20) / power.max())
    after = levels[levels.argmax() :]
    return np.array([np.argmax(after < -fall) * HOP_SECONDS if (after < -fall).any() else np.nan for fall in FALLS])


def recorded_seconds(layers: dict[int, dict[int, Tone]], key: int) -> Array:
    """Return the seconds of the recording nearest to a key, of shape (layers, falls)."""
    rows = []
    for tones in layers.values():
        tone = tones[min(tones, key=lambda each: abs(each - key))]
        struck = balanced(tone.samples[onset_frame(tone.samples, tone.rate) :], tone.rate)
        rows.append(fall_seconds(struck, tone.rate, tone.key) / 2 ** ((key - tone.key) / 12))
    return np.array(rows)


def played(key: int, velocity: int) -> Array:
    """Return the waveform of a key struck with the pedal down."""
    performance = Performance(
        np.array([(0.5, 0.5, key, velocity)], NOTE_DTYPE), np.array([(0.0, 60.0, SUSTAIN, 127)], PEDAL_DTYPE)
    )
    return render(performance, SoundOptions(normalise="none")).samples.astype(float)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder of piano-velocity2 … piano-velocity16")
    packages = parser.parse_args().packages
    layers = {layer: read_layer(packages, layer) for layer in LAYERS}
    print("key velocity " + "".join(f"{f'-{fall} dB: recorded, ours, off':>30}" for fall in FALLS))
    worst = 0.0
    for key in KEYS:
        rows = recorded_seconds(layers, key)
        for velocity in VELOCITIES:
            recorded = np.array([np.interp(velocity, list(LAYERS.values()), column) for column in rows.T])
            ours = fall_seconds(played(key, velocity), 44_100, key)
            off = ours / recorded - 1
            worst = max(worst, float(np.abs(off).max()))
            cells = [f"{r:14.2f} {o:7.2f} {100 * x:+6.0f}%" for r, o, x in zip(recorded, ours, off, strict=True)]
            print(f"{key:3} {velocity:8} " + "".join(cells))
    print(f"largest difference: {100 * worst:.0f}%")


if __name__ == "__main__":
    main()
