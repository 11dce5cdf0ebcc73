"""What an ONNX file may hold before a runtime is given it. Only its protobuf fields are read; nothing is loaded or run.

A graph that generates needs no other file, no loops and no operators but ONNX's and ONNX Runtime's own. External data
could name any file of the computer, a loop could run for ever, and a tensor could claim more memory than there is.
Field numbers: github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import BundleError

DOMAINS = ("", "ai.onnx", "com.microsoft")  # of operators: ONNX's, and those of ONNX Runtime itself

_MODEL = {"graph": 7, "opset": 8, "function": 25}
_GRAPH = {"node": 1, "initializer": 5, "input": 11, "output": 12, "sparse_initializer": 15}
_NODE = {"input": 1, "output": 2, "op_type": 4, "attribute": 5, "domain": 7}
_ATTRIBUTE = {"tensor": 5, "graph": 6, "tensors": 10, "graphs": 11, "sparse_tensor": 22, "sparse_tensors": 23}
_TENSOR = {"dims": 1, "data_type": 2, "name": 8, "raw_data": 9, "external_data": 13, "data_location": 14}
_DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8}  # by `data_type`
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # wire types
_ELEMENTS_A_BYTE = 2  # of the densest type, 4-bit integers

Fields = dict[int, list["int | memoryview"]]
Shapes = dict[str, tuple["int | None", ...]]  # by the name of an input or output; None where a size varies


class _WrongError(Exception):
    """Why a graph is refused."""


@dataclass(frozen=True)
class GraphShapes:
    """The shapes of a graph's inputs and outputs."""

    inputs: Shapes
    outputs: Shapes


