"""Pages of small print, which are harder in 8 bits than photographs are: pictures for `benchmarks/int8.py`.

    python benchmarks/pages.py FOLDER [--fonts FONT.ttf...]

Written are pages of 480x480, in the font of Pillow and in each that is given, in five sizes, with paper and ink of
three kinds. The words are others than those that `crispen export --int8` calibrates on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 480
SIZES = (12, 18, 24, 32, 48)
COLOURS = {
    "black-on-white": ("white", "black"),
    "white-on-black": ("black", "white"),
    "blue-on-gray": ("#d8e0e8", "#102040"),
}
WORDS = "Every picture that we have seen, of 12,345 in all (2026), has LETTERS somewhere: on signs & shirts - or so."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fonts", type=Path, nargs="*", default=[], metavar="FONT.ttf")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        fonts = {"pillow": ImageFont.load_default(size)}
        fonts |= {path.stem: ImageFont.truetype(path, size) for path in arguments.fonts}
        for name, font in fonts.items():
            for colours, (paper, ink) in COLOURS.items():
                page(size, font, paper, ink).save(arguments.folder / f"{name}-{size}-{colours}.png")


def page(size: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, paper: str, ink: str) -> Image.Image:
    """A page full of words in an order of its own."""
    random = np.random.default_rng(size)
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    lines = [" ".join(random.permutation(WORDS.split())) for _ in range(SIDE // size)]
    ImageDraw.Draw(picture).text((8, 8), "\n".join(lines), fill=ink, font=font)
    return picture


if __name__ == "__main__":
    main()
