"""Pictures from NumPy arrays and PIL images, and back to the same kind.

PIL is optional, and imported by nothing but `from_pil` and `to_pil`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import MissingExtra, PictureError, UsageError
from crispen.images._metadata import stated, true
from crispen.images._vips import to_srgb, vips
from crispen.images.picture import Picture, Pixels, to_depth, to_unit

if TYPE_CHECKING:
    from PIL import Image

_MM_PER_INCH = 25.4
_PIL_INFO = {"icc_profile": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data"}
_PIL_GRAY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_PIL_ARRAYS = ("L", "LA", "RGB", "RGBA", "I", "F", *_PIL_GRAY_16)
_PIL_CONVERTED = {
    "1": "L",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
    "HSV": "RGB",
}
_PIL_RESTORED = ("I", "La", "RGBX", "RGBa", "YCbCr", "HSV")


def from_array(array: NDArray[Any]) -> Picture:
    """Take an array for a picture; memory is shared where the type allows it.

    ``array`` is (H, W) or (H, W, C): C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; uint8, uint16, or
    float16, float32, float64 in [0, 1]. Floats beyond by less than `OVERSHOOT` are clipped.

    Raises `UsageError` for any other shape or type, for NaN, and for floats further out.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or array.size == 0 or array.shape[2:] not in ((), (1,), (2,), (3,), (4,)):
        raise UsageError(
            f"a picture must be an array of shape (H, W) or (H, W, C) with C from 1 to 4, not {array.shape}"
        )
    pixels = _with_known_dtype(array if array.ndim == 3 else array[..., np.newaxis])
    if pixels.shape[2] in (2, 4):
        return Picture(pixels=pixels[..., :-1], alpha=pixels[..., -1])
    return Picture(pixels=pixels)


def _with_known_dtype(array: NDArray[Any]) -> Pixels:
    """Return the array as uint8, uint16 or float32, in this machine's byte order."""
    name = array.dtype.name
    if name in ("uint8", "uint16"):
        return cast(Pixels, array.astype(name, copy=False))
    if name in ("float16", "float32", "float64"):
        return to_unit(array, subject="the array", error=UsageError)
    raise UsageError(f"a picture must be an array of uint8, uint16, or floats in [0, 1], not {name}")


def to_array(picture: Picture, *, like: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the pixels, with alpha as the last channel: (H, W, C), C from 1 to 4.

    With ``like``, an array that `from_array` takes, the result has its number of dimensions and its dtype.
    Raises `UsageError` where ``like`` has other channels than the picture.
    """
    array = _joined(picture, bit_depth=picture.bit_depth)
    if like is None:
        return array
    channels = 1 if like.ndim == 2 else like.shape[2]
    if channels != array.shape[2]:
        raise UsageError(f"a picture of {array.shape[2]} channels cannot be like an array of {channels}")
    depth = 32 if like.dtype.kind == "f" else 8 * like.dtype.itemsize
    return to_depth(array, depth).astype(like.dtype, copy=False).reshape(array.shape[: like.ndim])


def _joined(picture: Picture, *, bit_depth: int) -> Pixels:
    """Return pixels and alpha in one array (H, W, C)."""
    pixels = to_depth(picture.pixels, bit_depth)
    if picture.alpha is None:
        return pixels
    alpha = to_depth(picture.alpha, bit_depth)[..., np.newaxis]
    return cast(Pixels, np.concatenate([pixels, alpha], axis=2))


def is_pil(image: object) -> bool:
    """Tell whether ``image`` is a PIL image, without importing PIL."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def from_pil(image: Image.Image) -> Picture:
    """Take a PIL image for a picture, turned upright as its EXIF says.

    L, LA, RGB, RGBA are 8 bit; I;16 is 16 bit, and so is I, PIL's older name for that; F is float in [0, 1].
    P, 1 and a transparent colour become RGB, RGBA, L or LA, and CMYK becomes sRGB: what they hold too little
    of, an enlarged picture needs. ICC profile (except CMYK's), EXIF, XMP and dpi are kept.

    Raises `UsageError` for other modes and for values out of range, `PictureError` for a damaged file.
    """
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
    except OSError as error:  # PIL decodes now, not when it opened the file
        raise PictureError(f"the PIL image cannot be decoded: {error}") from error
    picture = from_array(_cmyk_as_rgb(image) if image.mode == "CMYK" else _pil_as_array(image))
    info = {ours: image.info.get(theirs) for theirs, ours in _PIL_INFO.items()}
    if image.mode == "CMYK":
        del info["icc-profile-data"]
    attachments = {name: data for name, data in info.items() if isinstance(data, bytes)}
    return replace(picture, attachments=attachments, resolution=_pil_resolution(image.info.get("dpi")))


def _pil_resolution(dpi: object) -> tuple[float, float] | None:
    """Return pixels per millimetre, where PIL's entry, which anybody may set, is a pair of numbers or one for both."""
    try:
        across, down = (
            float(side) for side in cast(Any, dpi if isinstance(dpi, tuple | list) else (dpi, dpi))
        )
    except (TypeError, ValueError, OverflowError):
        return None
    return stated(across / _MM_PER_INCH, down / _MM_PER_INCH)


def _pil_as_array(image: Image.Image) -> NDArray[Any]:
    """Return (H, W) or (H, W, C) of a dtype that `from_array` takes."""
    mode = _PIL_CONVERTED.get(image.mode, image.mode)
    if mode not in _PIL_ARRAYS:
        raise UsageError(f"a PIL image of mode {image.mode} cannot be enlarged: convert it to RGB first")
    if "transparency" in image.info and mode in ("L", "RGB"):
        mode = {"L": "LA", "RGB": "RGBA"}[mode]
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    if mode != "I":
        return array
    if array.min() < 0 or array.max() > 65535:
        raise UsageError("a PIL image of mode I must hold values from 0 to 65535, as 16-bit files do")
    return array.astype(np.uint16)


def _cmyk_as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Convert as `read` does, through the profile; PIL's own conversion knows none."""
    pyvips = vips()
    ink = pyvips.Image.new_from_memory(image.tobytes(), image.width, image.height, 4, "uchar")
    ink = ink.copy(interpretation="cmyk")
    profile = image.info.get("icc_profile")
    if profile:
        ink.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return cast("NDArray[np.uint8]", to_srgb(ink).numpy())


def to_pil(picture: Picture, *, like: Image.Image | None = None) -> Image.Image:
    """Return a PIL image: L, LA, RGB or RGBA, and I;16 or F for gray without alpha of 16 bit or floats.

    PIL has no mode for other pictures of more than 8 bit, which are rounded to that. With ``like``, an image
    that `from_pil` took, the result has its mode where that can hold what an enlarged picture needs. EXIF and XMP
    are made true of its size and resolution.

    Raises `MissingExtra` where PIL is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingExtra("to_pil needs PIL, which is not installed: pip install pillow") from error

    gray = picture.pixels.shape[2] == 1
    array = _joined(picture, bit_depth=picture.bit_depth if gray and picture.alpha is None else 8)
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if like is not None and like.mode in _PIL_RESTORED:
        image = image.convert(like.mode)
    profile = picture.attachments.get("icc-profile-data")
    kept = true(picture.header) | ({"icc-profile-data": profile} if profile else {})
    image.info |= {theirs: kept[ours] for theirs, ours in _PIL_INFO.items() if ours in kept}
    if picture.resolution is not None:
        image.info["dpi"] = tuple(_MM_PER_INCH * density for density in picture.resolution)
    return image
