"""Corpora of several folders: tags, splits, composers from paths, pieces that two folders have, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from midi_folders import DRUMS, contents, fill, fill_maestro, piece, prepare_and_open

from music_generator.data.corpus import open_corpus
from music_generator.data.merge import merge
from music_generator.data.prepare import Skipped, prepare
from music_generator.data.sources import read_added
from music_generator.errors import CorpusError, InputError
from music_generator.music.midi import write_midi
from music_generator.music.tokens import encode
from music_generator.parallel import Shard


def write(folder: Path, *seeds: int, names: str = "{}.mid") -> Path:
    for seed in seeds:
        write_midi(piece(seed), folder / names.format(seed))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A MAESTRO whose three pieces have the notes of seed 0, and two folders that repeat it and each other."""
    asap = write(tmp_path / "asap", 0, 1, 2, names="Berg/{}.mid")
    write(asap, 2, names="Berg/again {}.mid")
    return fill_maestro(tmp_path / "maestro"), {"asap": asap, "rolls": write(tmp_path / "rolls", 2, 3, 0, 4)}


def test_an_added_folder_is_for_training_under_its_tag(folders: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """The first folder's pieces come first and have no tag; a piece that an earlier folder has counts once."""
    made = prepare(folders[0], tmp_path / "out", added=folders[1], jobs=1)
    corpus = open_corpus(tmp_path / "out")
    assert [(p.path, p.split, p.tag) for p in corpus.pieces] == [
        ("2004/0.midi", "train", None),
        ("2004/1.midi", "validation", None),
        ("2004/2.midi", "test", None),
        ("Berg/1.mid", "train", "asap"),
        ("Berg/2.mid", "train", "asap"),
        ("Berg/again 2.mid", "train", "asap"),  # twice in one folder stays, as in the first folder
        ("3.mid", "train", "rolls"),
        ("4.mid", "train", "rolls"),
    ]
    for index, seed in enumerate((0, 0, 0, 1, 2, 2, 3, 4)):
        assert corpus.piece_rows(index).tolist() == encode(piece(seed)).tolist()
    assert (corpus.source, corpus.added) == ("maestro", {"asap": "asap", "rolls": "rolls"})
    assert (corpus.tags, corpus.sources) == (("asap", "rolls"), ("maestro", "asap", "rolls"))
    assert made.repeated == {"asap": 1, "rolls": 2}
    assert (made.files, made.pieces, made.skipped) == (11, 8, [])
    assert {tag: size.pieces for tag, size in made.tags.items()} == {"asap": 3, "rolls": 2}
    assert sum(size.rows for size in made.splits.values()) == len(corpus.rows)
    assert sorted(contents(tmp_path / "out")) == ["corpus.json", "tokens.npy"]


def test_the_earlier_of_two_added_folders_keeps_a_piece(folders: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    corpus, _ = prepare_and_open(folders[0], tmp_path / "out", added=dict(reversed(folders[1].items())))
    tagged = [(p.tag, p.path) for p in corpus.pieces if p.tag]
    assert tagged == [("rolls", "2.mid"), ("rolls", "3.mid"), ("rolls", "4.mid"), ("asap", "Berg/1.mid")]


@pytest.mark.parametrize("count", [1, 3, 20])
def test_in_shards_the_same_bytes(folders: tuple[Path, dict[str, Path]], tmp_path: Path, count: int) -> None:
    (folders[1]["asap"] / "broken.mid").write_bytes(b"MThd")
    whole = prepare(folders[0], tmp_path / "whole", added=folders[1], jobs=1)
    for index in range(count, 0, -1):
        prepare(folders[0], tmp_path / "parts", added=folders[1], shard=Shard(index, count), jobs=1)
    merged = merge(tmp_path / "parts")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert merged.skipped == whole.skipped == [Skipped("broken.mid", whole.skipped[0].reason, "asap")]
    assert (merged.repeated, merged.tags, merged.splits) == (whole.repeated, whole.tags, whole.splits)


def test_shards_of_other_added_folders_are_foreign(folders: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    prepare(folders[0], tmp_path / "out", added=folders[1], shard=Shard(1, 2), jobs=1)
    for added in ({"rolls": folders[1]["rolls"]}, dict(reversed(folders[1].items())), {}):
        prepare(folders[0], tmp_path / "out", added=added, shard=Shard(2, 2), jobs=1)
        with pytest.raises(CorpusError, match="2-of-2: it was made of other files than 1-of-2; prepare it again from"):
            merge(tmp_path / "out")


def test_the_same_bytes_with_several_processes(tmp_path: Path) -> None:
    folder, added = fill(tmp_path / "midi", 24), {"more": write(tmp_path / "more", *range(20, 60))}
    one = prepare(folder, tmp_path / "one", added=added, jobs=1)
    two = prepare(folder, tmp_path / "two", added=added, jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert one.repeated == two.repeated == {"more": 4}


def test_the_validation_split_is_that_of_the_first_folder_alone(tmp_path: Path) -> None:
    """Without official splits too: its pieces are held out as if nothing were added, and are nowhere else."""
    folder, added = fill(tmp_path / "midi", 20), {"more": write(tmp_path / "more", *range(10, 200))}
    alone, _ = prepare_and_open(folder, tmp_path / "alone")
    corpus, _ = prepare_and_open(folder, tmp_path / "out", added=added)
    assert [p for p in corpus.pieces if not p.tag] == list(alone.pieces)
    assert {p.split for p in corpus.pieces if p.tag} == {"train"}
    held_out = {corpus.pieces[i].digest for i in corpus.split("validation")}
    assert len(held_out) == 2
    assert not held_out & {corpus.pieces[i].digest for i in corpus.split("train")}


def test_the_composer_of_an_added_piece_is_that_of_its_path(tmp_path: Path) -> None:
    """By surname or whole name, without accents and capitals; not after several who wrote together."""
    folder = fill_maestro(tmp_path / "maestro")
    metadata = folder / "maestro-v3.0.0.csv"
    metadata.write_text(
        metadata.read_text("utf-8").replace("Alban Berg,Piece 2", "Leoš Janáček / Max Brod,Piece 2"), "utf-8"
    )
    names = (
        "Berg/1.mid",
        "asap/JANACEK/On a Path/2.mid",
        "alban_berg/3.mid",
        "Brod/4.mid",
        "Berg.mid",
        "Schumann/6.mid",
    )
    for seed, name in enumerate(names, 1):
        write_midi(piece(seed), tmp_path / "more" / name)
    corpus, _ = prepare_and_open(folder, tmp_path / "out", added={"more": tmp_path / "more"})
    assert {p.path: p.composer for p in corpus.pieces if p.tag} == {
        "Berg/1.mid": "Alban Berg",
        "asap/JANACEK/On a Path/2.mid": "Leoš Janáček",
        "alban_berg/3.mid": "Alban Berg",
        "Brod/4.mid": None,
        "Berg.mid": None,
        "Schumann/6.mid": None,  # listed, but no file of hers is there
    }
    assert corpus.composers == ("Alban Berg", "Leoš Janáček")


def test_a_surname_that_two_composers_have_names_neither(tmp_path: Path) -> None:
    folder = fill_maestro(tmp_path / "maestro")
    metadata = folder / "maestro-v3.0.0.csv"
    metadata.write_text(metadata.read_text("utf-8").replace("Leoš Janáček", "Natanael Berg"), "utf-8")
    write(tmp_path / "more", 1, names="Berg/{}.mid")
    write(tmp_path / "more", 2, names="Natanael Berg/{}.mid")
    corpus, _ = prepare_and_open(folder, tmp_path / "out", added={"more": tmp_path / "more"})
    assert [p.composer for p in corpus.pieces if p.tag] == [None, "Natanael Berg"]


def test_an_added_maestro_keeps_its_composers_and_is_for_training(tmp_path: Path) -> None:
    added = {"maestro": fill_maestro(tmp_path / "maestro")}
    corpus, _ = prepare_and_open(write(tmp_path / "midi", 5), tmp_path / "out", added=added)
    assert [(p.split, p.composer) for p in corpus.pieces if p.tag] == [
        ("train", "Alban Berg"),
        ("train", "Leoš Janáček"),
        ("train", "Alban Berg"),
    ]


def test_a_folder_added_to_itself_adds_nothing(tmp_path: Path) -> None:
    folder = fill(tmp_path / "midi", 4)
    prepare(folder, tmp_path / "alone")
    made = prepare(folder, tmp_path / "out", added={"digest": folder})  # a tag that is also a field of each piece
    corpus = open_corpus(tmp_path / "out")
    assert (made.repeated, corpus.tags, corpus.added) == ({"digest": 4}, (), {"digest": "midi"})
    assert corpus.pieces == open_corpus(tmp_path / "alone").pieces


def test_a_corpus_of_one_folder_says_nothing_of_tags(tmp_path: Path) -> None:
    """So that it is the same as before there were any."""
    corpus, _ = prepare_and_open(fill(tmp_path / "midi", 2), tmp_path / "out")
    header = json.loads((tmp_path / "out" / "corpus.json").read_text("utf-8"))
    assert set(header) == {"format", "source", "pieces"}
    assert all("tag" not in record for record in header["pieces"])
    assert (corpus.tags, corpus.added, corpus.sources) == ((), {}, ("midi",))


@pytest.mark.parametrize("tag", ["", "Rolls", "piano rolls", "-rolls", "rolls/", "röllchen"])
def test_a_bad_tag(tmp_path: Path, tag: str) -> None:
    text = f"a tag must consist of a-z, 0-9, `-` and `_`, such as piano-rolls, not {tag!r}"
    with pytest.raises(InputError, match=re.escape(text)):
        prepare(write(tmp_path / "midi", 1), tmp_path / "out", added={tag: write(tmp_path / "more", 2)})
    assert not (tmp_path / "out").exists()


def test_an_added_folder_without_anything_usable(tmp_path: Path) -> None:
    folder, more = write(tmp_path / "midi", 1, 2), tmp_path / "more"
    with pytest.raises(CorpusError, match=re.escape(f"{more}: no such folder")):
        prepare(folder, tmp_path / "out", added={"more": more})
    more.mkdir()
    with pytest.raises(CorpusError, match=re.escape(f"{more}: no MIDI files (.mid, .midi, .kar, .rmi, .smf) in it")):
        prepare(folder, tmp_path / "out", added={"more": more})
    (more / "drums.mid").write_bytes(DRUMS)
    text = "none of its 1 MIDI files added as more can be used; drums.mid: it has no piano notes"
    with pytest.raises(CorpusError, match=re.escape(f"{more}: {text}")):
        prepare(folder, tmp_path / "out", added={"more": more})
    assert not (tmp_path / "out").exists()
    prepare(folder, tmp_path / "out", added={"more": more}, shard=Shard())
    with pytest.raises(CorpusError, match=re.escape(f"{tmp_path / 'out'}: {text}")):
        merge(tmp_path / "out")


def test_a_first_folder_without_anything_usable(tmp_path: Path) -> None:
    """Else nothing would be left to validate on."""
    (tmp_path / "midi").mkdir()
    (tmp_path / "midi" / "drums.mid").write_bytes(DRUMS)
    with pytest.raises(CorpusError, match=r"midi: none of its 1 MIDI files can be used; drums\.mid: it has no piano"):
        prepare(tmp_path / "midi", tmp_path / "out", added={"more": write(tmp_path / "more", 2)})
    assert not (tmp_path / "out").exists()


def test_a_failed_preparation_keeps_the_old_corpus(tmp_path: Path) -> None:
    prepare(write(tmp_path / "midi", 1), tmp_path / "out")
    before = contents(tmp_path / "out")
    shutil.copytree(tmp_path / "midi", tmp_path / "more")
    (tmp_path / "more" / "1.mid").write_bytes(b"MThd")
    with pytest.raises(CorpusError, match="can be used"):
        prepare(tmp_path / "midi", tmp_path / "out", added={"more": tmp_path / "more"})
    assert contents(tmp_path / "out") == before


def test_added_folders_are_read_from_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert read_added([]) == {}
    assert read_added(["b=midi/x=y", "a=~/rolls"]) == {"b": Path("midi/x=y"), "a": tmp_path / "rolls"}
    for text in ("rolls", "rolls=", "=rolls"):
        with pytest.raises(InputError, match=re.escape(f"must be TAG=FOLDER, such as rolls=midi/rolls, not {text!r}")):
            read_added([text])
    with pytest.raises(InputError, match="`--add` has the tag 'a' twice; give each folder a tag of its own"):
        read_added(["a=x", "a=y"])
