"""Which module may import which, held: imports run down only, heavy libraries come late, one module prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import music_generator

ROOT = Path(music_generator.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}
PACKAGES = {path.parent.name: path for path in sorted(ROOT.glob("*/__init__.py"))}

# folder or module: what of this package it may import, at load or later; a folder stands for all its modules
TABLE: dict[str, set[str]] = {
    "errors": set(),
    "checks": {"errors"},
    "files": {"errors"},
    "parallel": {"errors"},
    "music": {"errors", "files"},
    "sound": {"errors", "files", "music"},
    "recording": {"errors", "files", "music", "sound"},
    "data": {"checks", "errors", "files", "music", "parallel"},
    "model": {"checks", "errors", "files", "music", "parallel"},
    "engine": {"checks", "errors", "model", "music"},
    "generation": {"checks", "engine", "errors", "files", "model", "music", "parallel"},
    "training": {"checks", "data", "errors", "files", "model", "music", "parallel"},
    "plots": {"errors", "files", "model", "music", "training"},
    "export": {"checks", "errors", "files", "generation", "music", "plots", "sound"},
    "evaluation": {"checks", "data", "engine", "errors", "files", "generation", "model", "music", "plots", "training"},
    "describe": {"data", "engine", "errors", "model", "music", "recording", "sound", "training"},
    "studio": {"checks", "engine", "errors", "files", "generation", "model", "music", "plots", "recording",
               "sound"},
    "cli": {"data", "describe", "engine", "errors", "evaluation", "export", "files", "generation", "model", "music",
            "parallel", "plots", "recording", "sound", "studio", "training"},
    "__main__": {"cli"},
}  # fmt: skip
NEEDS_TORCH = {"model.network", "model.memory", "model.export", "training.batches", "training.checkpoint",
               "training.muon", "training.likelihood", "training.trainer", "training.release",
               "recording.transkun"}  # fmt: skip
HEAVY = ("torch", "accelerate", "matplotlib", "soundfile", "soxr", "transkun", "fluidsynth", "starlette", "uvicorn")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imported(node: ast.AST) -> set[str]:
    """The modules that are imported anywhere below `node`, with their whole names."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            found |= {alias.name for alias in each.names}
        elif isinstance(each, ast.ImportFrom):
            assert each.level == 0, "imports are absolute"
            found |= {resolved(each.module or "", alias.name) for alias in each.names}
    return found


def resolved(module: str, name: str) -> str:
    """`from module import name` imports a module or something out of one."""
    inner = f"{module}.{name}".removeprefix("music_generator.")
    return f"{module}.{name}" if inner in MODULES or inner in PACKAGES else module


def own(names: set[str]) -> set[str]:
    return {name.removeprefix("music_generator.") for name in names if name.startswith("music_generator.")}


def place(module: str) -> str:
    """The row of the table that a module stands in."""
    return module.split(".")[0]


def test_every_module_is_in_the_table():
    assert {place(module) for module in MODULES} == set(TABLE)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_keep_to_the_table(module):
    allowed = TABLE[place(module)] | {place(module)}
    wrong = {name for name in own(imported(tree(MODULES[module]))) if place(name) not in allowed}
    assert not wrong, f"{module} imports {sorted(wrong)}"


def test_the_table_runs_down_only():
    above: set[str] = set()
    for row, allowed in TABLE.items():
        assert allowed <= above, f"{row} may import {sorted(allowed - above)}, which comes after it"
        above.add(row)


def test_no_modules_import_each_other_in_a_circle():
    ahead = {name: own(imported(tree(path))) & set(MODULES) - {name} for name, path in MODULES.items()}
    while ahead:
        free = {name for name, needed in ahead.items() if not needed & set(ahead)}
        assert free, f"a circle among {sorted(ahead)}"
        ahead = {name: needed for name, needed in ahead.items() if name not in free}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_show_only_their_own(package):
    assert all(name.startswith(f"{package}.") for name in own(imported(tree(PACKAGES[package]))))


def test_torch_is_imported_by_the_model_and_training_only():
    using = {
        name for name, path in MODULES.items() if imported(tree(path)) & {"torch", "torch.nn", "safetensors.torch"}
    }
    assert using == NEEDS_TORCH


def test_generation_imports_neither_training_nor_torch_modules():
    for module in ("engine.engine", "generation.tasks", *(name for name in MODULES if name.startswith("studio."))):
        names = own(imported(tree(MODULES[module])))
        assert not {name for name in names if name in NEEDS_TORCH or name.split(".")[0] == "training"}


@pytest.mark.parametrize(
    "module",
    [
        "music.midi",
        "sound",
        "plots",
        "export",
        "generation",
        "generation.batch",
        "recording",
        "data.prepare",
        "describe",
        "evaluation",
        "studio",
        *(name for name in MODULES if place(name) == "cli"),
    ],
)
def test_loading_brings_in_no_heavy_library(module):
    code = f"import sys, music_generator.{module}; print(*({{*{HEAVY!r}}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def test_the_package_and_its_list_of_commands_load_next_to_nothing():
    """`--help` and `--version` need the table of the commands alone."""
    code = "import sys, music_generator.cli.main; print(*{'numpy', 'rich'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
    code = "import sys, music_generator; print(*(name for name in sys.modules if name.startswith('music_generator.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def calls(node: ast.AST) -> set[str]:
    return {ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if place(name) != "cli"))
def test_only_the_command_line_prints_and_exits(module):
    used = calls(tree(MODULES[module])) & {"print", "sys.exit", "exit", "quit", "os._exit", "sys.stdout.write",
                                           "sys.stderr.write"}  # fmt: skip
    assert not used


def test_no_module_for_everything():
    assert not {name for name in MODULES if name.split(".")[-1] in ("utils", "util", "helpers", "common", "misc")}


REPOSITORY = ROOT.parent.parent
TEXTS = [
    path
    for where, patterns in ((ROOT, ("*.py",)), (REPOSITORY, ("*.md", "*.toml", "Makefile")),
                            (REPOSITORY / "docs", ("*.py", "*.md")), (REPOSITORY / "benchmarks", ("*.py",)),
                            (REPOSITORY / "tests", ("*.py",)))
    for pattern in patterns
    for path in sorted(where.rglob(pattern) if where in (ROOT, REPOSITORY / "tests") else where.glob(pattern))
]  # fmt: skip


def test_no_machine_paths():
    machine = re.compile(
        "|".join(f"/{place}/" for place in ("work", "tmp", "home/[a-z]", "root", "Users/[a-z]", "mnt"))
    )
    named = [f"{path.name}: {line.strip()}" for path in TEXTS for line in path.read_text("utf-8").splitlines()
             if machine.search(line)]  # fmt: skip
    assert not named
