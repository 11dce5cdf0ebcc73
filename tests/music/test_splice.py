"""Music goes back into the user's own file: everything else comes back event for event, as `mido` reads it."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from typing import Any

import mido
import numpy as np
import pytest

from music_generator.engine.engine import Engine
from music_generator.errors import MusicGeneratorError
from music_generator.generation import SamplingOptions, bridge, continue_from, infill, lead_in
from music_generator.generation.keep import read_keep
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.midi_file import parse_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, Performance
from music_generator.music.tempo_map import TempoMap
from music_generator.music.ticks import within_ticks
from stress.mutations import midi_file, variable_length

QUICK = SamplingOptions(seed=3)
PIANO = 2  # the channel of the piano
Event = tuple[int, bytes]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def song(*, division: int = 480, bars: int = 8) -> mido.MidiFile:
    """A file such as a sequencer writes: seven tracks with all kinds of events, at 120, then 90 quarters a minute."""
    file = mido.MidiFile(type=1, ticks_per_beat=division)
    bar = 4 * division
    conductor = [
        (0, mido.MetaMessage("track_name", name="Song")),
        (0, mido.MetaMessage("copyright", text="(c) somebody")),
        (0, mido.MetaMessage("set_tempo", tempo=500_000)),
        (0, mido.MetaMessage("time_signature", numerator=4, denominator=4, clocks_per_click=12)),
        (0, mido.MetaMessage("key_signature", key="Ebm")),
        (2 * bar, mido.MetaMessage("marker", text="Verse")),
        (4 * bar, mido.MetaMessage("set_tempo", tempo=666_667)),
        (4 * bar, mido.MetaMessage("time_signature", numerator=6, denominator=8, clocks_per_click=36)),
        (bars * bar, mido.MetaMessage("end_of_track")),
    ]
    tracks = [conductor, piano_track(division, bars)]
    for channel, (name, program) in enumerate([("Violin", 40), ("Bass", 32), ("Choir", 52)], 3):
        tracks.append(other_track(channel, name, program, division, bars))
    drums = other_track(9, "Drums", 0, division, bars)
    lyrics = [(i * division, mido.MetaMessage("lyrics", text=f"la{i}")) for i in range(20)]
    for events in (*tracks, drums, lyrics):
        file.tracks.append(as_track(events))
    return file


def piano_track(division: int, bars: int) -> list[tuple[int, Any]]:
    """Chords, and a pedal whose values rise and fall."""
    message = mido.Message
    events: list[tuple[int, Any]] = [
        (0, mido.MetaMessage("track_name", name="Grand Piano")),
        (0, mido.MetaMessage("instrument_name", name="Steinway")),
        (0, message("sysex", data=(0x7E, 0x7F, 0x09, 0x01))),
        (0, message("control_change", channel=PIANO, control=0, value=1)),
        (0, message("control_change", channel=PIANO, control=32, value=2)),
        (0, message("program_change", channel=PIANO, program=1)),
        (0, message("control_change", channel=PIANO, control=7, value=101)),
        (0, message("control_change", channel=PIANO, control=10, value=70)),
        (division, message("control_change", channel=PIANO, control=91, value=40)),
        (3 * division, message("pitchwheel", channel=PIANO, pitch=100)),
        (5 * division, message("aftertouch", channel=PIANO, value=30)),
        (6 * division, message("polytouch", channel=PIANO, note=60, value=12)),
    ]
    for beat in range(4 * bars):
        tick = beat * division
        for pitch in (48 + beat % 5, 64 + beat % 7, 67 + beat % 3):
            events.append((tick, message("note_on", channel=PIANO, note=pitch, velocity=40 + beat)))
            events.append((tick + division - 10, message("note_off", channel=PIANO, note=pitch, velocity=31)))
        for i, value in enumerate((10, 50, 70, 110, 127, 90, 60, 20)):
            at = tick + (i + 1) * division // 9
            events.append((at, message("control_change", channel=PIANO, control=64, value=value)))
    return events


def other_track(channel: int, name: str, program: int, division: int, bars: int) -> list[tuple[int, Any]]:
    events: list[tuple[int, Any]] = [
        (0, mido.MetaMessage("track_name", name=name)),
        (0, mido.Message("program_change", channel=channel, program=program)),
        (7, mido.Message("control_change", channel=channel, control=11, value=99)),
        (9, mido.Message("control_change", channel=channel, control=64, value=127)),
    ]
    for beat in range(0, 4 * bars, 2):
        events.append((beat * division, mido.Message("note_on", channel=channel, note=40 + beat, velocity=80)))
        events.append((beat * division + 700, mido.Message("note_on", channel=channel, note=40 + beat, velocity=0)))
    return events


def as_track(events: list[tuple[int, Any]]) -> mido.MidiTrack:
    track, now = mido.MidiTrack(), 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track.append(message.copy(time=tick - now))
        now = tick
    return track


def data_of(file: mido.MidiFile) -> bytes:
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def events_of(data: bytes) -> list[list[Event]]:
    """The events of each track as `mido` reads them, without the ends of tracks."""
    tracks = []
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks:
        now, events = 0, []
        for message in track:
            now += message.time
            if message.type != "end_of_track":
                events.append((now, bytes(message.bytes())))
        tracks.append(events)
    return tracks


def is_played(message: bytes, channel: int = PIANO) -> bool:
    """Whether a message is a note or a sustain pedal of the piano's channel."""
    return message[0] in (0x80 | channel, 0x90 | channel) or message[:2] in (
        bytes([0xB0 | channel, number]) for number in (64, 66, 67)
    )


