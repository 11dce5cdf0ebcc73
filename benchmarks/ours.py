"""Our side of the bench, each measurement in a process of its own: `python ours.py single --repeats 5` prints JSON.

Every figure is a list with one value for each repeat. A function imports what it needs, so that the memory of its
process is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from music_generator.errors import BundleError, CorpusError, InputError

if TYPE_CHECKING:
    from music_generator.engine.engine import Engine
    from music_generator.generation import Generated
    from music_generator.model.config import ModelConfig

BAD_INPUT = 2
BATCH = 64
PACKAGES = ("music-generator-rnn", "numpy", "torch")
WITH_A_FUTURE = ("backward", "future", "fuse", "key_next")  # parts of a model that only a gap needs
MATRIX = 2048  # rows and columns of the matrix multiplication


class SkippedError(Exception):
    """Why there is no figure."""


def open_engine(options: argparse.Namespace, *, backend: str | None = None, threads: int = 1) -> Engine:
    """Return an engine of the model asked for."""
    from music_generator.engine.engine import Engine

    return Engine(options.model, backend=backend, threads=threads)


def compose_some(engine: Engine, options: argparse.Namespace, repeat: int) -> list[Generated]:
    """Some pieces of a minute, tokens to `Performance`: one is too short to time."""
    from music_generator.generation import SamplingOptions, compose

    seeds = range(repeat * options.pieces, (repeat + 1) * options.pieces)
    return [compose(engine, options.seconds, SamplingOptions(seed=seed)) for seed in seeds]


def speed(made: Sequence[Generated]) -> float:
    """Tokens a second of several pieces."""
    return sum(piece.tokens for piece in made) / sum(piece.seconds_taken for piece in made)


def single(options: argparse.Namespace) -> dict[str, Any]:
    """One stream, one thread; and by the NumPy reference, a tenth of the music in turn with it."""
    engine, reference = open_engine(options), open_engine(options, backend="numpy")
    short = argparse.Namespace(**vars(options) | {"seconds": options.seconds / 10})
    compose_some(engine, options, options.repeats)
    compose_some(reference, argparse.Namespace(**vars(options) | {"seconds": 1.0, "pieces": 1}), 0)
    tokens, notes, real_time, by_numpy, numpy_real_time = [], [], [], [], []
    for repeat in range(options.repeats):
        made = compose_some(reference, short, repeat)
        by_numpy.append(speed(made))
        numpy_real_time.append(len(made) * short.seconds / sum(piece.seconds_taken for piece in made))
        made = compose_some(engine, options, repeat)
        taken = sum(piece.seconds_taken for piece in made)
        tokens.append(speed(made))
        notes.append(sum(len(piece.written) for piece in made) / taken)
        real_time.append(len(made) * options.seconds / taken)
    found = {"tokens_per_second": tokens, "notes_per_second": notes, "times_real_time": real_time}
    return found | {"numpy_tokens_per_second": by_numpy, "numpy_times_real_time": numpy_real_time}


def write_batch(engine: Engine, options: argparse.Namespace, repeat: int) -> int:
    """Tokens of many pieces, a batch of them at a time."""
    from music_generator.generation import SamplingOptions, generate_many, to_compose

    count = options.batches * BATCH
    seeds = range(repeat * count, (repeat + 1) * count)
    span = to_compose(options.seconds)
    return sum(
        piece.tokens for piece in generate_many(engine, ((span, SamplingOptions(seed=s)) for s in seeds), size=BATCH)
    )


def batch(options: argparse.Namespace) -> dict[str, Any]:
    """Many streams at once."""
    engine, tokens = open_engine(options, threads=options.threads), []
    write_batch(engine, options, options.repeats)
    for repeat in range(options.repeats):
        begun = time.perf_counter()
        written = write_batch(engine, options, repeat)
        tokens.append(written / (time.perf_counter() - begun))
    return {"tokens_per_second": tokens, "pieces": options.batches * BATCH}


_engine: Engine | None = None  # of a process of `batches`


def _warm(options: argparse.Namespace, ready: Any) -> None:
    global _engine
    _engine = open_engine(options)
    write_batch(_engine, argparse.Namespace(batches=1, seconds=5.0), 0)
    ready.wait()


def _write(options: argparse.Namespace, part: int) -> int:
    assert _engine is not None
    return write_batch(_engine, options, part)


def batches(options: argparse.Namespace) -> dict[str, Any]:
    """The same in as many processes as there are cores, as `generate --jobs` does it; all are warm before."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    spawn, count, tokens = get_context("spawn"), os.cpu_count() or 1, []
    ready = spawn.Barrier(count)
    with ProcessPoolExecutor(count, spawn, _warm, (options, ready)) as pool:
        list(pool.map(_write, [argparse.Namespace(batches=1, seconds=1.0)] * count, range(count)))
        for repeat in range(options.repeats):
            begun = time.perf_counter()
            parts = range(repeat * count, (repeat + 1) * count)
            written = sum(pool.map(_write, [options] * count, parts))
            tokens.append(written / (time.perf_counter() - begun))
    return {"tokens_per_second": tokens, "pieces": count * options.batches * BATCH, "processes": count}


