"""Read and write MIDI files and bytes. `read_midi` and `write_midi` are inverses on what a `Performance` holds."""

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
    LOWEST_PITCH,
    NOTE_DTYPE,
    NOTE_VALUES,
    PEDAL_DTYPE,
    Performance,
    TempoMap,
)

__all__ = ["MidiReading", "read_midi", "write_midi"]

CONTROLLERS = (64, 66, 67)  # of sustain, sostenuto, una corda: MIDI 1.0, table III
PRESSED = 64  # a switch controller is on from this value
LONGEST_SECONDS = 24 * 3600.0
LAST_TICK = (1 << 31) - 1  # as the MIDI library counts
LONGEST_DELTA = (1 << 28) - 1  # ticks between two events: MIDI 1.0, four bytes of seven bits
DRUM_CHANNEL = 9  # counted from 0
LARGEST_BYTES = 8_500_000  # of a file: a million notes; the largest of MAESTRO has 0.5 MB
MOST_TRACKS, MOST_PROGRAMS = 1000, 5000  # each track, channel and program that has a note takes 6 kB to read

Array = NDArray[Any]


@dataclass(frozen=True)
class MidiReading:
    """What a MIDI file holds: the piano performance, and the count of what it does not take in."""

    performance: Performance
    drum_notes: int = 0
    notes_off_piano: int = 0
    tracks: int = 1

    @property
    def left_out(self) -> str:
        """One line on what was left out, empty if nothing was."""
        said = []
        if self.drum_notes:
            said.append(f"{self.drum_notes} drum note{'s' * (self.drum_notes > 1)}")
        if self.notes_off_piano:
            plural = "s" * (self.notes_off_piano > 1)
            said.append(f"{self.notes_off_piano} note{plural} outside the piano's keys {LOWEST_PITCH}-{HIGHEST_PITCH}")
        return f"left out {' and '.join(said)}" if said else ""


def read_midi(source: str | Path | bytes) -> MidiReading:
    """Read a MIDI file (type 0 or 1), or its bytes, as one piano performance on the file's own ticks.

    All tracks but the drums (channel 10) are taken together; the pedals are the controllers 64, 66 and 67,
    pressed from value 64 on; a pedal that is never released is held to the end of its track, a note that is never
    released is left out. A file without notes gives a performance without notes.

    Raises `MidiError` if it cannot be read, is not MIDI, is damaged, lasts over 24 hours or is larger than 8.5 MB.
    """
    name, data = _name_and_bytes(source)
    _check_header(name, data)
    score = _parse(name, data)
    tempo_map = _tempo_map(name, score)
    piano = [track for track in score.tracks if not track.is_drum]
    controls = [_track_controls(track) for track in piano] + _noteless_controls(data, int(score.end()))
    notes = _notes(name, piano, tempo_map)
    on_piano = (notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH)
    return MidiReading(
        performance=Performance(notes[on_piano], _pedals(name, controls, tempo_map), tempo_map),
        drum_notes=sum(len(track.notes) for track in score.tracks if track.is_drum),
        notes_off_piano=int((~on_piano).sum()),
        tracks=len(score.tracks),
    )


