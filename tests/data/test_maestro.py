"""MAESTRO: releases, metadata and splits."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from maestro_files import MIDI, ROWS, Site, columns_json, csv_text, dataset, make_archive, serving, sha256_of

from music_generator.data import maestro
from music_generator.data.unpack import unpack
from music_generator.errors import CorpusError, InputError

archive = pytest.fixture(make_archive)
serve = pytest.fixture(serving)


def test_table_has_three_releases_with_sums_of_the_right_form() -> None:
    assert list(maestro.RELEASES) == ["1.0.0", "2.0.0", "3.0.0"]
    sums = [a.sha256 for r in maestro.RELEASES.values() for a in (r.midi, r.full) if a.sha256]
    assert len(sums) == len(set(sums)) == 5
    assert all(len(bytes.fromhex(s)) == 32 for s in sums)
    assert [r.midi.name for r in maestro.RELEASES.values()] == [f"maestro-v{v}-midi.zip" for v in maestro.RELEASES]


@pytest.mark.parametrize("with_audio", [False, True])
def test_download_from_a_mirror_and_unpack(
    serve: Callable[..., Site], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_audio: bool
) -> None:
    site, sum_ = serve(archive.read_bytes()), sha256_of(archive)
    midi, full = maestro.Archive("m-midi.zip", sum_), maestro.Archive("m.zip", sum_)
    monkeypatch.setitem(maestro.RELEASES, "3.0.0", maestro.Release(midi, full))
    seen: list[tuple[int, int | None]] = []
    path = maestro.download(
        "3.0.0", tmp_path / "x", with_audio=with_audio, base_url=site.url, progress=lambda *p: seen.append(p)
    )
    assert path == tmp_path / "x" / ("m.zip" if with_audio else "m-midi.zip")
    assert seen[-1] == (len(site.data), len(site.data))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - no .part, no note

    folder = unpack(path, tmp_path / "data")
    assert folder == tmp_path / "data" / "maestro-v3.0.0"
    assert maestro.find_recordings(tmp_path / "data").counts["train"] == maestro.SplitCount(1, 1)
    # neither is done twice
    assert maestro.download("3.0.0", tmp_path / "x", with_audio=with_audio, base_url="http://127.0.0.1:1") == path
    assert unpack(path, tmp_path / "data") == folder


def test_unknown_release_and_scheme_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be one of 1\.0\.0, 2\.0\.0, 3\.0\.0, not 4"):
        maestro.download("4", tmp_path)
    with pytest.raises(InputError, match="must begin with http"):
        maestro.download("3.0.0", tmp_path, base_url="file:///etc")


def test_csv_and_both_json_layouts_are_the_same(tmp_path: Path) -> None:
    texts: dict[str, tuple[str | bytes, str]] = {
        "csv": (csv_text(), ".csv"),
        "rows": (json.dumps(ROWS), ".json"),
        "columns": (columns_json(), ".json"),
        "bom": (b"\xef\xbb\xbf" + csv_text().encode(), ".csv"),
        "utf16": (csv_text().encode("utf-16"), ".csv"),
    }
    read = {name: maestro.read_metadata(dataset(tmp_path / name, *text)) for name, text in texts.items()}
    assert all(recordings == read["csv"] for recordings in read.values())
    assert read["csv"][0] == maestro.Recording(
        "Frédéric Chopin", 'Nocturne, "Op. 9" No. 2', "train", 2004, "2004/a.midi", "2004/a.wav", 1.0
    )
    assert [recording.duration_seconds for recording in read["csv"]] == [1.0, 1.25, 698.661160312]


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_missing_columns_are_named(tmp_path: Path, suffix: str) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("split", "duration")} for row in ROWS]
    left = tuple(name for name in maestro.COLUMNS if name not in ("split", "duration"))
    text = csv_text(rows, left) if suffix == ".csv" else json.dumps(rows)
    with pytest.raises(CorpusError, match=rf"maestro-v3\.0\.0\{suffix}: it lacks the columns split, duration"):
        maestro.read_metadata(dataset(tmp_path, text, suffix))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "holdout"}, r"row 2: the split must be one of train, validation, test, not 'holdout'"),
        ({"midi_filename": "../b.midi"}, r"row 2: the path '\.\./b\.midi' must stay inside"),
        ({"audio_filename": "/b.wav"}, "row 2: the path '/b.wav' must stay inside"),
        ({"midi_filename": ""}, "row 2: the path '' must stay inside"),
        ({"midi_filename": "2004/a.midi"}, r"lists 2004/a\.midi 2 times"),
        ({"year": "MMIV"}, "year must be a whole number .* not 'MMIV'"),
        ({"duration": "nan"}, "duration positive, not 2004 and 'nan'|duration positive, not '2004' and 'nan'"),
        ({"duration": -1.0}, "duration positive"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = [ROWS[0], ROWS[1] | change]
    for text, suffix in ((csv_text(rows), ".csv"), (json.dumps(rows), ".json")):
        with pytest.raises(CorpusError, match=message):
            maestro.read_metadata(dataset(tmp_path / suffix, text, suffix))


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        (csv_text().encode("latin-1", "replace"), ".csv", r"is not UTF-8 text \(byte \d+\); save it as UTF-8"),
        (b"", ".csv", "lacks the columns canonical_composer"),
        (csv_text([]), ".csv", "lists no recordings"),
        (csv_text() + "Bach,Fugue,train\r\n", ".csv", "row 4: it must have a value in each column"),
        (csv_text() + "a,b,train,2004,d.midi,d.wav,1.0,more\r\n", ".csv", "row 4: it must have a value"),
        (csv_text() + '"open', ".csv", "is not a CSV file"),
        ("{", ".json", "is not a JSON file"),
        ("[" * 100_000, ".json", "is not a JSON file"),
        ("[1]", ".json", "must be a list of records or a table of columns"),
        ("[]", ".json", "must be a list of records or a table of columns"),
        (columns_json().replace('"2": "test"', '"7": "test"'), ".json", "columns of one length"),
        (json.dumps([ROWS[0] | {"year": None}]), ".json", "row 1: it must have a value"),
    ],
)
def test_unreadable_metadata_is_refused(tmp_path: Path, text: str | bytes, suffix: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        maestro.read_metadata(dataset(tmp_path, text, suffix))


def test_survey_reports_what_is_missing(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "maestro-v2.0.0", csv_text(), version="2.0.0")
    (folder / "2004").mkdir()
    (folder / "2004" / "b.midi").write_bytes(MIDI)
    for place in (folder, tmp_path):
        survey = maestro.find_recordings(place)
        assert survey.folder == folder
        assert survey.version == "2.0.0"
        assert [recording.title for recording in survey.recordings] == ["In the Mists"]
        assert survey.missing == ("2004/a.midi", "2018/c.midi")
        assert survey.counts == {
            "train": maestro.SplitCount(0, 1),
            "validation": maestro.SplitCount(1, 1),
            "test": maestro.SplitCount(0, 1),
        }


def test_folders_that_are_not_one_maestro(tmp_path: Path) -> None:
    assert not maestro.is_maestro(tmp_path)
    assert not maestro.is_maestro(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="this is not MAESTRO: there is no maestro-v"):
        maestro.find_recordings(tmp_path)
    for version in ("1.0.0", "2.0.0"):
        dataset(tmp_path / f"maestro-v{version}", csv_text(), version=version)
    assert maestro.is_maestro(tmp_path)
    with pytest.raises(CorpusError, match="it contains several"):
        maestro.find_recordings(tmp_path)


@pytest.mark.maestro
@pytest.mark.skipif("MAESTRO_DIR" not in os.environ, reason="MAESTRO_DIR does not name MAESTRO's folder")
def test_the_real_metadata(tmp_path: Path) -> None:
    survey = maestro.find_recordings(os.environ["MAESTRO_DIR"])
    assert survey.version == "3.0.0"
    assert survey.counts["train"] == maestro.SplitCount(962, 962)
    assert survey.counts["validation"] == maestro.SplitCount(137, 137)
    assert len(survey.recordings) - survey.counts["test"].present == 962 + 137
    shutil.copy(survey.folder / "maestro-v3.0.0.json", tmp_path)
    assert maestro.read_metadata(tmp_path) == maestro.read_metadata(survey.folder)
