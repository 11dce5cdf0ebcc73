"""Weights as the engine takes them: folded where they are linear, in 8 bits or in float32.

They are folded and quantised when a bundle is made and never when it is loaded: matrix libraries round differently on
every machine, and the same seed must give the same bytes everywhere.

What is folded: the embeddings and the composer into the first layer's gates; the fuse layer's input into the maps of
past, future, time to go, memory and steering; the embeddings of the memory into what an event adds to the fingerprints
after it; biases into one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import BundleError
from music_generator.model.config import (
    CLASSES,
    EVENT_HEADS,
    EVENT_TAPS,
    FIELDS,
    FINGERPRINT,
    GROUP_HEADS,
    GROUP_TAPS,
    INPUT_CLASSES,
    INTERVALS,
    MEMORY_HEADS,
    NO_FUTURE,
    START_KEY,
    STEPS,
    TIME_TO_GO_EDGES,
    VALUE,
    VALUE_FIELDS,
    ModelConfig,
)
from music_generator.music.tokens import (
    DENSITIES,
    DURATION_BINS,
    KEYS,
    LOUDNESSES,
    NUM_KEYS,
    SHIFT_BINS,
    SHIFT_CLASSES,
    VELOCITY_BINS,
)

Array = NDArray[Any]
Weights = Mapping[str, Array]
Range = tuple[float, float]

PRECISIONS = ("int8", "float32")
BOUNDED: Range = (-128 / 127, 1.0)  # of states and recencies: -1, 0 and 1 are whole steps, so flags lose nothing
SHARES: Range = (0.0, 1.0)
OF_SHARES = ("memory.event_values", "memory.group_values", "memory.keys")  # whose inputs are shares of attention
LEVELS = 255
GATES = {"lstm": 4, "gru": 4, "rnn": 1}  # a GRU's candidate has a part of the input and one of the state


@dataclass(frozen=True)
class LinearShape:
    """A linear map of one or two parts of inputs, `inputs` numbers each, to `outputs` numbers."""

    name: str
    inputs: tuple[int, ...]
    outputs: int


@dataclass(frozen=True)
class Table:
    """Rows of numbers that are looked up: `shape` (rows, numbers); `exact` ones are float32 in every precision."""

    name: str
    shape: tuple[int, int]
    exact: bool = False


def layout(config: ModelConfig) -> list[LinearShape | Table]:
    """Return the parts of a packed model in the order in which `engine/model.h` reads them."""
    size, both = config.head_size, config.direction == "both"
    parts = _stack(config, "forward", config.forward_layers, config.forward_size, 3 * NUM_KEYS)
    parts.append(LinearShape("context", (config.forward_size, 3 * NUM_KEYS), 2 * size if both else size))
    parts.append(LinearShape("key_recency", (3 * NUM_KEYS,), size))
    if both:
        parts += _stack(config, "backward", config.backward_layers, config.backward_size, NUM_KEYS)
        parts.append(LinearShape("future", (config.backward_size, NUM_KEYS), 2 * size))
        parts.append(LinearShape("fuse", (size,), size))
        parts.append(LinearShape("key_next", (NUM_KEYS,), size))
        parts += [Table(name, (NO_FUTURE + 1, size)) for name in TIME_TABLES]
    if config.memory:
        parts += _memory(config)
    if config.steered:
        parts += [
            Table("density", (DENSITIES, config.context_size)),
            Table("loudness", (LOUDNESSES, config.context_size)),
        ]
    for i, field in enumerate(FIELDS):
        parts += [Table(f"heads.{field}.given.{before}", (CLASSES[before], size)) for before in FIELDS[:i]]
        parts.append(LinearShape(f"heads.{field}.hidden", (size,), size))
        parts.append(LinearShape(f"heads.{field}.out", (size,), CLASSES[field]))
    return parts


TIME_TABLES = ("time_to_go", "fuse_time", "key_time_to_go", "next_onset")


def _memory(config: ModelConfig) -> list[LinearShape | Table]:
    """Return the memory's parts; the outputs of `memory.keys` are the context's, the key head's, the fuse layer's."""
    size, shifts = config.head_size, INPUT_CLASSES["shift"]
    events, groups = EVENT_TAPS * EVENT_HEADS // 2 * FINGERPRINT, GROUP_TAPS * FINGERPRINT
    values = sum(INPUT_CLASSES[name] for name in VALUE_FIELDS)
    parts: list[LinearShape | Table] = [Table("memory.scales", (2, MEMORY_HEADS), exact=True)]
    for name, kinds, units, time in (
        ("event_keys", START_KEY + 1, events, "shift"),
        ("event_intervals", STEPS, events, "shift"),
        ("group_keys", KEYS, groups, "wait"),
        ("group_intervals", INTERVALS, groups, "wait"),
    ):
        parts += [Table(f"memory.{name}", (kinds, units)), Table(f"memory.{name}_{time}", (shifts, units))]
    return [
        *parts,
        LinearShape("memory.event_values", (values,), VALUE),
        LinearShape("memory.group_values", (values + 2,), VALUE),
        LinearShape("memory.values", (MEMORY_HEADS * VALUE,), config.context_size),
        LinearShape("memory.keys", (MEMORY_HEADS * NUM_KEYS, MEMORY_HEADS), size + config.context_size),
        LinearShape("memory.gate", (size,), 1 + GROUP_HEADS),
        Table("memory.gate_shift", (SHIFT_CLASSES, size)),
    ]


def _stack(config: ModelConfig, name: str, layers: int, size: int, recency: int) -> list[LinearShape | Table]:
    gates = GATES[config.cell] * size
    parts: list[LinearShape | Table] = [Table(f"{name}.{field}", (INPUT_CLASSES[field], gates)) for field in FIELDS]
    parts.append(Table(f"{name}.composer", (1 + len(config.composers), gates)))
    parts += [LinearShape(f"{name}.{i}", (size if i else recency, size), gates) for i in range(layers)]
    return parts


def tensors_of(part: LinearShape | Table, precision: str) -> Iterator[tuple[str, tuple[int, ...], type]]:
    """Yield name, shape and type of each tensor that a part is stored as."""
    int8 = precision == "int8"
    if isinstance(part, Table):
        yield part.name, part.shape, np.float16 if int8 and not part.exact else np.float32
        return
    yield f"{part.name}.weight", (sum(part.inputs), part.outputs), np.int8 if int8 else np.float32
    yield f"{part.name}.bias", (part.outputs,), np.float32
    if int8:
        yield f"{part.name}.scale", (part.outputs,), np.float32  # of weights and inputs together
        yield f"{part.name}.input", (2,), np.float32  # levels per unit of the inputs, and the level of 0


def constants() -> list[Array]:
    """Return first value and width of each bin, and the edges of the time to go: int32, in the engine's order."""
    bins = (SHIFT_BINS, VELOCITY_BINS, DURATION_BINS)
    values = [each for field in bins for each in (field.edges[:-1], field.widths)]
    return [np.ascontiguousarray(each, np.int32) for each in (*values, TIME_TO_GO_EDGES)]


