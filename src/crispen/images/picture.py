"""A picture: its pixels, and its header: everything beside them that has to survive being enlarged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import CrispenError, UsageError

Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

DTYPE_OF: dict[int, type[np.generic]] = {8: np.uint8, 16: np.uint16, 32: np.float32}
"""The dtype of each bit depth."""

WHITE_OF = {8: 255, 16: 65535, 32: 1}
"""The value that stands for white, or opaque, at each bit depth."""

MAX_RESOLUTION = 1e6
"""Pixels per millimetre: more is nonsense, and libvips does not write it."""

OVERSHOOT = 0.25
"""How far beyond [0, 1] a float may lie and still be taken for the ringing of a resampling filter."""

_ROWS = 256  # converted at a time, so that a large picture needs no float copy of itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is known of a picture before any of its pixels; its parts mean the same as a `Picture`'s."""

    height: int
    """Pixels, from 1."""

    width: int
    """Pixels, from 1."""

    channels: int
    """1 (gray) or 3 (RGB); alpha is not counted."""

    bit_depth: int
    """Bits per channel: 8, 16 or 32 (float)."""

    has_alpha: bool = False
    """Whether there is an alpha channel."""

    attachments: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Metadata as the file holds it: "icc-profile-data", "exif-data", "xmp-data", "iptc-data"."""

    resolution: tuple[float, float] | None = None
    """Pixels per millimetre, across and down; None where nothing is known."""


# Compared by identity: arrays have no single answer to ==.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """Pixels with what a file holds beside them.

    Raises `UsageError` where the arrays do not fit this description.
    """

    pixels: Pixels
    """(H, W, C): C is 1 (gray) or 3 (RGB); uint8, uint16, or float32 in [0, 1]."""

    alpha: Pixels | None = None
    """(H, W), of the same dtype: 0 is transparent. Colours are not multiplied with it."""

    attachments: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Metadata as the file holds it: "icc-profile-data", "exif-data", "xmp-data", "iptc-data"."""

    resolution: tuple[float, float] | None = None
    """Pixels per millimetre, across and down; None where nothing is known."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or self.pixels.size == 0:
            raise UsageError(f"a picture's pixels must be (H, W, 1) or (H, W, 3), not {self.pixels.shape}")
        if self.pixels.dtype not in DTYPE_OF.values():
            raise UsageError(f"a picture's pixels must be uint8, uint16 or float32, not {self.pixels.dtype}")
        if self.alpha is None:
            return
        if (self.alpha.shape, self.alpha.dtype) != (self.pixels.shape[:2], self.pixels.dtype):
            raise UsageError(
                f"a picture's alpha must be {self.pixels.dtype} of the pixels' height and width"
                f" {self.pixels.shape[:2]}, not {self.alpha.dtype} of {self.alpha.shape}"
            )

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.pixels.shape[1]

    @property
    def bit_depth(self) -> int:
        """Bits per channel: 8, 16 or 32 (float)."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def header(self) -> Header:
        """Everything but the pixels."""
        return Header(
            height=self.height,
            width=self.width,
            channels=self.pixels.shape[2],
            bit_depth=self.bit_depth,
            has_alpha=self.alpha is not None,
            attachments=self.attachments,
            resolution=self.resolution,
        )


def denser(
    resolution: tuple[float, float] | None, *, across: float, down: float
) -> tuple[float, float] | None:
    """Return a resolution after the pixels have become more, by factors; None where no file could state it."""
    if resolution is None or max(resolution[0] * across, resolution[1] * down) > MAX_RESOLUTION:
        return None
    return resolution[0] * across, resolution[1] * down


def to_depth(pixels: Pixels, bit_depth: int) -> Pixels:
    """Rescale ``pixels``, of any shape, to another bit depth, rounding to the nearest value.

    Pixels that have the depth already are returned as they are.
    """
    if pixels.dtype == DTYPE_OF[bit_depth]:
        return pixels
    factor = np.float32(WHITE_OF[bit_depth] / WHITE_OF[8 * pixels.dtype.itemsize])
    converted = np.empty(pixels.shape, DTYPE_OF[bit_depth])
    for top in range(0, len(pixels), _ROWS):
        rows = pixels[top : top + _ROWS] * factor
        converted[top : top + _ROWS] = rows if bit_depth == 32 else np.rint(rows)
    return cast(Pixels, converted)


def to_unit(
    values: NDArray[np.floating[Any]], *, subject: str, error: type[CrispenError]
) -> NDArray[np.float32]:
    """Return float pixels as float32 in [0, 1].

    Values beyond by no more than `OVERSHOOT` are clipped. Anything further, NaN and infinity raise ``error``,
    which names the ``subject``: to clip those would hide that the numbers mean something else.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # NaN fails every comparison
        found = f"values from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "NaN or infinity"
        raise error(f"{subject} holds {found}, but floats must lie in [0, 1] (8-bit values: divide by 255)")
    single = values.astype(np.float32, copy=False)
    return single if low >= 0 and high <= 1 else np.clip(single, 0, 1)
