"""Read and write MIDI files and bytes. `read_midi` and `write_midi` are inverses on what a `Performance` holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MidiError
from music_generator.files import replacing
from music_generator.performance import (
    HIGHEST_PITCH,
    LOWEST_PITCH,
    NOTE_DTYPE,
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

    Raises `MidiError` if it cannot be read, is not MIDI, is damaged or lasts over 24 hours.
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
    onsets and ends are rounded to the nearest tick, and a stroke lasts at least one tick; of strokes of one key that
    fall on one tick the longest stays. A pedal less deep than 64 is written as 64, for it would not count as pressed.

    Raises `InputError` if it is longer than 24 hours or than MIDI's ticks can count, or the file cannot be written.
    """
    import symusic

    tempo_map = performance.tempo_map.refined()
    if performance.end >= LONGEST_SECONDS:
        raise InputError(f"the performance lasts {performance.end / 3600:.1f} hours; MIDI is written up to 24 hours")
    _check_countable(np.array([0, *(tick for tick, *_ in (*tempo_map.tempos, *tempo_map.time_signatures))]))
    score: Any = symusic.Score(tempo_map.ticks_per_quarter)
    for tick, tempo in tempo_map.tempos:
        score.tempos.append(symusic.Tempo(tick, mspq=tempo))
    for tick, numerator, denominator in tempo_map.time_signatures:
        score.time_signatures.append(symusic.TimeSignature(tick, numerator, denominator))
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
        return str(source), Path(source).read_bytes()
    except FileNotFoundError:
        raise MidiError(f"{source}: no such file") from None
    except OSError as error:
        raise MidiError(f"{source}: cannot be read: {error.strerror}") from error


