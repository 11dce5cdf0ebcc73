"""Downloading: resumed, checked, refused. No network but 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from maestro_files import Site, make_archive, serving, sha256_of

from music_generator.data import download as download_module
from music_generator.data.download import fetch
from music_generator.data.unpack import unpack
from music_generator.errors import DownloadError

archive = pytest.fixture(make_archive)
serve = pytest.fixture(serving)


@pytest.mark.parametrize("validator", [{"etag": '"one"'}, {"etag": 'W/"weak"', "last_modified": "Tue, 01 Jan 2019"}])
def test_cut_connection_is_resumed_within_one_call(
    serve: Callable[..., Site], archive: Path, tmp_path: Path, validator: dict[str, str]
) -> None:
    site = serve(archive.read_bytes(), cut_after=[100_000, 300_000], **validator)
    path = fetch(site.url, tmp_path / "m.zip", sha256=sha256_of(archive))
    assert path.read_bytes() == site.data
    assert [request.get("Range") for request in site.asked] == [None, "bytes=100000-", "bytes=400000-"]
    assert site.asked[1]["If-Range"] == validator.get("last_modified", site.etag)
    assert site.served_bytes == len(site.data)


def test_interrupted_call_is_resumed_by_the_next(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    site = serve(archive.read_bytes())

    def stop(done: int, _: int | None) -> None:
        if done > download_module.BLOCK_BYTES:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site.url, tmp_path / "m.zip", progress=stop)
    have = (tmp_path / "m.zip.part").stat().st_size
    assert not (tmp_path / "m.zip").exists()
    assert 0 < have < len(site.data)
    seen: list[int] = []
    fetch(site.url, tmp_path / "m.zip", sha256=sha256_of(archive), progress=lambda done, _: seen.append(done))
    assert site.asked[1]["Range"] == f"bytes={have}-"
    assert seen[0] > have


def test_two_versions_of_a_file_are_never_mixed(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    old = archive.read_bytes()
    for honours_if_range in (True, False):
        site = serve(old, cut_after=[50_000], honours_if_range=honours_if_range)
        path = tmp_path / f"{honours_if_range}.zip"
        with pytest.raises(DownloadError, match="404"):
            site.statuses, _ = [], fetch(site.url, path, progress=lambda *_, s=site: s.statuses.append(404))
        site.data, site.etag, site.statuses = old[:2] + b"changed" + old[9:], '"two"', []
        fetch(site.url, path, sha256=hashlib.sha256(site.data).hexdigest())
        assert path.read_bytes() == site.data


def test_server_without_ranges_starts_over(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    site = serve(archive.read_bytes(), ranges=False, cut_after=[100_000], says_length=True)
    assert fetch(site.url, tmp_path / "m.zip", sha256=sha256_of(archive)).read_bytes() == site.data
    assert site.served_bytes == len(site.data) + 100_000


def test_server_without_validator_or_length(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    site = serve(archive.read_bytes(), etag=None, says_length=False, content_type=None)
    totals: set[int | None] = set()
    fetch(site.url, tmp_path / "m.zip", progress=lambda _, total: totals.add(total))
    assert totals == {None}
    assert (tmp_path / "m.zip").read_bytes() == site.data


def test_a_part_that_is_complete(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    site = serve(archive.read_bytes())
    part = tmp_path / "m.zip.part"
    part.write_bytes(site.data)
    part.with_name("m.zip.part.json").write_text(json.dumps({"url": site.url, "validator": site.etag}))
    assert fetch(site.url, tmp_path / "m.zip", sha256=sha256_of(archive)).read_bytes() == site.data
    assert site.served_bytes == 0
    # a part that is too long is thrown away
    (tmp_path / "m.zip").unlink()
    part.write_bytes(site.data + b"more")
    part.with_name("m.zip.part.json").write_text(json.dumps({"url": site.url, "validator": site.etag}))
    assert fetch(site.url, tmp_path / "m.zip", sha256=sha256_of(archive)).read_bytes() == site.data


def test_wrong_checksum_removes_the_file(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    site = serve(archive.read_bytes())
    with pytest.raises(
        DownloadError, match=r"has the sha256 .* where 0000.* was expected; what was downloaded has been r"
    ):
        fetch(site.url, tmp_path / "d" / "m.zip", sha256="0" * 64)
    assert not list((tmp_path / "d").iterdir())
    shutil.copy(archive, tmp_path / "m.zip")
    with pytest.raises(DownloadError, match="exists, but has the sha256"):
        fetch(site.url, tmp_path / "m.zip", sha256="0" * 64)
    assert (tmp_path / "m.zip").exists()


def test_no_checksum_is_logged_and_half_a_zip_refused(
    serve: Callable[..., Site], archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = serve(archive.read_bytes()[:-5000])
    with pytest.raises(DownloadError, match="is not a whole zip archive"):
        fetch(site.url, tmp_path / "m.zip")
    assert "no checksum is published for m.zip" in caplog.text


def test_web_page_is_refused(serve: Callable[..., Site], tmp_path: Path) -> None:
    page = b"<!doctype html><title>Please log in</title>"
    with pytest.raises(DownloadError, match=r"did not return a zip archive \(text/html"):
        fetch(serve(page, content_type="text/html; charset=utf-8").url, tmp_path / "m.zip")
    with pytest.raises(DownloadError, match=r"it begins with b'<!doctyp'.*proxy"):
        fetch(serve(page).url, tmp_path / "m.zip")
    assert not list(tmp_path.iterdir())


def test_refusals_and_passing_errors(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    site = serve(archive.read_bytes(), statuses=[404])
    with pytest.raises(DownloadError, match="the server answered 404 Not Found"):
        fetch(site.url, tmp_path / "m.zip")
    assert len(site.asked) == 1
    site.statuses = [503, 429]
    fetch(site.url, tmp_path / "m.zip", sha256=sha256_of(archive))
    with pytest.raises(DownloadError, match=r"cannot download http://127\.0\.0\.1:1/x.*continues there"):
        fetch("http://127.0.0.1:1/x", tmp_path / "n.zip")


def test_hopeless_server_is_given_up(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
    site = serve(archive.read_bytes(), ranges=False, cut_after=[100_000] * 50)
    with pytest.raises(DownloadError, match="ended after 100000 of"):
        fetch(site.url, tmp_path / "m.zip")
    assert len(site.asked) == 4  # one that brought something new, three that did not


def test_a_full_disk_is_reported_before_the_start(
    serve: Callable[..., Site], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(archive.read_bytes())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(DownloadError, match=r"0\.00 GB are needed in .* but only 0\.00 GB are free"):
        fetch(site.url, tmp_path / "m.zip")
    with pytest.raises(DownloadError, match="GB are needed"):
        unpack(archive, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())
