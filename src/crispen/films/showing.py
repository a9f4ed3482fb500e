"""What a film shows in the end: its frames enlarged, with its own grain, perhaps beside the frames themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from crispen import images
from crispen.films.colour import RGB, interpolated
from crispen.films.reading import Film
from crispen.images import Picture
from crispen.upscaling import Upscaler
from crispen.upscaling.grain import NO_GRAIN, Grain, Noise, SteadyGrain, grained
from crispen.upscaling.sizes import Dimensions, passes
from crispen.upscaling.survey import in_strips


class Enlarges(Protocol):
    """What enlarges frames, such as `crispen.upscaling.Upscaler`."""

    @property
    def scale(self) -> int:
        """Pixels of the result for each pixel of the frame, along one side."""
        ...

    def __call__(self, picture: NDArray[Any], /) -> NDArray[Any]:
        """Enlarge (H, W, 3), uint8 or uint16, to (H·scale, W·scale, 3) of the same type."""
        ...


def keeps_grain(upscaler: Enlarges) -> bool:
    """Whether frames are to have the grain of their film."""
    return isinstance(upscaler, Upscaler) and upscaler.grain


class _Shown(NamedTuple):
    """A frame that was enlarged."""

    small: RGB
    large: RGB
    """Without grain."""
    missing: Grain
    """What it lacks of the grain of ``small``."""


class Showing:
    """Makes of a film's frames, one after the other, what is to be seen.

    A frame that equals the one before it, of which films from screens and of drawings are full, is enlarged only once.
    Where the upscaler keeps grain, each has grain of its own all the same, at the place of which its number decides,
    and of a level that `SteadyGrain` keeps from flickering: that is measured in the film's own luma, and grain that is
    the same in red, green and blue is luma alone in every YUV.

    Args:
        film: whose frames they are.
        upscaler: what enlarges them.
        size: width and height of what is to be seen of a frame; None is what ``upscaler`` makes of it.
        side_by_side: whether to show them twice: on the left by bicubic interpolation.
        grain: the `grain` of another that went before.
    """

    def __init__(
        self,
        film: Film,
        upscaler: Enlarges,
        *,
        size: tuple[int, int] | None,
        side_by_side: bool,
        grain: Sequence[float] = (),
    ) -> None:
        self._film = film
        self._upscaler = upscaler
        scale = upscaler.scale
        self._wanted = Dimensions(*(size or (film.width * scale, film.height * scale)))
        self._passes = 1 if size is None else passes(film.width, film.height, self._wanted, scale=scale)
        self._side_by_side = side_by_side
        self._steady = SteadyGrain(grain) if grain else SteadyGrain()
        self._last: _Shown | None = None

    @property
    def grain(self) -> tuple[float, int, int]:
        """What later frames depend on, to go on from after a kill."""
        return self._steady.state

    def __call__(self, pixels: RGB, *, number: int) -> RGB:
        """Show a frame, (H, W, 3), the film's ``number``-th, as (H', W', 3) of the same type."""
        if self._last is None or not np.array_equal(self._last.small, pixels):
            self._last = self._enlarged(np.ascontiguousarray(pixels))
        small, sr, missing = self._last
        if keeps_grain(self._upscaler):
            sr = cast(RGB, grained(sr, self._steady.follow(missing, frame=number)))
        if not self._side_by_side:
            return sr
        return np.concatenate([interpolated(small, width=sr.shape[1], height=sr.shape[0]), sr], axis=1)

    def _enlarged(self, pixels: RGB) -> _Shown:
        """Enlarge a frame as often as the size that is wanted takes, and then to that."""
        small = images.from_array(pixels)
        picture = small
        for _ in range(self._passes):
            picture = self._once(picture)
        return _Shown(pixels, cast(RGB, self._resized(picture).pixels), self._missing(small))

    def _once(self, picture: Picture) -> Picture:
        if isinstance(self._upscaler, Upscaler):
            return self._upscaler.enlarge(picture, grain=NO_GRAIN).result
        return images.from_array(self._upscaler(picture.pixels))

    def _resized(self, picture: Picture) -> Picture:
        if isinstance(self._upscaler, Upscaler):
            return self._upscaler.resized(picture, self._wanted)
        return images.resized(picture, width=self._wanted.width, height=self._wanted.height)

    def _missing(self, small: Picture) -> Grain:
        """Measure what a frame's result lacks of its grain."""
        if not (isinstance(self._upscaler, Upscaler) and self._upscaler.grain):
            return NO_GRAIN
        noise = Noise(luma=self._film.colours.luma)
        for strip in in_strips(small):
            noise.look(strip)
        grains = self._upscaler.grain_of_passes(small.header, self._wanted, noise)
        return Grain(grains[-1].level) if grains else NO_GRAIN
