"""Runs beside one another: the best validation of each, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="runs are made with torch, of the extra `train`")

from music_generator.errors import BundleError  # noqa: E402
from music_generator.model.config import ModelConfig  # noqa: E402
from music_generator.model.network import Network  # noqa: E402
from music_generator.training.checkpoint import State, write_checkpoint  # noqa: E402
from music_generator.training.compare import comparable, compare_runs  # noqa: E402
from music_generator.training.history import HISTORY_FILE  # noqa: E402
from music_generator.training.options import LAST_FILE, Run, TrainingOptions, write_run  # noqa: E402

SMALL = ModelConfig(forward_size=12, backward_size=8, input_size=8, head_size=10)
COLUMNS = "step,tokens,seconds,train_total,validation_total,validation_shift,validation_key,validation_velocity,"
HISTORY = f"""{COLUMNS}validation_duration,validation_infill_16,validation_blind_16
10,1000,1,9.5,,,,,,,
20,2000,2,9,9.25,2.5,2.25,2.25,2.25,9.0,9.5
30,3000,3,8.5,8.75,2.5,2.0,2.0,2.25,8.5,8.875
40,4000,4,8,9,2.5,2.25,2.0,2.25,8.75,9.25
"""


def made_run(
    folder: Path, history: str | None = HISTORY, digest: str = "same", segments: int = 64, **sizes: object
) -> Network:
    """Write the files of a run that `compare` reads, and return its network."""
    config = replace(SMALL, **sizes)  # type: ignore[arg-type]
    network = Network(config)
    folder.mkdir(parents=True)
    write_checkpoint(folder / LAST_FILE, network, State())
    write_run(folder, Run(config, TrainingOptions(validation_segments=segments), "corpus", digest))
    if history is not None:
        (folder / HISTORY_FILE).write_text(history, "utf-8")
    return network


def test_the_best_validation_of_each_run(tmp_path: Path) -> None:
    network = made_run(tmp_path / "lstm")
    forward = HISTORY.replace(",8.5,8.875", ",,")
    made_run(tmp_path / "rnn", forward, cell="rnn", direction="forward")
    lstm, rnn = compare_runs([tmp_path / "lstm", tmp_path / "rnn"])
    assert (lstm.name, lstm.steps, lstm.best_step) == ("lstm", 40, 30)
    assert lstm.parameters == sum(weight.numel() for weight in network.parameters())
    fields = {"total": 8.75, "shift": 2.5, "key": 2.0, "velocity": 2.0, "duration": 2.25}
    assert lstm.nats == fields | {"infill_16": 8.5, "blind_16": 8.875}
    assert (rnn.run.config.cell, rnn.nats) == ("rnn", fields)
    assert lstm.to_json() == {
        "run": "lstm", "cell": "lstm", "direction": "both", "parameters": lstm.parameters, "steps": 40,
        "best_step": 30, "corpus": "corpus", "nats": lstm.nats,
    }  # fmt: skip


@pytest.mark.parametrize("history", [None, COLUMNS + "\n", "step,tokens,train_total\n10,1000,9.5\n"])
def test_a_run_without_a_validation(tmp_path: Path, history: str | None) -> None:
    made_run(tmp_path / "young", history)
    (young,) = compare_runs([tmp_path / "young"])
    assert (young.best_step, young.nats, young.steps) == (None, {}, 10 if history and "9.5" in history else 0)


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("a", "b"):
        made_run(tmp_path / place / "run")
    made_run(tmp_path / "other")
    runs = compare_runs([tmp_path / "a/run", tmp_path / "other", tmp_path / "b/run"])
    assert [each.name for each in runs] == [str(tmp_path / "a/run"), "other", str(tmp_path / "b/run")]


def test_other_music_does_not_compare(tmp_path: Path) -> None:
    made_run(tmp_path / "one")
    made_run(tmp_path / "two", cell="gru")
    made_run(tmp_path / "other", digest="other")
    made_run(tmp_path / "fewer", segments=4)
    one, two, other, fewer = compare_runs([tmp_path / name for name in ("one", "two", "other", "fewer")])
    assert comparable([one, two])
    assert not comparable([one, other])
    assert not comparable([one, two, fewer])


def test_what_is_no_run_or_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no training run \(run\.json is missing\)"):
        compare_runs([tmp_path])
    made_run(tmp_path / "run")
    (tmp_path / "run" / LAST_FILE).write_bytes(b"no checkpoint")
    with pytest.raises(BundleError, match="the checkpoint cannot be read"):
        compare_runs([tmp_path / "run"])
