"""The command `transcribe`, and recordings where other commands take a MIDI file."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from known_events import KnownEvents, assert_events, write_sound

from music_generator.cli import main as cli
from music_generator.describe import describe
from music_generator.music.midi import read_midi
from music_generator.recording import extra, transkun
from music_generator.recording.chunks import Event

PIECE = [Event(60 + i % 12, 0.5 * i, 0.5 * i + 0.4, 50 + i) for i in range(18)] + [Event(-64, 1.0, 8.5, 90)]
HOW = 'pip install ".[transcribe]" in your clone of music-generator-rnn'
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_bundle: Path) -> Run:
    """Runs a command in `tmp_path` and returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("music_generator.model.bundle.PRETRAINED", tiny_bundle)

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["music-generator", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return (int(exit_.value.code or 0), *capsys.readouterr())

    return run_command


@pytest.fixture
def _extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "is_installed", lambda: True)
    monkeypatch.setattr(transkun, "Transkun", lambda: KnownEvents(PIECE))


@pytest.fixture
def _no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "is_installed", lambda: False)


@pytest.mark.usefixtures("_extra")
def test_a_recording_becomes_a_midi_file(run, tmp_path):
    write_sound(tmp_path / "take.wav", 9.5)
    code, out, err = run("transcribe", "take.wav")
    assert (code, err) == (0, "")
    assert out.startswith("take.mid: 18 notes, 1 pedal presses; 10 s of sound in ")
    rows = read_midi(tmp_path / "take.mid").performance
    assert rows.notes["pitch"].tolist() == [event.key for event in PIECE[:-1]]
    np.testing.assert_allclose(rows.notes["onset"], [event.onset for event in PIECE[:-1]], atol=1e-3)
    assert rows.notes["velocity"].tolist() == [event.velocity for event in PIECE[:-1]]


@pytest.mark.usefixtures("_extra")
def test_json_and_the_file_of_out(run, tmp_path):
    write_sound(tmp_path / "take.mp3", 9.5)
    code, out, err = run("transcribe", "take.mp3", "--out", "new/other.mid", "--json")
    facts = json.loads(out)
    assert (code, err, facts.pop("seconds_taken") >= 0) == (0, "", True)
    assert facts.pop("seconds") == pytest.approx(9.5, abs=0.06)
    assert facts == {"files": ["new/other.mid"], "notes": 18, "pedal_presses": 1}
    (tmp_path / "No. 3").mkdir()
    for folder in ("No. 3", "new", "newer"):  # a name that does not end in .mid is a folder, made if missing
        facts = json.loads(run("transcribe", "take.mp3", "--out", folder, "--json")[1])
        assert facts["files"] == [f"{folder}/take.mid"]


@pytest.mark.usefixtures("_extra")
def test_other_music_is_not_written_over(run, tmp_path):
    write_sound(tmp_path / "take.wav", 9.5)
    (tmp_path / "take.mid").write_bytes(b"mine")
    for _ in range(2):  # the same music again is the same file
        assert run("transcribe", "take.wav")[1].startswith("take-2.mid: 18 notes")
    assert (tmp_path / "take.mid").read_bytes() == b"mine"
    assert run("transcribe", "take.wav", "--overwrite")[1].startswith("take.mid: 18 notes")
    assert len(read_midi(tmp_path / "take.mid").performance) == 18
    code, _, err = run("transcribe", "take.wav", "--out", "take.wav")
    assert (code, err) == (2, "music-generator: take.wav would be written over: name another file with `--out`\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["take-2.mid", "take.mid", "take.wav"]


@pytest.mark.usefixtures("_extra")
def test_where_nothing_can_be_written_is_said_before_the_work(run, tmp_path, monkeypatch):
    write_sound(tmp_path / "take.wav", 9.5)
    monkeypatch.setattr(transkun, "Transkun", lambda: pytest.fail("the work began"))
    code, out, err = run("transcribe", "take.wav", "--out", "take.wav/a.mid")
    assert (code, out) == (2, "")
    assert "cannot write take.wav/a.mid" in err
    line = "music-generator: `--out` must be a folder or a file that ends in .mid, not other.wav\n"
    assert run("transcribe", "take.wav", "--out", "other.wav") == (2, "", line)


@pytest.mark.usefixtures("_extra")
@pytest.mark.parametrize(
    "arguments",
    [("generate", "--primer", "take.wav"), ("infill", "take.wav", "--from", 1, "--to", 2), ("accompany", "take.wav")],
)
def test_options_are_checked_before_the_work(run, tmp_path, monkeypatch, arguments):
    write_sound(tmp_path / "take.wav", 9.5)
    (tmp_path / "music").write_bytes(b"mine")
    monkeypatch.setattr(transkun, "Transkun", lambda: pytest.fail("the work began"))
    line = "music-generator: cannot write into music: it is a file, not a folder\n"
    assert run(*arguments) == (2, "", line)


@pytest.mark.usefixtures("_no_extra")
def test_the_extra_is_named(run, tmp_path):
    write_sound(tmp_path / "take.wav", 1.0)
    line = f"music-generator: take.wav is a recording: to have it transcribed, install the extra: {HOW}\n"
    assert run("transcribe", "take.wav") == (2, "", line)
    assert run("generate", "--primer", "take.wav") == (2, "", line)
    assert [path.name for path in tmp_path.iterdir()] == ["take.wav"]


@pytest.mark.usefixtures("_extra")
@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"no sound" * 99), "it cannot be read as sound"),
        (lambda path: path.write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(999)), "it cannot be read as sound"),
        (lambda path: soundfile.write(path, np.zeros(0), 44_100), "there is no sound in it"),
        (lambda path: soundfile.write(path, np.zeros(99_999), 44_100), "it is silent"),
        (lambda path: path.unlink(missing_ok=True), "no such file"),
        (lambda path: path.write_bytes(b"\xff\xfb\x90\x64" + bytes(999)), "it cannot be read as sound"),
    ],
)
def test_bad_recordings_are_one_line(run, tmp_path, write, reason):
    write(tmp_path / "take.wav")
    code, out, err = run("transcribe", "take.wav")
    assert (code, out) == (2, "")
    assert err.startswith(f"music-generator: take.wav: {reason}")
    assert err.count("\n") == 1
    assert not (tmp_path / "take.mid").exists()


