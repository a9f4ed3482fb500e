"""From the size that a network makes to the one that is asked for, by libvips' Lanczos filter, without aliasing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from crispen.images._vips import vips
from crispen.images.picture import DTYPE_OF, WHITE_OF, Picture, Pixels

if TYPE_CHECKING:
    from pyvips import Image

_FORMAT_OF = {8: "uchar", 16: "ushort", 32: "float"}


def resized(picture: Picture, *, width: int, height: int) -> Picture:
    """Resize a picture in memory. Where it has the size already, it is returned as it is."""
    if (picture.width, picture.height) == (width, height):
        return picture
    planes = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha[..., np.newaxis]]
    array = np.ascontiguousarray(np.concatenate(planes, axis=2))
    image = vips().Image.new_from_memory(
        array.data, picture.width, picture.height, array.shape[2], _FORMAT_OF[picture.bit_depth]
    )
    has_alpha = picture.alpha is not None
    image = fitted(image, width=width, height=height, bit_depth=picture.bit_depth, has_alpha=has_alpha)
    result = np.frombuffer(image.write_to_memory(), DTYPE_OF[picture.bit_depth]).reshape(height, width, -1)
    pixels, alpha = (result[..., :-1], result[..., -1]) if has_alpha else (result, None)
    return replace(picture, pixels=cast(Pixels, pixels), alpha=cast(Pixels | None, alpha))


def fitted(image: Image, *, width: int, height: int, bit_depth: int, has_alpha: bool) -> Image:
    """Resize what libvips is about to write, row by row as it comes; colours count as much as they are seen.

    The last band is alpha where ``has_alpha``.
    """
    white = WHITE_OF[bit_depth]
    if has_alpha:
        image = image.copy(interpretation="srgb" if image.bands == 4 else "b-w").premultiply(max_alpha=white)
    image = image.resize(width / image.width, vscale=height / image.height, kernel="lanczos3")
    if has_alpha:
        image = image.unpremultiply(max_alpha=white)
    if bit_depth == 32:
        return (image > 1).ifthenelse(1, (image < 0).ifthenelse(0, image)).cast("float")
    return (image.rint() if has_alpha else image).cast(_FORMAT_OF[bit_depth])
