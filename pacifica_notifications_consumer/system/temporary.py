"""Temporary directories that go when they are not needed any more, or else when the next one is made."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import StateError, explained
from .files import try_lock

log = logging.getLogger(__name__)

#: Seconds in which a new directory is surely held by its process.
_MADE_JUST_NOW = 60.0


def make_temporary_directory(prefix: str) -> Path:
    """Make a new directory, for this user alone, that stays.

    Raises:
        StateError: The system's place for such things cannot be written to.
    """
    advice = "let TMPDIR name a directory that can be written to"
    with explained(StateError, "cannot make a temporary directory", advice):
        # Resolved, since programs show the path: on some systems the place is behind a link.
        return Path(tempfile.mkdtemp(prefix=prefix)).resolve()


@contextlib.contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """Make a new directory that is removed, with all that is in it, when the context ends.

    If the process is killed before, it is removed when the next one with this prefix is made, by whatever process.

    Raises:
        StateError: As `make_temporary_directory`.
    """
    directory = make_temporary_directory(prefix)
    # The system lets go of it however this process ends.
    lock = os.open(directory, os.O_RDONLY)
    try:
        try_lock(lock)
        _remove_abandoned(directory.parent, prefix)
        yield directory
    finally:
        remove_tree(directory)
        os.close(lock)


def _remove_abandoned(place: Path, prefix: str) -> None:
    """Remove directories of this user that nobody holds."""
    for path in place.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(lock)
                # One that was made a moment ago may not be held yet.
                is_older = time.time() - found.st_mtime > _MADE_JUST_NOW
                if found.st_uid == os.geteuid() and is_older and try_lock(lock):
                    log.info("removing %s, which a process that died has left", path)
                    remove_tree(path)
            finally:
                os.close(lock)


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it, folders that were made read-only included."""
    shutil.rmtree(directory, ignore_errors=True)
    # Root needs no rights; and what another user puts there meanwhile is not to get any.
    if not directory.exists() or os.geteuid() == 0:
        return
    for folder, folders, _ in os.walk(directory):
        for path in (Path(folder), *(Path(folder) / name for name in folders)):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        log.warning("could not remove %s", directory)
