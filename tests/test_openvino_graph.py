"""What is done to an OpenVINO network before it is compiled changes its operations and not its numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from crispen.export import export_onnx
from crispen.networks.generators import AnyGenerator, Compact, SRResNet
from crispen.runtimes import openvino_graph
from crispen.runtimes.openvino import load_openvino

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def openvino() -> Any:
    return load_openvino()


def exported(generator: AnyGenerator, folder: Path, openvino: Any) -> Any:
    torch.manual_seed(3)
    for parameter in generator.parameters():
        nn.init.normal_(parameter, std=0.05)  # no two channels alike, biases neither
    export_onnx(generator.eval(), folder / "model.onnx")
    return openvino_graph.read(folder / "model.onnx", openvino.Core())


def computed(model: Any, openvino: Any, *, channels: int = 3) -> Floats:
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    batch = np.random.default_rng(0).random((2, channels, 11, 7), dtype=np.float32)
    return openvino.Core().compile_model(model, "CPU", options)([batch])[0]


def operations(model: Any, kind: str) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == kind]


def shuffles(model: Any) -> list[str]:
    return [node.get_attributes()["mode"] for node in operations(model, "DepthToSpace")]


@pytest.mark.parametrize(
    "generator",
    [
        SRResNet(scale=4, num_blocks=1, num_features=8, batch_norm=False),
        SRResNet(scale=8, num_blocks=1, num_features=8, batch_norm=True, output="tanh"),
        SRResNet(scale=2, num_blocks=1, num_features=8, batch_norm=False, activation="swish"),
        SRResNet(scale=4, num_blocks=1, num_features=8, batch_norm=False, activation="relu"),
        Compact(scale=4, num_blocks=1, num_features=8, batch_norm=False),
    ],
    ids=["x4", "x8", "x2 with swish", "relu", "compact"],
)
def test_shuffles_of_every_generator_copy_phases_at_once(
    generator: AnyGenerator, tmp_path: Path, openvino: Any
) -> None:
    model = exported(generator, tmp_path, openvino)
    before = computed(model, openvino)
    assert set(shuffles(model)) == {"depth_first"}
    openvino_graph.shuffle_in_blocks(model, openvino)
    assert set(shuffles(model)) == {"blocks_first"}
    np.testing.assert_allclose(computed(model, openvino), before, atol=1e-5 * np.abs(before).max())


def model_of(layers: Callable[[Any, Any], Any], openvino: Any, *, channels: int = 3) -> Any:
    """What ``layers`` makes of the opset's functions and a picture."""
    shape = openvino.PartialShape([-1, channels, -1, -1])
    picture = openvino.opset8.parameter(shape, openvino.Type.f32)
    return openvino.Model([layers(openvino.opset8, picture)], [picture])


def conv(
    ops: Any,
    x: Any,
    outputs: int,
    kernel: tuple[int, int],
    *,
    padding: tuple[int, int],
    channels: int,
    dilation: int = 1,
) -> Any:
    weights = np.random.default_rng(outputs).normal(0, 0.1, (outputs, channels, *kernel)).astype(np.float32)
    return ops.convolution(x, ops.constant(weights), [1, 1], padding, padding, [dilation, dilation])


def watched(ops: Any, picture: Any) -> Any:
    """A shuffle whose input somebody else looks at, channel by channel."""
    phases = conv(ops, picture, 12, (3, 3), padding=(1, 1), channels=3)
    first = ops.gather(phases, np.array([0]), np.array(1))
    return ops.add(
        ops.depth_to_space(phases, "depth_first", 2), ops.reduce_mean(first, np.array([2, 3]), keep_dims=True)
    )


def with_slopes(ops: Any, picture: Any) -> Any:
    """A shuffle after slopes of which each belongs to a channel."""
    phases = conv(ops, picture, 12, (3, 3), padding=(1, 1), channels=3)
    sloped = ops.prelu(phases, ops.constant(np.linspace(-1, 1, 12, dtype=np.float32)))
    return ops.depth_to_space(sloped, "depth_first", 2)


def bare(ops: Any, picture: Any) -> Any:
    """A shuffle without a convolution."""
    return ops.depth_to_space(ops.concat([picture, ops.relu(picture), picture, picture], 1), "depth_first", 2)


@pytest.mark.parametrize("layers", [watched, with_slopes, bare])
def test_a_shuffle_whose_channels_have_an_order_stays(
    layers: Callable[[Any, Any], Any], openvino: Any
) -> None:
    model = model_of(layers, openvino)
    before = computed(model, openvino)
    openvino_graph.shuffle_in_blocks(model, openvino)
    assert shuffles(model) == ["depth_first"]
    assert np.array_equal(computed(model, openvino), before)


def test_the_tail_is_computed_in_two(tmp_path: Path, openvino: Any) -> None:
    model = exported(SRResNet(scale=4, num_blocks=1, num_features=32, batch_norm=False), tmp_path, openvino)
    before, count = computed(model, openvino), len(operations(model, "Convolution"))
    openvino_graph.split_convolutions(model, openvino)
    *_, along, across = operations(model, "Convolution")
    assert len(operations(model, "Convolution")) == count + 1
    assert list(along.input_value(1).get_shape()) == [60, 128, 1, 5]
    assert list(across.input_value(1).get_shape()) == [12, 60, 5, 1]
    np.testing.assert_allclose(computed(model, openvino), before, atol=1e-5 * np.abs(before).max())


def test_a_large_kernel_at_full_size_is_computed_in_two(openvino: Any) -> None:
    model = model_of(
        lambda ops, x: conv(ops, x, 3, (9, 9), padding=(4, 4), channels=64), openvino, channels=64
    )
    before = computed(model, openvino, channels=64)
    openvino_graph.split_convolutions(model, openvino)
    assert len(operations(model, "Convolution")) == 2
    np.testing.assert_allclose(computed(model, openvino, channels=64), before, atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "kernel", "padding", "dilation"),
    [
        (64, (9, 9), (4, 4), 1),
        (12, (3, 3), (1, 1), 1),
        (3, (9, 1), (4, 0), 1),
        (3, (9, 9), (3, 3), 1),
        (3, (9, 9), (8, 8), 2),
    ],
    ids=["many outputs", "small kernel", "no rows", "another size", "dilated"],
)
def test_other_convolutions_are_left_alone(
    outputs: int, kernel: tuple[int, int], padding: tuple[int, int], dilation: int, openvino: Any
) -> None:
    model = model_of(
        lambda ops, x: conv(ops, x, outputs, kernel, padding=padding, channels=64, dilation=dilation),
        openvino,
        channels=64,
    )
    openvino_graph.split_convolutions(model, openvino)
    assert len(operations(model, "Convolution")) == 1
