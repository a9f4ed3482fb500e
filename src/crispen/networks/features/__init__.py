"""Feature networks for the perceptual loss: a picture in, activations of named layers out.

They are networks trained on ImageNet or larger sets, computed no further than the deepest layer that is asked for:

- ``vgg16``, ``vgg19``: torchvision's weights; ``vgg19-normalised``: rescaled (see `crispen.networks.features.vgg`);
- ``squeezenet-torchvision``, ``squeezenet``: SqueezeNet 1.1 with torchvision's and with Caffe's weights;
- ``timm:MODEL``: any model of timm, as ``timm:resnet50`` or ``timm:vit_small_patch14_dinov2.lvd142m``.

Pictures go in as RGB in [0, 1]; each network does its own preprocessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn, random

from crispen.errors import ModelError, UsageError
from crispen.networks.features.layers import nearest
from crispen.networks.features.squeezenet import SQUEEZENETS, SqueezeNetFeatures, from_torchvision
from crispen.networks.features.timm import TimmFeatures, load_timm
from crispen.networks.features.vgg import VGG_BLOCKS, VggFeatures, vgg_layer_names
from crispen.networks.features.weights import find_feature_weights, read_tensors

__all__ = [
    "FEATURE_NETWORKS", "VGG_BLOCKS",
    "FeatureExtractor", "SqueezeNetFeatures", "TimmFeatures", "VggFeatures",
    "find_feature_weights", "load_features", "vgg_layer_names",
]  # fmt: skip

FEATURE_NETWORKS = (*VGG_BLOCKS, *SQUEEZENETS)
"""The networks that have a name of their own; besides them there is ``timm:MODEL``."""

FeatureExtractor = nn.Module
"""Maps (N, 3, H, W) in [0, 1] to a dict from layer name to features: (N, C, H', W'), or tokens (N, T, C)."""


def load_features(network: str, *, layers: Sequence[str], source: Path | None = None) -> FeatureExtractor:
    """Make a feature network with trained weights, frozen and in evaluation mode.

    torch's random numbers go on as if nothing had happened, so that features do not decide about first weights.

    Args:
        network: one of `FEATURE_NETWORKS`, or ``timm:`` and the name of one of timm's models.
        layers: whose activations are wanted.
        source: the file with the weights (safetensors, or a ``.pth``, which is read without running code from it);
            or a folder with such files, under the names that torchvision and timm give them; None for torchvision's
            or timm's own download, which is kept and used again.

    Raises:
        UsageError: for an unknown network or layer, with the nearest known one.
        ModelError: for a file that is missing, cannot be downloaded, or does not fit.
        MissingExtra: for a model of timm where timm is not installed.
    """
    with random.fork_rng(devices=[]):
        if network.startswith("timm:"):
            extractor: nn.Module = load_timm(network.removeprefix("timm:"), layers=layers, source=source)
        else:
            extractor = _make(network, layers)
            _fill(extractor, network, find_feature_weights(network, source))
    return extractor.eval().requires_grad_(False)


def _make(network: str, layers: Sequence[str]) -> nn.Module:
    if network in VGG_BLOCKS:
        return VggFeatures(variant=network, layers=layers)
    if network in SQUEEZENETS:
        return SqueezeNetFeatures(variant=network, layers=layers)
    hint = nearest(network, FEATURE_NETWORKS)
    raise UsageError(
        f"a feature network is one of {', '.join(FEATURE_NETWORKS)} or timm:MODEL, not {network!r}{hint}"
    )


def _fill(extractor: nn.Module, network: str, path: Path) -> None:
    tensors = read_tensors(path)
    if network == "squeezenet-torchvision":
        tensors = from_torchvision(tensors)
    wanted = extractor.state_dict()
    missing = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    if missing:
        raise ModelError(
            f"{path} does not hold the weights of {network}: {missing[0]} is missing or of another shape"
        )
    extractor.load_state_dict({name: tensors[name].float() for name in wanted})
