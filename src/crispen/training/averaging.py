"""The running average of a network's weights, which is validated, shipped, and where the next stage begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crispen.training.sharding import own_part, state_of


class RunningAverage:
    """An exponential running average of a network's weights; its buffers, as batch norm's statistics, are copied.

    Args:
        network: whose weights it starts from. Where they are sharded, so is the average.
    """

    def __init__(self, network: nn.Module) -> None:
        self.tensors: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in state_of(network).items()
        }
        """By the names of the network's own state."""
        self._weights = {name for name, _ in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, *, decay: float) -> None:
        """Let the average be decay · average + (1 - decay) · weight, of the network that it was made from."""
        for name, tensor in state_of(network).items():
            average = own_part(self.tensors[name])
            if name in self._weights:
                average.lerp_(own_part(tensor), 1 - decay)
            else:
                average.copy_(tensor)

    @torch.no_grad()
    def give_to(self, network: nn.Module) -> None:
        """Let the network that it was made from go on with the average."""
        for name, tensor in state_of(network).items():
            own_part(tensor).copy_(own_part(self.tensors[name]))


def decay_at(step: int, *, decay: float) -> float:
    """The decay after ``step`` updates: a shorter memory at the start, where the first weights are best forgotten."""
    return min(decay, (1 + step) / (10 + step))
