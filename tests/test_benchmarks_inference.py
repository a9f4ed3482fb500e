"""What the table of speed is computed from: counted operations, turns and their bounds, and rows to Markdown."""

import math
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
benchmark: Any = import_module("inference_table")
turning: Any = import_module("inference_turns")
processes: Any = import_module("inference_processes")
plain_network: Any = find_spec("torch") and import_module("plain").plain_network
sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("name", ["srresnet", "compact"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_operations_are_those_that_the_plain_network_does(name: str, scale: int) -> None:
    torch = pytest.importorskip("torch")
    from crispen.networks.generators import build_generator
    from crispen.zoo.card import parse_architecture

    architecture = {
        "generator": name,
        "scale": scale,
        "num_blocks": 3,
        "num_features": 8,
        "batch_norm": False,
    }
    network, counted = plain_network(build_generator(architecture)), 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal counted
        counted += output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 5, 7)).shape == (1, 3, 5 * scale, 7 * scale)
    assert counted == 5 * 7 * benchmark.multiply_adds(parse_architecture(architecture, source="this test"))


@pytest.mark.parametrize("name", ["srresnet", "compact"])
def test_the_plain_network_computes_the_same(name: str) -> None:
    torch = pytest.importorskip("torch")
    from crispen.networks.generators import build_generator

    generator = build_generator(
        {"generator": name, "scale": 4, "num_blocks": 2, "num_features": 8, "batch_norm": False}
    )
    with torch.inference_mode():
        lr = torch.rand(1, 3, 9, 8)
        expected = generator(lr)
        network = plain_network(generator)
        torch.testing.assert_close(network(lr), expected, atol=1e-5, rtol=0)
    kinds: set[Any] = {type(module) for module in network.modules() if isinstance(module, torch.nn.PReLU)}
    assert kinds == {torch.nn.PReLU}


def row(method: str, seconds: list[float], **more: Any) -> Any:
    settings = {"width": 10, "height": 20, "flop": 1e9, **more}
    return benchmark.Row(method=method, title=method, seconds=seconds, **settings)


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


def test_a_time_that_was_the_first_is_shown_as_such() -> None:
    (cold, warm) = (cells_of([row("rival", [7.0], warmed_up=warmed)], "rival")[3] for warmed in (False, True))
    assert cold == "first time (1)"
    assert warm == "7.00 s to 7.00 s (1)"


@pytest.mark.parametrize(
    ("seconds", "counted", "warmed_up"),
    [
        (1.0, 3, True),  # all that were asked for
        (2.5, 3, True),  # four of them are just as long as the patience
        (3.0, 2, True),
        (5.0, 1, True),
        (5.1, 1, False),
        (99.0, 1, False),
    ],
)
def test_a_row_has_as_many_turns_as_its_patience_lasts(seconds: float, counted: int, warmed_up: bool) -> None:
    rows = [row("rival", []), row("other", [])]
    taken = list[str]()

    def turn(name: str, took: float) -> Any:
        taken.append(name)
        return processes.Measurement(took, memory=len(taken))

    turns = [lambda: turn("rival", seconds), lambda: turn("other", 0.1)]
    turning.take_turns(rows, turns, repetitions=3, patience=10.0)
    assert (len(rows[0].seconds), rows[0].warmed_up) == (counted, warmed_up)
    assert len(rows[1].seconds) == 3, "one row's patience is not the other's"
    assert taken[:2] == ["rival", "other"]
    assert taken.count("rival") == counted + warmed_up


def test_the_first_turn_is_not_counted_and_one_that_fails_is_out() -> None:
    answers = {"rival": iter([9.0, 1.0, 2.0]), "broken": iter([1.0])}

    def turn(name: str) -> Any:
        for seconds in answers[name]:
            return processes.Measurement(seconds, memory=5)
        raise processes.FailedError("out of memory")

    rows = [row("rival", []), row("broken", [])]
    turning.take_turns(rows, [lambda: turn("rival"), lambda: turn("broken")], repetitions=2, patience=99.0)
    assert (rows[0].seconds, rows[0].failure) == ([1.0, 2.0], None)
    assert rows[1].failure == "out of memory"


