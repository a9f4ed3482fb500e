"""Crops in other colours: more pictures out of few, for networks that know theirs by heart.

Two of the ways that Yoo, Ahn and Sohn compare in "Rethinking Data Augmentation for Image Super-resolution", CVPR 2020:
channels in another order, and a blend with a single colour. They are the same before and after a reduction, so the
small picture remains what the large one becomes. And crops in gray, as many old photographs and scans are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LEAST_KEPT = 0.6  # of a crop that is blended with a colour, the rest being the colour (Yoo et al.'s alpha)


_LUMA = (0.299, 0.587, 0.114)  # BT.601


@dataclass(frozen=True, slots=True, eq=False)
class Recolouring:
    """What becomes of the colours of N crops."""

    orders: NDArray[np.int64]
    """(N, 3): for each channel the one that takes its place."""
    kept: NDArray[np.float32]
    """(N, 1): how much of a crop stays, from 0.6 to 1."""
    colours: NDArray[np.float32]
    """(N, 3) in [0, 1]: what has the rest."""

    @classmethod
    def draw(cls, random: np.random.Generator, count: int, *, share: float) -> Recolouring:
        """One for ``count`` crops, of which about ``share`` are changed in either way."""
        orders = random.permuted(np.tile(np.arange(3), (count, 1)), axis=1)
        orders[random.random(count) >= share] = np.arange(3)
        kept = random.uniform(_LEAST_KEPT, 1, size=(count, 1))
        kept[random.random(count) >= share] = 1
        colours = random.random((count, 3))
        return cls(orders, kept.astype(np.float32), colours.astype(np.float32))

    def of(self, part: slice) -> Recolouring:
        """That of some of the crops."""
        return Recolouring(self.orders[part], self.kept[part], self.colours[part])

    def __call__(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to the same, which lies in memory as before, channels last."""
        orders, kept, colours = (
            torch.from_numpy(values).to(pictures.device)[:, None, None]
            for values in (self.orders, self.kept, self.colours)
        )
        pixels = pictures.permute(0, 2, 3, 1)
        pixels = torch.take_along_dim(pixels, orders, dim=3) * kept + (1 - kept) * colours
        return pixels.permute(0, 3, 1, 2)


def make_gray(pictures: Tensor, chosen: NDArray[np.bool_]) -> Tensor:
    """Those of (N, 3, H, W) in [0, 1] that are ``chosen``, with luma (BT.601) for each colour; the others as they are.

    ``chosen`` is (N,). The result lies in memory as ``pictures`` does where that is channels last.
    """
    pixels = pictures.permute(0, 2, 3, 1)
    luma = (pixels * pixels.new_tensor(_LUMA)).sum(3, keepdim=True)
    is_gray = torch.from_numpy(chosen).to(pictures.device)[:, None, None, None]
    return torch.where(is_gray, luma, pixels).permute(0, 3, 1, 2)
