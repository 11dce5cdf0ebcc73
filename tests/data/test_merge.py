"""Merging shards: the same corpus as at once; missing, foreign and damaged shards."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from midi_folders import contents, fill, fill_maestro, piece

from music_generator.data.corpus import FORMAT, open_corpus
from music_generator.data.merge import merge
from music_generator.data.prepare import prepare
from music_generator.errors import CorpusError, InputError
from music_generator.music.midi import write_midi
from music_generator.parallel import Shard


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
