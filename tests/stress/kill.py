"""Kill -9 at random moments of download, prepare, train and generate: python tests/stress/kill.py [COMMAND...]

Each command runs once undisturbed, in a process of its own. Then, as often as asked, it is begun anew, killed at a
moment drawn evenly from that time, looked at, and run again: what is there must be whole at any time, and the second
run must end with what the undisturbed one left, to the byte (training: to the bit of every weight). No process of a
killed command may live on. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # with so few units threads only wait
os.environ["no_proxy"] = "*"

import numpy as np

from music_generator.cli.train import run_trainer
from music_generator.data import maestro
from music_generator.data.corpus import open_corpus
from music_generator.data.prepare import prepare
from music_generator.data.unpack import unpack
from music_generator.errors import CorpusError
from music_generator.model.bundle import open_bundle
from music_generator.music.midi import write_midi
from stress.commands import called
from stress.mutations import made_up
from stress.server import Site, serving

PIECES, NOTES = 160, 400
ORPHAN_SECONDS = 20.0  # after which no process of a killed command may be left


class FoundError(Exception):
    """Something was not as it must be."""


def must(holds: bool, text: str) -> None:
    if not holds:
        raise FoundError(text)


def contents(folder: Path) -> dict[str, str]:
    """The sum of each file below a folder that is not hidden."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


# --- what is killed


class Case(ABC):
    """One command: how it is run in an empty folder, and what must hold after a kill and after the next run."""

    name: str

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        self.scratch, self.stack = scratch, stack
        self.whole: dict[str, str] = {}  # what an undisturbed run leaves

    def begin(self, folder: Path) -> None:  # noqa: B027 - most need nothing
        """What is there before the command runs."""

    @abstractmethod
    def run(self, folder: Path) -> None:
        """The command, in a process of its own."""

    def again(self, folder: Path) -> None:
        """The next run after a kill."""
        self.run(folder)

    def look(self, folder: Path) -> None:
        """What must hold at once after a kill: what is there is whole."""
        for name, sum_ in contents(folder).items():
            must(self.whole.get(name, sum_) == sum_, f"{name} is half a file")

    def compare(self, folder: Path) -> None:
        """What must hold after the next run."""
        must(contents(folder) == self.whole, f"it left {sorted(contents(folder))}, not {sorted(self.whole)}, or others")

    def done(self) -> str:
        """What else can be told at the end."""
        return ""


def ran(*arguments: object) -> None:
    """A command that must go well."""
    done = called(*arguments)
    must(done.code == 0, f"{' '.join(map(str, arguments))} ended with {done.code}: {done.err[-300:]}")


def midi_folder(folder: Path, first: int = 0, pieces: int = PIECES) -> Path:
    folder.mkdir()
    for i in range(first, first + pieces):
        write_midi(made_up(i, NOTES), folder / f"{i}.mid")
    return folder


class Download(Case):
    """Download from a slow server and unpack."""

    name = "download"

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        super().__init__(scratch, stack)
        archive = scratch / "served.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for i in range(200):
                opened.writestr(f"maestro-v3.0.0/2004/{i}.midi", np.random.default_rng(i).bytes(20_000))
        self.site = stack.enter_context(serving(Site(archive.read_bytes())))
        known = maestro.Archive("m.zip", hashlib.sha256(self.site.data).hexdigest())
        releases = {"3.0.0": maestro.Release(known, known)}
        stack.enter_context(patch.dict(maestro.RELEASES, releases))
        self.saved = 0

    def run(self, folder: Path) -> None:
        unpack(maestro.download("3.0.0", folder, base_url=self.site.url), folder)

    def look(self, folder: Path) -> None:
        parts = [name for name in contents(folder) if ".part" in name]
        for name, sum_ in contents(folder).items():
            must(name in parts or self.whole.get(name) == sum_, f"{name} is half a file")
        self.saved += sum((folder / name).stat().st_size for name in parts if name.endswith(".part"))

    def compare(self, folder: Path) -> None:
        super().compare(folder)
        must(not hidden(folder), f"{hidden(folder)} was left")

    def done(self) -> str:
        return f"{self.saved / 1e6:.0f} MB had not to be sent again"


