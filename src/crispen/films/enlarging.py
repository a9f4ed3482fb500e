"""A film's frames through an upscaler, in segments that outlast the process."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import crispen
from crispen.errors import PictureError, UsageError
from crispen.files import check_replaceable, flush, give_name
from crispen.films import reading, work
from crispen.films._av import av, reason
from crispen.films.assembling import assemble, left_out
from crispen.films.colour import RGB, LeftSited
from crispen.films.encoding import SegmentWriter
from crispen.films.options import CODECS, Coding, Options, check_suffix, choose
from crispen.films.reading import Film
from crispen.films.showing import Enlarges, Showing, keeps_grain
from crispen.upscaling import Upscaler
from crispen.upscaling.sizes import Dimensions, passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A frame that is done."""

    frames: int
    """How many are done by now, those of an earlier start with them."""
    seconds: float
    """How far into the film this one is."""
    reused: bool
    """Whether an earlier start had done it."""


class Running:
    """A film being enlarged; made by `enlarge`. Each iteration does one frame and yields a `Step`.

    It can be walked through once. A run that ends early, however it ends, leaves what it has done in a hidden
    folder beside the output, and the same call goes on with it.
    """

    def __init__(
        self,
        film: Film,
        upscaler: Enlarges,
        output: Path,
        options: Options,
        *,
        coding: Coding,
        force: bool,
        identity: str,
    ) -> None:
        self.notes: list[str] = _notes(film, coding, output, upscaler, options)
        """Sentences, of what could not be kept; some come only at the end."""
        self.total = _expected(film, options)
        """How many frames there will be, as far as the file says, or None where it does not."""
        self._film = film
        self._upscaler = upscaler
        self._output = output
        self._options = options
        self._coding = coding
        self._force = force
        self._identity = identity
        self._remaining = self._work()

    def __len__(self) -> int:
        """`total`, or 0 where that is unknown."""
        return self.total or 0

    def __iter__(self) -> Generator[Step]:
        return self._remaining

    @property
    def result(self) -> Path:
        """The film that was written. Frames that are left are done first."""
        for _ in self._remaining:
            pass
        return self._output

    def _work(self) -> Generator[Step]:
        try:
            with work.begun(self._output, identity=self._identity) as started:
                yield from self._encode(started)
                self._publish(started)
                started.remove()
        except (OSError, av().FFmpegError) as error:
            folder = work.folder_of(self._output)
            kept = f"; what is done stays in {folder}, and the same command goes on with it"
            sentence = f"{self._output} cannot be written: {reason(error)}"
            raise PictureError(sentence + (kept if folder.is_dir() else "")) from error

    def _encode(self, started: work.Work) -> Iterator[Step]:
        """Do all frames, of which those that are done are only counted."""
        film, options, done = self._film, self._options, started.frames
        decoded = reading.frames(film, start=options.start, end=options.end, notes=self.notes)
        showing = self._showing(started.segments[-1].grain if started.segments else ())
        tag = LeftSited()
        writer: SegmentWriter | None = None
        count, transparent = 0, False
        try:
            for count, (time, frame) in enumerate(decoded, start=1):
                transparent = transparent or reading.is_transparent(frame)
                if count > done:
                    pixels = showing(reading.pixels_of(film, frame, tag), number=count)
                    writer = writer or self._writer(started.unfinished, pixels)
                    writer.add(pixels, time=time, duration=reading.duration_of(film, frame))
                    if writer.frames == options.segment_frames:
                        started.add(writer.finish(started.following, grain=showing.grain))
                        writer = None
                yield Step(
                    frames=count,
                    seconds=float((time - film.first) * film.time_base),
                    reused=count <= done,
                )
            if writer is not None:
                started.add(writer.finish(started.following, grain=showing.grain))
                writer = None
        finally:
            if writer is not None:
                with suppress(OSError, av().FFmpegError):  # another error is on its way, or nobody wants more
                    writer.close()
        self._check(count, transparent=transparent)

    def _check(self, count: int, *, transparent: bool) -> None:
        """Refuse a film without frames, and say where it ends early or loses its transparency."""
        film, options = self._film, self._options
        if not count:
            raise PictureError(f"{film.path} has no frame in the part that was asked for{_extent(film)}")
        if film.frames is not None and count < film.frames and (options.start, options.end) == (None, None):
            self.notes.append(f"{film.path} ends early: {count} of its {film.frames} frames could be decoded")
        if transparent:
            self.notes.append(
                f"{self._output} is without the transparency of {film.path}: films are written opaque"
            )

    def _showing(self, grain: Sequence[float]) -> Showing:
        options = self._options
        return Showing(
            self._film, self._upscaler, size=options.size, side_by_side=options.side_by_side, grain=grain
        )

    def _writer(self, path: Path, pixels: RGB) -> SegmentWriter:
        height, width, _ = pixels.shape
        return SegmentWriter(path, self._film, self._coding, width=width, height=height)

    def _publish(self, started: work.Work) -> None:
        """Make the film of the segments, and give it its name."""
        whole = started.folder / f"whole{self._output.suffix.lower()}"
        assemble(
            whole,
            started.segments,
            started.folder,
            self._film,
            coding=self._coding,
            size=_size(self._film, self._upscaler.scale, self._options),
            options=self._options,
        )
        self._give_name(whole)

    def _give_name(self, whole: Path) -> None:
        """Let the film appear, on the disk to its end; a file that came there meanwhile stays without ``force``."""
        flush(whole)
        check_replaceable(self._output, error=PictureError)
        try:
            give_name(whole, Path(os.path.realpath(self._output)), force=self._force)
        except FileExistsError:
            whole.unlink()
            folder = work.folder_of(self._output)
            raise PictureError(
                f"{self._output} was made by another program meanwhile, and is replaced only with force;"
                f" what is done stays in {folder}, and the same command with force goes on with it"
            ) from None


