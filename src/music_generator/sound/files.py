"""Write sound files: WAV, FLAC, OGG and MP3."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MissingDependencyError
from music_generator.files import replacing
from music_generator.sound.waveform import Sound, slices

Array = NDArray[Any]

SUBTYPES = {
    ".wav": {16: "PCM_16", 24: "PCM_24"},
    ".flac": {16: "PCM_16", 24: "PCM_24"},
    ".ogg": {16: "VORBIS"},
    ".mp3": {16: "MPEG_LAYER_III"},
}
FORMATS = tuple(suffix[1:] for suffix in SUBTYPES)
BITS = (16, 24)
MOST_WAV_BYTES = (1 << 32) - 1024  # its header counts in 32 bits


def require_soundfile(what: str) -> Any:
    """Return the module soundfile. Raises `MissingDependencyError` if it or its library is missing."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is installed, its library is not
        raise MissingDependencyError(
            f"{what} need the package soundfile and its library: `pip install --force-reinstall soundfile`, and on a "
            "system without a wheel of it `apt install libsndfile1` or `brew install libsndfile`"
        ) from error
    return soundfile


def subtype_of(path: str | Path, bits: int) -> str:
    """Return how soundfile calls the contents of a file with the suffix of `path`.

    Raises:
        InputError: There is no such format, or it does not have this number of bits.
    """
    subtypes = SUBTYPES.get(Path(path).suffix.lower())
    if subtypes is None:
        raise InputError(f"cannot write {path}: the suffix must be one of {', '.join(SUBTYPES)}")
    if bits not in subtypes:
        choice = "16 or 24 bits in a WAV or FLAC file, 16 elsewhere"
        raise InputError(f"cannot write {path} with {bits} bits: a sample has {choice}")
    return subtypes[bits]


def check_length(path: str | Path, frames: int, sample_rate: int, bits: int) -> None:
    """Raise `InputError` if a sound is too long for a WAV file."""
    if Path(path).suffix.lower() == ".wav" and frames * 2 * bits // 8 > MOST_WAV_BYTES:
        hours = frames / sample_rate / 3600
        raise InputError(f"cannot write {path}: {hours:.1f} hours are too long for a WAV file; write .flac")


def encode(path: Path, blocks: Iterable[Array], sample_rate: int, bits: int) -> None:
    """Write a sound file in the format of the suffix, not beside it.

    Args:
        path: The file.
        blocks: The sound, each float32 of shape (frames, 2) within -1 to 1.
        sample_rate: In Hz.
        bits: Of a sample.

    Raises:
        OSError: The file cannot be written, or the format does not have this rate.
    """
    soundfile = require_soundfile("sound files")
    subtype, form = subtype_of(path, bits), path.suffix[1:].upper()
    try:
        with soundfile.SoundFile(path, "w", sample_rate, 2, subtype, format=form) as file:
            for block in blocks:
                _write(file, block, bits, sample_rate)
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error))
        # the library does not say which error of the system it was; a full disk is the usual one
        raise OSError("the system refused it; is the disk full?" if reason == "System error." else reason) from error


def _write(file: Any, block: Array, bits: int, sample_rate: int) -> None:
    """Write a block second by second: libvorbis overflows its stack on one long write (python-soundfile issue 426)."""
    for part in slices(len(block), sample_rate):
        if file.subtype.startswith("PCM"):  # rounded here: the library cuts off, which distorts what is soft
            scale = 2 ** (bits - 1) - 1
            whole = np.rint(np.clip(block[part], -1, 1) * np.float64(scale))
            file.write(whole.astype(np.int32) << (32 - bits))
        else:
            file.write(np.ascontiguousarray(block[part]))


def write_audio(path: str | Path, sound: Sound, bits: int = 16) -> None:
    """Write a sound file in the format of the suffix: .wav, .flac, .ogg or .mp3.

    Args:
        path: The file.
        sound: The sound.
        bits: Of a sample, 16 or 24; 24 only in WAV and FLAC.

    Raises:
        InputError: The suffix or `bits` is another one, or the file cannot be written; no part of it remains.
        MissingDependencyError: The library of soundfile is missing.
    """
    subtype_of(path, bits)
    check_length(path, len(sound.samples), sound.sample_rate, bits)
    with replacing(path) as beside:
        encode(beside, [sound.samples], sound.sample_rate, bits)
