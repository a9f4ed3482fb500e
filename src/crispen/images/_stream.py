"""Rows on their way to libvips: it pulls them through a socket, and never holds all of them.

libvips can be handed a whole picture, or be made to read a file. For rows that are still being computed the file
is a socket, and what runs through it is a PNG (W3C, "Portable Network Graphics", third edition) that is not
compressed: each row one run of bytes, as gray of 8 bit. libvips takes the bytes for the channels they are.

Three things happen at once: the caller computes the next strip, a thread sends the last one, and libvips encodes
what has arrived. The strips are drawn in the caller's own thread, so that its errors and Ctrl-C reach it.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np

from crispen.images._vips import vips
from crispen.images.picture import Pixels

if TYPE_CHECKING:
    from pyvips import Image

SAMPLES = {8: "uchar", 16: "ushort", 32: "float"}
"""libvips' name for the samples of each bit depth."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_BLOCK_BYTES = 1 << 20  # sent at a time, so that a strip needs no copy of itself


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

    def save_from(outlet: socket.socket) -> None:
        try:
            source = vips().Source.new_from_descriptor(outlet.fileno())
            rows = vips().Operation.call("pngload_source", source, access="sequential", fail_on="truncated")
            pixels = rows.bandfold(factor=channels * sample_bytes)
            save(pixels.copy(format=SAMPLES[bit_depth], bands=channels))
        finally:  # libvips may hold its duplicate open a while longer, and the sender would wait for it
            outlet.shutdown(socket.SHUT_RDWR)

    inlet, outlet = socket.socketpair()
    with outlet, ThreadPoolExecutor(2) as pool:
        with inlet:
            saving = pool.submit(save_from, outlet)
            sender = _Sender(inlet, height=height, row_bytes=width * channels * sample_bytes)
            _send_all(strips, sender, pool)
        saving.result()


def _send_all(strips: Iterable[Pixels], sender: _Sender, pool: ThreadPoolExecutor) -> None:
    """Send one strip while the next is drawn, until all are sent or nobody reads any more."""
    sending: Future[bool] = pool.submit(sender.begin)
    try:
        for strip in strips:
            if not sending.result():
                return
            sending = pool.submit(sender.send, strip)
        if sending.result():
            sender.end()
    finally:
        wait([sending])  # or the socket would be closed under it


class _Sender:
    """Sends rows as a PNG. Each method tells whether somebody still reads."""

    def __init__(self, inlet: socket.socket, *, height: int, row_bytes: int) -> None:
        self._inlet = inlet
        self._height = height
        self._row_bytes = row_bytes
        self._stored = zlib.compressobj(0)

    def begin(self) -> bool:
        header = struct.pack(">IIBBBBB", self._row_bytes, self._height, 8, 0, 0, 0, 0)
        return self._write(_PNG_MAGIC + _chunk(b"IHDR", header))

    def send(self, strip: Pixels) -> bool:
        rows = max(1, _BLOCK_BYTES // self._row_bytes)
        return all(self._send_block(strip[top : top + rows]) for top in range(0, len(strip), rows))

    def end(self) -> bool:
        return self._write(_chunk(b"IDAT", self._stored.flush()) + _chunk(b"IEND", b""))

    def _send_block(self, block: Pixels) -> bool:
        filtered = np.empty((len(block), 1 + self._row_bytes), np.uint8)
        filtered[:, 0] = 0  # PNG's name for "as it is"
        filtered[:, 1:] = np.ascontiguousarray(block).view(np.uint8).reshape(len(block), -1)
        return self._write(_chunk(b"IDAT", self._stored.compress(filtered.data)))

    def _write(self, data: bytes) -> bool:
        try:
            self._inlet.sendall(data)
        except OSError:  # libvips has gone; what it has to say, its own thread does
            return False
        return True


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
