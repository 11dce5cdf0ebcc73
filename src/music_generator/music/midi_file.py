"""MIDI files as tracks of events with their own bytes, so that what is not changed is written as it was read.

The format: Standard MIDI Files 1.0 (RP-001), and MIDI 1.0 for the messages.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MidiError

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0  # status bytes, without the channel
SYSEX, CONTINUATION, META = 0xF0, 0xF7, 0xFF
TRACK_NAME, END_OF_TRACK, TEMPO, TIME_SIGNATURE = 0x03, 0x2F, 0x51, 0x58  # types of meta events
LARGEST_BYTES = 8_500_000  # a million notes; the largest file of MAESTRO has 0.5 MB
MOST_TRACKS = 1000
JUMPS = 3  # measured: fewer or more are slower
LARGE_BYTES = 1 << 20  # a track so large is walked event by event: its jumps would take too much memory
LONGEST_DELTA = (1 << 28) - 1  # ticks between two events: four bytes of seven bits

Array = NDArray[Any]
Event = tuple[int, bytes]
"""The tick of an event, and its bytes with the status byte and without the delta time."""


@dataclass(frozen=True, eq=False, repr=False)
class Track:
    """A track and its events, in their order. All arrays have the shape (events,).

    Attributes:
        kind: The name of the chunk; a chunk that is no track has no events.
        data: The bytes of the chunk.
        ticks: int64: the tick of each event.
        status: uint8: the status byte, also where the file leaves it out (running status).
        first, second: uint8: the data bytes of a channel message; the type and the length of a meta event.
        starts, ends: int64: where the bytes of the event begin, after its delta time, and where they end.
    """

    kind: bytes
    data: bytes
    ticks: Array
    status: Array
    first: Array
    second: Array
    starts: Array
    ends: Array

    def __repr__(self) -> str:
        return f"<Track of {len(self.ticks)} events>"

    def event(self, i: int) -> bytes:
        """Return the bytes of an event, with its status byte and without its delta time."""
        message = self.data[self.starts[i] : self.ends[i]]
        return message if message[0] >= 0x80 else bytes([self.status[i]]) + message

    def events(self) -> list[Event]:
        """Return all events; `make_track` is the inverse."""
        return [(tick, self.event(i)) for i, tick in enumerate(self.ticks.tolist())]

    def metas(self, kind: int) -> list[Event]:
        """Return the meta events of a type, each as its tick and its data."""
        found = np.flatnonzero((self.status == META) & (self.first == kind))
        return [(int(self.ticks[i]), _meta_data(self.event(i))) for i in found.tolist()]

    @property
    def end(self) -> int:
        """The tick of the last event; 0 without events."""
        return int(self.ticks[-1]) if len(self.ticks) else 0

    @property
    def uses_running_status(self) -> bool:
        """Whether status bytes that repeat the one before are left out."""
        data = np.frombuffer(self.data, np.uint8)
        return bool(len(self.starts) and (data[self.starts] < 0x80).any())

    @property
    def name(self) -> str:
        """The name that the file gives the track; empty without one."""
        names = self.metas(TRACK_NAME)
        return names[0][1].decode("utf-8", "replace").strip("\0 ") if names else ""


@dataclass(frozen=True, eq=False, repr=False)
class MidiFile:
    """A MIDI file.

    Attributes:
        form: Its type: 0, 1 or 2.
        division: The time division of its header.
        chunks: Its tracks, and chunks of other kinds, in their order.
        faults: What was wrong with the file and was mended in reading, in words.
    """

    form: int
    division: int
    chunks: tuple[Track, ...]
    faults: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<MidiFile of {len(self.tracks)} tracks>"

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks."""
        return tuple(chunk for chunk in self.chunks if chunk.kind == b"MTrk")

    @property
    def end(self) -> int:
        """The last tick of all tracks."""
        return max((track.end for track in self.tracks), default=0)

    def with_tracks(self, tracks: Iterable[Track]) -> MidiFile:
        """Return the file with other tracks in the places of its own, further ones behind them."""
        given = iter(tracks)
        chunks = [next(given) if chunk.kind == b"MTrk" else chunk for chunk in self.chunks]
        return replace(self, chunks=(*chunks, *given))

    def to_bytes(self, tracks: Iterable[bytes] | None = None) -> bytes:
        """Return the bytes of the file; `parse_midi` is the inverse.

        Args:
            tracks: The bytes of each of its tracks, instead of its own.
        """
        numbers = (self.form, len(self.tracks), self.division)
        parts = [b"MThd" + (6).to_bytes(4, "big") + b"".join(number.to_bytes(2, "big") for number in numbers)]
        given = iter(tracks or (track.data for track in self.tracks))
        for chunk in self.chunks:
            data = next(given) if chunk.kind == b"MTrk" else chunk.data
            parts += [chunk.kind, len(data).to_bytes(4, "big"), data]
        return b"".join(parts)


