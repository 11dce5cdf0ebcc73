"""What several modules' tests share: a corpus of made pieces, a network of a few units, and its bundle."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from music_generator.data import maestro
from music_generator.data.corpus import Corpus, open_corpus
from music_generator.data.prepare import prepare
from music_generator.music.features import distributions
from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Array, Performance
from music_generator.music.tokens import decode

if TYPE_CHECKING:
    from music_generator.model.bundle import Bundle
    from music_generator.model.network import Network

# before torch is imported, here and in the processes that tests start: with so few units threads only wait
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).parent
# of `studio_browser`, of `make_demo`, and of the benchmark `demo`
sys.path += [str(TESTS / "studio"), str(TESTS.parent / "tools"), str(TESTS.parent / "benchmarks")]

# markers whose tests must run: skipped, they fail (`REQUIRE=browser`)
REQUIRED = [name for name in os.environ.get("REQUIRE", "").split(",") if name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skipped test fail if a marker of its is required."""
    report = yield
    if report.skipped and any(item.get_closest_marker(name) for name in REQUIRED):
        report.outcome, report.longrepr = "failed", f"REQUIRE={','.join(REQUIRED)}, but it was skipped: {call.excinfo}"
    return report


COMPOSERS = ("Alban Berg", "Frédéric Chopin")
# parts of a network that begin as zeros
SILENT = (
    "time_to_go", "composer", "fuse_out", "key_next", "next_onset", "memory.to_", "memory.gate", "density", "loudness",
)  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "lstm": {},  # the tiny one: two layers forward, one backward
    "gru": {"cell": "gru", "memory": 0},
    "rnn": {"cell": "rnn", "forward_layers": 3, "memory": 100},
    "lstm-one-two": {"forward_layers": 1, "backward_layers": 2, "memory": 0, "steered": False},
    "lstm-forward": {"direction": "forward"},
    "gru-forward": {"cell": "gru", "direction": "forward", "forward_layers": 1, "steered": False},
}
SPLITS = ("train", "train", "train", "train", "train", "validation", "validation", "test")
NOTES = 300


def made_performance(seed: int, notes: int = NOTES) -> Performance:
    """A wandering melody with chords, rests, repeated keys and all three pedals; about six notes a second."""
    rng = np.random.default_rng(seed)
    made = np.empty(notes, NOTE_DTYPE)
    steps = rng.choice([0.0, 0.01, 0.08, 0.12, 0.25, 0.4, 1.2], notes, p=[0.15, 0.1, 0.2, 0.25, 0.2, 0.07, 0.03])
    made["onset"] = 0.5 + np.cumsum(steps)
    made["pitch"] = np.clip(60 + np.cumsum(rng.integers(-5, 6, notes)) % 40 - 20 + rng.choice([0, 12], notes), 24, 105)
    made["velocity"] = np.clip(64 + 20 * np.sin(np.arange(notes) / 15) + rng.normal(0, 8, notes), 1, 127)
    made["duration"] = np.clip(rng.lognormal(-1.2, 0.8, notes), 0.02, 8.0)
    beats = np.arange(0.4, made["onset"][-1], 1.7)
    pedals = np.empty(len(beats), PEDAL_DTYPE)
    pedals["onset"], pedals["duration"] = beats, rng.uniform(0.3, 1.5, len(beats))
    pedals["pedal"] = rng.choice([0, 1, 2], len(beats), p=[0.85, 0.05, 0.1])
    pedals["depth"] = rng.integers(64, 128, len(beats))
    return Performance(made, pedals)


def played(*notes: tuple[float, float, int], pedals: tuple[tuple[float, float, int], ...] = ()) -> Performance:
    """A performance of notes (onset, duration, pitch) and pedals (onset, duration, pedal)."""
    return Performance(
        np.array([(*note, 64) for note in notes], NOTE_DTYPE), np.array([(*press, 90) for press in pedals], PEDAL_DTYPE)
    )


@pytest.fixture(scope="session")
def tiny_maestro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight made pieces laid out as MAESTRO is: by year, with its CSV file."""
    folder = tmp_path_factory.mktemp("data") / "maestro-v3.0.0"
    folder.mkdir()
    with (folder / "maestro-v3.0.0.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(maestro.COLUMNS)
        for i, split in enumerate(SPLITS):
            year, performance = 2004 + i % 3, made_performance(i)
            name = f"{year}/piece-{i}"
            write_midi(performance, folder / f"{name}.midi")
            row = {
                "canonical_composer": COMPOSERS[i % 2],
                "canonical_title": f"Piece {i}",
                "split": split,
                "year": year,
                "midi_filename": f"{name}.midi",
                "audio_filename": f"{name}.wav",
                "duration": performance.end,
            }
            writer.writerow([row[column] for column in maestro.COLUMNS])
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tiny_maestro: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The prepared corpus of `tiny_maestro`: 5, 2 and 1 pieces of about 300 notes, two composers."""
    made = prepare(tiny_maestro, tmp_path_factory.mktemp("corpus") / "tiny", jobs=1)
    assert not made.skipped
    return open_corpus(made.folder)


