"""A model that is loaded once and enlarges whatever it is called with."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from crispen import images, runtimes, tiling, zoo
from crispen.errors import PictureError, UsageError
from crispen.images import NO_OVERHANG, Header, Overhang, Picture
from crispen.runtimes import Blend, Choice, Device, Precision, Runtime, RuntimeName
from crispen.upscaling import memory, wrapping
from crispen.upscaling.consistent import REACH, ConsistentRuntime
from crispen.upscaling.enlargement import ALPHA_REACH, Enlargement, enlarged
from crispen.upscaling.ensemble import EnsembleRuntime
from crispen.upscaling.grain import NO_GRAIN, Grain, Noise, missing_grain
from crispen.upscaling.naming import default_output
from crispen.upscaling.rows import BledRows, PictureRows, Readable, Rows, SourceRows
from crispen.upscaling.sizes import MODELS_SIZE, Dimensions, Size, passes
from crispen.upscaling.survey import in_strips, survey
from crispen.upscaling.wrapping import WrappedRows
from crispen.zoo import Model

if TYPE_CHECKING:
    from PIL import Image


class Upscaler:
    """Enlarges pictures with one model, loaded once. Threads may share it.

    Args:
        model: what to compute; see `crispen.zoo.find`.
        runtime: ``openvino``, ``torch``, or ``auto``; see `crispen.runtimes.choose`.
        device: ``cpu``, ``cuda``, or ``auto``.
        precision: ``bf16``, ``fp32``, or ``auto``: bf16 for 8-bit pictures where the device has units for it,
            fp32 for 16-bit and float pictures, in which its rounding could be seen.
        tile: bound on the side, in input pixels, of the pieces that are computed at once; see
            `crispen.tiling.plan`. By default it follows from the free memory. It does not change the result.
        strength: how much detail a GAN may add: 1 is the model itself, 0 the faithful one that its card names,
            and between them lie weights between theirs.
        ensemble: whether the result is the mean over all eight ways to turn and mirror the picture, in eight times the
            work; see `crispen.upscaling.ensemble`. Left out where the model's card says that all eight are the same.
        consistent: whether the result, reduced again, must be the picture; see `crispen.upscaling.consistent`.
        wrap: whether pictures are seamless textures, which go on at the opposite border.
        grain: whether results get as much grain as the picture has; see `crispen.upscaling.grain`.

    Raises:
        UsageError: for arguments that cannot be, and for ``grain`` in a result that is to be ``consistent``.
        ModelError: for a model without the file that the runtime needs.
        MissingExtra: for the torch runtime where torch is not installed.
    """

    def __init__(
        self,
        model: Model,
        *,
        runtime: RuntimeName = "auto",
        device: Device = "auto",
        precision: Precision = "auto",
        tile: int | None = None,
        strength: float = 1.0,
        ensemble: bool = False,
        consistent: bool = False,
        wrap: bool = False,
        grain: bool = False,
    ) -> None:
        _check_tile(tile)
        if consistent and grain:
            raise UsageError("grain cannot be had with consistent: the picture does not have what it adds")
        self.model = model
        self._choice = runtimes.choose(model, runtime=runtime, device=device, precision=precision)
        self._exact_when_deep = precision == "auto"
        self._blend = blend_towards(model, strength)
        blended = [model] if self._blend is None else [model, self._blend.faithful]
        self.ensemble = ensemble and not all(each.is_equivariant for each in blended)
        """Whether results are means over all symmetries of the picture."""
        self._consistent = consistent
        self.wrap = wrap
        """Whether pictures are taken to be seamless textures."""
        self.grain = grain
        """Whether results are to have the grain of their pictures."""
        self._tile = tile
        self._open: dict[Choice, Runtime] = {}
        self._opening = threading.Lock()

    @property
    def scale(self) -> int:
        """Pixels of the result for each pixel of the picture, along one side."""
        return self.model.scale

    @property
    def description(self) -> str:
        """What computes 8-bit pictures: runtime, device and precision, for reports."""
        return self._opened(self._choice).description

    @property
    def identity(self) -> str:
        """All that results depend on beside the picture: what was begun with another must not be gone on with."""
        start = f"{self._blend.faithful.weights_sha256} {self._blend.strength}" if self._blend else ""
        return f"{self.model.weights_sha256} {start} {self.description} wrap={self.wrap} grain={self.grain}"

    @overload
    def __call__(
        self,
        picture: str | os.PathLike[str],
        *,
        output: str | os.PathLike[str] | None = None,
        force: bool = False,
        size: Size = MODELS_SIZE,
    ) -> Path: ...

    @overload
    def __call__(self, picture: Picture, *, size: Size = MODELS_SIZE) -> Picture: ...

    @overload
    def __call__(self, picture: NDArray[Any], *, size: Size = MODELS_SIZE) -> NDArray[Any]: ...

    @overload
    def __call__(self, picture: Image.Image, *, size: Size = MODELS_SIZE) -> Image.Image: ...

    def __call__(
        self,
        picture: object,
        *,
        output: str | os.PathLike[str] | None = None,
        force: bool = False,
        size: Size = MODELS_SIZE,
    ) -> object:
        """Enlarge a picture of any kind and return the same kind.

        Args:
            picture: a path; a PIL image; an array that `crispen.images.from_array` takes; a `Picture`.
            output: for a path: where to write, a file or a folder that exists; by default `default_output`.
            force: for a path: whether to overwrite what is there.
            size: how large the result is to be; by default what the model makes.

        Returns:
            The enlarged picture; for a path, the path that was written.

        Raises:
            UsageError: for anything else, and for an output of an unknown format.
            PictureError: for a file that cannot be read or written, and a result too large for the memory.
            ModelError: for damaged files of the model.
        """
        if isinstance(picture, str | os.PathLike):
            path = _path(cast(object, picture), subject="a picture")
            return self._enlarge_file(path, output=output, force=force, size=size)
        if output is not None or force:
            raise UsageError("output and force are for paths: other pictures are returned, not written")
        if isinstance(picture, Picture):
            return self._enlarged(picture, size)
        if isinstance(picture, np.ndarray):
            array = cast(NDArray[Any], picture)
            return images.to_array(self._enlarged(images.from_array(array), size), like=array)
        if images.is_pil(picture):
            image = cast("Image.Image", picture)
            return images.to_pil(self._enlarged(images.from_pil(image), size), like=image)
        raise UsageError(f"a picture must be a path, a PIL image or an array, not a {type(picture).__name__}")

    def enlarge(self, picture: Picture, *, grain: Grain | None = None) -> Enlargement:
        """Prepare the enlargement of a picture in memory, to be done tile by tile.

        Args:
            picture: the picture.
            grain: what is added; by default, where the upscaler keeps grain, what the result would lack.

        Raises:
            PictureError: for a result that is too large for the memory.
            ModelError: for damaged files of the model.
        """
        seen = survey(in_strips(picture), noise=self.grain and grain is None)
        if seen.noise is not None:
            grain = missing_grain(seen.noise, lambda sample: self.enlarge(sample, grain=NO_GRAIN).result)
        return self._enlargement(
            PictureRows(picture), whole=True, binary_alpha=seen.binary_alpha, grain=grain or NO_GRAIN
        )

    def enlarge_source(
        self,
        source: Readable,
        *,
        binary_alpha: bool = False,
        grain: Grain = NO_GRAIN,
        overhang: Overhang = NO_OVERHANG,
    ) -> Enlargement:
        """Prepare the enlargement of a picture that is read downwards; neither it nor the result is ever held whole.

        With ``wrap`` the picture is.

        Args:
            source: see `crispen.images.open`.
            binary_alpha: whether its alpha channel, if any, is 0 or full everywhere; see `crispen.images.is_binary`.
            grain: what is added; only who has seen the whole picture can tell what the result would lack.
            overhang: with ``wrap``, how much of the texture's repetitions is enlarged around it.

        Raises:
            ModelError: for damaged files of the model.
        """
        return self._enlargement(
            SourceRows(source), whole=False, binary_alpha=binary_alpha, grain=grain, overhang=overhang
        )

    def grain_of_passes(self, small: Header, wanted: Dimensions, noise: Noise | None) -> list[Grain]:
        """Tell what to add in each pass through the network, from ``small`` to the size ``wanted``.

        That is nothing in all but the last, and nowhere without ``noise``, which is that of the small picture.
        """
        count = passes(small.width, small.height, wanted, scale=self.scale)
        if noise is None or not count:
            return [NO_GRAIN] * count

        def enlarge(sample: Picture) -> Picture:
            width = max(1, round(sample.width * wanted.width / small.width))
            height = max(1, round(sample.height * wanted.height / small.height))
            for _ in range(count):
                sample = self.enlarge(sample, grain=NO_GRAIN).result
            return images.resized(sample, width=width, height=height)

        area = small.width * small.height * self.scale ** (2 * count)
        coarseness = math.sqrt(area / (wanted.width * wanted.height))
        return [NO_GRAIN] * (count - 1) + [missing_grain(noise, enlarge, coarseness=coarseness)]

    def _enlargement(
        self, small: Rows, *, whole: bool, binary_alpha: bool, grain: Grain, overhang: Overhang = NO_OVERHANG
    ) -> Enlargement:
        if self.wrap:
            small = WrappedRows(small, overhang)
            grain = replace(grain, texture=small.texture.scaled(self.scale))
        if small.header.has_alpha:
            small = BledRows(small)
        choice = self._choice_for(small.header.bit_depth)
        runtime = self._opened(choice)
        large = enlarged(small.header, scale=self.scale)
        left = memory.left_beside(large) if whole else runtimes.free_memory("cpu")
        context = max(self.model.context, ALPHA_REACH) + (REACH if self._consistent else 0)
        tile = self._tile or memory.square_tile(
            left if choice.device == "cpu" else runtimes.free_memory(choice.device),
            context=context,
            cost=memory.cost_of(choice, self.model),
        )
        multiple = runtimes.width_multiple(choice)
        tiles = (wrapping.plan if self.wrap else tiling.plan)(
            small.header.height,
            small.header.width,
            tile=tile,
            tile_height=tile if whole else memory.band_height(large, scale=self.scale, tile=tile),
            context=context,
            multiple=multiple,
            height_multiple=multiple if self.ensemble else 1,  # it turns its windows
        )
        return Enlargement(
            small,
            runtime=runtime,
            tiles=tiles,
            context=context,
            whole=whole,
            binary_alpha=binary_alpha,
            grain=grain,
        )

    def _enlarged(self, picture: Picture, size: Size) -> Picture:
        """Enlarge a picture in memory as often as its size takes, and then to that."""
        wanted = size.of(picture.width, picture.height, scale=self.scale)
        noise = survey(in_strips(picture), noise=self.grain).noise
        for grain in self.grain_of_passes(picture.header, wanted, noise):
            picture = self.enlarge(picture, grain=grain).result
        return self.resized(picture, wanted)

    def resized(self, picture: Picture, wanted: Dimensions) -> Picture:
        """Bring a picture, or with ``wrap`` a texture, in memory to a size, antialiased, without the network."""
        if self.wrap:
            return wrapping.resized(picture, wanted)
        return images.resized(picture, width=wanted.width, height=wanted.height)

    def _enlarge_file(
        self, path: Path, *, output: str | os.PathLike[str] | None, force: bool, size: Size
    ) -> Path:
        from crispen.upscaling import files  # which needs upscalers

        if names_folder(path):
            raise PictureError(
                f"{images.shown(path)} is a folder: give its pictures one by one, or all of it to crispen upscale"
                " on the command line"
            )
        named = None if output is None else _path(output, subject="output")
        if output is not None and named is not None and not names_folder(output):
            target = named
        else:
            beside = default_output(path, self.scale, size=size)
            target = beside if named is None else named / beside.name
        files.enlarge_file(path, target, self, wishes=files.Wishes(size=size), force=force)
        return target

    def _choice_for(self, bit_depth: int) -> Choice:
        exact = self._exact_when_deep and bit_depth > 8
        return self._choice._replace(precision="fp32") if exact else self._choice

    def _opened(self, choice: Choice) -> Runtime:
        with self._opening:
            if choice not in self._open:
                runtime: Runtime = runtimes.open_runtime(self.model, **choice._asdict(), blend=self._blend)
                if self.ensemble:
                    runtime = EnsembleRuntime(runtime)
                self._open[choice] = ConsistentRuntime(runtime) if self._consistent else runtime
            return self._open[choice]


def blend_towards(model: Model, strength: float) -> Blend | None:
    """Find the model from which ``strength`` leads to another.

    Raises:
        UsageError: for a strength beyond [0, 1], or a model whose card names no such model.
    """
    _check_strength(strength)
    if strength == 1:
        return None
    if model.card is None or not model.card.faithful:
        raise UsageError(
            f"strength must be 1 for {model.name}, as it has no faithful model from which to go to it"
        )
    return Blend(zoo.find(model.card.faithful), strength)


def names_folder(output: str | os.PathLike[str]) -> bool:
    """Tell whether an output is meant as a folder: it is one, or ends with a slash."""
    folder = os.path.isdir(output)  # noqa: PTH112  # Path's raises where none may look
    return folder or os.fspath(output).endswith(("/", os.sep))


def _path(value: object, *, subject: str) -> Path:
    """Take a path that somebody gave. Raises `UsageError` for what is none, as bytes."""
    try:
        path = Path(cast(str, value))
    except TypeError:
        path = None
    if path is None or "\0" in str(path):
        raise UsageError(f"{subject} must be a path, not {value!r}")
    return path


def _check_strength(strength: object) -> None:
    if not isinstance(strength, Real):
        raise UsageError(f"strength must be from 0 to 1, not {strength!r}")
    if not 0 <= cast(float, strength) <= 1:
        raise UsageError(f"strength must be from 0 to 1, not {float(strength):g}")


def _check_tile(tile: object) -> None:
    if tile is not None and not (isinstance(tile, int | np.integer) and tile >= 1):
        raise UsageError(f"tile must be a whole number of pixels, at least 1, not {tile!r}")
