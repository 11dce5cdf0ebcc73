"""The memory: what a fingerprint tells of, what is found by it, and what is made of that."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the memory needs torch, of the extra `train`")

from music_generator.model.config import (  # noqa: E402
    EVENT_HEADS,
    EVENT_TAPS,
    GROUP_TAPS,
    GROUP_TICKS,
    LOW_BEFORE,
    MEMORY_HEADS,
    NO_ONSET,
    POINTED,
    ROLL_CENTRE,
)
from music_generator.model.memory import (  # noqa: E402
    Groups,
    Memory,
    Recalled,
    Remembered,
    find_groups,
    future_from,
    laid,
    relative_class,
)
from music_generator.music.tokens import KEYS, NUM_KEYS, SHIFT_BINS  # noqa: E402

SIZE = 12
GROUP_KEYS, GROUP_INTERVALS = range(len(POINTED))  # the heads that point
PEDAL = KEYS + 1
WAIT_EDGES = torch.as_tensor(SHIFT_BINS.edges[1:-1])


@pytest.fixture(scope="module")
def memory() -> Memory:
    """A fresh memory: its fingerprints are random and sharp."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Memory(SIZE).eval()


def groups_of(keys: list[int], onsets: list[int]) -> Groups:
    return find_groups(torch.tensor([keys]), torch.tensor([onsets]), WAIT_EDGES)


def remembered(memory: Memory, keys: list[int], onsets: list[int]) -> Remembered:
    """The memory of one window of events of equal velocity and duration."""
    key, onset = torch.tensor([keys]), torch.tensor([onsets])
    shift = torch.bucketize(onset.diff(dim=1, prepend=onset[:, :1]), WAIT_EDGES, right=True)
    fields = {"key": key, "shift": shift, "velocity": torch.full_like(key, 16), "duration": torch.full_like(key, 20)}
    return memory.remember(fields, onset)


@torch.no_grad()
def recalled(memory: Memory, keys: list[int], onsets: list[int], **options: Any) -> Recalled:
    return memory.recall(remembered(memory, keys, onsets), **options)


def melody(seed: int, length: int) -> list[int]:
    random = torch.Generator().manual_seed(seed)
    return (40 + torch.randint(12, (length,), generator=random)).tolist()


def in_turn(count: int, step: int = 20, start: int = 0) -> list[int]:
    return [start + i * step for i in range(count)]


# --- groups


def test_groups_by_hand() -> None:
    """From three ticks after the last note on a note begins a group, however long that was; pedals do not count."""
    keys = [PEDAL, 50, 40, 60, PEDAL, 30, 35, 70]
    onsets = [0, 10, 12, 14, 16, 17, 19, 40]
    groups = groups_of(keys, onsets)
    assert GROUP_TICKS == 3
    assert groups.note.tolist() == [[False, True, True, True, False, True, True, True]]
    assert groups.start.tolist() == [[False, True, False, False, False, True, False, True]]
    assert groups.number.tolist() == [[0, 1, 1, 1, 1, 2, 2, 3]]
    assert groups.first.tolist() == [[0, 1, 1, 1, 1, 5, 5, 7]]
    assert groups.below.tolist() == [[LOW_BEFORE] * 5 + [40, 40, 30]]
    assert groups.below_two.tolist() == [[LOW_BEFORE] * 7 + [40]]
    wait = [len(SHIFT_BINS) - 1, len(SHIFT_BINS) - 1, 2, 2, 2, 3, 2, int(SHIFT_BINS.index(21))]
    assert groups.wait.tolist() == [wait]


def test_groups_do_not_depend_on_what_comes_later() -> None:
    keys, onsets = [50, 40, 60, 30, 35, 70], [0, 1, 10, 12, 20, 21]
    whole = groups_of(keys, onsets)
    for length in range(1, len(keys)):
        part = groups_of(keys[:length], onsets[:length])
        for name, value in vars(part).items():
            assert value.tolist() == [getattr(whole, name)[0, :length].tolist()], name


