"""The server: it checks who sends a request, serves the page's files and the API, and listens on 127.0.0.1."""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import secrets
import socket
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from uvicorn.protocols.http.h11_impl import H11Protocol

from music_generator.errors import InputError
from music_generator.model.bundle import Bundle
from music_generator.sound import SAMPLES
from music_generator.studio.api import Studio
from music_generator.studio.options import HOST, StudioOptions

GOODBYE_SECONDS = 0.5  # for the answers that are being sent when the studio is ended
REFUSED_PAGE = Path(__file__).parent / "refused.html"
STATIC = Path(__file__).parent / "static"
mimetypes.add_type("text/javascript", ".js")  # on some systems it is text/plain, which browsers do not run
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

Scope = MutableMapping[str, Any]


class Guard:
    """The check that a request comes from the studio's own page on this computer.

    The Host must name this computer, so that no other name can be made to lead here (DNS rebinding); the Origin, if
    the browser sends one, must be the same; and the path must begin with the token, which no other page knows.
    """

    def __init__(self, app: Any, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer 403 or pass the request on. Each answer gets the security headers."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers, scope["path"])
        await (_refused(refusal, headers) if refusal else self.app)(scope, receive, _with_headers(send))

    def _refusal(self, headers: dict[str, str], path: str) -> str:
        if headers.get("host", "") not in self.hosts:
            return "this studio answers only to this computer's own address"
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self.hosts:
            return "this studio answers only to its own page"
        token = path.split("/", 2)[1] if path.startswith("/") else ""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return "open the address that `music-generator studio` printed: the token in this one is missing or old"
        return ""


def _refused(refusal: str, headers: dict[str, str]) -> Response:
    """Return a refusal: a page in plain words for someone who opens an address, else JSON."""
    if headers.get("sec-fetch-mode") == "navigate" or "text/html" in headers.get("accept", ""):
        return FileResponse(REFUSED_PAGE, 403)
    return JSONResponse({"error": {"code": "forbidden", "message": refusal, "field": None}}, 403)


def _with_headers(send: Any) -> Callable[[Scope], Any]:
    async def sending(message: Scope) -> None:
        if message["type"] == "http.response.start":
            given = message.get("headers", [])
            named = {name for name, _ in given}
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in named]
            message["headers"] = [*given, *own]
        await send(message)

    return sending


class RequestTimeoutProtocol(H11Protocol):
    """HTTP that closes a connection which brings no complete request in `seconds`.

    The API limits the time for a body. Without this class, the server would wait without limit for the head of a
    request or for the rest of a refused one; a few hundred such connections would use up all files of the process.
    """

    seconds = StudioOptions.request_timeout_seconds
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._update_deadline()

    def data_received(self, data: bytes) -> None:
        """Take data; the deadline stays until a request is complete."""
        super().data_received(data)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._clear_deadline()

    def _update_deadline(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._clear_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self._time_out)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        # a browser may open a connection before it has a request: it would take an answer for that of its next request
        if self.cycle is None and self.conn.trailing_data[0] and not self.transport.is_closing():
            self.send_400_response(f"the request took over {self.seconds:g} s to arrive")
        self.transport.close()


class _Samples(StaticFiles):
    """The piano's samples: a browser may keep them as long as it likes, because the token in their address is new."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["cache-control"] = "private, max-age=31536000, immutable"
        return response


def make_app(studio: Studio, token: str, port: int) -> Guard:
    """Return the application for the address `http://127.0.0.1:port/token/`."""
    page = Route("/", lambda _request: FileResponse(STATIC / "index.html"))
    below_token = [page, *studio.routes(), Mount("/static", GZipMiddleware(StaticFiles(directory=STATIC))),
                   Mount("/samples", _Samples(directory=SAMPLES))]  # fmt: skip
    without_slash = Route(f"/{token}", lambda _request: RedirectResponse(f"/{token}/"))
    routes = [without_slash, Mount(f"/{token}", routes=below_token)]
    return Guard(Starlette(routes=routes, lifespan=studio.running), token, port)


def listen(port: int) -> socket.socket:
    """Return a socket on 127.0.0.1 at `port`, at any free port for 0.

    Raises:
        InputError: The port is taken. No other one is used: a browser would not find there what it stored.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise InputError(f"port {port} of {HOST} cannot be used: {error.strerror or error}") from error
        raise InputError(
            f"port {port} of {HOST} is taken, perhaps by a studio that already runs: open its address or end it, or "
            "choose another `port`, at which a browser does not find the pieces that it stored at this one"
        ) from error
    return listener


def serve(bundle: Bundle, options: StudioOptions, started: Callable[[str], None]) -> None:
    """Serve the studio until it is interrupted; call `started` with the address as soon as it can be opened."""
    token = secrets.token_urlsafe(16)
    with listen(options.port) as listener:
        port = int(listener.getsockname()[1])
        studio = Studio(bundle, options)
        app: Any = make_app(studio, token, port)
        http = type("Protocol", (RequestTimeoutProtocol,), {"seconds": options.request_timeout_seconds})
        # no WebSockets: if a library for them is installed, it would answer requests that the guard ignores, with a 500
        config = uvicorn.Config(
            app, http=http, ws="none", log_level="warning", access_log=False, timeout_graceful_shutdown=1
        )
        _Server(config, studio, lambda: started(f"http://{HOST}:{port}/{token}/")).run([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, studio: Studio, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._studio, self._report = studio, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._report()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the jobs, so that their streams end, and then all connections: no task is left to be interrupted."""
        self._studio.cancel_jobs()
        end = time.monotonic() + GOODBYE_SECONDS
        while self.server_state.tasks and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)
