"""What travels beside a frame's pixels: mostly, what an HDR film says of the display it was made on.

That is SMPTE ST 2086 (the display) and CTA-861.3 (the brightness of the content).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Mastering:
    """The display that a film was graded on, and its brightness; None for what is not stated."""

    primaries: tuple[float, ...] | None = None
    """x and y in CIE 1931 of red, green, blue and white."""
    luminance: tuple[float, float] | None = None
    """The least and the greatest, in cd/m²."""
    light: tuple[int, int] | None = None
    """MaxCLL and MaxFALL, in cd/m² (CTA-861.3)."""

    def x265(self) -> dict[str, str]:
        """The encoder x265's parameters that write this into the stream."""
        return self._parameters("master-display", "max-cll", chroma=50000, luminance=10000)

    def svt_av1(self) -> dict[str, str]:
        """The encoder SVT-AV1's parameters that write this into the stream."""
        return self._parameters("mastering-display", "content-light", chroma=1, luminance=1)

    def _parameters(self, display: str, light: str, *, chroma: int, luminance: int) -> dict[str, str]:
        written: dict[str, str] = {}
        if self.primaries is not None and self.luminance is not None:
            red, green, blue, white = (
                f"({_number(x * chroma)},{_number(y * chroma)})"
                for x, y in zip(self.primaries[::2], self.primaries[1::2], strict=True)
            )
            least, greatest = (_number(level * luminance) for level in self.luminance)
            written[display] = f"G{green}B{blue}R{red}WP{white}L({greatest},{least})"
        if self.light is not None:
            written[light] = f"{self.light[0]},{self.light[1]}"
        return written


def mastering_of(frame: VideoFrame) -> Mastering:
    """Return what a frame says of the display it was made on."""
    primaries, luminance = _display(frame)
    return Mastering(primaries=primaries, luminance=luminance, light=_light(frame))


def has(frame: VideoFrame, name: str) -> bool:
    """Whether there is such data beside a frame; ``name`` is PyAV's."""
    return side_data(frame, name) is not None


def side_data(frame: VideoFrame, name: str) -> bytes | None:
    """Return data beside a frame as FFmpeg lays them out; None where there are none. ``name`` is PyAV's."""
    try:
        kept = cast("list[Any]", list(frame.side_data))  # PyAV's types say that these are their names
        found = next((data for data in kept if data.type.name == name), None)
    except ValueError:  # PyAV gives up where a frame has data of a kind that it does not know
        return None
    return None if found is None else bytes(found)


def _display(frame: VideoFrame) -> tuple[tuple[float, ...] | None, tuple[float, float] | None]:
    """Read FFmpeg's AVMasteringDisplayMetadata: ten fractions and two flags."""
    data = side_data(frame, "MASTERING_DISPLAY_METADATA")
    if data is None:
        return None, None
    *parts, has_primaries, has_luminance = struct.unpack_from("=22i", data)
    numbers = tuple(above / (below or 1) for above, below in zip(parts[::2], parts[1::2], strict=True))
    return numbers[:8] if has_primaries else None, (numbers[8], numbers[9]) if has_luminance else None


def _light(frame: VideoFrame) -> tuple[int, int] | None:
    data = side_data(frame, "CONTENT_LIGHT_LEVEL")
    if data is None:
        return None
    content, average = struct.unpack_from("=2I", data)
    return content, average


def _number(value: float) -> str:
    return f"{round(value, 4):g}" if value < 100 else f"{round(value)}"
