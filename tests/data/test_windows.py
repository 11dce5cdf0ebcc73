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
    KEPT_SHARES,
    PARTING_KEYS,
    Gaps,
    Pool,
    WindowOptions,
    composer_names,
    even_gaps,
    sample_gaps,
    sample_windows,
    segments,
)
from music_generator.errors import CorpusError, InputError
from music_generator.music.tokens import KEYS, Array, Window, density_class, loudness_class
from music_generator.music.voices import CHORD_SECONDS, highest_tokens, lowest_tokens
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
            for name, value in vars(whole.gaps).items():
                assert np.array_equal(getattr(part.gaps, name), value[index - 1 :: count]), name
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

# as they were before there were gaps by time, kept notes and what is told
BY_TOKENS = WindowOptions(length=200, future_share=1.0, shortest_gap=4, longest_gap=16, timed_share=0.0, kept_share=0.0)


def line(count: int, ends: bool = False, shift: int = 10) -> Window:
    """A window of notes one after another."""
    return Window(piano(*[40] * count, shift=shift), False, ends)


def many(window: Window, options: WindowOptions, count: int) -> list[Gaps]:
    rng = np.random.default_rng(0)
    return [sample_gaps(window, options, rng) for _ in range(count)]


def stretches(gaps: Gaps, total: int) -> list[tuple[int, int]]:
    """(start, stop) of each stretch of equal resume tokens of the first window."""
    edges = [0, *(np.flatnonzero(np.diff(gaps.resume[0, :total])) + 1).tolist(), total]
    return list(pairwise(edges))


def test_sample_gaps_end_where_they_resume() -> None:
    lengths = []
    for total, count in ((200, 300), (90, 20), (3, 1)):
        for gaps in many(line(total), BY_TOKENS, count):
            assert gaps.resume.shape == (1, 200)
            assert (gaps.resume[0, total:] == 201).all()
            for start, stop in stretches(gaps, total):
                if stop < total:
                    assert (gaps.resume[0, start:stop] == stop).all()
                    lengths.append(stop - start)
                else:
                    assert (gaps.resume[0, start:stop] == 201).all()  # the last gap has no future
            stops = [stop for _, stop in stretches(gaps, total)[:-1]]
            assert np.flatnonzero(gaps.ends[0]).tolist() == stops
            assert not gaps.kept.any()
            assert gaps.thinned.tolist() == [0]
    counts = np.bincount(lengths, minlength=17)
    assert counts[:4].sum() == 0
    assert len(counts) == 17
    # log-uniform: n and n + 1 are as far apart as their logarithms
    expected = np.diff(np.log(np.arange(4, 18))) / np.log(17 / 4)
    np.testing.assert_allclose(counts[4:] / len(lengths), expected, atol=0.02)


@pytest.mark.parametrize("total", [200, 90])
def test_the_end_of_a_piece_is_a_future(total: int) -> None:
    """Its resume token is the number of tokens; where the window is cut there is none."""
    for gaps in many(line(total, ends=True), BY_TOKENS, 20):
        start, stop = stretches(gaps, total)[-1]
        assert stop == total
        assert (gaps.resume[0, start:total] == total).all()
        assert (gaps.resume[0, total:] == 201).all()
        assert gaps.ends[0, total]
    for gaps in many(line(total), BY_TOKENS, 20):
        assert (gaps.resume[0, :total] != total).all()
        assert not gaps.ends[0, total]


def test_the_share_of_gaps_with_a_future() -> None:
    for share, low, high in ((0.0, 0.0, 0.0), (0.5, 0.4, 0.5), (1.0, 0.9, 1.0)):
        options = replace(BY_TOKENS, future_share=share)
        given = np.mean([(gaps.resume <= 200).mean() for gaps in many(line(200), options, 200)])
        assert low <= given <= high


