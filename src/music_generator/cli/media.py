"""The commands on files and models as they are: `render`, `plot`, `score`, `info` and `composers`.

In this package a function imports what its module would load too slowly for `--help`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from music_generator import plots
from music_generator.cli import options
from music_generator.cli.console import check_out, read_piece
from music_generator.errors import InputError
from music_generator.export import Export, draw_piece, write_sound
from music_generator.files import first_free
from music_generator.generation.span import SamplingOptions
from music_generator.model.bundle import PRETRAINED_NAME, open_bundle
from music_generator.model.config import FIELDS
from music_generator.sound import SoundOptions
from music_generator.training.history import HISTORY_FILE, read_history

if TYPE_CHECKING:
    from music_generator.generation.scoring import PieceScore
    from music_generator.music.performance import Performance


def render(
    pieces: Annotated[list[Path], typer.Argument(readable=False, help="MIDI files or recordings", metavar="PIECE...")],
    format: options.Format = Export.format,
    bits: Annotated[int, typer.Option(help="of a sample in WAV and FLAC: 16 or 24")] = SoundOptions.bits,
    normalise: Annotated[
        str, typer.Option(help="`peak`: as loud as it can be; `none`: a velocity is as loud in every piece")
    ] = SoundOptions.normalise,
    soundfont: options.SoundFont = SoundOptions.soundfont,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="sound file, or folder of several  [default: beside the MIDI file, numbered if that name is taken]",
        ),
    ] = None,
) -> None:
    """Play MIDI files into sound files."""
    wanted = SoundOptions(normalise=normalise, soundfont=soundfont, bits=bits)
    paths = _sound_paths(pieces, Export(format=format).format, out)
    for piece, path in zip(pieces, paths, strict=True):
        check_out(path, piece)
    for performance, path in zip([read_piece(piece) for piece in pieces], paths, strict=True):
        begun = time.perf_counter()
        if out:
            sound = write_sound(performance, path, wanted)
        else:
            path, sound = _write_beside(performance, path, wanted)
        print(f"{path}: {sound}, {time.perf_counter() - begun:.1f} s")


def _sound_paths(pieces: list[Path], format: str, out: Path | None) -> list[Path]:
    """Return the sound file of each piece. Raises `InputError` if two pieces would have the same one."""
    if out is None:
        paths = [piece.with_suffix(f".{format}") for piece in pieces]
    elif len(pieces) == 1 and not out.is_dir():
        paths = [out]
    else:
        paths = [out / f"{piece.stem}.{format}" for piece in pieces]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise InputError(f"two of the pieces would be written to {twice}: render them one by one, each with its --out")
    return paths


def _write_beside(performance: Performance, path: Path, wanted: SoundOptions) -> tuple[Path, str]:
    """Write a sound, under another name where there is another sound, such as a recording of the piece."""
    try:
        with TemporaryDirectory(prefix=f".{path.stem[:64]}-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            sound = write_sound(performance, made, wanted)
            free = first_free(path, made.read_bytes())
            made.replace(free)
            return free, sound
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def plot(
    what: Annotated[Path, typer.Argument(readable=False, help="MIDI file, recording or folder of a training run")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="picture, .png, .svg or .pdf  [default: beside the MIDI file]")
    ] = None,
) -> None:
    """Draw the piano roll and the distributions of a MIDI file, or the loss curves of a training run."""
    if what.is_dir():
        if not (what / HISTORY_FILE).exists():
            raise InputError(f"{what}: no training run ({HISTORY_FILE} is missing); name one, or a MIDI file")
        path = out or what / "loss.png"
        plots.save(plots.loss_curves(read_history(what / HISTORY_FILE), title=what.name), path)
        print(path)
    else:
        path = out or what.with_suffix(".png")
        check_out(path, what)
        print(*draw_piece(read_piece(what), path), sep="\n")


def score(
    piece: Annotated[Path, typer.Argument(readable=False, help="MIDI file or recording")],
    track: options.Track = None,
    composer: options.Composer = SamplingOptions.composer,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="picture, .png, .svg or .pdf  [default: PIECE-surprise.png beside it]"),
    ] = None,
    no_plots: options.NoPlots = False,
    model: options.Model = PRETRAINED_NAME,
    as_json: options.Json = False,
) -> None:
    """Measure how likely a model finds a piece: the nats of each event, and a piano roll coloured by surprise.

    Each event is scored given all before it. With --json the nats of every event are printed too.
    """
    from music_generator.engine.engine import Engine
    from music_generator.generation.scoring import score

    picture = None if no_plots else out or piece.with_name(f"{piece.stem}-surprise.png")
    if picture:
        check_out(picture, piece)
    scored = score(read_piece(piece, track), Engine(open_bundle(model)), composer=composer)
    if picture:
        plots.save(plots.surprise_roll(scored.performance, scored.note_nats, title=piece.stem), picture)
    if as_json:
        print(json.dumps(_score_facts(scored, picture)))
        return
    print(f"{len(scored.nats)} events, {scored.bits_per_second:.1f} bits per second; mean nats of an event:")
    for name, nats in scored.per_event.items():
        print(f"  {name:<9}{nats:7.3f}")
    if picture:
        print(picture)


def _score_facts(scored: PieceScore, picture: Path | None) -> dict[str, Any]:
    rows = zip(scored.onsets.tolist(), scored.tokens["key"].tolist(), scored.nats.tolist(), strict=True)
    return {
        "files": [str(picture)] if picture else [],
        "nats_per_event": scored.per_event,
        "bits_per_second": scored.bits_per_second,
        "events": [
            {"onset": onset, "key": key, "nats": dict(zip(FIELDS, nats, strict=True))} for onset, key, nats in rows
        ],
    }


def info(
    what: Annotated[
        str, typer.Argument(help="MIDI file, recording, corpus, model, training run or MAESTRO folder")
    ] = PRETRAINED_NAME,
    as_json: options.Json = False,
) -> None:
    """Describe a MIDI file, a corpus, a model or a training run."""
    from music_generator.describe import describe

    facts = describe(what)
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")


def composers(model: options.Model = PRETRAINED_NAME, as_json: options.Json = False) -> None:
    """List the composers that a model knows, for the option --composer."""
    names = open_bundle(model).config.composers
    if as_json:
        print(json.dumps(names))
        return
    for name in names:
        print(name)