def played(events: list[Event], start: int = 0, end: int = 1 << 40) -> list[Event]:
    return [event for event in events if is_played(event[1]) and start <= event[0] < end]


def not_played(events: list[Event]) -> list[Event]:
    return [event for event in events if not is_played(event[1])]


def assert_in_order(inner: list[Event], outer: list[Event]) -> None:
    """Check that all events of `inner` are in `outer`, in their order."""
    rest = iter(outer)
    for event in inner:
        assert event in rest, event


def test_an_infilled_file_comes_back_event_for_event(engine: Engine) -> None:
    data = data_of(song())
    reading = read_midi(data)
    assert reading.remarks[0] == "read 'Grand Piano'"
    made = infill(engine, reading.performance, 3.0, 6.0, QUICK)
    before, after = events_of(data), events_of(write_midi(made.performance))
    assert len(after) == len(before) == 7
    for number in (0, 2, 3, 4, 5, 6):
        assert after[number] == before[number]
    assert not_played(after[1]) == not_played(before[1])
    start, end = 2880, 5760  # ticks of 3 and 6 s
    assert played(after[1], 0, start) == played(before[1], 0, start)
    beyond = Counter(played(after[1], end))
    beyond.subtract(played(before[1], end))
    assert all(count >= 0 or is_note_off(event) for event, count in beyond.items()), beyond
    assert sum(1 for _, count in beyond.items() if count) <= 24  # note-offs and pedals of what lasts over the edge
    assert values(after[1], end) == values(before[1], end) or extra(after[1], before[1], end) <= 1
    assert {note[1] for note in played(after[1], start, end)} != {note[1] for note in played(before[1], start, end)}


def is_note_off(event: Event) -> bool:
    return event[1][0] == 0x80 | PIANO


def values(events: list[Event], start: int) -> list[Event]:
    return [event for event in events if event[1][:2] == bytes([0xB0 | PIANO, 64]) and event[0] >= start]


def extra(after: list[Event], before: list[Event], start: int) -> int:
    assert_in_order(values(before, start), values(after, start))
    return len(values(after, start)) - len(values(before, start))


