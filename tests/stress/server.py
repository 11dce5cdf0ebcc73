"""A slow web server on this computer for one file: with ranges, as the real one has, or with a page in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK_BYTES = 1 << 16


@dataclass
class Site:
    """What is served at `url`, how long it waits after each block, and how much of it went out."""

    data: bytes
    block_seconds: float = 0.004
    content_type: str = "application/zip"
    url: str = ""
    served_bytes: int = 0


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked, site = self.headers.get("Range", ""), self.site
        start = int(asked.removeprefix("bytes=").removesuffix("-") or 0)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(site.data) - 1}/{len(site.data)}")
        for name, value in (("ETag", '"one"'), ("Content-Type", site.content_type)):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(site.data) - start))
        self.end_headers()
        for at in range(start, len(site.data), BLOCK_BYTES):
            try:
                site.served_bytes += self.wfile.write(site.data[at : at + BLOCK_BYTES])
            except OSError:  # the one who asked was killed
                return
            time.sleep(site.block_seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A connection that ends early is what this is for."""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """The site, on 127.0.0.1, while the block runs."""
    server = _Server(("127.0.0.1", 0), type("SiteHandler", (_Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
