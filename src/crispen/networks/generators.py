"""Generators: from a small picture to a large one.

`SRResNet` is the generator of Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative
Adversarial Network", CVPR 2017, Figure 4 (top). The same network is called SRResNet where it was trained on
pixels alone and SRGAN's generator where it was trained against a discriminator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from crispen.errors import UsageError
from crispen.networks.activations import PReLU
from crispen.networks.polyphase import conv_of_shuffled
from crispen.zoo.card import parse_architecture


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a skip (He et al. 2016, in the form of Gross and Wilber, as the paper takes it).

    (N, num_features, H, W) to the same.
    """

    def __init__(self, *, num_features: int, batch_norm: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_norm(num_features, batch_norm=batch_norm),
            PReLU(),
            *_conv_norm(num_features, batch_norm=batch_norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual: (N, num_features, H, W) to the same."""
        return x + self.residual(x)


class SRResNet(nn.Module):
    """The generator of the paper's Figure 4.

    Maps (N, 3, H, W) to (N, 3, H·scale, W·scale), RGB in [0, 1] on both sides; the output is not clamped.

    Args:
        scale: 2, 4 or 8: one sub-pixel upsampler of 2× for each doubling.
        num_blocks: B of the figure, 16 in the paper.
        num_features: channels of every convolution in the body, 64 in the paper.
        batch_norm: the paper's normalisation; without it training is faster and needs `damp_residuals`.
    """

    def __init__(
        self, *, scale: int = 4, num_blocks: int = 16, num_features: int = 64, batch_norm: bool = True
    ) -> None:
        super().__init__()
        if scale not in (2, 4, 8):
            raise UsageError(f"scale must be 2, 4 or 8, not {scale}")
        if num_blocks < 1 or num_features < 1:
            raise UsageError(
                f"num_blocks and num_features must be at least 1, not {num_blocks}, {num_features}"
            )
        self.scale = scale
        self.num_blocks = num_blocks
        self.num_features = num_features
        self.batch_norm = batch_norm

        self.head = nn.Sequential(nn.Conv2d(3, num_features, 9, padding=4), PReLU())
        self.body = nn.Sequential(
            *(ResidualBlock(num_features=num_features, batch_norm=batch_norm) for _ in range(num_blocks)),
            *_conv_norm(num_features, batch_norm=batch_norm),
        )
        self.upsampler = nn.Sequential(*_doublings(num_features, times=int(math.log2(scale))))
        self.tail = nn.Conv2d(num_features, 3, 9, padding=4)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) to (N, 3, H·scale, W·scale)."""
        shallow = self.head(lr)
        deep = shallow + self.body(shallow)
        return conv_of_shuffled(self.upsampler(deep), self.tail)

    @property
    def architecture(self) -> dict[str, str | int | bool]:
        """What `build_generator` needs to make this network again."""
        return {
            "generator": "srresnet",
            "scale": self.scale,
            "num_blocks": self.num_blocks,
            "num_features": self.num_features,
            "batch_norm": self.batch_norm,
        }

    @property
    def context(self) -> int:
        """How far, in pixels of the input, an output pixel sees: the radius of the receptive field, rounded up."""
        return parse_architecture(self.architecture, source="this generator").context

    def damp_residuals(self, factor: float = 0.1) -> None:
        """Scale the last convolution of every block, so that without batch norm the network starts near identity.

        (In the manner of Zhang, Dauphin and Ma, "Fixup Initialization", ICLR 2019.)
        """
        with torch.no_grad():
            for block in self.body:
                if isinstance(block, ResidualBlock):
                    last = [layer for layer in block.residual if isinstance(layer, nn.Conv2d)][-1]
                    last.weight.mul_(factor)


def _conv_norm(num_features: int, *, batch_norm: bool) -> list[nn.Module]:
    conv = nn.Conv2d(num_features, num_features, 3, padding=1)
    return [conv, nn.BatchNorm2d(num_features)] if batch_norm else [conv]


def _doublings(num_features: int, *, times: int) -> list[nn.Module]:
    """Sub-pixel convolutions (Shi et al. 2016), the last one's shuffle left to the tail.

    The figure has the PReLU after the shuffle; with its one slope the order makes no difference.
    """
    steps: list[nn.Module] = []
    for _ in range(times):
        steps += [nn.Conv2d(num_features, 4 * num_features, 3, padding=1), PReLU(), nn.PixelShuffle(2)]
    return steps[:-1]


GENERATORS = {"srresnet": SRResNet}


def build_generator(architecture: dict[str, str | int | bool]) -> SRResNet:
    """Make a generator from what its ``architecture`` says, as stored beside its weights.

    Raises:
        UsageError: for an unknown generator or an argument that it does not take.
    """
    arguments = dict(architecture)
    name = arguments.pop("generator", None)
    if name not in GENERATORS:
        raise UsageError(f"generator must be one of {', '.join(GENERATORS)}, not {name!r}")
    try:
        return GENERATORS[name](**arguments)  # pyright: ignore[reportArgumentType]  # checked by the constructor
    except TypeError as error:
        raise UsageError(f"generator {name!r} cannot be built from {arguments}: {error}") from error
