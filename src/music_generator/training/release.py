"""The end of a run: a model bundle of its best weights, with held-out likelihood, model card and licence."""

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
from music_generator.data.windows import SEGMENT_TOKENS, Pool, WindowOptions, sample_windows
from music_generator.model.bundle import BUNDLE_FOLDER, Bundle
from music_generator.model.config import FIELDS
from music_generator.model.export import bundle_network
from music_generator.model.network import Batch, Network
from music_generator.music.features import distributions
from music_generator.music.tokens import decode
from music_generator.training.batches import to_batch
from music_generator.training.checkpoint import Checkpoint, load_weights, read_checkpoint
from music_generator.training.likelihood import likelihood
from music_generator.training.options import BEST_FILE, LAST_FILE, Base, Run, read_run
from music_generator.training.protocol import Row

MAESTRO_LICENCE = "CC BY-NC-SA 4.0"
MAESTRO_LICENCE_FILE = Path(__file__).parent.parent / "licences" / "CC-BY-NC-SA-4.0.txt"
MAESTRO_CREDIT = (
    "Curtis Hawthorne, Andriy Stasyuk, Adam Roberts, Ian Simon, Cheng-Zhi Anna Huang, Sander Dieleman, Erich Elsen, "
    'Jesse Engel and Douglas Eck: "Enabling Factorized Piano Music Modeling and Generation with the MAESTRO Dataset", '
    "ICLR 2019"
)

OTHER_CREDITS = {  # folders that are trained on beside it, by name
    "asap": "Francesco Foscarin, Andrew McLeod, Philippe Rigaux, Florent Jacquemard and Masahiko Sakai: "
    '"ASAP: a dataset of aligned scores and performances for piano transcription", ISMIR 2020; CC BY-NC-SA 4.0',
    "rolls": "reproducing piano rolls of the Stanford University Libraries (pianoroll/pianolatron-data); MIT licence",
}


def bundle_run(
    run: str | Path,
    corpus: Corpus,
    *,
    out: str | Path | None = None,
    precisions: tuple[str, ...] = ("int8",),
    progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Make a bundle of a run's best weights, or of its last (averaged) ones if it never validated.

    Args:
        run: The run's folder.
        corpus: What it was trained on; the bundle gets the likelihood of its whole validation split.
        out: The bundle's folder; `RUN/model` if None.
        precisions: The precisions that generation can use.
        progress: Called with the number of segments done and of all.

    Raises:
        BundleError: The run has no checkpoint, or a damaged one.
        InputError: The bundle cannot be written.
    """
    run = Path(run)
    facts = read_run(run)
    checkpoint = read_checkpoint(run / BEST_FILE if (run / BEST_FILE).exists() else run / LAST_FILE)
    network = Network(facts.config)
    weights = checkpoint.average or checkpoint.weights
    load_weights(network, {name: value.half() for name, value in weights.items()}, checkpoint.path)
    network.eval()
    validation = likelihood(network, corpus, progress=progress) if corpus.split("validation") else {}
    provenance = _provenance(network, corpus, facts, checkpoint, validation)
    texts = {"README.md": model_card(facts.config.to_json(), provenance)}
    if MAESTRO_LICENCE in provenance["licence"]:
        texts["LICENSE"] = MAESTRO_LICENCE_FILE.read_text("utf-8")
    return bundle_network(
        network,
        out or run / BUNDLE_FOLDER,
        provenance,
        distributions(decode(corpus.piece_rows(i)) for i in _own_pieces(corpus)),
        shown_music(corpus),
        precisions=precisions,
        texts=texts,
    )


def _provenance(
    network: Network, corpus: Corpus, run: Run, checkpoint: Checkpoint, validation: dict[str, Row]
) -> dict[str, Any]:
    """Return where the weights come from, as plain data for the bundle's facts."""
    state = checkpoint.state
    return {
        "data": " + ".join(corpus.sources),
        "licence": _licence(corpus, run.base),
        "base": run.base and asdict(run.base),
        "train_pieces": len(corpus.split("train")),
        "train_rows": sum(corpus.pieces[i].rows for i in corpus.split("train")),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "steps": state.step,
        "tokens": state.tokens,
        "seconds": round(state.seconds),
        "options": asdict(run.options),
        "software": {"music-generator-rnn": version("music-generator-rnn"), "torch": torch.__version__},
        "validation": validation,
    }


def _licence(corpus: Corpus, base: Base | None) -> str:
    """Return the licence of the weights: that of the data, and that of the model that they began from."""
    own = MAESTRO_LICENCE if is_maestro_corpus(corpus) else f"that of the data, {' + '.join(corpus.sources)}"
    return own if base is None else " and ".join(dict.fromkeys([*base.licence.split(" and "), own]))


def _own_pieces(corpus: Corpus) -> list[int]:
    """Return the training pieces of the first folder: the others are told apart."""
    train = corpus.split("train")
    return [i for i in train if corpus.pieces[i].tag is None] or train


def shown_music(corpus: Corpus) -> Batch:
    """Return 16 windows of the train split, with gaps: they show the ranges of the numbers inside a network."""
    options = WindowOptions(batch=16, length=SEGMENT_TOKENS)
    sampled = sample_windows(Pool(corpus, np.asarray(corpus.split("train"))), {}, options, [0])
    return to_batch(sampled.windows, options.length, sampled.gaps)


def is_maestro_corpus(corpus: Corpus) -> bool:
    """Return whether one of the folders that the corpus was prepared from has MAESTRO's name."""
    return any(source.casefold().startswith("maestro") for source in corpus.sources)


def model_card(config: dict[str, Any], provenance: dict[str, Any]) -> str:
    """Return the model card as Markdown: data and licence, training, held-out likelihood."""
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
    data, base = provenance["data"], provenance.get("base")
    if base:
        lines += [
            "",
            f"It began from the weights of the model `{base['name']}` (sha256 of its bundle.json: {base['sha256']}), "
            f"trained on {base['data']}, licence: {base['licence']}.",
        ]
        data = f"{base['data']} + {data}"
    if MAESTRO_LICENCE in provenance["licence"]:
        lines += ["", f"MAESTRO: {MAESTRO_CREDIT}. Not for commercial use; share alike; credit them."]
    for name in sorted(set(data.split(" + ")) & set(OTHER_CREDITS)):
        lines += ["", f"{name}: {OTHER_CREDITS[name]}."]
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
        f"Validation split, nats per token on the 10 ms grid, segments of {SEGMENT_TOKENS} tokens, context reset at "
        "each, composer unknown, float16 weights evaluated in float32; `infill_N` and `blind_N` are the same tokens in "
        "gaps of N with and without their future; `decision` is nats per gap of resuming at its end, not part of the "
        "total. Checkpoints were chosen by an excerpt of this split.",
        "",
        *_likelihood_table(provenance["validation"]),
    ]
    return "\n".join(lines) + "\n"


def _likelihood_table(rows: dict[str, Row]) -> list[str]:
    lines = ["| | total | " + " | ".join(FIELDS) + " | decision |", "|---" * (len(FIELDS) + 3) + "|"]
    for name, row in rows.items():
        cells = [f"{row[key]:.3f}" for key in ("total", *FIELDS)]
        decision = f"{row['decision']:.3f}" if name.startswith("infill") else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {decision} |")
    return lines
