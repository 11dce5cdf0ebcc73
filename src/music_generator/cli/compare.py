"""The command `compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from music_generator import plots
from music_generator.cli import options
from music_generator.cli.console import say
from music_generator.training.compare import VALIDATED, Compared, comparable, compare_runs


def compare(
    runs: Annotated[list[Path], typer.Argument(readable=False, help="folders of training runs")],
    out: Annotated[Path, typer.Option("--out", "-o", help="picture, .png, .svg or .pdf")] = Path("compared.png"),
    no_plots: options.NoPlots = False,
    as_json: options.Json = False,
) -> None:
    """Draw the curves of several training runs in one picture, and list the best validation of each.

    Numbers are nats per token; fewer are better. `infill_16` and `blind_16` are gaps of 16 events with and without the
    music after them.
    """
    compared = compare_runs(runs)
    if not comparable(compared):
        say("these runs were not validated on the same music: their numbers do not compare")
    if not no_plots:
        plots.save(plots.compared_curves({each.name: each.history for each in compared}), out)
    files = [] if no_plots else [str(out)]
    if as_json:
        print(json.dumps({"files": files, "runs": [each.to_json() for each in compared]}))
        return
    print(*_table(compared), *files, sep="\n")


def _table(runs: Sequence[Compared]) -> list[str]:
    """Return a line of names and one line for each run, in columns."""
    rows = [["run", "cell", "direction", "parameters", "steps", "best at", *VALIDATED], *map(_cells, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first_number = 3  # names are left-aligned, numbers right-aligned
    return [
        "  ".join(
            cell.rjust(width) if i >= first_number else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cells(run: Compared) -> list[str]:
    config = run.run.config
    best = "-" if run.best_step is None else f"{run.best_step:,}"
    nats = [f"{run.nats[name]:.3f}" if name in run.nats else "-" for name in VALIDATED]
    return [run.name, config.cell, config.direction, f"{run.parameters:,}", f"{run.steps:,}", best, *nats]
