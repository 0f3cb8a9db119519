"""The files in a job's directory, to list and to read; no path leads out of the directory."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

_MOST_FILES = 1000


@attrs.frozen(kw_only=True)
class JobFile:
    """A file of a job.

    Args:
        path: Where it lies below the job's directory, with ``/`` between names.
        size: Its bytes.
        changed_at: The time of the last change, in seconds since 1970.
    """

    path: str
    size: int
    changed_at: float


def list_files(directory: Path) -> tuple[list[JobFile], bool]:
    """List the files of a job, without links: an entry-point can make them lead anywhere.

    Args:
        directory: The job's directory.

    Returns:
        At most 1,000 files in the order of their paths, and whether there are more.
    """
    found: list[JobFile] = []
    for file in _walk(directory):
        if len(found) == _MOST_FILES:
            return found, True
        found.append(file)
    return found, False


def _walk(directory: Path) -> Iterator[JobFile]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode):
                    # JSON cannot hold a name that is not UTF-8.
                    shown = os.fsencode(path.relative_to(directory)).decode("utf-8", "replace")
                    yield JobFile(path=shown, size=seen.st_size, changed_at=seen.st_mtime)


def open_file(directory: Path, path: str) -> IO[Any]:
    """Open a file of a job for reading, without following any link.

    Args:
        directory: The job's directory.
        path: The path of the file as `list_files` gives it.

    Raises:
        FileNotFoundError: There is no such file, or a part of its path is a link.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise FileNotFoundError(path)
    *folders, name = parts
    with contextlib.ExitStack() as stack:
        try:
            at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, at)
            for folder in folders:
                at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                stack.callback(os.close, at)
            # Without O_NONBLOCK, opening a pipe would wait for its writer.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            raise FileNotFoundError(path) from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(path)
        return os.fdopen(file, "rb")
