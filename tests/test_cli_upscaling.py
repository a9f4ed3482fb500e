"""The options of `crispen upscale`: sizes, formats, pipes, films, and what is said of what is lost."""

from __future__ import annotations

import inspect
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

import crispen
from commands import crispen_says, error_lines, names, pixels_of, run, save
from crispen import films, images
from crispen.cli import options
from crispen.cli.upscaling import upscale
from crispen.errors import UsageError
from crispen.images import Animation, Picture, from_array
from crispen.images.provenance import statement_of
from crispen.jobs import Enlarger, FilmWishes, Job, Moved, Running
from crispen.upscaling.files import MAX_MEGAPIXELS, Wishes
from files import pipe

PNG, JPEG, TIFF = b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0"


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def enlarged(model: Path, *arguments: str | Path) -> str:
    """Enlarge a.png, of 20x16 pixels, and return the name of the result."""
    if not Path("a.png").exists():
        save("a.png")
    before = set(names())
    result = crispen_says("upscale", "a.png", "--model", model, *arguments)
    assert (result.stderr, result.exit_code) == ("", 0)
    (name,) = set(names()) - before
    return name


def test_the_options_know_what_can_be_written() -> None:
    assert get_args(options.PictureFormat) == tuple(images.FORMATS)
    assert get_args(options.FilmCodec) == tuple(films.CODECS)
    assert inspect.signature(upscale).parameters["max_megapixels"].default == MAX_MEGAPIXELS


# --- sizes


