"""Colours of films: the standards' equations, both ways, and every tag kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clips import TICK, av, clip, decoded
from crispen import films
from crispen.errors import PictureError
from crispen.films import Options
from crispen.films.colour import Colours, LeftSited, from_rgb, interpolated, to_rgb

# kr and kb: BT.601-7 section 2.5.1, BT.709-6 item 3.2, BT.2020-2 table 4.
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
FORMATS = [
    ("yuv420p", 8), ("yuv422p", 8), ("yuv444p", 8), ("yuv420p10le", 10), ("yuv444p10le", 10), ("yuv422p12le", 12),
]  # fmt: skip
COLOURS = [
    (0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.9, 0.6, 0.4), (0.1, 0.3, 0.2),
]  # fmt: skip


def codes(rgb: tuple[float, ...], matrix: int, *, full: bool, depth: int) -> list[float]:
    """Y', Cb and Cr by H.273 equations 38 to 43 (limited) or 44 to 46 (full)."""
    kr, kb = WEIGHTS[matrix]
    red, green, blue = rgb
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = [(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))]
    step = 2 ** (depth - 8)
    if full:
        return [luma * (2**depth - 1), *(part * (2**depth - 1) + 128 * step for part in chroma)]
    return [(219 * luma + 16) * step, *((224 * part + 128) * step for part in chroma)]


def constant(rgb: tuple[float, ...], *, deep: bool, height: int = 16, width: int = 32) -> NDArray[Any]:
    """A picture of one colour."""
    white, kind = (65535, np.uint16) if deep else (255, np.uint8)
    return np.full((height, width, 3), np.round(np.array(rgb) * white), kind)


def coded(numbers: list[float], pixel_format: str) -> Any:
    """A frame of 32x16 of one colour, given as code values."""
    frame = av.VideoFrame(32, 16, pixel_format)
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    for plane, number in zip(frame.planes, numbers, strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, round(number), kind).tobytes())
    return frame


class Enlarging:
    """Repeats pixels ``scale`` times, or enlarges them by bicubic interpolation."""

    def __init__(self, scale: int, *, smooth: bool = False) -> None:
        self.scale = scale
        self.smooth = smooth
        self.pictures: list[NDArray[Any]] = []

    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]:
        self.pictures.append(picture)
        if self.smooth:
            height, width, _ = picture.shape
            return interpolated(picture, width=width * self.scale, height=height * self.scale)
        return picture.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def samples(frame: Any, plane: int) -> NDArray[Any]:
    """A plane of a frame, (height, width)."""
    found = frame.planes[plane]
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return np.frombuffer(found, kind).reshape(found.height, -1)[:, : found.width].astype(int)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize(("pixel_format", "depth"), FORMATS)
def test_the_standards_equations_hold_both_ways(
    pixel_format: str, depth: int, matrix: int, full: bool
) -> None:
    colours = Colours(matrix=matrix, primaries=1, transfer=1, full_range=full)
    for rgb in COLOURS:
        pixels = constant(rgb, deep=depth > 8)
        frame = from_rgb(pixels, colours, pixel_format=pixel_format, depth=depth, tag=LeftSited())
        expected = codes(rgb, matrix, full=full, depth=depth)
        limit = 2**depth - 1
        for plane, code in enumerate(expected):
            assert np.abs(samples(frame, plane) - min(code, limit)).max() <= 1.5
        assert (frame.colorspace, frame.color_range) == (matrix, 2 if full else 1)
        back = to_rgb(frame, colours, width=32, height=16)
        level = (2 ** (8 * pixels.itemsize) - 1) / limit
        # Saturated red and blue lie half a level outside what full-range chroma can code.
        assert np.abs(back.astype(float) - pixels).max() <= (2.2 if full else 2) * level


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("pixel_format", "depth"), FORMATS)
def test_no_colour_is_shifted_on_average(pixel_format: str, depth: int, full: bool) -> None:
    """What is rounded is now too much and now too little. libswscale cuts off: half a level of full-range chroma."""
    colours, tag = Colours(matrix=1, primaries=1, transfer=1, full_range=full), LeftSited()
    errors: list[list[float]] = []
    for values in np.random.default_rng(0).uniform(0.2, 0.8, (100, 3)):
        pixels = constant(tuple(values), deep=depth > 8)
        rgb = pixels[0, 0] / np.iinfo(pixels.dtype).max
        frame = from_rgb(pixels, colours, pixel_format=pixel_format, depth=depth, tag=tag)
        expected = codes(tuple(rgb), 1, full=full, depth=depth)
        errors.append([float(samples(frame, plane).mean()) - expected[plane] for plane in range(3)])
    assert np.abs(np.mean(errors, axis=0)).max() < 0.15


