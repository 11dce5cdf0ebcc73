"""Slots of no music in particular, for tests of steps: every state and key says something, some keys are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from music_generator.engine.engine import Engine
from music_generator.engine.memory import ENTRY_MULTIPLE, EVENT_UNITS, GROUP_UNITS, Entries, Memories
from music_generator.engine.noise import NoiseSource
from music_generator.engine.rules import HABITUATION_LAGS, LAGS, Habituation, SpanState
from music_generator.engine.slots import CLASS_SLICES, Drawing, Slots
from music_generator.model.config import (
    DIRECTIONS,
    EVENT_TAPS,
    FINGERPRINT,
    MEMORY_HEADS,
    NO_ONSET,
    ModelConfig,
)
from music_generator.model.pack import LinearShape, Table, check_packed, layout
from music_generator.music.tokens import (
    DENSITIES,
    DURATION_BINS,
    KEYS,
    LOUDNESSES,
    NUM_KEYS,
    SHIFT_BINS,
    VELOCITY_BINS,
    Array,
)

NOW = 1000  # ticks
FIXED = 64  # entries of a memory


def futures(config: ModelConfig) -> list[bool]:
    """Whether slots may have a future: both, or none where the model has no backward stack."""
    return [False, True] if config.direction == DIRECTIONS[0] else [False]


def some_span(rng: np.random.Generator) -> SpanState:
    """A span that is being written at `NOW`, with rests and repeats near their limits."""
    last_note = NOW - int(rng.integers(0, 200))
    end = NOW + int(rng.integers(2, 600))
    return SpanState(
        now=NOW,
        last_key=int(rng.integers(-1, NUM_KEYS)),
        start=NOW + int(rng.integers(-50, 5)),
        end=end,
        last_note=last_note,
        next_note=end + int(rng.integers(0, 50)),
        longest_rest=int(rng.choice([1, 50, 400, NO_ONSET])),
        repeated_key=int(rng.integers(0, 88)),
        repeats=int(rng.integers(1, 5)),
        future_key=int(rng.integers(0, 88)),
        future_repeats=int(rng.integers(1, 5)),
        longest_repeat=int(rng.integers(1, 9)),
        notes_left=int(rng.choice([-1, 2, 30])),
    )


def some_slots(engine: Engine, size: int, *, has_future: bool, scored: bool = False, seed: int = 0) -> Slots:
    """Return slots; slot i is the same in any number of slots. `has_future`: three of four have one."""
    slots = engine.slots(size, scored=scored, fixed=FIXED)
    for slot in range(size):
        fill_slot(slots, slot, seed + slot, 1 + len(engine.config.composers), has_future=has_future)
    return slots


def fill_slot(slots: Slots, slot: int, seed: int, composers: int = 1, *, has_future: bool = False) -> None:
    """Fill a slot by chance."""
    rng = np.random.default_rng([seed, 17])
    slots.states[slot] = rng.uniform(-1, 1, slots.states[slot].shape)
    slots.context[slot] = rng.normal(size=slots.context[slot].shape)
    slots.composer[slot] = rng.integers(composers)
    slots.last_onset[slot] = NOW - rng.integers(0, 1000, NUM_KEYS)
    slots.last_release[slot] = slots.last_onset[slot] + rng.integers(1, 1100, NUM_KEYS)
    slots.last_onset[slot, ::7], slots.last_release[slot, ::7] = -NO_ONSET, -NO_ONSET
    slots.has_future[slot] = has_future and seed % 4 != 3
    slots.future_context[slot] = rng.normal(size=slots.context[slot].shape)
    slots.resume_tick[slot] = NOW + rng.integers(1, 400)
    slots.next_onset[slot] = slots.resume_tick[slot] + rng.integers(0, 900, NUM_KEYS)
    slots.next_onset[slot, ::5] = NO_ONSET
    slots.recent_keys[slot] = rng.integers(-1, NUM_KEYS, LAGS)
    slots.lag_counts[slot] = rng.uniform(0, 40, HABITUATION_LAGS) * (rng.random(HABITUATION_LAGS) < 0.1)
    slots.match_lengths[slot] = rng.integers(0, 9, LAGS) * (slots.recent_keys[slot] >= 0)
    fill_memory(slots.memory, slot, np.random.default_rng([seed, 18]))
    drawing = some_drawing(rng)
    slots.density[slot], slots.loudness[slot] = drawing.density, drawing.loudness
    slots.null_factor[slot] = drawing.null_factor
    if slots.forced is None:
        slots.begin(slot, some_span(rng), NoiseSource(seed, drawing.temperature), drawing)
        return
    slots.span[slot] = astuple(replace(some_span(rng)))
    force(slots, slot, some_token(rng))


def some_drawing(rng: np.random.Generator) -> Drawing:
    """Any way of drawing; a half is told density or loudness."""
    told = rng.integers(0, 2, 2)
    return Drawing(
        float(rng.uniform(0.5, 1.5)),
        float(rng.uniform(0.2, 1.0)),
        int(told[0] * rng.integers(1, DENSITIES)),
        int(told[1] * rng.integers(1, LOUDNESSES)),
        float(rng.uniform(0.8, 1.2)),
        float(rng.uniform(-2, 4)),
        Habituation(float(rng.uniform(5, 30)), float(rng.uniform(0, 0.5)), float(rng.uniform(8, 100))),
    )


def fill_memory(memories: Memories, slot: int, rng: np.random.Generator) -> None:
    """Fill a memory by chance: empty, filled in part or over and over; with fixed entries and bonuses, or without."""
    if not memories.ring:
        return
    memories.pending[slot] = rng.normal(size=memories.pending[slot].shape)
    groups_before = memories.pending[slot, -GROUP_UNITS:].reshape(-1, FINGERPRINT)
    groups_before /= np.linalg.norm(groups_before, axis=1, keepdims=True)
    query = np.concatenate([memories.pending[slot, :EVENT_UNITS], memories.pending[slot, EVENT_TAPS * EVENT_UNITS :]])
    near = query[: MEMORY_HEADS * FINGERPRINT].reshape(MEMORY_HEADS, 1, FINGERPRINT)
    entries = some_entries(rng, near, memories.fixed, memories.fingerprints.dtype == np.int8)
    memories.set_fixed(slot, entries, int(rng.integers(0, memories.fixed + 1)) if memories.fixed else 0)
    ring = some_entries(rng, near, memories.ring, memories.fingerprints.dtype == np.int8)
    tiles = (MEMORY_HEADS, memories.ring // ENTRY_MULTIPLE, ENTRY_MULTIPLE, *memories.fingerprints.shape[3::2])
    first = memories.fixed // ENTRY_MULTIPLE
    memories.fingerprints[slot, :, first:] = ring.fingerprints.reshape(tiles).transpose(0, 1, 3, 2, 4)
    if memories.fingerprints.dtype == np.int8:
        memories.sums[slot, :, memories.fixed :] = ring.fingerprints.sum(-1, dtype=np.int32)
    memories.events[slot, memories.fixed :] = ring.events
    written = rng.choice([0, 1, memories.ring // 2, memories.ring - 1, memories.ring, 3 * memories.ring + 5])
    state = memories.state[slot]
    state["written"], state["last_key"] = written, rng.integers(-1, NUM_KEYS)
    state["last_note"] = NOW - rng.integers(0, 6)
    state["low"], state["below"], state["below_two"] = rng.integers(0, KEYS, 3)


def some_entries(rng: np.random.Generator, near: Array, count: int, int8: bool) -> Entries:
    """Entries whose fingerprints are more or less `near` (heads, 1, units)."""
    unit = near / np.linalg.norm(near, axis=-1, keepdims=True)
    x = rng.uniform(-0.5, 2, (MEMORY_HEADS, count, 1)) * unit + rng.normal(size=(MEMORY_HEADS, count, FINGERPRINT)) / 8
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    classes = (len(SHIFT_BINS), len(VELOCITY_BINS), len(DURATION_BINS), 2, NUM_KEYS, NUM_KEYS + 1, NUM_KEYS + 1, 1)
    events = np.stack([rng.integers(0, size, count) for size in classes], 1).astype(np.uint8)
    fingerprints = np.rint(90 * x).astype(np.int8) if int8 else x.astype(np.float32)
    return Entries(fingerprints, events, rng.choice([0, 1.5, 4], count).astype(np.float32))


def some_token(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Shift, key, velocity and duration by chance."""
    return (
        int(rng.integers(0, SHIFT_BINS.edges[-1])),
        int(rng.integers(NUM_KEYS)),
        int(rng.integers(1, 128)),
        int(rng.integers(1, DURATION_BINS.edges[-1])),
    )