def write_midi(performance: Performance, path: str | Path | None = None) -> bytes:
    """The performance as the bytes of a MIDI file of one track, written to `path` if one is given.

    It lies on the ticks of its own tempo map, divided into whole fractions where they are longer than 1 ms;
    onsets and ends are rounded to the nearest tick, and a event lasts at least one tick; of events of one key that
    fall on one tick the longest stays. A pedal less deep than 64 is written as 64, for it would not count as pressed.

    Raises `InputError` if it is longer than 24 hours or than MIDI's ticks can count, or the file cannot be written.
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


def _name_and_bytes(source: str | Path | bytes) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return "these bytes", source
    try:
        with Path(source).open("rb") as file:
            return str(source), file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise MidiError(f"{source}: no such file") from None
    except OSError as error:
        raise MidiError(f"{source}: cannot be read: {error.strerror}") from error


def _check_header(name: str, data: bytes) -> None:
    """What the MIDI library would take in silence is refused here."""
    if not data:
        raise MidiError(f"{name}: the file is empty")
    if len(data) > LARGEST_BYTES:
        raise MidiError(f"{name}: it is larger than {LARGEST_BYTES / 1e6} MB, which no performance is; split it")
    if data[:4] != b"MThd":
        raise MidiError(f"{name}: not a MIDI file (it does not begin with MThd)")
    if len(data) < 14:
        raise MidiError(f"{name}: the MIDI file is cut off in its header; export or download it again")
    form, division = int.from_bytes(data[8:10], "big"), int.from_bytes(data[12:14], "big")
    if form > 1:
        raise MidiError(f"{name}: MIDI type {form} is not supported; export it as type 0 or 1")
    if division == 0 or division & 0x8000:
        raise MidiError(f"{name}: its time division {division:#06x} is not in ticks per quarter note; export it so")
    chunks = _track_chunks(data)
    announced, present = int.from_bytes(data[10:12], "big"), len(chunks)
    if present < announced:
        there = f"{present} of the {announced} tracks that its header announces"
        raise MidiError(f"{name}: the MIDI file is cut off: it has {there}; export or download it again")
    if present > MOST_TRACKS:
        raise MidiError(f"{name}: it has {present} tracks, at most {MOST_TRACKS} are read; export it with fewer")
    # the library takes a program's notes for a track of their own; a wait of 8192 ticks may look like a change too
    if sum(1 for _ in re.finditer(rb"[\xc0-\xcf][\x00-\x7f]", data)) > MOST_PROGRAMS:
        raise MidiError(f"{name}: it changes programs over {MOST_PROGRAMS} times; export it with the piano alone")


def _track_chunks(data: bytes) -> list[bytes]:
    chunks, start = [], 8 + int.from_bytes(data[4:8], "big")
    while start + 8 <= len(data):
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
        if data[start : start + 4] == b"MTrk":
            chunks.append(data[start + 8 : end])
        start = end
    return chunks


def _parse(name: str, data: bytes) -> Any:
    import symusic

    try:
        return symusic.Score.from_midi(data)
    except Exception as error:  # the library's own error classes are not a promise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MidiError(
            f"{name}: the MIDI file is damaged or cut off ({reason}); export or download it again"
        ) from error


def _tempo_map(name: str, score: Any) -> TempoMap:
    tempos = score.tempos.numpy()
    ticks, lengths = tempos["time"].astype(np.int64), tempos["mspq"].astype(np.int64)
    impossible = (lengths <= 0) | (lengths >= 1 << 24) | (ticks < 0)
    if impossible.any():
        raise MidiError(f"{name}: it has an impossible tempo of {lengths[impossible][0]} microseconds per quarter note")
    signs = score.time_signatures.numpy()
    start, top, bottom = (signs[key].astype(np.int64) for key in ("time", "numerator", "denominator"))
    kept = (start >= 0) & (top > 0) & np.isin(bottom, NOTE_VALUES)
    signatures = zip(*(column[kept].tolist() for column in (start, top, bottom)), strict=True)
    return TempoMap(
        int(score.ticks_per_quarter),
        # MIDI's tempo until another is set; of several on one tick the last holds
        tuple(sorted({0: 500_000, **dict(zip(ticks.tolist(), lengths.tolist(), strict=True))}.items())),
        tuple(sorted({signature[0]: signature for signature in signatures}.values())),
    )


def _seconds(name: str, ticks: Array, tempo_map: TempoMap) -> Array:
    if len(ticks) and ticks.min() < 0:
        raise MidiError(f"{name}: it lasts longer than its ticks can count")
    seconds = tempo_map.ticks_to_seconds(ticks)
    if len(seconds) and not seconds.max() < LONGEST_SECONDS:
        raise MidiError(f"{name}: it lasts longer than 24 hours, which no performance does")
    return seconds


def _notes(name: str, tracks: list[Any], tempo_map: TempoMap) -> Array:
    columns = [track.notes.numpy() for track in tracks]
    if not columns:
        return np.empty(0, NOTE_DTYPE)
    onset, duration, pitch, velocity = (
        np.concatenate([column[key] for column in columns]).astype(np.int64)
        for key in ("time", "duration", "pitch", "velocity")
    )
    notes = np.empty(len(onset), NOTE_DTYPE)
    notes["onset"] = _seconds(name, onset, tempo_map)
    notes["duration"] = _seconds(name, onset + np.maximum(duration, 1), tempo_map) - notes["onset"]
    notes["pitch"], notes["velocity"] = pitch, velocity
    return notes[velocity > 0]


@dataclass(frozen=True)
class _Controls:
    """The controller messages of one track and channel in their order; `end`: the tick that ends an open press."""

    ticks: Array
    numbers: Array
    values: Array
    end: int


def _track_controls(track: Any) -> _Controls:
    columns = track.controls.numpy()
    return _Controls(columns["time"].astype(np.int64), columns["number"], columns["value"], int(track.end()) + 1)


def _noteless_controls(data: bytes, end: int) -> list[_Controls]:
    """The pedals of tracks that hold no note: the MIDI library leaves such tracks out."""
    found = []
    for chunk in _track_chunks(data):
        ticks, messages = _pedal_messages(chunk)
        channels, numbers, values = np.frombuffer(messages, np.uint8).reshape(-1, 3).T
        for channel in np.unique(channels):
            mine = channels == channel
            its_ticks = np.frombuffer(ticks, np.int64)[mine]
            found.append(_Controls(its_ticks, numbers[mine], values[mine], max(end, int(its_ticks[-1])) + 1))
    return found


def _pedal_messages(chunk: bytes) -> tuple[array[int], bytearray]:
    """The ticks of a track's pedal messages, and channel, controller and value of each; none if it holds a note."""
    ticks, messages = array("q"), bytearray()
    if not re.search(rb"[\xb0-\xbf]", chunk):  # no controller at all
        return ticks, messages
    tick = at = status = 0
    length = len(chunk)
    chunk += bytes(8)  # so that what is cut off reads as zeros
    while at < length:
        delta = chunk[at]
        if delta < 0x80:
            at += 1
        else:
            delta, at = _variable_length(chunk, at)
        tick += delta
        first = chunk[at]
        if first >= 0xF0:  # a meta event (with a type byte) or a system exclusive one: its length, then its data
            skipped, at = _variable_length(chunk, at + 1 + (first == 0xFF))
            at += skipped
            continue
        if first >= 0x80:
            status, at = first, at + 1
        kind = status & 0xF0
        if kind == 0xB0 and chunk[at] in CONTROLLERS and status != 0xB0 | DRUM_CHANNEL:
            ticks.append(tick)
            messages += bytes((status & 0x0F, chunk[at], chunk[at + 1] & 0x7F))
        elif kind == 0x90 and chunk[at + 1]:
            return array("q"), bytearray()
        at += 1 if kind in (0xC0, 0xD0) else 2
    return ticks, messages


