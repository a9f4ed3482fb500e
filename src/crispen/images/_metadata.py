"""A picture's metadata: what is kept, and what must change when its pixels are turned upright."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

ATTACHMENTS = ("icc-profile-data", "exif-data", "xmp-data", "iptc-data")
"""The metadata kept with a picture, by libvips' names."""

PHOTOSHOP = b"Photoshop 3.0"
"""How IPTC begins in a JPEG, which wraps it; a TIFF holds the bare records."""

# 72 dpi is what software writes that knows nothing, and libvips' answer where a PNG or a JPEG says nothing;
# elsewhere that is 1 pixel per millimetre, 25 dpi.
_UNSTATED_DPI = (0, 25, 72)

_MM_PER_INCH = 25.4
_ORIENTATION_TAG = 0x0112
_ENTRY_BYTES = 12


def upright(attachments: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the attachments of a picture that has been turned upright: no tag may turn it again.

    EXIF that cannot be parsed is left out.
    """
    turned = dict(attachments)
    if "xmp-data" in turned:
        turned["xmp-data"] = re.sub(rb'(tiff:Orientation(?:=["\']|>))[2-8]', rb"\g<1>1", turned["xmp-data"])
    if "exif-data" in turned:
        try:
            turned["exif-data"] = _upright_exif(turned["exif-data"])
        except (struct.error, KeyError):
            del turned["exif-data"]
    return turned


def stated(across: float, down: float) -> tuple[float, float] | None:
    """Return a resolution in pixels per millimetre, or None where it says that nothing is known."""
    return None if round(across * _MM_PER_INCH) in _UNSTATED_DPI else (across, down)


def _upright_exif(exif: bytes) -> bytes:
    """Set the orientation to 1, and cut off the thumbnail's directory: the thumbnail is not turned.

    EXIF is a TIFF without pixels: "II" or "MM" for the byte order, 42, the offset of a directory. That is a
    count, entries of 12 bytes (tag, type, count, value), and the offset of the thumbnail's directory.
    """
    data = bytearray(exif)
    start = 6 if data.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}[bytes(data[start : start + 2])]
    directory = start + struct.unpack_from(f"{order}I", data, start + 4)[0]
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    end = directory + 2 + count * _ENTRY_BYTES
    for entry in range(directory + 2, end, _ENTRY_BYTES):
        if struct.unpack_from(f"{order}H", data, entry)[0] == _ORIENTATION_TAG:
            struct.pack_into(f"{order}H", data, entry + 8, 1)
    struct.pack_into(f"{order}I", data, end, 0)
    return bytes(data)
