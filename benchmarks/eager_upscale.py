"""Enlarge one picture as the common scripts do: eager torch, fp32, NCHW, the network written down literally.

python benchmarks/eager_upscale.py WEIGHTS PICTURE OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from crispen.networks.weights import load_generator
from plain import plain_network


def main() -> None:
    weights, source, target = sys.argv[1:]
    generator = plain_network(load_generator(Path(weights))).eval()
    array = np.array(Image.open(source).convert("RGB"))
    lr = torch.from_numpy(array).permute(2, 0, 1)[None].contiguous().float() / 255
    with torch.inference_mode():
        sr = generator(lr)[0]
    Image.fromarray(sr.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()).save(target)


if __name__ == "__main__":
    main()
