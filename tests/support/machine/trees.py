"""Trees of folders that are nested more deeply than a path can name."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def nest(top: Path, depth: int, *, leave: bool = False) -> Iterator[None]:
    """Make so many folders ``a`` in each other, with a file in the innermost one, and remove them at the end."""
    at = os.open(top, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir("a", dir_fd=at)
            inner = os.open("a", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = inner
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=at))
        yield
    finally:
        os.close(at)
        if not leave:
            # Python's own function is recursive.
            subprocess.run(["/bin/rm", "-rf", "--", top / "a"], check=True)
