"""Trained weights with more blocks: a script that training goes on from."""

from pathlib import Path
from typing import Any

import pytest

from commands import script_says

torch: Any = pytest.importorskip("torch")
SCRIPT = Path(__file__).parent.parent / "benchmarks" / "deepen.py"
if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)


def deepen(folder: Path, blocks: int) -> tuple[int, str]:
    paths = [folder / "deep.safetensors", folder / "old.safetensors"]
    return script_says(SCRIPT, *paths, "--blocks", str(blocks))


@pytest.mark.parametrize("kind", ["compact", "srresnet"])
def test_the_deeper_network_answers_alike_and_can_learn(tmp_path: Path, kind: str) -> None:
    from crispen.networks.generators import build_generator
    from crispen.networks.weights import load_generator, save_generator

    architecture: dict[str, str | int | bool] = {
        "generator": kind, "scale": 2, "num_blocks": 2, "num_features": 4, "batch_norm": False
    }  # fmt: skip
    save_generator(build_generator(architecture), tmp_path / "old.safetensors")
    assert deepen(tmp_path, 4) == (0, "")
    old, deep = (load_generator(tmp_path / f"{name}.safetensors") for name in ("old", "deep"))
    assert deep.num_blocks == 4
    picture = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(deep(picture), old(picture))
    deep(picture).square().mean().backward()
    for number in (2, 3):
        gradient = deep.body[number].get_parameter("residual.2.weight").grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_tied_weights_stay_so(tmp_path: Path) -> None:
    from crispen.networks.generators import Compact
    from crispen.networks.weights import load_generator, save_generator
    from crispen.training.equivariance import Equivariance

    old = Compact(scale=2, num_blocks=1, num_features=8, batch_norm=False)
    Equivariance(old).begin(old)
    save_generator(old, tmp_path / "old.safetensors")
    assert deepen(tmp_path, 2) == (0, "")
    deep = load_generator(tmp_path / "deep.safetensors")
    Equivariance(deep).check(deep, "it")
    assert deep.body[1].get_parameter("residual.0.weight").abs().max() > 0


@pytest.mark.parametrize(
    ("batch_norm", "blocks", "why"),
    [(True, 4, "without batch norm"), (False, 1, "have 2 blocks already")],
)
def test_what_cannot_be_deepened_is_refused(tmp_path: Path, batch_norm: bool, blocks: int, why: str) -> None:
    from crispen.networks.generators import SRResNet
    from crispen.networks.weights import save_generator

    old = SRResNet(scale=2, num_blocks=2, num_features=4, batch_norm=batch_norm)
    save_generator(old, tmp_path / "old.safetensors")
    code, error = deepen(tmp_path, blocks)
    assert code == 2
    assert why in error
    assert not (tmp_path / "deep.safetensors").exists()
