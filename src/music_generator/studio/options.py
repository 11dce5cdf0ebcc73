"""What the studio may be asked for, and how much of it: every limit and default is written here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from music_generator.errors import InputError

HOST = "127.0.0.1"  # never another: the page is for this computer alone


@dataclass(frozen=True)
class StudioOptions:
    """Where the studio listens, what it plays with, and its limits. Lengths are in seconds, sizes in bytes.

    The same port each time lets the browser find its work again; where it is taken, the next free one is used. Port 0
    takes any. `jobs` is how many pieces of work may be under way or wait, of writing, of what is played and of what is
    exported each; a sound file of up to `played_at_once` seconds counts as played, and does not wait behind exports.
    `readers` requests at a time are taken apart; others wait for their turn.
    """

    port: int = 8765
    soundfont: Path | None = None
    variations: int = 4
    most_variations: int = 8
    longest_written: float = 1800.0
    longest_sound: float = 1800.0
    played_at_once: float = 60.0
    body_bytes: int = 16 << 20
    body_seconds: float = 20.0
    most_strokes: int = 200_000
    jobs: int = 16
    readers: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise InputError(f"`port` must be 0 to 65535, not {self.port}")
        if self.soundfont is not None and not self.soundfont.is_file():
            raise InputError(f"the SoundFont {self.soundfont} does not exist; name a .sf2 or .sf3 file")
