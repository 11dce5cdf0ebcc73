"""Short forms of `make stress`, and a small test for each thing that it found. Everything is made by code."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from music_generator.data.corpus import Corpus, open_corpus
from music_generator.engine.engine import Engine
from music_generator.errors import BundleError, CorpusError, InputError, MidiError
from music_generator.files import replacing, sweep
from music_generator.generation import SamplingOptions, compose
from music_generator.model.bundle import Bundle, open_bundle, write_bundle
from music_generator.model.config import ModelConfig
from music_generator.music import midi_file as midi_format
from music_generator.music.features import Distributions, distributions
from music_generator.music.midi import read_midi
from music_generator.sound import write_audio
from stress import disks
from stress.commands import Done, called, fault
from stress.midi import damaged, one_engine
from stress.mutations import DAMAGE, HEAVY, NOTE, PEDAL, midi_file, mutated, whole_files
from stress.server import Site, serving

pytestmark = pytest.mark.slow

STRESS = Path(__file__).parent


def refusal(error: type[Exception], call: Callable[[], Any]) -> str:
    """The text of what it raises, which is one line."""
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- damaged MIDI files


def test_every_file_of_a_seed_is_the_same_again_and_some_are_taken():
    files = [mutated(number, million=100) for number in range(400)]
    assert files == [mutated(number, million=100) for number in range(400)]
    assert {name for name, _ in files} >= {mutation.__name__ for mutation in DAMAGE}
    assert all(read_midi(data) is not None for data in whole_files())


def test_hundreds_of_damaged_files(tmp_path, monkeypatch, tiny_bundle):
    monkeypatch.chdir(tmp_path)
    with one_engine():
        found = [outcome for number in range(180) for outcome in damaged(number, 7, tiny_bundle, 1000)]
    assert [f"{outcome}" for outcome in found if outcome.fault] == []
    assert {outcome.code for outcome in found} == {0, 2}


@pytest.mark.parametrize("heavy", HEAVY)
def test_thousands_of_one_event(tmp_path, heavy):
    for seed in range(3):
        (tmp_path / "bad.mid").write_bytes(heavy(np.random.default_rng(seed), 4000))
        assert fault(called("info", tmp_path / "bad.mid")) is None


@pytest.mark.parametrize(
    ("done", "wrong"),
    [
        (Done(0, "made", ""), None),
        (Done(2, "", "music-generator: a.mid: it is no MIDI file\n"), None),
        (Done(2, "", "a.mid: left out 3 drum notes\nmusic-generator: the primer has no notes\n"), None),
        (
            Done(
                2,
                "",
                "7,000 parameters, on cpu in bfloat16\n3 steps, of 2 windows\nmusic-generator: full\n",
            ),
            None,
        ),
        (Done(None, "", "Traceback\nValueError: x\n"), "ended with None: ValueError: x"),
        (Done(2, "", "music-generator: a\nb\n"), "refused in 2 lines"),
        (Done(2, "half", "music-generator: a\n"), "something is on stdout"),
        (Done(2, "", "music-generator: \x1b[31m\n"), "cannot be read"),
        (Done(1, "", ""), "ended with 1"),
        (Done(0, "", "Exception ignored in x\nTraceback\nOSError: y\n"), "a traceback: OSError: y"),
    ],
)
def test_what_is_a_fault(done, wrong):
    assert fault(done) is None if wrong is None else wrong in fault(done)


def test_absurdly_large_files_are_refused_before_they_are_read(tmp_path):
    assert "it has over 1000 tracks" in refusal(MidiError, lambda: read_midi(midi_file(*[PEDAL] * 65_534)))
    programs = b"".join(bytes([0, 0xC0 | i & 15, i >> 4]) + NOTE for i in range(2048))
    many = read_midi(midi_file(programs, programs, programs), track="all")  # program changes cost nothing
    assert (many.tracks, len(many.parts)) == (3, 3)
    path = tmp_path / "endless.mid"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole, and no bytes on the disk
    assert "it is larger than 8.5 MB, which no performance is" in refusal(MidiError, lambda: read_midi(path))


def test_a_million_notes_at_one_tick():
    struck = np.tile(np.frombuffer(bytes.fromhex("00 90 3c40"), np.uint8), 1_000_000).tobytes()
    assert len(read_midi(midi_file(struck)).performance) == 1  # each ends the one before, the last is held
    released = b"\x60\x80\x3c\x40" + b"\0\x80\x3c\x40" * 999_999
    assert len(read_midi(midi_file(struck + released)).performance) == 1


def test_pedals_of_many_tracks_are_as_of_one_by_one():
    random = np.random.default_rng(4)
    tracks = []
    for _ in range(30):
        steps, values = random.integers(0, 40, 12), random.choice([0, 63, 64, 90, 127], 12)
        numbers, channels = random.choice([64, 66, 67, 7], 12), random.integers(0, 2, 12)
        tracks.append(
            b"".join(map(bytes, zip(steps, 0xB0 + channels, numbers, values, strict=True))) + b"\x05" + NOTE[1:4]
        )
    alone = [read_midi(midi_file(track + b"\x01\x80\x3c\x40")).performance.pedals for track in tracks]
    together = read_midi(midi_file(*(track + b"\x01\x80\x3c\x40" for track in tracks))).performance.pedals
    for pedal in range(3):
        # when the pedal is down, counted on a grid finer than a tick
        grid = np.arange(0, 1.0, 1 / 1920)
        is_down = np.zeros(len(grid), bool)
        for press in np.concatenate(alone):
            if press["pedal"] == pedal:
                is_down |= (grid >= press["onset"] - 1e-9) & (grid < press["onset"] + press["duration"] - 1e-9)
        mine = together[together["pedal"] == pedal]
        found = (
            (grid[:, None] >= mine["onset"] - 1e-9) & (grid[:, None] < mine["onset"] + mine["duration"] - 1e-9)
        ).any(1)
        assert len(mine)
        assert (found == is_down).all()


# --- kill -9


def test_killed_at_random_moments():
    command = [sys.executable, "-m", "stress.kill", "download", "prepare", "--kills", "2"]
    done = subprocess.run(command, cwd=STRESS.parent, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 kills in runs of") == 2


def test_a_run_can_be_resumed_from_its_first_moment(tiny_corpus: Corpus, tmp_path: Path):
    pytest.importorskip("torch", reason="training needs torch, of the extra `train`")
    from music_generator.data.windows import WindowOptions
    from music_generator.training.checkpoint import read_checkpoint
    from music_generator.training.history import HISTORY_FILE
    from music_generator.training.options import LAST_FILE, TrainingOptions
    from music_generator.training.trainer import Trainer

    config = ModelConfig(forward_size=8, backward_size=8, input_size=8, head_size=8)
    windows = WindowOptions(batch=2, length=16)
    options = TrainingOptions(steps=2, precision="float32", log_every=1, validation_segments=1, windows=windows)
    Trainer(tiny_corpus, tmp_path / "whole", config, options).run()
    Trainer(tiny_corpus, tmp_path / "killed", config, options)  # killed before its first step
    (tmp_path / "killed" / HISTORY_FILE).touch()  # and as it began to write its first line
    (tmp_path / "killed" / ".last-0123abcd.safetensors").write_bytes(b"half")
    Trainer(tiny_corpus, tmp_path / "killed", config, options, resume=True).run()
    first, second = (read_checkpoint(tmp_path / name / LAST_FILE).tensors for name in ("whole", "killed"))
    assert all(bool((first[name] == second[name]).all()) for name in first)
    heads = [(tmp_path / name / HISTORY_FILE).read_text().splitlines()[0] for name in ("whole", "killed")]
    assert heads[0] == heads[1]
    assert heads[0].startswith("step,")
    assert not list((tmp_path / "killed").glob(".*"))


def test_what_killed_writers_left_is_swept(tmp_path: Path):
    (tmp_path / ".mine").touch()
    (tmp_path / ".model-a1b2c3d4").mkdir()
    (tmp_path / ".model-a1b2c3d4-old").mkdir()
    with replacing(tmp_path / "history.csv") as beside:
        beside.write_text("kept")
    with replacing(tmp_path / "x.safetensors") as beside:
        beside.write_text("half")
        sweep(tmp_path)
        assert not beside.exists()
        beside.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "history.csv", "x.safetensors"]
    sweep(tmp_path / "nowhere")


def test_a_bundle_is_never_half_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The old one is put aside before the new one comes, not emptied file by file."""
    seen: list[list[str]] = []
    real = shutil.rmtree

    def rmtree(path: Path, **options: Any) -> None:
        seen.append(sorted(each.name for each in (tmp_path / "bundle").iterdir()))
        real(path, **options)

    def one_file(beside: Path) -> None:
        (beside / "file.safetensors").write_text("x")

    for _ in range(2):
        monkeypatch.setattr(shutil, "rmtree", rmtree)
        write_bundle(tmp_path / "bundle", ModelConfig(), {}, distributions([]), one_file)
    assert len(seen) == 4
    assert all(names == ["bundle.json", "file.safetensors"] for names in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


POOL = """
import multiprocessing, time
from music_generator.parallel import map_in_processes

for _ in map_in_processes(time.sleep, (0, 0), 1):
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what processes there are is read from /proc")
def test_no_worker_outlives_a_killed_parent():
    with subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = Path(f"/proc/{int(parent.stdout.readline())}/stat")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    end = time.monotonic() + 20
    while is_alive(worker) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_alive(worker)


def is_alive(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# --- disks, and what comes from the web


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    disks.archive_of(tmp_path)
    return tmp_path


def test_full_and_read_only_disks(scratch: Path):
    tally = disks.Tally()
    runs = disks.commands(scratch, with_training=False)
    for name in ("render", "prepare"):
        disks.full_disks(name, runs[name], scratch, 3, tally)
    disks.read_only({name: runs[name] for name in ("render", "prepare", "infill")}, scratch, tally)
    assert tally.findings == []
    if tally.skipped:
        pytest.skip("; ".join(tally.skipped))
    assert tally.refused >= 5


def test_what_comes_from_the_web(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "*")
    tally = disks.Tally()
    disks.from_the_web(scratch, tally)
    disks.metadata(scratch, tally)
    assert tally.findings == []
    assert tally.tried == tally.refused == 12


def test_a_download_cut_by_a_full_disk_is_told(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "*")
    tally = disks.Tally()
    with serving(Site((scratch / "served.zip").read_bytes(), 0)) as site, disks.release_of(site):
        download = disks.commands(scratch, with_training=False)["download"]
        with disks.disk(scratch / "disk", 300) as there:
            if not there:
                pytest.skip("no tmpfs can be mounted here")
            tally.take("download", download(scratch / "disk"), "are free", "No space left")
    assert tally.findings == []
    assert tally.refused == 1


def test_a_sound_that_cannot_be_opened_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from music_generator.music.performance import NOTE_DTYPE, Performance
    from music_generator.sound import render

    (tmp_path / "a.wav").mkdir()
    (tmp_path / "a.wav" / "full").touch()
    sound = render(Performance(np.array([(0, 0.1, 60, 64)], NOTE_DTYPE)))
    assert "cannot write" in refusal(InputError, lambda: write_audio(tmp_path / "a.wav", sound))
    assert capsys.readouterr().err == ""


# --- models of strangers


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be made hostile."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "model"))


def signed(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda _: None) -> Bundle:
    """The bundle opened, after its facts were changed and every size and sum put right: a stranger's would be right."""
    facts = json.loads((folder / "bundle.json").read_text("utf-8"))
    for name, entry in facts["files"].items():
        data = (folder / name).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(facts)
    (folder / "bundle.json").write_text(json.dumps(facts), "utf-8")
    return open_bundle(folder)


RUNTIME = "runtime.int8.safetensors"


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Bundle:
    """The bundle with other tensors in its runtime file, signed."""
    tensors = load_file(folder / RUNTIME)
    change(tensors)
    save_file(tensors, folder / RUNTIME)
    return signed(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop("fuse.weight"), "tensor 'fuse.weight' must be int8 of 14×14, but is missing"),
        (lambda t: t.update({"more": np.zeros(3, np.float32)}), "tensor 'more' is not one of this model's"),
        (lambda t: t.update({"fuse.weight": np.zeros((14, 13), np.int8)}), "but is int8 of 14×13"),
        (lambda t: t.update({"fuse.weight": np.zeros((14, 14), np.uint8)}), "but is uint8 of 14×14"),
        (
            lambda t: t.update({"fuse.bias": np.full(14, np.nan, np.float32)}),
            "tensor 'fuse.bias' holds NaN or infinity",
        ),
        (lambda t: t["forward.key"].__setitem__((3, 2), np.inf), "tensor 'forward.key' holds NaN or infinity"),
    ],
)
def test_hostile_tensors_are_never_used(copied: Path, change: Callable[[dict[str, Any]], Any], text: str):
    engine = Engine(changed(copied, change))
    said = refusal(BundleError, lambda: compose(engine, 1.0, SamplingOptions(seed=1)))
    assert said.startswith(f"{copied / RUNTIME}: ")
    assert text in said
    assert "backend" not in vars(engine)


