"""A file gets other bars, and everything in it sounds when it did, as `mido` alone reads it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_splice import as_track, data_of, song

from music_generator.errors import InputError
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.midi_tables import tempo_events, tempo_map_of
from music_generator.music.performance import NOTE_DTYPE, Performance
from music_generator.music.retiming import on_tempo_map
from music_generator.music.tempo_map import TempoMap

BARS = ("set_tempo", "time_signature")
HALF_A_TICK = 0.0005001


def with_ticks(data: bytes) -> list[list[tuple[int, Any]]]:
    """Return the messages of each track with their ticks."""
    tracks = []
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks:
        now, messages = 0, []
        for message in track:
            now += message.time
            messages.append((now, message.copy(time=0)))
        tracks.append(messages)
    return tracks


def clock(data: bytes) -> Callable[[int], float]:
    """Return the second of each tick, by the tempi of all tracks."""
    division = mido.MidiFile(file=io.BytesIO(data)).ticks_per_beat
    tempi = sorted((at, m.tempo) for track in with_ticks(data) for at, m in track if m.type == "set_tempo")

    def seconds_of(tick: int) -> float:
        seconds, now, tempo = 0.0, 0, 500_000
        for at, new in tempi:
            if at >= tick:
                break
            seconds, now, tempo = seconds + mido.tick2second(at - now, division, tempo), at, new
        return seconds + float(mido.tick2second(tick - now, division, tempo))

    return seconds_of


def in_seconds(data: bytes) -> list[list[tuple[float, Any]]]:
    """Return all messages but tempi and time signatures, each track's with their seconds."""
    seconds_of = clock(data)
    return [
        [(seconds_of(tick), message) for tick, message in track if message.type not in BARS]
        for track in with_ticks(data)
    ]


def same_at_the_same_second(before: bytes, after: bytes) -> None:
    for old, new in zip(in_seconds(before), in_seconds(after), strict=True):
        assert [message for _, message in old] == [message for _, message in new]
        assert np.allclose([second for second, _ in old], [second for second, _ in new], rtol=0, atol=HALF_A_TICK)


def tapped(beats: list[float], metre: tuple[int, int] = (3, 4)) -> TempoMap:
    """Return a map whose first bar begins at the first of the beats, after one quarter note."""
    ticks = [0, *(480 * (i + 1) for i in range(len(beats) - 1))]
    lengths = [round(1e6 * (b - a)) for a, b in pairwise([0.0, *beats])]
    return TempoMap(480, tuple(zip(ticks, lengths, strict=True)), ((0, 1, 4), (480, *metre)))


