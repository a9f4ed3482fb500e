"""One picture being enlarged, tile by tile, from rows to rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from crispen import images, tiling
from crispen.errors import ModelError
from crispen.images import DTYPE_OF, WHITE_OF, Header, Picture, Pixels
from crispen.runtimes import Piece, Runtime, TileTooLarge
from crispen.tiling import Box, Tile
from crispen.upscaling.grain import NO_GRAIN, Grain
from crispen.upscaling.rows import Rows, rows_of

ALPHA_REACH = 2
"""How far, in pixels of the small picture, interpolated alpha sees."""

# The networks have never seen padding from both ends at once: without these pixels a constant picture of 1x1 is off
# by up to 151 levels of 255, 1x60 by 47, 2x2 by 8, 3x3 by 2.5; with them, all are by about 1, as larger ones are.
_THIN, _REPEATED = 4, 2

_SMALLEST_PART = 16  # of a tile: nearly all of its window is context, which smaller ones would need as well


class Step(NamedTuple):
    """What one iteration of an `Enlargement` has done."""

    tile: Tile
    """The tile that was computed."""
    strip: Picture | None
    """The rows of the result that it completed, below those of all steps before; most tiles complete none."""


class Enlargement:
    """One picture being enlarged: each iteration computes a tile; `len` is how many there are.

    The tiles lie in bands, from left to right and from top to bottom. A band's part of the result is in the
    picture's own depth and filled in place. An interrupted iteration can be taken up by another. Where a device has
    too little memory for a tile, that one and all after it are computed in parts, which changes nothing else.

    Args:
        small: the picture.
        runtime: what enlarges.
        tiles: as `crispen.tiling.plan` makes them.
        context: what they were planned with; at least `ALPHA_REACH` for a picture with alpha.
        whole: whether the result is to be held as a whole, for `result`. Otherwise it is only to be had in the
            strips of the steps.
        binary_alpha: whether alpha must stay 0 or full; see `crispen.images.enlarge_alpha`.
        grain: what is added to the result.
    """

    def __init__(
        self,
        small: Rows,
        *,
        runtime: Runtime,
        tiles: Sequence[Tile],
        context: int,
        whole: bool,
        binary_alpha: bool = False,
        grain: Grain = NO_GRAIN,
    ) -> None:
        self.header: Header = enlarged(small.header, scale=runtime.scale)
        """The result without its pixels."""

        self._small = small
        self._runtime = runtime
        self._context = context
        self._binary_alpha = binary_alpha
        self._grain = grain
        self._count = len(tiles)
        self._pending = deque(tiles)
        self._part_side: int | None = None
        self._canvas = _empty(self.header, rows=self.header.height) if whole else None
        self._strip: Picture | None = None

    def __len__(self) -> int:
        """How many tiles there are, done or not."""
        return self._count

    def __iter__(self) -> Iterator[Step]:
        """Compute the tiles that are left, and yield each when it is in its place.

        Raises:
            PictureError: where the picture comes from a file that is damaged, or the device has too little memory
                for the smallest part of a tile.
        """
        while self._pending:
            try:
                yield from self._compute()
            except TileTooLarge:
                core = self._pending[0].core
                side = (self._part_side or max(core.height, core.width)) // 2
                if side < _SMALLEST_PART:
                    raise
                self._part_side = side

    @property
    def result(self) -> Picture:
        """The enlarged picture, where it is held. Tiles that are left are computed first."""
        for _ in self:
            pass
        assert self._canvas is not None
        return replace(self._canvas, attachments=self.header.attachments, resolution=self.header.resolution)

    def _compute(self) -> Iterator[Step]:
        """Compute the tiles that are left, whole or in parts."""
        tiles = list(self._pending)
        pieces = (self._piece(part) for tile in tiles for part in self._parts(tile))
        with closing(self._runtime.map(pieces)) as results:
            for tile in tiles:
                self._strip = strip = self._strip or self._begin(tile)
                for part in self._parts(
                    tile
                ):  # nothing holds what is in its place while the next is computed
                    self._place(part, next(results), strip, top=tile.core.top)
                yield self._finish(tile, strip)

    def _parts(self, tile: Tile) -> list[Tile]:
        """The tile itself, or what it is divided into, as far as the device's memory demands."""
        if self._part_side is None:
            return [tile]
        core, extent = tile.core, self._small.extent
        inner = tiling.plan(core.height, core.width, tile=self._part_side, context=0)
        boxes = [part.core.moved(core.top, core.left) for part in inner]
        return [Tile(window=box.grown(self._context, inside=extent), core=box) for box in boxes]

    def _piece(self, tile: Tile) -> Piece:
        """Cut out what the network is to read, where it is thin with its edges repeated."""
        window = _to_rgb(self._small.cut(tile.window).pixels)
        core = tile.core.within(tile.window)
        down, across = (_REPEATED if side < _THIN else 0 for side in window.shape[1:])
        if down or across:  # a window is thin only where the picture is
            window = np.pad(window, ((0, 0), (down, down), (across, across)), "edge")
        return Piece(window, core.moved(down, across))

    def _begin(self, tile: Tile) -> Picture:
        """Make room for the rows to which a tile belongs, and enlarge their alpha, which no network does."""
        band = Box(tile.core.top, 0, tile.core.bottom, self._small.header.width)
        large = band.scaled(self._runtime.scale)
        if self._canvas is None:
            strip = _empty(self.header, rows=large.height)
        else:
            strip = rows_of(self._canvas, large.top, large.bottom)
        if strip.alpha is not None:
            strip.alpha[:] = self._enlarged_alpha(band)
        return strip

    def _enlarged_alpha(self, band: Box) -> Pixels:
        seen = band.grown(ALPHA_REACH, inside=self._small.extent)
        small = self._small.cut(seen).alpha
        assert small is not None
        enlarged = images.enlarge_alpha(small, self._runtime.scale, binary=self._binary_alpha)
        return enlarged[band.within(seen).scaled(self._runtime.scale).slices]

    def _place(self, part: Tile, sr: NDArray[np.float32], strip: Picture, *, top: int) -> None:
        """Put what the network made into its place in a strip, whose first row is made of ``top``."""
        scale = self._runtime.scale
        target = strip.pixels[part.core.moved(-top, 0).scaled(scale).slices]
        channels = _clamped(sr, channels=target.shape[2])
        self._grain.add_to(channels, part.core.scaled(scale))
        _store(channels, target)

    def _finish(self, tile: Tile, strip: Picture) -> Step:
        """Count a tile as done, and a strip that it completes; what has been read for them is given up."""
        self._pending.popleft()
        if tile.core.right < self._small.header.width:
            return Step(tile, None)
        self._strip = None
        if self._pending:
            self._small.give_up(self._pending[0].window.top)
        return Step(tile, strip)


