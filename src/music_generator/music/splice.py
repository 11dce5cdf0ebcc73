"""A performance out of the parts of a MIDI file, and back into it: what is the same keeps its events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MidiError
from music_generator.music.midi_file import (
    CONTROL,
    END_OF_TRACK,
    LONGEST_DELTA,
    NOTE_OFF,
    NOTE_ON,
    TRACK_NAME,
    MidiFile,
    Track,
    is_end,
    make_track,
    meta,
    parse_track,
    variable_length,
)
from music_generator.music.midi_parts import MidiSource, Part, notes_of, pedals_of
from music_generator.music.midi_tables import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    PEDAL_CONTROLLERS,
    PRESSED,
    press_table,
    tempo_events,
    tempo_map_of,
    unreleased,
)
from music_generator.music.performance import (
    HIGHEST_PITCH,
    LONGEST_SECONDS,
    LOWEST_PITCH,
    NOTE_DTYPE,
    PEDAL_DTYPE,
    Performance,
)
from music_generator.music.tempo_map import TempoMap

Array = NDArray[Any]

LAST_TICK = (1 << 31) - 1  # programs count in int32
RELEASE_VELOCITY = 64  # of keyboards that do not measure it: MIDI 1.0
NEIGHBOURS = 8  # notes before and after a new one that say which hand plays it
BEFORE, AFTER = -1, 1  # the events of the file at the same tick

TICKS = np.dtype([("start", "i8"), ("end", "i8"), ("key", "i8"), ("force", "i8")])
"""A note or a press in ticks: pitch and velocity, or pedal and depth."""


def on_piano(notes: Array) -> Array:
    """Return which notes are on the piano's keys: (n,)."""
    return np.asarray((notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH))


def performance_of(source: MidiSource, notes: Array | None = None, path: Any = None) -> Performance:
    """Return the notes on the piano's keys and the pedals of a source's parts.

    Args:
        source: The parts of a file.
        notes: The `note_table` of the file, where it is known.
        path: Where the file comes from, for errors.

    Raises:
        MidiError: It lasts over 24 hours, or its time division or a tempo is impossible.
    """
    tempo_map = tempo_map_of(source.file, path)
    notes, presses = notes_of(source, notes), press_table(pedals_of(source), source.file)
    kept = on_piano(notes)
    played = _events(notes if kept.all() else notes[kept], NOTE_DTYPE, tempo_map, path)
    return Performance(played, _events(presses, PEDAL_DTYPE, tempo_map, path), tempo_map, source)


def _events(table: Array, dtype: np.dtype[Any], tempo_map: TempoMap, path: Any) -> Array:
    """Return a table of notes or presses in seconds, by onset and key."""
    _, _, key, force = dtype.names or ()
    order = np.argsort(table["start"] * 128 + table[key], kind="stable")
    events = np.empty(len(table), dtype)
    events["onset"] = _seconds(path, table["start"][order], tempo_map)
    events["duration"] = _seconds(path, table["end"][order], tempo_map) - events["onset"]
    events[key], events[force] = table[key][order], table[force][order]
    return events


def _seconds(path: Any, ticks: Array, tempo_map: TempoMap) -> Array:
    seconds = tempo_map.ticks_to_seconds(ticks)
    if len(seconds) and not seconds.max() < LONGEST_SECONDS:
        raise MidiError(path, "it lasts longer than 24 hours, which no performance does")
    return seconds


def splice(performance: Performance) -> MidiFile:
    """Return the file that a performance was read from, with what is new in the performance; else a new file.

    A note that is in both keeps its events, and so do the pedals where both press them; within the source's
    `rewritten` spans all pedals are those of the performance. All other events stay as they are.

    Raises:
        InputError: The performance lasts more ticks than MIDI can count.
    """
    source = performance.source or _new_source(performance)
    before = performance_of(source)
    tempo_map = before.tempo_map
    edits = [_Edits() for _ in source.file.tracks]
    pedals = _on_ticks(before.pedals, tempo_map), _on_ticks(performance.pedals, tempo_map)
    messages = pedals_of(source)
    for pedal in range(len(PEDAL_CONTROLLERS)):
        own = messages[messages["pedal"] == pedal]
        _splice_pedal(edits, source, own, pedal, tempo_map, *(presses[presses["key"] == pedal] for presses in pedals))
    _splice_notes(edits, source, _on_ticks(before.notes, tempo_map), _on_ticks(performance.notes, tempo_map))
    _end_unended_presses(edits, source, messages, pedals[1])
    pairs = zip(source.file.tracks, edits, strict=True)
    return source.file.with_tracks([edit.applied(track) for track, edit in pairs])


