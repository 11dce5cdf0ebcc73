"""The command line: each command, and each bad input as one line on stderr and exit code 2."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

import music_generator
from conftest import KINDS
from music_generator.cli import main as cli
from music_generator.data import maestro
from music_generator.data.corpus import Corpus
from music_generator.model.bundle import FORMAT, open_bundle
from music_generator.music.features import distributions
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, Performance
from music_generator.music.tokens import Window, encode

if TYPE_CHECKING:
    from music_generator.model.network import Network

COMMANDS = tuple(cli.COMMANDS)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_bundle: Path) -> Run:
    """Runs the command in `tmp_path`, as a shell would; generation is by the tiny bundle unless another is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("music_generator.model.bundle.PRETRAINED", tiny_bundle)

    def run_command(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["music-generator", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return Done(int(caught.value.code or 0), captured.out, captured.err)

    return run_command


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    """Twelve seconds of two notes a second, with a pedal."""
    notes = np.array([(0.5 * i, 0.45, 60 + i % 7, 50 + i) for i in range(24)], NOTE_DTYPE)
    path = tmp_path / "piece.mid"
    write_midi(Performance(notes, np.array([(1.0, 3.0, SUSTAIN, 100)], PEDAL_DTYPE)), path)
    return path


def fast(*arguments: object) -> tuple[object, ...]:
    return (*arguments, "--no-audio", "--no-plots", "--seed", 1)


def files(folder: Path) -> set[str]:
    """All files below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_refused(done: Done, *texts: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that says `texts`."""
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("music-generator: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    for text in texts:
        assert text in done.err


# --- help


def test_without_arguments_the_commands_are_listed(run):
    done = run("--help")
    assert done.code == 0
    assert all(command in done.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run, command):
    done = run(command, "--help")
    assert done.code == 0
    assert f"Example: music-generator {command}" in " ".join(done.out.split())


def test_usage_errors_exit_with_2(run, piece):
    gap = ("generate", "--primer", piece, "--from", 1, "--to", 2)  # that is `infill`
    for arguments in (gap, ("infill", piece), ("generate", "--nonsense"), ("generate", "--seconds", "x"), ("nothing",)):
        done = run(*arguments)
        assert (done.code, done.out) == (2, "")


def test_the_version(run):
    assert run("--version") == Done(0, f"music-generator {music_generator.__version__}\n", "")


# --- generate and infill


def test_a_piece_is_left_with_its_sound_and_pictures(run, tmp_path):
    done = run("generate", "--seconds", 4, "--seed", 7, "--composer", "chopin", "--out", "new/music")
    assert (done.code, done.err) == (0, "")
    stem = "new/music/compose-seed7"
    assert files(tmp_path) == {f"{stem}{end}" for end in (".mid", ".wav", ".png", "-distributions.png")}
    assert done.out.startswith(f"{stem}.mid: ")
    assert "seed 7" in done.out
    assert "times real time" in done.out
    assert done.out.count("\n") == 1
    with wave.open(f"{stem}.wav") as sound:
        assert sound.getnframes() > 0


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        ("compose", ["--seconds", 5]),
        ("continue", ["--primer", "piece.mid", "--seconds", 5]),
        ("continue", ["--primer", "piece.mid", "--from", 6, "--seconds", 5]),
        ("lead-in", ["--future", "piece.mid"]),
        ("bridge", ["--primer", "piece.mid", "--future", "piece.mid", "--seconds", 5]),
        ("bridge", ["--primer", "piece.mid", "--from", 6, "--future", "piece.mid"]),
    ],
)
@pytest.mark.usefixtures("piece")
def test_generate_in_all_modes(run, mode, arguments):
    done = run(*fast("generate", *arguments, "--json"))
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    assert facts["files"] == [f"music/{mode}-seed1.mid"]
    assert facts["seed"] == 1
    made = read_midi(facts["files"][0]).performance
    written = made.between(facts["start"] - 1e-3, facts["end"] - 1e-3)
    assert len(written) == facts["notes"]
    outside = len(made) - len(written)
    assert outside == {"compose": 0, "lead-in": 24}.get(mode, outside)


def test_music_around_kept_notes(run, piece):
    """`accompany` and `infill --keep` leave the notes as they are in the file."""
    notes = read_midi(piece).performance.notes
    gap = (notes["onset"] >= 3) & (notes["onset"] < 8)
    for arguments, kept in (
        (("accompany", piece), notes),
        (("accompany", piece, "--keep", "above:64"), notes[notes["pitch"] > 64]),
        (("infill", piece, "--from", 3, "--to", 8, "--keep", "melody"), notes[gap]),
        (("infill", piece, "--from", 3, "--to", 8, "--keep", "softer:60"), notes[gap & (notes["velocity"] < 60)]),
    ):
        done = run(*fast(*arguments, "--json", "--temperature", 1.3))
        assert (done.code, done.err) == (0, "")
        (path,) = json.loads(done.out)["files"]
        found = set(map(tuple, read_midi(path).performance.notes[["onset", "pitch", "velocity"]].tolist()))
        assert set(map(tuple, kept[["onset", "pitch", "velocity"]].tolist())) <= found
        assert len(found) > len(kept)


def made_by(run: Run, *arguments: object) -> bytes:
    """The MIDI file that a command writes with seed 1."""
    done = run(*fast(*arguments, "--json"))
    assert (done.code, done.err) == (0, "")
    return Path(json.loads(done.out)["files"][0]).read_bytes()


def test_what_may_be_told_changes_the_music(run, piece):
    """Density, loudness, returns, a passage to come back to, an open end: each is heard, and is the same again."""
    for command, options in (
        (("generate", "--seconds", 40), (("--density", 3), ("--loudness", 90.5), ("--returns", -4), ("--open-end",))),
        (("generate", "--primer", piece, "--seconds", 6), (("--recall", "2-7.5"), ("--density", 20), ("--open-end",))),
        (("infill", piece, "--from", 1, "--to", 11), (("--density", 3), ("--loudness", 30), ("--returns", -5))),
        (("accompany", piece, "--keep", "below:62"), (("--density", 3), ("--loudness", 30), ("--returns", -5))),
    ):
        written = [made_by(run, *command, *option) for option in ((), *options)]
        assert len(set(written)) == len(written), command
        assert made_by(run, *command, *options[0]) == written[1]
    assert made_by(run, "generate", "--seconds", 3, "--returns", 1) == made_by(run, "generate", "--seconds", 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("generate", "--density", 0), "`--density` must be above 0 and at most 100 notes a second, not 0.0"),
        (("generate", "--loudness", 128), "`--loudness` must be 1 to 127, a mean velocity, not 128.0"),
        (("generate", "--returns", 9), "`--returns` must be -5 to 5, not 9.0"),
        (("generate", "--returns", "nan"), "`--returns` must be -5 to 5, not nan"),
        (
            ("generate", "--open-end", "--future", "piece.mid"),
            "`--open-end` does not go with `--future`: the music ends",
        ),
        (("generate", "--recall", "2-4"), "`--recall` names seconds of the primer: name one with `--primer`"),
        (("generate", "--recall", "2-4", "--future", "piece.mid"), "name one with `--primer`"),
        (
            ("generate", "--primer", "piece.mid", "--recall", "2"),
            "`--recall` must be two seconds such as 12-20, not '2'",
        ),
        (("generate", "--primer", "piece.mid", "--recall", "a-b"), "must be two seconds such as 12-20, not 'a-b'"),
        (("generate", "--primer", "piece.mid", "--recall", "1-2-3"), "not '1-2-3'"),
        (("generate", "--primer", "piece.mid", "--recall", "4-2"), "must lie before the music that is written"),
        (("generate", "--primer", "piece.mid", "--recall", "4-99"), "not from 4 to 99 s"),
        (("generate", "--primer", "piece.mid", "--recall", "0.1-0.2"), "from 0.1 to 0.2 s, has no notes"),
        (
            ("infill", "piece.mid", "--from", 1, "--to", 4, "--keep", "tenor"),
            "`--keep` must be one of all, melody, bass",
        ),
        (("infill", "piece.mid", "--from", 1, "--to", 4, "--keep", "softer:200"), "N being 0 to 127, not 'softer:200'"),
        (
            ("infill", "piece.mid", "--from", 1, "--to", 4, "--keep", "softer:1"),
            "what is kept of the gap from 1.0 to 4.0 s",
        ),
        (("infill", "piece.mid", "--from", 1, "--to", 4, "--density", -1), "`--density` must be above 0"),
        (("accompany", "piece.mid", "--keep", "above:N"), "N being 0 to 127, not 'above:N'"),
        (("accompany", "piece.mid", "--keep", "above:127"), "what is kept of the piece has no notes"),
        (("accompany", "none.mid"), "none.mid: no such file"),
    ],
)
def test_what_is_told_and_does_not_fit_is_refused(run, piece, arguments, text):
    assert_refused(run(*fast(*arguments)), text)
    assert files(piece.parent) == {"piece.mid"}


