"""The errors this package raises on purpose: one root, and one class for each kind of cause a user can correct."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BundleError",
    "CorpusError",
    "DownloadError",
    "InputError",
    "InstallationError",
    "MidiError",
    "MissingDependencyError",
    "MusicGeneratorError",
    "PathError",
    "RecordingError",
    "TrainingError",
]


class MusicGeneratorError(Exception):
    """Root of every error this package raises on purpose; its text is one line for the user."""


class InputError(MusicGeneratorError, ValueError):
    """An argument or option is out of range or does not fit another one."""


class PathError(MusicGeneratorError):
    """Something is wrong with one file or folder; the text is "PATH: REASON".

    Attributes:
        path: The file or folder, or None if the data came as bytes.
        reason: What is wrong with it and what to do, without the path.
    """

    def __init__(self, path: str | Path | None, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{'these bytes' if self.path is None else self.path}: {self.reason}"


class MidiError(PathError):
    """A file is not MIDI, is damaged, or contains nothing that can be used."""


class RecordingError(PathError):
    """A file cannot be read as sound, is damaged, silent or too long, or contains no notes."""


class CorpusError(PathError):
    """A dataset or a prepared corpus is missing, incomplete or of another version."""


class DownloadError(MusicGeneratorError):
    """A download failed, was refused, or does not have the expected checksum."""


class BundleError(MusicGeneratorError):
    """A model bundle or a training run lacks a file, is damaged or is of another version."""


class TrainingError(MusicGeneratorError):
    """Training cannot continue; the text says at which step and what to change."""


HOW_TO_REINSTALL = "in your clone of music-generator-rnn reinstall it with: pip install --force-reinstall --no-deps ."


def how_to_install(extra: str) -> str:
    """Return the command that installs the libraries of an extra; the package is not on an index."""
    return f'pip install ".[{extra}]" in your clone of music-generator-rnn'


class InstallationError(MusicGeneratorError):
    """Parts of the installed package do not belong together; the text says how to reinstall it."""


class MissingDependencyError(MusicGeneratorError):
    """An optional library or program is needed; the text says how to install it."""