def _new_source(performance: Performance) -> MidiSource:
    """Return a file of one track without notes, on ticks of at most 1 ms, with the tempo map of a performance."""
    tempo_map = performance.tempo_map.refined()
    events = [(0, meta(TRACK_NAME, b"Piano")), *tempo_events(tempo_map)]
    _check_countable(np.array([tick for tick, _ in events]))
    file = MidiFile(0, tempo_map.ticks_per_quarter, (make_track([*events, (events[-1][0], meta(END_OF_TRACK, b""))]),))
    piano = (Part(0, 0, "Piano", 0, 0),)
    return MidiSource(file, piano, piano, piano)


def _on_ticks(events: Array, tempo_map: TempoMap) -> Array:
    """Return events as `TICKS`, by key and start.

    An event lasts at least one tick and ends where its key is struck again. Of events of one key that fall on one tick
    the longest stays.
    """
    _, _, key, force = events.dtype.names or ()
    found = np.empty(len(events), TICKS)
    found["start"] = tempo_map.seconds_to_ticks(events["onset"])
    found["end"] = np.maximum(tempo_map.seconds_to_ticks(events["onset"] + events["duration"]), found["start"] + 1)
    found["key"], found["force"] = events[key], events[force]
    found = found[np.lexsort((-found["end"], found["start"], found["key"]))]
    found = found[(np.diff(found["key"], prepend=-1) != 0) | (np.diff(found["start"], prepend=-1) != 0)]
    again = found["key"][1:] == found["key"][:-1]
    found["end"][:-1] = np.where(again, np.minimum(found["end"][:-1], found["start"][1:]), found["end"][:-1])
    _check_countable(found["end"])
    return np.asarray(found)


def _check_countable(ticks: Array) -> None:
    if ticks.max(initial=0) > LAST_TICK:
        raise InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`")


@dataclass
class _Edits:
    """What is taken out of a track and put into it: places of events, and (tick, `BEFORE` or `AFTER`, bytes)."""

    removed: set[int] = field(default_factory=set)
    added: list[tuple[int, int, bytes]] = field(default_factory=list)

    def applied(self, track: Track) -> Track:
        """Return the edited track. The bytes between two edits are copied as they are; the first delta time changes."""
        if not self.removed and not self.added:
            return track
        added = sorted(self.added, key=lambda event: event[:2])  # stable: each keeps its place among its like
        count = len(track.ticks) - (len(track.ticks) > 0 and is_end(track.event(len(track.ticks) - 1)))
        ticks = np.array([tick for tick, *_ in added], np.int64)
        sides = np.array([order for _, order, _ in added], np.int64)
        places = np.where(
            sides == BEFORE, *(np.searchsorted(track.ticks[:count], ticks, side) for side in ("left", "right"))
        )
        parts, now, at, pending = list[bytes](), 0, 0, list(zip(places.tolist(), added, strict=True))[::-1]
        for stop in sorted({*self.removed, *places.tolist(), count}):
            now = _copy(track, at, stop, now, parts)
            at = max(at, stop)
            while pending and pending[-1][0] == stop:
                tick, _, message = pending.pop()[1]
                parts += [variable_length(_delta(now, tick)), message]
                now = tick
            at += stop in self.removed
        end = max(track.end, now)
        return parse_track(b"".join([*parts, variable_length(_delta(now, end)), meta(END_OF_TRACK, b"")]))


def _copy(track: Track, begin: int, stop: int, now: int, parts: list[bytes]) -> int:
    """Add the bytes of consecutive events to `parts`, the first one after tick `now`; return the tick of the last."""
    if begin >= stop:
        return now
    parts += [variable_length(_delta(now, int(track.ticks[begin]))), track.event(begin)]
    parts.append(track.data[track.ends[begin] : track.ends[stop - 1]])
    return int(track.ticks[stop - 1])


def _delta(before: int, after: int) -> int:
    if after - before > LONGEST_DELTA:
        raise InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`")
    return after - before


def within_ticks(performance: Performance, start: float, end: float) -> Performance:
    """Return a performance whose onsets are nearest to ticks of its tempo map in [`start`, `end`) seconds.

    On another tick an event could take the place of one of the music around. None is left if no tick lies there.
    """
    tempo_map, moved = performance.tempo_map, []
    low, high = _tick_from(start, tempo_map), _tick_from(end, tempo_map) - 1
    for events in (performance.notes, performance.pedals):
        events = events[: len(events) * (low <= high)].copy()
        ticks = tempo_map.seconds_to_ticks(events["onset"])
        outside = (ticks < low) | (ticks > high)
        events["onset"][outside] = tempo_map.ticks_to_seconds(np.clip(ticks, low, high))[outside]
        moved.append(events)
    return replace(performance, notes=moved[0], pedals=moved[1])


