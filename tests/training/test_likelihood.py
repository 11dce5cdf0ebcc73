"""The likelihood protocol against a slow computation of its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the likelihood needs torch, of the extra `train`")

from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.data.windows import Gaps, even_gaps, segments  # noqa: E402
from music_generator.errors import CorpusError  # noqa: E402
from music_generator.model.config import FIELDS, ModelConfig  # noqa: E402
from music_generator.model.network import Network  # noqa: E402
from music_generator.music.tokens import DURATION_BINS, END, RESUME, SHIFT_BINS, VELOCITY_BINS, Window  # noqa: E402
from music_generator.training.batches import to_batch  # noqa: E402
from music_generator.training.likelihood import likelihood  # noqa: E402

SEGMENT = 24  # tokens
BINS = {"shift": SHIFT_BINS, "velocity": VELOCITY_BINS, "duration": DURATION_BINS}


@pytest.fixture
def short(tiny_corpus: Corpus) -> Corpus:
    """The corpus with validation pieces of 60 and 9 tokens."""
    first, second = (tiny_corpus.offsets[i] for i in tiny_corpus.split("validation"))
    rows = np.concatenate([tiny_corpus.rows[first : first + 60], tiny_corpus.rows[second : second + 9]])
    pieces = [tiny_corpus.pieces[i] for i in tiny_corpus.split("validation")]
    sizes = (60, 9)
    return replace(tiny_corpus, rows=rows, pieces=tuple(replace(p, rows=n) for p, n in zip(pieces, sizes, strict=True)))


@torch.no_grad()
def slow(network: Network, rows: np.ndarray, begins: bool, ends: bool, gap: int | None) -> list[dict[str, float]]:
    """Each token's nats, one at a time: only the rows before it and from its gap's end on are there at all."""
    out = []
    for t in range(len(rows)):
        stop = len(rows) if gap is None else min((t // gap + 1) * gap, len(rows))
        # what is between this token and the future is put out of the way: many a stand-in, the same answer
        kept = rows.copy()
        between = slice(t + 1, stop)
        kept["key"][between], kept["velocity"][between], kept["duration"][between] = 7, 1, 1
        window = Window(kept, begins, ends)
        gaps = Gaps.none(1, len(rows))
        if stop < len(rows):
            gaps.add(0, t, stop)
        reading = network.read(to_batch([window], len(rows), gaps))
        logits, _ = network.without_future(reading) if stop == len(rows) else network.with_future(reading)
        found = {}
        for name in FIELDS:
            scores = logits[name][0, t].double()
            if name == "shift" and stop < len(rows):
                scores[RESUME] = -1e4  # that the gap goes on is given
            chosen = int(BINS[name].index(rows[name][t])) if name in BINS else int(rows[name][t])
            width = np.log(BINS[name].widths[chosen]) if name in ("shift", "duration") else 0.0
            found[name] = float(scores.logsumexp(0) - scores[chosen]) + float(width)
        found["counted"] = stop < len(rows)
        out.append(found)
    return out


def test_against_the_definition(tiny_network: Network, short: Corpus) -> None:
    found = likelihood(tiny_network, short, length=SEGMENT, gaps=(4, 10), batch_size=2)
    assert list(found) == ["continue", "blind_4", "infill_4", "blind_10", "infill_10"]
    whole = [short.piece_rows(0)[:24], short.piece_rows(0)[24:48], short.piece_rows(0)[48:], short.piece_rows(1)]
    places = [(True, False), (False, False), (False, True), (True, True)]
    blind = [slow(tiny_network, rows, *place, None) for rows, place in zip(whole, places, strict=True)]
    tokens = [token for segment in blind for token in segment]
    for name in FIELDS:
        assert found["continue"][name] == pytest.approx(np.mean([token[name] for token in tokens]), abs=1e-4)
    for gap in (4, 10):
        infill = [slow(tiny_network, rows, *place, gap) for rows, place in zip(whole, places, strict=True)]
        counted = [token for segment in infill for token in segment if token["counted"]]
        same = [b for bs, fs in zip(blind, infill, strict=True) for b, f in zip(bs, fs, strict=True) if f["counted"]]
        assert len(counted) == sum((len(rows) - 1) // gap * gap for rows in whole)
        for name in FIELDS:
            assert found[f"infill_{gap}"][name] == pytest.approx(np.mean([t[name] for t in counted]), abs=1e-4)
            assert found[f"blind_{gap}"][name] == pytest.approx(np.mean([t[name] for t in same]), abs=1e-4)
        assert found[f"infill_{gap}"]["decision"] > 0
        assert found[f"blind_{gap}"]["decision"] == 0
    for row in found.values():
        assert row["total"] == pytest.approx(sum(row[name] for name in FIELDS))


def test_blind_is_continue_on_the_same_tokens(tiny_network: Network, short: Corpus) -> None:
    """With gaps of one token all tokens but a segment's last are counted; segments of one gap count none."""
    one = replace(short, rows=short.rows[:24], pieces=(replace(short.pieces[0], rows=24),))
    found = likelihood(tiny_network, one, length=SEGMENT, gaps=(1, 23))
    (segment,) = [slow(tiny_network, one.piece_rows(0), True, True, None)]
    for gap in (1, 23):
        for name in FIELDS:
            assert found[f"blind_{gap}"][name] == pytest.approx(np.mean([t[name] for t in segment[:23]]), abs=1e-4)
    assert found["continue"]["total"] != found["blind_1"]["total"]


