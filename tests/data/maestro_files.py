"""A small MAESTRO: metadata, an archive, and a site that serves it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from music_generator.data import download as download_module
from music_generator.data import maestro

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


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Site:
    """The content of the test's server, its faults, and the requests it received."""

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
        site.served_bytes += len(body)  # before it is sent: who has got it may look at once
        self.wfile.write(body)

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


def dataset(folder: Path, text: str | bytes, suffix: str = ".csv", version: str = "3.0.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (folder / f"maestro-v{version}{suffix}").write_bytes(data)
    return folder


def make_archive(tmp_path: Path) -> Path:
    """A MAESTRO-shaped archive of three pieces, long enough to be cut in the middle."""
    noise = np.random.default_rng(0).bytes(3 * download_module.BLOCK_BYTES)
    members = {f"maestro-v3.0.0/{row['midi_filename']}": MIDI for row in ROWS}
    members |= {"maestro-v3.0.0/maestro-v3.0.0.csv": csv_text().encode(), "maestro-v3.0.0/LICENSE": noise}
    return make_zip(tmp_path / "served.zip", members)


def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
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
