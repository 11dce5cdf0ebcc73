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
from music_generator.data.sources import Folders
from music_generator.errors import CorpusError

__all__ = ["merge"]

Origins = dict[str, str | None]  # digest of a piece: tag of the first folder that has it

_RANKED_DTYPE = np.dtype([("digest", "S32"), ("rank", "u4")])  # a piece: its digest, and the rank of its folder

VALIDATION_SHARE = 0.1  # of the pieces of the first folder, where its dataset names no split
MERGED_TOKENS_FILE = f"merged-{TOKENS_FILE}"  # in the folder of the work, which may be a shard's


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
        prepared = write_corpus(out, shards, work, {None: out})
    remove_shards(out)
    return prepared


def write_corpus(out: Path, shards: list[Path], work: Path, folders: Folders) -> Prepared:
    """Write the corpus at `out` of complete shards.

    Args:
        out: The folder of the corpus.
        shards: The folders of the shards.
        work: The folder for files that are not finished; it may be the only shard.
        folders: The paths that an error names; where an added folder is not among them, it names `out`.
    """
    origins = _find_origins(shards)
    prepared = _write_pieces(work / HEADER_FILE, out, shards, origins)
    _check_usable(prepared, folders)
    tokens = work / TOKENS_FILE
    if shards != [work] or prepared.repeated:
        tokens = work / MERGED_TOKENS_FILE
        _write_rows(tokens, shards, sum(size.rows for size in prepared.splits.values()), origins)
    out.mkdir(exist_ok=True)
    (out / HEADER_FILE).unlink(missing_ok=True)  # a header never stands beside the tokens of another corpus
    tokens.replace(out / TOKENS_FILE)
    (work / HEADER_FILE).replace(out / HEADER_FILE)
    return prepared


def _check_usable(prepared: Prepared, folders: Folders) -> None:
    """Check that each folder has a file that can be used, even if an earlier folder has the same."""
    used: set[str | None] = {*prepared.tags, *prepared.repeated}
    if prepared.pieces > sum(size.pieces for size in prepared.tags.values()):
        used.add(None)
    for first in prepared.skipped:
        if first.tag not in used:
            count = sum(skipped.tag == first.tag for skipped in prepared.skipped)
            added = f" added as {first.tag}" if first.tag else ""
            text = f"none of its {count} MIDI files{added} can be used; {first.path}: {first.reason}"
            raise CorpusError(folders.get(first.tag, prepared.folder), text)


def _write_pieces(path: Path, out: Path, shards: list[Path], origins: Origins) -> Prepared:
    """Write `corpus.json`, with one line for each piece."""
    facts = ShardFacts.read(shards[0])
    header = {"format": FORMAT, "source": facts.source} | ({"added": list(facts.added.items())} if facts.added else {})
    last, prepared, separator = _last_validation_digest(shards), Prepared(out), "\n"
    with open_text(path, "w") as file:
        file.write(json.dumps(header, ensure_ascii=False)[:-1] + ', "pieces": [')
        for _, record in read_records(shards):
            if isinstance(record, Piece):
                if record.tag and _is_repeated(record, origins):
                    prepared.add_repeated(record.tag)
                    continue
                record = replace(record, split=record.split or ("validation" if record.digest <= last else "train"))
                file.write(separator + to_json(record))
                separator = ",\n"
            prepared.add(record)
        file.write("\n]}\n")
    return prepared


def _find_origins(shards: list[Path]) -> Origins:
    """Return the tag of the first folder that has a digest, for each digest that several folders have."""
    if not ShardFacts.read(shards[0]).added:
        return {}
    pieces = (record for _, record in read_records(shards) if isinstance(record, Piece))
    ranks: dict[str | None, int] = {}  # of the folders: 0 for the first, as their files come in this order
    ranked = ((bytes.fromhex(piece.digest), ranks.setdefault(piece.tag, len(ranks))) for piece in pieces)
    found = np.unique(np.fromiter(ranked, _RANKED_DTYPE))  # sorted by digest, then by rank
    with_next = np.flatnonzero(found["digest"][:-1] == found["digest"][1:])
    origins, tags = Origins(), list(ranks)
    for digest, rank in found[with_next]:
        origins.setdefault(_to_hex(digest), tags[rank])
    return origins


def _is_repeated(piece: Piece, origins: Origins) -> bool:
    return origins.get(piece.digest, piece.tag) != piece.tag


def _to_hex(digest: bytes) -> str:
    return digest.ljust(32, b"\0").hex()  # NumPy drops zeros at the end


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
    return _to_hex(bytes(known[first[max(1, round(len(first) * VALIDATION_SHARE)) - 1]]))


def _write_rows(path: Path, shards: list[Path], total: int, origins: Origins) -> None:
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
                rows = files[position].read(record.rows * STORED_DTYPE.itemsize)
                if not _is_repeated(record, origins):
                    tokens.write(rows)
