"""Likelihood of given music by the engine: how many nats each field of each token costs; no torch.

Each step is forced to take the token that is there, so these are the nats of generation itself, in its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.engine import Engine
from music_generator.engine.slots import CLASS_SLICES, FutureContext
from music_generator.errors import InputError
from music_generator.model.config import FIELDS
from music_generator.music.performance import Performance
from music_generator.music.tokens import (
    DURATION_BINS,
    END,
    KEYS,
    RESUME,
    SHIFT_BINS,
    TICKS_PER_SECOND,
    Window,
    bin_rows,
    decode,
    encode,
)

Array = NDArray[Any]

MIN_LOG_CONTINUE = -1e-6  # the largest log-probability of resuming that is used: going on is measured against the rest
BINS = {"shift": SHIFT_BINS, "duration": DURATION_BINS}


@dataclass(frozen=True)
class PieceScore:
    """The likelihood of a piece.

    Attributes:
        tokens: its events in order (`TOKEN_DTYPE`), (T,).
        nats: negative log-likelihood of each field of each event, given all before it, (T, 4) in the order shift, key,
            velocity, duration. Times are on a grid of 10 ms, velocities in bins of 4.
    """

    tokens: Array
    nats: Array

    @property
    def onsets(self) -> Array:
        """The onset of each event in seconds, (T,)."""
        return np.asarray(np.cumsum(self.tokens["shift"], dtype=np.int64) / TICKS_PER_SECOND)

    @property
    def performance(self) -> Performance:
        """The piece on the grid of 10 ms; its notes are those of `note_nats`."""
        return decode(self.tokens)

    @property
    def note_nats(self) -> Array:
        """The nats of each note, all fields together: (notes,)."""
        return np.asarray(self.nats.sum(1)[self.tokens["key"] < KEYS])

    @property
    def per_event(self) -> dict[str, float]:
        """Mean nats of an event, in total and by field."""
        means = self.nats.mean(0)
        return {"total": float(means.sum()), **{name: float(mean) for name, mean in zip(FIELDS, means, strict=True)}}

    @property
    def bits_per_second(self) -> float:
        """Bits that a second of the piece costs."""
        seconds = max(float(self.onsets[-1]), 1 / TICKS_PER_SECOND)
        return float(self.nats.sum() / np.log(2) / seconds)


def score(performance: Performance, engine: Engine | None = None, *, composer: str | None = None) -> PieceScore:
    """Return how likely a model finds a piece: the nats of each field of each event, given all events before it.

    Args:
        performance: the piece.
        engine: the model; the bundled one if None.
        composer: the name of the composer or a part of it; None if unknown.

    Raises:
        InputError: the piece has no events, or the composer is not known.
    """
    rows = encode(performance)
    if not len(rows):
        raise InputError("the piece has no notes")
    engine = engine or Engine()
    scores = score_passages(engine, [Window(rows, True, True)], composer=engine.composer(composer))
    return PieceScore(rows, scores.nats[0])


@dataclass(frozen=True)
class Scores:
    """The likelihood of passages.

    Attributes:
        nats: of each field of each token, (B, T, 4) in the order of `FIELDS`; nan past a passage's end.
        decisions: nats of resuming at the end of each gap that has a future.
    """

    nats: Array
    decisions: Array


def score_passages(engine: Engine, passages: Sequence[Window], gap: int | None = None, *, composer: int = 0) -> Scores:
    """Return the nats of all tokens, each given those before it in its passage.

    Args:
        engine: the model.
        passages: what is scored, side by side.
        gap: if given, passages are cut into gaps of this many tokens, and each token is also given all tokens from its
            gap's end on and that the gap goes on. The last gap of a passage has no future: its tokens are nan.
        composer: the class of the composer; 0 if unknown.
    """
    plans = None
    if gap is not None:
        plans = [_even_plan(engine, passage, gap, composer) for passage in passages]
    return _Scorer(engine, passages, plans, composer).scores()


def score_around(engine: Engine, passages: Sequence[Window], kept: Sequence[Array], *, composer: int = 0) -> Scores:
    """Return the nats of the tokens that are not kept, each given those before it and all that are kept.

    Args:
        engine: the model.
        passages: what is scored, side by side.
        kept: which tokens of each passage are kept, (T,) bool; the nats of these and of those after the last are nan.
        composer: the class of the composer; 0 if unknown.
    """
    plans = [_kept_plan(engine, passage, mine, composer) for passage, mine in zip(passages, kept, strict=True)]
    return _Scorer(engine, passages, plans, composer).scores()


@dataclass(frozen=True)
class _Plan:
    """The futures of a passage's tokens.

    Attributes:
        futures: from token t on a slot has `futures[t]`.
        ends: tokens at which a gap that has a future ends.
        counted: tokens that have a future, (T,) bool.
    """

    futures: dict[int, FutureContext | None]
    ends: frozenset[int]
    counted: Array


def _even_plan(engine: Engine, passage: Window, gap: int, composer: int) -> _Plan:
    """Cut a passage into gaps of `gap` tokens; the last one has no future."""
    total = len(passage.rows)
    futures = engine.read_futures(passage.rows, composer, cut=not passage.ends)
    begins = range(0, total, gap)
    return _Plan(
        {t: futures[t + gap] if t + gap < total else None for t in begins},
        frozenset(begins[1:]),
        np.arange(total) // gap * gap + gap < total,
    )


def _kept_plan(engine: Engine, passage: Window, kept: Array, composer: int) -> _Plan:
    """Cut a passage into gaps between the tokens that are kept."""
    places = np.flatnonzero(kept)
    onset = np.cumsum(passage.rows["shift"], dtype=np.int64)
    rows = passage.rows[places]
    rows["shift"] = np.minimum(np.diff(onset[places], prepend=0), np.iinfo(rows["shift"].dtype).max)
    futures = engine.read_futures(rows, composer, cut=True, thinned=len(rows))
    begins = [0, *(places + 1).tolist()]
    counted = ~kept
    counted[begins[-1] :] = False
    return _Plan(dict(zip(begins, [*futures, None], strict=True)), frozenset(places.tolist()), counted)


class _Scorer:
    """Passages in slots."""

    def __init__(
        self, engine: Engine, passages: Sequence[Window], plans: Sequence[_Plan] | None, composer: int
    ) -> None:
        self.engine, self.plans, self.decisions = engine, plans, list[float]()
        self.totals = np.array([len(passage.rows) for passage in passages])
        size, length = len(passages), int(self.totals.max())
        self.nats = np.full((size, length, len(FIELDS)), np.nan)
        self.forced = np.zeros((size, length, len(FIELDS) + 2), np.int32)  # as `Slots.forced`
        self.forced[..., -1] = 1
        for b, passage in enumerate(passages):
            rows = passage.rows
            columns = (*bin_rows(rows).values(), rows["shift"], rows["duration"])
            self.forced[b, : len(rows)] = np.stack([np.asarray(column, np.int32) for column in columns], 1)
        self.onset = np.cumsum(self.forced[..., -2], axis=1)
        self.slots = engine.slots(size, scored=True, fixed=0 if plans is None else length)
        for b, passage in enumerate(passages):
            self.slots.attach(b, engine.read_past(passage.rows[:0], composer, cut=not passage.begins))

    def scores(self) -> Scores:
        """Score all tokens."""
        for t in range(self.nats.shape[1]):
            self.step(t)
        return Scores(self.nats, np.asarray(self.decisions))

    def step(self, t: int) -> None:
        """Score token t of every passage that has one, and take it in."""
        slots, here = self.slots, t < self.totals
        assert slots.forced is not None
        slots.forced[:] = self.forced[:, t]
        if self.plans is not None:
            self._score_decisions(t)
            for b, plan in enumerate(self.plans):
                if t in plan.futures:
                    self.slots.set_future(b, plan.futures[t])
            here = np.array([here[b] and plan.counted[t] for b, plan in enumerate(self.plans)])
        self.engine.backend.step(slots, 0, slots.size, True)
        for i, name in enumerate(FIELDS):
            log_probability = _log_softmax(self._shift_logits() if name == "shift" else self._logits(name))
            classes = self.forced[:, t, i]
            nats = -np.take_along_axis(log_probability, classes[:, None], 1)[:, 0]
            if name in BINS:  # a time is uniform within its bin
                nats = nats + np.log(BINS[name].widths)[classes]
            if name == "shift" and self.plans is not None:
                nats = nats + np.log1p(-np.exp(np.minimum(log_probability[:, RESUME], MIN_LOG_CONTINUE)))
            self.nats[here, t, i] = nats[here]
        slots.span["now"] += self.forced[:, t, -2]

    def _logits(self, name: str) -> Array:
        assert self.slots.logits is not None
        return self.slots.logits[:, CLASS_SLICES[name]]

    def _score_decisions(self, t: int) -> None:
        """Score that the gaps which end before token t end there, with the future that they had."""
        assert self.plans is not None
        here = np.array([t in plan.ends for plan in self.plans])
        if not here.any():
            return
        self.engine.backend.step(self.slots, 0, self.slots.size, False)
        resumed = _log_softmax(self._shift_logits())[:, RESUME]
        self.decisions += (-resumed[here]).tolist()

    def _shift_logits(self) -> Array:
        """Return those of the shift, masked as in training: `Network.mask_shift`."""
        logits = self._logits("shift").copy()
        if self.plans is None:
            logits[:, RESUME] = -np.inf
            return logits
        to_go = self.slots.resume_tick - self.slots.span["now"]
        logits[:, : len(SHIFT_BINS)][SHIFT_BINS.edges[None, :-1] > to_go[:, None]] = -np.inf
        logits[:, END] = -np.inf
        return logits


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
