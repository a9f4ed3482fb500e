"""``python -m crispen`` is ``crispen``."""

from crispen.cli import main

main()
