"""Reading recordings: what is one, what is refused in one line, and the same sound from every kind of file."""

from __future__ import annotations

import os
import struct
import sys

import numpy as np
import pytest
import soundfile
from known_events import write_sound

from music_generator.errors import MissingDependencyError, RecordingError
from music_generator.music.midi import write_midi
from music_generator.music.performance import Performance
from music_generator.recording import audio
from music_generator.recording.audio import SAMPLE_RATE, examine, is_recording, is_recording_file


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf"])
def test_a_recording_is_known_by_its_content(tmp_path, form):
    path = write_sound(tmp_path / f"take.{form}", 0.5)
    misnamed = path.rename(tmp_path / "take.mid")
    assert is_recording_file(misnamed)
    assert examine(misnamed).seconds == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    "head",
    [b"", b"M", write_midi(Performance()), b"RIFF\x10\x00\x00\x00RMIDdata", b'{"piece": 1}', b"\xff\x00\x00", b"RIFF"],
)
def test_other_files_are_no_recordings(head):
    assert not is_recording(head)


def test_a_file_that_cannot_be_read_is_no_recording(tmp_path):
    assert not is_recording_file(tmp_path / "none.wav")
    assert not is_recording_file(tmp_path)


@pytest.mark.parametrize(
    "head", [b"\x00\x00\x00\x20ftypisom", b"\x1a\x45\xdf\xa3webm", b"RIFF\x10\x00\x00\x00AVI LIST"]
)
def test_a_film_is_named_as_what_cannot_be_read(tmp_path, head):
    path = tmp_path / "film.mp4"
    path.write_bytes(head + bytes(2000))
    assert is_recording_file(path)
    with pytest.raises(RecordingError, match=r"film\.mp4: it cannot be read as sound; .* ffmpeg"):
        examine(path)


def wav_header(frames: int, sample_rate: int = 44_100, kind: int = 1, bits: int = 16) -> bytes:
    size = frames * bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, 1, sample_rate, sample_rate * bits // 8, bits // 8, bits)
    return (
        struct.pack("<4sI4s", b"RIFF", min(36 + size, 2**32 - 1), b"WAVE") + form + struct.pack("<4sI", b"data", size)
    )


def test_no_file_no_sound_and_silence_are_refused(tmp_path):
    path = tmp_path / "take.wav"
    with pytest.raises(RecordingError, match=r"take\.wav: no such file"):
        examine(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        examine(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match="the file is empty"):
        examine(path)
    path.write_bytes(b"the words of a song " * 100)
    with pytest.raises(RecordingError, match="cannot be read as sound"):
        examine(path)
    path.write_bytes(wav_header(0))
    with pytest.raises(RecordingError, match="there is no sound in it"):
        examine(path)
    soundfile.write(path, np.zeros(44_100), 44_100)
    with pytest.raises(RecordingError, match="it is silent, so there are no notes in it"):
        examine(path)
    soundfile.write(path, np.random.default_rng(0).integers(-1, 2, 44_100).astype(np.int16), 44_100)  # dither
    with pytest.raises(RecordingError, match="it is silent"):
        examine(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    sound = np.full(3 * SAMPLE_RATE, 0.1)
    sound[2 * SAMPLE_RATE] = value
    soundfile.write(tmp_path / "take.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(RecordingError, match="its sound has values that are no numbers"):
        examine(tmp_path / "take.wav")


def test_a_day_is_refused_before_it_is_read(tmp_path):
    path, frames = tmp_path / "day.wav", 24 * 3600 * 8000
    with path.open("wb") as file:
        file.write(wav_header(frames, 8000))
        file.truncate(44 + 2 * frames)  # a hole, which takes no space
    with pytest.raises(RecordingError, match=r"it lasts 24\.0 hours; up to 4 hours are transcribed at once: cut it"):
        examine(path)


def test_a_recording_that_is_longer_than_it_says_is_refused(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "take.wav", 3.0)
    monkeypatch.setattr(audio, "MOST_HOURS", 2 / 3600)
    with pytest.raises(RecordingError, match=r"up to 0\.000555556 hours"):
        examine(path)


def test_rates_that_no_recording_has_are_refused(tmp_path):
    path = tmp_path / "take.wav"
    path.write_bytes(wav_header(100, 10) + bytes(range(1, 201)))
    with pytest.raises(RecordingError, match="1,000 to 1,000,000 samples a second, not 10"):
        examine(path)


@pytest.mark.parametrize("form", ["flac", "mp3", "ogg"])
def test_files_that_are_cut_off(tmp_path, capfd, form):
    """The half of a FLAC or OGG file is refused; that of an MP3 file is a shorter MP3 file where its head allows."""
    path = write_sound(tmp_path / f"take.{form}", 20.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        recording = examine(path)
    except RecordingError as error:
        assert "cut off after" in str(error)  # noqa: PT017
    else:
        assert form != "flac"
        assert 8 < recording.seconds < 12
    os.write(2, b"stderr is back")
    assert capfd.readouterr().err == "stderr is back"  # the decoder itself has said nothing


@pytest.mark.parametrize(
    ("sample_rate", "channels"),
    [(44_100, 1), (44_100, 2), (44_100, 6), (8_000, 1), (48_000, 2), (192_000, 2), (22_050, 6)],
)
def test_every_rate_and_number_of_channels_gives_the_same_tone(tmp_path, monkeypatch, sample_rate, channels):
    if sample_rate != SAMPLE_RATE:
        pytest.importorskip("soxr", reason="resampling needs soxr, of the extras `transcribe` and `dev`")
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 10_000)  # many blocks
    recording = examine(write_sound(tmp_path / "take.wav", 2.0, sample_rate, channels, subtype="FLOAT"))
    assert (recording.sample_rate, recording.channels, recording.seconds) == (sample_rate, channels, 2.0)
    assert recording.channels_heard == (channels if channels <= 2 else 1)
    sound = np.concatenate(list(recording.blocks()))
    assert sound.dtype == np.float32
    assert sound.shape == (2 * SAMPLE_RATE, recording.channels_heard)
    tone = np.sin(2 * np.pi * 440 * np.arange(len(sound)) / SAMPLE_RATE)
    levels = [0.2 / (1 + i) for i in range(channels)]
    expected = [np.mean(levels)] if channels > 2 else levels
    inner = slice(2000, -2000)  # where a tone begins, all frequencies sound
    np.testing.assert_allclose(sound[inner], tone[inner, None] * expected, atol=1e-3)


def test_a_recording_that_is_gone_is_named(tmp_path):
    recording = examine(write_sound(tmp_path / "take.wav", 1.0))
    recording.path.unlink()
    with pytest.raises(RecordingError, match="no such file"):
        next(recording.blocks())


def test_soxr_is_named_where_it_is_missing(tmp_path, monkeypatch):
    recording = examine(write_sound(tmp_path / "take.wav", 1.0, 48_000))
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(
        MissingDependencyError, match=r"a recording at 48000 Hz needs the package soxr.*\.\[transcribe\]"
    ):
        next(recording.blocks())
