"""The whole bench in one run: `python benchmarks/bench.py --maestro FOLDER`, or `make bench`.

Prints and writes a table (`results.md`, `results.json`, `cost.png`): generation and its physical limit, long pieces,
sound, preparation and training, ours and the peers', one after another on one machine. Each measurement is a process of
its own. Peers are installed into an environment of their own, or skipped with the reason. Nothing else should be
running.

Exit code 1 if a measurement of ours failed, 2 if something that was named is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from processes import BAD_INPUT, HERE, BadInputError, Finished, NotMeasuredError, install, peer_python, run, script
from table import Results, Row, draw_cost, machine

COMMAND = [sys.executable, "-m", "music_generator"]
EVENTS_PER_NOTE = 4.0  # about what the 388-class encoding needs on this kind of music
NO_MAESTRO = "MAESTRO was not named (--maestro or MAESTRO_DIR)"


@dataclass(frozen=True)
class Sizes:
    """How much is measured: `seconds` of each of `pieces` pieces a repeat, and so on."""

    seconds: int = 60
    pieces: int = 5
    batches: int = 4  # of 64 pieces
    long_seconds: int = 3600
    lengths: tuple[int, ...] = (1_000, 10_000, 100_000)  # tokens
    predicted_notes: int = 100
    function_notes: int = 1_000
    events: int = 2_000
    files: int = 24
    training_steps: int = 40
    keras_steps: int = 100


QUICK = Sizes(
    seconds=10,
    pieces=1,
    batches=1,
    long_seconds=20,
    lengths=(100, 200, 400),
    predicted_notes=5,
    function_notes=20,
    events=20,
    files=3,
    training_steps=2,
    keras_steps=4,
)


class Bench:
    """A run: what was asked for, what was found, and what one measurement leaves for the next."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options, self.scratch = options, scratch
        self.sizes = QUICK if options.quick else Sizes()
        self.begun = time.perf_counter()
        self.found: dict[str, dict[str, Any]] = {}  # what our measurements printed, by name
        asked = {"repeats": options.repeats, "quick": options.quick, "peers": not options.no_peers}
        self.results = Results(machine(), asked, datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))
        facts = script("ours.py", "facts", *self.model, *(("--maestro", options.maestro) if options.maestro else ()))
        self.results.model, self.results.versions, self.files = facts["model"], facts["versions"], facts["files"]

    @property
    def model(self) -> list[str]:
        """The option that names the model."""
        return ["--model", str(self.options.model)] if self.options.model else []

    @cached_property
    def sample(self) -> Path:
        """A list of some of MAESTRO's files, evenly taken."""
        if not self.files:
            raise NotMeasuredError(NO_MAESTRO)
        path, every = self.scratch / "files.txt", max(1, len(self.files) // self.sizes.files)
        path.write_text("\n".join(self.files[::every][: self.sizes.files]), "utf-8")
        return path

    @cached_property
    def prepared(self) -> tuple[Path, list[Finished]]:
        """MAESTRO as a corpus, and the runs that made it."""
        if not self.files:
            raise NotMeasuredError(NO_MAESTRO)
        self.say("prepare")
        corpus = self.scratch / "corpus"
        command = [*COMMAND, "prepare", "maestro", "--from", self.options.maestro, "--out", corpus]
        return corpus, [run(command) for _ in range(self.options.repeats)]

    def say(self, what: str) -> None:
        print(f"{time.perf_counter() - self.begun:6.0f} s  {what}", file=sys.stderr, flush=True)

    def ours(self, what: str, *arguments: object, name: str = "", one_thread: bool = True) -> dict[str, Any]:
        """A measurement of ours, kept under its name."""
        self.say(f"ours: {name or what}")
        words = ["--repeats", str(self.options.repeats), *(str(argument) for argument in arguments)]
        self.found[name or what] = found = script("ours.py", what, *words, one_thread=one_thread)
        return found

    def generated(self, what: str, *arguments: object) -> dict[str, Any]:
        """A measurement of ours with the model asked for and pieces of the usual size."""
        return self.ours(what, *self.model, "--seconds", self.sizes.seconds, "--pieces", self.sizes.pieces, *arguments)

    def peer(self, modules: tuple[str, ...], file: str, *arguments: object) -> dict[str, Any]:
        """What a peer's script says; it needs some modules."""
        if self.options.no_peers:
            raise NotMeasuredError("--no-peers")
        for module in modules:
            install(module)
        words = ["--repeats", str(self.options.repeats), *(str(argument) for argument in arguments)]
        self.say(" ".join(["peer:", file, *(word for word in words[2:3] if word.isalpha())]))
        found = script(file, *words, python=peer_python())
        self.results.versions |= found["versions"]
        return found

    def faster(self, measurement: str, figure: str, peer: list[float]) -> float | None:
        """By how much a measurement of ours is faster than a peer's, if there is one."""
        mine = self.found.get(measurement)
        return statistics.median(mine[figure]) / statistics.median(peer) if mine else None

    def command(self, *arguments: object) -> list[Finished]:
        """Our command, so many times."""
        return [run([*COMMAND, *(str(argument) for argument in arguments)]) for _ in range(self.options.repeats)]


# --- the measurements: each gives its rows, or raises NotMeasuredError -------------------------------------------


def single(bench: Bench) -> list[Row]:
    found = bench.generated("single")
    by_numpy = found["numpy_tokens_per_second"]
    slower = bench.faster("single", "tokens_per_second", by_numpy)
    return [
        Row("one stream, one thread", "tokens/s", found["tokens_per_second"], peak_mb=found["peak_mb"], at_least=5_000),
        Row("the same by the NumPy reference", "tokens/s", by_numpy, slower),
        Row("music for each second of computing by it", "× real time", found["numpy_times_real_time"], at_least=50),
        Row("notes of it, without pedals", "notes/s", found["notes_per_second"]),
        Row("music for each second of computing", "× real time", found["times_real_time"]),
    ]


def batch(bench: Bench) -> list[Row]:
    rows = []
    for what, threads in ((BATCH, 1), (THREADS, os.cpu_count() or 1)):
        found = bench.generated("batch", "--batches", bench.sizes.batches, "--threads", threads)
        note = f"{found['pieces']} pieces of {bench.sizes.seconds} s" if threads == 1 else f"{threads} threads"
        rows.append(Row(what, "tokens/s", found["tokens_per_second"], peak_mb=found["peak_mb"], note=note))
    return rows


def batches(bench: Bench) -> list[Row]:
    found = bench.generated("batches", "--batches", bench.sizes.batches)
    note = f"{found['processes']} processes, {found['pieces']} pieces of {bench.sizes.seconds} s"
    return [Row(BATCHES, "tokens/s", found["tokens_per_second"], at_least=30_000, note=note)]


def first_note(bench: Bench) -> list[Row]:
    found = bench.generated("first_note")
    peak = found["peak_mb"]
    after = f"after {bench.sizes.seconds} s of music"
    return [
        Row("first note of a stream, model loaded", "ms", found["composing"], peak_mb=peak, at_most=50),
        Row(f"the same {after}", "ms", found["continuing"], at_most=50),
    ]


def cold_start(bench: Bench) -> list[Row]:
    bench.say("ours: cold start")
    common = ("--seed", 1, "--seconds", bench.sizes.seconds, "--out", bench.scratch / "music", *bench.model)
    bare = bench.command("generate", "--no-audio", "--no-plots", *common)
    whole = bench.command("generate", *common)
    asked = bench.command("--help")
    music = f"the .mid of {bench.sizes.seconds} s"

    def row(what: str, runs: list[Finished], at_most: float | None = None) -> Row:
        peak = max(each.peak_mb for each in runs)
        return Row(what, "s", [each.seconds for each in runs], peak_mb=peak, at_most=at_most)

    return [
        row(f"whole process, cold start to {music}", bare, 1.5),
        row("the same with sound and pictures", whole),
        row("`--help`, whole process", asked, 0.25),
    ]


def keras(what: str) -> Callable[[Bench], list[Row]]:
    def measure(bench: Bench) -> list[Row]:
        notes = bench.sizes.predicted_notes if what == "predict" else bench.sizes.function_notes
        found = bench.peer(("tensorflow",), "peer_keras.py", what, "--notes", notes)
        speeds = found["notes_per_second"]
        ratio = bench.faster("single", "tokens_per_second", speeds)
        wanted = 250 if what == "predict" else None
        return [Row(KERAS[what], "notes/s", speeds, ratio=ratio, peak_mb=found["peak_mb"], at_least=wanted)]

    return measure


def events(bench: Bench) -> list[Row]:
    found = bench.peer(("torch",), "peer_events.py", "--events", bench.sizes.events)
    notes = [speed / EVENTS_PER_NOTE for speed in found["events_per_second"]]
    ratio = bench.faster("single", "tokens_per_second", notes)
    note = f"{EVENTS_PER_NOTE:.0f} events a note, {found['parameters'] / 1e6:.2f} M parameters"
    return [Row(EVENTS, "notes/s", notes, ratio=ratio, peak_mb=found["peak_mb"], note=note)]


def limit(bench: Bench) -> list[Row]:
    found = bench.generated("limit")
    gigabytes = [rate / 1e9 for rate in found["bytes_per_second"]]
    size = f"{found['bytes_per_token'] / 1e6:.2f} MB"
    return [
        Row("weights that a token reads", "MB", [found["bytes_per_token"] / 1e6]),
        Row(f"bandwidth: {size} read again and again, one thread", "GB/s", gigabytes),
        Row("tokens that it allows", "tokens/s", found["allowed_tokens_per_second"]),
        Row("one stream, measured in turn with it", "tokens/s", found["tokens_per_second"]),
        Row("our share", "%", [100 * share for share in found["share"]], at_least=50),
    ]


def length(bench: Bench) -> list[Row]:
    lengths = bench.sizes.lengths
    found = bench.ours("length", *bench.model, "--tokens", lengths[-1], "--block", lengths[0])
    bench.results.cost = {name: found[name] for name in ("block", "microseconds")}
    rows, tenth = [], max(1, lengths[-1] // lengths[0] // 10)  # of the blocks: one alone may meet a slow moment
    for last in lengths:
        here = [costs[last // lengths[0] - 1] for costs in found["microseconds"]]
        rows.append(Row(f"a token, the last {lengths[0]:,} up to {last:,} tokens", "µs", here))
    grown = [statistics.median(costs[-tenth:]) / statistics.median(costs[:tenth]) for costs in found["microseconds"]]
    return [*rows, Row("the last tenth of them over the first", "×", grown, peak_mb=found["peak_mb"], at_most=1.1)]


def hour(bench: Bench) -> list[Row]:
    long = bench.sizes.long_seconds
    found = bench.generated("hour", "--long-seconds", long)
    peak = found["peak_mb"]
    shares = [100 * share for share in found["share_of_minute"]]
    return [
        Row(f"{long} s in one go, tokens to the .mid", "tokens/s", found["tokens_per_second"]),
        Row(f"{bench.sizes.seconds} s, measured in turn with it", "tokens/s", found["minute_tokens_per_second"]),
        Row("rate of the long piece in that of the short ones", "%", shares, at_least=90),
        Row(f"peak memory of {long} s in one go", "MB", [peak], peak_mb=peak, at_most=300),
    ]


def sound(bench: Bench) -> list[Row]:
    found = bench.generated("sound")
    what = f"{bench.sizes.seconds} s played on the grand piano, written as WAV"
    return [Row(what, "s", found["seconds"], peak_mb=found["peak_mb"], at_most=1)]


def preparation(bench: Bench) -> list[Row]:
    corpus, runs = bench.prepared
    facts = json.loads(run([*COMMAND, "info", corpus, "--json"]).output)
    pieces, notes = (sum(facts[name][key] for name in ("train", "validation", "test")) for key in ("pieces", "notes"))
    seconds, peak = [each.seconds for each in runs], max(each.peak_mb for each in runs)
    note = f"{pieces:,} files, {notes / 1e6:.1f} M notes, {os.cpu_count()} processes"
    return [
        Row("MAESTRO prepared, whole command", "s", seconds, peak_mb=peak, at_most=5, note=note),
        Row("files of it", "files/s", [pieces / each for each in seconds]),
    ]


def reading(bench: Bench) -> list[Row]:
    found = bench.ours("reading", "--files", bench.sample)
    count = len(bench.sample.read_text("utf-8").splitlines())
    note = f"{count} files, {found['notes']:,} notes"
    return [
        Row("MIDI files read, one process", "files/s", found["files_per_second"], peak_mb=found["peak_mb"], note=note)
    ]


def pretty_midi(bench: Bench) -> list[Row]:
    found = bench.peer(("pretty_midi",), "peer_reading.py", bench.sample)
    speeds, note = found["files_per_second"], f"the same files, {found['notes']:,} notes"
    ratio = bench.faster("reading", "files_per_second", speeds)
    return [Row(PRETTY_MIDI, "files/s", speeds, ratio=ratio, peak_mb=found["peak_mb"], note=note)]


def training(precision: str) -> Callable[[Bench], list[Row]]:
    def measure(bench: Bench) -> list[Row]:
        sizes = ("--steps", bench.sizes.training_steps, "--precision", precision)
        name = f"training {precision}"
        found = bench.ours("train", "--corpus", bench.prepared[0], *sizes, name=name, one_thread=False)
        note = f"{found['parameters'] / 1e6:.2f} M parameters, {found['threads']} threads"
        gigaflops = [rate / 1e9 for rate in found["multiply_per_second"]]
        shares = [100 * share for share in found["share"]]
        # of float32 where the machine has nothing else
        wanted = 60 if precision == "bfloat16" or "training bfloat16" not in bench.found else None
        speeds, peak = found["tokens_per_second"], found["peak_mb"]
        return [
            Row(f"ours, {precision}", "tokens/s", speeds, peak_mb=peak, note=note),
            Row(f"matrix multiplication, {precision}", "GFLOP/s", gigaflops),
            Row("our share, 6 × parameters × tokens", "%", shares, at_least=wanted),
        ]

    return measure


def keras_training(bench: Bench) -> list[Row]:
    needs = ("tensorflow", "pretty_midi")
    found = bench.peer(needs, "peer_keras.py", "train", "--files", bench.sample, "--steps", bench.sizes.keras_steps)
    speeds, note = found["windows_per_second"], f"one note each, {found['parameters'] / 1e6:.2f} M parameters"
    ratio = bench.faster("training float32", "tokens_per_second", speeds)
    return [Row(KERAS["train"], "windows/s", speeds, ratio=ratio, peak_mb=found["peak_mb"], note=note)]


BATCH = "batch of 64, one thread"
THREADS = "the same, a thread for each core"
BATCHES = "a batch of 64 in a process for each core, as `--jobs` does it"
KERAS = {
    "predict": "the notebook's network in Keras, one `predict` a note",
    "function": "the same, one `tf.function` a note",
    "train": "the notebook's network in Keras, float32",
}
EVENTS = "event LSTM of Performance RNN's size (3 × 512, 388 classes) in torch, one thread"
PRETTY_MIDI = "pretty_midi, one process"


@dataclass(frozen=True)
class Part:
    """A measurement: where its rows belong, what it is called where it was skipped, and whether it is a peer's."""

    section: str
    what: str
    measure: Callable[[Bench], list[Row]]
    peer: bool = False


PARTS = (
    Part("Generation", "one stream, one thread", single),
    Part("Generation", KERAS["predict"], keras("predict"), peer=True),
    Part("Generation", KERAS["function"], keras("function"), peer=True),
    Part("Generation", EVENTS, events, peer=True),
    Part("Generation", BATCH, batch),
    Part("Generation", BATCHES, batches),
    Part("Generation", "first note of a stream", first_note),
    Part("Generation", "whole process", cold_start),
    Part("Physical limit", "our share of the bandwidth", limit),
    Part("Length", "cost of a token along one stream", length),
    Part("Length", "one hour in one go", hour),
    Part("Sound", "the grand piano", sound),
    Part("Preparation", "MAESTRO prepared", preparation),
    Part("Preparation", "MIDI files read, one process", reading),
    Part("Preparation", PRETTY_MIDI, pretty_midi, peer=True),
    Part("Training", "ours, bfloat16", training("bfloat16")),
    Part("Training", "ours, float32", training("float32")),
    Part("Training", KERAS["train"], keras_training, peer=True),
)
SECTIONS = tuple(dict.fromkeys(part.section.lower().replace(" ", "-") for part in PARTS))


def measure_all(bench: Bench, only: list[str]) -> bool:
    """Measure the sections asked for into the results; whether all of ours went well."""
    well = True
    for part in PARTS:
        if only and part.section.lower().replace(" ", "-") not in only:
            continue
        try:
            rows = part.measure(bench)
        except NotMeasuredError as reason:
            bench.say(f"skipped: {part.what}: {reason}")
            well = well and (part.peer or not reason.failed)
            rows = [Row(part.what, skipped=str(reason))]
        except BadInputError as error:  # its text may hold paths: not for the file
            bench.say(f"skipped: {part.what}: {error}")
            well, rows = False, [Row(part.what, skipped="it was refused as bad input")]
        bench.results.sections.setdefault(part.section, []).extend(rows)
    bench.results.seconds = time.perf_counter() - bench.begun
    return well


def write(results: Results, folder: Path) -> str:
    """Leave the results in a folder; the report."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "cost.png"
    if results.cost:
        draw_cost(results.cost, picture)
    report = results.to_markdown(picture.name if results.cost else None)
    (folder / "results.md").write_text(report, "utf-8")
    (folder / "results.json").write_text(json.dumps(results.to_json(), ensure_ascii=False, indent=1) + "\n", "utf-8")
    return report


def parsed() -> argparse.Namespace:
    """What was asked for. Raises `BadInputError`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    maestro = os.environ.get("MAESTRO_DIR") or None
    parser.add_argument("--maestro", type=Path, default=maestro, help="its folder; MAESTRO_DIR if not given")
    parser.add_argument("--model", type=Path, help="a bundle; the bundled one if not given")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the results")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--no-peers", action="store_true", help="measure and install no peers")
    parser.add_argument("--only", nargs="+", default=[], choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    options = parser.parse_args()
    if options.repeats < 1:
        raise BadInputError(f"--repeats must be at least 1, not {options.repeats}")
    for name in ("maestro", "model"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            raise BadInputError(f"--{name}: the folder {folder} does not exist")
    if options.out.exists() and not options.out.is_dir():
        raise BadInputError(f"--out: {options.out} is a file, not a folder")
    return options


def main() -> int:
    """Measure, print and write."""
    try:
        options = parsed()
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(options, Path(scratch))
            if bench.results.machine["load"] > 0.3:
                bench.say(f"other processes are running (load {bench.results.machine['load']}): figures will be low")
            well = measure_all(bench, options.only)
    except BadInputError as error:
        print(f"bench: {error}", file=sys.stderr)
        return BAD_INPUT
    except NotMeasuredError as error:
        print(f"bench: {error}; is the package installed here?", file=sys.stderr)
        return 1
    print(write(bench.results, options.out))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
