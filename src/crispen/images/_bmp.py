"""BMP, which the libvips that pip installs does not know.

A file header of 14 bytes, an information header whose size tells its version, a palette or bit masks, and rows
padded to 4 bytes, from the bottom up unless the height is negative (Microsoft, "Bitmap Storage"; the versions:
BITMAPCOREHEADER, BITMAPINFOHEADER, BITMAPV4HEADER, BITMAPV5HEADER). 1, 4, 8 bits a pixel point into the palette;
16 and 32 hold red, green, blue where masks say; runs of equal pixels may be shortened (RLE4, RLE8).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError
from crispen.images._metadata import stated
from crispen.images._opened import FetchRows, Opened, rows_at
from crispen.images._paths import shown
from crispen.images.picture import Header

MAGIC = b"BM"
"""How these files begin."""

_FILE_HEADER_BYTES = 14
_CORE_BYTES = 12  # the information header of OS/2, whose palette has three bytes a colour
_MASKS_INSIDE_FROM = 52  # bytes of the information header from which on the masks are part of it
_ALPHA_INSIDE_FROM = 56
_V5_BYTES = 124
_HEADERS_BYTES = _FILE_HEADER_BYTES + 40 + 16 + 1024  # as much as masks and palette may need, and V5
_PLAIN, _RLE8, _RLE4, _MASKS, _MASKS_WITH_ALPHA = 0, 1, 2, 3, 6
_USUAL_MASKS = {16: (0x7C00, 0x03E0, 0x001F, 0), 32: (0xFF0000, 0x00FF00, 0x0000FF, 0)}
_EMBEDDED_PROFILE = 0x4D424544  # "MBED"
_MAX_PROFILE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """What the headers say of the rows."""

    width: int
    height: int
    upwards: bool
    bits: int
    """Per pixel: 1, 4, 8, 16, 24 or 32."""
    run_lengths: bool
    palette: NDArray[np.uint8]
    """(n, 3), red first; empty where there is none."""
    masks: tuple[int, int, int, int]
    """Of red, green, blue and alpha."""
    start: int

    @property
    def row_bytes(self) -> int:
        return -(-self.width * self.bits // 32) * 4


def open_bmp(path: Path) -> Opened:
    """Read the headers. Raises `PictureError` where they are damaged, or of a kind that is not read."""
    with path.open("rb") as file:
        data = file.read(_HEADERS_BYTES)
    try:
        layout = _layout(data)
    except (struct.error, ValueError, KeyError):
        raise PictureError(f"{shown(path)} has a damaged or unsupported header") from None
    if not layout.run_lengths and path.stat().st_size < layout.start + layout.height * layout.row_bytes:
        raise PictureError(f"{shown(path)} is damaged or cut short (it ends before its last row)")
    profile = _profile(path, data)
    header = Header(
        height=layout.height,
        width=layout.width,
        channels=3,
        bit_depth=8,
        has_alpha=layout.masks[3] != 0,
        attachments={} if profile is None else {"icc-profile-data": profile},
        resolution=_resolution(data),
    )
    return Opened(
        header=header, fetch=_rows_of_runs(path, layout) if layout.run_lengths else _rows(path, layout)
    )


def _layout(data: bytes) -> _Layout:
    """Raise `struct.error`, `ValueError` or `KeyError` for what is cut short or makes no sense."""
    start, size = struct.unpack_from("<II", data, 10)
    if size == _CORE_BYTES:
        width, height, _, bits = struct.unpack_from("<HHHH", data, _FILE_HEADER_BYTES + 4)
        compression = used = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, _FILE_HEADER_BYTES + 4)
        (used,) = struct.unpack_from("<I", data, _FILE_HEADER_BYTES + 32)
    kinds = {
        _PLAIN: (1, 4, 8, 16, 24, 32),
        _RLE8: (8,),
        _RLE4: (4,),
        _MASKS: (16, 32),
        _MASKS_WITH_ALPHA: (16, 32),
    }
    if (
        bits not in kinds[compression]
        or width < 1
        or height == 0
        or size not in (12, 16, 40, 52, 56, 64, 108, 124)
    ):
        raise ValueError
    outside = size < _MASKS_INSIDE_FROM and compression in (_MASKS, _MASKS_WITH_ALPHA)
    mask_bytes = (16 if compression == _MASKS_WITH_ALPHA else 12) if outside else 0
    return _Layout(
        width=width,
        height=abs(height),
        upwards=height > 0,
        bits=bits,
        run_lengths=compression in (_RLE8, _RLE4),
        palette=_palette(data, at=_FILE_HEADER_BYTES + size + mask_bytes, size=size, bits=bits, used=used),
        masks=_masks(data, size=size, bits=bits, compression=compression),
        start=start,
    )


def _palette(data: bytes, *, at: int, size: int, bits: int, used: int) -> NDArray[np.uint8]:
    if bits > 8:
        return np.empty((0, 3), np.uint8)
    entry = 3 if size == _CORE_BYTES else 4
    count = min(used or 2**bits, 2**bits)
    colours = np.frombuffer(data[at : at + count * entry], np.uint8)
    if len(colours) < count * entry:
        raise ValueError
    return colours.reshape(count, entry)[:, 2::-1]


def _masks(data: bytes, *, size: int, bits: int, compression: int) -> tuple[int, int, int, int]:
    if compression not in (_MASKS, _MASKS_WITH_ALPHA):
        return _USUAL_MASKS.get(bits, (0, 0, 0, 0))
    red, green, blue = struct.unpack_from("<III", data, _FILE_HEADER_BYTES + 40)
    has_alpha = size >= _ALPHA_INSIDE_FROM or compression == _MASKS_WITH_ALPHA
    (alpha,) = struct.unpack_from("<I", data, _FILE_HEADER_BYTES + 52) if has_alpha else (0,)
    if not (red and green and blue):
        raise ValueError
    return red, green, blue, alpha


def _resolution(data: bytes) -> tuple[float, float] | None:
    (size,) = struct.unpack_from("<I", data, _FILE_HEADER_BYTES)
    if size < 40:
        return None
    across, down = struct.unpack_from("<ii", data, _FILE_HEADER_BYTES + 24)  # pixels per metre
    return stated(across / 1000, down / 1000) if across > 0 and down > 0 else None


def _profile(path: Path, data: bytes) -> bytes | None:
    """Return the ICC profile that version 5 embeds, if there is one."""
    size, kind = struct.unpack_from("<I", data, 14)[0], data[70:74]
    if size != _V5_BYTES or len(kind) < 4 or struct.unpack("<I", kind)[0] != _EMBEDDED_PROFILE:
        return None
    offset, length = struct.unpack_from("<II", data, _FILE_HEADER_BYTES + 112)
    if not 0 < length <= _MAX_PROFILE_BYTES:
        return None
    with path.open("rb") as file:
        file.seek(_FILE_HEADER_BYTES + offset)
        profile = file.read(length)
    return profile if len(profile) == length else None


def _rows(path: Path, layout: _Layout) -> FetchRows:
    def fetch(top: int, count: int) -> NDArray[np.uint8]:
        first = layout.height - top - count if layout.upwards else top
        rows = rows_at(path, layout.start + first * layout.row_bytes, count, layout.row_bytes)
        return _colours(path, rows[::-1] if layout.upwards else rows, layout)

    return fetch


def _colours(path: Path, rows: NDArray[np.uint8], layout: _Layout) -> NDArray[np.uint8]:
    """(n, row_bytes) to (n, W, 3), or (n, W, 4) with alpha."""
    if layout.bits <= 8:
        return _looked_up(path, _indices(rows, layout), layout)
    if layout.bits == 24:
        return rows[:, : layout.width * 3].reshape(len(rows), layout.width, 3)[..., ::-1]
    words = np.ascontiguousarray(rows).view("<u2" if layout.bits == 16 else "<u4")[:, : layout.width]
    masks = layout.masks if layout.masks[3] else layout.masks[:3]
    return np.stack([_masked(words, mask) for mask in masks], axis=2)


def _indices(rows: NDArray[np.uint8], layout: _Layout) -> NDArray[np.uint8]:
    """Return the palette's index of each pixel, (n, W); the first pixel lies in the highest bits."""
    if layout.bits == 8:
        indices = rows
    elif layout.bits == 4:
        indices = np.stack([rows >> np.uint8(4), rows & np.uint8(15)], axis=2).reshape(len(rows), -1)
    else:
        indices = np.unpackbits(rows, axis=1)
    return indices[:, : layout.width]


