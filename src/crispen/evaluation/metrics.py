"""PSNR and SSIM as the super-resolution field measures them.

Numbers of different papers can be compared only where the details below agree, so they are fixed here and a
report repeats them in words (`crispen.evaluation.protocol`):

- every picture is brought to the range 0..255: 8-bit values as they are, 16-bit ones divided by 257, floats
  in [0, 1] times 255. The data range of both metrics is 255;
- ``channel="luma"`` measures the Y of ITU-R BT.601 in its studio range 16..235, with the constants of
  MATLAB's ``rgb2ycbcr``, but does not round it;
- a gray picture stands for one with three equal channels, hence its luma too is compressed into 16..235.

So measured, bicubic x4 has 28.43, 26.09 and 25.96 dB on Set5, Set14 and BSD100, and an SSIM of .8111 on Set5.
Tables often say 28.42, 26.00, 25.96 and .8104: there, luma was rounded to 8 bit, reduced without rounding,
and enlarged alone, and gray values were taken as luma. So done we get these numbers too (a test does it).

SSIM is that of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
structural similarity", IEEE TIP 2004, in the form of their MATLAB ``ssim_index``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from crispen import images
from crispen.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

Comparable: TypeAlias = "NDArray[Any] | Image.Image"
Channel = Literal["luma", "rgb"]
Plane = NDArray[np.float64]

DATA_RANGE = 255.0
WINDOW = 11
SIGMA = 1.5
C1, C2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2

_LUMA_OFFSET = 16.0
LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255
"""BT.601's, of red, green and blue in 8 bits, as in MATLAB's rgb2ycbcr."""


def psnr(sr: Comparable, hr: Comparable, *, crop_border: int = 0, channel: Channel = "luma") -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures.

    Args:
        sr: (H, W), (H, W, 1) or (H, W, 3) of uint8, uint16, or floating in [0, 1]; or a PIL image.
        hr: what ``sr`` is measured against, of the same shape and type.
        crop_border: how many pixels to leave out along every edge.
        channel: "luma", or "rgb" for the error over all channels.

    Raises:
        UsageError: for pictures that cannot be compared so.
    """
    sr_planes, hr_planes = _comparable(sr, hr, crop_border=crop_border, channel=channel)
    mean_squared_error = float(np.mean((sr_planes - hr_planes) ** 2))
    return 10 * math.log10(DATA_RANGE**2 / mean_squared_error) if mean_squared_error else math.inf


def ssim(sr: Comparable, hr: Comparable, *, crop_border: int = 0, channel: Channel = "luma") -> float:
    """Mean structural similarity, at most 1, which is reached by equal pictures.

    The window is Gaussian, 11×11 with σ = 1.5, and kept wholly inside the picture; with "rgb" the result is
    the mean over the channels. Arguments and errors are those of `psnr`; besides, 11×11 pixels must remain
    after cropping.
    """
    sr_planes, hr_planes = _comparable(sr, hr, crop_border=crop_border, channel=channel)
    height, width = hr_planes.shape[1:]
    if min(height, width) < WINDOW:
        raise UsageError(f"SSIM needs {WINDOW}×{WINDOW} pixels after cropping, not {width}×{height}")
    similarities = [_ssim_map(x, y).mean() for x, y in zip(sr_planes, hr_planes, strict=True)]
    return float(np.mean(similarities))


def _ssim_map(x: Plane, y: Plane) -> Plane:
    """Equation 13 of the paper at every place of the window: (H, W) to (H - 10, W - 10)."""
    mean_x, mean_y = _blur(x), _blur(y)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    variances = _blur(x * x + y * y) - squares  # only their sum is needed
    covariance = _blur(x * y) - product
    return (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))


def _gaussian() -> NDArray[np.float64]:
    distance = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(distance**2) / (2 * SIGMA**2))
    return weights / weights.sum()


_WEIGHTS = _gaussian()


def _blur(plane: Plane) -> Plane:
    """Weigh by the window, which is separable: one direction after the other."""
    return _blur_down(_blur_down(plane).T).T


def _blur_down(plane: Plane) -> Plane:
    height = len(plane) - WINDOW + 1
    total = np.zeros((height, plane.shape[1]))
    for row, weight in enumerate(_WEIGHTS):
        total += weight * plane[row : row + height]
    return total


def as_array(picture: Comparable) -> NDArray[Any]:
    """What is to be measured as an array (H, W) or (H, W, C); `UsageError` for what is neither that nor a PIL image."""
    if images.is_pil(picture):
        array = images.to_array(images.from_pil(cast("Image.Image", picture)))
        return array[..., 0] if array.shape[2] == 1 else array
    if not isinstance(picture, np.ndarray):
        raise UsageError(f"sr and hr must be arrays or PIL images, not {type(picture).__name__}")
    return picture


def is_whole(number: float) -> bool:
    """Whether a number can count something."""
    return isinstance(number, int | np.integer)


def _comparable(sr: Comparable, hr: Comparable, *, crop_border: int, channel: Channel) -> tuple[Plane, Plane]:
    """Both pictures as what is measured: (1 or 3, H, W) in 0..255, without their borders."""
    sr, hr = as_array(sr), as_array(hr)
    _check(sr, hr, crop_border=crop_border, channel=channel)
    height, width = hr.shape[:2]
    inner = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    return _planes(sr[inner], channel=channel), _planes(hr[inner], channel=channel)


def _check(sr: NDArray[Any], hr: NDArray[Any], *, crop_border: int, channel: Channel) -> None:
    if sr.shape != hr.shape or sr.dtype != hr.dtype:
        raise UsageError(
            f"sr and hr must have one shape and type, not {sr.shape} {sr.dtype} and {hr.shape} {hr.dtype}"
        )
    if hr.ndim not in (2, 3) or (hr.ndim == 3 and hr.shape[2] not in (1, 3)):
        raise UsageError(f"sr and hr must have shape (H, W), (H, W, 1) or (H, W, 3), not {hr.shape}")
    if channel not in ("luma", "rgb"):
        raise UsageError(f"channel must be 'luma' or 'rgb', not {channel!r}")
    if not is_whole(crop_border) or crop_border < 0 or 2 * crop_border >= min(hr.shape[:2]):
        raise UsageError(
            f"crop_border must be a whole number that leaves some of {hr.shape[1]}×{hr.shape[0]} pixels and is not "
            f"negative, but is {crop_border}"
        )


def _planes(picture: NDArray[Any], *, channel: Channel) -> NDArray[np.float64]:
    pixels = _to_byte_range(picture)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if channel == "luma":
        weights = LUMA_WEIGHTS if pixels.shape[2] == 3 else LUMA_WEIGHTS.sum(keepdims=True)
        return (_LUMA_OFFSET + pixels @ weights)[np.newaxis]
    return np.moveaxis(pixels, 2, 0)


def _to_byte_range(picture: NDArray[Any]) -> NDArray[np.float64]:
    pixels = picture.astype(np.float64)
    if picture.dtype == np.uint8:
        return pixels
    if picture.dtype == np.uint16:
        return pixels / 257
    if not np.issubdtype(picture.dtype, np.floating):
        raise UsageError(f"sr and hr must be uint8, uint16 or floating, not {picture.dtype}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # so written, NaN is refused too
        raise UsageError(f"floating pictures must lie in [0, 1], not in [{pixels.min():g}, {pixels.max():g}]")
    return pixels * DATA_RANGE
