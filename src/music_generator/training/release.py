"""The end of a run: held-out likelihood of the best weights, and a model bundle that says where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from music_generator.data.corpus import Corpus
from music_generator.errors import CorpusError
from music_generator.model.bundle import BUNDLE_FOLDER, Bundle
from music_generator.model.config import FIELDS
from music_generator.model.export import bundle_network
from music_generator.model.network import Batch, Network
from music_generator.music.features import distributions
from music_generator.music.tokens import decode
from music_generator.training.likelihood import SEGMENT, likelihood
from music_generator.training.trainer import BEST_FILE, LAST_FILE, load_weights, read_checkpoint, read_run, under
from music_generator.training.windows import Pool, WindowOptions, sample_windows, to_batch

MAESTRO_LICENCE = "CC BY-NC-SA 4.0"
MAESTRO_LICENCE_FILE = Path(__file__).parent.parent / "licences" / "CC-BY-NC-SA-4.0.txt"
MAESTRO_CREDIT = (
    "Curtis Hawthorne, Andriy Stasyuk, Adam Roberts, Ian Simon, Cheng-Zhi Anna Huang, Sander Dieleman, Erich Elsen, "
    'Jesse Engel and Douglas Eck: "Enabling Factorized Piano Music Modeling and Generation with the MAESTRO Dataset", '
    "ICLR 2019"
)


def bundle_run(
    run: str | Path,
    corpus: Corpus,
    *,
    out: str | Path | None = None,
    precisions: tuple[str, ...] = ("int8",),
    progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """The bundle of a run's best weights (its last, where it never validated), in `RUN/model` or `out`.

    Raises `BundleError` if the run has no checkpoint, `InputError` if the bundle cannot be written.
    """
    run = Path(run)
    config, options = read_run(run)
    chosen = run / BEST_FILE if (run / BEST_FILE).exists() else run / LAST_FILE
    tensors, state = read_checkpoint(chosen)
    network = Network(config)
    shipped = {name: value.half() for name, value in under(tensors, "weights/").items()}
    load_weights(network, shipped, str(chosen))
    network.eval()
    held_out = _held_out(network, corpus, progress)
    provenance = {
        "data": corpus.source,
        "licence": MAESTRO_LICENCE if is_maestro_corpus(corpus) else f"that of the data, {corpus.source}",
        "train_pieces": len(corpus.split("train")),
        "train_rows": sum(corpus.pieces[i].rows for i in corpus.split("train")),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "steps": state["step"],
        "tokens": state["tokens"],
        "seconds": round(state["seconds"]),
        "options": asdict(options),
        "software": {"music-generator-rnn": version("music-generator-rnn"), "torch": torch.__version__},
        "validation": held_out,
    }
    reference = distributions(decode(corpus.piece_rows(i)) for i in corpus.split("train"))
    texts = {"README.md": model_card(config.to_json(), provenance)}
    if is_maestro_corpus(corpus):
        texts["LICENSE"] = MAESTRO_LICENCE_FILE.read_text("utf-8")
    return bundle_network(
        network,
        out or run / BUNDLE_FOLDER,
        provenance,
        reference,
        shown_music(corpus),
        precisions=precisions,
        texts=texts,
    )


def shown_music(corpus: Corpus) -> Batch:
    """A few windows of the train split, with gaps: what shows the ranges of the numbers inside a network."""
    options = WindowOptions(batch=16, length=SEGMENT)
    sampled = sample_windows(Pool(corpus, np.asarray(corpus.split("train"))), {}, options, [0])
    return to_batch(sampled.windows, SEGMENT, sampled.resume)


def _held_out(
    network: Network, corpus: Corpus, progress: Callable[[int, int], None] | None
) -> dict[str, dict[str, float]]:
    """The likelihood protocol on the whole validation split in float32; empty where there is none."""
    try:
        return likelihood(network, corpus, "validation", progress=progress)
    except CorpusError:
        return {}


def is_maestro_corpus(corpus: Corpus) -> bool:
    """Whether a corpus was prepared from a folder of MAESTRO's name."""
    return corpus.source.casefold().startswith("maestro")


def model_card(config: dict[str, Any], provenance: dict[str, Any]) -> str:
    """What a model is, as Markdown: data, licence, computing, held-out figures, weaknesses."""
    lines = [
        "# Model card",
        "",
        f"A piano-performance model ({config['cell']}, direction `{config['direction']}`), "
        f"{provenance['parameters']:,} parameters, of the package `music-generator-rnn` "
        f"{provenance['software']['music-generator-rnn']}.",
        "",
        "## Data and licence",
        "",
        f"Trained on the train split of {provenance['data']}: {provenance['train_pieces']} performances, "
        f"{provenance['train_rows']:,} token rows. Licence of the weights: {provenance['licence']}.",
    ]
    if provenance["licence"] == MAESTRO_LICENCE:
        lines += ["", f"MAESTRO: {MAESTRO_CREDIT}. Not for commercial use; share alike; credit them."]
    lines += [
        "",
        "## Training",
        "",
        f"{provenance['steps']:,} steps, {provenance['tokens']:,} tokens, {provenance['seconds'] / 60:.0f} minutes of "
        f"wall time, torch {provenance['software']['torch']}. Options:",
        "",
        "```json",
        json.dumps(provenance["options"]),
        "```",
        "",
        "## Held-out likelihood",
        "",
        "Validation split, nats per token on the 10 ms grid, segments of 512 tokens, context reset at each, composer "
        "not told, float16 weights evaluated in float32; `infill_N` and `blind_N` are the same tokens in gaps of N "
        "with and without their future; `decision` is nats per gap of resuming when it is over, not part of the total. "
        "Checkpoints were chosen by an excerpt of this split.",
        "",
        "| | total | " + " | ".join(FIELDS) + " | decision |",
        "|---" * (len(FIELDS) + 3) + "|",
    ]
    for name, row in provenance["validation"].items():
        cells = [f"{row[key]:.3f}" for key in ("total", *FIELDS)]
        decision = f"{row['decision']:.3f}" if name.startswith("infill") else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {decision} |")
    return "\n".join(lines) + "\n"
