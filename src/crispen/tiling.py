"""How a picture is cut into tiles, so that what was computed tile by tile equals what is computed at once.

A pixel of a network's output depends on no input further away than the network's *context*. So each tile
reads a `Tile.window`, and of what the network makes of it only the `Tile.core` is kept: around every kept
pixel the window holds the context, or ends where the picture ends, and there the network pads as it would
have anyway.

All windows of one picture have one size, whatever its shape, so that nothing is planned or allocated anew
from tile to tile. Of all plans with the fewest tiles, it is the smallest size that reaches from border to
border. Where a processor is slow at some widths, it is one that it is not slow at.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from crispen.errors import UsageError


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels: rows ``top`` to ``bottom`` and columns ``left`` to ``right``, half-open."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """What selects the box from an array (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, outer: Box) -> Box:
        """Return the same box, counted from the corner of ``outer``."""
        return Box(
            self.top - outer.top, self.left - outer.left, self.bottom - outer.top, self.right - outer.left
        )

    def moved(self, down: int, right: int) -> Box:
        """Return the box that lies so much further down and to the right."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def grown(self, margin: int, *, inside: Box) -> Box:
        """Return the box with a margin on all sides, as far as it lies inside another."""
        return Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin) & inside

    def __and__(self, other: Box) -> Box:
        """What two boxes have in common, where they do."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def scaled(self, scale: int) -> Box:
        """Return the box that this one becomes in the enlarged picture."""
        return Box(self.top * scale, self.left * scale, self.bottom * scale, self.right * scale)


@dataclass(frozen=True, slots=True)
class Tile:
    """One step of the work, in pixels of the small picture."""

    window: Box
    """What the network reads."""
    core: Box
    """What is kept of its output: the cores of a plan cover the picture, each pixel once."""


ANY_WIDTH = 256
"""Up to here no width of a window is slower than others, on any processor."""


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
    """Cut a picture into tiles, row by row.

    Args:
        height: rows of the picture, at least 1.
        width: columns of the picture, at least 1.
        tile: side of a core that has neighbours on all sides, at least 1; it is an upper bound. No window is
            larger than ``tile + 2 * context``, and a picture that is not larger either becomes one tile.
        context: how far the network sees, in pixels of the picture, at least 0.
        tile_height: where tiles are not to be square, their height instead of ``tile``.
        multiple: of what the width of windows beyond `ANY_WIDTH` is to be a multiple, as far as ``tile`` allows;
            see `crispen.runtimes.width_multiple`.
        height_multiple: the same of their height, for windows that are turned.

    Raises:
        UsageError: for a tile below 1.
    """
    tile_height = tile if tile_height is None else tile_height
    if min(tile, tile_height) < 1:
        raise UsageError(f"tile must be at least 1 pixel, not {min(tile, tile_height)}")
    assert min(height, width) >= 1
    assert context >= 0
    rows = _cut(height, tile=tile_height, context=context, multiple=height_multiple)
    columns = _cut(width, tile=tile, context=context, multiple=multiple)
    return [
        Tile(window=_box(row_window, column_window), core=_box(row_core, column_core))
        for row_window, row_core in rows
        for column_window, column_core in columns
    ]


def _cut(length: int, *, tile: int, context: int, multiple: int = 1) -> list[tuple[range, range]]:
    """Cut one axis: the (window, core) of each tile along it.

    Where windows overlap by more than they must, the cores meet in the middle.
    """
    count, window = _windows(length, tile=tile, context=context, multiple=multiple)
    gaps = max(1, count - 1)
    windows = [
        range(start, start + window) for start in (i * (length - window) // gaps for i in range(count))
    ]
    meetings = [(one.stop + other.start) // 2 for one, other in pairwise(windows)]
    cores = [range(start, stop) for start, stop in pairwise([0, *meetings, length])]
    return list(zip(windows, cores, strict=True))


def _windows(length: int, *, tile: int, context: int, multiple: int) -> tuple[int, int]:
    """How many windows reach over so many pixels, and of what size.

    The outer ones need context on one side only, so ``count`` windows do where
    ``count * window - 2 * context * (count - 1) >= length``. For a good size there may be one window more.
    """
    fewest = max(1, _ceil_div(length - 2 * context, tile))
    sizes = [_ceil_div(length + 2 * context * (count - 1), count) for count in (fewest, fewest + 1)]
    for count, size in enumerate(sizes, start=fewest):
        good = size if size <= ANY_WIDTH else _ceil_div(size, multiple) * multiple
        if good <= min(length, tile + 2 * context):
            return count, good
    return fewest, sizes[0]


def _box(rows: range, columns: range) -> Box:
    return Box(rows.start, columns.start, rows.stop, columns.stop)


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
