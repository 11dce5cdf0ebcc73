"""Merge shards into a corpus: the pieces of all shards in turn, with the splits, which depend on all pieces."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from music_generator.data.corpus import FORMAT, HEADER_FILE, STORED_DTYPE, TOKENS_FILE, Piece
from music_generator.data.shards import (
    SHARDS_FOLDER,
    Prepared,
    ShardFacts,
    find_shards,
    open_text,
    read_records,
    remove_shards,
    to_json,
    working_folder,
    write_npy_header,
)
from music_generator.errors import CorpusError

__all__ = ["merge"]

VALIDATION_SHARE = 0.1  # of the pieces whose dataset names no split


def merge(out: str | Path) -> Prepared:
    """Make the corpus at `out` of the shards in it, and remove them.

    The corpus has the same bytes as if `prepare` had read the whole folder at once.

    Raises:
        CorpusError: Shards are missing, damaged or not of one set of files, or contain nothing that can be used.
        InputError: The corpus cannot be written.
    """
    out = Path(out)
    shards = find_shards(out)
    with working_folder(out, out / SHARDS_FOLDER, "merged") as work:
        prepared = write_corpus(out, shards, work, out)
    remove_shards(out)
    return prepared


def write_corpus(out: Path, shards: list[Path], work: Path, named: Path) -> Prepared:
    """Write the corpus at `out` of complete shards.

    Args:
        out: The folder of the corpus.
        shards: The folders of the shards.
        work: The folder for files that are not finished; it may be the only shard.
        named: The path that an error names.
    """
    prepared = _write_pieces(work / HEADER_FILE, out, shards)
    if not prepared.pieces:
        first = prepared.skipped[0]
        raise CorpusError(named, f"none of its {prepared.files} MIDI files can be used; {first.path}: {first.reason}")
    if shards != [work]:
        _write_rows(work / TOKENS_FILE, shards, sum(size.rows for size in prepared.splits.values()))
    out.mkdir(exist_ok=True)
    (out / HEADER_FILE).unlink(missing_ok=True)  # a header never stands beside the tokens of another corpus
    for name in (TOKENS_FILE, HEADER_FILE):
        (work / name).replace(out / name)
    return prepared


def _write_pieces(path: Path, out: Path, shards: list[Path]) -> Prepared:
    """Write `corpus.json`, with one line for each piece."""
    source = json.dumps(ShardFacts.read(shards[0]).source, ensure_ascii=False)
    last, prepared, separator = _last_validation_digest(shards), Prepared(out), "\n"
    with open_text(path, "w") as file:
        file.write(f'{{"format": {FORMAT}, "source": {source}, "pieces": [')
        for _, record in read_records(shards):
            if isinstance(record, Piece):
                record = replace(record, split=record.split or ("validation" if record.digest <= last else "train"))
                file.write(separator + to_json(record))
                separator = ",\n"
            prepared.add(record)
        file.write("\n]}\n")
    return prepared


def _last_validation_digest(shards: list[Path]) -> str:
    """Return the largest digest of the validation split, among the pieces whose dataset names no split.

    The split follows from the digest, so that pieces of equal content are in the same one.
    """
    digests = bytearray()
    for _, record in read_records(shards):
        if isinstance(record, Piece) and not record.split:
            digests += bytes.fromhex(record.digest)
    known = np.frombuffer(digests, "S32")
    known.sort()  # in place: 32 MB for a million files
    first = np.flatnonzero(np.concatenate([known[:1] == known[:1], known[1:] != known[:-1]]))
    if len(first) <= 1:
        return ""
    last = bytes(known[first[max(1, round(len(first) * VALIDATION_SHARE)) - 1]])
    return last.ljust(32, b"\0").hex()  # NumPy drops zeros at the end


def _write_rows(path: Path, shards: list[Path], total: int) -> None:
    """Write `tokens.npy` of all shards."""
    with ExitStack() as stack:
        files = [stack.enter_context((folder / TOKENS_FILE).open("rb")) for folder in shards]
        for file in files:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
        tokens = stack.enter_context(path.open("wb"))
        write_npy_header(tokens, total)
        for position, record in read_records(shards):
            if isinstance(record, Piece):
                tokens.write(files[position].read(record.rows * STORED_DTYPE.itemsize))
