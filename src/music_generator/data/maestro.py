"""MAESTRO: its releases, their download, the metadata and the official splits.

Source: Hawthorne et al., "Enabling Factorized Piano Music Modeling and Generation with the MAESTRO Dataset"
(ICLR 2019), https://magenta.tensorflow.org/datasets/maestro, licence CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from music_generator.data.corpus import SPLITS
from music_generator.data.download import Progress, fetch
from music_generator.data.unpack import is_contained
from music_generator.errors import CorpusError, InputError

__all__ = ["RELEASES", "Recording", "Survey", "download", "find_recordings", "is_maestro", "read_metadata"]

BASE_URL = "https://storage.googleapis.com/magentadata/datasets/maestro"


@dataclass(frozen=True)
class Archive:
    """One file of a release, and its published sha256, or None if it could not be verified."""

    name: str
    sha256: str | None


@dataclass(frozen=True)
class Release:
    """One version of MAESTRO: the archive of MIDI files alone, and the full one with WAV files."""

    midi: Archive
    full: Archive


# Sources of the checksums: the dataset's page for v3.0.0; its author in github.com/magenta/magenta/issues/1342 for the
# MIDI files of v1.0.0; MusPy's muspy/datasets/maestro.py and others that agree for v2.0.0. None for v1.0.0 with audio:
# only one place quotes a checksum, and a wrong one would throw away 87 GB.
RELEASES: dict[str, Release] = {
    "1.0.0": Release(
        Archive("maestro-v1.0.0-midi.zip", "f620f9e1eceaab8beea10617599add2e9c83234199b550382a2f603098ae7135"),
        Archive("maestro-v1.0.0.zip", None),
    ),
    "2.0.0": Release(
        Archive("maestro-v2.0.0-midi.zip", "ec2cc9d94886c6b376db1eaa2b8ad1ce62ff9f0a28b3744782b13163295dadf3"),
        Archive("maestro-v2.0.0.zip", "572c6054e8d2c7219aa4df9a29357da0f9789524c11fa38cef7d4bd8542c93f0"),
    ),
    "3.0.0": Release(
        Archive("maestro-v3.0.0-midi.zip", "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c"),
        Archive("maestro-v3.0.0.zip", "6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291"),
    ),
}


def download(
    release: str,
    folder: str | Path,
    *,
    with_audio: bool = False,
    base_url: str = BASE_URL,
    progress: Progress | None = None,
) -> Path:
    """Download the archive of a release into `folder`, or resume its download as `fetch` does.

    Args:
        release: "1.0.0", "2.0.0" or "3.0.0".
        folder: The folder for the archive.
        with_audio: Whether to download the archive with WAV files (about 100 GB), not that of MIDI files (50 MB).
        base_url: A mirror; the archive must have the published checksum.
        progress: Called with the bytes done and the bytes in all.

    Returns:
        The path of the archive, for `unpack`.

    Raises:
        InputError: The release is unknown.
        DownloadError: As `fetch` raises it.
    """
    if release not in RELEASES:
        raise InputError(f"`release` must be one of {', '.join(RELEASES)}, not {release}")
    archive = RELEASES[release].full if with_audio else RELEASES[release].midi
    url = f"{base_url.rstrip('/')}/v{release}/{archive.name}"
    return fetch(url, Path(folder) / archive.name, sha256=archive.sha256, progress=progress)


@dataclass(frozen=True)
class Recording:
    """One row of MAESTRO's metadata; file names are relative to the dataset's folder, with `/`."""

    composer: str
    title: str
    split: str
    year: int
    midi_filename: str
    audio_filename: str
    duration_seconds: float


COLUMNS = ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration")


def _metadata_files(folder: Path) -> list[Path]:
    """Return the files that may be the metadata: CSV rather than JSON files, in `folder` rather than in one in it."""
    for place in ("", "maestro-v*/"):
        for suffix in (".csv", ".json"):
            if files := sorted(path for path in folder.glob(f"{place}maestro-v*{suffix}") if path.is_file()):
                return files
    return []


def is_maestro(folder: str | Path) -> bool:
    """Return whether `folder`, or a folder `maestro-v…` in it, contains MAESTRO's metadata."""
    return bool(_metadata_files(Path(folder)))


def metadata_file(folder: str | Path) -> Path:
    """Return the metadata file of the dataset in `folder`; raises as `read_metadata` does."""
    files = _metadata_files(Path(folder))
    if not files:
        raise CorpusError(folder, "this is not MAESTRO: there is no maestro-v….csv or maestro-v….json in it")
    if len(files) > 1:
        raise CorpusError(folder, f"it contains several ({', '.join(map(str, files))}); name the folder of one release")
    return files[0]


