"""Does the memory that a picture takes grow with the picture? From file to file, ×4, in as little as it needs.

    python benchmarks/large_pictures.py [--sides 2000 8000 20000] [--height ROWS] [--formats png pyramid]

Makes squares (or, with --height, wide and low pictures), strip by strip, and enlarges each by a network with 8 features
and random weights, in a process of its own; what larger networks take beside that is `memory.py`'s. Printed are the
peak of the resident memory, and seconds for each megapixel of the result, on all processors or as many as
OMP_NUM_THREADS says. A side of 20000 makes a result of 6400 megapixels, and needs some 40 GB in the temporary folder.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

ROWS = 250  # of a made strip
SUFFIXES = {"png": ".png", "pyramid": ".tif"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 8000, 20000])
    parser.add_argument("--height", type=int, help="default: as wide")
    parser.add_argument("--formats", nargs="+", choices=SUFFIXES, default=list(SUFFIXES))
    arguments = parser.parse_args()
    print(f"{'picture':>13} {'result':>13} {'format':>8} {'peak':>9} {'s/megapixel':>12}")
    with tempfile.TemporaryDirectory() as name, processes() as pool:
        folder = Path(name)
        model = pool.submit(made_model, folder / "model").result()
        for width in arguments.sides:
            height = arguments.height or width
            source = pool.submit(made_picture, folder / "small.png", width, height).result()
            for form in arguments.formats:
                target = folder / f"large{SUFFIXES[form]}"
                peak, seconds = pool.submit(enlarge, source, target, model).result()
                target.unlink()
                sizes = f"{f'{width}x{height}':>13} {f'{4 * width}x{4 * height}':>13}"
                print(
                    f"{sizes} {form:>8} {peak >> 20:>5} MiB {seconds / (16e-6 * width * height):>12.3f}",
                    flush=True,
                )


def processes() -> ProcessPoolExecutor:
    """Runs each call in a fresh process, so that its peak is its own."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)


def made_model(folder: Path) -> Path:
    """Export a tiny network of random weights."""
    from crispen.export import export_model
    from crispen.networks.generators import SRResNet
    from crispen.networks.weights import save_generator

    weights = folder.with_suffix(".safetensors")
    save_generator(SRResNet(scale=4, num_blocks=1, num_features=8, batch_norm=False).eval(), weights)
    export_model(weights, folder)
    return folder


def made_picture(path: Path, width: int, height: int) -> Path:
    """Write waves with a little noise, such as a photo has, of which no more than a strip is ever held."""
    from crispen import images
    from crispen.images import Header, Picture

    def strips() -> Iterator[Picture]:
        noise = np.random.default_rng(0).integers(0, 8, (ROWS, width, 3), dtype=np.uint8)
        across = 60 * np.sin(np.arange(width) / 40)[:, np.newaxis] + (100, 120, 140)
        for top in range(0, height, ROWS):
            rows = np.arange(top, min(top + ROWS, height))
            waves = across + 50 * np.sin(rows / 70)[:, np.newaxis, np.newaxis]
            yield Picture(pixels=waves.astype(np.uint8) + noise[: len(rows)])

    header = Header(height=height, width=width, channels=3, bit_depth=8)
    images.write_rows(header, strips(), path, force=True)
    return path


def enlarge(source: Path, target: Path, model: Path) -> tuple[int, float]:
    """Enlarge a file, and return the process' peak in bytes and the seconds it took."""
    from crispen import zoo
    from crispen.images import Encoding
    from crispen.upscaling import Upscaler
    from crispen.upscaling.files import Wishes, enlarge_file

    upscaler = Upscaler(zoo.find(model), runtime="openvino")
    wishes = Wishes(encoding=Encoding(pyramid=target.suffix == ".tif"))
    started = time.monotonic()
    enlarge_file(source, target, upscaler, wishes=wishes)
    return peak_bytes(), time.monotonic() - started


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
