"""The JSON of the API: pieces to and from `Performance`, and the fields of a request, each checked."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError, MidiError
from music_generator.music.midi_file import parse_midi
from music_generator.music.midi_parts import MidiSource, find_parts
from music_generator.music.midi_tables import tempo_map_of
from music_generator.music.performance import LONGEST_SECONDS, NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.retiming import on_tempo_map
from music_generator.music.tempo_map import TempoMap

Json = dict[str, Any]
FIELD_WORDS = {
    "task": "the task",
    "from": "the start",
    "to": "the end",
    "seconds": "the length",
    "temperature": "the temperature",
    "top_p": "top-p",
    "seed": "the seed",
    "variations": "the number of variations",
    "composer": "the style",
    "density": "the density",
    "loudness": "the loudness",
    "returns": "how readily themes come back",
    "recall": "the passage to come back to",
    "keep": "what is kept",
    "open_end": "the open end",
    "track": "the track",
    "name": "the name",
    "second_name": "the second name",
    "title": "the title",
    "format": "the format",
}
"""The fields of requests as the page calls them; an error in one is told in these words."""
LARGEST_EXACT = (1 << 53) - 1  # up to here a browser's whole numbers are exact
_NAMES = re.compile("`([a-z_]+)`")
_SURROGATES = re.compile("[\ud800-\udfff]")  # JSON may contain a single one, which cannot be encoded as UTF-8
_TYPE_NAMES = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}


def piece_to_json(piece: Performance) -> Json:
    """Return the events of a piece, its tempo map and the file that it is from; `piece_from_json` is the inverse."""
    return events_to_json(piece) | facts_to_json(piece)


def facts_to_json(piece: Performance) -> Json:
    """Return the tempo map of a piece, and the file that it is from with the parts that it is; or null."""
    return {
        "tempo_map": {
            "ticks_per_quarter": piece.tempo_map.ticks_per_quarter,
            "tempos": piece.tempo_map.tempos,
            "time_signatures": piece.tempo_map.time_signatures,
        },
        "source": None if piece.source is None else _source_to_json(piece.source),
    }


def _source_to_json(source: MidiSource) -> Json:
    return {
        "file": base64.b64encode(source.file.to_bytes()).decode(),
        "parts": [part.place for part in source.parts],
        "into": [part.place for part in source.into],
        "rewritten": source.rewritten,
    }


def events_to_json(piece: Performance) -> Json:
    """Return rows of [onset, duration, pitch or pedal, velocity or depth], in seconds."""
    return {"notes": piece.notes.tolist(), "pedals": piece.pedals.tolist()}


def piece_from_json(value: Any, name: str, max_events: int) -> Performance:
    """Return the piece of a JSON value.

    Its tempo map may be another one than that of its file, which then gets it, see `on_tempo_map`. Without a tempo map
    it has that of its file, or of a new piece.

    Args:
        value: What the request has for the piece.
        name: The name of the field, for error messages.
        max_events: The most notes and the most pedal presses.

    Raises:
        InputError: The value is not a piece, or is too long or too large.
    """
    if not isinstance(value, dict):
        raise InputError(f"`{name}` must be an object with `notes` and `pedals`, not {_type_name(value)}")
    notes = _events(value.get("notes", []), NOTE_DTYPE, f"{name}.notes", max_events)
    pedals = _events(value.get("pedals", []), PEDAL_DTYPE, f"{name}.pedals", max_events)
    piece = Performance(notes, pedals, *_source_and_its_map(value.get("source"), name))
    if value.get("tempo_map") is not None:
        piece = on_tempo_map(piece, _tempo_map(value["tempo_map"], name))
    if piece.end > LONGEST_SECONDS:
        hours = LONGEST_SECONDS / 3600
        raise InputError(f"`{name}` must last at most {hours:g} hours, not {piece.end / 3600:g}")
    return piece


def notes_from_json(rows: Any, name: str, max_events: int) -> NDArray[Any]:
    """Return rows of [onset, duration, pitch, velocity] as notes: (n,) `NOTE_DTYPE`. Raises `InputError`."""
    return _events(rows, NOTE_DTYPE, name, max_events)


def _events(rows: Any, dtype: np.dtype[Any], name: str, max_events: int) -> NDArray[Any]:
    if not isinstance(rows, list):
        raise InputError(f"`{name}` must be a list of rows, not {_type_name(rows)}")
    if len(rows) > max_events:
        raise InputError(f"`{name}` must have at most {max_events:,} rows, not {len(rows):,}")
    events, table = np.empty(len(rows), dtype), _table(rows, dtype, name)
    for i, column in enumerate(dtype.names or ()):
        events[column] = table[:, i]
    return events


def _table(rows: list[Any], dtype: np.dtype[Any], name: str) -> NDArray[np.float64]:
    """Return rows of onset, duration and two whole numbers: (n, 4)."""
    if not rows:
        return np.empty((0, 4))
    try:
        table = np.array(rows, np.float64)
    except (ValueError, TypeError, OverflowError):
        table = np.empty(0)
    if table.shape != (len(rows), 4):
        raise InputError(f"a row of `{name}` must be four numbers: {', '.join(dtype.names or ())}")
    integers = table[:, 2:]
    if not (np.isfinite(integers).all() and (np.abs(integers) < 1000).all() and (integers == np.rint(integers)).all()):
        raise InputError(f"the third and fourth number of a row of `{name}` must be whole and in MIDI's range")
    return table


def _tempo_map(value: Any, name: str) -> TempoMap:
    try:
        return TempoMap(
            _whole(value["ticks_per_quarter"]),
            tuple((_whole(tick), _whole(tempo)) for tick, tempo in value["tempos"]),
            tuple((_whole(tick), _whole(top), _whole(bottom)) for tick, top, bottom in value["time_signatures"]),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"`{name}.tempo_map` must have `ticks_per_quarter`, `tempos` and `time_signatures`, all in whole numbers"
        ) from error


def _whole(value: Any) -> int:
    """Return a whole number below 2 ** 53. Raises `ValueError`."""
    if isinstance(value, bool) or value != int(value) or not abs(value) <= LARGEST_EXACT:
        raise ValueError(value)
    return int(value)


def _source_and_its_map(value: Any, name: str) -> tuple[TempoMap, MidiSource | None]:
    source = None if value is None else _source(value, name)
    return TempoMap() if source is None else tempo_map_of(source.file), source


def _source(value: Any, name: str) -> MidiSource:
    try:
        file = parse_midi(base64.b64decode(value["file"], validate=True))
        parts = find_parts(file)
        chosen, into = (tuple(part for part in parts if part.place in value[field]) for field in ("parts", "into"))
        rewritten = tuple((float(start), float(end)) for start, end in value["rewritten"])
        tempo_map_of(file)
    except (KeyError, TypeError, ValueError, OverflowError, MidiError) as error:
        raise InputError(f"`{name}.source` must be as the server gave it") from error
    if not into or not all(0 <= start <= end <= LONGEST_SECONDS for start, end in rewritten):
        raise InputError(f"`{name}.source` must be as the server gave it")
    return MidiSource(file, parts, chosen, into, rewritten)


# --- single fields -----------------------------------------------------------------------------------------------


def parse_object(body: bytes) -> Json:
    """Return the body of a request as a JSON object. Raises `InputError` if it is not one."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("the request must be JSON, and this is not") from error
    if not isinstance(value, dict):
        raise InputError(f"the request must be a JSON object, not {_type_name(value)}")
    return value


