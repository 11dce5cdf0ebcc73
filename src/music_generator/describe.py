"""Plain facts about a MIDI file, a recording, a corpus, a model bundle, a training run or MAESTRO."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from music_generator.data import corpus, maestro
from music_generator.data import wav_pairs as pairs
from music_generator.engine import kernel
from music_generator.errors import BundleError, CorpusError, InputError
from music_generator.model import bundle
from music_generator.music import midi
from music_generator.music.performance import PEDAL_NAMES, Performance
from music_generator.recording.audio import examine, is_recording_file
from music_generator.sound import read_index
from music_generator.training.history import HISTORY_FILE, describe_history
from music_generator.training.options import RUN_FILE, read_run

__all__ = ["describe"]


def describe(what: str | Path) -> dict[str, Any]:
    """Return facts about a file or folder, by name.

    Args:
        what: A MIDI file, a recording, a prepared corpus, a training run, a MAESTRO folder, or a model as `find_bundle`
            takes it.

    Raises:
        InputError: It does not exist or is none of these.
        MusicGeneratorError: It is damaged.
    """
    path = Path(what)
    if path.is_file():
        return _recording(path) if is_recording_file(path) else _midi(path)
    if (path / "corpus.json").exists():
        return _corpus(path)
    if (path / RUN_FILE).exists():
        return _run(path)
    if maestro.is_maestro(path):
        return _maestro(path)
    try:
        folder = bundle.find_bundle(what)
    except BundleError:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder") from None
        raise InputError(f"{path}: neither a MIDI file nor a corpus, model, run or MAESTRO folder") from None
    return _bundle(folder)


def _recording(path: Path) -> dict[str, Any]:
    recording = examine(path)
    return {
        "kind": "recording",
        "seconds": round(recording.seconds, 3),
        "sample rate": recording.sample_rate,
        "channels": recording.channels,
    }


def _midi(path: Path) -> dict[str, Any]:
    reading = midi.read_midi(path, track="all")
    played = reading.performance
    facts: dict[str, Any] = {
        "kind": "MIDI file",
        "seconds": round(played.end, 3),
        "notes": len(played),
        "tracks": reading.tracks,
        "ticks per quarter": played.tempo_map.ticks_per_quarter,
        "tempo changes": len(played.tempo_map.tempos) - 1,
    }
    if len(reading.parts) > 1:
        facts["parts"] = [
            asdict(part) | {"track": part.track + 1, "channel": part.channel + 1} for part in reading.parts
        ]
    for i, name in enumerate(PEDAL_NAMES):
        facts[f"{name} presses"] = int((played.pedals["pedal"] == i).sum())
    if len(played):
        notes = played.notes
        facts["pitches"] = f"{notes['pitch'].min()}-{notes['pitch'].max()}"
        facts["velocities"] = f"{notes['velocity'].min()}-{notes['velocity'].max()}"
        facts["notes per second"] = round(len(played) / played.end, 2)
    if reading.remarks:
        facts["remarks"] = "; ".join(reading.remarks)
    audio = pairs.audio_beside(path)
    if audio is not None:
        facts["audio"] = _audio(path, audio, played)
    return facts


def _audio(midi_path: Path, path: Path, played: Performance) -> dict[str, Any]:
    """Compare the WAV file beside a MIDI file with it."""
    try:
        pair = pairs.pair_files(midi_path, path, played.end)
        return {
            "file": path.name,
            "seconds": round(pair.wav_seconds, 3),
            "sample rate": pair.sample_rate,
            "channels": pair.channels,
            "longer by seconds": round(pair.difference_seconds, 3),
            "later by seconds": round(pairs.estimate_offset(path, played.notes["onset"]), 3) if len(played) else None,
        }
    except (CorpusError, InputError) as error:
        return {"file": path.name, "error": str(error)}


def _bundle(path: Path) -> dict[str, Any]:
    opened = bundle.open_bundle(path)
    config = opened.config.to_json()
    composers = config.pop("composers")
    return {
        "kind": "model",
        "precisions": ", ".join(opened.precisions),
        "engine": _engine(),
        "bytes": sum((path / name).stat().st_size for name in opened.files),
        "composers": len(composers),
        "piano": read_index().credit,
        **config,
        **{name: value for name, value in opened.provenance.items() if name != "options"},
    }


def _engine() -> str:
    """Return how this machine generates."""
    vectors = kernel.vectors()
    return f"compiled ({vectors})" if vectors else "NumPy (not compiled on this machine)"


def _corpus(path: Path) -> dict[str, Any]:
    opened = corpus.open_corpus(path)
    facts: dict[str, Any] = {"kind": "prepared corpus", "source": opened.source, "composers": len(opened.composers)}
    for name in corpus.SPLITS:
        facts[name] = _sizes([opened.pieces[i] for i in opened.split(name)])
    if opened.tags:
        facts["tags"] = {tag: _sizes([piece for piece in opened.pieces if piece.tag == tag]) for tag in opened.tags}
    return facts


def _sizes(pieces: list[corpus.Piece]) -> dict[str, Any]:
    return {
        "pieces": len(pieces),
        "notes": sum(piece.notes for piece in pieces),
        "rows": sum(piece.rows for piece in pieces),
        "hours": round(sum(piece.seconds for piece in pieces) / 3600, 2),
    }


def _run(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": "training run", **read_run(path).to_json()}
    facts["config"].pop("composers")
    if (path / HISTORY_FILE).exists():
        facts |= describe_history(path / HISTORY_FILE)
    return facts


def _maestro(path: Path) -> dict[str, Any]:
    survey = maestro.find_recordings(path)
    counts = {name: f"{count.present} of {count.listed}" for name, count in survey.counts.items()}
    facts: dict[str, Any] = {
        "kind": "MAESTRO",
        "version": survey.version,
        "recordings": counts,
        "missing": len(survey.missing),
    }
    if pairs.has_audio(survey):
        facts["audio faults"] = [fault.problem for fault in pairs.check_pairs(path, survey.recordings)]
    return facts
