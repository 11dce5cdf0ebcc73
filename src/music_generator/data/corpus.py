"""Open a prepared corpus: the token rows of all pieces, and the facts about each piece.

A corpus is a folder of two files: `tokens.npy` (`STORED_DTYPE`, all pieces end to end, opened by memory map) and
`corpus.json` (format, source, added folders, and one record for each piece, in the order of the rows). Opening it needs
NumPy only.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import CorpusError, InputError

__all__ = ["SPLITS", "Corpus", "Piece", "open_corpus"]

Array = NDArray[Any]

FORMAT = 1
TOKENS_FILE, HEADER_FILE = "tokens.npy", "corpus.json"
SPLITS = ("train", "validation", "test")
UNDECODABLE = "surrogateescape"  # as Python keeps the bytes of a file name that is not UTF-8

# the fields of `tokens.TOKEN_DTYPE` in 6 bytes; times are cut at 655.35 s, far past the model's last bin
STORED_DTYPE = np.dtype([("shift", "u2"), ("key", "u1"), ("velocity", "u1"), ("duration", "u2")])


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a corpus.

    Attributes:
        path: The MIDI file, relative to the folder that it is from, with `/`.
        split: One of `SPLITS`.
        composer: None if the dataset does not name one; so for `title` and `year`.
        rows: The number of its token rows.
        notes: The number of its notes.
        seconds: The end of its last event.
        digest: sha256 of its rows, the first shift set to 0: equal for pieces of equal content.
        tag: The tag of the added folder that it is from; None for a piece of the first folder.
    """

    path: str
    split: str
    composer: str | None
    title: str | None
    year: int | None
    rows: int
    notes: int
    seconds: float
    digest: str
    tag: str | None = None


@dataclass(frozen=True)
class Corpus:
    """An opened corpus.

    Attributes:
        folder: The folder of the corpus.
        source: The name of the first folder of MIDI files that it was made from.
        pieces: The pieces, in the order of their rows.
        rows: `STORED_DTYPE` of shape (rows,): all pieces end to end.
        added: The name of each folder that was added, by its tag.
    """

    folder: Path
    source: str
    pieces: tuple[Piece, ...]
    rows: Array
    added: dict[str, str] = field(default_factory=dict)

    @cached_property
    def offsets(self) -> Array:
        """The first row of each piece, then the number of all rows: int64 of shape (pieces + 1,)."""
        return np.concatenate([[0], np.cumsum([piece.rows for piece in self.pieces], dtype=np.int64)]).astype(np.int64)

    def piece_rows(self, index: int) -> Array:
        """Return a copy of the rows of one piece, the first shift set to 0: `STORED_DTYPE` of shape (rows,)."""
        rows = np.array(self.rows[self.offsets[index] : self.offsets[index + 1]])
        rows["shift"][:1] = 0
        return rows

    def split(self, name: str) -> list[int]:
        """Return the indices of the pieces of a split.

        Raises:
            InputError: `name` is not one of `SPLITS`.
        """
        if name not in SPLITS:
            raise InputError(f"unknown split {name!r}; known: {', '.join(SPLITS)}")
        return [i for i, piece in enumerate(self.pieces) if piece.split == name]

    @cached_property
    def digest(self) -> str:
        """sha256 of rows, split, composer and tag of each piece: equal for equal music, wherever the corpus is."""
        return _sha256(f"{piece.digest} {piece.split} {piece.composer} {piece.tag}\n" for piece in self.pieces)

    @cached_property
    def digest_without_tags(self) -> str:
        """The digest by which runs know their corpus that were begun before tags belonged to it."""
        return _sha256(f"{piece.digest} {piece.split} {piece.composer}\n" for piece in self.pieces)

    @property
    def composers(self) -> tuple[str, ...]:
        """The composers of the train split, sorted."""
        return tuple(sorted({p.composer for p in self.pieces if p.split == "train" and p.composer}))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the pieces, sorted; all of their pieces are in the train split."""
        return tuple(sorted({piece.tag for piece in self.pieces if piece.tag}))

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of all folders of MIDI files that it was made from, the first one first."""
        return (self.source, *self.added.values())


def _sha256(lines: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for line in lines:
        whole.update(line.encode("utf-8", UNDECODABLE))
    return whole.hexdigest()


def open_corpus(folder: str | Path) -> Corpus:
    """Open a prepared corpus; its rows stay on disk until they are used.

    Raises:
        CorpusError: The corpus is missing, damaged or of another version.
    """
    folder = Path(folder)
    try:
        header = json.loads((folder / HEADER_FILE).read_text("utf-8", UNDECODABLE), object_hook=_piece_or_header)
        if header["format"] != FORMAT:
            raise CorpusError(
                folder,
                f"its format is {header['format']}, this version reads {FORMAT}; "
                "prepare it again with `music-generator prepare`",
            )
        pieces = tuple(header["pieces"])
        if not all(isinstance(piece, Piece) for piece in pieces):
            raise TypeError(f"a record of {HEADER_FILE} is not that of a piece")
        rows = np.lib.format.open_memmap(folder / TOKENS_FILE, mode="r")
        source, added, length = header["source"], dict(header.get("added", {})), sum(piece.rows for piece in pieces)
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = f"{Path(error.filename).name} is missing"
        raise CorpusError(folder, f"no prepared corpus ({missing}); see `music-generator prepare`") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(folder, f"the corpus is damaged ({error}); prepare it again") from error
    if rows.dtype != STORED_DTYPE or rows.shape != (length,):
        raise CorpusError(folder, f"{TOKENS_FILE} does not fit {HEADER_FILE}; prepare the corpus again")
    return Corpus(folder, source, pieces, rows, added)


def _piece_or_header(record: dict[str, Any]) -> Any:
    """Make a `Piece` of a JSON record as soon as it is read, because a million dicts would take gigabytes."""
    if "digest" not in record:
        return record
    piece = Piece(**record)
    composer, tag = (None if name is None else sys.intern(name) for name in (piece.composer, piece.tag))
    return replace(piece, split=sys.intern(piece.split), composer=composer, tag=tag)
