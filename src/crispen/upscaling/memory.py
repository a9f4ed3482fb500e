"""How large the tiles may be, so that the memory at hand suffices and little is computed twice."""

from __future__ import annotations

import math
from typing import NamedTuple

from crispen import runtimes
from crispen.errors import PictureError
from crispen.images import Header
from crispen.runtimes import Choice
from crispen.zoo import Model

_SHARE_OF_MEMORY = 0.25  # the rest is for other programs, and for the next picture
_ASSUMED_MEMORY = 4 << 30  # where the system does not say
# Only the context is computed twice. With 40 pixels of it (and a cut at the features, behind which there are 3),
# tiles of 256 multiply 1.4 times as often as the whole picture at once, of 512 1.2 times, of 1024 1.11 times.
_SMALLEST_TILE, LARGEST_TILE = 32, 1024
_STRIP_BYTES = 384 << 20  # of a band of the result that is not held as a whole, and of the one before
_LOWEST_BAND = 32


class Cost(NamedTuple):
    """What a window takes at its peak, in bytes, with the 16-block, 64-feature generator of scale 4."""

    per_pixel: float
    fixed: float = 0.0

    def scaled(self, scale: int) -> Cost:
        """The same for a generator of another scale: what counts most are the pixels of the result."""
        return Cost(self.per_pixel * scale**2 / 16, self.fixed * scale**2 / 16)


class CompactCost(NamedTuple):
    """The same of a compact generator, whose features have the size of the picture, in parts."""

    per_pixel: float
    per_pixel_of_result: float

    def at(self, scale: int) -> Cost:
        """What a window takes with a generator of this scale."""
        return Cost(self.per_pixel + self.per_pixel_of_result * scale**2)


# Measured for windows of 160 to 1104 pixels a side, cut at the features to 800: benchmarks/memory.py.
_WHOLE = {
    ("openvino", "bf16"): Cost(3900),
    ("openvino", "fp32"): Cost(6700),
    ("torch", "bf16"): Cost(5400),
    ("torch", "fp32"): Cost(11200),
}
_CUT_AT_FEATURES = {
    ("openvino", "bf16"): Cost(850, 120e6),
    ("openvino", "fp32"): Cost(1450, 220e6),
}
# At scales 2, 4 and 8, windows of 160 to 800 pixels take 3 to 32 % less than this.
_COMPACT = {
    ("openvino", "bf16"): CompactCost(400, 50),
    ("openvino", "fp32"): CompactCost(800, 45),  # and in 8 bits, at scale 4
    ("torch", "bf16"): CompactCost(500, 35),
    ("torch", "fp32"): CompactCost(1000, 26),
}


def cost_of(choice: Choice, model: Model) -> Cost:
    """What a window takes with a runtime."""
    if model.generator == "compact":
        wide = choice.precision in ("fp32", "int8")
        return _COMPACT[choice.runtime, "fp32" if wide else "bf16"].at(model.scale)
    key = (choice.runtime, "fp32" if choice.precision == "fp32" else "bf16")  # the others have its features
    whole = _WHOLE[key]
    cost = whole if model.tail_context is None else _CUT_AT_FEATURES.get(key, whole)
    return cost.scaled(model.scale)


def left_beside(result: Header) -> int | None:
    """How many bytes are left when a result is held; None where the system does not say.

    Raises:
        PictureError: where it does not fit.
    """
    free = runtimes.free_memory("cpu")
    if free is None:
        return None
    needed = result.height * _row_bytes(result)
    if needed > free:
        size = f"{result.width}x{result.height}"
        gib = f"{needed / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} are free"
        raise PictureError(f"a result of {size} pixels takes {gib}")
    return free - needed


def square_tile(memory: int | None, *, context: int, cost: Cost) -> int:
    """Choose the side of tiles that make good use of ``memory``, in pixels of the input."""
    share = _SHARE_OF_MEMORY * (_ASSUMED_MEMORY if memory is None else memory)
    window = math.isqrt(max(0, int((share - cost.fixed) / cost.per_pixel)))
    return min(max(window - 2 * context, _SMALLEST_TILE), LARGEST_TILE)


def band_height(result: Header, *, scale: int, tile: int) -> int:
    """How high, in pixels of the input, bands may be so that two of the result can be held: at most ``tile``."""
    return min(tile, max(_LOWEST_BAND, _STRIP_BYTES // (2 * scale * _row_bytes(result))))


def _row_bytes(header: Header) -> int:
    return header.width * (header.channels + header.has_alpha) * header.bit_depth // 8
