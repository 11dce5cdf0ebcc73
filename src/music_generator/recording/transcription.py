"""Transcribe a recording: the notes and pedals of a piano's sound."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from music_generator.errors import RecordingError
from music_generator.music.performance import Performance
from music_generator.recording import extra, transkun
from music_generator.recording.audio import QUIET_PEAK, SAMPLE_RATE, Recording, examine
from music_generator.recording.chunks import FIRST_FRAME, KEYS, Joiner, Network, chunks, known_in_next, share_done
from music_generator.sound.waveform import peak_of

Progress = Callable[[float, float], None]  # seconds done, seconds in all


def can_transcribe() -> bool:
    """Return whether the extra `transcribe` is installed."""
    return extra.is_installed()


def transcribe(path: str | Path, *, progress: Progress | None = None) -> Performance:
    """Return the notes, with velocities, and the pedals of a recording of a piano.

    The network is Transkun 2 (https://arxiv.org/abs/2404.09466), of the extra `transcribe`. It hears overlapping chunks
    of 16 s, so the memory that is needed does not grow with the recording.

    Args:
        path: A WAV, FLAC, OGG or MP3 file, of up to 4 hours, any rate and any number of channels.
        progress: Called after each chunk with the seconds that are done and the seconds in all; what it raises ends
            the work.

    Raises:
        RecordingError: The file cannot be read as sound, is cut off, silent or too long, or has no notes.
        MissingDependencyError: The extra is not installed.
    """
    recording, steps = open_transcription(path)
    while True:
        try:
            seconds = next(steps)
        except StopIteration as end:
            performance: Performance = end.value
            return performance
        if progress:
            progress(seconds, recording.seconds)


def open_transcription(path: str | Path) -> tuple[Recording, Generator[float, None, Performance]]:
    """Check a recording, and return it and the steps of transcribing it.

    Each step transcribes one chunk and yields the seconds that are done; the generator returns the performance.

    Raises:
        RecordingError: As `transcribe`; that there are no notes is found by the last step.
        MissingDependencyError: The extra is not installed.
    """
    recording = examine(path)
    if not can_transcribe():
        raise extra.missing(f"{path} is a recording")
    return recording, _steps(recording, transkun.Transkun())


def _steps(recording: Recording, network: Network) -> Generator[float, None, Performance]:
    joiner, known = Joiner(), [FIRST_FRAME] * len(KEYS)
    for start, samples in chunks(recording.blocks(), recording.channels_heard):
        if peak_of(samples) < QUIET_PEAK:  # the network makes all chunks equally loud: it would hear notes in the noise
            known = [0] * len(KEYS)
        else:
            events, known = network.events(samples, known)
            joiner.add(events, start / SAMPLE_RATE)
        known = known_in_next(known)
        yield recording.seconds * share_done(start, recording.seconds)
    performance = joiner.performance()
    if not len(performance):
        raise RecordingError(recording.path, "no notes of a piano were found in it")
    return performance
