"""The likelihood protocol: how many nats a token of held-out music costs, with and without its future.

Segments of 512 tokens, not overlapping, the context reset at each, the composer not told. `continue`: every token
given those before it in the segment. `infill_N`: the segment cut into gaps of N tokens, each token given all before it
and, from the end of its gap on, all after it; that the gap goes on is given, as its number of tokens is. `blind_N`: the
same tokens without their future. A segment's last gap has no future in it and is left out of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from music_generator.data.corpus import Corpus
from music_generator.model.config import FIELDS, MASKED
from music_generator.model.network import Network
from music_generator.music.tokens import RESUME
from music_generator.training.windows import Window, even_gaps, segments, to_batch

SEGMENT = 512
GAPS = (4, 16, 64)


@dataclass
class Likelihood:
    """Sums over `tokens` tokens of each field's nats, and of the nats of the decisions to resume at `gaps` gaps."""

    fields: dict[str, float]
    tokens: int = 0
    decisions: float = 0.0
    gaps: int = 0

    def per_token(self) -> dict[str, float]:
        """Nats per token of each field and in total; `decision`: nats per gap of resuming when the gap is over."""
        each = {name: value / max(self.tokens, 1) for name, value in self.fields.items()}
        return {"total": sum(each.values()), **each, "decision": self.decisions / max(self.gaps, 1)}


def chosen_segments(corpus: Corpus, split: str, limit: int | None) -> list[Window]:
    """All segments of a split, or `limit` of them evenly spread."""
    return segments(corpus, split, SEGMENT, limit)


@torch.no_grad()
def likelihood(
    network: Network,
    corpus: Corpus,
    split: str = "validation",
    *,
    gaps: tuple[int, ...] = GAPS,
    limit: int | None = None,
    batch_size: int = 16,
    autocast: Callable[[], Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """`Likelihood.per_token` of `continue` and, of each gap length N, `infill_N` and `blind_N`.

    `limit`: this many segments, evenly spread, in place of all. Raises `CorpusError` if the split is empty.
    """
    device = next(network.parameters()).device
    windows = chosen_segments(corpus, split, limit)
    found = {name: Likelihood(dict.fromkeys(FIELDS, 0.0)) for name in ["continue"]}
    for gap in gaps if network.config.direction == "both" else ():
        found[f"blind_{gap}"] = Likelihood(dict.fromkeys(FIELDS, 0.0))
        found[f"infill_{gap}"] = Likelihood(dict.fromkeys(FIELDS, 0.0))
    training = network.training
    network.eval()
    for first in range(0, len(windows), batch_size):
        some = windows[first : first + batch_size]
        with autocast() if autocast else torch.autocast("cpu", enabled=False):
            _add(network, some, found, device)
        if progress:
            progress(min(first + batch_size, len(windows)), len(windows))
    network.train(training)
    return {name: value.per_token() for name, value in found.items()}


def _add(network: Network, windows: list[Window], found: dict[str, Likelihood], device: torch.device) -> None:
    blind = to_batch(windows, SEGMENT, np.full((len(windows), SEGMENT), SEGMENT)).to(device)
    logits, _, _ = network.logits(blind)
    nats = network.nats(logits, blind)
    for name, likelihood in found.items():
        kind, _, gap = name.partition("_")
        if kind == "continue":
            _count(likelihood, nats, blind.present)
            continue
        resume = torch.as_tensor(even_gaps(windows, SEGMENT, int(gap)), device=device)
        counted = blind.present & (resume < SEGMENT)
        if kind == "blind":
            _count(likelihood, nats, counted)
            continue
        batch = to_batch(windows, SEGMENT, resume.cpu().numpy()).to(device)
        logits, resumed, _ = network.logits(batch)
        logits["shift"][..., RESUME] = MASKED
        _count(likelihood, network.nats(logits, batch), counted)
        likelihood.decisions -= float(resumed.log_softmax(-1)[:, RESUME].sum())
        likelihood.gaps += len(resumed)


def _count(likelihood: Likelihood, nats: dict[str, torch.Tensor], counted: torch.Tensor) -> None:
    for name in FIELDS:
        likelihood.fields[name] += float((nats[name].double() * counted).sum())
    likelihood.tokens += int(counted.sum())
