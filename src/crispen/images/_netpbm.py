"""PBM, PGM, PPM and PFM, which the libvips that pip installs does not know.

A header of words, with comments from "#" to the end of the line, then the pixels: as text (P1 to P3), as bytes
(P4 to P6; http://netpbm.sourceforge.net/doc/ppm.html), or as floats of 4 bytes from the bottom row upwards (Pf,
PF; http://www.pauldebevec.com/Research/HDR/PFM). In a bitmap (P1, P4) 1 is black.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError
from crispen.images._opened import FetchRows, Opened, rows_at
from crispen.images._paths import shown
from crispen.images._publishing import said_of_writing
from crispen.images.picture import Header, Pixels

MAGICS = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"PF")
"""How these files begin."""

_HEADER_BYTES = 4096  # comments included
_WORD = re.compile(rb"(?:\s+|#[^\n]*\n)*([^\s#]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """What the header says of the bytes behind it."""

    kind: bytes
    width: int
    height: int
    white: float
    """The largest value; for floats the sign is that of the byte order: below 0 the low byte comes first."""
    start: int

    @property
    def channels(self) -> int:
        return 3 if self.kind in (b"P3", b"P6", b"PF") else 1

    @property
    def bit_depth(self) -> int:
        return 32 if self.kind in (b"Pf", b"PF") else 16 if self.white > 255 else 8

    @property
    def row_bytes(self) -> int:
        return -(-self.width // 8) if self.kind == b"P4" else self.width * self.channels * self.bit_depth // 8


def open_netpbm(path: Path) -> Opened:
    """Read the header. Raises `PictureError` where it is damaged, or the file is shorter than it says."""
    layout = _layout(path)
    header = Header(
        height=layout.height, width=layout.width, channels=layout.channels, bit_depth=layout.bit_depth
    )
    is_text = layout.kind in (b"P1", b"P2", b"P3")
    if not is_text and path.stat().st_size < layout.start + layout.height * layout.row_bytes:
        raise PictureError(f"{shown(path)} is damaged or cut short (it ends before its last row)")
    return Opened(header=header, fetch=_text_rows(path, layout) if is_text else _binary_rows(path, layout))


def _layout(path: Path) -> _Layout:
    with path.open("rb") as file:
        data = file.read(_HEADER_BYTES)
    kind, end = data[:2], 2
    words: list[bytes] = []
    for _ in range(2 if kind in (b"P1", b"P4") else 3):
        match = _WORD.match(data, end)
        words.append(match[1] if match else b"")
        end = match.end() if match else end
    try:
        width, height = int(words[0]), int(words[1])
        white = float(words[2]) if len(words) == 3 else 1.0
    except ValueError:
        width = height = 0
        white = 0.0
    floats = kind in (b"Pf", b"PF")
    sound = white != 0 and np.isfinite(white) if floats else 1 <= white <= 65535 and white == int(white)
    if width < 1 or height < 1 or not sound or not data[end : end + 1].isspace():
        raise PictureError(f"{shown(path)} has a damaged or unsupported header")
    return _Layout(kind=kind, width=width, height=height, white=white, start=end + 1)


def _binary_rows(path: Path, layout: _Layout) -> FetchRows:
    def fetch(top: int, count: int) -> NDArray[Any]:
        upwards = layout.bit_depth == 32
        first = layout.height - top - count if upwards else top
        rows = rows_at(path, layout.start + first * layout.row_bytes, count, layout.row_bytes)
        return _as_floats(rows, layout)[::-1] if upwards else _as_integers(rows, layout)

    return fetch


def _as_floats(rows: NDArray[np.uint8], layout: _Layout) -> NDArray[np.float32]:
    values = rows.view("<f4" if layout.white < 0 else ">f4").astype(np.float32)
    return values.reshape(len(rows), layout.width, layout.channels)


def _as_integers(rows: NDArray[np.uint8], layout: _Layout) -> NDArray[Any]:
    if layout.kind == b"P4":
        bits = np.unpackbits(rows, axis=1)[:, : layout.width, np.newaxis]
        return (1 - bits) * np.uint8(255)
    values = rows.view(">u2") if layout.bit_depth == 16 else rows
    return _stretched(values.reshape(len(rows), layout.width, layout.channels), layout)


def _stretched(values: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    """Rescale from 0 .. white to all of the depth, rounding to the nearest."""
    full = 2**layout.bit_depth - 1
    dtype = np.uint16 if layout.bit_depth == 16 else np.uint8
    if layout.white == full:
        return values.astype(dtype)
    clipped = np.minimum(values, layout.white)
    return np.rint(clipped * np.float64(full) / layout.white).astype(dtype)


def _text_rows(path: Path, layout: _Layout) -> FetchRows:
    values: list[NDArray[Any]] = []  # all of them, from the first call on

    def fetch(top: int, count: int) -> NDArray[Any]:
        if not values:
            values.append(_text_values(path, layout))
        return values[0][top : top + count]

    return fetch


def _text_values(path: Path, layout: _Layout) -> NDArray[Any]:
    """Parse the numbers; those of a bitmap may stand without spaces between them."""
    text = re.sub(rb"#[^\n]*", b"", path.read_bytes()[layout.start :])
    is_bitmap = layout.kind == b"P1"
    words = re.findall(rb"[01]", text) if is_bitmap else text.split()
    needed = layout.height * layout.width * layout.channels
    try:
        numbers = np.array(words[:needed], dtype=np.bytes_).astype(np.int64)
    except (ValueError, OverflowError):
        numbers = np.empty(0, np.int64)
    if len(numbers) < needed or numbers.min() < 0:
        raise PictureError(f"{shown(path)} is damaged or cut short (a number is missing)")
    numbers = numbers.reshape(layout.height, layout.width, layout.channels)
    return _stretched(1 - numbers if is_bitmap else numbers, layout)


def write_netpbm(strips: Iterable[Pixels], file: Path, header: Header, *, path: Path) -> None:
    """Write strips (n, W, C), from top to bottom, to ``file``: P5, P6, Pf or PF, by the channels and bit depth.

    Raises `PictureError`, about ``path``, where the system refuses, and whatever ``strips`` raises.
    """
    with said_of_writing(path):
        file.write_bytes(_start(header))
    top = 0
    for strip in strips:
        with said_of_writing(path):
            _put(file, strip, header, top=top)
        top += len(strip)


def _put(file: Path, strip: Pixels, header: Header, *, top: int) -> None:
    """Write the strip (n, W, C) that begins with row ``top`` into a file that has begun. Raises `OSError`."""
    upwards = header.bit_depth == 32
    dtype = {8: "u1", 16: ">u2", 32: "<f4"}[header.bit_depth]
    first = header.height - top - len(strip) if upwards else top
    rows = np.ascontiguousarray(cast(NDArray[Any], strip[::-1] if upwards else strip), dtype)
    with file.open("r+b") as opened:
        opened.seek(len(_start(header)) + first * rows[0].nbytes)
        opened.write(rows.data)


def _start(header: Header) -> bytes:
    floats = header.bit_depth == 32
    kind = {(1, False): "P5", (3, False): "P6", (1, True): "Pf", (3, True): "PF"}[header.channels, floats]
    white = "-1.0" if floats else str(2**header.bit_depth - 1)
    return f"{kind}\n{header.width} {header.height}\n{white}\n".encode()
