"""Make the picture at the head of the README: crops of the examples, by bicubic (left) and by a model (right).

python benchmarks/before_after.py [--model srgan-x4] [--output docs/before-after.jpg]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crispen
from crispen import images
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
    parser.add_argument("--output", type=Path, default=Path("docs/before-after.jpg"))
    arguments = parser.parse_args()
    upscaler = crispen.load(arguments.model)
    rows = [row(images.read(EXAMPLES / f"{name}.png"), upscaler, *corner) for name, corner in CROPS.items()]
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    images.write(images.from_array(np.concatenate([rows[0], gap, rows[1]])), arguments.output, force=True)


def row(picture: images.Picture, upscaler: Upscaler, top: int, left: int) -> NDArray[Any]:
    """Bicubic beside the model, cropped from the enlargements of the whole picture."""
    place = np.s_[top * 4 : (top + SIDE) * 4, left * 4 : (left + SIDE) * 4]
    bicubic, ours = crispen.resize(picture.pixels, 4)[place], upscaler(picture).pixels[place]
    return np.concatenate([bicubic, np.full((SIDE * 4, GAP, 3), 255, np.uint8), ours], axis=1)


if __name__ == "__main__":
    main()