@pytest.mark.parametrize("kind", ["gru-forward", "lstm-one-two"])
def test_what_a_model_cannot_do_is_refused(run, piece, tiny_network, tmp_path, kind):
    """One without a backward stack, and one that remembers nothing and cannot be told anything."""
    folder = tmp_path / "model"
    bundle_of_kind(tiny_network, kind, folder)
    cannot = {
        "gru-forward": {"cannot keep notes; use one trained with `both`": ("accompany", piece)},
        "lstm-one-two": {
            "this model has no memory": ("generate", "--primer", piece, "--recall", "2-4"),
            "cannot be told a density": ("infill", piece, "--from", 1, "--to", 4, "--density", 4),
            "cannot be told a loudness": ("accompany", piece, "--loudness", 40),
        },
    }[kind]
    for text, arguments in cannot.items():
        assert_refused(run(*fast(*arguments, "--model", folder)), text)
    assert run(*fast("generate", "--seconds", 2, "--model", folder)).code == 0


def bundle_of_kind(network: Network, kind: str, folder: Path) -> None:
    """Write the bundle of a network of another kind."""
    from music_generator.model.export import bundle_network
    from music_generator.model.network import Batch, Network
    from music_generator.training.batches import to_batch

    other = Network(replace(network.config, **KINDS[kind]))
    rows = encode(Performance(np.array([(0.5 * i, 0.4, 60, 64) for i in range(9)], NOTE_DTYPE)))
    music: Batch = to_batch([Window(rows, True, True)], len(rows))
    bundle_network(other, folder, {}, distributions([]), music)


def test_infill_keeps_what_is_outside(run, piece):
    done = run(*fast("infill", piece, "--from", 4, "--to", 8, "--json"))
    assert done.code == 0
    before, after = (read_midi(path).performance for path in (piece, json.loads(done.out)["files"][0]))
    assert after.between(0, 4) == before.between(0, 4)
    assert after.between(8) == before.between(8)


def test_variations_are_several_files_and_lines(run, tmp_path):
    done = run(*fast("generate", "--seconds", 3, "--variations", 3, "--json"))
    assert [json.loads(line)["seed"] for line in done.out.splitlines()] == [1, 2, 3]
    assert files(tmp_path) == {f"music/compose-seed{seed}.mid" for seed in (1, 2, 3)}
    third = (tmp_path / "music/compose-seed3.mid").read_bytes()
    run("generate", "--seconds", 3, "--no-audio", "--no-plots", "--seed", 3)
    assert (tmp_path / "music/compose-seed3.mid").read_bytes() == third


def test_other_music_of_the_same_seed_is_another_file(run, piece):
    """Another span, style or primer; the same command again leaves the same files."""
    commands = [
        ("generate", "--seconds", 3),
        ("generate", "--seconds", 3, "--temperature", 1.5),
        ("generate", "--seconds", 3, "--density", 9),
        ("infill", piece, "--from", 2, "--to", 5),
        ("infill", piece, "--from", 3, "--to", 6),
    ]
    for _ in range(2):
        names = [json.loads(run(*fast(*command, "--json")).out)["files"][0] for command in commands]
        compose, infill = "music/compose-seed1", "music/infill-seed1"
        assert names == [f"{compose}.mid", f"{compose}-2.mid", f"{compose}-3.mid", f"{infill}.mid", f"{infill}-2.mid"]
    assert len({Path(name).read_bytes() for name in names}) == 5
    assert run(*fast(*commands[1], "--overwrite")).code == 0
    assert Path(names[0]).read_bytes() == Path(names[1]).read_bytes()


def test_no_input_is_written_over(run, piece, tmp_path):
    """Not even where the names of results are those of inputs, and a file's suffix is wrong."""
    mine = piece.rename(tmp_path / "infill-seed1.mid")
    before = mine.read_bytes()
    inside = fast("infill", mine, "--from", 2, "--to", 5, "--out", ".")
    assert run(*inside).out.startswith("infill-seed1-2.mid: ")
    assert_refused(
        run(*inside, "--overwrite"), "infill-seed1.mid is read and would be written over; use another `--out`"
    )
    for suffix, command in ((".wav", "render"), (".png", "plot"), (".png", "score")):
        wrong = tmp_path / f"piece{suffix}"
        wrong.write_bytes(before)
        assert_refused(run(command, wrong, "--out", wrong), f"{wrong} would be written over: name another file")
        assert wrong.read_bytes() == before
    assert_refused(run("render", "piece.wav"), "piece.wav would be written over")
    assert mine.read_bytes() == before


def test_new_notes_and_their_length_are_those_asked_for(run, piece):
    """Kept notes are not new, and what is held beyond the end makes the music no longer."""
    inside = len(read_midi(piece).performance.between(3, 8))
    for command, kept, seconds in (
        (("infill", piece, "--from", 3, "--to", 8, "--keep", "all"), inside, 5.0),
        (("infill", piece, "--from", 3, "--to", 8), 0, 5.0),
        (("accompany", piece), 24, None),
        (("generate", "--seconds", 40), 0, 40.0),
    ):
        facts = json.loads(run(*fast(*command, "--json")).out)
        whole = read_midi(facts["files"][0]).performance.between(facts["start"], facts["end"])
        assert facts["notes"] == len(whole) - kept
        assert seconds is None or facts["seconds"] == seconds
        length = f"{facts['notes']} new notes, {facts['seconds']:.0f} s of music in "
        assert length in run(*fast(*command)).out


def generated(run: Run, folder: str, *arguments: object) -> tuple[list[Any], dict[str, bytes]]:
    """What is printed line by line, and the files; 7 variations of a short gap's filling, from seed 1 on."""
    command = fast("infill", "piece.mid", "--from", 4, "--to", 8, "--count", 7, "--out", folder, "--json", *arguments)
    done = run(*command)
    assert (done.code, done.err) == (0, "")
    lines = [json.loads(line) for line in done.out.splitlines()]
    return lines, {path.name: path.read_bytes() for path in Path(folder).glob("*.mid")}