@pytest.mark.parametrize("value", [3e38, -3e38, 1e-40])
def test_absurd_numbers_lead_to_tokens_or_to_a_refusal(copied: Path, value: float):
    """Whatever the finite numbers of a stranger's bundle are: classes stay classes, and time does not run away."""

    def spoil(tensors: dict[str, Any]) -> None:
        for tensor in tensors.values():
            if tensor.dtype == np.float32:
                tensor[:] = value

    with suppress(BundleError):
        assert compose(Engine(changed(copied, spoil)), 2.0, SamplingOptions(seed=1)).tokens < 2000


def test_bytes_that_are_no_tensors_are_refused(copied: Path):
    whole, random = (copied / RUNTIME).read_bytes(), np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in random.integers(0, 4000, 4):
            data[at] = random.integers(256)
        (copied / RUNTIME).write_bytes(data[: random.integers(len(data))] if random.random() < 0.5 else data)
        try:
            compose(Engine(signed(copied)), 0.5, SamplingOptions(seed=1))
        except BundleError:
            refused += 1
    assert refused > 75
    for data in (b"", b"\x0b", b"\xff" * 20, b"\x08\0\0\0\0\0\0\0{}      "):
        (copied / RUNTIME).write_bytes(data)
        text = refusal(BundleError, lambda: compose(Engine(signed(copied)), 0.5))
        assert RUNTIME in text