@pytest.mark.parametrize("gap", [None, 8])
def test_probabilities_sum_to_one(tiny_network: Network, tiny_corpus: Corpus, gap: int | None) -> None:
    """Summed over every value on the grid (each bin as wide as it is) and the classes past the bins, under the mask."""
    windows = [Window(tiny_corpus.piece_rows(5)[:30], True, False)]
    batch = to_batch(windows, 30, None if gap is None else even_gaps(windows, 30, gap))
    with torch.no_grad():
        reading = tiny_network.read(batch)
        logits, _ = tiny_network.without_future(reading) if gap is None else tiny_network.with_future(reading)
    for name in FIELDS:
        total = torch.zeros(1, 30, dtype=torch.float64)
        count = len(BINS[name]) if name in BINS else logits[name].shape[-1]
        for value in range(count):
            each = replace(batch, **{name: torch.full_like(batch.shift, value)})
            width = int(BINS[name].widths[value]) if name in ("shift", "duration") else 1
            total += width * torch.exp(-tiny_network.nats(logits, each)[name].double())
        if name == "shift":
            chances = logits["shift"].double().softmax(-1)
            total += chances[..., RESUME] + chances[..., END]
            assert (chances[..., END if gap else RESUME][batch.has_future if gap else batch.present] == 0).all()
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


def test_an_untrained_guess_costs_what_chance_does(short: Corpus) -> None:
    """All weights 0: every class alike, so the nats are known. (A memory would point at keys by itself.)"""
    network = Network(ModelConfig(forward_size=8, backward_size=8, input_size=8, head_size=8, memory=0))
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    found = likelihood(network, short, length=SEGMENT, gaps=())["continue"]
    assert found["key"] == pytest.approx(np.log(91), abs=1e-4)
    assert found["velocity"] == pytest.approx(np.log(32), abs=1e-4)
    widths = DURATION_BINS.widths[DURATION_BINS.index(short.rows["duration"])]
    assert found["duration"] == pytest.approx(np.log(len(DURATION_BINS)) + np.log(widths).mean(), abs=1e-4)


def test_a_forward_network_has_no_infill(short: Corpus) -> None:
    sizes = {"forward_size": 8, "backward_size": 8, "input_size": 8, "head_size": 8}
    network = Network(ModelConfig(direction="forward", **sizes)).train()
    assert list(likelihood(network, short, length=SEGMENT)) == ["continue"]
    assert network.training


def test_limit_progress_and_batches(tiny_network: Network, short: Corpus) -> None:
    calls: list[tuple[int, int]] = []
    whole = likelihood(
        tiny_network, short, length=SEGMENT, gaps=(4,), batch_size=3, progress=lambda *at: calls.append(at)
    )
    assert calls == [(3, 4), (4, 4)]
    for size in (1, 16):
        other = likelihood(tiny_network, short, length=SEGMENT, gaps=(4,), batch_size=size)
        for name, row in whole.items():
            assert other[name] == pytest.approx(row, abs=1e-5)
    assert len(segments(short, "validation", SEGMENT, 3)) == 3
    assert len(segments(short, "validation", SEGMENT, 9)) == 4
    with pytest.raises(CorpusError, match="its test split is empty"):
        likelihood(tiny_network, short, "test", length=SEGMENT)
