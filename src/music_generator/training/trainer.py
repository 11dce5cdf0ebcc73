"""The training loop: one process or several, checkpoints, resume, history. It prints nothing: it reports.

Several processes share each batch and act as one: the same windows, dropout and gradients, so the same losses but for
rounding, however many they are. The first one writes.
"""

from __future__ import annotations

import csv
import ctypes
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from music_generator.data.corpus import Corpus
from music_generator.errors import BundleError, InputError, TrainingError
from music_generator.files import replacing, sweep
from music_generator.model.config import FIELDS, ModelConfig
from music_generator.model.network import Batch, Network
from music_generator.parallel import Shard
from music_generator.training.likelihood import likelihood
from music_generator.training.muon import Muon
from music_generator.training.options import TrainingOptions as TrainingOptions
from music_generator.training.windows import Pool, sample_windows, to_batch

Array = NDArray[Any]

OPTIONS_FILE, HISTORY_FILE, LAST_FILE, BEST_FILE = "run.json", "history.csv", "last.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a run stands. Losses in nats per token; `validation` only after a step that validated."""

    step: int
    steps: int
    tokens: int
    seconds: float
    tokens_per_second: float
    learning_rate: float
    train: dict[str, float]
    validation: dict[str, dict[str, float]] | None = None

    @property
    def seconds_left(self) -> float:
        """At the present speed."""
        return (self.steps - self.step) * self.seconds / max(self.step, 1)


