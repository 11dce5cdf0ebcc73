"""The notes of a performance, put into the file that it was read from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.edits import AFTER, BEFORE, Edits
from music_generator.music.midi_file import CONTROL, NOTE_OFF, NOTE_ON
from music_generator.music.midi_parts import MidiSource, Part
from music_generator.music.midi_tables import ALL_NOTES_OFF, ALL_SOUND_OFF, selected
from music_generator.music.ticks import on_piano, places

Array = NDArray[Any]

RELEASE_VELOCITY = 64  # of keyboards that do not measure it: MIDI 1.0
NEIGHBOURS = 8  # notes before and after a new one that say which hand plays it


def splice_notes(edits: Edits, source: MidiSource, notes: Array, before: Array, after: Array) -> Array:
    """Take notes out that are no longer there, end those that end elsewhere, and put new ones in.

    Args:
        edits: Of the source's file.
        source: The file.
        notes: The `midi_tables.NOTES` of its parts.
        before: The same as `ticks.TICKS`.
        after: The `ticks.TICKS` that shall be there.

    Returns:
        The notes that keep their events.
    """
    raw = on_piano(notes)
    place = places(raw["start"], raw["pitch"])
    ends, is_new = _ends_of_kept(before, after)
    of_before = np.searchsorted(places(before["start"], before["key"]), place)
    was, now, new = before["end"][of_before], ends[of_before], after[is_new]
    gone = now < 0
    cut = (raw["off"] < 0) | (was < raw["end"])  # by the next note of its key
    cut &= np.isin(places(was, raw["pitch"]), place[gone])
    moved = ~gone & ((now != was) | _struck_within(new, raw, was) | cut)
    edits.remove(raw["track"][gone], raw["on"][gone])
    edits.remove(raw["track"][gone | moved], raw["off"][gone | moved])
    _end(edits, raw[moved], now[moved])
    _add(edits, new, source, raw)
    same = selected(raw, ~moved & ~gone)
    touched = is_new | np.isin(places(after["start"], after["key"]), place[moved])
    _remove_stray_offs(edits, source, raw, same, after[touched])
    return same


def _ends_of_kept(before: Array, after: Array) -> tuple[Array, Array]:
    """Return the end of each note of `before` that is in `after` too, else -1, and which notes of `after` are new."""
    ours, others = (places(notes["start"], notes["key"]) for notes in (before, after))
    at = np.searchsorted(others, ours)
    is_there = np.append(others, -1)[at] == ours
    is_there[is_there] = before["force"][is_there] == after["force"][at[is_there]]
    ends, is_new = np.full(len(before), -1, np.int64), np.ones(len(after), bool)
    ends[is_there] = after["end"][at[is_there]]
    is_new[at[is_there]] = False
    return ends, is_new


def _struck_within(new: Array, raw: Array, ends: Array) -> Array:
    """Return which notes, cut at `ends` by a note of another part, would be released after a new note of their key."""
    strikes = places(new["start"], new["key"])
    low, high = (np.searchsorted(strikes, places(at, raw["pitch"])) for at in (ends, raw["end"]))
    return np.asarray(low < high)


def _end(edits: Edits, notes: Array, ticks: Array) -> None:
    """End notes of the file at ticks."""
    edits.add(notes["track"], ticks, BEFORE, NOTE_OFF | notes["channel"], notes["pitch"], RELEASE_VELOCITY)


def _add(edits: Edits, new: Array, source: MidiSource, raw: Array) -> None:
    """Put new notes in."""
    players = _players(new, source, raw)
    track, channel = (np.array([getattr(part, name) for part in source.into])[players] for name in ("track", "channel"))
    edits.add(track, new["start"], AFTER, NOTE_ON | channel, new["key"], new["force"])
    edits.add(track, new["end"], BEFORE, NOTE_OFF | channel, new["key"], RELEASE_VELOCITY)


def _players(new: Array, source: MidiSource, raw: Array) -> Array:
    """Return the part that takes each new note: of several, such as two hands, the one that plays nearest in pitch.

    Returns:
        Places in `source.into`: (new notes,).
    """
    player, nearest = np.zeros(len(new), np.int64), np.full(len(new), np.inf)
    for i, part in enumerate(source.into if len(source.into) > 1 and len(new) else ()):
        own = _of_part(raw, part)
        own = own[np.argsort(own["start"], kind="stable")]
        if len(own):
            sums = np.concatenate([[0], np.cumsum(own["pitch"])])
            at = np.searchsorted(own["start"], new["start"])
            low, high = np.maximum(at - NEIGHBOURS, 0), np.minimum(at + NEIGHBOURS, len(own))
            distance = np.abs((sums[high] - sums[low]) / (high - low) - new["key"])
            player[distance < nearest] = i
            nearest = np.minimum(nearest, distance)
    return player


def _of_track(notes: Array, track: int) -> Array:
    """Return the notes of a track; a file's notes are in the order of their tracks."""
    own = notes["track"]
    return np.asarray(notes[slice(*np.searchsorted(own, np.array([track, track + 1], own.dtype)))])


