"""VGG as a feature network: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from crispen.networks.features.layers import IMAGENET_MEAN, IMAGENET_STD, check_layers

VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4), "vgg19-normalised": (2, 2, 4, 4, 4)}
"""Convolutions of each block, by the network's name."""

VGG_FEATURES = (64, 128, 256, 512, 512)
"""Channels of each block."""


class VggFeatures(nn.Module):
    """VGG up to the deepest of ``layers``.

    Layers are named ``convB_I`` (before its ReLU, as most reimplementations take φ for SRGAN-VGG54) and ``reluB_I``
    (after it, the paper's φ_{B,I}), with block B and convolution I from 1; and ``poolB``.

    Args:
        variant: ``vgg16`` or ``vgg19``, with the keys of torchvision's weights; or ``vgg19-normalised``, whose
            weights are rescaled so that mean activations are about 1 (Gatys et al. 2016), and which pads by
            reflection and has its preprocessing as a 1×1 convolution.
        layers: whose activations are wanted.

    Raises:
        UsageError: for an unknown layer.
    """

    def __init__(self, *, variant: str, layers: Sequence[str]) -> None:
        super().__init__()
        names = vgg_layer_names(variant)
        check_layers(layers, known=names, network=variant)
        self.layers = frozenset(layers)
        self.names = names[: 1 + max(names.index(layer) for layer in layers)]
        self.normalised = variant == "vgg19-normalised"
        self.features = nn.Sequential(*_modules(self.names, "reflect" if self.normalised else "zeros"))
        if self.normalised:
            self.preprocess = nn.Conv2d(3, 3, 1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Features (N, C, H', W') by layer name, of (N, 3, H, W) in [0, 1]."""
        x = self.preprocess(picture) if self.normalised else (picture - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.layers:
                found[name] = x
        return found


def vgg_layer_names(variant: str) -> list[str]:
    """All layers of a VGG in order, pools included."""
    names: list[str] = []
    for block, convs in enumerate(VGG_BLOCKS[variant], start=1):
        for conv in range(1, convs + 1):
            names += [f"conv{block}_{conv}", f"relu{block}_{conv}"]
        names.append(f"pool{block}")
    return names


def _modules(names: Sequence[str], padding_mode: Literal["zeros", "reflect"]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    channels = 3
    for name in names:
        if name.startswith("conv"):
            features = VGG_FEATURES[int(name[4]) - 1]
            modules.append(nn.Conv2d(channels, features, 3, padding=1, padding_mode=padding_mode))
            channels = features
        else:
            modules.append(nn.ReLU() if name.startswith("relu") else nn.MaxPool2d(2))
    return modules
