"""From finished segments to the film: joined without loss, with all that was beside the frames."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from crispen.errors import CrispenError, PictureError
from crispen.films._av import av, reason, url_of
from crispen.films.encoding import Segment, add_pictures, film_packets
from crispen.films.options import SUFFIXES, Coding, Options
from crispen.films.reading import Film, is_cover, main_stream, opened
from crispen.films.sound import Unpacked
from crispen.films.subtitles import Translated

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.container.core import Chapter
    from av.packet import Packet
    from av.stream import AttachmentStream, Stream
    from av.subtitles.stream import SubtitleStream
    from av.video.stream import VideoStream

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# What says something of the old file or of its encoding, and would be wrong of the new one.
_OUTDATED = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "bps",
    "number_of_bytes",
}
_GAP = b"\0\0"  # what MP4 has between subtitles; FFmpeg writes it anew
_COVER_TYPES = {"mjpeg": ("image/jpeg", "cover.jpg"), "png": ("image/png", "cover.png")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is kept of a film, in seconds by the film's own clock."""

    begin: Fraction | None
    """None for the film's beginning, whatever its time is."""
    end: Fraction | None
    """None for the film's end."""
    shift: Fraction
    """What to take off all times. They stay as they are but in a part and in broadcasts, which begin anywhere."""

    def clip(self, start: Fraction, end: Fraction) -> tuple[Fraction, Fraction] | None:
        """Return what is kept of a stretch of time, shifted; None where nothing is."""
        if self.begin is not None:
            start, end = max(start, self.begin), max(end, self.begin)
        if self.end is not None:
            start, end = min(start, self.end), min(end, self.end)
        cut = (self.begin, self.end) != (None, None)
        return None if cut and start >= end else (start - self.shift, end - self.shift)


@dataclass(frozen=True, slots=True)
class Copy:
    """A stream of the new film that has everything of one of the old."""

    stream: Stream
    translate: Callable[[Packet[Any]], Packet[Any] | None] | None = None
    """What brings packets into the container's own form, None for those that have nothing to say."""
    rest: Callable[[], Packet[Any] | None] | None = None
    """What gives a last packet after all others, if there is one."""


def usual_suffix(path: Path) -> str:
    """Return how the name of a film's result ends by default: as the film's own, where films are written so.

    Others become ``.mp4`` or, where that cannot hold as much of them, ``.mkv``; what cannot be read is an ``.mp4``.
    """
    if path.suffix.lower() in SUFFIXES:
        return path.suffix
    with suppress(CrispenError):  # said when the film's turn comes
        lost = left_out(path, ".mp4")
        if lost and len(left_out(path, ".mkv")) < len(lost):
            return ".mkv"
    return ".mp4"


def left_out(path: Path, suffix: str) -> list[str]:
    """Return what of a film there is no place for in a container, named by its ending, in words.

    Raises:
        PictureError: for a film that cannot be read, or that has no pictures.
    """
    with opened(path) as source:
        pictures = main_stream(path, source)
        others = [stream for stream in source.streams if stream.index != pictures.index]
        try:
            with av().open(BytesIO(), "w", format=_FORMATS[suffix]) as opened_target:
                container = cast("OutputContainer", opened_target)
                named = [_keep(container, source, path, stream, {}) for stream in others]
        except av().FFmpegError as error:
            raise PictureError(f"{path} cannot be read as a film: {reason(error)}") from error
    return [name for name in named if name is not None]


def assemble(
    target: Path,
    segments: Sequence[Segment],
    folder: Path,
    film: Film,
    *,
    coding: Coding,
    size: tuple[int, int],
    options: Options,
) -> None:
    """Write the film, without what `left_out` says.

    Args:
        target: the file to write.
        segments: the finished segments, in order.
        folder: where the segments' files are.
        film: from which everything but the frames is copied.
        coding: how the segments are encoded.
        size: width and height of the enlarged frames.
        options: what was asked for.

    Raises:
        FFmpegError: where the file cannot be written.
    """
    form = _FORMATS[target.suffix.lower()]
    with opened(film.path) as source, av().open(url_of(target), "w", format=form) as opened_target:
        container = cast("OutputContainer", opened_target)
        part = _part(segments, film, source, options)
        pictures, copies = _add_streams(container, source, film, coding=coding, size=size)
        _copy_facts(container, source, part, options)
        encoded = _sent(film_packets(segments, folder, film, shift=part.shift), pictures)
        for packet in heapq.merge(encoded, _copied(source, container, copies, part), key=_decoding_time):
            container.mux_one(packet)


