"""Write files beside their final path and rename them, so that a failure never leaves half a file."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

from music_generator.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` on success and remove it on failure.

    It has the same suffix. Missing parent folders are made.

    Raises:
        InputError: An `OSError` occurred on the way ("cannot write PATH: reason").
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


def holds(path: Path, data: bytes) -> bool:
    """Return whether a file holds `data` and nothing else."""
    return path.is_file() and path.read_bytes() == data


def first_free(path: Path, data: bytes) -> Path:
    """Return `path`, or where it holds something else than `data` the first of PATH-2, PATH-3 … that does not."""
    numbered = chain([path], (path.with_stem(f"{path.stem}-{number}") for number in count(2)))
    return next(each for each in numbered if not os.path.lexists(each) or holds(each, data))


def sweep(folder: Path) -> None:
    """Remove the unfinished files of killed processes from a folder that only one process at a time writes to."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if re.fullmatch(r"\.[^.]+-[0-9a-z_]{8}(-old)?(\.\w+)?", path.name):  # made by `replacing` or for a bundle
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
