"""A recording dropped on the studio's page, in a real Chromium; the network is one of known events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from known_events import write_sound
from studio_browser import MARKS, Page, browser, page, serving  # noqa: F401

pytestmark = MARKS

PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from known_events import KnownEvents
from music_generator.__main__ import main
from music_generator.recording import extra, transkun
from music_generator.recording.chunks import Event

class Slow(KnownEvents):
    def events(self, *arguments):
        time.sleep(0.5)
        return super().events(*arguments)

extra.is_installed = lambda: INSTALLED
transkun.Transkun = lambda: Slow([Event(60, 0.5, 1.0, 64), Event(64, 2.0, 9.5, 70), Event(-64, 1.0, 8.5, 90)])
main()
"""


@pytest.fixture(scope="module", params=[True, False])
def installed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def address(installed: bool) -> Iterator[str]:
    with serving("-c", PROGRAM.replace("INSTALLED", str(installed))) as (address, _process):
        yield address


def test_a_recording_is_opened_or_the_extra_is_named(page: Page, installed, tmp_path):
    page.drop(write_sound(tmp_path / "take.wav", 12.0).read_bytes(), "take.wav")
    if not installed:
        page.until("!document.getElementById('error').hidden")
        assert page.error().startswith("take.wav: this is a recording: to have it transcribed, install the extra: pip")
        return
    page.page.wait_for_selector("#transcribing")
    page.until("document.getElementById('transcribing-text').textContent.includes('of 12 s')")
    page.until("studio.events.length === 3")
    assert page.now("document.getElementById('transcribing').hidden")
    assert page.now("studio.name") == "take"
    assert page.piece().notes["pitch"].tolist() == [60, 64]
    assert page.error() == ""


def test_it_is_cancelled_and_the_piece_stays(page: Page, installed, tmp_path):
    if not installed:
        return
    take = write_sound(tmp_path / "take.wav", 60.0)
    page.page.set_input_files("#file", take)
    page.page.wait_for_selector("#transcribing")
    page.click("#stop-transcribing")
    page.until("document.getElementById('transcribing').hidden")
    assert page.now("studio.events.length") == 0
    assert "Cancelled: take.wav is not opened" in page.page.locator("#status").inner_text()
    assert page.error() == ""
