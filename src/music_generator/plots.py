"""Pictures: piano rolls, distributions, the loss curves of a training run, and the charts of an evaluation.

Matplotlib takes half a second to import, so only the functions import it. They return `Figure` objects that belong to
the caller and change nothing global: pyplot is not used.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import InputError
from music_generator.files import replacing
from music_generator.model.config import FIELDS
from music_generator.music.features import EDGES, Distributions
from music_generator.music.performance import PEDAL_NAMES, SUSTAIN, Performance
from music_generator.training.history import VALIDATION_GAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["distributions", "loss_curves", "piano_roll", "save", "surprise_roll"]

Array = NDArray[Any]
Span = tuple[float, float]  # start and end in seconds

# (softest, loudest); blue and orange remain distinct with every common colour blindness
_SHADES = {"given": ("#bcd7ee", "#08306b"), "generated": ("#fdc692", "#8f2f00")}
_BLUE, _ORANGE, _GREEN, _PURPLE, _INK, _PALE = "#1f6fb4", "#e0700e", "#16866a", "#8a5aa8", "#333333", "#e4e4e4"
_SUFFIXES = (".png", ".svg", ".pdf")


def _tidy(axes: Axes, grid: str = "both") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(color="#999999", labelcolor=_INK, labelsize=9)
    axes.grid(True, axis=grid, color=_PALE, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


# --- piano roll --------------------------------------------------------------------------------------------------


def piano_roll(performance: Performance, *, generated: Span | None = None, title: str = "") -> Figure:
    """Draw notes over seconds and pitch, louder ones darker, with the pedals below.

    Args:
        performance: The performance.
        generated: (start, end) in seconds: the events with onsets in [start, end) have another colour than the given
            ones, and the span is shaded. None if all events are given.
        title: The title.

    Raises:
        InputError: `generated` ends before it starts.
    """
    from matplotlib.figure import Figure

    if generated is not None and generated[1] < generated[0]:
        raise InputError(f"`generated` must end after its start ({generated[0]}), not at {generated[1]}")
    lanes = [p for p in range(len(PEDAL_NAMES)) if p == SUSTAIN or (performance.pedals["pedal"] == p).any()]
    end = max(performance.end, 1.0)
    width = float(np.clip(3 + 0.22 * end, 10, 40))
    figure = Figure((width, 5.2 + 0.22 * len(lanes)), layout="constrained")
    ratios = [4.6, 0.24 * len(lanes)]
    roll, pedals = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": ratios, "hspace": 0.01})
    for axes in (roll, pedals):
        _shade(axes, generated, end)
    _draw_notes(roll, performance.notes, generated)
    _draw_pedals(pedals, performance.pedals, lanes, generated)
    pedals.set_xlim(0, end)
    pedals.set_xlabel("seconds")
    _head(roll, title, generated)
    return figure


def surprise_roll(performance: Performance, nats: Array, *, title: str = "") -> Figure:
    """Draw notes over seconds and pitch, coloured by how much each surprises a model.

    Args:
        performance: The performance; pedals are not drawn.
        nats: The negative log-likelihood of each note, (notes,).
        title: The title.

    Raises:
        InputError: There is not one number for each note.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    notes = performance.notes
    if len(nats) != len(notes):
        raise InputError(f"`nats` must have one number for each of {len(notes)} notes, not {len(nats)}")
    end = max(performance.end, 1.0)
    figure = Figure((float(np.clip(3 + 0.22 * end, 10, 40)), 5.2), layout="constrained")
    axes = figure.subplots()
    low, high = np.percentile(nats, [5, 95]) if len(nats) else (0.0, 1.0)
    boxes = PolyCollection(
        list(_boxes(notes, notes["pitch"], 0.85)), array=nats, cmap="viridis_r", norm=Normalize(low, max(high, low + 1))
    )
    boxes.set(linewidth=0.7, edgecolor="face", zorder=2)
    axes.add_collection(boxes)
    _pitch_axis(axes, notes)
    axes.set_xlim(0, end)
    axes.set_xlabel("seconds")
    axes.set_title(title, loc="left", fontsize=12, color=_INK, parse_math=False)
    bar = figure.colorbar(boxes, ax=axes, pad=0.01, aspect=30, extend="both")
    bar.set_label("nats (darker: less expected)", fontsize=9, color=_INK)
    return figure


def _roles(events: Array, generated: Span | None) -> Iterable[tuple[str, Array]]:
    """Yield the given and the generated events, each if there are any."""
    start, end = generated or (np.inf, np.inf)
    inside = (events["onset"] >= start) & (events["onset"] < end)
    parts = (("given", events[~inside]), ("generated", events[inside]))
    return ((role, part) for role, part in parts if len(part))


