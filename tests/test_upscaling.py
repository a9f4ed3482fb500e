"""Tiled equals whole, whatever the tile; kinds, depths, alpha and metadata come out as they went in."""

import re
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crispen import images, runtimes, zoo
from crispen.errors import ModelError, PictureError, UsageError
from crispen.images import Picture
from crispen.runtimes import Piece, Runtime, TileTooLarge
from crispen.tiling import Box, plan
from crispen.upscaling import Enlargement, Upscaler, default_output, memory
from crispen.upscaling.rows import PictureRows, SourceRows
from crispen.zoo import Model

SCALE = 4
RUNTIMES: list[Literal["openvino", "torch"]] = ["openvino", "torch"]


class Nearest:
    """A runtime that repeats pixels, adds what it is told to, and remembers what it was given."""

    scale = SCALE
    description = "nearest neighbour"

    def __init__(self, *, added: float | NDArray[np.float32] = 0.0) -> None:
        self.added = np.float32(added)
        self.batches: list[NDArray[np.float32]] = []

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        self.batches.append(batch)
        sr = batch.repeat(SCALE, axis=2).repeat(SCALE, axis=3) + self.added
        return sr if core is None else sr[:, :, *core.scaled(SCALE).slices]

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        return (self(piece.window[np.newaxis], core=piece.core)[0] for piece in pieces)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return zoo.find(tiny_model)


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, model: Model) -> Runtime:
    """The tiny model in one of the runtimes, fp32 on the CPU."""
    return runtimes.open_runtime(model, runtime=request.param, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def upscaler(model: Model) -> Upscaler:
    return Upscaler(model, precision="fp32", tile=8)


@pytest.fixture
def computing_with(monkeypatch: pytest.MonkeyPatch, model: Model) -> Callable[..., Upscaler]:
    """What makes an upscaler that computes with a stand-in."""

    def make(stand_in: Runtime, **options: Any) -> Upscaler:
        def open_runtime(_model: Model, **_: object) -> Runtime:
            return stand_in

        monkeypatch.setattr(runtimes, "open_runtime", open_runtime)
        return Upscaler(model, **options)

    return make


def noise(*shape: int, dtype: str = "uint8") -> NDArray[Any]:
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    return values if dtype == "float32" else (values * np.iinfo(dtype).max).astype(dtype)


def at_once(runtime: Runtime, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return (
        runtime(np.ascontiguousarray(picture.transpose(2, 0, 1)[np.newaxis]))[0].transpose(1, 2, 0).clip(0, 1)
    )


def by_tiles(
    runtime: Runtime, picture: NDArray[np.float32], *, tile: int, context: int
) -> NDArray[np.float32]:
    tiles = plan(*picture.shape[:2], tile=tile, context=context)
    large = Enlargement(
        PictureRows(Picture(pixels=picture)), runtime=runtime, tiles=tiles, context=context, whole=True
    ).result
    return large.pixels.astype(np.float32, copy=False)


@settings(max_examples=20)
@example(height=1, width=1, tile=1)
@example(height=1, width=60, tile=1)
@example(height=60, width=1, tile=7)
@example(height=5, width=40, tile=3)
@example(height=27, width=29, tile=1)
@given(height=st.integers(1, 48), width=st.integers(1, 48), tile=st.integers(2, 24))
def test_tiled_equals_whole(runtime: Runtime, model: Model, height: int, width: int, tile: int) -> None:
    picture = noise(height, width, 3, dtype="float32")
    tiled = by_tiles(runtime, picture, tile=tile, context=model.context)
    whole = by_tiles(runtime, picture, tile=60, context=model.context)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    if min(height, width) > 3:  # what is thinner gets its edges repeated
        np.testing.assert_allclose(whole, at_once(runtime, picture), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (2, 2), (3, 3), (2, 9), (4, 4)])
def test_thin_pictures_are_computed_with_their_edges_repeated(
    computing_with: Callable[..., Upscaler], shape: tuple[int, int]
) -> None:
    stand_in, pixels = Nearest(), noise(*shape, 3)
    large = computing_with(stand_in, tile=64)(pixels)
    assert np.array_equal(large, pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1))
    ((_, channels, *given),) = [batch.shape for batch in stand_in.batches]
    assert (channels, given) == (3, [side + 4 if side < 4 else side for side in shape])


