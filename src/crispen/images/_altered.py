"""A file that libvips is to read as if a few of its bytes were others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crispen.images._vips import vips

if TYPE_CHECKING:
    from pyvips import Source

Change = tuple[int, bytes]
"""Where in the file, and what stands there instead."""


def altered(path: Path, changes: Sequence[Change]) -> Source:
    """Return the file with ``changes``, for `pyvips.Image.new_from_source`, as its images hold on to their sources."""
    file = _Altered(path, changes)
    source = vips().SourceCustom()
    source.on_read(file.read)
    source.on_seek(file.seek)
    return source


class _Altered:
    """The file is opened anew for each read, so that nothing is left open when nobody wants any more."""

    def __init__(self, path: Path, changes: Sequence[Change]) -> None:
        self._path = path
        self._changes = changes
        self._position = 0

    def read(self, count: int) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                found = bytearray(file.read(count))
        except OSError:  # it has gone meanwhile; for libvips it is cut short
            return None
        for at, data in self._changes:
            for place, byte in enumerate(data, at - self._position):
                if 0 <= place < len(found):
                    found[place] = byte
        self._position += len(found)
        return bytes(found) or None

    def seek(self, offset: int, whence: int) -> int:
        try:
            start = {os.SEEK_CUR: self._position, os.SEEK_END: self._path.stat().st_size}.get(whence, 0)
        except OSError:
            return -1
        self._position = max(0, start + offset)
        return self._position
