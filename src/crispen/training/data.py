"""Training pictures: decoded once into a memory-mapped cache, then cropped at random.

The low-resolution picture is made once from the whole high-resolution one, by MATLAB's bicubic as the benchmarks
are, so that crops have no borders of their own. Which crops a step sees depends on (seed, step) alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispen import images
from crispen.errors import DataError, PictureError

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pair:
    """Where one picture stands in the cache: sides in pixels of the low-resolution version, offsets in bytes."""

    name: str
    height: int
    width: int
    lr_offset: int
    hr_offset: int


class Dataset:
    """Pairs of a low- and a high-resolution picture, memory-mapped.

    Args:
        folder: what `build_cache` wrote.
        scale: high-resolution pixels per low-resolution pixel.
    """

    def __init__(self, folder: Path, *, scale: int) -> None:
        self.scale = scale
        self.pairs = [Pair(**entry) for entry in json.loads((folder / "index.json").read_text())]
        self._lr: Bytes = np.memmap(folder / "lr.bin", np.uint8, "r")
        self._hr: Bytes = np.memmap(folder / "hr.bin", np.uint8, "r")

    def __len__(self) -> int:
        return len(self.pairs)

    def lr(self, index: int) -> Bytes:
        """The small picture: (H, W, 3)."""
        pair = self.pairs[index]
        return _picture_at(self._lr, pair.lr_offset, pair.height, pair.width)

    def hr(self, index: int) -> Bytes:
        """The large picture: (H·scale, W·scale, 3)."""
        pair = self.pairs[index]
        return _picture_at(self._hr, pair.hr_offset, pair.height * self.scale, pair.width * self.scale)

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """A picture as a batch of one: (1, 3, H, W) and (1, 3, H·scale, W·scale) in [0, 1]."""
        return _to_tensor(self.lr(index)[np.newaxis]), _to_tensor(self.hr(index)[np.newaxis])

    def batch(self, *, seed: int, step: int, patch_size: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Random crops, flipped and rotated, the same for the same (seed, step).

        Each pixel of the data is equally likely to be seen: pictures are drawn by their number of crops.

        Returns:
            ``lr`` (N, 3, P/scale, P/scale) and ``hr`` (N, 3, P, P) with P the ``patch_size``, in [0, 1].
        """
        random = np.random.default_rng([seed, step])
        side = patch_size // self.scale
        odds = np.array([max(0, p.height - side + 1) * max(0, p.width - side + 1) for p in self.pairs], float)
        crops = [
            self._crop(index, side, random)
            for index in random.choice(len(self.pairs), batch_size, p=odds / odds.sum())
        ]
        lr, hr = (np.stack(side) for side in zip(*crops, strict=True))
        return _to_tensor(lr), _to_tensor(hr)

    def _crop(self, index: int, side: int, random: np.random.Generator) -> tuple[Bytes, Bytes]:
        pair, scale = self.pairs[index], self.scale
        y = int(random.integers(pair.height - side + 1))
        x = int(random.integers(pair.width - side + 1))
        turns, mirrored = int(random.integers(4)), bool(random.integers(2))
        lr = self.lr(index)[y : y + side, x : x + side]
        hr = self.hr(index)[y * scale : (y + side) * scale, x * scale : (x + side) * scale]
        return _turn(lr, turns, mirrored=mirrored), _turn(hr, turns, mirrored=mirrored)


