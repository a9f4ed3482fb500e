"""Colours that an AVIF or HEIC states by numbers, without a profile (ISO/IEC 14496-12, box colr of type nclx)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_DISPLAY_P3 = (12, 13)  # primaries and transfer, as ITU-T H.273 numbers them
_WAY = (b"meta", b"iprp", b"ipco")
_MOST_BOXES = 10_000  # of a sound file, some dozens; of a hostile one, as many as fit


def states_display_p3(path: Path) -> bool:
    """Tell whether a file says in numbers that its colours are Display P3's."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        start = 0
        for name in _WAY:
            for found, first, last in _boxes(file, start, end):
                if found == name:
                    start, end = first + 4 * (name == b"meta"), last
                    break
            else:
                return False
        for found, first, _ in _boxes(file, start, end):
            file.seek(first)
            content = file.read(8)
            if found == b"colr" and content[:4] == b"nclx" and len(content) == 8:
                return struct.unpack(">HH", content[4:]) == _DISPLAY_P3
    return False


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
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
