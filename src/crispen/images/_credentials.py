"""Whether a file carries signed content credentials (C2PA): they hold for that file and for no other.

===================  ==========================================================================================
JPEG                 an APP11 segment with a JUMBF box of type "c2pa"
PNG                  a chunk caBX
WebP                 a RIFF chunk C2PA
GIF                  an application extension C2PA_GIF
TIFF, DNG, BigTIFF   tag 0xCD41
HEIF, AVIF           a box uuid with C2PA's identifier
JPEG XL              a box jumb of type "c2pa"
===================  ==========================================================================================

From C2PA Technical Specification 2.2, appendix A ("Embedding manifests"). The signature covers the pixels, so that it
does not survive their enlargement; libvips passes none of these on. A link to credentials that lie elsewhere
stands in the XMP, see `crispen.images._xmp.enlarged`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_C2PA_TAG = 0xCD41
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_C2PA_CONTENT = b"jumdc2pa"  # the end of the header of a JUMBF description box, and the start of its type
_JUMBF_START_BYTES = 64  # enough for the headers before that, whichever of their lengths are long

# A 20,000 x 20,000 PNG in chunks of 8 kB has some hundred thousand; a file of nothing else is not worth the time.
_MAX_PARTS = 1_000_000
_MAX_PAGES = 100
_MAX_ENTRIES = 4096  # of a directory; a photograph's has thirty


def has_content_credentials(path: str | os.PathLike[str]) -> bool:
    """Tell whether the file at ``path`` carries signed content credentials; they are not checked.

    Only the structure is read, whatever the file's size. A damaged file has those that are found before the damage.
    Raises OSError where the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return carries_credentials(file)


def carries_credentials(file: BinaryIO) -> bool:
    """Do what `has_content_credentials` does, for an open file that can seek (`io.BytesIO` for bytes)."""
    file.seek(0)
    start = file.read(12)
    try:
        return any(_walker_of(start)(file))
    except struct.error:  # cut short
        return False


def _walker_of(start: bytes) -> Callable[[BinaryIO], Iterator[bool]]:
    """Choose by a file's first bytes; each walker yields of part after part whether it holds credentials."""
    walkers: dict[bytes, Callable[[BinaryIO], Iterator[bool]]] = {
        b"\xff\xd8": _in_jpeg,
        b"\x89PNG\r\n\x1a\n": _in_png,
        b"GIF8": _in_gif,
        b"II*\0": _in_tiff,
        b"II+\0": _in_tiff,
        b"MM\0*": _in_tiff,
        b"MM\0+": _in_tiff,
    }
    for magic, walker in walkers.items():
        if start.startswith(magic):
            return walker
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return _in_webp
    return _in_boxes if start[4:8] in (b"ftyp", b"JXL ") else _in_nothing


def _in_nothing(file: BinaryIO) -> Iterator[bool]:
    return iter(())


def _in_jpeg(file: BinaryIO) -> Iterator[bool]:
    """Walk the segments before the pixels: 0xFF, marker, length of the rest with itself."""
    at = 2
    for _ in range(_MAX_PARTS):
        blank, marker = _numbers(file, ">BB", at)
        if blank != 0xFF or marker in (0xD9, 0xDA):  # the end, or the start of the pixels
            return
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # filling, and markers without length
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = _numbers(file, ">H", at + 2)
        start = file.read(min(length - 2, _JUMBF_START_BYTES)) if length > 2 else b""
        yield marker == 0xEB and start.startswith(b"JP") and _C2PA_CONTENT in start
        at += 2 + length


def _in_png(file: BinaryIO) -> Iterator[bool]:
    """Walk the chunks: length of the data, name, data, checksum."""
    at = 8
    for _ in range(_MAX_PARTS):
        length, name = _named(file, ">I4s", at)
        yield name == b"caBX"
        if name == b"IEND":
            return
        at += 12 + length


def _in_webp(file: BinaryIO) -> Iterator[bool]:
    """Walk the chunks: name, length of the data, data padded to an even length."""
    at = 12
    for _ in range(_MAX_PARTS):
        length, name = _named(file, "<4sI", at)
        yield name == b"C2PA"
        at += 8 + length + length % 2


def _in_gif(file: BinaryIO) -> Iterator[bool]:
    """Walk the extensions before the first frame: 0x21, label, blocks of a length and as many bytes, an empty block."""
    (flags,) = _numbers(file, "B", 10)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in range(_MAX_PARTS):
        (first,) = _numbers(file, "B", at)
        if in_extension:
            in_extension = first > 0
            at += 1 + first
        elif first == 0x21:
            (length,) = _numbers(file, "B", at + 2)
            yield file.read(length).startswith(b"C2PA_GIF")
            in_extension = True
            at += 2
        else:
            return


def _in_boxes(file: BinaryIO) -> Iterator[bool]:
    """Walk the outermost boxes: length with the header, name; length 1: in 8 bytes more; 0: to the end."""
    at = 0
    for _ in range(_MAX_PARTS):
        length, name = _named(file, ">I4s", at)
        header = 8
        if length == 1:
            (length,) = _numbers(file, ">Q", at + 8)
            header = 16
        start = file.read(_JUMBF_START_BYTES)
        yield (name == b"uuid" and start.startswith(_C2PA_UUID)) or (
            name == b"jumb" and _C2PA_CONTENT in start
        )
        if length < header:
            return
        at += length


def _in_tiff(file: BinaryIO) -> Iterator[bool]:
    """Walk the directories of the pages."""
    order = {b"II": "<", b"MM": ">"}[_bytes(file, 0, 2)]
    is_big = _numbers(file, order + "H", 2) == (43,)
    offset, count, entry_bytes = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    (at,) = _numbers(file, order + offset, 8 if is_big else 4)
    for _ in range(_MAX_PAGES):
        if at == 0:
            return
        (entries,) = _numbers(file, order + count, at)
        first = at + struct.calcsize(order + count)
        directory = _bytes(file, first, entry_bytes * min(entries, _MAX_ENTRIES))
        step = struct.Struct(f"{order}H{entry_bytes - 2}x")
        yield _C2PA_TAG in (tag for (tag,) in step.iter_unpack(directory))
        (at,) = _numbers(file, order + offset, first + entry_bytes * entries)


def _named(file: BinaryIO, form: str, at: int) -> tuple[int, bytes]:
    """Read a length and a name, whichever comes first."""
    one, other = struct.unpack(form, _bytes(file, at, 8))
    return (one, other) if isinstance(one, int) else (other, one)


def _numbers(file: BinaryIO, form: str, at: int) -> tuple[int, ...]:
    return struct.unpack(form, _bytes(file, at, struct.calcsize(form)))


def _bytes(file: BinaryIO, at: int, size: int) -> bytes:
    """Read bytes at an offset; raises struct.error where the file ends before."""
    if at > 0x7FFF_FFFF_FFFF_FFFF:  # no file can seek there
        raise struct.error("offset beyond any file")
    file.seek(at)
    found = file.read(size)
    if len(found) < size:
        raise struct.error("the file ends before")
    return found
