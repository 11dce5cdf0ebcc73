"""Write a case for `driver.c` and `driver.mjs`: a model and spans to write, and what this machine's kernel writes.

`python case.py FILE [MODEL]` leaves the case in FILE and prints one line a span: task, number of tokens, sum.
All numbers are 32 bits, little-endian: the Config of kernel.h; the tensors, each after its size in bytes; then each
span: composer; the tokens of past, future and memory after their numbers; the arrays of `SLOT_ARRAYS` and
`MEMORY_ARRAYS`, each after its size in bytes; the memory's fixed entries and ring; and BLOCKS blocks of noise and of
uniforms. What the driver finds out itself, by `encode` and `remember`, is not among them.
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
from music_generator.engine.memory import ENTRY_MULTIPLE, Memories
from music_generator.engine.noise import NOISE_BLOCK_TOKENS
from music_generator.engine.rules import SPAN_DTYPE
from music_generator.generation import SamplingOptions, Span
from music_generator.generation.writer import Writer
from music_generator.model.pack import constants

BLOCKS = 4
OPTIONS = SamplingOptions(seed=11)


SLOT_ARRAYS = (
    "span", "has_future", "resume_tick", "last_onset", "last_release", "next_onset", "inverse_temperature", "top_p",
    "null_factor", "density", "loudness", "recent_keys", "lag_counts", "match_lengths",
    "habituation", "match_nats",
)  # fmt: skip
MEMORY_ARRAYS = ("fingerprints", "sums", "events", "bonus", "pending", "state")
FIXED = 512  # entries of a memory


class _Recorder:
    """An engine's backend that keeps the tokens it is asked to read."""

    def __init__(self, backend: kernel.Kernel) -> None:
        self.read: dict[bool, np.ndarray] = {}
        self.remembered: list[np.ndarray] = []
        self._backend = backend

    def encode(self, tokens: np.ndarray, composer: int, *, backward: bool, every: bool = False) -> object:
        self.read[backward] = tokens
        return self._backend.encode(tokens, composer, backward=backward, every=every)

    def remember(self, tokens: np.ndarray, memory: Memories) -> None:
        self.remembered.append(tokens)
        self._backend.remember(tokens, memory)


def write_array(file: BinaryIO, array: object, dtype: type = np.int32) -> None:
    """Append numbers."""
    file.write(np.ascontiguousarray(array, dtype).tobytes())


def fnv(rows: np.ndarray) -> int:
    """Return the FNV-1a sum of some bytes, 64 bits."""
    total = 14695981039346656037
    for byte in rows.tobytes():
        total = (total ^ byte) * 1099511628211 % (1 << 64)
    return total


def write_bytes(file: BinaryIO, data: bytes) -> None:
    """Append bytes after their number, filled up to four."""
    write_array(file, len(data))
    file.write(data + b"\0" * (-len(data) % 4))


def without_ring(memory: Memories, name: str) -> np.ndarray:
    """Return an array of a memory as it is before anything has been remembered."""
    array = getattr(memory, name).copy()
    if name == "fingerprints":
        array[:, :, memory.fixed // ENTRY_MULTIPLE :] = 0
    elif name in ("sums", "events"):
        array[(slice(None),) * (2 if name == "sums" else 1) + (slice(memory.fixed, None),)] = 0
    elif name == "pending":
        array[:] = 0
    elif name == "state":
        for field in set(array.dtype.names or ()) - {"fixed_from", "fixed_to"}:
            array[field] = 0
    return np.asarray(array)


def write_span(file: BinaryIO, engine: Engine, task: str, span: Span) -> None:
    """Append a span, and print what is written there."""
    backend = engine.backend
    assert isinstance(backend, kernel.Kernel)
    recorder = _Recorder(backend)
    vars(engine)["backend"] = recorder
    writer = Writer(engine, span, OPTIONS)
    vars(engine)["backend"] = backend
    slots = engine.slots(1, fixed=FIXED)
    source = writer.attach(slots, 0)
    write_array(file, slots.composer)
    none = np.empty((0, kernel.TOKEN_COLUMNS))
    for tokens in (recorder.read[False], recorder.read.get(True, none), (recorder.remembered or [none])[0]):
        write_array(file, len(tokens))
        write_array(file, tokens)
    for name in SLOT_ARRAYS:
        write_bytes(file, getattr(slots, name).tobytes())
    for name in MEMORY_ARRAYS:
        write_bytes(file, without_ring(slots.memory, name).tobytes())
    write_array(file, [slots.memory.fixed, slots.memory.ring])
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


def main(path: Path, model: str | None = None) -> None:
    """Write the case."""
    engine = Engine(model, backend="kernel")
    tensors = [*engine.bundle.runtime_tensors(engine.precision).values(), *constants()]
    with path.open("wb") as file:
        file.write(bytes(kernel.describe(engine.config, engine.precision)))
        write_array(file, len(tensors))
        for tensor in tensors:
            write_bytes(file, tensor.tobytes())
        every = spans()
        write_array(file, [len(every), BLOCKS, SPAN_DTYPE.itemsize // 4])
        for task, span in every.items():
            write_span(file, engine, task, span)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
