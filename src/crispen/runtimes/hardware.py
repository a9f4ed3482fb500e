"""What this machine has: units for bf16 and for matrices, and free memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from crispen.runtimes.openvino import load_openvino

CPUINFO = Path("/proc/cpuinfo")
MEMINFO, OWN_CGROUP, CGROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def supports_bf16(device: str) -> bool:
    """Whether ``device``, "cpu" or "cuda", computes in bf16 rather than emulating it."""
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def has_amx() -> bool:
    """Whether the processor multiplies matrices in registers of their own (Intel's AMX), which Linux says."""
    return CPUINFO.exists() and "amx_bf16" in CPUINFO.read_text()


def free_memory(device: str) -> int | None:
    """Bytes that may still be allocated on ``device``, "cpu" or "cuda"; None where the system does not say.

    On Linux the limits of the control groups count, too: a container that exceeds its own is killed, however
    much the machine has. Elsewhere it is half of the physical memory.
    """
    if device == "cuda":
        import torch

        # What torch has taken from the device but does not use at the moment is as good as free.
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if MEMINFO.exists():
        available = _available()
        return min([available, *_left_in_cgroups(unless=available)])
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _available() -> int:
    _, _, after = MEMINFO.read_text().partition("MemAvailable:")
    return int(after.split(maxsplit=1)[0]) * 1024


def _left_in_cgroups(*, unless: int) -> Iterator[int]:
    """What each control group with a limit leaves, where it is not ``unless`` or more, of those this process is in."""
    for limit, used, statistics in _limited(OWN_CGROUP, CGROUPS):
        with suppress(OSError):  # a process may be moved to another group
            total = limit.read_text().strip()
            left = unless if total == "max" else int(total) - int(used.read_text())
            if left < unless:
                yield left + _reclaimable(statistics.read_text())


@functools.cache
def _limited(own_cgroup: Path, cgroups: Path) -> list[tuple[Path, Path, Path]]:
    """The files of control groups that may have a limit: the limit, what is used of it, and for what."""
    files = [
        (folder / limit, folder / used, folder / "memory.stat")
        for folder in _cgroup_folders(own_cgroup, cgroups)
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        )
    ]
    return [(limit, used, statistics) for limit, used, statistics in files if limit.is_file()]


def _cgroup_folders(own_cgroup: Path, cgroups: Path) -> list[Path]:
    """Version 1's root, and in version 2 this process' own control group with all above it."""
    lines = own_cgroup.read_text().splitlines() if own_cgroup.exists() else []
    own = [PurePosixPath(line.removeprefix("0::/")) for line in lines if line.startswith("0::/")]
    return [cgroups / "memory", *(cgroups / path for name in own for path in (name, *name.parents))]


def _reclaimable(statistics: str) -> int:
    """The file cache that is counted as used, but given up when memory is needed."""
    return int(dict(line.split() for line in statistics.splitlines()).get("inactive_file", 0))
