"""What libvips decodes: its image of a file as a header and rows."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError
from crispen.images._altered import Change, altered
from crispen.images._frames import stated_frames
from crispen.images._lab import as_rgb, in_srgb
from crispen.images._metadata import ATTACHMENTS, stated, upright
from crispen.images._nclx import states_display_p3
from crispen.images._opened import Animation, FetchRows, Opened, check_size, no_such_page
from crispen.images._paths import shown
from crispen.images._tiff_exif import exif_of_tiff
from crispen.images._tiff_pages import Directory, as_only_page, page_directories
from crispen.images._vips import because, to_srgb, vips
from crispen.images._ycbcr import in_rgb
from crispen.images.picture import Header

if TYPE_CHECKING:
    from pyvips import Image, Region

_TIFF = "tiffload_source"
_ABSENT = {"jxlload_source": "JPEG XL"}
_TURN_THEMSELVES = ("heifload_source", "jxlload_source")  # and are not to be believed what EXIF says on it
_DTYPE_OF = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_DISPLAYED = ("b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb", "multiband")
_MM_PER_INCH, _MM_PER_CENTIMETRE = 25.4, 10.0
_BLOCK = 64  # rows fetched at a time: what libvips holds at once
_TURNED_IN_MEMORY = 256 << 20  # bytes; what is larger is turned through a temporary file


def open_with_libvips(
    path: Path,
    loader: str,
    *,
    max_megapixels: float,
    page: int | None,
    directories: Sequence[Directory] = (),
) -> Opened:
    """Read the header with one of libvips' loaders; page None is all frames below each other.

    ``directories`` are those of a page that was opened before, whose animation is then known, too.

    Raises `PictureError`, as `Opened.fetch` will.
    """
    if not vips().type_find("VipsOperation", loader):
        kind = _ABSENT.get(loader, loader)
        raise PictureError(f"{shown(path)} is {kind}, which cannot be read: convert it to PNG or JPEG")
    with _said_of(path, loader, "has a damaged or unsupported header"):
        image, animation = None, None
        if not directories:
            image = _load_first(path, loader)
            directories = _pages(path, loader, image)
            animation = _animation(image, len(directories))
        pages = len(directories)
        if not 0 <= (page or 0) < pages:
            raise no_such_page(path, page or 0, pages)
        directory = directories[page or 0]
        if page is None:
            image = _without_orientation(_load(path, loader, n=-1))
        elif image is None or page:
            image = _load_page(path, loader, directory)
        if loader == _TIFF:
            image = in_rgb(path, directory.at, image)
        image = _as_displayed(_with_stated_colours(path, loader, image))
    _check_header(path, image, max_megapixels=max_megapixels * (pages if page is None else 1))
    exif = _tiff_exif(path, directory) if loader == _TIFF else None
    header = _header(image, exif=exif)
    return Opened(
        header=header,
        fetch=_rows(path, loader, image),
        pages=pages,
        directories=directories,
        animation=animation,
        unread=max(0, stated_frames(path, loader) - pages),
    )


@contextmanager
def _said_of(path: Path, loader: str, fault: str) -> Generator[None]:
    """Turn an error of libvips into one sentence, with the reason where that is sure to be of this file."""
    vips().vips_lib.vips_error_clear()  # or the reason could be that of an earlier file
    with _ATTEMPTS.one() as attempt:
        try:
            yield
        except vips().Error as error:
            # libheif names the missing decoder, and at the first pixel only.
            if loader == "heifload_source" and "HEVC" in error.detail:
                raise PictureError(
                    f"{shown(path)} is HEIC, which cannot be read: convert it to JPEG or PNG"
                ) from error
            reason = because(error) if attempt.is_alone else ""
            raise PictureError(f"{shown(path)} {fault}{reason}") from error


@dataclass(slots=True)
class _Attempt:
    """Something that may fail, and whether nothing else might have failed meanwhile."""

    is_alone: bool


class _Attempts:
    """Which threads are reading: libvips keeps the errors of all threads in one text."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._going_on: list[_Attempt] = []

    @contextmanager
    def one(self) -> Generator[_Attempt]:
        with self._lock:
            attempt = _Attempt(not self._going_on)
            for other in self._going_on:
                other.is_alone = False
            self._going_on.append(attempt)
        try:
            yield attempt
        finally:
            with self._lock:
                self._going_on = [other for other in self._going_on if other is not attempt]


