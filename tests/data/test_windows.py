"""Windows and gaps: what a training step sees, and what the likelihood is measured on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from music_generator.data.corpus import STORED_DTYPE, Corpus
from music_generator.data.windows import (
    Pool,
    WindowOptions,
    even_gaps,
    sample_gaps,
    sample_windows,
    segments,
)
from music_generator.errors import CorpusError, InputError
from music_generator.music.tokens import KEYS, Array, Window
from music_generator.parallel import Shard

PLAIN = WindowOptions(batch=64, length=40, transpose=0, stretch=(1.0,), unknown_composer_share=0.0)


def sampled(corpus: Corpus, options: WindowOptions, *seed: int) -> list[Window]:
    known = {name: i + 1 for i, name in enumerate(corpus.composers)}
    return sample_windows(Pool(corpus, np.asarray(corpus.split("train"))), known, options, seed).windows


def find_all(corpus: Corpus, window: Window) -> list[tuple[int, int]]:
    """Where the window's rows stand: (piece, first row), the first shift left out of the comparison."""
    found = []
    for piece in corpus.split("train"):
        rows = corpus.piece_rows(piece)
        for start in np.flatnonzero(rows["key"][: len(rows) - len(window.rows) + 1] == window.rows["key"][0]):
            part = rows[start : start + len(window.rows)].copy()
            part["shift"][0] = window.rows["shift"][0]
            if np.array_equal(part, window.rows):
                found.append((piece, int(start)))
    return found


def piano(*keys: int, shift: int = 10) -> Array:
    return np.array([(shift, key, 64, 20) for key in keys], STORED_DTYPE)


def one_piece_corpus(rows: Array, like: Corpus) -> Corpus:
    return replace(like, pieces=(replace(like.pieces[0], rows=len(rows), composer=None),), rows=rows)


# --- sampling


