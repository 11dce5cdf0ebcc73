"""A folder of MIDI files → one prepared corpus on disk: token rows of all pieces, and what is known of each.

A corpus is a folder of two files: `tokens.npy` (`STORED_DTYPE`, all pieces end to end, opened by memory map) and
`corpus.json` (format, source and one record a piece, in the order of their rows). Opening one needs NumPy only.

It is always made of shards, mostly of a single one. A shard reads every N-th file into a folder of its own, one by one,
so that memory does not grow with their number; merging takes the files of all shards in turn. Which pieces are held out
cannot be known before all are read: it is decided then.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from music_generator.data import maestro
from music_generator.errors import CorpusError, InputError, MidiError
from music_generator.music.midi import read_midi
from music_generator.music.tokens import encode
from music_generator.parallel import WHOLE, Shard, end_with_parent

Array = NDArray[Any]

FORMAT = 1
FILES = ("tokens.npy", "corpus.json")
SHARDS_FOLDER = "shards"  # in the corpus that they will become
SHARD_FILES = ("tokens.npy", "records.jsonl", "shard.json")
CHUNK = 16  # files that a process reads at a time
UNDECODABLE = "surrogateescape"  # as Python keeps the bytes of a file name that is not UTF-8
SPLITS = ("train", "validation", "test")
MIDI_SUFFIXES = (".mid", ".midi")
HELD_OUT_SHARE = 0.1  # of a folder that brings no splits of its own

# as `tokens.TOKEN_DTYPE`, in 6 bytes; times are cut at 655.35 s, far past the model's last bin
STORED_DTYPE = np.dtype([("shift", "u2"), ("key", "u1"), ("velocity", "u1"), ("duration", "u2")])


@dataclass(frozen=True, slots=True)
class Source:
    """A MIDI file to take in, relative to the dataset's folder; a split of None is chosen by content."""

    path: str
    split: str | None = None
    composer: str | None = None
    title: str | None = None
    year: int | None = None


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
        header = json.loads((folder / "corpus.json").read_text("utf-8", UNDECODABLE), object_hook=_piece_or_facts)
        if header["format"] != FORMAT:
            raise CorpusError(
                f"{folder}: its format is {header['format']}, this version reads {FORMAT}; "
                "make it anew with `music-generator prepare`"
            )
        pieces = tuple(header["pieces"])
        if not all(isinstance(piece, Piece) for piece in pieces):
            raise TypeError("a record of corpus.json is not of a piece")
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


def _piece_or_facts(facts: dict[str, Any]) -> Any:
    """A JSON object that is a record becomes a `Piece` at once: a million dicts would take gigabytes."""
    if "digest" not in facts:
        return facts
    piece = Piece(**facts)
    composer = None if piece.composer is None else sys.intern(piece.composer)
    return replace(piece, split=sys.intern(piece.split), composer=composer)


def find_sources(folder: str | Path) -> list[Source]:
    """The MIDI files of a folder: by the metadata if it is MAESTRO, else all below it, sorted.

    Raises `CorpusError` if there are none.
    """
    return list(_sources(Path(folder)))


def _sources(folder: Path) -> Iterable[Source]:
    """As `find_sources`, one by one where they need not be sorted anew."""
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder")
    if maestro.is_maestro(folder):
        return _maestro_sources(folder)
    if next(_midi_paths(folder), None) is None:
        raise CorpusError(f"{folder}: no MIDI files (.mid, .midi) in it")
    return map(Source, _midi_paths(folder))