def _shade(axes: Axes, generated: Span | None, end: float) -> None:
    if generated is not None:
        axes.axvspan(generated[0], min(generated[1], end), color=_ORANGE, alpha=0.07, linewidth=0, zorder=0)


def _boxes(events: Array, heights: Array, thickness: float) -> Array:
    """Return the corners of one rectangle for each event, float64 of shape (events, 4, 2)."""
    left, right = events["onset"], events["onset"] + events["duration"]
    bottom, top = heights - thickness / 2, heights + thickness / 2
    return np.stack([left, bottom, left, top, right, top, right, bottom], axis=1).reshape(-1, 4, 2)


def _draw_notes(axes: Axes, notes: Array, generated: Span | None) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    for role, part in _roles(notes, generated):
        shades = LinearSegmentedColormap.from_list(role, _SHADES[role])
        boxes = PolyCollection(
            list(_boxes(part, part["pitch"], 0.85)), array=part["velocity"], cmap=shades, norm=Normalize(10, 110)
        )
        boxes.set(linewidth=0.7, edgecolor="face", zorder=2)  # the edge keeps the shortest notes visible
        axes.add_collection(boxes)
    _pitch_axis(axes, notes)
    axes.tick_params(labelbottom=False)


def _pitch_axis(axes: Axes, notes: Array) -> None:
    low, high = (int(notes["pitch"].min()), int(notes["pitch"].max())) if len(notes) else (48, 72)
    axes.set_ylim(min(low - 1.5, 47), max(high + 1.5, 73))
    octaves = [pitch for pitch in range(24, 109, 12) if axes.get_ylim()[0] <= pitch <= axes.get_ylim()[1]]
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    axes.set_ylabel("pitch")
    _tidy(axes)


def _draw_pedals(axes: Axes, presses: Array, lanes: list[int], generated: Span | None) -> None:
    from matplotlib.collections import PolyCollection

    for role, part in _roles(presses, generated):
        heights = np.array([lanes.index(pedal) for pedal in part["pedal"]], np.float64)
        axes.add_collection(PolyCollection(list(_boxes(part, heights, 0.55)), color=_SHADES[role][1], linewidth=0))
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_yticks(range(len(lanes)), [PEDAL_NAMES[pedal] for pedal in lanes])
    _tidy(axes, grid="x")
    axes.tick_params(axis="y", length=0)


def _head(axes: Axes, title: str, generated: Span | None) -> None:
    """Set the title at the left and the legend of the colours at the right, both above the roll."""
    from matplotlib.patches import Patch

    axes.set_title(title, loc="left", fontsize=12, color=_INK, parse_math=False)
    names = {"given": "given", "generated": "generated"} if generated is not None else {"given": "notes"}
    keys = [Patch(color=_SHADES[role][shade], label=label) for role, name in names.items()
            for shade, label in ((0, f"{name}, soft"), (1, f"{name}, loud"))]  # fmt: skip
    axes.legend(
        handles=keys, ncols=len(keys), loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=9,
        handlelength=1.2, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


# --- distributions -----------------------------------------------------------------------------------------------

_AXIS_LABELS = {
    "pitch": "pitch",
    "step": "seconds since the previous note (last bar: 1 s and more)",
    "duration": "seconds the key is held (last bar: 2 s and more)",
    "velocity": "velocity (1 to 127)",
}


def distributions(generated: Distributions, reference: Distributions | None) -> Figure:
    """Draw pitch, step, duration and velocity as shares of all notes: `generated` as bars, `reference` as an outline.

    The title of each panel gives the overlap: the sum over bins of the smaller share, 1 if both agree everywhere.
    """
    from matplotlib.figure import Figure

    figure = Figure((11, 6.6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2).flat, EDGES, strict=True):
        _draw_shares(axes, name, generated, reference)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=2, frameon=False, fontsize=10)
    return figure


def _draw_shares(axes: Axes, name: str, generated: Distributions, reference: Distributions | None) -> None:
    edges, shares, title = EDGES[name], generated.shares(name), name
    label = f"generated ({generated.counts['pitch'].sum():,} notes)"
    axes.bar(edges[:-1], 100 * shares, np.diff(edges), align="edge", color=_ORANGE, alpha=0.75, label=label)
    if reference is not None:
        label = f"reference ({reference.counts['pitch'].sum():,} notes)"
        axes.stairs(100 * reference.shares(name), edges, color=_SHADES["given"][1], linewidth=1.5, label=label)
        title = f"{name}: overlap {np.minimum(shares, reference.shares(name)).sum():.2f}"
    if name == "pitch":
        axes.set_xticks(range(24, 109, 12), [f"C{octave}" for octave in range(1, 9)])
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(_AXIS_LABELS[name], fontsize=9, color=_INK)
    axes.set_ylabel("% of notes", fontsize=9, color=_INK)
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    _tidy(axes, grid="y")


