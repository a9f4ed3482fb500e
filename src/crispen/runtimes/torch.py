"""torch: the runtime for GPUs, and for weights that have not been exported. Needs the extra ``[train]``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError, UsageError, require

if TYPE_CHECKING:
    from crispen.networks.generators import SRResNet


class TorchRuntime:
    """Computes a generator's weights with torch.

    Args:
        weights_path: a file that `crispen.networks.weights.save_generator` wrote.
        device: where to compute; ``auto`` is the GPU if there is one.
        precision: ``bf16`` is torch's autocast; ``fp32`` is meant literally, without TF32.

    Raises:
        MissingExtra: where torch is not installed.
        ModelError: where the file does not hold a generator.
        UsageError: for ``cuda`` where there is none.
    """

    def __init__(
        self,
        weights_path: Path,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self._device = choose_device(device)
        import torch

        from crispen.networks.weights import load_generator

        generator = load_generator(weights_path)
        # The stub of Module.to leaves out memory_format.
        self._generator: SRResNet = cast(Any, generator).to(self._device, memory_format=torch.channels_last)
        self._precision = precision
        self.scale = generator.scale
        self.description = f"torch {torch.__version__} on {self._device} in {precision}"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enlarge (N, 3, H, W), RGB float32 in [0, 1], to (N, 3, H·scale, W·scale), not clamped.

        Raises:
            PictureError: where the GPU has too little memory for it.
        """
        import torch

        lr = torch.tensor(np.ascontiguousarray(batch)).to(self._device, memory_format=torch.channels_last)
        half = torch.autocast(self._device, torch.bfloat16, enabled=self._precision == "bf16")
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        try:
            with torch.inference_mode(), half, exact:
                return self._generator(lr).float().contiguous().cpu().numpy()
        except torch.OutOfMemoryError as error:
            size = f"{batch.shape[3]}x{batch.shape[2]}"
            raise PictureError(
                f"the GPU has too little memory for {size} pixels at once: use a smaller tile"
            ) from error


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
