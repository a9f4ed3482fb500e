"""What the generator makes of fixed validation pictures, to be looked at while it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crispen import images
from crispen.errors import PictureError

Bytes = NDArray[np.uint8]

GAP = 4
"""White pixels around the pictures of a sheet."""


class Pairs(Protocol):
    """What previews need of a dataset, as `crispen.training.data.Dataset` has it."""

    scale: int

    def __len__(self) -> int:
        """Return the number of pairs."""
        ...

    def lr(self, index: int) -> Bytes:
        """Return a small picture: (H, W, 3)."""
        ...

    def hr(self, index: int) -> Bytes:
        """Return its large version: (H·scale, W·scale, 3)."""
        ...


def write_previews(
    generator: nn.Module,
    dataset: Pairs,
    folder: Path,
    *,
    name: str,
    count: int = 4,
    size: int = 128,
    forward: Callable[[Tensor], Tensor],
) -> Path:
    """Write a sheet of pictures, each as input (pixels enlarged), bicubic, sr and hr from left to right.

    The pictures are central crops, spread evenly over the dataset and the same at each call. Where the dataset's
    pictures are smaller than ``size``, as digits are, there are as many more of them as the place on the sheet allows.
    The network sees the crops alone, in one batch.

    Args:
        generator: the network that ``forward`` uses; in evaluation mode meanwhile, and then as it was.
        dataset: the validation pictures.
        folder: where to; made if need be.
        name: of the file, without suffix: ``gan-00001000``. An older one is replaced.
        count: how many rows of pictures of the full ``size``.
        size: side of the crops in high-resolution pixels.
        forward: enlarges (N, 3, h, w) in [0, 1] to (N, 3, h·scale, w·scale), on any device and in any precision.

    Returns:
        The path of the sheet, a PNG.

    Raises:
        PictureError: where it cannot be written.
    """
    side, chosen = _choose(dataset, count=count, size=size)
    crops = [_central(dataset.lr(index), side) for index in chosen]
    truths = [_central(dataset.hr(index), side * dataset.scale, multiple=dataset.scale) for index in chosen]
    enlarged = _enlarge(generator, np.stack(crops), forward)
    groups = [
        _beside([_enlarge_pixels(lr, dataset.scale), images.resize(lr, dataset.scale), sr, hr])
        for lr, sr, hr in zip(crops, enlarged, truths, strict=True)
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"{folder} cannot be made: {error.strerror}") from error
    path = folder / f"{name}.png"
    across = _groups_across(side * dataset.scale, size)
    images.write(images.from_array(_sheet(groups, across)), path, force=True)
    return path


def _choose(dataset: Pairs, *, count: int, size: int) -> tuple[int, list[int]]:
    """Side of the crops in low-resolution pixels, and the pictures to take them from.

    The side is what half of the pictures have at least, so that one tiny picture does not make all crops tiny.
    """
    sides = [min(dataset.hr(index).shape[:2]) // dataset.scale for index in range(len(dataset))]
    side = min(size // dataset.scale, sorted(sides)[len(sides) // 2])
    large_enough = [index for index, found in enumerate(sides) if found >= side]
    large = side * dataset.scale
    number = min(len(large_enough), _groups_across(large, size) * max(1, count * size // large))
    return side, [large_enough[(2 * i + 1) * len(large_enough) // (2 * number)] for i in range(number)]


def _groups_across(side: int, size: int) -> int:
    """How many groups of four pictures of ``side`` fit where one with pictures of ``size`` would."""
    return max(1, size // side)


def _central(picture: Bytes, side: int, *, multiple: int = 1) -> Bytes:
    """Cut a square out of the middle, its corner at a multiple of ``multiple`` pixels."""
    top, left = ((length - side) // (2 * multiple) * multiple for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def _enlarge(generator: nn.Module, lr: Bytes, forward: Callable[[Tensor], Tensor]) -> Bytes:
    """(N, h, w, 3) to (N, h·scale, w·scale, 3), through the generator in evaluation mode."""
    training = generator.training
    generator.eval()
    try:
        with torch.inference_mode():
            sr = forward(torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255)
    finally:
        generator.train(training)
    return (255 * sr.float().clamp(0, 1)).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _enlarge_pixels(picture: Bytes, scale: int) -> Bytes:
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _beside(pictures: Sequence[Bytes]) -> Bytes:
    """Pictures of one height in a row, with gaps before each and below."""
    padded = [np.pad(picture, ((0, GAP), (GAP, 0), (0, 0)), constant_values=255) for picture in pictures]
    return np.concatenate(padded, axis=1)


def _sheet(groups: Sequence[Bytes], across: int) -> Bytes:
    """Groups row by row, ``across`` in each; what is left of the last row is white."""
    apart = [
        np.pad(group, ((0, 0), (GAP if across > 1 else 0, 0), (0, 0)), constant_values=255)
        for group in groups
    ]
    filled = [*apart, *[np.full_like(apart[0], 255)] * (-len(apart) % across)]
    rows = [np.concatenate(filled[start : start + across], axis=1) for start in range(0, len(filled), across)]
    return np.pad(np.concatenate(rows), ((GAP, 0), (0, GAP), (0, 0)), constant_values=255)
