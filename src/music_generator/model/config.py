"""The configuration of a model: its sizes, its cell, its direction and the composers it knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from music_generator.checks import check_types
from music_generator.errors import InputError
from music_generator.music.tokens import (
    DURATION_BINS,
    NUM_KEYS,
    SHIFT_BINS,
    SHIFT_CLASSES,
    TICKS_PER_SECOND,
    VELOCITY_BINS,
)

CELLS = ("lstm", "gru", "rnn")
DIRECTIONS = ("both", "forward")
MOST_LAYERS, MOST_UNITS, MOST_EVENTS = 64, 16_384, 65_536

FIELDS = ("shift", "key", "velocity", "duration")

# keys of the stacks' inputs after the real ones: there is no past (or future), because the piece begins (ends) here, or
# because what comes before (after) is not known
EDGE_OF_PIECE, CUT = NUM_KEYS, NUM_KEYS + 1
INPUT_KEYS = NUM_KEYS + 2

NO_ONSET = 10**9  # as a tick: never

# time left until the future's first onset, in ticks: one bin each up to 2 s, then 7 % wider; the class after the bins:
# there is no future
_TIME_TO_GO_STARTS = np.concatenate([np.arange(200), np.rint(200 * 1.07 ** np.arange(67))])
TIME_TO_GO_EDGES = np.append(_TIME_TO_GO_STARTS[1:], NO_ONSET / 2).astype(np.int64)
NO_FUTURE = len(TIME_TO_GO_EDGES)
LEAST_CHANCE = 1e-9  # of a key, where the memory may point at another one; of a time, before it is compared
MASKED = -1e4  # a logit that never wins

# recency of each key: exp(-age), exp(-time left until its release) and whether it is held
RECENCY_TICKS = TICKS_PER_SECOND
RELEASE_TICKS = TICKS_PER_SECOND // 5
RECENCY_SIZE = 3 * NUM_KEYS

# the memory (model/memory.py): heads that look up keys and intervals of events, half each, then those of groups
EVENT_HEADS, GROUP_HEADS = 4, 2
MEMORY_HEADS = EVENT_HEADS + GROUP_HEADS
POINTED = tuple(range(EVENT_HEADS, MEMORY_HEADS))  # the heads that point at keys
FINGERPRINT, VALUE = 64, 64  # units of a head's fingerprint, and of what it reads of an event
VALUE_FIELDS = ("shift", "velocity", "duration")  # of which a value is made
EVENT_TAPS, GROUP_TAPS = 8, 6  # events and groups that a fingerprint tells of
ENTRY_MULTIPLE = 32  # of the events that a memory holds; TILE_OUTPUTS of simd.h
GROUP_TICKS = 3  # after the last note from which on a note begins a new group
INTERVAL_REACH = 48  # semitones, in fingerprints
INTERVALS = 2 * INTERVAL_REACH + 1
# kinds of events after the intervals and the keys: a pedal or what follows one has no interval; the start of a window
NO_STEP, START_STEP, STEPS = INTERVALS, INTERVALS + 1, INTERVALS + 2
START_KEY = NUM_KEYS + 1
ROLL_CENTRE = 45  # the place of interval 0 in a roll of intervals, which is as long as one of keys
LOW_BEFORE = 60  # the lowest key of the group before the first one
WAITS = len(SHIFT_BINS) + 1  # classes of the time before a group; the last one is not used


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a network.

    Sizes are numbers of units. `memory` is the number of events that the memory holds while music is written, 0 for a
    network without a memory; in training it holds the whole window. A network that is `steered` can be told density and
    loudness. `composers` are the names it was trained with; their classes begin at 1, because class 0 is "unknown".
    """

    cell: str = "lstm"
    direction: str = "both"
    forward_layers: int = 2
    forward_size: int = 384
    backward_layers: int = 1
    backward_size: int = 256
    input_size: int = 256
    head_size: int = 256
    dropout: float = 0.1
    memory: int = 1024
    steered: bool = True
    composers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "composers", tuple(self.composers))
        check_types(self)
        if self.cell not in CELLS:
            raise InputError(f"`cell` must be one of {', '.join(CELLS)}, not {self.cell!r}")
        if self.direction not in DIRECTIONS:
            raise InputError(f"`direction` must be one of {', '.join(DIRECTIONS)}, not {self.direction!r}")
        for name in ("forward_layers", "forward_size", "backward_layers", "backward_size", "input_size", "head_size"):
            size, most = getattr(self, name), MOST_LAYERS if name.endswith("layers") else MOST_UNITS
            if not 1 <= size <= most:
                raise InputError(f"`{name}` must be at least 1 and at most {most}, not {size}")
        if not 0 <= self.memory <= MOST_EVENTS:
            raise InputError(f"`memory` must be at least 0 and at most {MOST_EVENTS}, not {self.memory}")
        if not all(isinstance(composer, str) for composer in self.composers):
            raise InputError("`composers` must be names")
        if not 0 <= self.dropout < 1:
            raise InputError(f"`dropout` must be at least 0 and below 1, not {self.dropout}")

    @property
    def memory_reach(self) -> int:
        """How many events the memory holds: `memory`, rounded up to what the engine compares at a time."""
        return -(-self.memory // ENTRY_MULTIPLE) * ENTRY_MULTIPLE

    def state_rows(self, layers: int) -> int:
        """Return the rows of a stack's state: two for each layer of an LSTM, its output and its memory, else one."""
        return layers * (2 if self.cell == "lstm" else 1)

    @property
    def context_size(self) -> int:
        """The number of values of a context, with its part of the fuse layer's input."""
        return self.head_size * (2 if self.direction == "both" else 1)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a JSON file; the inverse is `ModelConfig(**data)`."""
        return asdict(self)


# classes of each field: those drawn, and those of the inputs
CLASSES = {"shift": SHIFT_CLASSES, "key": NUM_KEYS, "velocity": len(VELOCITY_BINS), "duration": len(DURATION_BINS)}
INPUT_CLASSES = {
    "shift": len(SHIFT_BINS),
    "key": INPUT_KEYS,
    "velocity": len(VELOCITY_BINS),
    "duration": len(DURATION_BINS),
}
