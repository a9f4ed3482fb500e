"""Write a picture to a file: whole or not at all, and with everything that the format can hold.

========  ====================  =====  ===  ====  ===  ====  ==========
suffix    depths                alpha  ICC  EXIF  XMP  IPTC  resolution
========  ====================  =====  ===  ====  ===  ====  ==========
.png      8, 16 (float as 16)   yes    yes  yes   yes  no    yes
.jpg      8                     no     yes  yes   yes  (1)   yes
.webp     8, gray as RGB        yes    yes  yes   yes  no    no
.tif      8, 16, float          yes    yes  no    yes  no    yes
========  ====================  =====  ===  ====  ===  ====  ==========

(1) From a JPEG: other formats hold it in another form.

What a format cannot hold of the metadata, or libvips not write, is left out. Alpha is never left out: writing
it as JPEG is an error, unless all of it is opaque. JPEG and WebP are lossy, at quality 95; WebP also halves
the resolution of colour and drops the colours of what is fully transparent.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crispen.errors import PictureError, UsageError
from crispen.images._metadata import ATTACHMENTS, PHOTOSHOP
from crispen.images._vips import because, vips
from crispen.images.picture import WHITE_OF, Picture, Pixels, to_depth

if TYPE_CHECKING:
    from pyvips import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """What a file format can hold, and how libvips is told to write it."""

    name: str
    saver: str
    options: dict[str, Any]
    depths: tuple[int, ...]
    alpha: bool
    max_side: int


# Measured with a 1920x1280 photograph on two cores: level 2 with Paeth filters takes 0.11 s and 3.5 MB;
# libvips' default (level 6, no filters) 0.12 s and 5.4 MB; level 6 with all filters 0.23 s and 3.3 MB;
# level 1 with Paeth filters 0.07 s and 4.8 MB.
_PNG = _Format(
    name="PNG",
    saver="pngsave",
    options={"compression": 2, "filter": "paeth"},
    depths=(8, 16),
    alpha=True,
    max_side=1_000_000,  # libpng's limit
)
# Full colour resolution: halving it would throw away sharpness that has just been paid for. Optimised coding
# would save 3 %, but need 2 GB of memory for 16000x12000 pixels.
_JPEG = _Format(
    name="JPEG",
    saver="jpegsave",
    options={"Q": 95, "subsample_mode": "off"},
    depths=(8,),
    alpha=False,
    max_side=65_500,
)
# Lossy, as whoever asks for WebP wants a small file: 0.7 MB at 42.6 dB where lossless takes 2.4. A lossy WebP
# has half the colour resolution; smart_subsample makes the best of that. Effort 4, libvips' default, is
# slower by a tenth or more and no smaller.
_WEBP = _Format(
    name="WebP",
    saver="webpsave",
    options={"Q": 95, "smart_subsample": True, "effort": 2},
    depths=(8,),
    alpha=True,
    max_side=16_383,
)
_TIFF = _Format(
    name="TIFF",
    saver="tiffsave",
    options={"compression": "deflate"},
    depths=(8, 16, 32),
    alpha=True,
    max_side=1_000_000,
)
_FORMAT_OF = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
}

SUFFIXES = tuple(_FORMAT_OF)
"""The suffixes of the files that `write` writes, in small letters; capitals do as well."""

_SAMPLES = {8: "uchar", 16: "ushort", 32: "float"}
_BYTES_OF = {"uchar": 1, "ushort": 2, "float": 4}
_GRAY_INTERPRETATION = {8: "b-w", 16: "grey16", 32: "b-w"}
_RGB_INTERPRETATION = {8: "srgb", 16: "rgb16", 32: "scrgb"}
_UNSTATED_RESOLUTION = 72 / 25.4  # what a file says that has nothing to say
_KEEP_EXIF, _KEEP_XMP_IPTC_ICC = 1, 2 | 4 | 8  # VipsForeignKeep
_CLASSIC_TIFF_BYTES = 4e9  # offsets of 32 bits end at 4.29e9; the rest is for what does not compress


def write(picture: Picture, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write ``picture`` to ``path``, in the format that the suffix names (`SUFFIXES`).

    The file appears whole or not at all. An existing one is replaced only with ``force``, and so is one that
    appears during the writing. A symbolic link is followed.

    Raises `UsageError` for an unknown suffix, and `PictureError` where the file exists, cannot be written, or
    the format cannot hold the picture's size or alpha.
    """
    path = Path(path)
    check_destination(path, force=force, picture=picture)
    form = _FORMAT_OF[path.suffix.lower()]
    with _published(path, force=force) as temporary:
        image = _assemble(picture, form)
        saver = getattr(image, form.saver)
        saver(os.fsencode(temporary), keep=_keep(picture), **_options(image, form))


def check_destination(
    path: str | os.PathLike[str], *, force: bool = False, picture: Picture | None = None, scale: int = 1
) -> None:
    """Raise what `write` would raise, before an hour has been spent on the pixels.

    ``picture``, enlarged by ``scale``, is what will be written, as far as it is known.
    """
    path = Path(path)
    form = _FORMAT_OF.get(path.suffix.lower())
    if form is None:
        found = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise UsageError(f"{path} {found}, but must end in one of {', '.join(SUFFIXES)}")
    try:
        _check_place(path, force=force)
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise PictureError(f"{path} cannot be written: {error.strerror}") from error
    if picture is not None:
        _check_fit(picture, path, form, scale=scale)