@pytest.mark.parametrize("tile", [None, 1])
@pytest.mark.parametrize("name", ["srgan-x4", "srresnet-x4"])
def test_thin_pictures_do_not_become_dark(name: str, tile: int | None) -> None:
    upscaler = Upscaler(zoo.find(name), precision="fp32", tile=tile)
    for shape in ((1, 1), (1, 60), (60, 1), (2, 2), (3, 3)):
        for level in (20, 128, 250):
            large = upscaler(np.full((*shape, 3), level, np.uint8))
            assert abs(large.mean() - level) < 3, shape


def test_with_less_context_seams_would_show(runtime: Runtime, model: Model) -> None:
    picture = noise(40, 40, 3, dtype="float32")
    tiled = by_tiles(runtime, picture, tile=8, context=model.context // 2)
    assert np.abs(tiled - at_once(runtime, picture)).max() > 1e-4


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("tile", [1, 5, None])
def test_upscalers_agree_whatever_computes(
    model: Model, name: Literal["openvino", "torch"], tile: int | None
) -> None:
    picture = noise(28, 5, 3, dtype="float32")
    expected = at_once(runtimes.open_runtime(model, precision="fp32"), picture)
    upscaler = Upscaler(model, runtime=name, device="cpu", precision="fp32", tile=tile)
    np.testing.assert_allclose(upscaler(picture), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4)])
def test_arrays_keep_their_kind(upscaler: Upscaler, shape: tuple[int, ...], dtype: str) -> None:
    array = noise(*shape, dtype="float32").astype(dtype) if "f" in dtype else noise(*shape, dtype=dtype)
    large = upscaler(array)
    assert (large.dtype, large.shape) == (array.dtype, (36, 28, *shape[2:]))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "YCbCr"])
def test_pil_images_keep_their_kind(upscaler: Upscaler, mode: str) -> None:
    large = upscaler(Image.fromarray(noise(9, 7, 3)).convert(mode))
    assert isinstance(large, Image.Image)
    assert (large.mode, large.size) == (mode, (28, 36))


def test_paths_become_paths(upscaler: Upscaler, tmp_path: Path) -> None:
    pixels = noise(9, 7, 3)
    images.write(Picture(pixels=pixels), tmp_path / "small.png")
    written = upscaler(str(tmp_path / "small.png"))
    assert written == tmp_path / "small-x4.png"
    assert np.array_equal(images.read(written).pixels, upscaler(pixels))


def test_the_output_may_be_named(upscaler: Upscaler, tmp_path: Path) -> None:
    images.write(Picture(pixels=noise(9, 7, 3)), tmp_path / "small.png")
    assert upscaler(tmp_path / "small.png", output=tmp_path / "large.tif") == tmp_path / "large.tif"
    assert images.read(tmp_path / "large.tif").width == 28


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_output_may_be_a_folder(upscaler: Upscaler, tmp_path: Path, slash: str) -> None:
    images.write(Picture(pixels=noise(9, 7, 3)), tmp_path / "small.png")
    with pytest.raises(PictureError, match="there is no folder"):
        upscaler(tmp_path / "small.png", output=f"{tmp_path}/new/")
    (tmp_path / "new").mkdir()
    assert (
        upscaler(tmp_path / "small.png", output=f"{tmp_path}/new{slash}") == tmp_path / "new" / "small-x4.png"
    )
    assert images.read(tmp_path / "new" / "small-x4.png").width == 28


def test_nothing_is_overwritten_unasked(upscaler: Upscaler, tmp_path: Path) -> None:
    images.write(Picture(pixels=noise(9, 7, 3)), tmp_path / "small.png")
    target = default_output(tmp_path / "small.png", SCALE)
    target.write_bytes(b"mine")
    with pytest.raises(PictureError, match=r"small-x4\.png exists already"):
        upscaler(tmp_path / "small.png")
    assert target.read_bytes() == b"mine"
    upscaler(tmp_path / "small.png", force=True)
    assert images.read(target).width == 28


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_a_picture_is_never_overwritten_by_its_own_result(
    upscaler: Upscaler, tmp_path: Path, link: str | None
) -> None:
    source = target = tmp_path / "small.png"
    images.write(Picture(pixels=noise(9, 7, 3)), source)
    if link is not None:
        target = tmp_path / "link.png"
        getattr(target, link)(source)
    before = source.read_bytes()
    for force in (False, True):
        with pytest.raises(PictureError, match=rf"small\.png would overwrite the picture .*{target.name}: "):
            upscaler(source, output=target, force=force)
    assert source.read_bytes() == target.read_bytes() == before


