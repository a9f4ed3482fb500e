"""What every reader of a file format returns: the header, and a way to its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError
from crispen.images._paths import shown
from crispen.images._tiff_pages import Directory
from crispen.images.picture import Header

FetchRows = Callable[[int, int], NDArray[Any]]
"""Takes the first row and how many; returns (n, W, C), alpha last. It is called downwards, without gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Animation:
    """How frames follow each other."""

    delays: tuple[int, ...]
    """Milliseconds that each frame is shown."""

    loop: int = 0
    """How often it is played; 0 is for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file whose header has been read."""

    header: Header
    fetch: FetchRows

    pages: int = 1
    """How many pages or frames the file holds that can be read."""

    directories: Sequence[Directory] = ()
    """Where these pages are, for another of them to be opened without a search."""

    animation: Animation | None = None
    """How its frames follow each other, where they do."""

    unread: int = 0
    """How many more frames the file holds, none of which can be read."""


def check_size(path: Path, width: int, height: int, *, max_megapixels: float) -> None:
    """Refuse a picture that says it is too large."""
    if width * height > max_megapixels * 1e6:
        raise PictureError(
            f"{shown(path)} says that it is {width}x{height} pixels,"
            f" above the limit of {max_megapixels:g} megapixels"
        )


def no_such_page(path: Path, page: int, pages: int) -> PictureError:
    """Return the error for a page that a file does not have."""
    has = "1 page" if pages == 1 else f"{pages} pages"
    return PictureError(f"{shown(path)} has {has}, so there is no page {page} (they count from 0)")


def rows_at(path: Path, start: int, count: int, row_bytes: int) -> NDArray[np.uint8]:
    """Read rows, (count, row_bytes), of a file in which they stand one after the other.

    Raises `PictureError` where the file ends before them.
    """
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(count * row_bytes)
    if len(data) < count * row_bytes:
        raise PictureError(f"{shown(path)} is damaged or cut short (it became shorter while it was read)")
    return np.frombuffer(data, np.uint8).reshape(count, row_bytes)
