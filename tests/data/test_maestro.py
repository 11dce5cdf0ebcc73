"""MAESTRO: download and resume, unpacking, metadata and splits, pairs of MIDI and WAV. No network but 127.0.0.1."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import stat
import threading
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from music_generator.data import download as download_module
from music_generator.data import maestro
from music_generator.data import wav_pairs as pairs
from music_generator.data.download import fetch
from music_generator.data.unpack import is_contained, unpack
from music_generator.errors import CorpusError, DownloadError, InputError

# format 0, one track, 500 ticks a quarter: C4 for one second
MIDI = bytes.fromhex("4d546864 00000006 0000 0001 01f4 4d54726b 0000000d 00903c40 8768803c40 00ff2f00".replace(" ", ""))

ROWS: list[dict[str, Any]] = [
    {
        "canonical_composer": composer,
        "canonical_title": title,
        "split": split,
        "year": year,
        "midi_filename": f"{year}/{stem}.midi",
        "audio_filename": f"{year}/{stem}.wav",
        "duration": duration,
    }
    for composer, title, split, year, stem, duration in (
        ("Frédéric Chopin", 'Nocturne, "Op. 9" No. 2', "train", 2004, "a", 1.0),
        ("Leoš Janáček", "In the Mists", "validation", 2004, "b", 1.25),
        ("Alban Berg", "Sonata Op. 1", "test", 2018, "c", 698.661160312),
    )
]


def csv_text(rows: list[dict[str, Any]] = ROWS, columns: tuple[str, ...] = maestro.COLUMNS) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def columns_json(rows: list[dict[str, Any]] = ROWS) -> str:
    return json.dumps({name: {str(i): row[name] for i, row in enumerate(rows)} for name in maestro.COLUMNS})


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.filename = info.orig_filename = name  # as it is, past ZipInfo's own cleaning
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A MAESTRO-shaped archive of three pieces, long enough to be cut in the middle."""
    noise = np.random.default_rng(0).bytes(3 * download_module.BLOCK_BYTES)
    members = {f"maestro-v3.0.0/{row['midi_filename']}": MIDI for row in ROWS}
    members |= {"maestro-v3.0.0/maestro-v3.0.0.csv": csv_text().encode(), "maestro-v3.0.0/LICENSE": noise}
    return make_zip(tmp_path / "served.zip", members)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Site:
    """What the test's server serves, how it misbehaves, and what it was asked."""

    data: bytes
    etag: str | None = '"one"'
    last_modified: str | None = None
    ranges: bool = True
    honours_if_range: bool = True
    content_type: str | None = "application/zip"
    says_length: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes of the body, for each request in turn
    statuses: list[int] = field(default_factory=list)  # errors to answer with first
    asked: list[dict[str, str]] = field(default_factory=list)
    served_bytes: int = 0
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        site.asked.append(dict(self.headers))
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        start = self.start_of_range()
        if start and start >= len(site.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.data)}")
            self.end_headers()
            return
        body = site.data[start or 0 :]
        self.send_headers(body, start)
        body = body[: site.cut_after.pop(0)] if site.cut_after else body
        self.wfile.write(body)
        site.served_bytes += len(body)

    def start_of_range(self) -> int | None:
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range") in (self.site.etag, self.site.last_modified)
        if not asked or not self.site.ranges or not (same or not self.site.honours_if_range):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def send_headers(self, body: bytes, start: int | None) -> None:
        site = self.site
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(site.data) - 1}/{len(site.data)}")
        for name, value in (
            ("ETag", site.etag),
            ("Last-Modified", site.last_modified),
            ("Content-Type", site.content_type),
            ("Content-Length", str(len(body)) if site.says_length else None),
        ):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    """A function that serves bytes on 127.0.0.1; no pauses between tries, no proxy."""
    monkeypatch.setattr(download_module, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(data: bytes, **options: Any) -> Site:
        site = Site(data, **options)
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site}))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        return site

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


# download


def test_table_has_three_releases_with_sums_of_the_right_form() -> None:
    assert list(maestro.RELEASES) == ["1.0.0", "2.0.0", "3.0.0"]
    sums = [a.sha256 for r in maestro.RELEASES.values() for a in (r.midi, r.full) if a.sha256]
    assert len(sums) == len(set(sums)) == 5
    assert all(len(bytes.fromhex(s)) == 32 for s in sums)
    assert [r.midi.name for r in maestro.RELEASES.values()] == [f"maestro-v{v}-midi.zip" for v in maestro.RELEASES]


