"""Printing: results on stdout, all else on stderr."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from music_generator.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from music_generator.music.performance import Performance


logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where its settings folder cannot be written


def say(text: str) -> None:
    """Print a line that is not a result."""
    print(text, file=sys.stderr, flush=True)


def read_piece(path: Path, track: str | None = "all") -> Performance:
    """Return the music of a MIDI file's track, see `choose_parts`, and say what of the file is not in it."""
    from music_generator.music.midi import read_midi

    reading = read_midi(path, track=track)
    if reading.remarks:
        kept = " (it stays in a file that is written from this one)" if reading.left_out and track != "all" else ""
        say(f"{path}: {'; '.join(reading.remarks)}{kept}")
    return reading.performance


def check_out(out: Path, piece: Path) -> None:
    """Check that a result is not written over the piece that it is of."""
    if out.exists() and piece.exists() and out.samefile(piece):
        raise InputError(f"{piece} would be written over: name another file with `--out`")


class Progress(AbstractContextManager["Progress"]):
    """A progress bar on stderr where stderr is a terminal; lines are printed above it."""

    def __init__(self, title: str, *, hidden: bool = False) -> None:
        self._bar: Bar | None = None
        if sys.stderr and sys.stderr.isatty() and not hidden:
            from rich.console import Console
            from rich.progress import Progress as Bar

            # with stdout redirected, results would come out on stderr
            self._bar = Bar(console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
            self._task = self._bar.add_task(title, total=None)
            self._bar.start()

    def __exit__(self, *_: Any) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total)

    def print(self, text: str, file: TextIO | None = None) -> None:
        """Print a line above the bar: a result, or with `file` something else."""
        if self._bar:
            self._bar.stop()
        print(text, file=file, flush=True)
        if self._bar:
            self._bar.start()
