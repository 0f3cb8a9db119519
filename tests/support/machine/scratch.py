"""Directories that are not within pytest's, which only their owner can pass and which lie on a disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machine import reaper


@contextmanager
def scratch_directory(within: str | Path | None = None, mode: int = 0o700) -> Iterator[Path]:
    """Make a directory, by default in the system's for temporary files, that goes even if the tests are killed."""
    with tempfile.TemporaryDirectory(dir=within) as name:
        directory = Path(name)
        reaper.remove(directory)
        directory.chmod(mode)
        yield directory
