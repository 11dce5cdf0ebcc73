"""What the page plays, recorded from its own graph: levels, times, loops, edits and pedals, beside the Python grand."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from studio_browser import MARKS, Page, address, browser  # noqa: F401

from conftest import made_performance
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.sound import SoundOptions, render

pytestmark = MARKS

RATE = 44_100
RECORDER = """registerProcessor("recorder", class extends AudioWorkletProcessor {
  constructor() {
    super();
    Object.assign(this, { blocks: [], first: null });
    this.port.onmessage = () => {
      this.port.postMessage({ first: this.first, blocks: this.blocks });
      Object.assign(this, { blocks: [], first: null });
    };
  }
  process([[left, right]]) {
    this.first ??= currentFrame;
    const both = new Float32Array(256);
    for (let i = 0; i < 128; i++) { both[2 * i] = left?.[i] ?? 0; both[2 * i + 1] = (right ?? left)?.[i] ?? 0; }
    this.blocks.push(both);
    return true;
  }
});"""
CONNECT = """async (code) => {
  const { player } = studioPage, module = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  await player.wake();
  await player.prepare();
  await player.context.audioWorklet.addModule(module);
  window.tap = new AudioWorkletNode(player.context, "recorder");
  player.output.connect(tap);
}"""
TAKE = """async () => {
  const { data } = await new Promise((resolve) => { tap.port.onmessage = resolve; tap.port.postMessage(0); });
  const all = new Float32Array(256 * data.blocks.length);
  data.blocks.forEach((block, i) => all.set(block, 256 * i));
  const bytes = new Uint8Array(all.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return [data.first ?? 0, btoa(text)];
}"""


class Recording:
    """What the page played: frames of shape (n, 2), and the audio clock's second of the first one."""

    def __init__(self, first: int, samples: Any) -> None:
        self.start, self.samples = first / RATE, samples

    def span(self, clock: float, seconds: float) -> Any:
        first = round((clock - self.start) * RATE)
        assert first >= 0
        assert first + seconds * RATE <= len(self.samples)
        return self.samples[first : first + round(seconds * RATE)]


class SoundPage(Page):
    """A window of the studio whose sound is recorded before the volume."""

    def connect(self) -> None:
        self.page.mouse.click(640, 5)  # a gesture, which the browser wants before sound
        self.page.evaluate(CONNECT, RECORDER)

    def open(self, piece: Performance) -> None:
        """Open a piece, and wait for its recordings: until then a neighbouring layer stands in."""
        super().open(piece)
        self.page.evaluate("() => studioPage.player.prepare(studioPage.studio.events)")

    def do(self, script: str) -> None:
        self.page.evaluate(f"(() => {{ const {{ studio, player, roll }} = studioPage; {script}; }})()")

    def listen(self) -> None:
        """Forget what was recorded so far."""
        self.page.evaluate(TAKE)

    def take(self) -> Recording:
        first, data = self.page.evaluate(TAKE)
        return Recording(first, np.frombuffer(base64.b64decode(data), np.float32).reshape(-1, 2))

    def until_clock(self, clock: float) -> None:
        self.page.wait_for_timeout(max(0.0, 1000 * (clock - self.now("player.clock"))))
        self.until(f"player.clock > {clock}")

    def play(self, at: float, loop: str = "null") -> float:
        """Play the piece; return the audio clock's second at which second `at` sounds."""
        self.do(f"player.play(studio.events, {at}, studio.end, {loop})")
        self.until("player.playing && !player.waiting")
        return float(self.now(f"player.clockAt({at})"))

    def played(self, at: float, seconds: float) -> Any:
        """Play the piece from second `at` for some seconds; return its sound."""
        self.listen()
        clock = self.play(at)
        self.until_clock(clock + seconds + 0.1)
        sound = self.take().span(clock, seconds)
        self.do("player.stop()")
        return sound


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[SoundPage]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 800},
        reduced_motion="reduce",
        bypass_csp=True,  # for the recorder's code
    )
    page = SoundPage(context.new_page(), address)
    page.connect()
    yield page
    context.close()
    assert not page.errors