@pytest.mark.usefixtures("piece")
def test_shards_and_single_pieces_are_the_same_music(run):
    """Which piece a seed gives does not depend on those written beside it, nor on where."""
    lines, whole = generated(run, "whole")
    seeds = range(1, 8)
    assert [line["seed"] for line in lines] == list(seeds)
    assert set(whole) == {f"infill-seed{seed}.mid" for seed in seeds}
    assert len(set(whole.values())) > 1
    shards: dict[str, bytes] = {}
    for part in (1, 2, 3):
        some, files_of = generated(run, f"part{part}", "--shard", f"{part}/3")
        assert [line["seed"] for line in some] == list(seeds)[part - 1 :: 3]
        assert not shards.keys() & files_of.keys()
        shards |= files_of
    assert shards == whole
    assert generated(run, "all", "--shard", "1/1")[1] == whole
    for seed in (2, 7):
        alone = ("infill", "piece.mid", "--from", 4, "--to", 8, "--out", "alone", "--no-audio", "--no-plots")
        assert run(*alone, "--seed", seed).code == 0
        name = f"infill-seed{seed}.mid"
        assert Path("alone", name).read_bytes() == whole[name]


@pytest.mark.usefixtures("piece")
def test_jobs_write_the_same_music_in_order(run, tiny_bundle):
    """Two processes, which print nothing themselves: the lines come in the order of the seeds."""
    _, whole = generated(run, "whole")
    lines, found = generated(run, "jobs", "--jobs", 2, "--model", tiny_bundle)
    assert found == whole
    assert [line["seed"] for line in lines] == list(range(1, 8))
    assert [line["files"] for line in lines] == [[f"jobs/infill-seed{seed}.mid"] for seed in range(1, 8)]
    lines, found = generated(run, "both", "--jobs", 2, "--shard", "2/3", "--model", tiny_bundle)
    assert [line["seed"] for line in lines] == [2, 5]
    assert found == {f"infill-seed{seed}.mid": whole[f"infill-seed{seed}.mid"] for seed in (2, 5)}


SHARD = ("infill", "piece.mid", "--from", 4, "--to", 8, "--count", 4, "--shard", "1/2", "--no-plots", "--seed", 1)


@pytest.mark.usefixtures("piece")
def test_a_shard_goes_on_where_it_was_killed(run, tmp_path):
    """What is there whole stays, also where its music is no longer what it was; the rest comes out as before."""
    assert run(*SHARD).code == 0
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    first, third, request = (f"music/infill-{name}" for name in ("seed1.mid", "seed3.mid", "request.json"))
    assert set(before) == {"piece.mid", first, third, request, "music/infill-seed1.wav", "music/infill-seed3.wav"}
    (tmp_path / first).write_bytes(b"touched")
    (tmp_path / third).write_bytes(b"without its sound it is not whole")
    (tmp_path / "music/infill-seed3.wav").unlink()
    done = run(*SHARD)
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert done.out.startswith(f"{third}: ")
    assert done.err == "1 of 2 pieces exist and are kept; --overwrite writes them again\n"
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before | {first: b"touched"}
    done = run(*SHARD)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("2 of 2 pieces exist")
    done = run(*SHARD, "--overwrite")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 2)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


@pytest.mark.usefixtures("piece")
def test_pieces_of_another_request_are_never_taken_for_those_of_a_shard(run, tmp_path):
    assert run(*SHARD[:8], "--seed", 1, "--no-plots", "--no-audio").code == 0  # no shard: of what it is is not kept
    shard = (*SHARD, "--no-audio")
    assert_refused(run(*shard), "music: infill-seed1.mid exists and was written by another command", "`--overwrite`")
    assert run(*shard, "--overwrite").code == 0
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    for option in ("--overwrite", "--no-plots"):
        assert_refused(
            run(*shard, "--temperature", 2, option), "music: its pieces differ from those asked for in temperature;"
        )
    assert_refused(run(*shard[:5], 9, *shard[6:]), "differ from those asked for in end, future;")
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    (tmp_path / "music/infill-request.json").write_text("{")
    assert_refused(run(*shard), "infill-request.json is damaged", "delete it")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_shard_may_be_empty(run, tmp_path, jobs):
    done = run(*fast("generate", "--seconds", 2, "--count", 1, "--shard", "2/3", "--jobs", jobs))
    assert done == Done(0, "", "")
    assert not files(tmp_path)


def test_a_number_of_notes_is_given_whatever_time_it_takes(run):
    done = run(*fast("generate", "--notes", 150, "--json"))
    facts = json.loads(done.out)
    assert facts["notes"] == 150
    assert 60 < facts["end"] < 1000


def test_the_sound_may_be_another_format(run, tmp_path):
    assert run("generate", "--seconds", 2, "--no-plots", "--seed", 1, "--format", "flac").code == 0
    assert "music/compose-seed1.flac" in files(tmp_path)


def test_what_is_left_out_of_a_primer_is_said_on_stderr(run, tmp_path):
    track = bytes.fromhex("00 90 0a 40 00 90 3c 40 60 80 0a 40 00 80 3c 40 00 ff 2f 00")
    header = bytes.fromhex("4d546864 00000006 0000 0001 0060")
    (tmp_path / "low.mid").write_bytes(header + b"MTrk" + len(track).to_bytes(4, "big") + track)
    done = run(*fast("generate", "--primer", "low.mid", "--seconds", 3, "--json"))
    assert done.code == 0
    assert "low.mid: left out 1 note outside the piano's keys" in done.err
    json.loads(done.out)


# --- render and plot


def test_render_writes_a_sound_beside_the_piece(run, piece, tmp_path):
    done = run("render", piece)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{tmp_path / 'piece.wav'}: ")
    assert run("render", piece, "--out", "sub/other.wav").code == 0
    assert {"piece.wav", "sub/other.wav"} <= files(tmp_path)


def test_a_recording_beside_the_piece_stays(run, piece, tmp_path):
    (tmp_path / "piece.wav").write_bytes(b"a recording")
    for _ in range(2):
        assert run("render", piece).out.startswith(f"{tmp_path / 'piece-2.wav'}: ")
    assert (tmp_path / "piece.wav").read_bytes() == b"a recording"
    assert files(tmp_path) == {"piece.mid", "piece.wav", "piece-2.wav"}
    assert run("render", piece, "--out", tmp_path / "piece.wav").code == 0
    assert (tmp_path / "piece.wav").read_bytes() == (tmp_path / "piece-2.wav").read_bytes()


def test_a_sound_that_cannot_be_written_beside_the_piece(run, piece, tmp_path, monkeypatch):
    monkeypatch.setattr("music_generator.cli.media.TemporaryDirectory", full)
    assert_refused(run("render", piece), f"cannot write {tmp_path / 'piece.wav'}: No space left on device")
    assert files(tmp_path) == {"piece.mid"}


def test_render_writes_several_files_at_once(run, piece, tmp_path):
    shutil.copy(piece, tmp_path / "second.mid")
    done = run("render", piece, "second.mid", "--format", "flac", "--bits", 24, "--normalise", "none", "--out", "new")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 2
    assert {"new/piece.flac", "new/second.flac"} <= files(tmp_path)
    assert soundfile.info("new/piece.flac").subtype == "PCM_24"
    assert np.abs(soundfile.read("new/piece.flac")[0]).max() < 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("piece.mid", "--out", "new"), "two of the pieces would be written to new/piece.wav"),
        (("--normalise", "loud"), "`--normalise` must be one of peak, none, not 'loud'"),
        (("--bits", 8), "`--bits` must be 16 or 24, not 8"),
        (("--bits", 24, "--format", "mp3"), "a sample has 16 or 24 bits in a WAV or FLAC file, 16 elsewhere"),
        (("none.mid",), "none.mid: no such file"),
    ],
)
def test_render_refuses_what_cannot_be_written(run, piece, tmp_path, options, message):
    before = files(tmp_path)
    done = run("render", piece, *options)
    assert done.code == 2
    assert message in done.err
    assert files(tmp_path) == before


