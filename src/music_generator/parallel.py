"""Share work among processes and hosts: shards that need no communication, and workers that end with their parent."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NoReturn, TypeVar

from music_generator.errors import InputError

if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.connection import Connection

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # items for each process that are computed ahead


def launched_processes() -> int:
    """Return how many processes `torchrun` or `accelerate launch` began, on all hosts; 1 if neither began this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


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


def map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int, method: str | None = None
) -> Generator[Result, None, None]:
    """Yield `function(item)` of each item, in order, computed by `jobs` processes.

    A few items for each process are computed ahead. Ctrl-C is for the calling process alone, though a terminal sends it
    to all. Whoever may stop before the last item closes the iterator (`contextlib.closing`): the processes then end at
    once.

    Args:
        function: Called in the processes; it, the items and what it returns must be picklable.
        items: Taken as they are needed.
        jobs: Number of processes.
        method: How they are started, such as `spawn`; Python's default if None.

    Raises:
        BrokenProcessPool: A process was killed.
    """
    from concurrent.futures import ProcessPoolExecutor  # slow to load
    from multiprocessing import get_context

    context = get_context(method)
    theirs, mine = context.Pipe(duplex=False)  # closed when this process ends, too
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin_worker, initargs=(theirs, mine))
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            with _without_interrupts():  # a process inherits this from its beginning
                pending.append(pool.submit(_in_worker, function, item))
            if len(pending) > AHEAD * jobs:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException:
        mine.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        mine.close()
        theirs.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let a Ctrl-C wait until the end of the block, where the system can."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(theirs: Connection, mine: Connection) -> None:
    """Leave Ctrl-C to the parent, and end as soon as the parent closes its end of the pipe or ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mine.close()  # a copy, which would keep the pipe open
    threading.Thread(target=_end_after, args=(theirs,), daemon=True).start()


def _end_after(theirs: Connection) -> None:
    from multiprocessing.connection import wait

    wait([theirs])
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(*_: object) -> NoReturn:
    """Raise KeyboardInterrupt; a file that is just being opened is closed unseen, with no warning of it."""
    warnings.simplefilter("ignore", ResourceWarning)
    raise KeyboardInterrupt


def _in_worker(function: Callable[[Item], Result], item: Item) -> Result:
    """Return `function(item)`; SIGTERM ends it like an exception, which leaves no half file, then the process."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return function(item)
    except KeyboardInterrupt:  # the pool would go on with the next item
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
