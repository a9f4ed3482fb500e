"""Checkpoints: what resuming needs, in one safetensors file written whole or not at all.

Learning rates, batches and stages follow from the step; so what is stored is the step, the weights, their running
average and the moments of each optimiser.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

from crispen.errors import ModelError, TrainingError
from crispen.networks.weights import load_tensors, save_tensors

NAME = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come: ``step`` updates of ``stage`` are done."""

    stage: str
    step: int


def save_checkpoint(
    run_dir: Path, position: Position, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam]
) -> None:
    """Write the state of a run between two steps."""
    tensors: dict[str, Tensor] = {}
    for name, network in networks.items():
        tensors |= {f"{name}/{key}": value for key, value in network.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.adam/{index}/{key}": value for key, value in moments.items()}
    metadata = {"position": json.dumps({"stage": position.stage, "step": position.step})}
    save_tensors(tensors, run_dir / NAME, metadata=metadata)


def read_position(run_dir: Path) -> Position | None:
    """Where the run in a folder stands; None where it has no checkpoint yet."""
    if not (run_dir / NAME).is_file():
        return None
    _, metadata = _load(run_dir)
    return Position(**json.loads(metadata["position"]))


def restore_checkpoint(
    run_dir: Path, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam]
) -> None:
    """Bring networks and optimisers to the state of the checkpoint in ``run_dir``.

    Raises:
        TrainingError: where the checkpoint belongs to other networks or is damaged.
    """
    tensors, _ = _load(run_dir)
    try:
        for name, network in networks.items():
            network.load_state_dict(_under(f"{name}/", tensors))
        for name, optimizer in optimizers.items():
            _restore_moments(optimizer, _under(f"{name}.adam/", tensors))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"the checkpoint in {run_dir} belongs to another recipe: {reason}") from error


def _restore_moments(optimizer: Adam, tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, moment = key.partition("/")
        if (
            value.shape == parameters[int(index)].shape
        ):  # fused Adam takes for granted that memory is laid out alike
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        moments.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _load(run_dir: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        return load_tensors(run_dir / NAME)
    except ModelError as error:
        raise TrainingError(f"the run in {run_dir} cannot be resumed: {error}") from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
