"""Token rows: the round trip on the 10 ms grid, and the bins of the model's classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_generator.errors import InputError
from music_generator.music.performance import (
    NOTE_DTYPE,
    PEDAL_DTYPE,
    SOSTENUTO,
    SUSTAIN,
    UNA_CORDA,
    Array,
    Performance,
)
from music_generator.music.tempo_map import TempoMap
from music_generator.music.tokens import (
    DENSITIES,
    DENSITY_EDGES,
    DURATION_BINS,
    END,
    KEYS,
    LOUDNESS_EDGES,
    LOUDNESSES,
    NUM_KEYS,
    RESUME,
    SHIFT_BINS,
    SHIFT_CLASSES,
    TICKS_PER_SECOND,
    TOKEN_DTYPE,
    VELOCITY_BINS,
    Bins,
    decode,
    density_class,
    encode,
    loudness_class,
)

ALL_BINS = [SHIFT_BINS, DURATION_BINS, VELOCITY_BINS]


def rows(*tokens: tuple[int, int, int, int]) -> Array:
    """Tokens as (shift, key, velocity, duration)."""
    return np.array(list(tokens), TOKEN_DTYPE)


@st.composite
def canonical_rows(draw: st.DrawFn) -> Array:
    """Rows as `encode` makes them: by onset, then key, no key struck twice at once or while it is held."""
    keys = st.sampled_from([0, 39, 40, 87, 88, 89, 90])
    onsets = draw(st.sets(st.tuples(st.integers(0, 400), keys), max_size=30))
    tokens, before = [], 0
    for onset, key in sorted(onsets):
        following = min((at for at, other in onsets if other == key and at > onset), default=onset + 1000)
        tokens.append((onset - before, key, draw(st.integers(1, 127)), draw(st.integers(1, following - onset))))
        before = onset
    return rows(*tokens)


@settings(max_examples=60, deadline=None)
@given(canonical_rows(), st.integers(0, 100_000))
def test_encode_is_the_inverse_of_decode(tokens: Array, start_tick: int) -> None:
    again = encode(decode(tokens, start_tick))
    again["shift"][:1] -= start_tick
    assert again.dtype == TOKEN_DTYPE
    assert again.tolist() == tokens.tolist()


@settings(max_examples=60, deadline=None)
@given(canonical_rows())
def test_decode_is_the_inverse_of_encode_on_the_grid(tokens: Array) -> None:
    performance = decode(tokens)
    assert decode(encode(performance)) == performance
    ticks = performance.notes["onset"] * TICKS_PER_SECOND
    np.testing.assert_allclose(ticks, np.rint(ticks), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0.01, 5), st.integers(1, 127)), max_size=30))
def test_decoded_is_within_half_a_tick(events: list[tuple[float, float, int]]) -> None:
    notes = np.zeros(len(events), NOTE_DTYPE)
    notes["pitch"] = 21 + np.arange(len(events))  # each its own key: no two can meet
    for name, column in zip(("onset", "duration", "velocity"), zip(*events, strict=True), strict=False):
        notes[name] = column
    performance = Performance(notes)
    after = np.sort(decode(encode(performance)).notes, order="pitch")
    assert after[["pitch", "velocity"]].tolist() == notes[["pitch", "velocity"]].tolist()
    assert (np.abs(after["onset"] - notes["onset"]) < 0.005 + 1e-9).all()
    ends = notes["onset"] + notes["duration"]
    held = np.maximum(ends, after["onset"] + 0.01)  # at least one tick
    assert (np.abs(after["onset"] + after["duration"] - held) < 0.005 + 1e-9).all()


def test_rows_are_ordered_by_onset_then_key() -> None:
    notes = np.array([(0.5, 0.1, 60, 1), (0.0, 0.1, 108, 2), (0.0, 0.1, 21, 3), (0.503, 0.1, 50, 4)], NOTE_DTYPE)
    pedals = np.array([(0.0, 1.0, SUSTAIN, 77)], PEDAL_DTYPE)
    tokens = encode(Performance(notes, pedals))
    shift_key_velocity = tokens[["shift", "key", "velocity"]].tolist()
    assert shift_key_velocity == [(0, 0, 3), (0, 87, 2), (0, 88, 77), (50, 29, 4), (0, 39, 1)]


def test_pedals_are_keys_after_the_piano_with_their_depth_as_velocity() -> None:
    presses = [(0.0, 1.0, SUSTAIN, 64), (0.1, 1.0, SOSTENUTO, 100), (0.2, 1.0, UNA_CORDA, 127)]
    tokens = encode(Performance(pedals=np.array(presses, PEDAL_DTYPE)))
    assert tokens.tolist() == [(0, 88, 64, 100), (10, 89, 100, 100), (10, 90, 127, 100)]
    assert decode(tokens).pedals["pedal"].tolist() == [SUSTAIN, SOSTENUTO, UNA_CORDA]
    assert (KEYS, NUM_KEYS) == (88, 91)


def test_of_events_that_fall_on_one_tick_the_longest_stays() -> None:
    notes = np.array([(0.001, 0.001, 60, 10), (0.003, 0.9, 60, 20), (0.0, 0.0001, 61, 30)], NOTE_DTYPE)
    assert encode(Performance(notes)).tolist() == [(0, 39, 20, 90), (0, 40, 30, 1)]


def test_decode_ends_an_event_where_its_key_is_struck_again() -> None:
    performance = decode(rows((100, 39, 64, 500), (50, 39, 65, 10)), start_tick=50)
    assert performance.notes.tolist() == [(1.5, 0.5, 60, 64), (2.0, 0.1, 60, 65)]


def test_no_rows_are_the_empty_performance() -> None:
    assert len(encode(Performance())) == 0
    assert decode(encode(Performance())) == Performance()


def test_decode_keeps_the_tempo_map_and_refuses_what_no_performance_is() -> None:
    tempo_map = TempoMap(480)
    assert decode(rows(), tempo_map=tempo_map).tempo_map is tempo_map
    with pytest.raises(InputError, match="durations above 0"):
        decode(rows((0, 39, 64, 0)))
    with pytest.raises(InputError, match="`velocity` must be 1 to 127"):
        decode(rows((0, 39, 0, 1)))


# --- bins


@pytest.mark.parametrize("bins", ALL_BINS)
def test_each_value_lies_in_the_bin_between_its_edges(bins: Bins) -> None:
    values = np.arange(bins.edges[0], bins.edges[-1])
    index = bins.index(values)
    assert index.dtype == np.int64
    assert (bins.edges[index] <= values).all()
    assert (values < bins.edges[index + 1]).all()
    assert np.bincount(index).tolist() == bins.widths.tolist()
    assert len(bins) == len(bins.edges) - 1 == index[-1] + 1


@pytest.mark.parametrize("bins", ALL_BINS)
def test_values_beyond_the_bins_are_counted_in_the_last_and_the_first(bins: Bins) -> None:
    assert bins.index(np.array([bins.edges[-1], 10**9, bins.edges[0] - 1])).tolist() == [len(bins) - 1] * 2 + [0]


@pytest.mark.parametrize("bins", [SHIFT_BINS, DURATION_BINS])
def test_times_have_one_bin_per_tick_while_short_and_then_grow_by_7_percent(bins: Bins) -> None:
    single = int(np.flatnonzero(bins.widths > 1)[0])
    assert bins.edges[:single].tolist() == list(range(int(bins.edges[0]), int(bins.edges[0]) + single))
    assert bins.edges[single] >= 20
    growth = bins.edges[single + 1 :] / bins.edges[single:-1]
    assert ((growth > 1.03) & (growth < 1.1)).all()


def test_where_the_bins_begin_and_end() -> None:
    assert SHIFT_BINS.edges[0] == 0  # a chord's further notes
    assert DURATION_BINS.edges[0] == 1
    assert SHIFT_BINS.edges[-2] <= 20 * TICKS_PER_SECOND < SHIFT_BINS.edges[-1]
    assert DURATION_BINS.edges[-2] <= 60 * TICKS_PER_SECOND < DURATION_BINS.edges[-1]
    assert VELOCITY_BINS.edges.tolist() == list(range(0, 129, 4))


def test_resume_and_end_are_the_classes_after_the_shift_bins() -> None:
    assert (len(SHIFT_BINS), len(SHIFT_BINS) + 1, len(SHIFT_BINS) + 2) == (RESUME, END, SHIFT_CLASSES)


def test_classes_of_density_and_loudness() -> None:
    """Eight each, from 1 on, because 0 is not told; an edge belongs to the class above it."""
    for name, edges, count in ((density_class, DENSITY_EDGES, DENSITIES), (loudness_class, LOUDNESS_EDGES, LOUDNESSES)):
        assert list(edges) == sorted(set(edges))
        assert [name(edge) for edge in edges] == list(range(2, 9))
        assert [name(edge - 0.01) for edge in edges] == list(range(1, 8))
        assert (name(0.0), name(1000.0), count) == (1, 8, 9)
