"""The demo, built once for all its tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test_architecture import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the bundled model's demo."""
    pytest.importorskip("ziglang", reason="the demo's kernel is compiled by ziglang")
    pytest.importorskip("starlette", reason="the demo's info is the studio's, which needs starlette")
    from make_demo import make_demo

    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


@pytest.fixture(scope="session")
def node() -> str:
    """Return Node's path, or skip: older versions do not see that a .js file is an ES module."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("no Node here; the demo is tested with Node 20.19 or later")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)))[:2] < (20, 19):
        pytest.skip(f"Node {version.strip()} is here; the demo is tested with 20.19 or later")
    return path
