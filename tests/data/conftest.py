"""Fixtures of the tests of downloads: an archive and a server. No network but 127.0.0.1."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from maestro_files import MIDI, ROWS, Handler, Site, csv_text, make_zip

from music_generator.data import download as download_module


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A MAESTRO-shaped archive of three pieces, long enough to be cut in the middle."""
    noise = np.random.default_rng(0).bytes(3 * download_module.BLOCK_BYTES)
    members = {f"maestro-v3.0.0/{row['midi_filename']}": MIDI for row in ROWS}
    members |= {"maestro-v3.0.0/maestro-v3.0.0.csv": csv_text().encode(), "maestro-v3.0.0/LICENSE": noise}
    return make_zip(tmp_path / "served.zip", members)


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
