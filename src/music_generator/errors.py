"""What can go wrong for a reason the user can mend: one root and its few children."""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CorpusError",
    "DownloadError",
    "InputError",
    "InstallationError",
    "MidiError",
    "MissingDependencyError",
    "MusicGeneratorError",
    "TrainingError",
]


class MusicGeneratorError(Exception):
    """Root of every error this package raises on purpose; its text is one line for the user."""


class InputError(MusicGeneratorError, ValueError):
    """An argument or option is out of range or does not fit another one."""


class MidiError(MusicGeneratorError):
    """A file is not MIDI, is damaged, or holds nothing that can be used."""


class CorpusError(MusicGeneratorError):
    """A dataset or a prepared corpus is missing, incomplete or of another version."""


class DownloadError(MusicGeneratorError):
    """A download failed, was refused, or does not have the expected checksum."""


class BundleError(MusicGeneratorError):
    """A model bundle or a training run is missing a file, damaged or of another version."""


class TrainingError(MusicGeneratorError):
    """Training cannot go on; the text says at which step and what to change."""


class InstallationError(MusicGeneratorError):
    """Parts of the installed package do not belong together; the text says how to reinstall it."""


class MissingDependencyError(MusicGeneratorError):
    """An optional library or program is needed; the text says how to install it."""
