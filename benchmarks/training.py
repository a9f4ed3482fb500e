"""What a pretrain step costs: a loop as the common scripts write it, in fp32 and bf16, against crispen's, in turns.

    python benchmarks/training.py [--data FOLDER] [--repetitions 10] [--batch-size 16] [--patch-size 96] [--device cuda]

The common loop: pictures decoded, cropped and shrunk by Pillow for each crop, the figure's network written down
literally (torch's PReLU, the tail's convolution at full size), Adam, torch's default use of memory. crispen's is
`crispen.training.train` itself, with everything that it does in a step; with pictures in the device's memory, too, and
on a GPU with CUDA graphs. All have the same network without batch norm and the same sizes. Medians with their range in
milliseconds, steps a second, and the share of the best matrix product in bf16: operations are those of the plain
network, forwards and backwards, a multiply-add is 2. At last the share of crispen's step that making a batch takes
(which happens in a thread of its own).
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from accelerator import matmul_peak
from crispen.networks.generators import SRResNet
from crispen.training import load_recipe, train
from crispen.training.data import open_dataset
from plain import PlainSRResNet

SCALE = 4
Device = Literal["cpu", "cuda"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / "examples")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=96)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    sizes = {"batch_size": arguments.batch_size, "patch_size": arguments.patch_size}
    device: Device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no GPU")
    named = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    peak = matmul_peak(torch.bfloat16, device=device, side=8192 if device == "cuda" else 2048, repetitions=20)
    limit = Limit(flop_of_a_step(**sizes), peak)
    print(f"torch {torch.__version__}, {named}; bf16 matmul {peak / 1e12:.3g} TFLOP/s")
    with tempfile.TemporaryDirectory() as work:
        loops = {
            "common fp32": common_loop(arguments.data, device=device, **sizes),
            "common bf16 channels_last": common_loop(arguments.data, device=device, bf16=True, **sizes),
        }
        common = measure({name: loop.__next__ for name, loop in loops.items()}, arguments.repetitions, limit)
        ways = {"crispen": [], "crispen, data.on_device": ["data.on_device=true"]}
        if device == "cuda":
            ways["crispen, and CUDA graphs"] = ["data.on_device=true", "compile=reduce-overhead"]
        ours = measure(
            {
                name: crispen_loop(
                    arguments.data, Path(work), name, device=device, overrides=changes, **sizes
                ).__next__
                for name, changes in ways.items()
            },
            arguments.repetitions,
            limit,
        )
        batch = time_of_a_batch(arguments.data, Path(work), **sizes)
    print(f"crispen's step is {common['common fp32'] / ours['crispen']:.1f} times as fast as common fp32")
    print(f"making a batch takes {batch:.1f} ms, {batch / ours['crispen']:.1%} of crispen's step")


class Limit(NamedTuple):
    """What a step's time is measured by."""

    flop: int
    """Operations of a step."""
    peak: float
    """What the device can do, in operations a second."""


def flop_of_a_step(*, batch_size: int, patch_size: int) -> int:
    """What the plain network computes for one batch, forwards and backwards; torch counts its convolutions."""
    network = PlainSRResNet(SRResNet(batch_norm=False)).to("meta")  # where nothing is computed
    side = patch_size // SCALE
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(batch_size, 3, side, side, device="meta")).sum().backward()
    return counter.get_total_flops()


def common_loop(
    data: Path, *, batch_size: int, patch_size: int, device: Device, bf16: bool = False
) -> Iterator[float]:
    """The loss of each step of a loop as the common scripts have it."""
    layout = torch.channels_last if bf16 else torch.contiguous_format
    network = cast(Any, PlainSRResNet(SRResNet(batch_norm=False))).to(device, memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    files = sorted(data.glob("*.png")) + sorted(data.glob("*.jpg"))
    while True:
        pairs = [load_crop(random.choice(files), patch_size) for _ in range(batch_size)]
        lr, hr = (torch.stack(side).to(device, memory_format=layout) for side in zip(*pairs, strict=True))
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            sr = network(lr)
        loss = nn.functional.l1_loss(sr.float(), hr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def load_crop(file: Path, patch_size: int) -> tuple[Tensor, Tensor]:
    """One random crop and its reduction."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    x, y = random.randint(0, picture.width - patch_size), random.randint(0, picture.height - patch_size)
    hr = picture.crop((x, y, x + patch_size, y + patch_size))
    lr = hr.resize((patch_size // SCALE, patch_size // SCALE), Image.Resampling.BICUBIC)
    return to_tensor(lr), to_tensor(hr)


def to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def crispen_loop(
    data: Path, work: Path, name: str, *, device: Device, overrides: Sequence[str], **sizes: int
) -> Iterator[object]:
    """The loop of crispen with the recipe of such a network that does nothing but train it."""
    changes = [*overrides, *(f"data.{key}={value}" for key, value in sizes.items())]
    return train("srresnet-x4-free", data=[data], run_dir=work / name, overrides=changes, device=device)


def time_of_a_batch(data: Path, work: Path, *, batch_size: int, patch_size: int) -> float:
    """Milliseconds that crispen takes to make a batch, the median of many."""
    dataset = open_dataset([data], scale=SCALE, patch_size=patch_size, cache=work / "cache")
    candidates = load_recipe("srresnet-x4-free").data.candidates
    times: list[float] = []
    for step in range(100):
        started = time.perf_counter()
        dataset.batch(seed=0, step=step, batch_size=batch_size, patch_size=patch_size, candidates=candidates)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def measure(steps: dict[str, Callable[[], object]], repetitions: int, limit: Limit) -> dict[str, float]:
    """Call each in turn, after two times that are not counted; print and return medians in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(repetitions + 2):
        for name, call in steps.items():
            started = time.perf_counter()
            call()
            if repetition >= 2:
                times[name].append(1000 * (time.perf_counter() - started))
    for name, values in times.items():
        each = statistics.median(values)
        print(
            f"{name:26} {each:7.1f} ms  ({min(values):.1f} to {max(values):.1f}), {1000 / each:.2f} steps/s,"
            f" {1000 * limit.flop / each / limit.peak:.0%} of the peak"
        )
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
