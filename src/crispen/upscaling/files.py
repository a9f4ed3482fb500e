"""From file to file: any size, all frames, and a word in the result on how it came about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from crispen import __version__, images
from crispen.errors import PictureError, UsageError
from crispen.images import NO_OVERHANG, Encoding, Header, Overhang, Pages, Picture, Source
from crispen.images.provenance import Statement, tagged
from crispen.upscaling import wrapping
from crispen.upscaling.enlargement import Step, strips_of
from crispen.upscaling.grain import SteadyGrain
from crispen.upscaling.rows import Readable, SourceRows, StripSource
from crispen.upscaling.sizes import MAX_DPI, Dimensions, Size, passes
from crispen.upscaling.survey import SURVEYED_ROWS, Survey, in_strips, survey
from crispen.upscaling.upscaler import Upscaler
from crispen.upscaling.wrapping import WrappedRows
from crispen.zoo import Model

Watch = Callable[[Iterable[Step], int], Iterable[Step]]
"""Passes the steps of an enlargement on, and shows how far it is; the number is how many there will be."""

MAX_MEGAPIXELS = 1000.0
"""Above this a picture is refused, unless its user says otherwise: it is more likely to be an attack."""

_MM_PER_INCH = 25.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked of a result, beside its pixels.

    Raises `UsageError` for numbers that cannot be.
    """

    size: Size = field(default_factory=Size)
    """How large."""
    encoding: Encoding = field(default_factory=Encoding)
    """In which format, where the file's name does not say it, and how good."""
    dpi: float | None = None
    """Pixels per inch that the file states; None scales those of the picture, so that the size in print stays."""
    tag: bool = True
    """Whether the file says in its XMP that an AI model enlarged it."""
    max_megapixels: float = MAX_MEGAPIXELS
    """The largest picture that is read; infinity sets no limit."""

    def __post_init__(self) -> None:
        if self.dpi is not None and not 0 < self.dpi <= MAX_DPI:
            raise UsageError(f"--dpi must be above 0 and at most {MAX_DPI}, not {self.dpi:g}")
        if not self.max_megapixels > 0:
            raise UsageError(f"--max-megapixels must be above 0, not {self.max_megapixels:g}")

    @property
    def resolution(self) -> tuple[float, float] | None:
        """Pixels per millimetre that the result is to state, across and down, where any were asked for."""
        dpi = self.dpi or self.size.dpi
        return None if dpi is None else (dpi / _MM_PER_INCH, dpi / _MM_PER_INCH)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a file."""

    small: Header
    """What was read."""
    large: Header
    """What was written."""
    pages: int
    """How many pages or frames were enlarged."""
    left_out: int
    """How many more there are in the file, for which the result's format has no place."""
    unread: int = 0
    """How many more frames there are in the file, of which only the first can be read."""
    shortened: tuple[str, ...] = ()
    """The kinds of metadata of which the result's format has no room for the largest parts."""

    @property
    def left_behind(self) -> tuple[str, ...]:
        """What there was in the file behind the picture; see `crispen.images.behind`."""
        return images.behind(self.small)


