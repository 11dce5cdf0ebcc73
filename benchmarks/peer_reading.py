"""A peer: pretty_midi reading MIDI files, notes and pedals into arrays, as `music_generator.music.midi.read_midi` does.

`python peer_reading.py FILES --repeats 5`, where FILES is a text file with one path a line. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pretty_midi

PEDALS = (64, 66, 67)


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Notes (start, end, pitch, velocity) and pedal messages (time, number, value) of a file, in seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tempo changes outside the first track
        midi = pretty_midi.PrettyMIDI(path)
    notes = [(n.start, n.end, n.pitch, n.velocity) for instrument in midi.instruments for n in instrument.notes]
    pedals = [
        (message.time, message.number, message.value)
        for instrument in midi.instruments
        for message in instrument.control_changes
        if message.number in PEDALS
    ]
    return np.array(notes), np.array(pedals)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    files = options.files.read_text("utf-8").splitlines()
    read(files[0])
    speeds, notes = [], 0
    for _ in range(options.repeats):
        begun = time.perf_counter()
        notes = sum(len(read(path)[0]) for path in files)
        speeds.append(len(files) / (time.perf_counter() - begun))
    print(json.dumps({"files_per_second": speeds, "notes": notes, "versions": {"pretty_midi": version("pretty_midi")}}))


if __name__ == "__main__":
    main()