def test_a_continued_file_keeps_all_its_events(engine: Engine) -> None:
    data = data_of(song())
    made = continue_from(engine, read_midi(data).performance, 5, QUICK)
    before, after = events_of(data), events_of(write_midi(made.performance))
    assert [after[i] for i in (0, 2, 3, 4, 5, 6)] == [before[i] for i in (0, 2, 3, 4, 5, 6)]
    assert not_played(after[1]) == not_played(before[1])
    last_onset = 31 * 480
    assert played(after[1], 0, last_onset + 1) == played(before[1], 0, last_onset + 1)
    assert len(made.written.notes) > 5


def test_a_file_led_into_is_later_as_a_whole(engine: Engine) -> None:
    data = data_of(song())
    made = lead_in(engine, read_midi(data).performance, 8, QUICK)
    written = write_midi(made.performance)
    before, after = events_of(data), events_of(written)
    later = 16 * 480  # 8 s at 120 quarters a minute: four bars
    for number in range(7):
        moved = [(tick + later, message) for tick, message in before[number]]
        assert_in_order(moved, after[number])
        if number not in (0, 1):
            assert after[number] == moved
    assert not_played(after[0])[0][0] == 0  # the tempo and the metre of the new bars
    opening = [message for tick, message in not_played(after[1]) if tick == 0]
    assert bytes([0xC0 | PIANO, 1]) in opening  # the sound of the piano, from the beginning
    assert all(tick < later or (tick - later, message) in before[1] for tick, message in after[1] if message[0] != 0x82)


def test_a_bridge_keeps_both_files(engine: Engine) -> None:
    first, second = data_of(song(bars=4)), data_of(song())
    made = bridge(engine, read_midi(first).performance, read_midi(second).performance, 6, QUICK)
    after = events_of(write_midi(made.performance))
    before = events_of(first), events_of(second)
    assert len(after) == 12  # the conductors and the pianos go on, the others have tracks of their own
    ticks = {tick for tick, message in after[0] if message == bytes.fromhex("ff030453 6f6e67".replace(" ", ""))}
    (joint,) = ticks - {0}
    assert (joint - 4 * 4 * 480) % (6 * 240) == 0  # on a bar line of the 6/8 in which the first file ends
    for number, host in ((0, 0), (1, 1), (2, 7), (3, 8), (4, 9), (5, 10), (6, 11)):
        assert_in_order([(tick + joint, message) for tick, message in before[1][number]], after[host])
    for number in range(7):
        assert_in_order([e for e in before[0][number] if not is_played(e[1])], after[number])
    again = read_midi(write_midi(made.performance), track="Grand Piano").performance
    np.testing.assert_allclose(
        again.between(made.end - 1e-6).notes["onset"], made.performance.between(made.end).notes["onset"], atol=1e-6
    )


def test_files_on_other_ticks_are_bridged_on_common_ones(engine: Engine) -> None:
    first, second = data_of(song(division=480, bars=4)), data_of(song(division=384))
    made = bridge(engine, read_midi(first).performance, read_midi(second).performance, 6, QUICK)
    file = mido.MidiFile(file=io.BytesIO(write_midi(made.performance)))
    assert file.ticks_per_beat == 1920
    onsets = read_midi(second).performance.notes["onset"]
    moved = made.performance.between(made.end).notes["onset"]
    np.testing.assert_allclose(moved - moved[0], onsets - onsets[0], atol=1e-6)


def test_the_track_can_be_chosen() -> None:
    data = data_of(song())
    assert [part.name for part in read_midi(data).chosen] == ["Grand Piano"]
    assert [part.name for part in read_midi(data, track="violin").chosen] == ["Violin"]
    assert [part.name for part in read_midi(data, track="3").chosen] == ["Violin"]
    assert len(read_midi(data, track="all").chosen) == 4
    with pytest.raises(ValueError, match=r"`track` must be one of the tracks with notes \(2 'Grand Piano', 3 'Violin'"):
        read_midi(data, track="harp")


def test_a_channel_of_a_track_can_be_chosen() -> None:
    data = two_channels_on_one_key()
    assert [(part.track, part.channel) for part in read_midi(data, track="1:2").chosen] == [(0, 1)]
    assert len(read_midi(data, track="1").chosen) == 2
    with pytest.raises(ValueError, match=r"with notes \(1:1, 1:2\) or all, not '1:3'"):
        read_midi(data, track="1:3")


