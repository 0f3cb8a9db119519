"""Files that are there whole or not at all, names that reach the disk, and locks that end with their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

#: How the names of files end that are not whole yet.
NEW = ".new"


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o666, sync: bool = False) -> Iterator[IO[bytes]]:
    """Write a file that takes its place when the context ends: readers see the old content or the whole new one.

    It is written under its name with ``.new`` added, and removed if the context ends with an exception. Two at the same
    time for one path are not foreseen.

    Args:
        path: The file.
        mode: Its access rights, less those that the umask takes.
        sync: Whether its content is on the disk before it takes its place; then a power failure cannot leave it empty.

    Raises:
        OSError: It cannot be written.
    """
    new = path.with_name(path.name + NEW)
    # A crash may have left one, with other rights.
    new.unlink(missing_ok=True)
    try:
        with open(new, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def try_lock(file: IO[Any] | int, *, shared: bool = False) -> bool:
    """Lock an open file or directory until it is closed, which the system does however a process ends.

    Args:
        file: The file, or its number.
        shared: Whether others may lock it at the same time, if they share it, too.

    Returns:
        False if another process has locked it.

    Raises:
        OSError: The file system knows no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
