"""Benchmarks, protocol and report; and, where the data is at hand, the numbers that the field publishes."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

import crispen
from crispen import images
from crispen.errors import DataError, PictureError, UsageError
from crispen.evaluation import (
    Method,
    Protocol,
    Report,
    Score,
    bicubic,
    evaluate,
    open_benchmark,
    psnr,
    ssim,
    standard,
    write_report,
)
from files import pipe

Bytes = NDArray[np.uint8]


def picture(seed: int, height: int, width: int, channels: int = 3) -> Bytes:
    rng = np.random.default_rng(seed)
    waves = np.sin(np.add.outer(np.arange(height), np.arange(width)) / 3)[:, :, np.newaxis]
    return np.clip(128 + 60 * waves + rng.normal(0, 20, (height, width, channels)), 0, 255).astype(np.uint8)


def write(path: Path, array: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(images.from_array(array), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them gray, one not a multiple of 4, and a file that is none."""
    write(tmp_path / "set" / "b.png", picture(0, 32, 28))
    write(tmp_path / "set" / "a.png", picture(1, 31, 30))
    write(tmp_path / "set" / "c.png", picture(2, 24, 24, 1))
    (tmp_path / "set" / "readme.txt").write_text("not a picture")
    return tmp_path / "set"


def test_a_benchmark_is_sorted_cropped_and_reduced(folder: Path) -> None:
    benchmark = open_benchmark(folder, scale=4)
    pairs = list(benchmark)
    assert len(benchmark) == len(pairs)
    assert [pair.name for pair in pairs] == ["a", "b", "c"]
    assert [pair.hr.shape for pair in pairs] == [(28, 28, 3), (32, 28, 3), (24, 24, 3)]
    np.testing.assert_array_equal(pairs[0].hr, picture(1, 31, 30)[:28, :28])
    for pair in pairs:
        np.testing.assert_array_equal(pair.lr, images.resize(pair.hr, 1 / 4))
    assert np.ptp(pairs[2].hr, axis=2).max() == 0


@pytest.mark.parametrize(
    ("hr_name", "lr_name"),
    [
        ("baby", "baby"),
        ("baby", "babyx4"),
        ("baby", "baby_x4"),
        ("baby", "baby-x4"),
        ("baby", "baby_LR"),
        ("baby", "baby_LRBI_x4"),
        ("baby_HR", "baby_LR"),
        ("baby_HR_x4", "baby_LR_x4"),
        ("img_001_SRF_4_HR", "img_001_SRF_4_LR"),
        ("a+b (1)", "a+b (1)x4"),
    ],
)
def test_given_lr_pictures_are_found_by_name(tmp_path: Path, hr_name: str, lr_name: str) -> None:
    write(tmp_path / "hr" / f"{hr_name}.png", picture(0, 32, 28))
    write(tmp_path / "lr" / f"{lr_name}.png", picture(5, 8, 7))
    write(tmp_path / "lr" / "other.png", picture(6, 8, 7))
    benchmark = open_benchmark(tmp_path / "hr", scale=4, lr_folder=tmp_path / "lr")
    np.testing.assert_array_equal(next(iter(benchmark)).lr, picture(5, 8, 7))
    assert benchmark.protocol.downsampling == "given folder"


@pytest.mark.parametrize("lr_name", ["babyx2", "baby2", "ababy", "baby_LRx2", "BABY"])
def test_other_names_are_not_taken_for_lr_pictures(tmp_path: Path, lr_name: str) -> None:
    write(tmp_path / "hr" / "baby.png", picture(0, 32, 28))
    write(tmp_path / "lr" / f"{lr_name}.png", picture(5, 8, 7))
    with pytest.raises(DataError, match=r"no lr picture at scale 4 of baby\.png"):
        open_benchmark(tmp_path / "hr", scale=4, lr_folder=tmp_path / "lr")


def test_what_stands_beside_its_hr_picture_is_no_ground_truth(tmp_path: Path) -> None:
    for number in range(2):
        name = f"img_00{number}_SRF_4"
        write(tmp_path / f"{name}_HR.png", picture(number, 32, 28))
        write(tmp_path / f"{name}_LR.png", picture(5 + number, 8, 7))
        write(tmp_path / f"{name}_bicubic.png", picture(7, 32, 28))
    write(tmp_path / "other.png", picture(3, 24, 24))
    assert [pair.name for pair in open_benchmark(tmp_path, scale=4)] == [
        "img_000_SRF_4_HR",
        "img_001_SRF_4_HR",
        "other",
    ]
    (tmp_path / "other.png").unlink()
    pairs = list(open_benchmark(tmp_path, scale=4, lr_folder=tmp_path))
    assert [np.array_equal(pair.lr, picture(5 + number, 8, 7)) for number, pair in enumerate(pairs)] == [
        True,
        True,
    ]