def test_score_measures_a_piece(run, piece, tmp_path):
    done = run("score", piece)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("25 events, ")
    assert [line.split()[0] for line in lines[1:6]] == ["total", "shift", "key", "velocity", "duration"]
    assert lines[6:] == [str(tmp_path / "piece-surprise.png")]
    facts = json.loads(run("score", piece, "--json", "--out", "roll.svg", "--composer", "chopin").out)
    assert facts["files"] == ["roll.svg"]
    assert {"roll.svg", "piece-surprise.png"} <= files(tmp_path)
    assert len(facts["events"]) == 25
    means = {name: np.mean([event["nats"][name] for event in facts["events"]]) for name in facts["events"][0]["nats"]}
    assert facts["nats_per_event"] == pytest.approx({"total": sum(means.values()), **means})
    (tmp_path / "roll.svg").unlink()
    assert json.loads(run("score", piece, "--json", "--no-plots").out)["files"] == []
    assert_refused(run("score", piece, "--composer", "Schopen"), "unknown composer")


def test_plot_draws_a_piece(run, piece, tmp_path):
    done = run("plot", piece)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [str(tmp_path / name) for name in ("piece.png", "piece-distributions.png")]
    assert run("plot", piece, "--out", "roll.svg").code == 0
    assert {"roll.svg", "roll-distributions.svg"} <= files(tmp_path)


# --- prepare, train, info


def test_prepare_a_maestro_folder(run, tiny_maestro, tmp_path):
    done = run("prepare", "maestro", "--from", tiny_maestro, "--out", "corpus/m", "--jobs", 1)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("train: 5 pieces, 1,4")
    assert lines[-1].startswith("corpus/m: 8 pieces in ")
    assert lines[-1].endswith("0 files skipped")
    assert files(tmp_path) == {"corpus/m/corpus.json", "corpus/m/tokens.npy"}


def test_prepare_in_shards_and_merge(run, tiny_maestro, tmp_path):
    arguments = ("prepare", "maestro", "--from", tiny_maestro, "--jobs", 1)
    whole = run(*arguments, "--out", "whole")
    assert_refused(run("merge", "parts"), "parts: no shards to merge; make each with `music-generator prepare")
    for part in (1, 2):
        done = run(*arguments, "--out", "parts", "--shard", f"{part}/2")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"parts/shards/{part}-of-2: 4 pieces in ")
    done = run("merge", "parts")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:3] == whole.out.splitlines()[:3]
    assert done.out.splitlines()[-1].startswith("parts: 8 pieces in ")
    assert files(tmp_path / "parts") == files(tmp_path / "whole") == {"corpus.json", "tokens.npy"}
    for name in files(tmp_path / "whole"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert_refused(
        run(*arguments, "--shard", "3/2"), "`--shard` must be I/N with I from 1 to N, such as 2/8, not '3/2'"
    )


def test_prepare_a_folder_with_a_bad_file(run, piece, tmp_path):
    (tmp_path / "mine").mkdir()
    piece.rename(tmp_path / "mine/good.mid")
    (tmp_path / "mine/bad.mid").write_bytes(b"MThd")
    done = run("prepare", "mine", "--jobs", 1)
    assert done.code == 0
    assert done.err.startswith("skipped bad.mid: ")
    assert "corpus/mine: 1 pieces" in done.out
    assert done.out.rstrip().endswith("1 files skipped")


def test_prepare_several_folders(run, tiny_maestro, piece, tmp_path):
    for name, source in (("asap/Chopin/a", piece), ("rolls/b", piece), ("rolls/c", tiny_maestro / "2004/piece-0.midi")):
        (tmp_path / f"{name}.mid").parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, tmp_path / f"{name}.mid")
    (tmp_path / "asap/bad.mid").write_bytes(b"MThd")
    arguments = ("prepare", "maestro", "--from", tiny_maestro, "--add", "asap=asap", "--add", "more-rolls=rolls")
    done = run(*arguments, "--jobs", 1)
    assert done.code == 0
    skipped, left_out = done.err.splitlines()
    assert skipped.startswith("skipped bad.mid of asap: ")
    assert left_out == "left out, because an earlier folder has pieces of the same notes: 2 of more-rolls"
    lines = done.out.splitlines()
    assert [line.split(" pieces")[0] for line in lines[:4]] == [
        "train: 6",
        "validation: 2",
        "test: 1",
        "train, asap: 1",
    ]
    assert lines[4].startswith("corpus/maestro-v3.0.0+asap+more-rolls: 9 pieces in ")
    facts = json.loads(run("info", "corpus/maestro-v3.0.0+asap+more-rolls", "--json").out)
    assert {tag: size["pieces"] for tag, size in facts["tags"].items()} == {"asap": 1}
    assert facts["tags"]["asap"]["rows"] > 0
    for part in (1, 2):
        assert run(*arguments, "--out", "parts", "--shard", f"{part}/2").code == 0
    merged = run("merge", "parts")
    assert (merged.out.splitlines()[:4], merged.err) == (lines[:4], left_out + "\n")


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (["rolls"], "`--add` must be TAG=FOLDER, such as rolls=midi/rolls, not 'rolls'"),
        (["a=mine", "a=empty"], "`--add` has the tag 'a' twice; give each folder a tag of its own"),
        (["My Rolls=mine"], "a tag must consist of a-z, 0-9, `-` and `_`, such as piano-rolls, not 'My Rolls'"),
        (["a=nowhere"], "nowhere: no such folder"),
        (["a=empty"], "empty: no MIDI files (.mid, .midi, .kar, .rmi, .smf) in it"),
    ],
)
def test_prepare_refuses_a_bad_folder_to_add_before_it_downloads(run, piece, tmp_path, added, message):
    for name in ("mine", "empty"):
        (tmp_path / name).mkdir()
    piece.rename(tmp_path / "mine/a.mid")
    for command in (("prepare", "maestro"), ("prepare", "mine")):
        assert_refused(run(*command, *(word for text in added for word in ("--add", text))), message)
    assert files(tmp_path) == {"mine/a.mid"}


def test_prepare_says_which_files_are_missing(run, tiny_maestro, tmp_path):
    shutil.copytree(tiny_maestro, tmp_path / "m")
    (tmp_path / "m/2004/piece-0.midi").unlink()
    done = run("prepare", "maestro", "--from", "m", "--out", "c", "--jobs", 1)
    assert done.code == 0
    assert "1 files of the metadata are missing, the first: 2004/piece-0.midi" in done.err


