"""Files for tests, written where they are wanted."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crispen import images


def write(path: Path, content: bytes | NDArray[np.uint8]) -> Path:
    """Write bytes as they are, or pixels (H, W, 3) as the picture that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        images.write(images.from_array(content), path)
    return path


def pipe(path: Path) -> Path:
    """Make a pipe that has a name, or skip the test where there are none."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    os.mkfifo(path)
    return path
