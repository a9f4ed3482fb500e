"""The mean over all symmetries of a picture: nearer to the truth, in eight times the work.

A picture may be turned and mirrored before it is enlarged, and the result turned back: eight answers to one question,
whose errors partly cancel out in their mean. (The geometric self-ensemble of Lim et al., "Enhanced Deep Residual
Networks for Single Image Super-Resolution", CVPRW 2017, section 3.2, where models that are measured so have a + in
their name; after Timofte et al., "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR 2016.)
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
from numpy.typing import NDArray

from crispen.runtimes import Piece, Runtime
from crispen.tiling import Box

SYMMETRIES = range(8)
"""Of the square. Bit 0 mirrors left and right, bit 1 top and bottom, bit 2 swaps rows and columns, after that; those of
one shape follow one another."""


class EnsembleRuntime:
    """A runtime whose results are the mean over all symmetries of what it is given."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.scale: int = runtime.scale
        self.description: str = f"{runtime.description}, mean of {len(SYMMETRIES)} symmetries"

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        """See `crispen.runtimes.Runtime`."""
        core = core or Box(0, 0, *batch.shape[2:])
        return np.stack(list(self.map(Piece(window, core) for window in batch)))

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        """See `crispen.runtimes.Runtime`."""
        turned = (turned_piece(piece, symmetry) for piece in pieces for symmetry in SYMMETRIES)
        answers = self._runtime.map(turned)
        for first in answers:
            total = first.copy()
            for symmetry in SYMMETRIES[1:]:
                total += turned_back(next(answers), symmetry)
            total /= len(SYMMETRIES)
            yield total


def turned_piece(piece: Piece, symmetry: int) -> Piece:
    """A window and its core, mirrored and turned alike."""
    _, height, width = piece.window.shape
    core = piece.core
    if symmetry & 1:
        core = Box(core.top, width - core.right, core.bottom, width - core.left)
    if symmetry & 2:
        core = Box(height - core.bottom, core.left, height - core.top, core.right)
    if symmetry & 4:
        core = Box(core.left, core.top, core.right, core.bottom)
    return Piece(np.ascontiguousarray(_turned(piece.window, symmetry)), core)


def turned_back(picture: NDArray[np.float32], symmetry: int) -> NDArray[np.float32]:
    """What `turned_piece` did to a picture (C, H, W), undone."""
    if symmetry & 4:
        picture = picture.swapaxes(1, 2)
    return _turned(picture, symmetry & 3)


def _turned(picture: NDArray[np.float32], symmetry: int) -> NDArray[np.float32]:
    picture = picture[:, :: -1 if symmetry & 2 else 1, :: -1 if symmetry & 1 else 1]
    return picture.swapaxes(1, 2) if symmetry & 4 else picture
