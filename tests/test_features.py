"""What is counted: every note once in each distribution, the far end in the last bin."""

import json

import numpy as np

from music_generator.features import EDGES, Distributions, distributions
from music_generator.performance import NOTE_DTYPE, Performance


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