def test_a_bad_output_is_refused_before_any_work(
    computing_with: Callable[..., Upscaler], tmp_path: Path
) -> None:
    stand_in = Nearest()
    images.write(Picture(pixels=noise(4, 4, 4)[..., :3], alpha=noise(4, 4)), tmp_path / "small.png")
    for output, error in (
        ("large.txt", UsageError),
        ("large.jpg", PictureError),
        ("no/large.png", PictureError),
    ):
        with pytest.raises(error):
            computing_with(stand_in)(tmp_path / "small.png", output=tmp_path / output)
    assert not stand_in.batches


def test_output_and_force_are_for_paths(upscaler: Upscaler) -> None:
    for option in ({"force": True}, {"output": "large.png"}):
        with pytest.raises(UsageError, match="output and force are for paths"):
            upscaler(noise(4, 4), **option)  # pyright: ignore[reportCallIssue, reportArgumentType]  # that is the point


def test_what_is_no_picture_is_refused(upscaler: Upscaler) -> None:
    with pytest.raises(UsageError, match="must be a path, a PIL image or an array, not a list"):
        upscaler([[0, 1]])  # pyright: ignore[reportCallIssue, reportArgumentType]  # that is the point


@pytest.mark.parametrize("folder", [".", "", "/", "..", "pictures"])
def test_a_folder_is_refused(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        PictureError, match=r"^\S+ is a folder: give its pictures one by one, or all of it to"
    ):
        upscaler(folder)


@pytest.mark.parametrize("path", [b"x.png", 4, ["x.png"], "x\0.png"])
def test_what_is_no_path_is_refused(upscaler: Upscaler, tmp_path: Path, path: Any) -> None:
    images.write(Picture(pixels=noise(9, 7, 3)), tmp_path / "small.png")
    with pytest.raises(UsageError, match=rf"^output must be a path, not {re.escape(repr(path))}$"):
        upscaler(tmp_path / "small.png", output=path)
    with pytest.raises(UsageError, match=r"^a picture must be a path"):
        upscaler(path)


def test_a_name_that_is_too_long_is_refused(upscaler: Upscaler, tmp_path: Path) -> None:
    images.write(Picture(pixels=noise(9, 7, 3)), tmp_path / "small.png")
    with pytest.raises(PictureError, match="cannot be written: File name too long"):
        upscaler(tmp_path / "small.png", output=tmp_path / ("x" * 300 + ".png"))


@pytest.mark.parametrize("strength", ["0.5", None, [1], -1, 2, float("nan")])
def test_what_is_no_strength_is_refused(model: Model, strength: Any) -> None:
    said = f"{strength:g}" if isinstance(strength, int | float) else repr(strength)
    with pytest.raises(UsageError, match=rf"^strength must be from 0 to 1, not {re.escape(said)}$"):
        Upscaler(model, strength=strength)


def test_what_lies_beside_the_pixels_is_kept(upscaler: Upscaler) -> None:
    picture = Picture(
        pixels=noise(4, 5, 3),
        attachments={"exif-data": b"Exif", "icc-profile-data": b"ICC"},
        resolution=(10, 12),
    )
    large = upscaler(picture)
    assert large.attachments == picture.attachments
    assert large.resolution == (40, 48)
    assert upscaler(replace(picture, resolution=None)).resolution is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_alpha_is_interpolated_as_if_at_once(computing_with: Callable[..., Upscaler], dtype: str) -> None:
    alpha = noise(33, 41, dtype=dtype)
    picture = Picture(pixels=noise(33, 41, 3, dtype=dtype), alpha=alpha)
    large = computing_with(Nearest(), tile=6)(picture)
    expected = images.resize(alpha, SCALE).clip(0, 1 if dtype == "float32" else None)
    assert large.alpha is not None
    np.testing.assert_allclose(large.alpha, expected, atol=1e-6)


