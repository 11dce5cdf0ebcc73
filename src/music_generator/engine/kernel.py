"""The compiled engine: `kernel.c` by ctypes, with the methods of `reference.Reference`.

kernel.h is the contract. The compiled code trusts what it is given, so that every tensor and every size is checked
before; the version of the contract and the sizes of its structs are compared when the library is loaded.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ctypes import Structure, c_int32, c_int64, c_void_p
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.memory import ENTRY_COLUMNS, MEMORY_DTYPE, Memories
from music_generator.engine.rules import (
    HABITUATION_LAGS,
    LAGS,
    LEAST_MATCH_LAG,
    MATCH_TOKENS,
    SHIFT_REACH,
    SPAN_DTYPE,
    WRITING,
)
from music_generator.engine.slots import Slots
from music_generator.errors import HOW_TO_REINSTALL, InstallationError
from music_generator.model.config import (
    CELLS,
    CLASSES,
    ENTRY_MULTIPLE,
    EVENT_HEADS,
    EVENT_TAPS,
    FIELDS,
    FINGERPRINT,
    GROUP_HEADS,
    GROUP_TAPS,
    GROUP_TICKS,
    INPUT_CLASSES,
    INTERVAL_REACH,
    LOW_BEFORE,
    NO_FUTURE,
    RECENCY_TICKS,
    RELEASE_TICKS,
    ROLL_CENTRE,
    VALUE,
    ModelConfig,
)
from music_generator.model.pack import PRECISIONS, constants
from music_generator.music.tokens import KEYS, NUM_KEYS

Array = NDArray[Any]

CONTRACT_VERSION = 3
ALIGNMENT = 64  # bytes
MIN_SLOTS_PER_THREAD = 8
LIBRARY = Path(__file__).with_name(
    {"win32": "libkernel.dll", "darwin": "libkernel.dylib"}.get(sys.platform, "libkernel.so")
)


class Config(Structure):
    """`Config` of kernel.h."""

    _fields_ = (
        *((name, c_int32) for name in (
            "precision", "cell", "has_backward", "forward_layers", "forward_units", "backward_layers", "backward_units",
            "head_units", "composers", "num_keys", "num_pedals",
        )),
        ("classes", c_int32 * len(FIELDS)), ("input_classes", c_int32 * len(FIELDS)),
        *((name, c_int32) for name in ("time_bins", "has_memory", "is_steered", "recency_ticks", "release_ticks")),
    )  # fmt: skip


_SLOT_ARRAYS = (
    "span", "composer", "has_future", "resume_tick", "last_onset", "last_release", "next_onset", "states", "context",
    "future_context", "inverse_temperature", "top_p", "null_factor", "density", "loudness", "recent_keys", "lag_counts",
    "match_lengths", "habituation", "match_nats", "noise", "uniforms", "forced", "drawn", "logits",
)  # fmt: skip
_MEMORY_ARRAYS = ("fingerprints", "sums", "events", "bonus", "pending", "state")


class _Memories(Structure):
    _fields_ = (*((name, c_void_p) for name in _MEMORY_ARRAYS), ("fixed", c_int32), ("ring", c_int32))


class _Slots(Structure):
    _fields_ = (
        *((name, c_void_p) for name in _SLOT_ARRAYS),
        ("block", c_int32), ("memory", _Memories),
    )  # fmt: skip


TOKEN_COLUMNS = DRAWN_COLUMNS = len(FIELDS) + 2
_CONTRACT = (
    CONTRACT_VERSION, ctypes.sizeof(Config), 4 * TOKEN_COLUMNS, 4 * DRAWN_COLUMNS, SPAN_DTYPE.itemsize,
    ctypes.sizeof(_Slots), MEMORY_DTYPE.itemsize, ctypes.sizeof(_Memories),
    EVENT_HEADS, GROUP_HEADS, FINGERPRINT, VALUE, EVENT_TAPS, GROUP_TAPS, GROUP_TICKS, INTERVAL_REACH, ROLL_CENTRE,
    LOW_BEFORE, ENTRY_COLUMNS, LAGS, HABITUATION_LAGS, MATCH_TOKENS, LEAST_MATCH_LAG, SHIFT_REACH, ENTRY_MULTIPLE,
)  # fmt: skip


@cache
def _library(path: Path = LIBRARY) -> ctypes.CDLL | None:
    """Load the library; None where it was not built.

    Raises:
        InstallationError: it is no library, or belongs to another version of this package.
    """
    if not path.exists():
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise InstallationError(f"{path.name} cannot be loaded ({error}); {HOW_TO_REINSTALL}") from error
    try:
        library.contract.restype = ctypes.POINTER(c_int32)
        found = tuple(library.contract()[: len(_CONTRACT)])
    except AttributeError:
        found = ()
    if found != _CONTRACT:
        raise InstallationError(
            f"{path.name} was compiled for another version of music-generator-rnn; {HOW_TO_REINSTALL}"
        )
    return library


def vectors() -> str | None:
    """Return the kind of vectors that the kernel uses on this machine; None where there is no kernel."""
    library = _library()
    if library is None:
        return None
    if hasattr(library, "best_vectors"):
        return (None, "ssse3", "avx2", "vnni")[library.best_vectors()]
    return "dotprod" if sys.platform == "darwin" or "asimddp" in _processor_features() else "neon"


def _processor_features() -> str:
    """Return the features of an ARM processor as Linux lists them."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


