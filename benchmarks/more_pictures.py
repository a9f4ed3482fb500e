"""More training pictures out of few: photographs turned, or laid over each other, and shapes that hide each other.

    python benchmarks/more_pictures.py FOLDER --data SHARD... [--laid 0] [--shapes 220] [--fonts FONT.ttf...] [--seed 7]

FOLDER/turned gets each photograph turned by 8 to 82 degrees and reduced by 1.25 to 1.6, as far as none of its border
shows: the same textures with edges in other directions. FOLDER/laid gets weighted means of two photographs, as on a
film exposed twice: reducing is linear, so such a picture and its small version belong together as any other two do
(after Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, and, for super-resolution, Yoo et al.,
"Rethinking Data Augmentation for Image Super-resolution", CVPR 2020). FOLDER/shapes gets pictures of discs, bars,
blobs, letters and lines that hide each other, their sizes distributed by a power law as those of natural scenes are
(Lee, Mumford and Huang, "Occlusion Models for Natural Images", IJCV 2001), filled with a photograph's colours, with
stripes, noise and pieces of photographs: sharp edges, corners and crossings of every kind. Such pictures alone teach
a network to restore photographs nearly as well (Achddou, Gousseau and Ladjal, "Synthetic images as a regularity prior
for image restoration neural networks", SSVM 2021); here they are a sixth of what is trained on, beside photographs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crispen import images
from crispen.training.data import open_dataset

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Item = TypeVar("Item")

SIDE = 480
"""Of the pictures of shapes, which are drawn twice as large and then reduced."""
LEAST_SIDE = 132
"""Of turned photographs: what is smaller is left out."""
COVERED = 2.2
"""Area of the squares around all shapes of a picture, as a share of its own; half of it, about, stays uncovered."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="photographs")
    parser.add_argument("--laid", type=int, default=0, metavar="COUNT")
    parser.add_argument("--shapes", type=int, default=220, metavar="COUNT")
    parser.add_argument("--fonts", type=Path, nargs="*", default=[], metavar="FONT.ttf")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, scale=4, patch_size=4, cache=arguments.folder / "cache")
    photos = [dataset.hr(index) for index in range(len(dataset))]
    for kind in ("turned", "laid", "shapes"):
        (arguments.folder / kind).mkdir(parents=True, exist_ok=True)
    for index, photo in enumerate(photos):
        picture = turned(photo, np.random.default_rng([arguments.seed, 0, index]))
        if picture is not None:
            _write(picture, arguments.folder / "turned" / f"{index:04}.png")
    for index in range(arguments.laid):
        random = np.random.default_rng([arguments.seed, 2, index])
        _write(laid_over(photos, random), arguments.folder / "laid" / f"{index:04}.png")
    for index in range(arguments.shapes):
        random = np.random.default_rng([arguments.seed, 1, index])
        _write(shapes(photos, random, fonts=arguments.fonts), arguments.folder / "shapes" / f"{index:04}.png")


def turned(photo: Bytes, random: np.random.Generator) -> Bytes | None:
    """The middle of a photograph (H, W, 3), turned by 8 to 82 degrees and reduced; None where little is left."""
    angle, factor = random.uniform(8, 82), random.uniform(1.25, 1.6)
    height, width = photo.shape[:2]
    double = Image.fromarray(photo).resize((2 * width, 2 * height), Image.Resampling.LANCZOS)
    double = double.rotate(angle, Image.Resampling.BICUBIC)
    radians = math.radians(angle)
    inner = 2 * min(width, height) / (math.sin(radians) + math.cos(radians)) - 8  # the largest square inside
    side = int(inner / 2 / factor) // 4 * 4
    if side < LEAST_SIDE:
        return None
    box = (width - inner / 2, height - inner / 2, width + inner / 2, height + inner / 2)
    return np.asarray(double.resize((side, side), Image.Resampling.BICUBIC, box))