def test_links_out_of_the_folder_are_refused(copied: Path):
    outside = copied.parent / "outside.safetensors"
    shutil.move(copied / RUNTIME, outside)
    (copied / RUNTIME).symlink_to(outside)
    text = refusal(BundleError, lambda: open_bundle(copied))
    assert "names a file outside the bundle: 'runtime.int8.safetensors'" in text


def test_a_link_to_the_folder_itself_is_as_good(copied: Path):
    (copied.parent / "link").symlink_to(copied)
    assert open_bundle(copied.parent / "link").files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("..", "names a file outside the bundle"),
        ("code.py", "only .safetensors files are loaded"),
        ("weights.pt", "only .safetensors files are loaded"),
    ],
)
def test_other_names_in_the_manifest(copied: Path, name: str, text: str):
    if name != "..":
        (copied / name).write_bytes(b"x")
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    assert text in refusal(BundleError, lambda: signed(copied, lambda facts: facts["files"].update({name: entry})))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f["files"][RUNTIME].update(bytes=1 << 40), "the limit is 2147483648"),
        (lambda f: f["config"].update(forward_size=10**12), "`forward_size` must be at least 1 and at most 16384"),
        (lambda f: f["config"].update(forward_layers=10**6), "`forward_layers` must be at least 1 and at most 64"),
        (lambda f: f["config"].update(head_size=14.5), "a whole number, not 14.5"),
        (lambda f: f["config"].update(composers=[1, 2]), "`composers` must be names"),
        (lambda f: f["reference"].update(pitch=[1, 2]), "not one count for each bin of pitch"),
        (lambda f: f["reference"].update(step=[1 << 70] * 50), "bundle.json is damaged"),
        (lambda f: f.update(provenance="none"), "bundle.json is damaged"),
    ],
)
def test_absurd_facts_are_refused(copied: Path, change: Callable[[dict[str, Any]], Any], text: str):
    assert text in refusal(BundleError, lambda: signed(copied, change))


