"""Pictures: files, arrays and PIL images in, the same out, and resizing as MATLAB does it."""

from crispen.images.arrays import from_array, from_pil, is_pil, to_array, to_pil
from crispen.images.matlab import resize
from crispen.images.picture import Picture, Pixels, to_depth
from crispen.images.reading import KINDS, read
from crispen.images.writing import SUFFIXES, check_destination, write

__all__ = [
    "KINDS",
    "SUFFIXES",
    "Picture",
    "Pixels",
    "check_destination",
    "from_array",
    "from_pil",
    "is_pil",
    "read",
    "resize",
    "to_array",
    "to_depth",
    "to_pil",
    "write",
]
