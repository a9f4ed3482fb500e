"""How much is computed, counted in operations instead of seconds: what is slower than it must be shows here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispen import images, zoo
from crispen.images import Picture
from crispen.runtimes import OpenVINORuntime, Piece
from crispen.runtimes.openvino import TAIL_TILE
from crispen.tiling import Box, plan
from crispen.upscaling import Upscaler, memory
from crispen.zoo import Model

_3x3, _5x5, _9x9 = 9, 25, 81


def multiplications_before_the_features(model: Model) -> int:
    """Of a bundled generator, for each pixel of what it is given."""
    assert model.card is not None
    features, blocks = model.card.architecture.num_features, model.card.architecture.num_blocks
    return _9x9 * 3 * features + (2 * blocks + 1) * _3x3 * features**2


def multiplications_after_the_features(model: Model) -> int:
    """Of a bundled generator of scale 4, whose last convolution is computed before the last shuffle."""
    assert model.card is not None
    features = model.card.architecture.num_features
    upsampler = (1 + 4) * _3x3 * features * 4 * features
    return upsampler + 4 * _5x5 * 4 * features * 12


@pytest.mark.parametrize("size", [(64, 64), (480, 320), (1080, 1920), (3000, 4000), (20000, 1500)])
def test_no_more_than_15_percent_are_computed_twice(size: tuple[int, int]) -> None:
    model = zoo.find("srgan-x4")
    context, tail_context = model.context, model.tail_context
    assert tail_context is not None
    before = after = 0
    for tile in plan(*size, tile=memory.LARGEST_TILE, context=context):
        window = Box(0, 0, tile.window.height, tile.window.width)
        before += window.height * window.width
        seen = tile.core.within(tile.window).grown(tail_context, inside=window)
        parts = plan(seen.height, seen.width, tile=TAIL_TILE, context=tail_context)
        after += sum(part.window.height * part.window.width for part in parts)
    body, tail = multiplications_before_the_features(model), multiplications_after_the_features(model)
    needed = size[0] * size[1] * (body + tail)
    assert needed <= before * body + after * tail <= 1.15 * needed


class Counted:
    """An inference request that counts the pixels it is given."""

    def __init__(self, request: Any) -> None:
        self.pixels = 0
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def infer(self, inputs: Any = None, **options: Any) -> Any:
        tensor = self._request.get_input_tensor() if inputs is None else inputs[0]
        height, width = tensor.shape[1:3] if inputs is None else tensor.shape[2:]
        self.pixels += height * width
        return self._request.infer(inputs, **options)


def test_what_makes_the_large_picture_is_computed_only_where_it_is_asked_for(tiny_model: Path) -> None:
    model = zoo.find(tiny_model)
    assert model.onnx is not None
    assert model.tail_context is not None
    runtime = OpenVINORuntime(model.onnx, scale=4, tail_context=model.tail_context)
    body, tail = (Counted(request) for request in runtime._parts)  # pyright: ignore[reportPrivateUsage]
    runtime._parts = (body, tail)  # pyright: ignore[reportPrivateUsage]  # nothing else can tell
    runtime(np.zeros((1, 3, 100, 90), np.float32), core=Box(30, 20, 60, 90))
    assert body.pixels == 100 * 90
    assert tail.pixels == (30 + 2 * model.tail_context) * (70 + model.tail_context)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_network_runs_once_for_each_tile(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    seen: list[tuple[int, ...]] = []
    compute = OpenVINORuntime.map

    def counting(runtime: OpenVINORuntime, pieces: Iterator[Piece]) -> Any:
        def counted() -> Iterator[Piece]:
            for piece in pieces:
                seen.append(piece.window.shape)
                yield piece

        return compute(runtime, counted())

    monkeypatch.setattr(OpenVINORuntime, "map", counting)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, channels), np.uint8)
    picture = images.from_array(pixels)
    upscaler = Upscaler(zoo.find(tiny_model), tile=16)
    images.write(picture, tmp_path / "small.png")
    upscaler(tmp_path / "small.png")
    assert len(seen) == len(upscaler.enlarge(Picture(pixels=picture.pixels)))
    assert len(set(seen)) == 1