@pytest.mark.parametrize(
    ("arguments", "name", "size"),
    [
        (["--scale", "3.5"], "a-x3.5.png", (70, 56)),
        (["--scale", "2"], "a-x2.png", (40, 32)),
        (["--scale", "10"], "a-x10.png", (200, 160)),
        (["--width", "50"], "a-50x40.png", (50, 40)),
        (["--height", "50"], "a-62x50.png", (62, 50)),
        (["--width", "50", "--height", "30"], "a-50x30.png", (50, 30)),
        (["--fit", "60x100"], "a-60x48.png", (60, 48)),
        (["--print", "10x10mm@127dpi"], "a-50x40.png", (50, 40)),
        (["--megapixels", "0.002"], "a-50x40.png", (50, 40)),
        (["--fit", "60x100", "--name", "{stem}-{scale}.{ext}"], "a-3.png", (60, 48)),
    ],
)
def test_any_size_can_be_had(
    tiny_model: Path, arguments: list[str], name: str, size: tuple[int, int]
) -> None:
    assert enlarged(tiny_model, *arguments) == name
    assert pixels_of(name).shape[1::-1] == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "2", "--width", "40"], "only one of scale, width"),
        (["--scale", "0"], "scale must be above 0, not 0"),
        (["--scale", "nan"], "scale must be above 0, not nan"),
        (["--width", "-3"], "width must be above 0, not -3"),
        (["--scale", "1e308"], "scale must be at most 2147483647, not 1e+308"),
        (["--scale", "inf"], "scale must be at most 2147483647, not inf"),
        (["--megapixels", "1e303"], "megapixels must be at most 2147483647, not 1e+303"),
        (["--width", "9" * 400], "width must be at most 2147483647, not 9999"),
        (["--height", "2147483648"], "height must be at most 2147483647, not 2147483648"),
        (["--fit", f"{'9' * 400}x1"], "--fit must be like 3840x2160, not"),
        (["--fit", "9999999999x9999999999"], "a picture cannot be 1e+10x8e+09 pixels"),
        (["--print", f"{'9' * 400}x1cm@300dpi"], "a picture cannot be infx118.11 pixels"),
        (["--print", "1x1mm@1000001dpi"], "--print must be with at most 1000000 dpi, not"),
        (["--dpi", "nan"], "--dpi must be above 0 and at most 1000000, not nan"),
        (["--dpi", "inf"], "--dpi must be above 0 and at most 1000000, not inf"),
        (["--dpi", "-5"], "--dpi must be above 0 and at most 1000000, not -5"),
        (["--dpi", "0"], "--dpi must be above 0 and at most 1000000, not 0"),
        (["--max-megapixels", "nan"], "--max-megapixels must be above 0, not nan"),
        (["--max-megapixels", "0"], "--max-megapixels must be above 0, not 0"),
        (["--fit", "4k"], "--fit must be like 3840x2160, not '4k'"),
        (["--print", "A4"], "--print must be like 30x20cm@300dpi (or mm, or in), not 'A4'"),
        (["--print", "9x6cm@150dpi", "--dpi", "300"], "--print says how many pixels per inch"),
        (["--quality", "90"], "PNG takes no quality"),
        (["--quality", "0"], "quality must be from 1 to 100, not 0"),
        (["--lossless", "--format", "jpeg"], "JPEG cannot be lossless"),
        (["--pyramid"], "PNG has neither pyramids"),
        (["--name", "{nothing}.png"], "--name may hold {stem}, {ext}"),
        (["--strength", "0.5"], "strength must be 1 for tiny"),
        (["--strength", "2"], "strength must be from 0 to 1, not 2"),
        (["--consistent", "--grain"], "grain cannot be had with consistent"),
        (["--crf", "20"], "--crf is for films, and there are none"),
        (["--frame", "1"], "--frame is for films, and there are none"),
        (["--side-by-side"], "--side-by-side is for films"),
        (["--from", "soon"], "a time must be seconds"),
        (["--from", "5", "--to", "3"], "end must be after 5 s"),
        (["--frame", "1", "--crf", "20"], "--frame makes a picture of a film, for which there is no --crf"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line_and_ends_with_2(
    tiny_model: Path, arguments: list[str], message: str
) -> None:
    save("a.png")
    result = crispen_says("upscale", "a.png", "--model", tiny_model, *arguments)
    (line,) = error_lines(result)
    assert line.startswith(message)
    assert result.exit_code == UsageError.exit_code
    assert names() == ["a.png"]


def test_a_picture_above_the_limit_is_refused(tiny_model: Path) -> None:
    save("a.png")
    result = crispen_says("upscale", "a.png", "--model", tiny_model, "--max-megapixels", "0.0003")
    assert error_lines(result) == ["a.png says that it is 20x16 pixels, above the limit of 0.0003 megapixels"]


# --- the file


@pytest.mark.parametrize(
    ("arguments", "name", "magic"),
    [
        (["--format", "jpeg"], "a-x4.jpg", JPEG),
        (["-o", "b.jpeg", "--quality", "50"], "b.jpeg", JPEG),
        (["--format", "tiff", "--pyramid", "--compression", "lzw"], "a-x4.tif", TIFF),
        (["--format", "png", "-o", "b"], "b", PNG),
        (["--format", "webp", "--lossless"], "a-x4.webp", b"RIFF"),
    ],
)
def test_the_format_can_be_chosen(tiny_model: Path, arguments: list[str], name: str, magic: bytes) -> None:
    assert enlarged(tiny_model, *arguments) == name
    assert Path(name).read_bytes().startswith(magic)


@pytest.mark.parametrize(
    "arguments",
    [["--scale", "3"], ["--width", "70"], ["--fit", "90x90"], ["--scale", "0.6"], ["--scale", "3", "--wrap"]],
)
@pytest.mark.parametrize("name", ["a.png", "a.gif", "pages.tif"])
def test_binary_alpha_stays_binary_at_any_size(tiny_model: Path, arguments: list[str], name: str) -> None:
    alpha = np.zeros((32, 32), np.uint8)
    alpha[8:24, 8:24] = 255
    sprite = images.Picture(pixels=np.full((32, 32, 3), 90, np.uint8), alpha=alpha)
    if name == "pages.tif":
        images.write_pages([sprite.header] * 2, [sprite] * 2, name)
    else:
        images.write(sprite, name)
    result = crispen_says("upscale", name, "-o", f"b-{name}", "--model", tiny_model, *arguments)
    assert (result.stderr, result.exit_code) == ("", 0)
    large = images.read(f"b-{name}").alpha
    assert large is not None
    assert set(np.unique(large)) == {0, 255}


def test_the_quality_is_that_of_the_file(tiny_model: Path) -> None:
    sizes = [
        Path(enlarged(tiny_model, "-o", f"{quality}.jpg", "--quality", quality)).stat().st_size
        for quality in ("30", "95", "100")
    ]
    assert sizes == sorted(set(sizes))
    exact = pixels_of(enlarged(tiny_model, "-o", "exact.webp", "--lossless"))
    np.testing.assert_array_equal(exact, pixels_of(enlarged(tiny_model, "-o", "exact.png")))


def test_the_resolution_and_the_tag_can_be_chosen(tiny_model: Path) -> None:
    tagged = images.read(enlarged(tiny_model, "--dpi", "254"))
    assert tagged.resolution == pytest.approx((10, 10), rel=0.01)
    said = statement_of(tagged.attachments["xmp-data"])
    assert said is not None
    assert (said.model, said.scale, said.width) == ("tiny", 4, 80)
    assert "xmp-data" not in images.read(enlarged(tiny_model, "--no-tag", "-o", "b.png")).attachments


def test_a_resolution_that_no_file_can_state_is_left_out(tiny_model: Path) -> None:
    Image.new("RGB", (20, 16)).save("a.bmp", dpi=(1e7, 1e7))
    assert images.read("a.bmp").resolution == pytest.approx((1e7 / 25.4, 1e7 / 25.4))
    result = run("upscale", "a.bmp", "--model", tiny_model)
    assert (result.stderr, result.returncode) == ("", 0)
    assert images.read("a-x4.png").resolution is None


def test_what_the_network_is_asked_for_reaches_it(tiny_model: Path) -> None:
    plain = pixels_of(enlarged(tiny_model))
    for option in ("--consistent", "--wrap"):
        assert not np.array_equal(pixels_of(enlarged(tiny_model, option, "-o", f"{option}.png")), plain)
    consistent = pixels_of("--consistent.png")
    back = crispen.resize(consistent, 1 / 4).astype(int) - pixels_of("a.png")
    assert abs(back.mean()) < 1


@pytest.mark.parametrize(("suffix", "count"), [(".gif", 3), (".webp", 3), (".tif", 3)])
def test_what_holds_several_stays_what_it_is(tiny_model: Path, suffix: str, count: int) -> None:
    _several(Path(f"a{suffix}"), count)
    result = crispen_says("upscale", f"a{suffix}", "--model", tiny_model)
    assert (result.stderr, result.exit_code) == ("", 0)
    assert f"-> a-x4{suffix} 80x64, 3 pages" in result.stdout
    with images.open_pages(f"a-x4{suffix}") as pages:
        assert (len(pages), pages.header.width) == (count, 80)


def test_pages_that_are_left_out_are_told(tiny_model: Path) -> None:
    _several(Path("a.tif"), 3)
    result = crispen_says("upscale", "a.tif", "--model", tiny_model, "--format", "png")
    assert result.exit_code == 0
    assert result.stderr == (
        "crispen: note: a-x4.png has the first of the 3 pages of a.tif:"
        " GIF and WebP hold animations, TIFF holds pages\n"
    )


def test_what_is_behind_a_picture_and_stays_there_is_told(tiny_model: Path) -> None:
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<r:Description r:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
        ' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"/></r:RDF></x:xmpmeta>'
    )
    picture = Image.effect_noise((20, 16), 50).convert("RGB")
    picture.save("a.jpg", xmp=xmp.encode())
    picture.resize((10, 8)).save("gain.jpg")
    Path("a.jpg").write_bytes(
        Path("a.jpg").read_bytes() + Path("gain.jpg").read_bytes() + b"\0\0\0\x18ftypmp42"
    )
    note = (
        "b.jpg is without the HDR gain map and the motion photo's film of which the XMP of a.jpg tells:"
        " only the picture itself is enlarged"
    )
    arguments = ["a.jpg", "-o", "b.jpg", "--model", tiny_model, "--report", "report.json"]
    result = crispen_says("upscale", *arguments)
    assert (result.stderr, result.exit_code) == (f"crispen: note: {note}\n", 0)
    assert json.loads(Path("report.json").read_text())["results"][0]["notes"] == [note]
    again = crispen_says("upscale", "b.jpg", "-o", "c.jpg", "--model", tiny_model)
    assert (again.stderr, again.exit_code) == ("", 0)


