"""Preparing a corpus: splits, duplicates, what is skipped, what is refused."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midi_folders import DRUMS, contents, fill, fill_maestro, piece, prepare_and_open

from music_generator.data.corpus import STORED_DTYPE, Corpus, open_corpus
from music_generator.data.prepare import Skipped, prepare, read_all
from music_generator.data.sources import Source, find_sources
from music_generator.errors import CorpusError, InputError
from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, Performance
from music_generator.music.tokens import decode, encode


def by_path(corpus: Corpus) -> dict[str, str]:
    return {piece.path: piece.split for piece in corpus.pieces}


def test_a_folder_becomes_a_corpus(tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    corpus, skipped = prepare_and_open(
        fill(tmp_path / "midi"), tmp_path / "out" / "corpus", jobs=1, progress=lambda *now: reported.append(now)
    )
    assert skipped == []
    assert reported == [(done, 20) for done in range(1, 21)]
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
    assert skipped[0].reason == "the MIDI file is cut off or damaged; export or download it again"
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
    with pytest.raises(CorpusError, match=re.escape(f"{folder}: no MIDI files (.mid, .midi, .kar, .rmi, .smf) in it")):
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
    # one more than libraries count that lose the last note of a key struck again without a note-off before it
    assert notes == {"train": 5_659_329, "validation": 639_425}


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
    found = iter(read_all({None: folder}, counted(), 2))
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
