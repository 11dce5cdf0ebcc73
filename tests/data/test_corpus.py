"""Opening a corpus: what it contains, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midi_folders import fill, prepare_and_open

from music_generator.data.corpus import FORMAT, STORED_DTYPE, open_corpus
from music_generator.errors import CorpusError, InputError


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return prepare_and_open(fill(tmp_path / "midi", 3), tmp_path / "corpus")[0].folder


def refusal(folder: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        open_corpus(folder)
    return str(caught.value)


def test_not_a_corpus(tmp_path: Path) -> None:
    text = "no prepared corpus (corpus.json is missing); see `music-generator prepare`"
    assert refusal(tmp_path) == f"{tmp_path}: {text}"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: {text}"
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file") == f"{tmp_path / 'file'}: {text}"


def test_a_corpus_of_another_version(prepared: Path) -> None:
    header = json.loads((prepared / "corpus.json").read_text("utf-8"))
    header["format"] = FORMAT + 1
    (prepared / "corpus.json").write_text(json.dumps(header))
    text = f"its format is {FORMAT + 1}, this version reads {FORMAT}; prepare it again with `music-generator prepare`"
    assert refusal(prepared) == f"{prepared}: {text}"


def test_no_tokens(prepared: Path) -> None:
    (prepared / "tokens.npy").unlink()
    assert "no prepared corpus (tokens.npy is missing)" in refusal(prepared)


@pytest.mark.parametrize("length", [0, 5, 100, -6])
def test_tokens_cut_off(prepared: Path, length: int) -> None:
    path = prepared / "tokens.npy"
    path.write_bytes(path.read_bytes()[:length])
    assert re.search(r"the corpus is damaged \(.+\); prepare it again", refusal(prepared))


@pytest.mark.parametrize(
    "array", [np.zeros(3, STORED_DTYPE), np.zeros(39), np.zeros((39, 1), STORED_DTYPE), np.array(1)]
)
def test_tokens_of_something_else(prepared: Path, array: Any) -> None:
    np.save(prepared / "tokens.npy", array)
    assert refusal(prepared) == f"{prepared}: tokens.npy does not fit corpus.json; prepare the corpus again"


def test_tokens_in_another_kind_of_file(prepared: Path) -> None:
    np.savez(prepared / "tokens.npz", rows=np.zeros(39, STORED_DTYPE))
    (prepared / "tokens.npz").replace(prepared / "tokens.npy")
    assert "the corpus is damaged" in refusal(prepared)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 1, "source": "a", "pieces": [1]}',
        '{"format": 1, "source": "a", "pieces": [{"path": "a.mid"}]}',
        '{"format": 1, "pieces": []}',
    ],
)
def test_a_damaged_header(prepared: Path, text: str) -> None:
    (prepared / "corpus.json").write_text(text)
    assert re.search(r"the corpus is damaged \(.+\); prepare it again", refusal(prepared))


def test_an_unknown_split(prepared: Path) -> None:
    with pytest.raises(InputError, match="unknown split 'dev'; known: train, validation, test"):
        open_corpus(prepared).split("dev")


def test_opening_needs_no_midi_library(prepared: Path) -> None:
    blocked = "sys.modules.update(dict.fromkeys(['torch', 'onnxruntime', 'matplotlib']))"
    opened = "from music_generator.data.corpus import open_corpus; print(open_corpus(sys.argv[1]).rows['key'].size)"
    command = [sys.executable, "-W", "error", "-c", f"import sys; {blocked}; {opened}", str(prepared)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert int(done.stdout) == len(open_corpus(prepared).rows)