def test_windows_depend_on_seed_and_step_only(tiny_corpus: Corpus) -> None:
    options = WindowOptions(batch=8, length=50)
    first, again = sampled(tiny_corpus, options, 3, 17), sampled(tiny_corpus, options, 3, 17)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.rows, other.rows)
        assert (one.composer, one.begins, one.ends) == (other.composer, other.begins, other.ends)
    for seed in ((3, 18), (4, 17)):
        other = sampled(tiny_corpus, options, *seed)
        assert not all(np.array_equal(a.rows, b.rows) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_of_a_batch_are_the_batch(tiny_corpus: Corpus, count: int) -> None:
    """Windows, gaps and the number of tokens do not depend on how many processes share them; short pieces too."""
    short = replace(tiny_corpus, pieces=tuple(replace(piece, rows=30) for piece in tiny_corpus.pieces))
    options = WindowOptions(batch=6, length=50)
    for corpus, tokens in ((tiny_corpus, 6 * 50), (short, 6 * 30)):
        pool = Pool(corpus, np.asarray(corpus.split("train")))
        whole = sample_windows(pool, {}, options, [3, 17])
        assert whole.tokens == tokens == sum(len(window.rows) for window in whole.windows)
        for index in range(1, count + 1):
            part = sample_windows(pool, {}, options, [3, 17], Shard(index, count))
            assert part.tokens == tokens
            assert np.array_equal(part.resume, whole.resume[index - 1 :: count])
            for one, other in zip(part.windows, whole.windows[index - 1 :: count], strict=True):
                assert np.array_equal(one.rows, other.rows)
                assert (one.composer, one.begins, one.ends) == (other.composer, other.begins, other.ends)


def test_windows_never_cross_pieces(tiny_corpus: Corpus) -> None:
    windows = sampled(tiny_corpus, PLAIN, 0)
    assert {len(window.rows) for window in windows} == {PLAIN.length}
    for window in windows:
        ((piece, start),) = find_all(tiny_corpus, window)
        rows = tiny_corpus.piece_rows(piece)
        assert window.begins == (start == 0)
        assert window.ends == (start + len(window.rows) == len(rows))
        assert window.rows["shift"][0] == rows["shift"][start]
        assert tiny_corpus.composers[window.composer - 1] == tiny_corpus.pieces[piece].composer
    assert sum(window.begins for window in windows) > 0  # chance alone would show one in three hundred
    assert sum(window.ends for window in windows) > 0


def test_pieces_come_in_proportion_to_their_rows(tiny_corpus: Corpus) -> None:
    windows = sampled(tiny_corpus, replace(PLAIN, batch=400), 1)
    counts = Counter(find_all(tiny_corpus, window)[0][0] for window in windows)
    assert set(counts) == set(tiny_corpus.split("train"))
    assert all(50 < count < 110 for count in counts.values())  # 80 expected, standard deviation 8


def test_a_short_piece_is_one_window(tiny_corpus: Corpus) -> None:
    corpus = one_piece_corpus(piano(*range(30, 50)), tiny_corpus)
    (window,) = sample_windows(Pool(corpus, np.array([0])), {}, replace(PLAIN, batch=1), [0]).windows
    assert (len(window.rows), window.begins, window.ends, window.composer) == (20, True, True, 0)
    assert window.rows["shift"][0] == 0


def test_composers_are_often_left_unknown(tiny_corpus: Corpus) -> None:
    windows = sampled(tiny_corpus, replace(PLAIN, batch=400, unknown_composer_share=0.5), 2)
    assert 150 < sum(window.composer == 0 for window in windows) < 250
    windows = sampled(tiny_corpus, replace(PLAIN, unknown_composer_share=1.0), 2)
    assert {window.composer for window in windows} == {0}


# --- augmentation


@pytest.mark.parametrize("keys", [(40, 45, KEYS, 50), (0, 40, KEYS + 2), (KEYS - 1, 60, KEYS + 1), (KEYS, KEYS + 1)])
def test_transposition_stays_on_the_piano_and_leaves_pedals(tiny_corpus: Corpus, keys: tuple[int, ...]) -> None:
    rows = piano(*keys)
    corpus = one_piece_corpus(rows, tiny_corpus)
    options = replace(PLAIN, batch=300, length=len(keys), transpose=3)
    seen = set()
    for window in sample_windows(Pool(corpus, np.array([0])), {}, options, [0]).windows:
        is_note = rows["key"] < KEYS
        assert window.rows["key"][~is_note].tolist() == rows["key"][~is_note].tolist()
        moved = window.rows["key"][is_note].astype(int) - rows["key"][is_note]
        assert window.rows["key"][is_note].max(initial=0) < KEYS
        seen |= set(moved.tolist())
        assert len(set(moved.tolist())) <= 1
    notes = [key for key in keys if key < KEYS]
    expected = set(range(max(-3, -min(notes)), min(3, KEYS - 1 - max(notes)) + 1)) if notes else set()
    assert seen == expected


@pytest.mark.parametrize("stretch", [0.5, 0.95, 1.025, 1.05])
def test_stretching_keeps_order_and_durations(tiny_corpus: Corpus, stretch: float) -> None:
    plain = sampled(tiny_corpus, PLAIN, 5)
    stretched = sampled(tiny_corpus, replace(PLAIN, stretch=(stretch,)), 5)
    for one, other in zip(plain, stretched, strict=True):
        assert sorted(one.rows["key"].tolist()) == sorted(other.rows["key"].tolist())
        assert (other.rows["duration"] >= 1).all()
        onsets = [np.cumsum(rows["shift"], dtype=np.int64) for rows in (one.rows, other.rows)]
        np.testing.assert_allclose(onsets[1], onsets[0] * stretch, atol=0.5)
        ends = [np.sort(onset + w.rows["duration"]) for onset, w in zip(onsets, (one, other), strict=True)]
        np.testing.assert_allclose(ends[1], ends[0] * stretch, atol=1.01)
        before = list(zip(onsets[1].tolist(), other.rows["key"].tolist(), strict=True))
        assert before == sorted(before)  # also where two ticks became one


def test_all_stretches_are_used(tiny_corpus: Corpus) -> None:
    rows = piano(40, 41, shift=1000)
    corpus = one_piece_corpus(rows, tiny_corpus)
    options = replace(WindowOptions(), batch=100, length=2)
    windows = sample_windows(Pool(corpus, np.array([0])), {}, options, [0]).windows
    assert {int(window.rows["shift"][1]) for window in windows} == {900, 925, 950, 975, 1000, 1025, 1050, 1075, 1100}


# --- gaps


def gaps_of(resume: Array, total: int) -> list[tuple[int, int]]:
    """(start, stop) of each stretch of equal resume tokens."""
    edges = [0, *(np.flatnonzero(np.diff(resume[:total])) + 1).tolist(), total]
    return list(pairwise(edges))


def test_sample_gaps_end_where_they_resume() -> None:
    options = WindowOptions(length=200, future_share=1.0, shortest_gap=4, longest_gap=16)
    windows = [Window(piano(*[40] * n), False, False) for n in [200] * 300 + [90] * 20 + [3]]
    resume = sample_gaps(windows, 200, options, np.random.default_rng(0))
    assert resume.shape == (len(windows), 200)
    lengths = []
    for row, window in zip(resume, windows, strict=True):
        total = len(window.rows)
        assert (row[total:] == 200).all()
        for start, stop in gaps_of(row, total):
            if stop < total:
                assert (row[start:stop] == stop).all()
                lengths.append(stop - start)
            else:
                assert (row[start:stop] == 200).all()  # the last gap has no future
    counts = np.bincount(lengths, minlength=17)
    assert counts[:4].sum() == 0
    assert len(counts) == 17
    # log-uniform: n and n + 1 are as far apart as their logarithms
    expected = np.diff(np.log(np.arange(4, 18))) / np.log(17 / 4)
    np.testing.assert_allclose(counts[4:] / len(lengths), expected, atol=0.02)


def test_the_share_of_gaps_with_a_future() -> None:
    windows = [Window(piano(*[40] * 200), False, False)] * 200
    rng = np.random.default_rng(0)
    for share, low, high in ((0.0, 0.0, 0.0), (0.5, 0.4, 0.5), (1.0, 0.9, 1.0)):
        options = WindowOptions(length=200, future_share=share, longest_gap=16)
        given = (sample_gaps(windows, 200, options, rng) < 200).mean()
        assert low <= given <= high


@pytest.mark.parametrize("gap", [1, 4, 7, 64])
def test_even_gaps(gap: int) -> None:
    windows = [Window(piano(*[40] * n), False, False) for n in (32, 20, 4, 1)]
    resume = even_gaps(windows, 32, gap)
    for row, window in zip(resume, windows, strict=True):
        for t in range(32):
            stop = (t // gap + 1) * gap
            assert row[t] == (stop if stop < len(window.rows) else 32)


# --- segments and batches


@pytest.mark.parametrize("length", [50, 325, 512])
def test_segments_cover_a_split_once(tiny_corpus: Corpus, length: int) -> None:
    windows = segments(tiny_corpus, "validation", length)
    whole = np.concatenate([tiny_corpus.piece_rows(i) for i in tiny_corpus.split("validation")])
    assert np.array_equal(np.concatenate([window.rows for window in windows]), whole)
    assert {window.composer for window in windows} == {0}
    assert max(len(window.rows) for window in windows) <= length
    assert sum(window.begins for window in windows) == sum(window.ends for window in windows) == 2


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
def test_some_segments_are_evenly_spread_ones_of_all(tiny_corpus: Corpus, limit: int) -> None:
    every, some = segments(tiny_corpus, "train", 90), segments(tiny_corpus, "train", 90, limit)
    places = np.linspace(0, len(every) - 1, limit).astype(int) if limit < len(every) else range(len(every))
    assert len(every) > 8
    for place, window in zip(places, some, strict=True):
        assert np.array_equal(window.rows, every[place].rows)
        assert (window.begins, window.ends) == (every[place].begins, every[place].ends)


def test_segments_of_an_empty_split(tiny_corpus: Corpus) -> None:
    corpus = replace(tiny_corpus, folder=Path("here"), pieces=tiny_corpus.pieces[:5])
    with pytest.raises(CorpusError, match="here: its test split is empty"):
        segments(corpus, "test", 512)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"batch": 0}, r"`batch` \(0\) must be at least 1 and `length` \(256\) at least 2"),
        ({"length": 1}, r"`length` \(1\) at least 2"),
        ({"future_share": 1.1}, r"`future_share` \(1.1\) and `unknown_composer_share` \(0.5\) must be 0 to 1"),
        ({"shortest_gap": 65}, r"`shortest_gap` \(65\) must be 1 to `longest_gap` \(64\)"),
        ({"transpose": -1}, "`transpose` must be 0 to 87, not -1"),
        ({"stretch": (1.0, 0.0)}, r"each factor of `stretch` must be above 0, not \(1.0, 0.0\)"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        WindowOptions(**wrong)  # type: ignore[arg-type]
