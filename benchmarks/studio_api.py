"""Measure the studio's server without a browser: from a request to its first notes, and to the end.

    python benchmarks/studio_api.py [--runs 20] [--json FILE]

Needs the extra `studio`. Each line is the median and the largest of its runs, with another seed each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from music_generator.studio.schema import piece_to_json
from studio import made

Json = dict[str, Any]


def requests() -> dict[str, Json]:
    """Return what is asked, by what it is."""
    phrase, minute, long = piece_to_json(made(3, 24)), piece_to_json(made(60, 500)), piece_to_json(made(1200, 20_000))
    answer = {"task": "continue", "piece": phrase, "variations": 1, "open_end": True}
    gap = {"task": "infill", "piece": minute, "from": 25, "to": 33, "variations": 4}
    inside = [note for note in minute["notes"] if 25 <= note[0] < 33]
    return {
        "an answer of 4 s to a phrase of 3 s": answer | {"seconds": 4},
        "an answer of 8 s to a phrase of 3 s": answer | {"seconds": 8},
        "an answer of 4 s to a minute": answer | {"piece": minute, "seconds": 4},
        "infill, 8 s of a minute, 4 variations": gap,
        "infill, 8 s of 20 minutes, 4 variations": gap | {"piece": long, "from": 600, "to": 608},
        "infill around the melody": gap | {"keep": "melody"},
        "infill around every third note": gap | {"keep": inside[::3]},
    }


@contextmanager
def serving() -> Iterator[str]:
    """Run a studio; yield its address."""
    command = [sys.executable, "-m", "music_generator", "studio", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def ask(address: str, request: Json) -> tuple[float, float]:
    """Return the milliseconds from a request to its first notes, and to its end."""
    body, begun, first = json.dumps(request).encode(), time.perf_counter(), 0.0
    with urllib.request.urlopen(f"{address}api/write", body) as answer:
        for line in answer:
            first = first or (time.perf_counter() if b'"events"' in line[:20] else 0.0)
        assert json.loads(line)["type"] == "done"
    end = time.perf_counter()
    return 1000 * ((first or end) - begun), 1000 * (end - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured: dict[str, dict[str, list[float]]] = {}
    with serving() as address:
        for name, request in requests().items():
            ask(address, request)  # the first one loads what is needed
            times = [ask(address, request | {"seed": seed}) for seed in range(arguments.runs)]
            measured[name] = {"first": [first for first, _ in times], "end": [end for _, end in times]}
            told = [f"{median(values):.0f} ms (at most {max(values):.0f})" for values in measured[name].values()]
            print(f"{name}: first notes {told[0]}, end {told[1]}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
