"""The steps of int8 bundles in compiled code: what the graphs `open` and `joined` compute, and the writing by them.

`kernel.c` says how. The weights are those of the graph, checked to the last size: the compiled code trusts what it is
given. Where the library was not built or the processor has no vectors that it is for, `instructions` is None and the
graphs are run.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import BundleError
from music_generator.model.config import CELLS, CLASSES, FIELDS, INPUT_CLASSES, NO_FUTURE, ModelConfig
from music_generator.model.graphs import read_tensors
from music_generator.music.tokens import NUM_KEYS, VELOCITY_BINS

Array = NDArray[Any]

WIDE, DEEP = 32, 4  # outputs of a tile, inputs that are multiplied together
ALIGNED = 64  # bytes
FEWEST = 8  # lanes that are worth a thread
LIBRARY = Path(__file__).with_name(
    {"win32": "libkernel.dll", "darwin": "libkernel.dylib"}.get(sys.platform, "libkernel.so")
)


class _Product(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("inputs", "outputs", "middle")), ("step", c_float),
        *((name, c_void_p) for name in ("weights", "scales", "biases", "totals")),
    )  # fmt: skip


class _Model(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("cell", "layers", "size", "head_size", "joined", "strokes", "edge_count")),
        ("classes", c_int32 * 4), ("maps", POINTER(_Product)),
        *((name, _Product) for name in ("context_of", "key_extra", "join")),
        ("hidden", _Product * 4), ("out", _Product * 4), ("given", c_void_p * 3 * 4), ("of", c_void_p * 4),
        *((name, c_void_p) for name in ("of_composer", "times", "key_time_to_go", "struck_again", "edges")),
        ("first", c_void_p * 4), ("width", c_void_p * 4),
        *((name, c_void_p) for name in ("shift_opens", "shift_closes", "paces")), ("held_pace", c_float),
    )  # fmt: skip


_LANES = ("strokes", "ticks", "barred", "noise", "context", "coldness", "top_p", "said", "resume", "composer")


class _Lanes(Structure):
    _fields_ = (
        *((name, c_void_p) for name in (*_LANES, "states")), ("classes", c_void_p * 4),
        *((name, c_void_p) for name in ("waited", "held")), ("logits", c_void_p * 4),
        *((name, c_void_p) for name in ("context_after", "states_after")),
    )  # fmt: skip


_PLAN = (
    "now", "last_key", "start", "end", "last_note", "next_note", "rest", "repeated", "times", "first_repeated",
    "first_times", "longest_repeat", "notes_left", "no_pedals", "no_key", "done", "block", "place", "noise", "chances",
)  # fmt: skip
PLAN_DTYPE = np.dtype([(name, np.int64) for name in _PLAN])  # of a lane that writes: see `kernel.c`
ROW_DTYPE = np.dtype([(name, np.int32) for name in ("shift", "key", "velocity", "duration")])  # key -1: none


@cache
def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None


def instructions() -> str | None:
    """The vectors that this machine's kernel is compiled for, of those that it has; None where the graphs are run."""
    library = _library()
    if library is None:
        return None
    if hasattr(library, "widest"):
        return (None, "ssse3", "avx2")[library.widest()]
    return "dotprod" if sys.platform == "darwin" or "asimddp" in _features() else "neon"


