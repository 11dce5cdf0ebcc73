"""Windows as a `Batch` of tensors, which the network takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from music_generator.data.corpus import STORED_DTYPE
from music_generator.data.windows import Gaps
from music_generator.model.config import CUT, EDGE_OF_PIECE
from music_generator.model.network import Batch
from music_generator.music.tokens import Window, bin_rows


def to_batch(windows: Sequence[Window], length: int, gaps: Gaps | None = None) -> Batch:
    """Pad B windows to `length` tokens and replace values by classes.

    Args:
        windows: Of at most `length` rows each.
        length: T, the tokens of each row of the batch.
        gaps: The gaps that the windows are cut into; if None, no token has a future.
    """
    rows = np.zeros((len(windows), length), STORED_DTYPE)
    rows["duration"] = 1
    totals = np.asarray([len(window.rows) for window in windows])
    for i, window in enumerate(windows):
        rows[i, : totals[i]] = window.rows
    ends = np.asarray([window.ends for window in windows])
    arrays = bin_rows(rows) | {
        "onset": np.cumsum(rows["shift"], axis=1, dtype=np.int64),
        "held": rows["duration"],
        "start": np.where([window.begins for window in windows], EDGE_OF_PIECE, CUT),
        "stop": np.where(ends, EDGE_OF_PIECE, CUT),
        "composer": [window.composer for window in windows],
    }
    gaps = gaps or Gaps.none(len(windows), length)
    tensors = {name: torch.as_tensor(np.asarray(value).astype(np.int64)) for name, value in arrays.items()}
    return Batch(
        **tensors,
        present=torch.as_tensor(np.arange(length) < totals[:, None]),
        resume=torch.as_tensor(gaps.resume),
        gap_ends=torch.as_tensor(gaps.ends),
        kept=torch.as_tensor(gaps.kept),
        thinned=torch.as_tensor(gaps.thinned),
        density=torch.as_tensor(gaps.density),
        loudness=torch.as_tensor(gaps.loudness),
        ends=torch.as_tensor(ends),
        plain=torch.as_tensor([window.plain for window in windows]),
    )
