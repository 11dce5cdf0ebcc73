"""A model bundle: a folder of weights, runtime graphs and facts. Opening one reads data only and needs no torch.

A bundle may come from a stranger: nothing but JSON, safetensors and ONNX is read, neither of the latter before its
size and sum are found right, and nothing outside the folder (see `graphs` for what a graph may hold).

`bundle.json` names the format, the configuration, where the weights come from, the distributions of the training music
(to compare generated music with) and the size and sha256 of each file that is loaded. `weights.safetensors` (float16)
is for training on, `past`, `future`, `open` and `joined` are the graphs that generation runs (see `export`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from music_generator.errors import BundleError, InputError
from music_generator.model.config import ModelConfig
from music_generator.model.graphs import check_graph
from music_generator.music.features import Distributions

FORMAT = 2
CHECKED_SUFFIXES = (".onnx", ".safetensors")  # what is loaded; texts beside them may be edited
FACTS_FILE, WEIGHTS_FILE = "bundle.json", "weights.safetensors"
PRETRAINED = Path(__file__).parent.parent / "pretrained"
PRETRAINED_NAME = "pretrained"  # names it wherever a model is asked for
BUNDLE_FOLDER = "model"  # of a training run: holds its bundle
MOST_FACTS_BYTES, MOST_BYTES = 4_000_000, 1 << 31  # of the facts; of a file that is loaded, as ONNX allows

PRECISIONS = ("int8", "float32")  # of the runtime graphs


def graph_file(name: str, precision: str) -> str:
    """The file of a runtime graph: `past`, `future`, `open` or `joined`."""
    return f"{name}.{precision}.onnx"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, its files checked against their sizes and sums."""

    folder: Path
    config: ModelConfig
    provenance: dict[str, Any]
    reference: Distributions
    files: tuple[str, ...]

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions it holds runtime graphs of."""
        return tuple(name for name in PRECISIONS if graph_file("open", name) in self.files)

    def graph(self, name: str, precision: str) -> Path:
        """The file of a runtime graph, fit to be loaded.

        Raises `BundleError` if the bundle has none of that precision, or one that is not safe or not of its sizes.
        """
        file = graph_file(name, precision)
        if file not in self.files:
            raise BundleError(f"{self.folder}: it has no {precision} graphs; it has {', '.join(self.precisions)}")
        path = self.folder / file
        shapes = check_graph(path)
        for tensor, size in _last_sizes(name, self.config).items():
            shape = {**shapes.outputs, **shapes.inputs}.get(tensor)
            if not shape or shape[-1] not in (size, None):
                raise BundleError(
                    f"{path}: its `{tensor}` must be of size {size} by {FACTS_FILE}, not "
                    f"{shape[-1] if shape else 'absent'}; get or train the model anew"
                )
        return path

    @property
    def weights(self) -> Path:
        """The file of the weights to train on. Raises `BundleError` if the bundle has none."""
        if WEIGHTS_FILE not in self.files:
            raise BundleError(f"{self.folder}: {FACTS_FILE} lists no {WEIGHTS_FILE}; get or train it anew")
        return self.folder / WEIGHTS_FILE


def _last_sizes(graph: str, config: ModelConfig) -> dict[str, int]:
    """The last size of the inputs and outputs of a graph that depend on the configuration, by name."""
    both = config.head_size * (2 if config.direction == "both" else 1)
    if graph == "past":
        return {"state": config.forward_size, "context": both}
    if graph == "future":
        return {"said": both}
    rows = config.forward_layers * (2 if config.cell == "lstm" else 1)
    context = both if graph == "joined" else config.head_size
    return {"context": context, **{f"state_{i}": config.forward_size for i in range(rows)}}


def find_bundle(name: str | Path) -> Path:
    """Return the folder of the bundle that `name` means.

    Args:
        name: `pretrained` for the bundled model, or the folder of a bundle or of a training run.

    Raises:
        BundleError: There is no bundle; the text says where one was looked for.
    """
    folder = Path(name)
    if name == PRETRAINED_NAME:
        return PRETRAINED
    for place in (folder, folder / BUNDLE_FOLDER):
        if (place / FACTS_FILE).is_file():
            return place
    raise BundleError(
        f"{folder}: no model bundle ({FACTS_FILE} is missing), neither there nor in {folder / BUNDLE_FOLDER}; name the "
        f"folder of a model or of a training run, or `{PRETRAINED_NAME}`"
    )


def open_bundle(model: str | Path = PRETRAINED_NAME) -> Bundle:
    """Open the bundle that `find_bundle` finds, the pretrained one by default.

    Raises:
        BundleError: A file is missing, is not what the manifest says, or is of another version.
    """
    folder = find_bundle(model)
    facts_path = folder / FACTS_FILE
    try:
        if facts_path.stat().st_size > MOST_FACTS_BYTES:
            raise BundleError(f"{folder}: {FACTS_FILE} is larger than {MOST_FACTS_BYTES // 10**6} MB, which none is")
        facts = json.loads(facts_path.read_text("utf-8"))
        if facts["format"] != FORMAT:
            raise BundleError(
                f"{folder}: its format is {facts['format']}, this version reads {FORMAT}; a run makes its own anew by "
                "`music-generator train CORPUS --resume RUN`"
            )
        for name, manifest in facts["files"].items():
            _check_file(folder, name, manifest)
        config = ModelConfig(**facts["config"])
        reference = Distributions.from_json(facts["reference"])
        return Bundle(folder, config, dict(facts["provenance"]), reference, tuple(facts["files"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BundleError(f"{folder}: {FACTS_FILE} is damaged ({repr(error)[:200]})") from error


def _check_file(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    path = folder / name
    if Path(name).name != name or name == ".." or path.resolve().parent != folder.resolve():  # a link may lead outside
        raise BundleError(f"{folder}: {FACTS_FILE} names a file outside the bundle: {name!r}")
    if path.suffix not in CHECKED_SUFFIXES:
        raise BundleError(f"{folder}: {FACTS_FILE} lists {name!r}; only {' and '.join(CHECKED_SUFFIXES)} are loaded")
    if not path.is_file():
        raise BundleError(f"{folder}: {name} is missing from the bundle; get or train it anew")
    if not 0 <= manifest["bytes"] <= MOST_BYTES:
        raise BundleError(f"{folder}: {name} is to have {manifest['bytes']} bytes; at most {MOST_BYTES} are loaded")
    if path.stat().st_size != manifest["bytes"] or _sha256(path) != manifest["sha256"]:
        raise BundleError(f"{folder}: {name} is not the file that {FACTS_FILE} describes; get or train it anew")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_bundle(
    folder: str | Path,
    config: ModelConfig,
    provenance: dict[str, Any],
    reference: Distributions,
    write_files: Callable[[Path], None],
) -> Bundle:
    """Write a bundle beside `folder` and put it in its place; `write_files` puts weights, graphs and texts into it.

    Raises `InputError` if it cannot be written or `folder` is something else than a bundle.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / FACTS_FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not a model bundle; name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            write_files(beside)
            facts = {
                "format": FORMAT,
                "config": config.to_json(),
                "provenance": provenance,
                "reference": reference.to_json(),
                "files": {
                    path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
                    for path in sorted(beside.iterdir())
                    if path.suffix in CHECKED_SUFFIXES
                },
            }
            (beside / FACTS_FILE).write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")
            beside.chmod(0o755)
            for path in beside.iterdir():
                path.chmod(0o644)  # some are written for the owner alone
            if folder.exists():  # put aside, for one that is half removed would be taken for something else
                folder.rename(beside.with_name(f"{beside.name}-old"))
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(beside.with_name(f"{beside.name}-old"), ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    return open_bundle(folder)
