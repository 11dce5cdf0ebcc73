"""Bundles: what was written comes back, what is damaged is told in one line, and only a bundle is replaced."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="bundles are made with torch, of the extra `train`")

from safetensors.numpy import load_file, save_file  # noqa: E402

from music_generator.data.corpus import Corpus  # noqa: E402
from music_generator.engine.engine import Engine  # noqa: E402
from music_generator.errors import BundleError, InputError  # noqa: E402
from music_generator.generation import SamplingOptions, compose  # noqa: E402
from music_generator.model import bundle as bundle_module  # noqa: E402
from music_generator.model.bundle import FORMAT, Bundle, open_bundle, runtime_file, write_bundle  # noqa: E402
from music_generator.model.config import ModelConfig  # noqa: E402
from music_generator.model.export import bundle_network, load_network  # noqa: E402
from music_generator.model.network import Network  # noqa: E402
from music_generator.model.pack import PRECISIONS, layout, pack, tensors_of  # noqa: E402
from music_generator.music.features import Distributions, distributions  # noqa: E402
from music_generator.music.tokens import Array  # noqa: E402
from music_generator.training.release import shown_music  # noqa: E402

WEIGHTS, RUNTIME = "weights.safetensors", "runtime.int8.safetensors"


# --- what comes back


def test_weights_come_back(exported: tuple[Network, Bundle]) -> None:
    network, bundle = exported
    again = load_network(bundle).state_dict()
    assert again.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(again[name], value)


def test_weights_come_back_as_float16(tiny_network: Network, tiny_bundle: Path) -> None:
    again = load_network(open_bundle(tiny_bundle)).state_dict()
    assert again.keys() == tiny_network.state_dict().keys()
    for name, value in tiny_network.state_dict().items():
        assert torch.equal(again[name], value.half().float())
        assert not value.is_floating_point() or again[name].dtype == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_runtime_file_holds_the_tensors_of_the_layout(exported: tuple[Network, Bundle], precision: str) -> None:
    network, bundle = exported
    names = [name for part in layout(network.config) for name, _, _ in tensors_of(part, precision)]
    file = load_file(bundle.folder / runtime_file(precision))
    assert sorted(file) == sorted(names)
    tensors = bundle.runtime_tensors(precision)
    assert list(tensors) == names
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, file[name])


def test_what_is_packed_are_the_weights_that_are_trained_on(tiny_bundle: Path) -> None:
    """In float16: packed again from the bundle's own weights, the tensors are the same."""
    bundle = open_bundle(tiny_bundle)
    weights = {name: value.numpy() for name, value in load_network(bundle).state_dict().items()}
    again = pack(weights, bundle.config, None)
    for name, tensor in bundle.runtime_tensors("float32").items():
        np.testing.assert_array_equal(tensor, again[name])


