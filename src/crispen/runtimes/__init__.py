"""Runtimes: what computes a network. Tiling, input and output know no more of them than `Runtime`."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from crispen.errors import ModelError, UsageError
from crispen.runtimes.hardware import free_memory, has_amx, supports_bf16
from crispen.runtimes.openvino import TAIL_TILE, TAIL_TILE_OF_AMX, OpenVINORuntime
from crispen.runtimes.pieces import Piece
from crispen.runtimes.torch import TorchRuntime, choose_device
from crispen.runtimes.torch_pipeline import TileTooLarge
from crispen.tiling import Box
from crispen.zoo import Model, verify

RuntimeName = Literal["auto", "openvino", "torch"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

__all__ = [
    "Blend", "Choice", "Device", "OpenVINORuntime", "Piece", "Precision", "Runtime", "RuntimeName",
    "TileTooLarge", "TorchRuntime",
    "choose", "free_memory", "has_amx", "open_runtime", "supports_bf16", "width_multiple",
]  # fmt: skip


class Runtime(Protocol):
    """Something that computes a model."""

    scale: int
    """Pixels of the output for each pixel of the input, along one side."""
    description: str
    """What computes where and in what precision, for reports."""

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        """Enlarge (N, 3, H, W), RGB float32 in [0, 1], to (N, 3, H·scale, W·scale) float32, not clamped.

        With ``core``, a part of the input, only that part of the result is returned.
        """
        ...

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        """Enlarge pieces, and yield the result of each core, (3, height·scale, width·scale), in their order.

        Several may be under way at once. Pieces of one size follow one another fastest.
        """
        ...


class Choice(NamedTuple):
    """What `choose` decided on."""

    runtime: Literal["openvino", "torch"]
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp16", "int8"]


def choose(
    model: Model, *, runtime: RuntimeName = "auto", device: Device = "auto", precision: Precision = "auto"
) -> Choice:
    """Decide what ``auto`` means for a model on this machine, and refuse what cannot be.

    Args:
        model: which of its files exist decides where nothing else does.
        runtime: ``auto`` is OpenVINO, but torch for ``cuda`` and for a model without an ONNX file.
        device: ``auto`` is the CPU, but with ``runtime="torch"`` the GPU if there is one.
        precision: ``auto`` is bf16 where the device has units for it. That is meant for 8-bit pictures. ``fp16``
            is for GPUs. ``int8``, the roughest, has a file of its own, for OpenVINO, and is the fastest but on
            processors with matrix units (AMX), where bf16 is.

    Raises:
        UsageError: for a value that is none of these, or a combination that does not exist here.
        ModelError: where the model lacks the file that the runtime needs.
    """
    _check("runtime", runtime, get_args(RuntimeName))
    _check("device", device, get_args(Device))
    _check("precision", precision, get_args(Precision))
    chosen = _choose_runtime(model, runtime, device)
    where = choose_device(device) if chosen == "torch" else "cpu"
    _check_precision(precision, chosen, where, model)
    return Choice(chosen, where, _automatic(where) if precision == "auto" else precision)


def width_multiple(choice: Choice) -> int:
    """What the widths of large windows should be multiples of, for `crispen.tiling.plan`.

    On processors with AMX, oneDNN's convolutions in bf16, which OpenVINO and torch share, are slow at most widths
    beyond 256: on average 1.7 times, at some six times. At multiples of 16 they are not. Those in int8 gain less.
    """
    return 16 if _in_matrix_units(choice) else 1


class Blend(NamedTuple):
    """Weights between those of two models of one architecture and origin (Wang et al., "ESRGAN", ECCVW 2018, 3.4)."""

    faithful: Model
    """Where the way begins."""
    strength: float
    """How far it goes: 0 is ``faithful``, 1 the model itself."""


def open_runtime(
    model: Model,
    *,
    runtime: RuntimeName = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    blend: Blend | None = None,
) -> Runtime:
    """Load a model, ready to compute. The arguments are those of `choose`; with ``blend``, on the way to the model.

    Raises:
        UsageError, ModelError: as `choose` does.
        ModelError: for files that are damaged.
        MissingExtra: for the torch runtime where torch is not installed.
    """
    choice = choose(model, runtime=runtime, device=device, precision=precision)
    verify(model, only=_file_for(choice, model))
    if blend is not None:
        verify(blend.faithful, only=_file_for(choice, blend.faithful))
    if choice.runtime == "torch":
        return _open_torch(model, choice, blend)
    return _open_openvino(model, choice, blend)


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")


def _choose_runtime(model: Model, runtime: RuntimeName, device: Device) -> Literal["openvino", "torch"]:
    if runtime == "auto":
        runtime = "torch" if device == "cuda" or model.onnx is None else "openvino"
    if runtime == "openvino" and device == "cuda":
        raise UsageError("runtime openvino computes on the CPU: device cuda needs runtime torch")
    if runtime == "openvino" and model.onnx is None:
        raise ModelError(f"the model {model.name} has no ONNX file, which runtime openvino needs")
    if runtime == "torch" and model.weights is None:
        raise ModelError(f"the model {model.name} has no weights.safetensors, which runtime torch needs")
    return runtime


def _check_precision(
    precision: Precision, runtime: Literal["openvino", "torch"], device: Literal["cpu", "cuda"], model: Model
) -> None:
    if precision == "bf16" and not supports_bf16(device):
        raise UsageError("precision must be fp32 or auto, because this machine has no units for bf16")
    if precision == "fp16" and device == "cpu":
        raise UsageError("precision fp16 needs device cuda")
    if precision == "int8" and runtime == "torch":
        raise UsageError("precision int8 needs runtime openvino")
    if precision == "int8" and model.int8 is None:
        raise ModelError(f"the model {model.name} has no file in 8 bits; crispen export --int8 makes one")


def _file_for(choice: Choice, model: Model) -> Path | None:
    """The file that a choice computes."""
    if choice.runtime == "torch":
        return model.weights
    return model.int8 if choice.precision == "int8" else model.onnx


def _in_matrix_units(choice: Choice) -> bool:
    return choice.device == "cpu" and choice.precision != "fp32" and has_amx()


def _automatic(device: Literal["cpu", "cuda"]) -> Literal["fp32", "bf16"]:
    return "bf16" if supports_bf16(device) else "fp32"


def _open_torch(model: Model, choice: Choice, blend: Blend | None) -> TorchRuntime:
    assert model.weights is not None
    assert choice.precision != "int8"
    start = None
    if blend is not None:
        assert blend.faithful.weights is not None
        start = (blend.faithful.weights, blend.strength)
    return TorchRuntime(model.weights, device=choice.device, precision=choice.precision, start=start)


def _open_openvino(model: Model, choice: Choice, blend: Blend | None) -> OpenVINORuntime:
    rough = choice.precision == "int8"
    if rough and blend is not None:
        raise UsageError("precision int8 has its own weights: strength must be 1")
    path = model.int8 if rough else model.onnx
    assert path is not None
    assert choice.precision != "fp16"
    start = None
    if blend is not None:
        assert blend.faithful.onnx is not None
        start = (blend.faithful.onnx, blend.strength)
    return OpenVINORuntime(
        path,
        scale=model.scale,
        tail_context=model.tail_context,
        precision=_automatic("cpu") if choice.precision == "int8" else choice.precision,
        start=start,
        name=choice.precision,
        tail_tile=TAIL_TILE_OF_AMX if _in_matrix_units(choice) else TAIL_TILE,
        cached=model.card is not None and blend is None,
    )
