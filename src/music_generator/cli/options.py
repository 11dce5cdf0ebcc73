"""The options that several commands share. Defaults are those of the dataclasses that a command fills."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from music_generator.parallel import Shard as Part
from music_generator.parallel import read_shard

# A file that cannot be read is reported by its reader in one line, hence `readable=False`.
Model = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="`pretrained`, or the folder of a model or of a training run"),
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]
Temperature = Annotated[float, typer.Option(help="randomness: above 1 wilder, below 1 calmer")]
TopP = Annotated[float, typer.Option("--top-p", help="use only the likeliest keys, up to this share of probability")]
Seed = Annotated[int | None, typer.Option(help="a seed gives the same music again; without one it is new each time")]
Composer = Annotated[
    str | None, typer.Option(help="style: a composer's name or part of it; `music-generator composers` lists them")
]
Density = Annotated[float | None, typer.Option(help="notes a second to aim at  [default: as the model likes]")]
Loudness = Annotated[
    float | None, typer.Option(help="mean velocity to aim at, 1 to 127  [default: as the model likes]")
]
Returns = Annotated[float, typer.Option(help="how readily themes come back: 0 as learnt, more above, less below")]
OpenEnd = Annotated[bool, typer.Option("--open-end", help="stop at the length instead of ending the piece there")]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|N|N:CHANNEL",
        help="track that is the piano, or `all`  [default: the only piano, else the first of the largest]",
    ),
]
Variations = Annotated[
    int, typer.Option("--variations", "--count", help="number of pieces; their seeds follow one another")
]
Shard = Annotated[str | None, typer.Option(metavar="I/N", help="write only every N-th piece from the I-th on")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="write over files of other music, instead of numbering the new ones"),
]
Jobs = Annotated[int, typer.Option(help="number of processes")]
NoAudio = Annotated[bool, typer.Option("--no-audio", help="write no sound")]
NoPlots = Annotated[bool, typer.Option("--no-plots", help="draw no pictures")]
Format = Annotated[str, typer.Option("--format", help="format of the sound: wav, flac, ogg or mp3")]
SoundFont = Annotated[Path | None, typer.Option(help="SoundFont to play with FluidSynth  [default: the grand piano]")]


def read_part(shard: str | None) -> Part | None:
    """Return the shard that `--shard` names, None without the option."""
    return None if shard is None else read_shard(shard)
