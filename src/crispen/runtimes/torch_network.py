"""A generator made ready to compute: the same function, for one precision, with less to do.

Batch norm is folded into the convolutions, the 9×9 tail is turned into its polyphase form once instead of at every
call, and PReLUs become LeakyReLUs, whose slope is a plain number: torch has vectorised kernels for those, which work
in place. The channels before a shuffle are sorted by phase, so that with the channels innermost in memory a shuffle
moves whole rows of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crispen.networks.generators import OUTPUTS, AnyGenerator, Compact, ResidualBlock, SRResNet
from crispen.networks.polyphase import polyphase_kernel
from crispen.zoo.card import Output

DTYPES: dict[Literal["fp32", "bf16", "fp16"], torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

_FROM_PICTURE: dict[Output, Callable[[Tensor], Tensor]] = {
    "linear": lambda lr: lr,
    "symmetric": lambda lr: 2 * lr - 1,
}
"""What the last convolution would have to give for the picture itself."""
_PICTURE_CHANNELS = 16  # three would do, but matrix units take channels sixteen at a time


Precision = Literal["fp32", "bf16", "fp16"]


def ready_network(generator: AnyGenerator, *, precision: Precision) -> ReadyGenerator | ReadyCompact:
    """Make a generator ready, whose layers are taken over."""
    if isinstance(generator, Compact):
        return ReadyCompact(generator, precision=precision)
    return ReadyGenerator(generator, precision=precision)


class ReadyGenerator(nn.Module):
    """Computes what ``generator`` does, whose layers it takes over, with weights and features in ``precision``.

    A convolution in bf16 rounds its sums to bf16, which has no more than 128 values between 0.5 and 1: bands in every
    bright sky. So in bf16 the last one is handed the small picture as well and computes the difference from it, which
    is small just where the picture is smooth; the sum is done in fp32. That equals a last convolution in fp32 to 0.1
    dB, and takes a fraction of its time. fp16 has 1024 values there, four for each of 8 bits, and tanh flattens what
    it would round.
    """

    def __init__(self, generator: SRResNet, *, precision: Literal["fp32", "bf16", "fp16"]) -> None:
        super().__init__()
        self.scale = generator.scale
        self.bytes_per_pixel = _bytes_per_pixel(generator, DTYPES[precision])
        self.head, self.body = _ready(generator.head), _ready(generator.body)
        self.upsampler = _with_sorted_shuffles(_ready(generator.upsampler))
        self._to_output = OUTPUTS[generator.output]
        self._from_picture = _FROM_PICTURE.get(generator.output) if precision == "bf16" else None
        self.tail = _polyphase(generator.tail, minus_picture=self._from_picture is not None)
        self._dtype = DTYPES[precision]
        self.eval().requires_grad_(False)
        for parameter in self.parameters():
            format = torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
            parameter.data = parameter.data.to(self._dtype, memory_format=format)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) float32 to (N, 3, H·scale, W·scale) float32."""
        shallow = self.head(lr.to(self._dtype, memory_format=torch.channels_last))
        phases = self.upsampler(shallow + self.body(shallow))
        if self._from_picture is None:
            return self._to_output(functional.pixel_shuffle(self.tail(phases).float(), 2))
        picture = self._from_picture(lr).to(self._dtype)
        at_half = functional.interpolate(picture, scale_factor=self.scale // 2)
        padded = functional.pad(at_half, (0, 0, 0, 0, 0, _PICTURE_CHANNELS - 3))
        together = torch.cat([phases, padded.contiguous(memory_format=torch.channels_last)], dim=1)
        difference = functional.pixel_shuffle(self.tail(together).float(), 2)
        return self._to_output(difference + functional.interpolate(picture.float(), scale_factor=self.scale))


class ReadyCompact(nn.Module):
    """Computes what a compact generator does, with weights and features in ``precision``.

    Its interpolation, which carries the picture, stays in fp32, and what the body adds is small: see `ReadyGenerator`.
    """

    def __init__(self, generator: Compact, *, precision: Precision) -> None:
        super().__init__()
        self.scale = generator.scale
        self.bytes_per_pixel = 4 * generator.num_features * DTYPES[precision].itemsize + 24 * self.scale**2
        self.head, self.body = _ready(generator.head), _ready(generator.body)
        self.tail, self.skip = generator.tail, generator.skip
        self._to_output = OUTPUTS[generator.output]
        self._dtype = DTYPES[precision]
        self.eval().requires_grad_(False)
        for part in (self.head, self.body, self.tail):
            part.to(self._dtype, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # its stub

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) float32 to (N, 3, H·scale, W·scale) float32."""
        shallow = self.head(lr.to(self._dtype, memory_format=torch.channels_last))
        phases = self.tail(shallow + self.body(shallow)).float() + self.skip(lr)
        return self._to_output(functional.pixel_shuffle(phases, self.scale))


class _SortedShuffle(nn.Module):
    """A pixel shuffle of (N, 4·C, H, W) to (N, C, 2·H, 2·W), where channel (2·y + x)·C + c holds phase (y, x)."""

    def forward(self, phases: Tensor) -> Tensor:
        count, channels, height, width = phases.shape
        rows = phases.permute(0, 2, 3, 1).reshape(count, height, width, 2, 2, channels // 4)
        shuffled = rows.transpose(2, 3).reshape(count, 2 * height, 2 * width, channels // 4)
        return shuffled.permute(0, 3, 1, 2)


def _ready(layers: nn.Sequential) -> nn.Sequential:
    """The same layers without batch norm and with plain slopes."""
    ready: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            ready[-1] = fuse_conv_bn_eval(cast(nn.Conv2d, ready[-1]), layer)
        elif isinstance(layer, nn.PReLU):
            ready.append(nn.LeakyReLU(layer.weight.item(), inplace=True))
        elif isinstance(layer, nn.ReLU | nn.SiLU):
            ready.append(type(layer)(inplace=True))
        else:
            if isinstance(layer, ResidualBlock):
                layer.residual = _ready(layer.residual)
            ready.append(layer)
    return nn.Sequential(*ready)


def _with_sorted_shuffles(upsampler: nn.Sequential) -> nn.Sequential:
    """The same upsampler; before each shuffle the channels, c·4 + 2·y + x for torch's, are sorted by phase."""
    layers = list(upsampler)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.PixelShuffle):
            _sort_by_phase(cast(nn.Conv2d, layers[index - 2]))  # its activation lies between
            layers[index] = _SortedShuffle()
    return nn.Sequential(*layers)