@pytest.mark.parametrize("opacity", [0, 77, 255])
def test_constant_alpha_stays_constant(upscaler: Upscaler, opacity: int) -> None:
    alpha = np.full((33, 9), opacity, np.uint8)
    large = upscaler(Picture(pixels=noise(33, 9, 3), alpha=alpha))
    assert np.all(large.alpha == opacity)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_values_survive_the_way_to_the_network_and_back(
    computing_with: Callable[..., Upscaler], dtype: str
) -> None:
    levels = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    pictures = {"uint8": levels % 256, "uint16": levels, "float32": levels / np.float32(65535)}
    picture = pictures[dtype].astype(dtype)
    large = computing_with(Nearest())(picture)
    assert np.array_equal(large, picture.repeat(SCALE, axis=0).repeat(SCALE, axis=1))


def test_values_are_rounded_half_up_and_clamped(computing_with: Callable[..., Upscaler]) -> None:
    picture = np.array([[0, 100, 254, 255]], np.uint8)
    for added, expected in (
        (0.49, [0, 100, 254, 255]),
        (0.51, [1, 101, 255, 255]),
        (-1.2, [0, 99, 253, 254]),
    ):
        large = computing_with(Nearest(added=added / 255))(picture)
        assert large[0, ::SCALE].tolist() == expected
    wide = computing_with(Nearest(added=1.0))(np.zeros((2, 2), np.float32))
    assert np.all(wide == 1)


def test_a_network_that_gives_no_numbers_is_refused_and_makes_no_black_picture(
    computing_with: Callable[..., Upscaler],
) -> None:
    for picture in (np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint16)):
        with pytest.raises(ModelError, match="no numbers"):
            computing_with(Nearest(added=np.nan))(picture)


def test_gray_is_three_equal_channels_and_their_mean(computing_with: Callable[..., Upscaler]) -> None:
    stand_in = Nearest(added=np.array([0.0, 0.1, 0.2], np.float32).reshape(3, 1, 1))
    gray = noise(6, 5, dtype="float32") / 2
    large = computing_with(stand_in)(gray)
    (batch,) = stand_in.batches
    assert np.array_equal(batch, np.broadcast_to(gray, (1, 3, 6, 5)))
    np.testing.assert_allclose(large[::SCALE, ::SCALE], gray + 0.1, atol=1e-6)


def test_an_enlargement_tells_how_far_it_is(upscaler: Upscaler) -> None:
    enlargement = upscaler.enlarge(Picture(pixels=noise(40, 40, 3)))
    assert len(enlargement) > 1
    done = list(enlargement)
    assert len(done) == len(enlargement)
    assert sum(step.tile.core.height * step.tile.core.width for step in done) == 40 * 40
    assert not list(enlargement)


def test_an_interrupted_enlargement_goes_on(computing_with: Callable[..., Upscaler]) -> None:
    class Stumbling(Nearest):
        def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
            sr = super().__call__(batch, core=core)
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return sr

    pixels = noise(60, 60, 3)
    enlargement = computing_with(Stumbling(), tile=12).enlarge(Picture(pixels=pixels))
    with pytest.raises(KeyboardInterrupt):
        list(enlargement)
    next(iter(enlargement))
    assert np.array_equal(enlargement.result.pixels, pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1))


