"""Full, read-only and forbidden folders, and what comes from the web: python tests/stress/disks.py

A small disk in memory (a tmpfs, which needs root) is tried in many sizes, so that every place where a command writes is
once the one at which there is no room left; then it is made read-only; then the same folder is taken as another user
who may not write there. Each command must end in one line that says why, and leave nothing that is not whole. What
cannot be tried here is said. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # with so few units threads only wait
os.environ["no_proxy"] = "*"

import numpy as np

from music_generator.data import maestro
from music_generator.data.prepare import prepare
from music_generator.music.midi import write_midi
from stress.commands import Done, called, fault
from stress.mutations import made_up
from stress.server import Site, serving

NOBODY = 65_534
TRAINED = ("--steps", 3, "--batch", 2, "--length", 32, "--size", 8, "--backward-size", 8)
Commands = dict[str, Callable[[Path], Done]]  # by name: run it so that it writes into a folder


@dataclass
class Tally:
    """What was tried, what was refused, and what was found."""

    tried: int = 0
    refused: int = 0
    skipped: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def take(self, where: str, done: Done, *reasons: str) -> None:
        """Note how a command ended: it may go well, or name one of `reasons`."""
        self.tried += 1
        wrong = fault(done)
        if done.code:
            self.refused += 1
            if not wrong and not any(reason in done.err for reason in reasons):
                wrong = f"it does not say why: {done.err!r}"
        if wrong:
            self.find(f"{where}: {wrong}")

    def find(self, text: str) -> None:
        self.findings.append(text)
        print(f"FOUND {text}", flush=True)


def sums(folder: Path) -> dict[str, str]:
    """The sum of every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- the commands that write


def archive_of(folder: Path) -> Path:
    """A MAESTRO-shaped archive of 400 kB."""
    archive = folder / "served.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for i in range(20):
            opened.writestr(f"maestro-v3.0.0/2004/{i}.midi", np.random.default_rng(i).bytes(20_000))
    return archive


@contextmanager
def release_of(site: Site) -> Iterator[None]:
    """`prepare maestro` downloads from this site, and finds what it serves to be right."""
    known = maestro.Archive("m.zip", hashlib.sha256(site.data).hexdigest())
    with (
        patch.dict(maestro.RELEASES, {"3.0.0": maestro.Release(known, known)}),
        patch.dict(maestro.download.__kwdefaults__, base_url=site.url),
    ):
        yield


def commands(scratch: Path, *, with_training: bool) -> Commands:
    """Each command that writes, so that it writes into the folder it is given."""
    piece, midi = scratch / "piece.mid", scratch / "midi"
    write_midi(made_up(1, 60), piece)
    midi.mkdir()
    for i in range(6):
        write_midi(made_up(i, 400), midi / f"{i}.mid")
    corpus = prepare(midi, scratch / "corpus", jobs=1).folder
    music = ("--seconds", 2, "--seed", 5, "--out")
    found: Commands = {
        "generate": lambda out: called("generate", *music, out),
        "infill": lambda out: called("infill", piece, "--from", 1, "--to", 2, "--seed", 1, "--no-plots", "--out", out),
        "render": lambda out: called("render", piece, "--out", out / "piece.wav"),
        "plot": lambda out: called("plot", piece, "--out", out / "piece.png"),
        "prepare": lambda out: called("prepare", midi, "--out", out / "corpus", "--jobs", 1),
        "download": lambda out: called("prepare", "maestro", "--downloads", out, "--out", scratch / "elsewhere"),
    }
    if with_training:
        found["train"] = lambda out: called("train", corpus, "--run", out / "run", *TRAINED)
    return found


# --- the disks


def mount(folder: Path, *options: str) -> bool:
    """A disk in memory at `folder`, or the one there changed; False where that is not allowed."""
    try:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """A disk of that size at `folder`; gives False, and none, where this process may not mount one."""
    folder.mkdir(exist_ok=True)
    there = mount(folder, f"size={kilobytes}k")
    try:
        yield there
    finally:
        if there:
            subprocess.run(["umount", str(folder)], check=True)


