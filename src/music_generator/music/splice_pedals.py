"""The pedals of a performance, put into the file that it was read from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.edits import AFTER, BEFORE, Edits
from music_generator.music.midi_file import CONTROL, MidiFile
from music_generator.music.midi_parts import MidiSource, pedals_of
from music_generator.music.midi_tables import PEDAL_CONTROLLERS, PRESSED, selected, unreleased
from music_generator.music.tempo_map import TempoMap
from music_generator.music.ticks import places, tick_from

Array = NDArray[Any]

Spans = list[tuple[int, int]]
"""Spans in ticks, from start to end."""


def splice_pedals(
    edits: Edits, source: MidiSource, messages: Array, before: Array, after: Array, tempo_map: TempoMap
) -> None:
    """Let the presses of the pedals be other ones, where they differ or were rewritten.

    Args:
        edits: Of the source's file.
        source: The file.
        messages: The `midi_tables.PEDALS` of its parts.
        before: Its presses, as `ticks.TICKS`.
        after: Those that shall be there.
        tempo_map: That of the file.
    """
    rewritten = _merged([(tick_from(start, tempo_map), tick_from(end, tempo_map)) for start, end in source.rewritten])
    for pedal in range(len(PEDAL_CONTROLLERS)):
        presses = [_of_pedal(each, pedal) for each in (before, after)]
        if spans := _merged(rewritten + _differing(presses[0], presses[1], rewritten)):
            own = selected(messages, messages["pedal"] == pedal)
            _remove(edits, own, np.array(spans))
            _press(edits, source, own, pedal, spans, presses[0], presses[1])


def _of_pedal(presses: Array, pedal: int) -> Array:
    return np.asarray(presses[slice(*np.searchsorted(presses["key"], (pedal, pedal + 1)))])


def _remove(edits: Edits, messages: Array, spans: Array) -> None:
    """Remove messages within spans (n, 2); `messages` are in the order of their tracks, and there of their ticks."""
    for track in np.flatnonzero(np.bincount(messages["track"])).tolist():
        own = messages[slice(*np.searchsorted(messages["track"], (track, track + 1)))]
        for low, high in np.searchsorted(own["tick"], spans).tolist():
            edits.remove(track, own["event"][low:high])


def _press(
    edits: Edits, source: MidiSource, messages: Array, pedal: int, spans: Spans, before: Array, after: Array
) -> None:
    """Put in what makes the presses of `after` within spans; `messages` are those of the pedal in the file."""
    held = _pressed_at(np.array(spans)[:, 0] - 1, before).tolist()
    for track, channel in _pedal_places(source, messages):
        own = selected(messages, (messages["track"] == track) & (messages["channel"] == channel))
        own, values = _with_release(own, source.file), []
        for (start, end), is_held in zip(spans, held, strict=True):
            values += _values_in(start, end, own, after, held=is_held)
        for side in (BEFORE, AFTER):
            rows = np.array([(tick, value) for tick, at, value in values if at == side], np.int64).reshape(-1, 2)
            edits.add(track, rows[:, 0], side, CONTROL | channel, PEDAL_CONTROLLERS[pedal], rows[:, 1])


def _pedal_places(source: MidiSource, messages: Array) -> list[tuple[int, int]]:
    """Return the tracks and channels that take new presses: those that press the pedal in the file, else the parts'."""
    into = {part.channel: part.track for part in reversed(source.into)}
    elsewhere = {part.channel for part in source.parts} - set(into)
    pressing = messages[(messages["value"] >= PRESSED) & ~np.isin(messages["channel"], list(elsewhere))]
    found = np.flatnonzero(np.bincount(pressing["track"].astype(np.int64) * 16 + pressing["channel"])).tolist()
    return [divmod(place, 16) for place in found] or [(into[each], each) for each in into]


def _with_release(messages: Array, file: MidiFile) -> Array:
    """Return the messages of one place; where they leave the pedal down, also its release at the end."""
    ends = unreleased(messages[-1:], file)
    if not ends:
        return messages
    release = messages[-1:].copy()
    release["tick"], release["value"], release["event"] = ends[0][0], 0, -1
    return np.concatenate([messages, release])


def first_messages(source: MidiSource, tempo_map: TempoMap, second: float) -> Array:
    """Return the second of the first message of each pedal at or after a second, infinity without one: (3,).

    There a press that comes from before ends: the file's own messages go on.
    """
    messages = pedals_of(source)
    messages = messages[messages["tick"] >= tick_from(second, tempo_map)]
    first = np.full(len(PEDAL_CONTROLLERS), np.inf)
    np.minimum.at(first, messages["pedal"], tempo_map.ticks_to_seconds(messages["tick"]))
    return first


