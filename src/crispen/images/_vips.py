"""libvips, imported late and set up once, and its errors as one line."""

from __future__ import annotations

import functools
import re
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyvips import Error, Image


@functools.cache
def vips() -> ModuleType:
    """Return pyvips; importing it takes a tenth of a second, so only those who need it pay.

    libvips' cache of operations is switched off, for the whole process: it keeps the results of turning or
    converting a picture alive (hundreds of megabytes for large ones), and nothing here is computed twice.
    """
    import pyvips

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
    if image.interpretation != "cmyk":
        return image.colourspace("srgb" if image.format == "uchar" else "rgb16")
    depth = 8 if image.format == "uchar" else 16
    return image.icc_transform(
        "srgb", embedded=True, input_profile="cmyk", black_point_compensation=True, depth=depth
    )
