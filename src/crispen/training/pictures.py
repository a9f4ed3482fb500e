"""The pictures of a run, opened and checked against its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from crispen.errors import DataError, TrainingError, UsageError
from crispen.networks.classifier import NUM_CLASSES
from crispen.training.cache import Watch
from crispen.training.data import Dataset, open_dataset
from crispen.training.recipe import Recipe
from crispen.training.steps import Features
from crispen.training.teacher import Teacher, open_teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What a run learns from, and what it is looked at on."""

    train: Dataset
    valid: Dataset | None
    """None where nothing was given to validate on."""
    degraded: Dataset | None
    """Those of `shown` with small versions as the recipe's degradation spoils them, always in the same way; None where
    the recipe has no degradation."""

    @property
    def shown(self) -> Dataset:
        """What previews are of: the validation pictures, or where there are none those that the run learns from."""
        return self.train if self.valid is None else self.valid


def open_pictures(
    recipe: Recipe,
    data: Sequence[str | Path],
    valid: str | Path | None,
    *,
    features: Mapping[str, Sequence[Features]],
    cache: Path,
    device: torch.device,
    watch: Watch,
) -> Pictures:
    """Open what ``data`` and ``valid`` name, as many pictures of each as the recipe says.

    Args:
        recipe: what is to be done with them.
        data: sources of training pictures (see `crispen.training.sources`).
        valid: a source of pictures to validate on, or None.
        features: the feature networks of each stage, which must see something of every patch and validation picture.
        cache: folder for decoded pictures.
        device: where training pictures lie, if the recipe wants them there.
        watch: takes the pictures one by one as they are decoded on the first use.

    Raises:
        DataError: where a source is missing or has no picture of use, or labels are wanted and missing.
        TrainingError: where the device has too little memory, or a patch too few pixels for the features.
        ModelError, UsageError: where the recipe's teacher cannot be had.
    """
    scale, patch_size = recipe.generator.scale, recipe.data.patch_size
    _check_patches(patch_size, features)
    dataset = open_dataset(
        data, scale=scale, patch_size=patch_size, cache=cache, reductions=recipe.data.reductions,
        teacher=_teacher(recipe), watch=watch,
    )  # fmt: skip
    dataset, chosen = dataset.subset(recipe.data.pictures), None
    if valid is not None:
        side = _least_measurable(recipe, features)
        whole = open_dataset([valid], scale=scale, patch_size=side, cache=cache, purpose="valid", watch=watch)
        chosen = whole.subset(recipe.validate_pictures)
    if recipe.stage.classifier:
        _check_labels(dataset, "--data")
        if chosen is not None:
            _check_labels(chosen, "--valid")
    if recipe.data.on_device:
        dataset = dataset.resident(device)
    table = recipe.data.degradation
    degraded = (dataset if chosen is None else chosen).degraded(table) if table else None
    return Pictures(train=dataset, valid=chosen, degraded=degraded)


def _check_patches(patch_size: int, features: Mapping[str, Sequence[Features]]) -> None:
    """Feature networks halve a picture several times, and something of a patch must be left."""
    for stage, networks in features.items():
        for each in networks:
            if not each.can_see(patch_size):
                raise TrainingError(
                    f"nothing of {patch_size}x{patch_size} pixels, a patch, is left in the layers of "
                    f"{each.table.network} in stage.{stage}.features ({', '.join(each.table.layers)}): "
                    "take a larger data.patch_size, or layers that are less deep"
                )


def _least_measurable(recipe: Recipe, features: Mapping[str, Sequence[Features]]) -> int:
    """The side from which on a picture can be validated on: the metrics crop a border, and features see the rest."""
    scale, networks = recipe.generator.scale, [each for stage in features.values() for each in stage]
    least, patch_size = 3 * scale, recipe.data.patch_size
    sides = range(least, patch_size, scale)
    seen = (side for side in sides if all(each.can_see(side) for each in networks))
    return next(seen, max(least, patch_size))


def _teacher(recipe: Recipe) -> Teacher | None:
    table = recipe.data
    if not table.teacher:
        return None
    if table.degradation is not None:
        raise UsageError(
            "data.teacher sees pictures that are reduced and nothing else: leave out data.degradation"
        )
    return open_teacher(table.teacher, share=table.teacher_share, scale=recipe.generator.scale)


def _check_labels(pictures: Dataset, option: str) -> None:
    """A recipe with a classifier needs pictures with labels that it can tell apart."""
    if not pictures.labelled:
        raise DataError(f"the recipe trains a classifier, so {option} must have labels: IDX or CIFAR files")
    most = max(pictures.label(index) or 0 for index in range(len(pictures)))
    if most >= NUM_CLASSES:
        raise DataError(
            f"{option} has a label {most}, but the classifier tells {NUM_CLASSES} classes apart, 0 to 9"
        )
