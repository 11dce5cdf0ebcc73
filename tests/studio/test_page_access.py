"""The page by keyboard and for screen readers: what axe finds, the order of Tab, the focus, announcements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_browser import MARKS, Page, address, browser, page, piece  # noqa: F401
from test_page_midi import FAKE, turn_on
from test_page_tracks import opened

from music_generator.music.performance import Performance

pytestmark = MARKS

AXE = Path(__file__).parents[1] / "js/node_modules/axe-core/axe.min.js"
FOUND = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
    .filter((each) => ["serious", "critical"].includes(each.impact))
    .flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.target} ${node.failureSummary}`))"""
FOCUSABLE = """[...document.querySelectorAll("button, input, select, [tabindex='0']")]
    .filter((e) => !e.disabled && e.checkVisibility({ visibilityProperty: true }) && !e.closest("dialog"))"""
FOCUSED = "document.activeElement.id"


def chosen(page: Page) -> None:
    """Write variations of a span to choose from."""
    page.now("studio.setSpan(5, 7)")
    page.page.fill("#variations", "2")
    page.click("#infill")
    page.until("studio.choice && !studio.choice.writing")


def states(page: Page, piece: Performance, band: Path) -> Iterator[str]:
    """Bring the page into each of its states; yield their names."""
    yield "empty"
    page.open(piece)
    yield "a piece"
    page.page.select_option("#units", "beats")
    page.press("Control+a")
    yield "all selected"
    for button, box in (("help", "help-box"), ("export", "export-box"), ("tempo", "tempo-box")):
        page.click(f"#{button}")
        yield box
        page.press("Escape")
    chosen(page)
    yield "variations"
    page.press("o")
    yield "the original"
    page.press("o", "Enter")
    page.drop(b"no MIDI", "notes.mid")
    page.until("!document.getElementById('error').hidden")
    yield "an error"
    page.click("#dismiss")
    opened(page, band)
    yield "tracks"
    if page.page.locator("#midi").is_visible():  # not on a phone
        page.click("#midi")
        yield "midi-box"
        page.press("Escape")
        turn_on(page)
        page.press("r")
        page.until("studio.recording !== null")
        yield "recording"
        page.press("Escape")
    page.page.reload()
    page.page.wait_for_timeout(400)  # it is stored
    page.page.evaluate("sessionStorage.clear()")  # a new window, which shows the recent ones
    page.page.reload()
    page.ready()
    page.page.wait_for_selector("#recent-list button")
    yield "recent"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, address, piece, tmp_path, scheme, width):
    if not AXE.exists():
        pytest.skip("axe-core is not here: `make page-tools`, which needs npm")
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce", has_touch=width < 760
    )
    context.add_init_script(path=AXE)
    context.add_init_script(FAKE)
    page = Page(context.new_page(), address)
    reached = states(page, piece, tmp_path / "band.mid")
    found = {name: violations for name in reached if (violations := page.page.evaluate(FOUND))}
    context.close()
    assert found == {}


# --- the keyboard ------------------------------------------------------------------------------------------------


def tabbed(page: Page) -> list[int]:
    """Press Tab from the first element on; return the numbers of the elements as the focus comes to them."""
    page.page.evaluate(f"() => {{ window.focusable = {FOCUSABLE}; focusable[0].focus(); }}")
    places: list[int] = []
    while (place := page.now("focusable.indexOf(document.activeElement)")) >= 0 and place not in places:
        places.append(place)
        page.press("Tab")
    return places


@pytest.mark.parametrize("prepare", [lambda _: None, chosen], ids=["a piece", "variations"])
def test_tab_goes_through_everything_from_top_to_bottom(
    page: Page, piece: Performance, prepare: Callable[[Page], None]
):
    page.open(piece)
    prepare(page)
    page.press("Control+a")
    assert tabbed(page) == list(range(page.now("focusable.length")))
    groups = page.now("focusable.map((each) => each.closest('header, #bar, #roll, #transport, aside').id)")
    assert list(dict.fromkeys(groups)) == ["", "bar", "roll", "transport"]  # header and aside have no id
    assert groups.index("bar") > 0
    assert groups[-1] == ""


def test_the_focus_is_seen(page, piece):
    page.open(piece)
    page.press("Control+a")
    page.page.evaluate("() => document.activeElement.blur()")
    for _ in range(80):
        page.press("Tab")
        outline = page.now(
            "(({ outlineStyle: a, outlineWidth: b }) => [a, b])(getComputedStyle(document.activeElement))"
        )
        if page.now("document.activeElement === document.body"):
            break
        assert outline == ["solid", "2px"], page.now("document.activeElement.outerHTML")


