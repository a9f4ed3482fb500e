"""A compact network made from one of the figure's: where the ends of that are as simple, it computes the same."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
transplant: Any = import_module("transplant").transplant
sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def simple() -> Any:
    """A network of the figure that sees no further at its ends than 3×3, and has a linear upsampler."""
    from crispen.networks.generators import SRResNet

    torch.manual_seed(0)
    network: Any = SRResNet(scale=2, num_blocks=1, num_features=6, batch_norm=False).eval()
    with torch.no_grad():
        inside = torch.zeros(9, 9)
        inside[3:6, 3:6] = 1
        network.head[0].weight.mul_(inside)
        network.upsampler[1].weight.fill_(1)
        inside[3:6, 3:6] = 0
        inside[4, 4] = 1
        network.tail.weight.mul_(inside)
    return network


def pictures() -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    sides = ((40, 30), (31, 50))
    return [
        (torch.rand(1, 3, h, w, generator=generator), torch.rand(1, 3, 2 * h, 2 * w, generator=generator))
        for h, w in sides
    ]


def test_it_computes_the_same_where_it_can(simple: Any) -> None:
    small = torch.rand(1, 3, 20, 20)
    with torch.inference_mode():
        large = transplant(simple, pictures(), truth=False)(small)
        assert torch.allclose(large, simple(small), atol=2e-3)


def test_it_can_be_fitted_to_the_truth(simple: Any) -> None:
    pairs = pictures()
    with torch.inference_mode():
        fitted, copied = (transplant(simple, pairs, truth=truth) for truth in (True, False))
        errors = [sum(float((g(lr) - hr).square().mean()) for lr, hr in pairs) for g in (fitted, copied)]
        assert errors[0] < errors[1]
        for name, tensor in simple.body.state_dict().items():
            assert torch.equal(fitted.body.state_dict()[name], tensor)
