"""What is enlarged, and what the results are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crispen.errors import PictureError, UsageError
from crispen.jobs import Job, make_folders, plan

Make = Callable[..., list[Path]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Files of these names, in the working folder."""
    monkeypatch.chdir(tmp_path)

    def touch(*names: str) -> list[Path]:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()
        return [Path(name) for name in names]

    return touch


def targets(
    inputs: list[Path], output: str | None = None, *, scale: int = 4, force: bool = False
) -> list[str]:
    jobs, errors = plan(inputs, output=output, scale=scale, force=force)
    assert errors == []
    return [job.target.as_posix() for job in jobs]


def test_results_stand_beside_their_sources(make: Make) -> None:
    inputs = make("a.jpg", "sub/b.c.png", "no_suffix")
    assert targets(inputs) == ["a-x4.png", "sub/b.c-x4.png", "no_suffix-x4.png"]
    assert targets(inputs, scale=2)[0] == "a-x2.png"


def test_one_picture_goes_to_a_file_or_a_folder(make: Make) -> None:
    inputs = make("a.jpg", "standing/x")[:1]
    assert targets(inputs, "out.TIF") == ["out.TIF"]
    assert targets(inputs, "new/out.png") == ["new/out.png"]
    assert targets(inputs, "standing") == ["standing/a-x4.png"]
    assert targets(inputs, "new/") == ["new/a-x4.png"]
    assert targets(inputs, "new.png/") == ["new.png/a-x4.png"]
    with pytest.raises(UsageError, match=r"-o must be a folder \(with a slash at its end: new/\), or a file"):
        targets(inputs, "new")


def test_several_pictures_go_to_a_folder(make: Make) -> None:
    inputs = make("a.jpg", "b.png", "file.txt")[:2]
    assert targets(inputs, "new") == ["new/a-x4.png", "new/b-x4.png"]
    with pytest.raises(UsageError, match=r"out\.png/ with a slash"):
        targets(inputs, "out.png")
    with pytest.raises(UsageError, match=r"file\.txt is a file"):
        targets(inputs, "file.txt")


def test_a_folder_stands_for_its_pictures(make: Make) -> None:
    make(
        "in/b.png", "in/a.JPG", "in/c.heic", "in/notes.txt", "in/.hidden.png", "in/deep/d.png", "in/a.png.d/x"
    )
    assert targets([Path("in")]) == ["in/a-x4.png", "in/b-x4.png", "in/c-x4.png"]
    assert targets([Path("in")], "out") == ["out/a-x4.png", "out/b-x4.png", "out/c-x4.png"]


def test_earlier_results_in_a_folder_are_passed_over(make: Make) -> None:
    make("in/a.jpg", "in/a-x4.png", "in/a-x2.png", "in/alone-x4.png", "in/a-xylophone.png", "in/a-x4.jpg")
    sources = [job.source.name for job in plan([Path("in")], output="out", scale=4, force=False)[0]]
    assert sources == ["a-x4.jpg", "a-xylophone.png", "a.jpg", "alone-x4.png"]


def test_a_result_that_is_named_is_enlarged(make: Make) -> None:
    assert targets(make("a.png", "a-x4.png")[1:]) == ["a-x4-x4.png"]


def test_a_picture_that_is_named_twice_is_enlarged_once(make: Make) -> None:
    make("in/a.png")
    assert targets([Path("in"), Path("in/a.png"), Path("in/../in/a.png")]) == ["in/a-x4.png"]


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("in/a.png", "b/a.png")])
def test_two_pictures_must_not_become_one_file(make: Make, names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="would both become"):
        targets(make(*names), "out/")


@pytest.mark.parametrize("output", ["a.png", "./a.png"])
def test_a_source_is_never_overwritten(make: Make, output: str) -> None:
    with pytest.raises(UsageError, match=r"would overwrite the picture"):
        targets(make("a.png"), output, force=True)
    with pytest.raises(UsageError, match=r"would overwrite the picture"):
        targets(make("a.png", "a-x4.png"), force=True)


def test_bad_inputs_do_not_keep_others_from_becoming_jobs(make: Make) -> None:
    make("a.png", "b.png", "b-x4.png", "empty/notes.txt")
    inputs = [Path(name) for name in ("missing.png", "empty", "a.png", "b.png", "a.png/c.png")]
    jobs, errors = plan(inputs, output=None, scale=4, force=False)
    assert jobs == [Job(Path("a.png"), Path("a-x4.png"))]
    assert all(isinstance(error, PictureError) for error in errors)
    for name, error in zip(("missing.png", "empty", "a.png/c.png", "b-x4.png"), errors, strict=True):
        assert str(error).startswith(name)
    assert targets([Path("b.png")], force=True) == ["b-x4.png"]


def test_folders_are_made_where_they_can_be(make: Make) -> None:
    make("file")
    make_folders([Job(Path("a.png"), Path("new/deep/a.png")), Job(Path("b.png"), Path("new/b.png"))])
    assert Path("new/deep").is_dir()
    with pytest.raises(UsageError, match=r"^file cannot be made a folder"):
        make_folders([Job(Path("a.png"), Path("file/a.png"))])
    with pytest.raises(UsageError, match=r"^file/new cannot be made a folder"):
        make_folders([Job(Path("a.png"), Path("file/new/a.png"))])