def test_what_a_bundle_says_comes_back(tiny_network: Network, tiny_corpus: Corpus, tmp_path: Path) -> None:
    reference = Distributions({name: np.arange(len(c)) for name, c in distributions([]).counts.items()})
    provenance = {"data": "Études", "steps": 3}
    folder = tmp_path / "new" / "bundle"
    texts = {"README.md": "# Études\n"}
    bundle = bundle_network(tiny_network, folder, provenance, reference, shown_music(tiny_corpus), texts=texts)
    assert (bundle.config, bundle.provenance, bundle.precisions) == (tiny_network.config, provenance, ("int8",))
    assert all(np.array_equal(bundle.reference.counts[name], reference.counts[name]) for name in reference.counts)
    files = {WEIGHTS, RUNTIME}
    assert set(bundle.files) == files  # those that are loaded; the card may be edited
    for name, manifest in bundle.files.items():
        data = (folder / name).read_bytes()
        assert manifest == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert {path.name for path in folder.iterdir()} == files | {"README.md", "bundle.json"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
    assert bundle.weights == folder / WEIGHTS
    with pytest.raises(BundleError, match="it has no float32 runtime; it has int8"):
        bundle.runtime_tensors("float32")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_a_bundle_may_be_read_by_whom_the_umask_says(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        write_bundle(tmp_path / "new", ModelConfig(), {}, distributions([]), secret)
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == folder
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {file}


def secret(beside: Path) -> None:
    """Write a file for its owner alone, as a library might."""
    path = beside / "weights.safetensors"
    path.write_bytes(b"")
    path.chmod(0o600)


def test_another_cell_than_that_of_the_weights_is_refused(exported: tuple[Network, Bundle], tmp_path: Path) -> None:
    """An LSTM's and a GRU's tensors are of one shape."""
    _, bundle = exported
    for cell in {"lstm", "gru", "rnn"} - {bundle.config.cell}:
        copied = shutil.copytree(bundle.folder, tmp_path / cell)
        change_facts(copied, lambda facts, cell=cell: facts["config"].update(cell=cell))
        for precision in ("int8", "float32"):
            with pytest.raises(BundleError, match=r"its tensors are of another cell than|must be .* but is"):
                open_bundle(copied).runtime_tensors(precision)
        with pytest.raises(BundleError, match="does not fit its configuration"):
            load_network(open_bundle(copied))


def test_texts_may_be_edited(copied: Path) -> None:
    (copied / "README.md").write_text("mine")
    assert open_bundle(copied).runtime_tensors("int8")


# --- what is damaged


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change_facts(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((folder / "bundle.json").read_text("utf-8"))
    change(facts)
    (folder / "bundle.json").write_text(json.dumps(facts), "utf-8")


def with_facts(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: change_facts(folder, change)


def leave_out(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, size: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def of_file(name: str, **facts: Any) -> Callable[[Path], None]:
    return with_facts(lambda data: data["files"][name].update(facts))


def check_one_line(error: BundleError, folder: Path) -> None:
    assert "\n" not in str(error)
    assert str(error).startswith(str(folder))
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        *(
            (leave_out(name), rf"{name} is missing from the bundle; get or train the model again")
            for name in (WEIGHTS, RUNTIME, "runtime.float32.safetensors")
        ),
        *(
            (cut(name, size), rf"{name} is not the file that bundle\.json describes; get or train the model again")
            for name in (WEIGHTS, RUNTIME)
            for size in (-1, 0)
        ),
        (lambda f: (f / "bundle.json").unlink(), r"no model bundle \(bundle\.json is missing\)"),
        (lambda f: (f / "bundle.json").write_text("{"), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_text(""), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe"), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_text("[1]"), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_text("[" * 100_000), r"bundle\.json is damaged"),
        (lambda f: (f / "bundle.json").write_text(" " * 4_000_001), r"bundle\.json is larger than 4 MB"),
        (with_facts(lambda facts: facts.pop("format")), r"bundle\.json is damaged"),
        (with_facts(lambda facts: facts.pop("config")), r"bundle\.json is damaged"),
        (with_facts(lambda facts: facts.pop("files")), r"bundle\.json is damaged"),
        (with_facts(lambda facts: facts["config"].update(cell="x")), "`cell` must be one of"),
        (with_facts(lambda facts: facts["config"].update(more=1)), r"bundle\.json is damaged"),
        (with_facts(lambda facts: facts["reference"].pop("pitch")), r"bundle\.json is damaged"),
        (with_facts(lambda facts: facts.update(files=["past"])), r"bundle\.json is damaged"),
        (of_file(RUNTIME, bytes="many"), r"bundle\.json is damaged"),
        (of_file(RUNTIME, bytes=-1), r"bundle\.json gives runtime\.int8\.safetensors -1 bytes; the limit is"),
        (of_file(RUNTIME, bytes=1 << 40), r"bundle\.json gives runtime\.int8\.safetensors 1099511627776 bytes"),
        (of_file(RUNTIME, sha256=5), r"runtime\.int8\.safetensors is not the file that bundle\.json describes"),
    ],
)
def test_a_damaged_bundle_is_told_when_it_is_opened(copied: Path, damage: Callable[[Path], Any], text: str) -> None:
    damage(copied)
    with pytest.raises((BundleError, InputError), match=text) as caught:
        open_bundle(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (FORMAT - 1, "train the model again: music-generator train CORPUS --run RUN"),
        (1, "train the model again: music-generator train CORPUS --run RUN"),
        (FORMAT + 1, "in your clone of music-generator-rnn install a newer one with: git pull && pip install ."),
        (99, "in your clone of music-generator-rnn install a newer one with: git pull && pip install ."),
    ],
)
def test_another_format_is_told_with_the_command_that_helps(copied: Path, found: int, text: str) -> None:
    change_facts(copied, lambda facts: facts.update(format=found))
    with pytest.raises(BundleError) as caught:
        open_bundle(copied)
    assert str(caught.value) == (f"{copied}: the bundle has format {found}, this version reads format {FORMAT}; {text}")


def test_a_bundled_model_that_does_not_belong_to_this_version(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "PRETRAINED", copied)
    change_facts(copied, lambda facts: facts.update(format=FORMAT - 1))
    with pytest.raises(BundleError, match=f"has format {FORMAT - 1}, .*; .*reinstall it with: pip install"):
        open_bundle()
    (copied / "bundle.json").unlink()
    with pytest.raises(BundleError, match=r"^the bundled model is missing; .*reinstall it with: pip install"):
        open_bundle()


@pytest.mark.parametrize("place", [0, 9, 5000, -1])
@pytest.mark.parametrize("name", [WEIGHTS, RUNTIME, "runtime.float32.safetensors"])
def test_a_flipped_byte_is_told_when_the_file_is_loaded(copied: Path, name: str, place: int) -> None:
    data = bytearray((copied / name).read_bytes())
    data[place] ^= 1
    (copied / name).write_bytes(data)
    bundle = open_bundle(copied)
    load = {
        WEIGHTS: lambda: load_network(bundle),
        RUNTIME: lambda: compose(Engine(bundle), 1, SamplingOptions(seed=1)),
        "runtime.float32.safetensors": lambda: bundle.runtime_tensors("float32"),
    }
    with pytest.raises(BundleError, match=r"is not the file that bundle\.json describes; get or train") as caught:
        load[name]()
    assert name in str(caught.value)
    check_one_line(caught.value, copied)
    for other in load.keys() - {name}:
        load[other]()  # the others are as they were


def test_a_file_that_goes_away_after_it_was_opened(copied: Path) -> None:
    bundle = open_bundle(copied)
    (copied / RUNTIME).unlink()
    with pytest.raises(BundleError, match=r"runtime\.int8\.safetensors: cannot be read: No such file") as caught:
        bundle.runtime_tensors("int8")
    check_one_line(caught.value, copied)


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a file as if the bundle had been made with it."""
    (folder / name).write_bytes(data)
    manifest = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_facts(folder, lambda facts: facts["files"].update({name: manifest}))


@pytest.mark.parametrize(
    "data",
    [b"", b"no tensors", bytes(8), b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"[]"],
)
def test_a_runtime_file_that_is_none_is_one_line(copied: Path, data: bytes) -> None:
    """Its size and sum are right, as a stranger's may be."""
    replace_file(copied, RUNTIME, data)
    with pytest.raises(BundleError, match=r"runtime\.int8\.safetensors") as caught:
        open_bundle(copied).runtime_tensors("int8")
    check_one_line(caught.value, copied)


def changed_tensors(folder: Path, name: str, change: Callable[[dict[str, Array]], Any]) -> None:
    """Change the tensors of a file as if the bundle had been made so."""
    tensors = load_file(folder / name)
    change(tensors)
    beside = folder.parent / name
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, beside)
    replace_file(folder, name, beside.read_bytes())


BIAS = "heads.key.out.bias"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop(BIAS), f"tensor '{BIAS}' must be float32 of 91, but is missing"),
        (lambda t: t.update({BIAS: t[BIAS][:-1]}), f"tensor '{BIAS}' must be float32 of 91, but is float32 of 90"),
        (lambda t: t.update(other=t[BIAS]), "tensor 'other' is not one of this model's"),
        (lambda t: t.update({BIAS: t[BIAS] * np.float32(np.nan)}), f"tensor '{BIAS}' holds NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_are_told(copied: Path, change: Callable[[dict[str, Array]], Any], text: str) -> None:
    """Of all damages of tensors, see test_pack.py."""
    changed_tensors(copied, RUNTIME, change)
    with pytest.raises(BundleError) as caught:
        compose(Engine(copied), 1, SamplingOptions(seed=1))
    assert str(caught.value) == f"{copied / RUNTIME}: {text}; get or train the model again"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_told(copied: Path, value: float) -> None:
    def spoil(tensors: dict[str, Array]) -> None:
        tensors["context.weight"][0, 0] = value

    changed_tensors(copied, WEIGHTS, spoil)
    with pytest.raises(BundleError, match=r"weights\.safetensors holds NaN or infinity in context\.weight") as caught:
        load_network(open_bundle(copied))
    check_one_line(caught.value, copied)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop("context.bias"), "does not fit its configuration"),
        (lambda t: t.update(other=t["context.bias"]), "size mismatch for other"),
        (lambda t: t.update({"context.bias": t["context.bias"][1:]}), r"size mismatch for context\.bias: \[13\]"),
    ],
)
def test_weights_that_do_not_fit_are_told(copied: Path, change: Callable[[dict[str, Array]], Any], text: str) -> None:
    changed_tensors(copied, WEIGHTS, change)
    with pytest.raises(BundleError, match=text) as caught:
        load_network(open_bundle(copied))
    check_one_line(caught.value, copied)


