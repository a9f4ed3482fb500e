"""A classifier of handwritten digits (LeCun et al., "Gradient-Based Learning", 1998), for the labelled recipes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

NUM_CLASSES = 10
_SIDE = 28  # pixels, of MNIST


class DigitClassifier(nn.Module):
    """Which of the ten digits is in a picture?

    Maps (N, 3, H, W) in [0, 1] to logits (N, 10). Colours are averaged to gray. Pictures of another size than
    MNIST's 28×28 are resized to it, differentiably, so that a digit means the same at every size.

    Four convolutions with batch norm (Ioffe and Szegedy, ICML 2015), halving twice, then one dense layer behind
    dropout: 64,314 numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(1, 16, size=5),
            nn.MaxPool2d(2),
            *_conv(16, 32, size=3),
            *_conv(32, 32, size=3),
            nn.MaxPool2d(2),
            *_conv(32, 64, size=3),
        )
        self.judge = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * (_SIDE // 4) ** 2, NUM_CLASSES)
        )

    def forward(self, picture: Tensor) -> Tensor:
        """Judge (N, 3, H, W) in [0, 1]: logits (N, 10)."""
        gray = picture.mean(1, keepdim=True)
        if gray.shape[-2:] != (_SIDE, _SIDE):
            gray = functional.interpolate(gray, (_SIDE, _SIDE), mode="bilinear", antialias=True)
        return self.judge(self.body(2 * gray - 1))


def _conv(channels: int, features: int, *, size: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, features, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(features),
        nn.ReLU(),
    ]
