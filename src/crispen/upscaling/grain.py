"""A photo's own grain: measured before it is enlarged, and given back as far as the network has taken it away.

A network that enlarges smooths fine noise, and the result looks like wax beside the photo. Here the noise's standard
deviation is measured in luma, on windows that hold as good as nothing else (the idea of Liu, Tanaka and Okutomi,
"Single-Image Noise Level Estimation for Blind Denoising", IEEE TIP 2013, with a plane in place of their covariances);
some of these are enlarged, and measured again; and what is missing is added, the same to all channels, as one does
with film (Norkin and Birkbeck, "Film Grain Synthesis for AV1 Video Codec", DCC 2018). The grain is made, not the
photo's: its level is kept, and its size in pixels, so that the enlargement, seen pixel by pixel, looks as the photo
does, which is finer on paper.

Of pictures that follow each other, `SteadyGrain` makes the grain of each anew, as film has it, and its level steady.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from crispen import images
from crispen.images import WHITE_OF, Picture, Pixels
from crispen.tiling import Box
from crispen.upscaling.rows import extent_of, part

_LUMA = (0.299, 0.587, 0.114)  # BT.601

_SIDE = 16  # of the windows in which noise is measured
# Of the windows, the flattest are taken to hold nothing but noise. Measured on 12 photographs with and without noise
# of 3 to 12 levels of 255: with 0.1 a lawn counts for 4.6 levels, with 0.02 for 2.5; noise is met within 10 % by both.
_SHARE, _FEWEST = 0.02, 6
# How much more variance noise has than its finest part, where it is correlated as a camera's is: over 1.4 pixels. Sand
# and foliage have more: this halves what they count for.
_CORRELATED = 4.0
_BINS_PER_OCTAVE, _OCTAVES = 4, 40  # of the windows' variances, from 1 down
_BINS = _BINS_PER_OCTAVE * _OCTAVES
_SAMPLES, _MARGIN = 6, 16  # how many windows are enlarged, and how many pixels around each
_VISIBLE = 0.5 / 255  # below this level a picture counts as clean

_MEMORY = 24  # frames: a second of film, over which the error of measuring one becomes a fifth
_UNLIKE = 2.25  # by what factor variances differ where a scene has changed
_CONVINCED = 2  # frames in succession by which that is known

_PERIOD = 1024  # pixels after which grain repeats itself
_COARSEST = 32  # more, and what it is reduced to has too few windows for its level to be measured
_BLUR = (
    0.5  # standard deviation in pixels: neighbours share a little, as a camera's do, and not as a sensor's
)
_EXTREME = 3.0  # standard deviations, beyond which there is no grain
_ROWS_AT_ONCE = 256

_ROWS, _COLUMNS = np.indices((_SIDE, _SIDE)).reshape(2, -1)
_EVEN = (_ROWS + _COLUMNS) % 2 == 0
_FROM_MIDDLE = np.stack([_ROWS, _COLUMNS]).astype(np.float32) - (_SIDE - 1) / 2
_SLOPES = _FROM_MIDDLE / np.linalg.norm(
    _FROM_MIDDLE, axis=1, keepdims=True
)  # with the mean, a basis of all planes


class Sample(NamedTuple):
    """A flat place of a picture."""

    picture: Picture
    """The window with what lies around it."""
    window: Box
    """Where in the picture it lies."""


class Noise:
    """The noise of a picture, all strips of which are looked at once. Takes the same memory for any picture.

    Args:
        luma: how much red, green and blue count for luma, in which noise is measured.
    """

    def __init__(self, *, luma: Sequence[float] = _LUMA) -> None:
        self.luma: NDArray[np.float32] = np.asarray(luma, np.float32)
        self._counts = np.zeros(_BINS)
        self._sums = np.zeros(_BINS)
        self._flattest: list[tuple[float, Sample]] = []

    def look(self, strip: Picture) -> None:
        """Measure the windows of a strip of which nothing is black, white or transparent."""
        windows = _windows(strip, self.luma)
        bins = _bins(windows.roughness)
        self._counts += np.bincount(bins, minlength=_BINS)
        self._sums += np.bincount(bins, windows.variance, minlength=_BINS)
        found = np.argsort(windows.roughness, kind="stable")[:_SAMPLES]
        samples = [(float(windows.roughness[i]), _sample(strip, *windows.corners[i].tolist())) for i in found]
        self._flattest = sorted(self._flattest + samples, key=lambda one: one[0])[:_SAMPLES]

    @property
    def level(self) -> float:
        """The standard deviation in luma, of [0, 1]; 0 where there is no window to tell."""
        total = self._counts.sum()
        if total == 0:
            return 0.0
        wanted = min(total, max(_FEWEST, _SHARE * total))
        until = int(np.count_nonzero(self._counts.cumsum() < wanted)) + 1
        return _root(float(np.sum(self._sums[:until])) / float(np.sum(self._counts[:until])))

    @property
    def samples(self) -> list[Sample]:
        """The flattest windows."""
        return [sample for _, sample in self._flattest]


@dataclass(frozen=True, slots=True)
class Grain:
    """Noise that is added to a result."""

    level: float = 0.0
    """Its standard deviation, of [0, 1], once the result has its final size; 0 adds nothing."""
    coarseness: float = 1.0
    """By how much the result will be reduced afterwards, at least 1."""
    frame: int = 0
    """Which of the pictures that follow each other it is for: it lies otherwise in each, and in the same way again."""
    texture: Box | None = None
    """Where a seamless texture lies in a result that has some of its repetitions around it: their grain is its own."""

    def add_to(self, channels: NDArray[np.float32], box: Box) -> None:
        """Add to (C, H, W) in [0, 1] what belongs where ``box`` lies in the result.

        It depends on nothing but the frame, the place and the values there. Towards black and white it fades, so
        that none is cut off and the mean stays.
        """
        if self.level == 0:
            return
        field = _field(min(self.coarseness, _COARSEST))
        down, across = np.random.default_rng(self.frame).integers(_PERIOD, size=2) if self.frame else (0, 0)
        rows, columns = np.arange(box.top, box.bottom), np.arange(box.left, box.right)
        if self.texture is not None:
            rows = (rows - self.texture.top) % self.texture.height
            columns = (columns - self.texture.left) % self.texture.width
        place = np.ix_((rows + down) % _PERIOD, (columns + across) % _PERIOD)
        grain = field[place] * np.float32(self.level)
        most = np.float32(self.level * np.abs(field).max())
        for channel in channels:
            share = np.minimum(channel, 1 - channel)
            share /= most
            np.minimum(share, 1, out=share)
            share *= grain
            channel += share


NO_GRAIN = Grain()
"""What is added to a clean picture, and where nobody asked for grain."""


class SteadyGrain:
    """The grain of pictures that follow each other: anew in each, and of a level that does not flicker.

    What is measured of a picture is off by some percent, now up and now down, and grain of that level would pump. The
    variance is therefore the mean over the pictures so far, and from the 24th on a running mean that forgets as
    slowly. Two pictures in succession with less than half or more than twice the variance are a new scene, with a mean
    of its own; one alone, such as a flash, does not count.

    Args:
        state: what another had as its `state`, to go on exactly as it would.
    """

    def __init__(self, state: Sequence[float] = (0.0, 0, 0)) -> None:
        self._variance = float(state[0])
        self._count, self._unlike = int(state[1]), int(state[2])

    @property
    def state(self) -> tuple[float, int, int]:
        """All that the next picture's grain depends on beside that picture."""
        return self._variance, self._count, self._unlike

    def follow(self, measured: Grain, *, frame: int) -> Grain:
        """Return the grain for a picture, by what was measured of it and of those before it.

        Args:
            measured: what `missing_grain` says of the picture alone.
            frame: the picture's number, which the place of its grain depends on.
        """
        self._take(measured.level**2)
        return replace(measured, level=_root(self._variance), frame=frame)

    def _take(self, variance: float) -> None:
        if self._count and not _alike(variance, self._variance):
            self._unlike += 1
            if self._unlike < _CONVINCED:
                return
            self._count = 0
        self._unlike = 0
        self._count = min(self._count + 1, _MEMORY)
        self._variance += (variance - self._variance) / self._count


