"""Contact sheets: which crops they show, and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from crispen import images
from crispen.cli import app
from crispen.errors import PictureError, UsageError
from crispen.evaluation import Method, Sheet, bicubic, open_benchmark
from crispen.evaluation.sheet import GAP, LINE, MIDDLE, find_places

Bytes = NDArray[np.uint8]
SIDE = 16


def flat(height: int, width: int) -> Bytes:
    return np.full((height, width, 3), 100, np.uint8)


def picture(seed: int, height: int, width: int) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def nearest(name: str = "nearest", scale: int = 4) -> Method:
    def enlarge(lr: Bytes) -> Bytes:
        return lr.repeat(scale, axis=0).repeat(scale, axis=1)

    return Method(name=name, scale=scale, enlarge=enlarge, runtime="numpy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, one smaller than a large crop and one gray."""
    (tmp_path / "set").mkdir()
    shapes = {"a": (48, 40), "b": (36, 60), "c": (24, 20), "d": (33, 47), "e": (40, 40)}
    for seed, (name, shape) in enumerate(shapes.items()):
        pixels = picture(seed, *shape)
        images.write(
            images.from_array(pixels if name != "d" else pixels[:, :, :1]), tmp_path / f"set/{name}.png"
        )
    return tmp_path / "set"


def cell(sheet: Bytes, row: int, column: int, *, group: int = 0, columns: int) -> Bytes:
    """A crop of a sheet, by its place."""
    top = 3 * LINE + row * (LINE + SIDE)
    width = columns * (SIDE + GAP) - GAP
    left = GAP + group * (width + MIDDLE) + column * (SIDE + GAP)
    return sheet[top : top + SIDE, left : left + SIDE]


# --- the places


@settings(max_examples=40)
@given(row=st.integers(0, 8), column=st.integers(0, 11), seed=st.integers(0, 99))
def test_detail_and_errors_are_found(row: int, column: int, seed: int) -> None:
    """Where there is but one patch of each, the crops hold it."""
    hr, top, left = flat(48, 60), 4 * row, 4 * column
    hr[top : top + SIDE, left : left + SIDE] = picture(seed, SIDE, SIDE)[: 48 - top, : 60 - left]
    assert find_places(hr, hr, side=SIDE, scale=4)[0] == (min(top, 32), min(left, 44))
    sr = flat(48, 60)
    sr[40, 50] = 200
    other = find_places(flat(48, 60), sr, side=SIDE, scale=4)[1]
    assert 0 <= 40 - other[0] < SIDE
    assert 0 <= 50 - other[1] < SIDE


@settings(max_examples=40)
@given(seed=st.integers(0, 999), height=st.integers(16, 70), width=st.integers(16, 70))
def test_places_are_inside_on_the_grid_and_apart(seed: int, height: int, width: int) -> None:
    height, width = height - height % 4, width - width % 4
    hr = picture(seed, height, width)
    places = find_places(hr, picture(seed + 1, height, width), side=SIDE, scale=4)
    for top, left in places:
        assert (top % 4, left % 4) == (0, 0)
        assert 0 <= top <= height - SIDE
        assert 0 <= left <= width - SIDE
    if max(height, width) >= 2 * SIDE:
        assert max(abs(a - b) for a, b in zip(*places, strict=True)) >= SIDE / 2


def test_a_meadow_outweighs_an_edge() -> None:
    hr = flat(32, 64)
    hr[:, 8:] = 200  # a hard edge
    hr[8:24, 40:56] = 150 + picture(0, 16, 16) // 4
    assert find_places(hr, hr, side=SIDE, scale=4)[0] == (8, 40)


def test_the_second_crop_shows_something_else_even_where_the_first_errs_most() -> None:
    hr = flat(16, 64)
    hr[:, 0:16] = picture(0, 16, 16)
    first, second = find_places(hr, flat(16, 64), side=SIDE, scale=4)
    assert first == (0, 0)
    assert second == (0, 8)  # the last half of it, which is as near as may be


# --- the sheet


def test_every_picture_is_shown_by_every_method(folder: Path) -> None:
    benchmark = open_benchmark(folder, scale=4)
    sheet = Sheet([nearest(), nearest("again")], benchmark, side=SIDE + 3)
    assert len(sheet) == 5
    assert list(sheet) == ["a", "b", "c", "d", "e"]
    result = sheet.result
    width = 2 * (5 * (SIDE + GAP) - GAP) + MIDDLE + 2 * GAP
    assert result.shape == (2 * LINE + 5 * (LINE + SIDE) + GAP, width, 3)
    for row, pair in enumerate(benchmark):
        sr = nearest().enlarge(pair.lr)
        versions = [sr, images.resize(pair.lr, 4), sr, sr, pair.hr]
        for group, (top, left) in enumerate(find_places(pair.hr, sr, side=SIDE, scale=4)):
            for column, version in enumerate(versions):
                expected = version[top : top + SIDE, left : left + SIDE]
                np.testing.assert_array_equal(cell(result, row, column, group=group, columns=5), expected)


