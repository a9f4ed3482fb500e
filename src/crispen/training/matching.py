"""Whether two pictures show the same: copies of other size or encoding, and crops of one another.

A picture is first described by keypoints: corners at several sizes, each with the 8×8 blocks of pixels around it, free
of brightness and contrast (after Brown, Szeliski and Winder, "Multi-image matching using multi-scale oriented patches",
CVPR 2005, without the orientation, as a copy stands upright). Keypoints that look alike suggest how one picture lies on
the other; then the fine structure of what both show there is correlated, and only that decides. On the pictures of
Set5, Set14 and BSD100, enlarged, reduced, re-encoded, cropped to a quarter and pasted into others, this correlation was
0.90 or more, and 0.57 or less where unrelated photographs were laid on one another. A mirrored or turned copy is not
found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crispen.training.records import Bytes

Floats = NDArray[np.float32]

THUMBNAIL = 32
"""Side of a picture's thumbnail, in which copies are told."""
SAME = 0.92
"""Correlation of thumbnails above which two pictures are copies of one another."""

_LEAST_SIDE = 40  # of a picture in which a keypoint has room
_MOST_PIXELS = 1 << 20  # a larger picture is looked at reduced
_STEP = 0.5**0.5  # from one size of the picture to the next
_PIXELS_PER_KEYPOINT, _LEAST_KEYPOINTS = 1000, 16  # at each size
_PATCH, _BLOCK = 32, 4  # sides of what a keypoint sees, in pixels, and of what is averaged in it
_LEAST_CONTRAST = 0.15  # norm of a patch, of values in [0, 1] less their mean
_ALIKE = 0.9  # correlation of two patches that may show the same
_CANDIDATES = 3  # pictures to compare with closely
_LEAST_VOTES, _LEAST_MATCHES = 2.0, 4
_MOST_MATCHES = 64
_TOLERANCE = 4.0  # pixels, at the size in which a keypoint was seen
_LEAST_OVERLAP = 32  # pixels a side, of the coarser of two pictures
_OVERLAPPING = 0.75  # correlation of what two pictures show where one lies on the other
_LEAST_STRUCTURE = (
    0.1  # norm of a thumbnail's fine structure, of values in [0, 1]; less is that of an empty sky
)
_ROWS = 256  # keypoints to compare at a time


class Keypoints(NamedTuple):
    """What is conspicuous in a picture."""

    places: Floats
    """(K, 3): x and y in pixels of the picture, and how many of these a pixel was where the keypoint was seen."""
    patches: Floats
    """(K, 64): unit vectors without a mean; their products are correlations."""


class Overlap(NamedTuple):
    """A picture that shows a part of another, or all of it."""

    other: str
    """The other's name."""
    share: float
    """How much of the other's area it shows, at most 1."""
    correlation: float
    """Of the fine structure of what both show; 1 if it is equal."""


class Placement(NamedTuple):
    """How a picture lies on another: a point (x, y) of it is at scale·(x, y) + (left, top) there."""

    scale: float
    left: float
    top: float


