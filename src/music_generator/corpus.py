"""A folder of MIDI files → one prepared corpus on disk: token rows of all pieces, and what is known of each.

A corpus is a folder of two files: `tokens.npy` (`STORED_DTYPE`, all pieces end to end, opened by memory map) and
`corpus.json` (format, source and one record a piece, in the order of their rows). Opening one needs NumPy only.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator import maestro
from music_generator.errors import CorpusError, InputError, MidiError
from music_generator.midi import read_midi
from music_generator.processes import end_with_parent
from music_generator.tokens import encode

Array = NDArray[Any]

FORMAT = 1
FILES = ("tokens.npy", "corpus.json")
UNDECODABLE = "surrogateescape"  # as Python keeps the bytes of a file name that is not UTF-8
SPLITS = ("train", "validation", "test")
MIDI_SUFFIXES = (".mid", ".midi")
HELD_OUT_SHARE = 0.1  # of a folder that brings no splits of its own

# as `tokens.TOKEN_DTYPE`, in 6 bytes; times are cut at 655.35 s, far past the model's last bin
STORED_DTYPE = np.dtype([("shift", "u2"), ("key", "u1"), ("velocity", "u1"), ("duration", "u2")])


@dataclass(frozen=True)
class Source:
    """A MIDI file to take in, relative to the dataset's folder; a split of None is chosen by content."""

    path: str
    split: str | None = None
    composer: str | None = None
    title: str | None = None
    year: int | None = None


@dataclass(frozen=True)
class Piece:
    """One piece of a corpus: how many rows and notes it has, and what the dataset says of it."""

    path: str
    split: str
    composer: str | None
    title: str | None
    year: int | None
    rows: int
    notes: int
    seconds: float
    digest: str  # sha256 of its rows, the first shift set to 0: equal for pieces of equal content


@dataclass(frozen=True)
class Skipped:
    """A file that was not taken in, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """An opened corpus; `pieces` lie end to end in `rows` (`STORED_DTYPE`)."""

    folder: Path
    source: str
    pieces: tuple[Piece, ...]
    rows: Array

    @cached_property
    def offsets(self) -> Array:
        """The first row of each piece, and the number of all rows at the end."""
        return np.concatenate([[0], np.cumsum([piece.rows for piece in self.pieces], dtype=np.int64)]).astype(np.int64)

    def piece_rows(self, index: int) -> Array:
        """The rows of one piece, its first shift set to 0."""
        rows = np.array(self.rows[self.offsets[index] : self.offsets[index + 1]])
        rows["shift"][:1] = 0
        return rows

    def split(self, name: str) -> list[int]:
        """The indices of a split's pieces. Raises `InputError` for an unknown name."""
        if name not in SPLITS:
            raise InputError(f"unknown split {name!r}; known: {', '.join(SPLITS)}")
        return [i for i, piece in enumerate(self.pieces) if piece.split == name]

    @property
    def composers(self) -> tuple[str, ...]:
        """The composers of the train split, sorted."""
        return tuple(sorted({p.composer for p in self.pieces if p.split == "train" and p.composer}))


def open_corpus(folder: str | Path) -> Corpus:
    """Open a prepared corpus. Raises `CorpusError` if it is missing, damaged or of another version."""
    folder = Path(folder)
    try:
        header = json.loads((folder / "corpus.json").read_text("utf-8", UNDECODABLE))
        if header["format"] != FORMAT:
            raise CorpusError(
                f"{folder}: its format is {header['format']}, this version reads {FORMAT}; "
                "make it anew with `music-generator prepare`"
            )
        pieces = tuple(Piece(**piece) for piece in header["pieces"])
        rows = np.lib.format.open_memmap(folder / "tokens.npy", mode="r")
        source, length = header["source"], sum(piece.rows for piece in pieces)
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = f"{Path(error.filename).name} is missing"
        raise CorpusError(f"{folder}: no prepared corpus ({missing}); see `music-generator prepare`") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{folder}: the corpus is damaged ({error}); make it anew") from error
    if rows.dtype != STORED_DTYPE or rows.shape != (length,):
        raise CorpusError(f"{folder}: tokens.npy does not fit corpus.json; make the corpus anew")
    return Corpus(folder, source, pieces, rows)


