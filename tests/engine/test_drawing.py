"""Draws follow the logits, tempered and cut by top-p; what is masked or held never comes; forced tokens always do.

They are drawn by what writes on this machine, and some of each by the NumPy reference.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from some_slots import NOW, fill_slot, force, some_slots

from conftest import nucleus
from music_generator.engine.engine import Engine
from music_generator.engine.noise import NOISE_BLOCK_TOKENS
from music_generator.engine.rules import SHIFT_REACH, SpanState
from music_generator.engine.slots import ALL_CLASSES, CLASS_SLICES, Slots
from music_generator.model.config import CLASSES, FIELDS, GROUP_TICKS, LEAST_CHANCE, NO_ONSET
from music_generator.music.tokens import DURATION_BINS, END, KEYS, NUM_KEYS, RESUME, SHIFT_BINS, Array

ANY_SPAN = SpanState(NOW, -1, NOW, NO_ONSET, NOW, NO_ONSET, NO_ONSET)


@pytest.fixture(scope="module", params=["int8", "float32", "numpy"])
def engine(request: pytest.FixtureRequest, tiny_bundle: Path) -> Engine:
    """What writes on this machine, in each precision, and the reference."""
    if request.param == "numpy":
        return Engine(tiny_bundle, precision="int8", backend="numpy")
    return Engine(tiny_bundle, precision=request.param)


@pytest.fixture(scope="module")
def draws(engine: Engine) -> int:
    """How many draws are made: the reference is slow."""
    return 8000 if engine.backend_name == "kernel" else 400


def repeated(engine: Engine, count: int, *, has_future: bool = False, seed: int = 3) -> Slots:
    """One slot `count` times, its span without limits, each with noise of its own; logits are kept."""
    slots = engine.slots(count, fixed=0)
    slots.logits = np.zeros((count, ALL_CLASSES), np.float32)
    fill_slot(slots, 0, seed, 1 + len(engine.config.composers))
    slots.has_future[:], slots.habituation[:], slots.match_nats[:] = has_future, (NO_ONSET, 0, 1), 0
    for slot in range(1, count):
        slots.move(0, slot)
    draw_noise(slots)
    slots.inverse_temperature[:], slots.top_p[:] = 1, 1
    set_span(slots)
    return slots


def draw_noise(slots: Slots, seed: int = 9) -> None:
    """Exact Gumbel noise for the first token of each slot."""
    rng = np.random.default_rng(seed)
    slots.noise[:, 0] = -np.log(rng.standard_exponential((slots.size, ALL_CLASSES), np.float32))
    slots.uniforms[:, 0] = rng.random((slots.size, 3), np.float32)


def set_span(slots: Slots, **changes: int) -> None:
    slots.span[:] = astuple(replace(ANY_SPAN, **changes))


def temper(slots: Slots, temperature: float, top_p: float) -> None:
    slots.noise *= np.float32(temperature)
    slots.inverse_temperature[:], slots.top_p[:] = 1 / temperature, top_p


def win(slots: Slots, name: str, class_: int) -> None:
    """Make a class win by noise, where neither a rule nor top-p is against it."""
    slots.noise[:, 0, CLASS_SLICES[name]] = 0
    slots.noise[:, 0, CLASS_SLICES[name].start + class_] = 1e9


def step(engine: Engine, slots: Slots) -> None:
    engine.backend.step(slots, 0, slots.size, False)


def chi_square(classes: Array, chances: Array) -> tuple[float, int]:
    """Pearson's, classes of few expected draws taken together, and its degrees of freedom."""
    expected, found = len(classes) * chances, np.bincount(classes, minlength=len(chances)).astype(float)
    few = expected < 10
    expected, found = (np.append(each[~few], each[few].sum()) for each in (expected, found))
    kept = expected > 0
    assert not found[~kept].any()
    return float(((found - expected)[kept] ** 2 / expected[kept]).sum()), int(kept.sum()) - 1


def assert_follows(classes: Array, chances: Array) -> None:
    """What has no chance was not drawn; five standard deviations for the rest."""
    assert (chances[classes] > 0).all()
    statistic, freedom = chi_square(classes, chances)
    assert statistic < freedom + 5 * (2 * max(freedom, 1)) ** 0.5 + 1


def softmax(logits: Array) -> Array:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def sharpened(logits: Array) -> Array:
    """The logits of the shift as they are drawn from: the times after those within a group by p · p / neighbourhood."""
    distance = np.abs(np.subtract.outer(np.arange(RESUME - GROUP_TICKS), np.arange(RESUME - GROUP_TICKS)))
    weights = np.maximum(0, SHIFT_REACH + 1 - distance)
    logits = logits.astype(np.float64)
    chances = np.maximum(np.exp(logits[GROUP_TICKS:RESUME] - logits[GROUP_TICKS:RESUME].max()), LEAST_CHANCE)
    sharp = chances**2 / (weights @ (chances**2 / (weights @ chances)))
    logits[GROUP_TICKS:RESUME] = np.log(sharp) + logits[GROUP_TICKS:RESUME].max()
    return logits


