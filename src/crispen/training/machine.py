"""Where a run computes: one device or several, and in what precision. A thin layer over Lightning Fabric.

Started plainly, a run has one device. Started by ``torchrun``, it has as many processes as that says, each with a
part of every batch; gradients are averaged over them (DDP), so that an update is that of the whole batch.
"""

from __future__ import annotations

import os
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies.ddp import DDPStrategy

from crispen.errors import UsageError
from crispen.runtimes.torch import choose_device


def make_fabric(
    *, device: Literal["auto", "cpu", "cuda"], precision: Literal["fp32", "bf16", "fp16"]
) -> Fabric:
    """Set up the device, or this process' one of several.

    Raises:
        UsageError: for ``cuda`` without a GPU, and for ``fp16`` without one.
    """
    device_type = choose_device(device)
    if precision == "fp16" and device_type == "cpu":
        raise UsageError("precision fp16 needs a GPU; on a processor take bf16 or fp32")
    fabric = Fabric(accelerator=device_type, plugins=[_arithmetic(precision, device_type)], **_processes())
    fabric.launch()
    return fabric


def _arithmetic(precision: str, device_type: str) -> Precision:
    if precision == "fp32":
        return Precision()
    if precision == "bf16":
        return MixedPrecision("bf16-mixed", device_type)
    return MixedPrecision("16-mixed", device_type, torch.amp.GradScaler(device_type))


def _processes() -> dict[str, Any]:
    """Fabric's arguments for the processes that torchrun has started; one process without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return {"devices": 1}
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    strategy = DDPStrategy(broadcast_buffers=False)  # batch norm sees two batches before one backward pass
    return {"devices": local, "num_nodes": world // local, "strategy": strategy}


def loss_scaler(fabric: Fabric) -> torch.amp.GradScaler | None:
    """The scaler of fp16's losses, part of what resuming needs; None in other precisions."""
    precision = fabric.strategy.precision
    return cast("torch.amp.GradScaler | None", getattr(precision, "scaler", None))
