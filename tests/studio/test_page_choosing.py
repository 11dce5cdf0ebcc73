"""Writing and choosing in the studio's page, in a real Chromium: kept notes, the original, more variations."""

from __future__ import annotations

import pytest
from studio_browser import MARKS, Page, address, browser, outside, page, piece  # noqa: F401

pytestmark = MARKS


def written(page: Page, span: tuple[float, float] = (5, 9), variations: int = 3) -> None:
    page.now(f"studio.setSpan({span[0]}, {span[1]})")
    page.page.fill("#variations", str(variations))
    page.click("#infill")
    page.until("studio.choice && !studio.choice.writing")


def test_nothing_moves_when_the_variations_come(page, piece):
    page.open(piece)
    page.still()
    before = [page.page.locator(each).bounding_box() for each in ("#roll", "#infill", "#play")]
    written(page)
    assert [page.page.locator(each).bounding_box() for each in ("#roll", "#infill", "#play")] == before
    page.press("Escape")
    page.now("studio.select([studio.events[0].id])")
    assert [page.page.locator(each).bounding_box() for each in ("#roll", "#infill", "#play")] == before
    page.drop(b"RIFF", "x.mid")
    page.until("!document.getElementById('error').hidden")
    assert [page.page.locator(each).bounding_box() for each in ("#roll", "#infill", "#play")] == before


def test_the_original_is_compared_and_dots_are_pressed(page, piece):
    page.open(piece)
    written(page)
    page.click("#dots button >> nth=2")
    assert "Variation 3 of 3" in page.page.inner_text("#choice-text")
    third = page.piece()
    page.press("o")
    assert page.piece() == piece
    assert page.page.get_attribute("#compare", "aria-pressed") == "true"
    page.press("Enter")  # the original is not kept by accident
    assert page.now("Boolean(studio.choice)")
    page.press("o")
    assert page.piece() == third
    page.press("Enter")
    assert page.piece() == third


def test_a_variation_is_heard_from_the_start_of_its_span(page, piece):
    page.open(piece)
    written(page)
    page.now("(studio.playhead = 12)")
    page.press("ArrowRight")
    assert page.now("studio.playhead") == 3


def test_more_variations_come_beside_the_old_ones(page, piece):
    page.open(piece)
    page.page.fill("#seed", "11")
    written(page, variations=2)
    first = page.now("studio.choice.variations.map((v) => v.events.length)")
    page.click("#more")
    page.until("studio.choice.variations.length === 4 && !studio.choice.writing")
    assert page.now("studio.choice.variations.map((v) => v.seed)") == [11, 12, 13, 14]
    assert page.now("studio.choice.variations.map((v) => v.events.length)")[:2] == first
    assert page.now("studio.choice.current") == 2
    page.press("Enter")
    assert "seed 13" in page.page.inner_text("#status")
    assert "the history has the other 3" in page.page.inner_text("#status")


def test_a_choice_that_another_task_closes_can_be_opened_again(page, piece):
    page.open(piece)
    written(page, (3, 5))
    others = page.now("studio.choice.variations.map((v) => v.seed)")
    written(page, (8, 10))
    page.press("Escape")
    page.click("#steps .again")
    assert page.now("studio.choice.variations.map((v) => v.seed)") == others
    assert page.now("[studio.choice.start, studio.choice.end]") == [3, 5]
    page.press("Escape")


def test_selected_notes_stay_and_the_rest_is_written(page, piece):
    page.open(piece)
    page.now("studio.setSpan(5, 12)")
    page.page.select_option("#voice", "melody")
    kept = page.now("studio.keptNotes.map((e) => [e.onset, e.duration, e.key, e.velocity])")
    assert len(kept) > 5
    page.press("k")
    page.until("studio.choice && !studio.choice.writing")
    page.press("Enter")
    after = page.now("studio.events.map((e) => [e.onset, e.duration, e.key, e.velocity])")
    assert all(row in after for row in kept)
    assert page.now("studio.events.filter((e) => e.generated).length") > 0
    mine = page.now("studio.events.filter((e) => !e.generated).map((e) => [e.onset, e.duration, e.key, e.velocity])")
    assert all(row in mine for row in kept)
    assert outside(page.piece(), 5, 12) == outside(piece, 5, 12)
    assert page.page.inner_text("#steps [aria-current=step]").startswith("Rewrite 5.0")
    page.click("#export")
    assert page.page.inner_text("#command").startswith("# ")


def test_without_a_span_that_of_the_selection_is_written(page, piece):
    page.open(piece)
    assert page.page.is_disabled("#rewrite")
    page.now("studio.select(studio.events.filter((e) => e.onset > 5 && e.onset < 8).slice(0, 3).map((e) => e.id))")
    assert page.page.is_enabled("#rewrite")
    page.click("#rewrite")
    page.until("studio.choice && !studio.choice.writing")
    assert page.now("studio.choice.kept.length") == 3


def test_density_is_asked_for_and_heard(page, piece):
    counts = []
    page.open(piece)
    page.page.fill("#seed", "5")
    for density in ("20", "3"):
        page.page.fill("#density", density)
        assert page.page.inner_text("#density-value") == f"{density} notes/s"
        written(page, (4, 16), variations=4)
        counts.append(
            page.now("studio.choice.variations.reduce((sum, v) => sum + v.events.filter((e) => e.key > 2).length, 0)")
        )
        page.press("Escape")
    assert counts[0] > 1.5 * counts[1]
    page.click("[data-free=density]")
    assert page.page.inner_text("#density-value") == "as the model likes"


@pytest.mark.parametrize(
    ("seed", "message"),
    [("abc", "Seed: a whole number from 0, not “abc”"), ("9007199254740993", "Seed: at most 9007199254740991")],
)
def test_a_seed_that_cannot_be_kept_is_refused(page, piece, seed, message):
    page.open(piece)
    page.page.fill("#seed", seed)
    page.now("studio.setSpan(5, 6)")
    page.click("#infill")
    page.until("!document.getElementById('error').hidden")
    assert page.error().startswith(message)
    assert page.now("studio.choice") is None
