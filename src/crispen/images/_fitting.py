"""What has to go of something that is too large: its largest parts, so that most of them stay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

_Part = TypeVar("_Part")


def largest(parts: Iterable[tuple[int, _Part]], excess: int) -> list[_Part]:
    """Return the largest of some parts, given with their sizes: as few as make up ``excess``, or all."""
    chosen: list[_Part] = []
    for size, part in sorted(parts, key=lambda pair: pair[0], reverse=True):
        if excess <= 0:
            break
        chosen.append(part)
        excess -= size
    return chosen