def test_absurd_json_is_refused(copied: Path, tiny_corpus: Corpus, tmp_path: Path):
    facts = copied / "bundle.json"
    facts.write_text("[" * 100_000)
    assert "bundle.json is damaged (RecursionError" in refusal(BundleError, lambda: open_bundle(copied))
    with facts.open("wb") as file:
        file.truncate(1 << 40)
    assert "bundle.json is larger than 4 MB" in refusal(BundleError, lambda: open_bundle(copied))
    corpus = Path(shutil.copytree(tiny_corpus.folder, tmp_path / "corpus"))
    (corpus / "corpus.json").write_text("[" * 100_000)
    assert "the corpus is damaged" in refusal(CorpusError, lambda: open_corpus(corpus))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("[" * 100_000)
    assert fault(done := called("info", tmp_path / "run")) is None
    assert done.code == 2


def test_weights_are_loaded_only_if_they_are_listed_and_fit(copied: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="the weights are for training, of the extra `train`")
    from music_generator.model import export

    monkeypatch.setattr(export, "load_file", lambda *_: pytest.fail("it was loaded"))
    vast = signed(copied, lambda facts: facts["config"].update(forward_size=16_384, forward_layers=64))
    text = refusal(BundleError, lambda: export.load_network(vast))
    assert "weights.safetensors does not fit its configuration: size mismatch for " in text
    unlisted = signed(copied, lambda facts: facts["files"].pop("weights.safetensors"))
    assert "lists no weights.safetensors" in refusal(BundleError, lambda: export.load_network(unlisted))