def two_hands() -> bytes:
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    for name, low in (("Right", 72), ("Left", 40)):
        events: list[tuple[int, Any]] = [(0, mido.MetaMessage("track_name", name=name))]
        for beat in range(16):
            events.append((beat * 480, mido.Message("note_on", note=low + beat % 4, velocity=70)))
            events.append((beat * 480 + 470, mido.Message("note_off", note=low + beat % 4)))
        file.tracks.append(as_track(events))
    return data_of(file)


def test_new_notes_go_to_the_hand_that_is_near() -> None:
    piece = read_midi(two_hands()).performance
    assert len(piece) == 32
    notes = np.array([(2.1, 0.2, 80, 64), (2.1, 0.2, 35, 64), (3.3, 0.1, 70, 60)], NOTE_DTYPE)
    right, left = events_of(write_midi(replace(piece, notes=np.concatenate([piece.notes, notes]))))
    assert [message[1] for tick, message in right if message[0] == 0x90 and tick % 480] == [80, 70]
    assert [message[1] for tick, message in left if message[0] == 0x90 and tick % 480] == [35]


def test_what_is_not_changed_is_written_byte_for_byte() -> None:
    for data in (data_of(song()), two_hands()):
        assert write_midi(read_midi(data).performance) == data


def test_an_edit_takes_one_note_out_and_moves_one_end() -> None:
    data = two_hands()
    piece = read_midi(data).performance
    notes = piece.notes[1:].copy()
    notes["duration"][0] = 0.25
    left = events_of(write_midi(replace(piece, notes=notes)))
    before = events_of(data)
    assert before[0][1:3] == [(0, bytes([0x90, 72, 70])), (470, bytes([0x80, 72, 64]))]
    assert [e for e in left[0] if e[0] < 480] == [
        (0, before[0][0][1]),
        (0, bytes([0x90, 72, 70])),
        (240, bytes([0x80, 72, 64])),
    ]
    assert [e for e in left[1] if e[0] < 480] == [before[1][0]]
    assert left[0][3:] == before[0][3:]


@pytest.mark.parametrize(
    ("press", "expected"),
    [
        ((2.0, 0.5), [(2.0, 100), (2.5, 0)]),
        ((2.0, 1.5), [(2.0, 100), (3.5, 0)]),  # over the edge, before the file's own messages go on
        ((0.5, 2.0), [(1.0, 0)]),  # already down at the start of the span: let go within it
    ],
)
def test_pedals_of_a_rewritten_span(press: tuple[float, float], expected: list[tuple[float, int]]) -> None:
    own = Performance(
        np.array([(0.0, 5.0, 60, 64)], NOTE_DTYPE),
        np.array([(0.5, 1.5, SUSTAIN, 127), (4.0, 0.5, SUSTAIN, 90)], PEDAL_DTYPE),
    )
    piece = read_midi(write_midi(own)).performance
    assert piece.source is not None
    mine = [(0.5, 0.5, SUSTAIN, 127)] + [(*press, SUSTAIN, 100)] * (press[0] > 1.0)
    pedals = np.array([*mine, (4.0, 0.5, SUSTAIN, 90)], PEDAL_DTYPE)
    changed = replace(piece, pedals=pedals, source=piece.source.with_rewritten(1.0, 3.0))
    found = [(tick / 1000, message[2]) for tick, message in events_of(write_midi(changed))[0] if message[0] == 0xB0]
    outside = [(0.5, 127), (4.0, 90), (4.5, 0)]
    closed = [] if press[0] < 1.0 else [(1.0, 0)]
    assert found == sorted(outside + closed + expected)


def test_kept_notes_keep_their_events(engine: Engine) -> None:
    data = two_hands()
    made = infill(engine, read_midi(data).performance, 2.0, 4.0, QUICK, keep=read_keep("melody"))
    assert events_of(data)[0] == [e for e in events_of(write_midi(made.performance))[0] if e in events_of(data)[0]]


