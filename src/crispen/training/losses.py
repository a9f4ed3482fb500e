"""Losses: functions that return a scalar and own nothing. The weights meet in `crispen.training.steps`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

PixelLoss = Callable[[Tensor, Tensor], Tensor]

CHARBONNIER_EPSILON = 1e-3
"""Where the loss below turns from a parabola into a cone, in [0, 1]: a quarter of one of 255 levels."""


def charbonnier_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """The absolute difference with a rounded tip, √(d² + ε²), its mean as a scalar.

    (Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for computed imaging", ICIP 1994,
    with the ε of Lai et al., "Deep Laplacian Pyramid Networks", CVPR 2017, section 3.2.)
    """
    return ((sr - hr).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


PSNR_CEILING = 50.0
"""dB: how near to the truth is near enough. A flat crop, on which PSNR has no bound, would drown all others."""


def psnr_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """By how many decibels PSNR is short of 50, where it levels off: (N, C, H, W) in [0, 1] to the mean, a scalar.

    PSNR is a mean over pictures of logarithms; the mean of squared differences leaves the say to the few pictures
    whose errors are large. (Chen et al., "HINet", CVPR Workshops 2021, train on PSNR; the ceiling is ours.)
    """
    squared = (sr - hr).square().flatten(1).mean(1)
    return 10 * torch.log10(1 + squared * 10 ** (PSNR_CEILING / 10)).mean()


PIXEL_LOSSES: dict[str, PixelLoss] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "charbonnier": charbonnier_loss,
    "psnr": psnr_loss,
}
"""By the name that a recipe uses, for pictures in [0, 1]; the paper's equation 4 is ``mse``."""

RANGE_POWERS = {"l1": 1, "mse": 2, "charbonnier": 1, "psnr": 0}
"""The power of the range of pixels that each is proportional to: in [-1, 1], twice as wide, absolute differences are
twice and squared ones four times as large; Charbonnier's tip stays within the same levels, and PSNR is the same."""

_LUMA = 0.299, 0.587, 0.114  # BT.601