Events = list[tuple[float, float, int, int]]


def piece_of(notes: Events, pedals: Events | None = None) -> Performance:
    return Performance(np.array(notes, NOTE_DTYPE), np.array(pedals or [], PEDAL_DTYPE))


def decibels(sound: Any) -> float:
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-20))


def exported(piece: Performance) -> Any:
    return render(piece, SoundOptions(RATE, normalise="none")).samples


# --- the levels of the export ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 3.3])  # from the beginning, and from the middle of notes under the pedal
def test_the_page_is_as_loud_as_the_export(page, at):
    whole = read_midi(write_midi(made_performance(3, 90))).performance
    page.open(whole)
    heard, wanted = page.played(at, 6), exported(whole)[round(at * RATE) :]
    for second in range(6):
        span = slice(second * RATE, (second + 1) * RATE)
        assert decibels(heard[span]) == pytest.approx(decibels(wanted[span]), abs=0.5)


def test_half_pedals_una_corda_and_sostenuto_are_those_of_the_export(page):
    notes = [(0.0, 0.3, 48, 80), (1.0, 0.4, 52, 60), (2.0, 1.0, 55, 70), (3.2, 0.2, 60, 90), (3.5, 0.2, 60, 40)]
    pedals = [(0.2, 0.7, 0, 64), (0.9, 0.8, 2, 127), (2.5, 2.0, 1, 127)]
    whole = piece_of(notes, pedals)
    page.open(whole)
    heard, wanted = page.played(0, 4.5), exported(whole)
    for half in range(9):
        span = slice(half * RATE // 2, (half + 1) * RATE // 2)
        assert decibels(heard[span]) == pytest.approx(decibels(wanted[span]), abs=0.5)


def test_a_soft_passage_is_as_soft_after_a_loud_one(page):
    soft = [(3.0, 0.8, 60, 25), (3.0, 0.8, 64, 22), (3.4, 0.4, 67, 30)]
    loud = [(0.0, 0.4, key, 120) for key in (36, 48, 55, 60, 64, 67)]
    page.open(piece_of(soft))
    alone = page.played(3, 0.8)
    page.open(piece_of(loud + soft))
    after = page.played(0, 3.8)
    assert decibels(after[3 * RATE :]) == pytest.approx(decibels(alone), abs=0.1)
    assert decibels(after[: RATE // 2]) > decibels(alone) + 25


# --- time --------------------------------------------------------------------------------------------------------


def test_a_loop_repeats_exactly(page):
    page.open(piece_of([(0.0, 2.0, 40, 70), (0.5, 0.1, 76, 100), (0.7, 0.1, 60, 90), (2.0, 1.0, 50, 60)]))
    page.listen()
    clock = page.play(0.4, "[0.4, 1]")
    page.until_clock(clock + 6.2)
    recording = page.take()
    assert 0.4 <= page.now("player.now") <= 1
    page.do("player.stop()")
    second, *others = (recording.span(clock + 0.6 * turn, 0.6) for turn in range(1, 10))
    for other in others:  # also what rings over from the repeat before it
        assert np.abs(other - second).max() < 0.05 * np.abs(second).max()
        lags = np.correlate(other[:, 0], second[441:-441, 0])
        assert abs(int(lags.argmax()) - 441) <= 44  # a millisecond


def test_a_loop_is_moved_while_it_plays(page):
    page.open(piece_of([(0.0, 0.2, 60, 90), (1.0, 0.2, 72, 90), (2.0, 0.2, 84, 90)]))
    page.do("studio.setSpan(0, 1)")
    page.press("l", "Space")
    page.until("player.playing && player.now > 0.5")
    page.do("studio.setSpan(1, 2)")
    page.until("player.now > 1.2")
    page.until("player.now < 1.2")
    page.press("l")
    page.until("!player.playing")  # without a loop it comes to the end


def test_what_is_edited_sounds_at_its_time_while_it_plays(page):
    page.open(piece_of([(0.0, 3.0, 60, 60), (1.5, 0.2, 84, 110), (2.5, 0.2, 84, 110)]))
    page.listen()
    clock = page.play(0)
    page.until_clock(clock + 0.6)
    page.do("studio.select([studio.events.find((e) => e.key === 84).id]); studio.editor.move(0.5, -12)")
    assert page.now("player.playing && player.score.onsets.includes(2)")
    page.until_clock(clock + 3)
    recording, wanted = page.take(), exported(piece_of([(0.0, 3.0, 60, 60), (2.0, 0.2, 72, 110), (2.5, 0.2, 84, 110)]))
    heard = recording.span(clock, 3)
    for quarter in range(12):  # the held note is not struck again, the moved one sounds at its new place
        span = slice(quarter * RATE // 4, (quarter + 1) * RATE // 4)
        assert decibels(heard[span]) == pytest.approx(decibels(wanted[span]), abs=0.5)


def test_a_deleted_note_is_damped_and_nothing_clicks(page):
    page.open(piece_of([(0.0, 3.0, 48, 100), (2.5, 0.1, 60, 20)]))
    page.listen()
    clock = page.play(0)
    page.until_clock(clock + 0.6)
    page.do("studio.select([studio.events[0].id]); studio.editor.erase()")
    page.until_clock(clock + 1.5)
    heard = page.take().span(clock, 1.5)
    assert decibels(heard[round(1.2 * RATE) :]) < decibels(heard[: round(0.6 * RATE)]) - 40
    late = np.abs(np.diff(heard[RATE // 2 :], axis=0)).max()
    assert late < np.abs(np.diff(heard[: RATE // 2], axis=0)).max()


def test_a_stop_lets_the_dampers_fall_without_a_click(page):
    page.open(piece_of([(0.0, 3.0, 48, 100)]))
    page.listen()
    clock = page.play(0)
    page.until_clock(clock + 0.8)
    page.press("Space")
    stopped = page.now("player.clock")
    page.until_clock(stopped + 0.7)
    heard = page.take().span(clock, stopped + 0.6 - clock)
    assert decibels(heard[-RATE // 10 :]) < decibels(heard[RATE // 2 : round(0.7 * RATE)]) - 40
    assert np.abs(np.diff(heard[RATE // 2 :], axis=0)).max() < np.abs(np.diff(heard[: RATE // 2], axis=0)).max()


# --- live --------------------------------------------------------------------------------------------------------


def key_place(page: SoundPage, key: int, share: float = 0.5) -> tuple[float, float]:
    box = page.page.locator("#overlay").bounding_box()
    return box["x"] + share * page.now("roll.view.left"), page.place(0, key)[1]


def test_a_key_sounds_at_once_when_it_is_clicked(page):
    page.do("window.downs = []; addEventListener('pointerdown', () => downs.push(player.clock), true)")
    page.listen()
    page.page.mouse.move(*key_place(page, 72))
    for _ in range(10):
        page.page.mouse.down()
        page.page.wait_for_timeout(60)
        assert page.now("[...player.held]") == [72]
        page.page.mouse.up()
        page.page.wait_for_timeout(900)  # until it is silent
    assert not page.now("player.held.size")
    recording, waits = page.take(), []
    for down in page.now("downs"):
        first = round((down - recording.start) * RATE)
        before, after = np.split(np.abs(recording.samples[max(first - 2000, 0) :, 0]), [min(first, 2000)])
        waits.append(int((after > 4 * before.max(initial=0) + 1e-6).argmax()) / RATE)
    assert len(waits) == 10
    assert np.median(waits) <= 0.02


def test_a_glide_plays_the_keys_and_the_place_is_the_velocity(page):
    page.page.mouse.move(*key_place(page, 60, 0.9))
    page.page.mouse.down()
    [loud] = page.now("player.sampler.voices.map((voice) => voice.velocity)")
    page.page.mouse.move(*key_place(page, 62, 0.2))
    assert page.now("[...player.held]") == [62]
    assert page.now("roll.sounding") == [62]
    assert page.now("player.sampler.voices.at(-1).velocity") < loud - 40
    page.page.mouse.up()
    assert page.now("[...player.held, ...roll.sounding]") == []
    assert page.now("roll.view.t0") == 0  # nothing was scrolled


def test_a_clicked_note_sounds_by_its_velocity(page):
    page.open(piece_of([(1.0, 2.0, 60, 33), (3.5, 0.5, 64, 100)]))
    page.still()
    page.page.mouse.click(*page.place(2, 60))
    [voice] = page.now("player.sampler.voices.map(({ key, velocity }) => [key, velocity])")
    assert voice == [60, 33]
    page.page.wait_for_timeout(1200)
    page.do("player.sampler.forget()")
    assert page.now("player.sampler.voices.length") == 0


def test_the_pedal_holds_what_is_played(page):
    page.listen()
    page.do("player.strike(40, 90)")
    start = page.now("player.clock")
    page.until_clock(start + 0.3)
    page.do("player.pedal(0, 1); player.release(40)")
    page.until_clock(start + 1.2)
    page.do("player.pedal(0, 0)")
    up = page.now("player.clock")
    page.until_clock(up + 0.6)
    recording = page.take()
    held, after = recording.span(up - 0.2, 0.2), recording.span(up + 0.4, 0.2)
    assert decibels(held) > decibels(recording.span(start + 0.1, 0.2)) - 12
    assert decibels(after) < decibels(held) - 30


def test_the_computer_s_keyboard_plays_when_it_is_told_to(page):
    page.press("a")
    assert not page.now("player.sampler.voices.length")
    page.click("#keyboard")
    page.page.keyboard.down("a")
    page.page.keyboard.down("g")
    assert page.now("[...player.held]") == [60, 67]
    page.page.keyboard.up("a")
    page.press("x")
    page.page.keyboard.up("g")
    page.page.keyboard.down("k")
    assert page.now("[...player.held]") == [84]
    page.page.keyboard.up("k")
    assert not page.now("player.held.size || studio.choice")
    assert "C5" in page.page.inner_text("#status")
    page.page.fill("#seed", "")
    page.page.locator("#composer").focus()
    page.press("a")  # a field keeps its letters
    assert not page.now("player.held.size")
    page.page.reload()
    page.ready()
    assert page.page.get_attribute("#keyboard", "aria-pressed") == "true"


def test_the_volume_is_stored(page):
    page.page.fill("#volume", "20")
    assert page.now("player.level") == 0.2
    page.page.reload()
    page.ready()
    assert page.now("player.level") == 0.2


def test_voices_are_bounded(page):
    rng = np.random.default_rng(0)
    notes = [(float(t), 0.1, int(rng.integers(21, 109)), 80) for t in np.sort(rng.uniform(0, 2, 400))]
    page.open(piece_of(notes, [(0.0, 4.0, 0, 127)]))
    clock = page.play(0)
    page.until_clock(clock + 1.9)
    assert (
        page.now(
            "player.sampler.voices.filter(({ start, end }) => start <= player.clock && end > player.clock + 0.2).length"
        )
        <= 128
    )


def test_clicks_and_other_tracks_sound_at_their_times(page):
    page.open(piece_of([(0.0, 2.0, 40, 1)]))
    page.do("player.beats = [{ onset: 0.5, accented: false }, { onset: 1, accented: true }]")
    page.do("player.others = [{ onset: 1.3, duration: 0.2, key: 69, velocity: 80, program: 40, isDrum: false }]")
    page.listen()
    clock = page.play(0)
    page.until_clock(clock + 1.9)
    recording = page.take()
    for second, wait in ((0.5, 0.001), (1.0, 0.001), (1.3, 0.01)):
        before, after = recording.span(clock + second - 0.1, 0.1), recording.span(clock + second, 0.1)
        loud = np.abs(after).max(axis=1) > 0.1 * np.abs(after).max()
        assert np.abs(before).max() < 0.1 * np.abs(after).max()
        assert loud.argmax() <= wait * RATE
