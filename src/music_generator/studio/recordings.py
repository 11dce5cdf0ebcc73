"""Recordings that are dropped on the page: received into a temporary file, transcribed as a job, opened as a piece."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from music_generator.errors import MissingDependencyError
from music_generator.recording import extra
from music_generator.recording.transcription import open_transcription
from music_generator.studio.parts import parts_to_json
from music_generator.studio.schema import Json, piece_to_json


def no_recordings() -> str | None:
    """Return the line that says how to have recordings transcribed; None where they are."""
    return None if extra.is_installed() else str(extra.missing("this is a recording"))


def check_installed() -> None:
    """Raise `MissingDependencyError` where recordings are not transcribed."""
    reason = no_recordings()
    if reason:
        raise MissingDependencyError(reason)


@contextmanager
def receiving() -> Iterator[tuple[Path, Callable[[bytes], object]]]:
    """Yield a new temporary file and the function that adds to it; remove the file if what follows fails."""
    number, name = tempfile.mkstemp(prefix="music-generator-", suffix=".recording")
    try:
        with os.fdopen(number, "wb", buffering=0) as file:
            yield Path(name), file.write
    except BaseException:
        remove(Path(name))
        raise


def remove(path: Path) -> None:
    """Remove a file, if it is there and nothing holds it."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def transcription_steps(path: Path) -> Generator[Json, None, None]:
    """Transcribe a recording as a job: a message for each chunk, then the piece as `read` gives it; remove the file."""
    try:
        recording, steps = open_transcription(path)
        yield _progress(0.0, recording.seconds)
        while True:
            try:
                yield _progress(next(steps), recording.seconds)
            except StopIteration as end:
                yield {"type": "piece", "piece": piece_to_json(end.value), "remarks": []} | parts_to_json(None, 0)
                return
    finally:
        remove(path)


def _progress(done: float, seconds: float) -> Json:
    return {"type": "transcribed", "seconds": round(done, 2), "of": round(seconds, 2)}
