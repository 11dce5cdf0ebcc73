"""The training loop, for one process or several. It prints nothing: it calls `report`.

Several processes share each batch and act as one: the same windows, dropout and gradients, so the same losses up to
rounding, whatever their number. Only the main process writes.
"""

from __future__ import annotations

import copy
import ctypes
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from music_generator.data.corpus import Corpus
from music_generator.data.windows import Pool, sample_windows
from music_generator.errors import InputError, TrainingError
from music_generator.files import sweep
from music_generator.model.config import FIELDS, ModelConfig
from music_generator.model.network import Batch, Head, Network
from music_generator.parallel import Shard, launched_processes
from music_generator.training.batches import to_batch
from music_generator.training.checkpoint import (
    State,
    load_optimizers,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from music_generator.training.history import HISTORY_FILE, VALIDATION_GAP, Progress, append_history, trim_history
from music_generator.training.likelihood import likelihood
from music_generator.training.muon import Muon
from music_generator.training.options import (
    BEST_FILE,
    LAST_FILE,
    RUN_FILE,
    Base,
    Run,
    TrainingOptions,
    read_run,
    write_run,
)
from music_generator.training.plan import total_steps
from music_generator.training.protocol import Row

ESTIMATE_STEPS = 5  # after which the time of a run is estimated; the first one is slow and left out


def position(step: int, seconds: float, steps: int, options: TrainingOptions) -> float:
    """Return how many of its `steps` a run has behind it: those done, or the share of its minutes if that is larger."""
    by_time = 0.0 if options.minutes is None else steps * seconds / (60 * options.minutes)
    return min(max(float(step), by_time), float(steps))


def learning_rate_factor(at: float, steps: int, options: TrainingOptions) -> float:
    """Return the share of the learning rates, 0 to 1, with `at` of the steps behind it, as `position` counts them.

    Linear warm-up, then a cosine down to `final_share` (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5).
    """
    warm = max(1, round(options.warm_up * steps))
    if at < warm:
        return min(1.0, (at + 1) / warm)
    share = (at - warm) / max(1, steps - warm)
    return options.final_share + (1 - options.final_share) * 0.5 * (1 + math.cos(math.pi * share))


def average_share(step: int, options: TrainingOptions) -> float:
    """Return the share that the average of the weights keeps in a step, counted from 0.

    It rises to `average` as in TensorFlow's `ExponentialMovingAverage(num_updates)`.
    """
    return min(options.average, (1 + step) / (10 + step))


def inner_matrices(network: Network) -> list[nn.Parameter]:
    """Return the matrices inside the network: those of recurrent, context, fuse and hidden layers.

    The gates of a recurrent layer are one stacked matrix. Embeddings, inputs and outputs are not inside.
    """
    layers: list[nn.Module] = [network.forward_stack, network.context]
    layers += [module.hidden for module in network.modules() if isinstance(module, Head)]
    if network.config.direction == "both":
        layers += [network.backward_stack, network.future, network.fuse_in, network.fuse_out]
    inside = {id(weight) for layer in layers for weight in layer.parameters() if weight.ndim == 2}
    return [weight for weight in network.parameters() if id(weight) in inside]


def make_optimizers(network: Network, options: TrainingOptions, *, bfloat16: bool) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the network, multiplied in `bfloat16` or float32, and AdamW for the rest."""
    matrices = inner_matrices(network)
    inside = {id(weight) for weight in matrices}
    others = [weight for weight in network.parameters() if id(weight) not in inside]
    precision = torch.bfloat16 if bfloat16 else torch.float32
    muon = Muon(matrices, options.matrix_learning_rate, options.weight_decay, precision=precision)
    adamw = torch.optim.AdamW(
        others, lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=options.weight_decay, fused=True
    )
    return [muon, adamw]


class Trainer:
    """A training run in a folder: make one, then call `run`.

    The loss holds each token twice, given the past alone and, where it has a future, given that too. The training
    losses of the history are those given the past alone, of the windows that are not plain: they compare with the
    `continue` of the validation.

    Args:
        corpus: What to train and to validate on.
        folder: New, or with `resume` that of a run, which continues from its last checkpoint.
        config: The shape of the network.
        options: How to train.
        resume: Continue the folder's run. With other `steps` or `epochs` than it has, its length changes: its learning
            rates are from then on those of a run of the new length, and its patience begins again.
        weights: The first weights, by name; random ones if None.
        base: The model that they are of.

    Raises:
        BundleError: The checkpoint is missing, damaged or of another shape, or `weights` are of another shape.
        InputError: The folder holds a run already or cannot be written, the train split is empty, an option does not
            fit this machine, the run was trained on other music, or it has done more steps than it shall have.
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
        base: Base | None = None,
    ) -> None:
        self.base = base
        self.corpus, self.folder, self.config, self.options = corpus, Path(folder), config, options
        self.pool = Pool(corpus, np.asarray(corpus.split("train"), np.int64))
        if not len(self.pool.pieces):
            raise InputError(f"{corpus.folder}: its train split is empty")
        self.composers = {name: i + 1 for i, name in enumerate(config.composers)}
        self.steps = total_steps(corpus, options)
        most = 500 if options.minutes is None else self.steps
        self.validate_every = options.validate_every or max(1, min(most, self.steps // 10))
        self.state = State()
        self.interrupted = False
        self.learning_rate_factor = 0.0  # of the last step
        self._begun = 0.0  # the time at which it would have begun, had it never paused
        self._asked_to_stop = False
        self._prepare_device()
        self._make_network(weights)
        if resume:
            self._load_checkpoint()
        else:
            self._begin()
        self.wrapped = self.accelerator.prepare_model(self.network)

    def _prepare_device(self) -> None:
        options = self.options
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
        self.bfloat16 = _uses_bfloat16(options.precision, self.device)

    def _make_network(self, weights: dict[str, Tensor] | None) -> None:
        torch.manual_seed(self.options.seed)
        self.network = Network(self.config)
        self.network.take_shard(self.shard)
        if weights is not None:
            load_weights(self.network, weights, "the weights to start from")
        # copied before it is moved: a copy on the GPU would not have its recurrent weights in one piece, as cuDNN wants
        copied = copy.deepcopy(self.network).to(self.device).requires_grad_(False)
        self.average = copied if self.options.average else None
        self.network.to(self.device)
        self.optimizers = make_optimizers(self.network, self.options, bfloat16=self.bfloat16)
        self.base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def _begin(self) -> None:
        if (self.folder / RUN_FILE).exists():
            raise InputError(f"{self.folder}: already holds a run; continue it with --resume, or name another folder")
        self.accelerator.wait_for_everyone()  # before the main process writes, the others must have looked
        if self.accelerator.is_main_process:
            sweep(self.folder)
        self._save()

    def _load_checkpoint(self) -> None:
        begun = read_run(self.folder)
        if begun.digest not in (self.corpus.digest, self.corpus.digest_without_tags):
            raise InputError(
                f"{self.corpus.folder}: the run {self.folder} was trained on other music ({begun.corpus}); resume it "
                "with that corpus, or begin a new run from its model with `--model`"
            )
        self.base = begun.base
        checkpoint = read_checkpoint(self.folder / LAST_FILE)
        self.state = checkpoint.state
        load_weights(self.network, checkpoint.weights, checkpoint.path)
        load_optimizers(self.optimizers, self.network, checkpoint)
        if self.average is not None:
            load_weights(self.average, checkpoint.average, checkpoint.path)
        if self.steps < self.state.step:
            raise InputError(
                f"{self.folder}: {self.state.step} steps are done, more than the {self.steps} asked for; "
                "ask for more `steps` or `epochs`"
            )
        self.accelerator.wait_for_everyone()  # before the main process writes, the others must have read
        if self.accelerator.is_main_process:
            trim_history(self.folder / HISTORY_FILE, self.state.step)
            sweep(self.folder)
        if self.options != begun.options:
            self.state.validations_since_best = 0
            self._save()

    def _save(self) -> None:
        """Write the checkpoint, then `run.json`: a folder that has it can be resumed."""
        self._save_last()
        if self.accelerator.is_main_process:
            write_run(self.folder, Run(self.config, self.options, self.corpus.source, self.corpus.digest, self.base))

    def _save_last(self) -> None:
        if self.accelerator.is_main_process:
            write_checkpoint(self.folder / LAST_FILE, self.network, self.state, self.optimizers, self.average)

    @property
    def evaluated(self) -> Network:
        """The network that is validated and kept as the best: of averaged weights if the run has an average."""
        return self.network if self.average is None else self.average

    @property
    def out_of_patience(self) -> bool:
        """Whether the last `patience` validations were no better than one before them."""
        return 0 < self.options.patience <= self.state.validations_since_best

    @property
    def position(self) -> float:
        """How many of its steps the run has behind it, as `position` counts them."""
        return position(self.state.step, self.state.seconds, self.steps, self.options)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.position >= self.steps or self.out_of_patience

    def stop(self) -> None:
        """Ask `run` to save and return after the present step, in every process; a signal handler may call it."""
        self._asked_to_stop = True

    def autocast(self) -> Any:
        """Return a context of bfloat16 where the run uses it, else one of float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def run(
        self,
        report: Callable[[Progress], None] = lambda _: None,
        until: int | None = None,
        estimate: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Train to the last step, until patience ends or until `stop` is called; `interrupted` then is true.

        Args:
            report: Called in the main process with each line of the history.
            until: Stop after this step, as a kill would.
            estimate: Called once in the main process, after a few steps, with the seconds that the other steps take.

        Raises:
            TrainingError: The loss or its gradient is not finite.
            InputError: A file cannot be written.
        """
        if self.finished:
            return
        state, first = self.state, self.state.step
        saved = last_time = time.monotonic()
        last_tokens, self._begun = state.tokens, last_time - state.seconds
        for batch, tokens in self._batches(first, self.steps if until is None else min(self.steps, until)):
            before = self.position
            self._count(self._step(batch, tokens), tokens)
            now = time.monotonic()
            if state.step == first + 1:
                after_first = now
            elif state.step == first + ESTIMATE_STEPS and self.accelerator.is_main_process:
                estimate(self._seconds_left((now - after_first) / (ESTIMATE_STEPS - 1)))
            due = self.position // self.validate_every > before // self.validate_every
            validate = due or self.position >= self.steps
            if validate or state.step % self.options.log_every == 0:
                self._log((state.tokens - last_tokens) / (now - last_time), validate, report)
                last_time, last_tokens = time.monotonic(), state.tokens
            ends = self.finished or self.interrupted
            if ends or self._is_time_to_save(saved):
                self._save_last()
                saved = time.monotonic()
            if ends:
                break
        self.interrupted = self.interrupted or self._asked_to_stop  # asked after the last step, too
        self.accelerator.wait_for_everyone()  # the others must not read what the main process is still writing

    def _seconds_left(self, seconds_per_step: float) -> float:
        """Return the seconds to the end of the run at this speed."""
        left = (self.steps - self.state.step) * seconds_per_step
        if self.options.minutes is not None:
            left = min(left, max(0.0, 60 * self.options.minutes - self.state.seconds))
        return left

    def _is_time_to_save(self, saved: float) -> bool:
        """Return whether a checkpoint is due, the last one being of the time `saved`."""
        late = time.monotonic() - saved >= 60 * self.options.save_minutes
        return late or self.state.step % self.options.save_every == 0

    def _count(self, sums: dict[str, float], tokens: int) -> None:
        """Add a step to the state; `tokens` are those of its whole batch, plain windows too."""
        state = self.state
        for name, value in sums.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        state.step, state.tokens = state.step + 1, state.tokens + tokens

    def _batches(self, first: int, stop: int) -> Iterator[tuple[Batch, int]]:
        """Yield the batches of steps; a thread makes the next one while this one is used."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._batch, first) if first < stop else None
            for step in range(first, stop):
                assert coming is not None
                batch = coming.result()
                coming = pool.submit(self._batch, step + 1) if step + 1 < stop else None
                yield batch

    def _batch(self, step: int) -> tuple[Batch, int]:
        """Return this process's share of a step's batch, and the number of tokens of the whole batch."""
        options = self.options.windows
        sampled = sample_windows(self.pool, self.composers, options, [self.options.seed, step], self.shard)
        batch = to_batch(sampled.windows, options.length, sampled.gaps)
        return batch.pinned() if self.device.type == "cuda" else batch, sampled.tokens

    def _step(self, batch: Batch, tokens: int) -> dict[str, float]:
        """Update the weights once and return the sums of `Network.forward` over the whole batch, of `tokens` tokens."""
        self._set_learning_rates()
        # dropout then depends on seed and step alone, on every device and after every resume
        torch.manual_seed(int(np.random.SeedSequence([self.options.seed, self.state.step]).generate_state(1)[0]))
        with self.autocast():
            sums = self.wrapped(batch.to(self.device))
        loss = sum(sums[name] for name in (*FIELDS, "others", "decisions")) / tokens
        # the mean over the processes' gradients must be that of the whole batch
        (loss * self.accelerator.num_processes).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip))
        names, seconds = list(sums), time.monotonic() - self._begun
        own = torch.tensor([float(self._asked_to_stop), seconds], dtype=torch.float64, device=self.device)
        losses = torch.stack([sums[name].detach().double() for name in names])
        *values, stops, seconds = self.accelerator.reduce(torch.cat([losses, own])).tolist()
        # the same in all processes, which must end after the same step and have the same learning rates
        self.interrupted, self.state.seconds = stops > 0, seconds / self.accelerator.num_processes
        if not all(math.isfinite(value) for value in (norm, *values)):
            raise TrainingError(
                f"the loss or its gradient is not a finite number at step {self.state.step + 1}; start again with a "
                f"`learning_rate` below {self.options.learning_rate:g} and a `matrix_learning_rate` below "
                f"{self.options.matrix_learning_rate:g}"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._update_average()
        return dict(zip(names, values, strict=True))

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is not None:
            kept = average_share(self.state.step, self.options)
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - kept)

    def _set_learning_rates(self) -> None:
        self.learning_rate_factor = learning_rate_factor(self.position, self.steps, self.options)
        for optimizer, rates in zip(self.optimizers, self.base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.learning_rate_factor

    def _log(self, speed: float, validate: bool, report: Callable[[Progress], None]) -> None:
        state = self.state
        sums, state.sums = state.sums, {}
        validate = validate and bool(self.corpus.split("validation"))
        if self.accelerator.is_main_process:
            self._report(sums, speed, validate, report)
        if validate:  # only the main process has counted
            count = state.validations_since_best if self.accelerator.is_main_process else 0
            state.validations_since_best = int(self.accelerator.reduce(torch.tensor(count, device=self.device)))

    def _report(self, sums: dict[str, float], speed: float, validate: bool, report: Callable[[Progress], None]) -> None:
        state = self.state
        train = {name: sums[name] / max(sums["tokens"], 1) for name in (*FIELDS, "decisions")}
        train["total"] = sum(train[name] for name in FIELDS)
        validation = self._validate() if validate else None
        rate = self.options.learning_rate * self.learning_rate_factor
        left = 0.0 if self.finished else self._seconds_left(state.seconds / state.step)
        progress = Progress(state.step, self.steps, state.tokens, state.seconds, left, speed, rate, train, validation)
        append_history(self.folder / HISTORY_FILE, progress)
        report(progress)

    def _validate(self) -> dict[str, Row]:
        """Return the likelihood of some of the validation split; save the weights if they are the best so far."""
        limit = self.options.validation_segments
        rows = likelihood(self.evaluated, self.corpus, gaps=(VALIDATION_GAP,), limit=limit, autocast=self.autocast)
        self.state.validations_since_best += 1
        if rows["continue"]["total"] < self.state.best:
            self.state.best, self.state.validations_since_best = rows["continue"]["total"], 0
            write_checkpoint(self.folder / BEST_FILE, self.evaluated, self.state)
        return rows


def _accelerator() -> Any:
    """Return what `accelerate launch` and `torchrun` set up: the process's number, their count, and its device.

    Without a GPU the launchers set no variable that says so, and each process would act as the only one.
    """
    from accelerate import Accelerator

    return Accelerator(cpu=launched_processes() > 1 and not _has_gpu())


def _has_gpu() -> bool:
    return torch.cuda.is_available() or (hasattr(torch, "xpu") and torch.xpu.is_available())


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory: each step needs the same gigabyte, and clean pages cost a fifth of its time."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_max, 0)


def _uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether to train in bfloat16. Raises `InputError` if the device has none and `precision` asks for it."""
    if precision == "bfloat16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise InputError("`precision` must not be bfloat16 on this processor, which has none; use auto or float32")
    return precision == "bfloat16" or (precision == "auto" and _bfloat16_is_fast(device))


def _bfloat16_is_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not public, and not in every torch
    return device.type == "cpu" and supported is not None and bool(supported())
