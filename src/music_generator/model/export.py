"""The network as three ONNX graphs, which is what generation runs on without torch.

`past`: the forward stack over T tokens (or one) → contexts, states. `future`: the backward stack over a future → what
it says. `draw`: context and future → the next token, drawn field by field, or given and scored. T tokens, N streams,
K = 91 stroke keys, S state rows (layers, twice that for an LSTM), H hidden units, D head units.
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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from music_generator.errors import BundleError
from music_generator.features import Distributions
from music_generator.model.bundle import GRAPH_FILES, WEIGHTS_FILE, Bundle, write_bundle
from music_generator.model.config import FIELDS, NO_FUTURE, ROLL_AGE_TICKS, ModelConfig
from music_generator.model.network import CELL_CLASSES, CLASSES, MASKED, Network, Stack, TokenInput, recency_roll
from music_generator.tokens import DURATION_BINS, SHIFT_BINS, STROKES, VELOCITY_BINS

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


def state_rows(config: ModelConfig, layers: int) -> int:
    """S: the state's rows of a stack with that many layers."""
    return layers * (2 if config.cell == "lstm" else 1)


class Past(nn.Module):
    """(T, N) fields and `now` in ticks, (N,) composer, (T, N, K) strokes, (S, N, H) state → (T, N, D), (S, N, H)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.input, self.context = network.forward_input, network.context
        self.stack = _Stack(network.forward_stack, network.config.cell)

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
        return self.context(torch.cat([hidden, roll], -1)), state


class Future(nn.Module):
    """(T, N) fields, from the future's end to its first token, and the roll's (T, N, K) ages → (N, D)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.input: TokenInput = network.backward_input
        self.future = network.future
        self.stack = _Stack(network.backward_stack, network.config.cell)
        self.rows = state_rows(network.config, network.config.backward_layers)
        self.size = network.config.backward_size

    def forward(
        self, shift: Tensor, key: Tensor, velocity: Tensor, duration: Tensor, composer: Tensor, age: Tensor
    ) -> Tensor:
        roll = torch.exp(-age / ROLL_AGE_TICKS)
        fields = dict(zip(FIELDS, (shift, key, velocity, duration), strict=True))
        state = torch.zeros(self.rows, key.shape[1], self.size)
        hidden, _ = self.stack(self.input(fields, composer, roll), state)
        said: Tensor = self.future(torch.cat([hidden[-1], roll[-1]], -1))
        return said


def draw(logits: Tensor, uniform: Tensor, temperature: Tensor, top_p: Tensor) -> Tensor:
    """A class of each row (N, C) → (N,): tempered, of the fewest classes that hold `top_p` of the probability.

    Nucleus sampling: Holtzman et al. 2020, arXiv:1904.09751, sec. 3.1. `uniform` (N,) in [0, 1) chooses among them.
    """
    chances, order = torch.topk(torch.softmax(logits / temperature, -1), logits.shape[-1])
    total = torch.cumsum(chances, -1)
    inside = (total - chances < top_p) & (chances > 0)  # rounding in `total` must not let in what is masked
    nucleus = (inside * chances).sum(-1, keepdim=True)
    place = (total <= uniform[:, None] * nucleus).sum(-1, keepdim=True)
    place = torch.minimum(place, inside.sum(-1, keepdim=True) - 1)
    return order.gather(1, place)[:, 0]


