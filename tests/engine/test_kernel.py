"""The compiled step computes what the graph does, lane by lane, on any processor; wrong weights are refused."""

from __future__ import annotations

import ctypes
import json
import shutil
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_golden import spans

from music_generator.engine import kernel
from music_generator.engine.engine import PLACES, Engine, Lanes
from music_generator.errors import BundleError, InputError
from music_generator.generation import SamplingOptions, compose, generate_many, to_compose
from music_generator.model.bundle import FACTS_FILE, PRETRAINED, Bundle, open_bundle
from music_generator.model.config import CLASSES, FIELDS, NONE_AHEAD
from music_generator.model.graphs import read_tensors
from music_generator.music.tokens import NUM_KEYS, RESUME, Array

if kernel.instructions() is None:
    pytest.skip("no kernel was built here: reinstall with pip, see hatch_build.py", allow_module_level=True)


def lanes_of(engine: Engine, size: int, *, joined: bool, seed: int = 0) -> Lanes:
    """Lanes of no music in particular: every state and every key has something to say, some keys are held or barred."""
    rng = np.random.default_rng(seed)
    lanes = Lanes(engine, size, joined=joined, scored=True)
    for context, states in lanes._sides:
        context[:] = rng.normal(size=context.shape)
        for state in states:
            state[:] = rng.uniform(-1, 1, state.shape)
    strokes = lanes.strokes.reshape(size, -1, NUM_KEYS)
    strokes[:, 0] = rng.integers(-300, 1000, (size, NUM_KEYS))
    strokes[:, 1] = strokes[:, 0] + rng.integers(1, 90, (size, NUM_KEYS))
    strokes[:, 2] = strokes[:, 1] - 1
    if joined:
        lanes.said[:] = rng.normal(size=lanes.said.shape)
        lanes.resume[:] = rng.integers(1001, 1400, (size, 1))
        strokes[:, 3] = lanes.resume + rng.integers(0, 900, (size, NUM_KEYS))
        strokes[:, 3, ::5] = NONE_AHEAD
    lanes.barred[rng.random(lanes.barred.shape) < 0.2] = 1e9
    lanes.composer[:] = rng.integers(0, 1 + len(engine.config.composers), size)
    lanes.coldness[:], lanes.top_p[:] = 1 / rng.uniform(0.5, 1.5, (size, 1)), rng.uniform(0.2, 1.0, (size, 1))
    give(lanes, 0)
    return lanes


def give(lanes: Lanes, turn: int) -> None:
    """Noise and ticks for one more token."""
    rng = np.random.default_rng(1000 + turn)
    lanes.noise[:] = rng.gumbel(size=lanes.noise.shape)
    lanes.noise[::3, RESUME] = -1e9
    ticks = np.tile([1000 + 50 * turn, 0, 0, -1, 0, 0], (lanes.size, 1)).astype(np.float32)
    ticks[:, 1], ticks[:, 2] = rng.integers(0, 5, lanes.size), rng.integers(1, 300, lanes.size)
    ticks[:, 3], ticks[:, 4:] = rng.integers(-1, NUM_KEYS, lanes.size), rng.random((lanes.size, 2))
    lanes.ticks[:] = ticks


def left(lanes: Lanes) -> dict[str, Array]:
    """Everything that a step leaves, copied: the draws, the logits, the strokes, the context and the states."""
    context, states = lanes._sides[lanes._side]
    found = {**lanes.classes, "waited": lanes.waited, "held": lanes.held, "strokes": lanes.strokes, "context": context}
    found |= {f"{name}_logits": values for name, values in lanes.logits.items()}
    return {name: value.copy() for name, value in found.items()} | {"states": np.stack(states)}


def walked(engine: Engine, size: int, *, joined: bool, turns: int = 6) -> list[dict[str, Array]]:
    lanes, found = lanes_of(engine, size, joined=joined), []
    for turn in range(turns):
        give(lanes, turn)
        lanes.step()
        found.append(left(lanes))
    return found


