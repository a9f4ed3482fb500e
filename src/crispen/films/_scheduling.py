"""SVT-AV1, where it runs as root, makes the program that calls it a real-time process: this takes it back.

In a container most programs run as root. With the highest real-time priority a process that is busy keeps all others
from its processor, and whatever it starts inherits that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def kept_scheduling() -> Generator[None]:
    """Give all threads of this process the scheduling policy back that the calling one had before the body."""
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                if os.sched_getscheduler(int(thread.name)) != policy:
                    os.sched_setscheduler(int(thread.name), policy, parameters)
