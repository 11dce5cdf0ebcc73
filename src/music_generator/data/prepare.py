"""Prepare a folder of MIDI files, or several, as a corpus.

A corpus is always made of shards, often of a single one. A shard reads every N-th file, one by one, so that memory does
not grow with their number. What depends on all pieces is decided when the shards are merged: the splits, and which
pieces of added folders are left out because an earlier folder has them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.data.corpus import HEADER_FILE, STORED_DTYPE, TOKENS_FILE, UNDECODABLE, Piece
from music_generator.data.merge import write_corpus
from music_generator.data.shards import (
    RECORDS_FILE,
    SHARDS_FOLDER,
    Prepared,
    ShardFacts,
    Skipped,
    open_text,
    to_json,
    working_folder,
    write_npy_header,
)
from music_generator.data.sources import Folders, Source, check_added, find_all_sources, find_sources
from music_generator.errors import CorpusError, MidiError
from music_generator.music.midi import read_midi
from music_generator.music.tokens import encode
from music_generator.parallel import WHOLE, Shard, map_in_processes

__all__ = ["Prepared", "Skipped", "prepare"]

Array = NDArray[Any]
Progress = Callable[[int, int], None]  # files done, files in all

CHUNK_FILES = 16  # that a process reads at a time


def prepare(
    folder: str | Path,
    out: str | Path,
    *,
    added: Mapping[str, str | Path] | None = None,
    shard: Shard | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Read the MIDI files of `folder` into a corpus at `out`, or a shard of them into `out/shards` for `merge`.

    A file that cannot be used is skipped. A corpus at `out`, or the same shard in it, is replaced.
    All pieces of an added folder are in the train split, so the validation and test splits are those of `folder` alone.
    A piece of an added folder is left out if an earlier folder has a piece of equal content.

    Args:
        folder: A folder of MIDI files; for MAESTRO its metadata says which, with composers and splits.
        out: The folder of the corpus.
        added: Further folders by their tags, which their pieces keep.
        shard: The shard to prepare; None prepares the whole corpus.
        jobs: The number of processes; None for as many as there are processors.
        progress: Called with the number of files done and in all.

    Raises:
        CorpusError: A folder has no MIDI files, none can be used, or `out` is something other than a corpus.
        InputError: A tag is not one, or the corpus cannot be written.
    """
    folder, out = Path(folder), Path(out)
    paths = {tag: Path(path) for tag, path in (added or {}).items()}
    find_sources(folder)  # raises before anything is written
    check_added(paths)
    folders: dict[str | None, Path] = {None: folder}
    folders.update(paths)
    _check_replaceable(out)
    if shard is None:
        with working_folder(out, out.resolve().parent, out.resolve().name) as work:
            _write_shard(work, folders, WHOLE, jobs, progress)
            return write_corpus(out, [work], work, folders)
    place = out / SHARDS_FOLDER / f"{shard.index}-of-{shard.count}"
    with working_folder(out, place.parent, place.name) as work:
        prepared = _write_shard(work, folders, shard, jobs, progress)
        _replace_folder(work, place)
    prepared.folder = place
    return prepared


def _check_replaceable(out: Path) -> None:
    """Check that `out` is missing, empty, a corpus, or a corpus that is not finished."""
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    if not out.is_dir() or not (HEADER_FILE in names or names <= {TOKENS_FILE, SHARDS_FOLDER}):
        raise CorpusError(out, "exists and is not a corpus; name another folder")


def _replace_folder(new: Path, place: Path) -> None:
    """Rename `new` to `place`; an older folder there is renamed first, because only an empty one can be replaced."""
    old = new.with_name(f"{new.name}.old")
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


# --- reading


@dataclass(frozen=True)
class _Read:
    piece: Piece
    rows: Array  # `STORED_DTYPE`


def _read_chunk(folders: Folders, sources: Sequence[Source]) -> list[_Read | Skipped]:
    return [_read(folders, source) for source in sources]


def _read(folders: Folders, source: Source) -> _Read | Skipped:
    try:
        performance = read_midi(folders[source.tag] / source.path, track="all").performance
    except MidiError as error:
        return Skipped(source.path, error.reason, source.tag)
    if len(performance) == 0:
        return Skipped(source.path, "it has no piano notes", source.tag)
    rows = encode(performance)
    stored = np.empty(len(rows), STORED_DTYPE)
    for name in STORED_DTYPE.names or ():
        stored[name] = np.minimum(rows[name], np.iinfo(STORED_DTYPE[name]).max)
    return _Read(_piece(source, stored, len(performance), performance.end), stored)


def _piece(source: Source, rows: Array, notes: int, seconds: float) -> Piece:
    content = rows.copy()
    content["shift"][:1] = 0  # the silence before the first event is not content
    digest, s = hashlib.sha256(content.tobytes()).hexdigest(), source
    return Piece(s.path, s.split or "", s.composer, s.title, s.year, len(rows), notes, seconds, digest, s.tag)


def read_all(folders: Folders, sources: Iterable[Source], jobs: int) -> Generator[_Read | Skipped, None, None]:
    """Read the sources in their order; at most a few chunks for each process are read ahead."""
    remaining = iter(sources)
    chunks = iter(lambda: list(islice(remaining, CHUNK_FILES)), [])
    if jobs == 1:
        for chunk in chunks:
            yield from _read_chunk(folders, chunk)
        return
    with closing(map_in_processes(partial(_read_chunk, folders), chunks, jobs)) as lists:
        for some in lists:
            yield from some


# --- writing


@dataclass
class _Listing:
    """The number of files seen, and a digest by which the file lists of two shards are compared."""

    files: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def watch(self, sources: Iterable[Source]) -> Iterator[Source]:
        for source in sources:
            self.files += 1
            line = f"{source.path}\0{source.split}\0{source.composer}\0{source.tag}\n"
            self.digest.update(line.encode("utf-8", UNDECODABLE))
            yield source


def _write_shard(work: Path, folders: Folders, shard: Shard, jobs: int | None, progress: Progress | None) -> Prepared:
    """Read a shard of `folders` and write its three files into `work`."""
    total = sum(1 for _ in shard.of(find_all_sources(folders)))
    jobs = max(1, min(jobs or os.cpu_count() or 1, -(-total // CHUNK_FILES)))
    listing, prepared, rows = _Listing(), Prepared(work), 0
    sources = shard.of(listing.watch(find_all_sources(folders)))
    with (work / TOKENS_FILE).open("wb") as tokens, open_text(work / RECORDS_FILE, "w") as records:
        write_npy_header(tokens, 0)
        with closing(read_all(folders, sources, jobs)) as results:
            for result in results:
                record = result.piece if isinstance(result, _Read) else result
                records.write(to_json(record) + "\n")
                prepared.add(record)
                if isinstance(result, _Read):
                    tokens.write(result.rows.tobytes())
                    rows += len(result.rows)
                if progress:
                    progress(prepared.files, total)
        tokens.seek(0)
        write_npy_header(tokens, rows)
    source, *added = (folder.resolve().name for folder in folders.values())
    tags = (tag for tag in folders if tag)
    facts = ShardFacts(source, listing.files, listing.digest.hexdigest(), rows, dict(zip(tags, added, strict=True)))
    facts.write(work)
    return prepared