def force(slots: Slots, slot: int, token: tuple[int, ...] | Array) -> None:
    """Make a slot take a token, whatever its logits are."""
    shift, key, velocity, duration = (int(each) for each in token)
    assert slots.forced is not None
    classes = SHIFT_BINS.index(np.array(shift)), key, velocity // 4, DURATION_BINS.index(np.array(duration))
    slots.forced[slot] = (*classes, shift, duration)


def copied(slots: Slots) -> dict[str, Array]:
    """Everything that is in the slots, copied."""
    return {name: value.copy() for name, value in arrays_of(slots).items()}


def arrays_of(slots: Slots) -> dict[str, Array]:
    """The arrays of the slots and of their memories, by name."""
    return {
        name: value
        for prefix, part in (("", slots), ("memory.", slots.memory))
        for name, value in ((prefix + name, value) for name, value in vars(part).items())
        if isinstance(value, np.ndarray)
    }


def stepped(engine: Engine, slots: Slots, turns: int = 6) -> list[dict[str, Array]]:
    """Step and write on; return what is in the slots after each of some tokens."""
    found = []
    for turn in range(turns):
        engine.backend.step(slots, 0, slots.size, True)
        found.append(copied(slots))
        slots.span["now"] += slots.drawn[:, 4]
        slots.span["end"] += slots.drawn[:, 4]
        slots.span["place"] += slots.block > 1
        if slots.forced is not None:
            for slot in range(slots.size):
                force(slots, slot, some_token(np.random.default_rng([slot, turn])))
    return found


