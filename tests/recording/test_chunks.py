"""Chunks: every sample is in the right place, memory stays the same, and events are joined where chunks meet."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from music_generator.music.performance import SUSTAIN, Array
from music_generator.recording.audio import SAMPLE_RATE
from music_generator.recording.chunks import (
    CHUNK_SAMPLES,
    LEAD_SAMPLES,
    STEP_SAMPLES,
    Event,
    Joiner,
    chunks,
    known_in_next,
    share_done,
)


def blocks_of(sound: Array, size: int) -> Iterator[Array]:
    return (sound[i : i + size] for i in range(0, len(sound), size))


@pytest.mark.parametrize("seconds", [0.01, 7.4, 7.6, 8.0, 15.9, 16.0, 40.0])
@pytest.mark.parametrize("size", [30_000, 10**7])
def test_chunks_hold_the_sound_between_silence(seconds, size):
    sound = np.arange(1, 1 + 2 * round(seconds * SAMPLE_RATE), dtype=np.float32).reshape(-1, 2)
    around = np.zeros((2 * CHUNK_SAMPLES, 2), np.float32)
    padded = np.concatenate([around[:LEAD_SAMPLES], sound, around])
    found = list(chunks(blocks_of(sound, size), 2))
    assert [start for start, _ in found] == [i * STEP_SAMPLES - LEAD_SAMPLES for i in range(len(found))]
    for start, samples in found:
        assert samples.shape == (2, CHUNK_SAMPLES)
        np.testing.assert_array_equal(samples.T, padded[start + LEAD_SAMPLES :][:CHUNK_SAMPLES])
    assert len(sound) - STEP_SAMPLES <= found[-1][0] < len(sound)  # the last one begins before the end
    shares = [share_done(start, len(sound) / SAMPLE_RATE) for start, _ in found]
    assert shares[-1] == 1.0
    assert shares == sorted(set(shares))
    np.testing.assert_allclose(np.diff([0, *shares[:-1]]), STEP_SAMPLES / (len(sound) + LEAD_SAMPLES))


def peak_bytes(minutes: float) -> int:
    block = np.zeros((SAMPLE_RATE, 2), np.float32)
    tracemalloc.start()
    for _ in chunks((block for _ in range(round(60 * minutes))), 2):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_recording():
    short, long = peak_bytes(0.5), peak_bytes(5)
    assert long <= short * 1.01
    assert long < 4 * CHUNK_SAMPLES * 2 * 4  # 4 chunks of stereo


def test_known_frames_move_with_the_chunk():
    assert known_in_next([0, 344, 345, 400, 689]) == [0, 0, 0, 55, 344]


def joined(*chunks_of_events: tuple[float, list[Event]]) -> list[tuple[float, float, int, int]]:
    joiner = Joiner()
    for start, events in chunks_of_events:
        joiner.add(events, start)
    return [tuple(row) for row in joiner.performance().notes.tolist()]


def test_a_note_goes_on_over_several_chunks():
    first = Event(60, 10.0, 16.0, 70, has_end=False)
    middle = Event(60, 0.0, 16.0, 50, has_onset=False, has_end=False)
    last = Event(60, 0.0, 9.0, 50, has_onset=False)
    assert joined((-8.0, [first]), (0.0, [middle]), (8.0, [last])) == [(2.0, 15.0, 60, 70)]


def test_a_note_that_is_heard_again_whole_is_one_note():
    again = Event(60, 2.01, 9.0, 72)
    assert joined((0.0, [Event(60, 10.0, 16.0, 70, has_end=False)]), (8.0, [again])) == [
        (10.01, pytest.approx(6.99), 60, 72)
    ]


def test_a_note_struck_again_where_chunks_meet_stays():
    """The second begins a little before the first ends, because both times are fine-tuned."""
    rows = joined((0.0, [Event(60, 10.0, 15.99, 70)]), (8.0, [Event(60, 7.98, 9.0, 71)]))
    assert rows == [(10.0, pytest.approx(5.98), 60, 70), (15.98, pytest.approx(1.02), 60, 71)]


def test_what_later_chunks_do_not_have_is_left_out():
    begun = Event(60, 15.5, 16.0, 70, has_end=False)
    assert joined((0.0, [begun]), (8.0, [Event(60, 12.0, 13.0, 80)])) == [(20.0, 1.0, 60, 80)]
    assert joined((0.0, []), (8.0, [Event(60, 0.0, 3.0, 80, has_onset=False)])) == []


def test_what_has_not_ended_ends_with_the_last_chunk():
    assert joined((0.0, [Event(60, 10.0, 16.0, 70, has_end=False)])) == [(10.0, 6.0, 60, 70)]


def test_events_before_the_start_and_values_out_of_range_are_mended():
    joiner = Joiner()
    joiner.add([Event(60, 7.99, 9.0, 0), Event(61, 7.0, 7.5, 64), Event(-64, 8.5, 9.0, 200)], -8.0)
    performance = joiner.performance()
    assert performance.notes.tolist() == [(0.0, 1.0, 60, 1)]
    assert performance.pedals.tolist() == [(0.5, 0.5, SUSTAIN, 127)]
