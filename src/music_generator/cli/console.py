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

LONGEST_STEP_SECONDS = 600.0  # the time left is known where two updates of a bar came within this time
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where its settings folder cannot be written


def say(text: str) -> None:
    """Print a line that is not a result."""
    print(text, file=sys.stderr, flush=True)


def read_piece(path: Path, track: str | None = "all") -> Performance:
    """Return the music of a MIDI file's track, see `choose_parts`, and say what of the file is not in it.

    A recording is transcribed, whatever its name is.
    """
    from music_generator.music.midi import read_midi
    from music_generator.recording.audio import is_recording_file

    if is_recording_file(path):
        if track not in (None, "all"):
            raise InputError(f"`--track` is a track of a MIDI file, and {path} is a recording")
        performance, _ = read_recording(path)
        say(f"{path}: transcribed to {len(performance)} notes; `music-generator transcribe` keeps them in a file")
        return performance
    reading = read_midi(path, track=track)
    if reading.remarks:
        kept = " (it stays in a file that is written from this one)" if reading.left_out and track != "all" else ""
        say(f"{path}: {'; '.join(reading.remarks)}{kept}")
    return reading.performance


def read_recording(path: Path, *, hidden: bool = False) -> tuple[Performance, float]:
    """Transcribe a recording with a progress bar; return its music and its length in seconds."""
    from music_generator.recording import transcribe

    length = 0.0
    with Progress(f"transcribing {path.name}", hidden=hidden) as progress:

        def report(done: float, seconds: float) -> None:
            nonlocal length
            length = seconds
            progress.update(done, seconds)

        performance = transcribe(path, progress=report)
    return performance, length


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
            self._bar = Bar(
                console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False,
                speed_estimate_period=LONGEST_STEP_SECONDS,
            )  # fmt: skip
            self._task = self._bar.add_task(title, total=None)
            self._bar.start()

    def __exit__(self, *_: Any) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()
            self._bar.console.show_cursor()  # a Ctrl-C may have come between the two halves of a stop in `print`

    def update(self, done: float, total: float | None) -> None:
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