class Draw(nn.Module):
    """The next token of N streams.

    In: `context`, `future` (N, D); `to_go` (N,) ticks to the future's first onset, -1 where there is none; `struck`,
    `released` (N, K) and `now` (N,) ticks; `last_key` (N,) of the last token, -1 if none; `earliest`, `latest` (N,)
    ticks that a shift may take; `shift_bias` (N, shift classes), `key_bias` (N, K) added to the logits; `uniforms`
    (N, 7); `temperature`, `top_p` (4,) of the fields; `given` (N, 4) bins to score in place of drawing, -1 to draw.

    Out: `bins` (N, 4); `values` (N, 4): shift in ticks, key, velocity, duration in ticks; `log_probabilities` (N, 4) of
    the bins under the model's own distributions, before temperature, top-p and biases.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.both = network.config.direction == "both"
        for name, bins in (("shift", SHIFT_BINS), ("velocity", VELOCITY_BINS), ("duration", DURATION_BINS)):
            room = CLASSES[name] - len(bins)
            for what, values in (("first", bins.edges[:-1]), ("width", bins.widths)):
                padded = torch.cat([torch.as_tensor(values), torch.zeros(room, dtype=torch.int64)])
                self.register_buffer(f"{name}_{what}", padded)
        self.register_buffer("all_keys", torch.arange(STROKES))

    def _value(self, name: str, bins: Tensor, uniform: Tensor) -> Tensor:
        """A whole number within each bin, all equally likely."""
        first, width = self.get_buffer(f"{name}_first")[bins], self.get_buffer(f"{name}_width")[bins]
        return torch.as_tensor(first + torch.minimum((uniform * width).long(), (width - 1).clamp(min=0)))

    def forward(
        self,
        context: Tensor,
        future: Tensor,
        to_go: Tensor,
        struck: Tensor,
        released: Tensor,
        now: Tensor,
        last_key: Tensor,
        earliest: Tensor,
        latest: Tensor,
        shift_bias: Tensor,
        key_bias: Tensor,
        uniforms: Tensor,
        temperature: Tensor,
        top_p: Tensor,
        given: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        network, has_future = self.network, to_go >= 0
        if self.both:
            to_go_bin = torch.where(has_future, network.time_to_go_bin(to_go), NO_FUTURE)
            context = context + future + network.time_to_go(to_go_bin)
        bins: dict[str, Tensor] = {}
        scores: list[Tensor] = []

        def choose(i: int, logits: Tensor, bias: Tensor | None = None) -> Tensor:
            biased = logits if bias is None else logits + bias
            drawn = draw(biased, uniforms[:, i], temperature[i], top_p[i])
            chosen = torch.where(given[:, i] >= 0, given[:, i], drawn)
            scores.append(torch.log_softmax(logits, -1).gather(1, chosen[:, None]))
            bins[FIELDS[i]] = chosen
            return chosen

        logits = network.mask_shift(network.heads["shift"](context, {}), to_go, has_future)
        shift = choose(0, logits, shift_bias)
        ticks = torch.maximum(torch.minimum(self._value("shift", shift, uniforms[:, 4]), latest), earliest)
        then = now + ticks
        extra = network.key_roll(recency_roll(struck, released, then))
        if self.both:
            left = torch.where(has_future, network.time_to_go_bin(to_go - ticks), NO_FUTURE)
            extra = extra + network.key_time_to_go(left)
        not_in_order = (ticks == 0)[:, None] & (self.get_buffer("all_keys")[None] <= last_key[:, None])
        impossible = (not_in_order | (released > then[:, None])) * MASKED
        # after the last shift class a key is still drawn, and not used
        bins["shift"] = torch.where(shift < len(SHIFT_BINS), shift, 0)
        key = choose(1, network.heads["key"](context + extra, bins), key_bias + impossible)
        velocity_bin = choose(2, network.heads["velocity"](context, bins))
        velocity = self._value("velocity", velocity_bin, uniforms[:, 5]).clamp(min=1)
        duration_bin = choose(3, network.heads["duration"](context, bins))
        duration = self._value("duration", duration_bin, uniforms[:, 6])
        return (
            torch.stack([shift, key, velocity_bin, duration_bin], 1),
            torch.stack([ticks, key, velocity, duration], 1),
            torch.cat(scores, 1),
        )


def _examples(network: Network) -> dict[str, Any]:
    """Of each graph: the module, example inputs, output names, and the axes that vary."""
    config = network.config
    t, n, d = 3, 2, config.head_size
    fields = {name: torch.zeros(t, n, dtype=torch.int64) for name in FIELDS}
    composer = torch.zeros(n, dtype=torch.int64)
    strokes = {name: torch.full((t, n, STROKES), -1e6) for name in ("struck", "released")}
    state = torch.zeros(state_rows(config, config.forward_layers), n, config.forward_size)
    varying = {0: "T", 1: "N"}
    past_in = {**fields, "composer": composer, **strokes, "now": torch.zeros(t, n), "state": state}
    past_axes = dict.fromkeys((*FIELDS, "struck", "released", "now", "context"), varying)
    past_axes |= {"composer": {0: "N"}, "state": {1: "N"}, "state_after": {1: "N"}}
    whole = dict.fromkeys(("to_go", "last_key", "earliest", "latest"), torch.zeros(n, dtype=torch.int64))
    draw_in = {
        "context": torch.zeros(n, d),
        "future": torch.zeros(n, d),
        "to_go": whole["to_go"],
        "struck": strokes["struck"][0],
        "released": strokes["released"][0],
        "now": torch.zeros(n),
        "last_key": whole["last_key"],
        "earliest": whole["earliest"],
        "latest": whole["latest"],
        "shift_bias": torch.zeros(n, CLASSES["shift"]),
        "key_bias": torch.zeros(n, STROKES),
        "uniforms": torch.zeros(n, 7),
        "temperature": torch.ones(4),
        "top_p": torch.ones(4),
        "given": torch.full((n, 4), -1),
    }
    draw_out = ["bins", "values", "log_probabilities"]
    draw_axes = {name: {0: "N"} for name in (*draw_in, *draw_out) if name not in ("temperature", "top_p")}
    graphs: dict[str, Any] = {
        "past": (Past(network), past_in, ["context", "state_after"], past_axes),
        "draw": (Draw(network), draw_in, draw_out, draw_axes),
    }
    if config.direction == "both":
        future_in = {**fields, "composer": composer, "age": torch.zeros(t, n, STROKES)}
        future_axes = dict.fromkeys((*FIELDS, "age"), varying) | {"composer": {0: "N"}, "said": {0: "N"}}
        graphs["future"] = (Future(network), future_in, ["said"], future_axes)
    return graphs


def export_graphs(network: Network, folder: Path, precisions: Sequence[str] = ("int8",)) -> None:
    """Write the graphs of those precisions, as `bundle.GRAPH_FILES` names them.

    int8: the weights of recurrences and matrices as 8-bit integers, their inputs quantised as they come (dynamic
    quantisation).
    """
    network = network.eval().cpu()
    with tempfile.TemporaryDirectory() as scratch:
        for name, (module, inputs, outputs, axes) in _examples(network).items():
            plain = Path(scratch) / f"{name}.onnx"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracing exporter is deprecated; the new one's LSTM stays float32
                torch.onnx.export(
                    module.eval(),
                    tuple(inputs.values()),
                    str(plain),
                    input_names=list(inputs),
                    output_names=outputs,
                    dynamic_axes=axes,
                    opset_version=OPSET,
                    dynamo=False,
                )
            for file in {GRAPH_FILES[precision][name] for precision in precisions}:
                if file.endswith(".int8.onnx"):
                    _quantize(plain, folder / file)
                else:
                    shutil.copyfile(plain, folder / file)


def _quantize(plain: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()  # it warns on the root logger of a preparation that recurrences do not need
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quantize_dynamic(plain, path, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logger.setLevel(level)


def bundle_network(
    network: Network,
    folder: str | Path,
    provenance: dict[str, Any],
    reference: Distributions,
    *,
    precisions: Sequence[str] = ("int8",),
    texts: dict[str, str] | None = None,
) -> Bundle:
    """Write a network as a bundle: weights in float16, the graphs, and `texts` (file name → content) beside them."""

    def write_files(beside: Path) -> None:
        weights = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
        save_file(weights, beside / WEIGHTS_FILE)
        export_graphs(network, beside, precisions)
        for name, text in (texts or {}).items():
            (beside / name).write_text(text, "utf-8")

    return write_bundle(folder, network.config, provenance, reference, write_files)


def load_network(bundle: Bundle) -> Network:
    """The network of a bundle, its float16 weights as float32. Raises `BundleError` if they do not fit."""
    network = Network(bundle.config)
    try:
        weights = load_file(bundle.folder / WEIGHTS_FILE)
        network.load_state_dict({name: value.float() for name, value in weights.items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"{bundle.folder}: {WEIGHTS_FILE} does not fit its configuration: {reason}") from error
    return network
