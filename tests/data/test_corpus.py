"""Preparing and opening a corpus: splits, duplicates, what is skipped, what is refused."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from music_generator.data import maestro
from music_generator.data.corpus import FORMAT, STORED_DTYPE, Corpus, open_corpus
from music_generator.data.merge import merge
from music_generator.data.prepare import Skipped, prepare, read_all
from music_generator.data.sources import Source, find_sources
from music_generator.errors import CorpusError, InputError
from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, Performance
from music_generator.music.tokens import decode, encode
from music_generator.parallel import Shard

DRUMS = bytes.fromhex("4d546864 00000006 0000 0001 01f4 4d54726b 0000000d 00992440 8768892440 00ff2f00")


def piece(seed: int, count: int = 12) -> Performance:
    """A performance on the 10 ms grid, another one for each seed, from second 0."""
    random = np.random.default_rng(seed)
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.cumsum(random.integers(1, 100, count)) / 100
    notes["onset"] -= notes["onset"][0]
    notes["duration"], notes["velocity"] = 0.2, random.integers(1, 128, count)
    notes["pitch"] = random.integers(21, 109, count)
    return Performance(notes, np.array([(0.5, 1.0, SUSTAIN, 100)], PEDAL_DTYPE))


def fill(folder: Path, count: int = 20) -> Path:
    """A folder of pieces, some in a folder of a folder, some in capitals."""
    for seed in range(count):
        name = ("a.mid", "deep/er/b.MID", "deep/c.midi")[seed % 3].replace(".", f"{seed:02d}.")
        write_midi(piece(seed), folder / name)
    return folder


def fill_maestro(folder: Path) -> Path:
    """A folder shaped as MAESTRO: three pieces in its three splits, and one listed that is not there."""
    splits = ("train", "validation", "test", "train")
    with_files = enumerate(zip(("Alban Berg", "Leoš Janáček", "Alban Berg", "Clara Schumann"), splits, strict=True))
    rows = [
        (composer, f"Piece {i}", split, 2004 + i, f"2004/{i}.midi", f"2004/{i}.wav", 9.5)
        for i, (composer, split) in with_files
    ]
    for i in range(3):
        write_midi(piece(0), folder / f"2004/{i}.midi")  # equal content: the official splits hold all the same
    with (folder / "maestro-v3.0.0.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([maestro.COLUMNS, *rows])
    return folder


def prepare_and_open(folder: str | Path, out: str | Path, **options: Any) -> tuple[Corpus, list[Skipped]]:
    made = prepare(folder, out, **options)
    return open_corpus(out), made.skipped


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def by_path(corpus: Corpus) -> dict[str, str]:
    return {piece.path: piece.split for piece in corpus.pieces}


# --- preparing a folder


def test_a_folder_becomes_a_corpus(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    corpus, skipped = prepare_and_open(
        fill(tmp_path / "midi"), tmp_path / "out" / "corpus", jobs=1, progress=lambda *now: told.append(now)
    )
    assert skipped == []
    assert told == [(done, 20) for done in range(1, 21)]
    assert sorted(contents(corpus.folder)) == ["corpus.json", "tokens.npy"]
    assert [path.name for path in corpus.folder.parent.iterdir()] == ["corpus"]
    assert corpus.source == "midi"
    assert [p.path for p in corpus.pieces] == sorted(p.path for p in corpus.pieces)
    assert {Path(p.path).name for p in corpus.pieces} >= {"a00.mid", "b01.MID", "c02.midi"}
    assert len(corpus.split("train")) == 18
    assert len(corpus.split("validation")) == 2
    assert corpus.split("test") == []
    assert corpus.composers == ()
    assert isinstance(corpus.rows, np.memmap)


def test_the_rows_of_each_piece_are_its_tokens(tmp_path: Path) -> None:
    fill(tmp_path / "midi", 5)
    write_midi(piece(9).shifted(3), tmp_path / "midi" / "late.mid")
    corpus, _ = prepare_and_open(tmp_path / "midi", tmp_path / "out", jobs=1)
    for index, (known, seed) in enumerate(zip(corpus.pieces, (0, 3, 2, 1, 4, 9), strict=True)):
        rows = corpus.piece_rows(index)
        assert rows.dtype == STORED_DTYPE
        assert rows.tolist() == encode(piece(seed)).tolist()
        assert encode(decode(rows)).tolist() == rows.tolist()
        assert (known.rows, known.notes) == (len(rows), len(piece(seed)))
        later = 3 if seed == 9 else 0
        assert known.seconds == pytest.approx(piece(seed).end + later)
    assert corpus.rows["shift"][corpus.offsets[5]] == 300
    assert corpus.offsets[-1] == len(corpus.rows)


@pytest.mark.parametrize("jobs", [2, None])
def test_the_same_corpus_with_any_number_of_jobs(tmp_path: Path, jobs: int | None) -> None:
    fill(tmp_path / "midi", 40)
    (tmp_path / "midi" / "broken.mid").write_bytes(b"MThd")
    one, skipped_by_one = prepare_and_open(tmp_path / "midi", tmp_path / "one", jobs=1)
    many, skipped_by_many = prepare_and_open(tmp_path / "midi", tmp_path / "many", jobs=jobs)
    assert contents(one.folder) == contents(many.folder)
    assert skipped_by_one == skipped_by_many != []


def test_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    """Folder by folder, as `Path` compares: `a/…` before `a-…`; a link to a folder is not followed, round and round."""
    names = ("a.mid", "a/b.mid", "a-b/c.midi", "a/0/z.MID", "b.mid", "B.mid", "a.mid.d/x.mid", ".hidden/y.mid", "é.mid")
    for name in (*names, "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop.mid").symlink_to(tmp_path)
    (tmp_path / "linked.mid").symlink_to(tmp_path / "b.mid")
    (tmp_path / "gone.mid").symlink_to(tmp_path / "nowhere.mid")
    expected = sorted(tmp_path / name for name in (*names, "linked.mid"))
    assert [tmp_path / source.path for source in find_sources(tmp_path)] == expected


def test_duplicates_share_a_split(tmp_path: Path) -> None:
    for seed in range(10):
        write_midi(piece(seed), tmp_path / "midi" / f"{seed}.mid")
        write_midi(piece(seed), tmp_path / "midi" / "again" / f"other {seed}.mid")
        write_midi(piece(seed).shifted(2.5), tmp_path / "midi" / f"{seed} after a silence.mid")
    corpus, _ = prepare_and_open(tmp_path / "midi", tmp_path / "out", jobs=1)
    splits = by_path(corpus)
    for seed in range(10):
        copies = (f"{seed}.mid", f"again/other {seed}.mid", f"{seed} after a silence.mid")
        assert len({splits[path] for path in copies}) == 1
    assert len({p.digest for p in corpus.pieces}) == 10
    assert len(corpus.split("validation")) == 3  # one piece in its three copies


def test_pieces_that_differ_in_one_note_are_different(tmp_path: Path) -> None:
    for pitch in range(60, 70):
        write_midi(Performance(np.array([(0, 1, pitch, 64)], NOTE_DTYPE)), tmp_path / "midi" / f"{pitch}.mid")
    corpus, _ = prepare_and_open(tmp_path / "midi", tmp_path / "out", jobs=1)
    assert len({p.digest for p in corpus.pieces}) == 10
    assert len(corpus.split("validation")) == 1


def test_a_single_piece_is_for_training(tmp_path: Path) -> None:
    corpus, _ = prepare_and_open(fill(tmp_path / "midi", 1), tmp_path / "out")
    assert corpus.split("train") == [0]


def test_files_that_cannot_be_used_are_skipped_with_the_reason(tmp_path: Path) -> None:
    folder = fill(tmp_path / "midi", 3)
    (folder / "broken.mid").write_bytes((folder / "a00.mid").read_bytes()[:60])
    (folder / "deep" / "empty.mid").touch()
    (folder / "drums.mid").write_bytes(DRUMS)
    (folder / "notes.txt").write_text("no MIDI file")
    (folder / "folder.mid").mkdir()
    corpus, skipped = prepare_and_open(folder, tmp_path / "out", jobs=1)
    assert len(corpus.pieces) == 3
    assert [skip.path for skip in skipped] == ["broken.mid", "deep/empty.mid", "drums.mid"]
    assert skipped[0].reason.startswith("the MIDI file is damaged or cut off (")
    assert skipped[1:] == [
        Skipped("deep/empty.mid", "the file is empty"),
        Skipped("drums.mid", "it has no piano notes"),
    ]


def test_long_silences_and_notes_are_cut_to_what_is_stored(tmp_path: Path) -> None:
    notes = np.array([(0, 1000, 60, 64), (2000, 1, 62, 64)], NOTE_DTYPE)
    write_midi(Performance(notes), tmp_path / "midi" / "slow.mid")
    corpus, _ = prepare_and_open(tmp_path / "midi", tmp_path / "out")
    assert corpus.rows[["shift", "duration"]].tolist() == [(0, 65_535), (65_535, 100)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps file names that are not UTF-8")
def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mid")
    write_midi(piece(0), tmp_path / "midi" / "café.mid")
    shutil.copy(tmp_path / "midi" / "café.mid", tmp_path / "midi" / name)
    corpus, skipped = prepare_and_open(tmp_path / "midi", tmp_path / "out")
    assert skipped == []
    assert {p.path for p in corpus.pieces} == {name, "café.mid"}
    assert "café" in (tmp_path / "out" / "corpus.json").read_text("utf-8", "replace")


def test_nothing_usable(tmp_path: Path) -> None:
    folder = tmp_path / "midi"
    folder.mkdir()
    with pytest.raises(CorpusError, match=re.escape(f"{folder}: no MIDI files (.mid, .midi) in it")):
        prepare(folder, tmp_path / "out")
    (folder / "empty.mid").touch()
    (folder / "drums.mid").write_bytes(DRUMS)
    text = f"{folder}: none of its 2 MIDI files can be used; drums.mid: it has no piano notes"
    with pytest.raises(CorpusError, match=re.escape(text)):
        prepare(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CorpusError, match=re.escape(f"{tmp_path / 'none'}: no such folder")):
        prepare(tmp_path / "none", tmp_path / "out")


# --- MAESTRO


def test_maestro_keeps_its_splits_and_composers(tmp_path: Path) -> None:
    corpus, skipped = prepare_and_open(fill_maestro(tmp_path / "maestro"), tmp_path / "out")
    assert skipped == []
    assert by_path(corpus) == {"2004/0.midi": "train", "2004/1.midi": "validation", "2004/2.midi": "test"}
    assert [(p.composer, p.title, p.year) for p in corpus.pieces] == [
        ("Alban Berg", "Piece 0", 2004),
        ("Leoš Janáček", "Piece 1", 2005),
        ("Alban Berg", "Piece 2", 2006),
    ]
    assert corpus.composers == ("Alban Berg",)  # of the train split
    assert open_corpus(tmp_path / "out").pieces == corpus.pieces


def test_maestro_in_the_folder_it_was_unpacked_into(tmp_path: Path) -> None:
    fill_maestro(tmp_path / "data" / "maestro-v3.0.0")
    assert [s.path for s in find_sources(tmp_path / "data")] == [f"maestro-v3.0.0/2004/{i}.midi" for i in range(3)]
    corpus, skipped = prepare_and_open(tmp_path / "data", tmp_path / "out")
    assert skipped == []
    assert [p.split for p in corpus.pieces] == ["train", "validation", "test"]


def test_maestro_without_any_of_its_files(tmp_path: Path) -> None:
    folder = fill_maestro(tmp_path / "maestro")
    shutil.rmtree(folder / "2004")
    text = f"{folder}: none of the 4 MIDI files that its metadata lists is there"
    with pytest.raises(CorpusError, match=re.escape(text)):
        prepare(folder, tmp_path / "out")


@pytest.mark.maestro
@pytest.mark.skipif("MAESTRO_DIR" not in os.environ, reason="MAESTRO_DIR names no folder of MAESTRO v3.0.0's files")
def test_all_of_the_real_maestro(tmp_path: Path) -> None:
    corpus, skipped = prepare_and_open(os.environ["MAESTRO_DIR"], tmp_path / "out")
    assert skipped == []
    assert len(corpus.pieces) == 1099
    notes = {split: sum(corpus.pieces[i].notes for i in corpus.split(split)) for split in ("train", "validation")}
    assert notes == {"train": 5_659_328, "validation": 639_425}


# --- shards


def in_shards(folder: Path, out: Path, count: int) -> Path:
    """All shards of a folder, the last one first."""
    for index in range(count, 0, -1):
        prepare(folder, out, shard=Shard(index, count), jobs=1)
    return out


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_merged_shards_are_the_corpus_byte_by_byte(tmp_path: Path, count: int) -> None:
    """Splits too, which depend on all files; with duplicates, files that cannot be used and more shards than files."""
    folder = fill(tmp_path / "midi", 21)
    shutil.copytree(folder / "deep", folder / "again")
    (folder / "b.mid").write_bytes(b"MThd")
    (folder / "z.mid").touch()
    whole = prepare(folder, tmp_path / "whole", jobs=1)
    out = in_shards(folder, tmp_path / "parts", count)
    assert {path.name for path in out.iterdir()} == {"shards"}
    with pytest.raises(CorpusError, match="no prepared corpus"):
        open_corpus(out)
    merged = merge(out)
    assert contents(out) == contents(tmp_path / "whole")
    assert (merged.files, merged.pieces, merged.splits) == (whole.files, whole.pieces, whole.splits)
    assert merged.skipped == whole.skipped != []
    assert merged.splits["validation"].pieces > 0
    with pytest.raises(CorpusError, match="no shards to merge"):
        merge(out)


def test_maestro_in_shards(tmp_path: Path) -> None:
    folder = fill_maestro(tmp_path / "maestro")
    prepare(folder, tmp_path / "whole")
    merge(in_shards(folder, tmp_path / "parts", 2))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_missing_shard(tmp_path: Path) -> None:
    out = in_shards(fill(tmp_path / "midi", 8), tmp_path / "out", 4)
    for index in (2, 4):
        shutil.rmtree(out / "shards" / f"{index}-of-4")
    with pytest.raises(CorpusError, match=re.escape(f"{out / 'shards'}: of 4 shards these are missing: 2, 4; make")):
        merge(out)
    assert [path.name for path in out.iterdir()] == ["shards"]


def test_a_foreign_shard(tmp_path: Path) -> None:
    folder = fill(tmp_path / "midi", 8)
    out = in_shards(folder, tmp_path / "out", 2)
    prepare(folder, out, shard=Shard(3, 3))
    with pytest.raises(
        CorpusError, match="it has shards of divisions into 2 and 3; delete those of all divisions but one"
    ):
        merge(out)
    shutil.rmtree(out / "shards" / "3-of-3")
    write_midi(piece(99), folder / "new.mid")
    prepare(folder, out, shard=Shard(2, 2))
    with pytest.raises(
        CorpusError, match=re.escape("2-of-2: it was made of other files than 1-of-2; prepare it again from the same")
    ):
        merge(out)
    prepare(folder, out, shard=Shard(1, 2))
    assert merge(out).pieces == 9


@pytest.mark.parametrize("name", ["tokens.npy", "records.jsonl", "shard.json"])
@pytest.mark.parametrize("damage", ["cut off", "missing", "other"])
def test_a_damaged_shard(tmp_path: Path, name: str, damage: str) -> None:
    out = in_shards(fill(tmp_path / "midi", 8), tmp_path / "out", 2)
    path = out / "shards" / "2-of-2" / name
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            data[: len(data) // 2] if damage == "cut off" else data.replace(b"{", b"[").replace(b"u2", b"i2")
        )
    with pytest.raises(CorpusError, match=r"2-of-2: the shard is damaged \(.+\); prepare it again"):
        merge(out)
    assert [path.name for path in out.iterdir()] == ["shards"]


def test_a_shard_of_another_version(tmp_path: Path) -> None:
    out = in_shards(fill(tmp_path / "midi", 4), tmp_path / "out", 2)
    path = out / "shards" / "1-of-2" / "shard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
    with pytest.raises(CorpusError, match=f"1-of-2: its format is {FORMAT + 1}, this version reads {FORMAT}"):
        merge(out)


def test_shards_without_a_usable_file(tmp_path: Path) -> None:
    (tmp_path / "midi").mkdir()
    for name in ("a.mid", "b.mid", "c.mid"):
        (tmp_path / "midi" / name).touch()
    out = in_shards(tmp_path / "midi", tmp_path / "out", 2)
    with pytest.raises(CorpusError, match=r"out: none of its 3 MIDI files can be used; a\.mid: the file is empty"):
        merge(out)
    assert not (out / "corpus.json").exists()


KILLED = """
import os, signal, sys
from music_generator.data.prepare import prepare
from music_generator.parallel import Shard