def test_pedals_and_names_of_an_untouched_part_outlive_an_accompaniment(engine: Engine) -> None:
    data = data_of(song(bars=2))
    made = infill(engine, read_midi(data).performance, 0.0, 4.0, QUICK)
    after = events_of(write_midi(made.performance))
    assert not_played(after[1]) == not_played(events_of(data)[1])


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with a few bytes changed, left out or put in."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, kind = int(rng.integers(8, len(changed))), int(rng.integers(4))
        if kind == 0:
            changed[at] = int(rng.integers(256))
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 6))]
        elif kind == 2:
            changed[at:at] = rng.integers(0, 256, int(rng.integers(1, 6)), np.uint8).tobytes()
        else:
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_files_come_back_or_are_refused_in_a_line(engine: Engine, seed: int) -> None:
    """Ten each; what is outside the piano comes back as it was read, and what was mended is named."""
    rng, refusals = np.random.default_rng(seed), list[str]()
    for _ in range(10):
        data = mutated(data_of(song(bars=2)), rng)
        try:
            reading = read_midi(data)
            made = infill(engine, reading.performance, 1.0, 2.0, QUICK)
        except MusicGeneratorError as error:
            refusals.append(str(error))
            continue
        before, after = parse_midi(data), parse_midi(write_midi(made.performance))
        assert set(before.faults) <= set(made.performance.source.remarks)
        touched = {part.track for part in reading.chosen}
        for number, (old, new) in enumerate(zip(before.tracks, after.tracks, strict=True)):
            channels = {part.channel for part in reading.chosen}
            kept = [[e for e in track.events() if not is_ours(e[1], channels)] for track in (old, new)]
            assert kept[0] == kept[1] or (number in touched and [e for e in kept[1] if e in kept[0]] == kept[0])
    assert not any("\n" in refusal for refusal in refusals)
    assert len(refusals) < 10


def is_ours(message: bytes, channels: set[int]) -> bool:
    return any(is_played(message, channel) for channel in channels) or message[:2] == b"\xff\x2f"


def piano(*events: tuple[int, Any], division: int = 480) -> bytes:
    """A file of one track."""
    file = mido.MidiFile(type=0, ticks_per_beat=division)
    file.tracks.append(as_track(list(events)))
    return data_of(file)


def key(start: int, end: int, pitch: int, channel: int = 0) -> list[tuple[int, Any]]:
    on = mido.Message("note_on", channel=channel, note=pitch, velocity=60)
    return [(start, on), (end, mido.Message("note_off", channel=channel, note=pitch))]


def control(tick: int, number: int, value: int, channel: int = 0) -> tuple[int, Any]:
    return tick, mido.Message("control_change", channel=channel, control=number, value=value)


def with_new(data: bytes, *notes: tuple[float, float, int, int]) -> bytes:
    """The file with more notes: onset, duration, pitch and velocity."""
    piece = read_midi(data).performance
    return write_midi(replace(piece, notes=np.concatenate([piece.notes, np.array(list(notes), NOTE_DTYPE)])))


def test_new_presses_are_where_the_file_has_its_pedals() -> None:
    """A player piano may have them on a channel without notes."""
    data = piano(*key(0, 9600, 60), *[control(960 * i, 64, 127 * (i % 2), 5) for i in range(1, 9)])
    piece = read_midi(data).performance
    assert piece.source is not None
    outside = piece.pedals[(piece.pedals["onset"] < 2.5) | (piece.pedals["onset"] >= 4.5)]
    pedals = np.concatenate([outside, np.array([(2.5, 0.75, SUSTAIN, 90)], PEDAL_DTYPE)])
    changed = write_midi(replace(piece, pedals=pedals, source=piece.source.with_rewritten(2.5, 4.5)))
    found = [(tick, message) for tick, message in events_of(changed)[0] if message[0] & 0xF0 == 0xB0]
    values = [(960, 127), (1920, 0), (2400, 90), (3120, 0), (4800, 127), (5760, 0), (6720, 127), (7680, 0)]
    assert found == [(tick, bytes([0xB5, 64, value])) for tick, value in values]
    np.testing.assert_allclose(read_midi(changed).performance.pedals["onset"], [1.0, 2.5, 5.0, 7.0])


