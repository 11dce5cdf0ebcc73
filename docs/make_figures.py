"""Make the pictures of the documentation with the bundled model and this package: `make figures`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from music_generator import plots
from music_generator.engine.engine import Engine
from music_generator.generation import SamplingOptions, compose, infill
from music_generator.model.bundle import open_bundle
from music_generator.model.config import FIELDS
from music_generator.music.features import distributions
from music_generator.music.performance import NOTE_DTYPE, Performance
from music_generator.sound import SoundOptions, render
from music_generator.training.history import read_history

HERE = Path(__file__).parent
GIVEN, WRITTEN, DARK = "#0b2f6b", "#c4621b", "#333333"
TINT = {GIVEN: "#dfe8f5", WRITTEN: "#fdeee0", DARK: "#eeeeee"}


def box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, dashed: bool = False
) -> None:
    """Draw a rounded box around a text, with its lower left corner at (x, y)."""
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.08", facecolor=TINT[colour], edgecolor=colour,
        linestyle="--" if dashed else "-", linewidth=1.3,
    )  # fmt: skip
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=colour, fontsize=9)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """Draw an arrow from one point to another."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=colour, linewidth=1.2))


def stacks_and_gap() -> Figure:
    """Draw the two stacks: the past read forwards, the future backwards, and the token generated between them."""
    figure = Figure(figsize=(11, 4.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 11)
    axes.set_ylim(0, 4.6)
    axes.set_axis_off()
    columns = [
        (0.3 + 1.05 * i, name)
        for i, name in enumerate(["start", "x₁", "x₂", "x₃", "x₄", "?", "…", "r", "r + 1", "end"])
    ]
    for i, (x, name) in enumerate(columns):
        box(axes, x, 0.55, 0.8, 0.5, name, WRITTEN if 4 <= i <= 6 else GIVEN, dashed=5 <= i <= 6)
    for x, text, colour in (
        (1.9, "past", GIVEN),
        (5.95, "gap: generated so far, and still to generate", WRITTEN),
        (9.1, "future", GIVEN),
    ):
        axes.text(x, 0.25, text, ha="center", color=colour, fontsize=10)
    for i, layer in enumerate(("forward LSTM 1", "forward LSTM 2")):
        y = 1.45 + 0.62 * i
        for x, _ in columns[:5]:
            box(axes, x, y, 0.8, 0.4, "", GIVEN)
            arrow(axes, (x + 0.4, y - 0.36 if i == 0 else y - 0.2), (x + 0.4, y - 0.02), GIVEN)
        for (x, _), (following, _) in pairwise(columns[:5]):
            arrow(axes, (x + 0.82, y + 0.2), (following - 0.02, y + 0.2), GIVEN)
        axes.text(
            columns[0][0] + 0.4, y + 0.2, layer.replace(" LSTM", "\nLSTM"), fontsize=6.5, ha="center", va="center"
        )
    for x, _ in columns[7:]:
        box(axes, x, 1.45, 0.8, 0.4, "", GIVEN)
        arrow(axes, (x + 0.4, 1.08), (x + 0.4, 1.43), GIVEN)
    for (x, _), (following, _) in pairwise(columns[7:]):
        arrow(axes, (following - 0.02, 1.65), (x + 0.82, 1.65), GIVEN)
    axes.text(columns[9][0] + 0.4, 1.65, "backward\nLSTM", fontsize=6.5, ha="center", va="center")
    box(axes, 4.3, 3.1, 2.75, 0.55, "context", DARK)
    arrow(axes, (columns[4][0] + 0.4, 2.49), (5.1, 3.08), GIVEN)
    arrow(axes, (columns[7][0] + 0.4, 1.87), (6.75, 3.08), GIVEN)
    axes.text(8.15, 2.62, "the future from r on\n(empty without a future)", fontsize=8, color=DARK, va="center")
    axes.text(
        4.15,
        3.4,
        "key recency: last onset and release of each key\ntime left until r",
        fontsize=8,
        color=DARK,
        ha="right",
        va="center",
    )
    for i, name in enumerate(FIELDS):
        x = 3.35 + 1.25 * i
        box(axes, x, 3.95, 1.0, 0.42, name, WRITTEN)
        if i:
            arrow(axes, (x - 0.23, 4.16), (x - 0.02, 4.16), WRITTEN)
    arrow(axes, (5.68, 3.67), (5.68, 3.93), DARK)
    axes.text(8.25, 4.16, "or resume: the gap ends, r is next", fontsize=8, color=WRITTEN, va="center")
    return figure


KEYS, VELOCITIES, APART = (28, 40, 48, 57, 64, 76, 88, 100), (30, 64, 110), 4.0  # APART: seconds from strike to strike


def single_tones() -> Performance:
    """Return single tones, key after key, each in three velocities, held for 2.5 s."""
    notes = [
        (APART * (len(VELOCITIES) * i + j), 2.5, key, velocity)
        for i, key in enumerate(KEYS)
        for j, velocity in enumerate(VELOCITIES)
    ]
    return Performance(np.array(notes, NOTE_DTYPE))


def spectrogram(axes: Axes, mono: Any, rate: int, loudest: float, seconds: float) -> None:
    """Draw the power of a waveform over time and frequency, down to 80 dB below `loudest`."""
    mono = mono + 1e-9 * np.random.default_rng(0).standard_normal(len(mono))  # silence has no logarithm
    axes.specgram(
        mono, NFFT=2048, Fs=rate, noverlap=1536, vmin=loudest - 80, vmax=loudest, cmap=colormaps["magma"].resampled(16)
    )
    axes.set_facecolor("black")
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, 6000)
    axes.set_xticks([])
    axes.set_yticks([])


