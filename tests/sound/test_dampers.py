"""When the strings are damped: keys and the three pedals."""

import numpy as np
import pytest

from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SOSTENUTO, SUSTAIN, UNA_CORDA, Performance
from music_generator.sound.dampers import Dampers, contact, key_ups, played_una_corda, struck_again


def performance(notes, pedals=(), depth=127) -> Performance:
    presses = [(*press, depth) for press in pedals]
    return Performance(np.array(list(notes), NOTE_DTYPE), np.array(presses, PEDAL_DTYPE))


def test_contact_falls_with_the_depth_of_the_press():
    assert contact(np.array([1, 30, 95, 127])).tolist() == [1, 1, 0, 0]
    half = contact(np.arange(30, 96))
    assert (np.diff(half) < 0).all()
    assert 0.05 < contact(np.array(64)) < 0.2


def test_touched_is_the_time_of_full_contact():
    dampers = Dampers(performance([], [(1, 2, SUSTAIN), (4, 1, SUSTAIN)]))
    assert dampers.at(np.array([0.0, 1, 2.9, 3, 4.5, 6])).tolist() == [1, 0, 0, 1, 0, 1]
    touched = [dampers.touched(second) for second in (0, 1, 3, 3.5, 4, 5, 6)]
    assert np.diff(touched) == pytest.approx([1, 0, 0.5, 0.5, 0, 1])
    assert dampers.moves_between(2, 4.5) == [3, 4]


def test_a_half_pedal_touches_a_little():
    dampers = Dampers(performance([], [(1, 2, SUSTAIN)], depth=64))
    assert dampers.touched(3) - dampers.touched(1) == pytest.approx(2 * contact(np.array(64)))


def test_sostenuto_holds_only_what_sounds_when_it_is_pressed():
    assert key_ups(performance([(0, 1, 60, 80), (1, 0.5, 64, 80)], [(0.5, 3, SOSTENUTO)])).tolist() == [3.5, 1.5]


def test_sostenuto_takes_over_from_sustain():
    pedals = [(0.5, 1.5, SUSTAIN), (1.5, 2, SOSTENUTO)]
    assert key_ups(performance([(0, 1, 60, 80)], pedals)).tolist() == [3.5]


def test_the_highest_keys_have_no_dampers():
    assert key_ups(performance([(0, 0.1, 89, 80), (0, 0.1, 90, 80)])).tolist() == [0.1, np.inf]


def test_struck_again():
    played = performance([(0, 0.5, 60, 80), (0, 0.5, 64, 80), (1, 0.5, 60, 80)])
    assert struck_again(played).tolist() == [1, np.inf, np.inf]
    assert struck_again(Performance()).tolist() == []


def test_una_corda_counts_at_the_strike():
    played = performance([(0, 3, 60, 80), (1.5, 1, 62, 80), (3, 1, 64, 80)], [(1, 1, UNA_CORDA)])
    assert played_una_corda(played).tolist() == [False, True, False]