def parse_midi(data: bytes, path: Any = None) -> MidiFile:
    """Return the tracks and events of a MIDI file.

    Faults that leave no doubt about the events are mended and named in `faults`: a wrong number of tracks or length of
    a track, a RIFF envelope (RMID), bytes after the end of a track.

    Args:
        data: The bytes of the file.
        path: Where they come from, for errors.

    Raises:
        MidiError: It is not MIDI, is cut off or damaged, has over 8.5 MB or over 1000 tracks.
    """
    if not data:
        raise MidiError(path, "the file is empty")
    if len(data) > LARGEST_BYTES:
        raise MidiError(path, f"it is larger than {LARGEST_BYTES / 1e6} MB, which no performance is; split it")
    faults = []
    if data[:4] == b"RIFF" and b"MThd" in data[:64]:
        data = data[data.index(b"MThd") :]
        faults.append("it is a MIDI file within a RIFF file")
    if data[:4] != b"MThd":
        raise MidiError(path, "not a MIDI file (it does not begin with MThd)")
    if len(data) < 14:
        raise MidiError(path, "the MIDI file is cut off in its header; export or download it again")
    form, announced, division = (int.from_bytes(data[at : at + 2], "big") for at in (8, 10, 12))
    chunks, faults_of_chunks, complete = _chunks(path, data)
    faults += faults_of_chunks
    tracks = []
    for kind, chunk in chunks:
        track, fault = _track(path, kind, chunk)
        tracks.append(track)
        faults += fault
    file = MidiFile(form, division, tuple(tracks))
    last = file.tracks[-1] if file.tracks else None
    if (announced and last is None) or not (complete or (len(file.tracks) >= announced and _is_ended(last))):
        raise MidiError(path, _CUT_OFF)
    if len(file.tracks) != announced:
        faults.append(f"its header announces {announced} tracks, not the {len(file.tracks)} that it has")
    return replace(file, faults=tuple(faults))


def _is_ended(track: Track | None) -> bool:
    return bool(track is not None and len(track.ticks) and track.status[-1] == META and track.first[-1] == END_OF_TRACK)


