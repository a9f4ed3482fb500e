"""The next item is made while the present one is used."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def prefetched(make: Callable[[int], T], steps: range) -> Generator[T]:
    """Yield ``make(step)`` for each step in turn, one ahead in a background thread.

    One thread suffices: batches are made in a fraction of the time that a step takes. An error of ``make`` is raised
    here, in the place of the item that it hindered. When the iterator is closed (or has been lost) it waits for the
    item that is being made, and the thread ends.

    Within ``make`` torch computes on that thread alone. A second team of threads beside the caller's would make OpenMP
    send those of both to sleep at the end of every operation, and a step on two cores takes as long as on one.
    """
    if not steps:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        _compute_alone(thread)
        coming = thread.submit(make, steps[0])
        for step in steps[1:]:
            item = coming.result()
            coming = thread.submit(make, step)
            yield item
        yield coming.result()


def _compute_alone(thread: ThreadPoolExecutor) -> None:
    """Let torch's operations in this thread have no helpers, and those in all others as many as before."""
    ours = torch.get_num_threads()
    thread.submit(torch.get_num_threads).result()  # on its first use a thread takes the process' number
    thread.submit(torch.set_num_threads, 1).result()  # its own, and the process' too
    torch.set_num_threads(ours)
