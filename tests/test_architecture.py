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

# module: what of this package it may import, at load or later; a package stands for all its modules
TABLE: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "shards": {"errors"},
    "processes": set(),
    "performance": {"errors"},
    "features": {"performance"},
    "midi": {"errors", "files", "performance"},
    "tokens": {"performance"},
    "download": {"errors", "files"},
    "maestro": {"download", "errors"},
    "pairs": {"errors", "maestro"},
    "corpus": {"errors", "maestro", "midi", "processes", "shards", "tokens"},
    "model.config": {"errors", "tokens"},
    "model.graphs": {"errors"},
    "model.kernel": {"errors", "model.config", "model.graphs", "tokens"},
    "model.bundle": {"errors", "features", "files", "model.config", "model.graphs"},
    "model.network": {"errors", "model.config", "shards", "tokens"},
    "model.step": {"model.config", "model.network", "tokens"},
    "model.export": {"errors", "features", "files", "model.bundle", "model.config", "model.network", "model.step",
                     "tokens"},
    "training.windows": {"corpus", "errors", "model", "shards", "tokens"},
    "training.likelihood": {"corpus", "errors", "model", "tokens", "training.windows"},
    "training.muon": set(),
    "training.loop": {"corpus", "errors", "files", "model", "shards", "tokens", "training.likelihood",
                      "training.muon", "training.windows"},
    "training.result": {"corpus", "errors", "features", "files", "model", "tokens", "training"},
    "generation.engine": {"errors", "model.bundle", "model.config", "model.kernel", "tokens"},
    "generation.span": {"errors", "performance", "tokens"},
    "generation.writer": {"errors", "generation.engine", "generation.span", "performance", "tokens"},
    "generation.tasks": {"errors", "generation.engine", "generation.span", "generation.writer", "performance",
                         "tokens"},
    "audio": {"errors", "files", "performance"},
    "plots": {"errors", "features", "files", "performance"},
    "evaluation.overlap": set(),
    "evaluation.originality": {"corpus", "tokens"},
    "evaluation.scoring": {"generation.engine", "model.config", "tokens"},
    "evaluation.likelihoods": {"corpus", "evaluation.scoring", "generation", "model", "tokens", "training"},
    "evaluation.samples": {"corpus", "errors", "generation", "midi", "performance", "tokens"},
    "evaluation.infilling": {"evaluation.overlap", "evaluation.samples", "evaluation.scoring", "features", "generation",
                             "model.config", "performance", "tokens"},
    "evaluation.markdown": {"model.config"},
    "evaluation.report": {"corpus", "errors", "evaluation", "features", "files", "generation", "model.bundle", "plots",
                          "tokens"},
    "describe": {"corpus", "errors", "maestro", "midi", "model.bundle", "model.kernel", "pairs", "performance",
                 "plots"},
    "studio.options": {"errors"},
    "studio.wire": {"errors", "midi", "performance"},
    "studio.jobs": {"errors"},
    "studio.writing": {"errors", "generation", "performance", "studio.options", "studio.wire", "tokens"},
    "studio.sounding": {"audio", "errors", "performance", "plots"},
    "studio.api": {"audio", "errors", "generation", "midi", "model.bundle", "performance", "studio.jobs",
                   "studio.options", "studio.sounding", "studio.wire", "studio.writing"},
    "studio.server": {"errors", "model.bundle", "studio.api", "studio.options"},
    "cli": {"audio", "corpus", "describe", "errors", "evaluation", "features", "files", "generation", "maestro", "midi",
            "model", "pairs", "performance", "plots", "processes", "shards", "studio", "training"},
}  # fmt: skip
NEEDS_TORCH = {"model.network", "model.step", "model.export", "training.muon", "training.windows",
               "training.likelihood", "training.loop", "training.result"}  # fmt: skip
HEAVY = ("torch", "accelerate", "onnx", "onnxruntime", "matplotlib", "soundfile", "fluidsynth", "starlette", "uvicorn")


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


def is_allowed(name: str, allowed: set[str]) -> bool:
    return name in allowed or name.split(".")[0] in allowed


def test_every_module_is_in_the_table():
    assert set(MODULES) == set(TABLE)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_keep_to_the_table(module):
    wrong = {name for name in own(imported(tree(MODULES[module]))) if not is_allowed(name, TABLE[module])}
    assert not wrong, f"{module} imports {sorted(wrong)}"


def test_the_table_runs_down_only():
    order = list(TABLE)
    for i, (module, allowed) in enumerate(TABLE.items()):
        below = set(order[:i])
        for name in allowed:
            mine = {other for other in order if other == name or other.startswith(f"{name}.")} - {module}
            assert mine <= below, f"{module} may import {sorted(mine - below)}, which comes after it"


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_show_only_their_own(package):
    assert all(name.startswith(f"{package}.") for name in own(imported(tree(PACKAGES[package]))))


def test_torch_is_imported_by_the_model_and_training_only():
    using = {
        name for name, path in MODULES.items() if imported(tree(path)) & {"torch", "torch.nn", "safetensors.torch"}
    }
    assert using == NEEDS_TORCH


def test_generation_imports_neither_training_nor_torch_modules():
    for module in ("generation.engine", "generation.tasks", *(name for name in MODULES if name.startswith("studio."))):
        names = own(imported(tree(MODULES[module])))
        assert not {name for name in names if name in NEEDS_TORCH or name.split(".")[0] == "training"}


@pytest.mark.parametrize(
    "module", ["midi", "audio", "plots", "generation", "corpus", "describe", "evaluation", "studio", "cli"]
)
def test_loading_brings_in_no_heavy_library(module):
    code = f"import sys, music_generator.{module}; print(*({{*{HEAVY!r}}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def calls(node: ast.AST) -> set[str]:
    return {ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"cli"}))
def test_only_the_command_line_prints_and_exits(module):
    used = calls(tree(MODULES[module])) & {"print", "sys.exit", "exit", "quit", "os._exit", "sys.stdout.write",
                                           "sys.stderr.write"}  # fmt: skip
    assert not used


def test_no_module_for_everything():
    assert not {name for name in MODULES if name.split(".")[-1] in ("utils", "util", "helpers", "common", "misc")}


REPOSITORY = ROOT.parent.parent
TEXTS = [
    path
    for place, patterns in ((ROOT, ("*.py",)), (REPOSITORY, ("*.md", "*.toml", "Makefile")),
                            (REPOSITORY / "docs", ("*.py", "*.md")), (REPOSITORY / "benchmarks", ("*.py",)),
                            (REPOSITORY / "tests", ("*.py",)), (REPOSITORY / "torture", ("*.py",)))
    for pattern in patterns
    for path in sorted(place.rglob(pattern) if place == ROOT else place.glob(pattern))
]  # fmt: skip


def test_no_machine_paths():
    machine = re.compile(
        "|".join(f"/{place}/" for place in ("work", "tmp", "home/[a-z]", "root", "Users/[a-z]", "mnt"))
    )
    named = [f"{path.name}: {line.strip()}" for path in TEXTS for line in path.read_text("utf-8").splitlines()
             if machine.search(line)]  # fmt: skip
    assert not named
