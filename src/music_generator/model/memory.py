"""The memory of a piece: where the last events, and the last groups of notes, were played before, and what came next.

It is attention without positions over earlier events (Bahdanau et al. 2015, arXiv:1409.0473). An event is stored under
a fingerprint of what came before it, and looked up by a fingerprint of what came last, both made by the same map: so
the memory finds the places where the piece was at this point before. A group is what is struck within 30 ms, taken as a
set, because the notes of a chord come in another order each time. Fingerprints of intervals find a passage in any key.

The heads that look up groups also point at keys: their attention is mixed into the distribution of the next key, as in
the pointer sentinel mixture of Merity et al. 2017 (arXiv:1609.07843, sec. 2.2).

Shapes: B windows, T tokens, M = 6 heads, F units of a fingerprint, V units of a value, K = 91 keys, D head units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from music_generator.model.config import (
    CLASSES,
    EVENT_HEADS,
    EVENT_TAPS,
    FINGERPRINT,
    GROUP_HEADS,
    GROUP_TAPS,
    GROUP_TICKS,
    INTERVAL_REACH,
    INTERVALS,
    LEAST_CHANCE,
    LOW_BEFORE,
    MEMORY_HEADS,
    NO_ONSET,
    NO_STEP,
    POINTED,
    ROLL_CENTRE,
    START_KEY,
    START_STEP,
    STEPS,
    VALUE,
    VALUE_FIELDS,
    WAITS,
)
from music_generator.music.tokens import KEYS, NUM_KEYS, SHIFT_BINS, SHIFT_CLASSES

FEATURES = 64  # units of the embeddings that fingerprints are made of
TIME_SCALE = 0.3  # of the first weights: what is played counts more than when


@dataclass
class Remembered:
    """The memory of windows, and the states that look into it: before each token and after all, T + 1.

    Attributes:
        query: (B, M, T + 1, F), fingerprints of the last events, of length 1: those that a state looks up.
        stored: (B, M, T, F), fingerprints of what came before each event: those that the events stand under.
        values: (B, M, T, V + K + 1), what is read of an event: its embedding, a roll of its key or interval, and 1.
        last_key: (B, T + 1), the key of the last event.
        below: (B, T + 1), the lowest key of the group before that of the last event.
        after_pedal: (B, T + 1) bool, the last event is a pedal, or there is none.
        future_from: (B, T + 2), as `future_from` returns it.
    """

    query: Tensor
    stored: Tensor
    values: Tensor
    last_key: Tensor
    below: Tensor
    after_pedal: Tensor
    future_from: Tensor

    def at(self, states: Tensor) -> Remembered:
        """Return the same memory with some of the states alone, (B, N)."""
        index = states[:, None, :, None].expand(-1, *self.query.shape[1:2], -1, self.query.shape[-1])
        of_states = {name: getattr(self, name).gather(1, states) for name in ("last_key", "below", "after_pedal")}
        return replace(self, query=self.query.gather(2, index), **of_states)


@dataclass
class Recalled:
    """What is read of the memory at N states.

    Attributes:
        context: (B, N, D), added to the context.
        key: (B, N, D), added to the context of the key head.
        pointed: (B, N, G, K), the share of the attention of each of the `POINTED` heads on each key.
    """

    context: Tensor
    key: Tensor
    pointed: Tensor


@dataclass
class Groups:
    """The groups that T events belong to: (B, T) each. A pedal counts to the group before it.

    Attributes:
        note: bool, the event is a note.
        start: bool, the event begins a group.
        number: The number of the group, from 1; 0 before the first one.
        first: The place of the first event of the group.
        wait: The class of the time since the note before.
        below: The lowest key of the group before, `LOW_BEFORE` if there is none.
        below_two: The lowest key of the group before that.
    """

    note: Tensor
    start: Tensor
    number: Tensor
    first: Tensor
    wait: Tensor
    below: Tensor
    below_two: Tensor


def find_groups(key: Tensor, onset: Tensor, wait_edges: Tensor) -> Groups:
    """Return the groups of events.

    Args:
        key: (B, T).
        onset: (B, T), in ticks.
        wait_edges: The ticks at which the classes of the time since the note before begin, without the first.
    """
    batch, length = key.shape
    note = key < KEYS
    last_note = torch.where(note, onset, -NO_ONSET).cummax(1).values[:, :-1]
    since = onset - F.pad(last_note, (1, 0), value=-NO_ONSET)
    start = note & (since >= GROUP_TICKS)
    number = start.cumsum(1)
    place = torch.arange(length, device=key.device)
    first = torch.where(start, place, 0).cummax(1).values
    low = torch.full((batch, int(number.max()) + 1), NUM_KEYS, device=key.device)
    low = low.scatter_reduce(1, number, torch.where(note, key, NUM_KEYS), "amin")
    low[:, 0] = LOW_BEFORE
    below, below_two = (low.gather(1, (number - back).clamp(min=0)) for back in (1, 2))
    return Groups(note, start, number, first, torch.bucketize(since, wait_edges, right=True), below, below_two)


def future_from(groups: Groups) -> Tensor:
    """Return for each place the first event whose fingerprints tell of nothing before the place: (B, T + 2).

    The last two places are those after all events and of no future; there the answer is T or more, as wherever no event
    is late enough. A fingerprint of events reaches back by one more event than it has taps, because an interval has two
    ends; one of groups by two more groups, because the first one may be cut.
    """
    length = groups.number.shape[1]
    never = groups.number.new_full((len(groups.number), 1), NO_ONSET)
    numbers = torch.cat([torch.where(groups.note, groups.number, NO_ONSET), never, never], 1)
    first = numbers.flip(1).cummin(1).values.flip(1)  # the group of the first note from each place on
    by_groups = torch.searchsorted(groups.number.contiguous(), first + GROUP_TAPS + 2)
    by_events = torch.arange(length + 2, device=never.device) + EVENT_TAPS + 1
    return torch.maximum(by_groups, by_events)


class EventFingerprints(nn.Module):
    """Fingerprints of the last `EVENT_TAPS` events by kind and shift: (B, N) → (B, heads, N, F)."""

    def __init__(self, kinds: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.kind = nn.Embedding(kinds, FEATURES)
        self.shift = nn.Embedding(CLASSES["shift"], FEATURES)
        self.taps = nn.Conv1d(FEATURES, heads * FINGERPRINT, EVENT_TAPS, bias=False)
        nn.init.normal_(self.kind.weight)
        nn.init.normal_(self.shift.weight, std=TIME_SCALE)
        with torch.no_grad():
            self.taps.weight.mul_(0.85 ** torch.arange(EVENT_TAPS - 1, -1, -1).float())

    def forward(self, kind: Tensor, shift: Tensor) -> Tensor:
        """Return fingerprints; `kind` is (B, T + 1), the first of which marks the start, and `shift` is (B, T)."""
        x = self.kind(kind) + F.pad(self.shift(shift), (0, 0, 1, 0))
        z = self.taps(F.pad(x.transpose(1, 2), (EVENT_TAPS - 1, 0)))
        return F.normalize(z.view(len(z), self.heads, FINGERPRINT, -1).transpose(2, 3), dim=-1)


class GroupFingerprints(nn.Module):
    """Fingerprints of the last `GROUP_TAPS` groups by the kinds of their notes and the time before them."""

    def __init__(self, kinds: int) -> None:
        super().__init__()
        self.kind = nn.Embedding(kinds, FEATURES)
        self.wait = nn.Embedding(WAITS, FEATURES)
        self.taps = nn.Parameter(torch.randn(GROUP_TAPS, FEATURES, FINGERPRINT) / math.sqrt(FEATURES))
        nn.init.normal_(self.kind.weight)
        nn.init.normal_(self.wait.weight, std=TIME_SCALE)
        with torch.no_grad():
            self.taps.mul_(0.5 ** torch.arange(GROUP_TAPS).float()[:, None, None])

    def forward(self, groups: Groups, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Return fingerprints of the last groups at each state and of those before the group of each event.

        Args:
            groups: The groups of T events.
            kind: (B, T), what an event is to its group.

        Returns:
            (B, T + 1, F) and (B, T, F); all 0 where there is no group.
        """
        note, start, number = groups.note[..., None], groups.start[..., None], groups.number
        x = self.kind(kind) * note + self.wait(groups.wait) * start
        batch, _, size = x.shape
        bags = x.new_zeros(batch, int(number.max()) + 1, size).scatter_add(1, number[..., None].expand_as(x), x)
        total, first = x.cumsum(1), groups.first[..., None].expand_as(x)
        so_far = total - (total.gather(1, first) - x.gather(1, first))  # of the group being struck: what is known yet
        rest = sum(
            (F.pad(bags, (0, 0, back, 0))[:, : bags.shape[1]] @ self.taps[back] for back in range(1, GROUP_TAPS)),
            torch.zeros((), device=x.device),
        )
        whole, index = rest + bags @ self.taps[0], number[..., None].expand(-1, -1, FINGERPRINT)
        stored = whole.gather(1, (index - 1).clamp(min=0)) * (index > 0)
        query = so_far @ self.taps[0] + rest.gather(1, index)
        return F.pad(F.normalize(query, dim=-1), (0, 0, 1, 0)), F.normalize(stored, dim=-1)


