"""Which convolutions are worth computing in 8 bits, and which cost more exactness than they save time.

Mixed precision by measuring: each convolution is rounded alone, and its error seen in the picture. These errors add up
(to within a tenth, on the bundled models), so one knows beforehand what remains when some are left as they are.
Those are left that bring the most exactness for the least work, until every picture is near enough to the original.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from crispen.errors import ModelError
from crispen.export.parity import Computation, Pixels, eager
from crispen.export.quantisation import Range, watched
from crispen.networks.generators import AnyGenerator, SRResNet

Ranges = Mapping[nn.Conv2d, Range]

TARGET = 48.0
"""The PSNR in dB that the worst picture measured on shall reach: above `crispen.export.parity.MIN_AGREEMENT`, because
other pictures may be harder, and drive some channels beyond the range seen on these.

The worst are pages of small print. With 48, the worst of 45 others, in other words and fonts, agreed to 45.7 dB, with
47 to 45.2, and another one to 44.96.
"""

_SIDE = 48  # in pixels, of the pictures measured on: rounding is the same everywhere


def affordable(
    generator: AnyGenerator,
    ranges: Ranges,
    pictures: Sequence[Pixels],
    compute: Callable[[Ranges], Computation],
) -> dict[nn.Conv2d, Range]:
    """Return those of ``ranges`` whose convolutions are to be computed in 8 bits.

    Args:
        generator: it stays as it is.
        ranges: of what enters the convolutions, from `crispen.export.quantisation.observe`.
        pictures: (N, 3, H, W) in [0, 1] to measure on.
        compute: makes a computation of the generator of which only the given convolutions are in 8 bits.

    Raises:
        ModelError: where even one convolution in 8 bits is too much.
    """
    middles = [_middle(lr) for lr in pictures]
    layers = list(ranges)
    errors = measure((compute({layer: ranges[layer]}) for layer in layers), compute({}), middles)
    work = work_of(generator)
    kept = affordable_rows(errors, np.array([work[layer] for layer in layers]), target=TARGET)
    if not kept.any():
        raise ModelError(
            f"no convolution of the network agrees in 8 bits with the original to {TARGET:.0f} dB: use it as it is"
        )
    return {layer: ranges[layer] for layer, keep in zip(layers, kept, strict=True) if keep}


def measure(
    computations: Iterable[Computation], original: Computation, pictures: Sequence[Pixels]
) -> NDArray[np.float64]:
    """Return the mean squared error of each computation on each picture, (computations, pictures)."""
    expected = [original(lr).clip(0, 1) for lr in pictures]
    return np.array(
        [
            [
                np.mean(np.square(computation(lr).clip(0, 1) - sr))
                for lr, sr in zip(pictures, expected, strict=True)
            ]
            for computation in computations
        ],
        np.float64,
    )


def affordable_rows(
    errors: NDArray[np.float64], work: NDArray[np.int64], *, target: float
) -> NDArray[np.bool_]:
    """Return which rows may stay, so that the sum of each column stays under the error of ``target`` dB.

    As long as one does not, the row goes that takes the most off the largest sum for its work.

    Args:
        errors: the mean squared error of each convolution on each picture.
        work: of each convolution.
        target: the PSNR to reach, in dB.
    """
    kept = np.ones(len(errors), np.bool_)
    while kept.any() and (sums := errors[kept].sum(0)).max() > 10 ** (-target / 10):
        gain = np.where(kept, errors[:, sums.argmax()] / work, -np.inf)
        kept[gain.argmax()] = False
    return kept


def work_of(generator: AnyGenerator) -> dict[nn.Conv2d, int]:
    """Return the multiplications of each convolution behind the head, for each pixel of the input."""
    work: dict[nn.Conv2d, int] = {}
    between_phases = generator.tail if isinstance(generator, SRResNet) else None

    def count(layer: nn.Conv2d, x: Tensor) -> None:
        phases = 4 if layer is between_phases else 1  # of the result, for each position of what enters
        work[layer] = layer.weight.numel() * x.shape[2] * x.shape[3] * phases

    with watched(generator, count):
        eager(generator, np.zeros((1, 3, 1, 1), np.float32))
    return work


def _middle(lr: Pixels) -> Pixels:
    top, left = (max(side - _SIDE, 0) // 2 for side in lr.shape[2:])
    return np.ascontiguousarray(lr[:, :, top : top + _SIDE, left : left + _SIDE])
