"""Scoring by the engine against the network, gaps, and the report on a model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the tiny bundle is made with torch")

from conftest import made_performance, woken
from music_generator.data.corpus import Corpus
from music_generator.data.windows import segments
from music_generator.engine.engine import Engine
from music_generator.evaluation import EvaluationOptions, evaluate, infilling, summary
from music_generator.evaluation.infilling import (
    WAYS,
    choose_gaps,
    evaluate_gaps,
    fill,
    future_nats,
    future_window,
    longest_silence,
    relative_distances,
)
from music_generator.evaluation.likelihood import bits_per_second, engine_likelihood
from music_generator.evaluation.report import Endings, Originality, StructureComparison
from music_generator.generation import SamplingOptions
from music_generator.generation.scoring import score_passages
from music_generator.model.bundle import open_bundle
from music_generator.model.config import FIELDS, ModelConfig
from music_generator.model.export import bundle_network, load_network
from music_generator.model.network import Network
from music_generator.music.features import distributions
from music_generator.music.performance import Performance
from music_generator.music.tokens import TICKS_PER_SECOND, Window, decode, encode
from music_generator.training.likelihood import likelihood
from music_generator.training.release import shown_music


@pytest.fixture(scope="module")
def exact(tiny_bundle: Path) -> Engine:
    return Engine(open_bundle(tiny_bundle), precision="float32")


def test_the_float_engine_scores_as_the_network(exact: Engine, tiny_network: Network, tiny_corpus: Corpus) -> None:
    """Segments of 100 tokens: of unequal length, beginning and ending within pieces."""
    gaps = (4, 16, 64)
    theirs = likelihood(tiny_network, tiny_corpus, "validation", gaps=gaps, length=100)
    calls: list[tuple[int, int]] = []
    passages = segments(tiny_corpus, "validation", length=100)
    ours = engine_likelihood(exact, passages, gaps=gaps, progress=lambda *at: calls.append(at))
    assert list(ours) == list(theirs)
    for name, row in theirs.items():
        assert ours[name] == pytest.approx(row, abs=2e-4), name
    assert calls[-1] == (len(passages), len(passages))


KINDS: dict[str, dict[str, Any]] = {
    "lstm-one-two": {"forward_layers": 1, "backward_layers": 2},
    "gru": {"cell": "gru"},
    "rnn": {"cell": "rnn", "forward_layers": 3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_scores_every_kind_as_its_network(
    tiny_network: Network, tiny_corpus: Corpus, tmp_path: Path, kind: str
) -> None:
    """One layer and several, both directions, with and without a future; also the parts that begin as zeros.

    The network is the bundle's: its weights are those of the engine, rounded to float16.
    """
    import torch

    torch.manual_seed(5)
    network = woken(Network(replace(tiny_network.config, **KINDS[kind]))).eval()
    music = shown_music(tiny_corpus)
    bundle = bundle_network(network, tmp_path / "model", {}, distributions([]), music, precisions=("float32", "int8"))
    theirs = likelihood(load_network(bundle), tiny_corpus, "test", gaps=(3, 16), length=60)
    passages = segments(tiny_corpus, "test", length=60)
    ours, rough = (
        engine_likelihood(Engine(bundle, precision=precision), passages, gaps=(3, 16))
        for precision in ("float32", "int8")
    )
    assert list(ours) == list(theirs)
    for name, row in theirs.items():
        assert ours[name] == pytest.approx(row, abs=1e-4), name
        assert rough[name] == pytest.approx(row, abs=0.02), name


def test_int8_scores_nearly_as_float(exact: Engine, tiny_bundle: Path, tiny_corpus: Corpus) -> None:
    """No token's field by more than 0.2 nats, and all together by less than 0.01."""
    passages = segments(tiny_corpus, "validation", limit=1)
    rough = Engine(open_bundle(tiny_bundle), precision="int8")
    for gap in (None, 16):
        one, other = (score_passages(engine, passages, gap) for engine in (exact, rough))
        assert np.array_equal(np.isnan(one.nats), np.isnan(other.nats))
        assert not np.array_equal(one.nats, other.nats, equal_nan=True)
        np.testing.assert_allclose(one.nats, other.nats, atol=0.2)
        assert np.nanmean(one.nats) == pytest.approx(np.nanmean(other.nats), abs=0.01)


@pytest.mark.parametrize("gap", [None, 8])
def test_in_8_bits_a_passage_scores_the_same_in_any_company(tiny_bundle: Path, tiny_corpus: Corpus, gap: int) -> None:
    """Bit for bit, alone and among others of other lengths."""
    rows, engine = tiny_corpus.piece_rows(0), Engine(open_bundle(tiny_bundle))
    passages = [Window(rows[40 * i : 40 * i + 20 + 7 * i], i == 0, False) for i in range(5)]
    together = score_passages(engine, passages, gap)
    for i, passage in enumerate(passages):
        alone = score_passages(engine, [passage], gap)
        np.testing.assert_array_equal(together.nats[i, : len(passage.rows)], alone.nats[0])


