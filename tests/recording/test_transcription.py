"""Transcribing with a network of known events: chunks, joins, progress, and errors."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from known_events import KnownEvents, assert_events, write_sound

import music_generator
from music_generator.errors import MissingDependencyError, RecordingError
from music_generator.recording import can_transcribe, extra, transcribe, transkun
from music_generator.recording.audio import SAMPLE_RATE
from music_generator.recording.chunks import LEAD_SAMPLES, STEP_SAMPLES, Event
from music_generator.recording.transcription import open_transcription

PIECE = [
    Event(60, 0.0, 0.5, 64),
    Event(60, 0.6, 7.95, 65),
    Event(60, 7.96, 8.05, 66),  # where the first chunk ends
    Event(64, 5.0, 29.0, 40),  # longer than a chunk
    Event(21, 15.9, 16.1, 127),
    Event(108, 24.0, 30.9, 1),
    Event(108, 31.0, 33.4, 2),  # held where the recording ends
    Event(-64, 1.0, 8.02, 100),
    Event(-64, 8.1, 31.0, 64),
    Event(-67, 12.0, 12.5, 90),
]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> KnownEvents:
    known = KnownEvents(PIECE)
    monkeypatch.setattr(extra, "is_installed", lambda: True)
    monkeypatch.setattr(transkun, "Transkun", lambda: known)
    return known


@pytest.mark.parametrize("channels", [1, 2])
def test_events_come_back_across_chunks(tmp_path, network, channels):
    path, reported = write_sound(tmp_path / "take.wav", 33.4, channels=channels), []
    performance = transcribe(path, progress=lambda done, seconds: reported.append((round(done, 2), seconds)))
    assert_events(performance, PIECE)
    step = 33.4 * STEP_SAMPLES / (33.4 * SAMPLE_RATE + LEAD_SAMPLES)
    assert reported == [*((round(step * i, 2), 33.4) for i in range(1, 6)), (33.4, 33.4)]
    assert {samples.shape[0] for samples in network.heard} == {channels}


@pytest.mark.usefixtures("network")
def test_it_is_a_public_name(tmp_path):
    assert_events(music_generator.transcribe(str(write_sound(tmp_path / "take.flac", 33.4))), PIECE)


@pytest.mark.parametrize("sample_rate", [8_000, 192_000])
def test_the_network_hears_every_rate_alike(tmp_path, network, sample_rate):
    pytest.importorskip("soxr", reason="resampling needs soxr, of the extras `transcribe` and `dev`")
    assert_events(transcribe(write_sound(tmp_path / "take.wav", 33.4, sample_rate)), PIECE)
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE)
    sound = network.heard[0][0, 8 * SAMPLE_RATE :][: len(tone)]
    np.testing.assert_allclose(sound[2000:], tone[2000:], atol=1e-3)


def test_steps_are_as_many_as_chunks(tmp_path, network):
    recording, steps = open_transcription(write_sound(tmp_path / "take.wav", 20.0))
    assert (recording.seconds, recording.channels) == (20.0, 1)
    assert [round(done, 1) for done in steps] == [5.7, 11.4, 17.2, 20.0]
    assert len(network.heard) == 4


def test_what_progress_raises_ends_it(tmp_path, network):
    def stop(*_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcribe(write_sound(tmp_path / "take.wav", 20.0), progress=stop)
    assert len(network.heard) == 1


def test_a_silent_chunk_is_not_given_to_the_network(tmp_path, network):
    """The real network makes all chunks equally loud, so that it would hear notes in dither."""
    sound = np.random.default_rng(0).integers(-1, 2, 40 * SAMPLE_RATE).astype(np.int16)
    sound[:SAMPLE_RATE] = 3000
    soundfile.write(tmp_path / "take.wav", sound, SAMPLE_RATE)
    transcribe(tmp_path / "take.wav")
    assert len(network.heard) == 2  # of 6: the first second lies in two of them


def test_no_notes_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(extra, "is_installed", lambda: True)
    monkeypatch.setattr(transkun, "Transkun", lambda: KnownEvents([Event(-64, 1.0, 2.0, 100)]))
    with pytest.raises(RecordingError, match=r"take\.wav: no notes of a piano were found in it"):
        transcribe(write_sound(tmp_path / "take.wav", 5.0))


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(extra, "is_installed", lambda: False)
    assert not can_transcribe()
    with pytest.raises(MissingDependencyError, match=r'take\.wav is a recording: .*pip install "\.\[transcribe\]"'):
        transcribe(write_sound(tmp_path / "take.wav", 5.0))