# --- notes


def _splice_notes(edits: list[_Edits], source: MidiSource, before: Array, after: Array) -> None:
    """Take notes out that are no longer there, end those that end elsewhere, and put new ones in."""
    raw = notes_of(source)
    raw = raw[on_piano(raw)]
    place = _places(raw["start"], raw["pitch"])
    ends, is_new = _ends_of_kept(before, after)
    of_before = _find(_places(before["start"], before["key"]), place)
    was, now, new = before["end"][of_before], ends[of_before], after[is_new]
    gone = now < 0
    cut = (raw["off"] < 0) | (was < raw["end"])  # by the next note of its key
    cut &= np.isin(_places(was, raw["pitch"]), place[gone])
    moved = ~gone & ((now != was) | _struck_within(new, raw, was) | cut)
    for note in raw[gone]:
        edits[note["track"]].removed |= {int(note["on"])} | ({int(note["off"])} if note["off"] >= 0 else set())
    for note, end in zip(raw[moved], now[moved].tolist(), strict=True):
        if note["off"] >= 0:
            edits[note["track"]].removed.add(int(note["off"]))
        edits[note["track"]].added.append((end, BEFORE, _note_off(note["channel"], note["pitch"])))
    for (start, end, pitch, velocity), part in zip(new.tolist(), _players(new, source, raw), strict=True):
        edits[part.track].added.append((start, AFTER, bytes([NOTE_ON | part.channel, pitch, velocity])))
        edits[part.track].added.append((end, BEFORE, _note_off(part.channel, pitch)))
    same = raw[~moved & ~gone]
    _end_unended(edits, source, same)
    touched = is_new | np.isin(_places(after["start"], after["key"]), place[moved])
    _remove_stray_offs(edits, source, raw, same, after[touched])


def _find(places: Array, wanted: Array) -> Array:
    """Return where each wanted place is in `places`, which has it."""
    order = np.argsort(places)
    return np.asarray(order[np.searchsorted(places[order], wanted)])


def _end_unended(edits: list[_Edits], source: MidiSource, notes: Array) -> None:
    """End notes that were never released where their track ended, if it will be longer."""
    for number, (track, edit) in enumerate(zip(source.file.tracks, edits, strict=True)):
        if edit.added:
            own = (notes["track"] == number) & (notes["off"] < 0) & (notes["end"] >= track.end)
            for note in notes[own & (notes["end"] < max(tick for tick, *_ in edit.added))]:
                edit.added.append((int(note["end"]), BEFORE, _note_off(note["channel"], note["pitch"])))


def _struck_within(new: Array, raw: Array, ends: Array) -> Array:
    """Return which notes, cut at `ends` by a note of another part, would be released after a new note of their key."""
    strikes = np.sort((new["key"] << 32) + new["start"])
    low, high = (np.searchsorted(strikes, (raw["pitch"].astype(np.int64) << 32) + at) for at in (ends, raw["end"]))
    return np.asarray(low < high)


def _places(ticks: Array, keys: Array) -> Array:
    """Return a number for each tick and key."""
    return np.asarray(np.asarray(ticks, np.int64) * 128 + keys)


def _ends_of_kept(before: Array, after: Array) -> tuple[Array, Array]:
    """Return the end of each note of `before` that is in `after` too, else -1, and which notes of `after` are new."""
    places, others = (_places(notes["start"], notes["key"]) for notes in (before, after))
    _, of_before, of_after = np.intersect1d(places, others, assume_unique=True, return_indices=True)
    same = before["force"][of_before] == after["force"][of_after]
    ends, is_new = np.full(len(before), -1, np.int64), np.ones(len(after), bool)
    ends[of_before[same]] = after["end"][of_after[same]]
    is_new[of_after[same]] = False
    return ends, is_new


def _note_off(channel: int, pitch: int) -> bytes:
    return bytes([NOTE_OFF | channel, pitch, RELEASE_VELOCITY])


def _players(new: Array, source: MidiSource, raw: Array) -> list[Part]:
    """Return the part that takes each new note: of several, such as two hands, the one that plays nearest in pitch."""
    parts = source.into
    if len(parts) == 1 or not len(new):
        return [parts[0]] * len(new)
    distances = np.full((len(parts), len(new)), np.inf)
    for i, part in enumerate(parts):
        own = raw[_at(raw, part.track, part.channel)]
        own = own[np.argsort(own["start"], kind="stable")]
        if len(own):
            sums = np.concatenate([[0], np.cumsum(own["pitch"])])
            at = np.searchsorted(own["start"], new["start"])
            low, high = np.maximum(at - NEIGHBOURS, 0), np.minimum(at + NEIGHBOURS, len(own))
            distances[i] = np.abs((sums[high] - sums[low]) / (high - low) - new["key"])
    return [parts[i] for i in distances.argmin(axis=0).tolist()]


