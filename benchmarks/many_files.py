"""Preparing very many small MIDI files: files a second and peak memory as the folder grows; shards give the same bytes.

    python benchmarks/many_files.py --files 25000 50000 100000 --shards 4

The files are made here: short melodies, a hundredth of them copies of another, one in a thousand cut off.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from processes import Finished, run  # noqa: E402

HEADER = bytes.fromhex("4d546864 00000006 0000 0001 01e0")  # type 0, one track, 480 ticks per quarter note
END = bytes.fromhex("00ff2f00")
IN_A_FOLDER = 1000
COPIED, CUT_OFF = 100, 1000  # every so many
COMMAND = (sys.executable, "-m", "music_generator")
OPEN = """
import sys, time
from music_generator.data.corpus import open_corpus
begun = time.perf_counter()
corpus = open_corpus(sys.argv[1])
corpus.offsets
print(time.perf_counter() - begun)
"""


def midi_file(seed: int, notes: int) -> bytes:
    """A melody of so many notes as the bytes of a MIDI file; the same for the same seed."""
    rng = np.random.default_rng(seed)
    events = np.empty((notes, 2, 4), np.uint8)  # each note pressed and released: delta, status, key, velocity
    events[..., 0] = rng.integers(1, 128, (notes, 2))
    events[..., 1] = 0x90
    events[..., 2] = rng.integers(21, 109, (notes, 1))
    events[:, 0, 3], events[:, 1, 3] = rng.integers(1, 128, notes), 0
    track = events.tobytes() + END
    return HEADER + b"MTrk" + len(track).to_bytes(4, "big") + track


def make_files(folder: Path, first: int, last: int, notes: int) -> None:
    """The files number `first` to `last` - 1 of a folder, a thousand to a folder of its own."""
    for number in range(first, last):
        data = midi_file(number - number % COPIED if number % COPIED == 1 else number, notes)
        path = folder / f"{number // IN_A_FOLDER:05d}" / f"{number:07d}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: len(data) // 2] if number % CUT_OFF == CUT_OFF - 1 else data)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two corpora are the same, byte by byte."""
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in ("tokens.npy", "corpus.json"))


def measure(folder: Path, files: int, shards: int, jobs: int, work: Path) -> str:
    """One row of the table, of the `files` files in `folder`."""
    whole, parts = work / "whole", work / "parts"
    alone = run([*COMMAND, "prepare", folder, "--out", whole, "--jobs", str(jobs)])
    some: list[Finished] = [
        run([*COMMAND, "prepare", folder, "--out", parts, "--jobs", str(jobs), "--shard", f"{index}/{shards}"])
        for index in range(1, shards + 1)
    ]
    merged = run([*COMMAND, "merge", parts])
    opened = run([sys.executable, "-c", OPEN, whole])
    cells = [
        f"{files:,}",
        f"{files / alone.seconds:,.0f}",
        f"{alone.peak_mb:.0f} MB",
        f"{files / sum(each.seconds for each in some):,.0f}",
        f"{max(each.peak_mb for each in some):.0f} MB",
        f"{merged.seconds:.1f} s",
        f"{merged.peak_mb:.0f} MB",
        "yes" if same_bytes(whole, parts) else "NO",
        f"{(whole / 'corpus.json').stat().st_size / 1e6:.1f} MB",
        f"{float(opened.output):.2f} s",
        f"{opened.peak_mb:.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the files, measure at each size, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[25_000, 50_000, 100_000], help="ascending")
    parser.add_argument("--notes", type=int, default=64, help="in each file")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    names = ("files", "files/s", "peak", "shards: files/s", "peak", "merge", "peak", "same bytes", "corpus.json",
             "opened in", "peak")  # fmt: skip
    print(f"| {' | '.join(names)} |", "|---" * len(names) + "|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as made:
        done = 0
        for files in options.files:
            make_files(Path(made) / "midi", done, files, options.notes)
            done = files
            print(measure(Path(made) / "midi", files, options.shards, options.jobs, Path(made)), flush=True)


if __name__ == "__main__":
    main()
