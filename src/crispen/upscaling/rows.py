"""The rows of a picture, wherever it is: in memory, or in a file that is read downwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np

from crispen.images import BLEED_REACH, Header, Picture, Pixels, bleed


class Rows(Protocol):
    """A picture of which some rows can be had."""

    header: Header
    """The picture without its pixels."""

    def between(self, top: int, bottom: int) -> Picture:
        """Return rows ``top`` to ``bottom``, half-open, which must not have been given up."""
        ...

    def give_up(self, top: int) -> None:
        """Say that no row above ``top`` will be asked for again."""
        ...


class PictureRows:
    """The rows of a picture in memory."""

    def __init__(self, picture: Picture) -> None:
        self.header: Header = picture.header
        self._picture = picture

    def between(self, top: int, bottom: int) -> Picture:
        """See `Rows`; nothing is copied."""
        alpha = self._picture.alpha
        return Picture(
            pixels=self._picture.pixels[top:bottom], alpha=None if alpha is None else alpha[top:bottom]
        )

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
        self._source = source
        self._top = 0
        self._held: Picture | None = None

    @property
    def held(self) -> int:
        """How many rows are held."""
        return 0 if self._held is None else self._held.height

    def between(self, top: int, bottom: int) -> Picture:
        """See `Rows`.

        Raises:
            PictureError: where the file is damaged or cut short.
        """
        held_until = self._top + self.held
        if bottom > held_until:
            fresh = self._source.rows(bottom - held_until)
            self._held = fresh if self._held is None else _joined(self._held, fresh)
        assert self._held is not None
        assert self._top <= top
        return PictureRows(self._held).between(top - self._top, bottom - self._top)

    def give_up(self, top: int) -> None:
        """See `Rows`."""
        gone = top - self._top
        if self._held is None or gone <= 0:
            return
        assert gone <= self.held, "rows cannot be passed over"
        self._held = PictureRows(self._held).between(gone, self.held) if gone < self.held else None
        self._top = top


class BledRows:
    """The rows of a transparent picture, with colours where it cannot be seen through: see `crispen.images.bleed`."""

    def __init__(self, rows: Rows) -> None:
        self.header: Header = rows.header
        self._rows = rows

    def between(self, top: int, bottom: int) -> Picture:
        """See `Rows`."""
        first, last = max(0, top - BLEED_REACH), min(self.header.height, bottom + BLEED_REACH)
        seen = self._rows.between(first, last)
        assert seen.alpha is not None
        bled = Picture(pixels=bleed(seen.pixels, seen.alpha), alpha=seen.alpha)
        return PictureRows(bled).between(top - first, bottom - first)

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
        rows = PictureRows(self._left)
        taken = rows.between(0, count)
        self._left = rows.between(count, self._left.height) if count < self._left.height else None
        return taken


def _joined(upper: Picture, lower: Picture) -> Picture:
    pixels = np.concatenate([upper.pixels, lower.pixels])
    if upper.alpha is None or lower.alpha is None:
        return Picture(pixels=cast(Pixels, pixels))
    return Picture(
        pixels=cast(Pixels, pixels), alpha=cast(Pixels, np.concatenate([upper.alpha, lower.alpha]))
    )
