"""The runtime: what it reads is what it would have written itself, and what does not fit is said so."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from music_generator.data.corpus import Corpus
from music_generator.engine import engine as engines
from music_generator.engine.engine import (
    PLACES,
    TOGETHER,
    Ahead,
    Dice,
    Engine,
    Lanes,
    Stream,
    backwards,
    binned,
    last_ticks,
)
from music_generator.errors import BundleError, InputError
from music_generator.model.bundle import FACTS_FILE, Bundle, open_bundle
from music_generator.model.config import CUT, EDGE_OF_PIECE, FIELDS, NONE_AHEAD
from music_generator.music.tokens import DURATION_BINS, NUM_KEYS, SHIFT_BINS, TOKEN_DTYPE, VELOCITY_BINS, Array


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


@pytest.fixture(scope="module")
def rough(bundle: Bundle) -> Engine:
    return Engine(bundle)


def force(lanes: Lanes, lane: int, row: Array, now: int) -> None:
    """Make a lane take a row, whatever its logits are."""
    lanes.noise[lane] = 0
    for name, values in binned(row.reshape(1)).items():
        lanes.noise[lane, PLACES[name].start + values[0]] = 1e9
    shift, duration = int(row["shift"]), int(row["duration"])
    place = DURATION_BINS.index(np.array([duration]))[0]
    within = (duration - DURATION_BINS.edges[place] + 0.5) / DURATION_BINS.widths[place]
    lanes.ticks[lane] = now, shift, shift, -1, 0, within


def advance(lanes: Lanes, lane: int, rows: Array, now: int) -> int:
    """Step through rows, and return the tick after them."""
    for row in rows:
        force(lanes, lane, row, now)
        lanes.step()
        now += int(row["shift"])
    return now


def draws(lanes: Lanes) -> dict[str, Array]:
    """What the lanes drew, copied."""
    return {
        name: value.copy()
        for name, value in (*lanes.classes.items(), *(("waited", lanes.waited), ("held", lanes.held)))
    }


def logits(lanes: Lanes) -> Array:
    """All logits of each lane, copied: (N, classes of all fields)."""
    return np.concatenate([lanes.logits[name] for name in FIELDS], 1)


def fill(lanes: Lanes, now: int = 1000, seed: int = 0) -> None:
    """All lanes at one tick, no key barred, with noise of their own."""
    rng = np.random.default_rng(seed)
    lanes.noise[:] = -np.log(rng.standard_exponential(lanes.noise.shape, np.float32))
    lanes.ticks[:] = np.concatenate([np.tile([now, 0, 200, -1], (lanes.size, 1)), rng.random((lanes.size, 2))], 1)


def assert_same(one: Stream, other: Stream, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(one.context, other.context, atol=tolerance)
    np.testing.assert_allclose(one.states, other.states, atol=tolerance)
    np.testing.assert_array_equal(one.struck, other.struck)
    np.testing.assert_array_equal(one.released, other.released)
    assert (one.now, one.last_key, one.composer) == (other.now, other.last_key, other.composer)


# --- reading


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 7, 150])
def test_reading_equals_stepping_token_by_token(exact, rows, cut, joined):
    """A lane that has stepped through rows and one that was put where they had been read draw from the same logits."""
    at_once, begun = exact.read_past(rows[:200], composer=2), exact.read_past(rows[:cut], composer=2)
    ahead = exact.read_future(rows[200:240], at_once.now + int(rows["shift"][200]), 2) if joined else None
    lanes, other = (Lanes(exact, 1, joined=joined, scored=True) for _ in range(2))
    lanes.put(0, begun, ahead)
    now = advance(lanes, 0, rows[cut:200], begun.now)
    other.put(0, at_once, ahead)
    assert now == at_once.now
    np.testing.assert_array_equal(lanes.strokes, other.strokes)
    for each in (lanes, other):
        fill(each, now)
        each.peek()
    np.testing.assert_allclose(logits(lanes), logits(other), atol=1e-4)
    for name, values in draws(lanes).items():
        np.testing.assert_array_equal(values, draws(other)[name])


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
    monkeypatch.setattr(engines, "READ_TOKENS", 16)
    heard, other = exact.read_future(rows[:100], 500), rows[:100].copy()
    other["key"][16:] = 3
    np.testing.assert_array_equal(heard.said, exact.read_future(other, 500).said)
    assert heard.tick == 500
    assert not np.allclose(heard.said, exact.read_future(rows[:16], 500).said, atol=1e-7)  # cut, not the piece's end
    other["key"][0] += 1
    assert not np.allclose(heard.said, exact.read_future(other, 500).said, atol=1e-7)


def test_the_shift_before_the_future_is_not_heard(exact, rows):
    other = rows[:20].copy()
    other["shift"][0] = 700
    np.testing.assert_array_equal(exact.read_future(rows[:20], 9).said, exact.read_future(other, 9).said)


def test_the_composer_and_the_future_are_heard(exact, rows):
    assert not np.allclose(exact.read_past(rows[:9], 1).context, exact.read_past(rows[:9], 2).context)
    assert not np.allclose(exact.read_future(rows[:9], 0, 1).said, exact.read_future(rows[:9], 0, 2).said)


def test_what_the_future_is(exact, rows):
    """Its first tick, and when each key comes next, counted from the tick that its first row is at."""
    ahead = exact.read_future(rows[5:60], 700)
    onsets = 700 + np.cumsum(rows["shift"][6:60], dtype=np.int64)
    following = {int(rows["key"][5]): 700}
    for key, onset in zip(rows["key"][6:60].tolist(), onsets.tolist(), strict=True):
        following.setdefault(key, onset)
    assert ahead.tick == 700
    assert {key: int(tick) for key, tick in enumerate(ahead.next) if tick < NONE_AHEAD} == following
    assert ahead.said.shape == (2 * exact.config.head_size,)


def test_reading_backwards_by_hand():
    rows = np.array([(50, 40, 64, 10), (3, 44, 20, 300), (0, 47, 127, 1), (200, 40, 1, 25)], TOKEN_DTYPE)
    found = backwards(rows, 2, cut=False)
    assert all(value.shape[:2] == (5, 1) for name, value in found.items() if name != "composer")
    assert found["composer"].tolist() == [2]
    assert found["key"][:, 0].tolist() == [EDGE_OF_PIECE, 40, 47, 44, 40]
    # the time from each row to the one after it; what is before the first row is not heard
    shifts = SHIFT_BINS.index(np.array([0, 0, 200, 0, 3]))
    assert found["shift"][:, 0].tolist() == shifts.tolist()
    assert found["velocity"][:, 0].tolist() == [0, *VELOCITY_BINS.index(rows["velocity"][::-1]).tolist()]
    assert found["duration"][:, 0].tolist() == [0, *DURATION_BINS.index(rows["duration"][::-1]).tolist()]
    assert found["age"].dtype == np.float32
    assert found["age"][1:, 0, 40].tolist() == [0, 200, 200, 0]
    assert found["age"][2:, 0, 47].tolist() == [0, 0, 3]
    assert (found["age"][0] == -engines.NEVER).all()
    assert backwards(rows, cut=True)["key"][0, 0] == CUT
    assert backwards(rows[:1], cut=True)["shift"][:, 0].tolist() == [0, 0]


def test_last_ticks_by_hand():
    """A key struck again is released when its last stroke is, be it sooner."""
    found = last_ticks(np.array([3, 5, 3]), np.array([90, 20, 40]))
    assert found.shape == (4, NUM_KEYS)
    assert found[:, 3].tolist() == [engines.NEVER, 90, 90, 40]
    assert found[:, 5].tolist() == [engines.NEVER, engines.NEVER, 20, 20]


# --- lanes


def test_peeking_leaves_the_lanes_where_they_are(exact, rows):
    """The same draw again and again, and the step that follows is that of lanes that were not peeked at."""
    lanes, other = (Lanes(exact, 2, joined=False, scored=True) for _ in range(2))
    for each in (lanes, other):
        for lane in range(2):
            each.put(lane, exact.read_past(rows[: 30 + lane]), None)
        fill(each)
    lanes.peek()
    first, first_logits = draws(lanes), logits(lanes)
    for _ in range(3):
        lanes.peek()
        assert all(np.array_equal(values, first[name]) for name, values in draws(lanes).items())
        np.testing.assert_array_equal(logits(lanes), first_logits)
    for turn in range(3):
        fill(lanes, seed=turn)
        fill(other, seed=turn)
        lanes.peek()
        for each in (lanes, other):
            each.step()
        np.testing.assert_array_equal(logits(lanes), logits(other))


def test_arrays_of_the_lanes_stay_in_place(rough, rows):
    lanes = Lanes(rough, 3, joined=False, scored=True)
    places = {name: value.__array_interface__["data"] for name, value in vars(lanes).items() if hasattr(value, "dtype")}
    lanes.put(1, rough.read_past(rows[:9]), None)
    for seed in range(4):
        fill(lanes, seed=seed)
        lanes.step()
    after = {name: value.__array_interface__["data"] for name, value in vars(lanes).items() if hasattr(value, "dtype")}
    assert places == after


@pytest.mark.parametrize("joined", [False, True])
def test_a_lane_depends_on_nothing_but_itself(rough, rows, joined):
    """Bit for bit: alone, in another lane, put there later, among others that change all the while."""
    stream = rough.read_past(rows[:40], 1)
    ahead = rough.read_future(rows[80:120], stream.now + 400, 1) if joined else None
    others = [
        (rough.read_past(rows[: 3 * i]), rough.read_future(rows[:20], 9000) if joined else None) for i in range(9)
    ]

    def written(size: int, lane: int, late: int) -> list[Array]:
        lanes = Lanes(rough, size, joined=joined, scored=True)
        found = []
        for turn in range(late + 12):
            fill(lanes, seed=100 * size + turn)
            for each in range(size):
                if each != lane and (turn + each) % 5 == 0:
                    lanes.put(each, *others[(turn + each) % 9], temperature=0.5 + each, top_p=0.9)
            if turn == late:
                lanes.put(lane, stream, ahead, 0.9, 0.8)
            if turn < late:
                lanes.step()
                continue
            rng = np.random.default_rng(turn - late)
            lanes.noise[lane] = rng.gumbel(size=lanes.noise.shape[1])
            lanes.ticks[lane] = stream.now + turn - late, 0, 30, -1, *rng.random(2)
            lanes.step()
            found += [logits(lanes)[lane], *(values[lane] for values in draws(lanes).values())]
        return found

    alone = written(1, 0, 0)
    for size, lane, late in ((2, 0, 0), (2, 1, 1), (3, 1, 0), (8, 7, 3), (64, 30, 2)):
        for one, other in zip(alone, written(size, lane, late), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("joined", [False, True])
def test_a_lane_that_is_moved_goes_on_as_it_would_have(rough, rows, joined):
    """After some steps, into the place of another one; from then on the first lanes alone are stepped."""
    ahead = rough.read_future(rows[80:120], 3000) if joined else None
    found = []
    for moved in (False, True):
        lanes = Lanes(rough, 2 * TOGETHER, joined=joined, scored=True)
        for lane in range(lanes.size):
            lanes.put(lane, rough.read_past(rows[: 10 + lane]), ahead, 0.5 + lane / 10, 0.9)
        for turn in range(3):
            fill(lanes, seed=turn)
            lanes.step()
        lane = TOGETHER + 3
        if moved:
            lanes.move(lane, 2)
            lane = 2
        steps = []
        for turn in range(4):
            lanes.noise[lane] = np.random.default_rng(turn).gumbel(size=lanes.noise.shape[1])
            lanes.step(3 if moved else None)
            steps.append(
                np.concatenate([logits(lanes)[lane], *(values[lane].ravel() for values in draws(lanes).values())])
            )
        found.append(np.stack(steps))
    np.testing.assert_array_equal(*found)


def test_a_lane_has_its_own_temperature_and_top_p(exact, rows):
    """The logits are those before it; near 0 the likeliest is drawn, with any noise."""
    lanes = Lanes(exact, 300, joined=False, scored=True)
    stream = exact.read_past(rows[:30])
    for lane in range(300):
        lanes.put(lane, stream, None, 1.0, (1.0, 1e-6)[lane % 2])
    fill(lanes)
    lanes.noise[:, PLACES["shift"].start + 5] = 1e9
    lanes.peek()
    assert (logits(lanes)[:, PLACES["key"]] == logits(lanes)[0, PLACES["key"]]).all()
    assert set(lanes.classes["key"][1::2]) == {int(lanes.logits["key"][0].argmax())}
    assert len(set(lanes.classes["key"][::2])) > 20
    assert len(set(lanes.classes["duration"][1::2])) > 20  # times are not cut


def test_joined_lanes_hear_what_is_ahead(exact, rows):
    """What the backward stack says, how long it is until then, and when each key comes: each changes the logits."""
    stream = exact.read_past(rows[:30])
    ahead = exact.read_future(rows[40:60], stream.now + 100)
    later = Ahead(ahead.said, ahead.tick + 50, ahead.next)
    sooner = ahead.next.copy()
    sooner[ahead.next < NONE_AHEAD] -= 20
    others = [exact.read_future(rows[70:90], stream.now + 100), later, Ahead(ahead.said, ahead.tick, sooner)]
    lanes = Lanes(exact, 4, joined=True, scored=True)
    for lane, each in enumerate((ahead, *others)):
        lanes.put(lane, stream, each)
    fill(lanes, stream.now)
    for name in FIELDS:
        lanes.noise[:, PLACES[name].start + 30 * (name == "key")] = 1e9
    lanes.peek()
    for lane, fields in ((1, FIELDS), (2, FIELDS), (3, ("key",))):
        for name in fields:
            assert not np.allclose(lanes.logits[name][0], lanes.logits[name][lane], atol=1e-6), f"{name}, lane {lane}"
    np.testing.assert_allclose(lanes.logits["shift"][0], lanes.logits["shift"][3], atol=1e-6)


# --- dice


def test_dice_depend_on_the_seed_and_the_tokens_number_alone():
    def rolled(seed, count, temperature=1.0):
        dice = Dice(seed, temperature)
        return [(noise.copy(), uniforms) for noise, uniforms in (dice.roll() for _ in range(count))]

    one, other = rolled(7, 100), rolled(7, 100)
    assert all(np.array_equal(a, c) and b == d for (a, b), (c, d) in zip(one, other, strict=True))
    assert len({noise.tobytes() for noise, _ in one}) == 100
    assert not np.array_equal(one[0][0], rolled(8, 1)[0][0])
    np.testing.assert_allclose(rolled(7, 40, 0.25)[-1][0], 0.25 * one[39][0], rtol=1e-6)
    assert rolled(7, 40, 0.25)[-1][1] == one[39][1]


def test_dice_are_gumbel_and_uniform():
    """Of 100 tokens: mean 0.5772, variance π² / 6, and the share below 0 is exp(-1)."""
    dice = Dice(3, 1.0)
    rolls = [(noise.copy(), uniforms) for noise, uniforms in (dice.roll() for _ in range(100))]
    noise, uniforms = np.stack([noise for noise, _ in rolls]), np.array([each for _, each in rolls])
    assert noise.mean() == pytest.approx(0.5772, abs=0.03)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.06)
    assert (noise < 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    assert uniforms.shape == (100, 3)
    assert 0 <= uniforms.min() < 0.1
    assert 0.9 < uniforms.max() < 1


# --- threads


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
    graphs = [f"{name}.float32.onnx" for name in ("past", "future", "open", "joined")]
    folder = without(changed(bundle, tmp_path / "b"), *graphs)
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
    Engine(open_bundle(folder)).graph("open")  # the others are loaded when they are asked for
    assert "\n" not in str(caught.value)


def test_a_bundle_without_backward_stack_refuses_a_future(bundle, rows, tmp_path):
    engine = Engine(open_bundle(changed(bundle, tmp_path / "b", direction="forward")))
    with pytest.raises(InputError, match="no backward stack"):
        engine.read_future(rows[:3], 0)