@pytest.mark.parametrize(("suffix", "target"), [(".png", "b.png"), (".avif", "b.png"), (".png", "b.gif")])
def test_frames_that_cannot_be_read_are_told(tiny_model: Path, suffix: str, target: str) -> None:
    frames = [Image.fromarray(_picture(number).pixels) for number in range(3)]
    frames[0].save(f"a{suffix}", save_all=True, append_images=frames[1:], duration=100)
    result = crispen_says("upscale", f"a{suffix}", "-o", target, "--model", tiny_model)
    assert result.exit_code == 0
    assert result.stderr == (
        f"crispen: note: {target} has the first of the 3 frames of a{suffix}:"
        " animations are read where they are GIF or WebP\n"
    )


def test_signed_content_credentials_are_told_and_not_passed_on(tiny_model: Path) -> None:
    content = save("a.png").read_bytes()
    box = b"\0\0\0\x1ajumb\0\0\0\x12jumdc2pa\0\0\0\0\0\0"
    Path("a.png").write_bytes(
        content[:33] + struct.pack(">I", len(box)) + b"caBX" + box + b"\0\0\0\0" + content[33:]
    )
    assert images.has_content_credentials("a.png")
    result = crispen_says("upscale", "a.png", "--model", tiny_model)
    assert result.exit_code == 0
    assert result.stderr == (
        "crispen: note: a-x4.png is without the signed content credentials of a.png,"
        " which hold for that file only\n"
    )
    assert not images.has_content_credentials("a-x4.png")


