"""From a performance to its sound: FluidSynth where it is installed, a built-in piano everywhere, and sound files."""

from __future__ import annotations

import os
import sys
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MissingDependencyError
from music_generator.files import replacing
from music_generator.music.performance import SOSTENUTO, SUSTAIN, UNA_CORDA, Performance

__all__ = ["FORMATS", "Sound", "find_soundfont", "fluidsynth_available", "render", "write_audio"]

Array = NDArray[Any]

ENGINES = ("auto", "fluidsynth", "builtin")
SAMPLE_RATES = (11_025, 96_000)  # Hz: lowest with room for the top key, highest that FluidSynth takes
TAIL_SECONDS = 2.0  # after the last key or pedal is released
PEAK = 0.89  # of full scale: 1 dB of room


@dataclass(frozen=True, eq=False)
class Sound:
    """A stereo waveform.

    `samples` is float32 of shape (frames, 2), within -1 to 1; `sample_rate` is in Hz; `engine` says in words what
    made the sound, `gain` by what it was multiplied so that its peak fits.
    """

    samples: Array
    sample_rate: int
    engine: str
    gain: float = 1.0

    @property
    def seconds(self) -> float:
        """The length."""
        return len(self.samples) / self.sample_rate


def render(
    performance: Performance,
    *,
    sample_rate: int = 44_100,
    engine: str = "auto",
    soundfont: str | Path | None = None,
    gain: float | None = None,
) -> Sound:
    """The sound of `performance` with its pedals, two seconds longer than it, its peak at 0.89 of full scale.

    With a `gain` (of another span of the same piece, say) it is scaled by that, or by less where its peak asks for it.

    `engine` is "fluidsynth", "builtin" or "auto": FluidSynth if its library and a SoundFont are here, or a
    `soundfont` is named, else the built-in synthesiser.

    Raises `InputError` for an unknown engine, a gain of 0 or less, a sample rate out of range (11025 to 96000 Hz) or an
    unreadable SoundFont, and `MissingDependencyError` if FluidSynth was asked for and is not here.
    """
    if engine not in ENGINES:
        raise InputError(f"`engine` must be one of {', '.join(ENGINES)}, not {engine!r}")
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        raise InputError(f"`sample_rate` must be {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]} Hz, not {sample_rate}")
    if gain is not None and not gain > 0:
        raise InputError(f"`gain` must be above 0, not {gain}")
    if engine == "builtin" and soundfont is not None:
        raise InputError('`soundfont` is only for FluidSynth: leave it out, or take `engine` "fluidsynth"')
    found = None if engine == "builtin" else _soundfont(soundfont)
    if engine == "auto" and soundfont is None and (found is None or not fluidsynth_available()):
        engine = "builtin"
    if engine == "builtin":
        mix, name = _play_builtin(performance, sample_rate), "built-in synthesiser"
    else:
        found = _both_here(found)
        mix, name = _play_fluidsynth(performance, sample_rate, found), f"FluidSynth with {found.name}"
    return Sound(mix.T, sample_rate, name, _normalise(mix, gain))


def _frames(performance: Performance, sample_rate: int) -> int:
    return round((performance.end + TAIL_SECONDS) * sample_rate)


def _blocks(frames: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, frames)) for start in range(0, frames, size))


def _normalise(mix: Array, gain: float | None) -> float:
    """Scale in place by `gain`, at most so that the peak is `PEAK`; the scale. Silence stays silence, at 1."""
    blocks = list(_blocks(mix.shape[1], 1 << 16))
    peak = max((float(np.abs(mix[:, block]).max()) for block in blocks), default=0.0)
    if not peak > 0:
        return 1.0 if gain is None else gain
    scale = PEAK / peak if gain is None else min(gain, PEAK / peak)
    for block in blocks:
        mix[:, block] *= scale
    return scale


_UNDAMPED = 90  # from F#6 upwards a piano has no dampers


# --- when each string stops sounding -----------------------------------------------------------------------------


def _held(onsets: Array, ends: Array, presses: Array) -> Array:
    """`ends` moved to the end of the press that covers them, where it began after `onsets` (seconds)."""
    if not len(presses):
        return ends
    i = np.searchsorted(presses["onset"], ends, side="right") - 1
    press = presses[np.maximum(i, 0)]
    lifted = press["onset"] + press["duration"]
    return np.where((i >= 0) & (press["onset"] >= onsets) & (ends < lifted), lifted, ends)


