"""Checkpoints: a safetensors file of weights, optimizer states and plain data; no classes inside."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from music_generator.errors import BundleError
from music_generator.files import replacing
from music_generator.model.network import Network
from music_generator.training.options import WEIGHTS

AVERAGE, OPTIMIZER = "average/", "optimizer/"  # prefixes of the tensors' names, beside `WEIGHTS`

Optimizers = Sequence[torch.optim.Optimizer]


@dataclass
class State:
    """The state that a run continues from, apart from tensors.

    Attributes:
        step: Steps done.
        tokens: Tokens trained on.
        seconds: Seconds of training.
        best: Lowest validation loss, in nats per token.
        validations_since_best: Validations after that of `best`.
        sums: Losses summed since the last line of the history, by name.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = math.inf
    validations_since_best: int = 0
    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file: tensors by name, and the run's state."""

    path: Path
    tensors: dict[str, Tensor]
    state: State

    @property
    def weights(self) -> dict[str, Tensor]:
        """The network's weights by name."""
        return self._below(WEIGHTS)

    @property
    def average(self) -> dict[str, Tensor]:
        """The moving average of the weights by name; empty in a run without one and in the best weights' checkpoint."""
        return self._below(AVERAGE)

    @property
    def optimizer(self) -> dict[str, Tensor]:
        """The optimizers' states, named `KEY/WEIGHT`; empty in the checkpoint of the best weights."""
        return self._below(OPTIMIZER)

    def _below(self, prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}


def write_checkpoint(
    path: Path, network: Network, state: State, optimizers: Optimizers = (), average: Network | None = None
) -> None:
    """Write a checkpoint beside `path` and rename it. Raises `InputError` if it cannot be written."""
    names = {id(weight): name for name, weight in network.named_parameters()}
    tensors = {f"{WEIGHTS}{name}": value for name, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"{AVERAGE}{name}": value for name, value in average.state_dict().items()}
    tensors |= {
        f"{OPTIMIZER}{key}/{names[id(weight)]}": torch.as_tensor(value)
        for optimizer in optimizers
        for weight, values in optimizer.state.items()
        for key, value in values.items()
    }
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as beside:  # not by `save_file`, whose files only their owner may read
        beside.write_bytes(save(plain, {"state": json.dumps(asdict(state))}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises `BundleError` if it is missing or damaged."""
    if not path.exists():
        raise BundleError(f"{path}: no such checkpoint; the run had not saved one yet")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            return Checkpoint(path, tensors, State(**json.loads(file.metadata()["state"])))
    except Exception as error:  # the library's own error class is not public
        raise BundleError(f"{path}: the checkpoint is damaged ({error})") from error


def load_weights(network: Network, weights: dict[str, Tensor], source: Any) -> None:
    """Copy weights of any precision into a network.

    Args:
        network: Changed in place.
        weights: By the names of the network's `state_dict`.
        source: Where they come from, for the message.

    Raises:
        BundleError: A weight is missing, unknown or of another shape.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name in sorted(shapes.keys() | weights.keys()):
        there = tuple(weights[name].shape) if name in weights else "missing"
        here = shapes.get(name, "unknown")
        if there != here:
            raise BundleError(
                f"{source} does not fit this configuration: size mismatch, `{name}` is {there} there and {here} here"
            )
    network.load_state_dict({name: value.float() for name, value in weights.items()})


def load_optimizers(optimizers: Optimizers, network: Network, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's optimizer states to the optimizers of a network that is on its device.

    Raises:
        BundleError: The checkpoint has the state of a weight that the network has not.
    """
    weights = dict(network.named_parameters())
    owners = {id(weight): each for each in optimizers for group in each.param_groups for weight in group["params"]}
    for name, value in checkpoint.optimizer.items():
        key, _, weight_name = name.partition("/")
        if weight_name not in weights:
            raise BundleError(f"{checkpoint.path}: the checkpoint is damaged (no weight is named `{weight_name}`)")
        weight = weights[weight_name]
        owners[id(weight)].state[weight][key] = value.to(weight.device)
