"""Feature networks for the perceptual loss: a picture in, activations of named layers out.

They are classifiers trained on ImageNet, cut after the deepest layer that is asked for. VGG: Simonyan and
Zisserman, "Very Deep Convolutional Networks", ICLR 2015. SqueezeNet: Iandola et al. 2016 (version 1.1). The
"normalised" VGG-19 has weights rescaled so that mean activations are about 1 (Gatys et al. 2015) and pads by
reflection. Pictures go in as RGB in [0, 1]; each network does its own preprocessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from crispen.errors import ModelError, UsageError
from crispen.networks.weights import load_tensors

VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4), "vgg19-normalised": (2, 2, 4, 4, 4)}
VGG_FEATURES = (64, 128, 256, 512, 512)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

FeatureExtractor = nn.Module
"""Maps (N, 3, H, W) in [0, 1] to a dict from layer name to (N, C, H', W')."""


class VggFeatures(nn.Module):
    """VGG up to the deepest of ``layers``.

    Layers are named ``convB_I`` (before its ReLU, as the paper's text has φ for SRGAN-VGG54 in most
    reimplementations) and ``reluB_I`` (after it, the paper's φ_{i,j}), with block B and convolution I from 1.
    """

    def __init__(self, *, variant: str, layers: Sequence[str]) -> None:
        super().__init__()
        names = vgg_layer_names(variant)
        _check_layers(layers, names, variant)
        self.layers = frozenset(layers)
        self.names = names[: 1 + max(names.index(layer) for layer in layers)]
        self.features = nn.Sequential(*_vgg_modules(self.names))
        self.normalised = variant == "vgg19-normalised"
        if self.normalised:
            self.preprocess = nn.Conv2d(3, 3, 1)
            for layer in self.features:
                if isinstance(layer, nn.Conv2d):
                    layer.padding_mode = "reflect"
                    layer._reversed_padding_repeated_twice = [1, 1, 1, 1]  # pyright: ignore[reportPrivateUsage]  # torch sets it only in the constructor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Features by layer name."""
        x = self.preprocess(picture) if self.normalised else (picture - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.layers:
                found[name] = x
        return found


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


SQUEEZENET_FIRES = {
    "fire2": (64, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
SQUEEZENET_LAYERS = ("conv1", *SQUEEZENET_FIRES)
SQUEEZENET_POOLED = ("conv1", "fire3", "fire5")


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet 1.1 up to the deepest of ``layers``: ``conv1``, ``fire2`` to ``fire9``, after their ReLU."""

    def __init__(self, *, layers: Sequence[str]) -> None:
        super().__init__()
        _check_layers(layers, SQUEEZENET_LAYERS, "squeezenet")
        self.layers = frozenset(layers)
        self.names = SQUEEZENET_LAYERS[: 1 + max(SQUEEZENET_LAYERS.index(layer) for layer in layers)]
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        for name in self.names[1:]:
            channels, squeeze, expand = SQUEEZENET_FIRES[name]
            self.add_module(name, Fire(channels, squeeze=squeeze, expand=expand))
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Features by layer name."""
        x = functional.relu(self.conv1(255 * picture.flip(1) - self.mean))
        found: dict[str, Tensor] = {}
        for name in self.names:
            if name != "conv1":
                x = self.get_submodule(name)(x)
            if name in self.layers:
                found[name] = x
            if name in SQUEEZENET_POOLED:
                x = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
        return found


def load_features(network: str, *, layers: Sequence[str], path: Path) -> FeatureExtractor:
    """Make a feature network with weights from a file, frozen and in evaluation mode.

    Args:
        network: ``vgg16``, ``vgg19`` (torchvision's weights), ``vgg19-normalised`` or ``squeezenet``.
        layers: whose activations are wanted.
        path: safetensors, or torchvision's ``.pth`` (read without unpickling code).

    Raises:
        UsageError: for an unknown network or layer.
        ModelError: for a file that is missing or does not fit.
    """
    if network in VGG_BLOCKS:
        extractor: nn.Module = VggFeatures(variant=network, layers=layers)
    elif network == "squeezenet":
        extractor = SqueezeNetFeatures(layers=layers)
    else:
        raise UsageError(f"a feature network is one of {', '.join(VGG_BLOCKS)}, squeezenet, not {network!r}")
    wanted = extractor.state_dict()
    tensors = _read(path)
    missing = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    if missing:
        raise ModelError(
            f"{path} does not hold the weights of {network}: {missing[0]} is missing or of another shape"
        )
    extractor.load_state_dict({name: tensors[name].float() for name in wanted})
    return extractor.eval().requires_grad_(False)


FEATURE_FILES = {
    "vgg16": "vgg16-*",
    "vgg19": "vgg19-*",
    "vgg19-normalised": "vgg19_normalised*",
    "squeezenet": "squeezenet1_1*",
}


def find_feature_weights(network: str, source: Path | None) -> Path:
    """The file with a network's weights: ``source`` itself, or the one of its name in the folder ``source``.

    Raises:
        ModelError: where there is none, with the names that are looked for.
    """
    pattern = FEATURE_FILES[network]
    if source is None:
        raise ModelError(
            f"the recipe compares features of {network}: name its weights ({pattern}) with --features"
        )
    if not source.is_dir():
        return source
    found = sorted(source.glob(pattern))
    if not found:
        raise ModelError(f"there is no {pattern} in {source}, which the recipe's features of {network} need")
    return found[0]


def vgg_layer_names(variant: str) -> list[str]:
    """All layers of a VGG in order, pools included."""
    names: list[str] = []
    for block, convs in enumerate(VGG_BLOCKS[variant], start=1):
        for conv in range(1, convs + 1):
            names += [f"conv{block}_{conv}", f"relu{block}_{conv}"]
        names.append(f"pool{block}")
    return names


def _vgg_modules(names: Sequence[str]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    channels = 3
    for name in names:
        if name.startswith("conv"):
            features = VGG_FEATURES[int(name[4]) - 1]
            modules.append(nn.Conv2d(channels, features, 3, padding=1))
            channels = features
        else:
            modules.append(nn.ReLU() if name.startswith("relu") else nn.MaxPool2d(2))
    return modules


def _check_layers(layers: Sequence[str], known: Sequence[str], network: str) -> None:
    for layer in layers:
        if layer not in known:
            raise UsageError(f"{network} has no layer {layer!r}; it has {', '.join(known)}")
    if not layers:
        raise UsageError(f"no layer of {network} is asked for; it has {', '.join(known)}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".pth":
        return load_tensors(path)[0]
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    return torch.load(path, map_location="cpu", weights_only=True)  # tensors alone
