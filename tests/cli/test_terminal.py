"""The commands in a real terminal: results come out whole, the bar does not take them, and Ctrl-C ends everything."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, Performance

pty = pytest.importorskip("pty", reason="Windows has no such terminals")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

COLUMNS = 40  # of the terminal: fewer than any line of results has
SECONDS = 60  # until anything is given up: never met, but on a stopped machine
COMMAND = [sys.executable, "-W", "error", "-m", "music_generator"]
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"  # the cursor


class Terminal:
    """A program in a session of its own, on a terminal of 40 columns; `text` is what it shows."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=environment | {"TERM": "xterm"}, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self._bytes = b""
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # how Linux ends it
            while block := os.read(self._ours, 1 << 16):
                self._bytes += block

    @property
    def text(self) -> str:
        return self._bytes.decode().replace("\r\n", "\n")

    def wait_until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + SECONDS
        while not true():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.01)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._ours, b"\x03")

    def end(self) -> int:
        """Wait for all of its processes to end, and return the exit code of the first."""
        code = self.process.wait(SECONDS)
        end = time.monotonic() + SECONDS
        with suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(self.process.pid, 0)
                time.sleep(0.01)
            os.killpg(self.process.pid, signal.SIGKILL)
            pytest.fail("a process outlives the command")
        self._reader.join(SECONDS)
        os.close(self._ours)
        return code


def shell(line: str, folder: Path) -> str:
    """Run a line of a shell in a terminal, which must succeed; what the terminal shows."""
    terminal = Terminal(["bash", "-c", f"set -o pipefail; {line}"], folder)
    assert terminal.end() == 0, terminal.text
    return terminal.text


def typed(*words: object) -> str:
    return shlex.join([*COMMAND, *map(str, words)])


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    notes = np.array([(0.5 * i, 0.45, 60 + i % 7, 50 + i) for i in range(24)], NOTE_DTYPE)
    path = tmp_path / "piece.mid"
    write_midi(Performance(notes), path)
    return path


def music(bundle: Path, count: int = 3) -> tuple[object, ...]:
    return ("--count", count, "--model", bundle, "--seed", 1, "--no-audio", "--no-plots")


def json_commands(piece: Path, bundle: Path) -> list[str]:
    return [
        typed("generate", "--seconds", 2, "--json", *music(bundle)),
        typed("generate", "--seconds", 2, "--json", "--jobs", 2, *music(bundle)),
        typed("infill", piece, "--from", 3, "--to", 6, "--json", *music(bundle)),
        typed("score", piece, "--no-plots", "--json", "--model", bundle),
        typed("info", piece, "--json"),
        typed("composers", "--json", "--model", bundle),
    ]


@pytest.mark.parametrize("number", range(6))
def test_json_is_whole_in_a_terminal_a_file_and_a_pipe(tmp_path, tiny_bundle, piece, number):
    command = json_commands(piece, tiny_bundle)[number]
    shown = shell(command, tmp_path)
    assert "\x1b" not in shown  # no bar and no colour
    lines = [json.loads(line) for line in shown.splitlines()]
    assert len(lines) == (3 if "--count" in command else 1)
    assert shell(f"{command} > result.json", tmp_path) == ""
    assert shell(f"{command} | cat > piped.json", tmp_path) == ""
    for name in ("result.json", "piped.json"):
        found = [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
        assert [without_seconds(each) for each in found] == [without_seconds(each) for each in lines]


def without_seconds(facts: object) -> object:
    """The facts of a result without the time that it took."""
    return {n: v for n, v in facts.items() if n != "seconds_taken"} if isinstance(facts, dict) else facts


def test_results_are_whole_and_not_wrapped_and_the_bar_is_on_stderr(tmp_path, tiny_bundle):
    command = typed("generate", "--seconds", 2, *music(tiny_bundle))
    seen, shown = shell(command, tmp_path), shell(f"{command} 2> errors", tmp_path)
    names = [f"music/compose-seed{seed}.mid: " for seed in (1, 2, 3)]
    for text in (seen, shown):
        results = re.findall(r"^(?:.*\x1b\[2K)?(music/.*: )\d+ new notes, 2 s of music in .*s\), seed \d$", text, re.M)
        assert results == names
    assert shown.count("\n") == 3
    assert HIDDEN in seen
    assert (tmp_path / "errors").read_bytes() == b""  # stderr is no terminal: no bar
    bar = shell(f"{command} > results", tmp_path)
    assert HIDDEN in bar
    assert bar.rindex(SHOWN) > bar.rindex(HIDDEN)
    assert "new notes" not in bar
    assert [line.split(":")[0] + ": " for line in (tmp_path / "results").read_text("utf-8").splitlines()] == names


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_ctrl_c_ends_all_processes_with_no_more_files(tmp_path, tiny_bundle, jobs, more):
    words = ("generate", "--seconds", 10, "--jobs", jobs, *more, *music(tiny_bundle, 20_000))
    terminal = Terminal([*COMMAND, *map(str, words)], tmp_path)
    folder = tmp_path / "music"
    terminal.wait_until(lambda: any(folder.glob("*.mid")))
    terminal.interrupt()
    assert terminal.end() == 130, terminal.text
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) < 20_000
    assert all(re.fullmatch(r"compose-seed\d+\.mid", name) for name in left)  # none is half written
    assert "Traceback" not in terminal.text
    assert terminal.text.rfind(SHOWN) >= terminal.text.rfind(HIDDEN)  # the cursor is back


