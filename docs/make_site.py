"""Make the documentation site: `python docs/make_site.py site`. A warning is a failure; nothing is fetched.

What can go stale is made here from its source: the commands' page is the command line's own help; the home page, the
model card, the changelog and the contributors' page are the repository's files; the notebook becomes a page; the API's
page gets each name's docstring. Links into the repository are turned to the site's pages. Settings are in `conf.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
# page: the file of the repository that it shows
SHOWN = {
    "index.md": "README.md",
    "model-card.md": "src/music_generator/pretrained/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
# page: its name in the navigation; one that is missing here, or there, fails the build
NAVIGATION = {
    "tutorial": "Tutorial",
    "notebook": "Notebook",
    "musicians": "For musicians",
    "studio": "The studio",
    "sound": "Sound",
    "recordings": "Recordings",
    "commands": "Commands",
    "api": "Python API",
    "model": "How it works",
    "cluster": "Training on several machines",
    "trust": "Trust",
    "evaluation": "Evaluation",
    "model-card": "Model card",
    "experiments": "Experiments",
    "benchmarks": "Benchmarks",
    "bench/results": "The bench's table",
    "faq": "FAQ",
    "contributing": "Contributing",
    "releasing": "Releases",
    "changelog": "Changelog",
}
DEMO = "demo/index.html"  # the studio's page without a server, which `make docs` puts beside the pages
DEMO_SECTION = "docs/studio.md#without-installing"  # tells of it, where there is no site
NOT_PAGES = ("*.py", "*.csv", "__pycache__", "static")
MOST_OF_A_VALUE = 120  # characters of a constant that is shown
WIDTH = "80"  # columns of the help, whatever the terminal has
LINK = re.compile(r"(\]\()([^()\s#]+)")
FENCE = re.compile(r"^ *```", re.MULTILINE)


class SiteError(Exception):
    """A page cannot be made."""


def make_site(out: Path) -> int:
    """Build the site in the folder `out`; 0, or 1 if there was a warning."""
    with tempfile.TemporaryDirectory() as scratch:
        pages = Path(scratch) / "docs"
        write_pages(pages)
        return build(pages, out)


def build(pages: Path, out: Path) -> int:
    """Build a site of a folder of pages; 0, or 1 if there was a warning."""
    from sphinx.cmd.build import build_main

    with tempfile.TemporaryDirectory() as scratch:
        options = ["--builder", "html", "--conf-dir", DOCS, "--doctree-dir", scratch, "--quiet", "--fail-on-warning"]
        return build_main([*map(str, options), str(pages), str(out)])


def write_pages(folder: Path) -> None:
    """Write all pages as the site's builder reads them, and their pictures."""
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns(*NOT_PAGES))
    for page, text in made_pages().items():
        (folder / page).write_text(text, "utf-8")
    for path in folder.rglob("*.md"):
        path.write_text(page_text(path.relative_to(folder).as_posix(), path.read_text("utf-8")), "utf-8")


def made_pages() -> dict[str, str]:
    """The pages that are not files in `docs`."""
    pages = {page: (REPOSITORY / source).read_text("utf-8") for page, source in SHOWN.items()}
    pages["index.md"] = with_demo(pages["index.md"]) + "\n" + navigation()
    pages["commands.md"] = commands_page()
    pages["notebook.md"] = notebook_page((DOCS / "notebook.ipynb").read_text("utf-8"))
    return pages


def with_demo(readme: str) -> str:
    """The README with its first picture leading to the demo itself, as it is on the site."""
    picture = re.compile(rf"\[(!\[[^]]*\]\([^)]*\))\]\({re.escape(DEMO_SECTION)}\)")
    page, count = picture.subn(rf'<a href="{DEMO}">\1</a>', readme)
    if count != 1:
        raise SiteError(f"README.md has {count} pictures that lead to {DEMO_SECTION}, not one")
    return page


