"""Training runs beside one another: what each network is, and its best validation. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from music_generator.errors import BundleError
from music_generator.training.history import GAP_ROWS, HISTORY_FILE, LOSSES, read_history
from music_generator.training.options import LAST_FILE, WEIGHTS, Run, read_run

Array = NDArray[Any]
VALIDATED = (*LOSSES, *GAP_ROWS)


@dataclass(frozen=True)
class Compared:
    """A run as it stands beside others.

    Attributes:
        name: The folder's name, or its path where another run's folder has the same name.
        run: What it was started with.
        parameters: Number of weights of its network.
        steps: Steps done.
        best_step: Step of the best validation; None if there was none.
        nats: Nats per token of the best validation, by the names of `VALIDATED`; without those not measured.
        history: The columns of its history.
    """

    name: str
    run: Run
    parameters: int
    steps: int
    best_step: int | None
    nats: dict[str, float]
    history: dict[str, Array]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON, without the history."""
        return {
            "run": self.name,
            "cell": self.run.config.cell,
            "direction": self.run.config.direction,
            "parameters": self.parameters,
            "steps": self.steps,
            "best_step": self.best_step,
            "corpus": self.run.corpus,
            "nats": self.nats,
        }


def compare_runs(folders: Sequence[Path]) -> list[Compared]:
    """Read runs, in their order.

    Raises:
        BundleError: A folder is no run, or a damaged one.
        InputError: A history cannot be read.
    """
    names = [folder.resolve().name for folder in folders]
    return [
        _read(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]


def comparable(runs: Sequence[Compared]) -> bool:
    """Return whether all runs were validated on the same segments of the same corpus."""
    return len({(each.run.digest, each.run.options.validation_segments) for each in runs}) <= 1


def _read(folder: Path, name: str) -> Compared:
    run, parameters = read_run(folder), _parameters(folder / LAST_FILE)
    history = read_history(folder / HISTORY_FILE) if (folder / HISTORY_FILE).exists() else {}
    steps, total = history.get("step", np.empty(0)), history.get("validation_total", np.empty(0))
    done = int(steps[-1]) if len(steps) else 0
    if not np.isfinite(total).any():
        return Compared(name, run, parameters, done, None, {}, history)
    best = int(np.nanargmin(total))
    found = {each: float(history.get(f"validation_{each}", np.full(len(total), np.nan))[best]) for each in VALIDATED}
    nats = {each: value for each, value in found.items() if math.isfinite(value)}
    return Compared(name, run, parameters, done, int(steps[best]), nats, history)


def _parameters(path: Path) -> int:
    """Return the number of weights of a checkpoint."""
    try:
        with safe_open(path, "np") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys() if name.startswith(WEIGHTS)]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path}: the checkpoint cannot be read ({error})") from error
    return sum(math.prod(shape) for shape in shapes)
