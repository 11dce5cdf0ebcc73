"""A network that needs no library: it finds the events that it is told, as the real one would in each chunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from music_generator.music.performance import Array, Performance
from music_generator.recording.audio import SAMPLE_RATE
from music_generator.recording.chunks import (
    CHUNK_SAMPLES,
    HOP_SAMPLES,
    KEYS,
    LEAD_SAMPLES,
    STEP_SAMPLES,
    Event,
)


class KnownEvents:
    """Finds events of known times; `heard` keeps the sound of the chunks. It must be asked for every chunk."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events, self._start, self.heard = events, -LEAD_SAMPLES, list[Array]()

    def events(self, samples: Array, known: list[int]) -> tuple[list[Event], list[int]]:
        """Return the events that reach into the chunk and are not known yet."""
        self.heard.append(samples.copy())
        start, self._start = self._start / SAMPLE_RATE, self._start + STEP_SAMPLES
        found, known = [], list(known)
        for i, key in enumerate(KEYS):
            known_until, known[i] = start + (known[i] + 1) * HOP_SAMPLES / SAMPLE_RATE, 0
            for event in sorted((each for each in self._events if each.key == key), key=lambda each: each.onset):
                if event.end > known_until and (part := self._part(event, start)):
                    found.append(part)
                    if part.has_end:
                        known[i] = int(part.end * SAMPLE_RATE / HOP_SAMPLES)
        return sorted(found, key=lambda event: event.onset), known

    def _part(self, event: Event, start: float) -> Event | None:
        """Return what a chunk has of an event."""
        onset, end, length = event.onset - start, event.end - start, CHUNK_SAMPLES / SAMPLE_RATE
        if onset >= length or end <= 0:
            return None
        return Event(event.key, max(onset, 0.0), min(end, length), event.velocity, onset >= 0, end < length)


def write_sound(path: Path, seconds: float, sample_rate: int = SAMPLE_RATE, channels: int = 1, **options: str) -> Path:
    """Write a soft tone; the channels have different levels."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = 0.2 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(path, np.stack([tone / (1 + i) for i in range(channels)], axis=1), sample_rate, **options)
    return path


def assert_events(performance: Performance, events: Sequence[Event]) -> None:
    """Check that a performance has the notes and the pedals of `events`, to a microsecond."""
    for rows, name, expected in (
        (performance.notes, "pitch", [each for each in events if each.key > 0]),
        (performance.pedals, "pedal", [each for each in events if each.key < 0]),
    ):
        expected = sorted(expected, key=lambda each: (each.onset, each.key if each.key > 0 else -each.key))
        assert rows[name].tolist() == [{-64: 0, -67: 2}.get(each.key, each.key) for each in expected]
        np.testing.assert_allclose(rows["onset"], [each.onset for each in expected], atol=1e-6)
        np.testing.assert_allclose(rows["duration"], [each.end - each.onset for each in expected], atol=1e-6)
        assert rows["velocity" if name == "pitch" else "depth"].tolist() == [each.velocity for each in expected]
