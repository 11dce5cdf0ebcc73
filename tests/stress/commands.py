"""The command line called from within this process, and how it must end: well, or refused in one clear line."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import traceback
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

from typer.main import get_command

from music_generator.cli import main as cli

LONGEST_LINE = 400  # characters of a refusal
# what may be said before a refusal: of a file, what of it is left out, and of a training run, what and how far it is
SAID_BEFORE = re.compile(
    r".*: (read|left out|its header|the length|it is a MIDI file|\d+ bytes) .*|step \d+/\d+  .*|  validation: .*"
    r"|[\d,]+ parameters, on .*|\d+ steps, of .*|windows are transposed .*|validation after .*|checkpoints in .*"
)


@dataclass(frozen=True)
class Done:
    """How a command ended; a `code` of None: by an exception that is no refusal, whose traceback is in `err`."""

    code: int | None
    out: str
    err: str


@cache
def built() -> Any:
    """The commands, which `cli.app` would build anew for every call."""
    return get_command(cli.app)


def called(*arguments: object) -> Done:
    """Run a command as its entry point does. A warning is as bad as an exception: a user would see it."""
    out, err = io.StringIO(), io.StringIO()
    code: int | None = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        patch.object(sys, "argv", ["music-generator", *map(str, arguments)]),
        patch.object(cli, "app", built()),
    ):
        warnings.simplefilter("error")
        try:
            cli.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except Exception:
            code = None
            err.write(traceback.format_exc())
    return Done(code, out.getvalue(), err.getvalue())


def fault(done: Done) -> str | None:
    """What is wrong with how a command ended; None if it went well or was refused as it should be."""
    if done.code == 0:
        return None if "Traceback" not in done.err else f"a traceback: {last_line(done.err)}"
    if done.code != 2:
        return f"ended with {done.code}: {last_line(done.err)}"
    lines = [line for line in done.err.splitlines() if not SAID_BEFORE.fullmatch(line)]
    if len(lines) != 1 or not lines[0].startswith("music-generator: "):
        return f"refused in {len(lines)} lines: {done.err[:300]!r}"
    if not lines[0].isprintable() or len(lines[0]) > LONGEST_LINE:
        return f"refused in a line that cannot be read: {lines[0][:LONGEST_LINE]!r}"
    return None if not done.out else f"refused, but something is on stdout: {done.out[:100]!r}"


def last_line(text: str) -> str:
    """The last line of a traceback, or nothing."""
    return text.strip().splitlines()[-1] if text.strip() else ""