def enlarge(
    path: str | os.PathLike[str],
    upscaler: Enlarges,
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    force: bool = False,
    identity: str | None = None,
) -> Running:
    """Prepare the enlargement of a film, to be done frame by frame.

    Its frames are decoded, enlarged and encoded one after the other, each that equals the one before it only once;
    frame times, sound, subtitles, chapters, tags, the shape of pixels, colours and bit depth stay. It is turned
    upright. Where an earlier call with the same arguments was cut short, its finished segments are taken over.

    Args:
        path: a film that FFmpeg reads.
        upscaler: what enlarges the frames.
        output: where to write, a name that ends in one of `SUFFIXES`.
        options: how; by default as `Options` says.
        force: whether to overwrite what is there.
        identity: what else the result depends on, so that segments made otherwise are not taken over; by default
            an `Upscaler`'s own.

    Returns:
        An iterable of a `Step` for each frame, with ``len()``, ``total``, ``notes`` and ``result``. Iterating
        raises `PictureError` where the film cannot be written.

    Raises:
        UsageError: for an output or options that cannot be.
        PictureError: for a film that cannot be read, or an output that exists or cannot be written.
        MissingExtra: where PyAV is not installed.
    """
    options = options or Options()
    source, target = Path(path), Path(output)
    check_suffix(target)
    _check_destination(source, target, force=force)
    film = reading.probe(source)
    width, height = _size(film, upscaler.scale, options)
    even = width % 2 == 0 and height % 2 == 0
    coding = choose(
        options, target, depth=film.depth, chroma=film.chroma, even=even, grain=keeps_grain(upscaler)
    )
    settings = {
        "crispen": crispen.__version__,
        "ffmpeg": av().library_versions,
        "options": asdict(options),
        "coding": asdict(coding),
        "scale": upscaler.scale,
        "identity": _identity(upscaler) if identity is None else identity,
    }
    return Running(
        film, upscaler, target, options,
        coding=coding, force=force, identity=work.identity_of(source, settings),
    )  # fmt: skip


def preview(
    path: str | os.PathLike[str],
    upscaler: Enlarges,
    *,
    seconds: float,
    size: tuple[int, int] | None = None,
    side_by_side: bool = False,
    notes: list[str] | None = None,
) -> RGB:
    """Enlarge the one frame that is shown ``seconds`` after the film's beginning; see `Options` for the rest.

    Sentences, of what a picture of it does not keep, are added to ``notes``.

    Returns:
        RGB, upright, (H, W, 3): uint8, or uint16 for a film of more than 8 bits; in the film's own colours and, where
        no ``size`` is given, with its own shape of pixels.

    Raises:
        UsageError: for a time before the beginning.
        PictureError: for a film that cannot be read, or is over by then.
        MissingExtra: where PyAV is not installed.
    """
    if not seconds >= 0:
        raise UsageError(f"seconds must be at least 0, not {seconds}")
    film = reading.probe(Path(path))
    frame = reading.frame_at(film, seconds)
    if notes is not None:
        notes += _frame_notes(film, transparent=reading.is_transparent(frame))
    pixels = reading.pixels_of(film, frame, LeftSited())
    return Showing(film, upscaler, size=size, side_by_side=side_by_side)(pixels, number=0)


