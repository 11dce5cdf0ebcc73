"""The same seed, the same bytes, everywhere: what the bundled model wrote when `golden.json` was made.

There is one set of sums for every processor and system, and for the kernel and the reference alike. A change of the
model or of drawing changes the bytes: then make the file again (`python tests/engine/test_golden.py`) and say so in the
change log.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from music_generator.engine import kernel
from music_generator.engine.engine import Engine
from music_generator.generation import (
    SamplingOptions,
    Span,
    generate_many,
    to_bridge,
    to_compose,
    to_continue,
    to_infill,
    to_lead_in,
)
from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance

FILE = Path(__file__).with_name("golden.json")
SHORT = "short "  # the spans that NumPy writes too


def spans() -> dict[str, Span]:
    """One of each task, on a made-up piece."""
    notes = np.array([(0.31 * i, 0.4, 50 + 7 * i % 30, 40 + 3 * i % 60) for i in range(30)], NOTE_DTYPE)
    piece = Performance(notes, np.array([(1.0, 1.5, 0, 100), (5.0, 2.0, 0, 90)], PEDAL_DTYPE))
    return {
        "compose": to_compose(12),
        "continue": to_continue(piece, 8),
        "lead-in": to_lead_in(piece, 6),
        "infill": to_infill(piece, 3.0, 6.0),
        "bridge": to_bridge(piece, piece, 5),
    }


def short_spans() -> dict[str, Span]:
    """One of each task, of a second or two."""
    notes = np.array([(0.31 * i, 0.4, 50 + 7 * i % 30, 40 + 3 * i % 60) for i in range(10)], NOTE_DTYPE)
    piece = Performance(notes, np.array([(1.0, 1.5, 0, 100)], PEDAL_DTYPE))
    return {
        f"{SHORT}compose": to_compose(2),
        f"{SHORT}continue": to_continue(piece, 1),
        f"{SHORT}lead-in": to_lead_in(piece, 1),
        f"{SHORT}infill": to_infill(piece, 1.0, 2.0),
        f"{SHORT}bridge": to_bridge(piece, piece, 1),
    }


def written(asked: dict[str, Span], size: int, backend: str | None = None) -> dict[str, str]:
    """Return the SHA-256 of each task's MIDI file, written `size` at a time by the bundled model."""
    with Engine(precision="int8", backend=backend) as engine:
        made = list(generate_many(engine, [(span, SamplingOptions(seed=11)) for span in asked.values()], size=size))
    return {
        task: hashlib.sha256(write_midi(each.performance)).hexdigest() for task, each in zip(asked, made, strict=True)
    }


def golden() -> dict[str, str]:
    found: dict[str, str] = json.loads(FILE.read_text("utf-8"))
    return found


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("backend", ["kernel", "numpy"])
def test_short_spans_are_those_of_the_golden_file(backend: str, size: int) -> None:
    """Where there is no kernel, NumPy alone is tried: it is what writes there."""
    if backend == "kernel" and kernel.vectors() is None:
        backend = "numpy"
    wanted = {task: found for task, found in golden().items() if task.startswith(SHORT)}
    assert written(short_spans(), size, backend) == wanted


@pytest.mark.parametrize("size", [1, 5])
def test_the_bytes_are_those_of_the_golden_file(size: int) -> None:
    """By what writes on this machine."""
    wanted = {task: found for task, found in golden().items() if not task.startswith(SHORT)}
    assert written(spans(), size) == wanted


@pytest.mark.slow
def test_numpy_writes_the_bytes_of_the_golden_file() -> None:
    wanted = {task: found for task, found in golden().items() if not task.startswith(SHORT)}
    assert written(spans(), 5, "numpy") == wanted


def test_each_task_has_bytes_of_its_own() -> None:
    found = golden()
    assert found.keys() == spans().keys() | short_spans().keys()
    assert len(set(found.values())) == len(found)


if __name__ == "__main__":
    FILE.write_text(json.dumps(written(spans(), 1) | written(short_spans(), 1), indent=1) + "\n", "utf-8")
