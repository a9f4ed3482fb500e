"""How good the networks are on pictures that they never train on."""

from __future__ import annotations

import math

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from crispen.evaluation.metrics import psnr
from crispen.training.data import Dataset
from crispen.training.health import checkerboard_energy
from crispen.training.progress import Scalars
from crispen.training.steps import Judges


def validate(
    generator: nn.Module,
    dataset: Dataset,
    *,
    judges: Judges,
    fabric: Fabric,
    degraded: Dataset | None = None,
) -> Scalars:
    """Enlarge all pictures and return means: PSNR, checkerboard energy, and what the judges say.

    PSNR is on luma, 8 bit, with a border of ``scale`` cropped; NaN where a pixel is NaN or infinite. The generator is
    put into evaluation mode and back.

    Args:
        generator: the network that enlarges.
        dataset: pictures with clean reductions; what is measured on them is called ``valid_psnr`` and so on.
        judges: fixed networks of the loss on content.
        fabric: device and precision.
        degraded: the same pictures with spoilt small versions; there it is ``valid_degraded_psnr`` and so on.
    """
    generator.eval()
    means = {f"valid_{name}": mean for name, mean in _means(generator, dataset, judges, fabric).items()}
    if degraded is not None:
        spoilt = _means(generator, degraded, judges, fabric)
        means |= {f"valid_degraded_{name}": mean for name, mean in spoilt.items()}
    generator.train()
    return means


def validate_classifier(classifier: nn.Module, dataset: Dataset, *, fabric: Fabric) -> Scalars:
    """The share of true pictures that the classifier recognises."""
    classifier.eval()
    with torch.inference_mode():
        found = [
            _recognised(classifier, dataset.whole(i)[1], dataset, i, fabric) for i in range(len(dataset))
        ]
    classifier.train()
    return {"valid_accuracy": float(np.mean(found))}


@torch.inference_mode()
def _means(generator: nn.Module, dataset: Dataset, judges: Judges, fabric: Fabric) -> Scalars:
    found = [_measure(generator, dataset, index, judges, fabric) for index in range(len(dataset))]
    return {name: float(np.mean([scalars[name] for scalars in found])) for name in found[0]}


def _measure(generator: nn.Module, dataset: Dataset, index: int, judges: Judges, fabric: Fabric) -> Scalars:
    lr, hr = (picture.to(fabric.device) for picture in dataset.whole(index))
    scalars: Scalars = {}
    with fabric.autocast():
        found = generator(lr).float()
        sr = found.clamp(0, 1)
        if judges.features:
            scalars["perceptual_loss"] = sum(f.distance(sr, hr).item() for f in judges.features)
    rounded = (255 * sr[0]).round().byte().permute(1, 2, 0).cpu().numpy()
    distance = psnr(rounded, dataset.hr(index), crop_border=dataset.scale)
    scalars["psnr"] = distance if found.isfinite().all() else math.nan  # bytes have no word for it
    scalars["checkerboard"] = checkerboard_energy(rounded, scale=dataset.scale)
    if judges.classifier:
        scalars["accuracy"] = _recognised(judges.classifier, sr, dataset, index, fabric)
    return scalars


def _recognised(
    classifier: nn.Module, picture: torch.Tensor, dataset: Dataset, index: int, fabric: Fabric
) -> float:
    with fabric.autocast():
        logits = classifier(picture.to(fabric.device))
    return float(logits.argmax(1).item() == dataset.label(index))