class Gallery:
    """Pictures to find again in others.

    Args:
        pictures: each with a name, as RGB (H, W, 3).
    """

    def __init__(self, pictures: Sequence[tuple[str, Bytes]]) -> None:
        self._names = [name for name, _ in pictures]
        self._grays = [to_gray(picture) for _, picture in pictures]
        self._thumbnails = np.stack([thumbnail(gray) for gray in self._grays])
        self._keypoints = [find_keypoints(gray) for gray in self._grays]
        counts = np.array([len(keypoints.places) for keypoints in self._keypoints])
        self._owners = np.flatnonzero(counts)  # which pictures have keypoints at all
        self._starts = (np.cumsum(counts) - counts)[self._owners]
        self._patches = np.concatenate([keypoints.patches for keypoints in self._keypoints])

    def __len__(self) -> int:
        return len(self._names)

    def find(self, picture: Bytes) -> list[Overlap]:
        """Return which of the gallery's pictures this one, (H, W, 3), shows a part of, or is a part of."""
        gray = to_gray(picture)
        places = dict(self._suggest(gray))
        return [
            overlap
            for index, placement in sorted(places.items())
            if (overlap := self._compare(gray, index, placement)) and overlap.correlation > _OVERLAPPING
        ]

    def _suggest(self, gray: Tensor) -> Iterator[tuple[int, Placement]]:
        """Yield pictures that may show the same, and how the given one lies on each."""
        keypoints = find_keypoints(gray)
        for index, used in self._vote(keypoints):
            placement = _fit(*_match(keypoints, used, self._keypoints[index]))
            if placement:
                yield index, placement
        for index in np.flatnonzero(self._thumbnails @ thumbnail(gray) > SAME):
            if same_aspect(gray.shape[-2:], self._grays[index].shape[-2:]):
                yield int(index), Placement(self._grays[index].shape[-1] / gray.shape[-1], 0.0, 0.0)

    def _vote(self, keypoints: Keypoints) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield the pictures that most keypoints look alike in, each with these keypoints, the most telling first.

        A keypoint that is found in many pictures tells little: it has one vote, which they share.
        """
        if not (len(keypoints.places) and len(self._owners)):
            return
        alike = np.concatenate(
            [self._alike(keypoints.patches[i : i + _ROWS]) for i in range(0, len(keypoints.places), _ROWS)]
        )
        found_in = alike.sum(axis=1)
        votes = (alike / np.maximum(found_in, 1)[:, np.newaxis]).sum(axis=0)
        for column in np.argsort(-votes)[:_CANDIDATES]:
            if votes[column] >= _LEAST_VOTES:
                used = np.flatnonzero(alike[:, column])
                yield (
                    int(self._owners[column]),
                    used[np.argsort(found_in[used], kind="stable")][:_MOST_MATCHES],
                )

    def _alike(self, patches: Floats) -> NDArray[np.bool_]:
        """Whether each patch looks like one of each picture's: (K, pictures that have any)."""
        return np.maximum.reduceat(patches @ self._patches.T, self._starts, axis=1) > _ALIKE

    def _compare(self, gray: Tensor, index: int, placement: Placement) -> Overlap | None:
        """Correlate what both pictures show; None where that is next to nothing."""
        other, (scale, left, top) = self._grays[index], placement
        height, width = gray.shape[-2:]
        y, y_end = max(0.0, top), min(float(other.shape[-2]), scale * height + top)
        x, x_end = max(0.0, left), min(float(other.shape[-1]), scale * width + left)
        if min(y_end - y, x_end - x) < _LEAST_OVERLAP * max(1.0, scale):
            return None
        seen_there = _cut(other, y, y_end, x, x_end)
        seen_here = _cut(
            gray, (y - top) / scale, (y_end - top) / scale, (x - left) / scale, (x_end - left) / scale
        )
        share = (y_end - y) * (x_end - x) / (other.shape[-2] * other.shape[-1])
        return Overlap(self._names[index], share, float(thumbnail(seen_here) @ thumbnail(seen_there)))


def to_gray(picture: Bytes) -> Tensor:
    """(H, W, 3) to (1, 1, H, W) in [0, 1]."""
    return torch.from_numpy(picture.mean(axis=2, dtype=np.float32) / 255)[None, None]


def thumbnail(gray: Tensor) -> Floats:
    """Reduce (1, 1, H, W) to the fine structure of a thumbnail: a unit vector, or zero where there is none.

    The product of two is their correlation. What is coarse is left out, as most skies are bright above and dark below.
    """
    small = _resize(gray, THUMBNAIL, THUMBNAIL)
    fine = (small - _blur(small, 2.0)).flatten()
    fine = fine - fine.mean()
    norm = math.sqrt(float(fine.square().sum()))
    return (fine / norm if norm > _LEAST_STRUCTURE else torch.zeros_like(fine)).numpy()


