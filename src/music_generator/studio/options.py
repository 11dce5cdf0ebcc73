"""The options of the studio: each default and each limit is written here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from music_generator.checks import check_types
from music_generator.errors import InputError

HOST = "127.0.0.1"  # never another one: the page is for this computer only


@dataclass(frozen=True)
class StudioOptions:
    """The address, the sound and the limits of the studio.

    Attributes:
        port: The port to listen on; 0 takes any free one. A browser finds its stored work again only at the same port.
        soundfont: A .sf2 or .sf3 file with which FluidSynth plays what is exported, or None for the grand piano.
        variations: The number of variations of a request that does not name one.
        max_variations: The most variations of a request.
        max_written_seconds: The longest span that is written at once.
        max_sound_seconds: The longest sound file.
        max_body_bytes: The largest request.
        max_recording_bytes: The largest recording.
        request_timeout_seconds: The time in which a request must arrive.
        recording_timeout_seconds: The time in which a recording must arrive.
        max_events: The most notes, and the most pedal presses, of a piece.
        max_other_notes: The most notes of a file's other parts that are sent to be shown.
        max_jobs: The most jobs of each kind (writing, export) that run or wait.
        max_recordings: The most recordings that are transcribed or wait.
        max_parsed: The most requests that are parsed at once; others wait, so that memory stays bounded.
    """

    port: int = 8765
    soundfont: Path | None = None
    variations: int = 4
    max_variations: int = 8
    max_written_seconds: float = 1800.0
    max_sound_seconds: float = 1800.0
    max_body_bytes: int = 16 << 20
    max_recording_bytes: int = 200 << 20
    request_timeout_seconds: float = 20.0
    recording_timeout_seconds: float = 120.0
    max_events: int = 200_000
    max_other_notes: int = 20_000
    max_jobs: int = 16
    max_recordings: int = 4
    max_parsed: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.port < 1 << 16:
            raise InputError(f"`port` must be 0 to 65535, not {self.port}")
        if self.soundfont is not None and not self.soundfont.is_file():
            raise InputError(f"the SoundFont {self.soundfont} does not exist; name a .sf2 or .sf3 file")
