"""What libvips is told, for it to write rows as a file says they are: size, meaning of the samples, metadata."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from crispen.images._opened import Animation
from crispen.images._publishing import said_of_writing
from crispen.images._stream import save_rows
from crispen.images._tiff_exif import add_exif_to_tiff
from crispen.images._vips import vips
from crispen.images.formats import Encoding, Format
from crispen.images.picture import Header, Pixels
from crispen.images.resizing import NO_OVERHANG, Overhang, fitted

if TYPE_CHECKING:
    from pyvips import Image

_GRAY_INTERPRETATION = {8: "b-w", 16: "grey16", 32: "b-w"}
_RGB_INTERPRETATION = {8: "srgb", 16: "rgb16", 32: "scrgb"}
_UNSTATED_RESOLUTION = 72 / 25.4  # what a file says that has nothing to say
_KEEP_EXIF, _KEEP_XMP_IPTC_ICC = 1, 2 | 4 | 8  # VipsForeignKeep


def save(
    rows: Iterable[Pixels],
    temporary: Path,
    written: Header,
    *,
    path: Path,
    drawn: Header,
    overhang: Overhang,
    form: Format,
    encoding: Encoding,
    binary_alpha: bool = False,
    count: int = 1,
    animation: Animation | None = None,
    **options: Any,
) -> None:
    """Let libvips write the rows of ``count`` frames, each of the size of ``drawn``, as ``written`` says.

    ``binary_alpha`` is for those that are resized; see `crispen.images.resizing.fitted`.
    ``options`` are for libvips, and count more than those that the format has.
    """
    size = replace(written, height=written.height * count)
    options = form.options(encoding, size) | {"keep": _keep(written)} | options

    def write(image: Image) -> None:
        if is_resized(drawn, written, overhang):
            image = fitted(
                image,
                width=written.width,
                height=written.height,
                bit_depth=written.bit_depth,
                has_alpha=written.has_alpha,
                binary_alpha=binary_alpha,
                overhang=overhang,
            )
        complete = _complete(image, written, count=count, animation=animation)
        with said_of_writing(path):
            getattr(complete, cast(str, form.saver))(os.fsencode(temporary), **options)

    channels = written.channels + written.has_alpha
    save_rows(
        rows,
        write,
        height=drawn.height * count,
        width=drawn.width,
        channels=channels,
        bit_depth=written.bit_depth,
    )
    if form.saver == "tiffsave" and "exif-data" in written.attachments:
        with said_of_writing(path), temporary.open("r+b") as file:
            add_exif_to_tiff(file, written.attachments["exif-data"])


def _complete(image: Image, written: Header, *, count: int, animation: Animation | None) -> Image:
    """Say what the samples mean, and attach everything beside them."""
    values = vips().GValue
    across, down = written.resolution or (_UNSTATED_RESOLUTION, _UNSTATED_RESOLUTION)
    interpretations = _GRAY_INTERPRETATION if written.channels == 1 else _RGB_INTERPRETATION
    image = image.copy()
    _attach(image, written.attachments)
    # Only now, as libvips takes resolution and orientation from EXIF that is attached; writing the file, it
    # brings the EXIF up to date with these and with the size.
    image = image.copy(interpretation=interpretations[written.bit_depth], xres=across, yres=down)
    image.set_type(values.gint_type, "orientation", 1)
    if count > 1:
        image.set_type(values.gint_type, "page-height", written.height)
    if animation is not None:
        image.set_type(values.array_int_type, "delay", list(animation.delays))
        image.set_type(values.gint_type, "loop", animation.loop)
    return image


def _attach(image: Image, attachments: Mapping[str, bytes]) -> None:
    for name, data in attachments.items():
        image.set_type(vips().GValue.blob_type, name, cast(Any, data))  # pyvips' stub leaves out bytes


def _keep(written: Header) -> int:
    """Tell libvips what to write: EXIF of its own only where it is needed to hold the resolution."""
    needed = "exif-data" in written.attachments or written.resolution is not None
    return _KEEP_XMP_IPTC_ICC | _KEEP_EXIF if needed else _KEEP_XMP_IPTC_ICC


def is_resized(drawn: Header, written: Header, overhang: Overhang) -> bool:
    """Tell whether frames of the size of ``drawn`` are to be written in another."""
    return (drawn.width, drawn.height, overhang) != (written.width, written.height, NO_OVERHANG)
