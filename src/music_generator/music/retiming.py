"""The same music on other bars: a performance and its file get another tempo map, and sound when they did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from music_generator.music.midi_file import (
    META,
    TEMPO,
    TIME_SIGNATURE,
    Event,
    MidiFile,
    Track,
    make_track,
    meta,
    metre_event,
)
from music_generator.music.midi_tables import tempo_events, tempo_map_of
from music_generator.music.performance import Performance
from music_generator.music.tempo_map import TempoMap


def on_tempo_map(performance: Performance, tempo_map: TempoMap) -> Performance:
    """Return a performance on another tempo map: its notes and pedals as they are, its file on other ticks.

    In the file that it is from, all tempi and time signatures are replaced by those of the map, and all other events
    move to the tick nearest to their second: those of other parts, lyrics, markers and the ends of tracks too. So
    everything sounds when it did, to half a tick. The file's ticks are the map's, divided by a whole number where they
    are longer than 1 ms.

    Args:
        performance: The performance.
        tempo_map: The new map. That of the file changes nothing.

    Raises:
        InputError: The file would last more ticks than MIDI can count.
    """
    source = performance.source
    if source is None:
        return replace(performance, tempo_map=tempo_map)
    before, after = tempo_map_of(source.file), tempo_map.refined()
    if before in (tempo_map, after):
        return replace(performance, tempo_map=before)
    source = replace(source, file=_retimed_file(source.file, before, after))
    return replace(performance, tempo_map=after, source=source)


def _retimed_file(file: MidiFile, before: TempoMap, after: TempoMap) -> MidiFile:
    tracks = [_retimed_track(track, before, after) for track in file.tracks]
    tracks[0] = sorted([*_tempo_events(file, after), *tracks[0]], key=lambda event: event[0])
    running = any(track.uses_running_status for track in file.tracks)
    made = [make_track(events, running_status=running) for events in tracks]
    return replace(file, division=after.ticks_per_quarter).with_tracks(made)


def _tempo_events(file: MidiFile, tempo_map: TempoMap) -> list[Event]:
    """Return the tempi and time signatures of a map; a metre that the file had keeps its clicks of the metronome."""
    signs = {data[:2]: data for track in file.tracks for _, data in track.metas(TIME_SIGNATURE)}
    own = {metre_event(data[0], 1 << data[1]): meta(TIME_SIGNATURE, data) for data in signs.values() if len(data) == 4}
    return [(tick, own.get(message, message)) for tick, message in tempo_events(tempo_map)]


def _retimed_track(track: Track, before: TempoMap, after: TempoMap) -> list[Event]:
    """Return the events of a track on the ticks of another tempo map, without tempi and time signatures."""
    ticks = np.maximum.accumulate(after.seconds_to_ticks(before.ticks_to_seconds(track.ticks)))
    replaced = (track.status == META) & ((track.first == TEMPO) | (track.first == TIME_SIGNATURE))
    return [(tick, track.event(i)) for i, tick in enumerate(ticks.tolist()) if not replaced[i]]