def _several(path: Path, count: int) -> None:
    pictures = [_picture(number) for number in range(count)]
    animation = None if path.suffix == ".tif" else images.Animation(delays=(100,) * count)
    images.write_pages([pictures[0].header] * count, pictures, path, animation=animation)


def _picture(number: int) -> Picture:
    return from_array(np.full((16, 20, 3), 40 * number, np.uint8))


# --- pipes


def test_a_picture_goes_through_a_pipe(tiny_model: Path) -> None:
    content = save("a.png").read_bytes()
    result = crispen_says("upscale", "-", "-o", "-", "--model", tiny_model, stdin=content)
    assert (result.stderr, result.exit_code) == ("", 0)
    assert names() == ["a.png"]
    Path("piped.png").write_bytes(result.stdout_bytes)
    np.testing.assert_array_equal(pixels_of("piped.png"), pixels_of(enlarged(tiny_model)))


def test_either_end_may_be_a_pipe(tiny_model: Path) -> None:
    content = save("a.png").read_bytes()
    result = crispen_says("upscale", "-", "-o", "out/", "--model", tiny_model, stdin=content)
    assert (result.stderr, result.exit_code) == ("", 0)
    assert result.stdout.startswith("the standard input 20x16 -> ")
    assert names("out") == ["standard input-x4.png"]
    result = crispen_says("upscale", "a.png", "-o", "-", "--format", "jpeg", "--model", tiny_model)
    assert result.stdout_bytes.startswith(JPEG)
    assert result.exit_code == 0


def test_a_file_may_have_the_name_that_stands_for_a_pipe(tiny_model: Path) -> None:
    save("a.png").rename("-")
    result = crispen_says("upscale", "./-", "-o", "b.png", "--model", tiny_model, stdin=b"no picture")
    assert (result.stderr, result.exit_code) == ("", 0)
    result = crispen_says("upscale", "b.png", "./-", "-o", "out", "--model", tiny_model)
    assert names("out") == ["--x4.png", "b-x4.png"]
    result = crispen_says("upscale", "./-", "-o", "-", "--model", tiny_model)
    assert result.stdout_bytes.startswith(PNG)


