"""The engine in NumPy: the readable specification of the compiled kernel, and what generates where there is none.

In 8 bits it computes the same bits as the kernel: sums of whole numbers are exact, and everything else is done
operation by operation in float32. In float32 the two differ in the order of sums.

Shapes: N slots, T tokens, K = 91 keys and pedals, H units of a layer, D units of a head, C units of the context (2 D if
the model has a backward stack: its own, and its part of the fuse layer's input).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.rules import WRITING, Constraints, SpanState, accept, constrain
from music_generator.engine.slots import CLASS_SLICES, Slots
from music_generator.model.config import (
    CLASSES,
    FIELDS,
    MASKED,
    NO_FUTURE,
    NO_ONSET,
    RECENCY_TICKS,
    RELEASE_TICKS,
    TIME_TO_GO_EDGES,
    ModelConfig,
)
from music_generator.model.pack import LinearShape, layout
from music_generator.music.tokens import DURATION_BINS, NUM_KEYS, RESUME, SHIFT_BINS, VELOCITY_BINS, Bins

Array = NDArray[Any]
f32 = np.float32

MIN_EXPONENT = f32(-80)
BINS: dict[str, Bins] = {"shift": SHIFT_BINS, "velocity": VELOCITY_BINS, "duration": DURATION_BINS}


# ---- elementwise functions, as in mathf.h


def round_even(x: Array) -> Array:
    """Round to the nearest whole number, halves to even; |x| < 2^22."""
    return (x + f32(12582912)) - f32(12582912)


def exponential(x: Array) -> Array:
    """Return e^x by Cody & Waite's reduction and the polynomial of Cephes' expf (S. L. Moshier)."""
    x = np.minimum(np.maximum(x, f32(-87)), f32(88))
    n = round_even(x * f32(1.44269504088896341))
    x -= n * f32(0.693359375)
    x -= n * f32(-2.12194440e-4)
    y = x * f32(1.9875691500e-4)
    for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1):
        y += f32(term)
        y *= x
    y += f32(5.0000001201e-1)
    y *= x * x
    y += x
    y += f32(1)
    y *= ((n.astype(np.int32) + 127) << 23).view(f32)
    return np.asarray(y)


def fades(scale_ticks: int) -> Array:
    """Return e^(-ticks / scale_ticks) for whole ticks from 0 on, until it stays at its smallest."""
    rate = f32(1) / f32(scale_ticks)
    ticks = np.arange(int(-MIN_EXPONENT) * scale_ticks + 2).astype(f32)
    return exponential(np.minimum(np.maximum(-ticks * rate, MIN_EXPONENT), f32(0)))


FADES = {scale_ticks: fades(scale_ticks) for scale_ticks in (RECENCY_TICKS, RELEASE_TICKS)}


def fade(ticks: Array, scale_ticks: int) -> Array:
    """Return e^(ticks / scale_ticks) for whole ticks at or below 0."""
    table = FADES[scale_ticks]
    return np.asarray(table[np.clip(-ticks, 0, len(table) - 1)])


def sigmoid_of(exponentials: Array) -> Array:
    """Return 1 / (1 + e^-x), given e^-x."""
    return f32(1) / (f32(1) + exponentials)


def tanh_of(exponentials: Array) -> Array:
    """Return the hyperbolic tangent of x, given e^-2x."""
    return f32(2) / (f32(1) + exponentials) - f32(1)


def gelu(x: Array) -> Array:
    """Return x Φ(x); erf by Abramowitz & Stegun 7.1.26."""
    z = f32(0.70710678118654752) * np.abs(x)
    t = f32(1) / (f32(1) + f32(0.3275911) * z)
    tail = t * f32(1.061405429)
    for term in (-1.453152027, 1.421413741, -0.284496736):
        tail += f32(term)
        tail *= t
    tail += f32(0.254829592)
    tail *= t
    tail *= f32(0.5)
    tail *= exponential(-z * z)
    return np.asarray(x * np.where(x < 0, tail, f32(1) - tail))


def sequential_sum(x: Array) -> Array:
    """Return the sum of all numbers, added one after another."""
    return np.asarray(np.add.accumulate(x)[-1])


def time_bin(ticks: Array) -> Array:
    """Return the class of a time to go; `NO_FUTURE` for an onset that never comes."""
    return np.asarray(np.searchsorted(TIME_TO_GO_EDGES, ticks, side="right"))


def value_in_bin(field: str, bin_: int, uniform: float) -> int:
    """Return a whole number in a bin; `uniform` in [0, 1) chooses it."""
    bins = BINS[field]
    bin_ = min(bin_, len(bins) - 1)
    return int(bins.edges[bin_]) + int(f32(uniform) * f32(bins.widths[bin_]))


# ---- the network


class Linear:
    """A linear map (N, I) → (N, O), in 8 bits or in float32."""

    def __init__(self, tensors: Mapping[str, Array], shape: LinearShape, precision: str) -> None:
        weight, self.bias = tensors[f"{shape.name}.weight"], tensors[f"{shape.name}.bias"]
        self.int8 = precision == "int8"
        self.weight = weight
        if self.int8:
            self.scale = tensors[f"{shape.name}.scale"]
            self.levels, zero_point = tensors[f"{shape.name}.input"]
            self.low, self.high = -zero_point, f32(255) - zero_point
            largest = np.abs(weight.astype(np.int64)).sum(0).max(initial=0) * max(-self.low, self.high)
            self.weight = weight.astype(f32 if largest < 1 << 24 else np.float64)  # in which the sums are exact

    def __call__(self, x: Array) -> Array:
        if not self.int8:
            return np.asarray(x @ self.weight + self.bias)
        whole = round_even(np.minimum(np.maximum(x * self.levels, self.low), self.high))
        return (whole.astype(self.weight.dtype) @ self.weight).astype(f32) * self.scale + self.bias


class Stack:
    """Recurrent layers; a state is (rows, H): output and memory of each layer of an LSTM, else the output."""

    def __init__(
        self, tensors: Mapping[str, Array], linears: dict[str, Linear], name: str, config: ModelConfig
    ) -> None:
        backward = name == "backward"
        self.cell = config.cell
        self.layers = config.backward_layers if backward else config.forward_layers
        self.units = config.backward_size if backward else config.forward_size
        self.tables = [tensors[f"{name}.{field}"] for field in FIELDS]
        self.composers = tensors[f"{name}.composer"]
        self.maps = [linears[f"{name}.{i}"] for i in range(self.layers)]
        self.rows_per_layer = 2 if self.cell == "lstm" else 1
        self.signs = np.repeat(np.array([-1, -1, -1, -2], f32), self.units)  # of a sigmoid's and of a tanh's exponent

    def __call__(self, classes: Array, composer: Array, recency: Array, states: Array) -> Array:
        """Take a token into the states (N, rows, H), in place; return the mean of the layers' outputs (N, H).

        Args:
            classes: of the token's fields, (N, 4).
            composer: (N,).
            recency: (N, 3 K), or (N, K) of the backward stack.
            states: (N, rows, H).
        """
        x, total = recency, np.zeros((len(states), self.units), f32)
        for i, map_ in enumerate(self.maps):
            mine = states[:, self.rows_per_layer * i : self.rows_per_layer * (i + 1)]
            gates = map_(np.concatenate([x, mine[:, 0]], 1))
            if i == 0:
                terms = [table[classes[:, j]] for j, table in enumerate(self.tables)]
                gates = ((((terms[0] + terms[1]) + terms[2]) + terms[3]) + self.composers[composer]) + gates
            self._update(gates, mine)
            x = mine[:, 0]
            total = total + x
        return total / f32(self.layers)

    def _update(self, gates: Array, state: Array) -> None:
        units = self.units
        if self.cell == "lstm":
            gates = exponential(gates * self.signs)
            take, keep, show = (sigmoid_of(gates[:, i * units : (i + 1) * units]) for i in range(3))
            memory = keep * state[:, 1] + take * tanh_of(gates[:, 3 * units :])
            state[:, 0], state[:, 1] = show * tanh_of(exponential(f32(-2) * memory)), memory
        elif self.cell == "gru":
            opened, candidate, recurrent = np.split(gates, [2 * units, 3 * units], 1)
            opened = sigmoid_of(exponential(-opened))
            fresh = tanh_of(exponential(f32(-2) * (candidate + opened[:, :units] * recurrent)))
            state[:, 0] = fresh + opened[:, units:] * (state[:, 0] - fresh)
        else:
            state[:, 0] = tanh_of(exponential(f32(-2) * gates))


def key_recency(last_onset: Array, last_release: Array, now: Array) -> Array:
    """Return the recency of each key's last event, (N, K) ticks, at tick `now` (N,): (N, 3 K)."""
    left = last_release - now[:, None]
    held = (left > 0).astype(f32)
    return np.concatenate([fade(last_onset - now[:, None], RECENCY_TICKS), fade(-left, RELEASE_TICKS) * held, held], 1)