class _Memory:
    """Bytes at an aligned address."""

    def __init__(self, size: int) -> None:
        self._bytes = np.zeros(size + ALIGNMENT, np.uint8)
        self.address = -(-_address(self._bytes) // ALIGNMENT) * ALIGNMENT
        self.size = size


def _address(array: Array) -> int:
    assert array.flags.c_contiguous
    return int(array.ctypes.data)


class Kernel:
    """A model in compiled code. Any number of threads may use it at once, each with slots of its own."""

    def __init__(self, config: ModelConfig, precision: str, tensors: Mapping[str, Array], threads: int = 1) -> None:
        """Lay out a model.

        Args:
            config: what it is.
            precision: "int8" or "float32".
            tensors: as `pack.check_packed` returns them.
            threads: how many share the slots of a call.
        """
        library, variant = _library(), vectors()
        assert library is not None, "the kernel was not built"
        self.config, self.threads = config, threads
        self._functions = {
            name: _function(library, f"{name}_{variant}", result, arguments)
            for name, (result, arguments) in _SIGNATURES.items()
        }
        described = describe(config, precision)
        self._tensors = [*tensors.values(), *constants()]  # the model points into the tables
        addresses = (c_void_p * len(self._tensors))(*map(_address, self._tensors))
        build = self._functions["build"]
        self._model = _Memory(build(ctypes.byref(described), addresses, None))
        build(ctypes.byref(described), addresses, self._model.address)
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self._scratch: weakref.WeakKeyDictionary[Slots, _Described] = weakref.WeakKeyDictionary()

    def close(self) -> None:
        """End the threads; the kernel may still be used, with one."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def encode(self, tokens: Array, composer: int, *, backward: bool, every: bool = False) -> tuple[Array, Array]:
        """Read tokens; see `reference.Reference.encode`."""
        config, count = self.config, len(tokens)
        layers, units = config.forward_layers, config.forward_size
        if backward:
            layers, units = config.backward_layers, config.backward_size
        states = np.zeros((config.state_rows(layers), units), np.float32)
        contexts = np.zeros((count if every else 1, config.context_size), np.float32)
        tokens = np.ascontiguousarray(tokens, np.int32)
        assert tokens.shape == (count, TOKEN_COLUMNS)
        assert count
        scratch = _Memory(self._functions["encode_bytes"](self._model.address, count))
        self._functions["encode"](
            self._model.address, backward, _address(tokens), count, composer, every, _address(states),
            _address(contexts), scratch.address,
        )  # fmt: skip
        return states, contexts

    def remember(self, tokens: Array, memory: Memories) -> None:
        """Take tokens into a memory; see `reference.Reference.remember`."""
        if not self.config.memory:
            return
        tokens = np.ascontiguousarray(tokens, np.int32)
        assert tokens.shape[1] == TOKEN_COLUMNS
        described = _describe_memories(memory)
        self._functions["remember"](self._model.address, _address(tokens), len(tokens), ctypes.byref(described), 0)

    def step(self, slots: Slots, first: int, count: int, commit: bool, forced: Array | None = None) -> None:
        """Draw a token of some slots; see `reference.Reference.step`."""
        described, step = self._describe_slots(slots), self._functions["step"]
        address = described.address if forced is None else described.with_forced(forced)

        def run(thread: int, at: int, n: int) -> None:
            step(self._model.address, address, first + at, n, commit, described.scratch[thread].address)

        self._share(run, count)

    def write(self, slots: Slots, count: int, most: int) -> list[Array]:
        """Write tokens of the first slots; see `reference.Reference.write`. Each thread's slots have an array."""
        described, write = self._describe_slots(slots), self._functions["write"]
        if most > 1:  # so that no thread waits for the others
            left = slots.block - slots.span["place"][:count][slots.span["done"][:count] == WRITING]
            most = min(most, int(left.min(initial=most)))

        def run(thread: int, first: int, n: int) -> Array:
            rows = np.empty((most, n, len(FIELDS)), np.int32)
            scratch = described.scratch[thread].address
            tokens = write(self._model.address, described.address, first, n, most, rows.ctypes.data, scratch)
            return rows[:tokens]

        return self._share(run, count)

    def _describe_slots(self, slots: Slots) -> _Described:
        described = self._scratch.get(slots)
        if described is None:
            entries = slots.memory.fixed + slots.memory.ring
            size = self._functions["step_bytes"](self._model.address, slots.size, entries)
            described = self._scratch[slots] = _Described(slots, size, self.threads)
        return described

    def _share(self, run: Callable[[int, int, int], Any], count: int) -> list[Any]:
        """Call `run` with number, first slot and number of slots of each thread's share; return the results."""
        shares = min(self.threads, count // MIN_SLOTS_PER_THREAD)
        if shares < 2 or self._pool is None:
            return [run(0, 0, count)]
        edges = [count * i // shares for i in range(shares + 1)]
        waiting = [
            self._pool.submit(run, i, first, end - first) for i, (first, end) in enumerate(pairwise(edges[1:]), 1)
        ]
        return [run(0, 0, edges[1]), *(each.result() for each in waiting)]


class _Described:
    """The addresses of some slots' arrays, and scratch memory for each thread."""

    def __init__(self, slots: Slots, scratch_bytes: int, threads: int) -> None:
        self._struct = _Slots(block=slots.block, memory=_describe_memories(slots.memory))
        for name in _SLOT_ARRAYS:
            if (array := getattr(slots, name)) is not None:
                setattr(self._struct, name, _address(array))
        self.address = ctypes.addressof(self._struct)
        self.scratch = [_Memory(scratch_bytes) for _ in range(threads)]

    def with_forced(self, forced: Array) -> int:
        """Return the address of the same slots with forced tokens (N, 6) int32, which stay where they are."""
        assert forced.dtype == np.int32
        self._forced = _Slots.from_buffer_copy(self._struct)
        self._forced.forced = _address(forced)
        return ctypes.addressof(self._forced)


def _describe_memories(memory: Memories) -> _Memories:
    described = _Memories(fixed=memory.fixed, ring=memory.ring)
    for name in _MEMORY_ARRAYS:
        setattr(described, name, _address(getattr(memory, name)))
    return described


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "build": (c_int64, (c_void_p, c_void_p, c_void_p)),
    "encode_bytes": (c_int64, (c_void_p, c_int32)),
    "step_bytes": (c_int64, (c_void_p, c_int32, c_int32)),
    "remember": (None, (c_void_p, c_void_p, c_int32, c_void_p, c_int32)),
    "encode": (
        None,
        (c_void_p, c_int32, c_void_p, c_int32, c_int32, c_int32, c_void_p, c_void_p, c_void_p),
    ),
    "step": (None, (c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p)),
    "write": (c_int32, (c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p, c_void_p)),
}


def _function(library: ctypes.CDLL, name: str, result: Any, arguments: tuple[Any, ...]) -> Any:
    function = library[name]  # a new one, so that its types are this kernel's
    function.restype, function.argtypes = result, arguments
    return function


def describe(config: ModelConfig, precision: str) -> Config:
    """Return the shape of a model as kernel.h describes it."""
    described = Config(
        PRECISIONS.index(precision), CELLS.index(config.cell), config.direction == "both",
        config.forward_layers, config.forward_size, config.backward_layers, config.backward_size, config.head_size,
        1 + len(config.composers), NUM_KEYS, NUM_KEYS - KEYS,
    )  # fmt: skip
    described.classes[:], described.input_classes[:] = tuple(CLASSES.values()), tuple(INPUT_CLASSES.values())
    described.has_memory, described.is_steered = config.memory > 0, config.steered
    described.time_bins, described.recency_ticks, described.release_ticks = NO_FUTURE, RECENCY_TICKS, RELEASE_TICKS
    return described
