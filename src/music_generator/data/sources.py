"""Find the MIDI files of one folder or several, with what MAESTRO's metadata or their paths say about them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from music_generator.data import maestro
from music_generator.errors import CorpusError, InputError

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")

Folders = Mapping[str | None, Path]  # the first folder under None, then each added one under its tag


@dataclass(frozen=True, slots=True)
class Source:
    """A MIDI file to read.

    Attributes:
        path: The file, relative to the dataset's folder, with `/`.
        split: Its split; None if the dataset names none.
        composer: None if the dataset does not name one; so for `title` and `year`.
        tag: The tag of the added folder that it is in; None for the first folder.
    """

    path: str
    split: str | None = None
    composer: str | None = None
    title: str | None = None
    year: int | None = None
    tag: str | None = None


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


def read_added(texts: Iterable[str]) -> dict[str, Path]:
    """Read added folders written as `TAG=FOLDER`.

    Raises:
        InputError: One is written otherwise, or two have the same tag.
    """
    added: dict[str, Path] = {}
    for text in texts:
        tag, _, folder = text.partition("=")
        if not (tag and folder):
            raise InputError(f"`--add` must be TAG=FOLDER, such as rolls=midi/rolls, not {text!r}")
        if tag in added:
            raise InputError(f"`--add` has the tag {tag!r} twice; give each folder a tag of its own")
        added[tag] = Path(folder).expanduser()  # not every shell does so after `=`
    return added


def check_added(added: Mapping[str, Path]) -> None:
    """Check the tags of added folders, and that each folder has MIDI files.

    Raises:
        CorpusError: A folder is missing or has none.
        InputError: A tag has other characters than it may have.
    """
    for tag, folder in added.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", tag):
            raise InputError(f"a tag must consist of a-z, 0-9, `-` and `_`, such as piano-rolls, not {tag!r}")
        find_sources(folder)


def find_all_sources(folders: Folders) -> Iterator[Source]:
    """Yield the MIDI files of each folder in turn. All those of an added folder are in the train split.

    The composer of an added file is the one that its dataset names, else the one among the first folder's composers
    after whom a folder in its path is named, such as `Bach/Fugues/1.mid`.
    """
    composers: set[str] = set()
    for source in find_sources(folders[None]):
        if source.composer:
            composers.add(source.composer)
        yield source
    by_name = _composers_by_name(composers)
    for tag, folder in folders.items():
        for source in find_sources(folder) if tag is not None else ():
            composer = source.composer or _composer_in_path(source.path, by_name)
            yield replace(source, split="train", composer=composer, tag=tag)


def _composers_by_name(composers: Iterable[str]) -> dict[str, str]:
    """Return each composer by the plain form of the whole name, and of the surname where no other one has it."""
    alone = sorted(composer for composer in composers if "/" not in composer)  # not several as "A / B"
    surnames = [_plain(composer).rpartition(" ")[2] for composer in alone]
    unique = {name: c for name, c in zip(surnames, alone, strict=True) if surnames.count(name) == 1}
    return unique | {_plain(composer): composer for composer in alone}


def _composer_in_path(path: str, by_name: Mapping[str, str]) -> str | None:
    return next((by_name[name] for name in map(_plain, path.split("/")[:-1]) if name in by_name), None)


def _plain(name: str) -> str:
    """Return a name without accents, capitals and underscores."""
    letters = (c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return "".join(letters).casefold().replace("_", " ").strip()


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
