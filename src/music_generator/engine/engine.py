"""The runtime: a bundle's graphs and their step in compiled code, one token of each stream at a time, without torch.

The future is read once; after that each token costs one step, whatever the length of what is before, after or already
written. One stream and many go the same way: `Lanes`.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine.kernel import LIBRARY, PLAN_DTYPE, Kernel, Steps, instructions
from music_generator.errors import BundleError, InputError
from music_generator.model.bundle import Bundle
from music_generator.model.config import CLASSES, CUT, EDGE_OF_PIECE, FIELDS, NONE_AHEAD
from music_generator.music.tokens import DURATION_BINS, NUM_KEYS, SHIFT_BINS, VELOCITY_BINS

Array = NDArray[Any]

NEVER = -1e6  # ticks: long before anything
READ_TOKENS = 512  # of past and of future: more changes nothing that can be measured (docs/experiments.md)
CHUNK = 512  # tokens read in one call, so that memory does not grow with the past
BLOCK = 32  # tokens that random numbers are drawn for at a time
TOGETHER = 8  # lanes of a graph that are begun and left off together

_ends = np.cumsum(list(CLASSES.values())).tolist()
PLACES = {name: slice(end - CLASSES[name], end) for name, end in zip(FIELDS, _ends, strict=True)}  # in the noise


@dataclass
class Stream:
    """One piece up to tick `now`: the forward stack's states and what the keys did."""

    states: Array  # (S, H)
    context: Array  # (C,)
    struck: Array  # (K,) ticks
    released: Array  # (K,) ticks
    now: int = 0
    last_key: int = -1
    composer: int = 0


@dataclass(frozen=True)
class Ahead:
    """The future as it is heard from before: what the backward stack says, its first tick, each key's next stroke."""

    said: Array  # (C,)
    tick: int
    next: Array  # (K,) ticks


