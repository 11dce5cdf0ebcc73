"""Tokens scored by the runtime graphs, which are what is shipped, step by step as they generate; no torch.

Each step is made to take the token that is there, so the nats here are those of generation itself: 8-bit matrices,
states carried from step to step, all passages in lanes side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.data.windows import Window
from music_generator.engine.engine import PLACES, Ahead, Engine, Lanes, backwards, binned
from music_generator.model.config import FIELDS, NONE_AHEAD
from music_generator.music.tokens import DURATION_BINS, END, NUM_KEYS, RESUME, SHIFT_BINS

Array = NDArray[Any]

SURE = -1e-6  # log of the largest chance of resuming that is believed: the rest is what going on is measured against
FORCED = np.float32(1e9)  # as noise: this class
TIMES = {"shift": SHIFT_BINS, "duration": DURATION_BINS}


@dataclass(frozen=True)
class Scores:
    """Nats of each field of each token, (B, T, 4) in the order of `FIELDS`, nan past a passage's end.

    `decisions`: nats of resuming at the end of each gap that has a future.
    """

    nats: Array
    decisions: Array


def score(engine: Engine, passages: Sequence[Window], gap: int | None = None) -> Scores:
    """The scores of all tokens, each given those before it in its passage; the composer is not told.

    With a `gap`, passages are cut into gaps of so many tokens, and each token is also given all from its gap's end on;
    that the gap goes on is given, too. The last gap of a passage has no future in it: its tokens are nan.
    """
    scorer = _Scorer(engine, passages, gap)
    for t in range(scorer.nats.shape[1]):
        scorer.step(t)
    return Scores(scorer.nats, np.asarray(scorer.decisions))


class _Scorer:
    """Windows in lanes, and where they stand."""

    def __init__(self, engine: Engine, passages: Sequence[Window], gap: int | None) -> None:
        self.engine, self.passages, self.gap = engine, passages, gap
        size, length = len(passages), max(len(passage.rows) for passage in passages)
        self.nats = np.full((size, length, len(FIELDS)), np.nan)
        self.decisions: list[float] = []
        self.totals = np.array([len(passage.rows) for passage in passages])
        shape = (size, length)
        self.bins = {name: np.zeros(shape, np.int64) for name in FIELDS}
        self.shift, self.held = np.zeros(shape, np.int64), np.ones(shape, np.int64)
        for b, passage in enumerate(passages):
            n = len(passage.rows)
            self.shift[b, :n], self.held[b, :n] = passage.rows["shift"], passage.rows["duration"]
            for name, values in binned(passage.rows).items():
                self.bins[name][b, :n] = values
        self.onset = np.cumsum(self.shift, axis=1)
        self.now = np.zeros(size, np.int64)
        self.lanes = Lanes(engine, size, joined=gap is not None, scored=True)
        self.futures = [self._futures(passage) for passage in passages] if gap is not None else []
        for b, passage in enumerate(passages):
            start = engine.read_past(passage.rows[:0], cut=not passage.begins)
            self.lanes.put(b, start, self._ahead(b, min(gap, len(passage.rows) - 1)) if gap is not None else None)

    def _futures(self, passage: Window) -> tuple[Array, Array]:
        """What the backward stack says of the future from each token on, and each key's next stroke: (T, ...) each."""
        (said,) = self.engine.graph("future").run(["said"], backwards(passage.rows, cut=not passage.ends))
        onset = np.cumsum(passage.rows["shift"], dtype=np.int64)
        following = np.full((len(onset), NUM_KEYS), NONE_AHEAD, np.float32)
        following[np.arange(len(onset)), passage.rows["key"]] = onset
        return said[:0:-1, 0], np.minimum.accumulate(following[::-1], axis=0)[::-1]

    def _ahead(self, b: int, r: int) -> Ahead:
        said, following = self.futures[b]
        return Ahead(said[r], int(self.onset[b, r]), following[r])

    def step(self, t: int) -> None:
        """Score token t of every passage that has one, and take it in."""
        lanes, here = self.lanes, t < self.totals
        self._give(t)
        if self.gap is not None:
            if t and t % self.gap == 0:
                self._decide(here)
            if t % self.gap == 0:
                self._look_ahead(t)
            here = here & (t // self.gap * self.gap + self.gap < self.totals)
        lanes.step()
        for i, name in enumerate(FIELDS):
            chances = _log_chances(self._shift_logits() if name == "shift" else lanes.logits[name])
            nats = -np.take_along_axis(chances, self.bins[name][:, t, None], 1)[:, 0]
            if name in TIMES:  # a time is taken as uniform within its bin
                nats = nats + np.log(TIMES[name].widths)[self.bins[name][:, t]]
            if name == "shift" and self.gap is not None:
                nats = nats + np.log1p(-np.exp(np.minimum(chances[:, RESUME], SURE)))
            self.nats[here, t, i] = nats[here]
        self.now = self.now + self.shift[:, t]

    def _give(self, t: int) -> None:
        """Make the lanes take token t: its classes, and its very ticks."""
        lanes, rows = self.lanes, np.arange(len(self.now))
        lanes.noise[:] = 0
        for name in FIELDS:
            lanes.noise[rows, PLACES[name].start + self.bins[name][:, t]] = FORCED
        duration = self.bins["duration"][:, t]
        place = (self.held[:, t] - DURATION_BINS.edges[duration] + 0.5) / DURATION_BINS.widths[duration]
        shift = self.shift[:, t]
        nothing = np.zeros(len(rows))
        lanes.ticks[:] = np.stack([self.now, shift, shift, nothing - 1, nothing, np.minimum(place, 0.999999)], 1)

    def _decide(self, here: Array) -> None:
        """Score that the gap before this token is over: it is resumed at, with what its future had said."""
        self.lanes.peek()
        resumed = _log_chances(self._shift_logits())[:, RESUME]
        self.decisions += (-resumed[here]).tolist()

    def _look_ahead(self, t: int) -> None:
        """Give each lane the future of the gap that begins with token t, if it has one."""
        assert self.gap is not None
        for b in np.flatnonzero(t + self.gap < self.totals):
            self.lanes.face(int(b), self._ahead(int(b), t + self.gap))

    def _shift_logits(self) -> Array:
        """Those of the classes that may be: with a future none past its first onset and no end, else no resuming."""
        logits = self.lanes.logits["shift"].copy()
        if self.gap is None:
            logits[:, RESUME] = -np.inf
            return logits
        to_go = self.lanes.resume[:, 0] - self.now
        late = SHIFT_BINS.edges[None, :-1] > to_go[:, None]
        logits[:, : len(SHIFT_BINS)][late] = -np.inf
        logits[:, END] = -np.inf
        return logits


def _log_chances(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
