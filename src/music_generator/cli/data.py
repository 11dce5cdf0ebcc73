"""The commands that make a corpus: `prepare` and `merge`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from music_generator.cli import options
from music_generator.cli.console import Progress, say
from music_generator.data import maestro, wav_pairs
from music_generator.data.merge import merge as merge_shards
from music_generator.data.prepare import Prepared
from music_generator.data.prepare import prepare as prepare_corpus
from music_generator.data.sources import check_added, read_added
from music_generator.data.unpack import unpack
from music_generator.errors import InputError

MAX_FAULTS = 5  # recordings with a fault that are named


def prepare(
    source: Annotated[str, typer.Argument(help="`maestro` to download it, or a folder of MIDI files")],
    from_: Annotated[Path | None, typer.Option("--from", readable=False, help="folder of a MAESTRO you have")] = None,
    release: Annotated[str, typer.Option(help=f"release of MAESTRO: {', '.join(maestro.RELEASES)}")] = "3.0.0",
    with_audio: Annotated[
        bool, typer.Option("--with-audio", help="download the archive with WAV files (over 80 GB)")
    ] = False,
    downloads: Annotated[Path, typer.Option(help="folder for downloads")] = Path("downloads"),
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="folder of the corpus  [default: corpus/NAME, or corpus/NAME+TAG]"),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="number of processes  [default: one per processor]")] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG=FOLDER", help="one more folder, all for training; several --add may be given"),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="read only every N-th file from the I-th on, for `merge`")
    ] = None,
) -> None:
    """Make a corpus to train on, from MAESTRO or from any folders of MIDI files."""
    part = options.read_part(shard)
    added = read_added(add or ())
    check_added(added)  # before anything is downloaded
    begun = time.perf_counter()
    folder = _folder(source, from_, release, downloads, with_audio)
    out = out or Path("corpus") / "+".join([folder.resolve().name, *added])
    with Progress("preparing") as progress:
        made = prepare_corpus(folder, out, added=added, shard=part, jobs=jobs, progress=progress.update)
    for file in made.skipped:
        say(f"skipped {file.path}{f' of {file.tag}' if file.tag else ''}: {file.reason}")
    if part is None or part.index == 1:
        _report_maestro(folder)
    if part is None:
        _print_splits(made)
    _print(made, begun)


def merge(corpus: Annotated[Path, typer.Argument(help="folder that was given to each `prepare --shard`")]) -> None:
    """Make one corpus of its shards, with the same bytes as if it had been prepared at once."""
    begun = time.perf_counter()
    made = merge_shards(corpus)
    _print_splits(made)
    _print(made, begun)


def _folder(source: str, from_: Path | None, release: str, downloads: Path, with_audio: bool) -> Path:
    """Return the folder of the MIDI files, downloaded where it must be."""
    if source != "maestro":
        if from_ is not None:
            raise InputError("`--from` goes with `prepare maestro`; for another folder give the folder alone")
        return Path(source)
    folder = from_ or _download(release, downloads, with_audio)
    maestro.metadata_file(folder)  # raises where there is none
    return folder


def _download(release: str, downloads: Path, with_audio: bool) -> Path:
    with Progress(f"downloading MAESTRO {release}") as progress:
        archive = maestro.download(release, downloads, with_audio=with_audio, progress=progress.update)
    with Progress("unpacking") as progress:
        return unpack(archive, downloads, progress=progress.update)


def _print_splits(made: Prepared) -> None:
    for name, size in [*made.splits.items(), *((f"train, {tag}", size) for tag, size in made.tags.items())]:
        print(f"{name}: {size.pieces} pieces, {size.notes:,} notes, {size.rows:,} rows")
    if made.repeated:
        counts = ", ".join(f"{count} of {tag}" for tag, count in made.repeated.items())
        say(f"left out, because an earlier folder has pieces of the same notes: {counts}")


def _print(made: Prepared, begun: float) -> None:
    seconds = time.perf_counter() - begun
    print(f"{made.folder}: {made.pieces} pieces in {seconds:.1f} s, {len(made.skipped)} files skipped")


def _report_maestro(folder: Path) -> None:
    """Say what a MAESTRO folder lacks: files, splits, and where it has WAV files, recordings without a matching one."""
    if not maestro.is_maestro(folder):
        return
    survey = maestro.find_recordings(folder)
    if survey.missing:
        say(f"{len(survey.missing)} files of the metadata are missing, the first: {survey.missing[0]}")
    if not all(count.listed for count in survey.counts.values()):
        say("the metadata does not list every split; those it lists are used as they are")
    if wav_pairs.has_audio(survey):
        faults = list(wav_pairs.check_pairs(folder, survey.recordings))
        whole = len(survey.recordings)
        say(f"{whole - len(faults)} of {whole} recordings have a WAV file of their length")
        for fault in faults[:MAX_FAULTS]:
            say(f"  {fault.problem}")
