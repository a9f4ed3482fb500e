"""Losses: functions that return a scalar and own nothing. The weights meet in `crispen.training.steps`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

PixelLoss = Callable[[Tensor, Tensor], Tensor]

PIXEL_LOSSES: dict[str, PixelLoss] = {"l1": functional.l1_loss, "mse": functional.mse_loss}
"""By the name that a recipe uses; the paper's equation 4 is ``mse``."""


def perceptual_loss(
    sr: Mapping[str, Tensor],
    hr: Mapping[str, Tensor],
    *,
    layers: Mapping[str, float],
    difference: PixelLoss,
) -> Tensor:
    """The distance of two pictures in a network's features (the paper's equation 5), summed over layers.

    Args:
        sr: features of the generated pictures by layer, (N, C, H, W) each.
        hr: features of the true pictures.
        layers: the weight of each layer. The paper rescales VGG's features by 1/12.75 instead, which for squared
            differences is a weight of 0.006.
        difference: mean squared or mean absolute difference.
    """
    terms = [weight * difference(sr[layer].float(), hr[layer].float()) for layer, weight in layers.items()]
    return sum(terms[1:], terms[0])


def adversarial_loss(fake_logits: Tensor) -> Tensor:
    """-log D(G(lr)), the paper's equation 6 (averaged, not summed): small where fakes pass for real."""
    return functional.softplus(-fake_logits.float()).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log D(hr) - log(1 - D(G(lr))), the discriminator's side of the paper's equation 2."""
    return functional.softplus(-real_logits.float()).mean() + functional.softplus(fake_logits.float()).mean()