def _damped(performance: Performance) -> Array:
    """The second at which each note's damper falls: key up and pedals up, or the key struck again."""
    notes, pedals = performance.notes, performance.pedals
    sustain, sostenuto = (pedals[pedals["pedal"] == pedal] for pedal in (SUSTAIN, SOSTENUTO))
    always = np.full(len(notes), -np.inf)
    ends = _held(always, notes["onset"] + notes["duration"], sustain)
    ends = _held(notes["onset"], ends, sostenuto)  # holds only what sounds when it is pressed
    ends = np.where(notes["pitch"] >= _UNDAMPED, np.inf, _held(always, ends, sustain))
    order = np.lexsort((notes["onset"], notes["pitch"]))
    pitch, onset = notes["pitch"][order], notes["onset"][order]
    again = np.where(np.diff(pitch, append=-1) == 0, np.append(onset[1:], np.inf), np.inf)
    ends[order] = np.minimum(ends[order], again)
    return ends


def _softened(performance: Performance) -> Array:
    """Which notes are struck while the una corda pedal is down."""
    onsets, pedals = performance.notes["onset"], performance.pedals
    before_all = np.full(len(onsets), -np.inf)
    return np.asarray(_held(before_all, onsets, pedals[pedals["pedal"] == UNA_CORDA]) > onsets)


# --- the built-in synthesiser ------------------------------------------------------------------------------------

_BLOCK = 64  # samples in a row of a tone
_SMALL_PRODUCT = 1 << 18  # multiplications up to which OpenBLAS stays in one thread
_LONGEST_RING = 15.0  # seconds


@dataclass(frozen=True)
class _Partials:
    """A key's partials: Hz, decay in 1/s and relative amplitude at velocity 127, each of shape (K,)."""

    frequency: Array
    decay: Array
    amplitude: Array


def _partials(pitch: int, sample_rate: int) -> _Partials:
    """A stiff string's partials, each as two: a strong one that dies soon and a weaker one that rings on.

    Stiffness: f_k = k f_1 sqrt(1 + B k²) (Fletcher 1964). Decay b1 + b2 f² with b1 rising by register, near the
    values of Bensa et al. 2003 (doi 10.1121/1.1587146); two stages of decay: Weinreich 1977 (doi 10.1121/1.381677).
    """
    lowest = 440.0 * 2 ** ((pitch - 69) / 12)
    treble = max(0, pitch - 60) / 48  # 0 up to middle C, 1 at the top
    k = np.arange(1, 33 if pitch >= 48 else 57)
    stiffness = 4e-4 * 2 ** ((pitch - 60) / 8) + 2e-4 * 2 ** ((21 - pitch) / 6)
    frequency = k * lowest * np.sqrt((1 + stiffness * k**2) / (1 + stiffness))
    k, frequency = (x[frequency < min(0.45 * sample_rate, 9_000)] for x in (k, frequency))
    decay = 0.25 + 1.1 * np.exp(0.06 * (pitch - 60)) + 2.5e-7 * frequency**2
    amplitude = k ** -(0.7 + 1.6 * treble) * np.abs(np.sin(np.pi * k / 7.7))  # struck at about an eighth of its length
    amplitude *= frequency**2 / (frequency**2 + 90**2)  # a soundboard hardly radiates below 90 Hz
    amplitude *= (1 + treble) / np.sqrt((amplitude**2).sum())
    beat = 0.15 + 4e-4 * frequency  # Hz between a key's strings
    return _Partials(
        np.concatenate([frequency, frequency + beat]),
        np.concatenate([1.7 * decay, 0.55 * decay]),
        np.concatenate([0.75 * amplitude, 0.25 * amplitude]),
    )


def _loudness(partials: _Partials, velocities: Array) -> Array:
    """Amplitudes of shape (notes, K): a faster hammer is louder, and more so in the high partials."""
    force = velocities[:, None] / 127
    brightness = 250 + 3_000 * force**2 + 0.5 * partials.frequency[0]  # Hz
    rolled_off = np.exp(-(partials.frequency - partials.frequency[0]) / brightness)
    return np.asarray(force**1.7 * rolled_off * partials.amplitude)


