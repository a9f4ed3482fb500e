"""The processes that `inference.py` and `scaling.py` start; each holds one method, so that its memory is its own.

    inference_worker.py serve METHOD ASSETS PICTURE THREADS     computes when told through its standard input
    inference_worker.py file METHOD ASSETS THREADS INPUT OUTPUT   reads, enlarges and writes one picture
    inference_worker.py prepare onnx|ncnn ASSETS                converts the network
    inference_worker.py picture SOURCE WIDTH HEIGHT OUTPUT      makes a picture of a size, by mirroring
    inference_worker.py tiny OUTPUT                             makes an ONNX file of 1 block and 16 features
    inference_worker.py agreement ONE OTHER                     prints the PSNR of two results in dB, or inf

``serve`` answers each line with one of JSON: ``run`` computes once and tells its seconds, the process' peak memory and
what it still holds in bytes; ``save PATH`` writes the last result as an 8-bit picture in an ``.npy`` file.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from inference_methods import METHODS, Bytes, prepare, to_bytes

SHARE_OF_MEMORY = 0.8
"""Of what is free, how much a worker may take: one that needs more fails, and nobody else."""

Image.MAX_IMAGE_PIXELS = None  # ours are large, and known


def main() -> None:
    verb, *arguments = sys.argv[1:]
    verbs: dict[str, Callable[..., None]] = {
        "serve": serve, "file": enlarge_file, "prepare": convert, "picture": make_picture, "tiny": make_tiny,
        "agreement": agree,
    }  # fmt: skip
    verbs[verb](*arguments)


def serve(method: str, assets: str, picture: str, threads: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    run = METHODS[method].open(Path(assets), read(picture), int(threads))
    result: Any = None
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        bound_memory()
        if command == "save":
            np.save(path, to_bytes(result))
            print("{}", file=answers)
            continue
        result = None  # or two would be held
        started = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - started
        answer = {"seconds": seconds, "memory": peak_memory(), "held": held_memory()}
        print(json.dumps(answer), file=answers)


def enlarge_file(method: str, assets: str, threads: str, source: str, target: str) -> None:
    """A whole process, as a short script with this method would be."""
    bound_memory()
    sr = to_bytes(METHODS[method].open(Path(assets), read(source), int(threads))())
    Image.fromarray(sr).save(target)


def convert(asset: str, assets: str) -> None:
    prepare(cast(Literal["onnx", "ncnn"], asset), Path(assets))


def make_picture(source: str, width: str, height: str, target: str) -> None:
    """Cut out of a picture, or mirror it until it is large enough: content that is a photograph's at any size."""
    pixels = read(source)
    missing = [
        max(0, wanted - has) for wanted, has in zip((int(height), int(width)), pixels.shape, strict=False)
    ]
    mirrored = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
    write(mirrored[: int(height), : int(width)], target)


def make_tiny(target: str) -> None:
    """Random weights, which never change."""
    import torch

    from crispen.export import export_onnx
    from crispen.networks.generators import SRResNet

    torch.manual_seed(0)
    export_onnx(SRResNet(num_blocks=1, num_features=16, batch_norm=False).eval(), Path(target))


def agree(one: str, other: str) -> None:
    """Over all channels and pixels, a band at a time."""
    left, right = read(one), read(other)
    squares = sum(
        float(np.square(left[row : row + 256].astype(np.float64) - right[row : row + 256]).sum())
        for row in range(0, left.shape[0], 256)
    )
    print(10 * np.log10(255**2 * left.size / squares) if squares else float("inf"))


def read(path: str) -> Bytes:
    if path.endswith(".npy"):
        return np.load(path, mmap_mode="r")
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))


def write(pixels: Bytes, path: str) -> None:
    """Quickly: what a script would write by itself, `enlarge_file` does."""
    Image.fromarray(pixels).save(path, compress_level=1)


def peak_memory() -> int:
    """Bytes that this process has held at most.

    Linux lets a process begin with the peak of the one that started it; ours imports nothing large for that reason.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory() -> int:
    """Bytes that this process holds now; where the system does not say, what it has held at most."""
    status = Path("/proc/self/status")
    return in_bytes(status, "VmRSS") if status.exists() else peak_memory()


def bound_memory() -> None:
    """Make allocations fail that the machine could not bear, where it says what is free.

    Only one of the processes computes at a time, and asks each time anew: so the others' memory is accounted for.
    """
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        free, held = in_bytes(meminfo, "MemAvailable"), in_bytes(Path("/proc/self/status"), "VmData")
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (held + int(SHARE_OF_MEMORY * free), hard))


def in_bytes(table: Path, name: str) -> int:
    """An entry in kB of one of Linux' tables."""
    entries = dict(line.split(":", 1) for line in table.read_text().splitlines())
    return int(entries[name].split()[0]) * 1024


if __name__ == "__main__":
    main()
