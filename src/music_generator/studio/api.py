"""The JSON API: the functions of the command line over HTTP. docs/studio.md describes each address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import anyio
import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from music_generator.engine.engine import Engine
from music_generator.errors import InputError, MidiError, MusicGeneratorError, RecordingError
from music_generator.generation import SamplingOptions, generate, to_compose, to_infill
from music_generator.generation.keep import NAMES
from music_generator.generation.span import MOST_RETURNS
from music_generator.generation.tasks import JOIN_SECONDS, PIECE_SECONDS
from music_generator.generation.writer import check_request
from music_generator.model.bundle import Bundle
from music_generator.model.config import ModelConfig
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, Performance
from music_generator.music.tokens import DENSITY_EDGES, LOUDNESS_EDGES
from music_generator.sound import FORMATS, steady_gain
from music_generator.studio.jobs import BusyError, Ended, Job, Jobs, UnexpectedError
from music_generator.studio.options import StudioOptions
from music_generator.studio.parts import parts_to_json
from music_generator.studio.recordings import check_installed, no_recordings, receiving, remove, transcription_steps
from music_generator.studio.render import RenderedAudio, excerpt, render_picture, render_sound
from music_generator.studio.schema import (
    Json,
    get_number,
    get_text,
    in_words,
    parse_object,
    piece_from_json,
    piece_to_json,
)
from music_generator.studio.writing import plan, read_write_request, write

T = TypeVar("T")
EXAMPLE = Path(__file__).parent / "example.mid"
SOUND_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}
STREAM_PAUSE_SECONDS = 0.02  # between two parts of a stream, so that the page gets several messages at once


class LimitError(MusicGeneratorError):
    """A request is larger than allowed, or arrives too slowly."""


class JobCancelledError(MusicGeneratorError):
    """A job was cancelled before its result was ready."""


# the code and the status of each error; the first class that fits counts
_REFUSALS: tuple[tuple[type[MusicGeneratorError], str, int], ...] = (
    (BusyError, "busy", 429),
    (LimitError, "limit", 413),
    (JobCancelledError, "cancelled", 409),
    (UnexpectedError, "unexpected", 500),
    (MidiError, "midi", 422),
    (RecordingError, "recording", 422),
    (MusicGeneratorError, "input", 422),
)


class Studio:
    """The state that requests share: the model, its jobs and the limits. It keeps no piece."""

    def __init__(self, bundle: Bundle, options: StudioOptions) -> None:
        self.bundle, self.options = bundle, options

    @cached_property
    def engine(self) -> Engine:
        """The engine, made when it is first used."""
        return Engine(self.bundle)

    @asynccontextmanager
    async def running(self, _app: object) -> AsyncIterator[None]:
        """Run the threads for writing, export and transcribing while the server runs."""
        self.writing, self.export = (Jobs(self.options.max_jobs) for _ in range(2))
        self.transcribing = Jobs(self.options.max_recordings)
        self.parsers = anyio.CapacityLimiter(self.options.max_parsed)
        self.writing.submit(_warm_up(self.engine))
        try:
            yield
        finally:
            for jobs in (self.writing, self.export, self.transcribing):
                jobs.close()

    def cancel_jobs(self) -> None:
        """End all jobs at once: the studio is being ended."""
        for jobs in (self.writing, self.export, self.transcribing):
            jobs.cancel_all()

    def routes(self) -> list[Route]:
        """Return the addresses below the token."""
        calls = [
            ("info", self.info, "GET"),
            ("example", self.example, "GET"),
            ("read", self.read, "POST"),
            ("transcribe", self.transcribe, "POST"),
            ("parts", self.parts, "POST"),
            ("write", self.write, "POST"),
            ("midi", self.midi, "POST"),
            ("sound", self.sound, "POST"),
            ("picture", self.picture, "POST"),
            ("jobs/{job}", self.cancel, "DELETE"),
        ]
        return [Route(f"/api/{path}", _with_refusals(call), methods=[method]) for path, call, method in calls]

    async def info(self, _request: Request) -> Response:
        """Return what the page needs once: composers, defaults, limits, formats."""
        sampling, options = SamplingOptions(), self.options
        return JSONResponse(
            {
                "composers": self.bundle.config.composers,
                "uses_future": self.bundle.config.direction == "both",
                "steering": steering_to_json(self.bundle.config),
                "defaults": {
                    "temperature": sampling.temperature,
                    "top_p": sampling.top_p,
                    "returns": sampling.returns,
                    "variations": options.variations,
                    "piece_seconds": PIECE_SECONDS,
                    "join_seconds": JOIN_SECONDS,
                },
                "limits": {
                    "variations": options.max_variations,
                    "written_seconds": options.max_written_seconds,
                    "sound_seconds": options.max_sound_seconds,
                    "body_bytes": options.max_body_bytes,
                    "recording_bytes": options.max_recording_bytes,
                    "request_seconds": options.request_timeout_seconds,
                    "events": options.max_events,
                    "other_notes": options.max_other_notes,
                    "jobs": options.max_jobs,
                },
                "formats": FORMATS,
                "no_recordings": no_recordings(),
            }
        )

    async def example(self, _request: Request) -> Response:
        """Return a piece that the bundled model wrote."""
        return JSONResponse(read_piece(EXAMPLE.read_bytes(), None, self.options.max_other_notes))

    async def read(self, request: Request) -> Response:
        """Return the piece of a MIDI file's bytes, and its parts; `?track=` chooses which of them are the piece."""
        body, track = await self.read_body(request), get_text(dict(request.query_params), "track")
        return await self._in_thread(lambda: JSONResponse(read_piece(body, track, self.options.max_other_notes)))

    async def transcribe(self, request: Request) -> Response:
        """Stream the messages of transcribing a recording. The job ends if the client disconnects."""
        check_installed()
        with receiving() as (path, take):
            await _take_body(request, self.options.max_recording_bytes, self.options.recording_timeout_seconds, take)
            job = self.transcribing.submit(transcription_steps(path))
        return StreamingResponse(_json_lines(self.transcribing, job, path), media_type="application/x-ndjson")

    async def parts(self, request: Request) -> Response:
        """Return the parts of the file that a piece is from."""
        body = await self.read_body(request)

        def answer() -> Response:
            source = self._piece(parse_object(body)).source
            return JSONResponse(parts_to_json(source, self.options.max_other_notes))

        return await self._in_thread(answer)

    async def midi(self, request: Request) -> Response:
        """Return the MIDI file of a piece."""
        body = await self.read_body(request)
        data = await self._in_thread(lambda: write_midi(self._piece(parse_object(body))))
        return Response(data, media_type="audio/midi")

    async def write(self, request: Request) -> Response:
        """Stream the messages of a writing job, one JSON object per line. The job ends if the client disconnects."""
        body = await self.read_body(request)
        job = self.writing.submit(await self._in_thread(lambda: self._writing_steps(body)))
        return StreamingResponse(_json_lines(self.writing, job), media_type="application/x-ndjson")

    def _writing_steps(self, body: bytes) -> Generator[Json, None, None]:
        request = read_write_request(parse_object(body), self.options)
        self.engine.composer(request.options.composer)  # refuses an unknown composer before the stream begins
        span = plan(request, self.options)
        check_request(self.bundle.config, span, request.options)
        return write(self.engine, request, span)

    async def cancel(self, request: Request) -> Response:
        """Cancel a job that writes or transcribes; its stream ends with `cancelled`."""
        job = request.path_params["job"]
        return JSONResponse({"cancelled": self.writing.cancel(job) or self.transcribing.cancel(job)})

    async def sound(self, request: Request) -> Response:
        """Return a sound file of a piece or of a span of it."""
        body = await self.read_body(request)
        file_format, steps = await self._in_thread(lambda: self._sound_steps(body))
        audio: RenderedAudio = await job_result(request, self.export, steps)
        headers = {"x-sound-engine": audio.engine, "x-sound-seconds": f"{audio.seconds:.3f}"}
        return Response(audio.data, media_type=SOUND_TYPES[file_format], headers=headers)

    def _sound_steps(self, body: bytes) -> tuple[str, Generator[RenderedAudio, None, None]]:
        fields = parse_object(body)
        file_format = get_text(fields, "format") or FORMATS[0]
        piece, start, end = self._piece(fields), get_number(fields, "from") or 0.0, get_number(fields, "to")
        end = piece.end if end is None else end
        if not 0 <= start < end:
            raise InputError(f"the span to play must begin at 0 or later and end after it: {start:g} to {end:g} s")
        played, longest = excerpt(piece, start, end), self.options.max_sound_seconds
        seconds = float((played.notes["onset"] + played.notes["duration"]).max(initial=0))
        if seconds > longest:
            raise InputError(
                f"the studio plays up to {longest:g} s in one file, not {seconds:g} s; "
                "`music-generator render` plays any length"
            )
        is_span_of_grand = (start > 0 or end < piece.end) and self.options.soundfont is None
        gain = steady_gain(piece) if is_span_of_grand else None
        return file_format, render_sound(played, file_format, self.options.soundfont, gain)

    async def picture(self, request: Request) -> Response:
        """Return the piano roll of a piece as a PNG."""
        body = await self.read_body(request)
        steps = await self._in_thread(lambda: self._picture_steps(body))
        return Response(await job_result(request, self.export, steps), media_type="image/png")

    def _picture_steps(self, body: bytes) -> Generator[bytes, None, None]:
        fields = parse_object(body)
        start, end = get_number(fields, "from"), get_number(fields, "to")
        span = None if start is None or end is None else (start, end)
        return render_picture(self._piece(fields), span, get_text(fields, "title") or "")

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Parse a request outside the event loop. Few at a time: a large piece takes 100 MB meanwhile."""
        return await anyio.to_thread.run_sync(call, limiter=self.parsers)

    def _piece(self, fields: Json) -> Performance:
        return piece_from_json(fields.get("piece"), "piece", self.options.max_events)

    async def read_body(self, request: Request) -> bytes:
        """Return the body of a request. Raises `LimitError` if it is too large or arrives too slowly."""
        body = bytearray()
        await _take_body(request, self.options.max_body_bytes, self.options.request_timeout_seconds, body.extend)
        return bytes(body)


async def _take_body(request: Request, limit: int, seconds: float, take: Callable[[bytes], object]) -> None:
    """Pass each part of a request's body on. Raises `LimitError` over `limit` bytes or after `seconds`."""
    error = LimitError(f"the request is too large: it may have at most {limit / (1 << 20):g} MB")
    length, taken = request.headers.get("content-length", "0"), 0
    if len(length) > 18 or (length.isdecimal() and int(length) > limit):
        raise error
    try:
        with anyio.fail_after(seconds):
            async for chunk in request.stream():
                taken += len(chunk)
                if taken > limit:
                    raise error
                take(chunk)
    except TimeoutError:
        raise LimitError(f"the request took over {seconds:g} s to arrive") from None