def test_a_pipe_that_has_a_name_is_told_from_a_missing_file(tiny_model: Path) -> None:
    save("a.png")
    (Path("fd")).symlink_to(pipe(Path("pipe")))
    result = crispen_says("upscale", "fd", "a.png", "--model", tiny_model)
    said = "fd is a pipe, no file: give - instead, and send the picture to the standard input"
    assert (error_lines(result), result.exit_code) == ([said], 1)
    assert "a-x4.png" in names()


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no pipes are named so here")
def test_a_pipe_without_a_name_of_its_own_is_told_from_a_missing_file(tiny_model: Path) -> None:
    reader, writer = os.pipe()
    try:
        name = f"/dev/fd/{reader}"
        (line,) = error_lines(crispen_says("upscale", name, "-o", "b.png", "--model", tiny_model))
    finally:
        os.close(reader)
        os.close(writer)
    assert line.startswith(f"{name} is a pipe, no file: give - instead")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-"], 2),
        (["-", "a.png", "-o", "out/"], 2),
        (["a.png", "b.png", "-o", "-"], 2),
        ([".", "-o", "-"], 2),
        (["film.mp4", "-o", "-"], 2),
        (["a.png", "-o", "-", "--report", "report.json"], 2),
        (["-", "-o", "-"], 1),
        (["missing.png", "-o", "-"], 1),
    ],
)
def test_what_no_pipe_holds_is_one_line_and_writes_nothing(
    tiny_model: Path, arguments: list[str], code: int
) -> None:
    save("a.png")
    result = crispen_says("upscale", *arguments, "--model", tiny_model, stdin=b"no picture")
    (line,) = error_lines(result)
    assert (result.exit_code, result.stdout_bytes) == (code, b"")
    assert "/" not in line.replace("out/", "")
    assert names() == ["a.png"]


@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("<&-", "- is the standard input, which is closed"),
        (">&-", "-o - is the standard output, which is closed"),
    ],
)
def test_a_pipe_that_is_closed_from_the_start_is_one_line(
    tiny_model: Path, closed: str, message: str
) -> None:
    result = run_with(closed, "upscale", "-", "-o", "-", "--model", tiny_model)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"crispen: error: {message}: name a file")
    assert result.stderr.count("\n") == 1


def test_nothing_but_the_picture_goes_to_the_standard_output_where_errors_have_no_place(
    tiny_model: Path,
) -> None:
    save("a.png")
    for closed in (">&-", "2>&-"):
        assert run_with(closed, "upscale", "a.png", "--force", "--model", tiny_model).returncode == 0
    result = run_with("2>&-", "upscale", "missing.png", "-o", "-", "--model", tiny_model)
    assert (result.stdout, result.returncode) == ("", 1)


def run_with(redirection: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as its own process, from a shell that opens or closes its streams."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "crispen"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_a_terminal_is_not_filled_with_a_picture(tiny_model: Path) -> None:
    pty = pytest.importorskip("pty")
    save("a.png")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "crispen", "upscale", "a.png", "-o", "-", "--model", str(tiny_model)]
    result = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    os.close(ours)
    assert result.returncode == 2
    assert result.stderr.startswith("crispen: error: -o - would fill the terminal with a picture")


# --- films


@pytest.fixture
def film(working_folder: Path) -> Path:
    pytest.importorskip("av")
    from clips import clip

    return clip(Path("clip.mp4"))


def stream_of(name: str) -> Any:
    import av

    with av.open(name) as opened:
        stream = opened.streams.video[0]
        return stream.codec_context.name, stream.width, stream.height, sum(1 for _ in opened.decode(video=0))


@pytest.mark.parametrize(
    ("arguments", "name", "found"),
    [
        ([], "clip-x4.mp4", ("h264", 192, 128, 12)),
        (["--scale", "2", "-o", "b.mkv", "--codec", "ffv1"], "b.mkv", ("ffv1", 96, 64, 12)),
        (
            ["--fit", "101x101", "--crf", "30", "--preset", "ultrafast"],
            "clip-100x66.mp4",
            ("h264", 100, 66, 12),
        ),
        (["--from", "0.25", "--to", "0:00.5", "--side-by-side"], "clip-x4.mp4", ("h264", 384, 128, 6)),
    ],
)
def test_films_are_enlarged(
    tiny_model: Path, film: Path, arguments: list[str], name: str, found: tuple[Any, ...]
) -> None:
    result = crispen_says("upscale", film, "--model", tiny_model, *arguments)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "crispen: note: tiny draws fine detail anew in each frame, which can flicker: tiny-x4 is meant for films"
    ]
    assert f", {found[3]} frames (" in result.stdout
    assert names() == sorted(["clip.mp4", name])
    assert stream_of(name) == found