def check_graph(path: Path) -> GraphShapes:
    """The inputs and outputs of an ONNX file that may be loaded.

    Raises `BundleError` if it is no ONNX file, names other files, or holds loops, functions, foreign operators or a
    tensor whose shape is larger than its data.
    """
    try:
        data = memoryview(path.read_bytes())
        model = _fields(data)
        graphs = _messages(model, _MODEL["graph"])
        if len(graphs) != 1:
            raise _WrongError("it is no ONNX graph")
        if _MODEL["function"] in model:
            raise _WrongError("it brings functions of its own")
        for opset in _messages(model, _MODEL["opset"]):
            _check_domain(_text(_fields(opset), 1))
        return _check(_fields(graphs[0]))
    except _WrongError as error:
        raise BundleError(f"{path}: the graph cannot be loaded: {error}; get or train the model anew") from None
    except (IndexError, ValueError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{path}: the graph cannot be loaded: it is no ONNX file or is damaged; get it anew"
        ) from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The constant tensors of floats and bytes in an ONNX file that `check_graph` has passed, by name.

    A name that is said to be the same as another's is there too. Raises `BundleError` if one is damaged.
    """
    try:
        (graph,) = _messages(_fields(memoryview(path.read_bytes())), _MODEL["graph"])
        fields, found = _fields(graph), {}
        for tensor in map(_fields, _messages(fields, _GRAPH["initializer"])):
            (kind,) = _numbers(tensor[_TENSOR["data_type"]])
            if kind in _DTYPES and _TENSOR["raw_data"] in tensor:
                values = np.frombuffer(_messages(tensor, _TENSOR["raw_data"])[-1], _DTYPES[kind])
                found[_text(tensor, _TENSOR["name"])] = values.reshape(_numbers(tensor.get(_TENSOR["dims"], [])))
        for node in map(_fields, _messages(fields, _GRAPH["node"])):
            if (
                _text(node, _NODE["op_type"]) == "Identity"
                and (same := found.get(_text(node, _NODE["input"]))) is not None
            ):
                found[_text(node, _NODE["output"])] = same
        return found
    except (IndexError, ValueError, TypeError, KeyError, OSError) as error:
        raise BundleError(f"{path}: the graph cannot be loaded: it is damaged; get it anew") from error


def _check(graph: Fields) -> GraphShapes:
    for node in _messages(graph, _GRAPH["node"]):
        _check_node(_fields(node))
    for tensor in _messages(graph, _GRAPH["initializer"]):
        _check_tensor(tensor)
    if _GRAPH["sparse_initializer"] in graph:
        raise _WrongError("it holds sparse tensors")
    inputs, outputs = (dict(map(_shape, _messages(graph, _GRAPH[name]))) for name in ("input", "output"))
    return GraphShapes(inputs, outputs)


def _check_node(node: Fields) -> None:
    _check_domain(_text(node, _NODE["domain"]))
    for attribute in map(_fields, _messages(node, _NODE["attribute"])):
        if _ATTRIBUTE["graph"] in attribute or _ATTRIBUTE["graphs"] in attribute:
            raise _WrongError(f"it holds a loop or a branch ({_text(node, _NODE['op_type'])})")
        if _ATTRIBUTE["sparse_tensor"] in attribute or _ATTRIBUTE["sparse_tensors"] in attribute:
            raise _WrongError("it holds sparse tensors")
        for name in ("tensor", "tensors"):
            for tensor in _messages(attribute, _ATTRIBUTE[name]):
                _check_tensor(tensor)


def _check_domain(domain: str) -> None:
    if domain not in DOMAINS:
        raise _WrongError(f"it needs operators of {domain!r}")


def _check_tensor(tensor: memoryview) -> None:
    fields = _fields(tensor)
    if _TENSOR["external_data"] in fields or any(fields.get(_TENSOR["data_location"], ())):
        raise _WrongError("a tensor's data lie in another file")
    dims = _numbers(fields.get(_TENSOR["dims"], []))
    if math.prod(dims) > _ELEMENTS_A_BYTE * len(tensor):
        raise _WrongError(f"a tensor of shape {'×'.join(map(str, dims))} holds only {len(tensor)} bytes")


def _shape(value_info: memoryview) -> tuple[str, tuple[int | None, ...]]:
    """The name and shape of an input or output: ValueInfo(1: name, 2: Type(1: Tensor(2: Shape(1: Dim(1: value)))))."""
    fields = _fields(value_info)
    sizes: list[int | None] = []
    for type_ in map(_fields, _messages(fields, 2)):
        for tensor in map(_fields, _messages(type_, 1)):
            for shape in map(_fields, _messages(tensor, 2)):
                dims = [_fields(dim).get(1, [None])[-1] for dim in _messages(shape, 1)]
                sizes += [dim if isinstance(dim, int) else None for dim in dims]
    return _text(fields, 1), tuple(sizes)


# --- protobuf: protobuf.dev/programming-guides/encoding


def _fields(data: memoryview) -> Fields:
    """The fields of a message by number, in order. Raises `ValueError` or `IndexError` if it is none."""
    fields: Fields = {}
    for number, value in _walk(data):
        fields.setdefault(number, []).append(value)
    return fields


def _walk(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at, length = 0, len(data)
    while at < length:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED_32, _FIXED_64):
            size = 4 if wire == _FIXED_32 else 8
        else:
            raise ValueError("a wire type that ONNX does not use")
        if at + size > length:
            raise ValueError("cut off")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _messages(fields: Fields, number: int) -> list[memoryview]:
    found = fields.get(number, [])
    if any(isinstance(value, int) for value in found):
        raise ValueError("a number in place of a message")
    return [value for value in found if not isinstance(value, int)]


def _text(fields: Fields, number: int) -> str:
    """The last text of a field, as protobuf has it; "" where there is none."""
    return bytes((_messages(fields, number) or [memoryview(b"")])[-1]).decode("utf-8")


def _numbers(values: list[int | memoryview]) -> list[int]:
    """Whole numbers, whether each is a field of its own or all are packed into one."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            numbers.append(number)
    return numbers