def get_number(fields: Json, name: str) -> float | None:
    """Return a finite number, or None if the field is missing or null. Raises `InputError`."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise InputError(f"`{name}` must be a number, not {json.dumps(value)[:40]}")
    return float(value)


def get_integer(fields: Json, name: str) -> int | None:
    """Return a whole number, or None if the field is missing or null. Raises `InputError`."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"`{name}` must be a whole number, not {json.dumps(value)[:40]}")
    return value


def get_flag(fields: Json, name: str) -> bool:
    """Return a truth value, False if the field is missing or null. Raises `InputError`."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"`{name}` must be true or false, not {json.dumps(value)[:40]}")
    return bool(value)


def get_span(fields: Json, name: str) -> tuple[float, float] | None:
    """Return two finite numbers, or None if the field is missing or null. Raises `InputError`."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"`{name}` must be two seconds, from and to, not {json.dumps(value)[:40]}")
    start, end = (get_number({name: each}, name) for each in value)
    if start is None or end is None:
        raise InputError(f"`{name}` must be two seconds, from and to, not {json.dumps(value)[:40]}")
    return start, end


def get_seed(fields: Json, count: int) -> int | None:
    """Return the seed of the first of `count` variations, or None if the field is missing, null or blank.

    A page sends what was typed as a text: its own numbers would be rounded.

    Raises:
        InputError: It is no whole number, or the last variation's would be larger than a page can show.
    """
    value, most = fields.get("seed"), LARGEST_EXACT - (count - 1)
    if isinstance(value, str):
        if not value.strip():
            return None
        digits = value.strip().lstrip("0") or "0"
        value = int(digits) if digits.isdecimal() and len(digits) < 100 else value
    seed = get_integer({"seed": value}, "seed")
    if seed is not None and not 0 <= seed <= most:
        raise InputError(f"`seed` must be 0 to {most}, not {str(seed)[:40]}")
    return seed


def get_text(fields: Json, name: str, max_length: int = 200) -> str | None:
    """Return a text, or None if the field is missing, null or blank. Raises `InputError`."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > max_length or _SURROGATES.search(value):
        raise InputError(f"`{name}` must be a text of at most {max_length} characters")
    return value.strip() or None


def in_words(message: str) -> tuple[str, str | None]:
    """Return an error's message with `FIELD_WORDS` for the names of fields, and the first field that it names."""
    named = [name for name in _NAMES.findall(message) if name in FIELD_WORDS]
    words = _NAMES.sub(lambda found: FIELD_WORDS.get(found[1], found[0]), message)
    return words, named[0] if named else None


def _type_name(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "a number")