def laid_over(photos: Sequence[Bytes], random: np.random.Generator) -> Bytes:
    """Two of the photographs, one of them mirrored or turned, as on a film exposed twice, with the contrast of one."""
    below, above = _any(photos, random), _any(photos, random)
    above = np.rot90(above[:, ::-1] if random.random() < 0.5 else above, int(random.integers(4)))
    height, width = min(len(below), len(above)), min(len(below[0]), len(above[0]))
    share = np.float32(random.uniform(0.3, 0.7))
    picture = share * below[:height, :width] + (1 - share) * above[:height, :width]
    contrast = share * below.std() + (1 - share) * above.std()
    picture = picture.mean() + (picture - picture.mean()) * contrast / (picture.std() + 1e-3)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def shapes(
    photos: Sequence[Bytes], random: np.random.Generator, *, fonts: Sequence[Path] = (), side: int = SIDE
) -> Bytes:
    """A picture (side, side, 3) of shapes that hide each other, in the colours of one of the photographs."""
    large = 2 * side
    palette = _any(photos, random)
    canvas = _filling(large, large, palette, photos, random)
    for size in _sizes(large, random):
        left, top = (int(place) for place in random.integers(-size // 2, large - size // 2, size=2))
        mask = _mask(size, fonts, random)
        rows, columns = (
            slice(max(0, top), min(large, top + size)),
            slice(max(0, left), min(large, left + size)),
        )
        place = canvas[rows, columns]
        if min(place.shape[:2]) < 2:
            continue
        visible = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left, None]
        filling = _filling(place.shape[0], place.shape[1], palette, photos, random)
        place += visible * (filling - place)
    picture = Image.fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8))
    smooth = Image.Resampling.BOX if random.random() < 0.5 else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((side, side), smooth))


def _sizes(large: int, random: np.random.Generator) -> list[int]:
    """Sizes of shapes, whose density falls with the third power; large ones are behind, or anywhere."""
    least, most = 2 * math.exp(random.uniform(math.log(5), math.log(24))), 0.6 * large
    sizes: list[int] = []
    while sum(size**2 for size in sizes) < COVERED * large**2:
        for chance in random.random(64):
            sizes.append(4 + int((least**-2 + chance * (most**-2 - least**-2)) ** -0.5))
    return sorted(sizes, reverse=True) if random.random() < 0.5 else sizes


def _filling(
    height: int, width: int, palette: Bytes, photos: Sequence[Bytes], random: np.random.Generator
) -> Floats:
    """What a shape is filled with, (height, width, 3) from 0 to 255: a colour, a gradient, stripes, noise, a photo."""
    one, other = (_colour(palette, random) for _ in range(2))
    kind = random.choice(["colour", "gradient", "stripes", "noise", "photo"], p=[0.3, 0.2, 0.18, 0.1, 0.22])
    if kind == "colour":
        return np.tile(one, (height, width, 1))
    if kind == "photo":
        return _piece(_any(photos, random), height, width, random)
    if kind == "noise":
        return (one + 0.25 * (other - one) * _noise(height, width, random)[..., None]).astype(np.float32)
    angle = random.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[:height, :width]
    along = columns * math.cos(angle) + rows * math.sin(angle)
    if kind == "gradient":
        share = (along - along.min()) / (np.ptp(along) + 1e-3)
    else:
        period = math.exp(random.uniform(math.log(6), math.log(60)))
        waves = np.sin(2 * math.pi * (along / period + random.random()))
        sharp = np.clip(4 * waves, -1, 1) if random.random() < 0.5 else waves
        share = 0.5 + 0.5 * random.random() * sharp
    return (one + (other - one) * share[..., None]).astype(np.float32)


def _colour(palette: Bytes, random: np.random.Generator) -> Floats:
    pixels = palette.reshape(-1, 3)
    return pixels[int(random.integers(len(pixels)))].astype(np.float32)