def check_packed(tensors: Mapping[str, Array], config: ModelConfig, precision: str, where: str) -> dict[str, Array]:
    """Return the tensors in the engine's order, tables as float32, each of the right type and shape and finite.

    Raises:
        BundleError: a tensor is missing, is of another type or shape, holds NaN or infinity, or is not known; or they
            are of another cell.
    """
    wanted = [each for part in layout(config) for each in tensors_of(part, precision)]
    unknown = sorted(set(tensors) - {name for name, _, _ in wanted})
    if unknown:
        raise BundleError(f"{where}: tensor {unknown[0]!r} is not one of this model's; get or train the model again")
    found = {}
    for name, shape, dtype in wanted:
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
            is_now = "missing" if tensor is None else f"{tensor.dtype} of {_times(tensor.shape)}"
            raise BundleError(
                f"{where}: tensor {name!r} must be {np.dtype(dtype)} of {_times(shape)}, but is {is_now}; "
                "get or train the model again"
            )
        if dtype != np.int8:
            tensor = tensor.astype(np.float32, copy=False)
            if not np.isfinite(tensor).all():
                raise BundleError(f"{where}: tensor {name!r} holds NaN or infinity; get or train the model again")
        if name.endswith(".input") and not (tensor[0] > 0 and tensor[1] in range(LEVELS + 1)):
            raise BundleError(
                f"{where}: tensor {name!r} must be a number above 0 and a whole number from 0 to {LEVELS}, not "
                f"{tensor[0]:g} and {tensor[1]:g}; get or train the model again"
            )
        found[name] = np.ascontiguousarray(tensor)
    is_gru = GATES[config.cell] == GATES["gru"] and _is_gru(found["forward.0.weight"], config.forward_size)
    if is_gru != (config.cell == "gru"):
        raise BundleError(f"{where}: its tensors are of another cell than {config.cell}; get or train the model again")
    return found


