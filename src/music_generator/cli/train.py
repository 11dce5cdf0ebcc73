"""The command `train`."""

# ruff: noqa: ARG001  # `_given` reads the options from the context, with their source

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from music_generator import plots
from music_generator.cli.console import Progress, say
from music_generator.data.windows import WindowOptions, composer_names
from music_generator.errors import InputError
from music_generator.model.bundle import open_bundle
from music_generator.model.config import FIELDS, ModelConfig
from music_generator.parallel import launched_processes
from music_generator.training.history import HISTORY_FILE, read_history
from music_generator.training.options import Base, TrainingOptions, base_of, read_run
from music_generator.training.plan import fit_to_corpus, tokens_per_step, train_rows

if TYPE_CHECKING:
    from music_generator.data.corpus import Corpus
    from music_generator.training.history import Progress as Report
    from music_generator.training.trainer import Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended
SAME_SIGNAL_SECONDS = 1.0  # a launcher repeats a Ctrl-C that its processes have got from the terminal


def train(
    ctx: typer.Context,
    corpus: Annotated[Path, typer.Argument(readable=False, help="prepared corpus")],
    run: Annotated[Path, typer.Option(help="new folder for the run")] = Path("runs/run"),
    resume: Annotated[
        Path | None,
        typer.Option(readable=False, help="run to resume; `--epochs`, `--steps` or `--minutes` make it longer"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="model to start from: `pretrained`, or the folder of a model or of a training run  [default: none]",
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(help="passes over the train split")] = TrainingOptions.epochs,
    steps: Annotated[int | None, typer.Option(help="number of steps, instead of epochs")] = TrainingOptions.steps,
    minutes: Annotated[
        float | None, typer.Option(help="end after these minutes at the latest, with learning rates that fall by then")
    ] = TrainingOptions.minutes,
    cell: Annotated[str, typer.Option(help="lstm, gru or rnn")] = ModelConfig.cell,
    direction: Annotated[str, typer.Option(help="both or forward")] = ModelConfig.direction,
    forward_size: Annotated[int, typer.Option("--size", help="units of a forward layer")] = ModelConfig.forward_size,
    backward_size: Annotated[int, typer.Option(help="units of a backward layer")] = ModelConfig.backward_size,
    forward_layers: Annotated[int, typer.Option("--layers", help="forward layers")] = ModelConfig.forward_layers,
    memory: Annotated[int, typer.Option(help="events that the memory reaches back; 0: no memory")] = ModelConfig.memory,
    dropout: Annotated[float, typer.Option(help="share of units dropped in training")] = ModelConfig.dropout,
    batch: Annotated[int, typer.Option(help="windows per step; fewer for a small corpus")] = WindowOptions.batch,
    length: Annotated[
        int, typer.Option(help="tokens per window; fewer if all pieces are shorter")
    ] = WindowOptions.length,
    future_share: Annotated[float, typer.Option(help="share of gaps with a future")] = WindowOptions.future_share,
    longest_gap: Annotated[int, typer.Option(help="longest gap in tokens")] = WindowOptions.longest_gap,
    transpose: Annotated[int, typer.Option(help="semitones up or down, at most")] = WindowOptions.transpose,
    stretch: Annotated[
        list[float], typer.Option(help="factor of time, one of which is drawn for each window; repeat it")
    ] = list(WindowOptions.stretch),  # noqa: B006  # typer copies it
    patience: Annotated[
        int, typer.Option(help="end after this number of validations without a better one; 0: never")
    ] = TrainingOptions.patience,
    average: Annotated[
        float,
        typer.Option(help="share that an average of the weights keeps at a step, such as 0.999; 0: no average"),
    ] = TrainingOptions.average,
    save_minutes: Annotated[
        float, typer.Option(help="minutes between two checkpoints, at most")
    ] = TrainingOptions.save_minutes,
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

    It also runs under `accelerate launch` and `torchrun`. With `--resume` all other options are those of the run, but
    `--epochs`, `--steps` or `--minutes` may change its length. Ctrl-C saves the run and ends it; `--resume` goes on.
    """
    from music_generator.data.corpus import open_corpus

    opened, given = open_corpus(corpus), _given(ctx)
    run_trainer(_resumed(opened, resume, given) if resume else _begun(opened, run, model, given))


def _resumed(corpus: Corpus, folder: Path, given: dict[str, Any]) -> Trainer:
    from music_generator.training.trainer import Trainer

    if given.keys() - {"corpus", "resume", "epochs", "steps", "minutes"}:
        raise InputError(
            "`--resume` continues a run with its own options: leave all other options out; "
            "only `--epochs`, `--steps` or `--minutes` may change its length"
        )
    begun, length = read_run(folder), _of(TrainingOptions, given)
    if "epochs" in length:
        length = {"steps": None, **length}
    return Trainer(corpus, folder, begun.config, replace(begun.options, **length), resume=True)


def _begun(corpus: Corpus, folder: Path, model: str | None, given: dict[str, Any]) -> Trainer:
    from music_generator.training.trainer import Trainer

    windows = WindowOptions(**_of(WindowOptions, given))
    options = TrainingOptions(windows=windows, **_of(TrainingOptions, given))
    options, choices = fit_to_corpus(corpus, options, given, launched_processes())
    sizes = _of(ModelConfig, given)
    config, weights, base = _begin_from(model, sizes) if model else (_new_config(corpus, windows, sizes), None, None)
    trainer = Trainer(corpus, folder, config, options, weights=weights, base=base)
    if choices and trainer.accelerator.is_main_process:
        say(f"{corpus.folder} is small: {'; '.join(choices)}")
    return trainer


def _given(ctx: typer.Context) -> dict[str, Any]:
    """Return the options that were typed, by the names of their parameters."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name: ctx.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _of(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass that were typed."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _new_config(corpus: Corpus, windows: WindowOptions, sizes: dict[str, Any]) -> ModelConfig:
    return ModelConfig(composers=composer_names(corpus, windows.apart), **sizes)


def _begin_from(model: str, sizes: dict[str, Any]) -> tuple[ModelConfig, dict[str, Any], Base]:
    """Return the configuration and the weights of a model, and what is kept of it."""
    from music_generator.model.export import load_network

    if sizes.keys() - {"dropout"}:
        raise InputError("a model to start from has its own cell, direction and sizes: leave those options out")
    bundle = open_bundle(model)
    network = load_network(bundle)
    return replace(network.config, **sizes), network.state_dict(), base_of(bundle)


def run_trainer(trainer: Trainer) -> None:
    """Run a trainer to its end, with its picture of the losses and its bundle.

    Raises:
        typer.Exit: A signal ended it; the run is saved.
    """
    from music_generator.training.release import bundle_run

    def report(progress: Report) -> None:
        if progress.validation or progress.step % trainer.options.save_every == 0:
            history = read_history(trainer.folder / HISTORY_FILE)
            plots.save(plots.loss_curves(history, title=trainer.folder.name), trainer.folder / "loss.png")
        say(_line(progress))

    main_process = trainer.accelerator.is_main_process
    if main_process and not trainer.finished:
        say(_plan(trainer))
    with _stopped_by_signals(trainer):
        trainer.run(report, estimate=lambda seconds: say(f"about {_clock(seconds)} left at the speed of these steps"))
    trainer.accelerator.end_training()
    if main_process and (trainer.interrupted or trainer.out_of_patience or trainer.state.step < trainer.steps):
        say(_reason_for_the_end(trainer))
    if trainer.interrupted:
        raise typer.Exit(INTERRUPTED)
    if main_process:
        with Progress("held-out likelihood") as progress:
            bundle = bundle_run(trainer.folder, trainer.corpus, progress=progress.update)
        totals = {name: round(row["total"], 3) for name, row in bundle.provenance["validation"].items()}
        print(f"{bundle.folder}: {json.dumps(totals)}")


@contextmanager
def _stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM save and end the run after its step, and the second one end it at once."""
    asked: list[float] = []

    def stop(number: int, _frame: Any) -> None:
        trainer.stop()
        asked.append(time.monotonic())
        again = asked[-1] - asked[0] > SAME_SIGNAL_SECONDS
        if again or trainer.shard.count == 1:  # by default a signal ends even a step that hangs
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)
        if again:
            signal.raise_signal(number)

    previous = {each: signal.signal(each, stop) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def _plan(trainer: Trainer) -> str:
    """Return what the run will do, in a few lines."""
    options, windows, corpus = trainer.options, trainer.options.windows, trainer.corpus
    parameters = sum(weight.numel() for weight in trainer.network.parameters())
    precision = "bfloat16" if trainer.bfloat16 else "float32"
    processes = f", {trainer.shard.count} processes" if trainer.shard.count > 1 else ""
    tokens, rows = tokens_per_step(corpus, options), int(train_rows(corpus).sum())
    done = f", {trainer.state.step:,} of them done" if trainer.state.step else ""
    validation = f"validation after every {trainer.validate_every:,} steps"
    if options.minutes is not None:
        validation = (
            f"the run ends after {options.minutes:g} minutes at the latest, and the learning rates fall by then\n"
            "validation after every tenth of the run"
        )
    if options.patience:
        validation += f"; training ends after {options.patience} without a better one"
    if not corpus.split("validation"):
        validation = "no validation, as no piece is held out for it: every step is done, and the last weights are kept"
    stretch = f"{min(windows.stretch):g} to {max(windows.stretch):g} times as long" if windows.stretch else "no stretch"
    return "\n".join([
        f"{parameters:,} parameters, on {trainer.device.type} in {precision}{processes}",
        f"{trainer.steps:,} steps{done}, of {windows.batch} windows and {tokens:,.0f} tokens: "
        f"{trainer.steps * tokens / rows:.3g} times the {rows:,} tokens of the train split",
        f"windows are transposed by up to {windows.transpose} semitones, and {stretch}",
        validation,
        f"checkpoints in {trainer.folder}, after every {options.save_every:,} steps and {options.save_minutes:g} "
        "minutes, and at Ctrl-C",
    ])  # fmt: skip


def _reason_for_the_end(trainer: Trainer) -> str:
    step = f"step {trainer.state.step:,} of {trainer.steps:,}"
    if trainer.interrupted:
        again = f"music-generator train {trainer.corpus.folder} --resume {trainer.folder}"
        return f"interrupted and saved at {step}; go on with: {again}"
    if not trainer.out_of_patience:
        return f"ended at {step}: {trainer.options.minutes:g} minutes are over"
    return (
        f"ended at {step}: none of the last {trainer.options.patience} validations was better than "
        f"{trainer.state.best:.3f}; those weights are kept"
    )


def _clock(seconds: float) -> str:
    """Return a time as hours:minutes:seconds; the hours may be over 24."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _line(progress: Report) -> str:
    losses = " ".join(f"{name} {progress.train[name]:.2f}" for name in ("total", *FIELDS))
    left = _clock(progress.seconds_left)
    line = f"step {progress.step}/{progress.steps}  {losses}  {progress.tokens_per_second:,.0f} tokens/s  {left} left"
    if progress.validation:
        totals = "  ".join(f"{name} {row['total']:.3f}" for name, row in progress.validation.items())
        line += f"\n  validation: {totals}"
    return line
