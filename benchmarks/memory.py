"""How much memory does a window take at its peak? Makes the figures in `crispen.upscaling.memory`.

    python benchmarks/memory.py [--model srgan-x4-photo] [--runtimes openvino torch] [--precisions bf16 fp32 int8]
                                [--sides 160 480 800] [--whole]

For each runtime and precision, square windows of each side are enlarged, each in a process of its own, after a tiny one
that loads everything; of each window the part that tiling would keep. Printed is by how much the peak of the resident
memory rises, and the line through these: bytes for each pixel of the window, and what comes on top. With --whole,
OpenVINO does not cut the network at its features.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from crispen import runtimes, zoo
from crispen.runtimes import Choice
from crispen.tiling import Box
from large_pictures import peak_bytes, processes

TINY = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="srgan-x4-photo")
    parser.add_argument("--runtimes", nargs="+", choices=["openvino", "torch"], default=["openvino", "torch"])
    parser.add_argument("--precisions", nargs="+", choices=["bf16", "fp32", "int8"], default=["bf16", "fp32"])
    parser.add_argument("--sides", type=int, nargs="+", default=[160, 480, 800])
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    with processes() as pool:
        for runtime in arguments.runtimes:
            for precision in arguments.precisions:
                choice = Choice(runtime, "cpu", precision)
                rises = [
                    pool.submit(rise, arguments.model, choice, side, whole=arguments.whole).result()
                    for side in arguments.sides
                ]
                print(report(choice, arguments.sides, rises), flush=True)


def rise(name: str, choice: Choice, side: int, *, whole: bool) -> int:
    """Bytes by which one window raises the peak of a process that is ready to compute."""
    model = zoo.find(name)
    if whole:
        model = replace(model, tail_context=None)
    runtime = runtimes.open_runtime(model, **choice._asdict())
    runtime(np.zeros((1, 3, TINY, TINY), np.float32))
    before = peak_bytes()
    window = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    context = min(model.context, side // 4)
    runtime(window, core=Box(context, context, side - context, side - context))
    return peak_bytes() - before


def report(choice: Choice, sides: list[int], rises: list[int]) -> str:
    per_pixel, fixed = np.polyfit(np.square(sides), rises, 1)
    measured = ", ".join(f"{side}: {rise >> 20} MiB" for side, rise in zip(sides, rises, strict=True))
    return f"{choice.runtime} {choice.precision} ({measured}): {per_pixel:.0f} B/pixel + {fixed / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
