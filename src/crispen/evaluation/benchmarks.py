"""Benchmarks: folders of pictures to measure on, such as Set5, Set14 and BSD100.

A benchmark is a folder of ground truth (hr). The pictures to enlarge (lr) are made from it, or stand in a
folder of their own. Either way hr is first cropped at its right and bottom to a multiple of the scale, and
gray pictures become RGB ones of three equal channels, as the field does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from crispen import images
from crispen.errors import DataError, UsageError
from crispen.evaluation.metrics import WINDOW
from crispen.evaluation.protocol import BICUBIC, GIVEN, Protocol, standard


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One picture of a benchmark, small and large."""

    name: str
    """The file's name without its suffix."""
    lr: NDArray[np.uint8]
    """(H, W, 3) of 0..255."""
    hr: NDArray[np.uint8]
    """(H·scale, W·scale, 3) of 0..255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """A way to make lr of hr that is not the usual one."""

    make: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
    """(H, W, 3) and the scale to (H/scale, W/scale, 3); the same for the same picture."""
    description: str
    """In words, for the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Pictures and the protocol by which they are measured; made by `open_benchmark`.

    Iterating reads one `Pair` at a time, and raises `DataError` for one that does not fit and `PictureError`
    for one that cannot be read.
    """

    name: str
    protocol: Protocol
    hr_paths: tuple[Path, ...]
    lr_paths: tuple[Path, ...] | None
    """In the order of ``hr_paths``; None to make lr from hr."""
    reduction: Reduction | None = None
    """How lr is made; None for MATLAB's bicubic ``imresize``."""

    def __len__(self) -> int:
        return len(self.hr_paths)

    def __iter__(self) -> Iterator[Pair]:
        for index, hr_path in enumerate(self.hr_paths):
            hr = _crop(_read(hr_path), protocol=self.protocol, path=hr_path)
            lr = self._make_lr(hr) if self.lr_paths is None else self._read_lr(self.lr_paths[index], hr=hr)
            yield Pair(name=hr_path.stem, lr=lr, hr=hr)

    def check_apart(self, *written: str | Path) -> None:
        """Raise `DataError` for a file that would replace one of these pictures, or be taken for one from then on."""
        paths = (*self.hr_paths, *(self.lr_paths or ()))
        pictures, folders = {path.resolve() for path in paths}, {path.parent.resolve() for path in paths}
        for path in written:
            target = Path(path).resolve()
            if target in pictures:
                raise DataError(f"{path} cannot be written: it is a picture of the benchmark")
            if target.parent in folders and target.suffix.lower() in images.READ_SUFFIXES:
                raise DataError(f"{path} cannot be written: it would become a picture of the benchmark")

    def _make_lr(self, hr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.reduction is not None:
            return self.reduction.make(hr, self.protocol.scale)
        return images.resize(hr, 1 / self.protocol.scale)

    def _read_lr(self, path: Path, *, hr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        lr = _read(path)
        height, width = (side // self.protocol.scale for side in hr.shape[:2])
        if lr.shape[:2] != (height, width):
            raise DataError(
                f"{path} has {lr.shape[1]}x{lr.shape[0]} pixels, but for scale {self.protocol.scale} "
                f"its hr picture needs {width}x{height}"
            )
        return lr


def open_benchmark(
    folder: str | Path,
    *,
    scale: int,
    lr_folder: str | Path | None = None,
    reduction: Reduction | None = None,
) -> Benchmark:
    """List the pictures of ``folder`` in the order of their names, under the standard protocol.

    Args:
        folder: the hr pictures; other files and folders in it are passed over, and so is what stands beside the hr
            picture that it was made of or for (``img_001_SRF_4_LR`` beside ``img_001_SRF_4_HR``).
        scale: from lr to hr.
        lr_folder: where the lr pictures stand, each named as its hr picture or with an ending that says "LR",
            the scale or both (``baby``, ``babyx4``, ``baby_LR``, ``baby_LRBI_x4``; an ``_HR`` of the hr name
            is left out). None to make them from the hr pictures.
        reduction: how they are made then, as `crispen.training.degradation.reduction_of` has it; None for MATLAB's
            bicubic ``imresize``.

    Raises:
        UsageError: for a scale that is no whole number of at least 1, or for both a folder and a way to make them.
        DataError: for a folder that is missing, cannot be read or holds no pictures, two pictures of one name, or
            lr pictures that are missing.
    """
    if lr_folder and reduction:
        raise UsageError("lr_folder and reduction exclude each other: lr pictures are given or made")
    made = reduction.description if reduction else BICUBIC
    protocol = standard(scale, downsampling=GIVEN if lr_folder else made)
    hr_paths = _without_made(_pictures(folder))
    lr_paths = _match(hr_paths, _pictures(lr_folder), scale=scale) if lr_folder else None
    return Benchmark(
        name=Path(folder).resolve().name,
        protocol=protocol,
        hr_paths=hr_paths,
        lr_paths=lr_paths,
        reduction=reduction,
    )


def _pictures(folder: str | Path) -> tuple[Path, ...]:
    """The pictures of a folder, by whose names but for the suffix one is found in another folder."""
    paths = images.in_folder(Path(folder))
    by_name: dict[str, Path] = {}
    for path in paths:
        if by_name.setdefault(path.stem, path) is not path:
            raise DataError(f"{by_name[path.stem]} and {path} have the same name but for the suffix")
    return paths


_SAYS_HR = re.compile(r"[_-]HR([_-]?x\d+)?$", flags=re.IGNORECASE)
"""What a name may end with that says so."""


def _without_made(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Leave out lr pictures and results that are named as an hr picture of the same folder, but for its ``_HR``.

    (So stand the sets of Huang et al., "Single image super-resolution from transformed self-exemplars", CVPR 2015.)
    """
    says_hr = {path: _SAYS_HR.search(path.stem) is not None for path in paths}
    of_hr = {_SAYS_HR.sub("", path.stem) for path in paths if says_hr[path]}
    return tuple(
        path
        for path in paths
        if says_hr[path] or not any(re.match(re.escape(name) + "[_-]", path.stem) for name in of_hr)
    )


def _match(hr_paths: tuple[Path, ...], lr_paths: tuple[Path, ...], *, scale: int) -> tuple[Path, ...]:
    """The lr picture of every hr picture."""
    matches = {hr_path: _lr_paths_of(hr_path, lr_paths, scale=scale) for hr_path in hr_paths}
    missing = [hr_path.name for hr_path, found in matches.items() if not found]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise DataError(f"{lr_paths[0].parent} holds no lr picture at scale {scale} of {shown}")
    for hr_path, found in matches.items():
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise DataError(f"{found[0].parent} holds more than one lr picture of {hr_path.name}: {names}")
    return tuple(found[0] for found in matches.values())


def _lr_paths_of(hr_path: Path, lr_paths: tuple[Path, ...], *, scale: int) -> list[Path]:
    name = _SAYS_HR.sub("", hr_path.stem)
    ending = rf"(?i:([_-]?LR[A-Z]*)?([_-]?x{scale})?)"
    return [path for path in lr_paths if re.fullmatch(re.escape(name) + ending, path.stem)]


def _read(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    picture = images.read(path)
    if picture.bit_depth != 8 or picture.alpha is not None:
        found = "transparency" if picture.alpha is not None else f"{picture.bit_depth} bits a channel"
        raise DataError(f"{path} has {found}, but a benchmark is of opaque 8-bit pictures")
    pixels = cast(NDArray[np.uint8], picture.pixels)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _crop(hr: NDArray[np.uint8], *, protocol: Protocol, path: Path) -> NDArray[np.uint8]:
    """Crop to a multiple of the scale."""
    height, width = (side - side % protocol.scale for side in hr.shape[:2])
    least = WINDOW + 2 * protocol.crop_border
    if min(height, width) < least:
        raise DataError(f"{path} has {width}x{height} pixels to measure, fewer than {least}x{least}")
    return hr[:height, :width]