def make_track(events: Iterable[Event], *, running_status: bool = False) -> Track:
    """Return the track of events, which are in their order and end with an end of track.

    Args:
        events: The events; their ticks must not fall.
        running_status: Leave out status bytes that repeat the one before.

    Raises:
        InputError: More ticks than MIDI can count lie between two events.
    """
    parts, now, before = [], 0, 0
    for tick, message in events:
        if tick - now > LONGEST_DELTA:
            raise InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`")
        parts.append(variable_length(tick - now))
        repeated = running_status and message[0] == before
        parts.append(message[1:] if repeated else message)
        now, before = tick, message[0] if message[0] < SYSEX else 0
    return parse_track(b"".join(parts))


def parse_track(data: bytes) -> Track:
    """Return the track of the bytes of a chunk."""
    return _track(None, b"MTrk", data)[0]


def meta(kind: int, data: bytes) -> bytes:
    """Return a meta event."""
    return bytes([META, kind]) + variable_length(len(data)) + data


def tempo_event(tempo: int) -> bytes:
    """Return the event of a tempo in microseconds per quarter note."""
    return meta(TEMPO, tempo.to_bytes(3, "big"))


def metre_event(top: int, bottom: int) -> bytes:
    """Return the event of a time signature: `top` over `bottom`, a power of two, and a click a quarter note."""
    return meta(TIME_SIGNATURE, bytes([top, bottom.bit_length() - 1, 24, 8]))


def is_end(message: bytes) -> bool:
    """Return whether an event is the end of a track."""
    return message[0] == META and message[1] == END_OF_TRACK


def variable_length(value: int) -> bytes:
    """Return a number as seven bits a byte, all bytes but the last from 128 on."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def _meta_data(message: bytes) -> bytes:
    at = 2
    while message[at] >= 0x80:
        at += 1
    return message[at + 1 :]


def _chunks(path: Any, data: bytes) -> tuple[list[tuple[bytes, bytes]], list[str], bool]:
    """Return the name and the bytes of each chunk after the header, what was wrong, and whether all bytes are there."""
    chunks, faults = list[tuple[bytes, bytes]](), []
    at = 8 + int.from_bytes(data[4:8], "big")
    while at + 8 <= len(data):
        kind, begin = data[at : at + 4], at + 8
        at = begin + int.from_bytes(data[at + 4 : begin], "big")
        if kind == b"MTrk" and at != len(data) and not _may_be_chunk(data[at : at + 8]):
            following = data.find(b"MTrk", begin)
            if following >= 0 or at < len(data):
                at = len(data) if following < 0 else following
                faults.append(f"the length of track {len(chunks) + 1} is wrong")
        chunks.append((kind, data[begin:at]))
        if len(chunks) > MOST_TRACKS:
            raise MidiError(path, f"it has over {MOST_TRACKS} tracks; export it with fewer")
    return chunks, faults, at == len(data)


def _may_be_chunk(header: bytes) -> bool:
    """Return whether a chunk begins here, or did before the file was cut off."""
    return header[:4].isalnum() if len(header) == 8 else b"MTrk".startswith(header[:4])


_SIZES = np.zeros(256, np.int32)  # bytes of a message that begins with a byte; a data byte repeats the last status
_SIZES[:0x80], _SIZES[0x80:0xC0], _SIZES[0xC0:0xE0], _SIZES[0xE0:0xF0] = 2, 3, 2, 3
_SIZES[0xF0:] = (0, 2, 3, 2, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0)  # 0: followed by a length
_CUT_OFF = "the MIDI file is cut off or damaged; export or download it again"


def _track(path: Any, kind: bytes, data: bytes) -> tuple[Track, list[str]]:
    """Return a chunk's events, and what was wrong with it."""
    if kind != b"MTrk":
        return _without_events(kind, data), []
    padded = np.frombuffer(data + bytes(16), np.uint8)
    message, following = _steps(padded, len(data))
    places = _walk(following, len(data))
    byte = padded.take(message.take(places[:-1]))
    if ((byte[:-1] & 0xE0 == PROGRAM) & (byte[1:] < 0x80)).any():
        places = _walk_with_programs(data, message, following)
    begins, ends = places[:-1], places[1:]
    if not len(begins):
        return _without_events(kind, data), []
    starts = message.take(begins)
    status, own = _statuses(padded.take(starts))
    data_begins = starts + own
    first, second = padded.take(data_begins), padded.take(data_begins + 1)
    broken = (ends > len(data)) | (status < 0x80)
    count, faults = len(starts), list[str]()
    if broken.any():
        finished = np.flatnonzero((status == META) & (first == END_OF_TRACK))
        if not len(finished) or finished[0] >= np.argmax(broken):
            raise MidiError(path, _CUT_OFF)
        count = int(finished[0]) + 1
        faults = [f"{len(data) - int(ends[count - 1])} bytes after the end of a track are left out"]
    ticks = np.cumsum(_variable_lengths(padded, begins)[0])
    columns = [column[:count] for column in (ticks, status, first, second, starts, ends)]
    return Track(kind, data[: ends[count - 1]], *columns), faults


def _statuses(byte: Array) -> tuple[Array, Array]:
    """Return the status byte of each event, below 128 where it has none, and whether its first byte is one."""
    own = byte >= 0x80
    if own.all():
        return byte, own
    last = np.maximum.accumulate(np.where(own & (byte < SYSEX), np.arange(len(byte)), -1))
    return np.where(own, byte, np.where(last < 0, 0, byte[last])), own


def _without_events(kind: bytes, data: bytes) -> Track:
    return Track(kind, data, *[np.empty(0, np.int64) for _ in range(6)])


def _steps(padded: Array, size: int) -> tuple[Array, Array]:
    """Return for each byte, as if an event began there, where its message and where the next event would begin.

    Returns:
        Two int32 arrays of shape (size,). Running status is taken as that of messages of two data bytes.
    """
    more = padded[: size + 3] >= 0x80
    message = np.arange(1, size + 1, dtype=np.int32)
    longer = more[:size].copy()
    for i in range(1, 4):  # a delta time has up to four bytes
        message += longer
        longer &= more[i : size + i]
    byte = padded.take(message)  # twice as fast as an index of int32
    following = message + _SIZES.take(byte)
    sized = np.flatnonzero((byte == META) | (byte == SYSEX) | (byte == CONTINUATION))
    at = np.minimum(message[sized] + 1 + (byte[sized] == META), size)
    value, width = _variable_lengths(padded, at)
    following[sized] = np.minimum(at + width + value, size + 1)
    return message, following


def _variable_lengths(padded: Array, at: Array) -> tuple[Array, Array]:
    """Return the numbers of variable length that begin at some bytes, and their widths in bytes, int64."""
    byte = padded[at]
    value, width, left = (byte & 0x7F).astype(np.int64), np.ones(len(at), np.int64), np.flatnonzero(byte >= 0x80)
    for i in range(1, 4):
        byte = padded[at[left] + i]
        value[left] = value[left] << 7 | byte & 0x7F
        width[left] += 1
        left = left[byte >= 0x80]
    return value, width


def _walk(following: Array, size: int) -> Array:
    """Return where the events of a track begin, from byte 0 on, and behind them where the last one ends.

    By pointer jumping, as a loop in Python takes four times as long: the step over `1 << JUMPS` events is walked in
    Python, and the places between are looked up.
    """
    step = np.append(np.minimum(following, size + 1), [size, size + 1]).astype(np.int32)  # the end leads to itself
    steps = [step]
    for _ in range(JUMPS if size < LARGE_BYTES else 0):
        steps.append(steps[-1].take(steps[-1]))
    leap, at, begun = steps.pop().data, 0, array("i")
    begin = begun.append
    while at < size:
        begin(at)
        at = leap[at]
    places = np.array(begun, np.int32)
    for step in reversed(steps):
        places = np.stack([places, step.take(places)], axis=1).ravel()
    inside = int(np.searchsorted(places, size))
    return np.append(places[:inside], min(int(following[places[inside - 1]]), size + 1)) if inside else places[:0]


def _walk_with_programs(data: bytes, message: Array, following: Array) -> Array:
    """Return what `_walk` does, also where program changes or channel pressures leave their status byte out."""
    places, at, size, one_byte = array("i", [0]), 0, len(data), False
    messages, steps = message.data, following.data
    while at < size:
        start = messages[at]
        byte = data[start] if start < size else 0
        if 0x80 <= byte < SYSEX:
            one_byte = byte & 0xE0 == PROGRAM
        at = start + 1 if one_byte and byte < 0x80 else steps[at]
        places.append(at)
    return np.array(places, np.int32)
