"""What built wheels and the source archive must hold and must not: `python .ci/contents.py dist`."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "music_generator"
LARGEST_WHEEL, LARGEST_ARCHIVE = 30e6, 35e6  # bytes
# in both; the licences are named by the wheel's metadata too
NEEDED = [
    f"{PACKAGE}/{name}"
    for name in (
        "__init__.py",
        "py.typed",
        "engine/kernel.c",
        "engine/kernel.h",
        "pretrained/bundle.json",
        "pretrained/weights.safetensors",
        "pretrained/runtime.int8.safetensors",
        "pretrained/README.md",
        "pretrained/LICENSE",
        "licences/CC-BY-NC-SA-4.0.txt",
        "studio/static/index.html",
        "studio/example.mid",
        "studio/refused.html",
        "sound/salamander/index.json",
        "sound/salamander/60-2.mp3",
        "sound/salamander/LICENSE",
    )
]
IN_WHEEL = ["METADATA", "entry_points.txt", "licenses/LICENSE", f"licenses/src/{PACKAGE}/licences/CC-BY-NC-SA-4.0.txt",
            f"licenses/src/{PACKAGE}/sound/salamander/LICENSE"]  # fmt: skip
IN_ARCHIVE = ["pyproject.toml", "LICENSE", "README.md", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md",
              "hatch_build.py", "hatch_readme.py", "docs/model.md", "docs/conf.py", "tests/conftest.py",
              f"src/{PACKAGE}/cli/main.py"]  # fmt: skip
PICTURE = re.compile(r"!\[[^\]]*\]\(([^()\s]+)\)")
REPOSITORY_URL = re.compile(r"^Project-URL: Repository, (\S+?)/?$", re.MULTILINE)
# built: one in a wheel for one platform, none in a wheel for any, nor in the archive
KERNEL = re.compile(r"libkernel\.\w+$")
# the one MIDI file, which the bundled model wrote, and the piano's samples
OWN_MUSIC = re.compile(r"studio/example\.mid$|sound/salamander/[\w-]+\.mp3$")
MUSIC = re.compile(r"\.(midi?|wav|flac|ogg|mp3)$", re.IGNORECASE)
# what work leaves in a folder, as in `.gitignore`
JUNK = re.compile(
    r"(^|/)(__pycache__|node_modules|\.\w+_cache|\.venv[^/]*|\.git)(/|$)"
    r"|^(build|corpus|dist|downloads|music|runs|site)/|\.(pyc|log)$"
)


def faults(names: list[str], needed: list[str]) -> list[str]:
    """What is wrong with the names of an archive's files."""
    found = [f"{need} is missing" for need in needed if need not in names]
    found += [f"{name} is music" for name in names if MUSIC.search(name) and not OWN_MUSIC.search(name)]
    return found + [f"{name} is none of it" for name in names if JUNK.search(name)]


def wheel_faults(path: Path) -> list[str]:
    """What is wrong with a wheel: it holds the package and its metadata, nothing else."""
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        described = [wheel.read(name).decode("utf-8") for name in names if name.endswith(".dist-info/METADATA")]
    infos = {name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")}
    needed = NEEDED + [f"{info}/{name}" for info in infos for name in IN_WHEEL]
    strangers = [f"{name} is outside the package" for name in names if name.split("/")[0] not in {PACKAGE, *infos}]
    kernels, wanted = [name for name in names if KERNEL.search(name)], 0 if path.stem.endswith("-any") else 1
    strangers += [f"it has {len(kernels)} built kernels, not {wanted}"] if len(kernels) != wanted else []
    described_faults = [fault for metadata in described for fault in description_faults(metadata)]
    return faults(names, needed) + strangers + described_faults + too_large(path, LARGEST_WHEEL)


def description_faults(metadata: str) -> list[str]:
    """What is wrong with the description's pictures, which an index shows, where the repository's address is known."""
    address = REPOSITORY_URL.search(metadata)
    if not address:
        return []
    found = []
    for picture in PICTURE.findall(metadata):
        # the address, how the file is shown, the version, and the path
        path = picture.removeprefix(f"{address[1]}/").split("/", 2)[-1]
        if "://" not in picture:
            found.append(f"{picture} of the description is not absolute")
        elif picture.startswith(address[1]) and not (REPOSITORY / path).is_file():
            found.append(f"{picture} of the description is no file of the repository")
    return found


def archive_faults(path: Path) -> list[str]:
    """What is wrong with a source archive."""
    with tarfile.open(path) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    built = [f"{name} is none of it" for name in names if KERNEL.search(name)]
    return faults(names, [f"src/{name}" for name in NEEDED] + IN_ARCHIVE) + built + too_large(path, LARGEST_ARCHIVE)


def too_large(path: Path, most: float) -> list[str]:
    """A line if a file is larger than it may be."""
    size = path.stat().st_size
    return [f"it has {size / 1e6:.1f} MB, more than {most / 1e6:.0f}"] if size > most else []


def main(folder: Path) -> int:
    """Print what is there and what is wrong with it; 1 if anything is."""
    wheels, archives = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    found = [f"{folder}: wheels and one .tar.gz must be there, not {len(wheels)} and {len(archives)}"]
    if wheels and len(archives) == 1:
        checked = [*((path, wheel_faults(path)) for path in wheels), (archives[0], archive_faults(archives[0]))]
        found = [f"{path.name}: {fault}" for path, lines in checked for fault in lines]
        print(*(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB" for path, _ in checked), sep="\n")
    print(*(f"FAULT {line}" for line in found), sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