def end_unended_presses(edits: Edits, source: MidiSource, messages: Array, after: Array) -> None:
    """Let pedals that were never released go where their track ended, if it or the file will be longer.

    One that is down there goes where its press ends: another place, or a new press, may hold it on.
    """
    longest = int(edits.last.max(initial=0))
    for end, track, channel, pedal in unreleased(messages, source.file):
        held_on = after["end"][(after["key"] == pedal) & (after["start"] < end) & (after["end"] > end)]
        tick, release = int(held_on.max(initial=end)), bytes([CONTROL | channel, PEDAL_CONTROLLERS[pedal], 0])
        if tick < longest and not edits.adds(track, tick, release):
            edits.add(track, np.array([tick]), BEFORE, *release)


def _merged(spans: Spans) -> Spans:
    """Return spans in their order, those that touch or overlap as one."""
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _differing(before: Array, after: Array, rewritten: Spans) -> Spans:
    """Return the spans in which only one of two sets of presses presses the pedal.

    What follows a rewritten span at once is left out: the file's own events are kept there.
    """
    first, second = (places(presses["end"], presses["start"]) for presses in (before, after))
    new = ~np.isin(second, first, assume_unique=True)
    gone = ~np.isin(first, second, assume_unique=True)
    apart = [presses[name][which] for presses, which in ((before, gone), (after, new)) for name in ("start", "end")]
    edges = np.sort(np.concatenate(apart), kind="stable")
    edges = edges[np.diff(edges, prepend=-1) > 0]
    at = np.flatnonzero(_pressed_at(edges, before) != _pressed_at(edges, after))
    starts, ends = edges[at], edges[at + 1]
    for low, high in rewritten:
        outside = (starts < low) | (starts > high)
        starts, ends = starts[outside], ends[outside]
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _pressed_at(ticks: Array, presses: Array) -> Array:
    """Return whether the pedal is down from each tick on; presses are in their order and do not overlap."""
    i = np.searchsorted(presses["start"], ticks, side="right") - 1
    return np.asarray((i >= 0) & (ticks < presses["end"][i])) if len(presses) else np.zeros(len(ticks), bool)


def _values_in(start: int, end: int, messages: Array, presses: Array, *, held: bool) -> list[tuple[int, int, int]]:
    """Return (tick, side, value) of the messages that make presses in a span without messages.

    The pedal is as the place's `messages` left it at the start, and they go on at the end, from the value that they
    had. `held`: some place holds the pedal down when the span begins.
    """
    here = presses[np.searchsorted(presses["end"], start, "right") : np.searchsorted(presses["start"], end, "right")]
    values = []
    if _value_before(start, messages) >= PRESSED and not (here["start"] <= start).any():
        values.append((start, BEFORE, 0))
    inside = messages[slice(*np.searchsorted(messages["tick"], (start, end)))]
    resets = inside["tick"][inside["event"] < 0]
    for first, last, _, depth in here.tolist():
        if first < end and (first >= start or not held):
            values.append((max(first, start), AFTER, max(depth, PRESSED)))
        since = max(first, start - held)  # a reset lets go at the start too what was held
        again = slice(np.searchsorted(resets, since, "right"), np.searchsorted(resets, min(last, end)))
        values += [(tick, AFTER, max(depth, PRESSED)) for tick in resets[again].tolist()]
        if last <= end:
            values.append((last, BEFORE, 0))
        elif values or len(inside):
            values += _over_the_edge(first, end, last, messages)
    return values


def _over_the_edge(first: int, edge: int, last: int, messages: Array) -> list[tuple[int, int, int]]:
    """Return what a press from tick `first` to `last` needs that is down from the end of a span on."""
    value = _value_before(edge, messages)
    if value >= PRESSED:
        return [(edge, BEFORE, value)]
    if first == edge:
        return []  # a message of the file presses it
    at = int(np.searchsorted(messages["tick"], edge))
    if at < len(messages) and messages["tick"][at] <= last:
        return [(int(messages["tick"][at]), BEFORE, 0)] if messages["value"][at] >= PRESSED else []
    return [(last, BEFORE, 0)]


def _value_before(tick: int, messages: Array) -> int:
    """Return the value of the last message before a tick, 0 if there is none."""
    i = int(np.searchsorted(messages["tick"], tick))
    return int(messages["value"][i - 1]) if i else 0
