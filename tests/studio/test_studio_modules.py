"""The page's modules without a browser: `node --test`, and constants that the page shares with Python."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from music_generator.music.performance import HIGHEST_PITCH, LOWEST_PITCH, PEDAL_NAMES
from music_generator.music.tokens import TICKS_PER_SECOND

TESTS = Path(__file__).parents[1] / "js"
PIECE = Path(__file__).parents[2] / "src/music_generator/studio/static/piece.js"


@pytest.fixture(scope="module")
def node() -> str:
    """Return Node's path, or skip: older versions do not see that a .js file is an ES module."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("no Node here; the page's modules are tested with Node 20.19 or later")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)))[:2] < (20, 19):
        pytest.skip(f"Node {version.strip()} is here; the page's modules are tested with 20.19 or later")
    return path


def test_the_modules_pass_their_own_tests(node):
    files = sorted(TESTS.glob("*.test.mjs"))
    assert len(files) >= 3
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^(#|ℹ) fail 0$", done.stdout, re.MULTILINE)


def test_the_page_and_python_share_their_constants(node):
    names = "LOWEST, HIGHEST, PEDALS, TICKS_PER_SECOND"
    script = f"import {{ {names} }} from {json.dumps(PIECE.as_uri())}; console.log(JSON.stringify([{names}]))"
    done = subprocess.run([node, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [LOWEST_PITCH, HIGHEST_PITCH, [*PEDAL_NAMES], TICKS_PER_SECOND]
