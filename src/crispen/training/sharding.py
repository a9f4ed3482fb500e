"""Networks in shards: each process keeps only its part of the weights, and with them of all that is as large.

This is FSDP (Zhao et al., "PyTorch FSDP", VLDB 2023; Rajbhandari et al., "ZeRO", SC 2020) in torch's second form,
`torch.distributed.fsdp.fully_shard`: each weight is split along its first dimension and is a `DTensor`, and so are its
gradient, its moments and its running average. A layer's weights are gathered where it computes, and given up again.

Where nothing is sharded, every function here hands back what it was given.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Split a network's weights over the processes of a mesh of one dimension, in place.

    Each layer of the network's parts (a residual block of the body, a convolution of the discriminator) is gathered by
    itself; what stands in no such layer, as the generator's tail, is gathered with the whole.
    """
    network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]  # torch's overloads forget this one; only such weights can be split
    layers = [layer for part in network.children() if isinstance(part, nn.Sequential) for layer in part]
    for module in (*layers, network):
        if any(True for _ in module.parameters()):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    if hasattr(network, "forward_features"):
        register_fsdp_forward_method(network, "forward_features")
    return network


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of a network by name, as they are kept between steps: in shards where it is sharded."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    return network.state_dict()


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The whole tensors, in the processor's memory; nothing where ``keep`` is False.

    All processes must call this, with the same names in the same order. One tensor is gathered after another, so
    that a process without ``keep`` needs memory for the largest alone.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        complete = whole(tensor)
        if keep:
            found[name] = complete.detach().cpu()
    return found


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a part; all processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds; writing to it writes to the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_into(target: Tensor, source: Tensor) -> None:
    """Copy a whole tensor into one of the same shape, of which each process may hold a part.

    All processes must call this; what the first has in ``source`` counts.
    """
    if isinstance(target, DTensor):
        source = own_part(distribute_tensor(source.to(target.device), target.device_mesh, target.placements))
    own_part(target).copy_(source)


@contextmanager
def differentiable_twice(network: nn.Module) -> Generator[None]:
    """Within, a backward pass keeps the weights that it gathered, so that another can go through it."""
    if not isinstance(network, FSDPModule):
        yield
        return
    network.set_reshard_after_backward(False)
    try:
        yield
    finally:
        network.set_reshard_after_backward(True)