def test_small_pictures_are_shown_whole_on_white(folder: Path) -> None:
    sheet = Sheet([nearest()], open_benchmark(folder, scale=4), side=44)
    pair = list(open_benchmark(folder, scale=4))[2]
    top = 3 * LINE + 2 * (LINE + 44)
    truth = sheet.result[top : top + 44, GAP + 3 * 48 : GAP + 3 * 48 + 44]
    np.testing.assert_array_equal(truth[:24, :20], pair.hr)
    assert truth[24:].min() == truth[:, 20:].min() == 255


def test_everything_is_labelled_in_black_on_white(folder: Path) -> None:
    sheets = [
        Sheet([nearest(name)], open_benchmark(folder, scale=4), side=64, pictures=1).result
        for name in ("<b>&", "other name that is much too long for the place it has")
    ]
    heads = [sheet[: 2 * LINE] for sheet in sheets]
    for head in heads:
        assert head.min() < 100
        assert np.ptp(head, axis=2).max() == 0
    columns = slice(GAP + 2 * 68, GAP + 2 * 68 + 64)
    assert not np.array_equal(heads[0][LINE:, columns], heads[1][LINE:, columns])
    np.testing.assert_array_equal(heads[0][LINE:, : 2 * 68], heads[1][LINE:, : 2 * 68])  # input, bicubic
    assert heads[1][:, columns.stop : columns.stop + GAP].min() == 255  # cut off
    assert sheets[0][2 * LINE : 3 * LINE].min() < 100  # the picture's name


def test_bicubic_is_shown_once(folder: Path) -> None:
    benchmark = open_benchmark(folder, scale=4)
    alone = Sheet([bicubic(4)], benchmark, side=SIDE).result
    assert alone.shape[1] == 2 * (3 * (SIDE + GAP) - GAP) + MIDDLE + 2 * GAP
    beside = Sheet([bicubic(4), nearest()], benchmark, side=SIDE).result
    np.testing.assert_array_equal(beside, Sheet([nearest()], benchmark, side=SIDE).result)


def test_a_large_benchmark_is_shown_in_part(folder: Path, tmp_path: Path) -> None:
    assert list(Sheet([nearest()], open_benchmark(folder, scale=4), pictures=2)) == ["b", "d"]
    assert list(Sheet([nearest()], open_benchmark(folder, scale=4), pictures=1)) == ["c"]
    (tmp_path / "lr").mkdir()
    for pair in open_benchmark(folder, scale=4):
        images.write(images.from_array(255 - pair.lr), tmp_path / "lr" / f"{pair.name}x4.png")
    given_lr = open_benchmark(folder, scale=4, lr_folder=tmp_path / "lr")
    result = Sheet([nearest()], given_lr, side=SIDE, pictures=1).result
    pair = list(given_lr)[2]
    top, left = find_places(pair.hr, nearest().enlarge(pair.lr), side=SIDE, scale=4)[0]
    expected = nearest().enlarge(pair.lr)[top : top + SIDE, left : left + SIDE]
    np.testing.assert_array_equal(cell(result, 0, 0, columns=4), expected)


def test_what_cannot_be_shown_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = open_benchmark(folder, scale=4)
    with pytest.raises(UsageError, match="at least one method"):
        Sheet([], benchmark)
    with pytest.raises(UsageError, match="twice enlarges by 2 and the benchmark is for 4"):
        Sheet([nearest(), nearest("twice", scale=2)], benchmark)
    for size in ({"side": 3}, {"pictures": 0}):
        with pytest.raises(UsageError, match="crops of 4 pixels and one picture at least"):
            Sheet([nearest()], benchmark, **size)
    import pyvips

    def fail(*_: object, **__: object) -> None:
        raise pyvips.Error('class "text" not found')

    monkeypatch.setattr(pyvips.Image, "text", fail, raising=False)
    with pytest.raises(PictureError, match="this libvips has no text"):
        _ = Sheet([nearest()], benchmark).result


# --- the command


def test_the_command_writes_a_sheet(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    command = ["evaluate", "--benchmark", str(folder), "--model", str(tiny_model), "--sheet", str(path)]
    result = CliRunner().invoke(app, [*command, "--against", "bicubic", "--against", str(tiny_model)])
    assert (result.stderr, result.exit_code) == ("", 0)
    crops = images.read(path).pixels.shape
    assert crops[1] == 2 * (5 * (128 + GAP) - GAP) + MIDDLE + 2 * GAP
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert images.read(path).pixels.shape == crops
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert images.read(path).pixels.shape[1] < crops[1]


def test_a_sheet_does_not_go_among_the_pictures(folder: Path) -> None:
    before = sorted(folder.iterdir())
    command = ["evaluate", "--benchmark", str(folder), "--model", "bicubic", "--force"]
    result = CliRunner().invoke(app, [*command, "--sheet", str(folder / "sheet.png")])
    assert result.exit_code == 1
    assert "cannot be written: it would become a picture of the benchmark" in result.stderr
    assert sorted(folder.iterdir()) == before


def test_against_needs_a_sheet(folder: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--benchmark", str(folder), "--against", "bicubic"])
    assert result.exit_code == 2
    assert "say with --sheet where to write it" in result.stderr
