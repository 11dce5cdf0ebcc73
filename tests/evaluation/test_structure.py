"""Returning runs, pulse, the chain and endings on tiny made pieces, against slow definitions and on real music."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import made_performance
from music_generator.data import maestro
from music_generator.evaluation.overlap import compare
from music_generator.evaluation.report import Endings, LeftOut, Skipped, StructureComparison
from music_generator.evaluation.samples import Sample, human_excerpts
from music_generator.evaluation.structure import (
    MATCH_LENGTHS,
    chain,
    compare_endings,
    compare_structure,
    ending_features,
    music_structure,
    pulse,
    returning_runs,
)
from music_generator.music.midi import read_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, UNA_CORDA, Performance
from music_generator.music.tokens import Array

PHRASE = [60, 67, 62, 71, 64, 63, 75, 66, 70, 61]


def played(pitches: Sequence[int], step: float = 0.5, velocity: int = 64) -> Performance:
    """Notes one after another, each as long as the step."""
    notes = np.empty(len(pitches), NOTE_DTYPE)
    notes["onset"], notes["duration"] = np.arange(len(pitches)) * step, step
    notes["pitch"], notes["velocity"] = pitches, velocity
    return Performance(notes)


def random_pitches(seed: int, count: int, low: int = 30, high: int = 90) -> list[int]:
    return np.random.default_rng(seed).integers(low, high, count).tolist()


# --- returning runs


def test_a_phrase_returns_in_another_key() -> None:
    """10 of 40 notes return, in their second place only; the notes between fill 5 s and more."""
    pitches = [*PHRASE, *random_pitches(0, 20), *(pitch + 5 for pitch in PHRASE)]
    assert returning_runs(played(pitches), 8) == 10 / 40
    assert returning_runs(played(pitches), 10) == 10 / 40
    assert returning_runs(played(pitches), 11) == 0


def test_a_phrase_that_comes_back_too_soon_does_not_return() -> None:
    pitches = [*PHRASE, 21, *PHRASE]
    assert returning_runs(played(pitches, step=0.46), 8) == 10 / 21  # from 5.06 s on
    assert returning_runs(played(pitches, step=0.45), 8) == 0  # from 4.95 s on


def test_a_chord_returns_however_it_is_spread() -> None:
    pitches = [*PHRASE, *random_pitches(0, 20), *PHRASE]
    piece = played(pitches)
    notes = piece.notes.copy()
    notes["onset"][30:33] = notes["onset"][30]  # keys 60, 67, 62 at once …
    notes["onset"][:3] = [0.02, 0.01, 0.0]  # … and spread in another order
    assert returning_runs(Performance(notes), 8) == 10 / 40


def test_a_scale_and_random_notes_do_not_return() -> None:
    scale = [48 + 12 * octave + degree for octave in range(3) for degree in (0, 2, 4, 5, 7, 9, 11)]
    assert returning_runs(played(scale, step=0.12), 6) == 0
    assert returning_runs(played(random_pitches(1, 400)), 6) == 0


def test_runs_may_not_overlap() -> None:
    """A figure of one interval that goes on returns from its 8th note on, when its runs are apart."""
    assert returning_runs(played([60] * 14, step=1.0), 8) == 0
    assert returning_runs(played([60] * 15, step=1.0), 8) == 8 / 15


def slow_returning_runs(piece: Performance, notes: int) -> float:
    """The definition, run by run; no chords."""
    pitch, onset, length = piece.notes["pitch"].astype(int), piece.notes["onset"], notes - 1
    steps, inside = np.diff(pitch), set()
    for i in range(len(pitch) - length):
        for j in range(i - length + 1):
            same = (steps[i : i + length] == steps[j : j + length]).all()
            if same and round(100 * (onset[i] - onset[j])) >= 500:
                inside |= set(range(i, i + notes))
    return len(inside) / max(len(pitch), 1)


@given(st.lists(st.integers(60, 62), max_size=60), st.integers(2, 7), st.sampled_from([0.1, 0.4, 1.3]))
@settings(deadline=None)
def test_returning_runs_are_as_defined(pitches: list[int], notes: int, step: float) -> None:
    piece = played(pitches, step)
    share = returning_runs(piece, notes)
    assert share == pytest.approx(slow_returning_runs(piece, notes))
    if pitches:
        assert returning_runs(piece.transposed(7), notes) == share
        assert returning_runs(piece, notes + 1) <= share


# --- pulse


def test_even_notes_have_a_clear_pulse_and_random_ones_little() -> None:
    even = played([60, 64] * 60, step=0.5)
    onsets = np.sort(np.random.default_rng(0).uniform(0, 60, 120))
    uneven = even.notes.copy()
    uneven["onset"] = onsets
    assert pulse(even) > 0.9
    assert 0 < pulse(Performance(uneven)) < 0.45
    assert pulse(even) == pytest.approx(pulse(even.shifted(3.0).transposed(5)))


def test_no_whole_block_has_no_pulse() -> None:
    assert np.isnan(pulse(Performance()))
    assert np.isnan(pulse(played([60] * 20, step=0.5)))  # 9.5 s


def slow_pulse(piece: Performance) -> float:
    tick = np.rint(100 * piece.notes["onset"]).astype(int)
    curve = np.zeros(tick[-1] - tick[0] + 1)
    np.add.at(curve, tick - tick[0], 1.0)
    curve = np.convolve(curve, np.hanning(9) / np.hanning(9).sum(), "same")
    highest = []
    for start in range(0, len(curve) - 999, 500):
        block = curve[start : start + 1000] - curve[start : start + 1000].mean()
        highest.append(max((block[:-lag] * block[lag:]).sum() for lag in range(20, 201)) / (block**2).sum())
    return float(np.mean(highest))


def test_pulse_is_as_defined() -> None:
    for seed in range(3):
        piece = made_performance(seed)
        assert pulse(piece) == pytest.approx(slow_pulse(piece))


def test_a_rest_of_a_whole_block_is_left_out() -> None:
    notes = played([60] * 21, step=0.5).notes.copy()
    notes = np.append(notes, notes[-1:])
    notes["onset"][-1] = 40.0
    assert pulse(Performance(notes)) > 0.4


# --- the chain


def at(length: int) -> int:
    """The class of a length of match."""
    return int(np.searchsorted(MATCH_LENGTHS, length, side="right")) - 1


def test_a_chain_by_hand() -> None:
    """Keys a b c a b d b: matches end before the 2nd b (a, goes on), before d (a b, does not) and before the end."""
    found = chain(played([60, 62, 64, 60, 62, 65, 62]))
    # a b c: nothing behind them was there before; a after c: c was not; b after a; d after a b; b after d: d was not
    assert found.events.tolist() == [1, 1, *[0] * 8]
    assert found.continued.tolist() == [1, 0, *[0] * 8]


def test_a_tremolo_is_a_long_chain() -> None:
    found = chain(played([40, 52] * 100, step=0.06))
    assert found.events.sum() == 200 - 3  # all but the first two, and the next, whose key before is new
    assert found.events[-1] == 200 - 2 - 41
    assert (found.continued == found.events).all()
    assert len(chain(played([40, 52] * 1000, step=0.06)).events) == len(MATCH_LENGTHS)
    assert chain(played([40, 52] * 1000, step=0.06)).events.sum() == 1200 - 3


def test_pedals_are_events_of_the_chain() -> None:
    melody = played([60, 62, 64, 66])
    pedals = np.array([(0.25 + i, 0.5, SUSTAIN, 100) for i in range(2)], PEDAL_DTYPE)
    assert chain(melody).events.sum() == 0
    assert chain(Performance(melody.notes, pedals)).events[0] == 1  # after the second pedal
    assert chain(Performance()).events.tolist() == [0] * len(MATCH_LENGTHS)


def slow_chain(keys: list[int]) -> tuple[Array, Array]:
    events, continued = np.zeros((2, len(MATCH_LENGTHS)), int)
    for t in range(len(keys)):
        matches = [(n, j) for n in range(1, min(t, 41) + 1) for j in range(n, t) if keys[j - n : j] == keys[t - n : t]]
        if matches:
            n, j = max(matches)  # the latest of the longest
            events[at(n)] += 1
            continued[at(n)] += keys[j] == keys[t]
    return events, continued


@given(st.lists(st.integers(60, 63), max_size=80))
@settings(deadline=None)
def test_chains_are_as_defined(keys: list[int]) -> None:
    found = chain(played(keys))
    events, continued = slow_chain(keys)
    assert found.events.tolist() == events.tolist()
    assert found.continued.tolist() == continued.tolist()


# --- endings


def test_the_last_sound_lasts_until_keys_and_sustain_are_up() -> None:
    notes = played([60, 62, 64], step=1.0).notes  # the last one from 2 s to 3 s

    def last_sound(*pedals: tuple[float, float, int, int]) -> float:
        piece = Performance(notes, np.array(list(pedals), PEDAL_DTYPE))
        return float(ending_features([piece])["last_sound"][0])

    assert last_sound() == 1.0
    assert last_sound((0.5, 1.0, SUSTAIN, 100)) == 1.0  # lifted before
    assert last_sound((2.5, 4.0, SUSTAIN, 100)) == 4.5
    assert last_sound((2.5, 25.0, UNA_CORDA, 100)) == 1.0
    assert last_sound((3.5, 2.0, SUSTAIN, 100)) == 1.0  # pressed when all is silent


def test_the_last_seconds_against_the_piece() -> None:
    """40 notes in 20 s, then 2 in the last 4 s, of twice the velocity."""
    notes = np.concatenate([played([60] * 40).notes, played([60, 62], step=2.0, velocity=100).notes])
    notes["onset"][40:] += 22.0
    notes["velocity"][:40] = 50
    found = ending_features([Performance(notes)])
    assert found["notes_per_second"][0] == pytest.approx((2 / 4) / (42 / 24))
    assert found["loudness"][0] == pytest.approx(100 / (2200 / 42))


def test_a_single_note_is_an_ending() -> None:
    found = ending_features([played([60])])
    assert {name: values.tolist() for name, values in found.items()} == {
        "last_sound": [0.5], "notes_per_second": [1.0], "loudness": [1.0],
    }  # fmt: skip


def test_ends_like_humans_overlap_more_than_sudden_ones() -> None:
    pieces = [made_performance(seed) for seed in range(24)]
    sudden = tuple(piece.between(0, 20) for piece in pieces[16:])
    cut = []
    for piece in sudden:
        notes = piece.notes.copy()
        notes["duration"] = np.minimum(notes["duration"], 0.03)
        cut.append(Performance(notes))
    like = compare_endings(Sample(tuple(pieces[16:])), pieces[:8], pieces[8:16])
    unlike = compare_endings(Sample(tuple(cut)), pieces[:8], pieces[8:16])
    assert isinstance(like, Endings)
    assert isinstance(unlike, Endings)
    assert (like.reference, like.human, like.performances) == (8, 8, 8)
    assert like.human_mean_overlap == unlike.human_mean_overlap
    assert like.features["last_sound"].overlap > unlike.features["last_sound"].overlap + 0.2
    assert isinstance(compare_endings(Sample((Performance(),)), pieces[:8], pieces[8:]), Skipped)


# --- sets of pieces


def test_circling_pieces_are_counted() -> None:
    circles, random = played(PHRASE * 20), played(random_pitches(2, 200))
    found = music_structure([circles, random, random, random])
    assert found.circling == 0.25
    assert found.returning_runs[8].mean == pytest.approx(190 / 200 / 4)
    assert found.returning_runs[8].median == 0
    assert found.pulse is not None
    assert sum(each.share for each in found.chain) == pytest.approx(1)
    assert found.chain[-1].longest is None
    assert found.chain[4].longest == found.chain[4].shortest + 1 == 6
    assert music_structure([played([60])]).pulse is None


def test_short_performances_are_left_out() -> None:
    pieces = [made_performance(seed) for seed in range(3)]
    sample = Sample((pieces[0], played([60, 62])), ("long", "short"))
    found = compare_structure(sample, pieces, 5.0, 20.0)
    assert isinstance(found, StructureComparison)
    assert (found.generated.pieces, found.from_second) == (1, 5.0)
    assert found.left_out == (LeftOut("short", "its last note is at 0.5 s, before 18 s"),)
    assert found.human == music_structure(human_excerpts(pieces, 5.0, 20.0))
    assert compare_structure(sample, pieces, 5.0, 900.0) == Skipped(
        "no held-out piece lasts until second 905; `--seconds` compares less music"
    )
    assert compare_structure(Sample((played([60, 62]),), ("a",)), pieces, 0.0, 20.0) == Skipped(
        "none of the 1 performances lasts 18 s: the last note of all is at 0.5 s; `--seconds` compares less music"
    )


def test_a_feature_that_is_absent_has_no_overlap() -> None:
    """Distances to 0 may be spread as those within a reference are."""
    reference = {"pedal": np.array([[0.1], [0.3], [0.6], [0.9]])}
    assert compare(reference, {"pedal": np.zeros((4, 1))})["pedal"].area == 0
    assert compare(reference, {"pedal": np.full((4, 1), 0.01)})["pedal"].area > 0.5
    assert compare({"pedal": np.zeros((4, 1))}, {"pedal": np.zeros((4, 1))})["pedal"].area == pytest.approx(1)


def test_performances_without_a_feature_are_compared_by_their_share() -> None:
    """Half of the others have no pedal: they do not lend their distances to the other half."""
    reference = {"pedal": np.array([[0.2], [0.3], [0.6], [0.9]])}
    half = {"pedal": np.array([[0.2], [0.0], [0.6], [0.0]])}
    with_pedal = compare(reference, {"pedal": half["pedal"][::2]})["pedal"]
    found = compare(reference, half)["pedal"]
    assert found.area == pytest.approx(with_pedal.area / 2)
    assert found.divergence == with_pedal.divergence
    same = {"pedal": np.array([[0.2], [0.0], [0.6], [0.9]])}
    shared = compare({"pedal": np.array([[0.2], [0.6], [0.9]])}, {"pedal": np.array([[0.2], [0.6], [0.9]])})["pedal"]
    assert compare(same, same)["pedal"].area == pytest.approx(0.25 + 0.75 * shared.area)
    one = compare({"pedal": np.array([[0.2], [0.0]])}, same)["pedal"]  # a reference of one has no distances
    assert (one.area, np.isnan(one.divergence)) == (0.25, True)


@pytest.mark.maestro
@pytest.mark.skipif("MAESTRO_DIR" not in os.environ, reason="MAESTRO_DIR does not name MAESTRO's folder")
def test_pianists_of_the_real_maestro() -> None:
    """The validation split: the figures of the first measurement, made by another program."""
    survey = maestro.find_recordings(os.environ["MAESTRO_DIR"])
    paths = [each.midi_filename for each in survey.recordings if each.split == "validation"]
    pieces = [read_midi(survey.folder / path).performance for path in paths]
    found = music_structure(human_excerpts(pieces, 0.0, 120.0))
    assert found.pieces == 129
    returning = found.returning_runs[8]
    assert returning.mean == pytest.approx(0.165, abs=0.005)
    assert returning.median == pytest.approx(0.094, abs=0.003)
    assert returning.percentile_95 == pytest.approx(0.458, abs=0.005)
    assert found.circling < 0.05
    assert found.pulse is not None
    assert found.pulse.mean == pytest.approx(0.312, abs=0.003)
    shares = [0.439, 0.345, 0.097, 0.037, 0.035, 0.017, 0.016, 0.010, 0.004, 0.0]
    continued = [0.12, 0.17, 0.33, 0.50, 0.66, 0.71, 0.77, 0.81, 0.87]
    first = music_structure(pieces[:48]).chain
    assert [each.share for each in first] == pytest.approx(shares, abs=0.001)
    assert [each.continued for each in first[:9]] == pytest.approx(continued, abs=0.006)
