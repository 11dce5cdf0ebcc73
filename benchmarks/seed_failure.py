"""The seed's failure, measured: does generated music get stuck on a note, fall silent, or lose its measure?

Composes and continues 60 s with each of 20 seeds. Primers are the first 20 s of MAESTRO's validation pieces. What is
counted is what the model wrote, the joint with the primer included.
Prints a Markdown table; exit code 1 if a figure is missed.

    python benchmarks/seed_failure.py --maestro FOLDER [--model BUNDLE] [--seeds 20] [--seconds 60]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from music_generator.data.maestro import find_recordings
from music_generator.engine.engine import Engine
from music_generator.generation import Generated, SamplingOptions, compose, continue_from
from music_generator.model.bundle import PRETRAINED, open_bundle
from music_generator.music.midi import read_midi
from music_generator.music.performance import Performance

LONGEST_RUN, LONGEST_SILENCE, FACTOR = 8, 5.0, 2.0
PRIMER_SECONDS = 20.0


@dataclass(frozen=True)
class Measures:
    """Of one piece: most equal pitches in a row, longest time between note onsets, density, mean duration."""

    run: int
    silence: float
    notes_per_second: float
    mean_duration: float


def longest_run(performance: Performance) -> int:
    return max((len(list(group)) for _, group in groupby(performance.notes["pitch"])), default=0)


def measure(made: Generated, primer: Performance) -> Measures:
    """What was written, with the primer's last notes for the joint; a primer's own longer run does not count."""
    written = made.written.notes
    last = primer.notes["onset"][-1:]
    onsets = np.concatenate([last if len(last) else [0.0], written["onset"], [made.end]])
    run = longest_run(made.performance)
    return Measures(
        run if run > longest_run(primer) else longest_run(made.written),
        float(np.diff(onsets).max()),
        len(written) / (made.end - made.start),
        float(written["duration"].mean()) if len(written) else 0.0,
    )


def validation_pieces(folder: Path) -> list[Performance]:
    survey = find_recordings(folder)
    files = [survey.folder / each.midi_filename for each in survey.recordings if each.split == "validation"]
    return [read_midi(file).performance for file in files]


def bounds(values: list[float]) -> tuple[float, float]:
    """The middle nine tenths, wider by the factor."""
    low, high = np.percentile(values, [5, 95])
    return float(low) / FACTOR, float(high) * FACTOR


def row(name: str, found: list[Measures], density: tuple[float, float], duration: tuple[float, float]) -> bool:
    runs, silences = [each.run for each in found], [each.silence for each in found]
    densities, durations = [each.notes_per_second for each in found], [each.mean_duration for each in found]
    passed = (
        max(runs) <= LONGEST_RUN
        and max(silences) <= LONGEST_SILENCE
        and density[0] <= min(densities) <= max(densities) <= density[1]
        and duration[0] <= min(durations) <= max(durations) <= duration[1]
    )
    print(
        f"| {name} | {max(runs)} | {max(silences):.2f} | {min(densities):.2f} – {np.median(densities):.2f} – "
        f"{max(densities):.2f} | {min(durations):.3f} – {np.median(durations):.3f} – {max(durations):.3f} | "
        f"{'pass' if passed else 'FAIL'} |"
    )
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description="The seed's failure, measured.")
    parser.add_argument("--maestro", type=Path, required=True, help="the dataset's folder, or the one it lies in")
    parser.add_argument("--model", type=Path, default=PRETRAINED)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    pieces = validation_pieces(options.maestro)
    density = bounds([len(piece) / piece.end for piece in pieces])
    duration = bounds([float(piece.notes["duration"].mean()) for piece in pieces])
    engine = Engine(open_bundle(options.model))
    composed, continued, tokens, taken = [], [], 0, 0.0
    for seed in range(options.seeds):
        sampling = SamplingOptions(seed=seed)
        piece = pieces[seed * len(pieces) // options.seeds % len(pieces)]
        primer = piece.between(0, PRIMER_SECONDS)
        made = compose(engine, options.seconds, sampling)
        composed.append(measure(made, Performance()))
        longer = continue_from(engine, primer, options.seconds, sampling, start=PRIMER_SECONDS)
        continued.append(measure(longer, primer))
        tokens, taken = tokens + made.tokens + longer.tokens, taken + made.seconds_taken + longer.seconds_taken
    print(f"{options.seeds} seeds × {options.seconds:.0f} s, default sampling; smallest – median – largest\n")
    print("| | longest run of a pitch | longest time between onsets, s | notes per second | mean duration, s | |")
    print("|---|---|---|---|---|---|")
    print(
        f"| allowed (of {len(pieces)} validation pieces: 5th / {FACTOR:.0f} to 95th percentile × {FACTOR:.0f}) | "
        f"≤ {LONGEST_RUN} | ≤ {LONGEST_SILENCE:.0f} | {density[0]:.2f} to {density[1]:.2f} | "
        f"{duration[0]:.3f} to {duration[1]:.3f} | |"
    )
    passed = [row("composed", composed, density, duration), row("continued", continued, density, duration)]
    print(f"\n{tokens:,} tokens, {tokens / taken:,.0f} tokens/s with one thread")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