def _part(segments: Sequence[Segment], film: Film, source: InputContainer, options: Options) -> Part:
    begin = None if options.start is None else segments[0].first * film.time_base
    end = None if options.end is None else film.first * film.time_base + Fraction(options.end)
    broadcast = source.format.flags & av().format.Flags.ts_discont.value
    start = Fraction(source.start_time or 0, av().time_base) if broadcast else Fraction(0)
    return Part(begin=begin, end=end, shift=start if begin is None else begin)


def _add_streams(
    container: OutputContainer, source: InputContainer, film: Film, *, coding: Coding, size: tuple[int, int]
) -> tuple[VideoStream, dict[int, Copy]]:
    """Add all streams in the film's order.

    Returns:
        That of the frames; and the others by the index of what they are copies of.
    """
    pictures: VideoStream | None = None
    copies: dict[int, Copy] = {}
    for stream in source.streams:
        if stream.index == film.stream:
            pictures = add_pictures(container, film, coding, width=size[0], height=size[1])
            _copy_tags(stream, pictures)
        else:
            _keep(container, source, film.path, stream, copies)
    assert pictures is not None
    return pictures, copies


def _keep(
    container: OutputContainer, source: InputContainer, path: Path, stream: Stream, copies: dict[int, Copy]
) -> str | None:
    """Add what a stream beside the frames has; return what it is called where the container has no place for it."""
    if stream.type == "attachment" or (stream.type == "video" and is_cover(stream)):
        return _keep_attachment(container, path, stream, copies)
    if stream.type == "data" and stream.name == "bin_data" and source.chapters():
        return None  # how MP4 writes chapters, once more
    return _keep_copy(container, stream, copies)


def _keep_copy(container: OutputContainer, stream: Stream, copies: dict[int, Copy]) -> str | None:
    """Add the copy of a stream; see `_keep`."""
    try:
        if stream.type not in ("audio", "subtitle") and not is_cover(stream):
            raise ValueError
        copy = _copy(container, stream)
    except ValueError:
        return f"{stream.type} ({_kind(stream)})"
    _copy_tags(stream, copy.stream)
    copies[stream.index] = copy
    return None


def _copy(container: OutputContainer, stream: Stream) -> Copy:
    """Add a stream that takes another's packets; raise `ValueError` where the container can hold none of the kind."""
    try:
        return Copy(container.add_stream_from_template(stream, opaque=True))
    except ValueError:
        if stream.type not in ("audio", "subtitle"):
            raise
    if stream.type == "audio":
        unpacked = Unpacked(cast("AudioStream", stream), container)
        return Copy(unpacked.stream, unpacked, unpacked.rest)
    translated = Translated(cast("SubtitleStream", stream), container)
    return Copy(translated.stream, translated)


def _kind(stream: Stream) -> str:
    """What a stream is called that has a codec, a name, or neither."""
    codec = getattr(stream, "codec_context", None)
    return codec.codec.canonical_name if codec is not None else stream.name or "of a kind unknown"


def _keep_attachment(
    container: OutputContainer, path: Path, stream: Stream, copies: dict[int, Copy]
) -> str | None:
    """Keep a font or a cover; see `_keep`. Matroska holds covers as files that are attached, too."""
    if container.format.name == "matroska":
        kind, usual = _COVER_TYPES.get(stream.name or "", ("application/octet-stream", "attachment"))
        name, kind = stream.metadata.get("filename", usual), stream.metadata.get("mimetype", kind)
        data = cast("AttachmentStream", stream).data if stream.type == "attachment" else _cover(path, stream)
        container.add_attachment(name, kind, data)
        return None
    if stream.type == "video" and container.format.name in ("mp4", "mov"):
        return _keep_copy(container, stream, copies)
    return f"{stream.type} ({stream.metadata.get('filename', stream.name)})"


