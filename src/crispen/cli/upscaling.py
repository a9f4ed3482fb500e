"""The command upscale."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from crispen import DEFAULT_MODEL
from crispen.cli import options as given
from crispen.cli.pipes import Ends, piped
from crispen.cli.root import app
from crispen.cli.screen import say_error, say_note, say_that_all_answers_are_one
from crispen.errors import UsageError

if TYPE_CHECKING:
    from crispen.jobs import Done, Enlarger, FilmWishes, Job, Report
    from crispen.upscaling.sizes import Size


@app.command()
def upscale(
    inputs: Annotated[
        list[str],  # not paths, which would make ./- and - the same
        typer.Argument(
            help="Pictures (PNG, JPEG, WebP, TIFF, GIF, AVIF, BMP, PPM), films, folders; or - for the standard input.",
        ),
    ],
    output: given.OutputOption = None,
    model: given.ModelOption = DEFAULT_MODEL,
    strength: given.StrengthOption = 1.0,
    ensemble: given.EnsembleOption = False,
    consistent: given.ConsistentOption = False,
    grain: given.GrainOption = False,
    wrap: given.WrapOption = False,
    scale: given.ScaleOption = None,
    width: given.WidthOption = None,
    height: given.HeightOption = None,
    fit: given.FitOption = None,
    paper: given.PrintOption = None,
    megapixels: given.MegapixelsOption = None,
    dpi: given.DpiOption = None,
    format: given.FormatOption = None,
    quality: given.QualityOption = None,
    lossless: given.LosslessOption = False,
    compression: given.CompressionOption = None,
    pyramid: given.PyramidOption = False,
    no_tag: given.NoTagOption = False,
    force: given.ForceOption = False,
    name: given.NameOption = None,
    recursive: given.RecursiveOption = True,
    include: given.IncludeOption = None,
    exclude: given.ExcludeOption = None,
    skip_existing: given.SkipOption = False,
    report: given.ReportOption = None,
    codec: given.CodecOption = None,
    crf: given.CrfOption = None,
    preset: given.PresetOption = None,
    start: given.FromOption = None,
    end: given.ToOption = None,
    frame: given.FrameOption = None,
    side_by_side: given.SideBySideOption = False,
    tile: given.TileOption = None,
    runtime: given.RuntimeOption = "auto",
    device: given.DeviceOption = "auto",
    precision: given.PrecisionOption = "auto",
    max_megapixels: given.MaxMegapixelsOption = 1000.0,
) -> None:
    """Enlarge pictures and films.

    Films get even numbers of pixels: an odd width or height that is asked for becomes one less.

    One line is printed for each result. Where one fails the others are made all the same; the exit code is then 1.
    """
    from crispen import jobs, zoo
    from crispen.images import Encoding
    from crispen.upscaling import Upscaler
    from crispen.upscaling.files import Wishes
    from crispen.upscaling.naming import Naming
    from crispen.upscaling.upscaler import blend_towards

    found = zoo.find(model)
    blend_towards(found, strength)  # refused before anything else
    wishes = Wishes(
        size=_size(scale, width, height, fit=fit, paper=paper, megapixels=megapixels),
        encoding=Encoding(
            format=format, quality=quality, lossless=lossless, compression=compression, pyramid=pyramid
        ),
        dpi=dpi, tag=not no_tag, max_megapixels=max_megapixels,
    )  # fmt: skip
    if dpi is not None and paper is not None:
        raise UsageError("--print says how many pixels per inch, so that --dpi cannot be had beside it")
    film = _film_wishes(
        codec=codec, crf=crf, preset=preset, start=start, end=end, frame=frame, side_by_side=side_by_side
    )
    naming = Naming(model=found.name, scale=found.scale, wish=wishes.size, template=name)
    search = jobs.Search(recursive=recursive, include=tuple(include or ()), exclude=tuple(exclude or ()))
    if force and skip_existing:
        raise UsageError("--force replaces what --skip-existing leaves: only one of them can be had")
    if report is not None:
        jobs.check_report_path(report, force=force)
    with piped(inputs, output, format=format, frame=frame is not None) as ends:
        if report is not None and ends.any:
            raise UsageError("--report is for files: a pipe holds one picture, and all is said on stderr")
        plan = jobs.plan(
            ends.inputs, output=ends.output, naming=naming, search=search, encoding=wishes.encoding,
            max_megapixels=max_megapixels, frame=film.frame, force=force, skip_existing=skip_existing,
        )  # fmt: skip
        if report is not None:
            jobs.check_report_apart(report, plan)
        _check_kinds(
            [*plan.jobs, *plan.skipped],
            films={
                "--codec": codec, "--crf": crf, "--preset": preset, "--from": start, "--to": end,
                "--frame": frame, "--side-by-side": side_by_side or None,
            },
            pictures={
                "--format": format, "--quality": quality, "--lossless": lossless or None,
                "--compression": compression, "--pyramid": pyramid or None, "--dpi": dpi,
            },
        )  # fmt: skip
        _check_coding(plan.jobs, film)
        record = jobs.Report(
            model=found, skipped=plan.skipped, failures=plan.failures, left_out=plan.left_out
        )

        def enlarger() -> Enlarger:
            record.upscaler = Upscaler(
                found, runtime=runtime, device=device, precision=precision, tile=tile, strength=strength,
                ensemble=ensemble, consistent=consistent, wrap=wrap, grain=grain,
            )  # fmt: skip
            if ensemble and not record.upscaler.ensemble:
                say_that_all_answers_are_one(found.name)
            return jobs.Enlarger(
                upscaler=record.upscaler,
                wishes=wishes,
                film=film,
                force=force,
                skip_existing=skip_existing,
                hashes=report is not None,
            )

        try:
            _work_off(plan.jobs, enlarger, record, ends)
        finally:
            if report is not None:
                record.write(report, force=force)
        if not record.is_clean:
            raise typer.Exit(1)


def _size(
    scale: float | None,
    width: int | None,
    height: int | None,
    *,
    fit: str | None,
    paper: str | None,
    megapixels: float | None,
) -> Size:
    from crispen.upscaling.sizes import Size, parse_box, parse_paper

    sheet, dpi = (None, None) if paper is None else parse_paper(paper)
    return Size(
        scale=scale, width=width, height=height, fit=None if fit is None else parse_box(fit), paper=sheet,
        megapixels=megapixels, dpi=dpi,
    )  # fmt: skip


def _film_wishes(
    *,
    codec: given.FilmCodec | None,
    crf: float | None,
    preset: str | None,
    start: str | None,
    end: str | None,
    frame: str | None,
    side_by_side: bool,
) -> FilmWishes:
    from crispen import jobs

    if not (side_by_side or any(value is not None for value in (codec, crf, preset, start, end, frame))):
        return jobs.FilmWishes()
    from crispen import films  # which takes its time, and for pictures would be in vain

    begin, until, only = (None if time is None else films.parse_time(time) for time in (start, end, frame))
    set_besides = {"--codec": codec, "--crf": crf, "--preset": preset, "--from": start, "--to": end}
    for name, value in set_besides.items():
        if only is not None and value is not None:
            raise UsageError(f"--frame makes a picture of a film, for which there is no {name}")
    options = films.Options(
        codec=codec, crf=crf, preset=preset, start=begin, end=until, side_by_side=side_by_side
    )
    return jobs.FilmWishes(options=options, frame=only)


def _check_kinds(
    planned: Sequence[Job], *, films: Mapping[str, object], pictures: Mapping[str, object]
) -> None:
    """Refuse an option that is given (not None) and would do nothing, as it is for films or for pictures only."""
    kinds = {job.is_film for job in planned}
    makes_pictures = False in kinds or films["--frame"] is not None
    for options, kind, missing in (
        (films, "films", True not in kinds),
        (pictures, "pictures", not makes_pictures),
    ):
        for name, value in options.items():
            if value is not None and kinds and missing:
                raise UsageError(f"{name} is for {kind}, and there are none among the inputs")


def _check_coding(planned: Sequence[Job], film: FilmWishes) -> None:
    """Refuse a codec that a film's container does not hold, and what the codec does not take, before any work."""
    if film.options is None or film.frame is not None:
        return
    from crispen.films.options import choose

    for job in planned:
        if job.is_film:
            choose(film.options, job.target, depth=8, chroma="420", even=True)


