"""Playing in: a MIDI keyboard, recording, the metronome, traded phrases; a real Chromium with simulated devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from studio_browser import MARKS, Page, address, browser  # noqa: F401

from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance

pytestmark = MARKS

# Web MIDI with one keyboard and one synthesiser; `perform` sends [milliseconds, data] with exact timestamps
FAKE = """
(() => {
  const port = (id, name) => ({ id, name, state: "connected", onmidimessage: null, sent: [],
    send(data, time) { this.sent.push([time, ...data]); } });
  const inputs = new Map([["in", port("in", "Piano")]]), outputs = new Map([["out", port("out", "Synth")]]);
  const access = { inputs, outputs };
  const fake = { access, asked: 0, refuse: false,
    send(data, timeStamp = performance.now()) { access.inputs.get("in").onmidimessage?.({ data, timeStamp }); },
    perform(rows) {
      const begun = performance.now() + 50;
      const sent = rows.map(([at, data]) => new Promise((done) => setTimeout(() => {
        fake.send(data, begun + at);
        done();
      }, 50 + at)));
      return Promise.all(sent).then(() => begun);
    },
    setState(kind, id, state) {
      const changed = access[kind].get(id);
      changed.state = state;
      access.onstatechange?.({ port: changed });
    } };
  window.fake = fake;
  navigator.requestMIDIAccess = async () => {
    fake.asked++;
    if (fake.refuse) throw new DOMException("refused", "NotAllowedError");
    return access;
  };
})();
"""
NO_MIDI = "Object.defineProperty(Navigator.prototype, 'requestMIDIAccess', { value: undefined });"
ON, OFF, CONTROL = 0x90, 0x80, 0xB0
PHRASE = [
    *([at, [ON, key, 70]] for at, key in ((0, 60), (150, 64), (300, 67))),
    *([at, [OFF, key, 64]] for at, key in ((140, 60), (290, 64), (500, 67))),
]


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Page]]:
    """Open windows of the studio with simulated devices; their consoles must stay without errors."""
    pages: list[Page] = []

    def open_page(script: str = FAKE, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce", **options)
        context.add_init_script(script)
        pages.append(Page(context.new_page(), address))
        return pages[-1]

    yield open_page
    for page in pages:
        page.page.context.close()
        assert not page.errors


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """A window whose MIDI devices are on."""
    page = open_page()
    turn_on(page)
    page.until("player.context?.state === 'running' && player.sampler")
    return page


def turn_on(page: Page) -> None:
    page.click("#midi")
    page.page.check("#midi-on")
    page.until("document.getElementById('midi').ariaPressed === 'true'")
    close_dialog(page)


def close_dialog(page: Page) -> None:
    page.press("Escape")
    page.until("document.activeElement.id === 'roll'")  # where the shortcuts are


def send(page: Page, *data: int) -> None:
    page.page.evaluate("(data) => fake.send(data)", list(data))


def perform(page: Page, rows: list[Any]) -> float:
    return page.page.evaluate("(rows) => fake.perform(rows)", rows)


def choose_output(page: Page) -> None:
    page.click("#midi")
    page.page.select_option("#midi-output", "out")
    close_dialog(page)


def sent(page: Page) -> list[list[float]]:
    return page.page.evaluate("fake.access.outputs.get('out').sent")


def a_piece(*onsets: float) -> Performance:
    return Performance(np.array([(onset, 0.4, 60 + i, 70) for i, onset in enumerate(onsets)], NOTE_DTYPE))


# --- devices -----------------------------------------------------------------------------------------------------


def test_the_browser_is_asked_only_when_midi_is_turned_on(open_page):
    page = open_page()
    page.click("#midi")
    assert page.page.evaluate("fake.asked") == 0
    page.page.check("#midi-on")
    page.until("document.getElementById('midi').ariaPressed === 'true'")
    assert page.page.evaluate("fake.asked") == 1
    assert page.page.inner_text("#midi-text") == "Connected: Piano"
    assert page.page.locator("#midi-input option").all_inner_texts() == ["all keyboards", "Piano"]
    assert page.page.locator("#midi-output option").all_inner_texts() == ["this page's piano", "Synth"]
    page.page.uncheck("#midi-on")
    send(page, ON, 60, 90)
    assert page.now("player.held.size") == 0
    assert page.page.get_attribute("#midi", "aria-pressed") == "false"


def test_a_refusal_is_one_line(open_page):
    page = open_page()
    page.page.evaluate("fake.refuse = true")
    page.click("#midi")
    page.page.click("#midi-on")
    page.until("document.getElementById('midi-text').textContent !== ''")
    assert "told not to use MIDI devices" in page.page.inner_text("#midi-text")
    assert not page.page.is_checked("#midi-on")
    page.page.evaluate("fake.refuse = false")
    page.page.check("#midi-on")
    page.until("document.getElementById('midi').ariaPressed === 'true'")


def test_a_browser_without_midi_says_so(open_page):
    page = open_page(NO_MIDI)
    page.click("#midi")
    page.page.click("#midi-on")
    page.until("document.getElementById('midi-text').textContent !== ''")
    assert page.page.inner_text("#midi-text").startswith("this browser has no Web MIDI")


def test_notes_and_half_pedals_are_heard(page):
    send(page, ON, 60, 90)
    send(page, ON, 64, 50)
    assert page.now("[...player.held]") == [60, 64]
    assert page.now("roll.sounding") == [60, 64]
    page.until("[60, 64].every((key) => player.sampler.live.keys.get(key)?.voice.sources.length)")
    assert page.now("player.sampler.live.keys.get(64).voice.velocity") == 50
    send(page, CONTROL, 64, 70)
    assert page.now("player.sampler.live.depth") == pytest.approx(70)
    send(page, OFF, 60, 0)
    send(page, ON, 64, 0)  # as many keyboards say it
    assert page.now("player.held.size") == 0
    left = page.now("player.sampler.live.keys.get(60).voice.end - player.clock")
    assert 0.3 < left < 20  # the half pedal lets it fall slowly
    send(page, CONTROL, 64, 0)
    assert page.now("player.sampler.live.keys.get(60).voice.end - player.clock") < 1
    send(page, CONTROL, 66, 127)
    assert page.now("player.sampler.live.sostenuto")
    send(page, CONTROL, 67, 127)
    assert page.now("player.sampler.live.unaCorda")


def test_an_unplugged_keyboard_leaves_no_key_down(page):
    send(page, ON, 60, 90)
    send(page, CONTROL, 64, 127)
    page.page.evaluate("fake.setState('inputs', 'in', 'disconnected')")
    assert page.now("player.held.size") == 0
    assert page.now("player.sampler.live.depth") == 0
    assert page.page.inner_text("#status") == "Piano was unplugged"
    page.page.evaluate("fake.setState('inputs', 'in', 'connected')")
    send(page, ON, 62, 90)
    assert page.now("[...player.held]") == [62]
    assert page.page.inner_text("#status") == "Piano was connected"


# --- recording ---------------------------------------------------------------------------------------------------


def test_what_is_recorded_has_its_times_velocities_and_pedals(page):
    page.press("r")
    page.until("studio.recording?.origin && player.now > 0.05")
    assert page.page.get_attribute("#record", "aria-pressed") == "true"
    struck = ((0, 60, 40), (200, 64, 80), (400, 67, 120), (900, 72, 64))
    rows = [
        *([at, [ON, key, velocity]] for at, key, velocity in struck),
        *([at, [OFF, key, 64]] for at, key in ((190, 60), (600, 64), (450, 67))),
        *([at, [CONTROL, 64, value]] for at, value in ((100, 40), (120, 90), (150, 110), (700, 50), (710, 0))),
    ]
    script = """async (rows) => { const { studio } = studioPage, begun = await fake.perform(rows);
        const shown = studioPage.roll.extra.length;
        return [studio.recording.secondAt(begun), shown, studioPage.player.now - studio.recording.now]; }"""
    begun, shown, difference = page.page.evaluate(script, rows)
    assert shown >= 4
    assert abs(difference) < 0.08  # the second that is recorded is the one that is heard
    page.page.wait_for_timeout(100)
    page.press("Space")
    assert not page.now("player.playing")
    made = page.piece()
    notes = made.notes
    assert notes["pitch"].tolist() == [60, 64, 67, 72]
    assert notes["velocity"].tolist() == [40, 80, 120, 64]
    assert notes["onset"] - begun == pytest.approx([0, 0.2, 0.4, 0.9], abs=0.015)
    assert notes["duration"][:3] == pytest.approx([0.19, 0.4, 0.05], abs=0.015)
    assert 0.05 < notes["duration"][3] < 2  # it was held at the stop
    [press] = made.pedals
    assert (press["pedal"], press["depth"]) == (0, 110)
    assert press["onset"] - begun == pytest.approx(0.12, abs=0.015)
    assert press["duration"] == pytest.approx(0.58, abs=0.015)
    assert not page.now("studio.events.some((e) => e.generated)")
    assert page.page.inner_text("#steps [aria-current=step]") == "Record 4 notes"
    assert page.page.inner_text("#status") == "Record 4 notes"
    assert page.now("studio.playhead") > 0.9
    page.press("Control+z")
    assert len(page.piece()) == 0
    page.press("Control+Shift+z")
    assert page.piece() == made


def test_recording_along_with_the_piece_and_then_continuing(page):
    page.open(a_piece(0.0, 0.5, 1.0, 1.5))
    page.page.evaluate("studioPage.studio.playhead = 1")
    page.click("#record")
    page.until("studio.recording?.origin")
    perform(page, [[0, [ON, 40, 90]], [200, [OFF, 40, 0]]])
    page.until("player.now > 2.5")  # it goes on after the end of the piece
    perform(page, [[0, [ON, 41, 90]], [200, [OFF, 41, 0]]])
    page.press("Escape")
    first, second = (page.piece().notes[page.piece().notes["pitch"] == key]["onset"][0] for key in (40, 41))
    assert 1 <= first < 2
    assert second > 2.5
    assert len(page.piece().notes) == 6
    page.page.fill("#variations", "1")
    page.page.fill("#seconds", "2")
    page.page.focus("#roll")
    page.press("t")
    page.until("studio.history.steps.length === 3")
    assert page.now("studio.events.some((e) => e.generated)")


def test_a_bar_is_counted_before_recording(page):
    page.click("#metronome")
    assert page.page.inner_text("#status") == "Metronome on"
    page.page.evaluate("""() => { const { player } = studioPage, click = player.click.bind(player);
        window.clicks = [];
        player.click = (time, accented) => { clicks.push([time, accented]); return click(time, accented); }; }""")
    page.press("r")
    page.until("studio.recording?.origin")
    assert page.now("studio.recording.now") == pytest.approx(-2, abs=0.4)  # four quarters at 120
    send(page, ON, 50, 90)  # in the bar that is counted
    send(page, OFF, 50, 0)
    page.until("studio.recording.now > 0.6")
    perform(page, [[0, [ON, 60, 90]], [100, [OFF, 60, 0]]])
    origin = page.now("studio.recording.origin.clock")
    page.press("r")
    clicks = sorted(page.page.evaluate("clicks"))[:6]
    assert [at - origin for at, _ in clicks] == pytest.approx([-2, -1.5, -1, -0.5, 0, 0.5], abs=1e-3)
    assert [accented for _, accented in clicks] == [True, False, False, False, True, False]
    assert page.piece().notes["pitch"].tolist() == [60]
    page.page.reload()
    page.ready()
    assert page.page.get_attribute("#metronome", "aria-pressed") == "true"


def test_the_computers_keyboard_and_the_rolls_keys_are_recorded(page):
    page.click("#keyboard")
    page.press("r")
    page.until("studio.recording?.origin")
    page.page.keyboard.down("a")
    page.page.wait_for_timeout(100)
    page.page.keyboard.up("a")
    box = page.page.locator("#overlay").bounding_box()
    page.page.mouse.click(box["x"] + 20, page.place(0, 65)[1])
    page.press("Escape")
    assert page.piece().notes["pitch"].tolist() == [60, 65]
    assert 0.08 < page.piece().notes["duration"][0] < 1


def test_an_unplugged_keyboard_ends_its_recorded_notes(page):
    page.press("r")
    page.until("studio.recording?.origin")
    held = page.page.evaluate("""async () => {
        const { recording } = studioPage.studio, begun = recording.now;
        fake.send([0x90, 60, 90]);
        await new Promise((resume) => setTimeout(resume, 200));
        fake.setState("inputs", "in", "disconnected");
        return recording.now - begun; }""")
    page.page.wait_for_timeout(500)
    page.press("r")
    assert page.piece().notes["duration"][0] == pytest.approx(held, abs=0.015)


def test_another_piece_ends_the_recording_first(page):
    page.press("r")
    page.until("studio.recording?.origin")
    perform(page, [[0, [ON, 60, 90]], [100, [OFF, 60, 0]]])
    page.open(a_piece(0.0))
    assert not page.now("studio.recording")
    assert page.now("studio.history.steps.map((step) => step.label)") == ["Record 1 note", "Open sketch.mid"]
    assert len(page.piece()) == 1
    page.press("r", "r")
    page.until("!studio.recording")
    assert page.page.inner_text("#status") == "Nothing was recorded"
    assert page.now("studio.history.steps.length") == 2


# --- traded phrases ----------------------------------------------------------------------------------------------


def test_traded_phrases(page):
    page.press("Shift+T")
    assert page.page.get_attribute("#trade", "aria-pressed") == "true"
    perform(page, PHRASE)
    page.until("studio.history.steps.length === 1")
    page.until("roll.extra.some((e) => e.generated && e.onset < player.now)")
    assert page.now("studio.recording.delays.length") == 1
    phrase, answer = page.piece(), page.now("roll.extra.filter((e) => e.generated)")
    assert phrase.notes["pitch"].tolist() == [60, 64, 67]
    assert phrase.notes["onset"] == pytest.approx([0, 0.15, 0.3], abs=0.015)
    first = min(e["onset"] for e in answer if e["key"] > 20)
    rest_end = 1.5  # a second after the last release
    assert first == pytest.approx(rest_end + page.now("studio.recording.delays[0]"), abs=0.1)
    page.until("player.sampler.voices.some((voice) => voice.note && voice.start <= player.clock)")

    send(page, ON, 72, 90)  # the answer stops at once
    cut = page.now("player.now")
    assert page.now("studio.history.steps.length") == 2
    ends = page.now("player.sampler.voices.filter((voice) => voice.note).map((voice) => voice.end - player.clock)")
    assert all(end < 1 for end in ends)
    assert not page.now("player.sampler.voices.some((voice) => voice.note && voice.start > player.clock + 0.1)")
    page.page.wait_for_timeout(100)
    send(page, OFF, 72, 0)
    answered = page.now("studio.events.filter((e) => e.generated)")
    assert answered
    assert max(e["onset"] + e["duration"] for e in answered) < cut + 0.1
    page.until("studio.history.steps.length === 3")  # the second phrase is over
    page.until("roll.extra.some((e) => e.generated)")
    page.press("Shift+T")
    assert not page.now("studio.recording")
    assert not page.now("player.playing")
    labels = page.now("studio.history.steps.map((step) => step.label)")
    assert labels[0] == "Phrase of 3 notes"
    assert labels[1].startswith("Answer of ")
    assert labels[2] == "Phrase of 1 note"
    mine = page.now("studio.events.filter((e) => !e.generated).map((e) => e.key)")
    assert mine == [60, 64, 67, 72]


def test_an_answer_is_recorded_to_its_end(page):
    page.page.fill("#seed", "3")
    page.page.focus("#roll")
    page.press("Shift+T")
    perform(page, PHRASE)
    page.until("studio.history.steps.length === 2")
    assert page.now("studio.recording")  # the player's turn again
    page.press("Escape")
    answered = page.now("studio.events.filter((e) => e.generated && e.key > 20)")
    assert len(answered) > 2
    assert page.now("studio.history.steps.at(-1).detail.seed") == 3
    page.click("#export")
    assert "traded live" in page.page.inner_text("#command")


def test_who_plays_on_gets_no_answer(page):
    page.press("Shift+T")
    strikes = [row for at in (0, 850, 1700) for row in ([at, [ON, 60, 90]], [at + 100, [OFF, 60, 0]])]
    perform(page, strikes)  # rests of 0.75 s: an answer is prepared and dropped
    assert page.now("studio.history.steps.length") == 0
    page.press("Space")
    assert page.page.inner_text("#steps [aria-current=step]") == "Phrase of 3 notes"


def test_phrases_go_on_after_the_piece(page):
    page.open(a_piece(0.0, 0.5, 1.0))
    page.click("#trade")
    perform(page, PHRASE)
    page.press("Escape")
    notes = page.piece().notes
    assert notes["onset"][3:] - notes["onset"][3] == pytest.approx([0, 0.15, 0.3], abs=0.015)
    assert notes["onset"][3] == pytest.approx(2.4, abs=0.02)  # a second after its end


# --- a MIDI output -----------------------------------------------------------------------------------------------


def test_the_piece_goes_to_the_port(page):
    notes = np.array([(0.2, 0.3, 60, 70), (0.5, 0.2, 64, 80), (0.9, 5, 67, 90)], NOTE_DTYPE)
    page.open(Performance(notes, np.array([(0.1, 0.5, 0, 100)], PEDAL_DTYPE)))
    choose_output(page)
    page.press("Space")
    page.until("player.playing && player.now > 1")
    assert page.now("player.sampler.voices.filter((voice) => voice.note).length") == 0
    page.press("Space")
    messages = sent(page)
    begun = next(time for time, status, *_ in messages if status == ON) - 200
    times = [(round(time - begun), *data) for time, *data in messages]
    assert [data for _, *data in times][:7] == [
        [CONTROL, 64, 100], [ON, 60, 70], [OFF, 60, 64], [ON, 64, 80], [CONTROL, 64, 0], [OFF, 64, 64], [ON, 67, 90],
    ]  # fmt: skip
    late = [time - due for (time, *_), due in zip(times, [100, 200, 500, 500, 600, 700, 900], strict=False)]
    assert min(late) > -10
    assert np.median(late) < 10  # single ones may be late on a busy computer
    assert [OFF, 67, 64] in [data for _, *data in times]  # the stop
    assert [CONTROL, 123, 0] in [data for _, *data in times]


def test_an_answer_goes_to_the_port_and_stops_there(page):
    choose_output(page)
    page.press("Shift+T")
    perform(page, PHRASE)
    assert [data[1] for data in sent(page) if data[1] == ON] == [ON] * 3  # what is played sounds there, too
    page.until("roll.extra.some((e) => e.generated && e.onset < player.now)")
    page.until("player.port && fake.access.outputs.get('out').sent.filter((data) => data[1] === 0x90).length > 4")
    send(page, ON, 72, 90)
    page.page.wait_for_timeout(300)
    down: dict[int, int] = {}
    for _, status, key, *_ in sorted(sent(page), key=lambda data: data[0] or 0):
        if status in (ON, OFF):
            down[key] = status
    assert [key for key, status in down.items() if status == ON] == [72]
    page.press("Shift+T")


def test_an_instrument_does_not_get_its_own_notes_back(page):
    page.page.evaluate("fake.access.outputs.get('out').name = 'Piano'")
    choose_output(page)
    send(page, ON, 60, 90)
    send(page, OFF, 60, 0)
    assert sent(page) == []
    assert page.now("player.held.size") == 0


def test_an_unplugged_output_gives_the_sound_back_to_the_page(page):
    choose_output(page)
    assert page.now("player.port?.name") == "Synth"
    page.page.evaluate("fake.setState('outputs', 'out', 'disconnected')")
    assert page.now("player.port") is None
    page.page.evaluate("fake.setState('outputs', 'out', 'connected')")
    assert page.now("player.port?.name") == "Synth"


# --- room --------------------------------------------------------------------------------------------------------


def test_the_transport_has_room_for_all(page):
    assert page.now("document.documentElement.scrollWidth") <= 1280
    boxes = [page.page.locator(f"#{name}").bounding_box() for name in ("record", "metronome", "trade", "midi", "fit")]
    assert len({round(box["y"] + box["height"] / 2) for box in boxes}) == 1
    assert boxes[-1]["x"] + boxes[-1]["width"] <= page.page.locator("#transport").bounding_box()["width"]
    for name in ("Record", "Metronome", "Trade", "MIDI"):
        assert f'button "{name}"' in page.page.locator("#transport").aria_snapshot()


def test_a_phone_does_without(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = Page(context.new_page(), address)
    assert page.now("document.getElementById('transport').scrollWidth") <= 390
    assert page.page.locator("#record, #metronome, #trade, #midi").locator("visible=true").count() == 0
    context.close()
