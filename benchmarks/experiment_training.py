"""What gains most for each step of training? docs/experiments/training.md, made again.

Trains one small generator again and again, each time with one thing changed, and keeps the curves of PSNR on some of
the validation pictures. All runs have the same number of multiplications, so that one with smaller batches has more
steps. Runs that are done already are kept: a run of the script that was stopped goes on where it was.

    python benchmarks/experiment_training.py --data SHARD... --valid FOLDER --work FOLDER --report docs/experiments
        [--steps 500] [--seeds 0] [--only NAME...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from crispen.networks.generators import build_generator
from crispen.networks.weights import load_generator, save_generator
from crispen.training import Recipe, load_recipe, train
from deepen import deepened

RECIPE = "tiny-x4-free"
BASE = (
    "generator.num_blocks=3", "generator.num_features=32", "data.patch_size=64", "data.batch_size=16",
    "data.candidates=1", "stage.pretrain.warmup_steps=30", "validate_pictures=8",
)  # fmt: skip
"""What all runs share, over the recipe."""

LOOKS = 4
"""Validations of a run, evenly over its multiplications."""

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""The baseline's first (Okabe and Ito, as in crispen.training.plots)."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Part of a run; it starts from what the one before has left."""

    overrides: tuple[str, ...]
    """Over the recipe and `BASE`."""
    share: float = 1.0
    """Of the run's multiplications."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing changed."""

    question: str
    """What it is an answer to: a panel of the plot."""
    name: str
    phases: tuple[Phase, ...]


def changed(question: str, name: str, *overrides: str) -> Variant:
    """A variant of a single phase."""
    return Variant(question, name, (Phase(overrides),))


def in_two(question: str, name: str, first: Sequence[str], second: Sequence[str] = ()) -> Variant:
    """A variant with a first half at a constant learning rate, and a second in which that decays."""
    return Variant(
        question,
        name,
        (Phase((*first, "stage.pretrain.schedule=constant"), 0.5), Phase(tuple(second), 0.5)),
    )


