"""How strong the fine detail of a result is, beside the truth's: what PSNR does not reward.

A method that is trained on pixels gives the mean of what every pixel might have been, and in a mean fine texture
cancels out (Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
CVPR 2017, figure 3). Its PSNR is high, its grass and hair are smooth. The power of the high frequencies shows that;
it does not show whether the detail is at the right place, so it belongs beside a PSNR, never alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispen.errors import UsageError
from crispen.evaluation.metrics import LUMA_WEIGHTS, Comparable, as_array

FINE = 0.25, 0.5
"""From half of the Nyquist frequency to the whole, in cycles per pixel: what a reduction by 2 takes away."""

LEAST_SIDE = 8
"""Pixels a picture needs along each side."""

_LEAST = 1e-6  # squared levels per pixel: above the arithmetic's rounding, below all that 8 bits can show


def texture_energy(sr: Comparable, hr: Comparable) -> float:
    """Power of luma above half of the Nyquist frequency, relative to the truth's.

    Both pictures are weighed by a Hann window, whose edges are zero: otherwise the jump from one border to the
    opposite one would count as detail. Flat pictures count as having a little, so that the result is finite.

    Args:
        sr: (H, W), (H, W, 1) or (H, W, 3) of uint8, at least `LEAST_SIDE` pixels a side; or a PIL image.
        hr: what ``sr`` is measured against, of the same shape.

    Returns:
        dB. 0 is as much fine detail as the truth has; below, the result is too smooth; above, too rough or noisy.

    Raises:
        UsageError: for pictures that cannot be compared so.
    """
    sr, hr = as_array(sr), as_array(hr)
    _check(sr, hr)
    return _fine_power(sr) - _fine_power(hr)


def _fine_power(picture: NDArray[np.uint8]) -> float:
    """In dB, of no particular unit."""
    luma = _luma(picture)
    window = np.hanning(luma.shape[0])[:, np.newaxis] * np.hanning(luma.shape[1])
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in luma.shape), indexing="ij"))
    fine = power[(frequency > FINE[0]) & (frequency <= FINE[1])]
    return 10 * math.log10(np.sum(fine) + fine.size * _LEAST * np.sum(window**2))


def _luma(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W), without the offset, which has no frequency."""
    if picture.ndim == 3 and picture.shape[2] == 3:
        return picture @ LUMA_WEIGHTS
    return picture.reshape(picture.shape[:2]) * LUMA_WEIGHTS.sum()


def _check(sr: NDArray[Any], hr: NDArray[Any]) -> None:
    if sr.shape != hr.shape or not (sr.dtype == hr.dtype == np.uint8):
        raise UsageError(
            f"sr and hr must have one shape and be uint8, not {sr.shape} {sr.dtype} and {hr.shape} {hr.dtype}"
        )
    if hr.ndim not in (2, 3) or hr.shape[2:] not in ((), (1,), (3,)):
        raise UsageError(f"sr and hr must have shape (H, W), (H, W, 1) or (H, W, 3), not {hr.shape}")
    if min(hr.shape[:2]) < LEAST_SIDE:
        raise UsageError(
            f"texture needs pictures of {LEAST_SIDE}×{LEAST_SIDE} pixels, not {hr.shape[1]}×{hr.shape[0]}"
        )