class Cramped(Nearest):
    """A runtime on a device that has no room for windows above a size."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.refused = 0

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        waiting: list[Piece] = []  # what is read ahead of the results, as on a GPU
        for piece in pieces:
            waiting.append(piece)
            if len(waiting) == 3:
                yield self._enlarged(waiting.pop(0))
        yield from map(self._enlarged, waiting)

    def _enlarged(self, piece: Piece) -> NDArray[np.float32]:
        _, height, width = piece.window.shape
        if height * width > self.most:
            self.refused += 1
            raise TileTooLarge(height, width)
        return self(piece.window[np.newaxis], core=piece.core)[0]


@pytest.mark.parametrize("shape", [(130, 170, 4), (40, 300, 3), (300, 40, 1)])
def test_where_a_device_runs_out_of_memory_tiles_become_smaller(
    computing_with: Callable[..., Upscaler], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    picture = images.from_array(noise(*shape))
    expected = computing_with(Nearest()).enlarge(picture).result
    cramped = Cramped(3000)
    enlargement = computing_with(cramped, tile=100).enlarge(picture)
    total = len(enlargement)
    assert len(list(enlargement)) == total == len(enlargement)  # whoever shows how far it is need not know
    assert 1 <= cramped.refused <= 3
    assert np.array_equal(enlargement.result.pixels, expected.pixels)
    images.write(picture, tmp_path / "a.png")
    written = images.read(computing_with(Cramped(3000), tile=100)(tmp_path / "a.png"))
    assert np.array_equal(written.pixels, expected.pixels)
    assert (written.alpha is None) == (expected.alpha is None)


def test_memory_that_runs_out_in_the_midst_spoils_nothing(computing_with: Callable[..., Upscaler]) -> None:
    class Shrinking(Cramped):
        def _enlarged(self, piece: Piece) -> NDArray[np.float32]:
            if len(self.batches) == 5:
                self.most = 60 * 60
            return super()._enlarged(piece)

    pixels, shrinking = noise(150, 150, 3), Shrinking(1 << 20)
    large = computing_with(shrinking, tile=50)(pixels)
    assert shrinking.refused >= 1
    assert np.array_equal(large, pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1))


def test_a_device_without_memory_for_anything_is_said(computing_with: Callable[..., Upscaler]) -> None:
    cramped = Cramped(0)
    with pytest.raises(PictureError, match="the GPU has too little memory for"):
        computing_with(cramped, tile=100)(noise(150, 150, 3))
    assert 2 <= cramped.refused <= 4
    assert not cramped.batches


@pytest.mark.parametrize("tile", [7, 16, 100])
@pytest.mark.parametrize(
    ("shape", "dtype", "suffix"),
    [
        ((60, 41, 3), "uint8", ".png"),
        ((33, 20, 4), "uint8", ".png"),
        ((1, 9, 1), "uint8", ".png"),
        ((2, 2, 2), "uint8", ".png"),
        ((60, 41, 3), "uint16", ".png"),
        ((33, 20, 4), "uint16", ".tif"),
        ((60, 41, 3), "float32", ".tif"),
        ((33, 20, 2), "float32", ".tif"),
    ],
)
def test_a_file_is_enlarged_as_a_picture_in_memory(
    model: Model, tmp_path: Path, shape: tuple[int, ...], dtype: str, suffix: str, tile: int
) -> None:
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
    images.write(images.from_array(noise(*shape, dtype=dtype)), small)
    upscaler = Upscaler(model, precision="fp32", tile=tile)
    written = images.read(upscaler(small, output=large))
    expected = upscaler(images.read(small))
    assert written.pixels.dtype == expected.pixels.dtype == dtype
    assert np.array_equal(written.pixels, expected.pixels)
    assert (written.alpha is None) == (expected.alpha is None)
    if written.alpha is not None and expected.alpha is not None:
        assert np.array_equal(written.alpha, expected.alpha)


def test_rows_of_a_file_are_held_only_as_long_as_they_are_needed(tmp_path: Path) -> None:
    pixels = noise(50, 4, 3)
    images.write(Picture(pixels=pixels), tmp_path / "small.png")
    with images.open(tmp_path / "small.png") as source:
        rows = SourceRows(source)
        for top, bottom in ((0, 7), (0, 20), (15, 30), (30, 31), (31, 50)):
            rows.give_up(top)
            assert np.array_equal(rows.cut(Box(top, 0, bottom, 4)).pixels, pixels[top:bottom])
            assert rows.held <= bottom - top


def test_tiles_are_as_large_as_asked(computing_with: Callable[..., Upscaler], model: Model) -> None:
    stand_in = Nearest()
    computing_with(stand_in, tile=9)(noise(70, 50, 3))
    assert {batch.shape for batch in stand_in.batches} == {stand_in.batches[0].shape}
    assert max(stand_in.batches[0].shape[2:]) <= 9 + 2 * model.context


@pytest.mark.parametrize("tile", [0, -1, "9", 1.5])
def test_a_tile_without_a_whole_number_of_pixels_is_refused(model: Model, tile: Any) -> None:
    with pytest.raises(UsageError, match=f"tile must be a whole number of pixels, at least 1, not {tile!r}"):
        Upscaler(model, tile=tile)
    Upscaler(model, tile=np.int64(9))  # pyright: ignore[reportArgumentType]  # what counting in numpy gives


def test_scarce_memory_makes_small_tiles(
    computing_with: Callable[..., Upscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Picture(pixels=noise(1, 3000, 3))

    def tiles_with(free: int | None) -> int:
        def free_memory(_device: str) -> int | None:
            return free

        monkeypatch.setattr(runtimes, "free_memory", free_memory)
        return len(computing_with(Nearest()).enlarge(picture))

    assert tiles_with(400 << 20) > tiles_with(1600 << 20) > tiles_with(40 << 30) > 1
    assert tiles_with(None) >= tiles_with(40 << 30)
    assert tiles_with(1 << 20) <= 3000 / 32 + 1


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_compact_network_takes_less_memory(
    model: Model, runtime: Literal["openvino", "torch"], precision: Literal["bf16", "fp32"], scale: int
) -> None:
    """Than the figure's as a whole, but not nothing: its result is held in fp32 at least once."""
    choice = runtimes.Choice(runtime, "cpu", precision)
    figures, compact = (
        memory.cost_of(choice, replace(model, generator=generator, scale=scale, tail_context=None))
        for generator in (None, "compact")
    )
    assert 3 * scale**2 * 4 < compact.per_pixel < figures.per_pixel
    assert compact.fixed == 0