def find_sources(folder: str | Path) -> list[Source]:
    """The MIDI files of a folder: by the metadata if it is MAESTRO, else all below it, sorted.

    Raises `CorpusError` if there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder")
    if maestro.is_maestro(folder):
        return _maestro_sources(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in MIDI_SUFFIXES and p.is_file())
    if not paths:
        raise CorpusError(f"{folder}: no MIDI files (.mid, .midi) in it")
    return [Source(path.relative_to(folder).as_posix()) for path in paths]


def _maestro_sources(folder: Path) -> list[Source]:
    """Those of MAESTRO's files that are there, relative to `folder`: the dataset's or the one it lies in."""
    survey = maestro.find_recordings(folder)
    if not survey.recordings:
        raise CorpusError(f"{folder}: none of the {len(survey.missing)} MIDI files that its metadata lists is there")
    root = survey.folder.relative_to(folder)
    return [
        Source((root / r.midi_filename).as_posix(), r.split, r.composer, r.title, r.year) for r in survey.recordings
    ]


@dataclass(frozen=True)
class _Read:
    source: Source
    rows: Array
    notes: int
    seconds: float


def _read_chunk(folder: Path, sources: Sequence[Source]) -> list[_Read | Skipped]:
    results: list[_Read | Skipped] = []
    for source in sources:
        path = folder / source.path
        try:
            performance = read_midi(path).performance
        except MidiError as error:
            results.append(Skipped(source.path, str(error).removeprefix(f"{path}: ")))
            continue
        if len(performance) == 0:
            results.append(Skipped(source.path, "it has no piano notes"))
            continue
        rows = encode(performance)
        stored = np.empty(len(rows), STORED_DTYPE)
        for name in STORED_DTYPE.names or ():
            stored[name] = np.minimum(rows[name], np.iinfo(STORED_DTYPE[name]).max)
        results.append(_Read(source, stored, len(performance), performance.end))
    return results


def _read_all(folder: Path, sources: Sequence[Source], jobs: int) -> Iterable[_Read | Skipped]:
    size = 16
    chunks = [sources[i : i + size] for i in range(0, len(sources), size)]
    if jobs <= 1 or len(chunks) == 1:
        for chunk in chunks:
            yield from _read_chunk(folder, chunk)
        return
    with ProcessPoolExecutor(min(jobs, len(chunks)), initializer=end_with_parent) as pool:
        for result in pool.map(_read_chunk, [folder] * len(chunks), chunks):
            yield from result


def _piece(read: _Read) -> Piece:
    rows = read.rows.copy()
    rows["shift"][:1] = 0  # the silence before the first stroke is no content
    digest, s = hashlib.sha256(rows.tobytes()).hexdigest(), read.source
    return Piece(s.path, s.split or "", s.composer, s.title, s.year, len(read.rows), read.notes, read.seconds, digest)


def _split_by_content(pieces: list[Piece]) -> list[Piece]:
    """Give each piece without a split one by its digest: equal content, equal split; about a tenth is held out."""
    digests = sorted({piece.digest for piece in pieces if not piece.split})
    held_out = set(digests[: max(1, round(len(digests) * HELD_OUT_SHARE))] if len(digests) > 1 else [])
    return [p if p.split else replace(p, split="validation" if p.digest in held_out else "train") for p in pieces]


def prepare(
    folder: str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Corpus, list[Skipped]]:
    """Read every MIDI file of `folder` into a corpus at `out`, which is replaced if it is one, and open it.

    A file that cannot be used is skipped and returned with the reason. `progress(done, total)` counts files.

    Raises `CorpusError` if nothing can be used or `out` is something else, `InputError` if it cannot be written.
    """
    folder, out = Path(folder), Path(out)
    sources = find_sources(folder)
    _check_replaceable(out)
    reads: list[_Read] = []
    skipped: list[Skipped] = []
    for done, result in enumerate(_read_all(folder, sources, jobs or os.cpu_count() or 1), 1):
        if isinstance(result, _Read):
            reads.append(result)
        else:
            skipped.append(result)
        if progress:
            progress(done, len(sources))
    if not reads:
        first = skipped[0]
        raise CorpusError(f"{folder}: none of its {len(sources)} MIDI files can be used; {first.path}: {first.reason}")
    pieces = _split_by_content([_piece(read) for read in reads])
    _write(out, folder.resolve().name, pieces, [read.rows for read in reads])
    return open_corpus(out), skipped


def _check_replaceable(out: Path) -> None:
    """That `out` is not there yet, or empty, or a corpus, be it an unfinished one."""
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    if not out.is_dir() or not ("corpus.json" in names or names <= set(FILES)):
        raise CorpusError(f"{out}: exists and is not a corpus; name another folder")


def _write(out: Path, source: str, pieces: list[Piece], rows: list[Array]) -> None:
    out = out.resolve()
    beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    header = {"format": FORMAT, "source": source, "pieces": [asdict(piece) for piece in pieces]}
    try:
        beside.mkdir(parents=True)
        np.save(beside / "tokens.npy", np.concatenate(rows))
        (beside / "corpus.json").write_text(json.dumps(header, ensure_ascii=False, indent=1), "utf-8", UNDECODABLE)
        out.mkdir(exist_ok=True)
        (out / "corpus.json").unlink(missing_ok=True)  # so that no header ever stands beside another's tokens
        for name in FILES:
            (beside / name).replace(out / name)
    except OSError as error:
        # NumPy tells of a full disk by the numbers of what it wrote
        raise InputError(f"cannot write {out}: {error.strerror or f'is the disk full? {error}'}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