def test_prepare_and_info_check_the_audio_of_a_maestro_folder(run, tiny_maestro, tmp_path):
    shutil.copytree(tiny_maestro, tmp_path / "m")
    folder = tmp_path / "m"
    for recording in maestro.read_metadata(folder)[:7]:
        seconds = recording.duration_seconds * (0.5 if recording.title == "Piece 2" else 1)
        with wave.open(str(folder / recording.audio_filename), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(2000)
            file.writeframes(bytes(2 * round(2000 * seconds)))
    done = run("prepare", "maestro", "--from", "m", "--out", "c", "--jobs", 1)
    assert "6 of 8 recordings have a WAV file of their length" in done.err
    assert "shorter than its MIDI file" in done.err
    facts = json.loads(run("info", "m", "--json").out)
    assert len(facts["audio faults"]) == 2


TINY = ("--steps", 3, "--batch", 2, "--length", 24, "--threads", 1, "--precision", "float32")
SIZES = ("--size", 12, "--backward-size", 10, "--layers", 1)


@pytest.fixture(scope="module")
def trained(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run of three steps, and what it said."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("runs")
    arguments = ("train", tiny_corpus.folder, "--run", "run", *TINY, *SIZES)
    done = subprocess.run(
        [sys.executable, "-m", "music_generator", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout, done.stderr


@pytest.mark.slow
def test_train_ends_with_a_model(trained):
    folder, out, err = trained
    assert "step 3/3" in err
    assert "validation: " in err
    assert out.startswith("run/model: {")
    assert json.loads(out.split(": ", 1)[1])["continue"] > 0
    assert {"run.json", "history.csv", "loss.png", "last.safetensors", "best.safetensors"} <= files(folder)
    opened = open_bundle(folder)
    assert {"int8"} == set(opened.precisions)
    assert files(folder / "model") == {"bundle.json", "README.md", "LICENSE", *opened.files}


@pytest.mark.slow
def test_train_says_in_advance_what_it_will_do(trained):
    lines = trained[2].splitlines()
    assert re.fullmatch(r"[\d,]+ parameters, on \w+ in float32", lines[0])
    assert re.fullmatch(r"3 steps, of 2 windows and 48 tokens: [\d.]+ times the [\d,]+ tokens .*", lines[1])
    assert lines[2:5] == [
        "windows are transposed by up to 6 semitones, and 0.9 to 1.1 times as long",
        "validation after every 1 steps; training ends after 5 without a better one",
        "checkpoints in run, after every 250 steps and 5 minutes, and at Ctrl-C",
    ]


LONG = ("--batch", 2, "--length", 24, "--threads", 1, "--precision", "float32", *SIZES)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_run(run, tiny_corpus, tmp_path, number):
    pytest.importorskip("torch")
    from music_generator.training.checkpoint import read_checkpoint

    arguments = map(str, ("train", tiny_corpus.folder, "--run", "run", "--steps", 100_000, *LONG))
    with subprocess.Popen(
        [sys.executable, "-m", "music_generator", *arguments],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(line.startswith("about ") for line in process.stderr)  # after its first steps
        process.send_signal(number)
        last = process.stderr.read().splitlines()[-1]
        assert (process.stdout.read(), process.wait(timeout=60)) == ("", 130)
    step = read_checkpoint(tmp_path / "run/last.safetensors").state.step
    assert step >= 5
    again = f"music-generator train {tiny_corpus.folder} --resume run"
    assert last == f"interrupted and saved at step {step:,} of 100,000; go on with: {again}"
    done = run("train", tiny_corpus.folder, "--resume", "run", "--steps", step)
    assert (done.code, done.err) == (0, "")


STUCK = """
import sys, time
from music_generator.cli.main import main
from music_generator.training.trainer import Trainer

step = Trainer._step

def stuck(self, *arguments):
    if self.state.step == 5:
        print("about to be stuck", file=sys.stderr, flush=True)
        while True:
            time.sleep(0.01)
    return step(self, *arguments)

Trainer._step = stuck
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_second_signal_ends_at_once(tiny_corpus, tmp_path):
    pytest.importorskip("torch")
    arguments = ("train", tiny_corpus.folder, "--run", "run", "--steps", 100, *LONG)
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, *map(str, arguments)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("stuck" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM


@pytest.mark.slow
def test_a_folder_of_one_short_piece_trains(run, piece):
    assert run("prepare", piece.parent, "--out", "mine", "--jobs", 1).code == 0
    done = run("train", "mine", "--run", "run", "--threads", 1, *SIZES)
    assert done.code == 0
    assert "mine is small: windows of " in done.err
    assert "4 windows a step, which makes 64 steps instead of " in done.err
    assert (
        "no validation, as no piece is held out for it: every step is done, and the last weights are kept" in done.err
    )
    assert done.out == "run/model: {}\n"
    assert run(*fast("generate", "--seconds", 2, "--model", "run")).code == 0


@pytest.mark.slow
def test_piano_rolls_are_trained_on_under_their_tag(run, piece, tiny_maestro):
    (piece.parent / "rolls").mkdir()
    shutil.copy(piece, "rolls")
    prepared = run("prepare", "maestro", "--from", tiny_maestro, "--add", "rolls=rolls", "--out", "c", "--jobs", 1)
    assert prepared.code == 0
    assert run("train", "c", "--run", "run", *TINY, *SIZES).code == 0
    names = json.loads(run("composers", "--json", "--model", "run").out)
    assert names == ["Alban Berg", "Frédéric Chopin", "rolls"]


@pytest.mark.slow
def test_two_pieces_of_a_few_notes_train(run, tmp_path):
    (tmp_path / "mine").mkdir()
    for count in (3, 5):
        notes = np.array([(i / 2, 0.4, 60 + i, 64) for i in range(count)], NOTE_DTYPE)
        write_midi(Performance(notes), tmp_path / f"mine/{count}.mid")
    assert run("prepare", "mine", "--out", "corpus", "--jobs", 1).code == 0
    done = run("train", "corpus", "--run", "run", "--threads", 1, *SIZES)
    assert done.code == 0
    assert "infill_16" not in done.err  # no piece has a gap of 16
    assert set(json.loads(done.out.split(": ", 1)[1])) <= {"continue", "blind_4", "infill_4"}


@pytest.mark.slow
def test_a_finished_run_resumes_to_its_end(run, trained, tiny_corpus, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    history = (tmp_path / "run/history.csv").read_text("utf-8")
    shutil.rmtree(tmp_path / "run/model")
    done = run("train", tiny_corpus.folder, "--resume", "run")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("run/model: ")
    assert (tmp_path / "run/history.csv").read_text("utf-8") == history


@pytest.mark.slow
def test_a_trained_model_generates_and_is_trained_on(run, trained, tiny_corpus, tmp_path):
    for model in (trained[0], trained[0] / "model"):  # a run's folder stands for its model
        assert run(*fast("generate", "--seconds", 2, "--model", model)).code == 0
        assert json.loads(run("composers", "--json", "--model", model).out) == list(tiny_corpus.composers)
    arguments = ("train", tiny_corpus.folder, "--run", "further", "--model", trained[0], *TINY)
    done = run(*arguments, "--dropout", 0.5)
    assert done.code == 0
    facts = json.loads((tmp_path / "further/run.json").read_text("utf-8"))
    assert (facts["config"]["forward_size"], facts["config"]["dropout"]) == (12, 0.5)
    assert_refused(run(*arguments, *SIZES), "has its own cell, direction and sizes")
    assert_refused(run(*arguments), "further: already holds a run; continue it with --resume")


@pytest.mark.slow
def test_a_run_is_made_longer(run, trained, tiny_corpus, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    done = run("train", tiny_corpus.folder, "--resume", "run", "--steps", 5)
    assert done.code == 0
    assert "5 steps, 3 of them done" in done.err
    assert "step 5/5" in done.err
    assert done.out.startswith("run/model: ")
    rows = sum(tiny_corpus.pieces[i].rows for i in tiny_corpus.split("train"))
    done = run("train", tiny_corpus.folder, "--resume", "run", "--epochs", 6.5 * 48 / rows)
    assert "step 7/7" in done.err
    options = json.loads((tmp_path / "run/run.json").read_text("utf-8"))["options"]
    assert (options["steps"], options["windows"]["length"]) == (None, 24)
    assert_refused(run("train", tiny_corpus.folder, "--resume", "run", "--steps", 4), "7 steps are done, more than the")


@pytest.mark.slow
def test_a_run_ends_after_its_minutes(run, tiny_corpus):
    done = run("train", tiny_corpus.folder, "--run", "run", *TINY, *SIZES, "--steps", 50, "--minutes", 0.0001)
    assert done.code == 0
    assert "the run ends after 0.0001 minutes at the latest, and the learning rates fall by then" in done.err
    assert "validation after every tenth of the run; training ends after 5 without a better one" in done.err
    assert done.err.endswith("ended at step 1 of 50: 0.0001 minutes are over\n")
    done = run("train", tiny_corpus.folder, "--resume", "run", "--minutes", 0.0002)
    assert (done.code, done.err) == (0, "ended at step 1 of 50: 0.0002 minutes are over\n")
    done = run("train", tiny_corpus.folder, "--resume", "run", "--minutes", 60, "--steps", 3)
    assert "3 steps, 1 of them done" in done.err
    assert "step 3/3" in done.err


@pytest.mark.slow
def test_resume_takes_no_other_options(run, trained, tiny_corpus):
    for option in (("--batch", 9), ("--run", "other"), ("--model", "pretrained"), ("--steps", 9, "--patience", 1)):
        assert_refused(run("train", tiny_corpus.folder, "--resume", trained[0], *option), "leave all other options")


@pytest.mark.slow
def test_plot_draws_a_run(run, trained, tmp_path):
    done = run("plot", trained[0], "--out", "curves.png")
    assert (done.code, done.out) == (0, "curves.png\n")
    assert "curves.png" in files(tmp_path)


@pytest.mark.slow
def test_runs_are_compared(run, trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "other")
    done = run("compare", trained[0], "other")
    assert (done.code, done.err) == (0, "")
    names, first, second, picture = done.out.splitlines()
    assert names.split()[:5] == ["run", "cell", "direction", "parameters", "steps"]
    assert first.split()[:3] == ["run", "lstm", "both"]
    assert second.split()[1:] == first.split()[1:]
    assert picture == "compared.png"
    assert "compared.png" in files(tmp_path)
    done = run("compare", trained[0], "other", "--out", "curves.svg", "--json")
    facts = json.loads(done.out)
    assert (facts["files"], [each["run"] for each in facts["runs"]]) == (["curves.svg"], ["run", "other"])
    validation = open_bundle(trained[0]).provenance["validation"]
    assert facts["runs"][0]["nats"].keys() >= {"total", "shift", "key", "velocity", "duration"}
    assert facts["runs"][0]["nats"]["total"] == pytest.approx(validation["continue"]["total"], abs=0.05)
    changed = json.loads((tmp_path / "other/run.json").read_text("utf-8"))
    (tmp_path / "other/run.json").write_text(json.dumps(changed | {"digest": "of other music"}), "utf-8")
    assert "their numbers do not compare" in run("compare", trained[0], "other", "--no-plots").err


def test_compare_and_plot_say_what_a_folder_must_be(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(run("compare", "empty"), "empty: no training run (run.json is missing)")
    assert_refused(run("plot", "empty"), "empty: no training run (history.csv is missing); name one, or a MIDI file")


def info_of(run: Run, what: object) -> dict[str, Any]:
    plain, as_json = run("info", what), run("info", what, "--json")
    assert (plain.code, as_json.code) == (0, 0)
    facts = json.loads(as_json.out)
    assert f"kind: {facts['kind']}" in plain.out
    assert isinstance(facts, dict)
    return facts


def test_info_on_a_piece(run, piece):
    facts = info_of(run, piece)
    assert (facts["kind"], facts["notes"], facts["sustain presses"]) == ("MIDI file", 24, 1)


def test_info_on_a_piece_with_its_sound(run, piece):
    run("render", piece)
    audio = info_of(run, piece)["audio"]
    assert audio["file"] == "piece.wav"
    assert audio["sample rate"] > 0


def test_info_on_a_model_and_the_bundled_one(run, tiny_bundle):
    facts = info_of(run, tiny_bundle)
    assert (facts["kind"], facts["precisions"], facts["composers"]) == ("model", "int8, float32", 2)
    assert json.loads(run("info", "--json").out) == facts


def change_config(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / "bundle.json").read_text("utf-8"))
    facts["config"] |= changes
    (folder / "bundle.json").write_text(json.dumps(facts), "utf-8")


def test_what_can_be_checked_is_checked_before_a_piece_is_read(run):
    """A recording takes long to transcribe."""
    piece = ("generate", "--primer", "take.wav")
    assert_refused(run(*piece, "--model", "nowhere"), "nowhere: no model bundle")
    assert_refused(run("infill", "take.wav", "--from", 1, "--to", 2, "--model", "nowhere"), "nowhere: no model bundle")
    assert_refused(run("accompany", "take.wav", "--model", "nowhere"), "nowhere: no model bundle")
    assert_refused(run(*piece, "--recall", "2"), "`--recall` must be two seconds such as 12-20, not '2'")
    assert_refused(run(*piece), "take.wav")


def test_composers_are_those_of_the_model(run, tiny_bundle):
    assert run("composers") == Done(0, "Alban Berg\nFrédéric Chopin\n", "")
    done = run("composers", "--json", "--model", tiny_bundle)
    assert json.loads(done.out) == ["Alban Berg", "Frédéric Chopin"]
    assert_refused(run("composers", "--model", "nowhere"), "nowhere: no model bundle")
    change_config(Path(shutil.copytree(tiny_bundle, "none")), composers=[])
    assert run("composers", "--model", "none") == Done(0, "", "")


@pytest.mark.slow
def test_info_on_a_corpus_a_run_and_maestro(run, tiny_corpus, tiny_maestro, trained):
    assert info_of(run, tiny_corpus.folder)["train"]["pieces"] == 5
    assert info_of(run, trained[0])["steps done"] == 3
    assert info_of(run, tiny_maestro)["recordings"]["validation"] == "2 of 2"


@pytest.mark.slow
def test_info_on_a_damaged_run(run, trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    (tmp_path / "run/history.csv").write_text("step,tokens\n")
    assert_refused(run("info", "run"), "the history is damaged")
    (tmp_path / "run/run.json").write_text("{")
    assert_refused(run("info", "run"), "run.json is damaged")


def test_info_on_what_it_does_not_know(run, tmp_path):
    assert_refused(run("info", "nowhere"), "nowhere: no such file or folder")
    assert_refused(run("info", tmp_path), "neither a MIDI file nor a corpus, model, run or MAESTRO folder")


# --- bad input: MIDI files


def header(tracks: int = 1) -> bytes:
    return b"MThd" + bytes.fromhex("00000006 0001") + tracks.to_bytes(2, "big") + bytes.fromhex("01e0")


def track(events: str) -> bytes:
    data = bytes.fromhex(events) + bytes.fromhex("00 ff 2f 00")
    return b"MTrk" + len(data).to_bytes(4, "big") + data


NOTE = "00 90 3c 40 60 80 3c 40"
BAD_FILES = {
    "not MIDI": (b"PK\x03\x04 and so on", "not a MIDI file"),
    "empty": (b"", "the file is empty"),
    "cut off in its header": (header()[:10], "cut off in its header"),
    "cut off before a track": (header(2) + track(NOTE) + b"MTr", "cut off"),
    "cut off in a track": (header() + track(NOTE)[:-6], "cut off"),
    "longer than a day": (header() + track(NOTE + "ff ff ff 7f 90 3c 40" + "60 80 3c 40"), "longer than 24 hours"),
}


@pytest.mark.parametrize("what", BAD_FILES)
@pytest.mark.parametrize(
    "command",
    [
        ["generate", "--primer", "bad.mid"],
        ["generate", "--future", "bad.mid"],
        ["infill", "bad.mid", "--from", 1, "--to", 2],
        ["render", "bad.mid"],
        ["score", "bad.mid"],
        ["plot", "bad.mid"],
        ["info", "bad.mid"],
    ],
)
def test_a_bad_midi_file_is_refused(run, tmp_path, what, command):
    data, message = BAD_FILES[what]
    (tmp_path / "bad.mid").write_bytes(data)
    assert_refused(run(*command), "bad.mid", message)
    assert files(tmp_path) == {"bad.mid"}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["generate", "--primer", "bad.mid"], "the primer has no notes"),
        (["generate", "--future", "bad.mid"], "the passage has no notes"),
        (["infill", "bad.mid", "--from", 1, "--to", 2], "the piece has no notes"),
    ],
)
def test_a_midi_file_without_notes_is_refused(run, tmp_path, command, message):
    (tmp_path / "bad.mid").write_bytes(header() + track("00 b0 40 7f 60 b0 40 00"))
    assert_refused(run(*command), message)
    assert files(tmp_path) == {"bad.mid"}


def test_a_missing_primer_is_refused(run, tmp_path):
    assert_refused(run("generate", "--primer", "none.mid"), "none.mid: no such file")
    assert_refused(run("generate", "--primer", tmp_path), "cannot be read")


# --- bad input: gaps and options


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (100, 105, "the gap from 100.0 s lies outside the piece, which ends at 11.95 s"),
        (5, 5, "a gap must begin at 0 or later and end after it begins"),
        (6, 5, "`--from` is 6.0 s, `--to` is 5.0 s"),
        (-3, 5, "a gap must begin at 0 or later"),
        ("nan", 5, "a gap must begin at 0 or later"),
        (5, "inf", "must end within 24 hours"),
    ],
)
def test_a_gap_that_does_not_fit_is_refused(run, piece, tmp_path, start, end, message):
    assert_refused(run("infill", piece, "--from", start, "--to", end), message)
    assert files(tmp_path) == {"piece.mid"}


@pytest.mark.parametrize("temperature", [0, -1, "nan"])
def test_a_temperature_of_0_or_below_is_refused_with_the_reason(run, tmp_path, temperature):
    done = run("generate", "--temperature", temperature)
    assert_refused(done, "`--temperature` must be 0.01 to 10", "repeats itself endlessly", "try 0.8")
    assert not files(tmp_path)


def test_an_unknown_composer_is_refused_with_the_nearest(run, tmp_path):
    assert_refused(run("generate", "--composer", "Schopen"), "unknown composer 'Schopen'", "Frédéric Chopin")
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-p", 0], "`--top-p` must be above 0"),
        (["--seed", -1], "`--seed` must be 0 to"),
        (["--seconds", 0], "`--seconds` must be above 0"),
        (["--seconds", "nan"], "`--seconds` must be above 0"),
        (["--seconds", 1e6], "at most 86400"),
        (["--notes", 0], "`--notes` must be at least 1"),
        (["--variations", 0], "`--variations` must be at least 1"),
        (["--count", 0], "`--variations` must be at least 1"),
        (["--jobs", 0], "`--jobs` must be at least 1, not 0"),
        (["--shard", "1/2"], "`--shard` needs a `--seed`"),
        *(
            (["--seed", 1, "--shard", shard], f"`--shard` must be I/N with I from 1 to N, such as 2/8, not {shard!r}")
            for shard in ("", "0/3", "4/3", "1", "/", "a/b", "1/0", "-1/3", "1/3/5")
        ),
        (["--format", "midi"], "`--format` must be one of wav, flac, ogg, mp3"),
        (["--soundfont", "none.sf2"], "the SoundFont none.sf2 does not exist"),
        (["--from", 3], "name one with `--primer`"),
        (["--primer", "piece.mid", "--from", "nan"], "`--from` must be 0 to 11.95, the seconds of the primer"),
        (["--primer", "piece.mid", "--from", 0], "the primer before 0.0 s has no notes"),
        (["--future", "piece.mid", "--notes", 9], "give the length with `--seconds`"),
    ],
)
@pytest.mark.usefixtures("piece")
def test_options_that_do_not_fit_are_refused(run, tmp_path, arguments, message):
    assert_refused(run("generate", *arguments), message)
    assert files(tmp_path) == {"piece.mid"}


@pytest.mark.usefixtures("piece")
def test_evaluate_compares_as_much_music_as_asked_for(run, tiny_corpus):
    done = run("evaluate", ".", tiny_corpus.folder)
    assert done.code == 2
    assert "none of its 1 MIDI files can be evaluated; piece.mid: it lasts 12.0 s, less than 30 s" in done.err
    report = json.loads(run("evaluate", ".", tiny_corpus.folder, "--seconds", 8, "--json").out)
    assert report["distributions"]["files"]["seconds"] == report["structure"]["files"]["seconds"] == 8
    assert_refused(run("evaluate", ".", tiny_corpus.folder, "--seconds", 0), "`--seconds` must be above 0, not 0.0")


# --- bad input: models and corpora


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to damage."""
    return shutil.copytree(tiny_bundle, tmp_path / "model")


def test_no_model_folder(run, piece, tiny_corpus, tmp_path):
    for command in (["generate"], ["infill", piece, "--from", 1, "--to", 2]):
        done = run(*command, "--model", "nowhere")
        assert_refused(done, "nowhere: no model bundle (bundle.json is missing)", "nowhere/model", "`pretrained`")
    done = run("train", tiny_corpus.folder, "--model", "nowhere")
    assert_refused(done, "nowhere: no model bundle")
    done = run("evaluate", "nowhere", tiny_corpus.folder)
    assert_refused(done, "nowhere: no such folder; name `pretrained`, a model, a training run or a folder of MIDI")
    assert files(tmp_path) == {"piece.mid"}


def test_a_model_with_a_missing_file(run, copied):
    for name in open_bundle(copied).files:
        data = (copied / name).read_bytes()
        (copied / name).unlink()
        for command in (["generate", "--model", copied], ["info", copied]):
            assert_refused(run(*command), f"{name} is missing from the bundle")
        (copied / name).write_bytes(data)


@pytest.mark.parametrize("data", [b"", b"wrong"])
def test_a_model_with_a_wrong_file(run, copied, data):
    for name in open_bundle(copied).files:
        before = (copied / name).read_bytes()
        (copied / name).write_bytes(before + data if data else b"")
        assert_refused(run("generate", "--model", copied), f"{name} is not the file that bundle.json describes")
        (copied / name).write_bytes(before)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", f'{{"format": {FORMAT}}}'])
def test_a_model_with_damaged_facts(run, copied, text):
    (copied / "bundle.json").write_text(text)
    assert_refused(run("generate", "--model", copied), "bundle.json is damaged")


def test_a_model_of_another_version(run, copied):
    facts = json.loads((copied / "bundle.json").read_text("utf-8"))
    (copied / "bundle.json").write_text(json.dumps(facts | {"format": 99}), "utf-8")
    assert_refused(
        run("generate", "--model", copied), f"the bundle has format 99, this version reads format {FORMAT}; "
    )


def test_a_corpus_of_another_version(run, tiny_corpus, tmp_path):
    shutil.copytree(tiny_corpus.folder, tmp_path / "corpus")
    header = json.loads((tmp_path / "corpus/corpus.json").read_text("utf-8"))
    (tmp_path / "corpus/corpus.json").write_text(json.dumps(header | {"format": 99}), "utf-8")
    for command in ("train", "info"):
        assert_refused(run(command, "corpus"), "its format is 99", "prepare it again with `music-generator prepare`")
    assert files(tmp_path) == {"corpus/corpus.json", "corpus/tokens.npy"}


def test_no_corpus(run, tmp_path):
    assert_refused(run("train", "nowhere"), "no prepared corpus")
    assert_refused(run("prepare", "nowhere"), "nowhere: no such folder")
    assert_refused(run("prepare", "maestro", "--from", tmp_path), "this is not MAESTRO")
    assert_refused(run("prepare", "mine", "--from", tmp_path), "`--from` goes with `prepare maestro`")
    assert_refused(run("train", "nowhere", "--resume", "nowhere"), "no prepared corpus")
    assert not files(tmp_path)


def test_a_run_that_is_none(run, tiny_corpus, tmp_path):
    assert_refused(run("train", tiny_corpus.folder, "--resume", "nowhere"), "no training run")
    assert_refused(run("plot", tmp_path), "history.csv")
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"), [("--steps", 0), ("--epochs", 0), ("--cell", "cnn"), ("--direction", "back"), ("--batch", 0)]
)
def test_training_options_out_of_range(run, tiny_corpus, tmp_path, option, value):
    assert_refused(run("train", tiny_corpus.folder, option, value), option.strip("-"))
    assert not files(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("--layers", 0), "--layers"),
        (("--size", 0), "--size"),
        (("--length", 1), "--length"),
        (("--matrix-learning-rate", 0), "--matrix-learning-rate"),
        (("--save-minutes", 0), "--save-minutes"),
        (("--stretch", 0), "--stretch"),
        (("--longest-gap", 0), "--longest-gap"),
        (("--future-share", 2), "--future-share"),
    ],
)
def test_an_error_names_the_option_as_it_is_typed(run, tiny_corpus, arguments, option):
    pytest.importorskip("torch")
    done = run("train", tiny_corpus.folder, *arguments)
    assert_refused(done, f"`{option}`")
    assert not re.search("`[a-z]+_[a-z_]+`", done.err.replace("`shortest_gap`", ""))  # which has no option


def test_resume_with_another_corpus(run, trained, piece):
    run("prepare", piece.parent, "--out", "other", "--jobs", 1)
    before = {path: path.read_bytes() for path in trained[0].iterdir() if path.is_file()}
    assert_refused(run("train", "other", "--resume", trained[0]), "was trained on other music (maestro-v3.0.0)")
    assert {path: path.read_bytes() for path in before} == before


# --- bad input: a full disk, an unwritable folder


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "command",
    [
        fast("generate", "--seconds", 2),
        fast("infill", "piece.mid", "--from", 2, "--to", 3),
        ["render", "piece.mid"],
        ["plot", "piece.mid"],
        ["prepare", "data", "--jobs", 1],
    ],
)
def test_a_full_disk(run, piece, tmp_path, monkeypatch, command):
    (tmp_path / "data").mkdir()
    shutil.copyfile(piece, tmp_path / "data/a.mid")
    before = files(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("music_generator.sound.files._write", full)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", full)
    assert_refused(run(*command), "cannot write", "No space left on device")
    assert files(tmp_path) == before


def test_what_goes_wrong_in_one_of_several_processes_is_one_line(run, tiny_bundle, tmp_path):
    (tmp_path / "taken").write_text("a file")
    many = ("--count", 2, "--jobs", 2, "--model", tiny_bundle)
    assert_refused(run(*fast("generate", "--seconds", 2, "--out", "taken/deeper", *many)), "cannot write", "taken")
    assert_refused(run(*fast("generate", "--composer", "Schopen", *many)), "unknown composer 'Schopen'")
    assert files(tmp_path) == {"taken"}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (fast("generate", "--seconds", 2, "--out", "taken"), "it is a file, not a folder"),
        (fast("generate", "--seconds", 2, "--out", "taken/deeper"), "cannot write"),
        (["render", "piece.mid", "--out", "taken/a.wav"], "cannot write"),
        (["plot", "piece.mid", "--out", "taken/a.png"], "cannot write"),
        (["prepare", "data", "--out", "taken", "--jobs", 1], "exists and is not a corpus"),
        (["prepare", "data", "--out", "taken/c", "--jobs", 1], "cannot write"),
    ],
)
def test_an_unwritable_folder(run, piece, tmp_path, command, message):
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "data").mkdir()
    shutil.copyfile(piece, tmp_path / "data/a.mid")
    before = files(tmp_path)
    assert_refused(run(*command), message, "taken")
    assert files(tmp_path) == before


