"""Hostile and broken files: a clear error or a right result."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crispen import images
from crispen.errors import PictureError
from crispen.images import Picture
from damage import damaged, samples

SAMPLES = samples()


def same(one: Picture, other: Picture) -> bool:
    """An alpha channel that is opaque is as good as none: a GIF's later frames may be what it is for."""
    alphas = [255 if picture.alpha is None else picture.alpha for picture in (one, other)]
    return np.array_equal(one.pixels, other.pixels) and bool(np.all(alphas[0] == alphas[1]))


def attempt(path: Path) -> Picture | str:
    """The picture, or the sentence that says why there is none."""
    try:
        return images.read(path, max_megapixels=4)
    except PictureError as error:
        return str(error)


@pytest.mark.parametrize("kind", SAMPLES)
def test_cut_short_anywhere(tmp_path: Path, kind: str) -> None:
    """Every length near the end, where a decoder may think that it has seen enough, and every seventh before."""
    path, data = tmp_path / "file", SAMPLES[kind]
    path.write_bytes(data)
    whole = images.read(path)
    for length in range(len(data)):
        if length < len(data) - 24 and length % 7:
            continue
        path.write_bytes(data[:length])
        found = attempt(path)
        if isinstance(found, str):
            assert str(path) in found
        else:
            text_may_end_early = kind == "ppm text" and length == len(data) - 1  # 35 became 3
            assert same(found, whole) or text_may_end_early


@pytest.mark.parametrize("kind", SAMPLES)
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    for index in range(20):
        path.write_bytes(damaged(SAMPLES[kind], random.Random(index)))
        found = attempt(path)
        assert not isinstance(found, str) or ("\n" not in found and found.startswith(str(path)))


def test_names_with_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines\x1b[31m.png"
    images.write(images.from_array(np.zeros((4, 4), np.uint8)), path)
    assert images.read(path).width == 4
    for refused in (
        lambda: images.write(images.from_array(np.zeros((4, 4), np.uint8)), path),
        lambda: images.read(path.with_suffix(".gone")),
    ):
        with pytest.raises(PictureError) as caught:
            refused()
        assert r"two\nlines\x1b[31m" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_link_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.symlink_to(path)
    with pytest.raises(PictureError):
        images.read(path)
    with pytest.raises(PictureError):
        images.write(images.from_array(np.zeros((4, 4), np.uint8)), path)
    assert path.is_symlink()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything may be written here")
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PictureError, match="cannot be written: Permission denied"):
        images.write(images.from_array(np.zeros((4, 4), np.uint8)), tmp_path / "a.png")


@pytest.mark.parametrize("force", [False, True])
def test_two_processes_on_one_output(tmp_path: Path, force: bool) -> None:
    code = (
        "import sys, numpy as np; from crispen import images; from crispen.errors import PictureError\n"
        "picture = images.from_array(np.full((400, 400, 3), int(sys.argv[2]), np.uint8)); sys.stdin.readline()\n"
        "try: images.write(picture, sys.argv[1], force=sys.argv[3] == 'True')\n"
        "except PictureError as error: print('exists' in str(error))\n"
    )
    path = tmp_path / "a.png"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, path, str(value), str(force)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for value in (1, 2)
    ]
    said = [process.communicate("\n")[0] for process in started]
    assert sorted(said) == (["", ""] if force else ["", "True\n"])
    assert len(np.unique(images.read(path).pixels)) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["a.png"]