def _sort_by_phase(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    for parameter in (conv.weight, conv.bias):
        parameter.data = parameter.data.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)


def _polyphase(conv: nn.Conv2d, *, minus_picture: bool) -> nn.Conv2d:
    """The convolution from phases to phases; see `crispen.networks.polyphase`.

    With ``minus_picture`` it takes `_PICTURE_CHANNELS` channels more, of which it subtracts the first three, red,
    green and blue, from all four phases of its results.
    """
    assert conv.bias is not None
    kernel = polyphase_kernel(conv.weight.detach())
    middle = kernel.shape[-1] // 2
    if minus_picture:
        picture = kernel.new_zeros(kernel.shape[0], _PICTURE_CHANNELS, *kernel.shape[2:])
        for channel in range(3):
            picture[4 * channel : 4 * channel + 4, channel, middle, middle] = -1
        kernel = torch.cat([kernel, picture], dim=1)
    between = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding=middle)
    between.weight = nn.Parameter(kernel)
    between.bias = nn.Parameter(conv.bias.detach().repeat_interleave(4))
    return between


def _bytes_per_pixel(generator: SRResNet, dtype: torch.dtype) -> int:
    """Memory for each pixel of the input where most is held: the tail's features, and beside them their copy."""
    positions = math.prod((generator.scale // 2, generator.scale // 2))
    return positions * 4 * generator.num_features * (dtype.itemsize + 4)
