"""The runtime: a bundle's graphs, one token at a time, without torch.

The future is read once; after that each token costs one step of the forward stack and one draw, whatever the length of
what is before, after or already written.
"""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator.errors import BundleError, InputError
from music_generator.model.bundle import Bundle
from music_generator.model.config import CUT, EDGE_OF_PIECE, FIELDS, NONE_AHEAD
from music_generator.tokens import DURATION_BINS, SHIFT_BINS, STROKES, VELOCITY_BINS

Array = NDArray[Any]

NEVER = -1e6  # ticks: long before anything
READ_TOKENS = 2048  # of past and of future: more would not be remembered
CHUNK = 512  # tokens read in one call, so that memory does not grow with the past


@dataclass
class Stream:
    """One piece being written: the forward stack's state and what the keys did, up to tick `now`."""

    state: Array  # (S, 1, H)
    context: Array  # (1, D)
    struck: Array  # (1, K) ticks
    released: Array  # (1, K) ticks
    now: int = 0
    last_key: int = -1
    composer: int = 0


@dataclass(frozen=True)
class Ahead:
    """The future as it is heard from before: what the backward stack says, and the tick it begins at."""

    said: Array  # (1, D)
    tick: int


@dataclass(frozen=True)
class Limits:
    """What the next token may be: ticks its shift may take, and what is added to the logits of shift and key."""

    earliest: int
    latest: int
    shift_bias: Array  # (1, shift classes)
    key_bias: Array  # (1, K)


@dataclass(frozen=True)
class Drawn:
    """A drawn token: its shift class (a bin, RESUME or END) and its row's values."""

    shift_class: int
    shift: int
    key: int
    velocity: int
    duration: int
    bins: Array = field(repr=False)  # (1, 4)


