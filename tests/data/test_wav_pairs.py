"""Pairs of MIDI and WAV files: durations and offsets."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from maestro_files import csv_text, dataset

from music_generator.data import maestro
from music_generator.data import wav_pairs as pairs
from music_generator.errors import CorpusError, InputError


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int = 8000, width: int = 2, channels: int = 1) -> Path:
    """Samples in -1..1, the same in every channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = np.repeat((samples * (2.0**31 - 1)).astype("<i4"), channels)
    with wave.open(str(path), "wb") as wav:
        wav.setparams((channels, width, rate, 0, "NONE", ""))
        wav.writeframes(scaled.view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes())
    return path


def pair_of(folder: Path, recording: maestro.Recording) -> pairs.AudioPair:
    midi_path, wav_path = folder / recording.midi_filename, folder / recording.audio_filename
    return pairs.pair_files(midi_path, wav_path, recording.duration_seconds)


def test_pairs_and_their_faults(tmp_path: Path) -> None:
    folder = dataset(tmp_path, csv_text())
    recordings = maestro.read_metadata(folder)
    write_wav(folder / "2004/a.wav", np.zeros(12_000), channels=2)
    write_wav(folder / "2004/b.wav", np.zeros(44_000))
    pair = pair_of(folder, recordings[0])
    assert (pair.midi_seconds, pair.wav_seconds, pair.sample_rate, pair.channels) == (1.0, 1.5, 8000, 2)
    assert pair.difference_seconds == pytest.approx(0.5)
    faults = list(pairs.check_pairs(folder, recordings))
    assert [fault.recording.title for fault in faults] == ["In the Mists", "Sonata Op. 1"]
    assert "b.wav is 4.25 s longer than its MIDI file" in faults[0].problem
    assert "cannot be read" in faults[1].problem
    assert faults[1].pair is None
    assert len(list(pairs.check_pairs(folder, recordings, tolerance_seconds=0.1))) == 3


def test_bad_wav_files_are_refused(tmp_path: Path) -> None:
    recording = replace(maestro.read_metadata(dataset(tmp_path, csv_text()))[0], audio_filename="x.wav")
    path = tmp_path / "x.wav"
    whole = write_wav(path, np.zeros(8000)).read_bytes()
    for data, message in (
        (whole[:5000], "is cut short"),
        (b"", "is not a PCM WAV file: it ends in its header"),
        (b"RIFF" + bytes(100), "is not a PCM WAV file"),
    ):
        path.write_bytes(data)
        with pytest.raises(CorpusError, match=message):
            pair_of(tmp_path, recording)


def test_audio_beside(tmp_path: Path) -> None:
    assert pairs.audio_beside(tmp_path / "x.midi") is None
    path = write_wav(tmp_path / "x.wav", np.zeros(10))
    assert pairs.audio_beside(tmp_path / "x.midi") == path


def clicks(onsets: np.ndarray[Any, Any], rate: int, seconds: float) -> np.ndarray[Any, Any]:
    """A decaying tone of one of a few pitches and loudnesses at each onset, over a little noise."""
    generator = np.random.default_rng(1)
    sound = generator.normal(0, 1e-4, int(seconds * rate))
    time = np.arange(int(0.4 * rate)) / rate
    for onset in onsets:
        tone = generator.uniform(0.1, 0.4) * np.exp(-8 * time) * np.sin(2 * np.pi * generator.uniform(100, 900) * time)
        start = int(onset * rate)
        room = sound[start : start + len(tone)]
        room += tone[: len(room)]
    return np.asarray(np.clip(sound, -1, 1))


@pytest.mark.parametrize(("rate", "width", "channels"), [(8000, 2, 1), (11025, 3, 2), (8000, 4, 2)])
@pytest.mark.parametrize("shift", [0.0, 0.25, -0.25, 3.1])
def test_offset_is_found(tmp_path: Path, rate: int, width: int, channels: int, shift: float) -> None:
    onsets = 1 + np.cumsum(np.random.default_rng(2).uniform(0.05, 0.6, 40))
    sound = clicks(onsets + shift, rate, 20)
    path = write_wav(tmp_path / "x.wav", sound, rate, width, channels)
    assert pairs.estimate_offset(path, onsets) == pytest.approx(shift, abs=0.01)


def test_offset_refusals(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "x.wav", np.zeros(8000))
    with pytest.raises(InputError, match="an onset in the first 60 seconds"):
        pairs.estimate_offset(path, [61.0, 62.0])
    with pytest.raises(CorpusError, match="is silent in its first 60 seconds"):
        pairs.estimate_offset(path, [0.5])
    with pytest.raises(CorpusError, match="cannot be read"):
        pairs.estimate_offset(tmp_path / "none.wav", [0.5])
    with pytest.raises(CorpusError, match="must have 16, 24 or 32 bits per sample, not 8"):
        pairs.estimate_offset(write_wav(path, np.zeros(8000), width=1), [0.5])
