"""Contact sheets: crops at full size, side by side, since no number says how a result looks.

From each picture two crops are taken, and nobody has to choose them: one where the truth has most fine detail, and
one where the result differs most from it. Each is shown as input (every pixel enlarged), bicubic, the methods, and
truth.

::

    sheet = Sheet([learned(upscaler)], benchmark)
    images.write(images.from_array(sheet.result), "sheet.png")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen import images
from crispen.errors import PictureError, UsageError
from crispen.evaluation.benchmarks import Benchmark, Pair
from crispen.evaluation.methods import Method, bicubic

Bytes = NDArray[np.uint8]
Plane = NDArray[np.float64]
Place = tuple[int, int]
"""Row and column of a crop's corner, in pixels of hr."""

SIDE = 128
"""Of the crops, in pixels of hr."""
PICTURES = 24
"""How many pictures of a benchmark are shown at most."""

GAP, MIDDLE = 4, 20
"""White pixels between crops, and between the two groups of them."""
LINE = 20
"""Height of a line of text, in pixels."""
STRUT, STRUT_WIDTH = "|", 4
"""What is written behind each line and cut off again: libvips trims text, and so all of it stands equally high."""


class Sheet:
    """A contact sheet in the making. Iterating enlarges one picture after the other and yields its name.

    It can be walked through once; ``len()`` is the number of pictures.

    Args:
        methods: what to show, at least one; bicubic is shown anyway. The first other than bicubic is the one whose
            largest errors are sought.
        benchmark: from `crispen.evaluation.open_benchmark`, at the methods' scale.
        side: of the crops, in pixels of hr, rounded down to a multiple of the scale. Of smaller pictures there is
            as much as they have.
        pictures: how many to show at most; of a larger benchmark they are spread evenly over it.

    Raises:
        UsageError: for no methods, for scales that differ, and for a ``side`` or ``pictures`` that show nothing.
            Iterating raises what reading the benchmark and the methods raise.
    """

    def __init__(
        self, methods: Sequence[Method], benchmark: Benchmark, *, side: int = SIDE, pictures: int = PICTURES
    ) -> None:
        _check(methods, benchmark, side=side, pictures=pictures)
        scale = benchmark.protocol.scale
        others = [method for method in methods if method.name != "bicubic"]
        self._methods = [bicubic(scale), *others]
        self._judged = 1 if others else 0
        self._benchmark = _spread(benchmark, pictures)
        self._side = side - side % scale
        self._rows: list[Bytes] = []
        self._remaining = self._show()

    def __len__(self) -> int:
        return len(self._benchmark)

    def __iter__(self) -> Iterator[str]:
        return self._remaining

    @property
    def result(self) -> Bytes:
        """The sheet, (H, W, 3). Pictures that were not iterated over yet are enlarged first.

        Raises `PictureError` where libvips cannot write text.
        """
        for _ in self._remaining:
            pass
        sheet = np.concatenate([self._head(), *self._rows])
        return np.pad(sheet, ((0, GAP), (GAP, GAP), (0, 0)), constant_values=255)

    def _show(self) -> Iterator[str]:
        for pair in self._benchmark:
            results = [method.enlarge(pair.lr) for method in self._methods]
            self._rows.append(self._row(pair, results))
            yield pair.name

    def _row(self, pair: Pair, results: Sequence[Bytes]) -> Bytes:
        """One picture: its name, and below it the two groups of crops."""
        scale = self._benchmark.protocol.scale
        places = find_places(pair.hr, results[self._judged], side=self._side, scale=scale)
        versions = [pair.lr.repeat(scale, axis=0).repeat(scale, axis=1), *results, pair.hr]
        groups = [_beside([_crop(version, place, self._side) for version in versions]) for place in places]
        crops = _beside(groups, gap=MIDDLE)
        return np.concatenate([_text(pair.name, crops.shape[1]), crops])

    def _head(self) -> Bytes:
        """The titles of the two groups, and below them the names of the columns."""
        columns = ["input", *(method.name for method in self._methods), "truth"]
        width = len(columns) * (self._side + GAP) - GAP
        titles = ["where the truth has most detail", f"where {self._methods[self._judged].name} errs most"]
        names = _beside([_text(name, self._side) for name in columns])
        return np.concatenate(
            [
                _beside([_text(title, width) for title in titles], gap=MIDDLE),
                _beside([names, names], gap=MIDDLE),
            ]
        )


