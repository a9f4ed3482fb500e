"""EXIF: what must change in it when a picture is turned upright or enlarged, and nothing else.

EXIF is a TIFF without pixels (CIPA DC-008, "Exif 2.32", section 4.5): "II" or "MM" for the byte order, 42, and the
offset of a directory. That is a count, entries of 12 bytes (tag, type, count, value or its offset), and the
offset of the thumbnail's directory. Some containers put "Exif" and two zero bytes before it.

Nothing is ever moved: offsets inside a MakerNote are the maker's secret, and mostly count from the start of the
TIFF. Values change in place; what does not fit is appended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

PREFIX = b"Exif\0\0"
"""What a JPEG has before the TIFF; PNG, WebP and HEIF do without, though many a writer does not."""

_ORDER_OF = {b"II*\0": "<", b"MM\0*": ">"}

_IMAGE_WIDTH, _IMAGE_LENGTH = 0x0100, 0x0101
_ORIENTATION = 0x0112
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005
_PIXEL_X_DIMENSION, _PIXEL_Y_DIMENSION = 0xA002, 0xA003

_SHORT, _LONG, _RATIONAL = 3, 4, 5
_BYTES_OF = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_ENTRY_BYTES = 12
_HEADER_BYTES = 8
_INCH, _CENTIMETRE = 2, 3
_MM_PER_INCH, _MM_PER_CENTIMETRE = 25.4, 10.0
_LIES_ON_ITS_SIDE = range(5, 9)


class _Broken(ValueError):
    """EXIF that cannot be followed."""


@dataclass(slots=True)
class _Tiff:
    """A TIFF being edited: its bytes, and their order as `struct` names it ("<" or ">")."""

    data: bytearray
    order: str

    def numbers(self, form: str, at: int) -> tuple[int, ...]:
        """Unpack the numbers at an offset; raises `_Broken` where the bytes end before."""
        try:
            return struct.unpack_from(self.order + form, self.data, at)
        except struct.error:
            raise _Broken(f"offset {at} lies outside") from None

    def put(self, form: str, at: int, *numbers: int) -> None:
        """Overwrite numbers at an offset that has been read before."""
        struct.pack_into(self.order + form, self.data, at, *numbers)

    def append(self, data: bytes) -> int:
        """Append bytes at an even offset, which is returned."""
        self.data += bytes(len(self.data) % 2)
        self.data += data
        return len(self.data) - len(data)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a directory: its own offset, and what stands there."""

    at: int
    tag: int
    type: int
    count: int
    value: int  # or the offset of the value, where it takes more than 4 bytes


def enlarged(
    exif: bytes,
    *,
    width: int,
    height: int,
    resolution: tuple[float, float] | None = None,
    upright: bool = False,
) -> bytes | None:
    """Return EXIF as it is true of the enlarged picture, or None where it cannot be followed.

    ``width`` and ``height`` are the result's, in pixels, and are put where the EXIF states a size already.
    ``resolution`` is the result's across and down, in pixels per millimetre, and is put even where the EXIF states
    none; without it, what is stated stays. ``upright`` says that the pixels have been turned as the orientation
    tag asks. The thumbnail is cut off: it would show the picture as it was.
    """

    def edit(tiff: _Tiff) -> None:
        if upright:
            _turn(tiff)
        _cut_thumbnail(tiff)
        if resolution is not None:
            _state_resolution(tiff, *resolution)
        _state_size(tiff, width, height)

    return _edited(exif, edit)


def upright(exif: bytes) -> bytes | None:
    """Return EXIF as it is true of the pixels turned as its orientation tag asks; None where it is broken.

    The orientation becomes 1; where it asked for a quarter turn, width and height change places, as do the
    resolutions. The thumbnail, which is not turned, is cut off.
    """

    def edit(tiff: _Tiff) -> None:
        _turn(tiff)
        _cut_thumbnail(tiff)

    return _edited(exif, edit)


def _edited(exif: bytes, edit: Callable[[_Tiff], None]) -> bytes | None:
    prefix = PREFIX if exif.startswith(PREFIX) else b""
    data = bytearray(exif.removeprefix(PREFIX))
    order = _ORDER_OF.get(bytes(data[:4]))
    if order is None:
        return None
    try:
        edit(tiff := _Tiff(data, order))
    except _Broken:
        return None
    return prefix + bytes(tiff.data)


