"""Make the picture at the head of the README: crops of the examples, by bicubic (left) and by a model (right).

python benchmarks/before_after.py [--model srgan-x4-photo] [--output docs/before-after.jpg]

With --quality 50 the small pictures are saved as JPEG first, as the web has them, and with --against srgan-x4 another
model's crops stand between: `--quality 50 --against srgan-x4 --output docs/spoilt.jpg` makes that of docs/models.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crispen
from crispen import images
from crispen.images import Picture
from crispen.upscaling import Upscaler

EXAMPLES = Path(__file__).parent.parent / "examples"
CROPS = {"dog": (100, 120), "flowers": (60, 110)}  # rows and columns of the small picture's corner
SIDE = 110  # pixels of the small picture
GAP = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=crispen.DEFAULT_MODEL)
    parser.add_argument("--against", nargs="*", default=[], help="models to show to the left of it")
    parser.add_argument("--quality", type=int, help="of the JPEG that the small pictures become first")
    parser.add_argument("--output", type=Path, default=Path("docs/before-after.jpg"))
    arguments = parser.parse_args()
    upscalers = [crispen.load(name) for name in (*arguments.against, arguments.model)]
    rows = [
        row(small(EXAMPLES / f"{name}.png", arguments.quality), upscalers, *corner)
        for name, corner in CROPS.items()
    ]
    images.write(images.from_array(joined(rows, axis=0)), arguments.output, force=True)


def small(path: Path, quality: int | None) -> Picture:
    """Read a picture, by way of a JPEG if a quality is given."""
    picture = images.read(path)
    if quality is None:
        return picture
    with tempfile.TemporaryDirectory() as folder:
        jpeg = Path(folder) / "small.jpg"
        images.write(picture, jpeg, encoding=images.Encoding(quality=quality))
        return images.read(jpeg)


def row(picture: Picture, upscalers: Sequence[Upscaler], top: int, left: int) -> NDArray[Any]:
    """Bicubic beside the models, cropped from the enlargements of the whole picture."""
    place = np.s_[top * 4 : (top + SIDE) * 4, left * 4 : (left + SIDE) * 4]
    enlarged = [crispen.resize(picture.pixels, 4), *(upscaler(picture).pixels for upscaler in upscalers)]
    return joined([pixels[place] for pixels in enlarged], axis=1)


def joined(parts: Sequence[NDArray[Any]], *, axis: int) -> NDArray[Any]:
    """Put pictures beside each other (1) or below (0), with a white gap."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for each in parts for part in (gap, each)][1:], axis=axis)


if __name__ == "__main__":
    main()
