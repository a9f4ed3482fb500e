"""An openvino.Model, rewritten before it is compiled: the same numbers, sooner or more exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispen.errors import ModelError

FEATURES = "features"
"""The name, in the ONNX file, of what the network knows of the picture before it enlarges it."""

_BEYOND_ANY_PIXEL = 1000.0
_ELEMENTWISE = frozenset({"Add", "Multiply", "PRelu", "Relu", "Swish", "Tanh"})


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
        blended = _constant(mean.astype(np.float32), openvino)
        for user in end.output(0).get_target_inputs():
            user.replace_source_output(blended.output(0))


def _weights_of(model: Any) -> list[Any]:
    """The constants that are not shapes or axes, in the order of computing."""
    constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    return [node for node in constants if node.get_element_type().is_real()]


def shuffle_in_blocks(model: Any, openvino: Any) -> None:
    """Let pixel shuffles find the channels of each phase side by side: they then copy them at once, not one by one.

    For that the convolutions before a shuffle give their channels in another order. Where anything lies between
    that depends on the order and is not known here, the shuffle stays as it is.
    """
    for shuffle in _nodes(model, "DepthToSpace"):
        source, given = shuffle.input_value(0), shuffle.get_attributes()
        block: int = given["block_size"]
        reordered = _reordered(source, block) if given["mode"] == "depth_first" else None
        if reordered is None:
            continue
        for place, numbers in reordered:
            place.replace_source_output(_constant(numbers, openvino).output(0))
        _replace(shuffle, openvino.opset8.depth_to_space(source, "blocks_first", block))


def split_convolutions(model: Any, openvino: Any) -> None:
    """Compute a large convolution with few outputs in two steps.

    The first goes along rows and has an output for each row of the kernel; the second adds these, each from its row.
    Processors compute blocks of 16 outputs. The 12 phases of the generator's 9×9 tail leave a quarter of one idle,
    5 rows of them, 60 outputs, a sixteenth of four; and what is read of the input serves four blocks, not one.
    In fp32 the numbers are the same up to the order of sums; in bf16 the rows' parts are rounded, which takes 0.3 dB
    of some 60 by which the result agrees with fp32's.
    """
    ops = openvino.opset8
    for conv in _nodes(model, "Convolution"):
        weights = conv.input_value(1).get_node()
        if weights.get_type_name() != "Constant" or not _gains_by_splitting(conv):
            continue
        kernel: NDArray[Any] = weights.data  # (O, C, K, K)
        outputs, channels, side, _ = kernel.shape
        along = kernel.transpose(2, 0, 1, 3).reshape(side * outputs, channels, 1, side)
        across = np.eye(side * outputs, dtype=kernel.dtype).reshape(side, outputs, side * outputs, 1)
        across = across.transpose(1, 2, 0, 3)  # (O, K·O, K, 1)
        reach = side // 2
        parts = ops.convolution(
            conv.input_value(0),
            _constant(along, openvino),
            [1, 1],
            [0, reach],
            [0, reach],
            [1, 1],
        )
        total = ops.convolution(parts, _constant(across, openvino), [1, 1], [reach, 0], [reach, 0], [1, 1])
        _replace(conv, total)


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


def _constant(numbers: NDArray[Any], openvino: Any) -> Any:
    """A constant with a copy of numbers, which the function of that name in opsets would take one by one."""
    return openvino.op.Constant(np.ascontiguousarray(numbers))


def _nodes(model: Any, kind: str) -> list[Any]:
    """All operations of a kind, in the order of computing."""
    return [node for node in model.get_ordered_ops() if node.get_type_name() == kind]


def _replace(node: Any, other: Any) -> None:
    """Let ``other`` be computed in place of a node."""
    for user in node.output(0).get_target_inputs():
        user.replace_source_output(other.output(0))


def _reordered(value: Any, block: int) -> list[tuple[Any, NDArray[Any]]] | None:
    """What to put where so that ``value``, (N, C·block², H, W), comes phase by phase and not channel by channel.

    None where that cannot be told, or somebody else wants the channels as they are.
    """
    node = value.get_node()
    users = [user.get_node().get_type_name() for user in value.get_target_inputs()]
    if len(users) - users.count("ShapeOf") != 1:
        return None
    kind = node.get_type_name()
    if kind == "Convolution":
        weights = node.input_value(1).get_node()
        if weights.get_type_name() != "Constant":
            return None
        return [(node.input(1), weights.data[_by_phase(len(weights.data), block)])]
    if kind not in _ELEMENTWISE:
        return None
    places: list[tuple[Any, NDArray[Any]]] = []
    for place in node.inputs():
        numbers = _numbers_of(place.get_source_output())
        if numbers is None:
            before = _reordered(place.get_source_output(), block)
            if before is None:
                return None
            places += before
        elif numbers.size > 1:
            if numbers.shape != (1, numbers.size, 1, 1):
                return None
            places.append((place, numbers[:, _by_phase(numbers.size, block)]))
    return places


def _by_phase(channels: int, block: int) -> NDArray[np.int64]:
    """The order in which channels of block² phases each become phases of so many channels."""
    return np.arange(channels).reshape(-1, block**2).T.ravel()


def _numbers_of(value: Any) -> NDArray[Any] | None:
    """The numbers of a constant, be it reshaped; None for what is computed."""
    node, shape = value.get_node(), value.get_partial_shape()
    if node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or shape.is_dynamic:
        return None
    return node.data.reshape(shape.to_shape())


def _gains_by_splitting(conv: Any) -> bool:
    """Whether `split_convolutions` saves a tenth of the products, those of idle outputs counted."""
    shape = conv.input_value(1).get_shape()
    if len(shape) != 4:
        return False
    outputs, channels, side, width = shape
    reach = side // 2
    known = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [reach, reach], "pads_end": [reach, reach]}
    given = conv.get_attributes()
    if side != width or side % 2 == 0 or any(list(given[name]) != wanted for name, wanted in known.items()):
        return False
    whole = _filled(outputs) * channels * side * side
    split = _filled(side * outputs) * channels * side + _filled(outputs) * side * outputs * side
    return split < 0.9 * whole


def _filled(outputs: int) -> int:
    """How many outputs a processor computes that computes 16 at a time."""
    return -(-outputs // 16) * 16