def _check_header(name: str, data: bytes) -> None:
    """What the MIDI library would take in silence is refused here."""
    if not data:
        raise MidiError(f"{name}: the file is empty")
    if data[:4] != b"MThd":
        raise MidiError(f"{name}: not a MIDI file (it does not begin with MThd)")
    if len(data) < 14:
        raise MidiError(f"{name}: the MIDI file is cut off in its header; export or download it again")
    form, division = int.from_bytes(data[8:10], "big"), int.from_bytes(data[12:14], "big")
    if form > 1:
        raise MidiError(f"{name}: MIDI type {form} is not supported; export it as type 0 or 1")
    if division == 0 or division & 0x8000:
        raise MidiError(f"{name}: its time division {division:#06x} is not in ticks per quarter note; export it so")
    announced, present = int.from_bytes(data[10:12], "big"), len(_track_chunks(data))
    if present < announced:
        there = f"{present} of the {announced} tracks that its header announces"
        raise MidiError(f"{name}: the MIDI file is cut off: it has {there}; export or download it again")


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
    tempos = {0: 500_000}  # MIDI's tempo until another is set
    for tempo in score.tempos:
        if not 0 < tempo.mspq < 1 << 24 or tempo.time < 0:
            raise MidiError(f"{name}: it has an impossible tempo of {tempo.mspq} microseconds per quarter note")
        tempos[int(tempo.time)] = int(tempo.mspq)
    signatures = {
        int(s.time): (int(s.numerator), int(s.denominator))
        for s in score.time_signatures
        if s.time >= 0 and 0 < s.numerator < 256 and s.denominator in (1, 2, 4, 8, 16, 32, 64)
    }
    return TempoMap(
        int(score.ticks_per_quarter),
        tuple(sorted(tempos.items())),
        tuple((tick, *signature) for tick, signature in sorted(signatures.items())),
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
    found: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for number, chunk in enumerate(_track_chunks(data)):
        for tick, channel, controller, value in _pedal_messages(chunk) or ():
            found.setdefault((number, channel), []).append((tick, controller, value))
    columns = [np.array(messages, np.int64).T for messages in found.values()]
    return [_Controls(ticks, numbers, values, max(end, int(ticks[-1])) + 1) for ticks, numbers, values in columns]


def _pedal_messages(chunk: bytes) -> list[tuple[int, int, int, int]] | None:
    """Tick, channel, controller and value of each pedal message of a track; None as soon as a note comes."""
    messages = []
    tick = at = status = 0
    while at < len(chunk):
        delta, at = _variable_length(chunk, at)
        tick += delta
        first, second, third = (*chunk[at : at + 3], 0, 0, 0)[:3]
        if first >= 0xF0:  # a meta event (with a type byte) or a system exclusive one: its length, then its data
            length, at = _variable_length(chunk, at + 1 + (first == 0xFF))
            at += length
            continue
        if first & 0x80:
            status, first, second, at = first, second, third, at + 1
        kind, channel = status & 0xF0, status & 0x0F
        at += 1 if kind in (0xC0, 0xD0) else 2
        if kind == 0x90 and second:
            return None
        if kind == 0xB0 and first in CONTROLLERS and channel != DRUM_CHANNEL:
            messages.append((tick, channel, first, second & 0x7F))
    return messages


def _variable_length(chunk: bytes, at: int) -> tuple[int, int]:
    """A number in MIDI's variable length (seven bits a byte, the last below 128), and where it ends."""
    value = 0
    for byte in chunk[at : at + 4]:
        value, at = value << 7 | byte & 0x7F, at + 1
        if byte < 0x80:
            break
    return value, at


def _pedals(name: str, tracks: list[_Controls], tempo_map: TempoMap) -> Array:
    presses = []
    for track in tracks:
        for pedal, controller in enumerate(CONTROLLERS):
            mine = track.numbers == controller
            start, stop, depth = _presses(track.ticks[mine], track.values[mine], track.end)
            press = np.empty(len(start), PEDAL_DTYPE)
            press["onset"] = _seconds(name, start, tempo_map)
            press["duration"] = _seconds(name, stop, tempo_map) - press["onset"]
            press["pedal"], press["depth"] = pedal, depth
            presses.append(press)
    if not presses:
        return np.empty(0, PEDAL_DTYPE)
    pedals = np.concatenate(presses)
    return _united(pedals) if len(tracks) > 1 else pedals


def _presses(ticks: Array, values: Array, end: int) -> tuple[Array, Array, Array]:
    """Start, end (ticks) and greatest value of each stretch of controller values at or above `PRESSED`."""
    order = np.argsort(ticks, kind="stable")
    ticks, values = ticks[order], values[order].astype(np.int64)
    down = values >= PRESSED
    first = np.flatnonzero(down & ~np.concatenate([[False], down[:-1]]))
    last = np.flatnonzero(down & ~np.concatenate([down[1:], [False]]))
    if not len(first):
        return ticks[:0], ticks[:0], values[:0]
    after = np.append(ticks, max(end, int(ticks[-1]) + 1))[last + 1]
    depth = np.maximum.reduceat(np.where(down, values, 0), first)
    kept = after > ticks[first]
    return ticks[first][kept], after[kept], np.minimum(depth, 127)[kept]


def _united(pedals: Array) -> Array:
    """Presses of one pedal by several tracks that overlap become one, as deep as the deepest."""
    united: list[Array] = []
    for press in pedals[np.lexsort((pedals["onset"], pedals["pedal"]))]:
        last = united[-1] if united else None
        if last is not None and last["pedal"] == press["pedal"] and press["onset"] < last["onset"] + last["duration"]:
            end = max(last["onset"] + last["duration"], press["onset"] + press["duration"])
            last["duration"], last["depth"] = end - last["onset"], max(last["depth"], press["depth"])
        else:
            united.append(press.copy())
    return np.array(united, PEDAL_DTYPE) if united else pedals


def _on_ticks(strokes: Array, key: str, tempo_map: TempoMap) -> tuple[Array, Array, Array]:
    """Strokes by key, and their start and end ticks: at least one tick long, and over before the key is struck again.

    Of strokes of one key that fall on one tick the longest stays.
    """
    start = tempo_map.seconds_to_ticks(strokes["onset"])
    end = np.maximum(tempo_map.seconds_to_ticks(strokes["onset"] + strokes["duration"]), start + 1)
    order = np.lexsort((-end, start, strokes[key]))
    strokes, start, end = strokes[order], start[order], end[order]
    single = (np.diff(strokes[key], prepend=-1) != 0) | (np.diff(start, prepend=-1) != 0)
    strokes, start, end = strokes[single], start[single], end[single]
    again = strokes[key][1:] == strokes[key][:-1]
    end[:-1] = np.where(again, np.minimum(end[:-1], start[1:]), end[:-1])
    _check_countable(np.concatenate([[0], start, end]))
    return strokes, start, end


def _check_countable(ticks: Array) -> None:
    if ticks.max() > LAST_TICK or np.diff(np.sort(ticks)).max(initial=0) > LONGEST_DELTA:
        raise InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`")


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
