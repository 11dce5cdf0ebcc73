"""A run's history: written, cut to a checkpoint, read and described; no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from music_generator.errors import BundleError, InputError
from music_generator.model.config import FIELDS
from music_generator.training.history import (
    Progress,
    append_history,
    describe_history,
    read_history,
    trim_history,
)

HISTORY = """step,tokens,seconds,train_total,train_shift,validation_total,validation_shift,validation_infill_16
0,0,0.1,9.0,3.0,9.5,3.1,
10,1000000,1.0,8.0,2.5,,,
20,2000000,2.0,7.0,2.0,7.5,2.25,7.25

30,3000000,3.0,6.5
"""


def test_history_with_holes(tmp_path):
    (tmp_path / "history.csv").write_text(HISTORY)
    history = read_history(tmp_path / "history.csv")
    assert history["tokens"].tolist() == [0, 1e6, 2e6, 3e6]
    np.testing.assert_array_equal(history["validation_total"], [9.5, np.nan, 7.5, np.nan])
    np.testing.assert_array_equal(history["train_shift"], [3.0, 2.5, 2.0, np.nan])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "must begin with a line of different column names"),
        (b"a,a\n1,2\n", "must begin with a line of different column names"),
        (b"a,b\n1,two\n", "line 2: could not convert string to float: 'two'"),
        (b"a,b\n1,2\n1,2,3\n", "line 3: 3 cells under 2 column names"),
        (b"\xff\xfe\x00", "is not a CSV file"),
    ],
)
def test_bad_history(tmp_path, content, text):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(InputError, match=text):
        read_history(tmp_path / "history.csv")


def test_missing_history(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.csv: No such file"):
        read_history(tmp_path / "none.csv")


def test_history_without_rows(tmp_path):
    (tmp_path / "history.csv").write_text("step,tokens\n")
    assert read_history(tmp_path / "history.csv")["tokens"].shape == (0,)


def progress(step: int, validated: bool) -> Progress:
    losses = {name: step + i / 10 for i, name in enumerate(("total", *FIELDS, "decisions"))}
    validation = dict.fromkeys(("continue", "infill_16", "blind_16"), losses) if validated else None
    return Progress(step, 20, 100 * step, 2.5 * step, 9.0, 40.0, 0.002, losses, validation)


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    for step in (5, 10):
        append_history(path, progress(step, validated=step == 10))
    history = read_history(path)
    assert history["step"].tolist() == [5, 10]
    assert history["seconds"].tolist() == [12.5, 25]
    assert history["train_duration"].tolist() == [5.4, 10.4]
    np.testing.assert_array_equal(history["validation_total"], [np.nan, 10])
    np.testing.assert_array_equal(history["validation_blind_16"], [np.nan, 10])


def test_trim_history(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    trim_history(path, 5)
    assert not path.exists()
    path.write_text("step,tokens\n3,30\n6,60\n1")
    trim_history(path, 5)
    assert path.read_text() == "step,tokens\n3,30\n"
    path.write_text("")
    trim_history(path, 5)
    assert path.read_text() == ""
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a CSV file"):
        trim_history(path, 5)


def test_describe_history(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    append_history(path, progress(5, validated=False))
    facts = {"steps done": 5, "tokens": 500, "train total": 5.0}
    assert describe_history(path) == facts
    append_history(path, replace(progress(10, validated=True), step=12))
    assert describe_history(path) == {
        "steps done": 12, "tokens": 1000, "train total": 10.0, "best validation total": 10.0
    }  # fmt: skip
    path.write_text("step,tokens\n")
    with pytest.raises(BundleError, match="the history is damaged"):
        describe_history(path)