@pytest.mark.parametrize(
    ("colours", "pixel_format"),
    [
        ((1, 1, 1, 1), "yuv420p"),
        ((1, 2, 1, 1), "yuv420p"),
        ((6, 1, 6, 6), "yuv420p"),
        ((5, 1, 5, 6), "yuv422p"),
        ((9, 1, 9, 16), "yuv420p10le"),  # HDR10
        ((9, 1, 9, 18), "yuv420p10le"),  # HLG
        ((9, 2, 9, 14), "yuv444p10le"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_of_one_colour_keeps_it_and_its_tags(
    tmp_path: Path, colours: tuple[int, int, int, int], pixel_format: str, suffix: str
) -> None:
    deep = "10" in pixel_format
    rgb = (0.8, 0.5, 0.2)
    matrix = 6 if colours[0] == 5 else colours[0]
    numbers = codes(rgb, matrix, full=colours[1] == 2, depth=10 if deep else 8)
    frames = [coded(numbers, pixel_format) for _ in range(3)]
    source = clip(tmp_path / f"a{suffix}", frames, pixel_format=pixel_format, colours=colours)
    output, upscaler = tmp_path / f"b{suffix}", Enlarging(2)
    films.enlarge(source, upscaler, output, Options(crf=1)).result.stat()
    seen = upscaler.pictures[0]
    assert seen.dtype == (np.uint16 if deep else np.uint8)
    assert np.abs(seen / np.iinfo(seen.dtype).max - rgb).max() < 2 / (1023 if deep else 255)
    before, after = decoded(source)[0], decoded(output)[0]
    assert after.format.name.replace("yuvj", "yuv") == pixel_format
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        assert getattr(after, name) == getattr(before, name), name
    for plane in range(3):
        assert np.abs(samples(after, plane) - samples(before, plane)[0, 0]).max() <= 2
    with av.open(str(output)) as film:
        context = film.streams.video[0].codec_context
        assert (context.color_range, context.color_primaries) == (colours[1], colours[2])


def test_what_a_film_leaves_unsaid_is_stated_in_the_result(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mkv", codec="mpeg4", colours=(2, 0, 2, 2))
    colours = films.probe(source).colours
    assert (colours.matrix, colours.primaries, colours.transfer, colours.full_range) == (6, 6, 6, False)
    options = Options(end=0.1, preset="ultrafast")
    films.enlarge(source, Enlarging(24), tmp_path / "b.mp4", options).result.stat()
    frame = decoded(tmp_path / "b.mp4")[0]
    assert frame.height == 768
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (6, 6, 6, 1)


def test_what_an_hdr_film_says_of_its_display_is_kept(tmp_path: Path) -> None:
    said = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    source = clip(
        tmp_path / "a.mp4",
        [constant((0.5, 0.4, 0.3), deep=True, height=64, width=64)] * 5,
        codec="libx265",
        pixel_format="yuv420p10le",
        colours=(9, 1, 9, 16),
        options={"x265-params": f"log-level=error:{said}"},
    )
    mastering = films.probe(source).mastering
    assert mastering.light == (1000, 400)
    assert mastering.luminance == pytest.approx((0.005, 1000))
    assert mastering.primaries == pytest.approx((0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329))
    codecs: tuple[films.Codec, ...] = ("hevc", "av1")
    for codec in codecs:
        output = tmp_path / f"{codec}.mp4"
        films.enlarge(source, Enlarging(2), output, Options(codec=codec)).result.stat()
        kept = films.probe(output).mastering
        assert kept.light == mastering.light
        assert kept.luminance == pytest.approx(mastering.luminance, rel=1e-2)
        assert kept.primaries == pytest.approx(mastering.primaries, abs=1e-4)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_chroma_does_not_move_against_luma(tmp_path: Path, pixel_format: str) -> None:
    """An edge stays where it is in each plane, to a twelfth of a pixel of the film."""
    columns = np.arange(48)[np.newaxis, :, np.newaxis] >= 24
    red, gray = np.array([200, 100, 100]), np.array([60, 60, 60])
    frame = np.broadcast_to(np.where(columns, red, gray), (32, 48, 3)).astype(np.uint8)
    source = clip(tmp_path / "a.mp4", [frame] * 2, pixel_format=pixel_format)
    films.enlarge(source, Enlarging(4, smooth=True), tmp_path / "b.mp4", Options(crf=1)).result.stat()
    small, large = decoded(source)[0], decoded(tmp_path / "b.mp4")[0]
    for plane in range(3):
        before, after = (edge(samples(frame, plane)[8]) for frame in (small, large))
        if plane:  # in pixels of luma, where the n-th sample of chroma lies at the centre of the 2n-th pixel
            before, after = 2 * before - 0.5, 2 * after - 0.5
        assert after / 4 == pytest.approx(before, abs=0.08)


def edge(row: NDArray[Any]) -> float:
    """Where a row crosses the mean of its ends, in samples from its border; the first's centre is at 0.5."""
    middle = (row[2] + row[-3]) / 2
    above = (row - middle) * np.sign(row[-3] - middle)
    place = int(np.argmax(above > 0))
    return float(place + 0.5 - above[place] / (above[place] - above[place - 1]))


def test_other_matrices_are_refused(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", options={"colorspace": "ycgco"}, colours=(8, 1, 1, 1))
    with pytest.raises(PictureError, match=r"colour matrix, 8 of ITU-T H\.273"):
        films.probe(source)


def test_deep_films_without_subsampling_and_with_unusual_times(tmp_path: Path) -> None:
    ramp = np.linspace(2000, 60000, 32 * 48 * 3).reshape(32, 48, 3).astype(np.uint16)
    source = clip(tmp_path / "a.mkv", [ramp] * 2, codec="ffv1", pixel_format="yuv444p12le", times=[0, 7])
    films.enlarge(source, Enlarging(1), tmp_path / "b.mkv", Options(codec="ffv1")).result.stat()
    before, after = decoded(source), decoded(tmp_path / "b.mkv")
    assert after[0].format.name == "yuv444p12le"
    for plane in range(3):
        assert np.abs(samples(before[0], plane) - samples(after[0], plane)).max() <= 1
    assert [frame.pts * frame.time_base for frame in after] == pytest.approx([0, 7 * TICK], abs=0.001)
