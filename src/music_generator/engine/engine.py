"""The engine: a model that reads what there is of a piece and draws tokens, without torch.

The future is read once; after that each token costs one step, whatever lies before or after it or has been written.
"""

from __future__ import annotations

import difflib
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from music_generator.engine import kernel
from music_generator.engine.memory import Entries, Memories, future_from
from music_generator.engine.rules import LAGS
from music_generator.engine.slots import FutureContext, PastState, Slots
from music_generator.errors import BundleError, InputError
from music_generator.model.bundle import Bundle, open_bundle
from music_generator.model.config import CUT, EDGE_OF_PIECE, NO_ONSET
from music_generator.music.tokens import NUM_KEYS, TOKEN_DTYPE, bin_rows

if TYPE_CHECKING:
    from music_generator.engine.reference import Reference

Array = NDArray[Any]

MAX_CONTEXT = 512  # tokens of past and of future; more changes nothing measurable (docs/experiments.md)
MAX_FIXED = 2 * MAX_CONTEXT  # fixed entries of a memory: a future's, and a passage's to come back to
BACKENDS = ("kernel", "numpy")


class Engine:
    """A model ready to generate.

    One thread is the fastest for one piece and does not suffer from busy neighbours; several share pieces that are
    written side by side. An engine keeps nothing of a piece and may be used from several threads at once. `close` it,
    or use it in a `with` statement, to end its own threads.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path | None = None,
        *,
        precision: str | None = None,
        threads: int = 1,
        backend: str | None = None,
    ) -> None:
        """Make an engine; its weights are loaded when they are first used.

        Args:
            bundle: an opened bundle or its folder; the bundled model if None.
            precision: "int8" or "float32"; the bundle's first if None.
            threads: how many share the pieces that are written side by side.
            backend: "kernel", the compiled code, or "numpy", which computes the same more slowly; if None, the kernel
                where there is one.

        Raises:
            InputError: an argument is out of range, or the kernel was asked for and there is none on this machine.
            BundleError: the bundle has no such precision.
        """
        if threads < 1:
            raise InputError(f"`threads` must be at least 1, not {threads}")
        if backend not in (None, *BACKENDS):
            raise InputError(f"`backend` must be {' or '.join(BACKENDS)}, not {backend!r}")
        if backend == "kernel" and kernel.vectors() is None:
            raise InputError("`backend` kernel: it was not compiled on this machine; leave `backend` out to use NumPy")
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle() if bundle is None else open_bundle(bundle)
        self.config, self.threads = self.bundle.config, threads
        if not self.bundle.precisions:
            raise BundleError(f"{self.bundle.folder}: it has no runtime file; get or train the model again")
        if precision is not None and precision not in self.bundle.precisions:
            raise BundleError(
                f"{self.bundle.folder}: it has no {precision} runtime; it has {', '.join(self.bundle.precisions)}"
            )
        self.precision = precision or self.bundle.precisions[0]
        self.backend_name = backend or ("numpy" if kernel.vectors() is None else "kernel")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        if "backend" in vars(self):
            self.backend.close()

    @cached_property
    def backend(self) -> kernel.Kernel | Reference:
        """The kernel or the reference, with the model loaded."""
        tensors = self.bundle.runtime_tensors(self.precision)
        if self.backend_name == "kernel":
            return kernel.Kernel(self.config, self.precision, tensors, self.threads)
        from music_generator.engine.reference import Reference

        return Reference(self.config, self.precision, tensors)

    def composer(self, name: str | None) -> int:
        """Return the class of a composer by name or a part of it; 0 for None. Accents and capitals do not matter.

        A part that several names hold is the one composer among them who wrote alone.

        Raises:
            InputError: there is no such composer, or several; the message names the nearest.
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
            f"unknown composer {name!r}; the model knows, nearest first: "
            f"{', '.join(names[known[c]] for c in near) or 'none'}"
        )

    def slots(self, size: int, *, scored: bool = False, fixed: int = MAX_FIXED) -> Slots:
        """Return empty slots for this model; see `Slots`."""
        return Slots(self.config, size, self.precision, scored=scored, fixed=fixed)

    def read_past(self, rows: Array, composer: int = 0, first_tick: int = 0, *, cut: bool = False) -> PastState:
        """Read what comes before.

        Args:
            rows: tokens (`TOKEN_DTYPE`), none for the start of a piece. The last `MAX_CONTEXT` are read, all are
                remembered as far as the memory reaches back.
            composer: its class.
            first_tick: what the first shift counts from.
            cut: the rows do not begin the piece.
        """
        onsets = first_tick + np.cumsum(rows["shift"], dtype=np.int64)
        memory = self._remember(rows, onsets, self.config.memory)
        recent_keys = np.full(LAGS, -1, np.int32)
        recent_keys[: len(rows)] = rows["key"][-LAGS:][::-1]
        skipped = max(0, len(rows) - MAX_CONTEXT)
        rows, onsets = rows[skipped:], onsets[skipped:]
        before = int(onsets[0] - rows["shift"][0]) if len(rows) else first_tick
        tokens = _tokens(rows, onsets, CUT if skipped or cut else EDGE_OF_PIECE, before)
        states, contexts = self.backend.encode(tokens, composer, backward=False)
        last_onset, last_release = np.full((2, NUM_KEYS), -NO_ONSET, np.int32)
        last_onset[rows["key"]], last_release[rows["key"]] = tokens[1:, 4], tokens[1:, 5]
        last_key = int(rows["key"][-1]) if len(rows) else -1
        return PastState(
            states, contexts[0], last_onset, last_release, memory, recent_keys, int(tokens[-1, 4]), last_key, composer
        )

    def _remember(self, rows: Array, onsets: Array, ring: int) -> Memories:
        """Return one memory of tokens, whose ring has room for the last `ring` events."""
        memory = Memories(self.config, 1, self.precision, ring=ring)
        if self.config.memory:
            self.backend.remember(_tokens(rows, onsets, CUT, 0), memory)
        return memory

    def read_future(self, rows: Array, first_tick: int, composer: int = 0) -> FutureContext:
        """Read what comes after a gap.

        Args:
            rows: tokens (`TOKEN_DTYPE`), of which the first `MAX_CONTEXT` are read.
            first_tick: the first onset.
            composer: its class.

        Raises:
            InputError: the model has no backward stack.
        """
        cut = len(rows) > MAX_CONTEXT
        rows = rows[:MAX_CONTEXT]
        contexts, next_onset = self._read_backward(rows, composer, cut=cut, every=False)
        entries, firsts = self._future_entries(rows, 0)
        return FutureContext(contexts[0], first_tick, _from_tick(next_onset[0], first_tick), entries, int(firsts[0]))

    def read_end(self, last_tick: int, composer: int = 0) -> FutureContext:
        """Return the end of a piece as a future: nothing comes after the last onset, at `last_tick`."""
        tokens = _tokens(np.empty(0, TOKEN_DTYPE), np.empty(0, np.int64), EDGE_OF_PIECE, 0)
        _, contexts = self.backend.encode(tokens, composer, backward=True)
        return FutureContext(contexts[0], last_tick, np.full(NUM_KEYS, NO_ONSET, np.int32))

    def read_futures(
        self, rows: Array, composer: int = 0, *, cut: bool = False, thinned: int = 0
    ) -> list[FutureContext]:
        """Read the future from each of some tokens on.

        Args:
            rows: tokens (`TOKEN_DTYPE`); the first shift counts from tick 0.
            composer: its class.
            cut: they do not end the piece.
            thinned: the first of these tokens stand alone, others are to be written between them.
        """
        contexts, next_onset = self._read_backward(rows, composer, cut=cut, every=True)
        onsets = np.cumsum(rows["shift"], dtype=np.int64)
        entries, firsts = self._future_entries(rows, thinned)
        return [
            FutureContext(context, int(tick), _from_tick(ahead, int(onsets[0])), entries, int(first))
            for context, tick, ahead, first in zip(contexts[:0:-1], onsets, next_onset, firsts, strict=True)
        ]

    def recalled(self, rows: Array, first: int, stop: int, bonus: float) -> Entries | None:
        """Return tokens `first` to `stop` of a piece as entries of a memory, with a bonus on their score."""
        if not self.config.memory:
            return None
        onsets = np.cumsum(rows["shift"], dtype=np.int64)
        return self._remember(rows, onsets, len(rows)).entries(0).part(first, stop, bonus)

    def _future_entries(self, rows: Array, thinned: int) -> tuple[Entries | None, Array]:
        """Return the entries of tokens after the `thinned` ones, and which is the first for each token (T,)."""
        whole = rows[thinned:]
        firsts = np.zeros(len(rows), np.int64)
        if not self.config.memory or not len(whole):
            return None, firsts
        onsets = np.cumsum(whole["shift"], dtype=np.int64)
        firsts[thinned:] = future_from(whole["key"], onsets)
        firsts[:thinned] = firsts[thinned]
        return self._remember(whole, onsets, len(whole)).entries(0), firsts

    def _read_backward(self, rows: Array, composer: int, *, cut: bool, every: bool) -> tuple[Array, Array]:
        """Return the contexts in the order read, and each key's next onset at each token (T, K); the first is 0."""
        if self.config.direction != "both":
            raise InputError("this model has no backward stack and cannot read a future; use one trained with `both`")
        onsets = np.cumsum(np.concatenate([[0], rows["shift"][1:]]), dtype=np.int64)
        tokens = _tokens(rows[::-1], (onsets[-1] - onsets)[::-1], CUT if cut else EDGE_OF_PIECE, 0)
        # read backwards, a shift is the time to the token read before; the last token has none
        tokens[1:, 0] = np.concatenate([[0], tokens[1:-1, 0]])
        _, contexts = self.backend.encode(tokens, composer, backward=True, every=every)
        ahead = np.full((len(rows), NUM_KEYS), NO_ONSET, np.int64)
        ahead[np.arange(len(rows)), rows["key"]] = onsets
        return contexts, np.minimum.accumulate(ahead[::-1], axis=0)[::-1]


def _from_tick(next_onset: Array, first_tick: int) -> Array:
    """Count onsets from another tick, except those that never come."""
    return np.where(next_onset < NO_ONSET, next_onset + first_tick, NO_ONSET).astype(np.int32)


def _tokens(rows: Array, onsets: Array, edge: int, edge_tick: int) -> Array:
    """Return tokens as the engine reads them, (1 + T, 6); the first one marks the edge of the piece, or a cut."""
    tokens = np.zeros((1 + len(rows), kernel.TOKEN_COLUMNS), np.int32)
    tokens[0, 1], tokens[0, 4:] = edge, edge_tick
    for i, classes in enumerate(bin_rows(rows).values()):
        tokens[1:, i] = classes
    tokens[1:, 4], tokens[1:, 5] = onsets, onsets + rows["duration"]
    return tokens


def _plain(name: str) -> str:
    """Return a name without accents and capitals."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).casefold().strip()
