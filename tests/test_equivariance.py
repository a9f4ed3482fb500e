"""Equivariant generators: a turned picture's result is turned, before, while and after training, by fewer steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crispen import zoo
from crispen.errors import TrainingError
from crispen.networks.generators import AnyGenerator, build_generator
from crispen.networks.weights import load_generator, save_generator
from crispen.training import Recipe, equivariance, loop, train
from crispen.training.equivariance import SYMMETRIES, Equivariance
from crispen.training.muon import Muon

NETWORKS = [("compact", 2), ("compact", 4), ("compact", 8), ("srresnet", 2), ("srresnet", 4), ("srresnet", 8)]


def recipe(*, optimizer: str = "muon", pretrain: int = 3, gan: int = 0, **generator: object) -> Recipe:
    stages: dict[str, Any] = {"pretrain": {"steps": pretrain, "learning_rate": 3e-3, "optimizer": optimizer}}
    if gan:
        stages["gan"] = {"steps": gan, "perceptual_weight": 0.0, "pixel_weight": 1.0, "optimizer": optimizer}
    small = {"scale": 2, "num_blocks": 1, "num_features": 16, "batch_norm": False, "equivariant": True}
    return Recipe.model_validate(
        {
            "title": "tiny",
            "precision": "fp32",
            "generator": small | generator,
            "discriminator": {"num_features": 2, "head": "patch"},
            "data": {"patch_size": 16, "batch_size": 2},
            "stage": stages,
        }
    )


def versions(picture: Tensor) -> Iterator[Tensor]:
    """A batch (N, C, H, W) in all eight ways, by torch and not by what is tested."""
    for swapped in (picture, picture.transpose(2, 3)):
        for axes in ((), (2,), (3,), (2, 3)):
            yield swapped.flip(axes)


@torch.no_grad()
def commutes(generator: AnyGenerator, *, within: float = 1e-5) -> bool:
    lr = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    results = zip(versions(generator(lr)), map(generator, versions(lr)), strict=True)
    return all(torch.allclose(turned, of_turned, rtol=0, atol=within) for turned, of_turned in results)


def small(architecture: str, scale: int) -> AnyGenerator:
    torch.manual_seed(scale)
    return build_generator(
        {"generator": architecture, "scale": scale, "num_blocks": 2, "num_features": 16, "batch_norm": False}
    )


@pytest.mark.parametrize(("architecture", "scale"), NETWORKS)
def test_a_new_one_gives_turned_results_of_turned_pictures(architecture: str, scale: int) -> None:
    generator = small(architecture, scale)
    before = {name: weight.clone() for name, weight in generator.named_parameters()}
    assert not commutes(generator)
    Equivariance(generator).begin(generator)
    assert commutes(generator)
    for name, weight in generator.named_parameters():
        if name.endswith("weight") and weight.numel() > 500:
            assert weight.std().item() == pytest.approx(before[name].std().item(), rel=0.2), (
                f"{name} is as large as it was"
            )


@pytest.mark.parametrize(("architecture", "scale"), NETWORKS)
def test_a_step_is_the_mean_over_all_versions_of_a_picture(architecture: str, scale: int) -> None:
    generator = small(architecture, scale)
    ties = Equivariance(generator)
    ties.begin(generator)
    draw = torch.Generator().manual_seed(2)
    lr, hr = (torch.rand(1, 3, side, side, generator=draw) for side in (6, 6 * scale))
    for turned_lr, turned_hr in zip(versions(lr), versions(hr), strict=True):
        ((generator(turned_lr) - turned_hr).square().mean() / 8).backward()
    expected = {name: weight.grad for name, weight in generator.named_parameters()}
    generator.zero_grad(set_to_none=True)
    (generator(lr) - hr).square().mean().backward()
    ties.tie_gradients(generator)
    for name, weight in generator.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize("architecture", ["compact", "srresnet"])
def test_it_stays_so_in_training(photos: Path, tmp_path: Path, architecture: str, optimizer: str) -> None:
    chosen = recipe(optimizer=optimizer, pretrain=6, gan=6, architecture=architecture)
    for taken in train(chosen, data=[photos], run_dir=tmp_path / "run"):
        assert np.isfinite(list(taken.scalars.values())).all()
    trained = load_generator(tmp_path / "run" / "weights.safetensors")
    assert commutes(trained)
    list(train(recipe(pretrain=1, architecture=architecture), data=[photos], run_dir=tmp_path / "short"))
    short = load_generator(tmp_path / "short" / "weights.safetensors")
    assert any(
        (weight - other).abs().max() > 1e-3
        for weight, other in zip(trained.parameters(), short.parameters(), strict=True)
    ), "it has learnt"


def test_rounding_errors_do_not_add_up(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which are made large here, in every step, and are not noticed where ties are renewed as often."""
    step = Muon.step

    def rounded(self: Muon, closure: None = None) -> None:
        step(self, closure)
        draw = torch.Generator().manual_seed(3)
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data += 1e-3 * torch.randn(weight.shape, generator=draw)

    monkeypatch.setattr(Muon, "step", rounded)
    for every in (1, 5):
        monkeypatch.setattr(loop, "RENEWED_EVERY", every)
        run_dir = tmp_path / str(every)
        list(train(recipe(optimizer="muon", pretrain=4), data=[photos], run_dir=run_dir))
        assert commutes(load_generator(run_dir / "weights.safetensors")) == (every == 1)


def test_without_the_key_training_ends_it(photos: Path, tmp_path: Path) -> None:
    list(train(recipe(), data=[photos], run_dir=tmp_path / "tied"))
    free = recipe(equivariant=False, init=str(tmp_path / "tied"))
    list(train(free, data=[photos], run_dir=tmp_path / "free"))
    assert not commutes(load_generator(tmp_path / "free" / "weights.safetensors"))


def test_it_goes_on_from_weights_that_are_equivariant_at_any_scale(photos: Path, tmp_path: Path) -> None:
    list(train(recipe(), data=[photos], run_dir=tmp_path / "first"))
    for scale in (2, 4):
        run_dir = tmp_path / f"x{scale}"
        chosen = recipe(scale=scale, init=str(tmp_path / "first"), pretrain=1)
        list(train(chosen, data=[photos], run_dir=run_dir))
        assert commutes(load_generator(run_dir / "weights.safetensors"))


def test_other_weights_are_refused_in_a_sentence(photos: Path, tmp_path: Path) -> None:
    other = build_generator(
        {"generator": "srresnet", "scale": 2, "num_blocks": 1, "num_features": 16, "batch_norm": False}
    )
    save_generator(other, tmp_path / "other.safetensors")
    chosen = recipe(init=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        TrainingError, match=r"other.safetensors is not equivariant \(its head.0.weight is not\)"
    ):
        list(train(chosen, data=[photos], run_dir=tmp_path / "run"))


@pytest.mark.parametrize("model", [model.name for model in zoo.models()])
def test_bundled_models_are(model: str) -> None:
    """Which is why no ensemble is computed with them."""
    found = zoo.find(model)
    assert found.is_equivariant
    weights = found.weights
    assert weights
    assert commutes(load_generator(weights), within=1e-4)


def test_symmetries_are_a_group() -> None:
    """Of eight, of which one undoes each."""
    products = equivariance._PRODUCTS  # pyright: ignore[reportPrivateUsage]
    assert all(sorted(row) == list(SYMMETRIES) for row in products)
    assert products[0] == list(SYMMETRIES)
    assert all(products[last][first] == 0 for last, first in enumerate(equivariance._INVERSES))  # pyright: ignore[reportPrivateUsage]
