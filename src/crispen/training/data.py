"""Training pictures, cropped at random out of a memory-mapped cache.

The low-resolution picture is made once from the whole high-resolution one, by MATLAB's bicubic as the benchmarks
are, so that crops have no borders of their own; or, where a recipe says so, for each crop anew by
`crispen.training.degradation`. Which crops a step sees depends on (seed, step) alone, and what is done to one of
them on (seed, step, its place in the batch).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispen.errors import DataError
from crispen.training.cache import HR, LR, Pair, Watch, find_cache, in_silence, mark_used, read_index
from crispen.training.degradation import degrade, degrade_repeatably, sharpen
from crispen.training.recipe import DegradationTable
from crispen.training.recolouring import Recolouring, make_gray
from crispen.training.records import Bytes
from crispen.training.resident import Choice, Integers, Resident
from crispen.training.sources import Purpose, Source
from crispen.training.teacher import Teacher

_PIXEL = np.dtype("V3")  # three bytes as one element: NumPy turns a picture twice as fast then

_MARGIN = 16  # small pixels beside a crop, both sides together, that are spoilt with it and then cut off
_LEAST_MARGIN = 4  # on either side; drawn up to 8 more, so that JPEG's blocks begin anywhere in the crop


_FINENESS = 1 << 20  # in units of a crop, where those of reductions are counted to be evened out


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a step sees. Pictures lie channels-last in memory."""

    lr: Tensor
    """(N, 3, P/scale, P/scale) in [0, 1]."""
    hr: Tensor
    """(N, 3, P, P) in [0, 1]."""
    labels: Tensor | None
    """(N,) int64; None where not all pictures have one."""


