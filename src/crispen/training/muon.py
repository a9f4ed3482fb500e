"""Muon: steps of equal size in all directions of a weight (Jordan et al., "Muon", 2024).

Adam sees a convolution's weights as so many single numbers. Muon sees the matrix that they are, with a row for each
channel that comes out: it averages gradients and replaces the average by the nearest matrix whose rows are orthonormal,
so that directions that the loss hardly feels move as far as those that drown them.
(https://kellerjordan.github.io/posts/muon)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import cast, overload

import torch
from torch import Tensor, nn
from torch.optim import Adam

from crispen.training.sharding import copy_into, whole

MOMENTUM = 0.95
"""Decay of the running average of gradients."""

_LEAST_SIDE = 16  # a matrix that is narrower has too few directions to make equal, and stays with Adam
_POLYNOMIAL = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan et al.'s quintic, which takes all of (0, 1] near 1 in five rounds
_ROUNDS = 5
_SIZE = 0.2  # of a step for each number, at a learning rate of 1: what Adam's are like (Liu et al. 2025)


class Muon(Adam):
    """Muon for convolutions (`is_matrix`), Adam for all else: biases, batch norm, activations, few channels out.

    A first convolution, from the three colours, is Muon's, as each channel out has 3·k·k weights; a last one, to the
    three colours, is Adam's.

    A step has the size that Adam's would have (Liu et al., "Muon is Scalable for LLM Training", 2025), so that one
    learning rate serves both. State is kept by weight and has its shape, as Adam's does.

    Args:
        weights: all that a network learns.
        learning_rate: of both.
        betas: Adam's decay rates.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(weights, learning_rate, betas)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all weights by their gradients, and forget those of the convolutions."""
        assert closure is None, "gradients are gathered before"
        for group in self.param_groups:
            weights = cast(list[nn.Parameter], group["params"])
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in weights:
                if weight.grad is not None and is_matrix(weight):
                    alike.setdefault(weight.shape, []).append(weight)
            for same in alike.values():
                self._move(same, learning_rate=cast(float, group["lr"]))
        super().step()  # which leaves out what has no gradient

    def _move(self, weights: list[nn.Parameter], *, learning_rate: float) -> None:
        """One step for convolutions of one shape, which are orthogonalised together."""
        towards = torch.stack([whole(self._averaged(weight)).flatten(1) for weight in weights])
        steps = orthogonalised(towards)
        size = learning_rate * _SIZE * math.sqrt(max(steps.shape[1:]))
        for weight, step in zip(weights, steps, strict=True):
            own = torch.empty_like(weight)
            copy_into(own, step.reshape(weight.shape))
            weight.sub_(own, alpha=size)
            weight.grad = None

    def _averaged(self, weight: nn.Parameter) -> Tensor:
        """The running average of gradients, a step ahead (Nesterov)."""
        gradient = weight.grad
        assert gradient is not None, "chosen by its gradient"
        state = self.state[weight]
        if not state:
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
        state["step"] += 1  # which Adam wants to find where it restores a state
        momentum = cast(Tensor, state["momentum"])
        momentum.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)


def is_matrix(weight: Tensor) -> bool:
    """Whether a convolution's or dense layer's weight has 16 channels out at least, and as many numbers for each."""
    return weight.ndim > 1 and min(weight.shape[0], weight[0].numel()) >= _LEAST_SIDE


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (N, rows, columns) with all singular values near 1 (0.7 to 1.2) and all else as it was.

    Newton and Schulz's iteration, X ← aX + b(XXᵀ)X + c(XXᵀ)²X. All of its factors are polynomials of the first XXᵀ, so
    they are multiplied among themselves, on the shorter side, and X once, at the end: a third of the work at 64×576.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT).mT
    a, b, c = _POLYNOMIAL
    first = matrices / (matrices.square().sum((1, 2), keepdim=True).sqrt() + 1e-12)
    squares = first @ first.mT
    one = torch.eye(squares.shape[1], dtype=squares.dtype, device=squares.device)
    product = one
    for _ in range(_ROUNDS):
        factor = a * one + b * squares + c * squares @ squares
        product = factor @ product
        squares = factor @ squares @ factor
    return product @ first
