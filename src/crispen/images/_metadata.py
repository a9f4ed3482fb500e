"""A picture's metadata: what is kept, and what must change when its pixels are turned upright or become more."""

from __future__ import annotations

from collections.abc import Mapping

from crispen.images import _exif, _xmp
from crispen.images.picture import MAX_RESOLUTION, Header

ATTACHMENTS = ("icc-profile-data", "exif-data", "xmp-data", "iptc-data")
"""The metadata kept with a picture, by libvips' names."""

# 72 dpi is what software writes that knows nothing, and libvips' answer where a PNG or a JPEG says nothing;
# elsewhere that is 1 pixel per millimetre, 25 dpi.
_UNSTATED_DPI = (0, 25, 72)

_MM_PER_INCH = 25.4


def upright(attachments: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the attachments of a picture that has been turned upright: no tag may turn it again.

    EXIF that cannot be parsed is left out.
    """
    turned = dict(attachments)
    if "xmp-data" in turned:
        turned["xmp-data"] = _xmp.upright(turned["xmp-data"])
    exif = _exif.upright(turned.pop("exif-data", b""))
    return turned if exif is None else turned | {"exif-data": exif}


def true(header: Header) -> dict[str, bytes]:
    """Return EXIF and XMP as they are true of a picture's size and resolution.

    EXIF that cannot be parsed is left out.
    """
    height, width, resolution = header.height, header.width, header.resolution
    exif, xmp = (header.attachments.get(name, b"") for name in ("exif-data", "xmp-data"))
    told = {
        "exif-data": _exif.enlarged(exif, width=width, height=height, resolution=resolution),
        "xmp-data": _xmp.enlarged(xmp, width=width, height=height, resolution=resolution),
    }
    return {name: data for name, data in told.items() if data}


def behind(header: Header) -> tuple[str, ...]:
    """Name what a picture's file has behind it, by its XMP, and no other file gets: an HDR gain map, or a film."""
    return _xmp.behind(header.attachments.get("xmp-data", b""))


def stated(across: float, down: float) -> tuple[float, float] | None:
    """Return a resolution in pixels per millimetre, or None where it says that nothing is known, or nonsense."""
    if not (0 < across <= MAX_RESOLUTION and 0 < down <= MAX_RESOLUTION):
        return None
    return None if round(across * _MM_PER_INCH) in _UNSTATED_DPI else (across, down)
