"""The network: two independent recurrent stacks whose outputs are fused by a small network before the heads.

The forward stack reads the past, the backward stack reads the future from its end towards the gap, like the two
language models of ELMo (Peters et al. 2018, arXiv:1802.05365, sec. 3.1). In a stacked `nn.LSTM(bidirectional=True)` the
second layer would see the tokens that are to be predicted.

Shapes: B windows, T tokens, K = 91 keys and pedals, H hidden units, D head units.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from music_generator.model.config import (
    CLASSES,
    FIELDS,
    INPUT_CLASSES,
    MASKED,
    NO_FUTURE,
    NO_ONSET,
    RECENCY_SIZE,
    RECENCY_TICKS,
    RELEASE_TICKS,
    TIME_TO_GO_EDGES,
    ModelConfig,
)
from music_generator.model.memory import Memory, Recalled, Remembered
from music_generator.music.tokens import (
    DENSITIES,
    DURATION_BINS,
    END,
    KEYS,
    LOUDNESSES,
    NUM_KEYS,
    RESUME,
    SHIFT_BINS,
    SHIFT_CLASSES,
)
from music_generator.parallel import WHOLE, Shard

CELL_CLASSES = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@dataclass
class Batch:
    """Windows of tokens and the gaps they are cut into, as tensors.

    Attributes:
        shift, key, velocity, duration: (B, T) int64, the class of each field.
        onset: (B, T) int64 ticks from the window's start.
        held: (B, T) int64 ticks, how long the key is held.
        present: (B, T) bool, False past the end of a short piece.
        start, stop: (B,) int64, the input key (`EDGE_OF_PIECE` or `CUT`) before and after the window.
        composer: (B,) int64, 0 if not known.
        resume: (B, T) int64, the first token after the gap that token t lies in. The number of present tokens stands
            for the end of the piece, a future in which nothing comes, and T + 1 for no future.
        gap_ends: (B, T + 1) bool, a gap that has a future ends before this token.
        kept: (B, T) bool, the token is given, as a future, to the gaps before it.
        thinned: (B,) int64, the future holds all tokens from this one on, and before it only those that are kept.
        density, loudness: (B, T) int64, classes that the gap of token t is told; 0 if it is not.
        ends: (B,) bool, the piece ends after the last present token.
        plain: (B,) bool, neither velocities nor pedals are learnt from the window.
    """

    shift: Tensor
    key: Tensor
    velocity: Tensor
    duration: Tensor
    onset: Tensor
    held: Tensor
    present: Tensor
    start: Tensor
    stop: Tensor
    composer: Tensor
    resume: Tensor
    gap_ends: Tensor
    kept: Tensor
    thinned: Tensor
    density: Tensor
    loudness: Tensor
    ends: Tensor
    plain: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})

    def pinned(self) -> Batch:
        """Return the same batch in page-locked memory, from which copies to a GPU do not wait."""
        return Batch(**{name: value.pin_memory() for name, value in vars(self).items()})

    @property
    def fields(self) -> dict[str, Tensor]:
        """The class of each field, by name: (B, T) each."""
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def has_future(self) -> Tensor:
        """Whether token t lies in a gap that has a future: (B, T) bool."""
        return self.resume <= self.key.shape[1]

    @property
    def in_future(self) -> Tensor:
        """Whether token t belongs to the future of the gaps before it: (B, T) bool."""
        place = torch.arange(self.key.shape[1], device=self.key.device)
        return self.present & (self.kept | (place >= self.thinned[:, None]))

    @property
    def starts(self) -> Tensor:
        """The onset of token r in ticks, r = 0 … T; past the last token that of the last one: (B, T + 1) int64."""
        count = self.present.sum(1, keepdim=True)
        last = self.onset.gather(1, (count - 1).clamp(min=0))
        place = torch.arange(self.key.shape[1] + 1, device=self.key.device)
        return torch.where(place < count, F.pad(self.onset, (0, 1)), last)


@dataclass
class Reading:
    """The past of a batch as the network reads it, whatever future it is given next.

    Attributes:
        batch: The batch.
        context: (B, T + 1, D), of the past before each token and after the last.
        told: (B, T, D), of the density and the loudness that the gap of each token is told; added to its context.
        key_recency: (B, T, D), of each key's last onset and release; added to the context of the key head.
        remembered: The memory; None for a network without one.
    """

    batch: Batch
    context: Tensor
    told: Tensor
    key_recency: Tensor
    remembered: Remembered | None


def last_events(key: Tensor, onset: Tensor, held: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return each key's last onset and release in ticks, before each token and after all: two of (B, T + 1, K).

    Both are far in the past for a key that has had no onset yet.
    """
    batch, length = key.shape
    index = torch.zeros(batch, length + 1, NUM_KEYS, dtype=torch.int64, device=key.device)
    order = torch.arange(1, length + 1, device=key.device).expand(batch, -1)
    index[:, 1:].scatter_(2, key.clamp(max=NUM_KEYS - 1)[..., None], (order * present)[..., None])
    index = index.cummax(1).values
    never = onset.new_full((batch, 1), -(10**6))
    flat = index.flatten(1)
    last_onset = torch.cat([never, onset], 1).gather(1, flat).view_as(index)
    last_release = torch.cat([never, onset + held], 1).gather(1, flat).view_as(index)
    return last_onset, last_release