def first_note(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from the call to the first note of a stream, from nothing and after a piece; the model is loaded."""
    from music_generator.generation import SamplingOptions, Span, Writer, compose
    from music_generator.music.performance import Performance
    from music_generator.music.tokens import KEYS

    engine = open_engine(options)
    primer = compose(engine, options.seconds, SamplingOptions(seed=0)).performance

    def wait(past: Performance, seed: int) -> float:
        begun = time.perf_counter()
        start = options.seconds if len(past) else 0.0
        span = Span(past, Performance(), start, start + 60.0)
        rows = Writer(engine, span, SamplingOptions(seed=seed))
        next(key for _, key, _, _ in rows if key < KEYS)
        return 1000 * (time.perf_counter() - begun)

    found: dict[str, Any] = {}
    for name, past in (("composing", Performance()), ("continuing", primer)):
        wait(past, 0)
        found[name] = [wait(past, seed) for seed in range(1, 4 * options.repeats + 1)]
    return found


def length(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds a token costs along one stream: a value for each block of tokens, a list of them for each repeat."""
    from music_generator.generation import SamplingOptions, Span, Writer
    from music_generator.music.performance import Performance

    engine = open_engine(options)
    compose_some(engine, options, 0)
    costs = []
    for seed in range(options.repeats):
        span = Span(Performance(), Performance(), 0.0, 24 * 3600.0)
        writer = Writer(engine, span, SamplingOptions(seed=seed))
        rows, ends = iter(writer), [time.perf_counter()]
        for _ in range(options.tokens // options.block):
            if sum(1 for _ in islice(rows, options.block)) < options.block:
                raise SkippedError("the piece ended before it had so many tokens")
            ends.append(time.perf_counter())
        costs.append((np.diff(ends) * 1e6 / options.block).tolist())
    return {"block": options.block, "microseconds": costs}


def hour(options: argparse.Namespace) -> dict[str, Any]:
    """An hour in one go, as a MIDI file too; and the rate of one minute, measured in turn with it."""
    from music_generator.generation import SamplingOptions, compose
    from music_generator.music.midi import write_midi

    engine = open_engine(options)
    compose_some(engine, options, options.repeats)
    long, short = [], []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            short.append(speed(compose_some(engine, options, repeat)))
            made = compose(engine, options.long_seconds, SamplingOptions(seed=repeat))
            long.append(made.tokens_per_second)
            write_midi(made.performance, Path(folder) / "long.mid")
    shares = [a / b for a, b in zip(long, short, strict=True)]
    return {"tokens_per_second": long, "minute_tokens_per_second": short, "share_of_minute": shares}


def sound(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to play a piece on the grand piano and to write it as WAV."""
    from music_generator.generation import SamplingOptions, compose
    from music_generator.sound import render_file

    engine, seconds = open_engine(options), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.repeats):
            made = compose(engine, options.seconds, SamplingOptions(seed=seed)).performance
            begun = time.perf_counter()
            render_file(made, Path(folder) / "piece.wav")
            seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds}


def step_bytes(config: ModelConfig, precision: str) -> int:
    """Return how many bytes of weights a token of one stream without a future reads, without tables."""
    from music_generator.model.pack import LinearShape, layout, tensors_of

    read = 0
    for part in layout(config):
        if isinstance(part, LinearShape) and part.name.split(".")[0] not in WITH_A_FUTURE:
            for name, shape, dtype in tensors_of(part, precision):
                size = math.prod(shape) * np.dtype(dtype).itemsize
                # without a future, the context's part that is fused with it is not computed
                read += size // 2 if name == "context.weight" and config.direction == "both" else size
    return read


def bandwidth(size: int, seconds: float) -> float:
    """Bytes a second that one thread reads of an array of that many bytes, again and again: in cache if it fits.

    The fastest of a scalar product of the array with itself, a product of it, as a matrix, with a vector, and the
    largest of its bytes.
    """
    columns = 512
    matrix = np.ones((max(1, size // (4 * columns)), columns), np.float32)
    flat, vector = matrix.ravel(), np.ones(columns, np.float32)

    def rate(read: Callable[[], Any]) -> float:
        read()
        begun, times = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            read()
            times += 1
        return times * matrix.nbytes / (time.perf_counter() - begun)

    flags = matrix.view(np.int8)
    return max(rate(lambda: flat @ flat), rate(lambda: matrix @ vector), rate(lambda: flags.max()))


def limit(options: argparse.Namespace) -> dict[str, Any]:
    """What memory allows a single stream, and what it does, measured in turn."""
    engine = open_engine(options)
    size = step_bytes(engine.config, engine.precision)
    compose_some(engine, options, options.repeats)
    allowed, tokens, rates = [], [], []
    for repeat in range(options.repeats):
        before = bandwidth(size, options.bandwidth_seconds)
        tokens.append(speed(compose_some(engine, options, repeat)))
        rates.append(max(before, bandwidth(size, options.bandwidth_seconds)))
        allowed.append(rates[-1] / size)
    shares = [a / b for a, b in zip(tokens, allowed, strict=True)]
    return {
        "bytes_per_token": size,
        "bytes_per_second": rates,
        "allowed_tokens_per_second": allowed,
        "tokens_per_second": tokens,
        "share": shares,
    }


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Files a second read into performances, one process."""
    from music_generator.music.midi import read_midi

    files = options.files.read_text("utf-8").splitlines()
    read_midi(files[0])
    speeds, notes = [], 0
    for _ in range(options.repeats):
        begun = time.perf_counter()
        notes = sum(len(read_midi(path).performance) for path in files)
        speeds.append(len(files) / (time.perf_counter() - begun))
    return {"files_per_second": speeds, "notes": notes}


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of training the default network, and what a matrix multiplication gives before and after."""
    import torch

    from music_generator.data.corpus import open_corpus
    from music_generator.model.config import ModelConfig
    from music_generator.training.options import TrainingOptions
    from music_generator.training.trainer import Trainer

    corpus, dtype = open_corpus(options.corpus), getattr(torch, options.precision)
    every = max(1, options.steps // (options.repeats + 1))  # the first value is left out: it warmed up
    training = TrainingOptions(
        steps=10_000, log_every=every, save_every=10_000, validate_every=10_000, precision=options.precision
    )
    speeds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            trainer = Trainer(corpus, Path(folder) / "run", ModelConfig(composers=corpus.composers), training)
        except InputError as reason:  # a precision that the processor has not
            raise SkippedError(str(reason)) from reason
        check_recurrence(trainer.device, dtype)
        rates = multiply(trainer.device, dtype, options.repeats)
        trainer.run(lambda progress: speeds.append(progress.tokens_per_second), until=every * (options.repeats + 1))
    rates += multiply(trainer.device, dtype, options.repeats)
    parameters = sum(weight.numel() for weight in trainer.network.parameters())
    rate = statistics.median(rates)
    return {
        "tokens_per_second": speeds[1:],
        "parameters": parameters,
        "multiply_per_second": rates,
        "share": [6 * parameters * each / rate for each in speeds[1:]],
        "threads": torch.get_num_threads(),
    }


def check_recurrence(device: Any, dtype: Any) -> None:
    """That this machine can train an LSTM in that precision at all: processors without bfloat16 may not."""
    import torch

    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            torch.nn.LSTM(64, 64).to(device)(torch.zeros(2, 2, 64, device=device))
    except RuntimeError as error:
        raise SkippedError(f"torch has no {dtype} LSTM for this processor".replace("torch.", "")) from error


def multiply(device: Any, dtype: Any, repeats: int) -> list[float]:
    """Operations a second of a large matrix multiplication."""
    import torch

    a, b = (torch.randn(MATRIX, MATRIX, device=device).to(dtype) for _ in range(2))
    rates = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        (a @ b)[0, 0].item()  # on a GPU it is done only when it is looked at
        rates.append(2 * MATRIX**3 / (time.perf_counter() - begun))
    return rates[1:]


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What is measured: the model, the versions, and of MAESTRO the first files of the train split."""
    from importlib.metadata import PackageNotFoundError, version

    from music_generator.data.maestro import find_recordings
    from music_generator.engine.kernel import vectors

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "none"
    engine = open_engine(options)
    config = engine.config
    model = {
        "parameters": engine.bundle.provenance.get("parameters"),
        "cell": config.cell,
        "forward": f"{config.forward_layers} × {config.forward_size}",
        "backward": f"{config.backward_layers} × {config.backward_size}",
        "precision": engine.precision,
        "engine": f"compiled for {vectors()}" if engine.backend_name == "kernel" else "NumPy",
    }
    files = []
    if options.maestro:
        survey = find_recordings(options.maestro)
        if not survey.recordings:
            raise InputError(f"{options.maestro}: none of the MIDI files that its metadata lists is there")
        files = [str((survey.folder / recording.midi_filename).resolve()) for recording in survey.recordings]
    return {"versions": versions, "model": model, "files": files}


MEASUREMENTS = {
    each.__name__: each
    for each in (single, batch, batches, first_note, length, hour, sound, limit, reading, train, facts)
}


def main() -> int:
    """Print what was measured, or one line on stderr that says what to mend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a bundle; the bundled one if not given")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a piece")
    parser.add_argument("--pieces", type=int, default=5, help="a repeat")
    parser.add_argument("--batches", type=int, default=4, help="of pieces a repeat, where many are written at once")
    parser.add_argument("--threads", type=int, default=1, help="of a batch")
    parser.add_argument("--long-seconds", type=float, default=3600.0)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--block", type=int, default=1000, help="tokens that are timed together")
    parser.add_argument("--bandwidth-seconds", type=float, default=0.3)
    parser.add_argument("--files", type=Path, help="text file, one path a line")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--maestro", type=Path)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="float32")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    try:
        found = MEASUREMENTS[options.what](options)
    except SkippedError as reason:
        found = {"skipped": str(reason)}
    except ModuleNotFoundError as error:
        found = {"skipped": f"{error.name} is not installed"}
    except (BundleError, CorpusError, InputError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
