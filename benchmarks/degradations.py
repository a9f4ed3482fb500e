"""A sheet of crops beside what a recipe's degradation makes of them, to be looked at before a long run.

    python benchmarks/degradations.py SHEET.png [--data FOLDER] [--recipe srgan-x4-photo] [--seed 0]

Of each pair the crop is left and its small version, its pixels enlarged, right. They are drawn as the recipe's are,
but larger, so that one sees what they show; a seed gives the same sheet each time. Printed is what it takes to make a
batch of the recipe's, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crispen import images
from crispen.training import Recipe, load_recipe
from crispen.training.data import Batch, Dataset, open_dataset

Bytes = NDArray[np.uint8]

COUNT = 24
ACROSS = 4
SIDE = 192  # of the crops on the sheet
GAP = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / "examples")
    parser.add_argument("--recipe", default="srgan-x4-photo")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    with tempfile.TemporaryDirectory() as work:
        patch_size = max(SIDE, recipe.data.patch_size)
        dataset = open_dataset(
            [arguments.data], scale=recipe.generator.scale, patch_size=patch_size, cache=Path(work)
        )
        batch = drawn(dataset, recipe, seed=arguments.seed, batch_size=COUNT, patch_size=SIDE)
        times = [time_of_a_batch(dataset, recipe, seed) for seed in range(22)][2:]
    images.write(images.from_array(sheet(batch)), arguments.sheet, force=True)
    print(
        f"a batch of {recipe.data.batch_size} crops of {recipe.data.patch_size} pixels takes"
        f" {statistics.median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})"
    )


def drawn(dataset: Dataset, recipe: Recipe, *, seed: int, **others: int) -> Batch:
    """A batch as the recipe has it, but for what is said otherwise, without crops of a single colour."""
    arguments: dict[str, Any] = recipe.data.of_batches() | {"flat_share": 0.0} | others
    return dataset.batch(seed=seed, step=0, **arguments)


def time_of_a_batch(dataset: Dataset, recipe: Recipe, seed: int) -> float:
    """Milliseconds that a batch of the recipe's takes."""
    started = time.perf_counter()
    drawn(dataset, recipe, seed=seed)
    return 1000 * (time.perf_counter() - started)


def sheet(batch: Batch) -> Bytes:
    """All pairs of a batch, on white."""
    hrs, lrs = as_bytes(batch.hr), as_bytes(batch.lr)
    scale = hrs.shape[1] // lrs.shape[1]
    pairs = np.concatenate([hrs, lrs.repeat(scale, axis=1).repeat(scale, axis=2)], axis=2)
    framed = np.pad(pairs, ((0, 0), (GAP, 0), (GAP, 0), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(framed[first : first + ACROSS]), axis=1) for first in range(0, COUNT, ACROSS)]
    return np.concatenate(rows)


def as_bytes(pictures: Tensor) -> Bytes:
    """(N, 3, H, W) in [0, 1] to (N, H, W, 3)."""
    return (255 * pictures).round().byte().permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    main()