def possible(slots: Slots, name: str) -> Array:
    """Which classes of a field may be drawn: no end, resuming with a future alone, no key that is held."""
    may = np.ones(CLASSES[name], bool)
    if name == "shift":
        may[END] = False
        may[RESUME] = slots.has_future[0]
    if name == "key":
        may = slots.last_release[0] <= NOW + slots.drawn[0, 4]
    return may


TEMPERED = [(1.0, 1.0), (0.6, 1.0), (1.7, 0.8), (1.0, 0.3), (0.7, 0.99), (1.0, 1e-6)]


@pytest.mark.parametrize("has_future", [False, True])
@pytest.mark.parametrize(("temperature", "top_p"), TEMPERED)
def test_draws_follow_the_logits(
    engine: Engine, draws: int, has_future: bool, temperature: float, top_p: float
) -> None:
    """8,000 draws of one slot; a field is drawn given those before it, which are made to win. Top-p: of the key."""
    slots = repeated(engine, draws, has_future=has_future)
    temper(slots, temperature, top_p)
    slots.uniforms[:, 0, 0] = 0.5  # one value of a wide bin: the key hears how late it is
    for name in FIELDS:
        step(engine, slots)
        logits = slots.logits[:, CLASS_SLICES[name]]
        assert (logits == logits[0]).all()
        of_field = sharpened(logits[0]) if name == "shift" else logits[0]
        chances = softmax(np.where(possible(slots, name), of_field, -np.inf) / temperature)
        if name == "key":
            chances = nucleus(chances, top_p)
        drawn = slots.drawn[:, FIELDS.index(name)]
        assert_follows(drawn, chances)
        win(slots, name, int(drawn[0]) if name == "key" else 12)


