"""The network: two independent recurrent stacks whose outputs are fused by a small network before the heads.

The forward stack reads the past, the backward stack reads the future from its end towards the gap, like the two
language models of ELMo (Peters et al. 2018, arXiv:1802.05365, sec. 3.1). In a stacked `nn.LSTM(bidirectional=True)` the
second layer would see the tokens that are to be predicted.

Shapes: B windows, T tokens, K = 91 keys and pedals, H hidden units, D head units.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from music_generator.music.tokens import DURATION_BINS, END, NUM_KEYS, RESUME, SHIFT_BINS, SHIFT_CLASSES
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
        resume: (B, T) int64, the first token after the gap that token t lies in, or T where it has no future.
        ends: (B,) bool, the piece ends after the last present token.
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
    ends: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


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

    def read_past(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the context (B, T + 1, D) before each token and after the last, and what `last_events` returns."""
        last_onset, last_release = last_events(batch.key, batch.onset, batch.held, batch.present)
        now = F.pad(batch.onset, (1, 0))
        recency = key_recency(last_onset, last_release, now)
        fields = {name: F.pad(getattr(batch, name), (1, 0)) for name in FIELDS}
        fields["key"][:, 0] = batch.start
        hidden = self.forward_stack(self.forward_input(fields, batch.composer[:, None], recency))
        return self.context(torch.cat([hidden, recency.to(hidden.dtype)], -1)), last_onset, last_release

    def read_future(self, batch: Batch) -> Tensor:
        """Return the context of the future from token r on, r = 0 … T - 1: (B, T, D); r's shift is not used."""
        count = batch.present.sum(1, keepdim=True)
        place = torch.arange(batch.key.shape[1], device=batch.key.device)
        # the tokens from the last to the first, then the padding, which so precedes no token; its own inverse
        back = torch.where(place < count, count - 1 - place, place)
        fields = {name: F.pad(getattr(batch, name).gather(1, back), (1, 0)) for name in FIELDS}
        fields["key"][:, 0] = batch.stop
        # read backwards, a shift is the time to the token read before; it is not known for the last token of the window
        to_next = F.pad((batch.shift * batch.present)[:, 1:], (0, 1))
        fields["shift"] = F.pad(to_next.gather(1, back), (1, 0))
        from_end = (batch.onset.gather(1, (count - 1).clamp(min=0)) - batch.onset).gather(1, back)
        last_onset, _ = last_events(batch.key.gather(1, back), from_end, batch.held, batch.present.gather(1, back))
        now = F.pad(from_end, (1, 0))
        # clamped because time does not advance in the padding, which comes last
        recency = torch.exp((last_onset - now[..., None]).clamp(max=0) / RECENCY_TICKS)
        hidden = self.backward_stack(self.backward_input(fields, batch.composer[:, None], recency))
        context: Tensor = self.future(torch.cat([hidden, recency.to(hidden.dtype)], -1))
        return context[:, 1:].gather(1, back[..., None].expand(-1, -1, context.shape[-1]))

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

    def logits(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Compute all logits of a batch.

        Returns:
            Logits of each field of each token, (B, T, classes); of the shift at the resume token of each gap that has a
            future, (N, classes) in order of (window, gap); and of the shift after the last token, (B, classes).
        """
        context, last_onset, last_release = self.read_past(batch)
        batch_size, length = batch.key.shape
        has_future = batch.resume < length
        resume = batch.resume.clamp(max=length - 1)
        before = F.pad(batch.onset, (1, 0))[:, :-1]
        resume_onset = torch.where(has_future, batch.onset.gather(1, resume), NO_ONSET)
        to_go, key_to_go = (resume_onset - now for now in (before, batch.onset))
        at_end = context[torch.arange(batch_size, device=context.device), batch.present.sum(1)]
        main = context[:, :-1]
        key_extra = self.key_recency(key_recency(last_onset[:, :-1], last_release[:, :-1], batch.onset))
        rows, gap_ends = self._gap_ends(batch)
        at_resume = context[rows, gap_ends]
        if self.config.direction == "both":
            future = self.read_future(batch)
            of_gap = future.gather(1, resume[..., None].expand(-1, -1, future.shape[-1]))
            fused = self.fuse(main, of_gap, self.time_to_go(self.time_to_go_bin(to_go)))
            main = torch.where(has_future[..., None], fused, main + self.time_to_go.weight[NO_FUTURE])
            until_next = self._until_next(batch, resume, has_future)
            key_extra = (
                key_extra + self.key_time_to_go(self.time_to_go_bin(key_to_go)) + self.key_next(nearness(until_next))
            )
            again = until_next.gather(2, batch.key.clamp(max=NUM_KEYS - 1)[..., None]).squeeze(2)
            duration_extra = self.next_onset(self.time_to_go_bin(again))
            last = self._last_shift(batch, rows, gap_ends)
            at_resume = self.fuse(at_resume, future[rows, gap_ends], self.time_to_go(self.time_to_go_bin(last)))
            at_end = at_end + self.time_to_go.weight[NO_FUTURE]
        else:
            has_future = torch.zeros_like(has_future)
            last = torch.zeros_like(gap_ends)
            duration_extra = torch.zeros_like(key_extra)
        fields = {name: getattr(batch, name) for name in FIELDS}
        contexts = {"shift": main, "key": main + key_extra, "velocity": main, "duration": main + duration_extra}
        logits = {name: self.heads[name](contexts[name], fields).float() for name in FIELDS}
        logits["shift"] = self.mask_shift(logits["shift"], to_go, has_future)
        some = torch.ones_like(gap_ends, dtype=torch.bool)
        resumed = self.mask_shift(self.heads["shift"](at_resume, {}, rows, batch_size).float(), last, some)
        none = torch.zeros_like(batch.ends)
        ended = self.mask_shift(self.heads["shift"](at_end, {}).float(), torch.zeros_like(batch.start), none)
        return logits, resumed, ended

    @staticmethod
    def _until_next(batch: Batch, resume: Tensor, has_future: Tensor) -> Tensor:
        """Return the ticks from each token's onset to each key's next onset in its gap's future, (B, T, K)."""
        onsets = next_onsets(batch.key, batch.onset, batch.present)
        of_gap = onsets.gather(1, resume[..., None].expand(-1, -1, NUM_KEYS))
        return torch.where(has_future[..., None], of_gap, NO_ONSET) - batch.onset[..., None]

    @staticmethod
    def _gap_ends(batch: Batch) -> tuple[Tensor, Tensor]:
        """Return window and resume token of each gap that has a future: two of (N,)."""
        length = batch.key.shape[1]
        ends = torch.zeros(len(batch.key), length + 1, dtype=torch.bool, device=batch.key.device)
        ends.scatter_(1, batch.resume, True)
        rows, gap_ends = ends[:, :length].nonzero(as_tuple=True)
        return rows, gap_ends

    @staticmethod
    def _last_shift(batch: Batch, rows: Tensor, gap_ends: Tensor) -> Tensor:
        """Return the ticks from the last token before each resume token to it: (N,)."""
        return batch.onset[rows, gap_ends] - F.pad(batch.onset, (1, 0))[rows, gap_ends]

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
        """Return sums over the batch: each field's `nats`, those of the `decisions`, and the number of `tokens`.

        The decisions are to resume at the end of each gap that has a future, and to end with the piece.
        """
        logits, resumed, ended = self.logits(batch)
        sums = {name: (nats * batch.present).sum() for name, nats in self.nats(logits, batch).items()}
        sums["decisions"] = (-ended.log_softmax(-1)[:, END] * batch.ends).sum()
        if self.config.direction == "both":
            sums["decisions"] = sums["decisions"] - resumed.log_softmax(-1)[:, RESUME].sum()
        sums["tokens"] = batch.present.sum()
        return sums
