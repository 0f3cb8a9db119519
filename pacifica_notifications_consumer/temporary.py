"""Temporary directories that go when they are not needed any more."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import StateError

log = logging.getLogger(__name__)


def make_temporary_directory(prefix: str) -> Path:
    """Make a new directory, for this user alone, that stays.

    Raises:
        StateError: The system's place for such things cannot be written to.
    """
    try:
        # Resolved, since programs show the path: on some systems the place is behind a link.
        return Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    except OSError as error:
        raise StateError(
            f"cannot make a temporary directory: {error.strerror}", "let TMPDIR name a directory that can be written to"
        ) from error


@contextlib.contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """Make a new directory that is removed, with all that is in it, when the context ends.

    Raises:
        StateError: As `make_temporary_directory`.
    """
    directory = make_temporary_directory(prefix)
    try:
        yield directory
    finally:
        remove_tree(directory)


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it, folders that were made read-only included."""
    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
        return
    for folder, folders, _ in os.walk(directory):
        for path in (Path(folder), *(Path(folder) / name for name in folders)):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        log.warning("could not remove %s", directory)
