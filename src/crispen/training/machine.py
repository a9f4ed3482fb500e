"""Where a run computes: one device or several, and in what precision. A thin layer over Lightning Fabric.

Started plainly, a run has one device. Started by ``torchrun``, it has as many processes as that says, each with a
part of every batch; gradients are averaged over them, so that an update is that of the whole batch. Each process has
all weights (DDP), or its part of them (FSDP, see `crispen.training.sharding`).
"""

from __future__ import annotations

import os
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from crispen.errors import UsageError
from crispen.runtimes.hardware import supports_bf16
from crispen.runtimes.torch import choose_device
from crispen.training.sharding import shard

Arithmetic = Literal["auto", "fp32", "bf16", "fp16"]


def make_fabric(
    *,
    device: Literal["auto", "cpu", "cuda"],
    precision: Arithmetic,
    strategy: Literal["ddp", "fsdp"] = "ddp",
) -> Fabric:
    """Set up the device, or this process' one of several, which ``strategy`` then brings together.

    Raises:
        UsageError: for ``cuda`` without a GPU; for ``fp16`` without one, or with ``fsdp``.
    """
    device_type = choose_device(device)
    if precision == "fp16" and device_type == "cpu":
        raise UsageError("precision fp16 needs a GPU; on a processor take bf16 or fp32")
    if precision == "fp16" and strategy == "fsdp":
        raise UsageError(
            "strategy fsdp has no scaling of losses, so precision must be bf16 or fp32, not fp16"
        )
    arithmetic = make_arithmetic(precision, device_type)
    fabric = Fabric(accelerator=device_type, plugins=[arithmetic], **_processes(strategy))
    fabric.launch()
    return fabric


def leave(fabric: Fabric) -> None:
    """Part from the other processes, where there are any, once the first has written all there is to write."""
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()


def make_arithmetic(precision: Arithmetic, device_type: str) -> Precision:
    """What networks compute in: for bf16 and fp16 torch's autocast, for fp16 with scaled losses, too."""
    if precision == "auto":
        precision = "bf16" if supports_bf16(device_type) else "fp32"
    if precision == "fp32":
        return Precision()
    if precision == "bf16":
        return MixedPrecision("bf16-mixed", device_type)
    return MixedPrecision("16-mixed", device_type, torch.amp.GradScaler(device_type))


def precision_of(fabric: Fabric) -> str:
    """What networks compute in, as a recipe names it."""
    names = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16"}
    return names[fabric.strategy.precision.precision]


def warn_of_emulation(fabric: Fabric) -> list[str]:
    """A sentence where a recipe demands bf16 of a device that has no units for it; none elsewhere."""
    if precision_of(fabric) != "bf16" or supports_bf16(fabric.device.type):
        return []
    return [
        "this machine has no units for bf16 and emulates it, many times as slowly: precision=auto takes fp32 here"
    ]


def _processes(strategy: Literal["ddp", "fsdp"]) -> dict[str, Any]:
    """Fabric's arguments for the processes that torchrun has started; one process without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return {"devices": 1}
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    together = (
        DDPStrategy(broadcast_buffers=False)  # batch norm sees two batches before one backward pass
        if strategy == "ddp"
        else ModelParallelStrategy(_shard, data_parallel_size=world, tensor_parallel_size=1)
    )
    return {"devices": local, "num_nodes": world // local, "strategy": together}


def _shard(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """What Fabric does to each network that learns; its own FSDP strategy would need a GPU."""
    return shard(network, mesh["data_parallel"])


def loss_scaler(fabric: Fabric) -> torch.amp.GradScaler | None:
    """The scaler of fp16's losses, part of what resuming needs; None in other precisions."""
    precision = fabric.strategy.precision
    return cast("torch.amp.GradScaler | None", getattr(precision, "scaler", None))
