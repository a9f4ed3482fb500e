"""Every common way to run the network on a CPU, against crispen: the one table of speed, made again.

    python benchmarks/inference.py [--threads N] [--sizes 64x64 256x256] [--full] [--methods crispen openvino-bf16]
        [--json FILE] [--write docs/performance.md]

Same weights, same picture, same threads, in turns. *Network alone*: a process for each method that stays alive, opens
its network once and computes the whole picture when told; the first time is not counted. crispen is timed with its
conversions, from an 8-bit array to one, the others without. *Whole process*: from the start of Python to the PNG,
whose time for the smallest picture is the cold start. Medians with their range; agreement with eager fp32 torch in dB
(8 bit, RGB, all pixels); peak memory of the process. Operations are those of the plain network, a multiply-add is 2.
What is not installed is left out, with a line that says so. Where a method would take too much memory beside the
others, each of its repetitions has a new process, and in it a first time that is not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile, rmtree
from typing import get_args

import crispen
from crispen import zoo
from inference_methods import MATMUL_SIDE, METHODS, REFERENCE, WEIGHTS
from inference_processes import (
    FailedError,
    Measurement,
    Worker,
    agreement,
    ask_once,
    free_memory,
    time_process,
    with_threads,
)
from inference_table import Row, environment, fill, multiply_adds, table

PICTURE = Path(__file__).parent.parent / "examples" / "flowers.png"
SIZES = ("64x64", "256x256", "480x320")
FULL = ("64x64", "128x128", "256x256", "480x320", "512x512", "1024x1024", "2048x2048")
MANY_PIXELS, FEW_REPETITIONS = 300_000, 3
Turn = Callable[[], Measurement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all measurements of one run share."""

    model: str
    methods: tuple[str, ...]
    threads: int
    repetitions: int
    folder: Path
    """For the assets, the pictures and the results."""
    flop_per_pixel: int
    """Of the input."""

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that finds what an earlier one kept."""
        return with_threads(self.threads, self.folder / "cache")


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        setup, rows = make_setup(arguments, Path(folder)), list[Row]()
        for size in arguments.sizes or (FULL if arguments.full else SIZES):
            width, height = (int(side) for side in size.split("x"))
            picture = setup.folder / "lr.png"
            ask_once("picture", arguments.picture, width, height, picture)
            for measure in (measure_networks, measure_processes):
                say(f"{size}: {measure.__name__.removeprefix('measure_')} …")
                rows += measure(setup, picture, width, height, rows)
    text = report(rows, environment(setup.threads), setup)
    print(text)
    if arguments.json:
        arguments.json.write_text(to_json(rows, environment(setup.threads), setup), encoding="utf-8")
    if arguments.write:
        fill(arguments.write, "inference", text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", nargs="+", help="of the input, WIDTHxHEIGHT")
    parser.add_argument("--full", action="store_true", help="all sizes up to 4 megapixels")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default: all that are installed")
    parser.add_argument("--model", default="srresnet-x4", help="a bundled one")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="cut or mirrored to each size")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers <!-- inference -->")
    return parser.parse_args()


def make_setup(arguments: argparse.Namespace, folder: Path) -> Setup:
    """Convert the network once, for all methods that can be had here."""
    found = zoo.find(arguments.model)
    assert found.card is not None
    assert found.weights is not None
    copyfile(found.weights, folder / WEIGHTS)
    (folder / "model.txt").write_text(arguments.model, encoding="utf-8")
    parts = found.card.architecture
    counted = multiply_adds(scale=parts.scale, num_blocks=parts.num_blocks, num_features=parts.num_features)
    return Setup(
        model=arguments.model,
        methods=tuple(available(arguments.methods or METHODS, folder)),
        threads=arguments.threads,
        repetitions=arguments.repetitions,
        folder=folder,
        flop_per_pixel=2 * counted,
    )


def available(names: Iterable[str], folder: Path) -> Iterator[str]:
    """The methods that can be had; of each other one line says why it cannot."""
    names, failures = list(names), dict[str, str]()
    for asset in sorted({METHODS[name].asset or "" for name in names} - {""}):
        try:
            ask_once("prepare", asset, folder)
        except FailedError as error:
            failures[asset] = str(error)
    for name in names:
        missing = [package for package in METHODS[name].needs if find_spec(package) is None]
        if missing:
            say(f"{name} is left out: {', '.join(missing)} is not installed")
        elif METHODS[name].asset in failures:
            say(
                f"{name} is left out: the network could not be converted ({failures[METHODS[name].asset or '']})"
            )
        elif name == "crispen-int8" and "int8" not in get_args(crispen.Precision):
            say(f"{name} is left out: this crispen has no such precision")
        else:
            yield name


def measure_networks(
    setup: Setup, picture: Path, width: int, height: int, earlier: Sequence[Row]
) -> list[Row]:
    """The network alone, all methods in turns."""
    rows = [new_row(name, setup, width, height) for name in setup.methods]
    give_up_early(rows, earlier)
    results = setup.folder / "network"
    results.mkdir(exist_ok=True)
    with ExitStack() as stack:
        workers = {
            row.method: start_worker(setup, picture, row.method, stack) for row in rows if lasts(row, rows)
        }
        turns = [
            workers[row.method].run
            if row.method in workers
            else in_new_worker(setup, picture, row.method, results)
            for row in rows
        ]
        take_turns(rows, turns, repetitions=repetitions_for(setup, rows), uncounted=1 if workers else 0)
        for row in rows:
            if row.method in workers and row.failure is None and not row.method.startswith("matmul"):
                workers[row.method].save(results / f"{row.method}.png")
    compare(rows, results)
    return rows


def lasts(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a method's process may stay alive beside the others': where half of the memory would do for all."""
    needed = METHODS[row.method].bytes_per_pixel * row.width * row.height
    return row.failure is None and needed < free_memory() / 2 / len(rows)


