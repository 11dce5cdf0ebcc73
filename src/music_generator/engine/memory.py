"""The memories of the pieces that are written side by side, as arrays, and what is read of one in NumPy.

`model/memory.py` says what the memory is. Here its maps are folded into tables of what an event adds to the
fingerprints of the next events, so that a fingerprint is kept up to date by a few additions. An event is an entry:
entries of what has been read and written form a ring, in which a new one takes the place of the oldest; before them
stand fixed ones, those of the future or of a passage that the music shall come back to.

Shapes: N memories, E entries, M = 6 heads, F = 64 units of a fingerprint, K = 91 keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.mathf import exponential, round_even
from music_generator.model.config import (
    ENTRY_MULTIPLE,
    EVENT_HEADS,
    EVENT_TAPS,
    FINGERPRINT,
    GROUP_HEADS,
    GROUP_TAPS,
    GROUP_TICKS,
    INPUT_CLASSES,
    INTERVAL_REACH,
    LOW_BEFORE,
    MEMORY_HEADS,
    NO_ONSET,
    NO_STEP,
    ROLL_CENTRE,
    START_KEY,
    START_STEP,
    VALUE_FIELDS,
    ModelConfig,
)
from music_generator.music.tokens import KEYS, NUM_KEYS, SHIFT_BINS

Array = NDArray[Any]
f32 = np.float32

ENTRY_COLUMNS = 8
SHIFT, VELOCITY, DURATION, START, KEY, STEP, GROUP_STEP = range(7)  # columns of an entry
NO_CLASS = NUM_KEYS  # of an interval that is not known
STORED_LEVELS, QUERY_LEVELS = f32(90), f32(127)  # of a unit of a fingerprint; 90: pairs of products must fit in 16 bits
WEIGHT_LEVELS = f32(8192)  # of the largest weight: sums of weights are then exact
EVENT_UNITS, GROUP_UNITS = EVENT_HEADS * FINGERPRINT, GROUP_HEADS * FINGERPRINT
PENDING = EVENT_TAPS * EVENT_UNITS + (GROUP_TAPS + 1) * GROUP_UNITS

MEMORY_DTYPE = np.dtype([(name, np.int32) for name in (
    "written", "fixed_from", "fixed_to", "last_key", "last_note", "low", "below", "below_two",
)])  # fmt: skip
"""The progress of a memory. written: events in all; fixed_from, fixed_to: the fixed entries that are used; last_key: of
the last event, -1 if there is none; last_note: onset of the last note in ticks; low, below, below_two: the lowest keys
of the group that is being struck, of the one before, and of the one before that."""


@dataclass(frozen=True)
class Entries:
    """Events that stand in a memory beside those of the ring, in order of time.

    Attributes:
        fingerprints: (M, n, F), int8 or float32.
        events: (n, 8) uint8, as `Memories.events`.
        bonus: (n,) float32, added to the score of each.
    """

    fingerprints: Array
    events: Array
    bonus: Array

    def __len__(self) -> int:
        return len(self.events)

    def followed_by(self, other: Entries) -> Entries:
        """Return these entries and others after them."""
        return Entries(
            np.concatenate([self.fingerprints, other.fingerprints], 1),
            np.concatenate([self.events, other.events]),
            np.concatenate([self.bonus, other.bonus]),
        )

    def part(self, first: int, stop: int, bonus: float) -> Entries:
        """Return some of the entries, with a bonus."""
        some = slice(first, stop)
        return Entries(self.fingerprints[:, some], self.events[some], np.full(len(self.events[some]), bonus, f32))


class Memories:
    """N memories; the arrays are those of `Memories` in kernel.h.

    Attributes:
        fingerprints: (N, M, E / 32, F / 4, 32, 4) int8, or (N, M, E / 32, F, 32) float32.
        sums: (N, M, E) int32, of the numbers of each fingerprint in 8 bits.
        events: (N, E, 8) uint8: classes of shift, velocity and duration, whether a group starts, key, interval to the
            event before and to the lowest key of two groups before.
        bonus: (N, fixed) float32.
        pending: (N, ...) float32: what the events so far add to the fingerprints of the next `EVENT_TAPS` states, what
            they add to those of this group and the next ones, and the fingerprints of the groups before this one.
        state: (N,) `MEMORY_DTYPE`.
    """

    def __init__(self, config: ModelConfig, size: int, precision: str, fixed: int = 0, ring: int | None = None) -> None:
        """Make memories without events.

        Args:
            config: of the model; its memory may be 0.
            size: N.
            precision: "int8" or "float32".
            fixed: how many fixed entries there is room for.
            ring: how many events it reaches back; the model's number if None.
        """
        wanted = (fixed, config.memory if ring is None else ring) if config.memory else (0, 0)
        self.fixed, self.ring = (-(-each // ENTRY_MULTIPLE) * ENTRY_MULTIPLE for each in wanted)
        entries = self.fixed + self.ring
        kind, parts = (np.int8, 4) if precision == "int8" else (f32, 1)
        shape = (size, MEMORY_HEADS, entries // ENTRY_MULTIPLE, FINGERPRINT // parts, ENTRY_MULTIPLE, parts)
        self.fingerprints = np.zeros(shape, kind)
        self.sums = np.zeros((size, MEMORY_HEADS, entries), np.int32)
        self.events = np.zeros((size, entries, ENTRY_COLUMNS), np.uint8)
        self.bonus = np.zeros((size, self.fixed), f32)
        self.pending = np.zeros((size, PENDING if config.memory else 0), f32)
        self.state = np.zeros(size, MEMORY_DTYPE)
        self._fixed_of: list[Entries | None] = [None] * size

    def copy(self, slot: int, other: Memories, its: int) -> None:
        """Take over the events of another memory; the fixed entries stay."""
        used = slice(self.fixed // ENTRY_MULTIPLE, None)
        theirs = slice(other.fixed // ENTRY_MULTIPLE, None)
        self.fingerprints[slot, :, used] = other.fingerprints[its, :, theirs]
        self.sums[slot, :, self.fixed :] = other.sums[its, :, other.fixed :]
        self.events[slot, self.fixed :] = other.events[its, other.fixed :]
        self.pending[slot] = other.pending[its]
        mine = self.state[slot]["fixed_from"], self.state[slot]["fixed_to"]
        self.state[slot] = other.state[its]
        self.state[slot]["fixed_from"], self.state[slot]["fixed_to"] = mine

    def move(self, slot: int, to: int) -> None:
        """Copy a memory with its fixed entries to another place."""
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array[to] = array[slot]
        self._fixed_of[to] = self._fixed_of[slot]

    def set_fixed(self, slot: int, entries: Entries | None, first: int = 0) -> None:
        """Let a memory have these fixed entries, as many as there is room for; those from `first` on are used."""
        count = 0 if entries is None else min(len(entries), self.fixed)
        if entries is not None and self._fixed_of[slot] is not entries:
            self._fixed_of[slot] = entries
            self.bonus[slot, :count] = entries.bonus[:count]
            self.events[slot, :count] = entries.events[:count]
            fingerprints = np.zeros((MEMORY_HEADS, self.fixed, FINGERPRINT), self.fingerprints.dtype)
            fingerprints[:, :count] = entries.fingerprints[:, :count]
            tiles = (MEMORY_HEADS, self.fixed // ENTRY_MULTIPLE, ENTRY_MULTIPLE, *self.fingerprints.shape[3::2])
            self.fingerprints[slot, :, : tiles[1]] = fingerprints.reshape(tiles).transpose(0, 1, 3, 2, 4)
            if self.fingerprints.dtype == np.int8:
                self.sums[slot, :, : self.fixed] = fingerprints.sum(-1, dtype=np.int32)
        self.state["fixed_from"][slot], self.state["fixed_to"][slot] = min(first, count), count

    def entries(self, slot: int, bonus: float = 0.0) -> Entries:
        """Return the events of a memory's ring, in order of time, to stand in another memory."""
        written = int(self.state["written"][slot])
        at = self.fixed + np.arange(max(written - self.ring, 0), written) % max(self.ring, 1)
        return Entries(self.natural(slot)[:, at], self.events[slot, at], np.full(len(at), bonus, f32))

    def natural(self, slot: int) -> Array:
        """Return the fingerprints of all entries, (M, E, F)."""
        heads, tiles, _, width, _ = (found := self.fingerprints[slot]).shape
        return np.asarray(found.transpose(0, 1, 3, 2, 4).reshape(heads, tiles * width, FINGERPRINT))