@pytest.mark.parametrize("size", [20, 16_384])
def test_weights_of_other_sizes(copied: Path, size: int) -> None:
    """However large the configuration says they are: no memory is taken before it is known to fit."""
    change_facts(copied, lambda facts: facts["config"].update(forward_size=size))
    with pytest.raises(BundleError, match=r"weights\.safetensors does not fit its configuration: size mismatch"):
        load_network(open_bundle(copied))
    with pytest.raises(BundleError, match=r"runtime\.int8\.safetensors: tensor 'forward\.shift' must be float16 of"):
        open_bundle(copied).runtime_tensors("int8")


def test_a_bundle_without_weights_generates(copied: Path) -> None:
    (copied / WEIGHTS).unlink()
    change_facts(copied, lambda facts: facts["files"].pop(WEIGHTS))
    bundle = open_bundle(copied)
    assert compose(Engine(bundle), 1, SamplingOptions(seed=1)).tokens
    with pytest.raises(BundleError, match=r"bundle\.json lists no weights\.safetensors; get or train the model again"):
        load_network(bundle)


# --- files outside


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "inner/file", "..", ".", ""])
def test_a_file_outside_the_bundle_is_refused(copied: Path, name: str) -> None:
    (copied.parent / "outside").write_text("x")
    manifest = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    change_facts(copied, lambda facts: facts["files"].update({name: manifest}))
    with pytest.raises(BundleError, match=r"bundle\.json (names a file outside the bundle|lists)") as caught:
        open_bundle(copied)
    check_one_line(caught.value, copied)