def _variable_length(chunk: bytes, at: int) -> tuple[int, int]:
    """A number in MIDI's variable length (seven bits a byte, the last below 128), and where it ends."""
    value = 0
    for byte in chunk[at : at + 4]:
        value, at = value << 7 | byte & 0x7F, at + 1
        if byte < 0x80:
            break
    return value, at


def _pedals(name: str, tracks: list[_Controls], tempo_map: TempoMap) -> Array:
    """All tracks at once, for a file may have 65,535 of them."""
    if not tracks:
        return np.empty(0, PEDAL_DTYPE)
    pedal, start, stop, depth = _united(*_presses(tracks))
    pedals = np.empty(len(start), PEDAL_DTYPE)
    pedals["onset"] = _seconds(name, start, tempo_map)
    pedals["duration"] = _seconds(name, stop, tempo_map) - pedals["onset"]
    pedals["pedal"], pedals["depth"] = pedal, depth
    return pedals


def _presses(tracks: list[_Controls]) -> tuple[Array, Array, Array, Array]:
    """Pedal, start, end (ticks) and greatest value of each stretch of values at or above `PRESSED` in one track."""
    numbers, ticks, values = (
        np.concatenate([getattr(track, name) for track in tracks]) for name in ("numbers", "ticks", "values")
    )
    track = np.repeat(np.arange(len(tracks), dtype=np.int32), [len(track.ticks) for track in tracks])
    mine = np.isin(numbers, CONTROLLERS)
    ticks, values = ticks[mine], values[mine]
    group = track[mine] * np.int32(len(CONTROLLERS)) + np.searchsorted(CONTROLLERS, numbers[mine]).astype(np.int32)
    order = np.lexsort((ticks, group))  # it keeps the order of messages of one tick
    group, ticks, values = group[order], ticks[order], values[order]
    down, is_first = values >= PRESSED, np.diff(group, prepend=-1) != 0
    is_last = np.append(is_first[1:], True)  # of its group
    first = np.flatnonzero(down & (is_first | ~np.append(False, down[:-1])))
    last = np.flatnonzero(down & (is_last | ~np.append(down[1:], False)))
    held_to = np.array([track.end for track in tracks], np.int64)[group[last] // len(CONTROLLERS)]
    stop = np.where(is_last[last], np.maximum(held_to, ticks[last] + 1), np.append(ticks, 0)[last + 1])
    depth = np.maximum.reduceat(np.where(down, values, 0), first) if len(first) else values[:0]
    kept = stop > ticks[first]
    first = first[kept]
    pedal = group[first] % len(CONTROLLERS)
    return pedal.astype(np.int64), ticks[first], stop[kept], np.minimum(depth, 127)[kept]


def _united(pedal: Array, start: Array, stop: Array, depth: Array) -> tuple[Array, Array, Array, Array]:
    """Presses of one pedal by several tracks that overlap become one, as deep as the deepest."""
    if not len(start):
        return pedal, start, stop, depth
    order = np.lexsort((start, pedal))
    pedal, start, stop, depth = pedal[order], start[order], stop[order], depth[order]
    far = pedal << 40  # past any tick: what was pressed before counts within one pedal only
    open_until = np.maximum.accumulate(far + stop)
    first = np.flatnonzero(np.append(True, (far + start)[1:] >= open_until[:-1]))
    return pedal[first], start[first], np.maximum.reduceat(stop, first), np.maximum.reduceat(depth, first)


def _on_ticks(events: Array, key: str, tempo_map: TempoMap) -> tuple[Array, Array, Array]:
    """Events by key, and their start and end ticks: at least one tick long, and over before the key is struck again.

    Of events of one key that fall on one tick the longest stays.
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
    """Each field of rows of whole numbers as an array of its own type."""
    table = np.array(rows, np.int64).reshape(-1, len(types))
    return [table[:, i].astype(type_) for i, type_ in enumerate(types)]


def _symusic_notes(notes: Array, tempo_map: TempoMap) -> Any:
    import symusic

    notes, start, end = _on_ticks(notes, "pitch", tempo_map)
    columns = start.astype(np.int32), (end - start).astype(np.int32)
    return symusic.Note.from_numpy(*columns, notes["pitch"].astype(np.int8), notes["velocity"].astype(np.int8))


def _symusic_controls(pedals: Array, tempo_map: TempoMap) -> Any:
    """Each press as two controls, its depth and 0; at one tick a release comes before the next press."""
    import symusic

    pedals, start, end = _on_ticks(pedals, "pedal", tempo_map)
    ticks = np.concatenate([end, start])
    numbers = np.tile(np.asarray(CONTROLLERS, np.uint8)[pedals["pedal"]], 2)
    values = np.concatenate([np.zeros(len(end), np.uint8), np.maximum(pedals["depth"], PRESSED).astype(np.uint8)])
    order = np.argsort(ticks, kind="stable")
    return symusic.ControlChange.from_numpy(ticks[order].astype(np.int32), numbers[order], values[order])
