"""What does everything but the network take, from a 12-megapixel JPEG to the result in a file?

Enlarges a generated JPEG once with the bundled model, and once with a stand-in that returns the same pixels for
every tile at once: what is left is reading, cutting, rounding, pasting and writing.

    python benchmarks/picture_path.py [--size 4000x3000] [--format jpg]

Prints the seconds of both and the share (goal: below 15 %).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispen import images, runtimes, zoo
from crispen.images import Picture
from crispen.runtimes import Piece, Runtime
from crispen.tiling import Box
from crispen.upscaling import Upscaler
from crispen.upscaling.files import enlarge_file
from crispen.zoo import Model


class Instant:
    """A runtime that takes no time: it returns noise that was made beforehand."""

    scale = 4
    description = "nothing"

    def __init__(self) -> None:
        self._noise = np.random.default_rng(0).random((3, 4500, 4500), dtype=np.float32)

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        """See `crispen.runtimes.Runtime`."""
        height, width = (core.height, core.width) if core else batch.shape[2:]
        return np.stack([self._noise[:, : 4 * height, : 4 * width]] * len(batch))

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        """See `crispen.runtimes.Runtime`."""
        for piece in pieces:
            yield self._noise[:, : 4 * piece.core.height, : 4 * piece.core.width].copy()


def main() -> None:
    options = _parse()
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.jpg")
        smooth = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
        images.write(Picture(pixels=images.resize(smooth, 20)), photo)
        result = Path(folder, f"large.{options.format}")
        network = _seconds(photo, result, Upscaler(zoo.find(options.model)))
        rest = _seconds(photo, result, _upscaler_without_network(options.model))
    print(
        f"{width}x{height} JPEG to .{options.format}: {network:.1f} s with {options.model}, {rest:.1f} s without"
    )
    print(f"everything but the network: {100 * rest / network:.1f} %")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--format", default="jpg")
    parser.add_argument("--model", default="srgan-x4-photo")
    return parser.parse_args()


def _seconds(photo: Path, result: Path, upscaler: Upscaler) -> float:
    started = time.perf_counter()
    enlarge_file(photo, result, upscaler, force=True)
    return time.perf_counter() - started


def _upscaler_without_network(name: str) -> Upscaler:
    def open_nothing(model: Model, **options: object) -> Runtime:
        return Instant()

    runtimes.open_runtime = open_nothing
    return Upscaler(zoo.find(name))


if __name__ == "__main__":
    main()
