"""The network in 8 bits: less exact than in bf16, and faster where the processor multiplies bytes.

Post-training quantisation (Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018,
sections 2 and 3): kernels are rounded with a step for each output channel, and what enters a convolution with a step
and a zero of its own for each channel, from the range seen on a few pictures. Sums, skips and activations stay as they
are, and so do convolutions of the small picture itself, which has three channels and nothing to gain, and those that
`crispen.export.sensitivity` finds too dear.

Nearly all of the error comes from rounding what enters, so that is what gets the finer steps. One zero for all channels
would waste most of the 256 values on a channel whose numbers lie to one side of it; zeros of their own brought such
layers up to 8 dB nearer to the original, and whole pictures more than 1 dB.

The ends of the range are the furthest seen, not a mean or quantile. Flat white drives some channels far beyond what
texture does: over a range taken from 20 photographs alone, a white picture agreed with the original to 29 dB, and to
49 where flat black and white had been among them. So the range always includes
`crispen.export.calibration.flat_colours`, whatever else it is taken from; and `small_print`, as letters on white paper
go further still: without, pages of them agreed to 28 dB at worst.
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
from crispen.networks.generators import AnyGenerator, Compact

_SHARE = 0.875
"""SmoothQuant's α: 1 gives each channel of what enters just the step that it needs, 0 all the same."""


class Range(NamedTuple):
    """What enters a convolution: the lowest and the highest number of each channel, (C,); 0 is always within."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def steps(self) -> NDArray[np.float32]:
        """The distance of two neighbours among the 256 values in each channel, (C,).

        It is a weighted geometric mean of what the channel needs and what the widest does (Xiao et al.,
        "SmoothQuant", ICML 2023, equation 4): the kernel is multiplied by it and rounded as well, and narrow
        channels keep some room for pictures that drive them further than those seen did.
        """
        needed = (self.high - self.low) / np.float32(255)
        widest = needed.max() or np.float32(1)
        return widest ** np.float32(1 - _SHARE) * np.maximum(needed, widest / 256) ** np.float32(_SHARE)

    @property
    def zeros(self) -> NDArray[np.uint8]:
        """Which of the 256 values stands for 0 in each channel, (C,)."""
        width = self.high - self.low
        below = np.divide(-self.low, width, out=np.zeros_like(width), where=width > 0)
        return np.rint(255 * below).astype(np.uint8)


def observe(generator: AnyGenerator, pictures: Sequence[Pixels]) -> dict[nn.Conv2d, Range]:
    """Return the range of what enters each convolution behind the head, over pictures (N, 3, H, W)."""
    ranges: dict[nn.Conv2d, Range] = {}

    def widen(layer: nn.Conv2d, x: Tensor) -> None:
        low, high = x.amin((0, 2, 3)).clamp(max=0).numpy(), x.amax((0, 2, 3)).clamp(min=0).numpy()
        before = ranges.get(layer, Range(low, high))
        ranges[layer] = Range(np.minimum(low, before.low), np.maximum(high, before.high))

    with watched(generator, widen):
        for lr in pictures:
            eager(generator, lr)
    return ranges


@contextmanager
def watched(generator: AnyGenerator, see: Callable[[nn.Conv2d, Tensor], None]) -> Generator[None]:
    """Call ``see`` with each convolution behind the head and what enters it, whenever the generator computes."""

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        see(cast(nn.Conv2d, layer), inputs[0])

    def after_upsampler(_: nn.Module, __: tuple[Tensor, ...], phases: Tensor) -> None:
        see(generator.tail, phases)  # which is never called itself: its kernel is used between the phases

    if isinstance(generator, Compact):
        parts, handles = (generator.body, generator.tail), []
    else:
        parts = (generator.body, generator.upsampler)
        handles = [generator.upsampler.register_forward_hook(after_upsampler)]
    for part in parts:
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
