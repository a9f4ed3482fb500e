"""Does crispen take the same time for each megapixel of a small and of a large picture, and do threads help?

    python benchmarks/scaling.py [--tiny] [--full] [--threads 1 2] [--output docs/performance/scaling.png]
        [--json FILE] [--write docs/performance.md]

Seconds for each megapixel of the input, from 0.1 to 3 (with ``--full`` to 100), with all threads; peak memory of the
process; and the speed-up by threads on one picture. Every picture is computed in a process of its own, which has
computed it before where it is small; a larger one is computed once. ``--tiny`` takes a network of one block and 16
features with random weights: the same tiling and pasting around a twentieth of the work.

On two cores that compute a bf16 matmul at 0.7 TFLOP/s it takes about 2 minutes, with ``--full`` 20, with ``--tiny
--full`` 5. 100 megapixels take 6 GB of memory, and a quarter of a gigabyte for temporary files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import crispen
from inference_processes import Worker, ask_once, with_threads
from inference_table import environment, fill

PICTURE = Path(__file__).parent.parent / "examples" / "flowers.png"
MEGAPIXELS, FULL = (0.1, 0.3, 1.0, 3.0), (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
WARMED_UP_TO = 1.0
"""Megapixels from which on the first time is counted: what it costs more is nothing against the rest."""
OF_THREADS = 0.3
"""Megapixels on which threads are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One picture with so many threads."""

    megapixels: float
    """Of the input."""
    threads: int
    seconds: tuple[float, ...]
    memory: int
    """Peak of the process, in bytes."""

    @property
    def seconds_per_megapixel(self) -> float:
        """The median's."""
        return statistics.median(self.seconds) / self.megapixels


def main() -> None:
    arguments = parse_arguments()
    most = max(arguments.threads)
    sizes = arguments.megapixels or (FULL if arguments.full else MEGAPIXELS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_tiny(folder / "tiny.onnx") if arguments.tiny else arguments.model
        (folder / "model.txt").write_text(str(model), encoding="utf-8")
        by_size = [measure(folder, size, [most], arguments.repetitions)[0] for size in sizes]
        by_threads = measure(folder, OF_THREADS, arguments.threads, arguments.repetitions)
    label = "a network of 1 block and 16 features" if arguments.tiny else arguments.model
    machine = f"{environment(most, ('openvino',))}. Model: {label}."
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    draw(by_size, by_threads, label, arguments.output)
    text = f"{machine}\n\n{table(by_size, by_threads)}"
    print(text)
    if arguments.json:
        content = {
            "environment": machine,
            "by_size": [asdict(point) for point in by_size],
            "by_threads": [asdict(point) for point in by_threads],
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.write:
        fill(arguments.write, "scaling-tiny" if arguments.tiny else "scaling", text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--full", action="store_true", help="up to 100 megapixels")
    parser.add_argument("--megapixels", type=float, nargs="+", help="of the input")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=list(range(1, len(os.sched_getaffinity(0)) + 1))
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--model", default="srresnet-x4")
    parser.add_argument("--output", type=Path, default=Path("docs/performance/scaling.png"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers <!-- scaling -->")
    return parser.parse_args()


def make_tiny(path: Path) -> Path:
    """An ONNX file of a network with random weights; made elsewhere, since this process must stay small."""
    ask_once("tiny", path)
    return path


def measure(folder: Path, megapixels: float, threads: list[int], repetitions: int) -> list[Point]:
    """A point for each number of threads, which take turns."""
    width, height = sides(megapixels)
    picture = folder / "lr.png"
    ask_once("picture", PICTURE, width, height, picture)
    warmed = megapixels <= WARMED_UP_TO
    seconds: dict[int, list[float]] = {count: [] for count in threads}
    memory = dict.fromkeys(threads, 0)
    for _ in range(repetitions if warmed else 1):
        for count in threads:
            with closing(
                Worker(
                    "crispen",
                    assets=folder,
                    picture=picture,
                    environment=with_threads(count, folder / "cache"),
                    threads=count,
                )
            ) as worker:
                if warmed:
                    worker.run()
                measured = worker.run()
            seconds[count].append(measured.seconds)
            memory[count] = max(memory[count], measured.memory)
    exact = width * height / 1e6
    return [
        Point(megapixels=exact, threads=count, seconds=tuple(seconds[count]), memory=memory[count])
        for count in threads
    ]


def sides(megapixels: float) -> tuple[int, int]:
    """Width and height of 3:2, as photographs have it."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return round(1.5 * height), height


def table(by_size: list[Point], by_threads: list[Point]) -> str:
    """Both series, in Markdown."""
    lines = ["| input | threads | time per megapixel | peak memory |", "|---:|---:|---:|---:|"]
    for point in [*by_size, *by_threads]:
        cells = [
            f"{point.megapixels:.3g} MP",
            str(point.threads),
            f"{point.seconds_per_megapixel:.3g} s",
            f"{point.memory / 2**20:,.0f} MiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rates = [point.seconds_per_megapixel for point in by_size]
    flatness = f"From the fastest to the slowest size: {max(rates) / min(rates):.2f}×. "
    alone = by_threads[0]
    gains = [
        f"{alone.seconds_per_megapixel / point.seconds_per_megapixel:.2f}× with {point.threads}"
        for point in by_threads[1:]
    ]
    return (
        "\n".join(lines)
        + f"\n\n{flatness}Threads, against {alone.threads}: {', '.join(gains) or 'no other'}."
    )


def draw(by_size: list[Point], by_threads: list[Point], label: str, path: Path) -> None:
    """Time for each megapixel, memory, and the gain of threads, side by side."""
    figure: Any = import_module("matplotlib.figure").Figure(figsize=(11, 3.4), layout="constrained")
    time_axis, memory_axis, threads_axis = figure.subplots(1, 3)
    sizes = [point.megapixels for point in by_size]
    time_axis.plot(sizes, [point.seconds_per_megapixel for point in by_size], "o-", color="#0072B2")
    time_axis.set(ylabel="seconds per megapixel", title=f"Time, threads: {by_size[0].threads}")
    memory_axis.plot(sizes, [point.memory / 2**30 for point in by_size], "o-", color="#D55E00")
    memory_axis.plot(
        sizes, [size * 51e6 / 2**30 for size in sizes], "--", color="grey", label="input and result"
    )
    memory_axis.set(ylabel="GiB", title="Peak memory of the process")
    memory_axis.legend()
    for axis in (time_axis, memory_axis):
        axis.set(xscale="log", xlabel="megapixels of the input", ylim=(0, None))
    counts = [point.threads for point in by_threads]
    alone = by_threads[0].seconds_per_megapixel * counts[0]
    gains = [alone / point.seconds_per_megapixel for point in by_threads]
    threads_axis.plot(counts, gains, "o-", color="#009E73")
    threads_axis.plot(counts, counts, "--", color="grey", label="ideal")
    threads_axis.set(
        xlabel="threads", xticks=counts, ylabel="times as fast as one", title="Threads", ylim=(0, None)
    )
    threads_axis.legend()
    for axis in (time_axis, memory_axis, threads_axis):
        axis.grid(alpha=0.3)
    figure.suptitle(f"crispen {crispen.__version__}, {label}", fontsize="medium")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
