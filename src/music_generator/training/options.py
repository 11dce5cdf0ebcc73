"""The options of training, and `run.json`, which keeps them beside a run's checkpoints. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from music_generator.checks import check_types
from music_generator.data.windows import WindowOptions
from music_generator.errors import BundleError, InputError
from music_generator.files import replacing
from music_generator.model.bundle import BUNDLE_FOLDER, FACTS_FILE, Bundle
from music_generator.model.config import ModelConfig

RUN_FILE, LAST_FILE, BEST_FILE = "run.json", "last.safetensors", "best.safetensors"
WEIGHTS = "weights/"  # prefix of the names of a checkpoint's weights
PRECISIONS = ("auto", "bfloat16", "float32")


@dataclass(frozen=True)
class TrainingOptions:
    """The options of training.

    Attributes:
        epochs: Times that the train split's rows are gone through; may be a fraction.
        steps: Steps, in place of `epochs`.
        minutes: Minutes of training, all resumed parts together, after which the run ends if it has not done its steps
            by then. The learning rates then fall by time, so that they fall to the end.
        learning_rate: Of AdamW, for embeddings, outputs and biases.
        matrix_learning_rate: Of Muon, for the matrices inside the network.
        weight_decay: Share of a weight that a step of learning rate 1 takes away.
        warm_up: Share of all steps in which the learning rates rise.
        final_share: Share of the learning rates at the last step.
        clip: Norm above which a gradient is scaled down.
        precision: One of `PRECISIONS`; auto is bfloat16 where the processor is fast in it.
        seed: Decides windows, first weights and dropout.
        threads: Threads of the processor; torch's choice if None.
        log_every: Steps between two lines of the history.
        save_every: Steps between two checkpoints.
        save_minutes: Minutes after which a checkpoint is written, even if `save_every` steps are not done.
        validate_every: Steps between two validations; a tenth of all steps, but at most 500, if None. With `minutes` a
            tenth of the run, by steps or by time.
        validation_segments: Segments of a validation, at most.
        patience: Validations without a better one after which training ends; 0 to go on to the last step.
        average: Share that the moving average of the weights keeps at each step, such as 0.999; 0 for no average. In
            step t it keeps (1 + t) / (10 + t) if that is less, so that it reaches over no more than the last ninth of
            the steps done, in short runs too. Validation and the bundle then use the average. There is none by default:
            where the learning rate falls to the end, it gained nothing (docs/experiments.md).
        windows: How windows are drawn.

    Raises:
        InputError: A value is out of range.
    """

    epochs: float = 10.0
    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 5e-3
    weight_decay: float = 0.01
    warm_up: float = 0.02
    final_share: float = 0.01
    clip: float = 1.0
    precision: str = "auto"
    seed: int = 0
    threads: int | None = None
    log_every: int = 25
    save_every: int = 250
    save_minutes: float = 5.0
    validate_every: int | None = None
    validation_segments: int = 64
    patience: int = 5
    average: float = 0.0
    windows: WindowOptions = field(default_factory=WindowOptions)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("epochs", "learning_rate", "matrix_learning_rate", "clip", "save_minutes"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name)}")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InputError(f"`minutes` must be above 0, not {self.minutes}")
        for name in ("log_every", "save_every", "validate_every", "validation_segments", "steps", "threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        for name in ("warm_up", "final_share", "weight_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be 0 to 1, not {getattr(self, name)}")
        for name in ("seed", "patience"):
            if getattr(self, name) < 0:
                raise InputError(f"`{name}` must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise InputError(f"`average` must be 0 or more and below 1, not {self.average}")
        if self.precision not in PRECISIONS:
            raise InputError(f"`precision` must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")


@dataclass(frozen=True)
class Base:
    """The model that a run began from, whose licence its weights keep.

    Attributes:
        name: Its name: `pretrained`, or that of its run or folder.
        sha256: Of its `bundle.json`.
        data: All that it and the models before it were trained on.
        licence: Of its weights.
    """

    name: str
    sha256: str
    data: str
    licence: str


def base_of(bundle: Bundle) -> Base:
    """Return what a run that begins from a model keeps of it."""
    folder, facts = bundle.folder.resolve(), bundle.provenance
    name = folder.parent.name if folder.name == BUNDLE_FOLDER else folder.name
    data = [facts["base"]["data"]] if facts.get("base") else []
    data.append(facts.get("data", "unknown data"))
    sha256 = hashlib.sha256((folder / FACTS_FILE).read_bytes()).hexdigest()
    sources = dict.fromkeys(" + ".join(data).split(" + "))  # each once
    return Base(name, sha256, " + ".join(sources), facts.get("licence", "unknown"))


@dataclass(frozen=True)
class Run:
    """The start of a run.

    Attributes:
        config: The shape of its network.
        options: How to train it.
        corpus: The name of its corpus.
        digest: The corpus's `digest`.
        base: The model that it began from; None for random weights.
    """

    config: ModelConfig
    options: TrainingOptions
    corpus: str
    digest: str
    base: Base | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a JSON file; the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        """Return the run of `to_json`'s data.

        Raises:
            InputError: A value is out of range.
            KeyError, TypeError: A value is missing or unknown.
        """
        options = dict(data["options"])
        windows = WindowOptions(**options.pop("windows"))
        return cls(
            ModelConfig(**data["config"]),
            TrainingOptions(**options, windows=windows),
            data["corpus"],
            data["digest"],
            Base(**data["base"]) if data.get("base") else None,
        )


def write_run(folder: Path, run: Run) -> None:
    """Write `run.json`. Raises `InputError` if it cannot be written."""
    with replacing(folder / RUN_FILE) as beside:
        beside.write_text(json.dumps(run.to_json(), indent=1), "utf-8")


def read_run(folder: str | Path) -> Run:
    """Read what a run was started with.

    Raises:
        BundleError: The folder has no `run.json`, or a damaged one.
    """
    try:
        return Run.from_json(json.loads((Path(folder) / RUN_FILE).read_text("utf-8")))
    except FileNotFoundError:
        raise BundleError(f"{folder}: no training run ({RUN_FILE} is missing)") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{folder}: {RUN_FILE} is damaged ({error})") from error
