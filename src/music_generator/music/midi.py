"""Read and write MIDI files and bytes. `read_midi` and `write_midi` are inverses for the content of a `Performance`."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MidiError
from music_generator.files import replacing
from music_generator.music.performance import (
    HIGHEST_PITCH,
    LONGEST_SECONDS,
    LOWEST_PITCH,
    NOTE_DTYPE,
    PEDAL_DTYPE,
    Performance,
)
from music_generator.music.tempo_map import BEAT_UNITS, TempoMap

__all__ = ["MidiReading", "read_midi", "write_midi"]

PEDAL_CONTROLLERS = (64, 66, 67)  # sustain, sostenuto, una corda: MIDI 1.0, table III
PRESSED = 64  # a switch controller is on from this value
LAST_TICK = (1 << 31) - 1  # the MIDI library counts in int32
LONGEST_DELTA = (1 << 28) - 1  # ticks between two events: MIDI 1.0, four bytes of seven bits
DRUM_CHANNEL = 9  # counted from 0
LARGEST_BYTES = 8_500_000  # a million notes; the largest file of MAESTRO has 0.5 MB
MOST_TRACKS, MOST_PROGRAMS = 1000, 5000  # reading takes 6 kB for each track, channel and program that has a note

Array = NDArray[Any]
Origin = str | Path | None  # the file's path, None for bytes


@dataclass(frozen=True)
class MidiReading:
    """The piano performance of a MIDI file, and how much of the file is not in it.

    Attributes:
        performance: The notes on the piano's keys and the pedals of all tracks but the drums.
        drum_notes: The number of notes on channel 10, left out.
        notes_off_piano: The number of notes outside the piano's keys, left out.
        tracks: The number of tracks that have notes.
    """

    performance: Performance
    drum_notes: int = 0
    notes_off_piano: int = 0
    tracks: int = 1

    @property
    def left_out(self) -> str:
        """One line about what was left out, empty if nothing was."""
        parts = []
        if self.drum_notes:
            parts.append(f"{self.drum_notes} drum note{'s' * (self.drum_notes > 1)}")
        if self.notes_off_piano:
            plural = "s" * (self.notes_off_piano > 1)
            parts.append(f"{self.notes_off_piano} note{plural} outside the piano's keys {LOWEST_PITCH}-{HIGHEST_PITCH}")
        return f"left out {' and '.join(parts)}" if parts else ""


def read_midi(source: str | Path | bytes) -> MidiReading:
    """Read a MIDI file of type 0 or 1 as one piano performance on the file's own ticks.

    All tracks but the drums (channel 10) are joined. The pedals are the controllers 64, 66 and 67, pressed from value
    64 on; a pedal that is never released lasts to the end of its track, a note that is never released is left out.
    A file without notes gives a performance without notes.

    Args:
        source: The path of the file, or its bytes.

    Raises:
        MidiError: The file cannot be read, is not MIDI, is damaged, lasts over 24 hours or is larger than 8.5 MB.
    """
    path, data = _path_and_bytes(source)
    _check_header(path, data)
    score = _parse(path, data)
    tempo_map = _tempo_map(path, score)
    piano = [track for track in score.tracks if not track.is_drum]
    controls = [_track_controls(track) for track in piano] + _noteless_controls(data, int(score.end()))
    notes = _notes(path, piano, tempo_map)
    on_piano = (notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH)
    return MidiReading(
        performance=Performance(notes[on_piano], _pedals(path, controls, tempo_map), tempo_map),
        drum_notes=sum(len(track.notes) for track in score.tracks if track.is_drum),
        notes_off_piano=int((~on_piano).sum()),
        tracks=len(score.tracks),
    )


def write_midi(performance: Performance, path: str | Path | None = None) -> bytes:
    """Write a performance as a MIDI file of one track.

    The ticks are those of its tempo map, divided by a whole number where they are longer than 1 ms. Onsets and ends
    are rounded to the nearest tick; an event lasts at least one tick, and of events of one key that fall on one tick
    the longest stays. A pedal depth below 64 is written as 64, because less would not count as pressed.

    Args:
        performance: The performance.
        path: The file to write; None writes none.

    Returns:
        The bytes of the file.

    Raises:
        InputError: The performance lasts over 24 hours or more ticks than MIDI can count, or the file cannot be
            written.
    """
    import symusic

    tempo_map = performance.tempo_map.refined()
    if performance.end >= LONGEST_SECONDS:
        raise InputError(f"the performance lasts {performance.end / 3600:.1f} hours; MIDI is written up to 24 hours")
    _check_countable(np.array([0, *(tick for tick, *_ in (*tempo_map.tempos, *tempo_map.time_signatures))]))
    score: Any = symusic.Score(tempo_map.ticks_per_quarter)
    score.tempos = symusic.Tempo.from_numpy(*_columns(tempo_map.tempos, np.int32, np.int32))
    score.time_signatures = symusic.TimeSignature.from_numpy(
        *_columns(tempo_map.time_signatures, np.int32, np.uint8, np.uint8)
    )
    track: Any = symusic.Track("Piano", 0, False)
    track.notes = _symusic_notes(performance.notes, tempo_map)
    track.controls = _symusic_controls(performance.pedals, tempo_map)
    score.tracks.append(track)
    data = bytes(score.dumps_midi())
    if path is not None:
        with replacing(path) as beside:
            beside.write_bytes(data)
    return data


def _path_and_bytes(source: str | Path | bytes) -> tuple[Origin, bytes]:
    if isinstance(source, bytes):
        return None, source
    try:
        with Path(source).open("rb") as file:
            return source, file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise MidiError(source, "no such file") from None
    except OSError as error:
        raise MidiError(source, f"cannot be read: {error.strerror}") from error


def _check_header(path: Origin, data: bytes) -> None:
    """Refuse what the MIDI library accepts without an error and reads wrongly or with too much memory."""
    if not data:
        raise MidiError(path, "the file is empty")
    if len(data) > LARGEST_BYTES:
        raise MidiError(path, f"it is larger than {LARGEST_BYTES / 1e6} MB, which no performance is; split it")
    if data[:4] != b"MThd":
        raise MidiError(path, "not a MIDI file (it does not begin with MThd)")
    if len(data) < 14:
        raise MidiError(path, "the MIDI file is cut off in its header; export or download it again")
    form, division = int.from_bytes(data[8:10], "big"), int.from_bytes(data[12:14], "big")
    if form > 1:
        raise MidiError(path, f"MIDI type {form} is not supported; export it as type 0 or 1")
    if division == 0 or division & 0x8000:
        raise MidiError(path, f"its time division {division:#06x} is not in ticks per quarter note; export it so")
    chunks = _track_chunks(data)
    announced, present = int.from_bytes(data[10:12], "big"), len(chunks)
    if present < announced:
        there = f"{present} of the {announced} tracks that its header announces"
        raise MidiError(path, f"the MIDI file is cut off: it has {there}; export or download it again")
    if present > MOST_TRACKS:
        raise MidiError(path, f"it has {present} tracks, at most {MOST_TRACKS} are read; export it with fewer")
    # the library makes a track of each program's notes; a delta of 8192 ticks may be counted as a change too
    if sum(1 for _ in re.finditer(rb"[\xc0-\xcf][\x00-\x7f]", data)) > MOST_PROGRAMS:
        raise MidiError(path, f"it changes programs over {MOST_PROGRAMS} times; export it with the piano alone")


def _track_chunks(data: bytes) -> list[bytes]:
    chunks, start = [], 8 + int.from_bytes(data[4:8], "big")
    while start + 8 <= len(data):
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
        if data[start : start + 4] == b"MTrk":
            chunks.append(data[start + 8 : end])
        start = end
    return chunks


def _parse(path: Origin, data: bytes) -> Any:
    import symusic

    try:
        return symusic.Score.from_midi(data)
    except Exception as error:  # the library does not document its error classes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MidiError(path, f"the MIDI file is damaged or cut off ({reason}); export or download it again") from error


def _tempo_map(path: Origin, score: Any) -> TempoMap:
    tempos = score.tempos.numpy()
    ticks, lengths = tempos["time"].astype(np.int64), tempos["mspq"].astype(np.int64)
    impossible = (lengths <= 0) | (lengths >= 1 << 24) | (ticks < 0)
    if impossible.any():
        raise MidiError(path, f"it has an impossible tempo of {lengths[impossible][0]} microseconds per quarter note")
    signs = score.time_signatures.numpy()
    start, top, bottom = (signs[key].astype(np.int64) for key in ("time", "numerator", "denominator"))
    kept = (start >= 0) & (top > 0) & np.isin(bottom, BEAT_UNITS)
    signatures = zip(*(column[kept].tolist() for column in (start, top, bottom)), strict=True)
    return TempoMap(
        int(score.ticks_per_quarter),
        # 120 quarters a minute until another tempo is set; of several on one tick the last one counts
        tuple(sorted({0: 500_000, **dict(zip(ticks.tolist(), lengths.tolist(), strict=True))}.items())),
        tuple(sorted({signature[0]: signature for signature in signatures}.values())),
    )


def _seconds(path: Origin, ticks: Array, tempo_map: TempoMap) -> Array:
    if len(ticks) and ticks.min() < 0:
        raise MidiError(path, "it lasts longer than its ticks can count")
    seconds = tempo_map.ticks_to_seconds(ticks)
    if len(seconds) and not seconds.max() < LONGEST_SECONDS:
        raise MidiError(path, "it lasts longer than 24 hours, which no performance does")
    return seconds


def _notes(path: Origin, tracks: list[Any], tempo_map: TempoMap) -> Array:
    columns = [track.notes.numpy() for track in tracks]
    if not columns:
        return np.empty(0, NOTE_DTYPE)
    onset, duration, pitch, velocity = (
        np.concatenate([column[key] for column in columns]).astype(np.int64)
        for key in ("time", "duration", "pitch", "velocity")
    )
    notes = np.empty(len(onset), NOTE_DTYPE)
    notes["onset"] = _seconds(path, onset, tempo_map)
    notes["duration"] = _seconds(path, onset + np.maximum(duration, 1), tempo_map) - notes["onset"]
    notes["pitch"], notes["velocity"] = pitch, velocity
    return notes[velocity > 0]


@dataclass(frozen=True)
class _Controls:
    """The controller messages of one track and channel in their order; an open press ends at tick `end`."""

    ticks: Array
    numbers: Array
    values: Array
    end: int


def _track_controls(track: Any) -> _Controls:
    columns = track.controls.numpy()
    return _Controls(columns["time"].astype(np.int64), columns["number"], columns["value"], int(track.end()) + 1)


def _noteless_controls(data: bytes, end: int) -> list[_Controls]:
    """Read the pedals of the tracks without notes, which the MIDI library leaves out."""
    found = []
    for chunk in _track_chunks(data):
        ticks, messages = _pedal_messages(chunk)
        channels, numbers, values = np.frombuffer(messages, np.uint8).reshape(-1, 3).T
        for channel in np.unique(channels):
            own = channels == channel
            its_ticks = np.frombuffer(ticks, np.int64)[own]
            found.append(_Controls(its_ticks, numbers[own], values[own], max(end, int(its_ticks[-1])) + 1))
    return found


def _pedal_messages(chunk: bytes) -> tuple[array[int], bytearray]:
    """Return the ticks of a track's pedal messages, and channel, controller and value of each; none if it has notes."""
    ticks, messages = array("q"), bytearray()
    if not re.search(rb"[\xb0-\xbf]", chunk):  # no controller at all
        return ticks, messages
    tick = at = status = 0
    length = len(chunk)
    chunk += bytes(8)  # a message that is cut off reads as zeros
    while at < length:
        delta = chunk[at]
        if delta < 0x80:
            at += 1
        else:
            delta, at = _variable_length(chunk, at)
        tick += delta
        first = chunk[at]
        if first >= 0xF0:  # a meta event, which has a type byte, or a system exclusive one: its length, then its data
            skipped, at = _variable_length(chunk, at + 1 + (first == 0xFF))
            at += skipped
            continue
        if first >= 0x80:
            status, at = first, at + 1
        kind = status & 0xF0
        if kind == 0xB0 and chunk[at] in PEDAL_CONTROLLERS and status != 0xB0 | DRUM_CHANNEL:
            ticks.append(tick)
            messages += bytes((status & 0x0F, chunk[at], chunk[at + 1] & 0x7F))
        elif kind == 0x90 and chunk[at + 1]:
            return array("q"), bytearray()
        at += 1 if kind in (0xC0, 0xD0) else 2
    return ticks, messages