BASELINE = changed("", "baseline")
VARIANTS = (
    BASELINE,
    changed("loss", "MSE", "stage.pretrain.pixel_loss=mse"),
    changed("loss", "Charbonnier", "stage.pretrain.pixel_loss=charbonnier"),
    changed("teacher", "MSE, taught", "stage.pretrain.pixel_loss=mse", "data.teacher=srresnet-x4",
            "data.teacher_share=0.7"),
    changed("norm and first weights", "batch norm", "generator.batch_norm=true", "generator.damp_residuals=1"),
    changed("norm and first weights", "residuals not damped", "generator.damp_residuals=1"),
    changed("norm and first weights", "residuals nearly zero", "generator.damp_residuals=0.001"),
    changed("learning rate", "3e-4", "stage.pretrain.learning_rate=3e-4"),
    changed("learning rate", "3e-3", "stage.pretrain.learning_rate=3e-3"),
    changed("learning rate", "1e-3, betas 0.9, 0.99", "stage.pretrain.betas=[0.9, 0.99]"),
    changed("optimiser", "Muon, 1e-3", "stage.pretrain.optimizer=muon"),
    changed("optimiser", "Muon, 3e-3", "stage.pretrain.optimizer=muon", "stage.pretrain.learning_rate=3e-3"),
    changed("symmetry", "equivariant", "generator.equivariant=true"),
    changed("symmetry", "equivariant, Muon, 1e-3", "generator.equivariant=true", "stage.pretrain.optimizer=muon"),
    changed("symmetry", "equivariant, Muon, 3e-3", "generator.equivariant=true", "stage.pretrain.optimizer=muon",
            "stage.pretrain.learning_rate=3e-3"),
    changed("decay and average", "no average", "ema_decay=0"),
    changed("decay and average", "no decay", "stage.pretrain.schedule=constant"),
    changed("decay and average", "neither", "stage.pretrain.schedule=constant", "ema_decay=0"),
    changed("sampling", "best of 4", "data.candidates=4"),
    changed("patch, same pixels", "64 of 32²", "data.patch_size=32", "data.batch_size=64"),
    changed("patch, same pixels", "4 of 128²", "data.patch_size=128", "data.batch_size=4"),
    changed("batch", "batch 4", "data.batch_size=4"),
    changed("batch", "batch 64", "data.batch_size=64"),
    in_two("in two halves", "the same twice", []),
    in_two("in two halves", "32², then 64²", ["data.patch_size=32"]),
    in_two("in two halves", "1 block, then 3", ["generator.num_blocks=1"]),
    in_two("in two halves", "L1, then MSE", [], ["stage.pretrain.pixel_loss=mse"]),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--valid", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500, help="of the baseline; decides the length of all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", help="names of variants")
    arguments = parser.parse_args()
    total = arguments.steps * operations_per_step(recipe_of(BASELINE.phases[0]))
    chosen = [variant for variant in VARIANTS if arguments.only is None or variant.name in arguments.only]
    for seed in arguments.seeds:
        for variant in chosen:
            result = arguments.work / f"{file_name(variant.name)}-seed{seed}.json"
            if not result.is_file():
                curve = list(
                    measure(variant, arguments.data, arguments.valid, result, seed=seed, total=total)
                )
                entry = {"question": variant.question, "variant": variant.name, "seed": seed, "curve": curve}
                result.write_text(json.dumps(entry))
                print(f"{variant.name}, seed {seed}: {curve[-1]['psnr']:.3f} dB", flush=True)
    results = collect(arguments.work)
    (arguments.report / "training.json").write_text(
        "[\n" + ",\n".join(json.dumps(entry) for entry in results) + "\n]\n"
    )
    draw(results, arguments.report / "training.png")
    print(table(results))


def recipe_of(phase: Phase) -> Recipe:
    return load_recipe(RECIPE, overrides=(*BASE, *phase.overrides))


def operations_per_step(recipe: Recipe) -> int:
    """Multiplications of a step of the pretraining: forward, and twice as many backward."""
    table = recipe.generator
    side = recipe.data.patch_size // table.scale
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_generator(
            {
                "generator": table.architecture, "scale": table.scale, "num_blocks": table.num_blocks,
                "num_features": table.num_features, "batch_norm": table.batch_norm,
            }
        )(torch.empty(recipe.data.batch_size, 3, side, side))  # fmt: skip
    return 3 * counter.get_total_flops() // 2  # which counts additions, too


def measure(
    variant: Variant, data: Sequence[str], valid: str, result: Path, *, seed: int, total: int
) -> Iterator[dict[str, float]]:
    """Train a variant; yield a point of its curve at each validation."""
    steps, operations, seconds, init = 0, 0.0, 0.0, None
    for number, phase in enumerate(variant.phases):
        per_step = operations_per_step(recipe_of(phase))
        length = round(phase.share * total / per_step)
        run_dir = result.with_name(f"{result.stem}-phase{number}")
        overrides = [
            *BASE, *phase.overrides, f"seed={10 * seed + number}", f"stage.pretrain.steps={length}",
            f"validate_every={max(1, round(length / (LOOKS * phase.share)))}",
        ]  # fmt: skip
        started = time.process_time()
        for progress in train(
            RECIPE, data=data, valid=valid, run_dir=run_dir, overrides=overrides, init=init, resume=False
        ):
            if progress.validation:
                yield {
                    "step": steps + progress.step,
                    "operations": operations + progress.step * per_step,
                    "cpu_seconds": round(seconds + time.process_time() - started, 1),
                    "psnr": round(progress.validation["valid_psnr"], 4),
                }
        steps, operations = steps + length, operations + length * per_step
        seconds += time.process_time() - started
        if number + 1 < len(variant.phases):
            init = str(grown(run_dir, recipe_of(variant.phases[number + 1])))


def grown(run_dir: Path, recipe: Recipe) -> Path:
    """Weights to go on from, with as many blocks as the recipe has: the new ones do nothing yet."""
    small = load_generator(run_dir / "weights.safetensors")
    if small.num_blocks == recipe.generator.num_blocks:
        return run_dir / "weights.safetensors"
    torch.manual_seed(recipe.seed)
    save_generator(deepened(small, recipe.generator.num_blocks), run_dir / "grown.safetensors")
    return run_dir / "grown.safetensors"


def file_name(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)


def collect(work: Path) -> list[dict[str, Any]]:
    """All results that are there, in the order of `VARIANTS`, seeds rising."""
    names = [variant.name for variant in VARIANTS]
    found = [json.loads(path.read_text()) for path in work.glob("*-seed*.json")]
    return sorted(found, key=lambda entry: (names.index(entry["variant"]), entry["seed"]))


def by_variant(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for entry in results:
        grouped.setdefault(entry["variant"], []).append(entry)
    return grouped


def final(entries: Sequence[dict[str, Any]]) -> float:
    """Mean PSNR at the end."""
    return statistics.fmean(entry["curve"][-1]["psnr"] for entry in entries)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown; gains are over the baseline of the same seeds."""
    grouped = by_variant(results)
    baseline = {entry["seed"]: entry["curve"][-1]["psnr"] for entry in grouped[BASELINE.name]}
    lines = [
        "| question | variant | steps | PSNR (dB) | gain (dB), each seed | CPU seconds |",
        "|---" * 6 + "|",
    ]
    for name, entries in grouped.items():
        gains = ", ".join(
            f"{entry['curve'][-1]['psnr'] - baseline[entry['seed']]:+.3f}"
            for entry in entries
            if entry["seed"] in baseline
        )
        end = entries[0]["curve"][-1]
        seconds = statistics.fmean(entry["curve"][-1]["cpu_seconds"] for entry in entries)
        lines.append(
            f"| {entries[0]['question']} | {name} | {end['step']} | {final(entries):.3f} | {gains} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel for each question over multiplications; where steps cost differently, a second over steps."""
    grouped = by_variant(results)
    questions = list(dict.fromkeys(entry["question"] for entry in results if entry["question"]))
    panels = [(question, axis) for question in questions for axis in axes_of(question, results)]
    columns = 4
    figure = Figure(figsize=(16, 3.4 * -(-len(panels) // columns)), layout="constrained")
    grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False)
    for place in grid.flat[len(panels) :]:
        place.set_axis_off()
    least = min(entry["curve"][-1]["psnr"] for entry in results) - 0.1  # so that failures are seen
    for place, (question, axis) in zip(grid.flat, panels, strict=False):
        names = [
            BASELINE.name,
            *(name for name, found in grouped.items() if found[0]["question"] == question),
        ]
        for name, colour in zip(names, COLOURS, strict=False):
            for index, entry in enumerate(grouped[name]):
                x = [point[axis] / (1e12 if axis == "operations" else 1) for point in entry["curve"]]
                y = [point["psnr"] for point in entry["curve"]]
                place.plot(x, y, ".-", color=colour, alpha=0.8, label=name if index == 0 else None)
        place.set_title(question, loc="left", fontsize=11)
        place.set_xlabel("10¹² multiplications" if axis == "operations" else "steps")
        place.set_ylim(bottom=least)
        place.grid(alpha=0.25)
        place.legend(fontsize=8)
    for row in grid:
        row[0].set_ylabel("PSNR, validation (dB)")
    figure.savefig(path, dpi=100)


def axes_of(question: str, results: Sequence[dict[str, Any]]) -> list[str]:
    """What runs along the x axis of a question's panels."""
    ends = {entry["curve"][-1]["step"] for entry in results if entry["question"] in ("", question)}
    return ["operations"] if len(ends) == 1 else ["operations", "step"]


if __name__ == "__main__":
    main()