@pytest.mark.parametrize("tag", [True, False])
def test_films_say_that_they_were_enlarged(tiny_model: Path, film: Path, tag: bool) -> None:
    import av

    assert crispen_says("upscale", film, "--model", tiny_model, *([] if tag else ["--no-tag"])).exit_code == 0
    with av.open("clip-x4.mp4") as opened:
        comment = opened.metadata.get("comment", "")
    assert ("Enlarged 4 times by the AI model tiny" in comment) == tag


def test_a_film_that_is_stopped_early_leaves_nothing(tiny_model: Path, film: Path) -> None:
    class Enough(Exception):
        pass

    def watch(
        steps: Iterable[Any], total: int, *, pixels: Callable[[Any], int], notes: Sequence[str] = ()
    ) -> Iterator[Any]:
        assert total == 12
        for step in steps:
            yield step
            raise Enough

    upscaler = crispen.load(tiny_model)
    enlarge = Enlarger(upscaler=upscaler, wishes=Wishes(), film=FilmWishes(), force=False)
    with pytest.raises(Enough):
        enlarge(Job(film, Path("clip-x4.mp4")), watch)
    assert names() == ["clip.mp4"]


def test_what_a_film_loses_is_said_once_and_before_its_first_frame(tiny_model: Path) -> None:
    from clips import clip

    source = clip(Path("old.avi"), codec="mjpeg", pixel_format="yuvj420p", sound="pcm_u8")
    result = crispen_says("upscale", source, "-o", "new.mp4", "--model", tiny_model)
    assert result.stderr.count("new.mp4 is without audio (pcm_u8), which .mp4 cannot hold") == 1
    upscaler = crispen.load(tiny_model)
    enlarge = Enlarger(upscaler=upscaler, wishes=Wishes(), film=FilmWishes(), force=True)
    first, *others = Running([Job(source, Path("new.mp4"))], enlarge)
    assert isinstance(first, Moved)
    assert (first.pixels, any("pcm_u8" in note for note in first.notes)) == (0, True)
    assert not any(event.notes for event in others if isinstance(event, Moved))


def test_a_frame_becomes_a_picture(tiny_model: Path, film: Path) -> None:
    result = crispen_says("upscale", film, "--model", tiny_model, "--frame", "0.25")
    assert (result.stderr, result.exit_code) == ("", 0)
    frame = images.read("clip-0.25s-x4.png")
    assert (frame.width, frame.height) == (192, 128)
    assert statement_of(frame.attachments["xmp-data"]) is not None
    options = ["--frame", "0:00", "--side-by-side", "--width", "100", "--format", "jpeg", "--quality", "80"]
    assert crispen_says("upscale", film, "--model", tiny_model, *options, "-o", "both.jpg").exit_code == 0
    assert pixels_of("both.jpg").shape == (67, 200, 3)
    result = crispen_says("upscale", film, "--model", tiny_model, "--frame", "0", "-o", "-")
    Path("piped.png").write_bytes(result.stdout_bytes)
    assert pixels_of("piped.png").shape == (128, 192, 3)


def test_a_frame_of_any_size_states_its_resolution(tiny_model: Path, film: Path) -> None:
    options = ["--frame", "0", "--model", tiny_model]
    for arguments, name, size, dpi in (
        (["--fit", "99x99"], "clip-0s-99x66.png", (99, 66), None),
        (["--print", "3x2cm@127dpi"], "clip-0s-150x100.png", (150, 100), 127),
        (["--dpi", "300"], "clip-0s-x4.png", (192, 128), 300),
    ):
        result = crispen_says("upscale", film, *options, *arguments)
        assert (result.stderr, result.exit_code) == ("", 0)
        frame = images.read(name)
        assert (frame.width, frame.height) == size
        stated = None if dpi is None else (dpi / 25.4, dpi / 25.4)
        assert frame.resolution == (stated if stated is None else pytest.approx(stated, rel=0.01))


def test_a_frame_has_square_pixels(tiny_model: Path) -> None:
    pytest.importorskip("av")
    from clips import clip

    wide = clip(Path("wide.mp4"), aspect=Fraction(4, 3))
    high = clip(Path("high.mp4"), aspect=Fraction(3, 4))
    assert crispen_says("upscale", wide, high, "--frame", "0", "--model", tiny_model).exit_code == 0
    assert pixels_of("wide-0s-x4.png").shape == (96, 192, 3)
    assert pixels_of("high-0s-x4.png").shape == (128, 144, 3)
    options = ["--frame", "0", "--fit", "60x60", "--model", tiny_model]
    assert crispen_says("upscale", wide, *options).exit_code == 0
    assert pixels_of("wide-0s-60x30.png").shape == (30, 60, 3)


