"""Names what goes wrong in a run, in words: numbers that are none, a discriminator that has won, checkerboards.

The monitor looks at the last steps only, so a resumed run may begin with an empty one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from crispen.training.progress import Progress, Scalars

Kind = Literal[
    "not a number",
    "discriminator has won",
    "discriminator has lost",
    "vanishing gradients",
    "exploding gradients",
    "exploding loss",
    "checkerboard",
]

RECENT = 5
"""Steps at the end of the window whose median is held against the steps before, to find what explodes."""

BLOCK = 64
"""Side in pixels of the blocks whose spectra are taken, where the picture is large enough."""

_GRADIENT = "generator_gradient_norm"
_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong with a run."""

    kind: Kind
    """What it is."""
    fatal: bool
    """Whether going on is pointless: the weights are lost, or will be with the next update."""
    message: str
    """One sentence: where, what, the numbers, and what usually helps."""
    early: bool = False
    """Seen at the end of a stage too short for what is usual at a start to be over: no reason to stop a run."""


class HealthMonitor:
    """Watches a run, step by step; says each trouble once, and again only after it had gone for a window.

    Args:
        window: steps looked at; a trouble has to last as long, except for numbers that are none and explosions.
        settling_steps: steps at the start of a stage in which a discriminator may still know nothing, and a generator
            print a pattern.
        won: mean probability of being real, for real pictures, from which the discriminator has won; for generated
            ones ``1 - won``. For losses other than cross-entropy, whose logits are not those of a probability, it has
            won where its loss is below ``won_loss``.
        won_loss: see ``won``.
        lost: how much surer of real than of generated pictures a discriminator near one half has to be.
        vanishing: gradient norm below which the generator learns nothing. Adam divides by the gradient's size plus
            1e-8; for a million weights, that is a norm of 1e-5.
        exploding: how many times their former size gradients or the loss may have.
        checkerboard: decibels of `checkerboard_energy`, averaged over the validation pictures. Measured on 25
            photographs of 576x576 pixels at 4x: the originals have 0.3 on average (at most 2.0), bicubic's 0.6 (3.4),
            those of the bundled srresnet-x4 2.1 (4.0); the latter with checkers or stripes of 2 grey levels and
            a period of 2 or 4 pixels added from 22 to 32, with a dot of 2 grey levels in each 4x4 pixels 14.
        gradients_may_overflow: as in fp16, whose scaler leaves out a step with an infinite gradient.
    """

    def __init__(
        self,
        *,
        window: int = 50,
        settling_steps: int = 500,
        won: float = 0.97,
        won_loss: float = 0.01,
        lost: float = 0.01,
        vanishing: float = 1e-5,
        exploding: float = 20.0,
        checkerboard: float = 8.0,
        gradients_may_overflow: bool = False,
    ) -> None:
        self.window = window
        self.settling_steps = settling_steps
        self.won, self.won_loss, self.lost = won, won_loss, lost
        self.vanishing, self.exploding, self.checkerboard = vanishing, exploding, checkerboard
        self.gradients_may_overflow = gradients_may_overflow
        self._stage = ""
        self._steps: deque[Progress] = deque(maxlen=window)
        self._validation: Scalars = {}
        self._last_seen: dict[Kind, int] = {}

    def check(self, progress: Progress) -> list[Trouble]:
        """Take in a step and return what it shows for the first time; to be called after every step."""
        if progress.stage != self._stage:
            self._stage, self._validation, self._last_seen = progress.stage, {}, {}
            self._steps.clear()
        self._steps.append(progress)
        self._validation = progress.validation or self._validation
        return [trouble for trouble in self._find() if self._is_news(trouble.kind, progress.step)]

    def _is_news(self, kind: Kind, step: int) -> bool:
        last_seen = self._last_seen.get(kind)
        self._last_seen[kind] = step
        return last_seen is None or step - last_seen > self.window

    def _find(self) -> Iterator[Trouble]:
        yield from self._not_a_number()
        yield from self._discriminator()
        yield from self._vanishing()
        yield from self._exploding(_GRADIENT, "exploding gradients")
        yield from self._exploding("generator_loss", "exploding loss")
        yield from self._checkerboard()

    def _not_a_number(self) -> Iterator[Trouble]:
        """A loss, gradient or measurement that is NaN or infinite; an infinite PSNR is that of equal pictures."""
        now = self._steps[-1]
        left_out = _GRADIENT if self.gradients_may_overflow else None
        numbers = {name: value for name, value in now.scalars.items() if name != left_out}
        numbers |= {name: v for name, v in now.validation.items() if not (name.endswith("_psnr") and v > 0)}
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if wrong:
            what = ", ".join(f"{name} is {numbers[name]}" for name in wrong) + self._last_good(wrong[0])
            advice = "a smaller learning rate, a longer warm-up of it or precision fp32 usually helps"
            yield self._trouble("not a number", what, advice)

    def _last_good(self, name: str) -> str:
        """The last finite value of a number, and a gradient that was not finite, for a message."""
        before = [step for step in self._steps if math.isfinite(step.scalars.get(name, math.nan))]
        broken = [step.step for step in self._steps if not math.isfinite(step.scalars.get(_GRADIENT, 0.0))]
        text = f", after {before[-1].scalars[name]:.4g} at step {before[-1].step}" if before else ""
        return text + (f" (the generator's gradient was not finite at step {broken[0]})" if broken else "")

    def _discriminator(self) -> Iterator[Trouble]:
        real, fake = self._over_window("real_probability"), self._over_window("fake_probability")
        if real is None or fake is None:
            return
        loss = self._over_window("discriminator_loss")
        numbers = f"over {self.window} steps it gave real pictures {real:.3f} and generated ones {fake:.3f}"
        if (real >= self.won and fake <= 1 - self.won) or (loss is not None and 0 <= loss < self.won_loss):
            what = f"the discriminator has won: {numbers}, so the generator learns little from it"
            advice = "a smaller learning rate for the discriminator or a longer pretraining usually helps"
            yield self._trouble("discriminator has won", what, advice)
        undecided = real - fake < self.lost and abs(real - 0.5) < 0.1
        if (undecided or fake >= real) and self._steps[-1].step >= self.settling_steps:
            what = f"the discriminator cannot tell real from generated pictures: {numbers}"
            advice = "a larger learning rate for the discriminator or a longer warm-up of it usually helps"
            yield self._trouble("discriminator has lost", what, advice)

    def _vanishing(self) -> Iterator[Trouble]:
        norm = self._over_window(_GRADIENT)
        if norm is not None and norm < self.vanishing:
            what = f"the generator hardly learns: its gradients have a norm of {norm:.2g} over {self.window} steps"
            advice = "larger weights of the losses, or a loss that does not saturate, usually help"
            yield self._trouble("vanishing gradients", what, advice)

    def _exploding(self, name: str, kind: Kind) -> Iterator[Trouble]:
        values = [abs(step.scalars[name]) for step in self._steps if name in step.scalars]
        before, recent = values[:-RECENT], values[-RECENT:]
        if len(values) < max(self.window // 2, 2 * RECENT):
            return
        usual, now = float(np.median(before)), float(np.median(recent))
        if now > self.exploding * usual > 0:
            what = f"{name} has grown to {now:.3g}, from {usual:.3g} in the {len(before)} steps before"
            yield self._trouble(kind, what, "a smaller learning rate or a longer warm-up of it usually helps")

    def _checkerboard(self) -> Iterator[Trouble]:
        energy = self._validation.get("valid_checkerboard", -math.inf)
        now = self._steps[-1]
        if energy > self.checkerboard and now.step >= min(self.settling_steps, now.steps):
            what = f"the generated pictures hold a regular pattern of {energy:.1f} dB over their surroundings"
            advice = (
                "a grid_weight in the recipe, a smaller weight of the adversarial loss or more steps help"
            )
            trouble = self._trouble("checkerboard", f"{what}, as upsampling leaves it", advice)
            yield replace(trouble, early=now.step < self.settling_steps)

    def _over_window(self, name: str) -> float | None:
        """The mean of a number that each step of a full window has."""
        values = [step.scalars[name] for step in self._steps if name in step.scalars]
        return float(np.mean(values)) if len(values) == self.window else None

    def _trouble(self, kind: Kind, what: str, advice: str) -> Trouble:
        message = f"{self._stage} step {self._steps[-1].step}: {what}; {advice}"
        return Trouble(kind, kind == "not a number", message)


def checkerboard_energy(picture: NDArray[np.uint8], *, scale: int) -> float:
    """How much stronger than their neighbours the frequencies are that upsampling leaves behind, in dB.

    Transposed and sub-pixel convolutions whose phases differ leave a pattern that repeats every ``scale`` pixels, or,
    where the scale is reached by doublings, every 2, 4, … (Odena, Dumoulin and Olah, "Deconvolution and Checkerboard
    Artifacts", Distill 2016). In the spectrum of luma these are lines at the multiples of 1/scale of the sampling
    rate, across, down and both. Each is held against the frequencies around it along its own axes, since photographs
    have more power on the axes than off them; the largest ratio counts. Spectra are those of overlapping blocks
    (Welch's method with a Hann window), and decibels are averaged over the blocks: a pattern in a smooth sky is not
    drowned by the trees. Power of one squared grey level is added on both sides, which hides what no eye sees.

    Args:
        picture: (H, W, 3), generated by upsampling.
        scale: 2, 4 or 8.

    Returns:
        About 0 for photographs, 20 to 40 for patterns of one or two grey levels. Of a picture under 100 pixels a side
        it is uncertain by a few dB, upwards; too small to tell, below ``6·scale`` pixels, it is 0.
    """
    block = _block_side(min(picture.shape[:2]), scale)
    if block == 0:
        return 0.0
    power = _mean_power_in_decibels(picture.astype(np.float64) @ _LUMA, block)
    spacing = block // scale
    offsets = [
        offset for offset in (-3, -2, 2, 3) if abs(offset) <= spacing / 2
    ]  # ±1 is within Hann's main lobe
    peaks = [(y * spacing, x * spacing) for y in range(scale) for x in range(scale) if (y, x) != (0, 0)]
    return max(_above_neighbours(power, y, x, offsets) for y, x in peaks)


def _block_side(side: int, scale: int) -> int:
    """A multiple of ``scale`` that gives several blocks and four bins between peaks; 0 where there is none."""
    if side < 6 * scale:
        return 0
    return min(BLOCK, max(4 * scale, side // 2 // scale * scale))


def _mean_power_in_decibels(luma: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Mean of the logarithmic spectra of half-overlapping blocks: (H, W) to (block, block)."""
    blocks = np.lib.stride_tricks.sliding_window_view(luma, (block, block))[:: block // 2, :: block // 2]
    hann = np.hanning(block + 1)[:-1]
    window = np.outer(hann, hann) / np.sum(hann**2)  # white noise keeps its variance
    centred = blocks - blocks.mean(axis=(-2, -1), keepdims=True)
    power = np.abs(np.fft.fft2(centred * window)) ** 2
    return cast("NDArray[np.float64]", 10 * np.log10(power + 1).mean(axis=(0, 1)))


def _above_neighbours(power: NDArray[np.float64], y: int, x: int, offsets: list[int]) -> float:
    """Decibels of a peak above the mean of its neighbours on the axes where its frequency is not zero."""
    block = len(power)
    neighbours = [power[(y + offset) % block, x] for offset in offsets if y]
    neighbours += [power[y, (x + offset) % block] for offset in offsets if x]
    return float(power[y, x] - np.mean(neighbours))
