"""The work itself: several files at once, so that one is read and another written while the network computes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol, TypeVar

from crispen.errors import CrispenError, PictureError
from crispen.jobs.planning import Job
from crispen.upscaling.sizes import Dimensions

WORKERS = 2
"""Files under way at once: all of the runtimes compute for one at a time, so that more would wait."""

_Step = TypeVar("_Step")


class Watch(Protocol):
    """Passes on the steps of what is being enlarged, and notes how far it is; it may end the work."""

    def __call__(
        self, steps: Iterable[_Step], total: int, *, pixels: Callable[[_Step], int], notes: Sequence[str] = ()
    ) -> Iterator[_Step]:
        """Pass on ``steps``, of which there will be ``total`` in all, or 0 where nobody knows.

        ``pixels`` says how many a step has added to the result; ``notes`` are those of `Made` that are known before the
        first.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of a file."""

    small: Dimensions
    large: Dimensions
    count: int = 1
    """How many pages or frames were enlarged."""
    notes: tuple[str, ...] = ()
    """Sentences, of what could not be kept."""
    sha256: str | None = None
    """Of the file that was read, in hexadecimal, where hashes were asked for."""
    result_sha256: str | None = None
    """Of the file that was written."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The result was there when its turn came: another process has made it since the work was planned."""


Outcome = Made | Skipped | CrispenError
"""What comes of a file."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A file is on its way."""

    job: Job
    share: float
    """How much of it is done, from 0 to 1."""
    pixels: int
    """How many were added to results since the last event."""
    notes: tuple[str, ...] = ()
    """Sentences, of what cannot be kept, as soon as they are known; `Made` has them, too."""


@dataclass(frozen=True, slots=True)
class Done:
    """A file has come to its end."""

    job: Job
    outcome: Outcome
    seconds: float


class _Stopped(Exception):
    """The work is no longer wanted."""


class Running:
    """Jobs being worked off: each iteration yields an event, those of `Done` in the order of the jobs.

    Leaving it early stops the work at its next step; `ended` then has what was done all the same. What one job fails
    with is its outcome, and keeps no other from being done, even where nobody could foresee it.

    Args:
        jobs: what is to be done.
        enlarge: does a job, and passes its steps through the `Watch`.
        workers: how many at once.
    """

    def __init__(
        self, jobs: Sequence[Job], enlarge: Callable[[Job, Watch], Made | Skipped], *, workers: int = WORKERS
    ) -> None:
        self._jobs = jobs
        self._enlarge = enlarge
        self._workers = workers
        self._events: SimpleQueue[Moved | Done | Future[None]] = SimpleQueue()
        self._ended: dict[Job, Done] = {}
        self._stop = threading.Event()

    def __len__(self) -> int:
        """How many jobs there are."""
        return len(self._jobs)

    @property
    def ended(self) -> list[Done]:
        """What has come to its end by now, in the order of the jobs; more than was told, where some still wait."""
        return [self._ended[job] for job in self._jobs if job in self._ended]

    def __iter__(self) -> Generator[Moved | Done]:
        """Work off the jobs, once."""
        waiting = deque(self._jobs)
        early: dict[Job, Done] = {}
        pool = ThreadPoolExecutor(self._workers)
        try:
            for job in self._jobs:
                pool.submit(self._work, job).add_done_callback(self._events.put)
            while waiting:
                event = self._events.get()
                if isinstance(event, Future):
                    event.result()  # raises what is no failure, such as a wish to end the process
                elif isinstance(event, Moved):
                    yield event
                else:
                    early[event.job] = event
                while waiting and waiting[0] in early:
                    yield early.pop(waiting.popleft())
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)

    def _work(self, job: Job) -> None:
        started = time.monotonic()
        try:
            outcome: Outcome = self._enlarge(job, self._watch(job))
        except CrispenError as error:
            outcome = error
        except OSError as error:
            outcome = PictureError(f"{error.filename or job.source}: {error.strerror or error}")
        except _Stopped:
            return
        except Exception as error:  # noqa: BLE001  # a mistake of ours, or of a library, over one file of many
            outcome = _unforeseen(job, error)
        self._ended[job] = Done(job, outcome, time.monotonic() - started)
        self._events.put(self._ended[job])

    def _watch(self, job: Job) -> Watch:
        count = 0

        def watch(
            steps: Iterable[_Step], total: int, *, pixels: Callable[[_Step], int], notes: Sequence[str] = ()
        ) -> Iterator[_Step]:
            nonlocal count
            if notes:
                self._events.put(Moved(job, 0.0, 0, tuple(notes)))
            for step in steps:
                count += 1
                self._events.put(Moved(job, min(1.0, count / total) if total else 0.0, pixels(step)))
                yield step
                if self._stop.is_set():
                    raise _Stopped

        return watch


def _unforeseen(job: Job, error: Exception) -> CrispenError:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    outcome = PictureError(f"{job.source} cannot be enlarged, which nobody has foreseen ({said})")
    outcome.__cause__ = error
    return outcome
