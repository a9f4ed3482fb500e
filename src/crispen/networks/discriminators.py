"""Discriminators: is this picture real or generated?

All of them map (N, 3, H, W), RGB in [0, 1], to logits, positive for real; a last sigmoid is left to the loss,
which is exact on logits. They halve the size four times, and differ in the body that does so. How the judgement
is drawn from it is the ``head``:

- ``dense``: the two dense layers of the paper's Figure 4. One logit (N, 1), for H = W = ``patch_size`` alone;
- ``position``: the same two layers at each position by itself, as 1×1 convolutions (Keras-GAN's SRGAN). One logit
  for each, (N, 1, ⌈H/16⌉, ⌈W/16⌉), for any size;
- ``pooled``: the mean over positions, then the two layers. One logit (N, 1), for any size;
- ``patch``: a single 1×1 convolution (as in Isola et al., "Image-to-Image Translation", CVPR 2017). One logit for
  each position, for any size.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalised

from crispen.errors import UsageError

Head = Literal["dense", "position", "pooled", "patch"]
"""How the logits are drawn from the body."""

WIDTHS = (1, 2, 4, 8)
"""Features at each size, as multiples of the first convolution's."""


class Discriminator(nn.Module, ABC):
    """What the discriminators have in common: a body, and a judgement of what it found.

    Args:
        num_features: of the first convolution, 64 in the figure.
        batch_norm: after each convolution but the first (and those of skips).
        batch_norm_momentum: the weight of a new batch in the running statistics, in torch's sense; what Keras
            calls a momentum of 0.8 is 0.2 here.
        spectral_norm: divide each weight by its largest singular value (Miyato et al., ICLR 2018).
        head: how the logits are drawn from the body; see this module's head.
        patch_size: side of the pictures, a multiple of 16; only the dense head needs it.

    Raises:
        UsageError: for a head that is unknown, or dense without a fitting ``patch_size``.
    """

    def __init__(
        self,
        *,
        num_features: int = 64,
        batch_norm: bool = True,
        batch_norm_momentum: float = 0.1,
        spectral_norm: bool = False,
        head: Head = "dense",
        patch_size: int | None = 96,
    ) -> None:
        super().__init__()
        norms = _Norms(batch=batch_norm, momentum=batch_norm_momentum, spectral=spectral_norm)
        self.body = nn.Sequential(*self._layers(num_features, norms))
        self.judge = _judge(head, num_features, patch_size, norms)

    @abstractmethod
    def _layers(self, num_features: int, norms: _Norms) -> list[nn.Module]:
        """The body, which halves the size four times and ends with eight times ``num_features``."""

    def forward(self, picture: Tensor) -> Tensor:
        """Judge (N, 3, H, W) in [0, 1]: logits (N, 1) or (N, 1, ⌈H/16⌉, ⌈W/16⌉)."""
        return self.forward_features(picture)[1]

    def forward_features(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """Judge, and return what was seen on the way.

        The features are for feature matching (Larsen et al., "Autoencoding beyond pixels", ICML 2016; Wang et
        al., pix2pixHD, CVPR 2018, equation 4).

        Args:
            picture: (N, 3, H, W) in [0, 1].

        Returns:
            The activations (N, C, H', W') after each LeakyReLU or residual block of the body, first to last; and
            the logits.
        """
        x = 2 * picture - 1
        features: list[Tensor] = []
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, (nn.LeakyReLU, DownBlock)):
                features.append(x)
        return features, self.judge(x)


class SRGANDiscriminator(Discriminator):
    """The discriminator of the paper's Figure 4 (bottom): eight 3×3 convolutions, every second one halving."""

    def _layers(self, num_features: int, norms: _Norms) -> list[nn.Module]:
        body = [norms.conv(3, num_features), nn.LeakyReLU(0.2), *_halving(num_features, num_features, norms)]
        for narrow, wide in itertools.pairwise(WIDTHS):
            before, after = narrow * num_features, wide * num_features
            body += [norms.conv(before, after), *norms.after(after), nn.LeakyReLU(0.2)]
            body += _halving(after, after, norms)
        return body


class DownBlock(nn.Module):
    """A residual block that halves the size (He et al., CVPR 2016; no activation after the sum, as the generator's).

    (N, channels, H, W) to (N, features, ⌈H/2⌉, ⌈W/2⌉).
    """

    def __init__(self, channels: int, features: int, *, norms: _Norms) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_halving(channels, features, norms), norms.conv(features, features), *norms.after(features)
        )
        self.skip = norms.conv(channels, features, size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the skip: because the shape changes, a 1×1 convolution of every second pixel.

        The same as one with a stride of 2, whose gradient oneDNN of torch 2.13 writes beyond its memory, where the
        processor has no AVX-512 and there are fewer than 8 channels.
        """
        return self.skip(x[..., ::2, ::2]) + self.residual(x)


class ResidualDiscriminator(Discriminator):
    """A discriminator whose gradients have skips to go by: one convolution, then four residual blocks that halve."""

    def _layers(self, num_features: int, norms: _Norms) -> list[nn.Module]:
        body = [norms.conv(3, num_features), nn.LeakyReLU(0.2)]
        for narrow, wide in itertools.pairwise((1, *WIDTHS)):
            body.append(DownBlock(narrow * num_features, wide * num_features, norms=norms))
        return body


DISCRIMINATORS = {"srgan": SRGANDiscriminator, "residual": ResidualDiscriminator}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Norms:
    """What keeps the numbers of a discriminator in bounds."""

    batch: bool
    momentum: float
    spectral: bool

    def conv(self, channels: int, features: int, *, size: int = 3, stride: int = 1) -> nn.Module:
        return self.weighted(nn.Conv2d(channels, features, size, stride=stride, padding=size // 2))

    def weighted(self, layer: nn.Module) -> nn.Module:
        return spectrally_normalised(layer) if self.spectral else layer

    def after(self, features: int) -> list[nn.Module]:
        """Return what follows a convolution."""
        return [nn.BatchNorm2d(features, momentum=self.momentum)] if self.batch else []


def _halving(channels: int, features: int, norms: _Norms) -> list[nn.Module]:
    return [norms.conv(channels, features, stride=2), *norms.after(features), nn.LeakyReLU(0.2)]


def _judge(head: Head, num_features: int, patch_size: int | None, norms: _Norms) -> nn.Module:
    channels, hidden = WIDTHS[-1] * num_features, 16 * num_features
    match head:
        case "dense":
            return _dense(channels, hidden, patch_size, norms)
        case "position":
            return nn.Sequential(*_two_layers(channels, hidden, norms))
        case "pooled":
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), *_two_layers(channels, hidden, norms), nn.Flatten())
        case "patch":
            return norms.conv(channels, 1, size=1)
        case _:
            raise UsageError(f"a discriminator's head is one of {', '.join(get_args(Head))}, not {head!r}")


def _two_layers(channels: int, hidden: int, norms: _Norms) -> list[nn.Module]:
    return [norms.conv(channels, hidden, size=1), nn.LeakyReLU(0.2), norms.conv(hidden, 1, size=1)]


def _dense(channels: int, hidden: int, patch_size: int | None, norms: _Norms) -> nn.Module:
    if patch_size is None or patch_size < 16 or patch_size % 16:
        raise UsageError(f"a dense head needs a patch_size that is a multiple of 16, not {patch_size}")
    return nn.Sequential(
        nn.Flatten(),
        norms.weighted(nn.Linear(channels * (patch_size // 16) ** 2, hidden)),
        nn.LeakyReLU(0.2),
        norms.weighted(nn.Linear(hidden, 1)),
    )
