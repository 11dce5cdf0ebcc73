"""The studio's server: its JSON API against the functions behind it, its limits, and its refusals."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="the studio needs starlette, of the extra `studio`")
pytest.importorskip("httpx2", reason="starlette's test client needs httpx2")

import mido
from starlette.requests import Request
from starlette.testclient import TestClient

from conftest import made_performance
from music_generator import generation
from music_generator.cli import main as cli
from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.generation import SamplingOptions
from music_generator.generation.keep import read_keep
from music_generator.model.bundle import open_bundle
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import LONGEST_SECONDS, LOWEST_PITCH, NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.tempo_map import TempoMap
from music_generator.music.tokens import DENSITY_EDGES, LOUDNESS_EDGES
from music_generator.sound import FORMATS
from music_generator.studio.api import (
    EXAMPLE,
    JobCancelledError,
    LimitError,
    Studio,
    job_result,
    read_piece,
    steering_to_json,
)
from music_generator.studio.jobs import BusyError, Ended, Jobs, UnexpectedError
from music_generator.studio.options import StudioOptions
from music_generator.studio.render import excerpt
from music_generator.studio.schema import piece_from_json, piece_to_json
from music_generator.studio.server import STATIC, listen, make_app
from music_generator.studio.writing import TASKS, command, no_command, plan, read_write_request

TOKEN, PORT = "a-token", 8765
PIECE = made_performance(3, 80)
LIMITS = StudioOptions(max_body_bytes=1 << 20, max_written_seconds=60, max_sound_seconds=90, max_events=5000)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(open_bundle())


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = make_app(Studio(open_bundle(), LIMITS), TOKEN, PORT)
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}/{TOKEN}/") as client:
        yield client


@pytest.fixture(scope="module")
def piece() -> Performance:
    return made_performance(3, 80)


def write_json(task: str, piece: Performance, **more: Any) -> dict[str, Any]:
    asked = {"task": task, "piece": piece_to_json(piece), "seed": 11, "variations": 2, "seconds": 4.0} | more
    if task == "infill":
        asked |= {"from": 4.0, "to": 8.0}
    if task == "bridge":
        asked["second"] = piece_to_json(made_performance(4, 40))
    return asked


def band_file() -> bytes:
    """Return a file of a conductor, a piano, strings on channel 3 and drums."""
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("track_name", name="Song")]))
    for name, channel, program, notes in (("Piano", 0, 0, 12), ("Strings", 2, 48, 9), ("Kit", 9, 0, 4)):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        track.append(mido.Message("program_change", channel=channel, program=program))
        for i in range(notes):
            key = 36 if channel == 9 else 55 + i
            track.append(mido.Message("note_on", channel=channel, note=key, velocity=70 + i))
            track.append(mido.Message("note_off", channel=channel, note=key, velocity=3, time=480))
        file.tracks.append(track)
    data = io.BytesIO()
    file.save(file=data)
    return data.getvalue()


def messages(client: TestClient, asked: dict[str, Any]) -> list[dict[str, Any]]:
    response = client.post("api/write", json=asked)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def refusal(response: Any, status: int, code: str) -> str:
    """Check the status, the code and that the message is one line; return the message."""
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert len(error["message"].splitlines()) == 1
    return str(error["message"])


def expected(engine: Engine, task: str, piece: Performance, seed: int) -> generation.Generated:
    """Return the result of the function that the command line uses."""
    options = SamplingOptions(seed=seed)
    return {
        "compose": lambda: generation.compose(engine, 4.0, options),
        "continue": lambda: generation.continue_from(engine, piece, 4.0, options),
        "lead-in": lambda: generation.lead_in(engine, piece, 4.0, options),
        "infill": lambda: generation.infill(engine, piece, 4.0, 8.0, options),
        "bridge": lambda: generation.bridge(engine, piece, made_performance(4, 40), 4.0, options),
    }[task]()


# --- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_what_streams_is_what_the_command_line_writes(client, engine, piece, task):
    seen = messages(client, write_json(task, piece))
    assert [seen[0]["type"], seen[1]["type"], seen[-1]["type"]] == ["job", "begin", "done"]
    begin, done = seen[1], [message for message in seen if message["type"] == "variation"]
    assert begin["seeds"] == [11, 12] == sorted(message["seed"] for message in done)  # the shorter one ends first
    for message in done:
        made = expected(engine, task, piece, message["seed"])
        assert (begin["start"], begin["end"]) == (made.start, made.end)
        assert piece_from_json(message, "it", 5000) == made.written
        streamed = [m for m in seen if m["type"] == "events" and m["variation"] == message["variation"]]
        notes = {tuple(note[i] for i in (0, 2, 3)) for e in streamed for note in e["notes"]}
        found = {(round(onset, 2), pitch, velocity) for onset, pitch, velocity in notes}
        assert {(round(n["onset"], 2), n["pitch"], n["velocity"]) for n in made.written.notes} <= found


@pytest.mark.parametrize("task", ["lead-in", "bridge"])
def test_the_future_is_shifted_as_announced(client, engine, piece, task):
    begin = messages(client, write_json(task, piece))[1]
    future = piece if task == "lead-in" else made_performance(4, 40)
    made = expected(engine, task, piece, 11)
    moved = future.shifted(begin["future_shift"])
    assert np.allclose(made.performance.between(made.end).notes["onset"], moved.notes["onset"], atol=1e-9)


def test_continuing_from_a_time(client, engine, piece):
    begin, done = [m for m in messages(client, write_json("continue", piece, **{"from": 6.0, "variations": 1}))
                   if m["type"] in ("begin", "variation")]  # fmt: skip
    made = generation.continue_from(engine, piece, 4.0, SamplingOptions(seed=11), start=6.0)
    assert begin["start"] == 6.0
    assert piece_from_json(done, "it", 5000) == made.written


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("infill", {"temperature": 0.9, "composer": "Frédéric Chopin"}),
        ("infill", {"keep": "melody", "density": 15, "loudness": 45}),
        ("continue", {"recall": [1.25, 3], "open_end": True, "returns": 3}),
    ],
)
@pytest.mark.parametrize("track", [None, "strings"])
def test_the_command_line_writes_the_same(client, piece, tmp_path, monkeypatch, capsys, task, told, track):
    """The command line on the page writes the same from the piece saved as MIDI."""
    data = write_midi(piece) if track is None else band_file()
    piece = read_midi(data, track=track).performance  # on the ticks of a file
    seen = messages(client, write_json(task, piece, variations=1, name="my piece", **told))
    begin = next(m for m in seen if m["type"] == "begin")
    words = shlex.split(begin["commands"][0])
    write_midi(piece, tmp_path / "my piece.mid")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*words, "--no-audio", "--no-plots", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    written = json.loads(capsys.readouterr().out)
    [variation] = [m for m in seen if m["type"] == "variation"]
    assert written["notes"] == len(variation["notes"])
    inside = read_midi(tmp_path / written["files"][0], track=track).performance.between(begin["start"], begin["end"])
    together = sorted(note[0] for note in [*variation["notes"], *begin["kept"]])
    assert np.allclose(inside.notes["onset"], together, atol=2e-3)


# --- keeping, steering, and how it ends


def kept_rows(piece: Performance) -> list[list[float]]:
    """Return three notes of the gap and one before it, which stays anyway."""
    rows = piece_to_json(piece)["notes"]
    inside = [row for row in rows if 4 <= row[0] < 8]
    return [list(row) for row in (inside[1], inside[2], inside[-1], rows[0])]


def expected_around(
    engine: Engine, piece: Performance, kept: set[tuple[float, int]], seed: int
) -> generation.Generated:
    """Return what the library writes in a gap around notes given by onset and pitch."""

    def keep(notes: Any) -> Any:
        return np.array([(note["onset"], note["pitch"]) in kept for note in notes])

    return generation.infill(engine, piece, 4.0, 8.0, SamplingOptions(seed=seed), keep=keep)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_kept_notes_are_told_once_and_the_others_are_written_around_them(client, engine, piece, seed):
    rows = kept_rows(piece)
    seen = messages(client, write_json("infill", piece, keep=rows, seed=seed))
    begin, done = seen[1], [message for message in seen if message["type"] == "variation"]
    assert begin["kept"] == rows[:3]
    kept = {(onset, pitch) for onset, _, pitch, _ in begin["kept"]}
    made = expected_around(engine, piece, kept, seed)
    assert piece_from_json(next(each for each in done if each["variation"] == 0), "it", 5000) == made.written
    for message in (each for each in seen if each["type"] in ("events", "variation")):
        assert not kept & {(onset, pitch) for onset, _, pitch, _ in message["notes"]}
        assert not {(round(onset, 2), pitch) for onset, pitch in kept} & {
            (round(note[0], 2), note[2]) for note in message["notes"]
        }
    for variation in done:  # put together as the page does, nothing of the user's is changed
        outside = [row for row in piece_to_json(piece)["notes"] if not 4 <= row[0] < 8]
        whole = piece_from_json({"notes": [*outside, *begin["kept"], *variation["notes"]]}, "it", 5000)
        assert all(tuple(row) in whole.notes.tolist() for row in begin["kept"])


def test_a_single_note_that_is_kept_has_no_command(client, piece):
    begin = messages(client, write_json("infill", piece, keep=kept_rows(piece)))[1]
    assert begin["commands"] == [None, None]
    assert begin["no_command"] == "the command line keeps notes by a rule such as `melody`, not single ones"


@pytest.mark.parametrize("rule", ["melody", "bass", "softer:100", "all"])
def test_notes_are_kept_by_a_rule_as_by_the_command_line(client, piece, rule):
    begin = messages(client, write_json("infill", piece, keep=rule))[1]
    inside = piece.between(4.0, 8.0).notes
    assert begin["kept"] == [list(row) for row in inside[read_keep(rule)(inside)].tolist()]
    assert begin["commands"][0].endswith(f"infill piece.mid --from 4.0 --to 8.0 --keep {rule} --seed 11")
    assert begin["no_command"] is None


def test_steering_is_that_of_the_engine(client, engine, piece):
    told = {"density": 14.0, "loudness": 45.0, "returns": 2.5}
    seen = messages(client, write_json("continue", piece, recall=[1.0, 3.5], open_end=True, variations=1, **told))
    options = SamplingOptions(seed=11, **told)
    made = generation.continue_from(engine, piece, 4.0, options, recall=(1.0, 3.5), open_end=True)
    [variation] = [message for message in seen if message["type"] == "variation"]
    assert piece_from_json(variation, "it", 5000) == made.written
    assert seen[1]["commands"] == [
        "music-generator generate --primer piece.mid --seconds 4 --recall 1-3.5 --open-end --seed 11 "
        "--density 14.0 --loudness 45.0 --returns 2.5"
    ]


def test_a_passage_is_recalled_in_a_gap_without_a_command(client, engine, piece):
    seen = messages(client, write_json("infill", piece, recall=[0.5, 3.0], variations=1))
    span = replace(generation.to_infill(piece, 4.0, 8.0), recall=(0.5, 3.0))
    [variation] = [message for message in seen if message["type"] == "variation"]
    assert piece_from_json(variation, "it", 5000) == generation.generate(engine, span, SamplingOptions(seed=11)).written
    assert seen[1]["commands"] == [None]
    assert "when it continues or bridges" in seen[1]["no_command"]


def test_info_tells_what_the_model_can_be_told(client):
    assert client.get("api/info").json()["steering"] == {
        "density": {"from": 1.5, "to": 22.0, "edges": list(DENSITY_EDGES)},
        "loudness": {"from": 38.0, "to": 82.5, "edges": list(LOUDNESS_EDGES)},
        "returns": {"from": -5, "to": 5},
        "recall": True,
        "keep": ["all", "melody", "bass", "softer:N", "louder:N", "below:N", "above:N"],
    }


def test_a_model_that_cannot_be_told_says_so_before_it_writes(piece):
    config = replace(open_bundle().config, steered=False, memory=0, direction="forward")
    assert steering_to_json(config) == dict.fromkeys(("density", "loudness", "returns", "recall", "keep")) | {
        "recall": False
    }
    studio = Studio(replace(open_bundle(), config=config), LIMITS)
    for task, told, message in [
        ("continue", {"density": 5}, "this model cannot be told a density"),
        ("continue", {"loudness": 50}, "this model cannot be told a loudness"),
        ("continue", {"returns": 2}, "this model has no memory"),
        ("continue", {"recall": [1, 2]}, "this model has no memory"),
        ("infill", {"keep": "melody"}, "this model has no backward stack"),
    ]:
        with pytest.raises(InputError, match=message):
            studio._writing_steps(json.dumps(write_json(task, piece, **told)).encode())


def test_a_seed_is_exact_or_refused(client, piece):
    largest = (1 << 53) - 2
    for seed in (largest, str(largest), f" 0{largest} "):
        assert messages(client, write_json("compose", piece, seconds=0.5, seed=seed))[1]["seeds"] == [
            largest,
            largest + 1,
        ]
    assert len(messages(client, write_json("compose", piece, seconds=0.5, seed=" "))[1]["seeds"]) == 2
    for seed, wrong in (
        ("9007199254740993", "the seed must be 0 to 9007199254740990, not 9007199254740993"),
        (9007199254740993, "the seed must be 0 to 9007199254740990, not 9007199254740993"),
        (largest + 1, "the seed must be 0 to 9007199254740990, not 9007199254740991"),
        ("abc", 'the seed must be a whole number, not "abc"'),
        ("-1", 'the seed must be a whole number, not "-1"'),
        (-1, "the seed must be 0 to 9007199254740990, not -1"),
        ("9" * 5000, 'the seed must be a whole number, not "9999'),
    ):
        response = client.post("api/write", json=write_json("compose", piece, seed=seed))
        assert refusal(response, 422, "input").startswith(wrong)
        assert response.json()["error"]["field"] == "seed"


def test_the_command_names_the_track_that_was_chosen(piece):
    """Of a file with a piano and strings, the strings; of two files, a track that is the same of both."""
    band = read_midi(band_file(), track="strings").performance
    asked = read_write_request(write_json("infill", band), LIMITS)
    assert command(asked, asked.options).endswith("--track 3 --seed 11")
    asked = read_write_request(write_json("bridge", piece) | {"piece": piece_to_json(band)}, LIMITS)
    assert no_command(asked) is None
    second = piece_to_json(read_midi(band_file(), track="piano").performance)
    asked = read_write_request(write_json("bridge", band) | {"second": second}, LIMITS)
    assert no_command(asked) == "no track of the command line names the parts that are read"


@pytest.mark.parametrize("task", TASKS)
def test_commands_name_what_is_not_the_default(piece, task):
    asked = read_write_request(write_json(task, piece, name="a b", top_p=0.9), LIMITS)
    line = command(asked, asked.options)
    assert line.startswith("music-generator ")
    assert "--top-p 0.9 --seed 11" in line
    assert "--temperature" not in line
    assert ("'a b.mid'" in line) == (task != "compose")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "sing"}, "the task must be one of"),
        ({"task": None}, "the task must be one of"),
        ({"variations": 9}, "the number of variations must be 1 to 8, not 9"),
        ({"variations": 0}, "the number of variations must be 1 to 8, not 0"),
        ({"variations": 1.5}, "the number of variations must be a whole number"),
        ({"seed": "x"}, "the seed must be a whole number"),
        ({"seed": -1}, "the seed must be 0 to"),
        ({"temperature": 0}, "the temperature must be 0.01 to 10"),
        ({"temperature": True}, "the temperature must be a number"),
        ({"top_p": 2}, "top-p must be above 0 and at most 1"),
        ({"composer": "Nobody Known"}, "unknown composer"),
        ({"composer": 5}, "the style must be a text"),
        ({"to": None}, "select a span"),
        ({"from": 9.0}, "must begin at 0 or later and end after"),
        ({"from": 900.0, "to": 901.0}, "lies outside the piece"),
        ({"to": 90.0}, "the studio writes up to 60 s at a time"),
        ({"piece": {"notes": []}}, "the piece must have notes"),
        ({"piece": 5}, "`piece` must be an object"),
        ({"piece": {"notes": [[0, 1, 60]]}}, "must be four numbers"),
        ({"piece": {"notes": [[0, 1, 60, "x"]]}}, "must be four numbers"),
        ({"piece": {"notes": "all"}}, "must be a list of rows"),
        ({"piece": {"notes": [[0, 1, 60.5, 64]]}}, "must be whole"),
        ({"piece": {"notes": [[0, 1, 5, 64]]}}, "`pitch` must be 21 to 108"),
        ({"piece": {"notes": [[-1, 1, 60, 64]]}}, "onsets must be at least 0"),
        ({"piece": {"notes": [[0, 1, 60, 64]] * 5001}}, "at most 5,000 rows"),
        ({"piece": {"notes": [[0, 1, 60, 64]], "tempo_map": {"tempos": 3}}}, "all in whole numbers"),
        ({"task": "bridge", "second": None}, "a second piece must have notes"),
        ({"seconds": 90_000}, "the length must be above 0 and at most 60 seconds, not 90,000; the command"),
        ({"seconds": 0}, "the length must be above 0 and at most 60 seconds, not 0"),
        ({"density": 0}, "the density must be above 0 and at most 100 notes a second, not 0"),
        ({"loudness": 128}, "the loudness must be 1 to 127"),
        ({"returns": 6}, "how readily themes come back must be -5 to 5"),
        ({"recall": [1]}, "the passage to come back to must be two seconds"),
        ({"recall": [1, None]}, "the passage to come back to must be two seconds"),
        ({"recall": [3, 6]}, "the passage to come back to must lie before the music that is written"),
        ({"recall": "1-2"}, "the passage to come back to must be two seconds"),
        ({"task": "compose", "recall": [1, 2]}, "to compose, nothing comes before the new music"),
        ({"keep": "soprano"}, "what is kept must be one of all, melody, bass, softer:N"),
        ({"keep": 5}, "above:N, or a list of notes of the piece"),
        ({"keep": []}, "what is kept of the gap from 4.0 to 8.0 s has no notes"),
        ({"keep": [[4.125, 1, 60, 64]]}, "what is kept has a note that is not in the piece: pitch 60 at 4.125 s"),
        ({"task": "continue", "keep": "melody"}, "what is kept goes with infill alone, not with continue"),
        ({"open_end": True}, "the open end goes with compose and continue alone, not with infill"),
        ({"task": "continue", "open_end": 1}, "the open end must be true or false, not 1"),
    ],
)  # fmt: skip
def test_an_invalid_field_is_refused_in_one_line(client, piece, change, message):
    response = client.post("api/write", json=write_json("infill", piece) | change)
    assert message in refusal(response, 422, "input")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("task", "piece", "second", "from", "to", "seconds", "temperature", "top_p", "seed", "composer", "variations")


@given(st.sampled_from(TASKS), st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=3), ANYTHING)
@settings(max_examples=300, deadline=None)
def test_any_request_is_planned_or_refused(task, change, row):
    """Any request gives a plan or an `InputError`."""
    asked = write_json(task, PIECE) | change
    if isinstance(row, list):
        asked["piece"] = {"notes": [row]}
    with suppress(InputError):
        span = plan(read_write_request(asked, LIMITS), LIMITS)
        assert 0 <= span.start < span.end <= span.start + LIMITS.max_written_seconds + 1e-6


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"5", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused(client, body):
    response = client.post("api/write", content=body)
    assert refusal(response, 422, "input").startswith("the request must be")


# --- files -------------------------------------------------------------------------------------------------------


def test_a_midi_file_comes_back_unchanged(client, piece):
    given = write_midi(piece)
    read = client.post("api/read", content=given).json()
    assert read["remarks"] == []
    written = client.post("api/midi", json={"piece": read["piece"]})
    assert written.headers["content-type"] == "audio/midi"
    assert read_midi(written.content).performance == read_midi(given).performance


def test_the_parts_of_a_file_are_told_and_the_others_are_given(client):
    read = client.post("api/read", content=band_file()).json()
    facts = [{name: value for name, value in part.items() if name != "notes"} for part in read["parts"]]
    assert facts == [
        {"track": "2:1", "name": "Piano", "channel": 1, "program": 0, "drums": False, "count": 12, "chosen": True},
        {"track": "3:3", "name": "Strings", "channel": 3, "program": 48, "drums": False, "count": 9, "chosen": False},
        {"track": "4:10", "name": "Kit", "channel": 10, "program": 0, "drums": True, "count": 4, "chosen": False},
    ]
    piano, strings, kit = (part["notes"] for part in read["parts"])
    assert piano == []
    assert strings == [[0.5 * i, 0.5, 55 + i, 70 + i] for i in range(9)]
    assert kit == [[0.5 * i, 0.5, 36, 70 + i] for i in range(4)]
    assert read["cut"] is None
    assert len(read["piece"]["notes"]) == 12
    assert client.post("api/parts", json={"piece": read["piece"]}).json() == {"parts": read["parts"], "cut": None}


@pytest.mark.parametrize(
    ("track", "chosen", "notes"),
    [("Strings", ["3:3"], 9), ("3", ["3:3"], 9), ("3:3", ["3:3"], 9), ("all", ["2:1", "3:3"], 12), ("", ["2:1"], 12)],
)
def test_another_track_can_be_chosen(client, track, chosen, notes):
    read = client.post("api/read", params={"track": track}, content=band_file()).json()
    assert [part["track"] for part in read["parts"] if part["chosen"]] == chosen
    assert len(read["piece"]["notes"]) == notes  # where both strike a key, one note is heard
    assert client.post("api/midi", json={"piece": read["piece"]}).content == band_file()


def test_a_track_that_is_not_there_is_refused(client):
    response = client.post("api/read?track=Flute", content=band_file())
    message = refusal(response, 422, "input")
    assert message == "the track must be one of the tracks with notes (2 'Piano', 3 'Strings') or all, not 'Flute'"
    assert response.json()["error"]["field"] == "track"


def test_of_many_other_notes_the_first_are_given():
    everything = read_piece(band_file(), None, 13)
    assert everything["cut"] is None
    some = read_piece(band_file(), None, 6)
    assert [len(part["notes"]) for part in some["parts"]] == [0, 3, 3]
    assert [part["count"] for part in some["parts"]] == [12, 9, 4]
    assert some["cut"] == 1.5


def test_a_new_piece_has_no_parts(client, piece):
    assert client.post("api/parts", json={"piece": piece_to_json(piece)}).json() == {"parts": [], "cut": None}


WALTZ = {"ticks_per_quarter": 1000, "tempos": [[0, 600_000], [3000, 450_000]], "time_signatures": [[0, 3, 4]]}


def test_another_tempo_map_is_written_into_the_file_and_moves_no_note(client):
    read = client.post("api/read", content=band_file()).json()["piece"]
    written = client.post("api/midi", json={"piece": read | {"tempo_map": WALTZ}}).content
    for track in ("piano", "strings"):
        before, after = (read_midi(data, track=track).performance for data in (band_file(), written))
        assert np.allclose(before.notes["onset"], after.notes["onset"], atol=3e-4)
        assert after.tempo_map == TempoMap(1000, ((0, 600_000), (3000, 450_000)), ((0, 3, 4),))
    assert client.post("api/midi", json={"piece": read | {"tempo_map": None}}).content == band_file()


@pytest.mark.parametrize("with_file", [True, False])
def test_what_is_written_has_the_tempo_map_of_the_page(client, with_file):
    read = client.post("api/read", content=band_file()).json()["piece"]
    piece = {"notes": read["notes"], "tempo_map": WALTZ} | ({"source": read["source"]} if with_file else {})
    begin = messages(client, {"task": "infill", "piece": piece, "from": 2.0, "to": 4.0, "seed": 1, "variations": 1})[1]
    assert begin["tempo_map"] == WALTZ
    again = {"notes": read["notes"], "tempo_map": begin["tempo_map"], "source": begin["source"]}
    tempi = read_midi(client.post("api/midi", json={"piece": again}).content).performance.tempo_map
    assert (tempi.tempos, tempi.time_signatures) == (((0, 600_000), (3000, 450_000)), ((0, 3, 4),))
    assert (begin["source"] is None) is not with_file


def test_notes_are_kept_on_other_bars_too(client):
    """The notes that the page has are those that come back, not those on the new ticks."""
    read = client.post("api/read", content=band_file()).json()["piece"]
    odd = {"ticks_per_quarter": 480, "tempos": [[0, 777_777]], "time_signatures": []}
    keep = [note for note in read["notes"] if 2 <= note[0] < 4][1:3]
    asked = {"task": "infill", "from": 2.0, "to": 4.0, "piece": read | {"tempo_map": odd}, "keep": keep, "seed": 1}
    assert messages(client, asked)[1]["kept"] == keep


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tempos": [[0, 500_000.5]]}, "`piece.tempo_map` must have `ticks_per_quarter`, `tempos` and"),
        ({"tempos": [[0, True]]}, "all in whole numbers"),
        ({"tempos": []}, "`tempos` must begin at tick 0 and rise strictly"),
        ({"tempos": [[0, 1 << 24]]}, "a tempo must be 1 to 16777215 microseconds"),
        ({"time_signatures": [[0, 3, 5]]}, "a time signature must be 1 to 255 over 1, 2, 4"),
        ({"ticks_per_quarter": 0}, "`ticks_per_quarter` must be 1 to 32767"),
        ({"ticks_per_quarter": 32767, "tempos": [[0, 1]]}, "more ticks than MIDI can count"),
    ],
)
def test_an_impossible_tempo_map_is_refused(client, change, message):
    read = client.post("api/read", content=band_file()).json()["piece"]
    response = client.post("api/midi", json={"piece": read | {"tempo_map": WALTZ | change}})
    assert message in refusal(response, 422, "input")


@pytest.mark.parametrize("data", [b"", b"RIFF", b"MThd\0\0\0\6\0\1\0\1\1\xe0", b"\0" * 2000])
def test_a_file_that_is_not_midi_is_refused_in_one_line(client, data):
    response = client.post("api/read", content=data)
    message = refusal(response, 422, "midi")
    assert message
    assert "these bytes" not in message  # the page knows the name of the file


def test_a_file_without_notes_is_refused(client):
    response = client.post("api/read", content=write_midi(Performance()))
    assert "no notes" in refusal(response, 422, "midi")


def test_the_example_was_written_by_the_model(client, engine):
    read = client.get("api/example").json()["piece"]
    made = generation.compose(engine, 30, SamplingOptions(seed=5)).performance
    assert len(read["notes"]) > 50
    assert EXAMPLE.stat().st_size < 20_000
    if len(made) == len(read["notes"]):  # else the bundled model is a newer one
        assert np.allclose(made.notes["onset"], [note[0] for note in read["notes"]], atol=2e-3)


@pytest.mark.parametrize("form", FORMATS)
def test_sound_in_every_format(client, piece, form):
    response = client.post("api/sound", json={"piece": piece_to_json(piece), "from": 1.0, "to": 2.0, "format": form})
    assert response.status_code == 200, response.text
    assert 1 < float(response.headers["x-sound-seconds"]) < 20
    assert response.headers["x-sound-engine"]
    assert response.headers["content-type"].startswith("audio/")
    assert len(response.content) > 1000


def test_a_soft_span_is_soft_wherever_one_starts(client):
    notes = [[0.0, 0.5, 60, 30], *([4.0, 0.5, key, 115] for key in (48, 60, 64, 67))]
    body = {"piece": {"notes": notes}, "from": 0, "to": 2}
    soft = client.post("api/sound", json=body)
    loud = client.post("api/sound", json=body | {"from": 4, "to": 5})
    levels = [np.abs(soundfile.read(io.BytesIO(each.content))[0]).max() for each in (soft, loud)]
    assert levels[0] < 0.1 * levels[1]


def test_a_pedal_that_stays_down_does_not_lengthen_the_sound(client):
    body = {"piece": {"notes": [[0, 0.5, 84, 80]], "pedals": [[0.2, 3600, 0, 127]]}}
    response = client.post("api/sound", json=body)
    assert response.status_code == 200, response.text
    assert float(response.headers["x-sound-seconds"]) < 10


def test_the_samples_are_served_with_their_index_and_may_be_kept(client):
    index = client.get("samples/index.json")
    assert index.status_code == 200
    assert "Alexander Holm" in index.json()["credit"]
    for row in (index.json()["tones"][0], index.json()["noises"][-1]):
        sample = client.get(f"samples/{row['file']}")
        assert sample.headers["content-type"] == "audio/mpeg"
        assert soundfile.info(io.BytesIO(sample.content)).duration == pytest.approx(row["seconds"], abs=1e-3)
        assert sample.headers.get_list("cache-control") == ["private, max-age=31536000, immutable"]
        again = client.get(f"samples/{row['file']}", headers={"if-none-match": sample.headers["etag"]})
        assert again.status_code == 304
    assert client.get("samples/none.mp3").status_code == 404
    assert client.get("samples/../samples.py").status_code == 404
    assert client.get("api/info").headers.get_list("cache-control") == ["no-store"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "aiff"}, "the format must be one of"),
        ({"from": 3, "to": 2}, "must begin at 0 or later and end after"),
        ({"from": -1}, "must begin at 0 or later"),
        ({"piece": None}, "`piece` must be an object"),
        ({"piece": {"notes": [[0, 100, 60, 60]]}, "to": 99}, "plays up to 90 s"),
    ],
)
def test_invalid_sound_is_refused_in_one_line(client, piece, change, message):
    response = client.post("api/sound", json={"piece": piece_to_json(piece), "from": 0, "to": 4} | change)
    assert message in refusal(response, 422, "input")


def test_the_picture_is_a_png(client, piece):
    body = {"piece": piece_to_json(piece), "from": 2, "to": 4, "title": "a piece"}
    assert client.post("api/picture", json=body).content.startswith(b"\x89PNG")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_json_loses_nothing(data):
    seconds = st.floats(0, 1e4, allow_subnormal=False)
    lengths = st.floats(1e-3, 60)
    notes = data.draw(st.lists(st.tuples(seconds, lengths, st.integers(21, 108), st.integers(1, 127)), max_size=20))
    pedals = data.draw(st.lists(st.tuples(seconds, lengths, st.integers(0, 2), st.integers(1, 127)), max_size=5))
    tempo_map = TempoMap(480, ((0, 400_000), (960, 500_001)), ((0, 3, 4),))
    piece = Performance(np.array(notes, NOTE_DTYPE), np.array(pedals, PEDAL_DTYPE), tempo_map)
    back = piece_from_json(json.loads(json.dumps(piece_to_json(piece))), "it", 100)
    assert back == piece
    assert back.tempo_map == tempo_map


@given(st.floats(0, 12), st.floats(0.1, 6))
@settings(max_examples=40, deadline=None)
def test_two_adjacent_excerpts_hold_the_same_as_one(start, length):
    piece = made_performance(5, 60)
    parts = [excerpt(piece, start, start + length), excerpt(piece, start + length, start + 2 * length)]
    whole = excerpt(piece, start, start + 2 * length)
    assert sum(map(len, parts)) == len(whole)
    onsets = np.concatenate([parts[0].notes["onset"], parts[1].notes["onset"] + length])
    assert np.allclose(onsets, whole.notes["onset"])
    assert parts[0].notes["onset"].min(initial=0) >= 0


# --- jobs --------------------------------------------------------------------------------------------------------


def counting(n: int, seen: list[str], name: str) -> Generator[str, None, None]:
    for i in range(n):
        seen.append(name)
        yield f"{name}{i}"


async def collect(job: Any) -> list[Any]:
    return [result async for batch in job.results() for result in batch]


def test_jobs_take_turns_and_end():
    async def body() -> None:
        jobs, seen = Jobs(4), []
        gate = threading.Event()

        def waiting() -> Generator[None, None, None]:
            gate.wait(5)
            yield None

        first = jobs.submit(waiting())
        a, b = jobs.submit(counting(50, seen, "a")), jobs.submit(counting(3, seen, "b"))
        gate.set()
        results = await asyncio.gather(collect(first), collect(a), collect(b))
        assert results[2] == ["b0", "b1", "b2", Ended("done")]
        assert seen[:6] == ["a", "b"] * 3
        assert len(results[1]) == 51
        jobs.close()

    asyncio.run(body())


def test_jobs_are_limited_and_can_be_cancelled():
    async def body() -> None:
        jobs, ran = Jobs(2), []

        def endless() -> Generator[int, None, None]:
            ran.append("begun")
            try:
                while True:
                    time.sleep(0.002)
                    yield 1
            finally:
                ran.append("closed")

        both = [jobs.submit(endless()) for _ in range(2)]
        while len(ran) < 2:
            await asyncio.sleep(0.002)
        ran.clear()
        with pytest.raises(BusyError, match="2 jobs are already running"):
            jobs.submit(endless())
        assert jobs.cancel(both[0].id)
        assert (await collect(both[0]))[-1] == Ended("cancelled")
        assert not jobs.cancel(both[0].id)
        assert ran == ["closed"]
        assert len(jobs) == 1
        jobs.close()
        assert (await collect(both[1]))[-1] == Ended("cancelled")

    asyncio.run(body())


def test_jobs_that_are_all_cancelled_end_before_their_step_does():
    async def body() -> None:
        jobs, begun, gate = Jobs(2), threading.Event(), threading.Event()

        def slow() -> Generator[str, None, None]:
            begun.set()
            gate.wait(10)
            yield "too late"

        job = jobs.submit(slow())
        while not begun.is_set():
            await asyncio.sleep(0.002)
        jobs.cancel_all()
        assert await asyncio.wait_for(collect(job), 5) == [Ended("cancelled")]
        gate.set()
        jobs.close()
        await asyncio.sleep(0)
        assert job._results.empty()

    asyncio.run(body())


def test_a_job_that_fails_says_why_and_the_next_one_runs():
    async def body() -> None:
        jobs = Jobs(2)

        def failing(error: Exception) -> Generator[int, None, None]:
            yield 1
            raise error

        error = InputError("so")
        assert (await collect(jobs.submit(failing(error))))[-1] == Ended("failed", error)
        ended = (await collect(jobs.submit(failing(KeyError("x")))))[-1]
        assert ended.how == "failed"
        assert isinstance(ended.error, UnexpectedError)
        assert "unexpected KeyError" in str(ended.error)
        assert (await collect(jobs.submit(counting(1, [], "a"))))[-1] == Ended("done")
        jobs.close()

    asyncio.run(body())


def test_too_many_jobs_are_refused(piece, monkeypatch):
    begun, gate = threading.Event(), threading.Event()

    def slow(*_: Any) -> Generator[dict[str, Any], None, None]:
        begun.set()
        gate.wait(10)
        yield {"type": "begin"}

    app = make_app(Studio(open_bundle(), StudioOptions(max_jobs=1)), TOKEN, PORT)
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}/{TOKEN}/") as client:
        asked = write_json("compose", piece, variations=1)
        while client.post("api/write", json=asked | {"seconds": 0.1}).status_code == 429:
            time.sleep(0.01)  # the model is being loaded
        monkeypatch.setattr("music_generator.studio.api.write", slow)
        first = threading.Thread(target=lambda: client.post("api/write", json=asked))
        first.start()
        assert begun.wait(10)
        response = client.post("api/write", json=asked)
        assert "1 jobs are already running" in refusal(response, 429, "busy")
        assert client.post("api/read", content=write_midi(piece)).status_code == 200  # other requests do not wait
        gate.set()
        first.join(10)


def test_a_failure_in_a_stream_has_its_code(client, piece, monkeypatch):
    def failing(*_: Any) -> Generator[dict[str, Any], None, None]:
        yield {"type": "begin"}
        raise InputError("so\nand so")

    monkeypatch.setattr("music_generator.studio.api.write", failing)
    *_, last = messages(client, write_json("compose", piece))
    assert last == {"type": "failed", "error": {"code": "input", "message": "so and so", "field": None}}


def test_an_unexpected_error_is_told_apart_from_a_refusal(client, piece, monkeypatch, caplog):
    def broken(*_: Any) -> Generator[bytes, None, None]:
        raise KeyError("x")
        yield b""

    monkeypatch.setattr("music_generator.studio.api.render_picture", broken)
    response = client.post("api/picture", json={"piece": piece_to_json(piece)})
    assert "unexpected KeyError" in refusal(response, 500, "unexpected")
    assert "a job failed" in caplog.text


def test_a_client_that_disconnects_ends_its_job():
    async def disconnected() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    def endless() -> Generator[bytes, None, None]:
        while True:
            time.sleep(0.002)
            yield b""

    async def body() -> None:
        jobs = Jobs(1)
        with pytest.raises(JobCancelledError):
            await job_result(Request({"type": "http"}, disconnected), jobs, endless())
        assert len(jobs) == 0
        jobs.close()

    asyncio.run(body())


def test_few_requests_are_parsed_at_once(client, monkeypatch):
    """At most two requests at a time take the memory of a large piece."""
    now, most, lock = [0], [0], threading.Lock()

    def slow(_data: bytes, *_: Any) -> dict[str, Any]:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return {}

    monkeypatch.setattr("music_generator.studio.api.read_piece", slow)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("api/read", content=b"").status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == [200] * 8
    assert most[0] == LIMITS.max_parsed == 2


# --- refusals --------------------------------------------------------------------------------------------------


def test_the_page_is_served_and_small(client):
    page = client.get("")
    assert page.status_code == 200
    assert "<title>Studio" in page.text
    files = [path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()]
    sizes = [
        int(client.get(f"static/{name}").headers["content-length"]) for name in files
    ]  # as they are sent: compressed
    assert len(files) > 40
    assert sum(sizes) < 200_000
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_page_loads_nothing_from_outside():
    for path in filter(Path.is_file, STATIC.rglob("*")):
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path.name
        assert "https://" not in text, path.name
        assert "//cdn" not in text, path.name


@pytest.mark.parametrize("path", ["/", "/api/info", "/wrong/api/info", "/a-toke/", "/a-token-too/", "//a-token/"])
def test_a_request_without_the_token_is_refused(client, path):
    response = client.get(f"http://127.0.0.1:{PORT}{path}")
    assert "token" in refusal(response, 403, "forbidden")


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-mode": "navigate"}, {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}]
)
def test_an_old_address_is_explained_by_a_page(client, headers):
    """A tab that is loaded again after the studio was started again."""
    response = client.get(f"http://127.0.0.1:{PORT}/an-older-token/", headers=headers)
    assert response.status_code == 403
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "Open the address that <code>music-generator studio</code> shows" in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    same = {"sec-fetch-mode": "cors", "accept": "*/*"}
    response = client.post(f"http://127.0.0.1:{PORT}/an-older-token/api/write", headers=same)
    assert "open the address that `music-generator studio` printed" in refusal(response, 403, "forbidden")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1:80", "127.0.0.1", "0.0.0.0:8765", ""])
def test_another_host_is_refused(client, host):
    response = client.get("api/info", headers={"host": host})
    assert "own address" in refusal(response, 403, "forbidden")


def test_another_origin_is_refused(client):
    assert client.get("api/info", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("api/info", headers={"origin": "null"}).status_code == 403
    assert client.get("api/info", headers={"origin": f"http://127.0.0.1:{PORT}"}).status_code == 200


@pytest.mark.parametrize("path", ["static/../api.py", "static/%2e%2e/api.py", "static//etc/passwd", "static/", "api/"])
def test_only_the_files_of_the_page_are_served(client, path):
    assert client.get(path).status_code == 404


def test_an_upload_is_limited(client):
    response = client.post("api/read", content=b"\0" * ((1 << 20) + 1))
    assert "at most 1 MB" in refusal(response, 413, "limit")

    def chunks() -> Iterator[bytes]:  # without a content-length
        for _ in range(20):
            yield b"\0" * 100_000

    assert client.post("api/read", content=chunks()).status_code == 413


def test_a_request_that_does_not_arrive_is_given_up():
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(10)
        raise AssertionError("waited for too long")

    studio = Studio(open_bundle(), StudioOptions(request_timeout_seconds=0.05))
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
    with pytest.raises(LimitError, match=r"took over 0\.05 s"):
        asyncio.run(studio.read_body(request))


def test_info_has_the_defaults_and_limits_of_the_options(client):
    info = client.get("api/info").json()
    assert info["defaults"]["temperature"] == SamplingOptions().temperature
    assert info["defaults"]["top_p"] == SamplingOptions().top_p
    assert info["defaults"]["variations"] == LIMITS.variations
    assert info["limits"] == {
        "variations": LIMITS.max_variations,
        "written_seconds": LIMITS.max_written_seconds,
        "sound_seconds": LIMITS.max_sound_seconds,
        "body_bytes": LIMITS.max_body_bytes,
        "recording_bytes": LIMITS.max_recording_bytes,
        "request_seconds": LIMITS.request_timeout_seconds,
        "events": LIMITS.max_events,
        "other_notes": LIMITS.max_other_notes,
        "jobs": LIMITS.max_jobs,
    }
    assert "Frédéric Chopin" in info["composers"]


def test_an_unknown_job_is_not_cancelled(client):
    assert client.delete("api/jobs/none").json() == {"cancelled": False}


def test_a_port_that_is_taken_is_refused():
    """On another port a browser would not find the pieces that it stored."""
    with listen(0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError) as refused:
            listen(port)
        assert str(refused.value).startswith(
            f"port {port} of 127.0.0.1 is taken, perhaps by a studio that already runs"
        )
        assert "choose another `port`" in str(refused.value)
    with listen(port) as again:
        assert again.getsockname() == ("127.0.0.1", port)


def test_the_command_says_that_its_port_is_taken(monkeypatch, capsys):
    with listen(0) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["music-generator", "studio", "--no-browser", "--port", port])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 2
    assert "choose another `--port`" in capsys.readouterr().err


def test_ctrl_c_while_something_is_written_ends_the_stream_and_says_nothing():
    words = [sys.executable, "-m", "music_generator", "studio", "--no-browser", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as studio:
        assert studio.stdout is not None
        address = studio.stdout.readline().strip()
        asked = json.dumps({"task": "compose", "seconds": 1500, "variations": 8}).encode()
        with urllib.request.urlopen(f"{address}api/write", asked) as answer:
            lines = [json.loads(answer.readline()) for _ in range(20)]
            studio.send_signal(signal.SIGINT)
            lines += map(json.loads, answer)
        said = studio.communicate(timeout=20)[1]
    assert (lines[0]["type"], lines[-1]) == ("job", {"type": "cancelled"})
    assert studio.returncode == 0
    assert said == "the studio is open at this address, on this computer only; Ctrl+C ends it\n"


def test_options_out_of_range():
    with pytest.raises(InputError, match="`port` must be"):
        StudioOptions(port=70_000)
    with pytest.raises(InputError, match="does not exist"):
        StudioOptions(soundfont=Path("no.sf2"))


def test_the_span_that_fits(piece):
    """Events end where the future strikes their key; those that have no time to sound are left out."""
    asked = read_write_request(write_json("infill", piece), LIMITS)
    span = plan(asked, LIMITS)
    first = span.future.notes[0]
    key, ticks = int(first["pitch"]) - LOWEST_PITCH, round(first["onset"] * 100)
    inside = span.filled([(ticks - 100, key, 60, 500), (99, 4, 60, 100)], 0).between(span.start, span.end).notes
    assert inside[inside["pitch"] == first["pitch"]]["duration"][0] == pytest.approx(1)


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_without_its_extra_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "music_generator.studio.server")
    monkeypatch.setattr(sys, "argv", ["music-generator", "studio", "--no-browser"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert 'pip install ".[studio]"' in capsys.readouterr().err


def test_a_source_comes_back_after_music_was_written_to_its_end():
    piece = read_midi(write_midi(made_performance(3, 20))).performance
    continued = replace(piece, source=piece.source.with_rewritten(1.5, LONGEST_SECONDS))
    back = piece_from_json(json.loads(json.dumps(piece_to_json(continued))), "piece", 1000)
    assert back.source.rewritten == ((1.5, LONGEST_SECONDS),)
    assert write_midi(back) == write_midi(continued)
