"""The script that makes the piano's samples: it tunes, aligns, balances and trims."""

import sys

import numpy as np
import pytest

from test_architecture import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))

from make_samples import (
    LOW_RATE,
    RATE,
    balanced,
    best_shift,
    first_partial,
    onset_frame,
    rate_of,
    resampled,
    shaped,
    smooth,
    without_rumble,
)


def string(first: float, stiffness: float, seconds: float = 3.0) -> np.ndarray:
    """The partials of a stiff string, decaying."""
    times = np.arange(int(seconds * RATE)) / RATE
    tone = sum(
        np.exp(-times * (0.3 + 0.1 * k)) / k * np.sin(2 * np.pi * times * k * first * np.sqrt(1 + stiffness * k * k))
        for k in range(1, 13)
    )
    return np.stack([tone, 0.3 * tone], axis=1)


@pytest.mark.parametrize(("key", "stiffness", "off"), [(28, 2e-4, -12.0), (57, 3e-4, 4.0), (81, 1e-3, 9.0)])
def test_the_first_partial_is_found_and_tuned(key, stiffness, off):
    place = 440 * 2 ** ((key - 69) / 12)
    tone = string(place * 2 ** (off / 1200) / np.sqrt(1 + stiffness), stiffness)
    assert 1200 * np.log2(first_partial(tone, RATE, key) / place) == pytest.approx(off, abs=0.3)
    tuned = resampled(tone, RATE, RATE, -off)
    assert 1200 * np.log2(first_partial(tuned, RATE, key) / place) == pytest.approx(0, abs=0.3)


def test_the_shift_at_which_two_layers_meet():
    noise = np.random.default_rng(0).standard_normal(20_000)
    assert best_shift(noise[1000:15_000], noise[1300:15_300], 500) == 300
    assert best_shift(noise[1300:15_300], noise[1000:15_000], 500) == -300


def test_the_onset_is_where_the_strike_begins():
    samples = np.concatenate([np.zeros((2000, 2)), string(220, 3e-4)])
    assert onset_frame(samples, RATE) == pytest.approx(2000, abs=60)


def test_both_channels_become_equally_loud():
    power = np.mean(balanced(string(220, 3e-4), RATE) ** 2, axis=0)
    assert power[0] == pytest.approx(power[1], rel=1e-3)
    left, right = np.mean(balanced(string(220, 3e-4), RATE, 3.0) ** 2, axis=0)
    assert 10 * np.log10(left / right) == pytest.approx(3, abs=0.01)


def test_a_tone_ends_faded_out_where_it_is_inaudible():
    tone = string(220, 3e-4, 20)
    made = shaped(tone + 0.05, 57)
    assert 12 * RATE < len(made) < 15 * RATE  # the first partial falls by 48 dB in 13.8 s
    assert np.abs(made[-10:]).max() < 1e-4
    assert np.abs(made[RATE:].mean(axis=0)).max() < 1e-3  # what does not swing is gone


def test_the_rumble_goes_and_the_knock_stays():
    times = np.arange(2 * RATE)[:, None] / RATE
    tone, hum = string(880, 3e-4, 2), 0.1 * np.sin(2 * np.pi * 50 * times) * np.ones(2)
    off = without_rumble(tone + hum, 880) - tone
    assert np.abs(off[: RATE // 10] - hum[: RATE // 10]).max() < 1e-3
    assert np.abs(off[RATE : 3 * RATE // 2]).max() < 4e-3  # of the hum 0.1, of the first partial 1/257


def test_a_bright_strike_keeps_the_high_rate():
    dull = string(220, 3e-4)
    dull[:400] *= np.linspace(0, 1, 400)[:, None] ** 2
    hiss = np.random.default_rng(0).standard_normal(dull.shape) * np.exp(-np.arange(len(dull)) / 400)[:, None]
    assert rate_of(dull) == LOW_RATE
    assert rate_of(dull + 0.1 * hiss) == RATE


def test_a_smooth_curve_passes_over_an_outlier():
    keys = np.arange(21, 109, 3)
    values = 0.1 * (keys - 60.0)
    values[10] += 30
    assert smooth(keys, values, 3)(51) == pytest.approx(-0.9, abs=0.5)
