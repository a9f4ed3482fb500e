"""What is enlarged, and what the results are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crispen import films
from crispen.errors import PictureError, UsageError
from crispen.images import Encoding
from crispen.jobs import Failure, Job, Plan, Search, folders, is_film
from crispen.jobs import plan as plan_with
from crispen.upscaling.naming import Naming

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


def plan(
    inputs: list[Path], *, output: str | None = None, scale: int = 4, name: str | None = None, **more: Any
) -> Plan:
    naming = Naming(model="tiny", scale=scale, template=name)
    return plan_with(inputs, output=output, naming=naming, **more)


def targets(inputs: list[Path], output: str | None = None, **more: Any) -> list[str]:
    planned = plan(inputs, output=output, **more)
    assert planned.failures == []
    return [job.target.as_posix() for job in planned.jobs]


def sources(inputs: list[Path], **more: Any) -> list[str]:
    return [job.source.as_posix() for job in plan(inputs, output="out/", **more).jobs]


def errors_of(failures: list[Failure]) -> list[str]:
    assert all(isinstance(failure.error, PictureError) for failure in failures)
    return [str(failure.error) for failure in failures]


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
    for name in ("out.BMP", "photo.svg"):
        with pytest.raises(UsageError, match=rf"no {Path(name).suffix} is written, but \.png, .* are$"):
            targets(inputs, name)
    assert targets(inputs, "new", encoding=Encoding(format="jpeg")) == ["new"]


def test_several_pictures_go_to_a_folder(make: Make) -> None:
    inputs = make("a.jpg", "b.png", "file.txt")[:2]
    assert targets(inputs, "new") == ["new/a-x4.png", "new/b-x4.png"]
    for name in ("out.png", "anim.gif", "film.mp4", "old.bmp"):
        with pytest.raises(UsageError, match=f"{name}/ with a slash"):
            targets(inputs, name)
    with pytest.raises(UsageError, match=r"file\.txt is a file"):
        targets(inputs, "file.txt")


def test_a_folder_stands_for_its_pictures_and_keeps_its_structure(make: Make) -> None:
    make(
        "in/b.png", "in/a.JPG", "in/c.bmp", "in/notes.txt", "in/.hidden.png", "in/deep/er/d.png", "in/a.png.d/x",
        "in/.trash/e.png", "in/film.mp4",
    )  # fmt: skip
    beside = ["in/a-x4.png", "in/b-x4.png", "in/c-x4.png", "in/deep/er/d-x4.png"]
    assert targets([Path("in")]) == beside
    assert targets([Path("in")], "out") == [name.replace("in/", "out/") for name in beside]
    assert targets([Path("in")], "out", search=Search(recursive=False)) == [
        "out/a-x4.png", "out/b-x4.png", "out/c-x4.png",
    ]  # fmt: skip


def test_patterns_choose_files_and_folders(make: Make) -> None:
    make(
        "in/IMG_1.JPG",
        "in/scan.png",
        "in/raw/IMG_2.jpg",
        "in/raw/deep/IMG_3.jpg",
        "in/film.MP4",
        "in/notes.txt",
    )
    inputs = [Path("in")]
    assert sources(inputs, search=Search(include=("img_*",))) == [
        "in/IMG_1.JPG", "in/raw/IMG_2.jpg", "in/raw/deep/IMG_3.jpg",
    ]  # fmt: skip
    for pattern in ("raw", "raw/", "raw/*", "RAW"):
        assert sources(inputs, search=Search(exclude=(pattern,))) == ["in/IMG_1.JPG", "in/scan.png"]
    both = Search(include=("*.jpg",), exclude=("deep", "IMG_1*"))
    assert sources(inputs, search=both) == ["in/raw/IMG_2.jpg"]
    assert sources(inputs, search=Search(include=("*.mp4",))) == ["in/film.MP4"]
    (error,) = errors_of(plan(inputs, search=Search(include=("*.webp",))).failures)
    assert error == "in holds no pictures that --include and --exclude allow"
    assert sources([Path("in/film.MP4"), Path("in/scan.png")], search=Search(exclude=("*",))) == [
        "in/film.MP4", "in/scan.png",
    ]  # fmt: skip


def test_links_are_followed_to_files_but_not_to_folders(make: Make) -> None:
    make("in/a.png", "other/b.png")
    Path("in/b.png").symlink_to(Path("other/b.png").resolve())
    Path("in/again.png").symlink_to("a.png")
    Path("in/loop").symlink_to(Path("in").resolve())
    Path("in/other").symlink_to(Path("other").resolve())
    Path("in/loop.png").symlink_to("loop.png")
    assert sources([Path("in")]) == ["in/a.png", "in/b.png"]
    assert sources([Path("in/other")]) == ["in/other/b.png"]


def test_the_folder_of_the_results_is_not_searched(make: Make) -> None:
    make("a.png", "large/a-4.png", "large/deep/b.png")
    for output in ("large", "./large/", str(Path("large").resolve())):
        jobs = plan([Path()], output=output).jobs
        assert [job.source.as_posix() for job in jobs] == ["a.png"]
    assert targets([Path()], "./")[0] == "a-x4.png"


def test_earlier_results_in_a_folder_are_passed_over(make: Make) -> None:
    make(
        "in/a.jpg", "in/a-x4.png", "in/a-x3.5.jpg", "in/a-640x480.png", "in/alone-x4.png", "in/a-xylophone.png",
        "in/a-640x.png",
    )  # fmt: skip
    first = ["in/a-640x.png", "in/a-xylophone.png", "in/a.jpg", "in/alone-x4.png"]
    for output in (None, "in", "./in/"):
        planned = plan([Path("in")], output=output, skip_existing=True)
        assert [job.source.as_posix() for job in (*planned.skipped, *planned.jobs)] == [
            first[2],
            *first[:2],
            first[3],
        ]
        assert planned.left_out == [
            Path("in/a-640x480.png"),
            Path("in/a-x3.5.jpg"),
        ]  # a-x4.png is that of a.jpg


def test_what_is_named_like_a_result_is_enlarged_where_results_go_elsewhere(make: Make) -> None:
    make("in/photo.png", "in/photo-150x150.png", "in/icon.png", "in/icon-x2.png")
    planned = plan([Path("in")], output="out")
    assert [job.target.as_posix() for job in planned.jobs] == [
        "out/icon-x2-x4.png", "out/icon-x4.png", "out/photo-150x150-x4.png", "out/photo-x4.png",
    ]  # fmt: skip
    assert planned.left_out == []


def test_what_is_named_as_an_input_is_not_left_out(make: Make) -> None:
    inputs = [Path("in"), *make("in/a.png", "in/a-x2.png")[1:]]
    planned = plan(inputs)
    assert [job.source.as_posix() for job in planned.jobs] == ["in/a.png", "in/a-x2.png"]
    assert planned.left_out == []


def test_a_file_goes_before_a_link_to_it(make: Make) -> None:
    make("in/photo.png", "in/deep/scan.png")
    Path("in/link.png").symlink_to("photo.png")
    Path("in/a.png").symlink_to("deep/scan.png")
    assert targets([Path("in")]) == ["in/photo-x4.png", "in/deep/scan-x4.png"]
    assert targets([Path("in/link.png"), Path("in/photo.png")]) == ["in/photo-x4.png"]
    assert targets([Path("in"), Path("in/link.png")]) == ["in/deep/scan-x4.png", "in/link-x4.png"]


def test_earlier_results_by_a_template_are_passed_over(make: Make) -> None:
    make("in/a.jpg", "in/a_large.webp", "in/b.jpg")
    webp = Encoding(format="webp")
    planned = plan([Path("in")], name="{stem}_large.{ext}", encoding=webp, skip_existing=True)
    assert planned.jobs == [Job(Path("in/b.jpg"), Path("in/b_large.webp"))]
    assert planned.skipped == [Job(Path("in/a.jpg"), Path("in/a_large.webp"))]
    assert planned.failures == []


def test_a_template_never_replaces_a_source(make: Make) -> None:
    make("in/a.jpg", "in/a.png")
    planned = plan([Path("in")], name="{stem}.png", force=True)
    assert planned.jobs == []
    assert len(planned.failures) == 2


def test_templates_make_names_and_folders(make: Make) -> None:
    inputs = make("a.b.jpg")
    assert targets(inputs, name="{model}/{stem}_{scale}.{ext}") == ["tiny/a.b_4.png"]
    assert targets(inputs, "out/", name="{stem}.jpg") == ["out/a.b.jpg"]
    assert targets(inputs, name="{suffix}/{stem}.{ext}") == ["jpg/a.b.png"]
    assert targets(make("bare"), name="{stem}{suffix}.{ext}") == ["bare.png"]
    assert targets(inputs, "there.png", name="{stem}.jpg") == ["there.png"]


@pytest.mark.parametrize(
    "template", ["{name}.png", "{stem", "{stem:>9}.png", "{stem!r}.png", "{}.png", "", "x/", "/x.png", "../{stem}.png"]
)  # fmt: skip
def test_templates_are_checked(template: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        Naming(model="tiny", scale=4, template=template)


def test_names_that_no_format_has_are_usage_errors_where_they_are_all(make: Make) -> None:
    with pytest.raises(UsageError, match="must end in one of"):
        plan(make("a.jpg"), name="{stem}.bmp")
    with pytest.raises(UsageError, match="PNG takes no quality"):
        plan(make("a.jpg", "b.png"), encoding=Encoding(quality=80))
    planned = plan([Path("a.jpg"), Path("missing.png")], encoding=Encoding(quality=80))
    assert [failure.source.name for failure in planned.failures] == ["a.jpg", "missing.png"]


def test_films_keep_their_ending(make: Make) -> None:
    inputs = make("a.MKV", "b.avi", "c.mp4")
    assert targets(inputs) == ["a-x4.MKV", "b-x4.mp4", "c-x4.mp4"]
    assert targets(inputs[:1], "out.webm") == ["out.webm"]
    assert targets(inputs, frame=75.5) == ["a-75.5s-x4.png", "b-75.5s-x4.png", "c-75.5s-x4.png"]
    assert targets(inputs[:1], "out.jpg", frame=0) == ["out.jpg"]
    with pytest.raises(UsageError, match=r"a film's name ends in one of \.mp4"):
        targets(inputs[:1], "out.png")


def test_what_exists_is_skipped_where_that_is_wanted(make: Make) -> None:
    inputs = make("a.png", "b.png", "b-x4.png")[:2]
    planned = plan(inputs, skip_existing=True)
    assert (planned.jobs, planned.failures) == ([Job(Path("a.png"), Path("a-x4.png"))], [])
    assert planned.skipped == [Job(Path("b.png"), Path("b-x4.png"))]


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
        planned = plan(make(*names, "c.png"), output="out/", force=force)
        assert [job.source.as_posix() for job in planned.jobs] == [names[0], "c.png"]
        (error,) = errors_of(planned.failures)
        advice = "tell them apart with {suffix} in --name, or " if names[1] == "a.jpg" else ""
        assert error == (
            f"{Path(names[1])} would become {Path('out/a-x4.png')}, as {Path(names[0])} does: {advice}"
            "enlarge it by itself, with -o and another name"
        )
        make("out/other.png")


def test_two_pictures_of_one_name_are_told_apart_by_their_suffix(make: Make) -> None:
    make("in/a.jpg", "in/a.png")
    name = "{stem}-{suffix}-x{scale}.{ext}"
    assert targets([Path("in")], "out", name=name) == ["out/a-jpg-x4.png", "out/a-png-x4.png"]


@pytest.mark.parametrize("output", ["a.png", "./a.png", None])
def test_a_source_is_never_overwritten(make: Make, output: str | None) -> None:
    inputs = make("a.png") if output else make("a.png", "a-x4.png")
    planned = plan(inputs, output=output, force=True)
    assert [job.source for job in planned.jobs] == inputs[1:]
    (error,) = errors_of(planned.failures)
    assert error.startswith(f"the result of a.png would overwrite the picture {Path(output or inputs[1])}: ")


def test_bad_inputs_do_not_keep_others_from_becoming_jobs(make: Make) -> None:
    make("a.png", "b.png", "b-x4.png", "empty/notes.txt")
    inputs = [Path(name) for name in ("missing.png", "empty", "a.png", "b.png", "a.png/c.png")]
    planned = plan(inputs)
    assert planned.jobs == [Job(Path("a.png"), Path("a-x4.png"))]
    errors = errors_of(planned.failures)
    for name, error in zip(("missing.png", "empty", "a.png/c.png", "b-x4.png"), errors, strict=True):
        assert error.startswith(name)
    assert targets([Path("b.png")], force=True) == ["b-x4.png"]


def test_a_link_to_itself_is_no_picture(make: Make) -> None:
    make("a.png")
    Path("loop.png").symlink_to("loop.png")
    planned = plan([Path("loop.png"), Path("a.png")])
    assert [job.source.name for job in planned.jobs] == ["a.png"]
    (error,) = errors_of(planned.failures)
    assert error.startswith("loop.png cannot be read: ")


def jobs_to(*targets: str) -> list[Job]:
    return [Job(Path(f"{number}.png"), Path(target)) for number, target in enumerate(targets)]


def test_folders_are_made_where_they_can_be(make: Make) -> None:
    make("file")
    jobs = jobs_to("file/a.png", "new/deep/a.png", "file/new/a.png", "new/b.png")
    with folders(jobs) as (ready, failures):
        assert ready == [jobs[1], jobs[3]]
        assert Path("new/deep").is_dir()
    assert [error.partition(":")[0] for error in errors_of(failures)] == [
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


def test_what_films_are_written_to_is_taken_for_a_film() -> None:
    assert all(
        is_film(Path(f"a{suffix}")) and is_film(Path(f"A{suffix.upper()}")) for suffix in films.SUFFIXES
    )