def test_the_first_event_of_the_future_by_hand() -> None:
    """Nine events after each place; where chords are struck, eight groups after that of the first note."""
    line = future_from(groups_of([50] * 20, in_turn(20)))
    assert line[0, :11].tolist() == list(range(9, 20))
    assert (line[0, 11:] >= 20).all()
    chords = groups_of([50, 54, 57] * 12, [10 * (i // 3) for i in range(36)])
    found = future_from(chords)[0].tolist()
    for place in range(36):
        first = 3 * (place // 3 + 8)  # groups of three, the first of which may be cut
        assert found[place] == first if first < 36 else found[place] >= 36
    assert found[36] >= 36
    assert found[37] >= 36


def test_the_first_event_of_the_future_against_what_fingerprints_tell_of() -> None:
    """In music with chords and pedals, event by event."""
    random = torch.Generator().manual_seed(3)
    keys = torch.where(torch.rand(80, generator=random) < 0.2, PEDAL, torch.randint(KEYS, (80,), generator=random))
    onsets = (torch.randint(6, (80,), generator=random) * (torch.rand(80, generator=random) < 0.6)).cumsum(0)
    groups = groups_of(keys.tolist(), onsets.tolist())
    found, number = future_from(groups)[0].tolist(), groups.number[0].tolist()

    def earliest(event: int) -> int:
        """The first event that the fingerprints of an event may tell of."""
        # the interval and the shift of the eighth event back are those to the ninth
        ninth = event - EVENT_TAPS - 1
        # the notes of six groups, and their intervals to the lowest key of the one before
        in_groups = [i for i in range(80) if number[i] >= number[event] - GROUP_TAPS - 1 and groups.note[0, i]]
        return min(ninth, in_groups[0])

    for place in range(80):
        notes = [i for i in range(place, 80) if groups.note[0, i]]
        whole = [i for i in range(place, 80) if notes and number[i] > number[notes[0]]]
        allowed = [
            event for event in range(place, 80)
            if earliest(event) >= place and whole and number[event] - GROUP_TAPS - 1 >= number[whole[0]]
        ]  # fmt: skip
        assert found[place] == allowed[0] if allowed else found[place] >= 80, place
        if allowed:
            assert allowed == list(range(allowed[0], 80))


# --- rolls


def test_laid_by_hand() -> None:
    roll = torch.zeros(3, NUM_KEYS)
    roll[0, ROLL_CENTRE], roll[0, ROLL_CENTRE + 7], roll[0, ROLL_CENTRE - 45] = 0.5, 0.25, 0.125
    roll[1] = roll[0]
    roll[2] = 1
    found = laid(roll, torch.tensor([50, 2, 87]))
    assert found.shape == (3, NUM_KEYS)
    assert {i: value for i, value in enumerate(found[0].tolist()) if value} == {50: 0.5, 57: 0.25, 5: 0.125}
    assert {i: value for i, value in enumerate(found[1].tolist()) if value} == {2: 0.5, 9: 0.25}  # -43 is no key
    assert found[2].tolist() == [0.0] * 42 + [1.0] * 46 + [0.0] * 3  # 45 semitones down; no pedals


def test_intervals_have_places_in_a_roll() -> None:
    assert relative_class(torch.tensor([-60, -45, -1, 0, 44, 45, 87])).tolist() == [0, 0, 44, 45, 89, 90, 90]
    for interval in range(-30, 31):
        roll = torch.nn.functional.one_hot(relative_class(torch.tensor(interval)), NUM_KEYS)
        assert laid(roll, torch.tensor(44)).argmax() == 44 + interval


# --- what is found


# no key comes twice, and no two intervals in a row
THEME = [40, 47, 43, 52, 45, 54, 41, 50, 57, 48]
BETWEEN = [70, 63, 74, 66, 61, 73, 64, 72, 67, 75, 62, 71]


@pytest.mark.parametrize("by", [0, 5, -7])
def test_a_melody_that_comes_again_is_pointed_at(memory: Memory, by: int) -> None:
    """By the intervals in any key, by the keys where it is the same."""
    keys = [*THEME, *BETWEEN, *(key + by for key in THEME)]
    pointed = recalled(memory, keys, in_turn(len(keys))).pointed[0]
    for state in range(len(keys) - 3, len(keys)):
        assert pointed[state, GROUP_INTERVALS, keys[state]] > 0.9
        share = pointed[state, GROUP_KEYS, keys[state]]
        assert share < 0.1 if by else share > 0.9


@pytest.mark.parametrize("by", [0, 5])
def test_the_place_of_a_melody_that_comes_again_is_that_of_the_nearest_fingerprint(memory: Memory, by: int) -> None:
    """Of the heads that look up events the first half look for keys, the others for intervals."""
    keys = [*THEME, *BETWEEN, *(key + by for key in THEME)]
    found = remembered(memory, keys, in_turn(len(keys)))
    state = len(keys) - 1
    scores = (found.query[0, :, state, None] * found.stored[0, :, :state]).sum(-1)[:EVENT_HEADS]
    nearest = scores.argmax(1).tolist()
    half = EVENT_HEADS // 2
    assert nearest[half:] == [len(THEME) - 1] * half
    assert (nearest[:half] == [len(THEME) - 1] * half) == (by == 0)
    assert (scores[half:, len(THEME) - 1] > 0.9).all()


def test_nothing_is_pointed_at_where_nothing_comes_again(memory: Memory) -> None:
    pointed = recalled(memory, [40, 41, 43, 46, 50, 55, 61, 68, 76, 85], in_turn(10)).pointed
    assert pointed[0, 0].sum() == 0
    assert pointed[0, 1:].sum(-1).max() < 0.05


CHORDS = [[40, 44, 47], [42, 45, 49, 61], [35, 51], [45, 48, 52], [47, 50, 54, 64], [33, 57, 60], [40, 52]]


@pytest.mark.parametrize("by", [0, 3])
def test_chords_are_found_whose_notes_come_in_another_order(memory: Memory, by: int) -> None:
    """Before the last chord is struck, its notes are pointed at, each as much as another."""
    keys, onsets = [], []
    for number, chord in enumerate([*CHORDS, *CHORDS]):
        again = number >= len(CHORDS)
        keys += [key + by for key in reversed(chord)] if again else chord
        onsets += [30 * number + i % 2 for i in range(len(chord))]
    onsets.sort()
    last = len(keys) - len(CHORDS[-1])
    head = GROUP_INTERVALS if by else GROUP_KEYS
    pointed = recalled(memory, keys, onsets).pointed[0, last, head]
    assert sorted(pointed.topk(2).indices.tolist()) == [40 + by, 52 + by]
    assert pointed.topk(2).values.tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert pointed.sum() > 0.9


def test_a_group_being_struck_counts_with_what_is_known_of_it(memory: Memory) -> None:
    """Before its second note its fingerprint is not that of the whole group; after its last one it is."""
    keys = [key for chord in [*CHORDS, *CHORDS] for key in chord]
    sizes = [len(chord) for chord in [*CHORDS, *CHORDS]]
    onsets = [30 * number for number, size in enumerate(sizes) for _ in range(size)]
    found = remembered(memory, keys, onsets)
    for head in POINTED:
        for number in range(2, len(sizes) - 1):
            start, after = sum(sizes[:number]), sum(sizes[: number + 1])
            whole = found.stored[0, head, after]  # under which the next group stands
            assert torch.allclose(found.query[0, head, after], whole, atol=1e-5)
            for state in range(start, after):
                assert not torch.allclose(found.query[0, head, state], whole, atol=1e-2)


def rolls_of(keys: list[int], onsets: list[int]) -> torch.Tensor:
    """The rolls that the key head gets, of each state and head: (T + 1, M, K)."""
    size = MEMORY_HEADS * (NUM_KEYS + 1)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        memory = Memory(size)
    torch.nn.init.eye_(memory.to_key.weight)
    found = recalled(memory, keys, onsets)
    return found.key[0, :, : MEMORY_HEADS * NUM_KEYS].view(-1, MEMORY_HEADS, NUM_KEYS)


@pytest.mark.parametrize("by", [0, 5])
def test_each_head_says_what_comes_next_as_keys(by: int) -> None:
    """Intervals of events from the last key, those of groups from the lowest key of the group before."""
    keys = [*THEME, *BETWEEN, *(key + by for key in THEME)]
    rolls = rolls_of(keys, in_turn(len(keys)))[len(keys) - 1]
    half = EVENT_HEADS // 2
    for head in (*range(half, EVENT_HEADS), POINTED[GROUP_INTERVALS]):
        assert rolls[head].argmax() == keys[-1]
        assert rolls[head].max() > 0.7
    for head in (*range(half), POINTED[GROUP_KEYS]):
        assert (rolls[head].argmax() == keys[-1]) == (by == 0)


def test_after_a_pedal_no_interval_of_events_is_told() -> None:
    keys = [*THEME[:4], PEDAL, *THEME[4:], *THEME[:4], PEDAL]
    rolls = rolls_of(keys, in_turn(len(keys)))
    half = EVENT_HEADS // 2
    assert rolls[-1, :half, THEME[4]].min() > 0.5
    assert not rolls[-1, half:EVENT_HEADS].any()
    assert not rolls[0].any()
    assert rolls[-2, half:EVENT_HEADS].any()


# --- what a fingerprint tells of


def test_fingerprints_of_events_tell_of_the_last_eight(memory: Memory) -> None:
    """And of what is common to them, before each token as under each event: one map makes both."""
    keys = melody(4, 30)
    found = remembered(memory, keys, in_turn(30))
    assert torch.equal(found.query[:, :EVENT_HEADS, :30], found.stored[:, :EVENT_HEADS])
    for at in (5, 11):
        other = [*keys[:at], keys[at] + 1, *keys[at + 1 :]]
        differs = (remembered(memory, other, in_turn(30)).query != found.query).any(-1)[0]
        half = EVENT_HEADS // 2
        for head, reach in ((0, EVENT_TAPS), (half, EVENT_TAPS + 1)):  # an interval has two ends
            assert differs[head].nonzero().flatten().tolist() == list(range(at + 1, at + 1 + reach))
    for name in ("query", "stored"):
        lengths = getattr(found, name).norm(dim=-1)
        assert torch.allclose(lengths[lengths > 0], torch.ones(()), atol=1e-5)


def test_what_lies_at_a_pedal_has_no_interval(memory: Memory) -> None:
    """A pedal and what follows it; then the interval heads point at nothing."""
    keys = [50, 53, PEDAL, 57, 60, PEDAL]
    found = remembered(memory, keys, in_turn(6))
    half = EVENT_HEADS // 2
    steps = found.values[0, half, :, -NUM_KEYS - 1 : -1]
    assert steps.sum(1).tolist() == [0, 1, 0, 0, 1, 0]
    assert steps.argmax(1)[[1, 4]].tolist() == [ROLL_CENTRE + 3] * 2
    assert found.after_pedal.tolist() == [[True, False, False, True, False, False, True]]
    assert found.last_key.tolist() == [[0, 50, 53, KEYS - 1, 57, 60, KEYS - 1]]
    in_groups = found.values[0, -1, :, -NUM_KEYS - 1 : -1]
    assert in_groups.sum(1).tolist() == [1, 1, 0, 1, 1, 0]
    keys_rolls = found.values[0, 0, :, -NUM_KEYS - 1 : -1]
    assert keys_rolls.argmax(1).tolist() == keys


# --- looking up


def test_looking_up_at_some_states_is_that_of_all() -> None:
    torch.manual_seed(0)
    awake = Memory(SIZE).eval()
    for layer in (awake.to_context, awake.to_key):
        torch.nn.init.normal_(layer.weight)
    keys = melody(5, 10) + melody(6, 4) + melody(5, 10)
    found = remembered(awake, keys, in_turn(len(keys)))
    place = torch.arange(len(keys))
    states = torch.tensor([[24, 0, 7, 7, 20]])
    whole = awake.recall(found)
    some = awake.recall(found.at(states), place < states[..., None])
    for name, value in vars(some).items():
        assert torch.allclose(value, getattr(whole, name)[:, states[0]], atol=1e-5), name
    assert whole.context[0, 0].abs().sum() == 0  # before the first event there is nothing
    later = awake.recall(found.at(states), place < states[..., None] - 2)
    assert not torch.allclose(later.context, some.context, atol=1e-3)


def test_an_event_that_may_not_be_looked_at_is_not_pointed_at(memory: Memory) -> None:
    keys = [*THEME, *BETWEEN, *THEME]
    states = torch.tensor([[len(keys) - 1]])
    allowed = torch.arange(len(keys)) < states[..., None]
    assert recalled_at(memory, keys, states, allowed)[GROUP_KEYS, THEME[-1]] > 0.9
    allowed[0, 0, len(THEME) - 1] = False
    assert recalled_at(memory, keys, states, allowed)[GROUP_KEYS, THEME[-1]] < 0.1


@torch.no_grad()
def recalled_at(memory: Memory, keys: list[int], states: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """What is pointed at in one state: (G, K)."""
    return memory.recall(remembered(memory, keys, in_turn(len(keys))).at(states), allowed).pointed[0, 0]


# --- pointing


def test_pointing_by_hand(memory: Memory) -> None:
    """Fresh, the two heads get a quarter of the weight each, by what they take."""
    logits = torch.linspace(-1, 1, NUM_KEYS)
    pointed = torch.zeros(len(POINTED), NUM_KEYS)
    pointed[0, 40], pointed[1, 41], pointed[1, 42] = 0.8, 0.5, 0.25
    with torch.no_grad():
        found = memory.point(logits, torch.randn(SIZE), torch.tensor(3), pointed).exp()
    expected = logits.softmax(-1) * (1 - 0.25 * 0.8 - 0.25 * 0.75) + 0.25 * pointed.sum(0)
    torch.testing.assert_close(found, expected)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


def test_what_is_not_pointed_at_is_left_as_it_was(memory: Memory) -> None:
    logits = torch.linspace(-1, 1, NUM_KEYS)
    with torch.no_grad():
        found = memory.point(logits, torch.randn(SIZE), torch.tensor(3), torch.zeros(len(POINTED), NUM_KEYS))
        torch.testing.assert_close(found, logits.log_softmax(-1))
        sure = torch.zeros(len(POINTED), NUM_KEYS)
        sure[:, 40] = 1
        logits[50] = 100
        found = memory.point(logits, torch.randn(SIZE), torch.tensor(3), sure)
    assert found.min().item() == pytest.approx(math.log(1e-9))  # no key is impossible
    assert found.exp()[[40, 50]].tolist() == pytest.approx([0.5, 0.5])


def test_a_fresh_memory_adds_nothing_to_contexts(memory: Memory) -> None:
    """Training begins from the network as it is without it, except what is pointed at."""
    found = recalled(memory, melody(1, 20), in_turn(20))
    assert not found.context.any()
    assert not found.key.any()
    assert found.pointed.any()
    assert found.context.shape == found.key.shape == (1, 21, SIZE)
    assert found.pointed.shape == (1, 21, len(POINTED), NUM_KEYS)
    assert remembered(memory, melody(1, 20), in_turn(20)).query.shape[:3] == (1, MEMORY_HEADS, 21)
    assert int(future_from(groups_of([50], [0]))[0, -1]) < NO_ONSET
