"""Editing in the studio's page, in a real Chromium: by the mouse as by the keys, and what a gesture leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
from studio_browser import MARKS, Page, address, browser, page, piece  # noqa: F401

from conftest import made_performance
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.tempo_map import TempoMap

pytestmark = MARKS

SHOWN = "document.querySelector('#steps [aria-current=step]').innerText"


def three_notes() -> Performance:
    """Three long notes with different velocities and one pedal press, far apart."""
    notes = np.array([(1.0, 1.0, 60, 40), (3.0, 1.0, 64, 70), (5.0, 1.0, 67, 100)], NOTE_DTYPE)
    return Performance(notes, np.array([(1.0, 2.0, 0, 127)], PEDAL_DTYPE))


def opened(page: Page) -> Page:
    page.open(three_notes())
    page.still()
    return page


def rows(page: Page) -> list[list[float]]:
    return page.now("studio.events.filter((e) => e.key > 2).map((e) => [e.onset, e.duration, e.key, e.velocity])")


def grab(page: Page, seconds: float, key: int, to: tuple[float, float]) -> None:
    """Press the mouse on a place of the roll and move it, without letting go."""
    mouse = page.page.mouse
    mouse.move(*page.place(seconds, key))
    mouse.down()
    mouse.move(*page.place((seconds + to[0]) / 2, key))
    mouse.move(*page.place(*to))


# --- gestures that are interrupted -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["Escape", "Control+z"])
def test_a_drag_that_is_interrupted_leaves_the_piece_as_it_was(page, key, tmp_path):
    opened(page)
    grab(page, 3.5, 64, (4.5, 70))
    assert rows(page)[1][2] != 64
    page.press(key)
    assert page.now("studio.preview") is None
    page.page.mouse.up()
    assert rows(page) == [[1, 1, 60, 40], [3, 1, 64, 70], [5, 1, 67, 100]]
    other = made_performance(5, 20)
    page.page.set_input_files("#file", [{"name": "other.mid", "mimeType": "audio/midi", "buffer": write_midi(other)}])
    page.until("studio.name === 'other'")
    saved = page.save(lambda: page.press("Control+s"), tmp_path / "saved.mid")
    assert len(read_midi(saved).performance.notes) == len(read_midi(write_midi(other)).performance.notes)


def test_composing_in_the_middle_of_a_drag_ends_it(page):
    opened(page)
    page.page.fill("#seconds", "2")
    page.page.click("#roll", position={"x": 700, "y": 300})
    grab(page, 3.5, 64, (4.5, 70))
    page.press("g")
    page.until("studio.choice && !studio.choice.writing")
    assert page.now("studio.preview") is None
    page.page.mouse.up()
    page.press("Escape")
    assert rows(page) == [[1, 1, 60, 40], [3, 1, 64, 70], [5, 1, 67, 100]]


# --- moving, resizing, drawing -----------------------------------------------------------------------------------


def test_a_dragged_note_keeps_its_colour_and_shows_how_far(page):
    opened(page)
    grab(page, 3.5, 64, (4.5, 67))
    assert page.now("roll.tip.text").startswith("+1.0")
    assert page.now("roll.tip.text").endswith("+3 st")
    assert page.now("roll.ghosts.length") == 1
    assert page.now("studio.shownSelection.map((e) => e.generated)") == [False]
    page.page.mouse.up()
    assert page.now("roll.tip") is None
    assert rows(page)[1] == pytest.approx([4, 1, 67, 70], abs=0.06)


def test_a_drag_to_the_edge_scrolls_the_view(page):
    opened(page)
    page.now("roll.fit([2, 5], true)")
    page.still()
    before = page.now("roll.view.t0")
    box = page.page.locator("#overlay").bounding_box()
    grab(page, 3.5, 64, (3.6, 64))
    page.page.mouse.move(box["x"] + box["width"] - 5, page.place(3, 64)[1])
    page.until(f"roll.view.t0 > {before} + 2")
    page.page.mouse.up()
    assert rows(page)[-1][2] == 64  # it is the last one now
    assert rows(page)[-1][0] > 6


def test_an_edge_resizes_and_alt_copies(page):
    opened(page)
    page.drag(page.place(3.98, 64), page.place(4.98, 64))
    assert rows(page)[1] == pytest.approx([3, 2, 64, 70], abs=0.06)
    page.drag(page.place(3.01, 64), page.place(2.51, 64))
    assert rows(page)[1] == pytest.approx([2.5, 2.5, 64, 70], abs=0.08)
    page.page.keyboard.down("Alt")
    page.drag(page.place(1.5, 60), page.place(1.5, 72))
    page.page.keyboard.up("Alt")
    assert sorted(row[2] for row in rows(page)) == [60, 64, 67, 72]
    assert "Copy 1 note" in page.now(SHOWN)


def test_notes_and_pedals_are_drawn(page):
    opened(page)
    page.press("p")
    assert page.page.get_attribute("[data-tool=draw]", "aria-pressed") == "true"
    page.drag(page.place(6.2, 72), page.place(7.4, 72))
    assert rows(page)[-1][:3] == pytest.approx([6.2, 1.2, 72], abs=0.06)
    box = page.page.locator("#overlay").bounding_box()
    x, y = page.now("[roll.view.x(4), roll.view.lane(0) + 5]")
    page.drag((box["x"] + x, box["y"] + y), (box["x"] + x + page.now("2 * roll.view.pps"), box["y"] + y))
    pedals = page.now("studio.events.filter((e) => e.key === 0).map((e) => [e.onset, e.duration])")
    assert pedals[1] == pytest.approx([4, 2], abs=0.06)
    page.press("v")
    page.page.mouse.dblclick(*page.place(7, 50))
    assert rows(page)[-1][:3] == pytest.approx([7, 1.2, 50], abs=0.06)
    page.press("Home", "n")
    assert rows(page)[0][0] == 0


def test_the_hand_draws_nothing(page):
    opened(page)
    page.press("h")
    page.page.mouse.dblclick(*page.place(7, 50))
    assert len(rows(page)) == 3


def test_arrows_that_are_held_down_are_one_step(page):
    opened(page)
    page.page.mouse.click(*page.place(3.5, 64))
    steps = page.now("studio.history.steps.length")
    for _ in range(12):
        page.press("ArrowRight")
    assert rows(page)[1][0] == pytest.approx(3.12)
    assert page.now("studio.history.steps.length") == steps + 1
    assert "+0.12 s" in page.now(SHOWN)
    page.press("ArrowUp", "ArrowUp")
    assert "+2 semitones" in page.now(SHOWN)
    page.press("Control+z", "Control+z")
    assert page.piece() == read_midi(write_midi(three_notes())).performance


def test_split_duplicate_quantise_and_paste(page):
    opened(page)
    page.page.mouse.click(*page.place(3.5, 64))
    page.page.mouse.click(*page.place(3.5, page.now("Math.floor(roll.view.high) - 1")))  # moves the playhead
    page.page.mouse.click(*page.place(3.5, 64))
    page.press("s")
    assert np.array(rows(page))[1:3, :2] == pytest.approx(np.array([[3, 0.5], [3.5, 0.5]]), abs=0.06)
    page.press("Control+d")
    assert [row[0] for row in rows(page)] == pytest.approx([1, 3, 3.5, 4, 4.5, 5], abs=0.06)
    page.press("Control+a", "Control+c", "End")
    end = page.now("studio.playhead")
    page.press("Control+v")
    assert page.now("studio.playhead") == pytest.approx(end + page.now("studio.editor.clipboard.seconds"))
    count = len(rows(page))
    page.press("Control+v")
    assert len(rows(page)) == count + 6


def test_a_note_that_a_longer_one_hides_is_not_selected(page):
    opened(page)
    page.page.mouse.click(*page.place(3.5, 64))
    page.press("Alt+ArrowLeft", "Control+c")
    page.press("Control+z")
    page.now("(studio.playhead = 3)")
    page.press("Control+v")  # the note that is there is longer
    assert page.now("[...studio.selected]") == []
    page.press("ArrowRight", "Alt+ArrowRight", "ArrowUp")
    assert rows(page) == [[1, 1, 60, 40], [3, 1, 64, 70], [5, 1, 67, 100]]


def test_a_drag_ends_when_other_notes_are_selected(page):
    opened(page)
    grab(page, 3.5, 64, (4.5, 67))
    page.press(".")
    page.page.mouse.up()
    assert rows(page) == [[1, 1, 60, 40], [3, 1, 64, 70], [5, 1, 67, 100]]


def test_keys_that_edit_do_nothing_without_a_selection(page):
    opened(page)
    page.page.select_option("#grid", "0.5")
    for key in ("Alt+ArrowLeft", "Alt+ArrowRight", "Alt+ArrowUp", "Delete", "s", "q", "Control+d"):
        page.press(key)
    assert page.now("studio.history.steps.length") == 1
    assert page.page.url.endswith("/")  # the browser has not gone back


def test_a_note_just_before_the_grid_is_pasted_at_the_start(page):
    page.open(Performance(np.array([(0.48, 0.3, 60, 64), (0.98, 0.3, 62, 64)], NOTE_DTYPE)))
    page.page.select_option("#grid", "0.5")
    page.press("Control+a", "Control+x", "Home", "Control+v")
    assert [row[0] for row in rows(page)] == pytest.approx([0, 0.48])


def test_the_view_follows_what_is_pasted(page):
    opened(page)
    page.now("roll.fit([0, 3], true)")
    page.press("Control+a", "Control+c", "End", "Home")
    page.now("(studio.playhead = studio.end)")
    for _ in range(3):
        page.press("Control+v")
        assert page.now("roll.inSight(studio.playhead)")


def test_the_toolbar_stands_still(page):
    tempo_map = TempoMap(480, ((0, 450_450),), ((0, 12, 16),))
    buttons = page.page.locator("#toolbar button, #toolbar select, #toolbar input")
    before = [button.bounding_box() for button in buttons.all()]
    notes = np.array([(0.05 * i, 0.05, 40 + i % 40, 64) for i in range(12_000)], NOTE_DTYPE)
    page.open(Performance(notes, tempo_map=tempo_map))
    page.page.select_option("#units", "beats")
    page.press("Control+a")
    assert page.page.inner_text("#tempo") == "♩ 133.2 · 12/16"
    assert [button.bounding_box() for button in buttons.all()] == before
    assert page.now("document.getElementById('toolbar').scrollWidth") <= 1280


def test_quantising_needs_a_grid_and_goes_to_it(page):
    page.open(Performance(np.array([(0.53, 0.3, 60, 64), (1.02, 0.3, 62, 64)], NOTE_DTYPE)))
    page.press("Control+a", "q")
    assert "choose a grid" in page.page.inner_text("#status")
    page.page.select_option("#units", "beats")
    page.page.select_option("#grid", "1/8")
    page.press("q")
    assert [row[0] for row in rows(page)] == [0.5, 1.0]


# --- velocities --------------------------------------------------------------------------------------------------


def test_the_velocity_slider_keeps_the_dynamics_and_the_field_sets_one(page):
    opened(page)
    page.press("Control+a")
    assert page.page.input_value("#velocity-exact") == "70"
    page.page.fill("#velocity", "80")
    assert [row[3] for row in rows(page)] == [50, 80, 110]
    page.page.fill("#velocity-exact", "90")
    page.press("Enter")
    page.until("studio.events.every((e) => e.key < 3 || e.velocity === 90)")


def test_the_velocity_lane(page):
    opened(page)
    box = page.page.locator("#overlay").bounding_box()

    def at(seconds: float, velocity: int) -> tuple[float, float]:
        x, y = page.now(f"[roll.view.x({seconds}), roll.view.velocityY({velocity})]")
        return box["x"] + x, box["y"] + y

    page.drag(at(0.5, 100), at(5.5, 50))
    assert [row[3] for row in rows(page)] == pytest.approx([95, 75, 55], abs=4)
    page.press("Control+z")
    page.press("Control+a")
    page.drag(at(3, 60), at(3, 80))
    assert [row[3] for row in rows(page)] == pytest.approx([60, 90, 120], abs=4)


# --- what is in sight --------------------------------------------------------------------------------------------


def test_notes_out_of_sight_are_counted_and_edits_follow(page):
    opened(page)
    page.now("roll.zoomRows(9)")
    page.until("Math.abs(roll.view.row - roll.target.row) < 1e-6")
    page.now("roll.scroll(0, 40, true)")
    page.until("roll.hidden.below === 3")
    page.now("studio.selectAll()")
    page.press("Shift+ArrowUp")
    page.until("roll.hidden.below === 0")


def test_the_keyboard_scrolls_and_zooms_up_and_down(page, piece):
    page.open(piece)
    row = page.now("roll.view.row")
    page.press("Alt+=", "Alt+=")
    assert page.now("roll.target.row") > row * 1.5
    high = page.now("roll.target.high")
    page.press("PageUp")
    assert page.now("roll.target.high") > high
    page.page.mouse.move(*page.place(3, 60))
    high = page.now("roll.target.high")
    page.page.mouse.wheel(0, 60)
    page.until(f"roll.target.high < {high}")


# --- the span ----------------------------------------------------------------------------------------------------


def test_a_typed_span_is_the_one_that_was_typed(page, piece):
    page.open(piece)
    for field, value in (("#from", "2"), ("#to", "4")):
        page.page.fill(field, value)
        page.press("Tab")
    page.until("studio.span?.[0] === 2 && studio.span[1] === 4")
    page.page.fill("#from", "8")
    page.press("Tab")
    assert page.now("studio.span") == [8, 10]  # the other edge follows
    page.page.fill("#to", "12")
    page.press("Tab")
    assert page.now("studio.span") == [8, 12]


def test_a_rectangle_that_scrolls_selects_from_where_it_began(page, piece):
    page.open(piece)
    page.now("roll.fit([1, 4], true)")
    page.still()
    box = page.page.locator("#overlay").bounding_box()
    start = page.place(1.2, page.now("Math.floor(roll.view.high) - 1"))
    mouse = page.page.mouse
    mouse.move(*start)
    mouse.down()
    mouse.move(start[0] + 60, start[1] + 100)
    mouse.move(box["x"] + box["width"] - 4, start[1] + 300)
    page.until("roll.view.t0 > 3")
    mouse.move(box["x"] + box["width"] / 2, start[1] + 300)
    end = page.now(f"roll.view.seconds({box['width'] / 2})")
    mouse.up()
    assert page.now("studio.span") == pytest.approx([1.2, end], abs=0.3)


def test_a_span_beyond_the_piece_is_not_infilled(page):
    opened(page)
    page.now("studio.setSpan(4.5, 6)")
    assert page.page.is_enabled("#infill")
    page.press("Control+z")  # nothing is left of the piece
    assert page.now("studio.span") is None
    assert page.page.is_disabled("#infill")


def test_the_span_is_announced(page, piece):
    page.open(piece)
    page.press("ArrowRight", "ArrowRight", "[")
    assert page.page.inner_text("#status").startswith("Span 0:02.0 to 0:06.0, ")
    page.press("Escape")
    assert page.page.inner_text("#status") == "No span is selected"


# --- bars and beats ----------------------------------------------------------------------------------------------


def test_tempo_is_set_and_exported_while_notes_keep_their_seconds(page, tmp_path):
    opened(page)
    page.click("#tempo")
    page.page.fill("#tempo-value", "90")
    page.page.fill("#metre-top", "3")
    page.page.fill("#downbeat", "1")
    page.click("#set-tempo")
    assert page.page.input_value("#units") == "beats"
    assert page.page.inner_text("#tempo") == "♩ 90 · 3/4" or page.now("studio.playhead") < 1
    assert page.now("studio.time.text(1)") == "2.1"
    saved = page.save(lambda: page.press("Control+s"), tmp_path / "saved.mid")
    read = read_midi(saved).performance
    assert read.notes["onset"] == pytest.approx([1, 3, 5], abs=2e-3)
    assert [signature[1:] for signature in read.tempo_map.time_signatures] == [(3, 4)]
    assert [round(6e7 / tempo) for _, tempo in read.tempo_map.tempos][-1] == 90
    page.press("Control+z")
    assert page.now("studio.time.text(1)") == "1.3"


def test_drawing_snaps_to_the_grid_of_the_file(page):
    tempo_map = TempoMap(480, ((0, 600_000),), ((0, 3, 4),))  # 100 quarters a minute
    page.open(Performance(three_notes().notes, tempo_map=tempo_map))
    page.page.select_option("#units", "beats")
    page.page.select_option("#grid", "1/4")
    page.still()
    page.press("p")
    page.drag(page.place(6.2, 72), page.place(7.1, 72))
    assert rows(page)[-1] == pytest.approx([6, 1.2, 72, 72], abs=1e-6)
    page.page.mouse.move(*page.place(1.8))
    assert page.now("studio.time.text(1.8)") == "2.1"


def test_a_metre_of_the_file_stays_when_the_tempo_is_set(page):
    tempo_map = TempoMap(480, ((0, 600_000),), ((0, 5, 32),))
    page.open(Performance(three_notes().notes, tempo_map=tempo_map))
    page.click("#tempo")
    assert page.page.input_value("#metre-bottom") == "32"
    page.page.fill("#tempo-value", "60")
    page.click("#set-tempo")
    assert page.page.inner_text("#tempo") == "♩ 60 · 5/32"
    assert page.now("studio.time.beats.stepSeconds(0, 'bar')") == pytest.approx(5 / 8)


def test_a_tempo_is_tapped(page):
    opened(page)
    page.click("#tempo")
    for _ in range(5):
        page.click("#tap")
        page.page.wait_for_timeout(300)
    tempo = float(page.page.input_value("#tempo-value"))
    assert 60 < tempo < 210
    assert page.page.inner_text("#tempo-text") == "5 taps"
    page.page.fill("#tempo-value", "3")
    page.click("#set-tempo")
    assert "20 to 400" in page.page.inner_text("#tempo-text")


# --- voices ------------------------------------------------------------------------------------------------------


def test_voices_are_those_of_the_library(page, piece):
    from music_generator.music.voices import highest, lowest

    page.open(piece)
    for name, function in (("melody", highest), ("bass", lowest)):
        page.page.select_option("#voice", name)
        chosen = page.now("studio.selectedEvents.map((e) => [e.onset, e.key])")
        expected = piece.notes[function(piece.notes["onset"], piece.notes["pitch"])]
        assert chosen == [[note["onset"], note["pitch"]] for note in expected]
    page.page.fill("#voice-velocity", "60")
    page.page.select_option("#voice", "softer")
    assert page.now("studio.selectedEvents.length") == (piece.notes["velocity"] < 60).sum()


# --- projects and names ------------------------------------------------------------------------------------------


def test_a_project_keeps_the_history_and_who_wrote_what(page, piece, tmp_path):
    page.open(piece)
    page.page.fill("#name", "My sketch")
    page.press("Enter")
    page.now("studio.setSpan(5, 8)")
    page.page.fill("#variations", "2")
    page.click("#infill")
    page.until("studio.choice && !studio.choice.writing")
    page.press("ArrowRight", "Enter")
    before = page.now("studio.events.map((e) => [e.onset, e.key, e.generated])")
    saved = page.save(lambda: page.click("#save-project"), tmp_path / "p.json")
    assert saved.stat().st_size > 1000
    page.click("#new")
    page.page.set_input_files("#file", saved)
    page.until("studio.name === 'My sketch'")
    assert page.now("studio.events.map((e) => [e.onset, e.key, e.generated])") == before
    page.click("#steps .again")  # the other variation is still there
    page.until("studio.choice")
    assert page.now("studio.choice.variations.length") == 2
    page.press("ArrowLeft", "Enter")
    assert page.now("studio.events.map((e) => [e.onset, e.key, e.generated])") != before
    page.press("Control+z", "Control+z")
    assert page.piece() == piece


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "p.json: this is not a project of the studio, as it is not JSON"),
        ("{}", "p.json: this is not a project of the studio; it opens those that it has saved, and MIDI files"),
        (
            '{"file":"music-generator-studio project","format":9}',
            "p.json: a later version of the studio has saved this",
        ),
        ('{"file":"music-generator-studio project","format":1,"files":[]}', "p.json: the project is damaged"),
    ],
)
def test_a_wrong_project_gives_one_line(page, piece, text, message):
    page.open(piece)
    page.page.set_input_files("#file", {"name": "p.json", "mimeType": "application/json", "buffer": text.encode()})
    page.until("!document.getElementById('error').hidden")
    assert page.error().startswith(message)
    assert page.piece() == piece


def test_the_piece_before_a_project_stays_among_the_recent_ones(page, piece, tmp_path):
    page.open(piece)
    saved = page.save(lambda: page.click("#save-project"), tmp_path / "first.json")
    page.open(three_notes())
    page.page.fill("#name", "Three notes")
    page.press("Enter")
    page.page.set_input_files("#file", saved)
    page.until("studio.name === 'sketch'")
    page.page.wait_for_timeout(400)  # it is stored
    page.page.reload()
    page.ready()
    assert page.piece() == piece
    other = Page(page.page.context.new_page(), page.page.url)
    other.click("#recent-list button:has-text('Three notes')")
    other.until("studio.name === 'Three notes'")
    assert other.piece() == read_midi(write_midi(three_notes())).performance
    other.press("Control+a", "Delete")
    other.page.wait_for_timeout(400)
    assert stored(other) == ["Three notes", "sketch"], "the same work, not a second one"


STORED = """new Promise((resolve) => {
    const opening = indexedDB.open("music-generator-studio");
    opening.onsuccess = () => {
        const asking = opening.result.transaction("works").objectStore("works").getAll();
        asking.onsuccess = () => { opening.result.close(); resolve(asking.result.map(({ name }) => name).sort()); };
    }; })"""


def stored(page: Page) -> list[str]:
    """Return the names of the works that the browser has stored."""
    return page.page.evaluate(STORED)


def test_an_empty_name_is_none(page, piece):
    page.open(piece)
    page.page.fill("#name", "  ")
    page.press("Enter")
    assert page.page.input_value("#name") == "sketch"
    assert page.now("studio.history.steps.length") == 1


def test_a_third_file_is_named(page, piece, tmp_path):
    paths = [tmp_path / f"{name}.mid" for name in "abc"]
    for path in paths:
        write_midi(piece, path)
    page.page.set_input_files("#file", paths)
    page.until("!document.getElementById('error').hidden")
    assert page.error().endswith("not opened: c.mid")
    assert page.now("studio.name") == "a"