def progress(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

prepare(sys.argv[1], sys.argv[2], shard=Shard(1, 2), jobs=1, progress=progress)
"""


def test_a_killed_shard_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A real SIGKILL: the shard made before stays as it was, and what was left goes with the merge."""
    folder = fill(tmp_path / "midi", 9)
    prepare(folder, tmp_path / "whole")
    out = in_shards(folder, tmp_path / "out", 2)
    before = contents(out / "shards" / "1-of-2")
    for _ in range(2):
        command = [sys.executable, "-W", "error", "-c", KILLED, str(folder), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert contents(out / "shards" / "1-of-2") == before
    left = {path.name for path in (out / "shards").iterdir()} - {"1-of-2", "2-of-2"}
    assert len(left) == 2
    (out / "shards" / "mine.txt").write_text("not of this package")
    merge(out)
    assert [path.name for path in (out / "shards").iterdir()] == ["mine.txt"]
    assert {name: (out / name).read_bytes() for name in ("tokens.npy", "corpus.json")} == contents(tmp_path / "whole")


def test_a_full_disk_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("music_generator.data.prepare.to_json", full)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=re.escape(f"cannot write {out}: No space left on device")):
        prepare(fill(tmp_path / "midi", 3), out, shard=Shard(1, 2), jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["midi"]


def test_what_waits_to_be_written_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is, the processes that read are never more than a few chunks ahead of it."""
    folder = fill(tmp_path / "midi", 6)
    sources = list(find_sources(folder)) * 100
    taken = 0

    def counted() -> Iterator[Source]:
        nonlocal taken
        for source in sources:
            taken += 1
            yield source

    monkeypatch.setattr("music_generator.data.prepare.CHUNK_FILES", 4)
    found = iter(read_all(folder, counted(), 2))
    for _ in range(20):
        next(found)
    assert taken <= 20 + 4 * (4 * 2 + 2)
    assert sum(1 for _ in found) == 580


# --- where it is written


def test_a_corpus_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "midi", 2)
    prepare(tmp_path / "midi", tmp_path / "out")
    write_midi(piece(2), tmp_path / "midi" / "third.mid")
    corpus, _ = prepare_and_open(tmp_path / "midi", tmp_path / "out")
    assert len(corpus.pieces) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["midi", "out"]


def test_an_empty_folder_is_taken_and_the_current_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "midi", 2)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert len(prepare_and_open(tmp_path / "midi", ".")[0].pieces) == 2
    assert sorted(contents(tmp_path / "out")) == ["corpus.json", "tokens.npy"]


def test_another_folder_or_a_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    fill(tmp_path / "midi", 2)
    (tmp_path / "mine").mkdir()
    for thing in (tmp_path / "mine" / "diary.txt", tmp_path / "file"):
        thing.write_text("dear diary")
    for out in (tmp_path / "mine", tmp_path / "file", tmp_path / "midi"):
        with pytest.raises(CorpusError, match=re.escape(f"{out}: exists and is not a corpus; name another folder")):
            prepare(tmp_path / "midi", out)
    assert (tmp_path / "mine" / "diary.txt").read_text() == (tmp_path / "file").read_text() == "dear diary"


def test_what_lies_beside_a_corpus_in_its_folder_is_left_alone(tmp_path: Path) -> None:
    prepare(fill(tmp_path / "midi", 2), tmp_path / "out")
    (tmp_path / "out" / "run").mkdir()
    (tmp_path / "out" / "corpus.json").write_text("of another version")
    assert len(prepare_and_open(tmp_path / "midi", tmp_path / "out")[0].pieces) == 2
    assert (tmp_path / "out" / "run").is_dir()


def test_an_unfinished_corpus_is_replaced(tmp_path: Path) -> None:
    prepare(fill(tmp_path / "midi", 2), tmp_path / "out")
    (tmp_path / "out" / "corpus.json").unlink()
    assert len(prepare_and_open(tmp_path / "midi", tmp_path / "out")[0].pieces) == 2


def test_a_file_in_place_of_the_parent_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(InputError, match=re.escape(f"cannot write {out}: Not a directory")):
        prepare(fill(tmp_path / "midi", 2), out)


def test_a_full_disk_keeps_the_old_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(file: Any, _: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    prepare(fill(tmp_path / "midi", 2), tmp_path / "out")
    before = contents(tmp_path / "out")
    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", write_half)
    with pytest.raises(InputError, match=re.escape(f"cannot write {tmp_path / 'out'}: No space left on device")):
        prepare(tmp_path / "midi", tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["midi", "out"]


# --- opening


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return prepare_and_open(fill(tmp_path / "midi", 3), tmp_path / "corpus")[0].folder


def refusal(folder: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        open_corpus(folder)
    return str(caught.value)


def test_not_a_corpus(tmp_path: Path) -> None:
    text = "no prepared corpus (corpus.json is missing); see `music-generator prepare`"
    assert refusal(tmp_path) == f"{tmp_path}: {text}"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: {text}"
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file") == f"{tmp_path / 'file'}: {text}"


def test_a_corpus_of_another_version(prepared: Path) -> None:
    header = json.loads((prepared / "corpus.json").read_text("utf-8"))
    header["format"] = FORMAT + 1
    (prepared / "corpus.json").write_text(json.dumps(header))
    text = f"its format is {FORMAT + 1}, this version reads {FORMAT}; prepare it again with `music-generator prepare`"
    assert refusal(prepared) == f"{prepared}: {text}"


def test_no_tokens(prepared: Path) -> None:
    (prepared / "tokens.npy").unlink()
    assert "no prepared corpus (tokens.npy is missing)" in refusal(prepared)


@pytest.mark.parametrize("length", [0, 5, 100, -6])
def test_tokens_cut_off(prepared: Path, length: int) -> None:
    path = prepared / "tokens.npy"
    path.write_bytes(path.read_bytes()[:length])
    assert re.search(r"the corpus is damaged \(.+\); prepare it again", refusal(prepared))


@pytest.mark.parametrize(
    "array", [np.zeros(3, STORED_DTYPE), np.zeros(39), np.zeros((39, 1), STORED_DTYPE), np.array(1)]
)
def test_tokens_of_something_else(prepared: Path, array: Any) -> None:
    np.save(prepared / "tokens.npy", array)
    assert refusal(prepared) == f"{prepared}: tokens.npy does not fit corpus.json; prepare the corpus again"


def test_tokens_in_another_kind_of_file(prepared: Path) -> None:
    np.savez(prepared / "tokens.npz", rows=np.zeros(39, STORED_DTYPE))
    (prepared / "tokens.npz").replace(prepared / "tokens.npy")
    assert "the corpus is damaged" in refusal(prepared)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 1, "source": "a", "pieces": [1]}',
        '{"format": 1, "source": "a", "pieces": [{"path": "a.mid"}]}',
        '{"format": 1, "pieces": []}',
    ],
)
def test_a_damaged_header(prepared: Path, text: str) -> None:
    (prepared / "corpus.json").write_text(text)
    assert re.search(r"the corpus is damaged \(.+\); prepare it again", refusal(prepared))


def test_an_unknown_split(prepared: Path) -> None:
    with pytest.raises(InputError, match="unknown split 'dev'; known: train, validation, test"):
        open_corpus(prepared).split("dev")


def test_opening_needs_no_midi_library(prepared: Path) -> None:
    blocked = "sys.modules.update(dict.fromkeys(['symusic', 'torch', 'onnxruntime', 'matplotlib']))"
    opened = "from music_generator.data.corpus import open_corpus; print(open_corpus(sys.argv[1]).rows['key'].size)"
    command = [sys.executable, "-W", "error", "-c", f"import sys; {blocked}; {opened}", str(prepared)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert int(done.stdout) == len(open_corpus(prepared).rows)
