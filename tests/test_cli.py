"""The command line, as its users meet it: what it does, what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from typer.main import get_command

import crispen
from commands import crispen_says, error_lines, names, pixels_of, run, save
from crispen import zoo
from crispen.cli import app
from crispen.errors import ModelError, UsageError
from crispen.export import export_onnx
from crispen.networks.weights import load_generator
from crispen.runtimes.openvino import load_openvino
from files import pipe

RECIPE = """
title = "for tests"
precision = "fp32"
generator = {num_blocks = 1, num_features = 8, batch_norm = false}
data = {patch_size = 32, batch_size = 2}
stage.pretrain = {steps = 5}
"""


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- around the commands


def test_version() -> None:
    result = crispen_says("--version")
    assert (result.stdout, result.exit_code) == (f"crispen {crispen.__version__}\n", 0)


def test_every_command_has_a_help_and_every_option_a_description() -> None:
    overview = crispen_says("--help").stdout
    for name, command in cast(Any, get_command(app)).commands.items():
        assert re.search(rf"^  {name} +[A-Z]", overview, re.MULTILINE)
        assert crispen_says(name, "--help").exit_code == 0
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize("command", [[], ["upscale"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom crispen.cli import app\n"
        "try:\n    app([*sys.argv[1:], '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'openvino', 'pyvips', 'torch', 'onnx', 'PIL', 'rich'}\n"
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", code, *command]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stderr == "set()\n"


def test_help_says_what_may_be_given() -> None:
    said = {name: " ".join(crispen_says(name, "--help").stdout.split()) for name in ("upscale", "evaluate")}
    for words in ("PNG, JPEG, WebP, TIFF, GIF, AVIF", "with their subfolders", ".onnx or .safetensors"):
        assert words in said["upscale"]
    assert "a model has one scale, bicubic takes any" in said["evaluate"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale"],
        ["upscale", "a.png", "--nonsense"],
        ["upscale", "a.png", "--device", "abacus"],
        ["upscale", "a.png", "--tile", "large"],
        ["evaluate"],
        ["evaluate", "--benchmark", ".", "--scale", "four"],
        ["enlarge", "a.png"],
    ],
)
def test_what_cannot_be_parsed_ends_with_2(arguments: list[str]) -> None:
    assert crispen_says(*arguments).exit_code == 2


def test_the_module_is_the_command() -> None:
    result = run("--version")
    assert (result.stdout, result.stderr, result.returncode) == (f"crispen {crispen.__version__}\n", "", 0)


def test_a_pipe_that_is_closed_early_is_no_traceback(tiny_model: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "crispen", "upscale", save("a.png"), "--model", tiny_model]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in result.stderr
    assert result.returncode == 1


# --- upscale


def test_a_picture_is_enlarged_beside_itself(tiny_model: Path) -> None:
    save("photo.jpg")
    result = crispen_says("upscale", "photo.jpg", "--model", tiny_model)
    line = r"photo\.jpg 20x16 -> photo-x4\.png 80x64 \(\d+\.\d s\)\n"
    assert re.fullmatch(line, result.stdout), result.output
    assert (result.stderr, result.exit_code) == ("", 0)
    assert names() == ["photo-x4.png", "photo.jpg"]
    assert pixels_of("photo-x4.png").shape == (64, 80, 3)


def test_the_library_gives_the_same_picture(tiny_model: Path) -> None:
    save("a.png")
    assert crispen_says("upscale", "a.png", "--model", tiny_model, "--precision", "fp32").exit_code == 0
    upscaler = crispen.load(tiny_model, precision="fp32")
    np.testing.assert_array_equal(pixels_of("a-x4.png"), upscaler(pixels_of("a.png")))


def test_tiles_and_runtimes_make_no_difference(tiny_model: Path) -> None:
    save("a.png", 33, 47)
    options = {"whole": [], "tiled": ["--tile", "16"], "torch": ["--runtime", "torch"]}
    for name, option in options.items():
        arguments = ["-o", f"{name}.png", "--model", tiny_model, "--precision", "fp32", *option]
        assert crispen_says("upscale", "a.png", *arguments).exit_code == 0
    whole = pixels_of("whole.png").astype(int)
    assert np.abs(pixels_of("tiled.png") - whole).max() <= 1
    assert np.abs(pixels_of("torch.png") - whole).max() <= 1


def test_folders_and_pictures_together(tiny_model: Path) -> None:
    save("in/b.png")
    save("in/a.jpg", 9, 7, 1)
    save("c.tif")
    Path("in/notes.txt").write_text("no picture")
    result = crispen_says("upscale", "in", "c.tif", "-o", "out", "--model", tiny_model)
    assert (result.stderr, result.exit_code) == ("", 0)
    sources = [line.split(" ")[0] for line in result.stdout.splitlines()]
    assert sources == [str(Path("in/a.jpg")), str(Path("in/b.png")), "c.tif"]
    assert names("out") == ["a-x4.png", "b-x4.png", "c-x4.png"]
    assert pixels_of("out/a-x4.png").shape[:2] == (36, 28)


def test_a_second_run_on_a_folder_finds_only_the_sources(tiny_model: Path) -> None:
    save("in/a.png")
    assert crispen_says("upscale", "in", "--model", tiny_model).exit_code == 0
    assert crispen_says("upscale", "in", "--model", tiny_model, "--force").exit_code == 0
    assert names("in") == ["a-x4.png", "a.png"]


def test_nothing_is_overwritten_without_force(tiny_model: Path) -> None:
    save("a.png")
    Path("a-x4.png").write_text("mine")
    result = crispen_says("upscale", "a.png", "--model", tiny_model)
    assert result.exit_code == 1
    assert error_lines(result) == ["a-x4.png exists already; with --force it is replaced"]
    assert Path("a-x4.png").read_text() == "mine"
    assert crispen_says("upscale", "a.png", "--model", tiny_model, "--force").exit_code == 0
    assert pixels_of("a-x4.png").shape == (64, 80, 3)


def test_a_pipe_is_not_replaced_even_with_force(tiny_model: Path) -> None:
    save("a.png")
    for arguments in (["-o", pipe(Path("b.png"))], ["--report", pipe(Path("report.json")), "-o", "c.png"]):
        for force in ([], ["--force"]):
            result = crispen_says("upscale", "a.png", *arguments, *force, "--model", tiny_model)
            (line,) = error_lines(result)
            assert line == f"{arguments[1]} is a pipe, and only files are replaced"
            assert result.exit_code == 1
            assert Path(arguments[1]).is_fifo()
    assert names() == ["a.png", "b.png", "report.json"]


def test_of_two_results_of_one_name_the_later_is_refused_and_the_others_are_made(tiny_model: Path) -> None:
    save("in/a.png")
    save("in/a.jpg")
    save("in/b.png")
    result = crispen_says("upscale", "in", "-o", "new/", "--model", tiny_model)
    assert result.exit_code == 1
    (line,) = error_lines(result)
    assert line.startswith(
        f"{Path('in/a.png')} would become {Path('new/a-x4.png')}, as {Path('in/a.jpg')} does"
    )
    assert line.endswith("enlarge it by itself, with -o and another name")
    assert names("new") == ["a-x4.png", "b-x4.png"]


def test_folders_that_stay_empty_are_not_left(tiny_model: Path) -> None:
    Path("x.bmp").write_text("BM")
    result = crispen_says("upscale", "x.bmp", "y.ppm", "-o", "new/deep/", "--model", tiny_model)
    assert (result.exit_code, len(error_lines(result))) == (1, 2)
    assert names() == ["x.bmp"]


@pytest.fixture
def as_nobody(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a model, and no right but to read and write what others may; for root may do anything."""
    if not hasattr(os, "setresuid"):
        pytest.skip("this system has no users to become")
    user = os.getuid()
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are root's alone
        monkeypatch.chdir(folder)
        Path(folder).chmod(0o777)
        model = Path(shutil.copytree(tiny_model, Path(folder, "model"), copy_function=shutil.copyfile))
        # Everything is imported by these, as another user may not be allowed to.
        assert crispen_says("upscale", save("warm.png"), "--model", model).exit_code == 0
        assert crispen_says("evaluate", "--benchmark", ".", "--model", model).exit_code == 1
        if user == 0:
            os.setresuid(65534, 65534, 0)
        try:
            if not os.access(str(load_openvino().__path__[0]), os.R_OK | os.X_OK):
                pytest.skip("another user may not read OpenVINO here, which aborts then")
            yield model
        finally:
            os.setresuid(user, user, user)
            for path in Path(folder).iterdir():
                path.chmod(0o700)