class Prepare(Case):
    """A corpus in place of an older one, by two processes."""

    name = "prepare"

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        super().__init__(scratch, stack)
        self.midi = midi_folder(scratch / "midi")
        self.older = prepare(midi_folder(scratch / "older", 100, 3), scratch / "corpus-before", jobs=1).folder

    def begin(self, folder: Path) -> None:
        shutil.copytree(self.older, folder / "corpus")

    def run(self, folder: Path) -> None:
        ran("prepare", self.midi, "--out", folder / "corpus", "--jobs", 2)

    def look(self, folder: Path) -> None:
        try:
            pieces = len(open_corpus(folder / "corpus").pieces)
        except CorpusError as error:
            must("no prepared corpus" in str(error), f"half a corpus: {error}")
        else:
            must(pieces in (3, PIECES), f"a corpus of {pieces} pieces")
            if pieces == PIECES:
                super().look(folder)


class Train(Case):
    """A tiny network from the first step to its bundle; the next run is by `--resume` once there is a run."""

    name = "train"

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        super().__init__(scratch, stack)
        import accelerate  # noqa: F401 - before the fork, so that the kill is not spent on it

        import music_generator.training.release  # noqa: F401

        self.corpus = prepare(midi_folder(scratch / "midi-to-train", pieces=6), scratch / "corpus", jobs=1).folder

    def run(self, folder: Path) -> None:
        from music_generator.data.windows import WindowOptions
        from music_generator.model.config import ModelConfig
        from music_generator.training.options import TrainingOptions
        from music_generator.training.trainer import Trainer

        config = ModelConfig(forward_size=12, backward_size=8, input_size=8, head_size=8)
        options = TrainingOptions(
            steps=12, log_every=2, save_every=3, validate_every=6, validation_segments=2, precision="float32",
            windows=WindowOptions(batch=2, length=32),
        )  # fmt: skip
        run_trainer(Trainer(open_corpus(self.corpus), folder / "run", config, options))

    def again(self, folder: Path) -> None:
        if (folder / "run" / "run.json").exists():
            ran("train", self.corpus, "--resume", folder / "run")
        else:
            self.run(folder)

    def look(self, folder: Path) -> None:
        from music_generator.training.checkpoint import read_checkpoint
        from music_generator.training.options import read_run

        run = folder / "run"
        if (run / "run.json").exists():
            read_run(run)
            must((run / "last.safetensors").exists(), "a run without a checkpoint cannot be resumed")
        for path in run.glob("*.safetensors"):
            read_checkpoint(path)
        if (run / "model").exists():
            open_bundle(run / "model")

    def compare(self, folder: Path) -> None:
        found = self.facts(folder / "run")
        wrong = [name for name, value in self.facts(self.scratch / "whole" / "run").items() if found.get(name) != value]
        must(not wrong, f"other than undisturbed: {wrong}")
        must(not hidden(folder), f"{hidden(folder)} was left")

    def facts(self, run: Path) -> dict[str, Any]:
        """All that must be the same: every tensor's bytes, the history but for the time, the model's files."""
        from music_generator.training.checkpoint import read_checkpoint

        facts: dict[str, Any] = {}
        for path in sorted(run.glob("*.safetensors")):
            checkpoint = read_checkpoint(path)
            facts |= {f"{path.name}/{name}": tensor.numpy().tobytes() for name, tensor in checkpoint.tensors.items()}
            facts[path.name] = json.dumps(asdict(checkpoint.state) | {"seconds": 0}, sort_keys=True)
        facts |= {f"model/{path.name}": path.read_bytes() for path in (run / "model").glob("*.safetensors")}
        lines = [line.split(",") for line in (run / "history.csv").read_text("utf-8").splitlines()]
        seconds = lines[0].index("seconds")
        facts["history.csv"] = [[cell for i, cell in enumerate(line) if i != seconds] for line in lines]
        return facts


