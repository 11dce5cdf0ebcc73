"""Unpack a zip archive from the web: nothing lands outside its folder, and the folder is complete or absent."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from music_generator.data.download import BLOCK_BYTES, Progress, check_space, errors_named, no_progress
from music_generator.errors import DownloadError

MOST_MEMBERS = 100_000


def is_contained(name: str) -> bool:
    """Return whether a relative path with `/` stays inside the folder it is joined to, on every platform."""
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
    """Unpack an archive of one folder.

    It is unpacked under a hidden name and renamed after the CRC of every member has been checked, so that a folder of
    the final name is always complete. If that folder exists with all files at their sizes, nothing is done.

    Args:
        archive: The zip archive.
        folder: The folder to unpack into.
        max_bytes: The largest number of bytes to unpack.
        max_ratio: The largest ratio of those bytes to the size of the archive.
        progress: Called with the bytes done and the bytes in all.

    Returns:
        The path of the unpacked folder.

    Raises:
        DownloadError: The archive is damaged, encrypted or too large, a member would land outside (absolute path,
            `..`, backslash, drive letter, link), the disk has too little room, or another folder of the same name
            exists.
    """
    archive, folder = Path(archive), Path(folder)
    with errors_named(f"unpack {archive} into {folder}"), _opened(archive) as opened:
        members = _checked_members(opened, archive, max_bytes, max_ratio)
        root = _one_root(members, archive)
        target, hidden = folder / root, folder / f".{root}.unpacking"
        shutil.rmtree(hidden, ignore_errors=True)  # left by a killed process
        if target.exists():
            return _already_unpacked(target, members, archive)
        folder.mkdir(parents=True, exist_ok=True)
        check_space(folder, sum(member.file_size for member in members))
        try:
            _extract(opened, members, hidden, progress or no_progress)
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
        raise DownloadError(f"{archive} is refused: it contains the same name twice")
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
                f"{target} exists and is not the content of {archive} ({member.filename} is missing or differs); "
                "move it away or choose another folder"
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
