"""Shards of some work, so that several processes or hosts share it without talking; and worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from typing import TypeVar

from music_generator.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every `count`-th of some things, from the `index`-th (counted from 1) on. Raises `InputError` out of range."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"a shard's number must be 1 to {self.count}, not {self.index}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, things: Iterable[T]) -> Iterator[T]:
        """Those of `things` that are this shard's, in their order."""
        return islice(things, self.index - 1, None, self.count)


WHOLE = Shard()


def read_shard(text: str) -> Shard:
    """`I/N` as a shard, the inverse of `str`. Raises `InputError` if it is none."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"`--shard` must be I/N with I from 1 to N, such as 2/8, not {text!r}")
    return Shard(int(index), int(count))


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, killed say: it would wait for work for ever.

    For `ProcessPoolExecutor(initializer=...)`.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
