"""The commands that generate music: `generate` and `infill`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from music_generator.cli import options
from music_generator.cli.console import Progress, read_piece, say
from music_generator.engine import kernel
from music_generator.errors import InputError
from music_generator.export import Export, Exported
from music_generator.generation import tasks
from music_generator.generation.batch import BatchOptions, Plan, Request, plan_batch, write_batch
from music_generator.generation.keep import NAMES, read_keep
from music_generator.generation.span import SamplingOptions, Span
from music_generator.model.bundle import PRETRAINED_NAME, find_bundle
from music_generator.music.performance import LONGEST_SECONDS


def generate(
    primer: Annotated[Path | None, typer.Option(readable=False, help="MIDI file or recording to continue")] = None,
    start: Annotated[
        float | None, typer.Option("--from", help="second of the primer to continue from  [default: its end]")
    ] = None,
    future: Annotated[Path | None, typer.Option(readable=False, help="MIDI file or recording to lead into")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help=f"length of the new music  [default: {tasks.PIECE_SECONDS:g}; with --future {tasks.JOIN_SECONDS:g}]"
        ),
    ] = None,
    notes: Annotated[int | None, typer.Option(help="stop after this number of new notes")] = None,
    open_end: options.OpenEnd = False,
    recall: Annotated[
        str | None, typer.Option(metavar="FROM-TO", help="seconds of the primer that the music shall come back to")
    ] = None,
    track: options.Track = None,
    composer: options.Composer = SamplingOptions.composer,
    temperature: options.Temperature = SamplingOptions.temperature,
    top_p: options.TopP = SamplingOptions.top_p,
    density: options.Density = SamplingOptions.density,
    loudness: options.Loudness = SamplingOptions.loudness,
    returns: options.Returns = SamplingOptions.returns,
    seed: options.Seed = SamplingOptions.seed,
    variations: options.Variations = BatchOptions.variations,
    shard: options.Shard = None,
    jobs: options.Jobs = BatchOptions.jobs,
    overwrite: options.Overwrite = BatchOptions.overwrite,
    out: options.Out = Export.folder,
    no_audio: options.NoAudio = not Export.audio,
    no_plots: options.NoPlots = not Export.plots,
    format: options.Format = Export.format,
    soundfont: options.SoundFont = Export.soundfont,
    model: options.Model = PRETRAINED_NAME,
    as_json: options.Json = False,
) -> None:
    """Compose a piece, continue a primer, lead into a future, or bridge the two. To fill a gap, see `infill`.

    With --shard a run that was killed resumes: the pieces that exist are kept.
    """
    # all that can be checked first: a recording takes long to transcribe
    find_bundle(model)
    recalled = _recalled(recall, primer)
    if open_end and future is not None:
        raise InputError("`--open-end` does not go with `--future`: the music ends where the future begins")
    export = Export(out, "piece", not no_audio, not no_plots, format, soundfont, overwrite or shard is not None)
    batch = BatchOptions(variations, options.read_part(shard), overwrite, jobs)
    sampling = SamplingOptions(temperature, top_p, seed, composer, density=density, loudness=loudness, returns=returns)
    name, span = _plan(primer, start, future, seconds, notes, track)
    span = replace(span, recall=recalled, closes=span.closes and not open_end)
    _write(Request(span, sampling, model), replace(export, name=name), batch, as_json, [primer, future])


def _plan(
    primer: Path | None,
    start: float | None,
    future: Path | None,
    seconds: float | None,
    notes: int | None,
    track: str | None,
) -> tuple[str, Span]:
    """Return the name of what is asked for, and its span."""
    if primer is None and future is None and track is not None:
        raise InputError("`--track` is a track of the primer or of the future: name one with `--primer` or `--future`")
    if primer is None and start is not None:
        raise InputError("`--from` is a second of the primer: name one with `--primer`")
    if future is not None and notes is not None:
        raise InputError("`--notes` does not go with `--future`: give the length with `--seconds`")
    past = read_piece(primer, track) if primer else None
    join = tasks.JOIN_SECONDS if seconds is None else seconds
    if future is not None:
        after = read_piece(future, track)
        if past is None:
            return "lead-in", tasks.to_lead_in(after, join)
        return "bridge", tasks.to_bridge(past if start is None else past.between(0, start), after, join)
    if seconds is None:  # with a number of notes, the notes decide
        seconds = tasks.PIECE_SECONDS if notes is None else LONGEST_SECONDS / 2
    if past is None:
        return "compose", tasks.to_compose(seconds, notes=notes)
    return "continue", tasks.to_continue(past, seconds, start=start, notes=notes)


def _recalled(recall: str | None, primer: Path | None) -> tuple[float, float] | None:
    """Return the seconds of the passage that the music shall come back to."""
    if recall is None:
        return None
    if primer is None:
        raise InputError("`--recall` names seconds of the primer: name one with `--primer`")
    try:
        first, last = map(float, recall.split("-"))
    except ValueError:
        raise InputError(f"`--recall` must be two seconds such as 12-20, not {recall!r}") from None
    return first, last


def infill(
    piece: Annotated[Path, typer.Argument(readable=False, help="MIDI file or recording")],
    start: Annotated[float, typer.Option("--from", help="second at which the gap starts")],
    end: Annotated[float, typer.Option("--to", help="second at which it ends")],
    keep: Annotated[str | None, typer.Option(help=f"notes of the gap that stay: {', '.join(NAMES)}")] = None,
    track: options.Track = None,
    composer: options.Composer = SamplingOptions.composer,
    temperature: options.Temperature = SamplingOptions.temperature,
    top_p: options.TopP = SamplingOptions.top_p,
    density: options.Density = SamplingOptions.density,
    loudness: options.Loudness = SamplingOptions.loudness,
    returns: options.Returns = SamplingOptions.returns,
    seed: options.Seed = SamplingOptions.seed,
    variations: options.Variations = BatchOptions.variations,
    shard: options.Shard = None,
    jobs: options.Jobs = BatchOptions.jobs,
    overwrite: options.Overwrite = BatchOptions.overwrite,
    out: options.Out = Export.folder,
    no_audio: options.NoAudio = not Export.audio,
    no_plots: options.NoPlots = not Export.plots,
    format: options.Format = Export.format,
    soundfont: options.SoundFont = Export.soundfont,
    model: options.Model = PRETRAINED_NAME,
    as_json: options.Json = False,
) -> None:
    """Fill a gap: replace a span of a piece with new music that fits what is before and after it.

    The rest of the piece stays as it is. With --shard a run that was killed resumes: the pieces that exist are kept.
    """
    kept = None if keep is None else read_keep(keep)
    find_bundle(model)
    export = Export(out, "infill", not no_audio, not no_plots, format, soundfont, overwrite or shard is not None)
    batch = BatchOptions(variations, options.read_part(shard), overwrite, jobs)
    sampling = SamplingOptions(temperature, top_p, seed, composer, density=density, loudness=loudness, returns=returns)
    span = tasks.to_infill(read_piece(piece, track), start, end, keep=kept)
    _write(Request(span, sampling, model), export, batch, as_json, [piece])


def accompany(
    piece: Annotated[Path, typer.Argument(readable=False, help="MIDI file or recording")],
    keep: Annotated[str, typer.Option(help=f"notes of the piece that stay: {', '.join(NAMES)}")] = "all",
    track: options.Track = None,
    composer: options.Composer = SamplingOptions.composer,
    temperature: options.Temperature = SamplingOptions.temperature,
    top_p: options.TopP = SamplingOptions.top_p,
    density: options.Density = SamplingOptions.density,
    loudness: options.Loudness = SamplingOptions.loudness,
    returns: options.Returns = SamplingOptions.returns,
    seed: options.Seed = SamplingOptions.seed,
    variations: options.Variations = BatchOptions.variations,
    shard: options.Shard = None,
    jobs: options.Jobs = BatchOptions.jobs,
    overwrite: options.Overwrite = BatchOptions.overwrite,
    out: options.Out = Export.folder,
    no_audio: options.NoAudio = not Export.audio,
    no_plots: options.NoPlots = not Export.plots,
    format: options.Format = Export.format,
    soundfont: options.SoundFont = Export.soundfont,
    model: options.Model = PRETRAINED_NAME,
    as_json: options.Json = False,
) -> None:
    """Write music around the notes of a piece, such as a melody; these stay as they are.

    With --shard a run that was killed resumes: the pieces that exist are kept.
    """
    kept = read_keep(keep)
    find_bundle(model)
    export = Export(out, "accompany", not no_audio, not no_plots, format, soundfont, overwrite or shard is not None)
    batch = BatchOptions(variations, options.read_part(shard), overwrite, jobs)
    sampling = SamplingOptions(temperature, top_p, seed, composer, density=density, loudness=loudness, returns=returns)
    span = tasks.to_accompany(read_piece(piece, track), keep=kept)
    _write(Request(span, sampling, model), export, batch, as_json, [piece])


def _write(request: Request, export: Export, batch: BatchOptions, as_json: bool, inputs: Sequence[Path | None]) -> None:
    plan = plan_batch(request, export, batch)
    if export.overwrite:
        _check_inputs(inputs, export, plan)
    if kernel.vectors() is None:
        say("the compiled engine is not available on this machine: NumPy writes the same music, more slowly")
    if plan.kept:
        total = plan.kept + len(plan.pieces)
        say(f"{plan.kept} of {total} pieces exist and are kept; --overwrite writes them again")
    written = write_batch(request, plan.pieces, export, jobs=batch.jobs)
    with closing(written), Progress(export.name, hidden=as_json) as progress:
        for done, exported in enumerate(written, 1):
            progress.print(json.dumps(exported.to_json()) if as_json else _line(exported))
            progress.update(done, len(plan.pieces))


def _check_inputs(inputs: Sequence[Path | None], export: Export, plan: Plan) -> None:
    """Check that no input file would be written over."""
    for path in filter(None, inputs):
        inside = path.resolve().parent == export.folder.resolve()
        if inside and any(path.name == export.files(each.seed or 0)[0].name for each in plan.pieces):
            raise InputError(f"{path} is read and would be written over; use another `out` or `seed`")


def _line(exported: Exported) -> str:
    taken = max(exported.seconds_taken, 1e-9)
    return (
        f"{exported.files[0]}: {exported.notes} new notes, {exported.seconds:.0f} s of music in {taken:.2f} s "
        f"({exported.seconds / taken:.0f} times real time, {exported.tokens / taken:.0f} tokens/s), "
        f"seed {exported.seed}{f'; sound: {exported.sound}' if exported.sound else ''}"
    )
