"""The grand piano, by its waveform: levels, tuning, balance, decay, dampers and pedals."""

from itertools import pairwise

import numpy as np
import pytest

from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SOSTENUTO, SUSTAIN, UNA_CORDA, Performance
from music_generator.sound import SAMPLES, SoundOptions, grand, read_index, render
from music_generator.sound import resonance as strings

RATE = 44_100
KEYS = range(21, 109)


def play(notes, pedals=(), rate=RATE) -> np.ndarray:
    """The waveform of notes (onset, duration, pitch, velocity) and pedals (onset, duration, pedal[, depth])."""
    presses = [press if len(press) == 4 else (*press, 127) for press in pedals]
    played = Performance(np.array(list(notes), NOTE_DTYPE), np.array(presses, PEDAL_DTYPE))
    sound = render(played, SoundOptions(rate, normalise="none"))
    assert sound.gain == 1
    return sound.samples.astype(np.float64)


def level(samples: np.ndarray, start: float, end: float, rate: int = RATE) -> float:
    """Decibels between two seconds; -200 of silence."""
    part = samples[int(start * rate) : int(end * rate)]
    return float(10 * np.log10(np.mean(part**2) + 1e-20)) if len(part) else -200.0


def brightness(samples: np.ndarray, hertz: float) -> float:
    """Decibels of what lies above a frequency, beside the whole."""
    power = np.abs(np.fft.rfft(samples.sum(axis=1))) ** 2
    high = np.fft.rfftfreq(len(samples), 1 / RATE) > hertz
    return float(10 * np.log10(power[high].sum() / power.sum()))


# --- the samples


def test_the_set_is_whole_and_small():
    index = read_index()
    files = [each.file for rows in index.tones.values() for each in rows]
    files += [each.file for each in (*index.releases.values(), *index.pedals.values())]
    there = {path.name for path in SAMPLES.iterdir()}
    assert there == {*files, "index.json", "LICENSE"}
    assert sum((SAMPLES / name).stat().st_size for name in there) <= 8_000_000
    assert all(len(rows) == len(index.velocities) for rows in index.tones.values())
    assert "Alexander Holm" in index.credit
    assert "CC BY 3.0" in index.credit


# --- levels, balance, tuning


@pytest.mark.parametrize("key", [28, 40, 52, 64, 76, 88])
def test_level_by_velocity(key):
    """30 to 40 dB from velocity 20 to 115, in even steps."""
    velocities = range(20, 116, 5)
    samples = play([(1.5 * i, 0.6, key, velocity) for i, velocity in enumerate(velocities)])
    levels = np.array([level(samples, 1.5 * i, 1.5 * i + 0.6) for i in range(len(velocities))])
    assert 30 <= levels[-1] - levels[0] <= 40
    assert (np.diff(levels) > 1).all()
    assert (np.diff(levels) <= 2).all()


def test_brighter_with_velocity():
    samples = play([(2 * i, 1, 60, velocity) for i, velocity in enumerate((30, 64, 110))])
    soft, middle, loud = (brightness(samples[2 * i * RATE : (2 * i + 1) * RATE], 1500) for i in range(3))
    assert loud > middle + 2 > soft + 4


@pytest.mark.parametrize("velocity", [30, 64, 100])
def test_neighbouring_keys_are_even_and_both_sides_too(velocity):
    samples = play([(i, 0.6, key, velocity) for i, key in enumerate(KEYS)])
    levels = np.array([level(samples, i, i + 0.6) for i in range(88)])
    assert np.abs(np.diff(levels)).max() <= 2
    sides = np.array([level(samples[:, :1], i, i + 0.6) - level(samples[:, 1:], i, i + 0.6) for i in range(88)])
    assert np.abs(sides).max() <= 3
    assert sides[:20].mean() > 0.5 > -0.5 > sides[-20:].mean()  # low keys a little to the left


def test_tuning():
    """The middle of each key's first partials, all strings of it together, on the stretched curve."""
    off = []
    samples = play([(2.5 * i, 2.2, key, 89) for i, key in enumerate(KEYS)])
    for i, (key, cents) in enumerate(zip(KEYS, read_index().stretch, strict=True)):
        part = samples[int((2.5 * i + 0.05) * RATE) : int((2.5 * i + (2 if key < 60 else 0.9)) * RATE)].sum(axis=1)
        off.append(cents_off(part, key, cents))
    assert np.abs(off).max() < 3


