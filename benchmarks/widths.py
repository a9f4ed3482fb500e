"""What it gains to choose the widths of windows, on a processor that is slow at some (Intel's AMX).

    python benchmarks/widths.py [--sizes 480x320 359x240 …] [--model srresnet-x4] [--repetitions 5]

Each picture is enlarged in turns as crispen does it, and as it would without matrix units: in as few windows as may be
and with large tiles after the features. Printed are the median of the turns' ratios, the times in seconds, and the
largest difference between the results, which should be 0. Where there is no AMX, the two are the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from crispen import runtimes, zoo
from crispen.upscaling import Upscaler

SIZES = ["64x64", "200x200", "359x240", "480x320", "500x375", "640x427", "797x500", "1024x768"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--model", default="srresnet-x4")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    ways = {amx: Enlarging(arguments.model, amx=amx) for amx in (False, runtimes.has_amx())}
    if len(ways) == 1:
        print("this processor has no AMX: there is nothing to compare")
        return
    print("| picture | without | with | gain | largest difference |\n|---|---:|---:|---:|---:|")
    for size in arguments.sizes:
        width, height = map(int, size.split("x"))
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        turns = [
            (ways[False].timed(picture), ways[True].timed(picture)) for _ in range(arguments.repetitions)
        ]
        before, after = (statistics.median(turn[way].seconds for turn in turns) for way in (0, 1))
        gain = statistics.median(old.seconds / new.seconds for old, new in turns)
        difference = np.abs(turns[0][0].result.astype(int) - turns[0][1].result).max()
        print(f"| {size} | {before:.3g} s | {after:.3g} s | {gain:.2f}× | {difference} |", flush=True)


class Enlarged:
    """A result and how long it took."""

    def __init__(self, result: NDArray[np.uint8], seconds: float) -> None:
        self.result = result
        self.seconds = seconds


class Enlarging:
    """A model opened as if the processor had, or had not, matrix units."""

    def __init__(self, model: str, *, amx: bool) -> None:
        self._amx = amx
        self._upscaler = Upscaler(zoo.find(model))
        for side in (64, 300):  # both ways of the runtime are compiled
            self.timed(np.zeros((side, side, 3), np.uint8))

    def timed(self, picture: NDArray[np.uint8]) -> Enlarged:
        """Enlarge a picture (H, W, 3)."""
        with patch.object(runtimes, "has_amx", lambda: self._amx):
            start = time.perf_counter()
            result = self._upscaler(picture)
            return Enlarged(result, time.perf_counter() - start)


if __name__ == "__main__":
    main()
