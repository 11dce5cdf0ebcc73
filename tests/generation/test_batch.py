"""A batch of pieces as files, without the command line: seeds, shards, processes, and resuming."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import made_performance
from music_generator.engine.rules import Habituation
from music_generator.errors import InputError
from music_generator.generation import Generated, SamplingOptions, Span, to_compose, to_continue, to_infill
from music_generator.generation.batch import BatchOptions, Plan, Request, plan_batch, write_batch
from music_generator.generation.keep import melody
from music_generator.music.features import Distributions
from music_generator.music.midi import write_midi
from music_generator.parallel import Shard

SHARD = BatchOptions(variations=5, shard=Shard(1, 2))


@dataclass(frozen=True)
class Scores:
    """An output of two files a piece: the MIDI file, and its number of notes as text."""

    folder: Path
    name: str = "score"

    def files(self, seed: int) -> list[Path]:
        return [self.folder / f"{self.name}-{seed}.mid", self.folder / f"{self.name}-{seed}.txt"]

    def write(self, piece: Generated, reference: Distributions) -> int:
        midi, text = self.files(piece.seed)
        write_midi(piece.performance, midi)
        text.write_text(f"{len(piece.written)} notes, {len(reference.counts)} histograms", "utf-8")
        return piece.seed


@pytest.fixture
def request_(tiny_bundle: Path) -> Request:
    return Request(to_compose(2.0), SamplingOptions(seed=7), tiny_bundle)


@pytest.fixture
def output(tmp_path: Path) -> Scores:
    return Scores(tmp_path / "out")


def seeds(plan: Plan) -> list[int | None]:
    return [piece.seed for piece in plan.pieces]


def written(output: Scores) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.folder.iterdir())}


def run(request: Request, output: Scores, options: BatchOptions) -> tuple[list[int], int]:
    """What came of a batch, and how many pieces were kept."""
    plan = plan_batch(request, output, options)
    return list(write_batch(request, plan.pieces, output, jobs=options.jobs)), plan.kept


def test_the_seeds_follow_one_another(request_, output):
    assert run(request_, output, BatchOptions(variations=3)) == ([7, 8, 9], 0)
    assert set(written(output)) == {f"score-{seed}.{end}" for seed in (7, 8, 9) for end in ("mid", "txt")}


def test_without_a_seed_one_is_drawn(request_, output):
    unseeded = replace(request_, sampling=SamplingOptions())
    first = seeds(plan_batch(unseeded, output, BatchOptions(variations=2)))
    assert first[1] == int(first[0] or 0) + 1
    assert first != seeds(plan_batch(unseeded, output, BatchOptions(variations=2)))


def test_shards_take_turns_and_together_are_the_whole(request_, output, tmp_path):
    run(request_, output, BatchOptions(variations=5))
    shards = Scores(tmp_path / "shards")
    assert run(request_, shards, SHARD)[0] == [7, 9, 11]
    assert run(request_, shards, replace(SHARD, shard=Shard(2, 2)))[0] == [8, 10]
    assert {name: data for name, data in written(shards).items() if name != "score-request.json"} == written(output)


def test_processes_write_the_same_and_yield_in_order(request_, output, tmp_path):
    run(request_, output, BatchOptions(variations=5))
    several = Scores(tmp_path / "several")
    assert run(request_, several, BatchOptions(variations=5, jobs=2))[0] == [7, 8, 9, 10, 11]
    assert written(several) == written(output)


def test_a_shard_keeps_the_pieces_that_exist_whole(request_, output):
    run(request_, output, SHARD)
    before = written(output)
    first, second = output.files(9)
    second.unlink()
    first.write_bytes(b"incomplete: its text is missing")
    output.files(7)[0].write_bytes(b"kept, whatever it holds")
    assert run(request_, output, SHARD) == ([9], 2)
    assert written(output) == before | {"score-7.mid": b"kept, whatever it holds"}
    assert run(request_, output, SHARD) == ([], 3)
    assert run(request_, output, replace(SHARD, overwrite=True)) == ([7, 9, 11], 0)
    assert written(output) == before


def test_another_number_of_shards_may_resume(request_, output):
    run(request_, output, SHARD)
    assert run(request_, output, replace(SHARD, shard=Shard(1, 1))) == ([8, 10], 3)


def test_without_a_shard_everything_is_written_again(request_, output):
    run(request_, output, BatchOptions(variations=2))
    assert run(request_, output, BatchOptions(variations=2)) == ([7, 8], 0)


def test_a_shard_without_pieces_leaves_nothing(request_, output):
    assert run(request_, output, BatchOptions(variations=1, shard=Shard(2, 3))) == ([], 0)
    assert not output.folder.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sampling": SamplingOptions(seed=7, temperature=2.0, top_p=0.5)}, "temperature, top_p;"),
        ({"span": to_compose(3.0)}, "end;"),
        ({"span": to_compose(2.0, notes=4)}, "notes, closes;"),
        ({"span": to_compose(2.0, open_end=True)}, "closes;"),
        ({"sampling": SamplingOptions(seed=7, density=6.0, loudness=50.0, returns=2.0)}, "density, loudness, returns;"),
        ({"sampling": SamplingOptions(seed=7, habituation=Habituation(9.0))}, "habituation;"),
    ],
)
def test_pieces_of_another_request_are_refused(request_, output, changes, named):
    run(request_, output, SHARD)
    before = written(output)
    for options in (SHARD, replace(SHARD, overwrite=True)):
        with pytest.raises(InputError, match=f"its pieces differ from those asked for in {named} use another folder"):
            run(replace(request_, **changes), output, options)
    assert written(output) == before


def test_a_fingerprint_leaves_out_the_seed_and_names_the_model(request_, tiny_bundle, tmp_path):
    facts = request_.fingerprint()
    assert "seed" not in facts
    assert json.loads(json.dumps(facts)) == facts
    assert replace(request_, sampling=SamplingOptions(seed=8)).fingerprint() == facts
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(tiny_bundle)
    assert replace(request_, model=tmp_path / "run").fingerprint() == facts


def test_files_of_no_known_request_are_refused(request_, output):
    run(request_, output, BatchOptions())
    with pytest.raises(InputError, match=r"score-7\.mid exists and was written by another command"):
        run(request_, output, SHARD)
    assert run(request_, output, replace(SHARD, overwrite=True)) == ([7, 9, 11], 0)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00"])
def test_a_damaged_record_is_refused(request_, output, text):
    run(request_, output, SHARD)
    (output.folder / "score-request.json").write_text(text)
    with pytest.raises(InputError, match=r"score-request\.json is damaged .*; delete it, or use another folder"):
        run(request_, output, SHARD)


def test_a_shard_needs_a_seed(request_, output):
    with pytest.raises(InputError, match="`shard` needs a `seed`"):
        plan_batch(replace(request_, sampling=SamplingOptions()), output, SHARD)


@pytest.mark.parametrize("name", ["variations", "jobs"])
def test_numbers_below_1_are_refused(name):
    with pytest.raises(InputError, match=f"`{name}` must be at least 1, not 0"):
        BatchOptions(**{name: 0})


class Killed(Scores):
    """An output whose process is killed."""

    def write(self, piece: Generated, reference: Distributions) -> int:  # noqa: ARG002
        os._exit(9)


def test_a_killed_process_is_said(request_, tmp_path):
    with pytest.raises(InputError, match="one of 2 `jobs` was killed"):
        run(request_, Killed(tmp_path), BatchOptions(variations=4, jobs=2))


def test_what_goes_wrong_in_a_process_is_raised(request_, output):
    unknown = replace(request_, sampling=SamplingOptions(seed=7, composer="Schopen"))
    with pytest.raises(InputError, match="unknown composer 'Schopen'"):
        run(unknown, output, BatchOptions(variations=4, jobs=2))


def test_a_shard_with_a_passage_to_come_back_to_and_kept_notes_resumes(request_, output):
    """What is asked for is compared with what was stored as JSON."""
    piece = made_performance(1, 20)
    span = to_continue(piece, 1.0, recall=(0.5, 1.5))
    for each in (span, to_infill(piece, 0.5, 1.5, keep=melody)):
        asked, folder = replace(request_, span=each), folder_of(output, each)
        assert run(asked, folder, SHARD) == ([7, 9, 11], 0)
        assert run(asked, folder, SHARD) == ([], 3)
    with pytest.raises(InputError, match="differ from those asked for in recall;"):
        run(replace(request_, span=replace(span, recall=(0.5, 1.0))), folder_of(output, span), SHARD)


def folder_of(output: Scores, span: Span) -> Scores:
    """A folder for the pieces of a span."""
    return replace(output, folder=output.folder / str(span.end))
