"""What the documentation site makes when it is built, so that it cannot go stale: see `mkdocs.yml`.

The commands' page is the command line's own help; the home page, the model card and the changelog are the repository's
files, their links turned to the site's pages; the notebook becomes a page; the API's page gets each name's docstring.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[1]
# page: the file of the repository that it shows
SHOWN = {
    "index.md": "README.md",
    "model-card.md": "src/music_generator/pretrained/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
WIDTH = "80"  # columns of the help, whatever the terminal has
LINK = re.compile(r"(\]\()([^()\s#]+)")
FENCE = re.compile(r"^ *```", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {page: (REPOSITORY / source).read_text("utf-8") for page, source in SHOWN.items()}
    pages["commands.md"] = commands_page()
    pages["notebook.md"] = notebook_page((REPOSITORY / "docs/notebook.ipynb").read_text("utf-8"))
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turn links into the repository to the site's pages, and give the API's names their docstrings."""
    name = page.file.src_uri
    text = outside_code(lambda part: with_site_links(part, SHOWN.get(name, f"docs/{name}")), markdown)
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
            raise PluginError(f"{source} links to {path}, which is not on the site")
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
        raise PluginError(f"`music-generator {' '.join(command)} --help` failed: {done.exception!r}")
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
    """The API's page with a directive for each name after the list of its module."""
    head, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    for i, (module, names) in enumerate(public_names(page).items()):
        if module != "music_generator":  # its names are read in their modules
            sections[i] += "\n" + "".join(f"::: {module}.{name}\n\n" for name in names)
    return head + "".join(sections)
