"""Subtitles from one container's form to another's: words, their times, italics, bold and underlining stay."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from crispen.films._av import av

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.subtitles.codeccontext import SubtitleCodecContext
    from av.subtitles.stream import SubtitleStream

_FORMS = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
"""How each container holds text, by FFmpeg's names."""
_TICK = Fraction(1, 1000)


class Translated:
    """A stream of text that a container holds in a form of its own."""

    def __init__(self, source: SubtitleStream, container: OutputContainer) -> None:
        """Add the stream to the container.

        Raises:
            ValueError: where the subtitles are pictures, or the container holds no text.
        """
        decoder = source.codec_context
        form = _FORMS.get(container.format.name)
        if form is None or not decoder.codec.text_sub:
            raise ValueError
        decoder.open(strict=False)
        self._decoder = decoder
        self.stream = cast("Stream", container.add_stream(cast(Any, form)))
        self._encoder = cast("SubtitleCodecContext", cast(Any, self.stream).codec_context)
        self._encoder.subtitle_header = decoder.subtitle_header
        self._encoder.time_base = self.stream.time_base = _TICK

    def __call__(self, packet: Packet[Any]) -> Packet[Any] | None:
        """Return the words of a packet in the container's form, at the same time; None where it has none."""
        try:
            words = self._decoder.decode2(packet)
            if words is None:
                return None
            translated = cast("Packet[Any]", self._encoder.encode_subtitle(words))
        except av().FFmpegError:  # damaged
            return None
        translated.time_base = packet.time_base
        translated.pts, translated.dts, translated.duration = packet.pts, packet.dts, packet.duration
        return translated
