"""What is enlarged has the grain that it had: as strong, the same however it is cut, and none where there was none."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from crispen import images, runtimes, zoo
from crispen.errors import UsageError
from crispen.images import DTYPE_OF, WHITE_OF, Animation, Picture, Pixels
from crispen.runtimes import Piece
from crispen.tiling import Box
from crispen.upscaling import Upscaler
from crispen.upscaling.files import Wishes, enlarge_file
from crispen.upscaling.grain import NO_GRAIN, Grain, Noise, SteadyGrain, grained, missing_grain
from crispen.upscaling.sizes import Size
from crispen.upscaling.survey import survey


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(zoo.find("srresnet-x4"), precision="fp32", grain=True)


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Upscaler:
    return Upscaler(zoo.find(tiny_model), precision="fp32", tile=20, grain=True)


def shading(height: int, width: int) -> NDArray[np.float64]:
    """(H, W, 3): what a wall or a sky may look like, in [0, 1]."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    light = 0.3 + 0.3 * x + 0.15 * np.sin(2 * y)
    return np.stack([light, 0.9 * light + 0.05, 0.8 * light + 0.12], axis=2)


def photo(
    *, sigma: float, height: int = 64, width: int = 96, bit_depth: int = 8, gray: bool = False
) -> Picture:
    """Shading with white noise, of ``sigma`` levels of 255, in luma."""
    noise = np.random.default_rng(7).normal(0, sigma / 255, (height, width, 1))
    values = (shading(height, width) + noise).clip(0, 1)[..., : 1 if gray else 3]
    if bit_depth < 32:
        values = np.rint(values * WHITE_OF[bit_depth])
    return images.from_array(values.astype(DTYPE_OF[bit_depth]))


def level(*strips: Picture) -> float:
    noise = Noise()
    for strip in strips:
        noise.look(strip)
    return 255 * noise.level


@pytest.mark.parametrize("bit_depth", [8, 16, 32])
@pytest.mark.parametrize("sigma", [1, 2, 5, 10])
def test_noise_is_measured(sigma: float, bit_depth: int) -> None:
    assert level(photo(sigma=sigma, height=256, width=256, bit_depth=bit_depth)) == pytest.approx(
        sigma, rel=0.1
    )


def test_edges_and_texture_beside_flat_places_are_not_taken_for_noise() -> None:
    pixels = photo(sigma=3, height=256, width=256).pixels.copy()
    pixels[:192] = np.random.default_rng(0).integers(0, 256, (192, 256, 3))
    assert level(images.from_array(pixels)) == pytest.approx(3, rel=0.15)


def test_strips_are_measured_as_the_picture() -> None:
    whole = photo(sigma=4, height=256, width=128)
    strips = [images.from_array(whole.pixels[top : top + 64]) for top in range(0, 256, 64)]
    assert level(*strips) == level(whole)


def test_what_cannot_be_seen_is_not_measured() -> None:
    picture = photo(sigma=4, height=128, width=128)
    alpha = np.zeros((128, 128), np.uint8)
    assert level(Picture(pixels=picture.pixels, alpha=alpha)) == 0
    alpha[:64] = 255
    assert level(Picture(pixels=picture.pixels, alpha=alpha)) == level(images.from_array(picture.pixels[:64]))


@pytest.mark.parametrize("sigma", [1.5, 3, 6, 12])
def test_the_result_is_as_noisy_as_the_picture(upscaler: Upscaler, sigma: float) -> None:
    small = photo(sigma=sigma)
    assert level(upscaler(small)) == pytest.approx(level(small), rel=0.15)


def test_noise_of_colours_counts_as_much_as_it_is_seen(upscaler: Upscaler) -> None:
    noise = np.random.default_rng(0).normal(0, 8, (64, 96, 3))
    small = images.from_array(np.rint(255 * shading(64, 96) + noise).clip(0, 255).astype(np.uint8))
    assert level(upscaler(small)) == pytest.approx(level(small), rel=0.15)


@pytest.mark.parametrize("bit_depth", [16, 32])
def test_at_any_depth(upscaler: Upscaler, bit_depth: int) -> None:
    small = photo(sigma=4, bit_depth=bit_depth)
    assert level(upscaler(small)) == pytest.approx(level(small), rel=0.15)


