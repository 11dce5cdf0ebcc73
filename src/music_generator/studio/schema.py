"""A piece and what is asked as they cross to the page and back: JSON ⇄ `Performance`, checked field by field."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.music.performance import LONGEST_SECONDS, NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.tempo_map import TempoMap

Json = dict[str, Any]
_SURROGATES = re.compile("[\ud800-\udfff]")  # JSON may hold one alone, which is no text and cannot be written


def piece_to_json(piece: Performance) -> Json:
    """Rows of [onset, duration, pitch or pedal, velocity or depth], seconds to the last bit, and the tempo map."""
    return strokes_to_json(piece) | {
        "tempo_map": {
            "ticks_per_quarter": piece.tempo_map.ticks_per_quarter,
            "tempos": piece.tempo_map.tempos,
            "time_signatures": piece.tempo_map.time_signatures,
        }
    }


def strokes_to_json(piece: Performance) -> Json:
    """The notes and pedals alone."""
    return {"notes": piece.notes.tolist(), "pedals": piece.pedals.tolist()}


def piece_from_json(given: Any, what: str, most_strokes: int) -> Performance:
    """The inverse of `piece_to_json`; without a tempo map, that of a new piece. Raises `InputError`."""
    if not isinstance(given, dict):
        raise InputError(f"`{what}` must be an object with `notes` and `pedals`, not {_kind(given)}")
    notes = _strokes(given.get("notes", []), NOTE_DTYPE, f"{what}.notes", most_strokes)
    pedals = _strokes(given.get("pedals", []), PEDAL_DTYPE, f"{what}.pedals", most_strokes)
    piece = Performance(notes, pedals, _tempo_map(given.get("tempo_map"), what))
    if piece.end > LONGEST_SECONDS:
        hours = LONGEST_SECONDS / 3600
        raise InputError(f"`{what}` must last at most {hours:g} hours, not {piece.end / 3600:g}")
    return piece


def _strokes(given: Any, dtype: np.dtype[Any], what: str, most: int) -> NDArray[Any]:
    if not isinstance(given, list):
        raise InputError(f"`{what}` must be a list of rows, not {_kind(given)}")
    if len(given) > most:
        raise InputError(f"`{what}` must have at most {most:,} rows, not {len(given):,}")
    strokes = np.empty(len(given), dtype)
    if not given:
        return strokes
    try:
        table = np.array(given, np.float64)
    except (ValueError, TypeError, OverflowError):
        table = np.empty(0)
    if table.shape != (len(given), 4):
        raise InputError(f"a row of `{what}` must be four numbers: {', '.join(dtype.names or ())}")
    whole = table[:, 2:]
    if not (np.isfinite(whole).all() and (np.abs(whole) < 1000).all() and (whole == np.rint(whole)).all()):
        raise InputError(f"the third and fourth number of a row of `{what}` must be whole and in MIDI's range")
    for i, name in enumerate(dtype.names or ()):
        strokes[name] = table[:, i]
    return strokes


def _tempo_map(given: Any, what: str) -> TempoMap:
    if given is None:
        return TempoMap()
    try:
        return TempoMap(
            int(given["ticks_per_quarter"]),
            tuple((int(tick), int(tempo)) for tick, tempo in given["tempos"]),
            tuple((int(tick), int(top), int(bottom)) for tick, top, bottom in given["time_signatures"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"`{what}.tempo_map` must be as the server gave it") from error


# --- single fields -----------------------------------------------------------------------------------------------


def parse(body: bytes) -> Json:
    """The body of a request as an object. Raises `InputError` if it is none."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("the request must be JSON, and this is not") from error
    if not isinstance(given, dict):
        raise InputError(f"the request must be a JSON object, not {_kind(given)}")
    return given


def number(given: Json, name: str) -> float | None:
    """A finite number, or None if the field is missing or null. Raises `InputError`."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise InputError(f"`{name}` must be a number, not {json.dumps(value)[:40]}")
    return float(value)


def whole(given: Json, name: str) -> int | None:
    """A whole number, or None if the field is missing or null. Raises `InputError`."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"`{name}` must be a whole number, not {json.dumps(value)[:40]}")
    return value


def text(given: Json, name: str, longest: int = 200) -> str | None:
    """A text, or None if the field is missing, null or blank. Raises `InputError`."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest or _SURROGATES.search(value):
        raise InputError(f"`{name}` must be a text of at most {longest} characters")
    return value.strip() or None


def _kind(value: Any) -> str:
    return {"dict": "an object", "list": "a list", "str": "a text", "NoneType": "null", "bool": "true or false"}.get(
        type(value).__name__, "a number"
    )