@pytest.mark.parametrize("with_audio", [False, True])
def test_download_from_a_mirror_and_unpack(
    serve: Callable[..., Site], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_audio: bool
) -> None:
    site, sum_ = serve(archive.read_bytes()), sha256_of(archive)
    midi, full = maestro.Archive("m-midi.zip", None, sum_), maestro.Archive("m.zip", None, sum_)
    monkeypatch.setitem(maestro.RELEASES, "3.0.0", maestro.Release("3.0.0", midi, full))
    seen: list[tuple[int, int | None]] = []
    path = maestro.download(
        "3.0.0", tmp_path / "x", with_audio=with_audio, base_url=site.url, progress=lambda *p: seen.append(p)
    )
    assert path == tmp_path / "x" / ("m.zip" if with_audio else "m-midi.zip")
    assert seen[-1] == (len(site.data), len(site.data))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - no .part, no note

    folder = unpack(path, tmp_path / "data")
    assert folder == tmp_path / "data" / "maestro-v3.0.0"
    assert maestro.find_recordings(tmp_path / "data").counts["train"] == maestro.SplitCount(1, 1)
    # neither is done twice
    assert maestro.download("3.0.0", tmp_path / "x", with_audio=with_audio, base_url="http://127.0.0.1:1") == path
    assert unpack(path, tmp_path / "data") == folder


def test_unknown_release_and_scheme_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be one of 1\.0\.0, 2\.0\.0, 3\.0\.0, not 4"):
        maestro.download("4", tmp_path)
    with pytest.raises(InputError, match="must begin with http"):
        maestro.download("3.0.0", tmp_path, base_url="file:///etc")


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


