"""Pictures: files, arrays and PIL images in, the same out, whole or strip by strip, and resizing as MATLAB does it."""

from crispen.images._credentials import has_content_credentials
from crispen.images._metadata import behind
from crispen.images._opened import Animation
from crispen.images._paths import shown
from crispen.images._publishing import remove_leftovers
from crispen.images.arrays import from_array, from_pil, is_pil, to_array, to_pil
from crispen.images.formats import FORMATS, SUFFIXES, Encoding
from crispen.images.listing import in_folder
from crispen.images.matlab import contributions, resize
from crispen.images.picture import DTYPE_OF, WHITE_OF, Header, Picture, Pixels, denser, to_depth
from crispen.images.reading import KINDS, READ_SUFFIXES, Pages, Source, open, open_pages, read
from crispen.images.resizing import NO_OVERHANG, Overhang, overhang_of, resized
from crispen.images.transparency import BLEED_REACH, bleed, enlarge_alpha, is_binary
from crispen.images.writing import (
    check_alpha,
    check_destination,
    check_format,
    check_pages,
    holds_alpha,
    holds_frames,
    shortened,
    write,
    write_pages,
    write_rows,
)

__all__ = [
    "BLEED_REACH",
    "DTYPE_OF",
    "FORMATS",
    "KINDS",
    "NO_OVERHANG",
    "READ_SUFFIXES",
    "SUFFIXES",
    "WHITE_OF",
    "Animation",
    "Encoding",
    "Header",
    "Overhang",
    "Pages",
    "Picture",
    "Pixels",
    "Source",
    "behind",
    "bleed",
    "check_alpha",
    "check_destination",
    "check_format",
    "check_pages",
    "contributions",
    "denser",
    "enlarge_alpha",
    "from_array",
    "from_pil",
    "has_content_credentials",
    "holds_alpha",
    "holds_frames",
    "in_folder",
    "is_binary",
    "is_pil",
    "open",
    "open_pages",
    "overhang_of",
    "read",
    "remove_leftovers",
    "resize",
    "resized",
    "shortened",
    "shown",
    "to_array",
    "to_depth",
    "to_pil",
    "write",
    "write_pages",
    "write_rows",
]
