"""Rows on their way to libvips: it pulls them as it needs them, and never holds all of them.

libvips can be handed a whole picture, or be made to read a file. For rows that are still being computed the file
is a function of ours that it calls for more bytes, and what it gets is a PNG (W3C, "Portable Network Graphics", third
edition) that is not compressed: each row one run of bytes, as gray of 8 bit. libvips takes the bytes for the channels
they are.

While the caller computes the next strip, libvips encodes the last one in threads of its own. The strips are drawn in
the caller's thread, so that its errors and Ctrl-C reach it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import TYPE_CHECKING, Protocol

import numpy as np

from crispen.images._vips import vips
from crispen.images.picture import Pixels

if TYPE_CHECKING:
    from pyvips import Image

SAMPLES = {8: "uchar", 16: "ushort", 32: "float"}
"""libvips' name for the samples of each bit depth."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_BLOCK_BYTES = 1 << 20  # made at a time, so that a strip needs no copy of itself


def save_rows(
    strips: Iterable[Pixels],
    save: Callable[[Image], object],
    *,
    height: int,
    width: int,
    channels: int,
    bit_depth: int,
) -> None:
    """Call ``save`` with an image whose rows are drawn from ``strips`` while it is being saved.

    ``strips`` are (n, W, C) of any heights, from top to bottom, ``height`` rows in all; one must not be changed
    before the next but one is asked for. The image has no interpretation and no metadata yet.

    Raises what ``strips`` or ``save`` raise: after an error in either, the other is stopped.
    """
    sample_bytes = bit_depth // 8
    handover = _Handover()

    def save_all() -> None:
        try:
            source = vips().SourceCustom()
            source.on_read(handover.read)
            rows = vips().Operation.call("pngload_source", source, access="sequential", fail_on="truncated")
            pixels = rows.bandfold(factor=channels * sample_bytes)
            save(pixels.copy(format=SAMPLES[bit_depth], bands=channels))
        finally:
            handover.desert()

    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save_all)
        try:
            for part in _as_png(strips, height=height, row_bytes=width * channels * sample_bytes):
                if not handover.give(part):
                    break
        finally:
            handover.end()
        saving.result()


class _Compressor(Protocol):
    """What `zlib.compressobj` returns."""

    def compress(self, data: memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Handover:
    """Where one thread leaves bytes, a strip's at a time, and another takes them, as many as it likes."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._blocks: Iterator[bytes] | None = None
        self._begun = memoryview(b"")
        self._ended = self._deserted = False

    def give(self, blocks: Iterator[bytes]) -> bool:
        """Leave blocks as soon as those before have been taken; False where nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._blocks is None or self._deserted)
            self._blocks = blocks
            self._changed.notify_all()
            return not self._deserted

    def end(self) -> None:
        """Say that nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def desert(self) -> None:
        """Say that nothing more will be taken."""
        with self._changed:
            self._deserted = True
            self._changed.notify_all()

    def read(self, count: int) -> memoryview | None:
        """Take up to ``count`` bytes, as soon as there are any; None at the end."""
        while not self._begun:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks is not None or self._ended)
                if self._blocks is None:
                    return None
            self._begun = memoryview(next(self._blocks, b""))
            if not self._begun:
                self._take_off()
        taken, self._begun = self._begun[:count], self._begun[count:]
        return taken

    def _take_off(self) -> None:
        with self._changed:
            self._blocks = None
            self._changed.notify_all()


def _as_png(strips: Iterable[Pixels], *, height: int, row_bytes: int) -> Iterator[Iterator[bytes]]:
    """Write rows as a PNG that is not compressed: its beginning, then each strip, then its end."""
    stored = zlib.compressobj(0)
    header = struct.pack(">IIBBBBB", row_bytes, height, 8, 0, 0, 0, 0)
    yield iter([_PNG_MAGIC + _chunk(b"IHDR", header)])
    for strip in strips:
        yield _chunks_of(strip, stored, row_bytes)
    yield _last_chunks(stored)


def _chunks_of(strip: Pixels, stored: _Compressor, row_bytes: int) -> Iterator[bytes]:
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for top in range(0, len(strip), rows):
        block = np.ascontiguousarray(strip[top : top + rows])
        filtered = np.empty((len(block), 1 + row_bytes), np.uint8)
        filtered[:, 0] = 0  # PNG's name for "as it is"
        filtered[:, 1:] = block.view(np.uint8).reshape(len(block), -1)
        yield _chunk(b"IDAT", stored.compress(filtered.data))


def _last_chunks(stored: _Compressor) -> Iterator[bytes]:
    """Made only when they are taken, and so after all rows."""
    yield _chunk(b"IDAT", stored.flush())
    yield _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
