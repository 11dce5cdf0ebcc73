"""The kernel as any C program may use it, without Python: the case of `portable/` by gcc's compiler. See `variants`."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from music_generator.engine import kernel

PORTABLE = Path(__file__).parent / "portable"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are for x86-64"),
    pytest.mark.skipif(kernel.vectors() is None, reason="no kernel was compiled here"),
]


@pytest.mark.parametrize("model", ["bundled", "tiny"])
def test_another_compiler_and_other_vectors_write_the_same_bytes(tmp_path, tiny_bundle, model):
    """The bundled model, and one of a few units with a memory."""
    case = [sys.executable, str(PORTABLE / "case.py"), str(tmp_path / "case"), *[tiny_bundle] * (model == "tiny")]
    lines = subprocess.run(case, capture_output=True, text=True, check=True).stdout.splitlines()
    driver = tmp_path / "driver"
    flags = ["-O2", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-mssse3", "-DVECTORS=ssse3"]
    subprocess.run(["gcc", *flags, str(PORTABLE / "driver.c"), "-o", str(driver)], check=True)
    found = subprocess.run([driver, tmp_path / "case"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert found == [line.partition(" ")[2] for line in lines]
    assert len(found) == 5
    assert len(set(found)) == 5
