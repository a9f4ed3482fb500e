"""The pixels of a picture, wherever it is: in memory, or in a file that is read downwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np

from crispen.images import BLEED_REACH, Header, Picture, Pixels, bleed
from crispen.tiling import Box


class Rows(Protocol):
    """A picture that is asked for parts of it, from top to bottom."""

    header: Header
    """The picture without its pixels."""
    extent: Box
    """Where pixels can be had: the whole picture, or beyond it."""

    def cut(self, box: Box) -> Picture:
        """Return the pixels in a box inside `extent`, of which no row must have been given up."""
        ...

    def give_up(self, top: int) -> None:
        """Say that no row above ``top`` will be asked for again."""
        ...


class PictureRows:
    """A picture in memory."""

    def __init__(self, picture: Picture) -> None:
        self.header: Header = picture.header
        self.extent: Box = extent_of(picture.header)
        self._picture = picture

    def cut(self, box: Box) -> Picture:
        """See `Rows`; nothing is copied."""
        return part(self._picture, box)

    def give_up(self, top: int) -> None:
        """Nothing is gained: the picture is its owner's."""


class Readable(Protocol):
    """What can be read downwards, once: a `crispen.images.Source`, or a `StripSource`."""

    header: Header

    def rows(self, count: int) -> Picture:
        """Return the next ``count`` rows."""
        ...


class SourceRows:
    """The rows of a file. Those that have been read and not given up are held."""

    def __init__(self, source: Readable) -> None:
        self.header: Header = source.header
        self.extent: Box = extent_of(source.header)
        self._source = source
        self._top = 0
        self._held: Picture | None = None

    @property
    def held(self) -> int:
        """How many rows are held."""
        return 0 if self._held is None else self._held.height

    def cut(self, box: Box) -> Picture:
        """See `Rows`.

        Raises:
            PictureError: where the file is damaged or cut short.
        """
        held_until = self._top + self.held
        if box.bottom > held_until:
            fresh = self._source.rows(box.bottom - held_until)
            self._held = fresh if self._held is None else _joined(self._held, fresh)
        assert self._held is not None
        assert self._top <= box.top
        return part(self._held, box.moved(-self._top, 0))

    def give_up(self, top: int) -> None:
        """See `Rows`."""
        gone = top - self._top
        if self._held is None or gone <= 0:
            return
        assert gone <= self.held, "rows cannot be passed over"
        self._held = rows_of(self._held, gone, self.held) if gone < self.held else None
        self._top = top


class BledRows:
    """A transparent picture, with colours where it cannot be seen through: see `crispen.images.bleed`."""

    def __init__(self, rows: Rows) -> None:
        self.header: Header = rows.header
        self.extent: Box = rows.extent
        self._rows = rows

    def cut(self, box: Box) -> Picture:
        """See `Rows`."""
        around = box.grown(BLEED_REACH, inside=self.extent)
        seen = self._rows.cut(around)
        assert seen.alpha is not None
        bled = Picture(pixels=bleed(seen.pixels, seen.alpha), alpha=seen.alpha)
        return part(bled, box.within(around))

    def give_up(self, top: int) -> None:
        """See `Rows`."""
        self._rows.give_up(top - BLEED_REACH)


class StripSource:
    """Strips that are still being made, to be read like a file: what one enlargement yields, for the next."""

    def __init__(self, header: Header, strips: Iterator[Picture]) -> None:
        self.header: Header = header
        self._strips = strips
        self._left: Picture | None = None

    def rows(self, count: int) -> Picture:
        """Return the next ``count`` rows, which there must be; see `crispen.images.Source`."""
        while self._left is None or self._left.height < count:
            strip = next(self._strips)
            self._left = strip if self._left is None else _joined(self._left, strip)
        left, self._left = self._left, None
        if count < left.height:
            self._left = rows_of(left, count, left.height)
        return rows_of(left, 0, count)


def extent_of(header: Header) -> Box:
    """The whole picture."""
    return Box(0, 0, header.height, header.width)


def part(picture: Picture, box: Box) -> Picture:
    """Return the pixels in a box, as a view, without what lies beside them."""
    alpha = None if picture.alpha is None else picture.alpha[box.slices]
    return Picture(pixels=picture.pixels[box.slices], alpha=alpha)


def rows_of(picture: Picture, top: int, bottom: int) -> Picture:
    """Return rows ``top`` to ``bottom``, half-open, as a view."""
    return part(picture, Box(top, 0, bottom, picture.width))


def _joined(upper: Picture, lower: Picture) -> Picture:
    pixels = np.concatenate([upper.pixels, lower.pixels])
    if upper.alpha is None or lower.alpha is None:
        return Picture(pixels=cast(Pixels, pixels))
    return Picture(
        pixels=cast(Pixels, pixels), alpha=cast(Pixels, np.concatenate([upper.alpha, lower.alpha]))
    )