def test_hidden_files_are_no_pictures_of_a_benchmark(folder: Path) -> None:
    (folder / "._a.png").write_bytes(b"\0\5\x16\7")
    assert [pair.name for pair in open_benchmark(folder, scale=4)] == ["a", "b", "c"]


def test_names_with_brackets_stand_whole_in_the_table(tmp_path: Path) -> None:
    for letter in "ab":
        write(tmp_path / "Set [x4]" / f"photo[{letter}].png", picture(0, 32, 28))
    report = evaluate(bicubic(4), open_benchmark(tmp_path / "Set [x4]", scale=4)).result
    console = Console(file=io.StringIO(), width=120)
    console.print(report.to_table())
    text = cast(io.StringIO, console.file).getvalue()
    assert all(name in text for name in ("Set [x4]", "photo[a]", "photo[b]"))


def test_a_benchmark_may_be_of_any_format_that_is_read(tmp_path: Path) -> None:
    """Set5 and Set14 are passed around as BMP, too, which is not written here."""
    Image.fromarray(picture(0, 32, 28)).save(tmp_path / "baby.bmp")
    (pair,) = open_benchmark(tmp_path, scale=4)
    assert np.array_equal(pair.hr, picture(0, 32, 28))


def test_unfit_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing is not a folder"):
        open_benchmark(tmp_path / "missing", scale=4)
    with pytest.raises(DataError, match="holds no pictures"):
        open_benchmark(tmp_path, scale=4)
    with pytest.raises(UsageError, match="scale must be"):
        open_benchmark(tmp_path, scale=0)
    write(tmp_path / "a.png", picture(0, 32, 28))
    write(tmp_path / "a.tif", picture(0, 32, 28))
    with pytest.raises(DataError, match="same name but for the suffix"):
        open_benchmark(tmp_path, scale=4)


def test_unfit_lr_pictures_are_refused(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "lr" / "a.png", picture(0, 7, 7))
    write(tmp_path / "lr" / "b.png", picture(0, 7, 8))
    with pytest.raises(DataError, match=r"no lr picture at scale 4 of c\.png$"):
        open_benchmark(folder, scale=4, lr_folder=tmp_path / "lr")
    write(tmp_path / "lr" / "c.png", picture(0, 6, 6))
    with pytest.raises(DataError, match=r"b\.png has 8x7 pixels, but for scale 4 its hr picture needs 7x8"):
        list(open_benchmark(folder, scale=4, lr_folder=tmp_path / "lr"))
    write(tmp_path / "lr" / "cx4.png", picture(0, 6, 6))
    with pytest.raises(DataError, match=r"more than one lr picture of c\.png: c\.png and cx4\.png"):
        open_benchmark(folder, scale=4, lr_folder=tmp_path / "lr")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (picture(0, 32, 32).astype(np.uint16), "16 bits a channel"),
        (picture(0, 32, 32, 4), "transparency"),
        (picture(0, 18, 32), "32x16 pixels to measure, fewer than 19x19"),
    ],
)
def test_unfit_hr_pictures_are_refused(tmp_path: Path, array: NDArray[Any], message: str) -> None:
    write(tmp_path / "a.png", array)
    with pytest.raises(DataError, match=message):
        list(open_benchmark(tmp_path, scale=4))


def test_a_damaged_picture_is_named(folder: Path) -> None:
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:200])
    with pytest.raises(PictureError, match=r"b\.png"):
        list(evaluate(bicubic(4), open_benchmark(folder, scale=4)))


def test_bicubic_is_measured_as_by_hand(folder: Path) -> None:
    evaluation = evaluate(bicubic(4), open_benchmark(folder, scale=4))
    scores = list(evaluation)
    assert len(evaluation) == len(scores) == 3
    for score, pair in zip(scores, open_benchmark(folder, scale=4), strict=True):
        sr = images.resize(images.resize(pair.hr, 1 / 4), 4)
        expected = psnr(sr, pair.hr, crop_border=4), ssim(sr, pair.hr, crop_border=4)
        assert (score.name, score.psnr, score.ssim) == (pair.name, *expected)
    assert evaluation.result.scores == tuple(scores)
    assert evaluation.result.psnr == pytest.approx(sum(score.psnr for score in scores) / 3)


