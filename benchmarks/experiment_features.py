"""Which features make the best perceptual loss? docs/experiments/features.md, made again.

Fine-tunes the same generator for the same number of steps with each candidate in turn, everything else alike. The
weight of each candidate is set so that its gradient at the generated picture is as long as the others' at the start.
Each result is measured on the validation pictures: PSNR, the power of fine detail against the truth's, checkerboard
energy, and the distance in the features of every candidate, those that it was not trained on among them.

    python benchmarks/experiment_features.py --data SHARD... --valid FOLDER --features FOLDER --work FOLDER
        --report docs/experiments [--steps 300]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispen import images, psnr, resize
from crispen.evaluation import texture_energy
from crispen.networks.features import load_features
from crispen.networks.generators import AnyGenerator
from crispen.networks.weights import load_generator
from crispen.runtimes import supports_bf16
from crispen.training import train
from crispen.training.data import Dataset, open_dataset
from crispen.training.health import checkerboard_energy

CANDIDATES = {
    "none": None,
    "VGG relu2_2": ("vgg19-normalised", "relu2_2"),
    "VGG relu3_1": ("vgg19-normalised", "relu3_1"),
    "SqueezeNet fire5": ("squeezenet", "fire5"),
    "SqueezeNet fire9": ("squeezenet", "fire9"),
    "discriminator": "feature matching",
}
PULL = 1.0
"""Length of each perceptual gradient at the start, in lengths of the pixel loss' gradient."""

BASE = [
    "validate_every=100000", "stage.gan.schedule=constant", "stage.gan.grid_weight=300", "stage.gan.features=[]",
    "stage.gan.perceptual_weight=0", "stage.gan.adversarial_weight=0.01", "stage.gan.discriminator_warmup_steps=30",
]  # fmt: skip
"""What all candidates share, over the recipe srgan-x4."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    cache = arguments.work / "cache"
    valid = open_dataset([arguments.valid], scale=4, patch_size=96, cache=cache, purpose="valid")
    training = open_dataset(arguments.data, scale=4, patch_size=96, cache=cache)
    start = load_generator(Path(__file__).parent.parent / "src/crispen/zoo/srresnet-x4/weights.safetensors")
    chosen = range(0, len(valid), 4)
    results = [measure("before", start, valid, chosen, arguments.features)]
    generators = {"before": start}
    for name in CANDIDATES:
        run_dir = arguments.work / name.replace(" ", "-")
        if not (run_dir / "weights.safetensors").is_file():
            overrides = [
                *BASE,
                f"stage.gan.steps={arguments.steps}",
                *content(name, start, training, arguments.features),
            ]
            for _ in train(
                "srgan-x4",
                data=arguments.data,
                run_dir=run_dir,
                overrides=overrides,
                features=arguments.features,
            ):
                pass
        generators[name] = load_generator(run_dir / "weights.safetensors")
        results.append(measure(name, generators[name], valid, chosen, arguments.features))
        print(results[-1], flush=True)
    (arguments.report / "features.json").write_text(json.dumps(results, indent=1) + "\n")
    draw_sheet(generators, arguments.report / "features.png")
    print(table(results))


def content(name: str, start: AnyGenerator, training: Dataset, features: Path) -> list[str]:
    """The overrides that make a candidate the perceptual loss, weighed to pull as hard as the pixels."""
    candidate = CANDIDATES[name]
    if candidate is None:
        return []
    if isinstance(candidate, str):
        return ["stage.gan.feature_matching_weight=0.1"]
    network, layer = candidate
    weight = PULL * gradient(start, training, None, features) / gradient(start, training, candidate, features)
    print(f"{name}: weight {weight:.4g}")
    table = f'[{{network = "{network}", layers = {{{layer} = {weight}}}, loss = "l1"}}]'
    return [f"stage.gan.features={table}", "stage.gan.perceptual_weight=1"]


def gradient(
    start: AnyGenerator, training: Dataset, candidate: tuple[str, str] | None, features: Path
) -> float:
    """Length of the gradient of a loss of absolute differences at the generated pictures: of pixels, or of a layer."""
    batch = training.batch(seed=0, step=0, patch_size=96, batch_size=8)
    with torch.no_grad():
        sr = start(batch.lr)
    sr.requires_grad_()
    found, true = sr, batch.hr
    if candidate:
        network, layer = candidate
        extractor = load_features(network, layers=[layer], source=features)
        found, true = extractor(sr)[layer], extractor(true)[layer]
    torch.nn.functional.l1_loss(found, true).backward()
    assert sr.grad is not None
    return float(sr.grad.norm())


@torch.inference_mode()
def enlarge(generator: AnyGenerator, lr: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=supports_bf16("cpu")):
        return generator(lr).float().clamp(0, 1)


def as_bytes(picture: Tensor) -> NDArray[np.uint8]:
    return (255 * picture[0]).round().byte().permute(1, 2, 0).numpy()


@torch.inference_mode()
def measure(
    name: str, generator: AnyGenerator, valid: Dataset, chosen: Sequence[int], features: Path
) -> dict[str, Any]:
    """Means over the chosen validation pictures."""
    judges = {
        judge: (candidate[1], load_features(candidate[0], layers=[candidate[1]], source=features))
        for judge, candidate in CANDIDATES.items()
        if isinstance(candidate, tuple)
    }
    found: list[dict[str, float]] = []
    for index in chosen:
        lr, hr = valid.whole(index)
        sr = enlarge(generator, lr)
        small, true = as_bytes(sr), valid.hr(index)
        entry = {
            "psnr": psnr(small, true, crop_border=4),
            "detail": texture_energy(small, true),
            "checkerboard": checkerboard_energy(small, scale=4),
        }
        for judge, (layer, extractor) in judges.items():
            entry[judge] = float((extractor(sr)[layer] - extractor(hr)[layer]).abs().mean())
        found.append(entry)
    return {"candidate": name} | {key: float(np.mean([entry[key] for entry in found])) for key in found[0]}


def draw_sheet(generators: dict[str, AnyGenerator], path: Path) -> None:
    """A row for each of the project's example pictures: bicubic, before, each candidate, the truth."""
    rows: list[NDArray[np.uint8]] = []
    for file in sorted((Path(__file__).parent.parent / "examples").glob("*.png")):
        hr = cast(NDArray[np.uint8], images.read(file).pixels)
        lr = resize(hr, 1 / 4)
        batch = torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255
        made = [
            resize(lr, 4),
            *(as_bytes(enlarge(generator, batch)) for generator in generators.values()),
            hr,
        ]
        rows.append(np.concatenate([picture[64:224, 64:224] for picture in made], axis=1))
    images.write(images.from_array(np.concatenate(rows)), path, force=True)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    keys = [key for key in results[0] if key != "candidate"]
    lines = ["| candidate | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for entry in results:
        lines.append(f"| {entry['candidate']} | " + " | ".join(f"{entry[key]:.4g}" for key in keys) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
