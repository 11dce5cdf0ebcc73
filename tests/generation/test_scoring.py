"""Scores: the nats of each field of each event are the network's, and do not depend on what else is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="scores are compared with the network, of the extra `train`")

from conftest import made_performance  # noqa: E402
from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.data.windows import even_gaps  # noqa: E402
from music_generator.engine.engine import Engine  # noqa: E402
from music_generator.errors import InputError  # noqa: E402
from music_generator.generation import SamplingOptions, compose  # noqa: E402
from music_generator.generation.scoring import PieceScore, score, score_passages  # noqa: E402
from music_generator.model.bundle import Bundle, open_bundle  # noqa: E402
from music_generator.model.config import FIELDS  # noqa: E402
from music_generator.model.network import Network  # noqa: E402
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance  # noqa: E402
from music_generator.music.tokens import (  # noqa: E402
    DURATION_BINS,
    RESUME,
    TICKS_PER_SECOND,
    VELOCITY_BINS,
    Array,
    Bins,
    Window,
    encode,
)
from music_generator.training.batches import to_batch  # noqa: E402

PIECE = made_performance(4, notes=55)  # no more events than the tiny network's memory reaches back


@pytest.fixture(scope="module")
def exact(tiny_bundle: Path) -> Engine:
    return Engine(open_bundle(tiny_bundle), precision="float32")


@torch.no_grad()
def network_nats(network: Network, rows: Array, composer: int, gap: int | None) -> tuple[Array, Array]:
    """The network's nats of a whole piece (T, 4), each gap known to go on, and of its decisions to resume."""
    windows, length = [Window(rows, True, True, composer)], len(rows)
    batch = to_batch(windows, length, None if gap is None else even_gaps(windows, length, gap))
    if gap is None:
        logits, resumed = network.without_future(network.read(batch))
    else:
        logits, resumed = network.with_future(network.read(batch))
    nats = np.stack([network.nats(logits, batch)[name][0].numpy() for name in FIELDS], 1).astype(np.float64)
    if gap is not None:
        has_future = batch.has_future[0].numpy()
        stay = 1 - logits["shift"][0].double().softmax(-1)[:, RESUME].numpy()
        nats[:, 0] += np.log(stay)
        nats[~has_future] = np.nan
    return nats, -resumed.log_softmax(-1)[:, RESUME].numpy()


# --- a piece


@pytest.mark.parametrize("composer", [None, "Chopin"])
def test_a_piece_costs_what_the_network_says(exported: tuple[Network, Bundle], composer: str | None) -> None:
    """Each field of each event to 1e-3, of every cell and direction."""
    network, bundle = exported
    engine = Engine(bundle, precision="float32")
    found = score(PIECE, engine, composer=composer)
    wanted, _ = network_nats(network, encode(PIECE), engine.composer(composer), None)
    assert found.nats.shape == (len(PIECE.notes) + len(PIECE.pedals), len(FIELDS))
    np.testing.assert_allclose(found.nats, wanted, atol=1e-3)


@pytest.mark.parametrize("gap", [1, 7, 16])
def test_gaps_cost_what_the_network_says(exported: tuple[Network, Bundle], gap: int) -> None:
    """With the future that each gap has, and that it goes on; and what it costs to resume."""
    network, bundle = exported
    if bundle.config.direction == "forward":
        return
    engine, rows = Engine(bundle, precision="float32"), encode(PIECE)
    found = score_passages(engine, [Window(rows, True, True)], gap, composer=2)
    wanted, decisions = network_nats(network, rows, 2, gap)
    np.testing.assert_allclose(found.nats[0], wanted, atol=1e-3)
    np.testing.assert_allclose(found.decisions, decisions, atol=1e-3)
    assert len(decisions) == (len(rows) - 1) // gap


def test_a_score_says_what_it_is_of(exact: Engine) -> None:
    found = score(PIECE, exact)
    rows = encode(PIECE)
    np.testing.assert_array_equal(found.tokens, rows)
    np.testing.assert_array_equal(found.onsets, np.cumsum(rows["shift"]) / TICKS_PER_SECOND)
    assert np.isfinite(found.nats).all()
    assert list(found.per_event) == ["total", *FIELDS]
    for place, name in enumerate(FIELDS):
        assert found.per_event[name] == pytest.approx(found.nats[:, place].mean())
    assert found.per_event["total"] == pytest.approx(found.nats.sum() / len(rows))
    assert found.bits_per_second == pytest.approx(found.nats.sum() / np.log(2) / found.onsets[-1])


def test_a_score_by_hand() -> None:
    """Two events, the second after 2 s; a bit of each field."""
    tokens = np.array([(100, 40, 64, 10), (100, 41, 64, 10)], encode(PIECE).dtype)
    found = PieceScore(tokens, np.full((2, 4), np.log(2)))
    assert found.onsets.tolist() == [1.0, 2.0]
    assert found.bits_per_second == pytest.approx(4)
    assert found.per_event == pytest.approx({"total": 4 * np.log(2), **dict.fromkeys(FIELDS, np.log(2))})


def test_the_likelihood_of_a_piece_is_that_of_its_beginnings(exact: Engine) -> None:
    """Each event is given those before it alone: a piece's score begins with that of the piece cut short."""
    whole = score(PIECE, exact).nats
    rows = encode(PIECE)
    for count in (1, 20, len(rows) - 1):
        found = score_passages(exact, [Window(rows[:count], True, False)]).nats[0]
        np.testing.assert_allclose(found, whole[:count], atol=1e-5)


