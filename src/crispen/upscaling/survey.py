"""What has to be known of a whole picture before its first row is enlarged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from crispen.images import WHITE_OF, Picture, is_binary
from crispen.upscaling.grain import Noise
from crispen.upscaling.rows import rows_of

SURVEYED_ROWS = 256
"""How high the strips are that are looked at; those of a file and of a picture in memory should be the same."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What all strips of a picture have in common."""

    opaque: bool = True
    """Whether nothing can be seen through, be there an alpha channel or not."""
    binary_alpha: bool = True
    """Whether nothing is half transparent."""
    noise: Noise | None = None
    """The picture's noise, where it was asked for."""


def survey(strips: Iterable[Picture], *, noise: bool = False) -> Survey:
    """Look at all of a picture, strip by strip, and where ``noise`` says so, at its noise as well."""
    opaque = binary = True
    found = Noise() if noise else None
    for strip in strips:
        if strip.alpha is not None:
            opaque = opaque and bool(np.all(strip.alpha == WHITE_OF[strip.bit_depth]))
            binary = binary and is_binary(strip.alpha)
        if found is not None:
            found.look(strip)
        elif not (opaque or binary):
            break
    return Survey(opaque, binary, found)


def in_strips(picture: Picture) -> Iterator[Picture]:
    """Cut a picture in memory into strips of `SURVEYED_ROWS`."""
    for top in range(0, picture.height, SURVEYED_ROWS):
        yield rows_of(picture, top, min(top + SURVEYED_ROWS, picture.height))
