"""The command `transcribe`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from music_generator.cli import options
from music_generator.cli.console import check_out, read_recording
from music_generator.errors import InputError
from music_generator.export import Export
from music_generator.files import first_free, replacing
from music_generator.music.midi import write_midi


def transcribe(
    recording: Annotated[Path, typer.Argument(readable=False, help="WAV, FLAC, OGG or MP3 file")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="MIDI file, or folder for it  [default: beside the recording]"),
    ] = None,
    overwrite: options.Overwrite = Export.overwrite,
    as_json: options.Json = False,
) -> None:
    """Turn a recording of a piano into a MIDI file with notes, velocities and pedals.

    It needs the extra `transcribe`. Other commands that take a MIDI file take a recording too and transcribe it first.
    """
    path = _midi_path(recording, out)
    check_out(path, recording)
    _check_path(path)
    begun = time.perf_counter()
    performance, seconds = read_recording(recording, hidden=as_json)
    data = write_midi(performance)
    path = path if overwrite else first_free(path, data)
    with replacing(path) as beside:
        beside.write_bytes(data)
    taken, presses = time.perf_counter() - begun, len(performance.pedals)
    if as_json:
        facts = {"files": [str(path)], "notes": len(performance), "pedal_presses": presses}
        print(json.dumps(facts | {"seconds": round(seconds, 3), "seconds_taken": round(taken, 3)}))
        return
    print(f"{path}: {len(performance)} notes, {presses} pedal presses; {seconds:.0f} s of sound in {taken:.0f} s")


def _midi_path(recording: Path, out: Path | None) -> Path:
    if recording.is_dir():
        raise InputError(f"{recording} is a folder: name a sound file")
    if _is_midi(recording):
        raise InputError(f"{recording} is a MIDI file already: name a sound file")
    if out is None:
        return recording.with_suffix(".mid")
    return out / f"{recording.stem}.mid" if out.is_dir() or not out.suffix else out


def _is_midi(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"MThd"


def _check_path(path: Path) -> None:
    """Check that a MIDI file can be made, before the work is done. Raises `InputError`."""
    if path.suffix.lower() not in (".mid", ".midi"):
        raise InputError(f"`--out` must be a folder or a file that ends in .mid, not {path}")
    folder = next(each for each in path.absolute().parents if each.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(f"cannot write {path}: {folder} is no folder that can be written to")
