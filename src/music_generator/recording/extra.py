"""Whether the extra `transcribe` is installed, and what is said where it is not."""

from __future__ import annotations

from importlib.util import find_spec

from music_generator.errors import MissingDependencyError, how_to_install


def is_installed() -> bool:
    """Return whether the libraries of the extra are here; none is loaded."""
    return all(find_spec(name) for name in ("torch", "transkun", "soxr"))


def missing(reason: str) -> MissingDependencyError:
    """Return the error that says how to install the extra."""
    return MissingDependencyError(
        f"{reason}: to have it transcribed, install the extra: {how_to_install('transcribe')}"
    )
