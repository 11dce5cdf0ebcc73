"""The use of context: what is scored, given what, and how the nats are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the tiny bundle is made with torch")

from music_generator.data.corpus import Corpus
from music_generator.data.windows import segments
from music_generator.engine.engine import Engine
from music_generator.evaluation import context
from music_generator.evaluation.context import evaluate_context
from music_generator.evaluation.report import ContextUse
from music_generator.generation.scoring import Scores, score_around, score_passages
from music_generator.model.bundle import open_bundle
from music_generator.model.config import FIELDS
from music_generator.music.tokens import KEYS, Window
from music_generator.music.voices import highest_tokens


class FakeEngine:
    """No engine; a network of this direction."""

    def __init__(self, direction: str = "both") -> None:
        self.config = type("Config", (), {"direction": direction})()


def scored_by_place(_: Any, windows: Sequence[Window]) -> Scores:
    """Nats of each token: its place in its passage, all in the key; nan past a passage's end."""
    nats = np.full((len(windows), max(len(window.rows) for window in windows), len(FIELDS)), np.nan)
    for b, window in enumerate(windows):
        nats[b, : len(window.rows)] = 0
        nats[b, : len(window.rows), 1] = np.arange(len(window.rows))
    return Scores(nats, np.empty(0))


def scored_around(_: Any, windows: Sequence[Window], kept: Sequence[Any]) -> Scores:
    """The same, less 1; nan for tokens that are kept and for those after the last kept one."""
    nats = scored_by_place(_, windows).nats
    for b, mine in enumerate(kept):
        nats[b, : len(mine), 1] -= 1
        nats[b, : len(mine)][mine] = np.nan
        nats[b, np.flatnonzero(mine)[-1] :] = np.nan
    return Scores(nats, np.empty(0))


@pytest.fixture
def by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "score_passages", scored_by_place)
    monkeypatch.setattr(context, "score_around", scored_around)
    for name, value in {"LONG_TOKENS": 40, "EARLY_TOKENS": 10, "KEPT_TOKENS": 30, "SEGMENT_TOKENS": 25}.items():
        monkeypatch.setattr(context, name, value)


def measured(corpus: Corpus, count: int = 100, direction: str = "both") -> ContextUse:
    return evaluate_context(FakeEngine(direction), corpus, "validation", count)  # type: ignore[arg-type]


@pytest.mark.usefixtures("by_place")
def test_early_and_late_events_of_long_pieces(tiny_corpus: Corpus) -> None:
    """The first 10 tokens of pieces of 40 and more, and their second half: means of 0 … 9 and of 20 … 39."""
    found = measured(tiny_corpus).long_context
    assert found is not None
    assert (found.pieces, found.early, found.late) == (2, 4.5, 29.5)
    one = measured(tiny_corpus, count=1).long_context
    assert one is not None
    assert one.pieces == 1


@pytest.mark.usefixtures("by_place")
def test_without_long_pieces_there_is_no_long_context(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "LONG_TOKENS", 1 + max(piece.rows for piece in tiny_corpus.pieces))
    assert measured(tiny_corpus).long_context is None


@pytest.mark.usefixtures("by_place")
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_same_events_are_scored_with_and_without_a_kept_melody(
    tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Those that are not of the melody, up to its last note; both are means over the same events."""
    monkeypatch.setattr(context, "BATCH_WINDOWS", batch)
    places: list[int] = []
    for window in segments(tiny_corpus, "validation", 30):
        melody = highest_tokens(window.rows)
        places += [i for i in range(np.flatnonzero(melody)[-1]) if not melody[i]]
    found = measured(tiny_corpus).kept_melody
    assert found is not None
    assert found.events == len(places)
    assert found.without_melody == pytest.approx(np.mean(places))
    assert found.with_melody == pytest.approx(np.mean(places) - 1)


@pytest.mark.usefixtures("by_place")
def test_a_model_that_reads_forward_only_keeps_no_melody(tiny_corpus: Corpus) -> None:
    assert measured(tiny_corpus, direction="forward").kept_melody is None


@pytest.mark.usefixtures("by_place")
def test_segments_count_by_their_events(tiny_corpus: Corpus) -> None:
    """A short last segment counts less: the mean is over tokens, not over segments."""
    found = measured(tiny_corpus)
    for split, nats in (("train", found.train), ("validation", found.held_out)):
        lengths = [len(window.rows) for window in segments(tiny_corpus, split, 25)]
        assert min(lengths) < 25
        assert nats == pytest.approx(np.concatenate([np.arange(length) for length in lengths]).mean())


@pytest.mark.usefixtures("by_place")
def test_training_segments_are_of_no_tag(tiny_corpus: Corpus) -> None:
    """As the held-out ones are; and without any there is nothing to compare with."""
    train = tiny_corpus.split("train")
    few = replace(tiny_corpus, pieces=tuple(
        replace(piece, tag="rolls") if i in train[1:] else piece for i, piece in enumerate(tiny_corpus.pieces)
    ))  # fmt: skip
    alone = replace(tiny_corpus, pieces=tuple(
        replace(piece, split="test") if i in train[1:] else piece for i, piece in enumerate(tiny_corpus.pieces)
    ))  # fmt: skip
    assert measured(few).train == measured(alone).train != measured(tiny_corpus).train
    none = replace(few, pieces=tuple(replace(p, tag="rolls") if p.split == "train" else p for p in few.pieces))
    assert measured(none).train is None


def test_by_the_engine_itself(tiny_bundle: Path, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against scores of single passages, added by hand."""
    monkeypatch.setattr(context, "KEPT_TOKENS", 60)
    monkeypatch.setattr(context, "LONG_TOKENS", 80)
    monkeypatch.setattr(context, "EARLY_TOKENS", 20)
    engine = Engine(open_bundle(tiny_bundle))
    calls: list[tuple[int, int]] = []
    found = evaluate_context(engine, tiny_corpus, "validation", 3, lambda *at: calls.append(at))
    assert calls == [(1, 3), (2, 3), (3, 3)]

    around, alone = [], []
    for window in segments(tiny_corpus, "validation", 60, 3):
        melody = highest_tokens(window.rows)
        assert (window.rows["key"][melody] < KEYS).all()
        with_it = score_around(engine, [window], [melody]).nats[0].sum(1)
        around.append(with_it[np.isfinite(with_it)])
        alone.append(score_passages(engine, [window]).nats[0].sum(1)[np.isfinite(with_it)])
    assert found.kept_melody is not None
    assert found.kept_melody.events == sum(map(len, around))
    assert found.kept_melody.with_melody == pytest.approx(np.concatenate(around).mean())
    assert found.kept_melody.without_melody == pytest.approx(np.concatenate(alone).mean())

    nats = [score_passages(engine, [window]).nats[0].sum(1) for window in segments(tiny_corpus, "validation", 512, 3)]
    assert found.held_out == pytest.approx(np.concatenate(nats).mean())
    first = [score_passages(engine, [w]).nats[0].sum(1) for w in segments(tiny_corpus, "validation", 80) if w.begins]
    assert found.long_context is not None
    assert found.long_context.early == pytest.approx(np.mean([each[:20].mean() for each in first]))
    assert found.long_context.late == pytest.approx(np.mean([each[40:80].mean() for each in first]))
