"""Overlaps and copying against known answers, and the report on a folder of MIDI files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from conftest import made_performance
from music_generator import plots
from music_generator.data.corpus import Corpus
from music_generator.errors import CorpusError, InputError
from music_generator.evaluation import EvaluationOptions, evaluate, summary
from music_generator.evaluation.distributions import compare_sample
from music_generator.evaluation.originality import (
    Lines,
    best_matches,
    copies_no_more,
    copying,
    find_run,
    lines_of,
    longest_runs,
    share_found,
    training_lines,
)
from music_generator.evaluation.overlap import compare, density, distances_between, distances_within, overlap
from music_generator.evaluation.render_markdown import markdown
from music_generator.evaluation.report import Endings, Originality, Skipped, StructureComparison
from music_generator.evaluation.samples import excerpt, from_folder, halves, held_out_split, human_excerpts
from music_generator.evaluation.structure import ending_features
from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, Performance
from music_generator.music.tokens import TOKEN_DTYPE, Array, encode

# --- overlap


def test_distances_are_euclidean_and_of_each_pair_once() -> None:
    values = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    assert distances_within(values).tolist() == [5.0, 10.0, 5.0]
    assert distances_between(values, values[:2]).tolist() == [0.0, 5.0, 5.0, 0.0, 10.0, 5.0]


def test_density_is_gaussian_and_integrates_to_one() -> None:
    grid = np.linspace(-8, 8, 1001)
    found = density(np.zeros(1), grid, 1.0)
    np.testing.assert_allclose(found, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), atol=1e-9)
    many = density(np.random.default_rng(0).normal(size=9000), grid, 0.3)  # more than one chunk
    assert many.sum() * (grid[1] - grid[0]) == pytest.approx(1)


def test_overlap_of_the_same_and_of_distant_samples() -> None:
    samples = np.random.default_rng(0).normal(size=500)
    same = overlap(samples, samples)
    assert (same.area, same.divergence) == (pytest.approx(1), pytest.approx(0))
    apart = overlap(samples, samples + 100)
    assert apart.area == pytest.approx(0, abs=1e-6)
    assert 10 < apart.divergence < np.inf


def test_overlap_of_two_gaussians() -> None:
    """Of unit variance, 2 apart: area 2 Φ(-1) = 0.3173, divergence 2² / 2 = 2 nats; smoothing blurs it."""
    quantiles = np.sort(np.random.default_rng(0).normal(size=20_000))
    found = overlap(quantiles, quantiles + 2)
    assert found.area == pytest.approx(0.3173, abs=0.02)
    assert found.divergence == pytest.approx(2, abs=0.15)


def test_overlap_of_what_does_not_vary() -> None:
    assert overlap(np.zeros(5), np.zeros(7)).area == pytest.approx(1)
    assert overlap(np.zeros(5), np.ones(7)).area == pytest.approx(0, abs=1e-6)
    narrow = overlap(np.zeros(50), np.linspace(0, 1, 50))
    assert narrow.area < 0.05
    assert np.isfinite(narrow.divergence)


def test_sets_of_one_source_overlap_more_than_others() -> None:
    rng = np.random.default_rng(1)
    reference, like, other = rng.normal(size=(60, 3)), rng.normal(size=(60, 3)), rng.normal(3, 1, size=(60, 3))
    found = [compare({"a": reference}, {"a": values})["a"].area for values in (like, other)]
    assert found[0] > 0.9
    assert found[1] < 0.5


# --- originality


def rows_of(keys: list[int], shift: int = 20) -> Array:
    rows = np.zeros(len(keys), TOKEN_DTYPE)
    rows["shift"], rows["key"], rows["velocity"], rows["duration"] = shift, keys, 64, 10
    rows["shift"][:1] = 0
    return rows


def random_keys(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(10, 75, count).tolist()


@pytest.fixture(scope="module")
def training() -> Lines:
    return lines_of([rows_of(random_keys(seed, 400)) for seed in range(5)])


def test_lines_stay_within_pieces_and_leave_out_pedals() -> None:
    rows = rows_of([40, 44, 88, 47])
    line = lines_of([rows, rows_of([10, 9])])
    assert line.steps[:2].tolist() == [4, 3]
    assert line.steps[3] == -1
    assert line.room.tolist() == [2, 1, 0, 1, 0]
    assert line.piece.tolist() == [0, 0, 0, 1, 1]
    assert line.tick.tolist() == [0, 20, 60, 60, 80]


def test_a_chord_is_one_line_however_it_is_spread() -> None:
    chord, spread = rows_of([40, 44, 47, 52]), rows_of([47, 40, 44, 52])
    chord["shift"], spread["shift"] = [0, 0, 0, 50], [0, 2, 3, 50]
    assert lines_of([chord]).steps[:3].tolist() == lines_of([spread]).steps[:3].tolist() == [4, 3, 5]
    spread["shift"] = [0, 4, 4, 50]  # too slow for a chord
    assert lines_of([spread]).steps[:3].tolist() == [-7, 4, 8]


def test_a_planted_copy_is_found_in_another_key_and_tempo(training: Lines) -> None:
    source = random_keys(3, 400)[100:130]
    keys = [*random_keys(50, 60), *(key + 5 for key in source), *random_keys(51, 60)]
    music = lines_of([rows_of(keys, shift=33)])
    runs = longest_runs(music, training)
    assert runs[60] >= 30
    assert runs[61] >= 29
    assert int(np.argmax(runs)) in (59, 60)  # chance may lengthen it by a note
    assert find_run(music.steps[60:89], training) == 3 * 400 + 100
    assert np.sort(runs)[::-1][40] < 8  # no more than chance elsewhere


def test_random_music_has_only_short_runs(training: Lines) -> None:
    runs = longest_runs(lines_of([rows_of(random_keys(99, 500))]), training)
    assert runs.max() < 6
    assert find_run(np.array([60, -60, 60, -60, 60]), training) == -1


def test_longest_runs_against_a_slow_search() -> None:
    rng = np.random.default_rng(4)
    some, pieces = ([rng.integers(30, 34, n).tolist() for n in sizes] for sizes in ((40, 1, 25), (60, 2, 90)))
    music, there = lines_of([rows_of(k) for k in some]), lines_of([rows_of(k) for k in pieces])
    known = {
        tuple(np.diff(keys[i:j])) for keys in pieces for i in range(len(keys)) for j in range(i + 1, len(keys) + 1)
    }
    slow = [max(n for n in range(1, len(keys) - i + 1) if n == 1 or tuple(np.diff(keys[i : i + n])) in known)
            for keys in some for i in range(len(keys))]  # fmt: skip
    assert longest_runs(music, there).tolist() == slow


def test_windows_and_shares() -> None:
    runs, room = np.array([2, 4, 3, 2, 1]), np.array([4, 3, 2, 1, 0])
    assert best_matches(runs, room, 3).tolist() == [2, 3, 3]
    assert best_matches(runs, room, 5).tolist() == [4]
    assert best_matches(runs, room, 6).tolist() == []
    shares = share_found(runs, room)
    assert shares[:4].tolist() == [1.0, 1.0, pytest.approx(2 / 3), 0.5]
    assert np.isnan(shares[5:]).all()


def test_a_copyist_is_distinguished_from_an_inventor(training: Lines) -> None:
    inventor = [rows_of(random_keys(seed, 120)) for seed in (70, 71)]
    copyist = [rows_of([key + 2 for key in random_keys(seed, 400)[50:170]]) for seed in (0, 1)]
    new, old = copying(inventor, training), copying(copyist, training)
    assert old.longest_run == 120
    assert old.longest_run_from is None  # these pieces are of no corpus
    assert old.windows_found_whole[16] == 1
    assert old.percentile_95_of_best_match == {8: 8, 16: 16, 32: 32}
    assert new.windows_found_whole[8] == 0
    assert copies_no_more(new, new)
    assert copies_no_more(new, old)
    assert not copies_no_more(old, new)


def test_a_place_in_the_training_set_has_its_piece_and_second(tiny_corpus: Corpus) -> None:
    there = training_lines(tiny_corpus)
    piece = tiny_corpus.split("train")[2]
    rows = tiny_corpus.piece_rows(piece).astype(TOKEN_DTYPE)
    found = copying([rows], there)
    assert found.longest_run == tiny_corpus.pieces[piece].notes
    place = found.longest_run_from
    assert place is not None
    assert (place.path, place.seconds) == (tiny_corpus.pieces[piece].path, 0.0)


# --- samples


def test_halves_hold_each_work_once(tiny_corpus: Corpus) -> None:
    pieces = tuple(replace(p, split="validation", title=f"Work {i // 2}") for i, p in enumerate(tiny_corpus.pieces))
    corpus = replace(tiny_corpus, pieces=pieces)
    parts = halves(corpus, "validation", 3)
    works = [{(corpus.pieces[i].composer, corpus.pieces[i].title) for i in part} for part in parts]
    assert sorted([*parts[0], *parts[1]]) == list(range(8))
    assert not works[0] & works[1]
    assert parts == halves(corpus, "validation", 3)


def test_the_held_out_split(tiny_corpus: Corpus) -> None:
    assert held_out_split(tiny_corpus) == "validation"
    assert held_out_split(tiny_corpus, "test") == "test"
    only = replace(tiny_corpus, pieces=tuple(replace(p, split="train") for p in tiny_corpus.pieces))
    with pytest.raises(CorpusError, match=r"no held-out pieces \(validation or test\)"):
        held_out_split(only)


def test_excerpts_begin_at_0_and_few_pieces_give_more() -> None:
    piece = made_performance(1)
    part = excerpt(piece, 5, 10)
    assert part.notes["onset"].min() >= 0
    assert part.notes["onset"].max() < 10
    assert len(part) == len(piece.between(5, 15))
    found = human_excerpts([piece], 5, 4)
    assert 8 <= len(found) <= 9
    assert found[1] == excerpt(piece, 9, 4)
    assert human_excerpts([piece], 5, 1000) == []


# --- the report on a folder of MIDI files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "midi" / "more").mkdir(parents=True)
    for i in range(4):
        write_midi(made_performance(40 + i), tmp_path / "midi" / f"{i}.mid")
    write_midi(made_performance(44), tmp_path / "midi" / "more" / "4.MID")
    write_midi(Performance(np.array([(0, 1, 60, 64)], NOTE_DTYPE)), tmp_path / "midi" / "short.mid")
    (tmp_path / "midi" / "broken.mid").write_bytes(b"no MIDI")
    return tmp_path / "midi"


def test_a_folder_of_midi_files(folder: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = evaluate(
        folder, tiny_corpus, tmp_path / "out", options=EvaluationOptions(seconds=6.0, structure_seconds=12.0), seed=5,
        progress=lambda *at: calls.append(at),
    )  # fmt: skip
    plain = report.to_json()
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8")) == plain
    assert plain["model"] == {"kind": "folder of MIDI files", "name": "midi"}
    assert "likelihood" not in plain
    assert "infilling" not in plain
    assert plain["format"] == 5
    assert plain["distributions"]["files"]["lowest"] in plain["distributions"]["files"]["features"]
    assert "mean" not in plain["distributions"]["files"]["features"]["pitch_classes"]
    found = report.distributions["files"]
    assert (found.performances, found.seconds, found.shorter) == (5, 6.0, 0)
    assert [each.name for each in found.left_out] == ["broken.mid", "short.mid"]
    assert found.left_out[0].reason.startswith("not a MIDI file")
    assert found.left_out[1].reason == "it lasts 1.0 s, less than 3 s; `--seconds` compares less music"
    assert plain["distributions"]["files"]["left_out"][1]["name"] == "short.mid"
    assert all(0 < each.overlap <= 1.0001 for each in found.features.values())
    assert found.features["notes_per_second"].mean == pytest.approx(
        np.mean([len(p) / 6 for p in from_folder(folder, 6.0).excerpts(6.0)])
    )
    structure, endings = report.structure["files"], report.endings["files"]
    assert isinstance(structure, StructureComparison)
    assert (structure.generated.pieces, structure.left_out) == (5, ())
    assert list(plain["structure"]["files"]["human"]["returning_runs"]) == ["6", "8", "12"]
    assert isinstance(endings, Endings)
    assert 0 < endings.mean_overlap < 1
    assert endings.features["last_sound"].generated.median == pytest.approx(  # of whole files, not of excerpts
        np.median(ending_features(from_folder(folder, 6.0).performances)["last_sound"])
    )
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "| returning runs of 8 notes | human |" in text
    assert "| 41 or more |" in text
    assert "| last sound |" in text
    assert "MIDI files have no likelihood" in text
    assert "MIDI files fill no gaps" in text
    assert "5 performances; humans" in text
    assert "2 left out: `broken.mid` (" in text
    assert "`short.mid` (it lasts 1.0 s, less than 3 s; `--seconds` compares less music)." in text
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == set(report.figures.values()) == {"distributions-files.png", "originality.png"}
    assert all(f"]({name})" in text for name in pictures)
    assert {what for what, _, _ in calls} == {"reading", "distributions", "structure", "originality"}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert len(summary(report)) == 4


def test_a_short_file_is_counted_by_its_own_length(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """40 s of 60, after a rest of 5 s; the pedal that stays down at the end is no music."""
    notes = np.array([(5 + i / 2, 0.5, 60 + i % 5, 64) for i in range(80)], NOTE_DTYPE)
    pedals = np.array([(5, 10, SUSTAIN, 90), (40, 30, SUSTAIN, 90)], PEDAL_DTYPE)
    (tmp_path / "midi").mkdir()
    write_midi(Performance(notes, pedals), tmp_path / "midi" / "short.mid")
    sample = from_folder(tmp_path / "midi", 60.0)
    assert (sample.names, sample.lengths(60.0), sample.lengths(30.0)) == (("short.mid",), [40.0], [30.0])
    options = EvaluationOptions(seconds=12.0, structure_seconds=12.0)
    report = evaluate(tmp_path / "midi", tiny_corpus, tmp_path / "out", options=options)
    assert report.distributions["files"].shorter == 0
    pieces = [made_performance(seed, notes=900) for seed in range(4)]
    found = compare_sample(sample, pieces[:2], pieces[2:], 0.0, 60.0).comparison
    assert found.shorter == 1
    assert found.features["notes_per_second"].mean == pytest.approx(2)
    assert found.features["sustain_share"].mean == pytest.approx((10 + 5) / 40)
    lines = markdown(replace(report, distributions={"files": found}))
    assert "1 performances, 1 of them shorter and counted by their own length; humans" in lines


def test_music_without_a_pedal_gets_nothing_for_its_pedal(tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "midi").mkdir()
    for i in range(4):
        write_midi(Performance(made_performance(60 + i).notes), tmp_path / "midi" / f"{i}.mid")
    options = EvaluationOptions(seconds=6.0, structure_seconds=12.0)
    report = evaluate(tmp_path / "midi", tiny_corpus, tmp_path / "out", options=options)
    found = report.distributions["files"].features["sustain_share"]
    assert (found.overlap, found.mean) == (0, 0)
    assert np.isnan(found.divergence)
    plain = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert plain["distributions"]["files"]["features"]["sustain_share"]["divergence"] is None
    row = next(line for line in (tmp_path / "out" / "report.md").read_text("utf-8").splitlines() if "sustain" in line)
    assert row.startswith("| sustain share | 0.000 |")
    assert "| not measured |" in row


def test_many_files_left_out_are_named_in_the_json_alone(folder: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    for i in range(25):
        (folder / f"no`{i:02}.mid").write_bytes(b"no MIDI")
    report = evaluate(folder, tiny_corpus, tmp_path / "out", options=EvaluationOptions(seconds=6.0))
    assert len(report.distributions["files"].left_out) == 27
    (line,) = {line for line in (tmp_path / "out" / "report.md").read_text("utf-8").splitlines() if "left out" in line}
    assert line.startswith("27 left out: `broken.mid` (")
    assert "`no18.mid` (" in line
    assert line.endswith(", and 7 more, which `report.json` names.")


def test_copies_of_the_training_set_are_found(tiny_maestro: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    for i in range(3):
        (path,) = tiny_maestro.glob(f"*/piece-{i}.midi")
        (tmp_path / "copies" / f"{i}.mid").write_bytes(path.read_bytes())
    report = evaluate(tmp_path / "copies", tiny_corpus, tmp_path / "out", options=EvaluationOptions(seconds=6.0))
    assert isinstance(report.originality, Originality)
    assert not report.originality.copies_no_more_than_humans
    assert report.originality.generated.longest_run_from is not None
    assert "It copies more than humans copy each other" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_what_cannot_be_evaluated(folder: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"no MIDI files \(\.mid, "):
        evaluate(tmp_path / "empty", tiny_corpus, tmp_path / "out")
    with pytest.raises(CorpusError, match="no such folder"):
        evaluate(tmp_path / "none", tiny_corpus, tmp_path / "out")
    with pytest.raises(
        CorpusError, match=r"none of its 7 MIDI files can be evaluated; short\.mid: it lasts 1\.0 s, less than 5000"
    ):
        evaluate(folder, tiny_corpus, tmp_path / "out", options=EvaluationOptions(seconds=10_000.0))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write into .*file"):
        evaluate(folder, tiny_corpus, tmp_path / "file")


def test_too_few_held_out_pieces_are_reported(folder: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    report = evaluate(folder, tiny_corpus, tmp_path / "out", options=EvaluationOptions(seconds=6.0, split="test"))
    assert report.structure["files"] == Skipped(
        "no held-out piece lasts until second 120; `--seconds` compares less music"
    )
    assert report.endings["files"] == Skipped(
        "each half of the held-out pieces must have one with notes, and so must what is measured"
    )
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    reason = report.distributions["files"].skipped
    assert reason is not None
    assert "have 7 and 0 excerpts that last until second 6, and must have at least 2 and 1; hold out more" in reason
    assert f"Not measured: {reason}." in text
    assert "**files**: not measured, no held-out piece lasts until second 120; `--seconds` compares" in text
    assert len(summary(report)) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"performances": 0}, "`performances` must be at least 1, not 0"),
        ({"seconds": 0.0}, "`seconds` must be above 0"),
        ({"structure_seconds": 0.0}, "`structure_seconds` must be above 0"),
        ({"split": "train"}, "`split` must be validation or test, not 'train'"),
    ],
)
def test_options_are_checked(options: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        EvaluationOptions(**options)  # type: ignore[arg-type]


# --- its figures


def test_figures_of_nothing_and_of_something(tmp_path: Path) -> None:
    curve = (np.linspace(0, 1, 5), np.ones(5))
    drawn: list[Figure] = [
        plots.overlaps({}),
        plots.overlaps({f"{i}": {"reference": curve, "human": curve, "generated": curve} for i in range(5)}, "a $"),
        plots.copying({"human": np.array([1.0, 0.5, 0.0, np.nan]), "generated": np.array([1.0, 0.1])}),
        plots.gaps({"2": {"infill": (0.1, 0.01), "empty": (0.5, 0.1)}, "4": {"infill": (0.2, 0.01)}}),
    ]
    for i, figure in enumerate(drawn):
        plots.save(figure, tmp_path / f"{i}.png")
    assert len(drawn[1].axes) == 5
    assert [len(line.get_xdata()) for line in drawn[2].axes[0].lines] == [2, 2]
    assert len(drawn[3].axes[0].patches) == 3


def test_one_event_pieces_are_no_trouble(training: Lines) -> None:
    single = encode(Performance(np.array([(0, 1, 60, 64)], NOTE_DTYPE)))
    found = copying([single], training)
    assert (found.longest_run, found.percentile_95_of_best_match) == (1, {})
