"""The generators written down literally, as the common scripts have them: what crispen is measured against."""

from __future__ import annotations

from torch import Tensor, nn

from crispen.networks.generators import AnyGenerator, Compact, SRResNet


def plain_network(generator: AnyGenerator) -> nn.Module:
    """The same network with torch's own parts, and the layers and weights of ``generator``, which it may change."""
    match generator:
        case SRResNet():
            return PlainSRResNet(generator)
        case Compact():
            return _with_plain_activations(generator)


class PlainSRResNet(nn.Module):
    """The paper's Figure 4 with torch's own parts: its PReLU, and the last convolution at full size.

    Takes the layers, and so the weights, of ``generator``, and computes the same.
    """

    def __init__(self, generator: SRResNet) -> None:
        super().__init__()
        self.head, self.body, self.tail = generator.head, generator.body, generator.tail
        self.upsampler = nn.Sequential(*generator.upsampler, nn.PixelShuffle(2))
        _with_plain_activations(self)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) to (N, 3, H·scale, W·scale)."""
        shallow = self.head(lr)
        return self.tail(self.upsampler(shallow + self.body(shallow)))


def _with_plain_activations(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.PReLU):
                plain = nn.PReLU()
                plain.load_state_dict(child.state_dict())
                setattr(module, name, plain)
    return network
