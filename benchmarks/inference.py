"""Every common way to run the network on a CPU, against crispen: the one table of speed, made again.

    python benchmarks/inference.py [--threads N] [--sizes 64x64 256x256] [--full] [--methods crispen openvino-bf16]
        [--repetitions 5] [--patience 20] [--json FILE] [--write docs/performance.md]

Same weights, same picture, same threads, in turns. *Network alone*: a process for each method that stays alive, opens
its network once and computes the whole picture when told. crispen is timed with its conversions, from an 8-bit array
to one, the others without. *Whole process*: from the start of Python to the PNG, whose time for the smallest picture
is the cold start. Medians with their range; agreement with eager fp32 torch in dB (8 bit, RGB, all pixels); peak
memory of the process. Operations are those of the plain network, a multiply-add is 2. What is not installed is left
out, with a line that says so.

How long it takes: on two cores that compute a bf16 matmul at 0.7 TFLOP/s, with all methods, about 9 minutes, and with
``--full``, up to 4 megapixels, about 25. For that, the turns of one row may take ``--patience`` seconds in all: the
first is not counted where there is time for a second; a method that would take more than five times as long for one,
judging by its own time on a smaller picture, is left out; and so is one that failed on a smaller picture. A process
that keeps much memory between its turns ends, and the next begins with a time that is not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
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
from inference_turns import Player, Turn, leave_out, take_turns

PICTURE = Path(__file__).parent.parent / "examples" / "flowers.png"
SIZES = ("64x64", "256x256", "480x320")
FULL = (*SIZES, "1024x1024", "2048x2048")
MANY_PIXELS, FEW_REPETITIONS = 50_000, 3
SHARE_FOR_WAITING = 0.25
"""Of the free memory, how much the processes may keep that wait for their turn, all together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all measurements of one run share."""

    model: str
    methods: tuple[str, ...]
    threads: int
    repetitions: int
    patience: float
    """Seconds for the turns of one row; see `inference_turns`."""
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
        machine = environment(setup.threads)
        for size in arguments.sizes or (FULL if arguments.full else SIZES):
            width, height = (int(side) for side in size.split("x"))
            picture = setup.folder / "lr.png"
            ask_once("picture", arguments.picture, width, height, picture)
            for measure in (measure_networks, measure_processes):
                say(f"{size}: {measure.__name__.removeprefix('measure_')} …")
                rows += measure(setup, picture, width, height, rows)
            if arguments.json:  # after each size, since the next may take long
                arguments.json.write_text(to_json(rows, machine, setup), encoding="utf-8")
    text = report(rows, machine, setup)
    print(text)
    if arguments.write:
        fill(arguments.write, "inference", text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", nargs="+", help="of the input, WIDTHxHEIGHT, the smallest first")
    parser.add_argument("--full", action="store_true", help="up to 4 megapixels: about 25 minutes")
    parser.add_argument(
        "--repetitions", type=int, default=5, help=f"counted; {FEW_REPETITIONS} above {MANY_PIXELS} pixels"
    )
    parser.add_argument("--patience", type=float, default=20, help="seconds for one row, see above")
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
    return Setup(
        model=arguments.model,
        methods=tuple(available(arguments.methods or METHODS, folder)),
        threads=arguments.threads,
        repetitions=arguments.repetitions,
        patience=arguments.patience,
        folder=folder,
        flop_per_pixel=2 * multiply_adds(found.card.architecture),
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
            reason = failures[METHODS[name].asset or ""]
            say(f"{name} is left out: the network could not be converted ({reason})")
        elif name == "crispen-int8" and "int8" not in get_args(crispen.Precision):
            say(f"{name} is left out: this crispen has no such precision")
        else:
            yield name


def measure_networks(
    setup: Setup, picture: Path, width: int, height: int, earlier: Sequence[Row]
) -> list[Row]:
    """The network alone, all methods in turns."""
    rows = [new_row(name, setup, width, height) for name in setup.methods]
    leave_out(rows, earlier, patience=setup.patience)
    results = setup.folder / "network"
    results.mkdir(exist_ok=True)
    with ExitStack() as stack:
        players = [
            stack.enter_context(closing(new_player(setup, picture, row, results, len(rows)))) for row in rows
        ]
        take_turns(
            rows,
            [player.turn for player in players],
            repetitions=repetitions_for(setup, rows),
            patience=setup.patience,
        )
    compare(rows, results)
    return rows


def new_player(setup: Setup, picture: Path, row: Row, results: Path, count: int) -> Player:
    """One of ``count`` that share the memory for waiting."""
    result = results / f"{row.method}.npy" if row.depends_on_picture else None
    may_keep = SHARE_FOR_WAITING * free_memory() / count
    return Player(partial(open_worker, setup, picture, row.method), result=result, may_keep=may_keep)


def new_row(name: str, setup: Setup, width: int, height: int) -> Row:
    row = Row(method=name, title=METHODS[name].title, width=width, height=height, flop=None)
    row.flop = setup.flop_per_pixel * row.pixels if row.depends_on_picture else 2 * MATMUL_SIDE**3
    return row


def repetitions_for(setup: Setup, rows: Sequence[Row]) -> int:
    many = rows[0].pixels > MANY_PIXELS
    return min(setup.repetitions, FEW_REPETITIONS) if many else setup.repetitions


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
    leave_out(rows, earlier, patience=setup.patience)
    take_turns(rows, turns, repetitions=repetitions_for(setup, rows), patience=setup.patience)
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


def compare(rows: Sequence[Row], results: Path) -> None:
    """Agreement with the reference, or where that failed with crispen's own fp32; then forget the results."""
    done = {row.method: row for row in rows if row.failure is None and row.depends_on_picture}
    found = {path.stem: path for path in results.iterdir() if path.stem in done and path.suffix != ".log"}
    reference = next((name for name in (REFERENCE, "crispen-fp32") if name in found), None)
    for name, path in found.items():
        if reference is not None and name != reference:
            done[name].agreement = agreement(path, found[reference])
    rmtree(results)


def report(rows: Sequence[Row], machine: str, setup: Setup) -> str:
    networks = [row for row in rows if row.flop]
    processes = [row for row in rows if not row.flop]
    return "\n\n".join(
        [
            f"{machine}. Model {setup.model}, {setup.flop_per_pixel / 1e6:.2f} MFLOP for each pixel of the input.",
            "**Network alone**",
            table(networks),
            "**Whole process**, from its start to the written PNG; of the smallest picture that is the cold start",
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
