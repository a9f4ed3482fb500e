"""What a GAN's detail costs in PSNR: the perception-distortion plane of Blau and Michaeli, CVPR 2018.

    python benchmarks/perception_distortion.py --benchmark BSD100/ --features squeezenet1_1.safetensors \
        [--against MODEL ...] [--first 20] [--results NAME=FOLDER ...]

For bicubic, for a model at several values of ``--strength`` (at 0 it is the faithful model that its card names), for
other models, and for folders with the results of other methods (named as the benchmark's pictures): means of PSNR, of
texture energy (`crispen.evaluation.texture_energy`) and of the distance between SqueezeNet's features
(`crispen.evaluation.FeatureDistance`). Prints the table, keeps the figures as JSON, and draws the plot;
``--draw`` draws it again from the JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

import crispen
from crispen import images, zoo
from crispen.evaluation import Benchmark, FeatureDistance, Pair, open_benchmark, psnr, texture_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bytes = NDArray[np.uint8]
Enlarge = Callable[[Pair], Bytes]

SCALE = 4
FIGURES = Path("docs/experiments/perception-distortion.json")
PLOT = Path("docs/perception-distortion.png")
OURS, OTHERS = "tab:blue", "0.35"
MARKERS = "sD^vPXp*"
"""Of other methods, in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Means of a method over the pictures."""

    name: str
    strength: float | None
    """None for what is not the model."""
    psnr: float
    """dB on luma, 4 pixels cropped."""
    texture: float
    """dB against the truth's."""
    distance: float
    """Between features; 0 for the truth itself."""


def main() -> None:
    arguments = parse()
    if not arguments.draw:
        measure_all(arguments)
    content = json.loads(arguments.figures.read_text())
    points = [Point(**entry) for entry in content["points"]]
    print_table(points)
    draw(points, title=content["pictures"], output=arguments.output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--benchmark", type=Path, help="the folder of ground truth")
    parser.add_argument("--first", type=int, help="how many of its pictures; all of them by default")
    parser.add_argument("--model", default="srgan-x4")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75, 1])
    parser.add_argument("--against", nargs="+", default=[], metavar="MODEL", help="other models")
    parser.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--features", type=Path, help="Caffe's SqueezeNet 1.1 as safetensors")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--output", type=Path, default=PLOT)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    arguments = parser.parse_args()
    if not arguments.draw and not (arguments.benchmark and arguments.features):
        parser.error("--benchmark and --features are needed to measure")
    return arguments


def measure_all(arguments: argparse.Namespace) -> None:
    benchmark = open_benchmark(arguments.benchmark, scale=SCALE)
    benchmark = dataclasses.replace(benchmark, hr_paths=benchmark.hr_paths[: arguments.first])
    distance = FeatureDistance(arguments.features, network="squeezenet")
    points: list[Point] = []
    for name, strength, enlarge in methods(arguments):
        points.append(measure(name, strength, enlarge, benchmark=benchmark, distance=distance))
        print(points[-1], flush=True)
    content = {
        "pictures": f"{benchmark.name}, {len(benchmark)} pictures",
        "protocol": benchmark.protocol.describe(),
        "distance": distance.description,
        "crispen_version": crispen.__version__,
        "weights_sha256": zoo.find(arguments.model).weights_sha256,
        "points": [asdict(point) for point in points],
    }
    arguments.figures.write_text(json.dumps(content, indent=2) + "\n")


def methods(arguments: argparse.Namespace) -> Iterator[tuple[str, float | None, Enlarge]]:
    """Name, strength and enlargement of everything that is measured."""
    yield "bicubic", None, lambda pair: images.resize(pair.lr, SCALE)
    for entry in arguments.results:
        name, _, folder = entry.partition("=")
        yield name, None, saved_in(Path(folder))
    for name in arguments.against:
        yield name, None, computed_by(name)
    card = zoo.find(arguments.model).card
    for strength in sorted(arguments.strengths):
        name = card.faithful if strength == 0 and card and card.faithful else arguments.model
        yield name, strength, computed_by(arguments.model, strength=strength)


