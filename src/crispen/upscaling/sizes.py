"""How large a result is to be: what people ask for, in the terms in which they think of it.

A network enlarges by its own scale only. For any other size it is applied as often as it takes to be at least as
large, and its result is then reduced, once, by an antialiased filter (Lanczos, as libvips has it).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, cast

from crispen.errors import UsageError

MAX_PASSES = 4
"""How often a network may be applied to its own result: four times by 4 would be 256."""

MAX_SIDE = 2**31 - 1
"""Pixels; no format holds more."""

MAX_DPI = 1_000_000
"""Pixels per inch: what a file may be asked to state."""

_MM_PER = {"mm": 1.0, "cm": 10.0, "in": 25.4}
_NUMBER = r"(\d+(?:\.\d+)?)"
_PAPER = re.compile(rf"{_NUMBER}x{_NUMBER}(mm|cm|in)@{_NUMBER}dpi")
_BOX = re.compile(r"(\d{1,10})x(\d{1,10})")
_ROUNDING = 1e-9  # so that 0.1 * 30 passes is not taken for more than 3


class Dimensions(NamedTuple):
    """Width and height."""

    width: int
    height: int

    def even(self) -> Dimensions:
        """The next smaller with even sides, as films have them: what must fit still does."""
        return Dimensions(*(max(2, side - side % 2) for side in self))


def _check_number(name: str, value: object) -> None:
    """Raise `UsageError` for anything but None and the numbers of which a picture's size can be made."""
    if value is None:
        return
    if not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, not {value!r}")
    number = cast(float, value)
    if not 0 < number <= MAX_SIDE:
        limit = f"at most {MAX_SIDE}" if number > 0 else "above 0"
        said = number if isinstance(number, int) else f"{float(number):g}"
        raise UsageError(f"{name} must be {limit}, not {said}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is asked for; at most one thing, but for ``width`` and ``height``, which may be given together.

    Raises `UsageError` for what is no number or cannot be, and for wishes that contradict each other.
    """

    scale: float | None = None
    """Times the picture's own size, along one side."""
    width: int | None = None
    """Pixels; the height follows, unless it is given too: then the picture may be distorted."""
    height: int | None = None
    """Pixels; the width follows, unless it is given too."""
    fit: Dimensions | None = None
    """The largest that fits into so many pixels, with the picture's own proportions."""
    paper: Dimensions | None = None
    """The largest that fits onto paper, lying or standing as the picture does: its longer and shorter side in
    pixels."""
    megapixels: float | None = None
    """So many millions of pixels, with the picture's own proportions."""
    dpi: float | None = None
    """Pixels per inch that ``paper`` was given with; the file will state them."""

    def __post_init__(self) -> None:
        wishes = [self.scale, self.width or self.height, self.fit, self.paper, self.megapixels]
        if sum(wish is not None for wish in wishes) > 1:
            raise UsageError("only one of scale, width with height, fit, print, megapixels can be had")
        for name in ("scale", "width", "height", "megapixels"):
            _check_number(name, getattr(self, name))

    @property
    def is_scale(self) -> bool:
        """Whether all pictures grow by one factor: the one that is asked for, or the network's."""
        return (self.width, self.height, self.fit, self.paper, self.megapixels) == (None,) * 5

    def of(self, width: int, height: int, *, scale: int) -> Dimensions:
        """Return what a picture of ``width`` × ``height`` becomes, where a network's ``scale`` is the default.

        Raises:
            UsageError: for more than any picture can have.
        """
        if self.fit is not None:
            return _times(width, height, min(self.fit.width / width, self.fit.height / height))
        if self.paper is not None:
            long, short = max(width, height), min(width, height)
            return _times(width, height, min(self.paper.width / long, self.paper.height / short))
        if self.megapixels is not None:
            return _times(width, height, math.sqrt(self.megapixels * 1e6 / (width * height)))
        if self.width is not None and self.height is not None:
            return _dimensions(self.width, self.height)
        if self.width is not None:
            return _dimensions(self.width, height * self.width / width)
        if self.height is not None:
            return _dimensions(width * self.height / height, self.height)
        return _times(width, height, scale if self.scale is None else self.scale)


MODELS_SIZE = Size()
"""What a model makes of a picture by itself."""


def parse_box(text: str) -> Dimensions:
    """Read ``3840x2160``.

    Raises:
        UsageError: for anything else.
    """
    match = _BOX.fullmatch(text)
    if match is None or 0 in (width_height := [int(part) for part in match.groups()]):
        raise UsageError(f"--fit must be like 3840x2160, not {text!r}")
    return Dimensions(*width_height)


def parse_paper(text: str) -> tuple[Dimensions, float]:
    """Read ``30x20cm@300dpi`` (or mm, or in): longer and shorter side in pixels, and the pixels per inch.

    Raises:
        UsageError: for anything else.
    """
    match = _PAPER.fullmatch(text)
    if match is None or min(float(match[part]) for part in (1, 2, 4)) <= 0:
        raise UsageError(f"--print must be like 30x20cm@300dpi (or mm, or in), not {text!r}")
    dpi = float(match[4])
    if dpi > MAX_DPI:
        raise UsageError(f"--print must be with at most {MAX_DPI} dpi, not {text!r}")
    sides = [float(match[part]) * _MM_PER[match[3]] / 25.4 * dpi for part in (1, 2)]
    return _dimensions(max(sides), min(sides)), dpi


def passes(width: int, height: int, wanted: Dimensions, *, scale: int) -> int:
    """How often a network of ``scale`` must be applied so that no side has to be enlarged by other means.

    0 where the picture is as large already.

    Raises:
        UsageError: for more than `MAX_PASSES`.
    """
    factor = max(wanted.width / width, wanted.height / height)
    count = max(0, math.ceil(math.log(factor, scale) - _ROUNDING))
    if count > MAX_PASSES:
        most = scale**MAX_PASSES
        raise UsageError(
            f"{width}x{height} pixels cannot become {wanted.width}x{wanted.height}: {most}x is the most"
        )
    return count


def _times(width: int, height: int, factor: float) -> Dimensions:
    return _dimensions(width * factor, height * factor)


def _dimensions(width: float, height: float) -> Dimensions:
    if max(width, height) > MAX_SIDE:
        raise UsageError(f"a picture cannot be {width:g}x{height:g} pixels: {MAX_SIDE} a side is the most")
    return Dimensions(max(1, round(width)), max(1, round(height)))