@pytest.fixture(scope="session")
def tiny_network() -> Network:
    """A network of the default shape, 8 to 16 units a layer, untrained; not to be changed by a test."""
    torch = pytest.importorskip("torch", reason="the network needs torch, of the extra `train`")

    from music_generator.model.config import ModelConfig
    from music_generator.model.network import Network

    config = ModelConfig(
        forward_layers=2,
        forward_size=16,
        backward_layers=1,
        backward_size=12,
        input_size=10,
        head_size=14,
        memory=64,
        composers=COMPOSERS,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return woken(Network(config)).eval()


def woken(network: Network) -> Network:
    """The network with random weights where there are zeros at the start: a test would not see them used."""
    import torch

    with torch.no_grad():
        for name, weight in network.named_parameters():
            if any(part in name for part in SILENT):
                weight.normal_(std=0.5)
        if network.config.memory:  # it looks at many events, and what it says counts
            network.memory.to_context.weight.normal_(std=0.1)
            network.memory.null.fill_(0.25)
            network.memory.log_scale.fill_(1.5)
    return network


@pytest.fixture(scope="session")
def tiny_bundle(tiny_network: Network, tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle of `tiny_network`: both precisions; not to be changed by a test."""
    from music_generator.model.export import bundle_network
    from music_generator.training.release import shown_music

    reference = distributions(decode(tiny_corpus.piece_rows(i)) for i in tiny_corpus.split("train"))
    provenance = {
        "data": tiny_corpus.source,
        "licence": "made for the tests",
        "steps": 0,
        "tokens": 0,
        "validation": {},
    }
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    music = shown_music(tiny_corpus)
    bundle_network(tiny_network, folder, provenance, reference, music, precisions=("int8", "float32"))
    return folder


def rounded(network: Network) -> Network:
    """A copy of a network with its weights as a bundle has them: in float16."""
    from music_generator.model.network import Network

    copy = Network(network.config)
    copy.load_state_dict({name: value.half().float() for name, value in network.state_dict().items()})
    return copy.eval()


@pytest.fixture(scope="session", params=KINDS)
def exported(
    request: pytest.FixtureRequest,
    tiny_network: Network,
    tiny_bundle: Path,
    tiny_corpus: Corpus,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Network, Bundle]:
    """A network, rounded to float16, and its bundle, of each cell and direction, of one layer and several."""
    import torch

    from music_generator.model.bundle import open_bundle
    from music_generator.model.export import bundle_network
    from music_generator.model.network import Network
    from music_generator.training.release import shown_music

    if request.param == "lstm":
        return rounded(tiny_network), open_bundle(tiny_bundle)
    torch.manual_seed(2)
    network = rounded(woken(Network(replace(tiny_network.config, **KINDS[request.param]))))
    folder = tmp_path_factory.mktemp("bundle") / request.param
    music = shown_music(tiny_corpus)
    return network, bundle_network(network, folder, {}, distributions([]), music, precisions=("int8", "float32"))


def nucleus(chances: Array, top_p: float) -> Array:
    """The fewest likeliest classes that hold `top_p`, as they are then drawn."""
    order = np.argsort(-chances)
    kept = order[: np.searchsorted(np.cumsum(chances[order]), top_p) + 1]
    some = np.zeros(len(chances))
    some[kept] = chances[kept] / chances[kept].sum()
    return some


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the bundled model's demo."""
    pytest.importorskip("ziglang", reason="the demo's kernel is compiled by ziglang")
    pytest.importorskip("starlette", reason="the demo's info is the studio's, which needs starlette")
    from make_demo import make_demo

    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


@pytest.fixture(scope="session")
def node() -> str:
    """Return Node's path, or skip: older versions do not see that a .js file is an ES module."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("no Node here; modules of pages are tested with Node 20.19 or later")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)))[:2] < (20, 19):
        pytest.skip(f"Node {version.strip()} is here; modules of pages are tested with 20.19 or later")
    return path
