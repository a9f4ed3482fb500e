"""Read a picture from a file, with everything that has to survive, or say in one sentence why not.

=============================  =======================================================================
in the file                    in the `Picture`
=============================  =======================================================================
8 or 16 bit, float             uint8, uint16, float32: by the file's format, never by its values
1, 2 or 4 bit                  uint8, black 0, white 255
10 or 12 bit (AVIF, HEIC)      uint16, white 65535; so does JPEG XL's
gray                           one channel (AVIF, HEIC and WebP have none: three)
palette                        three channels (a PNG's gray palette too)
CMYK, Lab                      sRGB, through the embedded profile or libvips' own; the profile is dropped
YCbCr (TIFF)                   RGB of 8 bit, by the coefficients and levels in the file, or BT.601 in full range
alpha, a transparent colour    `alpha`; a TIFF's colours are divided by it where they had been multiplied
orientation tag                applied to the pixels; EXIF and XMP then say "upright". AVIF, HEIC and JPEG XL say
                               it outside of EXIF, and EXIF's counts for nothing there
ICC profile, EXIF, XMP, IPTC   `attachments`
several pages or frames        the first, or the one asked for; `open_pages` goes through all. Of an animated PNG or
                               AVIF there is only the first
float beyond [0, 1]            clipped where it is a filter's ringing, otherwise refused, as NaN is
=============================  =======================================================================

`open` reads downwards, a strip at a time, so that a picture of any size takes little memory: all formats but
WebP, AVIF, HEIC, JPEG XL, progressive JPEG and interlaced PNG, which have to be decoded whole. What has to be turned
upright goes through a temporary file.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from crispen.errors import PictureError, UsageError
from crispen.images import _bmp, _netpbm
from crispen.images._decoding import open_with_libvips
from crispen.images._opened import Animation, Opened, check_size, no_such_page
from crispen.images._paths import shown
from crispen.images._tiff_pages import Directory
from crispen.images.picture import DTYPE_OF, Header, Picture, Pixels, to_unit

KINDS = "PNG, JPEG, WebP, TIFF, GIF, AVIF, BMP, PPM or PFM"
"""What `read` reads, in words; HEIC and JPEG XL are for a libvips that has their decoders: pip's has not."""

READ_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"),
    *(".jxl", ".bmp", ".dib", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
)
"""The suffixes that pictures have which `read` may be able to read, in small letters."""

# Formats are told by their first bytes, not left to libvips: it would also take a text file with numbers for
# a matrix, and draw an SVG or a PDF, which may refer to other files.
_LOADER_OF = {
    b"\x89PNG\r\n\x1a\n": "pngload_source",
    b"\xff\xd8\xff": "jpegload_source",
    b"II*\0": "tiffload_source",
    b"MM\0*": "tiffload_source",
    b"II+\0": "tiffload_source",
    b"MM\0+": "tiffload_source",
    b"GIF8": "gifload_source",
    b"\xff\x0a": "jxlload_source",
    b"\0\0\0\x0cJXL ": "jxlload_source",
}
_LOADER_AFTER_LENGTH = {b"WEBP": "webpload_source", b"ftyp": "heifload_source"}
# Films: MP4 and MOV are told from HEIF, whose boxes they share, by the brand that comes first.
_FILM_BRANDS = (b"iso", b"mp4", b"avc1", b"qt  ", b"M4V", b"3g", b"MSNV", b"dash", b"f4v", b"XAVC")
_MATROSKA, _AVI = b"\x1aE\xdf\xa3", b"AVI "
_STARTING_BYTES = 12
_MAX_MEGAPIXELS = 1000.0


class Source:
    """A file that is being read downwards. It is good for one pass, within the ``with`` of `open`."""

    def __init__(self, path: Path, opened: Opened) -> None:
        self.header: Header = opened.header
        """The picture without its pixels."""

        self.pages: int = opened.pages
        """How many pages or frames the file holds; this is one of them."""

        self._path = path
        self._fetch = opened.fetch
        self._next = 0

    @property
    def rows_left(self) -> int:
        """How many rows have not been read yet."""
        return self.header.height - self._next

    def rows(self, count: int) -> Picture:
        """Read the next ``count`` rows, or what is left of them, as a picture without attachments.

        Raises `PictureError` where the file is damaged or cut short, and for floats that a picture cannot
        have; `UsageError` where no row is left.
        """
        count = min(count, self.rows_left)
        if count < 1:
            raise UsageError(f"no row of {shown(self._path)} is left to be read, or none was asked for")
        array = self._fetch(self._next, count)
        self._next += count
        if array.dtype.kind == "f":
            array = to_unit(array, subject=shown(self._path), error=PictureError)
        array = array.astype(DTYPE_OF[self.header.bit_depth], copy=False)
        if not self.header.has_alpha:
            return Picture(pixels=cast(Pixels, array))
        return Picture(pixels=cast(Pixels, array[..., :-1]), alpha=cast(Pixels, array[..., -1]))

    def strips(self, height: int) -> Iterator[Picture]:
        """Read all rows that are left, ``height`` at a time; see `rows`."""
        while self.rows_left:
            yield self.rows(height)


