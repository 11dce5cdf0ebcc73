"""The JSON API: the same functions as the command line's. docs/studio.md describes each of these addresses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Generator
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
from music_generator.errors import InputError, MusicGeneratorError
from music_generator.generation import SamplingOptions, generate, to_compose, to_infill, variations
from music_generator.generation.tasks import JOIN_SECONDS, PIECE_SECONDS
from music_generator.model.bundle import Bundle
from music_generator.music.midi import read_midi, write_midi
from music_generator.music.performance import NOTE_DTYPE, Performance
from music_generator.sound import FORMATS
from music_generator.studio.jobs import BusyError, Ended, Job, Jobs
from music_generator.studio.options import StudioOptions
from music_generator.studio.render import Heard, picture, sound, span_of
from music_generator.studio.schema import Json, number, parse, piece_from_json, piece_to_json, text
from music_generator.studio.writing import plan, read_asked, write

T = TypeVar("T")
EXAMPLE = Path(__file__).parent / "example.mid"
SOUND_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}


class TooLargeError(MusicGeneratorError):
    """A request is larger than allowed, or came too slowly."""


class Studio:
    """What the requests share: one model, its jobs, and the limits. No piece is kept here."""

    def __init__(self, bundle: Bundle, options: StudioOptions) -> None:
        self.bundle, self.options = bundle, options

    @cached_property
    def engine(self) -> Engine:
        """The one model in memory; its graphs are loaded when they are first used."""
        return Engine(self.bundle)

    @asynccontextmanager
    async def running(self, _app: object) -> AsyncIterator[None]:
        """The threads of writing, of playing and of exports, from the start to the end; the model is made warm."""
        self.writing, self.playing, self.exporting = (Jobs(self.options.jobs) for _ in range(3))
        self.readers = anyio.CapacityLimiter(self.options.readers)
        self.writing.submit(_warm(self.engine))
        try:
            yield
        finally:
            for jobs in (self.writing, self.playing, self.exporting):
                jobs.close()

    def routes(self) -> list[Route]:
        """The addresses, below the token's."""
        posts = {"read": self.read, "write": self.write, "midi": self.midi, "sound": self.sound}
        posts["picture"] = self.picture
        return [
            Route("/api/info", _answered(self.info), methods=["GET"]),
            Route("/api/example", _answered(self.example), methods=["GET"]),
            *(Route(f"/api/{name}", _answered(call), methods=["POST"]) for name, call in posts.items()),
            Route("/api/jobs/{job}", _answered(self.cancel), methods=["DELETE"]),
        ]

    async def info(self, _request: Request) -> Response:
        """What the page needs to know once: composers, defaults, limits."""
        default = SamplingOptions()
        return JSONResponse(
            {
                "composers": self.bundle.config.composers,
                "hears_future": self.bundle.config.direction == "both",
                "defaults": {
                    "temperature": default.temperature,
                    "top_p": default.top_p,
                    "variations": self.options.variations,
                    "piece_seconds": PIECE_SECONDS,
                    "join_seconds": JOIN_SECONDS,
                },
                "limits": {
                    "variations": self.options.most_variations,
                    "written_seconds": self.options.longest_written,
                    "sound_seconds": self.options.longest_sound,
                    "body_bytes": self.options.body_bytes,
                },
                "formats": FORMATS,
            }
        )

    async def example(self, _request: Request) -> Response:
        """A piece that the bundled model wrote."""
        return JSONResponse(_read(EXAMPLE.read_bytes()))

    async def read(self, request: Request) -> Response:
        """A MIDI file's bytes → the piece."""
        body = await self._body(request)
        return await self._aside(lambda: JSONResponse(_read(body)))

    async def midi(self, request: Request) -> Response:
        """A piece → the bytes of a MIDI file."""
        body = await self._body(request)
        data = await self._aside(lambda: write_midi(self._piece(parse(body))))
        return Response(data, media_type="audio/midi")

    async def write(self, request: Request) -> Response:
        """A task → its events, one JSON object a line, as they happen. The job ends when nobody listens any more."""
        body = await self._body(request)

        def prepare() -> Generator[Json, None, None]:
            asked = read_asked(parse(body), self.options)
            self.engine.composer(asked.options.composer)  # an unknown one is refused here,
            variations(asked.options, asked.count)  # and seeds that would go beyond the last
            return write(self.engine, asked, plan(asked, self.options))

        job = self.writing.submit(await self._aside(prepare))
        return StreamingResponse(_lines(self.writing, job), media_type="application/x-ndjson")

    async def cancel(self, request: Request) -> Response:
        """End a job of writing; its stream then ends with `cancelled`."""
        return JSONResponse({"cancelled": self.writing.cancel(request.path_params["job"])})

    async def sound(self, request: Request) -> Response:
        """A piece, or a span of it → a sound file."""
        body = await self._body(request)

        def prepare() -> tuple[str, Jobs, Generator[Heard, None, None]]:
            given = parse(body)
            form = text(given, "format") or FORMATS[0]
            piece, start, end = self._piece(given), number(given, "from") or 0.0, number(given, "to")
            end = piece.end if end is None else end
            if not 0 <= start < end:
                raise InputError(f"the span to play must begin at 0 or later and end after it: {start:g} to {end:g} s")
            played = span_of(piece, start, end)
            if played.end > self.options.longest_sound:
                raise InputError(
                    f"the studio plays up to {self.options.longest_sound:g} s in one file, not {played.end:g} s; "
                    "`music-generator render` plays any length"
                )
            jobs = self.playing if end - start <= self.options.played_at_once else self.exporting
            return form, jobs, sound(played, form, self.options.soundfont, number(given, "gain"))

        form, jobs, steps = await self._aside(prepare)
        heard: Heard = await _rendered(request, jobs, steps)
        headers = {"x-sound-engine": heard.engine, "x-sound-gain": repr(heard.gain)}
        return Response(
            heard.data, media_type=SOUND_TYPES[form], headers=headers | {"x-sound-seconds": f"{heard.seconds:.3f}"}
        )

    async def picture(self, request: Request) -> Response:
        """A piece → its piano roll as a PNG."""
        body = await self._body(request)

        def prepare() -> Generator[bytes, None, None]:
            given = parse(body)
            start, end = number(given, "from"), number(given, "to")
            span = None if start is None or end is None else (start, end)
            return picture(self._piece(given), span, text(given, "title") or "")

        steps = await self._aside(prepare)
        return Response(await _rendered(request, self.exporting, steps), media_type="image/png")

    async def _aside(self, call: Callable[[], T]) -> T:
        """What a request holds, taken apart beside the event loop. Few at a time: a large piece takes 100 MB then."""
        return await anyio.to_thread.run_sync(call, limiter=self.readers)

    def _piece(self, given: Json) -> Performance:
        return piece_from_json(given.get("piece"), "piece", self.options.most_strokes)

    async def _body(self, request: Request) -> bytes:
        """The body, within the limits of size and time. Raises `TooLargeError`."""
        most, body = self.options.body_bytes, bytearray()
        error = TooLargeError(f"that is too large: at most {most / (1 << 20):g} MB are taken")
        announced = request.headers.get("content-length", "0")
        if len(announced) > 18 or (announced.isdecimal() and int(announced) > most):
            raise error
        try:
            with anyio.fail_after(self.options.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise error
        except TimeoutError:
            raise TooLargeError(f"the request took over {self.options.body_seconds:g} s to come") from None
        return bytes(body)


async def _rendered(request: Request, jobs: Jobs, steps: Generator[Any, None, None]) -> Any:
    """The one result of a job of sound or pictures; who hangs up is not rendered for."""
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
    ended = results[-1]
    if ended.how != "done":
        raise InputError(ended.error or "cancelled: nobody waits for it any more")
    return results[0]


def _read(data: bytes) -> Json:
    reading = read_midi(data)
    if not len(reading.performance):
        raise InputError(f"the file has no notes of a piano{f': {reading.left_out}' if reading.left_out else ''}")
    return {"piece": piece_to_json(reading.performance), "left_out": reading.left_out}


BREATH = 0.02  # seconds between two parts of a stream


def _warm(engine: Engine) -> Generator[None, None, None]:
    """Load the graphs and run each once, so that the first click does not wait for it."""
    notes = np.array([(0.0, 0.2, 60, 64), (1.0, 0.2, 64, 64)], NOTE_DTYPE)
    alone = engine.config.direction == "forward"
    generate(engine, to_compose(0.5) if alone else to_infill(Performance(notes), 0.5, 1.0))
    yield


async def _lines(jobs: Jobs, job: Job) -> AsyncIterator[bytes]:
    """A job's events as JSON, one a line; first its name, last how it ended."""
    try:
        yield json.dumps({"event": "job", "job": job.id}).encode() + b"\n"
        async for batch in job.results():
            yield b"".join(json.dumps(_event(each)).encode() + b"\n" for each in batch)
            await asyncio.sleep(BREATH)  # what is drawn meanwhile comes together: a page can take that in
    finally:
        jobs.cancel(job.id)


def _event(result: Any) -> Json:
    if isinstance(result, Ended):
        return {"event": result.how} | ({"error": result.error} if result.error else {})
    event: Json = result
    return event


def _answered(call: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """The call, with what the user can mend as one line of JSON and a status that fits."""

    async def answer(request: Request) -> Response:
        try:
            response: Response = await call(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except BusyError as error:
            return _refused(error, 429)
        except TooLargeError as error:
            return _refused(error, 413)
        except MusicGeneratorError as error:
            return _refused(error, 422)
        return response

    return answer


def _refused(error: Exception, status: int) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, status)