def _remove_stray_offs(edits: list[_Edits], source: MidiSource, raw: Array, kept: Array, notes: Array) -> None:
    """Remove note-offs that ended nothing and would end one of `notes`, and messages that end all notes and would.

    What such a message ended of the `kept` notes has a note-off instead.
    """
    if not len(notes):
        return
    for part in source.parts or source.into:
        track, edit = source.file.tracks[part.track], edits[part.track]
        silent = (track.status == NOTE_OFF | part.channel) | (
            (track.status == NOTE_ON | part.channel) & (track.second == 0)
        )
        silent[raw["off"][(raw["track"] == part.track) & (raw["off"] >= 0)]] = False
        everything = (track.status == CONTROL | part.channel) & np.isin(track.first, (ALL_SOUND_OFF, ALL_NOTES_OFF))
        within = (track.ticks > notes["start"].min()) & (track.ticks < notes["end"].max())
        for i in np.flatnonzero(within & (everything | silent & np.isin(track.first, notes["key"]))).tolist():
            tick = int(track.ticks[i])
            sounding = notes["key"][(notes["start"] < tick) & (notes["end"] > tick)]
            if len(sounding) and (everything[i] or track.first[i] in sounding):
                edit.removed.add(i)
                own = _at(kept, part.track, part.channel) & (kept["off"] < 0)
                own &= (kept["on"] < i) & (kept["end"] == np.maximum(tick, kept["start"] + 1)) & bool(everything[i])
                ended = kept[["end", "pitch"]][own].tolist()
                edit.added += [(end, BEFORE, _note_off(part.channel, pitch)) for end, pitch in ended]


# --- pedals


def _splice_pedal(
    edits: list[_Edits],
    source: MidiSource,
    messages: Array,
    pedal: int,
    tempo_map: TempoMap,
    before: Array,
    after: Array,
) -> None:
    """Let the presses of a pedal be those of `after`, where they differ from `before` or were rewritten."""
    changed = [(_tick_from(start, tempo_map), _tick_from(end, tempo_map)) for start, end in source.rewritten]
    spans = _merged(changed + _differing(before, after, changed))
    if not spans:
        return
    messages = messages[np.argsort(messages["tick"], kind="stable")]
    places = [
        (track, channel, _with_release(messages[_at(messages, track, channel)], source.file))
        for track, channel in _pedal_places(source, messages)
    ]
    for start, end in spans:
        inside = messages[(messages["tick"] >= start) & (messages["tick"] < end) & (messages["event"] >= 0)]
        for message in inside:
            edits[message["track"]].removed.add(int(message["event"]))
        held = bool(_pressed_at(np.array([start - 1]), before)[0])
        for track, channel, own in places:
            for tick, order, value in _values_in(start, end, own, after, held=held):
                controller = bytes([CONTROL | channel, PEDAL_CONTROLLERS[pedal], value])
                edits[track].added.append((tick, order, controller))


def _pedal_places(source: MidiSource, messages: Array) -> list[tuple[int, int]]:
    """Return the tracks and channels that take new presses: those that press the pedal in the file, else the parts'."""
    into = {part.channel: part.track for part in reversed(source.into)}
    elsewhere = {part.channel for part in source.parts} - set(into)
    pressing = messages[(messages["value"] >= PRESSED) & ~np.isin(messages["channel"], list(elsewhere))]
    places = np.unique(pressing["track"] * 16 + pressing["channel"]).tolist()
    return [divmod(place, 16) for place in places] or [(into[each], each) for each in into]


def _at(table: Array, track: int, channel: int) -> Array:
    """Return which rows of a table are of a track and channel."""
    return np.asarray((table["track"] == track) & (table["channel"] == channel))


def _with_release(messages: Array, file: MidiFile) -> Array:
    """Return the messages of one place; where they leave the pedal down, also its release at the end."""
    last = messages[-1:].copy()
    last["tick"], last["value"], last["event"] = press_table(messages, file)["end"].max(initial=0), 0, -1
    return np.concatenate([messages, last[last["tick"] > messages["tick"].max(initial=0)]])