def _powers(partials: _Partials, rows: int, sample_rate: int, phases: Array) -> tuple[Array, Array]:
    """Real matrices (rows, 2K) and (2K, _BLOCK) whose product is the sum of all partials, row after row.

    A decaying partial is the real part of z^n, z = exp((-decay + 2πi f) / rate); n = row · _BLOCK + column splits
    z^n into a factor of the row and one of the column, so that a tone is one matrix product.
    """
    z = np.exp((-partials.decay + 2j * np.pi * partials.frequency) / sample_rate)
    columns = _geometric(np.ones_like(z), z, _BLOCK).T
    by_row = _geometric(np.exp(1j * phases), z**_BLOCK, rows)
    left = np.concatenate([by_row.real, -by_row.imag], axis=1).astype(np.float32)
    return left, np.concatenate([columns.real, columns.imag]).astype(np.float32)


def _product(left: Array, right: Array) -> Array:
    """`left @ right` as a stack of products so small that OpenBLAS computes each in one thread.

    On several threads beside another busy process, the same took forty times as long (11.6 s, not 0.3 s).
    """
    rows = max(1, _SMALL_PRODUCT // right.size)
    whole = len(left) // rows * rows
    stacked = left[:whole].reshape(-1, rows, left.shape[1])  # (products, rows, 2K)
    product = np.empty((len(left), right.shape[1]), np.float32)
    np.matmul(stacked, right, out=product[:whole].reshape(-1, rows, right.shape[1]))
    np.matmul(left[whole:], right, out=product[whole:])
    return product


def _geometric(first: Array, ratio: Array, count: int) -> Array:
    """first · ratio^i for i below `count`, of shape (count, K)."""
    factors = np.repeat(ratio[None], count, axis=0)
    factors[0] = first
    return np.cumprod(factors, axis=0)


def _knock(sample_rate: int, rng: np.random.Generator) -> Array:
    """The hammer's thud: 40 ms of noise, mostly below 600 Hz."""
    frames = int(0.04 * sample_rate)
    spectrum = np.fft.rfft(rng.standard_normal(frames))
    spectrum /= 1 + (np.fft.rfftfreq(frames, 1 / sample_rate) / 400) ** 2
    noise = np.fft.irfft(spectrum, frames) * np.exp(-np.linspace(0, 6, frames))
    return np.asarray(noise / np.abs(noise).max(), np.float32)


def _play_builtin(performance: Performance, sample_rate: int) -> Array:
    """Decaying partials, key by key, with a little room; float32 of shape (2, frames)."""
    mix = np.zeros((2, _frames(performance, sample_rate)), np.float32)
    rng = np.random.default_rng(88)  # the same sound every time
    knock = _knock(sample_rate, rng)
    phases = rng.uniform(-np.pi, np.pi, (128, 128))
    notes, ends = performance.notes, _damped(performance)
    velocities = np.where(_softened(performance), 0.7, 1.0) * notes["velocity"]
    for pitch in np.unique(notes["pitch"]):
        at = notes["pitch"] == pitch
        _play_key(mix, int(pitch), notes["onset"][at], ends[at], velocities[at], sample_rate, phases[pitch], knock)
    if len(notes):
        _reverberate(mix, sample_rate, rng)
    return mix


def _play_key(
    mix: Array, pitch: int, onsets: Array, ends: Array, velocities: Array, sample_rate: int, phases: Array, knock: Array
) -> None:
    """Add all tones of one key to `mix`; times in seconds."""
    partials = _partials(pitch, sample_rate)
    seconds_to_silence = min(6.2 / partials.decay.min(), _LONGEST_RING)
    held = (np.minimum(ends - onsets, seconds_to_silence) * sample_rate).astype(int)
    release = 0.03 + 0.1 * max(0, 60 - pitch) / 39  # a damper needs longer for a thick string
    fade = np.exp(-np.arange(int(6 * release * sample_rate)) / (release * sample_rate)).astype(np.float32)
    rows = -(-(held + len(fade)) // _BLOCK)
    left, right = _powers(partials, int(rows.max()), sample_rate, phases[: len(partials.frequency)])
    amplitudes = np.tile(_loudness(partials, velocities), 2).astype(np.float32)
    attack = np.linspace(0, 1, int(0.002 * sample_rate), dtype=np.float32)
    for onset, hold, height, amplitude in zip(onsets, held, rows, amplitudes, strict=True):
        tone = _product(left[:height], amplitude[:, None] * right).ravel()[: hold + len(fade)]
        tone[: len(attack)] *= attack
        tone[hold:] *= fade
        tone[: len(knock)] += 0.3 * amplitude.max() * knock[: len(tone)]
        _place(mix, tone, round(onset * sample_rate), pitch, sample_rate)


def _place(mix: Array, tone: Array, start: int, pitch: int, sample_rate: int) -> None:
    """Add a tone to both channels: low keys left and high keys right, by loudness and by up to 0.3 ms."""
    side = (pitch - 64.5) / 43.5  # -1 to 1
    lag = round(abs(side) * 0.0003 * sample_rate)
    for channel, sign in enumerate((-1, 1)):
        first = start + (lag if side * sign < 0 else 0)
        room = mix[channel, first : first + len(tone)]
        room += np.float32(1 + 0.35 * sign * side) * tone[: len(room)]


def _reverberate(mix: Array, sample_rate: int, rng: np.random.Generator) -> None:
    """Add a small room in place: convolution with half a second of decaying, darkened noise, block by block."""
    length, size = int(0.6 * sample_rate), 1 << 17
    spectrum = np.fft.rfft(rng.standard_normal((2, length)) * np.exp(-np.linspace(0, 6.9, length)))
    spectrum /= 1 + (np.fft.rfftfreq(length, 1 / sample_rate) / 2_500) ** 2
    response = np.fft.irfft(spectrum, length)
    response *= 0.25 / np.sqrt((response**2).sum(axis=1, keepdims=True))
    filters = np.fft.rfft(response, size).astype(np.complex64)
    carry: Array = np.zeros((2, 0), np.float32)
    for block in _blocks(mix.shape[1], size - length):
        dry = mix[:, block]
        wet = np.fft.irfft(np.fft.rfft(dry.mean(axis=0), size) * filters, size)
        wet[:, : carry.shape[1]] += carry
        carry = wet[:, size - length :].copy()
        dry += wet[:, : dry.shape[1]].astype(np.float32, copy=False)


# --- FluidSynth --------------------------------------------------------------------------------------------------

_GOOD_SOUNDFONTS = ("musescore_general", "fluidr3_gm", "timgm6mb", "default-gm")
_CONTROLLERS = {SUSTAIN: 64, SOSTENUTO: 66, UNA_CORDA: 67}


def fluidsynth_available() -> bool:
    """Whether pyfluidsynth and FluidSynth's own library can be loaded."""
    try:
        import fluidsynth  # noqa: F401
    except (ImportError, OSError, AttributeError):  # the package is missing, or its library is, or is too old
        return False
    return True


def _soundfont_folders() -> list[Path]:
    home = Path.home()
    folders = [
        *(Path(root) / "sounds" / kind for root in ("/usr/share", "/usr/local/share") for kind in ("sf3", "sf2")),
        Path("/usr/share/soundfonts"),
        home / ".local/share/soundfonts",
        home / ".fluidsynth",
        *(
            Path(root) / "share" / name
            for root in ("/opt/homebrew", "/usr/local")
            for name in ("soundfonts", "fluid-synth/sf2")
        ),
    ]
    if sys.platform == "win32":
        folders += [Path("C:/soundfonts"), Path("C:/ProgramData/soundfonts"), Path("C:/tools/fluidsynth")]
    return folders


def find_soundfont() -> Path | None:
    """The SoundFont that the environment variable SOUNDFONT names, else the best in the usual folders, else None."""
    named = os.environ.get("SOUNDFONT")
    if named and Path(named).is_file():
        return Path(named)
    found = [
        file
        for folder in _soundfont_folders()
        for pattern in ("*.sf3", "*.sf2")
        for file in sorted(folder.glob(pattern))
    ]

    def rank(file: Path) -> int:
        return next((i for i, good in enumerate(_GOOD_SOUNDFONTS) if file.name.lower().startswith(good)), 99)

    return min(found, key=rank, default=None)


def _soundfont(named: str | Path | None) -> Path | None:
    if named is None:
        return find_soundfont()
    if not Path(named).is_file():
        raise InputError(f"the SoundFont {named} does not exist; name a .sf2 or .sf3 file")
    return Path(named)


def _both_here(soundfont: Path | None) -> Path:
    """`soundfont` if it and FluidSynth can be had; else the error that says how to get them."""
    if not fluidsynth_available():
        raise MissingDependencyError(
            'FluidSynth is not here: `pip install "music-generator-rnn[audio]"` and install its library '
            "(`apt install libfluidsynth3`, `brew install fluid-synth`), or take the built-in synthesiser"
        )
    if soundfont is None:
        raise MissingDependencyError(
            "no SoundFont found: `apt install musescore-general-soundfont-small`, or name a .sf2 or .sf3 file by "
            "`soundfont` or the environment variable SOUNDFONT, or take the built-in synthesiser"
        )
    return soundfont


def _play_fluidsynth(performance: Performance, sample_rate: int, soundfont: Path) -> Array:
    """FluidSynth's grand piano (bank 0, program 0); float32 of shape (2, frames)."""
    import fluidsynth

    synth = fluidsynth.Synth(gain=0.3, samplerate=float(sample_rate))
    try:
        bank = synth.sfload(str(soundfont))
        if bank < 0:
            raise InputError(f"FluidSynth cannot read the SoundFont {soundfont}; name another .sf2 or .sf3 file")
        synth.program_select(0, bank, 0, 0)
        return _run_synth(synth, performance, sample_rate)
    finally:
        synth.delete()


def _events(performance: Performance, sample_rate: int) -> list[tuple[int, int, str, int, int]]:
    """(frame, rank, method of the synth, number, value), in order; of one frame, ends come before beginnings."""
    events = []
    for onset, duration, pitch, velocity in performance.notes.tolist():
        events.append((round(onset * sample_rate), 3, "noteon", pitch, velocity))
        events.append((round((onset + duration) * sample_rate), 0, "noteoff", pitch, 0))
    for onset, duration, pedal, depth in performance.pedals.tolist():
        controller = _CONTROLLERS[pedal]
        events.append((round(onset * sample_rate), 2, "cc", controller, max(depth, 64)))
        events.append((round((onset + duration) * sample_rate), 1, "cc", controller, 0))
    return sorted(events)


def _run_synth(synth: Any, performance: Performance, sample_rate: int) -> Array:
    mix = np.zeros((2, _frames(performance, sample_rate)), np.float32)
    done = 0

    def advance(to: int) -> None:
        nonlocal done
        while done < to:
            step = min(to - done, sample_rate)
            mix[:, done : done + step] = synth.get_samples(step).reshape(step, 2).T
            done += step

    for frame, _, method, number, value in _events(performance, sample_rate):
        advance(frame)
        arguments = (0, number) if method == "noteoff" else (0, number, value)
        getattr(synth, method)(*arguments)
    advance(mix.shape[1])
    return mix


# --- files -------------------------------------------------------------------------------------------------------


def _write_wav(path: Path, sound: Sound) -> None:
    # opened here, for a `wave` that could not open its file complains once more when it is thrown away
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate)
        for block in _blocks(len(sound.samples), sound.sample_rate):
            whole = np.rint(np.clip(sound.samples[block], -1, 1) * 32767)
            file.writeframes(whole.astype("<i2").tobytes())


def _write_with_soundfile(path: Path, sound: Sound) -> None:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is here, its library is not
        raise MissingDependencyError(
            f'{path.suffix} files need soundfile: `pip install "music-generator-rnn[audio]"`, or write .wav'
        ) from error
    try:
        with soundfile.SoundFile(path, "w", sound.sample_rate, 2) as file:
            # block by block: libvorbis overflows its stack on one long write (python-soundfile issue 426)
            for block in _blocks(len(sound.samples), sound.sample_rate):
                file.write(sound.samples[block])
    except soundfile.SoundFileError as error:
        raise OSError(getattr(error, "error_string", str(error))) from error


_WRITERS: dict[str, Callable[[Path, Sound], None]] = {
    ".wav": _write_wav,
    ".flac": _write_with_soundfile,
    ".ogg": _write_with_soundfile,
    ".mp3": _write_with_soundfile,
}
FORMATS = tuple(suffix[1:] for suffix in _WRITERS)


def write_audio(path: str | Path, sound: Sound) -> None:
    """Write `sound` in the format of the suffix: .wav (16 bit) always, .flac, .ogg and .mp3 by `soundfile`.

    Raises `InputError` for another suffix or if the file cannot be written (no part of it remains), and
    `MissingDependencyError` if `soundfile` is needed and not installed.
    """
    writer = _WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise InputError(f"cannot write {path}: the suffix must be one of {', '.join(_WRITERS)}")
    with replacing(path) as beside:
        writer(beside, sound)