def _work_off(planned: Sequence[Job], enlarger: Callable[[], Enlarger], record: Report, ends: Ends) -> None:
    """Do all jobs, the others where one fails, and say and note down what comes of them."""
    from crispen import jobs
    from crispen.cli import progress

    with jobs.folders(planned) as (ready, unwritable):
        record.failures += unwritable
        for sentence in dict.fromkeys(str(failure.error) for failure in record.failures):
            say_error(ends.said(sentence))
        if record.skipped:
            say_note(f"results that exist already and are left as they are: {len(record.skipped)}")
        if record.left_out:
            say_note(
                f"taken for results of others by their names, and left out: {len(record.left_out)}"
                " (with -o and another folder they are enlarged, too)"
            )
        if not ready:
            return
        running = jobs.Running(ready, enlarger())
        told = 0
        noted: set[tuple[Job, str]] = set()
        try:
            with closing(iter(running)) as events, progress.shown(events, ready) as watched:
                for event in watched:
                    if isinstance(event, jobs.Done):
                        _tell(event, ends, noted)
                        told += 1
                        continue
                    for note in event.notes:  # a film may take days
                        say_note(ends.said(note))
                        noted.add((event.job, note))
        finally:  # after Ctrl-C, too, when some wait to be told in their order
            record.done += running.ended
            for done in running.ended[told:]:
                _tell(done, ends, noted)


def _tell(done: Done, ends: Ends, noted: Container[tuple[Job, str]]) -> None:
    """Say what came of a job, but for what is ``noted`` already."""
    from crispen import images
    from crispen.jobs import Made, Skipped

    made, job = done.outcome, done.job
    if isinstance(made, Skipped):
        say_note(images.shown(f"{job.target} was made by another process meanwhile"))
        return
    if not isinstance(made, Made):
        say_error(ends.said(made))
        return
    for note in made.notes:
        if (job, note) not in noted:
            say_note(ends.said(note))
    if ends.to_stdout:
        return
    small, large = (f"{size.width}x{size.height}" for size in (made.small, made.large))
    count = f", {made.count} {'frames' if job.is_film else 'pages'}" if made.count > 1 else ""
    line = f"{job.source} {small} -> {job.target} {large}{count} ({done.seconds:.1f} s)"
    typer.echo(
        images.shown(ends.said(line)), file=sys.stdout
    )  # named, as a bar may have put itself in its place