def test_gaps_by_time_have_the_lengths_asked_for(tiny_corpus: Corpus) -> None:
    """Onset to onset, and no longer than that takes; a gap has a token even where the next is far."""
    rows = tiny_corpus.piece_rows(0)[:200]
    rows["shift"][50] = 900
    onsets = np.cumsum(rows["shift"], dtype=np.int64)
    for seconds in (0.5, 3.0):
        options = replace(BY_TOKENS, timed_share=1.0, gap_seconds=(seconds, seconds))
        places = stretches(sample_gaps(Window(rows, False, False), options, np.random.default_rng(0)), 200)
        assert len(places) > 5
        for start, stop in places[:-1]:
            assert onsets[stop] - onsets[start] >= 100 * seconds
            assert onsets[stop - 1] - onsets[start] < 100 * seconds


def test_gaps_by_time_are_log_uniform() -> None:
    options = replace(BY_TOKENS, length=20_000, timed_share=1.0, gap_seconds=(0.25, 8.0))
    seconds = []
    for gaps in many(line(20_000, shift=1), options, 15):
        seconds += [(stop - start) / 100 for start, stop in stretches(gaps, 20_000)[:-1]]
    assert min(seconds) >= 0.25
    assert max(seconds) <= 8.01
    below = [np.mean(np.asarray(seconds) < bound) for bound in (0.5, 1.0, 2.0, 4.0)]
    np.testing.assert_allclose(below, [0.2, 0.4, 0.6, 0.8], atol=0.03)


def test_the_share_of_windows_cut_by_time() -> None:
    """By time a gap of notes 10 s apart is one note."""
    options = replace(BY_TOKENS, timed_share=0.3, gap_seconds=(0.25, 1.0))
    windows = many(line(100, shift=1000), options, 400)
    assert 90 < sum(stretches(gaps, 100)[0] == (0, 1) for gaps in windows) < 150


