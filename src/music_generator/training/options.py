"""How to train."""

from __future__ import annotations

from dataclasses import dataclass, field

from music_generator.data.windows import WindowOptions
from music_generator.errors import InputError

PRECISIONS = ("auto", "bfloat16", "float32")


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. `epochs` counts the train split's rows once each; `steps`, where given, takes its place."""

    epochs: float = 10.0
    steps: int | None = None
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 5e-3
    weight_decay: float = 0.01
    warm_up: float = 0.02  # share of all steps
    final_share: float = 0.01  # of the learning rate, at the end of the cosine
    clip: float = 1.0
    precision: str = "auto"
    seed: int = 0
    threads: int | None = None
    log_every: int = 25
    save_every: int = 250
    validate_every: int | None = None  # steps; None: a tenth of all, but at most 500
    validation_segments: int = 64
    windows: WindowOptions = field(default_factory=WindowOptions)

    def __post_init__(self) -> None:
        if isinstance(self.windows, dict):
            object.__setattr__(self, "windows", WindowOptions(**self.windows))
        for name in ("epochs", "learning_rate", "matrix_learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name)}")
        for name in ("log_every", "save_every", "validate_every", "validation_segments", "steps", "threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        for name in ("warm_up", "final_share", "weight_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be 0 to 1, not {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"`seed` must be 0 or more, not {self.seed}")
        if self.precision not in PRECISIONS:
            raise InputError(f"`precision` must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
