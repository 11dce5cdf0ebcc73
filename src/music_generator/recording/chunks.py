"""Overlapping chunks of a recording, and the notes and pedals that they have, joined across chunks.

The network hears 16 s at a time; each chunk begins about 8 s after the last one. So memory does not grow with the
recording, every moment is heard twice, and what sounds at the end of a chunk is heard whole in the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from music_generator.music.performance import (
    HIGHEST_PITCH,
    LOWEST_PITCH,
    NOTE_DTYPE,
    PEDAL_DTYPE,
    SUSTAIN,
    UNA_CORDA,
    Performance,
)
from music_generator.recording.audio import SAMPLE_RATE

Array = NDArray[Any]

HOP_SAMPLES = 1024
"""From one frame of the network to the next."""
CHUNK_SAMPLES = 16 * SAMPLE_RATE
STEP_SAMPLES = 345 * HOP_SAMPLES  # from one chunk to the next: 8 s, in whole frames
LEAD_SAMPLES = 8 * SAMPLE_RATE  # of silence before the recording, in the first chunk
FIRST_FRAME = LEAD_SAMPLES // HOP_SAMPLES  # of the recording, in the first chunk

PEDAL_KEYS = {-64: SUSTAIN, -67: UNA_CORDA}
"""The network's keys below the piano's: a pedal's controller, negative."""
KEYS = (*PEDAL_KEYS, *range(LOWEST_PITCH, HIGHEST_PITCH + 1))


@dataclass(frozen=True)
class Event:
    """A note or a pedal press that a chunk has, or the part of one.

    Attributes:
        key: One of `KEYS`.
        onset: In seconds, as `end`.
        end: Where it ends, or where the chunk does.
        velocity: Of a note, or the depth of a pedal.
        has_onset: Whether it begins in the chunk.
        has_end: Whether it ends in the chunk.
    """

    key: int
    onset: float
    end: float
    velocity: int
    has_onset: bool = True
    has_end: bool = True


class Network(Protocol):
    """What finds the notes and pedals of one chunk."""

    def events(self, samples: Array, known: list[int]) -> tuple[list[Event], list[int]]:
        """Return the events of a chunk, in seconds from its start, and the frame up to which each key is known.

        Args:
            samples: float32 of shape (channels, `CHUNK_SAMPLES`).
            known: For each of `KEYS` the frame up to which the last chunk has its events; these are not given again.
        """


def chunks(blocks: Iterable[Array], channels: int) -> Iterator[tuple[int, Array]]:
    """Yield the first sample of each chunk and its sound, (channels, `CHUNK_SAMPLES`), with silence around.

    Args:
        blocks: The recording, each float32 of shape (samples, channels).
        channels: Of the recording.
    """
    start, held = -LEAD_SAMPLES, np.zeros((LEAD_SAMPLES, channels), np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= CHUNK_SAMPLES:
            yield start, held[:CHUNK_SAMPLES].T
            start, held = start + STEP_SAMPLES, held[STEP_SAMPLES:]
    while len(held):
        silence = np.zeros((CHUNK_SAMPLES - len(held), channels), np.float32)
        yield start, np.concatenate([held, silence]).T
        start, held = start + STEP_SAMPLES, held[STEP_SAMPLES:]


def share_done(start: int, seconds: float) -> float:
    """Return the share of the chunks of `seconds` of sound that is done with the one that begins at sample `start`."""
    return min((start + LEAD_SAMPLES + STEP_SAMPLES) / (seconds * SAMPLE_RATE + LEAD_SAMPLES), 1.0)


def known_in_next(known: Iterable[int]) -> list[int]:
    """Return frames of a chunk as frames of the next one."""
    return [max(frame - STEP_SAMPLES // HOP_SAMPLES, 0) for frame in known]


class Joiner:
    """Joins the events of chunks that follow one another, key by key.

    An event that does not end in its chunk is heard again in the next one: from its onset on, if that lies in both, or
    else its rest.
    """

    def __init__(self) -> None:
        self._last: dict[int, Event] = {}  # of each key; only this one may still change
        self._ended: list[Event] = []

    def add(self, events: Iterable[Event], start: float) -> None:
        """Add the events of a chunk that begins at second `start`, in the order of their onsets."""
        for event in events:
            self._add(replace(event, onset=max(event.onset + start, 0.0), end=max(event.end + start, 0.0)))

    def _add(self, event: Event) -> None:
        last = self._last.get(event.key)
        if event.has_onset:
            if last and last.has_end:
                self._ended.append(last)
            self._last[event.key] = event
        elif last and event.onset < last.end:
            self._last[event.key] = replace(last, end=max(last.end, event.end), has_end=event.has_end)

    def performance(self) -> Performance:
        """Return the notes and pedals; what has not ended by now ends where the last chunk did."""
        events = [event for event in (*self._ended, *self._last.values()) if event.end > event.onset]
        notes = [_row(event, event.key) for event in events if event.key not in PEDAL_KEYS]
        pedals = [_row(event, PEDAL_KEYS[event.key]) for event in events if event.key in PEDAL_KEYS]
        return Performance(np.array(notes, NOTE_DTYPE), np.array(pedals, PEDAL_DTYPE))


def _row(event: Event, key: int) -> tuple[float, float, int, int]:
    return event.onset, event.end - event.onset, key, min(max(event.velocity, 1), 127)