def _size(film: Film, scale: int, options: Options) -> tuple[int, int]:
    """Width and height of the frames to write."""
    width, height = options.size or (film.width * scale, film.height * scale)
    return width * (2 if options.side_by_side else 1), height


def _expected(film: Film, options: Options) -> int | None:
    if options.start is None and options.end is None and film.frames is not None:
        return film.frames
    if film.seconds is None:
        return None
    end = film.seconds if options.end is None else min(options.end, film.seconds)
    return max(1, round(Fraction(end - (options.start or 0)) * film.rate))


def _frame_notes(film: Film, *, transparent: bool) -> Iterator[str]:
    """What a picture of one frame loses."""
    if transparent:
        yield f"the frame is without the transparency of {film.path}: it is written opaque"
    if film.colours.unlike_srgb:
        yield (
            f"the frame has the colours of {film.path}, {film.colours.unlike_srgb}, and does not say so:"
            " taken for sRGB, they look flat"
        )


def _notes(film: Film, coding: Coding, output: Path, upscaler: Enlarges, options: Options) -> list[str]:
    """What is already known to be lost or to look wrong."""
    notes: list[str] = []
    if film.interlaced:
        notes.append(
            f"{film.path} is interlaced, which shows as combs: deinterlace it first (ffmpeg -vf bwdif)"
        )
    if coding.depth < film.depth:
        notes.append(
            f"{output} has {coding.depth} bits, the most for {coding.codec}, and {film.path} has {film.depth}"
        )
    if coding.chroma < film.chroma:
        notes.append(
            f"{output} has 4:{coding.chroma[1]}:{coding.chroma[2]} colour, the finest for {coding.codec}"
        )
    if keeps_grain(upscaler) and CODECS[coding.codec].grain is None:
        notes.append(f"{output} loses much of its grain to {coding.codec}: h264, hevc and ffv1 keep it")
    if isinstance(upscaler, Upscaler) and _draws_detail(film, upscaler, options):
        # Measured on a scene that stands still, with noise: over time its pixels vary 2.0 times as much with srgan-x4,
        # 1.4 times with tiny-x4 and srresnet-x4.
        name = upscaler.model.name
        notes.append(
            f"{name} draws fine detail anew in each frame, which can flicker: tiny-x4 is meant for films"
        )
    if film.captions:
        notes.append(f"{output} is without the closed captions that lie inside the pictures of {film.path}")
    suffix = output.suffix.lower()
    lost = left_out(film.path, suffix)
    if lost:
        notes.append(f"{output} is without {', '.join(lost)}, which {suffix} cannot hold")
    return notes


def _draws_detail(film: Film, upscaler: Upscaler, options: Options) -> bool:
    """Whether a model that adds detail is applied at all; a film that is only reduced needs none."""
    if upscaler.model.card is None or not upscaler.model.card.generative:
        return False
    wanted = options.size
    return wanted is None or passes(film.width, film.height, Dimensions(*wanted), scale=upscaler.scale) > 0


def _extent(film: Film) -> str:
    return "" if film.seconds is None else f": it lasts {film.seconds:g} s"


def _identity(upscaler: Enlarges) -> str:
    return upscaler.identity if isinstance(upscaler, Upscaler) else ""


def _check_destination(source: Path, target: Path, *, force: bool) -> None:
    """Refuse what is taken, nowhere, or the film itself."""
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # as a name that is too long, which otherwise only the finished film would meet
        raise PictureError(f"{target} cannot be written: {error.strerror}") from error
    if target.is_dir():
        raise PictureError(f"{target} is a folder, so no film can be written there")
    check_replaceable(target, error=PictureError)
    if not target.parent.is_dir():
        raise PictureError(f"{target} cannot be written: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PictureError(f"{target} cannot be written: {target.parent} may not be written to")
    if target.exists():
        if source.exists() and target.samefile(source):
            raise PictureError(f"{target} cannot be written: it is the film that is to be enlarged")
        if not force:
            raise PictureError(f"{target} exists already; it is replaced only with force")