def luma(pictures: Tensor) -> Tensor:
    """The brightness of pictures, as BT.601 weighs the channels: (N, 3, H, W) to (N, 1, H, W)."""
    return torch.einsum("nchw,c->nhw", pictures, pictures.new_tensor(_LUMA)).unsqueeze(1)


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
            differences is a weight of 0.00615.
        difference: mean squared or mean absolute difference.
    """
    terms = [weight * difference(sr[layer].float(), hr[layer].float()) for layer, weight in layers.items()]
    return sum(terms[1:], terms[0])


def total_variation_loss(sr: Tensor) -> Tensor:
    """Twice the mean squared difference of neighbours, down plus across: (N, C, H, W) to a scalar.

    (Aly and Dubois 2005, scaled as in the reimplementations of SRGAN that weigh it with 2e-8.)
    """
    down = (sr[:, :, 1:] - sr[:, :, :-1]).square().mean()
    across = (sr[:, :, :, 1:] - sr[:, :, :, :-1]).square().mean()
    return 2 * (down + across)


def grid_loss(sr: Tensor, hr: Tensor, *, scale: int) -> Tensor:
    """How much of a regular grid the error has: 0 where it depends on the content alone.

    Pixels are told apart by their place in the ``scale``×``scale`` square that one pixel of the input becomes. In a
    neighbourhood of 8×8 such squares the mean error should be the same at every place; the mean squared deviation from
    that is the grid (the checkerboard of Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016), while
    detail, which is not tied to the places, nearly cancels out.
    """
    places = functional.pixel_unshuffle(sr - hr, scale)  # (N, 3·scale², H, W), in pixels of the input
    side = min(8, *places.shape[-2:])
    means = functional.avg_pool2d(places, side, stride=max(1, side // 2))
    means = means.reshape(len(sr), sr.shape[1], scale**2, *means.shape[-2:])
    return (means - means.mean(2, keepdim=True)).square().mean()


def texture_loss(sr: Tensor, hr: Tensor, *, scale: int, power: Literal["mean", "median"] = "mean") -> Tensor:
    """How much weaker or stronger the detail is that the input cannot show, wherever and however fine it lies.

    Luma is taken apart into the cosine waves of 8×8 pixels (DCT-II, orthonormal, at every fourth pixel). In a
    neighbourhood of 28×28 pixels, the amplitude of each wave, its root mean square, should be that of the truth: what
    counts is how strong a texture is at every frequency and direction, not where its lines lie, which nobody can know.
    So large a neighbourhood lets detail gather beside a thin line, on ground that is even in truth. So a second look
    has one of 12×12 pixels, in which the power of a single wave says too little: there waves of about the same
    frequency and direction are taken together. The loss is the mean of both.

    Only waves count that are finer than the input's Nyquist frequency. (After Gatys et al., "Texture Synthesis Using
    Convolutional Neural Networks", NIPS 2015, who match statistics of features, and Portilla and Simoncelli, "A
    Parametric Texture Model", IJCV 2000, who match the energies of a filter bank in neighbourhoods.)

    Amplitudes a of ``sr`` and b of ``hr`` are compared by (a - b)² / a. Where the truth may be this or that, its mean
    is least for a² = E[b²], so that on average the power is right; of |a - b| it is least for the median of b, which
    is lower: few places have strong textures. (Half the β-divergence of powers for β = 1/2: Févotte and Idier,
    "Algorithms for Nonnegative Matrix Factorization with the β-divergence", Neural Computation 2011.) That lower one is
    wanted where the input is spoilt, and what might have been there is seldom more than noise.

    Args:
        sr: generated pictures (N, 3, H, W) in [0, 1], of at least 8 pixels a side.
        hr: true pictures, likewise.
        scale: how many pixels one of the input becomes, along each side.
        power: which of all that the truth may be is wanted; ``median`` compares by |a - b|.

    Returns:
        The mean, a scalar; 0 for pictures smaller than a wave.
    """
    if min(hr.shape[-2:]) < _WAVE_SIDE:
        return sr.sum() * 0
    waves, groups = (tensor.to(hr) for tensor in _fine_waves(scale))
    sr_powers, hr_powers = _powers(sr, waves), _powers(hr, waves)
    sr_groups, hr_groups = functional.conv2d(sr_powers, groups), functional.conv2d(hr_powers, groups)
    terms: list[Tensor] = []
    for generated, true, side in ((sr_powers, hr_powers, _WIDE), (sr_groups, hr_groups, _NARROW)):
        a, b = _amplitudes(generated, side=side), _amplitudes(true, side=side)
        terms.append((a - b).abs().mean() if power == "median" else ((a - b).square() / a).mean())
    return torch.stack(terms).mean()


_WAVE_SIDE = 8
_WIDE, _NARROW = 6, 2  # sides of the neighbourhoods, in places of waves
_FAINT = 1e-5  # squared amplitude: below one of 255 levels nothing shows


def _powers(pictures: Tensor, waves: Tensor) -> Tensor:
    """(N, 3, H, W) to the powers of ``waves`` at every fourth pixel, (N, number of waves, h, w)."""
    return functional.conv2d(luma(pictures), waves, stride=_WAVE_SIDE // 2).square()


def _amplitudes(powers: Tensor, *, side: int) -> Tensor:
    """Root mean squares in neighbourhoods of ``side``×``side`` places, which half overlap."""
    side = min(side, *powers.shape[-2:])
    return (functional.avg_pool2d(powers, side, stride=max(1, side // 2)) + _FAINT).sqrt()


@cache
def _fine_waves(scale: int) -> tuple[Tensor, Tensor]:
    """The cosine waves above the input's Nyquist frequency, (number of waves, 1, 8, 8), and groups of alike ones.

    Groups are means, to be convolved with: (number of groups, number of waves, 1, 1). They have three directions,
    upright, level and between, and two frequencies, below and above the middle.
    """
    places = torch.arange(_WAVE_SIDE, dtype=torch.float64)
    waves = torch.cos(torch.pi / _WAVE_SIDE * (places + 0.5) * places[:, None])
    waves = waves / waves.square().sum(1, keepdim=True).sqrt()
    planes = torch.einsum("uy,vx->uvyx", waves, waves)
    frequency = torch.hypot(places[:, None], places)
    fine = frequency > _WAVE_SIDE / scale
    third = torch.atan2(places[:, None], places.expand(_WAVE_SIDE, -1)) // (torch.pi / 6 + 1e-9)  # 0, 1 or 2
    kind = (2 * third + (frequency > 0.75 * _WAVE_SIDE))[fine]
    groups = (kind == torch.arange(6)[:, None]).double()
    groups = groups / groups.sum(1, keepdim=True)
    return planes[fine].unsqueeze(1).float(), groups[:, :, None, None].float()


def feature_matching_loss(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's activations, averaged over its layers.

    (Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", ICML 2016; Wang et al.,
    "pix2pixHD", CVPR 2018, equation 4.)
    """
    return torch.stack(
        [functional.l1_loss(f.float(), r.detach().float()) for f, r in zip(fake, real, strict=True)]
    ).mean()


