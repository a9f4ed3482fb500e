"""A model as teacher: large pictures that are partly what it makes of the small ones.

The truth is but one of all large pictures that a small one may have been, and a network that learns from it must find
their mean through the noise of single cases. The mean over the symmetries of what a trained network answers
(`crispen.upscaling.ensemble`) has none of that noise, and is nearer to the truth than each answer is: so even a
network's own can teach it. (Knowledge distillation: Hinton, Vinyals and Dean, 2015; of an ensemble of symmetries into a
single network: Radosavovic et al., "Data Distillation", CVPR 2018.)

With squared differences, a picture between the teacher's and the true one is all that need be learnt from: the two
losses, weighted, differ from that to it by a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispen import zoo
from crispen.errors import UsageError
from crispen.upscaling import Upscaler

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model, and how much its answers count."""

    upscaler: Upscaler
    share: float
    """0 leaves the truth as it is, 1 puts the teacher's answer in its place."""

    @property
    def identity(self) -> str:
        """All that its answers depend on."""
        return f"{self.upscaler.identity} {self.share}"

    def taught(self, lr: Bytes, hr: Bytes) -> Bytes:
        """What is to be learnt for a small picture (H, W, 3) with the truth (H·scale, W·scale, 3): as large as that."""
        answer = self.upscaler(lr).astype(np.float32)
        return np.rint(hr + self.share * (answer - hr)).astype(np.uint8)


def open_teacher(model: str, *, share: float, scale: int) -> Teacher:
    """Load a model to learn from.

    Args:
        model: see `crispen.zoo.find`.
        share: see `Teacher`.
        scale: of the pictures.

    Raises:
        ModelError: where the model is missing or damaged.
        UsageError: where it has another scale.
    """
    upscaler = Upscaler(zoo.find(model), ensemble=True)
    if upscaler.scale != scale:
        raise UsageError(
            f"data.teacher must enlarge {scale}×, as the generator does, but {model} enlarges {upscaler.scale}×"
        )
    return Teacher(upscaler, share)
