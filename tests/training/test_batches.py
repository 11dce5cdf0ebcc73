"""Windows as batches of tensors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="a batch is of torch, of the extra `train`")

from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.data.windows import even_gaps  # noqa: E402
from music_generator.model.config import CUT, EDGE_OF_PIECE  # noqa: E402
from music_generator.music.tokens import DURATION_BINS, SHIFT_BINS, VELOCITY_BINS, Window  # noqa: E402
from music_generator.training.batches import to_batch  # noqa: E402


def test_to_batch(tiny_corpus: Corpus) -> None:
    windows = [
        Window(tiny_corpus.piece_rows(0)[:30], True, False, composer=2),
        Window(tiny_corpus.piece_rows(1)[-12:], False, True, plain=True),
    ]
    gaps = even_gaps(windows, 30, 5)
    gaps.kept[0, 3], gaps.thinned[0], gaps.density[1, 2], gaps.loudness[0, 4] = True, 7, 3, 5
    batch = to_batch(windows, 30, gaps)
    assert batch.present.sum(1).tolist() == [30, 12]
    assert batch.start.tolist() == [EDGE_OF_PIECE, CUT]
    assert batch.stop.tolist() == [CUT, EDGE_OF_PIECE]
    assert batch.ends.tolist() == [False, True]
    assert batch.composer.tolist() == [2, 0]
    assert batch.plain.tolist() == [False, True]
    for name, value in vars(gaps).items():
        found = batch.gap_ends if name == "ends" else getattr(batch, name)
        assert found.tolist() == value.tolist(), name
    for i, window in enumerate(windows):
        n = len(window.rows)
        assert batch.key[i, :n].tolist() == window.rows["key"].tolist()
        assert batch.onset[i, :n].tolist() == np.cumsum(window.rows["shift"]).tolist()
        assert batch.held[i, :n].tolist() == window.rows["duration"].tolist()
        for name, bins in (("shift", SHIFT_BINS), ("velocity", VELOCITY_BINS), ("duration", DURATION_BINS)):
            binned = getattr(batch, name)[i, :n].numpy()
            values = np.minimum(window.rows[name], bins.edges[-1] - 1)
            assert (bins.edges[binned] <= values).all()
            assert (values < bins.edges[binned + 1]).all()


def test_a_batch_without_gaps_has_no_future(tiny_corpus: Corpus) -> None:
    windows = [
        Window(tiny_corpus.piece_rows(0)[:30], True, False),
        Window(tiny_corpus.piece_rows(1)[-12:], False, True),
    ]
    batch = to_batch(windows, 30)
    assert not batch.has_future.any()
    assert not batch.gap_ends.any()
    assert torch.equal(batch.in_future, batch.present)
    assert not (batch.kept | (batch.density > 0) | (batch.loudness > 0)).any()


def test_where_tokens_and_the_end_of_a_piece_begin(tiny_corpus: Corpus) -> None:
    """After the last token is met with it."""
    rows = tiny_corpus.piece_rows(0)
    batch = to_batch([Window(rows[:9], True, False), Window(rows[-4:], False, True)], 9)
    for row, some in enumerate((rows[:9], rows[-4:])):
        onsets = np.cumsum(some["shift"]).tolist()
        assert batch.starts[row].tolist() == onsets + onsets[-1:] * (10 - len(onsets))
