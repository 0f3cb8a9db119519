"""Lists and opens the files in a job's directory for users, and never a file outside of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

_MOST_FILES = 1000


@attrs.frozen(kw_only=True)
class JobFile:
    """A file of a job."""

    path: str  #: below the job's directory, with ``/`` as the separator
    size: int
    changed_at: float  #: in seconds since 1970


def list_files(directory: Path) -> tuple[list[JobFile], bool]:
    """List at most 1000 files of a job in the order of their paths; returns also whether there are more.

    Symbolic links are omitted, because an entry-point may let them point anywhere.
    """
    found = list(itertools.islice(_walk(directory), _MOST_FILES + 1))
    return found[:_MOST_FILES], len(found) > _MOST_FILES


def _walk(directory: Path) -> Iterator[JobFile]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode):
                    # JSON cannot represent a name that is not UTF-8.
                    shown = os.fsencode(path.relative_to(directory)).decode("utf-8", "replace")
                    yield JobFile(path=shown, size=seen.st_size, changed_at=seen.st_mtime)


def open_file(directory: Path, path: str) -> IO[Any]:
    """Open a file of a job for reading, without following symbolic links; FileNotFoundError if it is not regular."""
    *folders, name = parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise FileNotFoundError(path)
    with contextlib.ExitStack() as stack:
        try:
            at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, at)
            for folder in folders:
                at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                stack.callback(os.close, at)
            # O_NONBLOCK: opening a pipe would block.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            raise FileNotFoundError(path) from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(path)
        return os.fdopen(file, "rb")
