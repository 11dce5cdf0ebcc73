"""Properties of the studio's API: any value in any field, any piece, any span, slow connections."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="the studio needs starlette, of the extra `studio`")
pytest.importorskip("httpx2", reason="starlette's test client needs httpx2")

from starlette.testclient import TestClient

from conftest import made_performance
from music_generator.model.bundle import open_bundle
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance, join
from music_generator.music.tempo_map import TempoMap
from music_generator.studio import server
from music_generator.studio.api import Studio
from music_generator.studio.options import StudioOptions
from music_generator.studio.schema import piece_from_json, piece_to_json
from music_generator.studio.writing import TASKS

pytestmark = pytest.mark.slow

TOKEN, PORT = "a-token", 8765
LIMITS = StudioOptions(max_body_bytes=1 << 20, max_written_seconds=3, max_sound_seconds=3, max_events=5000)
PIECE = read_midi(write_midi(made_performance(3, 60))).performance  # rounded to the ticks of a file
SHORT = piece_to_json(PIECE.between(0, 1))


def examples(count: int) -> settings:
    """Return settings with the same examples in each run."""
    return settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )


@pytest.fixture(scope="module")
def client(tiny_bundle: Path) -> Iterator[TestClient]:
    """Return a client of a server with the tiny model; exceptions of the server are raised in the test."""
    app = server.make_app(Studio(open_bundle(tiny_bundle), LIMITS), TOKEN, PORT)
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}/{TOKEN}/") as client:
        yield client


# --- any value in any field

TEXTS = st.text(st.characters(), max_size=6)  # with halves of surrogate pairs, which JSON allows
NUMBERS = st.integers() | st.floats() | st.sampled_from([1 << 70, -(10**400), 1e15, 1e-320, -0.0])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.lists(NUMBERS | VALUES, min_size=3, max_size=5) | VALUES, max_size=3)
TEMPO_MAPS = st.fixed_dictionaries(
    {
        "ticks_per_quarter": NUMBERS | VALUES,
        "tempos": st.lists(st.tuples(NUMBERS, NUMBERS), max_size=2) | VALUES,
        "time_signatures": st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=2) | VALUES,
    }
)
PIECES = st.fixed_dictionaries({}, optional={"notes": ROWS, "pedals": ROWS, "tempo_map": TEMPO_MAPS | VALUES}) | VALUES
ASKED = {
    "write": {"task": "infill", "piece": SHORT, "from": 0.5, "to": 0.8, "variations": 1, "seed": 1},
    "midi": {"piece": SHORT},
    "parts": {"piece": SHORT},
    "sound": {"piece": SHORT, "from": 0.5, "to": 0.6, "format": "wav"},
    "picture": {"piece": SHORT, "title": "it", "from": 0.2, "to": 0.4},
}
FIELDS = [
    *(("write", name) for name in ("task", "piece", "second", "from", "to", "seconds", "temperature", "top_p")),
    *(("write", name) for name in ("composer", "seed", "variations", "name", "second_name")),
    *(("write", name) for name in ("keep", "recall", "open_end", "density", "loudness", "returns")),
    ("midi", "piece"),
    ("parts", "piece"),
    *(("sound", name) for name in ("piece", "from", "to", "format")),
    *(("picture", name) for name in ("piece", "title", "from", "to")),
]


def check_answer(response: Any) -> None:
    """Check that a request was answered, or refused in one readable line, and without an unexpected error."""
    assert response.status_code in (200, 422), response.text
    line = ""
    if response.status_code == 422:
        error = response.json()["error"]
        assert error["code"] in ("input", "midi")
        line = error["message"]
        assert line
    elif response.headers["content-type"] == "application/x-ndjson":
        last = json.loads(response.text.splitlines()[-1])
        assert last["type"] in ("done", "failed")
        line = last.get("error", {}).get("message", "")
    assert "unexpected" not in line
    assert len(line.splitlines()) <= 1
    assert len(line) < 400


@pytest.mark.parametrize(("endpoint", "field"), FIELDS)
@given(data=st.data())
@examples(8)
def test_any_value_in_any_field(client, endpoint, field, data):
    value = data.draw(PIECES if field in ("piece", "second") else VALUES)
    asked = ASKED[endpoint] | {field: value}
    if field in ("second", "second_name"):
        asked |= {"task": "bridge", "seconds": 0.5}
    if field == "seconds":
        asked |= {"task": data.draw(st.sampled_from([task for task in TASKS if task not in ("infill", "bridge")]))}
    check_answer(client.post(f"api/{endpoint}", content=json.dumps(asked)))


@pytest.mark.parametrize("endpoint", ["write", "midi", "parts", "sound", "picture"])
@given(body=st.binary(max_size=30) | VALUES.map(lambda value: json.dumps(value).encode()))
@examples(12)
def test_any_body(client, endpoint, body):
    response = client.post(f"api/{endpoint}", content=body)
    assert response.status_code == 422
    check_answer(response)


@given(data=st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: write_midi(PIECE)[:40] + tail))
@examples(40)
def test_any_upload(client, data):
    check_answer(client.post("api/read", content=data))


@pytest.mark.parametrize(
    ("endpoint", "change", "message"),
    [
        ("picture", {"title": "\ud800"}, "the title must be a text"),
        ("write", {"name": "a\udfff"}, "the name must be a text"),
        ("picture", {"piece": {"notes": [[1e308, 1, 60, 60]]}}, "`piece` must last at most 24 hours, not 2.77778e+304"),
        ("write", {"seed": (1 << 63) - 1, "variations": 2}, "the seed must be 0 to"),
    ],
)
def test_values_that_failed_before_are_refused_in_one_line(client, endpoint, change, message):
    response = client.post(f"api/{endpoint}", content=json.dumps(ASKED[endpoint] | change))
    assert response.status_code == 422
    assert message in response.json()["error"]["message"]


def test_a_title_in_letters_that_the_font_lacks(client):
    """The picture is drawn, and the library's warning does not reach standard error."""
    response = client.post("api/picture", json=ASKED["picture"] | {"title": "日本 \x07"})
    assert response.content.startswith(b"\x89PNG")


