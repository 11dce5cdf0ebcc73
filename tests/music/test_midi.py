"""MIDI files: the round trip, agreement with `mido`, and damaged files."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_generator.errors import InputError, MidiError
from music_generator.music.midi import MidiReading, read_midi, write_midi
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

END = "00ff2f00"
NOTE = "00 90 3c 40  87 68 80 3c 40"  # C4 from where the track is, for 1000 ticks: one second at 500 a quarter
LONG_WAIT = "ff ff ff 7f b0 01 00"  # the longest delta time there is, then a modulation wheel


def midi(*tracks: str, form: int | None = None, division: int = 500) -> bytes:
    """A MIDI file of tracks as hexdumps, each without its end of track."""
    form = min(len(tracks) - 1, 1) if form is None else form
    chunks = [bytes.fromhex(track + END) for track in tracks]
    header = b"MThd" + struct.pack(">IHHH", 6, form, len(tracks), division)
    return header + b"".join(b"MTrk" + struct.pack(">I", len(chunk)) + chunk for chunk in chunks)


def notes_of(reading: MidiReading | Performance) -> list[tuple[float, float, int, int]]:
    """Notes as (onset, duration, pitch, velocity), times rounded to the microsecond."""
    performance = reading if isinstance(reading, Performance) else reading.performance
    return [(round(o, 6), round(d, 6), p, v) for o, d, p, v in performance.notes.tolist()]


def pedals_of(reading: MidiReading | Performance) -> list[tuple[float, float, int, int]]:
    """Presses as (onset, duration, pedal, depth), times rounded to the microsecond."""
    performance = reading if isinstance(reading, Performance) else reading.performance
    return [(round(o, 6), round(d, 6), p, v) for o, d, p, v in performance.pedals.tolist()]


def mido_notes(data: bytes) -> list[tuple[float, int, int]]:
    """Onset in seconds, pitch and velocity of each note as `mido` reads them: drums left out, sorted."""
    now, found = 0.0, []
    for message in mido.MidiFile(file=io.BytesIO(data)):
        now += message.time
        if message.type == "note_on" and message.velocity and message.channel != 9:
            found.append((now, message.note, message.velocity))
    return sorted(found)


def assert_mido_agrees(data: bytes, performance: Performance | None = None) -> None:
    """Check that `mido` reads the onsets, pitches and velocities of `performance`, or those that we read."""
    theirs, ours = mido_notes(data), (performance or read_midi(data, track="all").performance).notes
    by_onset = sorted(zip(ours["onset"].tolist(), ours["pitch"].tolist(), ours["velocity"].tolist(), strict=True))
    assert [note[1:] for note in theirs] == [note[1:] for note in by_onset]
    assert [note[0] for note in theirs] == pytest.approx([note[0] for note in by_onset], abs=1e-6)


# --- there and back


@st.composite
def tempo_maps(draw: st.DrawFn) -> TempoMap:
    """Draw maps so fine that `write_midi` keeps their ticks."""
    ticks = sorted(draw(st.sets(st.integers(1, 3000), max_size=3)))
    tempos = [draw(st.integers(100_000, 490_000)) for _ in range(len(ticks) + 1)]
    signatures = draw(st.sampled_from([(), ((0, 3, 4),), ((0, 4, 4), (1500, 7, 8))]))
    resolution = draw(st.sampled_from([490, 960, 15_360, 32_767]))
    return TempoMap(resolution, tuple(zip([0, *ticks], tempos, strict=True)), signatures)


def on_grid(events: list[tuple[int, int, int, int]], dtype: Any, tempo_map: TempoMap) -> Array:
    """Events of (start tick, ticks, key, force) in seconds."""
    array = np.empty(len(events), dtype)
    columns = np.array(events, np.int64).reshape(-1, 4).T
    seconds, ends = tempo_map.ticks_to_seconds(columns[0]), tempo_map.ticks_to_seconds(columns[0] + columns[1])
    for name, column in zip(array.dtype.names or (), (seconds, ends - seconds, *columns[2:]), strict=True):
        array[name] = column
    return array


def events(low: int, high: int, weakest: int) -> st.SearchStrategy[list[tuple[int, int, int, int]]]:
    """Draw events on few keys and few ticks: many touch on one tick, many are struck again before their end."""
    ticks, length = st.integers(0, 40).map(lambda n: 100 * n), st.sampled_from([1, 50, 100, 200, 900])
    return st.lists(st.tuples(ticks, length, st.integers(low, high), st.integers(weakest, 127)), max_size=40)


def on_ticks(performance: Performance, tempo_map: TempoMap) -> list[list[tuple[int, int, int, int]]]:
    """Notes and pedals as (start tick, end tick, key, force)."""
    found = []
    for array in (performance.notes, performance.pedals):
        start = tempo_map.seconds_to_ticks(array["onset"]).tolist()
        end = tempo_map.seconds_to_ticks(array["onset"] + array["duration"]).tolist()
        _, _, key, force = array.dtype.names or ()
        found.append(list(zip(start, end, array[key].tolist(), array[force].tolist(), strict=True)))
    return found


@settings(max_examples=80, deadline=None)
@given(tempo_maps(), events(60, 62, 1), events(SUSTAIN, UNA_CORDA, 64))
def test_read_is_the_inverse_of_write_to_the_tick(tempo_map: TempoMap, notes: list[Any], pedals: list[Any]) -> None:
    performance = Performance(on_grid(notes, NOTE_DTYPE, tempo_map), on_grid(pedals, PEDAL_DTYPE, tempo_map), tempo_map)
    data = write_midi(performance)
    reading = read_midi(data)
    assert reading.performance.tempo_map == tempo_map
    assert on_ticks(reading.performance, tempo_map) == on_ticks(performance, tempo_map)
    assert reading.left_out == ""
    assert write_midi(reading.performance) == data


@settings(max_examples=30, deadline=None)
@given(tempo_maps(), events(60, 62, 1))
def test_mido_reads_what_we_write(tempo_map: TempoMap, notes: list[Any]) -> None:
    performance = Performance(on_grid(notes, NOTE_DTYPE, tempo_map), tempo_map=tempo_map)
    assert_mido_agrees(write_midi(performance), performance)


def test_mido_reads_our_pedals_tempi_and_time_signatures() -> None:
    tempo_map = TempoMap(500, ((0, 500_000), (1000, 400_000)), ((0, 3, 4), (1500, 6, 8)))
    pedals = [(0.0, 1.0, SUSTAIN, 100), (0.0, 0.5, UNA_CORDA, 80), (1.0, 0.4, SUSTAIN, 90), (1.0, 0.4, SOSTENUTO, 64)]
    data = write_midi(Performance(np.array([(0, 1, 60, 64)], NOTE_DTYPE), np.array(pedals, PEDAL_DTYPE), tempo_map))
    file = mido.MidiFile(file=io.BytesIO(data))
    assert file.ticks_per_beat == 500
    now, controls, metas = 0, [], list[tuple[int, ...]]()
    for message in mido.merge_tracks(file.tracks):
        now += message.time
        if message.type == "control_change":
            controls.append((now, message.control, message.value))
        elif message.type == "set_tempo":
            metas.append((now, message.tempo))
        elif message.type == "time_signature":
            metas.append((now, message.numerator, message.denominator))
    assert sorted(metas) == [(0, 3, 4), (0, 500_000), (1000, 400_000), (1500, 6, 8)]
    assert [c for c in controls if c[1] == 64] == [(0, 64, 100), (1000, 64, 0), (1000, 64, 90), (1500, 64, 0)]
    assert [c for c in controls if c[1] != 64] == [(0, 67, 80), (500, 67, 0), (1000, 66, 64), (1500, 66, 0)]


def test_a_coarse_map_is_refined_and_the_performance_stays_within_half_a_millisecond() -> None:
    notes = np.array([(0.0123, 0.5004, 60, 64), (0.9996, 0.0001, 62, 64)], NOTE_DTYPE)
    again = read_midi(write_midi(Performance(notes, tempo_map=TempoMap(24)))).performance
    assert again.tempo_map.ticks_per_quarter == 24 * 21
    np.testing.assert_allclose(again.notes["onset"], notes["onset"], atol=5e-4)
    assert again.notes["duration"][1] > 0


def test_events_of_one_key_on_one_tick_become_the_longest() -> None:
    notes = np.array([(0.0, 0.0001, 60, 10), (0.0002, 1.0, 60, 20), (0.0003, 0.5, 62, 30)], NOTE_DTYPE)
    presses = np.array([(0.0, 0.0001, SUSTAIN, 70), (0.0002, 1.0, SUSTAIN, 80)], PEDAL_DTYPE)
    again = read_midi(write_midi(Performance(notes, presses)))
    assert notes_of(again) == [(0.0, 1.0, 60, 20), (0.0, 0.5, 62, 30)]
    assert pedals_of(again) == [(0.0, 1.0, SUSTAIN, 80)]


def test_a_shallow_pedal_is_written_as_pressed() -> None:
    again = read_midi(write_midi(Performance(pedals=np.array([(0.5, 1.0, SOSTENUTO, 5)], PEDAL_DTYPE))))
    assert pedals_of(again) == [(0.5, 1.0, SOSTENUTO, 64)]


def test_a_file_is_what_the_bytes_are(tmp_path: Path) -> None:
    performance = Performance(np.array([(0, 1, 60, 64)], NOTE_DTYPE))
    path = tmp_path / "new" / "folder" / "piece.mid"
    data = write_midi(performance, path)
    assert path.read_bytes() == data
    assert read_midi(path).performance == read_midi(str(path)).performance == performance
    assert list(path.parent.iterdir()) == [path]


def test_the_empty_performance_can_be_written() -> None:
    reading = read_midi(write_midi(Performance()))
    assert reading.performance == Performance()
    assert reading.left_out == ""


# --- what others write


def test_running_status_and_velocity_0_as_note_off() -> None:
    data = midi("00 90 3c 40  83 74 3e 50  83 74 3c 00  00 3e 00  00 40 60  87 68 40 00")
    reading = read_midi(data)
    assert notes_of(reading) == [(0.0, 1.0, 60, 64), (0.5, 0.5, 62, 80), (1.0, 1.0, 64, 96)]
    assert reading.performance.tempo_map == TempoMap()
    assert_mido_agrees(data)


def test_type_1_with_tempi_in_several_tracks() -> None:
    data = midi(
        "00 ff5103 07a120  00 ff5804 06031808",  # 120 quarters a minute, 6/8
        "87 68 ff5103 0f4240",  # 60 from tick 1000 on
        NOTE + NOTE,
        "87 68 91 40 30  87 68 81 40 00  00 ff5103 03d090",  # 240 from tick 2000 on
        "8f 50 92 30 31  87 68 82 30 00",
    )
    reading = read_midi(data, track="all")
    assert reading.performance.tempo_map.tempos == ((0, 500_000), (1000, 1_000_000), (2000, 250_000))
    assert reading.performance.tempo_map.time_signatures == ((0, 6, 8),)
    assert notes_of(reading) == [(0, 1, 60, 64), (1, 2, 60, 64), (1, 2, 64, 48), (3, 0.5, 48, 49)]
    assert reading.tracks == 3
    assert_mido_agrees(data)
    assert notes_of(read_midi(write_midi(reading.performance), track="all")) == notes_of(reading)


def test_type_0_with_several_channels() -> None:
    data = midi("00 90 3c 40  00 91 40 41  00 c2 05  00 92 43 42  87 68 80 3c 00  00 81 40 00  00 82 43 00")
    assert notes_of(read_midi(data, track="all")) == [(0, 1, 60, 64), (0, 1, 64, 65), (0, 1, 67, 66)]
    assert_mido_agrees(data)


def test_of_two_tempi_on_one_tick_the_later_counts() -> None:
    data = midi("00 ff5103 07a120  00 ff5103 0f4240" + NOTE)
    assert read_midi(data).performance.tempo_map.tempos == ((0, 1_000_000),)
    assert notes_of(read_midi(data)) == [(0, 2, 60, 64)]


def test_before_the_first_tempo_it_is_120() -> None:
    data = midi("87 68 ff5103 0f4240" + NOTE + "00 90 3e 40 01 80 3e 40")
    assert read_midi(data).performance.tempo_map.tempos == ((0, 500_000), (1000, 1_000_000))
    assert_mido_agrees(data)


def test_time_signatures_are_kept_and_impossible_ones_left_out() -> None:
    data = midi("00 ff5804 03021808  87 68 ff5804 00021808  87 68 ff5804 07031808" + NOTE)
    performance = read_midi(data).performance
    assert performance.tempo_map.time_signatures == ((0, 3, 4), (2000, 7, 8))
    assert read_midi(write_midi(performance)).performance.tempo_map == performance.tempo_map
    assert read_midi(midi("00 ff5804 04ff1808" + NOTE)).performance.tempo_map.time_signatures == ()


def test_drums_and_keys_off_the_piano_are_left_out_and_counted() -> None:
    drums = "00 99 24 40  00 99 26 40  60 89 24 00  00 89 26 00"
    low_and_high = (
        "00 90 14 40  00 90 6d 40  00 90 15 40  00 90 6c 40  60 80 14 00  00 80 6d 00  00 80 15 00  00 80 6c 00"
    )
    reading = read_midi(midi(drums, low_and_high))
    assert reading.performance.notes["pitch"].tolist() == [21, 108]
    assert (reading.drum_notes, reading.notes_off_piano) == (2, 2)
    assert reading.left_out == "left out 2 drum notes and 2 notes outside the piano's keys 21-108"
    assert read_midi(midi("00 99 24 40 60 89 24 00")).left_out == "left out 1 drum note"
    one_low = read_midi(midi("00 90 14 40 60 80 14 00"))
    assert one_low.left_out == "left out 1 note outside the piano's keys 21-108"
    assert len(one_low.performance) == 0


def test_what_is_never_released_is_held_to_the_end_of_its_track() -> None:
    reading = read_midi(midi("00 b0 40 7f" + NOTE + "00 90 40 40  83 74 ff0100"))
    assert notes_of(reading) == [(0, 1, 60, 64), (1, 0.5, 64, 64)]
    assert pedals_of(reading) == [(0, 1.5, SUSTAIN, 127)]
    chord = "00 90 48 40  83 60 80 48 00  00 90 30 40  00 90 37 40  00 90 40 40  a5 40 ff0100"
    assert notes_of(read_midi(midi(chord, division=480))) == [
        (0, 0.5, 72, 64), (0.5, 5.0, 48, 64), (0.5, 5.0, 55, 64), (0.5, 5.0, 64, 64)
    ]  # fmt: skip


@pytest.mark.parametrize("controller", ["7b", "78"])  # all notes off, all sound off
def test_all_notes_off_ends_the_notes_of_its_channel(controller: str) -> None:
    data = midi(f"00 90 3c 40  00 91 40 40  83 74 b0 {controller} 00  83 74 81 40 00  00 80 3c 00")
    assert notes_of(read_midi(data, track="all")) == [(0, 0.5, 60, 64), (0, 1.0, 64, 64)]


def test_a_note_of_no_length_lasts_one_tick() -> None:
    assert notes_of(read_midi(midi("00 90 3c 40 00 80 3c 40"))) == [(0, 0.001, 60, 64)]


def test_a_key_struck_again_while_held() -> None:
    data = midi("00 90 3c 40  83 74 90 3c 50  83 74 80 3c 00  83 74 80 3c 00")
    assert notes_of(read_midi(data)) == [(0, 0.5, 60, 64), (0.5, 0.5, 60, 80)]
    assert_mido_agrees(data)
    lost = midi("00 90 3c 32  83 60 90 3c 50  83 60 80 3c 00", division=480)  # without the first note-off
    assert notes_of(read_midi(lost)) == [(0, 0.5, 60, 50), (0.5, 0.5, 60, 80)]


def test_pedals_are_pressed_from_64_on_and_as_deep_as_their_greatest_value() -> None:
    data = midi(
        "00 b0 40 3f  83 74 40 40  00 42 7f  00 43 50  83 74 40 64  83 74 40 50  83 74 40 3f  00 42 00  00 43 00" + NOTE
    )
    assert pedals_of(read_midi(data)) == [(0.5, 1.5, 0, 100), (0.5, 1.5, 1, 127), (0.5, 1.5, 2, 80)]


def test_a_pedal_released_and_pressed_at_one_tick_is_two_presses() -> None:
    data = midi(NOTE + "00 b0 40 40  83 74 40 00  00 40 50  83 74 40 00")
    assert pedals_of(read_midi(data)) == [(1.0, 0.5, 0, 64), (1.5, 0.5, 0, 80)]


FIRST_PEDAL = "00 b0 40 50  87 68 40 00  8f 50 40 45  83 74 40 00"
SECOND_PEDAL = "83 74 b1 40 60  87 68 40 00"


@pytest.mark.parametrize(
    "tracks",
    [
        (FIRST_PEDAL + NOTE, SECOND_PEDAL + "00 91 3c 40 87 68 81 3c 40"),  # both with notes
        (FIRST_PEDAL + NOTE, SECOND_PEDAL),
        (FIRST_PEDAL, SECOND_PEDAL, NOTE),
        (
            "00 b0 40 50  83 74 b1 40 60  83 74 b0 40 00  83 74 b1 40 00  8b 5c b0 40 45  83 74 b0 40 00",
        ),  # two channels
    ],
)
def test_overlapping_pedals_are_united(tracks: tuple[str, ...]) -> None:
    assert pedals_of(read_midi(midi(*tracks))) == [(0.0, 1.5, SUSTAIN, 96), (3.0, 0.5, SUSTAIN, 69)]


def test_pedals_in_a_track_without_notes_count() -> None:
    """The MIDI library leaves such a track out: running status, meta, exclusive and program messages on the way."""
    pedals = (
        "00 f0 03 010203  00 ff0304 70656461  00 c3 05  00 b3 40 7f  83 74 42 64  00 e3 0040  83 74 b3 42 00  00 40 00"
    )
    expected = [(0.0, 1.0, SUSTAIN, 127), (0.5, 0.5, SOSTENUTO, 100)]
    assert pedals_of(read_midi(midi(pedals))) == expected
    assert pedals_of(read_midi(midi(pedals, NOTE))) == expected
    assert pedals_of(read_midi(midi("00 b9 40 7f 60 b9 40 00"))) == []  # of the drums
    assert pedals_of(read_midi(midi("00 b0 40 7f", NOTE))) == [(0, 1.0, SUSTAIN, 127)]  # held to the end


def test_foreign_chunks_and_what_follows_the_last_track_are_passed_over() -> None:
    data = midi(NOTE)
    foreign = data[:14] + b"XFIH\0\0\0\4abcd" + data[14:] + b"rest of a disk block"
    assert notes_of(read_midi(foreign)) == [(0, 1, 60, 64)]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_mido_agrees_on_its_own_files(draw: st.DataObject) -> None:
    file = mido.MidiFile(type=draw.draw(st.sampled_from([0, 1])), ticks_per_beat=draw.draw(st.integers(1, 32_767)))
    for channel in range(1 if file.type == 0 else draw.draw(st.integers(1, 3))):
        track = mido.MidiTrack()
        for number in draw.draw(st.lists(st.integers(0, 28), max_size=8)):
            pitch = 21 + 3 * number + channel  # no key in two tracks: struck twice at once, it would sound once
            wait, length, velocity = (draw.draw(st.integers(low, 127)) for low in (0, 1, 1))
            if draw.draw(st.booleans()):
                track.append(mido.MetaMessage("set_tempo", tempo=draw.draw(st.integers(50_000, 2_000_000))))
            track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=velocity, time=wait))
            off = draw.draw(st.sampled_from(["note_on", "note_off"]))
            track.append(mido.Message(off, channel=channel, note=pitch, velocity=0, time=length))
        file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    assert_mido_agrees(out.getvalue())


def test_a_pedal_on_a_channel_without_notes_is_the_pianos() -> None:
    """A Disklavier writes so; in one track or in two."""
    one = midi("00 b2 40 7f  00 90 3c 40  83 60 80 3c 00  83 60 b2 40 00", division=480)
    assert pedals_of(read_midi(one)) == [(0, 1.0, SUSTAIN, 127)]


def test_a_pedal_held_across_a_program_change() -> None:
    data = midi(
        "00 c0 00  00 90 3c 40  81 70 b0 40 7f  81 70 80 3c 00  00 c0 30  83 60 b0 40 00  00 90 3e 40  a5 40 80 3e 00"
        "00 c0 00  00 90 40 40  81 70 b0 40 7f  81 70 80 40 00  83 60 b0 40 00  83 60 90 41 40  64 80 41 00",
        division=480,
    )
    assert pedals_of(read_midi(data)) == [(0.25, 0.75, SUSTAIN, 127), (6.25, 0.75, SUSTAIN, 127)]


def test_a_reset_of_all_controllers_releases_the_pedals() -> None:
    data = midi("00 b0 40 7f  00 42 7f  83 74 79 00  83 74 ff0100" + NOTE)
    assert pedals_of(read_midi(data)) == [(0, 0.5, SUSTAIN, 127), (0, 0.5, SOSTENUTO, 127)]


def test_long_scores_on_fine_ticks_are_read() -> None:
    """Deltas such as 10,080 look like program changes to a search of bytes."""
    quarter = "ce 60"  # 10,080 ticks
    tracks = [
        "".join(f"00 9{c} {60 + c:02x} 40  {quarter} 8{c} {60 + c:02x} 40" for _ in range(1300)) for c in range(4)
    ]
    reading = read_midi(midi(*tracks, division=10_080), track="all")
    assert len(reading.performance) == 5200
    assert reading.performance.end == pytest.approx(650)


def test_one_controller_byte_too_large_is_the_largest() -> None:
    assert pedals_of(read_midi(midi("00 b0 40 ff  83 74 b0 40 00" + NOTE))) == [(0, 0.5, SUSTAIN, 127)]


def test_a_midi_file_within_a_riff_file() -> None:
    data = midi(NOTE)
    size = len(data).to_bytes(4, "little")
    reading = read_midi(b"RIFF" + (len(data) + 12).to_bytes(4, "little") + b"RMIDdata" + size + data)
    assert notes_of(reading) == [(0, 1, 60, 64)]
    assert reading.remarks == ("it is a MIDI file within a RIFF file",)


def test_a_wrong_number_of_tracks_and_wrong_lengths_are_read_and_said() -> None:
    data = bytearray(midi(NOTE, NOTE))
    data[11] = 1  # the header counts one track too few
    assert len(read_midi(bytes(data)).parts) == 2
    assert read_midi(bytes(data)).remarks[0] == "its header announces 1 tracks, not the 2 that it has"
    data = bytearray(midi(NOTE, NOTE))
    data[21] -= 3
    assert len(read_midi(bytes(data)).parts) == 2
    assert read_midi(bytes(data)).remarks[0] == "the length of track 1 is wrong"


def test_program_changes_in_running_status() -> None:
    reading = read_midi(midi("00 c0 05  00 06  00 00" + NOTE))
    assert notes_of(reading) == [(0, 1, 60, 64)]
    assert reading.parts[0].program == 0


# --- what cannot be read


def refusal(source: Any) -> str:
    with pytest.raises(MidiError) as caught:
        read_midi(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.mid"
    assert refusal(path) == f"{path}: no such file"


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_not_midi(tmp_path: Path) -> None:
    path = tmp_path / "song.mid"
    path.write_bytes(b"RIFF and so on")
    assert refusal(path) == f"{path}: not a MIDI file (it does not begin with MThd)"


def test_an_error_has_the_path_and_the_reason_apart(tmp_path: Path) -> None:
    """Also after it was sent from one process to another."""
    for source, path in ((b"", None), (tmp_path / "none.mid", tmp_path / "none.mid")):
        with pytest.raises(MidiError) as caught:
            read_midi(source)
        for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert error.path == path
            assert str(error) == f"{path or 'these bytes'}: {error.reason}"
            assert error.reason in ("the file is empty", "no such file")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "song.mid"
    path.touch()
    assert refusal(path) == f"{path}: the file is empty"
    assert refusal(b"") == "these bytes: the file is empty"


@pytest.mark.parametrize("length", [4, 8, 13])
def test_cut_off_in_the_header(length: int) -> None:
    text = "these bytes: the MIDI file is cut off in its header; export or download it again"
    assert refusal(midi(NOTE)[:length]) == text


def test_cut_off_between_tracks_is_read_and_said() -> None:
    data = midi(NOTE, NOTE, NOTE)
    reading = read_midi(data[: -(len(data) - 14) // 3])
    assert len(reading.parts) == 2
    assert reading.remarks[0] == "its header announces 3 tracks, not the 2 that it has"
    assert "cut off" in refusal(data[:14])


def test_cut_off_anywhere() -> None:
    data = midi("00 b0 40 7f" + NOTE, NOTE)
    between = 14 + (len(data) - 14 - 4) // 2 + 4
    for length in range(1, len(data)):
        if length != between:
            assert re.search("cut off|not a MIDI file", refusal(data[:length])), length


def test_cut_off_in_a_track_says_so() -> None:
    text = "these bytes: the MIDI file is cut off or damaged; export or download it again"
    assert refusal(midi(NOTE)[:-6]) == text


def test_type_2() -> None:
    text = "these bytes: MIDI type 2 is not supported; export it as type 0 or 1"
    assert refusal(midi(NOTE, NOTE, form=2)) == text
    assert notes_of(read_midi(midi(NOTE, form=2))) == [(0, 1, 60, 64)]


def test_smpte_division() -> None:
    assert notes_of(read_midi(midi(NOTE, division=0xE728))) == [(0, 1.0, 60, 64)]  # 25 frames of 40 ticks
    dropped = read_midi(midi(NOTE, division=0xE364))  # 29.97 frames of 100 ticks
    assert notes_of(dropped) == [(0, pytest.approx(1000 * 1.001 / 3000, abs=1e-6), 60, 64)]
    for division in (0, 0xE700, 0xFF28):
        assert "time division" in refusal(midi(NOTE, division=division))


@pytest.mark.parametrize("track", [LONG_WAIT + NOTE, "00 90 3c 40 ff ff ff 7f 80 3c 40", LONG_WAIT + "00 b0 40 7f"])
def test_longer_than_a_day(track: str) -> None:
    assert refusal(midi(track)) == "these bytes: it lasts longer than 24 hours, which no performance does"


def test_more_ticks_than_can_be_counted() -> None:
    assert (
        refusal(midi(9 * LONG_WAIT + NOTE)) == "these bytes: it lasts longer than 24 hours, which no performance does"
    )


def test_tempo_0() -> None:
    text = "these bytes: it has an impossible tempo of 0 microseconds per quarter note"
    assert refusal(midi("00 ff5103 000000" + NOTE)) == text


def test_the_slowest_and_the_fastest_tempo() -> None:
    slow = read_midi(midi("00 ff5103 ffffff" + "00 90 3c 40 01 80 3c 40", division=1))
    assert notes_of(slow) == [(0, 16.777215, 60, 64)]
    assert notes_of(read_midi(write_midi(slow.performance))) == notes_of(slow)
    fast = read_midi(midi("00 ff5103 000001" + "00 90 3c 40 01 80 3c 40", division=32_767)).performance
    assert fast.notes["duration"].tolist() == pytest.approx([1e-6 / 32_767])
    assert len(read_midi(write_midi(fast)).performance) == 1


def test_the_shortest_note_20_hours_on_still_lasts() -> None:
    fast_after_20_hours = "00 ff5103 ffffff  c3 84 84 00 ff5103 000001"  # quarters of 16.8 s, then ticks of 30 ps
    track = fast_after_20_hours + "00 90 3c 40  01 80 3c 40  00 b0 40 7f  01 b0 40 00"
    performance = read_midi(midi(track, division=32_767)).performance
    for events in (performance.notes, performance.pedals):
        assert events["onset"].tolist() == pytest.approx([72_000], rel=0.01)
        assert 0 < events["duration"][0] < 1e-9


def test_damage_of_any_kind_is_refused_or_gives_a_performance() -> None:
    tempi = "00 ff5103 07a120  00 ff5804 06031808  00 ff0304 6e616d65"
    whole = midi(tempi, "00 b0 40 7f" + NOTE + "00 99 24 40 60 89 24 00" + NOTE + "00 b0 40 00  00 43 50  60 43 00")
    random = np.random.default_rng(2)
    refusals = []
    for _ in range(300):
        data = bytearray(whole)
        for at in random.integers(0, len(data), random.integers(1, 6)):
            data[at] = random.integers(0, 256)
        if random.random() < 0.3:
            del data[random.integers(0, len(data)) :]
        try:
            performance = read_midi(bytes(data)).performance
        except MidiError as error:
            refusals.append(str(error))
        else:
            assert Performance(performance.notes, performance.pedals) == performance
            assert performance.end <= 24 * 3600
    assert 50 < len(refusals) < 300
    assert not any("\n" in text for text in refusals)


# --- what cannot be written


def test_longer_than_a_day_is_not_written() -> None:
    day = Performance(np.array([(24 * 3600.0, 1.0, 60, 64)], NOTE_DTYPE))
    with pytest.raises(InputError, match=r"the performance lasts 24\.0 hours; MIDI is written up to 24 hours"):
        write_midi(day)


@pytest.mark.parametrize("seconds", [600.0, 80_000.0])
def test_more_ticks_than_midi_can_count_are_not_written(seconds: float) -> None:
    fast = TempoMap(32_767, ((0, 1000),))
    with pytest.raises(InputError, match="more ticks than MIDI can count; give it a coarser `tempo_map`"):
        write_midi(Performance(np.array([(seconds, 1.0, 60, 64)], NOTE_DTYPE), tempo_map=fast))
    late = TempoMap(1, ((0, 500_000), (1 << 23, 400_000)))
    with pytest.raises(InputError, match="more ticks than MIDI can count"):
        write_midi(Performance(np.array([(1.0, 1.0, 60, 64)], NOTE_DTYPE), tempo_map=late))


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "piece.mid"
    with pytest.raises(InputError, match=re.escape(f"cannot write {path}: ")):
        write_midi(Performance(), path)
    assert (tmp_path / "file").read_bytes() == b""


def test_full_disk_leaves_no_file_and_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old, new = tmp_path / "old.mid", tmp_path / "new.mid"
    old.write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", write_half)
    for path in (old, new):
        with pytest.raises(InputError, match=re.escape(f"cannot write {path}: No space left on device")):
            write_midi(Performance(), path)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == b"old"