def navigation() -> str:
    """The list of pages that the sidebar shows."""
    entries = "".join(f"{title} <{page}>\n" for page, title in NAVIGATION.items())
    return f"```{{toctree}}\n:hidden:\n\nHome <self>\n{entries}```\n"


def page_text(name: str, text: str) -> str:
    """A page with its links turned to the site's pages, and the API's with docstrings."""
    text = outside_code(lambda part: with_site_links(part, SHOWN.get(name, f"docs/{name}")), text)
    return with_docstrings(text) if name == "api.md" else text


def outside_code(change: Callable[[str], str], text: str) -> str:
    """The text with `change` made to all of it but fenced code."""
    parts = re.split(r"(^ *```.*?^ *```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if FENCE.match(part) else change(part) for part in parts)


def with_site_links(text: str, source: str) -> str:
    """`text` of the repository's file `source`, each relative link to a file turned to the site's page of it."""
    pages = {shown: page for page, shown in SHOWN.items()}

    def turned(match: re.Match[str]) -> str:
        target = match[2]
        if ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path not in pages and not path.startswith("docs/"):
            raise SiteError(f"{source} links to {path}, which is not on the site")
        page = pages.get(source, source.removeprefix("docs/"))
        return match[1] + posixpath.relpath(pages.get(path, path.removeprefix("docs/")), posixpath.dirname(page) or ".")

    return LINK.sub(turned, text)


def commands_page() -> str:
    """Every command's help, as the terminal shows it."""
    from music_generator.cli.main import COMMANDS

    parts = ["# Commands", "What `--help` says. Results come on stdout, progress and complaints on stderr; what can be "
             "mended is one line and exit code 2.", help_of()]  # fmt: skip
    for name in COMMANDS:
        parts += [f"## {name}", help_of(name)]
    return "\n\n".join(parts) + "\n"


def help_of(*command: str) -> str:
    """The help of a command in a code block."""
    from typer.testing import CliRunner

    from music_generator.cli.main import app

    done = CliRunner().invoke(app, [*command, "--help"], prog_name="music-generator", env={"COLUMNS": WIDTH})
    if done.exit_code:
        raise SiteError(f"`music-generator {' '.join(command)} --help` failed: {done.exception!r}")
    return f"```text\n{done.output.strip()}\n```"


def notebook_page(notebook: str) -> str:
    """A notebook's cells as Markdown, code in blocks."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    parts.insert(1, "To run it, [take the notebook](notebook.ipynb).")
    return "\n\n".join(parts) + "\n"


def public_names(page: str) -> dict[str, list[str]]:
    """The names that the API's page lists under each module."""
    listed = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        _, _, names = section.partition("\nNames: ")
        listed[section.split("`")[1]] = re.findall(r"`(\w+)`", names)
    return listed


def with_docstrings(page: str) -> str:
    """The API's page with the docstrings of its names after the list of each module."""
    head, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    for i, (module, names) in enumerate(public_names(page).items()):
        if module != "music_generator":  # its names are read in their modules
            sections[i] += f"\n```{{eval-rst}}\n{docstrings(module, names)}```\n\n"
    return head + "".join(sections)


def docstrings(module: str, names: list[str]) -> str:
    """The directives for names of a module; how a name is written says what it is."""
    text = ""
    for name in names:
        kind = "data" if name.isupper() else "class" if name[0].isupper() else "function"
        text += f".. auto{kind}:: {module}.{name}\n"
        text += "   :no-value:\n\n" if kind == "data" and not is_short(module, name) else "\n"
    return text


def is_short(module: str, name: str) -> bool:
    """Tell whether a constant's value can be shown: a path would be one of this computer."""
    value = getattr(importlib.import_module(module), name)
    return not isinstance(value, Path) and len(repr(value)) <= MOST_OF_A_VALUE


def main() -> int:
    """Read the command line and build the site."""
    parser = argparse.ArgumentParser(description="Make the documentation site.")
    parser.add_argument("out", type=Path, help="the folder to write it to")
    try:
        return make_site(parser.parse_args().out)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
