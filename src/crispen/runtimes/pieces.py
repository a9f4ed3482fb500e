"""What a runtime is handed: a window of a picture, and which part of its enlargement is wanted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispen.tiling import Box


class Piece(NamedTuple):
    """A window to be enlarged."""

    window: NDArray[np.float32]
    """(3, H, W), RGB in [0, 1]."""
    core: Box
    """The part, in pixels of the window, whose enlargement is wanted."""
