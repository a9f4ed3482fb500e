"""What `inference.py` measured, as a Markdown table: counted operations, medians, shares, and the machine in a line."""

from __future__ import annotations

import datetime
import math
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import crispen
from crispen.zoo import Architecture

PACKAGES = ("torch", "onnxruntime", "openvino", "ncnn", "opencv-python-headless", "opencv-python")
BF16_UNITS = ("amx_bf16", "avx512_bf16")


@dataclass(kw_only=True)
class Row:
    """One method on one size of picture."""

    method: str
    title: str
    width: int
    """Of the input."""
    height: int
    flop: float | None
    """Counted operations of one repetition; None where the time is not the network's alone."""
    seconds: list[float] = field(default_factory=list[float])
    memory: int = 0
    """Peak, in bytes."""
    agreement: float | None = None
    """With the reference, in dB; None where there is nothing to compare."""
    failure: str | None = None
    """Why there are no seconds."""
    warmed_up: bool = True
    """Whether there was a time before these that is not counted."""

    @property
    def pixels(self) -> int:
        """Of the input."""
        return self.width * self.height

    @property
    def depends_on_picture(self) -> bool:
        """Whether it is a method's, and not a limit's."""
        return not self.method.startswith("matmul")

    @property
    def median(self) -> float:
        """Seconds; not a number where the method failed."""
        return statistics.median(self.seconds) if self.seconds and self.failure is None else math.nan


def multiply_adds(network: Architecture) -> int:
    """What the plain network multiplies and adds for each pixel of the input; activations and sums are not counted.

    Two 3×3 in each block and one after them. The figure's network (Ledig et al. 2017, Figure 4) has 9×9 at its head and
    its tail, which runs at full size, and one convolution before each shuffle; the compact one has 3×3 at the head, to
    all phases of a pixel, and past the body. Batch norm folds into the convolutions.
    """
    features, square = network.num_features, network.num_features**2
    body = (2 * network.num_blocks + 1) * 3 * 3 * square
    if network.generator == "compact":
        phases = 3 * network.scale**2
        return 3 * 3 * (3 * features + features * phases + 3 * phases) + body
    doublings = int(math.log2(network.scale))
    rgb = 9 * 9 * 3 * features
    upsampler = sum(4**doubling * 3 * 3 * 4 * square for doubling in range(doublings))
    return rgb + body + upsampler + network.scale**2 * rgb


def table(rows: Sequence[Row]) -> str:
    """The rows of one scope, in Markdown; a missing time has its reason."""
    network = any(row.flop for row in rows)
    heads = ["input", "method", "median", "range (runs)", "crispen's lead"]
    heads += ["TFLOP/s", "of bf16 peak"] if network else []
    heads += ["agreement", "peak memory"]
    lines = [f"| {' | '.join(heads)} |", "|---|---|" + "---:|" * (len(heads) - 2)]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row, rows, network=network))} |" for row in rows)])


def _cells(row: Row, rows: Sequence[Row], *, network: bool) -> Iterable[str]:
    yield f"{row.width}×{row.height}"
    yield row.title
    if row.failure is not None:
        yield row.failure
        yield from [""] * (6 if network else 4)
        return
    yield _time(row.median)
    yield _range(row)
    lead = row.median / _median_of("crispen", row, rows)
    yield _number(lead, "{:.2f}×") if row.depends_on_picture else ""
    if network:
        assert row.flop is not None
        rate = row.flop / row.median
        yield f"{rate / 1e12:.3f}"
        peak = [other.flop / other.median for other in _same_size("matmul-bf16", row, rows) if other.flop]
        yield _number(rate / peak[0] if peak else math.nan, "{:.0%}")
    yield _agreement(row)
    yield f"{row.memory / 2**20:,.0f} MiB" if row.depends_on_picture else ""


def _median_of(method: str, row: Row, rows: Sequence[Row]) -> float:
    return next((other.median for other in _same_size(method, row, rows)), math.nan)


def _same_size(method: str, row: Row, rows: Sequence[Row]) -> list[Row]:
    return [
        other
        for other in rows
        if (other.method, other.width, other.height) == (method, row.width, row.height)
    ]


def _range(row: Row) -> str:
    if not row.warmed_up:
        return "first time (1)"
    return f"{_time(min(row.seconds))} to {_time(max(row.seconds))} ({len(row.seconds)})"


def _time(seconds: float) -> str:
    """To three figures, in a unit that suits."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else "1.00 s"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)


def _agreement(row: Row) -> str:
    if row.agreement is None:
        return ""
    return "equal" if math.isinf(row.agreement) else f"{row.agreement:.1f} dB"


def environment(threads: int, packages: Iterable[str] = PACKAGES) -> str:
    """Processor, threads, versions and date, in one line."""
    found = [f"crispen {crispen.__version__}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    count = f"{threads} thread" + ("s" if threads > 1 else "")
    today = datetime.date.today().isoformat()
    return "; ".join([_processor(), count, f"Python {platform.python_version()}", ", ".join(found), today])


def _processor() -> str:
    """Its model and its units for bf16, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    units = [unit for unit in BF16_UNITS if re.search(rf"\b{unit}\b", text)]
    family = re.search(r"cpu family\s*: (\d+)", text)
    described = [*([f"family {family[1]}"] if family else []), *units]
    model = name[1].strip() if name else platform.processor() or platform.machine()
    return f"{model} ({', '.join(described)})" if described else model


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers ``<!-- name -->`` and ``<!-- /name -->`` of a file.

    Raises:
        ValueError: where the file does not have both, once.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = path.read_text(encoding="utf-8")
    if content.count(first) != 1 or content.count(last) != 1:
        raise ValueError(f"{path} must have the markers {first} and {last}, once each")
    before, rest = content.split(first)
    after = rest.split(last)[1]
    path.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")
