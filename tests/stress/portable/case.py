"""Write a case for `driver.c` and `driver.mjs`: a model and spans to write, and what this machine's kernel writes.

`python case.py FILE` leaves the case in FILE and prints one line a span: task, number of tokens, sum.
All numbers are 32 bits, little-endian: the Config of kernel.h; the tensors, each after its size in bytes; then each
span: has_future, composer, the tokens of past and future after their numbers, the SpanState, resume_tick, next_onset,
last_onset, last_release, inverse_temperature, top_p, and BLOCKS blocks of noise and of uniforms.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "engine"))

from test_golden import spans

from music_generator.engine import kernel
from music_generator.engine.engine import Engine
from music_generator.engine.noise import NOISE_BLOCK_TOKENS
from music_generator.engine.rules import SPAN_DTYPE
from music_generator.generation import SamplingOptions, Span
from music_generator.generation.writer import Writer
from music_generator.model.pack import constants

BLOCKS = 4
OPTIONS = SamplingOptions(seed=11)


class _Recorder:
    """An engine's backend that keeps the tokens it is asked to read."""

    def __init__(self, backend: kernel.Kernel) -> None:
        self.read: dict[bool, np.ndarray] = {}
        self._backend = backend

    def encode(self, tokens: np.ndarray, composer: int, *, backward: bool, every: bool = False) -> object:
        self.read[backward] = tokens
        return self._backend.encode(tokens, composer, backward=backward, every=every)


def write_array(file: BinaryIO, array: object, dtype: type = np.int32) -> None:
    """Append numbers."""
    file.write(np.ascontiguousarray(array, dtype).tobytes())


def fnv(rows: np.ndarray) -> int:
    """Return the FNV-1a sum of some bytes, 64 bits."""
    total = 14695981039346656037
    for byte in rows.tobytes():
        total = (total ^ byte) * 1099511628211 % (1 << 64)
    return total


def write_span(file: BinaryIO, engine: Engine, task: str, span: Span) -> None:
    """Append a span, and print what is written there."""
    backend = engine.backend
    assert isinstance(backend, kernel.Kernel)
    recorder = _Recorder(backend)
    vars(engine)["backend"] = recorder
    writer = Writer(engine, span, OPTIONS)
    vars(engine)["backend"] = backend
    slots = engine.slots(1, has_future=writer.future is not None)
    source = writer.attach(slots, 0)
    write_array(file, [slots.has_future, slots.composer[0]])
    for backward in (False, True):
        tokens = recorder.read.get(backward, np.empty((0, kernel.TOKEN_COLUMNS)))
        write_array(file, len(tokens))
        write_array(file, tokens)
    write_array(file, slots.span.view(np.int32))
    for array in (slots.resume_tick, slots.next_onset, slots.last_onset, slots.last_release):
        write_array(file, array)
    write_array(file, [slots.inverse_temperature[0], slots.top_p[0]], np.float32)
    written = []
    for block in range(BLOCKS):
        if block:
            source.fill(slots.noise[0], slots.uniforms[0])
        write_array(file, slots.noise, np.float32)
        write_array(file, slots.uniforms, np.float32)
        slots.span["place"] = 0
        if not slots.span["done"][0]:
            written += backend.write(slots, 1, NOISE_BLOCK_TOKENS)
    rows = np.concatenate(written)
    print(task, len(rows), f"{fnv(rows):016x}")


def main(path: Path) -> None:
    """Write the case."""
    engine = Engine(backend="kernel")
    tensors = [*engine.bundle.runtime_tensors(engine.precision).values(), *constants()]
    with path.open("wb") as file:
        file.write(bytes(kernel.describe(engine.config, engine.precision)))
        write_array(file, len(tensors))
        for tensor in tensors:
            data = tensor.tobytes()
            write_array(file, len(data))
            file.write(data + b"\0" * (-len(data) % 4))
        every = spans()
        write_array(file, [len(every), BLOCKS, SPAN_DTYPE.itemsize // 4])
        for task, span in every.items():
            write_span(file, engine, task, span)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