_ATTEMPTS = _Attempts()


def _load(path: Path, loader: str, **options: int) -> Image:
    """Read the header; without ``fail_on`` the missing half of a file would later be gray."""
    pyvips = vips()
    source = pyvips.Source.new_from_file(os.fsencode(path))
    return pyvips.Operation.call(loader, source, access="sequential", fail_on="error", **options)


def _load_first(path: Path, loader: str) -> Image:
    """Read the header of the first page, or the only one, which says how many there are."""
    if loader != _TIFF:
        return _load(path, loader)
    with path.open("rb") as file:
        first = page_directories(file, 1)[0]
    return _load_tiff(path, first, [])


def _load_page(path: Path, loader: str, directory: Directory) -> Image:
    """Read the header of a page that is known."""
    if loader != _TIFF:
        return _load(path, loader, page=directory.number)
    return _load_tiff(path, directory, as_only_page(path, directory))


def _load_tiff(path: Path, directory: Directory, only: Sequence[Change]) -> Image:
    """Read the header of a TIFF's page, of which ``only`` makes the first."""
    lab = as_rgb(path, directory.at)
    page = 0 if only else directory.number
    if not (lab or only):
        return _load(path, _TIFF, page=page)
    source = altered(path, [*only, *lab])
    image = vips().Image.new_from_source(source, "", access="sequential", fail_on="error", page=page)
    return in_srgb(image) if lab else image


def _tiff_exif(path: Path, directory: Directory) -> bytes | None:
    with path.open("rb") as file:
        return exif_of_tiff(file, directory=directory.at)


def _pages(path: Path, loader: str, image: Image) -> Sequence[Directory]:
    """Return where the pages or frames are, as libvips knows them; the levels of a pyramid are none."""
    count = int(cast(int, image.get("n-pages"))) if "n-pages" in image.get_fields() else 1
    if loader != _TIFF:
        return [Directory(number) for number in range(count)]
    with path.open("rb") as file:
        return page_directories(file, count)


def _animation(image: Image, pages: int) -> Animation | None:
    """Return how the frames follow each other, where there are several, and the file tells."""
    fields = image.get_fields()
    if pages == 1 or "delay" not in fields:
        return None
    delays = tuple(cast("list[int]", image.get("delay")))
    loop = cast(int, image.get("loop")) if "loop" in fields else 0
    return Animation(delays=(delays + delays[-1:] * pages)[:pages], loop=loop)


def _without_orientation(image: Image) -> Image:
    """Frames below each other cannot be turned; no browser turns an animation either."""
    image = image.copy()
    if "orientation" in image.get_fields():
        image.remove("orientation")
    return image


def _with_stated_colours(path: Path, loader: str, image: Image) -> Image:
    """Attach the profile of colours that libvips leaves unsaid."""
    has_profile = "icc-profile-data" in image.get_fields()
    if loader != "heifload_source" or has_profile or not states_display_p3(path):
        return image
    image = image.copy()
    image.set_type(vips().GValue.blob_type, "icc-profile-data", vips().Image.profile_load("p3"))
    return image


def _check_header(path: Path, image: Image, *, max_megapixels: float) -> None:
    """Refuse what is too large, or has samples or channels that a picture cannot have."""
    check_size(path, image.width, image.height, max_megapixels=max_megapixels)
    if image.format not in _DTYPE_OF:
        raise PictureError(
            f"{shown(path)} holds samples of type {image.format}, but must hold 8 or 16 bit, or floats"
        )
    if image.bands - image.hasalpha() not in (1, 3):
        raise PictureError(
            f"{shown(path)} has {image.bands} channels,"
            " but must be gray, RGB, CMYK or Lab, with or without alpha"
        )


def _as_displayed(image: Image) -> Image:
    """Convert to gray or RGB, once it is decoded; the profile of anything else does not hold for that."""
    if image.interpretation in _DISPLAYED:
        return image
    image = to_srgb(image).copy()
    image.remove("icc-profile-data")
    return image


