"""The real network, on short pieces that the grand piano plays; in an environment with the extra `transcribe`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_generator import studio
from music_generator.errors import RecordingError
from music_generator.music.midi import read_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Array, Performance
from music_generator.recording import can_transcribe, transcribe
from music_generator.recording.audio import SAMPLE_RATE
from music_generator.sound import SoundOptions, render, write_audio

pytestmark = [
    pytest.mark.transcribe,
    pytest.mark.skipif(not can_transcribe(), reason="the extra `transcribe` is not installed"),
]


def piece(seconds: float) -> Performance:
    """Two voices and a long note, with a pedal press for each two seconds."""
    rng = np.random.default_rng(7)
    upper = [(t, 0.4, 60 + int(rng.integers(0, 20)), int(rng.integers(40, 100))) for t in np.arange(0.5, seconds, 0.5)]
    lower = [(t, 0.9, 36 + int(rng.integers(0, 16)), int(rng.integers(40, 100))) for t in np.arange(0.5, seconds, 1.0)]
    pedals = [(t, 1.2, 0, 127) for t in np.arange(1.0, seconds - 2, 2.0)]
    notes = np.array([*upper, *lower], NOTE_DTYPE)
    return Performance(notes, np.array(pedals, PEDAL_DTYPE))


def share_found(truth: Array, found: Array) -> float:
    """Return the F1 of notes whose onset is right within 50 ms."""
    hits = sum(
        bool(((found["pitch"] == note["pitch"]) & (np.abs(found["onset"] - note["onset"]) < 0.05)).any())
        for note in truth
    )
    return 2 * hits / (len(truth) + len(found))


def test_notes_across_chunks_are_found_once(tmp_path):
    truth = read_midi(Path(studio.__file__).parent / "example.mid").performance.between(0, 16)
    write_audio(tmp_path / "take.flac", render(truth))
    found = transcribe(tmp_path / "take.flac")
    assert share_found(truth.notes, found.notes) > 0.93
    assert np.corrcoef(*_velocities(truth.notes, found.notes))[0, 1] > 0.6
    assert len(found.pedals)
    assert found.end < 20


def _velocities(truth: Array, found: Array) -> tuple[list[int], list[int]]:
    pairs = []
    for note in truth:
        same = found[(found["pitch"] == note["pitch"]) & (np.abs(found["onset"] - note["onset"]) < 0.05)]
        if len(same):
            pairs.append((int(note["velocity"]), int(same["velocity"][0])))
    return [mine for mine, _ in pairs], [theirs for _, theirs in pairs]


def resampled(path: Path, samples: Array, sample_rate: int, **options: str) -> Path:
    import soxr

    soundfile.write(path, soxr.resample(samples, SAMPLE_RATE, sample_rate), sample_rate, **options)
    return path


@pytest.mark.parametrize(("sample_rate", "channels", "form"), [(192_000, 6, "wav"), (16_000, 1, "mp3")])
def test_rates_channels_and_formats_give_the_same_notes(tmp_path, sample_rate, channels, form):
    truth = piece(5.0)
    mono = render(truth, SoundOptions()).samples.mean(axis=1)
    samples = np.repeat(mono[:, None], channels, axis=1)
    found = transcribe(resampled(tmp_path / f"take.{form}", samples, sample_rate))
    assert share_found(truth.notes, found.notes) > 0.85


def test_what_is_no_piano_gives_some_notes_or_one_line(tmp_path):
    """Noise that swells and fades as speech does."""
    rng, time = np.random.default_rng(1), np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    swell, voice = np.abs(np.sin(2 * np.pi * 3 * time)), np.sin(2 * np.pi * 150 * time)
    speech = 0.2 * rng.standard_normal(len(time)) * swell * voice
    soundfile.write(tmp_path / "speech.wav", speech, SAMPLE_RATE)
    try:
        found = transcribe(tmp_path / "speech.wav")
    except RecordingError as error:
        assert "no notes of a piano were found in it" in str(error)  # noqa: PT017
    else:
        assert 0 < len(found) < 500
