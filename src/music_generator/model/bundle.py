"""A model bundle: a folder of weights and facts. Opening one reads data only and needs no torch.

A bundle may come from a stranger: nothing but JSON and safetensors is read, nothing outside the folder, and no tensor
is used before its size, its sum and its values have been checked.

`bundle.json` names the format, the configuration, where the weights come from, the distributions of the training music
(to compare generated music with) and the size and sha256 of each file that is loaded. `weights.safetensors` (float16)
is to train on; `runtime.int8.safetensors`, and `runtime.float32.safetensors` if it was asked for, are what the engine
loads (see `pack`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from music_generator.errors import HOW_TO_REINSTALL, BundleError, InputError
from music_generator.model.config import ModelConfig
from music_generator.model.pack import PRECISIONS, check_packed
from music_generator.music.features import Distributions

Array = NDArray[Any]

FORMAT = 3
CHECKED_SUFFIX = ".safetensors"  # of what is loaded; texts beside it may be edited
FACTS_FILE, WEIGHTS_FILE = "bundle.json", "weights.safetensors"
PRETRAINED = Path(__file__).parent.parent / "pretrained"
"""The folder of the bundled model."""
PRETRAINED_NAME = "pretrained"  # names it wherever a model is asked for
BUNDLE_FOLDER = "model"  # of a training run: holds its bundle
MOST_FACTS_BYTES, MOST_BYTES = 4_000_000, 1 << 31  # of the facts; of a file that is loaded


def runtime_file(precision: str) -> str:
    """Return the name of the file that the engine loads for a precision."""
    return f"runtime.{precision}.safetensors"


def save_tensors(tensors: Mapping[str, Array], path: Path) -> None:
    """Write a safetensors file; a full disk raises `OSError`."""
    try:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; its files have the sizes that `bundle.json` names, their sums are checked when they are loaded.

    Attributes:
        folder: where it lies.
        config: what the network is.
        provenance: where the weights come from.
        reference: the distributions of the training music.
        files: size and sha256 of each file by name.
    """

    folder: Path
    config: ModelConfig
    provenance: dict[str, Any]
    reference: Distributions
    files: dict[str, dict[str, Any]]

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the engine can load."""
        return tuple(name for name in PRECISIONS if runtime_file(name) in self.files)

    def runtime_tensors(self, precision: str) -> dict[str, Array]:
        """Load the engine's tensors, in the order of `pack.layout`.

        Raises:
            BundleError: the bundle has none of that precision, the file is damaged, or a tensor is not what it must be.
        """
        file = runtime_file(precision)
        if file not in self.files:
            raise BundleError(
                f"{self.folder}: it has no {precision} runtime; it has {', '.join(self.precisions) or 'none'}"
            )
        try:
            tensors = load(self._checked_bytes(file))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{self.folder}: {file} is damaged ({error}); get or train the model again") from error
        return check_packed(tensors, self.config, precision, str(self.folder / file))

    @property
    def weights(self) -> Path:
        """The file of the weights to train on.

        Raises:
            BundleError: the bundle has none, or it is not the file that `bundle.json` describes.
        """
        if WEIGHTS_FILE not in self.files:
            raise BundleError(f"{self.folder}: {FACTS_FILE} lists no {WEIGHTS_FILE}; get or train the model again")
        self._checked_bytes(WEIGHTS_FILE)
        return self.folder / WEIGHTS_FILE

    def _checked_bytes(self, name: str) -> bytes:
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != self.files[name]["sha256"]:
            raise BundleError(
                f"{self.folder}: {name} is not the file that {FACTS_FILE} describes; get or train the model again"
            )
        return data


def find_bundle(name: str | Path) -> Path:
    """Return the folder of the bundle that `name` means.

    Args:
        name: `pretrained` for the bundled model, or the folder of a bundle or of a training run.

    Raises:
        BundleError: There is no bundle; the text says where one was looked for.
    """
    folder = Path(name)
    if name == PRETRAINED_NAME:
        if not (PRETRAINED / FACTS_FILE).is_file():
            raise BundleError(f"the bundled model is missing; {HOW_TO_REINSTALL}")
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
        BundleError: a file is missing or of another size than `bundle.json` says, or the format is another version's.
    """
    folder = find_bundle(model)
    facts_path = folder / FACTS_FILE
    try:
        if facts_path.stat().st_size > MOST_FACTS_BYTES:
            raise BundleError(f"{folder}: {FACTS_FILE} is larger than {MOST_FACTS_BYTES // 10**6} MB, which none is")
        facts = json.loads(facts_path.read_text("utf-8"))
        if facts["format"] != FORMAT:
            raise BundleError(
                f"{folder}: the bundle has format {repr(facts['format'])[:20]}, this version reads format {FORMAT}; "
                + _how_to_convert(folder, facts["format"])
            )
        for name, manifest in facts["files"].items():
            _check_file(folder, name, manifest)
        config = ModelConfig(**facts["config"])
        reference = Distributions.from_json(facts["reference"])
        return Bundle(folder, config, dict(facts["provenance"]), reference, dict(facts["files"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BundleError(f"{folder}: {FACTS_FILE} is damaged ({type(error).__name__}: {str(error)[:200]})") from error


def _how_to_convert(folder: Path, found: object) -> str:
    if folder == PRETRAINED:
        return HOW_TO_REINSTALL
    if isinstance(found, int) and found < FORMAT:
        return "train the model again: music-generator train CORPUS --run RUN"
    return "in your clone of music-generator-rnn install a newer one with: git pull && pip install ."


def _check_file(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    path = folder / name
    if Path(name).name != name or name == ".." or path.resolve().parent != folder.resolve():  # a link may lead outside
        raise BundleError(f"{folder}: {FACTS_FILE} names a file outside the bundle: {name!r}")
    if path.suffix != CHECKED_SUFFIX:
        raise BundleError(f"{folder}: {FACTS_FILE} lists {name!r}; only {CHECKED_SUFFIX} files are loaded")
    if not path.is_file():
        raise BundleError(f"{folder}: {name} is missing from the bundle; get or train the model again")
    if not 0 <= manifest["bytes"] <= MOST_BYTES:
        raise BundleError(f"{folder}: {FACTS_FILE} gives {name} {manifest['bytes']} bytes; the limit is {MOST_BYTES}")
    if path.stat().st_size != manifest["bytes"] or not isinstance(manifest["sha256"], str):
        raise BundleError(f"{folder}: {name} is not the file that {FACTS_FILE} describes; get or train the model again")


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
    """Write a bundle beside `folder` and rename it into place.

    Args:
        folder: where it goes; a bundle that is there is replaced.
        config: what the network is.
        provenance: where the weights come from.
        reference: the distributions of the training music.
        write_files: writes weights, runtime files and texts into the folder that it is given.

    Raises:
        InputError: it cannot be written, or `folder` is something else than a bundle.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / FACTS_FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not a model bundle; name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
        beside.mkdir()
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
                    if path.suffix == CHECKED_SUFFIX
                },
            }
            (beside / FACTS_FILE).write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")
            mode = (beside / FACTS_FILE).stat().st_mode & 0o777
            for path in beside.iterdir():
                path.chmod(mode)  # some libraries write for the owner alone
            if folder.exists():  # renamed first, because a half removed one would be taken for something else
                folder.rename(beside.with_name(f"{beside.name}-old"))
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(beside.with_name(f"{beside.name}-old"), ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    return open_bundle(folder)
