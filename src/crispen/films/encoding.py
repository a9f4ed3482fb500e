"""From frames to encoded packets: one encoder, set up alike for each segment and for the finished film."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crispen.errors import PictureError, UsageError
from crispen.films._av import av, reason, url_of
from crispen.films._scheduling import kept_scheduling
from crispen.films.colour import RGB, LeftSited, from_rgb
from crispen.films.options import CODECS, Coding
from crispen.films.reading import Film

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_MOST_REORDERED = 64  # frames; encoders look ahead by at most 16
# x265 (build 216) counts four units of 16 pixels too many where a row of its lookahead has fewer than four. It writes
# up to 16 bytes past the row, into the heap (so valgrind says, of any depth), which at 34 to 48 pixels and 10 bits ends
# the process. Without cutree it does not.
_NARROW = 48
_QUICKTIME_TAGS = {"hevc": "hvc1"}  # FFmpeg's own choice, hev1, is not played by Apple's players


def add_pictures(
    container: OutputContainer, film: Film, coding: Coding, *, width: int, height: int
) -> VideoStream:
    """Add the stream of the enlarged frames to a container, with all that the film says of its frames.

    Raises:
        UsageError: for a size that the encoder does not take.
        PictureError: where the installed FFmpeg lacks the encoder.
    """
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 would report on stderr all that it does; now, errors
    try:
        stream = container.add_stream(
            coding.encoder, rate=film.rate, options=_options(film, coding, width=width)
        )
    except (av().FFmpegError, ValueError) as error:
        raise PictureError(
            f"{coding.codec} cannot be written: the installed FFmpeg has no {coding.encoder}"
        ) from error
    pictures = cast("VideoStream", stream)
    _describe(pictures, film, coding, width=width, height=height)
    if coding.codec in _QUICKTIME_TAGS and container.format.name in ("mp4", "mov"):
        pictures.codec_context.codec_tag = _QUICKTIME_TAGS[coding.codec]
    try:
        with kept_scheduling():
            pictures.codec_context.open()
    except av().FFmpegError as error:
        raise UsageError(
            f"{coding.codec} cannot hold frames of {width}x{height} pixels with these options: {reason(error)}"
        ) from error
    return pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A finished piece of the film. Times are in units of the film's time base."""

    file: str
    frames: int
    first: int
    """When its first frame is shown."""
    duration: int
    """How long its last frame is shown, where no other follows."""
    delay: int
    """By how many frames the order of decoding runs ahead of the order of showing; see `film_packets`."""
    grain: Sequence[float] = ()
    """What the frames after it depend on; see `crispen.films.showing.Showing`."""


class SegmentWriter:
    """Encodes frames into a file of their own, which begins with a key frame and needs no other."""

    def __init__(self, path: Path, film: Film, coding: Coding, *, width: int, height: int) -> None:
        self._film = film
        self._coding = coding
        self._tag = LeftSited()
        self._times: list[int] = []  # of the packets, in the order of decoding
        self._duration = 0
        self._container = cast(
            "OutputContainer", av().open(url_of(path), "w", format=CODECS[coding.codec].segments)
        )
        self._stream = add_pictures(self._container, film, coding, width=width, height=height)
        self.frames = 0

    def add(self, pixels: RGB, *, time: int, duration: int) -> None:
        """Encode a frame, (H, W, 3); ``time`` and ``duration`` are in units of the film's time base."""
        frame = from_rgb(
            pixels,
            self._film.colours,
            pixel_format=self._coding.pixel_format,
            depth=self._coding.depth,
            tag=self._tag,
        )
        frame.pts, frame.time_base = time, self._film.time_base
        frame.color_primaries, frame.color_trc = self._film.colours.primaries, self._film.colours.transfer
        self._write(cast("list[Packet[Any]]", self._stream.encode(frame)))
        self._duration = duration
        self.frames += 1

    def finish(self, file: str, *, grain: Sequence[float]) -> Segment:
        """Write what the encoder still holds, close the file and describe it: ``file`` is what it will be called."""
        self._write(cast("list[Packet[Any]]", self._stream.encode(None)))
        self._container.close()
        ranks = {time: rank for rank, time in enumerate(sorted(self._times))}
        return Segment(
            file=file,
            frames=self.frames,
            first=min(ranks),
            duration=self._duration,
            delay=max(place - ranks[time] for place, time in enumerate(self._times)),
            grain=grain,
        )

    def close(self) -> None:
        """Close the file as it is, not to be used."""
        self._container.close()

    def _write(self, packets: list[Packet[Any]]) -> None:
        """Keep packets, with times of decoding that rise and come before those of showing.

        They are counted anew for the film. The encoder's own cannot be kept: x265's are garbage where a segment
        has fewer frames than it looks ahead.
        """
        for packet in packets:
            assert packet.pts is not None
            self._times.append(packet.pts)
            packet.dts = self._times[0] - _MOST_REORDERED + len(self._times)
            self._container.mux_one(packet)


