"""What it gains to rewrite a network before OpenVINO compiles it.

    python benchmarks/rewrites.py [--sizes 64x64 96x96 …] [--model srresnet-x4] [--precision bf16] [--repetitions 30]

The network alone, in turns: as it is in its file; with shuffles that copy whole phases; with the tail in two
convolutions as well, as crispen computes it. Printed are the median of the turns' ratios, and how far each result
agrees with that of fp32, in dB over values clipped to [0, 1]. ``ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`` in the
environment leaves AMX out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispen import zoo
from crispen.runtimes import OpenVINORuntime, openvino_graph
from crispen.zoo import Model

PICTURE = Path(__file__).parents[1] / "examples" / "dog.png"
SIZES = ["64x64", "96x96", "160x160", "256x256"]
STEPS = ["shuffle_in_blocks", "split_convolutions"]

Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--model", default="srresnet-x4")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--repetitions", type=int, default=30)
    arguments = parser.parse_args()
    model = zoo.find(arguments.model)
    exact = opened(model, "fp32", steps=0)
    variants = [opened(model, arguments.precision, steps=count) for count in range(len(STEPS) + 1)]
    print("| picture | as it is | " + " | ".join(STEPS) + " |")
    print("|---|---:|" + "---:|" * len(STEPS))
    for size in arguments.sizes:
        width, height = map(int, size.split("x"))
        print(compared(size, picture(width, height), exact, variants, arguments.repetitions), flush=True)


def compared(
    size: str, lr: Floats, exact: OpenVINORuntime, variants: list[OpenVINORuntime], repetitions: int
) -> str:
    """A row of the table."""
    wanted = exact(lr)
    agreements = [agreement(runtime(lr), wanted) for runtime in variants]
    turns = [[seconds(runtime, lr) for runtime in variants] for _ in range(repetitions)]
    plain = statistics.median(turn[0] for turn in turns)
    gains = [statistics.median(turn[0] / turn[way] for turn in turns) for way in range(1, len(variants))]
    cells = [f"{plain * 1e3:.3g} ms, {agreements[0]:.1f} dB"]
    cells += [f"{gain:.2f}×, {dB:.1f} dB" for gain, dB in zip(gains, agreements[1:], strict=True)]
    return f"| {size} | " + " | ".join(cells) + " |"


def opened(model: Model, precision: Literal["bf16", "fp32"], *, steps: int) -> OpenVINORuntime:
    """A model of which so many of `STEPS` are done before it is compiled."""
    assert model.onnx is not None
    with ExitStack() as left_out:
        for step in STEPS[steps:]:
            left_out.enter_context(patch.object(openvino_graph, step))
        return OpenVINORuntime(model.onnx, scale=model.scale, precision=precision)


def picture(width: int, height: int) -> Floats:
    """An example of a size, (1, 3, H, W) in [0, 1]."""
    with Image.open(PICTURE) as opened_picture:
        pixels = np.array(opened_picture.convert("RGB").resize((width, height)), np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis]) / np.float32(255)


def seconds(runtime: OpenVINORuntime, lr: Floats) -> float:
    start = time.perf_counter()
    runtime(lr)
    return time.perf_counter() - start


def agreement(sr: Floats, wanted: Floats) -> float:
    error = np.square(sr.clip(0, 1).astype(np.float64) - wanted.clip(0, 1)).mean()
    return float(-10 * np.log10(error)) if error else float("inf")


if __name__ == "__main__":
    main()