def gradient_penalty(discriminator: nn.Module, hr: Tensor) -> Tensor:
    """Half the mean squared norm of the logits' gradient at real pictures (N, C, H, W): R1 without its γ.

    (Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, equation 9.)
    """
    real = hr.detach().requires_grad_()
    logits = (
        discriminator(real).float().flatten(1).mean(1)
    )  # (N,), independent of one another without batch norm
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / 2


@dataclass(frozen=True, slots=True)
class AdversarialForm:
    """The two sides of a game between generator and discriminator, both of (real logits, fake logits)."""

    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    """What the discriminator makes small by telling real from fake."""
    generator_loss: Callable[[Tensor, Tensor], Tensor]
    """What the generator makes small by passing fake for real."""
    generator_sees_real: bool = False
    """Whether the generator's loss depends on the real logits."""


def _bce(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(hr) - log(1 - D(G(lr))), the discriminator's side of the paper's equation 2."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def _non_saturating(_: Tensor, fake: Tensor) -> Tensor:
    """-log D(G(lr)), the paper's equation 6 (averaged, not summed): steep where fakes are found out."""
    return functional.softplus(-fake).mean()


def _saturating(_: Tensor, fake: Tensor) -> Tensor:
    """log(1 - D(G(lr))), the generator's side of equation 2 to the letter: flat where fakes are found out."""
    return -functional.softplus(fake).mean()


def _least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """(D(hr) - 1)² + D(G(lr))² (Mao et al., "Least Squares GANs", ICCV 2017, equation 9, twice)."""
    return (real - 1).square().mean() + fake.square().mean()


def _least_squares_generator(_: Tensor, fake: Tensor) -> Tensor:
    """(D(G(lr)) - 1)²."""
    return (fake - 1).square().mean()


def _least_squares_sigmoid(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of both squared errors of a discriminator that ends in a sigmoid, as Keras-GAN trains it."""
    return _least_squares(torch.sigmoid(real), torch.sigmoid(fake)) / 2


def _least_squares_sigmoid_generator(real: Tensor, fake: Tensor) -> Tensor:
    """(sigmoid(D(G(lr))) - 1)²."""
    return _least_squares_generator(real, torch.sigmoid(fake))


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - D(hr)) + max(0, 1 + D(G(lr))) (Lim and Ye, "Geometric GAN", 2017)."""
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def _hinge_generator(_: Tensor, fake: Tensor) -> Tensor:
    """-D(G(lr))."""
    return -fake.mean()


def _relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """Real is to be more real than the mean fake, and fake less than the mean real (Jolicoeur-Martineau 2019).

    The mean of both cross-entropies, as ESRGAN's code has it; the paper has the sum (Wang et al. 2018, equations 1 and
    2).
    """
    return (
        functional.softplus(fake.mean() - real).mean() + functional.softplus(fake - real.mean()).mean()
    ) / 2


def _relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The same with real and fake exchanged."""
    return _relativistic(fake, real)


def _one_minus(real: Tensor, fake: Tensor) -> Tensor:
    """1 - D(hr) + D(G(lr)), D a probability."""
    return 1 - torch.sigmoid(real).mean() + torch.sigmoid(fake).mean()


def _one_minus_generator(_: Tensor, fake: Tensor) -> Tensor:
    """1 - D(G(lr)), D a probability."""
    return 1 - torch.sigmoid(fake).mean()


ADVERSARIAL_FORMS: dict[str, AdversarialForm] = {
    "bce": AdversarialForm(_bce, _non_saturating),
    "bce-saturating": AdversarialForm(_bce, _saturating),
    "least-squares": AdversarialForm(_least_squares, _least_squares_generator),
    "least-squares-sigmoid": AdversarialForm(_least_squares_sigmoid, _least_squares_sigmoid_generator),
    "hinge": AdversarialForm(_hinge, _hinge_generator),
    "relativistic-average": AdversarialForm(_relativistic, _relativistic_generator, generator_sees_real=True),
    "one-minus": AdversarialForm(_one_minus, _one_minus_generator),
}
"""By the name that a recipe uses."""