def test_a_passage_scores_alike_alone_and_padded(exact: Engine, tiny_corpus: Corpus) -> None:
    rows = tiny_corpus.piece_rows(0)
    short, long = Window(rows[:21], True, False), Window(rows[40:100], False, False)
    for gap in (None, 8):
        together, alone = score_passages(exact, [short, long], gap), score_passages(exact, [short], gap)
        np.testing.assert_allclose(together.nats[0, :21], alone.nats[0], atol=1e-5)
        assert np.isnan(together.nats[0, 21:]).all()
    assert np.isfinite(alone.nats).all(-1).tolist() == [[True] * 16 + [False] * 5]
    assert len(alone.decisions) == 2


def test_bits_per_second() -> None:
    rows = encode(made_performance(0))[:101]
    seconds = rows["shift"].sum() / TICKS_PER_SECOND
    assert bits_per_second([Window(rows, True, True)], np.log(2)) == pytest.approx(101 / seconds)


# --- gaps


def test_gaps_lie_within_pieces_and_hold_notes() -> None:
    pieces = [made_performance(1), made_performance(2), made_performance(3, notes=20)]
    gaps = choose_gaps(pieces, 9, 4.0, np.random.default_rng(0))
    assert len(gaps) == 9
    for gap in gaps:
        assert gap.piece is not pieces[2]
        assert gap.start >= infilling.MARGIN_SECONDS
        assert gap.end <= gap.piece.end - infilling.MARGIN_SECONDS
        assert len(gap.truth)
    assert choose_gaps(pieces[2:], 3, 4.0, np.random.default_rng(0)) == []


def test_each_way_leaves_the_rest_and_the_same_future_is_scored(exact: Engine, tiny_corpus: Corpus) -> None:
    (gap,) = choose_gaps([decode(tiny_corpus.piece_rows(0))], 1, 2.0, np.random.default_rng(3))
    futures = []
    for way in WAYS:
        (filled,) = fill(exact, [gap], way, SamplingOptions(seed=1))
        np.testing.assert_array_equal(filled.between(gap.end).notes, gap.piece.between(gap.end).notes)
        assert len(filled.between(0, gap.start)) == len(gap.piece.between(0, gap.start))
        assert (len(filled.between(gap.start, gap.end)) == 0) == (way == "empty")
        passage, count = future_window(filled, gap)
        assert count == infilling.FUTURE_TOKENS
        futures.append(passage.rows[-count:])
    for rows in futures[1:]:
        for name in ("key", "velocity", "duration"):
            np.testing.assert_array_equal(rows[name], futures[0][name])


