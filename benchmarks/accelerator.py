"""What the torch runtime makes of a GPU, against the common script and against what the GPU can do.

    python benchmarks/accelerator.py [--tile 128] [--count 64] [--repetitions 10] [--batch N] [--cudnn-benchmark]
    python benchmarks/accelerator.py --device cpu --tiny        # the same code without a GPU, to see that it runs

The common script: the figure's network written down literally, `.half()`, one tile after the other, `.cpu()` after
each. crispen: `TorchRuntime.map` over the same tiles, in fp16 and in bf16. Both start from float32 arrays in the host's
memory and end with the results there, in turns; medians with their range, after two times that do not count.
Operations are those of the plain network as torch counts them, a multiply-add is 2. The peak is the best of square
matrix products in the same precision. Agreement is with the same network in fp32, unrounded.

Without a GPU it says so and returns 2.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

import crispen
from crispen import zoo
from crispen.networks.generators import SRResNet
from crispen.networks.weights import load_generator, save_generator
from crispen.runtimes import Piece, TorchRuntime
from crispen.tiling import Box
from plain import plain_network

GOAL_LEAD, GOAL_SHARE = 4.0, 0.35
HALVES: dict[Literal["fp16", "bf16"], torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
COMMON = "eager fp16, common script"
Tiles = Sequence[NDArray[np.float32]]
"""(3, H, W) each."""
Run = Callable[[Tiles], list[NDArray[np.float32]]]
"""Computes all tiles; returns the first result alone, so that no time goes into keeping the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is measured on what."""

    device: Literal["cpu", "cuda"]
    weights: Path
    tiles: Tiles
    repetitions: int
    batch: int | None
    matmul_side: int


def main() -> int:
    arguments = parse_arguments()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU here, so there is nothing to measure", file=sys.stderr)
        return 2
    torch.backends.cudnn.benchmark = arguments.cudnn_benchmark
    with tempfile.TemporaryDirectory() as folder:
        report(make_setup(arguments, Path(folder)))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--model", default=crispen.DEFAULT_MODEL)
    parser.add_argument("--tile", type=int, default=128, help="side of a tile in pixels")
    parser.add_argument("--count", type=int, default=64, help="tiles")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--batch", type=int, help="tiles at once for crispen; by default its own choice")
    parser.add_argument(
        "--cudnn-benchmark", action="store_true", help="let cuDNN try its kernels, for both sides"
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny network, tiles and matrices")
    return parser.parse_args()


def make_setup(arguments: argparse.Namespace, folder: Path) -> Setup:
    side, count = (16, 5) if arguments.tiny else (arguments.tile, arguments.count)
    weights = zoo.find(arguments.model).weights
    if arguments.tiny:
        weights = folder / "tiny.safetensors"
        save_generator(SRResNet(num_blocks=1, num_features=8).eval(), weights)
    assert weights is not None
    return Setup(
        device=arguments.device,
        weights=weights,
        tiles=list(np.random.default_rng(0).random((count, 3, side, side), dtype=np.float32)),
        repetitions=3 if arguments.tiny else arguments.repetitions,
        batch=arguments.batch,
        matmul_side=256 if arguments.tiny else 8192,
    )


def report(setup: Setup) -> None:
    """Measure, and print a line for each thing measured."""
    _, height, width = setup.tiles[0].shape
    print(
        f"{device_name(setup.device)}, torch {torch.__version__}; {len(setup.tiles)} tiles of {width}x{height}"
    )
    peaks = {
        name: matmul_peak(
            dtype, device=setup.device, side=setup.matmul_side, repetitions=10 * setup.repetitions
        )
        for name, dtype in HALVES.items()
    }
    for name, peak in peaks.items():
        print(f"matmul peak in {name}: {peak / 1e12:.3g} TFLOP/s")
    flop = len(setup.tiles) * flop_of_a_tile(setup)
    runs = {COMMON: open_common(setup)} | {f"crispen {name}": open_crispen(setup, name) for name in HALVES}
    seconds = measure(runs, setup)
    exact = open_crispen(setup, "fp32")(setup.tiles[:1])[0]
    for name, run in runs.items():
        peak = peaks["bf16" if "bf16" in name else "fp16"]
        print(describe(name, seconds[name], flop=flop, peak=peak), end=", ")
        print(f"agreement {psnr(run(setup.tiles[:1])[0], exact):.1f} dB")
    for name in HALVES:
        lead = statistics.median(seconds[COMMON]) / statistics.median(seconds[f"crispen {name}"])
        share = flop / statistics.median(seconds[f"crispen {name}"]) / peaks[name]
        print(
            f"crispen {name}: {lead:.2f} times the common script{verdict(lead, GOAL_LEAD, setup)}, ", end=""
        )
        print(f"{share:.1%} of the peak{verdict(share, GOAL_SHARE, setup)}")
    if setup.device == "cuda":
        print(f"peak memory of the device: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


def device_name(device: Literal["cpu", "cuda"]) -> str:
    threads = f"CPU, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name() if device == "cuda" else threads


def matmul_peak(dtype: torch.dtype, *, device: Literal["cpu", "cuda"], side: int, repetitions: int) -> float:
    """The best rate of a square matrix product, in operations a second."""
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = min(timed(lambda: one @ other, device) for _ in range(repetitions))
    return 2 * side**3 / best


def timed(compute: Callable[[], object], device: Literal["cpu", "cuda"]) -> float:
    """Seconds until the device has done it."""
    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    compute()
    wait()
    return time.perf_counter() - start


def flop_of_a_tile(setup: Setup) -> int:
    """What the plain network computes for one tile; torch counts its convolutions."""
    network = plain_network(load_generator(setup.weights)).to("meta")  # where nothing is computed
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, *setup.tiles[0].shape, device="meta"))
    return counter.get_total_flops()


def open_common(setup: Setup) -> Run:
    """What the common scripts do: half precision, one tile after the other."""
    network = plain_network(load_generator(setup.weights)).eval().half().to(setup.device)

    def run(tiles: Tiles) -> list[NDArray[np.float32]]:
        first: list[NDArray[np.float32]] = []
        for tile in tiles:
            with torch.inference_mode():
                sr = network(torch.from_numpy(tile)[None].to(setup.device).half()).float().cpu().numpy()
            first = first or [sr[0]]
        return first

    return run


def open_crispen(setup: Setup, precision: Literal["fp32", "fp16", "bf16"]) -> Run:
    """The torch runtime."""
    runtime = TorchRuntime(setup.weights, device=setup.device, precision=precision, batch=setup.batch)

    def run(tiles: Tiles) -> list[NDArray[np.float32]]:
        pieces = (Piece(tile, Box(0, 0, *tile.shape[1:])) for tile in tiles)
        first: list[NDArray[np.float32]] = []
        for sr in runtime.map(pieces):
            first = first or [sr.copy()]
        return first

    return run


def measure(runs: dict[str, Run], setup: Setup) -> dict[str, list[float]]:
    """Seconds of all repetitions, in turns; the first two times, in which recordings are made, do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(setup.repetitions + 2):
        for name, run in runs.items():
            taken = timed(lambda run=run: run(setup.tiles), setup.device)
            if repetition >= 2:
                seconds[name].append(taken)
    return seconds


def describe(name: str, seconds: list[float], *, flop: int, peak: float) -> str:
    median = statistics.median(seconds)
    spread = f"{min(seconds) * 1e3:.4g} to {max(seconds) * 1e3:.4g}"
    rate = f"{flop / median / 1e12:.3g} TFLOP/s, {flop / median / peak:.1%} of the peak"
    return f"{name}: {median * 1e3:.4g} ms ({spread}), {rate}"


def verdict(value: float, goal: float, setup: Setup) -> str:
    """What to think of it, on a GPU; on a CPU the figures say nothing."""
    return f" (goal {goal:g}: {'reached' if value >= goal else 'missed'})" if setup.device == "cuda" else ""


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    """In dB, for a range of 1."""
    return float(-10 * np.log10(np.mean(np.square(one - other, dtype=np.float64))))


if __name__ == "__main__":
    sys.exit(main())
