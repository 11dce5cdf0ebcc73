"""The network: two independent recurrent stacks that meet only in the output.

The forward stack reads the past, the backward stack reads the future from its end towards the gap (as the two
language models of ELMo, Peters et al. 2018, arXiv:1802.05365, sec. 3.1). A stacked `nn.LSTM(bidirectional=True)` would
let its second layer see the tokens it is asked for.

Shapes: B windows, T tokens, K = 91 event keys, H hidden units, D head units.
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
    NONE_AHEAD,
    ROLL_AGE_TICKS,
    ROLL_LEFT_TICKS,
    ROLL_SIZE,
    TIME_TO_GO_BINS,
    ModelConfig,
)
from music_generator.music.tokens import DURATION_BINS, END, NUM_KEYS, RESUME, SHIFT_BINS, SHIFT_CLASSES
from music_generator.parallel import WHOLE, Shard

CELL_CLASSES = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@dataclass
class Batch:
    """Windows of token rows and the gaps they are cut into, as tensors.

    `shift`, `key`, `velocity`, `duration`: (B, T) int64 bins; `onset`, `held`: (B, T) int64 ticks from the window's
    start, and how long; `present`: (B, T) bool, False past the end of a short piece; `start`, `stop`: (B,) the input
    key (`EDGE_OF_PIECE` or `CUT`) before and after the window; `composer`: (B,). `resume`: (B, T) the first token after
    the gap that token t lies in, or T where it has no future. `ends`: (B,) bool, the piece ends after the last present
    token.
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
        """The same batch on another device."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def last_events(key: Tensor, onset: Tensor, held: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Onset and release (ticks) of each key's last event before each token and after all: two of (B, T + 1, K).

    Where a key was not struck yet, both are far in the past.
    """
    batch, length = key.shape
    index = torch.zeros(batch, length + 1, NUM_KEYS, dtype=torch.int64, device=key.device)
    order = torch.arange(1, length + 1, device=key.device).expand(batch, -1)
    index[:, 1:].scatter_(2, key.clamp(max=NUM_KEYS - 1)[..., None], (order * present)[..., None])
    index = index.cummax(1).values
    never = onset.new_full((batch, 1), -(10**6))
    flat = index.flatten(1)
    struck = torch.cat([never, onset], 1).gather(1, flat).view_as(index)
    released = torch.cat([never, onset + held], 1).gather(1, flat).view_as(index)
    return struck, released


def next_events(key: Tensor, onset: Tensor, present: Tensor) -> Tensor:
    """Onset (ticks) of each key's next event from each token on, that token's own too: (B, T, K) int64.

    Where a key is not struck any more, it is `NONE_AHEAD`.
    """
    batch, length = key.shape
    index = torch.full((batch, length, NUM_KEYS), length, dtype=torch.int64, device=key.device)
    place = torch.arange(length, device=key.device).expand(batch, -1)
    index.scatter_(2, key.clamp(max=NUM_KEYS - 1)[..., None], torch.where(present, place, length)[..., None])
    index = index.flip(1).cummin(1).values.flip(1)
    never = onset.new_full((batch, 1), int(NONE_AHEAD))
    return torch.cat([onset, never], 1).gather(1, index.flatten(1)).view_as(index)


def recency_roll(struck: Tensor, released: Tensor, now: Tensor) -> Tensor:
    """What each key did last, heard at `now` (ticks, (...)): (..., K), (..., K) → (..., 3 K)."""
    now = now[..., None]
    age = torch.exp((struck - now) / ROLL_AGE_TICKS)
    left = (released - now).float()
    is_held = (left > 0).float()
    return torch.cat([age, torch.exp(-left.clamp(min=0) / ROLL_LEFT_TICKS) * is_held, is_held], -1)


def soon(ticks: Tensor) -> Tensor:
    """How near something is that comes in so many ticks: 1 now, falling towards 0."""
    return torch.exp(-ticks / ROLL_AGE_TICKS)


