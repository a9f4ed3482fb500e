"""The command ``crispen``: it parses, calls, shows progress, and says in one line what went wrong.

Whatever is slow to import is imported inside the commands, so that ``--help`` comes at once.
"""

import contextlib
import os
import sys
from typing import NoReturn

from crispen.cli import upscaling, evaluating, models, training  # isort: skip  (the order of the commands in --help)
from crispen.cli.root import app

__all__ = ["app", "evaluating", "main", "models", "training", "upscaling"]


def main() -> NoReturn:
    """Run the command line; the entry point of ``crispen`` and ``python -m crispen``.

    The process ends without taking apart what it has built: for OpenVINO's half a gigabyte that takes a tenth of a
    second, and the system does it at once. Training ends as usual, for what torch has to put in order.
    """
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if "torch" in sys.modules:
            raise
    else:
        code = 0
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # whoever read it has gone
            if stream is not None:  # as it is where it was closed from the start
                stream.flush()
    os._exit(code)
