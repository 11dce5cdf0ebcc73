"""The demo's worker in a real Chromium: the stream of messages, jobs side by side, and cancelling."""

from __future__ import annotations

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

playwright = pytest.importorskip("playwright.sync_api", reason="these tests need playwright, of the extra `dev`")

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one in CHROMIUM"),
]
SECONDS = 60.0  # the longest wait for the page

# `jobs`: the messages of each job so far; `send` posts to the worker, `ended` waits for a job
SCRIPT = """
const worker = new Worker("/engine/worker.js", { type: "module" });
self.jobs = {};
self.loaded = new Promise((resolve, reject) => worker.addEventListener("message", ({ data }) => {
  if (data.ready) resolve(true);
  if (data.failed) reject(new Error(data.failed));
  if (data.messages) (jobs[data.id] ??= []).push(...data.messages);
}));
self.send = (message) => worker.postMessage(message);
self.ended = async (id) => {
  const end = performance.now() + 60000;
  while (!["done", "cancelled", "failed"].includes(jobs[id]?.at(-1).type)) {
    if (performance.now() > end) throw new Error(`${id} did not end: ${JSON.stringify(jobs[id])}`);
    await new Promise((go) => setTimeout(go, 5));
  }
  return jobs[id];
};
true; // not the function, which would be called
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def page(demo: Path) -> Iterator[Any]:
    """Return a page beside the demo's folder `engine/` whose worker has loaded the model."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(demo))) as server,
        playwright.sync_playwright() as started,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(1000 * SECONDS)
        page.goto(f"http://127.0.0.1:{server.server_port}/engine/info.json")  # a page of the same origin
        page.evaluate(SCRIPT)
        page.evaluate("loaded")
        yield page
        browser.close()
        server.shutdown()


def test_a_job_has_the_messages_of_the_studio(page):
    page.evaluate('send({ id: "one", request: { task: "compose", seconds: 5, seed: 11, variations: 1 } })')
    first, begin, *events, variation, done = page.evaluate('ended("one")')
    assert (first, done) == ({"type": "job", "job": "one"}, {"type": "done"})
    assert (begin["type"], begin["seeds"], variation["type"]) == ("begin", [11], "variation")
    with Engine() as engine:
        rows = list(Writer(engine, to_compose(5), SamplingOptions(seed=11)))
    assert [each["notes"][0][2] - 21 for each in events if each["notes"]] == [row[1] for row in rows if row[1] < 88]
    assert len(events) == len(rows)


def test_two_jobs_take_turns_and_each_writes_what_it_writes_alone(page):
    request = "{ task: 'compose', seconds: 20, seed: %d, variations: 2 }"
    page.evaluate(f'send({{ id: "alone", request: {request % 5} }})')
    alone = page.evaluate('ended("alone")')
    page.evaluate(f'send({{ id: "a", request: {request % 5} }}); send({{ id: "b", request: {request % 6} }})')
    beside, other = page.evaluate('Promise.all([ended("a"), ended("b")])')
    assert beside[1:] == alone[1:]
    assert other[1:] != alone[1:]


def test_cancelling_ends_a_job(page):
    page.evaluate('send({ id: "long", request: { task: "compose", seconds: 1000, seed: 1, variations: 1 } })')
    page.wait_for_function('jobs.long?.some((each) => each.type === "events")')
    page.evaluate('send({ id: "long", cancel: true })')
    messages = page.evaluate('ended("long")')
    assert messages[-1] == {"type": "cancelled"}
    assert "variation" not in {each["type"] for each in messages}


def test_a_refusal_is_a_job_that_failed(page):
    page.evaluate('send({ id: "no", request: { task: "dance" } })')
    *_, failed = page.evaluate('ended("no")')
    assert (failed["type"], failed["error"]["code"], failed["error"]["field"]) == ("failed", "input", "task")
