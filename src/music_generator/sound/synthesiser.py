"""The built-in synthesiser: a piano of decaying partials, in NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import Performance
from music_generator.sound.dampers import damper_times, played_una_corda
from music_generator.sound.waveform import blocks

Array = NDArray[Any]

BLOCK = 64  # samples in a row of a tone
SMALL_PRODUCT = 1 << 18  # multiplications up to which OpenBLAS uses one thread
LONGEST_TONE_SECONDS = 15.0


@dataclass(frozen=True)
class _Partials:
    """A key's partials: Hz, decay in 1/s and relative amplitude at velocity 127, each of shape (K,)."""

    frequency: Array
    decay: Array
    amplitude: Array


def _partials(pitch: int, sample_rate: int) -> _Partials:
    """Return the partials of a stiff string, each twice: strong with a fast decay, weak with a slow one.

    Stiffness: f_k = k f_1 sqrt(1 + B k²) (Fletcher 1964). Decay b1 + b2 f² with b1 rising by register, near the
    values of Bensa et al. 2003 (doi 10.1121/1.1587146); two stages of decay: Weinreich 1977 (doi 10.1121/1.381677).
    """
    lowest = 440.0 * 2 ** ((pitch - 69) / 12)
    treble = max(0, pitch - 60) / 48  # 0 up to middle C, 1 at C8
    k = np.arange(1, 33 if pitch >= 48 else 57)
    stiffness = 4e-4 * 2 ** ((pitch - 60) / 8) + 2e-4 * 2 ** ((21 - pitch) / 6)
    frequency = k * lowest * np.sqrt((1 + stiffness * k**2) / (1 + stiffness))
    k, frequency = (x[frequency < min(0.45 * sample_rate, 9_000)] for x in (k, frequency))
    decay = 0.25 + 1.1 * np.exp(0.06 * (pitch - 60)) + 2.5e-7 * frequency**2
    amplitude = k ** -(0.7 + 1.6 * treble) * np.abs(
        np.sin(np.pi * k / 7.7)
    )  # the hammer hits the string at about an eighth of its length
    amplitude *= frequency**2 / (frequency**2 + 90**2)  # a soundboard radiates little below 90 Hz
    amplitude *= (1 + treble) / np.sqrt((amplitude**2).sum())
    beat = 0.15 + 4e-4 * frequency  # Hz between the strings of a key
    return _Partials(
        np.concatenate([frequency, frequency + beat]),
        np.concatenate([1.7 * decay, 0.55 * decay]),
        np.concatenate([0.75 * amplitude, 0.25 * amplitude]),
    )


def _loudness(partials: _Partials, velocities: Array) -> Array:
    """Return amplitudes of shape (notes, K): higher velocity is louder, and more so in the high partials."""
    force = velocities[:, None] / 127
    brightness = 250 + 3_000 * force**2 + 0.5 * partials.frequency[0]  # Hz
    rolled_off = np.exp(-(partials.frequency - partials.frequency[0]) / brightness)
    return np.asarray(force**1.7 * rolled_off * partials.amplitude)


def _powers(partials: _Partials, rows: int, sample_rate: int, phases: Array) -> tuple[Array, Array]:
    """Return real matrices (rows, 2K) and (2K, BLOCK) whose product is the sum of all partials, row after row.

    A decaying partial is the real part of z^n, z = exp((-decay + 2πi f) / rate); n = row · BLOCK + column splits
    z^n into a factor of the row and one of the column, so that a tone is one matrix product.
    """
    z = np.exp((-partials.decay + 2j * np.pi * partials.frequency) / sample_rate)
    columns = _geometric(np.ones_like(z), z, BLOCK).T
    by_row = _geometric(np.exp(1j * phases), z**BLOCK, rows)
    left = np.concatenate([by_row.real, -by_row.imag], axis=1).astype(np.float32)
    return left, np.concatenate([columns.real, columns.imag]).astype(np.float32)