def _header(image: Image, *, exif: bytes | None) -> Header:
    """Return the header of the picture that `_rows` returns; ``exif`` is what libvips has not found."""
    lies_on_its_side = _is_turned(image) and cast(int, image.get("orientation")) >= 5
    height, width = (image.width, image.height) if lies_on_its_side else (image.height, image.width)
    across, down = _resolution(image)
    return Header(
        height=height,
        width=width,
        channels=image.bands - image.hasalpha(),
        bit_depth=8 * np.dtype(_DTYPE_OF[str(image.format)]).itemsize,
        has_alpha=image.hasalpha(),
        attachments=_attachments(image, exif=exif),
        resolution=stated(down, across) if lies_on_its_side else stated(across, down),
    )


def _attachments(image: Image, *, exif: bytes | None) -> dict[str, bytes]:
    """Return the metadata, as it is true of the pixels that `_rows` returns."""
    fields = image.get_fields()
    found = {name: cast(bytes, image.get(name)) for name in ATTACHMENTS if name in fields}
    if exif is not None:
        found["exif-data"] = exif
    is_upright_by_now = _is_turned(image) or image.get("vips-loader") in _TURN_THEMSELVES
    return upright(found) if is_upright_by_now else found


def _is_turned(image: Image) -> bool:
    return "orientation" in image.get_fields() and cast(int, image.get("orientation")) > 1


def _resolution(image: Image) -> tuple[float, float]:
    """Return pixels per millimetre, across and down, as the file has them before it is turned.

    WebP, AVIF and HEIC have them only in EXIF, where libvips does not look.
    """
    fields = image.get_fields()
    if image.get("vips-loader") not in ("webpload_source", "heifload_source"):
        return image.xres, image.yres
    if "exif-ifd0-XResolution" not in fields or "exif-ifd0-YResolution" not in fields:
        return 0, 0
    unit = cast(str, image.get("exif-ifd0-ResolutionUnit")) if "exif-ifd0-ResolutionUnit" in fields else "2"
    per_mm = 1 / _MM_PER_CENTIMETRE if unit.startswith(("3", "Centimet")) else 1 / _MM_PER_INCH
    across, down = (cast(str, image.get(f"exif-ifd0-{side}Resolution")) for side in "XY")
    return _fraction(across) * per_mm, _fraction(down) * per_mm


def _fraction(text: str) -> float:
    """Read the start of libvips' way to show a fraction: "300/1 (300, Rational, 1 components, 8 bytes)"."""
    match = re.match(r"(\d+)/(\d+)", text)
    return int(match[1]) / int(match[2]) if match and int(match[2]) else 0.0


def _rows(path: Path, loader: str, image: Image) -> FetchRows:
    """Return a function that decodes downwards: the first call, not this one, starts the work."""
    started: list[tuple[Image, Region]] = []

    def fetch(top: int, count: int) -> NDArray[Any]:
        with _said_of(path, loader, "is damaged or cut short"):
            if not started:
                turned = _upright(image)
                started.append((turned, vips().Region.new(turned)))
            return _fetch(*started[0], top, count)

    return fetch


def _fetch(image: Image, region: Region, top: int, count: int) -> NDArray[Any]:
    """Return rows (n, W, C), alpha last."""
    rows = np.empty((count, image.width, image.bands), _DTYPE_OF[str(image.format)])
    for start in range(0, count, _BLOCK):
        block = rows[start : start + _BLOCK]
        data = region.fetch(0, top + start, image.width, len(block))
        block[:] = np.frombuffer(data, rows.dtype).reshape(block.shape)
    return rows if _bits(image) in (8, 16, 32) else _filled(rows, _bits(image))


def _bits(image: Image) -> int:
    """Return how many bits of a HEIF's samples are used; libvips moves them to the top."""
    if image.format != "ushort" or "heif-compression" not in image.get_fields():
        return 16
    return cast(int, image.get("bits-per-sample"))


def _filled(rows: NDArray[Any], bits: int) -> NDArray[Any]:
    """Repeat the upper bits in the lower ones, so that white is 65535."""
    return rows | rows >> bits


def _upright(image: Image) -> Image:
    """Turn the picture as its tag asks. A file is decoded downwards, turning needs all of it."""
    if not _is_turned(image):
        return image
    size = image.width * image.height * image.bands * np.dtype(_DTYPE_OF[str(image.format)]).itemsize
    if size <= _TURNED_IN_MEMORY:
        return image.copy_memory().autorot()
    on_disk = vips().Image.new_temp_file("%s.v")
    image.write(on_disk)
    return on_disk.autorot()