def test_what_a_frame_loses_is_told(tiny_model: Path) -> None:
    av = pytest.importorskip("av")
    from clips import clip, pictures

    glass = [av.VideoFrame.from_ndarray(np.full((16, 24, 4), 200, np.uint8), format="bgra")]
    clip(Path("glass.mkv"), glass, codec="ffv1", pixel_format="bgra")
    deep = [picture.astype(np.uint16) * 257 for picture in pictures(1)]
    clip(Path("hdr.mkv"), deep, codec="ffv1", pixel_format="yuv420p10le", colours=(9, 1, 9, 16))
    result = crispen_says("upscale", "glass.mkv", "hdr.mkv", "--frame", "0", "--model", tiny_model)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "crispen: note: the frame is without the transparency of glass.mkv: it is written opaque",
        "crispen: note: the frame has the colours of hdr.mkv, BT.2020 with PQ, and does not say so:"
        " taken for sRGB, they look flat",
    ]


def test_a_film_that_is_only_reduced_does_not_say_that_a_model_enlarged_it(
    tiny_model: Path, film: Path
) -> None:
    import av

    options = ["--scale", "0.5", "--model", tiny_model]
    result = crispen_says("upscale", film, *options)
    assert (result.stderr, result.exit_code) == ("", 0)
    with av.open("clip-x0.5.mp4") as opened:
        assert "comment" not in opened.metadata
    assert crispen_says("upscale", film, *options, "--frame", "0").exit_code == 0
    assert "xmp-data" not in images.read("clip-0s-x0.5.png").attachments


@pytest.mark.parametrize(
    "arguments", [[], ["--frame", "0"], ["--width", "100"], ["--width", "9", "--frame", "0"]]
)
def test_a_film_above_the_limit_is_refused(tiny_model: Path, film: Path, arguments: list[str]) -> None:
    options = ["--max-megapixels", "0.001", "--model", tiny_model]
    result = crispen_says("upscale", film, *options, *arguments)
    assert error_lines(result) == [
        "clip.mp4 says that it is 48x32 pixels, above the limit of 0.001 megapixels"
    ]
    assert (result.exit_code, names()) == (1, ["clip.mp4"])


def test_a_film_cannot_come_from_a_pipe(tiny_model: Path, film: Path) -> None:
    result = crispen_says("upscale", "-", "-o", "out.mp4", "--model", tiny_model, stdin=film.read_bytes())
    (line,) = error_lines(result)
    assert line.endswith("films are made of films and GIFs, in files and not from the standard input")
    assert result.exit_code == UsageError.exit_code


def test_a_frame_is_not_written_as_a_film(tiny_model: Path, film: Path) -> None:
    result = crispen_says("upscale", film, "--frame", "0", "-o", "out.mp4", "--model", tiny_model)
    (line,) = error_lines(result)
    assert line.startswith("-o out.mp4 cannot be: no .mp4 is written, but .png")


def test_films_in_folders_only_where_they_are_asked_for(tiny_model: Path, film: Path) -> None:
    film.rename("film.mp4")
    save("a.png")
    assert crispen_says("upscale", ".", "-o", "out", "--model", tiny_model).exit_code == 0
    assert names("out") == ["a-x4.png"]
    assert (
        crispen_says("upscale", ".", "-o", "out", "--model", tiny_model, "--include", "*.mp4").exit_code == 0
    )
    assert names("out") == ["a-x4.png", "film-x4.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quality", "80"], "--quality is for pictures, and there are none"),
        (["--dpi", "300"], "--dpi is for pictures, and there are none"),
        (["-o", "b.png"], "b.png cannot be written: a film's name ends in one of"),
    ],
)
def test_what_films_do_not_have_ends_with_2(
    tiny_model: Path, film: Path, arguments: list[str], message: str
) -> None:
    result = crispen_says("upscale", film, "--model", tiny_model, *arguments)
    (line,) = error_lines(result)
    assert (result.exit_code, line[: len(message)]) == (2, message)


