"""A run's `history.csv`: the losses of its steps, written, read and described here. No torch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import BundleError, InputError
from music_generator.files import replacing
from music_generator.model.config import FIELDS
from music_generator.training.protocol import Row

Array = NDArray[Any]

HISTORY_FILE = "history.csv"
LOSSES = ("total", *FIELDS)
VALIDATION_GAP = 16  # tokens
GAP_ROWS = (f"infill_{VALIDATION_GAP}", f"blind_{VALIDATION_GAP}")


@dataclass(frozen=True)
class Progress:
    """The state of a run after a step.

    Attributes:
        step: Steps done, of `steps`.
        steps: Steps of the whole run.
        tokens: Tokens trained on.
        seconds: Seconds of training, all resumed parts together.
        seconds_left: Seconds to the end of the run at its mean speed.
        tokens_per_second: Speed since the last report.
        learning_rate: AdamW's, of this step.
        train: Nats per token since the last report, given the past alone, of the windows that are not plain: `total`
            and each field. Then `decisions`, the nats of resuming and ending in all windows, by the same tokens.
        validation: What `likelihood` returned after this step; None where there was no validation.
    """

    step: int
    steps: int
    tokens: int
    seconds: float
    seconds_left: float
    tokens_per_second: float
    learning_rate: float
    train: dict[str, float]
    validation: dict[str, Row] | None = None


def append_history(path: Path, progress: Progress) -> None:
    """Append a line, after the line of column names where the file is new."""
    row = _cells(progress)
    new = not path.exists() or not path.stat().st_size  # a kill may have left it empty
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _cells(progress: Progress) -> dict[str, Any]:
    """Return a line's cells by column; those of the validation are empty where there was none."""
    validation = progress.validation or {}
    return {
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 2),
        "learning_rate": f"{progress.learning_rate:.6g}",
        **{f"train_{name}": f"{progress.train[name]:.5f}" for name in LOSSES},
        **{
            f"validation_{name}": f"{validation['continue'][name]:.5f}" if validation else "" for name in LOSSES
        },
        **{f"validation_{name}": f"{validation[name]['total']:.5f}" if name in validation else "" for name in GAP_ROWS},
    }  # fmt: skip


def trim_history(path: Path, step: int) -> None:
    """Remove what a killed run wrote after its last checkpoint: the lines after `step`, and a line cut short.

    Raises:
        InputError: The file cannot be read or written.
    """
    if not path.exists():
        return
    rows = _rows(path)
    whole = [row for row in rows[1:] if len(row) == len(rows[0]) and row[0].isdecimal()]
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows[:1] + [row for row in whole if int(row[0]) <= step])


def read_history(path: str | Path) -> dict[str, Array]:
    """Read the columns of a history by name.

    Returns:
        float64 of shape (rows,) each, nan for cells that are empty or missing.

    Raises:
        InputError: The file cannot be read, has no column names, or has a cell that is not a number.
    """
    header, *rows = _rows(path) or [[]]
    if not header or len(set(header)) < len(header):
        raise InputError(f"{path} must begin with a line of different column names")
    table = [_numbers(row, len(header), f"{path}, line {line}") for line, row in enumerate(rows, 2) if row]
    values = np.array(table, np.float64).reshape(-1, len(header))
    return {name: values[:, i] for i, name in enumerate(header)}


def _rows(path: str | Path) -> list[list[str]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file: {error}") from error


def _numbers(row: list[str], width: int, where: str) -> list[float]:
    if len(row) > width:
        raise InputError(f"{where}: {len(row)} cells under {width} column names")
    try:
        return [float(cell) if cell.strip() else np.nan for cell in row] + [np.nan] * (width - len(row))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def describe_history(path: Path) -> dict[str, Any]:
    """Return the steps and tokens done, the last training loss and the best validation loss, by name.

    Raises:
        InputError: The file cannot be read.
        BundleError: A column or all lines are missing.
    """
    history = read_history(path)
    try:
        facts: dict[str, Any] = {"steps done": int(history["step"][-1]), "tokens": int(history["tokens"][-1])}
        facts["train total"] = float(history["train_total"][-1])
        validation = history["validation_total"]
    except (IndexError, KeyError, ValueError) as error:
        raise BundleError(f"{path}: the history is damaged ({error})") from error
    if np.isfinite(validation).any():
        facts["best validation total"] = float(np.nanmin(validation))
    return facts