def _midi_paths(folder: Path, before: str = "") -> Iterator[str]:
    """The MIDI files below a folder, relative to it, in the order of `Path`: only one folder's names are held."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found if _may_matter(entry))
    except (PermissionError, FileNotFoundError):  # what cannot be listed is not there, as for `Path.rglob`
        return
    for name, is_folder in entries:
        if is_folder:
            yield from _midi_paths(folder / name, f"{before}{name}/")
        elif (folder / name).is_file():
            yield before + name


def _may_matter(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(MIDI_SUFFIXES) or entry.is_dir(follow_symlinks=False)


def _maestro_sources(folder: Path) -> list[Source]:
    """Those of MAESTRO's files that are there, relative to `folder`: the dataset's or the one it lies in."""
    survey = maestro.find_recordings(folder)
    if not survey.recordings:
        raise CorpusError(f"{folder}: none of the {len(survey.missing)} MIDI files that its metadata lists is there")
    root = survey.folder.relative_to(folder)
    return [
        Source((root / r.midi_filename).as_posix(), r.split, r.composer, r.title, r.year) for r in survey.recordings
    ]


# --- reading


@dataclass(frozen=True)
class _Read:
    piece: Piece
    rows: Array


def _read_chunk(folder: Path, sources: Sequence[Source]) -> list[_Read | Skipped]:
    return [_read(folder, source) for source in sources]


def _read(folder: Path, source: Source) -> _Read | Skipped:
    path = folder / source.path
    try:
        performance = read_midi(path).performance
    except MidiError as error:
        return Skipped(source.path, str(error).removeprefix(f"{path}: "))
    if len(performance) == 0:
        return Skipped(source.path, "it has no piano notes")
    rows = encode(performance)
    stored = np.empty(len(rows), STORED_DTYPE)
    for name in STORED_DTYPE.names or ():
        stored[name] = np.minimum(rows[name], np.iinfo(STORED_DTYPE[name]).max)
    return _Read(_piece(source, stored, len(performance), performance.end), stored)


def _piece(source: Source, rows: Array, notes: int, seconds: float) -> Piece:
    content = rows.copy()
    content["shift"][:1] = 0  # the silence before the first event is no content
    digest, s = hashlib.sha256(content.tobytes()).hexdigest(), source
    return Piece(s.path, s.split or "", s.composer, s.title, s.year, len(rows), notes, seconds, digest)


def _read_all(folder: Path, sources: Iterable[Source], jobs: int) -> Iterator[_Read | Skipped]:
    """What is read of each source, in their order; at most a few chunks for each process wait for their turn."""
    coming = iter(sources)
    chunks = iter(lambda: list(islice(coming, CHUNK)), [])
    if jobs == 1:
        for chunk in chunks:
            yield from _read_chunk(folder, chunk)
        return
    waiting: deque[Future[list[_Read | Skipped]]] = deque()
    with ProcessPoolExecutor(jobs, initializer=end_with_parent) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(_read_chunk, folder, chunk))
            if len(waiting) > 4 * jobs:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


# --- preparing


@dataclass
class SplitSize:
    """What a split of a corpus holds."""

    pieces: int = 0
    notes: int = 0
    rows: int = 0


@dataclass
class Prepared:
    """What came of preparing: a corpus's folder or a shard's, how many files were read, and what they gave.

    A shard's pieces that the dataset gives no split are counted in none: it is found when all are known.
    """

    folder: Path
    files: int = 0
    pieces: int = 0
    splits: dict[str, SplitSize] = field(default_factory=lambda: {name: SplitSize() for name in SPLITS})
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, record: Piece | Skipped) -> None:
        """Count one more file."""
        self.files += 1
        if isinstance(record, Skipped):
            self.skipped.append(record)
            return
        self.pieces += 1
        if record.split:
            size = self.splits[record.split]
            size.pieces, size.notes, size.rows = size.pieces + 1, size.notes + record.notes, size.rows + record.rows


def prepare(
    folder: str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Corpus, list[Skipped]]:
    """`build` a corpus and open it; returned with the files that were skipped."""
    built = build(folder, out, jobs=jobs, progress=progress)
    return open_corpus(out), built.skipped


def build(
    folder: str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Read every MIDI file of `folder` into a corpus at `out`, which is replaced if it is one.

    A file that cannot be used is skipped and returned with the reason. `progress(done, total)` counts files.

    Raises `CorpusError` if nothing can be used or `out` is something else, `InputError` if it cannot be written.
    """
    out = Path(out)
    _sources(Path(folder))  # nothing is begun where there are none
    _check_replaceable(out)
    with _working(out, out.resolve().parent, out.resolve().name) as work:
        _write_shard(work, Path(folder), WHOLE, jobs, progress)
        return _merge(out, [work], work, Path(folder))


