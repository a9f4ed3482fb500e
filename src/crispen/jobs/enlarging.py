"""One job: a picture, a film, or one frame of a film as a picture.

`crispen.films` is imported where there is one, so that pictures need not wait for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crispen import __version__, images
from crispen.errors import CrispenError
from crispen.images.provenance import tagged
from crispen.jobs.planning import Job
from crispen.jobs.running import Made, Skipped, Watch
from crispen.upscaling import Step, Upscaler
from crispen.upscaling.files import Outcome, Wishes, enlarge_file, statement
from crispen.upscaling.sizes import Dimensions, passes

if TYPE_CHECKING:
    from crispen import films


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmWishes:
    """What is asked of films."""

    options: films.Options | None = None
    """How they are encoded, and which part of them, where anything is asked; the other wishes say size and comment."""
    frame: float | None = None
    """Only the frame that is shown after so many seconds is enlarged, as a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlarger:
    """Does jobs. Threads may share it."""

    upscaler: Upscaler
    wishes: Wishes
    film: FilmWishes
    force: bool
    """Whether results that exist may be overwritten."""
    skip_existing: bool = False
    """Whether a job whose result exists has been done."""
    hashes: bool = False
    """Whether to tell the hashes of the files."""

    def __call__(self, job: Job, watch: Watch) -> Made | Skipped:
        """Do a job, unless another process does it first.

        Raises:
            CrispenError, OSError: where it cannot be done.
        """
        if self._is_done(job):
            return Skipped()
        try:
            return self._do(job, watch)
        except CrispenError:
            if self._is_done(job):
                return Skipped()
            raise

    def _is_done(self, job: Job) -> bool:
        return self.skip_existing and os.access(job.target, os.F_OK)

    def _do(self, job: Job, watch: Watch) -> Made:
        before = _sha256(job.source) if self.hashes else None
        made = self._enlarge(job, watch)
        return replace(made, sha256=before, result_sha256=_sha256(job.target)) if self.hashes else made

    def _enlarge(self, job: Job, watch: Watch) -> Made:
        if not job.is_film:
            return self._enlarge_picture(job, watch)
        return self._enlarge_film(job, watch) if self.film.frame is None else self._enlarge_frame(job)

    def _enlarge_picture(self, job: Job, watch: Watch) -> Made:
        area = self.upscaler.scale**2

        def watched(steps: Iterable[Step], total: int) -> Iterator[Step]:
            return watch(
                steps, total, pixels=lambda step: step.tile.core.height * step.tile.core.width * area
            )

        outcome = enlarge_file(
            job.source, job.target, self.upscaler, wishes=self.wishes, force=self.force, watch=watched
        )
        small, large = (Dimensions(header.width, header.height) for header in (outcome.small, outcome.large))
        return Made(small=small, large=large, count=outcome.pages, notes=tuple(_notes(job, outcome)))

    def _enlarge_film(self, job: Job, watch: Watch) -> Made:
        from crispen import films

        film = films.probe(job.source, max_megapixels=self.wishes.max_megapixels)
        small = Dimensions(film.width, film.height)
        large = self._wanted(small).even()  # which all but few players want
        wanted = self.film.options or films.Options()
        comment = self._comment(small, large) if self._is_tagged(film, large) else None
        options = replace(wanted, size=large, comment=comment)
        running = films.enlarge(job.source, self.upscaler, job.target, options, force=self.force)
        count = 0
        with closing(iter(running)) as steps:  # so that it comes to a good end, whatever the watch does
            for step in watch(
                steps, running.total or 0, pixels=lambda _: large.width * large.height, notes=running.notes
            ):
                count = step.frames
        return Made(small=small, large=large, count=count, notes=tuple(running.notes))

    def _enlarge_frame(self, job: Job) -> Made:
        from crispen import films

        assert self.film.frame is not None
        images.check_destination(job.target, force=self.force, encoding=self.wishes.encoding)
        film = films.probe(job.source, max_megapixels=self.wishes.max_megapixels)
        small = Dimensions(*film.in_square_pixels)
        large = self._wanted(small)
        notes: list[str] = []
        pixels = films.preview(
            job.source, self.upscaler, seconds=self.film.frame, size=large, notes=notes,
            side_by_side=self.film.options is not None and self.film.options.side_by_side,
        )  # fmt: skip
        attachments: dict[str, bytes] = {}
        if self._is_tagged(film, large):
            attachments["xmp-data"] = tagged(None, statement(self.upscaler.model, small, large))
        picture = images.from_array(pixels)
        picture = replace(picture, attachments=attachments, resolution=self.wishes.resolution)
        images.write(picture, job.target, force=self.force, encoding=self.wishes.encoding)
        return Made(small=small, large=large, notes=tuple(notes))

    def _wanted(self, small: Dimensions) -> Dimensions:
        return self.wishes.size.of(small.width, small.height, scale=self.upscaler.scale)

    def _is_tagged(self, film: films.Film, large: Dimensions) -> bool:
        """Whether the result says that a model enlarged it, as it does where one was applied."""
        return self.wishes.tag and passes(film.width, film.height, large, scale=self.upscaler.scale) > 0

    def _comment(self, small: Dimensions, large: Dimensions) -> str:
        factor = f"{large.width / small.width:.4g}"
        return f"Enlarged {factor} times by the AI model {self.upscaler.model.name} (crispen {__version__})"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _notes(job: Job, outcome: Outcome) -> Iterator[str]:
    """What did not get into the result."""
    if outcome.left_out:
        held = outcome.pages + outcome.left_out
        yield (
            f"{job.target} has the first of the {held} pages of {job.source}:"
            " GIF and WebP hold animations, TIFF holds pages"
        )
    if outcome.unread:
        held = outcome.pages + outcome.unread
        yield (
            f"{job.target} has the first of the {held} frames of {job.source}:"
            " animations are read where they are GIF or WebP"
        )
    if outcome.shortened:
        yield (
            f"{job.target} is without the largest parts of the {' and '.join(outcome.shortened)} of {job.source},"
            " for which its format has no room"
        )
    if outcome.left_behind:
        yield (
            f"{job.target} is without the {' and the '.join(outcome.left_behind)} of which the XMP of {job.source}"
            " tells: only the picture itself is enlarged"
        )
    with suppress(OSError):  # it has been read by now, and nobody can say more
        if images.has_content_credentials(job.source):
            yield (
                f"{job.target} is without the signed content credentials of {job.source},"
                " which hold for that file only"
            )
