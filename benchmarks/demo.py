"""Measure the demo, the studio's page as static files, in a headless Chromium: `python benchmarks/demo.py FOLDER`.

FOLDER is a demo of `make demo`. Each run is a first visit: nothing is kept from the one before.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from playwright.sync_api import sync_playwright

from studio import CHROMIUM, until

RUNS = 3
HAS_NOTES = "studioPage.studio.events.length > 0"
SOUNDS = "(({ player }) => player.playing && !player.waiting && player.sampler.voices.length > 0)(studioPage)"
HEARD_AT = """(({ player }) => {
    const { heard } = player;
    player.heard = () => { globalThis.heardAt = Date.now() / 1000; heard(); };
})(studioPage)"""
SPEED = """async ([address, variations]) => {
    const server = await import(`${address}static/server.js`);
    await server.ready;
    const start = performance.now();
    let tokens = 0;
    const messages = server.write({ task: "compose", seconds: 60, seed: 3, variations });
    for await (const { type } of messages) tokens += type === "events";
    return 1000 * tokens / (performance.now() - start);
}"""


class Files(SimpleHTTPRequestHandler):
    """Files; when each one was sent, and its bytes, are added to `sent`."""

    def __init__(self, *arguments: Any, sent: list[tuple[float, int]], **options: Any) -> None:
        self.sent = sent
        super().__init__(*arguments, **options)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file."""
        self.sent.append((time.time(), os.fstat(source.fileno()).st_size))
        with suppress(ConnectionError):  # the page was closed
            super().copyfile(source, outputfile)


def first_visit(page: Any, address: str, sent: list[tuple[float, int]]) -> str:
    """Compose and play as soon as there is a note; return what it took."""
    sent.clear()
    start = time.time()
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    ready = time.time() - start
    page.evaluate(HEARD_AT)
    page.click("#empty-compose")
    until(page, HAS_NOTES)
    page.click("#play")
    until(page, SOUNDS)
    heard_at = page.evaluate("heardAt")
    seconds, megabytes = heard_at - start, sum(size for second, size in sent if second < heard_at) / 1e6
    return f"usable after {ready:.2f} s, a new piece sounds after {seconds:.2f} s and {megabytes:.1f} MB"


def main() -> None:
    """Print the figures of some first visits, and the speed of writing, with the load of the machine."""
    sent: list[tuple[float, int]] = []
    handler = partial(Files, directory=sys.argv[1], sent=sent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"])
        for _ in range(RUNS):
            context = browser.new_context()
            print(first_visit(context.new_page(), address, sent))
            context.close()
        page = browser.new_page()
        page.goto(f"{address}static/engine/LICENSE.txt")  # without the studio's page and its own worker
        for variations in (1, 1, 1, 4):  # the browser still compiles while the first is written
            print(f"{variations} at once: {page.evaluate(SPEED, [address, variations]):,.0f} tokens a second")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