def test_the_mean_stays(upscaler: Upscaler) -> None:
    small = photo(sigma=10)
    plain = upscaler.enlarge(small, grain=NO_GRAIN).result.pixels
    assert np.abs((upscaler(small).pixels - plain.astype(float)).mean(axis=(0, 1))).max() < 0.1


@pytest.mark.parametrize("value", [0.0, 0.01, 0.5, 0.98, 1.0])
def test_nothing_is_cut_off_in_black_and_white(value: float) -> None:
    channels = np.full((3, 1024, 1024), value, np.float32)
    Grain(0.05).add_to(channels, Box(0, 0, 1024, 1024))
    assert 0 <= channels.min() <= channels.max() <= 1
    assert channels.mean() == pytest.approx(value, abs=2e-4)
    assert (channels.std() > 0) == (0 < value < 1)


def test_gray_stays_gray(upscaler: Upscaler) -> None:
    small = photo(sigma=5, gray=True)
    assert upscaler(small).pixels.shape == (256, 384, 1)
    added = np.full((3, 8, 8), 0.5, np.float32)
    Grain(0.05).add_to(added, Box(0, 0, 8, 8))
    assert np.array_equal(added[0], added[1])
    assert np.array_equal(added[0], added[2])


@pytest.mark.parametrize("sigma", [0, 0.2])
def test_a_clean_picture_gets_none(tiny: Upscaler, sigma: float) -> None:
    small = photo(sigma=sigma)
    assert np.array_equal(tiny(small).pixels, tiny.enlarge(small, grain=NO_GRAIN).result.pixels)


@pytest.mark.parametrize("shape", [(1, 1), (15, 40), (17, 16)])
def test_small_and_drawn_pictures_get_none(tiny: Upscaler, shape: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[:, ::2] = (255, 40, 90)
    assert np.array_equal(tiny(pixels), tiny.enlarge(images.from_array(pixels), grain=NO_GRAIN).result.pixels)


def test_without_grain_nothing_changes(tiny: Upscaler, tiny_model: Path) -> None:
    small = photo(sigma=8)
    plain = Upscaler(zoo.find(tiny_model), precision="fp32", tile=20)(small)
    assert np.array_equal(plain.pixels, tiny.enlarge(small, grain=NO_GRAIN).result.pixels)
    assert not np.array_equal(plain.pixels, tiny(small).pixels)


@pytest.mark.parametrize("box", [Box(0, 0, 5, 7), Box(1000, 3, 1100, 60), Box(2040, 1020, 2060, 3000)])
def test_grain_depends_on_the_place_alone(box: Box) -> None:
    whole = np.full((1, 2100, 3000), 0.4, np.float32)
    tile = whole[:, *box.slices].copy()
    Grain(0.02, coarseness=1.3).add_to(whole, Box(0, 0, 2100, 3000))
    Grain(0.02, coarseness=1.3).add_to(tile, box)
    assert np.array_equal(tile, whole[:, *box.slices])


def test_tiles_and_interruptions_do_not_show(tiny_model: Path) -> None:
    small, grain = photo(sigma=5), Grain(0.02)

    def pixels(tile: int) -> NDArray[np.int_]:
        upscaler = Upscaler(zoo.find(tiny_model), precision="fp32", tile=tile)
        enlargement = upscaler.enlarge(small, grain=grain)
        next(iter(enlargement))  # and given up
        return enlargement.result.pixels.astype(int)

    assert np.abs(pixels(9) - pixels(200)).max() <= 1  # where rounding was close


def test_a_file_gets_the_grain_of_a_picture_in_memory(tiny: Upscaler, tmp_path: Path) -> None:
    small = photo(sigma=6, height=300, width=20)  # more than is looked at in one go
    images.write(small, tmp_path / "a.png")
    written = images.read(tiny(tmp_path / "a.png"))
    assert np.array_equal(written.pixels, tiny(small).pixels)


class Smoothing:
    """A runtime that leaves nothing of the noise."""

    scale = 4
    description = "smoothing"

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        return np.stack([self._enlarged(one, core or Box(0, 0, *one.shape[1:])) for one in batch])

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        return (self._enlarged(*piece) for piece in pieces)

    def _enlarged(self, window: NDArray[np.float32], core: Box) -> NDArray[np.float32]:
        smooth = images.resize(images.resize(window.transpose(1, 2, 0), 1 / 8), 32)
        return smooth[core.scaled(4).slices].transpose(2, 0, 1).copy()


@pytest.mark.parametrize("scale", [1.5, 3.0, 4.0, 6.0, 16.0])
def test_any_size_has_the_grain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, scale: float
) -> None:
    def open_runtime(_model: object, **_: object) -> Smoothing:
        return Smoothing()

    monkeypatch.setattr(runtimes, "open_runtime", open_runtime)
    upscaler = Upscaler(zoo.find(tiny_model), grain=True, tile=1000)
    small = photo(sigma=5, height=64, width=64)
    images.write(small, tmp_path / "a.png")
    enlarge_file(tmp_path / "a.png", tmp_path / "b.png", upscaler, wishes=Wishes(size=Size(scale=scale)))
    written = images.read(tmp_path / "b.png")
    assert level(written) == pytest.approx(level(small), rel=0.15)
    assert np.array_equal(written.pixels, upscaler(small, size=Size(scale=scale)).pixels)


