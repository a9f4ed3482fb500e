"""From the size that a network makes to the one that is asked for, by libvips' Lanczos filter, without aliasing."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from crispen.images._vips import vips
from crispen.images.picture import DTYPE_OF, WHITE_OF, Picture, Pixels
from crispen.images.transparency import is_binary

if TYPE_CHECKING:
    from pyvips import Image

_FORMAT_OF = {8: "uchar", 16: "ushort", 32: "float"}
_LOBES = 3  # of Lanczos' filter to each side, in pixels of the smaller picture
_NEARLY_EVEN = 0.45  # so near that libvips rounds to the even number; of any four multiples one is within 0.4


class Overhang(NamedTuple):
    """How far a picture goes on beyond each of its borders, in pixels, only for the filter to see what is there."""

    across: int = 0
    down: int = 0


NO_OVERHANG = Overhang()


def resized(picture: Picture, *, width: int, height: int, overhang: Overhang = NO_OVERHANG) -> Picture:
    """Resize a picture in memory, of which ``overhang`` is cut off. It is returned as it is where nothing changes.

    Binary alpha stays binary; see `crispen.images.is_binary`.
    """
    if (picture.width, picture.height, overhang) == (width, height, NO_OVERHANG):
        return picture
    planes = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha[..., np.newaxis]]
    array = np.ascontiguousarray(np.concatenate(planes, axis=2))
    image = vips().Image.new_from_memory(
        array.data, picture.width, picture.height, array.shape[2], _FORMAT_OF[picture.bit_depth]
    )
    has_alpha = picture.alpha is not None
    image = fitted(
        image,
        width=width,
        height=height,
        bit_depth=picture.bit_depth,
        has_alpha=has_alpha,
        binary_alpha=picture.alpha is not None and is_binary(picture.alpha),
        overhang=overhang,
    )
    result = np.frombuffer(image.write_to_memory(), DTYPE_OF[picture.bit_depth]).reshape(height, width, -1)
    pixels, alpha = (result[..., :-1], result[..., -1]) if has_alpha else (result, None)
    return replace(picture, pixels=cast(Pixels, pixels), alpha=cast(Pixels | None, alpha))


def fitted(
    image: Image,
    *,
    width: int,
    height: int,
    bit_depth: int,
    has_alpha: bool,
    binary_alpha: bool = False,
    overhang: Overhang = NO_OVERHANG,
) -> Image:
    """Resize what libvips is about to write, row by row as it comes; colours count as much as they are seen.

    The last band is alpha where ``has_alpha``, and cut at the half where ``binary_alpha``; ``overhang`` is cut off.
    """
    white = WHITE_OF[bit_depth]
    if has_alpha:
        image = image.copy(interpretation="srgb" if image.bands == 4 else "b-w").premultiply(max_alpha=white)
    image = _resampled(image, width, height, overhang)
    if has_alpha:
        image = image.unpremultiply(max_alpha=white)
        if binary_alpha:
            image = image[:-1].bandjoin((image[-1] >= white / 2) * (white / 255))  # true is 255 in libvips
    if bit_depth == 32:
        return (image > 1).ifthenelse(1, (image < 0).ifthenelse(0, image)).cast("float")
    return (image.rint() if has_alpha else image).cast(_FORMAT_OF[bit_depth])


def overhang_of(length: int, wanted: int, *, scale: int = 1) -> int:
    """How far an axis must go on at both ends for the filter to see no border where it is resized.

    With so much, both ends of the result are surplus by the same whole number of pixels, so that all of it lies where
    it would lie without: libvips aligns the centres of what it is given and of what it makes.

    Args:
        length: of the axis, in pixels.
        wanted: what it is resized to, after it has been enlarged ``scale`` times.
        scale: see ``wanted``.

    Returns:
        Pixels of the axis as it is before it is enlarged; 0 where nothing has to be resized.
    """
    if length * scale == wanted:
        return 0
    reach = _LOBES * max(1.0, length * scale / wanted) + 2

    def aligned(pixels: int) -> bool:
        surplus = 2 * pixels * wanted / length
        return abs(surplus - 2 * round(surplus / 2)) < _NEARLY_EVEN

    return next(filter(aligned, itertools.count(math.ceil(reach / scale))))


def _resampled(image: Image, width: int, height: int, overhang: Overhang) -> Image:
    """Apply the filter, and cut off what ``overhang`` has become."""
    across = width / (image.width - 2 * overhang.across)
    down = height / (image.height - 2 * overhang.down)
    if overhang == NO_OVERHANG:
        return image.resize(across, vscale=down, kernel="lanczos3")
    image = image.resize(across, vscale=down, kernel="lanczos3", gap=0)  # no box before it, laid from one end
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop(left, top, width, height)
