"""SqueezeNet 1.1 as a feature network: Iandola et al., "SqueezeNet", 2016."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crispen.networks.features.layers import IMAGENET_MEAN, IMAGENET_STD, check_layers

SQUEEZENETS = ("squeezenet", "squeezenet-torchvision")
"""Trained with Caffe and with torchvision: not the same numbers."""

FIRES = {
    "fire2": (64, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
"""Channels that go in, that are squeezed to, and that each half expands to."""

LAYERS = ("conv1", *FIRES)
POOLED = ("conv1", "fire3", "fire5")
TORCHVISION_INDICES = (0, 3, 4, 6, 7, 9, 10, 11, 12)
"""Where torchvision's ``features`` have `LAYERS`."""

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


class Fire(nn.Module):
    """SqueezeNet's module: squeeze by 1×1, expand by 1×1 and 3×3 side by side."""

    def __init__(self, channels: int, *, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, 2·expand, H, W)."""
        squeezed = functional.relu(self.squeeze1x1(x))
        return functional.relu(torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1))


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet 1.1 up to the deepest of ``layers``: ``conv1``, ``fire2`` to ``fire9``, after their ReLU.

    Args:
        variant: ``squeezenet``, trained with Caffe on BGR in [0, 255] minus the mean, or
            ``squeezenet-torchvision``, trained on normalised RGB.
        layers: whose activations are wanted.

    Raises:
        UsageError: for an unknown layer.
    """

    def __init__(self, *, variant: str = "squeezenet", layers: Sequence[str]) -> None:
        super().__init__()
        check_layers(layers, known=LAYERS, network=variant)
        self.layers = frozenset(layers)
        self.names = LAYERS[: 1 + max(LAYERS.index(layer) for layer in layers)]
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        for name in self.names[1:]:
            channels, squeeze, expand = FIRES[name]
            self.add_module(name, Fire(channels, squeeze=squeeze, expand=expand))
        caffe = variant == "squeezenet"
        mean = tuple(value / 255 for value in reversed(CAFFE_MEAN_BGR)) if caffe else IMAGENET_MEAN
        std = (1 / 255,) * 3 if caffe else IMAGENET_STD
        self.reversed = caffe
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Features (N, C, H', W') by layer name, of (N, 3, H, W) in [0, 1]."""
        x = (picture - self.mean) / self.std
        x = functional.relu(self.conv1(x.flip(1) if self.reversed else x))
        found: dict[str, Tensor] = {}
        for name in self.names:
            if name != "conv1":
                x = self.get_submodule(name)(x)
            if name in self.layers:
                found[name] = x
            if name in POOLED:
                x = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
        return found


def from_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give torchvision's SqueezeNet 1.1 weights the names that they have here."""
    renamed: dict[str, Tensor] = {}
    for layer, index in zip(LAYERS, TORCHVISION_INDICES, strict=True):
        prefix = f"features.{index}."
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                part = name.removeprefix(prefix).replace("squeeze.", "squeeze1x1.")
                renamed[f"{layer}.{part}"] = tensor
    return renamed
