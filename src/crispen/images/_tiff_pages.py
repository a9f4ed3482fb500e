"""Pages of a TIFF: which of its directories they are, and how TIFFs of one page each become one of several.

libvips writes several pages into a file only where all are of one size and kind (8.18), so each is written by itself,
and appended to those before. A TIFF says where everything is by its distance from the start of the file; what is
appended lies further from there by one number, which is added to all that says where something is. Nothing else
changes, so that a page is in the document what it was by itself: size, kind, colours, metadata, pyramid.
"""

from __future__ import annotations

import io
import shutil
import struct
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from crispen.images._altered import Change
from crispen.images._tiff import (
    EXIF_DIRECTORY,
    GPS_DIRECTORY,
    INTEROPERABILITY_DIRECTORY,
    NEW_SUBFILE_TYPE,
    STRIP_OFFSETS,
    SUB_DIRECTORIES,
    TILE_OFFSETS,
    TYPES,
    Broken,
    Form,
    directories,
    first_directory,
    form_of,
    number_at,
    numbers_of,
    raw_entries,
)

_REDUCED = 1  # the bit of NewSubfileType that says "a smaller version of another picture in this file"
_NAME_DIRECTORIES = (SUB_DIRECTORIES, EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY)
_NAME_PLACES = (STRIP_OFFSETS, TILE_OFFSETS, *_NAME_DIRECTORIES)
_ALIGNMENT = 16  # more than any number needs


class Directory(NamedTuple):
    """Where a page is."""

    number: int
    """Which of the file's directories it is, counted from 0; of the pages in another format, which of them."""
    at: int = 0
    """The directory's offset in a TIFF; 0, where none can be, if there is none or nobody knows."""


def page_directories(file: BinaryIO, count: int | None = None) -> list[Directory]:
    """Return which of a TIFF's first ``count`` directories are pages: all but the smaller levels of a pyramid.

    The first is one, whatever it says of itself. A damaged file has those that are found before the damage.
    """
    found: list[Directory] = []
    try:
        form = form_of(file)
        for number, at in enumerate(islice(directories(file, form), count)):
            if not number or not _is_reduced(file, form, at):
                found.append(Directory(number, at))
    except Broken:
        pass
    return found or [Directory(0)]


def as_only_page(path: Path, directory: Directory) -> list[Change]:
    """Return what makes a page the only one of its TIFF: libvips goes through all of them, whichever it is to read.

    Nothing where it cannot be followed.
    """
    with path.open("rb") as file:
        try:
            form = form_of(file)
            link = _link_of(file, form, directory.at)
        except Broken:
            return []
    return [(form.link_at, struct.pack(form.offset, directory.at)), (link, struct.pack(form.offset, 0))]


class Document:
    """A TIFF that others are appended to, each of them finished.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._form = form_of(file)
            *_, self._last = directories(file, self._form)

    def append(self, page: Path) -> None:
        """Append a TIFF that is written alike, in the same order of bytes and with as large offsets.

        Raises `Broken` where the offsets are too small for both.
        """
        with self._path.open("r+b") as file, page.open("rb") as other:
            base = file.seek(0, io.SEEK_END)
            base += file.write(bytes(-base % _ALIGNMENT))
            shutil.copyfileobj(other, file)
            first = base + first_directory(other, self._form)
            _put(file, self._form.offset, _link_of(file, self._form, self._last), first)
            for directory in directories(file, self._form, first=first):
                _move(file, self._form, directory, by=base)
                self._last = directory


def _is_reduced(file: BinaryIO, form: Form, directory: int) -> bool:
    said = numbers_of(file, form, directory, (NEW_SUBFILE_TYPE,)).get(NEW_SUBFILE_TYPE)
    return said is not None and bool(said.values[:1]) and bool(said.values[0] & _REDUCED)


def _link_of(file: BinaryIO, form: Form, directory: int) -> int:
    """Return where a directory says which one follows it."""
    count = number_at(file, form.count, directory)
    return directory + struct.calcsize(form.count) + count * struct.calcsize(form.entry)


def _move(file: BinaryIO, form: Form, directory: int, *, by: int) -> None:
    """Correct a directory that lies further from the start than it was written for, and those that it names."""
    _move_values(file, form, directory, by=by)
    for tag, numbers in numbers_of(file, form, directory, _NAME_PLACES).items():
        moved = [value + by for value in numbers.values]
        _put(file, numbers.form, numbers.at, *moved)
        if tag in _NAME_DIRECTORIES:
            for named in moved:
                _move(file, form, named, by=by)
    following = raw_entries(file, form, directory)[1]
    if following:
        _put(file, form.offset, _link_of(file, form, directory), following + by)


def _move_values(file: BinaryIO, form: Form, directory: int, *, by: int) -> None:
    """Correct the places of the values that lie outside of their entries."""
    size = struct.calcsize(form.entry)
    at = directory + struct.calcsize(form.count)
    for raw in raw_entries(file, form, directory)[0]:
        _, kind, count, inline = struct.unpack(form.entry, raw)
        number_bytes, numbers = TYPES.get(kind, (1, 1))
        at += size
        if number_bytes * numbers * count > len(inline):
            _put(file, form.offset, at - len(inline), struct.unpack(form.offset, inline)[0] + by)


def _put(file: BinaryIO, form: str, at: int, *numbers: int) -> None:
    try:
        data = struct.pack(form, *numbers)
    except struct.error:
        raise Broken("an offset beyond what the file can state") from None
    file.seek(at)
    file.write(data)
