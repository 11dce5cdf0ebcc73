"""What the events of a MIDI file mean: its tempo map, its notes, its pedal messages and pedal presses, in ticks."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import MidiError
from music_generator.music.midi_file import (
    CONTROL,
    META,
    NOTE_OFF,
    NOTE_ON,
    TEMPO,
    TIME_SIGNATURE,
    Event,
    MidiFile,
    Track,
    metre_event,
    tempo_event,
)
from music_generator.music.tempo_map import BEAT_UNITS, TempoMap

PEDAL_CONTROLLERS = (64, 66, 67)  # sustain, sostenuto, una corda: MIDI 1.0, table III
PRESSED = 64  # a switch controller is on from this value
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123

NOTES = np.dtype([("start", "i8"), ("end", "i8"), ("on", "i4"), ("off", "i4"), ("track", "i2"), ("channel", "u1"),
                  ("pitch", "u1"), ("velocity", "u1")])  # fmt: skip
"""A note of a file: its ticks, its key, and the places of its events in the track; `off` is -1 without a note-off."""
PEDALS = np.dtype([("tick", "i8"), ("event", "i4"), ("track", "i2"), ("channel", "u1"), ("pedal", "u1"),
                   ("value", "u1")])  # fmt: skip
"""A message of a pedal. `event` is its place in the track, -1 where another message releases the pedal."""
PRESSES = np.dtype([("start", "i8"), ("end", "i8"), ("pedal", "u1"), ("depth", "u1")])
"""A press of a pedal: its ticks, and its largest value."""

Array = NDArray[Any]
P = ParamSpec("P")
T = TypeVar("T")


def _once(make: Callable[Concatenate[MidiFile, P], T]) -> Callable[Concatenate[MidiFile, P], T]:
    """Let what a function makes of a file be kept with the file: a file does not change."""

    def kept(file: MidiFile, /, *args: P.args, **kwargs: P.kwargs) -> T:
        known = vars(file)
        if make.__name__ not in known:
            known[make.__name__] = make(file, *args, **kwargs)
        made: T = known[make.__name__]
        return made

    return update_wrapper(kept, make)


@_once
def tempo_map_of(file: MidiFile, path: Any = None) -> TempoMap:
    """Return the tempo map of all tracks.

    A time division in frames a second (SMPTE) gives a map of one quarter note a second.

    Raises:
        MidiError: The time division or a tempo is impossible.
    """
    if file.division & 0x8000:
        return _smpte_map(file.division, path)
    if not file.division:
        raise MidiError(path, "its time division is 0; export it with ticks per quarter note")
    # 120 quarters a minute until another tempo is set; of several on one tick the last one counts
    ticks, data = _metas(file, TEMPO, 3, 3)
    ticks, tempos = _last_of_tick(ticks, data @ np.array([1 << 16, 1 << 8, 1]))
    if not (data.any(1)).all():
        raise MidiError(path, "it has an impossible tempo of 0 microseconds per quarter note")
    changes = tuple(zip(ticks.tolist(), tempos.tolist(), strict=True))
    if not len(ticks) or ticks[0] > 0:
        changes = ((0, 500_000), *changes)
    ticks, data = _metas(file, TIME_SIGNATURE, 2, 127)
    known = (data[:, 0] > 0) & (data[:, 1] < len(BEAT_UNITS))
    ticks, signs = _last_of_tick(ticks[known], data[known])
    metres = zip(ticks.tolist(), signs[:, 0].tolist(), (1 << signs[:, 1]).tolist(), strict=True)
    return TempoMap(file.division, changes, tuple(metres))


def tempo_events(tempo_map: TempoMap) -> list[Event]:
    """Return the tempi and time signatures of a tempo map by tick; `tempo_map_of` reads them again."""
    events = [(tick, tempo_event(tempo)) for tick, tempo in tempo_map.tempos]
    events += [(tick, metre_event(top, bottom)) for tick, top, bottom in tempo_map.time_signatures]
    return sorted(events, key=lambda event: event[0])


def _metas(file: MidiFile, kind: int, shortest: int, longest: int) -> tuple[Array, Array]:
    """Return the ticks of all meta events of a type whose data have a length, in their order, and their first bytes.

    Returns:
        int64 of the shapes (events,) and (events, `shortest`).
    """
    ticks, found = [np.empty(0, np.int64)], [np.empty((0, shortest), np.int64)]
    for track in file.tracks:
        at = np.flatnonzero((track.status == META) & (track.first == kind))
        at = at[(track.second[at] >= shortest) & (track.second[at] <= longest)]
        begins = track.ends[at].astype(np.int64) - track.second[at]
        ticks.append(track.ticks[at])
        found.append(np.frombuffer(track.data, np.uint8)[begins[:, None] + np.arange(shortest)].astype(np.int64))
    order = np.argsort(np.concatenate(ticks), kind="stable")
    return np.concatenate(ticks)[order], np.concatenate(found)[order]


def _last_of_tick(ticks: Array, values: Array) -> tuple[Array, Array]:
    """Return the ticks without repetition, and the last value of each."""
    is_last = np.diff(ticks, append=-1) != 0
    return ticks[is_last], values[is_last]


def _smpte_map(division: int, path: Any) -> TempoMap:
    frames, ticks = 256 - (division >> 8), division & 0xFF
    if frames not in (24, 25, 29, 30) or not ticks:
        raise MidiError(path, f"its time division {division:#06x} is neither in ticks per quarter note nor SMPTE's")
    dropped = frames == 29  # 30 frames in 1.001 s
    return TempoMap((30 if dropped else frames) * ticks, ((0, 1_001_000 if dropped else 1_000_000),))


@_once
def note_table(file: MidiFile) -> Array:
    """Return the notes of a file, track by track.

    A note-on ends the open note of its key and channel; a note-off that finds none open is nothing. All notes off and
    all sound off end the notes of their channel. A note that is never released lasts to the end of its track. A note
    lasts at least one tick.

    Returns:
        `NOTES` of shape (notes,).
    """
    found = []
    for number, track in enumerate(file.tracks):
        message = track.status & 0xF0
        at = np.flatnonzero(((message == NOTE_ON) | (message == NOTE_OFF)) & (track.first < 128))
        if not len(at):
            continue
        channel, pitch = (track.status[at] & 0x0F).astype(np.int16), track.first[at].astype(np.int16)
        velocity = np.where(message[at] == NOTE_ON, np.minimum(track.second[at], 127), 0)
        order = np.argsort(channel * 128 + pitch, kind="stable")
        at, channel, pitch, velocity = at[order], channel[order], pitch[order], velocity[order]
        key = channel * 128 + pitch
        follows = np.append(key[1:] == key[:-1], False)  # another event of the same key
        following = np.where(follows, np.append(at[1:], 0), -1)
        released = follows & np.append(velocity[1:] == 0, False)
        on = np.flatnonzero(velocity)
        notes = np.zeros(len(on), NOTES)
        notes["on"], notes["track"], notes["channel"] = at[on], number, channel[on]
        notes["pitch"], notes["velocity"], notes["start"] = pitch[on], velocity[on], track.ticks[at[on]]
        notes["off"] = np.where(released, following, -1)[on]
        ends = np.where(follows, track.ticks[following], track.end)[on]
        notes["end"] = np.maximum(ends, notes["start"] + 1)
        found.append(_ended_by_all_off(notes, following[on], track))
    return _joined(found, NOTES)


def _ended_by_all_off(notes: Array, following: Array, track: Track) -> Array:
    """Return the notes, ended by a message that ends all notes of their channel if it comes before the note's own end.

    `following` is the event that ends each note, -1 for none.
    """
    is_control = (track.status & 0xF0) == CONTROL
    all_off = np.flatnonzero(is_control & ((track.first == ALL_SOUND_OFF) | (track.first == ALL_NOTES_OFF)))
    for channel in np.unique(track.status[all_off] & 0x0F).tolist():
        places = all_off[(track.status[all_off] & 0x0F) == channel]
        after = np.append(places, len(track.ticks))[np.searchsorted(places, notes["on"])]
        last = np.where(following < 0, len(track.ticks), following)
        ended = (notes["channel"] == channel) & (after < last)
        notes["off"][ended] = -1
        notes["end"][ended] = np.maximum(track.ticks[after[ended]], notes["start"][ended] + 1)
    return notes


@_once
def pedal_table(file: MidiFile) -> Array:
    """Return the pedal messages of a file, track by track, in their order: `PEDALS` of shape (messages,).

    A reset of all controllers (controller 121) releases all three.
    """
    found = []
    for number, track in enumerate(file.tracks):
        control = np.flatnonzero((track.status & 0xF0) == CONTROL)
        controller = track.first[control]
        is_reset = controller == RESET_CONTROLLERS
        places = [control[(controller == wanted) | is_reset] for wanted in PEDAL_CONTROLLERS]
        at = np.concatenate(places)
        rows = np.empty(len(at), PEDALS)
        rows["tick"], rows["event"], rows["track"] = track.ticks[at], at, number
        rows["channel"], rows["value"] = track.status[at] & 0x0F, np.minimum(track.second[at], 127)
        rows["pedal"] = np.repeat(range(len(places)), [len(each) for each in places])
        if is_reset.any():
            releases = track.first[at] == RESET_CONTROLLERS
            rows["event"][releases], rows["value"][releases] = -1, 0
        found.append(rows)
    return _joined([rows for rows in found if len(rows)], PEDALS)


def _joined(tables: list[Array], dtype: np.dtype[Any]) -> Array:
    """Return tables as one that cannot be changed."""
    joined = tables[0] if len(tables) == 1 else np.concatenate([np.empty(0, dtype), *tables])
    joined.flags.writeable = False
    return joined


def selected(table: Array, chosen: Array) -> Array:
    """Return the chosen rows of a table, given which they are (n,) bool; the table itself if all of them are."""
    return table if chosen.all() else np.asarray(table[chosen])


def press_table(pedals: Array, file: MidiFile) -> Array:
    """Return the presses of all tracks and channels together: values from `PRESSED` on, up to the next lower one.

    A press that is never released lasts to the end of its track, in a track without notes to the end of the file.

    Args:
        pedals: Messages of `pedal_table`.
        file: The file that they are from.

    Returns:
        `PRESSES` of shape (presses,), by pedal and start. Presses of one pedal that overlap in several tracks or
        channels are one, as deep as the deepest.
    """
    place = (pedals["pedal"].astype(np.int32) * len(file.tracks) + pedals["track"]) * 16 + pedals["channel"]
    if (place[1:] < place[:-1]).any():
        return press_table(pedals[np.argsort(place, kind="stable")], file)
    ticks, values, pedal, track = (pedals[name] for name in ("tick", "value", "pedal", "track"))
    down, is_first = values >= PRESSED, np.diff(place, prepend=-1) != 0
    is_last = np.append(is_first[1:], True)[: len(place)]
    first = np.flatnonzero(down & (is_first | ~np.append(False, down[:-1])))
    last = np.flatnonzero(down & (is_last | ~np.append(down[1:], False)))
    ends = np.zeros(len(file.tracks), np.int64)
    for number in np.unique(track).tolist():
        ends[number] = _end_of_presses(file, file.tracks[number])
    stop = np.where(
        is_last[last], np.maximum(ends[track[last]], ticks[last] + 1), ticks[np.minimum(last + 1, len(ticks) - 1)]
    )
    presses = np.empty(len(first), PRESSES)
    presses["pedal"], presses["start"], presses["end"] = pedal[first], ticks[first], stop
    presses["depth"] = np.maximum.reduceat(np.where(down, values, 0), first) if len(first) else 0
    return _united(selected(presses, stop > presses["start"]))


def releases(file: MidiFile) -> list[list[Event]]:
    """Return for each track the events that end what it leaves on at its end: notes and pedals."""
    notes, pedals = note_table(file), pedal_table(file)
    found: list[list[Event]] = [[] for _ in file.tracks]
    for note in notes[notes["off"] < 0]:
        if note["end"] >= (end := file.tracks[note["track"]].end):
            found[note["track"]].append((end, bytes([NOTE_OFF | note["channel"], note["pitch"], 64])))
    for end, track, channel, pedal in unreleased(pedals, file):
        found[track].append((end, bytes([CONTROL | channel, PEDAL_CONTROLLERS[pedal], 0])))
    return found


def unreleased(pedals: Array, file: MidiFile) -> list[tuple[int, int, int, int]]:
    """Return the end, the track, the channel and the pedal of each press that is never released."""
    place = (pedals["track"].astype(np.int64) * 16 + pedals["channel"]) * len(PEDAL_CONTROLLERS) + pedals["pedal"]
    last_of_place = np.full(place.max(initial=-1) + 1, -1)
    last_of_place[place] = np.arange(len(place))  # of several the last one is taken
    last = pedals[last_of_place[last_of_place >= 0]]
    last = last[last["value"] >= PRESSED]
    found = []
    for tick, track, channel, pedal in last[["tick", "track", "channel", "pedal"]].tolist():
        found.append((max(_end_of_presses(file, file.tracks[track]), tick + 1), track, channel, pedal))
    return found


def _end_of_presses(file: MidiFile, track: Track) -> int:
    has_notes = ((track.status & 0xF0) == NOTE_ON).any()
    return track.end if has_notes else file.end


def _united(presses: Array) -> Array:
    """Return presses with those of one pedal that overlap as one."""
    far = presses["pedal"].astype(np.int64) << 40  # past any tick, so that a press ends no press of another pedal
    begin = far + presses["start"]
    if (begin[1:] < begin[:-1]).any():
        return _united(presses[np.argsort(begin, kind="stable")])
    open_until = np.maximum.accumulate(far + presses["end"])
    first = np.flatnonzero(np.append(True, begin[1:] >= open_until[:-1])[: len(presses)])
    if len(first) == len(presses):
        return presses
    united = presses[first]
    for name in ("end", "depth"):
        united[name] = np.maximum.reduceat(presses[name], first)
    return united