def test_a_compact_network_takes_more_in_8_bits_than_in_bf16(model: Model) -> None:
    """What is rounded and what is not stand beside each other: 1,468 bytes for each pixel were measured."""
    compact = replace(model, generator="compact", scale=4)
    costs = [memory.cost_of(runtimes.Choice("openvino", "cpu", p), compact) for p in ("bf16", "int8")]
    assert costs[0].per_pixel < 1468 < costs[1].per_pixel


def test_a_result_beyond_the_memory_is_refused(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    def free_memory(_device: str) -> int:
        return 100 << 20

    monkeypatch.setattr(runtimes, "free_memory", free_memory)
    huge = np.broadcast_to(np.uint8(0), (2000, 2000, 3))
    with pytest.raises(
        PictureError, match=r"8000x8000 pixels takes 0\.2 GiB of memory, of which 0\.1 are free"
    ):
        upscaler.enlarge(Picture(pixels=huge))


def test_deep_pictures_are_computed_exactly(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def supports_bf16(_device: str) -> bool:
        return True

    opened: list[str] = []

    def open_runtime(_model: Model, *, precision: str, **_: object) -> Runtime:
        opened.append(precision)
        return Nearest()

    monkeypatch.setattr(runtimes, "supports_bf16", supports_bf16)
    monkeypatch.setattr(runtimes, "open_runtime", open_runtime)
    upscaler = Upscaler(model)
    for dtype in ("uint8", "uint16", "uint8", "float32"):
        upscaler(noise(4, 4, dtype=dtype))
    assert opened == ["bf16", "fp32"]
    Upscaler(model, precision="bf16")(noise(4, 4, dtype="uint16"))
    assert opened[2:] == ["bf16"]


def test_threads_may_share_an_upscaler(model: Model) -> None:
    upscaler, barrier = Upscaler(model, precision="fp32"), threading.Barrier(4)
    pictures = [noise(12 + i, 20 - i, 3) for i in range(4)]

    def enlarge(picture: NDArray[Any]) -> NDArray[Any]:
        barrier.wait()
        return upscaler(picture)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(enlarge, pictures))
    assert all(np.array_equal(large, upscaler(one)) for large, one in zip(together, pictures, strict=True))


def test_an_upscaler_says_what_it_is(upscaler: Upscaler, model: Model) -> None:
    assert upscaler.scale == SCALE
    assert upscaler.model is model
    assert "OpenVINO" in upscaler.description
    assert "fp32" in upscaler.description


def test_the_default_output_stands_beside_the_picture() -> None:
    assert default_output("a/b.c.jpg", 4) == Path("a/b.c-x4.png")
    assert default_output(Path("photo"), 2) == Path("photo-x2.png")