def start_worker(setup: Setup, picture: Path, method: str, stack: ExitStack) -> Worker:
    return stack.enter_context(closing(open_worker(setup, picture, method)))


def new_row(name: str, setup: Setup, width: int, height: int) -> Row:
    flop = 2 * MATMUL_SIDE**3 if name.startswith("matmul") else setup.flop_per_pixel * width * height
    return Row(method=name, title=METHODS[name].title, width=width, height=height, flop=flop)


def give_up_early(rows: Sequence[Row], earlier: Sequence[Row]) -> None:
    """What failed on a smaller picture is not tried on a larger one."""
    for row in rows:
        for other in earlier:
            smaller = other.width * other.height <= row.width * row.height
            if smaller and (other.method, other.flop is None) == (row.method, row.flop is None):
                row.failure = row.failure or other.failure


def repetitions_for(setup: Setup, rows: Sequence[Row]) -> int:
    many = rows[0].width * rows[0].height > MANY_PIXELS
    return min(setup.repetitions, FEW_REPETITIONS) if many else setup.repetitions


def in_new_worker(setup: Setup, picture: Path, method: str, results: Path) -> Turn:
    """A process for each repetition, so that one method at a time takes memory."""

    def turn() -> Measurement:
        with closing(open_worker(setup, picture, method)) as worker:
            worker.run()
            measured = worker.run()
            if not method.startswith("matmul"):
                worker.save(results / f"{method}.png")
        return measured

    return turn


def open_worker(setup: Setup, picture: Path, method: str) -> Worker:
    return Worker(
        method,
        assets=setup.folder,
        picture=picture,
        environment=setup.environment,
        threads=setup.threads,
    )


def measure_processes(
    setup: Setup, picture: Path, width: int, height: int, earlier: Sequence[Row]
) -> list[Row]:
    """The whole process, all methods in turns; crispen's also as on its first day, with nothing kept."""
    rows, turns = list[Row](), list[Turn]()
    results = setup.folder / "process"
    results.mkdir(exist_ok=True)
    for name in setup.methods:
        for first in (False, True) if name == "crispen" else (False,):
            if name.startswith("matmul"):
                continue
            title = METHODS[name].title + (", first start ever" if first else "")
            method = f"{name}-first" if first else name
            rows.append(Row(method=method, title=title, width=width, height=height, flop=None))
            turns.append(in_process(setup, picture, name, results / f"{method}.png", first=first))
    give_up_early(rows, earlier)
    take_turns(rows, turns, repetitions=repetitions_for(setup, rows), uncounted=1)
    compare(rows, results)
    return rows


def in_process(setup: Setup, picture: Path, name: str, target: Path, *, first: bool) -> Turn:
    precision = {"crispen": "auto", "crispen-fp32": "fp32", "crispen-int8": "int8"}.get(name)
    words: list[object] = [sys.executable, Path(__file__).parent / "inference_worker.py", "file", name]
    words += [setup.folder, setup.threads, picture, target]
    if precision:
        words = [sys.executable, "-m", "crispen", "upscale", picture, "-o", target, "--force"]
        words += ["--model", setup.model, "--precision", precision]
    cache = setup.folder / ("cache-of-one" if first else "cache")

    def turn() -> Measurement:
        if first:
            rmtree(cache, ignore_errors=True)
        environment = with_threads(setup.threads, cache)
        return time_process(list(map(str, words)), environment=environment, log=target.with_suffix(".log"))

    return turn


def take_turns(rows: Sequence[Row], turns: Sequence[Turn], *, repetitions: int, uncounted: int) -> None:
    """Fill the rows; one that fails is out."""
    for repetition in range(uncounted + repetitions):
        for row, turn in zip(rows, turns, strict=True):
            if row.failure is not None:
                continue
            try:
                measured = turn()
            except FailedError as error:
                row.failure = str(error)
                continue
            row.memory = max(row.memory, measured.memory)
            if repetition >= uncounted:
                row.seconds.append(measured.seconds)


def compare(rows: Sequence[Row], results: Path) -> None:
    """Agreement with the reference, or where that failed with crispen's own fp32; then forget the results."""
    done = [row for row in rows if row.failure is None and not row.method.startswith("matmul")]
    methods = [row.method for row in done]
    reference = next((name for name in (REFERENCE, "crispen-fp32") if name in methods), None)
    for row in done:
        if reference is not None and row.method != reference:
            row.agreement = agreement(results / f"{row.method}.png", results / f"{reference}.png")
    rmtree(results)


def report(rows: Sequence[Row], machine: str, setup: Setup) -> str:
    networks = [row for row in rows if row.flop]
    processes = [row for row in rows if not row.flop]
    return "\n\n".join(
        [
            f"{machine}. Model {setup.model}, {setup.flop_per_pixel / 1e6:.2f} MFLOP for each pixel of the input.",
            "**Network alone**",
            table(networks),
            "**Whole process**, from its start to the written PNG",
            table(processes),
        ]
    )


def to_json(rows: Sequence[Row], machine: str, setup: Setup) -> str:
    entries = [asdict(row) for row in rows]
    for entry in entries:  # JSON knows no infinity
        entry["agreement"] = "equal" if entry["agreement"] == math.inf else entry["agreement"]
    content = {
        "environment": machine,
        "model": setup.model,
        "threads": setup.threads,
        "flop_per_pixel": setup.flop_per_pixel,
        "rows": entries,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def say(line: str) -> None:
    """Beside the report."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
