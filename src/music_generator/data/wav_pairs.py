"""MIDI files and the WAV files that go with them: durations, sample rate, and how much later one is than the other."""

from __future__ import annotations

import math
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from music_generator.data import maestro
from music_generator.data.maestro import Recording, Survey
from music_generator.errors import CorpusError, InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class AudioPair:
    """A MIDI file and its WAV file: durations in seconds, sample rate in Hz."""

    midi_path: Path
    wav_path: Path
    midi_seconds: float
    wav_seconds: float
    sample_rate: int
    channels: int

    @property
    def difference_seconds(self) -> float:
        """By how many seconds the WAV file is longer than the MIDI file."""
        return self.wav_seconds - self.midi_seconds


@dataclass(frozen=True)
class PairFault:
    """What is wrong with a recording's audio; `pair` is None if the WAV file is missing or cannot be read."""

    recording: Recording
    problem: str
    pair: AudioPair | None = None


def pair_info(folder: str | Path, recording: Recording) -> AudioPair:
    """A recording's MIDI duration from the metadata beside its WAV file's header; `folder` as for `read_metadata`.

    Raises `CorpusError` if the WAV file is missing, not PCM, or cut short.
    """
    return _pair_info(maestro.metadata_file(folder).parent, recording)


def _pair_info(root: Path, recording: Recording) -> AudioPair:
    return pair_files(root / recording.midi_filename, root / recording.audio_filename, recording.duration_seconds)


def pair_files(midi_path: Path, wav_path: Path, midi_seconds: float) -> AudioPair:
    """Any MIDI file of known duration beside its WAV file's header. Raises `CorpusError` as `pair_info` does."""
    with _open_wav(wav_path) as wav:
        rate, channels, seconds = wav.getframerate(), wav.getnchannels(), wav.getnframes() / wav.getframerate()
    return AudioPair(midi_path, wav_path, midi_seconds, seconds, rate, channels)


def check_pairs(
    folder: str | Path, recordings: Iterable[Recording], *, tolerance_seconds: float = 1.0
) -> Iterator[PairFault]:
    """Those of `recordings` whose WAV file is missing, unreadable, or longer or shorter than their MIDI file by more
    than `tolerance_seconds`."""
    root = maestro.metadata_file(folder).parent
    for recording in recordings:
        try:
            pair = _pair_info(root, recording)
        except CorpusError as error:
            yield PairFault(recording, str(error))
            continue
        if abs(pair.difference_seconds) > tolerance_seconds:
            longer = "longer" if pair.difference_seconds > 0 else "shorter"
            problem = f"{pair.wav_path} is {abs(pair.difference_seconds):.2f} s {longer} than its MIDI file"
            yield PairFault(recording, problem, pair)


def has_audio(survey: Survey) -> bool:
    """Whether any recording that is there has its WAV file too."""
    return any((survey.folder / recording.audio_filename).is_file() for recording in survey.recordings)


def audio_beside(midi_path: str | Path) -> Path | None:
    """The WAV file of the same name beside a MIDI file, or None; for pairs outside MAESTRO too."""
    candidates = (Path(midi_path).with_suffix(suffix) for suffix in (".wav", ".WAV"))
    return next((path for path in candidates if path.is_file()), None)


@contextmanager
def _open_wav(path: Path) -> Iterator[wave.Wave_read]:
    try:
        with path.open("rb") as file, wave.open(file) as wav:
            needed = wav.getnframes() * wav.getnchannels() * wav.getsampwidth()
            if not wav.getframerate() or needed > path.stat().st_size:
                raise CorpusError(f"{path} is cut short or its header is damaged")
            yield wav
    except (wave.Error, EOFError) as error:
        raise CorpusError(f"{path} is not a PCM WAV file: {str(error) or 'it ends in its header'}") from error
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


HOP_SECONDS = 0.01
QUIETEST = 1e-6  # of the loudest hop's energy: rises below -60 dB are noise, not notes


def estimate_offset(
    wav_path: str | Path, onsets_seconds: ArrayLike, *, first_seconds: float = 60.0, within_seconds: float = 10.0
) -> float:
    """How many seconds later than in the MIDI file the notes begin in the WAV file (negative: earlier).

    The rise of the WAV's log energy over hops of 10 ms is cross-correlated with the note onsets, both over the first
    `first_seconds`, and the best lag within ±`within_seconds` is refined by a parabola. This is spectral-flux onset
    detection (Bello et al., "A Tutorial on Onset Detection in Music Signals", 2005, section III-A) in one band: good
    to about one hop where notes are struck clearly.

    Raises `InputError` if no onset lies in that time, and `CorpusError` if the WAV file is missing, silent there, or
    not PCM of 16, 24 or 32 bits.
    """
    onsets = np.asarray(onsets_seconds, np.float64).ravel()
    onsets = onsets[(onsets >= 0) & (onsets < first_seconds)]
    if not len(onsets):
        raise InputError(f"`onsets_seconds` must hold an onset in the first {first_seconds:g} seconds")
    energy, hop_seconds = _hop_energies(Path(wav_path), first_seconds)
    if not energy.any():
        raise CorpusError(f"{wav_path} is silent in its first {first_seconds:g} seconds")
    log_energy = np.log(energy + QUIETEST * energy.max())
    rises = np.maximum(np.diff(log_energy, prepend=np.log(QUIETEST * energy.max())), 0)
    struck = np.bincount((onsets / hop_seconds).astype(np.int64)).astype(np.float64)
    return _best_lag(rises, struck, round(within_seconds / hop_seconds)) * hop_seconds


def _hop_energies(path: Path, first_seconds: float) -> tuple[Array, float]:
    """The energy of each hop of the file's first seconds, and a hop's exact length in seconds."""
    with _open_wav(path) as wav:
        rate, channels, width = wav.getframerate(), wav.getnchannels(), wav.getsampwidth()
        if width not in (2, 3, 4):
            raise CorpusError(f"{path} must have 16, 24 or 32 bits per sample, not {8 * width}")
        hop = max(1, round(rate * HOP_SECONDS))
        energies = []
        for _ in range(math.ceil(first_seconds)):
            samples = _samples(wav.readframes(100 * hop), width)
            samples = samples[: len(samples) // (hop * channels) * hop * channels]
            energies.append((samples.reshape(-1, hop * channels) ** 2).mean(axis=1))
    return np.concatenate(energies), hop / rate


def _samples(data: bytes, width: int) -> Array:
    """Little-endian PCM of `width` bytes as fractions of full scale, float64."""
    data = data[: len(data) // width * width]
    if width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0] / 2.0**31
    return np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)


def _best_lag(later: Array, earlier: Array, most: int) -> float:
    """The lag, at most `most` either way, at which `earlier` delayed by it resembles `later` best."""
    size = 1 << (len(later) + len(earlier) + 2 * most).bit_length()
    spectra = (np.fft.rfft(signal - signal.mean(), size) for signal in (later, earlier))
    product = next(spectra) * np.conj(next(spectra))
    around = np.fft.irfft(product, size)[np.arange(-most - 1, most + 2)]
    peak = 1 + int(around[1:-1].argmax())
    before, at, after = around[peak - 1 : peak + 2]
    curve = before - 2 * at + after
    shift = 0.5 * (before - after) / curve if curve < 0 else 0.0
    return peak - most - 1 + float(np.clip(shift, -0.5, 0.5))