def _cover(path: Path, stream: Stream) -> bytes:
    """The picture in a stream that is a cover."""
    with opened(path) as container:
        return bytes(next(iter(container.demux(container.streams[stream.index]))))


def _copy_tags(stream: Stream, copy: Stream) -> None:
    copy.metadata.update(_lasting(stream.metadata))
    copy.disposition = stream.disposition


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    def outdated(name: str) -> bool:
        stem = name.lower().split("-")[0]
        return stem in _OUTDATED or stem.startswith("_statistics")

    return {name: value for name, value in metadata.items() if not outdated(name)}


def _copy_facts(container: OutputContainer, source: InputContainer, part: Part, options: Options) -> None:
    """Copy what is said of the whole film, and its chapters."""
    container.metadata.update(_lasting(source.metadata))
    if options.comment is not None:
        container.metadata["comment"] = options.comment
    chapters: list[Chapter] = []
    for chapter in source.chapters():
        base = chapter["time_base"] or Fraction(1, av().time_base)
        kept = part.clip(chapter["start"] * base, chapter["end"] * base)
        if kept is not None:
            chapter["start"], chapter["end"] = (round(time / base) for time in kept)
            chapters.append(chapter)
    container.set_chapters(chapters)


def _sent(packets: Iterable[Packet[Any]], stream: Stream) -> Iterator[Packet[Any]]:
    """Address packets to a stream."""
    for packet in packets:
        packet.stream = stream
        yield packet


def _copied(
    source: InputContainer, container: OutputContainer, copies: dict[int, Copy], part: Part
) -> Iterator[Packet[Any]]:
    """Read the packets of all streams that are copied, in time and addressed; as far as the film can be read."""
    if not copies:
        return  # to demux no streams is for PyAV to demux all
    strictly = not container.format.flags & av().format.Flags.ts_nonstrict.value
    last: dict[int, int] = {}
    with suppress(av().FFmpegError):  # what is damaged was said when the frames were read
        for packet in source.demux(*(source.streams[index] for index in copies)):
            index = packet.stream.index
            subtitle = source.streams[index].type == "subtitle"
            if (packet.dts is None and packet.pts is None) or (subtitle and bytes(packet) == _GAP):
                continue
            if _clip(packet, part, fade=subtitle):
                packet.dts = max(cast(int, packet.dts), last.get(index, -(1 << 62)) + strictly)
                packet.pts = max(cast(int, packet.pts), packet.dts)
                last[index] = packet.dts
                copy = copies[index]
                yield from _readdressed(copy.translate(packet) if copy.translate else packet, copy)
    for copy in copies.values():
        if copy.rest is not None:
            yield from _readdressed(copy.rest(), copy)


def _readdressed(packet: Packet[Any] | None, copy: Copy) -> Iterator[Packet[Any]]:
    """Send a packet to its copy, if there is one."""
    if packet is not None:
        packet.stream = copy.stream
        yield packet


def _clip(packet: Packet[Any], part: Part, *, fade: bool) -> bool:
    """Bring a packet's times to the new film's; False where it has no place there.

    ``fade`` is for what can begin in the middle, as subtitles can and sound cannot.
    """
    base = packet.time_base
    time = cast(int, packet.dts if packet.pts is None else packet.pts)
    kept = part.clip(time * base, (time + max(packet.duration or 0, 1)) * base)
    if kept is None or (not fade and part.begin is not None and time * base < part.begin):
        return False
    decoding = time if packet.dts is None else packet.dts
    packet.pts = round(kept[0] / base)
    packet.dts = packet.pts + min(decoding - time, 0) if not fade else packet.pts
    if fade and packet.duration:
        packet.duration = round(kept[1] / base) - packet.pts
    return True


def _decoding_time(packet: Packet[Any]) -> Fraction:
    return cast(int, packet.dts) * packet.time_base
