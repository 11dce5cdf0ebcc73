"""The bundled model: that it is there, says where it comes from, and writes music."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from music_generator.engine.engine import Engine
from music_generator.generation import (
    SamplingOptions,
    compose,
    continue_from,
    generate,
    generate_many,
    infill,
    to_compose,
    to_continue,
    to_infill,
)
from music_generator.model.bundle import FACTS_FILE, PRETRAINED, WEIGHTS_FILE, Bundle, open_bundle, runtime_file
from music_generator.model.pack import Table, layout, pack
from music_generator.music.midi import write_midi
from music_generator.music.performance import Performance


@pytest.fixture(scope="module")
def pretrained() -> Bundle:
    """The bundled model."""
    return open_bundle()


@pytest.fixture(scope="module")
def engine(pretrained: Bundle) -> Engine:
    return Engine(pretrained)


def longest_run(performance: Performance) -> int:
    return max((len(list(group)) for _, group in groupby(performance.notes["pitch"])), default=0)


def longest_rest(performance: Performance, start: float, end: float) -> float:
    return float(np.diff([start, *performance.between(start, end).notes["onset"], end]).max())


def test_it_is_small_and_whole(pretrained):
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*")) < 40_000_000
    assert pretrained.precisions == ("int8",)
    assert set(pretrained.files) == {WEIGHTS_FILE, runtime_file("int8")}
    assert {path.name for path in PRETRAINED.iterdir()} == {FACTS_FILE, "README.md", "LICENSE", *pretrained.files}


def test_its_runtime_is_packed_from_its_weights(pretrained):
    """In 8 bits, by the ranges that its file says: no weight is farther off than half a step."""
    pytest.importorskip("torch", reason="the weights are read with torch, of the extra `train`")
    from music_generator.model.export import load_network

    weights = {name: value.numpy() for name, value in load_network(pretrained).state_dict().items()}
    exact = pack(weights, pretrained.config, None)
    found = pretrained.runtime_tensors("int8")
    for part in layout(pretrained.config):
        if isinstance(part, Table):
            np.testing.assert_allclose(found[part.name], exact[part.name], rtol=2**-11, atol=1e-6)  # of float16
            continue
        scale = found[f"{part.name}.scale"] * found[f"{part.name}.input"][0]
        difference = np.abs(found[f"{part.name}.weight"] * scale - exact[f"{part.name}.weight"])
        assert (difference <= 0.501 * scale + 1e-6).all(), part.name
        np.testing.assert_allclose(found[f"{part.name}.bias"], exact[f"{part.name}.bias"], rtol=1e-5, atol=1e-6)


def test_it_says_where_it_comes_from(pretrained):
    assert "CC BY-NC-SA 4.0" in pretrained.provenance["licence"]
    assert "maestro" in pretrained.provenance["data"].casefold()
    card = (PRETRAINED / "README.md").read_text("utf-8")
    assert "CC BY-NC-SA 4.0" in card
    assert "Hawthorne" in card
    assert "Attribution-NonCommercial-ShareAlike 4.0" in (PRETRAINED / "LICENSE").read_text("utf-8")
    assert pretrained.config.direction == "both"
    assert "Frédéric Chopin" in pretrained.config.composers


def test_its_held_out_likelihood_is_as_promised(pretrained):
    found = pretrained.provenance["validation"]
    assert found["continue"]["total"] <= 9.49
    assert found["infill_64"]["total"] <= found["blind_64"]["total"] - 0.25
    assert found["infill_16"]["total"] <= found["blind_16"]["total"] - 0.40
    assert found["infill_4"]["total"] <= found["blind_4"]["total"] - 0.60


def test_a_minute_is_composed(engine):
    made = compose(engine, 60, SamplingOptions(seed=1, composer="chopin"))
    notes = made.performance.notes
    assert 56 <= notes["onset"][-1] < 60
    assert 2 <= len(notes) / 60 <= 25
    assert 0.03 <= notes["duration"].mean() <= 2
    assert len(set(notes["pitch"])) > 12
    assert notes["velocity"].std() > 3


def test_the_same_seed_gives_the_same_bytes(engine, pretrained):
    options = SamplingOptions(seed=3)
    first = write_midi(compose(engine, 20, options).performance)
    assert first == write_midi(compose(Engine(pretrained), 20, options).performance)
    assert first != write_midi(compose(engine, 20, SamplingOptions(seed=4)).performance)


def test_pieces_written_side_by_side_are_each_as_alone(engine):
    """In its full size too: of all tasks, in any number of slots."""
    piece = compose(engine, 10, SamplingOptions(seed=5)).performance
    spans = [to_compose(4), to_infill(piece, 3, 6), to_continue(piece, 3), to_infill(piece, 0, 2)]
    asked = [(span, SamplingOptions(seed=i)) for i, span in enumerate(spans)]
    alone = [write_midi(generate(engine, *each).performance) for each in asked]
    for size in (3, 8):
        assert [write_midi(made.performance) for made in generate_many(engine, asked, size=size)] == alone
    assert [write_midi(made.performance) for made in generate_many(engine, asked[::-1], size=2)] == alone[::-1]


@pytest.mark.parametrize("seed", range(3))
def test_it_does_not_fail_as_the_seed_did(engine, seed):
    made = compose(engine, 30, SamplingOptions(seed=seed))
    assert longest_run(made.performance) <= 8
    assert longest_rest(made.performance, 0, 30) <= 5
    primer = made.performance.between(0, 8)
    longer = continue_from(engine, primer, 10, SamplingOptions(seed=seed))
    assert longest_run(longer.performance) <= 8
    assert longest_rest(longer.performance, 0, longer.end) <= 5


def test_a_gap_is_filled(engine):
    piece = compose(engine, 20, SamplingOptions(seed=9)).performance
    made = infill(engine, piece, 8, 12, SamplingOptions(seed=10))
    assert made.performance.between(0, 8) == piece.between(0, 8)
    assert made.performance.between(12).notes.tolist() == piece.between(12).notes.tolist()
    later = np.nextafter(12, np.inf)  # a pedal held over the end is held from there on
    assert made.performance.between(later) == piece.between(later)
    others = [infill(engine, piece, 8, 12, SamplingOptions(seed=seed)) for seed in range(11, 15)]
    assert np.median([len(each.written) for each in (made, *others)]) > 4  # where the piece itself has 6