def test_an_unwritable_run_folder(run, tiny_corpus, tmp_path):
    (tmp_path / "taken").write_text("a file")
    assert_refused(
        run("train", tiny_corpus.folder, "--run", "taken", *TINY, *SIZES), "cannot write taken/last.safetensors"
    )
    assert files(tmp_path) == {"taken"}


def test_any_other_trouble_with_files_is_one_line(run, monkeypatch):
    monkeypatch.setattr("music_generator.describe.describe", full)
    assert_refused(run("info"), "No space left on device")


# --- as a program


def test_of_several_processes_another_than_the_first_waits_before_it_says_what_went_wrong(run, monkeypatch):
    """The launcher ends it meanwhile if the first one fails too: so the line is said once, and never lost."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert_refused(run("info", "nowhere"), "nowhere: no such file or folder")
    assert slept == []
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert_refused(run("info", "nowhere"), "nowhere: no such file or folder")
    assert slept == [cli.LAUNCH_SECONDS]


@pytest.mark.parametrize(("words", "code", "said"), [(["composers"], 0, "Chopin"), (["info", "nowhere"], 2, "no such")])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_one_of_several_processes_ends_at_once_and_says_everything(tmp_path, processes, words, code, said):
    script = "import atexit; atexit.register(print, 'taken down'); from music_generator.cli import main; main.main()"
    command, environment = [sys.executable, "-c", script, *words], os.environ | {"WORLD_SIZE": processes}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert ("taken down" in done.stdout) == (processes == "1")


def test_as_a_program(tmp_path):
    (tmp_path / "bad.mid").write_bytes(b"x")
    command = [sys.executable, "-m", "music_generator", "info", "bad.mid"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert_refused(Done(done.returncode, done.stdout, done.stderr), "not a MIDI file")


def test_stdout_takes_every_character(tmp_path):
    (tmp_path / "Étude.mid").write_bytes(write_midi(Performance()))
    for words in (["composers"], ["composers", "--json"], ["info", "Étude.mid"]):
        command = [sys.executable, "-m", "music_generator", *words]
        plain = os.environ | {"PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=plain, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        if words[-1] == "--json":
            assert "Frédéric Chopin" in json.loads(done.stdout)


def test_a_missing_extra_says_how_to_install_it(tiny_corpus, tmp_path):
    code = f"""
