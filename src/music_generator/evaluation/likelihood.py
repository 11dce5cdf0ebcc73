"""The likelihood protocol (see `training.protocol`), measured with the engine and with the network in float32.

The engine needs no torch. It is measured on evenly spread segments, and the network on the same ones, so their
difference is that of the arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from music_generator.data.corpus import Corpus
from music_generator.data.windows import GAP_TOKENS, even_gaps, segments
from music_generator.engine.engine import Engine
from music_generator.errors import how_to_install
from music_generator.evaluation.report import LikelihoodTable, SplitLikelihood
from music_generator.generation.scoring import Scores, score_passages
from music_generator.model.bundle import Bundle
from music_generator.model.config import FIELDS
from music_generator.music.tokens import TICKS_PER_SECOND, Window
from music_generator.training.protocol import Measure, Row, measures

BATCH_SEGMENTS = 64
ENGINE_THREADS = 2

Progress = Callable[[int, int], None]


def bits_per_second(windows: Sequence[Window], nats_per_token: float) -> float:
    """Return the bits that a second of the windows' music costs."""
    tokens = sum(len(window.rows) for window in windows)
    ticks = sum(int(window.rows["shift"].sum(dtype=np.int64)) for window in windows)
    return float(nats_per_token * tokens / np.log(2) / max(ticks / TICKS_PER_SECOND, 1e-9))


def engine_likelihood(
    engine: Engine, windows: Sequence[Window], *, gaps: Sequence[int] = GAP_TOKENS, progress: Progress | None = None
) -> dict[str, Row]:
    """Return what `training.likelihood.likelihood` returns, measured with an engine on these windows."""
    rows = measures(engine.config, gaps)
    for first in range(0, len(windows), BATCH_SEGMENTS):
        some = windows[first : first + BATCH_SEGMENTS]
        blind = score_passages(engine, some)
        for row in rows:
            _add(row, engine, some, blind)
        if progress:
            progress(min(first + BATCH_SEGMENTS, len(windows)), len(windows))
    return {row.name: row.row() for row in rows if row.tokens}


def _add(row: Measure, engine: Engine, windows: Sequence[Window], blind: Scores) -> None:
    """Add some windows to a row; `blind` are their scores without a future."""
    if row.gap is None:
        row.add(*_sums(blind.nats))
    elif row.kind == "blind":
        length = blind.nats.shape[1]
        counted = even_gaps(windows, length, row.gap).resume <= length
        row.add(*_sums(np.where(counted[..., None], blind.nats, np.nan)))
    else:
        scores = score_passages(engine, windows, row.gap)
        row.add(*_sums(scores.nats), float(scores.decisions.sum()), len(scores.decisions))


def _sums(nats: NDArray[np.float64]) -> tuple[list[float], int]:
    """Return the sums of nats (B, T, 4) of each field over the tokens that are not nan, and their number."""
    known = np.isfinite(nats).all(-1)
    return [float(nats[known][:, i].sum()) for i in range(len(FIELDS))], int(known.sum())


def network_likelihood(
    bundle: Bundle, corpus: Corpus, split: str, limits: Sequence[int | None], progress: Progress | None = None
) -> list[dict[str, Row]]:
    """Measure a bundle's weights in float32, on each number of segments in `limits` (None: all).

    Raises:
        ModuleNotFoundError: torch is not installed.
    """
    from music_generator.model.export import load_network
    from music_generator.training.likelihood import likelihood

    network = load_network(bundle)
    return [
        likelihood(network, corpus, split, limit=limit, batch_size=BATCH_SEGMENTS, progress=progress)
        for limit in limits
    ]


def split_likelihood(
    bundle: Bundle,
    corpus: Corpus,
    split: str,
    *,
    network_segments: int | None,
    engine_segments: int | None,
    progress: Callable[[str, int, int], None] | None = None,
) -> SplitLikelihood:
    """Measure a split with the engine and, where torch is installed, with the network.

    Args:
        bundle: The model.
        corpus: A prepared corpus.
        split: The split to measure on; it must not be empty.
        network_segments: Segments for the network; all if None.
        engine_segments: Segments for the engine; all if None.
        progress: Called with a part's name and the number of segments done and of all.
    """

    def part(name: str) -> Progress:
        return lambda done, total: progress(f"likelihood, {split}, {name}", done, total) if progress else None

    whole, some = (segments(corpus, split, limit=limit) for limit in (network_segments, engine_segments))
    engine = Engine(bundle, threads=ENGINE_THREADS)
    rows = engine_likelihood(engine, some, progress=part(engine.precision))
    ours = _table(engine.precision, some, rows)
    try:
        limits = (network_segments, engine_segments) if len(whole) != len(some) else (network_segments,)
        on_whole, *on_some = network_likelihood(bundle, corpus, split, limits, part("float"))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        reason = f"torch is not installed; install it with: {how_to_install('train')}"
        return SplitLikelihood(ours, network_skipped=reason)
    same = on_some[0] if on_some else on_whole
    return SplitLikelihood(
        ours,
        network=_table("float32", whole, on_whole),
        network_on_same_segments=_table("float32", some, same),
        engine_worse_by={name: row["total"] - same[name]["total"] for name, row in rows.items()},
    )


def _table(precision: str, windows: Sequence[Window], rows: dict[str, Row]) -> LikelihoodTable:
    return LikelihoodTable(
        precision=precision,
        segments=len(windows),
        tokens=sum(len(window.rows) for window in windows),
        bits_per_second=bits_per_second(windows, rows["continue"]["total"]),
        nats_per_token=rows,
    )
