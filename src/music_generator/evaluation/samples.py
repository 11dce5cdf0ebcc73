"""What is compared: excerpts of held-out performances in two halves, and the music that a model or a folder has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from music_generator.data.corpus import Corpus
from music_generator.data.sources import find_sources
from music_generator.engine.engine import Engine
from music_generator.errors import CorpusError, MidiError
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

FEWEST = 8  # excerpts that a half should have: where it has fewer pieces, later stretches of them are taken too
SHORTEST_SHARE = 0.5  # of the excerpt's length, that a file must last to be taken

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sample:
    """Performances of about the same length, each from its time 0 on."""

    performances: tuple[Performance, ...]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.performances)


def excerpt(performance: Performance, start: float, seconds: float) -> Performance:
    """The events that begin in those seconds, the time counted from `start`."""
    return performance.between(start, start + seconds).shifted(-start)


def last_onset(performance: Performance) -> float:
    """The second of the last note's onset; 0.0 if there is none."""
    return float(performance.notes["onset"][-1]) if len(performance) else 0.0


def held_out_split(corpus: Corpus, split: str | None = None) -> str:
    """The split to measure on: the one asked for, else validation, else test. Raises `CorpusError` if it is empty."""
    for name in (split,) if split else ("validation", "test"):
        if corpus.split(name):
            return name
    raise CorpusError(corpus.folder, f"it has no held-out pieces ({split or 'validation or test'}) to compare with")


def halves(corpus: Corpus, split: str, seed: int) -> tuple[list[int], list[int]]:
    """A split's pieces in two, at random; all performances of one work fall into the same half."""
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
    """Of each piece the `seconds` from `start` on; where that gives few, also the stretches after it."""
    found: list[Performance] = []
    while len(found) < FEWEST:
        whole = [piece for piece in pieces if last_onset(piece) >= start + seconds]
        some = [excerpt(piece, start, seconds) for piece in whole]
        if not whole:
            break
        found += [each for each in some if len(each) > 1]
        start += seconds
    return found


def held_out_performances(corpus: Corpus, pieces: Sequence[int]) -> list[Performance]:
    """Pieces of a corpus as performances."""
    return [decode(corpus.piece_rows(i)) for i in pieces]


def composed(
    engine: Engine, count: int, seconds: float, options: SamplingOptions, progress: Progress | None = None
) -> Sample:
    """Pieces from nothing; their seeds follow one another."""
    spans = [(to_compose(seconds), each) for each in variations(options, count)]
    return Sample(tuple(made.written for made in _counted(generate_many(engine, spans), count, progress)))


def continued(
    engine: Engine,
    primers: Sequence[Performance],
    count: int,
    primer_seconds: float,
    seconds: float,
    options: SamplingOptions,
    progress: Progress | None = None,
) -> Sample:
    """What the model writes after the first seconds of held-out pieces, in turn; the primers are not part of it."""
    primers = [p for p in primers if len(p.between(0, primer_seconds)) and last_onset(p) >= primer_seconds]
    if not primers:
        return Sample(())
    spans = [
        (to_continue(primers[i % len(primers)], seconds, start=primer_seconds), each)
        for i, each in enumerate(variations(options, count))
    ]
    made = _counted(generate_many(engine, spans), count, progress)
    return Sample(tuple(excerpt(each.performance, primer_seconds, seconds) for each in made))


def _counted(made: Iterable[Generated], count: int, progress: Progress | None) -> Iterator[Generated]:
    for done, each in enumerate(made, 1):
        if progress:
            progress(done, count)
        yield each


def from_folder(folder: str | Path, seconds: float, progress: Progress | None = None) -> Sample:
    """Of each MIDI file below a folder the first `seconds` from its first note on.

    Files that cannot be read or last less than half of it are left out and counted. Raises `CorpusError` if none is
    left.
    """
    folder = Path(folder)
    sources = list(find_sources(folder))
    taken, reason = [], ""
    for done, source in enumerate(sources, 1):
        try:
            performance = read_midi(folder / source.path).performance
            start = float(performance.notes["onset"][0]) if len(performance) else 0.0
            if len(performance) > 1 and last_onset(performance) - start >= SHORTEST_SHARE * seconds:
                taken.append(excerpt(performance, start, seconds))
            else:
                reason = f"{source.path} lasts less than {SHORTEST_SHARE * seconds:g} s"
        except MidiError as error:
            reason = str(error)
        if progress:
            progress(done, len(sources))
    if not taken:
        raise CorpusError(folder, f"none of its {len(sources)} MIDI files can be evaluated; {reason}")
    return Sample(tuple(taken), len(sources) - len(taken))
