"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from crispen.errors import CrispenError


@contextmanager
def published(path: Path, *, error: type[CrispenError]) -> Generator[Path]:
    """Yield a temporary path beside ``path``, which becomes it if nothing fails, and is gone in any case.

    An older file stands until the new one is on the disk, and after any failure goes on standing. The temporary
    path has the suffix of the final one; whoever asks for it must write a file there.

    Args:
        path: the file to make; its folder must exist.
        error: what to raise where the system refuses, as on a full disk.
    """
    temporary = path.with_name(f".crispen-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except OSError as reason:
        raise error(f"{path} cannot be written: {reason.strerror or reason}") from reason
    finally:
        with suppress(OSError):  # as where there is no such folder, which has been said by now
            temporary.unlink(missing_ok=True)


def locked(file: IO[bytes] | int) -> bool:
    """Take a lock on an open file, that ends with this process however it ends; False where another has it.

    Windows has none of this kind, but lets nobody remove or replace a file that is open.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def flush(path: Path) -> None:
    """Have the content on the disk, lest a power cut leave the new name with nothing behind it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