def test_what_a_codec_does_not_have_is_one_line(tiny_model: Path, film: Path) -> None:
    for arguments, code in (
        (["--codec", "prores"], 2),
        (["--preset", "hasty"], 2),
        (["--crf", "99"], 2),
        (["--frame", "60"], 1),
    ):
        result = crispen_says("upscale", film, "--model", tiny_model, *arguments)
        assert (result.exit_code, len(error_lines(result))) == (code, 1)
    assert names() == ["clip.mp4"]


def test_an_animation_becomes_a_film_where_that_is_asked_for(tiny_model: Path, film: Path) -> None:
    from clips import times

    generator = np.random.default_rng(0)
    pages = [from_array(generator.integers(0, 256, (16, 20, 3), np.uint8)) for _ in range(3)]
    shown = Animation(delays=(100, 200, 100), loop=0)
    images.write_pages([pages[0].header] * 3, pages, "a.gif", animation=shown)
    result = crispen_says("upscale", "a.gif", "-o", "a.mp4", "--crf", "20", "--model", tiny_model)
    assert (result.exit_code, ", 3 frames (" in result.stdout) == (0, True)
    assert stream_of("a.mp4") == ("h264", 80, 64, 3)
    assert [float(time) for time in times(Path("a.mp4"))] == pytest.approx([0, 0.1, 0.3])
    assert crispen_says("upscale", "a.gif", "--model", tiny_model).exit_code == 0
    assert "a-x4.gif" in names()
    assert (
        crispen_says("upscale", "a.gif", "-o", "b.gif", "--crf", "20", "--model", tiny_model).exit_code == 2
    )


# --- the library


def test_the_library_takes_sizes(tiny_model: Path) -> None:
    small = pixels_of(save("a.png"))
    assert crispen.upscale(small, tiny_model, scale=2.5).shape == (40, 50, 3)
    assert crispen.upscale(small[..., 0], tiny_model, width=100).shape == (80, 100)
    assert crispen.upscale(small, tiny_model, scale=10).shape == (160, 200, 3)
    assert crispen.upscale("a.png", tiny_model, height=100) == Path("a-125x100.png")
    assert pixels_of("a-125x100.png").shape == (100, 125, 3)
    Path("out").mkdir()
    assert crispen.upscale("a.png", tiny_model, output="out", scale=2) == Path("out/a-x2.png")
    other: list[dict[str, Any]] = [{"width": 40.0, "height": 32.0}, {"scale": np.float32(2)}]
    for size in other:
        assert crispen.upscale(small, tiny_model, **size).shape == (32, 40, 3)
    with pytest.raises(UsageError, match="only one of"):
        crispen.upscale(small, tiny_model, scale=2, width=100)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"scale": "2"}, "scale must be a number, not '2'"),
        ({"width": [30]}, r"width must be a number, not \[30\]"),
        ({"scale": float("nan")}, "^scale must be above 0, not nan"),
    ]
    for size, message in wrong:
        with pytest.raises(UsageError, match=message):
            crispen.upscale(small, tiny_model, **size)


def test_the_library_and_the_command_agree(tiny_model: Path) -> None:
    name = enlarged(tiny_model, "--scale", "3.5", "--consistent")
    array = crispen.upscale(pixels_of("a.png"), tiny_model, scale=3.5, consistent=True)
    assert np.abs(array.astype(int) - pixels_of(name)).max() <= 1


def test_what_changes_results_changes_the_identity(tiny_model: Path) -> None:
    options: list[dict[str, Any]] = [{}, {"consistent": True}, {"wrap": True}, {"grain": True}]
    identities = [crispen.load(tiny_model, **chosen).identity for chosen in options]
    assert len(set(identities)) == len(options)
    assert crispen.load(tiny_model).identity == identities[0]


def test_a_strength_beyond_0_and_1_is_refused_before_anything_else(tiny_model: Path) -> None:
    result = crispen_says("upscale", "nothing.png", "--model", tiny_model, "--strength", "2")
    assert result.exit_code == 2
    assert "strength must be from 0 to 1, not 2" in result.stderr
    assert "does not exist" not in result.stderr
