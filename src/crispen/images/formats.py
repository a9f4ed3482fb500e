"""What each file format can hold, and how libvips is told to write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from crispen.errors import UsageError
from crispen.images._iptc import iptc_for_jpeg, iptc_for_tiff
from crispen.images._vips import vips
from crispen.images.picture import Header

_CLASSIC_TIFF_BYTES = 4e9  # offsets of 32 bits end at 4.29e9; the rest is for what does not compress
_JPEG_SIDE = 65_500

# Where there is more, libvips (8.18) drops all of it without a word: EXIF, to which libexif adds a little, and what has
# to fit into a segment of a JPEG. EXIF in a TIFF is written here.
_ROOM = {"exif-data": 65_000}
_ROOM_IN_JPEG = {"exif-data": 65_000, "xmp-data": 60_000, "iptc-data": 65_500}
_ROOM_IN_TIFF = {"exif-data": 1 << 20}

_PYRAMID_SHARE = 4 / 3  # 1 + 1/4 + 1/16 + ...
_TIFF_COMPRESSIONS = ("deflate", "lzw", "none", "jpeg")
_CODECS = {"AVIF": "av1", "HEIC": "hevc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a picture is to be written, where its file's name does not say it.

    Raises `UsageError` for values that no format takes; what one format does not take, the writing refuses.
    """

    format: str | None = None
    """One of `FORMATS`, such as "jpeg"; None is what the suffix says."""

    quality: int | None = None
    """1 (worst) to 100, for lossy formats; None is the format's own default, 95 (AVIF and HEIC: 85)."""

    lossless: bool = False
    """Whether every pixel must be kept exactly, in a format that can also be lossy."""

    compression: str | None = None
    """For TIFF: "deflate" (the default), "lzw", "none", or "jpeg", which is lossy and has 8 bits and no alpha."""

    pyramid: bool = False
    """For TIFF: whether to write tiles, and all of the picture again at 1/2, 1/4 ... of its size."""

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"format must be one of {', '.join(FORMATS)}, not {self.format!r}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"quality must be from 1 to 100, not {self.quality}")
        if self.compression not in (None, *_TIFF_COMPRESSIONS):
            raise UsageError(
                f"compression must be one of {', '.join(_TIFF_COMPRESSIONS)}, not {self.compression!r}"
            )
        if self.lossless and (self.quality is not None or self.compression == "jpeg"):
            raise UsageError("lossless leaves no room for a quality or for JPEG compression")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What a file format can hold, and how libvips is told to write it."""

    name: str
    """As it stands in a sentence."""

    suffixes: tuple[str, ...]
    """The first is the usual one."""

    depths: tuple[int, ...]
    """In bits; 16 stands for 12 in AVIF, and for 10 (or 12, lossless) in HEIC."""

    max_side: int = 1_000_000
    """The longest side, in pixels: libpng's limit, which is enough for those that have none."""

    saver: str | None = None
    """libvips' operation; None is written here."""

    options: Callable[[Encoding, Header], dict[str, Any]] = lambda encoding, header: {}
    """The operation's options."""

    lossy: bool = False
    """Whether a quality makes sense."""

    lossless: bool = True
    """Whether every pixel can be kept exactly."""

    alpha: bool = True
    """Whether it holds an alpha channel."""

    gray: tuple[int, ...] = (8, 16, 32)
    """The depths at which it holds one channel."""

    colour: bool = True
    """Whether it holds three channels."""

    profile: bool = True
    """Whether it holds an ICC profile for the channels that it has."""

    iptc: Callable[[bytes], bytes | None] | None = None
    """Puts IPTC into the form that the format wants; None is a format that holds none."""

    frames: bool = False
    """Whether it holds several pictures."""

    room: Mapping[str, int] = field(default_factory=dict[str, int], hash=False)
    """How many bytes it holds of a kind of metadata, where there is a limit."""

    pages: bool = False
    """Whether these may differ in size, channels and depth."""


# Measured with a 1920x1280 photograph on two cores: level 2 with Paeth filters takes 0.11 s and 3.5 MB;
# libvips' default (level 6, no filters) 0.12 s and 5.4 MB; level 6 with all filters 0.23 s and 3.3 MB;
# level 1 with Paeth filters 0.07 s and 4.8 MB.
def _png(encoding: Encoding, header: Header) -> dict[str, Any]:
    return {"compression": 2, "filter": "paeth"}


