"""Films: every frame enlarged, and everything beside the frames kept."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import clips
from clips import av, clip, decoded, heard, packets, pictures, planes, said, times, trimmed
from crispen import films, jobs
from crispen.errors import PictureError, UsageError
from crispen.films import Options
from crispen.upscaling.naming import Naming
from files import pipe


class Doubling:
    """Repeats pixels, and remembers what it was asked for."""

    scale = 2

    def __init__(self) -> None:
        self.pictures: list[NDArray[Any]] = []

    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]:
        self.pictures.append(picture)
        return picture.repeat(2, axis=0).repeat(2, axis=1)


def enlarge(source: Path, output: Path, **options: Any) -> films.Running:
    """Enlarge a whole film, twice as large."""
    asked: dict[str, Any] = {"segment_frames": 5} | options
    running = films.enlarge(source, Doubling(), output, Options(**asked), force=True)
    assert running.result == output
    return running


def rgb(path: Path) -> list[NDArray[Any]]:
    """All frames of a film in RGB."""
    film = films.probe(path)
    from crispen.films.colour import LeftSited
    from crispen.films.reading import frames, pixels_of

    tag = LeftSited()
    return [pixels_of(film, frame, tag) for _, frame in frames(film, start=None, end=None, notes=[])]


def test_each_frame_is_enlarged_and_shown_when_it_was(tmp_path: Path) -> None:
    uneven = [0, 25, 50, 60, 160, 161, 300, 325, 350, 500, 525, 900]
    source = clip(tmp_path / "a.mp4", times=uneven)
    output = tmp_path / "b.mp4"
    running = films.enlarge(source, Doubling(), output, Options(segment_frames=5, crf=1))
    steps = list(running)
    assert [step.frames for step in steps] == list(range(1, 13))
    assert [step.seconds for step in steps] == pytest.approx([time / 600 for time in uneven])
    assert len(running) == running.total == 12
    assert running.notes == []
    assert times(output) == times(source) == [time * clips.TICK for time in uneven]
    for small, large in zip(rgb(source), rgb(output), strict=True):
        assert np.abs(small.repeat(2, 0).repeat(2, 1).astype(int) - large).mean() < 3


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "ffv1", "libvpx-vp9"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
def test_many_containers_and_codecs(tmp_path: Path, codec: str, suffix: str) -> None:
    source = clip(tmp_path / "a.mkv", codec=codec)
    output = tmp_path / f"b{suffix}"
    running = enlarge(source, output)
    assert (running.notes, running.total) == ([], 12)
    assert times(output) == times(source)
    assert (decoded(output)[0].width, decoded(output)[0].height) == (96, 64)


@pytest.mark.parametrize(
    ("codec", "suffix", "preset"),
    [
        ("h264", ".mov", "veryfast"),
        ("hevc", ".mp4", "ultrafast"),
        ("av1", ".webm", "13"),
        ("vp9", ".mkv", "8"),
        ("ffv1", ".mkv", None),
        ("prores", ".mov", None),
    ],
)
def test_codecs_can_be_chosen(tmp_path: Path, codec: Any, suffix: str, preset: str | None) -> None:
    source = clip(tmp_path / "a.mp4", pictures(6, height=32, width=64))
    output = tmp_path / f"b{suffix}"
    enlarge(source, output, codec=codec, preset=preset)
    with av.open(str(output)) as film:
        assert film.streams.video[0].codec_context.codec.canonical_name == codec
    assert times(output) == pytest.approx(times(source), abs=0.001)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no other way to ask")
def test_an_encoder_does_not_make_the_process_a_real_time_one(tmp_path: Path) -> None:
    """SVT-AV1 does, where it may: as root."""
    before = os.sched_getscheduler(0)
    options = Options(codec="av1", preset="13")
    running = films.enlarge(clip(tmp_path / "a.mp4"), Doubling(), tmp_path / "b.webm", options)
    policies = {
        os.sched_getscheduler(int(thread.name))
        for _ in running
        for thread in Path("/proc/self/task").iterdir()
    }
    assert policies == {before} == {os.sched_getscheduler(0)}


def test_a_lower_crf_makes_a_larger_file(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4")
    enlarge(source, tmp_path / "fine.mp4", crf=5)
    enlarge(source, tmp_path / "coarse.mp4", crf=45)
    assert (tmp_path / "fine.mp4").stat().st_size > 1.5 * (tmp_path / "coarse.mp4").stat().st_size


@pytest.mark.parametrize(("suffix", "subtitles"), [(".mp4", "mov_text"), (".mkv", "subrip")])
def test_sound_subtitles_chapters_and_tags_are_copied(tmp_path: Path, suffix: str, subtitles: str) -> None:
    source = clip(tmp_path / f"a{suffix}", sound=True, subtitles=subtitles, chapters=True)
    output = tmp_path / f"b{suffix}"
    assert enlarge(source, output).notes == []
    assert packets(output, "audio") == packets(source, "audio")
    assert packets(output, "subtitle") == packets(source, "subtitle")
    with av.open(str(source)) as before, av.open(str(output)) as after:
        assert [stream.type for stream in after.streams] == [stream.type for stream in before.streams]
        assert [stream.language for stream in after.streams][:2] == ["fra", "deu"]
        assert [stream.disposition for stream in after.streams] == [
            stream.disposition for stream in before.streams
        ]
        assert after.metadata["title"] == "Ramps"
        assert [chapter["metadata"] for chapter in after.chapters()] == [
            chapter["metadata"] for chapter in before.chapters()
        ]
        assert [chapter["start"] * chapter["time_base"] for chapter in after.chapters()] == [
            chapter["start"] * chapter["time_base"] for chapter in before.chapters()
        ]


def test_what_the_container_cannot_hold_is_left_out_and_said(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mkv", sound=True)
    running = films.enlarge(source, Doubling(), tmp_path / "b.webm", Options(preset="8"))
    notes = [f"{tmp_path / 'b.webm'} is without audio (aac), which .webm cannot hold"]
    assert running.notes == notes  # before the first frame is made
    running.result.stat()
    assert running.notes == notes


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.avi", "mjpeg", "pcm_u8"),
        ("a.avi", "mjpeg", "adpcm_ima_wav"),
        ("a.wmv", "wmv2", "wmav2"),
        ("a.avi", "mpeg4", "pcm_mulaw"),
        ("a.flv", "flv", "libmp3lame"),
    ],
)
def test_the_container_is_one_that_keeps_the_sound(tmp_path: Path, name: str, codec: str, sound: str) -> None:
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    source = clip(tmp_path / name, codec=codec, pixel_format=pixel_format, sound=sound)
    plan = jobs.plan([source], output=None, naming=Naming(model="", scale=2))
    (job,) = plan.jobs
    assert job.target == source.with_name("a-x2" + (".mp4" if sound == "libmp3lame" else ".mkv"))
    assert enlarge(source, job.target).notes == []
    (begin, samples), (same_begin, same_samples) = heard(source), heard(job.target)
    assert same_begin == pytest.approx(begin, abs=0.001)
    np.testing.assert_allclose(same_samples, samples.clip(-1, 1), atol=2**-14)


def test_the_container_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.avi", codec="mjpeg", pixel_format="yuvj420p", sound="pcm_u8")
    target = tmp_path / "b.mp4"
    plan = jobs.plan([source], output=str(target), naming=Naming(model="", scale=2))
    assert [job.target for job in plan.jobs] == [target]
    running = films.enlarge(source, Doubling(), target)
    assert running.notes == [f"{target} is without audio (pcm_u8), which .mp4 cannot hold"]


def test_a_part_of_sound_that_is_unpacked(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.avi", codec="mjpeg", pixel_format="yuvj420p", sound="adpcm_ima_wav")
    enlarge(source, tmp_path / "b.mkv", start=0.125, end=0.375)
    (_, whole), (begin, part) = heard(source), heard(tmp_path / "b.mkv")
    block, count = 1017, part.shape[1]  # what the codec packs at a time, and AVI counts
    assert 0.2 < count / 48000 < 0.3
    places = range(0, whole.shape[1] - count, block)
    (place,) = (place for place in places if np.array_equal(whole[:, place : place + count], part))
    assert place / 48000 - 0.125 == pytest.approx(begin, abs=block / 48000)


@pytest.mark.parametrize(
    ("before", "after", "form"),
    [
        ("a.mkv/subrip", "b.mp4", "mov_text"),
        ("a.mkv/ass", "b.mov", "mov_text"),
        ("a.mkv/webvtt", "b.mp4", "mov_text"),
        ("a.mp4/mov_text", "b.mkv", "srt"),
        ("a.mkv/subrip", "b.webm", "webvtt"),
    ],
)
def test_subtitles_change_their_form_with_the_container(
    tmp_path: Path, before: str, after: str, form: str
) -> None:
    name, codec = before.split("/")
    source, output = clip(tmp_path / name, subtitles=codec), tmp_path / after
    assert enlarge(source, output).notes == []
    with av.open(str(output)) as film:
        assert [stream.codec_context.name for stream in film.streams.subtitles] == [form]
        assert [stream.language for stream in film.streams.subtitles] == ["spa"]
    assert said(output) == [(Fraction(40, 1000), "One"), (Fraction(240, 1000), r"{\i1}Two{\i0} men")]


def test_a_part_keeps_the_end_of_subtitles_in_another_form(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mkv", subtitles="subrip", options={"g": "1"})
    enlarge(source, tmp_path / "b.mp4", start=0.25)
    ((time, words),) = said(tmp_path / "b.mp4")
    assert (time, words) == (0, r"{\i1}Two{\i0} men")


def test_subtitles_that_are_pictures_are_left_out_where_there_is_no_place_for_them(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mkv", subtitles="dvd_subtitle")
    running = enlarge(source, tmp_path / "b.webm", preset="8")
    assert running.notes == [
        f"{tmp_path / 'b.webm'} is without subtitle (dvd_subtitle), which .webm cannot hold"
    ]


def test_fonts_and_covers_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    cover = b"\xff\xd8\xff\xdb" + bytes(range(64))
    with av.open(str(clip(tmp_path / "plain.mkv"))) as plain, av.open(str(source), "w") as film:
        stream = film.add_stream_from_template(plain.streams.video[0], opaque=True)
        film.add_attachment("font.ttf", "font/ttf", b"a font")
        film.add_attachment("cover.jpg", "image/jpeg", cover)
        for packet in plain.demux(video=0):
            if packet.pts is not None:
                packet.stream = stream
                film.mux(packet)
    enlarge(source, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as film:
        assert [stream.metadata["filename"] for stream in film.streams if "filename" in stream.metadata] == [
            "font.ttf",
            "cover.jpg",
        ]
        assert film.streams.attachments[0].data == b"a font"
    notes = enlarge(source, tmp_path / "b.webm").notes
    assert len(notes) == 1
    assert "font.ttf" in notes[0]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_the_film_is_turned_upright(tmp_path: Path, rotation: int) -> None:
    source = clip(tmp_path / "a.mp4", rotation=rotation, aspect=Fraction(4, 3))
    enlarge(source, tmp_path / "b.mp4", crf=1)
    frames = decoded(tmp_path / "b.mp4")
    assert frames[0].rotation == 0
    upright = np.rot90(pictures()[0], rotation // 90)
    assert rgb(tmp_path / "b.mp4")[0].shape == (2 * upright.shape[0], 2 * upright.shape[1], 3)
    difference = rgb(tmp_path / "b.mp4")[0].astype(int) - upright.repeat(2, 0).repeat(2, 1)
    assert np.abs(difference).mean() < 6
    assert films.probe(tmp_path / "b.mp4").pixel_aspect == (
        Fraction(4, 3) if rotation == 180 else Fraction(3, 4)
    )


def test_a_part_begins_at_zero_with_its_sound_and_subtitles(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", sound=True, subtitles="mov_text", chapters=True, options={"g": "6"})
    running = enlarge(source, tmp_path / "b.mp4", start=0.2, end=0.4)
    kept = [time for time in times(source) if 0.2 <= time < 0.4]
    assert len(running) == len(kept) == 5
    assert times(tmp_path / "b.mp4") == [time - kept[0] for time in kept]
    heard = packets(tmp_path / "b.mp4", "audio")
    assert [packet for _, packet in heard] == [
        packet for time, packet in packets(source, "audio") if kept[0] <= time < 0.4
    ]
    assert 0 <= heard[0][0] < 0.022
    assert [words for _, words in said(tmp_path / "b.mp4")] == [r"{\i1}Two{\i0} men"]
    with av.open(str(tmp_path / "b.mp4")) as film:
        assert [chapter["metadata"]["title"] for chapter in film.chapters()] == ["Part 1", "Part 2"]
    with pytest.raises(PictureError, match="no frame in the part"):
        enlarge(source, tmp_path / "c.mp4", start=60)
    assert not list(tmp_path.glob("*c.mp4*"))


def test_side_by_side_shows_bicubic_and_the_result(tmp_path: Path) -> None:
    stripes = np.zeros((32, 48, 3), np.uint8)
    stripes[:, np.arange(48) % 8 < 4] = 255
    source = clip(tmp_path / "a.mp4", [stripes] * 2)
    enlarge(source, tmp_path / "b.mp4", side_by_side=True, crf=1)
    both = rgb(tmp_path / "b.mp4")[1].astype(int)
    assert both.shape == (64, 192, 3)
    repeated = stripes.repeat(2, 0).repeat(2, 1)
    assert np.abs(both[:, 96:] - repeated).max() < 12
    assert 5 < np.abs(both[:, :96] - repeated).mean() < 40


def test_equal_frames_are_computed_once(tmp_path: Path) -> None:
    still = pictures(1)[0]
    frames = [still] * 4 + [255 - still] * 3 + [still]
    source = clip(tmp_path / "a.mkv", frames, codec="ffv1", pixel_format="bgr0")
    upscaler = Doubling()
    films.enlarge(source, upscaler, tmp_path / "b.mp4", Options(segment_frames=3)).result.stat()
    assert len(upscaler.pictures) == 3
    assert len(decoded(tmp_path / "b.mp4")) == 8


def test_a_preview_is_the_frame_that_is_shown_then(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", options={"g": "5"})
    shown = rgb(source)
    for seconds, number in ((0, 0), (0.2, 4), (0.25, 6), (11.5 / 24, 11)):
        upscaler = Doubling()
        result = films.preview(source, upscaler, seconds=seconds)
        np.testing.assert_array_equal(upscaler.pictures[0], shown[number])
        assert result.shape == (64, 96, 3)
    assert films.preview(source, Doubling(), seconds=0, side_by_side=True).shape == (64, 192, 3)
    with pytest.raises(PictureError, match="no frame at 3 s"):
        films.preview(source, Doubling(), seconds=3)
    with pytest.raises(UsageError, match="seconds"):
        films.preview(source, Doubling(), seconds=-1)


def test_interlaced_films_are_said_to_be(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", options={"x264-params": "tff=1"})
    assert "interlaced" in films.enlarge(source, Doubling(), tmp_path / "b.mp4").notes[0]


def test_broadcasts_begin_at_zero(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.ts", times=range(6000, 6300, 25))
    enlarge(source, tmp_path / "b.mp4")
    first, *_ = times(tmp_path / "b.mp4")
    assert 0 <= first < 0.5
    assert [time - first for time in times(tmp_path / "b.mp4")] == pytest.approx(
        [n / 24 for n in range(12)], abs=2e-5
    )


def test_animations_are_films(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.gif", codec="gif", pixel_format="rgb8", frames=pictures(3))
    enlarge(source, tmp_path / "b.mp4")
    assert len(decoded(tmp_path / "b.mp4")) == 3
    assert decoded(tmp_path / "b.mp4")[0].format.name == "yuv420p"


def with_a_corner(alpha: int, *, number: int) -> list[NDArray[np.uint8]]:
    """Three frames, RGBA, of which one has this alpha in a corner."""
    frames = [np.full((16, 24, 4), 255, np.uint8) for _ in range(3)]
    frames[number][:4, :4, 3] = alpha
    return frames


def animation(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=100, disposal=2)
    return path


def film_of_four_channels(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    pictured = [av.VideoFrame.from_ndarray(frame, format="bgra") for frame in frames]
    return clip(path, pictured, codec="ffv1", pixel_format="bgra")


@pytest.mark.parametrize(
    ("make", "name", "number"), [(animation, "a.gif", 0), (film_of_four_channels, "a.mkv", 1)]
)
def test_transparency_that_is_lost_is_said(tmp_path: Path, make: Any, name: str, number: int) -> None:
    source, output = make(tmp_path / name, with_a_corner(0, number=number)), tmp_path / "b.mp4"
    sentence = f"{output} is without the transparency of {source}: films are written opaque"
    assert enlarge(source, output).notes == [sentence]
    opaque = make(tmp_path / f"opaque-{name}", with_a_corner(255, number=number))
    assert enlarge(opaque, output).notes == []


@pytest.mark.parametrize("kept", [0, 10, 600, 0.3, 0.5, 0.8])
def test_truncated_films_end_early_or_are_refused(tmp_path: Path, kept: float) -> None:
    content = clip(tmp_path / "whole.mkv", pictures(24), codec="mjpeg", pixel_format="yuvj420p").read_bytes()
    source = tmp_path / "a.mkv"
    source.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    if isinstance(kept, float):
        enlarge(source, tmp_path / "b.mp4")
        assert 0 < len(decoded(tmp_path / "b.mp4")) < 24
        return
    with pytest.raises(PictureError, match=r"a\.mkv cannot be") as caught:
        enlarge(source, tmp_path / "b.mp4")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.mp4").exists()


def test_the_empty_pieces_of_an_avi_are_no_missing_frames(tmp_path: Path) -> None:
    source = clip(
        tmp_path / "a.avi", codec="mpeg4", times=[0, 25, 150, 175, 300, 325, 350, 375, 400, 425, 450, 475]
    )
    with av.open(str(source)) as film:
        assert film.streams.video[0].frames > 12
    assert enlarge(source, tmp_path / "b.mp4").notes == []
    assert times(tmp_path / "b.mp4") == pytest.approx(times(source), abs=1e-4)


@pytest.mark.parametrize("distance", [2, 12])
def test_what_an_edit_list_hides_is_not_missing(tmp_path: Path, distance: int) -> None:
    """Of key frames every 2, FFmpeg does not even read what lies before the last one that is hidden."""
    whole = clip(tmp_path / "whole.mp4", pictures(10), options={"g": str(distance)})
    source = trimmed(tmp_path / "a.mp4", whole, frames=5)
    running = enlarge(source, tmp_path / "b.mp4")
    assert (running.total, running.notes) == (5, [])
    assert times(tmp_path / "b.mp4") == times(source) == [Fraction(n, 24) for n in range(5)]


@pytest.mark.parametrize("hidden", [0, 5])
def test_an_mp4_that_is_cut_off_is_said_to_end_early(tmp_path: Path, hidden: int) -> None:
    whole = clip(tmp_path / "whole.mp4", pictures(24), options={"g": "1"})
    content = trimmed(tmp_path / "a.mp4", whole, frames=hidden).read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: round(len(content) * 0.7)])
    notes = enlarge(tmp_path / "a.mp4", tmp_path / "b.mp4").notes
    count = len(decoded(tmp_path / "b.mp4"))
    assert 0 < count < 24 - hidden
    said = f"{tmp_path / 'a.mp4'} ends early: {count} of its {24 - hidden} frames could be decoded"
    assert said in notes


@pytest.mark.parametrize("name", ["Alien: Romulus", "12:30", "file:a", "subfile,,a:b", "%03d: 100 %"])
def test_names_that_mean_something_to_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    clip(Path("clip.mkv"), sound=True, subtitles="subrip").rename(f"{name}.mkv")
    enlarge(Path(f"{name}.mkv"), Path(f"{name}: big.mp4"))
    assert len(decoded(tmp_path / f"{name}: big.mp4")) == 12
    content = (tmp_path / f"{name}.mkv").read_bytes()
    Path(f"{name}.mkv").write_bytes(content[:600])
    with pytest.raises(PictureError) as caught:
        films.probe(Path(f"{name}.mkv"))
    assert str(caught.value).startswith(f"{name}.mkv cannot be")


def test_damage_is_said_and_passed_over(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", pictures(12), codec="png", pixel_format="rgb24")
    content = bytearray(source.read_bytes())
    place = content.index(b"IDAT", content.index(b"IEND"))  # in the second frame
    content[place - 60 : place + 40] = bytes(100)
    source.write_bytes(content)
    notes = enlarge(source, tmp_path / "b.mp4").notes
    assert any(note.startswith(f"{source} is damaged") for note in notes)
    assert len(decoded(tmp_path / "b.mp4")) == 11


def test_what_is_no_film_is_refused_in_one_sentence(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as film:
        stream = film.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    words = tmp_path / "words.mp4"
    words.write_text("words")
    for source in (sound, words, tmp_path / "missing.mp4"):
        with pytest.raises(PictureError, match=source.name) as caught:
            films.enlarge(source, Doubling(), tmp_path / "b.mp4")
        assert "\n" not in str(caught.value)
    with pytest.raises(PictureError, match="only audio"):
        films.probe(sound)
    assert not list(tmp_path.glob(".*"))


def test_outputs_that_cannot_be_are_refused_at_once(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4")
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    for output, message in (
        (taken, "exists already"),
        (source, "film that is to be enlarged"),
        (tmp_path / "none" / "b.mp4", "no folder"),
    ):
        with pytest.raises(PictureError, match=message):
            films.enlarge(source, Doubling(), output)
    with pytest.raises(UsageError, match="ends in one of"):
        films.enlarge(source, Doubling(), tmp_path / "b.avi")
    assert taken.read_bytes() == b"mine"
    with pytest.raises(PictureError, match="is a pipe, and only files are replaced"):
        films.enlarge(source, Doubling(), pipe(tmp_path / "pipe.mp4"), force=True)
    films.enlarge(source, Doubling(), taken, force=True).result.stat()
    assert len(decoded(taken)) == 12


@pytest.mark.parametrize(
    ("options", "suffix", "message"),
    [
        ({"codec": "prores"}, ".mp4", "codec must be one of h264"),
        ({"crf": 99}, ".mp4", r"crf must lie in 0\.\.51"),
        ({"codec": "ffv1", "crf": 3}, ".mkv", "crf cannot be chosen"),
        ({"preset": "quick"}, ".mp4", "preset must be one of ultrafast"),
        ({"codec": "prores", "preset": "fast"}, ".mov", "preset must be left out"),
        ({"start": -1}, ".mp4", "start must be"),
        ({"start": 3, "end": 2}, ".mp4", "end must be after 3 s"),
        ({"codec": "mpeg7"}, ".mp4", "codec must be one of"),
        ({"segment_frames": 0}, ".mp4", "segment_frames"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], suffix: str, message: str) -> None:
    source = clip(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match=message):
        films.enlarge(source, Doubling(), tmp_path / f"b{suffix}", Options(**options))


@pytest.mark.parametrize(("text", "seconds"), [("12.5", 12.5), ("1:02.5", 62.5), ("1:02:03", 3723), ("0", 0)])
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert films.parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:2:3:4", "nan", "5s", "1e3"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="time"):
        films.parse_time(text)


def test_odd_sizes_are_written_whole(tmp_path: Path) -> None:
    class Same(Doubling):
        scale = 1

        def __call__(self, picture: NDArray[Any]) -> NDArray[Any]:
            return picture

    source = clip(tmp_path / "a.mkv", pictures(3, height=33, width=45), codec="ffv1", pixel_format="yuv444p")
    films.enlarge(source, Same(), tmp_path / "b.mp4").result.stat()
    assert (decoded(tmp_path / "b.mp4")[0].width, decoded(tmp_path / "b.mp4")[0].height) == (45, 33)


@pytest.mark.parametrize("width", [24, 17])
def test_narrow_films_do_not_end_the_process(tmp_path: Path, width: int) -> None:
    """x265 writes past a row of its lookahead there, whose place in the heap decides what comes of it."""
    narrow = pictures(6, height=16, width=width)
    source = clip(tmp_path / "a.mkv", narrow, codec="ffv1", pixel_format="yuv420p10le")
    code = (
        "import sys\n"
        "from crispen import films\n"
        "class Doubling:\n"
        "    scale = 2\n"
        "    def __call__(self, picture):\n"
        "        return picture.repeat(2, axis=0).repeat(2, axis=1)\n"
        "source, output = sys.argv[1:]\n"
        "films.enlarge(source, Doubling(), output, films.Options(codec='hevc')).result.stat()\n"
    )
    for number in range(3):
        command = [sys.executable, "-c", code, str(source), str(tmp_path / f"{number}.mkv")]
        assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
        assert len(decoded(tmp_path / f"{number}.mkv")) == 6


def test_a_comment_is_written(tmp_path: Path) -> None:
    enlarge(clip(tmp_path / "a.mp4"), tmp_path / "b.mp4", comment="enlarged by a network")
    with av.open(str(tmp_path / "b.mp4")) as film:
        assert film.metadata["comment"] == "enlarged by a network"


@pytest.mark.parametrize(("model", "said"), [("srgan-x4", True), ("tiny-x4", False)])
def test_a_model_that_may_flicker_is_said_to(tmp_path: Path, model: str, said: bool) -> None:
    from crispen import zoo
    from crispen.upscaling import Upscaler

    notes = films.enlarge(clip(tmp_path / "a.mp4"), Upscaler(zoo.find(model)), tmp_path / "b.mp4").notes
    assert [note for note in notes if "flicker" in note] == notes
    assert bool(notes) == said


def test_a_bundled_model_enlarges_a_film(tmp_path: Path) -> None:
    from crispen import zoo
    from crispen.upscaling import Upscaler

    source = clip(tmp_path / "a.mp4", pictures(2, height=16, width=24))
    upscaler = Upscaler(zoo.find("srresnet-x4"), precision="fp32")
    films.enlarge(source, upscaler, tmp_path / "b.mkv", Options(codec="ffv1")).result.stat()
    before, after = rgb(source), rgb(tmp_path / "b.mkv")
    for small, large in zip(before, after, strict=True):
        assert np.abs(large.astype(int) - upscaler(small)).mean() < 4
    assert planes(tmp_path / "b.mkv")[0] != planes(tmp_path / "b.mkv")[1]