def test_what_may_not_be_read_does_not_keep_others_from_being_enlarged(as_nobody: Path) -> None:
    save("a.png")
    save("secret.png").chmod(0)
    save("closed/b.png").parent.chmod(0)
    for closed in ("closed", "closed/b.png"):
        result = crispen_says("upscale", "secret.png", closed, "a.png", "--model", as_nobody, "--force")
        assert result.exit_code == 1
        lines = error_lines(result)
        assert sorted(lines) == [
            f"{name} cannot be read: Permission denied" for name in (closed, "secret.png")
        ]
        assert result.stdout.startswith("a.png 20x16 -> a-x4.png 80x64")


def test_a_closed_subfolder_does_not_keep_the_others_from_being_enlarged(as_nobody: Path) -> None:
    save("in/a.png")
    save("in/open/b.png")
    save("in/closed/c.png").parent.chmod(0)
    result = crispen_says("upscale", "in", "-o", "out", "--model", as_nobody)
    Path("in/closed").chmod(0o700)
    assert (error_lines(result), result.exit_code) == (["in/closed cannot be read: Permission denied"], 1)
    assert names("out") == ["a-x4.png", "open"]


def test_where_nothing_may_be_written_does_not_keep_others_from_being_enlarged(as_nobody: Path) -> None:
    save("a.png")
    save("full/b.png").parent.chmod(0o555)
    result = crispen_says("upscale", "full/b.png", "a.png", "--model", as_nobody)
    assert (error_lines(result), result.exit_code) == (["full may not be written to"], 1)
    assert "a-x4.png" in names()
    for output in ("full", "full/", "full/new/", "full/c.png"):
        result = crispen_says("upscale", "a.png", "-o", output, "--model", as_nobody)
        assert (result.exit_code, len(error_lines(result))) == (1, 1)
        assert result.stderr.startswith("crispen: error: full")