# --- training ----------------------------------------------------------------------------------------------------

_LINES = {  # column: label, colour, line width, marker
    "train_{}": ("train", _ORANGE, 1.0, ""),
    "validation_{}": ("validation", _BLUE, 1.8, "."),
    f"validation_infill_{VALIDATION_GAP}": (f"gap of {VALIDATION_GAP}, both sides known", _GREEN, 1.0, "."),
    f"validation_blind_{VALIDATION_GAP}": (f"gap of {VALIDATION_GAP}, only the past known", _PURPLE, 1.0, "."),
}


def loss_curves(history: dict[str, Array], title: str = "") -> Figure:
    """Draw losses in nats per token over millions of tokens: the total at the left, the four fields at the right.

    Args:
        history: The columns that `training.history.read_history` returns; missing or empty ones are left out.
        title: The title.
    """
    from matplotlib.figure import Figure

    figure = Figure((13, 6.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=_INK, parse_math=False)
    grid = figure.add_gridspec(2, 4)
    total = figure.add_subplot(grid[:, :2])
    _draw_losses(total, history, list(_LINES), "total")
    if total.lines:
        total.legend(frameon=False, fontsize=9)
    for i, field in enumerate(FIELDS):
        panel = figure.add_subplot(grid[i // 2, 2 + i % 2])
        _draw_losses(panel, history, ["train_{}", "validation_{}"], field)
    return figure


_RUNS = (_BLUE, _ORANGE, _GREEN, _PURPLE, "#b8312f", "#8c6d31", "#2a9ab5", "#777777")  # colours of runs
_STYLES = ("-", "--", ":")  # once all colours are used


def compared_curves(histories: dict[str, dict[str, Array]]) -> Figure:
    """Draw the validation losses of several runs over millions of tokens; those of training are pale, in the total.

    Args:
        histories: For each run's name the columns that `training.history.read_history` returns.
    """
    from matplotlib.figure import Figure

    figure = Figure((13, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    panels = [grid[:, :2], *(grid[i // 2, 2 + i % 2] for i in range(len(FIELDS)))]
    for panel, name in zip(panels, ("total", *FIELDS), strict=True):
        axes = figure.add_subplot(panel)
        for i, (run, history) in enumerate(histories.items()):
            colour, style = _RUNS[i % len(_RUNS)], _STYLES[i // len(_RUNS) % len(_STYLES)]
            if name == "total":
                _draw_column(axes, history, "train_total", color=colour, linewidth=0.8, alpha=0.35)
            _draw_column(
                axes, history, f"validation_{name}", label=run, color=colour, linestyle=style, marker=".", linewidth=1.6
            )
        axes.set_title(name, loc="left", fontsize=11, color=_INK)
        axes.set_xlabel("million tokens", fontsize=9, color=_INK)
        axes.set_ylabel("nats per token, validation", fontsize=9, color=_INK)
        if name == "total" and axes.lines:
            for text in axes.legend(frameon=False, fontsize=9).get_texts():
                text.set_parse_math(False)
        _tidy(axes)
    return figure


def _draw_column(axes: Axes, history: dict[str, Array], column: str, **style: Any) -> None:
    """Draw what is known of a column over millions of tokens."""
    values = history.get(column, np.empty(0))
    known = np.isfinite(values)
    if known.any():
        axes.plot(history["tokens"][known] / 1e6, values[known], **style)


def _draw_losses(axes: Axes, history: dict[str, Array], columns: list[str], name: str) -> None:
    seen = []
    for column in columns:
        label, colour, width, marker = _LINES[column]
        values = history.get(column.format(name), np.empty(0))
        at = history["tokens"] / 1e6 if "tokens" in history else np.arange(len(values))
        known = np.isfinite(values) & np.isfinite(at[: len(values)])
        if known.any():
            axes.plot(at[known], values[known], color=colour, linewidth=width, marker=marker, markersize=5, label=label)
            seen.append(values[known])
    best = history.get(f"validation_{name}", np.empty(0))
    suffix = f" (best validation {np.nanmin(best):.3f})" if np.isfinite(best).any() else ""
    axes.set_title(name + suffix, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel("million tokens" if "tokens" in history else "rows", fontsize=9, color=_INK)
    axes.set_ylabel("nats per token", fontsize=9, color=_INK)
    if seen and len(np.concatenate(seen)) > 40:  # the losses of the first steps would flatten the rest
        low, high = np.percentile(np.concatenate(seen), [0, 97])
        axes.set_ylim(low - 0.06 * (high - low) - 1e-3, high + 0.15 * (high - low) + 1e-3)
    _tidy(axes)


# --- evaluation --------------------------------------------------------------------------------------------------

_CURVES = {"reference": (_INK, "--"), "human": (_BLUE, "-"), "generated": (_ORANGE, "-")}


def overlaps(panels: dict[str, dict[str, tuple[Array, Array]]], title: str = "") -> Figure:
    """Draw the densities of distances between performances, one panel for each feature.

    Args:
        panels: For each feature the curves "reference", "human" and "generated", each as (grid, density) of one shape.
        title: The title.
    """
    from matplotlib.figure import Figure

    columns = 4
    rows = max(1, -(-len(panels) // columns))
    figure = Figure((13, 0.6 + 2.6 * rows), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=_INK, parse_math=False)
    grid = figure.add_gridspec(rows, columns)
    for i, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[i // columns, i % columns])
        for label, (at, density) in curves.items():
            colour, line = _CURVES[label]
            axes.plot(at, density, color=colour, linestyle=line, linewidth=1.4, label=label)
        axes.set_title(name, loc="left", fontsize=10, color=_INK)
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
        _tidy(axes, grid="x")
    if panels:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def copying(shares: dict[str, Array], title: str = "") -> Figure:
    """Draw the share of all runs of n notes that occur in the training set.

    Args:
        shares: The curves "human" and "generated", each of shape (n,), for n = 1, 2, …
        title: The title.
    """
    from matplotlib.figure import Figure

    figure = Figure((8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for label, values in shares.items():
        at = np.arange(1, len(values) + 1)
        some = np.isfinite(values) & (values > 0)
        axes.plot(at[some], 100 * values[some], color=_CURVES[label][0], linewidth=1.6, marker=".", label=label)
    axes.set_yscale("log")
    axes.set_xlabel("notes in a row", fontsize=9, color=_INK)
    axes.set_ylabel("% found in the training set, in any key", fontsize=9, color=_INK)
    axes.set_title(title, loc="left", fontsize=11, color=_INK, parse_math=False)
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes)
    return figure


_WAYS = {"infill": _ORANGE, "blind": _PURPLE, "empty": "#999999"}


def gaps(nats: dict[str, dict[str, tuple[float, float]]], title: str = "") -> Figure:
    """Draw how much less likely the tokens after a gap become with each kind of filling than with the true one.

    Args:
        nats: For each gap length in seconds and each kind of filling ("infill", "blind", "empty"): the nats per token
            above those of the true filling, and their standard error.
        title: The title.
    """
    from matplotlib.figure import Figure

    figure = Figure((8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    named = [way for way in _WAYS if any(way in ways for ways in nats.values())]
    for i, way in enumerate(named):
        known = [(x, *ways[way]) for x, ways in enumerate(nats.values()) if way in ways]
        at, height, error = (np.array(values) for values in zip(*known, strict=True))
        places = at + (i - (len(named) - 1) / 2) * 0.8 / len(named)
        axes.bar(places, height, 0.75 / len(named), yerr=error, color=_WAYS[way], ecolor=_INK, capsize=2, label=way)
    axes.set_xticks(range(len(nats)), [f"{seconds} s" for seconds in nats])
    axes.axhline(0, color=_INK, linewidth=0.8)
    axes.set_ylabel("nats per token above the true filling's", fontsize=9, color=_INK)
    axes.set_title(title, loc="left", fontsize=11, color=_INK, parse_math=False)
    axes.legend(frameon=False, fontsize=9, ncols=len(_WAYS), loc="upper left")
    axes.margins(y=0.18)
    _tidy(axes, grid="y")
    return figure


# --- files -------------------------------------------------------------------------------------------------------


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as .png (150 dots per inch), .svg or .pdf, by the suffix of `path`.

    Raises:
        InputError: The suffix is another one, or the file cannot be written; no part of it remains.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"cannot write {path}: the suffix must be one of {', '.join(_SUFFIXES)}")
    FigureCanvasAgg(figure)
    with replacing(path) as beside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a title: the picture shows a box
        figure.savefig(beside, dpi=150, format=suffix[1:])
