"""The boxes that AVIF and HEIC consist of (ISO/IEC 14496-12, section 4.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_MOST_BOXES = 10_000  # of a sound file, some dozens; of a hostile one, as many as fit


def boxes_at(file: BinaryIO, *way: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of what is in each box that lies in others of these names, from the outermost on."""
    yield from _boxes_at(file, way, 0, file.seek(0, 2))


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of what is in each box between two places."""
    for _ in range(_MOST_BOXES):
        file.seek(start)
        header = file.read(16)
        if start + 8 > end or len(header) < 8:
            return
        size, name = struct.unpack(">I4s", header[:8])
        first = start + 8
        if size == 1 and len(header) == 16:
            size, first = struct.unpack(">Q", header[8:])[0], start + 16
        last = end if size == 0 else start + size
        if last < first or last > end:
            return
        yield name, first, last
        start = last


def _boxes_at(file: BinaryIO, way: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    for name, first, last in boxes(file, start, end):
        if name == way[0] and len(way) == 1:
            yield first, last
        elif name == way[0]:
            yield from _boxes_at(file, way[1:], first + 4 * (name == b"meta"), last)