class Engine:
    """A bundle ready to generate. `precision` is the bundle's first (int8 where it has it) unless one is named.

    One thread is the fastest for one stream and does not suffer from busy neighbours.
    """

    def __init__(self, bundle: Bundle, *, precision: str | None = None, threads: int = 1) -> None:
        if threads < 1:
            raise InputError(f"`threads` must be at least 1, not {threads}")
        if not bundle.precisions:
            raise BundleError(f"{bundle.folder}: it has no runtime graphs")
        if precision is not None and precision not in bundle.precisions:
            raise BundleError(f"{bundle.folder}: no {precision} graphs; it has {', '.join(bundle.precisions)}")
        self.bundle, self.config = bundle, bundle.config
        self.precision, self.threads = precision or bundle.precisions[0], threads

    def _session(self, name: str) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = self.threads
        options.log_severity_level = 3
        path = self.bundle.graph(name, self.precision)
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's own error classes are not public
            raise BundleError(f"{path}: the graph cannot be loaded ({str(error).splitlines()[0]})") from error

    @cached_property
    def past_graph(self) -> Any:
        """The forward stack: see `model.export.Past`."""
        return self._session("past")

    @cached_property
    def future_graph(self) -> Any:
        """The backward stack: see `model.export.Future`."""
        return self._session("future")

    @cached_property
    def _no_future(self) -> Array:
        return np.zeros((1, self.config.head_size), np.float32)

    @cached_property
    def draw_graph(self) -> Any:
        """The heads: see `model.export.Draw`."""
        return self._session("draw")

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

    def read_past(self, rows: Array, composer: int = 0, first_tick: int = 0) -> Stream:
        """The stream after token rows (`TOKEN_DTYPE`, the first shift from `first_tick`); no rows: a piece's start.

        Only the last `READ_TOKENS` rows are heard.
        """
        onsets = first_tick + np.cumsum(rows["shift"], dtype=np.int64)
        skipped = max(0, len(rows) - READ_TOKENS)
        rows, onsets = rows[skipped:], onsets[skipped:]
        fields = {
            "shift": SHIFT_BINS.index(rows["shift"]),
            "key": rows["key"].astype(np.int64),
            "velocity": VELOCITY_BINS.index(rows["velocity"]),
            "duration": DURATION_BINS.index(rows["duration"]),
        }
        start = dict.fromkeys(FIELDS, 0) | {"key": CUT if skipped else EDGE_OF_PIECE}
        fields = {name: np.concatenate([[start[name]], values]) for name, values in fields.items()}
        now = np.concatenate([onsets[:1] - rows["shift"][:1] if len(rows) else [first_tick], onsets])
        struck = _last(rows["key"], onsets)
        released = _last(rows["key"], onsets + rows["duration"])
        layers = self.config.forward_layers * (2 if self.config.cell == "lstm" else 1)
        state = np.zeros((layers, 1, self.config.forward_size), np.float32)
        for first in range(0, len(now), CHUNK):
            part = slice(first, first + CHUNK)
            context, state = self._run_past(
                {name: values[part] for name, values in fields.items()},
                composer,
                struck[part],
                released[part],
                now[part],
                state,
            )
        last_key = int(rows["key"][-1]) if len(rows) else -1
        return Stream(state, context[-1], struck[-1:], released[-1:], int(now[-1]), last_key, composer)

    def _run_past(
        self, fields: dict[str, Array], composer: int, struck: Array, released: Array, now: Array, state: Array
    ) -> tuple[Array, Array]:
        inputs = {name: values.reshape(-1, 1) for name, values in fields.items()}
        inputs["composer"] = np.array([composer])
        inputs["struck"], inputs["released"] = struck[:, None], released[:, None]
        inputs["now"] = now.astype(np.float32).reshape(-1, 1)
        inputs["state"] = state
        context, state = self.past_graph.run(None, inputs)
        return context, state

    def read_future(self, rows: Array, first_tick: int, composer: int = 0) -> Ahead:
        """The future of token rows whose first onset is at `first_tick`; its first `READ_TOKENS` rows are heard."""
        if self.config.direction != "both":
            raise InputError("this model has no backward stack: it cannot hear a future; use one trained with `both`")
        cut = len(rows) > READ_TOKENS
        rows = rows[:READ_TOKENS]
        onsets = first_tick + np.cumsum(np.concatenate([[0], rows["shift"][1:]]), dtype=np.int64)
        back = slice(None, None, -1)
        end = CUT if cut else EDGE_OF_PIECE
        to_next = np.concatenate([[0, 0], SHIFT_BINS.index(rows["shift"][1:])[back]])
        ahead = (onsets[-1] - onsets)[back]
        now = np.concatenate([[0], ahead])
        age = now[:, None] - _last(rows["key"][back], ahead)
        (said,) = self.future_graph.run(
            None,
            {
                "shift": to_next[:, None],
                "key": np.concatenate([[end], rows["key"].astype(np.int64)[back]])[:, None],
                "velocity": np.concatenate([[0], VELOCITY_BINS.index(rows["velocity"])[back]])[:, None],
                "duration": np.concatenate([[0], DURATION_BINS.index(rows["duration"])[back]])[:, None],
                "composer": np.array([composer]),
                "age": age[:, None].astype(np.float32),
            },
        )
        return Ahead(said, first_tick)

    def draw(
        self, stream: Stream, ahead: Ahead | None, limits: Limits, uniforms: Array, temperature: Array, top_p: Array
    ) -> Drawn:
        """Draw the next token; the stream stays where it is until `advance`."""
        to_go = ahead.tick - stream.now if ahead else NONE_AHEAD
        bins, values = self.draw_graph.run(
            _DRAWN,
            {
                "context": stream.context,
                "future": ahead.said if ahead else self._no_future,
                "ticks": np.array([[stream.now, to_go, stream.last_key, limits.earliest, limits.latest]], np.float32),
                "struck": stream.struck,
                "released": stream.released,
                "shift_bias": limits.shift_bias,
                "key_bias": limits.key_bias,
                "uniforms": uniforms,
                "temperature": temperature,
                "top_p": top_p,
                "given": _DRAW_ALL,
            },
        )
        shift, key, velocity, duration = map(int, values[0].tolist())
        return Drawn(int(bins[0, 0]), shift, key, velocity, duration, bins)

    def advance(self, stream: Stream, drawn: Drawn) -> None:
        """Take a drawn token into the stream."""
        stream.now += drawn.shift
        stream.last_key = drawn.key
        stream.struck[0, drawn.key] = stream.now
        stream.released[0, drawn.key] = stream.now + drawn.duration
        bins = drawn.bins[0]
        bins[0] = _SHIFT_BIN[min(drawn.shift, len(_SHIFT_BIN) - 1)]  # the limits may have moved it into another bin
        context, stream.state = self._run_past(
            {name: bins[i : i + 1] for i, name in enumerate(FIELDS)},
            stream.composer,
            stream.struck,
            stream.released,
            np.array([stream.now]),
            stream.state,
        )
        stream.context = context[-1]


def _plain(name: str) -> str:
    """A name without accents and capitals."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).casefold().strip()


_SHIFT_BIN = SHIFT_BINS.index(np.arange(SHIFT_BINS.edges[-1])).tolist()  # by ticks
_DRAWN = ("bins", "values")
_DRAW_ALL = np.full((1, 4), -1, np.int64)


def _last(keys: Array, ticks: Array) -> Array:
    """Of T strokes in order: each key's latest tick before each stroke and after all, (T + 1, K) float32."""
    table = np.full((len(keys) + 1, STROKES), NEVER, np.float32)
    table[np.arange(1, len(keys) + 1), keys] = ticks
    np.maximum.accumulate(table, axis=0, out=table)
    return table
