"""How many frames there are in files of which libvips reads the first (8.18).

An animated PNG has a chunk acTL before its pixels (W3C, "Portable Network Graphics", third edition, section 11.3.6). An
AVIF or HEIC sequence is a film: each of its tracks says how many samples it has (ISO/IEC 14496-12, box stsz).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from crispen.images._boxes import boxes_at

_TO_SAMPLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
_MOST_CHUNKS = 10_000  # before the pixels; of a sound file, some dozens


def stated_frames(path: Path, loader: str) -> int:
    """Return how many frames a file says that it has, for libvips' ``loader``; 1 where it says nothing."""
    count = _COUNT_OF.get(loader)
    if count is None:
        return 1
    with path.open("rb") as file:
        return max(1, count(file))


def _in_png(file: BinaryIO) -> int:
    """Walk the chunks before the pixels: length of the data, name, data, checksum."""
    at = 8
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        start = file.read(12)
        if len(start) < 12 or start[4:8] == b"IDAT":
            break
        length, name, frames = struct.unpack(">I4sI", start)
        if name == b"acTL":
            return frames
        at += 12 + length
    return 1


def _in_boxes(file: BinaryIO) -> int:
    """Return the samples of the longest track: one is the pictures, another may be their alpha."""
    counts = [1]
    for first, last in boxes_at(file, *_TO_SAMPLES):
        file.seek(first)
        content = file.read(min(12, last - first))  # version and flags, size of a sample, count
        if len(content) == 12:
            counts.append(struct.unpack(">8xI", content)[0])
    return max(counts)


_COUNT_OF: dict[str, Callable[[BinaryIO], int]] = {"pngload_source": _in_png, "heifload_source": _in_boxes}
