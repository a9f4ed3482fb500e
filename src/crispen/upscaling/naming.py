"""What results are called: after their picture, with what was done to it, or as a template says."""

from __future__ import annotations

import math
import os
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crispen import images
from crispen.errors import UsageError
from crispen.images import FORMATS
from crispen.upscaling.sizes import MODELS_SIZE, Dimensions, Size

BY_SCALE, BY_SIZE = "{stem}-x{scale}.{ext}", "{stem}-{width}x{height}.{ext}"
"""The names by default: for a scale that was asked for or is the model's, and for any other wish."""

_SEVERAL = (".gif", ".webp", ".tif", ".tiff")  # in which there may be more than one picture


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be named."""

    source: Path
    stem: str
    ext: Callable[[], str]
    """The ending without a dot."""
    size: Callable[[], Dimensions]
    """Of the small picture; it is not asked for unless a name needs it."""
    even: bool = False
    """Whether the result's sides are even numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How results are called.

    Raises `UsageError` for a template that is none.
    """

    model: str
    """The name of the model."""
    scale: int
    """The model's."""
    wish: Size = MODELS_SIZE
    template: str | None = None
    """Text with ``{stem}``, ``{ext}``, ``{suffix}``, ``{width}``, ``{height}``, ``{scale}`` and ``{model}``; it may
    have slashes, which make folders. None is `BY_SCALE` or `BY_SIZE`."""

    def __post_init__(self) -> None:
        if self.template is not None:
            _check(self.template)

    def __call__(self, subject: Subject) -> str:
        """Return a result's name.

        Raises:
            PictureError: where the name needs to know a picture that cannot be read.
        """
        template = self.template or (BY_SCALE if self.wish.is_scale else BY_SIZE)
        fields: Mapping[str, Callable[[], object]] = {
            "stem": lambda: subject.stem,
            "ext": subject.ext,
            "suffix": lambda: subject.source.suffix.removeprefix("."),
            "width": lambda: self._result(subject).width,
            "height": lambda: self._result(subject).height,
            "scale": lambda: f"{self._scale(subject):g}",
            "model": lambda: self.model,
        }
        return template.format(**{name: fields[name]() for name in _fields(template)})

    def _result(self, subject: Subject) -> Dimensions:
        small = subject.size()
        large = self.wish.of(small.width, small.height, scale=self.scale)
        return large.even() if subject.even else large

    def _scale(self, subject: Subject) -> float:
        if self.wish.is_scale:
            return self.wish.scale or self.scale
        return round(self._result(subject).width / subject.size().width, 2)


def picture(source: Path, *, format: str | None, max_megapixels: float) -> Subject:
    """Describe a picture: by default it becomes a PNG, but what holds several keeps its own format.

    Args:
        source: the file, which is read only where its name needs that.
        format: one of `crispen.images.FORMATS`, if one is asked for.
        max_megapixels: the largest picture that is read.
    """

    def size() -> Dimensions:
        with images.open(source, max_megapixels=max_megapixels) as opened:
            return Dimensions(opened.header.width, opened.header.height)

    ext = partial(_ext, source, format=format, max_megapixels=max_megapixels)
    return Subject(source, source.stem, ext, size)


def _ext(source: Path, *, format: str | None, max_megapixels: float) -> str:
    if format is None and source.suffix.lower() in _SEVERAL:
        with images.open_pages(source, max_megapixels=max_megapixels) as pages:
            if len(pages) > 1:
                return source.suffix.removeprefix(".")
    return picture_ext(format)


def default_output(path: str | os.PathLike[str], scale: int, *, size: Size = MODELS_SIZE) -> Path:
    """Return where the enlargement of ``path`` goes if nothing else is said: ``NAME-x4.png`` beside it.

    Raises:
        PictureError: where that depends on a picture that cannot be read.
    """
    path = Path(path)
    subject = picture(path, format=None, max_megapixels=math.inf)  # who reads all of it looks at its size
    return path.parent / Naming(model="", scale=scale, wish=size)(subject)


def picture_ext(format: str | None) -> str:
    """Return the usual ending, without a dot, for one of `crispen.images.FORMATS`; None stands for PNG."""
    return FORMATS[format or "png"].suffixes[0].removeprefix(".")


def _check(template: str) -> None:
    known = ("stem", "ext", "suffix", "width", "height", "scale", "model")
    said = ", ".join(f"{{{name}}}" for name in known)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--name cannot be {template!r}: its braces do not fit") from error
    for _, name, form, conversion in parts:
        if name is not None and (name not in known or form or conversion):
            raise UsageError(f"--name may hold {said} as they stand here, but {template!r} holds another")
    path = Path(template)
    if not template.strip() or template.endswith("/") or path.is_absolute() or ".." in path.parts:
        raise UsageError(f"--name must be the name of a file, such as {BY_SIZE}, not {template!r}")


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}
