"""What `--help` says: its defaults are those of the options' dataclasses, its examples are taken by the commands."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from music_generator.cli.main import COMMANDS, app
from music_generator.data.windows import WindowOptions
from music_generator.export import Export
from music_generator.generation import SamplingOptions, tasks
from music_generator.generation.batch import BatchOptions
from music_generator.model.config import ModelConfig
from music_generator.studio.options import StudioOptions
from music_generator.training.options import TrainingOptions
from test_architecture import MODULES, place

# command: the dataclasses that its options fill
FILLED: dict[str, tuple[type, ...]] = {
    "generate": (SamplingOptions, BatchOptions, Export),
    "infill": (SamplingOptions, BatchOptions, Export),
    "render": (Export,),
    "train": (ModelConfig, WindowOptions, TrainingOptions),
    "evaluate": (SamplingOptions,),
    "studio": (StudioOptions,),
}
ELSEWHERE = {("evaluate", "seed")}  # an argument of `evaluate`, not a field


def command(name: str) -> Any:
    return typer.main.get_command(app).get_command(None, name)


def help_of(name: str) -> str:
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}, terminal_width=400)
    assert done.exit_code == 0
    return " ".join(done.output.split())


def shared(name: str) -> list[tuple[Any, Any]]:
    """The options of a command that are a field of a dataclass, each with the field's default."""
    defaults = {field.name: field.default for kind in FILLED[name] for field in fields(kind)}
    return [(parameter, defaults[parameter.name]) for parameter in command(name).params
            if parameter.name in defaults and (name, parameter.name) not in ELSEWHERE]  # fmt: skip


@pytest.mark.parametrize("name", FILLED)
def test_defaults_are_those_of_the_dataclasses(name):
    text = help_of(name)
    stated = 0
    for parameter, default in shared(name):
        several = isinstance(default, tuple)  # an option that is repeated
        assert parameter.default == (list(default) if several else default), parameter.name
        if default not in (None, False):
            (option,) = [each for each in parameter.opts if each.startswith("--")][:1]
            rest = text.partition(f" {option}")[2]
            said = ", ".join(map(str, default)) if several else str(default)
            assert re.search(r"\[default: ([^\]]*)\]", rest)[1] == said, parameter.name  # type: ignore[index]
            stated += 1
    assert stated


def test_lengths_are_those_of_the_tasks():
    assert f"[default: {tasks.PIECE_SECONDS:g}; with --future {tasks.JOIN_SECONDS:g}]" in help_of("generate")


def test_no_number_is_written_into_a_help_text_as_a_default():
    for name, path in MODULES.items():
        if place(name) == "cli":
            assert not re.search(r"\[default: [\d.]", path.read_text("utf-8")), name


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_taken(name, tmp_path, monkeypatch):
    """Every example parses, and its options exist; files are not opened."""
    monkeypatch.chdir(tmp_path)
    for example in COMMANDS[name].examples:
        first, *arguments = shlex.split(example)
        assert first == name
        command(name).make_context(name, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_told_by_the_docstring_and_a_line(name):
    function = command(name).callback
    assert COMMANDS[name].summary.endswith(".")
    first = (inspect.getdoc(function) or "").splitlines()[0]
    assert first
    assert first in help_of(name)


def test_as_a_module():
    command = [sys.executable, "-m", "music_generator", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