@pytest.mark.parametrize("name", ["key", "velocity", "duration"])
def test_probabilities_of_all_events_come_to_one(exact: Engine, name: str) -> None:
    """Of every class that a field of the next event may have; a time counts by the width of its bin."""
    bins = {"key": Bins(np.arange(92)), "velocity": VELOCITY_BINS, "duration": DURATION_BINS}[name]
    passages = []
    for value in bins.edges[:-1]:
        rows = encode(PIECE)[:9].copy()
        rows[name][-1] = value
        passages.append(Window(rows, True, False))
    nats = score_passages(exact, passages).nats[:, -1, FIELDS.index(name)]
    widths = bins.widths if name == "duration" else 1
    assert (np.exp(-nats) * widths).sum() == pytest.approx(1, abs=1e-5)


def test_a_composer_changes_the_score(exact: Engine) -> None:
    one, other = (score(PIECE, exact, composer=name) for name in (None, "Berg"))
    assert not np.allclose(one.nats, other.nats, atol=1e-3)
    with pytest.raises(InputError, match="unknown composer 'Shopin'"):
        score(PIECE, exact, composer="Shopin")


@pytest.mark.parametrize("performance", [Performance(), PIECE.between(1000)])
def test_a_piece_without_events_is_refused(exact: Engine, performance: Performance) -> None:
    with pytest.raises(InputError, match="the piece has no notes"):
        score(performance, exact)


@pytest.mark.parametrize("count", [1, 2])
def test_pieces_of_an_event_or_two(exact: Engine, count: int) -> None:
    """At second 0 too, where no time has passed; of a pedal alone."""
    notes = np.array([(0.0, 0.5, 60 + i, 64) for i in range(count)], NOTE_DTYPE)
    pedals = np.array([(0.0, 1.0, 0, 90)], PEDAL_DTYPE)
    for performance in (Performance(notes), Performance(pedals=pedals)):
        found = score(performance, exact)
        assert found.nats.shape == (len(performance.notes) + len(performance.pedals), 4)
        assert np.isfinite(found.nats).all()
        assert np.isfinite(found.bits_per_second)


def test_without_an_engine_the_bundled_model_scores() -> None:
    """It finds its own music likelier than the same notes out of order."""
    made = compose(Engine(), 10, SamplingOptions(seed=2)).performance
    found = score(made)
    notes = made.notes.copy()
    notes["pitch"] = np.random.default_rng(0).permutation(notes["pitch"])
    shuffled = score(Performance(notes, made.pedals))
    assert found.per_event["key"] < shuffled.per_event["key"]
    assert 0 < found.bits_per_second < 1000


# --- passages


def passages_of(corpus: Corpus) -> list[Window]:
    rows = corpus.piece_rows(0)
    return [Window(rows[40 * i : 40 * i + 20 + 7 * i], i == 0, False) for i in range(5)]


@pytest.mark.parametrize("gap", [None, 8])
def test_in_8_bits_a_passage_scores_the_same_in_any_company(
    tiny_bundle: Path, tiny_corpus: Corpus, gap: int | None
) -> None:
    """To the bit, alone and among others of other lengths; by the kernel and by NumPy."""
    engines = [Engine(tiny_bundle, precision="int8", backend=backend) for backend in (None, "numpy")]
    passages = passages_of(tiny_corpus)
    together = score_passages(engines[0], passages, gap)
    for i, passage in enumerate(passages):
        for engine in engines if i < 2 else engines[:1]:
            alone = score_passages(engine, [passage], gap)
            np.testing.assert_array_equal(together.nats[i, : len(passage.rows)], alone.nats[0])


@pytest.mark.parametrize("gap", [None, 8])
def test_a_passage_scores_alike_alone_and_padded(exact: Engine, tiny_corpus: Corpus, gap: int | None) -> None:
    rows = tiny_corpus.piece_rows(0)
    short, long = Window(rows[:21], True, False), Window(rows[40:100], False, False)
    together, alone = score_passages(exact, [short, long], gap), score_passages(exact, [short], gap)
    np.testing.assert_allclose(together.nats[0, :21], alone.nats[0], atol=1e-5)
    assert np.isnan(together.nats[0, 21:]).all()
    assert np.isfinite(together.nats[1, :56]).all()
    if gap is None:
        assert np.isfinite(alone.nats).all()
        assert not len(alone.decisions)
    else:
        assert np.isfinite(alone.nats).all(-1).tolist() == [[True] * 16 + [False] * 5]
        assert len(alone.decisions) == 2


def test_a_passage_is_told_whether_it_begins_and_ends_its_piece(exact: Engine, tiny_corpus: Corpus) -> None:
    """Its beginning is heard at once, its end by the gaps before it."""
    rows = tiny_corpus.piece_rows(0)[40:60]

    def nats(begins: bool, ends: bool, gap: int | None) -> Any:
        return score_passages(exact, [Window(rows, begins, ends)], gap).nats[0]

    assert not np.allclose(nats(True, False, None)[0], nats(False, False, None)[0], atol=1e-4)
    np.testing.assert_array_equal(nats(False, True, None), nats(False, False, None))
    assert not np.allclose(nats(False, True, 8)[:16], nats(False, False, 8)[:16], atol=1e-5)
