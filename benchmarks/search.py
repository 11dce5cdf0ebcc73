"""One row of docs/experiments.md: `python benchmarks/search.py CORPUS NAME`; without a name, those that there are.

Every run has the same number of tokens, the same seed and a small network of 1.2 million parameters, and differs from
`base` in one thing. The likelihoods are those of 96 validation segments, so the rows compare with each other alone.
Such short runs rank what helps at the start; what helps against overfitting shows only in long ones.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

SMALL = {"forward_size": 192, "backward_size": 128, "input_size": 128, "head_size": 128}
TOKENS = 150 * 32 * 256

# network sizes and options that differ from the base; `patch` names what no option reaches
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "wide": {"forward_size": 288, "backward_size": 192},
    "deep": {"forward_layers": 3},
    "shallow": {"forward_layers": 1},
    "heads": {"head_size": 256},
    "dropout-0": {"dropout": 0.0},
    "dropout-0.3": {"dropout": 0.3},
    "no-memory": {"memory": 0},
    "event-heads-2": {"patch": "event heads", "heads": 2},
    "event-heads-8": {"patch": "event heads", "heads": 8},
    "windows-64x128": {"batch": 64, "length": 128},
    "windows-16x512": {"batch": 16, "length": 512},
    "batch-16": {"batch": 16},
    "batch-64": {"batch": 64},
    "batch-16-then-64": {"patch": "growing batch"},
    "rate-half": {"learning_rate": 1e-3, "matrix_learning_rate": 2.5e-3},
    "rate-double": {"learning_rate": 4e-3, "matrix_learning_rate": 1e-2},
    "no-roll": {"patch": "no roll"},
    "bins-3.5%": {"patch": "bins", "ratio": 1.035},
    "bins-15%": {"patch": "bins", "ratio": 1.15},
    "average-0.98": {"patch": "average", "decay": 0.98},
    "future-0.4": {"future_share": 0.4},
    "gaps-2-to-16": {"longest_gap": 16},
    "transpose-3": {"transpose": 3},
}


def patch_bins(ratio: float) -> None:
    """Wide bins that grow by another ratio; before anything that counts the bins is imported."""
    from music_generator.music import tokens

    tokens.SHIFT_BINS = tokens._geometric(0, ratio, 20 * tokens.TICKS_PER_SECOND)
    tokens.DURATION_BINS = tokens._geometric(1, ratio, 60 * tokens.TICKS_PER_SECOND)
    tokens.RESUME = len(tokens.SHIFT_BINS)
    tokens.END, tokens.SHIFT_CLASSES = tokens.RESUME + 1, tokens.RESUME + 2


def patch_event_heads(heads: int) -> None:
    """A memory with another number of heads that look up events; before anything that is made of them is imported."""
    from music_generator.model import config

    config.EVENT_HEADS, config.MEMORY_HEADS = heads, heads + config.GROUP_HEADS
    config.POINTED = tuple(range(heads, config.MEMORY_HEADS))


def patch_roll() -> None:
    """A network that is not told what each key did last."""
    import torch

    from music_generator.model import network

    plain = network.recency_roll
    network.recency_roll = lambda *inputs: torch.zeros_like(plain(*inputs))


def measure(corpus_folder: Path, name: str) -> str:
    """Train one variant and give its row."""
    variant = dict(VARIANTS[name])
    patch, ratio, decay, heads = (variant.pop(name, None) for name in ("patch", "ratio", "decay", "heads"))
    if patch == "bins":
        patch_bins(ratio)
    if patch == "event heads":
        patch_event_heads(heads)
    if patch == "no roll":
        patch_roll()

    from dataclasses import fields, replace

    from music_generator.data.corpus import open_corpus
    from music_generator.data.windows import WindowOptions
    from music_generator.model.config import ModelConfig
    from music_generator.training.likelihood import likelihood
    from music_generator.training.options import TrainingOptions
    from music_generator.training.trainer import Trainer

    corpus = open_corpus(corpus_folder)

    def taken(kind: type) -> dict[str, Any]:
        return {field.name: variant[field.name] for field in fields(kind) if field.name in variant}

    windows = WindowOptions(**taken(WindowOptions))
    steps = TOKENS // (windows.batch * windows.length)
    if patch == "growing batch":
        steps = TOKENS // (32 * 256)  # half of the steps with 16 windows, then as many tokens again in steps of 64
        small = TOKENS // 2 // (16 * 256)
        steps = small + TOKENS // 2 // (64 * 256)
    options = TrainingOptions(steps=steps, validate_every=10**9, windows=windows, **taken(TrainingOptions))

    class Patched(Trainer):
        averaged: dict[str, Any] | None = None

        def _batch(self, step: int) -> Any:
            if patch == "growing batch":
                size = 16 if step < small else 64
                object.__setattr__(self.options.windows, "batch", size)
            return super()._batch(step)

        def _step(self, batch: Any, tokens: int) -> dict[str, float]:
            found = super()._step(batch, tokens)
            if patch == "average":
                now = self.network.state_dict()
                self.averaged = self.averaged or copy.deepcopy(now)
                for key, value in self.averaged.items():
                    value.lerp_(now[key], 1 - decay)
            return found

    config = replace(ModelConfig(composers=corpus.composers), **SMALL | taken(ModelConfig))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Patched(corpus, Path(folder) / "run", config, options)
        reports: list[Any] = []
        trainer.run(reports.append)
    if trainer.averaged is not None:
        trainer.network.load_state_dict(trainer.averaged)
    found = likelihood(trainer.network, corpus, gaps=(4, 16), limit=96)
    parameters = sum(weight.numel() for weight in trainer.network.parameters())
    speed = trainer.state.tokens / trainer.state.seconds
    worth = [found[f"blind_{gap}"]["total"] - found[f"infill_{gap}"]["total"] for gap in (4, 16)]
    return (
        f"| {name} | {parameters / 1e6:.2f} | {found['continue']['total']:.3f} | {worth[0]:.3f} | {worth[1]:.3f} | "
        f"{reports[-1].train['total']:.3f} | {speed:,.0f} |"
    )


def main() -> None:
    """Print the row of the variant named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("name", nargs="?", choices=VARIANTS)
    options = parser.parse_args()
    if options.name is None:
        sys.exit("\n".join(VARIANTS))
    print(measure(options.corpus, options.name), flush=True)


if __name__ == "__main__":
    main()
