"""The shards of a corpus on disk: every N-th file of a folder, read and waiting to be merged.

A shard is a folder of three files: `tokens.npy` (the rows of its pieces), `records.jsonl` (a `Piece` or `Skipped` for
each of its files, in their order) and `shard.json` (`ShardFacts`).
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import cycle
from pathlib import Path
from typing import IO

import numpy as np

from music_generator.data.corpus import FORMAT, SPLITS, STORED_DTYPE, TOKENS_FILE, UNDECODABLE, Piece
from music_generator.errors import CorpusError, InputError

SHARDS_FOLDER = "shards"  # in the folder of the corpus that they will become
RECORDS_FILE, FACTS_FILE = "records.jsonl", "shard.json"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out: its path and tag as in `Source`, and the reason."""

    path: str
    reason: str
    tag: str | None = None


@dataclass
class Size:
    """Numbers of pieces, and of their notes and token rows."""

    pieces: int = 0
    notes: int = 0
    rows: int = 0

    def add(self, piece: Piece) -> None:
        """Count one more piece."""
        self.pieces, self.notes, self.rows = self.pieces + 1, self.notes + piece.notes, self.rows + piece.rows


@dataclass
class Prepared:
    """The result of preparing or merging.

    Attributes:
        folder: The folder of the corpus or of the shard.
        files: The number of MIDI files read.
        pieces: The number of pieces that they gave.
        splits: The size of each split. The pieces of a shard whose dataset names no split are counted in none.
        skipped: The files that were left out.
        tags: The size of what each added folder gave, by its tag.
        repeated: The number of files of each added folder, by its tag, whose content an earlier folder has. They are
            left out when shards are merged.
    """

    folder: Path
    files: int = 0
    pieces: int = 0
    splits: dict[str, Size] = field(default_factory=lambda: {name: Size() for name in SPLITS})
    skipped: list[Skipped] = field(default_factory=list)
    tags: dict[str, Size] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)

    def add(self, record: Piece | Skipped) -> None:
        """Count one more file."""
        self.files += 1
        if isinstance(record, Skipped):
            self.skipped.append(record)
            return
        self.pieces += 1
        if record.split:
            self.splits[record.split].add(record)
        if record.tag:
            self.tags.setdefault(record.tag, Size()).add(record)

    def add_repeated(self, tag: str) -> None:
        """Count one more file of an added folder whose content an earlier folder has."""
        self.files += 1
        self.repeated[tag] = self.repeated.get(tag, 0) + 1