def tones_and_piece(tones: Any, piece: Any, rate: int, title: str) -> Figure:
    """Draw the spectrograms of `single_tones` as a table, and of the first 20 s of a piece below it.

    Args:
        tones: Waveform of `single_tones`, of shape (frames, 2).
        piece: Waveform of the piece.
        rate: Sample rate of both in Hz.
        title: Name of what played them.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    grid = figure.add_gridspec(4, len(KEYS), height_ratios=(1, 1, 1, 1.5))
    mono = tones.mean(axis=1)
    loudest = float(10 * np.log10(np.abs(mono).max() ** 2)) - 22
    for j, velocity in enumerate(VELOCITIES):
        for i, key in enumerate(KEYS):
            axes = figure.add_subplot(grid[j, i])
            start = int(APART * (len(VELOCITIES) * i + j) * rate)
            spectrogram(axes, mono[start : start + int(3 * rate)], rate, loudest, 2.95)
            if j == 0:
                axes.set_title(f"key {key}", fontsize=7)
            if i == 0:
                axes.set_ylabel(f"velocity {velocity}", fontsize=7)
    axes = figure.add_subplot(grid[3, :])
    mono = piece[: 20 * rate].mean(axis=1)
    spectrogram(axes, mono, rate, float(10 * np.log10(np.abs(mono).max() ** 2)) - 22, 20)
    axes.set_ylabel("a piece, 20 s", fontsize=8)
    figure.suptitle(f"{title}: 0 to 6 kHz, 80 dB from black to white", fontsize=10)
    return figure


def main() -> None:
    """Write the pictures beside this file."""
    plots.save(stacks_and_gap(), HERE / "stacks.png")
    bundle = open_bundle()
    engine = Engine(bundle)
    made = compose(engine, 60, SamplingOptions(seed=7))
    plots.save(
        plots.piano_roll(made.performance, generated=(made.start, made.end), title="composed, seed 7"),
        HERE / "composed.png",
    )
    filled = infill(engine, made.performance, 24, 32, SamplingOptions(seed=1))
    picture = plots.piano_roll(filled.performance, generated=(24, 32), title="the same piece, 24 s to 32 s infilled")
    plots.save(picture, HERE / "infilled.png")
    plain = SoundOptions(22_050)
    sounds = [render(each, plain) for each in (single_tones(), made.performance)]
    picture = tones_and_piece(*(sound.samples for sound in sounds), 22_050, "the grand piano")
    plots.save(picture, HERE / "sound.png")
    several = [compose(engine, 60, SamplingOptions(seed=seed)).performance for seed in range(20)]
    plots.save(plots.distributions(distributions(several), bundle.reference), HERE / "distributions.png")
    history = read_history(HERE / "pretrained-history.csv")
    plots.save(plots.loss_curves(history, title="the bundled model"), HERE / "loss.png")


if __name__ == "__main__":
    main()
