"""What the table of speed is computed from: counted operations, and rows to Markdown."""

import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
benchmark: Any = import_module("inference_table")
sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_operations_are_those_that_the_plain_network_does(scale: int) -> None:
    torch = pytest.importorskip("torch")
    from crispen.networks.generators import SRResNet

    generator = SRResNet(scale=scale, num_blocks=3, num_features=8, batch_norm=False)
    counted = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal counted
        counted += output.numel() * module.weight[0].numel()

    def layers() -> Iterator[Any]:
        shuffle = torch.nn.PixelShuffle(2)
        yield from (generator.head, generator.body, generator.upsampler, shuffle, generator.tail)

    for module in generator.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        x = torch.zeros(1, 3, 5, 7)
        for layer in layers():
            x = layer(x)
    assert x.shape == (1, 3, 5 * scale, 7 * scale)
    assert counted == 5 * 7 * benchmark.multiply_adds(scale=scale, num_blocks=3, num_features=8)


def row(method: str, seconds: list[float], **more: Any) -> Any:
    return benchmark.Row(method=method, title=method, width=10, height=20, flop=1e9, seconds=seconds, **more)


def cells_of(rows: list[Any], title: str) -> list[str]:
    (line,) = [line for line in benchmark.table(rows).splitlines() if line.startswith(f"| 10×20 | {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_leads_and_shares_are_ratios_of_medians_of_the_same_size() -> None:
    other_size = benchmark.Row(method="crispen", title="crispen", width=1, height=1, flop=1e9, seconds=[77.0])
    rows = [
        other_size,
        row("crispen", [2.0, 1.0, 9.0], agreement=math.inf, memory=3 << 20),
        row("rival", [5.0]),
        row("matmul-bf16", [1.0]),
    ]
    ours, rival = cells_of(rows, "crispen"), cells_of(rows, "rival")
    assert ours[2:5] == ["2.00 s", "1.00 s to 9.00 s (3)", "1.00×"]
    assert ours[6:] == ["50%", "equal", "3 MiB"]
    assert rival[4] == "2.50×"
    assert rival[6] == "20%"


def test_a_failure_stands_in_place_of_a_time_in_a_row_as_long_as_the_others() -> None:
    rows = [row("crispen", [2.0]), row("rival", [1.0], failure="out of memory")]
    assert cells_of(rows, "rival")[2] == "out of memory"
    assert len({line.count("|") for line in benchmark.table(rows).splitlines()}) == 1


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- inference -->\nold\n<!-- /inference -->\nafter\n")
    benchmark.fill(path, "inference", "new")
    benchmark.fill(path, "inference", "newer")
    assert path.read_text() == "before\n<!-- inference -->\nnewer\n<!-- /inference -->\nafter\n"
    with pytest.raises(ValueError, match="markers"):
        benchmark.fill(path, "other", "new")