@dataclass(frozen=True)
class ShardFacts:
    """The facts about a shard.

    Attributes:
        source: The name of the first folder of MIDI files.
        files: The number of the files of all shards.
        listing: sha256 of the list of all files, by which two shards are compared.
        rows: The number of token rows of this shard.
        added: The name of each folder that was added, by its tag.
        format: The format of the corpus.
    """

    source: str
    files: int
    listing: str
    rows: int
    added: dict[str, str]
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write them into the folder of a shard."""
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), ensure_ascii=False), "utf-8", UNDECODABLE)

    @classmethod
    def read(cls, folder: Path) -> ShardFacts:
        """Read the facts in the folder of a shard.

        Raises:
            CorpusError: They are of another format.
            OSError, ValueError, KeyError, TypeError: They are missing or damaged.
        """
        facts = json.loads((folder / FACTS_FILE).read_text("utf-8", UNDECODABLE))
        if facts["format"] != FORMAT:
            text = f"its format is {facts['format']}, this version reads {FORMAT}; prepare it again"
            raise CorpusError(folder, text)
        return cls(**facts)


def find_shards(out: Path) -> list[Path]:
    """Return the folders of all shards of a corpus, in order.

    Raises:
        CorpusError: A shard is missing or damaged, or the shards are not of one set of files.
    """
    folder = out / SHARDS_FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = [re.fullmatch(r"([1-9]\d*)-of-([1-9]\d*)", name) for name in names]
    shards = sorted((int(match[2]), int(match[1])) for match in found if match)
    if not shards:
        raise CorpusError(out, "no shards to merge; make each with `music-generator prepare … --shard I/N`")
    counts = sorted({count for count, _ in shards})
    if len(counts) > 1:
        several = " and ".join(map(str, counts))
        raise CorpusError(folder, f"it has shards of divisions into {several}; delete those of all divisions but one")
    missing = ", ".join(str(i) for i in range(1, counts[0] + 1) if (counts[0], i) not in shards)
    if missing:
        text = f"of {counts[0]} shards these are missing: {missing}; make them with `prepare … --shard`"
        raise CorpusError(folder, text)
    folders = [folder / f"{index}-of-{count}" for count, index in shards]
    facts = [_checked_facts(path, index, count) for path, (count, index) in zip(folders, shards, strict=True)]
    for path, each in zip(folders, facts, strict=True):
        if replace(each, rows=0) != replace(facts[0], rows=0):
            text = f"it was made of other files than {folders[0].name}; prepare it again from the same folders"
            raise CorpusError(path, text)
    return folders


def _checked_facts(folder: Path, index: int, count: int) -> ShardFacts:
    """Return the facts about a shard and check that its files fit them."""
    try:
        facts = ShardFacts.read(folder)
        rows = np.lib.format.open_memmap(folder / TOKENS_FILE, mode="r")
        with open_text(folder / RECORDS_FILE, "r") as file:
            records = sum(1 for _ in file)
        has_all_rows = rows.dtype == STORED_DTYPE and rows.shape == (facts.rows,)
        if not has_all_rows or records != len(range(index - 1, facts.files, count)):
            raise ValueError("its files do not fit together")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error
    return facts


def _damaged(shard: Path, error: Exception) -> CorpusError:
    return CorpusError(shard, f"the shard is damaged ({error}); prepare it again")


def read_records(shards: Sequence[Path]) -> Iterator[tuple[int, Piece | Skipped]]:
    """Yield the records of all shards in the order of their files, each with the position of its shard."""
    with ExitStack() as stack:
        files = [stack.enter_context(open_text(folder / RECORDS_FILE, "r")) for folder in shards]
        for position, file in cycle(enumerate(files)):
            line = file.readline()
            if not line:  # the shards before it may have had one more
                return
            try:
                record = json.loads(line)
                yield position, Piece(**record) if "digest" in record else Skipped(**record)
            except (ValueError, TypeError) as error:
                raise _damaged(shards[position], error) from error


def write_npy_header(file: IO[bytes], rows: int) -> None:
    """Write the header of an `.npy` file; NumPy pads it, so that its length is the same for any number of rows."""
    header = {"descr": np.lib.format.dtype_to_descr(STORED_DTYPE), "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(file, header)


def open_text(path: Path, mode: str) -> IO[str]:
    """Open a text file that may contain the undecodable bytes of file names."""
    return path.open(mode, encoding="utf-8", errors=UNDECODABLE, newline="\n")


def to_json(record: Piece | Skipped) -> str:
    """Return a record as one line of JSON; `tag` is in it only where there is one."""
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    if values["tag"] is None:
        del values["tag"]
    return json.dumps(values, ensure_ascii=False)


@contextmanager
def working_folder(out: Path, parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder in `parent` for the work on `out`, and remove it at the end with what is left in it.

    Raises:
        InputError: An `OSError` occurred on the way ("cannot write OUT: reason").
    """
    work = parent / f".{name}.{secrets.token_hex(4)}"
    try:
        work.mkdir(parents=True)
        yield work
    except OSError as error:
        # for a full disk NumPy raises an error without `strerror` that says only how much it wrote
        raise InputError(f"cannot write {out}: {error.strerror or f'is the disk full? {error}'}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # the folder of the shards and that of the corpus stay if anything is in them
            if parent.name == SHARDS_FOLDER:
                parent.rmdir()
                out.rmdir()


def remove_shards(out: Path) -> None:
    """Remove all shards of a corpus, and the hidden folders of killed processes; nothing else."""
    folder = out / SHARDS_FOLDER
    for path in folder.iterdir():
        if re.fullmatch(r"\d+-of-\d+|\.(\d+-of-\d+|merged)\.[0-9a-f]{8}(\.old)?", path.name):
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()