@pytest.mark.parametrize("scope", [{}, {"flop": None}, {"flop": None, "method": "rival-first"}])
def test_what_is_expected_to_exceed_its_patience_by_far_is_left_out(scope: dict[str, Any]) -> None:
    measured = row("rival", [3.0], width=10, height=10)

    def after(pixels: int) -> str | None:
        larger = row("rival", [], width=pixels, height=1)
        for name, value in scope.items():
            setattr(larger, name, value)
        turning.leave_out([larger], [measured], patience=6.0)
        return larger.failure

    assert after(1000) is None, "five times the patience is what may be"
    assert after(1001) == "left out: about 0.5 min expected"
    assert after(200_000) == "left out: about 100 min expected"


def test_the_nearest_size_tells_what_to_expect_and_none_tells_nothing() -> None:
    sizes = [row("rival", [seconds], width=width) for seconds, width in ((9.0, 1), (2.0, 10), (50.0, 100))]
    assert turning.expected_seconds(row("rival", [], width=30), sizes) == pytest.approx(6.0)
    assert turning.expected_seconds(row("other", [], width=30), sizes) == 0
    limit = row("matmul-bf16", [7.0])
    assert turning.expected_seconds(row("matmul-bf16", [], width=1000), [limit]) == 0


def test_what_failed_is_not_tried_on_a_larger_picture_in_the_same_scope() -> None:
    failed = row("rival", [], failure="out of memory")
    network, process = row("rival", [], width=11), row("rival", [], width=11, flop=None)
    smaller, other = row("rival", [], width=9), row("other", [], width=11)
    turning.leave_out([network, process, smaller, other], [failed], patience=1.0)
    assert [one.failure for one in (network, process, smaller, other)] == ["out of memory", None, None, None]


def test_of_two_reasons_the_one_that_was_seen_is_told() -> None:
    measured, failed = row("rival", [1.0], width=1), row("rival", [], width=5, failure="out of memory")
    left_out = row("rival", [], width=5, failure="left out: about 0.1 min expected")
    for other, expected in ((failed, "out of memory"), (left_out, "left out: about 0.2 min expected")):
        larger = row("rival", [], width=10)
        turning.leave_out([larger], [measured, other], patience=1.0)
        assert larger.failure == expected


class FakeWorker:
    """In place of a process: writes down what it is told."""

    def __init__(self, told: list[str], *, held: int, fails: bool = False) -> None:
        self.told, self.held, self.fails = told, held, fails
        told.append("start")

    def run(self) -> Any:
        self.told.append("run")
        if self.fails:
            raise processes.FailedError("out of memory")
        return processes.Measurement(1.0, memory=7, held=self.held)

    def save(self, path: Path) -> None:
        self.told.append(path.name)

    def close(self) -> None:
        self.told.append("end")


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (10, ["start", "run", "run", "r.npy", "end"]),
        (11, ["start", "run", "r.npy", "end", "start", "run", "run", "r.npy", "end"]),
    ],
)
def test_a_process_that_keeps_much_memory_begins_anew_and_warms_up(held: int, expected: list[str]) -> None:
    told = list[str]()
    player = turning.Player(lambda: FakeWorker(told, held=held), result=Path("r.npy"), may_keep=10)
    player.turn()
    player.turn()
    player.close()
    assert told == expected


def test_a_process_that_failed_is_ended_and_has_no_result() -> None:
    told = list[str]()
    player = turning.Player(lambda: FakeWorker(told, held=0, fails=True), result=Path("r.npy"), may_keep=10)
    with pytest.raises(processes.FailedError):
        player.turn()
    player.close()
    assert told == ["start", "run", "end"]


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- inference -->\nold\n<!-- /inference -->\nafter\n")
    benchmark.fill(path, "inference", "new")
    benchmark.fill(path, "inference", "newer")
    assert path.read_text() == "before\n<!-- inference -->\nnewer\n<!-- /inference -->\nafter\n"
    with pytest.raises(ValueError, match="markers"):
        benchmark.fill(path, "other", "new")