def _turn(tiff: _Tiff) -> None:
    """Set the orientation to 1, and exchange what belongs to the sides where these are exchanged."""
    entries = _main_entries(tiff)
    if _first_short(tiff, entries, _ORIENTATION) in _LIES_ON_ITS_SIDE:
        _exchange(tiff, entries, _X_RESOLUTION, _Y_RESOLUTION)
        _exchange(tiff, entries, _IMAGE_WIDTH, _IMAGE_LENGTH)
        _exchange(tiff, _exif_entries(tiff), _PIXEL_X_DIMENSION, _PIXEL_Y_DIMENSION)
    for entry in _named(entries, _ORIENTATION):
        _put_number(tiff, entry, 1)


def _exchange(tiff: _Tiff, entries: list[_Entry], one: int, other: int) -> None:
    """Exchange type, count and value of two tags, where both are there."""
    for first, second in zip(_named(entries, one), _named(entries, other), strict=False):
        a, b = slice(first.at + 2, first.at + _ENTRY_BYTES), slice(second.at + 2, second.at + _ENTRY_BYTES)
        tiff.data[a], tiff.data[b] = tiff.data[b], tiff.data[a]


def _cut_thumbnail(tiff: _Tiff) -> None:
    """Unlink the thumbnail's directory, and drop its JPEG where that is all that the bytes end with."""
    main = _main_directory(tiff)
    link = main + 2 + _ENTRY_BYTES * len(_entries(tiff, main))
    if link + 4 > len(tiff.data):
        return  # some writers save the four zeros
    (directory,) = tiff.numbers("I", link)
    tiff.put("I", link, 0)
    start, length = _thumbnail(tiff, directory)
    ends_the_bytes = start + length <= len(tiff.data) <= start + length + 1  # a byte may pad it
    if length > 0 and ends_the_bytes and start >= _end_of_the_rest(tiff):
        del tiff.data[start:]


def _thumbnail(tiff: _Tiff, directory: int) -> tuple[int, int]:
    """Return where the thumbnail's JPEG starts and how long it is; (0, 0) where there is none."""
    entries = _entries_if_sound(tiff, directory)
    starts, lengths = _named(entries, _THUMBNAIL_OFFSET), _named(entries, _THUMBNAIL_LENGTH)
    return (starts[0].value, lengths[0].value) if starts and lengths else (0, 0)


def _end_of_the_rest(tiff: _Tiff) -> int:
    """Return where the last directory or value ends that has nothing to do with the thumbnail."""
    ends = [_HEADER_BYTES]
    for directory in _directories(tiff):
        for entry in _entries_if_sound(tiff, directory):
            size = _BYTES_OF.get(entry.type, 1) * entry.count
            ends.append(entry.at + _ENTRY_BYTES + 4)  # the link to the next directory follows the last entry
            ends.append(entry.value + size if size > 4 else 0)
    return max(ends)


def _directories(tiff: _Tiff) -> Iterator[int]:
    """Yield the offsets of the directories but the thumbnail's: four at most, so that nothing can go in circles."""
    yield _main_directory(tiff)
    for entries, tag in (
        (_main_entries(tiff), _EXIF_DIRECTORY),
        (_main_entries(tiff), _GPS_DIRECTORY),
        (_exif_entries(tiff), _INTEROPERABILITY_DIRECTORY),
    ):
        yield from (entry.value for entry in _named(entries, tag)[:1])


def _state_resolution(tiff: _Tiff, across: float, down: float) -> None:
    """State a resolution, given in pixels per millimetre, in the unit that the EXIF uses: inches if none."""
    metric = _first_short(tiff, _main_entries(tiff), _RESOLUTION_UNIT) == _CENTIMETRE
    unit, millimetres = (_CENTIMETRE, _MM_PER_CENTIMETRE) if metric else (_INCH, _MM_PER_INCH)
    _add_missing(tiff, (_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT))
    entries = _main_entries(tiff)
    for entry in _named(entries, _RESOLUTION_UNIT):
        _put_number(tiff, entry, unit)
    for tag, value in ((_X_RESOLUTION, across), (_Y_RESOLUTION, down)):
        for entry in _named(entries, tag):
            _put_rational(tiff, entry, value * millimetres)


