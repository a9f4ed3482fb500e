"""How much is computed, counted in operations instead of seconds: what is slower than it must be shows here."""

import hashlib
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from commands import save
from crispen import images, runtimes, zoo
from crispen.images import Picture
from crispen.runtimes import OpenVINORuntime, Piece
from crispen.runtimes.openvino import TAIL_TILE, TAIL_TILE_OF_AMX
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
@pytest.mark.parametrize(("multiple", "tail_tile"), [(1, TAIL_TILE), (16, TAIL_TILE_OF_AMX)])
def test_no_more_than_15_percent_are_computed_twice(
    size: tuple[int, int], multiple: int, tail_tile: int
) -> None:
    assert 1 <= computed_of_needed(size, multiple, tail_tile) <= 1.15


@pytest.mark.parametrize("width", [257, 300, 359, 483, 562])
def test_no_more_than_23_percent_are_where_a_slow_width_is_cut_in_two(width: int) -> None:
    assert 1 <= computed_of_needed((300, width), 16, TAIL_TILE_OF_AMX) <= 1.23


def computed_of_needed(size: tuple[int, int], multiple: int, tail_tile: int) -> float:
    """Multiplications that tiles of the default size take, against those of the picture at once."""
    model = zoo.find("srresnet-x4")
    context, tail_context = model.context, model.tail_context
    assert tail_context is not None
    before = after = 0
    for tile in plan(*size, tile=memory.LARGEST_TILE, context=context, multiple=multiple):
        window = Box(0, 0, tile.window.height, tile.window.width)
        before += window.height * window.width
        seen = tile.core.within(tile.window).grown(tail_context, inside=window)
        parts = plan(seen.height, seen.width, tile=tail_tile, context=tail_context)
        after += sum(part.window.height * part.window.width for part in parts)
    body, tail = multiplications_before_the_features(model), multiplications_after_the_features(model)
    needed = size[0] * size[1] * (body + tail)
    return (before * body + after * tail) / needed


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


def sixteen(_choice: runtimes.Choice) -> int:
    return 16


def test_windows_of_slow_widths_are_cut_in_two_with_the_same_result(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 299, 3), np.uint8)
    upscaler = Upscaler(zoo.find(tiny_model), precision="fp32")
    whole = upscaler(pixels)
    monkeypatch.setattr(runtimes, "width_multiple", sixteen)
    assert len(upscaler.enlarge(images.from_array(pixels))) == 2
    assert np.array_equal(upscaler(pixels), whole)


def test_windows_that_are_turned_are_cut_by_their_heights_as_well(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (299, 20, 3), np.uint8)
    upscaler = Upscaler(zoo.find(tiny_model), precision="fp32", ensemble=True)
    whole = upscaler(pixels)
    monkeypatch.setattr(runtimes, "width_multiple", sixteen)
    assert len(Upscaler(zoo.find(tiny_model), precision="fp32").enlarge(images.from_array(pixels))) == 1
    assert len(upscaler.enlarge(images.from_array(pixels))) == 2
    assert np.abs(upscaler(pixels).astype(int) - whole).max() <= 1


STARTING = """
import sys
from crispen.cli import app
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
heavy = {
    "asyncio", "multiprocessing", "http.client", "ssl", "urllib.request", "xml.sax", "xml.etree", "numpy.ma", "torch",
    "onnx", "safetensors", "PIL", "av", "rich", "openvino_telemetry", "openvino.tools.ovc", "crispen.films",
    "crispen.networks", "crispen.training", "crispen.evaluation", "crispen.export",
}
print(heavy & set(sys.modules), file=sys.stderr)
"""


def test_a_picture_is_enlarged_without_importing_what_is_heavy(tiny_model: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "small.png")
    command = [sys.executable, "-c", STARTING, "upscale", source, "--model", tiny_model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("set()\n", 0)
    assert images.read(tmp_path / "small-x4.png").width == 80


@pytest.mark.parametrize("with_card", [True, False])
def test_no_file_of_a_model_is_hashed_more_than_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_card: bool
) -> None:
    hashed: Counter[Path] = Counter()
    digest = hashlib.file_digest

    def counting(file: IO[bytes], name: str, /) -> Any:
        hashed[Path(file.name)] += 1
        return digest(file, name)  # pyright: ignore[reportArgumentType]  # a narrower protocol of files

    monkeypatch.setattr(hashlib, "file_digest", counting)
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    if not with_card:
        (folder / zoo.CARD).unlink()
    upscaler = Upscaler(zoo.find(folder))
    for name in "abc":
        upscaler(save(tmp_path / f"{name}.png"))
    needed = {zoo.ONNX, zoo.WEIGHTS} if with_card else {zoo.WEIGHTS}
    assert hashed == {folder / name: 1 for name in needed}