def test_the_result_measures_what_was_not_iterated_over(folder: Path) -> None:
    evaluation = evaluate(bicubic(4), open_benchmark(folder, scale=4))
    next(iter(evaluation))
    assert evaluation.result == evaluate(bicubic(4), open_benchmark(folder, scale=4)).result
    assert [score.name for score in evaluation.result.scores] == ["a", "b", "c"]


def test_any_method_can_be_measured(folder: Path) -> None:
    def repeat(lr: Bytes) -> Bytes:
        return lr.repeat(4, axis=0).repeat(4, axis=1)

    method = Method(name="nearest", scale=4, enlarge=repeat, runtime="numpy", weights_sha256="0" * 64)
    report = evaluate(method, open_benchmark(folder, scale=4)).result
    assert (report.model, report.benchmark, report.weights_sha256) == ("nearest", "set", "0" * 64)
    assert report.runtime == "numpy"
    assert report.psnr < evaluate(bicubic(4), open_benchmark(folder, scale=4)).result.psnr


def test_scales_must_agree(folder: Path) -> None:
    with pytest.raises(UsageError, match="scale must be 2, as bicubic enlarges by it, not 4"):
        evaluate(bicubic(2), open_benchmark(folder, scale=4))


def test_enlarged_pictures_are_saved(folder: Path, tmp_path: Path) -> None:
    save = tmp_path / "new" / "sr"
    report = evaluate(bicubic(4), open_benchmark(folder, scale=4), save=save).result
    assert sorted(path.name for path in save.iterdir()) == ["a.png", "b.png", "c.png"]
    for score, pair in zip(report.scores, open_benchmark(folder, scale=4), strict=True):
        sr = images.read(save / f"{score.name}.png").pixels
        assert psnr(sr, pair.hr, crop_border=4) == score.psnr
    with pytest.raises(PictureError, match=r"a\.png exists already"):
        evaluate(bicubic(4), open_benchmark(folder, scale=4), save=save)
    evaluate(bicubic(4), open_benchmark(folder, scale=4), save=save, force=True)
    with pytest.raises(DataError, match="cannot be made a folder"):
        evaluate(bicubic(4), open_benchmark(folder, scale=4), save=folder / "a.png" / "sr")


def test_nothing_is_written_that_the_benchmark_would_take_for_its_own(tmp_path: Path) -> None:
    """The next evaluation would measure it, too."""
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    write(hr / "a.jpg", picture(0, 32, 28))
    write(lr / "ax4.jpg", picture(1, 8, 7))
    (tmp_path / "linked").symlink_to(hr)
    benchmark = open_benchmark(hr, scale=4, lr_folder=lr)
    for save in (hr, lr, tmp_path / "linked"):
        with pytest.raises(DataError, match=r"a\.png cannot be written: it would become a picture of the"):
            evaluate(bicubic(4), benchmark, save=save, force=True)
        with pytest.raises(DataError, match=r"sheet\.webp cannot be written: it would become a picture of"):
            benchmark.check_apart(save / "sheet.webp")
    benchmark.check_apart(hr / "report.json", hr / "below" / "sheet.png", tmp_path / "sheet.png")
    assert [path.name for folder in (hr, lr) for path in folder.iterdir()] == ["a.jpg", "ax4.jpg"]


def test_paths_may_be_texts(folder: Path, tmp_path: Path) -> None:
    benchmark = open_benchmark(str(folder), scale=4)
    assert [pair.name for pair in benchmark] == ["a", "b", "c"]
    report = evaluate(bicubic(4), benchmark, save=str(tmp_path / "sr")).result
    write_report(report, str(tmp_path / "report.json"))
    for pair in benchmark:
        write(tmp_path / "lr" / f"{pair.name}.png", pair.lr)
    given = open_benchmark(str(folder), scale=4, lr_folder=str(tmp_path / "lr"))
    assert evaluate(bicubic(4), given).result.scores == report.scores
    assert sorted(path.name for path in (tmp_path / "sr").iterdir()) == ["a.png", "b.png", "c.png"]


