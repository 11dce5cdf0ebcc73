"""Slots: the pieces that are written side by side, as arrays that the compiled engine works on in place."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.memory import Entries, Memories
from music_generator.engine.noise import NOISE_BLOCK_TOKENS, UNIFORMS, NoiseSource
from music_generator.engine.rules import HABITUATION_LAGS, LAGS, SPAN_DTYPE, Habituation, SpanState, count_key
from music_generator.model.config import CLASSES, FIELDS, NO_ONSET, ModelConfig
from music_generator.music.tokens import NUM_KEYS

Array = NDArray[Any]

_ends = np.cumsum(list(CLASSES.values())).tolist()
ALL_CLASSES = _ends[-1]
CLASS_SLICES = {name: slice(end - CLASSES[name], end) for name, end in zip(FIELDS, _ends, strict=True)}
"""The columns of each field's classes in a row of noise or of logits."""


@dataclass
class PastState:
    """The state after reading a piece up to tick `now`.

    Attributes:
        states: of the forward stack, (R, H).
        context: (C,).
        last_onset, last_release: of each key, (K,) int32 ticks.
        now: the onset of the last token.
        last_key: its key, -1 if there is none.
        composer: the class of the composer.
        memory: one memory of what was read.
        recent_keys: of the last `LAGS` tokens, the latest first; -1 where there is none.
    """

    states: Array
    context: Array
    last_onset: Array
    last_release: Array
    memory: Memories
    recent_keys: Array
    now: int = 0
    last_key: int = -1
    composer: int = 0


@dataclass(frozen=True)
class FutureContext:
    """The future of a gap.

    Attributes:
        context: the backward stack's output, (C,).
        tick: the first onset.
        next_onset: of each key, (K,) int32 ticks.
        entries: what stands in the memory of the future, or None; of them those from `first` on lie wholly in it.
    """

    context: Array
    tick: int
    next_onset: Array
    entries: Entries | None = None
    first: int = 0


@dataclass(frozen=True)
class Drawing:
    """How a slot's tokens are drawn.

    Attributes:
        temperature, top_p: see `SamplingOptions`.
        density, loudness: classes, 0 if not told.
        null_factor: of the memory's score of nothing: the lower, the more returns.
        match_nats: what is added to the logit of the key with which a match goes on, if the model has a memory.
        habituation: what takes keys off that have come at the same distance too often.
    """

    temperature: float
    top_p: float
    density: int = 0
    loudness: int = 0
    null_factor: float = 1.0
    match_nats: float = 0.0
    habituation: Habituation = field(default_factory=Habituation)


class Slots:
    """N slots; what a slot computes depends on nothing but that slot. The arrays are those of `Slots` in kernel.h."""

    def __init__(
        self,
        config: ModelConfig,
        size: int,
        precision: str,
        *,
        scored: bool = False,
        fixed: int = 0,
    ) -> None:
        """Make empty slots.

        Args:
            config: of the model.
            size: N.
            precision: of the model, "int8" or "float32".
            scored: tokens are given (`forced`) and their logits kept (`logits`).
            fixed: how many fixed entries a memory has room for.
        """

        def zeros(*shape: int, dtype: Any = np.float32) -> Array:
            return np.zeros((size, *shape), dtype)

        self.size, self.block = size, 1 if scored else NOISE_BLOCK_TOKENS
        self.span = zeros(dtype=SPAN_DTYPE)
        self.composer, self.has_future, self.resume_tick = (zeros(dtype=np.int32) for _ in range(3))
        self.last_onset, self.last_release, self.next_onset = (zeros(NUM_KEYS, dtype=np.int32) for _ in range(3))
        self.states = zeros(config.state_rows(config.forward_layers), config.forward_size)
        self.context, self.future_context = zeros(config.context_size), zeros(config.context_size)
        self.inverse_temperature, self.top_p, self.null_factor = zeros(), zeros(), zeros() + np.float32(1)
        self.density, self.loudness = zeros(dtype=np.int32), zeros(dtype=np.int32)
        self.memory = Memories(config, size, precision, fixed)
        self.recent_keys = zeros(LAGS, dtype=np.int32) - np.int32(1)
        self.lag_counts, self.match_lengths = zeros(HABITUATION_LAGS), zeros(LAGS, dtype=np.int32)
        self.habituation, self.match_nats = zeros(3), zeros()
        self.noise, self.uniforms = zeros(self.block, ALL_CLASSES), zeros(self.block, UNIFORMS)
        self.forced = zeros(6, dtype=np.int32) if scored else None
        self.drawn = zeros(6, dtype=np.int32)  # classes of the fields, then shift and duration in ticks
        self.logits = zeros(ALL_CLASSES) if scored else None

    def attach(self, slot: int, past: PastState, future: FutureContext | None = None) -> None:
        """Put a piece that has been read into a slot."""
        self.states[slot], self.context[slot], self.composer[slot] = past.states, past.context, past.composer
        self.last_onset[slot], self.last_release[slot] = past.last_onset, past.last_release
        self.memory.copy(slot, past.memory, 0)
        self.recent_keys[slot], self.lag_counts[slot], self.match_lengths[slot] = past.recent_keys, 0, 0
        self.span[slot] = astuple(SpanState(past.now, past.last_key, past.now, NO_ONSET, past.now, NO_ONSET, NO_ONSET))
        self.set_future(slot, future)

    def set_future(self, slot: int, future: FutureContext | None) -> None:
        """Give a slot a future, or another one, or none."""
        self.has_future[slot] = future is not None
        if future is None:
            self.memory.set_fixed(slot, None)
            return
        self.future_context[slot], self.resume_tick[slot] = future.context, future.tick
        self.next_onset[slot] = future.next_onset
        self.memory.set_fixed(slot, future.entries, future.first)

    def begin(self, slot: int, span: SpanState, noise: NoiseSource, drawing: Drawing) -> None:
        """Begin to write a span in a slot."""
        self.span[slot] = astuple(span)
        self.inverse_temperature[slot], self.top_p[slot] = 1 / drawing.temperature, drawing.top_p
        self.density[slot], self.loudness[slot] = drawing.density, drawing.loudness
        self.null_factor[slot], self.match_nats[slot] = drawing.null_factor, drawing.match_nats
        self.habituation[slot] = drawing.habituation.above, drawing.habituation.nats, drawing.habituation.keep
        noise.fill(self.noise[slot], self.uniforms[slot])

    def count_key(self, slot: int, key: int) -> None:
        """Take the key of a token that was written into what is counted of a slot's keys."""
        keep = self.habituation[slot, 2]
        count_key(self.recent_keys[slot], self.lag_counts[slot], self.match_lengths[slot], key, keep)

    def noise_of(self, slot: int) -> tuple[Array, Array]:
        """Return the noise (A,) and the uniform numbers (3,) of a slot's next token."""
        place = min(self.span["place"][slot], self.block - 1)  # a slot that is done may have used them up
        return self.noise[slot, place], self.uniforms[slot, place]

    def move(self, slot: int, to: int) -> None:
        """Copy what is in a slot into another one."""
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array[to] = array[slot]
        self.memory.move(slot, to)
