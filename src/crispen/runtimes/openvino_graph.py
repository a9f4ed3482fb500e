"""An openvino.Model, rewritten before it is compiled: the same numbers, sooner or more exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crispen.errors import ModelError

FEATURES = "features"
"""The name, in the ONNX file, of what the network knows of the picture before it enlarges it."""

_BEYOND_ANY_PIXEL = 1000.0


def read(path: Path, core: Any) -> Any:
    """Read an ONNX file, or one of OpenVINO's own.

    Raises:
        ModelError: where it is missing or neither.
    """
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path} is missing or not a readable ONNX file") from error


def go_from(start: Any, model: Any, strength: float, openvino: Any) -> None:
    """Replace the weights of ``model`` by the mean of its own and those of ``start``."""
    pairs = zip(_weights_of(start), _weights_of(model), strict=True)
    for begin, end in pairs:
        mean = (1 - strength) * begin.data + strength * end.data
        blended = openvino.opset8.constant(mean.astype(np.float32))
        for user in end.output(0).get_target_inputs():
            user.replace_source_output(blended.output(0))


def _weights_of(model: Any) -> list[Any]:
    """The constants that are not shapes or axes, in the order of computing."""
    constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    return [node for node in constants if node.get_element_type().is_real()]


def keep_output_in_fp32(model: Any, openvino: Any) -> None:
    """Put an operation without effect at the end, which stays in fp32 and fuses with the last convolution.

    In bf16 that convolution would otherwise round its result to bf16, which has no more than 128 values
    between 0.5 and 1: bands in every bright sky. With this the convolution hands on its sums as they are, in
    fp32. On photographs it brings the result 2 dB nearer to that of fp32, to about 60 dB, and costs nothing.
    """
    (result,) = model.get_results()
    source = result.input_value(0)
    clamp = openvino.opset8.clamp(source, -_BEYOND_ANY_PIXEL, _BEYOND_ANY_PIXEL)
    result.input(0).replace_source_output(clamp.output(0))


def cut(model: Any, precision: str, openvino: Any) -> tuple[Any, Any]:
    """Cut a model in two where its ``features`` pass, which go over as (N, H, W, num_features).

    That is the order in which the processor computes them, and in bf16 they are no more than bf16: so
    nothing is converted.
    """
    ops, bf16 = openvino.opset8, precision == "bf16"
    (node,) = [node for node in model.get_ordered_ops() if node.get_friendly_name() == FEATURES]
    users = list(node.output(0).get_target_inputs())
    handed_over = ops.transpose(node.output(0), np.array([0, 2, 3, 1]))
    shape = openvino.PartialShape([-1, -1, -1, node.get_output_partial_shape(0)[1].get_length()])
    taken = ops.parameter(shape, openvino.Type.bf16 if bf16 else openvino.Type.f32)
    features = ops.transpose(ops.convert(taken, "f32") if bf16 else taken, np.array([0, 3, 1, 2]))
    for user in users:
        user.replace_source_output(features.output(0))
    body = openvino.Model([ops.convert(handed_over, "bf16") if bf16 else handed_over], model.get_parameters())
    return body, openvino.Model(model.get_results(), [taken])