class LockedDropout(nn.Module):
    """Dropout of the same units at every token of a window (Gal & Ghahramani 2016, arXiv:1512.05287): (B, ..., D).

    Where the B windows are a `shard` of a batch, units are drawn for all of it: no window's depend on the shards.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.shard = WHOLE

    def forward(self, x: Tensor, rows: Tensor | None = None, windows: int = 0) -> Tensor:
        """With `rows` x is (N, D): what belongs to these of so many `windows`."""
        if not self.training or not self.share:
            return x
        count = (len(x) if rows is None else windows) * self.shard.count
        drawn = x.new_empty(count, *[1] * (x.ndim - 2), x.shape[-1]).bernoulli_(1 - self.share)
        kept = drawn[self.shard.index - 1 :: self.shard.count] / (1 - self.share)
        return x * (kept if rows is None else kept[rows])


class Stack(nn.Module):
    """Recurrent layers, each hearing the one below, their outputs summed: (B, T, in) → (B, T, H)."""

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
    """Sum of the fields' embeddings, the composer's and a roll's projection: → (B, T, in)."""

    def __init__(self, config: ModelConfig, roll_size: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({name: nn.Embedding(n, config.input_size) for name, n in INPUT_CLASSES.items()})
        self.composer = nn.Embedding(1 + len(config.composers), config.input_size)
        self.roll = nn.Linear(roll_size, config.input_size)
        for embedding in (*self.embeddings.values(), self.composer):
            assert isinstance(embedding, nn.Embedding)
            nn.init.normal_(embedding.weight, std=0.5)
        nn.init.zeros_(self.composer.weight)

    def forward(self, fields: dict[str, Tensor], composer: Tensor, roll: Tensor) -> Tensor:
        x = self.roll(roll) + self.composer(composer)
        for name in FIELDS:
            x = x + self.embeddings[name](fields[name])
        return torch.as_tensor(x)


class Head(nn.Module):
    """One field's distribution given the context and the fields drawn before it: (..., D) → (..., classes)."""

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
        """`rows` and `windows` as for `LockedDropout`."""
        for name, embedding in self.given.items():
            context = context + embedding(fields[name])
        x = self.dropout(F.gelu(context), rows, windows)
        logits: Tensor = self.out(F.gelu(self.hidden(x)) + x)
        return logits


class Network(nn.Module):
    """Token distributions given the past and, where there is one, the future. See `Batch` for what goes in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size = config.head_size
        self.forward_input = TokenInput(config, ROLL_SIZE)
        self.forward_stack = Stack(
            config.cell, config.forward_layers, config.input_size, config.forward_size, config.dropout
        )
        self.context = nn.Linear(config.forward_size + ROLL_SIZE, size)
        self.key_roll = nn.Linear(ROLL_SIZE, size, bias=False)
        if config.direction == "both":
            self.backward_input = TokenInput(config, NUM_KEYS)
            self.backward_stack = Stack(
                config.cell, config.backward_layers, config.input_size, config.backward_size, config.dropout
            )
            self.future = nn.Linear(config.backward_size + NUM_KEYS, size, bias=False)
            self.time_to_go = nn.Embedding(NO_FUTURE + 1, size)
            self.key_time_to_go = nn.Embedding(NO_FUTURE + 1, size)
            self.join_in = nn.Linear(3 * size, size)
            self.join_out = nn.Linear(size, size)
            for weight in (self.join_out.weight, self.join_out.bias):
                nn.init.zeros_(weight)
            # how soon each key comes after the shift, and how soon the drawn one is struck again
            self.key_ahead = nn.Linear(NUM_KEYS, size, bias=False)
            self.struck_again = nn.Embedding(NO_FUTURE + 1, size)
            for silent in (self.time_to_go, self.key_time_to_go, self.key_ahead, self.struck_again):
                nn.init.zeros_(silent.weight)
        self.heads = nn.ModuleDict(
            {name: Head(FIELDS[:i], CLASSES[name], size, config.dropout) for i, name in enumerate(FIELDS)}
        )
        for name, bins in (("shift", SHIFT_BINS), ("duration", DURATION_BINS)):
            log_widths = torch.zeros(CLASSES[name])
            log_widths[: len(bins)] = torch.as_tensor(bins.widths).log()
            self.register_buffer(f"{name}_log_widths", log_widths, persistent=False)
        self.register_buffer("shift_first", torch.as_tensor(SHIFT_BINS.edges[:-1]), persistent=False)
        edges = [*TIME_TO_GO_BINS.edges[1:-1].tolist(), int(NONE_AHEAD / 2)]
        self.register_buffer("time_to_go_edges", torch.tensor(edges), persistent=False)

    def take_shard(self, shard: Shard) -> None:
        """From now on batches are this shard of larger ones, every N-th window: dropout is what it would be there."""
        for module in self.modules():
            if isinstance(module, LockedDropout):
                module.shard = shard

    def read_past(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Context (B, T + 1, D) before each token and after the last, and every key's last event as `last_events`."""
        struck, released = last_events(batch.key, batch.onset, batch.held, batch.present)
        now = F.pad(batch.onset, (1, 0))
        roll = recency_roll(struck, released, now)
        fields = {name: F.pad(getattr(batch, name), (1, 0)) for name in FIELDS}
        fields["key"][:, 0] = batch.start
        hidden = self.forward_stack(self.forward_input(fields, batch.composer[:, None], roll))
        return self.context(torch.cat([hidden, roll.to(hidden.dtype)], -1)), struck, released

    def read_future(self, batch: Batch) -> Tensor:
        """What the future from token r on says, r = 0 … T - 1: (B, T, D); the shift before r is not heard."""
        count = batch.present.sum(1, keepdim=True)
        place = torch.arange(batch.key.shape[1], device=batch.key.device)
        # the tokens from the last one to the first, then the padding, which so is heard by none: its own inverse
        back = torch.where(place < count, count - 1 - place, place)
        fields = {name: F.pad(getattr(batch, name).gather(1, back), (1, 0)) for name in FIELDS}
        fields["key"][:, 0] = batch.stop
        # going back, the time to the previous one read: for the last token of the window it is not known
        to_next = F.pad((batch.shift * batch.present)[:, 1:], (0, 1))
        fields["shift"] = F.pad(to_next.gather(1, back), (1, 0))
        ahead = (batch.onset.gather(1, (count - 1).clamp(min=0)) - batch.onset).gather(1, back)
        struck, _ = last_events(batch.key.gather(1, back), ahead, batch.held, batch.present.gather(1, back))
        now = F.pad(ahead, (1, 0))
        # clamped: in the padding, which comes last, time does not go on
        roll = torch.exp((struck - now[..., None]).clamp(max=0) / ROLL_AGE_TICKS)
        hidden = self.backward_stack(self.backward_input(fields, batch.composer[:, None], roll))
        said: Tensor = self.future(torch.cat([hidden, roll.to(hidden.dtype)], -1))
        return said[:, 1:].gather(1, back[..., None].expand(-1, -1, said.shape[-1]))

    def time_to_go_bin(self, ticks: Tensor) -> Tensor:
        """The class of a time to go in ticks; `NO_FUTURE` if it is near `NONE_AHEAD`."""
        return torch.bucketize(ticks, self.get_buffer("time_to_go_edges"), right=True)

    def meet(self, past: Tensor, future: Tensor, time: Tensor) -> Tensor:
        """Past, future and the embedded time to go in one context: three times (..., D) → (..., D)."""
        together = self.join_out(F.gelu(self.join_in(torch.cat([past, future, time], -1))))
        return past + future + time + torch.as_tensor(together)

    def mask_shift(self, logits: Tensor, ticks_to_go: Tensor, has_future: Tensor) -> Tensor:
        """With a future: no shift past its onset, no end. Without: nothing to resume."""
        late = (self.get_buffer("shift_first") > ticks_to_go[..., None]) & has_future[..., None]
        late = F.pad(late, (0, SHIFT_CLASSES - late.shape[-1]))
        late[..., RESUME] = ~has_future
        late[..., END] = has_future
        return logits.masked_fill(late, MASKED)

    def logits(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Logits of each field of each token (B, T, classes); of shift at the resume token of each gap, and at the end.

        The last two are (N, classes), one row per gap with a future in order of (window, gap), and (B, classes).
        """
        context, struck, released = self.read_past(batch)
        batch_size, length = batch.key.shape
        has_future = batch.resume < length
        resume = batch.resume.clamp(max=length - 1)
        before = F.pad(batch.onset, (1, 0))[:, :-1]
        resume_onset = torch.where(has_future, batch.onset.gather(1, resume), int(NONE_AHEAD))
        to_go, key_to_go = (resume_onset - now for now in (before, batch.onset))
        at_end = context[torch.arange(batch_size, device=context.device), batch.present.sum(1)]
        main = context[:, :-1]
        key_extra = self.key_roll(recency_roll(struck[:, :-1], released[:, :-1], batch.onset))
        rows, gap_ends = self._gap_ends(batch)
        at_resume = context[rows, gap_ends]
        if self.config.direction == "both":
            future = self.read_future(batch)
            heard = future.gather(1, resume[..., None].expand(-1, -1, future.shape[-1]))
            met = self.meet(main, heard, self.time_to_go(self.time_to_go_bin(to_go)))
            main = torch.where(has_future[..., None], met, main + self.time_to_go.weight[NO_FUTURE])
            ahead = self._ahead(batch, resume, has_future)
            key_extra = key_extra + self.key_time_to_go(self.time_to_go_bin(key_to_go)) + self.key_ahead(soon(ahead))
            again = ahead.gather(2, batch.key.clamp(max=NUM_KEYS - 1)[..., None]).squeeze(2)
            duration_extra = self.struck_again(self.time_to_go_bin(again))
            last = self._last_shift(batch, rows, gap_ends)
            at_resume = self.meet(at_resume, future[rows, gap_ends], self.time_to_go(self.time_to_go_bin(last)))
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
    def _ahead(batch: Batch, resume: Tensor, has_future: Tensor) -> Tensor:
        """Ticks from each token's onset to each key's next event in its gap's future (B, T, K), or `NONE_AHEAD`."""
        events = next_events(batch.key, batch.onset, batch.present)
        heard = events.gather(1, resume[..., None].expand(-1, -1, NUM_KEYS))
        return torch.where(has_future[..., None], heard, int(NONE_AHEAD)) - batch.onset[..., None]

    @staticmethod
    def _gap_ends(batch: Batch) -> tuple[Tensor, Tensor]:
        """Window and resume token of each gap that has a future."""
        length = batch.key.shape[1]
        ends = torch.zeros(len(batch.key), length + 1, dtype=torch.bool, device=batch.key.device)
        ends.scatter_(1, batch.resume, True)
        rows, gap_ends = ends[:, :length].nonzero(as_tuple=True)
        return rows, gap_ends

    @staticmethod
    def _last_shift(batch: Batch, rows: Tensor, gap_ends: Tensor) -> Tensor:
        """Ticks from the last token before the resume token to it."""
        return batch.onset[rows, gap_ends] - F.pad(batch.onset, (1, 0))[rows, gap_ends]

    def nats(self, logits: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Each token's surprise per field (B, T) in nats on the grid: times on 10 ms, velocities in bins of 4.

        A time is taken as uniform within its bin, so the logarithm of the bin's width is counted.
        """
        nats = {}
        for name in FIELDS:
            target = getattr(batch, name)
            nats[name] = F.cross_entropy(logits[name].flatten(0, 1), target.flatten(), reduction="none").view_as(target)
            if name in ("shift", "duration"):
                nats[name] = nats[name] + self.get_buffer(f"{name}_log_widths")[target]
        return nats

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Sums over the batch: each field's `nats`, those of the `decisions`, and the number of `tokens`.

        The decisions are to resume at the end of each gap that has a future, and to end with the piece.
        """
        logits, resumed, ended = self.logits(batch)
        sums = {name: (nats * batch.present).sum() for name, nats in self.nats(logits, batch).items()}
        sums["decisions"] = (-ended.log_softmax(-1)[:, END] * batch.ends).sum()
        if self.config.direction == "both":
            sums["decisions"] = sums["decisions"] - resumed.log_softmax(-1)[:, RESUME].sum()
        sums["tokens"] = batch.present.sum()
        return sums