def cents_off(part: np.ndarray, key: int, cents: float) -> float:
    """Cents between a tone and its place, from the partials that carry its pitch.

    In the bass the second to sixth partials carry it; they are sharp by the string's stiffness B, which is fitted:
    (f_k / k)² = f² (1 + B k²).
    """
    size = 1 << 19
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)), size)) ** 2
    hertz = np.arange(len(power)) * RATE / size
    wanted = 440 * 2 ** ((key - 69 + cents / 100) / 12)
    if key >= 60:
        near = np.abs(hertz / wanted - 1) < 0.01
        return float(1200 * np.log2((hertz[near] * power[near]).sum() / power[near].sum() / wanted))
    numbers, found, weights, first = np.arange(1, 9), [], [], wanted
    for k in numbers:
        near = np.abs(hertz / (first * k) - 1) < 0.012
        top = hertz[near][power[near].argmax()]
        found.append(top)
        weights.append(power[near].max() ** 0.25)
        first = top / k if k > 1 else first
    slope, base = np.polyfit(numbers**2, (np.array(found) / numbers) ** 2, 1, w=weights)
    return float(600 * np.log2((base + slope) / wanted**2))


@pytest.mark.parametrize(
    ("key", "velocity", "seconds"),
    [
        (28, 30, (2.52, 7.69, 14.67, 18.10)),
        (28, 63, (2.37, 7.03, 14.21, 18.62)),
        (28, 115, (2.15, 6.46, 12.52, 17.43)),
        (64, 30, (0.40, 2.18, 4.12, 8.53)),
        (64, 63, (0.37, 2.00, 3.55, 6.31)),
        (64, 115, (0.35, 1.80, 3.24, 5.80)),
        (88, 30, (0.28, 0.81, 2.09, 3.35)),
        (88, 63, (0.29, 0.83, 2.01, 2.86)),
        (88, 115, (0.17, 0.47, 1.23, 2.25)),
    ],
)
def test_decay_under_the_pedal(key, velocity, seconds):
    """Seconds to fall by 10, 20, 30, 40 dB: those of the recordings (tools/measure_decay.py), within a quarter."""
    samples = play([(0.5, 0.3, key, velocity)], [(0, 40, SUSTAIN)])
    steps = np.arange(0, len(samples) / RATE - 0.25, 0.01)
    levels = np.array([level(samples, t, t + 0.25) for t in steps])
    after = levels[levels.argmax() :] - levels.max()
    fallen = [0.01 * np.argmax(after < -fall) for fall in (10, 20, 30, 40)]
    assert fallen == pytest.approx(seconds, rel=0.25)


