"""The likelihood protocol: what is measured, and how it is averaged. NumPy only: the network and the engine share it.

Held-out music is cut into segments of 512 tokens. The context is reset at each, and the composer is unknown.

- `continue`: each token, given those before it in its segment.
- `infill_N`: the segment is cut into gaps of N tokens; each token, given all before it and all from the end of its gap
  on. That the gap goes on is given, too. A segment's last gap has no future and is left out.
- `blind_N`: the same tokens as in `infill_N`, without their future.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from music_generator.data.windows import GAP_TOKENS
from music_generator.model.config import FIELDS, ModelConfig

Row = dict[str, float]  # nats: `total`, each of `FIELDS`, `decision`


@dataclass
class Measure:
    """One row of the protocol, and its sums so far.

    Attributes:
        kind: `continue`, `infill` or `blind`.
        gap: Tokens a gap; None of `continue`.
        nats: Summed over tokens: (4,) in the order of `FIELDS`.
        tokens: The number of tokens.
        decisions: Nats of resuming at the end of a gap, summed over gaps.
        gaps: The number of gaps.
    """

    kind: str
    gap: int | None = None
    nats: list[float] = field(default_factory=lambda: [0.0] * len(FIELDS))
    tokens: int = 0
    decisions: float = 0.0
    gaps: int = 0

    @property
    def name(self) -> str:
        """`continue`, `infill_N` or `blind_N`."""
        return self.kind if self.gap is None else f"{self.kind}_{self.gap}"

    def add(self, nats: Sequence[float], tokens: int, decisions: float = 0.0, gaps: int = 0) -> None:
        """Add the sums of some segments."""
        self.nats = [before + more for before, more in zip(self.nats, nats, strict=True)]
        self.tokens, self.decisions, self.gaps = self.tokens + tokens, self.decisions + decisions, self.gaps + gaps

    def row(self) -> Row:
        """Return the mean nats per token, in `total` and of each field, and the mean nats per gap of `decision`.

        There must be a token.
        """
        means = {name: value / self.tokens for name, value in zip(FIELDS, self.nats, strict=True)}
        return {"total": sum(means.values()), **means, "decision": self.decisions / max(self.gaps, 1)}


def measures(config: ModelConfig, gaps: Sequence[int] = GAP_TOKENS) -> list[Measure]:
    """Return empty measures: `continue` and, if the network reads both sides, `blind` and `infill` of each gap."""
    both = gaps if config.direction == "both" else ()
    return [Measure("continue"), *(Measure(kind, gap) for gap in both for kind in ("blind", "infill"))]