def assert_same(ones: list[dict[str, Array]], others: list[dict[str, Array]]) -> None:
    """Compare to the bit."""
    assert len(ones) == len(others)
    for turn, (one, other) in enumerate(zip(ones, others, strict=True)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=f"{name}, turn {turn}")


def assert_near(ones: list[dict[str, Array]], others: list[dict[str, Array]], relative: float = 1e-5) -> None:
    """Compare whole numbers to the bit, the others to `relative` of the largest of their array.

    Keys are compared by their probabilities: with a memory, logits are logarithms of sums that may be tiny.
    """
    for turn, (one, other) in enumerate(zip(ones, others, strict=True)):
        for name in one:
            if one[name].dtype != np.float32:
                np.testing.assert_array_equal(one[name], other[name], err_msg=f"{name}, turn {turn}")
                continue
            mine, theirs = (
                with_key_probabilities(each[name]) if name == "logits" else each[name] for each in (one, other)
            )
            largest = float(np.abs(theirs).max(initial=1))
            np.testing.assert_allclose(
                mine, theirs, rtol=relative, atol=relative * largest, err_msg=f"{name}, turn {turn}"
            )


def with_key_probabilities(logits: Array) -> Array:
    """Return logits of all fields (N, A), those of the key as probabilities."""
    found, keys = logits.copy(), CLASS_SLICES["key"]
    weights = np.exp(found[:, keys] - found[:, keys].max(1, keepdims=True))
    found[:, keys] = weights / weights.sum(1, keepdims=True)
    return found


def some_tensors(config: ModelConfig, precision: str, weight: Callable[[Any], Array]) -> dict[str, Array]:
    """Return a model's tensors by name; `weight` makes the weights of a `LinearShape`."""
    rng = np.random.default_rng(3)
    found: dict[str, Array] = {}
    for part in layout(config):
        if isinstance(part, Table):
            dtype = np.float16 if precision == "int8" and not part.exact else np.float32
            found[part.name] = rng.normal(size=part.shape).astype(dtype)
            if part.name == "memory.scales":  # of the score, and of nothing
                found[part.name] = rng.uniform([[3], [0]], [[9], [3]], part.shape).astype(dtype)
            continue
        assert isinstance(part, LinearShape)
        found[f"{part.name}.weight"] = weight(part)
        found[f"{part.name}.bias"] = rng.normal(size=part.outputs).astype(np.float32)
        if precision == "int8":
            found[f"{part.name}.scale"] = rng.uniform(1e-5, 1e-3, part.outputs).astype(np.float32)
            found[f"{part.name}.input"] = np.array([rng.uniform(50, 300), rng.integers(0, 256)], np.float32)
    return check_packed(found, config, precision, "made")
