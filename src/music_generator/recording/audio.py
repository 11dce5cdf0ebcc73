"""Read the sound of a recording: whether a file is one, what is in it, and its samples in blocks at one rate."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import MissingDependencyError, RecordingError, how_to_install
from music_generator.sound.files import require_soundfile
from music_generator.sound.waveform import peak_of

Array = NDArray[Any]

SAMPLE_RATE = 44_100
"""The rate in Hz at which the network hears a recording."""
MOST_CHANNELS = 2  # more are mixed to one
MOST_HOURS = 4.0
"""The longest recording; at several seconds of computing for each second of sound a day would take days."""
RATES = (1_000, 1_000_000)  # in Hz
QUIET_PEAK = 1e-4
"""The largest sample, -80 dB, below which sound is silence; dither of 16 bits is at 3e-5."""
BLOCK_SAMPLES = 1 << 18  # of all channels together
HEAD_BYTES = 12
STDERR = 2  # its file descriptor
READABLE = (
    "WAV, FLAC, OGG and MP3 can be read; a program such as ffmpeg makes one of other files: ffmpeg -i FILE take.wav"
)

_stderr_lock = Lock()

# first bytes of files of sound or film: of the kinds that can be read, and of those about which one line says more
_HEADS = (b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"caff", b"RF64", b"\x1a\x45\xdf\xa3")


def is_recording(head: bytes) -> bool:
    """Return whether a file is sound or film by its first `HEAD_BYTES` bytes, whatever its name is."""
    is_mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    is_wave = head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"AVI ")
    return head.startswith(_HEADS) or is_mpeg or is_wave or head[4:8] == b"ftyp"


def is_recording_file(path: str | Path) -> bool:
    """Return whether a file is sound or film; False where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return is_recording(file.read(HEAD_BYTES))
    except OSError:
        return False


@dataclass(frozen=True)
class Recording:
    """A recording that was read once from end to end.

    Attributes:
        path: The file.
        sample_rate: Of the file, in Hz.
        channels: Of the file.
        frames: The number of samples of a channel.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """The length."""
        return self.frames / self.sample_rate

    @property
    def channels_heard(self) -> int:
        """The number of channels of a block: those of the file, one of more than `MOST_CHANNELS`."""
        return self.channels if self.channels <= MOST_CHANNELS else 1

    def blocks(self) -> Iterator[Array]:
        """Yield the sound at `SAMPLE_RATE`, each block float32 of shape (samples, `channels_heard`).

        Raises:
            RecordingError: The file cannot be read any more.
            MissingDependencyError: It has another rate, and the library that resamples is missing.
        """
        resampler = None if self.sample_rate == SAMPLE_RATE else _Resampler(self.sample_rate, self.channels_heard)
        with _opened(self.path) as file:
            for block in _read(self.path, file):
                heard = block if self.channels_heard == self.channels else block.mean(axis=1, keepdims=True)
                yield resampler.block(heard) if resampler else heard
        if resampler:
            yield resampler.rest()


class _Resampler:
    """Resamples block by block to `SAMPLE_RATE`."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        try:
            import soxr
        except ImportError as error:
            raise MissingDependencyError(
                f"a recording at {sample_rate} Hz needs the package soxr: {how_to_install('transcribe')}"
            ) from error
        self._channels = channels
        self._stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE, channels, dtype="float32")

    def block(self, samples: Array, *, last: bool = False) -> Array:
        """Return the next samples; fewer than have come in, until the last block."""
        made: Array = self._stream.resample_chunk(np.ascontiguousarray(samples), last=last)
        return made.reshape(-1, self._channels)

    def rest(self) -> Array:
        """Return what is left after the last block."""
        return self.block(np.empty((0, self._channels), np.float32), last=True)


def examine(path: str | Path) -> Recording:
    """Read a recording once, which takes little of the time of transcribing it, and return what it is.

    Raises:
        RecordingError: It cannot be read as sound, is cut off, is silent, is too long, or has values that are no
            numbers.
    """
    path = Path(path)
    with _opened(path) as file:
        sample_rate, channels, stated = int(file.samplerate), int(file.channels), int(file.frames)
        _check_rate(path, sample_rate)
        _check_length(path, stated / sample_rate)
        frames, peak = 0, 0.0
        for block in _read(path, file):
            if not np.isfinite(block).all():
                raise RecordingError(
                    path, f"its sound has values that are no numbers, near {frames / sample_rate:.1f} s"
                )
            frames, peak = frames + len(block), max(peak, peak_of(block))
            _check_length(path, frames / sample_rate)
    if not frames:
        raise RecordingError(path, "there is no sound in it")
    if frames < stated - sample_rate:
        raise _cut_off(path, frames / sample_rate)
    if peak < QUIET_PEAK:
        raise RecordingError(path, "it is silent, so there are no notes in it")
    return Recording(path, sample_rate, channels, frames)


def _check_rate(path: Path, sample_rate: int) -> None:
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise RecordingError(
            path, f"a recording has {RATES[0]:,} to {RATES[1]:,} samples a second, not {sample_rate:,}"
        )


def _check_length(path: Path, seconds: float) -> None:
    if seconds > MOST_HOURS * 3600:
        raise RecordingError(
            path, f"it lasts {seconds / 3600:.1f} hours; up to {MOST_HOURS:g} hours are transcribed at once: cut it"
        )


def _cut_off(path: Path, seconds: float) -> RecordingError:
    return RecordingError(path, f"it is damaged or cut off after {seconds:.1f} s; copy or export it again")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a sound file. Raises `RecordingError`."""
    soundfile = require_soundfile("recordings")
    try:
        if not path.stat().st_size:
            raise RecordingError(path, "the file is empty")
        with path.open("rb") as data:
            with _quiet_decoder():
                file = soundfile.SoundFile(data)
            with file:
                yield file
    except FileNotFoundError:
        raise RecordingError(path, "no such file") from None
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror or error}") from error
    except soundfile.SoundFileError as error:
        raise RecordingError(path, f"it cannot be read as sound; {READABLE}") from error


@contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Keep the decoder of MP3 from writing to stderr: what is wrong with a file is said in one line of our own."""
    with _stderr_lock:
        kept = None if sys.__stderr__ is None else os.dup(STDERR)  # where it is closed, a file may have its number
        try:
            if kept is not None:
                with Path(os.devnull).open("wb") as nothing:
                    os.dup2(nothing.fileno(), STDERR)
            yield
        finally:
            if kept is not None:
                os.dup2(kept, STDERR)
                os.close(kept)


def _read(path: Path, file: Any) -> Iterator[Array]:
    """Yield float32 blocks of shape (samples, channels). Raises `RecordingError` where the file is damaged."""
    soundfile, frames = require_soundfile("recordings"), 0
    while True:
        try:
            with _quiet_decoder():
                block: Array = file.read(max(1, BLOCK_SAMPLES // file.channels), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise _cut_off(path, frames / file.samplerate) from error
        if not len(block):
            return
        frames += len(block)
        yield block