def future_from(keys: Array, onsets: Array) -> Array:
    """Return for each of T tokens the first whose fingerprint tells of nothing before that token: (T,).

    See `model.memory.future_from`.
    """
    note = keys < KEYS
    earlier = np.maximum.accumulate(np.concatenate([[-NO_ONSET], np.where(note, onsets, -NO_ONSET)]))[:-1]
    number = np.cumsum(note & (onsets - earlier >= GROUP_TICKS))
    first = np.minimum.accumulate(np.where(note, number, NO_ONSET)[::-1])[::-1]
    return np.maximum(np.searchsorted(number, first + GROUP_TAPS + 2), np.arange(len(keys)) + EVENT_TAPS + 1)


@dataclass
class Recalled:
    """What N memories say of the next event.

    Attributes:
        values: (N, M F), what followed; rolls: (N, M, K), on which keys; taken: (N, M), how much of the attention.
    """

    values: Array
    rolls: Array
    taken: Array


class MemoryReader:
    """The memory of a model: takes events in and looks up the last ones."""

    def __init__(self, precision: str, tensors: Mapping[str, Array], linears: Mapping[str, Any]) -> None:
        self.tensors, self.linears, self.int8 = tensors, linears, precision == "int8"
        self.scale, self.null = tensors["memory.scales"]
        self.unit = f32(STORED_LEVELS * QUERY_LEVELS) if self.int8 else f32(1)

    # ---- taking in

    def begin(self, memories: Memories, slot: int) -> None:
        """Empty a memory's ring: nothing has been read."""
        state, pending = memories.state[slot], memories.pending[slot]
        state["written"], state["last_key"], state["last_note"] = 0, -1, -NO_ONSET
        state["low"] = state["below"] = state["below_two"] = LOW_BEFORE
        pending[:] = 0
        events = _registers(pending)[0]
        events[:, : EVENT_UNITS // 2] = self._rows("memory.event_keys", START_KEY, EVENT_TAPS)
        events[:, EVENT_UNITS // 2 :] = self._rows("memory.event_intervals", START_STEP, EVENT_TAPS)

    def remember(self, memories: Memories, slot: int, classes: Array, onset: int) -> None:
        """Take in an event, given the classes of its fields and its onset in ticks."""
        state = memories.state[slot]
        events, groups, before = _registers(memories.pending[slot])
        shift, key, velocity, duration = (int(each) for each in classes)
        is_note, last_key = key < KEYS, int(state["last_key"])
        wait = onset - int(state["last_note"])
        starts = is_note and wait >= GROUP_TICKS
        stored = normalized(events[0], EVENT_HEADS)
        if starts:
            before[:] = normalized(groups[0], GROUP_HEADS).ravel()
            groups[:-1], groups[-1] = groups[1:].copy(), 0
            state["below_two"], state["below"], state["low"] = state["below"], state["low"], key
        elif is_note:
            state["low"] = min(state["low"], key)
        known = last_key >= 0 and is_note and last_key < KEYS
        interval = key - max(last_key, 0)
        entry = memories.fixed + int(state["written"]) % memories.ring
        self._store(memories, slot, entry, np.concatenate([stored.ravel(), before]).reshape(MEMORY_HEADS, FINGERPRINT))
        memories.events[slot, entry, :7] = (
            shift, velocity, duration, starts, key, _roll_place(interval) if known else NO_CLASS,
            _roll_place(key - state["below_two"]) if is_note else NO_CLASS,
        )  # fmt: skip
        state["written"] += 1
        step = _reach(interval) if known else _reach(0) if is_note and last_key < 0 else NO_STEP
        self._add_event(events, key, step, shift)
        if is_note:
            self._add_note(groups, key, _reach(key - state["below"]), wait if starts else None)
            state["last_note"] = onset
        state["last_key"] = key

    def _add_event(self, events: Array, key: int, step: int, shift: int) -> None:
        half = EVENT_UNITS // 2
        events[:-1], events[-1] = events[1:].copy(), 0
        for name, part, kind in (("keys", slice(half), key), ("intervals", slice(half, None), step)):
            events[:, part] += self._rows(f"memory.event_{name}", kind, EVENT_TAPS)
            events[:, part] += self._rows(f"memory.event_{name}_shift", shift, EVENT_TAPS)

    def _add_note(self, groups: Array, key: int, interval: int, wait: int | None) -> None:
        for name, part, kind in (
            ("keys", slice(FINGERPRINT), key),
            ("intervals", slice(FINGERPRINT, None), interval),
        ):
            groups[:, part] += self._rows(f"memory.group_{name}", kind, GROUP_TAPS)
            if wait is not None:
                groups[:, part] += self._rows(
                    f"memory.group_{name}_wait", int(SHIFT_BINS.index(np.asarray(wait))), GROUP_TAPS
                )

    def _rows(self, name: str, kind: int, taps: int) -> Array:
        return np.asarray(self.tensors[name][kind].reshape(taps, -1))

    def _store(self, memories: Memories, slot: int, entry: int, fingerprints: Array) -> None:
        tile, place = divmod(entry, ENTRY_MULTIPLE)
        stored = fingerprints
        if self.int8:  # a number, whatever a stranger's bundle gives
            stored = np.fmin(np.fmax(round_even(fingerprints * STORED_LEVELS), -STORED_LEVELS), STORED_LEVELS)
        where = memories.fingerprints[slot, :, tile, :, place]
        where[:] = stored.reshape(where.shape)
        if self.int8:
            memories.sums[slot, :, entry] = stored.sum(-1)

    # ---- looking up

    def recall(self, memories: Memories, first: int, count: int, null_factor: Array) -> Recalled:
        """Look up the last events of `count` memories from `first` on; `null_factor` (N,) of the score of nothing."""
        found = [self._recall(memories, first + i, f32(null_factor[i])) for i in range(count)]
        return Recalled(*(np.stack(each) for each in zip(*found, strict=True)))

    def _recall(self, memories: Memories, slot: int, null_factor: np.float32) -> tuple[Array, Array, Array]:
        state = memories.state[slot]
        used = np.r_[
            state["fixed_from"] : state["fixed_to"],
            memories.fixed : memories.fixed + min(int(state["written"]), memories.ring),
        ]
        weights, nothing = self._weights(memories, slot, used, null_factor)
        total = weights.sum(1, dtype=f32) + nothing
        events = memories.events[slot, used]
        shares = {
            head: [_mass(events[:, column], weights[head], size, total[head]) for column, size in _columns(head)]
            for head in range(MEMORY_HEADS)
        }
        half, rolls = EVENT_HEADS // 2, np.zeros((MEMORY_HEADS, NUM_KEYS), f32)
        for head in range(MEMORY_HEADS):
            rolls[head] = shares[head].pop()
        last = int(state["last_key"])
        for head in range(half, EVENT_HEADS):
            rolls[head] = _laid(rolls[head], last) if 0 <= last < KEYS else 0
        rolls[-1] = _laid(rolls[-1], int(state["below"]))
        values = [
            self.linears[f"memory.{name}_values"](np.stack([np.concatenate(shares[head]) for head in heads]))
            for name, heads in (("event", range(EVENT_HEADS)), ("group", range(EVENT_HEADS, MEMORY_HEADS)))
        ]
        return np.concatenate(values).ravel(), rolls, (total - nothing) / total

    def _weights(self, memories: Memories, slot: int, used: Array, null_factor: np.float32) -> tuple[Array, Array]:
        """Return the weight of each used entry (M, n) and of nothing (M,), the largest of a head being 1 or full."""
        events, groups, _ = _registers(memories.pending[slot])
        query = np.concatenate([normalized(events[0], EVENT_HEADS), normalized(groups[0], GROUP_HEADS)])
        query = round_even(query * QUERY_LEVELS) if self.int8 else query
        stored = memories.natural(slot)[:, used].astype(f32)  # in 8 bits the sums are exact
        scores = (stored @ query[:, :, None])[..., 0] * (self.scale / self.unit)[:, None]
        fixed = int(memories.state[slot]["fixed_to"] - memories.state[slot]["fixed_from"])
        scores[:, :fixed] += memories.bonus[slot, used[:fixed]]
        nothing = self.null * null_factor
        most = np.maximum(scores.max(1, initial=-np.inf), nothing)
        weights, nothing = exponential(scores - most[:, None]), exponential(nothing - most)
        if self.int8:
            weights, nothing = round_even(weights * WEIGHT_LEVELS), round_even(nothing * WEIGHT_LEVELS)
        return weights, nothing


def _registers(pending: Array) -> tuple[Array, Array, Array]:
    """Return what is pending of events (taps, units) and of groups (taps, units), and the groups' before this one."""
    one, two = EVENT_TAPS * EVENT_UNITS, GROUP_TAPS * GROUP_UNITS
    return (
        pending[:one].reshape(EVENT_TAPS, EVENT_UNITS),
        pending[one : one + two].reshape(GROUP_TAPS, GROUP_UNITS),
        pending[one + two :],
    )


def normalized(x: Array, heads: int) -> Array:
    """Return the fingerprints of some heads (heads, F), of length 1 or 0."""
    x = x.reshape(heads, -1)
    length = np.sqrt(np.add.accumulate(x * x, axis=1)[:, -1])
    return np.asarray(x / np.maximum(length, f32(1e-12))[:, None])


def _reach(interval: int) -> int:
    """Return the class of an interval in a fingerprint."""
    return max(-INTERVAL_REACH, min(int(interval), INTERVAL_REACH)) + INTERVAL_REACH


def _roll_place(interval: int) -> int:
    """Return the place of an interval in a roll of intervals."""
    return max(0, min(int(interval) + ROLL_CENTRE, NUM_KEYS - 1))


def _laid(roll: Array, reference: int) -> Array:
    """Lay a roll of intervals (K,) at a key: a roll of keys (K,)."""
    laid = np.zeros(NUM_KEYS, f32)
    at = np.arange(KEYS) - reference + ROLL_CENTRE
    fits = (at >= 0) & (at < NUM_KEYS)
    laid[:KEYS][fits] = roll[at[fits]]
    return laid


VALUE_SIZES = (*(INPUT_CLASSES[name] for name in VALUE_FIELDS), 2)


def _columns(head: int) -> list[tuple[int, int]]:
    """Return the columns of an entry that a head reads, and their numbers of classes; the last is its roll's."""
    half = EVENT_HEADS // 2
    is_group = head >= EVENT_HEADS
    roll = (KEY if head == EVENT_HEADS else GROUP_STEP) if is_group else (KEY if head < half else STEP)
    values = zip((SHIFT, VELOCITY, DURATION, START), VALUE_SIZES, strict=True)
    return [*list(values)[: 4 if is_group else 3], (roll, NUM_KEYS)]


def _mass(classes: Array, weights: Array, size: int, total: np.float32) -> Array:
    """Return the share of the weights that each class has, (size,)."""
    return np.bincount(classes, weights, size)[:size].astype(f32) / total
