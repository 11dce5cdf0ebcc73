"""The training loop: it learns, it goes on after a kill as if there had been none, several processes act as one."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, of the extra `train`")
pytest.importorskip("accelerate", reason="training needs accelerate, of the extra `train`")

from music_generator.data.corpus import Corpus, open_corpus  # noqa: E402
from music_generator.data.windows import WindowOptions  # noqa: E402
from music_generator.errors import BundleError, InputError, TrainingError  # noqa: E402
from music_generator.model.bundle import open_bundle  # noqa: E402
from music_generator.model.config import FIELDS, ModelConfig  # noqa: E402
from music_generator.model.export import load_network  # noqa: E402
from music_generator.model.network import Network  # noqa: E402
from music_generator.training import trainer as trainer_module  # noqa: E402
from music_generator.training.checkpoint import read_checkpoint  # noqa: E402
from music_generator.training.history import HISTORY_FILE, Progress  # noqa: E402
from music_generator.training.likelihood import likelihood  # noqa: E402
from music_generator.training.options import BEST_FILE, LAST_FILE, TrainingOptions, base_of, read_run  # noqa: E402
from music_generator.training.protocol import Row  # noqa: E402
from music_generator.training.release import (  # noqa: E402
    BUNDLE_FOLDER,
    MAESTRO_CREDIT,
    MAESTRO_LICENCE_FILE,
    bundle_run,
)
from music_generator.training.trainer import Trainer, average_share, learning_rate_factor, position  # noqa: E402

CONFIG = ModelConfig(forward_size=12, backward_size=8, input_size=8, head_size=10, dropout=0.1, composers=("A", "B"))
WINDOWS = WindowOptions(batch=4, length=32, longest_gap=16)
# saved between two lines of the history, so that a checkpoint must hold the sums of an unfinished one
OPTIONS = TrainingOptions(
    steps=12, precision="float32", log_every=3, save_every=4, validate_every=6, validation_segments=1, windows=WINDOWS
)
AVERAGED = replace(OPTIONS, average=0.5)


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / HISTORY_FILE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(folder: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history(folder)]


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit: weights and optimizer states; and the history but for its seconds."""
    assert without_seconds(one) == without_seconds(other)
    for name in (LAST_FILE, BEST_FILE):
        first, second = read_checkpoint(one / name), read_checkpoint(other / name)
        assert first.tensors.keys() == second.tensors.keys()
        assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)
        assert replace(first.state, seconds=0) == replace(second.state, seconds=0)


def resumed(corpus: Corpus, folder: Path) -> Trainer:
    run = read_run(folder)
    return Trainer(corpus, folder, run.config, run.options, resume=True)