def _is_gru(weight: Array, size: int) -> bool:
    """Return whether a layer's map has the zeros of a GRU: of its candidate's parts one reads the input, one the state.

    In shape it is that of an LSTM.
    """
    inputs, state = weight[:-size], weight[-size:]
    return not inputs[:, 3 * size :].any() and not state[:, 2 * size : 3 * size].any()


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def pack(weights: Weights, config: ModelConfig, ranges: Mapping[str, Range] | None) -> dict[str, Array]:
    """Return the tensors of a runtime file.

    Args:
        weights: the network's, float32 by the names of `network.Network`.
        config: what the network is.
        ranges: the smallest and largest inputs of the heads' maps and of `fuse`, by the names of `layout`, for 8 bits;
            None for float32.
    """
    folded = _fold(weights, config)
    packed: dict[str, Array] = {}
    for part in layout(config):
        if isinstance(part, Table):
            table = folded[part.name].astype(np.float32)
            packed[part.name] = table if ranges is None or part.exact else table.astype(np.float16)
            continue
        weight, bias = folded[f"{part.name}.weight"], folded[f"{part.name}.bias"]
        packed[f"{part.name}.bias"] = bias.astype(np.float32)
        if ranges is None:
            packed[f"{part.name}.weight"] = weight.astype(np.float32)
            continue
        low, high = SHARES if part.name in OF_SHARES else ranges.get(part.name, BOUNDED)
        step = (high - low) / LEVELS
        quantized, scale = quantize_weights(weight, part.inputs)
        packed[f"{part.name}.weight"], packed[f"{part.name}.scale"] = quantized, (scale * step).astype(np.float32)
        packed[f"{part.name}.input"] = np.array([1 / step, round(-low / step)], np.float32)
    return packed


