"""The public names: the page that lists them, the modules' `__all__` and the docstrings agree; one version."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import music_generator
from test_architecture import MODULES, NEEDS_TORCH, PACKAGES, REPOSITORY

PAGE = (REPOSITORY / "docs" / "api.md").read_text("utf-8")
SECTIONS = re.split(r"^## `([\w.]+)`$", PAGE, flags=re.MULTILINE)[1:]
LISTED = {
    module: re.findall(r"`(\w+)`", text.partition("\nNames: ")[2])
    for module, text in zip(SECTIONS[::2], SECTIONS[1::2], strict=True)
}
FILES = {"music_generator": Path(music_generator.__file__)} | {
    f"music_generator.{name}": path for name, path in (PACKAGES | MODULES).items()
}


def stated(path: Path) -> list[str] | None:
    """A module's `__all__`, None if it has none; the module is not loaded, except the package itself."""
    if path == FILES["music_generator"]:
        return list(music_generator.__all__)
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def loaded(module: str) -> ModuleType:
    if module.removeprefix("music_generator.") in NEEDS_TORCH:
        pytest.importorskip("torch", reason="training needs torch, of the extra `train`")
    return importlib.import_module(module)


def test_every_section_of_the_page_was_read():
    assert len(LISTED) == PAGE.count("\n## ") == PAGE.count("\nNames: ")
    assert all(names and len(names) == len(set(names)) for names in LISTED.values())


@pytest.mark.parametrize("module", sorted(FILES))
def test_the_page_lists_what_a_module_shows(module):
    names = stated(FILES[module])
    if names is None:  # then the page alone says it, of names that are the module's own
        assert all(not name.startswith("_") for name in LISTED.get(module, []))
    else:
        assert sorted(names) == sorted(LISTED.get(module, []))


@pytest.mark.parametrize("module", sorted(LISTED))
def test_what_is_listed_is_there_and_documented(module):
    for name in LISTED[module]:
        thing = getattr(loaded(module), name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{module}.{name} has no docstring"
            assert thing.__module__.startswith("music_generator.")


def test_the_version_is_written_once():
    written = re.findall(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert written == [importlib.metadata.version("music-generator-rnn")] == [music_generator.__version__]


def test_the_names_at_the_top_are_those_of_their_modules():
    """The table that loads them, and the imports that a type checker reads, say the same."""
    checked = {
        alias.name: node.module
        for node in ast.walk(ast.parse(FILES["music_generator"].read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("music_generator.")
        for alias in node.names
        if alias.name == alias.asname
    }
    assert {*checked, "__version__"} == set(music_generator.__all__) <= set(dir(music_generator))
    for name, module in checked.items():
        assert getattr(music_generator, name) is getattr(importlib.import_module(str(module)), name)
        assert name in LISTED[str(module)]


def test_an_unknown_name_is_refused_as_python_does():
    with pytest.raises(AttributeError, match="module 'music_generator' has no attribute 'nonsense'"):
        _ = music_generator.nonsense
