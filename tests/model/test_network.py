"""The network: what may hear what. The leak test goes by brute force over every position and field of a window."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the network needs torch, of the extra `train`")


from conftest import woken  # noqa: E402
from music_generator.errors import InputError  # noqa: E402
from music_generator.model import config as configs  # noqa: E402
from music_generator.model.config import (  # noqa: E402
    CUT,
    EDGE_OF_PIECE,
    FIELDS,
    MASKED,
    NO_ONSET,
    RECENCY_TICKS,
    ModelConfig,
)
from music_generator.model.network import (  # noqa: E402
    CLASSES,
    Batch,
    LockedDropout,
    Network,
    key_recency,
    last_events,
    nearness,
    next_onsets,
    recurrence_precision,
)
from music_generator.music.tokens import DURATION_BINS, END, KEYS, NUM_KEYS, RESUME, SHIFT_BINS  # noqa: E402
from music_generator.parallel import Shard  # noqa: E402

T = 10
NONE = T + 1  # the resume token where there is no future
# what is minimised: the sums of `Network.forward` but their number of tokens
LOSSES = (*FIELDS, "others", "decisions")
ROUNDING = {"atol": 1e-5, "rtol": 1e-5}  # a score of the memory is a cosine times 40, in float32
# gaps of a window of ten tokens: each token's resume token
NO_FUTURE = [NONE] * T
MIXED = [3, 3, 3, NONE, NONE, 8, 8, 8, NONE, NONE]
BACK_TO_BACK = [2, 2, 4, 4, 7, 7, 7, 9, 9, NONE]
TO_THE_END = [4, 4, 4, 4, T, T, T, T, T, T]  # of the piece


def make_batch(resume: list[list[int]], seed: int = 0, lengths: list[int] | None = None, chords: bool = False) -> Batch:
    """Windows of made tokens whose keys come again, some still held; `onset` and `held` follow from the bins.

    With `chords` half of the tokens come at once after the one before.
    """
    random = torch.Generator().manual_seed(seed)
    shape = (len(resume), len(resume[0]))
    gap_ends = torch.zeros(shape[0], shape[1] + 1, dtype=torch.bool)
    for row, tokens in enumerate(resume):
        gap_ends[row, [token for token in tokens if token <= shape[1]]] = True

    def bins(high: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=random)

    lengths = lengths or [shape[1]] * shape[0]
    present = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    shift, key, velocity, duration = bins(25), 30 + 3 * bins(4), bins(32), bins(40)
    shift, key, velocity, duration = (value * present for value in (shift, key, velocity, duration))
    if chords:
        shift = shift * bins(2)
    return Batch(
        shift=shift,
        key=key,
        velocity=velocity,
        duration=duration,
        onset=torch.as_tensor(SHIFT_BINS.edges)[shift].cumsum(1),
        held=torch.as_tensor(DURATION_BINS.edges)[duration],
        present=present,
        start=torch.full(shape[:1], CUT),
        stop=torch.full(shape[:1], EDGE_OF_PIECE),
        composer=torch.ones(shape[0], dtype=torch.int64),
        resume=torch.tensor(resume),
        gap_ends=gap_ends,
        kept=torch.zeros(shape, dtype=torch.bool),
        thinned=torch.zeros(shape[0], dtype=torch.int64),
        density=torch.zeros(shape, dtype=torch.int64),
        loudness=torch.zeros(shape, dtype=torch.int64),
        ends=torch.zeros(shape[0], dtype=torch.bool),
        plain=torch.zeros(shape[0], dtype=torch.bool),
    )


def changed(batch: Batch, name: str, at: int) -> Batch:
    """The batch with one field of one token (or one value of the window) another one, all else as it was."""
    value = getattr(batch, name).clone()
    if name in ("start", "stop"):
        value[:] = torch.where(value == CUT, EDGE_OF_PIECE, CUT)
    elif name == "composer":
        value[:] = 2 - value
    elif name in FIELDS:
        value[:, at] = (value[:, at] + 1) % CLASSES[name]
    else:
        value[:, at] += 7
    return replace(batch, **{name: value})


@torch.no_grad()
def everything(network: Network, batch: Batch) -> dict[str, torch.Tensor]:
    """All logits of the first window, past the masks: (T, classes) of each field; those of resuming and of the end.

    Each token's are given its future if it has one.
    """
    reading = network.read(batch)
    logits, ended = network.without_future(reading)
    found = {name: value[0] for name, value in logits.items()}
    resumed = ended[:0]
    if network.config.direction == "both":
        given, resumed = network.with_future(reading)
        has_future = batch.has_future[0, :, None]
        found = {name: torch.where(has_future, given[name][0], value) for name, value in found.items()}
    return {**found, "resumed": resumed, "ended": ended[0]}


def heard(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[tuple[str, int]]:
    """Where logits differ at all, bit for bit: (field, token)."""
    return {
        (name, t)
        for name in before
        for t in range(len(before[name]))
        if not torch.equal(before[name][t], after[name][t])
    }


def may_hear(
    field: str, t: int, resume: list[int], name: str, at: int, kept: tuple[int, ...] = (), thinned: int = 0
) -> bool:
    """The rule: whether the distribution of a token's field may depend on `name` of token `at`."""
    has_future = resume[t] <= len(resume)
    if at < t:
        # the shift of an earlier token is heard by the stack, its onset by the recency and the time to go
        return True
    if has_future and at >= resume[t] and (at in kept or at >= thinned):
        # of the future all but the shift before its first token; its onset is the time to go
        return not (name == "shift" and at <= max(resume[t], thinned))
    if resume[t] == len(resume) and name == "onset" and at == len(resume) - 1:
        return True  # the end of a piece is met with its last event
    if at == t:
        order = FIELDS.index(field)
        # its onset, which its shift gave: for the keys' recency, and for how soon a key comes again in the future
        told = field == "key" or (field == "duration" and has_future)
        return (name in FIELDS and FIELDS.index(name) < order) or (name == "onset" and told)
    return False