@pytest.mark.parametrize("size", [Size(scale=4), Size(scale=2.7), Size(scale=5), Size(width=37, height=90)])
def test_a_texture_has_the_same_grain_as_a_file_and_in_memory(
    tiny_model: Path, tmp_path: Path, size: Size
) -> None:
    upscaler = Upscaler(zoo.find(tiny_model), precision="fp32", tile=20, grain=True, wrap=True)
    small = photo(sigma=8, height=48, width=64)
    images.write(small, tmp_path / "a.png")
    enlarge_file(tmp_path / "a.png", tmp_path / "b.png", upscaler, wishes=Wishes(size=size))
    written = images.read(tmp_path / "b.png").pixels.astype(int)
    assert np.abs(written - upscaler(small, size=size).pixels).max() <= 1


@pytest.mark.parametrize("size", [Size(width=300, height=1), Size(width=1, height=150)])
def test_a_side_of_a_single_pixel_is_no_error(tiny: Upscaler, tmp_path: Path, size: Size) -> None:
    small = photo(sigma=8, height=40, width=256)
    images.write(small, tmp_path / "a.png")
    upscaler = Upscaler(tiny.model, grain=True)
    enlarge_file(tmp_path / "a.png", tmp_path / "b.png", upscaler, wishes=Wishes(size=size))
    written = images.read(tmp_path / "b.png").pixels
    assert written.shape == (size.height, size.width, 3)
    assert np.array_equal(written, upscaler(small, size=size).pixels)


def test_grain_for_what_is_reduced_to_next_to_nothing() -> None:
    channels = np.full((1, 64, 64), 0.4, np.float32)
    Grain(0.02, coarseness=1e4).add_to(channels, Box(0, 0, 64, 64))
    assert 0 < channels.std() < 1


def test_beyond_a_texture_its_grain_repeats() -> None:
    texture = Box(3, 5, 23, 35)
    channels = np.full((1, 26, 40), 0.4, np.float32)
    Grain(0.02, texture=texture).add_to(channels, Box(0, 0, 26, 40))
    alone = np.full((1, 20, 30), 0.4, np.float32)
    Grain(0.02).add_to(alone, Box(0, 0, 20, 30))
    assert np.array_equal(channels, np.tile(alone, (1, 3, 3))[:, 17:43, 25:65])


def test_each_page_has_its_own(tiny: Upscaler, tmp_path: Path) -> None:
    pages = [photo(sigma=0), photo(sigma=8)]
    images.write_pages([page.header for page in pages], pages, tmp_path / "a.tif")
    enlarge_file(tmp_path / "a.tif", tmp_path / "b.tif", tiny)
    for number, page in enumerate(pages):
        assert np.array_equal(images.read(tmp_path / "b.tif", page=number).pixels, tiny(page).pixels)


def test_what_the_network_keeps_is_not_added_again() -> None:
    small = photo(sigma=5, height=96, width=96)
    noise = survey([small], noise=True).noise
    assert noise is not None
    assert missing_grain(noise, lambda sample: sample).level < 0.35 * noise.level
    flat = missing_grain(noise, lambda sample: images.from_array(np.full_like(sample.pixels, 99)))
    assert flat.level == pytest.approx(noise.level)


def test_it_cannot_be_had_with_consistent(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="grain cannot be had with consistent"):
        Upscaler(zoo.find(tiny_model), grain=True, consistent=True)


# --- of pictures that follow each other


PLACE = Box(0, 0, 64, 64)


def field(frame: int, box: Box = PLACE) -> NDArray[np.float32]:
    """Grain alone."""
    channels = np.full((1, box.height, box.width), 0.5, np.float32)
    Grain(0.02, frame=frame).add_to(channels, box)
    return channels[0] - 0.5


