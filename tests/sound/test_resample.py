"""Resampling: a sine stays a sine at the right pitch, and what cannot be kept goes."""

import numpy as np
import pytest

from music_generator.sound.resample import MOST_CENTS_OFF, Resampler, nearest_fraction


@pytest.mark.parametrize("ratio", [1.0, 2 ** (1 / 12), 2 ** (-1 / 12), 44_100 / 48_000, 4.0, 44_100 / 96_000, 0.123])
def test_the_fraction_is_near(ratio):
    p, q = nearest_fraction(ratio)
    assert abs(1200 * np.log2(p / q / ratio)) <= MOST_CENTS_OFF


@pytest.mark.parametrize("ratio", [2 ** (1 / 12), 2 ** (-1 / 12), 44_100 / 48_000])
@pytest.mark.parametrize("hertz", [100.0, 5_000.0])
def test_a_sine(ratio, hertz):
    resampler, rate = Resampler(ratio), 44_100
    frames = 20_000
    sine = np.sin(2 * np.pi * hertz / rate * np.arange(resampler.needed(frames)))
    made = resampler(np.stack([sine, -sine]).astype(np.float32), frames)
    wanted = np.sin(2 * np.pi * hertz / rate * resampler.step * np.arange(frames))
    middle = slice(100, -100)
    assert np.abs(made[0] - wanted)[middle].max() < 3e-3
    assert np.array_equal(made[0], -made[1])


def test_what_is_above_half_the_rate_is_gone():
    sine = np.sin(2 * np.pi * 0.4 * np.arange(20_000))  # above half of a rate that is 1.5 times lower
    assert np.abs(Resampler(1.5)(sine[None].astype(np.float32), 13_000))[:, 100:-100].max() < 0.02


def test_the_same_rate_leaves_all_as_it_is():
    noise = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    assert np.array_equal(Resampler(1.0)(noise, 1000), noise)


@pytest.mark.parametrize("ratio", [1.0, 18 / 17])
def test_silence_follows(ratio):
    made = Resampler(ratio)(np.ones((2, 1000), np.float32), 2000)
    assert made.shape == (2, 2000)
    assert np.abs(made[:, 100:900] - 1).max() < 0.01
    assert not made[:, 1050:].any()
