"""Keep glibc from giving a step's memory back to the system, only to ask for it again in the next."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)


def keep_freed_memory() -> None:
    """Let the allocator hold on to freed memory (Linux with glibc; elsewhere nothing is done).

    A step allocates and frees tensors of tens of megabytes. By default each is mapped afresh, and clearing its
    pages takes a third of the step's time on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    mallopt(M_TOP_PAD, 256 << 20)
