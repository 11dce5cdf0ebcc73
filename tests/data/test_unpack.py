"""Unpacking: complete or absent, and nothing outside the folder."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest
from maestro_files import csv_text, make_archive, make_zip

from music_generator.data import maestro
from music_generator.data.unpack import is_contained, unpack
from music_generator.errors import DownloadError

archive = pytest.fixture(make_archive)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "m/../../evil",
        "/etc/evil",
        "//host/evil",
        "m/./evil",
        "m//evil",
        "C:evil",
        "m/C:/evil",
        "..\\evil",
        "m\\..\\..\\evil",
        "m/evil\x01",
    ],
)
def test_hostile_paths_are_refused(tmp_path: Path, name: str) -> None:
    hostile = make_zip(tmp_path / "x.zip", {"m/good": b"good", name: b"evil"})
    with pytest.raises(DownloadError, match="could land outside the folder"):
        unpack(hostile, tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.rglob("*")] == ["x.zip"]
    assert not is_contained(name)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as hostile:
        info = zipfile.ZipInfo("m/link")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        hostile.writestr(info, "/etc/passwd")
    with pytest.raises(DownloadError, match="is a link or a device"):
        unpack(tmp_path / "x.zip", tmp_path / "data")


def test_bombs_are_refused(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "x.zip", {"m/zeros": bytes(5_000_000)})
    with pytest.raises(DownloadError, match="would unpack to 5000000 bytes in 1 members"):
        unpack(bomb, tmp_path / "data")
    with pytest.raises(DownloadError, match="at most 4000000 bytes"):
        unpack(bomb, tmp_path / "data", max_ratio=1e9, max_bytes=4_000_000)
    assert unpack(bomb, tmp_path / "data", max_ratio=1e9).name == "m"


def test_size_given_too_small_is_found(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "x.zip", {"m/zeros": bytes(5_000_000)})
    bomb.write_bytes(bomb.read_bytes().replace((5_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little")))
    with pytest.raises(DownloadError, match="is damaged"):
        unpack(bomb, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_damaged_archive_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match=r"damaged: .*; download it again"):
        unpack(archive, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())
    with pytest.raises(DownloadError, match="is not a zip archive"):
        unpack(make_junk(tmp_path / "junk.zip"), tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot unpack .*served\.zip into .*file: "):
        unpack(make_zip(tmp_path / "served.zip", {"m/x": b"x"}), tmp_path / "file")
    with pytest.raises(DownloadError, match="there is no archive"):
        unpack(tmp_path / "none.zip", tmp_path / "data")


def make_junk(path: Path) -> Path:
    path.write_bytes(b"PK and nothing")
    return path


def test_the_rest_of_a_killed_process_is_not_taken_for_a_complete_folder(archive: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    left = data / ".maestro-v3.0.0.unpacking" / "maestro-v3.0.0"
    left.mkdir(parents=True)
    (left / "maestro-v3.0.0.csv").write_text(csv_text(), encoding="utf-8")
    assert not maestro.is_maestro(data)
    unpack(archive, data)
    assert [path.name for path in data.iterdir()] == ["maestro-v3.0.0"]


def test_another_folder_of_the_same_name_is_kept(archive: Path, tmp_path: Path) -> None:
    mine = tmp_path / "data" / "maestro-v3.0.0" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(DownloadError, match="exists and is not the content of"):
        unpack(archive, tmp_path / "data")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("members", [{"a/x": b"", "b/x": b""}, {"x": b"x"}, {}, {"m/x": b"1", "m/X": b"2"}])
def test_archives_of_another_shape_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(DownloadError, match=r"must hold exactly one folder|the same name twice"):
        unpack(make_zip(tmp_path / "x.zip", members), tmp_path / "data")