# --- round trips of pieces


@st.composite
def pieces(draw: st.DrawFn) -> Performance:
    """Draw a piece that MIDI can represent."""
    seconds, lengths = st.floats(0, 100), st.floats(0.02, 5)
    forces = st.integers(1, 127)
    notes = draw(st.lists(st.tuples(seconds, lengths, st.integers(21, 108), forces), min_size=1, max_size=12))
    pedals = draw(st.lists(st.tuples(seconds, lengths, st.integers(0, 2), forces), max_size=4))
    tempos = ((0, draw(st.integers(200_000, 2_000_000))), (draw(st.integers(1, 5000)), 400_000))
    tempo_map = TempoMap(draw(st.sampled_from([96, 384, 480])), tempos, ((0, 3, 4),))
    return Performance(np.array(notes, NOTE_DTYPE), np.array(pedals, PEDAL_DTYPE), tempo_map)


@given(piece=pieces())
@examples(50)
def test_a_piece_comes_back_the_same(client, piece):
    given_bytes = write_midi(piece)
    read = client.post("api/read", content=given_bytes).json()["piece"]
    expected = read_midi(given_bytes).performance
    assert piece_from_json(read, "it", 100) == expected
    written = client.post("api/midi", json={"piece": read})
    again = read_midi(written.content).performance
    assert again == expected
    assert again.tempo_map == expected.tempo_map
    assert client.post("api/read", content=written.content).json()["piece"] == read


# --- the messages of a job


def write_json(task: str, start: float, seconds: float, variations: int, seed: int) -> dict[str, Any]:
    asked = {"task": task, "seconds": seconds, "variations": variations, "seed": seed, "piece": piece_to_json(PIECE)}
    if task == "infill":
        asked |= {"from": start, "to": start + seconds}
    if task == "continue":
        asked["from"] = start
    return asked | ({"second": piece_to_json(PIECE.between(0, 3))} if task == "bridge" else {})


def outside(task: str, start: float, end: float, shift: float) -> tuple[Performance, Performance]:
    """Return what a task leaves unchanged before and after its span."""
    nothing = Performance()
    past = {"compose": nothing, "lead-in": nothing, "bridge": PIECE}.get(task, PIECE.between(0, start))
    future = {"infill": PIECE.between(end), "lead-in": PIECE, "bridge": PIECE.between(0, 3)}.get(task, nothing)
    return past, future.shifted(shift)


def within(piece: Any, start: float, end: float) -> bool:
    return all(start <= event[0] < end for event in (*piece["notes"], *piece["pedals"]))


