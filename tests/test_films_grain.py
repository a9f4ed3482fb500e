"""A film's grain: fresh in each frame, of a steady level, in the film's own luma, and the same after a kill."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clips import clip, decoded, planes
from crispen import films, runtimes, zoo
from crispen.films import Options
from crispen.films.options import choose
from crispen.runtimes import Piece
from crispen.tiling import Box
from crispen.upscaling import Upscaler


class Smoothing:
    """A runtime that leaves nothing of the noise: each pixel becomes the mean of its channel."""

    scale = 4
    description = "smoothing"

    def __init__(self) -> None:
        self.frames = 0

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        return np.stack([self._enlarged(one, core or Box(0, 0, *one.shape[1:])) for one in batch])

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        return (self._enlarged(*piece) for piece in pieces)

    def _enlarged(self, window: NDArray[np.float32], core: Box) -> NDArray[np.float32]:
        self.frames += window.shape[1:] == (64, 96)
        mean = window.mean(axis=(1, 2), keepdims=True)
        return np.broadcast_to(mean, (3, 4 * core.height, 4 * core.width)).copy()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Smoothing:
    smoothing = Smoothing()

    def open_runtime(_model: object, **_: object) -> Smoothing:
        return smoothing

    monkeypatch.setattr(runtimes, "open_runtime", open_runtime)
    return smoothing


@pytest.fixture
def upscaler(runtime: Smoothing, tiny_model: Path) -> Upscaler:
    return Upscaler(zoo.find(tiny_model), grain=True)


LOSSLESS = Options(codec="ffv1", segment_frames=4)


def noisy(path: Path, sigmas: Iterable[float], *, deep: bool = False, **options: Any) -> Path:
    """A film of gray with noise of so many levels of 255 in its frames, which differ."""
    random = np.random.default_rng(0)
    frames = [
        np.repeat(128 + random.normal(0, sigma, (64, 96, 1)), 3, axis=2).round().astype(np.uint8)
        for sigma in sigmas
    ]
    if deep:
        frames = [frame.astype(np.uint16) * 257 for frame in frames]
    asked: dict[str, Any] = {"codec": "ffv1", "pixel_format": "yuv444p10le" if deep else "yuv444p"}
    return clip(path, frames, **(asked | options))


def luma(path: Path) -> list[NDArray[np.float64]]:
    """Y' of all frames in codes of 8 bits."""
    step = 2 ** (decoded(path)[0].format.components[0].bits - 8)
    kind = np.uint8 if step == 1 else np.uint16
    return [
        np.frombuffer(frame.planes[0], kind).reshape(frame.height, -1)[:, : frame.width] / step
        for frame in decoded(path)
    ]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_each_frame_has_fresh_grain_as_strong_as_the_films(
    upscaler: Upscaler, tmp_path: Path, deep: bool, full: bool
) -> None:
    colours = (9, 2 if full else 1, 9, 16) if deep else (1, 2 if full else 1, 1, 1)
    source = noisy(tmp_path / "a.mkv", [5] * 6, deep=deep, colours=colours)
    films.enlarge(source, upscaler, tmp_path / "b.mkv", LOSSLESS).result.stat()
    before, after = luma(source), luma(tmp_path / "b.mkv")
    strength = np.mean([frame.std() for frame in before])
    for one, other in pairwise(after):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1
        assert other.std() == pytest.approx(strength, rel=0.15)
        assert other.std() == pytest.approx(one.std(), rel=0.05)
    for frame in decoded(tmp_path / "b.mkv"):  # it is of luma alone, whatever the film's matrix
        for plane in (1, 2):
            codes = np.frombuffer(frame.planes[plane], np.uint16 if deep else np.uint8)
            assert np.ptp(codes[codes > 0]) <= 2


def test_a_kill_does_not_change_it(upscaler: Upscaler, tmp_path: Path) -> None:
    source = noisy(tmp_path / "a.mkv", [4, 5, 5, 4, 5, 6, 5, 5, 12, 12, 12])
    films.enlarge(source, upscaler, tmp_path / "whole.mkv", LOSSLESS).result.stat()
    steps = iter(films.enlarge(source, upscaler, tmp_path / "b.mkv", LOSSLESS))
    for step in steps:
        if step.frames == 10:
            break
    steps.close()  # type: ignore[attr-defined]
    again = list(films.enlarge(source, upscaler, tmp_path / "b.mkv", LOSSLESS))
    assert sum(step.reused for step in again) == 8
    assert planes(tmp_path / "b.mkv") == planes(tmp_path / "whole.mkv")


