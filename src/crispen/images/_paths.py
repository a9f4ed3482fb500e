"""How the name of a file stands in a sentence."""

from __future__ import annotations

import os


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for a message of one line: control characters, such as a line's end, are escaped."""
    return "".join(sign if ord(sign) >= 32 else repr(sign)[1:-1] for sign in os.fspath(path))
