"""The command `train`."""

# ruff: noqa: ARG001  # `_given` reads the options from the context, with their source

from __future__ import annotations

import json
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from music_generator import plots
from music_generator.cli.console import Progress, say
from music_generator.data.windows import WindowOptions
from music_generator.errors import InputError
from music_generator.model.bundle import open_bundle
from music_generator.model.config import FIELDS, ModelConfig
from music_generator.training.history import HISTORY_FILE, read_history
from music_generator.training.options import TrainingOptions, read_run

if TYPE_CHECKING:
    from music_generator.training.history import Progress as Report
    from music_generator.training.trainer import Trainer


def train(
    ctx: typer.Context,
    corpus: Annotated[Path, typer.Argument(readable=False, help="prepared corpus")],
    run: Annotated[Path, typer.Option(help="new folder for the run")] = Path("runs/run"),
    resume: Annotated[Path | None, typer.Option(readable=False, help="folder of a run to resume")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="model to start from: `pretrained`, or the folder of a model or of a training run  [default: none]",
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(help="passes over the train split")] = TrainingOptions.epochs,
    steps: Annotated[int | None, typer.Option(help="number of steps, instead of epochs")] = TrainingOptions.steps,
    cell: Annotated[str, typer.Option(help="lstm, gru or rnn")] = ModelConfig.cell,
    direction: Annotated[str, typer.Option(help="both or forward")] = ModelConfig.direction,
    forward_size: Annotated[int, typer.Option("--size", help="units of a forward layer")] = ModelConfig.forward_size,
    backward_size: Annotated[int, typer.Option(help="units of a backward layer")] = ModelConfig.backward_size,
    forward_layers: Annotated[int, typer.Option("--layers", help="forward layers")] = ModelConfig.forward_layers,
    dropout: Annotated[float, typer.Option(help="share of units dropped in training")] = ModelConfig.dropout,
    batch: Annotated[int, typer.Option(help="windows per step")] = WindowOptions.batch,
    length: Annotated[int, typer.Option(help="tokens per window")] = WindowOptions.length,
    future_share: Annotated[float, typer.Option(help="share of gaps with a future")] = WindowOptions.future_share,
    longest_gap: Annotated[int, typer.Option(help="longest gap in tokens")] = WindowOptions.longest_gap,
    transpose: Annotated[int, typer.Option(help="semitones up or down, at most")] = WindowOptions.transpose,
    learning_rate: Annotated[
        float, typer.Option(help="learning rate of embeddings and outputs")
    ] = TrainingOptions.learning_rate,
    matrix_learning_rate: Annotated[
        float, typer.Option(help="learning rate of the matrices")
    ] = TrainingOptions.matrix_learning_rate,
    seed: Annotated[int, typer.Option(help="seed of weights, windows and dropout")] = TrainingOptions.seed,
    precision: Annotated[str, typer.Option(help="auto, bfloat16 or float32")] = TrainingOptions.precision,
    threads: Annotated[
        int | None, typer.Option(help="threads of the processor  [default: torch's choice]")
    ] = TrainingOptions.threads,
) -> None:
    """Train a model; it ends as a bundle in RUN/model.

    It also runs under `accelerate launch` and `torchrun`. With --resume all other options are those of the run.
    """
    from music_generator.data.corpus import open_corpus
    from music_generator.training.trainer import Trainer

    opened, given = open_corpus(corpus), _given(ctx)
    if resume:
        if given.keys() - {"corpus", "resume"}:
            raise InputError("`--resume` continues a run with its own options: leave all other options out")
        begun = read_run(resume)
        run_trainer(Trainer(opened, resume, begun.config, begun.options, resume=True))
        return
    windows = WindowOptions(**_of(WindowOptions, given))
    options = TrainingOptions(windows=windows, **_of(TrainingOptions, given))
    sizes = _of(ModelConfig, given)
    if model is None:
        trainer = Trainer(opened, run, ModelConfig(composers=opened.composers, **sizes), options)
    else:
        config, weights = _begin_from(model, sizes)
        trainer = Trainer(opened, run, config, options, weights=weights)
    run_trainer(trainer)


def _given(ctx: typer.Context) -> dict[str, Any]:
    """Return the options that were typed, by the names of their parameters."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name: ctx.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _of(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass that were typed."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _begin_from(model: str, sizes: dict[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the configuration and the weights of a model."""
    from music_generator.model.export import load_network

    if sizes.keys() - {"dropout"}:
        raise InputError("a model to start from has its own cell, direction and sizes: leave those options out")
    network = load_network(open_bundle(model))
    return replace(network.config, **sizes), network.state_dict()


def run_trainer(trainer: Trainer) -> None:
    """Run a trainer to its end, with its picture of the losses and its bundle."""
    from music_generator.training.release import bundle_run

    def report(progress: Report) -> None:
        if progress.validation or progress.step % trainer.options.save_every == 0:
            history = read_history(trainer.folder / HISTORY_FILE)
            plots.save(plots.loss_curves(history, title=trainer.folder.name), trainer.folder / "loss.png")
        say(_line(progress))

    main_process = trainer.accelerator.is_main_process
    trainer.run(report)
    trainer.accelerator.end_training()
    if main_process:
        with Progress("held-out likelihood") as progress:
            bundle = bundle_run(trainer.folder, trainer.corpus, progress=progress.update)
        totals = {name: round(row["total"], 3) for name, row in bundle.provenance["validation"].items()}
        print(f"{bundle.folder}: {json.dumps(totals)}")


def _line(progress: Report) -> str:
    losses = " ".join(f"{name} {progress.train[name]:.2f}" for name in ("total", *FIELDS))
    left = time.strftime("%H:%M:%S", time.gmtime(progress.seconds_left))
    line = f"step {progress.step}/{progress.steps}  {losses}  {progress.tokens_per_second:,.0f} tokens/s  {left} left"
    if progress.validation:
        totals = "  ".join(f"{name} {row['total']:.3f}" for name, row in progress.validation.items())
        line += f"\n  validation: {totals}"
    return line
