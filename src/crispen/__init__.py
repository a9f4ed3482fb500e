"""crispen makes small pictures large and sharp.

::

    import crispen

    crispen.upscale("photo.jpg")                  # writes photo-x4.png and returns its path
    large = crispen.upscale(array, scale=3.5)     # arrays and PIL pictures: the same kind back

    upscaler = crispen.load("srresnet-x4")        # load once, use for many
    pictures = [upscaler(picture) for picture in pictures]

    small = crispen.resize(array, 1 / 4)          # MATLAB's bicubic, bit for bit
    crispen.psnr(large, truth, crop_border=4), crispen.ssim(large, truth, crop_border=4)
    crispen.models()                              # the bundled models' cards
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crispen.errors import CrispenError

if TYPE_CHECKING:
    from crispen.evaluation.metrics import psnr, ssim
    from crispen.images.matlab import resize
    from crispen.upscaling import Upscaler
    from crispen.zoo import Card

__version__ = "0.1.0"

DEFAULT_MODEL = "srgan-x4-photo"

_MODULE_OF = {
    "psnr": "crispen.evaluation.metrics",
    "ssim": "crispen.evaluation.metrics",
    "resize": "crispen.images.matlab",
}

Runtime = Literal["auto", "openvino", "torch"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

__all__ = ["CrispenError", "__version__", "load", "models", "psnr", "resize", "ssim", "upscale"]


def __getattr__(name: str) -> Any:
    """Import what needs numpy when it is first asked for, so that the command line starts without."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'crispen' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def upscale(
    picture: Any,
    model: str | Path | Card = DEFAULT_MODEL,
    *,
    output: str | Path | None = None,
    force: bool = False,
    scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    strength: float = 1.0,
    ensemble: bool = False,
    consistent: bool = False,
    grain: bool = False,
    wrap: bool = False,
    runtime: Runtime = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
) -> Any:
    """Enlarge one picture. To enlarge many, `load` once.

    Args:
        picture: a path, a PIL image, or an array (H, W) or (H, W, C) of uint8, uint16 or floats in [0, 1].
        model: a bundled model's name or card (see `models`), or the path of a model.
        output: for a path: where to write; by default ``NAME-x4.png`` beside the picture.
        force: for a path: overwrite what is there.
        scale: how many times larger; by default the model's own scale.
        width: of the result in pixels, in place of ``scale``; the height follows, unless it is given too.
        height: of the result in pixels.
        strength: how much detail to add, from 0 (the faithful model's) to 1 (the model's own).
        ensemble: whether the result is the mean over all eight ways to turn and mirror the picture: nearer to the
            truth, in eight times the work; of the bundled models all eight are the same, so that it is left out.
        consistent: whether the result, reduced again, must be the picture.
        grain: whether the result gets as much grain as the photo has.
        wrap: for seamless textures: what leaves on one side goes on at the other.
        runtime: what computes: ``openvino`` (the CPU's default) or ``torch`` (needs ``crispen[train]``).
        device: ``cpu`` or ``cuda``.
        precision: ``auto`` takes bf16 for 8-bit pictures where the processor has it, fp32 otherwise.
        tile: side in input pixels of the pieces that are computed at once; by default from the free memory.

    Returns:
        The same kind as ``picture``: for a path, the path of the written file.

    Raises:
        CrispenError: in one sentence, for whatever cannot be done.
    """
    from crispen.upscaling.sizes import Size

    size = Size(scale=scale, width=width, height=height)
    upscaler: Any = load(
        model, strength=strength, ensemble=ensemble, consistent=consistent, grain=grain, wrap=wrap, runtime=runtime,
        device=device, precision=precision, tile=tile,
    )  # fmt: skip
    return upscaler(picture, output=output, force=force, size=size)


def load(
    model: str | Path | Card = DEFAULT_MODEL,
    *,
    strength: float = 1.0,
    ensemble: bool = False,
    consistent: bool = False,
    grain: bool = False,
    wrap: bool = False,
    runtime: Runtime = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    tile: int | None = None,
) -> Upscaler:
    """Load a model once, to call with many pictures. The arguments are those of `upscale`.

    Raises:
        UsageError: for arguments that cannot be.
        ModelError: for an unknown or damaged model.
        MissingExtra: for the torch runtime where torch is not installed.
    """
    from crispen import zoo
    from crispen.upscaling import Upscaler

    return Upscaler(
        zoo.find(model), strength=strength, ensemble=ensemble, consistent=consistent, grain=grain, wrap=wrap,
        runtime=runtime, device=device, precision=precision, tile=tile,
    )  # fmt: skip


def models() -> list[Card]:
    """The cards of the bundled models: what each is for, its scale, licence, training and measured numbers."""
    from crispen import zoo

    return zoo.models()