def _looked_up(path: Path, indices: NDArray[np.uint8], layout: _Layout) -> NDArray[np.uint8]:
    if indices.max() >= len(layout.palette):
        raise PictureError(f"{shown(path)} is damaged or cut short (a colour is not in its palette)")
    return layout.palette[indices]


def _masked(words: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """Return what the mask selects, stretched to 0 .. 255."""
    shift = (mask & -mask).bit_length() - 1
    selected = (words & words.dtype.type(mask & ((1 << 8 * words.itemsize) - 1))) >> words.dtype.type(shift)
    return np.rint(selected * (255 / (mask >> shift))).astype(np.uint8)


def _rows_of_runs(path: Path, layout: _Layout) -> FetchRows:
    decoded: list[NDArray[np.uint8]] = []  # all indices, from the first call on

    def fetch(top: int, count: int) -> NDArray[np.uint8]:
        if not decoded:
            indices = _decode_runs(path, layout)
            decoded.append(indices[::-1] if layout.upwards else indices)
        return _looked_up(path, decoded[0][top : top + count], layout)

    return fetch


def _decode_runs(path: Path, layout: _Layout) -> NDArray[np.uint8]:
    """Return the palette's index of each pixel, (H, W), in the file's order of rows.

    A pair of bytes is a run's length and its colour; or 0 and a command: 0 ends the row, 1 the picture, 2 moves to
    the right and on, and from 3 on it is as many pixels that follow, padded to 2 bytes. What nothing is written
    to has colour 0.
    """
    with path.open("rb") as file:
        file.seek(layout.start)
        data = file.read()
    indices = np.zeros((layout.height, layout.width), np.uint8)
    pixels_per_byte = 8 // layout.bits
    at = row = column = 0
    while at + 1 < len(data):
        length, value = data[at], data[at + 1]
        at += 2
        if length:
            run = np.resize(_unpacked(bytes([value]), layout.bits), length)
        elif value == 0:
            row, column = row + 1, 0
            continue
        elif value == 1:
            return indices
        elif value == 2:
            if at + 1 >= len(data):
                break
            row, column = row + data[at + 1], column + data[at]
            at += 2
            continue
        else:
            taken = -(-value // pixels_per_byte)
            run, length = _unpacked(data[at : at + taken], layout.bits)[:value], value
            at += taken + taken % 2
        if row >= layout.height or len(run) < length:
            break
        run = run[: layout.width - column] if column < layout.width else run[:0]  # some writers pad the rows
        indices[row, column : column + len(run)] = run
        column += len(run)
    if (row, column) in (
        (layout.height, 0),
        (layout.height - 1, layout.width),
    ):  # only the end's mark is missing
        return indices
    raise PictureError(f"{shown(path)} is damaged or cut short (its runs do not fit its size)")


def _unpacked(data: bytes, bits: int) -> NDArray[np.uint8]:
    raw = np.frombuffer(data, np.uint8)
    return raw if bits == 8 else np.stack([raw >> np.uint8(4), raw & np.uint8(15)], axis=1).reshape(-1)
