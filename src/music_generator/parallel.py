"""Share work among processes and hosts: shards that need no communication, and workers that end with their parent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from music_generator.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts of some work: every `count`-th item, beginning with the `index`-th.

    Attributes:
        index: 1 to `count`.
        count: The number of shards.

    Raises:
        InputError: `index` is out of its range.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"a shard's number must be 1 to {self.count}, not {self.index}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items of this shard, in their order."""
        return islice(items, self.index - 1, None, self.count)


WHOLE = Shard()


def read_shard(text: str) -> Shard:
    """Read a shard written as `I/N`; the inverse of `str`.

    Raises:
        InputError: `text` is not a shard.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"`--shard` must be I/N with I from 1 to N, such as 2/8, not {text!r}")
    return Shard(int(index), int(count))


def end_with_parent() -> None:
    """End this process when its parent ends, even killed; otherwise it would wait for work without end.

    For `ProcessPoolExecutor(initializer=...)`.
    """
    from multiprocessing import parent_process  # takes as long to import as all else here

    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    from multiprocessing.connection import wait

    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
