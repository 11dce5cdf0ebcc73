"""Windows as batches of tensors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="a batch is of torch, of the extra `train`")

from music_generator.data.corpus import Corpus
from music_generator.data.windows import even_gaps
from music_generator.model.config import CUT, EDGE_OF_PIECE
from music_generator.music.tokens import DURATION_BINS, SHIFT_BINS, VELOCITY_BINS, Window
from music_generator.training.batches import to_batch


def test_to_batch(tiny_corpus: Corpus) -> None:
    windows = [
        Window(tiny_corpus.piece_rows(0)[:30], True, False, composer=2),
        Window(tiny_corpus.piece_rows(1)[-12:], False, True),
    ]
    resume = even_gaps(windows, 30, 5)
    batch = to_batch(windows, 30, resume)
    assert batch.present.sum(1).tolist() == [30, 12]
    assert batch.start.tolist() == [EDGE_OF_PIECE, CUT]
    assert batch.stop.tolist() == [CUT, EDGE_OF_PIECE]
    assert batch.ends.tolist() == [False, True]
    assert batch.composer.tolist() == [2, 0]
    assert batch.resume.tolist() == resume.tolist()
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