def test_an_evaluation_of_or_to_what_is_closed_is_one_line(as_nobody: Path) -> None:
    save("set/a.png", 32, 40)
    save("set2/a.png", 32, 40).chmod(0)
    Path("closed").mkdir(mode=0)
    Path("full").mkdir(mode=0o555)
    Path("old.json").touch(mode=0)
    for arguments in (
        ["--benchmark", "closed"],
        ["--benchmark", "set2"],
        ["--benchmark", "set", "--lr", "closed"],
        ["--benchmark", "set", "--json", "full/report.json"],
        ["--benchmark", "set", "--json", "closed/report.json"],
        ["--benchmark", "set", "--json", "old.json"],
        ["--benchmark", "set", "--save", "full"],
        ["--benchmark", "set", "--save", "full/new"],
        ["--benchmark", "set", "--save", "closed"],
    ):
        result = crispen_says("evaluate", "--model", "bicubic", *arguments)
        assert (result.exit_code, len(error_lines(result)), result.stdout) == (1, 1, ""), arguments


def test_a_name_that_is_too_long_does_not_keep_others_from_being_enlarged(tiny_model: Path) -> None:
    result = crispen_says("upscale", save("n" * 250 + ".png"), save("a.png"), "--model", tiny_model)
    assert (result.exit_code, len(error_lines(result))) == (1, 1)
    assert "a-x4.png" in names()