def test_a_clean_film_gets_none(upscaler: Upscaler, tmp_path: Path) -> None:
    source = noisy(tmp_path / "a.mkv", [0] * 3)
    films.enlarge(source, upscaler, tmp_path / "b.mkv", LOSSLESS).result.stat()
    assert all(frame.std() == 0 for frame in luma(tmp_path / "b.mkv"))


def test_a_scene_without_grain_gets_none(upscaler: Upscaler, tmp_path: Path) -> None:
    source = noisy(tmp_path / "a.mkv", [6] * 5 + [0] * 5)
    films.enlarge(source, upscaler, tmp_path / "b.mkv", LOSSLESS).result.stat()
    strengths = [frame.std() for frame in luma(tmp_path / "b.mkv")]
    assert min(strengths[:5]) > 4
    assert max(strengths[6:]) == 0


def test_a_frame_that_stays_is_computed_once_and_its_grain_moves(
    upscaler: Upscaler, runtime: Smoothing, tmp_path: Path
) -> None:
    still = np.repeat(128 + np.random.default_rng(0).normal(0, 5, (64, 96, 1)), 3, axis=2).astype(np.uint8)
    source = clip(tmp_path / "a.mkv", [still] * 5, codec="ffv1", pixel_format="bgr0")
    films.enlarge(source, upscaler, tmp_path / "b.mkv", LOSSLESS).result.stat()
    assert runtime.frames == 1
    assert len({bytes(frame.planes[0]) for frame in decoded(tmp_path / "b.mkv")}) == 5


@pytest.mark.parametrize("size", [(190, 126), (384, 256), (700, 480), (60, 40)])
def test_grain_belongs_to_the_size_that_is_written(
    upscaler: Upscaler, tmp_path: Path, size: tuple[int, int]
) -> None:
    source = noisy(tmp_path / "a.mkv", [5, 5])
    films.enlarge(source, upscaler, tmp_path / "b.mkv", Options(codec="ffv1", size=size)).result.stat()
    strength = np.mean([frame.std() for frame in luma(source)])
    for frame in luma(tmp_path / "b.mkv"):
        assert frame.shape == size[::-1]
        if size > (
            96,
            64,
        ):  # smaller ones are not enlarged: they are what a filter makes of the film's own grain
            assert frame.std() == pytest.approx(strength, rel=0.15)


def test_the_left_side_stays_as_it_is(upscaler: Upscaler, tmp_path: Path) -> None:
    source = noisy(tmp_path / "a.mkv", [5, 5])
    for name, grain in (("a", False), ("b", True)):
        upscaler.grain = grain
        options = Options(codec="ffv1", side_by_side=True)
        films.enlarge(source, upscaler, tmp_path / f"{name}-2.mkv", options).result.stat()
    plain, grained = (luma(tmp_path / f"{name}-2.mkv") for name in "ab")
    for one, other in zip(plain, grained, strict=True):
        assert np.array_equal(one[:, :384], other[:, :384])
        assert one[:, 384:].std() == 0 < other[:, 384:].std()


def test_a_preview_has_grain(upscaler: Upscaler, tmp_path: Path) -> None:
    source = noisy(tmp_path / "a.mkv", [5, 5])
    strength = np.mean([frame.std() for frame in luma(source)]) * 255 / 219
    assert films.preview(source, upscaler, seconds=0)[..., 1].std() == pytest.approx(strength, rel=0.15)


def test_an_encoder_leaves_grain_that_was_asked_for(upscaler: Upscaler, tmp_path: Path) -> None:
    source = noisy(tmp_path / "a.mkv", [6] * 8)
    for name, options in (("exact", LOSSLESS), ("left", Options(codec="hevc"))):
        films.enlarge(source, upscaler, tmp_path / f"{name}.mkv", options).result.stat()
    exact, left = (
        np.mean([frame.std() for frame in luma(tmp_path / f"{name}.mkv")]) for name in ("exact", "left")
    )
    assert left > 0.9 * exact


@pytest.mark.parametrize(("codec", "keeps"), [("h264", True), ("hevc", True), ("vp9", False), ("av1", False)])
def test_encoders_are_told_to_leave_grain_and_where_they_cannot_the_user_is(
    upscaler: Upscaler, tmp_path: Path, codec: films.Codec, keeps: bool
) -> None:
    source = noisy(tmp_path / "a.mkv", [6, 6])
    output, options = tmp_path / "b.mkv", Options(codec=codec)
    told = {
        kept: ("tune", "grain")
        in choose(options, output, depth=8, chroma="420", even=True, grain=kept).options
        for kept in (True, False)
    }
    assert told == {True: keeps, False: False}
    notes = films.enlarge(source, upscaler, output, options).notes
    assert any("loses much of its grain" in note for note in notes) != keeps
    upscaler.grain = False
    assert not any("grain" in note for note in films.enlarge(source, upscaler, output, options).notes)
