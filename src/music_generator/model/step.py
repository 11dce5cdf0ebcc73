"""One step of generation as a graph: draw the next token of N streams, field by field, and take it into their states.

At one stream an operation costs more than its arithmetic, and reading the weights more than all of it. So what is
linear is folded (embeddings into the first layer's gates, the join's part of the past into the context), operations
are few, and all large matrices are 8-bit. The scales of their inputs are fixed: states and rolls are bounded, the
range of the rest is measured on music. So a stream's numbers do not depend on the streams beside it.

N streams, K = 91 stroke keys, H hidden units, D head units; C = 2 D with a future (the context, and the join's part of
it), D without.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from music_generator.model.config import CLASSES, FIELDS, MASKED, NO_FUTURE, ROLL_AGE_TICKS, ROLL_LEFT_TICKS
from music_generator.model.network import Batch, Head, Network
from music_generator.music.tokens import DURATION_BINS, NUM_KEYS, RESUME, SHIFT_BINS

Range = tuple[float, float]
BOUNDED: Range = (-128 / 127, 1.0)  # -1, 0 and 1 are whole steps: flags and silence lose nothing
SHARES: Range = (0.0, 1.0)
LEAST = -80.0  # exponents stop here: not far below, numbers are denormal, and an operation takes hundreds of cycles


@torch.no_grad()
def input_ranges(network: Network, music: Batch) -> dict[str, Range]:
    """The smallest and largest input of the matrices of heads and join, by module name, on this music."""
    found: dict[str, Range] = {}
    hooks = []
    for name, module in network.named_modules():
        if name == "join_out" or (name.startswith("heads.") and isinstance(module, nn.Linear)):

            def note(_module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                x, (low, high) = inputs[0].flatten(), found.get(name, (0.0, 1e-3))
                if len(x):
                    found[name] = min(low, float(x.min())), max(high, float(x.max()))

            hooks.append(module.register_forward_pre_hook(note))
    training = network.training
    network.eval().logits(music)
    network.train(training)
    for hook in hooks:
        hook.remove()
    return found


class _Operation(torch.autograd.Function):
    """An operation of the runtime's own: `forward` is what it computes, `symbolic` is its name in the graph."""


class _WholeProduct(_Operation):
    """x (N, I) in whole numbers, unsigned bytes, times weights in signed bytes (I, O): the same for any N."""

    @staticmethod
    def forward(_: Any, x: Tensor, step: Tensor, middle: Tensor, *of_weight: Tensor) -> Tensor:
        weight, scale, zero, bias = of_weight
        whole = (torch.round(x / step) + middle).clamp(0, 255) - middle
        product: Tensor = (whole.double() @ (weight.double() - zero.double())).float()
        return product * (scale * step) + bias

    @staticmethod
    def symbolic(graph: Any, x: Any, step: Any, middle: Any, *of_weight: Any) -> Any:
        weight, scale, zero, bias = of_weight
        whole = graph.op("QuantizeLinear", x, step, middle)
        product = graph.op("com.microsoft::MatMulIntegerToFloat", whole, weight, step, scale, middle, zero, bias)
        return product.setType(x.type().with_sizes([None, weight.type().sizes()[1]]))


class _Gelu(_Operation):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return F.gelu(x)

    @staticmethod
    def symbolic(graph: Any, x: Any) -> Any:
        return graph.op("com.microsoft::Gelu", x).setType(x.type())


class _Sum(_Operation):
    @staticmethod
    def forward(_: Any, *terms: Tensor) -> Tensor:
        return sum(terms[1:], terms[0])

    @staticmethod
    def symbolic(graph: Any, *terms: Any) -> Any:
        return graph.op("Sum", *terms).setType(terms[-1].type())


class _Mean(_Operation):
    @staticmethod
    def forward(_: Any, *terms: Tensor) -> Tensor:
        return sum(terms[1:], terms[0]) / len(terms)

    @staticmethod
    def symbolic(graph: Any, *terms: Any) -> Any:
        return graph.op("Mean", *terms).setType(terms[-1].type())


