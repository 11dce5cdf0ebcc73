"""The bench's rows as Markdown and JSON, the machine in words, and the picture of cost against length."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_HEAD = "| what | median | smallest – largest | ours is | peak memory | wanted |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """One line: a value for each repeat, or why there is none.

    `ratio` is by how much ours is faster than this. What is wanted (`at_least`, `at_most`) is asked of the ratio where
    there is one, else of the median.
    """

    what: str
    unit: str = ""
    values: Sequence[float] = ()
    ratio: float | None = None
    peak_mb: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    skipped: str = ""

    @property
    def median(self) -> float | None:
        """Of the repeats."""
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; None if nothing is, or nothing was measured."""
        found = self.median if self.ratio is None else self.ratio
        if found is None or (self.at_least is None and self.at_most is None):
            return None
        return (self.at_least is None or found >= self.at_least) and (self.at_most is None or found <= self.at_most)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self) | {"values": list(self.values), "median": self.median, "met": self.met}

    def to_markdown(self) -> str:
        """One line of the table."""
        what = f"{self.what} ({self.note})" if self.note else self.what
        if self.median is None:
            return f"| {what} | skipped: {self.skipped} | | | | |"
        unit = f" {self.unit}"
        span = f"{number(min(self.values))} – {number(max(self.values))}" if len(self.values) > 1 else ""
        ratio = f"{number(self.ratio)} × as fast" if self.ratio is not None else ""
        peak = f"{self.peak_mb:.0f} MB" if self.peak_mb is not None else ""
        return f"| {what} | {number(self.median)}{unit} | {span} | {ratio} | {peak} | {self._wanted()} |"

    def _wanted(self) -> str:
        unit = " ×" if self.ratio is not None else f" {self.unit}"
        limits = (("≥", self.at_least), ("≤", self.at_most))
        wanted = " and ".join(f"{sign} {number(value)}{unit}" for sign, value in limits if value is not None)
        return wanted + {True: ": met", False: ": **missed**", None: ""}[self.met]


@dataclass
class Results:
    """All that a run found."""

    machine: dict[str, Any]
    options: dict[str, Any]
    begun: str
    versions: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, list[Row]] = field(default_factory=dict)
    cost: dict[str, Any] | None = None  # along one stream: `block` tokens, `microseconds` a list for each repeat
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        sections = {name: [row.to_json() for row in rows] for name, rows in self.sections.items()}
        return asdict(self) | {"sections": sections}

    def to_markdown(self, picture: str | None = None) -> str:
        """The report; `picture` is the file of cost against length beside it."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        model = ", ".join(f"{name} {_plain(value)}" for name, value in self.model.items())
        parts = [
            "# Bench",
            f"{self.begun}, {self.seconds / 60:.0f} minutes. {describe(self.machine)}.",
            f"Model: {model}.",
            f"Versions: {versions}.",
            f"`make bench`, {', '.join(f'{name} {_plain(value)}' for name, value in self.options.items())}. Peak "
            "memory is that of a whole process, the interpreter and all libraries included; 1 MB is 10⁶ bytes.",
        ]
        for section, rows in self.sections.items():
            parts += [f"## {section}", "\n".join([_HEAD, *(row.to_markdown() for row in rows)])]
        if picture:
            parts.append(f"![Cost of a token against its place in the piece]({picture})")
        return "\n\n".join(parts) + "\n"


def number(value: float) -> str:
    """With three digits or so."""
    if value and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine() -> dict[str, Any]:
    """The processor, its caches, memory and system; no names of hosts or users."""
    found: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    lines = _read("/proc/cpuinfo").splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    found["processor"] = facts.get("model name", found["processor"])
    if "flags" in facts:
        flags = set(facts["flags"].split())
        found["extensions"] = [flag for flag in _CPU_FLAGS if flag in flags]
    found["caches"] = {
        f"L{_read(f'{cache}/level')}": _read(f"{cache}/size")
        for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
        if _read(f"{cache}/type") != "Instruction"
    }
    memory = _read("/proc/meminfo").split()
    found["memory_gb"] = round(int(memory[1]) * 1024 / 1e9, 1) if memory else None
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["python"] = platform.python_version()
    found["load"] = round(os.getloadavg()[0], 2)
    return found


def describe(machine: dict[str, Any]) -> str:
    """A machine in one line."""
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    extensions = " ".join(machine.get("extensions", []))
    memory = f", {machine['memory_gb']} GB of memory" if machine["memory_gb"] else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores{f' ({extensions})' if extensions else ''}"
        f"{f', {caches}' if caches else ''}{memory}, {machine['system']}, "
        f"Python {machine['python']}; load before the run {machine['load']}"
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError:
        return ""


def draw_cost(cost: dict[str, Any], path: Path) -> None:
    """What a token costs against its place in the piece: the median of the repeats, and all of them behind it."""
    from matplotlib.figure import Figure

    from music_generator.plots import save

    places = [(i + 1) * cost["block"] for i in range(len(cost["microseconds"][0]))]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    per_block = list(zip(*cost["microseconds"], strict=True))
    axes.fill_between(places, [min(b) for b in per_block], [max(b) for b in per_block], color="#bcd7ee", linewidth=0)
    axes.plot(places, [statistics.median(b) for b in per_block], color="#1f6fb4")
    highest = max(max(block) for block in per_block)
    axes.set(xscale="log", ylim=(0, 1.2 * highest), xlabel="tokens written", ylabel="microseconds a token")
    axes.set_title("Cost of a token along one piece: median and range of the repeats", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