def _alike(one: float, other: float) -> bool:
    """Whether two variances can be those of one scene."""
    return max(one, other) <= _UNLIKE * min(one, other) + (2 * _VISIBLE) ** 2


def grained(pixels: Pixels, grain: Grain) -> Pixels:
    """Return a copy of a picture of any depth, (H, W, C), with grain. Little more memory is taken than for that."""
    white = np.float32(WHITE_OF[8 * pixels.dtype.itemsize])
    result = np.empty_like(pixels)
    for top in range(0, len(pixels), _ROWS_AT_ONCE):
        rows = slice(top, min(top + _ROWS_AT_ONCE, len(pixels)))
        channels = np.divide(pixels[rows].transpose(2, 0, 1), white, dtype=np.float32)
        grain.add_to(channels, Box(rows.start, 0, rows.stop, pixels.shape[1]))
        values = channels.transpose(1, 2, 0) * white
        result[rows] = values if pixels.dtype == np.float32 else np.rint(values)
    return result


def missing_grain(noise: Noise, enlarge: Callable[[Picture], Picture], *, coarseness: float = 1.0) -> Grain:
    """What a result lacks of the noise of its picture.

    Args:
        noise: that of the whole picture.
        enlarge: makes the result, in its final size, of a picture; it is called with a few small ones.
        coarseness: see `Grain`.
    """
    level = noise.level
    if level < _VISIBLE:
        return Grain(0.0, coarseness)
    large = [_remaining(sample, enlarge(sample.picture)) for sample in noise.samples]
    left = [_windows(one, noise.luma).variance for one in large]
    still_there = max(0.0, float(np.concatenate(left).mean())) if sum(map(len, left)) else 0.0
    return Grain(_root(level**2 - still_there), coarseness)


