"""Seamless textures: pictures that go on at the opposite border, and so must their enlargements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from crispen import images, tiling
from crispen.images import NO_OVERHANG, Header, Overhang, Picture, Pixels, overhang_of
from crispen.tiling import Box, Tile
from crispen.upscaling.rows import PictureRows, Rows, extent_of
from crispen.upscaling.sizes import Dimensions

_FAR = 1 << 40  # beyond any picture


class WrappedRows:
    """A picture repeated without end, in all directions. It is held as a whole, as its last rows come first.

    With ``overhang``, so much of its repetitions counts as the picture itself.
    """

    def __init__(self, rows: Rows, overhang: Overhang = NO_OVERHANG) -> None:
        self._rows = rows
        across, down = (2 * pixels for pixels in overhang)
        self.header: Header = replace(
            rows.header, width=rows.header.width + across, height=rows.header.height + down
        )
        self.extent: Box = Box(-_FAR, -_FAR, _FAR, _FAR)
        self.texture: Box = extent_of(rows.header).moved(overhang.down, overhang.across)
        """Where the picture itself lies."""

    def cut(self, box: Box) -> Picture:
        """See `crispen.upscaling.rows.Rows`."""
        picture = self._rows.cut(extent_of(self._rows.header))
        box = box.within(self.texture)
        alpha = None if picture.alpha is None else _around(picture.alpha, box)
        return Picture(pixels=_around(picture.pixels, box), alpha=alpha)

    def give_up(self, top: int) -> None:
        """Nothing can be given up: the first rows are the neighbours of the last."""


def plan(
    height: int,
    width: int,
    *,
    tile: int,
    context: int,
    tile_height: int | None = None,
    multiple: int = 1,
    height_multiple: int = 1,
) -> list[Tile]:
    """Cut a picture as `crispen.tiling.plan` does, but for windows that reach beyond it by all their context."""
    padded = tiling.plan(
        height + 2 * context,
        width + 2 * context,
        tile=tile,
        context=context,
        tile_height=tile_height,
        multiple=multiple,
        height_multiple=height_multiple,
    )
    picture = Box(0, 0, height, width)
    moved = [(one.window.moved(-context, -context), one.core.moved(-context, -context)) for one in padded]
    return [Tile(window=window, core=core & picture) for window, core in moved]


def overhang(small: Header, wanted: Dimensions, *, scale: int = 1) -> Overhang:
    """How far a texture must go on for the filter that brings it, enlarged by ``scale``, to the size ``wanted``.

    In pixels of ``small``; see `crispen.images.overhang_of`.
    """
    return Overhang(
        across=overhang_of(small.width, wanted.width, scale=scale),
        down=overhang_of(small.height, wanted.height, scale=scale),
    )


def resized(picture: Picture, wanted: Dimensions) -> Picture:
    """Resize a texture in memory; see `crispen.images.resized`."""
    beyond = overhang(picture.header, wanted)
    if beyond == NO_OVERHANG:
        return picture
    around = WrappedRows(PictureRows(picture), beyond)
    whole = around.cut(extent_of(around.header))
    result = images.resized(whole, width=wanted.width, height=wanted.height, overhang=beyond)
    return replace(result, attachments=picture.attachments, resolution=picture.resolution)


def strips(rows: WrappedRows, height: int) -> Iterator[Picture]:
    """Read a texture with its overhang, in strips of so many rows."""
    for top in range(0, rows.header.height, height):
        bottom = min(top + height, rows.header.height)
        yield rows.cut(Box(top, 0, bottom, rows.header.width))


def _around(pixels: Pixels, box: Box) -> Pixels:
    """Cut a box out of (H, W, ...) repeated without end."""
    height, width = pixels.shape[:2]
    rows, columns = np.arange(box.top, box.bottom) % height, np.arange(box.left, box.right) % width
    return pixels[np.ix_(rows, columns)]
