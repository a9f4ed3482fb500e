"""`crispen upscale` on folders: what is found, killed and continued, reported; and several files under way at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import crispen_says, error_lines, names, pixels_of, run, save
from crispen import images, zoo
from crispen.errors import CrispenError, PictureError
from crispen.images import from_array
from crispen.images._publishing import published
from crispen.jobs import Done, Enlarger, Job, Made, Moved, Running, Skipped
from crispen.jobs.running import Watch
from crispen.upscaling.sizes import Dimensions


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree() -> None:
    for name in ("in/a.png", "in/deep/b.jpg", "in/deep/er/c.png"):
        save(name)


def found(folder: str) -> list[str]:
    """All files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


RESULTS = ["a-x4.png", "deep/b-x4.png", "deep/er/c-x4.png"]


# --- the command


def test_subfolders_are_enlarged_and_their_structure_is_kept(tiny_model: Path) -> None:
    tree()
    result = crispen_says("upscale", "in", "-o", "out", "--model", tiny_model)
    assert (result.stderr, result.exit_code) == ("", 0)
    assert [line.split(" ")[0] for line in result.stdout.splitlines()] == found_in_order()
    assert found("out") == RESULTS


def found_in_order() -> list[str]:
    return [str(Path("in", name)) for name in ("a.png", "deep/b.jpg", "deep/er/c.png")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--no-recursive"], ["a-x4.png"]),
        (["--exclude", "er"], ["a-x4.png", "deep/b-x4.png"]),
        (["--include", "*.JPG", "--include", "a.*"], ["a-x4.png", "deep/b-x4.png"]),
        (["--name", "{width}/{stem}.{ext}", "--exclude", "deep"], ["80/a.png"]),
        (["--format", "webp", "--exclude", "deep", "--scale", "2.5"], ["a-x2.5.webp"]),
    ],
)
def test_what_is_enlarged_and_its_name_can_be_chosen(
    tiny_model: Path, options: list[str], expected: list[str]
) -> None:
    tree()
    assert crispen_says("upscale", "in", "-o", "out", "--model", tiny_model, *options).exit_code == 0
    assert found("out") == expected


def test_what_exists_is_left_and_the_rest_is_made(tiny_model: Path) -> None:
    tree()
    Path("out/deep").mkdir(parents=True)
    Path("out/deep/b-x4.png").write_text("mine")
    options = ["upscale", "in", "-o", "out", "--model", tiny_model, "--skip-existing"]
    result = crispen_says(*options)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert result.stderr == "crispen: note: results that exist already and are left as they are: 1\n"
    assert Path("out/deep/b-x4.png").read_text() == "mine"
    assert found("out") == RESULTS
    result = crispen_says(*options)
    assert (result.exit_code, result.stdout) == (0, "")
    assert crispen_says(*options, "--force").exit_code == 2


def test_an_input_in_another_folder_fails_and_the_exit_code_says_so(tiny_model: Path) -> None:
    tree()
    Path("in/deep/broken.png").write_text("no picture")
    result = crispen_says("upscale", "in", "-o", "out", "--model", tiny_model)
    assert result.exit_code == 1
    assert len(error_lines(result)) == 1
    assert found("out") == RESULTS


DYING = """
import os, signal
from crispen.cli import main
from crispen.upscaling import Enlargement

compute, begun = Enlargement.__iter__, []

def compute_and_die(self):
    begun.append(self)
    for step in compute(self):
        yield step
        if len(begun) >= 3:
            os.kill(os.getpid(), signal.SIGKILL)

Enlargement.__iter__ = compute_and_die
main()
"""


