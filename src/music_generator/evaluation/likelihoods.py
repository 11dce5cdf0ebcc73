"""The likelihood protocol (`training.likelihood`) for the float network and for the runtime graphs that are shipped.

The runtime needs no torch; it is measured on evenly spread segments, and the float network on the same ones beside it,
so that their difference is that of the arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from music_generator.data.corpus import Corpus
from music_generator.engine.engine import Engine
from music_generator.generation.scoring import Passage, Scores, score_passages
from music_generator.model.bundle import Bundle
from music_generator.model.config import FIELDS
from music_generator.music.tokens import TICKS_PER_SECOND

SEGMENT = 512  # tokens, as `training.likelihood` has it: a test holds them together
GAPS = (4, 16, 64)
BATCH = 64  # passages side by side

Row = dict[str, float]
Progress = Callable[[int, int], None]


def segments(corpus: Corpus, split: str, limit: int | None = None, length: int = SEGMENT) -> list[Passage]:
    """The segments of a split, or `limit` of them, evenly spread; none if it is empty."""
    passages = []
    for piece in corpus.split(split):
        rows = corpus.piece_rows(piece)
        for start in range(0, len(rows), length):
            stop = min(start + length, len(rows))
            passages.append(Passage(rows[start:stop], start == 0, stop == len(rows)))
    if limit is None or limit >= len(passages):
        return passages
    return [passages[i] for i in np.linspace(0, len(passages) - 1, limit).astype(int)]


def bits_per_second(passages: list[Passage], nats_per_token: float) -> float:
    """Bits that a second of these passages costs."""
    tokens = sum(len(passage.rows) for passage in passages)
    ticks = sum(int(passage.rows["shift"].sum(dtype=np.int64)) for passage in passages)
    return float(nats_per_token * tokens / np.log(2) / max(ticks / TICKS_PER_SECOND, 1e-9))


def runtime_likelihood(
    engine: Engine, passages: list[Passage], *, gaps: tuple[int, ...] = GAPS, progress: Progress | None = None
) -> dict[str, Row]:
    """As `training.likelihood.likelihood`, of the graphs of an engine, on these passages."""
    names = ["continue"]
    for gap in gaps if engine.config.direction == "both" else ():
        names += [f"blind_{gap}", f"infill_{gap}"]
    sums = {name: np.zeros(len(FIELDS) + 3) for name in names}  # each field, tokens, decisions, gaps
    for first in range(0, len(passages), BATCH):
        some = passages[first : first + BATCH]
        blind = score_passages(engine, some)
        for name in names:
            kind, _, gap_text = name.partition("_")
            if kind == "infill":
                sums[name] += _sums(score_passages(engine, some, int(gap_text)))
            else:
                sums[name] += _sums(_only_before_gaps(blind, some, int(gap_text)) if gap_text else blind)
        if progress:
            progress(min(first + BATCH, len(passages)), len(passages))
    return {name: _row(values) for name, values in sums.items()}


def _only_before_gaps(scores: Scores, passages: list[Passage], gap: int) -> Scores:
    """The scores of the tokens that a gap of so many tokens would hold, with a future after it."""
    nats = scores.nats.copy()
    for b, passage in enumerate(passages):
        nats[b, max(0, (len(passage.rows) - 1) // gap) * gap :] = np.nan
    return Scores(nats, scores.decisions)


def _sums(scores: Scores) -> Any:
    known = np.isfinite(scores.nats).all(-1)
    sums = [float(scores.nats[known][:, i].sum()) for i in range(len(FIELDS))]
    return np.array([*sums, known.sum(), scores.decisions.sum(), len(scores.decisions)])


def _row(sums: Any) -> Row:
    tokens, decisions, gaps = sums[len(FIELDS) :]
    each = {name: float(sums[i] / max(tokens, 1)) for i, name in enumerate(FIELDS)}
    return {"total": sum(each.values()), **each, "decision": float(decisions / max(gaps, 1))}


def float_likelihood(
    bundle: Bundle, corpus: Corpus, split: str, limits: tuple[int | None, ...], progress: Progress | None = None
) -> list[dict[str, Row]]:
    """The protocol with a bundle's weights in float32, on each of `limits` segments (None: all).

    Raises `ModuleNotFoundError` without torch.
    """
    from music_generator.model.export import load_network
    from music_generator.training.likelihood import likelihood

    network = load_network(bundle)
    return [likelihood(network, corpus, split, limit=limit, batch_size=BATCH, progress=progress) for limit in limits]


def likelihoods(
    bundle: Bundle,
    corpus: Corpus,
    split: str,
    *,
    float_segments: int | None,
    runtime_segments: int | None,
    threads: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Float and runtime rows of one split, with how many segments, tokens and bits a second of music they stand for.

    Without torch `float` is missing and `no_float` says why.
    """

    def part(what: str) -> Progress:
        return lambda done, total: progress(f"likelihood, {split}, {what}", done, total) if progress else None

    whole, some = (segments(corpus, split, limit) for limit in (float_segments, runtime_segments))
    engine = Engine(bundle, threads=threads)
    rows = runtime_likelihood(engine, some, progress=part(engine.precision))
    found: dict[str, Any] = {"runtime": _facts(some, rows) | {"precision": engine.precision}}
    try:
        limits = (float_segments, runtime_segments) if len(whole) != len(some) else (float_segments,)
        of_whole, *of_some = float_likelihood(bundle, corpus, split, limits, part("float"))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        reason = 'torch is not installed; install it with: pip install "music-generator-rnn[train]"'
        return found | {"no_float": reason}
    same = of_some[0] if of_some else of_whole
    worse = {name: row["total"] - same[name]["total"] for name, row in rows.items()}
    return found | {
        "float": _facts(whole, of_whole),
        "float_on_the_same": _facts(some, same),
        "runtime_worse_by": worse,
    }


def _facts(passages: list[Passage], rows: dict[str, Row]) -> dict[str, Any]:
    return {
        "segments": len(passages),
        "tokens": sum(len(passage.rows) for passage in passages),
        "bits_per_second": bits_per_second(passages, rows["continue"]["total"]),
        "nats_per_token": rows,
    }