def _of_part(notes: Array, part: Part) -> Array:
    own = _of_track(notes, part.track)
    return np.asarray(own[own["channel"] == part.channel])


def end_unended_notes(edits: Edits, source: MidiSource, notes: Array) -> None:
    """End notes that keep their events and were never released where their track ended, if it will be longer."""
    ends = np.array([track.end for track in source.file.tracks], np.int64)
    track = notes["track"]
    unended = notes[(notes["off"] < 0) & (notes["end"] >= ends[track]) & (notes["end"] < edits.last[track])]
    _end(edits, unended, unended["end"])


def _remove_stray_offs(edits: Edits, source: MidiSource, raw: Array, kept: Array, notes: Array) -> None:
    """Remove note-offs that ended nothing and would end one of `notes`, and messages that end all notes and would.

    What such a message ended of the `kept` notes has a note-off instead.
    """
    for part in (source.parts or source.into) if len(notes) else ():
        track, own = source.file.tracks[part.track], _of_track(raw, part.track)
        silent = (track.status == NOTE_OFF | part.channel) | (
            (track.status == NOTE_ON | part.channel) & (track.second == 0)
        )
        silent[own["off"][own["off"] >= 0]] = False
        stray = np.flatnonzero(silent)
        stray = stray[_is_sounding(notes, track.ticks[stray], track.first[stray])]
        end_all = np.flatnonzero(
            (track.status == CONTROL | part.channel) & np.isin(track.first, (ALL_SOUND_OFF, ALL_NOTES_OFF))
        )
        ticks = track.ticks[end_all]
        gone = _sounds(notes, ticks)
        taken = np.concatenate([stray, end_all[gone]])
        edits.remove(np.full(len(taken), part.track), taken)
        ended = _of_part(kept, part)
        ended = ended[ended["off"] < 0]
        by = np.searchsorted(end_all, ended["on"])
        is_ended = np.append(gone, False)[by] & (
            ended["end"] == np.maximum(np.append(ticks, 0)[by], ended["start"] + 1)
        )
        _end(edits, ended[is_ended], ended["end"][is_ended])


def _is_sounding(notes: Array, ticks: Array, keys: Array) -> Array:
    """Return whether a note of a key lasts at a tick, and begins before it; of `TICKS` in their order."""
    i = np.searchsorted(places(notes["start"], notes["key"]), places(ticks, keys)) - 1
    found = notes[np.maximum(i, 0)] if len(notes) else np.zeros(len(i), notes.dtype)
    return np.asarray((i >= 0) & (found["key"] == keys) & (found["end"] > ticks))


def _sounds(notes: Array, ticks: Array) -> Array:
    """Return whether any note lasts at a tick, and begins before it."""
    begun = np.searchsorted(np.sort(notes["start"]), ticks, side="left")
    return np.asarray(begun > np.searchsorted(np.sort(notes["end"]), ticks, side="right"))
