"""Edits of a file's tracks: events taken out and messages put in. All bytes between them stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.music.midi_file import END_OF_TRACK, LONGEST_DELTA, META, SYSEX, MidiFile, Track, is_end

Array = NDArray[Any]

BEFORE, AFTER = -1, 1  # the events of the file at the same tick

MESSAGES = np.dtype([("tick", "i8"), ("side", "i1"), ("message", "u1", 3)])
"""A message that is put in, `BEFORE` or `AFTER` the track's own events of its tick."""
PIECES = np.dtype(
    [("tick", "i8"), ("last", "i8"), ("begin", "i4"), ("end", "i4"), ("message", "u1", 3), ("size", "i1")]
)
"""What stands in an edited track: its first and its last tick, its bytes of the track without the first delta time, and
the bytes, `size` of them, that come before these."""

_NOTHING, _NO_MESSAGES = np.empty(0, np.int64), np.empty(0, MESSAGES)


class Edits:
    """What is taken out of the tracks of a file, and what is put into them."""

    def __init__(self, file: MidiFile) -> None:
        self._file = file
        self._removed: list[list[Array]] = [[] for _ in file.tracks]
        self._added: list[list[Array]] = [[] for _ in file.tracks]

    def remove(self, tracks: Any, events: Array) -> None:
        """Take events out.

        Args:
            tracks: The track of each.
            events: Its place in the track, -1 for none: (n,).
        """
        for track, own in _by_track(np.broadcast_to(tracks, len(events))):
            self._removed[track].append(events[own][events[own] >= 0])

    def add(self, tracks: Any, ticks: Array, side: int, *message: Any) -> None:
        """Put messages in; those of one tick and side stand there in the order in which they are put in.

        Args:
            tracks: The track of each.
            ticks: Its tick: (n,).
            side: `BEFORE` or `AFTER` the events of the file at its tick.
            message: Its three bytes, each (n,) or one for all.
        """
        rows = np.empty(len(ticks), MESSAGES)
        rows["tick"], rows["side"] = ticks, side
        for i, values in enumerate(message):
            rows["message"][:, i] = values
        for track, own in _by_track(np.broadcast_to(tracks, len(ticks))):
            self._added[track].append(rows[own])

    def adds(self, track: int, tick: int, message: bytes) -> bool:
        """Return whether a message is put into a track at a tick."""
        wanted = np.frombuffer(message, np.uint8)
        return any(((rows["tick"] == tick) & (rows["message"] == wanted).all(1)).any() for rows in self._added[track])

    @property
    def last(self) -> Array:
        """The tick of the last message that is put into each track, -1 where none is: (tracks,)."""
        return np.array([max((rows["tick"].max() for rows in added), default=-1) for added in self._added], np.int64)

    def applied(self) -> bytes:
        """Return the bytes of the edited file.

        Raises:
            InputError: More ticks than MIDI can count lie between two events.
        """
        tracks = zip(self._file.tracks, self._removed, self._added, strict=True)
        return self._file.to_bytes(
            _edited(track, np.concatenate([_NOTHING, *removed]), np.concatenate([_NO_MESSAGES, *added]))
            for track, removed, added in tracks
        )


def _by_track(tracks: Array) -> Iterator[tuple[int, Any]]:
    """Yield each track with the places of its own in `tracks`."""
    if (tracks[1:] == tracks[:-1]).all():
        yield from ((int(track), slice(None)) for track in tracks[:1])
        return
    order = np.argsort(tracks, kind="stable")
    first = np.flatnonzero(np.diff(tracks[order], prepend=-1))
    yield from zip(tracks[order][first].tolist(), np.split(order, first[1:]), strict=False)


def _edited(track: Track, removed: Array, added: Array) -> bytes:
    """Return the bytes of a track without its events at `removed` places and with the messages `added`."""
    if not len(removed) and not len(added):
        return track.data
    count = len(track.ticks) - (len(track.ticks) > 0 and is_end(track.event(len(track.ticks) - 1)))
    added = added[np.lexsort((added["side"], added["tick"]))]
    left, right = (np.searchsorted(track.ticks[:count], added["tick"], side) for side in ("left", "right"))
    at = np.where(added["side"] == BEFORE, left, right)
    runs, first = _runs(track, count, removed, at)
    end = np.array([max(track.end, added["tick"].max(initial=0))])
    pieces = np.concatenate(
        [_messages(added["tick"], added["message"]), runs, _messages(end, np.array([META, END_OF_TRACK, 0]))]
    )
    return _joined(track.data, pieces[np.argsort(np.concatenate([at, first, [count + 1]]), kind="stable")])


def _messages(ticks: Array, messages: Array) -> Array:
    """Return messages as pieces."""
    pieces = np.zeros(len(ticks), PIECES)
    pieces["tick"], pieces["last"], pieces["message"], pieces["size"] = ticks, ticks, messages, 3
    return pieces


def _runs(track: Track, count: int, removed: Array, at: Array) -> tuple[Array, Array]:
    """Return the pieces of the events that stay, cut at the places `at`, and the place of the first event of each."""
    is_gone, is_edge = np.zeros(count, bool), np.zeros(count + 1, bool)
    is_gone[removed] = True
    is_edge[removed] = is_edge[removed + 1] = is_edge[at] = is_edge[[0, count]] = True
    speaking = np.flatnonzero(track.status[:count] < SYSEX)  # running status reaches over meta events in some files
    following = np.searchsorted(speaking, np.flatnonzero(is_edge))
    is_edge[speaking[following[following < len(speaking)]]] = True
    edges = np.flatnonzero(is_edge)
    stays = ~is_gone[edges[:-1]]
    first, last = edges[:-1][stays], edges[1:][stays] - 1
    runs = np.zeros(len(first), PIECES)
    runs["tick"], runs["last"] = track.ticks[first], track.ticks[last]
    runs["begin"], runs["end"] = track.starts[first], track.ends[last]
    runs["message"][:, 0] = track.status[first]
    runs["size"] = np.frombuffer(track.data, np.uint8)[track.starts[first]] < 0x80  # the file leaves the status out
    return runs, first


def _joined(data: bytes, pieces: Array) -> bytes:
    """Return the bytes of pieces of a track, in their order, with the delta times between them."""
    delta = np.diff(pieces["tick"], prepend=0)
    delta[1:] = pieces["tick"][1:] - pieces["last"][:-1]
    if delta.max() > LONGEST_DELTA:
        raise InputError("the performance lasts more ticks than MIDI can count; give it a coarser `tempo_map`")
    heads, written = np.empty((len(pieces), 7), np.uint8), np.empty((len(pieces), 7), bool)
    for i, shift in enumerate((21, 14, 7, 0)):
        heads[:, i] = delta >> shift & 0x7F | (0x80 if shift else 0)
        written[:, i] = (delta >> shift > 0) | (shift == 0)
    heads[:, 4:] = pieces["message"]
    written[:, 4:] = np.arange(3) < pieces["size"][:, None]
    bodies = _alternating(np.diff(np.stack([pieces["begin"], pieces["end"]], 1)[pieces["end"] > 0].ravel(), prepend=0))
    is_body = _alternating(np.stack([written.sum(1), pieces["end"] - pieces["begin"]], 1).ravel())
    joined = np.empty(len(is_body), np.uint8)
    joined[is_body] = np.frombuffer(data, np.uint8)[: len(bodies)][bodies]
    joined[~is_body] = heads[written]
    return joined.tobytes()


def _alternating(lengths: Array) -> Array:
    """Return as many times false, then true, then false and so on as `lengths` say."""
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
