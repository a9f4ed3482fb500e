"""A model as teacher: its answers have their part in what is learnt, and nothing else changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crispen
from commands import save
from crispen.errors import ModelError, UsageError
from crispen.training import Recipe, train
from crispen.training.data import Dataset, open_dataset
from crispen.training.teacher import Teacher, open_teacher


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for index in range(2):
        save(folder / f"{index}.png", 40 + index, 48)
    return folder


def opened(photos: Path, teacher: Teacher | None, *, reductions: tuple[int, ...] = (1,)) -> Dataset:
    return open_dataset(
        [photos],
        scale=4,
        patch_size=16,
        cache=photos.parent / "cache",
        teacher=teacher,
        reductions=reductions,
    )


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_large_pictures_lie_between_the_truth_and_the_teachers_answer(
    photos: Path, tiny_model: Path, share: float
) -> None:
    plain, taught = opened(photos, None), opened(photos, open_teacher(str(tiny_model), share=share, scale=4))
    assert [pair.name for pair in plain.pairs] == [pair.name for pair in taught.pairs]
    for index in range(len(plain)):
        np.testing.assert_array_equal(plain.lr(index), taught.lr(index))
        truth = plain.hr(index).astype(np.float64)
        answer = crispen.upscale(plain.lr(index), tiny_model, ensemble=True)
        np.testing.assert_allclose(taught.hr(index), truth + share * (answer - truth), atol=0.51)


def test_reduced_pictures_are_taught_too(photos: Path, tiny_model: Path) -> None:
    taught = opened(photos, open_teacher(str(tiny_model), share=1, scale=4), reductions=(1, 2))
    assert {pair.reduction for pair in taught.pairs} == {1, 2}
    for index in range(len(taught)):
        answer = crispen.upscale(taught.lr(index), tiny_model, ensemble=True)
        np.testing.assert_array_equal(taught.hr(index), answer)


def test_each_teacher_and_share_has_its_own_decoded_pictures(photos: Path, tiny_model: Path) -> None:
    teachers = [None, *(open_teacher(str(tiny_model), share=share, scale=4) for share in (0.3, 0.6, 0.3))]
    for teacher in teachers:
        opened(photos, teacher)
    caches = [path for path in (photos.parent / "cache").iterdir() if not path.name.startswith(".")]
    assert len(caches) == 3


def recipe(**data: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "title": "tiny",
            "precision": "fp32",
            "validate_every": 2,
            "generator": {"scale": 4, "num_blocks": 1, "num_features": 4, "batch_norm": False},
            "data": {"patch_size": 16, "batch_size": 2, **data},
            "stage": {"pretrain": {"steps": 2, "learning_rate": 3e-3}},
        }
    )


def test_a_run_has_a_teacher_and_is_validated_on_the_truth(
    photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    more = recipe(teacher=str(tiny_model), teacher_share=0.5)
    losses: dict[str, list[float]] = {}
    for name, chosen in (("plain", recipe()), ("taught", more)):
        steps = list(train(chosen, data=[photos], valid=photos, run_dir=tmp_path / name))
        losses[name] = [step.scalars["pixel_loss"] for step in steps]
        first = steps[-1].validation["valid_psnr"]
        assert first > 5
    assert losses["plain"] != losses["taught"]


def test_mistakes_are_said_before_the_first_step(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    spoilt = recipe(teacher=str(tiny_model), degradation={})
    with pytest.raises(UsageError, match=r"leave out data\.degradation"):
        next(iter(train(spoilt, data=[photos], run_dir=tmp_path / "a")))
    with pytest.raises(ModelError, match="nobody"):
        next(iter(train(recipe(teacher="nobody"), data=[photos], run_dir=tmp_path / "b")))
    with pytest.raises(UsageError, match="must enlarge 2×"):
        open_teacher(str(tiny_model), share=0.5, scale=2)
