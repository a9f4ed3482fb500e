"""The network as TorchScript, for programs that load torch without our code, such as those in C++.

Loading such a file runs what is in it, which is why crispen itself takes none.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from crispen.export.parity import Computation, Pixels
from crispen.networks.generators import OUTPUTS, AnyGenerator, SRResNet
from crispen.networks.polyphase import polyphase_kernel

_jit = cast(Any, torch.jit)  # half typed

METADATA = "crispen.json"
"""The extra file within the archive that says what it is; torch.jit.load's ``_extra_files`` reads it."""


class Shipped(nn.Module):
    """A folded SRResNet with the kernel of its tail computed beforehand, of layers that torch itself has.

    Maps (N, 3, H, W) to (N, 3, H·scale, W·scale), as the generator does.
    """

    def __init__(self, generator: SRResNet) -> None:
        super().__init__()
        self.head = generator.head
        self.body = generator.body
        self.upsampler = generator.upsampler
        self.tail = _between_phases(generator.tail)
        self.shuffle = nn.PixelShuffle(2)
        self._output = OUTPUTS[generator.output]

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) to (N, 3, H·scale, W·scale)."""
        shallow = self.head(lr)
        deep = shallow + self.body(shallow)
        return self._output(self.shuffle(self.tail(self.upsampler(deep))))


def write_torchscript(generator: AnyGenerator, path: Path, *, entries: Mapping[str, str]) -> None:
    """Write what `crispen.export.folding.folded` returned, with ``entries`` as JSON in the extra file `METADATA`."""
    shipped = Shipped(generator) if isinstance(generator, SRResNet) else generator
    for layers in [module for module in shipped.modules() if isinstance(module, nn.Sequential)]:
        _use_own_prelu(layers)
    shipped.eval().requires_grad_(False)
    with torch.no_grad(), _deprecation_is_known():
        traced = _jit.trace(shipped, torch.zeros(1, 3, 8, 8))
        _jit.save(traced, path, _extra_files={METADATA: json.dumps(entries)})


def in_torchscript(path: Path) -> Computation:
    """Return how torch computes a file that `write_torchscript` wrote."""
    with _deprecation_is_known():
        script = _jit.load(path)

    @torch.inference_mode()
    def computation(lr: Pixels) -> Pixels:
        return cast(Tensor, script(torch.tensor(lr))).numpy()

    return computation


def _between_phases(tail: nn.Conv2d) -> nn.Conv2d:
    """Return the convolution that `crispen.networks.polyphase.conv_of_shuffled` computes before its shuffle."""
    kernel = polyphase_kernel(tail.weight.detach())
    conv = nn.Conv2d(
        kernel.shape[1],
        len(kernel),
        kernel.shape[-1],
        padding=kernel.shape[-1] // 2,
        bias=tail.bias is not None,
    )
    conv.weight = nn.Parameter(kernel)
    if tail.bias is not None:
        conv.bias = nn.Parameter(tail.bias.detach().repeat_interleave(4))
    return conv


def _use_own_prelu(layers: nn.Sequential) -> None:
    """Replace our PReLU, which is faster in training alone and would be traced in float32, by torch's."""
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.PReLU):
            layers[index] = nn.PReLU(layer.num_parameters)
            layers[index].weight = layer.weight


@contextmanager
def _deprecation_is_known() -> Generator[None]:
    """Silence torch's advice to use torch.export, whose files no C++ program of today can load."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        yield
