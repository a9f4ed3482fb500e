"""From file to file, memory does not grow with the picture."""

import subprocess
import sys
from pathlib import Path

import pytest

# The first file loads everything; what is measured is what six times as many rows take beyond that: 70 MB, if the
# result were held. In place of a network pixels are repeated, as the caches of OpenVINO are none of our business.
ENLARGE = """
import pathlib, resource, sys, numpy as np
from crispen import images, runtimes, zoo
from crispen.images import Encoding, Header
from crispen.upscaling import Upscaler
from crispen.upscaling.files import Wishes, enlarge_file

class Nearest:
    scale, description = 4, "nearest neighbour"
    def map(self, pieces):
        for window, core in pieces:
            yield window[:, *core.slices].repeat(4, axis=1).repeat(4, axis=2)

runtimes.open_runtime = lambda *_, **__: Nearest()
small, large = map(pathlib.Path, sys.argv[1:3])
upscaler = Upscaler(zoo.find("srresnet-x4"), tile=100, grain="grain" in sys.argv)
pixels = np.add.outer(np.arange(100), np.arange(300)).astype(np.uint8)[..., None].repeat(3, 2)

def peak(height):
    header = Header(height=height, width=300, channels=3, bit_depth=8)
    images.write_rows(header, (images.from_array(pixels) for _ in range(height // 100)), small, force=True)
    wishes = Wishes(encoding=Encoding(pyramid=large.suffix == ".tif"))
    enlarge_file(small, large, upscaler, wishes=wishes, force=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

print(peak(1000), peak(6000))
"""


@pytest.mark.parametrize(("suffix", "options"), [(".png", []), (".tif", ["grain"])])
def test_memory_does_not_grow_with_the_picture(tmp_path: Path, suffix: str, options: list[str]) -> None:
    paths = [tmp_path / "small.png", tmp_path / f"large{suffix}"]
    command = [sys.executable, "-c", ENLARGE, *paths, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    small, large = map(int, done.stdout.split())
    assert large - small < 35
