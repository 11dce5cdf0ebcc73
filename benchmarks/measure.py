"""The figures of the README, measured on this machine: `python benchmarks/measure.py --maestro DIR`.

Medians of several runs, each a process of its own where a user would start one. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COMMAND = [sys.executable, "-m", "music_generator.cli"]


def run(*arguments: str) -> tuple[float, str]:
    """Wall seconds and stdout of one run of the command."""
    begun = time.perf_counter()
    done = subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, done.stdout


def generation(scratch: Path, repeats: int) -> dict[str, str]:
    """Cold start, speed and memory of `generate`."""
    out = ["--out", str(scratch / "music")]
    cold = [run("generate", "--seed", str(i), "--no-audio", "--no-plots", *out)[0] for i in range(repeats)]
    whole = [run("generate", "--seed", str(i), *out)[0] for i in range(repeats)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # KiB on Linux; before torch is started
    return {
        "cold start to the .mid of 60 s, whole process": f"{statistics.median(cold):.2f} s",
        "the same with sound and pictures": f"{statistics.median(whole):.2f} s",
        "peak memory of `generate` with sound and pictures": f"{peak:.0f} MiB",
    }


def single_stream(repeats: int) -> dict[str, str]:
    """Tokens a second of the whole pipeline, tokens to `Performance`, one thread."""
    from music_generator.generation import Engine, SamplingOptions, compose
    from music_generator.model.bundle import open_bundle

    engine = Engine(open_bundle())
    compose(engine, 5, SamplingOptions(seed=0))
    made = [compose(engine, 60, SamplingOptions(seed=seed)) for seed in range(repeats)]
    speed = statistics.median(piece.tokens_per_second for piece in made)
    real_time = statistics.median(60 / piece.seconds_taken for piece in made)
    return {"generation, one stream, one thread": f"{speed:,.0f} tokens/s ({real_time:.0f} times real time)"}


def preparation(maestro: Path, scratch: Path) -> dict[str, str]:
    """Seconds to prepare MAESTRO, and what came of it."""
    arguments = ["prepare", "maestro", "--from", str(maestro), "--out", str(scratch / "corpus")]
    seconds = statistics.median(run(*arguments)[0] for _ in range(3))
    facts = json.loads(run("info", str(scratch / "corpus"), "--json")[1])
    notes = ", ".join(f"{facts[name]['notes']:,} {name}" for name in ("train", "validation"))
    pieces = sum(facts[name]["pieces"] for name in ("train", "validation", "test"))
    return {f"preparing {pieces} files ({notes} notes)": f"{seconds:.1f} s"}


def training(corpus: Path, scratch: Path, steps: int) -> dict[str, str]:
    """Tokens a second of training the default model, and the matrix multiplication of the same machine."""
    import torch

    from music_generator.corpus import open_corpus
    from music_generator.model.config import ModelConfig
    from music_generator.training.loop import Trainer, TrainingOptions

    opened = open_corpus(corpus)
    found = {}
    for precision in ("bfloat16", "float32"):
        options = TrainingOptions(steps=10_000, log_every=5, precision=precision)
        trainer = Trainer(opened, scratch / precision, ModelConfig(composers=opened.composers), options)
        speeds: list[float] = []
        trainer.run(lambda progress, speeds=speeds: speeds.append(progress.tokens_per_second), until=steps)  # type: ignore[misc]
        speed = statistics.median(speeds[1:])
        parameters = sum(weight.numel() for weight in trainer.network.parameters())
        multiply = _multiply(torch.bfloat16 if precision == "bfloat16" else torch.float32)
        share = 6 * parameters * speed / multiply
        found[f"training, {parameters / 1e6:.2f} M parameters, {precision}"] = (
            f"{speed:,.0f} tokens/s ({share:.0%} of this machine's matrix multiplication)"
        )
    return found


def _multiply(dtype: object) -> float:
    """Operations a second of a large matrix multiplication."""
    import torch

    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))  # type: ignore[call-overload]
    times = []
    for _ in range(12):
        begun = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - begun)
    return 2 * 2048**3 / float(np.median(times))


def main() -> None:
    """Measure everything and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maestro", type=Path, required=True, help="MAESTRO v3.0.0, MIDI")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40, help="of training, in each precision")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        rows = generation(scratch, options.repeats)
        rows |= single_stream(options.repeats)
        rows |= preparation(options.maestro, scratch)
        rows |= training(scratch / "corpus", scratch, options.steps)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | measured |\n|---|---|")
    for what, measured in rows.items():
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
