"""Distributions count each note once, large values in the last bin; the features of each performance."""

import json

import numpy as np
import pytest

from music_generator.music.features import (
    EDGES,
    FEATURES,
    LENGTH_EDGES,
    Distributions,
    distributions,
    performance_features,
)
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, UNA_CORDA, Performance


def performance(*notes: tuple[float, float, int, int]) -> Performance:
    return Performance(np.array(list(notes), NOTE_DTYPE))


def test_every_note_is_counted_once():
    counted = distributions([performance((0, 0.5, 21, 1), (0.1, 0.5, 60, 64), (0.3, 0.5, 108, 127))])
    assert {name: int(counts.sum()) for name, counts in counted.counts.items()} == {
        "pitch": 3,
        "step": 2,
        "duration": 3,
        "velocity": 3,
    }
    assert np.flatnonzero(counted.counts["pitch"]).tolist() == [0, 60 - 21, 108 - 21]
    assert np.flatnonzero(counted.counts["velocity"]).tolist() == [0, 16, 31]


def test_what_lies_beyond_is_in_the_last_bin():
    counted = distributions([performance((0, 30, 60, 64), (12, 0.05, 62, 64))])
    assert counted.counts["step"][-1] == 1
    assert counted.counts["duration"][-1] == 1
    assert counted.counts["duration"][1] == 1  # 0.04 to 0.08 s


def test_pieces_are_added_and_have_no_step_between_them():
    piece = performance((0, 0.5, 60, 64), (0.25, 0.5, 64, 64))
    twice = distributions([piece, piece])
    assert twice.counts["step"].sum() == 2
    assert all(np.array_equal(twice.counts[name], 2 * distributions([piece]).counts[name]) for name in EDGES)


def test_shares_sum_to_one_and_are_zeros_without_notes():
    some = distributions([performance((0, 0.5, 60, 64), (0.25, 0.5, 64, 64))])
    none = distributions([Performance()])
    for name in EDGES:
        assert some.shares(name).sum() == 1
        assert not none.shares(name).any()


def test_json_round_trip():
    counted = distributions([performance((0, 0.5, 60, 64), (0.25, 3, 64, 100))])
    again = Distributions.from_json(json.loads(json.dumps(counted.to_json())))
    assert all(np.array_equal(again.counts[name], counted.counts[name]) for name in EDGES)


# --- features of one performance


def feature(name: str, played: Performance, seconds: float = 10.0) -> list[float]:
    (values,) = performance_features([played], seconds)[name]
    return values.tolist()


def test_features_of_a_known_performance():
    """C4 for 1 s, E4 and C5 together for 2 s while it still sounds, a rest, C4 again for 1 s."""
    played = performance((0, 1, 60, 10), (0.5, 2, 64, 70), (0.5, 2, 72, 70), (4.0, 1, 60, 127))
    assert feature("pitch_count", played) == [3]
    assert feature("pitch_range", played) == [12]
    assert feature("mean_interval", played) == [pytest.approx((4 + 8 + 12) / 3)]
    assert feature("mean_inter_onset", played) == [pytest.approx(4 / 3)]
    assert feature("polyphony", played) == [pytest.approx(6 / 3.5)]
    assert feature("notes_per_second", played) == [0.4]
    classes = feature("pitch_classes", played)
    assert (classes[0], classes[4], sum(classes)) == (pytest.approx(4 / 6), pytest.approx(2 / 6), pytest.approx(1))
    moves = np.reshape(feature("pitch_class_transitions", played), (12, 12))
    assert [moves[0, 4], moves[4, 0], moves[0, 0]] == [pytest.approx(1 / 3)] * 3
    lengths = feature("note_lengths", played)
    assert lengths[np.searchsorted(LENGTH_EDGES, 1.01) - 1] == 0.5
    assert np.flatnonzero(feature("velocities", played)).tolist() == [2, 17, 31]


def test_sustain_counts_its_own_pedal_within_the_time():
    pedals = [(1, 2, SUSTAIN, 80), (2, 5, UNA_CORDA, 80), (9, 5, SUSTAIN, 80)]
    assert feature("sustain_share", Performance(pedals=np.array(pedals, PEDAL_DTYPE))) == [pytest.approx(0.3)]


def test_features_do_not_change_with_the_key_where_they_should_not():
    played = performance((0, 1, 60, 10), (0.5, 2, 64, 70), (1.5, 2, 72, 70))
    one, other = (performance_features([p], 4) for p in (played, played.transposed(5)))
    assert {name for name in FEATURES if not np.array_equal(one[name], other[name])} == {
        "pitch_classes",
        "pitch_class_transitions",
    }


def test_each_performance_may_have_a_length_of_its_own():
    played = performance((0, 1, 60, 10), (0.5, 1, 64, 70))
    found = performance_features([played, played], [4.0, 8.0])
    assert found["notes_per_second"].tolist() == [[0.5], [0.25]]


def test_features_without_notes_and_of_one_note_are_finite():
    found = performance_features([Performance(), performance((0, 0.5, 60, 64))], 10)
    assert found["pitch_class_transitions"].shape == (2, 144)
    for name in FEATURES:
        assert np.isfinite(found[name]).all()
        assert not found[name][0].any()
