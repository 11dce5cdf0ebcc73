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
from music_generator.model.config import FIELDS, MASKED, NO_FUTURE, NONE_AHEAD, ROLL_AGE_TICKS, ModelConfig
from music_generator.model.network import CELL_CLASSES, CLASSES, Network, Stack, TokenInput, recency_roll
from music_generator.tokens import DURATION_BINS, END, RESUME, SHIFT_BINS, SHIFT_CLASSES, STROKES, VELOCITY_BINS

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
    """A class of each row, (N, C) → (N, 1): tempered, of the fewest classes that hold `top_p` of the probability.

    Nucleus sampling: Holtzman et al. 2020, arXiv:1904.09751, sec. 3.1. `uniform` (N, 1) in [0, 1) chooses among them.
    """
    chances, order = torch.topk(torch.softmax(logits / temperature, -1), logits.shape[-1])
    total = torch.cumsum(chances, -1)
    # a masked class adds nothing to `total`, so that it is never the first to reach a share of the nucleus
    nucleus = torch.where(total - chances < top_p, total, 0.0).amax(-1, keepdim=True)
    place = (total < uniform * nucleus).sum(-1, keepdim=True)
    return order.gather(1, place)


class Draw(nn.Module):
    """The next token of N streams. Few and plain operations: at one stream each costs more than its arithmetic.

    In: `context`, `future` (N, D); `ticks` (N, 5): now, the ticks to go to the future's first onset (`NONE_AHEAD` if
    there is none), the last token's key (-1 if none), and the earliest and latest ticks that a shift may take;
    `struck`, `released` (N, K) ticks; `shift_bias` (N, shift classes), `key_bias` (N, K) added to the logits;
    `uniforms` (N, 7); `temperature`, `top_p` (1, 4) of the fields; `given` (N, 4) bins to take in place of drawing, -1
    to draw.

    Out: `bins` (N, 4); `values` (N, 4): shift in ticks, key, velocity, duration in ticks; and each field's logits,
    before temperature, top-p and biases.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.both = network.config.direction == "both"
        for name, bins in (("shift", SHIFT_BINS), ("velocity", VELOCITY_BINS), ("duration", DURATION_BINS)):
            for what, values in (("first", bins.edges[:-1]), ("width", bins.widths)):
                padded = torch.zeros(CLASSES[name])
                padded[: len(bins)] = torch.as_tensor(values)
                self.register_buffer(f"{name}_{what}", padded)
        # a shift class is possible while its first tick <= to go <= its last chance
        first_tick, last_chance = self.get_buffer("shift_first").clone(), torch.full((SHIFT_CLASSES,), 2.0 * NONE_AHEAD)
        last_chance[RESUME], first_tick[END] = NONE_AHEAD / 2, NONE_AHEAD / 2
        self.register_buffer("first_tick", first_tick[None])
        self.register_buffer("last_chance", last_chance[None])
        edges = torch.cat([network.get_buffer("time_to_go_edges").float(), torch.tensor([NONE_AHEAD / 2])])
        self.register_buffer("to_go_edges", edges[None])  # past the last one: the class `NO_FUTURE`
        self.register_buffer("all_keys", torch.arange(STROKES).float()[None])

    def _value(self, name: str, bins: Tensor, uniform: Tensor) -> Tensor:
        """A whole number within each bin, all equally likely."""
        first, width = self.get_buffer(f"{name}_first")[bins], self.get_buffer(f"{name}_width")[bins]
        return first + torch.floor(uniform * width)

    def _to_go_bin(self, ticks: Tensor) -> Tensor:
        return (ticks >= self.get_buffer("to_go_edges")).sum(-1)

    def forward(
        self,
        context: Tensor,
        future: Tensor,
        ticks: Tensor,
        struck: Tensor,
        released: Tensor,
        shift_bias: Tensor,
        key_bias: Tensor,
        uniforms: Tensor,
        temperature: Tensor,
        top_p: Tensor,
        given: Tensor,
    ) -> tuple[Tensor, ...]:
        network = self.network
        now, to_go, last_key, earliest, latest = torch.split(ticks, 1, 1)
        chance, heat, share, fixed = (torch.split(x, 1, 1) for x in (uniforms, temperature, top_p, given))
        bins: dict[str, Tensor] = {}

        def choose(i: int, logits: Tensor) -> Tensor:
            drawn = draw(logits, chance[i], heat[i], share[i])
            chosen = torch.where(fixed[i] >= 0, fixed[i], drawn)
            bins[FIELDS[i]] = chosen.squeeze(1)
            return chosen

        if self.both:
            met = network.meet(context, future, network.time_to_go(self._to_go_bin(to_go)))
            alone = context + network.time_to_go.weight[NO_FUTURE]
            context = torch.where(to_go < NONE_AHEAD / 2, met, alone)
        else:
            context = context + 0 * future  # an input that is not used would be left out of the graph
        late = (self.get_buffer("first_tick") > to_go) | (to_go > self.get_buffer("last_chance"))
        shift_logits = network.heads["shift"](context, {}).masked_fill(late, MASKED)
        shift = choose(0, shift_logits + shift_bias)
        waited = torch.maximum(torch.minimum(self._value("shift", shift, chance[4]), latest), earliest)
        then = now + waited
        extra = network.key_roll(recency_roll(struck, released, then[:, 0]))
        if self.both:
            extra = extra + network.key_time_to_go(self._to_go_bin(to_go - waited))
        # held still, or not after the last key of the same tick
        impossible = (released > then) | (self.get_buffer("all_keys") <= last_key - 1000.0 * waited)
        key_logits = network.heads["key"](context + extra, bins)
        key = choose(1, (key_logits + key_bias).masked_fill(impossible, MASKED))
        velocity_logits = network.heads["velocity"](context, bins)
        velocity = choose(2, velocity_logits)
        duration_logits = network.heads["duration"](context, bins)
        duration = choose(3, duration_logits)
        values = [
            waited,
            key.float(),
            self._value("velocity", velocity, chance[5]).clamp(min=1),
            self._value("duration", duration, chance[6]),
        ]
        chosen = torch.cat([shift, key, velocity, duration], 1)
        return chosen, torch.cat(values, 1), shift_logits, key_logits, velocity_logits, duration_logits


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
    draw_in = {
        "context": torch.zeros(n, d),
        "future": torch.zeros(n, d),
        "ticks": torch.zeros(n, 5),
        "struck": strokes["struck"][0],
        "released": strokes["released"][0],
        "shift_bias": torch.zeros(n, CLASSES["shift"]),
        "key_bias": torch.zeros(n, STROKES),
        "uniforms": torch.zeros(n, 7),
        "temperature": torch.ones(1, 4),
        "top_p": torch.ones(1, 4),
        "given": torch.full((n, 4), -1),
    }
    draw_out = ["bins", "values", *(f"{name}_logits" for name in FIELDS)]
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
        try:
            save_file(weights, beside / WEIGHTS_FILE)
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from error
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