def _state_size(tiff: _Tiff, width: int, height: int) -> None:
    """State the size wherever one is stated."""
    for tag, value in ((_IMAGE_WIDTH, width), (_IMAGE_LENGTH, height)):
        for entry in _named(_main_entries(tiff), tag):
            _put_number(tiff, entry, value)
    for tag, value in ((_PIXEL_X_DIMENSION, width), (_PIXEL_Y_DIMENSION, height)):
        for entry in _named(_exif_entries(tiff), tag):
            _put_number(tiff, entry, value)


def _add_missing(tiff: _Tiff, tags: tuple[int, ...]) -> None:
    """Add entries that are missing in the main directory: it is copied to the end, where there is room."""
    main = _main_directory(tiff)
    entries = _entries(tiff, main)
    missing = set(tags) - {entry.tag for entry in entries}
    if not missing:
        return
    raw = [(entry.tag, bytes(tiff.data[entry.at : entry.at + _ENTRY_BYTES])) for entry in entries]
    raw += [(tag, struct.pack(f"{tiff.order}HHII", tag, _SHORT, 1, 0)) for tag in missing]
    if len(raw) > 0xFFFF:
        raise _Broken("no room for another entry")
    raw.sort(key=lambda pair: pair[0])  # TIFF 6.0, section 2: in ascending order of the tags
    count = struct.pack(f"{tiff.order}H", len(raw))
    tiff.put("I", 4, tiff.append(count + b"".join(entry for _, entry in raw) + bytes(4)))


def _put_number(tiff: _Tiff, entry: _Entry, value: int) -> None:
    """Make the entry one number, of 2 bytes where it was so and the value fits, else of 4."""
    if entry.type == _SHORT and value <= 0xFFFF:
        tiff.put("HHIHH", entry.at, entry.tag, _SHORT, 1, value, 0)
    else:
        tiff.put("HHII", entry.at, entry.tag, _LONG, 1, value)


def _put_rational(tiff: _Tiff, entry: _Entry, value: float) -> None:
    """Make the entry one fraction of whole numbers, appended: two entries may share the bytes there were."""
    fraction = Fraction(value).limit_denominator(10_000)
    if fraction.numerator > 0xFFFFFFFF:
        raise _Broken(f"{value} is too large a resolution")
    at = tiff.append(struct.pack(f"{tiff.order}II", *fraction.as_integer_ratio()))
    tiff.put("HHII", entry.at, entry.tag, _RATIONAL, 1, at)


def _main_directory(tiff: _Tiff) -> int:
    (at,) = tiff.numbers("I", 4)
    if at < _HEADER_BYTES:
        raise _Broken("the main directory lies in the header")
    return at


def _main_entries(tiff: _Tiff) -> list[_Entry]:
    return _entries(tiff, _main_directory(tiff))


def _exif_entries(tiff: _Tiff) -> list[_Entry]:
    """Return the entries of the Exif directory; none where it cannot be followed: nobody else can either."""
    links = _named(_main_entries(tiff), _EXIF_DIRECTORY)
    return _entries_if_sound(tiff, links[0].value) if links else []


def _entries_if_sound(tiff: _Tiff, directory: int) -> list[_Entry]:
    try:
        return _entries(tiff, directory) if directory >= _HEADER_BYTES else []
    except _Broken:
        return []


def _entries(tiff: _Tiff, directory: int) -> list[_Entry]:
    """Return a directory's entries in their order."""
    (count,) = tiff.numbers("H", directory)
    start, end = directory + 2, directory + 2 + count * _ENTRY_BYTES
    if end > len(tiff.data):
        raise _Broken("a directory is cut short")
    return [_Entry(at, *tiff.numbers("HHII", at)) for at in range(start, end, _ENTRY_BYTES)]


def _first_short(tiff: _Tiff, entries: list[_Entry], tag: int) -> int | None:
    """Return the number of 2 bytes that a tag holds, if it is there."""
    found = _named(entries, tag)
    return tiff.numbers("H", found[0].at + 8)[0] if found else None


def _named(entries: list[_Entry], tag: int) -> list[_Entry]:
    return [entry for entry in entries if entry.tag == tag]
