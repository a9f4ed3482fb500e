"""torch: the runtime for GPUs, and for weights that have not been exported. Needs the extra ``[train]``."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from crispen.errors import UsageError, require
from crispen.runtimes import torch_pipeline
from crispen.runtimes.pieces import Piece
from crispen.tiling import Box

if TYPE_CHECKING:
    from torch import nn


class TorchRuntime:
    """Computes a generator's weights with torch. Threads may share it.

    The weights are converted once; see `crispen.runtimes.torch_network`. On a GPU, windows of one size that follow
    one another are computed in batches, by CUDA graphs, while the next go up and the last come down.

    Args:
        weights_path: a file that `crispen.networks.weights.save_generator` wrote.
        device: where to compute; ``auto`` is the GPU if there is one.
        precision: of weights and features. ``fp32`` is meant literally, without TF32. ``bf16`` has fp32's range and
            8 binary digits; ``fp16`` has 11, and is infinite beyond 65504, which no feature should reach.
        batch: how many windows to compute at once; by default as many as keep the GPU busy and fit its memory,
            and one on the CPU.
        start: other weights of the same architecture, and how far to go from them (0) to these (1).

    Raises:
        MissingExtra: where torch is not installed.
        ModelError: where the file does not hold a generator.
        UsageError: for ``cuda`` where there is none, and a batch below 1.
    """

    def __init__(
        self,
        weights_path: Path,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        batch: int | None = None,
        start: tuple[Path, float] | None = None,
    ) -> None:
        if batch is not None and batch < 1:
            raise UsageError(f"batch must be at least 1 window, not {batch}")
        where = choose_device(device)
        import torch

        from crispen.networks.weights import load_generator
        from crispen.runtimes.torch_engine import cpu_engine, cuda_engine
        from crispen.runtimes.torch_network import ready_network

        generator = load_generator(weights_path)
        if start is not None:
            _go_from(load_generator(start[0]), generator, start[1])
        network = ready_network(generator, precision=precision)
        self._engine = {"cpu": cpu_engine, "cuda": cuda_engine}[where](network, batch=batch)
        self.scale = network.scale
        self.description = f"torch {torch.__version__} on {where} in {precision}"

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        """Enlarge (N, 3, H, W), RGB float32 in [0, 1], to (N, 3, H·scale, W·scale), not clamped.

        With ``core``, a part of the input, only that part of the result is returned.

        Raises:
            TileTooLarge: where the GPU has too little memory for one of the windows; a `PictureError`.
        """
        core = core or Box(0, 0, *batch.shape[2:])
        return np.stack(list(self.map(Piece(window, core) for window in batch)))

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        """Enlarge pieces; see `crispen.runtimes.Runtime`.

        On a GPU the results of a batch lie in one page-locked piece of memory, which is free again when the last of
        them is: use them up, or copy what is to be kept.

        Raises:
            TileTooLarge: where the GPU has too little memory for a single window; a `PictureError`.
        """
        return torch_pipeline.enlarge(pieces, self._engine)


def _go_from(start: nn.Module, generator: nn.Module, strength: float) -> None:
    """Replace weights by the mean of themselves and those of ``start``."""
    begin = start.state_dict()
    for name, end in generator.state_dict().items():
        if end.is_floating_point():
            end.copy_(begin[name].lerp(end, strength))


def choose_device(device: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Decide what ``auto`` means on this machine.

    Raises:
        MissingExtra: where torch is not installed.
        UsageError: for ``cuda`` where there is none.
    """
    require("torch", purpose="the torch runtime")
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device must be cpu or auto, because torch finds no GPU here")
    return device