def test_a_pedal_that_the_file_never_lets_go_is_not_pressed_after_its_end() -> None:
    piece = read_midi(piano(*key(0, 1920, 60), control(480, 64, 127))).performance
    assert piece.source is not None
    notes = np.array([(0.0, 2.0, 60, 60), (9.0, 2.0, 62, 60)], NOTE_DTYPE)
    pedals = np.array([(0.5, 1.5, SUSTAIN, 127), (9.0, 1.5, SUSTAIN, 80)], PEDAL_DTYPE)
    changed = Performance(notes, pedals, piece.tempo_map, piece.source.with_rewritten(1.0, 10.0))
    found = [(tick, message[2]) for tick, message in events_of(write_midi(changed))[0] if message[0] == 0xB0]
    assert found == [(480, 127), (1920, 0), (8640, 80), (10080, 0)]


def test_a_note_that_the_file_never_releases_ends_where_it_did() -> None:
    data = piano(*key(0, 960, 60), *key(480, 960, 30)[:1], (960, mido.MetaMessage("end_of_track")))
    assert with_new(data, (2.0, 1.0, 70, 60)) != data
    notes = read_midi(with_new(data, (2.0, 1.0, 70, 60))).performance.notes
    assert notes[["onset", "duration", "pitch"]].tolist() == [(0.0, 1.0, 60), (0.5, 0.5, 30), (2.0, 1.0, 70)]


def test_all_notes_off_ends_no_new_note() -> None:
    data = piano(*key(0, 480, 60), *key(480, 2000, 50)[:1], control(960, 123, 0), *key(1920, 2400, 60))
    changed = with_new(data, (0.75, 0.75, 72, 60))
    notes = read_midi(changed).performance.notes
    assert notes[["onset", "duration", "pitch"]].tolist() == [
        (0.0, 0.5, 60), (0.5, 0.5, 50), (0.75, 0.75, 72), (2.0, 0.5, 60)]  # fmt: skip
    assert with_new(data, (1.1, 0.5, 72, 60)) != changed
    assert (960, bytes([0xB0, 123, 0])) in events_of(with_new(data, (1.1, 0.5, 72, 60)))[0]


def test_a_reset_of_controllers_lets_no_new_press_go() -> None:
    piece = read_midi(piano(*key(0, 4800, 60), control(960, 121, 0))).performance
    changed = replace(piece, pedals=np.array([(0.5, 1.0, SUSTAIN, 90)], PEDAL_DTYPE))
    found = [(tick, message[1:]) for tick, message in events_of(write_midi(changed))[0] if message[0] == 0xB0]
    assert found == [(480, bytes([64, 90])), (960, bytes([121, 0])), (960, bytes([64, 90])), (1440, bytes([64, 0]))]


def two_channels_on_one_key() -> bytes:
    return piano(*key(0, 1920, 60, 0), *key(480, 960, 60, 1), *key(960, 1000, 72, 1))


def test_a_release_under_another_hand_ends_no_new_note() -> None:
    data = two_channels_on_one_key()
    assert len(read_midi(data).chosen) == 2
    notes = read_midi(with_new(data, (1.5, 1.5, 60, 70))).performance.notes
    notes = notes[notes["pitch"] == 60]
    assert notes[["onset", "duration"]].tolist() == [(0.0, 0.5), (0.5, 0.5), (1.5, 1.5)]


def test_a_note_cut_by_another_hand_stays_so_without_it() -> None:
    piece = read_midi(two_channels_on_one_key()).performance
    again = read_midi(write_midi(replace(piece, notes=piece.notes[piece.notes["onset"] != 0.5]))).performance
    assert again.notes[["onset", "duration", "pitch"]].tolist()[0] == (0.0, 0.5, 60)


