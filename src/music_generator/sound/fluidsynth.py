"""FluidSynth: find it and a SoundFont, and play a performance with it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from music_generator.errors import InputError, MissingDependencyError, how_to_install
from music_generator.music.midi_tables import PEDAL_CONTROLLERS, PRESSED
from music_generator.music.performance import Performance

Array = NDArray[Any]

GOOD_SOUNDFONTS = ("musescore_general", "fluidr3_gm", "timgm6mb", "default-gm")  # the best first


def fluidsynth_available() -> bool:
    """Return whether the package pyfluidsynth and the library FluidSynth can be loaded."""
    try:
        import fluidsynth  # noqa: F401
    except (ImportError, OSError, AttributeError):  # the package or its library is missing, or the library is too old
        return False
    return True


def soundfont_folders() -> list[Path]:
    """Return the usual folders of SoundFonts on Linux, macOS and Windows."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` fails for a user without a home
    folders = [
        *(Path(root) / "sounds" / kind for root in ("/usr/share", "/usr/local/share") for kind in ("sf3", "sf2")),
        Path("/usr/share/soundfonts"),
        home / ".local/share/soundfonts",
        home / ".fluidsynth",
        *(
            Path(root) / "share" / name
            for root in ("/opt/homebrew", "/usr/local")
            for name in ("soundfonts", "fluid-synth/sf2")
        ),
    ]
    if sys.platform == "win32":
        folders += [Path("C:/soundfonts"), Path("C:/ProgramData/soundfonts"), Path("C:/tools/fluidsynth")]
    return folders


def find_soundfont() -> Path | None:
    """Return the SoundFont that the environment variable SOUNDFONT names, else the best one in the usual folders."""
    named = os.environ.get("SOUNDFONT")
    if named and Path(named).is_file():
        return Path(named)
    found: list[Path] = []
    for folder in soundfont_folders():
        with suppress(OSError):  # one that may not be read, such as another user's home
            found += [file for pattern in ("*.sf3", "*.sf2") for file in sorted(folder.glob(pattern))]

    def rank(file: Path) -> int:
        return next((i for i, good in enumerate(GOOD_SOUNDFONTS) if file.name.lower().startswith(good)), 99)

    return min(found, key=rank, default=None)


def is_ready() -> bool:
    """Return whether FluidSynth and a SoundFont are installed."""
    return find_soundfont() is not None and fluidsynth_available()


def require_soundfont(named: str | Path | None) -> Path:
    """Return the SoundFont `named`, or the best one found if None.

    Raises:
        InputError: It does not exist.
        MissingDependencyError: FluidSynth is not installed, or no SoundFont was found.
    """
    if named is not None and not Path(named).is_file():
        raise InputError(f"the SoundFont {named} does not exist; name a .sf2 or .sf3 file")
    if not fluidsynth_available():
        raise MissingDependencyError(
            f"FluidSynth is not installed: {how_to_install('audio')}, and install its library "
            "(`apt install libfluidsynth3`, `brew install fluid-synth`), or use the built-in synthesiser"
        )
    found = find_soundfont() if named is None else Path(named)
    if found is None:
        raise MissingDependencyError(
            "no SoundFont found: `apt install musescore-general-soundfont-small`, or name a .sf2 or .sf3 file by "
            "`soundfont` or the environment variable SOUNDFONT, or use the built-in synthesiser"
        )
    return found


def play(performance: Performance, sample_rate: int, soundfont: Path, mix: Array) -> None:
    """Fill `mix`, float32 of shape (2, frames), with the sound of the SoundFont's piano (bank 0, program 0)."""
    import fluidsynth

    synth = fluidsynth.Synth(gain=0.3, samplerate=float(sample_rate))
    try:
        bank = synth.sfload(str(soundfont))
        if bank < 0:
            raise InputError(f"FluidSynth cannot read the SoundFont {soundfont}; name another .sf2 or .sf3 file")
        synth.program_select(0, bank, 0, 0)
        _run(synth, performance, sample_rate, mix)
    finally:
        synth.delete()


def _events(performance: Performance, sample_rate: int) -> list[tuple[int, int, str, int, int]]:
    """Return (frame, rank, method of the synth, number, value), sorted; in one frame ends come before beginnings."""
    events = []
    for onset, duration, pitch, velocity in performance.notes.tolist():
        events.append((round(onset * sample_rate), 3, "noteon", pitch, velocity))
        events.append((round((onset + duration) * sample_rate), 0, "noteoff", pitch, 0))
    for onset, duration, pedal, depth in performance.pedals.tolist():
        controller = PEDAL_CONTROLLERS[pedal]
        events.append((round(onset * sample_rate), 2, "cc", controller, max(depth, PRESSED)))
        events.append((round((onset + duration) * sample_rate), 1, "cc", controller, 0))
    return sorted(events)


def _run(synth: Any, performance: Performance, sample_rate: int, mix: Array) -> None:
    done = 0

    def advance(to: int) -> None:
        nonlocal done
        while done < to:
            step = min(to - done, sample_rate)
            mix[:, done : done + step] = synth.get_samples(step).reshape(step, 2).T
            done += step

    for frame, _, method, number, value in _events(performance, sample_rate):
        advance(frame)
        arguments = (0, number) if method == "noteoff" else (0, number, value)
        getattr(synth, method)(*arguments)
    advance(mix.shape[1])
