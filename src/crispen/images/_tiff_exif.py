"""EXIF in TIFF files, which libvips neither reads nor writes (as of 8.18).

A TIFF has no block of EXIF. What a JPEG has in the main directory of its EXIF (camera, author, time) stands in the
TIFF's own first directory, among what describes the pixels, and that directory names the Exif and the GPS directory
(Exif 2.32, section 4.6.3; TIFF 6.0, section 2; for BigTIFF the specification by AWare Systems). So reading collects
a block from the file, and writing appends to the finished file: values, directories, and a new first directory that
has the old one's entries and more. Nothing that is in the file moves, but the four or eight bytes that say where the
first directory is. Offsets inside a MakerNote that count from the start of the block do not hold in the other place.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from crispen.images import _exif
from crispen.images._fitting import largest
from crispen.images._tiff import (
    EXIF_DIRECTORY,
    GPS_DIRECTORY,
    INTEROPERABILITY_DIRECTORY,
    LONG,
    LONG8,
    TYPES,
    Broken,
    Form,
    bytes_at,
    first_directory,
    form_of,
    raw_entries,
)

_DIRECTORIES = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY)
_DESCRIBES_THE_PHOTO = frozenset(
    [
        *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298),  # from the description to the copyright
        *(
            0x4746,
            0x4749,
            *range(0x9C9B, 0x9CA0),
        ),  # Windows' rating, title, comment, author, keywords, subject
        *_DIRECTORIES,
    ]
)
_RESOLUTION_AND_ORIENTATION = frozenset((0x0112, 0x011A, 0x011B, 0x0128))

_MAX_VALUE_BYTES = 1 << 20  # a MakerNote has up to a few hundred kilobytes
_CLASSIC_BYTES = 1 << 32
_ENTRY_BYTES, _INLINE_BYTES = 12, 4  # in EXIF, which is never a BigTIFF


@dataclass(frozen=True, slots=True)
class _Value:
    """A tag's value: its numbers are in the order of its TIFF."""

    type: int
    count: int
    data: bytes


_Directory = dict[int, "_Value | bytes | _Directory"]
"""Tags to values, to entries as they stand in the file, and to directories that tags name."""


def exif_of_tiff(file: BinaryIO, *, directory: int | None = None) -> bytes | None:
    """Collect EXIF, as a block like a JPEG's, from a TIFF that is open for reading; None where it has none.

    ``directory`` is a page's offset; by default it is the first. None as well where the TIFF is damaged: whether its
    pixels can be read is for others to say.
    """
    try:
        form = form_of(file)
        at = first_directory(file, form) if directory is None else directory
        found = _read(file, form, at, _DESCRIBES_THE_PHOTO | _RESOLUTION_AND_ORIENTATION)
    except Broken:
        return None
    return _block(found, form.order) if found.keys() & _DESCRIBES_THE_PHOTO else None


def exif_within(exif: bytes, room: int) -> bytes | None:
    """Return EXIF in at most ``room`` bytes: where it has more, its largest values go, and the rest moves.

    None where it cannot be followed, or nothing is left.
    """
    if len(exif) <= room:
        return exif
    try:
        source = io.BytesIO(exif.removeprefix(_exif.PREFIX))
        form = form_of(source)
        found = _read(source, form, first_directory(source, form), None)
    except Broken:
        return None
    while (excess := len(block := _block(found, form.order)) - room) > 0:
        going = largest(_values(found), excess)
        if not going:
            return None
        for directory, tag in going:
            del directory[tag]
    return block if any(True for _ in _values(found)) else None


def add_exif_to_tiff(file: BinaryIO, exif: bytes) -> bool:
    """Append EXIF to a finished TIFF, open for reading and writing; return whether it could be done.

    What the TIFF states itself stays. Where the EXIF or the TIFF cannot be followed, or a TIFF with offsets of 32 bits
    would grow beyond them, the file stays as it is.
    """
    try:
        source = io.BytesIO(exif.removeprefix(_exif.PREFIX))
        given = form_of(source)
        found = _read(source, given, first_directory(source, given), _DESCRIBES_THE_PHOTO)
        form = form_of(file)
        first = first_directory(file, form)
        raw, following = raw_entries(file, form, first)
    except Broken:
        return False
    entries: _Directory = {tag: _in_order(value, given, form) for tag, value in found.items()}
    entries.update({struct.unpack_from(form.order + "H", entry)[0]: entry for entry in raw})
    at = file.seek(0, io.SEEK_END)
    at += at % 2
    data = _written(entries, form, at=at, following=following)
    if not form.is_big and at + len(data) >= _CLASSIC_BYTES:
        return False
    file.seek(at)
    file.write(data)
    file.seek(form.link_at)
    file.write(struct.pack(form.offset, at))
    return True


