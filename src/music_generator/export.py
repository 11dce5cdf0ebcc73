"""A piece as files: MIDI, sound and pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from music_generator import plots, sound
from music_generator.errors import InputError
from music_generator.generation.tasks import Generated
from music_generator.music.features import Distributions, distributions
from music_generator.music.midi import write_midi
from music_generator.music.performance import Performance

__all__ = ["Export", "Exported", "draw_piece", "write_sound"]


@dataclass(frozen=True)
class Export:
    """The files of generated pieces, `NAME-seedSEED` in one folder.

    Attributes:
        folder: Folder of the files; it is made when the first is written.
        name: Start of each file's name.
        audio: Write the sound.
        plots: Draw the piano roll, and the distributions against the training music.
        format: Format of the sound, one of `sound.FORMATS`.
        soundfont: SoundFont to play with FluidSynth; None for the grand piano.

    Raises:
        InputError: The format is unknown, the folder is a file, or the SoundFont does not exist.
    """

    folder: Path = Path("music")
    name: str = "piece"
    audio: bool = True
    plots: bool = True
    format: str = "wav"
    soundfont: Path | None = None

    def __post_init__(self) -> None:
        if self.format not in sound.FORMATS:
            raise InputError(f"`format` must be one of {', '.join(sound.FORMATS)}, not {self.format!r}")
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"cannot write into {self.folder}: it is a file, not a folder")
        if self.soundfont is not None and not self.soundfont.is_file():
            raise InputError(f"the SoundFont {self.soundfont} does not exist; name a .sf2 or .sf3 file")

    def files(self, seed: int) -> list[Path]:
        """Return the files that `write` leaves of a seed's piece."""
        ends = [".mid", *[f".{self.format}"] * self.audio, *[".png", "-distributions.png"] * self.plots]
        return [self.folder / f"{self.name}-seed{seed}{end}" for end in ends]

    def write(self, piece: Generated, reference: Distributions) -> Exported:
        """Write the files of one piece.

        Args:
            piece: The piece.
            reference: Distributions of the training music, drawn beside those of the piece.

        Raises:
            InputError: A file cannot be written.
        """
        files = self.files(piece.seed)
        write_midi(piece.performance, files[0])
        options = sound.SoundOptions(soundfont=self.soundfont)
        player = write_sound(piece.performance, files[1], options) if self.audio else None
        if self.plots:
            draw_piece(piece.performance, files[-2], generated=(piece.start, piece.end), reference=reference)
        written = piece.written
        return Exported(
            files=tuple(files), seed=piece.seed, notes=len(written), tokens=piece.tokens, start=piece.start,
            end=piece.end, seconds=max(written.end - piece.start, 0.0), seconds_taken=piece.seconds_taken, sound=player,
        )  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """The files of a piece, and how it was generated.

    Attributes:
        files: The files, the MIDI file first.
        seed: Seed that gives the piece again.
        notes: Number of new notes.
        tokens: Number of generated tokens.
        start: Second at which the new music starts.
        end: Second before which it ends.
        seconds: Length of the new music until its last note is released.
        seconds_taken: Seconds of computing.
        sound: What played the sound; None without sound.
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
