"""From a method and a benchmark to a report, one picture at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import crispen
from crispen import images
from crispen.errors import DataError, UsageError
from crispen.evaluation.benchmarks import Benchmark, Pair
from crispen.evaluation.methods import Method
from crispen.evaluation.metrics import psnr, ssim
from crispen.evaluation.protocol import Protocol
from crispen.files import check_replaceable, published

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What was measured on one picture."""

    name: str
    """The picture's name in the benchmark."""
    psnr: float
    """dB; infinite where sr equals hr."""
    ssim: float
    """At most 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is needed to trust, compare and repeat the numbers."""

    benchmark: str
    model: str
    weights_sha256: str | None
    """Of the model's weights; None for a method without weights."""
    runtime: str
    """What computed sr, in words, with device and precision."""
    protocol: Protocol
    scores: tuple[Score, ...]
    """In the benchmark's order."""
    crispen_version: str
    beside: Report | None = None
    """What another method did on the same pictures, to compare with."""

    @property
    def psnr(self) -> float:
        """The mean of the pictures' PSNR, in dB."""
        return fmean(score.psnr for score in self.scores)

    @property
    def ssim(self) -> float:
        """The mean of the pictures' SSIM."""
        return fmean(score.ssim for score in self.scores)

    def to_json(self) -> str:
        """The report as strict JSON, indented; an infinite PSNR becomes the string "inf"."""
        content: dict[str, Any] = {
            "benchmark": self.benchmark,
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "runtime": self.runtime,
            "crispen_version": self.crispen_version,
            "protocol": self.protocol.to_dict(),
            **self._measured(),
        }
        if self.beside:
            content["beside"] = {"model": self.beside.model, **self.beside._measured()}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _measured(self) -> dict[str, Any]:
        mean = Score(name="mean", psnr=self.psnr, ssim=self.ssim)
        return {
            "mean": _numbers(mean),
            "pictures": [{"name": score.name} | _numbers(score) for score in self.scores],
        }

    def to_table(self) -> Table:
        """The numbers for a terminal, rounded as papers do; `Protocol.describe` belongs below them."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(f"{self.model} on {self.benchmark}"), show_footer=True)
        table.add_column("picture", footer="mean")
        reports = {"": self} | ({escape(f"{self.beside.model}: "): self.beside} if self.beside else {})
        for name, report in reports.items():
            table.add_column(f"{name}PSNR (dB)", footer=f"{report.psnr:.2f}", justify="right")
            table.add_column(f"{name}SSIM", footer=f"{report.ssim:.4f}", justify="right")
        for scores in zip(*(report.scores for report in reports.values()), strict=True):
            cells = [cell for score in scores for cell in (f"{score.psnr:.2f}", f"{score.ssim:.4f}")]
            table.add_row(escape(scores[0].name), *cells)
        return table


class Evaluation:
    """A running evaluation; made by `evaluate`. Iterating measures one picture after the other.

    It can be walked through once; ``len()`` is the number of pictures.
    """

    def __init__(
        self, method: Method, benchmark: Benchmark, *, save: Path | None, beside: Method | None
    ) -> None:
        self._method, self._beside = method, beside
        self._benchmark = benchmark
        self._scores: list[Score] = []
        self._scores_beside: list[Score] = []
        self._remaining = self._measure(save)

    def __len__(self) -> int:
        return len(self._benchmark)

    def __iter__(self) -> Iterator[Score]:
        return self._remaining

    @property
    def result(self) -> Report:
        """The report. Pictures that were not iterated over yet are measured first."""
        for _ in self._remaining:
            pass
        beside = self._report(self._beside, self._scores_beside) if self._beside else None
        return self._report(self._method, self._scores, beside=beside)

    def _report(self, method: Method, scores: list[Score], *, beside: Report | None = None) -> Report:
        return Report(
            benchmark=self._benchmark.name,
            model=method.name,
            weights_sha256=method.weights_sha256,
            runtime=method.runtime,
            crispen_version=crispen.__version__,
            protocol=self._benchmark.protocol,
            scores=tuple(scores),
            beside=beside,
        )

    def _measure(self, save: Path | None) -> Iterator[Score]:
        for pair in self._benchmark:
            sr = self._method.enlarge(pair.lr)
            if save is not None:
                images.write(images.from_array(sr), save / f"{pair.name}.png", force=True)
            self._scores.append(_score(sr, pair, protocol=self._benchmark.protocol))
            if self._beside:
                sr = self._beside.enlarge(pair.lr)
                self._scores_beside.append(_score(sr, pair, protocol=self._benchmark.protocol))
            yield self._scores[-1]


def evaluate(
    method: Method,
    benchmark: Benchmark,
    *,
    save: str | Path | None = None,
    force: bool = False,
    beside: Method | None = None,
) -> Evaluation:
    """Measure a method on a benchmark.

    Args:
        method: what enlarges: `bicubic` or `learned`.
        benchmark: from `open_benchmark`, at the method's scale.
        save: a folder for the enlarged pictures, NAME.png each; it is made where it is missing.
        force: whether pictures that ``save`` holds already may be overwritten.
        beside: another method to measure on the same pictures, for the report.

    Returns:
        An iterable of one `Score` for each picture, with ``len()``, whose ``result`` is the `Report`.

    Raises:
        UsageError: for scales that differ.
        DataError: for a ``save`` that cannot be made or written to, or that is a folder of the benchmark itself.
        PictureError: for a picture in ``save`` that exists already. Iterating raises what reading the
            benchmark and the method raise.
    """
    for measured in (method, beside):
        if measured and measured.scale != benchmark.protocol.scale:
            raise UsageError(
                f"scale must be {measured.scale}, as {measured.name} enlarges by it,"
                f" not {benchmark.protocol.scale}"
            )
    save = None if save is None else Path(save)
    if save is not None:
        _make_folder(save)
        results = [save / f"{hr_path.stem}.png" for hr_path in benchmark.hr_paths]
        for path in results:
            images.check_destination(path, force=force)
        benchmark.check_apart(*results)
    return Evaluation(method, benchmark, save=save, beside=beside)


def write_report(report: Report, path: str | Path, *, force: bool = False) -> None:
    """Write a report as JSON, whole or not at all; what it raises is what `check_report_path` raises."""
    path = Path(path)
    check_report_path(path, force=force)
    with published(path, error=DataError) as temporary:
        temporary.write_text(report.to_json(), encoding="utf-8")


def check_report_path(path: str | Path, *, force: bool = False) -> None:
    """Raise `DataError` where no report can be written, before the pictures are looked at."""
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder, so no report can be written there")
    check_replaceable(path, error=DataError)
    if not path.parent.is_dir():
        raise DataError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"{path} cannot be written: {path.parent} may not be written to")
    if path.exists() and not force:
        raise DataError(f"{path} exists already; it is replaced only with force")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made a folder: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"{folder} may not be written to")


def _score(sr: images.Pixels, pair: Pair, *, protocol: Protocol) -> Score:
    border, channel = protocol.crop_border, protocol.channel
    return Score(
        name=pair.name,
        psnr=psnr(sr, pair.hr, crop_border=border, channel=channel),
        ssim=ssim(sr, pair.hr, crop_border=border, channel=channel),
    )


def _numbers(score: Score) -> dict[str, float | str]:
    return {"psnr": score.psnr if math.isfinite(score.psnr) else "inf", "ssim": score.ssim}
