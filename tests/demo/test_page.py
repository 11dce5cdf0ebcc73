"""The demo's page in a real Chromium: from a web server of files alone, and offline afterwards."""

from __future__ import annotations

import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_browser import CHROMIUM, Page, browser

from demo import Files
from music_generator.engine.engine import Engine
from music_generator.generation import SamplingOptions, generate, to_compose, to_infill
from music_generator.music.midi import read_midi, write_midi

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]

FIRST_NOTE_BYTES = 12e6
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SOUNDS = "player.playing && !player.waiting && player.sampler.voices.length > 0"
HEARD_AT = "(({ heard }) => { player.heard = () => { globalThis.heardAt = Date.now(); heard(); }; })(player)"
KEPT = """(async () => { const counts = await Promise.all((await caches.keys()).map(async (name) =>
    (await (await caches.open(name)).keys()).length)); return Math.max(0, ...counts); })()"""


class _Files(Files):
    """Files, and what was asked for: `sent` has -1 bytes where there is no such file."""

    def send_error(self, *arguments: Any, **options: Any) -> None:
        """Refuse."""
        self.sent.append((time.time(), -1))
        super().send_error(*arguments, **options)


class Site:
    """A web server of static files, with the demo in a folder of its own."""

    def __init__(self, demo: Path) -> None:
        self.sent: list[tuple[float, int]] = []
        # the worker that keeps them is not among those that it keeps; the index is kept by two names
        self.files = sum(path.is_file() for path in demo.rglob("*"))
        handler = partial(_Files, directory=str(demo.parent), sent=self.sent)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/{demo.name}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def opened(chromium: Any, site: Site, form: dict[str, Any]) -> Iterator[Page]:
    """Open the page for the first time. It may ask for nothing that the site has not, and its console stays empty."""
    context = chromium.new_context(**form, accept_downloads=True, reduced_motion="reduce")
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = Page(context.new_page(), site.address)
    yield page
    context.close()
    assert not page.errors, page.errors
    assert all(url.startswith((site.address, "blob:", "data:")) for url in asked), asked
    assert all(size >= 0 for _, size in site.sent), "a file is missing"


def test_opened_as_a_file_the_page_says_what_it_needs(browser, demo):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((demo / "index.html").as_uri())
    text = page.locator("#needs-server")
    assert text.is_hidden()
    text.wait_for(state="visible")
    assert "python -m http.server" in text.inner_text()
    box = text.bounding_box()
    on_top = page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('#needs-server') !== null",
                           [box["x"] + box["width"] / 2, box["y"] + 8])  # fmt: skip
    assert on_top
    page.close()


@pytest.fixture
def site(demo: Path) -> Iterator[Site]:
    site = Site(demo)
    yield site
    site.stop()


def settings(page: Page, seed: int, seconds: float = 6, variations: int = 1) -> None:
    for field, value in (("seed", seed), ("seconds", seconds), ("variations", variations)):
        page.page.fill(f"#{field}", str(value))


def written(page: Page, button: str) -> None:
    """Press a button that writes one variation, which is kept at once, and wait for it."""
    steps = page.now("studio.history.at")
    page.click(button)
    page.until(f"studio.history.at > {steps} && !studio.choice")
    assert not page.error()


def exported(page: Page, button: str, path: Path) -> Path:
    page.click("#export")
    page.save(lambda: page.click(button), path)
    page.click("#export-box header button")
    return path


@pytest.mark.parametrize("form", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_new_piece_sounds_after_little_is_loaded(browser, site, form):
    with opened(browser, site, form) as page:
        settings(page, seed=5, seconds=20)
        page.now(HEARD_AT)
        page.click("#empty-compose")
        page.until("studio.events.length > 0")
        page.click("#play")
        page.until(SOUNDS)
        heard_at = page.page.evaluate("heardAt") / 1000
        loaded = sum(size for second, size in site.sent if second < heard_at)
        assert 7e6 < loaded < FIRST_NOTE_BYTES
        page.until("player.now > 0.5")
        assert page.page.locator("#needs-server").is_hidden()


def test_a_piece_is_made_and_exported(browser, site, tmp_path):
    """The files of a new piece, and of one with an infilled span, are those of the command line."""
    with Engine() as engine:
        composed = generate(engine, to_compose(6), SamplingOptions(seed=11)).performance
        file = write_midi(composed)
        infilled = generate(engine, to_infill(read_midi(file).performance, 2, 4), SamplingOptions(seed=12)).performance
    with opened(browser, site, DESKTOP) as page:
        settings(page, 11)
        written(page, "#compose")
        assert exported(page, "#save-midi", tmp_path / "new.mid").read_bytes() == file
        page.drop(file)
        page.until("studio.facts.source !== null")
        settings(page, 12)
        page.now("studio.setSpan(2, 4)")
        written(page, "#infill")
        assert exported(page, "#save-midi", tmp_path / "infilled.mid").read_bytes() == write_midi(infilled)


def test_everything_works_offline_afterwards(browser, site, tmp_path):
    with opened(browser, site, DESKTOP) as page:
        settings(page, 3)
        written(page, "#compose")
        page.press("Space")
        page.until(SOUNDS)
        while page.page.evaluate(KEPT) < site.files:
            page.page.wait_for_timeout(50)
        site.stop()
        page.page.reload()
        page.ready()
        works_offline(page, tmp_path)


def works_offline(page: Page, folder: Path) -> None:
    """Infill, choose, keep notes, continue, edit, undo, play and export."""
    before = page.piece()
    assert len(before)
    settings(page, 5, variations=2)
    page.now("studio.setSpan(1, 3)")
    page.click("#infill")
    page.until("studio.choice?.variations.length === 2 && studio.choice.variations.every(({ done }) => done)")
    page.click("#keep")
    settings(page, 6)
    inside = "(e) => e.key > 2 && e.onset >= 1 && e.onset < 3"
    page.now(f"studio.select(studio.events.filter({inside}).slice(0, 2).map((e) => e.id))")
    kept = page.now("studio.keptNotes.map(({ onset, key }) => [onset, key])")
    written(page, "#rewrite")
    assert kept
    assert all(note in page.now("studio.events.map(({ onset, key }) => [onset, key])") for note in kept)
    written(page, "#continue")
    piece = page.piece()
    assert piece.end > before.end + 3
    page.now("studio.select(studio.events.filter((e) => e.key > 30 && e.key < 100).map((e) => e.id))")
    page.click("[data-edit=up]")
    assert page.piece().notes["pitch"].sum() > piece.notes["pitch"].sum()
    page.now("studio.deselect()")
    page.click("#play")
    page.until(SOUNDS + " && player.now > 0.3")
    page.click("#play")
    check_files(page, folder)


def check_files(page: Page, folder: Path) -> None:
    piece = page.piece()
    midi = read_midi(exported(page, "#save-midi", folder / "piece.mid")).performance
    assert np.array_equal(midi.notes["pitch"], piece.notes["pitch"])
    assert np.allclose(midi.notes["onset"], piece.notes["onset"], atol=1e-3)
    assert exported(page, "#save-picture", folder / "piece.png").read_bytes().startswith(b"\x89PNG")
    page.now("studio.setSpan(1, 4)")
    with wave.open(str(exported(page, "#sounds button", folder / "piece.wav"))) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (2, 2, 44100)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16).reshape(-1, 2)
    assert len(samples) / 44100 > piece.end
    assert np.abs(samples).max() == pytest.approx(0.89 * 32767, abs=1)
    assert np.abs(samples[: 44100 * 6]).reshape(-1, 4410).max(1).mean() > 500