def next_onsets(key: Tensor, onset: Tensor, present: Tensor) -> Tensor:
    """Return each key's next onset in ticks, counted from each token on and including it: (B, T, K) int64.

    It is `NO_ONSET` for a key that has no further onset.
    """
    batch, length = key.shape
    index = torch.full((batch, length, NUM_KEYS), length, dtype=torch.int64, device=key.device)
    place = torch.arange(length, device=key.device).expand(batch, -1)
    index.scatter_(2, key.clamp(max=NUM_KEYS - 1)[..., None], torch.where(present, place, length)[..., None])
    index = index.flip(1).cummin(1).values.flip(1)
    never = onset.new_full((batch, 1), NO_ONSET)
    return torch.cat([onset, never], 1).gather(1, index.flatten(1)).view_as(index)


def key_recency(last_onset: Tensor, last_release: Tensor, now: Tensor) -> Tensor:
    """Return recency of onset, nearness of release and "is held" of each key at tick `now`.

    Args:
        last_onset, last_release: (..., K) ticks.
        now: (...) ticks.

    Returns:
        (..., 3 K), each in [0, 1].
    """
    now = now[..., None]
    onset_recency = torch.exp((last_onset - now) / RECENCY_TICKS)
    left = (last_release - now).float()
    is_held = (left > 0).float()
    return torch.cat([onset_recency, torch.exp(-left.clamp(min=0) / RELEASE_TICKS) * is_held, is_held], -1)


def nearness(ticks: Tensor) -> Tensor:
    """Return how near an onset is that comes in `ticks`: 1 now, falling towards 0."""
    return torch.exp(-ticks / RECENCY_TICKS)


