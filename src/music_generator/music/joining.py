"""Music in front of a whole file, and one file after another: their tempi, metres and bars stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.midi_file import (
    CONTROL,
    END_OF_TRACK,
    PROGRAM,
    TEMPO,
    Event,
    MidiFile,
    Track,
    is_end,
    make_track,
    meta,
    metre_event,
    parse_midi,
    tempo_event,
)
from music_generator.music.midi_parts import MidiSource, Part, find_parts
from music_generator.music.midi_tables import (
    PEDAL_CONTROLLERS,
    note_table,
    releases,
    tempo_map_of,
)
from music_generator.music.performance import Performance
from music_generator.music.splice import splice
from music_generator.music.tempo_map import LARGEST_RESOLUTION, TempoMap

Array = NDArray[Any]

MOST_STRETCH = 1.5  # of the tempo, so that a whole number of bars fits


def note_onsets(performance: Performance) -> Array:
    """Return the onsets in seconds of all notes of the file that a performance is from, other instruments too.

    Those of the performance itself if it is from no file.
    """
    if performance.source is None:
        return performance.notes["onset"]
    notes = note_table(performance.source.file)
    return tempo_map_of(performance.source.file).ticks_to_seconds(notes["start"])


def delayed(performance: Performance, seconds: float) -> Performance:
    """Return a performance `seconds` later, and all of its file with it.

    The new time in front is whole bars, where the tempo can be bent a little to fit them.
    """
    source = _source_of(performance)
    tempo_map = tempo_map_of(source.file)
    ticks, tempo = _whole_bars(tempo_map, seconds)
    tracks = [[(tick + ticks, message) for tick, message in track.events()] for track in source.file.tracks]
    if not source.file.division & 0x8000:
        named = [(ticks, tempo_event(tempo_map.tempos[0][1]))] * (not _names_tempo(source.file))
        tracks[0] = [(0, tempo_event(tempo)), *_metre_at(tempo_map, 0), *_merged(tracks[0], named)]
    for part in source.into:
        tracks[part.track] = [*_settings(source.file, part.channel), *tracks[part.track]]
    file = source.file.with_tracks(_tracks(tracks, source.file))
    return _retimed(performance, replace(source, file=file), tempo_map, ticks)


def followed_by(before: Performance, after: Performance, seconds: float) -> tuple[Performance, Performance]:
    """Return two performances of one file, in which the file of the second follows that of the first.

    Args:
        before: The first piece.
        after: The second piece.
        seconds: The second at which the file of the second piece begins.

    Returns:
        The first piece as it was, and the second one at its new time.
    """
    own, other = _source_of(before), _source_of(after)
    first, second, rounded = _on_one_division(own, other)
    joint = _joint(first, seconds)
    tracks, places = _concatenated(first, second, joint.tick)
    tracks[0] = _merged(tracks[0], _joining_events(first.file, second.file, joint))
    file = replace(first.file, form=max(first.file.form, len(tracks) > 1)).with_tracks(_tracks(tracks, first.file))
    parts = find_parts(file)
    into = tuple(part for part in parts if part.place in [each.place for each in first.parts])
    source = MidiSource(
        file,
        parts,
        tuple(part for part in parts if part in into or part.place in places),
        into,
        remarks=(*first.remarks, *second.remarks, *rounded),
    )
    factors = [tempo_map_of(new.file).ticks_per_quarter / tempo_map_of(old.file).ticks_per_quarter
               for old, new in ((own, first), (other, second))]  # fmt: skip
    return (
        _retimed(before, source, tempo_map_of(own.file), factor=factors[0]),
        _retimed(after, source, tempo_map_of(other.file), joint.tick, factors[1]),
    )


def _source_of(performance: Performance) -> MidiSource:
    """Return the source of a performance; of one without a source, the file that it would be written as."""
    if performance.source is not None:
        return performance.source
    file = parse_midi(splice(performance))
    parts = find_parts(file) or (Part(0, 0, "Piano", 0, 0),)
    return MidiSource(file, parts, parts, parts)


def _retimed(
    performance: Performance, source: MidiSource, before: TempoMap, ticks: int = 0, factor: float = 1.0
) -> Performance:
    """Return a performance at the seconds of its ticks in another file: `factor` times as many, and `ticks` more."""
    after, retimed = tempo_map_of(source.file), []
    for events in (performance.notes, performance.pedals):
        moved = events.copy()
        bounds = np.stack([events["onset"], events["onset"] + events["duration"]])
        onset, end = after.ticks_to_seconds(before.seconds_to_fractional_ticks(bounds) * factor + ticks)
        moved["onset"], moved["duration"] = onset, np.maximum(end - onset, 1e-9)
        retimed.append(moved)
    return Performance(retimed[0], retimed[1], after, source)


def _names_tempo(file: MidiFile) -> bool:
    """Return whether a file names a tempo at tick 0, and does not leave it at 120 quarters a minute."""
    return any(tick == 0 for track in file.tracks for tick, _ in track.metas(TEMPO))


def _metre_at(tempo_map: TempoMap, tick: int) -> list[Event]:
    """Return the time signature that begins at tick 0 as an event at `tick`; none where the map has none."""
    return [(tick, metre_event(top, bottom)) for at, top, bottom in tempo_map.time_signatures[:1] if at == 0]


def _bar_ticks(tempo_map: TempoMap, tick: int) -> tuple[int, int]:
    """Return the first bar line of the metre at a tick, and the ticks of a bar; 4/4 where the file names none."""
    signs = [sign for sign in tempo_map.time_signatures if sign[0] <= tick] or [(0, 4, 4)]
    begin, top, bottom = signs[-1]
    return begin, max(1, round(tempo_map.ticks_per_quarter * 4 * top / bottom))


def _whole_bars(tempo_map: TempoMap, seconds: float) -> tuple[int, int]:
    """Return how many ticks in front last `seconds`, and at which tempo: whole bars, beats or quarters of a beat."""
    tempo = tempo_map.tempos[0][1]
    wanted = seconds * 1e6 / tempo * tempo_map.ticks_per_quarter
    _, bar = _bar_ticks(tempo_map, 0)
    for unit in (bar, tempo_map.ticks_per_quarter):
        ticks = max(1, round(wanted / unit)) * unit
        if 1 / MOST_STRETCH <= wanted / ticks <= MOST_STRETCH:
            return ticks, max(1, min(round(tempo * wanted / ticks), (1 << 24) - 1))
    return max(1, round(wanted)), tempo


def _settings(file: MidiFile, channel: int) -> list[Event]:
    """Return what sets a channel up at tick 0: its program and controllers, without pedals."""
    found = []
    for track in file.tracks:
        own = (track.status == PROGRAM | channel) | (
            (track.status == CONTROL | channel) & ~np.isin(track.first, PEDAL_CONTROLLERS)
        )
        found += [(0, track.event(i)) for i in np.flatnonzero(own & (track.ticks == 0)).tolist()]
    return found


def _tracks(events: Iterable[list[Event]], file: MidiFile) -> list[Track]:
    """Return tracks of events, each with one end."""
    running = any(track.uses_running_status for track in file.tracks)
    return [make_track(_ended(each), running_status=running) for each in events]


def _ended(events: list[Event]) -> list[Event]:
    kept = [event for event in events if not is_end(event[1])]
    return [*kept, (max((tick for tick, _ in events), default=0), meta(END_OF_TRACK, b""))]


def _merged(events: list[Event], more: list[Event]) -> list[Event]:
    """Return events with more of them, which come first at their tick."""
    return sorted([*more, *events], key=lambda event: event[0])


# --- one file after another


@dataclass(frozen=True)
class _Joint:
    """Where the second file begins: its tick, and the tick from which a tempo leads there; 0 for none."""

    tick: int
    tempo_tick: int
    tempo: int


def _joint(source: MidiSource, seconds: float) -> _Joint:
    """Return where a file begins that follows another one at `seconds`: on a bar line, where the tempo can be bent."""
    tempo_map = tempo_map_of(source.file)
    notes = note_table(source.file)["start"]
    changes = [tick for tick, *_ in (*tempo_map.tempos, *tempo_map.time_signatures)]
    free = max(int(notes.max(initial=0)), *changes)  # from here on nothing of the first file needs its tempo
    wanted = max(int(tempo_map.seconds_to_ticks(np.array(seconds))), free + 1)
    begin, bar = _bar_ticks(tempo_map, wanted)
    tick = begin + max(round((wanted - begin) / bar), math.ceil((free + 1 - begin) / bar)) * bar
    stretch = (wanted - free) / (tick - free)
    if source.file.division & 0x8000 or not 1 / MOST_STRETCH <= stretch <= MOST_STRETCH:
        return _Joint(wanted, 0, 0)
    tempo = round(tempo_map.tempos[-1][1] * stretch)
    return _Joint(tick, free, max(1, min(tempo, (1 << 24) - 1)))


def _joining_events(first: MidiFile, second: MidiFile, joint: _Joint) -> list[Event]:
    """Return the tempo that leads to the joint, and tempo and metre at which the second file begins without a word."""
    events = [(joint.tempo_tick, tempo_event(joint.tempo))] if joint.tempo else []
    opening = tempo_map_of(second)
    if not _names_tempo(second):
        events.append((joint.tick, tempo_event(opening.tempos[0][1])))
    if tempo_map_of(first).time_signatures and not _metre_at(opening, 0):
        events.append((joint.tick, metre_event(4, 4)))
    return events


def _concatenated(first: MidiSource, second: MidiSource, ticks: int) -> tuple[list[list[Event]], list[int]]:
    """Return the tracks of two files, the second `ticks` later, and the places of the second's parts.

    The pianos share a track, and so do two first tracks without notes; all others stay apart.
    """
    ended = releases(first.file)
    tracks = [[*track.events(), *more] for track, more in zip(first.file.tracks, ended, strict=True)]
    moved = dict[int, int]()
    for number, track in enumerate(second.file.tracks):
        events = [(tick + ticks, message) for tick, message in track.events()]
        events = [*_default_programs(first.file, second, number, ticks), *events]
        host = _host(first, second, number)
        if host is None:
            moved[number] = len(tracks)
            tracks.append(events)
        else:
            moved[number] = host
            tracks[host] = _merged(events, [event for event in tracks[host] if not is_end(event[1])])
    return tracks, [moved[part.track] * 16 + part.channel for part in second.parts]


def _host(first: MidiSource, second: MidiSource, number: int) -> int | None:
    """Return the track of the first file that a track of the second one goes on in; None for a track of its own."""
    playing = [part.track for part in second.all_parts]
    if number in [part.track for part in second.parts]:
        own = [part.track for part in first.parts]
        index = [part.track for part in second.parts].index(number)
        return own[min(index, len(own) - 1)]
    if number == 0 and 0 not in playing and 0 not in [part.track for part in first.all_parts]:
        return 0
    return None


def _default_programs(first: MidiFile, second: MidiSource, number: int, ticks: int) -> list[Event]:
    """Return program changes for channels that the second file leaves as they are and the first one has changed."""
    events = []
    for part in second.all_parts:
        changed = any((track.status == PROGRAM | part.channel).any() for track in first.tracks)
        named = any((track.status == PROGRAM | part.channel).any() for track in second.file.tracks)
        if part.track == number and changed and not named:
            events.append((ticks, bytes([PROGRAM | part.channel, part.program])))
    return events


def _on_one_division(first: MidiSource, second: MidiSource) -> tuple[MidiSource, MidiSource, tuple[str, ...]]:
    """Return two sources on ticks of the same length in quarters, and what must be said of it."""
    if first.file.division == second.file.division:
        return first, second, ()
    first, second = _in_quarters(first), _in_quarters(second)
    own, other = first.file.division, second.file.division
    common = math.lcm(own, other)
    if common <= LARGEST_RESOLUTION:
        return _scaled(first, common), _scaled(second, common), ()
    remark = f"the second piece is rounded from {other} ticks per quarter note to the {own} of the first"
    return first, _scaled(second, own), (remark,)


def _in_quarters(source: MidiSource) -> MidiSource:
    """Return a source in ticks per quarter note, also of a file in frames a second."""
    if not source.file.division & 0x8000:
        return source
    tempo_map = tempo_map_of(source.file)
    tracks = [track.events() for track in source.file.tracks]
    tracks[0] = [(0, tempo_event(tempo_map.tempos[0][1])), *tracks[0]]
    file = replace(source.file, division=tempo_map.ticks_per_quarter).with_tracks(_tracks(tracks, source.file))
    return replace(source, file=file)


def _scaled(source: MidiSource, division: int) -> MidiSource:
    """Return a source with another number of ticks per quarter note."""
    factor = division / source.file.division
    tracks = [[(round(tick * factor), message) for tick, message in track.events()] for track in source.file.tracks]
    return replace(source, file=replace(source.file, division=division).with_tracks(_tracks(tracks, source.file)))