def full_disks(name: str, run: Callable[[Path], Done], scratch: Path, sizes: int, tally: Tally) -> None:
    """One command on disks of growing sizes, the last large enough."""
    place, whole = scratch / "disk", scratch / f"whole-{name}"
    whole.mkdir()
    if fault(done := run(whole)) or (done.code and name != "download"):
        tally.find(f"{name} without any limit: {done.err}")
        return
    needed = sum(path.stat().st_size for path in whole.rglob("*")) // 1024
    good = sums(whole)
    for kilobytes in sorted({4, 8, *np.linspace(4, needed * 1.3 + 200, sizes).astype(int).tolist()}):
        with disk(place, kilobytes) as there:
            if not there:
                tally.skipped.append(f"full disk, {name}: no tmpfs can be mounted here")
                return
            where = f"{name} on a disk of {kilobytes} kB"
            # the archive served is no real MAESTRO: where all of it has room, that is what is told
            tally.take(
                where, run(place), "No space left", "is the disk full?", "are free", "this is not MAESTRO", "I/O error"
            )
            if name == "train":
                check_run(where, place / "run", tally)
            else:
                check_whole(where, place, good, tally)


def check_whole(where: str, place: Path, good: dict[str, str], tally: Tally) -> None:
    """That whatever is on the disk is whole; what has arrived of a download may stay, for it goes on from there."""
    for name, sum_ in sums(place).items():
        if good.get(name) != sum_ and not name.endswith((".part", ".part.json")):
            tally.find(f"{where}: {name} is left and not whole")


def check_run(where: str, run: Path, tally: Tally) -> None:
    """That a run which came to a full disk can go on, once there is room."""
    from music_generator.training.checkpoint import read_checkpoint

    if hidden := [path.name for path in run.rglob(".*")]:
        tally.find(f"{where}: {hidden} is left")
    for path in run.glob("*.safetensors"):
        read_checkpoint(path)
    if (run / "run.json").exists():
        corpus = run.parents[1] / "corpus"
        if not mount(run.parent, "remount", "size=100m"):
            tally.find(f"{where}: the disk could not be made larger")
        tally.take(f"{where}, resumed with room", called("train", corpus, "--resume", run))
        if not (run / "model" / "bundle.json").exists():
            tally.find(f"{where}: the run did not go on when there was room")


def read_only(runs: Commands, scratch: Path, tally: Tally) -> None:
    """Every command on a disk that is mounted read-only."""
    place = scratch / "disk"
    with disk(place, 8) as there:
        if not there or not mount(place, "remount", "ro"):
            tally.skipped.append("read-only disk: no tmpfs can be mounted here")
            return
        for name, run in runs.items():
            done = run(place)
            tally.take(f"{name} on a read-only disk", done, "Read-only file system")
            if done.code != 2:
                tally.find(f"{name} on a read-only disk ended with {done.code}")


def forbidden(runs: Commands, scratch: Path, tally: Tally) -> None:
    """Every command into a folder of root's, as a user who may not write there. Root itself may write anywhere."""
    if os.getuid() != 0:
        tally.skipped.append("folder of another user: only root can become another user")
        return
    place = scratch / "of-root"
    place.mkdir(mode=0o755)
    for name, run in runs.items():
        done = as_nobody(run, place)
        tally.take(f"{name} into a folder of another user", done, "Permission denied")
        if done.code != 2 or list(place.iterdir()):
            tally.find(f"{name} into a folder of another user ended with {done.code}, {list(place.iterdir())}")
    unreadable(scratch, tally)


def unreadable(scratch: Path, tally: Tally) -> None:
    """A file, a corpus and a model that this user may not read."""
    folder = scratch / "secret"
    shutil.copytree(scratch / "corpus", folder)
    write_midi(made_up(3, 20), folder / "piece.mid")
    (folder / "bundle.json").write_text("{}")
    for path in folder.iterdir():
        path.chmod(0)
    for arguments in (
        ("info", folder / "piece.mid"), ("generate", "--model", folder), ("info", folder),
        ("generate", "--primer", folder / "piece.mid"),
    ):  # fmt: skip
        done = as_nobody(lambda _, given=arguments: called(*given), folder)
        tally.take(f"{arguments} as another user", done, "Permission denied")
        if done.code != 2:
            tally.find(f"{arguments} as another user ended with {done.code}")


