"""MATLAB's ``imresize`` with its default bicubic kernel: how the field makes its low-resolution pictures.

The interpolation is Keys' cubic convolution (R. Keys, "Cubic convolution interpolation for digital image
processing", IEEE TASSP 1981) with a = -1/2, widened by 1/scale when shrinking so that it does not alias. Borders
are mirrored with the edge pixel repeated. Rows are resized before columns are, and integer pictures are rounded
between the two passes: only with that do the results equal MATLAB's bit for bit.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError, UsageError

MAX_SCALE = 2**31
"""No format holds more pixels a side."""


def resize(array: NDArray[Any], scale: float) -> NDArray[Any]:
    """Resize a picture by ``scale`` exactly as MATLAB's ``imresize(array, scale)`` does.

    Args:
        array: (H, W) or (H, W, C), of uint8, uint16 or a floating type.
        scale: the factor, above 1 to enlarge and below 1 to shrink.

    Returns:
        (ceil(H·scale), ceil(W·scale)[, C]) of the same type; integers are rounded and clipped, floats are not.

    Raises:
        UsageError: for a scale that is not positive or beyond `MAX_SCALE`, or an array of another shape or type.
        PictureError: for a result that is too large for the memory.
    """
    _check(array, scale)
    height, width = array.shape[:2]
    try:
        new_shape = (_resized(height, scale), _resized(width, scale), *array.shape[2:])
        np.empty(new_shape)  # so that what is much too large is refused before anything is computed
        return _resize_axis(_resize_axis(array, scale, axis=0), scale, axis=1)
    except (MemoryError, ValueError) as error:  # ValueError: more than any memory
        raise PictureError(
            f"there is too little memory to resize a picture of {width}x{height} pixels by {scale:g}"
        ) from error


def _check(array: object, scale: object) -> None:
    if not (isinstance(scale, Real) and 0 < cast(float, scale) <= MAX_SCALE):
        raise UsageError(f"scale must be a positive number, at most {MAX_SCALE}, not {scale!r}")
    if not isinstance(array, np.ndarray):
        raise UsageError(f"a picture to resize must be an array, not a {type(array).__name__}")
    array = cast("NDArray[Any]", array)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UsageError(f"a picture to resize has shape (H, W) or (H, W, C), not {array.shape}")
    if array.dtype.name not in ("uint8", "uint16") and not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"a picture to resize is uint8, uint16 or floating, not {array.dtype}")


def _resized(length: int, scale: float) -> int:
    return math.ceil(length * scale - 1e-9)


def _resize_axis(array: NDArray[Any], scale: float, *, axis: int) -> NDArray[Any]:
    length = array.shape[axis]
    sources, weights = contributions(length, _resized(length, scale), scale)
    shape = list(array.shape)
    shape[axis] = len(sources)
    total = np.zeros(shape, np.result_type(array.dtype, np.float64))
    for tap in range(sources.shape[1]):
        weight = weights[:, tap].reshape([-1 if i == axis else 1 for i in range(array.ndim)])
        total += weight * np.take(array, sources[:, tap], axis=axis)
    if np.issubdtype(array.dtype, np.integer):
        total = np.clip(np.floor(total + 0.5), 0, np.iinfo(array.dtype).max)
    return total.astype(array.dtype)


def contributions(length: int, new_length: int, scale: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which pixels of an axis make each new pixel when it is resized, and with what weights.

    Returns:
        Two arrays (new_length, taps): indices, and weights that sum to 1.
    """
    stretch = max(1.0, 1.0 / scale)
    support = 4.0 * stretch
    centres = (np.arange(new_length) + 0.5) / scale - 0.5
    first = np.floor(centres - support / 2 + 1e-12).astype(np.intp)
    sources = first[:, np.newaxis] + np.arange(math.ceil(support) + 2)
    weights = _cubic(np.asarray((centres[:, np.newaxis] - sources) / stretch, np.float64))
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    return _mirror(sources[:, used], length), weights[:, used]


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -1/2 (his equation 15)."""
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _mirror(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    folded = np.mod(index, 2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)
