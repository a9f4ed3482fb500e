"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from crispen.errors import CrispenError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def published(path: Path, *, error: type[CrispenError]) -> Generator[Path]:
    """Yield a temporary path beside ``path``, which becomes it if nothing fails, and is gone in any case.

    An older file stands until the new one is on the disk, and after any failure goes on standing. The temporary
    path has the suffix of the final one; whoever asks for it must write a file there.

    Args:
        path: the file to make; its folder must exist.
        error: what to raise where the system refuses, as on a full disk, and what `check_replaceable` raises.
    """
    check_replaceable(path, error=error)
    temporary = path.with_name(f".crispen-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        flush(temporary)
        check_replaceable(path, error=error)
        temporary.replace(path)
    except OSError as reason:
        raise error(f"{path} cannot be written: {reason.strerror or reason}") from reason
    finally:
        with suppress(OSError):  # as where there is no such folder, which has been said by now
            temporary.unlink(missing_ok=True)


def kind_of(path: Path) -> str | None:
    """Say what a name leads to where that is neither a file nor a folder nor free: ``a pipe``, ``a device``."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except OSError:  # nothing is there, or nobody may look
        return None


def irreplaceable(path: Path) -> str | None:
    """Say why nothing may take the place of a pipe, a device or a socket, which others use; None for all else."""
    kind = kind_of(path)
    return kind and f"{path} is {kind}, and only files are replaced"


def check_replaceable(path: Path, *, error: type[CrispenError]) -> None:
    """Raise ``error`` for what is `irreplaceable`."""
    fault = irreplaceable(path)
    if fault is not None:
        raise error(fault)


def give_name(temporary: Path, target: Path, *, force: bool) -> None:
    """Give a finished file its name; without ``force`` only if the name is still free.

    The file may keep its temporary name, too. Raises `FileExistsError` where the name is taken, and `OSError` where
    the system refuses.
    """
    if force:
        with suppress(FileNotFoundError):
            shutil.copymode(target, temporary)  # replacing a private file leaves it private
        temporary.replace(target)
        return
    try:
        target.hardlink_to(temporary)  # unlike a rename, fails where the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name, then replace the claim
        target.open("xb").close()
        temporary.replace(target)


def locked(file: IO[bytes] | int) -> bool:
    """Take a lock on an open file, that ends with this process however it ends; False where it cannot be had.

    Windows has none of this kind, but lets nobody remove or replace a file that is open.
    """
    return _fault_of_locking(file) is None


def held_elsewhere(file: IO[bytes] | int) -> bool:
    """Take a lock as `locked` does; True only where another has it, and not on a file system without locks."""
    return isinstance(_fault_of_locking(file), BlockingIOError)


def _fault_of_locking(file: IO[bytes] | int) -> OSError | None:
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error
    return None


def flush(path: Path) -> None:
    """Have the content on the disk, lest a power cut leave the new name with nothing behind it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