def laid(roll: Tensor, reference: Tensor) -> Tensor:
    """Return a roll of intervals (..., K) from reference keys (...) as one of keys; what leaves the piano is lost."""
    at = torch.arange(KEYS, device=roll.device) - reference[..., None] + ROLL_CENTRE
    fits = (at >= 0) & (at < NUM_KEYS)
    keys: Tensor = roll.gather(-1, at.clamp(0, NUM_KEYS - 1)) * fits
    return F.pad(keys, (0, NUM_KEYS - KEYS))


def relative_class(interval: Tensor) -> Tensor:
    """Return the place of intervals (...) in a roll of intervals; those that are too wide stand at its ends."""
    return (interval + ROLL_CENTRE).clamp(0, NUM_KEYS - 1)


class Memory(nn.Module):
    """The memory of the events of a window, and the head that points at keys.

    Attributes:
        wait_edges: The ticks at which the classes of the time before a group begin, without the first.
    """

    wait_edges: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.event_keys, self.event_intervals = (
            EventFingerprints(kinds, EVENT_HEADS // 2) for kinds in (START_KEY + 1, STEPS)
        )
        self.group_keys, self.group_intervals = GroupFingerprints(KEYS), GroupFingerprints(INTERVALS)
        # groups are looked up sharply from the start: one that begins softly takes long to learn
        scale = torch.tensor([12.0] * EVENT_HEADS + [40.0] * GROUP_HEADS)
        self.log_scale = nn.Parameter(scale.log())
        self.null = nn.Parameter(torch.tensor([0.75] * EVENT_HEADS + [0.9] * GROUP_HEADS))  # a share of the scale
        self.event_values, self.group_values = (
            nn.ModuleDict({name: nn.Embedding(CLASSES[name], VALUE) for name in VALUE_FIELDS}) for _ in range(2)
        )
        self.group_start = nn.Embedding(2, VALUE)
        self.to_context = nn.Linear(MEMORY_HEADS * (VALUE + NUM_KEYS + 1), size, bias=False)
        self.to_key = nn.Linear(MEMORY_HEADS * (NUM_KEYS + 1), size, bias=False)
        self.gate = nn.Linear(size, 1 + len(POINTED))
        self.gate_shift = nn.Embedding(SHIFT_CLASSES, size)
        for layer in (self.to_context, self.to_key, self.gate, self.gate_shift):
            nn.init.zeros_(layer.weight)
        with torch.no_grad():
            self.gate.bias.copy_(torch.tensor([math.log(2.0), *[0.0] * len(POINTED)]))
        self.register_buffer("wait_edges", torch.as_tensor(SHIFT_BINS.edges[1:-1]), persistent=False)

    def remember(self, fields: dict[str, Tensor], onset: Tensor) -> Remembered:
        """Return the memory of windows, given the classes of their fields and their onsets in ticks: (B, T) each."""
        key = fields["key"]
        before = F.pad(key[:, :-1], (1, 0))
        pedal = key >= KEYS
        pedal = pedal | F.pad(pedal[:, :-1], (1, 0))
        step = (key - before).clamp(-INTERVAL_REACH, INTERVAL_REACH) + INTERVAL_REACH
        step[:, 0] = INTERVAL_REACH
        step = torch.where(pedal, NO_STEP, step)
        events = torch.cat(
            [
                self.event_keys(F.pad(key, (1, 0), value=START_KEY), fields["shift"]),
                self.event_intervals(F.pad(step, (1, 0), value=START_STEP), fields["shift"]),
            ],
            1,
        )
        groups = find_groups(key, onset, self.wait_edges)
        lowest = (key - groups.below).clamp(-INTERVAL_REACH, INTERVAL_REACH) + INTERVAL_REACH
        looked_up, stored = zip(
            self.group_keys(groups, key.clamp(max=KEYS - 1)), self.group_intervals(groups, lowest), strict=True
        )
        known = ~pedal
        known[:, 0] = False  # no event lies before
        last = key.shape[1]
        return Remembered(
            query=torch.cat([events, torch.stack(looked_up, 1)], 1),
            stored=torch.cat([events[:, :, :last], torch.stack(stored, 1)], 1),
            values=self._values(fields, groups, relative_class(key - before), known),
            last_key=F.pad(key, (1, 0)).clamp(max=KEYS - 1),
            below=F.pad(groups.below, (1, 0), value=LOW_BEFORE),
            after_pedal=F.pad(key >= KEYS, (1, 0), value=True),
            future_from=future_from(groups),
        )

    def _values(self, fields: dict[str, Tensor], groups: Groups, step: Tensor, known: Tensor) -> Tensor:
        """Return what is read of each event; `step` is the place of its interval, where that is `known`."""
        key = fields["key"]
        followed, in_group = (
            sum((values[name](fields[name]) for name in VALUE_FIELDS), torch.zeros((), device=key.device))
            for values in (self.event_values, self.group_values)
        )
        in_group = in_group + self.group_start(groups.start.long())
        keys = F.one_hot(key, NUM_KEYS).to(followed.dtype)
        steps = F.one_hot(step, NUM_KEYS) * known[..., None]
        group_steps = F.one_hot(relative_class(key - groups.below_two), NUM_KEYS) * groups.note[..., None]
        one = torch.ones_like(followed[..., :1])
        half = EVENT_HEADS // 2
        rolls = [*[(followed, keys)] * half, *[(followed, steps)] * half, (in_group, keys), (in_group, group_steps)]
        return torch.stack([torch.cat([value, roll, one], -1) for value, roll in rolls], 1)

    def recall(self, remembered: Remembered, allowed: Tensor | None = None) -> Recalled:
        """Look up the last events at N states.

        Args:
            remembered: The memory, with all T + 1 states or, if `allowed` is given, N of them.
            allowed: (B, N, T) bool, the events that each state may look at; if None, the events before it.
        """
        query, stored, values = remembered.query, remembered.stored, remembered.values
        scale = self.log_scale.exp()
        batch, heads, _, size = stored.shape
        # entry 0 stands for nothing; its score is split into two numbers, because bfloat16 is coarse
        null = (self.null * scale).float()
        coarse = null.to(torch.bfloat16).to(null.dtype)
        width = -(-values.shape[-1] // 16) * 16
        one = torch.ones_like(query[..., :1])
        query = torch.cat([query * scale.view(1, -1, 1, 1), one, one], -1)
        nothing = torch.cat([null.new_zeros(heads, size), torch.stack([coarse, null - coarse], 1)], 1)
        stored = torch.cat([nothing[None, :, None].expand(batch, -1, -1, -1), F.pad(stored, (0, 2))], 2)
        query, stored = (F.pad(x, (0, width - x.shape[-1])) for x in (query, stored))
        values = F.pad(values, (0, width - values.shape[-1], 1, 0))
        mask = None if allowed is None else F.pad(allowed, (1, 0), value=True)[:, None]
        read = F.scaled_dot_product_attention(query, stored, values, mask, is_causal=mask is None, scale=1.0)
        return self._recalled(remembered, read.float())

    def _recalled(self, remembered: Remembered, read: Tensor) -> Recalled:
        """Return what the heads read, (B, M, N, V + K + 1), with all rolls as rolls of keys."""
        value, roll, taken = read[..., :VALUE], read[..., VALUE : VALUE + NUM_KEYS], read[..., VALUE + NUM_KEYS]
        half = EVENT_HEADS // 2
        steps = torch.stack([laid(roll[:, head], remembered.last_key) for head in range(half, EVENT_HEADS)], 1)
        steps = steps * ~remembered.after_pedal[:, None, :, None]
        group_steps = laid(roll[:, -1], remembered.below)[:, None]
        rolls = torch.cat([roll[:, :half], steps, roll[:, -2:-1], group_steps], 1).transpose(1, 2)  # (B, N, M, K)
        of_keys = torch.cat([rolls.flatten(2), taken.transpose(1, 2)], -1)
        return Recalled(
            self.to_context(torch.cat([value.transpose(1, 2).flatten(2), of_keys], -1)),
            self.to_key(of_keys),
            rolls[:, :, -GROUP_HEADS:],
        )

    def point(self, logits: Tensor, context: Tensor, shift: Tensor, pointed: Tensor) -> Tensor:
        """Return the logarithms of the key's probabilities, with what is pointed at mixed in: (..., K).

        A probability is at least 1e-9, so that no key is impossible.

        Args:
            logits: (..., K), those of the key head.
            context: (..., D), what they are made of.
            shift: (...), the class of the token's shift.
            pointed: (..., G, K), as in `Recalled`.
        """
        share = self.gate(F.gelu(context + self.gate_shift(shift))).float().softmax(-1)
        own, share = share[..., :1], share[..., 1:]
        own = own + (share * (1 - pointed.sum(-1))).sum(-1, keepdim=True)
        mixed = own * logits.float().softmax(-1) + (share[..., None] * pointed).sum(-2)
        return torch.as_tensor(mixed.clamp(min=LEAST_CHANCE).log())
