"""The next item is made while the present one is used."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(make: Callable[[int], T], steps: range) -> Generator[T]:
    """Yield ``make(step)`` for each step in turn, one ahead in a background thread.

    One thread suffices: batches are made in a fraction of the time that a step takes. An error of ``make`` is raised
    here, in the place of the item that it hindered. When the iterator is closed (or has been lost) it waits for the
    item that is being made, and the thread ends.
    """
    if not steps:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        coming = thread.submit(make, steps[0])
        for step in steps[1:]:
            item = coming.result()
            coming = thread.submit(make, step)
            yield item
        yield coming.result()
