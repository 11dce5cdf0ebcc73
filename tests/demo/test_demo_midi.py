"""The demo reads and writes MIDI files as the studio does: the same pieces, remarks, refusals and bytes, under Node."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from music_generator.engine.engine import Engine
from music_generator.errors import MusicGeneratorError
from music_generator.generation import SamplingOptions, generate, to_compose, to_infill
from music_generator.music.midi import read_midi, write_midi

pytest.importorskip("starlette", reason="the studio needs starlette, of the extra `studio`")

from test_writing import MAPS, made_file, made_piece
from test_writing import by_demo as written_by_demo

from music_generator.studio.api import EXAMPLE, error_to_json, read_piece
from music_generator.studio.options import StudioOptions
from music_generator.studio.parts import parts_to_json
from music_generator.studio.schema import events_to_json, piece_from_json, piece_to_json

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("answer.mjs")
SLOWER = {"ticks_per_quarter": 240, "tempos": [[0, 700_000], [480, 350_000]], "time_signatures": [[0, 2, 4]]}
Json = dict[str, Any]
Request = tuple[str, Json]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def by_studio(name: str, fields: Json) -> Json:
    """Return the answer of the studio to a request."""
    limits = StudioOptions()
    try:
        if name == "read":
            return read_piece(base64.b64decode(fields["bytes"]), fields.get("track"), limits.max_other_notes)
        piece = piece_from_json(fields["piece"], "piece", limits.max_events)
        if name == "parts":
            return parts_to_json(piece.source, limits.max_other_notes)
        return {"base64": text(write_midi(piece))}
    except MusicGeneratorError as error:
        return {"error": error_to_json(error)}


def by_demo(node: str, demo: Path, folder: Path, requests: list[Request]) -> list[Json]:
    file = folder / "requests.json"
    file.write_text(json.dumps(requests), "utf-8")
    done = subprocess.run([node, DRIVER, demo, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[Json] = json.loads(done.stdout)
    return found


def check(node: str, demo: Path, folder: Path, requests: list[Request]) -> list[Json]:
    """Check that the demo answers as the studio does; return the answers."""
    answers = [json.loads(json.dumps(by_studio(*each))) for each in requests]
    found = by_demo(node, demo, folder, requests)
    for i, (wanted, given) in enumerate(zip(answers, found, strict=True)):
        stack = given.pop("stack", "")
        assert given == wanted, f"request {i}, {requests[i][0]}: {stack}"
    return answers


def edited(rng: np.random.Generator, piece: Json) -> Json:
    """Return a piece with notes and pedal presses taken out, changed and put in."""
    end = max(onset for onset, *_ in piece["notes"])
    rows: Json = {}
    for kind, keys in (("notes", (21, 109)), ("pedals", (0, 3))):
        stays = [row for row in piece[kind] if rng.random() > 0.2]
        changed = [[a, b * rng.choice([0.5, 1, 1, 2]), key, force] for a, b, key, force in stays]
        new = [
            [rng.random() * end, rng.exponential(0.5) + 0.01, int(rng.integers(*keys)), int(rng.integers(40, 128))]
            for _ in range(len(stays) // 4)
        ]
        rows[kind] = changed + new
    source = piece["source"] and {**piece["source"], "rewritten": [sorted((rng.random(2) * end).tolist())]}
    return {**piece, **rows, "source": source if rng.random() < 0.5 else piece["source"]}


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Return a file that is cut off, or that has some other bytes."""
    if rng.random() < 0.2:
        return data[: int(rng.integers(len(data)))]
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        changed[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(changed)


@pytest.mark.parametrize("case", range(3))
def test_files_are_read_as_by_the_studio(node, demo, tmp_path, case):
    files = [made_file(np.random.default_rng(case), case), EXAMPLE.read_bytes()]
    tracks = (None, "all", "1", "2", "1:1", "2:4", "Piano", "sec", "flute", "9")
    answers = check(
        node, demo, tmp_path, [("read", {"bytes": text(data), "track": track}) for data in files for track in tracks]
    )
    assert sum("piece" in each for each in answers) > 8
    assert any("`track`" not in each["error"]["message"] for each in answers if "error" in each)


def test_faults_are_mended_or_refused_as_by_the_studio(node, demo, tmp_path):
    rng = np.random.default_rng(5)
    files = [made_file(np.random.default_rng(case), case) for case in range(3)]
    requests: list[Request] = [("read", {"bytes": text(damaged(rng, files[i % 3]))}) for i in range(300)]
    requests += [("read", {"bytes": text(each)}) for each in (b"", b"RIFF....MThd", b"RIFF1234RMIDdata1234" + files[0])]
    answers = check(node, demo, tmp_path, requests)
    assert sum("error" in each for each in answers) > 30
    assert sum("piece" in each for each in answers) > 100


@pytest.mark.parametrize("track", [None, "all", "2"])
@pytest.mark.parametrize("case", range(3))
def test_edits_are_written_into_the_file_as_by_the_studio(node, demo, tmp_path, case, track):
    rng = np.random.default_rng(10 + case)
    data = made_file(rng, case)
    if track == "2" and case == 2:
        data = made_file(rng, 1)  # the second track of the other one is drums
    piece = read_piece(data, track, 1000)["piece"]
    requests: list[Request] = [("midi", {"piece": edited(rng, piece)}) for _ in range(12)]
    requests += [("midi", {"piece": {**edited(rng, piece), "tempo_map": SLOWER}}) for _ in range(4)]
    requests += [(name, {"piece": piece}) for name in ("midi", "parts")] + [
        ("parts", {"piece": piece | {"source": None}})
    ]
    answers = check(node, demo, tmp_path, requests)
    assert len({each["base64"] for each in answers if "base64" in each}) == 17


@pytest.mark.parametrize("case", range(3))
def test_new_pieces_are_written_as_by_the_studio(node, demo, tmp_path, case):
    rng = np.random.default_rng(case)
    piece = made_piece(rng, 300, MAPS[case])
    answers = check(node, demo, tmp_path, [("midi", {"piece": each}) for each in (piece, edited(rng, piece))])
    assert all("base64" in each for each in answers)


def test_a_seed_gives_the_bytes_of_the_command_line(node, demo, tmp_path):
    """The exports of a piece that the demo composed, and of one with an infilled span."""
    with Engine() as engine:
        composed = generate(engine, to_compose(8), SamplingOptions(seed=11)).performance
        opened = read_midi(write_midi(composed)).performance
        infilled = generate(engine, to_infill(opened, 3, 5), SamplingOptions(seed=12)).performance
    options = {"variations": 1, "seed": 11}
    messages = written_by_demo(node, demo, tmp_path, [{"task": "compose", "seconds": 8, **options}])[0]
    facts = {name: messages[0][name] for name in ("tempo_map", "source")}
    piece = {"notes": messages[-1]["notes"], "pedals": messages[-1]["pedals"], **facts}
    asked = {"task": "infill", "piece": piece_to_json(opened), "from": 3, "to": 5, "variations": 1, "seed": 12}
    begin, *_, variation = written_by_demo(node, demo, tmp_path, [asked])[0]
    around = opened.between(0, 3), opened.between(5)
    rows = [events_to_json(each) for each in around]
    kinds = ("notes", "pedals")
    pedals_and_notes = {kind: rows[0][kind] + variation[kind] + rows[1][kind] for kind in kinds}
    new = {**pedals_and_notes, "tempo_map": begin["tempo_map"], "source": begin["source"]}
    found = by_demo(node, demo, tmp_path, [("midi", {"piece": piece}), ("midi", {"piece": new})])
    assert base64.b64decode(found[0]["base64"]) == write_midi(composed)
    assert base64.b64decode(found[1]["base64"]) == write_midi(infilled)