def first_messages(source: MidiSource, tempo_map: TempoMap, second: float) -> Array:
    """Return the second of the first message of each pedal at or after a second, infinity without one: (3,).

    There a press that comes from before ends: the file's own messages go on.
    """
    messages = pedals_of(source)
    messages = messages[messages["tick"] >= _tick_from(second, tempo_map)]
    first = np.full(len(PEDAL_CONTROLLERS), np.inf)
    np.minimum.at(first, messages["pedal"], tempo_map.ticks_to_seconds(messages["tick"]))
    return first


def _end_unended_presses(edits: list[_Edits], source: MidiSource, messages: Array, after: Array) -> None:
    """Let pedals that were never released go where their track ended, if it or the file will be longer."""
    longest = max((tick for edit in edits for tick, *_ in edit.added), default=0)
    for end, track, channel, pedal in unreleased(messages, source.file):
        pressed = ((after["key"] == pedal) & (after["start"] < end) & (after["end"] > end)).any()
        release = end, BEFORE, bytes([CONTROL | channel, PEDAL_CONTROLLERS[pedal], 0])
        if end < longest and not pressed and release not in edits[track].added:
            edits[track].added.append(release)


def _tick_from(seconds: float, tempo_map: TempoMap) -> int:
    """Return the first tick at or after a second."""
    tick = int(tempo_map.seconds_to_ticks(np.array(seconds)))
    return tick + bool(tempo_map.ticks_to_seconds(np.array(tick)) < seconds - 1e-9)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in their order, those that touch or overlap as one."""
    merged = list[tuple[int, int]]()
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _differing(before: Array, after: Array, rewritten: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in which only one of two sets of presses presses the pedal.

    What follows a rewritten span at once is left out: the file's own events are kept there.
    """
    first, second = ((presses["start"] << 31) + presses["end"] for presses in (before, after))
    apart = before[~np.isin(first, second)], after[~np.isin(second, first)]
    edges = np.unique(np.concatenate([presses[name] for presses in apart for name in ("start", "end")]))
    pressed = [_pressed_at(edges, presses) for presses in (before, after)]
    found = []
    for i in np.flatnonzero(pressed[0] != pressed[1]).tolist():
        start, end = int(edges[i]), int(edges[i + 1])
        for low, high in rewritten:
            if low <= start <= high:
                start = end
        if start < end:
            found.append((start, end))
    return found


def _pressed_at(ticks: Array, presses: Array) -> Array:
    """Return whether the pedal is down from each tick on; presses are in their order and do not overlap."""
    i = np.searchsorted(presses["start"], ticks, side="right") - 1
    return np.asarray((i >= 0) & (ticks < presses["end"][i])) if len(presses) else np.zeros(len(ticks), bool)


def _values_in(start: int, end: int, messages: Array, presses: Array, *, held: bool) -> list[tuple[int, int, int]]:
    """Return (tick, order, value) of the messages that make presses in a span without messages.

    The pedal is as the place's `messages` left it at the start, and they go on at the end, from the value that they
    had. `held`: some place holds the pedal down when the span begins.
    """
    here = presses[(presses["start"] <= end) & (presses["end"] > start)]
    values = []
    if _value_before(start, messages) >= PRESSED and not (here["start"] <= start).any():
        values.append((start, BEFORE, 0))
    touched = ((messages["tick"] >= start) & (messages["tick"] < end)).any()
    for press in here.tolist():
        first, last, _, depth = press
        if first < end and (first >= start or not held):
            values.append((max(first, start), AFTER, max(depth, PRESSED)))
        resets = messages["tick"][messages["event"] < 0]
        again = resets[(resets > max(first, start)) & (resets < min(last, end))]
        values += [(tick, AFTER, max(depth, PRESSED)) for tick in again.tolist()]
        if last <= end:
            values.append((last, BEFORE, 0))
        elif values or touched:
            values += _over_the_edge(first, end, last, messages)
    return values


def _over_the_edge(first: int, edge: int, last: int, messages: Array) -> list[tuple[int, int, int]]:
    """Return what a press from tick `first` to `last` needs that is down from the end of a span on."""
    value = _value_before(edge, messages)
    if value >= PRESSED:
        return [(edge, BEFORE, value)]
    if first == edge:
        return []  # a message of the file presses it
    following = messages[messages["tick"] >= edge]
    if len(following) and following["tick"][0] <= last:
        return [(int(following["tick"][0]), BEFORE, 0)] if following["value"][0] >= PRESSED else []
    return [(last, BEFORE, 0)]


def _value_before(tick: int, messages: Array) -> int:
    """Return the value of the last message before a tick, 0 if there is none."""
    i = int(np.searchsorted(messages["tick"], tick))
    return int(messages["value"][i - 1]) if i else 0
