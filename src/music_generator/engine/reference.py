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

from music_generator.engine.mathf import (
    exponential,
    fade,
    gelu,
    logarithm,
    round_even,
    sequential_sum,
    sigmoid_of,
    tanh_of,
)
from music_generator.engine.memory import Memories, MemoryReader, Recalled
from music_generator.engine.rules import (
    WRITING,
    Constraints,
    SpanState,
    accept,
    constrain,
    returning_key,
    sharpened_times,
    tiredness,
    too_high,
)
from music_generator.engine.slots import CLASS_SLICES, Slots
from music_generator.model.config import (
    CLASSES,
    FIELDS,
    GROUP_HEADS,
    GROUP_TICKS,
    LEAST_CHANCE,
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

BINS: dict[str, Bins] = {"shift": SHIFT_BINS, "velocity": VELOCITY_BINS, "duration": DURATION_BINS}


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
        self.memory = MemoryReader(precision, tensors, linears) if config.memory else None

    def close(self) -> None:
        """Do nothing: there are no threads to end."""

    # ---- reading

    def remember(self, tokens: Array, memory: Memories) -> None:
        """Take tokens (T, 6), as `encode` takes them, into a memory; the first marks the beginning."""
        if self.memory is None:
            return
        self.memory.begin(memory, 0)
        for token in tokens[1:]:
            self.memory.remember(memory, 0, token[:4], int(token[4]))

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

    def step(self, slots: Slots, first: int, count: int, commit: bool, forced: Array | None = None) -> None:
        """Draw the next token of `count` slots from `first` on; `commit`: take it into their states.

        If there are `forced` tokens (N, 6), or the slots', these are taken instead.
        """
        onset, recency = self._draw_tokens(slots, first, count, forced)
        if commit:
            self._commit(slots, first + np.arange(count), onset, recency)

    def _draw_tokens(self, slots: Slots, first: int, count: int, forced: Array | None) -> tuple[Array, Array]:
        """Draw tokens into `slots.drawn`; return their onsets (n,) and the recency of each key then (n, 3 K)."""
        rows = slice(first, first + count)
        drawn, now = slots.drawn[rows], slots.span["now"][rows]
        forced = slots.forced if forced is None else forced
        if forced is not None:
            drawn[:] = forced[rows]
        past, recalled, of_memory = self._past(slots, first, count)
        main = self._main(slots, rows, past)
        shift_logits = self._head("shift", main, drawn)
        constraints: list[Constraints] = []
        if forced is None:
            for i in range(count):
                span = SpanState(*slots.span[first + i].tolist())
                constraints.append(constrain(span, slots.last_release[first + i], bool(slots.has_future[first + i])))
                self._draw_shift(slots, first + i, shift_logits[i].copy(), constraints[i])
        onset = now + drawn[:, 4]
        recency = key_recency(slots.last_onset[rows], slots.last_release[rows], onset)
        key_main = main
        for term in [*self._key_terms(slots, rows, onset, recency), *of_memory]:
            key_main = key_main + term
        key_logits = self._head("key", key_main, drawn)
        if recalled is not None:
            key_logits = self._point(key_logits, key_main, drawn[:, 0], recalled.rolls[:, -GROUP_HEADS:])
        for i in range(len(constraints)):
            drawn[i, 1] = self._draw_key(slots, first + i, key_logits[i], constraints[i], int(onset[i]))
        velocity_logits = self._head("velocity", main, drawn)
        for i in range(len(constraints)):
            noise, _ = slots.noise_of(first + i)
            drawn[i, 2] = (velocity_logits[i] + noise[CLASS_SLICES["velocity"]]).argmax()
        duration_logits = self._head("duration", main, drawn, *self._duration_terms(slots, rows, onset, drawn))
        for i in range(len(constraints)):
            noise, uniforms = slots.noise_of(first + i)
            drawn[i, 3] = (duration_logits[i] + noise[CLASS_SLICES["duration"]]).argmax()
            drawn[i, 5] = value_in_bin("duration", drawn[i, 3], uniforms[1])
        if slots.logits is not None:
            slots.logits[rows] = np.concatenate([shift_logits, key_logits, velocity_logits, duration_logits], 1)
        return onset, recency

    def _past(self, slots: Slots, first: int, count: int) -> tuple[Array, Recalled | None, list[Array]]:
        """Return the context of the past (N, C) with what is told and recalled, that, and its terms of the key head."""
        rows, size = slice(first, first + count), self.config.head_size
        past = slots.context[rows]
        if self.config.steered:
            told = self.tensors["density"][slots.density[rows]] + self.tensors["loudness"][slots.loudness[rows]]
            past = past + told
        if self.memory is None:
            return past, None, []
        recalled = self.memory.recall(slots.memory, first, count, slots.null_factor[rows])
        of_values = self.linears["memory.values"](recalled.values)
        of_keys = self.linears["memory.keys"](np.concatenate([recalled.rolls.reshape(count, -1), recalled.taken], 1))
        to_context = np.concatenate([of_keys[:, :size], of_keys[:, 2 * size :]], 1)
        return (past + of_values) + to_context, recalled, [of_keys[:, size : 2 * size]]

    def _main(self, slots: Slots, rows: slice, past: Array) -> Array:
        """Return the context of the heads: the past, and the future if there is one."""
        size = self.config.head_size
        main = past[:, :size]
        if not self.both:
            return main
        with_future = slots.has_future[rows] > 0
        main = np.where(with_future[:, None], main, main + self.tensors["time_to_go"][NO_FUTURE])
        past, future = past[with_future], slots.future_context[rows][with_future]
        bins = time_bin((slots.resume_tick[rows] - slots.span["now"][rows])[with_future])
        fused = gelu((past[:, size:] + future[:, size:]) + self.tensors["fuse_time"][bins])
        told = (main[with_future] + future[:, :size]) + self.tensors["time_to_go"][bins]
        main[with_future] = told + self.linears["fuse"](fused)
        return np.asarray(main)

    def _head(self, field: str, main: Array, drawn: Array, *terms: Array) -> Array:
        context = main
        for i, before in enumerate(FIELDS[: FIELDS.index(field)]):
            context = context + self.tensors[f"heads.{field}.given.{before}"][drawn[:, i]]
        for term in terms:
            context = context + term
        x = gelu(context)
        hidden: Array = self.linears[f"heads.{field}.hidden"](x)
        return self.linears[f"heads.{field}.out"](gelu(hidden) + x)

    def _point(self, logits: Array, context: Array, shift: Array, pointed: Array) -> Array:
        """Mix the distribution of the key with what the memory points at; see `Memory.point` in model/memory.py."""
        gates = self.linears["memory.gate"](gelu(context + self.tensors["memory.gate_shift"][shift]))
        gates = exponential(gates - gates.max(1, keepdims=True))
        mixed = np.empty_like(logits)
        for i in range(len(logits)):
            own, *shares = gates[i] / sequential_sum(gates[i])
            chances = exponential(logits[i] - logits[i].max())
            elsewhere = np.zeros(NUM_KEYS, f32)
            for share, roll in zip(shares, pointed[i], strict=True):
                own = own + share * (f32(1) - sequential_sum(roll))
                elsewhere = elsewhere + share * roll
            mixed[i] = own * (chances / sequential_sum(chances)) + elsewhere
        return logarithm(np.maximum(mixed, f32(LEAST_CHANCE)))

    def _draw_key(self, slots: Slots, slot: int, logits: Array, constraints: Constraints, onset: int) -> int:
        above, nats, _ = slots.habituation[slot]
        logits = logits - tiredness(slots.recent_keys[slot], slots.lag_counts[slot], above, nats)
        if self.memory is not None:
            returning = returning_key(slots.recent_keys[slot], slots.match_lengths[slot])
            if returning >= 0:
                logits[returning] += slots.match_nats[slot]
        span = SpanState(*slots.span[slot].tolist())
        blocked = constraints.free_from > onset
        blocked[too_high(span, onset) :] = True
        return self._draw_from_nucleus(slots, slot, np.where(blocked, f32(MASKED), logits))

    def _key_terms(self, slots: Slots, rows: slice, onset: Array, recency: Array) -> list[Array]:
        terms = [self.linears["key_recency"](recency)]
        if not self.both:
            return terms
        with_future = slots.has_future[rows] > 0
        bins = np.where(with_future, time_bin(slots.resume_tick[rows] - onset), NO_FUTURE)
        nearness = fade(onset[:, None] - slots.next_onset[rows], RECENCY_TICKS)
        key_next = self.linears["key_next"](nearness) * with_future[:, None].astype(f32)
        return [*terms, self.tensors["key_time_to_go"][bins], key_next]

    def _duration_terms(self, slots: Slots, rows: slice, onset: Array, drawn: Array) -> list[Array]:
        if not self.both:
            return []
        bins = time_bin(slots.next_onset[rows][np.arange(len(onset)), drawn[:, 1]] - onset)
        return [self.tensors["next_onset"][np.where(slots.has_future[rows] > 0, bins, NO_FUTURE)]]

    def _draw_shift(self, slots: Slots, slot: int, logits: Array, constraints: Constraints) -> None:
        noise, uniforms = slots.noise_of(slot)
        of_times = slice(GROUP_TICKS, RESUME)  # up to there, each class is a tick
        logits[of_times] = sharpened_times(logits[of_times])
        fits = np.zeros(CLASSES["shift"], bool)
        fits[:RESUME] = SHIFT_BINS.edges[:-1] <= constraints.latest
        fits[: RESUME - 1] &= SHIFT_BINS.edges[1:-1] - 1 >= constraints.earliest
        fits &= constraints.earliest <= constraints.latest  # none if the kept note comes first
        fits[RESUME] = constraints.may_resume
        chosen = int((np.where(fits, logits, f32(MASKED)) + noise[CLASS_SLICES["shift"]]).argmax())
        ticks = value_in_bin("shift", chosen, uniforms[0])
        slots.drawn[slot, 0] = chosen
        slots.drawn[slot, 4] = max(min(ticks, constraints.latest), constraints.earliest)

    def _draw_from_nucleus(self, slots: Slots, slot: int, logits: Array) -> int:
        """Return a key by nucleus sampling with Gumbel-max.

        Take the argmax of logits + noise; accept it if the likelier classes hold less than top_p of the tempered
        probability, else mask it and try again (nucleus: Holtzman et al. 2020, arXiv:1904.09751, sec. 3.1; Gumbel-max:
        Maddison et al. 2014, arXiv:1411.0030, sec. 2).
        """
        noise = slots.noise_of(slot)[0][CLASS_SLICES["key"]]
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

    def _commit(self, slots: Slots, rows: Array, onset: Array, recency: Array) -> None:
        """Take the drawn tokens of some slots (n,) into their states."""
        drawn = slots.drawn[rows]
        each, key, duration = np.arange(len(drawn)), drawn[:, 1], drawn[:, 5]
        recency[each, key] = recency[each, 2 * NUM_KEYS + key] = 1
        recency[each, NUM_KEYS + key] = fade(-duration, RELEASE_TICKS)
        slots.last_onset[rows, key] = onset
        slots.last_release[rows, key] = onset + duration
        classes = np.minimum(drawn[:, :4], [len(SHIFT_BINS) - 1, *[NO_ONSET] * 3])
        states = slots.states[rows]
        mean = self.forward(classes, slots.composer[rows], recency, states)
        slots.states[rows] = states
        slots.context[rows] = self.linears["context"](np.concatenate([mean, recency], 1))
        for i, slot in enumerate(rows if self.memory is not None else ()):
            assert self.memory is not None
            self.memory.remember(slots.memory, int(slot), classes[i], int(onset[i]))

    # ---- writing

    def write(self, slots: Slots, count: int, most: int) -> list[Array]:
        """Write up to `most` tokens of each of the first slots by the rules.

        Returns:
            One array (tokens, count, 4) int32: shift, key, velocity, duration; key -1 where a slot is done.
        """
        tokens: list[Array] = []
        for _ in range(most):
            onset, recency = self._draw_tokens(slots, 0, count, None)
            tokens.append(np.array([self._accept(slots, slot) for slot in range(count)], np.int32))
            taken = np.flatnonzero(tokens[-1][:, 1] >= 0)
            if len(taken):
                self._commit(slots, taken, onset[taken], recency[taken])
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
        if accepted:
            slots.count_key(slot, key)
        if not accepted:
            return 0, -1, 0, 0
        return shift_ticks, key, max(1, value_in_bin("velocity", velocity_class, uniform)), duration_ticks
