"""Recordings in the studio's API: received in a bounded temporary file, transcribed as a job, and opened as a piece."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio needs starlette, of the extra `studio`")
pytest.importorskip("httpx2", reason="starlette's test client needs httpx2")

from known_events import KnownEvents, assert_events, write_sound
from starlette.testclient import TestClient

from music_generator.model.bundle import open_bundle
from music_generator.recording import extra, transkun
from music_generator.recording.chunks import Event
from music_generator.studio.api import Studio
from music_generator.studio.options import StudioOptions
from music_generator.studio.schema import piece_from_json
from music_generator.studio.server import make_app

TOKEN, PORT = "a-token", 8765
PIECE = [Event(60, 0.5, 1.0, 64), Event(64, 2.0, 9.5, 70), Event(-64, 1.0, 8.5, 90)]


@pytest.fixture
def studio(tiny_bundle: Path) -> Studio:
    return Studio(open_bundle(tiny_bundle), StudioOptions(max_recording_bytes=2 << 20, max_body_bytes=1 << 16))


@pytest.fixture
def client(tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(extra, "is_installed", lambda: True)
    monkeypatch.setattr(transkun, "Transkun", lambda: KnownEvents(PIECE))
    with TestClient(make_app(studio, TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}/{TOKEN}/") as client:
        yield client
    assert not list((tmp_path / "scratch").iterdir())


def messages(client: TestClient, data: bytes) -> list[dict[str, Any]]:
    answer = client.post("api/transcribe", content=data)
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_recording_is_opened_as_a_piece(client, tmp_path):
    job, *progress, opened, done = messages(client, write_sound(tmp_path / "take.wav", 12.0).read_bytes())
    assert (set(job), done) == ({"type", "job"}, {"type": "done"})
    assert progress == [{"type": "transcribed", "seconds": s, "of": 12.0} for s in (0.0, 4.81, 9.61, 12.0)]
    assert opened.pop("type") == "piece"
    assert_events(piece_from_json(opened.pop("piece"), "piece", 100), PIECE)
    assert opened == {"remarks": [], "parts": [], "cut": None}


def test_what_is_wrong_is_said_without_the_name_of_the_scratch_file(client):
    *_, last = messages(client, b"no sound")
    assert (last["type"], last["error"]["code"]) == ("failed", "recording")
    assert last["error"]["message"].startswith("it cannot be read as sound; WAV, FLAC")


def test_large_recordings_are_refused(client):
    answer = client.post("api/transcribe", content=bytes((2 << 20) + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "limit")
    pieces = (bytes(1 << 20) for _ in range(3))  # without a stated length
    answer = client.post("api/transcribe", content=pieces)
    assert answer.json()["error"]["message"] == "the request is too large: it may have at most 2 MB"


def test_a_job_is_cancelled(client, studio, tmp_path, monkeypatch):
    class Cancelled(KnownEvents):
        def events(self, samples: Any, known: list[int]) -> Any:
            (job,) = studio.transcribing._jobs
            studio.transcribing.cancel(job)
            return super().events(samples, known)

    monkeypatch.setattr(transkun, "Transkun", lambda: Cancelled(PIECE))
    found = messages(client, write_sound(tmp_path / "take.wav", 12.0).read_bytes())
    assert [each["type"] for each in found] == ["job", "transcribed", "transcribed", "cancelled"]


def test_the_page_is_told_whether_recordings_are_transcribed(client, monkeypatch):
    assert client.get("api/info").json()["no_recordings"] is None
    assert client.get("api/info").json()["limits"]["recording_bytes"] == 2 << 20
    monkeypatch.setattr(extra, "is_installed", lambda: False)
    line = client.get("api/info").json()["no_recordings"]
    assert line.startswith(
        'this is a recording: to have it transcribed, install the extra: pip install ".[transcribe]"'
    )
    answer = client.post("api/transcribe", content=b"RIFF")
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, line)