def read_metadata(folder: str | Path) -> list[Recording]:
    """Read all recordings that the metadata lists, in its order, also those whose files are missing.

    The CSV file is read, or the JSON file if there is no other: a list of records, or a table of columns as in 3.0.0.

    Args:
        folder: The folder of the dataset, or the one that contains it.

    Raises:
        CorpusError: There is no metadata, or it cannot be read: an encoding other than UTF-8 or UTF-16 with a byte
            order mark, a missing column, an unknown split, a path that leaves the folder, a MIDI file listed twice.
    """
    return _read_metadata(metadata_file(folder))


def _read_metadata(path: Path) -> list[Recording]:
    text = _text(path)
    rows = _csv_rows(text, path) if path.suffix == ".csv" else _json_rows(text, path)
    recordings = [_recording(row, path, number) for number, row in enumerate(rows, 1)]
    if not recordings:
        raise CorpusError(path, "it lists no recordings")
    midi_filename, times = Counter(recording.midi_filename for recording in recordings).most_common(1)[0]
    if times > 1:
        raise CorpusError(path, f"it lists {midi_filename} {times} times")
    return recordings


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except OSError as error:
        raise CorpusError(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(path, f"it is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _check_columns(reader.fieldnames or (), path)
        return list(reader)
    except csv.Error as error:
        raise CorpusError(path, f"it is not a CSV file: {error}") from error


def _json_rows(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(path, f"it is not a JSON file: {error}") from error
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        _check_columns(set(data[0]).intersection(*data), path)
        return data
    if isinstance(data, dict) and all(isinstance(column, dict) for column in data.values()):
        _check_columns(data, path)
        keys = list(data[COLUMNS[0]])
        if all(set(data[name]) == set(keys) for name in COLUMNS):
            return [{name: data[name][key] for name in COLUMNS} for key in keys]
    raise CorpusError(path, "it must be a list of records or a table of columns of one length")


def _check_columns(names: Iterable[str], path: Path) -> None:
    if missing := [name for name in COLUMNS if name not in set(names)]:
        raise CorpusError(path, f"it lacks the columns {', '.join(missing)}")


def _recording(row: Mapping[str, Any], path: Path, number: int) -> Recording:
    def fault(reason: str) -> CorpusError:
        return CorpusError(path, f"row {number}: {reason}")

    values = [row[name] for name in COLUMNS]
    if None in values or None in row:  # as csv marks a row that is too short or too long
        raise fault("it must have a value in each column")
    composer, title, split, year, midi_filename, audio_filename, duration = (str(value) for value in values)
    if split not in SPLITS:
        raise fault(f"the split must be one of {', '.join(SPLITS)}, not {split!r}")
    for name in (midi_filename, audio_filename):
        if not is_contained(name):
            raise fault(f"the path {name!r} must stay inside the dataset's folder")
    try:
        seconds = float(duration)
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError
        return Recording(composer, title, split, int(year), midi_filename, audio_filename, seconds)
    except ValueError as error:
        raise fault(
            f"the year must be a whole number and the duration positive, not {year!r} and {duration!r}"
        ) from error


@dataclass(frozen=True)
class SplitCount:
    """The number of recordings that the metadata lists in a split, and how many of their MIDI files are present."""

    present: int
    listed: int


@dataclass(frozen=True)
class Survey:
    """The part of MAESTRO that is present; a split may be incomplete or missing.

    Attributes:
        folder: The folder of the dataset.
        version: The release, or None if the name of the metadata file does not say it.
        recordings: The recordings whose MIDI file is present, in the order of the metadata.
        missing: The MIDI files that are not present, in the same order.
        counts: The numbers of recordings of each split.
    """

    folder: Path
    version: str | None
    recordings: tuple[Recording, ...]
    missing: tuple[str, ...]
    counts: Mapping[str, SplitCount]


def find_recordings(folder: str | Path) -> Survey:
    """Find out which of the listed MIDI files are present; missing ones are no error.

    Args:
        folder: The folder of the dataset, or the one that contains it.

    Raises:
        CorpusError: As `read_metadata` raises it.
    """
    path = metadata_file(folder)
    recordings = _read_metadata(path)
    present = tuple(recording for recording in recordings if (path.parent / recording.midi_filename).is_file())
    there = {recording.midi_filename for recording in present}
    missing = tuple(recording.midi_filename for recording in recordings if recording.midi_filename not in there)
    found, listed = (Counter(recording.split for recording in group) for group in (present, recordings))
    counts = {split: SplitCount(found[split], listed[split]) for split in SPLITS}
    version = re.fullmatch(r"maestro-v(\d+\.\d+\.\d+)", path.stem)
    return Survey(path.parent, version[1] if version else None, present, missing, counts)
