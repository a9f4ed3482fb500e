"""A convolution after a pixel shuffle, computed before it: the same numbers, faster.

The generator ends in a shuffle to full size and a 9×9 convolution to 3 channels. Matrix units work on 16 output
channels at a time, so 3 leave most of them idle. A convolution at full size is, seen from half the size, a
smaller convolution between all four phases of its input and all four phases of its output: 12 output channels
instead of 3, a quarter of the positions, and the large tensor is never shuffled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_of_shuffled(phases: Tensor, conv: nn.Conv2d) -> Tensor:
    """Equals ``conv(pixel_shuffle(phases, 2))`` but for rounding.

    Args:
        phases: (N, 4·C, H, W), what the pixel shuffle would take.
        conv: C channels to any number, odd square kernel, stride 1, zero padding that keeps the size.

    Returns:
        (N, out_channels, 2·H, 2·W).
    """
    kernel = polyphase_kernel(conv.weight)
    bias = None if conv.bias is None else conv.bias.repeat_interleave(4)
    mixed = functional.conv2d(phases, kernel, bias, padding=kernel.shape[-1] // 2)
    return functional.pixel_shuffle(mixed, 2)


def polyphase_kernel(kernel: Tensor) -> Tensor:
    """Turn a kernel at full size, (O, C, K, K), into the one between phases at half size, (4·O, 4·C, L, L)."""
    out_channels, channels = kernel.shape[:2]
    across = _split_phases(_split_phases(kernel, dim=2), dim=5)  # (O, C, P_y, L_y, Q_y, P_x, L_x, Q_x)
    length = across.shape[3]
    ordered = across.permute(0, 2, 5, 1, 4, 7, 3, 6)  # (O, P_y, P_x, C, Q_y, Q_x, L_y, L_x)
    return ordered.reshape(4 * out_channels, 4 * channels, length, length)


def _split_phases(kernel: Tensor, *, dim: int) -> Tensor:
    """Split the taps along ``dim`` into (output phase p, tap l at half size, input phase q).

    A tap that reaches t pixels from an output pixel 2i + p lands on 2(i + l) + q where t = 2l + q - p.
    """
    padding = kernel.shape[dim] // 2
    reach = (padding + 1) // 2  # at half size, to either side
    length = 2 * reach + 1
    margin = 2 * reach - padding + 1
    spread = [0, 0] * (kernel.ndim - 1 - dim) + [margin, margin]
    padded = functional.pad(kernel, spread)
    phases: list[Tensor] = [padded.narrow(dim, 1 - p, 2 * length).unflatten(dim, (length, 2)) for p in (0, 1)]
    return torch.stack(phases, dim)