class Dataset:
    """Pairs of a low- and a high-resolution picture, memory-mapped.

    Args:
        folder: what `crispen.training.cache.find_cache` returns.
        scale: high-resolution pixels per low-resolution pixel.
        patch_size: pictures with a side below this are left out.
        reductions: those that the pictures come in.
        purpose: what they are for.
    """

    def __init__(
        self,
        folder: Path,
        *,
        scale: int,
        patch_size: int,
        reductions: Sequence[int] = (1,),
        purpose: Purpose = "train",
    ) -> None:
        self.scale = scale
        self._folder = folder
        pairs, self.skipped = read_index(folder)
        side = patch_size // scale
        needed = f"{'validation needs' if purpose == 'valid' else 'a patch'} {patch_size}x{patch_size}"
        self.pairs = [pair for pair in pairs if min(pair.height, pair.width) >= side]
        """Where each picture stands, in the order of their names."""
        self.skipped += [
            f"{pair.name} has {pair.width * scale}x{pair.height * scale} pixels, but {needed}"
            for pair in pairs
            if min(pair.height, pair.width) < side and pair.reduction == min(reductions)
        ]
        self.skipped += _too_small_once_reduced(self.pairs, reductions, patch_size)
        """A sentence for each file that could not be read, each picture that is too small, each reduction by which some
        become so."""
        self._lr, self._hr = (_map_file(folder / name) for name in (LR, HR))
        self._sides = np.array([(pair.height, pair.width) for pair in self.pairs], np.int64).reshape(-1, 2)
        self._reductions = np.array([pair.reduction for pair in self.pairs], np.int64)
        self._labels = np.array([-1 if pair.label is None else pair.label for pair in self.pairs], np.int64)
        self.num_pictures = len({pair.picture for pair in self.pairs})
        """How many pictures there are, each counted once in whatever reductions it is here."""
        self.labelled = bool((self._labels >= 0).all())
        """Whether every picture has a label."""
        self._resident: Resident | None = None
        self._spoilt_as: DegradationTable | None = None
        self._spoilt: dict[Pair, Bytes] = {}

    def subset(self, count: int | None) -> Dataset:
        """The same with ``count`` pictures, evenly chosen, each in all of its reductions.

        All of them for None, or where there are no more.
        """
        made_of: dict[str, list[int]] = {}
        for index, pair in enumerate(self.pairs):
            made_of.setdefault(pair.picture, []).append(index)
        if count is None or count >= len(made_of):
            return self
        pictures = list(made_of.values())
        chosen = [index for place in range(count) for index in pictures[place * len(pictures) // count]]
        fewer = copy.copy(self)
        fewer.pairs, fewer.num_pictures = [self.pairs[index] for index in chosen], count
        fewer._sides, fewer._labels, fewer._reductions = (
            of_all[chosen] for of_all in (self._sides, self._labels, self._reductions)
        )
        return fewer

    def degraded(self, table: DegradationTable) -> Dataset:
        """The same with small versions that are spoilt, each in its own way that never changes: to be validated on.

        A picture is spoilt when it is first asked for, which takes about a quarter of a second for each megapixel, and
        then kept.
        """
        spoilt = copy.copy(self)
        spoilt._spoilt_as, spoilt._spoilt = table, {}
        return spoilt

    def resident(self, device: torch.device) -> Dataset:
        """The same with its pictures in the memory of a device, where batches are then made, equal to the bit.

        Raises:
            TrainingError: where there is too little of it.
        """
        there = copy.copy(self)
        there._resident = Resident(self.pairs, self._lr, self._hr, scale=self.scale, device=device)
        return there

    def mark_used(self) -> None:
        """Keep the cache from being thought forgotten; to be called now and then by what runs for weeks."""
        mark_used(self._folder)

    def __len__(self) -> int:
        return len(self.pairs)

    def label(self, index: int) -> int | None:
        """The picture's label; None where it has none."""
        return self.pairs[index].label

    def lr(self, index: int) -> Bytes:
        """The small picture: (H, W, 3)."""
        pair = self.pairs[index]
        if self._spoilt_as is not None:
            if pair not in self._spoilt:
                self._spoilt[pair] = degrade_repeatably(
                    self.hr(index), scale=self.scale, table=self._spoilt_as
                )
            return self._spoilt[pair]
        return _picture_at(self._lr, pair.lr_offset, pair.height, pair.width)

    def hr(self, index: int) -> Bytes:
        """The large picture: (H·scale, W·scale, 3)."""
        pair = self.pairs[index]
        return _picture_at(self._hr, pair.hr_offset, pair.height * self.scale, pair.width * self.scale)

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """A picture as a batch of one: (1, 3, H, W) and (1, 3, H·scale, W·scale) in [0, 1]."""
        lr, hr = (torch.from_numpy(pixels[np.newaxis].copy()) for pixels in (self.lr(index), self.hr(index)))
        return _to_tensor(lr), _to_tensor(hr)

    def batch(
        self,
        *,
        seed: int,
        step: int,
        patch_size: int,
        batch_size: int,
        candidates: int = 1,
        augment: bool = True,
        flat_share: float = 0.0,
        recoloured_share: float = 0.0,
        gray_share: float = 0.0,
        degradation: DegradationTable | Mapping[str, Any] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> Batch:
        """Random crops, the same for the same (seed, step).

        Pictures are drawn by their number of crops, those that were reduced so much the more often that each reduction
        has the same share of what is drawn; within a reduction each crop is equally likely. Of several ``candidates``
        the one with the most detail is taken (in the manner of Wang et al., "SamplingAug", BMVC 2021).

        Args:
            seed: of the run, or of a stage of it.
            step: of the run, from 0.
            patch_size: P, a multiple of the scale.
            batch_size: N, all parts together.
            candidates: crops drawn for each that is taken.
            augment: turn each crop by a random multiple of 90 degrees, and mirror every other.
            flat_share: how many of the crops, on average, are replaced by a single colour.
            recoloured_share: how many get their channels in another order, and how many are blended with a colour.
            gray_share: how many are made gray, after that, with luma for each of their colours.
            degradation: how the small crops are spoilt, the recipe's table or its content; None leaves them as they
                are. Crops of a single colour are left so in any case.
            part: (rank, parts): return only that one of so many slices of the batch, which together are the whole.
        """
        table = None if degradation is None else DegradationTable.model_validate(degradation)
        random = np.random.default_rng([seed, step])
        side = patch_size // self.scale
        drawn = self._draw(random, side, (batch_size, candidates))
        symmetry = random.integers(8, size=batch_size) if augment else np.zeros(batch_size, np.int64)
        is_flat, colours = _draw_flat(random, batch_size, flat_share)
        rank, parts = part
        own = slice(batch_size * rank // parts, batch_size * (rank + 1) // parts)
        choice = Choice(drawn[own], symmetry[own], is_flat[own], colours[own])
        if self._resident is not None and table is None:
            lr, hr, indices = self._resident.crops(choice, side)
        else:
            spoiling = [_generator(seed, step, place=place) for place in range(own.start, own.stop)]
            made = self._crops(choice, side, table, spoiling)
            lr, hr, indices = (torch.from_numpy(array) for array in made)
        labels = torch.from_numpy(self._labels).to(indices.device)[indices] if self.labelled else None
        batch = Batch(_to_tensor(lr), _to_tensor(hr), labels)
        if recoloured_share:
            recolour = Recolouring.draw(random, batch_size, share=recoloured_share).of(own)
            batch = Batch(recolour(batch.lr), recolour(batch.hr), labels)
        if gray_share:
            is_gray = (random.random(batch_size) < gray_share)[own]
            batch = Batch(make_gray(batch.lr, is_gray), make_gray(batch.hr, is_gray), labels)
        return batch

    def _crops(
        self,
        choice: Choice,
        side: int,
        table: DegradationTable | None,
        spoiling: Sequence[np.random.Generator],
    ) -> tuple[Bytes, Bytes, Integers]:
        """What `Resident.crops` returns, made here; spoilt, with a generator for each crop, where there is a table."""
        crops = np.array([self._most_detailed(row, side) for row in choice.crops], np.int64).reshape(-1, 3)
        lr = np.empty((len(crops), side, side, 3), np.uint8)
        hr = np.empty((len(crops), side * self.scale, side * self.scale, 3), np.uint8)
        for place, (crop, turn) in enumerate(zip(crops, choice.symmetry, strict=True)):
            if table is None:
                lr[place], hr[place] = self._clean(crop, side, symmetry=int(turn))
            elif not choice.is_flat[place]:
                lr[place], hr[place] = self._degraded(
                    crop, side, symmetry=int(turn), table=table, random=spoiling[place]
                )
        for place in np.flatnonzero(choice.is_flat):
            lr[place] = hr[place] = choice.colours[place]
        return lr, hr, crops[:, 0]

    def _draw(self, random: np.random.Generator, side: int, size: tuple[int, int]) -> Integers:
        """Draw crops evenly from all there are: size + (3,) of a picture's index, and y and x in its small version."""
        rows, columns = np.maximum(self._sides - side + 1, 0).T
        crops = rows * columns
        weights = _evening(crops, self._reductions)
        tickets = crops * weights
        ends = np.cumsum(tickets)  # how many there are up to the end of each picture
        drawn = random.integers(ends[-1], size=size)
        index = np.searchsorted(ends, drawn, side="right")
        y, x = np.divmod((drawn - (ends - tickets)[index]) // weights[index], columns[index])
        return np.stack([index, y, x], axis=-1)

    def _most_detailed(self, crops: Integers, side: int) -> Integers:
        """Of crops (candidates, 3) the one with the most detail: (3,)."""
        if len(crops) == 1:
            return crops[0]
        return crops[np.argmax([_detail(self._crop(crop, side)[0]) for crop in crops])]

    def _clean(self, crop: Integers, side: int, *, symmetry: int) -> tuple[Bytes, Bytes]:
        """A crop of both versions, as one of the eight symmetries of the square."""
        lr, hr = self._crop(crop, side)
        return _turned(lr, symmetry=symmetry), _turned(hr, symmetry=symmetry)

    def _degraded(
        self,
        crop: Integers,
        side: int,
        *,
        symmetry: int,
        table: DegradationTable,
        random: np.random.Generator,
    ) -> tuple[Bytes, Bytes]:
        """The same with a small version that is made of the large one, unless it is among those that stay clean.

        The large one is turned first, as encoders know up from down, and has a margin as far as the picture reaches:
        what is done at the crop's border depends on what lies beyond.
        """
        is_clean = random.random() < table.clean_share
        window, (top, left) = self._window(crop, side, symmetry=symmetry, random=random)
        if is_clean:
            lr, _ = self._clean(crop, side, symmetry=symmetry)
        else:
            lr = degrade(window, scale=self.scale, table=table, random=random)[_square(top, left, side)]
        target = sharpen(window, weight=table.sharpen_targets) if table.sharpen_targets else window
        return lr, target[_square(top * self.scale, left * self.scale, side * self.scale)]

    def _window(
        self, crop: Integers, side: int, *, symmetry: int, random: np.random.Generator
    ) -> tuple[Bytes, tuple[int, int]]:
        """A crop of the large version, turned, with some of what is around it; and where it is in there.

        That is the corner, in pixels of the small version.
        """
        index, *corner = map(int, crop)
        spans: list[slice] = []
        margins: list[tuple[int, int]] = []
        for start, length in zip(corner, self._sides[index], strict=True):
            before = int(random.integers(_LEAST_MARGIN, _MARGIN - _LEAST_MARGIN))
            first = max(0, start - before)
            last = min(int(length), start + side + _MARGIN - before)
            spans.append(slice(first * self.scale, last * self.scale))
            margins.append((start - first, last - start - side))
        window = _turned(self.hr(index)[spans[0], spans[1]], symmetry=symmetry)
        (top, bottom), (left, right) = reversed(margins) if symmetry & 4 else margins
        return window, (bottom if symmetry & 2 else top, right if symmetry & 1 else left)

    def _crop(self, crop: Integers, side: int) -> tuple[Bytes, Bytes]:
        """The same crop, one of `_draw`'s, of both versions; the side in pixels of the small one."""
        index, y, x = map(int, crop)
        small, large = _square(y, x, side), _square(y * self.scale, x * self.scale, side * self.scale)
        return self.lr(index)[small], self.hr(index)[large]


def open_dataset(
    sources: Sequence[Source],
    *,
    scale: int,
    patch_size: int,
    cache: Path,
    purpose: Purpose = "train",
    reductions: Sequence[int] = (1,),
    teacher: Teacher | None = None,
    watch: Watch = in_silence,
) -> Dataset:
    """Open the pictures of sources, building their cache on the first use.

    Args:
        sources: paths or URLs of what `crispen.training.sources` lists.
        scale: high-resolution pixels per low-resolution pixel.
        patch_size: pictures with a side below this are left out; for validation, where they are whole, any least side.
        cache: folder to keep decoded pictures in; the same pictures are decoded once.
        purpose: which part to take of a source that has one for training and one for validation.
        reductions: factors by which each picture is reduced before, each making a picture of its own; 1 keeps it.
        teacher: what has a part in the large pictures.
        watch: on the first use, takes the pictures one by one as they are decoded: the place to draw a bar.

    Raises:
        DataError: where a source is missing, no picture of use is found, or the cache cannot be written.
        MissingExtra: for a URL where fsspec is not installed.
    """
    folder = find_cache(
        sources,
        scale=scale,
        cache=cache,
        purpose=purpose,
        reductions=reductions,
        teacher=teacher,
        watch=watch,
    )
    dataset = Dataset(folder, scale=scale, patch_size=patch_size, reductions=reductions, purpose=purpose)
    if not dataset.pairs:
        names, size = ", ".join(str(source) for source in sources), f"{patch_size}x{patch_size} pixels"
        if min(reductions) > 1:
            raise DataError(f"no picture in {names} has {size} once it is reduced by {min(reductions)}")
        raise DataError(f"no picture of at least {size} in {names}")
    return dataset


def _too_small_once_reduced(pairs: Sequence[Pair], reductions: Sequence[int], patch_size: int) -> list[str]:
    """A sentence for each reduction that leaves some of the pictures without a patch."""
    counts = Counter(pair.reduction for pair in pairs)
    least, *others = sorted(set(reductions))
    return [
        f"{counts[least] - counts[factor]} of {counts[least]} pictures reduced by {factor}:"
        f" they are smaller than a patch of {patch_size}x{patch_size} then"
        for factor in others
        if counts[factor] < counts[least]
    ]


def _map_file(path: Path) -> Bytes:
    return np.asarray(np.memmap(path, np.uint8, "r"))  # slicing is slower while it is a memmap


def _picture_at(buffer: Bytes, offset: int, height: int, width: int) -> Bytes:
    return buffer[offset : offset + height * width * 3].reshape(height, width, 3)


def _square(y: int, x: int, side: int) -> tuple[slice, slice]:
    return slice(y, y + side), slice(x, x + side)


def _detail(picture: Bytes) -> int:
    """The absolute differences of neighbouring pixels in green, which is nearest to luma, added up."""
    green = picture[:, :, 1].astype(np.int16)
    return int(np.abs(np.diff(green, axis=0)).sum() + np.abs(np.diff(green, axis=1)).sum())


def _evening(crops: Integers, reductions: Integers) -> Integers:
    """How often each picture's crops are to be counted for all reductions to have as many, to a millionth.

    Args:
        crops: of each picture.
        reductions: of each picture.
    """
    totals = np.bincount(reductions, crops)
    there = totals > 0
    counts = np.zeros(len(totals), np.int64)
    counts[there] = np.rint(_FINENESS * totals.max() / totals[there])
    return (counts // np.gcd.reduce(counts))[reductions]


def _draw_flat(random: np.random.Generator, count: int, share: float) -> tuple[NDArray[np.bool_], Bytes]:
    """Which of ``count`` crops are to have a single colour, and colours (count, 3) for all.

    A third of these are any, a third have each channel at an end of its range, a third are black or white.
    """
    is_flat = random.random(count) < share if share else np.zeros(count, np.bool_)
    anywhere = random.integers(256, size=(count, 3), dtype=np.uint8)
    ends = (255 * random.integers(2, size=(count, 3))).astype(np.uint8)
    kinds = np.stack([anywhere, ends, np.repeat(ends[:, :1], 3, axis=1)])
    return is_flat, kinds[random.integers(3, size=count), np.arange(count)]


def _turned(source: Bytes, *, symmetry: int) -> Bytes:
    """Copy a picture (H, W, 3) as one of the eight symmetries of the square, of which 0 changes nothing."""
    pixels = source.view(_PIXEL)
    pixels = pixels.swapaxes(0, 1) if symmetry & 4 else pixels
    return pixels[:: -1 if symmetry & 2 else 1, :: -1 if symmetry & 1 else 1].copy().view(np.uint8)


def _generator(seed: int, step: int, *, place: int) -> np.random.Generator:
    """A generator for what is done to one crop of a step, apart from all others and from the step's own."""
    return np.random.default_rng(np.random.SeedSequence([seed, step], spawn_key=(place,)))


def _to_tensor(pictures: Tensor) -> Tensor:
    """(N, H, W, 3) of uint8 to (N, 3, H, W) in [0, 1], which lies in memory as the pictures do."""
    return pictures.permute(0, 3, 1, 2) / 255
