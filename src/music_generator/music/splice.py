"""A performance back into the MIDI file that it was read from: what is the same keeps its events."""

from __future__ import annotations

import numpy as np

from music_generator.music.edits import Edits
from music_generator.music.midi_file import (
    END_OF_TRACK,
    TRACK_NAME,
    MidiFile,
    make_track,
    meta,
)
from music_generator.music.midi_parts import MidiSource, Part, notes_of, pedals_of
from music_generator.music.midi_tables import press_table, tempo_events, tempo_map_of
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.splice_notes import end_unended_notes, splice_notes
from music_generator.music.splice_pedals import end_unended_presses, splice_pedals
from music_generator.music.ticks import check_countable, in_seconds, on_piano, on_ticks


def splice(performance: Performance) -> bytes:
    """Return the file that a performance was read from, with what is new in the performance; else a new file.

    A note that is in both keeps its events, and so do the pedals where both press them; within the source's
    `rewritten` spans all pedals are those of the performance. All other events stay as they are.

    Raises:
        InputError: The performance lasts more ticks than MIDI can count.
    """
    source = performance.source or _new_source(performance)
    tempo_map, notes, messages = tempo_map_of(source.file), notes_of(source), pedals_of(source)
    edits = Edits(source.file)
    before = on_ticks(in_seconds(press_table(messages, source.file), PEDAL_DTYPE, tempo_map), tempo_map)
    after = on_ticks(performance.pedals, tempo_map)
    splice_pedals(edits, source, messages, before, after, tempo_map)
    before = on_ticks(in_seconds(on_piano(notes), NOTE_DTYPE, tempo_map), tempo_map)
    kept = splice_notes(edits, source, notes, before, on_ticks(performance.notes, tempo_map))
    end_unended_presses(edits, source, messages, after)
    end_unended_notes(edits, source, kept)
    return edits.applied()


def _new_source(performance: Performance) -> MidiSource:
    """Return a file of one track without notes, on ticks of at most 1 ms, with the tempo map of a performance."""
    tempo_map = performance.tempo_map.refined()
    events = [(0, meta(TRACK_NAME, b"Piano")), *tempo_events(tempo_map)]
    check_countable(np.array([tick for tick, _ in events]))
    file = MidiFile(0, tempo_map.ticks_per_quarter, (make_track([*events, (events[-1][0], meta(END_OF_TRACK, b""))]),))
    piano = (Part(0, 0, "Piano", 0, 0),)
    return MidiSource(file, piano, piano, piano)