def enlarged(small: Header, *, scale: int) -> Header:
    """The header of a result.

    Profile and metadata are the small picture's; the resolution grows, so that the size in print stays.
    """
    resolution = images.denser(small.resolution, across=scale, down=scale)
    return replace(small, height=small.height * scale, width=small.width * scale, resolution=resolution)


def strips_of(steps: Iterable[Step]) -> Iterator[Picture]:
    """What the steps of an enlargement complete, for `crispen.images.write_rows`."""
    return (step.strip for step in steps if step.strip is not None)


def _empty(header: Header, *, rows: int) -> Picture:
    """A picture of so many rows, not filled yet."""
    dtype = DTYPE_OF[header.bit_depth]
    pixels = np.empty((rows, header.width, header.channels), dtype)
    alpha = np.empty((rows, header.width), dtype) if header.has_alpha else None
    return Picture(pixels=cast(Pixels, pixels), alpha=cast(Pixels | None, alpha))


def _to_rgb(window: Pixels) -> NDArray[np.float32]:
    """(H, W, C) to (3, H, W) in [0, 1]; gray becomes three equal channels."""
    height, width, _ = window.shape
    rgb = np.empty((3, height, width), np.float32)
    np.divide(window.transpose(2, 0, 1), _white(window), out=rgb, dtype=np.float32)
    return rgb


def _clamped(sr: NDArray[np.float32], *, channels: int) -> NDArray[np.float32]:
    """(3, H, W) to (C, H, W) in [0, 1]. ``sr`` is used up. Raises `ModelError` for what is not a number."""
    result = sr if channels == 3 else sr.mean(axis=0, keepdims=True)
    if np.isnan(result.sum()):
        raise ModelError("the network gives values that are no numbers: its weights are damaged")
    return np.clip(result, 0, 1, out=result)


def _store(channels: NDArray[np.float32], target: Pixels) -> None:
    """Put (C, H, W) in [0, 1] into (H, W, C), rounded half up. ``channels`` is used up."""
    if target.dtype != np.float32:
        channels *= _white(target)
        channels += np.float32(0.5)
    for index, channel in enumerate(channels):  # half the time of all at once
        np.copyto(target[:, :, index], channel, casting="unsafe")


def _white(pixels: Pixels) -> np.float32:
    """The value that stands for 1."""
    return np.float32(WHITE_OF[8 * pixels.dtype.itemsize])
