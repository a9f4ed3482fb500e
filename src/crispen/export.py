"""From torch to ONNX, which OpenVINO computes without torch. Needs the extra ``[train]``.

The graph is written node by node instead of traced: our networks are made of a handful of kinds of layer, and so the
file says what the network is, needs no exporter that torch deprecates every other year, and is the same, bit
for bit, whenever it is made from the same weights.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from crispen.errors import ModelError, require
from crispen.networks.generators import ResidualBlock, SRResNet
from crispen.networks.polyphase import polyphase_kernel
from crispen.networks.weights import load_generator, save_generator
from crispen.runtimes.openvino import OpenVINORuntime
from crispen.zoo import ONNX, WEIGHTS
from crispen.zoo.card import Output

TOLERANCE = 1e-4
"""How far, in pixel values, the exported network may be from the original."""

_OPSET, _IR_VERSION = 17, 8  # of 2022, so that older readers understand it, too
_CHECKED_SIZES = ((1, 1), (7, 12), (33, 21))


def export_model(weights_path: Path, folder: Path) -> Path:
    """Make a model's folder, with ``weights.safetensors`` and ``model.onnx``.

    The folder is made where there is none. Files of an earlier export are replaced.

    Returns:
        The path of ``model.onnx``.

    Raises:
        ModelError: where the weights are not a generator's, or `export_onnx` fails.
    """
    generator = load_generator(weights_path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder} cannot be made a folder: {error.strerror}") from error
    if not (folder / WEIGHTS).exists() or not (folder / WEIGHTS).samefile(weights_path):
        save_generator(generator, folder / WEIGHTS)
    export_onnx(generator, folder / ONNX)
    return folder / ONNX


def export_onnx(generator: SRResNet, path: Path) -> None:
    """Write a generator as ONNX and make sure that OpenVINO computes the same from it.

    The input ``lr`` and the output ``sr`` are (n, 3, height, width) float32, of any size. The file's metadata
    holds ``scale``, ``context`` and, as JSON, ``architecture``.

    Raises:
        ModelError: where the results differ by more than `TOLERANCE`, or the file cannot be written.
        MissingExtra: where onnx is not installed.
    """
    onnx = require("onnx", purpose="export")
    generator = copy.deepcopy(generator).cpu().eval()
    with _published(path) as temporary:
        onnx.save_model(_to_onnx(generator), str(temporary))
        _check_parity(generator, temporary)


@contextmanager
def _published(path: Path) -> Generator[Path]:
    """Yield a temporary path beside ``path``, which becomes it if nothing fails, and is gone in any case."""
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 (same thing, and says what matters: it is atomic)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


@torch.inference_mode()
def _check_parity(generator: SRResNet, path: Path) -> None:
    runtime = OpenVINORuntime(path, scale=generator.scale)
    random = np.random.default_rng(0)
    for height, width in _CHECKED_SIZES:
        lr = random.random((2, 3, height, width), dtype=np.float32)
        expected = generator(torch.tensor(lr)).numpy()
        difference = float(np.abs(runtime(lr) - expected).max())
        if not difference <= TOLERANCE:
            raise ModelError(
                f"the exported network differs from the original by {difference:.2g} at {width}x{height}"
            )


def _to_onnx(generator: SRResNet) -> Any:
    """Return the onnx.ModelProto of the paper's Figure 4, in evaluation mode."""
    from onnx import TensorProto, helper

    graph = _Graph()
    shallow = graph.add(generator.head, "lr")
    deep = graph.node("Add", shallow, graph.add(generator.body, shallow))
    phases = graph.add(generator.upsampler, deep)
    mixed = graph.rgb(graph.conv_of_phases(phases, generator.tail), generator.output)
    graph.shuffle(mixed, 2, output="sr")
    lr, sr = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, f"{name}_height", f"{name}_width"])
        for name in ("lr", "sr")
    )
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "srresnet", [lr], [sr], graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="crispen",
    )
    helper.set_model_props(proto, _describe(generator))
    return proto


def _describe(generator: SRResNet) -> dict[str, str]:
    return {
        "scale": str(generator.scale),
        "context": str(generator.context),
        "architecture": json.dumps(generator.architecture),
    }


@dataclass
class _Graph:
    """A graph in the making. Each method appends nodes and returns the name of their output."""

    nodes: list[Any] = field(default_factory=list[Any])
    constants: list[Any] = field(default_factory=list[Any])

    def add(self, layer: nn.Module, x: str) -> str:
        """Append what ``layer`` does to ``x``."""
        match layer:
            case nn.Sequential():
                for part in layer:
                    x = self.add(part, x)
                return x
            case ResidualBlock():
                return self.node("Add", x, self.add(layer.residual, x))
            case nn.Conv2d():
                return self.conv(x, layer.weight, layer.bias)
            case nn.BatchNorm2d():
                statistics = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
                tensors = [self.constant(cast(Tensor, tensor)) for tensor in statistics]
                return self.node("BatchNormalization", x, *tensors, epsilon=layer.eps)
            case nn.PReLU():
                return self.node("PRelu", x, self.constant(layer.weight.reshape(-1, 1, 1)))
            case nn.ReLU():
                return self.node("Relu", x)
            case nn.SiLU():
                return self.node("Mul", x, self.node("Sigmoid", x))
            case nn.PixelShuffle():
                return self.shuffle(x, layer.upscale_factor)
            case _:
                raise ModelError(f"a layer of type {type(layer).__name__} cannot be exported")

    def conv(self, x: str, kernel: Tensor, bias: Tensor | None) -> str:
        """Append a convolution that keeps the size."""
        tensors = [self.constant(tensor) for tensor in (kernel, bias) if tensor is not None]
        return self.node("Conv", x, *tensors, pads=[kernel.shape[-1] // 2] * 4)

    def shuffle(self, x: str, factor: int, output: str | None = None) -> str:
        """Append a pixel shuffle, which ONNX calls DepthToSpace, columns and rows within channels."""
        return self.node("DepthToSpace", x, output=output, blocksize=factor, mode="CRD")

    def conv_of_phases(self, phases: str, conv: nn.Conv2d) -> str:
        """Append `crispen.networks.polyphase.conv_of_shuffled` but for its shuffle."""
        bias = None if conv.bias is None else conv.bias.repeat_interleave(4)
        return self.conv(phases, polyphase_kernel(conv.weight), bias)

    def rgb(self, y: str, output: Output) -> str:
        """Append what `crispen.networks.generators.OUTPUTS` does; it may stand before the shuffle as well."""
        if output == "linear":
            return y
        symmetric = self.node("Tanh", y) if output == "tanh" else y
        half = self.constant(torch.tensor(0.5))
        return self.node("Add", self.node("Mul", symmetric, half), half)

    def constant(self, tensor: Tensor) -> str:
        """Append a tensor of numbers."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(tensor.detach().float().cpu().numpy(), name))
        return name

    def node(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append one ONNX node."""
        from onnx import helper

        output = output or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output