def computed_by(model: str, *, strength: float = 1) -> Enlarge:
    upscaler = crispen.load(model, strength=strength)
    return lambda pair: cast(Bytes, upscaler(pair.lr))


def saved_in(folder: Path) -> Enlarge:
    """The results of another method, one file for each picture of the benchmark."""

    def read(pair: Pair) -> Bytes:
        pixels = cast(Bytes, images.read(folder / f"{pair.name}.png").pixels)
        return np.broadcast_to(pixels, pair.hr.shape)  # a gray one may be stored as such

    return read


def measure(
    name: str, strength: float | None, enlarge: Enlarge, *, benchmark: Benchmark, distance: FeatureDistance
) -> Point:
    scores: list[tuple[float, float, float]] = []
    for pair in benchmark:
        sr = enlarge(pair)
        score = psnr(sr, pair.hr, crop_border=SCALE), texture_energy(sr, pair.hr), distance(sr, pair.hr)
        scores.append(score)
    means = [fmean(column) for column in zip(*scores, strict=True)]
    return Point(name=name, strength=strength, psnr=means[0], texture=means[1], distance=means[2])


def print_table(points: list[Point]) -> None:
    print("| method | strength | PSNR (dB) | texture (dB) | feature distance |\n|---|---|---|---|---|")
    for point in points:
        strength = "" if point.strength is None else f"{point.strength:g}"
        print(
            f"| {point.name} | {strength} | {point.psnr:.2f} | {point.texture:+.1f} | {point.distance:.3f} |"
        )


def draw(points: list[Point], *, title: str, output: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    strengths = [point.strength for point in points if point.strength is not None]
    figure = Figure((8.4, 3.6), 110, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_plane(left, points, [point.texture for point in points], "texture energy (dB; 0 is the truth's)")
    left.axhline(0, color="0.6", linewidth=0.8, linestyle=":")
    draw_plane(
        right, points, [point.distance for point in points], "feature distance (upwards: looks closer)"
    )
    right.invert_yaxis()
    if any(point.strength is None for point in points):
        left.legend(fontsize=8, loc="lower right")
    model = next(point.name for point in points if point.strength == max(strengths))
    figure.suptitle(
        f"{title}, ×{SCALE}; {model} with --strength {min(strengths):g} to {max(strengths):g}", fontsize=10
    )
    FigureCanvasAgg(figure).print_png(output)


def draw_plane(axes: Axes, points: list[Point], heights: list[float], label: str) -> None:
    """One panel: PSNR to the right; the strengths joined by a line, other methods as marks of their own."""
    line = [(p.psnr, height) for p, height in zip(points, heights, strict=True) if p.strength is not None]
    axes.plot(*zip(*line, strict=True), "o-", color=OURS, markersize=5)
    markers = itertools.cycle(MARKERS)
    for point, height in zip(points, heights, strict=True):
        if point.strength is None:
            axes.plot(point.psnr, height, next(markers), color=OTHERS, markersize=5, label=point.name)
        else:
            axes.annotate(caption(point), (point.psnr, height), **placed(point))
    axes.set_xlabel("PSNR (dB; to the right: closer pixel by pixel)")
    axes.set_ylabel(label)
    axes.margins(0.24, 0.12)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def caption(point: Point) -> str:
    """Names at the ends of the line, and the strength alone between them."""
    return point.name if point.strength in (0, 1) else f"{point.strength:g}"


def placed(point: Point) -> dict[str, Any]:
    """Where its caption stands: beside the point, a little lower at the line's lower end."""
    return {
        "xytext": (7, -5) if point.strength == 0 else (6, 4),
        "textcoords": "offset points",
        "fontsize": 8,
        "color": OURS,
    }


if __name__ == "__main__":
    main()
