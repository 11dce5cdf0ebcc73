"""The demo writes what the studio writes: the same messages, event by event, under Node."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.generation import SamplingOptions, generate, to_continue
from music_generator.generation.writer import check_request
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.tempo_map import TempoMap

pytest.importorskip("starlette", reason="the studio needs starlette, of the extra `studio`")

from music_generator.studio.api import error_to_json
from music_generator.studio.options import StudioOptions
from music_generator.studio.schema import piece_from_json, piece_to_json
from music_generator.studio.writing import plan, read_write_request, write

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("write.mjs")
MAPS = (
    TempoMap(),
    TempoMap(480, ((0, 600_000), (960, 400_000)), ((0, 3, 4), (2880, 4, 4))),
    TempoMap(96, ((0, 500_000),), ((96, 6, 8),)),
)
Json = dict[str, Any]


def made_piece(rng: np.random.Generator, notes: int, tempo_map: TempoMap) -> Json:
    """Return a piece as it is read from a MIDI file of random events, without the file."""
    onset = np.cumsum(rng.exponential(0.15, notes) * (rng.random(notes) > 0.3))
    columns = onset, 0.01 + rng.exponential(0.4, notes), rng.integers(21, 109, notes), rng.integers(1, 128, notes)
    presses = 2 + notes // 12
    pressed = np.sort(rng.random(presses)) * onset[-1]
    pedals = pressed, 0.01 + rng.exponential(1.0, presses), rng.integers(0, 3, presses), rng.integers(64, 128, presses)
    made = [np.array(list(zip(*each, strict=True)), kind) for each, kind in
            ((columns, NOTE_DTYPE), (pedals, PEDAL_DTYPE))]  # fmt: skip
    return piece_to_json(read_midi(write_midi(Performance(*made, tempo_map))).performance) | {"source": None}


def of_all_tasks(case: int) -> list[Json]:
    """Return requests of all five tasks, with kept notes, a passage to come back to and other options."""
    rng = np.random.default_rng(case)
    long, short = made_piece(rng, 90 + 320 * case, MAPS[case]), made_piece(rng, 60, MAPS[case - 1])
    end = max(onset for onset, *_ in long["notes"])
    start, stop = 0.4 * end, 0.4 * end + 4
    told: Json = [
        {"variations": 1, "seed": 7},
        {"variations": 3, "seed": 2**33 + 5, "density": 6, "loudness": 70.5, "composer": "chopin"},
        {"variations": 4, "seed": str(2**53 - 9), "returns": 3.5, "temperature": 1.1, "top_p": 0.9},
    ][case]
    gap = {"task": "infill", "piece": long, "from": start, "to": stop}
    some = [note for note in long["notes"] if start <= note[0] < stop][::3]
    asked: list[Json] = [
        {"task": "compose", "seconds": 4},
        {"task": "compose", "seconds": 3.5, "open_end": True},
        {"task": "continue", "piece": long, "seconds": 3},
        {"task": "continue", "piece": long, "seconds": 3, "from": stop, "recall": [0, start], "open_end": True},
        {"task": "lead-in", "piece": long, "seconds": 4},
        {"task": "bridge", "piece": long, "second": short, "seconds": 3.3},
        {"task": "bridge", "piece": short, "second": long, "seconds": 4, "recall": [0.5, 2.5]},
        gap,
        {**gap, "to": end + 1, "keep": "melody"},
        *({**gap, "keep": keep} for keep in ("all", "melody", "bass", "softer:60", "above:70", some)),
        {**gap, "keep": "louder:40", "recall": [0.1, start]},
    ]
    return [request | told for request in asked]


def refused() -> list[Json]:
    """Return requests that are refused."""
    piece = {"notes": [[0.0, 1.0, 60, 64], [2.0, 1.0, 62, 64]]}
    return [
        {"task": "dance"},
        {"task": "compose", "temperature": 99},
        {"task": "compose", "seed": "abc"},
        {"task": "compose", "seed": 2**53},
        {"task": "compose", "seconds": 5000},
        {"task": "compose", "variations": 9},
        {"task": "compose", "keep": "melody"},
        {"task": "compose", "recall": [0, 1]},
        {"task": "compose", "composer": "johann"},
        {"task": "lead-in", "piece": piece, "open_end": True},
        {"task": "infill", "piece": piece, "from": 2, "to": 1},
        {"task": "infill", "piece": piece, "from": 0.5, "to": 1, "keep": "all"},
        {"task": "infill", "piece": piece, "from": 0.5, "to": 3, "keep": [[0.7, 1, 60, 64]]},
        {"task": "infill", "piece": piece, "from": 0.5, "to": 3, "keep": "quieter:3"},
        {"task": "continue", "piece": piece, "from": 9.25},
        {"task": "continue", "piece": {"notes": [[0, 1, 60]]}},
        {"task": "continue", "piece": {"notes": [[0, 1, 200, 3]]}},
        {"task": "continue", "piece": {**piece, "tempo_map": {"ticks_per_quarter": 480}}},
    ]


def by_studio(engine: Engine, json_request: Json) -> list[Json]:
    """Return the messages of the studio."""
    limits, messages = StudioOptions(), list[Json]()
    try:
        request = read_write_request(json_request, limits)
        engine.composer(request.options.composer)
        span = plan(request, limits)
        check_request(engine.config, span, request.options)
        for message in write(engine, request, span):
            messages.append(message)
    except InputError as error:
        messages.append({"type": "failed", "error": error_to_json(error)})
    return messages


def by_demo(node: str, demo: Path, folder: Path, requests: list[Json]) -> list[list[Json]]:
    """Return the messages of the demo for each request."""
    file = folder / "requests.json"
    file.write_text(json.dumps(requests), "utf-8")
    done = subprocess.run([node, DRIVER, demo, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[Json]] = json.loads(done.stdout)
    return found


def made_file(rng: np.random.Generator, case: int) -> bytes:
    """Return a MIDI file of a piece and another track: strings, a left hand, or drums."""
    piece = piece_from_json(made_piece(rng, 100, MAPS[case]), "piece", 1000)
    channel, program = ((3, 40), (1, 0), (9, 0))[case]
    track = mido.MidiTrack([mido.MetaMessage("track_name", name="Second")])
    track.append(mido.Message("program_change", program=program, channel=channel))
    for i in range(20):
        track.append(mido.Message("control_change", control=64, value=100 * (i % 2), channel=channel, time=70))
        track.append(mido.Message("note_on", note=50 + i, velocity=60, channel=channel))
        track.append(mido.Message("note_off", note=50 + i, channel=channel, time=33))
    file = mido.MidiFile(file=io.BytesIO(write_midi(piece)))
    file.type = 1
    file.tracks.append(track)
    data = io.BytesIO()
    file.save(file=data)
    return data.getvalue()


def of_files(case: int, track: str | None) -> list[Json]:
    """Return requests on pieces with their files, one of them on another tempo map."""
    rng = np.random.default_rng(case)
    piece, second = (
        piece_to_json(read_midi(made_file(rng, each), track=track).performance) for each in (case, case - 1)
    )
    slower = {"ticks_per_quarter": 240, "tempos": [[0, 700_000], [480, 350_000]], "time_signatures": [[0, 2, 4]]}
    retimed, start = piece | {"tempo_map": slower}, 0.4 * max(onset for onset, *_ in piece["notes"])
    gap = {"task": "infill", "from": start, "to": start + 3}
    asked: list[Json] = [
        {"task": "continue", "piece": piece, "seconds": 2},
        {"task": "continue", "piece": piece, "seconds": 2, "from": start},
        {"task": "lead-in", "piece": piece, "seconds": 3},
        {"task": "lead-in", "piece": retimed, "seconds": 3},
        {"task": "bridge", "piece": piece, "second": second, "seconds": 2.2},
        {"task": "bridge", "piece": retimed, "second": piece, "seconds": 3},
        {**gap, "piece": piece},
        {**gap, "piece": piece, "keep": "melody"},
        {**gap, "piece": retimed},
    ]
    return [request | {"seed": case, "variations": 2} for request in asked]


@pytest.mark.parametrize("track", [None, "all"])
@pytest.mark.parametrize("case", range(3))
def test_pieces_with_files_are_written_as_by_the_studio(node, demo, tmp_path, case, track):
    requests = of_files(case, track)
    with Engine() as engine:
        wanted = [json.loads(json.dumps(by_studio(engine, each))) for each in requests]
    for of_studio, of_demo in zip(wanted, by_demo(node, demo, tmp_path, requests), strict=True):
        assert of_demo == of_studio
        assert of_studio[0]["source"] is not None
        assert of_studio[-1]["type"] == "variation"


def test_files_in_frames_a_second_are_written_as_by_the_studio(node, demo, tmp_path):
    data = bytearray(made_file(np.random.default_rng(4), 1))
    data[12:14] = 0xE7, 40  # 25 frames a second of 40 ticks
    piece = piece_to_json(read_midi(bytes(data)).performance)
    second = piece_to_json(read_midi(made_file(np.random.default_rng(5), 0)).performance)
    asked: list[Json] = [
        {"task": "lead-in", "piece": piece},
        {"task": "bridge", "piece": piece, "second": second},
        {"task": "bridge", "piece": second, "second": piece},
    ]
    requests = [request | {"seconds": 3, "seed": 1, "variations": 1} for request in asked]
    with Engine() as engine:
        wanted = [json.loads(json.dumps(by_studio(engine, each))) for each in requests]
    assert by_demo(node, demo, tmp_path, requests) == wanted
    assert all(messages[-1]["type"] == "variation" for messages in wanted)


@pytest.mark.parametrize("case", range(3))
def test_the_messages_are_those_of_the_studio(node, demo, tmp_path, case):
    requests = of_all_tasks(case)
    with Engine() as engine:
        wanted = [json.loads(json.dumps(by_studio(engine, each))) for each in requests]
    found = by_demo(node, demo, tmp_path, requests)
    for request, of_studio, of_demo in zip(requests, wanted, found, strict=True):
        assert of_demo == of_studio, f"{request['task']}, keep {request.get('keep')}"
        assert of_studio[0]["type"] == "begin"
        assert of_studio[-1]["type"] == "variation"
        assert sum(each["type"] == "events" for each in of_studio) > request["variations"]


def test_long_gaps_are_those_of_the_studio(node, demo, tmp_path):
    """A future farther than 30 s is not told yet; the end of a piece neither."""
    notes = [[0.0, 1.0, 60, 64], [1.0, 1.0, 64, 64], [40.0, 1.0, 60, 64]]
    requests = [
        {"task": "infill", "piece": {"notes": notes}, "from": 2, "to": 39, "seed": 4, "variations": 1},
        {"task": "compose", "seconds": 35, "seed": 3, "variations": 1},
    ]
    with Engine() as engine:
        wanted = [json.loads(json.dumps(by_studio(engine, each))) for each in requests]
    assert by_demo(node, demo, tmp_path, requests) == wanted


def test_other_models_write_as_in_the_studio(node, demo, tmp_path, exported):
    """Of each cell and direction, with and without a memory and steering."""
    from make_demo import write_model

    _, bundle = exported
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    write_model(bundle, folder / "static/engine")
    piece = made_piece(np.random.default_rng(1), 60, TempoMap())
    asked: list[Json] = [
        {"task": "compose", "seconds": 2},
        {"task": "continue", "piece": piece, "seconds": 2, "density": 5},
        {"task": "continue", "piece": piece, "seconds": 2, "returns": 2, "recall": [0, 2]},
        {"task": "infill", "piece": piece, "from": 2, "to": 4},
        {"task": "infill", "piece": piece, "from": 2, "to": 4, "keep": "melody"},
    ]
    requests = [request | {"seed": 3, "variations": 2} for request in asked]
    with Engine(bundle) as engine:
        wanted = [json.loads(json.dumps(by_studio(engine, each))) for each in requests]
    assert by_demo(node, folder, tmp_path, requests) == wanted
    assert wanted[0][-1]["type"] == "variation"


def test_what_is_refused_is_told_in_the_same_words(node, demo, tmp_path):
    with Engine() as engine:
        wanted = [by_studio(engine, each) for each in refused()]
    assert [messages[-1]["type"] for messages in wanted] == ["failed"] * len(wanted)
    assert by_demo(node, demo, tmp_path, refused()) == wanted


def test_a_passage_without_notes_is_told_after_the_beginning(node, demo, tmp_path):
    piece = {"notes": [[0.0, 1.0, 60, 64], [2.0, 1.0, 62, 64]]}
    request = {"task": "continue", "piece": piece, "recall": [0.5, 1.25], "seed": 1}
    with Engine() as engine:
        wanted = json.loads(json.dumps(by_studio(engine, request)))
    assert [each["type"] for each in wanted] == ["begin", "failed"]
    assert by_demo(node, demo, tmp_path, [request]) == [wanted]


def test_a_seed_gives_the_notes_of_the_command_line(node, demo, tmp_path):
    piece = made_piece(np.random.default_rng(3), 120, TempoMap())
    request = {"task": "continue", "piece": piece, "seconds": 5, "seed": 11, "variations": 1}
    with Engine() as engine:
        made = generate(engine, to_continue(piece_from_json(piece, "piece", 1000), 5), SamplingOptions(seed=11))
    variation = by_demo(node, demo, tmp_path, [request])[0][-1]
    assert variation["notes"] == [list(note) for note in made.written.notes.tolist()]
    assert variation["pedals"] == [list(press) for press in made.written.pedals.tolist()]
    assert len(variation["notes"]) > 5


def test_what_is_loaded_before_the_first_note_fits(demo):
    """The budget is 12 MB with the first of the piano's samples."""
    assert sum(path.stat().st_size for path in (demo / "static/engine").iterdir()) < 8e6