# Full colour resolution: halving it would throw away sharpness that has just been paid for. Optimised coding
# would save 3 %, but need 2 GB of memory for 16000x12000 pixels.
def _jpeg(encoding: Encoding, header: Header) -> dict[str, Any]:
    return {"Q": encoding.quality or 95, "subsample_mode": "off"}


# Lossy by default, as whoever asks for WebP wants a small file: 0.7 MB at 42.6 dB where lossless takes 2.4. A
# lossy WebP has half the colour resolution; smart_subsample makes the best of that. Effort 4, libvips' default,
# is slower by a tenth or more and no smaller.
def _webp(encoding: Encoding, header: Header) -> dict[str, Any]:
    if encoding.lossless:
        return {"lossless": True, "exact": True, "effort": 2}
    return {"Q": encoding.quality or 95, "smart_subsample": True, "effort": 2}


# Measured with 12 megapixels of photographs: level 2 takes 0.35 s and 15.1 MB, level 6, libvips' default, 0.93 s
# and 13.8 MB, and LZW 0.48 s and 15.0 MB.
def _tiff(encoding: Encoding, header: Header) -> dict[str, Any]:
    options: dict[str, Any] = {
        "compression": encoding.compression or "deflate",
        "predictor": "float" if header.bit_depth == 32 else "horizontal",
        "bigtiff": needs_big_tiff([header], encoding),
    }
    if options["compression"] == "deflate":
        options["level"] = 2
    if encoding.compression == "jpeg":
        options["Q"] = encoding.quality or 95
    if encoding.pyramid or (encoding.compression == "jpeg" and header.width > _JPEG_SIDE):
        options |= {"tile": True, "tile_width": 256, "tile_height": 256}
    return options | {"pyramid": encoding.pyramid}


def needs_big_tiff(headers: Iterable[Header], encoding: Encoding) -> bool:
    """Tell whether pages may take so much together that a TIFF needs offsets of 64 bits."""
    pixels = metadata = 0
    for header in headers:
        channels = header.channels + header.has_alpha
        pixels += header.height * header.width * channels * header.bit_depth // 8
        metadata += sum(map(len, header.attachments.values()))
    return pixels * (_PYRAMID_SHARE if encoding.pyramid else 1) + metadata > _CLASSIC_TIFF_BYTES


def _tiff_iptc(data: bytes) -> bytes | None:
    """Return the records, and three times as many zeros.

    libvips hands libtiff a quarter of the length, as a number of 4-byte values, which libtiff takes for bytes.
    """
    records = iptc_for_tiff(data)
    return records and records + bytes(3 * len(records))


def _avif(encoding: Encoding, header: Header) -> dict[str, Any]:
    options = {"compression": "av1", "bitdepth": 8 if header.bit_depth == 8 else 12, "effort": 3}
    if encoding.lossless:
        return options | {"lossless": True}
    return options | {"Q": encoding.quality or 85, "subsample_mode": "off"}


# As telephones write it, with half the resolution of colour and 10 bits at most, since those who want HEIC want it
# for them: Apple's decoders show 4:4:4 wrongly at many sizes, and do not open 12 bits (libheif's issues 661, 373).
def _heic(encoding: Encoding, header: Header) -> dict[str, Any]:
    deep = 12 if encoding.lossless else 10
    options = {"compression": "hevc", "bitdepth": 8 if header.bit_depth == 8 else deep, "effort": 3}
    if encoding.lossless:
        return options | {"lossless": True}
    return options | {"Q": encoding.quality or 85, "subsample_mode": "on"}


def _jxl(encoding: Encoding, header: Header) -> dict[str, Any]:
    return {"lossless": True} if encoding.lossless else {"Q": encoding.quality or 95}


def _gif(encoding: Encoding, header: Header) -> dict[str, Any]:
    return {"dither": 1.0, "effort": 7}