class Reference:
    """A model's packed tensors, ready to read and to draw. Same methods as `kernel.Kernel`."""

    def __init__(self, config: ModelConfig, precision: str, tensors: Mapping[str, Array]) -> None:
        self.config, self.both = config, config.direction == "both"
        self.tensors = tensors
        linears = {
            part.name: Linear(tensors, part, precision) for part in layout(config) if isinstance(part, LinearShape)
        }
        self.linears = linears
        self.forward = Stack(tensors, linears, "forward", config)
        self.backward = Stack(tensors, linears, "backward", config) if self.both else None

    def close(self) -> None:
        """Do nothing: there are no threads to end."""

    # ---- reading

    def encode(self, tokens: Array, composer: int, *, backward: bool, every: bool = False) -> tuple[Array, Array]:
        """Read tokens in the order given: the past, or the future from its end.

        Args:
            tokens: (T, 6) int32: the classes of the fields, onset and release in ticks.
            composer: its class.
            backward: by the backward stack.
            every: return the context after each token and not only after the last.

        Returns:
            The states (R, H) after the last token and the contexts (T or 1, C).
        """
        stack = self.backward if backward else self.forward
        assert stack is not None
        states = np.zeros((1, stack.layers * stack.rows_per_layer, stack.units), f32)
        last_onset, last_release = np.full((2, 1, NUM_KEYS), -NO_ONSET, np.int32)
        contexts = []
        for token in tokens:
            if (key := token[1]) < NUM_KEYS:  # else it says only how the piece begins or ends
                last_onset[0, key], last_release[0, key] = token[4:]
            recency = key_recency(last_onset, last_release, token[4:5])
            recency = recency[:, :NUM_KEYS] if backward else recency
            mean = stack(token[None, :4], np.array([composer]), recency, states)
            contexts.append(np.concatenate([mean, recency], 1))
        linear = self.linears["future" if backward else "context"]
        return states[0], np.concatenate([linear(each) for each in (contexts if every else contexts[-1:])])

    # ---- drawing

    def step(self, slots: Slots, first: int, count: int, commit: bool) -> None:
        """Draw the next token of `count` slots from `first` on, or take `slots.forced`; `commit`: into their states."""
        rows = slice(first, first + count)
        drawn, now = slots.drawn[rows], slots.span["now"][rows]
        if slots.forced is not None:
            drawn[:] = slots.forced[rows]
        main = self._main(slots, rows)
        shift_logits = self._head("shift", main, drawn)
        constraints: list[Constraints] = []
        if slots.forced is None:
            for i in range(count):
                span = SpanState(*slots.span[first + i].tolist())
                constraints.append(constrain(span, slots.last_release[first + i], slots.has_future))
                self._draw_shift(slots, first + i, shift_logits[i].copy(), constraints[i])
        onset = now + drawn[:, 4]
        recency = key_recency(slots.last_onset[rows], slots.last_release[rows], onset)
        key_logits = self._head("key", main, drawn, *self._key_terms(slots, rows, onset, recency))
        for i in range(len(constraints)):
            masked = np.where(constraints[i].free_from > onset[i], f32(MASKED), key_logits[i])
            drawn[i, 1] = self._draw(slots, first + i, "key", masked)
        velocity_logits = self._head("velocity", main, drawn)
        for i in range(len(constraints)):
            drawn[i, 2] = self._draw(slots, first + i, "velocity", velocity_logits[i])
        duration_logits = self._head("duration", main, drawn, *self._duration_terms(slots, rows, onset, drawn))
        for i in range(len(constraints)):
            noise, uniforms = slots.noise_of(first + i)
            drawn[i, 3] = (duration_logits[i] + noise[CLASS_SLICES["duration"]]).argmax()
            drawn[i, 5] = value_in_bin("duration", drawn[i, 3], uniforms[1])
        if slots.logits is not None:
            slots.logits[rows] = np.concatenate([shift_logits, key_logits, velocity_logits, duration_logits], 1)
        if commit:
            self._commit(slots, rows, onset, recency)

    def _main(self, slots: Slots, rows: slice) -> Array:
        """Return the context of the heads: the past, and the future if there is one."""
        size, past = self.config.head_size, slots.context[rows]
        main = past[:, :size]
        if not self.both:
            return main
        if not slots.has_future:
            return np.asarray(main + self.tensors["time_to_go"][NO_FUTURE])
        future = slots.future_context[rows]
        bins = time_bin(slots.resume_tick[rows] - slots.span["now"][rows])
        fused = gelu((past[:, size:] + future[:, size:]) + self.tensors["fuse_time"][bins])
        main = (main + future[:, :size]) + self.tensors["time_to_go"][bins]
        return np.asarray(main + self.linears["fuse"](fused))

    def _head(self, field: str, main: Array, drawn: Array, *terms: Array) -> Array:
        context = main
        for i, before in enumerate(FIELDS[: FIELDS.index(field)]):
            context = context + self.tensors[f"heads.{field}.given.{before}"][drawn[:, i]]
        for term in terms:
            context = context + term
        x = gelu(context)
        hidden: Array = self.linears[f"heads.{field}.hidden"](x)
        return self.linears[f"heads.{field}.out"](gelu(hidden) + x)

    def _key_terms(self, slots: Slots, rows: slice, onset: Array, recency: Array) -> list[Array]:
        terms = [self.linears["key_recency"](recency)]
        if not self.both:
            return terms
        if not slots.has_future:
            return [*terms, self.tensors["key_time_to_go"][np.full(len(onset), NO_FUTURE)]]
        terms.append(self.tensors["key_time_to_go"][time_bin(slots.resume_tick[rows] - onset)])
        nearness = fade(onset[:, None] - slots.next_onset[rows], RECENCY_TICKS)
        return [*terms, self.linears["key_next"](nearness)]

    def _duration_terms(self, slots: Slots, rows: slice, onset: Array, drawn: Array) -> list[Array]:
        if not self.both:
            return []
        bins = np.full(len(onset), NO_FUTURE)
        if slots.has_future:
            bins = time_bin(slots.next_onset[rows][np.arange(len(onset)), drawn[:, 1]] - onset)
        return [self.tensors["next_onset"][bins]]

    def _draw_shift(self, slots: Slots, slot: int, logits: Array, constraints: Constraints) -> None:
        noise, uniforms = slots.noise_of(slot)
        fits = np.zeros(CLASSES["shift"], bool)
        fits[:RESUME] = SHIFT_BINS.edges[:-1] <= constraints.latest
        fits[: RESUME - 1] &= SHIFT_BINS.edges[1:-1] - 1 >= constraints.earliest
        fits[RESUME] = constraints.may_resume
        chosen = int((np.where(fits, logits, f32(MASKED)) + noise[CLASS_SLICES["shift"]]).argmax())
        ticks = value_in_bin("shift", chosen, uniforms[0])
        slots.drawn[slot, 0] = chosen
        slots.drawn[slot, 4] = max(min(ticks, constraints.latest), constraints.earliest)

    def _draw(self, slots: Slots, slot: int, field: str, logits: Array) -> int:
        """Return a class by nucleus sampling with Gumbel-max.

        Take the argmax of logits + noise; accept it if the likelier classes hold less than top_p of the tempered
        probability, else mask it and try again (nucleus: Holtzman et al. 2020, arXiv:1904.09751, sec. 3.1; Gumbel-max:
        Maddison et al. 2014, arXiv:1411.0030, sec. 2).
        """
        noise = slots.noise_of(slot)[0][CLASS_SLICES[field]]
        shares = exponential((logits - logits.max()) * slots.inverse_temperature[slot])
        nucleus = slots.top_p[slot] * sequential_sum(shares)
        scores, tried = logits + noise, np.zeros(len(logits), bool)
        while True:
            best = int(scores.argmax())
            likelier = sequential_sum(np.where(logits > logits[best], shares, f32(0)))
            if tried[best] or likelier < nucleus:
                return best
            scores[best] = f32(2 * MASKED) + noise[best]
            tried[best] = True
            shares[best] = shares[best] + f32(1e-30)

    def _commit(self, slots: Slots, rows: slice, onset: Array, recency: Array) -> None:
        drawn = slots.drawn[rows]
        each, key, duration = np.arange(len(drawn)), drawn[:, 1], drawn[:, 5]
        recency[each, key] = recency[each, 2 * NUM_KEYS + key] = 1
        recency[each, NUM_KEYS + key] = fade(-duration, RELEASE_TICKS)
        slots.last_onset[rows][each, key] = onset
        slots.last_release[rows][each, key] = onset + duration
        classes = np.minimum(drawn[:, :4], [len(SHIFT_BINS) - 1, *[NO_ONSET] * 3])
        mean = self.forward(classes, slots.composer[rows], recency, slots.states[rows])
        slots.context[rows] = self.linears["context"](np.concatenate([mean, recency], 1))

    # ---- writing

    def write(self, slots: Slots, count: int, most: int) -> list[Array]:
        """Write up to `most` tokens of each of the first slots by the rules.

        Returns:
            One array (tokens, count, 4) int32: shift, key, velocity, duration; key -1 where a slot is done.
        """
        tokens: list[Array] = []
        for _ in range(most):
            self.step(slots, 0, count, True)
            tokens.append(np.array([self._accept(slots, slot) for slot in range(count)], np.int32))
            writing = slots.span["done"][:count] == WRITING
            if not writing.any() or (slots.span["place"][:count][writing] == slots.block).any():
                break
        return [np.array(tokens)]

    def _accept(self, slots: Slots, slot: int) -> tuple[int, int, int, int]:
        span = SpanState(*slots.span[slot].tolist())
        shift_class, key, velocity_class, _, shift_ticks, duration_ticks = slots.drawn[slot].tolist()
        uniform = slots.noise_of(slot)[1][2]
        accepted = span.done == WRITING and accept(span, shift_class, key, shift_ticks, duration_ticks)
        slots.span[slot] = astuple(span)
        if not accepted:
            return 0, -1, 0, 0
        return shift_ticks, key, max(1, value_in_bin("velocity", velocity_class, uniform)), duration_ticks