def film_packets(
    segments: Sequence[Segment], folder: Path, film: Film, *, shift: Fraction
) -> Iterator[Packet[Any]]:
    """Read segments as one stream, in the order of decoding.

    Encoders count each segment's times of decoding for themselves, so that those of two segments can overlap
    where frames last differently long. Here they are counted anew over the whole film: with a delay of d frames
    the n-th packet is decoded when the (n - d)-th frame is shown. That is never after it is shown itself.

    Args:
        segments: all of the film's, in order.
        folder: where their files are.
        film: whose time base they are in.
        shift: what to take off all times, in seconds.

    Yields:
        Packets with ``pts``, ``dts`` and ``duration`` in the film's time base.
    """
    delay = max(segment.delay for segment in segments)
    offset = round(shift / film.time_base)
    queue: deque[int] = deque()  # times of showing at which no packet has been decoded yet
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        packets = _packets_of(segment, folder, film)
        times = sorted(packets)
        after = following.first if following else times[-1] + segment.duration
        durations = dict(zip(times, np.diff([*times, after]).tolist(), strict=True))
        if segment is segments[0]:
            queue.extend(times[0] - durations[times[0]] * ahead for ahead in range(delay, 0, -1))
        queue.extend(times)
        for time, packet in packets.items():
            packet.time_base, packet.duration = film.time_base, durations[time]
            packet.pts, packet.dts = time - offset, queue.popleft() - offset
            yield packet


def _options(film: Film, coding: Coding, *, width: int) -> dict[str, str]:
    options = dict(coding.options)
    if coding.codec == "hevc":
        parameters = film.mastering.x265() | ({"cutree": "0"} if width <= _NARROW else {})
        options["x265-params"] = ":".join(
            [options["x265-params"], *(f"{name}={value}" for name, value in parameters.items())]
        )
    if coding.codec == "av1" and film.mastering.svt_av1():
        options["svtav1-params"] = ":".join(
            f"{name}={value}" for name, value in film.mastering.svt_av1().items()
        )
    return options


def _describe(stream: VideoStream, film: Film, coding: Coding, *, width: int, height: int) -> None:
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width, height, coding.pixel_format
    context.time_base = stream.time_base = film.time_base
    context.sample_aspect_ratio = film.pixel_aspect
    context.color_range, context.colorspace = film.colours.range, film.colours.matrix
    context.color_primaries, context.color_trc = film.colours.primaries, film.colours.transfer


def _packets_of(segment: Segment, folder: Path, film: Film) -> dict[int, Packet[Any]]:
    """All packets of a segment in the order of decoding, by their times in units of the film's time base.

    A file's times begin at 0 or later, as FFmpeg shifts them where decoding would begin before: only their
    differences count.
    """
    with av().open(url_of(folder / segment.file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    earliest = min(packet.pts for packet in packets)
    return {
        segment.first + round((packet.pts - earliest) * packet.time_base / film.time_base): packet
        for packet in packets
    }