class LockedDropout(nn.Module):
    """Dropout of the same units at every token of a window (Gal & Ghahramani 2016, arXiv:1512.05287): (B, ..., D).

    If the B windows are a `shard` of a batch, masks are drawn for the whole batch, so that they do not depend on the
    number of shards.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.shard = WHOLE

    def forward(self, x: Tensor, rows: Tensor | None = None, windows: int = 0) -> Tensor:
        """Apply dropout; with `rows`, x is (N, D) and row n belongs to window `rows[n]` of `windows`."""
        if not self.training or not self.share:
            return x
        count = (len(x) if rows is None else windows) * self.shard.count
        drawn = x.new_empty(count, *[1] * (x.ndim - 2), x.shape[-1]).bernoulli_(1 - self.share)
        kept = drawn[self.shard.index - 1 :: self.shard.count] / (1 - self.share)
        return x * (kept if rows is None else kept[rows])


def recurrence_precision(device: str) -> AbstractContextManager[Any]:
    """Return a context in which recurrent layers have gradients of any size.

    On CUDA, autocast of any type makes cuDNN compute them in float16, whose smallest numbers are as large as the
    gradients of a mean over many tokens. There they stay in float32, which cuDNN multiplies in TF32.
    """
    return torch.autocast(device, enabled=False) if device == "cuda" else nullcontext()


class Stack(nn.Module):
    """Recurrent layers, each reading the one below; the output is the sum of all: (B, T, in) → (B, T, H)."""

    def __init__(self, cell: str, layers: int, inputs: int, size: int, dropout: float) -> None:
        super().__init__()
        make = CELL_CLASSES[cell]
        self.layers = nn.ModuleList(make(inputs if i == 0 else size, size, batch_first=True) for i in range(layers))
        self.dropout = LockedDropout(dropout)
        for name, weight in self.named_parameters():
            if "weight_hh" in name:
                for gate in torch.split(weight.data, size):
                    nn.init.orthogonal_(gate)
            elif "bias_ih" in name and cell == "lstm":
                weight.data[size : 2 * size] = 1.0  # forget gates begin open

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        with recurrence_precision(x.device.type):
            x = self.dropout(x)
            for layer in self.layers:
                x = self.dropout(layer(x)[0])
                total = x if total is None else total + x
        assert total is not None
        return total


class TokenInput(nn.Module):
    """Sum of the embeddings of the fields and the composer and of a projection of the recency: → (B, T, in)."""

    def __init__(self, config: ModelConfig, recency_size: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({name: nn.Embedding(n, config.input_size) for name, n in INPUT_CLASSES.items()})
        self.composer = nn.Embedding(1 + len(config.composers), config.input_size)
        self.recency = nn.Linear(recency_size, config.input_size)
        for embedding in (*self.embeddings.values(), self.composer):
            assert isinstance(embedding, nn.Embedding)
            nn.init.normal_(embedding.weight, std=0.5)
        nn.init.zeros_(self.composer.weight)

    def forward(self, fields: dict[str, Tensor], composer: Tensor, recency: Tensor) -> Tensor:
        x = self.recency(recency) + self.composer(composer)
        for name in FIELDS:
            x = x + self.embeddings[name](fields[name])
        return torch.as_tensor(x)


class Head(nn.Module):
    """Logits of one field given the context and the fields drawn before it: (..., D) → (..., classes)."""

    def __init__(self, given: tuple[str, ...], classes: int, size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = LockedDropout(dropout)
        self.given = nn.ModuleDict({name: nn.Embedding(CLASSES[name], size) for name in given})
        self.hidden = nn.Linear(size, size)
        self.out = nn.Linear(size, classes)
        for embedding in self.given.values():
            assert isinstance(embedding, nn.Embedding)
            nn.init.normal_(embedding.weight, std=0.5)

    def forward(
        self, context: Tensor, fields: dict[str, Tensor], rows: Tensor | None = None, windows: int = 0
    ) -> Tensor:
        """Return the logits; `rows` and `windows` are those of `LockedDropout`."""
        for name, embedding in self.given.items():
            context = context + embedding(fields[name])
        x = self.dropout(F.gelu(context), rows, windows)
        logits: Tensor = self.out(F.gelu(self.hidden(x)) + x)
        return logits


class Network(nn.Module):
    """Distributions of tokens given the past and, if there is one, the future; `Batch` is its input."""

    shift_log_widths: Tensor  # (classes), 0 for the classes that are not bins
    duration_log_widths: Tensor
    shift_first: Tensor  # (bins) the first tick of each
    time_to_go_edges: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size = config.head_size
        self.forward_input = TokenInput(config, RECENCY_SIZE)
        self.forward_stack = Stack(
            config.cell, config.forward_layers, config.input_size, config.forward_size, config.dropout
        )
        self.context = nn.Linear(config.forward_size + RECENCY_SIZE, size)
        self.key_recency = nn.Linear(RECENCY_SIZE, size, bias=False)
        if config.direction == "both":
            self.backward_input = TokenInput(config, NUM_KEYS)
            self.backward_stack = Stack(
                config.cell, config.backward_layers, config.input_size, config.backward_size, config.dropout
            )
            self.future = nn.Linear(config.backward_size + NUM_KEYS, size, bias=False)
            self.time_to_go = nn.Embedding(NO_FUTURE + 1, size)
            self.key_time_to_go = nn.Embedding(NO_FUTURE + 1, size)
            self.fuse_in = nn.Linear(3 * size, size)
            self.fuse_out = nn.Linear(size, size)
            for weight in (self.fuse_out.weight, self.fuse_out.bias):
                nn.init.zeros_(weight)
            # how soon each key comes next in the future, and how soon the drawn key does
            self.key_next = nn.Linear(NUM_KEYS, size, bias=False)
            self.next_onset = nn.Embedding(NO_FUTURE + 1, size)
            for added in (self.time_to_go, self.key_time_to_go, self.key_next, self.next_onset):
                nn.init.zeros_(added.weight)
        if config.memory:
            self.memory = Memory(size)
        if config.steered:
            self.density, self.loudness = nn.Embedding(DENSITIES, size), nn.Embedding(LOUDNESSES, size)
            for told in (self.density, self.loudness):
                nn.init.zeros_(told.weight)
        self.heads = nn.ModuleDict(
            {name: Head(FIELDS[:i], CLASSES[name], size, config.dropout) for i, name in enumerate(FIELDS)}
        )
        for name, bins in (("shift", SHIFT_BINS), ("duration", DURATION_BINS)):
            log_widths = torch.zeros(CLASSES[name])
            log_widths[: len(bins)] = torch.as_tensor(bins.widths).log()
            self.register_buffer(f"{name}_log_widths", log_widths, persistent=False)
        self.register_buffer("shift_first", torch.as_tensor(SHIFT_BINS.edges[:-1]), persistent=False)
        self.register_buffer("time_to_go_edges", torch.as_tensor(TIME_TO_GO_EDGES), persistent=False)

    def take_shard(self, shard: Shard) -> None:
        """Treat batches from now on as this shard (every N-th window) of a larger batch, for the dropout masks."""
        for module in self.modules():
            if isinstance(module, LockedDropout):
                module.shard = shard

    def read(self, batch: Batch) -> Reading:
        """Read the past of every token."""
        last_onset, last_release = last_events(batch.key, batch.onset, batch.held, batch.present)
        recency = key_recency(last_onset, last_release, F.pad(batch.onset, (1, 0)))
        fields = {name: F.pad(value, (1, 0)) for name, value in batch.fields.items()}
        fields["key"][:, 0] = batch.start
        hidden = self.forward_stack(self.forward_input(fields, batch.composer[:, None], recency))
        context = self.context(torch.cat([hidden, recency.to(hidden.dtype)], -1))
        told = torch.zeros((), device=context.device).expand_as(context[:, :-1])
        if self.config.steered:
            told = self.density(batch.density) + self.loudness(batch.loudness)
        at_onset = key_recency(last_onset[:, :-1], last_release[:, :-1], batch.onset)
        remembered = self.memory.remember(batch.fields, batch.onset) if self.config.memory else None
        return Reading(batch, context, told, self.key_recency(at_onset), remembered)

    def read_future(self, batch: Batch) -> Tensor:
        """Return the context of the future from token r on, r = 0 … T: (B, T + 1, D); r's shift is not used.

        After the last token it is that of the end of the piece, or of a cut. Tokens that are not `in_future` are left
        out.
        """
        length = batch.key.shape[1]
        read = batch.in_future
        place = torch.arange(length, device=batch.key.device)
        # the tokens that are read, from the last to the first, then the others, which so precede no token
        back = torch.where(read, length - 1 - place, length + place).argsort(1)
        count = read.sum(1, keepdim=True)
        fields = {name: F.pad(value.gather(1, back), (1, 0)) for name, value in batch.fields.items()}
        fields["key"][:, 0] = batch.stop
        last = batch.onset.gather(1, back[:, :1])
        # clamped because time does not advance in what is not read, which comes last
        from_end = torch.where(place < count, last - batch.onset.gather(1, back), 0).cummax(1).values
        # read backwards, a shift is the time to the token read before; it is not known for the last token
        shift = torch.bucketize(from_end.diff(dim=1, prepend=from_end[:, :1]), self.shift_first[1:], right=True)
        fields["shift"] = F.pad(shift, (1, 0))
        last_onset, _ = last_events(
            batch.key.gather(1, back), from_end, torch.zeros_like(from_end), read.gather(1, back)
        )
        recency = torch.exp((last_onset - F.pad(from_end, (1, 0))[..., None]).clamp(max=0) / RECENCY_TICKS)
        hidden = self.backward_stack(self.backward_input(fields, batch.composer[:, None], recency))
        context: Tensor = self.future(torch.cat([hidden, recency.to(hidden.dtype)], -1))
        from_here = F.pad(read.flip(1).cumsum(1).flip(1), (0, 1))  # tokens that are read from r on
        return context.gather(1, from_here[..., None].expand(-1, -1, context.shape[-1]))

    def time_to_go_bin(self, ticks: Tensor) -> Tensor:
        """Return the class of a time to go in ticks; `NO_FUTURE` if it is near `NO_ONSET`."""
        return torch.bucketize(ticks, self.time_to_go_edges, right=True)

    def fuse(self, past: Tensor, future: Tensor, time: Tensor) -> Tensor:
        """Return one context of past, future and the embedded time to go: three times (..., D) → (..., D)."""
        fused = self.fuse_out(F.gelu(self.fuse_in(torch.cat([past, future, time], -1))))
        return past + future + time + torch.as_tensor(fused)

    def mask_shift(self, logits: Tensor, ticks_to_go: Tensor, has_future: Tensor) -> Tensor:
        """Mask shifts past the future's first onset and the end of the piece or, without a future, resuming."""
        late = (self.shift_first > ticks_to_go[..., None]) & has_future[..., None]
        late = F.pad(late, (0, SHIFT_CLASSES - late.shape[-1]))
        late[..., RESUME] = ~has_future
        late[..., END] = has_future
        return logits.masked_fill(late, MASKED)

    def without_future(self, reading: Reading) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits of each token's fields given the past alone.

        Returns:
            Logits of each field of each token, (B, T, classes), and of the shift after the last token, (B, classes).
        """
        batch, both = reading.batch, self.config.direction == "both"
        recalled = None
        if reading.remembered is not None:
            recalled = self.memory.recall(reading.remembered, self._within_reach(batch))
        context = reading.context if recalled is None else reading.context + recalled.context
        rows, count = torch.arange(len(context), device=context.device), batch.present.sum(1)
        at_end = context[rows, count] + reading.told[rows, (count - 1).clamp(min=0)]
        main, key_extra, duration_extra = context[:, :-1] + reading.told, reading.key_recency, None
        if both:
            none = self.time_to_go.weight[NO_FUTURE]
            main, at_end = main + none, at_end + none
            key_extra = key_extra + self.key_time_to_go.weight[NO_FUTURE]
            duration_extra = self.next_onset.weight[NO_FUTURE]
        logits = self._token_logits(batch, main, key_extra, duration_extra, recalled)
        never = torch.zeros_like(batch.present)
        logits["shift"] = self.mask_shift(logits["shift"], torch.zeros_like(batch.onset), never)
        ended = self.heads["shift"](at_end, {}).float()
        return logits, self.mask_shift(ended, torch.zeros_like(batch.start), never[:, 0])

    def with_future(self, reading: Reading) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits of each token's fields given the past and the future of its gap.

        Returns:
            Logits of each field of each token, (B, T, classes), which mean nothing where there is no future; and of the
            shift at the end of each gap that has a future, (N, classes) in order of (window, gap).
        """
        batch, remembered, recalled = reading.batch, reading.remembered, None
        length = batch.key.shape[1]
        future, context = self.read_future(batch), reading.context[:, :-1]
        if remembered is not None:
            states = torch.arange(length + 1, device=context.device).expand(len(context), -1)
            known = self._known(remembered, batch, states, F.pad(batch.resume, (0, 1), value=length + 1))
            recalled = self.memory.recall(remembered, known)
            context = context + recalled.context[:, :-1]
        resume = batch.resume.clamp(max=length)
        resume_onset = torch.where(batch.has_future, batch.starts.gather(1, resume), NO_ONSET)
        to_go = resume_onset - F.pad(batch.onset, (1, 0))[:, :-1]
        of_gap = future.gather(1, resume[..., None].expand(-1, -1, future.shape[-1]))
        main = self.fuse(context + reading.told, of_gap, self.time_to_go(self.time_to_go_bin(to_go)))
        until_next = self._until_next(batch, resume)
        again = until_next.gather(2, batch.key.clamp(max=NUM_KEYS - 1)[..., None]).squeeze(2)
        key_extra = (
            reading.key_recency
            + self.key_time_to_go(self.time_to_go_bin(resume_onset - batch.onset))
            + self.key_next(nearness(until_next))
        )
        duration_extra = self.next_onset(self.time_to_go_bin(again))
        logits = self._token_logits(batch, main, key_extra, duration_extra, recalled)
        logits["shift"] = self.mask_shift(logits["shift"], to_go, batch.has_future)
        return logits, self._resumed(reading, future)

    def _resumed(self, reading: Reading, future: Tensor) -> Tensor:
        """Return the logits of the shift at the end of each gap that has a future, (N, classes)."""
        batch = reading.batch
        rows, ends = batch.gap_ends.nonzero(as_tuple=True)
        left = batch.starts[rows, ends] - F.pad(batch.onset, (1, 0))[rows, ends]
        context = reading.context[rows, ends] + reading.told[rows, (ends - 1).clamp(min=0)]
        if reading.remembered is not None:
            context = context + self._recalled_at_ends(reading.remembered, batch)
        context = self.fuse(context, future[rows, ends], self.time_to_go(self.time_to_go_bin(left)))
        logits = self.heads["shift"](context, {}, rows, len(batch.key)).float()
        return self.mask_shift(logits, left, torch.ones_like(ends, dtype=torch.bool))

    def _recalled_at_ends(self, remembered: Remembered, batch: Batch) -> Tensor:
        """Return what the memory adds to the context at the end of each gap that has a future, (N, D).

        The state there is also that of the next gap's first token, which has another future.
        """
        rows, ends = batch.gap_ends.nonzero(as_tuple=True)
        order = batch.gap_ends.cumsum(1)[rows, ends] - 1
        states = ends.new_zeros(len(batch.key), max(1, int(batch.gap_ends.sum(1).max())))
        states[rows, order] = ends
        recalled = self.memory.recall(remembered.at(states), self._known(remembered, batch, states, states))
        return recalled.context[rows, order]

    def _token_logits(
        self,
        batch: Batch,
        main: Tensor,
        key_extra: Tensor,
        duration_extra: Tensor | None,
        recalled: Recalled | None,
    ) -> dict[str, Tensor]:
        """Return the logits of each field, (B, T, classes), given the context (B, T, D) of all and of some heads."""
        if recalled is not None:
            key_extra = key_extra + recalled.key[:, :-1]
        contexts = {"shift": main, "key": main + key_extra, "velocity": main, "duration": main}
        if duration_extra is not None:
            contexts["duration"] = main + duration_extra
        logits = {name: self.heads[name](contexts[name], batch.fields).float() for name in FIELDS}
        if recalled is not None:
            logits["key"] = self.memory.point(logits["key"], contexts["key"], batch.shift, recalled.pointed[:, :-1])
        return logits

    def _within_reach(self, batch: Batch) -> Tensor | None:
        """Return the past events that each state may look up, (B, T + 1, T); None if the memory holds all of them."""
        length, reach = batch.key.shape[1], self.config.memory_reach
        if length <= reach:
            return None
        place = torch.arange(length + 1, device=batch.key.device)
        before = place[:, None] - place[:-1]
        return ((before > 0) & (before <= reach)).expand(len(batch.key), -1, -1)

    def _known(self, remembered: Remembered, batch: Batch, states: Tensor, resume: Tensor) -> Tensor:
        """Return the events that states may look up, those before each and those of its future: (B, N, T).

        Args:
            remembered: The memory.
            batch: The batch.
            states: (B, N), the token that each state lies before.
            resume: (B, N), the first token after the gap of each state, as in `Batch`.
        """
        length = batch.key.shape[1]
        place = torch.arange(length, device=batch.key.device)
        future = torch.where(resume <= length, resume.maximum(batch.thinned[:, None]), length + 1)
        first = remembered.future_from.gather(1, future)[..., None]
        before = states[..., None] - place
        past = (before > 0) & (before <= self.config.memory_reach)
        return past | ((place >= first) & batch.present[:, None])

    @staticmethod
    def _until_next(batch: Batch, resume: Tensor) -> Tensor:
        """Return the ticks from each token's onset to each key's next onset in its gap's future, (B, T, K)."""
        onsets = next_onsets(batch.key, batch.onset, batch.in_future)
        onsets = F.pad(onsets, (0, 0, 0, 1), value=NO_ONSET)
        of_gap = onsets.gather(1, resume[..., None].expand(-1, -1, NUM_KEYS))
        return of_gap - batch.onset[..., None]

    def nats(self, logits: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the negative log-likelihood of each field of each token in nats, (B, T) each.

        Times are on a grid of 10 ms, velocities in bins of 4. A time is uniform within its bin, so the logarithm of the
        bin's width is added.
        """
        nats = {}
        for name in FIELDS:
            target = getattr(batch, name)
            nats[name] = F.cross_entropy(logits[name].flatten(0, 1), target.flatten(), reduction="none").view_as(target)
        nats["shift"] = nats["shift"] + self.shift_log_widths[batch.shift]
        nats["duration"] = nats["duration"] + self.duration_log_widths[batch.duration]
        return nats

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums of nats over the batch, of which the loss is all but `tokens`.

        Returns:
            Each field's nats of each token given the past alone, of the windows that are not `plain`, and the number
            of these `tokens`. `others`: the same of the plain windows, in which velocities and pedals do not count, and
            the nats of each token that has a future and is not kept, given that future. `decisions`: the nats of
            resuming at the end of each gap that has a future, given it, and of ending with the piece, given the past
            alone.
        """
        reading = self.read(batch)
        logits, ended = self.without_future(reading)
        nats = self.nats(logits, batch)
        counted = batch.present & ~batch.plain[:, None]
        sums = {name: (value * counted).sum() for name, value in nats.items()}
        sums["tokens"] = counted.sum()
        sums["decisions"] = (-ended.log_softmax(-1)[:, END] * batch.ends).sum()
        others = self._learnt(nats, batch, batch.present & batch.plain[:, None])
        if self.config.direction == "both":
            logits, resumed = self.with_future(reading)
            counted = batch.present & batch.has_future & ~batch.kept
            others = others + self._learnt(self.nats(logits, batch), batch, counted)
            sums["decisions"] = sums["decisions"] - resumed.log_softmax(-1)[:, RESUME].sum()
        return sums | {"others": others}

    @staticmethod
    def _learnt(nats: dict[str, Tensor], batch: Batch, counted: Tensor) -> Tensor:
        """Return the sum of the nats of the counted tokens, in plain windows without pedals and velocities."""
        plain = batch.plain[:, None]
        counted = counted & ~(plain & (batch.key >= KEYS))
        learnt = {name: counted & ~plain if name == "velocity" else counted for name in FIELDS}
        return torch.stack([(nats[name] * learnt[name]).sum() for name in FIELDS]).sum()
