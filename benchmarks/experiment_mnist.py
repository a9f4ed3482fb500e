"""Does a classifier's loss make generated digits clear sooner? docs/experiments/mnist.md, made again.

Trains ``srgan-mnist`` and ``srgan-mnist-classifier`` for 150 iterations at 2× and 4× from several seeds, and measures
the generator after every tenth on a fifth of the 10,000 test digits: mean squared error, and the share that is
recognised by a judge, a classifier of another seed that no run has been trained against.

    python benchmarks/experiment_mnist.py --mnist MNIST_FOLDER --work FOLDER --report docs/experiments
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crispen import images
from crispen.networks.classifier import DigitClassifier
from crispen.networks.weights import load_generator, load_weights_into
from crispen.training import train
from crispen.training.data import Dataset, open_dataset

EVERY = 5
ITERATIONS = range(10, 151, 10)
RECIPES = {"plain": "srgan-mnist", "classifier": "srgan-mnist-classifier"}
T_95 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}
"""Student's t for a 95 % interval by degrees of freedom."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    judge = train_judge(arguments.mnist, arguments.work)
    results: list[dict[str, Any]] = []
    for scale in (2, 4):
        digits = open_dataset(
            [arguments.mnist], scale=scale, patch_size=28, cache=arguments.work / "cache", purpose="valid"
        )
        print(
            f"scale {scale}: the judge recognises {accuracy(judge, *true_digits(digits)):.2%} of the true digits"
        )
        for form, recipe in RECIPES.items():
            for seed in range(1, arguments.seeds + 1):
                run_dir = arguments.work / f"{recipe}-x{scale}-seed{seed}"
                train_run(recipe, arguments.mnist, run_dir, scale=scale, seed=seed)
                for iteration, mse, share in measure(run_dir, digits, judge):
                    results.append(
                        {
                            "scale": scale,
                            "form": form,
                            "seed": seed,
                            "iteration": iteration,
                            "mse": mse,
                            "share": share,
                        }
                    )
                print(results[-1], flush=True)
        draw_grid(arguments.work, digits, scale, arguments.report / f"mnist-x{scale}.png")
    (arguments.report / "mnist.json").write_text(json.dumps(results, indent=1) + "\n")
    draw_curves(results, arguments.report / "mnist-curves.png")
    print(table(results))


def train_judge(mnist: Path, work: Path) -> DigitClassifier:
    """A classifier from a seed that no run has."""
    run_dir = work / "judge"
    if not (run_dir / "classifier.safetensors").is_file():
        overrides = ["seed=1000", "stage.gan.steps=1"]
        for _ in train(
            RECIPES["classifier"], data=[mnist], valid=mnist, run_dir=run_dir, overrides=overrides
        ):
            pass
    judge = DigitClassifier()
    load_weights_into(judge, run_dir / "classifier.safetensors")
    return judge.eval()


def train_run(recipe: str, mnist: Path, run_dir: Path, *, scale: int, seed: int) -> None:
    """One run, unless it has been made already."""
    if (run_dir / "weights.safetensors").is_file():
        return
    overrides = [f"generator.scale={scale}", f"seed={seed}", "snapshot_every=10"]
    for _ in train(recipe, data=[mnist], run_dir=run_dir, overrides=overrides):
        pass