def as_nobody(run: Callable[[Path], Done], place: Path) -> Done:
    """Run a command in a process of a user without rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            done = run(place)
            os.write(writing, json.dumps([done.code, done.out[-10_000:], done.err[-10_000:]]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return Done(*json.loads(text)) if text else Done(None, "", "the process said nothing")


# --- what comes from the web, and what a dataset says of itself


def from_the_web(scratch: Path, tally: Tally) -> None:
    """`prepare maestro` behind a proxy's page, with hostile archives, and with metadata of other kinds."""
    archive = (scratch / "served.zip").read_bytes()
    for name, data, kind, reason in (
        ("a proxy's page", b"<!doctype html><title>Log in</title>", "text/html", "a proxy or a login page"),
        ("a page that says it is a zip", b"<html>" + bytes(1000), "application/zip", "a proxy or a login page"),
        ("a name with ../", zipped(scratch, {"m/a": b"a", "../evil": b"evil"}), "application/zip", "outside"),
        ("a bomb", zipped(scratch, {"m/zeros": bytes(30_000_000)}), "application/zip", "would unpack to"),
        ("half an archive", archive[: len(archive) // 2], "application/zip", "damaged"),
    ):
        with serving(Site(data, 0, kind)) as site, release_of(site):
            out = scratch / "from-the-web"
            done = called("prepare", "maestro", "--downloads", out / "d", "--out", out / "c")
            tally.take(f"prepare maestro, {name}", done, reason)
            if done.code != 2 or any("evil" in path or "zeros" in path for path in sums(scratch)):
                tally.find(f"prepare maestro, {name}: it ended with {done.code}, or unpacked something")
            shutil.rmtree(out, ignore_errors=True)


def zipped(scratch: Path, members: dict[str, bytes]) -> bytes:
    path = scratch / "hostile.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    data = path.read_bytes()
    path.unlink()
    return data


def metadata(scratch: Path, tally: Tally) -> None:
    """`prepare maestro --from` a folder whose CSV lacks columns or is in another encoding."""
    head = ",".join(maestro.COLUMNS)
    row = "Frédéric Chopin,Étude,train,2004,a.midi,a.wav,3.0"
    texts: dict[str, tuple[bytes, str]] = {
        "without two columns": (
            b"canonical_composer,year\r\nBach,2004\r\n",
            "lacks the columns canonical_title, split",
        ),
        "with semicolons": (head.replace(",", ";").encode(), "lacks the columns"),
        "Latin-1": (f"{head}\r\n{row}\r\n".encode("latin-1"), "save it as UTF-8"),
        "UTF-16 without its mark": (f"{head}\r\n{row}\r\n".encode("utf-16-le"), "save it as UTF-8"),
        "with zero bytes": (f"{head}\r\n".encode() + bytes(100), "must have a value"),
        "a path that leaves": (f"{head}\r\n{row}\r\n".replace("a.midi", "../a.midi").encode(), "must stay inside"),
        "empty": (b"", "lacks the columns"),
    }
    for name, (data, reason) in texts.items():
        folder = scratch / "dataset"
        folder.mkdir()
        (folder / "maestro-v3.0.0.csv").write_bytes(data)
        done = called("prepare", "maestro", "--from", folder, "--out", scratch / "made", "--jobs", 1)
        tally.take(f"metadata {name}", done, reason)
        if done.code != 2 or (scratch / "made").exists():
            tally.find(f"metadata {name}: it ended with {done.code}, or left a corpus")
        shutil.rmtree(folder)


def everything(sizes: int, *, with_training: bool) -> Tally:
    """All of it, in a folder of its own."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        runs = commands(scratch, with_training=with_training)
        with serving(Site(archive_of(scratch).read_bytes(), 0)) as site, release_of(site):
            for command, run in runs.items():
                full_disks(command, run, scratch, sizes, tally)
            read_only(runs, scratch, tally)
            forbidden(runs, scratch, tally)
        from_the_web(scratch, tally)
        metadata(scratch, tally)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=20, help="of the disk, for each command")
    parser.add_argument("--no-training", action="store_true", help="leave `train` out, which takes the longest")
    arguments = parser.parse_args()
    tally = everything(arguments.sizes, with_training=not arguments.no_training)
    for text in tally.skipped:
        print(f"skipped: {text}")
    print(f"{tally.tried} commands, {tally.refused} refused, {len(tally.findings)} findings")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