@pytest.fixture(scope="module")
def whole_run(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    """A run of twelve steps that nothing interrupted, and what it reported; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    reports: list[Progress] = []
    Trainer(tiny_corpus, folder, CONFIG, OPTIONS).run(reports.append)
    return folder, reports


@pytest.fixture
def half_run(tiny_corpus: Corpus, tmp_path: Path) -> Path:
    """A run that stopped after step 5: its last checkpoint is of step 4."""
    Trainer(tiny_corpus, tmp_path / "half", CONFIG, OPTIONS).run(until=5)
    return tmp_path / "half"


# --- it learns


@pytest.mark.slow
def test_overfits_one_piece(tiny_corpus: Corpus, tmp_path: Path) -> None:
    one = replace(tiny_corpus, pieces=(replace(tiny_corpus.pieces[0], rows=48),), rows=tiny_corpus.rows[:48])
    config = ModelConfig(forward_size=48, backward_size=16, input_size=32, head_size=48)
    windows = WindowOptions(batch=2, length=48, transpose=0, stretch=(1.0,), longest_gap=16)
    options = TrainingOptions(steps=150, precision="float32", learning_rate=1e-2, log_every=10, windows=windows)
    reports: list[Progress] = []
    Trainer(one, tmp_path / "run", config, options).run(reports.append)
    first, last = reports[0].train, reports[-1].train
    assert last["total"] < first["total"] / 3
    assert all(last[name] < first[name] / 2 for name in FIELDS if name != "duration")
    assert last["decisions"] < first["decisions"] / 2
    assert not (tmp_path / "run" / BEST_FILE).exists()  # nothing to validate on


# --- reports, history, checkpoints


def test_what_is_reported(whole_run: tuple[Path, list[Progress]], tiny_corpus: Corpus) -> None:
    folder, reports = whole_run
    assert [report.step for report in reports] == [3, 6, 9, 12]
    assert [report.validation is not None for report in reports] == [False, True, False, True]
    assert reports[-1].steps == 12
    assert reports[-1].tokens == 12 * 4 * 32
    assert reports[-1].seconds_left == 0
    assert reports[0].seconds_left == pytest.approx(reports[0].seconds * 3)
    assert all(report.tokens_per_second > 0 for report in reports)
    for report in reports:
        assert report.train["total"] == pytest.approx(sum(report.train[name] for name in FIELDS))
    validation = reports[-1].validation
    assert validation is not None
    checkpoint = read_checkpoint(folder / LAST_FILE)
    network = Network(CONFIG)
    network.load_state_dict(checkpoint.weights)
    assert likelihood(network, tiny_corpus, gaps=(16,), limit=1) == validation
    assert (checkpoint.state.step, checkpoint.state.tokens) == (12, reports[-1].tokens)


@pytest.mark.parametrize("plain", [1, 5])
def test_music_apart_counts_as_trained_on_but_not_in_the_training_losses(
    tiny_corpus: Corpus, tmp_path: Path, plain: int
) -> None:
    """The losses are of the other windows alone; where all are plain, there is none, and still something is learnt."""
    pieces = [replace(piece, tag="rolls") if i < plain else piece for i, piece in enumerate(tiny_corpus.pieces)]
    corpus = replace(tiny_corpus, pieces=tuple(pieces))
    trainer = Trainer(corpus, tmp_path / "run", replace(CONFIG, composers=("A", "rolls")), OPTIONS)
    before = [weight.clone() for weight in trainer.network.parameters()]
    reports: list[Progress] = []
    trainer.run(reports.append, until=3)
    assert [report.tokens for report in reports] == [3 * 4 * 32]
    assert any(not torch.equal(one, other) for one, other in zip(before, trainer.network.parameters(), strict=True))
    loss = reports[0].train
    assert loss["total"] == 0 if plain == 5 else 17 < loss["total"] < 20
    assert loss["decisions"] > 0


def test_history(whole_run: tuple[Path, list[Progress]]) -> None:
    folder, reports = whole_run
    rows = history(folder)
    train = [f"train_{name}" for name in ("total", *FIELDS)]
    validation = [f"validation_{name}" for name in ("total", *FIELDS, "infill_16", "blind_16")]
    assert list(rows[0]) == ["step", "tokens", "seconds", "learning_rate", *train, *validation]
    for row, report in zip(rows, reports, strict=True):
        assert int(row["step"]) == report.step
        assert int(row["tokens"]) == report.tokens
        assert float(row["train_total"]) == pytest.approx(report.train["total"], abs=1e-5)
        assert [row[name] == "" for name in validation] == [report.validation is None] * len(validation)
        factor = learning_rate_factor(report.step - 1, 12, OPTIONS)
        assert float(row["learning_rate"]) == pytest.approx(OPTIONS.learning_rate * factor, rel=1e-5)


def test_best_and_last(whole_run: tuple[Path, list[Progress]]) -> None:
    folder, reports = whole_run
    losses = {r.step: r.validation["continue"]["total"] for r in reports if r.validation is not None}
    best_step = min(losses, key=lambda step: losses[step])
    best = read_checkpoint(folder / BEST_FILE)
    assert (best.state.step, best.state.best) == (best_step, losses[best_step])
    assert {name.split("/")[0] for name in best.tensors} == {"weights"}
    last = read_checkpoint(folder / LAST_FILE)
    assert {name.split("/")[0] for name in last.tensors} == {"weights", "optimizer"}
    assert sorted(path.name for path in folder.iterdir()) == [BEST_FILE, HISTORY_FILE, LAST_FILE, "run.json"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # who may read one file may read all


def test_read_run_is_what_it_was_started_with(whole_run: tuple[Path, list[Progress]]) -> None:
    run = read_run(whole_run[0])
    assert (run.config, run.options, run.corpus) == (CONFIG, OPTIONS, "maestro-v3.0.0")


def test_resume_needs_the_same_music(tiny_corpus: Corpus, half_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_corpus.folder, tmp_path / "moved")
    moved = open_corpus(tmp_path / "moved")
    assert moved.digest == tiny_corpus.digest
    assert resumed(moved, half_run).state.step == 4
    first, *others = tiny_corpus.pieces
    for change in ({"digest": "0" * 64}, {"split": "validation"}, {"composer": None}, {"tag": "rolls"}):
        other = replace(tiny_corpus, pieces=(replace(first, **change), *others))
        with pytest.raises(InputError, match=r"half was trained on other music \(maestro-v3\.0\.0\)"):
            resumed(other, half_run)


def test_a_run_begun_before_tags_belonged_to_the_digest_is_resumed(tiny_corpus: Corpus, half_run: Path) -> None:
    facts = json.loads((half_run / "run.json").read_text("utf-8"))
    lines = (f"{piece.digest} {piece.split} {piece.composer}\n" for piece in tiny_corpus.pieces)
    facts["digest"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    (half_run / "run.json").write_text(json.dumps(facts), "utf-8")
    assert resumed(tiny_corpus, half_run).state.step == 4


# --- resume


def test_a_stopped_run_goes_on_the_same(
    tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], half_run: Path
) -> None:
    assert [row["step"] for row in history(half_run)] == ["3"]
    assert read_checkpoint(half_run / LAST_FILE).state.step == 4
    torch.rand(7)  # what another does with the global generator must not matter
    resumed(tiny_corpus, half_run).run(until=11)
    resumed(tiny_corpus, half_run).run()
    assert_same_run(whole_run[0], half_run)
    finished: list[Progress] = []
    resumed(tiny_corpus, half_run).run(finished.append)
    assert finished == []


KILLED = """
import os, signal, sys
from music_generator.data.corpus import open_corpus
from music_generator.training.options import read_run
from music_generator.training.trainer import Trainer

run = read_run(sys.argv[3])
trainer = Trainer(open_corpus(sys.argv[1]), sys.argv[2], run.config, run.options)
step = trainer._step

def killed(*arguments):
    if trainer.state.step == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)

