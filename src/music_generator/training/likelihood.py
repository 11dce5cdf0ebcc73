"""The likelihood protocol (see `protocol`) measured with the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from music_generator.data.corpus import Corpus
from music_generator.data.windows import GAP_TOKENS, SEGMENT_TOKENS, even_gaps, segments
from music_generator.model.config import FIELDS, MASKED
from music_generator.model.network import Network
from music_generator.music.tokens import RESUME, Window
from music_generator.training.batches import to_batch
from music_generator.training.protocol import Measure, Row, measures

BATCH_SEGMENTS = 16


@torch.no_grad()
def likelihood(
    network: Network,
    corpus: Corpus,
    split: str = "validation",
    *,
    gaps: Sequence[int] = GAP_TOKENS,
    length: int = SEGMENT_TOKENS,
    limit: int | None = None,
    batch_size: int = BATCH_SEGMENTS,
    autocast: Callable[[], Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Row]:
    """Measure the held-out likelihood of a network.

    Args:
        network: In any mode; its mode is restored.
        corpus: A prepared corpus.
        split: The split to measure on.
        gaps: Lengths of gaps, in tokens.
        length: Tokens a segment.
        limit: Measure this many segments, evenly spread, instead of all.
        batch_size: Segments side by side.
        autocast: Makes a context to compute in; float32 if None.
        progress: Called with the number of segments done and of all.

    Returns:
        Rows of nats per token named `continue` and, for each gap of N tokens, `infill_N` and `blind_N`. Each has
        `total`, the four fields, and `decision`, nats per gap of resuming at its end, which `total` leaves out.
        A row that no token counts for, as every piece is shorter than a gap, is missing.

    Raises:
        CorpusError: The split is empty.
    """
    windows = segments(corpus, split, length, limit)
    rows = measures(network.config, gaps)
    training = network.training
    network.eval()
    for first in range(0, len(windows), batch_size):
        some = windows[first : first + batch_size]
        with autocast() if autocast else torch.autocast("cpu", enabled=False):
            _add(network, some, length, rows)
        if progress:
            progress(min(first + batch_size, len(windows)), len(windows))
    network.train(training)
    return {row.name: row.row() for row in rows if row.tokens}


def _add(network: Network, windows: list[Window], length: int, rows: list[Measure]) -> None:
    """Add some segments to each row."""
    device = next(network.parameters()).device
    blind = to_batch(windows, length).to(device)
    nats = network.nats(network.without_future(network.read(blind))[0], blind)
    for row in rows:
        if row.gap is None:
            row.add(*_sums(nats, blind.present))
            continue
        batch = to_batch(windows, length, even_gaps(windows, length, row.gap)).to(device)
        counted = batch.present & batch.has_future
        if row.kind == "blind":
            row.add(*_sums(nats, counted))
            continue
        logits, resumed = network.with_future(network.read(batch))
        logits["shift"][..., RESUME] = MASKED  # that the gap goes on is given
        decisions = -float(resumed.log_softmax(-1)[:, RESUME].sum())
        row.add(*_sums(network.nats(logits, batch), counted), decisions, len(resumed))


def _sums(nats: dict[str, Tensor], counted: Tensor) -> tuple[list[float], int]:
    """Return the nats of each field summed over the counted tokens, and their number."""
    return [float((nats[name].double() * counted).sum()) for name in FIELDS], int(counted.sum())
