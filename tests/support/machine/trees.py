"""Trees of folders that are nested more deeply than Python's recursion goes, or than a path can name."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

#: With names of so many characters, a few folders in each other make a path of more than 4,096 bytes.
LONG = 250


@contextlib.contextmanager
def nest(top: Path, depth: int, length: int = 1, *, leave: bool = False) -> Iterator[None]:
    """Make so many folders in each other, with a file in the innermost one, and remove them at the end.

    Args:
        top: The directory that gets the outermost one.
        depth: Their number.
        length: Number of characters of the name of each, which are all ``a``.
        leave: Whether they stay there.
    """
    name = "a" * length
    at = os.open(top, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=at)
            inner = os.open(name, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = inner
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=at))
        yield
    finally:
        os.close(at)
        if not leave:
            # Python's own function is recursive.
            subprocess.run(["/bin/rm", "-rf", "--", top / name], check=True)