def test_ctrl_c_while_processes_start(tmp_path, tiny_bundle):
    """They have not begun when it is pressed; a terminal sends it to them, too.

    Warnings are not errors here: Python itself warns of the file of a module whose import is interrupted.
    """
    words = ("generate", "--seconds", 10, "--jobs", 2, *music(tiny_bundle, 20_000))
    terminal = Terminal([sys.executable, "-m", "music_generator", *map(str, words)], tmp_path)
    terminal.wait_until(lambda: HIDDEN in terminal.text)
    terminal.interrupt()
    assert terminal.end() == 130, terminal.text
    assert "Traceback" not in terminal.text
    assert not (tmp_path / "music").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_reader_that_goes_away_ends_it_quietly(tmp_path, tiny_bundle, jobs):
    words = ("generate", "--seconds", 1, "--jobs", jobs, *music(tiny_bundle, 20_000))
    terminal = Terminal(["bash", "-c", f"{typed(*words)} 2> errors | head -1"], tmp_path)
    assert terminal.end() == 0
    assert terminal.text.startswith("music/compose-seed1.mid: ")
    assert terminal.text.count("\n") == 1
    assert (tmp_path / "errors").read_bytes() == b""
    left = [path.name for path in (tmp_path / "music").iterdir()]
    assert len(left) < 20_000
    assert all(name.endswith(".mid") and not name.startswith(".") for name in left)


INTERRUPTED = """
import os, signal, sys

module, *ignoring = sys.argv[1:]
sys.argv[1:] = ["composers"]

class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

if ignoring:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.meta_path.insert(0, Interrupt())
from music_generator.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "music_generator.cli.main", "music_generator.cli.media", "numpy"])
def test_ctrl_c_while_modules_load_shows_no_traceback(tmp_path, module):
    command = [sys.executable, "-c", INTERRUPTED, module]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode in (-signal.SIGINT, 130)  # a shell shows 130 for both
    assert (done.stdout, done.stderr.strip()) == ("", "")
    ignoring = subprocess.run([*command, "ignoring"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ignoring.returncode, ignoring.stderr) == (0, "")
    assert "Frédéric Chopin" in ignoring.stdout


def test_without_stderr_there_is_no_bar(tmp_path, tiny_bundle):
    assert shell(f"{typed('generate', '--seconds', 1, *music(tiny_bundle))} > results 2>&-", tmp_path) == ""
    assert (tmp_path / "results").read_text("utf-8").count("new notes") == 3


TRANSCRIBE = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[1] / "recording")!r})
from known_events import KnownEvents
from music_generator.__main__ import main
from music_generator.recording import extra, transkun

class Slow(KnownEvents):
    def events(self, *arguments):
        time.sleep(0.2)
        return super().events(*arguments)

extra.is_installed = lambda: True
transkun.Transkun = lambda: Slow([])
main()
"""


def test_transcribing_shows_the_time_left_and_ctrl_c_ends_it(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(44_100 * 600, 0.1, np.float32), 44_100)
    terminal = Terminal([sys.executable, "-W", "error", "-c", TRANSCRIBE, "transcribe", "a.wav"], tmp_path)
    terminal.wait_until(lambda: re.search(r"\d:\d\d:\d\d", terminal.text))
    terminal.interrupt()
    assert terminal.end() == 130
    assert terminal.text.rfind(SHOWN) > terminal.text.rfind(HIDDEN)  # the cursor is back
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
