"""What is enlarged, and what the results are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crispen.errors import PictureError, UsageError
from crispen.jobs import Job, folders, plan

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
    for name in ("anim.gif", "out.BMP", "photo.heic"):
        with pytest.raises(UsageError, match=rf"no {Path(name).suffix} is written, but \.png, .* are$"):
            targets(inputs, name)


def test_several_pictures_go_to_a_folder(make: Make) -> None:
    inputs = make("a.jpg", "b.png", "file.txt")[:2]
    assert targets(inputs, "new") == ["new/a-x4.png", "new/b-x4.png"]
    for name in ("out.png", "anim.gif"):
        with pytest.raises(UsageError, match=f"{name}/ with a slash"):
            targets(inputs, name)
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
def test_of_two_pictures_that_would_become_one_file_the_later_is_refused(
    make: Make, names: tuple[str, ...]
) -> None:
    for force in (False, True):
        jobs, (error,) = plan(make(*names, "c.png"), output="out/", scale=4, force=force)
        assert [job.source.as_posix() for job in jobs] == [names[0], "c.png"]
        assert isinstance(error, PictureError)
        assert str(error) == (
            f"{Path(names[1])} would become {Path('out/a-x4.png')}, as {Path(names[0])} does: "
            "enlarge it by itself, with -o and another name"
        )
        make("out/other.png")


@pytest.mark.parametrize("output", ["a.png", "./a.png", None])
def test_a_source_is_never_overwritten(make: Make, output: str | None) -> None:
    sources = make("a.png") if output else make("a.png", "a-x4.png")
    jobs, (error,) = plan(sources, output=output, scale=4, force=True)
    assert [job.source for job in jobs] == sources[1:]
    assert isinstance(error, PictureError)
    assert str(error).startswith(
        f"the result of a.png would overwrite the picture {Path(output or sources[1])}: "
    )


def test_bad_inputs_do_not_keep_others_from_becoming_jobs(make: Make) -> None:
    make("a.png", "b.png", "b-x4.png", "empty/notes.txt")
    inputs = [Path(name) for name in ("missing.png", "empty", "a.png", "b.png", "a.png/c.png")]
    jobs, errors = plan(inputs, output=None, scale=4, force=False)
    assert jobs == [Job(Path("a.png"), Path("a-x4.png"))]
    assert all(isinstance(error, PictureError) for error in errors)
    for name, error in zip(("missing.png", "empty", "a.png/c.png", "b-x4.png"), errors, strict=True):
        assert str(error).startswith(name)
    assert targets([Path("b.png")], force=True) == ["b-x4.png"]


def test_a_link_to_itself_is_no_picture(make: Make) -> None:
    make("a.png")
    Path("loop.png").symlink_to("loop.png")
    jobs, (error,) = plan([Path("loop.png"), Path("a.png")], output=None, scale=4, force=False)
    assert [job.source.name for job in jobs] == ["a.png"]
    assert str(error).startswith("loop.png cannot be read: ")


def jobs_to(*targets: str) -> list[Job]:
    return [Job(Path(f"{number}.png"), Path(target)) for number, target in enumerate(targets)]


def test_folders_are_made_where_they_can_be(make: Make) -> None:
    make("file")
    jobs = jobs_to("file/a.png", "new/deep/a.png", "file/new/a.png", "new/b.png")
    with folders(jobs) as (ready, errors):
        assert ready == [jobs[1], jobs[3]]
        assert Path("new/deep").is_dir()
    assert all(isinstance(error, PictureError) for error in errors)
    assert [str(error).partition(":")[0] for error in errors] == [
        "file cannot be made a folder",
        f"{Path('file/new')} cannot be made a folder",
    ]


def test_folders_that_stay_empty_go_again(make: Make) -> None:
    make("standing/x")
    Path("standing/empty").mkdir()
    jobs = jobs_to(
        "new/deep/a.png", "new/b.png", "other/c.png", "standing/empty/d.png", "standing/made/e.png"
    )

    def interrupted() -> None:
        with folders(jobs):
            Path("new/b.png").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(path.as_posix() for path in Path().rglob("*")) == [
        "new", "new/b.png", "standing", "standing/empty", "standing/x",
    ]  # fmt: skip
