"""TIFFs in CIELab of 8 bit (TIFF 6.0, section 23), whose pixels libvips (8.18) does not read.

It takes them for a form of its own. So it is handed the file as one in RGB, and what it reads then are L*, a* and b* as
they stand there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crispen.errors import PictureError
from crispen.images._altered import Change
from crispen.images._paths import shown
from crispen.images._tiff import (
    BITS,
    EXTRA_SAMPLES,
    PHOTOMETRIC,
    SAMPLES,
    said_by,
)
from crispen.images._vips import of_lab, vips

if TYPE_CHECKING:
    from pyvips import Image

_TAGS = (BITS, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES)
_RGB, _IS_LAB = 2, (8,)
_MULTIPLIED = 1  # the kind of alpha by which colours have been multiplied


def as_rgb(path: Path, directory: int) -> list[Change]:
    """Return what makes RGB of a TIFF's directory, which is at an offset; nothing where it is not CIELab of 8 bit.

    Raises `PictureError` where colours have been multiplied by alpha, which libvips would take for RGB's.
    """
    said = said_by(path, directory, _TAGS)
    values = {tag: numbers.values for tag, numbers in said.items()}
    samples = values.get(SAMPLES, (1,))
    if values.get(PHOTOMETRIC) != _IS_LAB or samples < (3,) or set(values.get(BITS, ())) != {8}:
        return []
    if _MULTIPLIED in values.get(EXTRA_SAMPLES, ()):
        raise PictureError(
            f"{shown(path)} is Lab whose colours are multiplied by its alpha: convert it to RGB"
        )
    photometric = said[PHOTOMETRIC]
    return [(photometric.at, struct.pack(photometric.form, _RGB))]


def in_srgb(image: Image) -> Image:
    """Convert what libvips has read of such a file; a profile does not hold for the result."""
    number = np.arange(256, dtype=np.float32)
    difference = np.where(number < 128, number, number - 256)  # a* and b* have a sign
    meant = np.stack([number * np.float32(100 / 255), difference, difference], axis=1)[np.newaxis]
    table = vips().Image.new_from_memory(np.ascontiguousarray(meant).data, 256, 1, 3, "float")
    colours = of_lab(image[:3].maplut(table).copy(interpretation="lab"), depth=8)
    return colours.bandjoin(image[3:]) if image.bands > 3 else colours
