"""The options of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from music_generator.checks import check_types
from music_generator.data.corpus import SPLITS
from music_generator.errors import InputError
from music_generator.generation import SamplingOptions


@dataclass(frozen=True)
class EvaluationOptions:
    """The amount of what is measured.

    Attributes:
        network_segments: Segments of each split for the network in float32; all if None.
        engine_segments: Segments of each split for the engine; all if None.
        context_windows: Pieces, passages and segments for the use of context, at most, of each.
        performances: Performances of each kind to generate.
        seconds: Length of the excerpts whose distributions and originality are measured.
        structure_seconds: Length of the excerpts whose structure is measured; the longer of the two is generated.
        primer_seconds: Length of the primers of continued performances.
        gaps: Gaps of each length to fill.
        split: Held-out split to compare with; validation, or test where that is empty, if None.
        sampling: How music is generated; its seed also decides halves and gaps.

    Raises:
        InputError: A value is out of range.
    """

    network_segments: int | None = None
    engine_segments: int | None = 128
    context_windows: int = 64
    performances: int = 100
    seconds: float = 60.0
    structure_seconds: float = 120.0
    primer_seconds: float = 20.0
    gaps: int = 100
    split: str | None = None
    sampling: SamplingOptions = field(default_factory=SamplingOptions)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("network_segments", "engine_segments", "context_windows", "performances", "gaps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be at least 1, not {value}")
        for name in ("seconds", "structure_seconds", "primer_seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name)}")
        if self.split is not None and self.split not in SPLITS[1:]:
            raise InputError(f"`split` must be {' or '.join(SPLITS[1:])}, not {self.split!r}")


QUICK = {"network_segments": 48, "engine_segments": 16, "context_windows": 16, "performances": 40, "gaps": 24}
