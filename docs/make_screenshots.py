"""Take the studio's pictures in docs/: `python docs/make_screenshots.py`, with Chromium and the extra `dev`.

One of them moves, `studio-infill.webp`: an infill as it is written, slowed down, as it takes a tenth of a second.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from music_generator.studio.api import EXAMPLE

DOCS = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
DESKTOP = {"viewport": {"width": 1180, "height": 740}}
MOVING = {"viewport": {"width": 1140, "height": 640}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

# the page gets a line of what is written when `linesAllowed` counts one
HOLD_BACK = """(() => {
  const get = window.fetch;
  window.linesAllowed = 0;
  const allowed = async () => {
    while (!window.linesAllowed) await new Promise((resume) => setTimeout(resume, 5));
    window.linesAllowed--;
  };
  const transform = async (text, out) => {
    for (const line of text.split(/(?<=\\n)/)) { await allowed(); out.enqueue(line); }
  };
  window.fetch = async (address, options) => {
    const response = await get(address, options);
    if (address !== "api/write") return response;
    const slow = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new TransformStream({ transform }));
    return new Response(slow.pipeThrough(new TextEncoderStream()), response);
  };
})()"""


def until(page: Any, script: str) -> None:
    end = time.monotonic() + 60
    while not page.evaluate(script):
        if time.monotonic() > end:
            raise TimeoutError(script)
        page.wait_for_timeout(20)


def shoot(page: Any, name: str, after: int = 3200) -> None:
    page.evaluate("document.querySelector('aside').scrollTop = 0")
    page.wait_for_timeout(after)  # until the status message has faded
    page.screenshot(path=DOCS / f"studio-{name}.png")


def empty(browser: Any, address: str, **context: Any) -> Any:
    """Open the page without a piece."""
    page = browser.new_context(**context).new_page()
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    return page


def opened(browser: Any, address: str, **context: Any) -> Any:
    """Open the example as a MIDI file and infill eight seconds of it, up to the choice of a variation."""
    page = empty(browser, address, **context)
    page.set_input_files("#file", EXAMPLE)
    until(page, "studioPage.studio.history.steps.length === 1")
    page.fill("#seed", "12")
    page.evaluate("studioPage.studio.setSpan(12, 20)")
    page.evaluate("document.getElementById('infill').click()")
    until(page, "studioPage.studio.choice && !studioPage.studio.choice.writing")
    return page


def animate(browser: Any, address: str) -> None:
    """Take the moving picture: a span is selected and infilled, variations are compared, one is played and kept."""
    page = browser.new_context(color_scheme="light", **MOVING).new_page()
    page.add_init_script(HOLD_BACK)
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.set_input_files("#file", EXAMPLE)
    until(page, "studioPage.studio.history.steps.length === 1")
    page.fill("#seed", "5")
    page.wait_for_timeout(3200)  # until the status message has faded
    frames: list[tuple[bytes, int]] = []

    def frame(milliseconds: int) -> None:
        page.evaluate("document.querySelector('aside').scrollTop = 0")
        frames.append((page.screenshot(), milliseconds))

    frame(700)
    for end in range(13, 21):
        page.evaluate(f"studioPage.studio.setSpan(12, {end})")
        frame(450 if end == 20 else 50)
    page.evaluate("document.getElementById('infill').click()")
    while not page.evaluate("studioPage.studio.choice && !studioPage.studio.choice.writing"):
        page.evaluate("window.linesAllowed = studioPage.studio.choice?.variations[0]?.done ? 24 : 7")
        until(page, "!window.linesAllowed || !studioPage.studio.choice?.writing")
        frame(80)
    for _ in range(3):
        frame(550)
        page.keyboard.press("ArrowRight")
    frame(450)
    page.keyboard.press("Space")
    for _ in range(10):
        page.wait_for_timeout(400)
        frame(100)
    page.keyboard.press("Enter")
    frame(1100)
    save_animation(frames, DOCS / "studio-infill.webp")


def save_animation(frames: list[tuple[bytes, int]], path: Path) -> None:
    """Save screenshots, each with the milliseconds that it is shown."""
    first, *others = (Image.open(io.BytesIO(picture)).convert("RGB") for picture, _ in frames)
    durations = [milliseconds for _, milliseconds in frames]
    first.save(path, append_images=others, duration=durations, loop=0, lossless=True, method=3)


def main() -> None:
    """Take all pictures."""
    command = [sys.executable, "-m", "music_generator", "studio", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        address = server.stdout.readline().strip()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = opened(browser, address, color_scheme="light", **DESKTOP)
            shoot(page, "choice")
            page.keyboard.press("Enter")
            page.click("#export")
            shoot(page, "export")
            page = opened(browser, address, color_scheme="dark", **DESKTOP)
            page.keyboard.press("Enter")
            for _ in range(2):
                page.keyboard.press("+")
            within = "s.events.filter((x) => x.onset > 13 && x.onset < 15.5 && x.key > 60).map((x) => x.id)"
            page.evaluate(f"(() => {{ const s = studioPage.studio; s.select({within}); s.setSpan(12, 20); }})()")
            shoot(page, "edit-dark")
            page = opened(browser, address, color_scheme="light", **DESKTOP)
            page.keyboard.press("Escape")
            page.evaluate("(() => { const s = studioPage.studio; s.setSpan(12, 20); s.selectVoice('melody'); })()")
            page.select_option("#units", "beats")
            page.keyboard.press("k")
            until(page, "studioPage.studio.choice && !studioPage.studio.choice.writing")
            shoot(page, "rewrite")
            page = opened(browser, address, color_scheme="dark", **PHONE)
            shoot(page, "phone-dark")
            shoot(empty(browser, address, color_scheme="light", **PHONE), "phone-empty")
            page = empty(browser, address, color_scheme="dark", **DESKTOP)
            shoot(page, "empty-dark")
            page.click("#help")
            shoot(page, "help-dark")
            page = empty(browser, address, color_scheme="light", **DESKTOP)
            page.fill("#seconds", "1500")
            page.evaluate("document.getElementById('compose').click()")
            until(page, "studioPage.studio.choice?.variations[0]?.events.length > 400")
            shoot(page, "writing", 0)
            page = opened(browser, address, color_scheme="light", **PHONE)
            page.keyboard.press("Enter")
            page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no MIDI"})
            page.wait_for_selector("#error:not([hidden])")
            shoot(page, "phone-error")
            animate(browser, address)
            browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