def test_changed_file_is_never_spliced(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
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


def test_part_that_is_already_whole(serve: Callable[..., Site], archive: Path, tmp_path: Path) -> None:
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


def test_full_disk_is_told_before_the_start(
    serve: Callable[..., Site], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(archive.read_bytes())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(DownloadError, match=r"0\.00 GB are needed in .* but only 0\.00 GB are free"):
        fetch(site.url, tmp_path / "m.zip")
    with pytest.raises(DownloadError, match="GB are needed"):
        unpack(archive, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


# unpacking


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


def test_killed_run_is_not_taken_for_a_whole_folder(archive: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    left = data / ".maestro-v3.0.0.unpacking" / "maestro-v3.0.0"
    left.mkdir(parents=True)
    (left / "maestro-v3.0.0.csv").write_text(csv_text(), encoding="utf-8")
    assert not maestro.is_maestro(data)
    unpack(archive, data)
    assert [path.name for path in data.iterdir()] == ["maestro-v3.0.0"]


def test_other_folder_in_the_way_is_kept(archive: Path, tmp_path: Path) -> None:
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


# metadata


def dataset(folder: Path, text: str | bytes, suffix: str = ".csv", version: str = "3.0.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (folder / f"maestro-v{version}{suffix}").write_bytes(data)
    return folder


def test_csv_and_both_json_layouts_are_the_same(tmp_path: Path) -> None:
    texts: dict[str, tuple[str | bytes, str]] = {
        "csv": (csv_text(), ".csv"),
        "rows": (json.dumps(ROWS), ".json"),
        "columns": (columns_json(), ".json"),
        "bom": (b"\xef\xbb\xbf" + csv_text().encode(), ".csv"),
        "utf16": (csv_text().encode("utf-16"), ".csv"),
    }
    read = {name: maestro.read_metadata(dataset(tmp_path / name, *text)) for name, text in texts.items()}
    assert all(recordings == read["csv"] for recordings in read.values())
    assert read["csv"][0] == maestro.Recording(
        "Frédéric Chopin", 'Nocturne, "Op. 9" No. 2', "train", 2004, "2004/a.midi", "2004/a.wav", 1.0
    )
    assert [recording.duration_seconds for recording in read["csv"]] == [1.0, 1.25, 698.661160312]


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_missing_columns_are_named(tmp_path: Path, suffix: str) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("split", "duration")} for row in ROWS]
    left = tuple(name for name in maestro.COLUMNS if name not in ("split", "duration"))
    text = csv_text(rows, left) if suffix == ".csv" else json.dumps(rows)
    with pytest.raises(CorpusError, match=rf"maestro-v3\.0\.0\{suffix}: it lacks the columns split, duration"):
        maestro.read_metadata(dataset(tmp_path, text, suffix))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "holdout"}, r"row 2: the split must be one of train, validation, test, not 'holdout'"),
        ({"midi_filename": "../b.midi"}, r"row 2: the path '\.\./b\.midi' must stay inside"),
        ({"audio_filename": "/b.wav"}, "row 2: the path '/b.wav' must stay inside"),
        ({"midi_filename": ""}, "row 2: the path '' must stay inside"),
        ({"midi_filename": "2004/a.midi"}, r"lists 2004/a\.midi 2 times"),
        ({"year": "MMIV"}, "year must be a whole number .* not 'MMIV'"),
        ({"duration": "nan"}, "duration positive, not 2004 and 'nan'|duration positive, not '2004' and 'nan'"),
        ({"duration": -1.0}, "duration positive"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = [ROWS[0], ROWS[1] | change]
    for text, suffix in ((csv_text(rows), ".csv"), (json.dumps(rows), ".json")):
        with pytest.raises(CorpusError, match=message):
            maestro.read_metadata(dataset(tmp_path / suffix, text, suffix))


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        (csv_text().encode("latin-1", "replace"), ".csv", r"is not UTF-8 text \(byte \d+\); save it as UTF-8"),
        (b"", ".csv", "lacks the columns canonical_composer"),
        (csv_text([]), ".csv", "lists no recordings"),
        (csv_text() + "Bach,Fugue,train\r\n", ".csv", "row 4: it must have a value in each column"),
        (csv_text() + "a,b,train,2004,d.midi,d.wav,1.0,more\r\n", ".csv", "row 4: it must have a value"),
        (csv_text() + '"open', ".csv", "is not a CSV file"),
        ("{", ".json", "is not a JSON file"),
        ("[" * 100_000, ".json", "is not a JSON file"),
        ("[1]", ".json", "must be a list of records or a table of columns"),
        ("[]", ".json", "must be a list of records or a table of columns"),
        (columns_json().replace('"2": "test"', '"7": "test"'), ".json", "columns of one length"),
        (json.dumps([ROWS[0] | {"year": None}]), ".json", "row 1: it must have a value"),
    ],
)
def test_unreadable_metadata_is_refused(tmp_path: Path, text: str | bytes, suffix: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        maestro.read_metadata(dataset(tmp_path, text, suffix))


def test_survey_reports_what_is_missing(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "maestro-v2.0.0", csv_text(), version="2.0.0")
    (folder / "2004").mkdir()
    (folder / "2004" / "b.midi").write_bytes(MIDI)
    for place in (folder, tmp_path):
        survey = maestro.find_recordings(place)
        assert survey.folder == folder
        assert survey.version == "2.0.0"
        assert [recording.title for recording in survey.recordings] == ["In the Mists"]
        assert survey.missing == ("2004/a.midi", "2018/c.midi")
        assert survey.counts == {
            "train": maestro.SplitCount(0, 1),
            "validation": maestro.SplitCount(1, 1),
            "test": maestro.SplitCount(0, 1),
        }


def test_folders_that_are_not_one_maestro(tmp_path: Path) -> None:
    assert not maestro.is_maestro(tmp_path)
    assert not maestro.is_maestro(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="this is not MAESTRO: there is no maestro-v"):
        maestro.find_recordings(tmp_path)
    for version in ("1.0.0", "2.0.0"):
        dataset(tmp_path / f"maestro-v{version}", csv_text(), version=version)
    assert maestro.is_maestro(tmp_path)
    with pytest.raises(CorpusError, match="it contains several"):
        maestro.find_recordings(tmp_path)


# pairs of MIDI and WAV


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int = 8000, width: int = 2, channels: int = 1) -> Path:
    """Samples in -1..1, the same in every channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = np.repeat((samples * (2.0**31 - 1)).astype("<i4"), channels)
    with wave.open(str(path), "wb") as wav:
        wav.setparams((channels, width, rate, 0, "NONE", ""))
        wav.writeframes(scaled.view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes())
    return path


def pair_of(folder: Path, recording: maestro.Recording) -> pairs.AudioPair:
    midi_path, wav_path = folder / recording.midi_filename, folder / recording.audio_filename
    return pairs.pair_files(midi_path, wav_path, recording.duration_seconds)


def test_pairs_and_their_faults(tmp_path: Path) -> None:
    folder = dataset(tmp_path, csv_text())
    recordings = maestro.read_metadata(folder)
    write_wav(folder / "2004/a.wav", np.zeros(12_000), channels=2)
    write_wav(folder / "2004/b.wav", np.zeros(44_000))
    pair = pair_of(folder, recordings[0])
    assert (pair.midi_seconds, pair.wav_seconds, pair.sample_rate, pair.channels) == (1.0, 1.5, 8000, 2)
    assert pair.difference_seconds == pytest.approx(0.5)
    faults = list(pairs.check_pairs(folder, recordings))
    assert [fault.recording.title for fault in faults] == ["In the Mists", "Sonata Op. 1"]
    assert "b.wav is 4.25 s longer than its MIDI file" in faults[0].problem
    assert "cannot be read" in faults[1].problem
    assert faults[1].pair is None
    assert len(list(pairs.check_pairs(folder, recordings, tolerance_seconds=0.1))) == 3


def test_bad_wav_files_are_refused(tmp_path: Path) -> None:
    recording = replace(maestro.read_metadata(dataset(tmp_path, csv_text()))[0], audio_filename="x.wav")
    path = tmp_path / "x.wav"
    whole = write_wav(path, np.zeros(8000)).read_bytes()
    for data, message in (
        (whole[:5000], "is cut short"),
        (b"", "is not a PCM WAV file: it ends in its header"),
        (b"RIFF" + bytes(100), "is not a PCM WAV file"),
    ):
        path.write_bytes(data)
        with pytest.raises(CorpusError, match=message):
            pair_of(tmp_path, recording)


def test_audio_beside(tmp_path: Path) -> None:
    assert pairs.audio_beside(tmp_path / "x.midi") is None
    path = write_wav(tmp_path / "x.wav", np.zeros(10))
    assert pairs.audio_beside(tmp_path / "x.midi") == path


def clicks(onsets: np.ndarray[Any, Any], rate: int, seconds: float) -> np.ndarray[Any, Any]:
    """A decaying tone of one of a few pitches and loudnesses at each onset, over a little noise."""
    generator = np.random.default_rng(1)
    sound = generator.normal(0, 1e-4, int(seconds * rate))
    time = np.arange(int(0.4 * rate)) / rate
    for onset in onsets:
        tone = generator.uniform(0.1, 0.4) * np.exp(-8 * time) * np.sin(2 * np.pi * generator.uniform(100, 900) * time)
        start = int(onset * rate)
        room = sound[start : start + len(tone)]
        room += tone[: len(room)]
    return np.asarray(np.clip(sound, -1, 1))


@pytest.mark.parametrize(("rate", "width", "channels"), [(8000, 2, 1), (11025, 3, 2), (8000, 4, 2)])
@pytest.mark.parametrize("shift", [0.0, 0.25, -0.25, 3.1])
def test_offset_is_found(tmp_path: Path, rate: int, width: int, channels: int, shift: float) -> None:
    onsets = 1 + np.cumsum(np.random.default_rng(2).uniform(0.05, 0.6, 40))
    sound = clicks(onsets + shift, rate, 20)
    path = write_wav(tmp_path / "x.wav", sound, rate, width, channels)
    assert pairs.estimate_offset(path, onsets) == pytest.approx(shift, abs=0.01)


def test_offset_refusals(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "x.wav", np.zeros(8000))
    with pytest.raises(InputError, match="an onset in the first 60 seconds"):
        pairs.estimate_offset(path, [61.0, 62.0])
    with pytest.raises(CorpusError, match="is silent in its first 60 seconds"):
        pairs.estimate_offset(path, [0.5])
    with pytest.raises(CorpusError, match="cannot be read"):
        pairs.estimate_offset(tmp_path / "none.wav", [0.5])
    with pytest.raises(CorpusError, match="must have 16, 24 or 32 bits per sample, not 8"):
        pairs.estimate_offset(write_wav(path, np.zeros(8000), width=1), [0.5])


# the real one


@pytest.mark.maestro
@pytest.mark.skipif("MAESTRO_DIR" not in os.environ, reason="MAESTRO_DIR does not name MAESTRO's folder")
def test_the_real_metadata(tmp_path: Path) -> None:
    survey = maestro.find_recordings(os.environ["MAESTRO_DIR"])
    assert survey.version == "3.0.0"
    assert survey.counts["train"] == maestro.SplitCount(962, 962)
    assert survey.counts["validation"] == maestro.SplitCount(137, 137)
    assert len(survey.recordings) - survey.counts["test"].present == 962 + 137
    shutil.copy(survey.folder / "maestro-v3.0.0.json", tmp_path)
    assert maestro.read_metadata(tmp_path) == maestro.read_metadata(survey.folder)
