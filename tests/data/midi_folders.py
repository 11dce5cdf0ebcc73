"""Folders of MIDI files to prepare."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from music_generator.data import maestro
from music_generator.data.corpus import Corpus, open_corpus
from music_generator.data.prepare import Skipped, prepare
from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, Performance

DRUMS = bytes.fromhex("4d546864 00000006 0000 0001 01f4 4d54726b 0000000d 00992440 8768892440 00ff2f00")


def piece(seed: int, count: int = 12) -> Performance:
    """A performance on the 10 ms grid, another one for each seed, from second 0."""
    random = np.random.default_rng(seed)
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.cumsum(random.integers(1, 100, count)) / 100
    notes["onset"] -= notes["onset"][0]
    notes["duration"], notes["velocity"] = 0.2, random.integers(1, 128, count)
    notes["pitch"] = random.integers(21, 109, count)
    return Performance(notes, np.array([(0.5, 1.0, SUSTAIN, 100)], PEDAL_DTYPE))


def fill(folder: Path, count: int = 20) -> Path:
    """A folder of pieces, some in a folder of a folder, some in capitals."""
    for seed in range(count):
        name = ("a.mid", "deep/er/b.MID", "deep/c.midi")[seed % 3].replace(".", f"{seed:02d}.")
        write_midi(piece(seed), folder / name)
    return folder


def fill_maestro(folder: Path) -> Path:
    """A folder shaped as MAESTRO: three pieces in its three splits, and one listed that is not there."""
    splits = ("train", "validation", "test", "train")
    with_files = enumerate(zip(("Alban Berg", "Leoš Janáček", "Alban Berg", "Clara Schumann"), splits, strict=True))
    rows = [
        (composer, f"Piece {i}", split, 2004 + i, f"2004/{i}.midi", f"2004/{i}.wav", 9.5)
        for i, (composer, split) in with_files
    ]
    for i in range(3):
        write_midi(piece(0), folder / f"2004/{i}.midi")  # equal content: the official splits hold all the same
    with (folder / "maestro-v3.0.0.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([maestro.COLUMNS, *rows])
    return folder


def prepare_and_open(folder: str | Path, out: str | Path, **options: Any) -> tuple[Corpus, list[Skipped]]:
    made = prepare(folder, out, **options)
    return open_corpus(out), made.skipped


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
