"""Weighted sums of weights: a script that bundled models were made with."""

from pathlib import Path
from typing import Any

import pytest

from commands import script_says

torch: Any = pytest.importorskip("torch")
SCRIPT = Path(__file__).parent.parent / "benchmarks" / "mix.py"
if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)


def mix(folder: Path, *terms: str) -> tuple[int, str]:
    """Mix files of the folder; each share stands before a file's name."""
    paths = [folder / term if term.endswith(".safetensors") else term for term in terms]
    return script_says(SCRIPT, folder / "mixed.safetensors", *paths)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two networks of one kind and one of another."""
    from crispen.networks.generators import Compact
    from crispen.networks.weights import save_generator

    for name, blocks in (("one", 1), ("two", 1), ("other", 2)):
        network = Compact(scale=2, num_blocks=blocks, num_features=4, batch_norm=False)
        save_generator(network, tmp_path / f"{name}.safetensors")
    return tmp_path


def test_a_sum_is_weighted_and_may_subtract(folder: Path) -> None:
    from crispen.networks.weights import load_generator

    assert mix(folder, "1.5", "one.safetensors", "-0.5", "two.safetensors") == (0, "")
    one, two, mixed = (
        load_generator(folder / f"{name}.safetensors").state_dict() for name in ("one", "two", "mixed")
    )
    for name, tensor in mixed.items():
        torch.testing.assert_close(tensor, 1.5 * one[name] - 0.5 * two[name])


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        (["0.5", "one.safetensors", "0.4", "two.safetensors"], "shares must come to 1"),
        (["1", "one.safetensors", "0"], "a share before each file"),
        (["0.5", "one.safetensors", "0.5", "other.safetensors"], "of one kind"),
    ],
)
def test_what_is_no_mixture_is_refused(folder: Path, terms: list[str], why: str) -> None:
    code, error = mix(folder, *terms)
    assert code == 2
    assert why in error
    assert not (folder / "mixed.safetensors").exists()


def test_a_sum_without_a_variance_is_refused(folder: Path) -> None:
    from crispen.networks.generators import SRResNet
    from crispen.networks.weights import save_generator

    for name, variance in (("one", 1.0), ("two", 3.0)):
        network = SRResNet(scale=2, num_blocks=1, num_features=4)
        weights = network.state_dict()
        changed = {key: torch.full_like(weights[key], variance) for key in weights if "running_var" in key}
        network.load_state_dict(weights | changed)
        save_generator(network, folder / f"{name}.safetensors")
    code, error = mix(folder, "1.5", "one.safetensors", "-0.5", "two.safetensors")
    assert code == 2
    assert "running_var, variances of batch norm, comes down to 0;" in error
    assert not (folder / "mixed.safetensors").exists()
    assert mix(folder, "1.2", "one.safetensors", "-0.2", "two.safetensors") == (0, "")