async def job_result(request: Request, jobs: Jobs, steps: Generator[Any, None, None]) -> Any:
    """Run a job of one step and return its result. The job ends if the client disconnects."""
    job = jobs.submit(steps)

    async def watch() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.05)
        jobs.cancel(job.id)

    watching = asyncio.create_task(watch())
    try:
        results = [result async for batch in job.results() for result in batch]
    finally:
        watching.cancel()
        jobs.cancel(job.id)
    ended: Ended = results[-1]
    if ended.how != "done":
        raise ended.error or JobCancelledError("the job was cancelled")
    return results[0]


def read_piece(data: bytes, track: str | None, max_other_notes: int) -> Json:
    """Return the piece of a MIDI file, what must be said of it, and its parts.

    Raises:
        MidiError: It cannot be read, or there are no notes.
        InputError: It has no such track, see `choose_parts`.
    """
    reading = read_midi(data, track=track)
    if not len(reading.performance):
        raise MidiError(None, f"it has no notes of a piano{f': {reading.left_out}' if reading.left_out else ''}")
    piece = reading.performance
    parts = parts_to_json(piece.source, max_other_notes)
    return {"piece": piece_to_json(piece), "remarks": reading.remarks_on_chosen} | parts


def steering_to_json(config: ModelConfig) -> Json:
    """Return what a model can be told: ranges for the page's sliders, or null for what it cannot."""
    return {
        "density": _slider(DENSITY_EDGES) if config.steered else None,
        "loudness": _slider(LOUDNESS_EDGES) if config.steered else None,
        "returns": {"from": -MOST_RETURNS, "to": MOST_RETURNS} if config.memory else None,
        "recall": config.memory > 0,
        "keep": NAMES if config.direction == "both" else None,
    }