def test_a_stray_note_off_ends_no_longer_note() -> None:
    data = piano(*key(0, 480, 60), *key(0, 600, 60)[1:], *key(960, 1440, 62))
    piece = read_midi(data).performance
    notes = piece.notes.copy()
    notes["duration"][0] = 0.75
    assert read_midi(write_midi(replace(piece, notes=notes))).performance.notes["duration"].tolist() == [0.75, 0.5]


def test_onsets_stay_on_the_ticks_within_a_span() -> None:
    """Ticks of 1/24 s: rounded, the first note would fall before the span, and the third one behind it."""
    notes = np.array([(3.02, 0.5, 60, 60), (4.01, 0.5, 61, 60), (5.985, 0.5, 62, 60)], NOTE_DTYPE)
    played = Performance(notes, tempo_map=TempoMap(12))
    moved = within_ticks(played, 3.02, 5.99).notes
    np.testing.assert_allclose(moved["onset"], [73 / 24, 4.01, 143 / 24])
    assert not len(within_ticks(played, 3.01, 3.02))


def test_a_press_is_as_long_as_the_message_after_the_gap_lets_it(engine: Engine) -> None:
    data = piano(*[event for i in range(48) for event in key(240 * i, 240 * i + 200, 60 + i % 5)],
                 *[control(2880 + 20 * i, 64, 10 - i) for i in range(10)], control(9600, 64, 127))  # fmt: skip
    for seed in range(6):
        made = infill(engine, read_midi(data).performance, 1.0, 3.0, SamplingOptions(seed=seed)).performance
        again = read_midi(write_midi(made)).performance
        assert len(again.pedals) == len(made.pedals)
        for own, read in zip(made.pedals, again.pedals, strict=True):
            assert abs(own["onset"] + own["duration"] - read["onset"] - read["duration"]) <= 1 / 480


def test_what_the_first_of_two_pieces_never_releases_ends_with_it(engine: Engine) -> None:
    first = piano(*key(0, 960, 60), *key(480, 960, 30)[:1], control(480, 64, 127, 3), *key(960, 1440, 72))
    second = read_midi(piano(*[event for i in range(8) for event in key(480 * i, 480 * i + 400, 60)])).performance
    made = bridge(engine, read_midi(first).performance, second, 4, QUICK)
    written = write_midi(made.performance)
    assert (1440, bytes([0x80, 30, 64])) in events_of(written)[0]
    assert [message[2] for _, message in events_of(written)[0] if message[:2] == bytes([0xB3, 64])][-1] == 0


def test_pedals_behind_a_point_that_is_continued_from_are_gone(engine: Engine) -> None:
    """They press the pedal from before it to long after what is written."""
    data = piano(*[event for i in range(40) for event in key(480 * i, 480 * i + 400, 60 + i % 5)],
                 control(1000, 64, 127), control(2200, 64, 0, 5), control(2100, 64, 127, 5), control(1300, 64, 0),
                 *[control(480 * i + 100, 64, 127, i % 2 * 5) for i in range(4, 40)])  # fmt: skip
    made = continue_from(engine, read_midi(data).performance, 4, QUICK, start=3.0)
    again = read_midi(write_midi(made.performance)).performance
    np.testing.assert_allclose(again.pedals["onset"], made.performance.pedals["onset"], atol=1 / 960)
    ends = [each.pedals["onset"] + each.pedals["duration"] for each in (again, made.performance)]
    np.testing.assert_allclose(ends[0], ends[1], atol=1 / 960)


def test_a_pedal_that_is_never_let_go_ends_where_it_did() -> None:
    data = piano(*key(0, 960, 60), control(480, 64, 127))
    pedals = read_midi(with_new(data, (2.0, 1.0, 70, 60))).performance.pedals
    assert pedals[["onset", "duration"]].tolist() == [(0.5, 0.5)]


