"""Discriminators: is this picture real or generated?"""

from __future__ import annotations

from torch import Tensor, nn

from crispen.errors import UsageError

WIDTHS = (1, 1, 2, 2, 4, 4, 8, 8)
"""Features of the eight convolutions as multiples of the first; every second one halves the size."""


class SRGANDiscriminator(nn.Module):
    """The discriminator of the paper's Figure 4 (bottom): eight 3×3 convolutions, then a judgement.

    Maps (N, 3, H, W) in [0, 1] to logits, positive for real: (N, 1) with the figure's two dense layers,
    which fix H = W = ``patch_size``; without them (N, 1, H/16, W/16), one for each position, for any size from 16.
    The figure's last sigmoid is left to the loss, which is exact on logits.

    Args:
        num_features: of the first convolution, 64 in the figure.
        batch_norm: after each convolution but the first.
        patch_size: side of the pictures for the dense layers, a multiple of 16; None leaves them out.
    """

    def __init__(
        self, *, num_features: int = 64, batch_norm: bool = True, patch_size: int | None = 96
    ) -> None:
        super().__init__()
        if patch_size is not None and (patch_size < 16 or patch_size % 16):
            raise UsageError(f"patch_size must be a multiple of 16 (or None), not {patch_size}")
        self.body = nn.Sequential(*_convolutions(num_features, batch_norm=batch_norm))
        channels = num_features * WIDTHS[-1]
        if patch_size is None:
            self.judge: nn.Module = nn.Conv2d(channels, 1, 1)
        else:
            self.judge = nn.Sequential(
                nn.Flatten(),
                nn.Linear(channels * (patch_size // 16) ** 2, 16 * num_features),
                nn.LeakyReLU(0.2),
                nn.Linear(16 * num_features, 1),
            )

    def forward(self, picture: Tensor) -> Tensor:
        """Judge (N, 3, H, W): logits (N, 1) or (N, 1, H/16, W/16)."""
        return self.judge(self.body(2 * picture - 1))


def _convolutions(num_features: int, *, batch_norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for index, width in enumerate(WIDTHS):
        features = num_features * width
        layers.append(nn.Conv2d(channels, features, 3, stride=1 + index % 2, padding=1))
        if batch_norm and index > 0:
            layers.append(nn.BatchNorm2d(features))
        layers.append(nn.LeakyReLU(0.2))
        channels = features
    return layers


DISCRIMINATORS = {"srgan": SRGANDiscriminator}
