"""Batches of pieces through an engine, in order, several under way at once. Knows nothing of torch or devices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError
from crispen.runtimes.pieces import Piece


class TileTooLarge(PictureError):
    """A single window for which the device has too little memory: a smaller tile may do.

    Nothing of the batch is left on the device, so that whoever raised it may go on with smaller windows.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__(
            f"the GPU has too little memory for {width}x{height} pixels at once: use a smaller tile, or device cpu"
        )


class Batch(Protocol):
    """Pieces that are being computed."""

    def wait(self) -> None:
        """Return when the device has done with them."""
        ...

    def results(self) -> list[NDArray[np.float32]]:
        """Wait, and return the enlarged core of each, (3, height·scale, width·scale)."""
        ...


class Engine(Protocol):
    """What computes batches."""

    depth: int
    """How many batches to have under way at once."""

    def most(self, height: int, width: int) -> int:
        """How many windows of that size to take at once."""
        ...

    def start(self, pieces: Sequence[Piece]) -> Batch | None:
        """Start on pieces whose windows have one size; None where the device has too little memory for them."""
        ...

    def make_room(self, height: int, width: int, *, most: int) -> None:
        """Give back what is only kept for later, and take no more than ``most`` such windows from now on."""
        ...


def enlarge(pieces: Iterable[Piece], engine: Engine) -> Generator[NDArray[np.float32]]:
    """Yield the enlarged core of each piece, in order.

    Pieces are read while earlier ones are computed. Where memory runs out, what is under way is finished first
    and what is kept for later given back; then half as many pieces are tried at once.

    Raises:
        TileTooLarge: where it does not suffice for a single one.
    """
    under_way: deque[Batch] = deque()
    try:
        for waiting in _grouped(pieces, engine.most):
            _, height, width = waiting[0].window.shape
            most, cleared = len(waiting), False
            while waiting:
                batch = engine.start(waiting[:most])
                if batch is not None:
                    del waiting[:most]
                    under_way.append(batch)
                    cleared = False
                    yield from _finish(under_way, but=engine.depth - 1)
                elif cleared and most == 1:
                    raise TileTooLarge(height, width)
                else:
                    yield from _finish(under_way, but=0)
                    most, cleared = (most + 1) // 2, True
                    engine.make_room(height, width, most=most)
        yield from _finish(under_way, but=0)
    finally:  # whoever stops early must not free what the device still works on
        for batch in under_way:
            batch.wait()


def _grouped(pieces: Iterable[Piece], most: Callable[[int, int], int]) -> Iterator[list[Piece]]:
    """Pieces that follow one another and have one size, as many together as the engine takes."""
    group: list[Piece] = []
    limit = 0
    for piece in pieces:
        if group and piece.window.shape != group[0].window.shape:
            yield group
            group = []
        if not group:
            limit = most(*piece.window.shape[1:])
        group.append(piece)
        if len(group) >= limit:
            yield group
            group = []
    if group:
        yield group


def _finish(under_way: deque[Batch], *, but: int) -> Iterator[NDArray[np.float32]]:
    """Wait for the oldest batches, until no more than ``but`` are left."""
    while len(under_way) > but:
        # Removed once it is done: while it is not, `enlarge` has to wait for it, whatever happens.
        results = under_way[0].results()
        under_way.popleft()
        yield from results