trainer._step = killed
trainer.run()
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_the_same(
    tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    """A real SIGKILL in another process, after lines of the history that the last checkpoint does not know."""
    folder = tmp_path / "killed"
    done = run_python(KILLED, str(tiny_corpus.folder), str(folder), str(whole_run[0]))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_checkpoint(folder / LAST_FILE).state.step == 8
    assert [row["step"] for row in history(folder)] == ["3", "6", "9"]
    with (folder / HISTORY_FILE).open("a", encoding="utf-8") as file:
        file.write("1")  # as if it had been killed while it wrote the line of step 12
    resumed(tiny_corpus, folder).run()
    assert_same_run(whole_run[0], folder)


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def leave_out_the_state(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weights/x": torch.zeros(1)}, path)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (Path.unlink, r"last\.safetensors: no such checkpoint; the run had not saved one yet"),
        (truncate, r"last\.safetensors: the checkpoint is damaged"),
        (leave_out_the_state, r"last\.safetensors: the checkpoint is damaged"),
    ],
)
def test_resume_needs_a_checkpoint(
    tiny_corpus: Corpus, half_run: Path, damage: Callable[[Path], None], text: str
) -> None:
    damage(half_run / LAST_FILE)
    with pytest.raises(BundleError, match=text):
        Trainer(tiny_corpus, half_run, CONFIG, OPTIONS, resume=True)


