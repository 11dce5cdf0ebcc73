"""The bench's own arithmetic: which weights count, what is met, what is said. Timings are not tested."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from music_generator.data.prepare import prepare
from music_generator.model.config import (
    CLASSES,
    FIELDS,
    INPUT_CLASSES,
    MEMORY_HEADS,
    VALUE,
    VALUE_FIELDS,
    ModelConfig,
)
from music_generator.music.midi import read_midi
from music_generator.music.tokens import NUM_KEYS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from many_files import make_files, midi_file  # noqa: E402
from ours import step_bytes  # noqa: E402
from processes import NotMeasuredError, run  # noqa: E402
from table import Results, Row, machine  # noqa: E402


def test_median_and_range_of_the_repeats() -> None:
    row = Row("speed", "tokens/s", [3000.0, 1000.0, 2000.0], peak_mb=84.4, at_least=1500)
    assert row.median == 2000
    assert row.to_markdown() == "| speed | 2,000 tokens/s | 1,000 – 3,000 |  | 84 MB | ≥ 1,500 tokens/s: met |"


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", "s", [2.0], at_most=1), False),
        (Row("a", "s", [1.0], at_most=1), True),
        (Row("a", "%", [95.0], at_least=90, at_most=110), True),
        (Row("a", "%", [111.0], at_least=90, at_most=110), False),
        (Row("a", "notes/s", [10.0], ratio=300, at_least=250), True),  # of the ratio where there is one
        (Row("a", "s", [1.0]), None),
        (Row("a", "s", skipped="no network", at_most=1), None),
    ],
)
def test_what_is_wanted(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_what_was_skipped_says_why() -> None:
    results = Results(machine(), {}, "now", sections={"Generation": [Row("a peer", skipped="no network")]})
    assert "| a peer | skipped: no network |" in results.to_markdown()
    assert results.to_json()["sections"]["Generation"][0]["skipped"] == "no network"


def test_weights_count_where_they_are_read_whole() -> None:
    """With a memory, its maps too; its entries are no weights."""
    config = ModelConfig(forward_layers=1, forward_size=8, head_size=4, composers=("a",), memory=0)
    gates, recency = 4 * 8, 3 * NUM_KEYS
    linears = {"forward": (recency + 8, gates), "key_recency": (recency, 4)}
    linears |= {f"hidden {field}": (4, 4) for field in FIELDS} | {
        f"out {field}": (4, n) for field, n in CLASSES.items()
    }
    wanted = sum(
        i * o + 8 * o + 8 for i, o in linears.values()
    )  # int8 weights, scales and biases, two numbers of the input
    wanted += (8 + recency) * 8 // 2 + 8 * 8 + 8  # half of the context's weights
    assert step_bytes(config, "int8") == wanted
    heads, value = MEMORY_HEADS, VALUE
    values = sum(INPUT_CLASSES[name] for name in VALUE_FIELDS)
    maps = [(values, value), (values + 2, value), (heads * value, 8), (heads * (NUM_KEYS + 1), 12), (4, 3)]
    memory = sum(i * o + 8 * o + 8 for i, o in maps)
    assert step_bytes(replace(config, memory=64), "int8") == wanted + memory


def test_a_failed_process_is_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotMeasuredError, match=r"failed \(exit code 3\)"):
        run([sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"])
    assert "why" in capsys.readouterr().err


def test_a_process_has_its_own_peak_memory() -> None:
    look = """
import sys
from processes import run
print(*(run([sys.executable, "-c", f"b'x' * {size}"]).peak_mb for size in (300_000_000, 1)))
"""
    # from a small process: see `processes`
    done = subprocess.run([sys.executable, "-c", look], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    large, small = map(float, done.stdout.split())
    assert large - small > 200


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--maestro", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"bench: --maestro: the folder {tmp_path / 'none'} does not exist\n"


def test_the_many_files_are_midi_files_of_so_many_notes(tmp_path: Path) -> None:
    assert midi_file(3, 20) == midi_file(3, 20) != midi_file(4, 20)
    assert len(read_midi(midi_file(3, 20)).performance) == 20
    make_files(tmp_path / "midi", 0, 3, 20)
    make_files(tmp_path / "midi", 999, 1002, 20)
    made = prepare(tmp_path / "midi", tmp_path / "out", jobs=1)
    assert (made.files, made.pieces) == (6, 5)  # one is cut off
    names = ("00000/0000000", "00000/0000001", "00000/0000002")
    first, copy, other = ((tmp_path / "midi" / f"{name}.mid").read_bytes() for name in names)
    assert first == copy != other
