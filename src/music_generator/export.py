"""A piece as files: MIDI, sound and pictures."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from music_generator import plots, sound
from music_generator.checks import check_types
from music_generator.errors import InputError
from music_generator.files import holds, replacing
from music_generator.generation.tasks import Generated
from music_generator.music.features import Distributions, distributions
from music_generator.music.midi import write_midi
from music_generator.music.performance import Performance

__all__ = ["Export", "Exported", "draw_piece", "write_sound"]


@dataclass(frozen=True)
class Export:
    """The files of generated pieces, `NAME-seedSEED` in one folder.

    A number follows where files of that name hold other music, `NAME-seedSEED-2`; the same music is written again.

    Attributes:
        folder: Folder of the files; it is made when the first is written.
        name: Start of each file's name.
        audio: Write the sound.
        plots: Draw the piano roll, and the distributions against the training music.
        format: Format of the sound, one of `sound.FORMATS`.
        soundfont: SoundFont to play with FluidSynth; None for the grand piano.
        overwrite: Write over files that hold other music.

    Raises:
        InputError: The format is unknown, the folder is a file, or the SoundFont does not exist.
    """

    folder: Path = Path("music")
    name: str = "piece"
    audio: bool = True
    plots: bool = True
    format: str = "wav"
    soundfont: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.format not in sound.FORMATS:
            raise InputError(f"`format` must be one of {', '.join(sound.FORMATS)}, not {self.format!r}")
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"cannot write into {self.folder}: it is a file, not a folder")
        if self.soundfont is not None and not self.soundfont.is_file():
            raise InputError(f"the SoundFont {self.soundfont} does not exist; name a .sf2 or .sf3 file")

    def files(self, seed: int, number: int = 1) -> list[Path]:
        """Return the files that `write` leaves of a seed's piece, with `number` in their names if it is above 1."""
        stem = f"{self.name}-seed{seed}{f'-{number}' if number > 1 else ''}"
        ends = [".mid", *[f".{self.format}"] * self.audio, *[".png", "-distributions.png"] * self.plots]
        return [self.folder / f"{stem}{end}" for end in ends]

    def _free_files(self, seed: int, midi: bytes) -> list[Path]:
        """Return the files for a seed's piece: the first ones that hold no other music than `midi`."""
        numbered = (self.files(seed, number) for number in count(1))
        return next(
            files
            for files in numbered
            if self.overwrite or not any(map(os.path.lexists, files)) or holds(files[0], midi)
        )

    def write(self, piece: Generated, reference: Distributions) -> Exported:
        """Write the files of one piece.

        Args:
            piece: The piece.
            reference: Distributions of the training music, drawn beside those of the piece.

        Raises:
            InputError: A file cannot be written.
        """
        midi = write_midi(piece.performance)
        files = self._free_files(piece.seed, midi)
        with replacing(files[0]) as beside:
            beside.write_bytes(midi)
        options = sound.SoundOptions(soundfont=self.soundfont)
        player = write_sound(piece.performance, files[1], options) if self.audio else None
        if self.plots:
            draw_piece(piece.performance, files[-2], generated=(piece.start, piece.end), reference=reference)
        source = piece.performance.source
        return Exported(
            files=tuple(files), seed=piece.seed, notes=len(piece.written), tokens=piece.tokens, start=piece.start,
            end=piece.end, seconds=piece.end - piece.start, seconds_taken=piece.seconds_taken, sound=player,
            remarks=source.remarks if source else (),
        )  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """The files of a piece, and how it was generated.

    Attributes:
        files: The files, the MIDI file first.
        seed: Seed that gives the piece again.
        notes: Number of new notes, without those that were kept.
        tokens: Number of generated tokens.
        start: Second at which the new music starts.
        end: Second before which it ends.
        seconds: Length of the new music, from `start` to `end`.
        seconds_taken: Seconds of computing.
        sound: What played the sound; None without sound.
        remarks: What must be said of the file that the piece was written into, such as what of it was not read.
    """

    files: tuple[Path, ...]
    seed: int
    notes: int
    tokens: int
    start: float
    end: float
    seconds: float
    seconds_taken: float
    sound: str | None
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {
            "files": [str(file) for file in self.files],
            "seconds": round(self.seconds, 3),
            "seconds_taken": round(self.seconds_taken, 4),
        }


def write_sound(performance: Performance, path: Path, options: sound.SoundOptions | None = None) -> str:
    """Write the sound of a performance and return what played it.

    Raises:
        InputError: The SoundFont cannot be read, or the file cannot be written.
        MissingDependencyError: The SoundFont needs FluidSynth, which is not installed.
    """
    return sound.render_file(performance, path, options).engine


def draw_piece(
    performance: Performance,
    path: Path,
    *,
    generated: tuple[float, float] | None = None,
    reference: Distributions | None = None,
) -> list[Path]:
    """Draw a piano roll, and the distributions of the music beside it.

    Args:
        performance: The piece.
        path: File of the piano roll, .png, .svg or .pdf; `-distributions` is added to its name for the other.
        generated: Start and end in seconds of what the model wrote; the distributions are then of this span alone.
        reference: Distributions to draw beside those of the piece.

    Returns:
        Both files.

    Raises:
        InputError: A file cannot be written.
    """
    second = path.with_name(f"{path.stem}-distributions{path.suffix}")
    plots.save(plots.piano_roll(performance, generated=generated, title=path.stem), path)
    counted = performance if generated is None else performance.between(*generated)
    plots.save(plots.distributions(distributions([counted]), reference), second)
    return [path, second]
