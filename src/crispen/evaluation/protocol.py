"""How a number was measured. Without it a PSNR cannot be compared with anything."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from crispen.errors import UsageError
from crispen.evaluation.metrics import Channel, is_whole

BICUBIC, GIVEN = "MATLAB imresize bicubic", "given folder"
"""Where lr usually comes from."""

LUMA = "BT.601, studio range 16..235, not rounded; a gray picture as three equal channels"
RGB = "RGB as stored; a gray picture as it is"
ROUNDING = "8 bit before measuring"
SSIM_FORM = "Wang et al. 2004: Gaussian window 11x11, sigma 1.5, inside the picture; K 0.01, 0.03; range 255"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Everything besides the method that decides a PSNR and an SSIM.

    The first four fields vary. The others say what crispen always does, so that a report that is read years
    later, or beside another program's, still tells.
    """

    scale: int
    """From lr to hr: 2, 3, 4..."""
    crop_border: int
    """Pixels of hr that are left out along every edge; the field leaves out as many as ``scale``."""
    channel: Channel = "luma"
    """What is measured: "luma" or "rgb"."""
    downsampling: str = BICUBIC
    """Where lr comes from: `BICUBIC`, `GIVEN`, or in words how it is made."""
    rounding: str = ROUNDING
    """What happens to sr before it is measured."""
    ssim_form: str = SSIM_FORM
    """Which of the many SSIMs."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not is_whole(self.scale) or self.scale < 1:
            raise UsageError(f"scale must be a whole number of at least 1, not {self.scale}")
        if not is_whole(self.crop_border) or self.crop_border < 0:
            raise UsageError(f"crop_border must be a whole number of at least 0, not {self.crop_border}")

    @property
    def colours(self) -> str:
        """What ``channel`` means, exactly."""
        return LUMA if self.channel == "luma" else RGB

    def describe(self) -> str:
        """The protocol in words, for a table's caption and for the report."""
        return (
            f"x{self.scale}; lr: {self.downsampling}; sr: {self.rounding}; PSNR and SSIM on {self.channel} "
            f"({self.colours}), {self.crop_border} pixels cropped along every edge; SSIM: {self.ssim_form}"
        )

    def to_dict(self) -> dict[str, str | int]:
        """All fields and the words, as the report stores them."""
        return dataclasses.asdict(self) | {"colours": self.colours, "description": self.describe()}


def standard(scale: int, *, downsampling: str = BICUBIC) -> Protocol:
    """The protocol of the field: luma, and as many pixels cropped as ``scale`` says."""
    return Protocol(scale=scale, crop_border=scale, downsampling=downsampling)