class _Before(_Operation):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return torch.cumsum(x, -1) - x

    @staticmethod
    def symbolic(graph: Any, x: Any) -> Any:
        axis = graph.op("Constant", value_t=torch.tensor(1))
        return graph.op("CumSum", x, axis, exclusive_i=1).setType(x.type())


def _as_one(operation: type[_Operation], *inputs: Tensor) -> Tensor:
    applied: Tensor = operation.apply(*inputs)  # type: ignore[no-untyped-call]
    return applied


def gelu(x: Tensor) -> Tensor:
    """`F.gelu` as one operation: any shape."""
    return _as_one(_Gelu, x)


def total(*terms: Tensor) -> Tensor:
    """A sum as one operation; the last term has its shape."""
    return _as_one(_Sum, *terms)


def mean(*terms: Tensor) -> Tensor:
    """The mean of terms of one shape, as one operation."""
    return _as_one(_Mean, *terms)


def before(x: Tensor) -> Tensor:
    """The sum of what is before each number in its row, as one operation: (N, C)."""
    return _as_one(_Before, x)


def whole_weights(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (I, O) as signed bytes and a scale (O,) for each output.

    Without VNNI, processors add the products of two neighbouring inputs in 16 bits, which holds 255 times 128: so the
    weights of one sign in such a pair come to 128 at most. That costs less than unsigned weights, which no such sum
    can overflow and which are read at half the speed.
    """
    pairs = F.pad(weight, (0, 0, 0, len(weight) % 2)).reshape(-1, 2, weight.shape[1])
    of_one_sign = torch.maximum(pairs.clamp(min=0).sum(1), -pairs.clamp(max=0).sum(1)).amax(0)
    scale = torch.maximum(weight.abs().amax(0) / 127, of_one_sign / 128).clamp(min=1e-10)
    return torch.round(weight / scale).to(torch.int8), scale


class Product(nn.Module):
    """A linear map (N, I) → (N, O): in 8 bits for inputs in a range, or in float32 where there is none."""

    def __init__(self, weight: Tensor, bias: Tensor, inputs: Range | None) -> None:
        super().__init__()
        weight = weight.detach().T.contiguous()  # (I, O)
        self.int8 = inputs is not None
        if inputs is not None:
            weight, scale = whole_weights(weight)
            step = (inputs[1] - inputs[0]) / 255
            self.register_buffer("step", torch.tensor(step))
            self.register_buffer("middle", torch.tensor(round(-inputs[0] / step), dtype=torch.uint8))
            self.register_buffer("scale", scale)
            self.register_buffer("zero", torch.tensor(0, dtype=torch.int8))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        if not self.int8:
            return torch.addmm(self.get_buffer("bias"), x, self.get_buffer("weight"))
        names = ("step", "middle", "weight", "scale", "zero", "bias")
        return _as_one(_WholeProduct, x, *(self.get_buffer(name) for name in names))


def gates(layer: nn.RNNBase, cell: str) -> tuple[Tensor, Tensor, Tensor]:
    """A recurrent layer as one matrix of its input, one of its state, and a bias: (G, I), (G, H), (G,).

    LSTM: input, forget and output gate, then the candidate. GRU: reset and update gate, then the candidate's part of
    the input and that of the state, which the reset gate is between.
    """
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    inputs, state, one, two = (getattr(layer, f"{name}_l0").detach() for name in names)
    size = layer.hidden_size
    if cell == "lstm":
        order = torch.cat([torch.arange(2 * size), torch.arange(3 * size, 4 * size), torch.arange(2 * size, 3 * size)])
        return inputs[order], state[order], (one + two)[order]
    if cell == "gru":
        both, last = slice(2 * size), slice(2 * size, None)
        bias = torch.cat([(one + two)[both], one[last], two[last]])
        split = torch.cat([state[both], torch.zeros_like(state[last]), state[last]])
        return F.pad(inputs, (0, 0, 0, size)), split, bias
    return inputs, state, one + two


def cell_step(cell: str, size: int, gate: Tensor, state: list[Tensor]) -> list[Tensor]:
    """The state after a step of a layer, its output first: `gate` as `gates` gives it, (N, G) and (N, H) each."""
    if cell == "lstm":
        opened, candidate = torch.split(gate, [3 * size, size], 1)
        take, keep, show = torch.split(torch.sigmoid(opened), size, 1)
        memory = keep * state[1] + take * torch.tanh(candidate)
        return [show * torch.tanh(memory), memory]
    if cell == "gru":
        opened, candidate, recurrent = torch.split(gate, [2 * size, size, size], 1)
        reset, keep = torch.split(torch.sigmoid(opened), size, 1)
        new = torch.tanh(candidate + reset * recurrent)
        return [new + keep * (state[0] - new)]
    return [torch.tanh(gate)]


def context_map(network: Network, *, future: bool) -> tuple[Tensor, Tensor]:
    """The forward stack's map to the context (C, H + 3 K), (C,): for no future, and, if `future`, the join's part."""
    weight, bias = network.context.weight.detach(), network.context.bias.detach()
    if network.config.direction == "forward":
        return weight, bias
    alone = bias + network.time_to_go.weight.detach()[NO_FUTURE]
    if not future:
        return weight, alone
    past = network.join_in.weight.detach()[:, : len(weight)]
    return torch.cat([weight, past @ weight]), torch.cat([alone, past @ bias])


class ContextOf(nn.Module):
    """The outputs of the layers, (N, H) each, and the roll as `Rolls` has it (N, 3 K) → context (N, C)."""

    def __init__(self, network: Network, *, future: bool, int8: bool) -> None:
        super().__init__()
        weight, bias = context_map(network, future=future)
        layers, size = network.config.forward_layers, network.config.forward_size
        rolls, shift = of_rolls(weight[:, size:])
        # the network takes the sum of the layers; their mean stays within [-1, 1]
        weight = torch.cat([weight[:, :size] * layers, rolls], 1)
        self.map = Product(weight, bias + shift, BOUNDED if int8 else None)

    def forward(self, outputs: list[Tensor], roll: Tensor) -> Tensor:
        mapped: Tensor = self.map(torch.cat([mean(*outputs) if len(outputs) > 1 else outputs[0], roll], 1))
        return mapped


def of_rolls(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A map of `network.recency_roll` (O, 3 K) as one of `Rolls` and a bias: (O, 3 K), (O,).

    There, what is left until the release counts 1 where a key is not held, here 0, and is held less often: left' =
    left + held - 1.
    """
    age, left, held = torch.split(weight, NUM_KEYS, 1)
    return torch.cat([age, left, held + left], 1), -left.sum(1)


class Rolls(nn.Module):
    """What each key did last and, with a future, how soon it comes there, heard at `then` (N, 1): (N, 3 K), (N, K).

    Of `strokes`, ticks (N, 3 K or 4 K): when each key was struck, when it is released, the same less a tick, and when
    it comes in the future. As `network.recency_roll`, but for keys that are not held: see `of_rolls`.
    """

    def __init__(self, *, future: bool) -> None:
        super().__init__()
        self.future = future
        # held or not: e^0 or e^LEAST
        paces = [1 / ROLL_AGE_TICKS, -1 / ROLL_LEFT_TICKS, -LEAST, *([-1 / ROLL_AGE_TICKS] if future else [])]
        self.register_buffer("paces", torch.tensor(paces).repeat_interleave(NUM_KEYS)[None])
        self.register_buffer("columns", torch.arange(NUM_KEYS).float().repeat(3)[None])
        self.register_buffer("held_pace", torch.tensor([0, -1 / ROLL_LEFT_TICKS, 0]).repeat_interleave(NUM_KEYS)[None])

    def forward(self, strokes: Tensor, then: Tensor) -> tuple[Tensor, Tensor | None]:
        said = torch.exp(((strokes - then) * self.get_buffer("paces")).clamp(LEAST, 0))
        if not self.future:
            return said, None
        past, ahead = torch.split(said, [3 * NUM_KEYS, NUM_KEYS], 1)
        return past, ahead

    def struck(self, roll: Tensor, key: Tensor, ticks: Tensor) -> Tensor:
        """The roll after a stroke: of `key` (N, 1), a float, to be held for so many ticks (N, 1)."""
        left = torch.exp((ticks * self.get_buffer("held_pace")).clamp(min=LEAST))
        return torch.where(self.get_buffer("columns") == key, left, roll)


class Forward(nn.Module):
    """A token's classes, each (N,), and its roll (N, 3 K) into the forward stack, states (N, H) each."""

    def __init__(self, network: Network, *, int8: bool) -> None:
        super().__init__()
        self.cell, self.layers = network.config.cell, len(network.forward_stack.layers)
        self.size, read = network.config.forward_size, network.forward_input
        maps = []
        for i, layer in enumerate(network.forward_stack.layers):
            assert isinstance(layer, nn.RNNBase)
            inputs, state, bias = gates(layer, self.cell)
            if i == 0:
                for name, embedding in (*read.embeddings.items(), ("composer", read.composer)):
                    assert isinstance(embedding, nn.Embedding)
                    table = embedding.weight.detach() @ inputs.T
                    # resuming and ending are classes that nothing follows
                    more = CLASSES[name] - len(table) if name == "shift" else 0
                    self.register_buffer(f"of_{name}", F.pad(table, (0, 0, 0, more)))
                bias = bias + inputs @ read.roll.bias.detach()
                inputs, shift = of_rolls(inputs @ read.roll.weight.detach())
                bias = bias + shift
            maps.append(Product(torch.cat([inputs, state], 1), bias, BOUNDED if int8 else None))
        self.maps = nn.ModuleList(maps)

    def forward(
        self, classes: dict[str, Tensor], roll: Tensor, states: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """→ the outputs of the layers, and the states."""
        said = [self.get_buffer(f"of_{name}")[chosen] for name, chosen in classes.items()]
        per_layer = len(states) // self.layers
        x, after = roll, []
        for i, linear in enumerate(self.maps):
            mine = states[per_layer * i : per_layer * (i + 1)]
            gate = linear(torch.cat([x, mine[0]], 1))
            left = cell_step(self.cell, self.size, total(*said, gate) if i == 0 else gate, mine)
            x = left[0]
            after += left
        return after[::per_layer], after


class StepHead(nn.Module):
    """As `network.Head`: the sum of its context's terms (N, D) and the fields drawn before → logits (N, classes)."""

    def __init__(self, head: nn.Module, name: str, ranges: dict[str, Range], always: Tensor | None = None) -> None:
        """`always` (D,): a term that is there at every step."""
        super().__init__()
        assert isinstance(head, Head)
        self.given = copy.deepcopy(head.given)
        if always is not None:
            *_, last = self.given.values()
            assert isinstance(last, nn.Embedding)
            last.weight.data += always
        self.hidden = Product(head.hidden.weight, head.hidden.bias, ranges.get(f"heads.{name}.hidden"))
        self.out = Product(head.out.weight, head.out.bias, ranges.get(f"heads.{name}.out"))

    def forward(self, terms: list[Tensor], fields: dict[str, Tensor]) -> Tensor:
        terms = [*(embedding(fields[name]) for name, embedding in self.given.items()), *terms]
        x = gelu(total(*terms) if len(terms) > 1 else terms[0])
        logits: Tensor = self.out(gelu(self.hidden(x)) + x)
        return logits


class Step(nn.Module):
    """Draw the next token of N streams and take it in; `future`: for streams that have one, or for such that do not.

    In: `context` (N, C) and the states (N, H), as the step before or `Past` gave them; `ticks` (N, 6): now, the
    earliest and latest ticks that a shift may take, the last key struck, and two numbers in [0, 1) for the values in
    the bins of shift and duration; `strokes` (N, 3 K or 4 K) ticks, as `Rolls` takes them; `barred` (N, K): a key is
    not struck before this tick; `composer` (N,); `noise` (N, classes of all fields): what is added to the logits, so
    that the largest is a draw (Gumbel noise times the temperature: Maddison et al. 2014, arXiv:1411.0030, sec. 2), or
    what forbids and forces; `coldness` (N, 1), one by the temperature, and `top_p` (N, 1) of key and velocity (nucleus
    sampling: Holtzman et al. 2020, arXiv:1904.09751, sec. 3.1). With a future: what `Future` said of it (N, C) and its
    first onset `resume` (N, 1).

    No key is struck that is held, nor one at or below the last one in the same tick: the shift waits until one is free,
    if need be past `latest`. Without a future there is no resuming; to end is never drawn.

    Out: each field's class (N,); the shift and the duration in ticks (N, 1); each field's logits before noise and
    masks; the context after the token, and the states.
    """

    def __init__(self, network: Network, *, future: bool, ranges: dict[str, Range] | None) -> None:
        """`ranges`: as `input_ranges` finds them, for 8-bit matrices; None: float32."""
        super().__init__()
        int8, known, size = ranges is not None, ranges or {}, network.config.head_size
        self.future, self.size, both = future, size, network.config.direction == "both"
        # what the absence of a future says is the same at every step
        silent = {"duration": network.struck_again.weight.detach()[NO_FUTURE]} if both and not future else {}
        self.heads = nn.ModuleDict({n: StepHead(network.heads[n], n, known, silent.get(n)) for n in FIELDS})
        self.forward_stack, self.rolls = Forward(network, int8=int8), Rolls(future=future)
        self.context_of = ContextOf(network, future=future, int8=int8)
        weight, bias = of_rolls(network.key_roll.weight.detach())
        if future:
            weight = torch.cat([weight, network.key_ahead.weight.detach()], 1)
            self.key_time_to_go, self.struck_again = network.key_time_to_go, network.struck_again
            times = network.time_to_go.weight.detach()
            joined = times @ network.join_in.weight.detach()[:, 2 * size :].T
            # the context has heard of no future: see `context_map`
            self.register_buffer("times", torch.cat([times - times[NO_FUTURE], joined], 1))
            self.join = Product(network.join_out.weight, network.join_out.bias, known.get("join_out"))
            self.register_buffer("to_go_edges", network.get_buffer("time_to_go_edges").float()[None])
        elif both:
            bias = bias + network.key_time_to_go.weight.detach()[NO_FUTURE]
        self.key_extra = Product(weight, bias, SHARES if int8 else None)
        self.register_buffer("columns", torch.arange(NUM_KEYS).float()[None])
        self.register_buffer("keys", torch.arange(NUM_KEYS).float()[:, None])
        for name, bins in (("shift", SHIFT_BINS), ("duration", DURATION_BINS)):
            for what, values in (("first", bins.edges[:-1]), ("width", bins.widths)):
                padded = torch.zeros(CLASSES[name], 1)
                padded[: len(bins), 0] = torch.as_tensor(values)
                self.register_buffer(f"{name}_{what}", padded)
        opens, closes = torch.full((2, CLASSES["shift"]), torch.inf)
        opens[: len(SHIFT_BINS)] = torch.as_tensor(SHIFT_BINS.edges[:-1])
        closes[: len(SHIFT_BINS) - 1] = torch.as_tensor(SHIFT_BINS.edges[1:-1] - 1)
        if future:
            opens[RESUME] = -torch.inf
        self.register_buffer("shift_opens", opens[None])
        self.register_buffer("shift_closes", closes[None])

    def _value(self, name: str, chosen: Tensor, uniform: Tensor) -> Tensor:
        """A whole number within each bin, all equally likely: (N,) → (N, 1)."""
        first, width = self.get_buffer(f"{name}_first")[chosen], self.get_buffer(f"{name}_width")[chosen]
        return first + torch.floor(uniform * width)

    def _to_go_bin(self, ticks: Tensor) -> Tensor:
        return (ticks >= self.get_buffer("to_go_edges")).sum(1)

    def forward(
        self,
        context: Tensor,
        ticks: Tensor,
        strokes: Tensor,
        barred: Tensor,
        composer: Tensor,
        noise: Tensor,
        coldness: Tensor,
        top_p: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        now, earliest, latest, last_key, shift_chance, duration_chance = torch.split(ticks, 1, 1)
        shift_noise, key_noise, velocity_noise, duration_noise = torch.split(noise, list(CLASSES.values()), 1)
        _, released, *_, following = torch.split(strokes, NUM_KEYS, 1)
        if self.future:
            said, resume, *states = rest
            main = self._meet(context, said, resume - now)
        else:
            states, main = list(rest), context
        given: dict[str, Tensor] = {}

        barred = torch.where(last_key >= self.get_buffer("columns"), torch.maximum(barred, now + 1), barred)
        free = torch.maximum(released, barred)
        earliest = torch.maximum(free.amin(1, keepdim=True) - now, earliest)
        latest = torch.maximum(latest, earliest)
        fits = (self.get_buffer("shift_opens") <= latest) & (self.get_buffer("shift_closes") >= earliest)
        shift_logits = self.heads["shift"]([main], given)
        given["shift"] = (torch.where(fits, shift_logits, MASKED) + shift_noise).argmax(1)
        waited = torch.maximum(torch.minimum(self._value("shift", given["shift"], shift_chance), latest), earliest)
        then = now + waited

        roll, ahead = self.rolls(strokes, then)
        extra = [self.key_extra(roll if ahead is None else torch.cat([roll, ahead], 1))]
        if self.future:
            extra.append(self.key_time_to_go(self._to_go_bin(resume - then)))
        key_logits = self.heads["key"]([*extra, main], given)
        given["key"] = draw(torch.where(free > then, MASKED, key_logits), NUM_KEYS, key_noise, coldness, top_p)

        velocity_logits = self.heads["velocity"]([main], given)
        given["velocity"] = draw(velocity_logits, CLASSES["velocity"], velocity_noise, coldness, top_p)

        again = []
        if self.future:
            again = [self.struck_again(self._to_go_bin(following.gather(1, given["key"][:, None]) - then))]
        duration_logits = self.heads["duration"]([*again, main], given)
        given["duration"] = (duration_logits + duration_noise).argmax(1)
        held = self._value("duration", given["duration"], duration_chance)

        after = self.rolls.struck(roll, self.get_buffer("keys")[given["key"]], held)
        outputs, left = self.forward_stack({**given, "composer": composer}, after, states)
        logits = (shift_logits, key_logits, velocity_logits, duration_logits)
        return *given.values(), waited, held, *logits, self.context_of(outputs, after), *left

    def _meet(self, context: Tensor, said: Tensor, to_go: Tensor) -> Tensor:
        met = total(self.get_buffer("times")[self._to_go_bin(to_go)], said, context)
        main, join = torch.split(met, self.size, 1)
        return main + torch.as_tensor(self.join(gelu(join)))


def draw(logits: Tensor, classes: int, noise: Tensor, coldness: Tensor, top_p: Tensor) -> Tensor:
    """A class of each row, (N, C) → (N,), of the fewest classes that hold `top_p` of the tempered probability."""
    best, _ = torch.topk(logits, classes)
    held_by_better = before(torch.softmax((best * coldness), -1))
    least = torch.where(held_by_better >= top_p, -2 * MASKED, best).amin(1, keepdim=True)
    return (torch.where(logits < least, 2 * MASKED, logits) + noise).argmax(1)
