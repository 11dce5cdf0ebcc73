"""MAESTRO: its releases and their download, its metadata and official splits.

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

from numpy.typing import NDArray

from music_generator.data.download import Progress, fetch, is_contained
from music_generator.data.download import unpack as unpack  # download and unpack are one matter to the caller
from music_generator.errors import CorpusError, InputError

__all__ = ["RELEASES", "Recording", "Survey", "download", "find_recordings", "is_maestro", "read_metadata", "unpack"]

BASE_URL = "https://storage.googleapis.com/magentadata/datasets/maestro"
SPLITS = ("train", "validation", "test")

Array = NDArray[Any]


@dataclass(frozen=True)
class Archive:
    """One file of a release: its size (where known) and its published sha256 (None where it could not be verified)."""

    name: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Release:
    """One version of MAESTRO, with and without its WAV files."""

    version: str
    midi: Archive
    full: Archive


# Sums of v3.0.0: the dataset's page; of v1.0.0 MIDI: its author in github.com/magenta/magenta/issues/1342; of v2.0.0:
# MusPy's muspy/datasets/maestro.py (whence the MIDI sizes too) and others that agree. None for v1.0.0 with audio: a
# sum is quoted in one place only, and a wrong one would throw away 87 GB.
RELEASES: dict[str, Release] = {
    release.version: release
    for release in (
        Release(
            "1.0.0",
            Archive(
                "maestro-v1.0.0-midi.zip",
                46_579_421,
                "f620f9e1eceaab8beea10617599add2e9c83234199b550382a2f603098ae7135",
            ),
            Archive("maestro-v1.0.0.zip"),
        ),
        Release(
            "2.0.0",
            Archive(
                "maestro-v2.0.0-midi.zip",
                59_243_107,
                "ec2cc9d94886c6b376db1eaa2b8ad1ce62ff9f0a28b3744782b13163295dadf3",
            ),
            Archive("maestro-v2.0.0.zip", None, "572c6054e8d2c7219aa4df9a29357da0f9789524c11fa38cef7d4bd8542c93f0"),
        ),
        Release(
            "3.0.0",
            Archive(
                "maestro-v3.0.0-midi.zip",
                58_416_533,
                "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c",
            ),
            Archive(
                "maestro-v3.0.0.zip",
                108_445_099_632,
                "6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291",
            ),
        ),
    )
}


def download(
    release: str,
    folder: str | Path,
    *,
    with_audio: bool = False,
    base_url: str = BASE_URL,
    progress: Progress | None = None,
) -> Path:
    """The archive of `release` ("1.0.0", "2.0.0" or "3.0.0") in `folder`, downloaded or resumed as `fetch` tells.

    `with_audio` asks for the archive with WAV files (about 100 GB) in place of the MIDI-only one (about 50 MB).
    `base_url` may name a mirror; the checksum stays the published one. `unpack` comes next.

    Raises `InputError` for an unknown release and `DownloadError` as `fetch` does.
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
    """Every file that could be the metadata: CSV files before JSON files, in `folder` before its MAESTRO folders."""
    for place in ("", "maestro-v*/"):
        for suffix in (".csv", ".json"):
            if files := sorted(path for path in folder.glob(f"{place}maestro-v*{suffix}") if path.is_file()):
                return files
    return []


def is_maestro(folder: str | Path) -> bool:
    """Whether `folder`, or a `maestro-v…` folder in it, holds MAESTRO's metadata."""
    return bool(_metadata_files(Path(folder)))


def metadata_file(folder: str | Path) -> Path:
    files = _metadata_files(Path(folder))
    if not files:
        raise CorpusError(f"{folder} is not MAESTRO: it holds no maestro-v….csv or maestro-v….json")
    if len(files) > 1:
        raise CorpusError(f"{folder} holds several: {', '.join(map(str, files))}; name the folder of one release")
    return files[0]


def read_metadata(folder: str | Path) -> list[Recording]:
    """Every recording the metadata lists, in its order, whether its files are there or not.

    `folder` is the dataset's or the one it lies in. The CSV file is read, or the JSON file where there is none, as
    rows (a list of records) or as columns (the layout of 3.0.0).

    Raises `CorpusError` if there is none, or if it cannot be read: another encoding than UTF-8 or UTF-16 with a
    byte order mark, a missing column, an unknown split, a path that leaves the folder, a MIDI file listed twice.
    """
    return _read_metadata(metadata_file(folder))


def _read_metadata(path: Path) -> list[Recording]:
    text = _text(path)
    rows = _csv_rows(text, path) if path.suffix == ".csv" else _json_rows(text, path)
    recordings = [_recording(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]
    if not recordings:
        raise CorpusError(f"{path} lists no recordings")
    midi_filename, times = Counter(recording.midi_filename for recording in recordings).most_common(1)[0]
    if times > 1:
        raise CorpusError(f"{path} lists {midi_filename} {times} times")
    return recordings


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _check_columns(reader.fieldnames or (), path)
        return list(reader)
    except csv.Error as error:
        raise CorpusError(f"{path} is not a CSV file: {error}") from error


def _json_rows(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path} is not a JSON file: {error}") from error
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        _check_columns(set(data[0]).intersection(*data), path)
        return data
    if isinstance(data, dict) and all(isinstance(column, dict) for column in data.values()):
        _check_columns(data, path)
        keys = list(data[COLUMNS[0]])
        if all(set(data[name]) == set(keys) for name in COLUMNS):
            return [{name: data[name][key] for name in COLUMNS} for key in keys]
    raise CorpusError(f"{path} must be a list of records or a table of columns of one length")


def _check_columns(names: Iterable[str], path: Path) -> None:
    if missing := [name for name in COLUMNS if name not in set(names)]:
        raise CorpusError(f"{path} lacks the columns {', '.join(missing)}")


def _recording(row: Mapping[str, Any], where: str) -> Recording:
    values = [row[name] for name in COLUMNS]
    if None in values or None in row:  # as csv marks a row that is too short or too long
        raise CorpusError(f"{where}: it must have a value in each column")
    composer, title, split, year, midi_filename, audio_filename, duration = (str(value) for value in values)
    if split not in SPLITS:
        raise CorpusError(f"{where}: the split must be one of {', '.join(SPLITS)}, not {split!r}")
    for name in (midi_filename, audio_filename):
        if not is_contained(name):
            raise CorpusError(f"{where}: the path {name!r} must stay inside the dataset's folder")
    try:
        seconds = float(duration)
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError
        return Recording(composer, title, split, int(year), midi_filename, audio_filename, seconds)
    except ValueError as error:
        message = f"{where}: the year must be a whole number and the duration positive, not {year!r} and {duration!r}"
        raise CorpusError(message) from error


@dataclass(frozen=True)
class SplitCount:
    """How many recordings of a split the metadata lists, and how many of their MIDI files are there."""

    present: int
    listed: int


@dataclass(frozen=True)
class Survey:
    """What is there of MAESTRO in `folder`; a split may be incomplete or absent.

    `recordings` are those whose MIDI file is there and `missing` the MIDI files that are not, both in the metadata's
    order; `counts` has every split's name; `version` is None if the metadata's file name gives none.
    """

    folder: Path
    version: str | None
    recordings: tuple[Recording, ...]
    missing: tuple[str, ...]
    counts: Mapping[str, SplitCount]


def find_recordings(folder: str | Path) -> Survey:
    """Which of the listed MIDI files are there; `folder` is the dataset's or the one it lies in.

    Raises `CorpusError` as `read_metadata` does; missing MIDI files are no error.
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
