"""Write sound files: WAV, FLAC, OGG and MP3."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from music_generator.errors import InputError, MissingDependencyError, how_to_install
from music_generator.files import replacing
from music_generator.sound.waveform import Sound, blocks


def _write_wav(path: Path, sound: Sound) -> None:
    # opened here, because a `wave` object that could not open its file warns once more when it is deleted
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate)
        for block in blocks(len(sound.samples), sound.sample_rate):
            whole = np.rint(np.clip(sound.samples[block], -1, 1) * 32767)
            file.writeframes(whole.astype("<i2").tobytes())


def _write_with_soundfile(path: Path, sound: Sound) -> None:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is installed, its library is not
        raise MissingDependencyError(
            f"{path.suffix} files need soundfile: {how_to_install('audio')}, or write .wav"
        ) from error
    try:
        with soundfile.SoundFile(path, "w", sound.sample_rate, 2) as file:
            # block by block: libvorbis overflows its stack on one long write (python-soundfile issue 426)
            for block in blocks(len(sound.samples), sound.sample_rate):
                file.write(sound.samples[block])
    except soundfile.SoundFileError as error:
        raise OSError(getattr(error, "error_string", str(error))) from error


WRITERS: dict[str, Callable[[Path, Sound], None]] = {
    ".wav": _write_wav,
    ".flac": _write_with_soundfile,
    ".ogg": _write_with_soundfile,
    ".mp3": _write_with_soundfile,
}
FORMATS = tuple(suffix[1:] for suffix in WRITERS)


def write_audio(path: str | Path, sound: Sound) -> None:
    """Write a sound file in the format of the suffix: .wav (16 bit), .flac, .ogg or .mp3.

    Raises:
        InputError: The suffix is another one, or the file cannot be written; no part of it remains.
        MissingDependencyError: The format needs the package soundfile, which is not installed.
    """
    writer = WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise InputError(f"cannot write {path}: the suffix must be one of {', '.join(WRITERS)}")
    with replacing(path) as beside:
        writer(beside, sound)