def _read(file: BinaryIO, form: Form, at: int, tags: frozenset[int] | None, *, depth: int = 0) -> _Directory:
    """Read a directory (of those ``tags`` alone) and the directories that it names; what is damaged is left out."""
    found: _Directory = {}
    for raw in raw_entries(file, form, at)[0]:
        tag, kind, count, inline = struct.unpack(form.entry, raw)
        if tags is not None and tag not in tags:
            continue
        try:
            if tag not in _DIRECTORIES:
                found[tag] = _value(file, form, kind, count, inline)
            elif (
                depth < 2
            ):  # the main directory names the Exif directory, and that the one for interoperability
                wide = form.is_big and kind in (LONG8, 18)
                (inner,) = struct.unpack_from(form.order + ("Q" if wide else "I"), inline)
                found[tag] = _read(file, form, inner, None, depth=depth + 1)
        except Broken:
            continue
    return found


def _values(directory: _Directory) -> Iterator[tuple[int, tuple[_Directory, int]]]:
    """Yield the bytes that each value takes, here and in the directories that are named, with directory and tag."""
    for tag, value in directory.items():
        if isinstance(value, dict):
            yield from _values(value)
        elif isinstance(value, _Value):
            outside = len(value.data) if len(value.data) > _INLINE_BYTES else 0
            yield _ENTRY_BYTES + outside, (directory, tag)


def _block(directory: _Directory, order: str) -> bytes:
    """Write a block of EXIF, like a JPEG's."""
    form = Form(order, is_big=False)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(form.offset, 8)
    return _exif.PREFIX + start + _written(directory, form, at=8, following=0)


def _value(file: BinaryIO, form: Form, kind: int, count: int, inline: bytes) -> _Value:
    number_bytes, numbers = TYPES.get(kind, (0, 0))
    size = number_bytes * numbers * count
    if number_bytes == 0 or size > _MAX_VALUE_BYTES:
        raise Broken("a value of an unknown type, or without measure")
    if size <= len(inline):
        return _Value(kind, count, inline[:size])
    (at,) = struct.unpack(form.offset, inline)
    return _Value(kind, count, bytes_at(file, at, size))


def _in_order(value: _Value | bytes | _Directory, given: Form, wanted: Form) -> _Value | bytes | _Directory:
    """Put a value's numbers, and those in a directory, in another order of bytes."""
    if isinstance(value, dict):
        return {tag: _in_order(inner, given, wanted) for tag, inner in value.items()}
    if isinstance(value, bytes) or given.order == wanted.order:
        return value
    size = TYPES[value.type][0]
    numbers = (value.data[at : at + size][::-1] for at in range(0, len(value.data), size))
    return _Value(value.type, value.count, b"".join(numbers))


def _written(directory: _Directory, form: Form, *, at: int, following: int) -> bytes:
    """Write a directory for the offset ``at``, and behind it what does not fit into its entries."""
    head = struct.pack(form.count, len(directory))
    start = at + len(head) + len(directory) * struct.calcsize(form.entry) + struct.calcsize(form.offset)
    tail = bytearray()
    for tag, value in sorted(directory.items()):  # TIFF 6.0, section 2: in ascending order of the tags
        if isinstance(value, bytes):
            head += value
            continue
        if isinstance(value, dict):
            kind, count = (LONG8, 1) if form.is_big else (LONG, 1)
            data = _written(value, form, at=start + len(tail), following=0)
            inline = None
        else:
            kind, count, data = value.type, value.count, value.data
            inline = data if len(data) <= struct.calcsize(form.offset) else None
        offset = struct.pack(form.offset, start + len(tail)) if inline is None else inline
        head += struct.pack(form.entry, tag, kind, count, offset)
        if inline is None:
            tail += data + bytes(len(data) % 2)
    return head + struct.pack(form.offset, following) + bytes(tail)
