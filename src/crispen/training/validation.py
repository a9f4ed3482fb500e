"""How good the generator is on pictures that it never trains on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from crispen.evaluation.metrics import psnr
from crispen.training.data import Dataset
from crispen.training.steps import Arithmetic, Features, Scalars


def validate(
    generator: nn.Module, dataset: Dataset, *, features: Sequence[Features] = (), arithmetic: Arithmetic
) -> Scalars:
    """Mean PSNR on luma (border of ``scale`` cropped, 8 bit) and, where given, mean distance in features.

    The generator is put into evaluation mode and back.
    """
    generator.eval()
    with torch.inference_mode():
        found = [_measure(generator, dataset, index, features, arithmetic) for index in range(len(dataset))]
    generator.train()
    return {name: float(np.mean([scalars[name] for scalars in found])) for name in found[0]}


def _measure(
    generator: nn.Module, dataset: Dataset, index: int, features: Sequence[Features], arithmetic: Arithmetic
) -> Scalars:
    lr, hr = dataset.whole(index)
    with arithmetic.autocast():
        sr = generator(lr.to(arithmetic.device)).float().clamp(0, 1)
    rounded = (255 * sr[0]).round().byte().permute(1, 2, 0).cpu().numpy()
    scalars = {"valid_psnr": psnr(rounded, dataset.hr(index), crop_border=dataset.scale)}
    if features:
        target = hr.to(arithmetic.device)
        with arithmetic.autocast():
            scalars["valid_perceptual_loss"] = sum(f.distance(sr, target).item() for f in features)
    return scalars
