"""One zip archive from the web onto disk: resumed after an interruption, checked, and unpacked safely."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import re
import shutil
import ssl
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import NoReturn

from music_generator.errors import DownloadError, InputError

Progress = Callable[[int, "int | None"], None]  # bytes done, bytes in all (None where the server does not say)

BLOCK_BYTES = 1 << 18
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)  # before each new try after a failure that brought nothing new
MOST_MEMBERS = 100_000

_log = logging.getLogger(__name__)


class _DroppedError(Exception):
    """The connection ended early or the server was busy: worth another try."""


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
    """The zip archive at `url` (http or https) as the file `path`; downloaded unless it is there already.

    What has arrived lies in `PATH.part` until it is whole and checked, and a later call goes on from there (HTTP
    Range with If-Range, RFC 9110 section 13.1.5, so that a file changed on the server is never spliced). A dropped
    connection is tried again; `timeout_seconds` is the longest silence. With `sha256` None only the length and the
    zip directory are checked here (and each member's CRC by `unpack`); the log says so.

    Raises `DownloadError` if the server refuses, answers something other than a zip archive, keeps dropping the
    connection, if the disk has too little room, or if the checksum differs (the file is then removed).
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"`url` must begin with http:// or https://, not {url}")
    path = Path(path)
    partial = _Partial(path.with_name(path.name + ".part"))
    with _doing(f"write {path}"):
        if path.exists():
            _already_there(path, sha256)
            partial.discard()  # of a run that was killed after the last step
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        _receive_all(url, partial, progress or _no_progress, timeout_seconds)
        if wrong := _fault(partial.path, sha256):
            partial.discard()
            raise DownloadError(f"{url} {wrong}; what was downloaded has been removed, please try again")
        partial.path.replace(path)
        partial.discard()
    return path


def _no_progress(_done: int, _total: int | None) -> None:
    pass


@contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(f"cannot {what}: {error.strerror or error}") from error


def _already_there(path: Path, sha256: str | None) -> None:
    if not path.is_file():
        raise DownloadError(f"{path} is in the way: it is not a file")
    if wrong := _fault(path, sha256):
        raise DownloadError(f"{path} is there already, but {wrong}; remove it and download again")


def _fault(path: Path, sha256: str | None) -> str | None:
    """What is wrong with the archive, or None."""
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
    """What has arrived of a file, with a note beside it of which version of the file that is."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """The ETag or date of the file at `url` that this is a part of; None if that is not known."""
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
    """What If-Range may hold: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _receive_all(url: str, partial: _Partial, progress: Progress, timeout_seconds: float) -> None:
    """Try until the file is whole; give up after as many failures in a row that brought nothing new."""
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
                    f"cannot download {url}: {reason}; what has arrived is kept, the same command goes on from there"
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
                return  # all of it had arrived before
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
    """The byte at which the answer goes on: the end of what is here, or 0 where the server starts over."""
    if response.status != 206:
        return 0
    have, known, sent = partial.size(), partial.validator(url), _validator(response.headers)
    if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-") or (sent and sent != known):
        partial.discard()
        raise _DroppedError("the file has changed on the server, or it sent another part than asked for")
    return have


def _refuse_page(url: str, what: str) -> NoReturn:
    raise DownloadError(f"{url} gave something other than a zip archive ({what}): is a proxy or login page in between?")


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


def is_contained(name: str) -> bool:
    """Whether a `/`-separated relative path stays inside the folder it is joined to, on every platform."""
    parts = name.removesuffix("/").split("/")
    return not re.search(r"[\\:\x00-\x1f]", name) and not any(part in ("", ".", "..") for part in parts)


def unpack(
    archive: str | Path,
    folder: str | Path,
    *,
    max_bytes: int = 300 * 10**9,
    max_ratio: float = 50.0,
    progress: Progress | None = None,
) -> Path:
    """Unpack an archive that holds one folder into `folder`, and return that one folder's path.

    It is unpacked under a hidden name and renamed once every member's CRC has been found right, so that a folder of
    the proper name is always whole. If it is there already with all its files at their sizes, nothing is done.

    Raises `DownloadError` if the archive is damaged or encrypted, if a member would land outside (absolute path,
    `..`, backslash, drive letter, link), if it would unpack to more than `max_bytes` or more than `max_ratio` times
    its own size, if the disk has too little room, or if another folder of the same name is in the way.
    """
    archive, folder = Path(archive), Path(folder)
    with _doing(f"unpack {archive} into {folder}"), _opened(archive) as opened:
        members = _checked_members(opened, archive, max_bytes, max_ratio)
        root = _one_root(members, archive)
        target, hidden = folder / root, folder / f".{root}.unpacking"
        shutil.rmtree(hidden, ignore_errors=True)  # of a run that was killed
        if target.exists():
            return _already_unpacked(target, members, archive)
        folder.mkdir(parents=True, exist_ok=True)
        check_space(folder, sum(member.file_size for member in members))
        try:
            _extract(opened, members, hidden, progress or _no_progress)
            (hidden / root).replace(target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return target


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    if not archive.is_file():
        raise DownloadError(f"there is no archive {archive}")
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise DownloadError(f"{archive} is not a zip archive or is damaged: {error}; download it again") from error


def _checked_members(opened: zipfile.ZipFile, archive: Path, max_bytes: int, max_ratio: float) -> list[zipfile.ZipInfo]:
    members = opened.infolist()
    for member in members:
        if wrong := _member_fault(member):
            raise DownloadError(f"{archive} is refused: its member {member.orig_filename!r} {wrong}")
    if len({member.filename.casefold() for member in members}) < len(members):
        raise DownloadError(f"{archive} is refused: it holds the same name twice")
    total, size = sum(member.file_size for member in members), archive.stat().st_size
    if total > max_bytes or total > max_ratio * size or len(members) > MOST_MEMBERS:
        raise DownloadError(
            f"{archive} is refused: its {size} bytes would unpack to {total} bytes in {len(members)} members "
            f"(at most {max_bytes} bytes, {max_ratio:g} times its size and {MOST_MEMBERS} members are allowed)"
        )
    return members


def _member_fault(member: zipfile.ZipInfo) -> str | None:
    if not is_contained(member.orig_filename):
        return "could land outside the folder"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is neither stored nor deflated"
    return "is encrypted" if member.flag_bits & 1 else None


def _one_root(members: list[zipfile.ZipInfo], archive: Path) -> str:
    roots = {member.filename.split("/")[0] for member in members}
    if len(roots) != 1 or any("/" not in member.filename for member in members):
        raise DownloadError(f"{archive} must hold exactly one folder, not {', '.join(sorted(roots)[:5]) or 'nothing'}")
    return roots.pop()


def _already_unpacked(target: Path, members: list[zipfile.ZipInfo], archive: Path) -> Path:
    for member in members:
        path = target.parent / member.filename
        if not (path.is_dir() if member.is_dir() else path.is_file() and path.stat().st_size == member.file_size):
            raise DownloadError(
                f"{target} is in the way: it is not what {archive} holds ({member.filename} is missing or "
                f"differs); move it away or choose another folder"
            )
    return target


def _extract(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, progress: Progress) -> None:
    done, total = 0, sum(member.file_size for member in members)
    for member in members:
        path = folder / member.filename
        if member.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, path.open("xb") as file:
            while block := source.read(BLOCK_BYTES):  # reading to the end checks the CRC
                file.write(block)
                done += len(block)
                progress(done, total)
