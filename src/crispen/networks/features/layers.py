"""What the feature networks have in common: how their layers are asked for, and ImageNet's statistics."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from crispen.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]."""


def check_layers(
    layers: Sequence[str], *, known: Sequence[str], network: str, shown: Sequence[str] | None = None
) -> None:
    """See to it that a network has the layers that are asked for.

    Args:
        layers: what is asked for.
        known: what there is.
        network: its name, for the message.
        shown: what the message lists, where ``known`` is too long.

    Raises:
        UsageError: for no layer, and for an unknown one with the nearest known.
    """
    listed = ", ".join(known if shown is None else shown)
    if not layers:
        raise UsageError(f"no layer of {network} is asked for; it has {listed}")
    for layer in layers:
        if layer not in known:
            raise UsageError(f"{network} has no layer {layer!r}{nearest(layer, known)}; it has {listed}")


def nearest(word: str, known: Sequence[str]) -> str:
    """Return `` (did you mean …?)`` with the known word nearest to an unknown one, or nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
