"""Pictures on which a network learns the ranges of its 8 bits: the user's, or generated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crispen import images
from crispen.export.parity import Pixels

_SIDE = 96  # of the crops, in pixels: beyond that, calibration takes long and learns little
_DISCS = 400
_KINDS = [(0.16, 0.0), (0.5, 0.0), (1.0, 0.0), (0.3, 0.15)]  # saturation and grain of the generated pictures
_LETTERS = (11, 15, 20, 26, 34)  # heights in pixels, before they are reduced
_PAGES = [  # paper and ink
    ("white", "black"),
    ("black", "white"),
    ("white", "#555555"),
    ("#f4ecd8", "#3a2a1a"),
    ("#3070f0", "white"),
]
_TEXT = "The quick brown fox jumps over the lazy dog; 0123456789 SPHINX OF BLACK QUARTZ, (judge) my vow!"


def read_pictures(folder: Path) -> list[Pixels]:
    """Return the middle of every picture in a folder, (1, 3, H, W) in [0, 1], at most 96 pixels a side.

    They should be such as the network is meant to enlarge, and a dozen or more.

    Raises:
        DataError: where the folder holds none, or cannot be read.
        PictureError: for a picture that cannot be read.
    """
    return [_middle(images.to_depth(images.read(path).pixels, 32)) for path in images.in_folder(folder)]


def _middle(pixels: NDArray[Any]) -> Pixels:
    """(H, W, C) to (1, 3, H, W) of at most `_SIDE` pixels a side."""
    top, left = (max(side - _SIDE, 0) // 2 for side in pixels.shape[:2])
    crop = pixels[top : top + _SIDE, left : left + _SIDE].transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(crop, (3, *crop.shape[1:])))[None]


def flat_colours() -> Pixels:
    """Return the eight most extreme colours, black and white among them, in flat areas: (1, 3, 64, 64)."""
    corners = np.indices((2, 2, 2), np.float32).reshape(3, 8)
    areas = np.random.default_rng(0).permuted(np.tile(np.arange(8), 2)).reshape(4, 4)
    return np.kron(corners[:, areas], np.ones((1, 16, 16), np.float32))[None]


def small_print() -> list[Pixels]:
    """Return text in five sizes and five pairs of colours, (1, 3, 64, 96) each.

    It drives some channels far beyond what photographs and flat white do. It is real text, reduced to a quarter, as
    networks have learnt to know letters: random strokes of the same size do not.
    """
    return [_page(size, paper, ink) for size in _LETTERS for paper, ink in _PAGES]


def _page(size: int, paper: str, ink: str) -> Pixels:
    page = Image.new("RGB", (4 * _SIDE, 4 * 64), paper)
    lines = [_TEXT[start:] + _TEXT[:start] for start in range(0, len(_TEXT), 7)]
    ImageDraw.Draw(page).text((6, 6), "\n".join(lines), fill=ink, font=ImageFont.load_default(size))
    return _middle(images.resize(images.to_depth(np.asarray(page), 32), 1 / 4).clip(0, 1))


def generated_pictures() -> list[Pixels]:
    """Return pictures to calibrate on where there are no others, (1, 3, H, W) in [0, 1], always the same.

    They are dead leaves: discs of all sizes, each covering what was there before, which have the edges and the
    distribution over scales of photographs (Lee, Mumford and Huang, "Occlusion models for natural images",
    IJCV 2001). Many are black or white, for the sake of the range; some have the brightest colours next to each other,
    and some are covered with grain, as sand and fur are: over ranges of grayish, smooth leaves alone, such photographs
    agreed with the original up to 5 dB less than others. Each kind comes twice: once to measure on, once to check with.
    """
    random = np.random.default_rng(0)
    kinds = [kind for kind in _KINDS for _ in range(2)]
    return [_grainy(_dead_leaves(random, saturation), grain, random) for saturation, grain in kinds]


def _grainy(picture: Pixels, grain: float, random: np.random.Generator) -> Pixels:
    """Add gray noise of the standard deviation ``grain``, of which 1 is white."""
    noise = np.float32(grain) * random.standard_normal((1, 1, *picture.shape[2:]), dtype=np.float32)
    return (picture + noise).clip(0, 1)


def _dead_leaves(random: np.random.Generator, saturation: float) -> Pixels:
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    picture = np.zeros((3, _SIDE, _SIDE), np.float32)
    radii = random.uniform(1 / _SIDE**2, 1, _DISCS) ** -0.5  # their density falls with the cube
    for radius, row, column in zip(radii, *random.uniform(0, _SIDE, (2, _DISCS)), strict=True):
        cover = np.clip(radius - np.hypot(y - row, x - column) + 0.5, 0, 1)
        brightness, hue = random.uniform(-0.3, 1.3), random.uniform(-saturation, saturation, (3, 1, 1))
        picture += (np.clip(brightness + hue, 0, 1) - picture) * cover
    return picture[None]