class Pages:
    """The pages or frames of a file, one after the other. It is good for one pass."""

    def __init__(self, path: Path, *, max_megapixels: float, first: Opened) -> None:
        self.header: Header = first.header
        """The first page without its pixels; those of a TIFF may differ in size and kind, frames never do."""

        self.animation: Animation | None = first.animation
        """How the frames follow each other; None for pages, and for a single picture."""

        self.unread: int = first.unread
        """How many more frames an animated PNG or AVIF holds: only the first can be read."""

        self._path = path
        self._directories = first.directories
        self._count = first.pages
        self._max_megapixels = max_megapixels

    def headers(self) -> list[Header]:
        """Return every page's header, so that what is wrong with the last is known before the first is read.

        Raises what `open` raises.
        """
        if self.animation is not None:
            return [self.header] * self._count
        return [self.header, *(self.open(page).header for page in range(1, self._count))]

    def open(self, page: int) -> Source:
        """Open one of them, as `crispen.images.open` does, but without another search for it."""
        opened = _opened(
            self._path, max_megapixels=self._max_megapixels, page=page, directories=self._directories
        )
        return Source(self._path, opened)

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __iter__(self) -> Iterator[Picture]:
        """Read one after the other; raises what `read` raises."""
        if self.animation is None:
            for page in range(self._count):
                yield _whole(self.open(page))
            return
        # A frame builds on those before it: all are read in one go, as one tall picture.
        opened = _opened(self._path, max_megapixels=self._max_megapixels, page=None)
        source = Source(self._path, opened)
        for frame in source.strips(self.header.height):
            yield _with_header(frame, self.header)


@contextmanager
def open(  # named like the builtin, as in `tarfile` and `gzip`
    path: str | os.PathLike[str], *, max_megapixels: float = _MAX_MEGAPIXELS, page: int = 0
) -> Generator[Source]:
    """Open a picture to be read a strip at a time.

    ``max_megapixels`` is checked against the header, before anything is decoded. ``page`` counts the pages of
    a TIFF and the frames of an animation from 0.

    Raises `PictureError` where the file is missing, unreadable, empty, no picture, too large, has channels that
    a picture cannot have or no such page; `Source.rows` raises for the rest.
    """
    path = Path(path)
    yield Source(path, _opened(path, max_megapixels=max_megapixels, page=page))


def read(path: str | os.PathLike[str], *, max_megapixels: float = _MAX_MEGAPIXELS, page: int = 0) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF, GIF, AVIF, BMP, PPM or PFM file; HEIC and JPEG XL where libvips can.

    The arguments are those of `open`.

    Raises `PictureError` where the file is missing, unreadable, empty, no picture, damaged, cut short, too
    large, or has channels or values that a picture cannot have.
    """
    with open(path, max_megapixels=max_megapixels, page=page) as source:
        return _whole(source)


@contextmanager
def open_pages(path: str | os.PathLike[str], *, max_megapixels: float = _MAX_MEGAPIXELS) -> Generator[Pages]:
    """Open a file to go through all its pages or frames; a single picture is one page.

    The levels of a TIFF pyramid are no pages. Each page is held to ``max_megapixels``. Raises what `open` does.
    """
    path = Path(path)
    first = _opened(path, max_megapixels=max_megapixels, page=0)
    yield Pages(path, max_megapixels=max_megapixels, first=first)


def _whole(source: Source) -> Picture:
    return _with_header(source.rows(source.header.height), source.header)


def _with_header(picture: Picture, header: Header) -> Picture:
    return replace(picture, attachments=header.attachments, resolution=header.resolution)


def _opened(
    path: Path, *, max_megapixels: float, page: int | None, directories: Sequence[Directory] = ()
) -> Opened:
    """Open with the reader for the file's first bytes; page None is all frames below each other.

    ``directories`` are those of a page that was opened before.
    """
    try:
        start = _start_of(path)
        if _is_film(start):
            raise PictureError(
                f"{shown(path)} is a film, not a picture: films are for crispen.films.enlarge, and for crispen upscale"
                " on the command line where their names end as films' do"
            )
        loader = _loader_for(start)
        if loader is not None:
            return open_with_libvips(
                path, loader, max_megapixels=max_megapixels, page=page, directories=directories
            )
        if start.startswith(_netpbm.MAGICS) and start[2:3].isspace():
            opened = _netpbm.open_netpbm(path)
        elif start.startswith(_bmp.MAGIC):
            opened = _bmp.open_bmp(path)
        else:
            raise PictureError(f"{shown(path)} is not a picture of a known kind ({KINDS})")
    except FileNotFoundError:
        raise PictureError(f"{shown(path)} does not exist") from None
    except OSError as error:
        raise PictureError(f"{shown(path)} cannot be read: {error.strerror}") from error
    if page:
        raise no_such_page(path, page, 1)
    check_size(path, opened.header.width, opened.header.height, max_megapixels=max_megapixels)
    return opened


def _start_of(path: Path) -> bytes:
    """Return the file's first bytes; see `read` for what is raised."""
    if path.is_dir():
        raise PictureError(f"{shown(path)} is a folder, not a picture")
    with path.open("rb") as file:
        start = file.read(_STARTING_BYTES)
    if not start:
        raise PictureError(f"{shown(path)} is empty")
    return start


def _is_film(start: bytes) -> bool:
    kind, brand = start[4:8], start[8:12]
    branded = kind == b"ftyp" and brand.startswith(_FILM_BRANDS)
    return branded or start.startswith(_MATROSKA) or brand == _AVI


def _loader_for(start: bytes) -> str | None:
    """Name libvips' loader for a file that starts with these bytes."""
    found = [loader for magic, loader in _LOADER_OF.items() if start.startswith(magic)]
    found += [loader for magic, loader in _LOADER_AFTER_LENGTH.items() if magic in (start[4:8], start[8:12])]
    return found[0] if found else None
