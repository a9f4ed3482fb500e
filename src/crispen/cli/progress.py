"""One bar for many files."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crispen.cli.screen import is_terminal
from crispen.jobs import Done, Job, Moved

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Progress:
    """How far many jobs are: each counts by the size of its file, before anything is known of its pixels."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._weights = {job: _weight(job) for job in jobs}
        self._started = time.monotonic()
        self._under_way: dict[Job, float] = {}
        self._finished = 0.0
        self._pixels = 0
        self.files = 0
        """How many are done."""

    @property
    def total(self) -> float:
        """What `completed` will be."""
        return float(sum(self._weights.values()))

    @property
    def completed(self) -> float:
        """How much has been done, in the terms of `total`."""
        return self._finished + sum(self._weights[job] * share for job, share in self._under_way.items())

    def take(self, event: Moved | Done) -> None:
        """Count what has happened."""
        if isinstance(event, Moved):
            self._under_way[event.job] = event.share
            self._pixels += event.pixels
        else:
            self._under_way.pop(event.job, None)
            self._finished += self._weights[event.job]
            self.files += 1

    def describe(self) -> str:
        """Say in a few words how much has been done, and how fast: in millions of pixels of the results."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        return f"{self.files}/{len(self._weights)} {self._pixels / 1e6 / seconds:.2f} MP/s"


@contextmanager
def shown(events: Iterable[Moved | Done], jobs: Iterable[Job]) -> Generator[Iterator[Moved | Done]]:
    """Pass events on, with a bar on stderr where that is a terminal."""
    if not is_terminal(sys.stderr):  # and Rich need not be imported
        yield iter(events)
        return
    progress = Progress(jobs)
    with _bars() as drawn:
        task = drawn.add_task("", total=progress.total, said=progress.describe())
        yield _drawing(events, progress, drawn, task)


def _drawing(
    events: Iterable[Moved | Done], progress: Progress, drawn: Bars, task: TaskID
) -> Iterator[Moved | Done]:
    for event in events:
        progress.take(event)
        drawn.update(
            task, completed=progress.completed, said=progress.describe(), description=event.job.source.name
        )
        yield event


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[said]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=is_terminal(sys.stdout),  # a piped stdout must go on getting its lines
        redirect_stderr=True,
    )


def _weight(job: Job) -> int:
    try:
        return max(1, job.source.stat().st_size)
    except OSError:  # which the job itself will say
        return 1
