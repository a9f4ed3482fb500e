"""The ways to compute the same network that `inference.py` compares, each as plainly as its own documentation has it.

A method is opened with a folder of assets (`prepare` makes it), a picture and a number of threads, and gives a
function that computes the whole picture once. The picture is handed over ready-made, as the method's own tensor, and
the result taken as it comes: only crispen is timed with its conversions, since its interface takes and returns 8 bit.

Packages are imported where they are used, so that a process which starts cold imports one method's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""A picture, (H, W, 3)."""
Run = Callable[[], Any]
"""Computes once. Returns (4·H, 4·W, 3) uint8, or (…, 3, 4·H, 4·W) floating."""

WEIGHTS, ONNX, NCNN = "weights.safetensors", "plain.onnx", "plain.ncnn"
MATMUL_SIDE = 2048  # from 1024 on a larger one is no faster, and shorter times are noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One row of the table."""

    title: str
    open: Callable[[Path, Bytes, int], Run]
    """From assets, picture and threads to what computes once."""
    needs: tuple[str, ...] = ()
    """The packages that it takes, by the names they are imported by."""
    asset: Literal["onnx", "ncnn"] | None = None
    """What `prepare` has to make for it."""


def prepare(asset: Literal["onnx", "ncnn"], folder: Path) -> None:
    """Convert the plain network, from ``weights.safetensors`` in ``folder``, for any size of picture."""
    import torch

    network = _plain_network(folder)
    lr = torch.rand(1, 3, 24, 32)
    if asset == "ncnn":
        pnnx: Any = import_module("pnnx")
        other_size = torch.rand(1, 3, 40, 16)  # of two sizes pnnx sees that any will do
        pnnx.export(network, str(folder / "plain.pt"), (lr,), (other_size,), fp16=False)
        return
    axes = {name: {2: f"{name}_height", 3: f"{name}_width"} for name in ("lr", "sr")}
    names: dict[str, Any] = {"input_names": ["lr"], "output_names": ["sr"], "dynamic_axes": axes}
    # The exporter that is torch's default would need one more package, and writes the same graph.
    torch.onnx.export(network, (lr,), str(folder / ONNX), opset_version=17, dynamo=False, **names)


def to_planes(picture: Bytes) -> NDArray[np.float32]:
    """(H, W, 3) to (1, 3, H, W) in [0, 1]."""
    return np.divide(picture.transpose(2, 0, 1)[None], 255, dtype=np.float32, order="C")


def to_bytes(result: Any) -> Bytes:
    """What a `Run` returns, as an 8-bit picture (H, W, 3)."""
    array = cast(NDArray[Any], result if isinstance(result, np.ndarray) else result.float().numpy())
    if array.dtype == np.uint8:
        return array
    planes = array.reshape(array.shape[-3:])
    picture = np.empty((*planes.shape[1:], 3), np.uint8)
    for channel, plane in enumerate(planes):  # one by one, for the sake of memory
        picture[:, :, channel] = np.clip(plane, 0, 1) * 255 + 0.5
    return picture


def open_crispen(precision: str, folder: Path, picture: Bytes, threads: int) -> Run:
    """Crispen's own interface. Its threads are what OMP_NUM_THREADS says, which the caller has set to ``threads``."""
    import crispen

    upscaler = crispen.load(_model(folder), precision=cast(Any, precision))
    return lambda: upscaler(picture)


def open_torch(folder: Path, picture: Bytes, threads: int) -> Run:
    """Eager, fp32, NCHW: what the common scripts do."""
    import torch

    torch.set_num_threads(threads)
    network, lr = _plain_network(folder), torch.from_numpy(to_planes(picture))

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return network(lr)

    return run


def open_torch_bf16(folder: Path, picture: Bytes, threads: int) -> Run:
    """Eager, weights and activations in bf16 and channels_last."""
    import torch

    torch.set_num_threads(threads)
    wanted: dict[str, Any] = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}
    network = _plain_network(folder).to(**wanted)
    lr = torch.from_numpy(to_planes(picture)).to(**wanted)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return network(lr)

    return run


def open_onnxruntime(folder: Path, picture: Bytes, threads: int) -> Run:
    """The CPU's provider with its default optimisations, fp32."""
    ort: Any = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # it does not heed OMP_NUM_THREADS
    session = ort.InferenceSession(str(folder / ONNX), options, providers=["CPUExecutionProvider"])
    feed = {"lr": to_planes(picture)}
    return lambda: session.run(None, feed)[0]


def open_openvino(precision: Literal["f32", "bf16"], folder: Path, picture: Bytes, threads: int) -> Run:
    """The exported ONNX as it is, of dynamic shape, default settings but for precision and threads."""
    import sys

    sys.modules["openvino_telemetry"] = cast(Any, None)  # nothing is to be reported while measuring
    import openvino

    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    compiled: Any = openvino.Core().compile_model(folder / ONNX, "CPU", options)
    request = compiled.create_infer_request()
    lr = to_planes(picture)
    return lambda: request.infer([lr], share_inputs=True)[0]


