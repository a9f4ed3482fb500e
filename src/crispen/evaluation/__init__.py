"""Measuring: metrics, benchmarks, the protocol that makes numbers comparable, reports, and sheets to look at.

::

    benchmark = open_benchmark(Path("Set5"), scale=4)
    report = evaluate(bicubic(4), benchmark).result
    print(f"{report.psnr:.2f} dB", report.protocol.describe())

Only `FeatureDistance` needs torch, and only once it is made.
"""

from crispen.evaluation.benchmarks import Benchmark, Pair, Reduction, open_benchmark
from crispen.evaluation.methods import Method, bicubic, learned
from crispen.evaluation.metrics import psnr, ssim
from crispen.evaluation.perceptual import FeatureDistance
from crispen.evaluation.protocol import Protocol, standard
from crispen.evaluation.report import Evaluation, Report, Score, check_report_path, evaluate, write_report
from crispen.evaluation.sheet import Sheet
from crispen.evaluation.texture import texture_energy

__all__ = [
    "Benchmark",
    "Evaluation",
    "FeatureDistance",
    "Method",
    "Pair",
    "Protocol",
    "Reduction",
    "Report",
    "Score",
    "Sheet",
    "bicubic",
    "check_report_path",
    "evaluate",
    "learned",
    "open_benchmark",
    "psnr",
    "ssim",
    "standard",
    "texture_energy",
    "write_report",
]
