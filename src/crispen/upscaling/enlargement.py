"""One picture being enlarged, tile by tile, from rows to rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from crispen import images
from crispen.images import DTYPE_OF, WHITE_OF, Header, Picture, Pixels
from crispen.runtimes import Piece, Runtime
from crispen.tiling import Tile
from crispen.upscaling.rows import PictureRows, Rows

# The networks have never seen padding from both ends at once: without these pixels a constant picture of 1x1 is off
# by up to 151 levels of 255, 1x60 by 47, 2x2 by 8, 3x3 by 2.5; with them, all are by about 1, as larger ones are.
_THIN, _REPEATED = 4, 2


class Step(NamedTuple):
    """What one iteration of an `Enlargement` has done."""

    tile: Tile
    """The tile that was computed."""
    strip: Picture | None
    """The rows of the result that it completed, below those of all steps before; most tiles complete none."""


class Enlargement:
    """One picture being enlarged: each iteration computes a tile; `len` is how many there are.

    The tiles lie in bands, from left to right and from top to bottom. A band's part of the result is in the
    picture's own depth and filled in place. An interrupted iteration can be taken up by another.

    Args:
        small: the picture.
        runtime: what enlarges.
        tiles: as `crispen.tiling.plan` makes them.
        whole: whether the result is to be held as a whole, for `result`. Otherwise it is only to be had in the
            strips of the steps.
        binary_alpha: whether alpha must stay 0 or full; see `crispen.images.enlarge_alpha`.
    """

    def __init__(
        self,
        small: Rows,
        *,
        runtime: Runtime,
        tiles: Sequence[Tile],
        whole: bool,
        binary_alpha: bool = False,
    ) -> None:
        self.header: Header = enlarged(small.header, scale=runtime.scale)
        """The result without its pixels."""

        self._small = small
        self._runtime = runtime
        self._binary_alpha = binary_alpha
        self._count = len(tiles)
        self._pending = deque(tiles)
        self._canvas = _empty(self.header, rows=self.header.height) if whole else None
        self._strip: Picture | None = None

    def __len__(self) -> int:
        """How many tiles there are, done or not."""
        return self._count

    def __iter__(self) -> Iterator[Step]:
        """Compute the tiles that are left, and yield each when it is in its place.

        Raises:
            PictureError: where the picture comes from a file that is damaged.
        """
        pieces = (self._piece(tile) for tile in list(self._pending))
        with closing(self._runtime.map(pieces)) as results:
            for sr in results:
                yield self._place(self._pending[0], sr)

    @property
    def result(self) -> Picture:
        """The enlarged picture, where it is held. Tiles that are left are computed first."""
        for _ in self:
            pass
        assert self._canvas is not None
        return replace(self._canvas, attachments=self.header.attachments, resolution=self.header.resolution)

    def _piece(self, tile: Tile) -> Piece:
        """Cut out what the network is to read, where it is thin with its edges repeated."""
        band = self._small.between(tile.window.top, tile.window.bottom)
        window = _to_rgb(band.pixels[:, tile.window.left : tile.window.right])
        core = tile.core.within(tile.window)
        down, across = (_REPEATED if side < _THIN else 0 for side in window.shape[1:])
        if down or across:  # a window is thin only where the picture is
            window = np.pad(window, ((0, 0), (down, down), (across, across)), "edge")
        return Piece(window, core.moved(down, across))

    def _place(self, tile: Tile, sr: NDArray[np.float32]) -> Step:
        """Put what the network made of a tile into its place."""
        strip = self._strip or self._begin(tile)
        _, columns = tile.core.scaled(self._runtime.scale).slices
        _paste(sr, cast(Pixels, strip.pixels[:, columns]))
        self._pending.popleft()
        if tile.core.right < self._small.header.width:
            self._strip = strip
            return Step(tile, None)
        self._strip = None
        if self._pending:
            self._small.give_up(self._pending[0].window.top)
        return Step(tile, strip)

    def _begin(self, tile: Tile) -> Picture:
        """Make room for the rows to which a tile belongs, and enlarge their alpha, which no network does."""
        top, bottom = tile.core.top * self._runtime.scale, tile.core.bottom * self._runtime.scale
        if self._canvas is None:
            strip = _empty(self.header, rows=bottom - top)
        else:
            strip = PictureRows(self._canvas).between(top, bottom)
        if strip.alpha is not None:
            self._enlarge_alpha(tile, strip.alpha)
        return strip

    def _enlarge_alpha(self, tile: Tile, large: Pixels) -> None:
        small = self._small.between(tile.window.top, tile.window.bottom).alpha
        assert small is not None
        scale = self._runtime.scale
        enlarged = images.enlarge_alpha(small, scale, binary=self._binary_alpha)
        kept = tile.core.moved(-tile.window.top, 0).scaled(scale)
        large[:] = enlarged[kept.top : kept.bottom]


def enlarged(small: Header, *, scale: int) -> Header:
    """The header of a result.

    Profile and metadata are the small picture's; the resolution grows, so that the size in print stays.
    """
    resolution = small.resolution and (small.resolution[0] * scale, small.resolution[1] * scale)
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


def _paste(sr: NDArray[np.float32], target: Pixels) -> None:
    """Put (3, H, W) into its place in the result, (H, W, C): clamped, and rounded half up. ``sr`` is used up."""
    channels = sr if target.shape[2] == 3 else sr.mean(axis=0, keepdims=True)
    np.clip(channels, 0, 1, out=channels)
    if target.dtype != np.float32:
        channels *= _white(target)
        channels += np.float32(0.5)
    np.copyto(target, channels.transpose(1, 2, 0), casting="unsafe")


def _white(pixels: Pixels) -> np.float32:
    """The value that stands for 1."""
    return np.float32(WHITE_OF[8 * pixels.dtype.itemsize])
