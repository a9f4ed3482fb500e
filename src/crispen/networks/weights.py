"""Generators to and from safetensors files that say in their metadata what network they belong to."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save  # pyright: ignore[reportUnknownVariableType]  # half typed
from torch import Tensor, nn

from crispen.errors import ModelError, UsageError
from crispen.networks.generators import AnyGenerator, build_generator


def save_generator(generator: AnyGenerator, path: Path) -> None:
    """Write a generator's weights, with its architecture as JSON in the file's metadata."""
    save_tensors(generator.state_dict(), path, metadata={"architecture": json.dumps(generator.architecture)})


def load_generator(path: Path) -> AnyGenerator:
    """Read what `save_generator` wrote, in evaluation mode.

    Raises:
        ModelError: for a file that is missing, damaged, or no generator of ours.
    """
    tensors, metadata = load_tensors(path)
    try:
        generator = build_generator(json.loads(metadata["architecture"]))
        generator.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError, UsageError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not hold the weights of a crispen generator: {reason}") from error
    return generator.eval()


def load_weights_into(network: nn.Module, path: Path) -> None:
    """Copy the tensors of a file into ``network``, whose names and shapes they must have (`ModelError`)."""
    tensors, _ = load_tensors(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the weights in {path} do not fit the network: {reason}") from error


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write named tensors and text beside them, whole or not at all; `OSError` where the disk is full, or the like."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        temporary.write_bytes(save(contiguous, dict(metadata)))  # its own files only their owner could read
        os.replace(temporary, path)  # noqa: PTH105  (same thing, and says what matters: it is atomic)
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read named tensors and the text beside them; `ModelError` where the file is missing or damaged."""
    try:
        with cast(Any, safe_open)(path, framework="pt") as file:  # safetensors has no types
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}") from error
