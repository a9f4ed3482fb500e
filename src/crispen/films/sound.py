"""Sound of codecs that a container does not hold, as plain samples: larger, and heard as before."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from crispen.films._av import av

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream

_FORMS = {"s16": ("pcm_s16le", "<i2"), "s32": ("pcm_s32le", "<i4")}
"""What samples are written as: FFmpeg's name and NumPy's."""


class Unpacked:
    """A stream of samples of 16 bits, or 32 where the codec has as many."""

    def __init__(self, source: AudioStream, container: OutputContainer) -> None:
        """Add the stream to the container.

        Raises:
            ValueError: where FFmpeg does not decode the sound, or the container is not Matroska, in which alone
                samples are played by whatever plays the container.
        """
        decoder = source.codec_context
        if container.format.name != "matroska" or not (decoder and decoder.format and decoder.sample_rate):
            raise ValueError
        depth = "s32" if decoder.format.name in ("s32", "s32p") else "s16"
        form, self._samples = _FORMS[depth]
        self.stream = cast("Stream", container.add_stream(cast(Any, form), rate=decoder.sample_rate))
        context = cast("AudioStream", self.stream).codec_context
        context.layout, context.format = decoder.layout, depth
        self._decoder = decoder
        self._resampler = av().AudioResampler(format=depth, layout=decoder.layout, rate=decoder.sample_rate)
        self._base, self._end = Fraction(1), 0

    def __call__(self, packet: Packet[Any]) -> Packet[Any] | None:
        """Return the samples that the decoder gives for a packet, at their time; None where it gives none."""
        assert packet.pts is not None
        self._base, self._end = packet.time_base, max(self._end, packet.pts)
        return self._decoded(packet)

    def rest(self) -> Packet[Any] | None:
        """Return what the decoder still holds after the last packet."""
        return self._decoded(None)

    def _decoded(self, packet: Packet[Any] | None) -> Packet[Any] | None:
        try:
            frames = self._decoder.decode(packet)
            samples = [part.to_ndarray() for frame in frames for part in self._resampler.resample(frame)]
        except (av().FFmpegError, ValueError):  # damaged
            return None
        if not samples:
            return None
        content = b"".join(each.astype(self._samples).tobytes() for each in samples)
        unpacked = cast("Packet[Any]", av().Packet(content))
        unpacked.time_base = self._base
        unpacked.pts = unpacked.dts = self._end if frames[0].pts is None else frames[0].pts
        count = sum(frame.samples for frame in frames)
        unpacked.duration = round(Fraction(count, self._decoder.sample_rate) / self._base)
        self._end = unpacked.pts + unpacked.duration
        return unpacked