@pytest.mark.usefixtures("_extra")
@pytest.mark.parametrize("folder", [".", "..", "/"])
def test_a_folder_is_no_recording(run, folder):
    assert run("transcribe", folder) == (2, "", f"music-generator: {folder} is a folder: name a sound file\n")


@pytest.mark.parametrize("name", ["song.mid", "song.wav"])
def test_a_midi_file_is_no_recording(run, tmp_path, name):
    (tmp_path / name).write_bytes(b"MThd\x00\x00\x00\x06\x00\x00\x00\x00\x01\xe0")
    line = f"music-generator: {name} is a MIDI file already: name a sound file\n"
    assert run("transcribe", name) == (2, "", line)


@pytest.mark.usefixtures("_extra")
def test_ctrl_c_leaves_nothing(run, tmp_path, monkeypatch):
    class Interrupted(KnownEvents):
        def events(self, *_arguments: object) -> None:  # type: ignore[override]
            raise KeyboardInterrupt

    monkeypatch.setattr(transkun, "Transkun", lambda: Interrupted([]))
    write_sound(tmp_path / "take.wav", 1.0)
    code, out, _ = run("transcribe", "take.wav")
    assert (code, out) == (130, "")
    assert [path.name for path in tmp_path.iterdir()] == ["take.wav"]


@pytest.mark.usefixtures("_extra")
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--primer", "take.mid", "--seconds", 1),
        ("generate", "--future", "take.mid", "--seconds", 1),
        ("infill", "take.mid", "--from", 1, "--to", 2),
        ("accompany", "take.mid"),
    ],
)
def test_music_is_written_to_a_recording_whatever_its_name(run, tmp_path, arguments):
    write_sound(tmp_path / "take.wav", 9.5).rename(tmp_path / "take.mid")
    code, out, err = run(*arguments, "--no-audio", "--no-plots", "--seed", 1)
    assert (code, err) == (
        0, "take.mid: transcribed to 18 notes; `music-generator transcribe` keeps them in a file\n",
    )  # fmt: skip
    written = read_midi(tmp_path / out.split(":")[0]).performance.notes
    assert set(range(60, 72)) <= set(written["pitch"].tolist())


@pytest.mark.usefixtures("_extra")
def test_a_recording_is_played_drawn_and_scored(run, tmp_path):
    write_sound(tmp_path / "take.wav", 9.5)
    assert run("plot", "take.wav")[:2] == (0, "take.png\ntake-distributions.png\n")
    assert run("score", "take.wav", "--no-plots")[0] == 0
    assert run("render", "take.wav", "--out", "played.wav")[0] == 0
    code, out, err = run("infill", "take.wav", "--from", 3, "--to", 4, "--track", "2")
    assert (code, out) == (2, "")
    assert "`--track` is a track of a MIDI file, and take.wav is a recording" in err


def test_info_describes_a_recording_without_the_extra(tmp_path):
    path = write_sound(tmp_path / "take.flac", 2.0, 48_000, 2)
    assert describe(path) == {"kind": "recording", "seconds": 2.0, "sample rate": 48_000, "channels": 2}


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of Windows closes no stderr")
def test_a_recording_is_read_where_stderr_is_closed(tmp_path):
    path = write_sound(tmp_path / "take.ogg", 2.0)
    command = f"exec {shlex.quote(sys.executable)} -m music_generator info {shlex.quote(str(path))} --json 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["seconds"] == pytest.approx(2.0, abs=0.01)


def test_assert_events_sees_a_difference():
    with pytest.raises(AssertionError):
        assert_events(read_midi(b"MThd\x00\x00\x00\x06\x00\x00\x00\x00\x01\xe0").performance, PIECE)
