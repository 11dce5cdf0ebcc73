"""Measure the studio in a real Chromium: start, first notes, all variations, frames with a long piece.

    python benchmarks/studio.py [--runs 20] [--json FILE]

Needs the extra `studio`, playwright, and Chromium (the system's, or one named in CHROMIUM). Medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def made(seconds: float, notes: int) -> Performance:
    """Make a piece of `notes` notes, chords and runs over the whole keyboard, with pedals."""
    rng = np.random.default_rng(0)
    events = np.empty(notes, NOTE_DTYPE)
    events["onset"] = np.round(np.sort(rng.uniform(0, seconds, notes)), 2)
    events["duration"] = np.clip(rng.lognormal(-1.4, 0.8, notes), 0.03, 6)
    events["pitch"] = np.clip(rng.normal(64, 14, notes), 21, 108).astype(int)
    events["velocity"] = np.clip(rng.normal(64, 18, notes), 1, 127).astype(int)
    presses = np.arange(0.2, seconds - 2, 1.6)
    pedals = np.array([(onset, 1.2, 0, 100) for onset in presses], PEDAL_DTYPE)
    return Performance(events, pedals)


@contextmanager
def serving() -> Iterator[tuple[str, float]]:
    """Run a studio; yield its address and the time of its start."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "music_generator", "studio", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), begun
        finally:
            process.terminate()


def opened(page: Any, piece: Performance, folder: Path) -> float:
    """Open a piece as a file; return the seconds until it is drawn."""
    path = folder / "piece.mid"
    write_midi(piece, path)
    steps = page.evaluate("studioPage.studio.history.steps.length")
    begun = time.perf_counter()
    page.set_input_files("#file", path)
    until(page, f"studioPage.studio.history.steps.length > {steps} && studioPage.roll.frame === null")
    return time.perf_counter() - begun


def until(page: Any, script: str) -> None:
    end = time.monotonic() + 60
    while not page.evaluate(script):
        if time.monotonic() > end:
            raise TimeoutError(script)
        page.wait_for_timeout(10)


# measured in the page: milliseconds from the click to the frame with the first new notes, and to the last message
INFILL = """() => new Promise((resolve) => {
  const { roll, studio } = studioPage, begun = performance.now();
  let first = 0;
  document.getElementById("infill").click();
  const look = () => {
    const shown = roll.extra.length || studio.choice?.variations.some((each) => each.done);
    if (!first && shown && !roll.stale.size) first = performance.now() - begun;
    const now = performance.now() - begun;
    if (studio.choice && !studio.choice.writing) { resolve([first || now, now]); return; }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""

# scroll or zoom for three seconds; frames per second and the longest frame in milliseconds
FRAMES = """(kind) => new Promise((resolve) => {
  const { roll } = studioPage, begun = performance.now(), from = roll.frames;
  let last = begun, longest = 0;
  const step = (now) => {
    longest = Math.max(longest, now - last);
    last = now;
    const t = (now - begun) / 1000;
    if (t > 3) { resolve([(roll.frames - from) / t, longest]); return; }
    if (kind === "scroll") roll.scroll(40 * Math.cos(t * 2) + 8);
    else roll.zoom(Math.cos(t * 2.1) > 0 ? 1.08 : 1 / 1.08, roll.view.left + 300);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""


# a MIDI keyboard, simulated
KEYBOARD = """(() => {
  const input = { id: "in", name: "Piano", state: "connected" };
  navigator.requestMIDIAccess = async () => ({ inputs: new Map([["in", input]]), outputs: new Map() });
  window.send = (...data) => input.onmidimessage({ data, timeStamp: performance.now() });
})()"""


def answer_delays(browser: Any, address: str, runs: int) -> list[float]:
    """Trade phrases; return the seconds from the end of each rest to the answer's first note, on the audio clock."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(KEYBOARD)
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.click("#midi")
    page.check("#midi-on")
    page.keyboard.press("Escape")
    until(page, "studioPage.player.sampler !== null")
    page.keyboard.press("Shift+T")
    for number in range(runs):
        for key in (60, 64, 67, 72):
            page.evaluate(f"send(0x90, {key}, 70)")
            page.wait_for_timeout(150)
            page.evaluate(f"send(0x80, {key}, 0)")
        until(page, f"studioPage.studio.recording.delays.length > {number}")
        page.wait_for_timeout(800)  # the answer is interrupted
    delays: list[float] = page.evaluate("studioPage.studio.recording.delays")
    page.close()
    return delays


def frames(page: Any) -> dict[str, float]:
    """Scroll and zoom, with more and less of the piece in sight; return the figures of the frames."""
    figures: dict[str, float] = {}
    for kind in ("scroll", "zoom"):
        for where, factor in (("whole piece in sight", None), ("10 s in sight", 100), ("2 min in sight", 8)):
            page.evaluate("studioPage.roll.fit(null, true)")
            if factor:
                page.evaluate(f"studioPage.roll.zoom({factor}, 300, true)")
            page.wait_for_timeout(300)
            rate, longest = page.evaluate(FRAMES, kind)
            figures[f"{kind}, {where}: frames/s"] = rate
            figures[f"{kind}, {where}: longest frame, ms"] = longest
    return figures


def measure(runs: int) -> dict[str, float]:
    """Return all figures, in milliseconds or frames per second."""
    figures: dict[str, float] = {}
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as name:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"])
        starts = []
        for _ in range(5):
            with serving() as (address, begun):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.goto(address)
                page.wait_for_selector("html[data-ready]")
                starts.append(1000 * (time.perf_counter() - begun))
                page.close()
        figures["start to the page usable, ms"] = median(starts)
        with serving() as (address, _):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            page.wait_for_selector("html[data-ready]")
            opened(page, made(60, 600), Path(name))
            page.evaluate("studioPage.studio.setSpan(20, 28)")
            page.fill("#variations", "4")
            timings = []
            for _ in range(runs):
                page.wait_for_timeout(300)
                timings.append(page.evaluate(INFILL))
                page.keyboard.press("Escape")
            figures["click to the first notes drawn, ms"] = median(first for first, _ in timings)
            figures["click to all 4 variations, ms"] = median(last for _, last in timings)
            figures["20 minutes, 20,000 notes: opened, ms"] = 1000 * opened(page, made(1200, 20_000), Path(name))
            figures |= frames(page)
            page.evaluate("studioPage.studio.setSpan(600, 608)")
            timings = []
            for _ in range(max(3, runs // 4)):
                page.wait_for_timeout(300)
                timings.append(page.evaluate(INFILL))
                page.keyboard.press("Escape")
            figures["click to the first notes drawn, in the middle of it, ms"] = median(first for first, _ in timings)
            begun = time.perf_counter()
            page.evaluate("studioPage.studio.playhead = 600")
            page.keyboard.press("Space")
            until(page, "studioPage.player.playing && !studioPage.player.waiting")
            figures["space to sound, in the middle of it, ms"] = 1000 * (time.perf_counter() - begun)
            figures |= {f"while it plays, {name}": figure for name, figure in frames(page).items()}
            delays = answer_delays(browser, address, runs)
            figures["traded phrase: end of the rest to the answer's first note, ms"] = 1000 * median(delays)
            figures["the longest of them, ms"] = 1000 * max(delays)
        browser.close()
    return figures


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = measure(arguments.runs)
    print("| what | measured |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value:.0f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
