"""A piece as files: MIDI, sound and pictures."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import made_performance
from music_generator.errors import InputError
from music_generator.export import Export, draw_piece, write_sound
from music_generator.generation import Generated
from music_generator.music.features import distributions
from music_generator.music.midi import read_midi
from music_generator.music.performance import Performance

REFERENCE = distributions([])


@pytest.fixture
def piece() -> Generated:
    """A piece of which the seconds from 2 to 5 are the model's."""
    return Generated(made_performance(0), start=2.0, end=5.0, seed=7, tokens=40, seconds_taken=0.01234567)


@pytest.mark.parametrize("audio", [True, False])
@pytest.mark.parametrize("plots", [True, False])
def test_the_files_are_those_foretold(piece, tmp_path, audio, plots):
    export = Export(tmp_path / "new", "infill", audio=audio, plots=plots)
    exported = export.write(piece, REFERENCE)
    assert list(exported.files) == export.files(7) == [
        tmp_path / "new" / f"infill-seed7{end}"
        for end in (".mid", *[".wav"] * audio, *[".png", "-distributions.png"] * plots)
    ]  # fmt: skip
    assert set(exported.files) == set((tmp_path / "new").iterdir())
    assert (exported.sound is not None) == audio


def test_what_is_told_of_a_piece(piece, tmp_path):
    exported = Export(tmp_path, "infill", audio=False, plots=False).write(piece, REFERENCE)
    assert (exported.seed, exported.tokens, exported.start, exported.end) == (7, 40, 2.0, 5.0)
    assert exported.notes == len(piece.performance.between(2.0, 5.0)) > 0
    assert exported.seconds == 3.0
    assert json.loads(json.dumps(exported.to_json())) == {
        "files": [str(tmp_path / "infill-seed7.mid")], "seed": 7, "notes": exported.notes, "tokens": 40, "start": 2.0,
        "end": 5.0, "seconds": round(exported.seconds, 3), "seconds_taken": 0.0123, "sound": None, "remarks": [],
    }  # fmt: skip
    read = read_midi(tmp_path / "infill-seed7.mid").performance
    assert len(read) == len(piece.performance)


def test_a_piece_without_notes_is_as_long_as_its_span(tmp_path):
    nothing = Generated(Performance(), start=1.0, end=5.0, seed=1, tokens=0, seconds_taken=0.0)
    exported = Export(tmp_path, audio=False).write(nothing, REFERENCE)
    assert (exported.notes, exported.seconds) == (0, 4.0)


def test_kept_notes_are_not_new(piece, tmp_path):
    inside = piece.performance.between(2.0, 5.0)
    kept = replace(piece, kept=replace(inside, notes=inside.notes[::2]))
    exported = Export(tmp_path, audio=False, plots=False).write(kept, REFERENCE)
    assert exported.notes == len(inside.notes[1::2])


def other(piece: Generated) -> Generated:
    """A piece of the same seed with other music."""
    return replace(piece, performance=made_performance(1))


def test_other_music_is_never_written_over(piece, tmp_path):
    export = Export(tmp_path, plots=False)
    names = [
        [file.name for file in export.write(each, REFERENCE).files]
        for each in (piece, other(piece), piece, other(piece), replace(piece, performance=made_performance(2)))
    ]
    stems = ["piece-seed7", "piece-seed7-2", "piece-seed7", "piece-seed7-2", "piece-seed7-3"]
    assert names == [[f"{stem}.mid", f"{stem}.wav"] for stem in stems]
    assert len({(tmp_path / f"{stem}.mid").read_bytes() for stem in stems}) == 3


@pytest.mark.parametrize("end", [".mid", ".wav", "-distributions.png"])
def test_a_lone_file_of_the_name_is_not_written_over(piece, tmp_path, end):
    mine = tmp_path / f"piece-seed7{end}"
    mine.write_bytes(b"mine")
    assert Export(tmp_path).write(piece, REFERENCE).files[0] == tmp_path / "piece-seed7-2.mid"
    assert mine.read_bytes() == b"mine"
    assert Export(tmp_path, overwrite=True).write(piece, REFERENCE).files[0] == tmp_path / "piece-seed7.mid"
    assert mine.read_bytes() != b"mine"


def test_an_export_and_what_it_tells_go_to_other_processes(piece, tmp_path):
    export = Export(tmp_path, audio=False, plots=False)
    assert pickle.loads(pickle.dumps(export)) == export
    exported = export.write(piece, REFERENCE)
    assert pickle.loads(pickle.dumps(exported)) == exported


def test_what_does_not_fit_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="`format` must be one of wav, flac, ogg, mp3, not 'midi'"):
        Export(format="midi")
    with pytest.raises(InputError, match="file: it is a file, not a folder"):
        Export(tmp_path / "file")
    with pytest.raises(InputError, match=r"none\.sf2 does not exist; name a \.sf2 or \.sf3 file"):
        Export(soundfont=Path("none.sf2"))


def test_a_sound_says_what_played_it(tmp_path):
    assert write_sound(made_performance(0), tmp_path / "a.wav")
    assert (tmp_path / "a.wav").stat().st_size > 44


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures_keep_their_format(tmp_path, suffix):
    drawn = draw_piece(made_performance(0), tmp_path / f"roll{suffix}")
    assert drawn == [tmp_path / f"roll{suffix}", tmp_path / f"roll-distributions{suffix}"]
    assert all(path.stat().st_size for path in drawn)
