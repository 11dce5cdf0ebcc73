"""The documentation: its examples run, its notebook runs, its site is built and needs no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mido
import pytest
import typer

from conftest import made_performance
from music_generator.cli.main import COMMANDS, app
from music_generator.music.midi import write_midi
from test_api import LISTED
from test_architecture import REPOSITORY, TEXTS

DOCS = REPOSITORY / "docs"
NOTEBOOK = DOCS / "notebook.ipynb"
BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
SECONDS = 300  # until anything is given up: never met, but on a stopped machine


# --- the examples of a page


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and why it is not run, if so."""

    language: str
    code: str
    line: int
    why: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(m["language"], m["code"], text.count("\n", 0, m.start("code")), m["why"]) for m in BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> int:
    """Run a page's blocks in one folder, its Python blocks as one program; how many there were."""
    names: dict[str, Any] = {}
    chosen = [block for block in blocks(page) if not block.why and block.language in ("sh", "python")]
    for block in chosen:
        where = f"{page.name}, line {block.line}"
        if block.language == "python":
            # as many lines before it as on the page, so that a traceback names the right one
            exec(compile("\n" * block.line + block.code, where, "exec"), names)
            continue
        command = ["bash", "-euo", "pipefail", "-c", block.code]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{block.code}\n{done.stderr[-2000:]}"
    return len(chosen)


@pytest.fixture
def at_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, where `music-generator` and `python` are this code and this Python, offline."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, arguments in (("python", ""), ("music-generator", "-W error -m music_generator")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', "utf-8")
        (commands / name).chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):  # where nothing listens
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return folder


@pytest.mark.parametrize("name", ["tutorial.md", "faq.md", "musicians.md"])
def test_every_block_is_run_or_says_why_not(name):
    found = blocks(DOCS / name)
    assert len(found) == (DOCS / name).read_text("utf-8").count("\n```") / 2
    assert {block.language for block in found} <= {"sh", "python", "text"}
    assert all(block.why is None or len(block.why) > 10 for block in found)


def test_what_is_said_to_be_installed_is_where_it_is_said_to_be():
    """The package is not on an index: it and its extras are installed from a clone."""
    texts = [*TEXTS, *REPOSITORY.glob("docs/*.ipynb")]
    wrong = re.compile(r"pip install (-\S+ )*[\\\"']*music-generator-rnn")
    assert not [path.name for path in texts if wrong.search(path.read_text("utf-8"))]


@pytest.mark.slow
def test_the_tutorial_works(at_a_prompt):
    pytest.importorskip("torch", reason="the tutorial trains: that needs torch, of the extra `train`")
    assert run_page(DOCS / "tutorial.md", at_a_prompt) > 5
    assert (at_a_prompt / "mine" / "continued.mid").stat().st_size > 0


@pytest.mark.slow
def test_the_answers_work(at_a_prompt):
    assert run_page(DOCS / "faq.md", at_a_prompt) > 5


@pytest.mark.slow
def test_what_musicians_are_told_works(at_a_prompt):
    write_song(at_a_prompt / "song.mid", "Piano", "Bass")
    write_song(at_a_prompt / "melody.mid", "Melody")
    assert run_page(DOCS / "musicians.md", at_a_prompt) == 3
    tasks = sorted(path.name.partition("-seed")[0] for path in (at_a_prompt / "music").glob("*.mid"))
    assert tasks == ["accompany", "bridge", "continue", *["infill"] * 6, "lead-in"]


def write_song(path: Path, *tracks: str) -> None:
    """A MIDI file of 32 bars of quarter notes at 120 a minute in each track, an octave apart."""
    song = mido.MidiFile(type=1, ticks_per_beat=480)
    for channel, name in enumerate(tracks):
        track = song.add_track(name)
        for beat in range(128):
            pitch = 72 - 12 * channel + (0, 2, 4, 7, 9, 7, 4, 2)[beat % 8]
            track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=70))
            track.append(mido.Message("note_off", channel=channel, note=pitch, time=480))
    song.save(path)


