"""Processes that are measured, and the environment the peers run in.

Only the standard library is imported: on Linux a child's peak memory is never below that of the process it came from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-peers"
# module → what to install: this torch is the one of the README
PACKAGES = {
    "torch": ("torch==2.13.0",),
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "pretty_midi": ("pretty_midi",),
}
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", "CUDA_VISIBLE_DEVICES": ""}
BAD_INPUT = 2  # exit code of what the user has to mend


class NotMeasuredError(Exception):
    """Why something has no figure, in words fit for a file: no paths and no hosts; whether it `failed`."""

    def __init__(self, reason: str, *, failed: bool = False) -> None:
        super().__init__(reason)
        self.failed = failed


class BadInputError(Exception):
    """One line for the user: what must hold, what came."""


@dataclass(frozen=True)
class Finished:
    """A process that ended well: wall seconds, what it printed, and the most memory it held, in 10⁶ bytes."""

    seconds: float
    output: str
    peak_mb: float


def run(arguments: Sequence[str | Path], environment: dict[str, str] | None = None) -> Finished:
    """Run a process to its end.

    Raises `BadInputError` if it says so by its exit code, else `NotMeasuredError` if it failed; what it said on stderr
    is passed on to ours.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdout=output,
            stderr=errors,
            env=os.environ | (environment or {}),
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = code = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if code:
            lines = errors.read().strip().splitlines() or [""]
            if code == BAD_INPUT:
                raise BadInputError(lines[-1])
            print("\n".join(lines[-25:]), file=sys.stderr)
            raise NotMeasuredError(f"the measurement failed (exit code {code})", failed=True)
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
        return Finished(seconds, output.read(), usage.ru_maxrss * unit / 1e6)


def script(
    name: str, *arguments: str | Path, python: str | Path = sys.executable, one_thread: bool = False
) -> dict[str, Any]:
    """What a script of this folder prints as JSON in its last line, with the `peak_mb` of its process.

    Raises `NotMeasuredError` if it failed or says that it was `skipped`, `BadInputError` as `run` does.
    """
    done = run([python, HERE / name, *arguments], QUIET | (ONE_THREAD if one_thread else {}))
    found: dict[str, Any] = json.loads(done.output.strip().splitlines()[-1])
    if "skipped" in found:
        raise NotMeasuredError(found["skipped"])
    return found | {"peak_mb": done.peak_mb}


def peer_python() -> Path:
    """The interpreter of the peers' environment."""
    return PEERS / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(module: str) -> None:
    """See to it that the peers' environment has a module. Raises `NotMeasuredError` if it cannot be had."""
    if not peer_python().exists() and subprocess.run([sys.executable, "-m", "venv", PEERS], check=False).returncode:
        raise NotMeasuredError("the peers' environment could not be made")
    if _has(module):
        return
    for package in PACKAGES[module]:
        print(f"installing {package} for the peers", file=sys.stderr, flush=True)
        command = [str(peer_python()), "-m", "pip", "install", "--quiet", package]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        if code == 0 and _has(module):
            return
    raise NotMeasuredError(f"{PACKAGES[module][0]} could not be installed (pip's exit code {code})")


def _has(module: str) -> bool:
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([peer_python(), "-c", look], check=False).returncode == 0
