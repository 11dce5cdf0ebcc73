"""Many pieces as files: seeds, shards, several processes, and resuming a run that was killed.

A piece depends on its seed and its request alone, never on the pieces written beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from music_generator.checks import check_types
from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.files import replacing
from music_generator.generation.span import SamplingOptions, Span, variations
from music_generator.generation.tasks import BATCH, Generated, generate_many
from music_generator.model.bundle import FACTS_FILE, open_bundle
from music_generator.music.features import Distributions
from music_generator.music.performance import Performance
from music_generator.parallel import Shard, map_in_processes

__all__ = ["BatchOptions", "Output", "Plan", "Request", "plan_batch", "write_batch"]

Result_co = TypeVar("Result_co", covariant=True)


class Output(Protocol[Result_co]):
    """The files that become of the pieces, such as an `export.Export`. It is sent to other processes."""

    @property
    def folder(self) -> Path:
        """Folder of the files."""

    @property
    def name(self) -> str:
        """Start of each file's name."""

    def files(self, seed: int) -> list[Path]:
        """Return the files that `write` leaves of a seed's piece, each complete as soon as it exists."""

    def write(self, piece: Generated, reference: Distributions) -> Result_co:
        """Write the files of a piece; `reference` is of the training music."""


@dataclass(frozen=True)
class BatchOptions:
    """The number of pieces, and how the work is shared out.

    Attributes:
        variations: Number of pieces; their seeds follow one another.
        shard: Part of them to write. A shard resumes: a piece whose files all exist is kept.
        overwrite: Write the existing pieces of a shard again.
        jobs: Number of processes.

    Raises:
        InputError: A number is below 1.
    """

    variations: int = 1
    shard: Shard | None = None
    overwrite: bool = False
    jobs: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("variations", "jobs"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Request:
    """All that the music of a seed depends on: the span, how it is sampled, and the model.

    `model` is a name that `find_bundle` understands.
    """

    span: Span
    sampling: SamplingOptions
    model: str | Path

    def fingerprint(self) -> dict[str, Any]:
        """Return the request as JSON data, without the seed; music and model as their SHA-256."""
        facts = {name: value for name, value in asdict(self.sampling).items() if name != "seed"}
        facts |= {"start": self.span.start, "end": self.span.end, "notes": self.span.notes}
        facts |= {"closes": self.span.closes, "recall": self.span.recall and list(self.span.recall)}
        facts |= {name: _digest(getattr(self.span, name)) for name in ("past", "future", "kept")}
        manifest = open_bundle(self.model).folder / FACTS_FILE
        return facts | {"model": hashlib.sha256(manifest.read_bytes()).hexdigest()}


def _digest(performance: Performance) -> str:
    data = performance.notes.tobytes() + performance.pedals.tobytes() + repr(performance.tempo_map).encode()
    if performance.source is not None:
        data += performance.source.file.to_bytes() + repr(performance.source).encode()
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Plan:
    """The pieces that are left to write, by their options, and the number of those that exist and are kept."""

    pieces: list[SamplingOptions]
    kept: int = 0


def plan_batch(request: Request, output: Output[object], options: BatchOptions) -> Plan:
    """Find out what is left to write.

    A shard records its request in `NAME-request.json` in the folder, so that pieces of another request are never taken
    for its own.

    Raises:
        InputError: The shard has no seed to count from, or the folder holds pieces of another request.
    """
    pieces = variations(request.sampling, options.variations)
    if options.shard is None:
        return Plan(pieces)
    if request.sampling.seed is None:
        raise InputError("`shard` needs a `seed`: all shards count their seeds from it")
    pieces = list(options.shard.of(pieces))
    if not pieces:
        return Plan([])
    begun = [] if options.overwrite else [piece for piece in pieces if any(_existing(output, piece))]
    _record(request, output, begun)
    kept = {piece.seed for piece in begun if all(_existing(output, piece))}
    return Plan([piece for piece in pieces if piece.seed not in kept], len(kept))


def _existing(output: Output[object], piece: SamplingOptions) -> Iterator[bool]:
    """Yield for each file of a piece whether it exists."""
    return (file.exists() for file in _files(output, piece))


def _files(output: Output[object], piece: SamplingOptions) -> list[Path]:
    assert piece.seed is not None, "`variations` sets the seeds"
    return output.files(piece.seed)


def _record(request: Request, output: Output[object], begun: Sequence[SamplingOptions]) -> None:
    path, facts = output.folder / f"{output.name}-request.json", request.fingerprint()
    if path.exists():
        _check_same_request(path, facts)
    elif begun:
        raise InputError(
            f"{output.folder}: {_files(output, begun[0])[0].name} exists and was written by another command; use "
            "another folder, or `overwrite`"
        )
    with replacing(path) as beside:
        beside.write_text(json.dumps(facts, ensure_ascii=False, indent=1), "utf-8")


def _check_same_request(path: Path, facts: dict[str, Any]) -> None:
    try:
        before = json.loads(path.read_text("utf-8"))
        different = [name for name in facts if before[name] != facts[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it, or use another folder") from error
    if different:
        raise InputError(
            f"{path.parent}: its pieces differ from those asked for in {', '.join(different)}; use another folder"
        )


def write_batch(
    request: Request, pieces: Sequence[SamplingOptions], output: Output[Result_co], *, jobs: int = 1
) -> Generator[Result_co, None, None]:
    """Write pieces and yield what `output.write` returns of each, in their order.

    Whoever may stop before the last piece closes the iterator (`contextlib.closing`): its processes then end at once.

    Args:
        request: What is written.
        pieces: The options of each piece, of a `Plan`.
        output: The files that become of them.
        jobs: Number of processes; with more than one, `output` and its results must be picklable.

    Raises:
        InputError: The request does not fit the model, or a file cannot be written.
        BundleError: The model cannot be used.
    """
    if jobs == 1 or len(pieces) <= 1:
        yield from _write(request, pieces, output)
        return
    from concurrent.futures.process import BrokenProcessPool  # seldom needed, and slow to load

    size = min(BATCH, -(-len(pieces) // jobs))
    parts = [(request, pieces[first : first + size], output) for first in range(0, len(pieces), size)]
    try:
        with closing(map_in_processes(_write_list, parts, jobs, "spawn")) as lists:
            for some in lists:
                yield from some
    except BrokenProcessPool as error:
        raise InputError(f"one of {jobs} `jobs` was killed, perhaps for want of memory; use fewer") from error


def _write_list(part: tuple[Request, Sequence[SamplingOptions], Output[Result_co]]) -> list[Result_co]:
    """Write pieces in a process of its own."""
    return list(_write(*part))


def _write(request: Request, pieces: Sequence[SamplingOptions], output: Output[Result_co]) -> Iterator[Result_co]:
    bundle = open_bundle(request.model)
    for piece in generate_many(Engine(bundle), [(request.span, options) for options in pieces]):
        yield output.write(piece, bundle.reference)