class Dice:
    """The random numbers of one stream. They depend on the seed and the token's number alone.

    Gumbel noise is looked up by 16 random bits, four times as fast as logarithms: of its 65,536 quantiles each is as
    likely, so classes of a chance below some 1e-5 come less often than they should.
    """

    _quantiles = -np.log(-np.log((np.arange(1 << 16) + 0.5) / (1 << 16))).astype(np.float32)

    def __init__(self, seed: int | None, temperature: float) -> None:
        self._bits, self._temperature = np.random.PCG64(seed), np.float32(temperature)
        self.noise, self.chances = np.empty((BLOCK, _ends[-1]), np.float32), np.empty((BLOCK, 3), np.float32)
        self.refill()

    def refill(self) -> None:
        """For the next `BLOCK` tokens: Gumbel noise times the temperature for all classes, three numbers in [0, 1)."""
        wanted = self.noise.size + self.chances.size
        bits = self._bits.random_raw(-(-wanted // 4)).view(np.uint16)
        self._quantiles.take(bits[: self.noise.size], out=self.noise.reshape(-1), mode="wrap")
        self.noise *= self._temperature
        self.chances[:] = bits[self.noise.size : wanted].reshape(BLOCK, 3)
        self.chances /= 1 << 16
        self._place = 0

    def roll(self) -> tuple[Array, list[float]]:
        """Those of the next token."""
        if self._place == BLOCK:
            self.refill()
        self._place += 1
        return self.noise[self._place - 1], self.chances[self._place - 1].tolist()


class Lanes:
    """N streams that step together in one call. What a lane computes depends on nothing but that lane.

    Of each lane, before a `step`: `ticks` (now, earliest and latest shift, last key, two numbers in [0, 1)), `strokes`,
    `barred` and `noise`, as `model.step.Step` takes them; after it: `classes` of the fields, `waited` and `held` ticks
    and, if `scored`, `logits`. All are arrays (N, ...) that stay in place.
    """

    def __init__(self, engine: Engine, size: int, *, joined: bool, scored: bool = False) -> None:
        config = engine.config

        def made(*shape: int) -> Array:
            return np.zeros((size, *shape), np.float32)

        self.joined, self.size = joined, size
        self.width = config.head_size * (2 if joined else 1)
        self.strokes = np.full((size, (4 if joined else 3) * NUM_KEYS), NEVER, np.float32)
        self.ticks, self.barred, self.noise = made(6), made(NUM_KEYS), made(_ends[-1])
        self.composer = np.zeros(size, np.int64)
        self.coldness, self.top_p = made(1) + 1, made(1) + 1
        self.classes = {name: np.zeros(size, np.int64) for name in FIELDS}
        self.waited, self.held = made(1), made(1)
        self.drawn = (  # what of them is needed in a token, flat
            *(self.classes[name] for name in ("shift", "key", "velocity")), self.waited[:, 0], self.held[:, 0]
        )  # fmt: skip
        self.logits = {name: made(CLASSES[name]) for name in FIELDS} if scored else {}
        self.said, self.resume = made(self.width), made(1)
        # what a step leaves is what the next one takes: two sets, in turn
        rows = range(config.state_rows(config.forward_layers))
        self._sides = [(made(self.width), [made(config.forward_size) for _ in rows]) for _ in range(2)]
        self._side = 0
        names = ("ticks", "strokes", "barred", "composer", "noise", "coldness", "top_p")
        self._inputs = {name: getattr(self, name) for name in (*names, *(("said", "resume") if joined else ()))}
        step = engine.step("joined" if joined else "open")
        self._steps = [step.bind(*self._from(side)) for side in range(2)]
        self.plans = np.zeros(size, PLAN_DTYPE)  # for `write`

    def _from(self, side: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """What goes into a step, and what comes out of it, by name: from one set of what a step leaves to the other."""
        inputs, outputs = dict(self._inputs), {**self.classes, "waited": self.waited, "held": self.held}
        outputs |= {f"{name}_logits": values for name, values in self.logits.items()}
        for given, what, suffix in ((side, inputs, ""), (1 - side, outputs, "_after")):
            context, states = self._sides[given]
            what[f"context{suffix}"] = context
            what |= {f"state_{i}{suffix}": state for i, state in enumerate(states)}
        return inputs, outputs

    def put(self, lane: int, stream: Stream, ahead: Ahead | None, temperature: float = 1.0, top_p: float = 1.0) -> None:
        """Place a stream, and its future where the lanes are `joined`, in a lane."""
        context, states = self._sides[self._side]
        context[lane] = stream.context[: self.width]
        for state, row in zip(states, stream.states, strict=True):
            state[lane] = row
        self.strokes[lane, : 3 * NUM_KEYS] = np.concatenate([stream.struck, stream.released, stream.released - 1])
        self.barred[lane], self.composer[lane] = 0, stream.composer
        self.coldness[lane], self.top_p[lane] = 1 / temperature, top_p
        if self.joined:
            assert ahead is not None
            self.face(lane, ahead)

    def face(self, lane: int, ahead: Ahead) -> None:
        """Give a lane its future, or another one."""
        self.said[lane], self.resume[lane], self.strokes[lane, 3 * NUM_KEYS :] = ahead.said, ahead.tick, ahead.next

    def move(self, lane: int, to: int) -> None:
        """Put what is in a lane into another one."""
        context, states = self._sides[self._side]
        for array in (*self._inputs.values(), context, *states, self.plans):
            array[to] = array[lane]

    def write(self, lanes: int, most: int) -> list[Array] | None:
        """`kernel.Steps.write`: tokens of the first lanes by their `plans`; None where there is no kernel to do it."""
        steps, back = self._steps[self._side], self._steps[1 - self._side]
        if isinstance(steps, Steps) and isinstance(back, Steps):
            return steps.write(back, self.plans, lanes, most)
        return None

    def peek(self, lanes: int | None = None) -> None:
        """Draw the next token of all lanes, or of at least the first ones, and stay where they are."""
        self._steps[self._side](lanes or self.size, False)

    def step(self, lanes: int | None = None) -> None:
        """Draw the next token of all lanes, or of at least the first ones, and take it into states and strokes."""
        self._steps[self._side](lanes or self.size, True)
        self._side = 1 - self._side


class Engine:
    """A bundle ready to generate. `precision` is the bundle's first (int8 where it has it) unless one is named.

    One thread is the fastest for one stream and does not suffer from busy neighbours. `kernel`: whether steps are taken
    by the compiled code, which is for int8 alone, or by the graphs, which compute the same; by default where it is.
    """

    def __init__(
        self, bundle: Bundle, *, precision: str | None = None, threads: int = 1, kernel: bool | None = None
    ) -> None:
        if threads < 1:
            raise InputError(f"`threads` must be at least 1, not {threads}")
        if not bundle.precisions:
            raise BundleError(f"{bundle.folder}: it has no runtime graphs")
        if precision is not None and precision not in bundle.precisions:
            raise BundleError(f"{bundle.folder}: no {precision} graphs; it has {', '.join(bundle.precisions)}")
        self.bundle, self.config = bundle, bundle.config
        self.precision, self.threads = precision or bundle.precisions[0], threads
        possible = self.precision == "int8" and instructions() is not None
        if kernel and not possible:
            why = f"it was not built ({LIBRARY.name})" if self.precision == "int8" else "it is for int8 alone"
            raise InputError(f"there is no compiled step: {why}")
        self.kernel = possible if kernel is None else kernel
        self._graphs: dict[str, Any] = {}
        self._steps: dict[str, Kernel | _GraphStep] = {}

    def _session(self, name: str) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # its threads would disturb the kernel's
        path = self.bundle.graph(name, self.precision)
        try:
            return _Session(path, onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # the library's own error classes are not public
            raise BundleError(f"{path}: the graph cannot be loaded ({_first_line(error)})") from error

    def graph(self, name: str) -> Any:
        """A runtime graph, loaded when first asked for: `past`, `future`, `open` or `joined` (see `model.export`)."""
        if name not in self._graphs:
            self._graphs[name] = self._session(name)
        return self._graphs[name]

    def step(self, name: str) -> Kernel | _GraphStep:
        """What draws the next token and takes it in, loaded when first asked for: `open` or `joined`."""
        if name not in self._steps:
            if self.kernel:
                path = self.bundle.graph(name, self.precision)
                self._steps[name] = Kernel(path, self.config, joined=name == "joined", threads=self.threads)
            else:
                self._steps[name] = _GraphStep(self.graph(name))
        return self._steps[name]

    def composer(self, name: str | None) -> int:
        """The index of a composer by name or a part of it; 0 for None. Accents and capitals do not matter.

        A part that several names hold is the one composer among them who wrote alone. Raises `InputError`, naming the
        nearest.
        """
        if name is None:
            return 0
        known = {_plain(composer): i for i, composer in enumerate(self.config.composers)}
        names, wanted = self.config.composers, _plain(name)
        found = [wanted] if wanted in known else [c for c in known if wanted and wanted in c]
        alone = [c for c in found if "/" not in c]
        for candidates in (found, alone):
            if len(candidates) == 1:
                return known[candidates[0]] + 1
        if found:
            several = ", ".join(names[known[c]] for c in (alone or found)[:5])
            raise InputError(f"composer {name!r} may be {several}; say which")
        near = (
            difflib.get_close_matches(wanted, known, 3, 0.4)
            or sorted(known, key=lambda c: -difflib.SequenceMatcher(None, wanted, c).ratio())[:3]
        )
        raise InputError(
            f"unknown composer {name!r}; the nearest it knows: {', '.join(names[known[c]] for c in near) or 'none'}"
        )

    def read_past(self, rows: Array, composer: int = 0, first_tick: int = 0, *, cut: bool = False) -> Stream:
        """The stream after token rows (`TOKEN_DTYPE`, the first shift from `first_tick`); no rows: a piece's start.

        Only the last `READ_TOKENS` rows are heard. `cut`: they do not begin the piece.
        """
        onsets = first_tick + np.cumsum(rows["shift"], dtype=np.int64)
        skipped = max(0, len(rows) - READ_TOKENS)
        rows, onsets = rows[skipped:], onsets[skipped:]
        start = dict.fromkeys(FIELDS, 0) | {"key": CUT if skipped or cut else EDGE_OF_PIECE}
        fields = {name: np.concatenate([[start[name]], values]) for name, values in binned(rows).items()}
        now = np.concatenate([onsets[:1] - rows["shift"][:1] if len(rows) else [first_tick], onsets])
        struck = last_ticks(rows["key"], onsets)
        released = last_ticks(rows["key"], onsets + rows["duration"])
        state = np.zeros((self.config.state_rows(self.config.forward_layers), 1, self.config.forward_size), np.float32)
        for first in range(0, len(now), CHUNK):
            part = slice(first, first + CHUNK)
            inputs = {name: values[part, None] for name, values in fields.items()}
            inputs |= {"struck": struck[part, None], "released": released[part, None]}
            inputs |= {"now": now[part, None].astype(np.float32), "composer": np.array([composer]), "state": state}
            context, state = self.graph("past").run(["context", "state_after"], inputs)
        last_key = int(rows["key"][-1]) if len(rows) else -1
        return Stream(state[:, 0], context[0], struck[-1], released[-1], int(now[-1]), last_key, composer)

    def read_future(self, rows: Array, first_tick: int, composer: int = 0) -> Ahead:
        """The future of token rows whose first onset is at `first_tick`; its first `READ_TOKENS` rows are heard."""
        if self.config.direction != "both":
            raise InputError("this model has no backward stack: it cannot hear a future; use one trained with `both`")
        cut = len(rows) > READ_TOKENS
        rows = rows[:READ_TOKENS]
        onsets = first_tick + np.cumsum(np.concatenate([[0], rows["shift"][1:]]), dtype=np.int64)
        following = np.full(NUM_KEYS, NONE_AHEAD, np.float32)
        following[rows["key"][::-1]] = onsets[::-1]
        (said,) = self.graph("future").run(["said"], backwards(rows, composer, cut=cut))
        return Ahead(said[-1, 0], first_tick, following)


class _GraphStep:
    """A step by its graph."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[int, bool], None]:
        """As `Kernel.bind`, but it cannot `write`; a few lanes more may be stepped."""
        bindings: dict[int, Any] = {}
        strokes, ticks = inputs["strokes"], inputs["ticks"]
        size, (key, waited, held) = len(ticks), (outputs[name] for name in ("key", "waited", "held"))

        def run(lanes: int, strike: bool) -> None:
            lanes = min(size, -(-lanes // TOGETHER) * TOGETHER)
            if lanes not in bindings:
                bindings[lanes] = self._binding(inputs, outputs, lanes)
            self._session.run_with_iobinding(bindings[lanes])
            if strike:
                rows, then = np.arange(lanes), ticks[:lanes, 0] + waited[:lanes, 0]
                for i, tick in enumerate((then, then + held[:lanes, 0], then + held[:lanes, 0] - 1)):
                    strokes[rows, i * NUM_KEYS + key[:lanes]] = tick

        return run

    def _binding(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], lanes: int) -> Any:
        """The first lanes' rows of all arrays, as the graph takes them and leaves them."""
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array[:lanes]))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(array[:lanes]))
        return binding


class _Session:
    """A loaded graph that tells what goes wrong as `BundleError`: it may be of another version, or a stranger's."""

    def __init__(self, path: Path, session: Any) -> None:
        self._path, self._session = path, session
        self.run = self._told(session.run)
        self.run_with_iobinding = self._told(session.run_with_iobinding)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def io_binding(self) -> Any:
        """The session's own, its two ways to bind a value told too."""
        binding = self._session.io_binding()
        for name in ("bind_ortvalue_input", "bind_ortvalue_output"):
            setattr(binding, name, self._told(getattr(binding, name)))
        return binding

    def _told(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except Exception as error:
                text = f"{self._path}: the graph does not fit this version ({_first_line(error)})"
                raise BundleError(f"{text}; get or train the model anew") from error

        return told


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _plain(name: str) -> str:
    """A name without accents and capitals."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).casefold().strip()


def binned(rows: Array) -> dict[str, Array]:
    """Token rows as classes of each field, int64."""
    return {
        "shift": SHIFT_BINS.index(rows["shift"]),
        "key": rows["key"].astype(np.int64),
        "velocity": VELOCITY_BINS.index(rows["velocity"]),
        "duration": DURATION_BINS.index(rows["duration"]),
    }


def backwards(rows: Array, composer: int = 0, *, cut: bool) -> dict[str, Array]:
    """T token rows as the `future` graph takes them: (T + 1, 1) each, from the end (`cut`: not the piece's) back.

    The shift before the first row is not heard, and going back, the shift is the time to the row read before.
    """
    onsets = np.cumsum(np.concatenate([[0], rows["shift"][1:]]), dtype=np.int64)[: len(rows)]
    back = slice(None, None, -1)
    fields = {name: np.concatenate([[0], values[back]]) for name, values in binned(rows).items()}
    fields["key"][0] = CUT if cut else EDGE_OF_PIECE
    fields["shift"] = np.concatenate([[0, 0], fields["shift"][1:-1]])[: len(rows) + 1]
    ahead = (onsets[-1:] - onsets)[back]
    age = np.concatenate([[0], ahead])[:, None] - last_ticks(rows["key"][back], ahead)
    inputs = {name: values[:, None] for name, values in fields.items()}
    return {**inputs, "composer": np.array([composer]), "age": age[:, None].astype(np.float32)}


def last_ticks(keys: Array, ticks: Array) -> Array:
    """Of T strokes in order: each key's last tick before each stroke and after all, (T + 1, K) float32.

    Carried forward by index, for a key struck again may well be released sooner than it was before.
    """
    index = np.zeros((len(keys) + 1, NUM_KEYS), np.int64)
    index[np.arange(1, len(keys) + 1), keys] = np.arange(1, len(keys) + 1)
    np.maximum.accumulate(index, axis=0, out=index)
    return np.concatenate([[NEVER], ticks])[index].astype(np.float32)