def _check_place(path: Path, *, force: bool) -> None:
    """Refuse what is taken or nowhere."""
    if path.is_dir():
        raise PictureError(f"{path} is a folder, so no picture can be written there")
    if not path.parent.is_dir():
        raise PictureError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not force:
        raise _exists(path)


def _check_fit(picture: Picture, path: Path, form: _Format, *, scale: int) -> None:
    """Refuse what the format cannot hold."""
    height, width = picture.height * scale, picture.width * scale
    if max(height, width) > form.max_side:
        raise PictureError(
            f"{path} cannot be written: {form.name} holds at most {form.max_side} pixels a side,"
            f" and the picture is {width}x{height}; PNG and TIFF hold more"
        )
    if not form.alpha and not _is_opaque(picture):
        raise PictureError(
            f"{path} cannot be written: {form.name} has no transparency, and the picture has;"
            " PNG, WebP and TIFF keep it"
        )


def _is_opaque(picture: Picture) -> bool:
    return picture.alpha is None or bool(np.all(picture.alpha == WHITE_OF[picture.bit_depth]))


def _exists(path: Path) -> PictureError:
    return PictureError(f"{path} exists already; it is replaced only with force")


def _assemble(picture: Picture, form: _Format) -> Image:
    """Return a libvips image of the picture, at a depth that the format holds, with its metadata."""
    depth = min(picture.bit_depth, max(form.depths))
    image = _wrap(to_depth(picture.pixels, depth))
    if picture.alpha is not None and form.alpha:
        image = image.bandjoin(_wrap(to_depth(picture.alpha[..., np.newaxis], depth)))
    across, down = picture.resolution or (_UNSTATED_RESOLUTION, _UNSTATED_RESOLUTION)
    interpretations = _GRAY_INTERPRETATION if picture.pixels.shape[2] == 1 else _RGB_INTERPRETATION
    _attach(image, _kept(picture, form))
    # Only now, as libvips takes resolution and orientation from EXIF that is attached; writing the file, it
    # brings the EXIF up to date with these and with the size.
    image = image.copy(interpretation=interpretations[depth], xres=across, yres=down)
    image.set_type(vips().GValue.gint_type, "orientation", 1)
    return image


def _wrap(pixels: Pixels) -> Image:
    """Wrap (H, W, C) without copying it, unless it is a view of something wider."""
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    data = np.ascontiguousarray(pixels).data
    return vips().Image.new_from_memory(data, width, height, channels, _SAMPLES[depth])


def _attach(image: Image, attachments: Mapping[str, bytes]) -> None:
    for name, data in attachments.items():
        image.set_type(vips().GValue.blob_type, name, cast(Any, data))  # pyvips' stub leaves out bytes


def _kept(picture: Picture, form: _Format) -> dict[str, bytes]:
    """Return what the format can hold; a profile that is not for its channels is left out by libvips."""
    kept = {name: picture.attachments[name] for name in ATTACHMENTS if name in picture.attachments}
    if form is not _JPEG or not kept.get("iptc-data", b"").startswith(PHOTOSHOP):
        kept.pop("iptc-data", None)  # libvips would write three quarters less of it into a TIFF
    return kept


def _keep(picture: Picture) -> int:
    """Tell libvips what to write: EXIF of its own only where a JPEG needs it, to hold the resolution."""
    needed = "exif-data" in picture.attachments or picture.resolution is not None
    return _KEEP_XMP_IPTC_ICC | _KEEP_EXIF if needed else _KEEP_XMP_IPTC_ICC


def _options(image: Image, form: _Format) -> dict[str, Any]:
    """Return how libvips is to write this image, as far as that depends on its type and size."""
    if form is not _TIFF:
        return form.options
    size = image.width * image.height * image.bands * _BYTES_OF[str(image.format)]
    predictor = "float" if image.format == "float" else "horizontal"
    return form.options | {"predictor": predictor, "bigtiff": size > _CLASSIC_TIFF_BYTES}


@contextmanager
def _published(path: Path, *, force: bool) -> Generator[Path]:
    """Yield a temporary file beside ``path``, which becomes it at the end, and is gone after any failure."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".crispen-{secrets.token_hex(8)}{target.suffix}")
    vips().vips_lib.vips_error_clear()
    try:
        temporary.open("xb").close()  # "x": it is ours alone, were another process to draw the same name
        try:
            yield temporary
            _publish(temporary, target, force=force)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error.strerror}") from error
    except vips().Error as error:
        raise PictureError(f"{path} cannot be written{because(error)}") from error


def _publish(temporary: Path, target: Path, *, force: bool) -> None:
    """Give the finished file its name; without ``force`` only if the name is still free."""
    if force:
        with suppress(FileNotFoundError):
            shutil.copymode(target, temporary)  # replacing a private file leaves it private
        temporary.replace(target)
        return
    try:
        target.hardlink_to(temporary)  # unlike a rename, fails where the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name, then replace the claim
        target.open("xb").close()
        temporary.replace(target)
