"""Colours by their ICC profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crispen.images._vips import vips
from crispen.images.picture import Pixels, to_depth

if TYPE_CHECKING:
    from pyvips import Image

_INTERPRETATION = {(8, 1): "b-w", (8, 3): "srgb", (16, 1): "grey16", (16, 3): "rgb16"}


def in_srgb(pixels: Pixels, profile: bytes) -> Pixels:
    """Convert (H, W, C) from an ICC profile to sRGB, so that the colours look as they were meant.

    Returns (H, W, 3) for colours and for gray, at the same bit depth; floats have the precision of 16 bits. With
    a profile that is damaged, or not for this many channels, pixels come back as they are, which is how they are
    shown everywhere.
    """
    depth = 8 * pixels.dtype.itemsize
    used = min(depth, 16)
    try:
        image = _with_profile(to_depth(pixels, used), profile)
        converted = image.icc_transform(
            "srgb", embedded=True, intent="relative", black_point_compensation=True, depth=used
        )
        array = converted.numpy()
    except vips().Error:
        return pixels
    return to_depth(cast(Pixels, array.reshape(*pixels.shape[:2], 3)), depth)


def _with_profile(pixels: Pixels, profile: bytes) -> Image:
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    data = np.ascontiguousarray(pixels).data
    image = vips().Image.new_from_memory(data, width, height, channels, {8: "uchar", 16: "ushort"}[depth])
    image = image.copy(interpretation=_INTERPRETATION[depth, channels])
    image.set_type(
        vips().GValue.blob_type, "icc-profile-data", cast(Any, profile)
    )  # its stub leaves out bytes
    return image
