"""Find the MIDI files of a folder, with what MAESTRO's metadata says about them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from music_generator.data import maestro
from music_generator.errors import CorpusError

MIDI_SUFFIXES = (".mid", ".midi")


@dataclass(frozen=True, slots=True)
class Source:
    """A MIDI file to read.

    Attributes:
        path: The file, relative to the dataset's folder, with `/`.
        split: Its split; None if the dataset names none.
        composer: None if the dataset does not name one; so for `title` and `year`.
    """

    path: str
    split: str | None = None
    composer: str | None = None
    title: str | None = None
    year: int | None = None


def find_sources(folder: str | Path) -> Iterable[Source]:
    """Find the MIDI files that MAESTRO's metadata lists, else all files below `folder` in the order of their paths.

    The files are found one by one, so that memory does not grow with their number.

    Raises:
        CorpusError: There are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(folder, "no such folder")
    if maestro.is_maestro(folder):
        return _maestro_sources(folder)
    if next(_midi_paths(folder), None) is None:
        raise CorpusError(folder, f"no MIDI files ({', '.join(MIDI_SUFFIXES)}) in it")
    return map(Source, _midi_paths(folder))


def _midi_paths(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield the MIDI files below a folder, relative to it, in the order in which `Path` sorts them."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found if _may_matter(entry))
    except (PermissionError, FileNotFoundError):  # as `Path.rglob`: a folder that cannot be listed has no files
        return
    for name, is_folder in entries:
        if is_folder:
            yield from _midi_paths(folder / name, f"{prefix}{name}/")
        elif (folder / name).is_file():
            yield prefix + name


def _may_matter(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(MIDI_SUFFIXES) or entry.is_dir(follow_symlinks=False)


def _maestro_sources(folder: Path) -> list[Source]:
    """Return MAESTRO's files that are there; `folder` is the dataset's or the one that contains it."""
    survey = maestro.find_recordings(folder)
    if not survey.recordings:
        raise CorpusError(folder, f"none of the {len(survey.missing)} MIDI files that its metadata lists is there")
    root = survey.folder.relative_to(folder)
    return [
        Source((root / r.midi_filename).as_posix(), r.split, r.composer, r.title, r.year) for r in survey.recordings
    ]
