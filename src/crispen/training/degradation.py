"""Small pictures as phones, the web and scanners leave them, made of large ones.

The degradation is of second order, as Wang et al. have it ("Real-ESRGAN", ICCVW 2021, section 3): two rounds of blur,
resizing, noise and saving with loss. Within a round they come in any order, after Zhang et al. ("Designing a Practical
Degradation Model for Deep Blind Image Super-Resolution", ICCV 2021, section 3). How bad things get varies from crop to
crop: each has a severity, which all its ranges share, so that nearly clean pictures are as common as bad ones.

Everything is drawn from one generator, in one order: the same generator gives the same picture. Planes are float32
(3, H, W) and nominally in [0, 1]; noise and ringing may take them beyond until the picture is saved.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crispen.errors import UsageError
from crispen.evaluation import Reduction
from crispen.training.recipe import DegradationTable, Recipe, RoundTable
from crispen.training.records import Bytes

Operation = Callable[[Tensor], Tensor]
"""Takes planes and returns planes, of another size perhaps."""

T = TypeVar("T")

GENERALISED_BETA = (0.5, 4.0)
"""Exponents of generalised Gaussians; 1 is the Gaussian's (Wang et al., section 3.2)."""

PLATEAU_BETA = (1.0, 2.0)
"""Exponents of kernels with a plateau (likewise)."""

SHARPENING_SIGMA = 1.5
"""Of the unsharp mask, in pixels."""

