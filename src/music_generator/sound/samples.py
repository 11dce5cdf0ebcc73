"""The recorded grand piano: its index, its files, and the tones of every key made of them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from music_generator.errors import HOW_TO_REINSTALL, InstallationError
from music_generator.music.performance import LOWEST_PITCH
from music_generator.sound.files import require_soundfile
from music_generator.sound.resample import Resampler

Array = NDArray[Any]

SAMPLES = Path(__file__).parent / "salamander"


@dataclass(frozen=True)
class Recording:
    """A recorded tone of the index.

    Attributes:
        file: Name of its file.
        seconds: Its length.
        sample_rate: Of the file, in Hz.
        gain: Factor that brings it to the level of its key, the same for each layer.
        overlap: Correlation with the next louder layer, 0 to 1.
    """

    file: str
    seconds: float
    sample_rate: int
    gain: float
    overlap: float = 0.0


@dataclass(frozen=True)
class Index:
    """The set of samples.

    Attributes:
        credit: Who recorded it, and the licence.
        velocities: The velocity at which each layer sounds alone, ascending.
        stretch: Cents that each of the 88 keys lies above equal temperament.
        tones: Recordings of each recorded key, one a layer.
        releases: Noise of the damper, by recorded key.
        pedals: Noise of the sustain pedal, "pedal-down" and "pedal-up".
    """

    credit: str
    velocities: tuple[int, ...]
    stretch: tuple[float, ...]
    tones: dict[int, tuple[Recording, ...]]
    releases: dict[int, Recording]
    pedals: dict[str, Recording]


@lru_cache(maxsize=1)
def read_index() -> Index:
    """Return the index of the set in the package.

    Raises:
        InstallationError: It is missing.
    """
    try:
        facts = json.loads((SAMPLES / "index.json").read_text("utf-8"))
    except OSError as error:
        raise InstallationError(f"the piano's samples are missing from the package; {HOW_TO_REINSTALL}") from error
    tones: dict[int, list[Recording]] = {}
    for row in facts["tones"]:
        tones.setdefault(row["key"], []).append(_recording(row))
    noises = facts["noises"]
    return Index(
        credit=facts["credit"],
        velocities=tuple(facts["layers"]),
        stretch=tuple(facts["stretch"]),
        tones={key: tuple(rows) for key, rows in tones.items()},
        releases={row["key"]: _recording(row) for row in noises if row["kind"] == "release"},
        pedals={row["kind"]: _recording(row) for row in noises if row["kind"] != "release"},
    )


def _recording(row: dict[str, Any]) -> Recording:
    return Recording(row["file"], row["seconds"], row["sample_rate"], row["gain"], row.get("overlap", 0.0))


def nearest(key: int, recorded: Collection[int]) -> int:
    """Return the recorded key that is nearest to a key."""
    return next(each for away in range(128) for each in (key - away, key + away) if each in recorded)


class Samples:
    """The samples at one sample rate, decoded when they are asked for."""

    def __init__(self, sample_rate: int) -> None:
        self.index, self.sample_rate = read_index(), sample_rate
        self._soundfile = require_soundfile("the piano's samples")

    def recordings(self, key: int) -> tuple[Recording, ...]:
        """Return the recordings of each layer for a key."""
        return self.index.tones[nearest(key, self.index.tones)]

    def seconds(self, key: int) -> float:
        """Return how long the longest tone of a key lasts."""
        return max(each.seconds for each in self.recordings(key)) / self._pitch_ratio(key)

    def tone(self, key: int, layer: int, frames: int) -> Array:
        """Return the beginning of a tone as it is in its file, float32 of shape (2, frames), zero after its end."""
        return self._read(self.recordings(key)[layer], self._pitch_ratio(key), frames)

    def noise(self, recording: Recording) -> Array:
        """Return a noise as it is in its file, float32 of shape (2, frames)."""
        return self._read(recording, 1.0, int(recording.seconds * self.sample_rate))

    def _pitch_ratio(self, key: int) -> float:
        """Return by what the recorded key is to be played faster to sound as `key` on the stretched curve."""
        recorded, stretch = nearest(key, self.index.tones), self.index.stretch
        cents = stretch[key - LOWEST_PITCH] - stretch[recorded - LOWEST_PITCH]
        return float(2 ** ((key - recorded + cents / 100) / 12))

    def _read(self, recording: Recording, pitch_ratio: float, frames: int) -> Array:
        resampler = _resampler(pitch_ratio * recording.sample_rate / self.sample_rate)
        try:
            read, _ = self._soundfile.read(SAMPLES / recording.file, resampler.needed(frames), dtype="float32")
        except (OSError, self._soundfile.SoundFileError) as error:
            raise InstallationError(f"{recording.file} of the piano cannot be read; {HOW_TO_REINSTALL}") from error
        return resampler(read.T, frames)


@lru_cache(maxsize=256)  # every key from both rates of the files
def _resampler(ratio: float) -> Resampler:
    return Resampler(ratio)
