"""What can be measured: models, and the bicubic interpolation that every paper compares with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from crispen import images

if TYPE_CHECKING:
    from crispen.upscaling import Upscaler

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Something that enlarges pictures, with what a report says about it."""

    name: str
    scale: int
    enlarge: Callable[[Bytes], Bytes]
    """(H, W, 3) to (H·scale, W·scale, 3), rounded to 8 bit."""
    runtime: str
    """What computes it, in words."""
    weights_sha256: str | None = None


def bicubic(scale: int) -> Method:
    """MATLAB's bicubic ``imresize`` on RGB."""

    def enlarge(lr: Bytes) -> Bytes:
        return images.resize(lr, scale)

    return Method(name="bicubic", scale=scale, enlarge=enlarge, runtime="MATLAB imresize in numpy")


def learned(upscaler: Upscaler) -> Method:
    """A model, computed as ``upscaler`` does."""

    def enlarge(lr: Bytes) -> Bytes:
        return cast(Bytes, upscaler(lr))

    return Method(
        name=upscaler.model.name,
        scale=upscaler.scale,
        enlarge=enlarge,
        runtime=upscaler.description,
        weights_sha256=upscaler.model.weights_sha256,
    )