def test_the_readme_works_in_python(at_a_prompt):
    write_midi(made_performance(0), at_a_prompt / "sketch.mid")
    (program,) = [block for block in blocks(REPOSITORY / "README.md") if block.language == "python"]
    exec(compile(program.code, "README.md", "exec"), {})
    assert (at_a_prompt / "filled.mid").stat().st_size > 0


def test_a_block_that_fails_is_told_with_its_line(at_a_prompt):
    page = at_a_prompt / "page.md"
    page.write_text("# Page\n\n```sh\ntrue\n```\n\n<!-- not run: it would fail -->\n```sh\nexit 1\n```\n\n", "utf-8")
    assert run_page(page, at_a_prompt) == 1
    page.write_text(page.read_text("utf-8") + "```sh\nfalse | true\n```\n", "utf-8")
    with pytest.raises(AssertionError, match=r"page\.md, line 12: exit code 1"):
        run_page(page, at_a_prompt)


# --- the notebook


def test_the_notebook_is_stored_small_and_without_outputs():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert NOTEBOOK.stat().st_size < 100_000
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
def test_the_notebook_runs(at_a_prompt, monkeypatch):
    pytest.importorskip("torch", reason="the notebook trains: that needs torch, of the extra `train`")
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient and ipykernel, of the extra `dev`")
    pytest.importorskip("ipykernel", reason="the notebook needs nbclient and ipykernel, of the extra `dev`")
    import nbformat
    from traitlets.config import Config

    monkeypatch.delenv("MAESTRO_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(at_a_prompt))  # so that what it leaves goes with the test
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    config = Config({"KernelManager": {"transport": "ipc"}})  # no ports
    nbclient.NotebookClient(
        notebook, timeout=SECONDS, config=config, resources={"metadata": {"path": str(at_a_prompt)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 8
    assert kinds.count("text/html") == 1  # the sound


# --- the pictures


def test_the_moving_picture_is_short_and_small():
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, which comes with matplotlib")
    path, seconds = DOCS / "studio-infill.webp", 0.0
    with image.open(path) as moving:
        assert moving.n_frames > 20
        for number in range(moving.n_frames):
            moving.seek(number)
            moving.load()
            seconds += moving.info["duration"] / 1000
    assert path.stat().st_size < 600_000
    assert 4 <= seconds <= 8


# --- the site


class Loaded(HTMLParser):
    """What a page loads by itself, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [address for name in ("src", "srcset", "poster", "data") if (address := given.get(name))]
        if tag == "link":
            self.addresses.append(given.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    needs_sphinx()
    folder = tmp_path_factory.mktemp("site")
    done = run_python(str(DOCS / "make_site.py"), str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def needs_sphinx() -> None:
    for module in ("sphinx", "furo", "myst_parser", "sphinx_copybutton"):
        pytest.importorskip(module, reason="the site is built with Sphinx, of the extra `docs`")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def text_of(page: Path) -> str:
    return "".join(Loaded(page.read_text("utf-8")).texts)


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        outside = [each for each in Loaded(page.read_text("utf-8")).addresses if re.match(r"\w*:?//", each)]
        assert not outside, page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", style.read_text("utf-8")), style.name


def test_what_is_not_for_readers_is_not_on_the_site(site):
    assert not [*site.rglob("*.py"), *site.rglob("*.csv"), *site.rglob("*.md*")]
    (notebook,) = re.findall(r'href="([^"]*notebook\.ipynb)"', (site / "notebook.html").read_text("utf-8"))
    assert (site / notebook).read_bytes() == NOTEBOOK.read_bytes()


def test_every_command_and_option_is_on_the_page(site):
    page = text_of(site / "commands.html")
    commands = typer.main.get_command(app)
    for name in COMMANDS:
        command = commands.get_command(None, name)
        assert f"music-generator {name} [OPTIONS]" in page
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
        assert not [option for option in options if option not in page]
        assert " ".join(command.callback.__doc__.split()) in " ".join(page.split())


def test_every_public_name_has_its_docstring_on_the_page(site):
    page = (site / "api.html").read_text("utf-8")
    for module, names in LISTED.items():
        if module != "music_generator":
            assert not [name for name in names if f'id="{module}.{name}"' not in page]
    assert "Play a performance on the grand piano" in page
    assert "The sound ends when the last string is silent" in page
    assert str(REPOSITORY) not in page  # of a constant that is a path
    assert "&lt;factory&gt;" not in page  # of a dataclass's field: no Python
    assert not re.search(r"\(<em>\w+,</em>\)", page)  # of attributes that share a line: taken for a type


def test_the_model_card_is_the_bundles_own(site):
    assert "Known weaknesses" in text_of(site / "model-card.html")
    assert 'href="experiments.html"' in (site / "model-card.html").read_text("utf-8")


def test_the_first_picture_leads_to_the_page_itself(site):
    home = (site / "index.html").read_text("utf-8")
    assert re.search(r'<a href="demo/index.html">\s*<img alt="A composed piece', home)
    assert home.index("demo/index.html") < home.index("studio-infill")
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    assert re.search(r"^docs:.*\n(\t.*\n)*\t\$\(MAKE\) \S+ demo\n", makefile, re.M), "`make docs` makes it"


def test_a_link_that_leaves_the_site_is_refused(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import make_site

    turned = make_site.with_site_links(
        "[a](docs/model.md#network) [b](CHANGELOG.md) [c](https://example.org)", "README.md"
    )
    assert turned == "[a](model.md#network) [b](changelog.md) [c](https://example.org)"
    assert make_site.with_site_links("[a](../README.md#measured)", "docs/faq.md") == "[a](index.md#measured)"
    with pytest.raises(make_site.SiteError, match=r"README\.md links to src/x\.py, which is not on the site"):
        make_site.with_site_links("[a](src/x.py)", "README.md")


FAULTY = """# Pages

[a](nowhere.md) [b](other.md#nowhere) [c](#nowhere) [d](../README.md) ![e](nowhere.png)

```{toctree}
other
nopage
```
"""


def test_a_fault_of_a_page_fails_the_build(tmp_path):
    needs_sphinx()
    pages = tmp_path / "pages"
    pages.mkdir()
    for name, text in (("index", FAULTY), ("other", "# Other\n"), ("left", "# Left out\n")):
        (pages / f"{name}.md").write_text(text, "utf-8")
    program = "import make_site, pathlib, sys; sys.exit(make_site.build(*map(pathlib.Path, sys.argv[1:])))"
    path = f"import sys; sys.path.insert(0, {str(DOCS)!r}); "
    done = run_python("-c", path + program, str(pages), str(tmp_path / "site"))
    said = [line.partition("WARNING: ")[2] for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert len(said) == 7
    faults = ["'nowhere.md'", "in doc 'other': 'nowhere'", "not found: 'nowhere'", "'../README.md'",
              "not readable: nowhere.png", "nonexisting document 'nopage'", "in any toctree"]  # fmt: skip
    assert [fault for fault in faults if not any(fault in line for line in said)] == []


def test_every_page_is_in_the_navigation_once(site):
    page = (site / "faq.html").read_text("utf-8")
    _, _, sidebar = page.partition('<div class="sidebar-tree">')
    linked = re.findall(r'href="([\w/-]+\.html|#)"', sidebar.partition("</div>")[0])
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"search.html"}
    assert sorted(linked) == sorted(pages - {"faq.html"} | {"#"})


# --- the site in a browser


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The site's address, served from this computer."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.browser
@pytest.mark.slow
def test_the_site_is_read_and_searched_with_the_cable_pulled(served):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra `dev`")
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    asked: list[str] = []
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(f"{served}index.html")
        page.fill("input.sidebar-search", "key recency")
        page.keyboard.press("Enter")
        page.click("ul.search a[href*='model.html'] >> nth=0")
        page.wait_for_url("**/model.html*")
        browser.close()
    assert len(asked) > 5
    assert not [address for address in asked if not address.startswith((served, "data:", "blob:"))]
    assert not complaints
