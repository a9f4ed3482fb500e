"""TIFFs whose pixels are a brightness and two differences of colours, YCbCr (TIFF 6.0, sections 20 and 21).

libvips (8.18) converts them where they are JPEG, or colour has a lower resolution than brightness. Otherwise it takes
the numbers for red, green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from operator import lt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crispen.errors import PictureError
from crispen.images._paths import shown
from crispen.images._tiff import (
    COMPRESSION,
    PHOTOMETRIC,
    REFERENCE_BLACK_WHITE,
    SAMPLES,
    YCBCR_COEFFICIENTS,
    YCBCR_SUBSAMPLING,
    said_by,
)
from crispen.images._vips import vips

if TYPE_CHECKING:
    from pyvips import Image

_TAGS = (
    *(COMPRESSION, PHOTOMETRIC, SAMPLES),
    *(YCBCR_COEFFICIENTS, YCBCR_SUBSAMPLING, REFERENCE_BLACK_WHITE),
)
_IS_YCBCR = (6,)
_JPEG = ((6,), (7,))
_FULL_RESOLUTION = (1, 1)
_HALF_RESOLUTION = (2, 2)  # where nothing is said
_BT_601 = (299, 1000, 587, 1000, 114, 1000)
_FULL_RANGE = (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)


def in_rgb(path: Path, directory: int, image: Image) -> Image:
    """Return libvips' ``image`` of a TIFF's directory, which is at an offset, as RGB where it is YCbCr.

    Raises `PictureError` where that has more than 8 bits, or is defined by numbers that make no sense.
    """
    said = {tag: numbers.values for tag, numbers in said_by(path, directory, _TAGS).items()}
    if said.get(PHOTOMETRIC) != _IS_YCBCR:
        return image
    if said.get(COMPRESSION) in _JPEG:
        return image
    if said.get(YCBCR_SUBSAMPLING, _HALF_RESOLUTION) != _FULL_RESOLUTION:
        return image[:3] if said.get(SAMPLES) == (3,) else image  # libvips adds an alpha channel
    shares = _fractions(said.get(YCBCR_COEFFICIENTS, _BT_601))
    levels = _fractions(said.get(REFERENCE_BLACK_WHITE, _FULL_RANGE))
    if image.format != "uchar" or not _make_sense(shares, levels):
        raise PictureError(f"{shown(path)} is YCbCr of an unsupported kind: convert it to RGB")
    return _converted(image, shares, levels)


def _fractions(values: Sequence[int]) -> list[float]:
    """Divide each numerator by the denominator behind it; what is divided by nothing makes no sense."""
    return [one / other if other else nan for one, other in zip(values[::2], values[1::2], strict=True)]


def _make_sense(shares: list[float], levels: list[float]) -> bool:
    has_all = len(shares) == 3 and len(levels) == 6
    return has_all and all(share > 0 for share in shares) and all(map(lt, levels[::2], levels[1::2]))


def _converted(image: Image, shares: list[float], levels: list[float]) -> Image:
    """Convert to RGB, given the shares of the colours in the brightness, and the levels of black and white of each."""
    red, green, blue = shares
    matrix = np.array(
        [
            [1, 0, 2 - 2 * red],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 2 - 2 * blue, 0],
        ]
    )
    black, white = np.array(levels[::2]), np.array(levels[1::2])
    matrix = matrix * np.array([255, 127, 127]) / (white - black)
    colours = (image[:3] - black.tolist()).recomb(vips().Image.new_from_array(matrix.tolist()))
    colours = colours.rint().cast("uchar").copy(interpretation="srgb")
    return colours.bandjoin(image[3:]) if image.bands > 3 else colours