def build_shard(
    folder: str | Path,
    out: str | Path,
    shard: Shard,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Read a shard of the MIDI files of `folder` into `out/shards`, for `merge`; an older one of its place is replaced.

    Raises `CorpusError` if there are no files or `out` is something else, `InputError` if it cannot be written.
    """
    out = Path(out)
    _sources(Path(folder))
    _check_replaceable(out)
    done = out / SHARDS_FOLDER / f"{shard.index}-of-{shard.count}"
    with _working(out, done.parent, done.name) as work:
        prepared = _write_shard(work, Path(folder), shard, jobs, progress)
        if done.exists():  # a folder takes only an empty one's place
            done.rename(work.with_name(f"{work.name}.old"))
        work.rename(done)
        shutil.rmtree(work.with_name(f"{work.name}.old"), ignore_errors=True)
    prepared.folder = done
    return prepared


def merge(out: str | Path) -> Prepared:
    """Make the corpus at `out` of the shards in it, byte by byte what `build` makes of the folder; they are removed.

    Raises `CorpusError` if shards are missing, damaged or not of one set of files, or hold nothing that can be used,
    `InputError` if the corpus cannot be written.
    """
    out = Path(out)
    shards = _find_shards(out)
    with _working(out, out / SHARDS_FOLDER, "merged") as work:
        prepared = _merge(out, shards, work, out)
    _remove_shards(out / SHARDS_FOLDER)
    return prepared


def _check_replaceable(out: Path) -> None:
    """That `out` is not there yet, or empty, or a corpus, be it an unfinished one."""
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    if not out.is_dir() or not ("corpus.json" in names or names <= {*FILES, SHARDS_FOLDER}):
        raise CorpusError(f"{out}: exists and is not a corpus; name another folder")


@contextmanager
def _working(out: Path, parent: Path, name: str) -> Iterator[Path]:
    """A new hidden folder in `parent` to work in, removed in the end with what is left in it.

    Raises `InputError` for any `OSError` on the way ("cannot write OUT: reason").
    """
    work = parent / f".{name}.{secrets.token_hex(4)}"
    try:
        work.mkdir(parents=True)
        yield work
    except OSError as error:
        # NumPy tells of a full disk by the numbers of what it wrote
        raise InputError(f"cannot write {out}: {error.strerror or f'is the disk full? {error}'}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # neither a folder of shards nor a corpus was begun if they are empty
            if parent.name == SHARDS_FOLDER:
                parent.rmdir()
                out.rmdir()


@dataclass
class _Listing:
    """The files that went by: their number, and a sum by which the listings of two shards are compared."""

    files: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def watch(self, sources: Iterable[Source]) -> Iterator[Source]:
        for source in sources:
            self.files += 1
            self.digest.update(f"{source.path}\0{source.split}\0{source.composer}\n".encode("utf-8", UNDECODABLE))
            yield source


def _write_shard(
    work: Path, folder: Path, shard: Shard, jobs: int | None, progress: Callable[[int, int], None] | None
) -> Prepared:
    """Read a shard of `folder` into its three files in `work`."""
    total = sum(1 for _ in shard.of(_sources(folder)))
    jobs = max(1, min(jobs or os.cpu_count() or 1, -(-total // CHUNK)))
    listing, prepared, rows = _Listing(), Prepared(work), 0
    sources = shard.of(listing.watch(_sources(folder)))
    with (work / "tokens.npy").open("wb") as tokens, _open_text(work / "records.jsonl", "w") as records:
        _write_header(tokens, 0)
        for result in _read_all(folder, sources, jobs):
            record = result.piece if isinstance(result, _Read) else result
            records.write(_to_json(record) + "\n")
            prepared.add(record)
            if isinstance(result, _Read):
                tokens.write(result.rows.tobytes())
                rows += len(result.rows)
            if progress:
                progress(prepared.files, total)
        tokens.seek(0)
        _write_header(tokens, rows)
    facts = {"format": FORMAT, "source": folder.resolve().name, "files": listing.files}
    facts |= {"listing": listing.digest.hexdigest(), "rows": rows}
    (work / "shard.json").write_text(json.dumps(facts, ensure_ascii=False), "utf-8", UNDECODABLE)
    return prepared


def _write_header(file: IO[bytes], rows: int) -> None:
    """The head of an `.npy` file of so many rows. NumPy pads it, so that it is of one length for any number."""
    facts = {"descr": np.lib.format.dtype_to_descr(STORED_DTYPE), "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(file, facts)


def _open_text(path: Path, mode: str) -> IO[str]:
    return path.open(mode, encoding="utf-8", errors=UNDECODABLE, newline="\n")


def _to_json(record: Piece | Skipped) -> str:
    return json.dumps({each.name: getattr(record, each.name) for each in fields(record)}, ensure_ascii=False)


# --- merging


def _find_shards(out: Path) -> list[Path]:
    """The folders of all shards of a corpus, in order, that are whole and of one set of files."""
    folder = out / SHARDS_FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = [re.fullmatch(r"([1-9]\d*)-of-([1-9]\d*)", name) for name in names]
    shards = sorted((int(match[2]), int(match[1])) for match in found if match)
    if not shards:
        raise CorpusError(f"{out}: no shards to merge; make each with `music-generator prepare … --shard I/N`")
    counts = sorted({count for count, _ in shards})
    if len(counts) > 1:
        several = " and ".join(map(str, counts))
        raise CorpusError(f"{folder}: shards of divisions into {several}; delete the folders of all divisions but one")
    missing = ", ".join(str(i) for i in range(1, counts[0] + 1) if (counts[0], i) not in shards)
    if missing:
        raise CorpusError(
            f"{folder}: of {counts[0]} shards these are missing: {missing}; make them with `prepare … --shard`"
        )
    folders = [folder / f"{index}-of-{count}" for count, index in shards]
    facts = [_read_shard(path, index, count) for path, (count, index) in zip(folders, shards, strict=True)]
    for path, each in zip(folders, facts, strict=True):
        if any(each[name] != facts[0][name] for name in ("source", "files", "listing")):
            raise CorpusError(f"{path}: of other files than {folders[0].name}; make it anew from the same folder")
    return folders


def _read_shard(folder: Path, index: int, count: int) -> dict[str, Any]:
    """What a shard says of itself, checked against what is there."""
    try:
        facts: dict[str, Any] = json.loads((folder / "shard.json").read_text("utf-8", UNDECODABLE))
        if facts["format"] != FORMAT:
            raise CorpusError(f"{folder}: its format is {facts['format']}, this version reads {FORMAT}; make it anew")
        rows = np.lib.format.open_memmap(folder / "tokens.npy", mode="r")
        with _open_text(folder / "records.jsonl", "r") as file:
            records = sum(1 for _ in file)
        whole = rows.dtype == STORED_DTYPE and rows.shape == (facts["rows"],)
        if not whole or records != len(range(index - 1, facts["files"], count)) or {"source", "listing"} - facts.keys():
            raise ValueError("its files do not fit together")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{folder}: the shard is damaged ({error}); make it anew") from error
    return facts


def _in_turn(shards: list[Path]) -> Iterator[tuple[int, Piece | Skipped]]:
    """The records of all shards in the order of their files, each with its shard's place in `shards`."""
    with ExitStack() as stack:
        files = [stack.enter_context(_open_text(folder / "records.jsonl", "r")) for folder in shards]
        for number, file in cycle(enumerate(files)):
            line = file.readline()
            if not line:  # the shards before it may have had one more
                return
            yield number, _read_record(line, shards[number])


def _read_record(line: str, shard: Path) -> Piece | Skipped:
    try:
        facts = json.loads(line)
        return Piece(**facts) if "digest" in facts else Skipped(**facts)
    except (ValueError, TypeError) as error:
        raise CorpusError(f"{shard}: the shard is damaged ({error}); make it anew") from error


def _merge(out: Path, shards: list[Path], work: Path, place: Path) -> Prepared:
    """The corpus at `out` of whole shards, by way of `work`, which may be the only shard; errors name `place`."""
    prepared = _write_pieces(work / "corpus.json", out, shards)
    if not prepared.pieces:
        first = prepared.skipped[0]
        raise CorpusError(f"{place}: none of its {prepared.files} MIDI files can be used; {first.path}: {first.reason}")
    if shards != [work]:
        _write_rows(work / "tokens.npy", shards, sum(size.rows for size in prepared.splits.values()))
    out.mkdir(exist_ok=True)
    (out / "corpus.json").unlink(missing_ok=True)  # so that no header ever stands beside another's tokens
    for name in FILES:
        (work / name).replace(out / name)
    return prepared


def _write_pieces(path: Path, out: Path, shards: list[Path]) -> Prepared:
    """`corpus.json`, one line a piece."""
    source = json.loads((shards[0] / "shard.json").read_text("utf-8", UNDECODABLE))["source"]
    bound, prepared, separator = _last_held_out(shards), Prepared(out), "\n"
    with _open_text(path, "w") as file:
        file.write(f'{{"format": {FORMAT}, "source": {json.dumps(source, ensure_ascii=False)}, "pieces": [')
        for _, record in _in_turn(shards):
            if isinstance(record, Piece):
                record = _with_split(record, bound)
                file.write(separator + _to_json(record))
                separator = ",\n"
            prepared.add(record)
        file.write("\n]}\n")
    return prepared


def _last_held_out(shards: list[Path]) -> str:
    """The digest up to which pieces without a split are held out: equal content, equal split; about a tenth of them."""
    digests = bytearray()
    for _, record in _in_turn(shards):
        if isinstance(record, Piece) and not record.split:
            digests += bytes.fromhex(record.digest)
    known = np.frombuffer(digests, "S32")
    known.sort()  # in its place: of a million files it takes 32 MB
    first = np.flatnonzero(np.concatenate([known[:1] == known[:1], known[1:] != known[:-1]]))
    if len(first) <= 1:
        return ""
    last = bytes(known[first[max(1, round(len(first) * HELD_OUT_SHARE)) - 1]])
    return last.ljust(32, b"\0").hex()  # NumPy takes zeros at the end for padding


def _with_split(piece: Piece, last_held_out: str) -> Piece:
    if piece.split:
        return piece
    return replace(piece, split="validation" if piece.digest <= last_held_out else "train")


def _write_rows(path: Path, shards: list[Path], total: int) -> None:
    """`tokens.npy` of all shards."""
    with ExitStack() as stack:
        files = [stack.enter_context((folder / "tokens.npy").open("rb")) for folder in shards]
        for file in files:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
        tokens = stack.enter_context(path.open("wb"))
        _write_header(tokens, total)
        for number, record in _in_turn(shards):
            if isinstance(record, Piece):
                tokens.write(files[number].read(record.rows * STORED_DTYPE.itemsize))


def _remove_shards(folder: Path) -> None:
    """All shards, and what killed processes left of them; nothing else."""
    for path in folder.iterdir():
        if re.fullmatch(r"\d+-of-\d+|\.(\d+-of-\d+|merged)\.[0-9a-f]{8}(\.old)?", path.name):
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()
