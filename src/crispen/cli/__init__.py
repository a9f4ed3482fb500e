"""The command ``crispen``: it parses, calls, shows progress, and says in one line what went wrong.

Whatever is slow to import is imported inside the commands, so that ``--help`` comes at once.
"""

from crispen.cli import pictures, training
from crispen.cli.root import app

__all__ = ["app", "main", "pictures", "training"]


def main() -> None:
    """Run the command line; the entry point of ``crispen`` and ``python -m crispen``."""
    app()
