"""RNN, GRU, LSTM and BiLSTM, with equal parameters and equal tokens: the notebook's question, on held-out music.

`python benchmarks/cells.py CORPUS OUT NAME` trains one of them in OUT/NAME, on one thread, so that two may run at a
time; `python benchmarks/cells.py CORPUS OUT` draws OUT/cells.png of those that are done and prints their table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from music_generator.errors import MusicGeneratorError
from music_generator.model.config import ModelConfig

STEPS = 150  # of 32 windows of 256 tokens
SEGMENTS = 96  # of the validation split
KINDS = {  # cell, direction, and the units of a layer with which all have 1.24 million parameters
    "RNN": ("rnn", "forward", 512),
    "GRU": ("gru", "forward", 296),
    "LSTM": ("lstm", "forward", 248),
    "BiLSTM": ("lstm", "both", 184),
}
COLOURS = dict(zip(KINDS, ("#8a8a8a", "#3a7d44", "#0b2f6b", "#c4621b"), strict=True))


def sized(name: str, composers: tuple[str, ...]) -> ModelConfig:
    """The configuration of a kind."""
    cell, direction, size = KINDS[name]
    return ModelConfig(
        cell=cell, direction=direction, forward_size=size, backward_size=128, input_size=128, head_size=128,
        composers=composers, dropout=0.0,
    )  # fmt: skip


def train(corpus_folder: Path, out: Path, name: str) -> None:
    """Train one kind and leave its history and its likelihoods."""
    import torch

    from music_generator.data.corpus import open_corpus
    from music_generator.training.likelihood import likelihood
    from music_generator.training.options import TrainingOptions
    from music_generator.training.trainer import Trainer

    corpus = open_corpus(corpus_folder)
    options = TrainingOptions(
        steps=STEPS, log_every=10, validate_every=30, validation_segments=24, threads=1, patience=0
    )
    trainer = Trainer(corpus, out / name, sized(name, corpus.composers), options)
    torch.set_num_threads(1)
    trainer.run()
    found = likelihood(trainer.network, corpus, gaps=(4, 16), limit=SEGMENTS)
    facts = {"config": trainer.config.to_json() | {"composers": []}, "likelihood": found}
    facts |= {"parameters": sum(weight.numel() for weight in trainer.network.parameters())}
    facts |= {"tokens": trainer.state.tokens, "seconds": trainer.state.seconds}
    (out / name / "found.json").write_text(json.dumps(facts, indent=1), "utf-8")


def draw(out: Path) -> list[str]:
    """Write the picture; the rows of the table."""
    from matplotlib.figure import Figure

    from music_generator import plots
    from music_generator.training.history import HISTORY_FILE, read_history

    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    rows = []
    for name in KINDS:
        if not (out / name / "found.json").exists():
            continue
        history = read_history(out / name / HISTORY_FILE)
        facts = json.loads((out / name / "found.json").read_text("utf-8"))
        seen = history["tokens"] / 1e6
        axes.plot(seen, history["train_total"], color=COLOURS[name], linewidth=1, alpha=0.45)
        held = np.isfinite(history["validation_total"])
        axes.plot(seen[held], history["validation_total"][held], "o-", color=COLOURS[name], label=name, markersize=4)
        found, size = facts["likelihood"], facts["config"]["forward_size"]
        worth = [
            f"{found[f'blind_{gap}']['total'] - found[f'infill_{gap}']['total']:.3f}"
            if f"infill_{gap}" in found
            else "–"
            for gap in (4, 16)
        ]
        rows.append(
            f"| {name} | 2 × {size} | {facts['parameters'] / 1e6:.2f} | {facts['tokens'] / 1e6:.2f} | "
            + " | ".join(f"{found['continue'][key]:.3f}" for key in ("total", "shift", "key", "velocity", "duration"))
            + f" | {worth[0]} | {worth[1]} | {facts['tokens'] / facts['seconds']:,.0f} |"
        )
    axes.set_xlabel("million tokens seen")
    axes.set_ylabel("nats per token")
    axes.set_title("lines: training; dots: held-out, each token given those before it")
    axes.legend()
    axes.grid(alpha=0.3)
    plots.save(figure, out / "cells.png")
    return rows


def main() -> None:
    """Train one, or draw all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("name", nargs="?", choices=KINDS)
    options = parser.parse_args()
    try:
        if options.name:
            train(options.corpus, options.out, options.name)
        else:
            print(*draw(options.out), sep="\n")
    except MusicGeneratorError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
