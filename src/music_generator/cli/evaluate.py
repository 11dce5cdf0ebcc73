"""The command `evaluate`."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from music_generator.cli import options
from music_generator.cli.console import Progress
from music_generator.errors import BundleError, InputError
from music_generator.generation.span import SamplingOptions
from music_generator.model.bundle import find_bundle


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="`pretrained`, the folder of a model or of a training run, or a folder of MIDI files"),
    ],
    corpus: Annotated[Path, typer.Argument(readable=False, help="prepared corpus with the music held out")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the report and its figures")] = Path(
        "evaluation"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="measure less, in under three minutes on two cores")] = False,
    split: Annotated[
        str | None, typer.Option(help="validation or test  [default: validation, test where it is empty]")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="seconds of music to compare, and to generate  [default: each section has its own]"),
    ] = None,
    temperature: options.Temperature = SamplingOptions.temperature,
    top_p: options.TopP = SamplingOptions.top_p,
    seed: Annotated[int, typer.Option(help="seed of the generated music and the gaps")] = 0,
    as_json: options.Json = False,
) -> None:
    """Measure a model, or the MIDI files of any generator, in one report.

    It has the likelihood of held-out music, distributions, structure, endings, the filling of gaps, and copying from
    the training music.
    """
    from music_generator import evaluation
    from music_generator.data.corpus import open_corpus

    sampling = SamplingOptions(temperature, top_p)
    measured = evaluation.EvaluationOptions(split=split, sampling=sampling)
    if seconds is not None:
        measured = replace(measured, seconds=seconds, structure_seconds=seconds)
    begun = time.perf_counter()
    with Progress("evaluating", hidden=as_json) as bar:
        last = ""

        def progress(part: str, done: int, total: int) -> None:
            nonlocal last
            if part != last:
                bar.print(f"{time.perf_counter() - begun:6.1f} s  {part}", sys.stderr)
                last = part
            bar.update(done, total)

        report = evaluation.evaluate(
            _music_of(model), open_corpus(corpus), out, quick=quick, seed=seed, options=measured, progress=progress
        )
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
        return
    print(*evaluation.summary(report), f"{out / 'report.md'}: {time.perf_counter() - begun:.0f} s", sep="\n")


def _music_of(name: str) -> Path:
    """Return the folder of a model or of MIDI files."""
    with suppress(BundleError):
        return find_bundle(name)
    if not Path(name).is_dir():
        raise InputError(
            f"{name}: no such folder; name `pretrained`, a model, a training run or a folder of MIDI files"
        )
    return Path(name)
