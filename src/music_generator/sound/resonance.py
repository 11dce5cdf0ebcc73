"""The ring of the open strings under the sustain pedal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.sound.dampers import Dampers
from music_generator.sound.waveform import slices

Array = NDArray[Any]

HOPS = 4  # a window has as many
HOP_SECONDS = 1 / 43
HOPS_AT_ONCE = 64  # 1.5 s: where no string rings for as long, nothing is computed
HIGHEST_HZ = 6_000.0
RING_SECONDS = 1.4  # in which the strings' ring falls by 1/e, at 200 Hz and below; less above
DAMPED_SECONDS = 0.08  # the same with the dampers on them
COUPLING = 0.007  # what rings on is then some 25 dB below the strike


class Resonance:
    """A resonator in each bin of a short-time Fourier transform, tuned to the partial of a string that is nearest.

    What sounds at that frequency excites it as long as it sounds, while the pedal is down; it rings on by itself, and
    stops when the dampers fall. The output is later than the input by a window (0.09 s): strings take their time.
    """

    def __init__(self, sample_rate: int, dampers: Dampers) -> None:
        self.sample_rate, self.dampers = sample_rate, dampers
        self.hop = 1 << round(np.log2(HOP_SECONDS * sample_rate))
        self.size = HOPS * self.hop
        self.window = np.hanning(self.size + 1)[:-1].astype(np.float32)
        bins = np.arange(1, min(int(HIGHEST_HZ * self.size / sample_rate), self.size // 2))
        hertz = _nearest_partials(bins * sample_rate / self.size)
        hop_seconds = self.hop / sample_rate
        ring = RING_SECONDS * np.minimum(1, (200 / hertz) ** 0.35)
        self.turn = np.exp(hop_seconds * (2j * np.pi * hertz - 1 / ring)).astype(np.complex64)
        self.damping = -hop_seconds / DAMPED_SECONDS
        phases = np.random.default_rng(88).uniform(-np.pi, np.pi, (2, len(bins)))
        self.sides = (COUPLING * np.exp(1j * phases)).astype(np.complex64)
        self.bins = slice(1, 1 + len(bins))
        self.state = np.zeros(len(bins), np.complex64)
        self.heard = np.zeros(self.size, np.float32)  # the last window of the input
        self.tail = np.zeros((2, self.size), np.float32)  # of the output
        self.frames = 0

    def add_to(self, mix: Array) -> None:
        """Add the ring to the next block of the sound, float32 of shape (2, frames), frames a multiple of `hop`."""
        input_ = np.concatenate([self.heard, mix.mean(axis=0)])
        hops = mix.shape[1] // self.hop
        starts = (self.frames + self.hop * np.arange(hops)) / self.sample_rate
        contact = self.dampers.at(starts)
        for part in slices(hops, HOPS_AT_ONCE):
            added = self.tail
            if self.state.any() or (contact[part] < 1).any():
                added = self._ring(input_, part.start, contact[part])
            frames = slice(part.start * self.hop, part.stop * self.hop)
            now = added[:, : frames.stop - frames.start]
            mix[:, frames.start : frames.start + now.shape[1]] += now
            self.tail = np.zeros((2, self.size), np.float32)
            self.tail[:, : added.shape[1] - now.shape[1]] = added[:, now.shape[1] :]
        self.heard = input_[-self.size :]
        self.frames += mix.shape[1]

    def _ring(self, input_: Array, first: int, contact: Array) -> Array:
        """Return the ring of as many hops from the `first` on as `contact` has, and of the window after them."""
        hop, size = self.hop, self.size
        windows = np.lib.stride_tricks.sliding_window_view(input_[first * hop :], size)[::hop][: len(contact)]
        spectra = np.fft.rfft(windows * self.window, axis=1)[:, self.bins].astype(np.complex64)
        states = np.empty_like(spectra)
        state = self.state
        for i, touch in enumerate(contact):
            state = state * (self.turn * np.float32(np.exp(touch * self.damping)))
            state += spectra[i] * np.float32(1 - touch)
            states[i] = state
        self.state = np.where(np.abs(state) > 1e-6, state, 0)
        whole = np.zeros((len(contact), size // 2 + 1), np.complex64)
        added = np.zeros((2, (len(contact) + HOPS) * hop), np.float32)
        added[:, :size] += self.tail
        for side in range(2):
            whole[:, self.bins] = states * self.sides[side]
            waves = np.fft.irfft(whole, size, axis=1).astype(np.float32) * self.window
            for part in range(HOPS):
                rows = added[side, part * hop : (part + len(contact)) * hop].reshape(-1, hop)
                rows += waves[:, part * hop : (part + 1) * hop]
        return added


def _nearest_partials(hertz: Array) -> Array:
    """Return for each frequency the nearest of the first sixteen partials of the damped strings."""
    firsts = 440.0 * 2 ** ((np.arange(21, 90) - 69) / 12)
    partials = np.sort((firsts[:, None] * np.arange(1, 17)).ravel())
    i = np.clip(np.searchsorted(partials, hertz), 1, len(partials) - 1)
    return np.where(hertz - partials[i - 1] < partials[i] - hertz, partials[i - 1], partials[i])