BEATS = [0.31, 0.94, 1.6, 2.21, 2.8, 3.5, 4.2, 4.8, 5.5, 6.1, 6.8, 7.4]
MAPS = {
    "tapped": tapped(BEATS),
    "slow and coarse": TempoMap(24, ((0, 1_500_000),), ((0, 5, 4),)),
    "faster and faster": TempoMap(480, tuple((i * 480, 600_000 - 10_000 * i) for i in range(40))),
    "another metre": TempoMap(480, ((0, 500_000), (7680, 666_667)), ((0, 3, 4), (1440, 6, 8))),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("division", [96, 480])
def test_everything_sounds_when_it_did(name, division):
    """Other instruments, drums, pedals, lyrics, markers and the ends of tracks."""
    given_bytes, tempo_map = data_of(song(division=division)), MAPS[name]
    written = write_midi(on_tempo_map(read_midi(given_bytes).performance, tempo_map))
    same_at_the_same_second(given_bytes, written)
    assert tempo_map_of(read_midi(written).performance.source.file) == tempo_map.refined()


def test_tempi_and_metres_are_those_of_the_map_alone():
    written = write_midi(on_tempo_map(read_midi(data_of(song())).performance, MAPS["another metre"]))
    bars = [(tick, message) for track in with_ticks(written) for tick, message in track if message.type in BARS]
    assert mido.MidiFile(file=io.BytesIO(written)).ticks_per_beat == 960  # 480 in ticks of at most 1 ms
    assert bars == [
        (0, mido.MetaMessage("set_tempo", tempo=500_000)),
        (0, mido.MetaMessage("time_signature", numerator=3, denominator=4, clocks_per_click=24)),
        (2880, mido.MetaMessage("time_signature", numerator=6, denominator=8, clocks_per_click=36)),  # as it was
        (15360, mido.MetaMessage("set_tempo", tempo=666_667)),
    ]


def test_tapped_beats_become_the_beats_of_a_recording():
    """A recording is at 120 whatever was played; the beats that were tapped to it become its quarter notes."""
    file = mido.MidiFile(type=0, ticks_per_beat=384)
    events = [(0, mido.MetaMessage("track_name", name="Recorded"))]
    for i, second in enumerate(BEATS):
        tick = round(second * 768)
        events.append((tick, mido.Message("note_on", note=60 + i, velocity=50 + i)))
        events.append((tick + 100, mido.Message("note_off", note=60 + i, velocity=9)))
    file.tracks.append(as_track(events))
    given_bytes = data_of(file)
    written = write_midi(on_tempo_map(read_midi(given_bytes).performance, tapped(BEATS)))
    same_at_the_same_second(given_bytes, written)
    division = mido.MidiFile(file=io.BytesIO(written)).ticks_per_beat
    onsets = [tick for tick, message in with_ticks(written)[0] if message.type == "note_on"]
    assert np.allclose(np.array(onsets) / division, np.arange(1, len(BEATS) + 1), rtol=0, atol=0.003)
    seconds_of = clock(written)
    assert np.allclose([seconds_of((i + 1) * division) for i in range(len(BEATS))], BEATS, rtol=0, atol=1e-5)


def test_the_map_of_the_file_changes_no_byte():
    given_bytes = data_of(song())
    performance = read_midi(given_bytes).performance
    assert write_midi(on_tempo_map(performance, performance.tempo_map)) == given_bytes
    moved = on_tempo_map(performance, MAPS["tapped"])
    assert on_tempo_map(moved, MAPS["tapped"]) == moved
    assert write_midi(on_tempo_map(moved, MAPS["tapped"])) == write_midi(moved)


def test_notes_of_the_user_keep_their_seconds_and_the_file_its_events():
    """A new note stays where it was drawn; of the old ones even the release velocities stay."""
    performance = read_midi(data_of(song())).performance
    new = np.array([(3.33333, 0.77777, 100, 77)], NOTE_DTYPE)
    edited = replace(performance, notes=np.concatenate([performance.notes, new]))
    for moved in (on_tempo_map(edited, MAPS["tapped"]), edited):
        source = on_tempo_map(performance, MAPS["tapped"]).source
        written = write_midi(replace(moved, tempo_map=MAPS["tapped"].refined(), source=source))
        found = {(m.note, m.type): second for second, m in in_seconds(written)[1] if m.type.startswith("note_")}
        assert found[100, "note_on"] == pytest.approx(3.33333, abs=HALF_A_TICK)
        assert found[100, "note_off"] == pytest.approx(3.33333 + 0.77777, abs=HALF_A_TICK)
        others = [(second, m) for second, m in in_seconds(written)[1] if getattr(m, "note", 0) != 100]
        before = in_seconds(data_of(song()))[1]
        assert [message for _, message in others] == [message for _, message in before]
        assert np.allclose([s for s, _ in others], [s for s, _ in before], rtol=0, atol=2 * HALF_A_TICK)


def test_a_piece_of_no_file_only_gets_the_map():
    piece = Performance(np.array([(1.0, 0.5, 60, 64)], NOTE_DTYPE))
    moved = on_tempo_map(piece, MAPS["tapped"])
    assert moved == piece
    assert moved.tempo_map == MAPS["tapped"]
    bars = [message for _, message in with_ticks(write_midi(moved))[0] if message.type == "time_signature"]
    assert [(each.numerator, each.denominator) for each in bars] == [(1, 4), (3, 4)]


def test_a_file_in_frames_a_second_gets_bars():
    data = data_of(song())
    data = data[:12] + b"\xe7\x28" + data[14:]  # 25 frames of 40 ticks: a tick lasts 1 ms
    performance = read_midi(data).performance
    written = write_midi(on_tempo_map(performance, MAPS["tapped"]))
    assert np.allclose(read_midi(written).performance.notes["onset"], performance.notes["onset"], atol=HALF_A_TICK)
    ticks = [tick for tick, message in with_ticks(data_of(song()))[6] if message.type == "lyrics"]
    lyrics = [second for second, message in in_seconds(written)[6] if message.type == "lyrics"]
    assert np.allclose(lyrics, np.array(ticks) / 1000, atol=HALF_A_TICK)


def test_a_map_with_more_ticks_than_midi_can_count_is_refused():
    with pytest.raises(InputError, match="more ticks than MIDI can count"):
        on_tempo_map(read_midi(data_of(song())).performance, TempoMap(32_767, ((0, 1),)))


@st.composite
def tempo_maps(draw: st.DrawFn) -> TempoMap:
    ticks = sorted(draw(st.sets(st.integers(1, 20_000), max_size=5)))
    tempi = st.integers(20_000, 3_000_000)
    signs = tuple((tick, draw(st.integers(1, 12)), draw(st.sampled_from([2, 4, 8]))) for tick in [0, *ticks][:3])
    return TempoMap(draw(st.integers(24, 1000)), tuple((tick, draw(tempi)) for tick in [0, *ticks]), signs)


@given(first=tempo_maps(), second=tempo_maps())
@settings(max_examples=30, deadline=None)
def test_there_and_back(first, second):
    """What `tempo_events` writes `tempo_map_of` reads; on any map and on another one everything is in its place."""
    given_bytes = data_of(song(bars=2))
    written = write_midi(on_tempo_map(read_midi(given_bytes).performance, first))
    same_at_the_same_second(given_bytes, written)
    again = read_midi(written).performance
    assert again.tempo_map == first.refined()
    assert len(tempo_events(again.tempo_map)) == len(first.tempos) + len(first.time_signatures)
    twice = write_midi(on_tempo_map(again, second))
    for old, new in zip(in_seconds(given_bytes), in_seconds(twice), strict=True):
        assert [message for _, message in old] == [message for _, message in new]
        assert np.allclose([s for s, _ in old], [s for s, _ in new], rtol=0, atol=2 * HALF_A_TICK)
