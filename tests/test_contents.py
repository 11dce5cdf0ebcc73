"""What `.ci/contents.py` finds wrong with a wheel and a source archive."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from test_architecture import REPOSITORY

SCRIPT = REPOSITORY / ".ci" / "contents.py"
sys.path.insert(0, str(SCRIPT.parent))

from contents import IN_ARCHIVE, IN_WHEEL, NEEDED, PICTURE, archive_faults, description_faults, wheel_faults  # noqa: E402

KERNEL = "music_generator/engine/libkernel.so"
WHEEL = [*NEEDED, *(f"music_generator_rnn-1.dist-info/{name}" for name in IN_WHEEL)]
ARCHIVE = [*IN_ARCHIVE, *(f"src/{name}" for name in NEEDED)]


def wheel(folder: Path, names: list[str], size: int = 1, platform: str = "any") -> Path:
    path = folder / f"made-1-py3-none-{platform}.whl"
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            opened.writestr(name, b"x" * size)
    return path


def archive(folder: Path, names: list[str]) -> Path:
    path, empty = folder / "made-1.tar.gz", folder / "empty"
    empty.touch()
    with tarfile.open(path, "w:gz") as opened:
        for name in names:
            opened.add(empty, f"made-1/{name}")
    return path


def test_what_is_whole_is_whole(tmp_path):
    assert wheel_faults(wheel(tmp_path, WHEEL)) == []
    assert archive_faults(archive(tmp_path, ARCHIVE)) == []


def test_a_wheel_of_a_platform_has_its_kernel_and_no_other_has_one(tmp_path):
    linux = "manylinux2014_x86_64"
    assert wheel_faults(wheel(tmp_path, [*WHEEL, KERNEL], platform=linux)) == []
    assert wheel_faults(wheel(tmp_path, WHEEL, platform=linux)) == ["it has 0 built kernels, not 1"]
    both = [*WHEEL, KERNEL, KERNEL.replace(".so", ".dll")]
    assert wheel_faults(wheel(tmp_path, both, platform=linux)) == ["it has 2 built kernels, not 1"]
    assert wheel_faults(wheel(tmp_path, [*WHEEL, KERNEL])) == ["it has 1 built kernels, not 0"]
    assert archive_faults(archive(tmp_path, [*ARCHIVE, f"src/{KERNEL}"])) == [f"src/{KERNEL} is none of it"]


@pytest.mark.parametrize("name", WHEEL)
def test_what_is_missing_from_a_wheel_is_named(tmp_path, name):
    assert wheel_faults(wheel(tmp_path, [each for each in WHEEL if each != name])) == [f"{name} is missing"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("tests/test_midi.py", "is outside the package"),
        ("music_generator/piece.mid", "is music"),
        ("music_generator/studio/Piece.MIDI", "is music"),
        ("music_generator/__pycache__/cli.cpython-311.pyc", "is none of it"),
    ],
)
def test_what_does_not_belong_into_a_wheel_is_named(tmp_path, name, fault):
    assert wheel_faults(wheel(tmp_path, [*WHEEL, name])) == [f"{name} {fault}"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("runs/mine/run.json", "is none of it"),
        (".venv-dev/bin/python", "is none of it"),
        ("tests/js/node_modules/eslint/package.json", "is none of it"),
        ("a.wav", "is music"),
    ],
)
def test_what_does_not_belong_into_an_archive_is_named(tmp_path, name, fault):
    assert archive_faults(archive(tmp_path, [*ARCHIVE, name])) == [f"{name} {fault}"]


def test_a_wheel_may_not_grow_too_large(tmp_path):
    assert wheel_faults(wheel(tmp_path, WHEEL, 3_000_000)) == ["it has 63.0 MB, more than 30"]


def test_the_script_fails_if_anything_is_wrong(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    wheel(tmp_path, WHEEL)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1  # no archive yet
    archive(tmp_path, ARCHIVE)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    wheel(tmp_path, WHEEL[1:])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        1,
        f"FAULT made-1-py3-none-any.whl: {WHEEL[0]} is missing",
    )


# --- the description that an index shows

ADDRESS = "https://example.org/me/music"


def described(folder: Path, urls: str) -> dict[str, Any]:
    """The package's metadata as a build has it, with something added to `pyproject.toml`."""
    pytest.importorskip("hatchling", reason="the package is built with hatchling, of the extra `dev`")
    for name in ("README.md", "hatch_readme.py", "hatch_build.py"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text("utf-8") + urls, "utf-8")
    command = [sys.executable, "-m", "hatchling", "metadata"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    metadata: dict[str, Any] = json.loads(done.stdout)
    return metadata


def test_without_an_address_the_description_is_the_readme(tmp_path):
    readme = described(tmp_path, "")["readme"]
    assert readme == {"content-type": "text/markdown", "text": (REPOSITORY / "README.md").read_text("utf-8")}
    assert description_faults(readme["text"]) == []


def test_with_an_address_every_link_of_the_description_is_absolute_and_to_a_file_of_the_repository(tmp_path):
    metadata = described(tmp_path, f'\n[project.urls]\nRepository = "{ADDRESS}/"\n')
    text, version = metadata["readme"]["text"], metadata["version"]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^()\s]+)\)", text)]
    own = [link for link in links if link.startswith(ADDRESS)]
    assert all(re.match("https?://", link) for link in links)
    assert len(PICTURE.findall(text)) == len([link for link in own if "/raw/" in link]) > 4
    paths = [re.sub(rf"^{ADDRESS}/(raw|blob)/v{version}/", "", link) for link in own]
    assert len(paths) > 20
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert f"({ADDRESS}/blob/v{version}/docs/studio.md#without-installing)" in text
    assert f"({ADDRESS}/raw/v{version}/docs/studio-infill.webp)]({ADDRESS}/blob/v{version}/docs/studio.md)" in text
    assert description_faults(f"Project-URL: Repository, {ADDRESS}/\n\n{text}") == []


def test_a_picture_that_an_index_cannot_show_is_named(tmp_path):
    files = [name for name in WHEEL if not name.endswith("METADATA")]
    path = wheel(tmp_path, files)
    metadata = f"Project-URL: Repository, {ADDRESS}\n\n![a](docs/loss.png) ![b]({ADDRESS}/raw/v1/docs/none.png)\n"
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("music_generator_rnn-1.dist-info/METADATA", metadata)
    assert wheel_faults(path) == [
        "docs/loss.png of the description is not absolute",
        f"{ADDRESS}/raw/v1/docs/none.png of the description is no file of the repository",
    ]