def _variable_length(chunk: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length (seven bits a byte, the last byte below 128); return it and where it ends."""
    value = 0
    for byte in chunk[at : at + 4]:
        value, at = value << 7 | byte & 0x7F, at + 1
        if byte < 0x80:
            break
    return value, at


def _pedals(path: Origin, tracks: list[_Controls], tempo_map: TempoMap) -> Array:
    """Join the pedal presses of all tracks."""
    if not tracks:
        return np.empty(0, PEDAL_DTYPE)
    pedal, start, stop, depth = _united(*_presses(tracks))
    pedals = np.empty(len(start), PEDAL_DTYPE)
    pedals["onset"] = _seconds(path, start, tempo_map)
    pedals["duration"] = _seconds(path, stop, tempo_map) - pedals["onset"]
    pedals["pedal"], pedals["depth"] = pedal, depth
    return pedals


def _presses(tracks: list[_Controls]) -> tuple[Array, Array, Array, Array]:
    """Return pedal, start and end tick and largest value of each press: values from `PRESSED` on in one track.

    All tracks at once, because a file may have a thousand of them.
    """
    numbers, ticks, values = (
        np.concatenate([getattr(track, name) for track in tracks]) for name in ("numbers", "ticks", "values")
    )
    track = np.repeat(np.arange(len(tracks), dtype=np.int32), [len(track.ticks) for track in tracks])
    of_pedal = np.isin(numbers, PEDAL_CONTROLLERS)
    ticks, values = ticks[of_pedal], values[of_pedal]
    pedal = np.searchsorted(PEDAL_CONTROLLERS, numbers[of_pedal]).astype(np.int32)
    group = track[of_pedal] * np.int32(len(PEDAL_CONTROLLERS)) + pedal
    order = np.lexsort((ticks, group))  # stable: messages of one tick keep their order
    group, ticks, values = group[order], ticks[order], values[order]
    down, is_first = values >= PRESSED, np.diff(group, prepend=-1) != 0
    is_last = np.append(is_first[1:], True)  # in its group
    first = np.flatnonzero(down & (is_first | ~np.append(False, down[:-1])))
    last = np.flatnonzero(down & (is_last | ~np.append(down[1:], False)))
    track_end = np.array([track.end for track in tracks], np.int64)[group[last] // len(PEDAL_CONTROLLERS)]
    stop = np.where(is_last[last], np.maximum(track_end, ticks[last] + 1), np.append(ticks, 0)[last + 1])
    depth = np.maximum.reduceat(np.where(down, values, 0), first) if len(first) else values[:0]
    kept = stop > ticks[first]
    first = first[kept]
    pedal = group[first] % len(PEDAL_CONTROLLERS)
    return pedal.astype(np.int64), ticks[first], stop[kept], np.minimum(depth, 127)[kept]


def _united(pedal: Array, start: Array, stop: Array, depth: Array) -> tuple[Array, Array, Array, Array]:
    """Unite presses of one pedal that overlap in several tracks; the depth is that of the deepest."""
    if not len(start):
        return pedal, start, stop, depth
    order = np.lexsort((start, pedal))
    pedal, start, stop, depth = pedal[order], start[order], stop[order], depth[order]
    far = pedal << 40  # past any tick, so that a press ends no press of another pedal
    open_until = np.maximum.accumulate(far + stop)
    first = np.flatnonzero(np.append(True, (far + start)[1:] >= open_until[:-1]))
    return pedal[first], start[first], np.maximum.reduceat(stop, first), np.maximum.reduceat(depth, first)


def _on_ticks(events: Array, key: str, tempo_map: TempoMap) -> tuple[Array, Array, Array]:
    """Return the events by key, their start ticks and their end ticks.

    An event lasts at least one tick and ends where its key is struck again. Of events of one key that fall on one
    tick the longest stays.
    """
    start = tempo_map.seconds_to_ticks(events["onset"])
    end = np.maximum(tempo_map.seconds_to_ticks(events["onset"] + events["duration"]), start + 1)
    order = np.lexsort((-end, start, events[key]))
    events, start, end = events[order], start[order], end[order]
    single = (np.diff(events[key], prepend=-1) != 0) | (np.diff(start, prepend=-1) != 0)
    events, start, end = events[single], start[single], end[single]
    again = events[key][1:] == events[key][:-1]
    end[:-1] = np.where(again, np.minimum(end[:-1], start[1:]), end[:-1])
    _check_countable(np.concatenate([[0], start, end]))
    return events, start, end


def _check_countable(ticks: Array) -> None:
    if ticks.max() > LAST_TICK or np.diff(np.sort(ticks)).max(initial=0) > LONGEST_DELTA:
        raise InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`")


def _columns(rows: tuple[tuple[int, ...], ...], *types: type) -> list[Array]:
    """Return each column of rows of whole numbers as an array of its own type."""
    table = np.array(rows, np.int64).reshape(-1, len(types))
    return [table[:, i].astype(type_) for i, type_ in enumerate(types)]


def _symusic_notes(notes: Array, tempo_map: TempoMap) -> Any:
    import symusic

    notes, start, end = _on_ticks(notes, "pitch", tempo_map)
    columns = start.astype(np.int32), (end - start).astype(np.int32)
    return symusic.Note.from_numpy(*columns, notes["pitch"].astype(np.int8), notes["velocity"].astype(np.int8))


def _symusic_controls(pedals: Array, tempo_map: TempoMap) -> Any:
    """Return each press as two controls, its depth and 0; on one tick a release comes before the next press."""
    import symusic

    pedals, start, end = _on_ticks(pedals, "pedal", tempo_map)
    ticks = np.concatenate([end, start])
    numbers = np.tile(np.asarray(PEDAL_CONTROLLERS, np.uint8)[pedals["pedal"]], 2)
    values = np.concatenate([np.zeros(len(end), np.uint8), np.maximum(pedals["depth"], PRESSED).astype(np.uint8)])
    order = np.argsort(ticks, kind="stable")
    return symusic.ControlChange.from_numpy(ticks[order].astype(np.int32), numbers[order], values[order])