def damaged(kind: str) -> Path:
    path = Path(f"{kind}.png")
    if kind == "empty":
        path.touch()
    elif kind == "truncated":
        content = save("whole.png").read_bytes()
        Path("whole.png").unlink()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("not a picture")
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "text"])
def test_a_bad_picture_is_one_line_and_the_others_are_enlarged(tiny_model: Path, kind: str) -> None:
    bad = damaged(kind)
    before = names()
    save("first.png")
    save("last.png")
    result = crispen_says("upscale", "first.png", bad, "last.png", "--model", tiny_model)
    assert result.exit_code == 1
    assert [line.startswith(f"{kind}.png ") for line in error_lines(result)] == [True]
    assert len(result.stdout.splitlines()) == 2
    assert names() == sorted([*before, "first.png", "first-x4.png", "last.png", "last-x4.png"])


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "text"])
def test_a_bad_picture_alone(tiny_model: Path, kind: str) -> None:
    bad = damaged(kind)
    before = names()
    result = crispen_says("upscale", bad, "--model", tiny_model)
    assert (result.exit_code, result.stdout, len(error_lines(result))) == (1, "", 1)
    assert names() == before


@pytest.mark.parametrize(
    ("output", "message", "code"),
    [
        ("file/out.png", "file cannot be made a folder", 1),
        ("file/", "file cannot be made a folder", 1),
        ("out.bmp", "no .bmp is written, but .png, .jpg", 2),
        ("film.mp4", "no .mp4 is written, but .png, .jpg", 2),
        ("a.png", "would overwrite the picture a.png", 1),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_work(
    tiny_model: Path, output: str, message: str, code: int
) -> None:
    save("a.png")
    Path("file").touch()
    result = crispen_says("upscale", "a.png", "-o", output, "--model", tiny_model)
    assert result.exit_code == code
    (line,) = error_lines(result)
    assert message in line
    assert names() == ["a.png", "file"]


@pytest.mark.parametrize("value", ["nonsense", "missing/folder", "a.png"])
def test_an_unknown_model_is_one_line(value: str) -> None:
    save("a.png")
    result = crispen_says("upscale", "a.png", "--model", value)
    assert result.exit_code == ModelError.exit_code
    (line,) = error_lines(result)
    assert value in line


@pytest.mark.parametrize("command", [["upscale", "a.png"], ["evaluate", "--benchmark", "."]])
def test_a_model_without_a_name_is_one_line(command: list[str]) -> None:
    result = crispen_says(*command, "--model", "")
    assert result.exit_code == 2
    (line,) = error_lines(result)
    assert line.startswith("--model must name a model")


def test_a_damaged_model_is_one_line(tiny_model: Path) -> None:
    save("a.png")
    Path("broken").mkdir()
    for name in (zoo.CARD, zoo.WEIGHTS):
        Path("broken", name).write_bytes((tiny_model / name).read_bytes())
    Path("broken", zoo.ONNX).write_bytes((tiny_model / zoo.ONNX).read_bytes()[:1000])
    result = crispen_says("upscale", "a.png", "--model", "broken")
    assert result.exit_code == ModelError.exit_code
    (line,) = error_lines(result)
    assert zoo.ONNX in line
    assert names() == ["a.png", "broken"]


def test_a_name_that_no_terminal_can_show(tiny_model: Path) -> None:
    name = os.fsdecode(b"\xff photo.png")
    try:
        save("a.png").rename(name)
    except OSError:
        pytest.skip("this file system has no such names")
    result = run("upscale", name, os.fsdecode(b"\xfe missing.png"), "--model", tiny_model)
    assert "Traceback" not in result.stderr
    assert result.returncode == 1
    assert "-> " in result.stdout
    assert result.stderr.count("\n") == 1


ANNOUNCING = """
from crispen import upscaling
from crispen.cli import main

compute = upscaling.Enlargement.__iter__

def announce(self):
    print("working", flush=True)
    yield from compute(self)

upscaling.Enlargement.__iter__ = announce
main()
"""


def test_what_the_file_system_refuses_is_one_line(tiny_model: Path) -> None:
    save("a.png")
    for arguments in (["n" * 300], ["a.png", "-o", "n" * 300 + ".png"], [save("n" * 250 + ".png")]):
        result = crispen_says("upscale", *arguments, "--model", tiny_model)
        assert result.exit_code == 1
        assert len(error_lines(result)) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_interrupting_is_one_line_and_leaves_nothing(tiny_model: Path, name: str) -> None:
    number = named_signal(name)
    save("large.png", 1200, 1600)
    before = names()
    arguments = ["upscale", "large.png", "--model", str(tiny_model), "--tile", "16"]
    process = subprocess.Popen(
        [sys.executable, "-c", ANNOUNCING, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("", "crispen: interrupted\n", 128 + number)
    assert names() == before


LISTENING = """
import shutil
from crispen.cli import main

def announce(source, target):
    target.write(source.read(10))
    target.flush()
    print("reading", flush=True)
    target.write(source.read())

shutil.copyfileobj = announce
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_came_through_the_standard_input_does_not_stay(tiny_model: Path, name: str) -> None:
    number = named_signal(name)
    Path("temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, "upscale", "-", "-o", "a.png", "--model", str(tiny_model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(Path("temporary").absolute())},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(save("b.png").read_bytes()[:100])
    process.stdin.flush()
    assert process.stdout.readline() == b"reading\n"
    assert [path.name for path in Path("temporary").glob("*/*")] == ["standard input"]
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert process.communicate() == (b"", b"crispen: interrupted\n")
    assert names("temporary") == []


ENDING = """
import os, signal, threading
from crispen.cli import main
from crispen.jobs import Enlarger

do, first = Enlarger._do, threading.Event()

def one_and_the_end(self, job, watch):
    if job.source.name == "0.png":
        try:
            return do(self, job, watch)
        finally:
            first.set()
    first.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in watch(iter(int, 1), 10, pixels=lambda _: 1):
        pass

Enlarger._do = one_and_the_end
main()
"""


def test_a_run_that_is_ended_by_the_system_reports_what_it_has_done(tiny_model: Path) -> None:
    named_signal("SIGTERM")
    for number in range(3):
        save(f"in/{number}.png")
    options = ["upscale", "in", "-o", "out", "--model", str(tiny_model), "--report", "report.json"]
    result = subprocess.run(
        [sys.executable, "-c", ENDING, *options], check=False, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stderr) == (143, "crispen: interrupted\n")
    done = [entry["target"] for entry in json.loads(Path("report.json").read_text())["results"]]
    assert done == [str(Path("out", name)) for name in names("out")]
    assert len(done) == len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_is_ignored_or_taken_stays_so(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    number, find = named_signal(name), zoo.find
    during: list[object] = []

    def found(model: str | Path) -> zoo.Model:
        during.append(signal.getsignal(number))
        return find(model)

    def taken(number: int, _: object) -> None:
        pass

    monkeypatch.setattr(zoo, "find", found)
    for meaning in (signal.SIG_IGN, taken, signal.SIG_DFL):
        before = signal.signal(number, meaning)
        try:
            assert crispen_says("upscale", "missing.png", "--model", "tiny-x4").exit_code == 1
            assert signal.getsignal(number) == meaning
        finally:
            signal.signal(number, before)
    assert during[:2] == [signal.SIG_IGN, taken]
    assert during[2] != signal.SIG_DFL


def named_signal(name: str) -> signal.Signals:
    if sys.platform == "win32" or not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    return getattr(signal, name)


# --- evaluate


@pytest.fixture
def benchmark(working_folder: Path) -> Path:
    save("set/a.png", 32, 40)
    save("set/b.png", 36, 32, 1)
    return working_folder / "set"


def test_bicubic_is_evaluated(benchmark: Path) -> None:
    result = crispen_says("evaluate", "--model", "bicubic", "--benchmark", benchmark, "--json", "report.json")
    assert (result.stderr, result.exit_code) == ("", 0)
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert f"{report['mean']['psnr']:.2f}" in result.stdout
    assert report["protocol"]["description"] in result.stdout
    assert report["model"] == "bicubic"


def test_a_model_is_evaluated_exactly(benchmark: Path, tiny_model: Path) -> None:
    options = ["--benchmark", benchmark, "--model", tiny_model]
    result = crispen_says("evaluate", *options, "--json", "report.json", "--save", "sr")
    assert (result.stderr, result.exit_code) == ("", 0)
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert (report["model"], report["protocol"]["scale"]) == ("tiny", 4)
    assert report["weights_sha256"] == zoo.sha256(tiny_model / zoo.WEIGHTS)
    assert "fp32" in report["runtime"]
    assert names("sr") == ["a.png", "b.png"]
    expected = crispen.psnr(pixels_of("sr/a.png"), pixels_of("set/a.png"), crop_border=4)
    assert report["pictures"][0] == {"name": "a", "psnr": expected, "ssim": report["pictures"][0]["ssim"]}


def test_given_lr_pictures_are_evaluated(benchmark: Path) -> None:
    save("lr/ax4.png", 8, 10)
    options = ["--model", "bicubic", "--benchmark", benchmark, "--lr", "lr"]
    result = crispen_says("evaluate", *options)
    assert (error_lines(result), result.exit_code) == (["lr holds no lr picture at scale 4 of b.png"], 1)
    save("lr/bx4.png", 9, 8)
    result = crispen_says("evaluate", *options)
    assert "given folder" in result.stdout
    assert result.exit_code == 0


def test_scales_must_fit(benchmark: Path, tiny_model: Path) -> None:
    for model, scale in ((tiny_model, "2"), (tiny_model, "0"), ("bicubic", "0"), ("bicubic", "-4")):
        result = crispen_says("evaluate", "--model", model, "--benchmark", benchmark, "--scale", scale)
        assert result.exit_code == 2
        (line,) = error_lines(result)
        assert "scale must be" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--benchmark", "missing"], "missing is not a folder"),
        (["--benchmark", "set", "--json", "missing/report.json"], "there is no folder missing"),
        (["--benchmark", "set", "--json", "set"], "set is a folder"),
        (["--benchmark", "set", "--json", "set/a.png"], "exists already"),
        (["--benchmark", "set", "--save", "set"], "exists already"),
        (["--benchmark", "set", "--save", "set/a.png"], "cannot be made a folder"),
    ],
)
def test_bad_folders_and_files_are_one_line(benchmark: Path, options: Sequence[str], message: str) -> None:
    before = pixels_of("set/a.png")
    result = crispen_says("evaluate", "--model", "bicubic", *options)
    assert result.exit_code == 1
    (line,) = error_lines(result)
    assert message in line
    assert "force=True" not in line
    assert names("set") == ["a.png", "b.png"]
    np.testing.assert_array_equal(pixels_of("set/a.png"), before)


@pytest.mark.parametrize("option", ["--json", "--sheet", "--save"])
def test_the_benchmark_itself_is_not_replaced_even_with_force(benchmark: Path, option: str) -> None:
    before = pixels_of("set/a.png")
    path = "set" if option == "--save" else "set/a.png"
    options = ["--model", "bicubic", "--benchmark", benchmark, option, path, "--force"]
    (line,) = error_lines(crispen_says("evaluate", *options))
    assert line == f"{Path('set/a.png')} cannot be written: it is a picture of the benchmark"
    assert names("set") == ["a.png", "b.png"]
    np.testing.assert_array_equal(pixels_of("set/a.png"), before)


def test_a_report_is_replaced_with_force(benchmark: Path) -> None:
    Path("report.json").write_text("mine")
    options = ["--model", "bicubic", "--benchmark", benchmark, "--json", "report.json"]
    assert crispen_says("evaluate", *options).exit_code == 1
    assert Path("report.json").read_text() == "mine"
    assert crispen_says("evaluate", *options, "--force").exit_code == 0
    assert json.loads(Path("report.json").read_text())["model"] == "bicubic"


# --- models, export, recipes, train


def test_models_are_listed(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "BUNDLED", tiny_model.parent)
    result = crispen_says("models")
    assert result.exit_code == 0
    for cell in ("tiny", "x4", "for tests: random weights", "CC0-1.0", "12.34", "MB"):
        assert cell in result.stdout


def test_weights_are_exported_and_used(tiny_model: Path) -> None:
    save("a.png")
    weights = tiny_model / zoo.WEIGHTS
    result = crispen_says("export", weights, "new")
    assert (result.stderr, result.exit_code) == ("", 0)
    assert crispen_says("upscale", "a.png", "--model", "new", "-o", "new.png").exit_code == 0
    assert crispen_says("upscale", "a.png", "--model", tiny_model, "-o", "old.png").exit_code == 0
    np.testing.assert_array_equal(pixels_of("new.png"), pixels_of("old.png"))


def test_a_file_is_exported_compared_and_used(tiny_model: Path) -> None:
    save("a.png")
    result = crispen_says("export", tiny_model, "--to", "onnx")
    assert (result.stderr, result.exit_code) == ("", 0)
    *parities, last = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in parities] == ["parity 1x1", "parity 13x7", "parity 33x21"]
    assert last == f"{tiny_model} -> tiny.onnx"
    assert crispen_says("upscale", "a.png", "--model", "tiny.onnx", "-o", "new.png").exit_code == 0
    assert crispen_says("upscale", "a.png", "--model", tiny_model, "-o", "old.png").exit_code == 0
    np.testing.assert_array_equal(pixels_of("new.png"), pixels_of("old.png"))


def test_exports_are_named_after_model_and_kind(tiny_model: Path) -> None:
    save("pictures/a.png")
    Path("out").mkdir()
    shutil.copytree(tiny_model, "runs/mine")
    Path("runs/mine", zoo.CARD).unlink()
    for options in (
        [tiny_model, "--int8", "--to", "onnx", "--calibrate", "pictures"],
        [tiny_model, "out/", "--to", "torchscript"],
        [tiny_model, "other.xml"],
        ["runs/mine/weights.safetensors", "out", "--to", "openvino"],
        ["runs/mine/weights.safetensors"],
    ):
        assert crispen_says("export", *options).exit_code == 0
    assert names() == ["mine", "other.bin", "other.xml", "out", "pictures", "runs", "tiny-int8.onnx"]
    assert names("out") == ["mine.bin", "mine.xml", "tiny.pt"]
    assert names("mine") == [zoo.ONNX, zoo.WEIGHTS]


def test_exports_make_the_folder_that_is_named(tiny_model: Path) -> None:
    for options in (["models/"], ["files/", "--to", "onnx"], ["deep/er/other.onnx"]):
        assert crispen_says("export", tiny_model, *options).exit_code == 0
    assert names("models") == [zoo.CARD, zoo.ONNX, zoo.WEIGHTS]  # its folder is what was asked for
    assert names("files") == ["tiny.onnx"]
    assert names("deep/er") == ["other.onnx"]
    (line,) = error_lines(crispen_says("export", tiny_model, "files/tiny.onnx/", "--to", "onnx"))
    assert line.endswith("tiny.onnx cannot be made a folder: File exists")


def test_the_help_says_that_files_of_one_size_are_for_other_programs() -> None:
    said = " ".join(crispen_says("export", "--help").stdout.split())
    assert "crispen upscale --model FILE. It takes none of one --size, which are for other programs." in said


def test_exports_overwrite_only_with_force(tiny_model: Path) -> None:
    Path("tiny.bin").write_text("mine")
    result = crispen_says("export", tiny_model, "--to", "openvino")
    assert error_lines(result) == ["tiny.bin exists already; with --force it is replaced"]
    assert names() == ["tiny.bin"]
    assert crispen_says("export", tiny_model, "--to", "openvino", "--force").exit_code == 0
    assert crispen_says("export", tiny_model, "tiny").exit_code == 0
    (line,) = error_lines(crispen_says("export", tiny_model, "tiny"))
    assert line == "tiny/model.onnx exists already; with --force it is replaced"
    assert crispen_says("export", tiny_model, "tiny", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "onnx", "a.xml"], "--to onnx does not fit a.xml, which by its name is for --to openvino"),
        (["--opset", "17"], "--opset is for --to onnx, not for --to folder"),
        (["a.onnx", "--opset", "9"], "opset must be from 13 to 23, not 9"),
        (
            ["a.onnx", "--size", "12"],
            "--size must be a width and a height in pixels, as in 256x256, not '12'",
        ),
        (["a.onnx", "--no-dynamic"], "--no-dynamic needs --size, the width and height of all pictures, as"),
        (["a.onnx", "--dynamic", "--size", "8x8"], "--size fixes the size of all pictures, which --dynamic"),
        (["a.pt", "--size", "8x8"], "--size is for --to onnx and --to openvino, not for --to torchscript"),
        (["a.pt", "--int8"], "--int8 is for --to folder, onnx and openvino, not for --to torchscript"),
        (["a.onnx", "--calibrate", "."], "--calibrate is for --int8"),
    ],
)
def test_exports_that_cannot_be_are_one_line(tiny_model: Path, options: list[str], message: str) -> None:
    result = crispen_says("export", tiny_model, *options)
    assert result.exit_code == UsageError.exit_code
    (line,) = error_lines(result)
    assert line.startswith(message)
    assert names() == []


def test_a_model_without_weights_cannot_be_exported(tiny_model: Path) -> None:
    export_onnx(load_generator(tiny_model / zoo.WEIGHTS), Path("alone.onnx"))
    result = crispen_says("export", "alone.onnx", "a.pt")
    assert error_lines(result) == [
        "the model alone has no weights.safetensors, from which all exports are made"
    ]


def test_weights_that_are_none_are_one_line() -> None:
    Path("weights.safetensors").write_text("nonsense")
    for weights in ("weights.safetensors", "missing.safetensors"):
        result = crispen_says("export", weights, "new")
        assert result.exit_code == ModelError.exit_code
        (line,) = error_lines(result)
        assert weights in line
        assert not Path("new").exists()


def test_recipes_are_listed() -> None:
    from crispen.training import recipes

    result = crispen_says("recipes")
    assert result.exit_code == 0
    for name, _ in recipes():
        assert name in result.stdout


def test_a_training_run_ends_with_weights_that_upscale() -> None:
    pytest.importorskip("torch")
    for index in range(4):
        save(f"data/{index}.png", 48, 48)
    Path("tiny.toml").write_text(RECIPE)
    options = [
        "--data",
        "data",
        "data/0.png",
        "--valid",
        "data",
        "--run-dir",
        "run",
        "--set",
        "stage.pretrain.steps=2",
    ]
    result = crispen_says("train", "tiny.toml", *options)
    assert result.exit_code == 0, result.output  # stderr may hold a note on the run's health
    assert "pretrain 2/2 valid_psnr" in result.stdout
    assert crispen_says("export", "run/weights.safetensors", "model").exit_code == 0
    assert crispen_says("upscale", "data/0.png", "--model", "model", "-o", "large.png").exit_code == 0
    assert pixels_of("large.png").shape == (192, 192, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--data", "."], "nonsense"),
        (["tiny.toml", "--data", "missing"], "missing"),
        (["tiny.toml", "--data", ".", "--set", "stage.pretrain.stebs=2"], "stebs"),
    ],
)
def test_a_training_run_that_cannot_start_is_one_line(arguments: list[str], message: str) -> None:
    Path("tiny.toml").write_text(RECIPE)
    result = crispen_says("train", *arguments)
    assert result.exit_code == 1
    (line,) = error_lines(result)
    assert message in line
