"""What has to be known of a whole picture before its first row is enlarged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crispen.images import WHITE_OF, Picture, is_binary


@dataclass(frozen=True, slots=True)
class Survey:
    """What all strips of a picture have in common."""

    opaque: bool = True
    """Whether nothing can be seen through, be there an alpha channel or not."""
    binary_alpha: bool = True
    """Whether nothing is half transparent."""


def survey(strips: Iterable[Picture]) -> Survey:
    """Look at all of a picture, strip by strip."""
    opaque = binary = True
    for strip in strips:
        if strip.alpha is None:
            break
        opaque = opaque and bool(np.all(strip.alpha == WHITE_OF[strip.bit_depth]))
        binary = binary and is_binary(strip.alpha)
        if not (opaque or binary):
            break
    return Survey(opaque, binary)
