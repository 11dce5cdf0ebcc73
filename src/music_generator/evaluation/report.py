"""The evaluation report: the data that `report.json` holds and `report.md` shows. docs/evaluation.md explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from music_generator.evaluation.options import EvaluationOptions
from music_generator.training.protocol import Row

FORMAT = 5


@dataclass(frozen=True)
class Skipped:
    """A section that was not measured; `skipped` is the reason."""

    skipped: str


@dataclass(frozen=True)
class LeftOut:
    """A performance that was not measured: its file in the folder, or its seed; and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Model:
    """The model bundle that was measured, or the folder of MIDI files, of which only the name is known."""

    kind: str
    name: str
    config: dict[str, Any] | None = None
    data: str | None = None
    parameters: int | None = None
    steps: int | None = None
    tokens: int | None = None
    licence: str | None = None


@dataclass(frozen=True)
class HeldOut:
    """The music that was compared with: a split of a corpus and its number of pieces."""

    source: str
    split: str
    pieces: int


@dataclass(frozen=True)
class LikelihoodTable:
    """Nats per token of held-out segments by the rows of the likelihood protocol."""

    precision: str
    segments: int
    tokens: int
    bits_per_second: float  # of `continue`, per second of music
    nats_per_token: dict[str, Row]


@dataclass(frozen=True)
class SplitLikelihood:
    """The likelihood of a split, of the engine and of the network in float32.

    Attributes:
        engine: In the arithmetic of generation.
        network: None without torch; `network_skipped` then says so.
        network_on_same_segments: The network on the engine's segments.
        engine_worse_by: By row, nats per token that the engine is worse by on the same segments.
        network_skipped: The reason why the network was not measured.
    """

    engine: LikelihoodTable
    network: LikelihoodTable | None = None
    network_on_same_segments: LikelihoodTable | None = None
    engine_worse_by: dict[str, float] | None = None
    network_skipped: str | None = None


