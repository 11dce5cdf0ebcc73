"""The network as ONNX graphs, which is what generation runs on without torch.

`past`: the forward stack over T tokens → context and state after them. `future`: the backward stack over a future →
what it says. `open` and `joined`: the next token, drawn and taken in, without and with a future (see `step`). T tokens,
N streams, K = 91 stroke keys, S state rows, H hidden units, D head units; C = 2 D context units, D without a backward
stack.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from music_generator.errors import BundleError
from music_generator.model.bundle import WEIGHTS_FILE, Bundle, graph_file, write_bundle
from music_generator.model.config import CLASSES, FIELDS, ROLL_AGE_TICKS
from music_generator.model.network import CELL_CLASSES, Batch, Network, Stack, TokenInput, recency_roll
from music_generator.model.step import Range, Step, context_map, input_ranges
from music_generator.music.features import Distributions
from music_generator.music.tokens import NUM_KEYS

OPSET = 17


class _Stack(nn.Module):
    """A `Stack` with its states in and out: (T, N, in), (S, N, H) → (T, N, H), (S, N, H)."""

    def __init__(self, stack: Stack, cell: str) -> None:
        super().__init__()
        self.cell = cell
        self.layers = nn.ModuleList()
        for layer in stack.layers:
            assert isinstance(layer, nn.RNNBase)
            twin = CELL_CLASSES[cell](layer.input_size, layer.hidden_size)
            twin.load_state_dict(layer.state_dict())
            self.layers.append(twin)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        total: Tensor | None = None
        after = []
        per_layer = 2 if self.cell == "lstm" else 1
        for i, layer in enumerate(self.layers):
            mine = [state[per_layer * i + j : per_layer * i + j + 1] for j in range(per_layer)]
            x, left = layer(x, tuple(mine) if self.cell == "lstm" else mine[0])
            after += list(left) if self.cell == "lstm" else [left]
            total = x if total is None else total + x
        assert total is not None
        return total, torch.cat(after, 0)


class Past(nn.Module):
    """(T, N) fields and `now` in ticks, (N,) composer, (T, N, K) strokes, (S, N, H) state → (N, C), (S, N, H)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.input = network.forward_input
        self.stack = _Stack(network.forward_stack, network.config.cell)
        weight, bias = context_map(network, future=True)
        self.register_buffer("weight", weight.T.contiguous())
        self.register_buffer("bias", bias)

    def forward(
        self,
        shift: Tensor,
        key: Tensor,
        velocity: Tensor,
        duration: Tensor,
        composer: Tensor,
        struck: Tensor,
        released: Tensor,
        now: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, Tensor]:
        roll = recency_roll(struck, released, now)
        fields = dict(zip(FIELDS, (shift, key, velocity, duration), strict=True))
        hidden, state = self.stack(self.input(fields, composer, roll), state)
        return torch.cat([hidden[-1], roll[-1]], -1) @ self.get_buffer("weight") + self.get_buffer("bias"), state