@given(
    task=st.sampled_from(TASKS),
    start=st.floats(0.6, PIECE.notes["onset"].max() - 0.5),
    seconds=st.floats(0.01, 3.0),
    variations=st.integers(1, 4),
    seed=st.integers(0, 1 << 40),
)
@examples(40)
def test_the_messages_come_in_order(client, task, start, seconds, variations, seed):
    response = client.post("api/write", json=write_json(task, start, seconds, variations, seed))
    assert response.status_code == 200, response.text
    job, begin, *middle, last = map(json.loads, response.text.splitlines())
    assert (job["type"], begin["type"], last) == ("job", "begin", {"type": "done"})
    assert begin["seeds"] == [seed + i for i in range(variations)]
    assert len(begin["commands"]) == variations
    done: set[int] = set()
    past, future = outside(task, begin["start"], begin["end"], begin["future_shift"])
    for event in middle:
        assert event["type"] in ("events", "variation")
        assert event["variation"] not in done  # its `variation` message is its last
        assert within(event, begin["start"], begin["end"])
        if event["type"] == "variation":
            done.add(event["variation"])
            untouched(past, piece_from_json(event, "it", 5000), future, begin["start"])
    assert done == set(range(variations))


def untouched(past: Performance, written: Performance, future: Performance, start: float) -> None:
    """Check that past and future are unchanged once the new music stands between them, from `start` on.

    An event of the past may end earlier where its key is struck again, but not before the span.
    """
    whole = join([past, written, future])
    for name in ("notes", "pedals"):
        before, after, now = (getattr(piece, name) for piece in (past, future, whole))
        assert np.array_equal(now[len(now) - len(after) :], after)
        kept = now[: len(before)]
        for column in before.dtype.names[:1] + before.dtype.names[2:]:
            assert np.array_equal(kept[column], before[column])
        cut = kept["duration"] != before["duration"]
        assert (kept["onset"] + kept["duration"] >= start - 1e-9)[cut].all()


# --- slow connections, over a real socket


@pytest.fixture(scope="module")
def port(tiny_bundle: Path) -> Iterator[int]:
    """Yield the port of a server that waits 0.3 s for a request."""
    addresses: list[str] = []
    running: list[Any] = []
    options = StudioOptions(port=0, request_timeout_seconds=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.secrets, "token_urlsafe", lambda _=0: TOKEN)
        patch.setattr(server.uvicorn.Server, "capture_signals", lambda self: closing(RecordedServer(running, self)))
        thread = threading.Thread(target=server.serve, args=(open_bundle(tiny_bundle), options, addresses.append))
        thread.start()
        end = time.monotonic() + 20
        while not addresses and time.monotonic() < end:
            time.sleep(0.01)
        yield int(addresses[0].split(":")[2].split("/")[0])
        running[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class RecordedServer:
    """A stand-in for the signal handlers, which need the main thread; it records the server so that it can be ended."""

    def __init__(self, running: list[Any], it: Any) -> None:
        running.append(it)

    def close(self) -> None:
        """Do nothing: no handler was installed."""


def sent(port: int, data: bytes, drip: bytes = b"") -> bytes:
    """Send `data`, then `drip` again and again while the connection is open; return the answer. At most 10 s."""
    received, end = b"", time.monotonic() + 10
    with socket.create_connection(("127.0.0.1", port), timeout=0.05) as connection:
        connection.sendall(data)
        while time.monotonic() < end:
            try:
                part = connection.recv(65_536)
            except TimeoutError:
                if drip:
                    connection.sendall(drip)
                continue
            except ConnectionError:
                return received
            if not part:
                return received
            received += part
    raise AssertionError(f"still open after 10 s: {received!r}")


HEAD = f"POST /{TOKEN}/api/read HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"


def test_a_connection_without_a_request_is_closed(port):
    assert sent(port, b"") == b""


@pytest.mark.parametrize("begun", [b"P", HEAD.encode()])
@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_request_that_never_reaches_its_body_is_given_up(port, begun, drip):
    assert sent(port, begun, drip).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_comes_byte_by_byte_is_given_up(port):
    answer = sent(port, HEAD.encode() % port + b"content-length: 1000\r\n\r\n", b"M")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the request took over 0.3 s to arrive" in answer


def test_a_refused_request_is_closed(port):
    answer = sent(port, b"POST / HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 100000\r\n\r\n", b"x")
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 5000])
def test_an_invalid_length_is_refused(port, length):
    answer = sent(port, HEAD.encode() % port + f"content-length: {length}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 4")


def test_a_kept_connection_is_used_again(port):
    """Three requests use one connection, with longer pauses than the time a request may take to arrive."""
    request = f"GET /{TOKEN}/api/info HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(request)
            answer = b""
            while b'"formats"' not in answer or not answer.endswith(b"}"):
                part = connection.recv(65_536)
                assert part, "the connection was closed"
                answer += part
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.4)
