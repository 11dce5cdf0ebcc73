"""The kernel is the reference, in 8 bits to the bit: for every model, in any company, on every kind of vectors."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from some_slots import (
    NOW,
    arrays_of,
    assert_near,
    assert_same,
    copied,
    fill_slot,
    force,
    futures,
    some_slots,
    some_tensors,
    some_token,
    stepped,
)

from music_generator.data.corpus import Corpus
from music_generator.engine import kernel
from music_generator.engine.engine import Engine
from music_generator.engine.memory import Entries, Memories
from music_generator.engine.reference import Reference
from music_generator.engine.rules import WRITING
from music_generator.engine.slots import Slots
from music_generator.errors import InputError, InstallationError
from music_generator.generation import SamplingOptions, compose, generate_many, to_compose
from music_generator.model.bundle import Bundle, open_bundle
from music_generator.model.config import CLASSES, FIELDS, ModelConfig
from music_generator.model.pack import PRECISIONS, LinearShape
from music_generator.music.tokens import NUM_KEYS, Array

if kernel.vectors() is None:
    pytest.skip("no kernel was built here: reinstall with pip, see hatch_build.py", allow_module_level=True)

# those that this processor has, the best first
KINDS_OF_VECTORS = {
    "vnni": ("vnni", "avx2", "ssse3"),
    "avx2": ("avx2", "ssse3"),
    "dotprod": ("dotprod", "neon"),
}.get(str(kernel.vectors()), (str(kernel.vectors()),))
Compare = Callable[[list[dict[str, Array]], list[dict[str, Array]]], None]
COMPARE: dict[str, Compare] = {"int8": assert_same, "float32": assert_near}


def both_backends(bundle: Bundle, precision: str) -> list[Engine]:
    return [Engine(bundle, precision=precision, backend=backend) for backend in ("kernel", "numpy")]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


# --- the same as the reference


@pytest.mark.parametrize("precision", PRECISIONS)
def test_reading_is_that_of_the_reference(exported: tuple[Any, Bundle], tiny_corpus: Corpus, precision: str) -> None:
    """Past and future, of none, one and some tokens, after each token and after the last."""
    _, bundle = exported
    engines = both_backends(bundle, precision)
    for rows in (tiny_corpus.piece_rows(0)[:count] for count in (0, 1, 30)):
        pasts = [engine.read_past(rows, 1, 17, cut=len(rows) == 1) for engine in engines]
        COMPARE[precision](*([vars_of(past)] for past in pasts))
        if bundle.config.direction == "both" and len(rows):
            for one, other in zip(*(engine.read_futures(rows, 2) for engine in engines), strict=True):
                COMPARE[precision]([vars_of(one)], [vars_of(other)])
            COMPARE[precision](*([vars_of(engine.read_future(rows, 70, 2))] for engine in engines))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_memory_of_a_long_past_is_that_of_the_reference(
    bundle: Bundle, tiny_corpus: Corpus, precision: str
) -> None:
    """Of several times as many events as its ring holds: what is displaced again need not be stored."""
    rows = np.concatenate([tiny_corpus.piece_rows(i) for i in range(4)])
    ring = bundle.config.memory
    for count in (ring, ring + 1, 3 * ring + 5):
        assert count <= len(rows)
        COMPARE[precision](
            *([vars_of(engine.read_past(rows[:count], 1))] for engine in both_backends(bundle, precision))
        )


def vars_of(read: Any) -> dict[str, Array]:
    """All that has been read, by name; of the memory's ring and of the future's entries too."""
    found: dict[str, Array] = {}
    for name, value in vars(read).items():
        if isinstance(value, Memories | Entries):
            found |= {f"{name}.{part}": array for part, array in vars(value).items() if isinstance(array, np.ndarray)}
        elif value is not None:
            found[name] = np.asarray(value)
    return found


@pytest.mark.parametrize("scored", [False, True], ids=["drawn", "forced"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_are_those_of_the_reference(exported: tuple[Any, Bundle], precision: str, scored: bool) -> None:
    """Draws, states, contexts, what each key did and, of forced tokens, the logits; 7 slots, 6 tokens."""
    _, bundle = exported
    for has_future in futures(bundle.config):
        one, other = (
            stepped(engine, some_slots(engine, 7, has_future=has_future, scored=scored))
            for engine in both_backends(bundle, precision)
        )
        COMPARE[precision](one, other)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_of_draws_are_those_of_the_reference(bundle: Bundle, precision: str) -> None:
    """Before noise and constraints; they are kept of tokens that are drawn too, if they are asked for."""
    for has_future in (False, True):
        found = []
        for engine in both_backends(bundle, precision):
            slots = some_slots(engine, 5, has_future=has_future)
            slots.logits = np.zeros((5, sum(CLASSES.values())), np.float32)
            found.append(stepped(engine, slots))
        COMPARE[precision](*found)
        assert np.ptp(found[0][-1]["logits"], axis=1).min() > 0.1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_writing_is_that_of_the_reference(exported: tuple[Any, Bundle], precision: str) -> None:
    """The tokens, and all that is left in the slots, through a block of noise; slots end at different times."""
    _, bundle = exported
    for has_future in futures(bundle.config):
        found = []
        for engine in both_backends(bundle, precision):
            slots = some_slots(engine, 6, has_future=has_future, seed=40)
            rows = np.concatenate(engine.backend.write(slots, 6, 100), 1)
            found.append([{"rows": np.where(rows[..., 1:2] >= 0, rows, -1), **copied(slots)}])
        COMPARE[precision](*found)
        rows = found[0][0]["rows"]
        assert 1 < len(rows) <= 32
        assert (rows[..., 1] >= 0).any()


@pytest.mark.parametrize("has_future", [False, True])
def test_the_bundled_models_steps_are_those_of_the_reference(has_future: bool) -> None:
    """Of its size, and several blocks of slots."""
    one, other = (
        stepped(engine, some_slots(engine, 19, has_future=has_future), 2)
        for engine in both_backends(open_bundle(), "int8")
    )
    assert_same(one, other)


def test_the_bundled_model_reads_as_the_reference(tiny_corpus: Corpus) -> None:
    rows = tiny_corpus.piece_rows(0)[:25]
    one, other = (
        [vars_of(engine.read_past(rows, 3)), vars_of(engine.read_future(rows, 9, 3))]
        for engine in both_backends(open_bundle(), "int8")
    )
    assert_same(one, other)


PAIRS = [(64, 64), (-64, -64), (127, -127), (1, 127), (-127, -1)]


@pytest.mark.parametrize(("cell", "units"), [("lstm", 33), ("gru", 33), ("rnn", 33), ("rnn", 1101)])
@pytest.mark.parametrize("vectors", KINDS_OF_VECTORS)
def test_the_largest_sums_are_exact(cell: str, units: int, vectors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights as large as may be and inputs at the ends of their range, where sums in 16 bits would overflow.

    Those of 1,101 units pass 2^24, up to which float32 has every whole number.
    """
    monkeypatch.setattr(kernel, "vectors", lambda: vectors)
    rng = np.random.default_rng(5)
    config = ModelConfig(
        cell=cell, forward_size=units, backward_size=7, input_size=5, head_size=65, memory=60, composers=("A",)
    )

    def largest(part: LinearShape) -> Array:
        parts = []
        for inputs in part.inputs:
            pairs = rng.choice(PAIRS, (-(-inputs // 2), part.outputs))
            pairs[:, ::2] = rng.choice(PAIRS[:2], part.outputs)[::2]  # every other output: all of one sign
            parts.append(pairs.transpose(0, 2, 1).reshape(-1, part.outputs)[:inputs])
        weight = np.concatenate(parts).astype(np.int8)
        if cell == "gru" and part.name == "forward.0":  # of its candidate's parts one reads the input, one the state
            weight[:-units, 3 * units :] = weight[-units:, 2 * units : 3 * units] = 0
        return weight

    tensors = some_tensors(config, "int8", largest)
    backends = kernel.Kernel(config, "int8", tensors), Reference(config, "int8", tensors)
    passes = [linear.weight.dtype == np.float64 for linear in backends[1].linears.values()]
    assert any(passes) == (units > 1000)
    found = []
    for backend in backends:
        slots = Slots(config, 4, "int8", scored=True, fixed=40)
        for slot in range(4):
            fill_slot(slots, slot, slot, 2, has_future=True)
            slots.states[slot] = 1 if slot == 0 else np.sign(slots.states[slot])
        turns = []
        for turn in range(4):
            backend.step(slots, 0, 4, True)
            turns.append(copied(slots))
            for slot in range(4):
                force(slots, slot, some_token(np.random.default_rng([slot, turn])))
        found.append(turns)
    assert_same(*found)


@pytest.mark.parametrize("units", [1, 3, 16, 17, 64])
@pytest.mark.parametrize("vectors", KINDS_OF_VECTORS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_size_of_layers(precision: str, vectors: str, units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that are no multiple of what vectors hold; no composers, one unit."""
    monkeypatch.setattr(kernel, "vectors", lambda: vectors)
    config = ModelConfig(
        forward_layers=3,
        forward_size=units,
        backward_layers=2,
        backward_size=units + 1,
        input_size=2,
        head_size=units,
        memory=33,
    )
    rng = np.random.default_rng(6)

    def weight(part: LinearShape) -> Array:
        shape = sum(part.inputs), part.outputs
        if precision == "int8":
            return rng.integers(-64, 65, shape).astype(np.int8)
        return (rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)

    tensors = some_tensors(config, precision, weight)
    backends = (
        kernel.Kernel(config, precision, tensors),
        Reference(config, precision, tensors),
    )
    tokens = np.array([(0, NUM_KEYS, 0, 0, 0, 0), (3, 60, 9, 9, 3, 12), (9, 90, 1, 2, 12, 15)], np.int32)
    for has_future in (False, True):
        found = []
        for backend in backends:
            states, contexts = backend.encode(tokens, 0, backward=has_future, every=True)
            slots = Slots(config, 3, precision, fixed=1)
            for slot in range(3):
                fill_slot(slots, slot, 9 + slot, has_future=has_future)
            backend.step(slots, 0, 3, True)
            found.append([{"read": states, "contexts": contexts, **copied(slots)}])
        COMPARE[precision](*found)


# --- in any company


@pytest.mark.parametrize("has_future", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_slot_is_the_same_in_any_company(bundle: Bundle, has_future: bool, precision: str) -> None:
    """To the bit, in float32 too: alone, in any slot, in any number of them, with other neighbours."""
    engine = Engine(bundle, precision=precision, backend="kernel")
    alone = stepped(engine, some_slots(engine, 1, has_future=has_future, seed=9))
    for size, slot in ((2, 0), (2, 1), (3, 1), (4, 3), (9, 8), (33, 17)):
        slots = some_slots(engine, size, has_future=has_future, seed=100 * size)
        fill_slot(slots, slot, 9, 1 + len(engine.config.composers), has_future=has_future)
        found = stepped(engine, slots)
        assert_same([{name: value[slot : slot + 1] for name, value in each.items()} for each in found], alone)


def test_only_the_slots_that_are_asked_for_are_stepped(bundle: Bundle) -> None:
    engine = Engine(bundle, backend="kernel")
    slots, other = (some_slots(engine, 9, has_future=True) for _ in range(2))
    before = copied(slots)
    engine.backend.step(slots, 2, 4, True)
    engine.backend.step(other, 0, 9, True)
    after, whole = copied(slots), copied(other)
    for name, value in after.items():
        np.testing.assert_array_equal(value[2:6], whole[name][2:6], err_msg=name)
        np.testing.assert_array_equal(value[[0, 1, 6, 7, 8]], before[name][[0, 1, 6, 7, 8]], err_msg=name)
    assert (after["last_onset"][2:6] != before["last_onset"][2:6]).any(1).all()


@pytest.mark.parametrize("backend", ["kernel", "numpy"])
def test_a_step_strikes_what_it_drew_and_one_without_commit_does_not(bundle: Bundle, backend: str) -> None:
    engine = Engine(bundle, backend=backend)
    slots = some_slots(engine, 9, has_future=True)
    before = copied(slots)
    engine.backend.step(slots, 0, 9, False)
    for name, value in copied(slots).items():
        if name != "drawn":
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    drawn = slots.drawn.copy()
    engine.backend.step(slots, 0, 9, True)
    np.testing.assert_array_equal(slots.drawn, drawn)
    rows, onset, key = np.arange(9), NOW + drawn[:, 4], drawn[:, 1]
    before["last_onset"][rows, key], before["last_release"][rows, key] = onset, onset + drawn[:, 5]
    for name in ("last_onset", "last_release"):
        np.testing.assert_array_equal(getattr(slots, name), before[name])


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_nothing(bundle: Bundle, threads: int) -> None:
    """More slots than threads and fewer, drawn and written."""
    with Engine(bundle, backend="kernel") as one, Engine(bundle, threads=threads, backend="kernel") as other:
        for size in (1, 15, 16, 41):
            assert_same(*(stepped(engine, some_slots(engine, size, has_future=True), 3) for engine in (one, other)))
            (tokens, left), (other_tokens, other_left) = (written(engine, size) for engine in (one, other))
            assert tokens == other_tokens
            assert_same([left], [other_left])


def written(engine: Engine, size: int) -> tuple[list[list[list[int]]], dict[str, Array]]:
    """Return the tokens of each slot, of three calls, and what is left in the slots."""
    slots = some_slots(engine, size, has_future=False)
    tokens: list[list[list[int]]] = [[] for _ in range(size)]
    for _ in range(3):
        parts = engine.backend.write(slots, size, 8)
        each_slot = [part[:, i] for part in parts for i in range(part.shape[1])]
        for mine, rows in zip(tokens, each_slot, strict=True):
            mine += rows[rows[:, 1] >= 0].tolist()
    left = copied(slots)
    left["drawn"] = left["drawn"][slots.span["done"] == WRITING]  # who is done is stepped while others go on
    return tokens, left


def test_threads_write_the_same(bundle: Bundle) -> None:
    """With fewer pieces towards the end than are worth a second thread."""
    asked = [(to_compose(2.0 + (7 * i) % 5), SamplingOptions(seed=i)) for i in range(24)]
    found = []
    for threads in (1, 3):
        with Engine(bundle, threads=threads, backend="kernel") as engine:
            found.append([each.performance for each in generate_many(engine, asked, size=20)])
    assert found[0] == found[1]


# --- on any processor


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_kinds_of_vectors_compute_the_same(
    exported: tuple[Any, Bundle], tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """To the bit in 8 bits. `tests/stress/forms` compares all kinds, compilers and architectures."""
    _, bundle = exported

    def computed() -> list[dict[str, Array]]:
        engine = Engine(bundle, precision=precision, backend="kernel")
        found = [vars_of(engine.read_past(tiny_corpus.piece_rows(0)[:20], 1))]
        for has_future in futures(bundle.config):
            found += stepped(engine, some_slots(engine, 5, has_future=has_future), 3)
        return found

    mine = computed()
    for kind in KINDS_OF_VECTORS[1:]:
        monkeypatch.setattr(kernel, "vectors", lambda kind=kind: kind)
        COMPARE[precision](mine, computed())


@pytest.mark.parametrize("has_future", [False, True])
def test_all_kinds_of_vectors_compute_the_bundled_model(has_future: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for kind in KINDS_OF_VECTORS:
        monkeypatch.setattr(kernel, "vectors", lambda kind=kind: kind)
        engine = Engine(backend="kernel")
        found.append(stepped(engine, some_slots(engine, 3, has_future=has_future), 3))
    for one, other in pairwise(found):
        assert_same(one, other)


# --- what it is given


def test_without_a_kernel_the_reference_writes_the_same(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = compose(Engine(bundle), 3, SamplingOptions(seed=1))
    assert Engine(bundle).backend_name == "kernel"
    monkeypatch.setattr(kernel, "vectors", lambda: None)
    engine = Engine(bundle)
    assert engine.backend_name == "numpy"
    assert isinstance(engine.backend, Reference)
    assert compose(engine, 3, SamplingOptions(seed=1)).performance == with_it.performance
    with pytest.raises(InputError, match="it was not compiled on this machine; leave `backend` out to use NumPy"):
        Engine(bundle, backend="kernel")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the library is looked for in place of the real one."""
    real, path = kernel._library, tmp_path / kernel.LIBRARY.name
    real.cache_clear()
    monkeypatch.setattr(kernel, "_library", lambda: real(path))
    return path


def test_without_a_library_there_is_no_kernel(library: Path) -> None:
    assert not library.exists()
    assert kernel.vectors() is None


@pytest.mark.parametrize("content", ["", "no library"])
def test_a_file_that_is_no_library_is_refused(bundle: Bundle, library: Path, content: str) -> None:
    library.write_text(content)
    assert_refused(bundle, library, "cannot be loaded (")
    assert Engine(bundle, backend="numpy").backend_name == "numpy"


def stub(path: Path, source: str) -> None:
    if not shutil.which("gcc"):
        pytest.skip("a library is compiled with gcc")
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", path], input=source, text=True, check=True)


CONTRACT = (
    "version", "config", "token", "drawn", "span", "slots", "memory state", "memories", "event heads", "group heads",
    "fingerprint", "value", "event taps", "group taps", "group ticks", "interval reach", "roll centre", "low before",
    "entry columns", "lags", "habituation lags", "match tokens", "least match lag", "shift reach",
    "tile",
)  # fmt: skip


@pytest.fixture
def contract() -> list[int]:
    """Version and numbers of the contract, and the sizes of its structs in bytes, as the real library says them."""
    function = ctypes.CDLL(str(kernel.LIBRARY)).contract
    function.restype = ctypes.POINTER(ctypes.c_int32)
    return list(function()[: len(CONTRACT)])


def contract_of(numbers: list[int]) -> str:
    facts = ", ".join(map(str, numbers))
    return f"const int *contract(void) {{ static const int facts[32] = {{{facts}}}; return facts; }}"


def assert_refused(
    bundle: Bundle, library: Path, reason: str = "was compiled for another version of music-generator-rnn; "
) -> None:
    """Check for one line that says to reinstall, before anything is called, for whoever asks."""
    for ask in (kernel.vectors, lambda: Engine(bundle), lambda: Engine(bundle, backend="kernel")):
        with pytest.raises(InstallationError) as caught:
            ask()
        assert str(caught.value).startswith(f"{library.name} {reason}")
        assert "pip install --force-reinstall" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_library_without_a_contract_is_refused(bundle: Bundle, library: Path) -> None:
    stub(library, "int nothing;")
    assert_refused(bundle, library)


@pytest.mark.parametrize("place", range(len(CONTRACT)), ids=CONTRACT)
@pytest.mark.parametrize("by", [-4, 1, 4])
def test_a_library_of_another_version_is_refused(
    bundle: Bundle, library: Path, contract: list[int], place: int, by: int
) -> None:
    assert contract[0] == kernel.CONTRACT_VERSION == 3
    contract[place] += by
    stub(library, contract_of(contract))
    assert_refused(bundle, library)


def test_a_library_of_this_version_is_taken(library: Path, contract: list[int]) -> None:
    stub(library, contract_of(contract) + " int best_vectors(void) { return 1; }")
    assert kernel.vectors() == "ssse3"


# --- what it writes to

GUARD = 4096


class GuardedMemory(kernel._Memory):
    """Memory with known bytes behind it."""

    made: list[GuardedMemory]

    def __init__(self, size: int) -> None:
        super().__init__(size + GUARD)
        ctypes.memset(self.address + size, 0xA5, GUARD)
        self.size = size
        self.made.append(self)

    @property
    def intact(self) -> bool:
        return ctypes.string_at(self.address + self.size, GUARD) == b"\xa5" * GUARD


def guarded(array: Array) -> tuple[Array, Array]:
    """Return a copy of an array, with known bytes before and behind it, and all the bytes."""
    size = array.nbytes
    whole = np.full(2 * GUARD + size, 0xA5, np.uint8)
    inner = whole[GUARD : GUARD + size].view(array.dtype).reshape(array.shape)
    inner[...] = array
    return inner, whole


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_beside_its_arrays_is_written(
    exported: tuple[Any, Bundle], tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, precision: str, threads: int
) -> None:
    """Scratch memory is as much as the kernel says it needs; of the slots only their own arrays change."""
    _, bundle = exported
    rows = tiny_corpus.piece_rows(0)[:9]
    check_guards(bundle, precision, threads, rows, monkeypatch)


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_beside_its_arrays_is_written_for_the_bundled_model(
    tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    check_guards(open_bundle(), "int8", threads, tiny_corpus.piece_rows(0)[:9], monkeypatch)


def check_guards(bundle: Bundle, precision: str, threads: int, rows: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedMemory, "made", [], raising=False)
    monkeypatch.setattr(kernel, "_Memory", GuardedMemory)
    with Engine(bundle, precision=precision, threads=threads, backend="kernel") as engine:
        engine.read_past(rows)
        for has_future in futures(bundle.config):
            if has_future:
                engine.read_futures(rows)
                engine.read_future(rows, 3)
            for size, scored in ((1, False), (18, False), (18, True)):
                check_slots(engine, some_slots(engine, size, has_future=has_future, scored=scored))
    assert len(GuardedMemory.made) >= 1 + 1 + 3 * threads  # the model, what is read, and what is stepped
    assert all(memory.intact for memory in GuardedMemory.made)


def check_slots(engine: Engine, slots: Slots) -> None:
    arrays = {name: guarded(value) for name, value in arrays_of(slots).items()}
    for name, (inner, _) in arrays.items():
        part, _, own = name.rpartition(".")
        setattr(slots.memory if part else slots, own, inner)
    stepped(engine, slots, 2)
    engine.backend.step(slots, 0, slots.size, False)
    if slots.forced is None:
        engine.backend.write(slots, slots.size, 20)
    for name, (_, whole) in arrays.items():
        assert (whole[:GUARD] == 0xA5).all(), name
        assert (whole[-GUARD:] == 0xA5).all(), name


def test_rows_of_written_tokens_are_within_their_array(bundle: Bundle) -> None:
    """Slots that are done leave rows of which only the key, -1, is given."""
    engine = Engine(bundle, backend="kernel")
    slots = some_slots(engine, 5, has_future=False)
    slots.span["done"][[0, 3]] = 1
    before = copied(slots)
    (rows,) = engine.backend.write(slots, 5, 4)
    assert (rows[:, [0, 3], 1] == -1).all()
    assert rows.shape[1:] == (5, len(FIELDS))
    for slot in (0, 3):
        assert slots.span[slot] == before["span"][slot]
    assert (slots.span["place"][slots.span["done"] == WRITING] == len(rows)).all()


def test_numbers_far_out_lead_nowhere() -> None:
    """Whatever the finite floats of a stranger's bundle are: classes stay classes, and nothing else is written."""
    config = ModelConfig(forward_size=5, backward_size=3, input_size=2, head_size=4, memory=32)
    rng = np.random.default_rng(7)

    def weight(part: LinearShape) -> Array:
        return rng.integers(-128, 128, (sum(part.inputs), part.outputs)).astype(np.int8)

    for value in (3e38, -3e38, 0.0, 1e-45):
        tensors = some_tensors(config, "int8", weight)
        for name, tensor in tensors.items():
            if tensor.dtype == np.float32 and not name.endswith(".input"):  # which `check_packed` refuses
                tensors[name] = np.full_like(tensor, value)
        model = kernel.Kernel(config, "int8", tensors)
        for has_future in (False, True):
            slots = Slots(config, 3, "int8", fixed=32)
            for slot in range(3):
                fill_slot(slots, slot, slot, has_future=has_future)
            for _ in range(5):
                model.step(slots, 0, 3, True)
                for place, name in enumerate(FIELDS):
                    assert ((slots.drawn[:, place] >= 0) & (slots.drawn[:, place] < CLASSES[name])).all()