import sys
sys.modules["torch"] = None
import music_generator
from music_generator.cli import main as cli
from music_generator.data import maestro
sys.argv = ["music-generator", "train", {str(tiny_corpus.folder)!r}]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert_refused(Done(done.returncode, done.stdout, done.stderr), 'pip install ".[train]"')


def test_without_a_kernel_numpy_writes_the_same_and_says_so(run, tmp_path, monkeypatch):
    words = ("generate", "--seconds", 2, "--seed", 3, "--no-audio", "--no-plots", "--out")
    assert run(*words, "compiled").code == 0
    monkeypatch.setattr("music_generator.engine.kernel.vectors", lambda: None)
    done = run(*words, "numpy")
    assert done.code == 0
    assert "NumPy writes the same music, more slowly" in done.err
    one, other = (next((tmp_path / name).glob("*.mid")).read_bytes() for name in ("compiled", "numpy"))
    assert one == other


HOMELESS = """
import os, pwd, sys

def no_entry(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")

pwd.getpwuid = no_entry
from music_generator.cli.main import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no password file")
def test_a_user_without_a_home(tmp_path, tiny_bundle):
    """As in many containers: no entry in the password file, and no HOME."""
    words = ("generate", "--seconds", 2, "--seed", 1, "--model", tiny_bundle)
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS, *map(str, words)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert files(tmp_path) == {f"music/compose-seed1{end}" for end in (".mid", ".wav", ".png", "-distributions.png")}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_home_that_cannot_be_read(tmp_path, tiny_bundle):
    (tmp_path / "home").mkdir(mode=0)
    without_power = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]  # root reads everything
    prefix = without_power if os.geteuid() == 0 else []
    if prefix and (not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False).returncode):
        pytest.skip("root cannot give up its power to read everything here")
    words = ("generate", "--seconds", 2, "--seed", 1, "--model", tiny_bundle, "--out", tmp_path / "music")
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "music_generator", *map(str, words)],
        cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path / "home")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "music").iterdir())) == 4