def _piece(photo: Bytes, height: int, width: int, random: np.random.Generator) -> Floats:
    """A piece of a photograph, which is reduced by up to 2 once the picture is."""
    scale = 2 * math.exp(random.uniform(math.log(0.5), 0))
    rows = min(len(photo), int(height / scale) + 2)
    columns = min(len(photo[0]), int(width / scale) + 2)
    top = int(random.integers(len(photo) - rows + 1))
    left = int(random.integers(len(photo[0]) - columns + 1))
    piece = Image.fromarray(photo[top : top + rows, left : left + columns])
    return np.asarray(piece.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _noise(height: int, width: int, random: np.random.Generator) -> Floats:
    """Noise of variance 1 whose amplitudes fall with a power of the frequency, as those of surfaces do."""
    spectrum = np.fft.rfft2(random.standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    noise = np.fft.irfft2(
        spectrum / (frequency + 1 / max(height, width)) ** random.uniform(0.6, 1.6), (height, width)
    )
    return ((noise - noise.mean()) / (noise.std() + 1e-6)).astype(np.float32)


def _mask(size: int, fonts: Sequence[Path], random: np.random.Generator) -> Floats:
    """Where a shape is, (size, size) from 0 to 1."""
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    outlines: list[Callable[[np.random.Generator], NDArray[np.float64]]] = [_ellipse, _bar, _polygon, _blob]
    kind = random.choice(6, p=[0.25, 0.25, 0.15, 0.15, 0.12, 0.08])
    if kind < len(outlines):
        draw.polygon(_placed(outlines[kind](random), size, random), fill=255)
    elif kind == len(outlines):
        _write_letters(draw, size, fonts, random)
        mask = mask.rotate(random.choice([0, random.uniform(-180, 180)]), Image.Resampling.BICUBIC)
    else:
        thickness = max(1, int(size * math.exp(random.uniform(math.log(0.01), math.log(0.1)))))
        bends = np.stack([np.linspace(-0.9, 0.9, 40), _smooth_walk(random)], axis=1)
        draw.line(_placed(bends, size, random), fill=255, width=thickness)
    return np.asarray(mask, np.float32) / np.float32(255)


def _ellipse(random: np.random.Generator) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * math.pi, 40)
    return np.stack([np.cos(angles), random.uniform(0.2, 1) * np.sin(angles)], axis=1)


def _bar(random: np.random.Generator) -> NDArray[np.float64]:
    thin = math.exp(random.uniform(math.log(0.03), 0))
    return np.array([(-1, -thin), (1, -thin), (1, thin), (-1, thin)]) / math.hypot(1, thin)


def _polygon(random: np.random.Generator) -> NDArray[np.float64]:
    corners = random.integers(3, 8)
    angles, radii = 2 * math.pi * np.sort(random.random(corners)), random.uniform(0.4, 1, corners)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _blob(random: np.random.Generator) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * math.pi, 60)
    radii = np.ones(60)
    for wave in range(2, 7):
        radii += 0.3 / wave * random.normal() * np.cos(wave * angles + random.uniform(0, 2 * math.pi))
    radii = np.clip(radii / radii.max(), 0.1, 1)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _smooth_walk(random: np.random.Generator) -> NDArray[np.float64]:
    """Forty numbers that pass through five at random."""
    knots = random.normal(0, 0.3, 5)
    place = np.linspace(0, 4, 40)
    before = np.minimum(place.astype(int), 3)
    share = place - before
    share = share**2 * (3 - 2 * share)
    return knots[before] * (1 - share) + knots[before + 1] * share


def _placed(points: NDArray[np.float64], size: int, random: np.random.Generator) -> list[tuple[float, float]]:
    """Points (N, 2) within the unit circle, turned, as pixels of a square of ``size``."""
    angle = random.uniform(0, 2 * math.pi)
    turn = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    return [(float(x), float(y)) for x, y in points @ turn.T * (size / 2 - 1) + size / 2]


def _write_letters(
    draw: ImageDraw.ImageDraw, size: int, fonts: Sequence[Path], random: np.random.Generator
) -> None:
    text = "".join(map(chr, random.integers(33, 127, size=random.integers(1, 9))))
    height = max(8, int(size / (0.62 * len(text))))
    font = ImageFont.truetype(_any(fonts, random), height) if fonts else ImageFont.load_default(height)
    draw.text((size / 2, size / 2), text, fill=255, font=font, anchor="mm")


def _any(items: Sequence[Item], random: np.random.Generator) -> Item:
    return items[int(random.integers(len(items)))]


def _write(picture: Bytes, path: Path) -> None:
    images.write(images.from_array(picture), path, force=True)


if __name__ == "__main__":
    main()