FORMATS: dict[str, Format] = {
    "png": Format(name="PNG", suffixes=(".png",), depths=(8, 16), saver="pngsave", options=_png, room=_ROOM),
    "jpeg": Format(
        name="JPEG", suffixes=(".jpg", ".jpeg"), depths=(8,), saver="jpegsave", options=_jpeg,
        max_side=_JPEG_SIDE, lossy=True, lossless=False, alpha=False, iptc=iptc_for_jpeg,
        room=_ROOM_IN_JPEG,
    ),
    "webp": Format(
        name="WebP", suffixes=(".webp",), depths=(8,), saver="webpsave", options=_webp,
        max_side=16_383, lossy=True, gray=(), frames=True, room=_ROOM,
    ),
    "tiff": Format(
        name="TIFF", suffixes=(".tif", ".tiff"), depths=(8, 16, 32), saver="tiffsave", options=_tiff,
        iptc=_tiff_iptc, frames=True, pages=True, room=_ROOM_IN_TIFF,
    ),
    "avif": Format(
        name="AVIF", suffixes=(".avif",), depths=(8, 16), saver="heifsave", options=_avif,
        max_side=16_384, lossy=True, gray=(), room=_ROOM,
    ),
    "heic": Format(
        name="HEIC", suffixes=(".heic", ".heif"), depths=(8, 16), saver="heifsave", options=_heic,
        max_side=16_384, lossy=True, gray=(), room=_ROOM,
    ),
    "jxl": Format(
        name="JPEG XL", suffixes=(".jxl",), depths=(8, 16, 32), saver="jxlsave", options=_jxl,
        lossy=True, room=_ROOM, gray=(8, 16),  # libvips writes gray floats as zeros and ones
    ),
    "gif": Format(
        name="GIF", suffixes=(".gif",), depths=(8,), saver="gifsave", options=_gif,
        max_side=65_535, lossless=False, gray=(), profile=False, frames=True,
    ),
    "ppm": Format(name="PPM", suffixes=(".ppm",), depths=(8, 16), alpha=False, gray=(), profile=False),
    "pgm": Format(name="PGM", suffixes=(".pgm",), depths=(8, 16), alpha=False, colour=False, profile=False),
    "pnm": Format(name="PNM", suffixes=(".pnm",), depths=(8, 16), alpha=False, profile=False),
    "pfm": Format(name="PFM", suffixes=(".pfm",), depths=(32,), alpha=False, profile=False),
}  # fmt: skip
"""The formats that are written, by the names that `Encoding` takes."""

# libvips would take more, and leave out the alpha channel, and take floats for linear light.
_TIFF_OF_JPEGS = replace(
    FORMATS["tiff"], name="TIFF with JPEG compression", depths=(8,), alpha=False, lossy=True, lossless=False
)

SUFFIXES = tuple(suffix for form in FORMATS.values() for suffix in form.suffixes)
"""The suffixes of the files that are written, in small letters; capitals do as well."""


def format_for(suffix: str, encoding: Encoding) -> Format | None:
    """Return the format that is to be written to a file with this suffix; None where nothing says which."""
    suffix = suffix.lower()
    if encoding.format is not None:
        form = FORMATS[encoding.format]
    else:
        form = next((form for form in FORMATS.values() if suffix in form.suffixes), None)
    return _TIFF_OF_JPEGS if form is FORMATS["tiff"] and encoding.compression == "jpeg" else form


def check_encoding(form: Format, encoding: Encoding) -> None:
    """Raise `UsageError` where the format does not take what is asked of it."""
    if encoding.lossless and not form.lossless:
        raise UsageError(f"{form.name} cannot be lossless; PNG, WebP, TIFF and AVIF can")
    if encoding.quality is not None and not form.lossy:
        raise UsageError(f"{form.name} takes no quality: JPEG, WebP, AVIF and TIFF with JPEG compression do")
    if (encoding.pyramid or encoding.compression) and not form.pages:
        raise UsageError(f"{form.name} has neither pyramids nor a choice of compressions; TIFF has both")


@cache
def missing_part(form: Format) -> str | None:
    """Say what the installed libvips would need to write the format; None where nothing is missing."""
    if form.saver is None:
        return None
    if not vips().type_find("VipsOperation", form.saver):
        return f"the installed libvips was built without {form.name}"
    codec = _CODECS.get(form.name)
    try:  # libheif finds its encoders when they are called
        if codec is not None:
            black = vips().Image.black(16, 16, bands=3).copy(interpretation="srgb")
            black.heifsave_buffer(compression=codec)
    except vips().Error:
        return f"the installed libvips has no encoder for {form.name}"
    return None
