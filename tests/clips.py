"""Small films for tests, written where they are wanted; and what is in a film."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

av: Any = pytest.importorskip("av")

TICK = Fraction(1, 600)
"""The time base of the clips, in which 25 units are a frame's 1/24 s."""


def pictures(count: int = 12, *, height: int = 32, width: int = 48) -> list[NDArray[np.uint8]]:
    """A colourful ramp that moves: each (height, width, 3)."""
    rows, columns = np.mgrid[:height, :width]
    frames = [np.stack([columns * 5, rows * 7, (columns + rows) * 2 + 8 * n], axis=-1) for n in range(count)]
    return [(frame % 256).astype(np.uint8) for frame in frames]


def clip(
    path: Path,
    frames: Sequence[Any] | None = None,
    *,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    colours: tuple[int, int, int, int] = (1, 1, 1, 1),
    aspect: Fraction = Fraction(1),
    rotation: float = 0,
    sound: bool | str = False,
    subtitles: str | None = None,
    chapters: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a film of frames: RGB, or such as PyAV has.

    ``colours`` are matrix, range, primaries and transfer, as FFmpeg numbers them. ``sound`` is AAC, or what it names.
    """
    frames = pictures() if frames is None else frames
    matrix, span, primaries, transfer = colours
    times = range(0, 25 * len(frames), 25) if times is None else times
    with av.open(str(path), "w") as film:
        film.metadata["title"] = "Ramps"
        stream = film.add_stream(codec, rate=24, options={"crf": "8"} if codec == "libx264" else {})
        context = stream.codec_context
        first: Any = frames[0]
        context.height, context.width = (
            first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        )
        context.pix_fmt = pixel_format
        context.options = {**context.options, **(options or {})}
        context.time_base = stream.time_base = TICK
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_range = matrix, span
        context.color_primaries, context.color_trc = primaries, transfer
        stream.metadata["language"] = "fra"
        if rotation:
            stream.set_display_rotation(rotation)
        others = [_add_sound(film, sound if isinstance(sound, str) else "aac")] if sound else []
        if subtitles:
            others.append(_add_subtitles(film, subtitles))
        if chapters:
            film.set_chapters([
                {"id": n, "start": n * 100, "end": n * 100 + 100, "time_base": TICK, "metadata": {"title": f"Part {n}"}}
                for n in range(3)
            ])  # fmt: skip
        for rgb, time in zip(frames, times, strict=True):
            film.mux(stream.encode(_frame(rgb, pixel_format, matrix, span, time)))
        film.mux(stream.encode(None))
        for add in others:
            add()
    return path


def trimmed(path: Path, source: Path, *, frames: int) -> Path:
    """Write an MP4 of all of a film's pictures, of which an edit list hides the first few, 1/24 s each."""
    first = {"movflags": "faststart"}  # the index, so that a film that is cut off still has it
    with av.open(str(source)) as whole, av.open(str(path), "w", options=first) as film:
        pictures = whole.streams.video[0]
        copy = film.add_stream_from_template(pictures, opaque=True)
        for packet in whole.demux(pictures):
            if packet.dts is not None:
                hidden = round(Fraction(frames, 24) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - hidden, packet.dts - hidden, copy
                film.mux_one(packet)
    return path


def decoded(path: Path) -> list[Any]:
    """All frames of a film, as PyAV gives them."""
    with av.open(str(path)) as film:
        return list(film.decode(video=0))


def times(path: Path) -> list[Fraction]:
    """When the frames of a film are shown, in seconds."""
    return [frame.pts * frame.time_base for frame in decoded(path)]


def planes(path: Path) -> list[list[bytes]]:
    """The samples of all frames of a film, as they are stored."""
    return [[bytes(plane) for plane in frame.planes] for frame in decoded(path)]


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Times in seconds and contents of all packets of the first stream of a kind."""
    with av.open(str(path)) as film:
        stream = next(stream for stream in film.streams if stream.type == kind)
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in film.demux(stream)
            if packet.pts is not None
        ]


def heard(path: Path) -> tuple[float, NDArray[np.float32]]:
    """When the first sound of a film begins, in seconds, and its samples: (channels, samples)."""
    with av.open(str(path)) as film:
        frames = list(film.decode(audio=0))
        resampler = av.AudioResampler(format="fltp")
        samples = [part.to_ndarray() for frame in frames for part in resampler.resample(frame)]
        return float(frames[0].pts * frames[0].time_base), np.concatenate(samples, axis=1)


def _frame(given: Any, pixel_format: str, matrix: int, span: int, time: int) -> Any:
    frame = given
    if isinstance(given, np.ndarray):
        frame = av.VideoFrame.from_ndarray(given, format="rgb24" if given.dtype == np.uint8 else "rgb48le")
        swscale = {1: 1, 9: 9}.get(matrix, 5)  # libswscale numbers matrices on its own
        frame = frame.reformat(
            format=pixel_format, dst_colorspace=swscale, src_color_range=2, dst_color_range=span
        )
    frame.pts, frame.time_base = time, TICK
    return frame


def _add_sound(film: Any, codec: str) -> Any:
    stream = film.add_stream(codec, rate=48000)
    stream.codec_context.bit_rate = 128000
    stream.metadata["language"] = "deu"

    def add() -> None:
        for n in range(24):
            wave = np.sin(np.arange(n * 1024, n * 1024 + 1024) / 20).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, n * 1024, Fraction(1, 48000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))

    return add


def said(path: Path) -> list[tuple[Fraction, str]]:
    """What the first subtitles of a film say and when, in seconds; styles as ASS has them."""
    with av.open(str(path)) as film:
        stream = film.streams.subtitles[0]
        return [
            (
                packet.pts * packet.time_base,
                rectangle.ass.decode().split(",", 8)[8].replace(r"{\r}", r"{\i0}"),
            )
            for packet in film.demux(stream)
            if packet.pts is not None
            for rectangle in stream.codec_context.decode2(packet) or ()
        ]


_ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,Arial,16,&Hffffff

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def _add_subtitles(film: Any, codec: str) -> Any:
    is_text = av.codec.Codec(codec, "r").text_sub
    stream = film.add_stream(codec) if is_text else film.add_mux_stream(codec)
    stream.metadata["language"] = "spa"
    stream.time_base = Fraction(1, 1000)
    if is_text:
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.subtitle_header = _ASS_HEADER

    def add() -> None:
        for n, words in enumerate(("One", r"{\i1}Two{\i0} men")):
            packet = av.Packet(bytes(64))
            if is_text:
                event = f"{n},0,Default,,0,0,0,,{words}".encode()
                packet = stream.codec_context.encode_subtitle(
                    av.subtitles.subtitle.SubtitleSet.create(event, 0, 150)
                )
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 40 + 200 * n
            packet.duration = 150
            film.mux(packet)

    return add
