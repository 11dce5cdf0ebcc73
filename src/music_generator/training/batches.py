"""Windows as a `Batch` of tensors, which the network takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from music_generator.data.corpus import STORED_DTYPE
from music_generator.model.config import CUT, EDGE_OF_PIECE
from music_generator.model.network import Batch
from music_generator.music.tokens import Window, bin_rows


def to_batch(windows: Sequence[Window], length: int, resume: NDArray[Any]) -> Batch:
    """Pad B windows to `length` tokens and replace values by classes.

    Args:
        windows: of at most `length` rows each.
        length: T, the tokens of each row of the batch.
        resume: (B, T) int64, as `even_gaps` and `sample_gaps` return it.
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
        "resume": resume,
    }
    tensors = {name: torch.as_tensor(np.asarray(value).astype(np.int64)) for name, value in arrays.items()}
    present = torch.as_tensor(np.arange(length) < totals[:, None])
    return Batch(**tensors, present=present, ends=torch.as_tensor(ends))
