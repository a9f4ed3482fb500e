"""Whether an exported file computes what the generator does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crispen.errors import ModelError
from crispen.networks.generators import AnyGenerator
from crispen.runtimes.openvino import load_openvino

Pixels = NDArray[np.float32]
Computation = Callable[[Pixels], Pixels]
"""From (N, 3, H, W) to (N, 3, H·scale, W·scale)."""

TOLERANCE = 1e-4
"""How far, in pixel values, the exported network may be from the original."""

MIN_AGREEMENT = 45.0
"""The PSNR in dB under the original that a network in 8 bits must reach on every picture."""

SIZES = ((1, 1), (13, 7), (33, 21))
"""Width and height of the pictures on which the two are compared: odd, and one smaller than any kernel."""


class Parity(NamedTuple):
    """How near an exported network came to the original at one size."""

    width: int
    """Of the input, in pixels."""
    height: int
    """Of the input, in pixels."""
    difference: float
    """The largest, in pixel values, of which 1 is white."""
    psnr: float
    """Agreement in dB; infinite where there is no difference."""

    def __str__(self) -> str:
        """One line for the terminal."""
        size = f"{self.width}x{self.height}"
        return f"parity {size}: max difference {self.difference:.1e}, {self.psnr:.0f} dB"


class Agreement(NamedTuple):
    """How near a network in 8 bits came to the original."""

    pictures: int
    """On how many."""
    psnr: float
    """The PSNR in dB under the original's results, both clipped to [0, 1]."""
    worst: float
    """The same, on the picture where it is lowest."""

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"int8: {self.psnr:.1f} dB agreement with fp32 on {self.pictures} pictures, at worst {self.worst:.1f}"


def check_parity(
    generator: AnyGenerator, computation: Computation, *, sizes: Sequence[tuple[int, int]] = SIZES
) -> list[Parity]:
    """Compare an exported network with eager torch on random pictures of each (width, height).

    Raises:
        ModelError: where the two differ by more than `TOLERANCE`.
    """
    random = np.random.default_rng(0)
    found: list[Parity] = []
    for width, height in sizes:
        lr = random.random((1, 3, height, width), dtype=np.float32)
        expected, sr = eager(generator, lr), computation(lr)
        difference = float(np.abs(sr - expected).max())
        if not difference <= TOLERANCE:
            raise ModelError(
                f"the exported network differs from the original by {difference:.2g} at {width}x{height}"
            )
        found.append(Parity(width, height, difference, agreement([sr], [expected])))
    return found


def check_agreement(
    generator: AnyGenerator, computation: Computation, pictures: Sequence[Pixels]
) -> Agreement:
    """Compare a network in 8 bits with eager torch on pictures (N, 3, H, W) in [0, 1].

    Raises:
        ModelError: where they agree to less than `MIN_AGREEMENT` on one of them.
    """
    results = [computation(lr).clip(0, 1) for lr in pictures]
    references = [eager(generator, lr).clip(0, 1) for lr in pictures]
    worst = min(agreement([sr], [expected]) for sr, expected in zip(results, references, strict=True))
    if worst < MIN_AGREEMENT:
        raise ModelError(
            f"the network in 8 bits agrees with the original to {worst:.1f} dB, which must be {MIN_AGREEMENT:.0f}: "
            "calibrate it on more pictures, like those that it is meant for"
        )
    return Agreement(len(pictures), agreement(results, references), worst)


@torch.inference_mode()
def eager(generator: AnyGenerator, lr: Pixels) -> Pixels:
    """Compute a generator, which must be in evaluation mode, as it stands."""
    return generator(torch.tensor(lr)).numpy()


def agreement(results: Sequence[Pixels], references: Sequence[Pixels]) -> float:
    """Return the PSNR in dB of results under references, over all of their numbers together."""
    squares = [np.square(result - reference) for result, reference in zip(results, references, strict=True)]
    error = float(np.mean(np.concatenate([square.ravel() for square in squares])))
    return float("inf") if error == 0 else -10 * np.log10(error)


def in_openvino(model: Path | bytes, weights: Path | None = None) -> Computation:
    """Return how plain OpenVINO computes an ONNX file or its bytes, or an .xml with its ``weights``, in fp32."""
    core = load_openvino().Core()
    read = core.read_model(model) if weights is None else core.read_model(model, weights)
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def computation(lr: Pixels) -> Pixels:
        return compiled([lr])[0]

    return computation