def same_aspect(size: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two (height, width) differ by no more than rounding does in a small copy."""
    return abs(math.log(size[0] * other[1] / (size[1] * other[0]))) < 0.03


def find_keypoints(gray: Tensor) -> Keypoints:
    """Find the corners of (1, 1, H, W) at all its sizes."""
    found = [_corners(*level) for level in _pyramid(gray)]
    places = [places for places, _ in found]
    patches = [patches for _, patches in found]
    return Keypoints(
        np.concatenate([np.zeros((0, 3), np.float32), *places]),
        np.concatenate([np.zeros((0, (_PATCH // _BLOCK) ** 2), np.float32), *patches]),
    )


def _pyramid(gray: Tensor) -> Iterator[tuple[Tensor, float]]:
    """Yield the picture ever smaller, with how many of its pixels one is now."""
    height, width = gray.shape[-2:]
    size = max(1.0, math.sqrt(height * width / _MOST_PIXELS))
    while min(height, width) / size >= _LEAST_SIDE:
        yield _resize(gray, round(height / size), round(width / size)), size
        size /= _STEP


def _corners(level: Tensor, size: float) -> tuple[Floats, Floats]:
    """The places and patches of the strongest corners, by the harmonic mean of Brown et al. (their equation 2)."""
    smooth = _average(_average(level, 3), 3)
    across = smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]
    down = smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]
    xx, yy, xy = _average(torch.cat([across * across, down * down, across * down]), 5)[:, 0]
    strength = nn.functional.pad((xx * yy - xy * xy) / (xx + yy + 1e-6), (1, 1, 1, 1))
    highest = _highest_around(strength)
    inside = torch.zeros_like(strength, dtype=torch.bool)
    half = _PATCH // 2
    inside[half:-half, half:-half] = True
    y, x = torch.nonzero((strength == highest) & (strength > 1e-5) & inside, as_tuple=True)
    strongest = torch.argsort(strength[y, x], descending=True, stable=True)
    kept = strongest[: strength.numel() // _PIXELS_PER_KEYPOINT + _LEAST_KEYPOINTS]
    patches, telling = _patches(level, y[kept], x[kept])
    places = torch.stack([(x[kept] + 0.5) * size, (y[kept] + 0.5) * size, torch.full_like(kept, 1) * size], 1)
    return places[telling].float().numpy(), patches[telling].numpy()


def _highest_around(strength: Tensor) -> Tensor:
    """The maximum over the 13×13 pixels around each of (1, H, W), one direction after the other."""
    rows = nn.functional.max_pool2d(strength[None], (13, 1), stride=1, padding=(6, 0))
    return nn.functional.max_pool2d(rows, (1, 13), stride=1, padding=(0, 6))[0]


def _patches(level: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """What is seen around each (y, x): (K, 64) unit vectors, and (K,) whether there is anything to see."""
    blocks = nn.functional.avg_pool2d(level, _BLOCK, stride=1)[0, 0]
    steps = torch.arange(0, _PATCH, _BLOCK) - _PATCH // 2
    seen = blocks[y[:, None, None] + steps[:, None], x[:, None, None] + steps].flatten(1)
    seen = seen - seen.mean(dim=1, keepdim=True)
    contrast = seen.square().sum(dim=1, keepdim=True).sqrt()
    return seen / contrast.clamp(min=1e-6), contrast[:, 0] > _LEAST_CONTRAST


def _match(keypoints: Keypoints, used: NDArray[np.intp], others: Keypoints) -> tuple[Floats, Floats]:
    """The places (K, 3) of these keypoints, and of those among the others that look most like them."""
    nearest = (keypoints.patches[used] @ others.patches.T).argmax(axis=1)
    return keypoints.places[used], others.places[nearest]


def _fit(here: Floats, there: Floats) -> Placement | None:
    """The placement on which most matches agree, where enough do: each two of them suggest one."""
    first, second = np.triu_indices(len(here), 1)
    apart_here, apart_there = (places[second, :2] - places[first, :2] for places in (here, there))
    scales = (apart_here * apart_there).sum(1) / np.maximum((apart_here**2).sum(1), 1e-6)
    agreeing = np.abs(np.log2(np.maximum(scales, 1e-6) * here[first, 2] / there[first, 2])) < 0.75
    if not agreeing.any():
        return None
    scales, first = scales[agreeing], first[agreeing]
    offsets = there[first, :2] - scales[:, np.newaxis] * here[first, :2]
    expected = scales[:, np.newaxis, np.newaxis] * here[:, :2] + offsets[:, np.newaxis]  # (hypotheses, K, 2)
    reach = _TOLERANCE * np.maximum(there[:, 2], scales[:, np.newaxis] * here[:, 2])
    explained = np.hypot(*np.moveaxis(expected - there[:, :2], 2, 0)) < reach
    best = explained[explained.sum(axis=1).argmax()]
    return _refine(here[best, :2], there[best, :2]) if best.sum() >= _LEAST_MATCHES else None


def _refine(here: Floats, there: Floats) -> Placement | None:
    """Least squares over matches (K, 2)."""
    middle_here, middle_there = here.mean(axis=0), there.mean(axis=0)
    spread = float(((here - middle_here) ** 2).sum())
    scale = float(((here - middle_here) * (there - middle_there)).sum()) / max(spread, 1e-6)
    left, top = (middle_there - scale * middle_here).tolist()
    return Placement(scale, left, top) if scale > 0 else None


def _cut(gray: Tensor, y: float, y_end: float, x: float, x_end: float) -> Tensor:
    return gray[..., round(y) : max(round(y_end), round(y) + 1), round(x) : max(round(x_end), round(x) + 1)]


def _resize(gray: Tensor, height: int, width: int) -> Tensor:
    return nn.functional.interpolate(gray, size=(height, width), mode="bilinear", antialias=True)


def _average(planes: Tensor, side: int) -> Tensor:
    """Average over squares around each pixel, inside the picture."""
    return nn.functional.avg_pool2d(planes, side, stride=1, padding=side // 2, count_include_pad=False)


def _blur(planes: Tensor, sigma: float) -> Tensor:
    """Blur (N, 1, H, W) by a Gaussian; beyond the border it goes on as it comes, so that a ramp stays as it is."""
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights = (weights / weights.sum())[None, None]
    edge, mirrored = (nn.functional.pad(planes, (reach,) * 4, mode=mode) for mode in ("replicate", "reflect"))
    across = nn.functional.conv2d(2 * edge - mirrored, weights[..., None, :])
    return nn.functional.conv2d(across, weights[..., None])