@pytest.mark.parametrize("gap", [1, 4, 7, 64])
def test_even_gaps(gap: int) -> None:
    windows = [line(n) for n in (32, 20, 4, 1)]
    gaps = even_gaps(windows, 32, gap)
    for row, window in enumerate(windows):
        for t in range(32):
            stop = (t // gap + 1) * gap
            assert gaps.resume[row, t] == (stop if stop < len(window.rows) else 33)
        assert np.flatnonzero(gaps.ends[row]).tolist() == list(range(gap, len(window.rows), gap))


# --- kept notes

KEPT = WindowOptions(length=300, kept_share=1.0, future_share=1.0, longest_gap=16)


def test_the_outermost_notes_of_chords_by_hand() -> None:
    """Within five ticks; a pedal is no note, and a chord rolled more slowly is a line."""
    assert CHORD_SECONDS == 0.05
    shift_key = [(0, 40), (2, 60), (3, 50), (1, KEYS), (5, 55), (5, 54), (40, 30), (6, 31), (0, 33)]
    rows = np.array([(shift, key, 64, 20) for shift, key in shift_key], STORED_DTYPE)
    #  onsets: 40 at 0, 60 at 2, 50 at 5, 55 at 11, 54 at 16, 30 at 56, 31 and 33 at 62
    assert rows["key"][highest_tokens(rows)].tolist() == [60, 55, 30, 33]
    assert rows["key"][lowest_tokens(rows)].tolist() == [40, 54, 30, 31]
    assert not highest_tokens(rows)[rows["key"] == KEYS].any()
    for some in (rows[:0], rows[3:4], rows[:1]):
        assert (
            highest_tokens(some).tolist() == lowest_tokens(some).tolist() == [bool(key < KEYS) for key in some["key"]]
        )


def test_melody_bass_register_or_random_notes_are_kept(tiny_corpus: Corpus) -> None:
    """Each in some windows, and nothing else; never a pedal."""
    window = Window(tiny_corpus.piece_rows(0)[:300], True, False)
    assert (window.rows["key"] >= KEYS).any()
    seen: Counter[str] = Counter()
    for gaps in many(window, KEPT, 200):
        stop = int(gaps.thinned[0])
        assert 75 <= stop <= 300
        rows, kept = window.rows[:stop], gaps.kept[0, :stop]
        note = rows["key"] < KEYS
        assert not kept[~note].any()
        assert not gaps.kept[0, stop:].any()
        seen[kind_of(rows, kept)] += 1
    assert set(seen) == {"melody", "bass", "register", "random"}
    assert min(seen.values()) > 30  # of 50 expected


def kind_of(rows: Array, kept: Array) -> str:
    """In which of the ways these notes are kept."""
    note, key = rows["key"] < KEYS, rows["key"]
    if np.array_equal(kept, highest_tokens(rows)):
        return "melody"
    if np.array_equal(kept, lowest_tokens(rows)):
        return "bass"
    for parting in range(*PARTING_KEYS):
        if any(np.array_equal(kept, note & side) for side in (key >= parting, key < parting)):
            return "register"
    share = kept[note].mean()
    assert KEPT_SHARES[0] - 0.1 < share < KEPT_SHARES[1] + 0.1, share
    return "random"


@pytest.mark.parametrize("total", [200, 5])
def test_between_kept_notes_lie_gaps(tiny_corpus: Corpus, total: int) -> None:
    """Each token resumes at the next kept one, the last ones where nothing is thinned; from there on as usual.

    Where all is thinned, what comes after the last kept note has no future, as the window's end is no end.
    """
    window = Window(tiny_corpus.piece_rows(0)[:total], True, False)
    thinned = []
    for gaps in many(window, replace(KEPT, length=200), 100):
        stop = int(gaps.thinned[0])
        ends = [*np.flatnonzero(gaps.kept[0]).tolist(), *([stop] if stop < total else [])]
        for t in range(stop):
            later = [end for end in ends if end > t]
            assert gaps.resume[0, t] == (later[0] if later else 201)
        assert np.flatnonzero(gaps.ends[0, : stop + 1]).tolist() == ends
        for start, end in stretches(gaps, total)[:-1]:
            if start >= stop:
                assert (gaps.resume[0, start:end] == end).all()
                assert gaps.ends[0, end]
        thinned.append(stop)
    assert len(set(thinned)) > 50 or set(thinned) == {1, 2, 3, 4, 5}


def test_the_share_of_windows_with_kept_notes() -> None:
    options = replace(KEPT, kept_share=0.3)
    assert 90 < sum(bool(gaps.thinned[0]) for gaps in many(line(60), options, 400)) < 150


# --- what a gap is told


def test_gaps_are_told_their_density_and_loudness(tiny_corpus: Corpus) -> None:
    """Notes a second and mean velocity of the gap's notes; not of less than a second, where they say little."""
    rows = tiny_corpus.piece_rows(0)[:200]
    onsets = np.cumsum(rows["shift"], dtype=np.int64)
    told = 0
    for gaps in many(Window(rows, True, False), replace(BY_TOKENS, told_share=1.0), 20):
        for start, stop in stretches(gaps, 200)[:-1]:
            note = rows["key"][start:stop] < KEYS
            seconds = (onsets[stop] - onsets[start]) / 100
            density, loudness = 0, 0
            if seconds >= 1:
                density = density_class(note.sum() / seconds)
                loudness = loudness_class(rows["velocity"][start:stop][note].mean())
                told += 1
            assert set(gaps.density[0, start:stop].tolist()) == {density}
            assert set(gaps.loudness[0, start:stop].tolist()) == {loudness}
    assert told > 50


def test_pedals_alone_have_neither_density_nor_loudness() -> None:
    window = Window(piano(*[KEYS] * 50, shift=200), True, False)
    for gaps in many(window, replace(BY_TOKENS, told_share=1.0), 5):
        assert not gaps.density.any()
        assert not gaps.loudness.any()


def test_the_share_of_gaps_that_are_told() -> None:
    """Each of the two by itself; of kept notes' windows the thinned part is told as a whole."""
    options = replace(BY_TOKENS, length=400, told_share=0.25, shortest_gap=16)
    gaps = many(line(400), options, 100)
    starts = [(g.density[0, start] > 0, g.loudness[0, start] > 0) for g in gaps for start, _ in stretches(g, 400)[:-1]]
    density, loudness = np.asarray(starts).T
    for share, expected in ((density, 0.25), (loudness, 0.25), (density & loudness, 0.0625)):
        assert share.mean() == pytest.approx(expected, abs=0.03)
    for kept in many(line(300), replace(KEPT, told_share=1.0), 10):
        stop = int(kept.thinned[0])
        assert set(kept.density[0, :stop].tolist()) == {density_class(10.0)}
        assert set(kept.loudness[0, :stop].tolist()) == {loudness_class(64.0)}


# --- music that is told apart


def tagged(corpus: Corpus) -> Corpus:
    """The corpus with its first train piece under the tag of the piano rolls and its second under another."""
    first, second, *others = corpus.pieces
    return replace(corpus, pieces=(replace(first, tag="rolls"), replace(second, tag="asap"), *others))


def test_a_tag_apart_stands_for_the_composers_and_is_never_unknown(tiny_corpus: Corpus) -> None:
    corpus = tagged(tiny_corpus)
    names = composer_names(corpus, ("rolls",))
    assert names == ("Alban Berg", "Frédéric Chopin", "rolls")
    known = {name: i + 1 for i, name in enumerate(names)}
    pool = Pool(corpus, np.asarray(corpus.split("train")))
    options = replace(PLAIN, batch=200, unknown_composer_share=0.5)
    seen = Counter()
    for window in sample_windows(pool, known, options, [0]).windows:
        ((piece, _),) = find_all(corpus, window)
        assert window.plain == (piece == 0)
        seen[piece, window.composer] += 1
        composer = known[corpus.pieces[piece].composer or ""]
        assert window.composer in ((known["rolls"],) if piece == 0 else (0, composer))
    assert seen[0, 3] > 20
    assert seen[1, 0] > 5
    assert seen[1, 2] > 5
    none = replace(options, apart=())
    assert not any(window.plain for window in sample_windows(pool, known, none, [0]).windows)


def test_composers_of_music_apart_are_not_named(tiny_corpus: Corpus) -> None:
    first, *others = tagged(tiny_corpus).pieces
    corpus = replace(tiny_corpus, pieces=(replace(first, composer="Joseph Hofmann"), *others))
    assert composer_names(corpus, ("rolls",)) == ("Alban Berg", "Frédéric Chopin", "rolls")
    assert composer_names(corpus, ()) == corpus.composers == ("Alban Berg", "Frédéric Chopin", "Joseph Hofmann")
    held_out = replace(corpus, pieces=tuple(replace(piece, split="test") for piece in corpus.pieces))
    assert composer_names(held_out, ("rolls",)) == ()


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
        ({"batch": 0}, r"`batch` \(0\) must be at least 1 and `length` \(1024\) at least 2"),
        ({"length": 1}, r"`length` \(1\) at least 2"),
        ({"future_share": 1.1}, "`future_share` must be 0 to 1, not 1.1"),
        ({"timed_share": -0.1}, "`timed_share` must be 0 to 1, not -0.1"),
        ({"kept_share": 2}, "`kept_share` must be 0 to 1, not 2"),
        ({"told_share": float("nan")}, "`told_share` must be 0 to 1, not nan"),
        ({"unknown_composer_share": 1.5}, "`unknown_composer_share` must be 0 to 1, not 1.5"),
        (
            {"gap_seconds": (2.0, 1.0)},
            r"`gap_seconds` must be two numbers above 0, the shorter first, not \(2.0, 1.0\)",
        ),
        (
            {"gap_seconds": (0.0, 1.0)},
            r"`gap_seconds` must be two numbers above 0, the shorter first, not \(0.0, 1.0\)",
        ),
        ({"gap_seconds": (1.0,)}, r"`gap_seconds` must be two numbers above 0, the shorter first, not \(1.0,\)"),
        ({"gap_seconds": (1.0, float("inf"))}, r"`gap_seconds` must be two numbers above 0, .*, not \(1.0, inf\)"),
        ({"shortest_gap": 65}, r"`shortest_gap` \(65\) must be 1 to `longest_gap` \(64\)"),
        ({"transpose": -1}, "`transpose` must be 0 to 87, not -1"),
        ({"stretch": (1.0, 0.0)}, r"each factor of `stretch` must be above 0, not \(1.0, 0.0\)"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        WindowOptions(**wrong)  # type: ignore[arg-type]
