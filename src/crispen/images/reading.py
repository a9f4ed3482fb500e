"""Read a picture from a file, with everything that has to survive, or say in one sentence why not.

=============================  =======================================================================
in the file                    in the `Picture`
=============================  =======================================================================
8 or 16 bit, float             uint8, uint16, float32: by the file's format, never by its values
1, 2 or 4 bit                  uint8, black 0, white 255
gray                           one channel
palette                        three channels (a PNG's gray palette too)
CMYK, Lab                      sRGB, through the embedded profile or libvips' own; the profile is dropped
alpha, a transparent colour    `alpha`; a TIFF's colours are divided by it where they had been multiplied
orientation tag                applied to the pixels; EXIF and XMP then say "upright"
ICC profile, EXIF, XMP, IPTC   `attachments`
several pages or frames        the first
float beyond [0, 1]            clipped where it is a filter's ringing, otherwise refused, as NaN is
=============================  =======================================================================
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError
from crispen.images._metadata import ATTACHMENTS, stated, upright
from crispen.images._vips import because, to_srgb, vips
from crispen.images.picture import Picture, to_unit

if TYPE_CHECKING:
    from pyvips import Image

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
    b"P4": "ppmload_source",
    b"P5": "ppmload_source",
    b"P6": "ppmload_source",
}
_LOADER_AFTER_LENGTH = {b"WEBP": "webpload_source", b"ftyp": "heifload_source"}
_HEADER_BYTES = 12
KINDS = "PNG, JPEG, WebP, TIFF, GIF or AVIF"
"""What `read` reads, in words; HEIC is not among it, as the libvips that pip installs has no decoder for it."""

_DTYPE_OF = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_DISPLAYED = ("b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb", "multiband")


def read(path: str | os.PathLike[str], *, max_megapixels: float = 1000.0) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF, GIF or AVIF file; HEIC and PPM too where libvips was built with them.

    ``max_megapixels`` is checked against the header, before anything is decoded. The pixels lie in libvips'
    memory and are not copied.

    Raises `PictureError` where the file is missing, unreadable, empty, no picture, damaged, cut short, too
    large, or has channels or values that a picture cannot have.
    """
    path = Path(path)
    loader = _loader_of(path)
    with _said_of(path, "has a damaged or unsupported header"):
        image = _open(path, loader)
        image = _as_displayed(image)
    _check_header(path, image, max_megapixels=max_megapixels)
    with _said_of(path, "is damaged or cut short"):
        array = _decode(image)  # (H, W, C)
    if array.dtype.kind == "f":
        array = to_unit(array, subject=str(path), error=PictureError)
    pixels, alpha = (array[..., :-1], array[..., -1]) if image.hasalpha() else (array, None)
    return Picture(pixels=pixels, alpha=alpha, attachments=_attachments(image), resolution=_resolution(image))


def _loader_of(path: Path) -> str:
    """Name the libvips loader for the file's first bytes; see `read` for what is raised."""
    if path.is_dir():
        raise PictureError(f"{path} is a folder, not a picture")
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise PictureError(f"{path} does not exist") from None
    except OSError as error:
        raise PictureError(f"{path} cannot be read: {error.strerror}") from error
    if not start:
        raise PictureError(f"{path} is empty")
    found = [loader for magic, loader in _LOADER_OF.items() if start.startswith(magic)]
    found += [loader for magic, loader in _LOADER_AFTER_LENGTH.items() if magic in (start[4:8], start[8:12])]
    if not found or not vips().type_find("VipsOperation", found[0]):
        raise PictureError(f"{path} is not a picture of a known kind ({KINDS})")
    return found[0]


@contextmanager
def _said_of(path: Path, fault: str) -> Generator[None]:
    """Turn an error of libvips into one sentence."""
    vips().vips_lib.vips_error_clear()  # or the reason could be that of an earlier file
    try:
        yield
    except vips().Error as error:
        if "HEVC" in error.detail:  # libheif names the missing decoder, and at the first pixel only
            raise PictureError(f"{path} is HEIC, which cannot be read: convert it to JPEG or PNG") from error
        raise PictureError(f"{path} {fault}{because(error)}") from error


def _open(path: Path, loader: str) -> Image:
    """Read the header; without ``fail_on`` the missing half of a file would later be gray."""
    pyvips = vips()
    source = pyvips.Source.new_from_file(os.fsencode(path))
    return pyvips.Operation.call(loader, source, access="sequential", fail_on="error")


def _check_header(path: Path, image: Image, *, max_megapixels: float) -> None:
    """Refuse what is too large, or has samples or channels that a picture cannot have."""
    if image.width * image.height > max_megapixels * 1e6:
        raise PictureError(
            f"{path} says that it is {image.width}x{image.height} pixels,"
            f" above the limit of {max_megapixels:g} megapixels"
        )
    if image.format not in _DTYPE_OF:
        raise PictureError(
            f"{path} holds samples of type {image.format}, but must hold 8 or 16 bit, or floats"
        )
    if image.bands - image.hasalpha() not in (1, 3):
        raise PictureError(
            f"{path} has {image.bands} channels, but must be gray, RGB, CMYK or Lab, with or without alpha"
        )


def _as_displayed(image: Image) -> Image:
    """Convert to gray or RGB, once it is decoded; the profile of anything else does not hold for that."""
    if image.interpretation in _DISPLAYED:
        return image
    image = to_srgb(image).copy()
    image.remove("icc-profile-data")
    return image


def _attachments(image: Image) -> dict[str, bytes]:
    """Return the metadata, as it is true of the pixels that `_decode` returns."""
    fields = image.get_fields()
    found = {name: cast(bytes, image.get(name)) for name in ATTACHMENTS if name in fields}
    return upright(found) if _is_turned(image) else found


def _resolution(image: Image) -> tuple[float, float] | None:
    """Return pixels per millimetre, of the pixels that `_decode` returns."""
    lies_on_its_side = _is_turned(image) and cast(int, image.get("orientation")) >= 5
    return stated(image.yres, image.xres) if lies_on_its_side else stated(image.xres, image.yres)


def _is_turned(image: Image) -> bool:
    return "orientation" in image.get_fields() and cast(int, image.get("orientation")) > 1


def _decode(image: Image) -> NDArray[Any]:
    """Decode and turn upright: (H, W, C) with alpha, if any, as the last channel."""
    if _is_turned(image):
        image = image.copy_memory().autorot()  # a file is decoded downwards, turning needs all of it
    dtype = _DTYPE_OF[str(image.format)]
    return np.frombuffer(image.write_to_memory(), dtype).reshape(image.height, image.width, image.bands)
