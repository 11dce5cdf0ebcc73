"""Download a zip archive: resumed after an interruption, and checked."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import shutil
import ssl
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import NoReturn

from music_generator.errors import DownloadError, InputError

Progress = Callable[[int, "int | None"], None]  # bytes done, bytes in all or None if the server does not say

BLOCK_BYTES = 1 << 18
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)  # before the next try, after failures in a row that brought no new bytes

_log = logging.getLogger(__name__)


class _DroppedError(Exception):
    """The connection ended early or the server was busy: another try may succeed."""


_PASSING = (
    _DroppedError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    http.client.HTTPException,
    urllib.error.URLError,
)


def fetch(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
    timeout_seconds: float = 60,
) -> Path:
    """Download a zip archive, unless it exists already.

    The bytes received are in `PATH.part` until the archive is complete and checked, and a later call continues from
    there (HTTP Range with If-Range, RFC 9110 section 13.1.5, so that two versions of a file are never mixed). A
    dropped connection is tried again.

    Args:
        url: The address, http or https.
        path: The file to write.
        sha256: The expected checksum. With None only the length and the zip directory are checked here, and each
            member's CRC by `unpack`; the log says so.
        progress: Called with the bytes done and the bytes in all.
        timeout_seconds: The longest time without a byte.

    Returns:
        `path`.

    Raises:
        InputError: `url` is neither http nor https.
        DownloadError: The server refuses, answers with something other than a zip archive or keeps dropping the
            connection, the disk has too little room, or the checksum differs (the file is then removed).
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"`url` must begin with http:// or https://, not {url}")
    path = Path(path)
    partial = _Partial(path.with_name(path.name + ".part"))
    with errors_named(f"write {path}"):
        if path.exists():
            _already_there(path, sha256)
            partial.discard()  # left by a process that was killed after the last step
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        _receive_all(url, partial, progress or no_progress, timeout_seconds)
        if wrong := _fault(partial.path, sha256):
            partial.discard()
            raise DownloadError(f"{url} {wrong}; what was downloaded has been removed, please try again")
        partial.path.replace(path)
        partial.discard()
    return path


def no_progress(_done: int, _total: int | None) -> None:
    """Report nothing."""


@contextmanager
def errors_named(what: str) -> Iterator[None]:
    """Turn an `OSError` into a `DownloadError` that says what could not be done."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"cannot {what}: {error.strerror or error}") from error


def _already_there(path: Path, sha256: str | None) -> None:
    if not path.is_file():
        raise DownloadError(f"{path} exists and is not a file; move it away")
    if wrong := _fault(path, sha256):
        raise DownloadError(f"{path} exists, but {wrong}; remove it and download again")


def _fault(path: Path, sha256: str | None) -> str | None:
    """Return the fault of the archive, or None."""
    if sha256 is None:
        _log.warning("no checksum is published for %s: only its length and the zip's CRCs are checked", path.name)
        return None if zipfile.is_zipfile(path) else "is not a whole zip archive"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    return None if found == sha256.lower() else f"has the sha256 {found} where {sha256} was expected"


@dataclass(frozen=True)
class _Partial:
    """The part of a file that was received, with a note beside it that identifies the version of the file."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """Return the ETag or date of the file at `url` that this is a part of; None if it is not known."""
        try:
            note = json.loads(self.note.read_text("utf-8"))
            return str(note["validator"]) if note["url"] == url and note["validator"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, url: str, validator: str | None) -> None:
        self.path.write_bytes(b"")
        self.note.write_text(json.dumps({"url": url, "validator": validator}), "utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _validator(headers: Message) -> str | None:
    """Return a value for If-Range: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _receive_all(url: str, partial: _Partial, progress: Progress, timeout_seconds: float) -> None:
    """Try until the file is complete; give up after some failures in a row that brought no new bytes."""
    furthest, failures = partial.size(), 0
    while True:
        try:
            return _receive_once(url, partial, progress, timeout_seconds)
        except _PASSING as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DownloadError(f"the certificate of {url} cannot be verified: {reason}") from error
            failures = 0 if partial.size() > furthest else failures + 1
            furthest = max(furthest, partial.size())
            if failures > len(PAUSES_SECONDS):
                raise DownloadError(
                    f"cannot download {url}: {reason}; what was received is kept, the same command continues there"
                ) from error
            _log.info("%s: %s; trying again", url, reason)
            time.sleep(PAUSES_SECONDS[max(failures - 1, 0)])


def _receive_once(url: str, partial: _Partial, progress: Progress, timeout_seconds: float) -> None:
    headers = {"User-Agent": "music-generator", "Accept-Encoding": "identity"}
    have, validator = partial.size(), partial.validator(url)
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_seconds) as response:
            _receive(response, url, partial, progress)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
                return  # the file was complete before
            _refused(error, url, partial)


def _refused(error: urllib.error.HTTPError, url: str, partial: _Partial) -> NoReturn:
    answer = f"the server answered {error.code} {error.reason}"
    if error.code == 416:
        partial.discard()
    if error.code in (408, 416, 429) or error.code >= 500:
        raise _DroppedError(answer)
    raise DownloadError(f"cannot download {url}: {answer}")


def _receive(response: http.client.HTTPResponse, url: str, partial: _Partial, progress: Progress) -> None:
    content_type = response.headers.get("Content-Type", "")
    if "html" in content_type.lower():
        _refuse_page(url, content_type)
    have = _resumed_at(response, url, partial)
    length = response.headers.get("Content-Length", "")
    left = int(length) if length.isdecimal() else None
    total = None if left is None else have + left
    if not have:
        partial.begin(url, _validator(response.headers))
    check_space(partial.path.parent, left or 0)
    done = _store(response, url, partial, have, total, progress)
    if total is not None and done < total:
        raise _DroppedError(f"the connection ended after {done} of {total} bytes")


def _resumed_at(response: http.client.HTTPResponse, url: str, partial: _Partial) -> int:
    """Return the byte at which the response begins: the end of the part here, or 0 if the server starts over."""
    if response.status != 206:
        return 0
    have, known, sent = partial.size(), partial.validator(url), _validator(response.headers)
    if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-") or (sent and sent != known):
        partial.discard()
        raise _DroppedError("the file has changed on the server, or it sent a part that was not requested")
    return have


def _refuse_page(url: str, what: str) -> NoReturn:
    raise DownloadError(f"{url} did not return a zip archive ({what}); check for a proxy or a login page in between")


def _store(
    response: http.client.HTTPResponse, url: str, partial: _Partial, done: int, total: int | None, progress: Progress
) -> int:
    with partial.path.open("ab") as file:
        while block := response.read(BLOCK_BYTES):
            if not done and not block.startswith(b"PK"):
                partial.discard()
                _refuse_page(url, f"it begins with {block[:8]!r}")
            file.write(block)
            done += len(block)
            progress(done, total)
    return done


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise `DownloadError` if the disk of `folder` has fewer than `needed_bytes` free."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise DownloadError(
            f"{needed_bytes / 1e9:.2f} GB are needed in {folder}, but only {free / 1e9:.2f} GB are free"
        )
