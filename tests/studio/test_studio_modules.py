"""The page's modules without a browser: `node --test`, and constants that the page shares with Python."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from music_generator.music.performance import HIGHEST_PITCH, LOWEST_PITCH, PEDAL_NAMES
from music_generator.music.tokens import TICKS_PER_SECOND

TESTS = Path(__file__).parents[1] / "js"
PIECE = Path(__file__).parents[2] / "src/music_generator/studio/static/piece.js"


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