def assert_equal(one: list[dict[str, Array]], other: list[dict[str, Array]]) -> None:
    """To the bit."""
    for a, b in zip(one, other, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def directions(bundle: Bundle) -> list[bool]:
    return [False, True] if bundle.config.direction == "both" else [False]


# --- the same as the graph


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_step_is_that_of_the_graph(exported: tuple[Any, Bundle], size: int) -> None:
    """Of every cell, depth and direction. A state within the last digits of a half may round the other way."""
    _, bundle = exported
    engines = [Engine(bundle, kernel=each) for each in (True, False)]
    for joined in directions(bundle):
        pair = [lanes_of(engine, size, joined=joined) for engine in engines]
        for turn in range(12):
            for lanes in pair:
                give(lanes, turn)
                lanes.step()
            one, other = (left(lanes) for lanes in pair)
            for name in (*FIELDS, "waited", "held", "strokes"):
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            for name in ("states", "context", *(f"{field}_logits" for field in FIELDS)):
                assert np.abs(one[name] - other[name]).max() < 0.05, name
                assert np.median(np.abs(one[name] - other[name])) < 1e-6, name
            for mine, its in zip(*(lanes._sides for lanes in pair), strict=True):  # what differs does not add up
                mine[0][:] = its[0]
                for state, state_of_it in zip(mine[1], its[1], strict=True):
                    state[:] = state_of_it


@pytest.mark.parametrize("joined", [False, True])
def test_the_bundled_models_step_is_that_of_the_graph(joined: bool) -> None:
    engines = [Engine(open_bundle(), kernel=each) for each in (True, False)]
    one, other = (walked(engine, 65, joined=joined, turns=1)[0] for engine in engines)
    for name in (*FIELDS, "waited", "held", "strokes"):
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    for name in ("states", "context", *(f"{field}_logits" for field in FIELDS)):
        assert np.abs(one[name] - other[name]).max() < 0.05, name
        assert np.mean(np.abs(one[name] - other[name]) < 1e-6) > 0.99, name


@pytest.mark.parametrize("size", [1, 9])
def test_the_rules_of_writing_are_those_of_the_writer(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """All tasks and guards, to the bit: they are in the compiled code and, for the graphs, in `Writer`."""
    asked = [(span, SamplingOptions(seed=seed)) for seed in range(3) for span in spans().values()]
    short, few = spans()["continue"], {"longest_rest_seconds": 0.3, "longest_repeat": 2, "temperature": 1.5}
    asked += [(replace(short, notes=notes), SamplingOptions(seed=8)) for notes in (1, 7, 40)]
    asked += [(span, SamplingOptions(seed=9, top_p=0.6, **few)) for span in spans().values()]
    for folder in (tiny_bundle, PRETRAINED):
        engine = Engine(open_bundle(folder))
        fast = list(generate_many(engine, asked, size=size))
        with monkeypatch.context() as patch:
            patch.setattr(Lanes, "write", lambda *_: None)
            slow = list(generate_many(engine, asked, size=size))
        for one, other in zip(fast, slow, strict=True):
            assert one.performance == other.performance
            assert (one.tokens, one.end, one.seed) == (other.tokens, other.end, other.seed)


def test_a_piece_is_that_of_the_graphs() -> None:
    made = [compose(Engine(open_bundle(), kernel=each), 10, SamplingOptions(seed=5)) for each in (True, False)]
    assert made[0].performance == made[1].performance


# --- the same in any company and on any processor


LESSER = {"avx2": "ssse3", "dotprod": "neon"}  # the other form that this processor can run


@pytest.mark.parametrize("joined", [False, True])
def test_another_processor_computes_the_same(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, joined: bool) -> None:
    """To the bit. `tests/stress/forms` compares all forms, compilers and architectures."""
    form = LESSER.get(str(kernel.instructions()))
    if form is None:
        pytest.skip(f"{kernel.instructions()} is the only form that this processor can run")
    for bundle, size in ((open_bundle(tiny_bundle), 5), (open_bundle(), 3)):
        mine = walked(Engine(bundle), size, joined=joined)
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "instructions", lambda: form)
            assert_equal(mine, walked(Engine(bundle), size, joined=joined))


def test_lanes_compute_the_same_in_any_number(tiny_bundle: Path) -> None:
    for bundle in (open_bundle(tiny_bundle), open_bundle()):
        alone = walked(Engine(bundle), 1, joined=False)
        for size in (2, 9):
            lanes = lanes_of(Engine(bundle), size, joined=False)
            one = lanes_of(Engine(bundle), 1, joined=False)
            for name in ("strokes", "barred", "composer", "coldness", "top_p"):
                getattr(lanes, name)[-1] = getattr(one, name)[0]
            for (context, states), (its, its_states) in zip(lanes._sides, one._sides, strict=True):
                context[-1] = its[0]
                for state, row in zip(states, its_states, strict=True):
                    state[-1] = row[0]
            for turn, wanted in enumerate(alone):
                give(lanes, turn)
                give(one, turn)
                lanes.noise[-1], lanes.ticks[-1] = one.noise[0], one.ticks[0]
                lanes.step()
                found = left(lanes)
                for name in wanted:
                    row = found[name][:, -1] if name == "states" else found[name][-1]
                    np.testing.assert_array_equal(row, wanted[name][:, 0] if name == "states" else wanted[name][0])


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_nothing(tiny_bundle: Path, threads: int) -> None:
    bundle = open_bundle(tiny_bundle)
    for size in (1, 15, 16, 41):
        assert_equal(
            walked(Engine(bundle), size, joined=True), walked(Engine(bundle, threads=threads), size, joined=True)
        )


def test_threads_write_the_same(tiny_bundle: Path) -> None:
    """With fewer pieces towards the end than are worth a second thread."""
    bundle, lengths = open_bundle(tiny_bundle), [2.0 + (7 * i) % 5 for i in range(24)]
    asked = [(to_compose(seconds), SamplingOptions(seed=i)) for i, seconds in enumerate(lengths)]
    one, three = (
        [each.performance for each in generate_many(Engine(bundle, threads=threads), asked, size=20)]
        for threads in (1, 3)
    )
    assert one == three


def test_only_the_first_lanes_are_stepped(tiny_bundle: Path) -> None:
    lanes = lanes_of(Engine(open_bundle(tiny_bundle)), 6, joined=True)
    before = left(lanes)
    lanes.step(4)
    after = left(lanes)
    np.testing.assert_array_equal(after["strokes"][4:], before["strokes"][4:])
    assert (after["strokes"][:4] != before["strokes"][:4]).any(1).all()
    assert not after["key_logits"][4:].any()


@pytest.mark.parametrize("by_kernel", [True, False])
def test_a_step_strikes_what_it_drew_and_a_peek_does_not(tiny_bundle: Path, by_kernel: bool) -> None:
    lanes = lanes_of(Engine(open_bundle(tiny_bundle), kernel=by_kernel), 9, joined=True)
    before = lanes.strokes.copy()
    lanes.peek()
    np.testing.assert_array_equal(lanes.strokes, before)
    lanes.step()
    wanted, rows = before.reshape(9, 4, NUM_KEYS), np.arange(9)
    then, key = lanes.ticks[:, 0] + lanes.waited[:, 0], lanes.classes["key"]
    for i, tick in enumerate((then, then + lanes.held[:, 0], then + lanes.held[:, 0] - 1)):
        wanted[rows, i, key] = tick
    np.testing.assert_array_equal(lanes.strokes.reshape(9, 4, NUM_KEYS), wanted)


# --- what it is given


def test_where_there_is_no_kernel_the_graphs_are_run(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(tiny_bundle)
    with_it = compose(Engine(bundle), 3, SamplingOptions(seed=1))
    monkeypatch.setattr("music_generator.engine.engine.instructions", lambda: None)
    engine = Engine(bundle)
    assert not engine.kernel
    assert compose(engine, 3, SamplingOptions(seed=1)).performance == with_it.performance
    with pytest.raises(InputError, match=r"no compiled step: it was not built \(libkernel\."):
        Engine(bundle, kernel=True)


def test_a_library_that_cannot_be_loaded_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "libkernel.so")
    kernel._library.cache_clear()
    try:
        assert kernel.instructions() is None
        (tmp_path / "libkernel.so").write_text("no library")
        kernel._library.cache_clear()
        assert kernel.instructions() is None
    finally:
        monkeypatch.undo()
        kernel._library.cache_clear()
    assert kernel.instructions() is not None


def test_it_is_for_int8_alone(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert Engine(bundle).kernel
    assert not Engine(bundle, precision="float32").kernel
    with pytest.raises(InputError, match="it is for int8 alone"):
        Engine(bundle, precision="float32", kernel=True)


def test_the_structures_are_those_of_the_source() -> None:
    """Field by field, as `kernel.c` declares them: neither side can see the other's."""
    source = Path(kernel.__file__).with_name("kernel.c").read_text("utf-8")
    fields = {
        name: [each[0] for each in getattr(kernel, f"_{name}")._fields_] for name in ("Product", "Model", "Lanes")
    }
    for name, wanted in {**fields, "Plan": list(kernel.PLAN_DTYPE.names)}.items():
        body = source[: source.index(f"}} {name};")].rpartition("typedef struct {")[2]
        declared = []
        for line in "".join(part.split("*/")[-1] for part in body.split("/*")).split(";"):
            names = line.split(",")
            declared += [each.split()[-1].lstrip("*").split("[")[0] for each in names if each.split()]
        assert declared == wanted, name


def changed(bundle: Path, to: Path, change: Any) -> Bundle:
    """A copy of a bundle whose `open` graph `change` has been applied to."""
    onnx = pytest.importorskip("onnx", reason="graphs are changed with onnx, of the extra `train`")
    shutil.copytree(bundle, to)
    path = to / "open.int8.onnx"
    model = onnx.load(path)
    change({each.name: each for each in model.graph.initializer}, onnx.numpy_helper)
    path.write_bytes(model.SerializeToString())
    facts = json.loads((to / FACTS_FILE).read_text("utf-8"))
    facts["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
    (to / FACTS_FILE).write_text(json.dumps(facts), "utf-8")
    return open_bundle(to)


def put(tensor: Any, values: Array, helper: Any) -> None:
    tensor.CopyFrom(helper.from_array(values, tensor.name))


WEIGHT = "heads.key.hidden.weight"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t, h: put(t[WEIGHT], np.zeros((14, 13), np.int8), h), f"its `{WEIGHT}` must be int8 of 14×14"),
        (lambda t, h: put(t[WEIGHT], np.zeros((14, 14), np.uint8), h), "must be int8 of 14×14, not uint8 of 14×14"),
        (lambda t, _: setattr(t[WEIGHT], "name", "other"), f"its `{WEIGHT}` must be int8 of 14×14, not absent"),
        (lambda t, h: put(t["shift_first"], np.zeros((2, 1), np.float32), h), "float32 of 91, not float32 of 2×1"),
        (lambda t, h: put(t["forward_stack.of_composer"], np.zeros((2, 64), np.float32), h), "must be float32 of 3×64"),
        (lambda t, _: t[WEIGHT].ClearField("raw_data"), "holds only"),
        (lambda t, _: setattr(t["shift_first"], "raw_data", b"123"), "a tensor of shape"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(tiny_bundle: Path, tmp_path: Path, change: Any, text: str) -> None:
    """The compiled code trusts the sizes: nothing of another one may come to it."""
    bundle = changed(tiny_bundle, tmp_path / "bundle", change)
    with pytest.raises(BundleError) as caught:
        compose(Engine(bundle), 1, SamplingOptions(seed=1))
    assert str(caught.value).startswith(f"{tmp_path / 'bundle' / 'open.int8.onnx'}: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_none_lead_nowhere(tiny_bundle: Path, tmp_path: Path, value: float) -> None:
    """Whatever the floats of a stranger's graph are: classes stay classes, and time does not run away silently."""

    def spoil(tensors: Any, helper: Any) -> None:
        for name, tensor in tensors.items():
            if tensor.data_type == 1 and not name.startswith(("shift_", "duration_")):
                put(tensor, np.full_like(helper.to_array(tensor), value), helper)

    bundle = changed(tiny_bundle, tmp_path / "bundle", spoil)
    for found in walked(Engine(bundle), 3, joined=False):
        for name in FIELDS:
            assert ((found[name] >= 0) & (found[name] < CLASSES[name])).all()
    with suppress(BundleError):
        assert compose(Engine(bundle), 2, SamplingOptions(seed=1)).tokens < 2000


@pytest.mark.parametrize("value", [-5.0, np.nan, np.inf, -3e38])
def test_what_is_no_token_is_told(tiny_bundle: Path, tmp_path: Path, value: float) -> None:
    """Durations below 0 or beyond all bounds, as a stranger's bins might have them."""
    wrong = np.full((CLASSES["duration"], 1), value, np.float32)
    bundle = changed(tiny_bundle, tmp_path / "bundle", lambda tensors, h: put(tensors["duration_first"], wrong, h))
    with pytest.raises(BundleError, match="its model drew what is no token"):
        compose(Engine(bundle), 1, SamplingOptions(seed=1))


def test_nothing_beside_its_arrays_is_written(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for its own use is as much as it says it needs: what lies behind it stays as it was."""
    made: list[tuple[Any, int]] = []

    class Guarded(kernel._Memory):
        def __init__(self, size: int) -> None:
            super().__init__(size + 4096)
            made.append((self, size))
            ctypes.memset(self.at + size, 0xA5, 4096)

    for bundle in (open_bundle(tiny_bundle), open_bundle()):
        for joined in (False, True):
            engine = Engine(bundle, threads=2)
            engine.step("joined" if joined else "open")
            with monkeypatch.context() as patch:
                patch.setattr(kernel, "_Memory", Guarded)
                walked(engine, 33, joined=joined, turns=3)
    assert len(made) == 2 * 2 * 2 * 2  # bundles, graphs, sides, threads
    for memory, size in made:
        assert ctypes.string_at(memory.at + size, 4096) == b"\xa5" * 4096


def test_tensors_of_a_graph_are_those_of_the_onnx_library(tiny_bundle: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="it is compared with onnx, of the extra `train`")
    for name in ("open", "joined"):
        path = tiny_bundle / f"{name}.int8.onnx"
        graph, found = onnx.load(path).graph, read_tensors(path)
        kinds = {each.name: each for each in graph.initializer if each.data_type in (1, 2, 3)}
        same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
        assert set(found) == set(kinds) | {alias for alias, of in same.items() if of in kinds}
        for tensor in found:
            np.testing.assert_array_equal(found[tensor], onnx.numpy_helper.to_array(kinds[same.get(tensor, tensor)]))


def test_noise_can_force_any_class_and_latest_holds(tiny_bundle: Path) -> None:
    """What scoring relies on: a forced class is taken whatever top-p or masks say, and its very ticks."""
    lanes = lanes_of(Engine(open_bundle(tiny_bundle)), NUM_KEYS, joined=False)
    lanes.strokes[:], lanes.barred[:], lanes.top_p[:] = -1e6, 0, 0.01
    lanes.ticks[:, 1:4] = 7, 7, -1
    for name in FIELDS:
        count = CLASSES[name] if name != "shift" else 7
        lanes.noise[np.arange(NUM_KEYS), PLACES[name].start + np.arange(NUM_KEYS) % count] = 1e9
    lanes.step()
    for name in ("key", "velocity", "duration"):
        np.testing.assert_array_equal(lanes.classes[name], np.arange(NUM_KEYS) % CLASSES[name])
    assert (lanes.waited == 7).all()
