"""The grand piano: recorded tones, crossfaded by velocity, damped by register and by the pedals."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import SUSTAIN, Performance
from music_generator.sound.dampers import Dampers, key_ups, played_una_corda, struck_again
from music_generator.sound.resonance import Resonance
from music_generator.sound.samples import Recording, Samples, nearest
from music_generator.sound.waveform import PEAK, slices

Array = NDArray[Any]

BLOCK_SECONDS = 60.0
CHUNK = 8192  # frames that are added at once: they stay in the processor's cache
FRAMES = np.arange(CHUNK, dtype=np.float32)

DECIBELS_PER_VELOCITY = 33 / 95  # 33 dB from velocity 20 to 115
MIDDLE_VELOCITY = 64
MIDDLE_LEVEL = 0.1  # what a tone of this velocity is multiplied by; the loudest chords then stay near full scale
SILENCE = 7.5  # nepers (65 dB) after which a damped tone is no longer heard
DAMPED_SECONDS = (0.11, 0.045)  # in which a tone falls by 1/e under the damper: lowest key, middle C and above
STRUCK_SECONDS = 0.12  # the same for what still rings when the hammer strikes again
RELEASE_DECIBELS, PEDAL_DECIBELS = -25.0, -34.0  # the dampers' noise, below a tone
UNA_CORDA_DECIBELS = -3.0
UNA_CORDA_HZ = 1_500.0  # above this the tone is darker
UNA_CORDA_SHARE = 0.6  # of the tone without what lies above
RING_SECONDS = 0.3  # in which the power of what was struck falls by 1/e, to tell how loud a piece is
CREST = 0.45  # the peak of music beside the root of this power
SHORTEST_SECONDS = 0.1  # of a sound, also of an empty performance


def steady_gain(performance: Performance) -> float:
    """Return a gain for a performance at which its loudest moment is near full scale, told from its notes alone.

    It is the same wherever one starts to play, so that a soft span stays soft.
    """
    power = most = 0.0
    before = 0.0
    for onset, _, _, velocity in performance.notes.tolist():
        power = power * exp((before - onset) / RING_SECONDS) + loudness(velocity) ** 2
        most, before = max(most, power), onset
    return PEAK / (CREST * MIDDLE_LEVEL * most**0.5) if most else 1.0


@dataclass(frozen=True)
class Voice:
    """A tone from its strike until it is no longer heard.

    Attributes:
        key: MIDI number.
        weights: Factor of each layer of the key's recordings that sounds, by its number.
        is_dark: Whether it is played una corda.
        times: Seconds, ascending, from the strike to the end.
        fallen: Nepers that dampers and hammer have taken away at each of these times.
    """

    key: int
    weights: dict[int, float]
    is_dark: bool
    times: tuple[float, ...]
    fallen: tuple[float, ...]

    @property
    def start(self) -> float:
        """The second of the strike."""
        return self.times[0]

    @property
    def end(self) -> float:
        """The second from which it is silent."""
        return self.times[-1]


def loudness(velocity: float) -> float:
    """Return the factor of a tone: 1 at the middle velocity."""
    return float(10 ** ((velocity - MIDDLE_VELOCITY) * DECIBELS_PER_VELOCITY / 20))


def layer_weights(recordings: tuple[Recording, ...], velocities: tuple[int, ...], velocity: float) -> dict[int, float]:
    """Return the factors of the one or two layers that sound at a velocity; their sum has the level of the key.

    Two layers of one key correlate by `overlap`, so that the power of their sum is a² + b² + 2ab·overlap.
    """
    lower = min(max(bisect_right(velocities, velocity) - 1, 0), len(velocities) - 2)
    b = (velocity - velocities[lower]) / (velocities[lower + 1] - velocities[lower])
    b = min(max(b, 0.0), 1.0)
    a, overlap = 1 - b, recordings[lower].overlap
    norm = (a * a + b * b + 2 * a * b * overlap) ** 0.5
    weights = {lower: a, lower + 1: b}
    return {layer: weight / norm * recordings[layer].gain for layer, weight in weights.items() if weight > 0}


def damping_rate(key: int) -> float:
    """Return by how many nepers a second a damper at rest quiets a key."""
    lowest, middle = DAMPED_SECONDS
    return 1 / (middle + (lowest - middle) * max(0, 60 - key) / 39)


def voices_of(performance: Performance, samples: Samples, dampers: Dampers) -> list[Voice]:
    """Return the voices of a performance, in the order of its notes."""
    columns = zip(
        performance.notes.tolist(), key_ups(performance), struck_again(performance), played_una_corda(performance),
        strict=True,
    )  # fmt: skip
    voices = []
    for (onset, _, key, velocity), up, again, is_dark in columns:
        weights = layer_weights(samples.recordings(key), samples.index.velocities, velocity)
        level = MIDDLE_LEVEL * loudness(velocity + (UNA_CORDA_DECIBELS / DECIBELS_PER_VELOCITY if is_dark else 0))
        times, fallen = _fall(onset, up, again, damping_rate(key), onset + samples.seconds(key), dampers)
        voices.append(Voice(key, {i: level * each for i, each in weights.items()}, bool(is_dark), times, fallen))
    return voices


Fall = tuple[tuple[float, ...], tuple[float, ...]]  # seconds, and the nepers that a tone has fallen by then


def _fall(onset: float, up: float, again: float, rate: float, last: float, dampers: Dampers) -> Fall:
    """Return the times at which a tone's fall changes, and the nepers it has fallen by then; it ends at `SILENCE`.

    Its damper follows the pedal from `up` until the key is struck `again`; from then on the hammer has taken the most.
    """
    inner = {up, again, *dampers.moves_between(up, min(again, last))}
    free = dampers.touched(min(up, again, last))
    times, fallen = [onset], [0.0]
    for second in [*sorted(each for each in inner if onset < each < last), last]:
        nepers = max(second - again, 0) / STRUCK_SECONDS
        if second > up:
            nepers += rate * (dampers.touched(min(second, again)) - free)
        if nepers > SILENCE:
            share = (SILENCE - fallen[-1]) / (nepers - fallen[-1])
            times.append(times[-1] + share * (second - times[-1]))
            fallen.append(SILENCE)
            break
        times.append(second)
        fallen.append(nepers)
    return tuple(times), tuple(fallen)


class Grand:
    """A performance on the grand piano, block by block."""

    def __init__(self, performance: Performance, sample_rate: int) -> None:
        self.sample_rate, self.samples = sample_rate, Samples(sample_rate)
        self.dampers = Dampers(performance)
        self.performance = performance
        self.voices = voices_of(performance, self.samples, self.dampers)
        silent = max([SHORTEST_SECONDS, *(voice.end for voice in self.voices)])
        self.noises = [noise for noise in self._noises() if noise[0] < silent]
        ends = [second + recording.seconds for second, recording, _ in self.noises]
        self.frames = round(max([silent, *ends]) * sample_rate)

    def blocks(self) -> Iterator[Array]:
        """Yield the sound in blocks of a minute, float32 of shape (2, frames)."""
        resonance = Resonance(self.sample_rate, self.dampers)
        size = round(BLOCK_SECONDS * self.sample_rate / resonance.hop) * resonance.hop
        keys: dict[int, list[Voice]] = {}
        for voice in self.voices:
            keys.setdefault(voice.key, []).append(voice)
        for first in range(0, self.frames, size):
            whole = -(-min(size, self.frames - first) // resonance.hop) * resonance.hop
            mix = np.zeros((2, whole), np.float32)
            for voices in keys.values():
                self._add_key(mix, first, voices)
            self._add_noises(mix, first)
            resonance.add_to(mix)
            yield mix[:, : self.frames - first]

    def _add_key(self, mix: Array, first: int, voices: list[Voice]) -> None:
        """Add what sounds of a key in a block that begins at frame `first`; forget the voices that have ended."""
        begin, end = first / self.sample_rate, (first + mix.shape[1]) / self.sample_rate
        sounding = [voice for voice in voices if voice.start < end and voice.end > begin]
        voices[:] = [voice for voice in voices if voice.end > end]
        tones = self._tones(sounding, end)
        for voice in sounding:
            self._add_voice(mix, first, voice, tones)

    def _tones(self, voices: list[Voice], end: float) -> dict[tuple[int, bool], Array]:
        """Return the tones that voices of one key need until second `end`, by layer and whether they are dark."""
        needed: dict[tuple[int, bool], float] = {}
        for voice in voices:
            for layer in voice.weights:
                needed[layer, voice.is_dark] = max(
                    needed.get((layer, voice.is_dark), 0), min(voice.end, end) - voice.start
                )
        tones = {}
        for layer in {layer for layer, _ in needed}:
            bright, dark = (int(needed.get((layer, is_dark), 0) * self.sample_rate) + 2 for is_dark in (False, True))
            tones[layer, False] = self.samples.tone(voices[0].key, layer, max(bright, dark))
            if (layer, True) in needed:
                tones[layer, True] = _darkened(tones[layer, False][:, :dark], self.sample_rate)
        return tones

    def _add_voice(self, mix: Array, first: int, voice: Voice, tones: dict[tuple[int, bool], Array]) -> None:
        start = round(voice.start * self.sample_rate)
        edges = [round(second * self.sample_rate) for second in voice.times]
        for i, (left, right) in enumerate(pairwise(edges)):
            if right <= first or left >= first + mix.shape[1] or right == left:
                continue
            slope = (voice.fallen[i + 1] - voice.fallen[i]) / (right - left)
            begin, end = max(left, first), min(right, first + mix.shape[1])
            level = exp(-voice.fallen[i] - slope * (begin - left))
            factors = [(tones[layer, voice.is_dark], weight * level) for layer, weight in voice.weights.items()]
            _add(mix[:, begin - first : end - first], begin - start, factors, slope)

    def _noises(self) -> list[tuple[float, Recording, float]]:
        """Return the second, the recording and the factor of each noise of dampers and pedal."""
        found = []
        ups = key_ups(self.performance)
        index = self.samples.index
        falls = (ups < np.inf) & (self.dampers.at(np.minimum(ups, 1e9)) > 0.5)
        for (_, _, key, velocity), up in zip(self.performance.notes[falls].tolist(), ups[falls].tolist(), strict=True):
            level = loudness((velocity + MIDDLE_VELOCITY) / 2) * 10 ** (RELEASE_DECIBELS / 20)
            found.append((up, index.releases[nearest(key, index.releases)], MIDDLE_LEVEL * level))
        for onset, duration, pedal, depth in self.performance.pedals.tolist():
            if pedal == SUSTAIN:
                level = MIDDLE_LEVEL * 10 ** (PEDAL_DECIBELS / 20) * depth / 127
                found += [
                    (onset, index.pedals["pedal-down"], level),
                    (onset + duration, index.pedals["pedal-up"], level),
                ]
        return sorted(found, key=lambda each: each[0])

    def _add_noises(self, mix: Array, first: int) -> None:
        cache: dict[str, Array] = {}
        for second, recording, factor in self.noises:
            at = round(second * self.sample_rate) - first
            if at >= mix.shape[1]:
                break
            if at + recording.seconds * self.sample_rate < 0:
                continue
            if recording.file not in cache:
                cache[recording.file] = self.samples.noise(recording)
            noise = cache[recording.file]
            begin, end = max(at, 0), min(at + noise.shape[1], mix.shape[1])
            mix[:, begin:end] += np.float32(factor * recording.gain) * noise[:, begin - at : end - at]


def _add(mix: Array, offset: int, factors: list[tuple[Array, float]], nepers_per_frame: float) -> None:
    """Add the sum of tones from frame `offset` on, each times its factor, falling at a steady rate."""
    (first, factor), *others = factors
    fall = np.exp(np.float32(-nepers_per_frame) * FRAMES[: mix.shape[1]]) if nepers_per_frame else None
    total, other = np.empty((2, 2, min(CHUNK, mix.shape[1])), np.float32)
    for part in slices(mix.shape[1], CHUNK):
        level, size = exp(-nepers_per_frame * part.start), part.stop - part.start
        read = slice(offset + part.start, offset + part.stop)
        np.multiply(first[:, read], np.float32(factor * level), out=total[:, :size])
        for tone, weight in others:
            total[:, :size] += np.multiply(tone[:, read], np.float32(weight * level), out=other[:, :size])
        if fall is not None:
            total[:, :size] *= fall[:size]
        mix[:, part] += total[:, :size]


def _darkened(tone: Array, sample_rate: int) -> Array:
    """Return a tone with less of what lies above `UNA_CORDA_HZ`: a running mean takes its place in part."""
    half = round(sample_rate / UNA_CORDA_HZ / 4)
    dark = tone.copy()
    for lag in range(1, half + 1):
        dark[:, lag:] += tone[:, :-lag]
        dark[:, :-lag] += tone[:, lag:]
    dark *= np.float32(UNA_CORDA_SHARE / (2 * half + 1))
    dark += np.float32(1 - UNA_CORDA_SHARE) * tone
    return dark
