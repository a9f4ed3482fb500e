"""Films: every frame enlarged, and everything beside the frames kept.

::

    running = films.enlarge("clip.mp4", upscaler, "clip-x4.mp4", films.Options(crf=16))
    for step in running:
        show(step.frames, of=running.total)
    running.result                                  # the path; running.notes says what could not be kept

FFmpeg's libraries do the reading and writing, through PyAV (the extra ``video``).
"""

from crispen.films.assembling import usual_suffix
from crispen.films.enlarging import Running, Step, enlarge, preview
from crispen.films.options import CODECS, SUFFIXES, Codec, Options, parse_time
from crispen.films.reading import Film, probe

__all__ = [
    "CODECS", "SUFFIXES",
    "Codec", "Film", "Options", "Running", "Step",
    "enlarge", "parse_time", "preview", "probe", "usual_suffix",
]  # fmt: skip
