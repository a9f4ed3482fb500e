"""libvips, imported late and set up once, and its errors as one line."""

from __future__ import annotations

import functools
import re
from types import ModuleType
from typing import TYPE_CHECKING

from crispen.errors import PictureError

if TYPE_CHECKING:
    from pyvips import Error, Image

_OLDEST = (8, 18)  # the first with `exact` for webpsave; 8.16 aborted at an AVIF that was cut short


@functools.cache
def vips() -> ModuleType:
    """Return pyvips; importing it takes a tenth of a second, so only those who need it pay.

    libvips' cache of operations is switched off, for the whole process: it keeps the results of turning or
    converting a picture alive (hundreds of megabytes for large ones), and nothing here is computed twice.

    Raises `PictureError` where a libvips is installed that is too old.
    """
    import pyvips

    found = pyvips.version(0), pyvips.version(1)
    if found < _OLDEST:
        raise PictureError(
            "the installed libvips is {}.{}, but pictures need {}.{} or newer".format(*found, *_OLDEST)
            + ": pip install pyvips-binary brings one"
        )
    pyvips.cache_set_max(0)
    return pyvips


def because(error: Error) -> str:
    """Condense an error of libvips, which can be dozens of lines, to one: " (reason)", or nothing.

    That is what the system said, such as that the disk is full, or else the last line.
    """
    lines = [line.strip() for line in str(error.detail).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("system error: ")] or lines[-1:]
    return " ({})".format(re.sub(r"^[\w ]+: ", "", told[0])) if told else ""


def to_srgb(image: Image) -> Image:
    """Convert ink or Lab, 8 or 16 bit as it is, to what a display shows; alpha stays.

    Ink goes through its embedded profile, or libvips' own where there is none.
    """
    if image.interpretation in ("lab", "labs"):
        colours = of_lab(image[:3], depth=16)
        return colours.bandjoin(image.colourspace("rgb16")[3:]) if image.bands > 3 else colours
    if image.interpretation != "cmyk":
        return image.colourspace("srgb" if image.format == "uchar" else "rgb16")
    depth = 8 if image.format == "uchar" else 16
    return image.icc_transform(
        "srgb", embedded=True, input_profile="cmyk", black_point_compensation=True, depth=depth
    )


def of_lab(image: Image, *, depth: int) -> Image:
    """Convert Lab, of three bands, to sRGB of 8 or 16 bit.

    White is D50, as Adobe has it ("TIFF Technical Notes" for Photoshop, 2002), and ICC profiles, too; libvips'
    own conversion from Lab would have it be D65.
    """
    colours = image.icc_export(output_profile="srgb", pcs="lab", intent="relative", depth=depth).copy()
    colours.remove("icc-profile-data")
    return colours
