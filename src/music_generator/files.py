"""Files written beside their place and renamed into it, so that a failure never leaves half a file."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from music_generator.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path`, with the same suffix, to write to: renamed to `path` on success, removed on failure.

    Missing parent folders are made. Raises `InputError` for any `OSError` on the way ("cannot write PATH: reason").
    """
    path = Path(path)
    beside = path.parent / f".{path.stem[:64]}-{secrets.token_hex(4)}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            beside.unlink()


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder that one process at a time writes to."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if re.fullmatch(r"\.[^.]+-[0-9a-z_]{8}(-old)?(\.\w+)?", path.name):  # of `replacing`, or of a model bundle
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