def open_ncnn(precision: Literal["fp32", "bf16"], folder: Path, picture: Bytes, threads: int) -> Run:
    """The network as pnnx converts it, with weights in fp32; default settings on the CPU but for two.

    - Without ``use_sgemm_convolution`` ("may consume more memory", says ncnn's ``option.h``): with it the last layer
      becomes one matrix of 9·9·64 numbers for each pixel of the result. A picture of 64×64 pixels takes 2.8 GB then in
      place of 0.2, and 1.5 times as long, 25 times while that memory is new to the process. The 3×3 layers are
      computed by Winograd's method all the same, which is ncnn's default.
    - ``use_bf16_storage``, for bf16 alone: documented, and off by default. fp16 is on by default where the processor
      has units for it, and turned off here, so that fp32 is what it says.

    Its pool allocators, which its own benchmark uses, change less than 3 %.
    """
    ncnn: Any = import_module("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_sgemm_convolution = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = precision == "bf16"
    net.load_param(str(folder / f"{NCNN}.param"))
    net.load_model(str(folder / f"{NCNN}.bin"))
    planes = to_planes(picture)[0]
    lr = ncnn.Mat(planes).clone()  # a Mat of an array does not keep the array alive

    def run() -> NDArray[np.float32]:
        extractor = net.create_extractor()
        extractor.input("in0", lr)
        status, sr = extractor.extract("out0")
        if status != 0:
            raise MemoryError(f"ncnn gave up with status {status}")
        return np.array(sr)

    return run


def open_opencv(folder: Path, picture: Bytes, threads: int) -> Run:
    """OpenCV's dnn module, by its ONNX importer, fp32."""
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromONNX(str(folder / ONNX))
    lr = to_planes(picture)

    def run() -> NDArray[np.float32]:
        net.setInput(lr)
        return net.forward()

    return run


def open_matmul(precision: Literal["fp32", "bf16"], folder: Path, picture: Bytes, threads: int) -> Run:
    """The limit: a product of two square matrices, which no convolution without tricks can outrun."""
    import torch

    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    left, right = (torch.rand(MATMUL_SIDE, MATMUL_SIDE).to(dtype) for _ in range(2))
    return lambda: left @ right


def _plain_network(folder: Path) -> Any:
    from crispen.networks.weights import load_generator
    from plain import plain_network

    return plain_network(load_generator(folder / WEIGHTS)).eval()


def _model(folder: Path) -> str:
    return (folder / "model.txt").read_text(encoding="utf-8")


def _fixed(opening: Callable[..., Run], precision: str) -> Callable[[Path, Bytes, int], Run]:
    return lambda folder, picture, threads: opening(precision, folder, picture, threads)


METHODS = {
    "crispen": Method(title="**crispen**, as it ships", open=_fixed(open_crispen, "auto")),
    "crispen-fp32": Method(title="**crispen** fp32", open=_fixed(open_crispen, "fp32")),
    "crispen-int8": Method(title="**crispen** int8", open=_fixed(open_crispen, "int8")),
    "torch": Method(title="torch, eager fp32 NCHW", open=open_torch, needs=("torch",)),
    "torch-bf16": Method(title="torch, eager bf16 channels_last", open=open_torch_bf16, needs=("torch",)),
    "onnxruntime": Method(
        title="ONNX Runtime fp32", open=open_onnxruntime, needs=("torch", "onnx", "onnxruntime"), asset="onnx"
    ),
    "openvino": Method(
        title="OpenVINO fp32", open=_fixed(open_openvino, "f32"), needs=("torch", "onnx"), asset="onnx"
    ),
    "openvino-bf16": Method(
        title="OpenVINO bf16", open=_fixed(open_openvino, "bf16"), needs=("torch", "onnx"), asset="onnx"
    ),
    "ncnn": Method(
        title="ncnn fp32", open=_fixed(open_ncnn, "fp32"), needs=("torch", "pnnx", "ncnn"), asset="ncnn"
    ),
    "ncnn-bf16": Method(
        title="ncnn bf16", open=_fixed(open_ncnn, "bf16"), needs=("torch", "pnnx", "ncnn"), asset="ncnn"
    ),
    "opencv": Method(title="OpenCV dnn fp32", open=open_opencv, needs=("torch", "onnx", "cv2"), asset="onnx"),
    "matmul-fp32": Method(
        title="*limit:* torch matmul fp32", open=_fixed(open_matmul, "fp32"), needs=("torch",)
    ),
    "matmul-bf16": Method(
        title="*limit:* torch matmul bf16", open=_fixed(open_matmul, "bf16"), needs=("torch",)
    ),
}
"""By the names that ``--methods`` takes, in the order of the table."""

REFERENCE = "torch"
"""Whose results the others have to agree with."""
