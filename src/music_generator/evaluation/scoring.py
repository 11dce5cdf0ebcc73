"""Tokens scored by the runtime graphs, which are what is shipped: no torch, and all of a passage in one call.

The `draw` graph scores a token that it is given, so the nats here are those of generation, heads and masks included.
B passages, T tokens, K = 91 stroke keys, D head units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.generation.engine import NEVER, Engine
from music_generator.model.config import CUT, EDGE_OF_PIECE, FIELDS, NONE_AHEAD
from music_generator.tokens import DURATION_BINS, RESUME, SHIFT_BINS, SHIFT_CLASSES, STROKES, VELOCITY_BINS

Array = NDArray[Any]

SURE = -1e-6  # log of the largest chance of resuming that is believed: the rest is what going on is measured against


@dataclass(frozen=True)
class Passage:
    """Token rows of one piece (the first shift counts from their start), and whether they begin and end it."""

    rows: Array
    begins: bool
    ends: bool


@dataclass(frozen=True)
class Scores:
    """Nats of each field of each token, (B, T, 4) in the order of `FIELDS`, nan past a passage's end.

    `decisions`: nats of resuming at the end of each gap that has a future.
    """

    nats: Array
    decisions: Array


@dataclass(frozen=True)
class _Heard:
    """Passages as the graphs take them; each array's first axes are (T, B), padded after a passage's end."""

    bins: Array  # (T, B, 4) int64
    shift: Array  # (T, B) ticks
    before: Array  # (T, B) ticks: the onset of the token before each
    struck: Array  # (T, B, K) float32 ticks, before each token
    released: Array
    present: Array  # (T, B) bool


def score(engine: Engine, passages: Sequence[Passage], gap: int | None = None) -> Scores:
    """The scores of all tokens, each given those before it in its passage; the composer is not told.

    With a `gap`, passages are cut into gaps of so many tokens, and each token is also given all from its gap's end on;
    that the gap goes on is given, too. The last gap of a passage has no future in it: its tokens are nan.
    """
    heard = _heard(passages)
    contexts = _contexts(engine, passages, heard)
    nats = np.full((*heard.shift.shape, len(FIELDS)), np.nan)
    said, to_go, counted = np.zeros_like(contexts), np.full(heard.shift.shape, NONE_AHEAD), heard.present
    futures: dict[tuple[int, int], Array] = {}
    if gap is not None:
        futures = _futures(engine, passages, gap)
        onset = np.cumsum(heard.shift, axis=0)
        counted = np.zeros_like(counted)
        for (b, r), answer in futures.items():
            some = slice(r - gap, r)
            said[some, b], counted[some, b] = answer, True
            to_go[some, b] = onset[r, b] - heard.before[some, b]
    if counted.any():
        nats[counted], resumed = _scored(engine, _inputs(heard, contexts, said, to_go, counted), heard.bins[counted])
        if gap is not None:
            nats[counted, 0] += np.log1p(-np.exp(np.minimum(-resumed, SURE)))
    for name, bins in (("shift", SHIFT_BINS), ("duration", DURATION_BINS)):
        i = FIELDS.index(name)  # a time is taken as uniform within its bin
        nats[..., i] += np.log(bins.widths)[heard.bins[..., i]]
    return Scores(nats.transpose(1, 0, 2), _decisions(engine, heard, contexts, futures))


def _heard(passages: Sequence[Passage]) -> _Heard:
    size = (max(len(p.rows) for p in passages), len(passages))
    bins, shift = np.zeros((*size, len(FIELDS)), np.int64), np.zeros(size, np.int64)
    struck, released = (np.full((*size, STROKES), NEVER, np.float32) for _ in range(2))
    present = np.zeros(size, bool)
    for b, passage in enumerate(passages):
        rows, n = passage.rows, len(passage.rows)
        onset = np.cumsum(rows["shift"], dtype=np.int64)
        shift[:n, b], present[:n, b], bins[:n, b] = rows["shift"], True, _bins(rows)
        struck[:n, b] = _last(rows["key"], onset)[:-1]
        released[:n, b] = _last(rows["key"], onset + rows["duration"])[:-1]
    before = np.cumsum(shift, axis=0) - shift
    return _Heard(bins, shift, before, struck, released, present)


def _bins(rows: Array) -> Array:
    """(T, 4) classes of rows."""
    fields = [SHIFT_BINS.index(rows["shift"]), rows["key"], VELOCITY_BINS.index(rows["velocity"])]
    return np.stack([*fields, DURATION_BINS.index(rows["duration"])], 1).astype(np.int64)


def _last(keys: Array, ticks: Array) -> Array:
    """Of T strokes in order: each key's last tick before each stroke and after all, (T + 1, K).

    Carried forward by index, for a key struck again may well be released sooner than it was before.
    """
    index = np.zeros((len(keys) + 1, STROKES), np.int64)
    index[np.arange(1, len(keys) + 1), keys] = np.arange(1, len(keys) + 1)
    np.maximum.accumulate(index, axis=0, out=index)
    return np.concatenate([[NEVER], ticks])[index].astype(np.float32)


def _contexts(engine: Engine, passages: Sequence[Passage], heard: _Heard) -> Array:
    """What the forward stack says before each token: (T, B, D)."""
    start = np.zeros((1, len(passages), len(FIELDS)), np.int64)
    start[0, :, FIELDS.index("key")] = [EDGE_OF_PIECE if p.begins else CUT for p in passages]
    fields = np.concatenate([start, heard.bins[:-1]])
    layers = engine.config.forward_layers * (2 if engine.config.cell == "lstm" else 1)
    inputs = {name: fields[..., i] for i, name in enumerate(FIELDS)}
    inputs["composer"] = np.zeros(len(passages), np.int64)
    inputs["struck"], inputs["released"] = heard.struck, heard.released
    inputs["now"] = heard.before.astype(np.float32)
    inputs["state"] = np.zeros((layers, len(passages), engine.config.forward_size), np.float32)
    contexts: Array = engine.past_graph.run(["context"], inputs)[0]
    return contexts


def _futures(engine: Engine, passages: Sequence[Passage], gap: int) -> dict[tuple[int, int], Array]:
    """What the backward stack says of the future from token r on, of passage b: (D,) by (b, r), r = gap, 2 gap …"""
    answers = {}
    order = sorted(range(len(passages)), key=lambda b: len(passages[b].rows))
    for length, same in groupby(order, key=lambda b: len(passages[b].rows)):
        members = list(same)
        inputs = _backwards([passages[b] for b in members])
        for r in range(gap, length, gap):
            part = {name: values[: length - r + 1] for name, values in inputs.items()}
            part["composer"] = np.zeros(len(members), np.int64)
            for b, answer in zip(members, engine.future_graph.run(["said"], part)[0], strict=True):
                answers[b, r] = answer
    return answers


def _backwards(passages: Sequence[Passage]) -> dict[str, Array]:
    """Passages of one length from their end to their second token, as the `future` graph takes them: (T, B, …)."""
    size = (len(passages[0].rows) + 1, len(passages))
    inputs = {name: np.zeros(size, np.int64) for name in FIELDS} | {"age": np.zeros((*size, STROKES), np.float32)}
    for b, passage in enumerate(passages):
        bins, onset = _bins(passage.rows)[::-1], np.cumsum(passage.rows["shift"], dtype=np.int64)
        ahead = (onset[-1] - onset)[::-1]
        for i, name in enumerate(FIELDS):
            inputs[name][1:, b] = bins[:, i]
        # going back, the time to the one read before: of the last token it is not known
        inputs["shift"][1:2, b], inputs["shift"][2:, b] = 0, bins[:-1, 0]
        inputs["key"][0, b] = EDGE_OF_PIECE if passage.ends else CUT
        inputs["age"][:, b] = np.concatenate([[0], ahead])[:, None] - _last(passage.rows["key"][::-1], ahead)
    return inputs


def _inputs(heard: _Heard, contexts: Array, said: Array, to_go: Array, some: Any) -> dict[str, Array]:
    """Of some tokens, what the `draw` graph is told to score them."""
    shift, count = heard.shift[some], len(contexts[some])
    nothing = np.full(count, -1)
    return {
        "context": contexts[some],
        "future": said[some],
        "ticks": np.stack([heard.before[some], to_go[some], nothing, shift, shift], 1).astype(np.float32),
        "struck": heard.struck[some],
        "released": heard.released[some],
        "shift_bias": np.zeros((count, SHIFT_CLASSES), np.float32),
        "key_bias": np.zeros((count, STROKES), np.float32),
        "uniforms": np.zeros((count, 7), np.float32),
        "temperature": np.ones((1, len(FIELDS)), np.float32),
        "top_p": np.ones((1, len(FIELDS)), np.float32),
    }


def _scored(engine: Engine, inputs: dict[str, Array], given: Array) -> tuple[Array, Array]:
    """Nats of the given classes under the `draw` graph, (N, 4), and of resuming in their place, (N,)."""
    graph, inputs = engine.draw_graph, {**inputs, "given": given}
    asked = {each.name for each in graph.get_inputs()}  # a model that reads forward only is told of no future
    outputs = graph.run([f"{name}_logits" for name in FIELDS], {n: v for n, v in inputs.items() if n in asked})
    nats = [-_log_chances(logits) for logits in outputs]
    rows = np.arange(len(given))
    return np.stack([each[rows, given[:, i]] for i, each in enumerate(nats)], 1), nats[0][:, RESUME]


def _log_chances(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _decisions(engine: Engine, heard: _Heard, contexts: Array, futures: dict[tuple[int, int], Array]) -> Array:
    """Nats of resuming at each gap's end."""
    if not futures:
        return np.empty(0)
    b, r = np.array(list(futures)).T
    inputs = _inputs(heard, contexts, contexts, heard.shift, (r, b))  # to go: the shift of the token resumed at
    return _scored(engine, {**inputs, "future": np.stack(list(futures.values()))}, heard.bins[r, b])[1]
