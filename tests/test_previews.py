"""A sheet of pictures that is the same each time but for what the generator makes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crispen import images, resize
from crispen.errors import PictureError
from crispen.training.previews import GAP, write_previews

Bytes = NDArray[np.uint8]


class Pictures:
    """Random pairs of the given low-resolution heights and widths, each marked by its number in red."""

    def __init__(self, sides: Sequence[tuple[int, int]], *, scale: int) -> None:
        self.scale = scale
        random = np.random.default_rng(0)
        self._hr = [
            random.integers(0, 256, (height * scale, width * scale, 3)).astype(np.uint8)
            for height, width in sides
        ]
        for index, hr in enumerate(self._hr):
            hr[..., 0] = index
        self._lr = [resize(hr, 1 / scale) for hr in self._hr]

    def __len__(self) -> int:
        return len(self._hr)

    def lr(self, index: int) -> Bytes:
        return self._lr[index]

    def hr(self, index: int) -> Bytes:
        return self._hr[index]


class Nearest(nn.Module):
    """Repeats pixels, and notes what it was given and in which mode."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.shapes: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.shapes.append(tuple(lr.shape))
        self.modes.append(self.training)
        return lr.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def write(folder: Path, pictures: Pictures, **options: int) -> tuple[Bytes, Nearest]:
    generator = Nearest(pictures.scale)
    path = write_previews(generator, pictures, folder, name="gan-00000010", forward=generator, **options)
    return read(path), generator


def read(path: Path) -> Bytes:
    return images.to_depth(images.read(path).pixels, 8).astype(np.uint8)


def cell(sheet: Bytes, row: int, column: int, *, size: int) -> Bytes:
    top, left = (GAP + index * (size + GAP) for index in (row, column))
    return sheet[top : top + size, left : left + size]


def test_rows_of_input_bicubic_sr_and_hr(tmp_path: Path) -> None:
    pictures = Pictures([(14, 20)] * 5, scale=2)
    sheet, generator = write(tmp_path / "previews", pictures, count=2, size=16)
    assert [file.name for file in (tmp_path / "previews").iterdir()] == ["gan-00000010.png"]
    assert sheet.shape == (GAP + 2 * (16 + GAP), GAP + 4 * (16 + GAP), 3)
    assert generator.shapes == [(2, 3, 8, 8)], "one batch of crops"
    for row, index in enumerate((1, 3)):  # spread evenly over five
        crop = pictures.lr(index)[3:11, 6:14]
        enlarged = crop.repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(cell(sheet, row, 0, size=16), enlarged)
        np.testing.assert_array_equal(cell(sheet, row, 1, size=16), resize(crop, 2))
        np.testing.assert_array_equal(cell(sheet, row, 2, size=16), enlarged)
        np.testing.assert_array_equal(cell(sheet, row, 3, size=16), pictures.hr(index)[6:22, 12:28])
    assert (sheet[:GAP] == 255).all()


def test_odd_margins_keep_input_and_truth_in_register(tmp_path: Path) -> None:
    pictures = Pictures([(9, 12)], scale=4)
    sheet, _ = write(tmp_path, pictures, count=1, size=16)
    truth = cell(sheet, 0, 3, size=16)
    np.testing.assert_array_equal(truth, pictures.hr(0)[8:24, 16:32])
    np.testing.assert_array_equal(cell(sheet, 0, 0, size=16)[::4, ::4], pictures.lr(0)[2:6, 4:8])


def test_small_pictures_fill_the_place_with_more_of_them(tmp_path: Path) -> None:
    digits = Pictures([(7, 7)] * 100, scale=4)
    sheet, generator = write(tmp_path, digits, count=2, size=64)
    assert generator.shapes == [(2 * 4, 3, 7, 7)], "two groups across, four rows"
    across = 2 * (4 * (28 + GAP) + GAP) + GAP
    assert sheet.shape == (GAP + 4 * (28 + GAP), across, 3)


def test_a_set_smaller_than_the_sheet_is_shown_whole(tmp_path: Path) -> None:
    sheet, generator = write(tmp_path, Pictures([(7, 7)] * 3, scale=4), count=2, size=64)
    assert generator.shapes == [(3, 3, 7, 7)]
    assert (sheet[-28 - GAP :, -28 - GAP :] == 255).all(), "the place of the fourth stays white"


def test_one_tiny_picture_does_not_make_all_crops_tiny(tmp_path: Path) -> None:
    pictures = Pictures([(16, 16), (3, 3), (16, 16), (16, 16)], scale=2)
    sheet, generator = write(tmp_path, pictures, count=4, size=32)
    assert generator.shapes == [(3, 3, 16, 16)]
    assert [int(cell(sheet, row, 3, size=32)[0, 0, 0]) for row in range(3)] == [0, 2, 3]


def test_the_same_sheet_each_time_and_a_later_one_replaces_it(tmp_path: Path) -> None:
    pictures = Pictures([(16, 16)] * 4, scale=2)
    write(tmp_path, pictures, count=2, size=32)
    content = (tmp_path / "gan-00000010.png").read_bytes()
    write(tmp_path, pictures, count=2, size=32)
    assert (tmp_path / "gan-00000010.png").read_bytes() == content


@pytest.mark.parametrize("training", [True, False])
def test_the_generator_is_in_evaluation_mode_meanwhile(tmp_path: Path, training: bool) -> None:
    generator = Nearest(2).train(training)
    pictures = Pictures([(8, 8)], scale=2)
    write_previews(generator, pictures, tmp_path, name="a", size=16, forward=generator)
    assert generator.modes == [False]
    assert generator.training == training


def test_the_mode_comes_back_after_an_error(tmp_path: Path) -> None:
    generator = Nearest(2).train()

    def fail(lr: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_previews(generator, Pictures([(8, 8)], scale=2), tmp_path, name="a", size=16, forward=fail)
    assert generator.training


def test_what_leaves_the_range_is_clamped_and_half_precision_will_do(tmp_path: Path) -> None:
    def wild(lr: Tensor) -> Tensor:
        sr = torch.full((len(lr), 3, 16, 16), 1.5, dtype=torch.bfloat16)
        sr[:, 1] = -0.5
        return sr

    pictures = Pictures([(8, 8)], scale=2)
    path = write_previews(nn.Identity(), pictures, tmp_path, name="a", count=1, size=16, forward=wild)
    assert (cell(read(path), 0, 2, size=16) == [255, 0, 255]).all()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "previews").write_text("a file")
    with pytest.raises(PictureError, match="previews cannot be made"):
        write(tmp_path / "previews", Pictures([(8, 8)], scale=2), size=16)