def test_distributions_of_other_bins_are_refused():
    whole = distributions([]).to_json()
    assert Distributions.from_json(whole).to_json() == whole
    with pytest.raises(ValueError, match="not one count for each bin of velocity"):
        Distributions.from_json(whole | {"velocity": [0] * 31})


def test_limits_are_as_the_documentation_says():
    text = (STRESS.parents[1] / "docs" / "trust.md").read_text("utf-8")
    assert f"{midi_format.LARGEST_BYTES / 1e6} MB" in text
    assert f"{midi_format.MOST_TRACKS:,} tracks" in text


# --- many clients of a studio


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="memory and files are read from /proc")
def test_a_few_clients_of_a_studio(tmp_path, monkeypatch):
    """As the long one, without those that take twenty seconds to be refused."""
    pytest.importorskip("starlette", reason="the studio needs starlette, of the extra `studio`")
    pytest.importorskip("httpx2", reason="the clients need httpx2")
    from stress import studio

    monkeypatch.chdir(tmp_path)
    for slow in (studio.slow, studio.slow_head):
        monkeypatch.delitem(studio.ACTIONS, slow)
    tally = studio.soak(studio.parsed(["--clients", "8", "--minutes", "0.05", "--pause", "0.2"]))
    assert tally.findings == []
    assert tally.answers["afterwards"] == {"200": 1}
    assert {"upload", "write"} < set(tally.answers)
    assert tally.megabytes
    assert max(tally.megabytes) > 10


@pytest.mark.parametrize(
    ("status", "text", "wrong"),
    [
        (500, "Internal Server Error", "500, not 200"),
        (403, '{"error": "no"}', "403, not 200"),
        (429, '{"error": {"code": "busy", "message": "busy\\nand busy"}}', "a line that cannot be read"),
    ],
)
def test_an_answer_of_a_studio_that_is_a_finding(status, text, wrong):
    from stress import studio

    with pytest.raises(studio.FoundError, match=wrong):
        studio.check(status, 200, text)


def test_memory_that_grows_is_a_finding():
    from stress import studio

    tally = studio.Tally()
    assert studio.growth([100.0] * 200 + [111.0] * 100, tally) == "100 / 100 / 111"
    assert len(tally.findings) == 1
    assert studio.growth([50.0] * 100 + [100.0] * 100 + [109.0] * 100, tally) == "50 / 100 / 109"
    assert len(tally.findings) == 1