@pytest.mark.parametrize("way", WAYS)
def test_gaps_are_filled_side_by_side_as_each_alone(
    tiny_bundle: Path, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """In the order asked for, their seeds following one another, however many are filled at a time."""
    engine = Engine(open_bundle(tiny_bundle))
    pieces = [decode(tiny_corpus.piece_rows(i)) for i in range(3)]
    gaps = choose_gaps(pieces, 5, 2.0, np.random.default_rng(3))
    together = fill(engine, gaps, way, SamplingOptions(seed=40))
    for i, gap in enumerate(gaps):
        assert fill(engine, [gap], way, SamplingOptions(seed=40 + i)) == [together[i]]
    monkeypatch.setattr(infilling, "BATCH_GAPS", 2)
    assert fill(engine, gaps, way, SamplingOptions(seed=40)) == together
    nats = future_nats(engine, together, gaps)
    assert nats.shape == (5, len(FIELDS))
    assert np.isfinite(nats).all()
    for i, gap in enumerate(gaps):
        np.testing.assert_array_equal(future_nats(engine, [together[i]], [gap])[0], nats[i])


def test_relative_distances() -> None:
    truth = {"a": np.array([[0.0], [2.0]]), "b": np.array([[1.0], [1.0]])}
    assert relative_distances(truth, truth) == {"a": 0.0, "b": 0.0}
    assert relative_distances(truth, {"a": np.array([[1.0], [1.0]]), "b": truth["b"] + 1}) == {"a": 0.5, "b": 0.0}


def test_the_longest_silence_is_between_onsets_and_ends_of_the_gap() -> None:
    piece = made_performance(1)
    onsets = piece.notes["onset"]
    assert longest_silence(piece, onsets[-1]) == pytest.approx(np.diff(onsets, prepend=0).max())
    assert longest_silence(piece.between(0, 1.0), 9.0) == pytest.approx(9.0 - onsets[onsets < 1.0][-1])
    assert longest_silence(piece.between(8.0).shifted(-1.0), 8.0) == pytest.approx(onsets[onsets >= 8.0][0] - 1.0)
    assert longest_silence(Performance(), 4.0) == 4.0


def test_pieces_too_short_have_no_gaps(exact: Engine) -> None:
    short = [made_performance(1, notes=20)] * 3
    assert evaluate_gaps(exact, short, short, count=2, options=SamplingOptions(seed=0)) == {}


# --- the report on a model

SMALL = EvaluationOptions(
    network_segments=2, engine_segments=1, performances=2, seconds=5.0, structure_seconds=12.0, primer_seconds=3.0,
    gaps=2,
)  # fmt: skip


@pytest.mark.slow
def test_the_report_on_a_model(tiny_bundle: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    out = tmp_path / "some" / "out"
    report = evaluate(tiny_bundle, tiny_corpus, out, options=SMALL, seed=3, progress=lambda *at: calls.append(at))
    assert json.loads((out / "report.json").read_text("utf-8")) == report.to_json()
    assert list(report.likelihood) == ["validation", "test"]
    found = report.likelihood["validation"]
    assert (found.network.segments, found.engine.segments) == (2, 1)
    assert found.engine.precision == "int8"
    assert found.engine_worse_by["continue"] == pytest.approx(0, abs=0.05)
    assert list(report.distributions) == ["composed", "continued"]
    assert report.distributions["continued"].from_second == 3.0
    for kind in ("composed", "continued"):
        structure, endings = report.structure[kind], report.endings[kind]
        assert isinstance(structure, StructureComparison)
        assert isinstance(endings, Endings)
        assert structure.seconds == 12.0
        assert endings.performances == 2
    assert list(report.infilling) == ["2", "4", "8", "12", "20"]
    for length in report.infilling:
        ways = report.infilling[length].ways
        assert list(ways) == list(WAYS)
        assert ways["truth"].above_truth == 0
        assert ways["truth"].distance == 0
        assert ways["truth"].notes == 1
        assert 0 < ways["truth"].longest_silence <= float(length)
        assert (ways["empty"].notes, ways["empty"].longest_silence) == (0, float(length))
        assert ways["empty"].overlap is None
        assert ways["infill"].future_nats["total"] == pytest.approx(
            sum(ways["infill"].future_nats[name] for name in FIELDS)
        )
    assert isinstance(report.originality, Originality)
    assert report.originality.generated.notes > 0
    text = (out / "report.md").read_text("utf-8")
    assert "seeds from 3 on" in text
    assert "Not measured" not in text
    assert all((out / name).stat().st_size > 5000 for name in report.figures.values())
    assert set(report.figures) == {"distributions-composed", "distributions-continued", "infilling", "originality"}
    parts = {what for what, _, _ in calls}
    assert {"composing", "continuing", "filling gaps", "likelihood, test, int8", "likelihood, test, float"} <= parts
    assert all(0 <= done <= total for _, done, total in calls)
    assert len(summary(report)) == 4 + 2 + 2 + 2 + 5 + 1


@pytest.mark.slow
def test_the_quick_form_without_torch(
    tiny_bundle: Path, tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from music_generator.evaluation import run

    monkeypatch.setattr(run, "QUICK", {"network_segments": 1, "engine_segments": 1, "performances": 1, "gaps": 1})
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("model.export", "model.network", "training.likelihood", "training.batches"):
        monkeypatch.delitem(sys.modules, f"music_generator.{name}", raising=False)
    report = evaluate(tiny_bundle, tiny_corpus, tmp_path, options=SMALL, quick=True)
    found = report.likelihood["validation"]
    assert found.network is None
    assert found.engine.nats_per_token["infill_16"]["total"] > 0
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Float weights, validation: not measured, torch is not installed" in text
    assert "The quick form" in text


@pytest.fixture(scope="module")
def forward_only(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Network]:
    sizes = {"forward_size": 8, "backward_size": 8, "input_size": 8, "head_size": 8}
    network = Network(ModelConfig(direction="forward", **sizes)).eval()
    folder = tmp_path_factory.mktemp("forward") / "model"
    reference = distributions([made_performance(1)])
    bundle_network(network, folder, {}, reference, shown_music(tiny_corpus), precisions=("float32",))
    return folder, network


def test_a_model_that_reads_forward_only_is_scored(forward_only: tuple[Path, Network], tiny_corpus: Corpus) -> None:
    folder, network = forward_only
    ours = engine_likelihood(Engine(open_bundle(folder)), segments(tiny_corpus, "test", 100))
    theirs = likelihood(network, tiny_corpus, "test", length=100)
    assert list(ours) == list(theirs) == ["continue"]
    assert ours["continue"] == pytest.approx(theirs["continue"], abs=2e-4)


@pytest.mark.slow
def test_the_report_on_a_model_that_reads_forward_only(
    forward_only: tuple[Path, Network], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    report = evaluate(forward_only[0], tiny_corpus, tmp_path / "out", options=SMALL)
    assert list(report.likelihood["test"].engine.nats_per_token) == ["continue"]
    assert list(report.infilling["2"].ways) == ["truth", "blind", "empty"]
    assert (tmp_path / "out" / "infilling.png").exists()
