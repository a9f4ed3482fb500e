"""How long ``crispen upscale`` takes on a photo, process to process, against the same network in eager fp32 torch.

    python benchmarks/upscale_process.py [--picture PHOTO] [--model srgan-x4-photo] [--repetitions 5]

Both read a picture, enlarge it ×4 and write a PNG, each time in a process of its own; they take turns. The torch side
is `eager_upscale.py`, which does what the common scripts do. Printed are medians with their range, their ratio, and how
far the two results agree in dB. Both use all processors, or as many as OMP_NUM_THREADS says.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import crispen
from crispen import images, zoo

EAGER = Path(__file__).parent / "eager_upscale.py"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", type=Path, help="default: a made 480x320 picture")
    parser.add_argument("--model", default="srgan-x4-photo")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = arguments.picture or made_picture(folder / "made.png")
        times = compare(source, folder, arguments.model, arguments.repetitions)
        report(times, images.read(folder / "crispen.png").pixels, images.read(folder / "eager.png").pixels)


def made_picture(path: Path) -> Path:
    """Coloured blobs, 480×320: the content does not change the time."""
    coarse = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    images.write(images.from_array(crispen.resize(coarse, 8)), path)
    return path


def compare(source: Path, folder: Path, model: str, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each run; the two take turns, after one run each that is not counted."""
    weights = zoo.find(model).weights
    commands = {
        "crispen": [sys.executable, "-m", "crispen", "upscale", source, "-o", folder / "crispen.png", "--force",
                    "--model", model],
        "eager": [sys.executable, EAGER, weights, source, folder / "eager.png"],
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in commands}
    for repetition in range(repetitions + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
            if repetition:
                times[name].append(time.perf_counter() - started)
    return times


def report(times: dict[str, list[float]], ours: images.Pixels, eager: images.Pixels) -> None:
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in times.items():
        print(
            f"{name:8} {medians[name]:6.2f} s  ({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} runs)"
        )
    print(f"crispen is {medians['eager'] / medians['crispen']:.1f} times as fast")
    print(f"the results agree to {crispen.psnr(ours, eager, channel='rgb'):.1f} dB (RGB, all pixels)")


if __name__ == "__main__":
    main()