def test_resume_with_other_sizes(tiny_corpus: Corpus, half_run: Path) -> None:
    other = replace(CONFIG, forward_size=16)
    with pytest.raises(BundleError, match=r"last\.safetensors does not fit this configuration: size mismatch"):
        Trainer(tiny_corpus, half_run, other, OPTIONS, resume=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"no training run \(run\.json is missing\)"),
        ("{", r"run\.json is damaged"),
        ('{"config": {"size": 3}, "options": {}}', r"run\.json is damaged"),
        ("[]", r"run\.json is damaged"),
    ],
)
def test_read_run_of_something_else(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        read_run(tmp_path)


def test_a_used_folder_is_refused(tiny_corpus: Corpus, half_run: Path) -> None:
    before = {path: path.read_bytes() for path in half_run.iterdir()}
    with pytest.raises(
        InputError, match=r"half: already holds a run; continue it with --resume, or name another folder"
    ):
        Trainer(tiny_corpus, half_run, CONFIG, OPTIONS)
    assert {path: path.read_bytes() for path in half_run.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/run/last\.safetensors: Not a directory"):
        Trainer(tiny_corpus, tmp_path / "file" / "run", CONFIG, OPTIONS)


# --- it stops, saves and goes on


def interrupted_at(step: int, trainer: Trainer) -> Callable[[Progress], None]:
    """A report that asks the trainer to stop, as a signal would, after the line of `step`."""
    return lambda progress: trainer.stop() if progress.step == step else None


def test_an_interrupted_run_is_saved_and_goes_on_the_same(
    tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    trainer = Trainer(tiny_corpus, tmp_path / "run", CONFIG, replace(OPTIONS, save_every=1000))
    assert not trainer.interrupted
    trainer.run(interrupted_at(6, trainer))
    assert trainer.interrupted
    assert not trainer.finished
    assert read_checkpoint(tmp_path / "run" / LAST_FILE).state.step == 7  # the step after it was ended
    again = resumed(tiny_corpus, tmp_path / "run")
    again.run()
    assert (again.interrupted, again.finished) == (False, True)
    assert_same_run(whole_run[0], tmp_path / "run")


def test_a_stop_after_the_last_step_is_not_lost(tiny_corpus: Corpus, tmp_path: Path) -> None:
    trainer = Trainer(tiny_corpus, tmp_path / "run", CONFIG, OPTIONS)
    trainer.run(interrupted_at(12, trainer))
    assert trainer.interrupted
    assert trainer.finished


def test_a_checkpoint_by_time(tiny_corpus: Corpus, tmp_path: Path) -> None:
    options = replace(OPTIONS, save_every=1000)
    for minutes, step in ((1e-9, 5), (60.0, 0)):
        folder = tmp_path / str(step)
        Trainer(tiny_corpus, folder, CONFIG, replace(options, save_minutes=minutes)).run(until=5)
        assert read_checkpoint(folder / LAST_FILE).state.step == step


def test_the_time_of_the_run_is_estimated_once(tiny_corpus: Corpus, tmp_path: Path) -> None:
    seconds: list[float] = []
    trainer = Trainer(tiny_corpus, tmp_path / "run", CONFIG, OPTIONS)
    trainer.run(estimate=seconds.append)
    assert len(seconds) == 1
    assert 0 < seconds[0] < 7 * trainer.state.seconds  # seven steps were left


# --- a run by time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Trainer, float], Trainer]:
    """Lets each step of a trainer take some seconds, and all else none."""
    now = [1000.0]
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: now[0])

    def slow(trainer: Trainer, seconds: float) -> Trainer:
        forward = trainer.wrapped.forward

        def timed(batch: Any) -> Any:
            now[0] += seconds
            return forward(batch)

        trainer.wrapped.forward = timed
        return trainer

    return slow


TIMED = replace(OPTIONS, steps=1000, minutes=1.0, log_every=1, save_every=1, validate_every=None)


def test_a_run_by_time_has_the_whole_fall_of_the_learning_rates(
    tiny_corpus: Corpus, tmp_path: Path, clock: Callable[[Trainer, float], Trainer]
) -> None:
    """Twenty steps of 3 s: each is worth 50 of the thousand, and after each second one comes a validation."""
    reports: list[Progress] = []
    trainer = clock(Trainer(tiny_corpus, tmp_path / "run", CONFIG, TIMED), 3.0)
    left: list[float] = []
    trainer.run(reports.append, estimate=left.append)
    assert (trainer.state.step, trainer.state.seconds, trainer.finished) == (20, 60.0, True)
    factors = [learning_rate_factor(50 * step, 1000, TIMED) for step in range(20)]
    assert [report.learning_rate for report in reports] == pytest.approx([TIMED.learning_rate * f for f in factors])
    assert max(factors) == factors[1] == pytest.approx(1, abs=0.01)
    assert factors[-1] < 0.02
    assert [report.seconds_left for report in reports] == [60.0 - 3 * (i + 1) for i in range(20)]
    assert left == [45.0]
    assert [report.step for report in reports if report.validation] == list(range(2, 21, 2))
    assert (tmp_path / "run" / BEST_FILE).exists()
    finished: list[Progress] = []
    resumed(tiny_corpus, tmp_path / "run").run(finished.append)
    assert finished == []


def test_a_run_by_time_goes_on_with_the_time_that_is_left(
    tiny_corpus: Corpus, tmp_path: Path, clock: Callable[[Trainer, float], Trainer]
) -> None:
    """Exactly the same run, if the clock is; and another number of minutes makes it longer."""
    clock(Trainer(tiny_corpus, tmp_path / "whole", CONFIG, TIMED), 3.0).run()
    clock(Trainer(tiny_corpus, tmp_path / "half", CONFIG, TIMED), 3.0).run(until=7)
    clock(resumed(tiny_corpus, tmp_path / "half"), 3.0).run()
    assert_same_run(tmp_path / "whole", tmp_path / "half")
    longer = Trainer(tiny_corpus, tmp_path / "half", CONFIG, replace(TIMED, minutes=1.5), resume=True)
    clock(longer, 3.0).run()
    assert (longer.state.step, longer.state.seconds) == (30, 90.0)


def test_a_run_that_is_fast_enough_does_its_steps(
    tiny_corpus: Corpus, tmp_path: Path, clock: Callable[[Trainer, float], Trainer]
) -> None:
    trainer = clock(Trainer(tiny_corpus, tmp_path / "run", CONFIG, replace(TIMED, steps=6)), 0.5)
    trainer.run()
    assert (trainer.state.step, trainer.state.seconds) == (6, 3.0)


def test_position() -> None:
    assert position(7, 1e9, 10, OPTIONS) == 7
    assert position(7, 12.0, 10, TIMED) == 7
    assert position(1, 48.0, 10, TIMED) == 8
    assert position(1, 90.0, 10, TIMED) == 10


# --- validation ends it


def fake_validation(monkeypatch: pytest.MonkeyPatch, totals: list[float]) -> None:
    """Each validation has the next of these losses."""
    left = iter(totals)

    def next_row(*_: Any, **__: Any) -> dict[str, Row]:
        return {"continue": dict.fromkeys(("total", *FIELDS, "decision"), next(left))}

    monkeypatch.setattr("music_generator.training.trainer.likelihood", next_row)


LOSSES = [5.0, 4.0, 4.5, 4.0, 6.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("patience", "last", "best"), [(0, 12, 8), (1, 3, 2), (3, 5, 2), (4, 12, 8)])
def test_patience(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int, last: int, best: int
) -> None:
    fake_validation(monkeypatch, LOSSES)
    trainer = Trainer(tiny_corpus, tmp_path, CONFIG, replace(OPTIONS, validate_every=1, patience=patience))
    trainer.run()
    assert (trainer.state.step, trainer.finished) == (last, True)
    assert trainer.out_of_patience == (patience > 0)
    assert [row["step"] for row in history(tmp_path)] == [str(step) for step in range(1, last + 1)]
    assert read_checkpoint(tmp_path / LAST_FILE).state.step == last
    assert read_checkpoint(tmp_path / BEST_FILE).state.step == best


def test_patience_goes_on_after_a_stop_and_begins_again_in_a_longer_run(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, validate_every=1, save_every=1, patience=3)
    fake_validation(monkeypatch, LOSSES[:4])
    Trainer(tiny_corpus, tmp_path, CONFIG, options).run(until=4)
    fake_validation(monkeypatch, LOSSES[4:])
    resumed(tiny_corpus, tmp_path).run()
    assert read_checkpoint(tmp_path / LAST_FILE).state.step == 5
    again = resumed(tiny_corpus, tmp_path)
    assert again.finished
    again.run(lambda _: pytest.fail("nothing is left"))
    fake_validation(monkeypatch, [9.0, 8.0, 3.0, 9.0, 9.0, 9.0])
    Trainer(tiny_corpus, tmp_path, CONFIG, replace(options, steps=20), resume=True).run()
    assert read_checkpoint(tmp_path / LAST_FILE).state.step == 11
    assert read_checkpoint(tmp_path / BEST_FILE).state.step == 8


# --- the average of the weights


@pytest.fixture(scope="module")
def averaged_run(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `whole_run` with an average; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("runs") / "averaged"
    Trainer(tiny_corpus, folder, CONFIG, AVERAGED).run()
    return folder


def test_the_average_by_hand(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny_corpus, tmp_path, CONFIG, AVERAGED)
    weights = [{name: value.clone() for name, value in trainer.network.state_dict().items()}]
    step = trainer._step

    def recorded(*arguments: Any) -> dict[str, float]:
        sums = step(*arguments)
        weights.append({name: value.clone() for name, value in trainer.network.state_dict().items()})
        return sums

    monkeypatch.setattr(trainer, "_step", recorded)
    trainer.run()
    kept = [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5, 0.5, 0.5]
    assert [average_share(i, AVERAGED) for i in range(12)] == kept
    checkpoint = read_checkpoint(tmp_path / LAST_FILE)
    for name, average in weights[0].items():
        expected = average.double()
        for share, later in zip(kept, weights[1:], strict=True):
            expected = share * expected + (1 - share) * later[name].double()
        torch.testing.assert_close(checkpoint.average[name].double(), expected, atol=1e-6, rtol=1e-5)
        assert torch.equal(checkpoint.weights[name], weights[-1][name])


def test_the_average_is_validated_and_kept_as_the_best_but_trains_the_same(
    tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], averaged_run: Path
) -> None:
    plain, last = read_checkpoint(whole_run[0] / LAST_FILE), read_checkpoint(averaged_run / LAST_FILE)
    assert plain.average == {}
    assert all(torch.equal(value, last.tensors[name]) for name, value in plain.tensors.items())
    for row, other in zip(without_seconds(whole_run[0]), without_seconds(averaged_run), strict=True):
        assert all(row[name] == other[name] for name in row if not name.startswith("validation_"))
    best = read_checkpoint(averaged_run / BEST_FILE)
    assert (best.state.step, best.average) == (12, {})
    assert all(torch.equal(value, last.average[name]) for name, value in best.weights.items())
    network = Network(CONFIG)
    network.load_state_dict(best.weights)
    assert likelihood(network, tiny_corpus, gaps=(16,), limit=1)["continue"]["total"] == best.state.best


def test_a_stopped_run_goes_on_the_same_with_its_average(
    tiny_corpus: Corpus, averaged_run: Path, tmp_path: Path
) -> None:
    Trainer(tiny_corpus, tmp_path, CONFIG, AVERAGED).run(until=5)
    resumed(tiny_corpus, tmp_path).run(until=11)
    resumed(tiny_corpus, tmp_path).run()
    assert_same_run(averaged_run, tmp_path)


def test_the_average_is_bundled_where_nothing_was_validated(tiny_corpus: Corpus, tmp_path: Path) -> None:
    alone = replace(tiny_corpus, pieces=tiny_corpus.pieces[:5])
    Trainer(alone, tmp_path, CONFIG, replace(AVERAGED, steps=2)).run()
    average = read_checkpoint(tmp_path / LAST_FILE).average
    for name, value in load_network(bundle_run(tmp_path, alone)).state_dict().items():
        assert torch.equal(value, average[name].half().float())


# --- another length


def test_a_finished_run_is_made_longer(
    tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    longer = replace(OPTIONS, steps=18)
    for name, stop in (("at once", None), ("in parts", 14)):
        shutil.copytree(whole_run[0], tmp_path / name)
        Trainer(tiny_corpus, tmp_path / name, CONFIG, longer, resume=True).run(until=stop)
    assert read_run(tmp_path / "in parts").options == longer
    resumed(tiny_corpus, tmp_path / "in parts").run()
    assert_same_run(tmp_path / "at once", tmp_path / "in parts")
    rows = history(tmp_path / "at once")
    assert rows[:4] == history(whole_run[0])
    assert [row["step"] for row in rows[4:]] == ["15", "18"]
    factors = [learning_rate_factor(step, 18, OPTIONS) for step in (14, 17)]
    assert [float(row["learning_rate"]) / OPTIONS.learning_rate for row in rows[4:]] == pytest.approx(factors, 1e-5)


def test_a_run_is_not_made_shorter_than_it_is(tiny_corpus: Corpus, half_run: Path) -> None:
    before = {path: path.read_bytes() for path in half_run.iterdir()}
    text = "half: 4 steps are done, more than the 3 asked for; ask for more `steps` or `epochs`"
    with pytest.raises(InputError, match=text):
        Trainer(tiny_corpus, half_run, CONFIG, replace(OPTIONS, steps=3), resume=True)
    assert {path: path.read_bytes() for path in half_run.iterdir()} == before
    trainer = Trainer(tiny_corpus, half_run, CONFIG, replace(OPTIONS, steps=4), resume=True)
    assert trainer.finished


# --- where it starts from


def test_starts_from_given_weights(
    tiny_corpus: Corpus, tiny_network: Network, tiny_bundle: Path, tmp_path: Path
) -> None:
    weights = load_network(open_bundle(tiny_bundle)).state_dict()
    trainer = Trainer(tiny_corpus, tmp_path / "run", tiny_network.config, OPTIONS, weights=weights)
    for name, weight in trainer.network.state_dict().items():
        assert torch.equal(weight, weights[name])
    with pytest.raises(BundleError, match="the weights to start from does not fit this configuration"):
        Trainer(tiny_corpus, tmp_path / "other", CONFIG, OPTIONS, weights=weights)


def test_an_empty_train_split_is_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    corpus = replace(tiny_corpus, folder=Path("here"), pieces=tiny_corpus.pieces[5:])
    with pytest.raises(InputError, match="here: its train split is empty"):
        Trainer(corpus, tmp_path / "run", CONFIG, OPTIONS)


# --- it breaks off where it must


def test_a_loss_that_is_no_number_stops_the_run(tiny_corpus: Corpus, tmp_path: Path) -> None:
    trainer = Trainer(tiny_corpus, tmp_path / "run", CONFIG, OPTIONS)
    trainer.run(until=4)
    with torch.no_grad():
        trainer.network.context.weight[0, 0] = math.nan
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    text = "not a finite number at step 5; start again with a `learning_rate` below 0.002 and a `matrix_learning_rate`"
    with pytest.raises(TrainingError, match=text):
        trainer.run()
    after = trainer.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name != "context.weight")
    kept = read_checkpoint(tmp_path / "run" / LAST_FILE)
    assert all(value.isfinite().all() for value in kept.tensors.values())


def test_a_learning_rate_far_too_high_stops_the_run(tiny_corpus: Corpus, tmp_path: Path) -> None:
    options = replace(OPTIONS, learning_rate=1e30, matrix_learning_rate=1e30, warm_up=0.0)
    with pytest.raises(TrainingError, match=r"at step [2-9]; start again with a `learning_rate` below 1e\+30"):
        Trainer(tiny_corpus, tmp_path / "run", CONFIG, options).run()


# --- options, steps, rates


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0.0}, "`epochs` must be above 0, not 0.0"),
        ({"learning_rate": -1.0}, "`learning_rate` must be above 0, not -1.0"),
        ({"matrix_learning_rate": math.nan}, "`matrix_learning_rate` must be above 0, not nan"),
        ({"clip": 0}, "`clip` must be above 0, not 0"),
        ({"log_every": 0}, "`log_every` must be at least 1, not 0"),
        ({"save_every": -5}, "`save_every` must be at least 1, not -5"),
        ({"validate_every": 0}, "`validate_every` must be at least 1, not 0"),
        ({"steps": 0}, "`steps` must be at least 1, not 0"),
        ({"threads": 0}, "`threads` must be at least 1, not 0"),
        ({"warm_up": 1.5}, "`warm_up` must be 0 to 1, not 1.5"),
        ({"weight_decay": -0.1}, "`weight_decay` must be 0 to 1, not -0.1"),
        ({"seed": -1}, "`seed` must be 0 or more, not -1"),
        ({"patience": -1}, "`patience` must be 0 or more, not -1"),
        ({"average": 1.0}, "`average` must be 0 or more and below 1, not 1.0"),
        ({"minutes": 0.0}, "`minutes` must be above 0, not 0.0"),
        ({"minutes": math.inf}, "`minutes` must be above 0, not inf"),
        ({"save_minutes": 0}, "`save_minutes` must be above 0, not 0"),
        ({"precision": "float16"}, "`precision` must be one of auto, bfloat16, float32, not 'float16'"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        TrainingOptions(**wrong)


def test_learning_rate_factor() -> None:
    options = TrainingOptions(warm_up=0.1, final_share=0.05)
    factors = [learning_rate_factor(step, 100, options) for step in range(101)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1
    assert factors[55] == pytest.approx((1 + 0.05) / 2)
    assert factors[100] == pytest.approx(0.05)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert learning_rate_factor(0, 1, options) == 1


def test_every_weight_has_one_optimizer(tiny_corpus: Corpus, tmp_path: Path) -> None:
    trainer = Trainer(tiny_corpus, tmp_path / "run", CONFIG, OPTIONS)
    sets = [
        {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        for optimizer in trainer.optimizers
    ]
    names = {id(weight): name for name, weight in trainer.network.named_parameters()}
    assert sets[0].isdisjoint(sets[1])
    assert sets[0] | sets[1] == set(names)
    matrices = {names[i] for i in sets[0]}
    assert "forward_stack.layers.0.weight_hh_l0" in matrices
    assert "heads.key.hidden.weight" in matrices
    assert {"context.weight", "future.weight", "fuse_in.weight", "fuse_out.weight"} <= matrices
    assert len(matrices) == 2 * 3 + 4 + 4  # of three recurrent layers, these, and four heads
    assert not any("embedding" in name or "bias" in name or ".out." in name for name in matrices)


def test_bfloat16_trains_where_the_processor_has_it(tiny_corpus: Corpus, tmp_path: Path) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        with pytest.raises(
            InputError, match="`precision` must not be bfloat16 on this processor, which has none; use auto"
        ):
            Trainer(tiny_corpus, tmp_path / "run", CONFIG, replace(OPTIONS, precision="bfloat16"))
        pytest.skip("this processor has no bfloat16: it was refused")
    reports: list[Progress] = []
    options = replace(OPTIONS, steps=2, precision="bfloat16", log_every=1)
    Trainer(tiny_corpus, tmp_path / "run", CONFIG, options).run(reports.append)
    assert [report.step for report in reports] == [1, 2]
    assert 8 < reports[-1].train["total"] < 20


# --- several processes


SCRIPT = """
import sys, torch
from music_generator.data.corpus import open_corpus
from music_generator.training.options import read_run
from music_generator.training.trainer import Trainer

corpus, like, *runs = sys.argv[1:]
started = read_run(like)
for run in runs:
    folder, until, resume = run.split(":")
    trainer = Trainer(open_corpus(corpus), folder, started.config, started.options, resume=resume == "resume")
    assert trainer.shard.count == 2
    trainer.run(until=int(until))
    gathered = trainer.accelerator.gather(torch.cat([w.detach().flatten() for w in trainer.network.parameters()])[None])
    assert torch.equal(gathered[0], gathered[1])
"""
END = """
import os
trainer.accelerator.end_training()
os._exit(0)  # as the command does: torch's threads may abort a process that ends while the machine is busy
"""
# both tell the number of processes by the environment
LAUNCHERS = {
    "torchrun": ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    "accelerate launch": (
        "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
    ),
}  # fmt: skip


def launched(launcher: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Two processes, on processors where there is a GPU too."""
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if torch.cuda.is_available() else {})
    whole = [sys.executable, *LAUNCHERS[launcher], *map(str, command)]
    return subprocess.run(whole, capture_output=True, text=True, timeout=240, check=False, env=environment)


def largest_difference(one: list[dict[str, str]], other: list[dict[str, str]]) -> float:
    """Of all losses of two histories of the same steps, in nats per token."""
    assert [row["step"] for row in one] == [row["step"] for row in other]
    assert [row["tokens"] for row in one] == [row["tokens"] for row in other]
    pairs = [(row[name], theirs[name]) for row, theirs in zip(one, other, strict=True) for name in row
             if name.startswith(("train_", "validation_"))]  # fmt: skip
    assert all((mine == "") == (theirs == "") for mine, theirs in pairs)
    return max(abs(float(mine) - float(theirs)) for mine, theirs in pairs if mine)


@pytest.mark.slow
def test_two_processes_train_as_one(
    tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    """With dropout, under both launchers, and one after the other: two go on with what one began, and one with that.

    The only difference is the order of sums in float32.
    """
    whole = whole_run[0]
    (tmp_path / "script.py").write_text(SCRIPT + END)
    two, mixed = tmp_path / "two", tmp_path / "mixed"
    for launcher, *runs in (
        ("torchrun", f"{two}:12:begin", f"{mixed}:5:begin"),
        ("accelerate launch", f"{mixed}:9:resume"),
    ):
        done = launched(launcher, tmp_path / "script.py", tiny_corpus.folder, whole, *runs)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    resumed(tiny_corpus, mixed).run()
    for folder in (two, mixed):
        assert largest_difference(history(whole), history(folder)) < 2e-4
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_processes_that_do_not_share_the_batch_evenly_are_refused(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator

    for count in (3, 5):
        monkeypatch.setattr(Accelerator, "num_processes", count)
        text = rf"`batch` \(4\) must be a multiple of the number of processes \({count}\): it is shared evenly"
        with pytest.raises(InputError, match=text):
            Trainer(tiny_corpus, tmp_path / "run", CONFIG, OPTIONS)
    assert not (tmp_path / "run").exists()


STOPS = """
import sys
import torch
from dataclasses import replace
import music_generator.training.trainer as module
from music_generator.data.corpus import open_corpus
from music_generator.model.config import FIELDS
from music_generator.training.options import read_run

corpus, like, stopped, impatient, timed = sys.argv[1:]
begun = read_run(like)
trainer = module.Trainer(open_corpus(corpus), stopped, begun.config, begun.options)
step = trainer._step

def stopping(*arguments):
    if trainer.state.step == 6 and not trainer.accelerator.is_main_process:
        trainer.stop()
    return step(*arguments)

trainer._step = stopping
trainer.run()
assert trainer.interrupted and trainer.state.step == 7
module.likelihood = lambda *_, **__: {"continue": dict.fromkeys(("total", *FIELDS), 1.0)}
options = replace(begun.options, validate_every=2, patience=2)
trainer = module.Trainer(open_corpus(corpus), impatient, begun.config, options)
trainer.run()
assert trainer.out_of_patience and trainer.state.step == 6
options = replace(begun.options, steps=100_000, minutes=0.01, patience=0)
trainer = module.Trainer(open_corpus(corpus), timed, begun.config, options)
trainer.run()
steps = trainer.accelerator.gather(torch.tensor([trainer.state.step])).tolist()
rates = trainer.accelerator.gather(torch.tensor([trainer.learning_rate_factor])).tolist()
assert 0 < steps[0] == steps[1] < 100_000 and rates[0] == rates[1]
"""


@pytest.mark.slow
def test_two_processes_stop_after_the_same_step(
    tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    """One that gets a signal stops all; the validation of the main process ends all, and so does the time."""
    (tmp_path / "script.py").write_text(STOPS + END)
    stopped = tmp_path / "stopped"
    folders = (stopped, tmp_path / "impatient", tmp_path / "timed")
    done = launched("torchrun", tmp_path / "script.py", tiny_corpus.folder, whole_run[0], *folders)
    assert done.returncode == 0, done.stderr
    resumed(tiny_corpus, stopped).run()
    assert largest_difference(history(whole_run[0]), history(stopped)) < 2e-4


# --- what training needs


@pytest.mark.slow
def test_training_needs_no_midi_library(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """From a prepared corpus to the bundle, by the command, on a machine that has torch and little else."""
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('mido', 'soundfile', 'transkun')))\n"
        "from music_generator.cli import main\n"
        "main.main()\n"
    )
    sizes = ("--steps", "2", "--size", "12", "--backward-size", "8", "--batch", "4", "--length", "32")
    done = run_python(script, "train", str(tiny_corpus.folder), "--run", str(tmp_path / "run"), *sizes)
    assert done.returncode == 0, done.stderr
    assert open_bundle(tmp_path / "run" / BUNDLE_FOLDER).provenance["steps"] == 2


# --- the bundle at the end


def test_a_run_becomes_a_bundle(tiny_corpus: Corpus, whole_run: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    bundle = bundle_run(whole_run[0], tiny_corpus, out=tmp_path / "model", progress=lambda *at: calls.append(at))
    assert calls[-1] == (2, 2)
    assert bundle.config == CONFIG
    assert bundle.precisions == ("int8",)
    facts = bundle.provenance
    state = read_checkpoint(whole_run[0] / BEST_FILE).state
    assert (facts["steps"], facts["tokens"]) == (state.step, state.tokens)
    assert facts["train_pieces"] == 5
    assert facts["options"]["windows"]["length"] == 32
    network = load_network(bundle)
    assert facts["parameters"] == sum(weight.numel() for weight in network.parameters())
    again = likelihood(network, tiny_corpus, "validation")
    for name, row in facts["validation"].items():
        assert row == pytest.approx(again[name], abs=1e-9)
    notes = sum(tiny_corpus.pieces[i].notes for i in tiny_corpus.split("train"))
    assert bundle.reference.counts["pitch"].sum() == notes
    card = (bundle.folder / "README.md").read_text("utf-8")
    assert f"{facts['parameters']:,} parameters" in card
    assert "maestro-v3.0.0: 5 performances" in card
    assert "CC BY-NC-SA 4.0" in card
    for name, row in facts["validation"].items():
        assert f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in ("total", *FIELDS)) in card
    assert json.dumps(facts["options"]) in card
    assert (bundle.folder / "LICENSE").read_text("utf-8").strip()


def test_a_bundle_names_all_folders_and_keeps_the_licence_of_an_added_one(tiny_corpus: Corpus, half_run: Path) -> None:
    several = replace(tiny_corpus, source="mine", pieces=tiny_corpus.pieces[:5], added={"m": "maestro-v3.0.0"})
    bundle = bundle_run(half_run, several)
    assert bundle.provenance["data"] == "mine + maestro-v3.0.0"
    assert bundle.provenance["licence"] == "CC BY-NC-SA 4.0"
    assert (bundle.folder / "LICENSE").exists()


def test_a_model_that_began_from_another_keeps_its_licence_and_its_credits(
    tiny_corpus: Corpus, half_run: Path, tmp_path: Path
) -> None:
    """Also the model that begins from that one, and one that was stopped and went on."""
    mine = replace(tiny_corpus, source="mine", pieces=tiny_corpus.pieces[:5])
    before = bundle_run(half_run, replace(tiny_corpus, added={"asap": "asap"}))
    for name in ("second", "third"):
        run, base = tmp_path / name, base_of(before)
        weights = load_network(before).state_dict()
        trainer = Trainer(mine, run, CONFIG, replace(OPTIONS, steps=2), weights=weights, base=base)
        trainer.run(until=1)
        resumed(mine, run).run()
        before = bundle_run(run, mine)
        facts, card = before.provenance, (before.folder / "README.md").read_text("utf-8")
        assert facts["base"] == asdict(base)
        assert facts["data"] == "mine"
        assert facts["licence"] == "CC BY-NC-SA 4.0 and that of the data, mine"
        assert f"began from the weights of the model `{base.name}`" in card
        assert "maestro-v3.0.0 + asap" in base.data
        assert MAESTRO_CREDIT in card
        assert "asap: Francesco Foscarin" in card
        assert (before.folder / "LICENSE").read_text("utf-8") == MAESTRO_LICENCE_FILE.read_text("utf-8")
    assert base.data == "maestro-v3.0.0 + asap + mine"
    assert base.name == "second"


def test_a_run_that_never_validated_gives_its_last_weights(tiny_corpus: Corpus, half_run: Path) -> None:
    alone = replace(tiny_corpus, source="mine", pieces=tiny_corpus.pieces[:5])
    bundle = bundle_run(half_run, alone)
    assert bundle.folder == half_run / BUNDLE_FOLDER
    assert bundle.provenance["steps"] == 4
    assert bundle.provenance["validation"] == {}
    assert bundle.provenance["licence"] == "that of the data, mine"
    assert not (bundle.folder / "LICENSE").exists()
    weights = read_checkpoint(half_run / LAST_FILE).weights
    for name, value in load_network(bundle).state_dict().items():
        assert torch.equal(value, weights[name].half().float())


def test_a_run_without_checkpoint_gives_no_bundle(tiny_corpus: Corpus, half_run: Path) -> None:
    (half_run / LAST_FILE).unlink()
    with pytest.raises(BundleError, match="no such checkpoint"):
        bundle_run(half_run, tiny_corpus)
