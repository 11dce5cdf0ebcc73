"""The parts of a MIDI file, and which of them are the piano."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.music.midi_file import PROGRAM, MidiFile
from music_generator.music.midi_tables import note_table, pedal_table, selected

DRUM_CHANNEL = 9  # counted from 0
LAST_PIANO_PROGRAM = 7  # of General MIDI: programs 0 to 7 are pianos, harpsichord and clavinet
NEAR_MOST = 0.75  # of the notes of the largest part: which of several alike is read must not change with an infill

Array = NDArray[Any]

PROGRAMS = np.dtype([("tick", "i8"), ("channel", "i4"), ("program", "i4")])


@dataclass(frozen=True)
class Part:
    """The notes of one channel in one track.

    Attributes:
        track: The track in which they are, counted from 0.
        channel: Their channel, counted from 0.
        name: The name of the track; empty without one.
        program: The sound of General MIDI, counted from 0.
        notes: The number of notes.
    """

    track: int
    channel: int
    name: str
    program: int
    notes: int

    @property
    def is_drums(self) -> bool:
        """Whether it is on the channel of the drums."""
        return self.channel == DRUM_CHANNEL

    @property
    def is_piano(self) -> bool:
        """Whether its sound is a piano or another keyboard with strings."""
        return not self.is_drums and self.program <= LAST_PIANO_PROGRAM

    @property
    def place(self) -> int:
        """A number for track and channel."""
        return self.track * 16 + self.channel

    @property
    def selector(self) -> str:
        """What chooses this part alone, see `choose_parts`: its track and its channel, counted from 1."""
        return f"{self.track + 1}:{self.channel + 1}"

    def __str__(self) -> str:
        return repr(self.name) if self.name else f"track {self.track + 1}, channel {self.channel + 1}"


@dataclass(frozen=True, eq=False)
class MidiSource:
    """The file that a performance was read from, and into which it is written.

    Attributes:
        file: The file.
        all_parts: All its parts.
        parts: The parts that the performance is.
        into: The part or parts that take new notes.
        rewritten: Spans in seconds, from start to end, whose pedals are the performance's alone.
        remarks: What must be said about the file, in words.
    """

    file: MidiFile
    all_parts: tuple[Part, ...]
    parts: tuple[Part, ...]
    into: tuple[Part, ...]
    rewritten: tuple[tuple[float, float], ...] = ()
    remarks: tuple[str, ...] = field(default=())

    def with_rewritten(self, start: float, end: float) -> MidiSource:
        """Return the source with one more rewritten span."""
        return replace(self, rewritten=(*self.rewritten, (start, end)))


def find_parts(file: MidiFile) -> tuple[Part, ...]:
    """Return the parts that have notes, by track and channel."""
    programs, notes = _programs(file), note_table(file)
    order = np.argsort(_places(notes), kind="stable")
    places, begins, counts = np.unique(_places(notes)[order], return_index=True, return_counts=True)
    first = np.minimum.reduceat(notes["start"][order], begins) if len(begins) else begins
    found = []
    for place, tick, count in zip(places.tolist(), first.tolist(), counts.tolist(), strict=True):
        number, channel = divmod(place, 16)
        own = programs[channel]
        i = int(np.searchsorted(own["tick"], tick, side="right"))
        program = int(own["program"][i - 1]) if i else 0
        found.append(Part(number, channel, file.tracks[number].name, program, count))
    return tuple(found)


def _programs(file: MidiFile) -> list[Array]:
    """Return the program changes of each channel by tick, those of one tick in the order of their tracks."""
    found = [np.empty(0, PROGRAMS)]
    for track in file.tracks:
        at = np.flatnonzero((track.status & 0xF0) == PROGRAM)
        rows = np.empty(len(at), PROGRAMS)
        rows["tick"], rows["channel"], rows["program"] = track.ticks[at], track.status[at] & 0x0F, track.first[at]
        found.append(rows)
    programs = np.concatenate(found)
    programs = programs[np.argsort(programs["tick"], kind="stable")]
    return [programs[programs["channel"] == channel] for channel in range(16)]


def choose_parts(parts: tuple[Part, ...], track: str | int | None = None) -> tuple[Part, ...]:
    """Return the parts that are the piano.

    Args:
        parts: All parts of a file.
        track: A name or a part of one, whatever its case; or a number, counted from 1, as `Part.track`, or with its
            channel, such as `1:3`; or `all` for everything but the drums. None takes the only piano, else, of the
            pianos or of all, the first part with about as many notes as the one with most (`NEAR_MOST`). Other pianos
            with its name or on its channel are its other hand, as is the second of two parts.

    Raises:
        InputError: No part is meant by `track`, or only the drums.
    """
    playable = tuple(part for part in parts if not part.is_drums)
    if track == "all":
        return playable
    if track is not None:
        return _named(playable, str(track))
    pianos = tuple(part for part in playable if part.is_piano)
    most = max((part.notes for part in pianos or playable), default=0)
    best = next((part for part in pianos or playable if part.notes >= NEAR_MOST * most), None)
    if best is None or best not in pianos:
        return () if best is None else (best,)
    if len(playable) == len(pianos) == 2:
        return pianos
    return tuple(part for part in pianos if part.channel == best.channel or (part.name and part.name == best.name))


def tracks_of_choice(parts: tuple[Part, ...], chosen: tuple[Part, ...]) -> list[str | None]:
    """Return each `track` with which `choose_parts` gives the `chosen` parts; None first, if that does."""
    candidates: list[str | None] = [None]
    for part in chosen[:1]:  # what gives them all names the first one
        candidates += [f"{part.track + 1}", part.selector, *[part.name] * bool(part.name), "all"]
    return [track for track in candidates if choose_parts(parts, track) == chosen]


def _named(parts: tuple[Part, ...], track: str) -> tuple[Part, ...]:
    number, _, channel = track.partition(":")
    if number.isdecimal() and (not channel or channel.isdecimal()):
        found = tuple(part for part in parts if part.track + 1 == int(number))
        found = tuple(part for part in found if not channel or part.channel + 1 == int(channel))
    else:
        wanted = track.casefold()
        found = tuple(part for part in parts if part.name.casefold() == wanted)
        found = found or tuple(part for part in parts if wanted in part.name.casefold())
    if not found:
        there = ", ".join(_numbered(part, parts) for part in parts) or "none"
        raise InputError(f"`track` must be one of the tracks with notes ({there}) or all, not {track!r}")
    return found


def _numbered(part: Part, parts: tuple[Part, ...]) -> str:
    """Return what chooses a part: the number of its track, of several with its channel; and its name."""
    is_alone = sum(each.track == part.track for each in parts) == 1
    number = f"{part.track + 1}" if is_alone else part.selector
    return f"{number} {part.name!r}" if part.name else number


def notes_of(source: MidiSource) -> Array:
    """Return the `midi_tables.NOTES` of a source's parts: (notes,)."""
    notes = note_table(source.file)
    if source.parts == source.all_parts:
        return notes
    return selected(notes, np.isin(_places(notes), [part.place for part in source.parts]))


def pedals_of(source: MidiSource) -> Array:
    """Return the `midi_tables.PEDALS` of a source's parts: (messages,).

    They are those on the channels of its parts, where no other part is, and, if its parts are all that is no drum, on
    channels without notes: a player piano may have its pedals there.
    """
    pedals = pedal_table(source.file)
    if source.parts == source.all_parts and not (pedals["channel"] == DRUM_CHANNEL).any():
        return pedals
    channels = {part.channel for part in source.all_parts}
    chosen = set(source.parts)
    others = [part for part in source.all_parts if part not in chosen]
    own = np.isin(pedals["channel"], [part.channel for part in source.parts])
    own &= ~np.isin(_places(pedals), [part.place for part in others])
    if all(part.is_drums for part in others):
        own |= ~np.isin(pedals["channel"], [*channels, DRUM_CHANNEL])
    return selected(pedals, own)


def _places(table: Array) -> Array:
    return np.asarray(table["track"].astype(np.int64) * 16 + table["channel"])