def find_places(hr: Bytes, sr: Bytes, *, side: int, scale: int) -> tuple[Place, Place]:
    """Find the crop with most fine detail, and the one with the largest error that does not show the same again.

    Fine detail is what a reduction by 2 takes away from the truth, its mean absolute value: squared, a single hard
    edge would outweigh a meadow. The error is the mean square, as in a PSNR.

    Args:
        hr: the truth, (H, W, 3).
        sr: the result, of the same shape.
        side: of the crops; of smaller pictures the corner is returned.
        scale: the corners are at multiples of it, as the pixels of the input are.

    Returns:
        Their corners. The second is at least half a crop away from the first, if the picture is large enough.
    """
    height, width = hr.shape[:2]
    coarse = images.resize(images.resize(hr, 1 / 2), 2)[:height, :width]
    detail = _means(np.abs(_difference(hr, coarse)), side, scale)
    error = _means(_difference(hr, sr) ** 2, side, scale)
    first = _largest(detail)
    rows, columns = np.indices(error.shape) * scale
    apart = np.maximum(np.abs(rows - first[0] * scale), np.abs(columns - first[1] * scale)) >= side / 2
    second = _largest(np.where(apart, error, -1)) if apart.any() else _largest(error)
    return (first[0] * scale, first[1] * scale), (second[0] * scale, second[1] * scale)


def _check(methods: Sequence[Method], benchmark: Benchmark, *, side: int, pictures: int) -> None:
    scale = benchmark.protocol.scale
    if not methods:
        raise UsageError("a sheet needs at least one method to show")
    for method in methods:
        if method.scale != scale:
            raise UsageError(
                f"a sheet shows one scale, but {method.name} enlarges by {method.scale} "
                f"and the benchmark is for {scale}"
            )
    if side < scale or pictures < 1:
        raise UsageError(
            f"a sheet needs crops of {scale} pixels and one picture at least, not {side} and {pictures}"
        )


def _spread(benchmark: Benchmark, most: int) -> Benchmark:
    """At most so many of the pictures, from the whole of the benchmark."""
    count, number = len(benchmark), min(len(benchmark), most)
    indices = [(2 * index + 1) * count // (2 * number) for index in range(number)]
    lr_paths = benchmark.lr_paths
    return dataclasses.replace(
        benchmark,
        hr_paths=tuple(benchmark.hr_paths[index] for index in indices),
        lr_paths=lr_paths and tuple(lr_paths[index] for index in indices),
    )


def _difference(hr: Bytes, other: Bytes) -> Plane:
    """(H, W): the mean over the channels."""
    return (hr.astype(np.float64) - other).mean(axis=2)


def _means(plane: Plane, side: int, step: int) -> Plane:
    """Means over all squares of ``side`` whose corners are at multiples of ``step``."""
    height, width = (min(side, length) for length in plane.shape)
    sums = np.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    return inside[::step, ::step] / (height * width)


def _largest(plane: Plane) -> Place:
    row, column = np.unravel_index(plane.argmax(), plane.shape)
    return int(row), int(column)


def _crop(picture: Bytes, place: Place, side: int) -> Bytes:
    """(side, side, 3), white where the picture ends."""
    crop = picture[place[0] : place[0] + side, place[1] : place[1] + side]
    missing = [(0, side - length) for length in crop.shape[:2]]
    return np.pad(crop, (*missing, (0, 0)), constant_values=255)


def _beside(pictures: Sequence[Bytes], *, gap: int = GAP) -> Bytes:
    """Pictures of one height beside each other, with white between them."""
    between = np.full((len(pictures[0]), gap, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (between, picture)][1:], axis=1)


def _text(text: str, width: int) -> Bytes:
    """(LINE, width, 3): a line in black on white, cut off where it does not fit."""
    ink = _ink(text)[: LINE - GAP, :width]
    line = np.full((LINE, width, 3), 255, np.uint8)
    line[GAP : GAP + ink.shape[0], : ink.shape[1]] -= ink[:, :, np.newaxis]
    return line


def _ink(text: str) -> Bytes:
    """(H, W): 255 where a line of text is drawn, from the top of the strut downwards."""
    import pyvips

    image: Any = pyvips.Image
    try:
        drawn = image.text(f"{escape(text)} {STRUT}", font="sans 9", dpi=96)  # which reads markup
    except pyvips.Error as error:
        raise PictureError("a sheet's labels cannot be drawn: this libvips has no text") from error
    return cast(Bytes, drawn.numpy())[:, :-STRUT_WIDTH]
