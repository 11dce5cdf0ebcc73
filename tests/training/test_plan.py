"""The size of a run, and the options that suit a small corpus; no torch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from music_generator.data.corpus import STORED_DTYPE, Corpus
from music_generator.data.windows import WindowOptions
from music_generator.training.options import TrainingOptions
from music_generator.training.plan import MIN_STEPS, fit_to_corpus, tokens_per_step, total_steps

DEFAULT = TrainingOptions()
WINDOWS = DEFAULT.windows


def corpus_of(like: Corpus, *rows: int) -> Corpus:
    """A corpus of a train split alone, of pieces with this number of rows."""
    pieces = tuple(replace(like.pieces[0], rows=count, split="train") for count in rows)
    return replace(like, pieces=pieces, rows=np.zeros(sum(rows), STORED_DTYPE))


def test_total_steps(tiny_corpus: Corpus) -> None:
    rows = sum(tiny_corpus.pieces[i].rows for i in tiny_corpus.split("train"))
    options = TrainingOptions(windows=WindowOptions(batch=4, length=32))
    assert total_steps(tiny_corpus, replace(options, steps=12)) == 12
    assert total_steps(tiny_corpus, replace(options, epochs=3)) == math.ceil(3 * rows / (4 * 32))
    assert total_steps(tiny_corpus, replace(options, epochs=1e-6)) == 1


def test_pieces_shorter_than_a_window_give_fewer_tokens_a_step(tiny_corpus: Corpus) -> None:
    """Each epoch goes through all tokens all the same."""
    options = TrainingOptions(epochs=10, windows=WindowOptions(batch=4, length=200))
    corpus = corpus_of(tiny_corpus, 100, 300)
    assert tokens_per_step(corpus, options) == 4 * (100 * 100 + 300 * 200) / 400
    assert total_steps(corpus, options) == math.ceil(10 * 400 / 700)


def test_a_larger_corpus_has_the_default_options(tiny_corpus: Corpus) -> None:
    for rows in ([1024, 60_000], [1500] * 60):
        assert fit_to_corpus(corpus_of(tiny_corpus, *rows), DEFAULT, ()) == (DEFAULT, [])


def test_a_small_corpus_has_smaller_batches(tiny_corpus: Corpus) -> None:
    """Fifteen files: 37 steps would hardly change a model, the same tokens in smaller steps do."""
    corpus = corpus_of(tiny_corpus, *[2000] * 15)
    options, lines = fit_to_corpus(corpus, DEFAULT, ())
    assert options == replace(DEFAULT, windows=replace(WINDOWS, batch=4))
    assert lines == ["4 windows a step, which makes 74 steps instead of 37"]
    assert fit_to_corpus(corpus, DEFAULT, (), processes=8)[0].windows.batch == 8
    assert fit_to_corpus(corpus, DEFAULT, {"batch"})[0].windows == WINDOWS


def test_a_tiny_corpus_has_more_epochs_and_shorter_windows(tiny_corpus: Corpus) -> None:
    corpus = corpus_of(tiny_corpus, 40, 30)
    options, lines = fit_to_corpus(corpus, DEFAULT, ())
    assert options == replace(DEFAULT, steps=MIN_STEPS, windows=replace(WINDOWS, batch=4, length=40, longest_gap=10))
    assert lines == [
        "windows of 40 tokens with gaps of up to 10, as the longest piece has 40 tokens",
        "4 windows a step, which makes 64 steps instead of 3",
    ]
    assert total_steps(corpus, options) == MIN_STEPS


@pytest.mark.parametrize("name", ["batch", "length", "longest_gap", "epochs", "steps"])
def test_what_was_given_stays(tiny_corpus: Corpus, name: str) -> None:
    asked = replace(DEFAULT, epochs=3.0, windows=WindowOptions(batch=16, length=100, longest_gap=50))
    if name == "steps":
        asked = replace(asked, steps=3)
    fitted, _ = fit_to_corpus(corpus_of(tiny_corpus, 40, 30), asked, {name})
    owner, other = (fitted, asked) if name in ("epochs", "steps") else (fitted.windows, asked.windows)
    assert getattr(owner, name) == getattr(other, name)
    if name in ("epochs", "steps"):
        assert fitted.steps == asked.steps


@pytest.mark.parametrize("rows", [[1], [1, 2], []])
def test_next_to_nothing(tiny_corpus: Corpus, rows: list[int]) -> None:
    options, _ = fit_to_corpus(corpus_of(tiny_corpus, *rows), DEFAULT, ())
    assert options.windows.length == (2 if rows else WINDOWS.length)
    assert options.windows.shortest_gap <= options.windows.longest_gap