class Generate(Case):
    """A piece with its sound and pictures, by the bundled model."""

    name = "generate"

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        super().__init__(scratch, stack)
        import matplotlib.figure  # noqa: F401 - before the fork, so that the kill is not spent on it

    def run(self, folder: Path) -> None:
        ran("generate", "--seconds", 3, "--seed", 5, "--out", folder)


CASES: dict[str, Callable[[Path, ExitStack], Case]] = {case.name: case for case in (Download, Prepare, Train, Generate)}


# --- the killing


@dataclass
class Tally:
    """What came of one command."""

    name: str
    seconds: float
    kills: int = 0
    too_late: int = 0
    findings: list[str] = field(default_factory=list)
    litter: int = 0


def forked(work: Callable[[Path], None], folder: Path) -> int:
    """A process, in a session of its own, that does the work and leaves what went wrong in `FOLDER.failed`."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    code, silence = 1, os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        work(folder)
        code = 0
    except BaseException as error:
        folder.with_suffix(".failed").write_text(repr(error))
    finally:
        os._exit(code)


def whole_run(work: Callable[[Path], None], folder: Path) -> float:
    """Run it to its end; the seconds it took."""
    begun = time.monotonic()
    _, status = os.waitpid(forked(work, folder), 0)
    failed = folder.with_suffix(".failed")
    must(status == 0, failed.read_text() if failed.exists() else f"it ended with status {status}")
    return time.monotonic() - begun


def killed_at(work: Callable[[Path], None], folder: Path, seconds: float) -> bool:
    """Run it and kill it after so many seconds; False if it had ended before."""
    child = forked(work, folder)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    must(not left_of(child), "processes that it had started are still there")
    return os.WIFSIGNALED(status)


def left_of(session: int) -> list[int]:
    """The processes of that session that live on; those that are ending have a while."""
    end = time.monotonic() + ORPHAN_SECONDS
    while (left := alive(session)) and time.monotonic() < end:
        time.sleep(0.02)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return left


def alive(session: int) -> list[int]:
    """The processes of a session, without those that have ended and wait to be asked how."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, _group, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def damaged(name: str, kills: int, seed: int) -> Tally:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        case = CASES[name](Path(scratch), stack)
        whole = Path(scratch) / "whole"
        whole.mkdir()
        case.begin(whole)
        tally = Tally(name, whole_run(case.run, whole))
        case.whole = contents(whole)
        random = np.random.default_rng([seed, len(name)])
        for number in moments(tally, kills):
            folder = Path(scratch) / f"kill-{number}"
            moment = float(random.uniform(0, tally.seconds))
            try:
                one_kill(case, folder, moment, tally)
            except Exception as error:
                tally.findings.append(f"{name}, killed after {moment:.3f} s: {error!r}")
                print(f"FOUND {tally.findings[-1]}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        print(summary(tally, case), flush=True)
        return tally


def moments(tally: Tally, kills: int) -> Iterator[int]:
    """Numbers until so many were killed in time; an end before the kill does not count."""
    number = 0
    while tally.kills < kills and number < 4 * kills + 10:
        yield number
        number += 1


def one_kill(case: Case, folder: Path, moment: float, tally: Tally) -> None:
    folder.mkdir()
    case.begin(folder)
    if not killed_at(case.run, folder, moment):
        tally.too_late += 1
        return
    tally.kills += 1
    case.look(folder)
    whole_run(case.again, folder)
    tally.litter += len(hidden(folder))
    case.compare(folder)


def summary(tally: Tally, case: Case) -> str:
    told = [f"{tally.name}: {tally.kills} kills in runs of {tally.seconds:.2f} s", f"{len(tally.findings)} findings"]
    told += [f"{tally.litter} hidden files left"] if tally.litter else []
    return ", ".join([*told, *filter(None, [case.done()])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(CASES)}; all if none")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if unknown := set(arguments.commands) - set(CASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    tallies = [damaged(name, arguments.kills, arguments.seed) for name in arguments.commands or CASES]
    short = [tally.name for tally in tallies if tally.kills < arguments.kills]
    if short:
        print(f"too few kills came in time: {', '.join(short)}")
    return 1 if short or any(tally.findings for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