def quantize_weights(weight: Array, parts: tuple[int, ...]) -> tuple[Array, Array]:
    """Return weights (I, O) as int8 and the scale (O,) of each output.

    Processors without VNNI add the products of two neighbouring inputs in 16 bits, which hold 255 times 128: so the
    weights of one sign in such a pair come to 128 at most.
    """
    one_sign = np.zeros(weight.shape[1])
    for part in np.split(weight, np.cumsum(parts)[:-1]):
        pairs = np.pad(part, ((0, len(part) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
        sums = np.maximum(pairs.clip(min=0).sum(1), -pairs.clip(max=0).sum(1))
        one_sign = np.maximum(one_sign, sums.max(0))
    scale = np.maximum(np.maximum(np.abs(weight).max(0) / 127, one_sign / 128), 1e-10)
    return np.rint(weight / scale).astype(np.int8), scale


def _fold(weights: Weights, config: ModelConfig) -> dict[str, Array]:
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    folded: dict[str, Array] = {}
    _fold_stack(folded, w, config, "forward", config.forward_layers)
    weight, bias = w["context.weight"], w["context.bias"]
    if config.direction == "both":
        size = config.head_size
        past, future, time = np.split(w["fuse_in.weight"], 3, axis=1)
        weight, bias = np.concatenate([weight, past @ weight]), np.concatenate([bias, past @ bias])
        _fold_stack(folded, w, config, "backward", config.backward_layers)
        output = w["future.weight"]
        folded["future.weight"] = np.concatenate([output, future @ output]).T
        folded["future.bias"] = np.concatenate([np.zeros(size), w["fuse_in.bias"]])
        folded["fuse.weight"], folded["fuse.bias"] = w["fuse_out.weight"].T, w["fuse_out.bias"]
        folded["key_next.weight"], folded["key_next.bias"] = w["key_next.weight"].T, np.zeros(size)
        for name in ("time_to_go", "key_time_to_go", "next_onset"):
            folded[name] = w[f"{name}.weight"]
        folded["fuse_time"] = folded["time_to_go"] @ time.T
    folded["context.weight"], folded["context.bias"] = weight.T.copy(), bias
    # the network takes the sum of the layers; their mean stays within [-1, 1]
    folded["context.weight"][: config.forward_size] *= config.forward_layers
    if config.direction == "both":
        folded["future.weight"] = folded["future.weight"].copy()
        folded["future.weight"][: config.backward_size] *= config.backward_layers
    if config.memory:
        _fold_memory(folded, w, config)
    if config.steered:
        for name in ("density", "loudness"):
            folded[name] = _with_fuse(w[f"{name}.weight"], w, config)
    folded["key_recency.weight"], folded["key_recency.bias"] = w["key_recency.weight"].T, np.zeros(config.head_size)
    for i, field in enumerate(FIELDS):
        for before in FIELDS[:i]:
            folded[f"heads.{field}.given.{before}"] = w[f"heads.{field}.given.{before}.weight"]
        for name in ("hidden", "out"):
            folded[f"heads.{field}.{name}.weight"] = w[f"heads.{field}.{name}.weight"].T
            folded[f"heads.{field}.{name}.bias"] = w[f"heads.{field}.{name}.bias"]
    return folded


def _with_fuse(to_context: Array, w: dict[str, Array], config: ModelConfig) -> Array:
    """Return rows (N, D) that are added to the context with their part of the fuse layer's input: (N, C)."""
    if config.direction != "both":
        return to_context
    past = w["fuse_in.weight"][:, : config.head_size]
    return np.concatenate([to_context, to_context @ past.T], 1)


def _fold_memory(folded: dict[str, Array], w: dict[str, Array], config: ModelConfig) -> None:
    scale, shifts = np.exp(w["memory.log_scale"]), INPUT_CLASSES["shift"]
    folded["memory.scales"] = np.stack([scale, w["memory.null"] * scale])
    for name, time in (
        ("event_keys", "shift"), ("event_intervals", "shift"), ("group_keys", "wait"), ("group_intervals", "wait")
    ):  # fmt: skip
        # (taps, features, units), the first tap being that of the event itself
        of_events = time == "shift"
        taps = w[f"memory.{name}.taps.weight"].transpose(2, 1, 0)[::-1] if of_events else w[f"memory.{name}.taps"]
        for part, table in (("kind", f"memory.{name}"), (time, f"memory.{name}_{time}")):
            rows = w[f"memory.{name}.{part}.weight"]
            rows = rows[:shifts] if part == time else rows
            folded[table] = np.einsum("rf,tfu->rtu", rows, taps).reshape(len(rows), -1)
    for kind in ("event", "group"):
        tables = [w[f"memory.{kind}_values.{name}.weight"][: INPUT_CLASSES[name]] for name in VALUE_FIELDS]
        tables += [w["memory.group_start.weight"]] if kind == "group" else []
        folded[f"memory.{kind}_values.weight"] = np.concatenate(tables)
        folded[f"memory.{kind}_values.bias"] = np.zeros(VALUE)
    values, keys = np.split(w["memory.to_context.weight"].T, [MEMORY_HEADS * VALUE])
    size = config.head_size
    keys = _with_fuse(keys, w, config)
    folded["memory.values.weight"] = _with_fuse(values, w, config)
    folded["memory.values.bias"] = np.zeros(config.context_size)
    folded["memory.keys.weight"] = np.concatenate([keys[:, :size], w["memory.to_key.weight"].T, keys[:, size:]], 1)
    folded["memory.keys.bias"] = np.zeros(size + config.context_size)
    folded["memory.gate.weight"], folded["memory.gate.bias"] = w["memory.gate.weight"].T, w["memory.gate.bias"]
    folded["memory.gate_shift"] = w["memory.gate_shift.weight"]


def _fold_stack(folded: dict[str, Array], w: dict[str, Array], config: ModelConfig, name: str, layers: int) -> None:
    for i in range(layers):
        inputs, state, bias = _gates(w, f"{name}_stack.layers.{i}", config.cell)
        if i == 0:
            for field in FIELDS:
                folded[f"{name}.{field}"] = w[f"{name}_input.embeddings.{field}.weight"] @ inputs.T
            folded[f"{name}.composer"] = w[f"{name}_input.composer.weight"] @ inputs.T
            bias = bias + inputs @ w[f"{name}_input.recency.bias"]
            inputs = inputs @ w[f"{name}_input.recency.weight"]
        folded[f"{name}.{i}.weight"], folded[f"{name}.{i}.bias"] = np.concatenate([inputs, state], 1).T, bias


def _gates(w: dict[str, Array], name: str, cell: str) -> tuple[Array, Array, Array]:
    """Return a layer's map of its input (G, I), of its state (G, H), and their bias (G,).

    LSTM: input, forget and output gate, then the candidate (torch has the candidate third). GRU: reset and update gate,
    then the candidate's part of the input and that of the state, which the reset gate stands between.
    """
    inputs, state, one, two = (w[f"{name}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    size = state.shape[1]
    if cell == "lstm":
        order = np.r_[: 2 * size, 3 * size : 4 * size, 2 * size : 3 * size]
        return inputs[order], state[order], (one + two)[order]
    if cell == "gru":
        gates, none = slice(2 * size), np.zeros((size, size))
        bias = np.concatenate([(one + two)[gates], one[2 * size :], two[2 * size :]])
        both = np.concatenate([state[gates], none, state[2 * size :]])
        return np.concatenate([inputs, np.zeros((size, inputs.shape[1]))]), both, bias
    if cell == "rnn":
        return inputs, state, one + two
    raise ValueError(f"there is no packing for the cell {cell!r}")
