"""The script that makes the piano's samples: it tunes, aligns, balances and trims."""

import sys

import numpy as np
import pytest

from test_architecture import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))

from make_samples import balanced, best_shift, first_partial, onset_frame, retuned, shaped, smooth

RATE = 44_100


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
    assert 1200 * np.log2(first_partial(retuned(tone, RATE, -off), RATE, key) / place) == pytest.approx(0, abs=0.3)


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
    made = shaped(tone + 0.05, 57, 0.01)
    assert 3 * RATE < len(made) < 15 * RATE
    assert np.abs(made[-10:]).max() < 1e-4
    assert np.abs(made[RATE:].mean(axis=0)).max() < 1e-3  # what does not swing is gone


def test_a_smooth_curve_passes_over_an_outlier():
    keys = np.arange(21, 109, 3)
    values = 0.1 * (keys - 60.0)
    values[10] += 30
    assert smooth(keys, values, 3)(51) == pytest.approx(-0.9, abs=0.5)