def _product(left: Array, right: Array) -> Array:
    """Return `left @ right`, computed in products so small that OpenBLAS uses one thread for each.

    With several threads beside another busy process, it took forty times as long (11.6 s, not 0.3 s).
    """
    rows = max(1, SMALL_PRODUCT // right.size)
    whole = len(left) // rows * rows
    stacked = left[:whole].reshape(-1, rows, left.shape[1])  # (products, rows, 2K)
    product = np.empty((len(left), right.shape[1]), np.float32)
    np.matmul(stacked, right, out=product[:whole].reshape(-1, rows, right.shape[1]))
    np.matmul(left[whole:], right, out=product[whole:])
    return product


def _geometric(first: Array, ratio: Array, count: int) -> Array:
    """Return first · ratio^i for i below `count`, of shape (count, K)."""
    factors = np.repeat(ratio[None], count, axis=0)
    factors[0] = first
    return np.cumprod(factors, axis=0)


def _knock(sample_rate: int, rng: np.random.Generator) -> Array:
    """Return the noise of a hammer: 40 ms, mostly below 600 Hz."""
    frames = int(0.04 * sample_rate)
    spectrum = np.fft.rfft(rng.standard_normal(frames))
    spectrum /= 1 + (np.fft.rfftfreq(frames, 1 / sample_rate) / 400) ** 2
    noise = np.fft.irfft(spectrum, frames) * np.exp(-np.linspace(0, 6, frames))
    return np.asarray(noise / np.abs(noise).max(), np.float32)


def play(performance: Performance, sample_rate: int, mix: Array) -> None:
    """Add the sound of a performance, with a little reverberation, to `mix`, float32 of shape (2, frames)."""
    rng = np.random.default_rng(88)  # a fixed seed: the same sound every time
    knock = _knock(sample_rate, rng)
    phases = rng.uniform(-np.pi, np.pi, (128, 128))
    notes, ends = performance.notes, damper_times(performance)
    velocities = np.where(played_una_corda(performance), 0.7, 1.0) * notes["velocity"]
    for pitch in np.unique(notes["pitch"]):
        at = notes["pitch"] == pitch
        _play_key(mix, int(pitch), notes["onset"][at], ends[at], velocities[at], sample_rate, phases[pitch], knock)
    if len(notes):
        _reverberate(mix, sample_rate, rng)


def _play_key(
    mix: Array, pitch: int, onsets: Array, ends: Array, velocities: Array, sample_rate: int, phases: Array, knock: Array
) -> None:
    """Add all tones of one key to `mix`; onsets and ends in seconds."""
    partials = _partials(pitch, sample_rate)
    seconds_to_silence = min(6.2 / partials.decay.min(), LONGEST_TONE_SECONDS)
    undamped = (np.minimum(ends - onsets, seconds_to_silence) * sample_rate).astype(int)  # frames
    release = 0.03 + 0.1 * max(0, 60 - pitch) / 39  # thick strings take longer to damp
    fade = np.exp(-np.arange(int(6 * release * sample_rate)) / (release * sample_rate)).astype(np.float32)
    rows = -(-(undamped + len(fade)) // BLOCK)
    left, right = _powers(partials, int(rows.max()), sample_rate, phases[: len(partials.frequency)])
    amplitudes = np.tile(_loudness(partials, velocities), 2).astype(np.float32)
    attack = np.linspace(0, 1, int(0.002 * sample_rate), dtype=np.float32)
    for onset, frames, height, amplitude in zip(onsets, undamped, rows, amplitudes, strict=True):
        tone = _product(left[:height], amplitude[:, None] * right).ravel()[: frames + len(fade)]
        tone[: len(attack)] *= attack
        tone[frames:] *= fade
        tone[: len(knock)] += 0.3 * amplitude.max() * knock[: len(tone)]
        _place(mix, tone, round(onset * sample_rate), pitch, sample_rate)


def _place(mix: Array, tone: Array, start: int, pitch: int, sample_rate: int) -> None:
    """Add a tone to both channels: low keys to the left, high ones to the right, by level and by up to 0.3 ms."""
    side = (pitch - 64.5) / 43.5  # -1 to 1
    lag = round(abs(side) * 0.0003 * sample_rate)
    for channel, sign in enumerate((-1, 1)):
        first = start + (lag if side * sign < 0 else 0)
        room = mix[channel, first : first + len(tone)]
        room += np.float32(1 + 0.35 * sign * side) * tone[: len(room)]


def _reverberate(mix: Array, sample_rate: int, rng: np.random.Generator) -> None:
    """Add a small room in place: convolve each block with 0.6 s of decaying noise with weak high frequencies."""
    length, size = int(0.6 * sample_rate), 1 << 17
    spectrum = np.fft.rfft(rng.standard_normal((2, length)) * np.exp(-np.linspace(0, 6.9, length)))
    spectrum /= 1 + (np.fft.rfftfreq(length, 1 / sample_rate) / 2_500) ** 2
    response = np.fft.irfft(spectrum, length)
    response *= 0.25 / np.sqrt((response**2).sum(axis=1, keepdims=True))
    filters = np.fft.rfft(response, size).astype(np.complex64)
    carry: Array = np.zeros((2, 0), np.float32)
    for block in blocks(mix.shape[1], size - length):
        dry = mix[:, block]
        wet = np.fft.irfft(np.fft.rfft(dry.mean(axis=0), size) * filters, size)
        wet[:, : carry.shape[1]] += carry
        carry = wet[:, size - length :].copy()
        dry += wet[:, : dry.shape[1]].astype(np.float32, copy=False)
