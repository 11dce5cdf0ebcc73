"""The parts of a piece's file, for the page to show and to play beside the piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.music.midi_parts import MidiSource, Part
from music_generator.music.midi_tables import note_table, tempo_map_of
from music_generator.studio.schema import Json

DECIMALS = 4  # of a second, in rows that are shown and played only


def parts_to_json(source: MidiSource | None, max_notes: int) -> Json:
    """Return the parts of a file, with the notes of those that are not the piece.

    Args:
        source: The file; None for a new piece, which has no parts.
        max_notes: The most notes of the other parts together; of more the first ones are given.

    Returns:
        `parts`, and `cut`: the second from which on notes of other parts are left out, null if none is.
    """
    if source is None:
        return {"parts": [], "cut": None}
    notes, tempo_map = note_table(source.file), tempo_map_of(source.file)
    places = notes["track"].astype(np.int64) * 16 + notes["channel"]
    is_other = ~np.isin(places, [part.place for part in source.parts])
    notes, places = notes[is_other], places[is_other]
    order = np.argsort(notes["start"], kind="stable")
    cut = float(tempo_map.ticks_to_seconds(notes["start"][order[max_notes]])) if len(order) > max_notes else None
    notes, places = notes[order[:max_notes]], places[order[:max_notes]]
    onset, end = (tempo_map.ticks_to_seconds(notes[name]) for name in ("start", "end"))
    rows = np.stack([onset, end - onset, notes["pitch"], notes["velocity"]], axis=1).round(DECIMALS)
    chosen = set(source.parts)
    parts = [_part_to_json(part, rows[places == part.place], part in chosen) for part in source.all_parts]
    return {"parts": parts, "cut": cut}


def _part_to_json(part: Part, rows: NDArray[Any], is_chosen: bool) -> Json:
    return {
        "track": part.selector,
        "name": part.name,
        "channel": part.channel + 1,
        "program": part.program,
        "drums": part.is_drums,
        "count": part.notes,
        "chosen": is_chosen,
        "notes": [[onset, duration, int(pitch), int(velocity)] for onset, duration, pitch, velocity in rows.tolist()],
    }