def _features() -> str:
    """What Linux says that an ARM processor has."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


class Kernel:
    """What a bundle's graph `open` or `joined` computes; many lanes are shared out among `threads`."""

    def __init__(self, path: Path, config: ModelConfig, *, joined: bool, threads: int = 1) -> None:
        """Raises `BundleError` if the graph's weights are not those of the configuration."""
        library, suffix = _library(), instructions()
        assert library is not None, "the kernel was not built"
        self.room, self.step = library[f"room_{suffix}"], library[f"step_{suffix}"]
        self.room.restype, self.room.argtypes = c_int64, (c_void_p, c_int32)
        self.step.restype, self.step.argtypes = None, (c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p)
        self.write = library[f"write_{suffix}"]
        self.write.restype = c_int32
        self.write.argtypes = (*(c_void_p,) * 4, c_int32, c_int32, c_int32, c_void_p, c_void_p)
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        weights = _Weights(path, read_tensors(path))
        self._kept: Any = weights  # what the structure points to
        self.model = _describe(weights, config, joined=joined)

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Steps:
        """Steps of arrays (N, ...) that stay in place, by the names that the graph has for them."""
        return Steps(self, inputs, outputs)

    def run(self, call: Callable[[int, int, int], Any], lanes: int) -> list[Any]:
        """Call with the number, the first lane and the number of lanes of each thread's part; what they return."""
        shares = min(self.threads, lanes // FEWEST)
        if shares < 2 or self._pool is None:
            return [call(0, 0, lanes)]
        edges = [lanes * i // shares for i in range(shares + 1)]
        waiting = [
            self._pool.submit(call, i, first, end - first) for i, (first, end) in enumerate(pairwise(edges[1:]), 1)
        ]
        return [call(0, 0, edges[1]), *(each.result() for each in waiting)]


class Steps:
    """A kernel's steps from one set of arrays to another, called with the number of lanes and whether to strike."""

    def __init__(self, kernel: Kernel, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        rows = sum(name.startswith("state_") for name in inputs)
        before = (c_void_p * rows)(*(_at(inputs[f"state_{i}"]) for i in range(rows)))
        after = (c_void_p * rows)(*(_at(outputs[f"state_{i}_after"]) for i in range(rows)))
        told = _Lanes(*(_at(inputs[name]) if name in inputs else None for name in _LANES))
        told.states, told.states_after = ctypes.addressof(before), ctypes.addressof(after)
        told.waited, told.held, told.context_after = (
            _at(outputs[name]) for name in ("waited", "held", "context_after")
        )
        for i, field in enumerate(FIELDS):
            told.classes[i] = _at(outputs[field])
            told.logits[i] = _at(outputs[f"{field}_logits"]) if f"{field}_logits" in outputs else None
        self._kept = dict(inputs), dict(outputs), told, before, after  # what addresses point to
        self._kernel, self._model, self._at = kernel, ctypes.addressof(kernel.model), ctypes.addressof(told)
        size = kernel.room(self._model, len(inputs["ticks"]))
        self._rooms = [_Memory(size) for _ in range(kernel.threads)]

    def __call__(self, lanes: int, strike: bool) -> None:
        kernel, rooms = self._kernel, self._rooms
        kernel.run(lambda i, first, n: kernel.step(self._model, self._at, first, n, strike, rooms[i].at), lanes)

    def write(self, other: Steps, plans: Array, lanes: int, most: int) -> list[Array]:
        """Up to so many tokens of the first lanes by their plans (`PLAN_DTYPE`), until all are done or one has no dice.

        `other`: the steps from where these end back to where they begin, and where all is left. → (tokens, lanes) of
        `ROW_DTYPE`, of the lanes of each thread in turn.
        """
        kernel, rooms, at = self._kernel, self._rooms, _at(plans)
        if most > 1:  # so that no thread waits for the others
            most = min(most, int((plans["block"][:lanes] - plans["place"][:lanes]).min()))

        def write(i: int, first: int, n: int) -> Array:
            rows = np.empty((most, n), ROW_DTYPE)
            tokens = kernel.write(self._model, self._at, other._at, at, first, n, most, rows.ctypes.data, rooms[i].at)
            return rows[:tokens]

        return kernel.run(write, lanes)


class _Memory:
    """So many bytes, at an address that vectors like."""

    def __init__(self, size: int) -> None:
        self._bytes = np.zeros(size + ALIGNED, np.uint8)
        self.at = -(-_at(self._bytes) // ALIGNED) * ALIGNED

    def put(self, array: Array) -> _Memory:
        """Copy an array into it."""
        start = self.at - _at(self._bytes)
        self._bytes[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return self


def _at(array: Array) -> int:
    assert array.flags.c_contiguous
    return int(array.ctypes.data)


class _Weights:
    """A graph's tensors by name, handed out when they are of the right type and shape."""

    def __init__(self, path: Path, tensors: dict[str, Array]) -> None:
        self._path, self._tensors = path, tensors
        self.kept: list[Any] = []

    def take(self, name: str, *shape: int, dtype: Any = np.float32) -> Array:
        """The tensor of that name. Raises `BundleError` if it is not there or another."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.dtype != dtype or math.prod(tensor.shape) != math.prod(shape):
            found = "absent" if tensor is None else f"{tensor.dtype} of {'×'.join(map(str, tensor.shape)) or 'one'}"
            raise BundleError(
                f"{self._path}: its `{name}` must be {np.dtype(dtype)} of {'×'.join(map(str, shape)) or 'one'}, not "
                f"{found}; get or train the model anew"
            )
        return tensor.reshape(shape)

    def table(self, name: str, *shape: int) -> int:
        """The address of a tensor of floats."""
        return self.keep(self.take(name, *shape))

    def keep(self, array: Array) -> int:
        """The address of a copy that stays as long as this does."""
        self.kept.append(_Memory(array.nbytes).put(array))
        return int(self.kept[-1].at)

    def product(self, name: str, inputs: int, outputs: int) -> _Product:
        """A `model.step.Product` in 8 bits, its weights in the order in which they are read."""
        weight = self.take(f"{name}.weight", inputs, outputs, dtype=np.int8)
        step, middle = self.take(f"{name}.step"), self.take(f"{name}.middle", dtype=np.uint8)
        more = -outputs % WIDE
        weight = np.pad(weight, ((0, -inputs % DEEP), (0, more)))
        with np.errstate(all="ignore"):  # a stranger's may be any
            scales = np.pad(self.take(f"{name}.scale", outputs) * step, (0, more))
        biases = np.pad(self.take(f"{name}.bias", outputs), (0, more))
        totals = weight.sum(0, dtype=np.int32)
        packed = weight.reshape(len(weight) // DEEP, DEEP, -1, WIDE).transpose(2, 0, 3, 1)
        return _Product(*weight.shape, int(middle), float(step), *map(self.keep, (packed, scales, biases, totals)))


def _describe(weights: _Weights, config: ModelConfig, *, joined: bool) -> _Model:
    size, units, cell = config.head_size, config.forward_size, config.cell
    gates = units * (1 if cell == "rnn" else 4)
    rolled = (4 if joined else 3) * NUM_KEYS
    model = _Model(CELLS.index(cell), config.forward_layers, units, size, joined, NUM_KEYS, NO_FUTURE)
    model.classes[:] = tuple(CLASSES.values())
    names = [(f"forward_stack.maps.{i}", units if i else 3 * NUM_KEYS) for i in range(config.forward_layers)]
    maps = (_Product * len(names))(*(weights.product(name, below + units, gates) for name, below in names))
    weights.kept.append(maps)
    model.maps = maps
    model.context_of = weights.product("context_of.map", units + 3 * NUM_KEYS, size * (2 if joined else 1))
    model.key_extra = weights.product("key_extra", rolled, size)
    if joined:
        model.join = weights.product("join", size, size)
        model.times = weights.table("times", NO_FUTURE + 1, 2 * size)
        model.key_time_to_go, model.struck_again = (
            weights.table(f"{name}.weight", NO_FUTURE + 1, size) for name in ("key_time_to_go", "struck_again")
        )
        model.edges = weights.table("to_go_edges", NO_FUTURE)
    for i, (field, classes) in enumerate(CLASSES.items()):
        model.hidden[i] = weights.product(f"heads.{field}.hidden", size, size)
        model.out[i] = weights.product(f"heads.{field}.out", size, classes)
        for j, before in enumerate(FIELDS[:i]):
            model.given[i][j] = weights.table(f"heads.{field}.given.{before}.weight", CLASSES[before], size)
        model.of[i] = weights.table(f"forward_stack.of_{field}", max(classes, INPUT_CLASSES[field]), gates)
    model.of_composer = weights.table("forward_stack.of_composer", 1 + len(config.composers), gates)
    for i, field in enumerate(FIELDS):
        if field in ("shift", "duration"):
            model.first[i], model.width[i] = (
                weights.table(f"{field}_{what}", CLASSES[field]) for what in ("first", "width")
            )
        elif field == "velocity":
            values = VELOCITY_BINS.edges[:-1], VELOCITY_BINS.widths
            model.first[i], model.width[i] = (weights.keep(each.astype(np.float32)) for each in values)
    model.shift_opens, model.shift_closes = (
        weights.table(f"shift_{what}", CLASSES["shift"]) for what in ("opens", "closes")
    )
    model.paces = weights.table("rolls.paces", rolled)
    model.held_pace = float(weights.take("rolls.held_pace", 3 * NUM_KEYS)[NUM_KEYS])
    return model