def _slider(edges: tuple[float, ...]) -> Json:
    """Return the values between which a model tells its classes apart, and a slider's ends one class beyond them."""
    return {"from": 2 * edges[0] - edges[1], "to": 2 * edges[-1] - edges[-2], "edges": edges}


def _warm_up(engine: Engine) -> Generator[None, None, None]:
    """Write half a second, so that the first request does not wait for the model to be loaded."""
    notes = np.array([(0.0, 0.2, 60, 64), (1.0, 0.2, 64, 64)], NOTE_DTYPE)
    forward_only = engine.config.direction == "forward"
    generate(engine, to_compose(0.5) if forward_only else to_infill(Performance(notes), 0.5, 1.0))
    yield


async def _json_lines(jobs: Jobs, job: Job, scratch: Path | None = None) -> AsyncIterator[bytes]:
    """Yield the messages of a job as lines of JSON: its id, its results, and how it ended; then remove its file."""
    pause = 0.0  # `begin` is ready before the first notes, which must not wait for it
    try:
        yield _json_line({"type": "job", "job": job.id})
        async for batch in job.results():
            yield b"".join(_json_line(_end_message(each) if isinstance(each, Ended) else each) for each in batch)
            await asyncio.sleep(pause)
            pause = STREAM_PAUSE_SECONDS
    finally:
        jobs.cancel(job.id)
        if scratch:
            remove(scratch)


def _json_line(message: Json) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _end_message(ended: Ended) -> Json:
    return {"type": ended.how} | ({"error": error_to_json(ended.error)} if ended.error else {})


def _with_refusals(call: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Return the call with its errors as JSON answers."""

    async def answer(request: Request) -> Response:
        try:
            return await call(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except MusicGeneratorError as error:
            status = next(status for kind, _, status in _REFUSALS if isinstance(error, kind))
            return JSONResponse({"error": error_to_json(error)}, status)

    return answer


def error_to_json(error: MusicGeneratorError) -> Json:
    """Return the `code`, the one-line `message` and the `field` of an error, null if it is about no field.

    The message about a file does not name it: the server does not know its name.
    """
    code = next(code for kind, code, _ in _REFUSALS if isinstance(error, kind))
    message, field = in_words(error.reason if isinstance(error, MidiError | RecordingError) else str(error))
    return {"code": code, "message": " ".join(message.split()), "field": field}