def test_the_report_says_how_it_was_measured(folder: Path, tmp_path: Path) -> None:
    report = evaluate(bicubic(4), open_benchmark(folder, scale=4)).result
    write_report(report, tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["mean"] == {"psnr": report.psnr, "ssim": report.ssim}
    assert [entry["name"] for entry in content["pictures"]] == ["a", "b", "c"]
    assert content["crispen_version"] == crispen.__version__
    assert content["protocol"]["crop_border"] == content["protocol"]["scale"] == 4
    assert content["protocol"]["description"] == report.protocol.describe()
    assert content["weights_sha256"] is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_report_is_not_overwritten_and_needs_a_folder(folder: Path, tmp_path: Path) -> None:
    report = evaluate(bicubic(4), open_benchmark(folder, scale=4)).result
    path = tmp_path / "report.json"
    path.write_text("mine")
    with pytest.raises(DataError, match=r"exists already; it is replaced only with force$"):
        write_report(report, path)
    assert path.read_text() == "mine"
    write_report(report, path, force=True)
    assert json.loads(path.read_text())["model"] == "bicubic"
    with pytest.raises(DataError, match="there is no folder"):
        write_report(report, tmp_path / "missing" / "report.json")
    with pytest.raises(DataError, match="is a folder"):
        write_report(report, tmp_path, force=True)


def test_a_report_replaces_no_pipe(folder: Path, tmp_path: Path) -> None:
    report = evaluate(bicubic(4), open_benchmark(folder, scale=4)).result
    path = pipe(tmp_path / "report.json")
    with pytest.raises(DataError, match="is a pipe, and only files are replaced"):
        write_report(report, path, force=True)
    assert path.is_fifo()


def test_a_perfect_score_is_strict_json() -> None:
    scores = (Score(name="a", psnr=math.inf, ssim=1.0),)
    report = Report(
        benchmark="b",
        model="m",
        weights_sha256=None,
        runtime="r",
        crispen_version="v",
        protocol=standard(4),
        scores=scores,
    )
    content = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["mean"] == {"psnr": "inf", "ssim": 1.0}


def test_the_protocol_tells_all_that_varies() -> None:
    protocols = [
        standard(4),
        standard(2),
        Protocol(scale=4, crop_border=0),
        Protocol(scale=4, crop_border=4, channel="rgb"),
        standard(4, downsampling="given folder"),
    ]
    assert len({protocol.describe() for protocol in protocols}) == len(protocols)
    for crop_border in (-1, 1.5):
        with pytest.raises(UsageError, match="crop_border must be a whole number"):
            Protocol(scale=4, crop_border=cast(int, crop_border))
    with pytest.raises(UsageError, match="scale must be a whole number"):
        standard(cast(int, 2.5))


# What follows measures the field's own pictures, where a checkout has them.

SHARED = Path(os.environ.get("CRISPEN_SHARED", Path(__file__).parents[2] / "shared"))
DATA = SHARED / "data"
BICUBIC_PSNR = {"Set5": 28.43, "Set14": 26.09, "BSD100": 25.96}


@pytest.mark.parametrize("name", BICUBIC_PSNR)
def test_bicubic_has_the_published_psnr(name: str) -> None:
    folder = DATA / "benchmarks" / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    report = evaluate(bicubic(4), open_benchmark(folder, scale=4)).result
    assert report.psnr == pytest.approx(BICUBIC_PSNR[name], abs=0.01)
    if name == "Set5":
        assert report.ssim == pytest.approx(0.8111, abs=5e-5)


@pytest.mark.parametrize(("name", "expected"), [("Set5", (28.42, 0.8104)), ("Set14", (26.00, None))])
def test_metrics_are_those_of_the_older_tables_too(name: str, expected: tuple[float, float | None]) -> None:
    """Luma first, rounded; then down and up on luma alone, without rounding in between."""
    folder = DATA / "benchmarks" / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    psnrs, ssims = zip(*(_older_metrics(path) for path in sorted(folder.glob("*.png"))), strict=True)
    assert np.mean(psnrs) == pytest.approx(expected[0], abs=0.005)
    if expected[1] is not None:
        assert np.mean(ssims) == pytest.approx(expected[1], abs=5e-5)


def _older_metrics(path: Path) -> tuple[float, float]:
    pixels = images.read(path).pixels.astype(float)
    gray = pixels.shape[2] == 1
    hr = pixels[..., 0] if gray else np.rint(16 + pixels @ [65.481 / 255, 128.553 / 255, 24.966 / 255])
    sr = np.clip(np.rint(images.resize(images.resize(hr, 1 / 4), 4)), 0, 255)
    sr, hr = sr.astype(np.uint8), hr.astype(np.uint8)
    return psnr(sr, hr, crop_border=4, channel="rgb"), ssim(sr, hr, crop_border=4, channel="rgb")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_pictures_equal_matlab_bit_for_bit(scale: int) -> None:
    folder = DATA / "matlab" / "Set5"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    made = list(open_benchmark(folder / "HR", scale=scale))
    given = list(open_benchmark(folder / "HR", scale=scale, lr_folder=folder / "LR_bicubic" / f"X{scale}"))
    assert len(made) == len(given) == 5
    for ours, matlab in zip(made, given, strict=True):
        np.testing.assert_array_equal(ours.lr, matlab.lr)
