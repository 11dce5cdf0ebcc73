"""Give the package's description absolute links: an index shows the README far from the files that it links to.

They follow `Repository` in `[project.urls]` of `pyproject.toml`. Where it is not set, the README stays as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

README = "README.md"
# where GitHub shows a file of a version's tag, and where it gives it away
PAGE, FILE = "{repository}/blob/v{version}/{path}", "{repository}/raw/v{version}/{path}"
PICTURE = re.compile(r"(?P<before>!\[[^\]]*\]\()(?P<path>[^()\s:#]+)(?=\))")
LINK = re.compile(r"(?P<before>\]\()(?P<path>[^()\s:#]+)(?=[#)])")
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def with_absolute_links(text: str, repository: str, version: str) -> str:
    """The text with its relative links turned to the repository's files of that version, except in fenced code."""
    parts = CODE.split(text)
    for i in range(0, len(parts), 2):
        for link, form in ((PICTURE, FILE), (LINK, PAGE)):
            address = form.format(repository=repository.rstrip("/"), version=version, path=r"\g<path>")
            parts[i] = link.sub(rf"\g<before>{address}", parts[i])
    return "".join(parts)


class ReadmeHook(MetadataHookInterface):  # type: ignore[misc]
    """Make the description of the README."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`."""
        text = (Path(self.root) / README).read_text("utf-8")
        if repository := metadata.get("urls", {}).get("Repository"):
            text = with_absolute_links(text, repository, metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