def test_a_tiny_top_p_draws_the_likeliest_key(engine: Engine, draws: int) -> None:
    """Of those that may come; and so does the lowest temperature."""
    for temperature, top_p in ((1.0, 1e-6), (1e-3, 1.0)):
        slots = repeated(engine, draws // 10, seed=4)
        temper(slots, temperature, top_p)
        win(slots, "shift", 12)
        slots.uniforms[:, 0, 0] = 0.5
        step(engine, slots)
        likeliest = np.where(possible(slots, "key"), slots.logits[0, CLASS_SLICES["key"]], -np.inf).argmax()
        assert (slots.drawn[:, FIELDS.index("key")] == likeliest).all()


def test_times_and_velocities_are_not_cut_by_top_p(engine: Engine, draws: int) -> None:
    slots = repeated(engine, draws // 5)
    temper(slots, 1.0, 1e-6)
    step(engine, slots)
    assert len(np.unique(slots.drawn[:, 0])) > 20
    assert len(np.unique(slots.drawn[:, 3])) > 20
    assert len(np.unique(slots.drawn[:, 2])) > 10


def test_each_slot_has_its_own_temperature_and_top_p(engine: Engine, draws: int) -> None:
    """The logits are those before it."""
    count = draws // 2
    slots = repeated(engine, count)
    win(slots, "shift", 12)
    slots.uniforms[:, 0, 0] = 0.5
    kinds = [(1.0, 1.0), (1.0, 1e-6), (10.0, 1.0), (1.0, 0.5)]
    for kind, (temperature, top_p) in enumerate(kinds):
        mine = slice(kind, None, len(kinds))
        slots.noise[mine, 0, CLASS_SLICES["key"]] *= np.float32(temperature)
        slots.inverse_temperature[mine], slots.top_p[mine] = 1 / temperature, top_p
    step(engine, slots)
    logits = slots.logits[:, CLASS_SLICES["key"]]
    assert (logits == logits[0]).all()
    may = possible(slots, "key")
    for kind, (temperature, top_p) in enumerate(kinds):
        chances = nucleus(softmax(np.where(may, logits[0], -np.inf) / temperature), top_p)
        assert_follows(slots.drawn[kind :: len(kinds), 1], chances)


@pytest.mark.parametrize("top_p", [1.0, 0.999999, 0.5, 1e-6])
def test_what_is_held_is_never_drawn(engine: Engine, draws: int, top_p: float) -> None:
    """At the highest temperature, with noise that would have it win, and if all but one key are held."""
    count = max(2 * NUM_KEYS, draws // 20)
    slots = repeated(engine, count)
    rng, held = np.random.default_rng(1), np.zeros((count, NUM_KEYS), bool)
    held[:] = rng.random(held.shape) < 0.5
    held[:NUM_KEYS] = ~np.eye(NUM_KEYS, dtype=bool)
    slots.last_release[:] = np.where(held, NOW + 100_000, -NO_ONSET)
    temper(slots, 10.0, top_p)
    slots.noise[:, 0, CLASS_SLICES["key"]] = np.where(
        held, 700, np.minimum(slots.noise[:, 0, CLASS_SLICES["key"]], 700)
    )
    step(engine, slots)
    assert not held[np.arange(count), slots.drawn[:, 1]].any()
    assert slots.drawn[:NUM_KEYS, 1].tolist() == list(range(NUM_KEYS))
    assert held.mean() > 0.4


@pytest.mark.parametrize("has_future", [False, True])
def test_no_end_and_no_resuming_where_there_is_nothing_to_resume(engine: Engine, draws: int, has_future: bool) -> None:
    """With noise that would have them win."""
    slots = repeated(engine, draws // 10, has_future=has_future)
    slots.noise[:, 0, [RESUME, END]] = 1e3  # beyond what noise gives, at any temperature
    step(engine, slots)
    assert (slots.drawn[:, 0] == RESUME).all() == has_future
    assert not (slots.drawn[:, 0] == END).any()
    if has_future:  # nor where a rule says that a note must come first
        set_span(slots, longest_rest=50, last_note=NOW, next_note=NOW + 300, end=NOW + 300)
        step(engine, slots)
        assert (slots.drawn[:, 0] < RESUME).all()
        assert (slots.drawn[:, 4] <= 49).all()


def test_shifts_keep_to_the_earliest_and_the_latest(engine: Engine, draws: int) -> None:
    """Whatever the noise; and the tick itself is within the limits, not only its bin."""
    slots = repeated(engine, draws // 5, has_future=True)
    slots.last_release[:] = -NO_ONSET
    temper(slots, 10.0, 1.0)
    for earliest, latest in ((0, 0), (3, 3), (0, 7), (150, 151), (90, 400), (1234, 1234)):
        set_span(slots, start=NOW + earliest, end=NOW + latest + 1)
        step(engine, slots)
        playing = slots.drawn[:, 0] < RESUME
        assert playing.any()
        ticks = slots.drawn[:, 4]
        assert ((ticks >= earliest) & (ticks <= latest)).all()
        bins = SHIFT_BINS.index(np.array([earliest, latest]))
        assert ((slots.drawn[playing, 0] >= bins[0]) & (slots.drawn[playing, 0] <= bins[1])).all()
        assert latest - earliest > 100 or set(ticks[playing]) == set(range(earliest, latest + 1))


def test_the_shift_waits_until_a_key_is_free(engine: Engine) -> None:
    """Past the latest if it must be, and past the last bin."""
    slots = repeated(engine, 100)
    slots.last_release[:] = NOW + 900_000
    slots.last_release[:, 5] = NOW + np.arange(100) * 60
    set_span(slots, longest_rest=31)
    step(engine, slots)
    assert (slots.drawn[:, 1] == 5).all()
    np.testing.assert_array_equal(slots.drawn[1:, 4], np.arange(1, 100) * 60)
    assert slots.drawn[0, 4] <= 30
    slots.last_release[:, 5] = 0  # the same key again: not in this tick
    set_span(slots, last_key=5)
    step(engine, slots)
    assert (slots.drawn[:, 1] == 5).all()
    assert (slots.drawn[:, 4] >= 1).all()


def test_keys_rise_within_a_tick(engine: Engine, draws: int) -> None:
    slots = repeated(engine, draws // 10)
    slots.last_release[:] = -NO_ONSET
    win(slots, "shift", 0)
    temper(slots, 10.0, 1.0)
    for last_key in (-1, 0, 40, KEYS, NUM_KEYS - 2):
        set_span(slots, last_key=last_key)
        step(engine, slots)
        assert (slots.drawn[:, 4] == 0).all()
        assert (slots.drawn[:, 1] > last_key).all()
    assert (slots.drawn[:, 1] == NUM_KEYS - 1).all()


def test_values_lie_in_their_bins(engine: Engine, draws: int) -> None:
    slots = repeated(engine, draws // 2)
    temper(slots, 3.0, 1.0)
    slots.last_release[:] = -NO_ONSET
    step(engine, slots)
    np.testing.assert_array_equal(SHIFT_BINS.index(slots.drawn[:, 4]), slots.drawn[:, 0])
    np.testing.assert_array_equal(DURATION_BINS.index(slots.drawn[:, 5]), slots.drawn[:, 3])
    assert len(np.unique(slots.drawn[:, 1])) > 60


@pytest.mark.parametrize("name", ["shift", "duration"])
def test_a_wide_bin_is_filled_evenly(engine: Engine, draws: int, name: str) -> None:
    bins, last = {"shift": (SHIFT_BINS, len(SHIFT_BINS) - 1), "duration": (DURATION_BINS, len(DURATION_BINS) - 1)}[name]
    first, end = bins.edges[last : last + 2]
    count = max(draws // 2, int(end - first))
    slots = repeated(engine, count)
    win(slots, name, last)
    uniform, column = (0, 4) if name == "shift" else (1, 5)
    slots.uniforms[:, 0, uniform] = (np.arange(count) + 0.5) / count
    step(engine, slots)
    values = slots.drawn[:, column]
    assert set(values.tolist()) == set(range(first, end))
    assert np.ptp(np.bincount(values - first)) <= 1
    slots.uniforms[:, 0] = np.nextafter(np.float32(1), np.float32(0))
    step(engine, slots)
    assert (slots.drawn[:, column] == end - 1).all()
    slots.uniforms[:, 0] = 0
    step(engine, slots)
    assert (slots.drawn[:, column] == first).all()


def test_velocities_are_filled_evenly(engine: Engine) -> None:
    """When they are written; the lowest bin begins at 1."""
    count = 400
    for class_, values in ((0, {1, 2, 3}), (9, {36, 37, 38, 39}), (31, {124, 125, 126, 127})):
        slots = repeated(engine, count)
        win(slots, "velocity", class_)
        slots.uniforms[:, 0, 2] = (np.arange(count) + 0.5) / count
        rows = np.concatenate(engine.backend.write(slots, count, 1), 1)
        found = rows[0, :, 2]
        assert set(found.tolist()) == values
        assert np.bincount(found).max() == (200 if class_ == 0 else 100)


def test_a_forced_token_is_taken_whatever_the_logits_are(engine: Engine) -> None:
    """Every class of every field, against top-p, the rules and a key that is held; its very ticks."""
    slots = some_slots(engine, ALL_CLASSES, has_future=False, scored=True)
    slots.last_release[:], slots.top_p[:] = NOW + 9000, 0.01
    for slot in range(ALL_CLASSES):
        shift, duration = (
            SHIFT_BINS.edges[slot % len(SHIFT_BINS)],
            DURATION_BINS.edges[slot % len(DURATION_BINS) + 1] - 1,
        )
        force(slots, slot, (shift, slot % NUM_KEYS, slot % 128, duration))
    wanted = slots.forced.copy()
    engine.backend.step(slots, 0, slots.size, True)
    np.testing.assert_array_equal(slots.drawn, wanted)
    np.testing.assert_array_equal(slots.forced, wanted)
    each, key = np.arange(slots.size), wanted[:, 1]
    np.testing.assert_array_equal(slots.last_onset[each, key], NOW + wanted[:, 4])
    np.testing.assert_array_equal(slots.last_release[each, key], NOW + wanted[:, 4] + wanted[:, 5])


def test_logits_do_not_depend_on_what_is_drawn_later(engine: Engine) -> None:
    """The shift's on nothing of the token, the key's on the shift alone, and so on."""
    slots = some_slots(engine, 5, has_future=True, scored=True)
    for slot in range(1, 5):
        slots.move(0, slot)
    token = [30, 40, 64, 20]
    for slot, place in enumerate((None, 3, 2, 1, 0)):
        other = list(token)
        if place is not None:
            other[place] = (90, 41, 90, 700)[place]
        force(slots, slot, tuple(other))
    engine.backend.step(slots, 0, 5, False)
    for slot, place in enumerate((4, 3, 2, 1, 0)):
        for number, name in enumerate(FIELDS):
            same = np.array_equal(slots.logits[0, CLASS_SLICES[name]], slots.logits[slot, CLASS_SLICES[name]])
            assert same == (number <= place), (name, place)


def test_noise_is_used_token_by_token(engine: Engine) -> None:
    """A slot takes its own noise at its own place."""
    slots = some_slots(engine, 3, has_future=False)
    for slot, place in enumerate((0, 7, NOISE_BLOCK_TOKENS - 1)):
        slots.noise[slot, :, CLASS_SLICES["duration"]] = 0
        slots.noise[slot, place, CLASS_SLICES["duration"].start + 10 + slot] = 1e9
        slots.span["place"][slot] = place
    step(engine, slots)
    assert slots.drawn[:, 3].tolist() == [10, 11, 12]
