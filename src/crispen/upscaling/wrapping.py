"""Seamless textures: pictures that go on at the opposite border, and so must their enlargements."""

from __future__ import annotations

import numpy as np

from crispen import tiling
from crispen.images import Header, Picture, Pixels
from crispen.tiling import Box, Tile
from crispen.upscaling.rows import Rows, extent_of

_FAR = 1 << 40  # beyond any picture


class WrappedRows:
    """A picture repeated without end, in all directions. It is held as a whole, as its last rows come first."""

    def __init__(self, rows: Rows) -> None:
        self.header: Header = rows.header
        self.extent: Box = Box(-_FAR, -_FAR, _FAR, _FAR)
        self._rows = rows

    def cut(self, box: Box) -> Picture:
        """See `crispen.upscaling.rows.Rows`."""
        picture = self._rows.cut(extent_of(self.header))
        alpha = None if picture.alpha is None else _around(picture.alpha, box)
        return Picture(pixels=_around(picture.pixels, box), alpha=alpha)

    def give_up(self, top: int) -> None:
        """Nothing can be given up: the first rows are the neighbours of the last."""


def plan(height: int, width: int, *, tile: int, context: int, tile_height: int | None = None) -> list[Tile]:
    """Cut a picture as `crispen.tiling.plan` does, but for windows that reach beyond it by all their context."""
    padded = tiling.plan(
        height + 2 * context, width + 2 * context, tile=tile, context=context, tile_height=tile_height
    )
    picture = Box(0, 0, height, width)
    moved = [(one.window.moved(-context, -context), one.core.moved(-context, -context)) for one in padded]
    return [Tile(window=window, core=core & picture) for window, core in moved]


def _around(pixels: Pixels, box: Box) -> Pixels:
    """Cut a box out of (H, W, ...) repeated without end."""
    height, width = pixels.shape[:2]
    rows, columns = np.arange(box.top, box.bottom) % height, np.arange(box.left, box.right) % width
    return pixels[np.ix_(rows, columns)]
