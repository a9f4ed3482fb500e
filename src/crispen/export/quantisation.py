"""The network in 8 bits: less exact than in bf16, and faster where the processor multiplies bytes.

Post-training quantisation in its plain form (Krishnamoorthi, "Quantizing deep convolutional networks for efficient
inference", 2018, sections 2 and 3): kernels are rounded with a step for each output channel, and what enters a
convolution with a step for each channel, from the range seen on a few pictures. Sums, skips and activations stay as
they are, and so does the first convolution: it has three channels and nothing to gain.

The ends of the range are the furthest seen, not a mean or quantile. Flat white drives some channels far beyond what
texture does: over a range taken from 20 photographs alone, a white picture agreed with the original to 29 dB, and to
49 where flat black and white had been among them. So the range always includes
`crispen.export.calibration.flat_colours`, whatever else it is taken from.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crispen.export.parity import Pixels, eager
from crispen.networks.generators import SRResNet


class Range(NamedTuple):
    """What enters a convolution: the lowest and the highest number of each channel, (C,); 0 is always within."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def zero(self) -> int:
        """Which of the 256 values stands for 0, in all channels."""
        low, high = float(self.low.min()), float(self.high.max())
        return round(255 * -low / (high - low)) if high > low else 0

    @property
    def steps(self) -> NDArray[np.float32]:
        """The distance of two neighbours among the 256 values in each channel, (C,).

        It is the geometric mean of what the channel needs and what the widest does, so that the difficulty is shared
        with the kernel, which is multiplied by it and rounded as well (Xiao et al., "SmoothQuant", ICML 2023,
        equation 4, with α = 0.5).
        """
        needed = np.maximum(self.high / max(255 - self.zero, 1), -self.low / max(self.zero, 1))
        widest = needed.max() or np.float32(1)
        return np.sqrt(widest * np.maximum(needed, widest / 256))


def observe(generator: SRResNet, pictures: Sequence[Pixels]) -> dict[nn.Conv2d, Range]:
    """Return the range of what enters each convolution but the first, over pictures (N, 3, H, W)."""
    ranges: dict[nn.Conv2d, Range] = {}

    def widen(layer: nn.Conv2d, x: Tensor) -> None:
        low, high = x.amin((0, 2, 3)).clamp(max=0).numpy(), x.amax((0, 2, 3)).clamp(min=0).numpy()
        before = ranges.get(layer, Range(low, high))
        ranges[layer] = Range(np.minimum(low, before.low), np.maximum(high, before.high))

    with _watched(generator, widen):
        for lr in pictures:
            eager(generator, lr)
    return ranges


@contextmanager
def _watched(generator: SRResNet, see: Callable[[nn.Conv2d, Tensor], None]) -> Generator[None]:
    """Call ``see`` with each convolution behind the head and what enters it, whenever the generator computes."""

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        see(cast(nn.Conv2d, layer), inputs[0])

    def after_upsampler(_: nn.Module, __: tuple[Tensor, ...], phases: Tensor) -> None:
        see(generator.tail, phases)  # which is never called itself: its kernel is used between the phases

    handles = [generator.upsampler.register_forward_hook(after_upsampler)]
    for part in (generator.body, generator.upsampler):
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)]
        handles += [layer.register_forward_pre_hook(before) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def quantised_kernel(kernel: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a kernel, (O, C, K, K), to -127 to 127, and return it with the step of each output channel, (O,)."""
    largest = kernel.detach().abs().amax((1, 2, 3))
    steps = torch.where(largest > 0, largest / 127, 1.0)
    return (kernel.detach() / steps.reshape(-1, 1, 1, 1)).round().to(torch.int8).numpy(), steps.numpy()
