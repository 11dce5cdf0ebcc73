"""The studio's page in a real Chromium, by mouse, keyboard and finger, against the real server."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from studio_browser import MARKS, Page, address, browser, outside, page, piece, serving  # noqa: F401

from conftest import made_performance
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, Performance

pytestmark = MARKS


# --- a whole session ---------------------------------------------------------------------------------------------


def test_drop_select_infill_choose_undo_redo_download_reload(page, piece, tmp_path):
    page.open(piece)
    assert page.piece() == piece
    assert page.page.input_value("#name") == "sketch"

    page.still()
    page.select(5, 9)
    start, end = page.now("studio.span")
    assert (start, end) == pytest.approx((5, 9), abs=0.1)
    assert page.page.input_value("#from") == f"{start:.2f}"

    page.page.fill("#seed", "7")
    page.click("#infill")
    page.until("studio.choice && studio.choice.variations.some((v) => v.events.length)")
    page.until("studio.choice && !studio.choice.writing")
    assert "Variation 1 of 4" in page.page.inner_text("#choice-text")
    first = page.piece()
    page.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert "Variation 2 of 4" in page.page.inner_text("#choice-text")
    second = page.piece()
    assert first != second
    for made in (first, second):
        assert outside(made, start, end) == outside(piece, start, end)
    page.press("Enter")
    page.until("!studio.choice")
    assert page.piece() == second
    assert "seed 8" in page.page.inner_text("#steps [aria-current=step]")

    page.press("Control+z")
    assert page.piece() == piece
    page.press("Control+Shift+z")
    assert page.piece() == second

    saved = page.save(lambda: page.press("Control+s"), tmp_path / "saved.mid")
    read = read_midi(saved).performance
    assert outside(read, start, end) == outside(piece, start, end)
    assert np.allclose(read.notes["onset"], second.notes["onset"], atol=1e-3)
    assert (read.notes["pitch"] == second.notes["pitch"]).all()

    page.page.wait_for_timeout(500)
    page.page.reload()
    page.ready()
    assert page.piece() == second
    page.press("Control+z")
    assert page.piece() == piece


def test_play_pause_seek_and_loop(page, piece):
    page.open(piece)
    page.press("Space")
    page.until("player.playing && !player.waiting && player.now > 0.3")
    assert page.now("player.context.state") == "running"
    assert page.now("player.sampler.voices.length") > 0
    assert page.now("studio.playhead") > 0.2
    assert page.page.get_attribute("#play", "aria-label") == "Pause"
    assert page.page.inner_text("#engine")
    page.press("Space")
    at = page.now("studio.playhead")
    page.page.wait_for_timeout(150)
    assert page.now("studio.playhead") == at

    page.still()
    page.page.mouse.click(*page.place(6))
    assert page.now("studio.playhead") == pytest.approx(6, abs=0.1)
    page.select(6, 6.6)
    page.press("l", "Space")
    page.until("player.playing && player.now > 6.3")
    page.until("player.now < 6.25")  # the loop begins again
    assert page.now("player.now") >= 6 - 0.05
    page.press("l")
    for _ in range(40):  # like a key held down
        page.press("ArrowRight", "ArrowLeft")
    page.until("player.playing && !player.waiting")
    assert not page.error()
    page.press("Space")


def test_playing_goes_on_to_the_end(page, piece):
    page.open(piece)
    start = page.now("studio.end - 2.5")
    page.page.evaluate(f"studioPage.studio.playhead = {start}")
    page.press("Space")
    page.until(f"player.now > {start} + 1.5")
    page.until("!player.playing")
    assert page.now("studio.playhead") == start
    assert not page.error()


def test_a_span_selected_beside_a_choice_is_infilled(page, piece):
    page.open(piece)
    page.page.evaluate("studioPage.studio.setSpan(3, 5)")
    page.click("#infill")
    page.until("studio.choice && !studio.choice.writing")
    page.page.evaluate("studioPage.studio.setSpan(8, 10)")
    page.click("#infill")
    page.until("studio.choice && !studio.choice.writing && studio.choice.start === 8")
    assert page.page.inner_text("#steps [aria-current=step]").startswith("Infill 3.0")  # the first one was kept


def test_several_files_are_a_piece_and_what_it_leads_to(page, piece, tmp_path):
    paths = [tmp_path / "one.mid", tmp_path / "two.mid"]
    for path in paths:
        write_midi(piece, path)
    page.page.set_input_files("#file", paths)
    page.until("studio.second")
    assert page.page.input_value("#name") == "one"
    assert page.page.inner_text("#second-name") == "two"
    assert page.page.is_enabled("#bridge")


def test_every_edit_is_a_step_back(page, piece):
    page.open(piece)
    page.still()
    note = max(piece.notes[:60], key=lambda note: note["duration"])
    where = page.place(note["onset"] + note["duration"] / 2, note["pitch"])
    page.page.mouse.click(*where)
    assert page.now("[...studio.selectedEvents].map((e) => e.key)") == [note["pitch"]]
    assert "1 note selected" in page.page.inner_text("#selection-text")

    page.press("ArrowUp")
    assert page.now("studio.selectedEvents[0].key") == note["pitch"] + 1
    page.press("Alt+ArrowUp")
    assert page.now("studio.selectedEvents[0].velocity") == min(127, note["velocity"] + 4)
    page.press("Shift+ArrowRight")
    assert page.now("studio.selectedEvents[0].onset") == pytest.approx(note["onset"] + 0.1)
    page.press("Control+c", "End", "Control+v")
    assert len(page.piece()) == len(piece) + 1
    page.press("Delete")
    assert len(page.piece()) == len(piece)
    page.press("Control+a", "Delete")
    assert len(page.piece()) == 0
    for _ in range(6):
        page.press("Control+z")
    assert page.piece() == piece
    assert page.now("studio.history.at") == 1
    page.click("#steps li:first-child button")  # the newest step
    assert len(page.piece()) == 0


def test_notes_are_dragged(page, piece):
    page.open(piece)
    page.still()
    note = max(piece.notes[:60], key=lambda note: note["duration"])
    middle = note["onset"] + note["duration"] / 2
    page.drag(page.place(middle, note["pitch"]), page.place(middle + 1, note["pitch"] - 3))
    [moved] = page.now("studio.selectedEvents")
    assert moved["key"] == note["pitch"] - 3
    assert moved["onset"] == pytest.approx(note["onset"] + 1, abs=0.05)
    assert "Move 1 note" in page.page.inner_text("#steps [aria-current=step]")


def test_a_rectangle_selects_notes_and_a_span(page, piece):
    page.open(piece)
    page.still()
    page.drag(page.place(2, page.now("Math.floor(roll.view.high)") - 1), page.place(4, 60))
    inside = piece.between(2, 4).notes
    assert page.now("studio.selectedEvents.filter((e) => e.key >= 3).length") == pytest.approx(
        (inside["pitch"] >= 60).sum(), abs=1
    )
    assert page.now("studio.span") == pytest.approx([2, 4], abs=0.1)


@pytest.mark.parametrize("task", ["compose", "continue", "lead-in", "bridge"])
def test_the_other_tasks(page, piece, task):
    page.open(piece)
    if task == "bridge":
        assert page.page.is_disabled("#bridge")
        page.drop(write_midi(made_performance(4, 40)), "other.mid", "second")
        page.until("studio.second")
    page.page.fill("#seconds", "3")
    page.page.fill("#variations", "1")
    page.click(f"#{task}")
    page.until("!studio.choice && studio.history.steps.length === 2")  # the only variation is kept
    made = page.piece()
    if task in ("continue", "bridge"):
        assert made.between(0, piece.notes["onset"][-1]) == piece.between(0, piece.notes["onset"][-1])
    if task == "lead-in":
        assert len(made.between(3)) == len(piece)
    if task == "bridge":
        assert len(made) > len(piece) + 40
    page.press("Control+z")
    assert page.piece() == piece


def test_start_from_the_example_and_from_nothing(page):
    assert page.page.locator("#empty").is_visible()
    page.click("#empty-example")
    page.until("studio.events.length > 50")
    assert page.now("studio.events.every((e) => e.generated)")  # the model wrote it
    page.click("#new")
    assert page.now("studio.events.length") == 0
    page.page.fill("#seconds", "4")
    page.click("#empty-compose")
    page.until("studio.choice && !studio.choice.writing")
    page.press("Escape")
    assert page.now("studio.events.length") == 0


def test_by_keyboard_alone(page):
    page.page.focus("#empty-example")
    page.press("Enter")
    page.until("studio.events.length > 50")
    page.press("ArrowRight", "ArrowRight", "[")
    page.press("ArrowRight", "ArrowRight", "ArrowRight", "]")
    assert page.now("studio.span") == pytest.approx([2, 5])
    page.press("i")
    page.until("studio.choice && !studio.choice.writing")
    page.press("Space")  # plays, and keeps nothing
    page.until("player.playing")
    assert page.now("studio.choice.variations.length") == 4
    page.press("Space", "Enter")
    page.until("studio.history.steps.length === 2")
    page.press(".", ".")
    assert "velocity" in page.page.inner_text("#status")
    page.press("?")
    box = page.page.locator("#help-box")
    assert box.is_visible()
    assert box.evaluate("(box) => box.scrollHeight <= box.clientHeight + 1"), "the help fits on one screen"
    page.press("Escape")
    assert not box.is_visible()


# --- exporting ---------------------------------------------------------------------------------------------------


def test_export(page, piece, tmp_path):
    page.open(piece)
    page.page.evaluate("studioPage.studio.setSpan(3, 5)")
    page.page.fill("#variations", "1")
    page.page.fill("#seed", "3")
    page.click("#infill")
    page.until("studio.history.steps.length === 2")
    page.click("#export")
    assert page.page.inner_text("#command") == "music-generator infill sketch.mid --from 3.0 --to 5.0 --seed 3"
    page.page.check("#only-span")
    wav = page.save(lambda: page.click("#sounds button >> text=WAV"), tmp_path / "a.wav")
    assert wav.read_bytes()[:4] == b"RIFF"
    png = page.save(lambda: page.click("#save-picture"), tmp_path / "a.png")
    assert png.read_bytes()[:4] == b"\x89PNG"
    before = page.save(lambda: page.click("#save-before"), tmp_path / "sketch.mid")
    assert read_midi(before).performance == piece
    page.page.hover("#drag-midi")
    page.page.wait_for_timeout(50)
    page.until("Boolean(document.querySelector('#drag-midi'))")
    script = """async () => { const handle = document.getElementById("drag-midi");
        for (let i = 0; i < 100; i++) {
          const event = new DragEvent("dragstart", { dataTransfer: new DataTransfer(), cancelable: true });
          if (handle.dispatchEvent(event)) return event.dataTransfer.getData("DownloadURL");
          await new Promise((resolve) => setTimeout(resolve, 20));
        } }"""
    mime, name, data = page.page.evaluate(script).split(":", 2)
    assert (mime, name) == ("audio/midi", "sketch.mid")
    dragged = read_midi(base64.b64decode(data.split(",")[1])).performance
    assert outside(dragged, 3, 5) == outside(piece, 3, 5)


# --- errors ------------------------------------------------------------------------------------------------------


def test_a_wrong_file_gives_one_line_and_changes_nothing(page, piece):
    page.open(piece)
    page.drop(b"RIFF and so on", "song.wav")
    page.until("!document.getElementById('error').hidden")
    assert page.error() == "song.wav: not a MIDI file (it does not begin with MThd)"
    assert page.piece() == piece
    page.click("#error button")
    assert not page.error()


def test_an_invalid_seed_gives_one_line(page, piece):
    page.open(piece)
    page.page.fill("#seed", "1.5")
    page.click("#continue")
    page.until("!document.getElementById('error').hidden")
    assert page.error().startswith("Seed: a whole number from 0, not “1.5”")
    assert page.piece() == piece


def test_the_server_stopped_in_the_middle(browser, piece):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    with serving() as (address, process):
        page = Page(context.new_page(), address)
        page.open(piece)
        page.page.fill("#seconds", "900")
        page.page.fill("#variations", "8")
        page.click("#continue")
        page.until("studio.choice?.variations.some((v) => v.events.length > 20)")
        process.kill()
        page.until("!document.getElementById('error').hidden")
        assert "does not answer" in page.error()
        assert page.now("!studio.choice?.writing")
        if page.now("Boolean(studio.choice)"):
            page.press("Escape")
        assert page.piece() == piece
        page.press("Control+a", "Delete", "Control+z")  # editing goes on
        assert page.piece() == piece
        page.press("Space")  # what is decoded still plays
        page.until("player.now > 0.3")
    context.close()


def test_a_browser_without_sound_is_told_in_one_line(browser, address, piece):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script("delete window.AudioContext")
    page = Page(context.new_page(), address)
    page.open(piece)
    assert not page.error()
    page.press("Space")
    page.until("!player.playing")
    assert page.error() == "this browser plays no sound: allow it for this page, or try another browser"
    assert not page.errors
    context.close()


def test_a_browser_without_storage_edits_and_says_so_once(browser, address, piece):
    context = browser.new_context()
    context.add_init_script("""for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
        Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } }); }
        navigator.locks.request = () => Promise.reject(new DOMException("denied", "SecurityError"));""")
    page = Page(context.new_page(), address)
    page.open(piece)
    page.until("!document.getElementById('error').hidden")
    assert page.error().startswith("this browser cannot store your work")
    page.click("#dismiss")
    page.press("Control+a", "ArrowUp")
    page.page.wait_for_timeout(400)
    assert page.error() == ""
    assert page.now("studio.history.steps.length") == 2
    assert not page.errors
    context.close()


def test_without_the_samples_there_is_one_message(browser, address, piece):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    window = context.new_page()
    window.route("**/samples/*", lambda route: route.abort())
    page = Page(window, address)
    page.open(piece)
    page.press("Space")
    page.until("!player.playing")
    assert page.error().startswith("the piano's samples cannot be loaded")
    window.unroute("**/samples/*")
    page.click("#error button")
    page.press("Space")
    page.until("player.playing && player.now > 0.3")
    assert not page.error()
    context.close()


def test_cancelling_ends_the_job(page, piece):
    page.open(piece)
    page.page.fill("#seconds", "900")
    page.click("#continue")
    page.until("studio.choice?.variations.some((v) => v.events.length > 5)")
    page.press("Escape")
    assert page.piece() == piece
    page.page.fill("#seconds", "2")
    page.click("#continue")
    page.until("studio.choice && !studio.choice.writing")


def test_two_windows_do_not_disturb_each_other(page, piece, address):
    page.open(piece)
    page.page.wait_for_timeout(400)  # it is stored
    other = Page(page.page.context.new_page(), address)
    other.page.locator("#recent button").first.click()
    other.until("studio.events.length > 0")
    assert other.piece() == piece
    other.click("#new")
    other.click("#empty-example")
    other.until("studio.events.length > 50")
    other.press("Control+a", "Delete")
    assert page.piece() == piece
    other.page.wait_for_timeout(400)
    page.page.reload()
    page.ready()
    assert page.piece() == piece


def test_work_that_another_version_stored_is_dropped(browser, address):
    context = browser.new_context()
    page = context.new_page()
    blank = f"{address}blank"  # the same origin, without the page; an icon of its own, or the browser asks for another
    page.route(blank, lambda route: route.fulfill(content_type="text/html", body='<link rel="icon" href="data:,">'))
    page.goto(blank)
    page.evaluate("""() => new Promise((resolve) => {
        const request = indexedDB.open("music-generator-studio", 1);
        request.onupgradeneeded = () => request.result.createObjectStore("works", { keyPath: "id" }).put({ id: "old" });
        request.onsuccess = () => { request.result.close(); resolve(); }; })""")
    page = Page(page, address)
    assert page.page.locator("#recent").is_hidden()
    page.click("#empty-example")
    page.until("studio.events.length > 50")
    page.page.wait_for_timeout(500)
    page.page.reload()
    page.ready()
    assert page.now("studio.events.length > 50")
    assert not page.errors
    context.close()


# --- the piece, compared with Python's ---------------------------------------------------------------------------


def test_tidying_is_that_of_a_performance(page):
    rng = np.random.default_rng(1)
    for _ in range(20):
        notes = np.empty(60, NOTE_DTYPE)
        notes["onset"] = rng.integers(0, 40, 60) / 10
        notes["duration"], notes["pitch"] = rng.integers(1, 30, 60) / 10, rng.integers(60, 66, 60)
        notes["velocity"] = rng.integers(1, 128, 60)
        script = """async (rows) => { const { makeEvent, tidy } = await import("./static/piece.js");
            return tidy(rows.map((row) => makeEvent(...row))).map((e) => [e.onset, e.duration, e.key, e.velocity]); }"""
        tidied = page.page.evaluate(script, [[float(x) for x in row] for row in notes.tolist()])
        theirs = Performance(notes).notes
        mine = np.array([tuple(row) for row in tidied], NOTE_DTYPE)
        for name in ("onset", "duration", "pitch"):
            assert np.array_equal(mine[name], theirs[name])


# --- accessibility -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(browser, address, scheme):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme=scheme
    )
    page = Page(context.new_page(), address)
    page.page.tap("#empty-example")
    page.until("studio.events.length > 50")
    assert page.now("document.documentElement.scrollWidth") <= 390
    page.page.evaluate("studioPage.studio.setSpan(3, 5)")
    page.page.tap("#infill")
    page.until("studio.choice && !studio.choice.writing")
    assert page.now("document.documentElement.scrollWidth") <= 390
    page.page.tap("#next")
    page.page.tap("#keep")
    page.until("studio.history.steps.length === 2")
    assert not page.errors
    page.page.evaluate("window.scrollTo(0, 10000)")
    page.drop(b"RIFF and so on", "song.wav")  # the error is in sight on a scrolled page
    page.until("!document.getElementById('error').hidden")
    assert page.now("scrollY") > 100
    top = page.page.locator("#error").bounding_box()["y"]
    assert 0 <= top < 400
    assert page.page.evaluate(f"document.elementFromPoint(100, {top} + 8).closest('#error') !== null")
    context.close()


def test_everything_has_a_name(page):
    script = """() => [...document.querySelectorAll("button, input:not([hidden]), select, [role=application]")]
        .filter((each) => !(each.ariaLabel || each.textContent.trim() || each.labels?.length || each.title))
        .map((each) => each.outerHTML)"""
    assert page.page.evaluate(script) == []
    tree = page.page.locator("body").aria_snapshot()
    for name in ("Undo", "Redo", "Play", "Infill the span", "Temperature", "History"):
        assert name in tree


def test_dark_and_light(page):
    page.click("#theme")
    dark = page.now("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.now("getComputedStyle(document.body).backgroundColor") != dark
    page.page.reload()
    page.ready()
    assert page.now("document.documentElement.dataset.theme") == "light"
