"""From the network (torch) to a bundle and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from music_generator.errors import BundleError
from music_generator.model.bundle import WEIGHTS_FILE, Bundle, runtime_file, save_tensors, write_bundle
from music_generator.model.network import Batch, Network
from music_generator.model.pack import Range, pack
from music_generator.music.features import Distributions


@torch.no_grad()
def input_ranges(network: Network, music: Batch) -> dict[str, Range]:
    """Return the smallest and largest input of the heads' maps and of `fuse` by `pack.layout`'s names."""
    found: dict[str, Range] = {}
    hooks = []
    for module_name, module in network.named_modules():
        name = "fuse" if module_name == "fuse_out" else module_name
        if name == "fuse" or (name.startswith("heads.") and isinstance(module, nn.Linear)):

            def note(_module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                x, (low, high) = inputs[0].flatten(), found.get(name, (0.0, 1e-3))
                if len(x):
                    found[name] = min(low, float(x.min())), max(high, float(x.max()))

            hooks.append(module.register_forward_pre_hook(note))
    training = network.training
    reading = network.eval().read(music)
    network.without_future(reading)
    if network.config.direction == "both":
        network.with_future(reading)
    network.train(training)
    for hook in hooks:
        hook.remove()
    return found


def bundle_network(
    network: Network,
    folder: str | Path,
    provenance: dict[str, Any],
    reference: Distributions,
    music: Batch,
    *,
    precisions: Sequence[str] = ("int8",),
    texts: dict[str, str] | None = None,
) -> Bundle:
    """Write a network as a bundle: weights in float16 and the engine's tensors in each precision.

    Args:
        network: the network.
        folder: where the bundle goes; one that is there is replaced.
        provenance: where the weights come from.
        reference: the distributions of the training music.
        music: a few windows of the training music, which show the ranges that the 8-bit maps must hold.
        precisions: "int8", "float32" or both.
        texts: files beside the weights, by name.
    """
    network = network.eval().cpu()
    weights = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    rounded = {name: value.float().numpy() for name, value in weights.items()}  # what is trained on is what is packed

    def write_files(beside: Path) -> None:
        try:
            save_file(weights, beside / WEIGHTS_FILE)
        except SafetensorError as error:  # a full disk, for one
            raise OSError(str(error)) from error
        for precision in precisions:
            ranges = input_ranges(network, music) if precision == "int8" else None
            save_tensors(pack(rounded, network.config, ranges), beside / runtime_file(precision))
        for name, text in (texts or {}).items():
            (beside / name).write_text(text, "utf-8")

    return write_bundle(folder, network.config, provenance, reference, write_files)


def load_network(bundle: Bundle) -> Network:
    """Return the network of a bundle, its float16 weights as float32.

    Raises:
        BundleError: the weights do not fit the configuration, or hold NaN or infinity.
    """
    with torch.device("meta"):  # takes no memory, because the sizes may be absurd
        sizes = {name: list(value.shape) for name, value in Network(bundle.config).state_dict().items()}
    try:
        with safe_open(bundle.weights, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                found, wanted = file.get_slice(name).get_shape(), sizes.get(name)
                if wanted != found:
                    raise RuntimeError(f"size mismatch for {name}: {found} in the file, {wanted} in the configuration")
        network = Network(bundle.config)
        network.load_state_dict({name: value.float() for name, value in load_file(bundle.weights).items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"{bundle.folder}: {WEIGHTS_FILE} does not fit its configuration: {reason}") from error
    broken = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise BundleError(f"{bundle.folder}: {WEIGHTS_FILE} holds NaN or infinity in {broken[0]}")
    return network
