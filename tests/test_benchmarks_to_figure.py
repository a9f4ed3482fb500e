"""A compact network as one of the figure: a script that a bundled model's training begins with."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import script_says
from crispen import resize

torch: Any = pytest.importorskip("torch")
SCRIPT = Path(__file__).parent.parent / "benchmarks" / "to_figure.py"
if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)
sys.path.insert(0, str(SCRIPT.parent))
to_figure: Any = import_module("to_figure").to_figure


def pair(seed: int, *, size: int = 24) -> tuple[Any, Any]:
    """A small picture (1, 3, size, size) and the large one that it was reduced from."""
    coarse = np.random.default_rng(seed).random((size, size, 3))
    hr = resize(coarse, 4)
    small, large = (torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in (resize(hr, 1 / 4), hr))
    return small, large


def tied(**architecture: Any) -> Any:
    from crispen.networks.generators import Compact
    from crispen.training.equivariance import Equivariance

    torch.manual_seed(1)
    network = Compact(scale=4, num_blocks=2, batch_norm=False, **architecture)
    Equivariance(network).begin(network)
    return network


def test_the_figures_network_answers_like_the_fit_and_stays_tied() -> None:
    from crispen.training.equivariance import Equivariance

    old = tied(num_features=32)
    new = to_figure(old, [pair(seed) for seed in range(12)], kinds=(0, 2, 3))
    assert Equivariance(new).untied(new) is None
    assert torch.equal(new.body[0].residual[0].weight[:, 1], old.body[0].residual[0].weight[:, 1]), (
        "a kind that carries no colour"
    )
    lr, hr = pair(99)
    inside = (..., slice(24, -24), slice(24, -24))
    with torch.no_grad():
        error = (new(lr) - hr)[inside].square().mean()
        before = (old(lr) - hr)[inside].square().mean()
    assert error < 0.02 * before
    new(lr).square().mean().backward()
    assert new.tail.weight.grad[:, 3].abs().max() > 0, "what is not needed yet can learn"


def test_what_is_no_such_network_is_refused(tmp_path: Path) -> None:
    from crispen.networks.generators import SRResNet
    from crispen.networks.weights import save_generator

    save_generator(SRResNet(num_blocks=1, num_features=8), tmp_path / "figure.safetensors")
    save_generator(tied(num_features=16), tmp_path / "narrow.safetensors")
    for name, why in (("figure", "is not a compact network"), ("narrow", "three of 0 to 1")):
        weights = tmp_path / f"{name}.safetensors"
        paths = ["--data", tmp_path, "--work", tmp_path, "--output", tmp_path / "new.safetensors"]
        code, error = script_says(SCRIPT, weights, *paths)
        assert code == 2
        assert why in error
    assert not (tmp_path / "new.safetensors").exists()
