"""From a film's file to its facts and its frames."""

from __future__ import annotations

import math
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from crispen.errors import PictureError
from crispen.films import hdr
from crispen.films._av import av, reason, url_of
from crispen.films.colour import RGB, Colours, LeftSited, chroma_of, colours_of, depth_of, to_rgb

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_DEFAULT_RATE = Fraction(25)  # where a film says nothing of time, as raw streams do
# Decoders of these say nothing of where chroma lies; where their standards name a usual place, it is the left.
_UNSITED = {"vp8", "vp9", "libvpx", "libvpx-vp9", "libdav1d", "av1", "ffv1", "rawvideo", "theora"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """How to turn decoded pixels so that they stand upright: first swapped, then mirrored."""

    swap: bool = False
    """Whether rows become columns."""
    mirror_x: bool = False
    mirror_y: bool = False

    def __call__(self, pixels: RGB) -> RGB:
        """Return (H, W, C) turned, as a view."""
        turned = pixels.swapaxes(0, 1) if self.swap else pixels
        return turned[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What is known of a film before its frames are decoded, as it is shown: upright."""

    path: Path
    stream: int
    """The index of the stream that is enlarged."""
    width: int
    height: int
    time_base: Fraction
    """Seconds for one unit of the frames' times."""
    rate: Fraction
    """Frames per second, on average."""
    frames: int | None
    """How many there are; None where the file does not say."""
    seconds: float | None
    """Its duration; None where the file does not say."""
    depth: int
    """Bits per sample."""
    chroma: str
    """``420``, ``422`` or ``444``."""
    colours: Colours
    pixel_aspect: Fraction
    """Width of a pixel over its height; 1 where nothing is said."""
    turn: Turn
    """What was to be done to the decoded pixels."""
    left_sited: bool
    """Whether its frames do not say that their chroma lies at the left, which it does."""
    mastering: hdr.Mastering
    """What an HDR film says of the display it was made on."""
    first: int
    """The time of the first frame, in units of the time base."""
    interlaced: bool
    captions: bool
    """Whether there are closed captions inside the pictures' stream."""

    @property
    def in_square_pixels(self) -> tuple[int, int]:
        """Width and height of the largest picture of its shape, with square pixels, that enlarges no side."""
        width, height = self.width * min(1, self.pixel_aspect), self.height / max(1, self.pixel_aspect)
        return max(1, round(width)), max(1, round(height))


def probe(path: Path, *, max_megapixels: float = math.inf) -> Film:
    """Open a film and decode its first frame.

    Raises:
        PictureError: for a file that cannot be read, is no film, says that its frames are larger than
            ``max_megapixels``, or has no frame that can be decoded.
        MissingExtra: where PyAV is not installed.
    """
    with opened(path) as container:
        stream = main_stream(path, container)
        _check_size(path, stream, max_megapixels=max_megapixels)
        frame = next(_decoded(path, container, stream, []), None)
        if frame is None:
            raise PictureError(f"{path} cannot be enlarged: it has no frame that can be decoded")
        return _facts(path, container, stream, frame)


@contextmanager
def opened(path: Path) -> Generator[InputContainer]:
    """Open a film for reading, and close it at the end.

    Raises:
        PictureError: for a file that cannot be read.
    """
    try:
        container = av().open(url_of(path), metadata_errors="replace")
    except av().FFmpegError as error:
        raise PictureError(f"{path} cannot be read as a film: {reason(error)}") from error
    with container:
        yield cast("InputContainer", container)


def frames(
    film: Film, *, start: float | None, end: float | None, notes: list[str]
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the frames from ``start`` until ``end``, in seconds from the film's first frame.

    Yields:
        Each frame's time, in units of the film's time base, and the frame. Times rise strictly: a frame without
        one comes a unit of the film's rate after the one before it, and one whose time does not rise comes at once.

    What cannot be decoded is passed over and said in ``notes``.
    """
    first, last = (
        None if seconds is None else film.first + seconds / film.time_base for seconds in (start, end)
    )
    for time, frame in _in_time(film, _decoded_from(film, first, notes)):
        if last is not None and time >= last:
            return
        if first is None or time >= first:
            yield time, frame


def frame_at(film: Film, seconds: float) -> VideoFrame:
    """Return the frame that is shown ``seconds`` after the film's first.

    Raises:
        PictureError: where the film is over by then.
    """
    wanted = film.first + seconds / film.time_base
    shown: VideoFrame | None = None
    time = film.first
    for following, frame in _in_time(film, _decoded_from(film, wanted, [])):
        if following > wanted and shown is not None:
            return shown
        time, shown = following, frame
    if shown is None or wanted >= time + duration_of(film, shown):
        raise PictureError(
            f"{film.path} has no frame at {seconds:g} s: its last begins at {_seconds(film, time):g} s"
        )
    return shown


def duration_of(film: Film, frame: VideoFrame) -> int:
    """Return how long a frame is shown by what it says, in units of the film's time base; at least 1."""
    return frame.duration or round(1 / (film.rate * film.time_base)) or 1


def _seconds(film: Film, time: int) -> float:
    return float((time - film.first) * film.time_base)


def pixels_of(film: Film, frame: VideoFrame, tag: LeftSited) -> RGB:
    """Return a film's frame as upright RGB, (height, width, 3): uint8 or, for more than 8 bits, uint16."""
    width, height = (film.height, film.width) if film.turn.swap else (film.width, film.height)
    sited = tag(frame) if film.left_sited else frame
    return film.turn(to_rgb(sited, film.colours, width=width, height=height))


def is_transparent(frame: VideoFrame) -> bool:
    """Whether anything can be seen through a frame; an alpha channel alone, as any GIF has, does not tell."""
    form = frame.format
    if not (form.has_palette or any(component.is_alpha for component in form.components)):
        return False
    return bool(frame.to_ndarray(format="rgba")[..., 3].min() < 255)


def main_stream(path: Path, container: InputContainer) -> VideoStream:
    """Return the stream that is the film: the first that is not a cover; raise `PictureError` where there is none."""
    videos = container.streams.video
    if not videos:
        raise PictureError(f"{path} cannot be enlarged: there are no pictures in it, only {_held(container)}")
    return next((stream for stream in videos if not is_cover(stream)), videos[0])


def _check_size(path: Path, stream: VideoStream, *, max_megapixels: float) -> None:
    """Refuse a film that says its frames are too large, before one is decoded."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_megapixels * 1e6:
        raise PictureError(
            f"{path} says that it is {width}x{height} pixels, above the limit of {max_megapixels:g} megapixels"
        )


def is_cover(stream: Stream) -> bool:
    """Whether a stream is one picture that stands for the film."""
    return bool(stream.disposition & av().stream.Disposition.attached_pic)


def _held(container: InputContainer) -> str:
    return " and ".join(dict.fromkeys(stream.type for stream in container.streams)) or "nothing"


def _facts(path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> Film:
    turn = _turn(frame)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    duration = (
        None if stream.duration is None or stream.time_base is None else stream.duration * stream.time_base
    )
    if duration is None and container.duration is not None:
        duration = Fraction(container.duration, av().time_base)
    rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
    sides = (frame.height, frame.width) if turn.swap else (frame.width, frame.height)
    return Film(
        path=path,
        stream=stream.index,
        width=sides[0],
        height=sides[1],
        time_base=stream.time_base or 1 / rate,
        rate=rate,
        frames=_count(container, stream),
        seconds=None if duration is None else float(duration),
        depth=depth_of(frame),
        chroma=chroma_of(frame),
        colours=colours_of(frame, path),
        pixel_aspect=1 / aspect if turn.swap else aspect,
        turn=turn,
        left_sited=stream.codec_context.name in _UNSITED and chroma_of(frame) != "444",
        mastering=hdr.mastering_of(frame),
        first=_time_of(frame) or 0,
        interlaced=frame.interlaced_frame,
        captions=hdr.has(frame, "A53_CC"),
    )


def _count(container: InputContainer, stream: VideoStream) -> int | None:
    """How many frames are shown, where the file says so."""
    if container.format.name == "avi":  # which counts the empty pieces, too, by which a frame is shown longer
        return None
    if stream.frames and "mp4" in container.format.name:  # which counts what an edit list hides, too
        return sum(not entry.is_discard for entry in stream.index_entries) or None
    return stream.frames or None


def _turn(frame: VideoFrame) -> Turn:
    """What a display matrix asks for: x' = a x + c y and y' = b x + d y. Only right angles can be met."""
    data = hdr.side_data(frame, "DISPLAYMATRIX")
    if data is None:
        return Turn()
    a, b, _, c, d = struct.unpack_from("=5i", data)
    if abs(a) >= abs(c):
        return Turn(mirror_x=a < 0, mirror_y=d < 0)
    return Turn(swap=True, mirror_x=c < 0, mirror_y=b < 0)


def _time_of(frame: VideoFrame) -> int | None:
    return frame.dts if frame.pts is None else frame.pts


def _decoded_from(film: Film, first: Fraction | float | None, notes: list[str]) -> Iterator[VideoFrame]:
    """Decode from a key frame at or before ``first``; from the beginning where the film cannot be entered there."""
    if first is not None:
        with opened(film.path) as container:
            decoded = _sought(film, container, int(first), notes)
            frame = next(decoded, None)
            time = None if frame is None else frame.pts
            if frame is not None and time is not None and time <= first:
                yield frame
                yield from decoded
                return
    with opened(film.path) as container:
        yield from _decoded(film.path, container, _stream(film, container), notes)


def _sought(film: Film, container: InputContainer, time: int, notes: list[str]) -> Iterator[VideoFrame]:
    stream = _stream(film, container)
    try:
        container.seek(time, stream=stream)
    except av().FFmpegError:  # raw streams, pipes: nothing to find one's way by
        return
    yield from _decoded(film.path, container, stream, notes)


def _stream(film: Film, container: InputContainer) -> VideoStream:
    return cast("VideoStream", container.streams[film.stream])


def _decoded(
    path: Path, container: InputContainer, stream: VideoStream, notes: list[str]
) -> Iterator[VideoFrame]:
    """Decode all there is, past damage, and say in ``notes`` how much of it there was."""
    lost = 0
    for packet in _packets(path, container, stream, notes):
        try:
            decoded = stream.decode(packet)
        except av().FFmpegError:
            lost += 1
            continue
        yield from decoded
    if lost:
        notes.append(f"{path} is damaged: {lost} of its frames could not be decoded and are left out")


def _packets(
    path: Path, container: InputContainer, stream: VideoStream, notes: list[str]
) -> Iterator[Packet[Any] | None]:
    """Read a stream's packets; None, which makes the decoder give its last frames, where reading fails."""
    try:
        yield from container.demux(stream)
    except av().FFmpegError as error:
        notes.append(f"{path} is damaged: it can be read only in part ({reason(error)})")
        yield None


def _in_time(film: Film, decoded: Iterator[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
    """Give each frame a time, in units of the time base, that is later than the one before."""
    step = round(1 / (film.rate * film.time_base)) or 1
    last: int | None = None
    for frame in decoded:
        time = _time_of(frame)
        if time is None:
            time = film.first if last is None else last + step
        if last is not None and time <= last:
            time = last + 1
        last = time
        yield time, frame
