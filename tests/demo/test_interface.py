"""The page finds in the demo's `server.js` what it finds in the studio's."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from test_architecture import REPOSITORY

STATIC = REPOSITORY / "src/music_generator/studio/static"
EXPORT = re.compile(r"^export (?:async )?(?:function\*?|class|const) (\w+)", re.MULTILINE)
READY = "ready"  # for the demo's own tests


class Links(HTMLParser):
    """The addresses that a page loads or leads to, and its security policy."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses, self.policy = list[str](), ""
        self.feed(page)

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.addresses += [given[name] for name in ("href", "src") if name in given]
        if given.get("http-equiv") == "content-security-policy":
            self.policy = given["content"]


def test_both_servers_export_the_same():
    own, other = (set(EXPORT.findall(path.read_text("utf-8"))) for path in
                  (STATIC / "server.js", REPOSITORY / "demo/server.js"))  # fmt: skip
    assert len(own) > 10
    assert other - {READY} == own


@pytest.mark.slow
def test_the_page_is_whole_and_loads_nothing_from_elsewhere(demo):
    page = Links((demo / "index.html").read_text("utf-8"))
    files = [address for address in page.addresses if not address.startswith("#")]
    assert all((demo / address).is_file() for address in files), "every address is relative and there"
    assert {"static/app.js", "static/engine/LICENSE.txt", "samples/LICENSE.txt"} <= set(files)
    assert "'wasm-unsafe-eval'" in page.policy
    assert not re.search(r"https?:|\*|unsafe-(eval|inline)'", page.policy.replace("wasm-unsafe-eval", ""))


@pytest.mark.slow
def test_the_licences_are_seen(demo):
    page = (demo / "index.html").read_text("utf-8")
    assert re.search(r"trained on maestro[^;]*;\s+its weights are under <a [^>]*>CC BY-NC-SA 4\.0</a>", page)
    assert "Salamander Grand Piano V3, recorded by Alexander Holm, licence CC BY 3.0" in page
    assert "NonCommercial-ShareAlike" in (demo / "static/engine/LICENSE.txt").read_text("utf-8")
