"""Checkpoints: what resuming needs, in safetensors files written whole or not at all, the newest few kept.

Learning rates, batches and stages follow from the step; so what is stored is the step, the weights, their running
average and the moments of each optimiser. A checksum tells a damaged file, and the one before it is taken.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam

from crispen.errors import ModelError, TrainingError
from crispen.networks.weights import load_tensors, save_tensors
from crispen.training.muon import Muon, is_matrix
from crispen.training.sharding import copy_into

Tensors = Mapping[str, Tensor]

FOLDER = "checkpoints"
STAGES = ("classifier", "pretrain", "gan")
"""All stages in the order in which a run has them."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come: ``step`` updates of ``stage`` are done."""

    stage: str
    step: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as read: whole, and of the position that its name says."""

    path: Path
    position: Position
    tensors: Tensors
    scaler: dict[str, float] | None
    damaged: tuple[Path, ...]
    """Newer checkpoints that cannot be read."""

    def holds(self, network: str) -> bool:
        """Whether the weights of a network are in it."""
        return any(name.startswith(f"{network}/") for name in self.tensors)

    def restore(
        self,
        networks: Mapping[str, Tensors],
        optimizers: Mapping[str, Adam],
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Bring networks, optimisers and fp16's scaler to the state of the checkpoint.

        Args:
            networks: each as its weights and buffers by name, which are overwritten. They may be sharded, whether or
                not they were when the checkpoint was written.
            optimizers: by the name of the network that they train.
            scaler: where there is one.

        Raises:
            TrainingError: where the checkpoint belongs to other networks.
        """
        try:
            for name, tensors in networks.items():
                _restore_tensors(tensors, _under(f"{name}/", self.tensors))
            for name, optimizer in optimizers.items():
                _restore_moments(optimizer, _under(f"{name}.adam/", self.tensors))
        except (RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(f"the checkpoint {self.path} belongs to another recipe: {reason}") from error
        if scaler and self.scaler:
            scaler.load_state_dict(self.scaler)


def state_to_save(networks: Mapping[str, Tensors], optimizers: Mapping[str, Adam]) -> dict[str, Tensor]:
    """What a checkpoint holds, by the names that it has there: as it is in this process, and so perhaps in shards."""
    tensors: dict[str, Tensor] = {}
    for name, network in networks.items():
        tensors |= {f"{name}/{key}": value for key, value in network.items()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.adam/{index}/{key}": value for key, value in moments.items()}
    return tensors


def save_checkpoint(
    run_dir: Path,
    position: Position,
    tensors: Tensors,
    *,
    scaler: torch.amp.GradScaler | None = None,
    keep: int = 2,
    damaged: Collection[Path] = (),
) -> Path:
    """Write the state of a run between two steps, and drop all checkpoints but this and the ``keep`` - 1 before it.

    Any of a later step was passed over when the run was resumed, and goes.

    Args:
        run_dir: the run's folder.
        position: how far the run has come.
        tensors: what `state_to_save` returns, gathered.
        scaler: fp16's, where there is one.
        keep: how many checkpoints to leave.
        damaged: those that cannot be read, which are not among them.

    Raises:
        TrainingError: where it cannot be written; the ones before stay.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "checksum": str(_checksum(tensors)),
        "scaler": json.dumps(scaler.state_dict() if scaler else None),
    }
    path = run_dir / FOLDER / f"{position.stage}-{position.step:08d}.safetensors"
    try:
        path.parent.mkdir(exist_ok=True)
        for abandoned in path.parent.glob(".*.safetensors.*"):  # by a process that was killed while it wrote
            abandoned.unlink(missing_ok=True)
        save_tensors(tensors, path, metadata=metadata)
    except OSError as error:
        raise TrainingError(f"the checkpoint {path} cannot be written: {error.strerror}") from error
    others = [other for other in _newest_first(run_dir) if other != path]
    before = [other for other in others if _rank(other) < _rank(path) and other not in damaged]
    for other in others:
        if other not in before[: keep - 1]:
            other.unlink(missing_ok=True)
    return path


def newest_checkpoint(run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that can be read; None where there has not been one yet.

    Raises:
        TrainingError: where there are some, and all are damaged.
    """
    damaged: list[Path] = []
    for path in _newest_first(run_dir):
        try:
            tensors, metadata = load_tensors(path)
            if int(metadata["checksum"]) != _checksum(tensors):
                raise ModelError(f"{path} is damaged")
            scaler = json.loads(metadata["scaler"])
        except (ModelError, KeyError, ValueError):
            damaged.append(path)
            continue
        return Checkpoint(path, _position(path), tensors, scaler, tuple(damaged))
    if damaged:
        raise TrainingError(
            f"the run in {run_dir} cannot be resumed: {damaged[0].name} and all before it are damaged"
        )
    return None


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a folder holds a checkpoint, readable or not."""
    return bool(_newest_first(run_dir))


def _newest_first(run_dir: Path) -> list[Path]:
    paths = [path for path in (run_dir / FOLDER).glob("*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(paths, key=_rank, reverse=True)


_NAME = re.compile(rf"({'|'.join(STAGES)})-(\d+)\.safetensors")


def _position(path: Path) -> Position:
    match = _NAME.fullmatch(path.name)
    assert match, "only such paths are listed"
    return Position(match[1], int(match[2]))


def _rank(path: Path) -> tuple[int, int]:
    position = _position(path)
    return STAGES.index(position.stage), position.step


def _checksum(tensors: Tensors) -> int:
    """CRC-32 over names, kinds, shapes and all bytes, in the order of the names."""
    checksum = 0
    for name in sorted(tensors):
        kind = f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}"
        checksum = zlib.crc32(kind.encode(), checksum)
        checksum = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, checksum)
    return checksum


def _restore_tensors(tensors: Tensors, stored: Tensors) -> None:
    """Overwrite tensors with those stored under the same names."""
    if odd := sorted(tensors.keys() ^ stored.keys()):
        raise ValueError(f"{odd[0]} is only in {'it' if odd[0] in stored else 'the network'}")
    for name, tensor in tensors.items():
        if tensor.shape != stored[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(stored[name].shape)} there, {tuple(tensor.shape)} here"
            )
        copy_into(tensor, stored[name])


def _restore_moments(optimizer: Adam, tensors: Tensors) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, moment = key.partition("/")
        if value.shape == parameters[int(index)].shape:
            stored, value = value, torch.empty_like(parameters[int(index)])  # as fused Adam wants it laid out
            copy_into(value, stored)
        moments.setdefault(int(index), {})[moment] = value
    if any(found.keys() != _moments_of(optimizer, parameters[index]) for index, found in moments.items()):
        raise ValueError("it holds the moments of another optimizer")
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _moments_of(optimizer: Adam, parameter: Tensor) -> set[str]:
    """What an optimiser remembers of a weight."""
    if isinstance(optimizer, Muon) and is_matrix(parameter):
        return {"step", "momentum"}
    return {"step", "exp_avg", "exp_avg_sq"}


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