@dataclass
class State:
    """All that a run needs to go on: what a checkpoint holds, apart from the tensors."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = math.inf
    sums: dict[str, float] = field(default_factory=dict)  # of the steps since the last line of the history


def total_steps(corpus: Corpus, options: TrainingOptions) -> int:
    """The number of steps of a run."""
    if options.steps is not None:
        return options.steps
    rows = sum(corpus.pieces[i].rows for i in corpus.split("train"))
    return max(1, math.ceil(options.epochs * rows / (options.windows.batch * options.windows.length)))


def learning_rate_factor(step: int, steps: int, options: TrainingOptions) -> float:
    """Linear warm-up, then a cosine down to `final_share` (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    warm = max(1, round(options.warm_up * steps))
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return options.final_share + (1 - options.final_share) * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizers(network: Network, options: TrainingOptions, *, bfloat16: bool) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the network, AdamW for embeddings, outputs and biases.

    A recurrent layer's gates are one stacked matrix.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        inside = any(part in name for part in ("_stack.", ".hidden.", "context.", "future.", "join_"))
        (matrices if inside and weight.ndim == 2 else others).append(weight)
    precision = torch.bfloat16 if bfloat16 else torch.float32
    muon = Muon(matrices, options.matrix_learning_rate, options.weight_decay, precision=precision)
    adamw = torch.optim.AdamW(
        others, lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=options.weight_decay, fused=True
    )
    return [muon, adamw]


class Trainer:
    """One run in a folder: construct it, then `run`. With `resume` it goes on from the folder's last checkpoint.

    Raises `BundleError` if a checkpoint is missing, damaged or of other sizes, `InputError` if the folder holds
    another run already.
    """

    def __init__(
        self,
        corpus: Corpus,
        folder: str | Path,
        config: ModelConfig,
        options: TrainingOptions,
        *,
        resume: bool = False,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self.corpus, self.folder, self.config, self.options = corpus, Path(folder), config, options
        if options.threads:
            torch.set_num_threads(options.threads)
        self.accelerator = _accelerator()
        self.shard = Shard(self.accelerator.process_index + 1, self.accelerator.num_processes)
        if options.windows.batch % self.shard.count:
            raise InputError(
                f"`batch` ({options.windows.batch}) must be a multiple of the number of processes "
                f"({self.shard.count}): it is shared evenly among them"
            )
        self.device = self.accelerator.device
        if self.device.type == "cpu":
            _keep_freed_memory()
        torch.manual_seed(options.seed)
        self.network = Network(config)
        self.network.take_shard(self.shard)
        if weights is not None:
            load_weights(self.network, weights, "the weights to start from")
        self.network.to(self.device)
        self.bfloat16 = _takes_bfloat16(options.precision, self.device)
        self.optimizers = make_optimizers(self.network, options, bfloat16=self.bfloat16)
        self.base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.state = State()
        self.steps = total_steps(corpus, options)
        self.validate_every = options.validate_every or max(1, min(500, self.steps // 10))
        self.pool = Pool(corpus, np.asarray(corpus.split("train"), np.int64))
        if not len(self.pool.pieces):
            raise InputError(f"{corpus.folder}: its train split is empty")
        self.known = {name: i + 1 for i, name in enumerate(config.composers)}
        if resume:
            self._load_checkpoint()
        else:
            self._begin()
        self.wrapped = self.accelerator.prepare_model(self.network)

    def _begin(self) -> None:
        if (self.folder / OPTIONS_FILE).exists():
            raise InputError(f"{self.folder}: holds a run already; go on with --resume, or name another folder")
        self.accelerator.wait_for_everyone()  # all have looked before the first process writes
        if not self.accelerator.is_main_process:
            return
        sweep(self.folder)
        self._save(LAST_FILE, with_optimizers=True)  # so that a run can be resumed as soon as it is one
        facts = {"config": self.config.to_json(), "options": asdict(self.options), "corpus": self.corpus.source}
        with replacing(self.folder / OPTIONS_FILE) as beside:
            beside.write_text(json.dumps(facts, indent=1), "utf-8")

    def autocast(self) -> Any:
        """bfloat16 where it is used, else nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def run(self, report: Callable[[Progress], None] = lambda _: None, until: int | None = None) -> None:
        """Train to the last step (or stop after step `until`, as a kill would), reporting as it goes."""
        state = self.state
        begun, before = time.monotonic(), state.seconds
        last_time, last_tokens = begun, state.tokens
        for batch, tokens in self._batches(state.step, self.steps if until is None else min(self.steps, until)):
            for name, value in self._step(batch, tokens).items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            state.step, state.tokens = state.step + 1, state.tokens + tokens
            now = time.monotonic()
            state.seconds = before + now - begun
            done = state.step == self.steps
            validate = done or state.step % self.validate_every == 0
            if validate or state.step % self.options.log_every == 0:
                self._log((state.tokens - last_tokens) / (now - last_time), validate, report)
                last_time, last_tokens = time.monotonic(), state.tokens
            if done or state.step % self.options.save_every == 0:
                self._save(LAST_FILE, with_optimizers=True)
        self.accelerator.wait_for_everyone()  # none reads what the first process is still writing

    def _batches(self, first: int, stop: int) -> Iterator[tuple[Batch, int]]:
        """The batches of the steps from `first` on; the next one is made while this one is used."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._batch, first) if first < stop else None
            for step in range(first, stop):
                assert coming is not None
                made = coming.result()
                coming = pool.submit(self._batch, step + 1) if step + 1 < stop else None
                yield made

    def _batch(self, step: int) -> tuple[Batch, int]:
        """This process's share of a step's batch, and how many tokens the whole of it has."""
        options = self.options.windows
        sampled = sample_windows(self.pool, self.known, options, [self.options.seed, step], self.shard)
        return to_batch(sampled.windows, options.length, sampled.resume), sampled.tokens

    def _step(self, batch: Batch, tokens: int) -> dict[str, float]:
        factor = learning_rate_factor(self.state.step, self.steps, self.options)
        for optimizer, rates in zip(self.optimizers, self.base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        # so that dropout depends on seed and step alone, on every device and after every resume
        torch.manual_seed(int(np.random.SeedSequence([self.options.seed, self.state.step]).generate_state(1)[0]))
        with self.autocast():
            sums = self.wrapped(batch.to(self.device))
        loss = sum(sums[name] for name in (*FIELDS, "decisions")) / tokens
        # gradients are averaged over the processes, so each counts its share as if it were all
        (loss * self.accelerator.num_processes).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        names = [name for name in sums if name != "tokens"]
        values = self.accelerator.reduce(torch.stack([sums[name].detach().double() for name in names])).tolist()
        if not all(math.isfinite(value) for value in (float(norm), *values)):
            raise TrainingError(
                f"the loss or its gradient is not a finite number at step {self.state.step + 1}; begin anew with a "
                f"`learning_rate` below {self.options.learning_rate:g} and a `matrix_learning_rate` below "
                f"{self.options.matrix_learning_rate:g}"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return {**dict(zip(names, values, strict=True)), "tokens": float(tokens)}

    def _log(self, speed: float, validate: bool, report: Callable[[Progress], None]) -> None:
        sums, self.state.sums = self.state.sums, {}
        train = {name: sums[name] / sums["tokens"] for name in (*FIELDS, "decisions")}
        train["total"] = sum(train[name] for name in FIELDS)
        found = None
        if validate and self.accelerator.is_main_process and self.corpus.split("validation"):
            limit = self.options.validation_segments
            found = likelihood(self.network, self.corpus, gaps=(16,), limit=limit, autocast=self.autocast)
            if found["continue"]["total"] < self.state.best:
                self.state.best = found["continue"]["total"]
                self._save(BEST_FILE, with_optimizers=False)
        state = self.state
        rate = self.options.learning_rate * learning_rate_factor(state.step - 1, self.steps, self.options)
        progress = Progress(state.step, self.steps, state.tokens, state.seconds, speed, rate, train, found)
        if self.accelerator.is_main_process:
            append_history(self.folder / HISTORY_FILE, progress)
            report(progress)

    def _save(self, name: str, *, with_optimizers: bool) -> None:
        """Write a checkpoint of tensors and plain data, beside and renamed into place; the first process does."""
        if not self.accelerator.is_main_process:
            return
        tensors = {
            f"weights/{key}": value.detach().cpu().contiguous() for key, value in self.network.state_dict().items()
        }
        if with_optimizers:
            tensors |= self._optimizer_tensors()
        with replacing(self.folder / name) as beside:
            try:
                save_file(tensors, beside, {"state": json.dumps(asdict(self.state))})
            except SafetensorError as error:  # how it tells of a full disk
                raise OSError(str(error)) from error

    def _names(self) -> dict[int, str]:
        return {id(weight): name for name, weight in self.network.named_parameters()}

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = self._names()
        return {
            f"optimizer/{key}/{names[id(weight)]}": torch.as_tensor(value).detach().cpu().contiguous()
            for optimizer in self.optimizers
            for weight, values in optimizer.state.items()
            for key, value in values.items()
        }

    def _load_checkpoint(self) -> None:
        path = self.folder / LAST_FILE
        tensors, state = read_checkpoint(path)
        self.state = State(**state)
        load_weights(self.network, under(tensors, "weights/"), str(path))
        kept = under(tensors, "optimizer/")
        names = self._names()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    for key in ("momentum_buffer", "exp_avg", "exp_avg_sq", "step"):
                        value = kept.get(f"{key}/{names[id(weight)]}")
                        if value is not None:
                            optimizer.state[weight][key] = value.to(self.device)
        if self.accelerator.is_main_process:
            trim_history(self.folder / HISTORY_FILE, self.state.step)
            sweep(self.folder)


def _accelerator() -> Any:
    """What `accelerate launch` and `torchrun` tell by the environment: this process's number, their count, its device.

    On processors both forget to say that there is no GPU, and every process would take itself for the only one.
    """
    from accelerate import Accelerator

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(cpu=several and not _has_gpu())


def _has_gpu() -> bool:
    return torch.cuda.is_available() or (hasattr(torch, "xpu") and torch.xpu.is_available())


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: a step takes the same gigabyte anew, and clean pages cost a fifth of its time."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_max, 0)


def _takes_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to train in bfloat16. Raises `InputError` where it is asked for and cannot be had."""
    if precision == "bfloat16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise InputError("this processor has no bfloat16; leave `precision` at auto, or take float32")
    return precision == "bfloat16" or (precision == "auto" and _bfloat16_pays(device))


def _bfloat16_pays(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not public, and not in every torch
    return device.type == "cpu" and supported is not None and bool(supported())


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_weights(network: Network, weights: dict[str, Tensor], source: str) -> None:
    """Put weights of any precision into a network. Raises `BundleError`, naming `source`, if they do not fit."""
    try:
        network.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        raise BundleError(f"{source} does not fit this configuration: {str(error).splitlines()[-1].strip()}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state of a checkpoint. Raises `BundleError` if it is missing or damaged."""
    if not path.exists():
        raise BundleError(f"{path}: no such checkpoint; the run had not saved one yet")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["state"])  # noqa: SIM118
    except Exception as error:  # the library's own error class is not public
        raise BundleError(f"{path}: the checkpoint is damaged ({error})") from error


def read_run(folder: str | Path) -> tuple[ModelConfig, TrainingOptions]:
    """What a run was started with. Raises `BundleError` if the folder holds none."""
    try:
        facts = json.loads((Path(folder) / OPTIONS_FILE).read_text("utf-8"))
        return ModelConfig(**facts["config"]), TrainingOptions(**facts["options"])
    except FileNotFoundError:
        raise BundleError(f"{folder}: no training run ({OPTIONS_FILE} is missing)") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{folder}: {OPTIONS_FILE} is damaged ({error})") from error


def _history_row(progress: Progress) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 2),
        "learning_rate": f"{progress.learning_rate:.6g}",
    }
    found = progress.validation or {}
    for name in ("total", *FIELDS):
        row[f"train_{name}"] = f"{progress.train[name]:.5f}"
    for name in ("total", *FIELDS):
        row[f"validation_{name}"] = f"{found['continue'][name]:.5f}" if found else ""
    for name in ("infill_16", "blind_16"):
        row[f"validation_{name}"] = f"{found[name]['total']:.5f}" if name in found else ""
    return row


def append_history(path: Path, progress: Progress) -> None:
    """Add a line to the history; the head line first where the file is new."""
    row = _history_row(progress)
    new = not path.exists() or not path.stat().st_size  # a kill may have left it empty
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def trim_history(path: Path, step: int) -> None:
    """Take out what a killed run wrote after its last checkpoint."""
    if not path.exists():
        return
    lines = path.read_text("utf-8").splitlines()
    if not lines:
        return
    whole = [line for line in lines if line.count(",") == lines[0].count(",")]  # the kill may have cut the last one
    kept = [line for i, line in enumerate(whole) if i == 0 or int(line.split(",", 1)[0]) <= step]
    with replacing(path) as beside:
        beside.write_text("\n".join(kept) + "\n", "utf-8")


def given(**options: Any) -> dict[str, Any]:
    """Those options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
