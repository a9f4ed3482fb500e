"""Training pictures in a device's own memory, cropped and turned there.

A GPU then waits neither for a processor that makes batches nor for the bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispen.errors import TrainingError
from crispen.training.cache import Pair
from crispen.training.records import Bytes

Integers = NDArray[np.int64]


class Choice(NamedTuple):
    """What a batch is made of, drawn on the processor, so that it is the same wherever it is made."""

    crops: Integers
    """(N, candidates, 3): a picture's index, and y and x in its small version."""
    symmetry: Integers
    """(N,): which of the eight symmetries of the square each crop is turned by."""
    is_flat: NDArray[np.bool_]
    """(N,): which crops are replaced by a single colour."""
    colours: Bytes
    """(N, 3): by which."""


class Resident:
    """The decoded pictures of a cache as tensors.

    Args:
        pairs: where each picture stands.
        lr: the bytes of all small versions.
        hr: the bytes of all large versions.
        scale: pixels of a large version for each of the small one.
        device: where they are to lie.

    Raises:
        TrainingError: where the device has too little memory.
    """

    def __init__(
        self, pairs: Sequence[Pair], lr: Bytes, hr: Bytes, *, scale: int, device: torch.device
    ) -> None:
        try:
            self._lr, self._hr = (torch.tensor(pixels).to(device).view(-1, 3) for pixels in (lr, hr))
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the training pictures take {(lr.size + hr.size) / 1e9:.1f} GB, which the device has not:"
                " leave data.on_device out of the recipe"
            ) from error
        self._device, self._scale = device, scale
        self._lr_places = _places([(pair.lr_offset, pair.width) for pair in pairs], device)
        self._hr_places = _places([(pair.hr_offset, pair.width * scale) for pair in pairs], device)

    def crops(self, choice: Choice, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Crop and turn.

        Args:
            choice: N crops with as many candidates each.
            side: of the small crops, in pixels.

        Returns:
            The small and the large ones, (N, side, side, 3) and (N, side·scale, side·scale, 3) of uint8, and (N,) the
            index of the picture that each is of; on the device.
        """
        crops, symmetry, is_flat, colours = (torch.from_numpy(part).to(self._device) for part in choice)
        crops = self._most_detailed(crops, side)
        lr = _cut(self._lr, self._lr_places, crops, side, symmetry)
        at = crops * crops.new_tensor([1, self._scale, self._scale])
        hr = _cut(self._hr, self._hr_places, at, side * self._scale, symmetry)
        is_flat, colours = is_flat.view(-1, 1, 1, 1), colours.view(-1, 1, 1, 3)
        return torch.where(is_flat, colours, lr), torch.where(is_flat, colours, hr), crops[:, 0]

    def _most_detailed(self, crops: Tensor, side: int) -> Tensor:
        """Of (N, candidates, 3) those with the most detail, (N, 3); the first of equals."""
        count, candidates, _ = crops.shape
        if candidates == 1:
            return crops[:, 0]
        upright = crops.new_zeros(count * candidates)
        green = _cut(self._lr, self._lr_places, crops.flatten(0, 1), side, upright)[..., 1].long()
        detail = green.diff(dim=1).abs().sum((1, 2)) + green.diff(dim=2).abs().sum((1, 2))
        ranked = detail.view(count, candidates) * candidates - torch.arange(candidates, device=self._device)
        return crops[torch.arange(count, device=self._device), ranked.argmax(1)]


def _places(offsets_and_widths: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(pictures, 2): the first pixel of each, counted in pixels, and its width."""
    return torch.tensor([(offset // 3, width) for offset, width in offsets_and_widths], device=device)


def _cut(pixels: Tensor, places: Tensor, crops: Tensor, side: int, symmetry: Tensor) -> Tensor:
    """Squares (N, side, side, 3) out of all pixels (M, 3), turned as `crispen.training.data` turns them."""
    first, width = (part.view(-1, 1, 1) for part in places[crops[:, 0]].T)
    y, x = (part.view(-1, 1, 1) for part in crops[:, 1:].T)
    mirrored_x, mirrored_y, swapped = ((symmetry & bit).bool().view(-1, 1, 1) for bit in (1, 2, 4))
    there = torch.arange(side, device=pixels.device)
    rows, columns = there.view(1, -1, 1), there.view(1, 1, -1)
    rows = torch.where(mirrored_y, side - 1 - rows, rows)
    columns = torch.where(mirrored_x, side - 1 - columns, columns)
    rows, columns = torch.where(swapped, columns, rows), torch.where(swapped, rows, columns)
    return pixels[first + (y + rows) * width + x + columns]
