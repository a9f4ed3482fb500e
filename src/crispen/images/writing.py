"""Write a picture to a file: whole or not at all, and with everything that the format can hold.

===========  =====================  =====  ===  ====  ===  ====  ==========
suffix       depths                 alpha  ICC  EXIF  XMP  IPTC  resolution
===========  =====================  =====  ===  ====  ===  ====  ==========
.png         8, 16 (float as 16)    yes    yes  yes   yes  no    yes
.jpg         8                      no     yes  yes   yes  yes   yes
.webp        8, gray as RGB         yes    yes  yes   yes  no    in EXIF
.tif         8, 16, float           yes    yes  yes   yes  yes   yes
.avif        8, 12, gray as RGB     yes    yes  yes   yes  no    in EXIF
.heic        8, 10, gray as RGB     yes    yes  yes   yes  no    in EXIF
.jxl         8, 16, float (in RGB)  yes    yes  yes   yes  no    in EXIF
.gif         8, palette             1 bit  no   no    no   no    no
.ppm .pgm    8, 16                  no     no   no    no   no    no
.pfm         float                  no     no   no    no   no    no
===========  =====================  =====  ===  ====  ===  ====  ==========

What a format cannot hold of the metadata is left out; where it has too little room for EXIF, XMP or IPTC, their
largest parts, but never the statement that a model enlarged the picture. A colour profile is never just left out:
where it cannot be kept the pixels are converted to sRGB, so that they look the same. Nor is alpha: where the format
has none that is an error, unless all of it is opaque. JPEG, WebP, AVIF, HEIC and JPEG XL are lossy unless
`Encoding` says otherwise. A lossy WebP or HEIC also halves the resolution of colour, and a lossy WebP drops the
colours of what is fully transparent; a lossless HEIC has 12 bits in place of 10. With JPEG compression a TIFF has 8
bits and no alpha.

The pages of a TIFF keep each their own size, channels, depth and metadata. Frames of a GIF or a WebP have one size.

Memory does not grow with the picture where `write_rows` is given strips, except for WebP, AVIF, HEIC, JPEG XL and
GIF, whose encoders want all of it. For a pyramid libvips keeps the smaller levels in the system's folder for
temporary files (``TMPDIR``) until the end.

A camera's MakerNote is kept but mostly moves within the EXIF. libvips' parser, libexif, puts right what refers to
places inside the notes of Canon, Nikon, Olympus, Pentax, Fuji, Casio and Apple (not in a TIFF, which it does not
write); those of others stay byte for byte, so that such references may be off by as much as they have moved, which
readers like ExifTool notice and correct (its option ``-F`` does for good).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from crispen.errors import PictureError, UsageError
from crispen.files import check_replaceable
from crispen.images import _netpbm, _xmp
from crispen.images._iptc import iptc_within
from crispen.images._metadata import true
from crispen.images._opened import Animation
from crispen.images._paths import shown
from crispen.images._publishing import exists, published, said_of_writing, set_aside
from crispen.images._saving import is_resized, save
from crispen.images._tiff_exif import exif_within
from crispen.images._tiff_pages import Document
from crispen.images.colour import in_srgb
from crispen.images.formats import (
    SUFFIXES,
    Encoding,
    Format,
    check_encoding,
    format_for,
    missing_part,
    needs_big_tiff,
)
from crispen.images.picture import DTYPE_OF, WHITE_OF, Header, Picture, Pixels, to_depth
from crispen.images.provenance import STATED
from crispen.images.resizing import NO_OVERHANG, Overhang, resized

_DEFAULT = Encoding()
_PROFILE = "icc-profile-data"


def write(
    picture: Picture, path: str | os.PathLike[str], *, force: bool = False, encoding: Encoding = _DEFAULT
) -> None:
    """Write ``picture`` to ``path``, in the format that the suffix (`SUFFIXES`) or ``encoding`` names.

    The file appears whole or not at all. An existing one is replaced only with ``force``, and so is one that
    appears during the writing. A symbolic link is followed.

    Raises `UsageError` for an unknown suffix and an encoding that the format does not have, and `PictureError`
    where the file exists, cannot be written, or the format cannot hold the picture's size or alpha.
    """
    check_destination(path, force=force, picture=picture, encoding=encoding)
    write_rows(picture.header, [picture], path, force=force, encoding=encoding)


def write_rows(
    header: Header,
    strips: Iterable[Picture],
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    overhang: Overhang = NO_OVERHANG,
    binary_alpha: bool = False,
    force: bool = False,
    encoding: Encoding = _DEFAULT,
) -> None:
    """Write a picture that is still being made: ``strips`` are its rows, from top to bottom.

    Strips may be of any height, have the header's width, channels, bit depth and alpha, and need no attachments;
    one must not be changed before the next but one is asked for. They are drawn in the caller's thread, while
    others encode those before. ``size``, (width, height), is what the picture is resized to on its way, as by
    `crispen.images.resized`, ``overhang`` is what is cut off of it, and ``binary_alpha`` says that alpha is 0 or full
    everywhere and must be so afterwards: of strips nobody can tell in time.

    Raises what `write` raises, `UsageError` for strips that are not as the header says, and whatever ``strips``
    raises; then nothing has been written.
    """
    path = Path(path)
    result = header if size is None else replace(header, width=size[0], height=size[1])
    check_destination(path, force=force, picture=result, encoding=encoding)
    form = _form(path, encoding)
    written = _written(result, form)
    rows = _fitted(_as_announced(strips, header), path, encoding, header, written)
    with published(path, force=force) as temporary:
        if form.saver is None:
            rows = _resized(rows, header, written, overhang)
            _netpbm.write_netpbm(rows, temporary, written, path=path)
        else:
            save(
                rows, temporary, written, path=path, drawn=header, overhang=overhang, form=form, encoding=encoding,
                binary_alpha=binary_alpha,
            )  # fmt: skip


def write_pages(
    headers: Sequence[Header],
    pages: Iterable[Picture],
    path: str | os.PathLike[str],
    *,
    animation: Animation | None = None,
    force: bool = False,
    encoding: Encoding = _DEFAULT,
) -> None:
    """Write the pages of a TIFF, or the frames of an animated GIF or WebP, each as its header says.

    Pages may differ in size, in channels, depth and alpha, and in metadata. Frames have one size; they get what one of
    them needs, and the metadata of the first. ``animation`` says how they follow each other.

    Raises what `check_pages` raises, `UsageError` for pictures that are not as their headers say, and whatever
    ``pages`` raises; then nothing has been written.
    """
    path = Path(path)
    check_pages(path, headers, force=force, encoding=encoding)
    announced = _as_all_announced(pages, headers)
    with published(path, force=force) as temporary:
        if _form(path, encoding).pages:
            _write_document(headers, announced, temporary, path=path, encoding=encoding)
        else:
            _write_frames(headers, announced, temporary, path=path, encoding=encoding, animation=animation)


def check_destination(
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    picture: Picture | Header | None = None,
    scale: float = 1,
    encoding: Encoding = _DEFAULT,
) -> None:
    """Raise what `write` would raise, before an hour has been spent on the pixels.

    ``picture``, enlarged by ``scale``, is what will be written, as far as it is known. Whether an alpha channel
    is opaque only a `Picture` tells; for a `Header` that is not judged.
    """
    path = Path(path)
    header = picture.header if isinstance(picture, Picture) else picture
    form = _form(path, encoding)
    try:
        _check_place(path, force=force)
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise PictureError(f"{shown(path)} cannot be written: {error.strerror}") from error
    missing = missing_part(form)
    if missing is not None:
        raise PictureError(f"{shown(path)} cannot be written: {missing}; WebP and PNG are there")
    if header is not None:
        _check_shape(header, path, form, scale=scale)
    if isinstance(picture, Picture):
        check_alpha(path, opaque=_is_opaque(picture), encoding=encoding)


def check_pages(
    path: str | os.PathLike[str],
    headers: Sequence[Header],
    *,
    force: bool = False,
    encoding: Encoding = _DEFAULT,
) -> None:
    """Raise what `write_pages` would raise: what `check_destination` does of each page, and what differs too much.

    Raises `UsageError` for a format that holds a single picture.
    """
    path = Path(path)
    for header in headers:
        check_destination(path, force=force, picture=header, encoding=encoding)
    form = _form(path, encoding)
    if len(headers) > 1 and not form.frames:
        raise UsageError(f"{form.name} holds a single picture; GIF, WebP and TIFF hold several")
    sizes = list(dict.fromkeys(f"{header.width}x{header.height}" for header in headers))
    if len(sizes) > 1 and not form.pages:
        raise PictureError(
            f"{shown(path)} cannot be written: all frames of a {form.name} have one size, and here are some of"
            f" {sizes[0]} and some of {sizes[1]} pixels; a TIFF has pages of any size"
        )


def check_format(path: str | os.PathLike[str], encoding: Encoding = _DEFAULT) -> None:
    """Raise `UsageError` where neither the suffix nor ``encoding`` name a format, or that has no such encoding."""
    _form(Path(path), encoding)


def check_alpha(path: str | os.PathLike[str], *, opaque: bool, encoding: Encoding = _DEFAULT) -> None:
    """Raise what `write` would raise of a picture of which something can be seen through, unless it is ``opaque``."""
    form = _form(Path(path), encoding)
    if not (form.alpha or opaque):
        raise PictureError(
            f"{shown(Path(path))} cannot be written: {form.name} has no transparency, and the picture has;"
            " PNG, WebP and TIFF keep it"
        )


def shortened(path: str | os.PathLike[str], header: Header, encoding: Encoding = _DEFAULT) -> tuple[str, ...]:
    """Name the metadata whose largest parts are left out of a picture with this header: there is no room for all."""
    form = _form(Path(path), encoding)
    told = _true(header, form)
    fits = {name: _xmp.fits if name == "xmp-data" else _is_within for name in form.room}
    return tuple(
        name.removesuffix("-data").upper()
        for name, room in form.room.items()
        if name in told and not fits[name](told[name], room)
    )


def holds_alpha(path: str | os.PathLike[str], encoding: Encoding = _DEFAULT) -> bool:
    """Tell whether the format that the suffix or ``encoding`` names holds an alpha channel."""
    return _form(Path(path), encoding).alpha


def holds_frames(path: str | os.PathLike[str], encoding: Encoding = _DEFAULT) -> bool:
    """Tell whether the format that the suffix or ``encoding`` names holds several pages or frames."""
    return _form(Path(path), encoding).frames


def _form(path: Path, encoding: Encoding) -> Format:
    form = format_for(path.suffix, encoding)
    if form is None:
        found = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise UsageError(f"{shown(path)} {found}, but must end in one of {', '.join(SUFFIXES)}")
    check_encoding(form, encoding)
    return form


def _check_place(path: Path, *, force: bool) -> None:
    """Refuse what is taken or nowhere."""
    if path.is_dir():
        raise PictureError(f"{shown(path)} is a folder, so no picture can be written there")
    check_replaceable(path, error=PictureError)
    if not path.parent.is_dir():
        raise PictureError(f"{shown(path)} cannot be written: there is no folder {shown(path.parent)}")
    if path.exists() and not force:
        raise exists(path)


def _check_shape(header: Header, path: Path, form: Format, *, scale: float) -> None:
    """Refuse a side or colours that the format cannot hold."""
    height, width = round(header.height * scale), round(header.width * scale)
    if max(height, width) > form.max_side:
        raise PictureError(
            f"{shown(path)} cannot be written: {form.name} holds at most {form.max_side} pixels a side,"
            f" and the picture is {width}x{height}; PNG and TIFF hold more"
        )
    if header.channels == 3 and not form.colour:
        raise PictureError(
            f"{shown(path)} cannot be written: {form.name} has no colours, and the picture has; PPM keeps them"
        )


def _is_opaque(picture: Picture) -> bool:
    return picture.alpha is None or bool(np.all(picture.alpha == WHITE_OF[picture.bit_depth]))


def _write_frames(
    headers: Sequence[Header],
    frames: Iterable[Iterable[Picture]],
    temporary: Path,
    *,
    path: Path,
    encoding: Encoding,
    animation: Animation | None,
) -> None:
    """Write frames below each other, which libvips takes apart again."""
    form = _form(path, encoding)
    common = _for_all(headers)
    written = _written(common, form)
    rows = (
        row
        for header, frame in zip(headers, frames, strict=True)
        for row in _fitted(frame, path, encoding, header, written)
    )
    save(
        rows,
        temporary,
        written,
        path=path,
        drawn=common,
        overhang=NO_OVERHANG,
        form=form,
        encoding=encoding,
        count=len(headers),
        animation=animation,
    )


def _write_document(
    headers: Sequence[Header],
    pages: Iterable[Iterable[Picture]],
    temporary: Path,
    *,
    path: Path,
    encoding: Encoding,
) -> None:
    """Write each page as a TIFF, and append it to the first. The levels of a pyramid lie within their page."""
    form = _form(path, encoding)
    everything = [_written(header, form) for header in headers]
    options: dict[str, Any] = {"bigtiff": needs_big_tiff(everything, encoding), "subifd": encoding.pyramid}

    def write(to: Path, header: Header, page: Iterable[Picture], written: Header) -> None:
        rows = _fitted(page, path, encoding, header, written)
        save(
            rows, to, written, path=path, drawn=header, overhang=NO_OVERHANG, form=form, encoding=encoding, **options
        )  # fmt: skip

    left = zip(headers, pages, everything, strict=True)
    write(temporary, *next(left))
    document = Document(temporary)
    for page in left:
        with set_aside(temporary, path=path) as part:
            write(part, *page)
            with said_of_writing(path):
                document.append(part)


def _for_all(headers: Sequence[Header]) -> Header:
    """Return the header of frames of one size: what any of them needs, and of the metadata what the first has.

    A profile goes where it is not that of all.
    """
    first = headers[0]
    attachments = dict(first.attachments)
    if any(header.attachments.get(_PROFILE) != first.attachments.get(_PROFILE) for header in headers):
        attachments.pop(_PROFILE, None)
    return replace(
        first,
        channels=max(header.channels for header in headers),
        bit_depth=max(header.bit_depth for header in headers),
        has_alpha=any(header.has_alpha for header in headers),
        attachments=attachments,
    )


def _written(header: Header, form: Format) -> Header:
    """Return the header as the format can hold it."""
    depth = _depth(header, form)
    return replace(
        header,
        bit_depth=depth,
        channels=header.channels if depth in form.gray else 3,
        has_alpha=header.has_alpha and form.alpha,
        attachments=_kept(header, form),
    )


def _depth(header: Header, form: Format) -> int:
    return next((depth for depth in form.depths if depth >= header.bit_depth), max(form.depths))


def _is_converted(header: Header, form: Format) -> bool:
    """Tell whether the colours must become sRGB, as the format cannot hold the profile that they are meant by."""
    becomes_colour = header.channels == 1 and _depth(header, form) not in form.gray
    return _PROFILE in header.attachments and (not form.profile or becomes_colour)


def _kept(header: Header, form: Format) -> dict[str, bytes]:
    """Return the attachments that the format holds, in its own form, and true of this size and resolution."""
    kept: dict[str, bytes] = {}
    if _PROFILE in header.attachments and not _is_converted(header, form):
        kept[_PROFILE] = header.attachments[_PROFILE]
    for name, data in _true(header, form).items():
        fitting = _within(name, data, form.room[name]) if name in form.room else data
        if fitting:
            kept[name] = fitting
    return kept


def _true(header: Header, form: Format) -> dict[str, bytes]:
    """Return what the attachments say besides colours, true of this size and resolution, as large as it is."""
    iptc = form.iptc(header.attachments.get("iptc-data", b"")) if form.iptc else None
    return true(header) | ({"iptc-data": iptc} if iptc else {})


def _is_within(data: bytes, room: int) -> bool:
    return len(data) <= room


def _within(name: str, data: bytes, room: int) -> bytes | None:
    """Return as much of an attachment as there is room for: its largest parts go first."""
    if name == "xmp-data":
        return _xmp.within(data, room, kept=STATED)
    return exif_within(data, room) if name == "exif-data" else iptc_within(data, room)


def _as_announced(strips: Iterable[Picture], header: Header) -> Iterator[Picture]:
    """Pass the strips on; raise `UsageError` for one that does not fit the header, and where rows are missing."""
    announced = (header.width, header.channels, header.bit_depth, header.has_alpha)
    rows = 0
    for strip in strips:
        found = (strip.width, strip.pixels.shape[2], strip.bit_depth, strip.alpha is not None)
        rows += strip.height
        if found != announced:
            raise UsageError(
                f"a strip has (width, channels, bit depth, alpha) {found}, but its picture has {announced}"
            )
        if rows > header.height:
            break
        yield strip
    if rows != header.height:
        raise UsageError(f"the strips have {rows} rows or more, but their picture has {header.height}")


def _as_all_announced(pages: Iterable[Picture], headers: Sequence[Header]) -> Iterator[Iterator[Picture]]:
    """Pass each page on, as `_as_announced` does; raise `UsageError` where there are not as many as headers."""
    count = 0
    for page in pages:
        count += 1
        if count > len(headers):
            break
        yield _as_announced([page], headers[count - 1])
    if count != len(headers):
        raise UsageError(f"there are {count} pages or more, but {len(headers)} headers")


def _fitted(
    strips: Iterable[Picture], path: Path, encoding: Encoding, header: Header, written: Header
) -> Iterator[Pixels]:
    """Yield each strip as (n, W, C), alpha last, as it is to be written."""
    profile = header.attachments.get(_PROFILE) if _PROFILE not in written.attachments else None
    for strip in strips:
        check_alpha(path, opaque=_is_opaque(strip), encoding=encoding)
        pixels = strip.pixels if profile is None else in_srgb(strip.pixels, profile)
        pixels = to_depth(_with_channels(pixels, written.channels), written.bit_depth)
        if written.has_alpha:
            pixels = cast(Pixels, np.concatenate([pixels, _alpha_of(strip, written.bit_depth)], axis=2))
        yield pixels


def _alpha_of(strip: Picture, bit_depth: int) -> Pixels:
    """Return (H, W, 1), opaque where the strip has no alpha."""
    if strip.alpha is None:
        shape = (strip.height, strip.width, 1)
        return cast(Pixels, np.full(shape, WHITE_OF[bit_depth], DTYPE_OF[bit_depth]))
    return to_depth(strip.alpha, bit_depth)[..., np.newaxis]


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return gray as three equal channels where three are wanted, and one of three equal ones where one is."""
    if pixels.shape[2] == channels:
        return pixels
    return pixels[..., :1] if channels == 1 else cast(Pixels, np.repeat(pixels, channels, axis=2))


def _resized(rows: Iterable[Pixels], drawn: Header, written: Header, overhang: Overhang) -> Iterable[Pixels]:
    """Resize what libvips does not write; for that it is held as a whole."""
    if not is_resized(drawn, written, overhang):
        return rows
    whole = Picture(pixels=cast(Pixels, np.concatenate(list(rows))))
    return [resized(whole, width=written.width, height=written.height, overhang=overhang).pixels]
