"""Transparency, before and after enlarging: colours under it, and edges that stay as soft or as crisp as they were.

A file often has black where it is fully transparent. Nobody sees that, until the picture is enlarged: a network
then mixes it into the colours beside it, and a dark fringe appears along every edge. So these colours are replaced
first by those of what is visible next to them.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.images.matlab import resize
from crispen.images.picture import WHITE_OF, Pixels

_RADII = (1, 2, 4, 8, 16)  # of the squares that are averaged, one after the other

BLEED_REACH = sum(_RADII)
"""How far colours bleed, in pixels; nothing further away matters to a pixel of `bleed`."""


def bleed(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Return the pixels with colours spread to where they are fully transparent, as far as `BLEED_REACH`.

    ``pixels`` are (H, W, C), ``alpha`` is (H, W) of the same dtype. Where alpha is above 0, nothing changes. Where
    it is 0, the colour becomes the mean, weighted by alpha, of those in the smallest square around it that has
    any; what is further away keeps its own. Rows that are read with `BLEED_REACH` more above and below come out
    as those of the whole picture do.

    After the push-pull of S. Gortler et al., "The Lumigraph", SIGGRAPH 1996, with squares in place of a pyramid,
    so that the result does not depend on where the picture begins.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    weights = alpha.astype(np.float64) / WHITE_OF[8 * alpha.dtype.itemsize]  # (H, W); 0 is still to be filled
    colours = pixels * weights[..., np.newaxis]
    for radius in _RADII:
        total = _sum_around(weights, radius)
        fresh = (weights == 0) & (total > 0)
        if fresh.any():
            means = _sum_around(colours, radius)[fresh] / total[fresh][:, np.newaxis]
            weights[fresh], colours[fresh] = 1.0, means
    filled = hidden & (weights > 0)
    result = pixels.copy()
    values = colours[filled]
    result[filled] = values if result.dtype == np.float32 else np.rint(values)
    return result


def _sum_around(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Sum each pixel's square of 2·radius + 1 a side, radius a power of 2; beyond the border is nothing.

    Each sum is made of the same parts in the same order wherever the picture begins.
    """
    for axis in (0, 1):
        values = _sum_along(values, radius, axis)
    return values


def _sum_along(values: NDArray[np.float64], radius: int, axis: int) -> NDArray[np.float64]:
    length = values.shape[axis]
    margins = [(radius, radius) if index == axis else (0, 0) for index in range(values.ndim)]
    run = np.moveaxis(np.pad(values, margins), axis, 0)
    last = run[2 * radius :]
    width = 1
    while width < 2 * radius:  # run[i] becomes the sum of 2·width from i on
        run = run[:-width] + run[width:]
        width *= 2
    return np.moveaxis(run[:length] + last, 0, axis)


def is_binary(alpha: Pixels) -> bool:
    """Tell whether nothing is half transparent, as in a sprite: alpha is 0 or full everywhere."""
    return bool(np.all((alpha == 0) | (alpha == WHITE_OF[8 * alpha.dtype.itemsize])))


def enlarge_alpha(alpha: Pixels, scale: float, *, binary: bool | None = None) -> Pixels:
    """Enlarge an alpha channel (H, W) by bicubic interpolation to (ceil(H·scale), ceil(W·scale)).

    ``binary`` alpha stays 0 or full: it is cut at the half. By default it is binary where `is_binary` says so;
    who enlarges a picture in parts asks that of the whole first.
    """
    white = WHITE_OF[8 * alpha.dtype.itemsize]
    enlarged = resize(cast(NDArray[Any], alpha), scale).clip(0, white)
    if is_binary(alpha) if binary is None else binary:
        enlarged = np.where(enlarged >= white / 2, white, 0)
    return cast(Pixels, enlarged.astype(alpha.dtype, copy=False))