@dataclass(frozen=True)
class FeatureOverlap:
    """Overlap area (0 to 1) and KL divergence (nats) of a feature's distances, generated and human.

    A divergence is nan if no performance has the feature, as the share of a pedal that is never pressed. `mean` and
    `human_mean`: of the feature itself, if it is one number.
    """

    overlap: float
    human_overlap: float
    divergence: float
    human_divergence: float
    mean: float | None = None
    human_mean: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Performances of one kind compared with humans.

    Attributes:
        performances: The number of performances.
        seconds: Length of the excerpts.
        shorter: The number of performances that are shorter; each is counted by its own length.
        left_out: Files that could not be used.
        reference: Human excerpts in the reference half.
        human: Human excerpts in the other half.
        from_second: Where human excerpts start in their piece.
        features: By feature; empty if skipped.
        mean_overlap: Mean overlap area of the features.
        human_mean_overlap: The same of the other half of humans.
        lowest: The feature of the lowest overlap.
        skipped: The reason why nothing was measured.
    """

    performances: int
    seconds: float
    shorter: int
    left_out: tuple[LeftOut, ...]
    reference: int
    human: int
    from_second: float
    features: dict[str, FeatureOverlap]
    mean_overlap: float | None = None
    human_mean_overlap: float | None = None
    lowest: str | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class Spread:
    """Mean, median and percentiles of a number of each piece."""

    mean: float
    median: float
    percentile_5: float
    percentile_95: float


@dataclass(frozen=True)
class MatchLength:
    """Events after a match of some length: how many there are, and how often the music goes on as it did before.

    Attributes:
        shortest: The shortest length, in events.
        longest: The longest; None if there is no limit.
        events: The number of events.
        share: Their share of all events that follow a match.
        continued: The share of them that go on as the earlier place did; None without events.
    """

    shortest: int
    longest: int | None
    events: int
    share: float
    continued: float | None


@dataclass(frozen=True)
class MusicStructure:
    """Structure of excerpts of one kind. `evaluation.structure` defines the measures.

    Attributes:
        pieces: The number of excerpts.
        returning_runs: Share of the notes in returning runs, by the length of run in notes.
        circling: Share of the pieces that go in circles: more than 0.6 of their notes return in runs of 8.
        pulse: None if no excerpt lasts long enough.
        chain: All excerpts' events by the length of their match.
    """

    pieces: int
    returning_runs: dict[int, Spread]
    circling: float
    pulse: Spread | None
    chain: list[MatchLength]


@dataclass(frozen=True)
class StructureComparison:
    """Structure of performances of one kind beside that of humans.

    Attributes:
        from_second: Where human excerpts start in their piece.
        seconds: Length of the excerpts.
        left_out: Performances that are too short.
        human: Excerpts of all held-out pieces.
        generated: The performances.
    """

    from_second: float
    seconds: float
    left_out: tuple[LeftOut, ...]
    human: MusicStructure
    generated: MusicStructure


@dataclass(frozen=True)
class EndingFeature:
    """A feature of the ends of pieces: overlap areas of its density with that of humans, and its values."""

    overlap: float
    human_overlap: float
    generated: Spread
    human: Spread


@dataclass(frozen=True)
class Endings:
    """Ends of whole pieces compared with those of humans.

    Attributes:
        reference: Human pieces in the reference half.
        human: Human pieces in the other half.
        performances: The number of performances.
        features: By name of `structure.ENDINGS`.
        mean_overlap: Mean overlap area of the features.
        human_mean_overlap: The same of the other half of humans.
    """

    reference: int
    human: int
    performances: int
    features: dict[str, EndingFeature]
    mean_overlap: float
    human_mean_overlap: float


@dataclass(frozen=True)
class GapFilling:
    """Gaps filled in one way: how well the true future follows, and how like the truth the fillings are.

    Attributes:
        future_nats: Nats per token of the true future, in total and of each field.
        above_truth: Nats per token above those after the true filling, mean over the gaps.
        above_truth_error: Standard error of that mean.
        notes: Number of notes, divided by the truth's; median over the gaps.
        longest_silence: Longest time without an onset, in seconds; median over the gaps.
        overlap: Mean overlap area of the features inside the gaps; None of empty gaps, as are the next.
        overlaps: By feature.
        distance: Mean relative distance of the features from the truth's.
        distances: By feature.
    """

    future_nats: dict[str, float]
    above_truth: float
    above_truth_error: float
    notes: float
    longest_silence: float
    overlap: float | None = None
    overlaps: dict[str, float] | None = None
    distance: float | None = None
    distances: dict[str, float] | None = None


@dataclass(frozen=True)
class GapLength:
    """Gaps of one length: their number, the number of human gaps compared with, and the ways of filling them."""

    gaps: int
    reference_gaps: int
    ways: dict[str, GapFilling]


@dataclass(frozen=True)
class Place:
    """A place in the training set."""

    composer: str | None
    title: str | None
    path: str
    seconds: float


@dataclass(frozen=True)
class Copying:
    """The part of some music that is in the training set. Runs and matches are counted in notes.

    Attributes:
        notes: Notes examined.
        percentile_95_of_runs: Of the longest run from each note on.
        percentile_95_of_best_match: Of each window's longest run, by the window's length.
        windows_found_whole: Share of the windows found whole, by the window's length.
        longest_run: The longest run of all.
        longest_run_in_piece: The index of its piece.
        longest_run_from: Its place in the training set; None if that is unknown or the run is one note.
        share_of_runs_found: Share of all runs of n notes that are found, n = 1, 2, …; nan where there is none.
    """

    notes: int
    percentile_95_of_runs: float
    percentile_95_of_best_match: dict[int, float]
    windows_found_whole: dict[int, float]
    longest_run: int
    longest_run_in_piece: int
    longest_run_from: Place | None
    share_of_runs_found: list[float]


@dataclass(frozen=True)
class Originality:
    """Copying from the training set, of the generated music and of held-out human music."""

    copies_no_more_than_humans: bool
    human: Copying
    generated: Copying


@dataclass(frozen=True)
class LongContext:
    """Nats per event of the first 512 events of long pieces, and of their events 1,025 to 2,048, given all before."""

    pieces: int
    early: float
    late: float


@dataclass(frozen=True)
class KeptMelody:
    """Nats per event of what stands around the melody, given the past alone, and given the whole melody, too."""

    events: int
    without_melody: float
    with_melody: float


@dataclass(frozen=True)
class ContextUse:
    """What a model makes of its context, and how much of its training music it knows by heart.

    Attributes:
        long_context: None if no piece is long enough.
        kept_melody: What a kept melody is worth; None of a model that reads no future.
        train: Nats per event of training segments, not augmented, without a future; None without a train split.
        held_out: The same of held-out segments.
    """

    long_context: LongContext | None
    kept_melody: KeptMelody | None
    train: float | None
    held_out: float


@dataclass(frozen=True)
class Report:
    """One evaluation.

    Attributes:
        model: What was measured.
        corpus: What it was compared with.
        quick: The quick form.
        options: How much was measured.
        likelihood: By split; None of MIDI files.
        context: The use of context; None of MIDI files.
        distributions: By kind: `composed` and `continued`, or `files`.
        structure: By kind, as `distributions`.
        endings: By kind.
        infilling: By gap length in seconds; None of MIDI files, empty if all pieces are too short.
        originality: Copying from the training set.
        figures: File by figure.
        seconds: Time taken by section.
        format: The version of `report.json`.
    """

    model: Model
    corpus: HeldOut
    quick: bool
    options: EvaluationOptions
    likelihood: dict[str, SplitLikelihood] | None
    context: ContextUse | None
    distributions: dict[str, Comparison]
    structure: dict[str, StructureComparison | Skipped]
    endings: dict[str, Endings | Skipped]
    infilling: dict[str, GapLength] | None
    originality: Originality | Skipped
    figures: dict[str, str]
    seconds: dict[str, float]
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a JSON file: fields that are None are absent, and nan is null."""
        return {name: _plain(value) for name, value in vars(self).items() if value is not None}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _plain(each) for name, each in named.items() if each is not None}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