@pytest.mark.parametrize(("button", "box"), [("help", "help-box"), ("export", "export-box"), ("tempo", "tempo-box")])
def test_a_dialog_gives_the_focus_back(page, piece, button, box):
    page.open(piece)
    page.page.focus(f"#{button}")
    page.press("Enter")
    page.until(f"document.getElementById('{box}').open")
    assert page.now(f"document.getElementById('{box}').contains(document.activeElement)")
    page.press("Escape")
    assert not page.page.locator(f"#{box}").is_visible()
    assert page.now(FOCUSED) == button


def test_the_help_opened_by_its_key_gives_the_focus_back(page, piece):
    page.open(piece)
    page.page.focus("#roll")
    page.press("?")
    assert page.page.locator("#help-box").is_visible()
    page.press("Escape")
    assert page.now(FOCUSED) == "roll"


@pytest.mark.parametrize("end", ["keep", "discard"])
def test_the_focus_returns_to_the_roll_after_a_choice(page, piece, end):
    page.open(piece)
    chosen(page)
    assert page.now(FOCUSED) == "roll"
    page.page.focus(f"#{end}")
    page.press("Enter")
    page.until("!studio.choice")
    assert page.now(FOCUSED) == "roll"


def test_a_click_leaves_the_shortcuts_to_the_roll(page, piece):
    page.open(piece)
    for button in ("undo", "zoom-in", "loop", "theme"):
        page.click(f"#{button}")
        assert page.now(FOCUSED) == "roll"


def test_after_a_slider_the_space_bar_plays(page, piece):
    page.open(piece)
    page.click("#temperature")
    page.press(" ")
    page.until("player.playing")


def test_after_a_choice_by_the_mouse_the_shortcuts_work(page, piece):
    page.open(piece)
    page.click("#units")
    page.page.select_option("#units", "beats")
    assert page.page.evaluate(FOCUSED) == "roll"
    page.press("Shift+Tab")  # by the keyboard the focus stays
    page.page.focus("#grid")
    page.press("ArrowDown")
    assert page.page.evaluate(FOCUSED) == "grid"


def test_a_piece_is_written_kept_played_and_changed_without_a_mouse(page):
    for field, text in (("#seconds", "8"), ("#seed", "7")):
        page.page.focus(field)
        page.page.keyboard.type(text)
    page.page.focus("#variations")
    page.press("Home", "ArrowRight")
    page.page.focus("#empty-compose")
    page.press("Enter")
    page.until("studio.choice && !studio.choice.writing")
    assert page.now("studio.choice.variations.length") == 2
    page.press("ArrowRight", "Enter")
    page.until("!studio.choice")
    notes = page.now("studio.events.length")
    page.press("Home", ".", ".", "ArrowUp", "Alt+ArrowUp", "Delete")
    assert page.now("studio.events.length") == notes - 1
    page.press("Home", "[", "ArrowRight", "ArrowRight", "]")
    assert page.now("studio.span") == [0, 2]


# --- screen readers ----------------------------------------------------------------------------------------------


def test_the_roll_describes_itself(page, piece):
    page.open(piece)
    page.now("studio.setSpan(5, 8)")
    roll = page.page.locator("#roll")
    assert roll.get_attribute("role") == "application"
    assert roll.get_attribute("aria-roledescription") == "piano roll"
    described = page.page.inner_text(f"#{roll.get_attribute('aria-describedby')}")
    inside = ((piece.notes["onset"] >= 5) & (piece.notes["onset"] < 8)).sum()
    assert f"{len(piece.notes)} notes" in described
    assert f"Selected span: 5.00 to 8.00 seconds, {inside} notes." in described


def test_notes_and_changes_are_announced(page, piece):
    page.open(piece)
    status = page.page.locator("#status")
    assert status.get_attribute("role") == "status"
    page.press("Home", ".")
    first = page.now("studio.describe(studio.selectedEvents[0])")
    assert status.inner_text() == first
    page.press("Delete")
    assert status.inner_text() == "Delete 1 note"
    page.press("Control+z")
    assert status.inner_text() == "Undone: Delete 1 note"
    chosen(page)
    assert status.inner_text() == "2 variations: choose one and keep it"
    page.press("ArrowRight")
    assert status.inner_text().startswith("Variation 2 of 2, ")


def test_an_error_is_an_alert(page, piece):
    page.open(piece)
    page.drop(b"no MIDI", "notes.mid")
    page.until("!document.getElementById('error').hidden")
    assert page.page.get_attribute("#error", "role") == "alert"
    assert page.error().startswith("notes.mid: ")
    page.page.focus("#dismiss")
    page.press("Enter")
    assert page.error() == ""


def test_buttons_that_are_on_say_so(page: Any, piece):
    page.open(piece)
    for button, name in (("loop", "aria-pressed"), ("keyboard", "aria-pressed")):
        before = page.page.get_attribute(f"#{button}", name)
        page.page.focus(f"#{button}")
        page.press("Enter")
        assert {before, page.page.get_attribute(f"#{button}", name)} == {"true", "false"}
