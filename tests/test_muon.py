"""Muon: equal steps in all directions of a convolution, Adam's for the rest, and a run that resumes to the bit."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Adam

from crispen.networks.generators import build_generator
from crispen.networks.weights import load_tensors
from crispen.training import Recipe, train
from crispen.training.muon import Muon, is_matrix, orthogonalised


def recipe(*, optimizer: str, pretrain: int, gan: int = 0) -> Recipe:
    stages: dict[str, Any] = {
        "pretrain": {
            "steps": pretrain, "learning_rate": 3e-3, "pixel_loss": "l1", "optimizer": optimizer, "schedule": "cosine",
        }
    }  # fmt: skip
    if gan:
        stages["gan"] = {"steps": gan, "perceptual_weight": 0.0, "pixel_weight": 1.0, "optimizer": optimizer}
    return Recipe.model_validate(
        {
            "title": "tiny",
            "precision": "fp32",
            "checkpoint_minutes": 1e-9,
            "generator": {"scale": 2, "num_blocks": 1, "num_features": 16, "batch_norm": False},
            "discriminator": {"num_features": 2, "head": "patch"},
            "data": {"patch_size": 32, "batch_size": 2},
            "stage": stages,
        }
    )


@settings(deadline=None, max_examples=20)
@given(
    rows=st.integers(16, 80),
    columns=st.integers(16, 80),
    size=st.sampled_from([1e-7, 1.0, 1e5]),
    seed=st.integers(0, 99),
)
def test_singular_values_come_near_one_and_directions_stay(
    rows: int, columns: int, size: float, seed: int
) -> None:
    matrix = torch.randn(1, rows, columns, generator=torch.Generator().manual_seed(seed)).double()
    left, values, right = cast(tuple[Tensor, ...], torch.linalg.svd(matrix, full_matrices=False))
    turned = left.mT @ orthogonalised(size * matrix) @ right.mT
    diagonal = turned.diagonal(dim1=1, dim2=2)
    large = values > 0.02 * values[:, :1]
    assert ((diagonal > 0.6) & (diagonal < 1.3))[large].all()
    assert ((diagonal > 0) & (diagonal < 1.3)).all()
    torch.testing.assert_close(turned, torch.diag_embed(diagonal), rtol=0, atol=1e-9)


def test_no_gradient_at_all_moves_nothing() -> None:
    assert orthogonalised(torch.zeros(2, 16, 32)).count_nonzero() == 0


def test_matrices_of_a_stack_do_not_see_each_other() -> None:
    stack = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([orthogonalised(stack[index : index + 1]) for index in range(3)])
    torch.testing.assert_close(orthogonalised(stack), alone, rtol=1e-4, atol=1e-5)


def test_what_is_no_matrix_is_adams() -> None:
    """Biases, activations and the convolution to the three colours, but not the one from them."""
    torch.manual_seed(0)
    network, twin = (nn.Sequential(nn.Conv2d(3, 16, 3), nn.PReLU(), nn.Conv2d(16, 3, 3)) for _ in range(2))
    twin.load_state_dict(network.state_dict())
    optimizers = Muon(network.parameters(), 1e-2, (0.9, 0.999)), Adam(twin.parameters(), 1e-2, (0.9, 0.999))
    for _ in range(3):
        for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for (name, ours), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        assert is_matrix(ours) == (name == "0.weight")
        assert torch.equal(ours, theirs) != is_matrix(ours), name


@pytest.mark.parametrize(
    ("name", "scale", "adams"),
    [
        ("srresnet", 4, ["tail.weight"]),
        ("compact", 4, []),
        ("compact", 2, ["tail.weight", "skip.weight"]),
    ],
)
def test_which_convolutions_of_our_networks_are_adams(name: str, scale: int, adams: list[str]) -> None:
    network = build_generator({"generator": name, "scale": scale, "num_blocks": 1, "num_features": 16})
    weights = network.named_parameters()
    assert [path for path, weight in weights if weight.ndim > 1 and not is_matrix(weight)] == adams


def test_a_step_is_as_large_as_adams_and_level_in_all_directions() -> None:
    torch.manual_seed(0)
    conv = cast(Any, nn.Conv2d(64, 64, 3, bias=False)).to(memory_format=torch.channels_last)
    before = conv.weight.detach().clone()
    conv.weight.grad = torch.randn_like(before) * torch.logspace(-1, 0, 64)[:, None, None, None]
    Muon(conv.parameters(), 1e-3, (0.9, 0.999)).step()
    step = (conv.weight.detach() - before).flatten(1)
    assert step.square().mean().sqrt().item() == pytest.approx(0.2e-3, rel=0.2)
    values = cast(Tensor, torch.linalg.svdvals(step))
    assert values[0] / values[-1] < 2
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_generator_learns_sooner_than_with_adam(photos: Path, tmp_path: Path) -> None:
    losses = {
        name: np.mean(
            [
                step.scalars["pixel_loss"]
                for step in train(recipe(optimizer=name, pretrain=60), data=[photos], run_dir=tmp_path / name)
            ][-10:]
        )
        for name in ("adam", "muon")
    }
    assert losses["muon"] < losses["adam"]


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_stopping_and_resuming_changes_nothing(photos: Path, tmp_path: Path, stop_after: int) -> None:
    chosen = recipe(optimizer="muon", pretrain=3, gan=2)
    list(train(chosen, data=[photos], run_dir=tmp_path / "whole"))
    run = train(chosen, data=[photos], run_dir=tmp_path / "stopped")
    for _ in range(stop_after):
        next(run)
    del run
    list(train(chosen, data=[photos], run_dir=tmp_path / "stopped", resume=True))
    whole, stopped = (
        load_tensors(tmp_path / name / "weights.safetensors")[0] for name in ("whole", "stopped")
    )
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
