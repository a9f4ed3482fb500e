"""Colours that an AVIF or HEIC states by numbers, without a profile (ISO/IEC 14496-12, box colr of type nclx)."""

from __future__ import annotations

import struct
from pathlib import Path

from crispen.images._boxes import boxes, boxes_at

_DISPLAY_P3 = (12, 13)  # primaries and transfer, as ITU-T H.273 numbers them


def states_display_p3(path: Path) -> bool:
    """Tell whether a file says in numbers that its colours are Display P3's."""
    with path.open("rb") as file:
        for start, end in boxes_at(file, b"meta", b"iprp", b"ipco"):
            for name, first, _ in boxes(file, start, end):
                file.seek(first)
                content = file.read(8)
                if name == b"colr" and content[:4] == b"nclx" and len(content) == 8:
                    return struct.unpack(">HH", content[4:]) == _DISPLAY_P3
    return False
