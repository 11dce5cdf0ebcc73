"""Work beside the event loop: a bounded number of jobs, each a chain of short steps, taken in turn by one thread.

Taking turns, a long job of one window does not hold up a short one of another, and what the steps use (an engine) is
never used twice at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from music_generator.errors import MusicGeneratorError

_log = logging.getLogger(__name__)


class BusyError(MusicGeneratorError):
    """As many jobs as may be are under way; the text says what to do."""


@dataclass(frozen=True)
class Ended:
    """How a job ended: "done", "cancelled" or "failed", then with the `error` in one line."""

    how: str
    error: str = ""


class Job:
    """One piece of work: `steps` is run one `next` at a time, and what it yields comes out of `results`."""

    def __init__(self, steps: Generator[Any, None, None]) -> None:
        self.id = secrets.token_urlsafe(9)
        self.steps, self.cancelled = steps, threading.Event()
        self._loop, self._results = asyncio.get_running_loop(), asyncio.Queue[Any]()

    def give(self, result: object) -> None:
        """Hand a result over to the event loop, from any thread; nobody may be there any more to take it."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._results.put_nowait, result)

    async def results(self) -> AsyncIterator[list[Any]]:
        """What the steps yielded, as many at a time as are there; the very last one is an `Ended`."""
        while True:
            batch = [await self._results.get()]
            while not self._results.empty():
                batch.append(self._results.get_nowait())
            yield batch
            if isinstance(batch[-1], Ended):
                return


class Jobs:
    """At most `most` jobs, run by one thread of its own, which ends with `close`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._turn: deque[Job] = deque()
        self._known: dict[str, Job] = {}
        self._wake, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="studio-jobs", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._known)

    def submit(self, steps: Generator[Any, None, None]) -> Job:
        """Take a job on; to be called on the event loop. Raises `BusyError` if there are as many as may be."""
        job = Job(steps)
        with self._wake:
            if len(self._known) >= self._most:
                raise BusyError(f"the studio is busy with {self._most} things already: wait for one, or cancel one")
            self._known[job.id] = job
            self._turn.append(job)
            self._wake.notify()
        return job

    def cancel(self, job_id: str) -> bool:
        """End a job before its next step; whether there was such a one."""
        job = self._known.get(job_id)
        if job is not None:
            job.cancelled.set()
        return job is not None

    def close(self) -> None:
        """Cancel all jobs and end the thread, after the step it is at."""
        with self._wake:
            self._closed = True
            for job in self._known.values():
                job.cancelled.set()
            self._wake.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._turn or self._closed)
                if not self._turn:
                    return
                job = self._turn.popleft()
            ended = _step(job)
            with self._wake:
                if ended is None:
                    self._turn.append(job)
                else:
                    del self._known[job.id]
            if ended is not None:
                job.give(ended)


def _step(job: Job) -> Ended | None:
    try:
        if job.cancelled.is_set():
            job.steps.close()
            return Ended("cancelled")
        job.give(next(job.steps))
    except StopIteration:
        return Ended("done")
    except MusicGeneratorError as error:
        return Ended("failed", " ".join(str(error).split()))
    except Exception as error:  # the thread must live on, and the page must hear of it
        _log.exception("a job failed")
        return Ended("failed", f"the studio met an unexpected {type(error).__name__}: {' '.join(str(error).split())}")
    return None
