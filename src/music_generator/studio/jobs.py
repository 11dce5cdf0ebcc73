"""Work outside the event loop: a limited number of jobs, whose short steps one thread runs in turn.

Because the jobs take turns, a long job of one window does not hold up a short one of another; because there is one
thread, the engine is never used twice at once.
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
    """The most jobs that may run are running already; the text says what to do."""


class UnexpectedError(MusicGeneratorError):
    """A job failed because of a fault in the program."""


@dataclass(frozen=True)
class Ended:
    """The end of a job: `how` is "done", "cancelled" or "failed"; a failed one has its `error`."""

    how: str
    error: MusicGeneratorError | None = None


class Job:
    """A piece of work: `steps` is run one `next` at a time, and `results` gives what it yields."""

    def __init__(self, steps: Generator[Any, None, None]) -> None:
        self.id = secrets.token_urlsafe(9)
        self.steps, self.cancelled = steps, threading.Event()
        self._loop, self._results = asyncio.get_running_loop(), asyncio.Queue[Any]()
        self._has_ended = False

    def give(self, result: object) -> None:
        """Pass a result to the event loop, from any thread. What comes after an `Ended` is dropped."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the result
            self._loop.call_soon_threadsafe(self._put, result)

    def _put(self, result: object) -> None:
        if not self._has_ended:
            self._has_ended = isinstance(result, Ended)
            self._results.put_nowait(result)

    async def results(self) -> AsyncIterator[list[Any]]:
        """Yield the results in batches, as they become ready; the last result is an `Ended`."""
        while True:
            batch = [await self._results.get()]
            while not self._results.empty():
                batch.append(self._results.get_nowait())
            yield batch
            if isinstance(batch[-1], Ended):
                return


class Jobs:
    """At most `max_jobs` jobs, run by a thread of their own, which ends with `close`."""

    def __init__(self, max_jobs: int) -> None:
        self._max_jobs = max_jobs
        self._queue: deque[Job] = deque()
        self._jobs: dict[str, Job] = {}
        self._wake, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="studio-jobs", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return the number of jobs that run or wait."""
        return len(self._jobs)

    def submit(self, steps: Generator[Any, None, None]) -> Job:
        """Start a job; to be called on the event loop. Raises `BusyError` if there are too many."""
        job = Job(steps)
        with self._wake:
            if len(self._jobs) >= self._max_jobs:
                raise BusyError(f"{self._max_jobs} jobs are already running; wait or cancel one")
            self._jobs[job.id] = job
            self._queue.append(job)
            self._wake.notify()
        return job

    def cancel(self, job_id: str) -> bool:
        """End a job before its next step. Return False if there is no such job."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.cancelled.set()
        return job is not None

    def cancel_all(self) -> None:
        """End all jobs; who waits for their results does not wait for their current step."""
        with self._wake:
            for job in self._jobs.values():
                job.cancelled.set()
                job.give(Ended("cancelled"))

    def close(self) -> None:
        """Cancel all jobs and end the thread after its current step."""
        self.cancel_all()
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                job = self._queue.popleft()
            ended = _step(job)
            with self._wake:
                if ended is None:
                    self._queue.append(job)
                else:
                    del self._jobs[job.id]
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
        return Ended("failed", error)
    except Exception as error:  # the thread must go on for the other jobs
        _log.exception("a job failed")
        return Ended("failed", UnexpectedError(f"unexpected {type(error).__name__}: {error}; please report it"))
    return None