def open_dataset(paths: Sequence[Path], *, scale: int, patch_size: int, cache: Path) -> Dataset:
    """Open the pictures of folders and tar files, building their cache on the first use.

    Args:
        paths: folders (searched through), tar files, or single pictures.
        scale: high-resolution pixels per low-resolution pixel.
        patch_size: pictures with a side below this are left out.
        cache: folder to keep decoded pictures in; the same pictures are decoded once.

    Raises:
        DataError: where a path is missing or no picture of use is found.
    """
    folder = cache / _fingerprint(paths, scale)
    if not (folder / "index.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        build_cache(paths, scale=scale, folder=folder)
    dataset = Dataset(folder, scale=scale)
    side = patch_size // scale
    dataset.pairs = [pair for pair in dataset.pairs if min(pair.height, pair.width) >= side]
    if not dataset.pairs:
        raise DataError(f"no picture of at least {patch_size}x{patch_size} pixels in {_names(paths)}")
    return dataset


def build_cache(paths: Sequence[Path], *, scale: int, folder: Path) -> None:
    """Decode pictures to RGB bytes, shrink each, and write ``hr.bin``, ``lr.bin`` and, last, ``index.json``.

    Files that are no readable picture are left out and named in ``skipped.txt``; `DataError` if all are.
    """
    pairs: list[dict[str, str | int]] = []
    skipped: list[str] = []
    with (folder / "lr.bin").open("wb") as lr_file, (folder / "hr.bin").open("wb") as hr_file:
        for name, file in _files(paths):
            try:
                hr = _crop_to_multiple(_read_rgb(file), scale)
            except PictureError as error:
                skipped.append(f"{name}: {error}")
                continue
            lr = images.resize(hr, 1 / scale)
            offsets = {"lr_offset": lr_file.tell(), "hr_offset": hr_file.tell()}
            pairs.append({"name": name, "height": lr.shape[0], "width": lr.shape[1], **offsets})
            lr_file.write(lr.tobytes())
            hr_file.write(hr.tobytes())
    (folder / "skipped.txt").write_text("".join(f"{line}\n" for line in skipped))
    if not pairs:
        raise DataError(f"no readable picture in {_names(paths)}")
    temporary = folder / "index.json.new"
    temporary.write_text(json.dumps(pairs))
    os.replace(temporary, folder / "index.json")  # noqa: PTH105


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Name and place of every picture file, in an order that depends on the names alone."""
    for path in paths:
        if path.is_dir():
            yield from ((str(file), file) for file in sorted(path.rglob("*")) if _is_picture(file))
        elif path.is_file() and tarfile.is_tarfile(path):
            yield from _members(path)
        elif path.is_file():
            yield str(path), path
        else:
            raise DataError(f"there is no training data at {path}")


def _members(shard: Path) -> Iterator[tuple[str, Path]]:
    """The pictures in a tar file, each unpacked for as long as it is looked at."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(shard) as tar:
        members = [member for member in tar if member.isfile() and _is_picture(Path(member.name))]
        for index, member in enumerate(sorted(members, key=lambda member: member.name)):
            content = tar.extractfile(member)
            assert content is not None, "a regular file has content"
            unpacked = Path(folder, f"{index}{Path(member.name).suffix}")
            unpacked.write_bytes(content.read())
            yield f"{shard}:{member.name}", unpacked
            unpacked.unlink()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES


def _read_rgb(path: Path) -> Bytes:
    pixels = cast(Bytes, images.to_depth(images.read(path).pixels, 8))
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _crop_to_multiple(hr: Bytes, scale: int) -> Bytes:
    height, width = hr.shape[0] // scale * scale, hr.shape[1] // scale * scale
    if not (height and width):
        raise PictureError(f"a picture of {hr.shape[1]}x{hr.shape[0]} pixels is too small for scale {scale}")
    return hr[:height, :width]


def _fingerprint(paths: Sequence[Path], scale: int) -> str:
    """Changes whenever a file does (by name, size or time), or the scale."""
    digest = hashlib.sha256(f"scale {scale}".encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.exists():
                raise DataError(f"there is no training data at {file}")
            status = file.stat()
            digest.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _picture_at(buffer: Bytes, offset: int, height: int, width: int) -> Bytes:
    return buffer[offset : offset + height * width * 3].reshape(height, width, 3)


def _turn(picture: Bytes, turns: int, *, mirrored: bool) -> Bytes:
    turned = np.rot90(picture, turns)
    return turned[:, ::-1] if mirrored else turned


def _to_tensor(pictures: Bytes) -> Tensor:
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float().div_(255)  # channels last in memory


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
