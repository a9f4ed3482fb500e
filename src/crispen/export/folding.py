"""A generator as it is shipped: without what only training needs."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crispen.networks.generators import AnyGenerator


def at_rest(generator: AnyGenerator) -> AnyGenerator:
    """Return a copy on the CPU, in evaluation mode."""
    return copy.deepcopy(generator).cpu().float().eval()


def folded(generator: AnyGenerator) -> AnyGenerator:
    """Return a copy at rest, with each batch norm folded into the convolution before it.

    In evaluation a batch norm multiplies and adds the same numbers everywhere, and so can the convolution
    (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
    CVPR 2018, equation 14). Results are the same but for rounding.
    """
    generator = at_rest(generator)
    for layers in generator.modules():
        if isinstance(layers, nn.Sequential):
            _fold(layers)
    return generator


def _fold(layers: nn.Sequential) -> None:
    for index, (conv, norm) in enumerate(pairwise(layers)):
        if isinstance(norm, nn.BatchNorm2d):
            layers[index] = fuse_conv_bn_eval(cast(nn.Conv2d, conv), norm)
            layers[index + 1] = nn.Identity()
