"""The runtime: what it reads is what it would have written itself, and what does not fit is said so."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from music_generator.corpus import Corpus
from music_generator.errors import BundleError, InputError
from music_generator.generation import engine as engines
from music_generator.generation.engine import Drawn, Engine, Limits, Stream
from music_generator.model.bundle import FACTS_FILE, Bundle, open_bundle
from music_generator.model.config import FIELDS
from music_generator.tokens import DURATION_BINS, SHIFT_BINS, SHIFT_CLASSES, STROKES, TOKEN_DTYPE, VELOCITY_BINS, Array


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def exact(bundle: Bundle) -> Engine:
    return Engine(bundle, precision="float32")


@pytest.fixture(scope="module")
def rows(tiny_corpus: Corpus) -> Array:
    """About four hundred rows with pedals, rests and repeated keys."""
    return tiny_corpus.piece_rows(0).astype(TOKEN_DTYPE)


def no_limits() -> Limits:
    """Any token may come."""
    last = int(SHIFT_BINS.edges[-1]) - 1
    return Limits(0, last, np.zeros((1, SHIFT_CLASSES), np.float32), np.zeros((1, STROKES), np.float32))


def as_drawn(row: Array) -> Drawn:
    """A row as if it had been drawn."""
    shift, key, velocity, duration = row.tolist()
    bins = [SHIFT_BINS.index(shift), key, VELOCITY_BINS.index(velocity), DURATION_BINS.index(duration)]
    return Drawn(int(bins[0]), shift, key, velocity, duration, np.array([bins], np.int64))


def assert_same(one: Stream, other: Stream, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(one.context, other.context, atol=tolerance)
    np.testing.assert_allclose(one.state, other.state, atol=tolerance)
    np.testing.assert_array_equal(one.struck, other.struck)
    np.testing.assert_array_equal(one.released, other.released)
    assert (one.now, one.last_key, one.composer) == (other.now, other.last_key, other.composer)


# --- reading


@pytest.mark.parametrize("cut", [0, 1, 7, 150])
def test_reading_equals_advancing_token_by_token(exact, rows, cut):
    at_once = exact.read_past(rows[:200], composer=2)
    stream = exact.read_past(rows[:cut], composer=2)
    for row in rows[cut:200]:
        exact.advance(stream, as_drawn(row))
    assert_same(at_once, stream)


@pytest.mark.parametrize("chunk", [1, 64, 199, 200, 201])
def test_chunks_do_not_matter(exact, rows, chunk, monkeypatch):
    whole = exact.read_past(rows[:200], 1, 17)
    monkeypatch.setattr(engines, "CHUNK", chunk)
    assert_same(whole, exact.read_past(rows[:200], 1, 17))


def test_reading_counts_from_the_first_tick(exact, rows):
    early, late = exact.read_past(rows[:50]), exact.read_past(rows[:50], 0, 1000)
    assert late.now == early.now + 1000
    np.testing.assert_allclose(late.context, early.context, atol=1e-5)


def test_only_the_last_tokens_are_heard(exact, rows, monkeypatch):
    monkeypatch.setattr(engines, "READ_TOKENS", 64)
    other = rows.copy()
    other["velocity"][:-64] = 1
    other["duration"][:-64] = 1
    assert_same(exact.read_past(rows), exact.read_past(other), 0)
    other["velocity"][-64] = 1
    assert not np.allclose(exact.read_past(rows).context, exact.read_past(other).context, atol=1e-7)


def test_a_cut_past_is_told_from_a_beginning(exact, rows, monkeypatch):
    monkeypatch.setattr(engines, "READ_TOKENS", 20)
    assert not np.allclose(exact.read_past(rows[:20]).context, exact.read_past(rows[:21]).context)


def test_no_past_is_a_beginning(exact):
    stream = exact.read_past(np.empty(0, TOKEN_DTYPE), 0, 30)
    assert (stream.now, stream.last_key) == (30, -1)
    assert (stream.struck == engines.NEVER).all()


def test_only_the_first_tokens_of_the_future_are_heard(exact, rows, monkeypatch):
    monkeypatch.setattr(engines, "READ_TOKENS", 64)
    heard, other = exact.read_future(rows[:100], 500), rows[:100].copy()
    other["key"][64:] = 3
    np.testing.assert_array_equal(heard.said, exact.read_future(other, 500).said)
    assert heard.tick == 500
    assert not np.allclose(heard.said, exact.read_future(rows[:64], 500).said, atol=1e-7)  # cut, not the piece's end
    other["key"][0] += 1
    assert not np.allclose(heard.said, exact.read_future(other, 500).said, atol=1e-7)


def test_the_shift_before_the_future_is_not_heard(exact, rows):
    other = rows[:20].copy()
    other["shift"][0] = 700
    np.testing.assert_array_equal(exact.read_future(rows[:20], 9).said, exact.read_future(other, 9).said)


def test_the_composer_and_the_future_are_heard(exact, rows):
    assert not np.allclose(exact.read_past(rows[:9], 1).context, exact.read_past(rows[:9], 2).context)
    assert not np.allclose(exact.read_future(rows[:9], 0, 1).said, exact.read_future(rows[:9], 0, 2).said)


# --- drawing


def test_drawing_leaves_the_stream_where_it_is(exact, rows):
    stream = exact.read_past(rows[:30])
    before = [stream.context.copy(), stream.state.copy(), stream.struck.copy(), stream.released.copy()]
    uniforms, ones = np.full((1, 7), 0.3, np.float32), np.ones((1, len(FIELDS)), np.float32)
    first = exact.draw(stream, None, no_limits(), uniforms, ones, ones)
    second = exact.draw(stream, None, no_limits(), uniforms, ones, ones)
    assert (first.shift, first.key, first.velocity, first.duration) == (
        second.shift, second.key, second.velocity, second.duration,
    )  # fmt: skip
    for was, array in zip(before, [stream.context, stream.state, stream.struck, stream.released], strict=True):
        np.testing.assert_array_equal(was, array)


def test_threads_do_not_change_what_is_heard(bundle, exact, rows):
    two = Engine(bundle, precision="float32", threads=2)
    assert two.threads == 2
    np.testing.assert_allclose(two.read_past(rows).context, exact.read_past(rows).context, atol=1e-5)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(bundle, threads):
    with pytest.raises(InputError, match=f"`threads` must be at least 1, not {threads}"):
        Engine(bundle, threads=threads)


# --- composers


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (None, 0),
        ("Alban Berg", 1),
        ("alban BERG", 1),
        ("chopin", 2),
        ("Frédéric Chopin", 2),
        ("frederic chopin", 2),
        ("Fre\u0301de\u0301ric", 2),  # accents as signs of their own
    ],
)
def test_composers_by_name_or_part(exact, name, index):
    assert exact.composer(name) == index


@pytest.mark.parametrize(
    ("name", "nearest"), [("Shopin", "Frédéric Chopin"), ("Albam Burg", "Alban Berg"), ("qqq", "Alban Berg"), ("", "")]
)
def test_an_unknown_composer_is_refused_with_the_nearest(exact, name, nearest):
    with pytest.raises(InputError, match=f"unknown composer {name!r}; the nearest it knows: .*{nearest}"):
        exact.composer(name)


def made_engine(bundle: Bundle, composers: tuple[str, ...]) -> Engine:
    engine = Engine(bundle)
    object.__setattr__(engine, "config", type(bundle.config)(composers=composers))
    return engine


def test_a_part_of_several_names_is_the_one_who_wrote_alone(bundle):
    engine = made_engine(
        bundle, ("Bach", "Charles Gounod / Franz Liszt", "Franz Liszt", "J. C. Bach", "J. S. Bach / Busoni")
    )
    assert engine.composer("liszt") == 3
    assert engine.composer("gounod") == 2
    assert engine.composer("bach") == 1  # the whole name
    with pytest.raises(InputError, match=r"composer 'a' may be Bach, Franz Liszt, J\. C\. Bach; say which"):
        engine.composer("a")


def test_a_model_without_composers_says_so(bundle):
    with pytest.raises(InputError, match="the nearest it knows: none"):
        made_engine(bundle, ()).composer("Chopin")


# --- bundles that do not fit


def changed(bundle: Bundle, folder: Path, **config: object) -> Path:
    """A copy of a bundle with another configuration."""
    shutil.copytree(bundle.folder, folder)
    facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
    facts["config"] |= config
    (folder / FACTS_FILE).write_text(json.dumps(facts), "utf-8")
    return folder


def without(folder: Path, *names: str) -> Path:
    """The same bundle without some files, as if made so."""
    facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
    for name in names:
        (folder / name).unlink()
        del facts["files"][name]
    (folder / FACTS_FILE).write_text(json.dumps(facts), "utf-8")
    return folder


def test_int8_is_the_first_choice(bundle):
    assert Engine(bundle).precision == "int8"


def test_a_missing_precision_is_named(bundle, tmp_path):
    folder = without(changed(bundle, tmp_path / "b"), "past.float32.onnx", "future.float32.onnx")
    with pytest.raises(BundleError, match="no float32 graphs; it has int8"):
        Engine(open_bundle(folder), precision="float32")
    with pytest.raises(BundleError, match="no int4 graphs; it has int8"):
        Engine(open_bundle(folder), precision="int4")


def test_a_bundle_without_graphs_is_refused(bundle, tmp_path):
    graphs = [name for name in bundle.files if name.endswith(".onnx")]
    with pytest.raises(BundleError, match="it has no runtime graphs"):
        Engine(open_bundle(without(changed(bundle, tmp_path / "b"), *graphs)))


def test_a_damaged_graph_is_one_line(bundle, tmp_path):
    folder = changed(bundle, tmp_path / "b")
    data = b"no graph at all"
    (folder / "past.int8.onnx").write_bytes(data)
    facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
    facts["files"]["past.int8.onnx"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / FACTS_FILE).write_text(json.dumps(facts), "utf-8")
    with pytest.raises(BundleError, match=r"past\.int8\.onnx: the graph cannot be loaded") as caught:
        Engine(open_bundle(folder)).read_past(np.empty(0, TOKEN_DTYPE))
    assert "\n" not in str(caught.value)


def test_a_bundle_without_backward_stack_refuses_a_future(bundle, rows, tmp_path):
    engine = Engine(open_bundle(changed(bundle, tmp_path / "b", direction="forward")))
    with pytest.raises(InputError, match="no backward stack"):
        engine.read_future(rows[:3], 0)
