"""How well recordings are transcribed: held-out MAESTRO pieces, played by the project's own piano and transcribed.

    MAESTRO_DIR=folder python benchmarks/transcription.py --out docs/bench/transcription.json

The measures are those of mir_eval: precision, recall and F1 of notes whose onset is right within 50 ms, of those whose
end is right too (within 50 ms or a fifth of the length), of those whose velocity is right too; and of pedal presses
within 50 ms. `--memory` also transcribes one minute and ten minutes, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from music_generator.data import maestro
from music_generator.music.midi import read_midi
from music_generator.music.performance import SUSTAIN, UNA_CORDA, Performance, join
from music_generator.recording import transcribe
from music_generator.sound import SoundOptions, render_file

ONSET_SECONDS = 0.05
FRAME_SECONDS = 0.02  # of the share of time in which the pedal is down
MEASURES = {
    "onset": "note onsets",
    "offset": "… with ends",
    "velocity": "… with velocities",
    "offset_velocity": "… with ends and velocities",
    "sustain": "sustain pedal, presses",
    "sustain_time": "sustain pedal, time that it is down",
    "una_corda": "una corda pedal, presses",
}


def pieces(folder: Path, count: int) -> list[Path]:
    """Return pieces of the validation split, spread evenly over it in the order of their paths."""
    paths = sorted(each.midi_filename for each in maestro.read_metadata(folder) if each.split == "validation")
    return [folder / paths[i * len(paths) // count] for i in range(count)]


def intervals(events: Any) -> Any:
    """Return onsets and ends in seconds: (n, 2)."""
    return np.stack([events["onset"], events["onset"] + events["duration"]], axis=1)


def note_scores(truth: Performance, found: Performance) -> dict[str, list[float]]:
    """Return precision, recall and F1 of notes, for each measure."""
    from mir_eval import transcription, transcription_velocity

    def columns(notes: Any, with_velocity: bool) -> list[Any]:
        hertz = 440.0 * 2 ** ((notes["pitch"] - 69) / 12)
        return [intervals(notes), hertz, *[notes["velocity"].astype(float)] * with_velocity]

    scores = {}
    for name, module, ratio, with_velocity in (
        ("onset", transcription, None, False),
        ("offset", transcription, 0.2, False),
        ("velocity", transcription_velocity, None, True),
        ("offset_velocity", transcription_velocity, 0.2, True),
    ):
        sides = columns(truth.notes, with_velocity) + columns(found.notes, with_velocity)
        *three, _overlap = module.precision_recall_f1_overlap(
            *sides, onset_tolerance=ONSET_SECONDS, offset_ratio=ratio, offset_min_tolerance=0.05
        )
        scores[name] = [float(value) for value in three]
    return scores


def pedal_scores(truth: Performance, found: Performance, pedal: int) -> list[float] | None:
    """Return precision, recall and F1 of the onsets of presses; None where there are none."""
    from mir_eval import transcription

    sides = [intervals(each.pedals[each.pedals["pedal"] == pedal]) for each in (truth, found)]
    if not all(map(len, sides)):
        return None if not any(map(len, sides)) else [0.0, 0.0, 0.0]
    *three, _overlap = transcription.precision_recall_f1_overlap(
        sides[0], np.full(len(sides[0]), 440.0), sides[1], np.full(len(sides[1]), 440.0),
        onset_tolerance=ONSET_SECONDS, offset_ratio=None,
    )  # fmt: skip
    return [float(value) for value in three]


def pedal_time_scores(truth: Performance, found: Performance) -> list[float] | None:
    """Return precision, recall and F1 of the moments at which the sustain pedal is down."""
    moments = np.arange(0.0, max(truth.end, found.end), FRAME_SECONDS)
    real, heard = (_is_down(each, moments) for each in (truth, found))
    if not real.any():
        return None
    both = float((real & heard).sum())
    precision, recall = both / max(heard.sum(), 1), both / real.sum()
    return [precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)]


def _is_down(piece: Performance, moments: Any) -> Any:
    spans = intervals(piece.pedals[piece.pedals["pedal"] == SUSTAIN])
    return ((moments[:, None] >= spans[:, 0]) & (moments[:, None] < spans[:, 1])).any(axis=1)


def measure(path: Path, seconds: float) -> dict[str, Any]:
    """Render, transcribe and compare the beginning of one piece."""
    truth = read_midi(path, track="all").performance.between(0, seconds)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "piece.wav"
        rendered = render_file(truth, wav, SoundOptions())
        begun, cpu = time.perf_counter(), time.process_time()
        found = transcribe(wav)
    taken, cpu = time.perf_counter() - begun, time.process_time() - cpu
    scores = note_scores(truth, found) | {
        "sustain": pedal_scores(truth, found, SUSTAIN),
        "sustain_time": pedal_time_scores(truth, found),
        "una_corda": pedal_scores(truth, found, UNA_CORDA),
    }
    facts = {"notes": len(truth), "presses": len(truth.pedals), "sound_seconds": rendered.seconds}
    return {"piece": path.name, **facts, "seconds_taken": taken, "cpu_seconds": cpu, "scores": scores}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the mean scores of the pieces, and the lowest F1, as Markdown."""
    lines = ["| | precision | recall | F1 | lowest F1 of a piece |", "|---|---|---|---|---|"]
    for name, words in MEASURES.items():
        scores = np.array([row["scores"][name] for row in rows if row["scores"][name] is not None])
        if len(scores):
            of = "" if len(scores) == len(rows) else f" ({len(scores)} pieces)"
            figures = " | ".join(f"{value:.3f}" for value in (*scores.mean(axis=0), scores[:, 2].min()))
            lines.append(f"| {words}{of} | {figures} |")
    return "\n".join(lines)


def peak_memory(path: Path, minutes: int) -> float:
    """Return the peak memory in MB of a process that transcribes a piece, played again until it lasts `minutes`."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import transcription as t; "
    code += f"print(t.memory_of({str(path)!r}, {minutes}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def memory_of(path: str, minutes: int) -> float:
    """Transcribe `minutes` of a piece and return the peak memory of this process in MB."""
    piece, parts = read_midi(path, track="all").performance.between(0, 60), []
    for minute in range(minutes):
        parts.append(piece.shifted(60.0 * minute))
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "piece.flac"
        render_file(join(parts), wav, SoundOptions())
        transcribe(wav)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    """Print the table; write all figures with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--maestro", type=Path, default=os.environ.get("MAESTRO_DIR"), required="MAESTRO_DIR" not in os.environ
    )
    parser.add_argument("--pieces", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each piece, from its start")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too; takes many minutes")
    parser.add_argument("--out", type=Path, help="JSON file with all figures")
    options = parser.parse_args()
    chosen, rows = pieces(options.maestro, options.pieces), []
    for path in chosen:
        rows.append(measure(path, options.seconds))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    sound = sum(row["sound_seconds"] for row in rows)
    facts = {f"{name}_a_second": sum(row[name] for row in rows) / sound for name in ("seconds_taken", "cpu_seconds")}
    if options.memory:
        facts |= {f"peak_mb_{minutes}_minutes": peak_memory(chosen[0], minutes) for minutes in (1, 10)}
    print(table(rows))
    print(json.dumps(facts))
    if options.out:
        options.out.write_text(json.dumps({"facts": facts, "pieces": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
