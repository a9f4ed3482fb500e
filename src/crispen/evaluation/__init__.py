"""Measuring: metrics, benchmarks, the protocol that makes numbers comparable, and reports that hold it all.

::

    benchmark = open_benchmark(Path("Set5"), scale=4)
    report = evaluate(bicubic(4), benchmark).result
    print(f"{report.psnr:.2f} dB", report.protocol.describe())
"""

from crispen.evaluation.benchmarks import Benchmark, Pair, open_benchmark
from crispen.evaluation.methods import Method, bicubic, learned
from crispen.evaluation.metrics import psnr, ssim
from crispen.evaluation.protocol import Protocol, standard
from crispen.evaluation.report import Evaluation, Report, Score, check_report_path, evaluate, write_report

__all__ = [
    "Benchmark",
    "Evaluation",
    "Method",
    "Pair",
    "Protocol",
    "Report",
    "Score",
    "bicubic",
    "check_report_path",
    "evaluate",
    "learned",
    "open_benchmark",
    "psnr",
    "ssim",
    "standard",
    "write_report",
]