class Future(nn.Module):
    """(T, N) fields, from the future's end to its first token, and the roll's (T, N, K) ages → (T, N, C).

    At each token: the future's part of the context, and of the join, for a gap that ends before it.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.input: TokenInput = network.backward_input
        size = network.config.head_size
        said = network.future.weight.detach()
        joined = network.join_in.weight.detach()[:, size : 2 * size] @ said
        self.register_buffer("weight", torch.cat([said, joined]).T.contiguous())
        self.register_buffer("bias", F.pad(network.join_in.bias.detach(), (size, 0)))
        self.stack = _Stack(network.backward_stack, network.config.cell)
        self.rows = network.config.state_rows(network.config.backward_layers)
        self.size = network.config.backward_size

    def forward(
        self, shift: Tensor, key: Tensor, velocity: Tensor, duration: Tensor, composer: Tensor, age: Tensor
    ) -> Tensor:
        roll = torch.exp(-age / ROLL_AGE_TICKS)
        fields = dict(zip(FIELDS, (shift, key, velocity, duration), strict=True))
        state = torch.zeros(self.rows, key.shape[1], self.size)
        hidden, _ = self.stack(self.input(fields, composer, roll), state)
        return torch.cat([hidden, roll], -1) @ self.get_buffer("weight") + self.get_buffer("bias")


def _readers(network: Network) -> dict[str, Any]:
    """Of the graphs that read: the module, example inputs, output names, and the axes that vary."""
    config = network.config
    t, n = 3, 2
    fields = {name: torch.zeros(t, n, dtype=torch.int64) for name in FIELDS}
    composer = torch.zeros(n, dtype=torch.int64)
    strokes = {name: torch.full((t, n, NUM_KEYS), -1e6) for name in ("struck", "released")}
    state = torch.zeros(config.state_rows(config.forward_layers), n, config.forward_size)
    varying = {0: "T", 1: "N"}
    past_in = {**fields, "composer": composer, **strokes, "now": torch.zeros(t, n), "state": state}
    past_axes = dict.fromkeys((*FIELDS, "struck", "released", "now"), varying)
    past_axes |= {"composer": {0: "N"}, "context": {0: "N"}, "state": {1: "N"}, "state_after": {1: "N"}}
    graphs: dict[str, Any] = {"past": (Past(network), past_in, ["context", "state_after"], past_axes)}
    if config.direction == "both":
        future_in = {**fields, "composer": composer, "age": torch.zeros(t, n, NUM_KEYS)}
        future_axes = dict.fromkeys((*FIELDS, "age", "said"), varying) | {"composer": {0: "N"}}
        graphs["future"] = (Future(network), future_in, ["said"], future_axes)
    return graphs


def _steps(network: Network, ranges: dict[str, Range] | None) -> dict[str, Any]:
    """The same of the graphs that write: `open`, without a future, and `joined`, with one."""
    config, n = network.config, 2
    rows = config.state_rows(config.forward_layers)
    graphs = {}
    for name, future in (("open", False), ("joined", True)):
        if future and config.direction != "both":
            continue
        context = torch.zeros(n, config.head_size * (2 if future else 1))
        inputs = {
            "context": context,
            "ticks": torch.zeros(n, 6),
            "strokes": torch.zeros(n, (4 if future else 3) * NUM_KEYS),
            "barred": torch.zeros(n, NUM_KEYS),
            "composer": torch.zeros(n, dtype=torch.int64),
            "noise": torch.zeros(n, sum(CLASSES.values())),
            "coldness": torch.ones(n, 1),
            "top_p": torch.ones(n, 1),
        }
        if future:
            inputs |= {"said": context, "resume": torch.ones(n, 1)}
        inputs |= {f"state_{i}": torch.zeros(n, config.forward_size) for i in range(rows)}
        outputs = [*FIELDS, "waited", "held", *(f"{field}_logits" for field in FIELDS), "context_after"]
        outputs += [f"state_{i}_after" for i in range(rows)]
        axes = {each: {0: "N"} for each in (*inputs, *outputs)}
        graphs[name] = (Step(network, future=future, ranges=ranges), inputs, outputs, axes)
    return graphs


def export_graphs(network: Network, folder: Path, music: Batch, precisions: Sequence[str] = ("int8",)) -> None:
    """Write the graphs of those precisions, as `bundle.graph_file` names them.

    int8: the weights of recurrences and matrices as 8-bit integers. Those that read quantise their inputs as they come
    (dynamic quantisation); those that write take their inputs' ranges from `music`: see `step`.
    """
    network = network.eval().cpu()
    with tempfile.TemporaryDirectory() as scratch:
        for name, graph in _readers(network).items():
            plain = Path(scratch) / f"{name}.onnx"
            _export(graph, plain)
            for precision in precisions:
                (_quantize if precision == "int8" else shutil.copyfile)(plain, folder / graph_file(name, precision))
        for precision in precisions:
            ranges = input_ranges(network, music) if precision == "int8" else None
            for name, graph in _steps(network, ranges).items():
                _export(graph, folder / graph_file(name, precision))


def _export(graph: tuple[nn.Module, dict[str, Tensor], list[str], dict[str, Any]], path: Path) -> None:
    module, inputs, outputs, axes = graph
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated; the new one's LSTM stays float32
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            custom_opsets={"com.microsoft": 1} if isinstance(module, Step) else {},
            dynamo=False,
        )


def _quantize(plain: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()  # it warns on the root logger of a preparation that recurrences do not need
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quantize_dynamic(plain, path, weight_type=QuantType.QUInt8, per_channel=True)
    finally:
        logger.setLevel(level)


def bundle_network(
    network: Network,
    folder: str | Path,
    provenance: dict[str, Any],
    reference: Distributions,
    music: Batch,
    *,
    precisions: Sequence[str] = ("int8",),
    texts: dict[str, str] | None = None,
) -> Bundle:
    """Write a network as a bundle: weights in float16, the graphs, and `texts` (file name → content) beside them.

    `music` shows what ranges the numbers inside the network have: a few windows of what it was trained on.
    """

    def write_files(beside: Path) -> None:
        weights = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
        try:
            save_file(weights, beside / WEIGHTS_FILE)
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from error
        export_graphs(network, beside, music, precisions)
        for name, text in (texts or {}).items():
            (beside / name).write_text(text, "utf-8")

    return write_bundle(folder, network.config, provenance, reference, write_files)


def load_network(bundle: Bundle) -> Network:
    """The network of a bundle, its float16 weights as float32. Raises `BundleError` if they do not fit."""
    with torch.device("meta"):  # no memory, for the sizes may be absurd
        sizes = {name: list(value.shape) for name, value in Network(bundle.config).state_dict().items()}
    try:
        with safe_open(bundle.weights, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                found, wanted = file.get_slice(name).get_shape(), sizes.get(name)
                if wanted != found:
                    raise RuntimeError(f"size mismatch for {name}: {found} in the file, {wanted} in the configuration")
        network = Network(bundle.config)
        network.load_state_dict({name: value.float() for name, value in load_file(bundle.weights).items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"{bundle.folder}: {WEIGHTS_FILE} does not fit its configuration: {reason}") from error
    return network