def test_a_file_that_is_not_loaded_is_not_listed(copied: Path) -> None:
    replace_file(copied, "program.py", b"x")
    with pytest.raises(BundleError, match=r"bundle\.json lists 'program\.py'; only \.safetensors files are loaded"):
        open_bundle(copied)


def test_a_link_out_of_the_bundle_is_refused(copied: Path) -> None:
    outside = copied.parent / RUNTIME
    (copied / RUNTIME).rename(outside)
    (copied / RUNTIME).symlink_to(outside)
    with pytest.raises(BundleError, match=r"names a file outside the bundle: 'runtime\.int8\.safetensors'"):
        open_bundle(copied)


def test_a_link_to_the_bundle_is_followed(copied: Path) -> None:
    (copied.parent / "link").symlink_to(copied)
    assert open_bundle(copied.parent / "link").runtime_tensors("int8")


def test_no_such_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: no model bundle \(bundle\.json is missing\)"):
        open_bundle(tmp_path / "nowhere")


# --- writing


def small(folder: Path, write: Callable[[Path], None] | None = None) -> Bundle:
    def one_file(beside: Path) -> None:
        (beside / "file.safetensors").write_text("x")

    return write_bundle(folder, ModelConfig(), {}, distributions([]), write or one_file)


def test_only_a_bundle_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(InputError, match=f"{name}: exists and is not a model bundle; name another folder"):
            small(tmp_path / name)
    assert (tmp_path / "full" / "keep.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert list(small(tmp_path / "empty").files) == ["file.safetensors"]
    assert list(small(tmp_path / "empty").files) == ["file.safetensors"]  # a bundle, by now
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_what_cannot_be_written_leaves_the_old_bundle(tmp_path: Path) -> None:
    small(tmp_path / "bundle")

    def full_disk(beside: Path) -> None:
        (beside / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*bundle: No space left on device"):
        small(tmp_path / "bundle", full_disk)
    assert list(open_bundle(tmp_path / "bundle").files) == ["file.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    with pytest.raises(InputError, match=r"cannot write .*bundle/file.safetensors/inside"):
        small(tmp_path / "bundle" / "file.safetensors" / "inside")


def test_a_bundle_without_runtime_is_opened_and_not_played(tmp_path: Path) -> None:
    bundle = small(tmp_path / "bundle")
    assert bundle.precisions == ()
    with pytest.raises(BundleError, match="it has no runtime file; get or train the model again"):
        Engine(bundle)
    with pytest.raises(BundleError, match="it has no int8 runtime; it has none"):
        bundle.runtime_tensors("int8")