def true_digits(digits: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Every fifth test digit (N, 3, 28, 28) and their labels (N,)."""
    chosen = range(0, len(digits), EVERY)
    hr = torch.cat([digits.whole(index)[1] for index in chosen])
    return hr, torch.tensor([digits.label(index) for index in chosen])


@torch.inference_mode()
def accuracy(judge: DigitClassifier, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of pictures whose label the judge finds."""
    parts = cast(Sequence[torch.Tensor], pictures.split(500))
    found = torch.cat([judge(part).argmax(1) for part in parts])
    return float((found == labels).float().mean())


@torch.inference_mode()
def measure(run_dir: Path, digits: Dataset, judge: DigitClassifier) -> Iterator[tuple[int, float, float]]:
    """(iteration, mean squared error in [0, 1]², share recognised) of each snapshot."""
    hr, labels = true_digits(digits)
    lr = torch.cat([digits.whole(index)[0] for index in range(0, len(digits), EVERY)])
    for iteration in ITERATIONS:
        generator = load_generator(run_dir / "snapshots" / f"gan-{iteration:08d}.safetensors")
        parts = cast(Sequence[torch.Tensor], lr.split(500))
        sr = torch.cat([generator(part).clamp(0, 1) for part in parts])
        yield iteration, float((sr - hr).square().mean()), accuracy(judge, sr, labels)


@torch.inference_mode()
def draw_grid(work: Path, digits: Dataset, scale: int, path: Path) -> None:
    """A row for each iteration: the same ten test digits, plain on the left, with the classifier on the right.

    The first row shows the input, the last the truth.
    """
    chosen = [next(i for i in range(len(digits)) if digits.label(i) == digit) for digit in range(10)]
    lr, hr = (torch.cat(side) for side in zip(*(digits.whole(i) for i in chosen), strict=True))
    pixels = torch.nn.functional.interpolate(lr, scale_factor=scale, mode="nearest")
    rows = [[*pixels, *pixels]]
    for iteration in ITERATIONS:
        made: list[torch.Tensor] = []
        for recipe in RECIPES.values():
            run_dir = work / f"{recipe}-x{scale}-seed1"
            generator = load_generator(run_dir / "snapshots" / f"gan-{iteration:08d}.safetensors")
            made += [*generator(lr).clamp(0, 1)]
        rows.append(made)
    rows.append([*hr, *hr])
    grid = np.concatenate([np.concatenate([as_bytes(digit) for digit in row], axis=1) for row in rows])
    images.write(images.from_array(np.repeat(np.repeat(grid, 2, 0), 2, 1)), path, force=True)


def as_bytes(picture: torch.Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] to gray (H + 2, W + 2) with a dark frame."""
    return np.pad((255 * picture.mean(0)).round().byte().numpy(), 1, constant_values=64)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of the 95 % interval of the mean."""
    mean, count = float(np.mean(values)), len(values)
    return mean, T_95[count - 1] * float(np.std(values, ddof=1)) / math.sqrt(count)


def values_of(results: list[dict[str, Any]], key: str, **wanted: object) -> list[float]:
    return [entry[key] for entry in results if all(entry[name] == value for name, value in wanted.items())]


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| scale | iteration | MSE plain | MSE classifier | recognised plain | recognised classifier |"]
    lines.append("|---|---|---|---|---|---|")
    for scale in (2, 4):
        for iteration in ITERATIONS:
            cells = [f"{scale}×", str(iteration)]
            for key, factor, unit in (("mse", 1000, "e-3"), ("share", 100, " %")):
                for form in RECIPES:
                    mean, half = interval(
                        values_of(results, key, scale=scale, iteration=iteration, form=form)
                    )
                    cells.append(f"{factor * mean:.1f} ± {factor * half:.1f}{unit}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_curves(results: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for column, scale in enumerate((2, 4)):
        for row, (key, name) in enumerate(
            (("mse", "mean squared error"), ("share", "share recognised by the judge"))
        ):
            axis = axes[row, column]
            for form, colour in (("plain", "#0072B2"), ("classifier", "#D55E00")):
                means, halves = zip(
                    *(
                        interval(values_of(results, key, scale=scale, iteration=i, form=form))
                        for i in ITERATIONS
                    ),
                    strict=True,
                )
                axis.errorbar(list(ITERATIONS), means, yerr=halves, label=form, color=colour, capsize=3)
            axis.set_title(f"{scale}×: {name}")
            axis.set_xlabel("iteration")
            axis.grid(alpha=0.3)
            if key == "mse":
                axis.set_yscale("log")
    axes[0, 0].legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