def _remaining(sample: Sample, large: Picture) -> Picture:
    """What became of a sample's window: a pixel or more, whatever the size of the result."""
    down, across = large.height / sample.picture.height, large.width / sample.picture.width
    window = sample.window
    top, left = (
        min(round(window.top * down), large.height - 1),
        min(round(window.left * across), large.width - 1),
    )
    bottom, right = round(window.bottom * down), round(window.right * across)
    return part(large, Box(top, left, max(bottom, top + 1), max(right, left + 1)))


class _Windows(NamedTuple):
    """The windows of a picture that are fit for measuring."""

    roughness: NDArray[np.float32]
    """(N,): the variance around the nearest plane of every second pixel, by which flat windows are told."""
    variance: NDArray[np.float32]
    """(N,): that of the others, so that windows which are flat by chance do not look less noisy than they are.
    Where neighbours are too much alike for noise, no more than noise could account for."""
    corners: NDArray[np.intp]
    """(N, 2): top and left."""


def _windows(picture: Picture, weights: NDArray[np.float32]) -> _Windows:
    down, across = picture.height // _SIDE, picture.width // _SIDE
    luma = _tiled(_luma(picture, weights), down, across)
    fit = (luma.min(axis=2) > 0) & (luma.max(axis=2) < 1)
    if picture.alpha is not None:
        fit &= _tiled(picture.alpha, down, across).min(axis=2) == WHITE_OF[picture.bit_depth]
    values = luma[fit]
    values -= values.mean(axis=1, keepdims=True)
    values -= (values @ _SLOPES.T) @ _SLOPES
    squares = np.square(values)
    roughness, variance = (squares[:, half].sum(axis=1) / (_SIDE**2 / 2 - 1.5) for half in (_EVEN, ~_EVEN))
    variance = np.minimum(variance, _CORRELATED * _fine_variance(values))
    rounding = 0 if picture.bit_depth == 32 else 1 / 12 / WHITE_OF[picture.bit_depth] ** 2
    return _Windows(roughness, variance - np.float32(rounding), np.argwhere(fit) * _SIDE)


def _fine_variance(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The variance of noise that is independent from pixel to pixel, in windows (N, pixels): texture has little.

    Immerkær, "Fast Noise Variance Estimation", CVIU 1996: second differences down and across, which lines and
    shadings do not survive.
    """
    curvature = np.diff(np.diff(windows.reshape(-1, _SIDE, _SIDE), 2, axis=1), 2, axis=2)
    return np.square(curvature).mean(axis=(1, 2)) / np.float32(36)


def _luma(picture: Picture, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) in [0, 1]."""
    white = np.float32(WHITE_OF[picture.bit_depth])
    shares = weights if picture.pixels.shape[2] == 3 else np.ones(1, np.float32)
    return np.matmul(picture.pixels, shares / white, dtype=np.float32)


def _tiled(plane: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """(H, W) to (down, across, pixels of a window); what is left over at the end is cut off."""
    windows = plane[: down * _SIDE, : across * _SIDE].reshape(down, _SIDE, across, _SIDE)
    return windows.swapaxes(1, 2).reshape(down, across, _SIDE**2)


def _bins(roughness: NDArray[np.float32]) -> NDArray[np.intp]:
    """The number of a bin for each of some variances, the smallest first."""
    octaves = _OCTAVES + np.log2(np.maximum(roughness, np.float32(2.0**-_OCTAVES)))
    return np.minimum(octaves * _BINS_PER_OCTAVE, _BINS - 1).astype(np.intp)


def _sample(strip: Picture, top: int, left: int) -> Sample:
    """The window whose corner is given, with what lies around it in the strip."""
    window = Box(top, left, top + _SIDE, left + _SIDE)
    around = window.grown(_MARGIN, inside=extent_of(strip.header))
    seen = part(strip, around)
    alpha = None if seen.alpha is None else seen.alpha.copy()
    return Sample(Picture(pixels=seen.pixels.copy(), alpha=alpha), window.within(around))


@functools.lru_cache(maxsize=4)
def _field(coarseness: float) -> NDArray[np.float32]:
    """Grain, (_PERIOD, _PERIOD), without borders, whose level is 1 once it has been reduced by ``coarseness``."""
    spectrum = np.fft.rfft2(np.random.default_rng(0).standard_normal((_PERIOD, _PERIOD)))
    squared = np.fft.fftfreq(_PERIOD)[:, np.newaxis] ** 2 + np.fft.rfftfreq(_PERIOD) ** 2
    spectrum *= np.exp(-2 * (np.pi * _BLUR * coarseness) ** 2 * squared)
    field = np.fft.irfft2(spectrum)
    field = (field / field.std()).clip(-_EXTREME, _EXTREME).astype(np.float32)
    gray = Picture(pixels=cast(Pixels, 0.5 + 0.1 * field[..., np.newaxis]))
    side = round(_PERIOD / coarseness)
    reduced = images.resized(gray, width=side, height=side)
    return field * np.float32(0.1 / _root(_windows(reduced, np.ones(1, np.float32)).variance.mean()))


def _root(variance: float) -> float:
    return math.sqrt(max(0.0, variance))