def test_no_rumble_under_a_soft_tone():
    samples = play([(0, 2, 88, 30)])
    assert brightness(samples[RATE // 2 : 2 * RATE], 660) > -0.1  # of the whole; the first partial is at 1,319 Hz


@pytest.mark.parametrize("rate", [11_025, 48_000, 96_000])
def test_all_keys_at_all_rates(rate):
    samples = play([(0.05 * i, 0.1, key, 1 + i) for i, key in enumerate(KEYS)], rate=rate)
    assert np.isfinite(samples).all()
    one = play([(0, 1, 69, 64)], rate=rate)[:rate].sum(axis=1)
    spectrum = np.abs(np.fft.rfft(one * np.hanning(len(one))))
    assert spectrum.argmax() == pytest.approx(440, abs=2)


def test_no_constant_and_no_clicks():
    notes = [(0.3 * i, 0.25, 40 + 3 * i, 20 + 5 * i) for i in range(18)]
    samples = play(notes, [(1, 2, SUSTAIN), (4, 1, SUSTAIN, 70)])
    assert np.abs(samples.mean(axis=0)).max() < 1e-4
    assert np.abs(samples[-5:]).max() < 1e-3 * np.abs(samples).max()  # the end is not cut off
    window, hop = 12 * 44, 44  # a period of the lowest tones; 1 ms
    sums = np.cumsum((samples**2).sum(axis=1))
    power = (sums[window::hop] - sums[:-window:hop]) / window
    times = np.arange(len(power)) * hop / RATE
    attack = np.zeros(len(power), bool)
    for onset in [onset for onset, *_ in notes] + [1, 3, 4, 5]:
        attack |= (times > onset - 0.015) & (times < onset + 0.01)
    quiet = power < 1e-7 * power.max()
    jumps = np.abs(np.diff(10 * np.log10(power + 1e-20)))
    assert (jumps[~(attack | quiet)[1:]] < 6).all()


# --- dampers and pedals


def test_key_up_ends_the_tone_and_the_sound():
    samples = play([(0, 0.5, 60, 80)])
    assert level(samples, 0.7, 0.8) < level(samples, 0.4, 0.5) - 25
    assert 0.7 < len(samples) / RATE < 1.2


def test_the_bass_is_damped_slower():
    def left(key: int) -> float:
        samples = play([(0, 0.5, key, 80)])
        return level(samples, 0.6, 0.65) - level(samples, 0.45, 0.5)

    assert left(28) > left(60) + 5


def test_the_highest_keys_ring_on():
    ringing, damped = (play([(0, 0.1, key, 80)]) for key in (91, 89))
    assert level(ringing, 0.4, 0.5) > level(damped, 0.4, 0.5) + 20


def test_dampers_and_pedal_are_heard(monkeypatch):
    note, pedal = [(0, 0.5, 60, 64)], [(1, 1, SUSTAIN)]
    with_noise, pedalled = play([*note, (3, 0.1, 60, 64)]), play([*note, (3, 0.1, 60, 64)], pedal)
    monkeypatch.setattr(grand, "RELEASE_DECIBELS", -200)
    damper = with_noise - play([*note, (3, 0.1, 60, 64)])
    assert -30 < level(damper, 0.5, 0.8) - level(with_noise, 0, 0.3) < -18
    for second in (1, 2):
        assert -42 < level(pedalled, second, second + 0.3) - level(with_noise, 0, 0.3) < -26


def test_sustain_holds_until_it_lifts():
    dry, held = play([(0, 0.5, 60, 80)]), play([(0, 0.5, 60, 80)], [(0.2, 2, SUSTAIN)])
    assert level(held, 1.5, 2.1) > level(dry, 1.5, 2.1) + 40
    assert level(held, 2.6, 2.7) < level(held, 1.5, 2.1) - 8


def test_half_pedal_lies_between_by_its_depth():
    depths = (40, 64, 80, 127)
    samples = [play([(0, 0.5, 60, 80)], [(0.2, 2, SUSTAIN, depth)]) for depth in depths]
    levels = [level(each, 0.9, 1.1) for each in samples]
    assert all(low + 1 < high for low, high in pairwise(levels))
    assert level(samples[1], 0.9, 1.1) > level(play([(0, 0.5, 60, 80)]), 0.9, 1.1) + 20


def test_a_pedal_soon_after_the_key_catches_what_is_left():
    dry, caught = play([(0, 0.5, 48, 80)]), play([(0, 0.5, 48, 80)], [(0.6, 1, SUSTAIN)])
    late = play([(0, 0.5, 48, 80)], [(1.6, 1, SUSTAIN)])
    assert level(caught, 1.0, 1.4) > level(dry, 1.0, 1.4) + 10
    assert np.allclose(late[: int(1.2 * RATE)], dry[: int(1.2 * RATE)])


def test_sostenuto_holds_the_first_note_only():
    notes = [(0, 0.5, 60, 80), (0.6, 0.2, 67, 80)]
    held = play(notes, [(0.3, 2, SOSTENUTO)])
    first = play(notes[:1], [(0.3, 2, SOSTENUTO)])
    dry = play(notes)
    assert level(held, 1.5, 2) == pytest.approx(level(first, 1.5, 2), abs=1)
    assert level(held, 1.5, 2) > level(dry, 1.5, 2) + 40


@pytest.mark.parametrize("key", [40, 60, 80])
def test_una_corda_is_softer_and_darker(key):
    samples = play([(0, 1, key, 80), (3, 1, key, 80)], [(2.9, 1, UNA_CORDA)])
    plain, soft = samples[:RATE], samples[3 * RATE : 4 * RATE]
    assert -6 < level(soft, 0, 1) - level(plain, 0, 1) < -2
    assert brightness(soft, 2000) < brightness(plain, 2000) - 2


def test_a_second_strike_does_not_silence_the_string_at_once():
    both, second = play([(0, 1, 48, 100), (1, 1, 48, 30)]), play([(1, 1, 48, 30)])
    old = both - np.pad(second, ((0, max(0, len(both) - len(second))), (0, 0)))[: len(both)]
    assert level(old, 1.0, 1.03) > level(old, 0.9, 1.0) - 3
    assert level(old, 1.15, 1.2) > level(old, 0.9, 1.0) - 16
    assert level(old, 1.6, 1.8) < level(old, 0.9, 1.0) - 30


def test_the_open_strings_ring_a_little_under_the_pedal(monkeypatch):
    chord = [(0, 0.5, key, 80) for key in (48, 60, 64, 67)]
    ringing = play(chord, [(0, 3, SUSTAIN)])
    monkeypatch.setattr(strings, "COUPLING", 0.0)
    plain = play(chord, [(0, 3, SUSTAIN)])
    ring = ringing - plain
    assert -35 < level(ring, 0.25, 1) - level(plain, 0, 0.75) < -15
    assert level(ring, 3.5, 3.6) < level(ring, 2.5, 3) - 20
    assert not (play(chord) - play(chord, [(5, 1, SUSTAIN)]))[: 2 * RATE].any()


# --- where the sound ends


def test_a_forgotten_pedal_and_a_late_one_add_no_silence():
    forgotten = play([(0, 0.5, 84, 80)], [(0.2, 36_000, SUSTAIN)])
    assert len(forgotten) / RATE < 8
    late = play([(0, 0.5, 60, 80)], [(35_000, 1, SUSTAIN)])
    assert len(late) / RATE < 2


def test_voices_of_a_long_pause_are_not_made_twice(monkeypatch):
    asked = []
    original = grand.Samples.tone
    monkeypatch.setattr(grand.Samples, "tone", lambda self, *what: asked.append(what) or original(self, *what))
    play([(0, 0.2, 60, 63), (400, 0.2, 60, 63)], rate=11_025)
    assert len(asked) == 2