_MAX_RADIUS = 20  # of a kernel, in pixels
_FFT_MULTIPLE = 32  # sides with large prime factors transform slowly
_WEBP_EFFORT = 1  # of 6: the loss is about the same, and the time a third


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What everything that happens to one picture shares."""

    random: np.random.Generator
    severity: float
    """How far, in [0, 1], ranges go from their gentle end to their harsh one."""
    height: int
    width: int
    """Sides of the large picture."""
    scale: int

    def happens(self, share: float) -> bool:
        """Toss a coin that falls on this side with this probability."""
        return self.random.random() < share

    def draw(self, ends: tuple[float, float]) -> float:
        """Draw evenly from a range, as far as severity lets it go."""
        gentle, harsh = ends
        return gentle + self.severity * self.random.random() * (harsh - gentle)

    def pick(self, weights: Mapping[T, float]) -> T:
        """Draw a key with a probability proportional to its value."""
        ends = list(accumulate(weights.values()))
        return list(weights)[bisect_right(ends, self.random.random() * ends[-1])]

    def pixels_per_original(self, planes: Tensor) -> float:
        """Pixels as they are now for each of the large picture, along a side."""
        return planes.shape[-1] / self.width


def degrade(hr: Bytes, *, scale: int, table: DegradationTable, random: np.random.Generator) -> Bytes:
    """Make a small picture of a large one, and spoil it.

    Args:
        hr: (H, W, 3), sides multiples of the scale. Beyond its borders it is thought to go on as it ends, so that what
            is to be a crop in the middle of a larger picture is better cut out of the result.
        scale: large pixels per small one, along a side.
        table: what may happen, and how often.
        random: decides what does happen; is left in another state.

    Returns:
        (H/scale, W/scale, 3). A pixel stands for the scale x scale pixels of ``hr`` at its place: nothing is shifted.
    """
    height, width = hr.shape[:2]
    case = _Case(random=random, severity=random.random(), height=height, width=width, scale=scale)
    planes = _to_planes(hr)
    for operation in (*_first_round(case, table), *_second_round(case, table)):
        planes = operation(planes)
    return _to_bytes(planes)


def degrade_repeatably(hr: Bytes, *, scale: int, table: DegradationTable, seed: int = 0) -> Bytes:
    """Spoil a picture to be measured on: always in the same way, which no other picture shares.

    What happens follows from the picture's own pixels and the seed. So it is the same at every validation, in every
    run and in an evaluation, whatever the file is called and whichever pictures stand beside it.

    Args:
        hr: (H, W, 3), a whole picture, sides multiples of the scale.
        scale: large pixels per small one, along a side.
        table: what may happen, and how often; but for ``clean_share``: each picture is spoilt.
        seed: another one spoils all pictures in another way.

    Returns:
        (H/scale, W/scale, 3).
    """
    fingerprint = int.from_bytes(hashlib.sha256(hr.tobytes()).digest(), "big")
    random = np.random.default_rng([seed, fingerprint])
    writable = hr.copy()  # which torch wants, and a memory map is not
    return degrade(writable, scale=scale, table=table, random=random)


def reduction_of(recipe: Recipe, *, seed: int = 0) -> Reduction:
    """A recipe's degradation as a way to make a benchmark's small pictures; seed 0 has those of a run's validation.

    Raises:
        UsageError: where the recipe has none.
    """
    table = recipe.data.degradation
    if table is None:
        raise UsageError(f"the recipe {recipe.title!r} has no table [data.degradation] to spoil pictures by")

    def make(hr: Bytes, scale: int) -> Bytes:
        return degrade_repeatably(hr, scale=scale, table=table, seed=seed)

    decides = table.model_dump_json(exclude={"clean_share", "sharpen_targets"})
    fingerprint = hashlib.sha256(decides.encode()).hexdigest()[:12]
    return Reduction(make=make, description=f"spoilt by [data.degradation] {fingerprint}, seed {seed}")


def sharpen(hr: Bytes, *, weight: float) -> Bytes:
    """Add what a blur takes away, so many times: an unsharp mask on (H, W, 3)."""
    planes = _to_planes(hr)
    blurred = _filtered(planes, _bell("gaussian", sigmas=(SHARPENING_SIGMA, SHARPENING_SIGMA)))
    return _to_bytes(planes + weight * (planes - blurred))


# Rounds


def _first_round(case: _Case, table: DegradationTable) -> list[Operation]:
    operations: list[Operation] = [
        partial(_blur, case, table.first),
        partial(_resize_anyhow, case, table),
        partial(_add_noise, case, table.first),
        partial(_save, case, table.first),
    ]
    case.random.shuffle(operations)  # pyright: ignore[reportArgumentType]  # a list is allowed
    return operations


def _second_round(case: _Case, table: DegradationTable) -> list[Operation]:
    operations: list[Operation] = [
        partial(_blur, case, table.second),
        partial(_resize, case, table, height=case.height // case.scale, width=case.width // case.scale),
        partial(_add_noise, case, table.second),
    ]
    last = [partial(_save, case, table.second)]
    if not case.happens(table.saved_last_share):
        operations, last = operations + last, []
    case.random.shuffle(operations)  # pyright: ignore[reportArgumentType]  # likewise
    return operations + last


# Blur


def _blur(case: _Case, table: RoundTable, planes: Tensor) -> Tensor:
    if not case.happens(table.blur_share):
        return planes
    shape, per_original = case.pick(table.kernels), case.pixels_per_original(planes)
    if shape == "sinc":
        per_small = per_original * case.scale  # the small picture's Nyquist frequency is π at its own size
        return _filtered(planes, _sinc(math.pi * min(1.0, case.draw(table.sinc_cutoff) / per_small)))
    sigma = case.draw(table.blur_sigma)
    other = case.draw(table.blur_sigma) if case.happens(table.anisotropic_share) else sigma
    angle = case.random.uniform(0, math.pi)
    beta = case.random.uniform(*PLATEAU_BETA if shape == "plateau" else GENERALISED_BETA)
    sigmas = (sigma * per_original, other * per_original)
    return _filtered(planes, _bell(shape, sigmas=sigmas, angle=angle, beta=beta))


def _bell(shape: str, *, sigmas: tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """A kernel (K, K) with a sum of 1: Wang et al., section 3.2.

    Args:
        shape: ``gaussian``, ``generalised`` or ``plateau``.
        sigmas: standard deviations along ``angle`` and across it, in pixels.
        angle: in radians.
        beta: exponent of the latter two shapes.
    """
    y, x = _grid(math.ceil(3 * max(sigmas)))
    along = (math.cos(angle) * x + math.sin(angle) * y) / sigmas[0]
    across = (math.cos(angle) * y - math.sin(angle) * x) / sigmas[1]
    squared = along.square() + across.square()
    if shape == "plateau":
        kernel = 1 / (1 + squared**beta)
    else:
        kernel = torch.exp(-(squared if shape == "gaussian" else squared**beta) / 2)
    return (kernel / kernel.sum()).float()


def _sinc(cutoff: float) -> Tensor:
    """The ideal low-pass of radius ``cutoff`` (in (0, π]), cut off after its third ring: section 3.5, equation 6."""
    y, x = _grid(math.ceil(10 / cutoff))  # J₁(10.17) is its third zero
    radius = torch.hypot(y, x)
    bessel = cast(Tensor, torch.special.bessel_j1(cutoff * radius))
    kernel = cutoff / (2 * math.pi * radius) * bessel
    kernel[radius == 0] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).float()


def _grid(radius: int) -> tuple[Tensor, Tensor]:
    """Rows (K, 1) and columns (1, K) around zero, in float64, as far as ``radius`` or the largest that is allowed."""
    radius = min(max(radius, 1), _MAX_RADIUS)
    line = torch.arange(-radius, radius + 1, dtype=torch.float64)
    return line[:, None], line


def _filtered(planes: Tensor, kernel: Tensor) -> Tensor:
    """Convolve planes, which go on beyond their borders as they end, with a kernel (K, K), K odd; by FFT."""
    radius, (height, width) = len(kernel) // 2, planes.shape[1:]
    padded = functional.pad(planes, (radius,) * 4, mode="replicate")
    sides = [-(-side // _FFT_MULTIPLE) * _FFT_MULTIPLE for side in padded.shape[1:]]
    spectra = [cast(Tensor, torch.fft.rfft2(pixels, s=sides)) for pixels in (padded, kernel)]
    filtered = cast(Tensor, torch.fft.irfft2(spectra[0] * spectra[1], s=sides))
    return filtered[:, 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]


# Resizing


def _resize_anyhow(case: _Case, table: DegradationTable, planes: Tensor) -> Tensor:
    way = case.pick(table.resizings)
    if way == "keep":
        return planes
    factor = case.draw(table.factor_down if way == "down" else table.factor_up)
    height, width = (max(1, round(factor * side)) for side in (case.height, case.width))
    return _resize(case, table, planes, height=height, width=width)


def _resize(case: _Case, table: DegradationTable, planes: Tensor, *, height: int, width: int) -> Tensor:
    kind, aliased = case.pick(table.interpolations), case.happens(table.aliased_share)
    rows, columns = (
        _resampling(old, new, kind=kind, aliased=aliased)
        for old, new in zip(planes.shape[1:], (height, width), strict=True)
    )
    return rows @ planes @ columns.T


def _resampling(length: int, new_length: int, *, kind: str, aliased: bool = False) -> Tensor:
    """The weights of all pixels in each new one, (new_length, length), so that both lines begin and end together.

    Args:
        length: of the line as it is.
        new_length: of the line as it is to be.
        kind: ``area``, ``bilinear`` or ``bicubic`` (Keys, a = -1/2).
        aliased: whether the latter two are as narrow when they shrink as when they enlarge.
    """
    step = length / new_length
    centres = (torch.arange(new_length) + 0.5) * step - 0.5
    distance = (torch.arange(length) - centres[:, None]).abs()
    stretch = 1.0 if aliased else max(1.0, step)
    if kind == "area":  # how much of a pixel lies under the new one
        weights = ((step + 1) / 2 - distance).clamp(0, min(step, 1))
    elif kind == "bilinear":
        weights = (1 - distance / stretch).clamp(min=0)
    else:
        weights = _cubic(distance / stretch)
    return weights / weights.sum(1, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))


# Noise


def _add_noise(case: _Case, table: RoundTable, planes: Tensor) -> Tensor:
    if not case.happens(table.noise_share):
        return planes
    is_poisson, is_gray = case.happens(table.poisson_share), case.happens(table.gray_noise_share)
    shape = (1, *planes.shape[1:]) if is_gray else tuple(planes.shape)
    noise = torch.from_numpy(case.random.standard_normal(shape, np.float32))
    if not is_poisson:
        return planes + case.draw(table.noise_sigma) / 255 * noise
    # Poisson's distribution by the normal one with its variance: at these counts the eye sees no difference.
    light = planes.mean(0, keepdim=True) if is_gray else planes
    return planes + (case.draw(table.poisson_gain) / 255 * light.clamp(min=0)).sqrt() * noise


# Saving with loss


def _save(case: _Case, table: RoundTable, planes: Tensor) -> Tensor:
    if not case.happens(table.save_share):
        return planes
    if case.happens(table.webp_share):
        return _saved(planes, ".webp", Q=round(case.draw(table.webp_quality)), effort=_WEBP_EFFORT)
    return _saved(planes, ".jpg", Q=round(case.draw(table.jpeg_quality)))


def _saved(planes: Tensor, suffix: str, **options: int) -> Tensor:
    """Encode planes as libvips does for files with this suffix, and decode them."""
    import pyvips

    image = pyvips.Image.new_from_array(_to_bytes(planes), interpretation="srgb")
    encoded = image.write_to_buffer(suffix, **options)
    return _to_planes(pyvips.Image.new_from_buffer(encoded, "").numpy())


def _to_planes(pixels: Bytes) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 255


def _to_bytes(planes: Tensor) -> Bytes:
    return (255 * planes).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
