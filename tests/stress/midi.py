"""Thousands of damaged MIDI files through `info`, `prepare` and `generate --primer`: python tests/stress/midi.py

Each file goes through all three commands in a worker process that may use `--seconds` of processor time a command and
`--megabytes` of memory. A worker that dies (a crash in a library, too long, too much memory) is a finding, and another
goes on behind the file. Prints what was found, then a summary; the exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import music_generator
from music_generator.engine.engine import Engine
from music_generator.generation import batch
from music_generator.model.bundle import Bundle
from stress.commands import Done, called, fault, last_line
from stress.mutations import mutated

COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("info", "bad.mid"),
    "prepare": ("prepare", "midi", "--out", "made", "--jobs", "1"),
    "generate": ("generate", "--primer", "bad.mid", "--seconds", "1", "--notes", "4", "--seed", "1", "--no-audio",
                 "--no-plots", "--out", "music"),
}  # fmt: skip
SILENT_SECONDS = 300  # a worker that says nothing for so long waits for something; others may stop this machine


@dataclass(frozen=True)
class Outcome:
    """How one command took one file. `megabytes`: the most that the process had in memory while it ran."""

    number: int
    mutation: str
    command: str
    code: int | None
    text: str
    fault: str | None
    seconds: float
    megabytes: float


@contextmanager
def one_engine() -> Iterator[None]:
    """Loading a model takes longer than most files: within, the engine of a folder is made once."""
    made: dict[Path, Any] = {}

    def engine(bundle: Bundle) -> Any:
        if bundle.folder not in made:
            made[bundle.folder] = Engine(bundle)
        return made[bundle.folder]

    with patch.object(batch, "Engine", engine):
        yield


def peak_megabytes() -> float:
    """The most memory since `forget_peak`, in MB of 10^6 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def forget_peak() -> None:
    """Begin to measure anew, where the system lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def damaged(number: int, seed: int, model: Path | None, million: int) -> Iterator[Outcome]:
    """One file through all commands, in the current folder."""
    mutation, data = mutated(number, seed, million=million)
    Path("midi").mkdir(exist_ok=True)
    for place in ("bad.mid", "midi/bad.mid"):
        Path(place).write_bytes(data)
    for name, command in COMMANDS.items():
        given = (*command, "--model", model) if model and name == "generate" else command
        forget_peak()
        begun = time.process_time()
        done = called(*given)
        yield outcome(number, mutation, name, done, time.process_time() - begun)


def outcome(number: int, mutation: str, command: str, done: Done, seconds: float) -> Outcome:
    said = last_line(done.err) if done.code else ""
    return Outcome(number, mutation, command, done.code, said, fault(done), seconds, peak_megabytes())


# --- the worker


def work(arguments: argparse.Namespace) -> None:
    """Take files from `first` on, a line of JSON for each command; the limits end the process."""
    resource.setrlimit(resource.RLIMIT_DATA, (arguments.megabytes * 10**6,) * 2)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    out = os.fdopen(os.dup(1), "w")
    with one_engine():
        called("generate", "--seconds", "1", "--no-audio", "--no-plots", "--out", "music", *model_option(arguments))
        for number in range(arguments.first, arguments.files, arguments.jobs):
            print(json.dumps({"began": number}), file=out, flush=True)
            files = damaged(number, arguments.seed, arguments.model, arguments.million)
            while True:
                signal.setitimer(signal.ITIMER_PROF, arguments.seconds)
                found = next(files, None)
                if found is None:
                    break
                print(json.dumps(asdict(found)), file=out, flush=True)
    signal.setitimer(signal.ITIMER_PROF, 0)


def model_option(arguments: argparse.Namespace) -> tuple[object, ...]:
    return ("--model", arguments.model) if arguments.model else ()


# --- the process that looks after it


@dataclass
class Tally:
    """What came of all files."""

    outcomes: Counter[tuple[str, str]]
    texts: Counter[str]
    findings: list[str]
    files: int = 0
    longest: float = 0.0
    longest_at: str = ""
    most: float = 0.0
    most_at: str = ""

    def add(self, found: Outcome) -> None:
        where = f"file {found.number} ({found.mutation}), {found.command}"
        self.outcomes[found.command, "made" if found.code == 0 else "refused"] += 1
        self.texts[found.text] += 1
        if found.seconds > self.longest:
            self.longest, self.longest_at = found.seconds, where
        if found.megabytes > self.most:
            self.most, self.most_at = found.megabytes, where
        if found.fault:
            self.find(f"{where}: {found.fault}")

    def find(self, text: str) -> None:
        self.findings.append(text)
        print(f"FOUND {text}", flush=True)


def watch(arguments: argparse.Namespace, tally: Tally, folder: Path) -> None:
    """Run workers, one after the other where one dies, until all files of this one's share were taken."""
    first = arguments.first
    while first < arguments.files:
        command = [sys.executable, "-m", "stress.midi", "--worker", *options_of(arguments, first)]
        with subprocess.Popen(
            command, cwd=folder, env=this_code(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as worker:
            began = read(worker, tally)
            code = worker.wait()
        if code == 0:
            return
        tally.find(f"file {began}, {mutated(began, arguments.seed)[0]}: the process ended with {code} {name_of(code)}")
        first = began + arguments.jobs


def this_code() -> dict[str, str]:
    """An environment in which another process runs the code of this one, wherever that lies."""
    folders = Path(__file__).parents[1], Path(music_generator.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def options_of(arguments: argparse.Namespace, first: int) -> list[str]:
    given = {**vars(arguments), "first": first}
    return [f"--{name}={value}" for name, value in given.items() if name != "worker" and value is not None]


def read(worker: subprocess.Popen[str], tally: Tally) -> int:
    """The outcomes of a worker, until it ends; the number of the file it had begun last."""
    began = 0
    assert worker.stdout is not None
    timer = Timer(worker.kill)
    for line in worker.stdout:
        timer.again()
        fields = json.loads(line)
        if "began" in fields:
            began = fields["began"]
            tally.files += 1
        else:
            tally.add(Outcome(**fields))
    timer.stop()
    return began


class Timer:
    """Does something after `SILENT_SECONDS` without `again`."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        signal.signal(signal.SIGALRM, lambda *_: self.action())
        self.again()

    def again(self) -> None:
        signal.alarm(SILENT_SECONDS)

    def stop(self) -> None:
        signal.alarm(0)


def name_of(code: int) -> str:
    return {-signal.SIGPROF: "(too long)", -signal.SIGKILL: "(silent for too long)"}.get(code, "")


def as_a_program(arguments: argparse.Namespace, tally: Tally, folder: Path) -> None:
    """A few files as a user would run them, in processes of their own."""
    for number in range(arguments.programs):
        mutation, data = mutated(number, arguments.seed + 1)
        (folder / "bad.mid").write_bytes(data)
        name, command = list(COMMANDS.items())[number % len(COMMANDS)]
        (folder / "midi").mkdir(exist_ok=True)
        (folder / "midi" / "bad.mid").write_bytes(data)
        line = [sys.executable, "-m", "music_generator", *command]
        ran = subprocess.run(
            line, cwd=folder, env=this_code(), capture_output=True, text=True, check=False, timeout=SILENT_SECONDS
        )
        if wrong := fault(Done(ran.returncode, ran.stdout, ran.stderr)):
            tally.find(f"program {name}, file {number} of the next seed ({mutation}): {wrong}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--programs", type=int, default=12, help="files that are run as separate programs too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first file")
    parser.add_argument("--jobs", type=int, default=1, help="take every so many-th file only: a share of the work")
    parser.add_argument("--million", type=int, default=1_000_000, help="events in the largest files")
    parser.add_argument("--seconds", type=float, default=5.0, help="processor time a command may take")
    parser.add_argument("--megabytes", type=int, default=500, help="memory the process may take")
    parser.add_argument("--model", type=Path, help="a model bundle; the bundled one if not given")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    if arguments.worker:
        work(arguments)
        return 0
    begun, tally = time.monotonic(), Tally(Counter(), Counter(), [])
    with tempfile.TemporaryDirectory() as scratch:
        watch(arguments, tally, Path(scratch))
        as_a_program(arguments, tally, Path(scratch))
    print(
        f"{tally.files} files in {time.monotonic() - begun:.0f} s; "
        + ", ".join(f"{command} {what}: {count}" for (command, what), count in sorted(tally.outcomes.items()))
    )
    print(f"longest: {tally.longest:.2f} s, {tally.longest_at}; most memory: {tally.most:.0f} MB, {tally.most_at}")
    print(f"{len(tally.findings)} findings")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
