"""The same seed, the same bytes: what the bundled model wrote when `golden.json` was made, on machines of that kind.

Another kind of processor or another ONNX Runtime rounds otherwise; where the file does not know the kind, the test is
skipped and says how to add it. A change of the model or of drawing changes the bytes: then make the file anew and say
so in the change log.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest

from music_generator.engine.engine import Engine
from music_generator.engine.kernel import instructions
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
from music_generator.model.bundle import open_bundle
from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance

FILE = Path(__file__).with_name("golden.json")


def kind() -> str:
    """What rounding depends on: the processor's widest instructions known to matter, the runtime and who steps."""
    import onnxruntime

    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    widest = next((name for name in ("AVX512_SPR", "AVX512_ICL", "AVX512_SKX", "AVX2") if features.get(name)), "plain")
    step = "kernel" if instructions() else "graph"
    return f"{platform.system()} {platform.machine()} {widest}, onnxruntime {onnxruntime.__version__}, {step}"


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


def written(size: int) -> dict[str, str]:
    """The SHA-256 of each task's MIDI file, written so many at a time."""
    asked = spans()
    made = generate_many(
        Engine(open_bundle()), [(span, SamplingOptions(seed=11)) for span in asked.values()], size=size
    )
    return {
        task: hashlib.sha256(write_midi(each.performance)).hexdigest() for task, each in zip(asked, made, strict=True)
    }


@pytest.mark.parametrize("size", [1, 5])
def test_the_bytes_are_those_of_the_golden_file(size: int) -> None:
    golden = json.loads(FILE.read_text("utf-8"))
    if kind() not in golden:
        pytest.skip(f"golden.json has no {kind()}; to add it: python tests/test_golden.py")
    assert written(size) == golden[kind()]


def test_each_task_has_bytes_of_its_own() -> None:
    found = written(3)
    assert len(set(found.values())) == len(spans())


if __name__ == "__main__":
    known = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    FILE.write_text(json.dumps({**known, kind(): written(1)}, indent=1) + "\n", "utf-8")