def enlarge_file(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    *,
    wishes: Wishes = Wishes(),
    force: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Enlarge a picture in a file into another file, which appears whole or not at all.

    Neither picture is ever held as a whole in memory, unless one of the formats forces it. All frames of an
    animation, and all pages of a TIFF, are enlarged where the result's format holds several.

    Raises:
        UsageError, PictureError, ModelError: in one sentence, before or after the work has begun. No picture is
            replaced by its own enlargement, not even with ``force``.
    """
    if _are_one(source, target):
        raise PictureError(
            f"the result of {images.shown(source)} would overwrite the picture {images.shown(target)}:"
            " write it to another name"
        )
    images.check_destination(target, force=force, encoding=wishes.encoding)
    job = _Job(source, target, upscaler, wishes, force, watch or _unwatched)
    with images.open_pages(source, max_megapixels=wishes.max_megapixels) as pages:
        if len(pages) > 1 and images.holds_frames(target, wishes.encoding):
            return job.enlarge_pages(pages)
        left_out, unread = len(pages) - 1, pages.unread
    with images.open(source, max_megapixels=wishes.max_megapixels) as opened:
        return replace(job.enlarge_single(opened), left_out=left_out, unread=unread)


def _are_one(source: Path, target: Path) -> bool:
    """Tell whether two names, or what they link to, are one file."""
    try:
        return source.samefile(target)
    except OSError:  # one is not there, or nobody may look
        return False


def _unwatched(steps: Iterable[Step], total: int) -> Iterable[Step]:
    return steps


@dataclass(frozen=True, slots=True)
class _Job:
    source: Path
    target: Path
    upscaler: Upscaler
    wishes: Wishes
    force: bool
    watch: Watch

    def enlarge_single(self, opened: Source) -> Outcome:
        small = opened.header
        size = self._size(small)
        large = self._header(small, size)
        images.check_destination(self.target, force=self.force, picture=large, encoding=self.wishes.encoding)
        seen = self._survey(small)
        images.check_alpha(self.target, opaque=seen.opaque, encoding=self.wishes.encoding)
        strips, drawn, overhang = self._strips(opened, size, seen)
        images.write_rows(
            replace(large, height=drawn.height, width=drawn.width), strips, self.target,
            size=size, overhang=overhang, binary_alpha=seen.binary_alpha, force=self.force,
            encoding=self.wishes.encoding,
        )  # fmt: skip
        return Outcome(small, large, 1, 0, shortened=self._shortened([large]))

    def enlarge_pages(self, pages: Pages) -> Outcome:
        """Enlarge one page after the other, each as large as is asked of it by itself."""
        small = pages.headers()
        sizes = [self._size(page) for page in small]
        different = 1 if pages.animation else len(pages)  # an animation's frames have one header
        large = [self._header(small[number], sizes[number]) for number in range(different)]
        shortened = self._shortened(large)
        large *= len(pages) // different
        images.check_pages(self.target, large, force=self.force, encoding=self.wishes.encoding)
        self._check_alpha(pages, small)
        images.write_pages(
            large, self._pages(pages, small, sizes), self.target,
            animation=pages.animation, force=self.force, encoding=self.wishes.encoding,
        )  # fmt: skip
        return Outcome(small[0], large[0], len(pages), 0, shortened=shortened)

    def _pages(self, pages: Pages, small: list[Header], sizes: list[Dimensions]) -> Iterator[Picture]:
        """Enlarge the pages, each held as a whole. An animation's grain is that of a film."""
        steady = None if pages.animation is None else SteadyGrain()
        area = sum(page.width * page.height for page in small)
        for number, (page, size) in enumerate(zip(pages, sizes, strict=True)):
            picture = page
            noise = survey(in_strips(page), noise=self.upscaler.grain).noise
            grains = self.upscaler.grain_of_passes(page.header, size, noise)
            if steady is not None and noise is not None and grains:
                grains[-1] = steady.follow(grains[-1], frame=number)
            for grain in grains:
                enlargement = self.upscaler.enlarge(picture, grain=grain)
                total = round(len(enlargement) * area / (page.width * page.height))
                for _ in self.watch(enlargement, total):
                    pass
                picture = enlargement.result
            yield self.upscaler.resized(picture, size)

    def _strips(
        self, opened: Source, size: Dimensions, seen: Survey
    ) -> tuple[Iterator[Picture], Header, Overhang]:
        """The rows as the network leaves them, their header, and what of it is only there to be seen by a filter.

        It is the next larger size that the network makes, and a texture with some of its repetitions.
        """
        grains = self.upscaler.grain_of_passes(opened.header, size, seen.noise)
        if not grains:
            return self._unenlarged(opened, size)
        *earlier, last = grains
        readable: Readable = opened
        for grain in earlier:
            enlargement = self.upscaler.enlarge_source(readable, binary_alpha=seen.binary_alpha, grain=grain)
            readable = StripSource(enlargement.header, strips_of(enlargement))
        scale = self.upscaler.scale
        beyond = self._overhang(readable.header, size, scale=scale)
        enlargement = self.upscaler.enlarge_source(
            readable, binary_alpha=seen.binary_alpha, grain=last, overhang=beyond
        )
        strips = strips_of(self.watch(enlargement, len(enlargement)))
        return strips, enlargement.header, Overhang(*(pixels * scale for pixels in beyond))

    def _unenlarged(self, opened: Source, size: Dimensions) -> tuple[Iterator[Picture], Header, Overhang]:
        """The rows of a picture that is large enough as it is."""
        beyond = self._overhang(opened.header, size)
        if beyond == NO_OVERHANG:
            return opened.strips(SURVEYED_ROWS), opened.header, beyond
        around = WrappedRows(SourceRows(opened), beyond)
        return wrapping.strips(around, SURVEYED_ROWS), around.header, beyond

    def _overhang(self, small: Header, size: Dimensions, *, scale: int = 1) -> Overhang:
        return wrapping.overhang(small, size, scale=scale) if self.upscaler.wrap else NO_OVERHANG

    def _check_alpha(self, pages: Pages, small: list[Header]) -> None:
        """Look through the pages beforehand, where one could be transparent and the result cannot."""
        if images.holds_alpha(self.target, self.wishes.encoding):
            return
        for number, page in enumerate(small):
            if page.has_alpha:
                opaque = survey(pages.open(number).strips(SURVEYED_ROWS)).opaque
                images.check_alpha(self.target, opaque=opaque, encoding=self.wishes.encoding)

    def _survey(self, small: Header) -> Survey:
        """Read the file once more beforehand, where it could be transparent, or its grain is to be kept."""
        if not (small.has_alpha or self.upscaler.grain):
            return Survey()
        with images.open(self.source, max_megapixels=self.wishes.max_megapixels) as opened:
            return survey(opened.strips(SURVEYED_ROWS), noise=self.upscaler.grain)

    def _passes(self, small: Header, size: Dimensions) -> int:
        return passes(small.width, small.height, size, scale=self.upscaler.scale)

    def _size(self, small: Header) -> Dimensions:
        return self.wishes.size.of(small.width, small.height, scale=self.upscaler.scale)

    def _header(self, small: Header, size: Dimensions) -> Header:
        """The header of the result."""
        large = replace(small, width=size.width, height=size.height, resolution=self._resolution(small, size))
        if not (self.wishes.tag and self._passes(small, size)):
            return large
        said = statement(self.upscaler.model, Dimensions(small.width, small.height), size)
        xmp = tagged(large.attachments.get("xmp-data"), said)
        return replace(large, attachments={**large.attachments, "xmp-data": xmp})

    def _shortened(self, large: Iterable[Header]) -> tuple[str, ...]:
        """The metadata of which parts are left out, of any page."""
        found = (images.shortened(self.target, page, self.wishes.encoding) for page in large)
        return tuple(dict.fromkeys(chain.from_iterable(found)))

    def _resolution(self, small: Header, size: Dimensions) -> tuple[float, float] | None:
        """Pixels per millimetre: as asked for, or such that the size in print stays."""
        return self.wishes.resolution or images.denser(
            small.resolution, across=size.width / small.width, down=size.height / small.height
        )


def statement(model: Model, small: Dimensions, large: Dimensions) -> Statement:
    """Return what a result says of itself: that ``model`` made ``large`` of ``small``."""
    return Statement(
        model=model.name,
        weights_sha256=model.weights_sha256,
        version=__version__,
        scale=large.width / small.width,
        width=large.width,
        height=large.height,
        generative=model.card is None or model.card.generative,
    )
