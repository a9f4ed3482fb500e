"""The network as ONNX, written node by node instead of traced.

Our networks are made of a handful of kinds of layer. So the file says what the network is, needs no exporter that torch
deprecates every other year, and is the same, bit for bit, whenever it is made from the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crispen.errors import ModelError
from crispen.export.quantisation import Range, quantised_kernel
from crispen.networks.generators import AnyGenerator, Compact, ResidualBlock
from crispen.networks.polyphase import polyphase_kernel
from crispen.zoo.card import Output, parse_architecture

OPSETS = range(13, 24)
"""Versions of the ONNX operators that can be asked for."""

OPSET = 17
"""The version taken by default: of 2022, so that older readers understand it, too."""


def to_onnx(
    generator: AnyGenerator,
    *,
    opset: int = OPSET,
    size: tuple[int, int] | None = None,
    ranges: Mapping[nn.Conv2d, Range] | None = None,
) -> Any:
    """Return the onnx.ModelProto of a generator that `crispen.export.folding.folded` has returned.

    The input ``lr`` and the output ``sr`` are (n, 3, height, width) float32. In an SRResNet the tensor ``features``,
    the sum of shallow and deep features that enters the upsampler, is where the network can be cut in two.

    Args:
        generator: an SRResNet or a Compact.
        opset: one of `OPSETS`.
        size: width and height of the only input it takes; None for any.
        ranges: the convolutions to compute in 8 bits, with what `crispen.export.quantisation.observe` saw
            enter them.

    Raises:
        ModelError: for a layer that is none of ours.
    """
    from onnx import TensorProto, helper

    graph = _Graph(ranges=ranges or {})
    shallow = graph.add(generator.head, "lr")
    features = graph.node("Add", shallow, graph.add(generator.body, shallow), output="features")
    phases, factor = _phases(graph, generator, features)
    graph.shuffle(graph.rgb(phases, generator.output), factor, output="sr")
    lr, sr = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, _shape(name, size, scale))
        for name, scale in (("lr", 1), ("sr", generator.scale))
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        helper.make_graph(graph.nodes, generator.name, [lr], [sr], graph.constants),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="crispen",
    )


def _phases(graph: _Graph, generator: AnyGenerator, features: str) -> tuple[str, int]:
    """Append what stands before the last shuffle, and return it with the shuffle's factor."""
    if isinstance(generator, Compact):
        sum_ = graph.node("Add", graph.add(generator.tail, features), graph.add(generator.skip, "lr"))
        return sum_, generator.scale
    return graph.conv_of_phases(graph.add(generator.upsampler, features), generator.tail), 2


def describe(
    generator: AnyGenerator, *, size: tuple[int, int] | None = None, int8: bool = False
) -> dict[str, str]:
    """Return what an exported file says about itself, which `crispen.zoo.metadata` reads.

    ``scale`` and ``context`` (see `crispen.zoo.Model`), ``architecture`` as JSON; where it holds, ``tail_context``,
    ``size``, the only one that it takes, and ``precision``, "int8".
    """
    architecture = parse_architecture(generator.architecture, source="this generator")
    entries = {
        "scale": str(architecture.scale),
        "context": str(architecture.context),
        "architecture": json.dumps(generator.architecture),
    }
    if architecture.tail_context is not None:
        entries["tail_context"] = str(architecture.tail_context)
    if size is not None:
        entries["size"] = f"{size[0]}x{size[1]}"
    return entries | ({"precision": "int8"} if int8 else {})


def _shape(name: str, size: tuple[int, int] | None, scale: int) -> list[str | int]:
    if size is None:
        return ["n", 3, f"{name}_height", f"{name}_width"]
    return [1, 3, size[1] * scale, size[0] * scale]


@dataclass
class _Graph:
    """A graph in the making. Each method appends nodes and returns the name of their output."""

    ranges: Mapping[nn.Conv2d, Range]
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
                return self.conv(x, layer, layer.weight, layer.bias)
            case nn.Identity():
                return x
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

    def conv(self, x: str, layer: nn.Conv2d, kernel: Tensor, bias: Tensor | None) -> str:
        """Append a convolution that keeps the size; in 8 bits, where the range of what enters ``layer`` is known."""
        reach = kernel.shape[-1] // 2
        if layer in self.ranges:
            return self.rounded_conv(x, self.ranges[layer], kernel, bias)
        biases = [] if bias is None else [self.constant(bias)]
        return self.node("Conv", x, self.constant(kernel), *biases, pads=[reach] * 4)

    def rounded_conv(self, x: str, range_: Range, kernel: Tensor, bias: Tensor | None) -> str:
        """Append a convolution in 8 bits. What stands behind such pairs of nodes is computed so.

        Its input is taken as whole numbers from 0 to 255, and what their zeros add up to is taken off the bias. So
        zeros must stand around the picture before it is rounded: OpenVINO 2026.4 has zeros for each channel as well,
        but gets the border wrong with them.
        """
        reach, steps, zeros = kernel.shape[-1] // 2, range_.steps, range_.zeros
        integers, kernel_steps = quantised_kernel(kernel.detach() * torch.tensor(steps).reshape(-1, 1, 1))
        offset = kernel_steps * np.einsum("ochw,c->o", integers, zeros, dtype=np.float64)
        taken_off = (0 if bias is None else bias.detach().numpy()) - offset
        around = self.array(np.array([0, 0, reach, reach] * 2))
        bytes_ = self.node(
            "QuantizeLinear", self.node("Pad", x, around), self.array(steps), self.array(zeros), axis=1
        )
        numbers = self.node("DequantizeLinear", bytes_, self.array(np.float32(1)), self.array(np.uint8(0)))
        weights = self.node("DequantizeLinear", self.array(integers), self.array(kernel_steps), axis=0)
        return self.node("Conv", numbers, weights, self.array(taken_off.astype(np.float32)), pads=[0] * 4)

    def shuffle(self, x: str, factor: int, output: str | None = None) -> str:
        """Append a pixel shuffle, which ONNX calls DepthToSpace, columns and rows within channels."""
        return self.node("DepthToSpace", x, output=output, blocksize=factor, mode="CRD")

    def conv_of_phases(self, phases: str, conv: nn.Conv2d) -> str:
        """Append `crispen.networks.polyphase.conv_of_shuffled` but for its shuffle."""
        bias = None if conv.bias is None else conv.bias.repeat_interleave(4)
        return self.conv(phases, conv, polyphase_kernel(conv.weight), bias)

    def rgb(self, y: str, output: Output) -> str:
        """Append what `crispen.networks.generators.OUTPUTS` does; it may stand before the shuffle as well."""
        if output == "linear":
            return y
        symmetric = self.node("Tanh", y) if output == "tanh" else y
        half = self.constant(torch.tensor(0.5))
        return self.node("Add", self.node("Mul", symmetric, half), half)

    def constant(self, tensor: Tensor) -> str:
        """Append a tensor of numbers."""
        return self.array(tensor.detach().numpy())

    def array(self, numbers: NDArray[Any] | np.generic) -> str:
        """Append an array of numbers."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(numbers), name))
        return name

    def node(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append one ONNX node."""
        from onnx import helper

        output = output or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output
