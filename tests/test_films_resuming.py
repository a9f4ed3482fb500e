"""Films that are killed, interrupted or short of disk: what is done is kept, and nothing half-written is seen."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clips import av, clip, packets, pictures, planes, times
from crispen import films
from crispen.errors import PictureError
from crispen.films import Options
from crispen.films.work import folder_of
from files import pipe

UNEVEN = [0, 25, 50, 60, 160, 161, 300, 325, 350, 500, 525, 900, 901, 903, 1000, 1025, 1100, 1125, 1150, 1175]

PROCESS = """
import sys, time
from crispen import films
class Doubling:
    scale = 2
    def __call__(self, picture):
        return picture.repeat(2, axis=0).repeat(2, axis=1)
source, output, pause, options = sys.argv[1:]
running = films.enlarge(source, Doubling(), output, films.Options(segment_frames=4, **eval(options)), identity="")
for step in running:
    print(step.frames, step.reused, flush=True)
    time.sleep(0 if step.reused else float(pause))
"""


class Doubling:
    """Repeats pixels, until there were ``most`` pictures."""

    scale = 2

    def __init__(self, most: int = 1000) -> None:
        self.left = most

    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return picture.repeat(2, axis=0).repeat(2, axis=1)


def start(source: Path, output: Path, *, pause: float = 0, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, str(source), str(output), str(pause), repr(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_killed_process_is_taken_up_where_it_was(tmp_path: Path, codec: str) -> None:
    frames = pictures(20, height=32, width=64)
    source = clip(tmp_path / "a.mp4", frames, times=UNEVEN, sound=True)
    process = start(source, tmp_path / "b.mp4", pause=0.3, codec=codec)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("10 "):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "b.mp4").exists()
    again = start(source, tmp_path / "b.mp4", codec=codec)
    said, errors = again.communicate()
    assert (again.returncode, errors) == (0, "")
    assert said.split("\n")[:-1] == [f"{n} {n <= 8}" for n in range(1, 21)]
    assert not folder_of(tmp_path / "b.mp4").exists()

    whole = Options(segment_frames=4, codec=codec)  # type: ignore[arg-type]
    films.enlarge(source, Doubling(), tmp_path / "c.mp4", whole, identity="").result.stat()
    assert planes(tmp_path / "b.mp4") == planes(tmp_path / "c.mp4")
    assert times(tmp_path / "b.mp4") == times(tmp_path / "c.mp4") == times(source)
    assert packets(tmp_path / "b.mp4", "audio") == packets(source, "audio")


def test_only_what_was_made_alike_is_taken_over(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4")
    output = tmp_path / "b.mp4"

    def reused(options: Options, *, identity: str = "one", film: Path = source) -> int:
        """How many frames are taken over from a run that ended after its seventh frame."""
        with pytest.raises(KeyboardInterrupt):
            films.enlarge(
                source, Doubling(7), output, Options(segment_frames=3), identity="one"
            ).result.stat()
        assert len(json.loads((folder_of(output) / "manifest.json").read_text())["segments"]) == 2
        steps = list(films.enlarge(film, Doubling(), output, options, identity=identity))
        output.unlink()
        return sum(step.reused for step in steps)

    alike = Options(segment_frames=3)
    assert reused(alike) == 6
    assert reused(Options(segment_frames=3, crf=20)) == 0
    assert reused(Options(segment_frames=3, side_by_side=True)) == 0
    assert reused(alike, identity="two") == 0
    assert reused(alike, film=clip(tmp_path / "other.mp4", [255 - frame for frame in pictures()])) == 0
    folder_of(output).mkdir()
    (folder_of(output) / "manifest.json").write_text("{")
    assert not any(step.reused for step in films.enlarge(source, Doubling(), output, alike, identity="one"))


def test_a_walk_that_is_left_can_be_gone_on_with(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4")
    running = films.enlarge(source, Doubling(), tmp_path / "b.mp4", Options(segment_frames=5))
    for step in running:
        if step.frames == 4:
            break
    assert [step.frames for step in running] == list(range(5, 13))
    assert running.result == tmp_path / "b.mp4"


def test_two_processes_do_not_write_one_film(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    source = clip(tmp_path / "a.mp4")
    first = films.enlarge(source, Doubling(), tmp_path / "b.mp4")
    next(iter(first))
    with pytest.raises(PictureError, match="another process"):
        films.enlarge(source, Doubling(), tmp_path / "b.mp4").result.stat()
    assert first.result.exists()


def test_what_appears_meanwhile_stays_and_so_does_what_is_done(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    running = films.enlarge(source, Doubling(), output)
    next(iter(running))
    output.write_bytes(b"of another program")
    with pytest.raises(PictureError, match=r"b\.mp4 was made by another program meanwhile") as caught:
        running.result.stat()
    assert f"what is done stays in {folder_of(output)}" in str(caught.value)
    assert output.read_bytes() == b"of another program"
    again = films.enlarge(source, Doubling(0), output, force=True)
    assert all(step.reused for step in again)
    assert len(times(output)) == 12
    assert not folder_of(output).exists()


def test_a_pipe_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    running = films.enlarge(source, Doubling(), output, force=True)
    next(iter(running))
    pipe(output)
    with pytest.raises(PictureError, match="is a pipe"):
        running.result.stat()
    assert output.is_fifo()


def test_a_film_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    flushed: list[int] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        if not output.exists():
            flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    assert films.enlarge(source, Doubling(), output).result.stat().st_ino in flushed


@pytest.mark.parametrize("force", [False, True])
def test_a_link_is_followed(tmp_path: Path, force: bool) -> None:
    source, there, link = clip(tmp_path / "a.mp4"), tmp_path / "there" / "b.mp4", tmp_path / "link.mp4"
    there.parent.mkdir()
    link.symlink_to(there)
    if force:
        there.write_bytes(b"old")
        there.chmod(0o600)
    running = films.enlarge(source, Doubling(), link, force=force)
    next(iter(running))
    assert folder_of(link).parent == there.parent
    running.result.stat()
    assert link.is_symlink()
    assert len(times(there)) == 12
    assert list(there.parent.iterdir()) == [there]
    assert not force or stat.S_IMODE(there.stat().st_mode) == 0o600  # what was private stays so


@pytest.mark.parametrize("stem", ["x" * 250, "ü" * 123, "幅" * 83], ids=["1 byte", "2 bytes", "3 bytes"])
def test_films_with_long_names_are_taken_up_too(tmp_path: Path, stem: str) -> None:
    source, output = clip(tmp_path / "a.mp4"), tmp_path / f"{stem}.mp4"
    options = Options(segment_frames=4)
    with pytest.raises(KeyboardInterrupt):
        films.enlarge(source, Doubling(6), output, options).result.stat()
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert folder == folder_of(output) != folder_of(output.with_name(f"{stem[:-1]}y.mp4"))
    assert folder.name.startswith(f".{stem[:70]}")
    assert folder.name.endswith(".crispen")
    assert len(os.fsencode(folder.name)) <= 255
    steps = list(films.enlarge(source, Doubling(), output, options))
    assert sum(step.reused for step in steps) == 4
    assert sorted(tmp_path.iterdir()) == sorted([source, output])


def test_a_name_that_is_too_long_is_refused_at_once(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "a.mp4"), tmp_path / f"{'x' * 252}.mp4"
    with pytest.raises(PictureError, match="cannot be written: File name too long"):
        films.enlarge(source, Doubling(), output)


def test_a_full_disk_is_one_sentence_and_what_is_done_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    noise = [np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8) for n in range(8)]
    source = clip(tmp_path / "a.mp4", noise)
    output = tmp_path / "b.mp4"
    options = Options(segment_frames=4)
    size = films.enlarge(source, Doubling(), output, options).result.stat().st_size
    output.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for share, kept in ((0.8, 8), (0.2, 0)):  # each segment fits, the film does not; not even a segment fits
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (int(share * size), hard)
        )  # as if no file could grow further
        try:
            with pytest.raises(PictureError, match=r"b\.mp4 cannot be written: File too large") as caught:
                films.enlarge(source, Doubling(), output, options).result.stat()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not output.exists()
        assert folder_of(output).is_dir() == ("what is done stays" in str(caught.value)) == bool(kept)
        assert sum(step.reused for step in films.enlarge(source, Doubling(), output, options)) == kept
        assert not folder_of(output).exists()
        output.unlink()


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_frames_that_are_decoded_out_of_order_are_in_time_over_all_segments(
    tmp_path: Path, codec: str
) -> None:
    smooth = [np.full((32, 64, 3), 40 + 5 * n, np.uint8) for n in range(20)]
    source = clip(tmp_path / "a.mp4", smooth, times=UNEVEN)
    options = Options(segment_frames=7, codec=codec)  # type: ignore[arg-type]
    films.enlarge(source, Doubling(), tmp_path / "b.mp4", options).result.stat()
    with av.open(str(tmp_path / "b.mp4")) as film:
        order = [(packet.dts, packet.pts) for packet in film.demux(video=0) if packet.pts is not None]
    decoding, showing = (list(column) for column in zip(*order, strict=True))
    assert showing != sorted(showing)
    assert all(a < b for a, b in itertools.pairwise(decoding))
    assert all(dts <= pts for dts, pts in order)
    assert times(tmp_path / "b.mp4") == times(source)


def test_a_hevc_film_whose_last_segment_is_short(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", pictures(9, height=32, width=64), times=UNEVEN[:9])
    films.enlarge(
        source, Doubling(), tmp_path / "b.mp4", Options(codec="hevc", segment_frames=4)
    ).result.stat()
    assert times(tmp_path / "b.mp4") == times(source)
