"""Compare MIDI files with their WAV files: durations, and the offset of the notes in the recording."""

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
        """The duration of the WAV file minus that of the MIDI file."""
        return self.wav_seconds - self.midi_seconds


@dataclass(frozen=True)
class PairFault:
    """A problem of a recording's audio; `pair` is None if the WAV file is missing or cannot be read."""

    recording: Recording
    problem: str
    pair: AudioPair | None = None


def pair_files(midi_path: Path, wav_path: Path, midi_seconds: float) -> AudioPair:
    """Compare a MIDI file of `midi_seconds` with the header of its WAV file.

    Raises:
        CorpusError: The WAV file is missing, not PCM, or cut short.
    """
    with _open_wav(wav_path) as wav:
        rate, channels, seconds = wav.getframerate(), wav.getnchannels(), wav.getnframes() / wav.getframerate()
    return AudioPair(midi_path, wav_path, midi_seconds, seconds, rate, channels)


def check_pairs(
    folder: str | Path, recordings: Iterable[Recording], *, tolerance_seconds: float = 1.0
) -> Iterator[PairFault]:
    """Yield the recordings whose WAV file is missing, unreadable or of another duration than the MIDI file.

    Args:
        folder: As for `read_metadata`.
        recordings: The recordings to check.
        tolerance_seconds: The largest difference of the durations that is accepted.
    """
    root = maestro.metadata_file(folder).parent
    for recording in recordings:
        try:
            midi_path, wav_path = root / recording.midi_filename, root / recording.audio_filename
            pair = pair_files(midi_path, wav_path, recording.duration_seconds)
        except CorpusError as error:
            yield PairFault(recording, str(error))
            continue
        if abs(pair.difference_seconds) > tolerance_seconds:
            longer = "longer" if pair.difference_seconds > 0 else "shorter"
            problem = f"{pair.wav_path} is {abs(pair.difference_seconds):.2f} s {longer} than its MIDI file"
            yield PairFault(recording, problem, pair)


def has_audio(survey: Survey) -> bool:
    """Return whether any recording that is present has its WAV file too."""
    return any((survey.folder / recording.audio_filename).is_file() for recording in survey.recordings)


def audio_beside(midi_path: str | Path) -> Path | None:
    """Return the WAV file of the same name beside a MIDI file, or None; not only in MAESTRO."""
    candidates = (Path(midi_path).with_suffix(suffix) for suffix in (".wav", ".WAV"))
    return next((path for path in candidates if path.is_file()), None)


@contextmanager
def _open_wav(path: Path) -> Iterator[wave.Wave_read]:
    try:
        with path.open("rb") as file, wave.open(file) as wav:
            needed = wav.getnframes() * wav.getnchannels() * wav.getsampwidth()
            if not wav.getframerate() or needed > path.stat().st_size:
                raise CorpusError(path, "the WAV file is cut short or its header is damaged")
            yield wav
    except (wave.Error, EOFError) as error:
        raise CorpusError(path, f"it is not a PCM WAV file: {str(error) or 'it ends in its header'}") from error
    except OSError as error:
        raise CorpusError(path, f"cannot be read: {error.strerror or error}") from error


HOP_SECONDS = 0.01
QUIETEST = 1e-6  # share of the loudest hop's energy: rises below -60 dB are noise, not notes


def estimate_offset(
    wav_path: str | Path, onsets_seconds: ArrayLike, *, first_seconds: float = 60.0, within_seconds: float = 10.0
) -> float:
    """Estimate how much later the notes begin in the WAV file than in the MIDI file.

    The rise of the WAV's log energy over hops of 10 ms is cross-correlated with the note onsets, and the best lag is
    refined by a parabola. This is spectral-flux onset detection (Bello et al., "A Tutorial on Onset Detection in Music
    Signals", 2005, section III-A) in one band, accurate to about one hop if the attacks are clear.

    Args:
        wav_path: The WAV file, PCM of 16, 24 or 32 bits.
        onsets_seconds: The note onsets of the MIDI file, of shape (notes,).
        first_seconds: The part of both files to compare.
        within_seconds: The largest offset to try in either direction.

    Returns:
        The offset in seconds; negative if the WAV file is earlier.

    Raises:
        InputError: No onset lies in that part.
        CorpusError: The WAV file is missing, silent in that part, or not PCM of 16, 24 or 32 bits.
    """
    onsets = np.asarray(onsets_seconds, np.float64).ravel()
    onsets = onsets[(onsets >= 0) & (onsets < first_seconds)]
    if not len(onsets):
        raise InputError(f"`onsets_seconds` must hold an onset in the first {first_seconds:g} seconds")
    energy, hop_seconds = _hop_energies(Path(wav_path), first_seconds)
    if not energy.any():
        raise CorpusError(wav_path, f"it is silent in its first {first_seconds:g} seconds")
    log_energy = np.log(energy + QUIETEST * energy.max())
    rises = np.maximum(np.diff(log_energy, prepend=np.log(QUIETEST * energy.max())), 0)
    struck = np.bincount((onsets / hop_seconds).astype(np.int64)).astype(np.float64)
    return _best_lag(rises, struck, round(within_seconds / hop_seconds)) * hop_seconds


def _hop_energies(path: Path, first_seconds: float) -> tuple[Array, float]:
    """Return the energy of each hop of the file's first seconds, and the exact duration of a hop in seconds."""
    with _open_wav(path) as wav:
        rate, channels, width = wav.getframerate(), wav.getnchannels(), wav.getsampwidth()
        if width not in (2, 3, 4):
            raise CorpusError(path, f"it must have 16, 24 or 32 bits per sample, not {8 * width}")
        hop = max(1, round(rate * HOP_SECONDS))
        energies = []
        for _ in range(math.ceil(first_seconds)):
            samples = _samples(wav.readframes(100 * hop), width)
            samples = samples[: len(samples) // (hop * channels) * hop * channels]
            energies.append((samples.reshape(-1, hop * channels) ** 2).mean(axis=1))
    return np.concatenate(energies), hop / rate


def _samples(data: bytes, width: int) -> Array:
    """Convert little-endian PCM of `width` bytes to fractions of full scale, float64."""
    data = data[: len(data) // width * width]
    if width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0] / 2.0**31
    return np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)


def _best_lag(later: Array, earlier: Array, most: int) -> float:
    """Return the lag, -`most` to `most`, by which `earlier` must be delayed to resemble `later` best."""
    size = 1 << (len(later) + len(earlier) + 2 * most).bit_length()
    spectra = (np.fft.rfft(signal - signal.mean(), size) for signal in (later, earlier))
    product = next(spectra) * np.conj(next(spectra))
    around = np.fft.irfft(product, size)[np.arange(-most - 1, most + 2)]
    peak = 1 + int(around[1:-1].argmax())
    before, at, after = around[peak - 1 : peak + 2]
    curve = before - 2 * at + after
    shift = 0.5 * (before - after) / curve if curve < 0 else 0.0
    return peak - most - 1 + float(np.clip(shift, -0.5, 0.5))