def test_what_another_channel_never_released_ends_with_the_press() -> None:
    """Two channels hold one pedal to the end of the file; a note that makes it longer lets neither hold on."""
    data = midi_file(bytes.fromhex("00 b0407f 00 903c40 60 803c40 00 923e40 60 823e40 0f b24064 01 b2407f"))
    before = read_midi(data, track="all").performance
    longer = np.append(before.notes, np.array([(1.0, 1.0, 70, 60)], NOTE_DTYPE))
    again = read_midi(write_midi(replace(before, notes=longer)), track="all").performance
    assert len(again) == 3
    assert again.pedals["duration"].max() < before.pedals["duration"].max() + 0.002


def test_a_release_that_makes_a_track_longer_ends_its_notes_where_they_did() -> None:
    data = midi_file(bytes.fromhex("00 903c40 60 90 3e40 60 b0437f"), bytes.fromhex("00 914040 8100 814000"))
    before = read_midi(data, track="all").performance
    longer = np.append(before.notes, np.array([(1.0, 1.0, 70, 60)], NOTE_DTYPE))
    again = read_midi(write_midi(replace(before, notes=longer)), track="all").performance
    assert again.notes[:-1].tolist() == before.notes.tolist()


def test_a_reset_where_a_press_gets_longer_lets_it_not_go() -> None:
    data = midi_file(bytes.fromhex("00 b0407f 60 b07900 8100 903c40 60 803c40"))
    before = read_midi(data).performance
    longer = before.pedals.copy()
    longer["duration"] *= 2
    again = read_midi(write_midi(replace(before, pedals=longer))).performance
    assert again.pedals["duration"].sum() == pytest.approx(longer["duration"].sum(), abs=1e-6)


def test_of_several_alike_the_same_piano_is_read_after_notes_of_it_are_gone() -> None:
    notes = [b"".join(bytes([0, 0x90 | i, 60 + j, 64, 9, 0x80 | i, 60 + j, 64]) for j in range(8)) for i in range(3)]
    data = midi_file(*notes)
    reading = read_midi(data)
    assert [part.track for part in reading.chosen] == [0]
    fewer = replace(reading.performance, notes=reading.performance.notes[2:])
    assert [part.track for part in read_midi(write_midi(fewer)).chosen] == [0]
    assert [part.track for part in read_midi(midi_file(notes[0][:40], *notes[1:])).chosen] == [1]  # five notes of eight


def test_running_status_over_a_meta_event_keeps_its_meaning() -> None:
    """Some programs leave the status out after a meta event too; what is put in before it must not give it another."""
    data = midi_file(bytes.fromhex("00 90 3c40 60 803c40  60 b0 0740 60 ff0103 61 62 63 30 0750 30 0760"))
    before = read_midi(data).performance
    added = np.array([(0.25, 0.3, 64, 70)], NOTE_DTYPE)
    after = replace(before, notes=np.concatenate([before.notes, added]), tempo_map=before.tempo_map)
    events = parse_midi(write_midi(after)).tracks[0].events()
    ours = [event for event in parse_midi(data).tracks[0].events() if event[1][1] != 0x2F]
    assert [event for event in events if event in ours] == ours
    assert [(tick, message.hex()) for tick, message in events if (tick, message) not in ours][:2] == [
        (240, "904046"),
        (528, "804040"),
    ]


def test_the_shortest_ticks_are_written_back() -> None:
    """After 23 hours, ticks of 30 picoseconds are only just apart in seconds."""
    notes = b"".join(bytes([1, 0x90, 60 + i, 64, 1, 0x80, 60 + i, 64]) for i in range(40))
    late = variable_length(160_000_000) + bytes.fromhex("ff5103 000001")  # after 23 hours
    data = midi_file(bytes.fromhex("00 ff5103 ffffff") + late + notes, division=32_767)
    reading = read_midi(data)
    assert len(reading.performance) == 40
    assert write_midi(reading.performance) == data
