"""Read and write MIDI files and bytes. `read_midi` and `write_midi` are inverses for the content of a `Performance`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from music_generator.errors import InputError, MidiError
from music_generator.files import replacing
from music_generator.music.midi_file import LARGEST_BYTES, parse_midi
from music_generator.music.midi_parts import MidiSource, Part, choose_parts, find_parts, notes_of, pedals_of
from music_generator.music.midi_tables import press_table, tempo_map_of
from music_generator.music.performance import (
    HIGHEST_PITCH,
    LONGEST_SECONDS,
    LOWEST_PITCH,
    NOTE_DTYPE,
    PEDAL_DTYPE,
    Performance,
)
from music_generator.music.splice import splice
from music_generator.music.ticks import in_seconds, on_piano

__all__ = ["MidiReading", "read_midi", "write_midi"]

Origin = str | Path | None  # the file's path, None for bytes


@dataclass(frozen=True)
class MidiReading:
    """The piano performance of a MIDI file, and how much of the file is not in it.

    Attributes:
        performance: The notes on the piano's keys and the pedals of the chosen parts.
        parts: All parts of the file that have notes.
        chosen: The parts that are the piano.
        notes_off_piano: The number of notes of the chosen parts outside the piano's keys, left out.
        faults: What was wrong with the file and was mended in reading, in words.
    """

    performance: Performance
    parts: tuple[Part, ...] = ()
    chosen: tuple[Part, ...] = ()
    notes_off_piano: int = 0
    faults: tuple[str, ...] = ()

    @property
    def tracks(self) -> int:
        """The number of tracks that have notes."""
        return len({part.track for part in self.parts})

    @property
    def drum_notes(self) -> int:
        """The number of notes on channel 10."""
        return sum(part.notes for part in self.parts if part.is_drums)

    @property
    def left_out(self) -> str:
        """One line about what of the file is not in the performance, empty if everything is."""
        chosen = set(self.chosen)
        others = [part for part in self.parts if part not in chosen and not part.is_drums]
        counts = [f"{_count(part.notes, 'note')} of {part}" for part in others[:3]]
        if len(others) > 3:
            counts.append(f"{_count(sum(part.notes for part in others[3:]), 'note')} of {len(others) - 3} other parts")
        if self.drum_notes:
            counts.append(_count(self.drum_notes, "drum note"))
        if self.notes_off_piano:
            counts.append(self._off_piano)
        return f"left out {_listed(counts)}" if counts else ""

    @property
    def _off_piano(self) -> str:
        return f"{_count(self.notes_off_piano, 'note')} outside the piano's keys {LOWEST_PITCH}-{HIGHEST_PITCH}"

    @property
    def remarks_on_chosen(self) -> tuple[str, ...]:
        """What must be said where the other parts are seen: faults, and notes of the chosen parts that are left out."""
        return (*self.faults, *[f"left out {self._off_piano}"] * bool(self.notes_off_piano))

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that must be said about the reading: faults, the chosen parts if there are others, what is left out."""
        chosen = [f"read {_listed([str(part) for part in self.chosen])}"] if len(self.parts) > len(self.chosen) else []
        return (*self.faults, *chosen, *[self.left_out] * bool(self.left_out))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _listed(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def read_midi(origin: str | Path | bytes, *, track: str | int | None = None) -> MidiReading:
    """Read a MIDI file as one piano performance on the file's own ticks.

    The performance keeps the file, so that `write_midi` writes it back with all other tracks and events. The pedals are
    the controllers 64, 66 and 67, pressed from value 64 on; a pedal that is never released lasts to the end of its
    track, and so does a note. A file without notes gives a performance without notes.

    Args:
        origin: The path of the file, or its bytes.
        track: Which part is the piano, see `choose_parts`: a name, a number, or `all` for everything but the drums.

    Raises:
        MidiError: The file cannot be read, is not MIDI, is damaged, lasts over 24 hours or is larger than 8.5 MB.
        InputError: `track` is not one of its tracks.
    """
    path, data = _path_and_bytes(origin)
    file = parse_midi(data, path)
    if file.form > 1 and len(file.tracks) > 1:
        raise MidiError(path, f"MIDI type {file.form} is not supported; export it as type 0 or 1")
    parts = find_parts(file)
    chosen = choose_parts(parts, track)
    last = Part(max(len(file.tracks) - 1, 0), 0, "", 0, 0)  # takes new notes where no part has any
    source = MidiSource(file, parts, chosen, chosen or (last,))
    notes = notes_of(source)
    off_piano = len(notes) - len(on_piano(notes))
    reading = MidiReading(Performance(), parts, chosen, off_piano, file.faults)
    performance = _performance_of(replace(source, remarks=reading.remarks), path)
    return replace(reading, performance=performance if file.tracks else replace(performance, source=None))


def _performance_of(source: MidiSource, path: Origin) -> Performance:
    """Return the notes on the piano's keys and the pedals of a source's parts."""
    tempo_map = tempo_map_of(source.file, path)
    notes, presses = on_piano(notes_of(source)), press_table(pedals_of(source), source.file)
    return Performance(
        in_seconds(notes, NOTE_DTYPE, tempo_map, path),
        in_seconds(presses, PEDAL_DTYPE, tempo_map, path),
        tempo_map,
        source,
    )


def write_midi(performance: Performance, path: str | Path | None = None) -> bytes:
    """Write a performance as a MIDI file.

    A performance that was read from a file is written back into it: all other tracks and events stay as they are, and
    so does each note that is still there. Otherwise the file has one track.

    The ticks are those of the tempo map; in a new file they are divided by a whole number where they are longer than
    1 ms. Onsets and ends are rounded to the nearest tick; an event lasts at least one tick, and of events of one key
    that fall on one tick the longest stays. A pedal depth below 64 is written as 64, because less would not count as
    pressed.

    Args:
        performance: The performance.
        path: The file to write; None writes none.

    Returns:
        The bytes of the file.

    Raises:
        InputError: The performance lasts over 24 hours or more ticks than MIDI can count, or the file cannot be
            written.
    """
    if performance.end >= LONGEST_SECONDS:
        raise InputError(f"the performance lasts {performance.end / 3600:.1f} hours; MIDI is written up to 24 hours")
    data = splice(performance)
    if path is not None:
        with replacing(path) as beside:
            beside.write_bytes(data)
    return data


def _path_and_bytes(source: str | Path | bytes) -> tuple[Origin, bytes]:
    if isinstance(source, bytes):
        return None, source
    try:
        with Path(source).open("rb") as file:
            return source, file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise MidiError(source, "no such file") from None
    except OSError as error:
        raise MidiError(source, f"cannot be read: {error.strerror}") from error