@pytest.mark.parametrize("moment", ["__call__", "_enlarge"], ids=["before", "meanwhile"])
def test_what_another_process_has_made_since_is_skipped(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Two processes that work on one folder get no errors from each other."""
    save("in/a.png")
    go_on = getattr(Enlarger, moment)

    def overtaken(self: Enlarger, job: Job, watch: Watch) -> Made | Skipped:
        job.target.write_bytes(b"of another process")
        return go_on(self, job, watch)

    monkeypatch.setattr(Enlarger, moment, overtaken)
    options = ["upscale", "in", "-o", "out", "--model", tiny_model, "--report", "report.json"]
    result = crispen_says(*options, "--skip-existing")
    assert result.exit_code == 0
    assert result.stderr == f"crispen: note: {Path('out/a-x4.png')} was made by another process meanwhile\n"
    assert json.loads(Path("report.json").read_text())["counts"] == {"done": 0, "skipped": 1, "failed": 0}
    assert Path("out/a-x4.png").read_bytes() == b"of another process"
    Path("out/a-x4.png").unlink()
    (line,) = error_lines(crispen_says(*options))
    assert "exists already" in line


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills so here")
def test_a_killed_run_leaves_no_half_written_file_and_goes_on(tiny_model: Path) -> None:
    for number in range(5):
        save(f"in/{number}.png", 48, 48)
    options = ["upscale", "in", "-o", "out", "--model", str(tiny_model), "--skip-existing"]
    killed = subprocess.run([sys.executable, "-c", DYING, *options, "--tile", "16"], check=False)
    assert killed.returncode == -signal.SIGKILL
    hidden = [name for name in names("out") if name.startswith(".crispen-")]
    done = [name for name in names("out") if name not in hidden]
    assert hidden
    assert 1 <= len(done) < 5
    before = {name: Path("out", name).read_bytes() for name in done}
    assert crispen_says(*options).exit_code == 0
    assert names("out") == [f"{number}-x4.png" for number in range(5)]
    assert {name: Path("out", name).read_bytes() for name in done} == before
    for number in range(5):
        assert pixels_of(f"out/{number}-x4.png").shape == (192, 192, 3)


def test_what_another_process_is_writing_is_no_leftover(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    (tmp_path / f".crispen-{'0' * 24}.png").write_bytes(b"left")
    (tmp_path / ".crispen-notes.png").write_bytes(b"not ours")
    with published(tmp_path / "a.png", force=False) as temporary:
        images.remove_leftovers(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [temporary.name, ".crispen-notes.png"]
        images.write(from_array(np.zeros((4, 4), np.uint8)), temporary, force=True)


def test_the_report_says_what_was_done_and_what_failed_and_why(tiny_model: Path) -> None:
    save("in/a.png")
    save("in/b.png", 9, 7, 1)
    Path("in/c.png").write_text("no picture")
    save("out/b-x4.png")
    options = ["in", "missing.png", "-o", "out", "--model", tiny_model, "--skip-existing"]
    assert crispen_says("upscale", *options, "--report", "report.json").exit_code == 1
    report = json.loads(Path("report.json").read_text())
    assert report["counts"] == {"done": 1, "skipped": 1, "failed": 2}
    assert report["model"]["weights_sha256"] == zoo.sha256(tiny_model / zoo.WEIGHTS)
    assert report["model"]["computed_by"].startswith("OpenVINO")
    entries = {entry["source"]: entry for entry in report["results"]}
    done = entries[str(Path("in/a.png"))]
    assert (done["status"], done["target"]) == ("done", str(Path("out/a-x4.png")))
    assert (done["size"], done["result_size"], done["count"]) == ([20, 16], [80, 64], 1)
    assert done["sha256"] == hashlib.sha256(Path("in/a.png").read_bytes()).hexdigest()
    assert done["result_sha256"] == hashlib.sha256(Path("out/a-x4.png").read_bytes()).hexdigest()
    assert 0 < done["seconds"] < 60
    assert entries[str(Path("in/b.png"))]["status"] == "skipped"
    assert "is not a picture" in entries[str(Path("in/c.png"))]["error"]
    assert entries["missing.png"]["error"] == "missing.png does not exist"


def test_what_is_left_out_is_counted_and_reported(tiny_model: Path) -> None:
    for name in ("photo.png", "photo-150x150.png", "photo-x2.png"):
        save(f"in/{name}")
    options = ["upscale", "in", "--model", tiny_model, "--report", "report.json"]
    result = crispen_says(*options)
    assert result.exit_code == 0
    assert result.stderr == (
        "crispen: note: taken for results of others by their names, and left out: 2"
        " (with -o and another folder they are enlarged, too)\n"
    )
    left_out = json.loads(Path("report.json").read_text())["left_out"]
    assert left_out == [str(Path("in", name)) for name in ("photo-150x150.png", "photo-x2.png")]
    result = crispen_says(*options, "-o", "out")
    assert (result.stderr, len(names("out"))) == ("", 4)
    assert json.loads(Path("report.json").read_text())["left_out"] == []


def test_a_report_replaces_an_earlier_one_and_nothing_else(tiny_model: Path) -> None:
    save("a.png")
    Path("mine.json").write_text("{}")
    options = ["upscale", "a.png", "--model", tiny_model, "--report"]
    for path in ("mine.json", "missing/report.json", "."):
        result = crispen_says(*options, path)
        assert (result.exit_code, len(error_lines(result))) == (1, 1)
        assert names() == ["a.png", "mine.json"]
    assert crispen_says(*options, "report.json").exit_code == 0
    assert crispen_says(*options, "report.json", "--skip-existing").exit_code == 0
    assert json.loads(Path("report.json").read_text())["counts"] == {"done": 0, "skipped": 1, "failed": 0}
    assert crispen_says(*options, "mine.json", "--force").exit_code == 0
    assert json.loads(Path("mine.json").read_text())["counts"]["done"] == 1


@pytest.mark.parametrize("report", ["a.png", "link.png", "taken.png", "new.png"])
def test_a_report_replaces_no_picture_and_no_result(tiny_model: Path, report: str) -> None:
    content = save("a.png").read_bytes()
    Path("link.png").symlink_to("a.png")
    save("taken.png")
    output = "taken.png" if report == "taken.png" else "new.png"
    options = ["-o", output, "--report", report, "--force", "--model", tiny_model]
    result = crispen_says("upscale", "a.png", *options)
    said = f"--report {report} would replace a picture: it must have a name of its own"
    assert (error_lines(result), result.exit_code) == ([said], 2)
    assert names() == ["a.png", "link.png", "taken.png"]
    assert Path("a.png").read_bytes() == content


def test_a_report_does_not_replace_what_cannot_be_enlarged_either(tiny_model: Path) -> None:
    save("a.png")
    save("a-x4.png")
    inputs = ["a.png", "a-x4.png"]  # the first of which would overwrite the second
    options = ["--report", "a.png", "--force", "--model", tiny_model]
    (line,) = error_lines(crispen_says("upscale", *inputs, *options))
    assert line.startswith("--report a.png would replace a picture")


def test_a_report_that_may_not_be_written_is_said_before_the_work(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a.png")
    Path("locked").mkdir()
    allowed = os.access  # which lets root do all

    def access(path: str | Path, mode: int) -> bool:
        return Path(path).name != "locked" and allowed(path, mode)

    monkeypatch.setattr(os, "access", access)
    result = crispen_says("upscale", "a.png", "--model", tiny_model, "--report", "locked/report.json")
    assert (result.exit_code, len(error_lines(result))) == (1, 1)
    assert names() == ["a.png", "locked"]


def test_names_that_no_text_can_hold_are_reported(tiny_model: Path) -> None:
    strange = [os.fsdecode(b"\xff.png"), "two\nlines.png"]
    content = save("a.png").read_bytes()
    Path("in").mkdir()
    try:
        for name in strange:
            Path("in", name).write_bytes(content)
    except OSError:
        pytest.skip("this file system has no such names")
    result = run("upscale", "in", "-o", "out", "--model", tiny_model, "--report", "report.json")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 2
    report = json.loads(Path("report.json").read_text())
    assert sorted(Path(entry["source"]).name for entry in report["results"]) == sorted(strange)


INTERRUPTING = """
import os, signal
from crispen.cli import main
from crispen.upscaling import Enlargement

compute, begun = Enlargement.__iter__, []

def compute_and_interrupt(self):
    begun.append(self)
    for step in compute(self):
        yield step
        if len(begun) == 4:
            os.kill(os.getpid(), signal.SIGINT)

Enlargement.__iter__ = compute_and_interrupt
main()
"""


def test_an_interrupted_run_reports_what_it_has_done(tiny_model: Path) -> None:
    for number in range(6):
        save(f"in/{number}.png", 48, 48)
    options = ["upscale", "in", "-o", "out", "--model", str(tiny_model), "--report", "report.json"]
    command = [sys.executable, "-c", INTERRUPTING, *options, "--tile", "16"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (130, "crispen: interrupted\n")
    done = json.loads(Path("report.json").read_text())["counts"]["done"]
    assert 1 <= done < 6
    assert done == len(result.stdout.splitlines())
    assert not [name for name in names("out") if name.startswith(".")]


OUT_OF_ORDER = """
import os, signal, threading
from crispen.cli import main
from crispen.jobs import Enlarger

do, others = Enlarger._do, threading.Semaphore(0)

def first_is_interrupted(self, job, watch):
    if job.source.name != "0.png":
        try:
            return do(self, job, watch)
        finally:
            others.release()
    for _ in range(4):
        others.acquire()
    os.kill(os.getpid(), signal.SIGINT)
    for _ in watch(iter(int, 1), 10, pixels=lambda _: 1):
        pass

Enlarger._do = first_is_interrupted
main()
"""


def test_what_was_done_before_its_turn_is_told_and_reported_after_an_interruption(tiny_model: Path) -> None:
    for number in range(4):
        save(f"in/{number}.png")
    Path("in/4.png").write_text("no picture")
    options = ["upscale", "in", "-o", "out", "--model", str(tiny_model), "--report", "report.json"]
    command = [sys.executable, "-c", OUT_OF_ORDER, *options]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 130
    assert [line.split(" ")[0] for line in result.stdout.splitlines()] == [
        str(Path("in", f"{number}.png")) for number in (1, 2, 3)
    ]
    error, interrupted = result.stderr.splitlines()
    assert error.startswith(f"crispen: error: {Path('in/4.png')} is not a picture")
    assert interrupted == "crispen: interrupted"
    assert json.loads(Path("report.json").read_text())["counts"] == {"done": 3, "skipped": 0, "failed": 1}
    assert names("out") == ["1-x4.png", "2-x4.png", "3-x4.png"]


def test_a_terminal_sees_one_bar(tiny_model: Path) -> None:
    pty = pytest.importorskip("pty")
    save("in/a.png", 48, 48)
    save("in/b.png", 48, 48)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "crispen", "upscale", "in", "--model", str(tiny_model), "--tile", "16"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = b""
    while piece := _read(ours):
        drawn += piece
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, len(out.splitlines())) == (0, 2)
    for words in (b"/2 ", b"MP/s", b"0:00:0"):
        assert words in drawn


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end is closed, as Linux says it
        return b""


# --- several at once


def jobs(count: int) -> list[Job]:
    return [Job(Path(f"{number}.png"), Path(f"{number}-x4.png")) for number in range(count)]


MADE = Made(small=Dimensions(1, 1), large=Dimensions(4, 4))


def done(events: Iterable[Moved | Done]) -> list[Done]:
    return [event for event in events if isinstance(event, Done)]


def test_two_files_are_under_way_at_once() -> None:
    met = threading.Barrier(2)

    def enlarge(job: Job, watch: Watch) -> Made:
        met.wait(timeout=30)  # breaks where one is begun after the other has ended
        return MADE

    assert [event.outcome for event in done(Running(jobs(4), enlarge))] == [MADE] * 4


def test_ends_are_told_in_the_order_of_the_jobs() -> None:
    last = threading.Event()

    def enlarge(job: Job, watch: Watch) -> Made:
        if job.source.name == "0.png":
            assert last.wait(timeout=30)
        if job.source.name == "3.png":
            last.set()
        return MADE

    assert [event.job for event in done(Running(jobs(4), enlarge))] == jobs(4)


def test_a_failure_is_an_outcome_and_so_is_the_unforeseen() -> None:
    def fail(job: Job, watch: Watch) -> Made:
        if job.source.name == "1.png":
            raise PictureError("1.png is broken")
        if job.source.name == "2.png":
            raise OSError(28, "No space left on device", "2-x4.png")
        if job.source.name == "3.png":
            raise ZeroDivisionError("division by zero")
        return MADE

    outcomes = [event.outcome for event in done(Running(jobs(5), fail))]
    assert (outcomes[0], outcomes[4]) == (MADE, MADE)
    assert all(isinstance(outcome, CrispenError) for outcome in outcomes[1:4])
    assert [str(outcome) for outcome in outcomes[1:4]] == [
        "1.png is broken",
        "2-x4.png: No space left on device",
        "3.png cannot be enlarged, which nobody has foreseen (ZeroDivisionError: division by zero)",
    ]


def test_a_wish_to_end_the_process_is_no_failure() -> None:
    def end(job: Job, watch: Watch) -> Made:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(Running(jobs(4), end))


def test_what_has_ended_out_of_order_is_known_where_the_work_is_left() -> None:
    ended = threading.Barrier(2)
    endless: Iterator[int] = iter(int, 1)

    def enlarge(job: Job, watch: Watch) -> Made:
        if job.source.name == "0.png":
            for number, _ in enumerate(watch(endless, 10, pixels=lambda _: 7)):
                if number == 0:
                    ended.wait(timeout=30)
                time.sleep(0.001)
        elif job.source.name == "3.png":
            ended.wait(timeout=30)  # and 1.png and 2.png are done by now
            raise PictureError("3.png is broken")
        return MADE

    running = Running(jobs(5), enlarge)
    with closing(iter(running)) as events:
        assert isinstance(next(events), Moved)
        assert isinstance(
            next(events), Moved
        )  # so that 0.png goes on, while the others wait to be told after it
    assert [done.job for done in running.ended[:3]] == jobs(5)[1:4]


def test_progress_is_told_and_leaving_stops_the_work() -> None:
    endless: Iterator[int] = iter(int, 1)
    stopped: list[Job] = []

    def enlarge(job: Job, watch: Watch) -> Made:
        try:
            for _ in watch(endless, 10, pixels=lambda _: 7):
                time.sleep(0.001)
        finally:
            stopped.append(job)
        return MADE

    with closing(iter(Running(jobs(5), enlarge))) as events:
        event: Any = next(events)
        assert (event.share, event.pixels) == (0.1, 7)
        assert event.job in jobs(2)
    assert sorted(job.source.name for job in stopped) == ["0.png", "1.png"]
