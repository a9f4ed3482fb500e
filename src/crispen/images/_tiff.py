"""TIFF files as directories of tags (TIFF 6.0, section 2; for BigTIFF the specification by AWare Systems).

"II" or "MM" for the order of bytes, 42 (in a BigTIFF 43), and the offset of the first directory. A directory is a
count, as many entries (tag, type, count, and the value or its offset), and the offset of the next directory. Nothing in
a file is trusted: what cannot be followed raises `Broken`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

NEW_SUBFILE_TYPE, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES = 254, 258, 259, 262, 277, 338
STRIP_OFFSETS, TILE_OFFSETS = 273, 324
YCBCR_COEFFICIENTS, YCBCR_SUBSAMPLING, REFERENCE_BLACK_WHITE = 529, 530, 532
SUB_DIRECTORIES, EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY = 330, 0x8769, 0x8825, 0xA005

LONG, LONG8 = 4, 16
TYPES = {
    1: (1, 1), 2: (1, 1), 3: (2, 1), 4: (4, 1), 5: (4, 2), 6: (1, 1), 7: (1, 1), 8: (2, 1), 9: (4, 1),
    10: (4, 2), 11: (4, 1), 12: (8, 1), 13: (4, 1), 16: (8, 1), 17: (8, 1), 18: (8, 1),
}  # fmt: skip
"""Bytes of a number of each type, and numbers per value (a fraction has two)."""

_SIGNS = {1: "B", 3: "H", 4: "I", 5: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_ENTRIES = 4096
_MAX_DIRECTORIES = 1 << 20
_FEW_BYTES = 1 << 20


class Broken(ValueError):
    """A TIFF that cannot be followed."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a TIFF writes numbers: `struct`'s sign of their order, and whether it is a BigTIFF."""

    order: str
    is_big: bool

    @property
    def offset(self) -> str:
        """How an offset is packed."""
        return self.order + ("Q" if self.is_big else "I")

    @property
    def count(self) -> str:
        """How the number of a directory's entries is packed."""
        return self.order + ("Q" if self.is_big else "H")

    @property
    def entry(self) -> str:
        """How an entry is packed."""
        return self.order + ("HHQ8s" if self.is_big else "HHI4s")

    @property
    def link_at(self) -> int:
        """Where the offset of the first directory stands."""
        return 8 if self.is_big else 4


@dataclass(frozen=True, slots=True)
class Numbers:
    """Whole numbers in a file, in the order they have there; of a fraction there are two."""

    at: int
    """Where they stand."""
    form: str
    """How they are packed."""
    values: tuple[int, ...]


def form_of(file: BinaryIO) -> Form:
    """Return how a TIFF writes numbers."""
    start = bytes_at(file, 0, 4)
    for order, name in (("<", b"II"), (">", b"MM")):
        for number in (42, 43):
            if start == name + struct.pack(order + "H", number):
                return Form(order, is_big=number == 43)
    raise Broken("no TIFF")


def first_directory(file: BinaryIO, form: Form) -> int:
    """Return the offset of the first directory."""
    return number_at(file, form.offset, form.link_at)


def directories(file: BinaryIO, form: Form, *, first: int | None = None) -> Iterator[int]:
    """Yield the offsets of the directories that follow each other; what they name themselves is not among them."""
    seen: set[int] = set()
    at = first_directory(file, form) if first is None else first
    while at and at not in seen and len(seen) < _MAX_DIRECTORIES:
        yield at
        seen.add(at)
        at = raw_entries(file, form, at)[1]


def raw_entries(file: BinaryIO, form: Form, at: int) -> tuple[list[bytes], int]:
    """Return a directory's entries as they stand there, and the offset of the directory that follows it."""
    count = number_at(file, form.count, at)
    if at < form.link_at or count > _MAX_ENTRIES:
        raise Broken("no directory")
    size = struct.calcsize(form.entry)
    data = bytes_at(file, at + struct.calcsize(form.count), count * size)
    link = at + struct.calcsize(form.count) + count * size
    following = number_at(file, form.offset, link) if _has(file, link, form) else 0
    return [data[entry : entry + size] for entry in range(0, len(data), size)], following


def numbers_of(file: BinaryIO, form: Form, at: int, tags: Container[int]) -> dict[int, Numbers]:
    """Return what a directory has under those of ``tags`` whose values are whole numbers, or fractions of them."""
    found: dict[int, Numbers] = {}
    head, size = struct.calcsize(form.count), struct.calcsize(form.entry)
    for place, raw in enumerate(raw_entries(file, form, at)[0]):
        tag, kind, count, inline = struct.unpack(form.entry, raw)
        if tag in tags and kind in _SIGNS:
            number_bytes, numbers = TYPES[kind]
            start = at + head + place * size + size - len(inline)
            if number_bytes * numbers * count > len(inline):
                (start,) = struct.unpack(form.offset, inline)
            data = bytes_at(file, start, number_bytes * numbers * count)
            packed = f"{form.order}{numbers * count}{_SIGNS[kind]}"
            found[tag] = Numbers(start, packed, struct.unpack(packed, data))
    return found


def said_by(path: Path, directory: int, tags: Container[int]) -> dict[int, Numbers]:
    """Return what `numbers_of` does, of a file and a directory's offset; nothing where it is damaged."""
    with path.open("rb") as file:
        try:
            return numbers_of(file, form_of(file), directory, tags)
        except Broken:
            return {}


def number_at(file: BinaryIO, form: str, at: int) -> int:
    """Read a number at an offset."""
    return struct.unpack(form, bytes_at(file, at, struct.calcsize(form)))[0]


def bytes_at(file: BinaryIO, at: int, size: int) -> bytes:
    """Read bytes at an offset; raises `Broken` where the file ends before."""
    if at >= 1 << 63:  # no file can seek there
        raise Broken("an offset beyond any file")
    if size > _FEW_BYTES and file.seek(0, io.SEEK_END) < at + size:  # before there is room made for them
        raise Broken("the file ends before")
    file.seek(at)
    found = file.read(size)
    if len(found) < size:
        raise Broken("the file ends before")
    return found


def _has(file: BinaryIO, at: int, form: Form) -> bool:
    """Tell whether an offset can stand there: some writers save the last one of a block of EXIF."""
    return file.seek(0, io.SEEK_END) >= at + struct.calcsize(form.offset)
