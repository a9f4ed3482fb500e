"""What it gains to choose the widths of windows, on a processor that is slow at some (Intel's AMX).

    python benchmarks/widths.py [--sizes 480x320 359x240 …] [--model srresnet-x4] [--repetitions 5]
    python benchmarks/widths.py --random 20 [--precision fp32]

Each picture is enlarged in turns as crispen does it, and as it would without matrix units: in as few windows as may be
and with large tiles after the features. Printed are the median of the turns' ratios, the times in seconds, and the
largest difference between the results, which should be 0. Where there is no AMX, the two are the same.

With ``--random``, why: the time for each pixel before the features at so many random widths from 257 to 1100, each
against the next multiple of 16, in turns. ``ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`` in the environment leaves AMX out.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Literal, NamedTuple
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from crispen import runtimes, zoo
from crispen.runtimes import Runtime
from crispen.tiling import Box
from crispen.upscaling import Upscaler

SIZES = ["64x64", "200x200", "359x240", "480x320", "500x375", "640x427", "797x500", "1024x768"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--model", default="srresnet-x4")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--random", type=int, metavar="WIDTHS")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    arguments = parser.parse_args()
    if arguments.random:
        compare_widths(arguments.model, arguments.random, arguments.precision, arguments.repetitions)
    elif not runtimes.has_amx():
        print("this processor has no AMX: there is nothing to compare")
    else:
        compare_pictures(arguments.model, arguments.sizes, arguments.repetitions)


def compare_pictures(model: str, sizes: list[str], repetitions: int) -> None:
    """Print the table of pictures with and without chosen widths."""
    without, chosen = Enlarging(model, amx=False), Enlarging(model, amx=True)
    print("| picture | without | with | gain | largest difference |\n|---|---:|---:|---:|---:|")
    for size in sizes:
        width, height = map(int, size.split("x"))
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        turns = [(without.timed(picture), chosen.timed(picture)) for _ in range(repetitions)]
        before, after = (statistics.median(turn[way].seconds for turn in turns) for way in (0, 1))
        gain = statistics.median(old.seconds / new.seconds for old, new in turns)
        difference = np.abs(turns[0][0].result.astype(int) - turns[0][1].result).max()
        print(f"| {size} | {before:.3g} s | {after:.3g} s | {gain:.2f}× | {difference} |", flush=True)


def compare_widths(
    model: str, count: int, precision: Literal["bf16", "fp32"], repetitions: int, *, height: int = 200
) -> None:
    """Print how much longer a pixel takes before the features at random widths than at multiples of 16."""
    runtime = runtimes.open_runtime(zoo.find(model), runtime="openvino", precision=precision)
    widths = random.Random(1).sample([width for width in range(257, 1100) if width % 16], count)
    ratios: list[float] = []
    for width in sorted(widths):
        turns = [
            seconds_per_pixel(runtime, height, width)
            / seconds_per_pixel(runtime, height, -(-width // 16) * 16)
            for _ in range(repetitions)
        ]
        ratios.append(statistics.median(turns))
        print(f"{width}: {ratios[-1]:.2f}", flush=True)
    print(
        f"mean {statistics.mean(ratios):.2f}, median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}"
    )


def seconds_per_pixel(runtime: Runtime, height: int, width: int) -> float:
    """Of the part before the features: of what follows only one pixel is asked for. The first time is not counted."""
    window, pixel = np.zeros((1, 3, height, width), np.float32), Box(0, 0, 1, 1)
    runtime(window, core=pixel)
    start = time.perf_counter()
    runtime(window, core=pixel)
    return (time.perf_counter() - start) / (height * width)


class Enlarged(NamedTuple):
    """A result and how long it took."""

    result: NDArray[np.uint8]
    seconds: float


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
