"""The studio in a real Chromium, for the tests of its page: the server, the browser, and a window with commands.

Test modules import the fixtures `address`, `browser`, `page` and `piece`, and the marks by `pytestmark = MARKS`.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import made_performance
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance

pytest.importorskip("starlette", reason="the studio needs starlette, of the extra `studio`")
playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright, of the extra `dev`")

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
MARKS = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one in CHROMIUM"),
]

SECONDS = 15.0  # the longest wait


@contextmanager
def serving(*program: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the studio as a process, or `program` with its options; yield its address and the process."""
    command = [sys.executable, *(program or ("-m", "music_generator")), "studio", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


class Page:
    """A window of the studio and the errors of its console."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.errors = page, []
        page.set_default_timeout(1000 * SECONDS)
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("html[data-ready]")

    def now(self, script: str) -> Any:
        return self.page.evaluate(f"(() => {{ const {{ studio, player, roll }} = studioPage; return {script}; }})()")

    def until(self, script: str) -> None:
        """Wait until a condition holds. The page's policy forbids `eval`, so Python asks again and again."""
        end = time.monotonic() + SECONDS
        while not self.now(script):
            assert time.monotonic() < end, f"never true: {script}; the page says: {self.error() or 'nothing'}"
            self.page.wait_for_timeout(20)

    def click(self, selector: str) -> None:
        self.page.click(selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def error(self) -> str:
        shown = self.page.locator("#error")
        return str(shown.locator("span").inner_text()) if shown.is_visible() else ""

    def piece(self) -> Performance:
        """Return the piece of the page."""
        events = self.now("studio.events")
        rows = [(e["onset"], e["duration"], e["key"], e["velocity"]) for e in events]
        notes = np.array([row for row in rows if row[2] >= 3], NOTE_DTYPE)
        return Performance(notes, np.array([row for row in rows if row[2] < 3], PEDAL_DTYPE))

    def drop(self, data: bytes, name: str = "sketch.mid", zone: str = "open") -> None:
        """Drop a file on the page."""
        script = """([data, name]) => { const made = new DataTransfer();
            made.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name)); return made; }"""
        transfer = self.page.evaluate_handle(script, [base64.b64encode(data).decode(), name])
        self.page.dispatch_event("#roll", "dragenter", {"dataTransfer": transfer})
        assert self.page.locator("#drop").is_visible()
        target = f"#drop [data-drop={zone}]"
        self.page.dispatch_event(target, "dragover", {"dataTransfer": transfer})
        self.page.dispatch_event(target, "drop", {"dataTransfer": transfer})

    def open(self, piece: Performance) -> None:
        steps = self.now("studio.history.steps.length")
        self.drop(write_midi(piece))
        self.until(f"studio.history.steps.length > {steps}")

    def place(self, seconds: float, key: float | None = None) -> tuple[float, float]:
        """Return the screen position of a second, on the ruler or in the middle of a key."""
        box = self.page.locator("#overlay").bounding_box()
        y = "10" if key is None else f"roll.view.y({key}) + roll.view.row / 2"
        x, y = self.now(f"[roll.view.x({seconds}), {y}]")
        return box["x"] + x, box["y"] + y

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*((a + b) / 2 for a, b in zip(start, end, strict=True)))
        mouse.move(*end)
        mouse.up()

    def select(self, start: float, end: float) -> None:
        self.drag(self.place(start), self.place(end))

    def still(self) -> None:
        """Wait until zoom and scroll have ended."""
        self.until("Math.abs(roll.view.t0 - roll.target.t0) < 1e-9 && roll.view.pps === roll.target.pps")

    def save(self, action: Callable[[], None], path: Path) -> Path:
        with self.page.expect_download() as download:
            action()
        download.value.save_as(path)
        return path


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as (address, process):
        yield address
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0, "Ctrl+C ends the studio in order"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # Chromium has no sandbox as root; the sound is muted
        try:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"])
        except playwright.Error as error:
            pytest.skip(f"{CHROMIUM} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    """A window of the studio; its console must stay without errors."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, accept_downloads=True, reduced_motion="reduce"
    )
    page = Page(context.new_page(), address)
    yield page
    errors = [text for text in page.errors if "Failed to load resource" not in text]  # refusals are expected
    context.close()
    assert not errors, errors


@pytest.fixture(scope="module")
def piece() -> Performance:
    """Twenty seconds of music, rounded to the ticks of a MIDI file."""
    return read_midi(write_midi(made_performance(3, 90))).performance


def outside(piece: Performance, start: float, end: float) -> tuple[Performance, Performance]:
    return piece.between(0, start), piece.between(end)
