"""Files of several tracks in the studio's page, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import mido
from studio_browser import MARKS, Page, address, browser, page  # noqa: F401

pytestmark = MARKS


def band(path: Path) -> Path:
    """Write a file of a piano, a bass, a second piano and drums."""
    file = mido.MidiFile(ticks_per_beat=480)
    for name, channel, program, keys in (
        ("Piano", 0, 0, range(60, 76)), ("Bass", 1, 33, (36, 38)),
        ("Keys", 2, 4, (50, 52, 53)), ("Drums", 9, 0, (38, 42)),
    ):  # fmt: skip
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        track.append(mido.Message("program_change", channel=channel, program=program))
        for key in keys:
            track.append(mido.Message("note_on", channel=channel, note=key, velocity=70, time=240))
            track.append(mido.Message("note_off", channel=channel, note=key, time=240))
        file.tracks.append(track)
    file.save(path)
    return path


def opened(page: Page, path: Path) -> Page:
    page.page.set_input_files("#file", band(path))
    page.until("!document.getElementById('tracks').hidden")
    return page


def keys(path: Path, channel: int) -> list[int]:
    return [message.note for message in mido.MidiFile(path) if message.type == "note_on" and message.channel == channel]


def test_the_piano_is_opened_and_the_others_are_shown_and_heard(page, tmp_path):
    opened(page, tmp_path / "band.mid")
    assert page.now("studio.events.map((e) => e.key)") == list(range(60, 76))
    assert page.page.locator("#tracks li").count() == 4
    assert page.page.locator("#tracks [aria-pressed=true]").inner_text().startswith("Piano")
    assert page.now("roll.others.count") == 5  # without the drums
    assert page.now("player.others.map((note) => [note.key, note.isDrum])") == [
        [36, False], [50, False], [38, True], [38, False], [52, False], [42, True], [53, False],
    ]  # fmt: skip
    page.page.uncheck("#hear-others")
    assert page.now("player.others.length") == 0


DELAYS = """window.delays = []; const later = setTimeout;
    window.setTimeout = (action, ...rest) => { delays.push(rest[0]); return later(action, ...rest); }"""


def test_what_becomes_of_the_tracks_can_be_read(page, tmp_path):
    page.page.evaluate(f"() => {{ {DELAYS} }}")
    opened(page, tmp_path / "band.mid")
    text = page.page.inner_text("#status")
    assert text == "band.mid: Piano is the piece, the other tracks stay as they are"
    assert 45 * len(text) in page.page.evaluate("delays"), "a longer text stays longer"
    assert page.page.locator("#tracks").bounding_box()["y"] < 300, "it is in sight"


def test_another_track_is_chosen_and_all_are_exported(page, tmp_path):
    opened(page, tmp_path / "band.mid")
    page.now("studio.select([studio.events[0].id])")
    page.press("Delete")
    page.click("#tracks li:nth-child(3) button")
    page.until("studio.events.length === 3")
    page.until("document.querySelector('#tracks [aria-pressed=true]').innerText.startsWith('Keys')")
    page.now("studio.selectAll()")
    page.press("ArrowUp")
    saved = page.save(lambda: page.press("Control+s"), tmp_path / "saved.mid")
    assert keys(saved, 0) == list(range(61, 76))  # what was deleted before is still deleted
    assert keys(saved, 1) == [36, 38]
    assert keys(saved, 2) == [51, 53, 54]
    assert keys(saved, 9) == [38, 42]
    page.press("Control+z", "Control+z", "Control+z")
    page.until("studio.events.length === 16")


def test_drums_are_no_piano(page, tmp_path):
    opened(page, tmp_path / "band.mid")
    assert page.page.is_disabled("#tracks li:nth-child(4) button")
