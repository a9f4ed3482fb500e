"""How near int8 and bf16 come to fp32 on every picture, and how fast they are against each other.

    python benchmarks/int8.py MODEL FOLDER... [--lr] [--crop 32] [--repetitions 3]
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python benchmarks/int8.py MODEL FOLDER... --without-bf16

MODEL is a bundled one's name, a folder or a file. The pictures of each folder and those below it are reduced by the
model's scale with MATLAB's bicubic, or with ``--lr`` taken as they are, and enlarged in fp32, bf16 and int8. Printed is
the PSNR of each result under that of fp32 (8 bit, all channels; crispen's own fp32, which is within 90 dB of eager
torch), then the worst, the median and the pooled one. With ``--crop``, each square of so many pixels of the input is
judged by itself. Last comes the time: all pictures' medians over repetitions in turns, added up. With
``--without-bf16``, as on processors that lack it: fp32 in place of bf16, and for what int8 leaves as it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from crispen import images, resize, runtimes, zoo
from crispen.runtimes import Precision, Runtime, open_runtime

Bytes = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--lr", action="store_true", help="the pictures are small already")
    parser.add_argument("--crop", type=int, default=0, help="judge squares of so many pixels of the input")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--without-bf16", action="store_true", help="as on a processor that lacks it")
    arguments = parser.parse_args()
    model = zoo.find(arguments.model)
    other: Precision = "fp32" if arguments.without_bf16 else "bf16"
    if arguments.without_bf16:
        runtimes.supports_bf16 = lacks_bf16
    original = open_runtime(model, precision="fp32")
    compared: dict[str, Runtime] = {name: open_runtime(model, precision=name) for name in (other, "int8")}
    errors: list[dict[str, float]] = []
    seconds = dict.fromkeys(compared, 0.0)
    for folder in arguments.folders:
        for path in sorted(file for file in folder.rglob("*") if file.suffix.lower() in images.SUFFIXES):
            lr = read(path, scale=1 if arguments.lr else model.scale)
            expected = in_bytes(original(lr))
            results, times = compute(compared, lr, repetitions=arguments.repetitions)
            for place, of_place in parts(expected, results, crop=arguments.crop * model.scale):
                errors.append(of_place)
                print(
                    f"{path.name}{place}: "
                    + ", ".join(f"{name} {decibels(e):.2f}" for name, e in of_place.items())
                )
            for name, each in times.items():
                seconds[name] += each
    report(errors, seconds)


def lacks_bf16(device: str) -> bool:
    """In place of `crispen.runtimes.supports_bf16`."""
    return False


def read(path: Path, *, scale: int) -> NDArray[np.float32]:
    """Read a picture, reduced by ``scale``: (1, 3, H, W) in [0, 1]."""
    pixels = cast(Bytes, images.to_depth(images.read(path).pixels, 8))
    height, width = (side // scale * scale for side in pixels.shape[:2])
    pixels = np.ascontiguousarray(np.broadcast_to(pixels[:height, :width, :3], (height, width, 3)))
    lr = pixels if scale == 1 else resize(pixels, 1 / scale)
    return np.ascontiguousarray(lr.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def compute(
    compared: dict[str, Runtime], lr: NDArray[np.float32], *, repetitions: int
) -> tuple[dict[str, Bytes], dict[str, float]]:
    """Enlarge a picture in every precision, in turns; results and median seconds."""
    results = {name: in_bytes(runtime(lr)) for name, runtime in compared.items()}
    times: dict[str, list[float]] = {name: [] for name in compared}
    for _ in range(repetitions):
        for name, runtime in compared.items():
            start = time.perf_counter()
            runtime(lr)
            times[name].append(time.perf_counter() - start)
    return results, {name: float(np.median(each)) for name, each in times.items()}


def in_bytes(sr: NDArray[np.float32]) -> Bytes:
    """(1, 3, H, W) in [0, 1] to (H, W, 3)."""
    return np.rint(255 * sr[0].clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)


def parts(expected: Bytes, results: dict[str, Bytes], *, crop: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the mean squared errors, of 255, of the whole picture, or of each whole square of ``crop`` pixels."""
    squares = {name: np.square(sr.astype(np.float64) - expected).mean(2) for name, sr in results.items()}
    height, width = expected.shape[:2]
    down, across = (min(crop, height), min(crop, width)) if crop else (height, width)
    for top in range(0, height - down + 1, down):
        for left in range(0, width - across + 1, across):
            place = f" at {left},{top}" if crop else ""
            yield (
                place,
                {
                    name: float(error[top : top + down, left : left + across].mean())
                    for name, error in squares.items()
                },
            )


def decibels(error: float) -> float:
    """The PSNR of a mean squared error, of 255."""
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def report(errors: list[dict[str, float]], seconds: dict[str, float]) -> None:
    """Print what all pictures together come to."""
    for name in seconds:
        values = [each[name] for each in errors]
        print(
            f"{name}: worst {decibels(max(values)):.2f} dB, median {decibels(float(np.median(values))):.2f}, "
            f"pooled {decibels(float(np.mean(values))):.2f}, of {len(values)}"
        )
    (other,) = seconds.keys() - {"int8"}
    print(f"int8 is {seconds[other] / seconds['int8']:.2f} times as fast as {other}")


if __name__ == "__main__":
    main()
