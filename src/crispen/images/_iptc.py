"""IPTC: the same records, bare as in a TIFF or wrapped as in a JPEG.

The records (IPTC-IIM 4.2) each begin with the byte 0x1C. A TIFF holds them as they are (tag 33723). A JPEG holds
them as resource 0x0404 among Photoshop's resources in an APP13 segment (Adobe Photoshop File Formats
Specification, "Image Resource Blocks"): "8BIM", number, a name, size and data, the last two padded to even lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

PHOTOSHOP = b"Photoshop 3.0\0"
"""How an APP13 segment begins that holds Photoshop's resources."""

_SIGNATURE = b"8BIM"
_IPTC_RESOURCE = 0x0404
_RECORD = b"\x1c"


def iptc_for_jpeg(data: bytes) -> bytes | None:
    """Return IPTC as a JPEG's APP13 segment holds it, whether it comes bare or wrapped; None if it is neither.

    What is wrapped already stays as it is, with the resources that stand beside it.
    """
    if data.startswith(PHOTOSHOP):
        return data
    if not data.startswith(_RECORD):
        return None
    records = _unpadded(data)
    name = bytes(2)  # an empty one, and the byte that makes its length even
    resource = _SIGNATURE + struct.pack(">H", _IPTC_RESOURCE) + name + struct.pack(">I", len(records))
    return PHOTOSHOP + resource + records + bytes(len(records) % 2)


def iptc_within(data: bytes, room: int) -> bytes | None:
    """Return IPTC as a JPEG holds it in at most ``room`` bytes: what of Photoshop's stands beside it goes, or all."""
    if len(data) <= room:
        return data
    records = iptc_for_tiff(data)
    alone = iptc_for_jpeg(records) if records else None
    return alone if alone and len(alone) <= room else None


def iptc_for_tiff(data: bytes) -> bytes | None:
    """Return the bare records as a TIFF holds them, whether they come bare or wrapped; None if there are none.

    They are padded with zeros to a multiple of 4, as many writers store them as numbers of 4 bytes.
    """
    if data.startswith(PHOTOSHOP):
        data = b"".join(found for number, found in _resources(data) if number == _IPTC_RESOURCE)
    if not data.startswith(_RECORD):
        return None
    return data + bytes(-len(data) % 4)


def _resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and data of each resource, up to the first that is damaged."""
    at = len(PHOTOSHOP)
    while data[at : at + 4] == _SIGNATURE and len(data) >= at + 7:
        (number,) = struct.unpack_from(">H", data, at + 4)
        name_bytes = 1 + data[at + 6]
        start = at + 6 + name_bytes + name_bytes % 2 + 4
        if start > len(data):
            return
        (size,) = struct.unpack_from(">I", data, start - 4)
        if start + size > len(data):
            return
        yield number, data[start : start + size]
        at = start + size + size % 2


def _unpadded(data: bytes) -> bytes:
    """Return the records without the zeros that follow the last, which is found by going from one to the next."""
    at = 0
    while data[at : at + 1] == _RECORD and len(data) >= at + 5:
        (size,) = struct.unpack_from(">H", data, at + 3)
        if size & 0x8000:  # 32 kB and more: the number says how many bytes the length takes, which follows
            length_bytes = size & 0x7FFF
            size = length_bytes + int.from_bytes(data[at + 5 : at + 5 + length_bytes])
        at += 5 + size
    return data if data[at:].strip(b"\0") else data[:at]
