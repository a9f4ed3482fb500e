"""What a PSNR does not show: checkerboard, strength of fine detail, and flat colours that shift.

    python benchmarks/artefacts.py --pictures FOLDER [--every 5] [--features FILE] WEIGHTS.safetensors...
    python benchmarks/artefacts.py --pictures FOLDER --faithful OTHER.safetensors --strength 0.5 WEIGHTS.safetensors
    python benchmarks/artefacts.py --pictures FOLDER --degrade srgan-x4-photo WEIGHTS.safetensors
    python benchmarks/artefacts.py --pictures FOLDER --denser 3 WEIGHTS.safetensors
    python benchmarks/artefacts.py --pictures FOLDER --gray [--degrade srgan-x4-photo] WEIGHTS.safetensors

Each picture is reduced by the scale with MATLAB's bicubic, or with ``--degrade`` spoilt as that recipe spoils its
crops, and enlarged again, in bf16 where there are units for it, or with ``--precision fp32``. Means over every 5th
picture of the folder: PSNR on luma; checkerboard energy (`crispen.training.health.checkerboard_energy`, 0.3 for
photographs); fine detail against the truth's (`crispen.evaluation.texture_energy`); with the weights of SqueezeNet
1.1, the distance of features (`crispen.evaluation.FeatureDistance`). Then, on pictures of a single colour and of 255,
the largest error, and the standard deviation between the places in the square that a pixel becomes. With
``--strength``, all this of weights between those of two files; with ``--denser 3``, of the pictures at a third of
their size, where detail is as dense as in small pictures of large scenes; with ``--gray``, of the pictures in gray,
which is made of what was spoilt, and of what is enlarged once more, as `crispen upscale` does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispen import images, psnr, resize
from crispen.evaluation import FeatureDistance, texture_energy
from crispen.networks.generators import AnyGenerator
from crispen.networks.weights import load_generator
from crispen.runtimes import supports_bf16
from crispen.training.degradation import degrade_repeatably
from crispen.training.health import checkerboard_energy
from crispen.training.recipe import DegradationTable
from crispen.training.recipe_file import load_recipe

Bytes = NDArray[np.uint8]

COLOURS = [
    (255, 255, 255), (250, 250, 250), (192, 192, 192), (128, 128, 128), (32, 32, 32), (0, 0, 0),
    (0, 0, 255), (255, 0, 0), (200, 30, 60),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--features", type=Path, help="weights of SqueezeNet 1.1: a file or a folder")
    parser.add_argument("--faithful", type=Path, help="weights at strength 0")
    parser.add_argument("--strength", type=float, default=1)
    parser.add_argument("--denser", type=int, default=1, metavar="TIMES", help="reduce the pictures first")
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto")
    parser.add_argument("--degrade", metavar="RECIPE", help="spoil the pictures as this recipe does")
    parser.add_argument("--gray", action="store_true", help="measure on the pictures in gray")
    arguments = parser.parse_args()
    table = load_recipe(arguments.degrade).data.degradation if arguments.degrade else None
    distance = FeatureDistance(arguments.features, network="squeezenet") if arguments.features else None
    files = sorted(arguments.pictures.glob("*.png"))[:: arguments.every]
    bf16 = arguments.precision == "auto" and supports_bf16("cpu")
    for path in arguments.weights:
        generator = load_generator(path)
        if arguments.faithful:
            blend(generator, load_generator(arguments.faithful), arguments.strength)
        found = np.mean(
            [
                measure(
                    generator, truth(file, arguments.denser), distance, table, bf16=bf16, gray=arguments.gray
                )
                for file in files
            ],
            axis=0,
        )
        score, energy, strength, far = found
        told = "" if distance is None else f", features {far:.3f}"
        print(f"{path}: PSNR {score:.2f} dB, checkerboard {energy:.2f} dB, detail {strength:+.2f} dB{told}")
        print("  flat colours: " + ", ".join(f"{c} {flat_error(generator, c):.1f}" for c in COLOURS))
        print(f"  pattern on flat colours: {max(flat_pattern(generator, c) for c in COLOURS):.2f}")


def blend(generator: AnyGenerator, faithful: AnyGenerator, strength: float) -> None:
    """Move a generator's weights to so far on the way from another's."""
    ours, theirs = generator.state_dict(), faithful.state_dict()
    generator.load_state_dict({name: theirs[name] + strength * (ours[name] - theirs[name]) for name in ours})


def measure(
    generator: AnyGenerator,
    hr: Bytes,
    distance: FeatureDistance | None,
    table: DegradationTable | None,
    *,
    bf16: bool,
    gray: bool,
) -> tuple[float, float, float, float]:
    """PSNR, checkerboard energy, and fine detail against the truth's, in dB each; and the distance of features."""
    scale = generator.scale
    hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
    lr = degrade_repeatably(hr, scale=scale, table=table) if table else resize(hr, 1 / scale)
    if gray:
        hr, lr = in_gray(hr), in_gray(lr)
    sr = enlarge(generator, lr, bf16=bf16)
    if gray:
        sr = in_gray(sr)
    far = math.nan if distance is None else distance(sr, hr)
    energy = checkerboard_energy(sr, scale=scale)
    return psnr(sr, hr, crop_border=scale), energy, texture_energy(sr, hr), far


def truth(file: Path, times: int) -> Bytes:
    """A picture, reduced so many times."""
    hr = cast(Bytes, images.read(file).pixels)
    return hr if times == 1 else resize(hr, 1 / times)


def in_gray(picture: Bytes) -> Bytes:
    """(H, W, 3) with luma (BT.601) for each colour."""
    luma = np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


@torch.inference_mode()
def enlarge(generator: AnyGenerator, lr: Bytes, *, bf16: bool) -> Bytes:
    """(H, W, 3) to (scale·H, scale·W, 3)."""
    batch = torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        sr = generator(batch).float().clamp(0, 1)
    return (255 * sr[0]).round().byte().permute(1, 2, 0).numpy()


@torch.inference_mode()
def flat_error(generator: AnyGenerator, colour: Sequence[int]) -> float:
    """The largest error of a channel's mean inside a picture of one colour, of 255 (fp32)."""
    expected = torch.tensor(colour, dtype=torch.float32)
    return float((flat(generator, colour).mean((1, 2)) - expected).abs().max())


@torch.inference_mode()
def flat_pattern(generator: AnyGenerator, colour: Sequence[int]) -> float:
    """The standard deviation, of 255, between the means of the places that a pixel of one colour becomes."""
    scale, pixels = generator.scale, 24
    places = flat(generator, colour).reshape(3, pixels, scale, pixels, scale).mean((1, 3))
    return float((places - places.mean((1, 2), keepdim=True)).std())


def flat(generator: AnyGenerator, colour: Sequence[int]) -> Tensor:
    """(3, 24·scale, 24·scale), of 255: the inside of an enlarged picture of one colour."""
    lr = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 64, 64).contiguous() / 255
    border = 20 * generator.scale
    return 255 * generator(lr).clamp(0, 1)[0, :, border:-border, border:-border]


if __name__ == "__main__":
    main()
