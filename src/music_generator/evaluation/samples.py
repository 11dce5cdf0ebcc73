"""The music that is compared: held-out excerpts in two halves, and the music of a model or a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from music_generator.data.corpus import Corpus
from music_generator.data.sources import find_sources
from music_generator.engine.engine import Engine
from music_generator.errors import CorpusError, MidiError
from music_generator.evaluation.report import LeftOut
from music_generator.generation import (
    Generated,
    SamplingOptions,
    generate_many,
    to_compose,
    to_continue,
    variations,
)
from music_generator.music.midi import read_midi
from music_generator.music.performance import Performance
from music_generator.music.tokens import decode

MIN_EXCERPTS = 8  # of a half: where it has fewer pieces, later stretches of them are used, too
MIN_SHARE = 0.5  # of the excerpt's length that a file must last

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sample:
    """Performances to compare.

    Attributes:
        performances: Whole performances, each from its time 0 on.
        names: The name of each one: its file in the folder, or its seed.
        left_out: The files that were not used.
    """

    performances: tuple[Performance, ...]
    names: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.performances)

    def excerpts(self, seconds: float) -> list[Performance]:
        """Return the first `seconds` of each performance."""
        return [excerpt(performance, 0.0, seconds) for performance in self.performances]

    def lengths(self, seconds: float) -> list[float]:
        """Return the length of each of these excerpts: up to the last release of a key, but no more than `seconds`."""
        return [min(seconds, last_release(performance)) for performance in self.performances]


def excerpt(performance: Performance, start: float, seconds: float) -> Performance:
    """Return the events with an onset in `seconds` from `start` on; its time starts at `start`."""
    return performance.between(start, start + seconds).shifted(-start)


def last_onset(performance: Performance) -> float:
    """Return the last note's onset in seconds; 0.0 without notes."""
    return float(performance.notes["onset"][-1]) if len(performance) else 0.0


def last_release(performance: Performance) -> float:
    """Return the second at which the last key is released; 0.0 without notes."""
    return float((performance.notes["onset"] + performance.notes["duration"]).max(initial=0.0))


def held_out_split(corpus: Corpus, split: str | None = None) -> str:
    """Return the split to measure on: `split`, or if None validation, or test where that is empty.

    Raises:
        CorpusError: The split is empty.
    """
    for name in (split,) if split else ("validation", "test"):
        if corpus.split(name):
            return name
    raise CorpusError(corpus.folder, f"it has no held-out pieces ({split or 'validation or test'}) to compare with")


def halves(corpus: Corpus, split: str, seed: int) -> tuple[list[int], list[int]]:
    """Divide a split's pieces at random into two halves; all performances of one work are in the same half."""
    works: dict[tuple[str, str], list[int]] = {}
    for i in corpus.split(split):
        piece = corpus.pieces[i]
        works.setdefault((piece.composer or "", piece.title or piece.path), []).append(i)
    order = sorted(works)
    parts: tuple[list[int], list[int]] = ([], [])
    for i in np.random.default_rng(seed).permutation(len(order)):
        min(parts, key=len).extend(works[order[i]])
    return sorted(parts[0]), sorted(parts[1])


def human_excerpts(pieces: Sequence[Performance], start: float, seconds: float) -> list[Performance]:
    """Return `seconds` of each piece from `start` on and, if they are few, of the stretches after it."""
    excerpts: list[Performance] = []
    while len(excerpts) < MIN_EXCERPTS:
        whole = [piece for piece in pieces if last_onset(piece) >= start + seconds]
        some = [excerpt(piece, start, seconds) for piece in whole]
        if not whole:
            break
        excerpts += [each for each in some if len(each) > 1]
        start += seconds
    return excerpts


def held_out_performances(corpus: Corpus, pieces: Sequence[int]) -> list[Performance]:
    """Return pieces of a corpus as performances."""
    return [decode(corpus.piece_rows(i)) for i in pieces]


def composed(
    engine: Engine, count: int, seconds: float, options: SamplingOptions, progress: Progress | None = None
) -> Sample:
    """Generate pieces from nothing, with seeds that follow one another."""
    each_options = variations(options, count)
    spans = [(to_compose(seconds), each) for each in each_options]
    generated = _counted(generate_many(engine, spans), count, progress)
    return Sample(tuple(each.written for each in generated), _seeds(each_options))


def continued(
    engine: Engine,
    primers: Sequence[Performance],
    count: int,
    primer_seconds: float,
    seconds: float,
    options: SamplingOptions,
    progress: Progress | None = None,
) -> Sample:
    """Generate continuations of the first seconds of held-out pieces, in turn; the result is without the primers."""
    primers = [p for p in primers if len(p.between(0, primer_seconds)) and last_onset(p) >= primer_seconds]
    if not primers:
        return Sample(())
    each_options = variations(options, count)
    spans = [
        (to_continue(primers[i % len(primers)], seconds, start=primer_seconds), each)
        for i, each in enumerate(each_options)
    ]
    generated = _counted(generate_many(engine, spans), count, progress)
    continued = (excerpt(each.performance, primer_seconds, seconds) for each in generated)
    return Sample(tuple(continued), _seeds(each_options))


def _seeds(options: Sequence[SamplingOptions]) -> tuple[str, ...]:
    return tuple(f"seed {each.seed}" for each in options)


def _counted(generated: Iterable[Generated], count: int, progress: Progress | None) -> Iterator[Generated]:
    for done, each in enumerate(generated, 1):
        if progress:
            progress(done, count)
        yield each


def from_folder(folder: str | Path, seconds: float, progress: Progress | None = None) -> Sample:
    """Return each MIDI file below a folder, from its first note on.

    Files that cannot be read, have no notes or last less than half of `seconds` are left out.

    Raises:
        CorpusError: No file is left.
    """
    folder = Path(folder)
    paths = [source.path for source in find_sources(folder)]
    found: dict[str, Performance] = {}
    left_out = []
    for done, path in enumerate(paths, 1):
        try:
            found[path] = _from_first_note(folder / path, MIN_SHARE * seconds)
        except MidiError as error:
            left_out.append(LeftOut(path, error.reason))
        if progress:
            progress(done, len(paths))
    if not found:
        last = left_out[-1]
        raise CorpusError(folder, f"none of its {len(paths)} MIDI files can be evaluated; {last.name}: {last.reason}")
    return Sample(tuple(found.values()), tuple(found), tuple(left_out))


def _from_first_note(path: Path, shortest: float) -> Performance:
    """Read a file from its first note on. Raises `MidiError` if it cannot be read or lasts less than `shortest`."""
    performance = read_midi(path, track="all").performance
    if not len(performance):
        raise MidiError(path, "it has no notes of a piano")
    performance = excerpt(performance, float(performance.notes["onset"][0]), np.inf)
    if last_release(performance) < shortest:
        text = f"it lasts {last_release(performance):.1f} s, less than {shortest:g} s; `--seconds` compares less music"
        raise MidiError(path, text)
    return performance