def test_each_frame_has_grain_of_its_own_and_the_same_again() -> None:
    one, other = field(7), field(8)
    assert np.array_equal(one, field(7))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1
    assert one.std() == pytest.approx(other.std(), rel=0.1)
    assert np.array_equal(field(7, Box(10, 20, 64, 64)), one[10:, 20:])


def levels(measured: Iterable[float], steady: SteadyGrain) -> NDArray[np.float64]:
    return np.array([steady.follow(Grain(level), frame=n).level for n, level in enumerate(measured)])


def test_the_level_does_not_flicker() -> None:
    measured = 0.02 * (1 + 0.1 * np.random.default_rng(0).standard_normal(200))
    followed = levels(measured, SteadyGrain())
    assert followed[24:].mean() == pytest.approx(0.02, rel=0.03)
    steps, measured_steps = (np.abs(np.diff(one)) / 0.02 for one in (followed, measured))
    assert steps[24:].max() < 0.015
    assert steps[1:].max() < measured_steps.max() / 2


def test_a_scene_has_a_level_of_its_own_from_its_second_frame() -> None:
    followed = levels([0.02] * 30 + [0.0] * 30 + [0.03] * 30, SteadyGrain())
    np.testing.assert_allclose(followed, [0.02] * 31 + [0.0] * 30 + [0.03] * 29, atol=1e-9)


def test_a_flash_does_not_count() -> None:
    followed = levels([0.02] * 10 + [0.2] + [0.02] * 10 + [0.0] + [0.02] * 10, SteadyGrain())
    np.testing.assert_allclose(followed, 0.02)


def test_a_level_that_drifts_is_followed() -> None:
    followed = levels(np.linspace(0.01, 0.04, 300), SteadyGrain())
    assert followed[-1] == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize("cut", [1, 5, 31])
def test_the_level_can_be_gone_on_with(cut: int) -> None:
    measured = [*(0.02 + 0.002 * np.random.default_rng(0).standard_normal(30)), 0.001, 0.001, 0.001]
    whole = levels(measured, SteadyGrain())
    first = SteadyGrain()
    levels(measured[:cut], first)
    assert np.array_equal(levels(measured[cut:], SteadyGrain(list(first.state))), whole[cut:])


@pytest.mark.parametrize("bit_depth", [8, 16, 32])
def test_grain_is_added_to_pixels_of_any_depth(bit_depth: int) -> None:
    flat = cast(Pixels, np.full((600, 40, 3), 0.5 * WHITE_OF[bit_depth], DTYPE_OF[bit_depth]))
    noisy = grained(flat, Grain(0.02, frame=3))
    assert (noisy.dtype, noisy.shape) == (flat.dtype, flat.shape)
    assert np.std(noisy[..., 0] / WHITE_OF[bit_depth]) == pytest.approx(0.02, rel=0.15)
    assert np.array_equal(noisy[..., 0], noisy[..., 2])
    assert len(set(map(bytes, noisy))) == 600  # no two rows are alike, where pieces meet neither
    assert np.array_equal(grained(flat, NO_GRAIN), flat)


def test_an_animation_has_fresh_grain_of_a_steady_level(tiny: Upscaler, tmp_path: Path) -> None:
    frames = [photo(sigma=sigma) for sigma in (6, 6.5, 6, 6.5, 6)]
    animation = Animation(delays=(40,) * len(frames))
    encoding = images.Encoding(lossless=True)
    headers = [frame.header for frame in frames]
    images.write_pages(headers, frames, tmp_path / "a.webp", animation=animation, encoding=encoding)
    enlarge_file(tmp_path / "a.webp", tmp_path / "b.webp", tiny, wishes=Wishes(encoding=encoding))
    plain = [tiny.enlarge(frame, grain=NO_GRAIN).result.pixels.astype(float) for frame in frames]
    added = [
        (images.read(tmp_path / "b.webp", page=number).pixels - clean)[..., 0]
        for number, clean in enumerate(plain)
    ]
    for number in range(1, len(added)):
        alike = np.corrcoef(added[0].ravel(), added[number].ravel())[0, 1]
        assert abs(alike) < 0.3  # as equal pictures are rounded alike
    strengths = [one.std() for one in added]
    assert 0 < max(strengths) < 1.15 * min(strengths)
