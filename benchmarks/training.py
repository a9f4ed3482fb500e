"""What one pretrain step costs: the plain network in fp32 and bf16 against crispen's, in turns.

    python benchmarks/training_step.py [--repetitions 10] [--batch-size 16] [--patch-size 96]

"plain" is the figure written down literally: torch's PReLU, the tail's convolution at full size, torch's default use of
memory. Medians with their range, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from crispen.networks.generators import SRResNet
from crispen.training import memory
from crispen.training.recipe import PretrainTable
from crispen.training.steps import Arithmetic, Learner, pretrain_step
from plain import PlainSRResNet

Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=96)
    arguments = parser.parse_args()
    hr = torch.rand(arguments.batch_size, 3, arguments.patch_size, arguments.patch_size)
    lr = torch.rand(arguments.batch_size, 3, arguments.patch_size // 4, arguments.patch_size // 4)

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    plain = {
        "plain fp32 NCHW": step(
            PlainSRResNet(SRResNet(batch_norm=False)), lr, hr, "fp32", torch.contiguous_format
        ),
        "plain bf16 channels_last": step(
            PlainSRResNet(SRResNet(batch_norm=False)), lr, hr, "bf16", torch.channels_last
        ),
    }
    measure(plain, arguments.repetitions)
    memory.keep_freed_memory()
    measure(
        {"crispen bf16": step(SRResNet(batch_norm=False), lr, hr, "bf16", torch.channels_last)},
        arguments.repetitions,
    )


def step(
    network: nn.Module, lr: Tensor, hr: Tensor, precision: str, memory_format: torch.memory_format
) -> Step:
    """One pretrain step of a network, ready to be called."""
    network = cast(Any, network).to(memory_format=memory_format)  # torch's stub forgets this argument
    lr, hr = lr.to(memory_format=memory_format), hr.to(memory_format=memory_format)
    learner = Learner(network, torch.optim.Adam(network.parameters(), fused=True))
    table = PretrainTable(steps=1, pixel_loss="l1")
    arithmetic = Arithmetic(torch.device("cpu"), "bf16" if precision == "bf16" else "fp32")
    return lambda: pretrain_step(learner, lr, hr, table=table, learning_rate=1e-4, arithmetic=arithmetic)


def measure(steps: dict[str, Step], repetitions: int) -> None:
    """Call each step in turn, after two that are not counted, and print medians."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(repetitions + 2):
        for name, call in steps.items():
            started = time.perf_counter()
            call()
            if repetition >= 2:
                times[name].append(1000 * (time.perf_counter() - started))
    for name, values in times.items():
        print(f"{name:26} {statistics.median(values):7.0f} ms  ({min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    main()
