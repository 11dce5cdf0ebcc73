"""The demo's worker in a real Chromium: the stream of messages, jobs side by side, and cancelling."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from music_generator.engine.engine import Engine
from music_generator.generation import SamplingOptions, Writer, to_compose
from music_generator.music.performance import LOWEST_PITCH
from music_generator.music.tokens import KEYS

playwright = pytest.importorskip("playwright.sync_api", reason="these tests need playwright, of the extra `dev`")

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one in CHROMIUM"),
]

# `collect` gives the messages of a task; `stop` is called with each message and may abort or cancel
SCRIPT = """import("/static/server.js").then((server) => {
  self.server = server;
  self.collect = async (task, stop = () => {}) => {
    const found = [], leaving = new AbortController();
    try {
      for await (const message of server.write(task, leaving.signal)) {
        found.push(message);
        stop(message, leaving, found[0].job);
      }
    } catch (error) {
      found.push({ name: error.name, code: error.code, message: error.message });
    }
    return found;
  };
  return server.ready.then(() => true);
})"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def page(demo: Path) -> Iterator[Any]:
    """Return a page of the demo's folder that has loaded `server.js`, whose worker has loaded the model."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(demo))) as server,
        playwright.sync_playwright() as started,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/static/engine/info.json")  # a page of the same origin
        assert page.evaluate(SCRIPT)
        yield page
        browser.close()
        server.shutdown()


def test_a_job_has_the_messages_of_the_studio(page):
    found = page.evaluate('collect({ task: "compose", seconds: 5, seed: 11, variations: 1 })')
    first, begin, *events, variation, done = found
    assert (first["type"], done) == ("job", {"type": "done"})
    assert (begin["type"], begin["seeds"], variation["type"]) == ("begin", [11], "variation")
    with Engine() as engine:
        rows = list(Writer(engine, to_compose(5), SamplingOptions(seed=11)))
    assert [each["notes"][0][2] - LOWEST_PITCH for each in events if each["notes"]] == [
        row[1] for row in rows if row[1] < KEYS
    ]
    assert len(events) == len(rows)


def test_jobs_that_take_turns_write_what_each_writes_alone(page):
    tasks = [f'collect({{ task: "compose", seconds: 20, seed: {seed}, variations: 2 }})' for seed in (5, 6)]
    alone = page.evaluate(tasks[0])
    beside, other = page.evaluate(f"Promise.all([{', '.join(tasks)}])")
    assert beside[1:] == alone[1:]
    assert other[1:] != alone[1:]


LONG = '{ task: "compose", seconds: 1000, seed: 1, variations: 1 }'


def test_cancelling_ends_a_job(page):
    stop = '(message, _, job) => message.type === "events" && server.cancel(job)'
    found = page.evaluate(f"collect({LONG}, {stop})")
    assert found[-1] == {"type": "cancelled"}
    assert {each["type"] for each in found} == {"job", "begin", "events", "cancelled"}


def test_aborting_leaves_a_job(page):
    found = page.evaluate(f'collect({LONG}, (message, leaving) => message.type === "events" && leaving.abort())')
    assert found[-1]["name"] == "AbortError"
    assert page.evaluate('collect({ task: "compose", seconds: 1, seed: 1, variations: 1 })')[-1] == {"type": "done"}


def test_a_refusal_is_an_error_with_its_code(page):
    *_, error = page.evaluate('collect({ task: "dance" })')
    assert error["code"] == "input"
    assert error["message"].startswith("the task must be one of compose, continue")


def test_info_and_example_are_those_of_the_studio(page, demo):
    info, example = page.evaluate("Promise.all([server.info(), server.example()])")
    assert info == json.loads((demo / "static/engine/info.json").read_text("utf-8"))
    assert (info["limits"]["variations"], info["defaults"]["variations"]) == (8, 4)
    assert len(example["piece"]["notes"]) > 50