# --- the leak test


GAPS = {"none": NO_FUTURE, "mixed": MIXED, "back-to-back": BACK_TO_BACK, "end": TO_THE_END}


@pytest.mark.parametrize("resume", GAPS.values(), ids=GAPS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_nothing_is_heard_that_must_not_be(tiny_network: Network, cell: str, resume: list[int]) -> None:
    network = tiny_network if cell == "lstm" else woken(made(cell))
    batch = make_batch([resume])
    before = everything(network, batch)
    for name in (*FIELDS, "onset", "held"):
        for at in range(T):
            after = everything(network, changed(batch, name, at))
            for field, t in heard(before, after):
                if field in FIELDS:
                    assert may_hear(field, t, resume, name, at), f"{field} of {t} hears {name} of {at}"


def test_all_that_may_be_heard_is(tiny_network: Network) -> None:
    """The leak test would pass with a deaf network: each field is heard wherever it should be.

    The shifts of the future are heard as the onsets that they give, except by the memory, which reaches further.
    """
    batch = make_batch([BACK_TO_BACK])
    before = everything(tiny_network, batch)
    for name in FIELDS:
        for at in range(T):
            found = heard(before, everything(tiny_network, changed(batch, name, at)))
            expected = {
                (f, t) for f in FIELDS for t in range(T)
                if may_hear(f, t, BACK_TO_BACK, name, at) and not (name == "shift" and at > t)
            }  # fmt: skip
            assert {pair for pair in found if pair[0] in FIELDS} == expected, f"{name} of {at}"
    for at in range(T):
        found = heard(before, everything(tiny_network, changed(batch, "onset", at)))
        assert found >= {(field, t) for field in FIELDS for t in range(T) if BACK_TO_BACK[t] <= at}, f"onset of {at}"


def test_a_gap_is_deaf_to_itself(tiny_network: Network) -> None:
    """All tokens of a gap changed at once, in all fields: nothing before what its first token draws changes."""
    batch = make_batch([[NONE, NONE, NONE, NONE, NONE, 8, 8, 8, NONE, NONE]])
    before = everything(tiny_network, batch)
    after = batch
    for name in FIELDS:
        for at in (5, 6, 7):
            after = changed(after, name, at)
    after = everything(tiny_network, after)
    for name in FIELDS:
        same_until = 6 if name == "shift" else 5  # the shift of the gap's first token is drawn before all its fields
        assert torch.equal(before[name][:same_until], after[name][:same_until])
        assert not torch.equal(before[name][7], after[name][7])


def test_the_future_is_heard_only_where_it_is_given(tiny_network: Network) -> None:
    """All of the future of one gap changed at once: its gap hears it, the gaps without a future do not."""
    resume = [NONE, NONE, NONE, 6, 6, 6, NONE, NONE, NONE, NONE]
    batch = make_batch([resume])
    before, after = everything(tiny_network, batch), batch
    for name in (*FIELDS, "onset", "held"):
        for at in range(7, T):
            after = changed(after, name, at)
    found = heard(before, everything(tiny_network, after))
    assert {pair for pair in found if pair[1] < 7 and pair[0] in FIELDS} == {(f, t) for f in FIELDS for t in (3, 4, 5)}
    assert ("resumed", 0) in found


def test_how_soon_keys_come_is_heard_by_the_heads_of_key_and_duration_alone(tiny_network: Network) -> None:
    """A network that is deaf to the future except `key_next` and `next_onset`: what each tells, and to whom."""
    resume = [NONE, 4, 4, 4, NONE, NONE, NONE, NONE, NONE, NONE]
    batch = make_batch([resume])
    batch.key[0] = torch.tensor([30, 40, 50, 60, 40, 50, 40, 70, 60, 80])

    def onset_moved(at: int) -> Batch:
        """One token sounds a tick later, and those after it as before."""
        onset = batch.onset.clone()
        onset[:, at] += 1
        return replace(batch, onset=onset)

    batch = replace(batch, onset=torch.arange(T)[None] * 10)
    network = deaf_to_the_future(tiny_network)
    before = everything(network, batch)
    soon_heard = {("key", t) for t in (1, 2, 3)}
    expected = {
        5: soon_heard | {("duration", 2)},  # key 50, which token 2 strikes
        6: set(),  # key 40 comes sooner in token 4
        7: soon_heard,  # key 70, which is not struck in the gap
        8: soon_heard | {("duration", 3)},  # key 60, which token 3 strikes
    }
    for at, pairs in expected.items():
        found = heard(before, everything(network, onset_moved(at)))
        assert {pair for pair in found if pair[1] < 4 and pair[0] in FIELDS} == pairs, f"onset of {at}"
    for name in ("key_next", "next_onset"):
        silent = deaf_to_the_future(tiny_network)
        with torch.no_grad():
            getattr(silent, name).weight.zero_()
        found = heard(everything(silent, batch), everything(silent, onset_moved(5)))
        kept = "duration" if name == "key_next" else "key"
        assert {field for field, t in found if t < 4 and field in FIELDS} == {kept}


def test_without_a_future_nothing_ahead_matters(tiny_network: Network) -> None:
    batch, other = make_batch([NO_FUTURE], seed=1), make_batch([NO_FUTURE], seed=2)
    for cut in range(1, T):
        joined = replace(
            other,
            **{name: torch.cat([getattr(batch, name)[:, :cut], getattr(other, name)[:, cut:]], 1) for name in FIELDS},
            **{n: torch.cat([getattr(batch, n)[:, :cut], getattr(other, n)[:, cut:]], 1) for n in ("onset", "held")},
        )
        before, after = everything(tiny_network, batch), everything(tiny_network, joined)
        assert all(torch.equal(before[name][:cut], after[name][:cut]) for name in FIELDS)
        assert torch.equal(before["shift"][cut], after["shift"][cut])


def test_the_end_of_the_window_is_heard_only_with_a_future(tiny_network: Network) -> None:
    batch = make_batch([MIXED])
    before = everything(tiny_network, batch)
    found = heard(before, everything(tiny_network, changed(batch, "stop", 0)))
    of_gaps = {(name, t) for name in FIELDS for t in range(T) if MIXED[t] < NONE}
    assert found == of_gaps | {("resumed", 0), ("resumed", 1)}
    found = heard(before, everything(tiny_network, changed(batch, "start", 0)))
    assert found >= {(name, t) for name in FIELDS for t in range(T)} | {("ended", 0)}


def test_the_time_before_the_resume_token_is_not_heard(tiny_network: Network) -> None:
    """The gap's onsets moved, all from the resume token on where it was: the backward stack says the same."""
    resume = [NONE, NONE, 7, 7, 7, 7, 7, NONE, NONE, NONE]
    batch = make_batch([resume])
    moved = {"shift": batch.shift.clone(), "onset": batch.onset.clone()}
    moved["onset"][:, 2:7] += 3
    edges = torch.as_tensor(SHIFT_BINS.edges)
    shifts = torch.diff(moved["onset"], prepend=torch.zeros(1, 1, dtype=torch.int64))
    moved["shift"] = torch.searchsorted(edges, shifts, right=True) - 1
    assert not torch.equal(moved["shift"][:, 7], batch.shift[:, 7])
    after = replace(batch, **moved)
    with torch.no_grad():
        said, said_after = tiny_network.read_future(batch), tiny_network.read_future(after)
    assert torch.equal(said[:, 7:], said_after[:, 7:])
    assert not torch.equal(said[:, 6], said_after[:, 6])
    before, found = everything(tiny_network, batch), everything(tiny_network, after)
    assert torch.equal(before["shift"][2], found["shift"][2])


def test_resuming_hears_the_gap_and_its_future(tiny_network: Network) -> None:
    """The decision to resume at token r: given all before r and all from r on, but not the shift of r itself."""
    resume = [NONE, NONE, 5, 5, 5, NONE, NONE, NONE, NONE, NONE]
    batch = make_batch([resume])
    before = everything(tiny_network, batch)
    assert before["resumed"].shape == (1, CLASSES["shift"])
    for at in range(T):
        for name in FIELDS:
            found = ("resumed", 0) in heard(before, everything(tiny_network, changed(batch, name, at)))
            assert found == (name != "shift" or at < 5), f"{name} of {at}"
    for at in range(5, T):
        assert ("resumed", 0) in heard(before, everything(tiny_network, changed(batch, "onset", at))), f"onset of {at}"


def test_forward_only_ignores_any_future() -> None:
    network = made(direction="forward")
    with_future, without = make_batch([MIXED]), make_batch([NO_FUTURE])
    one, other = everything(network, with_future), everything(network, without)
    assert all(torch.equal(one[name], other[name]) for name in (*FIELDS, "ended"))
    assert not any("backward" in name or "time_to_go" in name for name, _ in network.named_parameters())
    with torch.no_grad():
        assert network(with_future) == network(without)


# --- the memory: windows long enough for fingerprints that lie wholly in the future


def gap_to(*stops: int, until: int) -> list[int]:
    """Resume tokens of gaps that lie end to end; after the last one there is no future."""
    resume: list[int] = []
    for stop in stops:
        resume += [stop] * (stop - len(resume))
    return resume + [until + 1] * (until - len(resume))


LONG = 40
KEPT, THINNED = (0, 2, 5, 6, 9), 12
# resume tokens, kept tokens and the first token after the thinned ones
LONG_GAPS = {
    "gaps": (gap_to(6, until=LONG)[:14] + gap_to(20, 24, until=LONG)[14:], (), 0),
    "end": (gap_to(10, LONG, until=LONG), (), 0),
    "kept": (gap_to(*KEPT, THINNED, 16, until=LONG), KEPT, THINNED),
    "kept to the window's end": (gap_to(*KEPT, until=LONG), KEPT, LONG),
}


def make_long(gaps: str, lengths: list[int] | None = None, chords: bool = True) -> Batch:
    resume, kept, thinned = LONG_GAPS[gaps]
    batch = make_batch([resume], lengths=lengths, chords=chords)
    batch.kept[0, list(kept)] = True
    batch.thinned[0] = thinned
    batch.gap_ends[0, 0] = 0 in kept
    return batch


def soft(network: Network) -> Network:
    """A copy whose memory looks at all that it may look at, so that a leak shows in float32."""
    copy = Network(network.config).eval()
    copy.load_state_dict(network.state_dict())
    with torch.no_grad():
        copy.memory.log_scale.fill_(math.log(4))
        copy.memory.null.fill_(0.3)
    return copy


@pytest.mark.parametrize("gaps", LONG_GAPS)
@pytest.mark.parametrize("chords", [True, False], ids=["chords", "line"])
def test_the_memory_tells_nothing_that_must_not_be_heard(tiny_network: Network, gaps: str, chords: bool) -> None:
    network, batch, rule = soft(tiny_network), make_long(gaps, chords=chords), LONG_GAPS[gaps]
    stops = batch.gap_ends[0].nonzero().flatten().tolist()
    before = everything(network, batch)
    for name in (*FIELDS, "onset", "held"):
        for at in range(LONG):
            after = changed(batch, name, at)
            if name == "onset" and at + 1 < LONG:  # no later than the next token's
                after.onset[:, at] = torch.minimum(after.onset[:, at], batch.onset[:, at + 1])
            for field, t in heard(before, everything(network, after)):
                if field in FIELDS:
                    assert may_hear(field, t, rule[0], name, at, *rule[1:]), f"{field} of {t} hears {name} of {at}"
                elif field == "resumed":
                    assert may_decide(stops[t], name, at, *rule[1:]), f"resuming at {stops[t]} hears {name} of {at}"


def may_decide(stop: int, name: str, at: int, kept: tuple[int, ...], thinned: int) -> bool:
    """Whether the decision to resume at `stop` may depend on `name` of token `at`."""
    if at < stop or (stop == LONG and name == "onset" and at == LONG - 1):
        return True
    return (at in kept or at >= thinned) and not (name == "shift" and at <= max(stop, thinned))


@pytest.mark.parametrize("gaps", LONG_GAPS)
def test_the_memory_tells_nothing_of_the_padding(tiny_network: Network, gaps: str) -> None:
    network, total = soft(tiny_network), 34
    batch = make_long(gaps, lengths=[total])
    batch.resume[batch.resume == LONG], batch.gap_ends[0, LONG] = total, False
    batch.gap_ends[0, total] = gaps == "end"
    batch.thinned.clamp_(max=total)
    before = everything(network, batch)
    for name in (*FIELDS, "onset", "held"):
        for at in (total, total + 2):
            found = heard(before, everything(network, changed(batch, name, at)))
            assert not {pair for pair in found if pair[0] in ("resumed", "ended") or pair[1] < total}


def test_the_thinned_future_is_that_of_the_kept_tokens(tiny_network: Network) -> None:
    """Between two kept tokens: the next kept ones are heard, what lies between them is not, nor what is left out."""
    network, batch = soft(tiny_network), make_long("kept", chords=False)
    before = everything(network, batch)
    for name in ("key", "velocity", "duration", "onset"):
        for at in range(3, LONG):
            found = heard(before, everything(network, changed(batch, name, at)))
            of_gap = {pair for pair in found if pair[1] in (0, 1, 2) and pair[0] in FIELDS}
            if at in KEPT or at >= THINNED:
                assert of_gap >= {(field, t) for field in FIELDS for t in (0, 1, 2)}, f"{name} of {at}"
            else:
                assert not of_gap, f"{name} of {at}"


def deaf_except_memory(network: Network) -> Network:
    """A copy that hears the future by its memory alone."""
    copy = deaf_to_the_future(soft(network))
    with torch.no_grad():
        copy.key_next.weight.zero_()
        copy.next_onset.weight.zero_()
    return copy


@pytest.mark.parametrize("gaps", LONG_GAPS)
def test_the_memory_holds_the_future_whose_fingerprints_lie_in_it(tiny_network: Network, gaps: str) -> None:
    """Each event is a group here: a fingerprint tells of nine events at most, the eighth of which has its interval."""
    network, batch = deaf_except_memory(tiny_network), make_long(gaps, chords=False)
    batch = replace(batch, onset=torch.arange(LONG)[None] * 10)
    resume, _, thinned = LONG_GAPS[gaps]
    stops = batch.gap_ends[0].nonzero().flatten().tolist()
    before = everything(network, batch)
    for at in range(LONG):
        found = heard(before, everything(network, changed(batch, "velocity", at)))
        for t in range(min(at, LONG)):
            expected = resume[t] <= LONG and at >= max(resume[t], thinned) + 9
            assert {field for field, place in found if place == t and field in FIELDS} == (
                set(FIELDS) if expected else set()
            ), f"{t} hears {at}"
        for i, stop in enumerate(stops):
            expected = at < stop or at >= max(stop, thinned) + 9
            assert (("resumed", i) in found) == expected, f"resuming at {stop} hears {at}"


def test_what_a_gap_is_told_is_heard_by_its_tokens_alone(tiny_network: Network) -> None:
    batch = make_batch([MIXED])
    before = everything(tiny_network, batch)
    for name in ("density", "loudness"):
        for tokens, decisions in (([0, 1, 2], {("resumed", 0)}), ([5], set()), ([7], {("resumed", 1)})):
            told = getattr(batch, name).clone()
            told[0, tokens] = 3
            found = heard(before, everything(tiny_network, replace(batch, **{name: told})))
            assert found == {(field, t) for field in FIELDS for t in tokens} | decisions, f"{name} of {tokens}"
        told = torch.full_like(batch.density, 2)
        assert ("ended", 0) in heard(before, everything(tiny_network, replace(batch, **{name: told})))


def test_given_the_past_alone_gaps_do_not_matter(tiny_network: Network) -> None:
    """Each token is scored without a future, too, wherever gaps lie and whatever is kept."""
    gaps, none = make_long("kept"), make_long("kept")
    none = replace(none, resume=none.resume.fill_(LONG + 1), gap_ends=none.gap_ends & False, kept=none.kept & False)
    none = replace(none, thinned=none.thinned * 0, stop=torch.full_like(none.stop, CUT))
    with torch.no_grad():
        (one, ended), (other, other_ended) = (
            tiny_network.without_future(tiny_network.read(batch)) for batch in (gaps, none)
        )
    assert all(torch.equal(one[name], other[name]) for name in FIELDS)
    assert torch.equal(ended, other_ended)


# --- the end of a piece


def test_a_gap_to_the_end_of_a_piece_has_the_time_to_its_last_event(tiny_network: Network) -> None:
    """No shift leads past the last event. After it none but 0 is left, and the gap resumes: nothing comes."""
    batch = make_batch([TO_THE_END[:7] + [NONE] * 3], lengths=[7])
    batch.resume[0, 4:7], batch.gap_ends[0] = 7, False
    batch.gap_ends[0, [4, 7]] = True
    logits = everything(tiny_network, batch)
    firsts, before = SHIFT_BINS.edges[:-1].tolist(), torch.nn.functional.pad(batch.onset, (1, 0))[0]
    for t in (4, 5, 6):
        masked, left = logits["shift"][t] == MASKED, int(batch.onset[0, 6] - before[t])
        assert masked[: len(firsts)].tolist() == [first > left for first in firsts]
        assert (bool(masked[RESUME]), bool(masked[END])) == (False, True)
    possible = (logits["resumed"][1] > MASKED).nonzero().flatten().tolist()
    assert possible == [0, RESUME]


def test_the_end_of_a_piece_as_a_future_is_met_at_once_after_its_last_event(tiny_network: Network) -> None:
    """The time to go is 0 there: another row of its table changes nothing, that of 0 does."""
    batch = make_batch([TO_THE_END])
    before = everything(tiny_network, batch)["resumed"][1]
    for row, matters in ((0, True), (1, False), (configs.NO_FUTURE, False)):
        copy = Network(tiny_network.config).eval()
        copy.load_state_dict(tiny_network.state_dict())
        with torch.no_grad():
            copy.time_to_go.weight[row] += 1
        assert torch.equal(everything(copy, batch)["resumed"][1], before) != matters, row


def test_the_end_is_learnt_without_a_future_and_resuming_with_it(tiny_network: Network) -> None:
    batch = make_batch([TO_THE_END])
    batch.ends[:] = True
    logits = everything(tiny_network, batch)
    resumed, ended = logits["resumed"].log_softmax(-1)[:, RESUME], logits["ended"].log_softmax(-1)[END]
    with torch.no_grad():
        decisions = tiny_network(batch)["decisions"]
    torch.testing.assert_close(decisions, -resumed.sum() - ended)
    assert len(resumed) == 2
    assert -20 < ended < 0
    open_end = replace(batch, ends=torch.zeros(1, dtype=torch.bool))
    with torch.no_grad():
        torch.testing.assert_close(tiny_network(open_end)["decisions"], -resumed.sum())


# --- what is not learnt of plain windows


def test_neither_velocities_nor_pedals_are_learnt_from_plain_windows() -> None:
    """By hand, given the past and given the future; and no gradient reaches the head of velocities."""
    network = woken(made())
    batch = make_batch([MIXED, MIXED])
    batch.key[0, [1, 6]] = KEYS + 1
    batch.plain[0] = True
    reading = network.read(batch)
    (alone, _), (given, _) = network.without_future(reading), network.with_future(reading)
    alone, given = network.nats(alone, batch), network.nats(given, batch)
    sums = network(batch)
    notes = batch.key[0] < KEYS
    with_future = batch.has_future
    expected = sum(given[name][1, with_future[1]].sum() for name in FIELDS)
    for name in ("shift", "key", "duration"):
        expected = expected + alone[name][0, notes].sum() + given[name][0, notes & with_future[0]].sum()
    torch.testing.assert_close(sums["others"], expected)
    for name in FIELDS:
        torch.testing.assert_close(sums[name], alone[name][1].sum())
    assert sums["tokens"] == T

    network.zero_grad()
    alone = network(replace(batch, plain=torch.ones(2, dtype=torch.bool)))
    sum(alone[name] for name in LOSSES).backward()
    assert all(not weight.grad.any() for weight in network.heads["velocity"].parameters())
    assert all(weight.grad.any() for weight in network.heads["duration"].out.parameters())


@pytest.mark.parametrize("plain", [True, False])
def test_a_pedal_that_nothing_follows_is_lost_on_a_plain_window(tiny_network: Network, plain: bool) -> None:
    """Any other pedal in its place costs the same there, and not elsewhere."""
    batch = make_batch([NO_FUTURE])
    batch.key[0, T - 1], batch.plain[:] = KEYS, plain
    with torch.no_grad():
        before = tiny_network(batch)
        for name in FIELDS:
            after = tiny_network(changed(batch, name, T - 1))
            same = all(torch.equal(before[part], after[part]) for part in (*FIELDS, "others"))
            assert same == plain, name


# --- networks without a memory and steering


def test_a_network_may_have_neither_memory_nor_steering(tiny_network: Network) -> None:
    """Then it lacks their weights and nothing else, and does not hear what is told."""
    assert (tiny_network.config.memory > 0, tiny_network.config.steered) == (True, True)
    added = {name for name in tiny_network.state_dict() if name.startswith(("memory.", "density.", "loudness."))}
    assert added
    plain = made(memory=0, steered=False)
    assert set(plain.state_dict()) == set(tiny_network.state_dict()) - added
    found = everything(plain, make_batch([MIXED]))
    told = make_batch([MIXED])
    told.density[:], told.loudness[:] = 3, 4
    assert not heard(found, everything(plain, told))


# --- padding


@pytest.mark.parametrize("given", [True, False], ids=["future", "none"])
def test_padding_never_matters(tiny_network: Network, given: bool) -> None:
    windows = {}
    for padded in (7, T, 25):
        resume = [3, 3, 3, 5, 5, 6, 7] if given else [padded + 1] * 7
        windows[padded] = make_batch([resume + [padded + 1] * (padded - 7)], lengths=[7])
    short = windows[7]
    for batch in windows.values():
        for name in (*FIELDS, "onset", "held"):
            value = getattr(batch, name)
            value[:, :7] = getattr(short, name)
            value[:, 7:] = value[:, 6:7] if name == "onset" else 0
    plain = everything(tiny_network, short)
    for padded in (T, 25):
        found = everything(tiny_network, windows[padded])
        for name in FIELDS:
            torch.testing.assert_close(found[name][:7], plain[name], **ROUNDING)
        torch.testing.assert_close(found["resumed"], plain["resumed"], **ROUNDING)
        torch.testing.assert_close(found["ended"], plain["ended"], **ROUNDING)
        with torch.no_grad():
            sums, padded_sums = tiny_network(short), tiny_network(windows[padded])
        for name in sums:
            torch.testing.assert_close(sums[name], padded_sums[name], atol=1e-3, rtol=1e-5)


def test_what_lies_in_the_padding_never_matters(tiny_network: Network) -> None:
    batch = make_batch([[3, 3, 3, 5, 5, 6, 7, NONE, NONE, NONE]], lengths=[7])
    before = everything(tiny_network, batch)
    for name in (*FIELDS, "onset", "held"):
        found = heard(before, everything(tiny_network, changed(batch, name, 8)))
        assert not {pair for pair in found if pair[0] in ("resumed", "ended") or pair[1] < 7}


def test_windows_of_a_batch_do_not_hear_each_other(tiny_network: Network) -> None:
    both = make_batch([MIXED, [2, 2, 4, 4, 7, 7, 7, NONE, NONE, NONE]], lengths=[T, 8])
    alone = Batch(**{name: value[:1] for name, value in vars(both).items()})
    together, by_itself = everything(tiny_network, both), everything(tiny_network, alone)
    for name in FIELDS:
        torch.testing.assert_close(together[name], by_itself[name], **ROUNDING)
    torch.testing.assert_close(together["resumed"][:2], by_itself["resumed"], **ROUNDING)


# --- masks


def test_no_shift_past_the_future_and_no_end_before_it(tiny_network: Network) -> None:
    batch = make_batch([MIXED])
    logits = everything(tiny_network, batch)["shift"]
    before = torch.nn.functional.pad(batch.onset, (1, 0))[0]
    for t in range(T):
        masked = logits[t] == MASKED
        assert masked[RESUME] == (MIXED[t] == NONE)
        assert masked[END] == (MIXED[t] < NONE)
        left = int(batch.onset[0, MIXED[t]] - before[t]) if MIXED[t] < NONE else math.inf
        assert masked[: len(SHIFT_BINS)].tolist() == [first > left for first in SHIFT_BINS.edges[:-1].tolist()]


def test_resuming_and_ending_have_their_masks(tiny_network: Network) -> None:
    logits = everything(tiny_network, make_batch([MIXED]))
    assert (logits["resumed"][:, RESUME] > MASKED).all()
    assert (logits["resumed"][:, END] == MASKED).all()
    assert logits["ended"][RESUME] == MASKED
    assert logits["ended"][END] > MASKED


def test_forward_counts_tokens_and_decisions(tiny_network: Network) -> None:
    """Each token without a future; each that is not kept and has a future with it, too."""
    batch = make_batch([MIXED, [2, 2, NONE, NONE, 6, 6, NONE, NONE, NONE, NONE]], lengths=[T, 6])
    batch.ends[1] = True
    batch.kept[0, 6] = True
    with torch.no_grad():
        sums = tiny_network(batch)
        reading = tiny_network.read(batch)
        logits, ended = tiny_network.without_future(reading)
        given, resumed = tiny_network.with_future(reading)
    assert sums["tokens"] == T + 6
    expected = -resumed.log_softmax(-1)[:, RESUME].sum() - ended.log_softmax(-1)[1, END]
    torch.testing.assert_close(sums["decisions"], expected)
    assert len(resumed) == 4
    for name, nats in tiny_network.nats(logits, batch).items():
        torch.testing.assert_close(sums[name], nats[0].sum() + nats[1, :6].sum())
    nats = torch.stack(list(tiny_network.nats(given, batch).values())).sum(0)
    torch.testing.assert_close(sums["others"], nats[0, [0, 1, 2, 5, 7]].sum() + nats[1, [0, 1, 4, 5]].sum())


def test_nats_add_the_width_of_the_bin(tiny_network: Network) -> None:
    batch = make_batch([MIXED])
    batch.shift[0, 0], batch.duration[0, 0] = len(SHIFT_BINS) - 1, len(DURATION_BINS) - 1
    logits = {name: torch.zeros(1, T, CLASSES[name]) for name in FIELDS}
    nats = tiny_network.nats(logits, batch)
    for name in FIELDS:
        bins = {"shift": SHIFT_BINS, "duration": DURATION_BINS}.get(name)
        for t in range(T):
            width = int(bins.widths[getattr(batch, name)[0, t]]) if bins else 1
            assert nats[name][0, t].item() == pytest.approx(math.log(CLASSES[name]) + math.log(width), abs=1e-5)


# --- what each key did and does


def test_last_events_against_a_loop() -> None:
    batch = make_batch([MIXED, NO_FUTURE], seed=5, lengths=[T, 6])
    struck, released = last_events(batch.key, batch.onset, batch.held, batch.present)
    assert struck.shape == released.shape == (2, T + 1, NUM_KEYS)
    for row in range(2):
        onset_of: dict[int, int] = {}
        end_of: dict[int, int] = {}
        for t in range(T + 1):
            for key in range(NUM_KEYS):
                assert struck[row, t, key] == onset_of.get(key, -(10**6))
                assert released[row, t, key] == end_of.get(key, -(10**6))
            if t < T and batch.present[row, t]:
                key, onset = int(batch.key[row, t]), int(batch.onset[row, t])
                onset_of[key], end_of[key] = onset, onset + int(batch.held[row, t])


def test_next_onsets_against_a_loop() -> None:
    batch = make_batch([MIXED, NO_FUTURE], seed=5, lengths=[T, 6])
    found = next_onsets(batch.key, batch.onset, batch.present)
    assert found.shape == (2, T, NUM_KEYS)
    for row in range(2):
        next_of: dict[int, int] = {}
        for t in reversed(range(T)):
            if batch.present[row, t]:
                next_of[int(batch.key[row, t])] = int(batch.onset[row, t])
            for key in range(NUM_KEYS):
                assert found[row, t, key] == next_of.get(key, NO_ONSET)


def test_nearness_by_hand() -> None:
    ticks = torch.tensor([0, 50, 100, NO_ONSET])
    torch.testing.assert_close(nearness(ticks), torch.tensor([1, math.exp(-0.5), math.exp(-1), 0]))
    assert RECENCY_TICKS == 100


def test_classes_of_the_time_to_go(tiny_network: Network) -> None:
    """To the tick up to 2 s, then wider; the last bin takes all that is later, except what never comes."""
    ticks = torch.tensor([-3, 0, 1, 199, 200, 10**6, NO_ONSET // 2 - 1, NO_ONSET // 2, NO_ONSET])
    last = configs.NO_FUTURE - 1
    found = tiny_network.time_to_go_bin(ticks).tolist()
    assert found == [0, 0, 1, 199, 200, last, last, configs.NO_FUTURE, configs.NO_FUTURE]
    assert tiny_network.time_to_go_bin(torch.tensor(NO_ONSET - 8_000_000)) == configs.NO_FUTURE  # a day before never


def test_edges_of_the_time_to_go() -> None:
    """One bin each up to 2 s, then 7 % wider, up to three minutes; what is made today equals what was trained with."""
    edges = configs.TIME_TO_GO_EDGES
    assert edges.dtype.kind == "i"
    assert edges[:201].tolist() == [*range(1, 201), 214]
    ratios = edges[201:-1] / edges[200:-2]
    assert ((ratios > 1.06) & (ratios < 1.08)).all()
    assert edges[-2:].tolist() == [round(200 * 1.07**66), NO_ONSET // 2]
    assert len(edges) == configs.NO_FUTURE == 267


def test_key_recency_by_hand() -> None:
    never = -(10**6)
    struck, released = torch.tensor([90, 40, never]), torch.tensor([110, 100, never])
    found = key_recency(struck, released, torch.tensor(100))
    expected = [math.exp(-0.1), math.exp(-0.6), 0, math.exp(-0.5), 0, 0, 1, 0, 0]
    torch.testing.assert_close(found, torch.tensor(expected))


# --- dropout


def test_dropout_leaves_out_the_same_units_of_all_tokens_of_a_window() -> None:
    torch.manual_seed(0)
    dropout = LockedDropout(0.25)
    x = torch.ones(200, 7, 50)
    kept = dropout.train()(x)
    assert torch.equal(kept, kept[:, :1].expand_as(kept))
    assert not torch.equal(kept[0], kept[1])
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert dropout(x[:, 0]).shape == (200, 50)
    assert torch.equal(dropout.eval()(x), x)
    assert LockedDropout(0.0).train()(x) is x


@pytest.mark.parametrize("count", [2, 4])
def test_dropout_of_a_window_does_not_depend_on_how_a_batch_is_shared(count: int) -> None:
    """Of windows of tokens, of one context a window, and of some contexts of a window."""
    dropout = LockedDropout(0.25).train()
    rows = torch.tensor([0, 0, 1, 3, 3, 7])

    def drawn(shard: Shard, size: int, rows: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(0)
        dropout.shard = shard
        made = [dropout(torch.ones(size, 7, 50)), dropout(torch.ones(size, 50))]
        return [*made, dropout(torch.ones(len(rows), 50), rows, size)]

    tokens, contexts, some = drawn(Shard(), 8, rows)
    assert torch.equal(some[0], some[1])
    assert not torch.equal(some[0], some[2])
    for index in range(count):
        mine = rows % count == index
        part = drawn(Shard(index + 1, count), 8 // count, rows[mine] // count)
        assert torch.equal(part[0], tokens[index::count])
        assert torch.equal(part[1], contexts[index::count])
        assert torch.equal(part[2], some[mine])


def test_a_network_takes_a_shard_with_all_its_dropout(tiny_network: Network) -> None:
    """The losses of the shards of a batch add up to those of the batch."""
    network = woken(Network(replace(tiny_network.config, dropout=0.3))).train()
    batch = make_batch([MIXED, BACK_TO_BACK, NO_FUTURE, MIXED], lengths=[T, T, T, T - 1])
    torch.manual_seed(0)
    whole = network(batch)
    parts = []
    for index in (1, 2):
        torch.manual_seed(0)
        network.take_shard(Shard(index, 2))
        parts.append(network(Batch(**{name: value[index - 1 :: 2] for name, value in vars(batch).items()})))
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


# --- conditioning, cells, directions


def test_an_unknown_composer_adds_nothing_at_the_start() -> None:
    """All composers begin as none; what training learns of one is used for it alone."""
    network = made(composers=("Alban Berg", "Frédéric Chopin"))
    batch = make_batch([MIXED])
    unknown = replace(batch, composer=torch.zeros(1, dtype=torch.int64))
    before = everything(network, unknown)
    assert not heard(before, everything(network, batch))
    with torch.no_grad():
        network.forward_input.composer.weight[1] += 1
    assert not heard(before, everything(network, unknown))
    assert heard(before, everything(network, batch)) >= {("shift", t) for t in range(T)}


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("direction", ["both", "forward"])
def test_every_cell_and_direction_trains(cell: str, direction: str) -> None:
    network = made(cell, direction, dropout=0.1).train()
    batch = make_batch([MIXED, BACK_TO_BACK])
    batch.ends[:] = True
    sums = network(batch)
    alone = sum(sums[name] for name in FIELDS) / sums["tokens"]
    assert 8 < alone.item() < 20
    sum(sums[name] for name in LOSSES).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_every_weight_gets_a_gradient_without_any_future() -> None:
    """Several processes train together only if no batch leaves a weight out."""
    network = made()
    sums = network(make_batch([NO_FUTURE]))
    sum(sums[name] for name in LOSSES).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_pedals_are_keys_like_any_other(tiny_network: Network) -> None:
    batch = make_batch([NO_FUTURE])
    batch.key[0, 2] = KEYS + 1
    logits = everything(tiny_network, batch)
    assert logits["key"].shape == (T, NUM_KEYS)
    assert torch.isfinite(logits["velocity"]).all()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"cell": "transformer"}, "`cell` must be one of lstm, gru, rnn, not 'transformer'"),
        ({"direction": "backward"}, "`direction` must be one of both, forward, not 'backward'"),
        ({"forward_size": 0}, "`forward_size` must be at least 1 and at most 16384, not 0"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1, not 1.0"),
        ({"memory": -1}, "`memory` must be at least 0 and at most 65536, not -1"),
        ({"memory": True}, "`memory` must be a whole number, not True"),
        ({"memory": 1.5}, "`memory` must be a whole number, not 1.5"),
        ({"steered": 1}, "`steered` must be True or False, not 1"),
    ],
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ModelConfig(**wrong)  # type: ignore[arg-type]


def test_the_configuration_round_trip() -> None:
    config = ModelConfig(cell="gru", composers=("Alban Berg",), dropout=0.25)
    assert ModelConfig(**config.to_json()) == config


def made(
    cell: str = "lstm", direction: str = "both", composers: tuple[str, ...] = ("A", "B"), **options: Any
) -> Network:
    """A fresh network of a few units, in evaluation mode."""
    sizes = {"forward_size": 8, "backward_size": 8, "input_size": 8, "head_size": 8}
    torch.manual_seed(3)
    config = ModelConfig(cell=cell, direction=direction, composers=composers, **{"dropout": 0.0, **sizes, **options})
    return Network(config).eval()


def deaf_to_the_future(network: Network) -> Network:
    """A copy that hears of the future only how soon each key comes, and the drawn one again."""
    copy = Network(network.config).eval()
    copy.load_state_dict(network.state_dict())
    with torch.no_grad():
        for silent in (copy.time_to_go, copy.key_time_to_go, copy.future, copy.fuse_out):
            silent.weight.zero_()
        copy.fuse_out.bias.zero_()
    return copy


def test_padding_leaves_the_gradients_finite(tiny_network: Network) -> None:
    """A piece shorter than its window, with gaps that have a future: what is not heard must not be infinite either."""
    batch = make_batch([[3, 3, 3, 6, 6, 6, 7, NONE, NONE, NONE]], lengths=[7])
    batch = replace(batch, onset=batch.onset * 50)
    sums = tiny_network(batch)
    weights = [weight for weight in tiny_network.parameters() if weight.requires_grad]
    found = torch.autograd.grad(sum(sums[name] for name in LOSSES), weights)
    assert all(torch.isfinite(some).all() for some in found)


# --- on a GPU


def test_recurrent_layers_do_without_autocast_on_cuda() -> None:
    """There it makes cuDNN compute in float16, whatever type was asked for."""
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)
    try:
        with recurrence_precision("cuda"):
            assert not torch.is_autocast_enabled("cuda")
        assert torch.is_autocast_enabled("cuda")
        with recurrence_precision("cpu"):
            assert torch.is_autocast_enabled("cuda")
    finally:
        torch.set_autocast_enabled("cuda", before)


def test_a_pinned_batch_is_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor of it is pinned; without a GPU there is no memory of that kind."""
    names = list(Batch.__dataclass_fields__)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    batch = Batch(**{name: torch.tensor([i]) for i, name in enumerate(names)}).pinned()
    assert [int(getattr(batch, name)) for name in names] == [i + 1 for i in range(len(names))]
